/* What both protocols share: limits, back-pressure, time limits, clients that go away, draining. */
#include <stdio.h>

#include "base/rand.h"
#include "bench.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static void feed_raw(struct fake_stream *f, const char *text, size_t size) {
    assert_true(fake_stream_feed(f, slice_of(text, size)));
}

/* An idle connection owns no buffers. */
static void test_idle_memory(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b), *h = bench_http(b);
    bench_talk(b, f, "*1\r\n$4\r\nPI", "");
    assert_true(b->gw->metrics.input_bytes > 0);
    bench_talk(b, f, "NG\r\n", "+PONG\r\n");
    bench_feed(b, h, slice_str("PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab"),
               5);
    assert_true(b->gw->metrics.input_bytes > 0);
    bench_feed(b, h, slice_str("c"), 5);
    assert_int_equal(b->gw->metrics.input_bytes, 0);
    assert_int_equal(b->gw->metrics.output_bytes, 0);
    bench_free(b);
}

/* One write a turn, whatever the count of answers. */
static void test_pipeline_limit(void **state) {
    const struct gateway_options options = {.pipeline_requests_max = 8};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = bench_redis(b);
    for (int i = 0; i < 20; i++)
        feed_raw(f, "GET a\r\n", 7);
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 8);
    fake_upstream_answer(b->up, 7); /* not the oldest: the line stays full */
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 7);
    fake_upstream_answer(b->up, 0);
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 7);
    bench_settle(b);
    assert_int_equal(f->written.size, 20 * 5);
    bench_free(b);
}

static void test_pipeline_bytes(void **state) {
    const struct gateway_options options = {.pipeline_bytes_max = 1000};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = bench_redis(b);
    struct buf set = {0};
    buf_printf(&set, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$600\r\n%0600d\r\n", 7);
    for (int i = 0; i < 5; i++)
        assert_true(fake_stream_feed(f, buf_slice(&set)));
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 2); /* the second goes over the limit */
    bench_settle(b);
    assert_int_equal(f->written.size, 5 * 5);
    buf_fini(&set);
    bench_free(b);
}

/* A connection that waits takes in a little more, then its client is pushed back. */
static void test_pause(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    char chunk[4096];
    for (size_t i = 0; i < sizeof chunk; i += 8)
        memcpy(chunk + i, "GET ab\r\n", 8);
    feed_raw(f, "SET ab 1\r\n", 10);
    size_t fed = 0;
    while (fake_stream_feed(f, slice_of(chunk, sizeof chunk))) {
        fed += sizeof chunk;
        bench_turn(b);
        assert_true(fed <= CONN_AHEAD_BYTES + sizeof chunk);
    }
    assert_true(f->paused);
    assert_true(fed >= CONN_AHEAD_BYTES);
    bench_settle(b);
    assert_false(f->paused);
    assert_int_equal(f->written.size, 5 + fed / 8 * 7);
    assert_int_equal(b->gw->metrics.input_bytes, 0);
    bench_free(b);
}

/* A client that does not read its answers gets no further ones. */
static void test_slow_reader(void **state) {
    const struct gateway_options options = {.output_bytes_max = 10000};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = bench_redis(b);
    char value[4001];
    memset(value, 'v', 4000);
    value[4000] = 0;
    struct buf set = {0};
    buf_printf(&set, "SET a %s\r\n", value);
    bench_feed(b, f, buf_slice(&set), SIZE_MAX);
    buf_fini(&set);
    buf_reset(&f->written);
    fake_stream_block(f);
    for (int i = 0; i < 10; i++) {
        feed_raw(f, "GET a\r\n", 7);
        bench_settle(b);
    }
    assert_true(f->held.size >= 10000);
    assert_true(f->held.size <= 10000 + 4100);
    assert_int_equal(fake_upstream_pending(b->up), 0);
    size_t held = f->held.size;
    bench_wait(b, 30000);
    assert_int_equal(f->held.size, held);
    while (f->written.size < 10 * 4009) {
        fake_stream_unblock(f);
        bench_settle(b);
    }
    assert_int_equal(f->written.size, 10 * 4009);
    /* One that never reads is let go in the end. */
    fake_stream_block(f);
    feed_raw(f, "GET a\r\n", 7);
    bench_settle(b);
    bench_wait(b, 61000);
    assert_true(f->closed);
    bench_free(b);
}

