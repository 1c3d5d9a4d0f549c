#include "replica/disk_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replica/disk_file.h"

enum {
    PIECE_BYTES = 1024 * 1024, /* read at a time, so that progress is seen */
};

struct disk_file {
    int fd;
};

struct disk_read {
    struct disk disk;
    int dir_fd;
    disk_read_fn on_read;
    void *ctx;
};

static struct disk_read *of(const struct disk *d) {
    return CONTAINER_OF(d, struct disk_read, disk);
}

static int read_disk_list(struct disk *d, const char *folder,
                          void (*fn)(void *ctx, const char *name), void *ctx) {
    int fd = openat(of(d)->dir_fd, *folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return disk_walk_folder(fd, fn, ctx);
}

static int read_disk_open(struct disk *d, const char *name, struct disk_file **ret_file,
                          uint64_t *ret_bytes) {
    struct stat st;
    int fd = openat(of(d)->dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    struct disk_file *f = xcalloc(1, sizeof *f);
    f->fd = fd;
    *ret_file = f;
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

static void read_disk_close(struct disk *d, struct disk_file *f) {
    close(f->fd);
    free(f);
}

static int64_t read_disk_read(struct disk *d, struct disk_file *f, uint64_t offset, void *out,
                              size_t bytes) {
    struct disk_read *r = of(d);
    size_t got = 0;
    while (got < bytes) {
        size_t want = bytes - got < PIECE_BYTES ? bytes - got : PIECE_BYTES;
        ssize_t n = pread(f->fd, (uint8_t *)out + got, want, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
        if (r->on_read)
            r->on_read(r->ctx, (uint64_t)n);
    }
    return (int64_t)got;
}

static int read_disk_write_sync(struct disk *d, struct disk_file *f, uint64_t offset,
                                struct slice bytes) {
    return -EROFS;
}

static int read_disk_truncate_sync(struct disk *d, struct disk_file *f, uint64_t bytes) {
    return -EROFS;
}

static int read_disk_unlink_sync(struct disk *d, const char *name) {
    return -EROFS;
}

static int read_disk_replace_sync(struct disk *d, const char *name, struct slice content) {
    return -EROFS;
}

static void read_disk_submit(struct disk *d, struct disk_job *job) {
    CHECK(!"a job for a disk that is only read");
}

static const struct disk_ops read_disk_ops = {
    .list = read_disk_list,
    .open = read_disk_open,
    .close = read_disk_close,
    .read = read_disk_read,
    .write_sync = read_disk_write_sync,
    .truncate_sync = read_disk_truncate_sync,
    .unlink_sync = read_disk_unlink_sync,
    .replace_sync = read_disk_replace_sync,
    .load = disk_load_file,
    .submit = read_disk_submit,
};

int disk_read_new(const char *dir, disk_read_fn on_read, void *ctx, struct disk **ret_disk) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct disk_read *r = xcalloc(1, sizeof *r);
    r->disk = (struct disk){.ops = &read_disk_ops, .salt = 1};
    r->dir_fd = fd;
    r->on_read = on_read;
    r->ctx = ctx;
    *ret_disk = &r->disk;
    return 0;
}

void disk_read_free(struct disk *d) {
    struct disk_read *r = of(d);
    close(r->dir_fd);
    free(r);
}
