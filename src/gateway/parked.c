#include "gateway/parked.h"

#include <stdlib.h>

/* Refused clients that we wait for at one time, in a gateway: each is a descriptor of those that
 * are kept back (server.c). */
enum { REFUSALS_MAX = 16 };

/* How long a client may hold its end up, which would need it to refuse a refusal. */
enum { LEAVING_MS = 5000 };

static void parked_count(struct parked *p, int more) {
    gateway_count_clients(p->gw, more);
    if (p->ops) {
        METRIC_ADD(&p->gw->metrics, connections_http, more);
        METRIC_ADD(&p->gw->metrics, connections_parked, more);
    } else {
        p->gw->refusal_count += (uint32_t)more;
    }
}

/* The stream has been taken away, or has ended. */
static void parked_free(struct parked *p) {
    list_remove(&p->node);
    parked_count(p, -1);
    pool_free(&p->gw->parkeds, p);
}

static void parked_gone(struct parked *p) {
    if (p->ops)
        gateway_client_left(p->gw, p->stream);
    parked_free(p);
}

static void parked_on_read(void *ctx, struct slice bytes) {
    struct parked *p = ctx;
    struct stream *s = p->stream;
    struct conn *c = p->ops->revive(p->gw, s);
    c->write_index = p->write_index;
    c->requests = p->requests;
    parked_free(p);
    s->handler->on_read(s->ctx, bytes);
}

/* Nobody waits for an answer, so nothing has to be said. */
static void parked_close(struct parked *p) {
    p->since_ms = (uint32_t)gateway_now_ms(p->gw);
    list_remove(&p->node);
    list_push_back(&p->gw->leaving, &p->node);
    stream_shutdown(p->stream);
}

static void parked_on_eof(void *ctx) {
    parked_close(ctx);
}

static void parked_on_close(void *ctx, int error) {
    struct parked *p = ctx;
    (void)error; /* a client may go away in any way it likes */
    parked_gone(p);
}

static const struct stream_handler parked_handler = {
    .on_read = parked_on_read,
    .on_eof = parked_on_eof,
    .on_close = parked_on_close,
};

static struct parked *parked_make(struct gateway *gw, const struct conn_ops *ops,
                                  struct stream *s) {
    struct parked *p = pool_alloc(&gw->parkeds);
    *p = (struct parked){.gw = gw, .stream = s, .ops = ops};
    list_init(&p->node);
    parked_count(p, 1);
    stream_set_handler(s, &parked_handler, p);
    return p;
}

void parked_new(struct gateway *gw, const struct conn_ops *ops, struct stream *s) {
    struct parked *p = parked_make(gw, ops, s);
    p->since_ms = (uint32_t)gateway_now_ms(gw);
    list_push_back(&gw->fresh, &p->node);
}

void parked_take_over(struct conn *c) {
    struct parked *p = parked_make(c->gw, c->ops, c->stream);
    p->write_index = c->write_index;
    p->requests = c->requests;
    p->since_ms = (uint32_t)c->active_ms;
    list_push_back(&c->gw->parked, &p->node);
    c->stream = NULL;
    conn_free(c);
}

void parked_refuse(struct gateway *gw, struct stream *s, struct slice answer) {
    if (gw->refusal_count >= REFUSALS_MAX) {
        stream_set_handler(s, &conn_nobody, NULL);
        stream_write(s, answer);
        stream_close(s);
        return;
    }
    struct parked *p = parked_make(gw, NULL, s);
    stream_write(s, answer);
    parked_close(p);
}

static uint32_t idle_ms(const struct parked *p, uint64_t now_ms) {
    return (uint32_t)now_ms - p->since_ms;
}

static void sweep_list(struct list *list, uint64_t now_ms, uint32_t limit_ms, uint32_t most) {
    struct list *first;
    while (most-- > 0 && (first = list_first(list)) != NULL) {
        struct parked *p = LIST_ENTRY(first, struct parked, node);
        if (idle_ms(p, now_ms) < limit_ms)
            break;
        METRIC_ADD(&p->gw->metrics, connections_timed_out_total, 1);
        parked_close(p);
    }
}

void parked_sweep(struct gateway *gw, uint64_t now_ms, uint32_t most) {
    uint32_t limit_ms = gw->options.http_idle_timeout_ms;
    sweep_list(&gw->fresh, now_ms, limit_ms, most);
    sweep_list(&gw->parked, now_ms, limit_ms, most);
    struct list *first;
    while (most-- > 0 && (first = list_first(&gw->leaving)) != NULL) {
        struct parked *p = LIST_ENTRY(first, struct parked, node);
        if (idle_ms(p, now_ms) < LEAVING_MS)
            break;
        list_remove(&p->node);
        list_push_back(&gw->leaving, &p->node);
        p->since_ms = (uint32_t)now_ms;
        stream_close(p->stream);
    }
}

static void drain_list(struct list *list, uint64_t now_ms, uint32_t limit_ms) {
    LIST_FOREACH_SAFE (it, list) {
        struct parked *p = LIST_ENTRY(it, struct parked, node);
        if (idle_ms(p, now_ms) < limit_ms)
            break; /* the list is in this order */
        parked_close(p);
    }
}

void parked_drain(struct gateway *gw, uint64_t now_ms, uint32_t limit_ms) {
    drain_list(&gw->fresh, now_ms, limit_ms);
    drain_list(&gw->parked, now_ms, limit_ms);
}

static void free_list(struct list *list) {
    struct list *first;
    while ((first = list_first(list)) != NULL) {
        struct parked *p = LIST_ENTRY(first, struct parked, node);
        stream_set_handler(p->stream, &conn_nobody, NULL);
        stream_close(p->stream);
        parked_gone(p);
    }
}

void parked_free_all(struct gateway *gw) {
    free_list(&gw->fresh);
    free_list(&gw->parked);
    free_list(&gw->leaving);
}