static void test_unfinished_memory(void **state) {
    const struct gateway_options options = {.input_bytes_total_max = 300000};
    struct bench *b = bench_new(&options);
    struct fake_stream *small = bench_redis(b), *f = bench_redis(b), *h = bench_http(b);
    char *big = xcalloc(1, 400000);
    memset(big, 'x', 400000);
    feed_raw(small, "GET", 3);
    feed_raw(f, "*2\r\n$4\r\nECHO\r\n$1000000\r\n", 25);
    for (size_t at = 0; !f->closed && at < 400000 && fake_stream_feed(f, slice_of(big, 10000));
         at += 10000)
        bench_turn(b);
    assert_memory_equal(bench_received(f), "-BUSY ", 6);
    assert_true(f->closed);
    const char *put = "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    feed_raw(h, put, strlen(put));
    for (size_t at = 0; at < 400000 && fake_stream_feed(h, slice_of(big, 10000)); at += 10000)
        bench_turn(b);
    assert_memory_equal(bench_received(h), "HTTP/1.1 503 ", 13);
    assert_true(h->closed);
    free(big);
    assert_int_equal(b->gw->metrics.connections_overrun_total, 2);
    bench_talk(b, small, " a\r\n", "$-1\r\n"); /* others are not touched */
    bench_free(b);
}

/* Answers that nobody takes: when all together are too many, those who hold most of them go. */
static void test_unread_memory(void **state) {
    const struct gateway_options options = {.output_bytes_max = 4000,
                                            .output_bytes_total_max = 12000};
    struct bench *b = bench_new(&options);
    struct fake_stream *small = bench_redis(b), *f[3];
    for (size_t i = 0; i < 3; i++) {
        f[i] = bench_redis(b);
        fake_stream_block(f[i]);
        fake_stream_feed_str(f[i], "COMMAND\r\n");
    }
    fake_stream_block(small);
    fake_stream_feed_str(small, "PING\r\n");
    bench_turn(b);
    bench_wait(b, 1000);
    assert_false(small->closed);
    size_t closed = 0;
    for (size_t i = 0; i < 3; i++)
        closed += f[i]->closed;
    assert_true(closed > 0);
    assert_int_equal(b->gw->metrics.connections_overrun_total, closed);
    bench_free(b);
}

/* Answers that wait for one before them count like those that the client does not take. */
static void test_answers_in_the_line(void **state) {
    const struct gateway_options options = {.output_bytes_max = 10000,
                                            .output_bytes_total_max = 40000};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = bench_redis(b);
    struct buf set = {0}, echo = {0};
    buf_printf(&set, "SET a %03000d\r\n", 7);
    buf_printf(&echo, "ECHO %03000d\r\n", 7);
    bench_feed(b, f, buf_slice(&set), SIZE_MAX);
    buf_reset(&f->written);
    /* Known at once. */
    feed_raw(f, "GET b\r\n", 7);
    bench_turn(b);
    for (int i = 0; i < 20; i++) {
        assert_true(fake_stream_feed(f, buf_slice(&echo)));
        bench_turn(b);
    }
    assert_in_range(b->gw->metrics.output_bytes, 10000, 14000);
    assert_true(b->gw->metrics.input_bytes > 40000);
    bench_settle(b);
    assert_int_equal(f->written.size, 5 + 20 * 3009);
    assert_int_equal(b->gw->metrics.output_bytes, 0);
    /* From the database, which answers the first one last: too much in the end. */
    buf_reset(&f->written);
    feed_raw(f, "GET b\r\n", 7);
    for (int i = 0; i < 20; i++)
        feed_raw(f, "GET a\r\n", 7);
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 21);
    for (int i = 0; i < 10; i++)
        fake_upstream_answer(b->up, 1);
    gateway_turn_end(b->gw);
    assert_in_range(b->gw->metrics.output_bytes, 30000, 31000);
    assert_false(f->closing);
    for (int i = 0; i < 10; i++)
        fake_upstream_answer(b->up, 1);
    gateway_turn_end(b->gw);
    assert_true(f->closing);
    assert_int_equal(b->gw->metrics.connections_overrun_total, 1);
    buf_fini(&set);
    buf_fini(&echo);
    bench_free(b);
}

