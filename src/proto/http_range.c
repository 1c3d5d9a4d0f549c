#include "proto/http_range.h"

#include <stdio.h>

#include "proto/http_list.h"

/* Digits only; what is over 2^64-1 becomes that, which is beyond every file. False: no digit. */
static bool take_number(struct slice *in, uint64_t *ret_value) {
    size_t n = 0;
    uint64_t value = 0;
    for (; n < in->size && in->data[n] >= '0' && in->data[n] <= '9'; n++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(in->data[n] - '0'), &value))
            value = UINT64_MAX;
    in->data += n;
    in->size -= n;
    *ret_value = value;
    return n > 0;
}

enum spec { SPEC_GOOD, SPEC_BEYOND, SPEC_EMPTY_FILE, SPEC_MALFORMED };

/* "F-L", "F-" or "-N". */
static enum spec parse_spec(struct slice in, uint64_t size, struct http_range *ret) {
    uint64_t first, last;
    bool has_first = take_number(&in, &first);
    if (in.size == 0 || in.data[0] != '-')
        return SPEC_MALFORMED;
    in.data++;
    in.size--;
    bool has_last = take_number(&in, &last);
    if (in.size > 0 || (!has_first && !has_last))
        return SPEC_MALFORMED;
    if (!has_first) { /* the last N bytes */
        if (last == 0)
            return SPEC_BEYOND;
        if (size == 0)
            return SPEC_EMPTY_FILE;
        ret->size = last < size ? last : size;
        ret->offset = size - ret->size;
        return SPEC_GOOD;
    }
    if (has_last && last < first)
        return SPEC_MALFORMED;
    if (first >= size)
        return SPEC_BEYOND;
    if (!has_last || last >= size)
        last = size - 1;
    ret->offset = first;
    ret->size = last - first + 1;
    return SPEC_GOOD;
}

/* Do they overlap, touch, or nearly? */
static bool are_close(const struct http_range *a, const struct http_range *b) {
    const struct http_range *low = a->offset <= b->offset ? a : b;
    const struct http_range *high = low == a ? b : a;
    uint64_t end = low->offset + low->size;
    return high->offset <= end || high->offset - end <= HTTP_RANGE_GAP_BYTES;
}

/* Joins what is close to what came before it, until nothing is close to anything. */
static void coalesce(struct http_ranges *r) {
    for (size_t i = 0; i < r->count; i++)
        for (size_t k = i + 1; k < r->count; k++) {
            struct http_range *a = &r->items[i], *b = &r->items[k];
            if (!are_close(a, b))
                continue;
            uint64_t a_end = a->offset + a->size, b_end = b->offset + b->size;
            uint64_t start = a->offset < b->offset ? a->offset : b->offset;
            *a = (struct http_range){start, (a_end > b_end ? a_end : b_end) - start};
            memmove(b, b + 1, (r->count - k - 1) * sizeof *b);
            r->count--;
            k = i; /* the grown one may reach others now */
        }
}

enum http_range_result http_range_parse(struct slice value, uint64_t size,
                                        struct http_ranges *ret_ranges) {
    value = http_trim(value);
    if (value.size < 6 || strncasecmp((const char *)value.data, "bytes=", 6) != 0)
        return HTTP_RANGE_WHOLE;
    struct slice list = slice_of(value.data + 6, value.size - 6);
    struct http_ranges ranges = {.count = 0};
    size_t specs = 0;
    bool empty_file = false;
    while (list.size > 0) {
        const uint8_t *comma = memchr(list.data, ',', list.size);
        size_t n = comma ? (size_t)(comma - list.data) : list.size;
        struct slice item = http_trim(slice_of(list.data, n));
        list.data += comma ? n + 1 : n;
        list.size -= comma ? n + 1 : n;
        if (item.size == 0) /* empty members of a list are nothing, RFC 9110 section 5.6.1 */
            continue;
        if (++specs > HTTP_RANGES_MAX)
            return HTTP_RANGE_WHOLE;
        switch (parse_spec(item, size, &ranges.items[ranges.count])) {
        case SPEC_GOOD:
            ranges.count++;
            break;
        case SPEC_EMPTY_FILE:
            empty_file = true;
            break;
        case SPEC_BEYOND:
            break;
        case SPEC_MALFORMED:
            return HTTP_RANGE_WHOLE;
        }
    }
    if (specs == 0 || empty_file)
        return HTTP_RANGE_WHOLE;
    if (ranges.count == 0)
        return HTTP_RANGE_UNSATISFIABLE;
    coalesce(&ranges);
    *ret_ranges = ranges;
    return HTTP_RANGE_PARTIAL;
}

size_t http_range_format(const struct http_range *range, uint64_t size,
                         char out[HTTP_CONTENT_RANGE_BYTES_MAX]) {
    int n;
    if (range)
        n = snprintf(out, HTTP_CONTENT_RANGE_BYTES_MAX, "bytes %llu-%llu/%llu",
                     (unsigned long long)range->offset,
                     (unsigned long long)(range->offset + range->size - 1),
                     (unsigned long long)size);
    else
        n = snprintf(out, HTTP_CONTENT_RANGE_BYTES_MAX, "bytes */%llu", (unsigned long long)size);
    CHECK(n > 0);
    CHECK(n < HTTP_CONTENT_RANGE_BYTES_MAX);
    return (size_t)n;
}

static const char type_line[] = "Content-Type: ";
static const char range_line[] = "Content-Range: ";

static uint64_t head_bytes(const struct http_multipart *m, size_t index) {
    char range[HTTP_CONTENT_RANGE_BYTES_MAX];
    uint64_t n = index > 0 ? 2 : 0;
    n += 2 + m->boundary.size + 2;
    if (m->type.size > 0)
        n += strlen(type_line) + m->type.size + 2;
    n += strlen(range_line) + http_range_format(&m->ranges->items[index], m->size, range) + 2;
    return n + 2;
}

uint64_t http_multipart_bytes(const struct http_multipart *m) {
    CHECK(m->boundary.size > 0);
    CHECK(m->boundary.size <= HTTP_BOUNDARY_BYTES_MAX);
    uint64_t n = 2 + 2 + m->boundary.size + 2 + 2; /* the end */
    for (size_t i = 0; i < m->ranges->count; i++)
        n += head_bytes(m, i) + m->ranges->items[i].size;
    return n;
}

void http_multipart_put_head(const struct http_multipart *m, size_t index, struct buf *out) {
    CHECK(index < m->ranges->count);
    char range[HTTP_CONTENT_RANGE_BYTES_MAX];
    size_t start = out->size;
    buf_append_str(out, index > 0 ? "\r\n--" : "--");
    buf_append_slice(out, m->boundary);
    buf_append_str(out, "\r\n");
    if (m->type.size > 0) {
        buf_append_str(out, type_line);
        buf_append_slice(out, m->type);
        buf_append_str(out, "\r\n");
    }
    buf_append_str(out, range_line);
    buf_append(out, range, http_range_format(&m->ranges->items[index], m->size, range));
    buf_append_str(out, "\r\n\r\n");
    CHECK(out->size - start == head_bytes(m, index));
}

void http_multipart_put_end(const struct http_multipart *m, struct buf *out) {
    buf_append_str(out, "\r\n--");
    buf_append_slice(out, m->boundary);
    buf_append_str(out, "--\r\n");
}
