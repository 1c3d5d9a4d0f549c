#include "net_test.h"

#include <pthread.h>
#include <signal.h>

#include "base/buf.h"
#include "net/tcp.h"

/* Events in the order in which they were seen, a letter each. */
static char seen[64];

static void note(char c) {
    size_t n = strlen(seen);
    assert_true(n + 1 < sizeof seen);
    seen[n] = c;
    seen[n + 1] = '\0';
}

struct probe {
    struct loop *loop;
    uint64_t at_ms;
    uint64_t fired_ms;
    int count;
    bool done;
};

static void on_timer(void *ctx) {
    struct probe *p = ctx;
    p->fired_ms = loop_now_ms(p->loop);
    p->count++;
    p->done = true;
}

static void test_timer_is_never_early(void **state) {
    struct runner *r = runner_new();
    struct probe p = {.loop = r->loop};
    struct timer *t = timer_new(r->loop, on_timer, &p);
    for (int i = 0; i < 20; i++) {
        p.done = false;
        p.at_ms = loop_now_ms(r->loop) + (uint64_t)(i % 4);
        timer_set(t, p.at_ms);
        run_until(r, &p.done);
        assert_true(p.fired_ms >= p.at_ms);
        assert_int_equal(p.count, i + 1);
    }
    timer_free(t);
    runner_free(r);
}

static void on_fine_timer(void *ctx) {
    struct probe *p = ctx;
    p->fired_ms = loop_now_ns();
    p->count++;
    p->done = true;
}

/* A time that is over fires at once; one that was replaced, cleared or freed does not fire. */
static void test_fine_timer(void **state) {
    struct runner *r = runner_new();
    struct probe p = {.loop = r->loop}, gone = {.loop = r->loop};
    struct fine_timer *t, *never, *freed;
    assert_int_equal(fine_timer_new(r->loop, on_fine_timer, &p, &t), 0);
    assert_int_equal(fine_timer_new(r->loop, on_fine_timer, &gone, &never), 0);
    assert_int_equal(fine_timer_new(r->loop, on_fine_timer, &gone, &freed), 0);
    fine_timer_set(never, loop_now_ns());
    fine_timer_set(never, UINT64_MAX);
    fine_timer_set(freed, 0);
    fine_timer_free(freed);
    for (uint64_t i = 0; i < 20; i++) {
        p.done = false;
        uint64_t at_ns = i == 0 ? 0 : loop_now_ns() + i * 37000;
        fine_timer_set(t, at_ns + 1000000);
        fine_timer_set(t, at_ns);
        run_until(r, &p.done);
        assert_true(p.fired_ms >= at_ns);
        assert_int_equal(p.count, i + 1);
    }
    assert_int_equal(gone.count, 0);
    fine_timer_free(t);
    fine_timer_free(never);
    runner_free(r);
}

static void test_timer_replaced_and_cleared(void **state) {
    struct runner *r = runner_new();
    struct probe first = {.loop = r->loop}, second = {.loop = r->loop};
    struct timer *a = timer_new(r->loop, on_timer, &first);
    struct timer *b = timer_new(r->loop, on_timer, &second);
    struct timer *gone = timer_new(r->loop, on_timer, &first);
    uint64_t now = loop_now_ms(r->loop);
    timer_set(a, now);
    timer_set(a, UINT64_MAX);
    timer_set(gone, now);
    timer_free(gone);
    timer_set(b, now + 100000);
    timer_set(b, now + 2);
    run_until(r, &second.done);
    assert_int_equal(first.count, 0);
    assert_int_equal(second.count, 1);
    timer_free(a);
    timer_free(b);
    runner_free(r);
}

static void on_wake(void *ctx) {
    struct probe *p = ctx;
    p->count++;
    p->done = true;
}

static void *wake_from_thread(void *ctx) {
    waker_wake(ctx);
    return NULL;
}

static void test_waker_from_another_thread(void **state) {
    struct runner *r = runner_new();
    struct probe p = {.loop = r->loop};
    struct waker *w = waker_new(r->loop, on_wake, &p);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_from_thread, w), 0);
    run_until(r, &p.done);
    pthread_join(thread, NULL);
    waker_free(w);
    runner_free(r);
}

/* ---- the end of a turn comes after everything that happened in it ---- */

struct turn {
    struct loop *loop;
    struct waker *waker;
    struct timer *timer;
    struct stream *ends[2];
    bool all_seen;
    bool done;
    int closed;
};

static void turn_on_read(void *ctx, struct slice bytes) {
    note('r');
}
static void turn_on_close(void *ctx, int error) {
    ((struct turn *)ctx)->closed++;
}
static const struct stream_handler turn_handler = {.on_read = turn_on_read,
                                                   .on_close = turn_on_close};

