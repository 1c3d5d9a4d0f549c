/* The change log: which keys were changed, in the order of their revisions, so that whoever watches
 * can go on from any revision it has seen (KV.CHANGES in commands.h).
 *
 * Bounded by CHANGES_COUNT_MAX changes and CHANGES_BYTES_MAX bytes, less by a configuration that
 * must be the same on all nodes. What goes beyond drops off at the old end. The floor is the
 * revision of the newest change that was dropped: behind it the log is complete. All of it is part
 * of the replicated state and of the digest, so trimming happens in the same entry everywhere.
 *
 * Changes are gathered in memory while an entry is applied and stored as runs at its end, or when a
 * run has grown to CHANGES_RUN_BYTES: how entries are grouped into transactions does not matter.
 * Several changes of one key by one command that follow each other count as one, the last. A
 * database that is emptied is one change as well (CHANGE_FLUSH).
 *
 *   changes   u64be first revision | u32be run of the entry   ->
 *             u8 format (1) | u32 changes | u32 position of the last | changes
 *   change    u32 position | u8 operation | u8 db | lstr key
 *             [PUT: u8 type | u8 flags (1: value) | u64 expiry | u64 size | lstr content type
 *                   | [lstr value]]
 *
 * The position is that of the command in its entry: revision = index << 20 | position.
 */
#pragma once
#include "base/buf.h"
#include "base/reader.h"
#include "store/env.h"
#include "store/keyspace.h"
#include "store/state.h"

enum {
    CHANGES_COUNT_MAX = 256 * 1024,
    CHANGES_BYTES_MAX = 32 * 1024 * 1024,
    CHANGES_RUN_BYTES = 32 * 1024,
    /* A larger value is not kept here: every write would store it twice, for watchers who can read
     * it while it is new. */
    CHANGE_VALUE_BYTES_MAX = 32,
    CHANGES_KEY_BYTES = 12,
};

/* What is gathered of the entry that is applied; of the writer. Zero-initialised is ready. */
struct change_log {
    uint64_t count_max; /* 0: CHANGES_COUNT_MAX */
    struct buf run;
    uint32_t runs; /* of this entry, stored already */
    uint32_t count;
    uint64_t first, last; /* revisions of the run */
    size_t last_at;       /* where the last change begins, */
    size_t last_key_at;   /* and its key, */
    uint32_t last_key_bytes;
    uint16_t last_db;
    bool muted; /* a database is being emptied */
};

void change_log_fini(struct change_log *log);
/* Adds one. Slices of `c` are copied. Never fails: it is stored by changes_flush(). */
void change_log_add(struct change_log *log, const struct change *c);
/* Stores the run that was gathered; with `entry_ends` the next one begins another entry's. Trims.
 */
int changes_flush(struct env_txn *t, struct state *state, struct change_log *log,
                  bool entry_ends) WARN_UNUSED;
/* Whether the run should be stored before it grows on. */
static inline bool change_log_is_full(const struct change_log *log) {
    return log->run.size >= CHANGES_RUN_BYTES;
}
/* Forgets the history: behind `floor` nothing has been changed yet. */
int changes_clear(struct env_txn *t, struct state *state, uint64_t floor) WARN_UNUSED;
/* Takes the next change off a run; `index` is that of its entry. False: malformed. */
bool change_next(struct reader *run, uint64_t index, struct change *ret_change);
/* Takes a run apart: count and last revision from its header. False: malformed. */
bool changes_run_decode(struct slice key, struct slice bytes, uint64_t *ret_first,
                        uint64_t *ret_last, uint32_t *ret_count, struct reader *ret_changes);
/* Recomputes count, bytes and sum into *found from the records, for store_verify(). */
int changes_verify(struct env_txn *t, struct state *found) WARN_UNUSED;
