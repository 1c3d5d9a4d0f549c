#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/rand.h"
#include "replica/memlog.h"

static struct core_entry make(uint64_t term, size_t bytes) {
    struct chunk *c = bytes ? chunk_new(bytes) : NULL;
    if (c)
        memset(c->data, (int)(term & 0xff), bytes);
    return (struct core_entry){.term = term,
                               .type = CORE_COMMAND,
                               .body = slice_of(c ? c->data : NULL, bytes),
                               .chunk = c};
}

static void push(struct memlog *m, uint64_t term, size_t bytes) {
    struct core_entry e = make(term, bytes);
    memlog_append(m, m->last_index + 1, &e);
}

static void test_empty(void **state) {
    struct memlog m;
    memlog_init(&m);
    assert_int_equal(m.first_index, 1);
    assert_int_equal(m.last_index, 0);
    assert_null(memlog_get(&m, 0));
    assert_null(memlog_get(&m, 1));
    assert_int_equal(memlog_term(&m, 0), 0);
    assert_int_equal(memlog_term(&m, 1), 0);
    memlog_trim(&m, 1);
    memlog_truncate(&m, 1);
    memlog_fini(&m);
}

static void test_append_and_get(void **state) {
    struct memlog m;
    memlog_init(&m);
    for (uint64_t i = 1; i <= 10; i++)
        push(&m, 100 + i, i);
    assert_int_equal(m.bytes, 55);
    for (uint64_t i = 1; i <= 10; i++) {
        assert_int_equal(memlog_term(&m, i), 100 + i);
        assert_int_equal(memlog_get(&m, i)->body.size, i);
    }
    assert_null(memlog_get(&m, 11));
    assert_null(memlog_get(&m, UINT64_MAX));
    memlog_fini(&m);
}

static void test_truncate_and_append_again(void **state) {
    struct memlog m;
    memlog_init(&m);
    for (uint64_t i = 1; i <= 10; i++)
        push(&m, 1, 8);
    memlog_truncate(&m, 11);
    assert_int_equal(m.last_index, 10);
    memlog_truncate(&m, 4);
    assert_int_equal(m.last_index, 3);
    assert_int_equal(m.bytes, 24);
    assert_null(memlog_get(&m, 4));
    assert_int_equal(memlog_term(&m, 4), 0);
    push(&m, 2, 16);
    assert_int_equal(memlog_term(&m, 4), 2);
    memlog_truncate(&m, 1);
    assert_int_equal(m.last_index, 0);
    assert_int_equal(m.bytes, 0);
    memlog_fini(&m);
}

static void test_trim_keeps_the_term_before(void **state) {
    struct memlog m;
    memlog_init(&m);
    for (uint64_t i = 1; i <= 10; i++)
        push(&m, i, 8);
    memlog_trim(&m, 6);
    assert_int_equal(m.first_index, 6);
    assert_int_equal(memlog_term(&m, 5), 5);
    assert_int_equal(memlog_term(&m, 4), 0);
    assert_null(memlog_get(&m, 5));
    memlog_trim(&m, 3); /* nothing is left to drop there */
    assert_int_equal(m.first_index, 6);
    memlog_trim(&m, 11); /* all of it */
    assert_int_equal(m.first_index, 11);
    assert_int_equal(m.last_index, 10);
    assert_int_equal(m.bytes, 0);
    assert_int_equal(memlog_term(&m, 10), 10);
    push(&m, 11, 8);
    assert_int_equal(memlog_term(&m, 11), 11);
    memlog_fini(&m);
}

static void test_reset(void **state) {
    struct memlog m;
    memlog_init(&m);
    for (uint64_t i = 1; i <= 10; i++)
        push(&m, i, 8);
    memlog_reset(&m, 1001, 77);
    assert_int_equal(m.first_index, 1001);
    assert_int_equal(m.last_index, 1000);
    assert_int_equal(m.bytes, 0);
    assert_int_equal(memlog_term(&m, 1000), 77);
    assert_int_equal(memlog_term(&m, 10), 0);
    push(&m, 78, 0);
    assert_int_equal(memlog_term(&m, 1001), 78);
    memlog_fini(&m);
}

static void test_grows_around_the_corner(void **state) {
    struct memlog m;
    memlog_init(&m);
    uint64_t capacity = m.capacity;
    for (uint64_t i = 1; i <= capacity; i++)
        push(&m, i, 8);
    assert_int_equal(m.capacity, capacity);
    memlog_trim(&m, capacity / 2); /* from here on the ring wraps */
    for (uint64_t i = capacity + 1; i <= 3 * capacity; i++)
        push(&m, i, 8);
    assert_true(m.capacity > capacity);
    for (uint64_t i = capacity / 2; i <= 3 * capacity; i++)
        assert_int_equal(memlog_term(&m, i), i);
    memlog_fini(&m);
}

/* Entries share a chunk: it must live as long as any of them, also outside. */
static void test_shared_chunk(void **state) {
    struct memlog m;
    memlog_init(&m);
    struct chunk *c = chunk_new(30);
    for (uint64_t i = 1; i <= 3; i++) {
        struct core_entry e = {.term = 1,
                               .type = CORE_COMMAND,
                               .body = slice_of(c->data + 10 * (i - 1), 10),
                               .chunk = i == 1 ? c : chunk_ref(c)};
        memlog_append(&m, i, &e);
    }
    assert_int_equal(c->refs, 3);
    memlog_trim(&m, 2);
    assert_int_equal(c->refs, 2);
    chunk_ref(c);
    memlog_truncate(&m, 2);
    assert_int_equal(c->refs, 1);
    chunk_unref(c);
    chunk_unref(NULL);
    assert_null(chunk_ref(NULL));
    memlog_fini(&m);
}

/* Against an array that knows every term. */
static void test_random_history(void **state) {
    enum { INDEX_MAX = 60000 };
    uint64_t *terms = calloc(INDEX_MAX + 1, sizeof *terms);
    uint64_t first = 1, last = 0, bytes = 0, next = 1;
    struct rand r = {.state = 42};
    struct memlog m;
    memlog_init(&m);
    for (int step = 0; step < 40000; step++) {
        uint64_t what = rand_below(&r, 100);
        if (what < 80 && last < INDEX_MAX) {
            terms[last + 1] = next;
            push(&m, next, next % 50);
            bytes += next % 50;
            last++;
            next++;
        } else if (what < 90 && last >= first) {
            uint64_t from = last - rand_below(&r, last - first + 1 < 20 ? last - first + 1 : 20);
            for (uint64_t i = from; i <= last; i++)
                bytes -= terms[i] % 50;
            last = from - 1;
            memlog_truncate(&m, from);
        } else if (what < 92) {
            uint64_t to = first + rand_below(&r, last - first + 2);
            for (; first < to; first++)
                bytes -= terms[first] % 50;
            memlog_trim(&m, to);
        }
        assert_int_equal(m.first_index, first);
        assert_int_equal(m.last_index, last);
        assert_int_equal(m.bytes, bytes);
        uint64_t at = first + rand_below(&r, last - first + 1);
        if (last >= first)
            assert_int_equal(memlog_get(&m, at)->term, terms[at]);
        if (first > 1)
            assert_int_equal(memlog_term(&m, first - 1), terms[first - 1]);
    }
    memlog_fini(&m);
    free(terms);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_append_and_get),
        cmocka_unit_test(test_truncate_and_append_again),
        cmocka_unit_test(test_trim_keeps_the_term_before),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_grows_around_the_corner),
        cmocka_unit_test(test_shared_chunk),
        cmocka_unit_test(test_random_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
