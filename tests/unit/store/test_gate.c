#include "kit.h"

#include <pthread.h>
#include <stdlib.h>

#include "store/gate.h"

static struct kit kit;
static struct store_gate *gate;
static int fatal_error;

static void on_fatal(void *ctx, int error) {
    assert_ptr_equal(ctx, &kit);
    fatal_error = error;
}

static int setup(void **state) {
    kit_open(&kit);
    fatal_error = 0;
    gate = store_gate_new(on_fatal, &kit);
    return 0;
}

static int teardown(void **state) {
    store_gate_free(gate);
    kit_close(&kit);
    return 0;
}

static void assert_value(struct store_view *view, const char *expected) {
    struct buf packed = {0}, out = {0};
    struct argv argv = {0};
    argv_append_strs(&packed, "GET", "a", NULL);
    assert_true(argv_unpack(&argv, buf_slice(&packed)));
    assert_int_equal(store_read(view, 0, 0, 0, &argv, &out), 0);
    assert_bytes(buf_slice(&out), S(expected));
    buf_fini(&packed);
    buf_fini(&out);
    argv_fini(&argv);
}

static void a_turn_sees_what_is_committed(void **state) {
    struct store_reader *r = store_reader_new(gate), *other = store_reader_new(gate);
    struct store_view *view, *view_of_other;
    assert_false(store_reader_begin(r, &view, NULL));
    kit_run(&kit, "SET a 1");
    store_gate_open(gate, kit.store);
    assert_true(store_reader_begin(r, &view, NULL));
    kit_run(&kit, "SET a 2");
    assert_value(view, "$1\r\n1\r\n"); /* one state for the whole turn */
    assert_true(store_reader_begin(other, &view_of_other, NULL));
    assert_value(view_of_other, "$1\r\n2\r\n");
    store_reader_end(r);
    store_reader_end(other);
    assert_true(store_reader_begin(r, &view, NULL));
    assert_value(view, "$1\r\n2\r\n");
    store_reader_end(r);
    store_reader_free(other); /* with the gate open */
    store_gate_close(gate);
    store_reader_free(r); /* and closed */
    assert_int_equal(fatal_error, 0);
}

static void a_closed_gate_leaves_no_view(void **state) {
    struct store_reader *r = store_reader_new(gate);
    struct store_view *view;
    kit_run(&kit, "SET a 1");
    store_gate_open(gate, kit.store);
    assert_true(store_reader_begin(r, &view, NULL));
    store_reader_end(r);
    store_gate_close(gate);
    store_gate_close(gate);
    assert_int_equal(store_close(kit.store), 0); /* it checks that there is none */
    kit_reopen(&kit);
    kit_run(&kit, "SET a 2");
    assert_false(store_reader_begin(r, &view, NULL));
    store_gate_open(gate, kit.store);
    assert_true(store_reader_begin(r, &view, NULL));
    assert_value(view, "$1\r\n2\r\n");
    store_reader_end(r);
    store_gate_close(gate);
    store_reader_free(r);
}

static void freshness_is_of_the_open_store(void **state) {
    struct store_reader *r = store_reader_new(gate);
    struct store_view *view;
    struct store_freshness fresh;
    store_gate_note_fresh(gate, 5); /* closed: of no store */
    store_gate_open(gate, kit.store);
    assert_true(store_reader_begin(r, &view, &fresh));
    assert_false(fresh.known);
    store_gate_note_fresh(gate, 0);
    store_reader_end(r);
    assert_true(store_reader_begin(r, &view, &fresh));
    assert_true(fresh.known);
    assert_int_equal(fresh.since_ms, 0);
    assert_true(store_gate_freshness(gate).known);
    store_reader_end(r);
    store_gate_close(gate);
    store_gate_open(gate, kit.store);
    assert_true(store_reader_begin(r, &view, &fresh));
    assert_false(fresh.known);
    store_reader_end(r);
    store_gate_close(gate);
    store_reader_free(r);
}

/* ---- threads ---- */

enum { READERS = 3, SWAPS = 300 };
static bool stop;

static void *read_all_the_time(void *arg) {
    struct store_reader *r = store_reader_new(gate);
    struct store_view *view;
    uint64_t last = 0, *turns = arg;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        if (!store_reader_begin(r, &view, NULL))
            continue;
        uint64_t index = store_view_applied_index(view);
        if (index < last)
            abort();
        last = index;
        store_reader_end(r);
        __atomic_add_fetch(turns, 1, __ATOMIC_RELAXED);
    }
    store_reader_free(r);
    return NULL;
}

/* Readers that begin one turn after the other, a store that is written, closed and opened again. */
static void the_store_is_swapped_under_readers(void **state) {
    pthread_t threads[READERS];
    uint64_t turns[READERS] = {0};
    stop = false;
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_all_the_time, &turns[i]), 0);
    for (int i = 0; i < SWAPS; i++) {
        store_gate_open(gate, kit.store);
        kit_run(&kit, "INCR a");
        store_gate_close(gate);
        store_abandon(kit.store); /* it checks that no view is left */
        kit_reopen(&kit);
    }
    /* Everybody had a turn at some time; a store that stays open sees to it. */
    store_gate_open(gate, kit.store);
    for (int i = 0; i < READERS; i++)
        while (__atomic_load_n(&turns[i], __ATOMIC_RELAXED) == 0)
            continue;
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    store_gate_close(gate);
    assert_int_equal(fatal_error, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_turn_sees_what_is_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closed_gate_leaves_no_view, setup, teardown),
        cmocka_unit_test_setup_teardown(freshness_is_of_the_open_store, setup, teardown),
        cmocka_unit_test_setup_teardown(the_store_is_swapped_under_readers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
