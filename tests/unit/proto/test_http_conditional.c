/* Preconditions in the order of RFC 9110 section 13.2.2, and dates against glibc's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/http_conditional.h"

enum { NOW = 1700000000 };
#define BEFORE "Tue, 14 Nov 2023 00:00:00 GMT"  /* 1699920000 */
#define CHANGED "Tue, 14 Nov 2023 01:00:00 GMT" /* the file's */
#define AFTER "Tue, 14 Nov 2023 02:00:00 GMT"

static const struct http_validators file = {{(const uint8_t *)"\"abc\"", 5}, 1699923600};

static struct http_head head_of(enum http_method method, const char *const *fields) {
    static struct http_head head;
    head = (struct http_head){.method = method};
    for (; fields[0]; fields += 2)
        head.headers[head.header_count++] =
            (struct http_header){slice_str(fields[0]), slice_str(fields[1])};
    return head;
}

static const struct {
    const char *rule;
    const char *fields[9];
    int get;   /* 0, 304 or 412 */
    int other; /* of a PUT */
} cases[] = {
    {"nothing", {"Accept", "*/*"}, 0, 0},
    {"If-None-Match: the same", {"If-None-Match", "\"abc\""}, 304, 412},
    {"weak is the same", {"if-none-match", "W/\"abc\""}, 304, 412},
    {"another", {"If-None-Match", "\"abd\""}, 0, 0},
    {"in a list", {"If-None-Match", "\"x\", W/\"y\" ,\"abc\""}, 304, 412},
    {"not in a list", {"If-None-Match", "\"x\",\"ab\",\"abcd\""}, 0, 0},
    {"*", {"If-None-Match", "*"}, 304, 412},
    {"* is no member", {"If-None-Match", "\"x\", *"}, 0, 0},
    {"two fields", {"If-None-Match", "\"x\"", "If-None-Match", "\"abc\""}, 304, 412},
    {"no quotes", {"If-None-Match", "abc"}, 0, 0},
    {"broken before", {"If-None-Match", "abc, \"abc\""}, 0, 0},
    {"broken behind", {"If-None-Match", "\"abc\", abc"}, 304, 412},
    {"no comma", {"If-None-Match", "\"abc\" \"x\""}, 0, 0},
    {"w is not W", {"If-None-Match", "w/\"abc\""}, 0, 0},
    {"empty", {"If-None-Match", ""}, 0, 0},
    {"unterminated", {"If-None-Match", "\"abc"}, 0, 0},
    {"If-Match: the same", {"If-Match", "\"abc\""}, 0, 0},
    {"If-Match: weak is not", {"If-Match", "W/\"abc\""}, 412, 412},
    {"If-Match: another", {"If-Match", "\"x\""}, 412, 412},
    {"If-Match: *", {"If-Match", "*"}, 0, 0},
    {"If-Match: list", {"If-Match", "W/\"abc\", \"abc\""}, 0, 0},
    {"If-Match: empty", {"If-Match", ""}, 412, 412},
    {"If-Modified-Since: before", {"If-Modified-Since", BEFORE}, 0, 0},
    {"equal", {"If-Modified-Since", CHANGED}, 304, 0},
    {"after", {"If-Modified-Since", AFTER}, 304, 0},
    {"malformed", {"If-Modified-Since", "yesterday"}, 0, 0},
    {"twice", {"If-Modified-Since", AFTER, "If-Modified-Since", AFTER}, 0, 0},
    {"If-Unmodified-Since: before", {"If-Unmodified-Since", BEFORE}, 412, 412},
    {"equal", {"If-Unmodified-Since", CHANGED}, 0, 0},
    {"malformed", {"If-Unmodified-Since", "0"}, 0, 0},
    {"If-None-Match goes before", {"If-None-Match", "\"x\"", "If-Modified-Since", AFTER}, 0, 0},
    {"and", {"If-None-Match", "\"abc\"", "If-Modified-Since", BEFORE}, 304, 412},
    {"If-Match goes before", {"If-Match", "\"abc\"", "If-Unmodified-Since", BEFORE}, 0, 0},
    {"If-Match first", {"If-None-Match", "\"abc\"", "If-Match", "\"x\""}, 412, 412},
    {"If-Match, then If-None-Match", {"If-Match", "\"abc\"", "If-None-Match", "\"abc\""}, 304, 412},
    {"If-Unmodified-Since, then If-None-Match",
     {"If-Unmodified-Since", AFTER, "If-None-Match", "\"abc\""},
     304,
     412},
    {"both dates", {"If-Unmodified-Since", AFTER, "If-Modified-Since", AFTER}, 304, 0},
};

