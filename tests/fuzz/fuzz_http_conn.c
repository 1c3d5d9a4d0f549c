/* A whole HTTP connection: whatever the client sends and however the database answers, what goes
 * out are answers, the connection ends when the client does, and no counter is left behind. */
#include "gateway_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < GATEWAY_CLIENT_HEAD || size > GATEWAY_CLIENT_BYTES_MAX)
        return 0;
    struct bench *b = gateway_client_bench();
    struct fake_stream *f = bench_http(b);
    gateway_client_run(b, f, data, size);
    /* A client that begins with HTTP/2's preface is another one (fuzz_http2_conn.c). */
    static const char preface[] = "PRI * HTTP/2.0";
    struct slice sent = slice_of(data + GATEWAY_CLIENT_HEAD, size - GATEWAY_CLIENT_HEAD);
    if (f->written.size > 0 && !slice_starts_with(sent, slice_str(preface)))
        CHECK(slice_starts_with(buf_slice(&f->written), slice_str("HTTP/1.1 ")));
    bench_free(b);
    return 0;
}