static void test_connection_limit(void **state) {
    const struct gateway_options options = {.connections_max = 2};
    struct bench *b = bench_new(&options);
    struct fake_stream *one = bench_redis(b);
    bench_http(b);
    struct fake_stream *r = bench_redis(b), *h = bench_http(b);
    bench_turn(b);
    assert_string_equal(bench_received(r), "-ERR max number of clients reached\r\n");
    assert_memory_equal(bench_received(h), "HTTP/1.1 503 ", 13);
    assert_true(r->closed && h->closed);
    assert_int_equal(b->gw->metrics.connections_refused_total, 2);
    bench_hang_up(b, one);
    bench_talk(b, bench_redis(b), "PING\r\n", "+PONG\r\n");
    bench_free(b);
}

/* The client goes away at every place of a request, with requests under way. */
static void test_hang_up(void **state) {
    static const char redis[] =
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\nGET a\r\nMULTI\r\nINCR n\r\nEXEC\r\n";
    static const char http[] =
        "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n" GET("/v1/kv/a") GET("/v1/kv?limit=3");
    struct bench *b = bench_new(NULL);
    for (size_t at = 0; at < sizeof redis; at++) {
        struct fake_stream *f = bench_redis(b);
        feed_raw(f, redis, at);
        bench_turn(b);
        if (at % 2 && fake_upstream_pending(b->up) > 0)
            fake_upstream_answer(b->up, 0);
        bench_hang_up(b, f);
        assert_int_equal(fake_upstream_pending(b->up), 0);
    }
    for (size_t at = 0; at < sizeof http; at++) {
        struct fake_stream *f = bench_http(b);
        feed_raw(f, http, at);
        bench_turn(b);
        if (at % 2 && fake_upstream_pending(b->up) > 0)
            fake_upstream_answer(b->up, 0);
        bench_hang_up(b, f);
        assert_int_equal(fake_upstream_pending(b->up), 0);
    }
    assert_true(fake_upstream_forgotten(b->up) > 20);
    bench_free(b);
}

static void test_time_limits(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *idle = bench_http(b), *head = bench_http(b), *body = bench_http(b);
    struct fake_stream *redis = bench_redis(b), *busy = bench_http(b);
    fake_stream_feed_str(head, "GET / HTTP/1.1\r\nHos");
    fake_stream_feed_str(body, "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab");
    fake_stream_feed_str(busy, GET("/v1/kv/a"));
    bench_wait(b, 8000);
    assert_true(fake_stream_feed_str(head, "t")); /* one byte more is no progress */
    bench_wait(b, 4000);
    assert_memory_equal(bench_received(head), "HTTP/1.1 408 ", 13);
    assert_false(body->shutdown || idle->shutdown);
    bench_wait(b, 20000);
    assert_memory_equal(bench_received(body), "HTTP/1.1 408 ", 13);
    assert_false(idle->shutdown);
    bench_wait(b, 50000);
    assert_true(idle->closed && head->closed && body->closed);
    assert_int_equal(idle->written.size, 0);
    assert_false(redis->closed); /* as Redis: no limit */
    assert_false(busy->closed);  /* it waits for us, not we for it */
    bench_settle(b);
    assert_memory_equal(bench_received(busy), "HTTP/1.1 404 ", 13);
    bench_wait(b, 70000);
    assert_false(busy->closed); /* counted from the answer */
    bench_wait(b, 10000);
    assert_true(busy->closed);
    bench_free(b);

    const struct gateway_options options = {.redis_idle_timeout_ms = 5000};
    b = bench_new(&options);
    redis = bench_redis(b);
    bench_wait(b, 4000);
    bench_talk(b, redis, "PING\r\n", "+PONG\r\n");
    bench_wait(b, 4000);
    assert_false(redis->closed);
    bench_wait(b, 2000);
    assert_true(redis->closed);
    bench_free(b);
}

