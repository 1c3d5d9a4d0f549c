/* An _access file of any bytes: it is refused with a line, or its rules answer for any key. */
#include <stdlib.h>

#include "base/check.h"
#include "proto/site_access.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct site_access a;
    uint8_t *copy = size > 0 ? xmemdup(data, size) : NULL;
    char error[SITE_ACCESS_ERROR_BYTES] = "";
    if (!site_access_parse(slice_of(copy, size), &a, error)) {
        CHECK(strncmp(error, "line ", 5) == 0);
        CHECK(a.rule_count == 0);
    } else {
        struct slice key = slice_of(copy, size < 40 ? size : 40);
        const struct site_rule *all = site_access_prefix(&a, slice_of(NULL, 0));
        CHECK(!all || site_access_key(&a, SITE_READ, key));
        CHECK(!site_access_prefix(&a, key) || site_access_key(&a, SITE_READ, key));
        CHECK(!site_access_key(&a, SITE_WRITE, key) || site_access_key(&a, SITE_INCR, key));
        site_access_fini(&a);
    }
    free(copy);
    return 0;
}
