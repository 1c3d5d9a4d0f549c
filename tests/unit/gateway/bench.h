/* A gateway under test: fake streams for its clients, and in place of the upstream (at link time:
 * fake_upstream.c) one that executes on a real store and answers when the test says so, in the
 * order it says. The clocks stand still unless moved.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_stream.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"

struct bench {
    struct gateway_shared *shared;
    struct upstream *up;
    struct gateway *gw;
    uint64_t now_ms, wall_ms;
};

struct bench *bench_new(const struct gateway_options *options); /* NULL: the defaults */
/* Streams must have been freed with bench_hang_up() before, or be closed. */
void bench_free(struct bench *b);

struct fake_stream *bench_redis(struct bench *b);
struct fake_stream *bench_http(struct bench *b);
/* The client goes away; frees the stream. */
void bench_hang_up(struct bench *b, struct fake_stream *f);

/* Frees a stream that has closed. */
void bench_drop_stream(struct fake_stream *f);

/* Turns of the loop, without answers from the upstream. */
void bench_turn(struct bench *b);
/* Turns and answers until nothing moves any more. */
void bench_settle(struct bench *b);
/* Moves the clocks in steps of a second with a sweep and a turn each. */
void bench_wait(struct bench *b, uint64_t ms);

/* Feeds in pieces of at most `piece` bytes, settling between them (also while paused). */
void bench_feed(struct bench *b, struct fake_stream *f, struct slice bytes, size_t piece);
/* Feeds, settles, and compares what the client receives. */
void bench_talk(struct bench *b, struct fake_stream *f, const char *send, const char *expect);
/* What the client has received since the last call; NUL-terminated, valid until the next call. */
const char *bench_received(struct fake_stream *f);

/* ---- the fake upstream ---- */

/* Of the next one's store: how many changes its log keeps; 0: the default. */
extern uint64_t fake_upstream_changes_max;
struct upstream *fake_upstream_new(void);
/* Moves the time of the log. */
void fake_upstream_pass(struct upstream *up, uint64_t ms);
void fake_upstream_set_ready(struct upstream *up, bool ready);
size_t fake_upstream_pending(const struct upstream *up);
/* The oldest that can be answered: not a poll for a state that has not come. SIZE_MAX: none. */
size_t fake_upstream_next(const struct upstream *up);
/* The kind of a request that waits; 0 is the oldest. */
enum upstream_kind fake_upstream_kind(const struct upstream *up, size_t i);
/* Its packed argv's first argument. */
struct slice fake_upstream_name(const struct upstream *up, size_t i);
uint64_t fake_upstream_min_index(const struct upstream *up, size_t i);
/* Answers the request at that place. */
void fake_upstream_answer(struct upstream *up, size_t i);
/* Answers it so, without executing (a read) or although it was executed (a write). */
void fake_upstream_answer_with(struct upstream *up, size_t i, enum upstream_outcome outcome,
                               const char *reply);
/* Its time limit ends it, unsent. */
void fake_upstream_time_out(struct upstream *up, size_t i);
/* Whether it came too late to be sent. */
bool fake_upstream_late(const struct upstream *up, size_t i);
size_t fake_upstream_forgotten(const struct upstream *up);
size_t fake_upstream_flushes(const struct upstream *up);
