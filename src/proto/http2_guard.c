#include "proto/http2_guard.h"

const char http2_preface[HTTP2_PREFACE_BYTES + 1] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* RFC 9113 section 6. */
enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { CONTINUATION = 9 };
enum { FLAG_END_STREAM = 1, FLAG_END_HEADERS = 4 };

void http2_guard_begin(struct http2_guard *g) {
    *g = (struct http2_guard){.preface_left = HTTP2_PREFACE_BYTES, .points = HTTP2_BUDGET};
}

void http2_guard_earn(struct http2_guard *g, uint64_t points) {
    if (g->points < 0)
        return; /* a verdict stays */
    uint64_t sum = (uint64_t)g->points + points;
    g->points = sum < HTTP2_BUDGET && points < HTTP2_BUDGET ? (int32_t)sum : HTTP2_BUDGET;
}

bool http2_guard_pay(struct http2_guard *g, int32_t points) {
    if (g->points >= 0)
        g->points -= points;
    return g->points >= 0;
}

/* A frame's header is whole. */
static bool take_frame(struct http2_guard *g) {
    uint32_t length =
        (uint32_t)g->header[0] << 16 | (uint32_t)g->header[1] << 8 | (uint32_t)g->header[2];
    uint8_t type = g->header[3], flags = g->header[4];
    g->payload_left = length;
    switch (type) {
    case HEADERS:
        g->continuations = 0;
        g->in_head = !(flags & FLAG_END_HEADERS);
        return true;
    case CONTINUATION:
        g->in_head = !(flags & FLAG_END_HEADERS);
        if (g->continuations++ == HTTP2_CONTINUATIONS_MAX)
            g->points = -1;
        return http2_guard_pay(g, 1);
    case DATA:
        return length > 0 || (flags & FLAG_END_STREAM) || http2_guard_pay(g, 5);
    case RST_STREAM:
        return http2_guard_pay(g, HTTP2_COST_RESET);
    case SETTINGS:
        return http2_guard_pay(g, 10);
    default:
        return http2_guard_pay(g, 1);
    }
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

bool http2_guard_take(struct http2_guard *g, struct slice bytes) {
    size_t at = smaller(g->preface_left, bytes.size);
    g->preface_left -= (uint32_t)at;
    while (g->points >= 0 && at < bytes.size) {
        size_t skip = smaller(g->payload_left, bytes.size - at);
        g->payload_left -= (uint32_t)skip;
        at += skip;
        size_t n = smaller(sizeof g->header - g->header_bytes, bytes.size - at);
        if (n > 0)
            memcpy(g->header + g->header_bytes, bytes.data + at, n);
        g->header_bytes += (uint32_t)n;
        at += n;
        if (g->header_bytes == sizeof g->header) {
            g->header_bytes = 0;
            take_frame(g);
        }
    }
    return g->points >= 0;
}
