/* Range (RFC 9110 section 14), and multipart/byteranges bodies whose length is known beforehand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/http_range.h"

static const struct {
    const char *value;
    uint64_t size;
    const char *want; /* "200", "416", or "offset+size" of each */
} cases[] = {
    {"bytes=0-499", 10000, "0+500"},
    {"bytes=500-999", 10000, "500+500"},
    {"bytes=-500", 10000, "9500+500"},
    {"bytes=9500-", 10000, "9500+500"},
    {"bytes=0-0", 10000, "0+1"},
    {"bytes=0-", 10000, "0+10000"},
    {"bytes=9999-", 10000, "9999+1"},
    {"bytes=9999-20000", 10000, "9999+1"},
    {"bytes=-20000", 10000, "0+10000"},
    {"Bytes=0-1", 10, "0+2"},
    {"bytes= 0-1", 10, "0+2"},
    {"bytes=0-1 ", 10, "0+2"},
    {"bytes=00-01", 10, "0+2"},
    {"bytes=0-99999999999999999999999", 10, "0+10"},
    {"bytes=99999999999999999999999-", 10, "416"},
    {"bytes=-99999999999999999999999", 10, "0+10"},
    {"bytes=0-18446744073709551615", 10, "0+10"},
    {"bytes=10000-", 10000, "416"},
    {"bytes=10000-10001", 10000, "416"},
    {"bytes=-0", 10000, "416"},
    {"bytes=10000-,-0", 10000, "416"},
    {"bytes=10000-,5-6", 10000, "5+2"},
    /* an empty file */
    {"bytes=0-", 0, "416"},
    {"bytes=0-0", 0, "416"},
    {"bytes=-5", 0, "200"},
    /* malformed, or another unit: ignored */
    {"", 10, "200"},
    {"bytes", 10, "200"},
    {"bytes=", 10, "200"},
    {"bytes=,", 10, "200"},
    {"bytes=-", 10, "200"},
    {"bytes=a-b", 10, "200"},
    {"bytes=1", 10, "200"},
    {"bytes=2-1", 10, "200"},
    {"bytes=1-2x", 10, "200"},
    {"bytes=1--2", 10, "200"},
    {"bytes=--2", 10, "200"},
    {"bytes=1 - 2", 10, "200"},
    {"bytes=+1-2", 10, "200"},
    {"bytes =1-2", 10, "200"},
    {"bytes=1-2;3-4", 10, "200"},
    {"bytes=0-1,x", 10000, "200"},
    {"lines=1-2", 10, "200"},
    /* several */
    {"bytes=0-9,1000-1009", 10000, "0+10 1000+10"},
    {"bytes=1000-1009,0-9", 10000, "1000+10 0+10"},
    {"bytes=0-9 , , 1000-1009,", 10000, "0+10 1000+10"},
    {"bytes=0-9,5-14", 10000, "0+15"},
    {"bytes=0-9,10-19", 10000, "0+20"},
    {"bytes=0-9,110-119", 10000, "0+120"},
    {"bytes=0-9,111-119", 10000, "0+10 111+9"},
    {"bytes=5000-,0-9,-1", 10000, "5000+5000 0+10"},
    {"bytes=0-9,1000-1009,5-1004", 10000, "0+1010"},
    {"bytes=4000-4009,0-9,2000-2009,5-4000", 10000, "0+4010"},
    {"bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-", 10000, "0+10000"},
    {"bytes=0-0,200-200,400-400,600-600,800-800,1000-1000,1200-1200,1400-1400,1600-1600,1800-1800,"
     "2000-2000,2200-2200,2400-2400,2600-2600,2800-2800,3000-3000",
     10000,
     "0+1 200+1 400+1 600+1 800+1 1000+1 1200+1 1400+1 1600+1 1800+1 2000+1 2200+1 2400+1 2600+1 "
     "2800+1 3000+1"},
    {"bytes=0-0,200-200,400-400,600-600,800-800,1000-1000,1200-1200,1400-1400,1600-1600,1800-1800,"
     "2000-2000,2200-2200,2400-2400,2600-2600,2800-2800,3000-3000,3200-3200",
     10000, "200"},
    {"bytes=0-0", UINT64_MAX, "0+1"},
    {"bytes=-1", UINT64_MAX, "18446744073709551614+1"},
};

static void describe(enum http_range_result result, const struct http_ranges *r, struct buf *out) {
    if (result != HTTP_RANGE_PARTIAL)
        buf_append_str(out, result == HTTP_RANGE_WHOLE ? "200" : "416");
    for (size_t i = 0; result == HTTP_RANGE_PARTIAL && i < r->count; i++)
        buf_printf(out, "%s%llu+%llu", i > 0 ? " " : "", (unsigned long long)r->items[i].offset,
                   (unsigned long long)r->items[i].size);
}

