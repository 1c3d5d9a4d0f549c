/* Negotiation of content codings, and the lists behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/http_encoding.h"
#include "proto/http_list.h"

enum { I = 1 << HTTP_ENCODING_IDENTITY, G = 1 << HTTP_ENCODING_GZIP, B = 1 << HTTP_ENCODING_BR };
enum { ID = HTTP_ENCODING_IDENTITY, GZ = HTTP_ENCODING_GZIP, BR = HTTP_ENCODING_BR, NO = -1 };

static const struct {
    const char *value;
    int all;   /* identity, gzip and br are there */
    int gzip;  /* identity and gzip */
    int plain; /* identity only */
} cases[] = {
    {"gzip, deflate, br", BR, GZ, ID},
    {"gzip, deflate, br, zstd", BR, GZ, ID},
    {"gzip", GZ, GZ, ID},
    {"GZIP, BR", BR, GZ, ID},
    {"x-gzip", GZ, GZ, ID},
    {"br", BR, ID, ID},
    {"", ID, ID, ID},
    {"deflate", ID, ID, ID},
    {"identity", ID, ID, ID},
    {"*", BR, GZ, ID},
    {"gzip;q=1.0, br;q=0.5", GZ, GZ, ID},
    {"gzip;q=0.5, br;q=0.5", BR, GZ, ID},
    {"br;q=0.001", BR, ID, ID},
    {"br;q=0, gzip", GZ, GZ, ID},
    {"br;q=0, *", GZ, GZ, ID},
    {"gzip;q=0.5, identity", ID, ID, ID},
    {"gzip;q=0.5, identity;q=0.4", GZ, GZ, ID},
    {"gzip, identity", GZ, GZ, ID},
    {"identity;q=0", NO, NO, NO},
    {"*;q=0", NO, NO, NO},
    {"identity;q=0, gzip", GZ, GZ, NO},
    {"*;q=0, gzip", GZ, GZ, NO},
    {"*;q=0, identity;q=0.1", ID, ID, ID},
    {"gzip;q=0, br;q=0", ID, ID, ID},
    {"gzip;q=0, gzip;q=1", GZ, GZ, ID},
    {" gzip ;q=0.8 ,\tbr ; q=0.9", BR, GZ, ID},
    {"gzip;Q=0.8", GZ, GZ, ID},
    {",,gzip,,", GZ, GZ, ID},
    {"gzip;level=9;q=0.2, br;q=0.1", GZ, GZ, ID},
    /* malformed members are nothing */
    {"gzip;q=1.5, br;q=0.1", BR, ID, ID},
    {"gzip;q=0.1234", ID, ID, ID},
    {"gzip;q=", ID, ID, ID},
    {"gzip;q=-1", ID, ID, ID},
    {"gzip;q=.5", ID, ID, ID},
    {"gzip;q=1.001", ID, ID, ID},
    {"gzip;q=1.000", GZ, GZ, ID},
    {"gzip;q=0.000", ID, ID, ID},
    {"gzip;q=1.", GZ, GZ, ID},
    {"\"a,br\", gzip", GZ, GZ, ID},
};

static void test_choose(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        size_t size = strlen(cases[i].value);
        uint8_t *copy = xmemdup(cases[i].value, size);
        struct slice value = slice_of(copy, size);
        int all = http_encoding_choose_value(value, I | G | B);
        int gzip = http_encoding_choose_value(value, I | G);
        int plain = http_encoding_choose_value(value, I);
        free(copy);
        if (all != cases[i].all || gzip != cases[i].gzip || plain != cases[i].plain)
            fail_msg("'%s': %d %d %d", cases[i].value, all, gzip, plain);
    }
}

static void test_choose_of_head(void **state) {
    static struct http_head head;
    assert_int_equal(http_encoding_choose(&head, I | G | B), ID);
    head.header_count = 3;
    head.headers[0] = (struct http_header){slice_str("Accept-Encoding"), slice_str("gzip;q=0.5")};
    head.headers[1] = (struct http_header){slice_str("Accept"), slice_str("br")};
    head.headers[2] = (struct http_header){slice_str("accept-encoding"), slice_str("identity;q=0")};
    assert_int_equal(http_encoding_choose(&head, I | G | B), GZ); /* two fields are one list */
    assert_int_equal(http_encoding_choose(&head, I | B), NO);
}

static void test_names(void **state) {
    assert_null(http_encoding_name(HTTP_ENCODING_IDENTITY));
    assert_string_equal(http_encoding_name(HTTP_ENCODING_GZIP), "gzip");
    assert_string_equal(http_encoding_suffix(HTTP_ENCODING_BR), ".br");
    assert_string_equal(http_encoding_suffix(HTTP_ENCODING_IDENTITY), "");
}

static void test_lists(void **state) {
    struct slice list = slice_str(" a , \"x,\\\",;\" ;q=0.25,;q=1, b;q=0.5;c=d"), item;
    int weight;
    assert_true(http_list_next(&list, &item, &weight));
    assert_true(slice_equal_str(item, "a"));
    assert_int_equal(weight, 1000);
    assert_true(http_list_next(&list, &item, &weight));
    assert_true(slice_equal_str(item, "\"x,\\\",;\""));
    assert_int_equal(weight, 250);
    assert_true(http_list_next(&list, &item, &weight));
    assert_int_equal(item.size, 0);
    assert_true(http_list_next(&list, &item, &weight));
    assert_true(slice_equal_str(item, "b"));
    assert_int_equal(weight, 500);
    assert_false(http_list_next(&list, &item, &weight));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_choose_of_head),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
