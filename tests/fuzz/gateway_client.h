/* One client of a gateway, for the fuzz targets of its connections: bytes in pieces, answers of the
 * database in any order, failures, a client that does not read, time that passes. What happens
 * between the bytes follows from the input's first two, so that a run can be repeated. */
#pragma once
#include "base/rand.h"
#include "bench.h"

enum { GATEWAY_CLIENT_HEAD = 2, GATEWAY_CLIENT_BYTES_MAX = 4096 };

/* Small limits, so that short inputs reach them. */
static inline struct bench *gateway_client_bench(void) {
    const struct gateway_options options = {.pipeline_requests_max = 16,
                                            .pipeline_bytes_max = 1024,
                                            .output_bytes_max = 2048,
                                            .value_bytes_max = 8192,
                                            .txn_bytes_max = 2048,
                                            .redis_idle_timeout_ms = 20000};
    return bench_new(&options);
}

static inline void gateway_client_answer(struct bench *b, struct rand *r) {
    size_t pending = fake_upstream_pending(b->up);
    if (pending == 0)
        return;
    size_t at = rand_below(r, pending);
    if (rand_below(r, 8) > 0)
        fake_upstream_answer(b->up, at);
    else if (fake_upstream_kind(b->up, at) == UPSTREAM_WRITE && rand_below(r, 2))
        fake_upstream_answer_with(b->up, at, UPSTREAM_UNKNOWN, "-UNAVAILABLE gone\r\n");
    else
        fake_upstream_answer_with(b->up, at, UPSTREAM_NOT_APPLIED, "-BUSY no room\r\n");
}

/* Anything but the client's bytes. */
static inline void gateway_client_event(struct bench *b, struct fake_stream *f, struct rand *r) {
    switch (rand_below(r, 16)) {
    case 0:
        fake_stream_block(f);
        break;
    case 1:
    case 2:
        fake_stream_unblock(f);
        break;
    case 3:
        bench_wait(b, 1000 * rand_below(r, 20));
        break;
    case 4:
    case 5:
        bench_settle(b);
        break;
    case 6:
    case 7:
    case 8:
        bench_turn(b);
        break;
    default:
        gateway_client_answer(b, r);
    }
}

/* Runs the input, then checks that the connection comes to an end by itself. Frees nothing: what
 * the client has received is in f->written. */
static inline void gateway_client_run(struct bench *b, struct fake_stream *f, const uint8_t *data,
                                      size_t size) {
    struct rand r = {.state = (uint64_t)data[0] << 8 | data[1]};
    size_t at = GATEWAY_CLIENT_HEAD;
    while (at < size && !f->closed && !f->shutdown) {
        size_t n = 1 + rand_below(&r, 1u << rand_below(&r, 10));
        n = n < size - at ? n : size - at;
        uint8_t *exact = xmemdup(data + at, n); /* for the sanitizer */
        if (fake_stream_feed(f, slice_of(exact, n)))
            at += n;
        else if (f->paused)
            fake_stream_unblock(f); /* else it could wait for a client that never reads */
        free(exact);
        for (uint64_t events = rand_below(&r, 6); events > 0 && !f->closed; events--)
            gateway_client_event(b, f, &r);
    }
    if (f->closed)
        return;
    fake_stream_unblock(f);
    bench_settle(b);
    CHECK(!f->paused);
    fake_stream_eof(f);
    bench_settle(b);
    CHECK(f->closed);
}
