/* buf: growth, consuming, the little-endian encoders; reader as its mirror, with its sticky error.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/reader.h"

static void test_growth_keeps_content(void **state) {
    struct buf b = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        buf_append_u8(&b, (uint8_t)(i * 7));
        assert_true(b.size <= b.capacity);
    }
    for (uint32_t i = 0; i < 100000; i++)
        assert_int_equal(b.data[i], (uint8_t)(i * 7));
    assert_true(b.capacity < 4 * b.size);
    buf_reset(&b);
    assert_int_equal(b.size, 0);
    assert_true(b.capacity >= 100000);
    buf_fini(&b);
    assert_null(b.data);
    assert_int_equal(b.capacity, 0);
}

static void test_reserve_and_commit(void **state) {
    struct buf b = {0};
    assert_non_null(buf_reserve(&b, 0));
    memcpy(buf_reserve(&b, 1000), "abc", 3);
    buf_commit(&b, 3);
    size_t capacity = b.capacity;
    assert_ptr_equal(buf_reserve(&b, capacity - 3), b.data + 3);
    assert_int_equal(b.capacity, capacity); /* what fits exactly needs no growth */
    assert_true(slice_equal_str(buf_slice(&b), "abc"));
    buf_append(&b, NULL, 0);
    buf_append_slice(&b, slice_of(NULL, 0));
    assert_int_equal(b.size, 3);
    buf_fini(&b);
}

static void test_consume(void **state) {
    struct buf b = {0};
    buf_append_str(&b, "0123456789");
    buf_consume(&b, 0);
    assert_int_equal(b.size, 10);
    buf_consume(&b, 3);
    assert_true(slice_equal_str(buf_slice(&b), "3456789"));
    buf_consume(&b, 7);
    assert_int_equal(b.size, 0);
    buf_consume(&b, 0);
    buf_fini(&b);
}

static void test_printf(void **state) {
    struct buf b = {0};
    buf_append_str(&b, "<");
    buf_printf(&b, "%s-%d", "x", -5);
    buf_append_char(&b, '>');
    assert_true(slice_equal_str(buf_slice(&b), "<x--5>"));
    for (int n = 0; n < 300; n++) { /* around every edge of the memory it has */
        struct buf c = {0};
        buf_append_str(&c, "ab");
        buf_printf(&c, "%*d", n, 7);
        assert_int_equal(c.size, 2 + (n ? n : 1));
        assert_int_equal(c.data[c.size - 1], '7');
        buf_fini(&c);
    }
    buf_reset(&b);
    buf_printf(&b, "%5000d", 1); /* longer than any memory it had */
    assert_int_equal(b.size, 5000);
    assert_int_equal(b.data[4999], '1');
    buf_printf(&b, "%s", "");
    assert_int_equal(b.size, 5000);
    buf_fini(&b);
}

static void encode(struct buf *b) {
    buf_append_u8(b, 0x01);
    buf_append_u16(b, 0x0203);
    buf_append_u32(b, 0x04050607);
    buf_append_u64(b, 0x08090a0b0c0d0e0f);
    buf_append_lstr(b, slice_str("hey"));
    buf_append_lstr(b, slice_of(NULL, 0));
}

static void test_encoding_is_little_endian(void **state) {
    static const uint8_t want[] = {1, 3, 2, 7, 6, 5, 4,   15,  14,  13, 12, 11, 10,
                                   9, 8, 3, 0, 0, 0, 'h', 'e', 'y', 0,  0,  0,  0};
    struct buf b = {0};
    encode(&b);
    assert_int_equal(b.size, sizeof want);
    assert_memory_equal(b.data, want, sizeof want);
    buf_patch_u32(&b, 22, 0x01020304);
    assert_int_equal(b.data[22], 4);
    assert_int_equal(b.data[25], 1);
    buf_fini(&b);
}

