/* A run of the change log of any bytes: read within its bounds, and what is taken is written again
 * as it was. */
#include <stdlib.h>

#include "store/changes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = size > 0 ? xmemdup(data, size) : NULL;
    uint8_t key[CHANGES_KEY_BYTES] = {0, 0, 0, 0, 0, 0x10, 0, 0};
    struct reader r;
    struct change c;
    uint64_t first, last;
    uint32_t count;
    if (changes_run_decode(slice_of(key, sizeof key), slice_of(copy, size), &first, &last, &count,
                           &r)) {
        CHECK(count > 0);
        CHECK(last >= first);
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t *before = r.at;
            if (!change_next(&r, first >> 20, &c))
                break;
            struct change_log log = {0};
            change_log_add(&log, &c);
            struct slice again = slice_of(log.run.data + 9, log.run.size - 9);
            CHECK(slice_equal(again, slice_of(before, (size_t)(r.at - before))));
            change_log_fini(&log);
        }
    }
    free(copy);
    return 0;
}
