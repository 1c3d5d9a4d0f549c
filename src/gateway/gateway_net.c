#include "gateway/gateway_net.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

enum {
    BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */
    /* As Redis has it; an idle client may stay for ever. */
    REDIS_KEEPALIVE_S = 300,
    /* A second's sweep is done in parts, so that none of them holds a turn up for long. */
    SWEEP_PARTS = 4,
    SWEEP_PARTS_BUSY = 20,
    SWEEP_BUSY_COUNT = 4000, /* connections with something unfinished that make it busy */
    /* Of each port, when there is no room for one more client, who is to be told so. */
    HANDSHAKES_BEYOND = 8,
};

struct gateway_net {
    struct loop *loop;
    struct gateway *gw; /* NULL once stopped */
    struct listener *listeners[GATEWAY_PORT_COUNT];
    struct tls_acceptor *acceptors[GATEWAY_PORT_COUNT]; /* of those over TLS */
    struct timer *sweep;
    struct timer *drain_limit;
    struct waker *waker;
    void (*drained)(void *ctx);
    void *drained_ctx;
    bool drain_over;
};

static uint64_t env_now_ms(void *env) {
    return loop_turn_ms(env);
}
static uint64_t env_wall_ms(void *env) {
    return loop_turn_wall_ms(env);
}
static uint64_t env_now_us(void *env) {
    (void)env;
    return loop_now_ns() / 1000;
}

struct gateway_env gateway_net_env(struct loop *l) {
    return (struct gateway_env){
        .now_ms = env_now_ms, .wall_ms = env_wall_ms, .now_us = env_now_us, .env = l};
}

/* A client goes before those that may become one. */
static void make_room(struct gateway_net *n) {
    for (size_t i = 0; i < GATEWAY_PORT_COUNT && !gateway_has_room(n->gw); i++)
        if (n->acceptors[i])
            (void)tls_acceptor_drop_oldest(n->acceptors[i]);
}

static void on_http(void *ctx, struct stream *s) {
    struct gateway_net *n = ctx;
    make_room(n);
    gateway_add_http(n->gw, s);
}
static void on_redis(void *ctx, struct stream *s) {
    struct gateway_net *n = ctx;
    make_room(n);
    gateway_add_redis(n->gw, s);
}

/* TCP connections, whose handshakes come first. */
static void shake_hands(struct gateway_net *n, struct tls_acceptor *a, struct stream *s) {
    if (!gateway_has_room(n->gw) && tls_acceptor_count(a) >= HANDSHAKES_BEYOND)
        (void)tls_acceptor_drop_oldest(a);
    gateway_count_handshakes(n->gw, 1);
    tls_acceptor_take(a, s);
}
static void on_https(void *ctx, struct stream *s) {
    struct gateway_net *n = ctx;
    shake_hands(n, n->acceptors[GATEWAY_HTTPS], s);
}
static void on_rediss(void *ctx, struct stream *s) {
    struct gateway_net *n = ctx;
    shake_hands(n, n->acceptors[GATEWAY_REDISS], s);
}

static void count_handshake(struct gateway_net *n, const struct stream *s) {
    gateway_count_handshakes(n->gw, -1);
    METRIC_ADD(&n->gw->metrics, tls_handshakes_total, 1);
    METRIC_ADD(&n->gw->metrics, tls_resumed_total, tls_resumed(s));
}
static void on_tls_http(void *ctx, struct stream *s) {
    count_handshake(ctx, s);
    on_http(ctx, s);
}
static void on_tls_redis(void *ctx, struct stream *s) {
    count_handshake(ctx, s);
    on_redis(ctx, s);
}
static void on_tls_failure(void *ctx, const char *reason) {
    struct gateway_net *n = ctx;
    gateway_count_handshakes(n->gw, -1);
    METRIC_ADD(&n->gw->metrics, tls_handshakes_failed_total, 1);
    log_debug("tls-handshake-failed", "reason=%s", log_quote(slice_str(reason)));
}

static const struct {
    accept_fn on_accept;
    void (*on_stream)(void *ctx, struct stream *s); /* over TLS; NULL: plain */
    const char *alpn;
    int keepalive_s; /* of TCP; 0: none, all connections have time limits */
} ports[GATEWAY_PORT_COUNT] = {
    [GATEWAY_HTTP] = {on_http, NULL, NULL, 0},
    [GATEWAY_REDIS] = {on_redis, NULL, NULL, REDIS_KEEPALIVE_S},
    [GATEWAY_HTTPS] = {on_https, on_tls_http, "h2,http/1.1", 0},
    [GATEWAY_REDISS] = {on_rediss, on_tls_redis, "", REDIS_KEEPALIVE_S},
};

static void check_drained(struct gateway_net *n) {
    if (!n->drained || (!gateway_is_drained(n->gw) && !n->drain_over))
        return;
    void (*fn)(void *) = n->drained;
    n->drained = NULL;
    fn(n->drained_ctx);
}

