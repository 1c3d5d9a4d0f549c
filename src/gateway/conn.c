#include "gateway/conn.h"

#include <stdlib.h>

#include "gateway/parked.h"

enum {
    /* A buffer that grew beyond this is given back when it is empty. */
    KEEP_BYTES = 16 * 1024,
};

/* ---- memory ------------------------------------------------------------------------------------
 */

/* Answers in the line that wait for those before them. Only the last one grows without being
 * counted at once: it is one that is known at once, or comes in pieces. */
static size_t conn_reply_bytes(const struct conn *c) {
    if (list_empty(&c->line))
        return 0;
    const struct conn_request *last = LIST_ENTRY(c->line.prev, struct conn_request, node);
    return c->reply_bytes + last->reply.size - last->counted;
}

static void conn_count_reply(struct conn_request *r) {
    r->conn->reply_bytes += r->reply.size - r->counted;
    r->counted = r->reply.size;
}

/* Keeps the thread's sums right after any change of the buffers. */
static void conn_charge(struct conn *c) {
    struct gateway_metrics *m = &c->gw->metrics;
    uint64_t in = c->in.capacity + c->ops->held_bytes(c);
    uint64_t out = c->out.capacity + (c->stream ? stream_pending_bytes(c->stream) : 0) +
                   conn_reply_bytes(c) + (c->ops->queued_bytes ? c->ops->queued_bytes(c) : 0);
    METRIC_ADD(m, input_bytes, in - c->in_charged);
    METRIC_ADD(m, output_bytes, out - c->out_charged);
    c->in_charged = in;
    c->out_charged = out;
}

size_t conn_unwritten_bytes(const struct conn *c) {
    return c->out.size + (c->stream ? stream_pending_bytes(c->stream) : 0);
}

/* ---- busy, idle, at rest -----------------------------------------------------------------------
 */

static void conn_move(struct conn *c, enum conn_place place) {
    struct gateway *gw = c->gw;
    struct list *lists[] = {
        [CONN_BUSY] = &gw->conns, [CONN_IDLE] = &gw->idle, [CONN_RESTING] = &gw->resting};
    gw->busy_count += (uint32_t)(place == CONN_BUSY) - (uint32_t)(c->place == CONN_BUSY);
    gw->warm_count += (uint32_t)(place == CONN_IDLE) - (uint32_t)(c->place == CONN_IDLE);
    c->place = (uint8_t)place;
    list_remove(&c->node);
    if (place != CONN_NOWHERE)
        list_push_back(lists[place], &c->node);
}

static void conn_rest(struct conn *c) {
    CHECK(c->place == CONN_IDLE);
    if (c->ops->rest(c))
        parked_take_over(c);
    else
        conn_move(c, CONN_RESTING);
}

/* At the turn's end: is there anything left that it waits for, or that waits for it? */
static void conn_settle(struct conn *c) {
    struct gateway *gw = c->gw;
    if (!c->ops->rest || c->place != CONN_BUSY || c->state != CONN_OPEN || c->doomed || c->eof ||
        c->paused || c->line_count > 0 || c->in.size > 0 || stream_pending_bytes(c->stream) > 0 ||
        !c->ops->is_idle(c))
        return;
    conn_move(c, CONN_IDLE);
    if (gw->warm_count > CONN_WARM_MAX)
        conn_rest(LIST_ENTRY(list_first(&gw->idle), struct conn, node));
}

void conn_cool(struct gateway *gw, uint64_t now_ms, uint32_t most) {
    struct list *first;
    while (most-- > 0 && (first = list_first(&gw->idle)) != NULL) {
        struct conn *c = LIST_ENTRY(first, struct conn, node);
        if (now_ms - c->active_ms < CONN_WARM_MS)
            break;
        conn_rest(c);
    }
}

