/* The client's side of the Redis protocol, sans-I/O: where a server's replies end, and what kind
 * each is. For callers that count and time replies and do not keep them: bytes are looked at as
 * they arrive and need not be kept by anybody, so memory does not depend on what a server sends.
 *
 * Takes RESP2 and RESP3 (github.com/redis/redis-specifications), from any server: elements of all
 * types, aggregates in any nesting, both missing forms. A push ('>') is out of band and is skipped.
 * Attributes ('|') and lengths that are not known in advance ('?') are refused; no server sends
 * them unasked. */
#pragma once
#include "base/slice.h"

enum { RESP_REPLY_LINE_BYTES_MAX = 1024, RESP_REPLY_TEXT_BYTES = 80 };

/* Zero-initialised is ready for the first reply. */
struct resp_reply {
    /* Of the reply that ended last: its first element. */
    char type;       /* '+' '-' ':' '$' '*' and RESP3's; 'n' for a missing value or array */
    int64_t integer; /* ':' the value; '$' the bytes, '*' and its like the elements */
    char text[RESP_REPLY_TEXT_BYTES]; /* '+' and '-': the beginning of the line; a C string */

    /* Of the reply under way. */
    uint64_t elements_left;
    uint64_t skip_bytes; /* of a bulk string and its CRLF */
    bool begun;
    bool push;
    bool bad;
    size_t line_bytes;
    char line[RESP_REPLY_LINE_BYTES_MAX]; /* the beginning of a line whose end has not come yet */
};

enum resp_reply_result {
    RESP_REPLY_END,  /* one whole reply was taken; call again for the next */
    RESP_REPLY_MORE, /* all of *in was taken, and more must come */
    RESP_REPLY_BAD,  /* not the protocol; every further call says the same */
};

/* Takes bytes off the front of *in. */
enum resp_reply_result resp_reply_take(struct resp_reply *r, struct slice *in);
