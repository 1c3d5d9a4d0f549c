/* The records of sites (store/sites.h), taken apart. Private to the store. */
#pragma once
#include "store/call.h"
#include "store/sites.h"

enum site_key {
    SITES_BLOCK = 'b',
    SITES_REFERENCE = 'r',
    SITES_DEPLOY = 'd',
    SITES_SITE = 's',
    SITES_DROPPED = 'x',
    SITES_VERSION = 'v',
};
enum { SITES_VERSION_BYTES = 16 };

struct site_deploy_record {
    enum site_deploy_state state;
    uint64_t created_ms;
    uint64_t files;
    uint64_t bytes;
    uint32_t pinned; /* of block_count */
    uint32_t block_count;
    uint64_t manifest_bytes;
    struct slice site;
    struct slice note;
    struct slice hashes; /* of the manifest's blocks */
};

struct site_record {
    uint64_t shown;        /* 0: nothing yet */
    uint64_t switch_index; /* log index of the last switch */
    uint64_t switch_ms;
    uint32_t keep;
    struct slice hosts; /* joined by "," */
    uint32_t deploy_count;
    uint64_t deploys[SITE_DEPLOYS_MAX]; /* ascending, those that were not dropped */
};

struct site_name {
    uint8_t bytes[1 + SITE_HASH_BYTES + SITE_NAME_BYTES_MAX];
    size_t size;
};
static inline struct slice site_name_slice(const struct site_name *n) {
    return slice_of(n->bytes, n->size);
}
struct site_name site_name_of(enum site_key kind, struct slice rest);
struct site_name site_name_deploy(enum site_key kind, uint64_t id);
struct site_name site_name_reference(const uint8_t *hash, uint64_t id);

/* Slices borrow from the bytes. False: malformed. */
bool site_deploy_decode(struct slice bytes, struct site_deploy_record *ret);
void site_deploy_encode(struct buf *out, const struct site_deploy_record *d);
bool site_record_decode(struct slice bytes, struct site_record *ret);
void site_record_encode(struct buf *out, const struct site_record *s);

/* 0, KEYSPACE_MISSING or < 0. *ret borrows from `bytes`, which gets a copy of the record. */
int site_deploy_load(struct keyspace *ks, uint64_t id, struct buf *bytes,
                     struct site_deploy_record *ret) WARN_UNUSED;
int site_record_load(struct keyspace *ks, struct slice name, struct buf *bytes,
                     struct site_record *ret) WARN_UNUSED;
int site_deploy_store(struct keyspace *ks, uint64_t id,
                      const struct site_deploy_record *d) WARN_UNUSED;
int site_record_store(struct keyspace *ks, struct slice name,
                      const struct site_record *s) WARN_UNUSED;
/* Copies up to SITE_PIN_BLOCKS hashes of the deploy's table, from position `from` on; -EBADMSG when
 * the manifest is not there. */
int site_hashes_load(struct keyspace *ks, const struct site_deploy_record *d, uint32_t from,
                     uint32_t count, uint8_t *ret_hashes) WARN_UNUSED;
