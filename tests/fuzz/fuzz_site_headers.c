/* A path, a NUL, and a _headers file: it is refused with errors, or gives fields that can be sent.
 */
#include <stdlib.h>

#include "proto/site_headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count_error(void *ctx, uint32_t line, const char *text) {
    CHECK(strlen(text) > 0);
    for (const char *c = text; *c; c++)
        CHECK((uint8_t)*c >= ' ' || *c == '\t');
    ++*(int *)ctx;
}

static void check_field(void *ctx, struct slice name, struct slice value) {
    const struct site_headers_match *match = ctx;
    CHECK(name.size > 0);
    CHECK(!site_header_is_refused(name));
    for (size_t i = 0; i < value.size; i++)
        CHECK(value.data[i] >= ' ' || value.data[i] == '\t');
    char text[3000];
    if (name.size < sizeof text) {
        memcpy(text, name.data, name.size);
        text[name.size] = 0;
        CHECK(site_headers_overrides(match, text) || strcasecmp(text, "vary") == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    struct slice path = slice_of(data, nul ? (size_t)(nul - data) : 0);
    size_t rest = nul ? size - path.size - 1 : size;
    uint8_t *copy = xmemdup(data + size - rest, rest);
    int errors = 0;
    struct site_headers *h = site_headers_parse(slice_of(copy, rest), count_error, &errors);
    free(copy); /* nothing borrows from it */
    CHECK((h == NULL) == (errors > 0));
    if (!h)
        return 0;
    struct buf scratch = {0};
    struct slice paths[] = {path, slice_str("/"), slice_str("/a/b"), slice_str("/a/b/c.html")};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        struct site_headers_match match;
        site_headers_match(h, paths[i], &match);
        site_headers_each(&match, paths[i], &scratch, check_field, &match);
    }
    buf_fini(&scratch);
    site_headers_free(h);
    return 0;
}
