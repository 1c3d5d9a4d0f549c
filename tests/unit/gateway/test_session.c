/* /v1/session: documents, cookies, their life, and who comes late. */
#include "http_client.h"

static struct bench *b;
static struct fake_stream *f;
static char token[64];

#define DAY_MS ((uint64_t)24 * 60 * 60 * 1000)

static int setup(void **state) {
    b = bench_new(NULL);
    f = bench_http(b);
    token[0] = 0;
    return 0;
}

static int teardown(void **state) {
    bench_hang_up(b, f);
    bench_free(b);
    return 0;
}

/* Sends one with the cookie that was set last; keeps the one that is set. */
static struct answer visit(const char *method, const char *body) {
    struct buf request = {0};
    buf_printf(&request, "%s /v1/session HTTP/1.1\r\nHost: localhost\r\n", method);
    if (token[0])
        buf_printf(&request, "Cookie: other=1; cotidal_session=%s\r\n", token);
    if (body)
        buf_printf(&request, "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    else
        buf_append_str(&request, "\r\n");
    buf_append_u8(&request, 0);
    struct answer a = ask(b, f, (const char *)request.data);
    const char *set = strstr(a.head, "\r\nSet-Cookie: cotidal_session=");
    if (set) {
        set = strchr(set, '=') + 1;
        snprintf(token, sizeof token, "%.*s", (int)strcspn(set, ";"), set);
        assert_non_null(strstr(set, "; Path=/; Max-Age="));
        assert_non_null(strstr(set, "; HttpOnly; SameSite=Lax\r\n"));
    }
    buf_fini(&request);
    return a;
}

static void says(const char *method, const char *body, int status, const char *part) {
    struct answer a = visit(method, body);
    if (a.status != status || (part && !strstr(a.body, part)))
        fail_msg("%s %s\n-> %s%s", method, body ? body : "", a.head, a.body);
    free(a.body);
}

static void life(void **state) {
    says("GET", NULL, 404, "no_session");
    says("PATCH", "{\"cart\":{\"tea\":1},\"name\":\"ann\"}", 201,
         "{\"cart\":{\"tea\":1},\"name\":\"ann\"}");
    assert_int_equal(strlen(token), 40);
    char first[64];
    strcpy(first, token);
    says("PATCH", "{\"cart\":{\"tea\":null,\"milk\":2}}", 200,
         "{\"cart\":{\"milk\":2},\"name\":\"ann\"}");
    assert_string_equal(token, first);
    says("GET", NULL, 200, "{\"cart\":{\"milk\":2},\"name\":\"ann\"}");
    says("DELETE", NULL, 204, NULL);
    assert_string_equal(token, "");
    says("GET", NULL, 404, "no_session");
    /* What comes late does not bring it back, nor does it begin a new one. */
    strcpy(token, first);
    says("PATCH", "{\"cart\":{}}", 401, "session_ended");
    says("GET", NULL, 401, "session_ended");
    says("DELETE", NULL, 204, NULL);
    strcpy(token, first);
    says("GET", NULL, 401, "session_ended");
}

/* A cookie that names no session is never taken over. */
static void ids_are_ours(void **state) {
    strcpy(token, "0123456789012345678901234567890123456789");
    says("GET", NULL, 404, "no_session");
    says("PATCH", "{\"a\":1}", 201, "{\"a\":1}");
    assert_string_not_equal(token, "0123456789012345678901234567890123456789");
    strcpy(token, "../../x");
    says("GET", NULL, 404, "no_session");
    says("DELETE", NULL, 204, NULL);
}

static void sliding_expiry(void **state) {
    says("PATCH", "{\"a\":1}", 201, NULL);
    struct answer a = visit("GET", NULL);
    assert_null(strstr(a.head, "Set-Cookie"));
    free(a.body);
    /* The fake store's time is not the gateway's: only the gateway looks at what is left. */
    b->wall_ms = 1700000000000 + 10 * DAY_MS;
    a = visit("GET", NULL);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.head, "Max-Age=2592000"));
    free(a.body);
}

/* Two at once: the second finds the document changed, reads it again, and both patches are in it.
 */
