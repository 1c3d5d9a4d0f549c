/* Responses of an HTTP server: where each ends, however the bytes arrive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/http1_reply.h"

static const struct {
    const char *bytes;
    int status; /* 0: not the protocol; -1: ends with the connection only */
    uint64_t body_bytes;
    bool close;
} cases[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, 5, false},
    {"HTTP/1.1 200 OK\r\ncontent-length:\t0 \r\n\r\n", 200, 0, false},
    {"HTTP/1.1 204 No Content\r\nETag: \"1\"\r\n\r\n", 204, 0, false},
    {"HTTP/1.1 304\r\nContent-Length: 10\r\n\r\n", 304, 0, false},
    {"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n\r\n", 404, 2, true},
    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, 1, true},
    {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", 200, 1, false},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx", 201, 1,
     false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, "
     "Chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\nT: v\r\n\r\n",
     200, 5, false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 200, 0,
     false},
    {"HTTP/1.1 200 OK\r\n\r\nall of it", -1, 9, true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxx", -1, 2, true},
    {"HTTP/2 200\r\n\r\n", 0, 0, false},
    {"HTTP/1.1 20 OK\r\n\r\n", 0, 0, false},
    {"HTTP/1.1 2000 OK\r\n\r\n", 0, 0, false},
    {"HTTP/1.1 099 OK\r\n\r\n", 0, 0, false},
    {"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 0, 0, false},
    {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", 0, 0, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, 0, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 0, 0, false},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 0, 0, false},
    {"-ERR unknown command\r\n", 0, 0, false},
};

static void take_in_steps(size_t i, size_t step) {
    struct http1_reply r = {0};
    size_t size = strlen(cases[i].bytes);
    enum http1_reply_result result = HTTP1_REPLY_MORE;
    for (size_t at = 0; at < size && result == HTTP1_REPLY_MORE; at += step) {
        size_t n = step < size - at ? step : size - at;
        uint8_t *copy = xmemdup(cases[i].bytes + at, n);
        struct slice in = slice_of(copy, n);
        result = http1_reply_take(&r, &in);
        if (result == HTTP1_REPLY_END && (in.size != 0 || at + n != size))
            fail_msg("%s ended too early", cases[i].bytes);
        free(copy);
    }
    int status = cases[i].status < 0 ? 200 : cases[i].status;
    enum http1_reply_result want = cases[i].status > 0   ? HTTP1_REPLY_END
                                   : cases[i].status < 0 ? HTTP1_REPLY_MORE
                                                         : HTTP1_REPLY_BAD;
    if (result != want || (status && (r.status != status || r.body_bytes != cases[i].body_bytes ||
                                      r.close != cases[i].close)))
        fail_msg("%s: %d, status %d, %d bytes", cases[i].bytes, result, r.status,
                 (int)r.body_bytes);
    assert_int_equal(http1_reply_closed(&r), cases[i].status < 0);
    struct slice next = slice_str("HTTP/1.1 204 x\r\n\r\n");
    assert_int_equal(http1_reply_take(&r, &next), status ? HTTP1_REPLY_END : HTTP1_REPLY_BAD);
    http1_reply_fini(&r);
}

static void test_each_in_pieces(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        for (size_t step = 1; step <= strlen(cases[i].bytes); step++)
            take_in_steps(i, step);
}

/* A head that does not end is not kept for ever. */
static void test_limits(void **state) {
    struct http1_reply r = {0};
    struct slice in = slice_str("HTTP/1.1 200 OK\r\n");
    assert_int_equal(http1_reply_take(&r, &in), HTTP1_REPLY_MORE);
    size_t fields = 0;
    enum http1_reply_result result = HTTP1_REPLY_MORE;
    for (; result == HTTP1_REPLY_MORE && fields < HTTP1_REPLY_HEAD_BYTES_MAX; fields++) {
        in = slice_str("A: 1234567890\r\n");
        result = http1_reply_take(&r, &in);
    }
    assert_int_equal(result, HTTP1_REPLY_BAD);
    assert_true(fields * 15 <= HTTP1_REPLY_HEAD_BYTES_MAX + 15);
    http1_reply_fini(&r);

    struct http1_reply line = {0};
    static char letters[HTTP1_REPLY_LINE_BYTES_MAX + 1];
    memset(letters, 'H', sizeof letters);
    in = slice_of(letters, sizeof letters);
    assert_int_equal(http1_reply_take(&line, &in), HTTP1_REPLY_BAD);
    http1_reply_fini(&line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_in_pieces),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
