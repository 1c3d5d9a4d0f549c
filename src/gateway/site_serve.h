/* Serving sites: which requests are theirs, and how they are answered.
 *
 *   http_plan_make() --site_takes()--> route site_get --> struct site_answer --> sent from memory,
 *         ^                                |                                     or in pieces
 *         |                                `--> waits: the visitor has seen a newer deploy
 * elsewhere HTTP/1.1: site_quick() answers what is asked most, in one look-up and one write
 *
 * Never back: with a page comes a cookie that says which switch of the site it is from (the log's
 * index, so it only grows, also when an older deploy is shown again). A node that is behind what a
 * cookie says asks the database (one read for all who wait), and answers when it has caught up;
 * when it cannot within SITE_WAIT_MS, it says 503. A cookie of another cluster, or one that is
 * ahead of the database, says nothing.
 *
 * Preview: a cookie may name a deploy that is not shown (/_/preview/ID sets it).
 */
#pragma once
#include "gateway/http_conn.h"
#include "gateway/sites.h"

enum { SITE_WAIT_MS = 3000 };

/* The thread's set, the newest; NULL: there are no sites. */
struct site_set *site_set_now(struct gateway *gw);
/* Whether a site answers this request: its path is not ours, and a site has the host. */
bool site_takes(struct gateway *gw, const struct http_head *head);
extern const struct http_route site_route;
/* HTTP/1.1: true when it was answered. */
bool site_quick(struct conn *c, const struct http_head *head, uint64_t began_us);
/* Those who wait for a newer set, of a thread. At each turn's end, and about once a second, they go
 * on as far as they can. */
struct site_waits;
struct site_waits *site_waits_new(struct gateway *gw);
void site_waits_free(struct site_waits *w); /* nobody waits any more */
void site_waits_turn(struct site_waits *w);

/* Somebody else who waits until this process shows a revision. Off the list: list_remove(). */
struct site_wait {
    struct list node;
    uint64_t revision;
    uint64_t until_ms;
    void (*done)(struct site_wait *wait); /* it is shown, or the time is over */
};
void site_wait_begin(struct gateway *gw, struct site_wait *wait);

/* What a request's cookies say. */
struct site_cookies {
    uint64_t seen;    /* index of a switch; 0: none */
    uint64_t preview; /* a deploy; 0: none */
};
void site_cookies_parse(const struct http_head *head, const uint8_t cluster[16],
                        struct site_cookies *ret);
#define SITE_SEEN_COOKIE "cotidal_site"
#define SITE_PREVIEW_COOKIE "cotidal_preview"
/* "cotidal_site=0123abcd.456; Path=/; HttpOnly; SameSite=Lax" */
void site_cookie_put(struct buf *out, const uint8_t cluster[16], uint64_t switch_index);
