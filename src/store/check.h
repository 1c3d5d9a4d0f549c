/* Looking at a store that is not open: its files are read, and nothing is changed. For `cotidal
 * check`, and for a node that starts.
 *
 * What is looked at, in this order: the pages of the LMDB file (store/pages.h), every record with
 * the counters and sums computed again (store_verify()). A byte that differs from what was written
 * is noticed wherever it is in use: the state's own record has a checksum, its sums cover all
 * others, and what is not a record is a page's frame. Nothing of a file is given to LMDB before its
 * pages were found right.
 */
#pragma once
#include "store/pages.h"
#include "store/store.h"

/* What was found, as far as it was read; `problem` is empty when all is right. */
struct store_check {
    uint64_t file_bytes; /* in use */
    uint64_t index, term;
    uint64_t membership_index;
    uint64_t keys, data_bytes, sessions;
    struct hash128 digest;
    char problem[256]; /* which file, where, what */
};

enum store_check_result {
    STORE_CHECK_GOOD = 0,
    STORE_CHECK_NONE = 1,      /* there is no store */
    STORE_CHECK_UNTRUSTED = 2, /* as STORE_UNTRUSTED: a start would rebuild it; not looked at */
};

/* The store in folder `dir`. -EBADMSG: damaged; another negative errno: it could not be read. Both
 * say why in ret->problem. */
int store_check_folder(const char *dir, const char *boot_id, pages_read_fn on_read, void *ctx,
                       struct store_check *ret) WARN_UNUSED;
/* A snapshot or backup file: its own checksums, then what it holds. `info`: what it must be, or
 * NULL. */
int store_check_snapshot(const char *path, const struct store_snapshot *info, pages_read_fn on_read,
                         void *ctx, struct store_check *ret) WARN_UNUSED;
