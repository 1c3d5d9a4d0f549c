#include "proto/access_list.h"

#include "base/reader.h"

static struct slice literal_of(struct slice pattern, bool *ret_open) {
    *ret_open = pattern.size > 0 && pattern.data[pattern.size - 1] == '*';
    return slice_of(pattern.data, pattern.size - *ret_open);
}

bool access_pattern_ok(struct slice pattern) {
    if (pattern.size == 0 || pattern.size > ACCESS_PATTERN_BYTES_MAX)
        return false;
    for (size_t i = 0; i < pattern.size; i++) {
        uint8_t c = pattern.data[i];
        if (c <= ' ' || c == 0x7f || c == '?' || c == '[' || c == ']' || c == '\\' ||
            (c == '*' && i + 1 < pattern.size))
            return false;
    }
    return true;
}

bool access_list_add(struct access_list *l, struct slice pattern) {
    if (l->count == ACCESS_LIST_MAX || !access_pattern_ok(pattern))
        return false;
    buf_append_lstr(&l->patterns, pattern);
    l->count++;
    return true;
}

void access_list_fini(struct access_list *l) {
    buf_fini(&l->patterns);
    l->count = 0;
}

bool access_list_has_key(const struct access_list *l, struct slice key) {
    struct reader r = reader_of(buf_slice(&l->patterns));
    for (uint32_t i = 0; i < l->count; i++) {
        bool open;
        struct slice literal = literal_of(reader_lstr(&r), &open);
        if (open ? slice_starts_with(key, literal) : slice_equal(key, literal))
            return true;
    }
    return false;
}

bool access_list_has_prefix(const struct access_list *l, struct slice prefix) {
    struct reader r = reader_of(buf_slice(&l->patterns));
    for (uint32_t i = 0; i < l->count; i++) {
        bool open;
        struct slice literal = literal_of(reader_lstr(&r), &open);
        if (open && slice_starts_with(prefix, literal))
            return true;
    }
    return false;
}

void access_list_each(const struct access_list *l, void (*fn)(void *ctx, struct slice pattern),
                      void *ctx) {
    struct reader r = reader_of(buf_slice(&l->patterns));
    for (uint32_t i = 0; i < l->count; i++)
        fn(ctx, reader_lstr(&r));
}