static void turn_on_timer(void *ctx) {
    note('t');
}
static void turn_on_wake(void *ctx) {
    note('w');
}
static void turn_end_first(void *ctx) {
    note('1');
}
static void turn_end_second(void *ctx) {
    struct turn *t = ctx;
    note('2');
    t->all_seen = strchr(seen, 'r') && strchr(seen, 't') && strchr(seen, 'w');
    /* The runner looks at `done` in a hook before this one: give it another turn. */
    if (t->all_seen && !t->done)
        waker_wake(t->waker);
    t->done = t->all_seen;
}

static void test_hooks_run_last_in_order(void **state) {
    struct runner *r = runner_new();
    struct turn t = {.loop = r->loop};
    int fds[2];
    assert_int_equal(socketpair_new(fds), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stream_from_fd(r->loop, fds[i], &t.ends[i]), 0);
        stream_set_handler(t.ends[i], &turn_handler, &t);
    }
    t.waker = waker_new(r->loop, turn_on_wake, &t);
    t.timer = timer_new(r->loop, turn_on_timer, &t);
    loop_on_turn_end(r->loop, turn_end_first, &t);
    loop_on_turn_end(r->loop, turn_end_second, &t);
    seen[0] = '\0';
    timer_set(t.timer, loop_now_ms(r->loop));
    waker_wake(t.waker);
    stream_write(t.ends[0], slice_str("x"));
    run_until(r, &t.done);
    /* Each of the three events is followed by both hooks before the next sleep, and the hooks
     * always come as a pair. */
    for (const char *c = seen; *c; c++) {
        if (*c == '1')
            assert_int_equal(c[1], '2');
        if (*c == '2')
            assert_true(c > seen && c[-1] == '1');
    }
    assert_true(strrchr(seen, '2') > strchr(seen, 'r'));
    assert_true(strrchr(seen, '2') > strchr(seen, 't'));
    assert_true(strrchr(seen, '2') > strchr(seen, 'w'));
    stream_close(t.ends[0]);
    stream_close(t.ends[1]);
    timer_free(t.timer);
    waker_free(t.waker);
    runner_free(r);
    assert_int_equal(t.closed, 2);
}

/* What a hook writes is sent although nothing else happens in the loop. */
struct echo {
    struct stream *ends[2];
    bool sent;
    bool done;
};
static void echo_hook(void *ctx) {
    struct echo *e = ctx;
    if (!e->sent)
        stream_write(e->ends[0], slice_str("from the hook"));
    e->sent = true;
}
static void echo_on_read(void *ctx, struct slice bytes) {
    assert_true(slice_equal_str(bytes, "from the hook"));
    ((struct echo *)ctx)->done = true;
}
static const struct stream_handler echo_handler = {.on_read = echo_on_read};

static void test_hook_may_write(void **state) {
    struct runner *r = runner_new();
    struct echo e = {0};
    int fds[2];
    assert_int_equal(socketpair_new(fds), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stream_from_fd(r->loop, fds[i], &e.ends[i]), 0);
        stream_set_handler(e.ends[i], &echo_handler, &e);
    }
    loop_on_turn_end(r->loop, echo_hook, &e);
    run_until(r, &e.done);
    stream_close(e.ends[0]);
    stream_close(e.ends[1]);
    runner_free(r);
}

struct noter {
    struct loop *loop;
    char name;
};
static void noter_hook(void *ctx) {
    note(((struct noter *)ctx)->name);
}
static void noter_hook_once(void *ctx) {
    struct noter *n = ctx;
    note(n->name);
    loop_off_turn_end(n->loop, noter_hook_once, n);
}

static void test_last_hooks_and_removal(void **state) {
    struct runner *r = runner_new();
    struct noter last = {r->loop, 'z'}, once = {r->loop, 'o'}, first = {r->loop, 'a'};
    bool turn = true;
    loop_on_turn_last(r->loop, noter_hook, &last);
    loop_on_turn_end(r->loop, noter_hook_once, &once);
    loop_on_turn_end(r->loop, noter_hook, &first);
    seen[0] = '\0';
    /* One turn, and the end of the run. */
    run_until(r, &turn);
    assert_string_equal(seen, "oazaz");
    loop_off_turn_end(r->loop, noter_hook, &last);
    seen[0] = '\0';
    run_until(r, &turn);
    assert_string_equal(seen, "aa");
    runner_free(r);
}

static void on_signal(void *ctx, int signum) {
    assert_int_equal(signum, SIGUSR1);
    *(bool *)ctx = true;
}

static void test_signal(void **state) {
    struct runner *r = runner_new();
    bool got = false;
    assert_int_equal(loop_on_signal(r->loop, SIGUSR1, on_signal, &got), 0);
    assert_true(loop_on_signal(r->loop, SIGKILL, on_signal, &got) < 0);
    raise(SIGUSR1);
    run_until(r, &got);
    runner_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timer_is_never_early),
        cmocka_unit_test(test_fine_timer),
        cmocka_unit_test(test_timer_replaced_and_cleared),
        cmocka_unit_test(test_waker_from_another_thread),
        cmocka_unit_test(test_hooks_run_last_in_order),
        cmocka_unit_test(test_hook_may_write),
        cmocka_unit_test(test_last_hooks_and_removal),
        cmocka_unit_test(test_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
