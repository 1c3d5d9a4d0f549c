/* HTTP at the gateway: routes, conditions, transactions, bodies, refusals, order. */
#include <stdio.h>

#include "gateway/http_routes.h"
#include "http_client.h"

static void test_kv(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, GET("/v1/kv/a"), 404, "\"code\":\"key_not_found\",\"applied\":\"no\"");
    struct answer a =
        ask(b, f, "PUT /v1/kv/a" HOST "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
    assert_int_equal(a.status, 201);
    char etag[64];
    snprintf(etag, sizeof etag, "%s", field(&a, "ETag"));
    assert_string_equal(field(&a, "Date"), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_string_equal(field(&a, "Content-Length"), "0");
    free(a.body);
    a = ask(b, f, GET("/v1/kv/a"));
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "hello");
    assert_string_equal(field(&a, "ETag"), etag);
    assert_string_equal(field(&a, "Content-Type"), "text/plain");
    assert_non_null(strstr(field(&a, "Content-Security-Policy"), "sandbox"));
    assert_null(field(&a, "Kv-Expires"));
    assert_null(field(&a, "Connection"));
    free(a.body);
    a = ask(b, f, "HEAD /v1/kv/a" HOST "\r\n");
    assert_int_equal(a.status, 200);
    assert_string_equal(field(&a, "Content-Length"), "5");
    free(a.body);
    expect(b, f, BODY("PUT", "/v1/kv/a", "1", "x"), 204, NULL);
    expect(b, f, "DELETE /v1/kv/a" HOST "\r\n", 204, NULL);
    expect(b, f, "DELETE /v1/kv/a" HOST "\r\n", 404, "key_not_found");
    /* Any bytes may be in a key. */
    expect(b, f, BODY("PUT", "/v1/kv/x/%2E%2E/%00y%20", "1", "z"), 201, NULL);
    expect(b, f, GET("/v1/kv/x%2f%2e%2E/%00y%20"), 200, "z");
    struct fake_stream *redis = bench_redis(b);
    bench_talk(b, redis, "GET \"x/../\\x00y \"\r\n", "$1\r\nz\r\n");
    bench_talk(b, redis, "HSET h f v\r\n", ":1\r\n");
    expect(b, f, GET("/v1/kv/h"), 409, "\"code\":\"wrong_type\"");
    expect(b, f, "DELETE /v1/kv/h" HOST "\r\n", 204, NULL);
    bench_talk(b, redis, "EXISTS h\r\n", ":0\r\n");
    bench_free(b);
}

static void test_conditions(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    char text[512];
    expect(b, f, "PUT /v1/kv/a" HOST "If-Match: *\r\nContent-Length: 1\r\n\r\nx", 412,
           "\"revision\":\"0\"");
    struct answer a =
        ask(b, f, "PUT /v1/kv/a" HOST "If-None-Match: *\r\nContent-Length: 1\r\n\r\nx");
    assert_int_equal(a.status, 201);
    char etag[64];
    snprintf(etag, sizeof etag, "%s", field(&a, "ETag"));
    free(a.body);
    expect(b, f, "PUT /v1/kv/a" HOST "If-None-Match: *\r\nContent-Length: 1\r\n\r\ny", 412,
           "precondition_failed");
    snprintf(text, sizeof text, "GET /v1/kv/a" HOST "If-None-Match: \"zz\", W/%s\r\n\r\n", etag);
    a = ask(b, f, text);
    assert_int_equal(a.status, 304);
    assert_string_equal(field(&a, "ETag"), etag);
    assert_null(field(&a, "Content-Length"));
    free(a.body);
    expect(b, f, "GET /v1/kv/a" HOST "If-None-Match: *\r\n\r\n", 304, NULL);
    expect(b, f, "GET /v1/kv/a" HOST "If-None-Match: \"1\"\r\nIf-None-Match: \"2\"\r\n\r\n", 200,
           "x");
    expect(b, f, "GET /v1/kv/a" HOST "If-Match: \"1\"\r\n\r\n", 412, NULL);
    expect(b, f, "GET /v1/kv/none" HOST "If-Match: *\r\n\r\n", 412, NULL);
    snprintf(text, sizeof text, "GET /v1/kv/a" HOST "If-Match: \"7\", %s\r\n\r\n", etag);
    expect(b, f, text, 200, "x");
    snprintf(text, sizeof text, "PUT /v1/kv/a" HOST "If-Match: W/%s\r\nContent-Length: 1\r\n\r\ny",
             etag);
    expect(b, f, text, 412, NULL); /* a weak tag never matches there */
    snprintf(text, sizeof text, "DELETE /v1/kv/a" HOST "If-Match: \"strange\"\r\n\r\n");
    expect(b, f, text, 412, NULL);
    snprintf(text, sizeof text, "PUT /v1/kv/a" HOST "If-Match: %s\r\nContent-Length: 1\r\n\r\ny",
             etag);
    expect(b, f, text, 204, NULL);
    expect(b, f, text, 412, NULL);
    expect(b, f, "GET /v1/kv/a" HOST "If-Match: abc\r\n\r\n", 400, "If-Match must be");
    bench_free(b);
}

