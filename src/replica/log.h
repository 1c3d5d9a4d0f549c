/* The log on disk: segment files of records, and the durable term and vote.
 *
 * Segments are zero-filled when made and recycled by renaming, so that a flush into them does not
 * change file metadata. A record: u32 magic | u32 body size | u64 index | u64 term | u8 type, zero
 * x3 | u32 crc of the body | u64 incarnation of the segment | u32 crc of this header, body, padding
 * to 8 bytes. The incarnation (a number from the segment's own header) tells the records of this
 * life of a recycled file from those of an earlier one. docs/ store-format.md has every byte.
 *
 * Appends are asynchronous and in order; an append at an index that exists already cuts everything
 * from there (a follower's conflicting tail): the cut and the new records are durable together when
 * the append is.
 *
 * At start a torn tail is cut: the last records, when nothing valid comes behind them. A bad record
 * with good ones of this incarnation behind it, or a gap between segments, is corruption:
 * log_open() fails with -EBADMSG and says file and offset.
 *
 * Any I/O error is final: the caller stops the process before it acknowledges anything (ENGINE rule
 * G7).
 */
#pragma once
#include "replica/disk.h"

struct log_entry {
    uint64_t index;
    uint64_t term;
    uint8_t type; /* opaque here */
    struct slice body;
};

struct log_vote {
    uint64_t term;
    uint64_t voted_for;
};

/* What precedes the first entry: the snapshot that stands for everything up to it. */
struct log_base {
    uint64_t index; /* 0: nothing */
    uint64_t term;
};

struct replica_log;

struct log_open_info {
    struct log_vote vote;
    struct log_base base;
    uint64_t first_index; /* of the entries on disk; last_index + 1 when none */
    uint64_t last_index;
    uint64_t cut_bytes; /* of a torn tail */
};

/* Reads everything once; on_entry gets each entry in order (the body is borrowed). On -EBADMSG
 * ret_error (256 bytes) says what and where. segment_bytes 0: 16 MiB. */
int log_open(struct disk *disk, uint64_t segment_bytes,
             void (*on_entry)(void *ctx, const struct log_entry *e), void *ctx,
             struct replica_log **ret_log, struct log_open_info *ret_info,
             char ret_error[256]) WARN_UNUSED;
/* No append may be under way. */
void log_close(struct replica_log *l);

/* Durable on return. The term never goes back (CHECKed). */
int log_set_vote(struct replica_log *l, const struct log_vote *vote) WARN_UNUSED;

/* Durable when `done` comes; completions come in the order of the appends. Entries are contiguous;
 * their bodies are borrowed until done. index <= last_index cuts first. Callable while earlier
 * appends are under way (they share a flush where they can). */
struct log_append {
    struct log_entry *entries;
    uint32_t count;
    void (*done)(struct log_append *a, int status);
    struct list node; /* the log's own, to the end */
    struct disk_job job;
    struct iovec *iov;
    struct buf headers;
    uint32_t jobs_left;
    int status;
};
void log_append(struct replica_log *l, struct log_append *a);
bool log_append_pending(const struct replica_log *l);
uint64_t log_last_index(const struct replica_log *l); /* of what was handed to log_append() */

/* Everything up to base->index is covered by a durable snapshot; entries up to keep_from - 1 may
 * go. Removes or recycles whole segments only; durable before it takes effect on start.
 * Asynchronous. */
void log_compact(struct replica_log *l, const struct log_base *base, uint64_t keep_from,
                 void (*done)(void *ctx, int status), void *ctx);
/* A snapshot was installed: durably drops all entries; the next append begins at base->index + 1.
 * No append may be under way. */
int log_reset(struct replica_log *l, const struct log_base *base) WARN_UNUSED;
/* Bytes of records kept. */
uint64_t log_bytes(const struct replica_log *l);
