#include "base/hash.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "base/bytes.h"
#include "base/check.h"

uint64_t hash64(struct slice s, uint64_t seed) {
    return XXH3_64bits_withSeed(s.data, s.size, seed);
}

struct hash128 hash128(struct slice s) {
    XXH128_hash_t h = XXH3_128bits(s.data, s.size);
    return (struct hash128){.low = h.low64, .high = h.high64};
}

struct hash128 hash128_pieces(const struct slice *pieces, size_t count) {
    XXH3_state_t state;
    CHECK(XXH3_128bits_reset(&state) == XXH_OK);
    for (size_t i = 0; i < count; i++) {
        uint8_t size[8];
        put_u64le(size, pieces[i].size);
        XXH3_128bits_update(&state, size, sizeof size);
        if (pieces[i].size > 0)
            XXH3_128bits_update(&state, pieces[i].data, pieces[i].size);
    }
    XXH128_hash_t h = XXH3_128bits_digest(&state);
    return (struct hash128){.low = h.low64, .high = h.high64};
}

static uint32_t crc32c_table[256];

__attribute__((constructor)) static void crc32c_fill_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
        crc32c_table[i] = c;
    }
}

uint32_t crc32c_portable(uint32_t crc, struct slice s) {
    crc = ~crc;
    for (size_t i = 0; i < s.size; i++)
        crc = crc32c_table[(crc ^ s.data[i]) & 0xff] ^ (crc >> 8);
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *at,
                                                               size_t n) {
    uint64_t c = crc;
    for (; n >= 8; n -= 8, at += 8)
        c = __builtin_ia32_crc32di(c, get_u64le(at));
    crc = (uint32_t)c;
    while (n--)
        crc = __builtin_ia32_crc32qi(crc, *at++);
    return crc;
}
#endif

uint32_t crc32c(uint32_t crc, struct slice s) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~crc32c_sse42(~crc, s.data, s.size);
#endif
    return crc32c_portable(crc, s);
}
