/* A manifest: everything that a deploy of a site is, but for the bytes of its files. Sans-I/O.
 *
 * Files are cut into blocks of SITE_MANIFEST_BLOCK_BYTES (the last one is shorter), which are named
 * by their SHA-256 and kept beside. A file has up to three variants: as it is, and compressed with
 * gzip and brotli where that is worth it. The manifest itself is stored in such blocks too.
 *
 *   u8[8] "COTSITE1" | u32 block count | u32 file count | u64 bytes of the manifest
 *   | u64 bytes of all files as they are | u8[32] zero          (the store reads up to here, and)
 *   block count x u8[32] sha256, ascending, none twice          (the table)
 *   lstr text of _headers | lstr text of _redirects | lstr text of _access
 *   file count x
 *       u16 size | path, ascending, none twice | u64 modified, Unix seconds | u8 variant count
 *       variant count x
 *           u8 encoding: 0 as it is (always, and first), 1 gzip, 2 br, ascending
 *           | u64 size | u8[16] the first half of the sha256 of its bytes
 *           | one for each block: u32 position in the table
 *
 * Numbers are little-endian. What decodes is well formed all the way down; a path is one that may
 * be served (proto/site_path.h).
 */
#pragma once
#include "base/buf.h"
#include "base/reader.h"
#include "base/sha256.h"

enum {
    SITE_MANIFEST_BLOCK_BYTES = 256 * 1024,
    SITE_MANIFEST_SIZE_MAX = 64 * 1024 * 1024,
    SITE_MANIFEST_BLOCKS_MAX = 1 << 20,
    SITE_MANIFEST_TAG_BYTES = 16,
    SITE_MANIFEST_VARIANTS_MAX = 3,
};

struct site_manifest_variant {
    uint8_t encoding; /* enum http_encoding */
    uint64_t size;
    uint8_t tag[SITE_MANIFEST_TAG_BYTES];
    const uint8_t *blocks; /* site_manifest_block_count(size) x u32 */
};
struct site_manifest_file {
    struct slice path;
    uint64_t modified_s;
    uint8_t variant_count;
    struct site_manifest_variant variants[SITE_MANIFEST_VARIANTS_MAX];
};
static inline uint64_t site_manifest_block_count(uint64_t size) {
    return size / SITE_MANIFEST_BLOCK_BYTES + (size % SITE_MANIFEST_BLOCK_BYTES != 0);
}

/* ---- reading; everything borrows from the bytes ---- */

struct site_manifest {
    uint32_t block_count;
    uint32_t file_count;
    uint64_t bytes;       /* of all files as they are */
    const uint8_t *table; /* block_count x SHA256_BYTES */
    struct slice headers; /* the texts */
    struct slice redirects;
    struct slice access;
    struct slice files; /* take them with site_manifest_next() */
};
/* The whole manifest, checked. */
bool site_manifest_decode(struct slice bytes, struct site_manifest *ret);
/* Takes the next file off *in, which begins as m->files. False at the end. */
bool site_manifest_next(struct slice *in, struct site_manifest_file *ret);
/* The hash of block `i` of a variant. */
static inline const uint8_t *site_manifest_block(const struct site_manifest *m,
                                                 const struct site_manifest_variant *v,
                                                 uint64_t i) {
    return m->table + (size_t)get_u32le(v->blocks + 4 * i) * SHA256_BYTES;
}

/* ---- writing ----
 *
 * Variants of a file are added in order, files in any order. */
struct site_manifest_writer;
struct site_manifest_writer *site_manifest_writer_new(void);
void site_manifest_writer_free(struct site_manifest_writer *w);
void site_manifest_writer_texts(struct site_manifest_writer *w, struct slice headers,
                                struct slice redirects, struct slice access);
void site_manifest_writer_file(struct site_manifest_writer *w, struct slice path,
                               uint64_t modified_s);
/* Of the file added last. `hashes`: those of its blocks, one behind the other. */
void site_manifest_writer_variant(struct site_manifest_writer *w, uint8_t encoding, uint64_t size,
                                  const uint8_t tag[SITE_MANIFEST_TAG_BYTES],
                                  const uint8_t *hashes);
/* Appends the manifest. False: it breaks a limit, or a path comes twice. */
bool site_manifest_writer_end(struct site_manifest_writer *w, struct buf *out);
