/* A token's record of any bytes: what parses, parses to the same again when it is written. And a
 * token's text of any bytes. */
#include <stdlib.h>

#include "base/check.h"
#include "proto/access_token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = size > 0 ? xmemdup(data, size) : NULL;
    struct access_token t = {0}, again = {0};
    (void)access_text_ok(slice_of(copy, size));
    if (access_record_parse(slice_of(copy, size), &t)) {
        struct buf out = {0}, twice = {0};
        access_record_append(&out, &t);
        CHECK(access_record_parse(buf_slice(&out), &again));
        access_record_append(&twice, &again);
        CHECK(slice_equal(buf_slice(&out), buf_slice(&twice)));
        CHECK(again.admin == t.admin && again.read.count == t.read.count);
        buf_fini(&out);
        buf_fini(&twice);
        access_token_fini(&t);
        access_token_fini(&again);
    }
    free(copy);
    return 0;
}
