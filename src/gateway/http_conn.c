#include "gateway/http_conn.h"

#include <stdlib.h>

#include "base/reply.h"
#include "gateway/http_routes.h"
#include "gateway/parked.h"
#include "proto/idempotency.h"
#include "proto/url.h"

enum {
    /* The body of a request that is refused or takes none is read and thrown away up to here, so
     * that the connection lives on. */
    DISCARD_BYTES_MAX = 64 * 1024,
    /* A body must keep up this rate beyond the time limit. */
    BODY_BYTES_PER_S = 1024,
};

enum http_state {
    HTTP_STATE_HEAD,
    HTTP_STATE_BODY,    /* the route's body is being gathered */
    HTTP_STATE_DISCARD, /* a body nobody wants */
};

/* A refusal that waits for the end of the body. */
struct refusal {
    int status;
    const char *code;
    char allow[64];
    char detail[128];
};

struct http_conn {
    struct conn conn;
    enum http_state state;
    size_t seen;         /* bytes of an incomplete head that were searched */
    uint64_t started_ms; /* when the first byte of the request came; 0: none has */
    struct http1_body reader;
    struct http_head *head; /* with a body to come: points into head_bytes */
    struct buf head_bytes;
    struct buf body;
    const struct http_route *route; /* NULL: refused */
    struct slice rest;
    struct refusal refusal;
};

/* ---- requests ----------------------------------------------------------------------------------
 */

/* The answer to an ONCE.EXEC: [executed before, log index of the execution, the command's reply].
 * False when it is not of that form. */
static bool take_once(struct http_request *r, uint64_t *index, struct slice *reply) {
    struct reply_item header, before, executed;
    struct slice in = *reply;
    if (!reply_next(&in, &header) || header.type != '*' || header.integer != 3 ||
        !reply_next(&in, &before) || before.type != ':' || !reply_next(&in, &executed) ||
        executed.type != ':')
        return false;
    struct slice inner = in;
    if (!reply_skip(&in) || in.size > 0)
        return false;
    r->replayed = before.integer != 0;
    *index = (uint64_t)executed.integer;
    *reply = inner;
    if (r->replayed)
        METRIC_ADD(&r->base.conn->gw->metrics, http_replayed_total, 1);
    return true;
}

static void http_request_answer(struct conn_request *base, enum upstream_outcome outcome,
                                uint64_t index, struct slice reply) {
    struct http_request *r = CONTAINER_OF(base, struct http_request, base);
    bool executed = r->once.size > 0 && outcome == UPSTREAM_DONE && !reply_is_error(reply);
    if (executed && !take_once(r, &index, &reply))
        http_malformed_reply(r);
    else
        r->answer(r, outcome, index, reply);
}

static void http_request_free(struct conn_request *base) {
    struct http_request *r = CONTAINER_OF(base, struct http_request, base);
    buf_fini(&r->key);
    buf_fini(&r->if_match);
    buf_fini(&r->if_none_match);
    buf_fini(&r->once);
    free(r->data);
    free(r);
}

static const struct conn_request_ops http_request_ops = {
    .answer = http_request_answer,
    .free = http_request_free,
};

struct pack http_pack_write(const struct http_request *r, const char *name) {
    return r->once.size > 0 ? pack_begin_once(buf_slice(&r->once), name) : pack_begin(name);
}

/* Idempotency-Key, where it means something: on requests that write. False when it was answered. */
static bool take_idempotency_key(struct http_request *r, const struct http_head *head) {
    uint8_t key[IDEMPOTENCY_KEY_BYTES_MAX];
    size_t size, found = 0;
    for (size_t i = 0; i < head->header_count; i++) {
        if (!slice_equal_nocase(head->headers[i].name, "Idempotency-Key"))
            continue;
        if (found++ > 0) {
            http_bad_request(r, "there is more than one Idempotency-Key");
            return false;
        }
        if (!idempotency_key_parse(head->headers[i].value, key, &size)) {
            http_bad_request(r,
                             "Idempotency-Key must be a string of 1 to %d bytes, \"in quotes\", or "
                             "bare without \" , ; \\ and blanks",
                             (int)IDEMPOTENCY_KEY_BYTES_MAX);
            return false;
        }
        buf_append(&r->once, key, size);
    }
    return true;
}

