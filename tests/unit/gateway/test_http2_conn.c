/* HTTP/2 at the gateway: the same routes as HTTP/1.1, streams side by side, order, bodies, limits,
 * slow readers, answers in pieces, the end. */
#include "gateway/access.h"
#include "gateway/http_routes.h"
#include "gateway/http_sink.h"
#include "h2_client.h"
#include "http_client.h"

static struct h2_client client;
static struct buf out;

static struct fake_stream *begin(struct bench *b) {
    struct fake_stream *f = bench_http(b);
    h2_client_init(&client);
    buf_reset(&out);
    h2_put_preface(&out, UINT32_MAX);
    return f;
}

static void take(struct fake_stream *f) {
    h2_client_take(&client, buf_slice(&f->written));
    buf_reset(&f->written);
}

/* What was put goes to the server; what the database answers is the caller's. */
static void send_out(struct bench *b, struct fake_stream *f) {
    assert_true(fake_stream_feed(f, buf_slice(&out)));
    buf_reset(&out);
    bench_turn(b);
    take(f);
}

static void settle(struct bench *b, struct fake_stream *f) {
    bench_settle(b);
    take(f);
}

static void end(struct bench *b, struct fake_stream *f) {
    bench_hang_up(b, f);
    h2_client_fini(&client);
    bench_free(b);
    buf_fini(&out);
}

static void get(uint32_t id, const char *path) {
    h2_put_request(&out, id, H2_END_STREAM, "GET", path, NULL);
}

static void put(uint32_t id, const char *path, const char *value) {
    h2_put_request(&out, id, 0, "PUT", path, "content-type", "text/plain", NULL);
    h2_put_frame(&out, H2_DATA, H2_END_STREAM, id, slice_str(value));
}

static void assert_answer(uint32_t id, int status, const char *body) {
    struct h2_stream *st = h2_client_stream(&client, id);
    assert_int_equal(st->status, status);
    assert_true(st->ended);
    if (body && !slice_equal_str(buf_slice(&st->body), body))
        fail_msg("stream %u: %.*s", id, (int)st->body.size, (const char *)st->body.data);
}

static const char *body_text(uint32_t id) {
    struct h2_stream *st = h2_client_stream(&client, id);
    buf_append_char(&st->body, 0);
    return (const char *)st->body.data;
}