void conn_mark_dirty(struct conn *c) {
    if (c->place == CONN_IDLE || c->place == CONN_RESTING)
        conn_move(c, CONN_BUSY);
    if (list_empty(&c->dirty_node))
        list_push_back(&c->gw->dirty, &c->dirty_node);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

bool conn_may_parse(const struct conn *c) {
    const struct gateway_options *o = &c->gw->options;
    if (c->state != CONN_OPEN || c->doomed)
        return false;
    if (c->unordered)
        return true; /* its protocol holds requests back, not what else stands between them */
    return !c->waiting && !c->holding && c->line_count < o->pipeline_requests_max &&
           c->in_flight_bytes < o->pipeline_bytes_max &&
           conn_unwritten_bytes(c) + conn_reply_bytes(c) < o->output_bytes_max;
}

bool conn_may_submit(const struct conn *c, enum conn_order order) {
    return order == CONN_ORDER_NONE || c->in_flight == 0 || c->order == order || c->unordered;
}

void conn_wait(struct conn *c) {
    CHECK(c->in_flight > 0);
    c->waiting = true;
    METRIC_ADD(&c->gw->metrics, order_waits_total, 1);
}

void conn_hold(struct conn *c) {
    c->holding = c->line_count > 0;
}

static size_t conn_parse(struct conn *c, struct slice in) {
    CHECK(!c->parsing);
    if (in.size == 0 || !conn_may_parse(c))
        return 0;
    c->parsing = true;
    size_t used = c->ops->parse(c, in);
    c->parsing = false;
    CHECK(used <= in.size);
    return c->state == CONN_OPEN ? used : in.size;
}

/* Parses on what is held; true when it got further. */
static bool conn_parse_held(struct conn *c) {
    size_t used = conn_parse(c, buf_slice(&c->in));
    if (used == 0)
        return false;
    buf_consume(&c->in, used);
    c->late_bytes -= used < c->late_bytes ? used : c->late_bytes;
    if (c->in.size == 0)
        buf_fini(&c->in);
    return true;
}

static void conn_update_pause(struct conn *c) {
    if (!c->stream || c->shut)
        return;
    bool want = c->state == CONN_OPEN && !conn_may_parse(c) && c->in.size >= CONN_AHEAD_BYTES;
    if (want != c->paused) {
        c->paused = want;
        if (want)
            stream_pause(c->stream);
        else
            stream_resume(c->stream);
    }
}

static void conn_on_read(void *ctx, struct slice bytes) {
    struct conn *c = ctx;
    METRIC_ADD(&c->gw->metrics, received_bytes_total, bytes.size);
    c->active_ms = gateway_now_ms(c->gw);
    conn_mark_dirty(c);
    if (c->state != CONN_OPEN || c->doomed)
        return;
    if (c->in.size == 0) {
        size_t used = conn_parse(c, bytes);
        if (used < bytes.size && c->state == CONN_OPEN)
            buf_append(&c->in, bytes.data + used, bytes.size - used);
    } else {
        buf_append_slice(&c->in, bytes);
        conn_parse_held(c);
    }
    if (c->state != CONN_OPEN)
        buf_fini(&c->in);
    conn_charge(c);
    const struct gateway_options *o = &c->gw->options;
    if (c->gw->metrics.input_bytes > o->input_bytes_total_max && c->in_charged > CONN_AHEAD_BYTES &&
        c->state == CONN_OPEN) {
        METRIC_ADD(&c->gw->metrics, connections_overrun_total, 1);
        c->ops->overload(c);
        CHECK(c->state != CONN_OPEN);
        buf_fini(&c->in);
        conn_charge(c);
    }
    conn_update_pause(c);
}

static void conn_on_drain(void *ctx) {
    struct conn *c = ctx;
    conn_mark_dirty(c);
}

static void conn_on_eof(void *ctx) {
    struct conn *c = ctx;
    c->eof = true;
    conn_mark_dirty(c);
}

/* ---- requests ----------------------------------------------------------------------------------
 */

static void conn_request_free(struct conn_request *r) {
    r->conn->reply_bytes -= r->counted;
    list_remove(&r->node);
    buf_fini(&r->reply);
    r->ops->free(r);
}

/* Moves the answers at the head of the line to `out`, as far as they are known. */
static void conn_advance(struct conn *c) {
    struct list *first;
    while ((first = list_first(&c->line)) != NULL) {
        struct conn_request *r = LIST_ENTRY(first, struct conn_request, node);
        if (!r->answered)
            break;
        buf_append_slice(&c->out, buf_slice(&r->reply));
        c->line_count--;
        conn_request_free(r);
    }
    if (first) {
        /* It is the first now: what it has written in pieces goes out, and what comes goes on. */
        struct conn_request *r = LIST_ENTRY(first, struct conn_request, node);
        buf_append_slice(&c->out, buf_slice(&r->reply));
        buf_fini(&r->reply);
        conn_count_reply(r);
    }
    if (c->line_count == 0)
        c->holding = false;
}

void conn_enqueue(struct conn *c, struct conn_request *r, const struct conn_request_ops *ops) {
    r->ops = ops;
    r->conn = c;
    if (!list_empty(&c->line))
        conn_count_reply(LIST_ENTRY(c->line.prev, struct conn_request, node));
    list_push_back(&c->line, &r->node);
    c->line_count++;
}

struct buf *conn_request_out(struct conn_request *r) {
    return r->conn->line.next == &r->node ? &r->conn->out : &r->reply;
}

void conn_request_done(struct conn_request *r) {
    struct conn *c = r->conn;
    CHECK(!r->answered);
    r->answered = true;
    conn_count_reply(r);
    conn_advance(c);
    conn_mark_dirty(c);
}

void conn_request_stream(struct conn_request *r) {
    r->streaming = true;
    if (!r->conn->unordered)
        conn_hold(r->conn);
    conn_mark_dirty(r->conn);
}

size_t conn_request_unsent(const struct conn_request *r) {
    return conn_unwritten_bytes(r->conn) + r->reply.size;
}

/* Lets the first request's answer in pieces go on while there is room. `more` may end it. */
static void conn_more(struct conn *c) {
    struct list *first = list_first(&c->line);
    struct conn_request *r = first ? LIST_ENTRY(first, struct conn_request, node) : NULL;
    if (r && r->streaming && !r->answered && r->ops->more && !c->ops->flush && !c->doomed &&
        !c->shut && conn_unwritten_bytes(c) < CONN_ROOM_BYTES)
        r->ops->more(r);
}

void conn_flight_begin(struct conn *c, enum conn_order order, uint64_t bytes) {
    CHECK(conn_may_submit(c, order));
    c->order = order;
    c->in_flight++;
    c->in_flight_bytes += bytes;
    METRIC_ADD(&c->gw->metrics, requests_in_flight, 1);
}

void conn_flight_end(struct conn *c, uint64_t bytes) {
    CHECK(c->in_flight > 0);
    c->in_flight--;
    c->in_flight_bytes -= bytes;
    METRIC_ADD(&c->gw->metrics, requests_in_flight, -1);
    if (c->in_flight == 0)
        c->waiting = false;
}

static void conn_on_done(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct conn_request *r = CONTAINER_OF(up, struct conn_request, up);
    struct conn *c = r->conn;
    r->submitted = false;
    if (up->timed_out && !up->late)
        c->late_bytes = c->in.size;
    if (outcome == UPSTREAM_NOT_APPLIED)
        METRIC_ADD(&c->gw->metrics, requests_not_applied_total, 1);
    else if (outcome == UPSTREAM_UNKNOWN)
        METRIC_ADD(&c->gw->metrics, requests_unknown_total, 1);
    else if (up->kind == UPSTREAM_WRITE && index > c->write_index)
        c->write_index = index;
    conn_flight_end(c, r->bytes);
    r->ops->answer(r, outcome, index, reply);
}

void conn_submit(struct conn_request *r, enum upstream_kind kind, uint16_t db,
                 struct buf *packed_argv) {
    struct conn *c = r->conn;
    struct gateway *gw = c->gw;
    bool write = kind == UPSTREAM_WRITE;
    r->bytes = packed_argv->size;
    r->submitted = true;
    conn_flight_begin(c, write ? CONN_ORDER_WRITE : CONN_ORDER_READ, r->bytes);
    if (write)
        METRIC_ADD(&gw->metrics, writes_total, 1);
    else
        METRIC_ADD(&gw->metrics, reads_total, 1);
    r->up.kind = kind;
    r->up.db = db;
    /* A stale read must still see what its own connection wrote. */
    if (kind == UPSTREAM_READ_STALE && r->up.min_index < c->write_index)
        r->up.min_index = c->write_index;
    if (r->up.timeout_ms == 0)
        r->up.timeout_ms = gw->options.upstream_timeout_ms;
    r->up.late = c->late_bytes > 0;
    r->up.packed_argv = *packed_argv;
    *packed_argv = (struct buf){0};
    r->up.done = conn_on_done;
    upstream_submit(gw->upstream, &r->up);
}

/* An answer that was known at once while others before it were not. */
static void local_free(struct conn_request *r) {
    free(r);
}
static const struct conn_request_ops local_ops = {.free = local_free};

struct buf *conn_answer(struct conn *c) {
    conn_mark_dirty(c);
    if (list_empty(&c->line))
        return &c->out;
    struct conn_request *last = LIST_ENTRY(c->line.prev, struct conn_request, node);
    if (last->answered)
        return &last->reply; /* it stands behind an unanswered one, else it would be gone */
    struct conn_request *r = xcalloc(1, sizeof *r);
    conn_enqueue(c, r, &local_ops);
    r->answered = true;
    return &r->reply;
}

/* ---- ending ------------------------------------------------------------------------------------
 */

void conn_finish(struct conn *c) {
    if (c->state != CONN_OPEN)
        return;
    c->state = CONN_CLOSING;
    c->closing_ms = gateway_now_ms(c->gw);
    conn_mark_dirty(c);
}

void conn_abort(struct conn *c) {
    c->doomed = true;
    conn_mark_dirty(c);
}

void conn_request_leave(struct conn_request *r) {
    struct conn *c = r->conn;
    c->line_count--;
    conn_request_free(r);
    conn_mark_dirty(c);
}

void conn_request_cancel(struct conn_request *r) {
    struct conn *c = r->conn;
    if (r->submitted) {
        upstream_forget(c->gw->upstream, &r->up);
        conn_flight_end(c, r->bytes);
    }
    if (!r->answered && r->ops->cancel)
        r->ops->cancel(r);
    c->line_count--;
    conn_request_free(r);
}

void conn_forget_line(struct conn *c) {
    struct list *first;
    while ((first = list_first(&c->line)) != NULL)
        conn_request_cancel(LIST_ENTRY(first, struct conn_request, node));
}

static void conn_on_close(void *ctx, int error) {
    struct conn *c = ctx;
    (void)error; /* a client may go away in any way it likes */
    c->state = CONN_CLOSED;
    gateway_client_left(c->gw, c->stream);
    c->stream = NULL;
    conn_forget_line(c);
    buf_fini(&c->in);
    buf_fini(&c->out);
    conn_charge(c);
    list_remove(&c->dirty_node);
    conn_move(c, CONN_NOWHERE);
    list_push_back(&c->gw->dead, &c->node);
}

static const struct stream_handler conn_handler = {
    .on_read = conn_on_read,
    .on_drain = conn_on_drain,
    .on_eof = conn_on_eof,
    .on_close = conn_on_close,
};

/* For streams that outlive their connection: their on_close comes a turn later. */
static void nobody_on_read(void *ctx, struct slice bytes) {
    (void)ctx;
    (void)bytes;
}
static void nobody_on_close(void *ctx, int error) {
    (void)ctx;
    (void)error;
}
const struct stream_handler conn_nobody = {
    .on_read = nobody_on_read,
    .on_close = nobody_on_close,
};

void conn_init(struct conn *c, struct gateway *gw, const struct conn_ops *ops, struct stream *s) {
    c->ops = ops;
    c->gw = gw;
    c->stream = s;
    c->state = CONN_OPEN;
    c->active_ms = c->moved_ms = gateway_now_ms(gw);
    list_init(&c->line);
    list_init(&c->dirty_node);
    list_init(&c->node);
    conn_move(c, CONN_BUSY);
    gateway_count_clients(gw, 1);
    stream_set_handler(s, &conn_handler, c);
    conn_mark_dirty(c); /* it is idle unless something happens */
}

void conn_free(struct conn *c) {
    if (c->stream) {
        gateway_client_left(c->gw, c->stream);
        stream_set_handler(c->stream, &conn_nobody, NULL);
        stream_close(c->stream);
        c->stream = NULL;
    }
    conn_forget_line(c);
    buf_fini(&c->in);
    buf_fini(&c->out);
    list_remove(&c->dirty_node);
    conn_move(c, CONN_NOWHERE);
    gateway_count_clients(c->gw, -1);
    METRIC_ADD(&c->gw->metrics, input_bytes, -c->in_charged);
    METRIC_ADD(&c->gw->metrics, output_bytes, -c->out_charged);
    c->ops->free(c);
}

/* ---- the turn ----------------------------------------------------------------------------------
 */

/* Writes what was gathered, and `behind` it. True when there was something. */
static bool conn_write_out_and(struct conn *c, struct slice behind) {
    if (c->ops->flush && !c->shut)
        c->ops->flush(c);
    if (c->out.size + behind.size > 0 && !c->shut) {
        bool idle_before = stream_pending_bytes(c->stream) == 0;
        METRIC_ADD(&c->gw->metrics, sent_bytes_total, c->out.size + behind.size);
        stream_write2(c->stream, buf_slice(&c->out), behind);
        c->active_ms = gateway_now_ms(c->gw);
        if (idle_before) {
            c->moved_ms = c->active_ms;
            c->moved_bytes = stream_pending_bytes(c->stream);
        }
    }
    bool some = c->out.size + behind.size > 0;
    buf_reset(&c->out);
    if (c->out.capacity > KEEP_BYTES || c->line_count == 0)
        buf_fini(&c->out);
    return some;
}

static bool conn_write_out(struct conn *c) {
    return conn_write_out_and(c, slice_of(NULL, 0));
}

void conn_answer_with(struct conn *c, struct slice head, struct slice body) {
    struct buf *out = conn_answer(c);
    buf_append_slice(out, head);
    if (out != &c->out || body.size < CONN_DIRECT_BYTES || !c->stream)
        buf_append_slice(out, body);
    else
        (void)conn_write_out_and(c, body);
}

void conn_write_now(struct conn *c) {
    if (c->stream && !c->doomed && !c->ops->flush)
        conn_write_out(c);
}

/* The client has ended its side, and is owed an answer that never ends. */
static bool conn_is_left(const struct conn *c) {
    if (!c->eof)
        return false;
    LIST_FOREACH (it, (struct list *)&c->line) {
        if (LIST_ENTRY(it, struct conn_request, node)->endless)
            return true;
    }
    return false;
}

/* The thread's answers that nobody takes are too many, and it holds much of them. */
static bool conn_is_hog(const struct conn *c) {
    const struct gateway_options *o = &c->gw->options;
    return c->gw->metrics.output_bytes > o->output_bytes_total_max &&
           c->out_charged > o->output_bytes_max;
}

static void conn_end_doomed(struct conn *c) {
    c->state = CONN_CLOSING;
    c->shut = true;
    stream_close(c->stream);
}

/* Each round answers, writes, or consumes something, and bytes do not arrive meanwhile; but who
 * reads as fast as we write could go on for as long as a file is. */
static void conn_go_on(struct conn *c) {
    struct gateway *gw = c->gw;
    uint64_t until = gw->metrics.sent_bytes_total + CONN_TURN_BYTES;
    bool more;
    do {
        conn_more(c);
        more = conn_write_out(c);
    } while (((c->state == CONN_OPEN && conn_parse_held(c)) || more) &&
             gw->metrics.sent_bytes_total < until);
    if (gw->metrics.sent_bytes_total < until)
        return;
    conn_mark_dirty(c);
    if (gw->wake)
        gw->wake(gw->wake_ctx);
}

void conn_turn_end(struct conn *c) {
    if (c->state == CONN_CLOSED)
        return;
    if (c->doomed || conn_is_left(c)) {
        conn_end_doomed(c);
        return;
    }
    conn_go_on(c);
    if (c->doomed) {
        conn_end_doomed(c);
        return;
    }
    if (c->eof && c->state == CONN_OPEN && !c->waiting && !c->holding && conn_may_parse(c))
        conn_finish(c); /* what is left in `in` will never be complete */
    if (c->gw->draining && c->in.size == 0 && c->line_count == 0 && c->ops->held_bytes(c) == 0 &&
        !gateway_has_grace(c->gw, c))
        conn_finish(c);
    if (c->out.size > 0 || c->ops->flush)
        conn_write_out(c);
    if (c->state == CONN_CLOSING) {
        buf_fini(&c->in);
        if (c->line_count == 0 && !c->shut) {
            c->shut = true;
            if (c->paused)
                stream_resume(c->stream);
            c->paused = false;
            stream_shutdown(c->stream);
        }
    }
    conn_charge(c);
    if (conn_is_hog(c) && !c->shut) {
        METRIC_ADD(&c->gw->metrics, connections_overrun_total, 1);
        conn_end_doomed(c);
        return;
    }
    conn_update_pause(c);
    conn_settle(c);
}

void conn_sweep(struct conn *c, uint64_t now_ms) {
    const struct gateway_options *o = &c->gw->options;
    if (c->state == CONN_CLOSED || c->doomed)
        return;
    size_t unwritten = stream_pending_bytes(c->stream);
    if (unwritten == 0 || unwritten < c->moved_bytes || c->moved_bytes == 0)
        c->moved_ms = now_ms;
    c->moved_bytes = unwritten;
    conn_charge(c);
    bool stalled = unwritten > 0 && now_ms - c->moved_ms >= o->write_stall_timeout_ms;
    bool stuck = c->shut && now_ms - c->closing_ms >= o->write_stall_timeout_ms;
    if (stalled || stuck) {
        METRIC_ADD(&c->gw->metrics, connections_timed_out_total, 1);
        conn_abort(c);
    } else if (conn_is_hog(c)) {
        METRIC_ADD(&c->gw->metrics, connections_overrun_total, 1);
        conn_abort(c);
    } else if (c->state == CONN_OPEN || (c->ops->flush && !c->shut)) {
        c->ops->check_time(c, now_ms);
    }
}