void http_submit(struct http_request *r, enum upstream_kind kind, struct buf *packed_argv,
                 http_answer_fn answer) {
    r->answer = answer;
    conn_submit(&r->base, kind, 0, packed_argv);
}

static struct http_request *http_request_new(struct http_conn *hc, const struct http_head *head,
                                             const struct http_route *route) {
    struct http_request *r = xcalloc(1, sizeof *r);
    METRIC_ADD(&hc->conn.gw->metrics, http_requests_total, 1);
    r->method = head->method;
    uint32_t requests_max = hc->conn.gw->options.http_requests_max;
    r->keep_alive = head->keep_alive && (requests_max == 0 || ++hc->conn.requests < requests_max);
    r->old = head->minor_version == 0;
    r->route = route;
    conn_enqueue(&hc->conn, &r->base, &http_request_ops);
    return r;
}

static void run_route(struct http_conn *hc, const struct http_head *head,
                      const struct http_route *route, struct slice rest, struct slice body) {
    struct http_request *r = http_request_new(hc, head, route);
    struct http_input in = {.head = head, .rest = rest, .body = body};
    bool keep_alive = r->keep_alive;
    if (route->needs != NEEDS_WRITE || take_idempotency_key(r, head))
        route->handler(r, &in);
    if (!keep_alive)
        conn_finish(&hc->conn); /* nothing behind this request is read */
}

static void run_refusal(struct http_conn *hc, const struct http_head *head, bool close) {
    const struct refusal *refusal = &hc->refusal;
    struct http_request *r = http_request_new(hc, head, NULL);
    if (close)
        r->keep_alive = false;
    if (refusal->status == 204) {
        struct buf *out = http_begin(r, 204);
        http1_put_header(out, "Allow", slice_str(refusal->allow));
        http_end(r, out, NULL, slice_of(NULL, 0));
        return;
    }
    http_problem(r,
                 &(struct http_problem){.status = refusal->status,
                                        .code = refusal->code,
                                        .allow = refusal->allow[0] ? refusal->allow : NULL},
                 "%s", refusal->detail);
}

/* ---- refusals ----------------------------------------------------------------------------------
 */

static void __attribute__((format(printf, 4, 5)))
refuse(struct http_conn *hc, int status, const char *code, const char *fmt, ...) {
    struct refusal *refusal = &hc->refusal;
    va_list ap;
    va_start(ap, fmt);
    struct buf text = {0};
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    size_t size = text.size < sizeof refusal->detail ? text.size : sizeof refusal->detail - 1;
    memcpy(refusal->detail, text.data, size);
    refusal->detail[size] = 0;
    buf_fini(&text);
    refusal->status = status;
    refusal->code = code;
}

/* A page of another site must not change anything here through its visitor's browser. Browsers say
 * so in Sec-Fetch-Site where the connection is secure or local, and send Origin with every such
 * request (to be compared with Host, which a proxy may have changed, hence second). */
static bool foreign_origin(const struct http_head *head) {
    if (head->method == HTTP_GET || head->method == HTTP_HEAD)
        return false;
    const struct slice *site = http_find_header(head, "Sec-Fetch-Site");
    if (site)
        return !slice_equal_str(*site, "same-origin") && !slice_equal_str(*site, "none");
    const struct slice *origin = http_find_header(head, "Origin");
    if (!origin)
        return false;
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        struct slice scheme = slice_str(schemes[i]);
        if (slice_starts_with(*origin, scheme)) {
            struct slice host = slice_of(origin->data + scheme.size, origin->size - scheme.size);
            return host.size != head->host.size ||
                   strncasecmp((const char *)host.data, (const char *)head->host.data, host.size);
        }
    }
    return true;
}

