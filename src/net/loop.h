/* The event loop of one thread: timers, wake-ups from other threads, a hook at the end of each
 * turn. A thin skin over libuv, whose header is included in net/ and replica/disk only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct loop;

int loop_new(struct loop **ret_loop) WARN_UNUSED; /* negative errno */
/* All handles must be closed before (streams, listeners, timers, wakers). */
void loop_free(struct loop *l);
/* Runs until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l); /* from the loop's own thread */
/* Runs what is left until no handle is active (signals, wakers and fine timers do not count): for
 * closing down.
 */
void loop_drain(struct loop *l);
uint64_t loop_now_ms(struct loop *l); /* monotonic, read anew at each call */
uint64_t loop_wall_ms(void);          /* since 1970, likewise */
/* The same, and milliseconds since 1970, as of the first call in this turn: for time limits and
 * dates that are asked for with every request. A turn takes some milliseconds at most. */
uint64_t loop_turn_ms(struct loop *l);
uint64_t loop_turn_wall_ms(struct loop *l);

/* Called once a turn after all input, timers and wakers were handled and before the loop sleeps:
 * the place to send what was gathered. Several hooks may be added; they run in that order. */
void loop_on_turn_end(struct loop *l, void (*fn)(void *ctx), void *ctx);
/* The same, behind all hooks of loop_on_turn_end(): for what sends on behalf of those. */
void loop_on_turn_last(struct loop *l, void (*fn)(void *ctx), void *ctx);
/* Takes back what was added with the same arguments by either; also from inside a hook. */
void loop_off_turn_end(struct loop *l, void (*fn)(void *ctx), void *ctx);

struct timer;
struct timer *timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx);
/* Fires once, at loop_now_ms() >= at_ms; replaces an earlier setting. UINT64_MAX: never. */
void timer_set(struct timer *t, uint64_t at_ms);
void timer_free(struct timer *t);

/* The same at a finer grain, with a descriptor of its own: fires at loop_now_ns() >= at_ns, late by
 * some microseconds and not by part of a millisecond. Negative errno when there is no descriptor.
 */
struct fine_timer;
uint64_t loop_now_ns(void); /* the clock of loop_now_ms() */
int fine_timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx,
                   struct fine_timer **ret_timer) WARN_UNUSED;
void fine_timer_set(struct fine_timer *t, uint64_t at_ns); /* UINT64_MAX: never */
void fine_timer_free(struct fine_timer *t);

/* Wakes the loop from any thread; several wakes may become one call. */
struct waker;
struct waker *waker_new(struct loop *l, void (*fn)(void *ctx), void *ctx);
void waker_wake(struct waker *w);
void waker_free(struct waker *w);

/* Likewise, woken by who adds to an eventfd(2): asynchronous input and output of the kernel. The
 * descriptor belongs to the event. Negative errno when there is none. */
struct event;
int event_new(struct loop *l, void (*fn)(void *ctx), void *ctx,
              struct event **ret_event) WARN_UNUSED;
int event_fd(const struct event *e);
void event_free(struct event *e);

/* Signals, delivered on the loop. */
int loop_on_signal(struct loop *l, int signum, void (*fn)(void *ctx, int signum),
                   void *ctx) WARN_UNUSED;
