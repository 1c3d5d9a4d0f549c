/* Neutral replies: how they are written, and walking them when they are good, cut or lying. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/reply.h"

static void test_writing(void **state) {
    struct buf b = {0};
    reply_simple(&b, "OK");
    reply_error(&b, "ERR %s", "a\r\nb");
    reply_int(&b, INT64_MIN);
    reply_bulk(&b, slice_of("a\0b", 3));
    reply_bulk(&b, slice_of(NULL, 0));
    reply_bulk_str(&b, "x");
    reply_null(&b);
    reply_null_array(&b);
    reply_array(&b, 2);
    reply_map(&b, 3);
    reply_set(&b, 4);
    reply_double(&b, 0.1);
    reply_double(&b, 3);
    reply_double(&b, -INFINITY);
    reply_bool(&b, true);
    reply_bool(&b, false);
    static const char want[] = "+OK\r\n-ERR a  b\r\n:-9223372036854775808\r\n$3\r\na\0b\r\n"
                               "$0\r\n\r\n$1\r\nx\r\n$-1\r\n*-1\r\n*2\r\n%3\r\n~4\r\n"
                               ",0.10000000000000001\r\n,3\r\n,-inf\r\n#t\r\n#f\r\n";
    assert_int_equal(b.size, sizeof want - 1);
    assert_memory_equal(b.data, want, b.size);
    buf_fini(&b);
}

static void test_is_error_and_null(void **state) {
    assert_true(reply_is_error(slice_str("-ERR x\r\n")));
    assert_false(reply_is_error(slice_str(":-1\r\n")));
    assert_false(reply_is_error(slice_of(NULL, 0)));
    assert_true(reply_is_null(slice_str("$-1\r\n")));
    assert_true(reply_is_null(slice_str("*-1\r\n")));
    assert_false(reply_is_null(slice_str(":-1\r\n")));
    assert_false(reply_is_null(slice_str("$1\r\n-\r\n")));
}

static void test_next(void **state) {
    static const struct {
        const char *in;
        char type;
        int64_t integer;
        const char *bytes; /* NULL: not looked at */
        uint64_t children;
    } cases[] = {
        {"+OK\r\n", '+', 0, "OK", 0},          {"+\r\n", '+', 0, "", 0},
        {"-ERR no\r\n", '-', 0, "ERR no", 0},  {":-5\r\n", ':', -5, NULL, 0},
        {"$3\r\nabc\r\n", '$', 3, "abc", 0},   {"$0\r\n\r\n", '$', 0, "", 0},
        {"$2\r\n\r\n\r\n", '$', 2, "\r\n", 0}, {"$-1\r\n", 'n', -1, NULL, 0},
        {"*-1\r\n", 'n', -1, NULL, 0},         {"*2\r\n", '*', 2, NULL, 2},
        {"~2\r\n", '~', 2, NULL, 2},           {"%2\r\n", '%', 2, NULL, 4},
        {"*0\r\n", '*', 0, NULL, 0},           {",1.5\r\n", ',', 0, "1.5", 0},
        {"#t\r\n", '#', 1, NULL, 0},           {"#f\r\n", '#', 0, NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buf b = {0};
        struct reply_item item;
        buf_append_str(&b, cases[i].in);
        buf_append_str(&b, "+next\r\n");
        struct slice in = buf_slice(&b);
        assert_true(reply_next(&in, &item));
        assert_true(slice_equal_str(in, "+next\r\n"));
        assert_int_equal(item.type, cases[i].type);
        assert_int_equal(item.integer, cases[i].integer);
        assert_int_equal(reply_item_children(&item), cases[i].children);
        if (cases[i].bytes)
            assert_true(slice_equal_str(item.bytes, cases[i].bytes));
        for (size_t n = 0; n < strlen(cases[i].in); n++) {
            uint8_t *cut = xmemdup(cases[i].in, n);
            in = slice_of(cut, n);
            assert_false(reply_next(&in, &item));
            assert_int_equal(in.size, n);
            free(cut);
        }
        buf_fini(&b);
    }
}

static void test_next_malformed(void **state) {
    static const char *const bad[] = {"OK\r\n",
                                      "_\r\n",
                                      "\r\n",
                                      "!3\r\nabc\r\n",
                                      "(1\r\n",
                                      ">1\r\n",
                                      ":\r\n",
                                      ":1.5\r\n",
                                      ":01\r\n",
                                      "$a\r\n",
                                      "$-2\r\n",
                                      "$4\r\nabc\r\n",
                                      "$2\r\nabc\r\n",
                                      "$3\r\nabcd\r",
                                      "$3\r\nabc\n\n",
                                      "*\r\n",
                                      "*-2\r\n",
                                      "%-1\r\n",
                                      "~-1\r\n",
                                      "#\r\n",
                                      "#T\r\n",
                                      "#tt\r\n",
                                      "+a\rb\r\n",
                                      "+OK\r\r\n",
                                      "$9223372036854775807\r\na\r\n",
                                      "$9223372036854775808\r\na\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct slice in = slice_str(bad[i]);
        struct reply_item item = {.type = 'x'};
        if (reply_next(&in, &item))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(in.size, strlen(bad[i]));
        assert_int_equal(item.type, 'x');
    }
}

static void test_skip(void **state) {
    static const char nested[] = "%2\r\n+a\r\n*2\r\n:1\r\n~1\r\n*-1\r\n+b\r\n%0\r\n";
    struct buf b = {0};
    buf_append_str(&b, nested);
    buf_append_str(&b, ":1\r\n");
    struct slice in = buf_slice(&b);
    assert_true(reply_skip(&in));
    assert_true(slice_equal_str(in, ":1\r\n"));
    for (size_t n = 0; n < sizeof nested - 1; n++) {
        in = slice_of(nested, n);
        assert_false(reply_skip(&in));
        assert_int_equal(in.size, n);
    }
    /* a million levels: walking must not recurse */
    buf_reset(&b);
    for (int i = 0; i < 1000000; i++)
        buf_append_str(&b, "*1\r\n");
    buf_append_str(&b, ":1\r\n");
    in = buf_slice(&b);
    assert_true(reply_skip(&in));
    assert_int_equal(in.size, 0);
    buf_fini(&b);
}

static void test_skip_counts_that_lie(void **state) {
    static const char *const bad[] = {
        "*2\r\n:1\r\n",
        "*1000000000\r\n:1\r\n",
        "*9223372036854775807\r\n:1\r\n",
        "%9223372036854775807\r\n:1\r\n:1\r\n",
        /* the elements awaited, 2 + 2 * (2^63 - 1), wrap to zero in 64 bits */
        "*3\r\n%9223372036854775807\r\n",
        "*3\r\n:1\r\n~9223372036854775807\r\n*9223372036854775807\r\n",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct slice in = slice_str(bad[i]);
        if (reply_skip(&in))
            fail_msg("accepted: %s", bad[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writing), cmocka_unit_test(test_is_error_and_null),
        cmocka_unit_test(test_next),    cmocka_unit_test(test_next_malformed),
        cmocka_unit_test(test_skip),    cmocka_unit_test(test_skip_counts_that_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
