#include "net/pair.h"

#include "base/buf.h"
#include "net_test.h"

struct end {
    struct stream *stream; /* NULL: closed */
    struct buf got;
    unsigned reads, drained, eofs, closed;
    bool echo;       /* answers each read with one byte less */
    bool close_then; /* closes at the first read */
};

static void end_on_read(void *ctx, struct slice bytes) {
    struct end *e = ctx;
    assert_int_equal(e->closed, 0);
    e->reads++;
    buf_append_slice(&e->got, bytes);
    if (e->echo)
        stream_write(e->stream, slice_of(bytes.data, bytes.size - 1));
    if (e->close_then)
        stream_close(e->stream);
}
static void end_on_drain(void *ctx) {
    ((struct end *)ctx)->drained++;
}
static void end_on_eof(void *ctx) {
    ((struct end *)ctx)->eofs++;
}
static void end_on_close(void *ctx, int error) {
    struct end *e = ctx;
    assert_int_equal(error, 0);
    e->closed++;
    e->stream = NULL;
}
static const struct stream_handler handler = {
    .on_read = end_on_read, .on_drain = end_on_drain, .on_close = end_on_close};
static const struct stream_handler half_handler = {.on_read = end_on_read,
                                                   .on_drain = end_on_drain,
                                                   .on_close = end_on_close,
                                                   .on_eof = end_on_eof};

struct fixture {
    struct runner *r;
    struct end a, b;
};

static void begin(struct fixture *f) {
    *f = (struct fixture){.r = runner_new()};
    stream_pair_new(f->r->loop, &f->a.stream, &f->b.stream);
    stream_set_handler(f->a.stream, &handler, &f->a);
    stream_set_handler(f->b.stream, &handler, &f->b);
}

/* One turn: it ends with the hooks, and what they lead to. */
static void turn(struct fixture *f) {
    const bool now = true;
    run_until(f->r, &now);
}

static void finish(struct fixture *f) {
    if (f->a.stream)
        stream_close(f->a.stream);
    if (f->b.stream)
        stream_close(f->b.stream);
    runner_free(f->r);
    assert_int_equal(f->a.closed, 1);
    assert_int_equal(f->b.closed, 1);
    buf_fini(&f->a.got);
    buf_fini(&f->b.got);
}

static void test_bytes_arrive_in_order(void **state) {
    struct fixture f;
    begin(&f);
    stream_write(f.a.stream, slice_str("one "));
    stream_write(f.a.stream, slice_str("two"));
    stream_write(f.b.stream, slice_str("back"));
    assert_int_equal(f.b.reads, 0); /* never from inside the call */
    assert_int_equal(stream_pending_bytes(f.a.stream), 7);
    turn(&f);
    assert_true(slice_equal_str(buf_slice(&f.b.got), "one two"));
    assert_true(slice_equal_str(buf_slice(&f.a.got), "back"));
    assert_int_equal(stream_pending_bytes(f.a.stream), 0);
    assert_int_equal(f.a.drained, 0); /* nothing had to wait */
    assert_string_equal(stream_peer(f.a.stream), "local");
    finish(&f);
}

/* Questions and answers to and fro in one turn; more of them than a turn has rounds for go on in
 * the next, and the loop does not sleep in between. */
static void test_to_and_fro(void **state) {
    struct fixture f;
    begin(&f);
    f.a.echo = f.b.echo = true;
    char bytes[300] = {0};
    stream_write(f.a.stream, slice_of(bytes, 20));
    turn(&f);
    assert_int_equal(f.a.reads + f.b.reads, 20);
    stream_write(f.a.stream, slice_of(bytes, sizeof bytes));
    for (int i = 0; f.a.reads + f.b.reads < 20 + sizeof bytes; i++) {
        assert_true(i < 100);
        turn(&f);
    }
    finish(&f);
}

static void test_who_pauses_pushes_back(void **state) {
    struct fixture f;
    begin(&f);
    stream_pause(f.b.stream);
    stream_write(f.a.stream, slice_str("waits"));
    turn(&f);
    assert_int_equal(f.b.reads, 0);
    assert_int_equal(stream_pending_bytes(f.a.stream), 5);
    assert_int_equal(f.a.drained, 0);
    stream_resume(f.b.stream);
    turn(&f);
    assert_int_equal(f.b.reads, 1);
    assert_int_equal(f.a.drained, 1);
    finish(&f);
}

static void test_shutdown_comes_behind_the_bytes(void **state) {
    struct fixture f;
    begin(&f);
    stream_set_handler(f.b.stream, &half_handler, &f.b);
    stream_pause(f.b.stream);
    stream_write(f.a.stream, slice_str("last"));
    stream_shutdown(f.a.stream);
    stream_write(f.a.stream, slice_str("dropped"));
    turn(&f);
    assert_int_equal(f.a.closed, 0);
    stream_resume(f.b.stream);
    turn(&f);
    assert_true(slice_equal_str(buf_slice(&f.b.got), "last"));
    assert_int_equal(f.b.eofs, 1);
    assert_int_equal(f.a.closed, 1);
    assert_int_equal(f.b.closed, 0);
    stream_write(f.b.stream, slice_str("to nobody"));
    turn(&f);
    assert_int_equal(f.b.eofs, 1);
    finish(&f);
}

/* What was written before is taken as if a kernel had it. */
static void test_close_ends_the_other(void **state) {
    struct fixture f;
    begin(&f);
    stream_write(f.a.stream, slice_str("still"));
    stream_write(f.b.stream, slice_str("dropped"));
    stream_close(f.a.stream);
    assert_int_equal(f.a.closed, 0);
    turn(&f);
    turn(&f);
    assert_int_equal(f.a.closed, 1);
    assert_int_equal(f.a.reads, 0);
    assert_true(slice_equal_str(buf_slice(&f.b.got), "still"));
    assert_int_equal(f.b.closed, 1);
    finish(&f);
}

static void test_close_from_inside_a_read(void **state) {
    struct fixture f;
    begin(&f);
    f.b.close_then = true;
    stream_write(f.a.stream, slice_str("x"));
    turn(&f);
    assert_int_equal(f.b.closed, 1);
    finish(&f);
}

static void test_draining_a_loop_closes_pairs(void **state) {
    struct fixture f;
    begin(&f);
    finish(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_arrive_in_order),
        cmocka_unit_test(test_to_and_fro),
        cmocka_unit_test(test_who_pauses_pushes_back),
        cmocka_unit_test(test_shutdown_comes_behind_the_bytes),
        cmocka_unit_test(test_close_ends_the_other),
        cmocka_unit_test(test_close_from_inside_a_read),
        cmocka_unit_test(test_draining_a_loop_closes_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
