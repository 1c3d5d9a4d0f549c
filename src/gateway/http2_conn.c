/* HTTP/2 at the gateway: proto/http2.h on one side, plans, requests and the sink on the other.
 *
 *   head --> body is gathered --> READY --- there is room ---> RUNNING --> answered --> sent, freed
 *     \--> refused at once (too large, unexpected): RUNNING
 *
 * Order: the streams of a connection run side by side, reads and writes alike; a request that was
 * sent after the answer to another had come sees what that did (linearizable reads do so by
 * themselves, stale ones through the connection's write_index). What is sent at the same time has
 * no order, as on two connections (docs/decisions/0019).
 *
 * Back-pressure: frames are always taken in, since window updates are among them; what waits is
 * requests. While the line's bytes, or the answers that clients' windows hold up, are over the
 * connection's limits, whole requests stay READY. A stream holds no more of an answer in pieces
 * than STREAM_ROOM_BYTES. */
#include <stdlib.h>

#include "gateway/http_routes.h"
#include "gateway/http_sink.h"
#include "proto/http2.h"

enum {
    STREAM_ROOM_BYTES = 64 * 1024,
    BODY_BYTES_PER_S = 1024, /* a body must keep up this rate beyond the time limit */
    /* What a connection without streams costs, roughly: the library's session. */
    SESSION_BYTES = 16 * 1024,
};

struct http2_conn {
    struct conn *conn;
    struct http2 *session;
    struct list places; /* of struct place */
    struct list ready;  /* those whose request is complete and waits, by ready_node */
    size_t body_bytes;  /* gathered, of all places */
    uint64_t used_ms;   /* when a stream began or ended last */
    uint64_t head_ms;   /* since when a head is incomplete; 0: none is */
    uint32_t leaving;   /* it is to end: 1 when the client was told, then one more a sweep */
    struct buf bytes;   /* of the answer's head that is being made */
    struct buf fields;  /* of struct http_header, their data as offsets into `bytes` until sent */
    size_t field_count;
};

/* One stream. */
struct place {
    struct http2_conn *h2;
    struct http2_stream *stream;
    struct list node;
    struct list ready_node;
    const struct http_head *head; /* NULL once the request runs */
    struct http_plan plan;
    bool allowed; /* who asks was known with the head; the plan says what came of it */
    struct buf body;
    uint64_t received;
    uint64_t started_ms;
    uint64_t started_us; /* the same, for the access log; 0: there is none */
    uint64_t moved_ms;   /* when its answer was last seen to move */
    uint64_t moved_sent;
    struct place_request *request; /* that runs */
};

struct place_request {
    struct http_request http; /* first: it is freed as that */
    struct place *place;      /* NULL: the stream is gone */
};

static struct http2_conn *http2_of(const struct conn *c) {
    return *http_conn_place((struct conn *)(uintptr_t)c);
}

static struct place *place_of(const struct http_request *r) {
    return CONTAINER_OF(r, struct place_request, http)->place;
}

/* ---- answers -----------------------------------------------------------------------------------
 */

static void sink_header(struct http_request *r, const char *name, struct slice value) {
    struct http2_conn *h2 = place_of(r)->h2;
    struct http_header field = {.name = slice_of(NULL, strlen(name)),
                                .value = slice_of(NULL, value.size)};
    buf_append_str(&h2->bytes, name);
    buf_append_slice(&h2->bytes, value);
    buf_append(&h2->fields, &field, sizeof field);
    h2->field_count++;
}

static void sink_begin(struct http_request *r, int status) {
    struct http2_conn *h2 = place_of(r)->h2;
    char date[30];
    (void)status;
    buf_reset(&h2->bytes);
    buf_reset(&h2->fields);
    h2->field_count = 0;
    http_format_date(gateway_wall_ms(h2->conn->gw) / 1000, date);
    sink_header(r, "date", slice_of(date, 29));
}

static void sink_head_end(struct http_request *r, enum http_framing framing) {
    struct place *p = place_of(r);
    struct http2_conn *h2 = p->h2;
    struct http_header *fields = (struct http_header *)(void *)h2->fields.data;
    const uint8_t *at = h2->bytes.data;
    (void)framing; /* the stream's end is the content's */
    for (size_t i = 0; i < h2->field_count; i++) {
        fields[i].name.data = at;
        at += fields[i].name.size;
        fields[i].value.data = at;
        at += fields[i].value.size;
    }
    http2_answer(p->stream, r->status, fields, h2->field_count, r->has_body);
    buf_fini(&h2->bytes);
    buf_fini(&h2->fields);
    p->moved_ms = gateway_now_ms(h2->conn->gw);
    conn_mark_dirty(h2->conn);
}

