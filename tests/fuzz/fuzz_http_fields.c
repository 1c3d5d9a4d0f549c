/* The values of fields that decide how a file is answered: Accept, Accept-Encoding, entity tags,
 * dates. Each is read as each. */
#include <stdlib.h>

#include "proto/http_conditional.h"
#include "proto/http_encoding.h"
#include "proto/http_list.h"
#include "proto/site_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW = 1700000000 };

static void check_list(struct slice value) {
    struct slice item;
    int weight;
    size_t members = 0;
    while (http_list_next(&value, &item, &weight)) {
        CHECK(weight >= HTTP_WEIGHT_BAD);
        CHECK(weight <= HTTP_WEIGHT_MAX);
        CHECK(slice_equal(item, http_trim(item)));
        members++;
    }
    CHECK(value.size == 0);
}

static void check_encodings(struct slice value) {
    for (unsigned available = 0; available < 1u << HTTP_ENCODING_COUNT; available++) {
        int e = http_encoding_choose_value(value, available);
        CHECK(e >= -1);
        CHECK(e < HTTP_ENCODING_COUNT);
        CHECK(e < 0 || available & 1u << e);
        /* What was not chosen may as well not be there. */
        if (e >= 0)
            CHECK(http_encoding_choose_value(value, 1u << e) == e);
    }
}

static void check_date(struct slice value) {
    uint64_t at, again;
    char text[30];
    if (!http_parse_date(value, NOW, &at))
        return;
    http_format_date(at, text);
    if (at > 253402300799u) /* the leap second behind the year 9999 */
        return;
    CHECK(http_parse_date(slice_str(text), NOW, &again));
    CHECK(at == again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"If-Match", "If-None-Match", "If-Modified-Since",
                                        "If-Unmodified-Since"};
    static struct http_head head;
    const struct http_validators file = {slice_str("\"abc\""), 784111777};
    uint8_t *copy = xmemdup(data, size);
    struct slice value = slice_of(copy, size);
    check_list(value);
    check_encodings(value);
    check_date(value);
    /* Strong equality is weak equality, too. */
    CHECK(!http_etag_in_list(value, file.etag, false) || http_etag_in_list(value, file.etag, true));
    site_path_is_navigation(slice_str("/a"), &value);
    head = (struct http_head){.method = HTTP_GET, .header_count = 1};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        head.headers[0] = (struct http_header){slice_str(names[i]), value};
        enum http_precondition p = http_conditional_check(&head, &file, NOW);
        CHECK(p == HTTP_PRECONDITION_HOLDS || (p == HTTP_NOT_MODIFIED) == (i == 1 || i == 2));
    }
    head.headers[0] = (struct http_header){slice_str("If-Range"), value};
    http_if_range_holds(&head, &file, NOW);
    free(copy);
    return 0;
}
