/* Connections at rest: what is left of idle ones, how they come back, who is swept, how a stop
 * treats them; limits by connection and by address where they meet the clients. */
#include "gateway/client_limits.h"
#include "gateway/parked.h"
#include "http_client.h"

#define HEALTH GET("/_/health")

static size_t length(const struct list *head) {
    size_t n = 0;
    LIST_FOREACH (it, head) {
        n++;
    }
    return n;
}

/* nginx has some 550 bytes for an idle client (bench/CONNECTIONS.md). What is added here is added
 * for every idle client: the stream's own limit is in net/tcp_uv.h. */
static void test_sizes(void **state) {
    assert_true(sizeof(struct parked) <= 56);
}

static void test_parks_and_comes_back(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    assert_int_equal(length(&b->gw->fresh), 1);
    assert_int_equal(b->gw->metrics.connections_http, 1);
    expect(b, f, HEALTH, 200, NULL);
    assert_int_equal(length(&b->gw->fresh), 0);
    assert_int_equal(length(&b->gw->idle), 1);
    assert_int_equal(b->gw->busy_count, 0);
    bench_wait(b, 2000);
    assert_int_equal(length(&b->gw->idle), 0);
    assert_int_equal(length(&b->gw->parked), 1);
    assert_int_equal(b->gw->metrics.connections_http, 1);
    assert_int_equal(b->gw->metrics.connections_parked, 1);
    assert_int_equal(b->gw->conn_count, 1);
    /* Byte by byte, parked again between requests. */
    for (int i = 0; i < 3; i++) {
        bench_feed(b, f, slice_str(HEALTH), 1);
        struct answer a = take_answer(f, false);
        assert_int_equal(a.status, 200);
        free(a.body);
        bench_wait(b, 2000);
        assert_int_equal(b->gw->metrics.connections_parked, 1);
    }
    bench_free(b);
}

/* Only what is complete is put to rest: each of these would lose something. */
static void test_what_is_not_idle_stays(void **state) {
    struct bench *b = bench_new(NULL);
    static const char *const begun[] = {
        "G", "\r\n", "GET / HTTP/1.1\r\nHost:", BODY("PUT", "/v1/kv/a", "3", "ab")};
    for (size_t i = 0; i < ARRAY_COUNT(begun); i++) {
        struct fake_stream *f = bench_http(b);
        fake_stream_feed_str(f, begun[i]);
        bench_wait(b, 3000);
        assert_int_equal(b->gw->metrics.connections_parked, 0);
        assert_int_equal(b->gw->busy_count, 1);
        bench_hang_up(b, f);
    }
    struct fake_stream *waits = bench_http(b), *slow = bench_http(b);
    fake_stream_feed_str(waits, GET("/v1/kv/a")); /* no answer yet */
    bench_turn(b);
    fake_stream_block(slow);
    fake_stream_feed_str(slow, HEALTH); /* an answer that is not taken */
    bench_turn(b);
    b->now_ms += 5000;
    gateway_sweep(b->gw);
    bench_turn(b);
    assert_int_equal(b->gw->metrics.connections_parked, 0);
    bench_settle(b);
    fake_stream_unblock(slow);
    bench_wait(b, 3000);
    assert_int_equal(b->gw->metrics.connections_parked, 2);
    bench_free(b);
}

/* A stale read sees the connection's own writes, also those before a rest. */
static void test_remembers_its_writes(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, BODY("PUT", "/v1/kv/a", "1", "x"), 201, NULL);
    fake_stream_feed_str(f, "GET /v1/kv/a" HOST "Kv-Consistency: stale\r\n\r\n");
    bench_turn(b);
    uint64_t before = fake_upstream_min_index(b->up, 0);
    assert_true(before > 0);
    bench_settle(b);
    bench_received(f);
    bench_wait(b, 3000);
    assert_int_equal(b->gw->metrics.connections_parked, 1);
    fake_stream_feed_str(f, "GET /v1/kv/a" HOST "Kv-Consistency: stale\r\n\r\n");
    bench_turn(b);
    assert_int_equal(fake_upstream_min_index(b->up, 0), before);
    bench_settle(b);
    bench_free(b);
}