static void sink_body(struct http_request *r, struct slice piece) {
    struct place *p = place_of(r);
    if (http2_stream_queued(p->stream) == 0)
        p->moved_ms = gateway_now_ms(p->h2->conn->gw);
    http2_answer_body(p->stream, piece);
    conn_mark_dirty(p->h2->conn);
}

static void sink_end(struct http_request *r) {
    if (r->has_body)
        http2_answer_end(place_of(r)->stream);
    conn_request_leave(&r->base);
}

static void sink_abort(struct http_request *r) {
    http2_reset(place_of(r)->stream, HTTP2_INTERNAL_ERROR);
    conn_request_leave(&r->base);
}

static void sink_forget(struct http_request *r) {
    struct place_request *request = CONTAINER_OF(r, struct place_request, http);
    if (request->place)
        request->place->request = NULL;
}

static size_t sink_unsent(const struct http_request *r) {
    return conn_unwritten_bytes(r->base.conn) + http2_stream_queued(place_of(r)->stream);
}

static const struct http_sink http2_sink = {
    .begin = sink_begin,
    .header = sink_header,
    .head_end = sink_head_end,
    .body = sink_body,
    .forget = sink_forget,
    .end = sink_end,
    .abort = sink_abort,
    .unsent = sink_unsent,
};

/* ---- requests ----------------------------------------------------------------------------------
 */

static void forget_body(struct place *p) {
    p->h2->body_bytes -= p->body.capacity;
    buf_fini(&p->body);
}

static void run(struct place *p) {
    struct http2_conn *h2 = p->h2;
    struct place_request *request = xcalloc(1, sizeof *request);
    CHECK(p->head != NULL);
    list_remove(&p->ready_node);
    request->place = p;
    p->request = request;
    http_request_begin(&request->http, h2->conn, HTTP_VERSION_2, p->head, &http2_sink);
    request->http.began_us = p->started_us;
    /* The head and the body are borrowed by the handler until it returns; the stream stays until
     * then, since streams are closed by http2_receive() and http2_send() only. */
    const struct http_head *head = p->head;
    p->head = NULL;
    http_plan_run(&p->plan, &request->http, head, buf_slice(&p->body));
    http2_stream_forget_head(p->stream);
    forget_body(p);
}

static void refuse_and_run(struct place *p, int status, const char *code, const char *detail) {
    http_plan_refuse(&p->plan, status, code, "%s", detail);
    run(p);
}

static bool has_room(const struct http2_conn *h2) {
    const struct gateway_options *o = &h2->conn->gw->options;
    return h2->conn->in_flight_bytes < o->pipeline_bytes_max &&
           h2->conn->line_count < o->pipeline_requests_max &&
           http2_queued(h2->session) < o->output_bytes_max;
}

static void run_ready(struct http2_conn *h2) {
    struct list *first;
    while (has_room(h2) && (first = list_first(&h2->ready)) != NULL) {
        struct place *p = LIST_ENTRY(first, struct place, ready_node);
        if (!p->allowed && !http_plan_access(&p->plan, h2->conn, p->head))
            break; /* when it is known who asks, the connection comes here again */
        run(p);
    }
}

static void complete(struct place *p) {
    list_push_back(&p->h2->ready, &p->ready_node);
    run_ready(p->h2);
    p->plan.late |= p->head != NULL;
}

static const char *malformed_code(int status) {
    return status == 431 ? "too_large" : "malformed";
}

static void *on_head(void *ctx, struct http2_stream *st, const struct http_head *head, int status,
                     const char *reason, bool over) {
    struct http2_conn *h2 = ctx;
    struct gateway *gw = h2->conn->gw;
    struct place *p = xcalloc(1, sizeof *p);
    p->h2 = h2;
    p->stream = st;
    p->head = head;
    p->started_ms = p->moved_ms = h2->used_ms = gateway_now_ms(gw);
    p->started_us = gw->options.access_log ? gateway_now_us(gw) : 0;
    if (gw->options.http_requests_max > 0 &&
        ++h2->conn->requests == gw->options.http_requests_max && h2->leaving == 0) {
        http2_leave(h2->session);
        h2->leaving = 1;
    }
    list_push_back(&h2->places, &p->node);
    list_init(&p->ready_node);
    if (status != 0) {
        METRIC_ADD(&gw->metrics, http_malformed_total, 1);
        refuse_and_run(p, status, malformed_code(status), reason);
        return p;
    }
    http_plan_make(&p->plan, gw, head);
    p->allowed = !gw->access || http_plan_access(&p->plan, h2->conn, head);
    if (over) {
        complete(p);
    } else if (head->length > http_plan_body_limit(&p->plan, gw)) {
        if (p->plan.route)
            http_plan_refuse_large(&p->plan, gw);
        run(p);
    } else if (head->expect_continue && p->plan.route) {
        http2_continue(st);
    } else if (head->expect_continue) {
        run(p);
    }
    p->plan.late |= p->head != NULL;
    return p;
}

