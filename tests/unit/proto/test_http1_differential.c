/* proto/http1 against another parser, Debian's http-parser 2.9 (package libhttp-parser-dev):
 * generated and mutated requests. Two readers that disagree about where a request ends, or about
 * what it asks, is what request smuggling is made of, so:
 *
 *   both accept     they agree on everything: method, target, version, fields, body, end,
 * keep-alive one refuses     the reason is in one of the two tables below, each with its
 * justification
 *
 * The other one is lenient by design; that it accepts what we refuse is the rule. That we accept
 * what it refuses is rare and needs a better reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "base/rand.h"
#include "proto/http1.h"
#include "reading.h"

enum { ROUNDS = 500000, BODY_BYTES_MAX = 1 << 20 };

static void reading_reset(struct reading *r) {
    for (size_t i = 0; i < FIELDS; i++) {
        buf_fini(&r->fields[i].name);
        buf_fini(&r->fields[i].value);
    }
    buf_fini(&r->method);
    buf_fini(&r->target);
    buf_fini(&r->body);
    *r = (struct reading){0};
}

/* ---- ours ---- */

static void read_ours(struct slice in, struct reading *r) {
    static struct http_head head;
    struct http1_body body;
    int size = http1_parse_head(in, 0, &head, &r->reason);
    r->complete = size != 0;
    if (size <= 0)
        return;
    r->reason = NULL;
    buf_append_slice(&r->method, head.method_text);
    buf_append_slice(&r->target, head.path);
    if (head.query.size > 0 || head.query.data == head.path.data + head.path.size + 1) {
        buf_append_char(&r->target, '?');
        buf_append_slice(&r->target, head.query);
    }
    r->minor = head.minor_version;
    r->keep_alive = head.keep_alive;
    r->field_count = head.header_count;
    for (size_t i = 0; i < head.header_count; i++) {
        buf_append_slice(&r->fields[i].name, head.headers[i].name);
        buf_append_slice(&r->fields[i].value, head.headers[i].value);
    }
    struct slice left = slice_of(in.data + size, in.size - (size_t)size), piece;
    enum http1_body_result rc = http1_body_begin(&body, &head, BODY_BYTES_MAX);
    if (rc == HTTP1_BODY_MORE)
        while ((rc = http1_body_next(&body, &left, &piece)) == HTTP1_BODY_PIECE)
            buf_append_slice(&r->body, piece);
    r->accepted = rc == HTTP1_BODY_END;
    r->complete = rc != HTTP1_BODY_MORE;
    if (rc == HTTP1_BODY_BAD)
        r->reason = "a malformed body";
    else if (rc == HTTP1_BODY_TOO_LARGE)
        r->reason = "a large body";
    r->used = in.size - left.size;
}

/* ---- what may differ ---- */

/* We refuse, they accept. */
static const char *const strict[][2] = {
    {"too many empty lines before the request", "RFC 9112 2.2 asks for at least one"},
    {"a CR without LF", "RFC 9112 2.2: a bare CR is invalid"},
    {"a LF without CR", "RFC 9112 2.2 lets a recipient take it; a proxy may not"},
    {"the request does not begin with a method", "their empty lines may be bare LF"},
    {"the request line has no HTTP version", "HTTP/0.9"},
    {"the target has a character that must be percent-encoded", "RFC 9112 3.2, above ASCII"},
    {"the target is neither a path nor an http URL", "they take any scheme"},
    {"the target's host is not valid", "RFC 9110 4.2.1"},
    {"CONNECT is not for this server", "there are no tunnels here"},
    {"the target * is for OPTIONS", "RFC 9112 3.2.4"},
    {"the request line does not end with an HTTP version", "they skip blanks, take HTTP/1.10"},
    {"only HTTP/1.1 and HTTP/1.0 are spoken here", "they take any version"},
    {"the method is not followed by one space", "RFC 9112 3: single spaces"},
    {"more than one Host", "RFC 9112 3.2: must be 400"},
    {"Host is not valid", "RFC 9112 3.2: must be 400"},
    {"no Host", "RFC 9112 3.2: must be 400"},
    {"Content-Length is not a number", "they skip blanks within"},
    {"more than one Content-Length", "also when they are equal, RFC 9110 8.6 allows it"},
    {"both Content-Length and Transfer-Encoding", "RFC 9112 6.1: ought to be an error"},
    {"Transfer-Encoding in HTTP/1.0", "RFC 9112 6.1: faulty framing"},
    {"Transfer-Encoding does not end with one chunked", "RFC 9112 6.3"},
    {"a transfer coding other than chunked", "they hand it on as it is"},
    {"a header line begins with white space", "obs-fold, RFC 9112 5.2: reject or replace"},
    {"white space before the colon of a header", "RFC 9112 5.1: must be 400"},
    {"a header's name is not valid", "RFC 9110 5.1: tokens"},
    {"a control character in a header's value", "RFC 9110 5.5"},
    {"too many headers", "a limit of ours"},
    {"an expectation other than 100-continue", "RFC 9110 10.1.1: 417"},
    {"a malformed body", "bare LF or blanks in chunk lines; their trailers are fields"},
    {"a large body", "a limit of the caller"},
};

