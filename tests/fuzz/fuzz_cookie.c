/* A Cookie field of any bytes: what is found lies in it and has no ";". */
#include <stdlib.h>

#include "base/check.h"
#include "proto/cookie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = size > 0 ? xmemdup(data, size) : NULL;
    struct slice value;
    if (cookie_find(slice_of(copy, size), "cotidal_session", &value)) {
        CHECK(value.data >= copy);
        CHECK(value.data + value.size <= copy + size);
        CHECK(value.size == 0 || memchr(value.data, ';', value.size) == NULL);
    }
    free(copy);
    return 0;
}
