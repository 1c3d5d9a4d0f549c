#include "base/histogram.h"

#include <math.h>

#include "base/check.h"

enum { PARTS = 1 << HISTOGRAM_PART_BITS };

/* Numbers below 2 * PARTS have a bucket each. Above, a number's highest PART_BITS + 1 bits say in
 * which part of which power of two it lies. */
static size_t bucket_of(uint64_t value) {
    if (value < 2 * PARTS)
        return value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_PART_BITS;
    return ((size_t)shift << HISTOGRAM_PART_BITS) + (value >> shift);
}

/* The largest number of a bucket. */
static uint64_t bucket_end(size_t bucket) {
    if (bucket < 2 * PARTS)
        return bucket;
    unsigned shift = (unsigned)(bucket >> HISTOGRAM_PART_BITS) - 1;
    uint64_t part = bucket - ((uint64_t)shift << HISTOGRAM_PART_BITS);
    return (part << shift) + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *h, uint64_t value) {
    size_t bucket = bucket_of(value);
    CHECK(bucket < HISTOGRAM_BUCKETS);
    h->buckets[bucket]++;
    if (h->count == 0 || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->count++;
    h->sum += value;
}

void histogram_merge(struct histogram *to, const struct histogram *from) {
    if (from->count == 0)
        return;
    if (to->count == 0 || from->min < to->min)
        to->min = from->min;
    if (from->max > to->max)
        to->max = from->max;
    to->count += from->count;
    to->sum += from->sum;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
}

uint64_t histogram_quantile(const struct histogram *h, double part) {
    if (h->count == 0)
        return 0;
    double wanted = ceil(part * (double)h->count);
    uint64_t rank = wanted < 1 ? 1 : (uint64_t)wanted;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank)
            return bucket_end(i) < h->max ? bucket_end(i) : h->max;
    }
    return h->max; /* a part above 1, or one that was rounded up beyond the count */
}

double histogram_mean(const struct histogram *h) {
    return h->count ? (double)h->sum / (double)h->count : 0;
}
