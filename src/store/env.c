#include "store/env.h"

#include <errno.h>
#include <fcntl.h>

#include "base/bytes.h"

enum { READERS_MAX = 512 };

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer cannot see how LMDB keeps readers and the writer apart (reader slots and page
 * reference by transaction, in a library that is not instrumented), and a copy of the environment
 * reads free pages while they are written: what they hold does not matter. write_chunk() fills
 * pages that LMDB has given to the writer. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) {
    return "race:liblmdb.so\nrace:write_chunk\n";
}
#endif

static const char *const table_names[TABLE_COUNT] = {
    [TABLE_MAIN] = "main",         [TABLE_IDS] = "ids",
    [TABLE_DATA] = "data",         [TABLE_EXPIRY] = "expiry",
    [TABLE_SESSIONS] = "sessions", [TABLE_SYS] = "sys",
    [TABLE_ONCE] = "once",         [TABLE_ONCE_EXPIRY] = "once-expiry",
    [TABLE_CHANGES] = "changes",
};

/* LMDB returns positive errno and negative codes of its own; this is the one place that knows. */
static int from_lmdb(int rc) {
    if (rc >= 0)
        return -rc;
    switch (rc) {
    case MDB_NOTFOUND:
        return TABLE_END;
    case MDB_MAP_FULL:
        return -ENOSPC;
    case MDB_READERS_FULL:
    case MDB_DBS_FULL:
        return -EMFILE;
    case MDB_VERSION_MISMATCH:
        return -EPROTONOSUPPORT;
    case MDB_TXN_FULL:
        return -EFBIG;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_PANIC:
    case MDB_INCOMPATIBLE:
        return -EBADMSG;
    case MDB_BAD_TXN:
    case MDB_BAD_DBI:
    case MDB_BAD_RSLOT:
    case MDB_BAD_VALSIZE:
        return -EINVAL;
    default:
        return -EIO;
    }
}

static MDB_val to_val(struct slice s) {
    /* LMDB's type is not const; it does not write through it. */
    return (MDB_val){.mv_size = s.size, .mv_data = (void *)(uintptr_t)s.data};
}

static struct slice from_val(MDB_val v) {
    return slice_of(v.mv_data, v.mv_size);
}

static int open_tables(struct env *e, bool create) {
    MDB_txn *txn;
    int rc = mdb_txn_begin(e->handle, NULL, create ? 0 : MDB_RDONLY, &txn);
    if (rc)
        return from_lmdb(rc);
    for (int i = 0; i < TABLE_COUNT; i++) {
        rc = mdb_dbi_open(txn, table_names[i], create ? MDB_CREATE : 0, &e->dbi[i]);
        if (rc) {
            mdb_txn_abort(txn);
            return rc == MDB_NOTFOUND ? -EBADMSG : from_lmdb(rc);
        }
    }
    return from_lmdb(mdb_txn_commit(txn));
}

static int open_env(struct env *e, const char *path, uint64_t map_bytes, unsigned flags) {
    *e = (struct env){0};
    int rc = mdb_env_create(&e->handle);
    if (rc)
        return from_lmdb(rc);
    if ((rc = mdb_env_set_maxdbs(e->handle, TABLE_COUNT)) ||
        (rc = mdb_env_set_maxreaders(e->handle, READERS_MAX)) ||
        (rc = mdb_env_set_mapsize(e->handle, map_bytes)) ||
        (rc = mdb_env_open(e->handle, path, flags | MDB_NORDAHEAD | MDB_NOTLS, 0600)))
        rc = from_lmdb(rc);
    else
        rc = open_tables(e, !(flags & MDB_RDONLY));
    if (rc)
        env_close(e);
    return rc;
}

int env_open(struct env *e, const char *dir, uint64_t map_bytes) {
    return open_env(e, dir, map_bytes, MDB_WRITEMAP | MDB_NOSYNC);
}

int env_open_file(struct env *e, const char *path, uint64_t file_bytes) {
    return open_env(e, path, file_bytes, MDB_RDONLY | MDB_NOSUBDIR | MDB_NOLOCK);
}

