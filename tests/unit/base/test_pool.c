/* Pools against a model: objects are zeroed, apart from each other, and their blocks go back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/pool.h"
#include "base/rand.h"

enum { OBJECTS = 20000 };
struct object {
    uint64_t number;
    uint8_t rest[92];
};

static bool is_zero(const struct object *o) {
    static const struct object zero;
    return memcmp(o, &zero, sizeof zero) == 0;
}

static void test_a_crowd_leaves_nothing(void **state) {
    struct pool p;
    static struct object *objects[OBJECTS];
    pool_init(&p, sizeof(struct object));
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < OBJECTS; i++) {
            objects[i] = pool_alloc(&p);
            assert_true(is_zero(objects[i]));
            memset(objects[i], 0xff, sizeof *objects[i]);
            objects[i]->number = i;
        }
        assert_int_equal(p.object_count, OBJECTS);
        size_t most = p.block_count;
        assert_true(most <= OBJECTS * sizeof(struct object) / 65000 + 2);
        for (uint64_t i = 0; i < OBJECTS; i++)
            assert_int_equal(objects[i]->number, i);
        for (size_t i = 0; i < OBJECTS; i++)
            pool_free(&p, objects[round == 1 ? OBJECTS - 1 - i : i]);
        assert_true(p.block_count <= 1);
    }
    pool_fini(&p);
}

static void test_random(void **state) {
    struct pool p;
    struct rand r = {.state = 1};
    static struct object *objects[OBJECTS];
    size_t count = 0;
    pool_init(&p, sizeof(struct object));
    for (uint64_t i = 0; i < 400000; i++) {
        bool grow = (i / 50000) % 2 == 0;
        if (count == 0 || (count < OBJECTS && rand_below(&r, 10) < (grow ? 7 : 3))) {
            objects[count] = pool_alloc(&p);
            assert_true(is_zero(objects[count]));
            objects[count]->number = (uint64_t)(uintptr_t)objects[count];
            memset(objects[count]->rest, 0xee, sizeof objects[count]->rest);
            count++;
        } else {
            size_t at = rand_below(&r, count);
            assert_int_equal(objects[at]->number, (uint64_t)(uintptr_t)objects[at]);
            pool_free(&p, objects[at]);
            objects[at] = objects[--count];
        }
        assert_int_equal(p.object_count, count);
    }
    while (count > 0)
        pool_free(&p, objects[--count]);
    pool_fini(&p);
}

/* What comes and goes with every turn finds its blocks again, up to a limit. */
static void test_empty_blocks_are_kept(void **state) {
    struct pool p;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* there every object is an allocation of its own (base/pool.c) */
#endif
    static struct object *objects[OBJECTS];
    pool_init(&p, sizeof(struct object));
    p.kept_max = 3;
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < OBJECTS; i++) {
            objects[i] = pool_alloc(&p);
            assert_true(is_zero(objects[i]));
            memset(objects[i], 0xff, sizeof *objects[i]);
        }
        assert_int_equal(p.kept_count, 0);
        assert_true(p.block_count > 4);
        for (size_t i = 0; i < OBJECTS; i++)
            pool_free(&p, objects[round % 2 ? OBJECTS - 1 - i : i]);
        assert_in_range(p.block_count, 3, 4);
    }
    size_t blocks = p.block_count, few = 65000 / sizeof(struct object) * 2;
    for (size_t i = 0; i < few; i++)
        objects[i] = pool_alloc(&p);
    assert_int_equal(p.block_count, blocks);
    for (size_t i = 0; i < few; i++)
        pool_free(&p, objects[i]);
    assert_int_equal(p.block_count, blocks);
    pool_fini(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crowd_leaves_nothing),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_empty_blocks_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
