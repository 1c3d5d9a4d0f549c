/* POST /v1/redis and what is below it. */
#include "http_client.h"

static struct bench *b;
static struct fake_stream *f;

static int setup(void **state) {
    b = bench_new(NULL);
    f = bench_http(b);
    return 0;
}

static int teardown(void **state) {
    bench_hang_up(b, f);
    bench_free(b);
    return 0;
}

static void post(const char *path, const char *fields, const char *body, int status,
                 const char *want) {
    struct buf request = {0};
    buf_printf(&request, "POST /v1/redis%s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu",
               path, fields, strlen(body));
    buf_printf(&request, "\r\n\r\n%s", body);
    buf_append_u8(&request, 0);
    struct answer a = ask(b, f, (const char *)request.data);
    char line[4096];
    snprintf(line, sizeof line, "%s\n", want);
    if (a.status != status || strcmp(a.body, line) != 0)
        fail_msg("%s\n-> %s%s", body, a.head, a.body);
    free(a.body);
    buf_fini(&request);
}

#define ONE(body, want) post("", "", body, 200, want)
#define ERROR(body, want) post("", "", body, 400, want)

static void one_command(void **state) {
    ONE("[\"SET\",\"a\",\"v\"]", "{\"result\":\"OK\"}");
    ONE("[\"get\",\"a\"]", "{\"result\":\"v\"}");
    ONE("[\"GET\",\"none\"]", "{\"result\":null}");
    ONE("[\"SET\",\"n\",41]", "{\"result\":\"OK\"}");
    ONE("[\"INCRBY\",\"n\",1]", "{\"result\":42}");
    ONE("[\"SET\",\"r\",1.5]", "{\"result\":\"OK\"}");
    ONE("[\"MGET\",\"a\",\"none\",\"r\"]", "{\"result\":[\"v\",null,\"1.5\"]}");
    ONE("[\"HSET\",\"h\",\"yes\",true,\"no\",false]", "{\"result\":2}");
    ONE("[\"HMGET\",\"h\",\"yes\",\"no\"]", "{\"result\":[\"true\",\"false\"]}");
    ONE("[\"HSET\",\"one\",\"f\",\"x\"]", "{\"result\":1}");
    ONE("[\"HGETALL\",\"one\"]", "{\"result\":[\"f\",\"x\"]}");
    ONE("[\"TYPE\",\"one\"]", "{\"result\":\"hash\"}");
    ONE("[\"PING\"]", "{\"result\":\"PONG\"}");
    ONE("[\"PING\",\"x\"]", "{\"result\":\"x\"}");
    ONE("[\"ECHO\",\"\xc3\xa4\"]", "{\"result\":\"\xc3\xa4\"}");
}

