/* Promise 6: every error says whether the request was applied, and says what is true. The table in
 * docs/http-api.md is compared with what is answered. */
#include "gateway/http_routes.h"
#include "http_client.h"

static char docs[64 * 1024];

/* The row of the table of errors that has this code. */
static const char *docs_row(const char *code) {
    static char row[512];
    char search[64];
    snprintf(search, sizeof search, "`%s`", code);
    const char *at = strstr(docs, "| status | code | `applied` | when |");
    const char *end = strstr(docs, "## Limits");
    assert_true(at && end);
    for (; at < end; at += strcspn(at, "\n") + 1) {
        snprintf(row, sizeof row, "%.*s", (int)strcspn(at, "\n"), at);
        const char *second = strstr(row + 1, "| "),
                   *third = second ? strstr(second + 1, "|") : NULL;
        const char *found = strstr(row, search);
        if (row[0] == '|' && third && found && found > second && found < third)
            return row;
    }
    fail_msg("docs/http-api.md has no row for %s", code);
    return NULL;
}

/* The answer is a problem with that code and claim, and the documentation knows both. */
static void check(const char *request, struct answer *a, int status, const char *code,
                  const char *applied) {
    char part[128], word[16], number[8];
    snprintf(part, sizeof part, "\"code\":\"%s\",\"applied\":\"%s\"", code, applied);
    if (a->status != status || !strstr(a->body, part))
        fail_msg("%s\nwanted %d %s\n-> %s%s", request, status, part, a->head, a->body);
    assert_string_equal(field(a, "Content-Type"), "application/problem+json");
    assert_int_equal(status == 503, strstr(a->body, "\"retry_after_ms\":") != NULL);
    assert_int_equal(status == 503, field(a, "Retry-After") != NULL);
    const char *row = docs_row(code);
    snprintf(word, sizeof word, "`%s`", applied);
    snprintf(number, sizeof number, "%d", status);
    if (!strstr(row, word) || !strstr(row, number))
        fail_msg("%d %s with %s is not what docs/http-api.md says: %s", status, code, applied, row);
    free(a->body);
}

/* What the gateway refuses by itself, and what the store does. */
static void test_http_answers(void **state) {
    static const struct {
        const char *request;
        int status;
        const char *code, *applied;
    } cases[] = {
        {GET("/v1/kv/../x"), 400, "bad_request", "no"},
        {"POST /v1/incr/n?by=x" HOST "\r\n", 400, "bad_request", "no"},
        {"PUT /v1/kv/a" HOST "Idempotency-Key: \"\r\nContent-Length: 1\r\n\r\nx", 400,
         "bad_request", "no"},
        {"POST /v1/txn" HOST "Content-Length: 2\r\n\r\n{}", 400, "bad_request", "no"},
        {"GET / HTTP/1.1\r\n\r\n", 400, "malformed", "no"},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "malformed", "no"},
        {"PUT /v1/kv/a" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed", "no"},
        {"GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", 417, "malformed", "no"},
        {"POST /v1/incr/n" HOST "Origin: http://evil.example\r\n\r\n", 403, "cross_origin", "no"},
        {GET("/nowhere"), 404, "not_found", "no"},
        {GET("/v1/kv/none"), 404, "key_not_found", "no"},
        {"DELETE /v1/kv/none" HOST "\r\n", 404, "key_not_found", "no"},
        {"POST /v1/kv/a" HOST "\r\n", 405, "method_not_allowed", "no"},
        {"POST /v1/incr/n?max=0" HOST "\r\n", 409, "bound", "no"},
        {"POST /v1/incr/text" HOST "\r\n", 409, "not_an_integer", "no"},
        {"POST /v1/incr/most" HOST "\r\n", 409, "overflow", "no"},
        {"POST /v1/incr/hash" HOST "\r\n", 409, "wrong_type", "no"},
        {"PUT /v1/kv/text" HOST "If-None-Match: *\r\nContent-Length: 1\r\n\r\nx", 412,
         "precondition_failed", "no"},
        {"POST /v1/txn" HOST "Content-Length: "
         "57\r\n\r\n{\"if\":[{\"key\":\"no\",\"exists\":true}],\"then\":[{\"get\":\"no\"}]}",
         412, "guard_failed", "no"},
        {"POST /v1/txn" HOST "Content-Length: "
         "61\r\n\r\n{\"if\":[{\"key\":\"no\",\"exists\":true}],\"else\":[{\"incr\":\"other\"}]}",
         412, "guard_failed", "yes"},
        {"PUT /v1/kv/a" HOST "Content-Length: 1001\r\n\r\n", 413, "too_large", "no"},
        {"PUT /v1/kv/a" HOST "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 415,
         "content_encoding", "no"},
        {"BREW /v1/kv/a" HOST "\r\n", 501, "not_implemented", "no"},
    };
    const struct gateway_options options = {.value_bytes_max = 1000};
    struct bench *b = bench_new(&options);
    struct fake_stream *redis = bench_redis(b);
    bench_talk(b, redis, "MSET text x most 9223372036854775807\r\n", "+OK\r\n");
    bench_talk(b, redis, "HSET hash f v\r\n", ":1\r\n");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct fake_stream *f = bench_http(b);
        struct answer a = ask(b, f, cases[i].request);
        check(cases[i].request, &a, cases[i].status, cases[i].code, cases[i].applied);
        if (!f->closed)
            bench_hang_up(b, f);
    }
    bench_talk(b, redis, "MGET text n most a\r\n",
               "*4\r\n$1\r\nx\r\n$-1\r\n$19\r\n9223372036854775807\r\n$-1\r\n");
    bench_free(b);
}

