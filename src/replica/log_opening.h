/* What log_open.c and log_walk.c share while a log is being opened. */
#pragma once
#include "replica/log_internal.h"

struct found {
    struct segment *segment;
    bool used;
    struct log_segment_head head; /* when used */
    uint32_t head_crc;
};

/* A record that superseded earlier ones. */
struct cut {
    struct log_position at;
    uint64_t index;
};

struct opening {
    struct replica_log *log;
    struct disk *disk;
    char *error; /* 256 bytes */

    uint32_t *numbers; /* of the segment files in the folder */
    size_t number_count;
    uint32_t *spares; /* serial numbers */
    size_t spare_count;
    bool read_only; /* log_check(): a missing log is not made */

    struct found *found; /* live segments and those beyond the stream, in order */
    size_t found_count;
    uint8_t *bytes; /* of the segment loaded last */
    size_t bytes_capacity;
    const struct segment *loaded;

    /* the walk */
    size_t in_stream;         /* of `found`, that hold the stream */
    struct log_position tail; /* the stream's end */
    uint32_t epoch;           /* of the last record */
    uint64_t first_index;     /* 0: no entry */
    uint64_t last_index;
    bool base_entry; /* the stream holds an entry at base.index, */
    uint64_t base_entry_term;
    struct log_position durable; /* the highest anything in the stream speaks of */
    struct cut *cuts;
    size_t cut_count;
    uint64_t torn_bytes;
};

enum record_state { RECORD_GOOD, RECORD_NONE, RECORD_BODY_BAD };

struct record {
    struct log_record_head head;
    uint32_t crc;
    struct slice body;
    uint64_t bytes; /* with head and padding; may be more than the file has */
};

int log_fail(struct opening *o, int error, const char *fmt, ...) PRINTF_LIKE(3, 4);
int log_fail_io(struct opening *o, int error, const char *name);
/* The first bytes of a segment's file, all of them. */
int log_read_exact(struct opening *o, const struct segment *s, void *out, size_t bytes);
/* Reads the whole segment into o->bytes. */
int log_load(struct opening *o, const struct segment *s);
/* The record at an offset of the loaded segment, whatever its index. */
enum record_state log_record_at(const struct opening *o, uint64_t offset,
                                struct record *ret_record);
/* Follows the stream to its end, and fills in what struct opening says of it. */
int log_walk(struct opening *o);
/* Damage or a torn tail: -EBADMSG when anything says that the stream was durable beyond its end. */
int log_search_evidence(struct opening *o);
