/* When to send what has gathered: all at once, rather than in two halves that take turns.
 *
 * What comes while a batch is under way gathers until that is answered. Sent right then, it would
 * leave behind those who were just answered and are about to ask again, and they would be the next
 * batch: two groups that take turns, each batch half as large and each client waiting for most of
 * the other group's. So after an answer this waits until most of all whom it has to do with - the
 * answered and the waiting - have come, and no longer than a few milliseconds; and when they do not
 * come, as those do not who have something else to do, it does not wait the next times, twice as
 * many with each failure. One who is alone never waits.
 *
 * The idea is that of commit_delay with commit_siblings (PostgreSQL) and of
 * binlog_group_commit_sync_delay (MySQL), with the number of siblings measured. Pure: the caller
 * says what time it is. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct gather {
    uint32_t sent;   /* in batches that are not answered */
    uint32_t target; /* worth sending; 0: anything is */
    uint64_t until_ms;
    uint32_t skip, backoff; /* answers after which it does not wait; those of the last failure */
};

static inline void gather_sent(struct gather *g, uint32_t count) {
    g->sent += count;
}

/* All that was sent is answered, and `waiting` more have come meanwhile. */
void gather_answered(struct gather *g, uint64_t now_ms, uint32_t waiting);

/* Whether `waiting` are to be sent now. Asked again when more have come, or at until_ms if target
 * is not 0. */
bool gather_ready(struct gather *g, uint64_t now_ms, uint32_t waiting);