static void test_expiry(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    struct answer a = ask(b, f, BODY("PUT", "/v1/kv/a?ttl=30s", "1", "x"));
    assert_int_equal(a.status, 201);
    assert_string_equal(field(&a, "Kv-Expires"), "1700000030000");
    free(a.body);
    a = ask(b, f, BODY("PUT", "/v1/kv/a?keepttl", "1", "y"));
    assert_string_equal(field(&a, "Kv-Expires"), "1700000030000");
    free(a.body);
    a = ask(b, f, BODY("PUT", "/v1/kv/a", "1", "z"));
    assert_null(field(&a, "Kv-Expires"));
    free(a.body);
    expect(b, f, BODY("PUT", "/v1/kv/a?ttl=soon", "1", "x"), 400, "ttl must be a duration");
    expect(b, f, BODY("PUT", "/v1/kv/a?ttl=0", "1", "x"), 400, "ttl must be a duration");
    expect(b, f, BODY("PUT", "/v1/kv/a?ttl=1s&keepttl", "1", "x"), 400, "exclude");
    expect(b, f, BODY("PUT", "/v1/kv/a?tttl=1s", "1", "x"), 400, "unknown parameter \\\"tttl\\\"");
    expect(b, f, BODY("PUT", "/v1/kv/a?ttl=%zz", "1", "x"), 400, "percent-encoded");
    expect(b, f, GET("/v1/kv/%z1"), 400, "percent-encoded");
    bench_free(b);
}

static void test_incr(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, "POST /v1/incr/n" HOST "\r\n", 200, "{\"value\":1,\"revision\":\"");
    expect(b, f, "POST /v1/incr/n?by=-5&min=-4" HOST "\r\n", 200, "{\"value\":-4,");
    expect(b, f, "POST /v1/incr/n?by=-1&min=-4" HOST "\r\n", 409, "\"code\":\"bound\"");
    expect(b, f, "POST /v1/incr/n?by=x" HOST "\r\n", 400, "by must be a whole number");
    expect(b, f, BODY("PUT", "/v1/kv/s", "1", "x"), 201, NULL);
    expect(b, f, "POST /v1/incr/s" HOST "\r\n", 409, "\"code\":\"not_an_integer\"");
    bench_free(b);
}

