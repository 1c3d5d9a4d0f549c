/* Against the examples of FIPS 180-2 (appendix B), and itself in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/sha256.h"

static const char *hex_of(struct slice s) {
    static char hex[2 * SHA256_BYTES + 1];
    uint8_t digest[SHA256_BYTES];
    sha256_of(s, digest);
    sha256_to_hex(digest, hex);
    return hex;
}

static void test_examples(void **state) {
    assert_string_equal(hex_of(slice_str("")),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_string_equal(hex_of(slice_str("abc")),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(
        hex_of(slice_str("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    struct buf million = {0};
    memset(buf_reserve(&million, 1000000), 'a', 1000000);
    buf_commit(&million, 1000000);
    assert_string_equal(hex_of(buf_slice(&million)),
                        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    buf_fini(&million);
}

/* Every length around the borders of blocks, split at every point, and byte by byte. */
static void test_pieces(void **state) {
    uint8_t bytes[200], whole[SHA256_BYTES], again[SHA256_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        sha256_of(slice_of(bytes, size), whole);
        for (size_t split = 0; split <= size; split++) {
            struct sha256 *s = sha256_new();
            sha256_update(s, slice_of(bytes, split));
            sha256_update(s, slice_of(bytes + split, size - split));
            sha256_end(s, again);
            assert_memory_equal(whole, again, sizeof whole);
        }
        struct sha256 *s = sha256_new();
        for (size_t i = 0; i < size; i++)
            sha256_update(s, slice_of(bytes + i, 1));
        sha256_end(s, again);
        assert_memory_equal(whole, again, sizeof whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
