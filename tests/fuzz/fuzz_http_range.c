/* 8 bytes of a file's size, and the value of a Range field. */
#include <stdlib.h>

#include "base/bytes.h"
#include "proto/http_range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_ranges(const struct http_ranges *r, uint64_t size) {
    CHECK(r->count > 0);
    CHECK(r->count <= HTTP_RANGES_MAX);
    for (size_t i = 0; i < r->count; i++) {
        const struct http_range *a = &r->items[i];
        CHECK(a->size > 0);
        CHECK(a->offset < size);
        CHECK(a->size <= size - a->offset);
        for (size_t k = 0; k < i; k++) { /* apart from each other */
            const struct http_range *b = &r->items[k];
            CHECK(a->offset > b->offset + b->size + HTTP_RANGE_GAP_BYTES ||
                  b->offset > a->offset + a->size + HTTP_RANGE_GAP_BYTES);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 8)
        return 0;
    uint64_t file_bytes = get_u64le(data);
    uint8_t *copy = xmemdup(data + 8, size - 8);
    struct http_ranges ranges = {0};
    enum http_range_result result = http_range_parse(slice_of(copy, size - 8), file_bytes, &ranges);
    free(copy);
    if (result != HTTP_RANGE_PARTIAL) {
        CHECK(ranges.count == 0);
        return 0;
    }
    check_ranges(&ranges, file_bytes);
    struct http_multipart m = {.boundary = slice_str("boundary"),
                               .type = slice_str(size % 2 ? "text/css" : ""),
                               .size = file_bytes,
                               .ranges = &ranges};
    struct buf body = {0};
    uint64_t total = 0;
    for (size_t i = 0; i < ranges.count; i++) {
        http_multipart_put_head(&m, i, &body);
        total += ranges.items[i].size;
    }
    http_multipart_put_end(&m, &body);
    CHECK(http_multipart_bytes(&m) == total + body.size);
    buf_fini(&body);
    return 0;
}
