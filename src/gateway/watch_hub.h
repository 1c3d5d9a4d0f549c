/* The watchers of one gateway thread that are up to date, and the one question to the database that
 * keeps them so.
 *
 *                                poll: what has changed behind `at`?
 *   upstream ------------------------------------------------------------> rows, upto
 *       each row -> the groups whose key or prefix it has -> each group's events, made once
 *       each group -> its watchers
 *
 * A poll asks any node for the changes behind what was told last, from a state that has at least
 * one more log entry: the node answers when it has one, so there is one answer for each batch that
 * is applied, whatever the count of watchers. When nothing comes for WATCH_POLL_MS, the next poll
 * asks for the present state, confirmed by the leader: so watchers of a node that is cut off are
 * not left waiting while others can be asked, and what idle watchers are told as progress is
 * recent.
 *
 * A group is all watchers of the same key or prefix with the same wishes. Its events are encoded
 * once. A row finds the groups of its key by a hash table, and those of its prefixes by one look-up
 * for each length that some watcher's prefix has.
 *
 * A watcher joins with a position: it has been told everything up to this revision. One that is
 * behind the hub is sent back to catch up on its own (http_watch.c); for one that is ahead, what it
 * has been told already is left out.
 *
 * Threads: all of it belongs to the gateway's thread. The hub calls watchers back from inside the
 * upstream's callbacks and watch_hub_sweep(); they may leave then, themselves only.
 */
#pragma once
#include "base/list.h"
#include "gateway/metrics.h"
#include "gateway/upstream.h"
#include "gateway/watch_event.h"

enum {
    WATCH_POLL_MS = 2000, /* less than a node lets a read wait for a state */
    WATCH_PREFIX_BYTES_MAX = 512,
    WATCH_PROGRESS_MS = 15000, /* to a watcher that was told nothing for so long */
};

struct watch_hub;
struct watch_group;

struct watch_filter {
    bool key; /* text is one key; else a prefix, which may be empty */
    bool values;
    struct slice text;
};
/* Whether a row is for watchers with this filter. */
bool watch_filter_wants(const struct watch_filter *f, const struct watch_row *row);

/* Embedded in the owner's; zeroed at first, then the hub's. */
struct watcher {
    struct watch_group *group; /* NULL: not in the hub */
    struct list node;
    struct list time_node;
    uint64_t position; /* everything up to here was told */
    uint64_t told_ms;
    /* Tells events (borrowed until return), and that everything up to w->position is told then. May
     * leave. */
    void (*deliver)(struct watcher *w, struct slice events);
    /* The history behind the position is gone; the watcher has left. */
    void (*lost)(struct watcher *w);
    /* The gateway stops; the watcher has left. */
    void (*ended)(struct watcher *w);
};

struct watch_hub_env {
    struct upstream *upstream;
    uint64_t (*now_ms)(void *env);
    void *env;
    struct gateway_metrics *metrics;
};
/* Borrows what env points to until watch_hub_free(). */
struct watch_hub *watch_hub_new(const struct watch_hub_env *env);
/* Without watchers. */
void watch_hub_free(struct watch_hub *h);

/* Joins, with everything up to w->position told (filter text is copied). False: the hub is ahead; a
 * state of at least the revision *ret_at must be asked for. */
bool watch_hub_join(struct watch_hub *h, struct watcher *w, const struct watch_filter *filter,
                    uint64_t *ret_at);
/* Harmless when it is not in the hub. */
void watch_hub_leave(struct watch_hub *h, struct watcher *w);
/* All of them have been told everything up to here; means nothing while there is none. */
uint64_t watch_hub_at(const struct watch_hub *h);
/* Once a second at least, what comes more often is passed over: progress for those who were told
 * nothing for long, polls that failed. */
void watch_hub_sweep(struct watch_hub *h);
/* Ends them all (w->ended); none joins any more. */
void watch_hub_drain(struct watch_hub *h);
