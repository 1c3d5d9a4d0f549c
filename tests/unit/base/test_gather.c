#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/gather.h"

static void test_alone_never_waits(void **state) {
    struct gather g = {0};
    for (uint64_t now = 0; now < 100; now++) {
        assert_true(gather_ready(&g, now, 1));
        gather_sent(&g, 1);
        gather_answered(&g, now, 0);
        /* Nobody waits, so nothing is late, however long it takes. */
        assert_int_equal(g.skip, 0);
    }
}

/* Two groups that take turns become one. */
static void test_two_groups_become_one(void **state) {
    struct gather g = {0};
    assert_true(gather_ready(&g, 0, 32));
    gather_sent(&g, 32);
    gather_answered(&g, 1, 32);
    assert_false(gather_ready(&g, 1, 32)); /* those answered are on their way */
    assert_false(gather_ready(&g, 1, 55));
    assert_true(gather_ready(&g, 2, 56)); /* most of the 64; the last may be late */
    gather_sent(&g, 56);
    gather_answered(&g, 3, 8);
    assert_false(gather_ready(&g, 3, 8));
    assert_true(gather_ready(&g, 4, 64));
    assert_int_equal(g.backoff, 0);
}

static void test_who_does_not_come_is_waited_for_ever_more_seldom(void **state) {
    struct gather g = {0};
    uint64_t now = 0;
    uint32_t waited = 0, rounds = 10000;
    for (uint32_t i = 0; i < rounds; i++) {
        gather_sent(&g, 10);
        gather_answered(&g, now, 1);
        if (!gather_ready(&g, now, 1)) {
            waited++;
            assert_true(g.until_ms > now);
            now = g.until_ms;
            assert_true(gather_ready(&g, now, 2));
        }
        assert_int_equal(g.target, 0);
        now++;
    }
    /* After 4, 8, 16, ... and then every 1024. */
    assert_in_range(waited, 9, 18);

    /* One that worked, and failures count from the beginning. */
    while (gather_sent(&g, 2), gather_answered(&g, now, 0), gather_ready(&g, now, 1))
        now++;
    assert_true(gather_ready(&g, now, 2));
    assert_int_equal(g.backoff, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone_never_waits),
        cmocka_unit_test(test_two_groups_become_one),
        cmocka_unit_test(test_who_does_not_come_is_waited_for_ever_more_seldom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
