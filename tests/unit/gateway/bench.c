#include "bench.h"

#include "base/log.h"

enum { STREAMS_MAX = 512 };
static struct fake_stream *streams[STREAMS_MAX];
static size_t stream_count;

static uint64_t bench_now(void *env) {
    return ((struct bench *)env)->now_ms;
}
static uint64_t bench_wall(void *env) {
    return ((struct bench *)env)->wall_ms;
}

struct bench *bench_new(const struct gateway_options *options) {
    static const struct gateway_options defaults;
    struct bench *b = xcalloc(1, sizeof *b);
    log_set_level(LOG_ERROR);
    b->now_ms = 5000;
    b->wall_ms = 784111777000; /* Sun, 06 Nov 1994 08:49:37 GMT */
    b->shared = gateway_shared_new();
    b->up = fake_upstream_new();
    const struct gateway_env env = {.now_ms = bench_now, .wall_ms = bench_wall, .env = b};
    b->gw = gateway_new(options ? options : &defaults, &env, b->shared, b->up);
    return b;
}

void bench_free(struct bench *b) {
    while (stream_count > 0)
        bench_hang_up(b, streams[0]);
    /* Every counter that goes down must be back where it began. */
    bench_turn(b);
    assert_int_equal(b->gw->conn_count, 0);
    assert_int_equal(b->gw->metrics.requests_in_flight, 0);
    assert_int_equal(b->gw->metrics.input_bytes, 0);
    assert_int_equal(b->gw->metrics.output_bytes, 0);
    assert_int_equal(b->gw->metrics.connections_http, 0);
    assert_int_equal(b->gw->metrics.connections_redis, 0);
    gateway_free(b->gw);
    gateway_shared_free(b->shared);
    upstream_free(b->up);
    free(b);
}

static struct fake_stream *new_stream(void) {
    assert_true(stream_count < STREAMS_MAX);
    return streams[stream_count++] = fake_stream_new();
}

struct fake_stream *bench_redis(struct bench *b) {
    struct fake_stream *f = new_stream();
    gateway_add_redis(b->gw, &f->base);
    return f;
}

struct fake_stream *bench_http(struct bench *b) {
    struct fake_stream *f = new_stream();
    gateway_add_http(b->gw, &f->base);
    return f;
}

void bench_hang_up(struct bench *b, struct fake_stream *f) {
    if (!f->closed) {
        fake_stream_break(f, 0);
        fake_stream_turn(f);
    }
    bench_drop_stream(f);
    gateway_turn_end(b->gw);
}

void bench_drop_stream(struct fake_stream *f) {
    size_t i = 0;
    while (streams[i] != f)
        i++;
    streams[i] = streams[--stream_count];
    fake_stream_free(f);
}

void bench_turn(struct bench *b) {
    gateway_turn_end(b->gw);
    for (size_t i = 0; i < stream_count; i++)
        fake_stream_turn(streams[i]);
    gateway_turn_end(b->gw);
}

void bench_settle(struct bench *b) {
    bench_turn(b);
    size_t i;
    while ((i = fake_upstream_next(b->up)) != SIZE_MAX) {
        fake_upstream_answer(b->up, i);
        bench_turn(b);
    }
}

void bench_wait(struct bench *b, uint64_t ms) {
    for (uint64_t done = 0; done < ms; done += 1000) {
        b->now_ms += 1000;
        b->wall_ms += 1000;
        gateway_sweep(b->gw);
        bench_turn(b);
    }
}

void bench_feed(struct bench *b, struct fake_stream *f, struct slice bytes, size_t piece) {
    for (size_t at = 0; at < bytes.size;) {
        size_t n = bytes.size - at < piece ? bytes.size - at : piece;
        /* Exactly as many bytes as there are, for the sanitizer. */
        uint8_t *exact = xmemdup(bytes.data + at, n);
        bool taken = fake_stream_feed(f, slice_of(exact, n));
        free(exact);
        if (taken)
            at += n;
        bench_settle(b);
        if (f->closed || f->shutdown)
            return;
    }
}

const char *bench_received(struct fake_stream *f) {
    static char *text;
    free(text);
    text = xmalloc(f->written.size + 1);
    if (f->written.size > 0)
        memcpy(text, f->written.data, f->written.size);
    text[f->written.size] = 0;
    buf_reset(&f->written);
    return text;
}

void bench_talk(struct bench *b, struct fake_stream *f, const char *send, const char *expect) {
    bench_feed(b, f, slice_str(send), SIZE_MAX);
    assert_string_equal(bench_received(f), expect);
}
