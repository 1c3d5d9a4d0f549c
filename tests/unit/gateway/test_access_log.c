/* The access log's lines: both formats, and what clients may not do to them. */
#include "base/ring.h"
#include "gateway/access_log.h"
#include "http_client.h"

struct logged {
    struct bench *b;
    struct access_log log;
    struct gateway_options options;
};

static void setup(struct logged *l, enum access_format format, size_t ring_bytes) {
    l->log = (struct access_log){.ring = ring_new(ring_bytes), .format = format};
    l->options = (struct gateway_options){.access_log = &l->log};
    l->b = bench_new(&l->options);
}

static void teardown(struct logged *l) {
    bench_free(l->b);
    ring_free(l->log.ring);
}

/* What was logged since the last call. */
static const char *taken(struct logged *l) {
    static char text[16384];
    size_t size = 0;
    for (struct slice s; (s = ring_peek(l->log.ring)).size > 0; ring_drop(l->log.ring, s.size)) {
        assert_true(size + s.size < sizeof text);
        memcpy(text + size, s.data, s.size);
        size += s.size;
    }
    text[size] = 0;
    return text;
}

static void test_combined(void **state) {
    struct logged l;
    setup(&l, ACCESS_COMBINED, 1 << 16);
    struct fake_stream *f = bench_http(l.b);
    expect(l.b, f, "GET /_/health?" HOST "User-Agent: curl/8\r\nReferer: http://x/\r\n\r\n", 200,
           NULL);
    assert_string_equal(taken(&l), "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /_/health "
                                   "HTTP/1.1\" 200 3 \"http://x/\" \"curl/8\" 0.000000\n");
    /* A request's time is from its first byte to its answer. */
    fake_stream_feed_str(f, "GET /v1/kv/a?min_rev=1 HTTP/1.0\r\n");
    l.b->now_ms += 30;
    fake_stream_feed_str(f, "\r\n");
    bench_turn(l.b);
    l.b->now_ms += 1200;
    bench_settle(l.b);
    assert_string_equal(taken(&l), "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET "
                                   "/v1/kv/a?min_rev=1 HTTP/1.0\" 404 128 \"-\" \"-\" 1.230000\n");
    teardown(&l);
}

static void test_json(void **state) {
    struct logged l;
    setup(&l, ACCESS_JSON, 1 << 16);
    struct fake_stream *f = bench_http(l.b);
    expect(l.b, f, "GET /_/health" HOST "User-Agent: a\"b\\c\x1b[1m\r\n\r\n", 400, NULL);
    assert_string_equal(taken(&l),
                        "{\"time\":\"1994-11-06T08:49:37.000Z\",\"client\":\"192.0.2.1\","
                        "\"request\":\"GET /_/health HTTP/1.1\",\"status\":400,\"bytes\":0,"
                        "\"duration_ms\":0}\n");
    f = bench_http(l.b);
    expect(l.b, f, "GET /_/health" HOST "User-Agent: a\"b\\c\xff\r\n\r\n", 200, NULL);
    assert_string_equal(taken(&l),
                        "{\"time\":\"1994-11-06T08:49:37.000Z\",\"client\":\"192.0.2.1\","
                        "\"method\":\"GET\",\"target\":\"/_/health\",\"version\":\"1.1\","
                        "\"host\":\"localhost\",\"status\":200,\"bytes\":3,\"duration_ms\":0,"
                        "\"user_agent\":\"a\\\"b\\\\c\xef\xbf\xbd\"}\n");
    teardown(&l);
}

/* Whatever bytes a client sends: one line for each request, of printable ASCII, with the quotes
 * where they belong. */
