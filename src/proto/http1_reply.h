/* The client's side of HTTP/1.1 (RFC 9112), sans-I/O: where a server's responses end, and their
 * status. For callers that count and time responses and do not keep them: bytes are looked at as
 * they arrive and need not be kept by anybody, so memory does not depend on what a server sends.
 *
 * Understands Content-Length, chunked bodies, bodies that end with the connection, responses
 * without body (1xx, 204, 304), and says when the server closes behind a response. 1xx are skipped.
 * Answers to HEAD and CONNECT are not for this parser: whether a body follows depends on the
 * request then. */
#pragma once
#include "proto/http1.h"

enum { HTTP1_REPLY_LINE_BYTES_MAX = 8192, HTTP1_REPLY_HEAD_BYTES_MAX = 64 * 1024 };

enum http1_reply_state {
    HTTP1_REPLY_STATUS_LINE,
    HTTP1_REPLY_FIELDS,
    HTTP1_REPLY_LENGTH_BODY,
    HTTP1_REPLY_CHUNKED_BODY,
    HTTP1_REPLY_BODY_TO_CLOSE,
    HTTP1_REPLY_BROKEN,
};

/* Zero-initialised is ready for the first response. */
struct http1_reply {
    int status;          /* of the response that ended last, or is under way */
    bool close;          /* the server closes behind it */
    uint64_t body_bytes; /* content seen so far */

    enum http1_reply_state state;
    bool has_length;
    bool chunked;
    uint64_t length; /* of the body: what is left of it */
    uint32_t head_bytes;
    struct http1_body chunks;
    struct buf line; /* the beginning of a line whose end has not come yet */
};

enum http1_reply_result {
    HTTP1_REPLY_END,  /* one whole response was taken; call again for the next */
    HTTP1_REPLY_MORE, /* all of *in was taken, and more must come */
    HTTP1_REPLY_BAD,  /* not the protocol; every further call says the same */
};

void http1_reply_fini(struct http1_reply *r);
/* Takes bytes off the front of *in. */
enum http1_reply_result http1_reply_take(struct http1_reply *r, struct slice *in);
/* The server has closed. True when that ends a response as it should. */
bool http1_reply_closed(struct http1_reply *r);