static void test_list(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, BODY("PUT", "/v1/kv/a/1", "1", "x"), 201, NULL);
    expect(b, f, BODY("PUT", "/v1/kv/a/2%ff", "2", "\xff\xfe"), 201, NULL);
    expect(b, f, BODY("PUT", "/v1/kv/b", "1", "z"), 201, NULL);
    struct answer a = ask(b, f, GET("/v1/kv?limit=1&values=1"));
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"keys\":[{\"key\":\"a/1\",\"revision\":\""));
    assert_non_null(strstr(a.body, "\"type\":\"string\",\"size\":1,\"value\":\"x\"}]"));
    assert_string_equal(field(&a, "Link"), "</v1/kv?limit=1&values=1&after=a/1>; rel=\"next\"");
    free(a.body);
    a = ask(b, f, GET("/v1/kv?limit=1&values=1&after=a/1"));
    assert_non_null(strstr(a.body, "{\"key\":\"YS8y/w==\",\"key_base64\":true,"));
    assert_non_null(strstr(a.body, "\"value\":\"//4=\",\"base64\":true}]"));
    assert_string_equal(field(&a, "Link"), "</v1/kv?limit=1&values=1&after=a/2%FF>; rel=\"next\"");
    free(a.body);
    a = ask(b, f, GET("/v1/kv?delimiter=/"));
    assert_non_null(strstr(a.body, "\"prefixes\":[\"a/\"]}"));
    assert_non_null(strstr(a.body, "\"keys\":[{\"key\":\"b\","));
    assert_null(field(&a, "Link"));
    free(a.body);
    expect(b, f, GET("/v1/kv?prefix=zz"), 200, "\"keys\":[],\"prefixes\":[]}");
    expect(b, f, GET("/v1/kv?limit=0"), 400, "limit must be");
    expect(b, f, GET("/v1/kv?values=2"), 400, "values must be");
    bench_free(b);
}

#define TXN(text)                                                                                  \
    "POST /v1/txn" HOST "Transfer-Encoding: chunked\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n", strlen(text),  \
        text

static void expect_txn(struct bench *b, struct fake_stream *f, const char *json, int status,
                       const char *part) {
    struct buf request = {0};
    buf_printf(&request, TXN(json));
    buf_append_char(&request, 0);
    expect(b, f, (const char *)request.data, status, part);
    buf_fini(&request);
}

