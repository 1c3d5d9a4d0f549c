/* Patterns: the answers are those that redis-server 7.0 gave to KEYS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/glob.h"

static bool matches(const char *pattern, const char *text) {
    return glob_match(slice_str(pattern), slice_str(text));
}

static void test_matches(void **state) {
    static const struct {
        const char *pattern, *text;
    } good[] = {
        {"", ""},          {"*", ""},        {"**", "abc"},        {"abc", "abc"},
        {"a*", "a"},       {"a*", "abc"},    {"*c", "abc"},        {"a*c", "ac"},
        {"a*b*c", "abbc"}, {"*a*a*", "aa"},  {"?", "x"},           {"a?c", "abc"},
        {"[abc]", "b"},    {"[a-c]", "b"},   {"[c-a]", "b"},       {"[^a-c]", "d"},
        {"[^]", "x"},      {"[a", "a"},      {"[a-", "-"},         {"[a-", "a"},
        {"[\\]]", "]"},    {"[\\-]", "-"},   {"[a-]", "a"},        {"[a-]", "]"},
        {"\\*", "*"},      {"a\\", "a\\"},   {"\\a", "a"},         {"[*]", "*"},
        {"[\\", "\\"},     {"*[0-9]", "k7"}, {"*\\?*", "really?"}, {"[!]", "!"},
        {"*ab", "aab"},    {"*ab*", "abab"}, {"*?", "x"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        if (!matches(good[i].pattern, good[i].text))
            fail_msg("'%s' should match '%s'", good[i].pattern, good[i].text);
}

static void test_does_not_match(void **state) {
    static const struct {
        const char *pattern, *text;
    } bad[] = {
        {"", "a"},        {"a", ""},       {"?", ""},      {"?", "ab"},   {"abc", "ABC"},
        {"a*c", "ab"},    {"a*b*c", "ac"}, {"[abc]", "d"}, {"[a-c]", ""}, {"[^a-c]", "b"},
        {"[]", "x"},      {"[]", ""},      {"\\*", "a"},   {"\\?", "x"},  {"[!a]", "b"},
        {"*a*a*", "a"},   {"[\\]", "x"},   {"a", "ab"},    {"*?", ""},    {"[a-]", "-"},
        {"a**b", "acbd"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        if (matches(bad[i].pattern, bad[i].text))
            fail_msg("'%s' should not match '%s'", bad[i].pattern, bad[i].text);
}

static void test_bytes(void **state) {
    const uint8_t every[] = {0, 1, 0x7F, 0x80, 0xFF, '\n'};
    struct slice text = slice_of(every, sizeof every);
    assert_true(glob_match(text, text));
    assert_true(glob_match(slice_str("??????"), text));
    assert_true(glob_match(slice_of("\0*", 2), text));
    assert_true(glob_match(slice_str("*[\x80-\xFF]?"), text));
    assert_false(glob_match(slice_str("?"), slice_of("\0\0", 2)));
}

/* A matcher that tries every star again would not come back from this. */
static void test_no_explosion(void **state) {
    char text[20001], pattern[402];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (size_t i = 0; i < 400; i += 2)
        memcpy(pattern + i, "a*", 2);
    strcpy(pattern + 400, "b");
    assert_false(matches(pattern, text));
}

static struct slice tail(struct slice text) {
    return slice_of(text.data + 1, text.size - 1);
}

/* Compares with the definition, written down as a recursion, over all short patterns and texts. */
static bool simple_match(struct slice p, struct slice t) {
    if (p.size == 0)
        return t.size == 0;
    if (p.data[0] == '*')
        return simple_match(tail(p), t) || (t.size > 0 && simple_match(p, tail(t)));
    return t.size > 0 && (p.data[0] == '?' || p.data[0] == t.data[0]) &&
           simple_match(tail(p), tail(t));
}

static void test_all_short_patterns(void **state) {
    static const char letters[] = "ab*?";
    for (unsigned p = 0; p < 4 * 4 * 4 * 4 * 4; p++) {
        char pattern[6] = {0};
        for (unsigned i = 0, rest = p; i < 5; i++, rest /= 4)
            pattern[i] = letters[rest % 4];
        for (unsigned t = 0; t < 64; t++) {
            char text[7] = {0};
            for (unsigned i = 0; i < 6; i++)
                text[i] = letters[t >> i & 1];
            if (matches(pattern, text) != simple_match(slice_str(pattern), slice_str(text)))
                fail_msg("'%s' on '%s'", pattern, text);
            text[t % 7] = 0;
            if (matches(pattern, text) != simple_match(slice_str(pattern), slice_str(text)))
                fail_msg("'%s' on '%s'", pattern, text);
        }
    }
}

static void test_literal_prefix(void **state) {
    static const struct {
        const char *pattern, *prefix;
    } cases[] = {{"", ""},     {"abc", "abc"},  {"abc*", "abc"}, {"*abc", ""},
                 {"a?c", "a"}, {"ab[c]", "ab"}, {"a\\*", "a"}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        assert_true(
            slice_equal_str(glob_literal_prefix(slice_str(cases[i].pattern)), cases[i].prefix));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_does_not_match),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_no_explosion),
        cmocka_unit_test(test_all_short_patterns),
        cmocka_unit_test(test_literal_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
