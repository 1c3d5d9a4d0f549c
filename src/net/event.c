/* Events of the kernel (eventfd(2)), for what signals a descriptor when it is done. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/loop_uv.h"

struct event {
    uv_poll_t uv;
    int fd;
    void (*fn)(void *ctx);
    void *ctx;
};

static void on_poll(uv_poll_t *handle, int status, int events) {
    struct event *e = handle->data;
    uint64_t count;
    if (read(e->fd, &count, sizeof count) == (ssize_t)sizeof count)
        e->fn(e->ctx);
}

int event_new(struct loop *l, void (*fn)(void *ctx), void *ctx, struct event **ret_event) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct event *e = xcalloc(1, sizeof *e);
    *e = (struct event){.fd = fd, .fn = fn, .ctx = ctx};
    int r = uv_poll_init(&l->uv, &e->uv, fd);
    if (r < 0) {
        close(fd);
        free(e);
        return r;
    }
    e->uv.data = e;
    uv_poll_start(&e->uv, UV_READABLE, on_poll);
    /* As with wakers, one that is not freed yet does not keep loop_drain() waiting. */
    uv_unref((uv_handle_t *)&e->uv);
    *ret_event = e;
    return 0;
}

int event_fd(const struct event *e) {
    return e->fd;
}

static void on_closed(uv_handle_t *handle) {
    struct event *e = handle->data;
    close(e->fd);
    free(e);
}

void event_free(struct event *e) {
    if (e)
        uv_close((uv_handle_t *)&e->uv, on_closed);
}