static void test_routes(void **state) {
    for (size_t piece = 1; piece < 2000; piece = piece * 5 + 1) {
        struct bench *b = bench_new(NULL);
        struct fake_stream *f = begin(b);
        put(1, "/v1/kv/a", "hello");
        get(3, "/_/health");
        h2_put_request(&out, 5, H2_END_STREAM, "HEAD", "/_/health", NULL);
        get(7, "/nowhere");
        h2_put_request(&out, 9, H2_END_STREAM, "DELETE", "/_/health", NULL);
        h2_put_request(&out, 11, H2_END_STREAM, "OPTIONS", "*", NULL);
        h2_put_request(&out, 13, H2_END_STREAM, "BREW", "/", NULL);
        h2_put_request(&out, 15, H2_END_STREAM, "POST", "/v1/incr/n", "origin", "http://evil",
                       NULL);
        bench_feed(b, f, buf_slice(&out), piece);
        buf_reset(&out);
        get(17, "/v1/kv/a");
        bench_feed(b, f, buf_slice(&out), piece);
        take(f);
        assert_answer(1, 201, "");
        assert_answer(3, 200, "ok\n");
        assert_answer(5, 200, "");
        assert_string_equal(h2_stream_field(h2_client_stream(&client, 5), "content-length"), "3");
        assert_answer(7, 404, NULL);
        assert_non_null(strstr(body_text(7), "\"code\":\"not_found\",\"applied\":\"no\""));
        assert_answer(9, 405, NULL);
        assert_string_equal(h2_stream_field(h2_client_stream(&client, 9), "allow"),
                            "GET, HEAD, OPTIONS");
        assert_answer(11, 204, "");
        assert_answer(13, 501, NULL);
        assert_answer(15, 403, NULL);
        assert_answer(17, 200, "hello");
        struct h2_stream *st = h2_client_stream(&client, 17);
        assert_string_equal(h2_stream_field(st, "content-type"), "text/plain");
        assert_string_equal(h2_stream_field(st, "date"), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_string_equal(h2_stream_field(st, "etag"),
                            h2_stream_field(h2_client_stream(&client, 1), "etag"));
        assert_int_equal(b->gw->metrics.connections_http2, 1);
        assert_int_equal(b->gw->metrics.connections_http, 1);
        assert_int_equal(b->gw->metrics.http_requests_total, 9);
        end(b, f);
    }
}

/* Who may is decided with the head, and again when the body has come. */
static void test_closed_while_a_body_comes(void **state) {
    struct access_options access = {.insecure = true};
    const struct gateway_options options = {.access = &access};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = begin(b);
    put(1, "/v1/kv/a", "in time");
    h2_put_request(&out, 3, 0, "PUT", "/v1/kv/b", NULL);
    h2_put_frame(&out, H2_DATA, 0, 3, slice_str("too "));
    h2_put_request(&out, 5, 0, "DELETE", "/v1/kv/a", NULL);
    bench_feed(b, f, buf_slice(&out),
               SIZE_MAX); /* the tokens are looked for first: there are none */
    buf_reset(&out);
    take(f);
    assert_answer(1, 201, "");
    access.on = true;
    h2_put_frame(&out, H2_DATA, H2_END_STREAM, 3, slice_str("late"));
    h2_put_frame(&out, H2_DATA, H2_END_STREAM, 5, slice_str(""));
    get(7, "/v1/kv/a");
    send_out(b, f);
    settle(b, f);
    assert_answer(3, 401, NULL);
    assert_answer(5, 401, NULL);
    assert_answer(7, 401, NULL);
    access.on = false;
    get(9, "/v1/kv/a");
    get(11, "/v1/kv/b");
    send_out(b, f);
    settle(b, f);
    assert_answer(9, 200, "in time");
    assert_answer(11, 404, NULL);
    end(b, f);
}

/* Only the first bytes of a connection can be the preface, and only all of it. */
static void test_preface(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    bench_feed(b, f, slice_str("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), 1);
    assert_non_null(strstr(bench_received(f), "HTTP/1.1 505 "));
    f = bench_http(b);
    expect(b, f, GET("/_/health"), 200, "ok");
    bench_feed(b, f, slice_str("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 1);
    assert_non_null(strstr(bench_received(f), "HTTP/1.1 505 "));
    f = bench_http(b);
    bench_feed(b, f, slice_str("P"), 1);
    expect(b, f, "UT /v1/kv/a" HOST "Content-Length: 1\r\n\r\nx", 201, NULL);
    /* Also when it was at rest meanwhile. */
    f = bench_http(b);
    expect(b, f, GET("/_/health"), 200, "ok");
    bench_wait(b, 5000);
    assert_true(b->gw->metrics.connections_parked > 0);
    bench_feed(b, f, slice_str("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), SIZE_MAX);
    assert_non_null(strstr(bench_received(f), "HTTP/1.1 505 "));
    /* Half of it is waited for as long as for a head. */
    f = bench_http(b);
    bench_feed(b, f, slice_str("PRI * HT"), 1);
    bench_wait(b, 11000);
    assert_non_null(strstr(bench_received(f), "HTTP/1.1 408 "));
    bench_free(b);
}

/* Streams do not wait for each other; what one did is seen by whoever asks after its answer. */
static void test_side_by_side(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = begin(b);
    get(1, "/v1/kv/a");
    put(3, "/v1/kv/a", "one");
    get(5, "/v1/kv?limit=1");
    put(7, "/v1/kv/b", "two");
    send_out(b, f);
    assert_int_equal(fake_upstream_pending(b->up), 4);
    fake_upstream_answer(b->up, 3);
    bench_turn(b);
    take(f);
    assert_answer(7, 201, NULL);
    fake_upstream_answer(b->up, 1);
    bench_turn(b);
    take(f);
    assert_answer(3, 201, NULL);
    /* A stale read is not older than what this connection was told. */
    h2_put_request(&out, 9, H2_END_STREAM, "GET", "/v1/kv/a", "kv-consistency", "stale", NULL);
    send_out(b, f);
    assert_int_equal(fake_upstream_pending(b->up), 3);
    assert_true(fake_upstream_min_index(b->up, 2) > 0);
    settle(b, f);
    assert_answer(9, 200, "one");
    assert_answer(1, 200, NULL);
    assert_answer(5, 200, NULL);
    end(b, f);
}

static void test_bodies(void **state) {
    const struct gateway_options options = {.value_bytes_max = 1000, .txn_bytes_max = 2000};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = begin(b);
    char large[1001];
    memset(large, 'x', sizeof large);
    /* Announced, and not. */
    h2_put_request(&out, 1, 0, "PUT", "/v1/kv/a", "content-length", "1001", NULL);
    h2_put_request(&out, 3, 0, "PUT", "/v1/kv/a", NULL);
    h2_put_frame(&out, H2_DATA, 0, 3, slice_of(large, 1000));
    h2_put_frame(&out, H2_DATA, 0, 3, slice_of(large, 1));
    send_out(b, f);
    assert_answer(1, 413, NULL);
    assert_answer(3, 413, NULL);
    assert_true(h2_client_stream(&client, 1)->reset); /* NO_ERROR: the rest is not wanted */
    assert_int_equal(h2_client_stream(&client, 3)->error, 0);
    /* As much as is allowed; one that nobody wants; none of them is stored twice. */
    h2_put_request(&out, 5, 0, "PUT", "/v1/kv/a", "expect", "100-continue", NULL);
    send_out(b, f);
    assert_int_equal(h2_client_stream(&client, 5)->interim, 1);
    h2_put_frame(&out, H2_DATA, H2_END_STREAM, 5, slice_of(large, 1000));
    h2_put_request(&out, 7, 0, "DELETE", "/v1/kv/none", NULL);
    h2_put_frame(&out, H2_DATA, H2_END_STREAM, 7, slice_of(large, 1000));
    h2_put_request(&out, 9, 0, "PUT", "/nowhere", "expect", "100-continue", NULL);
    send_out(b, f);
    settle(b, f);
    assert_answer(5, 201, NULL);
    assert_answer(7, 404, NULL);
    assert_answer(9, 404, NULL);
    /* All bodies of a connection together are bounded too. */
    for (uint32_t id = 11; id < 31; id += 2) {
        h2_put_request(&out, id, 0, "PUT", "/v1/kv/a", NULL);
        h2_put_frame(&out, H2_DATA, 0, id, slice_of(large, 999));
    }
    send_out(b, f);
    int refused = 0;
    for (uint32_t id = 11; id < 31; id += 2)
        for (size_t i = 0; i < client.stream_count; i++)
            refused += client.streams[i].id == id && client.streams[i].status == 503;
    assert_in_range(refused, 4, 8);
    end(b, f);
}

/* A body that trickles, a head that never ends, a connection that nobody uses. */
static void test_time_limits(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = begin(b);
    h2_put_request(&out, 1, 0, "PUT", "/v1/kv/a", NULL);
    h2_put_frame(&out, H2_DATA, 0, 1, slice_str("x"));
    send_out(b, f);
    bench_wait(b, 29000);
    take(f);
    assert_int_equal(client.stream_count, 0);
    bench_wait(b, 2000);
    take(f);
    assert_answer(1, 408, NULL);
    assert_false(client.goaway);
    bench_wait(b, 73000);
    take(f);
    assert_false(client.goaway);
    bench_wait(b, 2000);
    take(f);
    assert_true(client.goaway);
    assert_int_equal(client.goaway_error, 0);
    assert_true(f->closed);
    h2_client_fini(&client);
    f = begin(b);
    h2_put_frame(&out, H2_HEADERS, 0, 1, slice_of(NULL, 0));
    send_out(b, f);
    for (int i = 0; i < 5 && !f->closed; i++) {
        h2_put_frame(&out, H2_CONTINUATION, 0, 1, slice_of(NULL, 0));
        send_out(b, f);
        bench_wait(b, 3000);
        take(f);
    }
    assert_true(client.goaway);
    assert_true(f->closed);
    end(b, f);
}

static void begin_large(struct bench *b, struct fake_stream *f, struct buf *value) {
    memset(buf_reserve(value, 3000000), 'v', 3000000);
    buf_commit(value, 3000000);
    fake_stream_feed_str(f, "PUT /v1/kv/large" HOST "Content-Length: 3000000\r\n\r\n");
    fake_stream_feed(f, buf_slice(value));
    bench_settle(b);
    buf_reset(&f->written);
}

/* Who opens no window, or does not read, holds nobody else up and is let go after a while. */
static void test_slow_readers(void **state) {
    struct bench *b = bench_new(NULL);
    struct buf value = {0};
    struct fake_stream *other = bench_http(b);
    begin_large(b, other, &value);
    struct fake_stream *f = begin(b);
    buf_reset(&out);
    h2_put_preface(&out, 1000);
    get(1, "/v1/kv/large");
    get(3, "/v1/kv/large");
    send_out(b, f);
    settle(b, f);
    assert_int_equal(h2_client_stream(&client, 1)->body.size, 1000);
    /* Answers that wait keep further requests from being executed. */
    get(5, "/_/health");
    send_out(b, f);
    assert_int_equal(client.stream_count, 2);
    assert_true(b->gw->metrics.output_bytes > 5000000);
    /* One of them is read on: only the other is given up. */
    for (int i = 0; i < 70; i++) {
        h2_put_u32_frame(&out, H2_WINDOW_UPDATE, 1, 10);
        send_out(b, f);
        bench_wait(b, 1000);
        take(f);
    }
    assert_false(h2_client_stream(&client, 1)->reset);
    assert_true(h2_client_stream(&client, 3)->reset);
    h2_put_u32_frame(&out, H2_WINDOW_UPDATE, 0, 10000000);
    h2_put_u32_frame(&out, H2_WINDOW_UPDATE, 1, 10000000);
    send_out(b, f);
    settle(b, f);
    assert_int_equal(h2_client_stream(&client, 1)->body.size, 3000000);
    assert_true(h2_client_stream(&client, 1)->ended);
    assert_answer(5, 200, "ok\n");
    /* With windows, but the kernel's buffers are full. */
    get(7, "/v1/kv/large");
    fake_stream_block(f);
    h2_put_u32_frame(&out, H2_WINDOW_UPDATE, 7, 10000000);
    send_out(b, f);
    bench_settle(b);
    assert_in_range(f->held.size, CONN_ROOM_BYTES / 2, CONN_ROOM_BYTES + 20000);
    while (f->held.size > 0) {
        fake_stream_unblock(f);
        fake_stream_block(f);
        bench_settle(b);
    }
    fake_stream_unblock(f);
    settle(b, f);
    assert_int_equal(h2_client_stream(&client, 7)->body.size, 3000000);
    assert_true(h2_client_stream(&client, 7)->ended);
    buf_fini(&value);
    end(b, f);
}

static void test_resets(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = begin(b);
    get(1, "/v1/kv/a");
    put(3, "/v1/kv/a", "kept");
    h2_put_request(&out, 5, 0, "PUT", "/v1/kv/a", NULL);
    h2_put_frame(&out, H2_DATA, 0, 5, slice_str("half"));
    send_out(b, f);
    assert_int_equal(fake_upstream_pending(b->up), 2);
    for (uint32_t id = 1; id <= 5; id += 2)
        h2_put_u32_frame(&out, H2_RST_STREAM, id, 8);
    send_out(b, f);
    assert_int_equal(b->gw->metrics.requests_in_flight, 0);
    assert_int_equal(fake_upstream_forgotten(b->up), 2);
    settle(b, f);
    get(7, "/v1/kv/a");
    send_out(b, f);
    settle(b, f);
    /* The write that was sent up was executed; nobody was told. */
    assert_answer(7, 200, NULL);
    /* Rapid reset. */
    for (uint32_t id = 9; id < 1000; id += 2) {
        get(id, "/v1/kv/a");
        h2_put_u32_frame(&out, H2_RST_STREAM, id, 8);
    }
    send_out(b, f);
    bench_turn(b);
    assert_true(client.goaway);
    assert_int_equal(client.goaway_error, 11);
    assert_int_equal(b->gw->metrics.http2_floods_total, 1);
    assert_true(f->closed);
    end(b, f);
}

static void test_drain(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = begin(b);
    get(1, "/v1/kv/a");
    send_out(b, f);
    gateway_drain(b->gw);
    bench_turn(b);
    take(f);
    assert_true(client.goaway);
    assert_int_equal(client.goaway_last, 0x7fffffff);
    /* It was on its way. */
    put(3, "/v1/kv/a", "x");
    h2_put_frame(&out, H2_PING, H2_ACK, 0, slice_of("cotidal", 8));
    send_out(b, f);
    assert_int_equal(client.goaway_last, 3);
    assert_false(f->closing);
    settle(b, f);
    assert_answer(1, 200, NULL); /* unordered: the write was first */
    assert_answer(3, 201, NULL);
    bench_turn(b);
    assert_true(f->closed);
    h2_client_fini(&client);
    bench_free(b);
    /* A client that answers no ping is let go as well. */
    b = bench_new(NULL);
    f = begin(b);
    get(1, "/_/health");
    send_out(b, f);
    gateway_drain(b->gw);
    bench_wait(b, 4000);
    assert_true(f->closed);
    end(b, f);
}

/* A client that sends no more still gets its answers. */
static void test_half_closed(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = begin(b);
    get(1, "/v1/kv/a");
    get(3, "/_/health");
    send_out(b, f);
    fake_stream_eof(f);
    bench_turn(b);
    settle(b, f);
    assert_answer(1, 404, NULL);
    assert_answer(3, 200, "ok\n");
    assert_true(f->closed);
    end(b, f);
}

static void test_requests_max(void **state) {
    const struct gateway_options options = {.http_requests_max = 2};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = begin(b);
    get(1, "/_/health");
    send_out(b, f);
    assert_false(client.goaway);
    get(3, "/_/health");
    send_out(b, f);
    assert_true(client.goaway);
    h2_put_frame(&out, H2_PING, H2_ACK, 0, slice_of("cotidal", 8));
    send_out(b, f);
    bench_turn(b);
    assert_answer(3, 200, NULL);
    assert_true(f->closed);
    end(b, f);
}

/* Whatever is under way, frames are taken in: windows must open, streams must end. */
static void test_frames_of_a_full_line(void **state) {
    const struct gateway_options options = {.pipeline_bytes_max = 1000};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = begin(b);
    char value[2001] = "";
    memset(value, 'v', sizeof value - 1);
    put(1, "/v1/kv/a", value);
    send_out(b, f);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    get(3, "/v1/kv/b");
    h2_put_frame(&out, H2_PING, 0, 0, slice_of("12345678", 8));
    send_out(b, f);
    assert_int_equal(client.ping_acks, 1);
    assert_int_equal(fake_upstream_pending(b->up), 1); /* the request waits for room */
    settle(b, f);
    assert_answer(1, 201, NULL);
    assert_answer(3, 404, NULL);
    end(b, f);
}

/* A connection that breaks the protocol gives up its requests, those that wait for room included.
 */
static void test_broken(void **state) {
    const struct gateway_options options = {.pipeline_requests_max = 1};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = begin(b);
    get(1, "/v1/kv/a");
    put(3, "/v1/kv/a", "waits");
    send_out(b, f);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    h2_put_frame(&out, H2_DATA, 0, 0, slice_str("x")); /* of no stream */
    send_out(b, f);
    assert_true(client.goaway);
    assert_int_equal(client.goaway_error, 1);
    assert_int_equal(fake_upstream_pending(b->up), 0);
    assert_true(f->closed);
    end(b, f);
}

static void test_gateway_ends(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = begin(b);
    get(1, "/v1/kv/a");
    h2_put_request(&out, 3, 0, "PUT", "/v1/kv/a", NULL);
    h2_put_frame(&out, H2_DATA, 0, 3, slice_str("half"));
    send_out(b, f);
    end(b, f);
}

/* The same moment brings a change for the watchers of a connection, and what ends it. */
static void test_broken_while_told(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = begin(b), *other = bench_http(b);
    static char value[20000];
    memset(value, 'v', sizeof value - 1);
    for (uint32_t id = 1; id <= 5; id += 2)
        get(id, "/v1/watch?key=a");
    send_out(b, f);
    settle(b, f);
    assert_int_equal(b->gw->metrics.watchers, 3);
    struct buf request = {0};
    buf_printf(&request, "PUT /v1/kv/a" HOST "Content-Length: %zu\r\n\r\n%s", strlen(value), value);
    fake_stream_feed(other, buf_slice(&request));
    bench_turn(b);
    h2_put_frame(&out, H2_DATA, 0, 0, slice_str("x"));
    fake_stream_feed(f, buf_slice(&out)); /* its turn has not ended */
    buf_reset(&out);
    size_t i;
    while ((i = fake_upstream_next(b->up)) != SIZE_MAX)
        fake_upstream_answer(b->up, i);
    bench_turn(b);
    take(f);
    assert_true(client.goaway);
    assert_int_equal(b->gw->metrics.watchers, 0);
    buf_fini(&request);
    end(b, f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_while_a_body_comes),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_preface),
        cmocka_unit_test(test_side_by_side),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_time_limits),
        cmocka_unit_test(test_slow_readers),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_frames_of_a_full_line),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_half_closed),
        cmocka_unit_test(test_requests_max),
        cmocka_unit_test(test_gateway_ends),
        cmocka_unit_test(test_broken_while_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
