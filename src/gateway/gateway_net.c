#include "gateway/gateway_net.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { SWEEP_MS = 1000, BACKLOG = 1024 };

struct gateway_net {
    struct loop *loop;
    struct gateway *gw; /* NULL once stopped */
    struct listener *http, *redis;
    struct timer *sweep;
    struct timer *drain_limit;
    void (*drained)(void *ctx);
    void *drained_ctx;
    bool drain_over;
};

static uint64_t clock_ms(clockid_t id) {
    struct timespec now;
    CHECK(clock_gettime(id, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
static uint64_t real_now_ms(void *env) {
    (void)env;
    return clock_ms(CLOCK_MONOTONIC);
}
static uint64_t real_wall_ms(void *env) {
    (void)env;
    return clock_ms(CLOCK_REALTIME);
}
const struct gateway_env gateway_real_env = {.now_ms = real_now_ms, .wall_ms = real_wall_ms};

static void on_http(void *ctx, struct stream *s) {
    struct gateway_net *n = ctx;
    gateway_add_http(n->gw, s);
}
static void on_redis(void *ctx, struct stream *s) {
    struct gateway_net *n = ctx;
    gateway_add_redis(n->gw, s);
}

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
    gateway_sweep(n->gw);
    timer_set(n->sweep, loop_now_ms(n->loop) + SWEEP_MS);
}

static void on_drain_limit(void *ctx) {
    struct gateway_net *n = ctx;
    n->drain_over = true; /* the turn's end says so */
}

static int listen_at(struct gateway_net *n, const char *text, int backlog, accept_fn fn,
                     struct listener **ret_listener) {
    struct address at;
    if (!text)
        return 0;
    if (!address_parse(text, &at))
        return -EINVAL;
    return listener_new(n->loop, &at, true, backlog, fn, n, ret_listener);
}

static void stop_listening(struct gateway_net *n) {
    if (n->http)
        listener_free(n->http);
    if (n->redis)
        listener_free(n->redis);
    n->http = n->redis = NULL;
}

int gateway_net_new(struct loop *l, struct gateway *gw, const struct gateway_net_options *options,
                    struct gateway_net **ret_net) {
    struct gateway_net *n = xcalloc(1, sizeof *n);
    int backlog = options->backlog ? options->backlog : BACKLOG;
    n->loop = l;
    n->gw = gw;
    int rc = listen_at(n, options->http_address, backlog, on_http, &n->http);
    if (rc == 0)
        rc = listen_at(n, options->redis_address, backlog, on_redis, &n->redis);
    if (rc < 0) {
        stop_listening(n);
        free(n);
        return rc;
    }
    if (n->redis)
        gw->options.redis_port = listener_port(n->redis);
    n->sweep = timer_new(l, on_sweep, n);
    timer_set(n->sweep, loop_now_ms(l) + SWEEP_MS);
    n->drain_limit = timer_new(l, on_drain_limit, n);
    loop_on_turn_end(l, on_turn_end, n);
    *ret_net = n;
    return 0;
}

uint16_t gateway_net_http_port(const struct gateway_net *n) {
    return n->http ? listener_port(n->http) : 0;
}
uint16_t gateway_net_redis_port(const struct gateway_net *n) {
    return n->redis ? listener_port(n->redis) : 0;
}

void gateway_net_drain(struct gateway_net *n, uint32_t time_limit_ms, void (*drained)(void *ctx),
                       void *ctx) {
    stop_listening(n);
    gateway_drain(n->gw);
    n->drained = drained;
    n->drained_ctx = ctx;
    timer_set(n->drain_limit, loop_now_ms(n->loop) + time_limit_ms);
}

void gateway_net_stop(struct gateway_net *n) {
    stop_listening(n);
    timer_free(n->sweep);
    timer_free(n->drain_limit);
    loop_off_turn_end(n->loop, on_turn_end, n);
    n->gw = NULL;
}

void gateway_net_free(struct gateway_net *n) {
    CHECK(n->gw == NULL);
    free(n);
}
