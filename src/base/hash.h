/* Hashes of bytes: XXH3 (https://xxhash.com), 64 and 128 bits, and CRC32C (RFC 3720 appendix B.4).
 * xxhash.h is included here only. None of them resists an attacker who knows the seed. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct hash128 {
    uint64_t low;
    uint64_t high;
};

uint64_t hash64(struct slice s, uint64_t seed);
struct hash128 hash128(struct slice s);
/* Streaming 128-bit hash of several pieces, each preceded by its length, so that ("ab","c") and
 * ("a","bc") differ. */
struct hash128 hash128_pieces(const struct slice *pieces, size_t count);
/* 128-bit modular addition and subtraction: an order-independent sum over a set of records. */
static inline struct hash128 hash128_add(struct hash128 a, struct hash128 b) {
    struct hash128 r = {.low = a.low + b.low};
    r.high = a.high + b.high + (r.low < a.low);
    return r;
}
static inline struct hash128 hash128_sub(struct hash128 a, struct hash128 b) {
    struct hash128 r = {.low = a.low - b.low};
    r.high = a.high - b.high - (a.low < b.low);
    return r;
}
static inline int hash128_equal(struct hash128 a, struct hash128 b) {
    return a.low == b.low && a.high == b.high;
}
/* CRC32C of `s`, continuing from `crc` (0 to begin). Uses SSE4.2 where the processor has it. */
uint32_t crc32c(uint32_t crc, struct slice s);
/* The same by table, whatever the processor has; for comparison in tests. */
uint32_t crc32c_portable(uint32_t crc, struct slice s);