static void test_txn(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect_txn(
        b, f,
        "{\"if\":[{\"key\":\"a\",\"exists\":false}],\"then\":[{\"put\":\"a\",\"value\":\"1\","
        "\"ttl\":\"1m\"},{\"incr\":\"n\",\"by\":3},{\"get\":\"a\"},{\"get\":\"no\"},"
        "{\"redis\":[\"HSET\",\"h\",\"f\",5]},{\"delete\":\"n\"},{\"incr\":\"h\"}]}",
        200, "\"results\":[{\"status\":201,\"revision\":\"");
    expect_txn(b, f, "{\"then\":[{\"incr\":\"n\",\"by\":3},{\"redis\":[\"HGETALL\",\"h\"]}]}", 200,
               "\"value\":3,");
    expect_txn(b, f, "{\"then\":[{\"redis\":[\"HGETALL\",\"h\"]}]}", 200,
               "{\"ok\":true,\"results\":[{\"status\":200,\"reply\":{\"f\":\"5\"}}]}");
    expect_txn(b, f, "{\"then\":[{\"incr\":\"h\"}]}", 200,
               "{\"status\":409,\"code\":\"wrong_type\",\"error\":\"WRONGTYPE ");
    expect_txn(b, f,
               "{\"if\":[{\"key\":\"a\",\"exists\":true},{\"key\":\"a\",\"value\":\"2\"}],"
               "\"then\":[{\"delete\":\"a\"}]}",
               412, "\"applied\":\"no\",\"failed\":1,\"results\":[]}");
    expect_txn(b, f, "{\"if\":[{\"key\":\"a\",\"rev\":\"5\"}],\"else\":[{\"get\":\"a\"}]}", 412,
               "\"applied\":\"no\",\"failed\":0,\"results\":[{\"status\":200,\"value\":\"1\",");
    static const struct {
        const char *op, *applied;
    } elses[] = {
        {"{\"put\":\"e\",\"value\":\"1\"}", "yes"},
        {"{\"delete\":\"e\"}", "yes"},
        {"{\"delete\":\"e\"}", "no"},
        {"{\"incr\":\"e\",\"max\":1}", "yes"},
        {"{\"incr\":\"e\",\"max\":1}", "no"},
        {"{\"get\":\"no\"},{\"incr\":\"h\"}", "no"},
        {"{\"redis\":[\"SET\",\"e\",\"2\"]},{\"get\":\"e\"}", "yes"},
        {"{\"redis\":[\"HSET\",\"e\",\"2\",\"3\"]},{\"redis\":[\"GET\",\"e\"]}", "no"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(elses); i++) {
        char json[256], part[64];
        snprintf(json, sizeof json, "{\"if\":[{\"key\":\"a\",\"exists\":false}],\"else\":[%s]}",
                 elses[i].op);
        snprintf(part, sizeof part, "\"applied\":\"%s\",\"failed\":0", elses[i].applied);
        expect_txn(b, f, json, 412, part);
    }
    expect_txn(b, f, "{\"then\":[{\"put\":\"b\",\"value\":\"/wA=\",\"base64\":true}]}", 200, NULL);
    expect_txn(b, f,
               "{\"if\":[{\"key\":\"b\",\"value\":\"/wA=\",\"base64\":true}],\"then\":"
               "[{\"get\":\"b\"}]}",
               200, "\"value\":\"/wA=\",\"base64\":true");
    static const struct {
        const char *json, *detail;
    } bad[] = {
        {"{", "the body is not JSON"},
        {"[]", "must be a JSON object"},
        {"{}", "is empty"},
        {"{\"when\":[]}", "\\\"when\\\""},
        {"{\"then\":{}}", "\\\"then\\\""},
        {"{\"then\":[1]}", "then[0]: must be an object"},
        {"{\"then\":[{\"get\":\"a\"},{\"put\":\"a\"}]}", "then[1]: \\\"value\\\" must be a string"},
        {"{\"then\":[{\"put\":\"a\",\"value\":\"x\",\"tll\":1}]}", "unknown member \\\"tll\\\""},
        {"{\"then\":[{\"put\":\"a\",\"value\":\"x\",\"ttl\":\"x\"}]}", "\\\"ttl\\\" must be"},
        {"{\"then\":[{\"put\":\"a\",\"value\":\"===\",\"base64\":true}]}", "base64"},
        {"{\"then\":[{\"put\":\"a\",\"value\":\"=A==\",\"base64\":true}]}", "base64"},
        {"{\"then\":[{\"put\":\"a\",\"value\":\"x\",\"content_type\":\"a\\nb\"}]}", "printable"},
        {"{\"then\":[{\"get\":\"\"}]}", "a key has 1 to"},
        {"{\"then\":[{\"incr\":\"a\",\"by\":1.5}]}", "whole number"},
        {"{\"then\":[{\"redis\":[]}]}", "must be an array"},
        {"{\"then\":[{\"redis\":[\"NOPE\"]}]}", "unknown command \\\"NOPE\\\""},
        {"{\"then\":[{\"redis\":[\"KV.GET\",\"a\"]}]}", "unknown command"},
        {"{\"then\":[{\"redis\":[\"SELECT\",\"1\"]}]}", "not possible in a transaction"},
        {"{\"then\":[{\"redis\":[\"GET\"]}]}", "wrong number of arguments"},
        {"{\"then\":[{\"redis\":[\"GET\",null]}]}", "strings or whole numbers"},
        {"{\"then\":[{\"what\":1}]}", "an operation has one of"},
        {"{\"if\":[{\"key\":\"a\"}]}", "if[0]: a guard has"},
        {"{\"if\":[{\"key\":\"a\",\"rev\":1,\"exists\":true}]}", "a guard has"},
        {"{\"if\":[{\"key\":\"a\",\"rev\":\"x\"}]}", "must be a revision"},
        {"{\"if\":[{\"key\":\"a\",\"exists\":true,\"x\":1}]}", "unknown member \\\"x\\\""},
        {"{\"then\":[],\"then\":[]}", "duplicate"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        expect_txn(b, f, bad[i].json, 400, bad[i].detail);
    bench_free(b);
}

static void test_status(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, GET("/_/health"), 200, "ok\n");
    expect(b, f, GET("/_/ready"), 200, "ready\n");
    expect(b, f, GET("/_/status"), 200,
           "\"members\":[{\"id\":1,\"role\":\"voter\"}],\"gateway\":{\"version\":\"");
    expect(b, f, GET("/_/metrics"), 200, "\ncotidal_gateway_connections_http 1\n");
    fake_upstream_set_ready(b->up, false);
    expect(b, f, GET("/_/health"), 200, "ok\n");
    expect(b, f, GET("/_/ready"), 503, "not ready");
    struct answer a = ask(b, f, GET("/"));
    assert_int_equal(a.status, 200);
    assert_string_equal(field(&a, "Content-Type"), "text/html; charset=utf-8");
    assert_non_null(strstr(field(&a, "Content-Security-Policy"), "script-src 'self'"));
    assert_non_null(strstr(a.body, "<script src=\"/_/web/welcome.js\""));
    assert_null(strstr(a.body, "://www")); /* nothing from elsewhere */
    char request[300];
    snprintf(request, sizeof request, "GET /" HOST "If-None-Match: %s\r\n\r\n", field(&a, "ETag"));
    free(a.body);
    expect(b, f, request, 304, NULL);
    expect(b, f, GET("/_/"), 200, "<script src=\"/_/web/dashboard.js\"");
    expect(b, f, GET("/_/web/page.css"), 200, "prefers-color-scheme");
    expect(b, f, GET("/_/web/welcome.js"), 200, "./cluster.js");
    expect(b, f, GET("/_/web/dashboard.js"), 200, "/_/metrics");
    expect(b, f, GET("/_/web/cluster.js"), 200, "/_/status");
    expect(b, f, GET("/_/web/icon.svg"), 200, "<svg");
    expect(b, f, GET("/_/web/../conn.c"), 400, "dot segment");
    expect(b, f, GET("/_/web/passwd"), 404, NULL);
    bench_free(b);
}

static void test_refusals(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, GET("/nowhere"), 404, "\"code\":\"not_found\"");
    expect(b, f, GET("/v1/kv/"), 404, NULL);
    struct answer a = ask(b, f, BODY("POST", "/v1/kv/a", "3", "abc"));
    assert_int_equal(a.status, 405);
    assert_string_equal(field(&a, "Allow"), "GET, HEAD, PUT, DELETE, OPTIONS");
    free(a.body);
    a = ask(b, f, "OPTIONS /v1/txn" HOST "\r\n");
    assert_int_equal(a.status, 204);
    assert_string_equal(field(&a, "Allow"), "POST, OPTIONS");
    free(a.body);
    expect(b, f, "OPTIONS *" HOST "\r\n", 204, NULL);
    expect(b, f, "BREW /v1/kv/a" HOST "\r\n", 501, "not_implemented");
    expect(b, f, "PATCH /v1/kv/a" HOST "\r\n", 405, NULL);
    expect(b, f, "POST /v1/incr/a" HOST "Origin: http://evil.example\r\n\r\n", 403, "cross_origin");
    expect(b, f, "POST /v1/incr/a" HOST "Origin: http://localhost\r\n\r\n", 200, NULL);
    expect(b, f, "POST /v1/incr/a" HOST "Sec-Fetch-Site: cross-site\r\n\r\n", 403, NULL);
    expect(b, f, "POST /v1/incr/a" HOST "Sec-Fetch-Site: same-origin\r\nOrigin: https://x\r\n\r\n",
           200, NULL);
    expect(b, f, "GET /v1/kv/a" HOST "Origin: http://evil.example\r\n\r\n", 200, "2");
    expect(b, f, "GET /v1/kv/a" HOST "Kv-Consistency: fast\r\n\r\n", 400, "Kv-Consistency");
    expect(b, f, GET("/v1/kv/a?min_rev=x"), 400, "min_rev");
    expect(b, f, "PUT /v1/kv/a" HOST "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 415,
           NULL);
    assert_false(f->shutdown); /* none of these closes */
    bench_free(b);
}

static void test_malformed(void **state) {
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400}, /* no Host */
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
        {"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n", 400},
        {"POST /v1/txn HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST /v1/txn HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"
         "\r\n",
         400},
        {"POST /v1/txn HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", 417},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct bench *b = bench_new(NULL);
        struct fake_stream *f = bench_http(b);
        struct answer a = ask(b, f, cases[i].request);
        if (a.status != cases[i].status)
            fail_msg("%s -> %s%s", cases[i].request, a.head, a.body);
        assert_string_equal(field(&a, "Connection"), "close");
        free(a.body);
        fake_stream_feed_str(f, GET("/")); /* nothing behind it is taken */
        assert_int_equal(f->written.size, 0);
        assert_true(f->closed);
        bench_free(b);
    }
}