static void test_idle_limits(void **state) {
    const struct gateway_options options = {.http_idle_timeout_ms = 10000,
                                            .redis_idle_timeout_ms = 20000};
    struct bench *b = bench_new(&options);
    struct fake_stream *silent = bench_http(b), *used = bench_http(b), *r = bench_redis(b);
    bench_wait(b, 5000);
    expect(b, used, HEALTH, 200, NULL);
    bench_talk(b, r, "PING\r\n", "+PONG\r\n");
    bench_wait(b, 4000);
    assert_int_equal(length(&b->gw->resting), 1);
    assert_false(silent->closed || used->closed);
    bench_wait(b, 1000);
    assert_true(silent->closed);
    bench_wait(b, 4000);
    assert_false(used->closed);
    bench_wait(b, 1000);
    assert_true(used->closed);
    bench_wait(b, 9000);
    assert_false(r->closed);
    bench_talk(b, r, "PING\r\n", "+PONG\r\n"); /* counts anew */
    bench_wait(b, 19000);
    assert_false(r->closed);
    bench_wait(b, 2000);
    assert_true(r->closed);
    assert_int_equal(b->gw->metrics.connections_timed_out_total, 3);
    bench_free(b);
}

/* The sweep's parts together reach everybody, and none of them more than its share. */
static void test_sweep_in_parts(void **state) {
    enum { COUNT = 40, PARTS = 20 };
    struct bench *b = bench_new(NULL);
    struct fake_stream *f[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        f[i] = bench_http(b);
        fake_stream_feed_str(f[i], "GET / HTTP/1.1\r\n");
    }
    bench_turn(b);
    b->now_ms += 11000; /* beyond the time limit for a head */
    for (size_t part = 0, before = 0; part < PARTS; part++) {
        gateway_sweep_part(b->gw, PARTS);
        size_t now = b->gw->metrics.connections_timed_out_total;
        assert_true(now - before <= COUNT / PARTS);
        before = now;
    }
    assert_int_equal(b->gw->metrics.connections_timed_out_total, COUNT);
    bench_turn(b);
    for (size_t i = 0; i < COUNT; i++)
        assert_memory_equal(bench_received(f[i]), "HTTP/1.1 408 ", 13);
    bench_free(b);
}

/* Who was just active gets the time to ask once more, and hears that it is the last time. */
static void test_drain_grace(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *parked = bench_http(b), *asks = bench_http(b), *quiet = bench_http(b);
    struct fake_stream *fresh;
    expect(b, parked, HEALTH, 200, NULL);
    bench_wait(b, 3000);
    expect(b, asks, HEALTH, 200, NULL);
    expect(b, quiet, HEALTH, 200, NULL);
    fresh = bench_http(b);
    gateway_drain(b->gw);
    bench_turn(b);
    assert_true(parked->closed);
    assert_false(asks->closed || quiet->closed || fresh->closed);
    struct fake_stream *late = bench_http(b); /* the limit on connections says the same */
    bench_turn(b);
    assert_memory_equal(bench_received(late), "HTTP/1.1 503 ", 13);
    struct answer a = ask(b, asks, HEALTH);
    assert_non_null(strstr(a.head, "\r\nConnection: close\r\n"));
    free(a.body);
    a = ask(b, fresh, HEALTH);
    assert_non_null(strstr(a.head, "\r\nConnection: close\r\n"));
    free(a.body);
    assert_true(asks->closed && fresh->closed);
    assert_false(quiet->closed);
    bench_wait(b, 1000);
    assert_true(quiet->closed);
    assert_true(gateway_is_drained(b->gw));
    bench_free(b);
}

/* An answer that was made before the stop began, and is written after it, has not said so. */
static void test_drain_behind_an_answer(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    fake_stream_feed_str(f, HEALTH);
    gateway_drain(b->gw);
    b->now_ms += 1;
    bench_turn(b);
    struct answer a = take_answer(f, false);
    assert_null(strstr(a.head, "\r\nConnection: close\r\n"));
    free(a.body);
    assert_false(f->closed);
    a = ask(b, f, HEALTH);
    assert_non_null(strstr(a.head, "\r\nConnection: close\r\n"));
    free(a.body);
    assert_true(f->closed);
    bench_free(b);
}

static void test_requests_of_a_connection(void **state) {
    const struct gateway_options options = {.http_requests_max = 3};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = bench_http(b);
    for (int i = 0; i < 3; i++) {
        struct answer a = ask(b, f, HEALTH);
        assert_int_equal(strstr(a.head, "\r\nConnection: close\r\n") != NULL, i == 2);
        free(a.body);
        if (i < 2)
            bench_wait(b, 2000); /* the count outlives a rest */
    }
    assert_true(f->closed);
    bench_free(b);
}

