/* A Redis server's bytes, as a client that only counts replies sees them: the same replies end at
 * the same places however the bytes arrive. */
#include <stdlib.h>

#include "base/buf.h"
#include "proto/resp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void listen(const uint8_t *data, size_t size, size_t step, struct buf *notes) {
    struct resp_reply *r = xcalloc(1, sizeof *r);
    bool bad = false;
    for (size_t at = 0; at < size && !bad; at += step) {
        size_t n = step < size - at ? step : size - at;
        struct slice in = slice_of(data + at, n);
        enum resp_reply_result result;
        while ((result = resp_reply_take(r, &in)) == RESP_REPLY_END) {
            CHECK(memchr(r->text, 0, sizeof r->text));
            buf_append_char(notes, r->type);
            buf_append_u64(notes, (uint64_t)r->integer);
            buf_append_str(notes, r->text);
        }
        bad = result == RESP_REPLY_BAD;
        CHECK(bad || in.size == 0);
    }
    buf_append_u8(notes, bad);
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
