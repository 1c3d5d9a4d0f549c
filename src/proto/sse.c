#include "proto/sse.h"

#include "base/num.h"

static void put_line(struct buf *out, const char *field, struct slice value) {
    buf_append_str(out, field);
    buf_append_slice(out, value);
    buf_append_char(out, '\n');
}

static void check_line(const char *text) {
    CHECK(strpbrk(text, "\r\n") == NULL);
}

void sse_event(struct buf *out, const char *name) {
    check_line(name);
    put_line(out, "event: ", slice_str(name));
}

void sse_data(struct buf *out, struct slice data) {
    size_t at = 0;
    for (;;) {
        size_t end = at;
        while (end < data.size && data.data[end] != '\r' && data.data[end] != '\n')
            end++;
        put_line(out, "data: ", end > at ? slice_of(data.data + at, end - at) : slice_of(NULL, 0));
        if (end == data.size)
            return;
        bool both = data.data[end] == '\r' && end + 1 < data.size && data.data[end + 1] == '\n';
        at = end + (both ? 2 : 1);
    }
}

void sse_id(struct buf *out, uint64_t id) {
    buf_append_str(out, "id: ");
    num_append_u64(out, id);
    buf_append_char(out, '\n');
}

void sse_end(struct buf *out) {
    buf_append_char(out, '\n');
}

void sse_comment(struct buf *out, const char *text) {
    check_line(text);
    put_line(out, ": ", slice_str(text));
}

void sse_retry(struct buf *out, uint32_t ms) {
    buf_append_str(out, "retry: ");
    num_append_u64(out, ms);
    buf_append_char(out, '\n');
}

bool sse_parse_id(struct slice in, uint64_t *ret_id) {
    if (in.size == 0 || (in.size > 1 && in.data[0] == '0'))
        return false;
    return num_parse_u64(in, ret_id);
}
