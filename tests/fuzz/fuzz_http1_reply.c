/* An HTTP server's bytes, as a client that only counts responses sees them: the same ones end at
 * the same places however the bytes arrive. */
#include <stdlib.h>

#include "base/buf.h"
#include "proto/http1_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void listen(const uint8_t *data, size_t size, size_t step, struct buf *notes) {
    struct http1_reply *r = xcalloc(1, sizeof *r);
    bool bad = false;
    for (size_t at = 0; at < size && !bad; at += step) {
        size_t n = step < size - at ? step : size - at;
        struct slice in = slice_of(data + at, n);
        enum http1_reply_result result;
        while ((result = http1_reply_take(r, &in)) == HTTP1_REPLY_END) {
            buf_append_u64(notes, (uint64_t)r->status);
            buf_append_u64(notes, r->body_bytes);
            buf_append_u8(notes, r->close);
        }
        bad = result == HTTP1_REPLY_BAD;
        CHECK(bad || in.size == 0);
    }
    buf_append_u8(notes, bad);
    buf_append_u8(notes, http1_reply_closed(r));
    http1_reply_fini(r);
    free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf whole = {0}, parts = {0};
    listen(data, size, size ? size : 1, &whole);
    for (size_t step = 1; step < size; step += size / 8 + 1) {
        buf_reset(&parts);
        listen(data, size, step, &parts);
        CHECK(slice_equal(buf_slice(&whole), buf_slice(&parts)));
    }
    buf_fini(&whole);
    buf_fini(&parts);
    return 0;
}
