/* Conformance of the HTTP/1.1 parser with RFC 9110 and 9112: a table of heads and a table of
 * chunked bodies, each fed whole, byte by byte and split at every point, with equal results. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "proto/http1.h"

/* The tables leave out what is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* ---- heads ---- */

#define H "Host: a\r\n"
#define GET(headers) "GET / HTTP/1.1\r\n" H headers "\r\n"

enum { OK = 1, MORE = 0 };
enum flag { KEEP = 1, EXPECT = 2, CHUNKED = 4, LENGTH = 8 };

struct head_case {
    const char *rule;
    const char *input;
    int result;       /* OK: all of it is the head; MORE; or -status */
    int flags;        /* of enum flag, for OK */
    uint64_t length;  /* likewise */
    const char *path; /* checked when not NULL */
    const char *query;
    const char *host;
    size_t size; /* of the input when it holds a NUL, else 0 */
};

static const struct head_case heads[] = {
    /* request line, RFC 9112 section 3 */
    {"origin form", GET(""), OK, KEEP, 0, "/", "", "a"},
    {"path and query", "GET /a/b?c=d?e HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "/a/b", "c=d?e", "a"},
    {"an empty query", "GET /a? HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "/a", "", "a"},
    {"percent-encoding is left alone", "GET /%41%2f%zz HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0,
     "/%41%2f%zz", "", "a"},
    {"what browsers leave unencoded", "GET /{a}|^`\\\"<> HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0,
     "/{a}|^`\\\"<>", "", "a"},
    {"double slash is a path", "GET //a HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "//a", "", "a"},
    {"two spaces after the method", "GET  / HTTP/1.1\r\n" H "\r\n", -400},
    {"two spaces after the target", "GET /  HTTP/1.1\r\n" H "\r\n", -400},
    {"tab after the method", "GET\t/ HTTP/1.1\r\n" H "\r\n", -400},
    {"space behind the version", "GET / HTTP/1.1 \r\n" H "\r\n", -400},
    {"space before the method", " GET / HTTP/1.1\r\n" H "\r\n", -400},
    {"no target", "GET HTTP/1.1\r\n" H "\r\n", -400},
    {"no version (HTTP/0.9)", "GET /\r\n\r\n", -400},
    {"version with small letters", "GET / http/1.1\r\n" H "\r\n", -400},
    {"version cut short", "GET / HTTP/1\r\n" H "\r\n", -400},
    {"version with two digits", "GET / HTTP/1.10\r\n" H "\r\n", -400},
    {"version with a zero before it", "GET / HTTP/01.1\r\n" H "\r\n", -400},
    {"version with a letter", "GET / HTTP/1.x\r\n" H "\r\n", -400},
    {"version with a comma", "GET / HTTP/1,1\r\n" H "\r\n", -400},
    {"nothing but a version", "GET / HTTP/\r\n\r\n", -400},
    {"a higher minor version is 1.1", "GET / HTTP/1.2\r\n" H "\r\n", OK, KEEP, 0, "/", "", "a"},
    {"HTTP/2.0", "GET / HTTP/2.0\r\n" H "\r\n", -505},
    {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", -505},
    {"HTTP/0.9 by name", "GET / HTTP/0.9\r\n\r\n", -505},
    {"method with a bad character", "G@T / HTTP/1.1\r\n" H "\r\n", -400},
    {"method first byte of TLS", "\x16\x03\x01", -400},
    {"a method of one's own", "BREW /pot HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "/pot", "", "a"},
    {"a fragment in the target", "GET /#a HTTP/1.1\r\n" H "\r\n", -400},
    {"bytes above 0x7f in the target", "GET /\xc3\xbc HTTP/1.1\r\n" H "\r\n", -400},
    {"a control character in the target", "GET /\x01 HTTP/1.1\r\n" H "\r\n", -400},
    {"DEL in the target", "GET /\x7f HTTP/1.1\r\n" H "\r\n", -400},
    {"a relative path", "GET a/b HTTP/1.1\r\n" H "\r\n", -400},

    /* absolute form, section 3.2.2: its authority replaces Host, which must be there all the same
     */
    {"absolute form", "GET http://b:80/p?q HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "/p", "q", "b:80"},
    {"https, capitals", "GET HTTPS://b/p HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "/p", "", "b"},
    {"absolute form without path", "GET http://b HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "/", "", "b"},
    {"absolute form with query only", "GET http://b?q HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "/", "q",
     "b"},
    {"absolute form for OPTIONS *", "OPTIONS http://b HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "*", "",
     "b"},
    {"absolute form without host", "GET http:///p HTTP/1.1\r\n" H "\r\n", -400},
    {"absolute form, port only", "GET http://:80/p HTTP/1.1\r\n" H "\r\n", -400},
    {"absolute form with user", "GET http://u@b/ HTTP/1.1\r\n" H "\r\n", -400},
    {"absolute form without Host", "GET http://b/ HTTP/1.1\r\n\r\n", -400},
    {"another scheme", "GET ftp://b/ HTTP/1.1\r\n" H "\r\n", -400},
    {"scheme alone", "GET http: HTTP/1.1\r\n" H "\r\n", -400},
    /* asterisk and authority form, sections 3.2.3 and 3.2.4 */
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "*", "", "a"},
    {"OPTIONS of a path", "OPTIONS /x HTTP/1.1\r\n" H "\r\n", OK, KEEP, 0, "/x", "", "a"},
    {"GET *", "GET * HTTP/1.1\r\n" H "\r\n", -400},
    {"OPTIONS *x", "OPTIONS *x HTTP/1.1\r\n" H "\r\n", -400},
    {"authority form", "CONNECT a:443 HTTP/1.1\r\n" H "\r\n", -400},
    {"authority form in GET", "GET a:443 HTTP/1.1\r\n" H "\r\n", -400},
    {"CONNECT of a path", "CONNECT / HTTP/1.1\r\n" H "\r\n", -400},

    /* empty lines before the request, section 2.2 */
    {"one empty line", "\r\n" GET(""), OK, KEEP, 0, "/", "", "a"},
    {"four empty lines", "\r\n\r\n\r\n\r\n" GET(""), OK, KEEP, 0, "/", "", "a"},
    {"five empty lines", "\r\n\r\n\r\n\r\n\r\n" GET(""), -400},
    {"an empty line with LF only", "\n" GET(""), -400},
    {"a CR before the request", "\r" GET(""), -400},
    {"nothing but an empty line", "\r\n", MORE},

    /* line ends and control characters, sections 2.2 and 5 */
    {"bare LF after the request line", "GET / HTTP/1.1\n" H "\r\n", -400},
    {"bare LF after a header", "GET / HTTP/1.1\r\nHost: a\n\r\n", -400},
    {"bare LF at the end", "GET / HTTP/1.1\r\n" H "\n", -400},
    {"bare LF, and nothing more comes", "GET / HTTP/1.1\n", -400},
    {"bare CR in a value", GET("X: a\rb\r\n"), -400},
    {"bare CR before CRLF", GET("X: a\r\r\n"), -400},
    {"bare CR in the request line", "GET /\rHTTP/1.1\r\n" H "\r\n", -400},
    {"bare CR after the version", "GET / HTTP/1.1\rX: y\r\n" H "\r\n", -400},
    {"bare CR in a name", GET("X\r: a\r\n"), -400},
    {"NUL in a value", GET("X: a\0b\r\n"), -400, .size = sizeof(GET("X: a\0b\r\n")) - 1},
    {"NUL in a name", GET("X\0: b\r\n"), -400, .size = sizeof(GET("X\0: b\r\n")) - 1},
    {"NUL in the target", "GET /\0 HTTP/1.1\r\n" H "\r\n", -400,
     .size = sizeof("GET /\0 HTTP/1.1\r\n" H "\r\n") - 1},
    {"DEL in a value", GET("X: a\x7f\r\n"), -400},
    {"escape in a value", GET("X: a\x1b[0m\r\n"), -400},
    {"control character behind eight bytes", GET("X: abcdefgh\x01zzzzzzzzzzz\r\n"), -400},
    {"tab within a value", GET("X: a\tb\t c\r\n"), OK, KEEP},
    {"tabs and long text", GET("X: abcdefghij\tabcdefghijkl\t\tabcdefghijklm\r\n"), OK, KEEP},
    {"bytes above 0x7f in a value", GET("X: \xc3\xbc\xff\r\n"), OK, KEEP},
    {"an empty value", GET("X:\r\n"), OK, KEEP},
    {"a value of blanks", GET("X: \t \r\n"), OK, KEEP},
    {"no end yet", "GET / HTTP/1.1\r\n" H, MORE},

    /* field names, sections 5.1 and 5.2 */
    {"space before the colon", GET("X : a\r\n"), -400},
    {"tab before the colon", GET("X\t: a\r\n"), -400},
    {"space in a name", GET("X Y: a\r\n"), -400},
    {"no colon", GET("X\r\n"), -400},
    {"an empty name", GET(": a\r\n"), -400},
    {"a bad character in a name", GET("X(: a\r\n"), -400},
    {"bytes above 0x7f in a name", GET("\xc3\xbc: a\r\n"), -400},
    {"obs-fold with a space", GET("X: a\r\n b\r\n"), -400},
    {"obs-fold with a tab", GET("X: a\r\n\tb\r\n"), -400},
    {"blanks before the first header", "GET / HTTP/1.1\r\n " H "\r\n", -400},
    {"a line of blanks", GET(" \r\n"), -400},
    {"every token character", GET("!#$%&'*+-.^_`|~09azAZ: a\r\n"), OK, KEEP},

    /* Host, section 3.2 */
    {"no Host", "GET / HTTP/1.1\r\n\r\n", -400},
    {"no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", OK, 0, 0, "/", "", ""},
    {"two Hosts", GET("Host: b\r\n"), -400},
    {"the same Host twice", GET("host: a\r\n"), -400},
    {"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\n" H H "\r\n", -400},
    {"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", OK, KEEP, 0, "/", "", ""},
    {"Host with port", "GET / HTTP/1.1\r\nHOST: a.b:8080\r\n\r\n", OK, KEEP, 0, "/", "",
     "a.b:8080"},
    {"Host with IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", OK, KEEP, 0, "/", "",
     "[::1]:80"},
    {"Host with an encoded byte", "GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", OK, KEEP, 0, "/", "",
     "a%2eb"},
    {"Host with half an encoded byte", "GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", -400},
    {"Host with a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", -400},
    {"Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", -400},
    {"Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", -400},
    {"Host with a bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", -400},
    {"Host with a long port", "GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n", -400},
    {"Host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", -400},
    {"Host with an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", -400},
    {"Host with empty brackets", "GET / HTTP/1.1\r\nHost: []\r\n\r\n", -400},

    /* framing, section 6.3 */
    {"Content-Length", GET("Content-Length: 5\r\n"), OK, KEEP | LENGTH, 5},
    {"Content-Length 0", GET("content-length:0\r\n"), OK, KEEP | LENGTH, 0},
    {"Content-Length with zeros", GET("Content-Length: 007\r\n"), OK, KEEP | LENGTH, 7},
    {"the largest", GET("Content-Length: 18446744073709551615\r\n"), OK, KEEP | LENGTH, UINT64_MAX},
    {"one more than the largest", GET("Content-Length: 18446744073709551616\r\n"), -400},
    {"far too large", GET("Content-Length: 99999999999999999999999\r\n"), -400},
    {"Content-Length with plus", GET("Content-Length: +5\r\n"), -400},
    {"Content-Length with minus", GET("Content-Length: -5\r\n"), -400},
    {"Content-Length in hex", GET("Content-Length: 0x5\r\n"), -400},
    {"Content-Length with a space", GET("Content-Length: 5 5\r\n"), -400},
    {"Content-Length with a point", GET("Content-Length: 5.\r\n"), -400},
    {"Content-Length as a list", GET("Content-Length: 5, 5\r\n"), -400},
    {"Content-Length empty", GET("Content-Length:\r\n"), -400},
    {"two Content-Lengths", GET("Content-Length: 5\r\nContent-Length: 6\r\n"), -400},
    {"the same Content-Length twice", GET("Content-Length: 5\r\nContent-Length: 5\r\n"), -400},
    {"chunked", GET("Transfer-Encoding: chunked\r\n"), OK, KEEP | CHUNKED},
    {"chunked in capitals", GET("TRANSFER-ENCODING: CHUNKED\r\n"), OK, KEEP | CHUNKED},
    {"CL.TE", GET("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), -400},
    {"TE.CL", GET("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), -400},
    {"TE.CL with an unknown coding", GET("Transfer-Encoding: x\r\nContent-Length: 5\r\n"), -400},
    {"TE.TE", GET("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), -400},
    {"TE.TE with another", GET("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), -400},
    {"TE.TE, another first", GET("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"), -501},
    {"chunked twice", GET("Transfer-Encoding: chunked, chunked\r\n"), -400},
    {"gzip, chunked", GET("Transfer-Encoding: gzip, chunked\r\n"), -501},
    {"chunked, gzip", GET("Transfer-Encoding: chunked, gzip\r\n"), -400},
    {"gzip without chunked", GET("Transfer-Encoding: gzip\r\n"), -400},
    {"identity", GET("Transfer-Encoding: identity\r\n"), -400},
    {"xchunked", GET("Transfer-Encoding: xchunked\r\n"), -400},
    {"chunked with a parameter", GET("Transfer-Encoding: chunked;a=b\r\n"), -400},
    {"chunked and a comma", GET("Transfer-Encoding: chunked,\r\n"), -400},
    {"a comma and chunked", GET("Transfer-Encoding: ,chunked\r\n"), -400},
    {"chunked in quotes", GET("Transfer-Encoding: \"chunked\"\r\n"), -400},
    {"vertical tab before chunked", GET("Transfer-Encoding: \vchunked\r\n"), -400},
    {"an empty Transfer-Encoding", GET("Transfer-Encoding:\r\n"), -400},
    {"Transfer-Encoding in HTTP/1.0", "GET / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n",
     -400},
    {"Transfer-Encoding with space", GET("Transfer-Encoding : chunked\r\n"), -400},

    /* Connection, RFC 9112 section 9.3 */
    {"close", GET("Connection: close\r\n"), OK, 0},
    {"close, capitals", GET("connection: CLOSE\r\n"), OK, 0},
    {"close in a list", GET("Connection: x, close ,y\r\n"), OK, 0},
    {"close in the second field", GET("Connection: x\r\nConnection: close\r\n"), OK, 0},
    {"close beats keep-alive", GET("Connection: close, keep-alive\r\n"), OK, 0},
    {"part of a token is none", GET("Connection: xclose, close-x\r\n"), OK, KEEP},
    {"keep-alive", GET("Connection: keep-alive\r\n"), OK, KEEP},
    {"an empty list", GET("Connection: ,,\r\n"), OK, KEEP},
    {"HTTP/1.0", "GET / HTTP/1.0\r\n" H "\r\n", OK, 0},
    {"HTTP/1.0 keep-alive", "GET / HTTP/1.0\r\n" H "Connection: Keep-Alive\r\n\r\n", OK, KEEP},
    {"HTTP/1.0 keep-alive, close", "GET / HTTP/1.0\r\n" H "Connection: keep-alive, close\r\n\r\n",
     OK, 0},

    /* Expect, RFC 9110 section 10.1.1 */
    {"100-continue", GET("Content-Length: 1\r\nExpect: 100-continue\r\n"), OK,
     KEEP | LENGTH | EXPECT, 1},
    {"100-Continue, chunked", GET("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n"), OK,
     KEEP | CHUNKED | EXPECT},
    {"100-continue without a body", GET("Expect: 100-continue\r\n"), OK, KEEP},
    {"another expectation", GET("Content-Length: 1\r\nExpect: 200-ok\r\n"), -417},
    {"one more expectation", GET("Content-Length: 1\r\nExpect: 100-continue, x\r\n"), -417},
    {"an expectation in HTTP/1.0", "GET / HTTP/1.0\r\nContent-Length: 1\r\nExpect: x\r\n\r\n", OK,
     LENGTH, 1},
    {"100-continue in HTTP/1.0",
     "GET / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", OK, LENGTH, 1},
};

static bool same_slice(struct slice a, struct slice b) {
    return a.data == b.data && a.size == b.size;
}

static void assert_same_head(const struct http_head *a, const struct http_head *b) {
    assert_int_equal(a->method, b->method);
    assert_true(same_slice(a->path, b->path));
    assert_true(same_slice(a->query, b->query));
    assert_true(same_slice(a->host, b->host));
    assert_int_equal(a->header_count, b->header_count);
    for (size_t i = 0; i < a->header_count; i++) {
        assert_true(same_slice(a->headers[i].name, b->headers[i].name));
        assert_true(same_slice(a->headers[i].value, b->headers[i].value));
    }
    assert_int_equal(a->keep_alive, b->keep_alive);
    assert_int_equal(a->expect_continue, b->expect_continue);
    assert_int_equal(a->chunked, b->chunked);
    assert_int_equal(a->length, b->length);
}

/* Feeds a growing input that ends at each multiple of `step` behind `first`. */
static int feed_growing(struct slice in, size_t first, size_t step, struct http_head *head) {
    size_t seen = 0;
    for (size_t n = first;; n += step) {
        if (n > in.size)
            n = in.size;
        int r = http1_parse_head(slice_of(in.data, n), seen, head, NULL);
        if (r != 0 || n == in.size)
            return r;
        seen = n;
    }
}

static void check_head(const struct head_case *c) {
    static struct http_head whole, pieces;
    size_t size = c->size ? c->size : strlen(c->input);
    uint8_t *copy = xmemdup(c->input, size); /* exactly sized, for the address sanitizer */
    struct slice in = slice_of(copy, size);
    const char *reason = NULL;
    int r = http1_parse_head(in, 0, &whole, &reason);
    int want = c->result == OK ? (int)size : c->result;
    if (r != want)
        fail_msg("%s: got %d (%s), want %d", c->rule, r, reason ? reason : "-", want);
    if (r < 0)
        assert_non_null(reason);
    for (size_t first = 0; first <= size; first++) {
        int rest = feed_growing(in, first, size, &pieces);
        if (rest != r)
            fail_msg("%s: split at %zu: %d instead of %d", c->rule, first, rest, r);
        if (r > 0)
            assert_same_head(&whole, &pieces);
    }
    assert_int_equal(feed_growing(in, 1, 1, &pieces), r);
    if (r > 0) {
        assert_same_head(&whole, &pieces);
        int flags = (whole.keep_alive ? KEEP : 0) | (whole.expect_continue ? EXPECT : 0) |
                    (whole.chunked ? CHUNKED : 0) | (whole.has_length ? LENGTH : 0);
        if (flags != c->flags)
            fail_msg("%s: flags %d, want %d", c->rule, flags, c->flags);
        assert_int_equal(whole.length, c->length);
        if (c->path && !slice_equal_str(whole.path, c->path))
            fail_msg("%s: path '%.*s'", c->rule, (int)whole.path.size, whole.path.data);
        if (c->query && !slice_equal_str(whole.query, c->query))
            fail_msg("%s: query '%.*s'", c->rule, (int)whole.query.size, whole.query.data);
        if (c->host && !slice_equal_str(whole.host, c->host))
            fail_msg("%s: host '%.*s'", c->rule, (int)whole.host.size, whole.host.data);
    }
    free(copy);
}

static void test_heads(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(heads); i++)
        check_head(&heads[i]);
}

static void test_head_fields(void **state) {
    struct http_head h;
    struct slice in = slice_str("PATCH /x HTTP/1.1\r\nHost:a\r\nAccept:  text/html \t\r\n"
                                "X-Empty:\r\naccept: second\r\n\r\nGET /next");
    int r = http1_parse_head(in, 0, &h, NULL);
    assert_int_equal(r, (int)in.size - 9);
    assert_int_equal(h.method, HTTP_PATCH);
    assert_true(slice_equal_str(h.method_text, "PATCH"));
    assert_int_equal(h.minor_version, 1);
    assert_int_equal(h.header_count, 4);
    assert_true(slice_equal_str(h.headers[1].name, "Accept"));
    assert_true(slice_equal_str(*http_find_header(&h, "ACCEPT"), "text/html"));
    assert_int_equal(http_find_header(&h, "x-empty")->size, 0);
    assert_null(http_find_header(&h, "x-empt"));
}

static void test_methods(void **state) {
    static const char *const names[] = {"GET",   "HEAD",   "PUT",     "POST",
                                        "PATCH", "DELETE", "OPTIONS", "get"};
    for (int i = 0; i < 8; i++) {
        char text[64];
        struct http_head h;
        snprintf(text, sizeof text, "%s / HTTP/1.1\r\n" H "\r\n", names[i]);
        assert_true(http1_parse_head(slice_str(text), 0, &h, NULL) > 0);
        assert_int_equal(h.method, i == 7 ? HTTP_OTHER : i);
        assert_true(slice_equal_str(h.method_text, names[i]));
    }
}

/* The head of `total` bytes: one header is filled up. */
static struct slice head_of_size(struct buf *b, size_t total) {
    buf_reset(b);
    buf_append_str(b, "GET / HTTP/1.1\r\n" H "X: ");
    while (b->size < total - 4)
        buf_append_char(b, 'x');
    buf_append_str(b, "\r\n\r\n");
    return buf_slice(b);
}

static void test_head_limits(void **state) {
    struct buf b = {0};
    static struct http_head h;
    struct slice in = head_of_size(&b, HTTP1_HEAD_BYTES_MAX);
    assert_int_equal(http1_parse_head(in, 0, &h, NULL), HTTP1_HEAD_BYTES_MAX);
    assert_int_equal(feed_growing(in, 1, 1, &h), HTTP1_HEAD_BYTES_MAX);
    in = head_of_size(&b, HTTP1_HEAD_BYTES_MAX + 1);
    assert_int_equal(http1_parse_head(in, 0, &h, NULL), -431);
    assert_int_equal(feed_growing(in, 1, 1, &h), -431);
    assert_int_equal(feed_growing(in, in.size - 1, 1, &h), -431);

    buf_reset(&b);
    buf_append_str(&b, "GET /");
    while (b.size < 2 * HTTP1_HEAD_BYTES_MAX)
        buf_append_char(&b, 'x');
    assert_int_equal(http1_parse_head(buf_slice(&b), 0, &h, NULL), -414);
    assert_int_equal(feed_growing(buf_slice(&b), 1, 1, &h), -414);

    for (size_t extra = 0; extra < 2; extra++) {
        buf_reset(&b);
        buf_append_str(&b, "GET /");
        while (b.size < 4 + HTTP1_TARGET_BYTES_MAX + extra)
            buf_append_char(&b, 'x');
        buf_append_str(&b, " HTTP/1.1\r\n" H "\r\n");
        int want = extra ? -414 : (int)b.size;
        assert_int_equal(http1_parse_head(buf_slice(&b), 0, &h, NULL), want);
    }
    for (int extra = 0; extra < 2; extra++) {
        buf_reset(&b);
        buf_append_str(&b, "GET / HTTP/1.1\r\n" H);
        for (int i = 1; i < HTTP1_HEADERS_MAX + extra; i++)
            buf_printf(&b, "X%d: y\r\n", i);
        buf_append_str(&b, "\r\n");
        int want = extra ? -431 : (int)b.size;
        assert_int_equal(http1_parse_head(buf_slice(&b), 0, &h, NULL), want);
    }
    buf_fini(&b);
}

/* A refusal of a HEAD request has no body: the method is told even then. */
static void test_method_of_a_refused_head(void **state) {
    static struct http_head h;
    h.method = HTTP_OTHER;
    assert_int_equal(http1_parse_head(slice_str("HEAD / HTTP/1.1\r\n\r\n"), 0, &h, NULL), -400);
    assert_int_equal(h.method, HTTP_HEAD);
    assert_int_equal(http1_parse_head(slice_str("HEAD / HTTP/3.0\r\n\r\n"), 0, &h, NULL), -505);
    assert_int_equal(h.method, HTTP_HEAD);
    h.method = HTTP_OTHER;
    assert_int_equal(http1_parse_head(slice_str("HEAD / HTTP/1.1\n\n"), 0, &h, NULL), -400);
    assert_int_equal(h.method, HTTP_OTHER);
}

/* What was seen before is not searched again for the head's end: a bare LF in it goes unnoticed
 * until the head is complete. (In life `seen` bytes hold none, or they had been refused.) */
static void test_head_is_searched_once(void **state) {
    static struct http_head h;
    struct slice in = slice_str("GET / HTTP/1.1\nHost: a\r\nX: y");
    assert_int_equal(http1_parse_head(in, 0, &h, NULL), -400);
    assert_int_equal(http1_parse_head(in, 15, &h, NULL), 0);
    assert_int_equal(http1_parse_head(in, in.size, &h, NULL), 0);
}

/* ---- bodies ---- */

struct body_case {
    const char *rule;
    const char *input;
    enum http1_body_result result;
    const char *content;
    size_t rest; /* bytes of the input behind the body, for END */
};

#define END HTTP1_BODY_END
#define BAD HTTP1_BODY_BAD
#define LARGE HTTP1_BODY_TOO_LARGE
#define NEED HTTP1_BODY_MORE

static const struct body_case bodies[] = {
    {"no chunk", "0\r\n\r\n", END, ""},
    {"one chunk", "5\r\nhello\r\n0\r\n\r\n", END, "hello"},
    {"two chunks", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\nGET /", END, "hello", 5},
    {"hex, small and capital", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", END,
     "01234567890123456789"},
    {"zeros before the size", "0005\r\nhello\r\n000\r\n\r\n", END, "hello"},
    {"CRLF in the content", "4\r\n\r\n\r\n\r\n0\r\n\r\n", END, "\r\n\r\n"},
    {"extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n", END, "hello"},
    {"extension with blanks", "5 \t; a = \"b;\\\"\"\r\nhello\r\n0\r\n\r\n", END, "hello"},
    {"trailers", "5\r\nhello\r\n0\r\nX: y\r\nContent-Length: 9\r\n\r\nnext", END, "hello", 4},
    {"a trailer without value", "0\r\nX:\r\n\r\n", END, ""},
    {"nothing yet", "", NEED, ""},
    {"cut in the size", "5", NEED, ""},
    {"cut in the content", "5\r\nhel", NEED, "hel"},
    {"cut before the last CRLF", "0\r\n", NEED, ""},
    {"no size", "\r\nhello\r\n", BAD, ""},
    {"an empty size with an extension", ";a\r\nhello\r\n", BAD, ""},
    {"a size with 0x", "0x5\r\nhello\r\n", BAD, ""},
    {"a size with minus", "-5\r\nhello\r\n", BAD, ""},
    {"a size with plus", "+5\r\nhello\r\n", BAD, ""},
    {"a blank before the size", " 5\r\nhello\r\n", BAD, ""},
    {"a blank behind the size", "5 \r\nhello\r\n", BAD, ""},
    {"two sizes", "5 5\r\nhello\r\n", BAD, ""},
    {"a letter behind the size", "5g\r\nhello\r\n", BAD, ""},
    {"bare LF behind the size", "5\nhello\r\n0\r\n\r\n", BAD, ""},
    {"bare CR behind the size", "5\rhello\r\n0\r\n\r\n", BAD, ""},
    {"bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n", BAD, ""},
    {"bare CR in an extension", "5;a\rb\r\nhello\r\n", BAD, ""},
    {"control character in an extension", "5;\x01\r\nhello\r\n", BAD, ""},
    {"content longer than the size", "4\r\nhello\r\n0\r\n\r\n", BAD, "hell"},
    {"content shorter than the size", "6\r\nhello\r\n0\r\n\r\n", BAD, "hello\r"},
    {"bare LF behind the content", "5\r\nhello\n0\r\n\r\n", BAD, "hello"},
    {"bare CR behind the content", "5\r\nhello\r0\r\n\r\n", BAD, "hello"},
    {"a size of 64 bits", "ffffffffffffffff\r\n", LARGE, ""},
    {"a size of 68 bits", "10000000000000000\r\n", BAD, ""},
    {"larger than allowed", "65\r\n", LARGE, ""},
    {"larger than allowed in two", "5\r\nhello\r\n60\r\n", LARGE, "hello"},
    {"sizes that add up to 2^64", "5\r\nhello\r\nfffffffffffffffb\r\n", LARGE, "hello"},
    {"trailer with obs-fold", "0\r\nX: y\r\n z\r\n\r\n", BAD, ""},
    {"trailer without colon", "0\r\nX\r\n\r\n", BAD, ""},
    {"trailer with a space before the colon", "0\r\nX : y\r\n\r\n", BAD, ""},
    {"trailer without name", "0\r\n: y\r\n\r\n", BAD, ""},
    {"trailer with bare LF", "0\r\nX: y\n\r\n", BAD, ""},
    {"trailer with a control character", "0\r\nX: \x02\r\n\r\n", BAD, ""},
    {"bare LF at the end", "0\r\n\n", BAD, ""},
    {"bare CR at the end", "0\r\n\rX", BAD, ""},
};

enum { BODY_MAX = 100 };

/* Feeds `in` in pieces: the first of `first` bytes, further ones of `step`. */
static enum http1_body_result feed_body(const struct http_head *head, struct slice in, size_t first,
                                        size_t step, struct buf *content, size_t *ret_rest) {
    struct http1_body b;
    enum http1_body_result r = http1_body_begin(&b, head, BODY_MAX);
    size_t at = 0;
    for (size_t n = first; r == NEED || r == HTTP1_BODY_PIECE; n = step) {
        if (n > in.size - at)
            n = in.size - at;
        uint8_t *copy = xmemdup(in.data + at, n);
        struct slice part = slice_of(copy, n), piece;
        while ((r = http1_body_next(&b, &part, &piece)) == HTTP1_BODY_PIECE) {
            assert_true(piece.size > 0);
            buf_append_slice(content, piece);
        }
        at += n - part.size;
        free(copy);
        if (r == NEED) {
            assert_int_equal(part.size, 0);
            assert_int_equal(http1_body_received(&b), content->size);
        }
        if (at == in.size && r == NEED)
            break;
    }
    if (r == END || r == BAD || r == LARGE) {
        struct slice more = slice_str("x"), piece;
        assert_int_equal(http1_body_next(&b, &more, &piece), r);
        assert_int_equal(more.size, 1);
    }
    *ret_rest = in.size - at;
    return r;
}

static void check_body(const struct http_head *head, const struct body_case *c) {
    struct slice in = slice_str(c->input);
    struct buf content = {0};
    for (size_t first = 0; first <= in.size + 1; first++) {
        /* the last round is byte by byte */
        bool bytes = first == in.size + 1;
        size_t rest;
        buf_reset(&content);
        enum http1_body_result r =
            feed_body(head, in, bytes ? 1 : first, bytes ? 1 : in.size, &content, &rest);
        if (r != c->result)
            fail_msg("%s: split at %zu: got %d, want %d", c->rule, first, r, c->result);
        if (!slice_equal_str(buf_slice(&content), c->content))
            fail_msg("%s: split at %zu: content '%.*s'", c->rule, first, (int)content.size,
                     content.data);
        if (r == END && rest != c->rest)
            fail_msg("%s: split at %zu: %zu bytes left", c->rule, first, rest);
    }
    buf_fini(&content);
}

static void test_chunked_bodies(void **state) {
    static const struct http_head head = {.chunked = true};
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++)
        check_body(&head, &bodies[i]);
}

static void test_bodies_with_length(void **state) {
    static const struct http_head head = {.has_length = true, .length = 5};
    static const struct body_case cases[] = {
        {"all of it", "hello", END, "hello"},
        {"and the next request", "helloGET /", END, "hello", 5},
        {"not all of it", "hel", NEED, "hel"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        check_body(&head, &cases[i]);
    struct http1_body b;
    static const struct http_head none = {.length = 0}, large = {.length = BODY_MAX + 1},
                                  most = {.length = BODY_MAX};
    assert_int_equal(http1_body_begin(&b, &none, BODY_MAX), END);
    assert_int_equal(http1_body_begin(&b, &most, BODY_MAX), NEED);
    assert_int_equal(http1_body_begin(&b, &large, BODY_MAX), LARGE);
}

/* A chunk line or trailer section of `count` filling bytes between `before` and `after`. */
static enum http1_body_result feed_filled(const char *before, size_t count, const char *after) {
    static const struct http_head head = {.chunked = true};
    struct buf in = {0}, content = {0};
    buf_append_str(&in, before);
    while (count--)
        buf_append_char(&in, '0');
    buf_append_str(&in, after);
    size_t rest;
    enum http1_body_result r = feed_body(&head, buf_slice(&in), in.size, 1, &content, &rest);
    buf_fini(&in);
    buf_fini(&content);
    return r;
}

static const char *buf_text(struct buf *b) {
    buf_append_char(b, 0);
    b->size--;
    return (const char *)b->data;
}

static void test_body_limits(void **state) {
    /* the line's CRLF counts, but the LF ends it */
    size_t line = HTTP1_CHUNK_LINE_BYTES_MAX;
    assert_int_equal(feed_filled("", line - 1, "\r\n\r\n"), END);
    assert_int_equal(feed_filled("", line, "\r\n\r\n"), BAD);
    assert_int_equal(feed_filled("0;", line - 3, "\r\n\r\n"), END);
    assert_int_equal(feed_filled("0;", line, "\r\n\r\n"), BAD);
    assert_int_equal(feed_filled("1\r\nx\r\n0;", line - 3, "\r\n\r\n"), END);
    /* Extensions of all chunks together, also when no line is long. */
    struct buf chunks = {0};
    for (size_t i = 0; i < 16; i++)
        buf_printf(&chunks, "1;%0*d\r\nx\r\n", HTTP1_EXTENSION_BYTES_MAX / 16 - 1, 0);
    assert_int_equal(feed_filled(buf_text(&chunks), 0, "0\r\n\r\n"), END);
    assert_int_equal(feed_filled(buf_text(&chunks), 0, "0;\r\n\r\n"), BAD);
    buf_fini(&chunks);
    size_t trailers = HTTP1_TRAILER_BYTES_MAX;
    assert_int_equal(feed_filled("0\r\nX:", trailers - 6, "\r\n\r\n"), END);
    assert_int_equal(feed_filled("0\r\nX:", trailers - 5, "\r\n\r\n"), BAD);
    assert_int_equal(feed_filled("0\r\nX:", trailers + 1, ""), BAD);
}

/* ---- responses ---- */

static void test_dates(void **state) {
    static const struct {
        uint64_t unix_s;
        const char *text;
    } cases[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* the example of RFC 9110 */
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {1709251199, "Thu, 29 Feb 2024 23:59:59 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
        {UINT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char out[30];
        http_format_date(cases[i].unix_s, out);
        assert_string_equal(out, cases[i].text);
    }
    for (uint64_t s = 0; s < 8000000000; s += 86400 * 13 + 3607) {
        char out[30], want[30];
        time_t t = (time_t)s;
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(want, sizeof want, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        http_format_date(s, out);
        assert_string_equal(out, want);
    }
}

static void test_response(void **state) {
    struct buf b = {0};
    http1_put_status(&b, 431, 784111777);
    http1_put_header(&b, "ETag", slice_str("\"1\""));
    http1_put_header_u64(&b, "Content-Length", UINT64_MAX);
    assert_true(slice_equal_str(buf_slice(&b), "HTTP/1.1 431 Request Header Fields Too Large\r\n"
                                               "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                                               "ETag: \"1\"\r\n"
                                               "Content-Length: 18446744073709551615\r\n"));
    assert_string_equal(http_status_text(200), "OK");
    assert_string_equal(http_status_text(299), "Unknown");
    buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_head_fields),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_head_limits),
        cmocka_unit_test(test_head_is_searched_once),
        cmocka_unit_test(test_method_of_a_refused_head),
        cmocka_unit_test(test_chunked_bodies),
        cmocka_unit_test(test_bodies_with_length),
        cmocka_unit_test(test_body_limits),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_response),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
