/* The digits of a digest. (Computing one: tests/unit/net.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sha256.h"

static void test_hex(void **state) {
    uint8_t digest[SHA256_BYTES], again[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    for (size_t i = 0; i < sizeof digest; i++)
        digest[i] = (uint8_t)(i * 37 + 200);
    sha256_to_hex(digest, hex);
    assert_string_equal(hex, "c8ed12375c81a6cbf0153a5f84a9cef3183d6287acd1f61b40658aafd4f91e43");
    assert_true(sha256_from_hex(slice_str(hex), again));
    assert_memory_equal(digest, again, sizeof digest);
    for (char *c = hex; *c; c++)
        *c = (char)(*c >= 'a' ? *c - 32 : *c);
    assert_true(sha256_from_hex(slice_str(hex), again));
    assert_memory_equal(digest, again, sizeof digest);
    assert_false(sha256_from_hex(slice_of(hex, 63), again));
    hex[10] = 'g';
    assert_false(sha256_from_hex(slice_str(hex), again));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hex)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
