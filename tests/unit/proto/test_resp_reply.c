/* Replies of a Redis server: where each ends and what it is, however the bytes arrive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/resp_reply.h"

static const struct {
    const char *bytes;
    char type; /* 0: not the protocol */
    int64_t integer;
    const char *text;
} cases[] = {
    {"+OK\r\n", '+', 0, "OK"},
    {"-ERR wrong\r\n", '-', 0, "ERR wrong"},
    {":-42\r\n", ':', -42, ""},
    {"$5\r\nhello\r\n", '$', 5, ""},
    {"$0\r\n\r\n", '$', 0, ""},
    {"$4\r\n\r\n\r\n\r\n", '$', 4, ""},
    {"$-1\r\n", 'n', -1, ""},
    {"*-1\r\n", 'n', -1, ""},
    {"_\r\n", 'n', 0, ""},
    {"*0\r\n", '*', 0, ""},
    {"*2\r\n:1\r\n$1\r\nx\r\n", '*', 2, ""},
    {"*2\r\n*2\r\n:1\r\n*0\r\n*1\r\n-ERR inner\r\n", '*', 2, ""},
    {"%1\r\n+a\r\n%1\r\n+b\r\n:2\r\n", '%', 1, ""},
    {"~1\r\n#t\r\n", '~', 1, ""},
    {",1.5\r\n", ',', 0, ""},
    {"=7\r\ntxt:abc\r\n", '=', 7, ""},
    {"!3\r\nERR\r\n", '-', 3, ""},
    /* A push is not the answer to anything. */
    {">2\r\n+message\r\n$1\r\nx\r\n:7\r\n", ':', 7, ""},
    {"OK\r\n", 0, 0, ""},
    {"\r\n", 0, 0, ""},
    {"+OK\n", 0, 0, ""},
    {":x\r\n", 0, 0, ""},
    {"$-2\r\n", 0, 0, ""},
    {"$99999999999999\r\n", 0, 0, ""},
    {"*2\r\n:1\r\nx\r\n", 0, 0, ""},
    {"*1000000000000\r\n*1000000000000\r\n", 0, 0, ""},
    {"HTTP/1.1 400 Bad Request\r\n", 0, 0, ""},
};

/* Hands over `step` bytes at a time, with one reply more behind them. */
static void take_in_steps(size_t i, size_t step) {
    struct resp_reply *r = xcalloc(1, sizeof *r);
    size_t size = strlen(cases[i].bytes);
    enum resp_reply_result result = RESP_REPLY_MORE;
    for (size_t at = 0; at < size && result == RESP_REPLY_MORE; at += step) {
        size_t n = step < size - at ? step : size - at;
        uint8_t *copy = xmemdup(cases[i].bytes + at, n);
        struct slice in = slice_of(copy, n);
        result = resp_reply_take(r, &in);
        if (result == RESP_REPLY_END && (in.size != 0 || at + n != size))
            fail_msg("%s ended too early", cases[i].bytes);
        free(copy);
    }
    struct slice next = slice_str("+next\r\n");
    if (!cases[i].type) {
        if (result != RESP_REPLY_BAD || resp_reply_take(r, &next) != RESP_REPLY_BAD)
            fail_msg("%s was taken", cases[i].bytes);
    } else {
        if (result != RESP_REPLY_END || r->type != cases[i].type ||
            r->integer != cases[i].integer || strcmp(r->text, cases[i].text) != 0)
            fail_msg("%s: %d, %c %s", cases[i].bytes, result, r->type, r->text);
        assert_int_equal(resp_reply_take(r, &next), RESP_REPLY_END);
        assert_string_equal(r->text, "next");
    }
    free(r);
}

static void test_each_in_pieces(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        for (size_t step = 1; step <= strlen(cases[i].bytes); step++)
            take_in_steps(i, step);
}

static void test_many_in_one_piece(void **state) {
    struct resp_reply r = {0};
    struct slice in = slice_str("+a\r\n:2\r\n$-1\r\n$3\r\n\r\n1\r\n+");
    static const char types[] = "+:n$";
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(resp_reply_take(&r, &in), RESP_REPLY_END);
        assert_int_equal(r.type, types[i]);
    }
    assert_int_equal(resp_reply_take(&r, &in), RESP_REPLY_MORE);
    assert_int_equal(in.size, 0);
}

/* A line that never ends is not kept, and a long error is cut. */
static void test_long_lines(void **state) {
    struct resp_reply r = {0};
    char bytes[RESP_REPLY_LINE_BYTES_MAX + 8];
    memset(bytes, 'x', sizeof bytes);
    bytes[0] = '-';
    struct slice in = slice_of(bytes, 600);
    assert_int_equal(resp_reply_take(&r, &in), RESP_REPLY_MORE);
    in = slice_str("\r\n");
    assert_int_equal(resp_reply_take(&r, &in), RESP_REPLY_END);
    assert_int_equal(strlen(r.text), RESP_REPLY_TEXT_BYTES - 1);
    in = slice_of(bytes, sizeof bytes);
    assert_int_equal(resp_reply_take(&r, &in), RESP_REPLY_BAD);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_in_pieces),
        cmocka_unit_test(test_many_in_one_piece),
        cmocka_unit_test(test_long_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
