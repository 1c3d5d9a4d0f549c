#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after those */
#include <cmocka.h>

#include "proto/sse.h"

static void whole_event(void **state) {
    struct buf out = {0};
    sse_retry(&out, 2000);
    sse_comment(&out, "hello");
    sse_event(&out, "put");
    sse_data(&out, slice_str("{\"a\":1}"));
    sse_id(&out, 18446744073709551615u);
    sse_end(&out);
    buf_append_u8(&out, 0);
    assert_string_equal((const char *)out.data, "retry: 2000\n: hello\nevent: put\n"
                                                "data: {\"a\":1}\nid: 18446744073709551615\n\n");
    buf_fini(&out);
}

/* However data breaks its lines, a field never ends early. */
static void lines(void **state) {
    static const struct {
        const char *data, *want;
    } rows[] = {
        {"", "data: \n"},
        {"a", "data: a\n"},
        {"a\nb", "data: a\ndata: b\n"},
        {"a\r\nb", "data: a\ndata: b\n"},
        {"a\rb", "data: a\ndata: b\n"},
        {"a\n\nb", "data: a\ndata: \ndata: b\n"},
        {"a\n\rb", "data: a\ndata: \ndata: b\n"},
        {"\n", "data: \ndata: \n"},
        {"a\r", "data: a\ndata: \n"},
        {"event: x", "data: event: x\n"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct buf out = {0};
        sse_data(&out, slice_str(rows[i].data));
        buf_append_u8(&out, 0);
        assert_string_equal((const char *)out.data, rows[i].want);
        buf_fini(&out);
    }
}

static void ids(void **state) {
    static const char *const bad[] = {
        "", " 1", "1 ", "01", "+1", "-1", "1.0", "0x1", "a", "1\n", "18446744073709551616"};
    uint64_t id = 77;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_false(sse_parse_id(slice_str(bad[i]), &id));
        assert_int_equal(id, 77);
    }
    assert_true(sse_parse_id(slice_str("0"), &id) && id == 0);
    assert_true(sse_parse_id(slice_str("18446744073709551615"), &id) && id == UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_event),
        cmocka_unit_test(lines),
        cmocka_unit_test(ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
