/* JSON text: commas, escapes, broken UTF-8, numbers; base64. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/json_out.h"

static void test_nesting(void **state) {
    struct buf out = {0};
    struct json_out j;
    json_out_begin(&j, &out);
    json_out_object(&j);
    json_out_key(&j, "a");
    json_out_array(&j);
    json_out_u64(&j, UINT64_MAX);
    json_out_i64(&j, INT64_MIN);
    json_out_object(&j);
    json_out_end(&j, '}');
    json_out_array(&j);
    json_out_end(&j, ']');
    json_out_null(&j);
    json_out_end(&j, ']');
    json_out_key_slice(&j, slice_of("b\"\0", 3));
    json_out_bool(&j, true);
    json_out_key(&j, "c");
    json_out_object(&j);
    json_out_key(&j, "");
    json_out_bool(&j, false);
    json_out_end(&j, '}');
    json_out_key(&j, "d");
    json_out_str(&j, "");
    json_out_end(&j, '}');
    assert_true(slice_equal_str(buf_slice(&out),
                                "{\"a\":[18446744073709551615,-9223372036854775808,{},[],null],"
                                "\"b\\\"\\u0000\":true,\"c\":{\"\":false},\"d\":\"\"}"));
    buf_fini(&out);
}

static void test_deepest(void **state) {
    struct buf out = {0};
    struct json_out j;
    json_out_begin(&j, &out);
    for (int i = 0; i < JSON_OUT_DEPTH_MAX; i++)
        json_out_array(&j);
    json_out_u64(&j, 1);
    for (int i = 0; i < JSON_OUT_DEPTH_MAX; i++)
        json_out_end(&j, ']');
    assert_int_equal(out.size, 2 * JSON_OUT_DEPTH_MAX + 1);
    buf_fini(&out);
}

#define BAD "\xef\xbf\xbd"

static void test_strings(void **state) {
    static const struct {
        const char *in;
        const char *want;
        bool utf8;
    } cases[] = {
        {"", "", true},
        {"plain /'<>\x7f", "plain /'<>\x7f", true},
        {"\"\\\n\r\t\b\f\x1f", "\\\"\\\\\\n\\r\\t\\u0008\\u000c\\u001f", true},
        {"\xc3\xbc", "\xc3\xbc", true},
        {"\xe2\x82\xac|\xf0\x9f\x8c\x8a", "\xe2\x82\xac|\xf0\x9f\x8c\x8a", true},
        {"\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80", true},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf", true},
        {"a\x80z", "a" BAD "z", false},
        {"\xff\xfe", BAD BAD, false},
        {"\xc0\x80", BAD BAD, false},         /* overlong NUL */
        {"\xc1\xbf", BAD BAD, false},         /* overlong */
        {"\xe0\x9f\xbf", BAD BAD BAD, false}, /* overlong */
        {"\xf0\x8f\xbf\xbf", BAD BAD BAD BAD, false},
        {"\xed\xa0\x80", BAD BAD BAD, false}, /* a surrogate */
        {"\xf4\x90\x80\x80", BAD BAD BAD BAD, false},
        {"\xf5\x80", BAD BAD, false},
        {"\xc3", BAD, false}, /* cut short: one for the whole */
        {"\xe2\x82", BAD, false},
        {"\xf0\x9f\x8c", BAD, false},
        {"\xe2\x82z", BAD "z", false},
        {"\xf0\x9f\x8c\xf0\x9f\x8c\x8a", BAD "\xf0\x9f\x8c\x8a", false},
        {"\xc3\"", BAD "\\\"", false},
        /* the example of Unicode 15 table 3-8 */
        {"\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", BAD BAD BAD "b" BAD "c" BAD BAD "d",
         false},
    };
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct json_out j;
        size_t size = strlen(cases[i].in);
        uint8_t *copy = xmemdup(cases[i].in, size);
        buf_reset(&out);
        json_out_begin(&j, &out);
        json_out_string(&j, slice_of(copy, size));
        assert_int_equal(out.data[0], '"');
        assert_int_equal(out.data[out.size - 1], '"');
        if (!slice_equal_str(slice_of(out.data + 1, out.size - 2), cases[i].want))
            fail_msg("%zu: %.*s", i, (int)out.size, out.data);
        assert_int_equal(json_out_is_utf8(slice_of(copy, size)), cases[i].utf8);
        assert_true(json_out_is_utf8(buf_slice(&out)));
        free(copy);
    }
    assert_true(json_out_is_utf8(slice_of(NULL, 0)));
    buf_fini(&out);
}

static void test_doubles(void **state) {
    static const struct {
        double in;
        const char *want;
    } cases[] = {
        {0, "0"},
        {-0.0, "-0"},
        {0.1, "0.1"},
        {1.0 / 3, "0.3333333333333333"},
        {1e300, "1e+300"},
        {5e-324, "4.94065645841247e-324"},
        {123456789, "123456789"},
        {0.1 + 0.2, "0.30000000000000004"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
        {NAN, "null"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct json_out j;
        buf_reset(&out);
        json_out_begin(&j, &out);
        json_out_double(&j, cases[i].in);
        if (!slice_equal_str(buf_slice(&out), cases[i].want))
            fail_msg("%s: %.*s", cases[i].want, (int)out.size, out.data);
    }
    buf_fini(&out);
}

static void test_base64(void **state) {
    /* RFC 4648 section 10 */
    static const char *const cases[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        buf_reset(&out);
        base64_append(&out, slice_str(cases[i][0]));
        assert_true(slice_equal_str(buf_slice(&out), cases[i][1]));
    }
    buf_reset(&out);
    base64_append(&out, slice_of("\xff\xef\xbe\0", 4));
    assert_true(slice_equal_str(buf_slice(&out), "/+++AA=="));
    buf_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nesting), cmocka_unit_test(test_deepest),
        cmocka_unit_test(test_strings), cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
