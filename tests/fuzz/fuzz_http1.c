/* HTTP/1.1: a connection's bytes, heads and bodies in turn, must mean the same however they arrive.
 * What happens is written down and compared between deliveries. */
#include <stdlib.h>

#include "base/num.h"
#include "proto/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 10000, COPIED_MAX = 512 };

static void note_head(struct buf *notes, const struct http_head *h) {
    CHECK(h->path.size > 0);
    CHECK(h->path.data[0] == '/' || slice_equal_str(h->path, "*"));
    CHECK(!(h->chunked && h->has_length));
    CHECK(h->header_count <= HTTP1_HEADERS_MAX);
    buf_printf(notes, "%d %d %d %d %d %d ", h->method, h->minor_version, h->keep_alive,
               h->expect_continue, h->chunked, h->has_length);
    num_append_u64(notes, h->length);
    buf_append_lstr(notes, h->method_text);
    buf_append_lstr(notes, h->path);
    buf_append_lstr(notes, h->query);
    buf_append_lstr(notes, h->host);
    for (size_t i = 0; i < h->header_count; i++) {
        buf_append_lstr(notes, h->headers[i].name);
        buf_append_lstr(notes, h->headers[i].value);
        for (size_t k = 0; k < h->headers[i].value.size; k++) {
            uint8_t c = h->headers[i].value.data[k];
            CHECK(c == '\t' || (c >= 0x20 && c != 0x7f));
        }
    }
}

/* One side of a connection: what has arrived is data[at..end). */
struct peer {
    const uint8_t *data;
    size_t at, end;
    size_t seen;
    bool in_body;
    struct http1_body body;
    struct buf *notes;
};

enum outcome { GOES_ON, NEEDS_MORE, CLOSED };

static enum outcome read_head(struct peer *p, struct slice in) {
    static struct http_head head;
    const char *reason = NULL;
    int r = http1_parse_head(in, p->seen, &head, &reason);
    if (r == 0) {
        p->seen = in.size;
        return NEEDS_MORE;
    }
    if (r < 0) {
        CHECK(reason != NULL);
        buf_printf(p->notes, "refused %d %s", r, reason);
        return CLOSED;
    }
    CHECK((size_t)r <= in.size);
    note_head(p->notes, &head);
    p->at += (size_t)r;
    p->seen = 0;
    p->in_body = true;
    return http1_body_begin(&p->body, &head, BODY_MAX) == HTTP1_BODY_TOO_LARGE ? CLOSED : GOES_ON;
}

static enum outcome read_body(struct peer *p, struct slice in) {
    struct slice piece;
    size_t before = in.size;
    enum http1_body_result r = http1_body_next(&p->body, &in, &piece);
    p->at += before - in.size;
    switch (r) {
    case HTTP1_BODY_PIECE:
        CHECK(piece.size > 0);
        CHECK(p->body.total <= BODY_MAX);
        buf_append_slice(p->notes, piece);
        return GOES_ON;
    case HTTP1_BODY_MORE:
        CHECK(in.size == 0);
        return NEEDS_MORE;
    case HTTP1_BODY_END:
        buf_append_str(p->notes, " end ");
        p->in_body = false;
        return GOES_ON;
    default:
        buf_printf(p->notes, "refused body %d", r);
        return CLOSED;
    }
}

static void talk(const uint8_t *data, size_t size, size_t first, size_t step, struct buf *notes) {
    struct peer p = {.data = data, .end = first < size ? first : size, .notes = notes};
    buf_reset(notes);
    for (;;) {
        size_t n = p.end - p.at;
        /* A copy of the exact size shows a sanitizer what reads behind it. */
        uint8_t *copy = size <= COPIED_MAX ? xmemdup(data + p.at, n) : NULL;
        struct slice in = slice_of(copy ? copy : data + p.at, n);
        enum outcome o = p.in_body ? read_body(&p, in) : read_head(&p, in);
        free(copy);
        if (o == CLOSED || (o == NEEDS_MORE && p.end == size))
            return;
        if (o == NEEDS_MORE)
            p.end = step < size - p.end ? p.end + step : size;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf whole = {0}, parts = {0};
    talk(data, size, size, size, &whole);
    talk(data, size, 1, 1, &parts);
    CHECK(slice_equal(buf_slice(&whole), buf_slice(&parts)));
    for (size_t first = 0; first < size; first += size / 8 + 1) {
        talk(data, size, first, size / 3 + 1, &parts);
        CHECK(slice_equal(buf_slice(&whole), buf_slice(&parts)));
    }
    buf_fini(&whole);
    buf_fini(&parts);
    return 0;
}
