/* Counts of times (or any other numbers) in bounded memory, from which quantiles are read.
 *
 * The buckets are log-linear, as HdrHistogram's: each power of two is divided into 128 equal parts,
 * so that a quantile is off by less than 1 part in 128 whatever its size, and every number a
 * uint64_t can hold has a bucket. Numbers below 256 are exact. Zero-initialised is valid and empty;
 * 58 KiB. One thread; threads that count for themselves are merged behind. */
#pragma once
#include <stdint.h>

enum { HISTOGRAM_PART_BITS = 7, HISTOGRAM_BUCKETS = (65 - HISTOGRAM_PART_BITS) << 7 };

struct histogram {
    uint64_t count;
    uint64_t sum; /* of the numbers themselves, so that the mean is exact; wraps */
    uint64_t min; /* 0 when empty */
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The smallest number that at least this part of all (0 to 1) do not exceed, rounded up to the end
 * of its bucket but never above max. 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, double part);
double histogram_mean(const struct histogram *h);
