#include <stdlib.h>

#include "base/list.h"
#include "net/tls.h"

struct handshake {
    struct tls_acceptor *acceptor;
    struct stream *stream;
    struct list node; /* in acceptor.pending */
    uint64_t until_ms;
};

struct tls_acceptor {
    struct loop *loop;
    struct tls_server *server;
    const char *alpn;
    uint32_t time_limit_ms;
    struct tls_acceptor_handler handler;
    struct list pending; /* of struct handshake, oldest first: all have equally long */
    size_t count;
    struct timer *timer;
};

static void forget(struct handshake *h) {
    h->acceptor->count--;
    list_remove(&h->node);
    free(h);
}

static void on_ready(void *ctx, struct stream *s) {
    struct handshake *h = ctx;
    struct tls_acceptor *a = h->acceptor;
    forget(h);
    stream_set_handler(s, NULL, NULL);
    a->handler.on_stream(a->handler.ctx, s);
}

/* Nothing is read before the handshake is done. */
static void on_read(void *ctx, struct slice bytes) {
    (void)ctx;
    CHECK(bytes.size == 0);
}

static void on_close(void *ctx, int error) {
    struct handshake *h = ctx;
    struct tls_acceptor *a = h->acceptor;
    const char *why = tls_failure(h->stream);
    (void)error;
    forget(h);
    a->handler.on_failure(a->handler.ctx, *why ? why : "the connection ended");
}

static const struct stream_handler pending_handler = {.on_read = on_read, .on_close = on_close};

/* Not in time, or too many: nobody hears of it further. */
static void give_up(struct handshake *h, const char *why) {
    struct tls_acceptor *a = h->acceptor;
    struct stream *s = h->stream;
    forget(h);
    stream_set_handler(s, NULL, NULL);
    stream_close(s);
    a->handler.on_failure(a->handler.ctx, why);
}

static void on_timer(void *ctx) {
    struct tls_acceptor *a = ctx;
    uint64_t now_ms = loop_now_ms(a->loop);
    LIST_FOREACH_SAFE (it, &a->pending) {
        struct handshake *h = LIST_ENTRY(it, struct handshake, node);
        if (h->until_ms > now_ms) {
            timer_set(a->timer, h->until_ms);
            return;
        }
        give_up(h, "the handshake took too long");
    }
}

struct tls_acceptor *tls_acceptor_new(struct loop *l, struct tls_server *s, const char *alpn,
                                      uint32_t time_limit_ms,
                                      const struct tls_acceptor_handler *handler) {
    struct tls_acceptor *a = xcalloc(1, sizeof *a);
    a->loop = l;
    a->server = s;
    a->alpn = alpn;
    a->time_limit_ms = time_limit_ms;
    a->handler = *handler;
    list_init(&a->pending);
    a->timer = timer_new(l, on_timer, a);
    return a;
}

bool tls_acceptor_drop_oldest(struct tls_acceptor *a) {
    struct list *first = list_first(&a->pending);
    if (first)
        give_up(LIST_ENTRY(first, struct handshake, node), "too many handshakes at once");
    return first != NULL;
}

void tls_acceptor_take(struct tls_acceptor *a, struct stream *below) {
    struct handshake *h = xcalloc(1, sizeof *h);
    if (a->count >= TLS_HANDSHAKES_MAX)
        tls_acceptor_drop_oldest(a);
    h->acceptor = a;
    h->until_ms = loop_now_ms(a->loop) + a->time_limit_ms;
    if (list_empty(&a->pending))
        timer_set(a->timer, h->until_ms);
    list_push_back(&a->pending, &h->node);
    a->count++;
    h->stream = tls_accept(a->server, below, a->alpn, on_ready, h);
    stream_set_handler(h->stream, &pending_handler, h);
}

size_t tls_acceptor_count(const struct tls_acceptor *a) {
    return a->count;
}

void tls_acceptor_free(struct tls_acceptor *a) {
    if (!a)
        return;
    LIST_FOREACH_SAFE (it, &a->pending) {
        struct handshake *h = LIST_ENTRY(it, struct handshake, node);
        stream_set_handler(h->stream, NULL, NULL);
        stream_close(h->stream);
        forget(h);
    }
    timer_free(a->timer);
    free(a);
}