static void test_parse(void **state) {
    struct buf got = {0};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct http_ranges ranges;
        size_t size = strlen(cases[i].value);
        uint8_t *copy = xmemdup(cases[i].value, size);
        enum http_range_result result =
            http_range_parse(slice_of(copy, size), cases[i].size, &ranges);
        free(copy);
        buf_reset(&got);
        describe(result, &ranges, &got);
        if (!slice_equal_str(buf_slice(&got), cases[i].want))
            fail_msg("'%s' of %llu: %.*s", cases[i].value, (unsigned long long)cases[i].size,
                     (int)got.size, got.data);
    }
    buf_fini(&got);
}

static void test_content_range(void **state) {
    char text[HTTP_CONTENT_RANGE_BYTES_MAX];
    struct http_range range = {.offset = 0, .size = 5};
    assert_int_equal(http_range_format(&range, 10, text), 12);
    assert_string_equal(text, "bytes 0-4/10");
    assert_int_equal(http_range_format(NULL, 10, text), 10);
    assert_string_equal(text, "bytes */10");
    range = (struct http_range){.offset = UINT64_MAX - 2, .size = 1};
    http_range_format(&range, UINT64_MAX, text);
    assert_string_equal(text,
                        "bytes 18446744073709551613-18446744073709551613/18446744073709551615");
}

/* What a client would put together, part by part. */
static void put_body(const struct http_multipart *m, const char *file, struct buf *out) {
    for (size_t i = 0; i < m->ranges->count; i++) {
        http_multipart_put_head(m, i, out);
        buf_append(out, file + m->ranges->items[i].offset, m->ranges->items[i].size);
    }
    http_multipart_put_end(m, out);
}

static void test_multipart(void **state) {
    char file[1000];
    for (size_t i = 0; i < sizeof file; i++)
        file[i] = (char)('a' + i % 26);
    struct http_ranges ranges = {.count = 2, .items = {{0, 3}, {500, 4}}};
    struct http_multipart m = {.boundary = slice_str("b0und4ry"),
                               .type = slice_str("text/plain; charset=utf-8"),
                               .size = sizeof file,
                               .ranges = &ranges};
    struct buf body = {0};
    put_body(&m, file, &body);
    const char *want = "--b0und4ry\r\n"
                       "Content-Type: text/plain; charset=utf-8\r\n"
                       "Content-Range: bytes 0-2/1000\r\n"
                       "\r\n"
                       "abc"
                       "\r\n--b0und4ry\r\n"
                       "Content-Type: text/plain; charset=utf-8\r\n"
                       "Content-Range: bytes 500-503/1000\r\n"
                       "\r\n"
                       "ghij"
                       "\r\n--b0und4ry--\r\n";
    assert_true(slice_equal_str(buf_slice(&body), want));
    assert_int_equal(http_multipart_bytes(&m), body.size);
    /* Every number of parts, with and without a type. */
    for (size_t count = 1; count <= HTTP_RANGES_MAX; count++)
        for (int typed = 0; typed < 2; typed++) {
            for (size_t i = 0; i < count; i++)
                ranges.items[i] = (struct http_range){i * 60, i + 1};
            ranges.count = count;
            m.type = slice_str(typed ? "image/png" : "");
            buf_reset(&body);
            put_body(&m, file, &body);
            assert_int_equal(http_multipart_bytes(&m), body.size);
        }
    buf_fini(&body);
}

/* Whatever is asked for: inside of the file, apart from each other, and covering what was asked. */
static void test_random(void **state) {
    uint64_t seed = 88172645463325252u;
    for (int round = 0; round < 20000; round++) {
        uint8_t asked[1200] = {0}, given[1200] = {0};
        struct buf value = {0};
        uint64_t size = 1 + seed % 1200;
        buf_append_str(&value, "bytes=");
        int count = 1 + (int)(seed >> 40 & 0xFF) % 6;
        for (int i = 0; i < count; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            uint64_t first = (seed >> 8) % 1300, last = first + (seed >> 24) % 300;
            buf_printf(&value, "%s%llu-%llu", i > 0 ? "," : "", (unsigned long long)first,
                       (unsigned long long)last);
            for (uint64_t k = first; k <= last && k < size; k++)
                asked[k] = 1;
        }
        struct http_ranges r = {0};
        enum http_range_result result = http_range_parse(buf_slice(&value), size, &r);
        assert_int_not_equal(result, HTTP_RANGE_WHOLE);
        for (size_t i = 0; result == HTTP_RANGE_PARTIAL && i < r.count; i++)
            for (uint64_t k = 0; k < r.items[i].size; k++) {
                assert_true(r.items[i].offset + k < size);
                assert_int_equal(given[r.items[i].offset + k]++, 0);
            }
        for (uint64_t k = 0; k < size; k++)
            assert_true(given[k] >= asked[k]);
        buf_fini(&value);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_content_range),
        cmocka_unit_test(test_multipart),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
