/* Hashes against published vectors; random numbers likewise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/rand.h"

/* RFC 3720 appendix B.4, and the check value of the catalogue of CRCs (reveng.sourceforge.io). */
static void test_crc32c_vectors(void **state) {
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    static const uint8_t scsi_read[48] = {
        0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2,    0, 0, 0, 0, 0, 0, 0};
    memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; i++) {
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    struct {
        struct slice in;
        uint32_t want;
    } cases[] = {
        {slice_of(zeros, 32), 0x8a9136aa},
        {slice_of(ones, 32), 0x62a8ab43},
        {slice_of(up, 32), 0x46dd794e},
        {slice_of(down, 32), 0x113fdb5c},
        {slice_of(scsi_read, 48), 0xd9963a56},
        {slice_str("123456789"), 0xe3069283},
        {slice_str(""), 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(crc32c(0, cases[i].in), cases[i].want);
        assert_int_equal(crc32c_portable(0, cases[i].in), cases[i].want);
        for (size_t n = 0; n <= cases[i].in.size; n++) { /* in two pieces, at any alignment */
            struct slice head = slice_of(cases[i].in.data, n);
            struct slice tail = slice_of(cases[i].in.data + n, cases[i].in.size - n);
            assert_int_equal(crc32c(crc32c(0, head), tail), cases[i].want);
        }
    }
}

static void test_crc32c_ways_agree(void **state) {
    struct rand r = {.state = 3};
    uint8_t data[300];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)rand_u64(&r);
    for (size_t from = 0; from < 9; from++)
        for (size_t n = 0; from + n <= sizeof data; n++) {
            struct slice s = slice_of(data + from, n);
            assert_int_equal(crc32c(7, s), crc32c_portable(7, s));
        }
}

/* The values of xxHash 0.8 for the empty input: the format must never change under our data. */
static void test_xxh3(void **state) {
    assert_int_equal(hash64(slice_str(""), 0), 0x2d06800538d394c2);
    struct hash128 h = hash128(slice_str(""));
    assert_int_equal(h.low, 0x6001c324468d497f);
    assert_int_equal(h.high, 0x99aa06d3014798d8);
    assert_int_not_equal(hash64(slice_str("a"), 0), hash64(slice_str("a"), 1));
}

static void test_pieces(void **state) {
    struct slice ab_c[] = {slice_str("ab"), slice_str("c")};
    struct slice a_bc[] = {slice_str("a"), slice_str("bc")};
    struct slice a_bc_none[] = {slice_str("a"), slice_str("bc"), slice_of(NULL, 0)};
    struct hash128 h = hash128_pieces(ab_c, 2);
    assert_true(hash128_equal(h, hash128_pieces(ab_c, 2)));
    assert_false(hash128_equal(h, hash128_pieces(a_bc, 2)));
    assert_false(hash128_equal(hash128_pieces(a_bc, 2), hash128_pieces(a_bc_none, 3)));
}

static void test_sums(void **state) {
    struct hash128 zero = {0}, one = {.low = 1}, low = {.low = UINT64_MAX};
    struct hash128 carried = hash128_add(low, one);
    assert_int_equal(carried.low, 0);
    assert_int_equal(carried.high, 1);
    assert_true(hash128_equal(hash128_sub(carried, one), low));
    struct hash128 minus = hash128_sub(zero, one);
    assert_int_equal(minus.low, UINT64_MAX);
    assert_int_equal(minus.high, UINT64_MAX);
    assert_true(hash128_equal(hash128_add(minus, one), zero));
    /* the order in which records come and go does not matter */
    struct hash128 a = hash128(slice_str("a")), b = hash128(slice_str("b")),
                   c = hash128(slice_str("c"));
    struct hash128 abc = hash128_add(hash128_add(a, b), c);
    assert_true(hash128_equal(abc, hash128_add(hash128_add(c, a), b)));
    assert_true(hash128_equal(hash128_sub(hash128_sub(abc, b), a), c));
}

static void test_splitmix64(void **state) {
    struct rand r = {.state = 1234567};
    assert_int_equal(rand_u64(&r), 6457827717110365317u);
    assert_int_equal(rand_u64(&r), 3203168211198807973u);
    assert_int_equal(rand_u64(&r), 9817491932198370423u);
    assert_int_equal(rand_below(&r, 0), 0);
    assert_int_equal(rand_below(&r, 1), 0);
    bool seen[10] = {0};
    for (int i = 0; i < 1000; i++) {
        uint64_t v = rand_below(&r, 10);
        assert_true(v < 10);
        seen[v] = true;
    }
    for (int i = 0; i < 10; i++)
        assert_true(seen[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_vectors), cmocka_unit_test(test_crc32c_ways_agree),
        cmocka_unit_test(test_xxh3),           cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_sums),           cmocka_unit_test(test_splitmix64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