static bool has_dot_segment(struct slice path) {
    for (size_t i = 0; i < path.size; i++) {
        if (path.data[i] != '/')
            continue;
        size_t n = 0;
        while (i + 1 + n < path.size && path.data[i + 1 + n] != '/')
            n++;
        const uint8_t *segment = path.data + i + 1;
        if ((n == 1 && segment[0] == '.') || (n == 2 && segment[0] == '.' && segment[1] == '.'))
            return true;
    }
    return false;
}

/* Finds the route, or fills hc->refusal and returns NULL. */
static const struct http_route *choose_route(struct http_conn *hc, const struct http_head *head,
                                             struct slice *ret_rest) {
    const struct http_route *route = NULL;
    hc->refusal.allow[0] = 0;
    if (head->method == HTTP_OTHER) {
        refuse(hc, 501, "not_implemented", "this server does not know the method");
        return NULL;
    }
    if (slice_equal_str(head->path, "*")) {
        refuse(hc, 204, "", "%s", "");
        strcpy(hc->refusal.allow, "GET, HEAD, PUT, POST, DELETE, OPTIONS");
        return NULL;
    }
    if (has_dot_segment(head->path)) {
        refuse(hc, 400, "bad_request",
               "the path has a dot segment; write %%2E for a dot that belongs to a key");
        return NULL;
    }
    switch (http_route_find(head->method, head->path, &route, ret_rest, hc->refusal.allow)) {
    case HTTP_FOUND:
        hc->refusal.allow[0] = 0;
        break;
    case HTTP_NO_PATH:
        hc->refusal.allow[0] = 0;
        refuse(hc, 404, "not_found", "there is nothing at this path");
        return NULL;
    case HTTP_NO_METHOD:
        if (head->method == HTTP_OPTIONS)
            refuse(hc, 204, "", "%s", "");
        else
            refuse(hc, 405, "method_not_allowed", "this path allows %s", hc->refusal.allow);
        return NULL;
    }
    if (foreign_origin(head)) {
        refuse(hc, 403, "cross_origin", "the request comes from a page of another site");
        return NULL;
    }
    return route;
}

/* ---- parsing -----------------------------------------------------------------------------------
 */

static void give_up(struct http_conn *hc, int status, const char *reason, bool head_only) {
    struct conn *c = &hc->conn;
    METRIC_ADD(&c->gw->metrics, http_malformed_total, 1);
    if (status >= 500)
        METRIC_ADD(&c->gw->metrics, http_answers_5xx_total, 1);
    else
        METRIC_ADD(&c->gw->metrics, http_answers_4xx_total, 1);
    http_put_bare_problem(conn_answer(c), status, reason ? reason : http_status_text(status),
                          gateway_wall_ms(c->gw), head_only);
    conn_finish(c);
}

static void request_over(struct http_conn *hc) {
    hc->state = HTTP_STATE_HEAD;
    hc->seen = 0;
    hc->started_ms = 0;
    hc->route = NULL;
    free(hc->head);
    hc->head = NULL;
    buf_fini(&hc->head_bytes);
    buf_fini(&hc->body);
}

/* A body follows. The head's bytes are copied, since the input goes on. */
static void expect_body(struct http_conn *hc, struct slice head_bytes,
                        const struct http_head *head) {
    bool wants_continue = head->expect_continue;
    buf_append_slice(&hc->head_bytes, head_bytes);
    hc->head = xmalloc(sizeof *hc->head);
    CHECK(http1_parse_head(buf_slice(&hc->head_bytes), 0, hc->head, NULL) > 0);
    if (hc->route) {
        const struct http_route *again;
        char allow[64];
        CHECK(http_route_find(hc->head->method, hc->head->path, &again, &hc->rest, allow) ==
              HTTP_FOUND);
    }
    hc->state = hc->route && hc->route->body != BODY_NONE ? HTTP_STATE_BODY : HTTP_STATE_DISCARD;
    /* Like every answer it goes out behind those to earlier requests. */
    if (wants_continue)
        buf_append_str(conn_answer(&hc->conn), "HTTP/1.1 100 Continue\r\n\r\n");
}

