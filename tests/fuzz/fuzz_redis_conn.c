/* A whole Redis connection: whatever the client sends and however the database answers, what goes
 * out are whole replies of RESP2 or RESP3, the connection ends when the client does, and no counter
 * is left behind. */
#include "base/num.h"
#include "gateway_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice take_line(struct slice *in) {
    const uint8_t *end = memmem(in->data, in->size, "\r\n", 2);
    CHECK(end);
    struct slice line = slice_of(in->data, (size_t)(end - in->data));
    *in = slice_of(end + 2, in->size - line.size - 2);
    return line;
}

/* One reply with all it holds. */
static void take_reply(struct slice *in) {
    CHECK(in->size > 0);
    struct slice line = take_line(in);
    char type = (char)line.data[0];
    int64_t n = 0;
    CHECK(type != 0 && strchr("+-:,#_($=*~%>", type));
    if (!strchr("$=*~%>", type))
        return;
    CHECK(num_parse_i64(slice_of(line.data + 1, line.size - 1), &n));
    CHECK(n >= -1);
    if (type == '$' || type == '=') {
        if (n < 0)
            return;
        CHECK(in->size >= (uint64_t)n + 2);
        CHECK(memcmp(in->data + n, "\r\n", 2) == 0);
        *in = slice_of(in->data + n + 2, in->size - (size_t)n - 2);
        return;
    }
    for (int64_t left = type == '%' ? 2 * n : n; left > 0; left--)
        take_reply(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < GATEWAY_CLIENT_HEAD || size > GATEWAY_CLIENT_BYTES_MAX)
        return 0;
    struct bench *b = gateway_client_bench();
    struct fake_stream *f = bench_redis(b);
    gateway_client_run(b, f, data, size);
    struct slice out = buf_slice(&f->written);
    while (out.size > 0)
        take_reply(&out);
    bench_free(b);
    return 0;
}
