/* Deterministic pseudo-random numbers: SplitMix64 (Steele, Lea, Flood 2014). Not for secrets. */
#pragma once
#include <stdint.h>

struct rand {
    uint64_t state;
};

static inline uint64_t rand_u64(struct rand *r) {
    uint64_t z = (r->state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
/* Uniform enough in [0, n); 0 when n is 0. */
static inline uint64_t rand_below(struct rand *r, uint64_t n) {
    return n ? (uint64_t)(((__uint128_t)rand_u64(r) * n) >> 64) : 0;
}
