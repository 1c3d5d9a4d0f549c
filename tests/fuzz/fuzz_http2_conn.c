/* A whole connection of HTTP/2: whatever the client sends behind the preface and however the
 * database answers, what goes out are frames, the connection ends when the client does, and no
 * counter is left behind. Every other input has its frames put together from pieces (a type, flags,
 * a stream and a length in four bytes), so that the fuzzer is not stuck at lengths. */
#include "gateway_client.h"
#include "h2_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Four bytes say what the next frame is; its payload are the bytes behind them. */
static void put_frames(struct buf *out, struct slice in) {
    while (in.size >= 4) {
        size_t length = in.data[3] < in.size - 4 ? in.data[3] : in.size - 4;
        h2_put_frame(out, in.data[0] % 12, in.data[1], in.data[2] & 15,
                     slice_of(in.data + 4, length));
        in = slice_of(in.data + 4 + length, in.size - 4 - length);
    }
    buf_append_slice(out, in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < GATEWAY_CLIENT_HEAD || size > GATEWAY_CLIENT_BYTES_MAX)
        return 0;
    struct bench *b = gateway_client_bench();
    struct fake_stream *f = bench_http(b);
    static struct h2_client client;
    struct buf bytes = {0};
    struct slice rest = slice_of(data + GATEWAY_CLIENT_HEAD, size - GATEWAY_CLIENT_HEAD);
    buf_append(&bytes, data, GATEWAY_CLIENT_HEAD);
    h2_put_preface(&bytes, data[0] & 2 ? 100 : UINT32_MAX);
    if (data[0] & 1)
        put_frames(&bytes, rest);
    else
        buf_append_slice(&bytes, rest);
    gateway_client_run(b, f, bytes.data, bytes.size);
    /* Half a preface that does not go on is answered as a request that does not. */
    if (!slice_starts_with(buf_slice(&f->written), slice_str("HTTP/1.1 "))) {
        h2_client_init(&client);
        h2_client_take(&client, buf_slice(&f->written));
        CHECK(f->written.size == 0 || client.settings_count > 0);
        h2_client_fini(&client);
    }
    buf_fini(&bytes);
    bench_free(b);
    return 0;
}
