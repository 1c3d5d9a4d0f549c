/* Percent-encoding, query strings, durations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/url.h"

static void test_decode(void **state) {
    static const struct {
        const char *in;
        const char *want; /* NULL: malformed */
    } cases[] = {
        {"", ""},       {"abc", "abc"},         {"a%20b", "a b"}, {"%2f%2F", "//"},
        {"a+b", "a+b"}, {"%C3%bc", "\xc3\xbc"}, {"%25", "%"},     {"%2525", "%25"},
        {"%", NULL},    {"a%2", NULL},          {"%2g", NULL},    {"%g2", NULL},
        {"%%20", NULL}, {"ok%20%", NULL},       {"%u0041", NULL}, {"% 20", NULL},
        {"%+1", NULL},  {"%:0", NULL},          {"%@0", NULL},    {"\xff", "\xff"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        buf_reset(&out);
        buf_append_str(&out, "x");
        size_t size = strlen(cases[i].in);
        uint8_t *copy = xmemdup(cases[i].in, size);
        bool good = url_decode(&out, slice_of(copy, size));
        free(copy);
        const char *want = cases[i].want ? cases[i].want : "";
        if (good != (cases[i].want != NULL) ||
            !slice_equal_str(slice_of(out.data + 1, out.size - 1), want))
            fail_msg("%s", cases[i].in);
    }
    buf_reset(&out);
    assert_true(url_decode(&out, slice_str("a%00b")));
    assert_int_equal(out.size, 3);
    assert_int_equal(out.data[1], 0);
    buf_fini(&out);
}

static void test_encode(void **state) {
    struct buf out = {0}, back = {0};
    url_encode(&out, slice_of("aZ09-._~ /?\xc3\0", 13), "");
    assert_true(slice_equal_str(buf_slice(&out), "aZ09-._~%20%2F%3F%C3%00"));
    buf_reset(&out);
    url_encode(&out, slice_of("a/b:c\0", 6), "/");
    assert_true(slice_equal_str(buf_slice(&out), "a/b%3Ac%00"));
    uint8_t all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    buf_reset(&out);
    url_encode(&out, slice_of(all, 256), "");
    assert_true(url_decode(&back, buf_slice(&out)));
    assert_true(slice_equal(buf_slice(&back), slice_of(all, 256)));
    buf_fini(&out);
    buf_fini(&back);
}

static void test_query_get(void **state) {
    static const struct {
        const char *query;
        const char *name;
        int result;
        const char *want;
    } cases[] = {
        {"", "a", 0, ""},
        {"a=1", "a", 1, "1"},
        {"a=1&b=2", "b", 1, "2"},
        {"a=1&a=2", "a", 1, "1"},
        {"a", "a", 1, ""},
        {"a=", "a", 1, ""},
        {"a&b", "b", 1, ""},
        {"&&a=1&", "a", 1, "1"},
        {"a=b=c", "a", 1, "b=c"},
        {"ab=1", "a", 0, ""},
        {"a=1", "ab", 0, ""},
        {"A=1", "a", 0, ""},
        {"a=1+2%2B3", "a", 1, "1 2+3"},
        {"%61=1", "a", 1, "1"},
        {"a+b=1", "a b", 1, "1"},
        {"a%00=1", "a", 0, ""},
        {"=1", "a", 0, ""},
        {"=1", "", 1, "1"},
        {"a=%", "a", -1, ""},
        {"%=1&a=1", "a", -1, ""},
        {"a=1&b=%", "a", 1, "1"},
        {"b=%&a=1", "a", 1, "1"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        buf_reset(&out);
        int r = url_query_get(slice_str(cases[i].query), cases[i].name, &out);
        if (r != cases[i].result || !slice_equal_str(buf_slice(&out), cases[i].want))
            fail_msg("%s of %s: %d '%.*s'", cases[i].name, cases[i].query, r, (int)out.size,
                     out.data);
    }
    buf_fini(&out);
}

static void collect(void *ctx, struct slice name, struct slice value) {
    struct buf *out = ctx;
    buf_append_char(out, '<');
    buf_append_slice(out, name);
    buf_append_char(out, '|');
    buf_append_slice(out, value);
    buf_append_char(out, '>');
}

static void test_query_each(void **state) {
    struct buf out = {0};
    url_query_each(slice_str("a=1&&b&=x&%41=+&c="), collect, &out);
    assert_true(slice_equal_str(buf_slice(&out), "<a|1><b|><|x><%41|+><c|>"));
    buf_reset(&out);
    url_query_each(slice_of(NULL, 0), collect, &out);
    assert_int_equal(out.size, 0);
    buf_fini(&out);
}

static void test_durations(void **state) {
    static const struct {
        const char *in;
        int64_t want; /* -1: malformed */
    } cases[] = {
        {"30s", 30000},
        {"500ms", 500},
        {"5m", 300000},
        {"2h", 7200000},
        {"7d", 604800000},
        {"30", 30000},
        {"0", 0},
        {"0ms", 0},
        {"9007199254740992ms", 9007199254740992},
        {"9007199254740993ms", -1},
        {"9007199254740s", 9007199254740000},
        {"9007199254741s", -1},
        {"18446744073709551615d", -1},
        {"18446744073709551616", -1},
        {"", -1},
        {"s", -1},
        {"-1s", -1},
        {"+1s", -1},
        {"1 s", -1},
        {" 1s", -1},
        {"1.5s", -1},
        {"01s", -1},
        {"1S", -1},
        {"1ss", -1},
        {"1w", -1},
        {"1m30s", -1},
        {"0x1s", -1},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint64_t ms = 77;
        bool good = duration_parse_ms(slice_str(cases[i].in), &ms);
        uint64_t want = cases[i].want < 0 ? 77 : (uint64_t)cases[i].want;
        if (good != (cases[i].want >= 0) || ms != want)
            fail_msg("%s", cases[i].in);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),    cmocka_unit_test(test_encode),
        cmocka_unit_test(test_query_get), cmocka_unit_test(test_query_each),
        cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