static void test_sizes(void **state) {
    const struct gateway_options options = {.value_bytes_max = 1000, .txn_bytes_max = 2000};
    struct bench *b = bench_new(&options);
    struct fake_stream *f = bench_http(b);
    char big[1200];
    memset(big, 'x', sizeof big);
    struct buf request = {0};
    buf_printf(&request, "PUT /v1/kv/a" HOST "Content-Length: 1000\r\n\r\n%.1000s%c", big, 0);
    expect(b, f, (const char *)request.data, 201, NULL);
    /* Announced as too large: answered at once, the body is not waited for. */
    expect(b, f, "PUT /v1/kv/a" HOST "Content-Length: 1001\r\n\r\n", 413, "at most 1000 bytes");
    /* The stream takes in the body that comes all the same (stream_shutdown()). */
    assert_true(f->shutdown);
    assert_true(f->closed);
    f = bench_http(b);
    buf_reset(&request);
    buf_printf(&request,
               "PUT /v1/kv/a" HOST "Transfer-Encoding: chunked\r\n\r\n3e8\r\n%.1000s\r\n1\r\n",
               big);
    buf_append_char(&request, 0);
    expect(b, f, (const char *)request.data, 413, NULL);
    f = bench_http(b);
    buf_reset(&request);
    buf_append_str(&request, "GET /");
    for (int i = 0; i < 20; i++)
        buf_append(&request, big, 1000);
    buf_append_str(&request, HOST "\r\n");
    buf_append_char(&request, 0);
    expect(b, f, (const char *)request.data, 414, NULL);
    f = bench_http(b);
    buf_reset(&request);
    buf_append_str(&request, "GET /" HOST);
    for (int i = 0; i < 40; i++)
        buf_printf(&request, "X-%d: %.1000s\r\n", i, big);
    buf_append_str(&request, "\r\n");
    buf_append_char(&request, 0);
    expect(b, f, (const char *)request.data, 431, NULL);
    buf_fini(&request);
    bench_free(b);
}

