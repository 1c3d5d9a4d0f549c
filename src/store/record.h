/* The bytes of keys and records in the tables main, ids, data and expiry (docs/store-format.md):
 * building and taking apart, nothing else. Everything that is decoded is checked; bytes that do not
 * fit are -EBADMSG.
 *
 * Main keys: db u8 and the user key, when that is at most MAIN_SHORT_BYTES_MAX bytes. A longer one
 * is cut: db u8 | its first MAIN_SHORT_BYTES_MAX bytes | its 128-bit hash | u32 BE suffix, which is
 * longer than any short one can be, so that the two never meet. The record then holds the full
 * key, which is always compared; keys that share the hash differ in the suffix.
 */
#pragma once
#include "base/buf.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "store/keyspace.h"

enum {
    MAIN_SHORT_BYTES_MAX = 490,
    MAIN_HASH_BYTES = 16,
    MAIN_SUFFIX_BYTES = 4,
    MAIN_LONG_BYTES = 1 + MAIN_SHORT_BYTES_MAX + MAIN_HASH_BYTES + MAIN_SUFFIX_BYTES, /* 511 */

    RECORD_INLINE_BYTES_MAX = 1536, /* a larger value stands in data */
    CHUNK_BYTES = 256 * 1024,

    IDS_KEY_BYTES = 9,
    EXPIRY_KEY_BYTES = 17,
    DATA_ID_BYTES = 8,
    DATA_MEMBER_BYTES = 8 + 8 + 4,
    DATA_KEY_BYTES_MAX = DATA_MEMBER_BYTES + 4,
};

struct main_key {
    uint16_t size;
    uint8_t bytes[MAIN_LONG_BYTES];
};
static inline struct slice main_key_slice(const struct main_key *k) {
    return slice_of(k->bytes, k->size);
}
static inline bool main_key_is_long(struct slice main_key) {
    return main_key.size == MAIN_LONG_BYTES;
}

enum record_flag {
    RECORD_EXPIRES = 1 << 0,
    RECORD_CONTENT_TYPE = 1 << 1,
    RECORD_LONG_KEY = 1 << 2,
    RECORD_OUTSIDE = 1 << 3, /* value or members stand in data */
    RECORD_FLAGS_ALL = (1 << 4) - 1,
};

/* A record of main, taken apart. Slices borrow from where it was taken. */
struct main_record {
    struct record pub;
    uint8_t flags;
    uint64_t outside_bytes;     /* RECORD_OUTSIDE: of the value, or of all fields and values */
    struct hash128 outside_sum; /* RECORD_OUTSIDE: over the records in data */
    struct slice long_key;      /* RECORD_LONG_KEY: the full key */
    struct slice value;         /* without RECORD_OUTSIDE: the value of a string */
};

int record_decode(struct slice main_key, struct slice bytes,
                  struct main_record *ret_record) WARN_UNUSED;
/* Replaces the content of `b`. The flags are derived from the fields but for RECORD_OUTSIDE. */
void record_encode(struct buf *b, struct main_record *record);
/* Puts what became known after the encoding into it. */
void record_patch_id(struct buf *b, uint64_t id);
void record_patch_sum(struct buf *b, const struct main_record *record);
/* The user key: from the main key, or from the record when long. */
struct slice record_key(struct slice main_key, const struct main_record *record);

/* What one stored pair adds to a sum of the digest. */
struct hash128 pair_sum(struct slice key, struct slice value);

void ids_key(uint8_t out[IDS_KEY_BYTES], uint16_t db, uint64_t id);
void expiry_key(uint8_t out[EXPIRY_KEY_BYTES], uint64_t expiry_ms, uint16_t db, uint64_t id);
bool expiry_key_decode(struct slice key, uint64_t *ret_expiry_ms, uint16_t *ret_db,
                       uint64_t *ret_id);

/* A key of data, built up from the left. */
struct data_key {
    uint8_t size;
    uint8_t bytes[DATA_KEY_BYTES_MAX];
};
static inline struct slice data_key_slice(const struct data_key *k) {
    return slice_of(k->bytes, k->size);
}
/* What of it goes into sums: without the object id, so that a copied object keeps its sum. */
static inline struct slice data_key_inner(struct slice key) {
    return slice_of(key.data + DATA_ID_BYTES, key.size - DATA_ID_BYTES);
}
struct data_key data_key_object(uint64_t id);
struct data_key data_key_member(uint64_t id, uint64_t hash, uint32_t suffix);
struct data_key data_key_chunk(const struct data_key *owner, uint32_t index);

/* A member of a hash. */
struct member_record {
    struct slice field;
    struct slice value;       /* when not chunked */
    bool chunked;             /* the value follows in chunks */
    uint64_t value_bytes;     /* either way */
    struct hash128 chunk_sum; /* over the chunks */
};
int member_decode(struct slice bytes, struct member_record *ret_member) WARN_UNUSED;
void member_encode(struct buf *b, const struct member_record *member);
/* Puts the sum that became known after the encoding into it; the member is chunked. */
void member_patch_sum(struct buf *b, const struct member_record *member);

/* A chunk: a format byte, then the bytes. */
enum { CHUNK_FORMAT = 1 };
int chunk_decode(struct slice bytes, struct slice *ret_value) WARN_UNUSED;
static inline uint32_t chunk_count(uint64_t value_bytes) {
    return (uint32_t)((value_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
}
