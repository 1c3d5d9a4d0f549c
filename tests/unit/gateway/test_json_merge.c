/* The examples of RFC 7396, appendix A, and more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after those */
#include <cmocka.h>
#include <stdlib.h>

#include "base/check.h"
#include "gateway/json_merge.h"

static json_t *parse(const char *text) {
    return text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
}

static void examples(void **state) {
    static const struct {
        const char *target, *patch, *want;
    } rows[] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {NULL, "{\"a\":{\"b\":null,\"c\":1}}", "{\"a\":{\"c\":1}}"},
        {NULL, "{}", "{}"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        json_t *target = parse(rows[i].target), *patch = parse(rows[i].patch);
        json_t *want = parse(rows[i].want), *before = target ? json_deep_copy(target) : NULL;
        json_t *result = json_merge_patch(target, patch);
        if (!json_equal(result, want))
            fail_msg("row %zu: %s", i, json_dumps(result, JSON_ENCODE_ANY));
        assert_true(!target || json_equal(target, before)); /* borrowed, not changed */
        json_decref(target);
        json_decref(before);
        json_decref(patch);
        json_decref(want);
        json_decref(result);
    }
}

static void depth(void **state) {
    json_t *v = parse("{\"a\":[{\"b\":1}]}");
    assert_true(json_within_depth(v, 3));
    assert_false(json_within_depth(v, 2));
    json_decref(v);
    v = parse("1");
    assert_true(json_within_depth(v, 0));
    json_decref(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(examples), cmocka_unit_test(depth)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
