/* Packed arguments: packing, unpacking, and packed bytes that are cut or lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/argv.h"

static void test_roundtrip(void **state) {
    struct buf b = {0};
    struct argv a = {0};
    struct slice args[3] = {slice_str("SET"), slice_of("a\0b", 3), slice_of(NULL, 0)};
    argv_append(&b, args, 3);
    assert_int_equal(b.size, 4 + 3 * 4 + 6);
    for (int round = 0; round < 2; round++) { /* the second one reuses the memory */
        assert_true(argv_check(buf_slice(&b)));
        assert_true(argv_unpack(&a, buf_slice(&b)));
        assert_int_equal(a.count, 3);
        for (int i = 0; i < 3; i++)
            assert_true(slice_equal(a.args[i], args[i]));
    }
    buf_reset(&b);
    argv_append_strs(&b, "PING", NULL);
    assert_true(argv_unpack(&a, buf_slice(&b)));
    assert_int_equal(a.count, 1);
    assert_true(slice_equal_str(a.args[0], "PING"));
    argv_fini(&a);
    assert_null(a.args);
    buf_fini(&b);
}

static void check_refused(struct slice packed, const char *what) {
    struct argv a = {0};
    if (argv_check(packed) || argv_unpack(&a, packed))
        fail_msg("accepted: %s", what);
    argv_fini(&a);
}

static void test_malformed(void **state) {
    struct buf b = {0};
    argv_append_strs(&b, "SET", "key", "value", NULL);
    for (size_t n = 0; n < b.size; n++) {
        uint8_t *cut = xmemdup(b.data, n);
        check_refused(slice_of(cut, n), "cut");
        free(cut);
    }
    static const uint32_t counts[] = {0, 1, 2, 4, ARGV_COUNT_MAX, ARGV_COUNT_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        buf_patch_u32(&b, 0, counts[i]);
        check_refused(buf_slice(&b), "count");
    }
    buf_patch_u32(&b, 0, 3);
    static const uint32_t sizes[] = {0, 2, 4, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        buf_patch_u32(&b, 4, sizes[i]);
        check_refused(buf_slice(&b), "size");
    }
    buf_patch_u32(&b, 4, 3);
    assert_true(argv_check(buf_slice(&b)));
    buf_append_u8(&b, 0);
    check_refused(buf_slice(&b), "a byte left over");
    buf_fini(&b);
}

static void test_most(void **state) {
    struct buf b = {0};
    struct argv a = {0};
    buf_append_u32(&b, ARGV_COUNT_MAX);
    memset(buf_reserve(&b, 4 * (size_t)ARGV_COUNT_MAX + 4), 0, 4 * (size_t)ARGV_COUNT_MAX + 4);
    buf_commit(&b, 4 * (size_t)ARGV_COUNT_MAX);
    assert_true(argv_unpack(&a, buf_slice(&b)));
    assert_int_equal(a.count, ARGV_COUNT_MAX);
    buf_commit(&b, 4);
    buf_patch_u32(&b, 0, ARGV_COUNT_MAX + 1);
    check_refused(buf_slice(&b), "one more");
    argv_fini(&a);
    buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