/* They refuse, we accept. */
static const char *const lenient[][2] = {
    {"HPE_INVALID_METHOD", "a token that is not on their list: 501 by the route, RFC 9110 9.1"},
    {"HPE_INVALID_URL", "characters that browsers send as they are, and hosts by another grammar"},
    {"HPE_INVALID_HEADER_TOKEN", "bytes above ASCII in values (obs-text, RFC 9110 5.5)"},
    {"HPE_INVALID_VERSION", "minor versions above 1 are read as 1.1, RFC 9110 6.2"},
    {"HPE_INVALID_CONSTANT", "methods that begin as one of theirs"},
    {"HPE_UNKNOWN", "methods that begin as one of theirs"},
    {"HPE_STRICT", "characters that browsers send as they are"},
    {"HPE_INVALID_CHUNK_SIZE", "a blank behind the size, before an extension (BWS)"},
    {"HPE_INVALID_CONTENT_LENGTH", "a tab behind the number (OWS), and trailers, which we skip"},
    {"HPE_INVALID_TRANSFER_ENCODING", "they take a name that only begins like it for it"},
    {"HPE_UNEXPECTED_CONTENT_LENGTH", "likewise, beside a Content-Length"},
    {"HPE_CLOSED_CONNECTION", "bytes behind the last request of a connection"},
};

static bool listed(const char *const table[][2], size_t count, const char *reason) {
    for (size_t i = 0; i < count; i++)
        if (reason && strcmp(table[i][0], reason) == 0)
            return true;
    return false;
}

