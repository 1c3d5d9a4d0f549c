/* _access files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/site_access.h"

static void test_rules(void **state) {
    static const char text[] = "# who may what\n\n"
                               "read  public/* news\r\n"
                               "\twrite feedback/* rate=2/s,10\n"
                               "incr likes/* rate=5/s\n"
                               "session";
    struct site_access a = {0};
    char error[SITE_ACCESS_ERROR_BYTES];
    (void)state;
    assert_true(site_access_parse(slice_str(text), &a, error));
    assert_int_equal(a.rule_count, 4);
    assert_ptr_equal(site_access_key(&a, SITE_READ, slice_str("public/x")), &a.rules[0]);
    assert_ptr_equal(site_access_key(&a, SITE_READ, slice_str("news")), &a.rules[0]);
    assert_null(site_access_key(&a, SITE_READ, slice_str("news2")));
    assert_null(site_access_key(&a, SITE_READ, slice_str("feedback/x")));
    assert_null(site_access_key(&a, SITE_WRITE, slice_str("public/x")));
    assert_ptr_equal(site_access_key(&a, SITE_WRITE, slice_str("feedback/x")), &a.rules[1]);
    assert_int_equal(a.rules[1].rate_per_s, 2);
    assert_int_equal(a.rules[1].rate_burst, 10);
    assert_ptr_equal(site_access_key(&a, SITE_INCR, slice_str("likes/x")), &a.rules[2]);
    assert_ptr_equal(site_access_key(&a, SITE_INCR, slice_str("feedback/x")), &a.rules[1]);
    assert_null(site_access_key(&a, SITE_WRITE, slice_str("likes/x")));
    assert_ptr_equal(site_access_prefix(&a, slice_str("public/a")), &a.rules[0]);
    assert_null(site_access_prefix(&a, slice_str("news")));
    assert_null(site_access_prefix(&a, slice_str("")));
    assert_ptr_equal(site_access_session(&a), &a.rules[3]);
    site_access_fini(&a);
    assert_true(site_access_parse(slice_str(""), &a, error));
    assert_null(site_access_session(&a));
    assert_null(site_access_key(&a, SITE_READ, slice_str("x")));
    /* Split at every point: each beginning is a file of its own, or refused with its line. */
    for (size_t n = 0; n < sizeof text; n++) {
        char *copy = n ? xmemdup(text, n) : NULL;
        struct site_access part = {0};
        if (site_access_parse(slice_of(copy, n), &part, error))
            site_access_fini(&part);
        else
            assert_memory_equal(error, "line ", 5);
        free(copy);
    }
}

static void refused(const char *text, const char *error_part) {
    struct site_access a = {0};
    char error[SITE_ACCESS_ERROR_BYTES];
    if (site_access_parse(slice_str(text), &a, error))
        fail_msg("parsed: %s", text);
    if (!strstr(error, error_part))
        fail_msg("%s -> %s", text, error);
    assert_int_equal(a.rule_count, 0);
}

static void test_mistakes(void **state) {
    struct buf many = {0};
    (void)state;
    refused("read", "line 1: which keys");
    refused("\n\nread rate=1/s", "line 3: which keys");
    refused("delete a", "line 1: a rule begins");
    refused("Read a", "line 1: a rule begins");
    refused("read a*b", "line 1: a pattern");
    refused("read a rate=0/s", "rate=");
    refused("read a rate=1", "rate=");
    refused("read a rate=1/s,0", "rate=");
    refused("read a rate=1/s b", "ends a rule");
    refused("read a rate=1/s rate=1/s", "ends a rule");
    refused("session x", "session names no keys");
    for (int i = 0; i < SITE_RULES_MAX; i++)
        buf_append_str(&many, "read a\n");
    buf_append_str(&many, "# more\n");
    buf_append_char(&many, 0);
    struct site_access a = {0};
    char error[SITE_ACCESS_ERROR_BYTES];
    assert_true(site_access_parse(slice_str((char *)many.data), &a, error));
    site_access_fini(&a);
    many.size--;
    buf_append_str(&many, "read a\n");
    buf_append_char(&many, 0);
    refused((char *)many.data, "line 66: there are more");
    buf_reset(&many);
    for (int i = 0; i <= SITE_RATES_MAX; i++)
        buf_append_str(&many, "read a rate=1/s\n");
    buf_append_char(&many, 0);
    refused((char *)many.data, "line 17: more than 16");
    buf_reset(&many);
    while (many.size <= SITE_ACCESS_BYTES_MAX)
        buf_append_str(&many, "#\n");
    buf_append_char(&many, 0);
    refused((char *)many.data, "64 KiB");
    buf_fini(&many);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules),
                                       cmocka_unit_test(test_mistakes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
