/* What keyspace.c, chunks.c, members.c and iterate.c share: the inside of struct keyspace and the
 * primitives on one located record. Private to the store.
 *
 * The located record (`at`): the table main's cursor stands on it. Commands look at a key and then
 * change it; remembering the place saves the second and third descent of the tree. Whatever moves
 * that cursor goes through the functions below, which keep `at` true. After a change `at` is stale:
 * the place is right and the bytes must be fetched again.
 *
 * Arguments may point into the map (a value or content type just read is stored elsewhere), so the
 * changing functions encode everything into scratch buffers before the first change.
 */
#pragma once
#include "store/changes.h"
#include "store/env.h"
#include "store/keyspace.h"
#include "store/record.h"
#include "store/state.h"

/* Hashes, so that tests can make them collide. Never changed on a store that is in use. */
struct keyspace_hashes {
    uint64_t (*member)(struct slice field, uint64_t seed); /* 63 bits */
    struct hash128 (*key)(struct slice key, uint64_t seed);
};
extern const struct keyspace_hashes keyspace_hashes_default;

enum at_state { AT_NOWHERE, AT_STALE, AT_FRESH };

/* Long keys that share their first MAIN_SHORT_BYTES_MAX bytes, sorted, for iteration in byte order;
 * main itself has them in the order of their hashes. */
struct long_group {
    bool valid;
    uint8_t prefix[1 + MAIN_SHORT_BYTES_MAX];
    struct slice *keys; /* point into the map */
    size_t count, capacity;
};

/* How far keyspace_member_next() has come when called from the first member on without a change in
 * between: then the members met must be as many as the record says. */
struct member_walk {
    bool valid;
    uint64_t id;
    uint64_t met;
    struct member_cursor at; /* where it goes on */
};

struct keyspace {
    struct env_txn *txn;
    struct state *state;
    const struct keyspace_hashes *hashes;
    bool writable;
    uint64_t now_ms;
    uint64_t revision;
    uint64_t sites_revision; /* 0: not changed since the store was opened */
    struct rand rand;
    struct change_log log; /* of the writer */

    enum at_state at_state;
    struct main_key at_key;
    struct main_record at;
    struct slice at_bytes; /* its encoding, in the map */

    struct long_group group;
    struct member_walk walk;
    struct buf record; /* encodings about to be stored */
    struct buf chunk;
    struct buf value_scratch; /* large values put together: one for each function that hands out */
    struct buf member_scratch;
    struct buf next_scratch;
};

void keyspace_init(struct keyspace *ks, struct env_txn *txn, struct state *state,
                   const struct keyspace_hashes *hashes, bool writable);
void keyspace_fini(struct keyspace *ks);
/* Forgets what was remembered of the transaction that ended, and gives back very large buffers. */
void keyspace_reset(struct keyspace *ks);

static inline bool keyspace_visible(const struct keyspace *ks, const struct main_record *m) {
    return m->pub.expiry_ms == 0 || m->pub.expiry_ms > ks->now_ms;
}

/* A record is about to change: what was gathered for iteration does not hold any more. */
static inline void keyspace_forget_iteration(struct keyspace *ks) {
    ks->group.valid = false;
    ks->walk.valid = false;
}

/* Finds the record of a key, expired or not: 0 and ks->at, or KEYSPACE_MISSING. */
int keyspace_locate(struct keyspace *ks, uint16_t db, struct slice key) WARN_UNUSED;
/* The same, KEYSPACE_MISSING when expired. */
int keyspace_locate_visible(struct keyspace *ks, uint16_t db, struct slice key) WARN_UNUSED;
/* The same by main key, which must exist: an index points to it (else -EBADMSG). */
int keyspace_locate_main(struct keyspace *ks, struct slice main_key) WARN_UNUSED;
/* Makes `at` of what the main cursor stands on. */
int keyspace_set_at(struct keyspace *ks, struct slice main_key, struct slice bytes) WARN_UNUSED;
/* For changes: the key's record, an expired one deleted first. */
int keyspace_locate_for_change(struct keyspace *ks, uint16_t db, struct slice key) WARN_UNUSED;
uint16_t keyspace_at_db(const struct keyspace *ks);

/* A record that does not exist yet: its main key (a free suffix when long) and object id. */
int keyspace_new_record(struct keyspace *ks, uint16_t db, struct slice key,
                        struct main_key *ret_main_key, uint64_t *ret_id) WARN_UNUSED;
/* Stores ks->record, the encoding of m, with all counters and indexes. `old`: the located record it
 * replaces, NULL when new. */
int keyspace_store(struct keyspace *ks, const struct main_key *main_key,
                   const struct main_record *m, const struct main_record *old) WARN_UNUSED;
/* Deletes the located record with all it has. */
int keyspace_remove_at(struct keyspace *ks) WARN_UNUSED;

/* ---- chunks.c: values in chunks under `owner` ---- */

/* First half, before any change: takes the bytes of a value that may point into the map. */
void chunks_stage(struct keyspace *ks, struct slice value);
/* Second half: stores the staged value over one of old_bytes; *ret_sum is what the chunks add up
 * to. */
int chunks_write(struct keyspace *ks, const struct data_key *owner, struct slice value,
                 uint64_t old_bytes, struct hash128 *ret_sum) WARN_UNUSED;
int chunks_delete(struct keyspace *ks, const struct data_key *owner, uint32_t from,
                  uint32_t to) WARN_UNUSED;
/* A value of one chunk is handed out in place, else put together in `scratch`. */
int chunks_read(struct keyspace *ks, const struct data_key *owner, uint64_t bytes,
                struct buf *scratch, struct slice *ret_value) WARN_UNUSED;
