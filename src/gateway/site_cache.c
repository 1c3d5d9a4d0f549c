#include "gateway/site_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/log.h"

enum {
    TRAILER_BYTES = 8,
    BLOCK_FILE_BYTES_MAX = 256 * 1024 + TRAILER_BYTES,
    STATE_BYTES_MAX = 64 * 1024 * 1024,
    PATH_BYTES = 4096 + 128,
};

struct site_cache {
    char *dir;
    uint64_t bytes_max;
    uint64_t bytes;    /* atomic: of all block files */
    uint64_t next_tmp; /* atomic */
    bool complained;   /* atomic: about the disk, once */
};

static void block_path(const struct site_cache *c, const uint8_t *hash, char out[PATH_BYTES]) {
    char hex[2 * SHA256_BYTES + 1];
    sha256_to_hex(hash, hex);
    snprintf(out, PATH_BYTES, "%s/blocks/%.2s/%s", c->dir, hex, hex);
}

/* Calls fn for each file; hash is NULL for what is no block. */
static void each_file(struct site_cache *c,
                      void (*fn)(struct site_cache *c, const char *path, const uint8_t *hash,
                                 uint64_t bytes, void *ctx),
                      void *ctx) {
    for (int i = 0; i < 256; i++) {
        char folder[PATH_BYTES], path[PATH_BYTES + 300];
        snprintf(folder, sizeof folder, "%s/blocks/%02x", c->dir, i);
        DIR *d = opendir(folder);
        if (!d)
            continue;
        struct dirent *e;
        while ((e = readdir(d))) {
            uint8_t hash[SHA256_BYTES];
            struct stat st;
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            bool block = sha256_from_hex(slice_str(e->d_name), hash);
            if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
                fn(c, path, block ? hash : NULL, (uint64_t)st.st_size, ctx);
        }
        closedir(d);
    }
}

/* Before anybody writes: what is no block was being written when the process ended. */
static void look_at(struct site_cache *c, const char *path, const uint8_t *hash, uint64_t bytes,
                    void *ctx) {
    (void)ctx;
    if (hash)
        c->bytes += bytes;
    else
        unlink(path);
}

