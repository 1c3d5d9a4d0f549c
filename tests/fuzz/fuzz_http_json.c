/* Bodies of JSON: POST /v1/redis and what is below it, PATCH /v1/session, POST /v1/txn. Whatever
 * they are, there is one answer; the document of a session stays an object. The first byte chooses.
 */
#include "gateway_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const requests[] = {
    "POST /v1/redis", "POST /v1/redis/pipeline", "POST /v1/redis/multi-exec", "PATCH /v1/session",
    "POST /v1/txn",
};

/* Exactly one: head and as much content as it says. */
static void check_answer(struct buf *written) {
    buf_append_u8(written, 0);
    const char *text = (const char *)written->data, *end = strstr(text, "\r\n\r\n");
    CHECK(strncmp(text, "HTTP/1.1 ", 9) == 0);
    CHECK(end != NULL);
    const char *length = strstr(text, "\r\nContent-Length: ");
    CHECK(length != NULL && length < end);
    CHECK(written->size - 1 == (size_t)(end - text) + 4 + strtoul(length + 18, NULL, 10));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > GATEWAY_CLIENT_BYTES_MAX)
        return 0;
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    struct buf request = {0};
    const char *line = requests[data[0] % ARRAY_COUNT(requests)];
    buf_printf(&request, "%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n", line,
               data[0] & 0x80 ? "Upstash-Encoding: base64\r\n" : "", size - 1);
    buf_append(&request, data + 1, size - 1);
    bench_feed(b, f, buf_slice(&request), SIZE_MAX);
    CHECK(fake_upstream_pending(b->up) == 0);
    check_answer(&f->written);
    bool done = slice_starts_with(buf_slice(&f->written), slice_str("HTTP/1.1 20"));
    if (done && strncmp(line, "PATCH", 5) == 0)
        CHECK(memmem(f->written.data, f->written.size, "\r\n\r\n{", 5) != NULL);
    buf_fini(&request);
    bench_hang_up(b, f);
    bench_free(b);
    return 0;
}