/* Reads what encode() wrote; returns how many fields came before the error. */
static int decode(struct slice in, struct reader *r) {
    int good = 0;
    *r = reader_of(in);
    bool same = reader_u8(r) == 1;
    good += reader_ok(r) && same;
    same = reader_u16(r) == 0x0203;
    good += reader_ok(r) && same;
    same = reader_u32(r) == 0x04050607;
    good += reader_ok(r) && same;
    same = reader_u64(r) == 0x08090a0b0c0d0e0f;
    good += reader_ok(r) && same;
    same = slice_equal_str(reader_lstr(r), "hey");
    good += reader_ok(r) && same;
    same = reader_lstr(r).size == 0;
    good += reader_ok(r) && same;
    return good;
}

static void test_reader(void **state) {
    struct buf b = {0};
    struct reader r;
    encode(&b);
    assert_int_equal(decode(buf_slice(&b), &r), 6);
    assert_true(reader_ok(&r));
    assert_true(reader_done(&r));
    /* the fields end at 1, 3, 7, 15, 22 and 26 */
    for (size_t n = 0; n < b.size; n++) {
        uint8_t *cut = xmemdup(b.data, n);
        int want = (n >= 1) + (n >= 3) + (n >= 7) + (n >= 15) + (n >= 22);
        assert_int_equal(decode(slice_of(cut, n), &r), want);
        assert_false(reader_ok(&r));
        assert_false(reader_done(&r));
        free(cut);
    }
    buf_append_u8(&b, 0);
    assert_int_equal(decode(buf_slice(&b), &r), 6);
    assert_true(reader_ok(&r));
    assert_false(reader_done(&r));
    assert_int_equal(reader_left(&r), 1);
    buf_fini(&b);
}

static void test_reader_error_is_sticky(void **state) {
    struct reader r = reader_of(slice_str("abc"));
    assert_int_equal(reader_u32(&r), 0);
    assert_false(reader_ok(&r));
    assert_int_equal(reader_u8(&r), 0); /* although a byte is there */
    assert_int_equal(reader_rest(&r).size, 0);
    assert_null(reader_take(&r, 0));
    /* a length beyond the end, also one that would wrap a pointer */
    r = reader_of(slice_of("\xff\xff\xff\xff"
                           "a",
                           5));
    assert_int_equal(reader_lstr(&r).size, 0);
    assert_false(reader_ok(&r));
    r = reader_of(slice_str("abc"));
    assert_int_equal(reader_bytes(&r, SIZE_MAX).size, 0);
    assert_false(reader_ok(&r));
    r = reader_of(slice_str("abc"));
    assert_true(slice_equal_str(reader_rest(&r), "abc"));
    assert_true(reader_done(&r));
    r = reader_of(slice_of(NULL, 0));
    assert_true(reader_done(&r));
}

static void test_big_endian(void **state) {
    uint8_t at[8];
    put_u32be(at, 0x01020304);
    assert_int_equal(at[0], 1);
    assert_int_equal(get_u32be(at), 0x01020304);
    assert_int_equal(get_u32le(at), 0x04030201);
    put_u64be(at, 258);
    assert_int_equal(at[6], 1);
    assert_int_equal(get_u64be(at), 258);
    put_u16be(at, 258);
    assert_int_equal(at[0], 1);
    assert_int_equal(get_u16be(at), 258);
}

static void test_slices(void **state) {
    struct slice none = slice_of(NULL, 0);
    assert_true(slice_equal(none, slice_str("")));
    assert_true(slice_equal_nocase(slice_str("HoSt"), "host"));
    assert_false(slice_equal_nocase(slice_str("hos"), "host"));
    assert_false(slice_equal_nocase(slice_str("hostx"), "host"));
    assert_true(slice_starts_with(slice_str("abc"), none));
    assert_true(slice_starts_with(slice_str("abc"), slice_str("ab")));
    assert_false(slice_starts_with(slice_str("ab"), slice_str("abc")));
    static const char *const sorted[] = {"", "a", "aa", "ab", "b", "\x7f", "\x80", "\xff"};
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < 8; k++) {
            int c = slice_compare(slice_str(sorted[i]), slice_str(sorted[k]));
            assert_int_equal((c > 0) - (c < 0), (i > k) - (i < k));
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth_keeps_content),
        cmocka_unit_test(test_reserve_and_commit),
        cmocka_unit_test(test_consume),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_encoding_is_little_endian),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_reader_error_is_sticky),
        cmocka_unit_test(test_big_endian),
        cmocka_unit_test(test_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
