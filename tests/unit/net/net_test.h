/* For the tests of net/: running a loop until something has happened. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/loop.h"

struct runner {
    struct loop *loop;
    const bool *until;
};

static inline void runner_check(void *ctx) {
    struct runner *r = ctx;
    if (r->until && *r->until)
        loop_stop(r->loop);
}

static inline void runner_hung(void *ctx) {
    fail_msg("nothing happened for 20 seconds");
}

static inline struct runner *runner_new(void) {
    struct runner *r = xcalloc(1, sizeof *r);
    assert_int_equal(loop_new(&r->loop), 0);
    loop_on_turn_end(r->loop, runner_check, r);
    return r;
}

/* Runs the loop until *flag is true at the end of a turn. */
static inline void run_until(struct runner *r, const bool *flag) {
    struct timer *guard = timer_new(r->loop, runner_hung, r);
    timer_set(guard, loop_now_ms(r->loop) + 20000);
    r->until = flag;
    loop_run(r->loop);
    r->until = NULL;
    timer_free(guard);
    assert_true(*flag);
}

/* Lets all that is closing close, and frees the loop. */
static inline void runner_free(struct runner *r) {
    loop_drain(r->loop);
    loop_free(r->loop);
    free(r);
}
