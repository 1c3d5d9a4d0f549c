/* Snapshot files: a copy of the environment as LMDB makes it, and behind it a trailer of ours.
 *
 * LMDB believes what it finds in its pages, so a damaged file must be recognised before LMDB sees
 * it. The trailer holds a hash of everything before it; nothing is opened whose hash does not fit.
 * docs/store-format.md has the bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reader.h"
#include "store/files.h"
#include "store/store_impl.h"

enum {
    PIECE_BYTES = 1024 * 1024,
    TRAILER_FORMAT = 1,
    TRAILER_BYTES = 16 + 4 + 8 * 4 + 16 * 2 + 4,
    INFO_FORMAT = 1,
};
static const char trailer_magic[16] = "cotidal-snapshot";

struct trailer {
    uint64_t body_bytes;
    struct hash128 body_hash;
    uint64_t index;
    uint64_t term;
    struct hash128 digest;
    uint64_t membership_index;
};

static void append_hash(struct buf *b, struct hash128 h) {
    buf_append_u64(b, h.low);
    buf_append_u64(b, h.high);
}

static struct hash128 read_hash(struct reader *r) {
    uint64_t low = reader_u64(r);
    return (struct hash128){.low = low, .high = reader_u64(r)};
}

static void trailer_encode(const struct trailer *t, struct buf *b) {
    size_t at = b->size;
    buf_append(b, trailer_magic, sizeof trailer_magic);
    buf_append_u32(b, TRAILER_FORMAT);
    buf_append_u64(b, t->body_bytes);
    append_hash(b, t->body_hash);
    buf_append_u64(b, t->index);
    buf_append_u64(b, t->term);
    append_hash(b, t->digest);
    buf_append_u64(b, t->membership_index);
    buf_append_u32(b, crc32c(0, slice_of(b->data + at, b->size - at)));
    CHECK(b->size - at == TRAILER_BYTES);
}

static bool trailer_decode(struct slice bytes, struct trailer *ret_trailer) {
    struct reader r = reader_of(bytes);
    struct slice magic = reader_bytes(&r, sizeof trailer_magic);
    uint32_t format = reader_u32(&r);
    struct trailer t = {.body_bytes = reader_u64(&r)};
    t.body_hash = read_hash(&r);
    t.index = reader_u64(&r);
    t.term = reader_u64(&r);
    t.digest = read_hash(&r);
    t.membership_index = reader_u64(&r);
    uint32_t crc = reader_u32(&r);
    if (!reader_done(&r) || !slice_equal(magic, slice_of(trailer_magic, sizeof trailer_magic)) ||
        format != TRAILER_FORMAT || crc != crc32c(0, slice_of(bytes.data, bytes.size - 4)))
        return false;
    *ret_trailer = t;
    return true;
}

/* A hash over the hashes of 1 MiB pieces, so that a receiver can check piece by piece. Body and
 * file begin with the same pieces, which are read once: `hashes` goes from the one to the other. */
static int hash_pieces(int fd, uint64_t from, uint64_t to, int copy_fd, struct buf *hashes) {
    uint8_t *piece = xmalloc(PIECE_BYTES);
    int rc = 0;
    for (uint64_t at = from; at < to && rc == 0; at += PIECE_BYTES) {
        size_t n = to - at < PIECE_BYTES ? (size_t)(to - at) : PIECE_BYTES;
        rc = files_read_at(fd, at, piece, n);
        if (rc == 0)
            append_hash(hashes, hash128(slice_of(piece, n)));
        if (rc == 0 && copy_fd >= 0)
            rc = files_write_all(copy_fd, slice_of(piece, n));
    }
    free(piece);
    return rc;
}

/* Also copies the body when copy_fd is not negative. */
static int hash_body(int fd, uint64_t body_bytes, int copy_fd, struct buf *hashes,
                     struct hash128 *ret_hash) {
    int rc = hash_pieces(fd, 0, body_bytes, copy_fd, hashes);
    if (rc == 0)
        *ret_hash = hash128(buf_slice(hashes));
    return rc;
}

/* Goes on from hash_body(). */
static int hash_file(int fd, uint64_t body_bytes, uint64_t file_bytes, struct buf *hashes,
                     struct hash128 *ret_hash) {
    uint64_t whole = body_bytes / PIECE_BYTES;
    hashes->size = (size_t)whole * sizeof(struct hash128);
    int rc = hash_pieces(fd, whole * PIECE_BYTES, file_bytes, -1, hashes);
    if (rc == 0)
        *ret_hash = hash128(buf_slice(hashes));
    return rc;
}

