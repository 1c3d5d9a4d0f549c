/* Objects of one size, many of them, that come and go in crowds: connections.
 *
 * malloc() would mix them with everything else, and a crowd that has gone would leave its pages
 * behind, each held by a few small things that were allocated meanwhile. A pool takes blocks of 64
 * KiB from the system, fills the fullest of those that have room first, and gives an empty one back
 * (it keeps one). No header for each object. Not thread-safe. Under AddressSanitizer every object
 * is malloc()ed, so that it sees what is used after it was freed.
 */
#pragma once
#include <stddef.h>

#include "base/list.h"

struct pool {
    size_t object_bytes;
    struct list open;   /* blocks with room */
    struct list full;   /* blocks without */
    size_t block_count; /* in both */
    size_t object_count;
    size_t kept_max; /* empty blocks that are kept beside one with room: for what comes and goes all
                        the time. 0 from pool_init() */
    size_t kept_count;
};

void pool_init(struct pool *p, size_t object_bytes);
/* Every object must have been freed. */
void pool_fini(struct pool *p);
/* Zeroed; never fails (ends the process when there is no memory, as xcalloc() does). */
void *pool_alloc(struct pool *p);
void pool_free(struct pool *p, void *object);
