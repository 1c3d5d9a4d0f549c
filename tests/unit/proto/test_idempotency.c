#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after those */
#include <cmocka.h>
#include <string.h>

#include "base/check.h"
#include "proto/idempotency.h"

static void good(const char *value, const char *want) {
    uint8_t key[IDEMPOTENCY_KEY_BYTES_MAX];
    size_t size = 0;
    assert_true(idempotency_key_parse(slice_str(value), key, &size));
    assert_int_equal(size, strlen(want));
    assert_memory_equal(key, want, size);
}

static void bad(const char *value) {
    uint8_t key[IDEMPOTENCY_KEY_BYTES_MAX];
    size_t size = 12345;
    if (idempotency_key_parse(slice_str(value), key, &size))
        fail_msg("taken: %s", value);
    assert_int_equal(size, 12345);
}

static void quoted(void **state) {
    good("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324");
    good("\"a b,c;d='~\"", "a b,c;d='~");
    good("\"a\\\"b\\\\c\"", "a\"b\\c");
    bad("\"\"");
    bad("\"");
    bad("\"abc");
    bad("\"abc\\");
    bad("\"abc\\\"");
    bad("\"a\\bc\"");
    bad("\"abc\" ");
    bad("\"abc\";p=1");
    bad("\"abc\", \"abc\"");
    bad("\"a\tb\"");
    bad("\"a\x7F\"");
    bad("\"\xC3\xA4\"");
}

static void bare(void **state) {
    good("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324");
    good("order/17:3+x=_.~!'()", "order/17:3+x=_.~!'()");
    bad("");
    bad("a b");
    bad("a,b");
    bad("a;b");
    bad("a\"b");
    bad("a\\b");
    bad("\xC3\xA4");
    bad("a\x7F");
}

static void lengths(void **state) {
    char text[2 * IDEMPOTENCY_KEY_BYTES_MAX + 8];
    memset(text, 'k', sizeof text);
    text[IDEMPOTENCY_KEY_BYTES_MAX] = 0;
    good(text, text);
    text[IDEMPOTENCY_KEY_BYTES_MAX] = 'k';
    text[IDEMPOTENCY_KEY_BYTES_MAX + 1] = 0;
    bad(text);
    /* What counts is the key, not how it is written. */
    char want[IDEMPOTENCY_KEY_BYTES_MAX + 2] = {0};
    text[0] = '"';
    for (size_t i = 0; i <= IDEMPOTENCY_KEY_BYTES_MAX; i++) {
        memcpy(text + 1 + 2 * i, "\\\"\"", 4);
        if (i == IDEMPOTENCY_KEY_BYTES_MAX) {
            bad(text);
            break;
        }
        want[i] = '"';
        good(text, want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quoted),
        cmocka_unit_test(bare),
        cmocka_unit_test(lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
