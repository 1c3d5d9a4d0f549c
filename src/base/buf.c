#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"

void buf_fini(struct buf *b) {
    free(b->data);
    *b = (struct buf){0};
}

uint8_t *buf_reserve(struct buf *b, size_t n) {
    if (n > b->capacity - b->size || !b->data) {
        size_t want = b->capacity ? b->capacity : 64;
        CHECK(n < SIZE_MAX / 4 && b->size < SIZE_MAX / 4);
        while (want - b->size < n)
            want *= 2;
        b->data = xrealloc(b->data, want);
        b->capacity = want;
    }
    return b->data + b->size;
}

void buf_append(struct buf *b, const void *data, size_t n) {
    if (n == 0)
        return;
    memcpy(buf_reserve(b, n), data, n);
    b->size += n;
}

void buf_append_slice(struct buf *b, struct slice s) {
    buf_append(b, s.data, s.size);
}

void buf_append_str(struct buf *b, const char *str) {
    buf_append(b, str, strlen(str));
}

void buf_append_char(struct buf *b, char c) {
    buf_append(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    char *at = (char *)buf_reserve(b, 64); /* enough for most, so that they are formatted once */
    size_t room = b->capacity - b->size;
    int n = vsnprintf(at, room, fmt, ap);
    CHECK(n >= 0);
    if ((size_t)n >= room) {
        at = (char *)buf_reserve(b, (size_t)n + 1);
        vsnprintf(at, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    b->size += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_consume(struct buf *b, size_t n) {
    CHECK(n <= b->size);
    if (n > 0 && n < b->size)
        memmove(b->data, b->data + n, b->size - n);
    b->size -= n;
}

void buf_append_u8(struct buf *b, uint8_t v) {
    buf_append(b, &v, 1);
}

void buf_append_u16(struct buf *b, uint16_t v) {
    put_u16le(buf_reserve(b, 2), v);
    b->size += 2;
}

void buf_append_u32(struct buf *b, uint32_t v) {
    put_u32le(buf_reserve(b, 4), v);
    b->size += 4;
}

void buf_append_u64(struct buf *b, uint64_t v) {
    put_u64le(buf_reserve(b, 8), v);
    b->size += 8;
}

void buf_append_lstr(struct buf *b, struct slice s) {
    CHECK(s.size <= UINT32_MAX);
    buf_append_u32(b, (uint32_t)s.size);
    buf_append(b, s.data, s.size);
}

void buf_patch_u32(struct buf *b, size_t offset, uint32_t v) {
    CHECK(offset + 4 <= b->size);
    put_u32le(b->data + offset, v);
}
