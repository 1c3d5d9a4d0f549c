#include "net/loop.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "net/loop_uv.h"
#include "net/tcp_uv.h"

enum {
    /* libuv handles all input that is there before it runs timers and hooks. What some of it led to
     * must not wait for all: the hooks run in between, after so many bytes, a read counting as
     * READ_BYTES more. That is 64 small reads, which are answered while what the kernel has of
     * their connections is still in the processor's cache, or a few milliseconds of large ones. */
    TURN_BYTES = 1 << 20,
    READ_BYTES = 16384,
    PAIR_ROUNDS = 64, /* between the ends of pairs, before other input has its turn */
};

struct loop_signal {
    uv_signal_t uv;
    struct list node; /* in loop.signals */
    void (*fn)(void *ctx, int signum);
    void *ctx;
};

/* A hook may add hooks and take them back, so the array may move and nothing moves in it. */
static void run_all(struct loop_hooks *hooks) {
    for (size_t i = 0; i < hooks->count; i++)
        if (hooks->items[i].fn)
            hooks->items[i].fn(hooks->items[i].ctx);
}

static void run_hooks_once(struct loop *l) {
    run_all(&l->hooks);
    run_all(&l->last_hooks);
}

static void on_again(uv_idle_t *handle) {
    (void)handle;
}

/* What the hooks wrote to pairs is handed on, and the hooks run again, until nothing is left. */
static void run_hooks(struct loop *l) {
    run_hooks_once(l);
    for (int round = 0; round < PAIR_ROUNDS && pairs_deliver(l); round++)
        run_hooks_once(l);
    if (list_empty(&l->due))
        uv_idle_stop(&l->again);
    else
        uv_idle_start(&l->again, on_again);
    l->input = 0;
    l->turn_ms = l->turn_wall_ms = 0;
}

void loop_breathe(struct loop *l, size_t bytes) {
    l->input += READ_BYTES + bytes;
    if (l->input > TURN_BYTES)
        run_hooks(l);
}

/* libuv runs prepare handles right before it polls: behind the timers of this turn and behind the
 * input, wakers and closing callbacks of the turn before, which is all there was to gather. */
static void on_prepare(uv_prepare_t *handle) {
    run_hooks(handle->data);
}

int loop_new(struct loop **ret_loop) {
    /* A peer that has gone is an error of the write, not a reason to die. */
    signal(SIGPIPE, SIG_IGN);
    struct loop *l = xcalloc(1, sizeof *l);
    int r = uv_loop_init(&l->uv);
    if (r < 0) {
        free(l);
        return r;
    }
    list_init(&l->signals);
    list_init(&l->lingering);
    pool_init(&l->streams, sizeof(struct tcp_stream));
    list_init(&l->due);
    uv_idle_init(&l->uv, &l->again);
    l->turn_end.data = l;
    uv_prepare_init(&l->uv, &l->turn_end);
    uv_prepare_start(&l->turn_end, on_prepare);
    l->linger_timer.data = l;
    uv_timer_init(&l->uv, &l->linger_timer);
    /* The streams that wait for it keep the loop going, not the timer. */
    uv_unref((uv_handle_t *)&l->linger_timer);
    *ret_loop = l;
    return 0;
}

static void on_signal_closed(uv_handle_t *handle) {
    struct loop_signal *s = handle->data;
    list_remove(&s->node);
    free(s);
}

void loop_free(struct loop *l) {
    LIST_FOREACH (it, &l->signals) {
        struct loop_signal *s = LIST_ENTRY(it, struct loop_signal, node);
        uv_close((uv_handle_t *)&s->uv, on_signal_closed);
    }
    uv_prepare_stop(&l->turn_end);
    uv_close((uv_handle_t *)&l->turn_end, NULL);
    uv_close((uv_handle_t *)&l->again, NULL);
    uv_close((uv_handle_t *)&l->linger_timer, NULL);
    while (uv_run(&l->uv, UV_RUN_DEFAULT) != 0)
        ;
    CHECK(uv_loop_close(&l->uv) == 0);
    pool_fini(&l->streams);
    free(l->hooks.items);
    free(l->last_hooks.items);
    free(l);
}

void loop_run(struct loop *l) {
    /* The prepare handle counts as active, so uv_run() returns for uv_stop() only; that may be one
     * of an earlier run's last turn. */
    while (!l->stop)
        uv_run(&l->uv, UV_RUN_DEFAULT);
    /* The turn that stopped the loop ends as every other. */
    run_hooks(l);
    l->stop = false;
}

void loop_stop(struct loop *l) {
    l->stop = true;
    uv_stop(&l->uv);
}

void loop_drain(struct loop *l) {
    uv_unref((uv_handle_t *)&l->turn_end);
    do {
        while (uv_run(&l->uv, UV_RUN_DEFAULT) != 0)
            ;
    } while (pairs_deliver(l));
    uv_ref((uv_handle_t *)&l->turn_end);
}

uint64_t loop_now_ms(struct loop *l) {
    return uv_hrtime() / 1000000;
}

