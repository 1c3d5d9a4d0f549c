/* Byte ranges of an answer to GET (RFC 9110 section 14), sans-I/O: which bytes a Range field asks
 * for, and the parts of a multipart/byteranges body with its exact length beforehand.
 *
 *     Range field -> http_range_parse() -> WHOLE          200 and everything
 *                                          PARTIAL, 1     206 with Content-Range
 *                                          PARTIAL, > 1   206 multipart/byteranges
 *                                          UNSATISFIABLE  416 with Content-Range: bytes * / size
 *
 * A field that is malformed, of another unit, or asks for more than HTTP_RANGES_MAX ranges is
 * ignored, as section 14.2 allows: WHOLE. Ranges that overlap, touch, or lie so close that the head
 * of another part would be longer than the gap become one, so that an answer is never longer than
 * the file and a few heads (section 17.15). The others keep the order in which they were asked for.
 *
 * Call it for GET only, after the preconditions (proto/http_conditional.h) said that the file is to
 * be sent, and after If-Range (http_if_range_holds) allowed it.
 */
#pragma once
#include "base/buf.h"

enum {
    HTTP_RANGES_MAX = 16,
    HTTP_RANGE_GAP_BYTES = 100,        /* a gap that is not worth a part of its own */
    HTTP_CONTENT_RANGE_BYTES_MAX = 80, /* of a Content-Range value, with its NUL */
    HTTP_BOUNDARY_BYTES_MAX = 70,      /* RFC 2046 section 5.1.1 */
};

struct http_range {
    uint64_t offset;
    uint64_t size; /* > 0; offset + size is at most the file's size */
};

struct http_ranges {
    size_t count;
    struct http_range items[HTTP_RANGES_MAX];
};

enum http_range_result { HTTP_RANGE_WHOLE, HTTP_RANGE_PARTIAL, HTTP_RANGE_UNSATISFIABLE };

/* `value` of the Range field; `size` of the whole file. *ret_ranges is written for PARTIAL only.
 * A caller that finds several Range fields does not call this: WHOLE. */
enum http_range_result http_range_parse(struct slice value, uint64_t size,
                                        struct http_ranges *ret_ranges);

/* "bytes 0-4/10", or "bytes *" and "/10" in one word when `range` is NULL (for 416). Returns the
 * length of the text. */
size_t http_range_format(const struct http_range *range, uint64_t size,
                         char out[HTTP_CONTENT_RANGE_BYTES_MAX]);

/* The body of multipart/byteranges is, for each range: a part's head, then the bytes of the range;
 * then the end.
 *
 *     CRLF --BOUNDARY CRLF Content-Type: TYPE CRLF Content-Range: bytes F-L/SIZE CRLF CRLF bytes
 *     ...
 *     CRLF --BOUNDARY-- CRLF
 *
 * (without the first CRLF). The boundary must not occur in the file: the caller takes random ones
 * of at least 16 letters and digits. `type` may be empty: no Content-Type line then. */
struct http_multipart {
    struct slice boundary; /* borrowed; letters and digits, at most HTTP_BOUNDARY_BYTES_MAX */
    struct slice type;     /* borrowed; of the file */
    uint64_t size;         /* of the file */
    const struct http_ranges *ranges;
};
/* Content-Length of the whole body. */
uint64_t http_multipart_bytes(const struct http_multipart *m);
/* The head of part `index`, which goes before the bytes of that range. */
void http_multipart_put_head(const struct http_multipart *m, size_t index, struct buf *out);
void http_multipart_put_end(const struct http_multipart *m, struct buf *out);
