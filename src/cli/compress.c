#include "cli/compress.h"

#include <brotli/encode.h>
#include <zlib.h>

enum {
    /* The best qualities cost about a second a MiB; above this they are not used. */
    BEST_BYTES_MAX = 1024 * 1024,
};

void compress_gzip(struct slice in, struct buf *out) {
    z_stream z = {0};
    buf_reset(out);
    /* 15 bits of window, and 16 for gzip's own header instead of zlib's. */
    CHECK(deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) == Z_OK);
    size_t bound = deflateBound(&z, in.size);
    z.next_in = (Bytef *)(uintptr_t)in.data;
    z.avail_in = (uInt)in.size;
    z.next_out = buf_reserve(out, bound);
    z.avail_out = (uInt)bound;
    int rc = deflate(&z, Z_FINISH); /* the output has room for the worst */
    CHECK(rc == Z_STREAM_END);
    buf_commit(out, z.total_out);
    deflateEnd(&z);
}

void compress_brotli(struct slice in, struct buf *out) {
    size_t size = BrotliEncoderMaxCompressedSize(in.size);
    int quality = in.size <= BEST_BYTES_MAX ? BROTLI_MAX_QUALITY : 9;
    buf_reset(out);
    uint8_t *at = buf_reserve(out, size);
    bool ok = BrotliEncoderCompress(quality, BROTLI_DEFAULT_WINDOW, BROTLI_MODE_TEXT, in.size,
                                    in.data, &size, at);
    CHECK(ok);
    buf_commit(out, size);
}
