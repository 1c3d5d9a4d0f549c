/* Decoding of little-endian records with a sticky error: read everything, then ask reader_ok()
 * once. After a short read every further read returns zero or an empty slice. Slices it returns
 * borrow from the input. The mirror of buf_append_*(). */
#pragma once
#include "base/bytes.h"
#include "base/slice.h"

struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct reader reader_of(struct slice s) {
    return (struct reader){.at = s.data, .end = s.size ? s.data + s.size : s.data};
}

static inline size_t reader_left(const struct reader *r) {
    return (size_t)(r->end - r->at);
}

static inline const uint8_t *reader_take(struct reader *r, size_t n) {
    if (r->failed || reader_left(r) < n) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += n;
    return at;
}

static inline uint8_t reader_u8(struct reader *r) {
    const uint8_t *at = reader_take(r, 1);
    return at ? *at : 0;
}
static inline uint16_t reader_u16(struct reader *r) {
    const uint8_t *at = reader_take(r, 2);
    return at ? get_u16le(at) : 0;
}
static inline uint32_t reader_u32(struct reader *r) {
    const uint8_t *at = reader_take(r, 4);
    return at ? get_u32le(at) : 0;
}
static inline uint64_t reader_u64(struct reader *r) {
    const uint8_t *at = reader_take(r, 8);
    return at ? get_u64le(at) : 0;
}
static inline struct slice reader_bytes(struct reader *r, size_t n) {
    const uint8_t *at = reader_take(r, n);
    return at ? slice_of(at, n) : slice_of(NULL, 0);
}
/* u32 length, then the bytes. */
static inline struct slice reader_lstr(struct reader *r) {
    return reader_bytes(r, reader_u32(r));
}
static inline struct slice reader_rest(struct reader *r) {
    return reader_bytes(r, r->failed ? 0 : reader_left(r));
}
static inline bool reader_ok(const struct reader *r) {
    return !r->failed;
}
/* True when everything was read and nothing is left over. */
static inline bool reader_done(const struct reader *r) {
    return !r->failed && r->at == r->end;
}
