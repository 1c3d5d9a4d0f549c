/* Blocks of files in a folder of a web server's own disk, so that it goes on serving sites while
 * the database is unreachable, also after it was started again.
 *
 *   DIR/blocks/ab/abcd...   a block by its SHA-256: the bytes | u64 XXH3 of them
 *   DIR/sites               what sites there were when they were last known (the loader's)
 *
 * A block's name says what is in it, so nothing here is ever out of date; a file that turns out to
 * be damaged or cut short is removed, and fetched again. Files are written beside and renamed, not
 * flushed: after a power cut some are missing or empty.
 *
 * Threads: site_cache_read() and site_cache_put() on any; everything else on the loader's. The sum
 * of sizes is atomic, and of threads that put the same block at once only one counts it. File reads
 * and writes block the thread that makes them: blocks are at most 256 KiB. Bounded: what would make
 * the folder larger than its limit is not kept.
 */
#pragma once
#include "base/buf.h"
#include "base/sha256.h"

struct site_cache;

/* Makes the folder when it is missing, and looks at what is in it. Negative errno. */
int site_cache_open(const char *dir, uint64_t bytes_max, struct site_cache **ret_cache) WARN_UNUSED;
void site_cache_free(struct site_cache *c);
/* Replaces the content of `out` by the block. False: it is not there. */
bool site_cache_read(struct site_cache *c, const uint8_t *hash, struct buf *out);
/* Whether there is a file of it; what is in it only reading shows. */
bool site_cache_has(struct site_cache *c, const uint8_t *hash);
/* Keeps a block. A failure (no room, an error of the disk) is no error: it is not there then. */
void site_cache_put(struct site_cache *c, const uint8_t *hash, struct slice bytes);
/* Deletes the blocks that `wanted` does not want. */
void site_cache_prune(struct site_cache *c, bool (*wanted)(void *ctx, const uint8_t *hash),
                      void *ctx);
uint64_t site_cache_bytes(struct site_cache *c);
bool site_cache_full(struct site_cache *c);
/* The file DIR/sites: whole or not at all. */
bool site_cache_read_state(struct site_cache *c, struct buf *out);
void site_cache_write_state(struct site_cache *c, struct slice bytes);
