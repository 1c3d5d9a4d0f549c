#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log_model.h"
#include "replica/log_format.h"

enum { SEGMENT_BYTES = 4096 };

static void open_good(struct model *m) {
    char error[256];
    int r = model_open(m, error);
    if (r < 0)
        fail_msg("log_open: %d: %s", r, error);
}

static void test_empty(void **state) {
    struct model m;
    struct disk *d = mem_disk_new(1);
    model_init(&m, 1, d, 0);
    open_good(&m);
    assert_int_equal(log_last_index(m.log), 0);
    assert_int_equal(log_bytes(m.log), 0);
    assert_false(log_append_pending(m.log));
    model_close(&m);
    open_good(&m);
    model_append_next(&m, 1);
    model_close(&m);
    open_good(&m);
    assert_int_equal(m.acked.last, 1);
    model_close(&m);
    model_fini(&m);
    mem_disk_free(d);
}

static void test_append_reopen(void **state) {
    struct model m;
    struct disk *d = mem_disk_new(2);
    model_init(&m, 2, d, SEGMENT_BYTES);
    open_good(&m);
    for (int i = 0; i < 200; i++) {
        model_append_next(&m, 1 + (size_t)i % 5);
        if (i % 17 == 0)
            mem_disk_run(d);
        if (i % 50 == 49) {
            model_close(&m);
            open_good(&m);
        }
    }
    model_close(&m);
    assert_int_equal(m.acks, 200);
    open_good(&m);
    assert_int_equal(m.torn, 0);
    model_close(&m);
    model_fini(&m);
    mem_disk_free(d);
}

static void count_name(void *ctx, const char *name) {
    size_t *counts = ctx;
    counts[strncmp(name, "spare-", 6) == 0 ? 0 : strstr(name, ".segment") ? 1 : 2]++;
}

/* Old segments are used again and the number of files stays small. */
static void test_recycling(void **state) {
    struct model m;
    struct disk *d = mem_disk_new(3);
    model_init(&m, 3, d, SEGMENT_BYTES);
    open_good(&m);
    for (int i = 0; i < 300; i++) {
        model_append_next(&m, 2);
        mem_disk_run(d);
        if (i % 20 == 19) {
            model_compact(&m, m.acked.last, m.acked.last + 1);
            mem_disk_run(d);
            size_t counts[3] = {0};
            assert_int_equal(d->ops->list(d, "log", count_name, counts), 0);
            assert_true(counts[0] <= LOG_SPARES_MAX);
            assert_true(counts[1] <= 2);
            assert_true(log_bytes(m.log) <= 3 * SEGMENT_BYTES);
        }
    }
    model_close(&m);
    open_good(&m);
    model_close(&m);
    model_fini(&m);
    mem_disk_free(d);
}

static void on_plain_done(struct log_append *a, int status) {
    assert_int_equal(status, 0);
    a->count = 0;
}

static void on_big_entry(void *ctx, const struct log_entry *e) {
    const size_t *sizes = ctx;
    assert_int_equal(e->body.size, sizes[e->index - 1]);
    for (size_t i = 0; i < e->body.size; i++)
        if (e->body.data[i] != (uint8_t)e->index)
            fail_msg("entry %llu differs at %zu", (unsigned long long)e->index, i);
}

/* Entries larger than a segment, all sizes around the limits, in the midst of small ones. */
static void test_large_entries(void **state) {
    static const size_t sizes[] = {10,
                                   5000,
                                   0,
                                   SEGMENT_BYTES,
                                   70000,
                                   1,
                                   4095,
                                   4096,
                                   4097,
                                   SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES - 56,
                                   SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES - 55,
                                   300000};
    struct disk *d = mem_disk_new(4);
    char error[256];
    struct replica_log *l = NULL;
    struct log_open_info info;
    uint8_t *bytes = xmalloc(300000);
    assert_int_equal(log_open(d, SEGMENT_BYTES, on_big_entry, (void *)sizes, &l, &info, error), 0);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        memset(bytes, (int)i + 1, sizes[i]);
        struct log_entry e = {.index = i + 1, .term = 1, .body = slice_of(bytes, sizes[i])};
        struct log_append a = {.entries = &e, .count = 1, .done = on_plain_done};
        log_append(l, &a);
        mem_disk_run(d);
        assert_int_equal(a.count, 0);
    }
    log_close(l);
    assert_int_equal(log_open(d, SEGMENT_BYTES, on_big_entry, (void *)sizes, &l, &info, error), 0);
    assert_int_equal(info.last_index, ARRAY_COUNT(sizes));
    assert_int_equal(info.first_index, 1);
    mem_disk_run(d);
    log_close(l);
    free(bytes);
    mem_disk_free(d);
}

/* Random histories with clean stops and crashes of all kinds. */
static void test_random_histories(void **state) {
    const char *env = getenv("TEST_SEEDS");
    uint64_t seeds = env ? strtoull(env, NULL, 10) : 600;
    const char *from = getenv("TEST_SEED_FROM");
    uint64_t first = from ? strtoull(from, NULL, 10) : 1;
    uint64_t acks = 0, cuts = 0, drops = 0, resets = 0, torn = 0, crashes = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        struct model *m = xmalloc(sizeof *m);
        struct disk *d = mem_disk_new(seed);
        model_init(m, seed, d, rand_below(&(struct rand){seed}, 3) ? SEGMENT_BYTES : 16384);
        for (int life = 0; life < 12; life++) {
            char error[256];
            int r = model_open(m, error);
            if (r < 0)
                fail_msg("seed %llu life %d: %s", (unsigned long long)seed, life, error);
            uint64_t operations = rand_below(&m->rand, 60);
            for (uint64_t i = 0; i < operations; i++)
                model_random(m);
            uint64_t end = rand_below(&m->rand, 4);
            if (end == 0)
                model_close(m);
            else
                model_crash(m, end == 1   ? MEM_DISK_KILL
                               : end == 2 ? MEM_DISK_POWER_CUT
                                          : (enum mem_disk_crash)rand_below(&m->rand, 3));
        }
        acks += m->acks, cuts += m->cuts, drops += m->drops, resets += m->resets;
        torn += m->torn, crashes += m->crashes;
        model_fini(m);
        free(m);
        mem_disk_free(d);
    }
    print_message("%llu acks, %llu cuts, %llu dropped, %llu resets, %llu torn in %llu crashes\n",
                  (unsigned long long)acks, (unsigned long long)cuts, (unsigned long long)drops,
                  (unsigned long long)resets, (unsigned long long)torn,
                  (unsigned long long)crashes);
    assert_true(acks > seeds * 10);
    assert_true(cuts > seeds);
    if (seeds >= 500) {
        assert_true(drops > 0);
        assert_true(resets > 0);
        assert_true(torn > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_append_reopen),
        cmocka_unit_test(test_recycling),
        cmocka_unit_test(test_large_entries),
        cmocka_unit_test(test_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
