#include "server/gateway_thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct gateway_thread {
    struct loop *loop;
    struct upstream_net *upstream;
    struct gateway *gateway;
    struct gateway_net *net;
    struct waker *drain_waker;
    uint32_t time_limit_ms;
    pthread_t thread;
    bool running;
};

static void on_drained(void *ctx) {
    loop_stop(((struct gateway_thread *)ctx)->loop);
}

static void on_drain(void *ctx) {
    struct gateway_thread *t = ctx;
    gateway_net_drain(t->net, __atomic_load_n(&t->time_limit_ms, __ATOMIC_ACQUIRE), on_drained, t);
}

static void close_all(struct gateway_thread *t) {
    if (t->net)
        gateway_net_stop(t->net);
    gateway_free(t->gateway);
    upstream_net_free(t->upstream);
    waker_free(t->drain_waker);
    loop_drain(t->loop);
    loop_free(t->loop);
    if (t->net)
        gateway_net_free(t->net);
}

int gateway_thread_new(const struct gateway_thread_options *o, struct gateway_thread **ret) {
    struct gateway_thread *t = xcalloc(1, sizeof *t);
    int rc = loop_new(&t->loop);
    if (rc < 0) {
        free(t);
        return rc;
    }
    t->upstream = upstream_net_new(t->loop, &o->upstream);
    t->gateway =
        gateway_new(&o->gateway, &gateway_real_env, o->shared, upstream_net_upstream(t->upstream));
    t->drain_waker = waker_new(t->loop, on_drain, t);
    rc = gateway_net_new(t->loop, t->gateway, &o->net, &t->net);
    if (rc < 0) {
        t->net = NULL;
        close_all(t);
        free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

uint16_t gateway_thread_http_port(const struct gateway_thread *t) {
    return gateway_net_http_port(t->net);
}

uint16_t gateway_thread_redis_port(const struct gateway_thread *t) {
    return gateway_net_redis_port(t->net);
}

static void *gateway_main(void *arg) {
    struct gateway_thread *t = arg;
    loop_run(t->loop);
    close_all(t);
    return NULL;
}

void gateway_thread_start(struct gateway_thread *t, int number) {
    char name[16];
    int rc = pthread_create(&t->thread, NULL, gateway_main, t);
    CHECK(rc == 0);
    snprintf(name, sizeof name, "gateway-%d", number);
    pthread_setname_np(t->thread, name);
    t->running = true;
}

void gateway_thread_drain(struct gateway_thread *t, uint32_t time_limit_ms) {
    __atomic_store_n(&t->time_limit_ms, time_limit_ms, __ATOMIC_RELEASE);
    waker_wake(t->drain_waker);
}

void gateway_thread_free(struct gateway_thread *t) {
    if (t->running)
        pthread_join(t->thread, NULL);
    else
        close_all(t);
    free(t);
}