/* What the copied environment says of itself. Only for bytes known to be as LMDB wrote them. */
static int read_state(const char *path, uint64_t body_bytes, struct trailer *t) {
    struct env env;
    struct env_txn txn;
    struct state state;
    struct slice membership;
    int rc = env_open_file(&env, path, body_bytes);
    if (rc)
        return rc;
    rc = env_read_open(&env, &txn);
    if (rc == 0) {
        rc = state_load(&txn, &state);
        if (rc == 0) {
            t->index = state.applied_index;
            t->term = state.applied_term;
            t->digest = state_digest(&state);
            t->membership_index = 0;
            rc = state_load_membership(&txn, &t->membership_index, &membership);
            if (rc == TABLE_END)
                rc = 0;
        } else if (rc == TABLE_END) {
            rc = -EBADMSG;
        }
        env_read_close(&txn);
    }
    env_close(&env);
    return rc;
}

static int file_size(int fd, uint64_t *ret_bytes) {
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EBADMSG;
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

static void fill_info(const struct trailer *t, uint64_t file_bytes, struct hash128 file_hash,
                      struct store_snapshot *ret_info) {
    *ret_info = (struct store_snapshot){
        .index = t->index,
        .term = t->term,
        .digest = t->digest,
        .file_bytes = file_bytes,
        .file_hash = file_hash,
        .membership_index = t->membership_index,
    };
}

static int write_copy(struct store *s, const char *path, int fd, struct store_snapshot *ret_info) {
    struct trailer t = {0};
    struct hash128 file_hash;
    struct buf hashes = {0}, trailer = {0};
    int rc = env_copy(&s->env, fd);
    if (rc == 0)
        rc = file_size(fd, &t.body_bytes);
    if (rc == 0)
        rc = read_state(path, t.body_bytes, &t);
    if (rc == 0)
        rc = hash_body(fd, t.body_bytes, -1, &hashes, &t.body_hash);
    if (rc == 0) {
        trailer_encode(&t, &trailer);
        rc = files_write_all(fd, buf_slice(&trailer)); /* LMDB left the offset at the end */
    }
    uint64_t file_bytes = t.body_bytes + trailer.size;
    if (rc == 0)
        rc = hash_file(fd, t.body_bytes, file_bytes, &hashes, &file_hash);
    if (rc == 0 && fsync(fd))
        rc = -errno;
    if (rc == 0)
        fill_info(&t, file_bytes, file_hash, ret_info);
    buf_fini(&hashes);
    buf_fini(&trailer);
    return rc;
}

int store_snapshot_write(struct store *s, const char *path, struct store_snapshot *ret_info) {
    size_t tmp_bytes = strlen(path) + sizeof ".tmp";
    char *tmp = xmalloc(tmp_bytes);
    snprintf(tmp, tmp_bytes, "%s.tmp", path);
    struct store_snapshot info;
    int fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : write_copy(s, tmp, fd, &info);
    if (fd >= 0 && close(fd) && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(tmp, path))
        rc = -errno;
    if (rc == 0)
        rc = files_sync_parent(path);
    if (rc && fd >= 0)
        unlink(tmp);
    free(tmp);
    if (rc == 0)
        *ret_info = info;
    return rc;
}

int store_snapshot_write_closed(const char *dir, const char *path,
                                struct store_snapshot *ret_info) {
    struct store s = {0};
    struct stat st;
    char *data = files_path(dir, STORE_DATA_NAME);
    int rc = stat(data, &st) ? -errno : env_open_file(&s.env, data, (uint64_t)st.st_size);
    if (rc == 0) {
        rc = store_snapshot_write(&s, path, ret_info);
        env_close(&s.env);
    }
    free(data);
    return rc;
}

/* Opens a snapshot file and checks its trailer. */
static int open_snapshot(const char *path, int *ret_fd, uint64_t *ret_file_bytes,
                         struct trailer *ret_trailer) {
    uint8_t bytes[TRAILER_BYTES] = {0};
    uint64_t file_bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = file_size(fd, &file_bytes);
    if (rc == 0 && file_bytes < TRAILER_BYTES)
        rc = -EBADMSG;
    if (rc == 0)
        rc = files_read_at(fd, file_bytes - TRAILER_BYTES, bytes, sizeof bytes);
    if (rc == 0 && (!trailer_decode(slice_of(bytes, sizeof bytes), ret_trailer) ||
                    ret_trailer->body_bytes != file_bytes - TRAILER_BYTES))
        rc = -EBADMSG;
    if (rc) {
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    *ret_file_bytes = file_bytes;
    return 0;
}

int store_snapshot_verify(const char *path, const struct store_snapshot *info,
                          struct store_snapshot *ret_info) {
    int fd = -1;
    uint64_t file_bytes = 0;
    struct trailer t = {0}, inside = {0};
    struct hash128 body_hash, file_hash;
    struct store_snapshot found;
    int rc = open_snapshot(path, &fd, &file_bytes, &t);
    if (rc)
        return rc;
    struct buf hashes = {0};
    rc = hash_body(fd, t.body_bytes, -1, &hashes, &body_hash);
    if (rc == 0 && !hash128_equal(body_hash, t.body_hash))
        rc = -EBADMSG;
    if (rc == 0)
        rc = hash_file(fd, t.body_bytes, file_bytes, &hashes, &file_hash);
    buf_fini(&hashes);
    close(fd);
    if (rc)
        return rc;
    fill_info(&t, file_bytes, file_hash, &found);
    if (info && (info->file_bytes != found.file_bytes ||
                 !hash128_equal(info->file_hash, found.file_hash) || info->index != found.index ||
                 info->term != found.term || !hash128_equal(info->digest, found.digest) ||
                 info->membership_index != found.membership_index))
        return -EBADMSG;
    if ((rc = read_state(path, t.body_bytes, &inside)))
        return rc;
    if (inside.index != t.index || inside.term != t.term ||
        !hash128_equal(inside.digest, t.digest) || inside.membership_index != t.membership_index)
        return -EBADMSG;
    *ret_info = found;
    return 0;
}

/* Copies the body to `to`, checked on the way. */
static int copy_body(const char *path, const char *to) {
    int fd = -1, to_fd;
    uint64_t file_bytes = 0;
    struct trailer t = {0};
    struct hash128 body_hash;
    struct buf hashes = {0};
    int rc = open_snapshot(path, &fd, &file_bytes, &t);
    if (rc)
        return rc;
    to_fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to_fd < 0) {
        rc = -errno;
    } else {
        rc = hash_body(fd, t.body_bytes, to_fd, &hashes, &body_hash);
        if (rc == 0 && !hash128_equal(body_hash, t.body_hash))
            rc = -EBADMSG;
        if (rc == 0 && fsync(to_fd))
            rc = -errno;
        if (close(to_fd) && rc == 0)
            rc = -errno;
    }
    close(fd);
    buf_fini(&hashes);
    return rc;
}

int store_snapshot_install(const char *path, const char *dir, const char *boot_id) {
    if (mkdir(dir, 0700) && errno != EEXIST)
        return -errno;
    char *tmp = files_path(dir, STORE_DATA_TMP_NAME);
    char *data = files_path(dir, STORE_DATA_NAME);
    int rc = copy_body(path, tmp);
    /* From here until the mark stands again the environment is not trusted, whatever happens. */
    if (rc == 0)
        rc = files_remove(dir, MARK_NAME);
    if (rc == 0)
        rc = files_remove(dir, STORE_LOCK_NAME);
    if (rc == 0)
        rc = files_sync_folder(dir);
    if (rc == 0 && rename(tmp, data))
        rc = -errno;
    if (rc == 0)
        rc = files_sync_folder(dir);
    if (rc == 0)
        rc = mark_write(dir, boot_id, MARK_CLEAN);
    if (rc)
        unlink(tmp);
    free(tmp);
    free(data);
    return rc;
}

void store_snapshot_encode(const struct store_snapshot *info, struct buf *out) {
    buf_append_u8(out, INFO_FORMAT);
    buf_append_u64(out, info->index);
    buf_append_u64(out, info->term);
    append_hash(out, info->digest);
    buf_append_u64(out, info->file_bytes);
    append_hash(out, info->file_hash);
    buf_append_u64(out, info->membership_index);
}

bool store_snapshot_decode(struct slice in, struct store_snapshot *ret_info) {
    struct reader r = reader_of(in);
    uint8_t format = reader_u8(&r);
    struct store_snapshot info = {.index = reader_u64(&r)};
    info.term = reader_u64(&r);
    info.digest = read_hash(&r);
    info.file_bytes = reader_u64(&r);
    info.file_hash = read_hash(&r);
    info.membership_index = reader_u64(&r);
    if (!reader_done(&r) || format != INFO_FORMAT)
        return false;
    *ret_info = info;
    return true;
}
