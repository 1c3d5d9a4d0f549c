#include "net_test.h"

#include "fake_stream.h"

struct seen {
    struct buf got;
    int drained, closed, eof, error;
};
static void on_read(void *ctx, struct slice bytes) {
    buf_append_slice(&((struct seen *)ctx)->got, bytes);
}
static void on_drain(void *ctx) {
    ((struct seen *)ctx)->drained++;
}
static void on_close(void *ctx, int error) {
    ((struct seen *)ctx)->closed++;
    ((struct seen *)ctx)->error = error;
}
static void on_eof(void *ctx) {
    ((struct seen *)ctx)->eof++;
}
static const struct stream_handler handler = {
    .on_read = on_read, .on_drain = on_drain, .on_close = on_close};
static const struct stream_handler half_handler = {
    .on_read = on_read, .on_drain = on_drain, .on_eof = on_eof, .on_close = on_close};

static void test_life(void **state) {
    struct seen seen = {0};
    struct fake_stream *f = fake_stream_new();
    stream_set_handler(&f->base, &handler, &seen);
    assert_true(fake_stream_feed_str(f, "in"));
    stream_pause(&f->base);
    assert_false(fake_stream_feed_str(f, "held back"));
    stream_resume(&f->base);
    stream_write(&f->base, slice_str("a"));
    fake_stream_block(f);
    stream_write(&f->base, slice_str("b"));
    assert_int_equal(stream_pending_bytes(&f->base), 1);
    assert_true(slice_equal_str(buf_slice(&f->written), "a"));
    stream_shutdown(&f->base);
    stream_write(&f->base, slice_str("dropped"));
    fake_stream_turn(f);
    assert_int_equal(seen.closed, 0);
    fake_stream_unblock(f);
    assert_true(slice_equal_str(buf_slice(&f->written), "ab"));
    assert_int_equal(seen.drained, 0);
    fake_stream_turn(f);
    fake_stream_turn(f);
    assert_int_equal(seen.closed, 1);
    assert_true(slice_equal_str(buf_slice(&seen.got), "in"));
    fake_stream_free(f);
    buf_fini(&seen.got);
}

static void test_drain_and_ends(void **state) {
    struct seen seen = {0};
    struct fake_stream *f = fake_stream_new();
    stream_set_handler(&f->base, &half_handler, &seen);
    fake_stream_block(f);
    stream_write(&f->base, slice_str("x"));
    fake_stream_unblock(f);
    assert_int_equal(seen.drained, 1);
    fake_stream_eof(f);
    assert_int_equal(seen.eof, 1);
    fake_stream_break(f, -104);
    assert_int_equal(seen.closed, 0);
    fake_stream_turn(f);
    assert_int_equal(seen.closed, 1);
    assert_int_equal(seen.error, -104);
    fake_stream_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_drain_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
