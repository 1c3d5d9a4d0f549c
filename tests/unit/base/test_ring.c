/* Bytes from one thread to another: order, wrapping, whole or not at all. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rand.h"
#include "base/ring.h"

static void test_whole_or_not(void **state) {
    struct ring *r = ring_new(8);
    assert_int_equal(ring_peek(r).size, 0);
    assert_true(ring_put(r, slice_str("abcde")));
    assert_false(ring_put(r, slice_str("fghi")));
    assert_true(ring_put(r, slice_str("fgh")));
    assert_false(ring_put(r, slice_str("i")));
    assert_true(ring_put(r, slice_of(NULL, 0)));
    assert_true(slice_equal_str(ring_peek(r), "abcdefgh"));
    ring_drop(r, 6);
    assert_true(ring_put(r, slice_str("ijkl"))); /* goes around the end */
    assert_true(slice_equal_str(ring_peek(r), "gh"));
    ring_drop(r, 2);
    assert_true(slice_equal_str(ring_peek(r), "ijkl"));
    ring_drop(r, 4);
    assert_int_equal(ring_peek(r).size, 0);
    assert_false(ring_put(r, slice_str("123456789")));
    ring_free(r);
}

enum { BYTES = 4 << 20 };

static void *putter(void *arg) {
    struct ring *r = arg;
    struct rand rand = {.state = 1};
    uint8_t piece[300];
    for (uint32_t at = 0; at < BYTES;) {
        uint32_t n = 1 + (uint32_t)rand_below(&rand, sizeof piece);
        n = n < BYTES - at ? n : BYTES - at;
        for (uint32_t i = 0; i < n; i++)
            piece[i] = (uint8_t)((at + i) * 7);
        while (!ring_put(r, slice_of(piece, n)))
            sched_yield();
        at += n;
    }
    return NULL;
}

static void test_two_threads(void **state) {
    struct ring *r = ring_new(1024);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, putter, r), 0);
    for (uint32_t at = 0; at < BYTES;) {
        struct slice s = ring_peek(r);
        for (size_t i = 0; i < s.size; i++)
            assert_int_equal(s.data[i], (uint8_t)((at + i) * 7));
        ring_drop(r, s.size);
        at += (uint32_t)s.size;
        if (s.size == 0)
            sched_yield();
    }
    pthread_join(thread, NULL);
    ring_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_or_not),
        cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