static void on_body(void *ctx, void *user, struct slice piece) {
    struct http2_conn *h2 = ctx;
    struct place *p = user;
    struct gateway *gw = h2->conn->gw;
    p->received += piece.size;
    if (!p->head)
        return; /* it was answered before it was complete */
    if (p->received > http_plan_body_limit(&p->plan, gw)) {
        http_plan_refuse_large(&p->plan, gw);
        run(p);
        return;
    }
    if (!http_plan_wants_body(&p->plan))
        return;
    h2->body_bytes -= p->body.capacity;
    buf_append_slice(&p->body, piece);
    h2->body_bytes += p->body.capacity;
    /* Each of them may be as large as one is on a connection of HTTP/1.1; together no more than two
     * (a buffer that grows by doubling has up to twice what is in it). */
    if (h2->body_bytes > 4 * (size_t)gw->options.value_bytes_max)
        refuse_and_run(p, 503, "busy", "the connection holds too many unfinished requests");
}

static void on_end(void *ctx, void *user) {
    struct place *p = user;
    (void)ctx;
    if (p->head)
        complete(p);
}

static void on_closed(void *ctx, void *user) {
    struct http2_conn *h2 = ctx;
    struct place *p = user;
    h2->used_ms = gateway_now_ms(h2->conn->gw);
    if (p->request) {
        struct http_request *r = &p->request->http;
        p->request->place = NULL;
        conn_request_cancel(&r->base);
    }
    list_remove(&p->ready_node);
    list_remove(&p->node);
    forget_body(p);
    free(p);
}

static const struct http2_handler handler = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_closed = on_closed};

/* ---- the connection ----------------------------------------------------------------------------
 */

static size_t http2_parse(struct conn *c, struct slice in) {
    struct http2_conn *h2 = http2_of(c);
    http2_receive(h2->session, in);
    if (!http2_in_head(h2->session))
        h2->head_ms = 0;
    else if (h2->head_ms == 0)
        h2->head_ms = gateway_now_ms(c->gw);
    return in.size;
}

/* Asks answers in pieces for more; true when one of them had something. */
static bool pull(struct http2_conn *h2) {
    bool some = false;
    LIST_FOREACH_SAFE (it, &h2->places) {
        struct place *p = LIST_ENTRY(it, struct place, node);
        struct http_request *r = p->request ? &p->request->http : NULL;
        if (!r || !r->base.streaming || !r->more ||
            http2_stream_queued(p->stream) >= STREAM_ROOM_BYTES ||
            http2_queued(h2->session) >= h2->conn->gw->options.output_bytes_max)
            continue;
        uint64_t before = http2_stream_queued(p->stream);
        r->more(r);
        some |= p->request == NULL || http2_stream_queued(p->stream) != before;
    }
    return some;
}

/* The connection is over: its requests are given up, and it closes when all is written. */
static void finish(struct http2_conn *h2) {
    if (http2_is_flood(h2->session) && h2->conn->state == CONN_OPEN)
        METRIC_ADD(&h2->conn->gw->metrics, http2_floods_total, 1);
    conn_forget_line(h2->conn);
    struct list *first;
    while ((first = list_first(&h2->ready)) != NULL)
        list_remove(first);
    conn_finish(h2->conn);
}

static void http2_flush(struct conn *c) {
    struct http2_conn *h2 = http2_of(c);
    if (c->gw->draining && h2->leaving == 0) {
        http2_leave(h2->session);
        h2->leaving = 1;
    }
    bool more = true;
    while (more) {
        size_t unwritten = conn_unwritten_bytes(c);
        if (unwritten >= CONN_ROOM_BYTES && c->state == CONN_OPEN)
            break;
        run_ready(h2);
        more = pull(h2);
        size_t room = c->state == CONN_OPEN ? CONN_ROOM_BYTES - unwritten : SIZE_MAX / 2;
        more |= http2_send(h2->session, &c->out, c->out.size + room);
    }
    bool gone = http2_has_left(h2->session) && http2_stream_count(h2->session) == 0;
    if (c->state == CONN_OPEN && (gone || http2_is_over(h2->session)))
        finish(h2);
}

