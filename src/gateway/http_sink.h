/* Private to the HTTP part of the gateway: the seam between requests and the versions of HTTP.
 *
 *   http_conn.c   --+                                               +-- http1 sink (http_conn.c)
 *                   +-> http_request.c -> handler -> http_answer.c --+
 *   http2_conn.c  --+                                               +-- http2 sink (http2_conn.c)
 *
 * A version parses heads and bodies, asks http_plan_make() what is to be done with a request, and
 * runs it by http_plan_run() when all of it is here. Answers come back through the struct http_sink
 * of the request.
 */
#pragma once
#include "gateway/access.h"
#include "gateway/http_conn.h"

/* How the content of an answer is delimited. */
enum http_framing {
    HTTP_FRAMING_NONE,   /* there is none, by the status */
    HTTP_FRAMING_LENGTH, /* Content-Length was put */
    HTTP_FRAMING_PIECES, /* until end() */
};

/* In this order: begin, header..., head_end, body..., end. None of them keeps what it borrows. */
struct http_sink {
    void (*begin)(struct http_request *r, int status);
    void (*header)(struct http_request *r, const char *name, struct slice value);
    /* Sets r->chunked where that is how pieces go. r->has_body is known. */
    void (*head_end)(struct http_request *r, enum http_framing framing);
    /* Only when r->has_body. */
    void (*body)(struct http_request *r, struct slice piece);
    /* The request is about to be freed, whatever the reason. May be NULL. */
    void (*forget)(struct http_request *r);
    /* Everything was given; frees r. */
    void (*end)(struct http_request *r);
    /* The client must not take the answer for complete; frees r. */
    void (*abort)(struct http_request *r);
    size_t (*unsent)(const struct http_request *r);
};

/* What is to be done with a request whose head is here: a route, or a refusal (route is NULL) that
 * is answered when the body is over. */
struct http_plan {
    const struct http_route *route;
    struct slice rest; /* of the path; borrows from the head */
    int status;
    const char *code;
    char allow[64];
    char detail[128];
    uint32_t retry_after_ms;
    bool as_error;    /* the detail stands in "error" too, where clients of /v1/redis look */
    bool preflight;   /* of CORS: the 204 says what may be asked */
    bool late;        /* who may was decided a while before the request is run: look again */
    const char *cors; /* "*", or the page's origin, which may see the answer; NULL: none */
};

void http_plan_make(struct http_plan *plan, struct gateway *gw, const struct http_head *head);
/* Who asks, and whether that one may: turns the plan into a refusal when not (http_access.c).
 * False: it is not known yet; the connection was told to wait, and the same is to be asked again.
 */
bool http_plan_access(struct http_plan *plan, struct conn *c, const struct http_head *head);
/* The same when it was let through with its head and is run later: a body may take hours, and a
 * token that was taken back meanwhile must not write any more. Nothing is waited for or counted. */
void http_plan_access_again(struct http_plan *plan, struct conn *c, const struct http_head *head);
/* Who has sent this head. */
struct who http_who(struct conn *c, const struct http_head *head);
/* By whose leave something goes on for long, behind the answer's head. */
struct http_leave {
    bool by_token, for_itself;
    uint8_t token[SHA256_BYTES];
    struct slice host; /* that rules for visitors go by */
};
/* The host borrows from the head. False: by leave of nothing that could change. */
bool http_leave_take(struct http_leave *l, struct conn *c, const struct http_head *head);
/* Whether a key, or all keys with a prefix, may be read still. */
bool http_leave_reads(const struct http_leave *l, struct conn *c, struct slice text, bool prefix);
/* The origin as it stands in the answer, when pages from there may ask. */
const char *http_cors_origin(const struct gateway *gw, const struct http_head *head);
void http_cors_headers(struct http_request *r);
void http_cors_preflight(struct http_request *r);
/* Turns it into a refusal. */
void http_plan_refuse(struct http_plan *plan, int status, const char *code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void http_plan_refuse_large(struct http_plan *plan, const struct gateway *gw);
/* The most that its body may have: the route's limit, or what is read only to be thrown away. */
uint64_t http_plan_body_limit(const struct http_plan *plan, const struct gateway *gw);
/* Whether the body is for the handler. */
bool http_plan_wants_body(const struct http_plan *plan);

/* Puts a request (zeroed, on the heap, freed with free()) into the connection's line. */
void http_request_begin(struct http_request *r, struct conn *c, enum http_version version,
                        const struct http_head *head, const struct http_sink *sink);
/* Runs the route's handler, or answers the refusal. May free r. */
void http_plan_run(struct http_plan *plan, struct http_request *r, const struct http_head *head,
                   struct slice body);
/* Every answer passes here once, complete or aborted, right before its request is freed: the place
 * for what is said of each (counters; r has method, version, status, sent_bytes). */
void http_request_over(struct http_request *r);

/* ---- HTTP/2 on a connection that began as HTTP/1 (http2_conn.c) ---- */

struct http2_conn;
/* Turns the connection into one of HTTP/2; it is kept at *http_conn_place(c). */
void http2_conn_adopt(struct conn *c);
struct http2_conn **http_conn_place(struct conn *c);
void http2_conn_free(struct http2_conn *h2);
/* conn_ops.free of both. */
void http_conn_free(struct conn *c);

/* What waits at most before an answer in pieces is asked for more. */
enum { HTTP_ROOM_BYTES = CONN_ROOM_BYTES };
