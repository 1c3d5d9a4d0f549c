#include "replica/disk_uv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replica/disk_direct.h"
#include "replica/disk_file.h"

enum {
    GATHER_MAX = IOV_MAX,
    FILL_BYTES = 1024 * 1024, /* zeros written at a time */
};

struct disk_file {
    int fd;
    bool asked; /* for the other side, which is NULL when the file has none */
    struct direct_file *direct;
};

struct worker {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct list queue; /* jobs; under the mutex, as quit is */
    bool quit;
    struct disk_uv *disk;
};

struct disk_uv {
    struct disk disk;
    int dir_fd;
    struct waker *waker;
    struct worker line;
    struct worker filler;
    /* The line's jobs wait here until the one before them is done, if that is a direct write, or
     * until the thread has nothing to do, if they are. */
    struct list waiting;
    struct direct *direct;  /* NULL: not here */
    struct list direct_run; /* the jobs of the direct write under way */
    size_t line_jobs;       /* at the thread */
    int line_error; /* the first failure; the thread's, and the loop's while the thread has none */
    pthread_mutex_t finished_mutex;
    pthread_cond_t finished_some;
    struct list finished; /* jobs; under the mutex */
    size_t under_way;     /* the loop's own: submitted and not yet told of */
};

static struct disk_uv *of(const struct disk *d) {
    return CONTAINER_OF(d, struct disk_uv, disk);
}

static int error_of(int r) {
    return r < 0 ? -errno : 0;
}

/* ---- reading and writing ---- */

static int flush_fd(int fd) {
    return error_of(fdatasync(fd));
}