static void lost_race(void **state) {
    says("PATCH", "{\"a\":1}", 201, NULL);
    struct fake_stream *g = bench_http(b);
    struct buf one = {0};
    buf_printf(&one,
               "PATCH /v1/session HTTP/1.1\r\nHost: x\r\nCookie: cotidal_session=%s\r\n"
               "Content-Length: 7\r\n\r\n{\"b\":2}",
               token);
    assert_true(fake_stream_feed(g, buf_slice(&one)));
    bench_turn(b);
    fake_upstream_answer(b->up, 0); /* it has read */
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_DONE, "*2\r\n:412\r\n:7\r\n");
    bench_settle(b);
    struct answer a = take_answer(g, false);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "{\"a\":1,\"b\":2}");
    free(a.body);
    buf_fini(&one);
    bench_hang_up(b, g);
}

static void outcomes(void **state) {
    says("PATCH", "{\"a\":1}", 201, NULL);
    struct buf request = {0};
    buf_printf(&request,
               "PATCH /v1/session HTTP/1.1\r\nHost: x\r\nCookie: cotidal_session=%s\r\n"
               "Content-Length: 7\r\n\r\n{\"b\":2}",
               token);
    assert_true(fake_stream_feed(f, buf_slice(&request)));
    fake_upstream_answer(b->up, 0);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_UNKNOWN, "-UNAVAILABLE no answer in time\r\n");
    bench_settle(b);
    struct answer a = take_answer(f, false);
    assert_int_equal(a.status, 503);
    assert_non_null(strstr(a.body, "\"applied\":\"unknown\""));
    free(a.body);
    /* The client goes away in the middle. */
    struct fake_stream *g = bench_http(b);
    assert_true(fake_stream_feed(g, buf_slice(&request)));
    fake_upstream_answer(b->up, 0);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    bench_hang_up(b, g);
    assert_int_equal(fake_upstream_pending(b->up), 0);
    assert_int_equal(fake_upstream_forgotten(b->up), 1);
    buf_fini(&request);
}

/* What is pipelined behind a patch sees it. */
static void in_order(void **state) {
    says("PATCH", "{\"n\":0}", 201, NULL);
    struct buf request = {0};
    for (int i = 1; i <= 3; i++)
        buf_printf(&request,
                   "PATCH /v1/session HTTP/1.1\r\nHost: x\r\nCookie: cotidal_session=%s\r\n"
                   "Content-Length: 7\r\n\r\n{\"n\":%d}"
                   "GET /v1/session HTTP/1.1\r\nHost: x\r\nCookie: cotidal_session=%s\r\n\r\n",
                   token, i, token);
    bench_feed(b, f, buf_slice(&request), SIZE_MAX);
    for (int i = 1; i <= 3; i++) {
        char want[16];
        snprintf(want, sizeof want, "{\"n\":%d}", i);
        for (int k = 0; k < 2; k++) {
            struct answer a = take_answer(f, false);
            assert_string_equal(a.body, want);
            free(a.body);
        }
    }
    buf_fini(&request);
}

static void bad_requests(void **state) {
    says("PATCH", "", 400, "not a JSON object");
    says("PATCH", "[]", 400, "a JSON object");
    says("PATCH", "{\"a\":1,\"a\":2}", 400, "duplicate");
    expect(b, f, "PATCH /v1/session" HOST "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
           415, "merge-patch");
    expect(b, f, GET("/v1/session?x=1"), 400, "unknown parameter");
    expect(b, f,
           "PATCH /v1/session" HOST "Origin: http://evil.example\r\nContent-Length: 2\r\n\r\n{}",
           403, "another site");
    struct buf deep = {0};
    for (int i = 0; i < 33; i++)
        buf_append_str(&deep, "{\"a\":");
    buf_append_str(&deep, "1");
    for (int i = 0; i < 33; i++)
        buf_append_char(&deep, '}');
    buf_append_u8(&deep, 0);
    says("PATCH", (const char *)deep.data, 400, "levels");
    buf_fini(&deep);
    /* It grows patch by patch up to its limit, and stays as it was then. */
    struct buf patch = {0};
    for (int i = 0; i < 3; i++) {
        buf_reset(&patch);
        buf_printf(&patch, "{\"k%d\":\"", i);
        for (int n = 0; n < 30000; n++)
            buf_append_char(&patch, 'x');
        buf_append_str(&patch, "\"}");
        buf_append_u8(&patch, 0);
        says("PATCH", (const char *)patch.data, i == 0 ? 201 : i == 1 ? 200 : 413, NULL);
    }
    says("PATCH", "{\"k0\":null,\"k1\":null}", 200, "{}");
    buf_fini(&patch);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(life),     TEST(ids_are_ours), TEST(sliding_expiry), TEST(lost_race),
        TEST(outcomes), TEST(in_order),     TEST(bad_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
