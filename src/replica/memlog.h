/* The log in memory: the entries from the one behind the oldest kept to the last, by index. What is
 * sent to followers, written to disk and applied is read from here. Entries hold references on
 * their chunks. */
#pragma once
#include "replica/core.h"

struct memlog {
    struct core_entry *ring; /* capacity is a power of two; index i lives at i & (capacity - 1) */
    uint64_t capacity;
    uint64_t first_index; /* last_index + 1 when empty */
    uint64_t last_index;
    uint64_t bytes; /* of bodies */
    /* What precedes first_index, as far as known: the snapshot, or the entry last dropped. */
    uint64_t before_term;
};

void memlog_init(struct memlog *m);
void memlog_fini(struct memlog *m);
/* Drops everything; the next entry is first_index, preceded by an entry of before_term. */
void memlog_reset(struct memlog *m, uint64_t first_index, uint64_t before_term);
/* Takes the reference of `e`. index must be last_index + 1. */
void memlog_append(struct memlog *m, uint64_t index, const struct core_entry *e);
/* Drops the entries from index on. */
void memlog_truncate(struct memlog *m, uint64_t index);
/* Drops the entries before index. */
void memlog_trim(struct memlog *m, uint64_t index);
/* NULL when not held; borrowed until the next change. */
const struct core_entry *memlog_get(const struct memlog *m, uint64_t index);
/* 0 when unknown. */
uint64_t memlog_term(const struct memlog *m, uint64_t index);
