/* HTTP/1.1 (RFC 9110, 9112), server side, sans-I/O: request heads, bodies, response heads.
 *
 * Strict where a lenient reading could let requests be smuggled: no bare CR or LF, no space before
 * a colon, no obs-fold, no Content-Length with Transfer-Encoding, Content-Length once and a plain
 * number, no transfer coding but a single "chunked" and that in HTTP/1.1 only, Host exactly once in
 * HTTP/1.1, no control characters in values, origin-form targets (and "*" for OPTIONS,
 * absolute-form reduced to its path), and nothing in a target that must be percent-encoded. CONNECT
 * is refused.
 *
 * Lenient where the RFC asks for it: up to HTTP1_EMPTY_LINES_MAX empty lines before a request (RFC
 * 9112 section 2.2), a higher minor version is read as 1.1 (RFC 9110 section 6.2), chunk extensions
 * and trailers are checked and skipped.
 */
#pragma once
#include "base/buf.h"

enum {
    HTTP1_HEADERS_MAX = 100,
    HTTP1_HEAD_BYTES_MAX = 32 * 1024,
    HTTP1_TARGET_BYTES_MAX = 16 * 1024,
    HTTP1_EMPTY_LINES_MAX = 4,
    HTTP1_CHUNK_LINE_BYTES_MAX = 4096,     /* a chunk's size with its extensions */
    HTTP1_TRAILER_BYTES_MAX = 16 * 1024,   /* all trailer fields together */
    HTTP1_EXTENSION_BYTES_MAX = 16 * 1024, /* all chunk extensions of a body together */
};

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_PUT,
    HTTP_POST,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_OTHER,
};

struct http_header {
    struct slice name;  /* as sent; compare without case */
    struct slice value; /* without surrounding white space */
};

struct http_head {
    enum http_method method;
    struct slice method_text;
    struct slice path;  /* up to "?", not decoded; begins with "/" (or is "*") */
    struct slice query; /* behind "?", not decoded; empty when none */
    int minor_version;  /* 0 or 1 */
    struct slice host;  /* of an absolute-form target, else of the Host field; may be empty */
    bool keep_alive;
    bool expect_continue; /* wants "100 Continue", and a body is to come */
    bool chunked;
    bool has_length;
    uint64_t length; /* of the body; 0 when neither has_length nor chunked */
    size_t header_count;
    struct http_header headers[HTTP1_HEADERS_MAX];
};

/* Result: > 0 bytes of the head, empty lines before it included; 0 incomplete; < 0 the negated
 * status to answer with before closing: -400, -414 (target too long), -417 (an expectation other
 * than 100-continue), -431 (head over HTTP1_HEAD_BYTES_MAX or too many headers), -501 (a transfer
 * coding we lack), -505 (a version we lack). Slices borrow from `in`. `seen` is how many bytes of
 * `in` the previous call had and found incomplete (0 at first): the search for the end goes on from
 * there. *ret_reason, when not NULL, names what is wrong (a static string). *ret_head is whole only
 * when the result is > 0; when it is < 0 its method is what was read, or untouched if it did not
 * come so far: a caller that sets HTTP_OTHER before knows whether a refusal may have a body. */
int http1_parse_head(struct slice in, size_t seen, struct http_head *ret_head,
                     const char **ret_reason);
/* The same for a version whose request line comes as fields (RFC 9113 section 8.3.1): clears
 * *ret_head, and fills method, path, query and host. `authority` may be empty. > 0, or < 0 as
 * above. */
int http_head_begin(struct http_head *ret_head, struct slice method, struct slice path,
                    struct slice authority, const char **ret_reason);
/* The value of the first header of that name, or NULL. */
const struct slice *http_find_header(const struct http_head *head, const char *name);

/* The body: content comes out in pieces that borrow from the input. */
struct http1_body {
    bool chunked;
    int state;      /* of the chunk grammar, see http1_body.c */
    uint64_t left;  /* bytes left of the body or of the chunk */
    uint64_t total; /* content seen so far, with what is left of the current chunk */
    uint64_t bytes_max;
    uint32_t line_bytes; /* of the chunk line or of the trailers so far */
    uint32_t extension_bytes;
};
enum http1_body_result {
    HTTP1_BODY_PIECE,
    HTTP1_BODY_MORE,
    HTTP1_BODY_END,
    HTTP1_BODY_BAD,
    HTTP1_BODY_TOO_LARGE
};
/* bytes_max bounds the content. Begin with a parsed head. MORE: a body follows; END: there is none;
 * TOO_LARGE: it announces more than bytes_max. */
enum http1_body_result http1_body_begin(struct http1_body *b, const struct http_head *head,
                                        uint64_t bytes_max);
/* Content that came so far. */
uint64_t http1_body_received(const struct http1_body *b);
/* Takes bytes off the front of *in. PIECE: *ret_piece is content, call again. MORE: *in is used up.
 * END: the body is complete, *in begins with the next request. BAD and TOO_LARGE: answer 400 or 413
 * and close. END, BAD and TOO_LARGE stay what they are when called again. */
enum http1_body_result http1_body_next(struct http1_body *b, struct slice *in,
                                       struct slice *ret_piece);

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7), 29 bytes and a NUL. */
void http_format_date(uint64_t unix_s, char out[30]);
const char *http_status_text(int status);
/* "HTTP/1.1 200 OK\r\n" and a Date header; the caller adds headers and the empty line. */
void http1_put_status(struct buf *out, int status, uint64_t unix_s);
void http1_put_header(struct buf *out, const char *name,
                      struct slice value); /* CHECKs: no CR, LF, NUL */
void http1_put_header_u64(struct buf *out, const char *name, uint64_t value);