static uint64_t body_limit(const struct http_conn *hc) {
    const struct gateway_options *o = &hc->conn.gw->options;
    if (!hc->route || hc->route->body == BODY_NONE)
        return DISCARD_BYTES_MAX;
    return hc->route->body == BODY_TXN ? o->txn_bytes_max : o->value_bytes_max;
}

/* A whole head is here. Returns false when the request must wait. */
static bool take_head(struct http_conn *hc, struct slice head_bytes, const struct http_head *head) {
    struct slice rest = {0};
    const struct http_route *route = choose_route(hc, head, &rest);
    if (route && route->needs != NEEDS_NOTHING &&
        !conn_may_submit(&hc->conn,
                         route->needs == NEEDS_WRITE ? CONN_ORDER_WRITE : CONN_ORDER_READ)) {
        conn_wait(&hc->conn);
        return false;
    }
    hc->route = route;
    switch (http1_body_begin(&hc->reader, head, body_limit(hc))) {
    case HTTP1_BODY_END:
        if (route)
            run_route(hc, head, route, rest, slice_of(NULL, 0));
        else
            run_refusal(hc, head, false);
        request_over(hc);
        break;
    case HTTP1_BODY_TOO_LARGE:
        if (route)
            refuse(hc, 413, "too_large", "the body may have at most %llu bytes",
                   (unsigned long long)body_limit(hc));
        run_refusal(hc, head, true);
        request_over(hc);
        break;
    default:
        if (!route && head->expect_continue) {
            run_refusal(hc, head, true); /* the client may or may not send the body now */
            request_over(hc);
        } else {
            expect_body(hc, head_bytes, head);
        }
    }
    return true;
}

/* Returns the bytes used; 0: incomplete, or must wait, or the connection ends. */
static size_t parse_head(struct http_conn *hc, struct slice in) {
    struct http_head head;
    const char *reason = NULL;
    if (hc->started_ms == 0)
        hc->started_ms = gateway_now_ms(hc->conn.gw);
    head.method = HTTP_OTHER;
    int used = http1_parse_head(in, hc->seen, &head, &reason);
    if (used < 0) {
        give_up(hc, -used, reason, head.method == HTTP_HEAD);
        return 0;
    }
    if (used == 0) {
        hc->seen = in.size;
        return 0;
    }
    if (!take_head(hc, slice_of(in.data, (size_t)used), &head)) {
        hc->seen = 0;
        return 0;
    }
    return (size_t)used;
}

static void body_over(struct http_conn *hc) {
    if (hc->route)
        run_route(hc, hc->head, hc->route, hc->rest, buf_slice(&hc->body));
    else
        run_refusal(hc, hc->head, false);
    request_over(hc);
}

/* Returns the bytes used; *ret_more: all were used and the body goes on. */
static size_t parse_body(struct http_conn *hc, struct slice in, bool *ret_more) {
    struct slice left = in, piece;
    for (;;) {
        switch (http1_body_next(&hc->reader, &left, &piece)) {
        case HTTP1_BODY_PIECE:
            if (hc->state == HTTP_STATE_BODY)
                buf_append_slice(&hc->body, piece);
            continue;
        case HTTP1_BODY_MORE:
            *ret_more = true;
            return in.size;
        case HTTP1_BODY_END:
            body_over(hc);
            return in.size - left.size;
        case HTTP1_BODY_BAD:
            give_up(hc, 400, "the chunked body is malformed", hc->head->method == HTTP_HEAD);
            return in.size;
        case HTTP1_BODY_TOO_LARGE:
            refuse(hc, 413, "too_large", "the body may have at most %llu bytes",
                   (unsigned long long)body_limit(hc));
            hc->refusal.allow[0] = 0;
            run_refusal(hc, hc->head, true);
            return in.size;
        }
    }
}

