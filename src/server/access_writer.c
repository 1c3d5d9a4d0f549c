#include "server/access_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum {
    RINGS_MAX = 256,
    /* At 100,000 requests a second a thread fills it in about 0.3 s, while the writer looks at it
     * every 0.1 s at the least. */
    RING_BYTES = 4 << 20,
    NAP_MIN_MS = 5,
    NAP_MAX_MS = 100,
    WARN_EVERY_S = 60,
};

struct access_writer {
    char *path; /* NULL: standard output */
    int fd;
    struct ring *rings[RINGS_MAX];
    size_t ring_count;
    pthread_t thread;
    bool running;
    bool reopen, stop; /* atomic */
    uint64_t lost_bytes;
    time_t warn_again;
};

static int open_log(const char *path) {
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    return fd < 0 ? -errno : fd;
}

int access_writer_new(const char *path, struct access_writer **ret_writer) {
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDOUT_FILENO : open_log(path);
    if (fd < 0)
        return fd;
    struct access_writer *w = xcalloc(1, sizeof *w);
    w->fd = fd;
    w->path = standard ? NULL : xstrdup(path);
    *ret_writer = w;
    return 0;
}

struct ring *access_writer_add(struct access_writer *w) {
    CHECK(w->ring_count < RINGS_MAX && !w->running);
    return w->rings[w->ring_count++] = ring_new(RING_BYTES);
}

static void warn_lost(struct access_writer *w, int error) {
    time_t now = time(NULL);
    if (now < w->warn_again)
        return;
    w->warn_again = now + WARN_EVERY_S;
    log_warn("access-log-lost", "file=%s error=%d lost_bytes=%llu", w->path ? w->path : "-", error,
             (unsigned long long)w->lost_bytes);
}

/* All of it, or it counts as lost. */
static void write_all(struct access_writer *w, struct slice bytes) {
    while (bytes.size > 0) {
        ssize_t n = write(w->fd, bytes.data, bytes.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            w->lost_bytes += bytes.size;
            warn_lost(w, error);
            return;
        }
        bytes = slice_of(bytes.data + n, bytes.size - (size_t)n);
    }
}

static void open_anew(struct access_writer *w) {
    if (!w->path)
        return;
    int fd = open_log(w->path);
    if (fd < 0) {
        log_warn("access-log-open", "file=%s error=%d", w->path, -fd); /* the old one goes on */
        return;
    }
    close(w->fd);
    w->fd = fd;
}

/* Rings hold whole lines, but the end of what lies together may be in the middle of one: so a ring
 * is emptied before the next one has its turn. */
static bool write_rings(struct access_writer *w) {
    bool any = false;
    for (size_t i = 0; i < w->ring_count; i++) {
        struct slice bytes = ring_peek(w->rings[i]);
        while (bytes.size > 0) {
            write_all(w, bytes);
            ring_drop(w->rings[i], bytes.size);
            any = true;
            bool whole = bytes.data[bytes.size - 1] == '\n';
            bytes = ring_peek(w->rings[i]);
            if (whole)
                break;
        }
    }
    return any;
}

static void *writer_main(void *arg) {
    struct access_writer *w = arg;
    unsigned nap_ms = NAP_MIN_MS;
    for (;;) {
        bool stop = __atomic_load_n(&w->stop, __ATOMIC_ACQUIRE);
        if (__atomic_exchange_n(&w->reopen, false, __ATOMIC_ACQ_REL))
            open_anew(w);
        if (write_rings(w)) {
            nap_ms = NAP_MIN_MS;
        } else if (stop) {
            return NULL;
        } else {
            const struct timespec nap = {.tv_nsec = (long)nap_ms * 1000000};
            nanosleep(&nap, NULL);
            nap_ms = nap_ms * 2 < NAP_MAX_MS ? nap_ms * 2 : NAP_MAX_MS;
        }
    }
}

void access_writer_start(struct access_writer *w) {
    CHECK(pthread_create(&w->thread, NULL, writer_main, w) == 0);
    pthread_setname_np(w->thread, "access-log");
    w->running = true;
}

void access_writer_reopen(struct access_writer *w) {
    __atomic_store_n(&w->reopen, true, __ATOMIC_RELEASE);
}

void access_writer_free(struct access_writer *w) {
    if (!w)
        return;
    if (w->running) {
        __atomic_store_n(&w->stop, true, __ATOMIC_RELEASE);
        pthread_join(w->thread, NULL);
    }
    for (size_t i = 0; i < w->ring_count; i++)
        ring_free(w->rings[i]);
    if (w->path)
        close(w->fd);
    free(w->path);
    free(w);
}