/* A body that keeps coming has the time it needs. */
static void test_slow_body(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    char kib[1024];
    memset(kib, 'x', sizeof kib);
    fake_stream_feed_str(f,
                         "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 100; i++) {
        fake_stream_feed_str(f, "400\r\n");
        feed_raw(f, kib, sizeof kib);
        fake_stream_feed_str(f, "\r\n");
        bench_wait(b, 1000);
    }
    fake_stream_feed_str(f, "0\r\n\r\n");
    bench_settle(b);
    assert_memory_equal(bench_received(f), "HTTP/1.1 201 ", 13);
    bench_free(b);
}

/* What was announced is not what came. */
static void test_announced_body(void **state) {
    static const char *const requests[] = {
        "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\nx",
        "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3000000\r\nx"};
    struct bench *b = bench_new(NULL);
    for (size_t i = 0; i < ARRAY_COUNT(requests); i++) {
        struct fake_stream *f = bench_http(b);
        fake_stream_feed_str(f, requests[i]);
        bench_wait(b, 29000);
        assert_int_equal(f->written.size, 0);
        bench_wait(b, 3000);
        assert_memory_equal(bench_received(f), "HTTP/1.1 408 ", 13);
    }
    bench_free(b);
}

static void test_drain(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *idle = bench_redis(b), *busy = bench_http(b), *half = bench_http(b);
    fake_stream_feed_str(busy, GET("/v1/kv/a"));
    fake_stream_feed_str(half, "GET /_/health HTTP/1.1\r\n");
    bench_turn(b);
    gateway_drain(b->gw);
    bench_turn(b);
    assert_true(idle->closed);
    assert_false(busy->closed || half->closed);
    bench_settle(b);
    const char *text = bench_received(busy);
    assert_memory_equal(text, "HTTP/1.1 404 ", 13);
    assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
    assert_true(busy->closed);
    assert_false(gateway_is_drained(b->gw));
    fake_stream_feed_str(half, "Host: x\r\n\r\n");
    bench_settle(b);
    assert_non_null(strstr(bench_received(half), "\r\nConnection: close\r\n"));
    assert_true(gateway_is_drained(b->gw));
    struct fake_stream *late = bench_redis(b);
    bench_turn(b);
    assert_true(late->closed);
    bench_free(b);
}

/* The gateway goes first, then its streams: nothing may call back. */
static void test_free_with_clients(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    fake_stream_feed_str(f, "SET a 1\r\n");
    gateway_free(b->gw);
    assert_int_equal(fake_upstream_pending(b->up), 0);
    fake_stream_turn(f);
    assert_true(f->closed);
    gateway_shared_free(b->shared);
    upstream_free(b->up);
    bench_drop_stream(f);
    free(b);
}

/* Several clients that talk well and badly, in pieces, over a database that answers in any order
 * and fails now and then; some read slowly, some go away. Nothing may break, and every counter must
 * come back to where it began (bench_free() looks). The seed is the run's number. */