static void test_preconditions(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct http_head get = head_of(HTTP_GET, cases[i].fields);
        struct http_head head = head_of(HTTP_HEAD, cases[i].fields);
        struct http_head put = head_of(HTTP_PUT, cases[i].fields);
        if ((int)http_conditional_check(&get, &file, NOW) != cases[i].get ||
            (int)http_conditional_check(&head, &file, NOW) != cases[i].get ||
            (int)http_conditional_check(&put, &file, NOW) != cases[i].other)
            fail_msg("%s", cases[i].rule);
    }
    /* Without a date the fields with dates say nothing. */
    struct http_validators undated = {file.etag, 0};
    const char *const since[] = {"If-Modified-Since", AFTER, "If-Unmodified-Since", BEFORE, NULL};
    struct http_head head = head_of(HTTP_GET, since);
    assert_int_equal(http_conditional_check(&head, &undated, NOW), 0);
}

static void test_if_range(void **state) {
    static const struct {
        const char *value;
        bool holds;
    } values[] = {
        {"\"abc\"", true}, {"W/\"abc\"", false}, {"\"x\"", false}, {"\"abc\", \"x\"", false},
        {"*", false},      {"", false},          {CHANGED, true},  {BEFORE, false},
        {AFTER, false},    {"abc", false},       {"\"abc", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
        const char *const fields[] = {"If-Range", values[i].value, NULL};
        struct http_head head = head_of(HTTP_GET, fields);
        if (http_if_range_holds(&head, &file, NOW) != values[i].holds)
            fail_msg("%s", values[i].value);
    }
    const char *const none[] = {"Range", "bytes=0-1", NULL};
    struct http_head head = head_of(HTTP_GET, none);
    assert_true(http_if_range_holds(&head, &file, NOW));
    const char *const twice[] = {"If-Range", "\"abc\"", "If-Range", "\"abc\"", NULL};
    head = head_of(HTTP_GET, twice);
    assert_false(http_if_range_holds(&head, &file, NOW));
    /* A date of this very second is no strong validator. */
    const char *const date[] = {"If-Range", CHANGED, NULL};
    head = head_of(HTTP_GET, date);
    assert_false(http_if_range_holds(&head, &file, file.last_modified_s + 1));
    assert_true(http_if_range_holds(&head, &file, file.last_modified_s + 2));
}

static const struct {
    const char *text;
    int64_t want; /* -1: malformed */
} dates[] = {
    {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
    {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
    {"Sun Nov  6 08:49:37 1994", 784111777},
    {"Sun Nov 16 08:49:37 1994", 784975777},
    {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
    {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
    {"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799},
    {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
    {"Mon, 29 Feb 2100 00:00:00 GMT", -1},
    {"Wed, 29 Feb 2023 00:00:00 GMT", -1},
    {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
    {"Sat, 31 Dec 2016 23:59:61 GMT", -1},
    {"Sat, 31 Dec 2016 24:00:00 GMT", -1},
    {"Sat, 31 Dec 2016 23:60:00 GMT", -1},
    {"Sat, 00 Dec 2016 00:00:00 GMT", -1},
    {"Sat, 32 Dec 2016 00:00:00 GMT", -1},
    {"Sat, 31 Nov 2016 00:00:00 GMT", -1},
    {"Mon, 06 Nov 1994 08:49:37 GMT", 784111777}, /* it was a Sunday */
    {"sun, 06 Nov 1994 08:49:37 GMT", -1},
    {"Sun, 06 nov 1994 08:49:37 GMT", -1},
    {"Sun, 6 Nov 1994 08:49:37 GMT", -1},
    {"Sun, 06 Nov 1994 08:49:37 gmt", -1},
    {"Sun, 06 Nov 1994 08:49:37 UTC", -1},
    {"Sun, 06 Nov 1994 08:49:37 +0000", -1},
    {"Sun, 06 Nov 1994 08:49:37", -1},
    {"Sun, 06 Nov 1994 08:49:37 GMT ", -1},
    {" Sun, 06 Nov 1994 08:49:37 GMT", -1},
    {"Sun,06 Nov 1994 08:49:37 GMT", -1},
    {"Sun, 06-Nov-94 08:49:37 GMT", -1}, /* its day is written out */
    {"Sunday, 06 Nov 1994 08:49:37 GMT", -1},
    {"Sun Nov 6 08:49:37 1994", -1},
    {"Sun Nov 06 08:49:37 1994", 784111777},
    {"Sun Nov  6 08:49:37 1994 GMT", -1},
    {"Xyz, 06 Nov 1994 08:49:37 GMT", -1},
    {"Sun, 06 Xyz 1994 08:49:37 GMT", -1},
    {"Sun, 06 Nov 99999 08:49:37 GMT", -1},
    {"", -1},
    {"Sun", -1},
    {"0", -1},
    /* 50 years after 2023-11-14 */
    {"Tuesday, 14-Nov-73 22:13:20 GMT", 3277923200},
    {"Wednesday, 15-Nov-73 22:13:20 GMT", 122249600},
    {"Saturday, 01-Jan-00 00:00:00 GMT", 946684800},
    {"Tuesday, 29-Feb-00 00:00:00 GMT", 951782400},
};

static void test_dates(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(dates); i++) {
        uint64_t got = 77;
        size_t size = strlen(dates[i].text);
        uint8_t *copy = xmemdup(dates[i].text, size);
        bool good = http_parse_date(slice_of(copy, size), NOW, &got);
        free(copy);
        if (good != (dates[i].want >= 0) || got != (good ? (uint64_t)dates[i].want : 77))
            fail_msg("'%s': %d %llu", dates[i].text, good, (unsigned long long)got);
    }
    /* Cut off anywhere it is no date. */
    for (int form = 0; form < 3; form++)
        for (size_t n = 0; n < strlen(dates[form].text); n++) {
            uint64_t got;
            uint8_t *copy = xmemdup(dates[form].text, n);
            assert_false(http_parse_date(slice_of(copy, n), NOW, &got));
            free(copy);
        }
}

/* The second opinion: glibc's calendar, in all three forms. */
static void test_against_glibc(void **state) {
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %e %H:%M:%S %Y"};
    uint64_t seed = 2463534242u;
    for (int round = 0; round < 200000; round++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        int form = round % 3;
        /* Two-digit years: within 49 years of now. */
        uint64_t at =
            form == 1 ? NOW - 49ull * 31556952 + seed % (98ull * 31556952) : seed % 253402300800u;
        time_t time = (time_t)at;
        struct tm tm;
        char text[64], ours[30];
        gmtime_r(&time, &tm);
        size_t n = strftime(text, sizeof text, forms[form], &tm);
        uint64_t got = 0;
        if (!http_parse_date(slice_of(text, n), NOW, &got) || got != at)
            fail_msg("%s: %llu, not %llu", text, (unsigned long long)got, (unsigned long long)at);
        http_format_date(at, ours);
        strftime(text, sizeof text, forms[0], &tm);
        assert_string_equal(text, ours);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preconditions),
        cmocka_unit_test(test_if_range),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_against_glibc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