/* Flushes the folder that holds `name`. */
static int flush_folder(struct disk_uv *u, const char *name) {
    const char *slash = strchr(name, '/');
    if (!slash)
        return error_of(fsync(u->dir_fd));
    char folder[NAME_MAX + 1];
    CHECK((size_t)(slash - name) < sizeof folder);
    memcpy(folder, name, (size_t)(slash - name));
    folder[slash - name] = 0;
    int fd = openat(u->dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = error_of(fsync(fd));
    close(fd);
    return r;
}

/* Writes all; changes the pieces it was given. */
static int write_pieces(int fd, uint64_t offset, struct iovec *iov, int count) {
    while (count > 0) {
        ssize_t n = pwritev(fd, iov, count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO; /* no progress: pieces are never empty */
        offset += (uint64_t)n;
        while (count > 0 && (size_t)n >= iov->iov_len) {
            n -= (ssize_t)iov->iov_len;
            iov++;
            count--;
        }
        if (count == 0)
            break;
        iov->iov_base = (uint8_t *)iov->iov_base + n;
        iov->iov_len -= (size_t)n;
    }
    return 0;
}

static int write_slice(int fd, uint64_t offset, struct slice bytes) {
    struct iovec iov = {.iov_base = (void *)bytes.data, .iov_len = bytes.size};
    return bytes.size > 0 ? write_pieces(fd, offset, &iov, 1) : 0;
}

static int64_t read_some(int fd, uint64_t offset, void *out, size_t bytes) {
    size_t got = 0;
    while (got < bytes) {
        ssize_t n = pread(fd, (uint8_t *)out + got, bytes - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (int64_t)got;
}

/* ---- the synchronous calls ---- */

static int uv_disk_list(struct disk *d, const char *folder, void (*fn)(void *ctx, const char *name),
                        void *ctx) {
    struct disk_uv *u = of(d);
    const char *path = *folder ? folder : ".";
    if (*folder) {
        if (mkdirat(u->dir_fd, folder, 0700) == 0) {
            int r = error_of(fsync(u->dir_fd));
            if (r < 0)
                return r;
        } else if (errno != EEXIST) {
            return -errno;
        }
    }
    int fd = openat(u->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return disk_walk_folder(fd, fn, ctx);
}

static struct disk_file *file_new(int fd) {
    struct disk_file *f = xcalloc(1, sizeof *f);
    f->fd = fd;
    return f;
}

static int uv_disk_open(struct disk *d, const char *name, struct disk_file **ret_file,
                        uint64_t *ret_bytes) {
    int fd = openat(of(d)->dir_fd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (fstat(fd, &st) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    /* A start reads the log as a whole, and direct writes leave nothing of it in the page cache. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
    *ret_file = file_new(fd);
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

/* Its length or its content changes by other ways. */
static void file_forget_direct(struct disk_file *f) {
    direct_close(f->direct);
    f->direct = NULL;
    f->asked = false;
}

static void uv_disk_close(struct disk *d, struct disk_file *f) {
    direct_close(f->direct);
    close(f->fd);
    free(f);
}

static int64_t uv_disk_read(struct disk *d, struct disk_file *f, uint64_t offset, void *out,
                            size_t bytes) {
    return read_some(f->fd, offset, out, bytes);
}

static int uv_disk_write_sync(struct disk *d, struct disk_file *f, uint64_t offset,
                              struct slice bytes) {
    file_forget_direct(f);
    int r = write_slice(f->fd, offset, bytes);
    return r < 0 ? r : flush_fd(f->fd);
}

static int uv_disk_truncate_sync(struct disk *d, struct disk_file *f, uint64_t bytes) {
    file_forget_direct(f);
    if (ftruncate(f->fd, (off_t)bytes) < 0)
        return -errno;
    return error_of(fsync(f->fd));
}

static int unlink_name(struct disk_uv *u, const char *name) {
    if (unlinkat(u->dir_fd, name, 0) < 0)
        return -errno;
    return flush_folder(u, name);
}

static int uv_disk_unlink_sync(struct disk *d, const char *name) {
    return unlink_name(of(d), name);
}

static int rename_name(struct disk_uv *u, const char *name, const char *to) {
    if (renameat(u->dir_fd, name, u->dir_fd, to) < 0)
        return -errno;
    int r = flush_folder(u, to);
    const char *a = strchr(name, '/'), *b = strchr(to, '/');
    bool same =
        (!a && !b) || (a && b && a - name == b - to && strncmp(name, to, (size_t)(a - name)) == 0);
    return r < 0 || same ? r : flush_folder(u, name);
}

static int uv_disk_replace_sync(struct disk *d, const char *name, struct slice content) {
    struct disk_uv *u = of(d);
    char beside[PATH_MAX];
    CHECK((size_t)snprintf(beside, sizeof beside, "%s.new", name) < sizeof beside);
    int fd = openat(u->dir_fd, beside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = write_slice(fd, 0, content);
    if (r == 0)
        r = error_of(fsync(fd));
    close(fd);
    return r < 0 ? r : rename_name(u, beside, name);
}

/* ---- jobs ---- */

static void finish(struct disk_uv *u, struct list *jobs) {
    pthread_mutex_lock(&u->finished_mutex);
    list_splice(&u->finished, jobs);
    pthread_cond_signal(&u->finished_some);
    pthread_mutex_unlock(&u->finished_mutex);
    waker_wake(u->waker);
}

static uint64_t job_bytes(const struct disk_job *job) {
    uint64_t bytes = 0;
    for (int i = 0; i < job->iov_count; i++)
        bytes += job->iov[i].iov_len;
    return bytes;
}

/* Pieces that lie next to each other in a file. */
struct gather {
    int fd;
    uint64_t offset;
    uint64_t bytes;
    int count;
    struct iovec iov[GATHER_MAX];
};

static int gather_write(struct gather *g) {
    int r = g->count > 0 ? write_pieces(g->fd, g->offset, g->iov, g->count) : 0;
    g->offset += g->bytes;
    g->bytes = 0;
    g->count = 0;
    return r;
}

static int gather_add(struct gather *g, const struct disk_job *job) {
    int r = 0;
    if (g->offset + g->bytes != job->offset) {
        r = gather_write(g);
        g->offset = job->offset;
    }
    for (int i = 0; i < job->iov_count && r == 0; i++) {
        if (g->count == GATHER_MAX)
            r = gather_write(g);
        if (job->iov[i].iov_len == 0)
            continue;
        g->iov[g->count++] = job->iov[i];
        g->bytes += job->iov[i].iov_len;
    }
    return r;
}

/* Carries out the run of writes to one file at the beginning of `jobs` and moves it to `ret_run`.
 */
static int run_writes(struct list *jobs, struct list *ret_run) {
    struct disk_file *file = LIST_ENTRY(jobs->next, struct disk_job, node)->file;
    struct gather g;
    g.fd = file->fd;
    g.offset = g.bytes = 0;
    g.count = 0;
    bool sync = false;
    int r = 0;
    while (!list_empty(jobs)) {
        struct disk_job *job = LIST_ENTRY(jobs->next, struct disk_job, node);
        if (job->kind != DISK_JOB_WRITE || job->file != file)
            break;
        list_remove(&job->node);
        list_push_back(ret_run, &job->node);
        if (r == 0)
            r = gather_add(&g, job);
        sync = sync || job->sync;
    }
    if (r == 0)
        r = gather_write(&g);
    if (r == 0 && sync)
        r = flush_fd(file->fd);
    return r;
}

static int run_one(struct disk_uv *u, struct disk_job *job) {
    switch (job->kind) {
    case DISK_JOB_RENAME:
        return rename_name(u, job->name, job->to);
    case DISK_JOB_UNLINK:
        return unlink_name(u, job->name);
    case DISK_JOB_CALL:
        return job->fn(job->arg);
    case DISK_JOB_WRITE:
    case DISK_JOB_CREATE:
        break;
    }
    return -EINVAL;
}

/* One job, or one run of writes, from the beginning of `jobs`. */
static void run_some(struct disk_uv *u, struct list *jobs) {
    struct list run;
    list_init(&run);
    struct disk_job *job = LIST_ENTRY(jobs->next, struct disk_job, node);
    bool is_call = job->kind == DISK_JOB_CALL;
    int r;
    if (job->kind == DISK_JOB_WRITE && u->line_error == 0) {
        r = run_writes(jobs, &run);
    } else {
        list_remove(&job->node);
        list_push_back(&run, &job->node);
        r = u->line_error ? u->line_error : run_one(u, job);
    }
    if (r < 0 && !is_call && u->line_error == 0)
        u->line_error = r;
    LIST_FOREACH (it, &run)
        LIST_ENTRY(it, struct disk_job, node)->status = r;
    finish(u, &run);
}

/* Written piece by piece, each on its way to the device before the one after the next is begun: a
 * single flush of everything at the end would hold up everybody else's. */
static int fill(int fd, uint64_t bytes) {
    static const uint8_t zeros[FILL_BYTES];
    for (uint64_t at = 0; at < bytes; at += FILL_BYTES) {
        size_t n = bytes - at < FILL_BYTES ? (size_t)(bytes - at) : FILL_BYTES;
        int r = write_slice(fd, at, slice_of(zeros, n));
        if (r < 0)
            return r;
        /* A hint: not every file system has it, and the flush at the end is what counts. */
        sync_file_range(fd, (off_t)at, (off_t)n, SYNC_FILE_RANGE_WRITE);
        if (at >= FILL_BYTES)
            sync_file_range(fd, (off_t)(at - FILL_BYTES), FILL_BYTES,
                            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                SYNC_FILE_RANGE_WAIT_AFTER);
    }
    return error_of(fsync(fd));
}

static int run_create(struct disk_uv *u, struct disk_job *job) {
    int fd = openat(u->dir_fd, job->name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = fill(fd, job->bytes);
    if (r == 0)
        r = flush_folder(u, job->name);
    if (r < 0)
        close(fd);
    else
        job->ret_file = file_new(fd);
    return r;
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct disk_uv *u = w->disk;
    for (;;) {
        struct list jobs;
        list_init(&jobs);
        pthread_mutex_lock(&w->mutex);
        while (list_empty(&w->queue) && !w->quit)
            pthread_cond_wait(&w->wake, &w->mutex);
        list_splice(&jobs, &w->queue);
        pthread_mutex_unlock(&w->mutex);
        if (list_empty(&jobs))
            return NULL;
        while (!list_empty(&jobs)) {
            if (w == &u->line) {
                run_some(u, &jobs);
                continue;
            }
            struct disk_job *job = LIST_ENTRY(jobs.next, struct disk_job, node);
            struct list one;
            list_init(&one);
            list_remove(&job->node);
            list_push_back(&one, &job->node);
            job->status = run_create(u, job);
            finish(u, &one);
        }
    }
}

static void worker_submit(struct worker *w, struct disk_job *job) {
    pthread_mutex_lock(&w->mutex);
    list_push_back(&w->queue, &job->node);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

/* ---- the line, on the loop ---- */

static bool takes_direct(struct disk_uv *u, struct disk_job *job) {
    struct disk_file *f = job->file;
    if (!u->direct || job->kind != DISK_JOB_WRITE || !job->sync || !job->tail)
        return false;
    if (!f->asked) {
        f->asked = true;
        f->direct = direct_open(f->fd);
    }
    return f->direct && direct_fits(f->direct, job->offset, job_bytes(job));
}

/* The file cannot be written directly after all: its jobs go by the thread, in their old place. */
static void give_back(struct disk_uv *u, struct disk_file *f, struct list *run) {
    direct_close(f->direct);
    f->direct = NULL;
    list_splice(run, &u->waiting);
    list_splice(&u->waiting, run);
}

/* The first that waits, and what lies right behind it. False: it goes by the thread, and so do all
 * later ones of this file. */
static bool start_direct(struct disk_uv *u) {
    struct disk_job *job = LIST_ENTRY(u->waiting.next, struct disk_job, node);
    struct disk_file *f = job->file;
    uint64_t begin = job->offset, end = begin;
    int r = direct_begin(u->direct, f->direct, f->fd, begin);
    if (r == 0) {
        do {
            end += job_bytes(job);
            direct_add(u->direct, job->iov, job->iov_count);
            list_remove(&job->node);
            list_push_back(&u->direct_run, &job->node);
            job = LIST_ENTRY(u->waiting.next, struct disk_job, node);
        } while (!list_empty(&u->waiting) && job->kind == DISK_JOB_WRITE && job->file == f &&
                 job->tail && job->offset == end &&
                 direct_fits(f->direct, begin, end - begin + job_bytes(job)));
        r = direct_send(u->direct);
    }
    if (r == 0)
        return true;
    give_back(u, f, &u->direct_run);
    return false;
}

static void line_pump(struct disk_uv *u) {
    while (!list_empty(&u->waiting) && list_empty(&u->direct_run)) {
        struct disk_job *job = LIST_ENTRY(u->waiting.next, struct disk_job, node);
        if (takes_direct(u, job)) {
            if (u->line_jobs > 0)
                return;
            if (u->line_error == 0 && start_direct(u))
                return;
            job = LIST_ENTRY(u->waiting.next, struct disk_job, node);
        }
        list_remove(&job->node);
        if (job->kind == DISK_JOB_WRITE && job->file->direct)
            direct_forget(job->file->direct);
        u->line_jobs++;
        worker_submit(&u->line, job);
    }
}

static void on_direct(void *ctx, int status) {
    struct disk_uv *u = ctx;
    struct list run;
    list_init(&run);
    list_splice(&run, &u->direct_run);
    if (status == DIRECT_REFUSED) {
        give_back(u, LIST_ENTRY(run.next, struct disk_job, node)->file, &run);
    } else if (status < 0) {
        u->line_error = status;
    }
    /* The next is on its way while the owners hear of this one. */
    line_pump(u);
    while (!list_empty(&run)) {
        struct disk_job *job = LIST_ENTRY(run.next, struct disk_job, node);
        list_remove(&job->node);
        u->under_way--;
        job->done(job, status);
    }
}

static void uv_disk_submit(struct disk *d, struct disk_job *job) {
    struct disk_uv *u = of(d);
    u->under_way++;
    if (job->kind == DISK_JOB_CREATE) {
        worker_submit(&u->filler, job);
        return;
    }
    list_push_back(&u->waiting, &job->node);
    line_pump(u);
}

/* Tells the owners, on the loop. */
static void deliver(void *ctx) {
    struct disk_uv *u = ctx;
    struct list jobs;
    list_init(&jobs);
    pthread_mutex_lock(&u->finished_mutex);
    list_splice(&jobs, &u->finished);
    pthread_mutex_unlock(&u->finished_mutex);
    while (!list_empty(&jobs)) {
        struct disk_job *job = LIST_ENTRY(jobs.next, struct disk_job, node);
        list_remove(&job->node);
        u->under_way--;
        if (job->kind != DISK_JOB_CREATE)
            u->line_jobs--;
        job->done(job, job->status);
    }
    line_pump(u);
}

/* ---- beginning and end ---- */

static const struct disk_ops uv_disk_ops = {
    .list = uv_disk_list,
    .open = uv_disk_open,
    .close = uv_disk_close,
    .read = uv_disk_read,
    .write_sync = uv_disk_write_sync,
    .truncate_sync = uv_disk_truncate_sync,
    .unlink_sync = uv_disk_unlink_sync,
    .replace_sync = uv_disk_replace_sync,
    .load = disk_load_file,
    .submit = uv_disk_submit,
};

static int open_dir(const char *path, int *ret_fd) {
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    /* Its name in the folder above, in case it was made just now. */
    int above = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (above >= 0) {
        fsync(above);
        close(above);
    }
    *ret_fd = fd;
    return 0;
}

static int worker_start(struct worker *w, struct disk_uv *u) {
    w->disk = u;
    list_init(&w->queue);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    return -pthread_create(&w->thread, NULL, worker_main, w);
}

static void worker_stop(struct worker *w) {
    pthread_mutex_lock(&w->mutex);
    w->quit = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->wake);
}

int disk_uv_new(struct loop *loop, const char *dir, bool direct, struct disk **ret_disk) {
    int dir_fd = -1;
    int r = open_dir(dir, &dir_fd);
    if (r < 0)
        return r;
    struct disk_uv *u = xcalloc(1, sizeof *u);
    u->disk.ops = &uv_disk_ops;
    u->dir_fd = dir_fd;
    if (getrandom(&u->disk.salt, sizeof u->disk.salt, 0) != sizeof u->disk.salt)
        r = -EIO;
    u->disk.salt |= 1; /* never 0 */
    list_init(&u->finished);
    list_init(&u->waiting);
    list_init(&u->direct_run);
    pthread_mutex_init(&u->finished_mutex, NULL);
    pthread_cond_init(&u->finished_some, NULL);
    u->waker = waker_new(loop, deliver, u);
    if (r == 0)
        r = worker_start(&u->line, u);
    if (r == 0) {
        r = worker_start(&u->filler, u);
        if (r < 0)
            worker_stop(&u->line);
    }
    if (r < 0) {
        waker_free(u->waker);
        close(dir_fd);
        free(u);
        return r;
    }
    if (direct)
        u->direct = direct_new(loop, on_direct, u);
    *ret_disk = &u->disk;
    return 0;
}

void disk_uv_free(struct disk *d) {
    if (!d)
        return;
    struct disk_uv *u = of(d);
    while (u->under_way > 0) {
        if (!list_empty(&u->direct_run)) {
            direct_wait(u->direct);
            continue;
        }
        pthread_mutex_lock(&u->finished_mutex);
        while (list_empty(&u->finished))
            pthread_cond_wait(&u->finished_some, &u->finished_mutex);
        pthread_mutex_unlock(&u->finished_mutex);
        deliver(u);
    }
    worker_stop(&u->line);
    worker_stop(&u->filler);
    waker_free(u->waker);
    direct_free(u->direct);
    pthread_mutex_destroy(&u->finished_mutex);
    pthread_cond_destroy(&u->finished_some);
    close(u->dir_fd);
    free(u);
}
