#include "gateway/http_conn.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/access_log.h"
#include "gateway/http_routes.h"
#include "gateway/http_sink.h"
#include "gateway/parked.h"
#include "gateway/site_serve.h"
#include "proto/http2_guard.h"

enum {
    /* A body must keep up this rate beyond the time limit. */
    BODY_BYTES_PER_S = 1024,
};

enum http_state {
    HTTP_STATE_HEAD,
    HTTP_STATE_BODY,    /* the route's body is being gathered */
    HTTP_STATE_DISCARD, /* a body nobody wants */
};

struct http_conn {
    struct conn conn;
    enum http_state state;
    size_t seen;         /* bytes of an incomplete head that were searched */
    uint64_t started_ms; /* when the first byte of the request came; 0: none has */
    uint64_t started_us; /* the same, for the access log; 0: there is none */
    struct http1_body reader;
    struct http_head *head; /* with a body to come: points into head_bytes */
    struct http_plan *plan; /* likewise */
    struct buf head_bytes;
    struct buf body;
    struct http2_conn *http2; /* what the connection turned out to speak; NULL: HTTP/1 */
};

/* ---- answers -----------------------------------------------------------------------------------
 */

static void sink_begin(struct http_request *r, int status) {
    struct conn *c = r->base.conn;
    struct buf *out = conn_request_out(&r->base);
    http1_put_status(out, status, gateway_wall_ms(c->gw) / 1000);
    if (c->gw->draining && c->line_count == 1)
        r->keep_alive = false;
}

static void sink_header(struct http_request *r, const char *name, struct slice value) {
    http1_put_header(conn_request_out(&r->base), name, value);
}

static void sink_head_end(struct http_request *r, enum http_framing framing) {
    struct buf *out = conn_request_out(&r->base);
    if (framing == HTTP_FRAMING_PIECES && r->version == HTTP_VERSION_1_0) {
        r->keep_alive = false; /* the content ends with the connection, RFC 9112 section 6.3 */
    } else if (framing == HTTP_FRAMING_PIECES) {
        r->chunked = true;
        http1_put_header(out, "Transfer-Encoding", slice_str("chunked"));
    }
    if (!r->keep_alive)
        http1_put_header(out, "Connection", slice_str("close"));
    else if (r->version == HTTP_VERSION_1_0)
        http1_put_header(out, "Connection", slice_str("keep-alive"));
    buf_append_str(out, "\r\n");
    conn_mark_dirty(r->base.conn);
}

static void sink_body(struct http_request *r, struct slice piece) {
    struct buf *out = conn_request_out(&r->base);
    char line[24];
    if (piece.size == 0)
        return; /* an empty chunk would be the last one */
    if (r->chunked) {
        snprintf(line, sizeof line, "%zx\r\n", piece.size);
        buf_append_str(out, line);
    }
    buf_append_slice(out, piece);
    if (r->chunked)
        buf_append_str(out, "\r\n");
    conn_mark_dirty(r->base.conn);
}

static void sink_end(struct http_request *r) {
    if (r->chunked && r->has_body)
        buf_append_str(conn_request_out(&r->base), "0\r\n\r\n");
    if (!r->keep_alive)
        conn_finish(r->base.conn);
    conn_request_done(&r->base);
}

/* Without the last chunk, or with less than Content-Length, the client sees that it is not whole.
 */
static void sink_abort(struct http_request *r) {
    conn_abort(r->base.conn);
    conn_request_done(&r->base);
}

static size_t sink_unsent(const struct http_request *r) {
    return conn_request_unsent(&r->base);
}

static const struct http_sink http1_sink = {
    .begin = sink_begin,
    .header = sink_header,
    .head_end = sink_head_end,
    .body = sink_body,
    .end = sink_end,
    .abort = sink_abort,
    .unsent = sink_unsent,
};

static void run(struct http_conn *hc, const struct http_head *head, struct http_plan *plan,
                struct slice body, bool keep_alive) {
    struct http_request *r = xcalloc(1, sizeof *r);
    uint32_t requests_max = hc->conn.gw->options.http_requests_max;
    http_request_begin(r, &hc->conn, head->minor_version == 0 ? HTTP_VERSION_1_0 : HTTP_VERSION_1_1,
                       head, &http1_sink);
    if (++hc->conn.requests >= requests_max && requests_max > 0)
        keep_alive = false;
    r->keep_alive = keep_alive = keep_alive && head->keep_alive;
    r->began_us = hc->started_us;
    http_plan_run(plan, r, head, body);
    if (!keep_alive)
        conn_finish(&hc->conn); /* nothing behind this request is read */
}

