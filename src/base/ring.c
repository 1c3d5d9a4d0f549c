#include "base/ring.h"

#include <stdlib.h>

#include "base/check.h"

enum { CACHE_LINE_BYTES = 64 };

/* Positions only grow; a byte's place is its position modulo the size. Each side writes its own
 * position and reads the other's, so they lie on lines of their own. */
struct ring {
    size_t size;
    uint8_t *data;
    _Alignas(CACHE_LINE_BYTES) uint64_t put;
    _Alignas(CACHE_LINE_BYTES) uint64_t taken;
};

struct ring *ring_new(size_t bytes) {
    CHECK(bytes > 0 && (bytes & (bytes - 1)) == 0);
    struct ring *r = NULL;
    CHECK(posix_memalign((void **)&r, CACHE_LINE_BYTES, sizeof *r) == 0);
    *r = (struct ring){.size = bytes, .data = xmalloc(bytes)};
    return r;
}

void ring_free(struct ring *r) {
    if (!r)
        return;
    free(r->data);
    free(r);
}

bool ring_put(struct ring *r, struct slice bytes) {
    uint64_t taken = __atomic_load_n(&r->taken, __ATOMIC_ACQUIRE);
    size_t at = r->put & (r->size - 1), first = r->size - at;
    if (bytes.size > r->size - (r->put - taken))
        return false;
    if (bytes.size == 0)
        return true;
    if (first > bytes.size)
        first = bytes.size;
    memcpy(r->data + at, bytes.data, first);
    memcpy(r->data, bytes.data + first, bytes.size - first);
    __atomic_store_n(&r->put, r->put + bytes.size, __ATOMIC_RELEASE);
    return true;
}

struct slice ring_peek(const struct ring *r) {
    uint64_t put = __atomic_load_n(&r->put, __ATOMIC_ACQUIRE);
    size_t at = r->taken & (r->size - 1), size = (size_t)(put - r->taken);
    return slice_of(r->data + at, size < r->size - at ? size : r->size - at);
}

void ring_drop(struct ring *r, size_t bytes) {
    CHECK(bytes <= ring_peek(r).size);
    __atomic_store_n(&r->taken, r->taken + bytes, __ATOMIC_RELEASE);
}