/* A few bytes of text become many of memory: what is too much is not parsed. */
static void many_values(void **state) {
    static const struct {
        const char *before, *repeated, *behind;
        size_t count;
        int status;
        const char *want;
    } rows[] = {
        {"[\"MGET\"", ",[]", "]", (1 << 21) - 1, 413, "too many values"},
        {"[\"MGET\"", ",0", "]", 1 << 21, 413, "too many values"},
        {"[\"MGET\"", ",0", "]", (1 << 21) - 2, 400, "at most 1048576 arguments"},
        {"[\"STRLEN\",\"k\\\\\"", ",0", "]", 1 << 21, 413, "too many values"},
        {"[\"SET\",\"k\",\"\\\"", ",[{", "\\\\\"]", 800000, 200, "{\"result\":\"OK\"}"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct buf body = {0}, request = {0};
        buf_append_str(&body, rows[i].before);
        for (size_t k = 0; k < rows[i].count; k++)
            buf_append_str(&body, rows[i].repeated);
        buf_append_str(&body, rows[i].behind);
        buf_printf(&request, "POST /v1/redis" HOST "Content-Length: %zu\r\n\r\n", body.size);
        buf_append_slice(&request, buf_slice(&body));
        bench_feed(b, f, buf_slice(&request), SIZE_MAX);
        struct answer a = take_answer(f, false);
        if (a.status != rows[i].status || !strstr(a.body, rows[i].want))
            fail_msg("%s -> %s%.200s", rows[i].before, a.head, a.body);
        free(a.body);
        buf_fini(&body);
        buf_fini(&request);
    }
}

static void errors(void **state) {
    ERROR("[\"NOPE\",\"x\"]",
          "{\"error\":\"ERR unknown command 'NOPE', with args beginning with: 'x' \"}");
    ERROR("[\"KV.GET\",\"x\"]",
          "{\"error\":\"ERR unknown command 'KV.GET', with args beginning with: 'x' \"}");
    ERROR("[\"GET\"]", "{\"error\":\"ERR wrong number of arguments for 'get' command\"}");
    ERROR("[\"SELECT\",1]",
          "{\"error\":\"ERR SELECT belongs to a connection and is not possible here\"}");
    ERROR("[\"GET\",null]", "{\"error\":\"ERR arguments are strings, numbers, true or false\"}");
    ERROR("[\"GET\",[1]]", "{\"error\":\"ERR arguments are strings, numbers, true or false\"}");
    ERROR("[]", "{\"error\":\"ERR the body is not an array with something in it\"}");
    ERROR("{}", "{\"error\":\"ERR the body is not an array with something in it\"}");
    ERROR("[\"GET\"",
          "{\"error\":\"ERR the body is not JSON: ']' expected near end of file (line 1, column "
          "6)\"}");
    ONE("[\"SET\",\"s\",\"x\"]", "{\"result\":\"OK\"}");
    ERROR("[\"INCR\",\"s\"]", "{\"error\":\"ERR value is not an integer or out of range\"}");
    post("/pipeline", "", "[\"GET\",\"s\"]", 200,
         "[{\"error\":\"ERR a command is an array: its name and its arguments\"},"
         "{\"error\":\"ERR a command is an array: its name and its arguments\"}]");
}

static void pipelines(void **state) {
    post("/pipeline", "",
         "[[\"SET\",\"a\",1],[\"NOPE\"],[\"INCR\",\"a\"],[\"PING\"],[\"GET\",\"a\"]]", 200,
         "[{\"result\":\"OK\"},{\"error\":\"ERR unknown command 'NOPE', with args beginning with: "
         "\"},{\"result\":2},{\"result\":\"PONG\"},{\"result\":\"2\"}]");
    uint64_t writes = b->gw->metrics.writes_total, reads = b->gw->metrics.reads_total;
    post("/pipeline", "", "[[\"GET\",\"a\"],[\"GET\",\"b\"]]", 200,
         "[{\"result\":\"2\"},{\"result\":null}]");
    assert_int_equal(b->gw->metrics.writes_total, writes);
    assert_int_equal(b->gw->metrics.reads_total, reads + 1);
    post("/pipeline", "", "[[\"PING\"],[\"NOPE\"]]", 200,
         "[{\"result\":\"PONG\"},{\"error\":\"ERR unknown command 'NOPE', with args beginning "
         "with: \"}]");
    post("/pipeline", "", "[[\"HSET\",\"h\",\"f\",1],[\"INCR\",\"h\"],[\"HLEN\",\"h\"]]", 200,
         "[{\"result\":1},{\"error\":\"WRONGTYPE Operation against a key holding the wrong kind of "
         "value\"},{\"result\":1}]");
}

static void transactions(void **state) {
    post("/multi-exec", "", "[[\"SET\",\"a\",1],[\"INCR\",\"a\"]]", 200,
         "[{\"result\":\"OK\"},{\"result\":2}]");
    post(
        "/multi-exec", "", "[[\"SET\",\"a\",7],[\"NOPE\"]]", 400,
        "{\"error\":\"EXECABORT Transaction discarded because of: ERR unknown command 'NOPE', with "
        "args beginning with: \"}");
    ONE("[\"GET\",\"a\"]", "{\"result\":\"2\"}");
    post("/multi-exec", "", "[[\"PING\"]]", 200, "[{\"result\":\"PONG\"}]");
}

static void base64(void **state) {
    const char *field = "Upstash-Encoding: base64\r\n";
    post("", field, "[\"SET\",\"a\",\"v\"]", 200, "{\"result\":\"OK\"}");
    post("", field, "[\"GET\",\"a\"]", 200, "{\"result\":\"dg==\"}");
    post("", field, "[\"SET\",\"ok\",\"OK\"]", 200, "{\"result\":\"OK\"}");
    post("", field, "[\"GET\",\"ok\"]", 200, "{\"result\":\"T0s=\"}");
    post("", field, "[\"TYPE\",\"a\"]", 200, "{\"result\":\"c3RyaW5n\"}");
    post("/pipeline", field, "[[\"GET\",\"a\"],[\"STRLEN\",\"a\"],[\"GET\",\"none\"]]", 200,
         "[{\"result\":\"dg==\"},{\"result\":1},{\"result\":null}]");
}

static void repeated_safely(void **state) {
    const char *key = "Idempotency-Key: one\r\n", *other = "Idempotency-Key: two\r\n";
    post("", key, "[\"INCR\",\"n\"]", 200, "{\"result\":1}");
    post("", key, "[\"INCR\",\"n\"]", 200, "{\"result\":1}");
    post("/pipeline", other, "[[\"INCR\",\"n\"],[\"GET\",\"n\"]]", 200,
         "[{\"result\":2},{\"result\":\"2\"}]");
    post("/pipeline", other, "[[\"INCR\",\"n\"],[\"GET\",\"n\"]]", 200,
         "[{\"result\":2},{\"result\":\"2\"}]");
    /* On a read it means nothing. */
    post("", key, "[\"GET\",\"n\"]", 200, "{\"result\":\"2\"}");
    post("/pipeline", key, "[[\"GET\",\"n\"],[\"GET\",\"n\"]]", 200,
         "[{\"result\":\"2\"},{\"result\":\"2\"}]");
}

static void outcomes(void **state) {
    assert_true(fake_stream_feed_str(f, BODY("POST", "/v1/redis", "12", "[\"INCR\",\"n\"]")));
    fake_upstream_answer_with(b->up, 0, UPSTREAM_UNKNOWN, "-UNAVAILABLE no answer in time\r\n");
    bench_settle(b);
    struct answer a = take_answer(f, false);
    assert_int_equal(a.status, 503);
    assert_string_equal(a.body,
                        "{\"error\":\"UNAVAILABLE no answer in time\",\"applied\":\"unknown\"}\n");
    free(a.body);
    assert_true(fake_stream_feed_str(f, BODY("POST", "/v1/redis", "11", "[\"GET\",\"n\"]")));
    fake_upstream_answer_with(b->up, 0, UPSTREAM_DONE, "?\r\n");
    bench_settle(b);
    a = take_answer(f, false);
    assert_int_equal(a.status, 500);
    free(a.body);
    struct fake_stream *g = bench_http(b);
    assert_true(fake_stream_feed_str(
        g, BODY("POST", "/v1/redis/pipeline", "24", "[[\"PING\"],[\"GET\",\"n\"]]")));
    bench_hang_up(b, g);
    assert_int_equal(fake_upstream_pending(b->up), 0);
}

/* A read behind a write of the same connection sees it, in whatever way both go. */
static void in_order(void **state) {
    bench_feed(b, f,
               slice_str(BODY("POST", "/v1/redis", "15", "[\"SET\",\"o\",\"1\"]")
                             BODY("POST", "/v1/redis", "11", "[\"GET\",\"o\"]")
                                 BODY("POST", "/v1/redis", "12", "[\"INCR\",\"o\"]")
                                     BODY("POST", "/v1/redis", "11", "[\"GET\",\"o\"]")),
               SIZE_MAX);
    static const char *const want[] = {"{\"result\":\"OK\"}\n", "{\"result\":\"1\"}\n",
                                       "{\"result\":2}\n", "{\"result\":\"2\"}\n"};
    for (size_t i = 0; i < ARRAY_COUNT(want); i++) {
        struct answer a = take_answer(f, false);
        assert_string_equal(a.body, want[i]);
        free(a.body);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_command),     TEST(many_values),  TEST(errors),
        TEST(pipelines),       TEST(transactions), TEST(base64),
        TEST(repeated_safely), TEST(outcomes),     TEST(in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
