/* What the files of the log share. log.c appends and compacts, log_segment.c makes segments ready
 * and retires them, log_open.c and log_walk.c read at start.
 *
 *             CREATE              RENAME                   first append
 *   (nothing) ------> spare file --------> next segment --------------> segment in use
 *                        ^                     |                             |
 *                        |       RENAME        | too small for an append     |
 *                        +<--------------------+                             |
 *                        |             RENAME (at most LOG_SPARES_MAX)       |
 *                        +<--------------------------------------------------+ compacted
 *                                                                            +--> UNLINK
 */
#pragma once
#include "replica/log.h"
#include "replica/log_format.h"
#include "replica/log_slots.h"

enum { LOG_NAME_BYTES = 32 };

#define LOG_FOLDER "log"
#define LOG_VOTE_NAME LOG_FOLDER "/vote"
#define LOG_BASE_NAME LOG_FOLDER "/base"
#define LOG_VOTE_MAGIC "COTIVOT1"
#define LOG_BASE_MAGIC "COTIBAS1"
#define LOG_SEGMENT_PATTERN LOG_FOLDER "/%010u.segment"
#define LOG_SPARE_PATTERN LOG_FOLDER "/spare-%010u"

/* A file of the log that holds, held or will hold records. */
struct segment {
    struct list node; /* in segments or spares, or in none */
    struct replica_log *log;
    uint32_t number; /* as a spare: the one in its name */
    struct disk_file *file;
    uint64_t bytes;     /* of the file */
    uint64_t end;       /* behind the last record; 0: the head is not written yet */
    uint64_t live_last; /* the highest index here that nothing supersedes, or more; 0: none */
    uint32_t last_crc;  /* of the last record's head (the segment's own when it has none) */
    /* The job under way that concerns the file as a whole, and its names. */
    struct disk_job job;
    char name[LOG_NAME_BYTES];
    char new_name[LOG_NAME_BYTES];
    struct compaction *owner; /* waits for this to be retired; NULL: nobody */
};

enum next_state {
    NEXT_NONE,
    NEXT_CREATING, /* a file of zeros under a spare's name */
    NEXT_RENAMING, /* to the name of the next segment */
    NEXT_READY,
    NEXT_UNDOING, /* back to a spare: it was too small */
};

struct compaction {
    struct list node; /* in compactions; the first one runs */
    struct replica_log *log;
    struct log_base base;
    uint64_t keep_from;
    void (*done)(void *ctx, int status);
    void *ctx;
    struct list victims;
    size_t victims_left;
    unsigned slots_written;
    unsigned slot_first;
    struct disk_file *base_file; /* that of its start: log_reset() may replace it meanwhile */
    struct disk_job job;
    struct iovec iov;
    uint8_t slot[LOG_SLOT_BYTES];
};

struct replica_log {
    struct disk *disk;
    uint64_t segment_bytes;
    uint64_t mark;  /* the log's identity, first in each record */
    uint32_t epoch; /* of this start */
    int error;      /* the first one; final */
    bool closing;
    bool abandoned; /* the files are gone */
    size_t jobs;    /* under way; the log's memory stays until there are none */

    struct log_slots vote_slots;
    struct log_slots base_slots;
    struct log_vote vote;
    struct log_base base;
    uint32_t live_from; /* segments below are dead */

    struct list segments; /* in the order of the stream; appends go into the last */
    uint32_t next_number; /* of the segment to come */
    enum next_state next_state;
    struct segment *next; /* the segment being made ready */
    struct list spares;
    struct list retiring; /* being renamed to spares or unlinked */
    size_t spare_count;   /* with those being renamed to spares */
    uint32_t spare_serial;

    struct list waiting;         /* appends without a place, in order */
    struct list flying;          /* appends handed to the disk */
    struct log_position durable; /* all before is */
    uint64_t last_index;

    struct list compactions;
};

/* Submits a job and holds the log's memory; its done function ends with log_job_end(). */
void log_job_submit(struct replica_log *l, struct disk_job *job);
/* Notes a job's failure. */
void log_job_status(struct replica_log *l, int status);
void log_job_end(struct replica_log *l);

void log_file_close(struct replica_log *l, struct disk_file *file);
void log_free(struct replica_log *l);

/* Gives places to waiting appends, as far as there is room. */
void log_pump(struct replica_log *l);
void log_base_fields(const struct replica_log *l, uint64_t ret_fields[LOG_SLOT_FIELDS]);

struct segment *segment_new(struct replica_log *l);
void segment_free(struct segment *s);
static inline struct segment *segment_last(const struct replica_log *l) {
    return l->segments.prev == &l->segments ? NULL
                                            : LIST_ENTRY(l->segments.prev, struct segment, node);
}
/* The next segment, ready to be written, with at least `bytes`; it is the stream's last then. NULL:
 * not there yet; log_pump() is called when it is. */
struct segment *segment_advance(struct replica_log *l, uint64_t bytes);
/* Sees to it that a next segment of at least `bytes` is made ready. */
void segment_make_next(struct replica_log *l, uint64_t bytes);
/* Recycles or deletes a segment that was taken out of `segments`; takes it. */
void segment_retire(struct segment *s, struct compaction *owner);
void compaction_victim_gone(struct compaction *c);