#define WRITE_REQUEST "POST /v1/incr/n" HOST "\r\n"
#define READ_REQUEST GET("/v1/kv/n")
#define ADMIN_REQUEST "DELETE /_/members/2" HOST "\r\n"

/* What the upstream and the database say. */
static void test_http_outcomes(void **state) {
    static const struct {
        const char *request;
        enum upstream_outcome outcome;
        const char *reply;
        int status;
        const char *code, *applied;
    } cases[] = {
        {WRITE_REQUEST, UPSTREAM_UNKNOWN, "-UNAVAILABLE x\r\n", 503, "unavailable", "unknown"},
        {WRITE_REQUEST, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE x\r\n", 503, "unavailable", "no"},
        {READ_REQUEST, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE x\r\n", 503, "unavailable", "no"},
        {ADMIN_REQUEST, UPSTREAM_UNKNOWN, "-UNAVAILABLE x\r\n", 503, "unavailable", "unknown"},
        {ADMIN_REQUEST, UPSTREAM_NOT_APPLIED, "-ERR two must stay\r\n", 409, "refused", "no"},
        {WRITE_REQUEST, UPSTREAM_NOT_APPLIED, "-BUSY x\r\n", 503, "busy", "no"},
        {WRITE_REQUEST, UPSTREAM_NOT_APPLIED, "-OOM x\r\n", 507, "quota_exceeded", "no"},
        {WRITE_REQUEST, UPSTREAM_NOT_APPLIED, "-ERR x\r\n", 503, "unavailable", "no"},
        {WRITE_REQUEST, UPSTREAM_DONE, "-ERR x\r\n", 400, "refused", "no"},
        {WRITE_REQUEST, UPSTREAM_DONE, "-ERR string exceeds maximum\r\n", 413, "too_large", "no"},
        {WRITE_REQUEST, UPSTREAM_DONE, "-NOTKEPT x\r\n", 410, "answer_not_kept", "yes"},
        {WRITE_REQUEST, UPSTREAM_DONE, "-ONCEFULL x\r\n", 503, "idempotency_full", "no"},
        {WRITE_REQUEST, UPSTREAM_DONE, "-MISMATCH x\r\n", 422, "idempotency_key_reused", "no"},
        {WRITE_REQUEST, UPSTREAM_DONE, "+OK\r\n", 500, "internal", "unknown"},
        {READ_REQUEST, UPSTREAM_DONE, "+OK\r\n", 500, "internal", "no"},
    };
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        fake_stream_feed_str(f, cases[i].request);
        fake_upstream_answer_with(b->up, 0, cases[i].outcome, cases[i].reply);
        bench_turn(b);
        struct answer a = take_answer(f, false);
        if (strcmp(cases[i].code, "refused") == 0 && cases[i].status == 409) {
            assert_non_null(strstr(a.body, "\"applied\":\"no\""));
            free(a.body);
            continue; /* documented below the table */
        }
        check(cases[i].reply, &a, cases[i].status, cases[i].code, cases[i].applied);
    }
    bench_free(b);
}

/* Refusals of whole connections. */
static void test_http_connections(void **state) {
    const struct gateway_options options = {.connections_max = 2, .input_bytes_total_max = 200000};
    struct bench *b = bench_new(&options);
    struct fake_stream *slow = bench_http(b), *large = bench_http(b), *third = bench_http(b);
    bench_turn(b);
    struct answer a = take_answer(third, false);
    check("one connection more", &a, 503, "busy", "no");
    fake_stream_feed_str(slow, "PUT /v1/kv/a" HOST "Content-Length: 9\r\n\r\nab");
    bench_wait(b, 31000);
    a = take_answer(slow, false);
    check("half a body", &a, 408, "timeout", "no");
    struct buf body = {0};
    buf_append_str(&body, "PUT /v1/kv/a" HOST "Content-Length: 1000000\r\n\r\n");
    for (int i = 0; i < 40000; i++)
        buf_append_str(&body, "0123456789");
    fake_stream_feed(large, buf_slice(&body));
    bench_turn(b);
    a = take_answer(large, false);
    check("too much for the thread", &a, 503, "busy", "no");
    buf_fini(&body);
    bench_free(b);
}

static void talk(struct bench *b, const char *send, enum upstream_outcome outcome,
                 const char *reply, const char *want) {
    struct fake_stream *f = bench_redis(b);
    fake_stream_feed_str(f, send);
    bench_turn(b);
    buf_reset(&f->written); /* +OK and +QUEUED */
    fake_upstream_answer_with(b->up, 0, outcome, reply);
    bench_turn(b);
    assert_string_equal(bench_received(f), want);
    bench_hang_up(b, f);
}

static void test_redis(void **state) {
#define MALFORMED "-ERR the database node sent a malformed reply; applied: "
    static const char exec[] = "MULTI\r\nINCR n\r\nPING\r\nEXEC\r\n";
    static const char unknown[] = "-UNAVAILABLE no leader answered in time; applied: unknown\r\n";
    static const char lost[] =
        "-NOTKEPT executed, but the reply was too large to keep; applied: yes\r\n";
    struct bench *b = bench_new(NULL);
    talk(b, "INCR n\r\n", UPSTREAM_UNKNOWN, unknown, unknown);
    talk(b, exec, UPSTREAM_UNKNOWN, unknown, unknown);
    talk(b, exec, UPSTREAM_DONE, lost, lost);
    talk(b, exec, UPSTREAM_DONE, "*-1\r\n", "*-1\r\n");
    talk(b, "INCR n\r\n", UPSTREAM_DONE, "*2\r\n:1\r\n", MALFORMED "unknown\r\n");
    talk(b, "GET n\r\n", UPSTREAM_DONE, "*2\r\n:1\r\n", MALFORMED "no\r\n");
    talk(b, "WATCH n\r\n", UPSTREAM_DONE, ":1\r\n", MALFORMED "no\r\n");
    talk(b, exec, UPSTREAM_DONE, "*2\r\n", MALFORMED "unknown\r\n");
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "SET n 5\r\nMULTI\r\nINCR n\r\nNONSENSE\r\nEXEC\r\nGET n\r\n",
               "+OK\r\n+OK\r\n+QUEUED\r\n"
               "-ERR unknown command 'NONSENSE', with args beginning with: \r\n"
               "-EXECABORT Transaction discarded because of previous errors.\r\n$1\r\n5\r\n");
    bench_talk(b, f, "MULTI\r\nHSET n f v\r\nINCR n\r\nEXEC\r\n",
               "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n-WRONGTYPE Operation against a key holding the "
               "wrong kind of value\r\n:6\r\n");
    bench_free(b);
}

static int load_docs(void **state) {
    FILE *f = fopen(DOCS_DIR "/http-api.md", "r");
    assert_non_null(f);
    size_t size = fread(docs, 1, sizeof docs - 1, f);
    assert_true(size < sizeof docs - 1);
    fclose(f);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_answers),
        cmocka_unit_test(test_http_outcomes),
        cmocka_unit_test(test_http_connections),
        cmocka_unit_test(test_redis),
    };
    return cmocka_run_group_tests(tests, load_docs, NULL);
}
