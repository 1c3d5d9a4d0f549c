/* The id that a client resumes with, and data of any bytes in an event: it is read back by the
 * rules of the standard as it was, with its line ends made LF, and ends nowhere else. */
#include <stdlib.h>

#include "base/num.h"
#include "proto/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_id(struct slice in) {
    uint64_t id;
    if (!sse_parse_id(in, &id))
        return;
    struct buf again = {0};
    num_append_u64(&again, id);
    CHECK(slice_equal(buf_slice(&again), in));
    buf_fini(&again);
}

/* What the lines hold, joined by LF, is the data with every line end made LF. */
static void check_data(struct slice in) {
    struct buf out = {0}, want = {0}, got = {0};
    sse_data(&out, in);
    for (size_t i = 0; i < in.size; i++) {
        bool crlf = in.data[i] == '\r' && i + 1 < in.size && in.data[i + 1] == '\n';
        buf_append_u8(&want, in.data[i] == '\r' ? '\n' : in.data[i]);
        i += crlf;
    }
    for (size_t at = 0; at < out.size;) {
        CHECK(out.size - at >= 7);
        CHECK(memcmp(out.data + at, "data: ", 6) == 0);
        const uint8_t *end = memchr(out.data + at, '\n', out.size - at);
        CHECK(end != NULL);
        if (at > 0)
            buf_append_u8(&got, '\n');
        buf_append(&got, out.data + at + 6, (size_t)(end - out.data) - at - 6);
        at = (size_t)(end - out.data) + 1;
    }
    CHECK(slice_equal(buf_slice(&got), buf_slice(&want)));
    buf_fini(&out);
    buf_fini(&want);
    buf_fini(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = size > 0 ? xmemdup(data, size) : NULL;
    check_id(slice_of(copy, size));
    check_data(slice_of(copy, size));
    free(copy);
    return 0;
}
