/* Templates of requests become bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/bench.h"

static const struct {
    enum bench_protocol protocol;
    uint64_t wait;
    const char *header;
    const char *text;
    const char *want; /* NULL: refused */
} cases[] = {
    {BENCH_REDIS, 0, NULL, "GET {key}", "*2\r\n$3\r\nGET\r\n$16\r\nbench:0000000042\r\n"},
    {BENCH_REDIS, 0, NULL, "SET a:{key}:{key} {value}",
     "*3\r\n$3\r\nSET\r\n$35\r\na:bench:0000000042:bench:0000000042\r\n$4\r\nval!\r\n"},
    {BENCH_REDIS, 2, NULL, "SET k <{value}>",
     "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\n<val!>\r\n*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$1\r\n0\r\n"},
    {BENCH_REDIS, 0, NULL, "ECHO \"a b\\n{ke\" ''",
     "*3\r\n$4\r\nECHO\r\n$7\r\na b\n{ke\r\n$0\r\n\r\n"},
    {BENCH_REDIS, 0, NULL, "", NULL},
    {BENCH_REDIS, 0, NULL, "  ", NULL},
    {BENCH_REDIS, 0, NULL, "GET \"a", NULL},
    {BENCH_REDIS, 0, NULL, "*1", NULL},
    {BENCH_REDIS, 0, NULL, "GET a\r\nGET b", NULL},
    {BENCH_HTTP, 0, NULL, "GET /v1/kv/{key}?x={key}",
     "GET /v1/kv/bench:0000000042?x=bench:0000000042 HTTP/1.1\r\nHost: h:1\r\n\r\n"},
    {BENCH_HTTP, 0, NULL, "PUT /{key} {value} {value}",
     "PUT /bench:0000000042 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 9\r\n\r\nval! val!"},
    {BENCH_HTTP, 0, "A: b", "POST /x",
     "POST /x HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 0\r\n\r\n"},
    {BENCH_HTTP, 0, "no colon", "GET /", NULL},
    {BENCH_HTTP, 0, "A: b\r\nC: d", "GET /", NULL},
    {BENCH_HTTP, 0, NULL, "GET", NULL},
    {BENCH_HTTP, 0, NULL, "GET x", NULL},
    {BENCH_HTTP, 0, NULL, "GET  /", NULL},
    {BENCH_HTTP, 0, NULL, "HEAD /", NULL},
    {BENCH_HTTP, 0, NULL, "GET /a\tb", NULL},
};

static void test_templates(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct bench_request_form form = {.protocol = cases[i].protocol,
                                                .host = "h:1",
                                                .header = cases[i].header,
                                                .value = slice_str("val!"),
                                                .wait = cases[i].wait};
        struct bench_request request;
        struct buf out = {0};
        const char *wrong = bench_request_make(&form, cases[i].text, &request);
        if ((wrong == NULL) != (cases[i].want != NULL))
            fail_msg("%s: %s", cases[i].text, wrong ? wrong : "was taken");
        if (!wrong) {
            buf_append_char(&out, '!'); /* places count from where the request begins */
            bench_request_append(&out, &request, 42);
            if (!slice_equal_str(slice_of(out.data + 1, out.size - 1), cases[i].want))
                fail_msg("%s: %.*s", cases[i].text, (int)out.size, (char *)out.data);
        }
        buf_fini(&out);
        bench_request_fini(&request);
    }
}

/* The template stays as it is: each request has its own key. */
static void test_keys(void **state) {
    const struct bench_request_form form = {.protocol = BENCH_HTTP, .host = "h"};
    struct bench_request request;
    struct buf out = {0};
    assert_null(bench_request_make(&form, "GET /{key}", &request));
    bench_request_append(&out, &request, 9999999999);
    bench_request_append(&out, &request, 0);
    assert_true(slice_equal_str(buf_slice(&out),
                                "GET /bench:9999999999 HTTP/1.1\r\nHost: h\r\n\r\n"
                                "GET /bench:0000000000 HTTP/1.1\r\nHost: h\r\n\r\n"));
    buf_fini(&out);
    bench_request_fini(&request);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
