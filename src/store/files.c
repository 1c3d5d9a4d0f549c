#include "store/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_impl.h"

#define MARK_HEAD "cotidal store mark 2\n"
enum { MARK_BYTES_MAX = 4096 };

char *files_path(const char *dir, const char *name) {
    size_t bytes = strlen(dir) + 1 + strlen(name) + 1;
    char *path = xmalloc(bytes);
    snprintf(path, bytes, "%s/%s", dir, name);
    return path;
}

int files_write_all(int fd, struct slice bytes) {
    while (bytes.size > 0) {
        ssize_t n = write(fd, bytes.data, bytes.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes = slice_of(bytes.data + n, bytes.size - (size_t)n);
    }
    return 0;
}

int files_read_at(int fd, uint64_t offset, uint8_t *out, size_t size) {
    while (size > 0) {
        ssize_t n = pread(fd, out, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EBADMSG;
        out += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int files_sync_folder(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) ? -errno : 0;
    close(fd);
    return rc;
}

int files_sync_parent(const char *path) {
    char *dir = xstrdup(path);
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/')
        dir[--end] = 0;
    char *slash = strrchr(dir, '/');
    int rc;
    if (!slash) {
        rc = files_sync_folder(".");
    } else {
        slash[slash == dir ? 1 : 0] = 0;
        rc = files_sync_folder(dir);
    }
    free(dir);
    return rc;
}

static int write_new(const char *path, struct slice bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = files_write_all(fd, bytes);
    if (rc == 0 && fsync(fd))
        rc = -errno;
    if (close(fd) && rc == 0)
        rc = -errno;
    return rc;
}

int files_replace(const char *dir, const char *name, struct slice bytes) {
    char *path = files_path(dir, name);
    size_t tmp_bytes = strlen(path) + sizeof ".tmp";
    char *tmp = xmalloc(tmp_bytes);
    snprintf(tmp, tmp_bytes, "%s.tmp", path);
    int rc = write_new(tmp, bytes);
    if (rc == 0 && rename(tmp, path))
        rc = -errno;
    if (rc == 0)
        rc = files_sync_folder(dir);
    free(tmp);
    free(path);
    return rc;
}

int files_read(const char *dir, const char *name, size_t bytes_max, struct buf *ret_bytes) {
    char *path = files_path(dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : 0;
    free(path);
    if (rc)
        return rc;
    for (;;) {
        ssize_t n = read(fd, buf_reserve(ret_bytes, 4096), 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = n < 0 ? -errno : 0;
            break;
        }
        buf_commit(ret_bytes, (size_t)n);
        if (ret_bytes->size > bytes_max) {
            rc = -EFBIG;
            break;
        }
    }
    close(fd);
    return rc;
}

int files_remove(const char *dir, const char *name) {
    char *path = files_path(dir, name);
    int rc = unlink(path) && errno != ENOENT && errno != ENOTDIR ? -errno : 0;
    free(path);
    return rc;
}

bool files_exists(const char *dir, const char *name) {
    char *path = files_path(dir, name);
    bool exists = access(path, F_OK) == 0;
    free(path);
    return exists;
}

/* What changes when somebody writes the file, or puts another one in its place. */
static int file_line(struct buf *b, const char *dir) {
    char *path = files_path(dir, STORE_DATA_NAME);
    struct stat st;
    int rc = stat(path, &st) ? -errno : 0;
    free(path);
    if (rc == 0)
        buf_printf(b, "file %llu %llu.%09ld %llu\n", (unsigned long long)st.st_size,
                   (unsigned long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                   (unsigned long long)st.st_ino);
    return rc;
}

static bool take_word(struct slice *text, const char *word) {
    struct slice w = slice_str(word);
    if (!slice_starts_with(*text, w))
        return false;
    *text = slice_of(text->data + w.size, text->size - w.size);
    return true;
}

/* "boot ID" and the end of the line. */
static bool take_boot(struct slice *text, const char *boot_id, bool *ret_same) {
    if (!take_word(text, "boot "))
        return false;
    const uint8_t *end = memchr(text->data, '\n', text->size);
    if (!end)
        return false;
    size_t size = (size_t)(end - text->data);
    *ret_same = slice_equal_str(slice_of(text->data, size), boot_id);
    *text = slice_of(end + 1, text->size - size - 1);
    return true;
}

static bool mark_parse(struct slice text, const char *dir, const char *boot_id, struct mark *ret) {
    *ret = (struct mark){0};
    if (!take_word(&text, MARK_HEAD) || !take_boot(&text, boot_id, &ret->same_boot))
        return false;
    if (slice_equal_str(text, "open\n"))
        return true;
    ret->sound = slice_equal_str(text, "sound\n");
    if (ret->sound)
        return true;
    ret->clean = take_word(&text, "clean\n");
    if (!ret->clean || text.size == 0 || text.data[text.size - 1] != '\n')
        return false;
    struct buf now = {0};
    ret->sound = file_line(&now, dir) == 0 && slice_equal(text, buf_slice(&now));
    buf_fini(&now);
    return true;
}

int mark_read(const char *dir, const char *boot_id, struct mark *ret_mark) {
    struct buf found = {0};
    struct mark mark = {0};
    int rc = files_read(dir, MARK_NAME, MARK_BYTES_MAX, &found);
    if (rc == 0) {
        bool well_formed = mark_parse(buf_slice(&found), dir, boot_id, &mark);
        mark = well_formed ? mark : (struct mark){0};
        mark.present = well_formed;
    }
    buf_fini(&found);
    if (rc == -ENOENT || rc == -EFBIG)
        rc = 0; /* no mark, or not one of ours: not present */
    if (rc == 0)
        *ret_mark = mark;
    return rc;
}

int mark_write(const char *dir, const char *boot_id, enum mark_state state) {
    static const char *const words[] = {"open", "sound", "clean"};
    struct buf b = {0};
    buf_printf(&b, MARK_HEAD "boot %s\n%s\n", boot_id, words[state]);
    int rc = state == MARK_CLEAN ? file_line(&b, dir) : 0;
    if (rc == 0)
        rc = files_replace(dir, MARK_NAME, buf_slice(&b));
    buf_fini(&b);
    return rc;
}