/* ---- parsing -----------------------------------------------------------------------------------
 */

static void give_up(struct http_conn *hc, int status, const char *reason, bool head_only,
                    struct slice first_line) {
    struct conn *c = &hc->conn;
    access_malformed(c->gw, stream_peer_ip(c->stream), first_line, status, hc->started_us);
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
    free(hc->head);
    hc->head = NULL;
    free(hc->plan);
    hc->plan = NULL;
    buf_fini(&hc->head_bytes);
    buf_fini(&hc->body);
}

/* A body follows. The head's bytes are copied, since the input goes on. */
static void expect_body(struct http_conn *hc, struct slice head_bytes, const struct http_head *head,
                        const struct http_plan *plan) {
    bool wants_continue = head->expect_continue;
    buf_append_slice(&hc->head_bytes, head_bytes);
    hc->head = xmalloc(sizeof *hc->head);
    CHECK(http1_parse_head(buf_slice(&hc->head_bytes), 0, hc->head, NULL) > 0);
    hc->plan = xmemdup(plan, sizeof *plan);
    hc->plan->late = true;
    if (plan->rest.size > 0)
        hc->plan->rest.data = hc->head_bytes.data + (plan->rest.data - head_bytes.data);
    hc->state = http_plan_wants_body(plan) ? HTTP_STATE_BODY : HTTP_STATE_DISCARD;
    /* Like every answer it goes out behind those to earlier requests. */
    if (wants_continue)
        buf_append_str(conn_answer(&hc->conn), "HTTP/1.1 100 Continue\r\n\r\n");
}

/* A whole head is here. Returns false when the request must wait. */
static bool take_head(struct http_conn *hc, struct slice head_bytes, const struct http_head *head) {
    struct http_plan plan;
    if (site_quick(&hc->conn, head, hc->started_us)) {
        hc->conn.requests++;
        request_over(hc);
        return true;
    }
    http_plan_make(&plan, hc->conn.gw, head);
    if (plan.route && plan.route->needs != NEEDS_NOTHING &&
        !conn_may_submit(&hc->conn,
                         plan.route->needs == NEEDS_WRITE ? CONN_ORDER_WRITE : CONN_ORDER_READ)) {
        conn_wait(&hc->conn);
        return false;
    }
    if (hc->conn.gw->access && !http_plan_access(&plan, &hc->conn, head))
        return false;
    struct slice none = slice_of(NULL, 0);
    switch (http1_body_begin(&hc->reader, head, http_plan_body_limit(&plan, hc->conn.gw))) {
    case HTTP1_BODY_END:
        run(hc, head, &plan, none, true);
        request_over(hc);
        break;
    case HTTP1_BODY_TOO_LARGE:
        if (plan.route)
            http_plan_refuse_large(&plan, hc->conn.gw);
        run(hc, head, &plan, none, false);
        request_over(hc);
        break;
    default:
        if (!plan.route && head->expect_continue) {
            run(hc, head, &plan, none, false); /* the client may or may not send the body now */
            request_over(hc);
        } else {
            expect_body(hc, head_bytes, head, &plan);
        }
    }
    return true;
}

/* Returns the bytes used; 0: incomplete, or must wait, or the connection ends. */
static size_t parse_head(struct http_conn *hc, struct slice in) {
    struct http_head head;
    const char *reason = NULL;
    struct gateway *gw = hc->conn.gw;
    if (hc->started_ms == 0) {
        hc->started_ms = gateway_now_ms(gw);
        hc->started_us = gw->options.access_log ? gateway_now_us(gw) : 0;
    }
    head.method = HTTP_OTHER;
    int used = http1_parse_head(in, hc->seen, &head, &reason);
    size_t size = used > 0 ? (size_t)used : in.size;
    if (used >= 0 && size > gw->options.http_head_bytes_max) {
        used = -431;
        reason = "the header section is too large";
    }
    if (used < 0) {
        give_up(hc, -used, reason, head.method == HTTP_HEAD, in);
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
    run(hc, hc->head, hc->plan, buf_slice(&hc->body), true);
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
            give_up(hc, 400, "the chunked body is malformed", hc->head->method == HTTP_HEAD,
                    buf_slice(&hc->head_bytes));
            return in.size;
        case HTTP1_BODY_TOO_LARGE:
            http_plan_refuse_large(hc->plan, hc->conn.gw);
            run(hc, hc->head, hc->plan, slice_of(NULL, 0), false);
            return in.size;
        }
    }
}