uint64_t loop_turn_ms(struct loop *l) {
    if (l->turn_ms == 0)
        l->turn_ms = loop_now_ms(l);
    return l->turn_ms;
}

uint64_t loop_wall_ms(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t loop_turn_wall_ms(struct loop *l) {
    if (l->turn_wall_ms == 0)
        l->turn_wall_ms = loop_wall_ms();
    return l->turn_wall_ms;
}

static void hook_add(struct loop_hooks *hooks, void (*fn)(void *ctx), void *ctx) {
    hooks->items = xrealloc(hooks->items, (hooks->count + 1) * sizeof *hooks->items);
    hooks->items[hooks->count++] = (struct loop_hook){.fn = fn, .ctx = ctx};
}

static void hook_remove(struct loop_hooks *hooks, void (*fn)(void *ctx), const void *ctx) {
    for (size_t i = 0; i < hooks->count; i++)
        if (hooks->items[i].fn == fn && hooks->items[i].ctx == ctx)
            hooks->items[i].fn = NULL;
}

void loop_on_turn_end(struct loop *l, void (*fn)(void *ctx), void *ctx) {
    hook_add(&l->hooks, fn, ctx);
}

void loop_on_turn_last(struct loop *l, void (*fn)(void *ctx), void *ctx) {
    hook_add(&l->last_hooks, fn, ctx);
}

void loop_off_turn_end(struct loop *l, void (*fn)(void *ctx), void *ctx) {
    hook_remove(&l->hooks, fn, ctx);
    hook_remove(&l->last_hooks, fn, ctx);
}

/* ---- timers ---- */

struct timer {
    uv_timer_t uv;
    struct loop *loop;
    uint64_t at_ms; /* UINT64_MAX: not set */
    void (*fn)(void *ctx);
    void *ctx;
};

static void on_timer(uv_timer_t *handle);

static void timer_arm(struct timer *t) {
    uint64_t now = loop_now_ms(t->loop);
    /* libuv counts from the time it noted at the start of the turn. */
    uv_update_time(&t->loop->uv);
    uv_timer_start(&t->uv, on_timer, t->at_ms > now ? t->at_ms - now : 0, 0);
}

static void on_timer(uv_timer_t *handle) {
    struct timer *t = handle->data;
    /* libuv's clock is a coarse one and can be ahead of ours by part of a millisecond. */
    if (loop_now_ms(t->loop) < t->at_ms) {
        timer_arm(t);
        return;
    }
    t->at_ms = UINT64_MAX;
    t->loop->turn_ms = 0; /* what it was set for has come */
    t->fn(t->ctx);
}

struct timer *timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx) {
    struct timer *t = xcalloc(1, sizeof *t);
    uv_timer_init(&l->uv, &t->uv);
    t->uv.data = t;
    t->loop = l;
    t->at_ms = UINT64_MAX;
    t->fn = fn;
    t->ctx = ctx;
    return t;
}

void timer_set(struct timer *t, uint64_t at_ms) {
    if (at_ms == t->at_ms)
        return;
    t->at_ms = at_ms;
    if (at_ms == UINT64_MAX)
        uv_timer_stop(&t->uv);
    else
        timer_arm(t);
}

static void on_closed_free(uv_handle_t *handle) {
    free(handle->data);
}

void timer_free(struct timer *t) {
    if (t)
        uv_close((uv_handle_t *)&t->uv, on_closed_free);
}

/* ---- wakers ---- */

struct waker {
    uv_async_t uv;
    void (*fn)(void *ctx);
    void *ctx;
};

static void on_wake(uv_async_t *handle) {
    struct waker *w = handle->data;
    w->fn(w->ctx);
}

struct waker *waker_new(struct loop *l, void (*fn)(void *ctx), void *ctx) {
    struct waker *w = xcalloc(1, sizeof *w);
    /* Fails only for want of descriptors for the loop's wake-up pipe, at the first waker. */
    CHECK(uv_async_init(&l->uv, &w->uv, on_wake) == 0);
    w->uv.data = w;
    w->fn = fn;
    w->ctx = ctx;
    /* A waker alone does not keep loop_drain() waiting. */
    uv_unref((uv_handle_t *)&w->uv);
    return w;
}

void waker_wake(struct waker *w) {
    uv_async_send(&w->uv);
}

void waker_free(struct waker *w) {
    if (w)
        uv_close((uv_handle_t *)&w->uv, on_closed_free);
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *handle, int signum) {
    struct loop_signal *s = handle->data;
    s->fn(s->ctx, signum);
}

int loop_on_signal(struct loop *l, int signum, void (*fn)(void *ctx, int signum), void *ctx) {
    struct loop_signal *s = xcalloc(1, sizeof *s);
    s->uv.data = s;
    s->fn = fn;
    s->ctx = ctx;
    uv_signal_init(&l->uv, &s->uv);
    list_init(&s->node);
    int r = uv_signal_start(&s->uv, on_signal, signum);
    if (r < 0) {
        uv_close((uv_handle_t *)&s->uv, on_signal_closed);
        return r;
    }
    uv_unref((uv_handle_t *)&s->uv);
    list_push_back(&l->signals, &s->node);
    return 0;
}