static void on_turn_end(void *ctx) {
    struct gateway_net *n = ctx;
    gateway_turn_end(n->gw);
    check_drained(n);
}

static void on_sweep(void *ctx) {
    struct gateway_net *n = ctx;
    bool busy = n->gw->busy_count > SWEEP_BUSY_COUNT || n->gw->draining;
    uint32_t parts = busy ? SWEEP_PARTS_BUSY : SWEEP_PARTS;
    gateway_sweep_part(n->gw, parts);
    timer_set(n->sweep, loop_now_ms(n->loop) + 1000 / parts);
}

static void on_drain_limit(void *ctx) {
    struct gateway_net *n = ctx;
    n->drain_over = true; /* the turn's end says so */
}

static void on_wake(void *ctx) {
    (void)ctx; /* the turn's end does what there is to do */
}

static void wake(void *ctx) {
    struct gateway_net *n = ctx;
    waker_wake(n->waker);
}

static int listen_at(struct gateway_net *n, enum gateway_port which,
                     const struct gateway_net_options *o) {
    int backlog = o->backlog ? o->backlog : BACKLOG;
    struct address at;
    if (!o->addresses[which])
        return 0;
    if (!address_parse(o->addresses[which], &at))
        return -EINVAL;
    if (ports[which].on_stream) {
        const struct tls_acceptor_handler handler = {
            .on_stream = ports[which].on_stream, .on_failure = on_tls_failure, .ctx = n};
        CHECK(o->tls != NULL);
        n->acceptors[which] = tls_acceptor_new(n->loop, o->tls, ports[which].alpn,
                                               n->gw->options.http_head_timeout_ms, &handler);
    }
    return listener_new(n->loop, &at, true, backlog, ports[which].on_accept, n,
                        &n->listeners[which]);
}

static void stop_listening(struct gateway_net *n) {
    for (size_t i = 0; i < GATEWAY_PORT_COUNT; i++) {
        listener_free(n->listeners[i]);
        n->listeners[i] = NULL;
    }
}

static void stop_accepting(struct gateway_net *n) {
    stop_listening(n);
    for (size_t i = 0; i < GATEWAY_PORT_COUNT; i++) {
        while (n->acceptors[i] && tls_acceptor_drop_oldest(n->acceptors[i]))
            ;
        tls_acceptor_free(n->acceptors[i]);
        n->acceptors[i] = NULL;
    }
}

int gateway_net_new(struct loop *l, struct gateway *gw, const struct gateway_net_options *options,
                    struct gateway_net **ret_net) {
    struct gateway_net *n = xcalloc(1, sizeof *n);
    int rc = 0;
    n->loop = l;
    n->gw = gw;
    for (size_t i = 0; i < GATEWAY_PORT_COUNT && rc == 0; i++)
        rc = listen_at(n, (enum gateway_port)i, options);
    if (rc < 0) {
        stop_accepting(n);
        free(n);
        return rc;
    }
    for (size_t i = 0; i < GATEWAY_PORT_COUNT; i++)
        if (n->listeners[i])
            listener_set_keepalive(n->listeners[i], ports[i].keepalive_s);
    if (n->listeners[GATEWAY_REDIS])
        gw->options.redis_port = listener_port(n->listeners[GATEWAY_REDIS]);
    n->sweep = timer_new(l, on_sweep, n);
    timer_set(n->sweep, loop_now_ms(l) + 1000 / SWEEP_PARTS);
    n->drain_limit = timer_new(l, on_drain_limit, n);
    n->waker = waker_new(l, on_wake, n);
    gw->wake_ctx = n;
    gw->wake = wake;
    loop_on_turn_end(l, on_turn_end, n);
    *ret_net = n;
    return 0;
}

uint16_t gateway_net_port(const struct gateway_net *n, enum gateway_port which) {
    return n->listeners[which] ? listener_port(n->listeners[which]) : 0;
}

void gateway_net_drain(struct gateway_net *n, uint32_t time_limit_ms, void (*drained)(void *ctx),
                       void *ctx) {
    /* Who has connected is a client: closing the socket would reset those in its backlog. */
    for (size_t i = 0; i < GATEWAY_PORT_COUNT; i++)
        if (n->listeners[i])
            listener_accept_all(n->listeners[i]);
    stop_listening(n);
    gateway_drain(n->gw);
    timer_set(n->sweep, loop_now_ms(n->loop) + 1000 / SWEEP_PARTS_BUSY);
    n->drained = drained;
    n->drained_ctx = ctx;
    timer_set(n->drain_limit, loop_now_ms(n->loop) + time_limit_ms);
}

void gateway_net_stop(struct gateway_net *n) {
    stop_accepting(n);
    timer_free(n->sweep);
    timer_free(n->drain_limit);
    gateway_unwake(n->gw);
    waker_free(n->waker);
    loop_off_turn_end(n->loop, on_turn_end, n);
    n->gw = NULL;
}

void gateway_net_free(struct gateway_net *n) {
    CHECK(n->gw == NULL);
    free(n);
}