static void test_random_talk(void **state) {
    static const char *const tokens[] = {
        "GET a\r\n",
        "SET a 1\r\n",
        "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        "MULTI\r\n",
        "EXEC\r\n",
        "WATCH a b\r\n",
        "INFO\r\n",
        "INCR n\r\n",
        "CLIENT REPLY OFF\r\n",
        "CLIENT REPLY ON\r\n",
        "HELLO 3\r\n",
        "RESET\r\n",
        "SELECT 2\r\n",
        "*1\r\n$x",
        "\"",
        "\r\n",
        "QUIT\r\n",
        "CLIENT LIST\r\n",
        "COMMAND DOCS\r\n",
        "CONFIG GET *\r\n",
        "HSET h f v\r\n",
        "HGETALL h\r\n",
        GET("/v1/kv/a"),
        GET("/v1/kv?values=1"),
        GET("/_/status"),
        GET("/_/metrics"),
        GET("/"),
        "PUT /v1/kv/a?ttl=5s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        "PUT /v1/kv/b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "POST /v1/txn HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "1a\r\n{\"then\":[{\"get\":\"abcd\"}]}\r\n",
        "0\r\n\r\n",
        "POST /v1/incr/n HTTP/1.1\r\nHost: x\r\n\r\n",
        "HEAD /v1/kv/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "DELETE /v1/kv/a HTTP/1.1\r\nHost: x\r\nIf-Match: *\r\n\r\n",
        "\xff",
    };
    static const char *const failures[] = {"-UNAVAILABLE x\r\n", "-OOM x\r\n", "$-1\r\n", "*1\r\n",
                                           "*2\r\n:412\r\n:0\r\n"};
    const struct gateway_options options = {.pipeline_requests_max = 6,
                                            .output_bytes_max = 4000,
                                            .input_bytes_total_max = 200000,
                                            .output_bytes_total_max = 400000};
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct rand r = {.state = seed};
        struct bench *b = bench_new(&options);
        struct fake_stream *f[4] = {0};
        for (int step = 0; step < 400; step++) {
            size_t i = rand_below(&r, 4);
            if (!f[i])
                f[i] = i < 2 ? bench_redis(b) : bench_http(b);
            const char *token = tokens[rand_below(&r, ARRAY_COUNT(tokens))];
            size_t size = strlen(token), cut = rand_below(&r, 3) ? size : rand_below(&r, size + 1);
            switch (rand_below(&r, 12)) {
            case 0:
                bench_hang_up(b, f[i]);
                f[i] = NULL;
                continue;
            case 1:
                fake_stream_block(f[i]);
                break;
            case 2:
                fake_stream_unblock(f[i]);
                break;
            case 3:
                bench_wait(b, 1000 * rand_below(&r, 20));
                break;
            case 4:
                fake_stream_eof(f[i]);
                break;
            case 5:
                for (size_t k = rand_below(&r, 20); k > 0 && fake_upstream_pending(b->up) > 0; k--)
                    fake_upstream_answer_with(b->up, rand_below(&r, fake_upstream_pending(b->up)),
                                              (enum upstream_outcome)rand_below(&r, 3),
                                              failures[rand_below(&r, ARRAY_COUNT(failures))]);
                break;
            case 6:
            case 7:
                for (size_t k = rand_below(&r, 40); k > 0 && fake_upstream_pending(b->up) > 0; k--)
                    fake_upstream_answer(b->up, rand_below(&r, fake_upstream_pending(b->up)));
                break;
            default:
                fake_stream_feed(f[i], slice_of(token, cut));
            }
            if (rand_below(&r, 2))
                bench_turn(b);
        }
        if (seed % 2)
            gateway_drain(b->gw);
        bench_settle(b);
        bench_free(b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle_memory),       cmocka_unit_test(test_pipeline_limit),
        cmocka_unit_test(test_pipeline_bytes),    cmocka_unit_test(test_pause),
        cmocka_unit_test(test_slow_reader),       cmocka_unit_test(test_unfinished_memory),
        cmocka_unit_test(test_connection_limit),  cmocka_unit_test(test_hang_up),
        cmocka_unit_test(test_time_limits),       cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_announced_body),    cmocka_unit_test(test_drain),
        cmocka_unit_test(test_free_with_clients), cmocka_unit_test(test_random_talk),
        cmocka_unit_test(test_unread_memory),     cmocka_unit_test(test_answers_in_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
