/* Watches the frames of one HTTP/2 client (RFC 9113 section 4.1) for floods, sans-I/O: what costs a
 * client next to nothing to send and us something to take. Knows frame headers only; what frames
 * mean is http2.c's.
 *
 * A client has a budget of points. Frames that ask for no content cost some; answers earn some
 * back, and so does time. Who has used them up is a flood:
 *
 *   RST_STREAM (either side's)    5      an answered request       +5
 *   DATA without content or end   5      a DATA frame we sent     +16
 *   SETTINGS                     10      a second                 +50
 *   any other but HEADERS, DATA   1      at most HTTP2_BUDGET points
 *
 * So a browser that cancels a page's hundred requests is well, and a client that opens and resets
 * streams as fast as it can (CVE-2023-44487), makes us reset them, or sends PING, SETTINGS or empty
 * frames without end, is noticed after a few hundred frames. A head may come in
 * HTTP2_CONTINUATIONS_MAX CONTINUATION frames (CVE-2024-27316). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum {
    HTTP2_PREFACE_BYTES = 24,
    HTTP2_BUDGET = 1000,
    HTTP2_COST_RESET = 5,
    HTTP2_EARN_ANSWER = 5,
    HTTP2_EARN_DATA = 16,
    HTTP2_EARN_SECOND = 50,
    HTTP2_CONTINUATIONS_MAX = 8,
};

/* "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", RFC 9113 section 3.4. */
extern const char http2_preface[HTTP2_PREFACE_BYTES + 1];

struct http2_guard {
    uint32_t preface_left;
    uint32_t header_bytes; /* of `header` that are here */
    uint32_t payload_left;
    uint8_t header[9];
    uint8_t continuations; /* in a row */
    bool in_head;          /* between HEADERS and END_HEADERS */
    int32_t points;
};

void http2_guard_begin(struct http2_guard *g);
/* Looks at the next bytes of the connection. False: a flood, and every further call says the same.
 */
bool http2_guard_take(struct http2_guard *g, struct slice bytes);
/* What happened otherwise. */
void http2_guard_earn(struct http2_guard *g, uint64_t points);
bool http2_guard_pay(struct http2_guard *g, int32_t points); /* false: a flood */
