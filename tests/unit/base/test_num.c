/* Numbers as Redis reads and writes them. The expected forms are those of redis-server 7.0. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/num.h"

static void test_parse_i64(void **state) {
    static const struct {
        const char *in;
        int64_t want;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"-1", -1},
        {"10", 10},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"-9223372036854775807", INT64_MIN + 1},
    };
    static const char *const bad[] = {
        "",
        "-",
        "+1",
        " 1",
        "1 ",
        "01",
        "-01",
        "00",
        "-0",
        "--1",
        "1.0",
        "1e3",
        "0x1",
        "a",
        "1a",
        "\n1",
        "1\n",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "99999999999999999999999",
        "-99999999999999999999999",
        "18446744073709551617",
        "-18446744073709551615",
    };
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        int64_t v;
        assert_true(num_parse_i64(slice_str(good[i].in), &v));
        assert_int_equal(v, good[i].want);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        int64_t v = 77;
        if (num_parse_i64(slice_str(bad[i]), &v))
            fail_msg("accepted '%s'", bad[i]);
        assert_int_equal(v, 77);
    }
    int64_t v;
    assert_false(num_parse_i64(slice_of("1\0", 2), &v));
    assert_false(num_parse_i64(slice_of(NULL, 0), &v));
}

static void test_parse_u64(void **state) {
    uint64_t v = 77;
    assert_true(num_parse_u64(slice_str("18446744073709551615"), &v));
    assert_int_equal(v, UINT64_MAX);
    static const char *const bad[] = {"18446744073709551616",
                                      "28446744073709551615",
                                      "99999999999999999999",
                                      "100000000000000000000",
                                      "-1",
                                      "",
                                      "01"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        if (num_parse_u64(slice_str(bad[i]), &v))
            fail_msg("accepted '%s'", bad[i]);
}

static void test_append_integers(void **state) {
    struct buf b = {0};
    num_append_i64(&b, INT64_MIN);
    buf_append_char(&b, ' ');
    num_append_i64(&b, INT64_MAX);
    buf_append_char(&b, ' ');
    num_append_i64(&b, 0);
    buf_append_char(&b, ' ');
    num_append_i64(&b, -10);
    buf_append_char(&b, ' ');
    num_append_u64(&b, UINT64_MAX);
    assert_true(slice_equal_str(
        buf_slice(&b), "-9223372036854775808 9223372036854775807 0 -10 18446744073709551615"));
    buf_fini(&b);
}

static void test_parse_float(void **state) {
    static const struct {
        const char *in;
        long double want;
    } good[] = {
        {"0", 0},
        {"-0", 0},
        {"1", 1},
        {"+1", 1},
        {"01", 1},
        {"1.5", 1.5L},
        {".5", .5L},
        {"5.", 5},
        {"1e3", 1000},
        {"1E-2", 1e-2L},
        {"0x10", 16},
        {"inf", INFINITY},
        {"-inf", -INFINITY},
        {"+Infinity", INFINITY},
        {"3.0000000000000000000001", 3.0000000000000000000001L},
    };
    static const char *const bad[] = {"",      " 1",     "1 ",      "\t1",     "\n1",    "\v1",
                                      "1\n",   "nan",    "-nan",    "NaN",     "nan(1)", "1,5",
                                      "1.5.5", "e3",     "1e",      "abc",     "1a",     "-",
                                      ".",     "1e5000", "-1e5000", "1e-5000", "0x"};
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        long double v;
        if (!num_parse_float(slice_str(good[i].in), &v))
            fail_msg("refused '%s'", good[i].in);
        assert_true(v == good[i].want);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        long double v = 77;
        if (num_parse_float(slice_str(bad[i]), &v))
            fail_msg("accepted '%s'", bad[i]);
        assert_true(v == 77);
    }
    long double v;
    assert_false(num_parse_float(slice_of("1\0", 2), &v));
    assert_false(num_parse_float(slice_of("1\0"
                                          "1",
                                          3),
                                 &v));
    char text[5 * 1024 + 1];
    memset(text, '0', sizeof text);
    text[4000] = '1';
    assert_true(num_parse_float(slice_of(text, 4001), &v));
    assert_true(v == 1);
    assert_true(num_parse_float(slice_of(text + 4000, 300), &v));
    assert_false(num_parse_float(slice_of(text, 5 * 1024), &v));
}

static void test_append_float(void **state) {
    static const struct {
        long double in;
        const char *want;
    } cases[] = {
        {0, "0"},
        {-0.0L, "0"},
        {1, "1"},
        {-1.5L, "-1.5"},
        {10, "10"},
        {100, "100"},
        {10.5L, "10.5"},
        {3.1L, "3.1"},
        {0.1L, "0.1"},
        {0.1L + 0.2L, "0.3"},
        {5.0e3L, "5000"},
        {1e20L, "100000000000000000000"},
        {1e-17L, "0.00000000000000001"},
        {1e-18L, "0"},
        {-1e-18L, "0"},
        {1.0L / 3, "0.33333333333333333"},
        {2.0L / 3, "0.66666666666666667"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
    };
    struct buf b = {0};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        buf_reset(&b);
        num_append_float(&b, cases[i].in);
        if (!slice_equal_str(buf_slice(&b), cases[i].want))
            fail_msg("'%.*s' instead of '%s'", (int)b.size, b.data, cases[i].want);
    }
    buf_reset(&b);
    num_append_float(&b, -__LDBL_MAX__);
    assert_int_equal(b.size, 1 + 4933);
    buf_fini(&b);
}

static void test_parse_bytes(void **state) {
    static const struct {
        const char *in;
        uint64_t want;
    } good[] = {
        {"0", 0},        {"100", 100},    {"1k", 1024},       {"64K", 65536},
        {"2M", 2 << 20}, {"1g", 1 << 30}, {"3T", 3ull << 40}, {"16777215T", 16777215ull << 40},
        {"0K", 0}};
    static const char *const bad[] = {"", "K", "1 K", "1KB", "-1", "1.5M", "16777216T", "1P", "+"};
    uint64_t got;
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        assert_true(num_parse_bytes(slice_str(good[i].in), &got));
        assert_true(got == good[i].want);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_false(num_parse_bytes(slice_str(bad[i]), &got));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_i64),       cmocka_unit_test(test_parse_u64),
        cmocka_unit_test(test_append_integers), cmocka_unit_test(test_parse_float),
        cmocka_unit_test(test_append_float),    cmocka_unit_test(test_parse_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