static void test_injection(void **state) {
    for (int format = ACCESS_COMBINED; format <= ACCESS_JSON; format++) {
        struct logged l;
        setup(&l, (enum access_format)format, 1 << 16);
        for (int c = 0; c < 256; c++) {
            struct fake_stream *f = bench_http(l.b);
            char request[200], in_line[100];
            int size = snprintf(request, sizeof request,
                                "GET /_/health HTTP/1.1\r\nHost: x\r\nUser-Agent: evil%c\"\r\n\r\n",
                                c ? c : 'x');
            bench_feed(l.b, f, slice_of(request, (size_t)size), SIZE_MAX);
            bench_hang_up(l.b, f);
            f = bench_http(l.b);
            int n = snprintf(in_line, sizeof in_line, "GET /evil%c\" HTTP/1.1\r\nHost: x\r\n\r\n",
                             c ? c : 'x');
            bench_feed(l.b, f, slice_of(in_line, (size_t)n), SIZE_MAX);
            bench_hang_up(l.b, f);
            const char *text = taken(&l);
            size_t lines = 0, quotes = 0;
            for (const char *at = text; *at; at++) {
                lines += *at == '\n';
                quotes += *at == '"';
                if (format == ACCESS_COMBINED)
                    assert_true(*at == '\n' || (*at >= 0x20 && *at < 0x7f));
                else
                    assert_true(*at == '\n' || (uint8_t)*at >= 0x20);
            }
            /* A bare CR or LF ends what is taken for a request; the rest may be one more. */
            assert_true(lines == 2 || c == '\r' || c == '\n');
            if (format == ACCESS_COMBINED)
                assert_int_equal(quotes, 6 * lines);
        }
        teardown(&l);
    }
}

static void test_long_texts(void **state) {
    struct logged l;
    setup(&l, ACCESS_COMBINED, 1 << 16);
    struct fake_stream *f = bench_http(l.b);
    struct buf request = {0};
    buf_append_str(&request, "GET /v1/kv?x=");
    for (int i = 0; i < 3000; i++)
        buf_append_char(&request, 'y');
    buf_append_str(&request, HOST "\r\n");
    bench_feed(l.b, f, buf_slice(&request), SIZE_MAX);
    const char *text = taken(&l);
    assert_true(strlen(text) < ACCESS_TEXT_BYTES_MAX + 200);
    assert_non_null(strstr(text, "yyy HTTP/1.1\" 400 "));
    buf_fini(&request);
    teardown(&l);
}

/* Gone before the answer, too slow, not understood: each has its line. */
static void test_unhappy_ends(void **state) {
    struct logged l;
    setup(&l, ACCESS_COMBINED, 1 << 16);
    struct fake_stream *f = bench_http(l.b);
    fake_stream_feed_str(f, GET("/v1/kv/a"));
    bench_turn(l.b);
    bench_hang_up(l.b, f);
    assert_non_null(strstr(taken(&l), "\"GET /v1/kv/a HTTP/1.1\" 499 0 "));
    f = bench_http(l.b);
    fake_stream_feed_str(f, "GET /half HTTP/1.1\r\nHos");
    bench_wait(l.b, 11000);
    assert_non_null(strstr(taken(&l), "\"GET /half HTTP/1.1\" 408 0 \"-\" \"-\" 1"));
    f = bench_http(l.b);
    bench_feed(l.b, f, slice_str("\x16\x03\x01\x02"), SIZE_MAX);
    assert_non_null(strstr(taken(&l), "\"\\x16\\x03\\x01\\x02\" 400 0 "));
    teardown(&l);
}

/* A writer that cannot keep up costs lines, not requests. */
static void test_full(void **state) {
    struct logged l;
    setup(&l, ACCESS_COMBINED, 256);
    struct fake_stream *f = bench_http(l.b);
    for (int i = 0; i < 10; i++)
        expect(l.b, f, GET("/_/health"), 200, NULL);
    assert_int_equal(l.b->gw->metrics.access_lines_total, 2);
    assert_int_equal(l.b->gw->metrics.access_lines_dropped_total, 8);
    taken(&l);
    expect(l.b, f, GET("/_/health"), 200, NULL);
    assert_int_equal(l.b->gw->metrics.access_lines_total, 3);
    teardown(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combined),     cmocka_unit_test(test_json),
        cmocka_unit_test(test_injection),    cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_unhappy_ends), cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
