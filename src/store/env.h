/* LMDB, wrapped: one environment with our nine tables, transactions that carry one cursor a table,
 * and errors as negative errno. lmdb.h and its error codes stay in env.c and this header.
 *
 * Transactions: one thread at a time writes; readers are independent of each other and of it
 * (MDB_NOTLS: a read transaction belongs to its struct, not to a thread).
 *
 * Each table has one cursor in each transaction, and every table_*() call that finds or stores
 * leaves it there: table_next(), table_current() and the *_current() functions go on from it.
 *
 * Bytes handed out point into the map. In a read transaction they stay valid until its end; in the
 * write transaction until the next change.
 *
 * Return codes: 0; TABLE_END (no such record, or past the last); < 0 negative errno.
 */
#pragma once
#include <lmdb.h>

#include "base/check.h"
#include "base/slice.h"

enum table {
    TABLE_MAIN,        /* db + user key -> the record */
    TABLE_IDS,         /* db + object id -> main key */
    TABLE_DATA,        /* object id + ... -> chunks of large values, members of hashes */
    TABLE_EXPIRY,      /* expiry + db + object id -> nothing */
    TABLE_SESSIONS,    /* session id [+ sequence] -> header, or stored replies */
    TABLE_SYS,         /* name -> state, membership */
    TABLE_ONCE,        /* id of a request -> what it was answered (store/once.h) */
    TABLE_ONCE_EXPIRY, /* expiry + id -> nothing */
    TABLE_CHANGES,     /* revision + run -> changes (store/changes.h) */
    TABLE_COUNT,
};
enum { TABLE_END = 1, TABLE_KEY_BYTES_MAX = 511 };

struct env {
    MDB_env *handle;
    uint64_t reserved; /* bytes of the file that have their place on the disk */
    MDB_dbi dbi[TABLE_COUNT];
};

struct env_txn {
    struct env *env;
    MDB_txn *handle; /* NULL: none */
    bool writable;
    MDB_cursor *cursors[TABLE_COUNT]; /* opened when first used */
    bool bound[TABLE_COUNT];          /* a reader's cursor was renewed since the last renewal */
};

/* Opens or creates the environment in folder `dir`. */
int env_open(struct env *e, const char *dir, uint64_t map_bytes) WARN_UNUSED;
/* Opens the single file `path` for reading only, without locks: nobody may write it meanwhile. */
int env_open_file(struct env *e, const char *path, uint64_t file_bytes) WARN_UNUSED;
void env_close(struct env *e);
int env_sync(struct env *e) WARN_UNUSED;
/* Where in the file a key stands that a table_*() call gave out. */
uint64_t env_offset(const struct env *e, struct slice key);
/* Of the pages in use or used before; 0 when not known. Any thread. */
uint64_t env_file_bytes(const struct env *e);
/* Sees to it that the file's first bytes have their place on the disk: a page of the map that has
 * none cannot be written when the disk is full, and the process gets SIGBUS. -ENOSPC: there is no
 * room. File systems that cannot promise are believed to have room. */
int env_reserve(struct env *e, uint64_t bytes) WARN_UNUSED;
/* Writes a consistent copy to fd. Any thread; it waits for the open write transaction to end, so
 * the thread that has one open must not call it. */
int env_copy(struct env *e, int fd) WARN_UNUSED;

int env_write_begin(struct env *e, struct env_txn *t) WARN_UNUSED;
int env_write_commit(struct env_txn *t) WARN_UNUSED;
void env_write_abort(struct env_txn *t);

/* A read transaction is opened once, parked between uses, and closed at the end. */
int env_read_open(struct env *e, struct env_txn *t) WARN_UNUSED; /* pinned to the newest state */
void env_read_park(struct env_txn *t);
int env_read_renew(struct env_txn *t) WARN_UNUSED;
void env_read_close(struct env_txn *t);

int table_get(struct env_txn *t, enum table table, struct slice key,
              struct slice *ret_value) WARN_UNUSED;
/* The first record whose key is >= `key` in byte order. ret_* may be NULL. */
int table_seek(struct env_txn *t, enum table table, struct slice key, struct slice *ret_key,
               struct slice *ret_value) WARN_UNUSED;
int table_first(struct env_txn *t, enum table table, struct slice *ret_key,
                struct slice *ret_value) WARN_UNUSED;
int table_last(struct env_txn *t, enum table table, struct slice *ret_key,
               struct slice *ret_value) WARN_UNUSED;
/* After a deletion, table_next() gives the record that followed the deleted one. */
int table_next(struct env_txn *t, enum table table, struct slice *ret_key,
               struct slice *ret_value) WARN_UNUSED;
int table_prev(struct env_txn *t, enum table table, struct slice *ret_key,
               struct slice *ret_value) WARN_UNUSED;
int table_current(struct env_txn *t, enum table table, struct slice *ret_key,
                  struct slice *ret_value) WARN_UNUSED;

/* `value` must not point into the map's pages of the same table (they move while it is stored). */
int table_put(struct env_txn *t, enum table table, struct slice key,
              struct slice value) WARN_UNUSED;
/* Replaces the value at the cursor; `key` is the key there. */
int table_put_current(struct env_txn *t, enum table table, struct slice key,
                      struct slice value) WARN_UNUSED;
/* Makes room for a value of `size` bytes, to be filled before the next change. */
int table_reserve(struct env_txn *t, enum table table, struct slice key, size_t size,
                  uint8_t **ret_at) WARN_UNUSED;
int table_delete_current(struct env_txn *t, enum table table) WARN_UNUSED;
/* TABLE_END when there is no such record. */
int table_delete(struct env_txn *t, enum table table, struct slice key) WARN_UNUSED;
/* Deletes every record whose key begins with prefix. */
int table_delete_prefix(struct env_txn *t, enum table table, struct slice prefix) WARN_UNUSED;
int table_clear(struct env_txn *t, enum table table) WARN_UNUSED;
int table_count(struct env_txn *t, enum table table, uint64_t *ret_count) WARN_UNUSED;