static struct slice trimmed(const struct buf *b) {
    struct slice s = buf_slice(b);
    while (s.size > 0 && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t'))
        s.size--;
    return s;
}

static bool same_bytes(struct slice a, struct slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Ours is the path of an absolute form. */
static bool same_target(struct slice ours, struct slice theirs) {
    if (same_bytes(ours, theirs))
        return true;
    struct slice scheme = slice_str("http");
    if (theirs.size < ours.size || strncasecmp((const char *)theirs.data, "http", scheme.size))
        return false;
    return same_bytes(ours, slice_of(theirs.data + theirs.size - ours.size, ours.size)) ||
           slice_equal_str(ours, "/") || slice_equal_str(ours, "*") ||
           (ours.size > 1 && ours.data[0] == '/' && ours.data[1] == '?');
}

static bool has_field(const struct reading *r, const char *name) {
    for (size_t i = 0; i < r->field_count; i++)
        if (slice_equal_nocase(buf_slice(&r->fields[i].name), name))
            return true;
    return false;
}

static const char *difference(const struct reading *a, const struct reading *b) {
    if (!same_bytes(buf_slice(&a->method), buf_slice(&b->method)))
        return "method";
    if (!same_target(buf_slice(&a->target), buf_slice(&b->target)))
        return "target";
    if (a->minor != (b->minor > 1 ? 1 : b->minor))
        return "version";
    if (a->field_count != b->field_count)
        return "field count";
    for (size_t i = 0; i < a->field_count; i++)
        if (!same_bytes(buf_slice(&a->fields[i].name), buf_slice(&b->fields[i].name)) ||
            !same_bytes(buf_slice(&a->fields[i].value), trimmed(&b->fields[i].value)))
            return "field";
    if (!same_bytes(buf_slice(&a->body), buf_slice(&b->body)))
        return "body";
    if (a->used != b->used)
        return "end";
    /* To close is always right. They read Proxy-Connection, which no standard has (RFC 9112
     * appendix C.2.2), as Connection, and miss options behind tabs and empty elements. */
    if (a->keep_alive && !b->keep_alive && !has_field(a, "Proxy-Connection"))
        return "keep-alive";
    return NULL;
}

static void show(struct slice in) {
    fprintf(stderr, "  \"");
    for (size_t i = 0; i < in.size; i++) {
        uint8_t c = in.data[i];
        if (c == '\r' || c == '\n')
            fprintf(stderr, c == '\r' ? "\\r" : "\\n");
        else
            fprintf(stderr, c < 0x20 || c >= 0x7f || c == '"' || c == '\\' ? "\\x%02x" : "%c", c);
    }
    fprintf(stderr, "\"\n");
}

static struct { size_t both, neither, we_refuse, they_refuse, unfinished; } seen;

/* They take a CR with anything behind it for the end of a line; we look at the lines when the head
 * is there, and then refuse it. */
static bool refused_at_its_end(struct slice in) {
    static struct reading ours;
    struct buf whole = {0};
    reading_reset(&ours);
    buf_append_slice(&whole, in);
    buf_append_str(&whole, "\r\n\r\n");
    read_ours(buf_slice(&whole), &ours);
    bool refused = !ours.accepted && listed(strict, ARRAY_COUNT(strict), ours.reason);
    reading_reset(&ours);
    buf_fini(&whole);
    return refused;
}

static bool compare(struct slice in) {
    static struct reading ours, theirs;
    const char *problem = NULL;
    reading_reset(&ours);
    reading_reset(&theirs);
    read_ours(in, &ours);
    read_theirs(in, &theirs);
    if (ours.accepted && theirs.accepted) {
        seen.both++;
        problem = difference(&ours, &theirs);
    } else if (!ours.complete || !theirs.complete) {
        seen.unfinished++;
        if (ours.accepted)
            problem = "they wait for more";
        else if (theirs.accepted && !refused_at_its_end(in))
            problem = "we wait for more";
    } else if (theirs.accepted) {
        seen.we_refuse++;
        problem = listed(strict, ARRAY_COUNT(strict), ours.reason) ? NULL : "we refuse";
    } else if (ours.accepted) {
        seen.they_refuse++;
        problem = listed(lenient, ARRAY_COUNT(lenient), theirs.reason) ? NULL : "they refuse";
    } else {
        seen.neither++;
    }
    if (problem) {
        fprintf(stderr, "differs: %s; ours: %s (%zu bytes), theirs: %s (%zu bytes)\n", problem,
                ours.reason ? ours.reason : "", ours.used, theirs.reason ? theirs.reason : "",
                theirs.used);
        show(in);
    }
    return problem == NULL;
}

/* ---- requests ---- */

#define PICK(r, list) list[rand_below(r, ARRAY_COUNT(list))]

static void put_line_end(struct rand *r, struct buf *out) {
    buf_append_str(out, rand_below(r, 40) ? "\r\n" : rand_below(r, 2) ? "\n" : "\r");
}

static void put_request_line(struct rand *r, struct buf *out) {
    static const char *const methods[] = {"GET",    "GET",     "HEAD",  "PUT",     "POST",
                                          "POST",   "PATCH",   "PATCH", "OPTIONS", "TRACE",
                                          "DELETE", "CONNECT", "FOO",   "get",     "M-SEARCH"};
    static const char *const targets[] = {
        "/",      "/a/b?c=d",       "/%41",   "*",       "http://h/",   "http://h",   "//x",
        "/a?b?c", "https://h:80/x", "/|{}^",  "x",       "/a#b",        "http:///",   "/\xc3\xa9",
        "/a b",   "http://h?q",     "/a%00b", "/\"<>\\", "http://u@h/", "HTTP://H/p", "/..;/a"};
    static const char *const versions[] = {"HTTP/1.1", "HTTP/1.1",  "HTTP/1.1", "HTTP/1.1",
                                           "HTTP/1.0", "HTTP/1.2",  "HTTP/2.0", "HTTP/0.9",
                                           "http/1.1", "HTTP/1.10", "HTTP/11",  "HTTP/1"};
    if (rand_below(r, 12) == 0)
        buf_append_str(out, "\r\n");
    buf_append_str(out, PICK(r, methods));
    buf_append_str(out, rand_below(r, 30) ? " " : "  ");
    buf_append_str(out, PICK(r, targets));
    if (rand_below(r, 40)) {
        buf_append_str(out, rand_below(r, 30) ? " " : "\t");
        buf_append_str(out, rand_below(r, 3) ? "HTTP/1.1" : PICK(r, versions));
    }
    put_line_end(r, out);
}

static void put_fields(struct rand *r, struct buf *out, size_t body_bytes, bool chunked) {
    static const char *const others[] = {"Connection: close",
                                         "Connection: keep-alive",
                                         "Connection: Upgrade",
                                         "Connection: x, close",
                                         "Upgrade: websocket",
                                         "X: y",
                                         "X : y",
                                         " folded: y",
                                         "\tfolded",
                                         "X:",
                                         "X:y\t",
                                         "Content-Length: 3",
                                         "Content-Length: +3",
                                         "Content-Length: 3, 3",
                                         "Content-Length: 03",
                                         "Content-Length: 0x3",
                                         "Content-Length: 3 ",
                                         "Content-Length: -1",
                                         "Content-Length: 99999999999999999999",
                                         "Transfer-Encoding: chunked",
                                         "Transfer-Encoding: identity",
                                         "Transfer-Encoding: gzip, chunked",
                                         "Transfer-Encoding: chunked, identity",
                                         "Transfer-Encoding: xchunked",
                                         "Transfer-Encoding:\x0b"
                                         "chunked",
                                         "Transfer-Encoding : chunked",
                                         "Transfer-Encoding: \"chunked\"",
                                         "TRANSFER-ENCODING: CHUNKED",
                                         "Transfer_Encoding: chunked",
                                         "Transfer-Encoding: chunked;q=1",
                                         "Host: b",
                                         "Host: a b",
                                         "Host: a:b",
                                         "Host: [::1]:80",
                                         "Expect: 100-continue",
                                         "Expect: 200-ok",
                                         "X: \x01",
                                         "X: \x80\xff",
                                         "X\x00Y: z",
                                         "X(: y",
                                         "Proxy-Connection: close",
                                         "Trailer: X",
                                         ": empty",
                                         "no colon",
                                         "X: a\rContent-Length: 3",
                                         "X: a\nContent-Length: 3"};
    if (rand_below(r, 15)) {
        buf_append_str(out, "Host: example.org");
        put_line_end(r, out);
    }
    for (uint64_t n = rand_below(r, 3); n > 0; n--) {
        buf_append_str(out, PICK(r, others));
        put_line_end(r, out);
    }
    if (chunked)
        buf_append_str(out, "Transfer-Encoding: chunked");
    else if (body_bytes > 0)
        buf_printf(out, "Content-Length: %zu", body_bytes);
    if (chunked || body_bytes > 0)
        put_line_end(r, out);
    put_line_end(r, out);
}

static void put_chunks(struct rand *r, struct buf *out) {
    static const char *const sizes[] = {"3",
                                        "3",
                                        "3",
                                        "03",
                                        "0x3",
                                        "+3",
                                        "3 ",
                                        " 3",
                                        "3;a=b",
                                        "3;a=\"b;c\"",
                                        "3 ;x",
                                        "3\t",
                                        "A",
                                        "3,3",
                                        "-3",
                                        "",
                                        "FFFFFFFFFFFFFFFF3",
                                        "3;\x01"};
    for (uint64_t n = rand_below(r, 3); n > 0; n--) {
        buf_append_str(out, rand_below(r, 2) ? "3" : PICK(r, sizes));
        put_line_end(r, out);
        buf_append_str(out, "abc");
        put_line_end(r, out);
    }
    buf_append_str(out, rand_below(r, 20) ? "0" : "00;x");
    put_line_end(r, out);
    if (rand_below(r, 5) == 0)
        buf_append_str(out, rand_below(r, 2) ? "X: y\r\n" : "Content-Length: 5\r\n");
    put_line_end(r, out);
}

static void make_request(struct rand *r, struct buf *out) {
    bool chunked = rand_below(r, 3) == 0;
    size_t body_bytes = chunked ? 0 : rand_below(r, 6);
    buf_reset(out);
    put_request_line(r, out);
    put_fields(r, out, body_bytes, chunked);
    if (chunked)
        put_chunks(r, out);
    else
        buf_append(out, "abcdefgh", body_bytes);
    if (rand_below(r, 2))
        buf_append_str(out, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    static const char interesting[] = "\r\n\t :;,/0Aa\0\x7f\x80\"%";
    for (uint64_t n = rand_below(r, 2) ? rand_below(r, 3) : 0; n > 0 && out->size > 0; n--) {
        size_t at = rand_below(r, out->size);
        uint8_t byte = rand_below(r, 4) ? (uint8_t)PICK(r, interesting) : (uint8_t)rand_u64(r);
        if (rand_below(r, 2)) {
            out->data[at] = byte;
        } else { /* inserts it */
            buf_append_char(out, 0);
            memmove(out->data + at + 1, out->data + at, out->size - at - 1);
            out->data[at] = byte;
        }
    }
}

static void test_generated(void **state) {
    struct buf request = {0};
    size_t problems = 0;
    for (uint64_t seed = 1; seed <= ROUNDS && problems < 20; seed++) {
        struct rand r = {.state = seed};
        make_request(&r, &request);
        problems += !compare(buf_slice(&request));
    }
    printf("both accept %zu, both refuse %zu, we refuse %zu, they refuse %zu, unfinished %zu\n",
           seen.both, seen.neither, seen.we_refuse, seen.they_refuse, seen.unfinished);
    assert_int_equal(problems, 0);
    /* The generator is worth something only when it reaches all of these. */
    assert_true(seen.both > ROUNDS / 20 && seen.we_refuse > 0 && seen.they_refuse > 0);
    static struct reading none;
    reading_reset(&none);
    buf_fini(&request);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_generated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
