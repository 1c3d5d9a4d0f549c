#include "base/reply.h"

#include <math.h>
#include <stdio.h>

#include "base/num.h"

static void reply_header(struct buf *out, char type, int64_t value) {
    buf_append_char(out, type);
    num_append_i64(out, value);
    buf_append(out, "\r\n", 2);
}

void reply_simple(struct buf *out, const char *text) {
    buf_append_char(out, '+');
    buf_append_str(out, text);
    buf_append(out, "\r\n", 2);
}

void reply_error(struct buf *out, const char *fmt, ...) {
    buf_append_char(out, '-');
    size_t start = out->size;
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(out, fmt, ap);
    va_end(ap);
    for (size_t i = start; i < out->size; i++)
        if (out->data[i] == '\r' || out->data[i] == '\n')
            out->data[i] = ' ';
    buf_append(out, "\r\n", 2);
}

void reply_int(struct buf *out, int64_t value) {
    reply_header(out, ':', value);
}

void reply_bulk(struct buf *out, struct slice value) {
    reply_header(out, '$', (int64_t)value.size);
    buf_append_slice(out, value);
    buf_append(out, "\r\n", 2);
}

void reply_bulk_str(struct buf *out, const char *str) {
    reply_bulk(out, slice_str(str));
}

void reply_null(struct buf *out) {
    buf_append(out, "$-1\r\n", 5);
}

void reply_null_array(struct buf *out) {
    buf_append(out, "*-1\r\n", 5);
}

void reply_array(struct buf *out, size_t count) {
    reply_header(out, '*', (int64_t)count);
}

void reply_map(struct buf *out, size_t pairs) {
    reply_header(out, '%', (int64_t)pairs);
}

void reply_set(struct buf *out, size_t count) {
    reply_header(out, '~', (int64_t)count);
}

void reply_double(struct buf *out, double value) {
    if (isinf(value))
        buf_append_str(out, value > 0 ? ",inf\r\n" : ",-inf\r\n");
    else
        buf_printf(out, ",%.17g\r\n", value);
}

void reply_bool(struct buf *out, bool value) {
    buf_append(out, value ? "#t\r\n" : "#f\r\n", 4);
}

bool reply_next(struct slice *in, struct reply_item *ret_item) {
    const uint8_t *end = in->size > 1 ? memchr(in->data + 1, '\r', in->size - 1) : NULL;
    if (!end || end + 1 == in->data + in->size || end[1] != '\n')
        return false;
    struct slice line = slice_of(in->data + 1, (size_t)(end - in->data - 1));
    struct reply_item item = {.type = (char)in->data[0], .bytes = line};
    size_t used = line.size + 3;
    switch (item.type) {
    case '+':
    case '-':
    case ',':
        break;
    case '#':
        if (line.size != 1 || (line.data[0] != 't' && line.data[0] != 'f'))
            return false;
        item.integer = line.data[0] == 't';
        break;
    case ':':
        if (!num_parse_i64(line, &item.integer))
            return false;
        break;
    case '$':
    case '*':
    case '%':
    case '~':
        if (!num_parse_i64(line, &item.integer) || item.integer < -1)
            return false;
        if (item.integer == -1) {
            if (item.type != '$' && item.type != '*')
                return false;
            item.type = 'n';
        } else if (item.type == '$') {
            size_t left = in->size - used;
            if (left < 2 || (uint64_t)item.integer > left - 2 ||
                memcmp(in->data + used + item.integer, "\r\n", 2) != 0)
                return false;
            item.bytes = slice_of(in->data + used, (size_t)item.integer);
            used += item.bytes.size + 2;
        }
        break;
    default:
        return false;
    }
    in->data += used;
    in->size -= used;
    *ret_item = item;
    return true;
}

bool reply_skip(struct slice *in) {
    struct slice at = *in;
    uint64_t left = 1;
    while (left > 0) {
        struct reply_item item;
        if (!reply_next(&at, &item))
            return false;
        /* Each element takes bytes: a lie about a count ends here, before the sum could wrap. */
        uint64_t children = reply_item_children(&item);
        if (children > at.size || left - 1 + children > at.size)
            return false;
        left += children - 1;
    }
    *in = at;
    return true;
}
