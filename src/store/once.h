/* Requests that carry a name of their own (HTTP's Idempotency-Key): what makes them run once even
 * when their client asks again through another gateway, in another client session.
 *
 * A command ONCE.EXEC carries the request's id and the command to execute. The entry that executes
 * it also stores the record: id, a hash of the command, the log index and the reply. When the id
 * comes again within ONCE_KEEP_MS of log time, the same command gets the stored reply and changes
 * nothing, another one gets an error. Part of the replicated state and of the digest; it lives in
 * the environment only, nothing of it is held in memory.
 *
 * To the store an id is bytes: what stands in it (the key, one day whose key it is) is the
 * gateway's business.
 *
 * Bounds: ONCE_COUNT_MAX records and ONCE_BYTES_MAX of them. When they are reached new ids are
 * refused, and nothing is executed: dropping an old record would break what was promised about it.
 * A reply of more than ONCE_REPLY_BYTES_MAX is not kept; an error that says so stands for it.
 *
 *   once         id                      ->  u8 format (1) | u64 expiry | hash | u64 index | reply
 *   once-expiry  u64be expiry | id       ->  empty
 */
#pragma once
#include "base/argv.h"
#include "store/env.h"
#include "store/state.h"

enum {
    ONCE_ID_BYTES_MAX = 400,
    ONCE_KEEP_MS = 24 * 60 * 60 * 1000,
    ONCE_REPLY_BYTES_MAX = 1024 * 1024,
    ONCE_COUNT_MAX = 4 * 1024 * 1024,
    ONCE_BYTES_MAX = 512 * 1024 * 1024, /* ids twice, replies, and ONCE_RECORD_BYTES for each */
    ONCE_RECORD_BYTES = 64,
};

struct once_record {
    uint64_t expiry_ms;
    struct hash128 fingerprint;
    uint64_t index;     /* of the entry that executed it */
    struct slice reply; /* borrows from the transaction, until its next change */
};

/* The hash of a command in a database: what "the same request" means. */
struct hash128 once_fingerprint(uint16_t db, const struct slice *args, size_t count);

enum { ONCE_MISSING = 1 };
/* 0, or ONCE_MISSING (also when it has expired by now_ms), or < 0. */
int once_find(struct env_txn *t, struct slice id, uint64_t now_ms,
              struct once_record *ret_record) WARN_UNUSED;
/* Whether there is no room for one more with a reply of any size that is kept. */
bool once_full(const struct state *state);
/* Stores a record that is missing; takes the place of an expired one. A reply that is too large is
 * replaced. `id` and `reply` do not point into the environment. */
int once_keep(struct env_txn *t, struct state *state, struct slice id,
              const struct once_record *record) WARN_UNUSED;
/* When the next record expires; UINT64_MAX: there are none. */
int once_first_expiry(struct env_txn *t, uint64_t *ret_ms) WARN_UNUSED;
/* Deletes up to `limit` records that have expired by now_ms, the oldest first. */
int once_sweep(struct env_txn *t, struct state *state, uint64_t now_ms, uint64_t limit,
               uint64_t *ret_removed) WARN_UNUSED;
/* Recomputes count, bytes and sum into *found from the records, for store_verify(). */
int once_verify(struct env_txn *t, struct state *found) WARN_UNUSED;
