/* What counts as a flood of HTTP/2 frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_client.h"
#include "proto/http2_guard.h"

static struct buf bytes;

static void begin(void) {
    buf_reset(&bytes);
    buf_append(&bytes, http2_preface, HTTP2_PREFACE_BYTES);
}

static void put(int type, int flags, const char *payload, int times) {
    for (int i = 0; i < times; i++)
        h2_put_frame(&bytes, type, flags, 1, slice_str(payload));
}

/* How many bytes it takes before the guard says no, in pieces of that size; SIZE_MAX: it never
 * does. */
static size_t verdict(size_t piece) {
    struct http2_guard g;
    http2_guard_begin(&g);
    for (size_t at = 0; at < bytes.size; at += piece) {
        size_t n = bytes.size - at < piece ? bytes.size - at : piece;
        if (!http2_guard_take(&g, slice_of(bytes.data + at, n))) {
            assert_false(http2_guard_take(&g, slice_of(NULL, 0)));
            http2_guard_earn(&g, 100000);
            assert_false(http2_guard_take(&g, slice_of(NULL, 0)));
            assert_false(http2_guard_pay(&g, 0));
            return at + n;
        }
    }
    return SIZE_MAX;
}

static void assert_flood(bool flood) {
    size_t one = verdict(1);
    assert_int_equal(one != SIZE_MAX, flood);
    for (size_t piece = 2; piece < 100; piece++) {
        size_t at = verdict(piece);
        assert_int_equal(at != SIZE_MAX, flood);
        assert_true(!flood || (at >= one && at < one + piece));
    }
}

static void test_floods(void **state) {
    static const struct {
        int type, flags;
        const char *payload;
        int allowed;
    } rows[] = {
        {H2_RST_STREAM, 0, "1234", HTTP2_BUDGET / 5},
        {H2_DATA, 0, "", HTTP2_BUDGET / 5},
        {H2_SETTINGS, 0, "", HTTP2_BUDGET / 10},
        {H2_PING, 0, "12345678", HTTP2_BUDGET},
        {H2_PRIORITY, 0, "12345", HTTP2_BUDGET},
        {H2_WINDOW_UPDATE, 0, "1234", HTTP2_BUDGET},
        {99, 0, "unknown", HTTP2_BUDGET},
        {H2_CONTINUATION, 0, "x", HTTP2_CONTINUATIONS_MAX},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        begin();
        put(rows[i].type, rows[i].flags, rows[i].payload, rows[i].allowed);
        assert_flood(false);
        put(rows[i].type, rows[i].flags, rows[i].payload, 1);
        assert_flood(true);
    }
}

static void test_no_floods(void **state) {
    begin();
    put(H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, "block", 5000);
    put(H2_DATA, 0, "content", 5000);
    put(H2_DATA, H2_END_STREAM, "", 5000);
    for (int i = 0; i < 100; i++) {
        put(H2_HEADERS, 0, "block", 1);
        put(H2_CONTINUATION, 0, "x", HTTP2_CONTINUATIONS_MAX - 1);
        put(H2_CONTINUATION, H2_END_HEADERS, "x", 1);
    }
    assert_flood(false);
}

/* A payload that looks like frames is not one, wherever it is cut. */
static void test_payload_is_skipped(void **state) {
    struct buf inner = {0};
    for (int i = 0; i < 1000; i++)
        h2_put_frame(&inner, H2_RST_STREAM, 0, 1, slice_str("1234"));
    begin();
    h2_put_frame(&bytes, H2_DATA, 0, 1, buf_slice(&inner));
    assert_flood(false);
    buf_fini(&inner);
}

static void test_earned(void **state) {
    struct http2_guard g;
    http2_guard_begin(&g);
    for (int i = 0; i < 100000; i++) {
        assert_true(http2_guard_pay(&g, HTTP2_COST_RESET));
        http2_guard_earn(&g, HTTP2_EARN_ANSWER);
    }
    http2_guard_earn(&g, UINT64_MAX);
    assert_int_equal(g.points, HTTP2_BUDGET);
    assert_true(http2_guard_pay(&g, HTTP2_BUDGET));
    assert_false(http2_guard_pay(&g, 1));
}

static void test_in_head(void **state) {
    struct http2_guard g;
    http2_guard_begin(&g);
    begin();
    put(H2_HEADERS, 0, "block", 1);
    assert_true(http2_guard_take(&g, buf_slice(&bytes)));
    assert_true(g.in_head);
    buf_reset(&bytes);
    put(H2_CONTINUATION, H2_END_HEADERS, "block", 1);
    assert_true(http2_guard_take(&g, buf_slice(&bytes)));
    assert_false(g.in_head);
    buf_fini(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floods),  cmocka_unit_test(test_no_floods),
        cmocka_unit_test(test_earned),  cmocka_unit_test(test_payload_is_skipped),
        cmocka_unit_test(test_in_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
