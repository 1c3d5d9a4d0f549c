/* Compressing what a deploy has, once, so that no server does it at each request. zlib.h and
 * brotli/encode.h are included in compress.c only. Equal bytes give equal results. */
#pragma once
#include "base/buf.h"

enum {
    COMPRESS_BYTES_MIN = 256,              /* smaller files are not worth a variant */
    COMPRESS_BYTES_MAX = 32 * 1024 * 1024, /* nor are larger ones, which are mostly read in parts */
};

/* Replaces the content of `out`. */
void compress_gzip(struct slice in, struct buf *out);
void compress_brotli(struct slice in, struct buf *out);
/* Whether the result is so much smaller that it should be kept. */
static inline bool compress_is_worth_it(uint64_t before, uint64_t after) {
    return after + after / 16 + 64 < before;
}
