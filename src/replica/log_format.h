/* The bytes of the log's files; docs/log-format.md explains them. Pure functions. */
#pragma once
#include "base/bytes.h"
#include "base/check.h"
#include "base/slice.h"

enum {
    LOG_RECORD_HEAD_BYTES = 56,
    LOG_SEGMENT_HEAD_BYTES = 64,
    LOG_ALIGN = 8, /* of records */
    LOG_SLOT_BYTES = 512,
    LOG_SLOT_PITCH = 4096, /* from one slot of a small file to the other */
    LOG_SLOT_FILE_BYTES = 2 * LOG_SLOT_PITCH,
    LOG_SLOT_FIELDS = 6,
};

/* A place in the stream. */
struct log_position {
    uint32_t segment;
    uint32_t offset;
};

static inline bool log_position_before(struct log_position a, struct log_position b) {
    return a.segment != b.segment ? a.segment < b.segment : a.offset < b.offset;
}

struct log_record_head {
    uint32_t body_bytes;
    uint32_t body_crc; /* of the body and its padding */
    uint64_t index;
    uint64_t term;
    uint32_t segment;
    uint32_t epoch;
    struct log_position durable; /* the stream up to there was durable when this was written */
    uint8_t type;
};

struct log_segment_head {
    uint32_t segment;
    uint32_t epoch;
    uint64_t bytes;        /* of the file */
    uint32_t previous_end; /* of the segment before; 0 when there was none */
    uint32_t previous_crc; /* of the last record's head there (of its own head when it has none) */
    struct log_position durable;
};

enum log_segment_state {
    LOG_SEGMENT_USED,    /* the head is that of this segment */
    LOG_SEGMENT_UNUSED,  /* zeros, or the head of an earlier life of the file */
    LOG_SEGMENT_FOREIGN, /* not a log segment, or a damaged head */
    LOG_SEGMENT_OTHER,   /* of another log */
    LOG_SEGMENT_RENAMED, /* of this log, under a number that is not its own */
};

static inline uint64_t log_pad(uint64_t bytes) {
    return (bytes + LOG_ALIGN - 1) & ~(uint64_t)(LOG_ALIGN - 1);
}
/* What a record with this body takes. */
static inline uint64_t log_record_bytes(uint64_t body_bytes) {
    return LOG_RECORD_HEAD_BYTES + log_pad(body_bytes);
}

uint32_t log_body_crc(struct slice body);
/* Returns the checksum of the head, which is also written. */
uint32_t log_record_head_put(uint8_t *at, uint64_t mark, const struct log_record_head *h);
/* False when these are not the bytes of a record head of this log. at: LOG_RECORD_HEAD_BYTES. */
bool log_record_head_get(const uint8_t *at, uint64_t mark, struct log_record_head *ret_head,
                         uint32_t *ret_crc);

uint32_t log_segment_head_put(uint8_t *at, uint64_t mark, const struct log_segment_head *h);
/* ret_head and ret_crc are set for LOG_SEGMENT_USED only. at: LOG_SEGMENT_HEAD_BYTES. */
enum log_segment_state log_segment_head_get(const uint8_t *at, uint64_t mark, uint32_t segment,
                                            struct log_segment_head *ret_head, uint32_t *ret_crc);

struct log_slot {
    uint64_t mark;
    uint64_t counter;
    uint64_t fields[LOG_SLOT_FIELDS];
};
/* at: LOG_SLOT_BYTES. magic: 8 characters. */
void log_slot_put(uint8_t *at, const char *magic, const struct log_slot *s);
bool log_slot_get(const uint8_t *at, const char *magic, struct log_slot *ret_slot);
