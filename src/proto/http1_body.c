#include "proto/http1.h"

/* The chunk grammar (RFC 9112 section 7.1), one state a kind of byte that comes next:
 *
 *   SIZE_FIRST -> SIZE -> [BLANK] -> [EXTENSION] -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -+
 *       ^                                             |                                    |
 *       +---------------------------------------------|------------------------------------+
 *                                     (a size of 0)   v
 *                     TRAILER -> TRAILER_NAME -> TRAILER_VALUE -> TRAILER_LF -> TRAILER ...
 *                        +-----> LAST_LF -> DONE
 *
 * A body with a length is in DATA until it is DONE. BAD and LARGE are final too. */
enum body_state {
    SIZE_FIRST,
    SIZE,
    BLANK,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    LAST_LF,
    DONE,
    BAD,
    LARGE,
};

enum http1_body_result http1_body_begin(struct http1_body *b, const struct http_head *head,
                                        uint64_t bytes_max) {
    *b = (struct http1_body){.chunked = head->chunked, .bytes_max = bytes_max};
    if (head->chunked) {
        b->state = SIZE_FIRST;
        return HTTP1_BODY_MORE;
    }
    b->left = b->total = head->length;
    b->state = head->length > bytes_max ? LARGE : head->length > 0 ? DATA : DONE;
    return b->state == LARGE  ? HTTP1_BODY_TOO_LARGE
           : b->state == DATA ? HTTP1_BODY_MORE
                              : HTTP1_BODY_END;
}

uint64_t http1_body_received(const struct http1_body *b) {
    return b->state == DATA ? b->total - b->left : b->total;
}

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_token(uint8_t c) {
    if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
        return true;
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

/* What may stand in an extension or in a trailer's value. */
static bool is_text(uint8_t c) {
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* The chunk's size line is complete. */
static enum body_state size_known(struct http1_body *b) {
    b->line_bytes = 0;
    if (b->left == 0)
        return TRAILER;
    if (b->left > b->bytes_max - b->total)
        return LARGE;
    b->total += b->left;
    return DATA;
}

static enum body_state after_size(uint8_t c) {
    switch (c) {
    case '\r':
        return SIZE_LF;
    case ';':
        return EXTENSION;
    case ' ':
    case '\t':
        return BLANK; /* allowed before a ";" only */
    default:
        return BAD;
    }
}

static enum body_state step_size(struct http1_body *b, uint8_t c) {
    int digit = hex_value(c);
    if (digit < 0)
        return b->state == SIZE_FIRST ? BAD : after_size(c);
    if (b->state == SIZE_FIRST)
        b->left = 0;
    if (b->left >> 60)
        return BAD;
    b->left = b->left << 4 | (unsigned)digit;
    return SIZE;
}

/* The state behind the byte c, for every state but DATA. */
static enum body_state step(struct http1_body *b, uint8_t c) {
    switch ((enum body_state)b->state) {
    case SIZE_FIRST:
    case SIZE:
        return step_size(b, c);
    case BLANK:
        return c == '\r' ? BAD : after_size(c);
    case EXTENSION:
        return c == '\r' ? SIZE_LF : is_text(c) ? EXTENSION : BAD;
    case SIZE_LF:
        return c == '\n' ? size_known(b) : BAD;
    case DATA_CR:
        return c == '\r' ? DATA_LF : BAD;
    case DATA_LF:
        b->line_bytes = 0;
        return c == '\n' ? SIZE_FIRST : BAD;
    case TRAILER:
        return c == '\r' ? LAST_LF : is_token(c) ? TRAILER_NAME : BAD;
    case TRAILER_NAME:
        return c == ':' ? TRAILER_VALUE : is_token(c) ? TRAILER_NAME : BAD;
    case TRAILER_VALUE:
        return c == '\r' ? TRAILER_LF : is_text(c) ? TRAILER_VALUE : BAD;
    case TRAILER_LF:
        return c == '\n' ? TRAILER : BAD;
    case LAST_LF:
        return c == '\n' ? DONE : BAD;
    default:
        return BAD;
    }
}

/* Extensions count for the whole body as well: chunks of one byte with long extensions would cost
 * thousands of bytes for each that they bring. */
static bool line_is_too_long(struct http1_body *b) {
    if (b->state == EXTENSION && ++b->extension_bytes > HTTP1_EXTENSION_BYTES_MAX)
        return true;
    if (b->state < DATA)
        return b->line_bytes > HTTP1_CHUNK_LINE_BYTES_MAX;
    return b->state >= TRAILER && b->line_bytes > HTTP1_TRAILER_BYTES_MAX;
}

static void take_piece(struct http1_body *b, struct slice *in, struct slice *ret_piece) {
    size_t n = b->left < in->size ? (size_t)b->left : in->size;
    *ret_piece = slice_of(in->data, n);
    in->data += n;
    in->size -= n;
    b->left -= n;
    if (b->left == 0)
        b->state = b->chunked ? DATA_CR : DONE;
}

enum http1_body_result http1_body_next(struct http1_body *b, struct slice *in,
                                       struct slice *ret_piece) {
    for (;;) {
        if (b->state == DONE)
            return HTTP1_BODY_END;
        if (b->state == BAD)
            return HTTP1_BODY_BAD;
        if (b->state == LARGE)
            return HTTP1_BODY_TOO_LARGE;
        if (in->size == 0)
            return HTTP1_BODY_MORE;
        if (b->state == DATA) {
            take_piece(b, in, ret_piece);
            return HTTP1_BODY_PIECE;
        }
        b->line_bytes++;
        b->state = (int)step(b, *in->data);
        if (line_is_too_long(b))
            b->state = BAD;
        in->data++;
        in->size--;
    }
}
