/* The value of an Idempotency-Key field. What is taken has its bounds, and written again in quotes
 * it is the same key. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "proto/idempotency.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t key[IDEMPOTENCY_KEY_BYTES_MAX], again[IDEMPOTENCY_KEY_BYTES_MAX];
    size_t n = 0, m = 0;
    /* A copy shows a sanitizer what reads behind the value. */
    uint8_t *copy = size > 0 ? xmemdup(data, size) : NULL;
    bool taken = idempotency_key_parse(slice_of(copy, size), key, &n);
    free(copy);
    if (!taken)
        return 0;
    CHECK(n > 0);
    CHECK(n <= size);
    struct buf text = {0};
    buf_append_char(&text, '"');
    for (size_t i = 0; i < n; i++) {
        CHECK(key[i] >= ' ');
        CHECK(key[i] <= '~');
        if (key[i] == '"' || key[i] == '\\')
            buf_append_char(&text, '\\');
        buf_append_u8(&text, key[i]);
    }
    buf_append_char(&text, '"');
    CHECK(idempotency_key_parse(buf_slice(&text), again, &m));
    CHECK(m == n);
    CHECK(memcmp(key, again, n) == 0);
    buf_fini(&text);
    return 0;
}
