/* The pages of an LMDB file, looked at without LMDB.
 *
 * LMDB believes what its pages say: a damaged one makes it crash, run in circles, or not find what
 * is there. So before a file is opened that may have been damaged, pages_check() walks every tree
 * of it by itself: each page is the one that it was taken for, every record lies inside its page,
 * keys ascend and lie between those of the branches above, no page is used twice or used and free,
 * and the counts fit. What it passes LMDB can read and change; whether the records are right is for
 * store_verify() to say. The layout is that of LMDB's data version 1 (0.9.x) on little-endian
 * machines with 64 bits.
 */
#pragma once
#include <stdint.h>

#include "base/check.h"

/* Called with the bytes read since the last time. */
typedef void (*pages_read_fn)(void *ctx, uint64_t bytes);

struct pages_report {
    uint64_t pages;      /* in use */
    uint64_t free_pages; /* that LMDB will use again */
    uint64_t offset;     /* of the damage, in bytes */
    char problem[128];   /* in words; empty when there is none */
};

/* -EBADMSG: damaged, see *ret. Else the error of reading. on_read may be NULL. */
int pages_check(const char *path, pages_read_fn on_read, void *ctx,
                struct pages_report *ret) WARN_UNUSED;
