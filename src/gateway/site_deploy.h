/* A deploy of a site as it is served: its manifest, taken apart once into tables.
 *
 * Immutable but for two kinds of pointers that threads set once, each by a compare-and-swap: a
 * variant's `blob` (its bytes in memory) and an entry's `hot` (an answer that only lacks its status
 * line and date). So any number of threads serve from it without a lock. What is kept in memory is
 * counted in `budget`, which all deploys of a process share; a file that finds no room is read
 * anew each time.
 *
 * Reference counted; the last reference frees it.
 */
#pragma once
#include "proto/http_encoding.h"
#include "proto/site_access.h"
#include "proto/site_headers.h"
#include "proto/site_manifest.h"
#include "proto/site_path.h"
#include "proto/site_redirects.h"

enum {
    SITE_BLOB_BYTES_MAX = SITE_MANIFEST_BLOCK_BYTES, /* larger files are read block by block */
    SITE_HOT_BODY_BYTES_MAX = 8 * 1024,              /* up to here a hot answer is one piece */
    SITE_ETAG_BYTES = 2 * SITE_MANIFEST_TAG_BYTES + 2,
};

struct site_budget {
    uint64_t bytes; /* atomic */
    uint64_t bytes_max;
};

struct site_blob {
    uint32_t refs; /* atomic */
    struct site_budget *budget;
    size_t size;
    uint8_t bytes[];
};

struct site_hot {
    struct site_blob *blob; /* the body */
    size_t head_size;       /* of bytes: header lines, and the empty one */
    size_t size;            /* of bytes: with the body behind, when it is short */
    uint8_t bytes[];
};

struct site_variant {
    enum http_encoding encoding;
    uint64_t size;
    char etag[SITE_ETAG_BYTES + 1]; /* with its quotes */
    const uint8_t *blocks;
    struct site_blob *blob; /* atomic; NULL: not in memory */
};

struct site_file {
    struct slice path;
    const char *content_type;
    uint64_t modified_s;
    bool hashed; /* its name says what is in it */
    bool html;
    uint8_t variant_count;
    unsigned encodings; /* bit 1 << e for each that there is */
    struct site_variant *variants;
};

/* What a path leads to. */
struct site_entry {
    struct slice path;
    uint64_t hash;
    int rank;
    struct site_file *file;                    /* NULL: moved */
    struct slice to;                           /* where to */
    struct site_hot *hot[HTTP_ENCODING_COUNT]; /* atomic; of GET, 200, all of it */
};

struct site_deploy {
    uint32_t refs; /* atomic */
    uint64_t id;
    struct site_budget *budget;
    struct buf bytes;  /* the manifest */
    struct buf hashes; /* of its own blocks */
    struct site_manifest manifest;
    struct site_file *files;
    struct site_variant *variants;
    struct site_entry *entries;
    size_t entry_count;
    uint32_t *table; /* positions in entries + 1, by hash; 0: free */
    size_t table_size;
    struct buf texts;                 /* paths that are not in the manifest */
    struct site_headers *headers;     /* NULL: none, or malformed */
    struct site_redirects *redirects; /* likewise */
    struct site_access *access;       /* likewise; what visitors may do besides */
    struct client_limits **limits;    /* of its rules; NULL: a rule without a rate */
};

/* Takes the manifest's bytes, copies the hashes of its blocks. NULL when they are not a manifest
 * (and frees them). */
struct site_deploy *site_deploy_new(uint64_t id, struct buf *manifest, struct slice hashes,
                                    struct site_budget *budget);
struct site_deploy *site_deploy_ref(struct site_deploy *d);
void site_deploy_unref(struct site_deploy *d); /* NULL is nothing */
/* The same deploy with nothing in memory yet. */
struct site_deploy *site_deploy_fresh(const struct site_deploy *d);
/* What of `from` is in memory and the same here is in memory here, too. */
void site_deploy_inherit(struct site_deploy *d, const struct site_deploy *from);

/* Whether one of its files, or its manifest, has this block. */
bool site_deploy_has_block(const struct site_deploy *d, const uint8_t *hash);
/* NULL: nothing is there. */
struct site_entry *site_deploy_find(const struct site_deploy *d, struct slice path);
const struct site_variant *site_file_variant(const struct site_file *f, enum http_encoding e);
/* How many bytes block `i` of a variant has. */
size_t site_variant_block_bytes(const struct site_variant *v, uint64_t i);
static inline const uint8_t *site_variant_block(const struct site_deploy *d,
                                                const struct site_variant *v, uint64_t i) {
    return d->manifest.table + (size_t)get_u32le(v->blocks + 4 * i) * SHA256_BYTES;
}

static inline struct site_blob *site_variant_blob(const struct site_variant *v) {
    return __atomic_load_n(&v->blob, __ATOMIC_ACQUIRE);
}
/* Keeps a copy of the variant's bytes in memory when there is room; false: there is none. */
bool site_variant_keep(struct site_variant *v, struct site_budget *budget, struct slice bytes);
static inline struct site_hot *site_entry_hot(const struct site_entry *e, enum http_encoding enc) {
    return __atomic_load_n(&e->hot[enc], __ATOMIC_ACQUIRE);
}
/* Keeps an answer: `head` as in struct site_hot. */
void site_entry_keep(struct site_entry *e, enum http_encoding enc, struct site_budget *budget,
                     struct site_blob *blob, struct slice head);