/* Whether the connection's first bytes are, as far as they are here, the preface of HTTP/2 (RFC
 * 9113 section 3.4). A P alone may still become a PUT: it is incomplete either way. */
static bool begins_http2(struct http_conn *hc, struct slice in) {
    size_t n = in.size < HTTP2_PREFACE_BYTES ? in.size : HTTP2_PREFACE_BYTES;
    if (strcmp(stream_protocol(hc->conn.stream), "http/1.1") == 0)
        return false;
    if (in.size == 0 || memcmp(in.data, http2_preface, n) != 0)
        return false;
    if (hc->started_ms == 0)
        hc->started_ms = gateway_now_ms(hc->conn.gw);
    return true;
}

static size_t http_parse(struct conn *c, struct slice in) {
    struct http_conn *hc = CONTAINER_OF(c, struct http_conn, conn);
    size_t total = 0;
    if (strcmp(stream_protocol(c->stream), "h2") == 0) {
        http2_conn_adopt(c); /* and what is not the preface is an error there */
        return c->ops->parse(c, in);
    }
    if (c->requests == 0 && hc->state == HTTP_STATE_HEAD && begins_http2(hc, in)) {
        if (in.size < HTTP2_PREFACE_BYTES)
            return 0;
        http2_conn_adopt(c);
        return c->ops->parse(c, in);
    }
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
        uint64_t received = http1_body_received(&hc->reader);
        uint64_t limit_ms = o->http_body_timeout_ms + received * 1000 / BODY_BYTES_PER_S;
        timed_out = now_ms - hc->started_ms >= limit_ms && conn_may_parse(c);
    } else if (hc->state == HTTP_STATE_HEAD && c->line_count == 0 && !hc->started_ms &&
               now_ms - c->active_ms >= o->http_idle_timeout_ms) {
        METRIC_ADD(&c->gw->metrics, connections_timed_out_total, 1);
        conn_finish(c); /* between requests nobody waits for an answer */
    }
    if (timed_out) {
        METRIC_ADD(&c->gw->metrics, connections_timed_out_total, 1);
        give_up(hc, 408, "the request was not complete in time", false,
                buf_slice(hc->head ? &hc->head_bytes : &c->in));
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
    return hc->head_bytes.capacity + hc->body.capacity +
           (hc->head ? sizeof *hc->head + sizeof *hc->plan : 0);
}

void http_conn_free(struct conn *c) {
    struct http_conn *hc = CONTAINER_OF(c, struct http_conn, conn);
    METRIC_ADD(&c->gw->metrics, connections_http, -1);
    if (hc->http2)
        http2_conn_free(hc->http2);
    free(hc->head);
    free(hc->plan);
    buf_fini(&hc->head_bytes);
    buf_fini(&hc->body);
    pool_free(&c->gw->http_conns, hc);
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
    .free = http_conn_free,
    .rest = http_rest,
    .revive = http_revive,
    .is_idle = http_is_idle,
};

struct http2_conn **http_conn_place(struct conn *c) {
    return &CONTAINER_OF(c, struct http_conn, conn)->http2;
}

static struct conn *http_revive(struct gateway *gw, struct stream *s) {
    struct http_conn *hc = pool_alloc(&gw->http_conns);
    conn_init(&hc->conn, gw, &http_conn_ops, s);
    METRIC_ADD(&gw->metrics, connections_http, 1);
    return &hc->conn;
}

void http_conn_new(struct gateway *gw, struct stream *s) {
    parked_new(gw, &http_conn_ops, s);
}

size_t http_conn_bytes(void) {
    return sizeof(struct http_conn);
}
