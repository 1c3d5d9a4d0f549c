#include "replica/disk_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOAD_BYTES_MAX = 1024 * 1024 };

int disk_walk_folder(int fd, void (*fn)(void *ctx, const char *name), void *ctx) {
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int r = -errno;
        close(fd);
        return r;
    }
    int r = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (!e) {
            r = -errno;
            break;
        }
        struct stat st;
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            fn(ctx, e->d_name);
    }
    closedir(dir);
    return r;
}

int disk_load_file(struct disk *d, const char *name, struct buf *ret_content) {
    struct disk_file *f = NULL;
    uint64_t bytes = 0;
    int r = d->ops->open(d, name, &f, &bytes);
    if (r < 0)
        return r;
    if (bytes > LOAD_BYTES_MAX) {
        d->ops->close(d, f);
        return -EFBIG;
    }
    buf_reset(ret_content);
    int64_t n = d->ops->read(d, f, 0, buf_reserve(ret_content, (size_t)bytes), (size_t)bytes);
    if (n > 0)
        buf_commit(ret_content, (size_t)n);
    d->ops->close(d, f);
    return n < 0 ? (int)n : 0;
}
