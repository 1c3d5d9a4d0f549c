#include "replica/log_format.h"

#include "base/hash.h"

static const char segment_magic[8] = {'C', 'O', 'T', 'I', 'L', 'O', 'G', '1'};

uint32_t log_body_crc(struct slice body) {
    static const uint8_t zeros[LOG_ALIGN];
    uint32_t crc = crc32c(0, body);
    size_t padding = log_pad(body.size) - body.size;
    return padding > 0 ? crc32c(crc, slice_of(zeros, padding)) : crc;
}

uint32_t log_record_head_put(uint8_t *at, uint64_t mark, const struct log_record_head *h) {
    put_u64le(at, mark);
    put_u32le(at + 8, h->body_bytes);
    put_u32le(at + 12, h->body_crc);
    put_u64le(at + 16, h->index);
    put_u64le(at + 24, h->term);
    put_u32le(at + 32, h->segment);
    put_u32le(at + 36, h->epoch);
    put_u32le(at + 40, h->durable.segment);
    put_u32le(at + 44, h->durable.offset);
    put_u32le(at + 48, h->type);
    uint32_t crc = crc32c(0, slice_of(at, 52));
    put_u32le(at + 52, crc);
    return crc;
}

bool log_record_head_get(const uint8_t *at, uint64_t mark, struct log_record_head *ret_head,
                         uint32_t *ret_crc) {
    if (get_u64le(at) != mark)
        return false;
    uint32_t crc = get_u32le(at + 52);
    if (crc32c(0, slice_of(at, 52)) != crc)
        return false;
    *ret_head = (struct log_record_head){
        .body_bytes = get_u32le(at + 8),
        .body_crc = get_u32le(at + 12),
        .index = get_u64le(at + 16),
        .term = get_u64le(at + 24),
        .segment = get_u32le(at + 32),
        .epoch = get_u32le(at + 36),
        .durable = {.segment = get_u32le(at + 40), .offset = get_u32le(at + 44)},
        .type = at[48],
    };
    *ret_crc = crc;
    return true;
}

uint32_t log_segment_head_put(uint8_t *at, uint64_t mark, const struct log_segment_head *h) {
    memcpy(at, segment_magic, 8);
    put_u64le(at + 8, mark);
    put_u32le(at + 16, h->segment);
    put_u32le(at + 20, h->epoch);
    put_u64le(at + 24, h->bytes);
    put_u32le(at + 32, h->previous_end);
    put_u32le(at + 36, h->previous_crc);
    put_u32le(at + 40, h->durable.segment);
    put_u32le(at + 44, h->durable.offset);
    memset(at + 48, 0, 12);
    uint32_t crc = crc32c(0, slice_of(at, 60));
    put_u32le(at + 60, crc);
    return crc;
}

enum log_segment_state log_segment_head_get(const uint8_t *at, uint64_t mark, uint32_t segment,
                                            struct log_segment_head *ret_head, uint32_t *ret_crc) {
    static const uint8_t zeros[LOG_SEGMENT_HEAD_BYTES];
    if (memcmp(at, zeros, sizeof zeros) == 0)
        return LOG_SEGMENT_UNUSED;
    uint32_t crc = get_u32le(at + 60);
    if (memcmp(at, segment_magic, 8) != 0 || crc32c(0, slice_of(at, 60)) != crc)
        return LOG_SEGMENT_FOREIGN;
    if (get_u64le(at + 8) != mark)
        return LOG_SEGMENT_OTHER;
    uint32_t number = get_u32le(at + 16);
    if (number != segment)
        return number < segment ? LOG_SEGMENT_UNUSED : LOG_SEGMENT_RENAMED;
    *ret_head = (struct log_segment_head){
        .segment = number,
        .epoch = get_u32le(at + 20),
        .bytes = get_u64le(at + 24),
        .previous_end = get_u32le(at + 32),
        .previous_crc = get_u32le(at + 36),
        .durable = {.segment = get_u32le(at + 40), .offset = get_u32le(at + 44)},
    };
    *ret_crc = crc;
    return LOG_SEGMENT_USED;
}

void log_slot_put(uint8_t *at, const char *magic, const struct log_slot *s) {
    memset(at, 0, LOG_SLOT_BYTES);
    memcpy(at, magic, 8);
    put_u64le(at + 8, s->mark);
    put_u64le(at + 16, s->counter);
    for (size_t i = 0; i < LOG_SLOT_FIELDS; i++)
        put_u64le(at + 24 + 8 * i, s->fields[i]);
    put_u32le(at + 72, crc32c(0, slice_of(at, 72)));
}

bool log_slot_get(const uint8_t *at, const char *magic, struct log_slot *ret_slot) {
    if (memcmp(at, magic, 8) != 0 || get_u32le(at + 72) != crc32c(0, slice_of(at, 72)))
        return false;
    ret_slot->mark = get_u64le(at + 8);
    ret_slot->counter = get_u64le(at + 16);
    for (size_t i = 0; i < LOG_SLOT_FIELDS; i++)
        ret_slot->fields[i] = get_u64le(at + 24 + 8 * i);
    return true;
}
