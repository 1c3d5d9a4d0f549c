/* A borrowed run of bytes. Whoever hands one out says how long it stays valid. Never NUL-terminated
 * by contract; the bytes may contain anything. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct slice {
    const uint8_t *data;
    size_t size;
};

static inline struct slice slice_of(const void *data, size_t size) {
    return (struct slice){.data = data, .size = size};
}

static inline struct slice slice_str(const char *str) {
    return slice_of(str, strlen(str));
}

static inline bool slice_equal(struct slice a, struct slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_equal_str(struct slice a, const char *str) {
    return slice_equal(a, slice_str(str));
}

/* ASCII case-insensitive, as protocol tokens are compared. */
static inline bool slice_equal_nocase(struct slice a, const char *str) {
    return a.size == strlen(str) && strncasecmp((const char *)a.data, str, a.size) == 0;
}

static inline bool slice_starts_with(struct slice a, struct slice prefix) {
    return a.size >= prefix.size &&
           (prefix.size == 0 || memcmp(a.data, prefix.data, prefix.size) == 0);
}

/* Byte order, shorter first: the order of LMDB's default comparison. */
static inline int slice_compare(struct slice a, struct slice b) {
    size_t n = a.size < b.size ? a.size : b.size;
    int c = n ? memcmp(a.data, b.data, n) : 0;
    return c ? c : (a.size > b.size) - (a.size < b.size);
}