static int make_folder(const char *path) {
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

int site_cache_open(const char *dir, uint64_t bytes_max, struct site_cache **ret_cache) {
    char path[PATH_BYTES];
    if (strlen(dir) > 4000)
        return -ENAMETOOLONG;
    int rc = make_folder(dir);
    snprintf(path, sizeof path, "%s/blocks", dir);
    if (rc == 0)
        rc = make_folder(path);
    for (int i = 0; rc == 0 && i < 256; i++) {
        snprintf(path, sizeof path, "%s/blocks/%02x", dir, i);
        rc = make_folder(path);
    }
    if (rc < 0)
        return rc;
    struct site_cache *c = xcalloc(1, sizeof *c);
    c->dir = xstrdup(dir);
    c->bytes_max = bytes_max;
    each_file(c, look_at, NULL);
    *ret_cache = c;
    return 0;
}

void site_cache_free(struct site_cache *c) {
    if (c)
        free(c->dir);
    free(c);
}

uint64_t site_cache_bytes(struct site_cache *c) {
    return __atomic_load_n(&c->bytes, __ATOMIC_RELAXED);
}

bool site_cache_full(struct site_cache *c) {
    return site_cache_bytes(c) + BLOCK_FILE_BYTES_MAX > c->bytes_max;
}

/* ---- files ---- */

enum found { FOUND, MISSING, DAMAGED };

static enum found read_file(const char *path, size_t bytes_max, struct buf *out) {
    buf_reset(out);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return MISSING;
    struct stat st;
    bool ok = fstat(fd, &st) == 0 && st.st_size >= TRAILER_BYTES && (size_t)st.st_size <= bytes_max;
    size_t size = ok ? (size_t)st.st_size : 0, done = 0;
    while (ok && done < size) {
        ssize_t n = pread(fd, buf_reserve(out, size - done), size - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        ok = n > 0;
        if (ok) {
            buf_commit(out, (size_t)n);
            done += (size_t)n;
        }
    }
    close(fd);
    if (!ok)
        return DAMAGED;
    uint64_t sum = get_u64le(out->data + size - TRAILER_BYTES);
    out->size -= TRAILER_BYTES;
    return sum == hash64(buf_slice(out), 0) ? FOUND : DAMAGED;
}

static bool write_whole(int fd, struct slice s) {
    while (s.size > 0) {
        ssize_t n = write(fd, s.data, s.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s = slice_of(s.data + n, s.size - (size_t)n);
    }
    return true;
}

static bool put_in_place(const char *tmp, const char *path, bool once) {
    if (once && renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return true;
    /* Not every file system can do that. */
    return (!once || errno == EINVAL) && rename(tmp, path) == 0;
}

/* `folder` is on the same file system. `once`: a file that is there already stays, and the result
 * is false. */
static bool write_file(struct site_cache *c, const char *folder, const char *path,
                       struct slice bytes, bool once) {
    char tmp[PATH_BYTES + 64];
    uint8_t trailer[TRAILER_BYTES];
    uint64_t number = __atomic_fetch_add(&c->next_tmp, 1, __ATOMIC_RELAXED);
    put_u64le(trailer, hash64(bytes, 0));
    snprintf(tmp, sizeof tmp, "%s/.tmp-%llu", folder, (unsigned long long)number);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_whole(fd, bytes) && write_whole(fd, slice_of(trailer, 8));
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (ok && put_in_place(tmp, path, once))
        return true;
    error = ok ? errno : error;
    unlink(tmp);
    if (ok && error == EEXIST)
        return false;
    if (!__atomic_exchange_n(&c->complained, true, __ATOMIC_RELAXED))
        log_warn("site-cache", "error=%s path=%s", log_quote(slice_str(strerror(error))),
                 log_quote(slice_str(path)));
    return false;
}

/* So that the block can be fetched anew. */
static void remove_block(struct site_cache *c, const char *path) {
    struct stat st;
    if (stat(path, &st) == 0 && unlink(path) == 0)
        __atomic_sub_fetch(&c->bytes, (uint64_t)st.st_size, __ATOMIC_RELAXED);
}

bool site_cache_read(struct site_cache *c, const uint8_t *hash, struct buf *out) {
    char path[PATH_BYTES];
    block_path(c, hash, path);
    enum found found = read_file(path, BLOCK_FILE_BYTES_MAX, out);
    if (found == DAMAGED)
        remove_block(c, path);
    return found == FOUND;
}

bool site_cache_has(struct site_cache *c, const uint8_t *hash) {
    char path[PATH_BYTES];
    struct stat st;
    block_path(c, hash, path);
    if (stat(path, &st) < 0)
        return false;
    if (st.st_size > TRAILER_BYTES)
        return true;
    remove_block(c, path); /* a power cut leaves them so */
    return false;
}

void site_cache_put(struct site_cache *c, const uint8_t *hash, struct slice bytes) {
    char path[PATH_BYTES], folder[PATH_BYTES];
    uint64_t size = bytes.size + TRAILER_BYTES;
    if (site_cache_has(c, hash) || size > BLOCK_FILE_BYTES_MAX)
        return;
    if (__atomic_add_fetch(&c->bytes, size, __ATOMIC_RELAXED) <= c->bytes_max) {
        block_path(c, hash, path);
        snprintf(folder, sizeof folder, "%s/blocks/%02x", c->dir, hash[0]);
        if (write_file(c, folder, path, bytes, true))
            return;
    }
    __atomic_sub_fetch(&c->bytes, size, __ATOMIC_RELAXED);
}

struct pruning {
    bool (*wanted)(void *ctx, const uint8_t *hash);
    void *ctx;
};

static void prune_one(struct site_cache *c, const char *path, const uint8_t *hash, uint64_t bytes,
                      void *ctx) {
    struct pruning *p = ctx;
    if (hash && !p->wanted(p->ctx, hash) && unlink(path) == 0)
        __atomic_sub_fetch(&c->bytes, bytes, __ATOMIC_RELAXED);
}

void site_cache_prune(struct site_cache *c, bool (*wanted)(void *ctx, const uint8_t *hash),
                      void *ctx) {
    struct pruning p = {.wanted = wanted, .ctx = ctx};
    each_file(c, prune_one, &p);
}

bool site_cache_read_state(struct site_cache *c, struct buf *out) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/sites", c->dir);
    return read_file(path, STATE_BYTES_MAX, out) == FOUND;
}

void site_cache_write_state(struct site_cache *c, struct slice bytes) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/sites", c->dir);
    write_file(c, c->dir, path, bytes, false);
}
