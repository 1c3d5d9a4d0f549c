/* What the log on disk must hold, for test_log.c: a model that is told of every call, drives
 * random histories from a seed, and judges what a reopened log says.
 *
 * The rule it holds the log to: what is there after a crash is what was there after some prefix of
 * the entries that were ever handed to it, in that order, and this prefix holds everything that was
 * acknowledged. */
#pragma once
#include "base/rand.h"
#include "mem_disk.h"
#include "replica/log.h"

enum { MODEL_INDEX_MAX = 2048, MODEL_PENDING_MAX = 64 };

struct model_entry {
    uint64_t term;
    uint64_t id; /* never twice in a model's life: determines type and body */
};

/* A log: entries with an index of 1 .. last. */
struct model_state {
    uint64_t last;
    struct model_entry entries[MODEL_INDEX_MAX + 1];
};

struct model_append {
    struct log_append append;
    struct model *model;
    struct log_entry entries[8];
    struct buf bodies[8];
    uint64_t ids[8];
    bool done;
};

struct model {
    struct rand rand;
    struct disk *disk;
    struct replica_log *log; /* NULL: not open */
    uint64_t segment_bytes;
    uint64_t next_id;
    uint64_t term;
    struct model_state acked;
    struct model_append *pending[MODEL_PENDING_MAX]; /* in order */
    size_t pending_count;
    struct log_vote vote, vote_tried; /* differ when a call failed */
    struct log_base base, base_tried;
    bool reset_tried;          /* base_tried is that of a log_reset() that failed */
    uint64_t keep_from;        /* entries from here on must be there */
    int error;                 /* seen in a completion or a return */
    struct log_base bases[32]; /* of compactions under way, in order */
    size_t compactions;
    /* counts, so that a test can see that something happened */
    uint64_t acks, crashes, cuts, drops, resets, torn;
};

void model_init(struct model *m, uint64_t seed, struct disk *disk, uint64_t segment_bytes);
/* Frees what belongs to the model; the log must be closed or abandoned. */
void model_fini(struct model *m);
/* The bytes of an entry. Entries whose id has this bit (set it in next_id) are all of one size, so
 * that records of different lives meet at the same places. */
#define MODEL_ID_FIXED (1ull << 63)

void model_body(uint64_t id, struct buf *ret_body);
uint8_t model_type(uint64_t id);

/* One append of `count` entries at `index`. */
void model_append(struct model *m, uint64_t index, size_t count);
void model_append_next(struct model *m, size_t count);
/* The last index handed to the log. */
uint64_t model_last(const struct model *m);
void model_vote(struct model *m);
void model_compact(struct model *m, uint64_t base_index, uint64_t keep_from);
void model_reset(struct model *m);
/* One random operation. */
void model_random(struct model *m);

/* Opens the log and holds it against the model, which goes on from what it found. Returns what
 * log_open() returned; differences fail the test. */
int model_open(struct model *m, char ret_error[256]);
/* Clean: completes everything first. */
void model_close(struct model *m);
void model_crash(struct model *m, enum mem_disk_crash how);