static size_t http_parse(struct conn *c, struct slice in) {
    struct http_conn *hc = CONTAINER_OF(c, struct http_conn, conn);
    size_t total = 0;
    while (total < in.size && conn_may_parse(c)) {
        struct slice left = slice_of(in.data + total, in.size - total);
        bool more = false;
        size_t used;
        if (hc->state == HTTP_STATE_HEAD)
            used = parse_head(hc, left);
        else
            used = parse_body(hc, left, &more);
        total += used;
        if (used == 0 || more)
            break;
    }
    return total;
}

/* ---- the connection ----------------------------------------------------------------------------
 */

static void http_check_time(struct conn *c, uint64_t now_ms) {
    struct http_conn *hc = CONTAINER_OF(c, struct http_conn, conn);
    const struct gateway_options *o = &c->gw->options;
    bool timed_out = false;
    if (hc->state == HTTP_STATE_HEAD && hc->started_ms && !c->waiting && !c->holding &&
        conn_may_parse(c)) {
        timed_out = now_ms - hc->started_ms >= o->http_head_timeout_ms;
    } else if (hc->state == HTTP_STATE_BODY || hc->state == HTTP_STATE_DISCARD) {
        uint64_t limit_ms = o->http_body_timeout_ms + hc->reader.total * 1000 / BODY_BYTES_PER_S;
        timed_out = now_ms - hc->started_ms >= limit_ms && conn_may_parse(c);
    } else if (hc->state == HTTP_STATE_HEAD && c->line_count == 0 && !hc->started_ms &&
               now_ms - c->active_ms >= o->http_idle_timeout_ms) {
        METRIC_ADD(&c->gw->metrics, connections_timed_out_total, 1);
        conn_finish(c); /* between requests nobody waits for an answer */
    }
    if (timed_out) {
        METRIC_ADD(&c->gw->metrics, connections_timed_out_total, 1);
        give_up(hc, 408, "the request was not complete in time", false);
    }
}

static void http_overload(struct conn *c) {
    struct http_conn *hc = CONTAINER_OF(c, struct http_conn, conn);
    METRIC_ADD(&c->gw->metrics, http_answers_5xx_total, 1);
    http_put_bare_problem(conn_answer(c), 503, "the server holds too many unfinished requests",
                          gateway_wall_ms(c->gw), hc->head && hc->head->method == HTTP_HEAD);
    conn_finish(c);
    request_over(hc);
}

static size_t http_held_bytes(const struct conn *c) {
    const struct http_conn *hc = CONTAINER_OF(c, struct http_conn, conn);
    return hc->head_bytes.capacity + hc->body.capacity + (hc->head ? sizeof *hc->head : 0);
}

static void http_free(struct conn *c) {
    struct http_conn *hc = CONTAINER_OF(c, struct http_conn, conn);
    METRIC_ADD(&c->gw->metrics, connections_http, -1);
    free(hc->head);
    buf_fini(&hc->head_bytes);
    buf_fini(&hc->body);
    free(hc);
}

static bool http_rest(struct conn *c) {
    (void)c;
    return true; /* nothing is known of it that struct conn does not hold */
}

static bool http_is_idle(const struct conn *c) {
    const struct http_conn *hc = CONTAINER_OF(c, struct http_conn, conn);
    return hc->state == HTTP_STATE_HEAD && hc->started_ms == 0;
}

static struct conn *http_revive(struct gateway *gw, struct stream *s);

static const struct conn_ops http_conn_ops = {
    .protocol = "http",
    .parse = http_parse,
    .check_time = http_check_time,
    .overload = http_overload,
    .held_bytes = http_held_bytes,
    .free = http_free,
    .rest = http_rest,
    .revive = http_revive,
    .is_idle = http_is_idle,
};

static struct conn *http_revive(struct gateway *gw, struct stream *s) {
    struct http_conn *hc = xcalloc(1, sizeof *hc);
    conn_init(&hc->conn, gw, &http_conn_ops, s);
    METRIC_ADD(&gw->metrics, connections_http, 1);
    return &hc->conn;
}

void http_conn_new(struct gateway *gw, struct stream *s) {
    parked_new(gw, &http_conn_ops, s);
}
