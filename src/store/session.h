/* The table of client sessions (Raft dissertation section 6.3): what makes a command that is sent
 * again run once. Part of the replicated state: everything here follows from the entries alone.
 *
 * It is held in memory and written through to the table sessions once per commit. A session knows
 * acked_below (the gateway handed on every reply with a lower sequence, and will not ask again),
 * the log time of its last activity, and the reply of each executed sequence from acked_below on,
 * in a ring indexed by sequence:
 *
 *      acked_below                    end
 *      |                              |
 *   ...[ reply | (gap) | reply | ... ]          gaps: sequences that never reached the log
 *
 * On disk: one small header, and for each commit in which it ran commands one run of their replies,
 * deleted when the last of them is acked.
 *
 * Bounds: SESSION_WINDOW sequences and SESSION_REPLY_BYTES_MAX of replies a session,
 * SESSION_COUNT_MAX sessions.
 */
#pragma once
#include "store/env.h"
#include "store/state.h"

enum {
    SESSION_WINDOW = 1 << 18, /* a gateway has 65,536 unanswered at most; gaps make it wider */
    SESSION_REPLY_BYTES_MAX = 16 * 1024 * 1024,
    SESSION_COUNT_MAX = 65536,
    SESSION_SILENT_MS = 60 * 60 * 1000,
    SESSION_SWEEP_MAX = 1024, /* sessions that one command removes */
};

struct session;

struct session_table {
    struct state *state; /* its session_count and session_sum are kept here */
    struct session **buckets;
    size_t bucket_count; /* power of two */
    struct session *dirty;
    uint64_t oldest_ms; /* no session was active last before this */
    struct buf scratch;
};

void session_table_init(struct session_table *t, struct state *state);
void session_table_fini(struct session_table *t);
/* Fills the empty table; compares with the count and sum in the state (-EBADMSG). */
int session_table_load(struct session_table *t, struct env_txn *txn) WARN_UNUSED;
/* Writes what changed since the last time. */
int session_table_save(struct session_table *t, struct env_txn *txn) WARN_UNUSED;

bool session_id_is_zero(const struct session_id *id);
struct session *session_find(const struct session_table *t, const struct session_id *id);
/* NULL when there are SESSION_COUNT_MAX. */
struct session *session_create(struct session_table *t, const struct session_id *id,
                               uint64_t time_ms);
/* A group of the session was applied at time_ms; replies below acked_below are dropped. */
void session_touch(struct session_table *t, struct session *s, uint64_t acked_below,
                   uint64_t time_ms);

enum session_lookup {
    SESSION_NEW,     /* never executed */
    SESSION_KNOWN,   /* executed: *ret_reply, borrowed until the session changes */
    SESSION_ACKED,   /* executed and its reply dropped as acked */
    SESSION_TOO_FAR, /* beyond the window: not executed */
};
enum session_lookup session_lookup(const struct session *s, uint64_t sequence,
                                   struct slice *ret_reply);
/* Keeps the reply of a sequence that was SESSION_NEW. */
void session_keep(struct session_table *t, struct session *s, uint64_t sequence,
                  struct slice reply);

bool session_table_any_silent(struct session_table *t, uint64_t now_ms);
/* Removes the longest silent, at most SESSION_SWEEP_MAX. */
int session_table_sweep(struct session_table *t, struct env_txn *txn, uint64_t now_ms,
                        uint64_t *ret_removed) WARN_UNUSED;

/* Recomputes count and sum from the records, for store_verify(). */
int session_verify(struct env_txn *txn, uint64_t *ret_count, struct hash128 *ret_sum) WARN_UNUSED;
