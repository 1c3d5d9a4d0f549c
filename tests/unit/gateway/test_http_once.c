/* Idempotency-Key over HTTP: executed once, answered the same again. */
#include "http_client.h"
#include "store/once.h"

#define KEY(key) "Idempotency-Key: " key "\r\n"
#define DAY_MS ((uint64_t)ONCE_KEEP_MS)

static void expect_replay(struct bench *b, struct fake_stream *f, const char *request, int status,
                          const char *name, const char *value, bool replayed) {
    struct answer a = ask(b, f, request);
    const char *mark = field(&a, "Idempotency-Replayed");
    if (a.status != status || (mark != NULL) != replayed)
        fail_msg("%s\n-> %s%s", request, a.head, a.body);
    if (mark)
        assert_string_equal(mark, "true");
    if (name)
        assert_string_equal(field(&a, name), value);
    free(a.body);
}

static void test_every_route(void **state) {
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"PUT /v1/kv/a" HOST KEY("p1") "Content-Length: 1\r\n\r\nx", 201},
        {"PUT /v1/kv/a" HOST KEY("p2") "Content-Length: 1\r\n\r\ny", 204},
        {"PUT /v1/kv/a" HOST KEY("p3") "If-None-Match: *\r\nContent-Length: 1\r\n\r\ny", 412},
        {"DELETE /v1/kv/a" HOST KEY("d1") "\r\n", 204},
        {"DELETE /v1/kv/a" HOST KEY("d2") "\r\n", 404},
        {"POST /v1/incr/n?by=5&max=7&ttl=10s" HOST KEY("\"i 1\"") "\r\n", 200},
        {"POST /v1/incr/n?by=5&max=7&ttl=10s" HOST KEY("i2") "\r\n", 409},
        {"POST /v1/txn" HOST KEY(
             "t1") "Content-Length: 27\r\n\r\n{\"then\":[{\"incr\":\"count\"}]}",
         200},
        {"POST /v1/txn" HOST KEY(
             "t2") "Content-Length: 71\r\n\r\n{\"if\":[{\"key\":\"n\",\"exists\":"
                   "false}],\"else\":[{\"incr\":\"count\"}],\"then\":[]}",
         412},
    };
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct answer first = ask(b, f, cases[i].request);
        if (first.status != cases[i].status)
            fail_msg("%s\n-> %s%s", cases[i].request, first.head, first.body);
        assert_null(field(&first, "Idempotency-Replayed"));
        struct fake_stream *other = bench_http(b); /* any connection, as any gateway */
        struct answer again = ask(b, other, cases[i].request);
        const char *mark = strstr(again.head, "Idempotency-Replayed: true\r\n");
        assert_non_null(mark);
        /* The same but for the mark: status, ETag, Kv-Revision, Kv-Index, Kv-Expires, body. */
        memmove((char *)(uintptr_t)mark, mark + 28, strlen(mark + 28) + 1);
        assert_string_equal(first.head, again.head);
        assert_string_equal(first.body, again.body);
        free(first.body);
        free(again.body);
        bench_hang_up(b, other);
    }
    expect(b, f, GET("/v1/kv/n"), 200, "5");
    expect(b, f, GET("/v1/kv/count"), 200, "2");
    expect(b, f, GET("/_/metrics"), 200, "\ncotidal_gateway_http_replayed_total 9\n");
    bench_free(b);
}

static void test_another_request(void **state) {
    static const char *const others[] = {
        "PUT /v1/kv/a?ttl=5s" HOST KEY("k") "Content-Length: 1\r\n\r\ny",
        "PUT /v1/kv/a?ttl=6s" HOST KEY("k") "Content-Length: 1\r\n\r\nx",
        "PUT /v1/kv/b?ttl=5s" HOST KEY("k") "Content-Length: 1\r\n\r\nx",
        "PUT /v1/kv/a" HOST KEY("k") "Content-Length: 1\r\n\r\nx",
        "PUT /v1/kv/a?ttl=5s" HOST KEY("k") "If-Match: *\r\nContent-Length: 1\r\n\r\nx",
        "PUT /v1/kv/a?ttl=5s" HOST KEY("k") "Content-Type: text/css\r\nContent-Length: 1\r\n\r\nx",
        "DELETE /v1/kv/a" HOST KEY("k") "\r\n",
        "POST /v1/incr/a" HOST KEY("k") "\r\n",
    };
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    static const char put[] = "PUT /v1/kv/a?ttl=5s" HOST KEY("k") "Content-Length: 1\r\n\r\nx";
    expect_replay(b, f, put, 201, NULL, NULL, false);
    for (size_t i = 0; i < ARRAY_COUNT(others); i++)
        expect(b, f, others[i], 422, "\"code\":\"idempotency_key_reused\",\"applied\":\"no\"");
    /* The same request in other words is the same: what is compared is what would be executed. */
    expect_replay(b, f, "PUT /v1/kv/%61?ttl=5000ms" HOST KEY("\"k\"") "Content-Length: 1\r\n\r\nx",
                  201, NULL, NULL, true);
    expect_replay(b, f, put, 201, NULL, NULL, true);
    bench_free(b);
}