static void end_late(struct http2_conn *h2, enum http2_error error) {
    http2_end(h2->session, error);
    METRIC_ADD(&h2->conn->gw->metrics, connections_timed_out_total, 1);
    conn_mark_dirty(h2->conn);
}

static void check_place(struct place *p, uint64_t now_ms) {
    const struct gateway_options *o = &p->h2->conn->gw->options;
    uint64_t sent = http2_stream_sent(p->stream);
    bool receiving = p->head && list_empty(&p->ready_node);
    uint64_t body_ms = o->http_body_timeout_ms + p->received * 1000 / BODY_BYTES_PER_S;
    if (sent != p->moved_sent || http2_stream_queued(p->stream) == 0)
        p->moved_ms = now_ms;
    p->moved_sent = sent;
    if (receiving && now_ms - p->started_ms >= body_ms) {
        METRIC_ADD(&p->h2->conn->gw->metrics, connections_timed_out_total, 1);
        refuse_and_run(p, 408, "timeout", "the request was not complete in time");
    } else if (now_ms - p->moved_ms >= o->write_stall_timeout_ms) {
        METRIC_ADD(&p->h2->conn->gw->metrics, connections_timed_out_total, 1);
        http2_reset(p->stream, HTTP2_CANCEL);
        p->moved_ms = now_ms;
        conn_mark_dirty(p->h2->conn);
    }
}

static void check_connection(struct http2_conn *h2, uint64_t now_ms) {
    const struct gateway_options *o = &h2->conn->gw->options;
    http2_second(h2->session);
    /* A client that answers the ping of http2_leave() is let go then; others after a while. */
    if (h2->leaving > 0 && h2->leaving++ == 2)
        http2_leave(h2->session);
    else if (h2->head_ms && now_ms - h2->head_ms >= o->http_head_timeout_ms)
        end_late(h2, HTTP2_ENHANCE_YOUR_CALM);
    else if (http2_stream_count(h2->session) == 0 &&
             now_ms - h2->used_ms >= o->http_idle_timeout_ms)
        end_late(h2, HTTP2_NO_ERROR);
}

/* Streams have their limits also when the client sends no more: the windows of what it is owed will
 * not open again. */
static void http2_check_time(struct conn *c, uint64_t now_ms) {
    struct http2_conn *h2 = http2_of(c);
    if (c->state == CONN_OPEN)
        check_connection(h2, now_ms);
    LIST_FOREACH_SAFE (it, &h2->places) {
        check_place(LIST_ENTRY(it, struct place, node), now_ms);
    }
    if (h2->leaving > 0)
        conn_mark_dirty(c);
}

static void http2_overload(struct conn *c) {
    struct http2_conn *h2 = http2_of(c);
    http2_end(h2->session, HTTP2_ENHANCE_YOUR_CALM);
    http2_flush(c);
    finish(h2);
}

static size_t http2_held_bytes(const struct conn *c) {
    return SESSION_BYTES + http2_of(c)->body_bytes;
}

static size_t http2_queued_bytes(const struct conn *c) {
    return http2_queued(http2_of(c)->session);
}

void http2_conn_free(struct http2_conn *h2) {
    METRIC_ADD(&h2->conn->gw->metrics, connections_http2, -1);
    http2_free(h2->session);
    LIST_FOREACH_SAFE (it, &h2->places) {
        struct place *p = LIST_ENTRY(it, struct place, node);
        CHECK(p->request == NULL);
        list_remove(&p->node);
        list_remove(&p->ready_node);
        forget_body(p);
        free(p);
    }
    buf_fini(&h2->bytes);
    buf_fini(&h2->fields);
    free(h2);
}

static const struct conn_ops http2_conn_ops = {
    .protocol = "http",
    .parse = http2_parse,
    .check_time = http2_check_time,
    .overload = http2_overload,
    .held_bytes = http2_held_bytes,
    .free = http_conn_free,
    .flush = http2_flush,
    .queued_bytes = http2_queued_bytes,
};

void http2_conn_adopt(struct conn *c) {
    struct http2_conn *h2 = xcalloc(1, sizeof *h2);
    h2->conn = c;
    h2->used_ms = gateway_now_ms(c->gw);
    list_init(&h2->places);
    list_init(&h2->ready);
    h2->session = http2_new(&handler, h2, c->gw->options.http_head_bytes_max);
    *http_conn_place(c) = h2;
    c->ops = &http2_conn_ops;
    c->unordered = true;
    METRIC_ADD(&c->gw->metrics, connections_http2, 1);
}
