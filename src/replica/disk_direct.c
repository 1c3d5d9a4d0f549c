#include "replica/disk_direct.h"

#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

struct direct {
    io_context_t context;
    struct event *event;
    void (*done)(void *ctx, int status);
    void *ctx;
    uint8_t *buffer;
    struct direct_file *file; /* of the write that is made or under way */
    uint64_t at;              /* where the buffer begins in it */
    size_t size;
    bool under_way;
    struct iocb iocb;
};

static uint64_t block_of(uint64_t offset) {
    return offset - offset % DISK_BLOCK_BYTES;
}

static void finish(struct direct *d, int64_t result) {
    struct direct_file *f = d->file;
    d->under_way = false;
    d->file = NULL;
    int status = 0;
    if (result == -EINVAL || result == -EOPNOTSUPP)
        status = DIRECT_REFUSED;
    else if (result < 0)
        status = (int)result;
    else if ((uint64_t)result < d->iocb.u.c.nbytes)
        status = -EIO;
    if (status == 0) {
        f->tail_at = block_of(d->at + d->size);
        f->tail_bytes = (int32_t)(d->at + d->size - f->tail_at);
        memcpy(f->tail, d->buffer + (f->tail_at - d->at), (size_t)f->tail_bytes);
    } else {
        direct_forget(f);
    }
    d->done(d->ctx, status);
}

/* The result, when there is one. */
static void collect(struct direct *d, long at_least) {
    struct io_event event;
    int n;
    do
        n = io_getevents(d->context, at_least, 1, &event, NULL);
    while (n == -EINTR);
    CHECK(n >= 0);
    if (n == 1)
        finish(d, (int64_t)event.res);
}

static void on_event(void *ctx) {
    struct direct *d = ctx;
    if (d->under_way)
        collect(d, 0);
}

struct direct *direct_new(struct loop *loop, void (*done)(void *ctx, int status), void *ctx) {
    struct direct *d = xcalloc(1, sizeof *d);
    d->done = done;
    d->ctx = ctx;
    if (io_setup(1, &d->context) < 0) {
        free(d);
        return NULL;
    }
    void *buffer = NULL;
    CHECK(posix_memalign(&buffer, DISK_BLOCK_BYTES, DIRECT_BYTES_MAX) == 0);
    d->buffer = buffer;
    if (event_new(loop, on_event, d, &d->event) < 0) {
        io_destroy(d->context);
        free(d->buffer);
        free(d);
        return NULL;
    }
    return d;
}

void direct_free(struct direct *d) {
    if (!d)
        return;
    CHECK(!d->under_way);
    io_destroy(d->context);
    event_free(d->event);
    free(d->buffer);
    free(d);
}

/* Whether writes into its blocks are asynchronous, and aligned as ours are. */
static bool can_be_direct(int fd) {
#ifdef STATX_DIOALIGN
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0 || (fs.f_type != EXT4_SUPER_MAGIC && fs.f_type != XFS_SUPER_MAGIC))
        return false;
    struct statx st;
    return statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 &&
           (st.stx_mask & STATX_DIOALIGN) && st.stx_dio_offset_align > 0 &&
           DISK_BLOCK_BYTES % st.stx_dio_offset_align == 0 && st.stx_dio_mem_align > 0 &&
           DISK_BLOCK_BYTES % st.stx_dio_mem_align == 0;
#else
    return false;
#endif
}

struct direct_file *direct_open(int of) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", of);
    int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return NULL;
    if (!can_be_direct(fd) || fstat(fd, &st) < 0) {
        close(fd);
        return NULL;
    }
    struct direct_file *f = xcalloc(1, sizeof *f);
    f->fd = fd;
    f->bytes = (uint64_t)st.st_size;
    direct_forget(f);
    return f;
}

void direct_close(struct direct_file *f) {
    if (!f)
        return;
    close(f->fd);
    free(f);
}

void direct_forget(struct direct_file *f) {
    f->tail_bytes = -1;
}

bool direct_fits(const struct direct_file *f, uint64_t offset, uint64_t bytes) {
    uint64_t end = block_of(offset + bytes + DISK_BLOCK_BYTES - 1);
    return end <= f->bytes && end - block_of(offset) <= DIRECT_BYTES_MAX;
}

int direct_begin(struct direct *d, struct direct_file *f, int fd, uint64_t offset) {
    CHECK(!d->under_way);
    d->file = f;
    d->at = block_of(offset);
    d->size = (size_t)(offset - d->at);
    if (d->size == 0)
        return 0;
    if (f->tail_at == d->at && f->tail_bytes == (int32_t)d->size) {
        memcpy(d->buffer, f->tail, d->size);
        return 0;
    }
    ssize_t n = pread(fd, d->buffer, d->size, (off_t)d->at);
    if (n < 0)
        return errno == EINTR ? DIRECT_REFUSED : -errno;
    return (size_t)n == d->size ? 0 : DIRECT_REFUSED;
}

void direct_add(struct direct *d, const struct iovec *iov, int count) {
    for (int i = 0; i < count; i++) {
        CHECK(iov[i].iov_len <= DIRECT_BYTES_MAX - d->size);
        if (iov[i].iov_len > 0)
            memcpy(d->buffer + d->size, iov[i].iov_base, iov[i].iov_len);
        d->size += iov[i].iov_len;
    }
}

int direct_send(struct direct *d) {
    size_t whole = (size_t)block_of(d->size + DISK_BLOCK_BYTES - 1);
    memset(d->buffer + d->size, 0, whole - d->size);
    io_prep_pwrite(&d->iocb, d->file->fd, d->buffer, whole, (long long)d->at);
    d->iocb.aio_rw_flags = RWF_DSYNC;
    io_set_eventfd(&d->iocb, event_fd(d->event));
    struct iocb *one = &d->iocb;
    int r = io_submit(d->context, 1, &one);
    d->under_way = r == 1;
    /* Short of memory or of requests, or an old kernel: the thread can do it. */
    return r == 1 ? 0 : DIRECT_REFUSED;
}

void direct_wait(struct direct *d) {
    if (d->under_way)
        collect(d, 1);
}