static void test_addresses(void **state) {
    const struct client_limits_options limits = {
        .connections_max = 10, .per_address_max = 2, .rate_per_s = 1, .rate_burst = 2};
    struct client_limits *l = client_limits_new(&limits, 1);
    const struct gateway_options options = {.limits = l};
    struct bench *b = bench_new(&options);
    struct fake_stream *one = bench_http(b), *two = bench_redis(b), *third = bench_http(b);
    bench_turn(b);
    assert_memory_equal(bench_received(third), "HTTP/1.1 429 ", 13);
    assert_true(third->closed);
    assert_int_equal(b->gw->metrics.connections_limited_total, 1);
    expect(b, one, HEALTH, 200, NULL);
    expect(b, one, HEALTH, 200, NULL);
    struct answer a = ask(b, one, HEALTH);
    assert_int_equal(a.status, 429);
    assert_string_equal(field(&a, "Retry-After"), "1");
    assert_non_null(strstr(a.body, "\"code\":\"rate_limited\",\"applied\":\"no\""));
    free(a.body);
    bench_wait(b, 2000);
    expect(b, one, HEALTH, 200, NULL);
    bench_hang_up(b, two);
    struct fake_stream *fourth = bench_redis(b), *fifth = bench_redis(b);
    bench_talk(b, fourth, "PING\r\n", "+PONG\r\n");
    bench_turn(b);
    assert_string_equal(bench_received(fifth), "-ERR too many connections from this address\r\n");
    bench_free(b);
    client_limits_free(l);
}

/* A refused client gets its answer although it sends, and may not stay. */
static void test_refusals_are_bounded(void **state) {
    enum { COUNT = 30 };
    const struct gateway_options options = {.connections_max = 1};
    struct bench *b = bench_new(&options);
    struct fake_stream *in = bench_http(b), *f[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        f[i] = bench_http(b);
        assert_memory_equal(bench_received(f[i]), "HTTP/1.1 503 ", 13);
    }
    assert_true(f[0]->shutdown);
    assert_false(f[COUNT - 1]->shutdown); /* closed at once */
    assert_true(b->gw->conn_count < 1 + COUNT);
    bench_turn(b);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(f[i]->closed);
    assert_int_equal(b->gw->conn_count, 1);
    struct fake_stream *stuck = bench_redis(b);
    assert_string_equal(bench_received(stuck), "-ERR max number of clients reached\r\n");
    stuck->closing = false; /* as if its end did not come */
    bench_wait(b, 7000);
    assert_true(stuck->closed);
    expect(b, in, HEALTH, 200, NULL);
    bench_free(b);
}

static void test_head_limit(void **state) {
    const struct gateway_options options = {.http_head_bytes_max = 1024};
    struct bench *b = bench_new(&options);
    char filler[1025];
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = 0;
    for (size_t piece = 1; piece <= 2000; piece += 1999) {
        struct fake_stream *f = bench_http(b);
        struct buf head = {0};
        buf_printf(&head, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", filler);
        bench_feed(b, f, buf_slice(&head), piece);
        assert_memory_equal(bench_received(f), "HTTP/1.1 431 ", 13);
        assert_true(f->closed);
        buf_fini(&head);
        f = bench_http(b);
        filler[900] = 0;
        buf_printf(&head, "GET /_/health HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", filler);
        filler[900] = 'x';
        bench_feed(b, f, buf_slice(&head), piece);
        assert_memory_equal(bench_received(f), "HTTP/1.1 200 ", 13);
        buf_fini(&head);
    }
    bench_free(b);
}

/* More idle connections than are kept warm: the longest idle ones are put to rest at once. */
static void test_warm_is_bounded(void **state) {
    enum { COUNT = CONN_WARM_MAX + 40 }; /* memory for them is a matter of a second */
    struct bench *b = bench_new(NULL);
    struct fake_stream **f = xcalloc(COUNT, sizeof *f);
    for (size_t i = 0; i < COUNT; i++) {
        f[i] = fake_stream_new();
        gateway_add_http(b->gw, &f[i]->base);
        fake_stream_feed_str(f[i], HEALTH);
        gateway_turn_end(b->gw);
    }
    assert_int_equal(b->gw->warm_count, CONN_WARM_MAX);
    assert_int_equal(b->gw->metrics.connections_parked, COUNT - CONN_WARM_MAX);
    assert_ptr_equal(LIST_ENTRY(b->gw->parked.next, struct parked, node)->stream, &f[0]->base);
    for (size_t i = 0; i < COUNT; i++) {
        fake_stream_break(f[i], -104);
        fake_stream_turn(f[i]);
        gateway_turn_end(b->gw);
        fake_stream_free(f[i]);
    }
    free(f);
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_parks_and_comes_back),
        cmocka_unit_test(test_what_is_not_idle_stays),
        cmocka_unit_test(test_remembers_its_writes),
        cmocka_unit_test(test_idle_limits),
        cmocka_unit_test(test_sweep_in_parts),
        cmocka_unit_test(test_drain_grace),
        cmocka_unit_test(test_drain_behind_an_answer),
        cmocka_unit_test(test_requests_of_a_connection),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_refusals_are_bounded),
        cmocka_unit_test(test_head_limit),
        cmocka_unit_test(test_warm_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
