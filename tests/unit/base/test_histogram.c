/* Histograms: each number in its bucket, quantiles against sorted numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/histogram.h"
#include "base/rand.h"

static void test_empty(void **state) {
    struct histogram *h = xcalloc(1, sizeof *h);
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    assert_int_equal(histogram_quantile(h, 1), 0);
    assert_true(histogram_mean(h) == 0);
    free(h);
}

/* A number alone is what every quantile says, also at the edges of the buckets: the end of its
 * bucket is cut to the largest number seen. With a larger one behind it the rounding shows. */
static void test_every_size(void **state) {
    for (int bit = 0; bit < 64; bit++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)(int64_t)off;
            struct histogram *h = xcalloc(1, sizeof *h);
            histogram_add(h, value);
            assert_true(histogram_quantile(h, 0.5) == value);
            histogram_add(h, UINT64_MAX);
            uint64_t low = histogram_quantile(h, 0.5);
            assert_true(low >= value && low - value <= value / 128);
            assert_true(value >= 256 || low == value);
            assert_true(histogram_quantile(h, 1) == UINT64_MAX);
            assert_true(h->min == value && h->max == UINT64_MAX && h->count == 2);
            free(h);
        }
    }
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

enum { COUNT = 20000 };

/* Numbers of all sizes, counted in two halves that are merged, against the sorted numbers. */
static void test_quantiles(void **state) {
    struct rand r = {.state = 5};
    struct histogram *a = xcalloc(1, sizeof *a), *b = xcalloc(1, sizeof *b);
    uint64_t *values = xmalloc(COUNT * sizeof *values), sum = 0;
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = rand_u64(&r) >> (24 + rand_below(&r, 40));
        sum += values[i];
        histogram_add(i % 2 ? a : b, values[i]);
    }
    histogram_merge(a, b);
    qsort(values, COUNT, sizeof *values, compare);
    static const double parts[] = {0, 0.001, 0.1, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        size_t rank = (size_t)(parts[i] * COUNT);
        uint64_t want = values[rank > 0 ? rank - 1 : 0], got = histogram_quantile(a, parts[i]);
        assert_true(got >= want && got - want <= want / 128);
    }
    assert_true(a->count == COUNT && a->sum == sum);
    assert_true(a->min == values[0] && a->max == values[COUNT - 1]);
    /* Nothing is changed by what is empty, and empty takes over what is not. */
    struct histogram *empty = xcalloc(1, sizeof *empty);
    histogram_merge(a, empty);
    assert_true(a->min == values[0] && a->count == COUNT);
    histogram_merge(empty, a);
    assert_true(empty->min == values[0] && histogram_mean(empty) == histogram_mean(a));
    free(empty);
    free(values);
    free(a);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_every_size),
        cmocka_unit_test(test_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
