#include "proto/resp_reply.h"

#include "base/num.h"

/* Elements are counted down, not stacked: an aggregate of n is worth n elements that follow it, so
 * nesting needs no memory. The count is bounded so that a server cannot make it overflow. */
static const uint64_t elements_max = UINT64_C(1) << 40;
static const int64_t bulk_bytes_max = INT64_C(1) << 40;

static void take_text(struct resp_reply *r, struct slice line) {
    size_t n = line.size < sizeof r->text - 1 ? line.size : sizeof r->text - 1;
    memcpy(r->text, line.data, n);
    r->text[n] = '\0';
}

/* One line without its CRLF: an element, or the header of one. False: not the protocol. */
static bool take_line(struct resp_reply *r, struct slice line) {
    if (line.size == 0)
        return false;
    char type = (char)line.data[0];
    struct slice rest = slice_of(line.data + 1, line.size - 1);
    int64_t number = 0;
    bool missing = type == '_';
    uint64_t children = 0;
    switch (type) {
    case ':':
        if (!num_parse_i64(rest, &number))
            return false;
        break;
    case '$':
    case '=': /* verbatim string */
    case '!': /* bulk error */
    case '*':
    case '~':
    case '>':
    case '%':
        if (!num_parse_i64(rest, &number) || number < -1 || number > bulk_bytes_max)
            return false;
        missing = number < 0;
        if (!missing && strchr("$=!", type))
            r->skip_bytes = (uint64_t)number + 2;
        else if (!missing)
            children = (uint64_t)number * (type == '%' ? 2 : 1);
        break;
    case '+':
    case '-':
    case ',':
    case '(':
    case '#':
    case '_':
        break;
    default:
        return false;
    }
    if (!r->begun) {
        r->begun = true;
        r->push = type == '>';
        r->elements_left = 1;
        r->type = missing ? 'n' : type == '!' ? '-' : type;
        r->integer = number;
        r->text[0] = '\0';
        if (type == '+' || type == '-')
            take_text(r, rest);
    }
    if (children > elements_max - r->elements_left)
        return false;
    r->elements_left += children - 1;
    return true;
}

/* Takes one line off *in, or what there is of it. 1: *ret_line, without CRLF, borrows from *in or
 * from r->line. 0: its end is still to come. -1: too long, or not ended by CRLF. */
static int next_line(struct resp_reply *r, struct slice *in, struct slice *ret_line) {
    const uint8_t *end = memchr(in->data, '\n', in->size);
    size_t n = end ? (size_t)(end - in->data) + 1 : in->size;
    struct slice line = slice_of(in->data, n);
    if (n > sizeof r->line - r->line_bytes)
        return -1;
    if (!end || r->line_bytes > 0) {
        memcpy(r->line + r->line_bytes, in->data, n);
        r->line_bytes += n;
        line = slice_of(r->line, r->line_bytes);
    }
    in->data += n;
    in->size -= n;
    if (!end)
        return 0;
    r->line_bytes = 0;
    if (line.size < 2 || line.data[line.size - 2] != '\r')
        return -1;
    *ret_line = slice_of(line.data, line.size - 2);
    return 1;
}

enum resp_reply_result resp_reply_take(struct resp_reply *r, struct slice *in) {
    while (!r->bad && in->size > 0) {
        if (r->skip_bytes > 0) {
            size_t n = r->skip_bytes < in->size ? (size_t)r->skip_bytes : in->size;
            in->data += n;
            in->size -= n;
            r->skip_bytes -= n;
        } else {
            struct slice line;
            int found = next_line(r, in, &line);
            r->bad = found < 0 || (found > 0 && !take_line(r, line));
            if (r->bad || found == 0)
                continue;
        }
        if (r->begun && r->elements_left == 0 && r->skip_bytes == 0) {
            r->begun = false;
            if (!r->push)
                return RESP_REPLY_END;
        }
    }
    return r->bad ? RESP_REPLY_BAD : RESP_REPLY_MORE;
}
