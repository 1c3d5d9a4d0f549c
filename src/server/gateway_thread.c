#include "server/gateway_thread.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

struct gateway_thread {
    struct loop *loop;
    bool own_loop;
    struct upstream_net *upstream;
    struct gateway *gateway;
    struct gateway_net *net;
    struct waker *drain_waker;
    uint32_t time_limit_ms;
    pthread_t thread;
    bool running;
    sem_t closed; /* posted on somebody else's loop, when nothing is left on it */
};

static void close_all(struct gateway_thread *t) {
    if (t->net)
        gateway_net_stop(t->net);
    gateway_free(t->gateway);
    upstream_net_free(t->upstream);
    waker_free(t->drain_waker);
    if (t->net)
        gateway_net_free(t->net);
    if (!t->own_loop)
        return; /* what was closed goes with the loop's next turns */
    loop_drain(t->loop);
    loop_free(t->loop);
}

static void on_drained(void *ctx) {
    struct gateway_thread *t = ctx;
    if (t->own_loop) {
        loop_stop(t->loop);
    } else {
        close_all(t);
        sem_post(&t->closed);
    }
}

static void on_drain(void *ctx) {
    struct gateway_thread *t = ctx;
    gateway_net_drain(t->net, __atomic_load_n(&t->time_limit_ms, __ATOMIC_ACQUIRE), on_drained, t);
}

int gateway_thread_new(const struct gateway_thread_options *o, struct gateway_thread **ret) {
    struct gateway_thread *t = xcalloc(1, sizeof *t);
    t->own_loop = !o->loop;
    t->loop = o->loop;
    int rc = t->own_loop ? loop_new(&t->loop) : 0;
    if (rc < 0) {
        free(t);
        return rc;
    }
    CHECK(sem_init(&t->closed, 0, 0) == 0);
    t->upstream = upstream_net_new(t->loop, &o->upstream);
    const struct gateway_env env = gateway_net_env(t->loop);
    t->gateway = gateway_new(&o->gateway, &env, o->shared, upstream_net_upstream(t->upstream));
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

uint16_t gateway_thread_port(const struct gateway_thread *t, enum gateway_port which) {
    return gateway_net_port(t->net, which);
}

static void *gateway_main(void *arg) {
    struct gateway_thread *t = arg;
    loop_run(t->loop);
    close_all(t);
    return NULL;
}

void gateway_thread_start(struct gateway_thread *t, int number) {
    char name[16];
    t->running = true;
    if (!t->own_loop)
        return;
    int rc = pthread_create(&t->thread, NULL, gateway_main, t);
    CHECK(rc == 0);
    snprintf(name, sizeof name, "gateway-%d", number);
    pthread_setname_np(t->thread, name);
}

void gateway_thread_drain(struct gateway_thread *t, uint32_t time_limit_ms) {
    __atomic_store_n(&t->time_limit_ms, time_limit_ms, __ATOMIC_RELEASE);
    waker_wake(t->drain_waker);
}

void gateway_thread_free(struct gateway_thread *t) {
    if (!t->running)
        close_all(t);
    else if (t->own_loop)
        pthread_join(t->thread, NULL);
    else
        while (sem_wait(&t->closed) < 0)
            CHECK(errno == EINTR);
    sem_destroy(&t->closed);
    free(t);
}
