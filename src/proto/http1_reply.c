#include "proto/http1_reply.h"

#include "base/num.h"

void http1_reply_fini(struct http1_reply *r) {
    buf_fini(&r->line);
}

static struct slice trimmed(struct slice s) {
    while (s.size > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.size--;
    }
    while (s.size > 0 && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t'))
        s.size--;
    return s;
}

/* Whether `token` is the last of a list, without case: "gzip, chunked". */
static bool ends_with_token(struct slice list, const char *token) {
    const uint8_t *comma = list.size ? memrchr(list.data, ',', list.size) : NULL;
    size_t from = comma ? (size_t)(comma - list.data) + 1 : 0;
    return slice_equal_nocase(trimmed(slice_of(list.data + from, list.size - from)), token);
}

static bool take_status_line(struct http1_reply *r, struct slice line) {
    if (line.size < 12 || !slice_starts_with(line, slice_str("HTTP/1.")) || line.data[8] != ' ' ||
        (line.size > 12 && line.data[12] != ' '))
        return false;
    int64_t status;
    if (!num_parse_i64(slice_of(line.data + 9, 3), &status) || status < 100)
        return false;
    r->status = (int)status;
    r->close = line.data[7] == '0';
    r->has_length = r->chunked = false;
    r->length = r->body_bytes = 0;
    r->state = HTTP1_REPLY_FIELDS;
    return true;
}

static bool take_field(struct http1_reply *r, struct slice line) {
    const uint8_t *colon = memchr(line.data, ':', line.size);
    if (!colon)
        return false;
    size_t name_bytes = (size_t)(colon - line.data);
    struct slice name = slice_of(line.data, name_bytes);
    struct slice value = trimmed(slice_of(colon + 1, line.size - name_bytes - 1));
    if (slice_equal_nocase(name, "Content-Length")) {
        uint64_t length;
        if (!num_parse_u64(value, &length) || (r->has_length && length != r->length))
            return false;
        r->has_length = true;
        r->length = length;
    } else if (slice_equal_nocase(name, "Transfer-Encoding")) {
        r->chunked = ends_with_token(value, "chunked");
        if (!r->chunked)
            r->close = true; /* RFC 9112 section 6.3: such a body ends with the connection */
    } else if (slice_equal_nocase(name, "Connection")) {
        if (slice_equal_nocase(value, "close"))
            r->close = true;
        else if (slice_equal_nocase(value, "keep-alive"))
            r->close = false;
    }
    return true;
}

/* The empty line behind the fields: what follows (RFC 9112 section 6.3). END: nothing. */
static enum http1_reply_result begin_body(struct http1_reply *r) {
    r->head_bytes = 0;
    r->state = HTTP1_REPLY_STATUS_LINE;
    if (r->status < 200)
        return HTTP1_REPLY_MORE;
    if (r->status == 204 || r->status == 304)
        return HTTP1_REPLY_END;
    if (r->chunked) {
        struct http_head head = {.chunked = true};
        (void)http1_body_begin(&r->chunks, &head, UINT64_MAX);
        r->state = HTTP1_REPLY_CHUNKED_BODY;
    } else if (!r->has_length) {
        r->close = true;
        r->state = HTTP1_REPLY_BODY_TO_CLOSE;
    } else if (r->length > 0) {
        r->state = HTTP1_REPLY_LENGTH_BODY;
    } else {
        return HTTP1_REPLY_END;
    }
    return HTTP1_REPLY_MORE;
}

/* One line of a head off *in, or what there is of it. */
static enum http1_reply_result take_line(struct http1_reply *r, struct slice *in) {
    const uint8_t *end = memchr(in->data, '\n', in->size);
    size_t n = end ? (size_t)(end - in->data) + 1 : in->size;
    struct slice line = slice_of(in->data, n);
    r->head_bytes += n <= UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
    if (n + r->line.size > HTTP1_REPLY_LINE_BYTES_MAX || r->head_bytes > HTTP1_REPLY_HEAD_BYTES_MAX)
        return HTTP1_REPLY_BAD;
    if (!end || r->line.size > 0) {
        buf_append(&r->line, in->data, n);
        line = buf_slice(&r->line);
    }
    in->data += n;
    in->size -= n;
    if (!end)
        return HTTP1_REPLY_MORE;
    if (line.size < 2 || line.data[line.size - 2] != '\r')
        return HTTP1_REPLY_BAD;
    line.size -= 2;
    enum http1_reply_result result = HTTP1_REPLY_MORE;
    if (r->state == HTTP1_REPLY_STATUS_LINE)
        result = take_status_line(r, line) ? HTTP1_REPLY_MORE : HTTP1_REPLY_BAD;
    else if (line.size == 0)
        result = begin_body(r);
    else
        result = take_field(r, line) ? HTTP1_REPLY_MORE : HTTP1_REPLY_BAD;
    buf_reset(&r->line);
    return result;
}

static enum http1_reply_result take_length_body(struct http1_reply *r, struct slice *in) {
    size_t n = r->length < in->size ? (size_t)r->length : in->size;
    in->data += n;
    in->size -= n;
    r->body_bytes += n;
    r->length -= n;
    if (r->length > 0)
        return HTTP1_REPLY_MORE;
    r->state = HTTP1_REPLY_STATUS_LINE;
    return HTTP1_REPLY_END;
}

static enum http1_reply_result take_chunks(struct http1_reply *r, struct slice *in) {
    struct slice piece;
    for (;;) {
        switch (http1_body_next(&r->chunks, in, &piece)) {
        case HTTP1_BODY_PIECE:
            r->body_bytes += piece.size;
            break;
        case HTTP1_BODY_MORE:
            return HTTP1_REPLY_MORE;
        case HTTP1_BODY_END:
            r->state = HTTP1_REPLY_STATUS_LINE;
            return HTTP1_REPLY_END;
        case HTTP1_BODY_BAD:
        case HTTP1_BODY_TOO_LARGE:
            return HTTP1_REPLY_BAD;
        }
    }
}

enum http1_reply_result http1_reply_take(struct http1_reply *r, struct slice *in) {
    while (in->size > 0) {
        enum http1_reply_result result = HTTP1_REPLY_BAD;
        switch (r->state) {
        case HTTP1_REPLY_STATUS_LINE:
        case HTTP1_REPLY_FIELDS:
            result = take_line(r, in);
            break;
        case HTTP1_REPLY_LENGTH_BODY:
            result = take_length_body(r, in);
            break;
        case HTTP1_REPLY_CHUNKED_BODY:
            result = take_chunks(r, in);
            break;
        case HTTP1_REPLY_BODY_TO_CLOSE:
            r->body_bytes += in->size;
            *in = slice_of(in->data + in->size, 0);
            result = HTTP1_REPLY_MORE;
            break;
        case HTTP1_REPLY_BROKEN:
            break;
        }
        if (result == HTTP1_REPLY_BAD)
            r->state = HTTP1_REPLY_BROKEN;
        if (result != HTTP1_REPLY_MORE)
            return result;
    }
    return r->state == HTTP1_REPLY_BROKEN ? HTTP1_REPLY_BAD : HTTP1_REPLY_MORE;
}

bool http1_reply_closed(struct http1_reply *r) {
    bool ended = r->state == HTTP1_REPLY_BODY_TO_CLOSE;
    if (ended)
        r->state = HTTP1_REPLY_STATUS_LINE;
    return ended;
}
