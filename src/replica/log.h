/* The log on disk: segment files of records, and the durable term and vote.
 *
 * The log is one stream of records, cut into segment files that follow each other without a gap in
 * their numbers. The stream is only ever appended to: nothing that was written is written over. An
 * append at an index that exists already (a follower's conflicting tail) is an ordinary record
 * further down the stream, and reading the stream from its beginning means: a record with index i
 * supersedes every record with an index >= i before it. So the cut and the first new record are
 * one and the same write: after a crash either that record is there, or the old tail is. Old
 * records never lie behind new ones, so that they cannot be taken for their continuation, nor for
 * the good records behind a damaged one. (Rejected: overwriting the tail in place, which destroys
 * it before the new one is durable and leaves old records behind the new end; a fresh segment at
 * each cut, which needs a rule for segments whose first record is torn and wastes a file each
 * time.) The price is that superseded records stay until their segment is compacted away.
 *
 * Segments are zero-filled when made and recycled by renaming, so that a flush into them changes
 * no file metadata. What lies behind the end of the stream in a recycled file, or behind a tail
 * that was cut at start, is told from live records by the number of the segment and by the epoch,
 * which each start raises: both stand in every record, and on a stream the epoch never goes back.
 *
 * Damage and a torn tail look alike, and a write of several sectors that was never reported done
 * may leave its last ones and lack its first. So each record says up to where the stream was
 * durable when it was written, and so does the file log/base, which each start and each clean stop
 * writes. At start the stream ends at the first bytes that are no valid record. If anything says
 * that more was durable, that is corruption: log_open() fails with -EBADMSG and says file and
 * offset. If not, these bytes were never acknowledged and are cut. docs/log-format.md has every
 * byte.
 *
 * Threads: all calls and all callbacks on one thread; the disk does the work elsewhere. Callbacks
 * never come from within the call that caused them.
 *
 * Any I/O error is final: every later operation fails with it. The caller stops the process before
 * it acknowledges anything (ENGINE rule G7).
 */
#pragma once
#include "replica/disk.h"

enum {
    LOG_SEGMENT_BYTES = 16 * 1024 * 1024, /* the default */
    LOG_SEGMENT_BYTES_MIN = 4096,
    LOG_SPARES_MAX = 3,            /* segments kept for recycling, besides the one made ready */
    LOG_APPEND_BYTES_MAX = 1 << 30 /* of the bodies of one append; CHECKed */
};

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
    uint64_t cut_bytes; /* of a torn tail, as far as it could be recognised; 0: none seen */
    /* Entries were dropped because they end before the base, or hold another term at its index: a
     * snapshot ran ahead of our own disk, which is legitimate. */
    bool dropped;
};

/* Reads everything once, in the folder "log"; an empty folder becomes an empty log. on_entry gets
 * each entry in order, once and only when all is found good (the body is borrowed); entries at or
 * below base.index may be among them. Everything reported is durable. segment_bytes 0: the default.
 *
 * Negative errno, then ret_error says what and where: -EBADMSG: damaged, truncated, missing or
 * foreign files; anything else: the disk's own error. */
int log_open(struct disk *disk, uint64_t segment_bytes,
             void (*on_entry)(void *ctx, const struct log_entry *e), void *ctx,
             struct replica_log **ret_log, struct log_open_info *ret_info,
             char ret_error[256]) WARN_UNUSED;
/* The same reading and the same judgement, with nothing changed and nothing kept: for a node that
 * is stopped. Besides log_open()'s errors -ENOENT: there is no log. */
int log_check(struct disk *disk, struct log_open_info *ret_info, char ret_error[256]) WARN_UNUSED;
/* 1 when there is a log that log_open() would read, 0 when it would make one, or a negative errno.
 */
int log_exists(struct disk *disk) WARN_UNUSED;
/* No append may be under way; the done functions of compactions under way do not come any more.
 * Memory goes when the disk has finished the log's jobs, so free the disk after it. */
void log_close(struct replica_log *l);
/* Frees the log of a disk that has crashed (tests/lib/mem_disk.h): its jobs were dropped and its
 * files are gone. Does not touch the disk. Appends under way must still be in place; no done
 * function is called. */
void log_abandon(struct replica_log *l);

/* Durable on return. The term never goes back (CHECKed). */
int log_set_vote(struct replica_log *l, const struct log_vote *vote) WARN_UNUSED;

/* Durable when `done` comes with 0; completions come in the order of the appends. Entries are
 * contiguous and above the base; `entries` and their bodies are borrowed until done. index <=
 * last_index cuts first. Callable while earlier appends are under way (they share a flush where
 * they can). The entries of one append become durable as a prefix: after a crash before done the
 * first n of them may be there. */
struct log_append {
    struct log_entry *entries;
    uint32_t count; /* at least 1 */
    void (*done)(struct log_append *a, int status);
    /* the log's own, to the end */
    struct replica_log *log;
    struct list node;
    struct disk_job job;
    struct iovec *iov;
    struct buf frames;
    uint64_t record_bytes;
    uint32_t end_segment;
    uint32_t end_offset;
};
void log_append(struct replica_log *l, struct log_append *a);
bool log_append_pending(const struct replica_log *l);
uint64_t log_last_index(const struct replica_log *l); /* of what was handed to log_append() */

/* Everything up to base->index is covered by a durable snapshot; entries up to keep_from - 1 may
 * go (keep_from <= base->index + 1). Removes or recycles whole segments only; durable before it
 * takes effect on start. Asynchronous; several run one after the other. The base never goes back
 * (CHECKed). */
void log_compact(struct replica_log *l, const struct log_base *base, uint64_t keep_from,
                 void (*done)(void *ctx, int status), void *ctx);
/* A snapshot was installed: durably drops all entries; the next append begins at base->index + 1.
 * No append may be under way; a compaction may. */
int log_reset(struct replica_log *l, const struct log_base *base) WARN_UNUSED;
/* Bytes of records kept, superseded ones included. */
uint64_t log_bytes(const struct replica_log *l);
