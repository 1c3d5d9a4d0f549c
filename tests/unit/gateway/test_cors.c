/* Pages of other origins. */
#include "gateway/access.h"
#include "http_client.h"

static const uint8_t loopback[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};

static struct fake_stream *local(struct bench *b) {
    struct fake_stream *s = bench_http(b);
    memcpy(s->ip, loopback, sizeof s->ip);
    return s;
}

#define PREFLIGHT(path, origin)                                                                    \
    "OPTIONS " path HOST "Origin: " origin "\r\nAccess-Control-Request-Method: PUT\r\n\r\n"

static void test_named(void **state) {
    static const char *const origins[] = {"https://shop.example"};
    const struct access_options access = {.cors = origins, .cors_count = 1};
    const struct gateway_options options = {.access = &access};
    struct bench *b = bench_new(&options);
    struct fake_stream *s = local(b);
    (void)state;
    struct answer a = ask(b, s, PREFLIGHT("/v1/kv/a", "https://shop.example"));
    assert_int_equal(a.status, 204);
    assert_string_equal(field(&a, "Access-Control-Allow-Origin"), "https://shop.example");
    assert_string_equal(field(&a, "Access-Control-Allow-Credentials"), "true");
    assert_string_equal(field(&a, "Access-Control-Allow-Methods"),
                        "GET, HEAD, PUT, POST, PATCH, DELETE");
    assert_non_null(strstr(a.head, "Authorization"));
    assert_string_equal(field(&a, "Vary"), "Origin");
    free(a.body);
    a = ask(b, s,
            "PUT /v1/kv/a" HOST "Origin: https://shop.example\r\nSec-Fetch-Site: "
            "cross-site\r\nContent-Length: 1\r\n\r\n1");
    assert_int_equal(a.status, 201);
    assert_string_equal(field(&a, "Access-Control-Allow-Origin"), "https://shop.example");
    assert_non_null(field(&a, "Access-Control-Expose-Headers"));
    free(a.body);
    /* Errors can be read too. */
    a = ask(b, s, "GET /v1/kv/none" HOST "Origin: https://shop.example\r\n\r\n");
    assert_int_equal(a.status, 404);
    assert_non_null(field(&a, "Access-Control-Allow-Origin"));
    free(a.body);
    /* Others are as foreign as ever, and so is what is not /v1. */
    a = ask(b, s, PREFLIGHT("/v1/kv/a", "https://evil.example"));
    assert_null(field(&a, "Access-Control-Allow-Origin"));
    assert_null(field(&a, "Access-Control-Allow-Methods"));
    free(a.body);
    a = ask(b, s,
            "PUT /v1/kv/a" HOST "Origin: https://shop.example.evil\r\nContent-Length: 1\r\n\r\n1");
    assert_int_equal(a.status, 403);
    assert_null(field(&a, "Access-Control-Allow-Origin"));
    free(a.body);
    a = ask(b, s, PREFLIGHT("/_/tokens", "https://shop.example"));
    assert_null(field(&a, "Access-Control-Allow-Origin"));
    free(a.body);
    bench_free(b);
}

static void test_any(void **state) {
    static const char *const origins[] = {"*"};
    const struct access_options access = {.cors = origins, .cors_count = 1};
    const struct gateway_options options = {.access = &access};
    struct bench *b = bench_new(&options);
    struct fake_stream *s = local(b);
    char request[512], text[ACCESS_TEXT_BYTES + 1] = "";
    (void)state;
    /* What has not the form of a token is none. */
    struct answer a = ask(b, s,
                          "PUT /v1/kv/a" HOST "Origin: https://any.example\r\n"
                          "Authorization: Bearer x\r\nContent-Length: 1\r\n\r\n1");
    assert_int_equal(a.status, 403);
    free(a.body);
    a = ask(b, s, BODY("POST", "/_/tokens", "14", "{\"admin\":true}"));
    assert_int_equal(a.status, 201);
    snprintf(text, sizeof text, "%s", strstr(a.body, "ct_"));
    free(a.body);
    a = ask(b, s, PREFLIGHT("/v1/kv/a", "https://any.example"));
    assert_string_equal(field(&a, "Access-Control-Allow-Origin"), "*");
    assert_null(field(&a, "Access-Control-Allow-Credentials"));
    free(a.body);
    snprintf(request, sizeof request,
             "PUT /v1/kv/a" HOST "Origin: https://any.example\r\nAuthorization: Bearer %s\r\n"
             "Content-Length: 1\r\n\r\n1",
             text);
    a = ask(b, s, request);
    assert_int_equal(a.status, 201);
    assert_string_equal(field(&a, "Access-Control-Allow-Origin"), "*");
    assert_null(field(&a, "Access-Control-Allow-Credentials"));
    free(a.body);
    /* Without a token a page from anywhere gets nothing, though its browser runs here. */
    a = ask(b, s, "PUT /v1/kv/a" HOST "Origin: https://any.example\r\nContent-Length: 1\r\n\r\n1");
    assert_int_equal(a.status, 403);
    free(a.body);
    a = ask(b, s, "GET /v1/kv/a" HOST "Origin: https://any.example\r\n\r\n");
    assert_int_equal(a.status, 200);
    assert_null(field(&a, "Access-Control-Allow-Origin"));
    free(a.body);
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_named), cmocka_unit_test(test_any)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