void env_close(struct env *e) {
    if (e->handle)
        mdb_env_close(e->handle);
    *e = (struct env){0};
}

int env_sync(struct env *e) {
    return from_lmdb(mdb_env_sync(e->handle, 1));
}

uint64_t env_offset(const struct env *e, struct slice key) {
    MDB_stat stat;
    if (mdb_env_stat(e->handle, &stat))
        return 0;
    /* A key lies in a leaf page, and a page begins with its number. */
    uint64_t within = (uint64_t)(uintptr_t)key.data & (stat.ms_psize - 1);
    return get_u64le(key.data - within) * stat.ms_psize + within;
}

uint64_t env_file_bytes(const struct env *e) {
    MDB_envinfo info;
    MDB_stat stat;
    if (mdb_env_info(e->handle, &info) || mdb_env_stat(e->handle, &stat))
        return 0;
    return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

int env_reserve(struct env *e, uint64_t bytes) {
    int fd;
    if (bytes <= e->reserved)
        return 0;
    int rc = mdb_env_get_fd(e->handle, &fd);
    if (rc)
        return from_lmdb(rc);
    /* Not posix_fallocate(): where the file system cannot, that writes, over what LMDB has there.
     */
    while (fallocate(fd, 0, (off_t)e->reserved, (off_t)(bytes - e->reserved))) {
        if (errno == EOPNOTSUPP || errno == ENOSYS) {
            bytes = UINT64_MAX;
            break;
        }
        if (errno != EINTR)
            return -errno;
    }
    e->reserved = bytes;
    return 0;
}

int env_copy(struct env *e, int fd) {
    return from_lmdb(mdb_env_copyfd2(e->handle, fd, 0));
}

int env_write_begin(struct env *e, struct env_txn *t) {
    *t = (struct env_txn){.env = e, .writable = true};
    return from_lmdb(mdb_txn_begin(e->handle, NULL, 0, &t->handle));
}

int env_write_commit(struct env_txn *t) {
    /* LMDB frees a write transaction's cursors with it. */
    int rc = mdb_txn_commit(t->handle);
    *t = (struct env_txn){0};
    return from_lmdb(rc);
}

void env_write_abort(struct env_txn *t) {
    if (t->handle)
        mdb_txn_abort(t->handle);
    *t = (struct env_txn){0};
}

int env_read_open(struct env *e, struct env_txn *t) {
    *t = (struct env_txn){.env = e};
    return from_lmdb(mdb_txn_begin(e->handle, NULL, MDB_RDONLY, &t->handle));
}

void env_read_park(struct env_txn *t) {
    mdb_txn_reset(t->handle);
    memset(t->bound, 0, sizeof t->bound);
}

int env_read_renew(struct env_txn *t) {
    return from_lmdb(mdb_txn_renew(t->handle));
}

void env_read_close(struct env_txn *t) {
    if (!t->handle)
        return;
    for (int i = 0; i < TABLE_COUNT; i++) {
        if (t->cursors[i])
            mdb_cursor_close(t->cursors[i]);
    }
    mdb_txn_abort(t->handle);
    *t = (struct env_txn){0};
}

static int bind_cursor(struct env_txn *t, enum table table) {
    int rc = t->cursors[table] ? mdb_cursor_renew(t->handle, t->cursors[table])
                               : mdb_cursor_open(t->handle, t->env->dbi[table], &t->cursors[table]);
    if (rc)
        return from_lmdb(rc);
    t->bound[table] = true;
    return 0;
}

static int cursor_get(struct env_txn *t, enum table table, MDB_cursor_op op, struct slice key,
                      struct slice *ret_key, struct slice *ret_value) {
    if (!t->bound[table]) {
        int rc = bind_cursor(t, table);
        if (rc)
            return rc;
    }
    MDB_val k = to_val(key), v = {0};
    int rc = mdb_cursor_get(t->cursors[table], &k, &v, op);
    if (rc)
        return from_lmdb(rc);
    if (ret_key)
        *ret_key = from_val(k);
    if (ret_value)
        *ret_value = from_val(v);
    return 0;
}

int table_get(struct env_txn *t, enum table table, struct slice key, struct slice *ret_value) {
    return cursor_get(t, table, MDB_SET, key, NULL, ret_value);
}

int table_seek(struct env_txn *t, enum table table, struct slice key, struct slice *ret_key,
               struct slice *ret_value) {
    return cursor_get(t, table, MDB_SET_RANGE, key, ret_key, ret_value);
}

int table_first(struct env_txn *t, enum table table, struct slice *ret_key,
                struct slice *ret_value) {
    return cursor_get(t, table, MDB_FIRST, slice_of(NULL, 0), ret_key, ret_value);
}

int table_last(struct env_txn *t, enum table table, struct slice *ret_key,
               struct slice *ret_value) {
    return cursor_get(t, table, MDB_LAST, slice_of(NULL, 0), ret_key, ret_value);
}

int table_next(struct env_txn *t, enum table table, struct slice *ret_key,
               struct slice *ret_value) {
    return cursor_get(t, table, MDB_NEXT, slice_of(NULL, 0), ret_key, ret_value);
}

int table_prev(struct env_txn *t, enum table table, struct slice *ret_key,
               struct slice *ret_value) {
    return cursor_get(t, table, MDB_PREV, slice_of(NULL, 0), ret_key, ret_value);
}

int table_current(struct env_txn *t, enum table table, struct slice *ret_key,
                  struct slice *ret_value) {
    return cursor_get(t, table, MDB_GET_CURRENT, slice_of(NULL, 0), ret_key, ret_value);
}

static int cursor_put(struct env_txn *t, enum table table, struct slice key, MDB_val *value,
                      unsigned flags) {
    CHECK(t->writable);
    if (!t->bound[table]) {
        int rc = bind_cursor(t, table);
        if (rc)
            return rc;
    }
    MDB_val k = to_val(key);
    return from_lmdb(mdb_cursor_put(t->cursors[table], &k, value, flags));
}

int table_put(struct env_txn *t, enum table table, struct slice key, struct slice value) {
    MDB_val v = to_val(value);
    return cursor_put(t, table, key, &v, 0);
}

int table_put_current(struct env_txn *t, enum table table, struct slice key, struct slice value) {
    MDB_val v = to_val(value);
    return cursor_put(t, table, key, &v, MDB_CURRENT);
}

int table_reserve(struct env_txn *t, enum table table, struct slice key, size_t size,
                  uint8_t **ret_at) {
    MDB_val v = {.mv_size = size};
    int rc = cursor_put(t, table, key, &v, MDB_RESERVE);
    if (rc)
        return rc;
    *ret_at = v.mv_data;
    return 0;
}

int table_delete_current(struct env_txn *t, enum table table) {
    CHECK(t->writable);
    CHECK(t->bound[table]);
    return from_lmdb(mdb_cursor_del(t->cursors[table], 0));
}

int table_delete(struct env_txn *t, enum table table, struct slice key) {
    int rc = table_get(t, table, key, NULL);
    return rc ? rc : table_delete_current(t, table);
}

int table_delete_prefix(struct env_txn *t, enum table table, struct slice prefix) {
    struct slice key = {0};
    int rc = table_seek(t, table, prefix, &key, NULL);
    while (rc == 0 && slice_starts_with(key, prefix)) {
        rc = table_delete_current(t, table);
        if (rc == 0)
            rc = table_next(t, table, &key, NULL);
    }
    return rc < 0 ? rc : 0;
}

int table_clear(struct env_txn *t, enum table table) {
    CHECK(t->writable);
    if (t->cursors[table]) {
        mdb_cursor_close(t->cursors[table]);
        t->cursors[table] = NULL;
        t->bound[table] = false;
    }
    return from_lmdb(mdb_drop(t->handle, t->env->dbi[table], 0));
}

int table_count(struct env_txn *t, enum table table, uint64_t *ret_count) {
    MDB_stat stat;
    int rc = mdb_stat(t->handle, t->env->dbi[table], &stat);
    if (rc)
        return from_lmdb(rc);
    *ret_count = stat.ms_entries;
    return 0;
}