static void test_continue(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    bench_talk(b, f, "PUT /v1/kv/a" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
               "HTTP/1.1 100 Continue\r\n\r\n");
    expect(b, f, "hello", 201, NULL);
    /* Behind a request that is not answered yet, the invitation waits for its answer. */
    fake_stream_feed_str(f, GET("/v1/kv/a"));
    fake_stream_feed_str(f,
                         "PUT /v1/kv/b" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    bench_turn(b);
    assert_int_equal(f->written.size, 0);
    fake_upstream_answer(b->up, 0);
    bench_turn(b);
    struct answer a = take_answer(f, false);
    assert_string_equal(a.body, "hello");
    free(a.body);
    assert_string_equal(bench_received(f), "HTTP/1.1 100 Continue\r\n\r\n");
    expect(b, f, "x", 201, NULL);
    fake_stream_feed_str(f, "DELETE /v1/kv/a" HOST "\r\n");
    fake_stream_feed_str(f,
                         "PUT /v1/kv/b" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    bench_turn(b);
    assert_int_equal(f->written.size, 0);
    bench_settle(b);
    a = take_answer(f, true);
    assert_int_equal(a.status, 204);
    free(a.body);
    assert_string_equal(bench_received(f), "HTTP/1.1 100 Continue\r\n\r\n");
    expect(b, f, "y", 204, NULL);
    /* Refused: no invitation, and the connection ends, for the body may come or not. */
    a = ask(b, f, "PUT /v1/zz" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(a.status, 404);
    assert_string_equal(field(&a, "Connection"), "close");
    free(a.body);
    bench_free(b);
}

static void test_keep_alive(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    struct answer a = ask(b, f, "GET /_/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_string_equal(field(&a, "Connection"), "keep-alive");
    free(a.body);
    assert_false(f->shutdown);
    a = ask(b, f, "GET /_/health HTTP/1.0\r\n\r\n");
    assert_string_equal(field(&a, "Connection"), "close");
    free(a.body);
    assert_true(f->closed);
    f = bench_http(b);
    a = ask(b, f, "GET /v1/kv/x" HOST "Connection: close\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(a.status, 404);
    free(a.body);
    assert_true(f->closed);
    /* A client that has said all it will is still answered. */
    f = bench_http(b);
    fake_stream_feed_str(f, GET("/v1/kv/x"));
    fake_stream_eof(f);
    bench_settle(b);
    a = take_answer(f, false);
    assert_int_equal(a.status, 404);
    free(a.body);
    assert_true(f->closed);
    bench_free(b);
}

/* Answers come in any order from the database, and in the order of asking to the client. */
static void test_pipeline(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, BODY("PUT", "/v1/kv/a", "1", "A"), 201, NULL);
    expect(b, f, BODY("PUT", "/v1/kv/b", "1", "B"), 201, NULL);
    for (unsigned order = 0; order < 6; order++) {
        fake_stream_feed_str(f, GET("/v1/kv/a") GET("/_/health")
                                    GET("/v1/kv/b") "HEAD /v1/kv/a" HOST "\r\n");
        bench_turn(b);
        assert_int_equal(fake_upstream_pending(b->up), 3);
        fake_upstream_answer(b->up, order % 3);
        fake_upstream_answer(b->up, order % 2);
        fake_upstream_answer(b->up, 0);
        bench_turn(b);
        static const char *const bodies[] = {"A", "ok\n", "B", ""};
        for (size_t i = 0; i < 4; i++) {
            struct answer a = take_answer(f, i == 3);
            assert_int_equal(a.status, 200);
            assert_string_equal(a.body, bodies[i]);
            free(a.body);
        }
        assert_int_equal(f->written.size, 0);
    }
    bench_free(b);
}

static void test_stale(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    expect(b, f, BODY("PUT", "/v1/kv/a", "1", "A"), 201, NULL);
    fake_stream_feed_str(f, "GET /v1/kv/a" HOST "Kv-Consistency: stale\r\n\r\n");
    bench_turn(b);
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_READ_STALE);
    assert_int_equal(fake_upstream_min_index(b->up, 0), 1); /* its own write must be seen */
    bench_settle(b);
    buf_reset(&f->written);
    fake_stream_feed_str(f, GET("/v1/kv/a?min_rev=5242880"));
    bench_turn(b);
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_READ);
    assert_int_equal(fake_upstream_min_index(b->up, 0), 5);
    bench_settle(b);
    bench_free(b);
}

static void test_outcomes(void **state) {
    static const struct {
        enum upstream_outcome outcome;
        const char *reply;
        int status;
        const char *part;
    } cases[] = {
        {UPSTREAM_UNKNOWN, "-UNAVAILABLE the leader is gone\r\n", 503,
         "\"detail\":\"the leader is gone\",\"code\":\"unavailable\",\"applied\":\"unknown\","
         "\"retry_after_ms\":"},
        {UPSTREAM_NOT_APPLIED, "-BUSY too much\r\n", 503, "\"code\":\"busy\",\"applied\":\"no\""},
        {UPSTREAM_DONE, "-OOM over the quota\r\n", 507,
         "\"code\":\"quota_exceeded\",\"applied\":\"no\""},
        {UPSTREAM_DONE, "-ERR something\r\n", 400, "\"code\":\"refused\""},
        {UPSTREAM_DONE, ":5\r\n", 500, "\"code\":\"internal\",\"applied\":\"unknown\""},
        {UPSTREAM_DONE, "*2\r\n:204\r\n", 500, NULL},
    };
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        fake_stream_feed_str(f, BODY("PUT", "/v1/kv/a", "1", "A"));
        fake_upstream_answer_with(b->up, 0, cases[i].outcome, cases[i].reply);
        bench_turn(b);
        struct answer a = take_answer(f, false);
        if (a.status != cases[i].status || (cases[i].part && !strstr(a.body, cases[i].part)))
            fail_msg("%s -> %s%s", cases[i].reply, a.head, a.body);
        assert_string_equal(field(&a, "Content-Type"), "application/problem+json");
        free(a.body);
    }
    bench_free(b);
}

/* docs/http-api.md lists every route of the table, in its words. */
static void test_docs(void **state) {
    static const char *const rows[] = {
#define X(method, pattern, needs, body, access, handler, help)                                     \
    "| `" #method "` | `" pattern "` | " help " |\n",
        HTTP_ROUTES(X)
#undef X
    };
    FILE *f = fopen(DOCS_DIR "/http-api.md", "r");
    assert_non_null(f);
    static char text[64 * 1024];
    size_t size = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    assert_true(size < sizeof text - 1);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        if (!strstr(text, rows[i]))
            fail_msg("docs/http-api.md lacks: %s", rows[i]);
}

/* Revisions, indexes and Content-Length differ from run to run. */
static char *normal(const char *text) {
    char *out = xstrdup(text), *to = out;
    for (const char *at = text; *at; at++) {
        if (*at >= '0' && *at <= '9') {
            *to++ = 'N';
            while (at[1] >= '0' && at[1] <= '9')
                at++;
        } else {
            *to++ = *at;
        }
    }
    *to = 0;
    return out;
}

static void test_every_split(void **state) {
    static const char script[] = "\r\n" BODY("PUT", "/v1/kv/a%20b", "7", "GET / H")
        GET("/v1/kv/a%20b") "PUT /v1/kv/c" HOST
                            "Transfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n2\r\nde\r\n0\r\n"
                            "T: v\r\n\r\n" GET("/v1/kv/c") "HEAD /v1/kv/c" HOST "\r\n" BODY(
                                "POST", "/none", "4", "body") "DELETE /v1/kv/a%20b" HOST "\r\n"
                                                              "DELETE /v1/kv/c" HOST
                                                              "Connection: close\r\n\r\n";
    struct slice bytes = slice_of(script, sizeof script - 1);
    struct bench *b = bench_new(NULL);
    char *expected = NULL;
    for (size_t run = 0; run < bytes.size + 3; run++) {
        struct fake_stream *f = bench_http(b);
        if (run < 3) {
            bench_feed(b, f, bytes, run == 0 ? SIZE_MAX : run == 1 ? 1 : 7);
        } else {
            size_t at = run - 3;
            fake_stream_feed(f, slice_of(bytes.data, at));
            bench_turn(b);
            fake_stream_feed(f, slice_of(bytes.data + at, bytes.size - at));
            bench_settle(b);
        }
        char *got = normal(bench_received(f));
        if (!expected)
            expected = xstrdup(got);
        assert_string_equal(got, expected);
        assert_true(f->closed);
        free(got);
        bench_hang_up(b, f);
    }
    assert_non_null(strstr(expected, "\r\n\r\nabcde"));
    assert_non_null(strstr(expected, "\r\n\r\nGET / H"));
    free(expected);
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv),        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_expiry),    cmocka_unit_test(test_incr),
        cmocka_unit_test(test_list),      cmocka_unit_test(test_txn),
        cmocka_unit_test(test_status),    cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_continue),  cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_pipeline),  cmocka_unit_test(test_stale),
        cmocka_unit_test(test_outcomes),  cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_docs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
