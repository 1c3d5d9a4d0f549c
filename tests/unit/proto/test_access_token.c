/* Patterns of keys, the texts of tokens, and their records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/access_token.h"

static void test_patterns(void **state) {
    static const char *const good[] = {"a", "a/*", "*", "caf\xc3\xa9/*", "a:b-c_d.e"};
    static const char *const bad[] = {"",    "*a",   "a*b", "a**", "a?",
                                      "[a]", "a\\*", "a b", "a\n", "\x7f"};
    struct access_list l = {0};
    char text[ACCESS_PATTERN_BYTES_MAX + 1];
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        assert_true(access_pattern_ok(slice_str(good[i])));
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_false(access_pattern_ok(slice_str(bad[i])));
    memset(text, 'x', sizeof text);
    assert_true(access_pattern_ok(slice_of(text, sizeof text - 1)));
    assert_false(access_pattern_ok(slice_of(text, sizeof text)));
    assert_false(access_list_has_key(&l, slice_str("")));
    assert_false(access_list_has_prefix(&l, slice_str("")));
    assert_true(access_list_add(&l, slice_str("public/*")));
    assert_true(access_list_add(&l, slice_str("one")));
    assert_true(access_list_has_key(&l, slice_str("public/")));
    assert_true(access_list_has_key(&l, slice_str("public/a/b")));
    assert_true(access_list_has_key(&l, slice_str("one")));
    assert_false(access_list_has_key(&l, slice_str("one1")));
    assert_false(access_list_has_key(&l, slice_str("on")));
    assert_false(access_list_has_key(&l, slice_str("public")));
    assert_false(access_list_has_key(&l, slice_str("")));
    assert_true(access_list_has_prefix(&l, slice_str("public/")));
    assert_true(access_list_has_prefix(&l, slice_str("public/x")));
    assert_false(access_list_has_prefix(&l, slice_str("public")));
    assert_false(access_list_has_prefix(&l, slice_str("one")));
    assert_false(access_list_has_prefix(&l, slice_str("")));
    while (l.count < ACCESS_LIST_MAX)
        assert_true(access_list_add(&l, slice_str("*")));
    assert_false(access_list_add(&l, slice_str("*")));
    assert_true(access_list_has_prefix(&l, slice_str("")));
    access_list_fini(&l);
}

static void test_texts(void **state) {
    char text[ACCESS_TEXT_BYTES + 2] = "ct_";
    (void)state;
    memset(text + 3, 'a', 64);
    assert_true(access_text_ok(slice_of(text, ACCESS_TEXT_BYTES)));
    assert_false(access_text_ok(slice_of(text, ACCESS_TEXT_BYTES - 1)));
    assert_false(access_text_ok(slice_of(text, ACCESS_TEXT_BYTES + 1)));
    for (size_t i = 0; i < ACCESS_TEXT_BYTES; i++) {
        char was = text[i];
        text[i] = 'A';
        assert_false(access_text_ok(slice_of(text, ACCESS_TEXT_BYTES)));
        text[i] = was;
    }
}

static bool parses(const char *text) {
    struct access_token t = {0};
    bool ok = access_record_parse(slice_str(text), &t);
    if (ok)
        access_token_fini(&t);
    return ok;
}

#define HEAD "name n\ncreated 5\n"

static void test_records(void **state) {
    static const char *const bad[] = {"",
                                      "name n\n",
                                      "created 5\n",
                                      "name n\ncreated 5",
                                      HEAD "name m\n",
                                      HEAD "created 6\n",
                                      HEAD "admin\nadmin\n",
                                      HEAD "admin yes\n",
                                      HEAD "deploy 1\n",
                                      HEAD "read\n",
                                      HEAD "read a b\n",
                                      HEAD "write *x\n",
                                      HEAD "nonsense\n",
                                      HEAD "\n",
                                      "name \ncreated 5\n",
                                      "name a b\ncreated 5\n",
                                      "name n\ncreated -1\n",
                                      "name n\ncreated \n"};
    struct access_token t = {.name = "carts", .created_ms = 1700000000000, .deploy = true}, u = {0};
    struct buf out = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        if (parses(bad[i]))
            fail_msg("parsed: %s", bad[i]);
    assert_true(parses(HEAD));
    assert_true(access_list_add(&t.read, slice_str("public/*")));
    assert_true(access_list_add(&t.write, slice_str("carts/*")));
    access_record_append(&out, &t);
    assert_true(access_record_parse(buf_slice(&out), &u));
    assert_string_equal(u.name, "carts");
    assert_true(u.created_ms == 1700000000000 && u.deploy && !u.admin);
    assert_true(access_token_reads(&u, slice_str("public/x")));
    assert_false(access_token_reads(&u, slice_str("carts/x")));
    assert_true(access_token_writes(&u, slice_str("carts/x")));
    assert_false(access_token_writes(&u, slice_str("public/x")));
    assert_true(access_token_reads_prefix(&u, slice_str("public/x")));
    access_token_fini(&u);
    /* Every prefix of it is either a record of its own or refused; nothing is read behind its end.
     */
    for (size_t n = 0; n < out.size; n++) {
        uint8_t *copy = n ? xmemdup(out.data, n) : NULL;
        struct access_token part = {0};
        if (access_record_parse(slice_of(copy, n), &part))
            access_token_fini(&part);
        free(copy);
    }
    while (out.size <= ACCESS_RECORD_BYTES_MAX)
        buf_append_str(&out, "read x\n");
    u = (struct access_token){0};
    assert_false(access_record_parse(buf_slice(&out), &u));
    buf_fini(&out);
    access_token_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_patterns),
                                       cmocka_unit_test(test_texts),
                                       cmocka_unit_test(test_records)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