static void test_malformed_keys(void **state) {
    static const char *const bad[] = {"", "\"\"", "a b", "\"abc", "a,b", "\"a\";p", "\xC3\xA4"};
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    char request[512];
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        snprintf(request, sizeof request, "POST /v1/incr/n" HOST "Idempotency-Key: %s\r\n\r\n",
                 bad[i]);
        expect(b, f, request, 400, "\"code\":\"bad_request\",\"applied\":\"no\"");
    }
    snprintf(request, sizeof request, "POST /v1/incr/n" HOST "Idempotency-Key: %0256d\r\n\r\n", 1);
    expect(b, f, request, 400, "Idempotency-Key must be");
    snprintf(request, sizeof request, "POST /v1/incr/n" HOST "Idempotency-Key: %0255d\r\n\r\n", 1);
    expect(b, f, request, 200, "\"value\":1");
    expect(b, f, "POST /v1/incr/n" HOST KEY("a") KEY("a") "\r\n", 400, "more than one");
    expect(b, f, "PUT /v1/kv/n" HOST KEY("\"") "Content-Length: 1\r\n\r\nx", 400, NULL);
    expect(b, f, GET("/v1/kv/n"), 200, "1"); /* and the body was read over */
    /* Where nothing is written it means nothing. */
    expect(b, f, "GET /v1/kv/n" HOST KEY("\"") "\r\n", 200, "1");
    expect_replay(b, f, "GET /v1/kv/n" HOST KEY("k") "\r\n", 200, NULL, NULL, false);
    expect_replay(b, f, "GET /v1/kv/n" HOST KEY("k") "\r\n", 200, NULL, NULL, false);
    bench_free(b);
}

/* What is wrong with the request itself is not kept: the client may mend it and use the key. */
static void test_refused_before_execution(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, "POST /v1/incr/n?by=x" HOST KEY("k") "\r\n", 400, NULL);
    expect_replay(b, f, "POST /v1/incr/n?by=3" HOST KEY("k") "\r\n", 200, NULL, NULL, false);
    expect_replay(b, f, "POST /v1/incr/n?by=3" HOST KEY("k") "\r\n", 200, NULL, NULL, true);
    bench_free(b);
}

/* The two are on their way at once: the log puts them in order, and both get the answer. */
static void test_at_once(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b), *g = bench_http(b);
    static const char incr[] = "POST /v1/incr/n" HOST KEY("k") "\r\n";
    fake_stream_feed_str(f, incr);
    fake_stream_feed_str(g, incr);
    fake_stream_feed_str(f, incr);
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 3);
    bench_settle(b);
    for (int i = 0; i < 3; i++) {
        struct answer a = take_answer(i == 1 ? g : f, false);
        assert_int_equal(a.status, 200);
        assert_non_null(strstr(a.body, "\"value\":1,"));
        assert_int_equal(field(&a, "Idempotency-Replayed") != NULL, i != 0);
        free(a.body);
    }
    bench_free(b);
}

static void test_replies_of_the_store(void **state) {
    static const struct {
        const char *reply;
        int status;
        const char *part;
    } cases[] = {
        {"-ONCEFULL no room\r\n", 503,
         "\"code\":\"idempotency_full\",\"applied\":\"no\",\"retry_after_ms\":"},
        {"*3\r\n:1\r\n:7\r\n-NOTKEPT executed\r\n", 410,
         "\"code\":\"answer_not_kept\",\"applied\":\"yes\"}"},
        {"-NOTKEPT executed\r\n", 410, "\"code\":\"answer_not_kept\",\"applied\":\"yes\"}"},
        {"*3\r\n:0\r\n:7\r\n-WRONGTYPE Operation\r\n", 409, "\"applied\":\"no\""},
        {"*3\r\n:0\r\n:7\r\n-OOM\r\n", 507, NULL},
        {"*3\r\n:0\r\n:7\r\n", 500, "\"applied\":\"unknown\""},
        {"*2\r\n:0\r\n:7\r\n", 500, "\"applied\":\"unknown\""},
        {"*3\r\n+0\r\n:7\r\n+OK\r\n", 500, "\"applied\":\"unknown\""},
        {"*3\r\n:0\r\n:7\r\n+OK\r\n+OK\r\n", 500, "\"applied\":\"unknown\""},
        {"+OK\r\n", 500, "\"applied\":\"unknown\""},
    };
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        fake_stream_feed_str(f, "POST /v1/incr/n" HOST KEY("k") "\r\n");
        fake_upstream_answer_with(b->up, 0, UPSTREAM_DONE, cases[i].reply);
        bench_turn(b);
        struct answer a = take_answer(f, false);
        if (a.status != cases[i].status || (cases[i].part && !strstr(a.body, cases[i].part)))
            fail_msg("%s -> %s%s", cases[i].reply, a.head, a.body);
        free(a.body);
    }
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_route),    cmocka_unit_test(test_another_request),
        cmocka_unit_test(test_malformed_keys), cmocka_unit_test(test_refused_before_execution),
        cmocka_unit_test(test_at_once),        cmocka_unit_test(test_replies_of_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
