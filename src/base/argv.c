#include "base/argv.h"

#include <stdlib.h>

#include "base/reader.h"

void argv_append(struct buf *b, const struct slice *args, size_t count) {
    CHECK(count > 0 && count <= ARGV_COUNT_MAX);
    buf_append_u32(b, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        buf_append_lstr(b, args[i]);
}

void argv_append_strs(struct buf *b, const char *first, ...) {
    size_t at = b->size;
    uint32_t count = 0;
    buf_append_u32(b, 0);
    va_list ap;
    va_start(ap, first);
    for (const char *s = first; s; s = va_arg(ap, const char *), count++)
        buf_append_lstr(b, slice_str(s));
    va_end(ap);
    buf_patch_u32(b, at, count);
}

void argv_fini(struct argv *a) {
    free(a->args);
    *a = (struct argv){0};
}

bool argv_unpack(struct argv *a, struct slice packed) {
    struct reader r = reader_of(packed);
    uint32_t count = reader_u32(&r);
    if (!reader_ok(&r) || count == 0 || count > ARGV_COUNT_MAX || count > reader_left(&r) / 4)
        return false;
    if (count > a->capacity) {
        a->args = xrealloc(a->args, count * sizeof a->args[0]);
        a->capacity = count;
    }
    for (uint32_t i = 0; i < count; i++)
        a->args[i] = reader_lstr(&r);
    a->count = count;
    return reader_done(&r);
}

bool argv_check(struct slice packed) {
    struct reader r = reader_of(packed);
    uint32_t count = reader_u32(&r);
    if (!reader_ok(&r) || count == 0 || count > ARGV_COUNT_MAX || count > reader_left(&r) / 4)
        return false;
    for (uint32_t i = 0; i < count && reader_ok(&r); i++)
        reader_lstr(&r);
    return reader_done(&r);
}
