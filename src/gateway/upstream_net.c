#include "gateway/upstream_net.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/log.h"
#include "net/tcp.h"
#include "net/tls_peer.h"

/* A database node that is gone without a word (its machine lost power) is noticed after this. */
enum {
    LINK_USER_TIMEOUT_MS = 3000,
    SAY_EVERY_MS = 10000, /* that a node refuses us, or we it */
    STOOD_MS = 1000,      /* a connection that stood for so long was taken by the node */
};

struct upstream_net {
    struct upstream *up;
    struct loop *loop;
    struct timer *timer;
    struct stream *(*connect_local)(void *ctx, struct loop *loop);
    void *ctx;
    struct tls_peer *tls;
    uint64_t say_at_ms;
    struct list fresh; /* local connections that stand but were not announced yet */
};

struct connection {
    struct upstream_net *net;
    struct upstream_link *link; /* NULL: the upstream has closed it */
    struct stream *stream;
    char address[300];
    uint64_t connected_ms; /* 0: not yet */
    struct list node;      /* in upstream_net.fresh */
};

static void on_read(void *ctx, struct slice bytes) {
    struct connection *c = ctx;
    if (c->link)
        upstream_on_bytes(c->link, bytes);
}

/* A node that cannot be reached is nothing to say; one that is there and does not fit is. */
static void say_refused(struct connection *c, const char *why) {
    struct upstream_net *n = c->net;
    uint64_t now = loop_now_ms(n->loop);
    if (!*why || now < n->say_at_ms || (c->connected_ms && now - c->connected_ms >= STOOD_MS))
        return;
    n->say_at_ms = now + SAY_EVERY_MS;
    log_warn("link-refused", "node=%s reason=%s", log_quote(slice_str(c->address)),
             log_quote(slice_str(why)));
}

static void on_close(void *ctx, int error) {
    struct connection *c = ctx;
    list_remove(&c->node);
    if (c->link)
        say_refused(c, tls_peer_refusal(c->stream));
    if (c->link)
        upstream_on_closed(c->link);
    free(c);
}

static const struct stream_handler handler = {.on_read = on_read, .on_close = on_close};

static void on_connect(void *ctx, struct stream *s) {
    struct connection *c = ctx;
    (void)s;
    c->connected_ms = loop_now_ms(c->net->loop);
    if (c->link)
        upstream_on_connected(c->link);
}

static struct stream *connect_node(struct connection *c) {
    struct upstream_net *n = c->net;
    struct stream *s =
        tcp_connect(n->loop, c->address, LINK_USER_TIMEOUT_MS, n->tls ? NULL : on_connect, c);
    return n->tls ? tls_peer_connect(n->tls, s, c->address, on_connect, c) : s;
}

static uint64_t env_now_ms(void *env) {
    return loop_turn_ms(((struct upstream_net *)env)->loop);
}

static void env_random(void *env, void *out, size_t size) {
    /* Up to 256 bytes come whole (getrandom(2)); session ids must not be guessable or repeat. */
    CHECK(size <= 256);
    CHECK(getrandom(out, size, 0) == (ssize_t)size);
}

static void *env_connect(void *env, const char *address, struct upstream_link *link) {
    struct upstream_net *n = env;
    struct connection *c = xcalloc(1, sizeof *c);
    *c = (struct connection){.net = n, .link = link};
    snprintf(c->address, sizeof c->address, "%s", address);
    list_init(&c->node);
    if (strcmp(address, "local") != 0) {
        c->stream = connect_node(c);
    } else {
        c->stream = n->connect_local ? n->connect_local(n->ctx, n->loop) : NULL;
        /* It stands already, but the upstream must not hear of it before this call returns. */
        if (c->stream)
            list_push_back(&n->fresh, &c->node);
    }
    if (!c->stream) {
        free(c);
        return NULL;
    }
    stream_set_handler(c->stream, &handler, c);
    stream_write(c->stream, slice_str(LINK_PREFACE));
    return c;
}

static void env_send(void *env, void *handle, struct slice bytes) {
    struct connection *c = handle;
    stream_write(c->stream, bytes);
}

static void env_close(void *env, void *handle) {
    struct connection *c = handle;
    c->link = NULL;
    list_remove(&c->node);
    stream_close(c->stream);
}

static void env_node_clocks(void *env, uint64_t *ret_now_ms, uint64_t *ret_wall_ms) {
    *ret_wall_ms = loop_wall_ms();
    *ret_now_ms =
        loop_now_ms(((struct upstream_net *)env)->loop); /* all loops of a process have one clock */
}

static const struct upstream_env_ops ops = {
    .node_clocks = env_node_clocks,
    .now_ms = env_now_ms,
    .random = env_random,
    .connect = env_connect,
    .send = env_send,
    .close = env_close,
};

static void on_turn_end(void *ctx) {
    struct upstream_net *n = ctx;
    struct list *first;
    while ((first = list_first(&n->fresh))) {
        struct connection *c = LIST_ENTRY(first, struct connection, node);
        list_remove(first);
        upstream_on_connected(c->link);
    }
    upstream_flush(n->up);
    timer_set(n->timer, upstream_deadline_ms(n->up));
}

static void on_timer(void *ctx) {
    upstream_tick(((struct upstream_net *)ctx)->up);
}

struct upstream_net *upstream_net_new(struct loop *loop,
                                      const struct upstream_net_options *options) {
    struct upstream_net *n = xcalloc(1, sizeof *n);
    n->loop = loop;
    n->connect_local = options->connect_local;
    n->ctx = options->ctx;
    n->tls = options->tls;
    list_init(&n->fresh);
    n->timer = timer_new(loop, on_timer, n);
    n->up = upstream_new(&options->upstream, &ops, n);
    loop_on_turn_last(loop, on_turn_end, n);
    return n;
}

void upstream_net_free(struct upstream_net *n) {
    loop_off_turn_end(n->loop, on_turn_end, n);
    upstream_free(n->up);
    timer_free(n->timer);
    free(n);
}

struct upstream *upstream_net_upstream(struct upstream_net *n) {
    return n->up;
}
