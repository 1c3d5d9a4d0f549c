/* Timers of the kernel (timerfd_create(2)): libuv's own count in milliseconds. */
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "net/loop_uv.h"

struct fine_timer {
    uv_poll_t uv;
    int fd;
    uint64_t at_ns; /* UINT64_MAX: not set */
    void (*fn)(void *ctx);
    void *ctx;
};

uint64_t loop_now_ns(void) {
    return uv_hrtime();
}

static void on_poll(uv_poll_t *handle, int status, int events) {
    struct fine_timer *t = handle->data;
    uint64_t expirations;
    /* Set anew since it expired: the count is gone, and reading says EAGAIN. */
    if (read(t->fd, &expirations, sizeof expirations) < 0 || t->at_ns == UINT64_MAX)
        return;
    t->at_ns = UINT64_MAX;
    t->fn(t->ctx);
}

int fine_timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx,
                   struct fine_timer **ret_timer) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct fine_timer *t = xcalloc(1, sizeof *t);
    *t = (struct fine_timer){.fd = fd, .at_ns = UINT64_MAX, .fn = fn, .ctx = ctx};
    int r = uv_poll_init(&l->uv, &t->uv, fd);
    if (r < 0) {
        close(fd);
        free(t);
        return r;
    }
    t->uv.data = t;
    uv_poll_start(&t->uv, UV_READABLE, on_poll);
    /* As with wakers, one that is not freed yet does not keep loop_drain() waiting. */
    uv_unref((uv_handle_t *)&t->uv);
    *ret_timer = t;
    return 0;
}

void fine_timer_set(struct fine_timer *t, uint64_t at_ns) {
    if (at_ns == t->at_ns)
        return;
    t->at_ns = at_ns;
    struct itimerspec when = {0}; /* all zero: never */
    if (at_ns != UINT64_MAX) {
        uint64_t ns = at_ns > 0 ? at_ns : 1;
        when.it_value.tv_sec = (time_t)(ns / 1000000000);
        when.it_value.tv_nsec = (long)(ns % 1000000000);
    }
    CHECK(timerfd_settime(t->fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

static void on_closed(uv_handle_t *handle) {
    struct fine_timer *t = handle->data;
    close(t->fd);
    free(t);
}

void fine_timer_free(struct fine_timer *t) {
    if (t)
        uv_close((uv_handle_t *)&t->uv, on_closed);
}
