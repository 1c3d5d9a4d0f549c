/* A growable byte buffer, and little-endian encoding into it.
 *
 * Zero-initialised is valid and empty. Growth is amortised; memory comes from xrealloc (never
 * fails). Pointers into a buf are valid until the next call that appends to it. Not thread-safe.
 */
#pragma once
#include <stdarg.h>

#include "base/check.h"
#include "base/slice.h"

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

void buf_fini(struct buf *b);
/* Forgets the content, keeps the memory. */
static inline void buf_reset(struct buf *b) {
    b->size = 0;
}
/* Makes room for n more bytes and returns where they go (never NULL); follow with buf_commit(). */
uint8_t *buf_reserve(struct buf *b, size_t n);
static inline void buf_commit(struct buf *b, size_t n) {
    CHECK(n <= b->capacity - b->size);
    b->size += n;
}
void buf_append(struct buf *b, const void *data, size_t n);
void buf_append_slice(struct buf *b, struct slice s);
void buf_append_str(struct buf *b, const char *str);
void buf_append_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Drops n bytes from the front (moves the rest). */
void buf_consume(struct buf *b, size_t n);
static inline struct slice buf_slice(const struct buf *b) {
    return slice_of(b->data, b->size);
}

void buf_append_u8(struct buf *b, uint8_t v);
void buf_append_u16(struct buf *b, uint16_t v);
void buf_append_u32(struct buf *b, uint32_t v);
void buf_append_u64(struct buf *b, uint64_t v);
/* u32 length, then the bytes. */
void buf_append_lstr(struct buf *b, struct slice s);
/* Overwrites 4 bytes written before at `offset` (a length or count known only later). */
void buf_patch_u32(struct buf *b, size_t offset, uint32_t v);
