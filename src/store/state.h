/* The counters and sums of the whole state: one small record of the table sys, written with every
 * commit and read at the begin of every view. */
#pragma once
#include "store/env.h"
#include "store/store.h"

struct state {
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t time_ms;        /* log time: of the last entry applied, never going back */
    uint64_t hash_seed;      /* of member and long-key hashes; from the first entry applied */
    uint64_t next_object_id; /* from 1 */
    uint64_t next_node_id;   /* from 2: node 1 began the cluster */
    uint64_t data_bytes;
    uint64_t session_count;
    uint64_t once_count; /* requests kept by their id (store/once.h) */
    uint64_t once_bytes;
    struct hash128 once_sum; /* over them */
    uint64_t change_floor;   /* the change log is complete behind this revision */
    uint64_t change_count;
    uint64_t change_bytes;
    struct hash128 change_sum;  /* over its runs */
    struct hash128 record_sum;  /* over the records of main, with what they have in data */
    struct hash128 session_sum; /* over the sessions and their replies */
    uint64_t key_count[STORE_DB_ALL];
    uint64_t expiring_count[STORE_DB_ALL]; /* keys with an expiry among them */
};

struct state state_new(void);
/* TABLE_END when the environment is new. */
int state_load(struct env_txn *t, struct state *ret_state) WARN_UNUSED;
int state_save(struct env_txn *t, const struct state *s) WARN_UNUSED;
/* What two copies with the same applied index must agree about: the sums and the counters that
 * later commands depend on. */
struct hash128 state_digest(const struct state *s);
uint64_t state_key_count(const struct state *s);

/* index | bytes, or TABLE_END. The bytes borrow from the transaction. */
int state_load_membership(struct env_txn *t, uint64_t *ret_index,
                          struct slice *ret_membership) WARN_UNUSED;
int state_save_membership(struct env_txn *t, uint64_t index, struct slice membership) WARN_UNUSED;
