#include "proto/http1.h"

/* ---- characters ---- */

enum {
    C_TOKEN = 1,  /* tchar, RFC 9110 section 5.6.2 */
    C_TARGET = 2, /* what may stand in a request target. RFC 3986 has fewer, but browsers leave
                     some (such as "|" and "{") as they are, which does no harm. */
    C_HOST = 4,   /* reg-name, RFC 3986 section 3.2.2 */
    C_DIGIT = 8,
    C_HEX = 16,
};

#define C_ALL (C_TOKEN | C_TARGET | C_HOST)
static const uint8_t char_class[256] = {
    ['0' ... '9'] = C_ALL | C_DIGIT | C_HEX,
    ['A' ... 'F'] = C_ALL | C_HEX,
    ['a' ... 'f'] = C_ALL | C_HEX,
    ['G' ... 'Z'] = C_ALL,
    ['g' ... 'z'] = C_ALL,
    ['!'] = C_ALL,
    ['$'] = C_ALL,
    ['%'] = C_ALL,
    ['&'] = C_ALL,
    ['\''] = C_ALL,
    ['*'] = C_ALL,
    ['+'] = C_ALL,
    ['-'] = C_ALL,
    ['.'] = C_ALL,
    ['_'] = C_ALL,
    ['~'] = C_ALL,
    ['#'] = C_TOKEN,
    ['^'] = C_TOKEN | C_TARGET,
    ['`'] = C_TOKEN | C_TARGET,
    ['|'] = C_TOKEN | C_TARGET,
    ['('] = C_TARGET | C_HOST,
    [')'] = C_TARGET | C_HOST,
    [','] = C_TARGET | C_HOST,
    [';'] = C_TARGET | C_HOST,
    ['='] = C_TARGET | C_HOST,
    ['/'] = C_TARGET,
    [':'] = C_TARGET,
    ['?'] = C_TARGET,
    ['@'] = C_TARGET,
    ['['] = C_TARGET,
    [']'] = C_TARGET,
    ['"'] = C_TARGET,
    ['<'] = C_TARGET,
    ['>'] = C_TARGET,
    ['\\'] = C_TARGET,
    ['{'] = C_TARGET,
    ['}'] = C_TARGET,
};

static bool is_class(uint8_t c, int class) {
    return (char_class[c] & class) != 0;
}

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t';
}

/* The first byte at or behind p that may not stand in a field value: a control character other
 * than HTAB. The head ends with CR LF, so there is one before `end`. Eight bytes at a time where
 * none of them is below 0x20 or equal to 0x7f. */
static const uint8_t *value_end(const uint8_t *p, const uint8_t *end) {
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    for (;;) {
        while (end - p >= 8) {
            uint64_t v, del;
            memcpy(&v, p, sizeof v);
            del = v ^ (ones * 0x7f);
            if ((((v - ones * 0x20) & ~v) | ((del - ones) & ~del)) & high)
                break;
            p += 8;
        }
        while ((*p >= 0x20 && *p != 0x7f) || *p == '\t') {
            if (*p++ == '\t')
                break; /* a tab is rare: back to eight at a time */
        }
        if ((*p < 0x20 && *p != '\t') || *p == 0x7f)
            return p;
    }
}

/* Takes the next element of a comma-separated list, without blanks around it. False at the end. */
static bool list_next(struct slice *list, struct slice *ret_element) {
    if (!list->data)
        return false;
    const uint8_t *p = list->data, *end = p + list->size;
    const uint8_t *comma = list->size ? memchr(p, ',', list->size) : NULL;
    const uint8_t *stop = comma ? comma : end;
    *list = comma ? slice_of(comma + 1, (size_t)(end - comma - 1)) : slice_of(NULL, 0);
    while (p < stop && is_blank(*p))
        p++;
    while (stop > p && is_blank(stop[-1]))
        stop--;
    *ret_element = slice_of(p, (size_t)(stop - p));
    return true;
}

/* ---- finding the end of the head ---- */

/* What is wrong; the status goes through the return values. */
static int refuse(const char **ret_reason, int status, const char *reason) {
    if (ret_reason)
        *ret_reason = reason;
    return -status;
}

/* Skips empty lines. > 0: the request begins at *ret_start; 0 incomplete; < 0 as usual. */
static int find_start(struct slice in, size_t *ret_start, const char **reason) {
    size_t at = 0;
    for (int lines = 0; at < in.size && in.data[at] == '\r'; lines++, at += 2) {
        if (lines == HTTP1_EMPTY_LINES_MAX)
            return refuse(reason, 400, "too many empty lines before the request");
        if (at + 1 == in.size)
            return 0;
        if (in.data[at + 1] != '\n')
            return refuse(reason, 400, "a CR without LF");
    }
    if (at == in.size)
        return 0;
    if (!is_class(in.data[at], C_TOKEN))
        return refuse(reason, 400, "the request does not begin with a method");
    *ret_start = at;
    return 1;
}

/* > 0: the head, with the empty line at its end, has so many bytes. Looks at line ends only, each
 * byte once however the bytes arrive, and refuses a bare LF as soon as it is seen. */
static int find_end(struct slice in, size_t seen, size_t start, const char **reason) {
    size_t limit = in.size < HTTP1_HEAD_BYTES_MAX ? in.size : HTTP1_HEAD_BYTES_MAX;
    const uint8_t *end = in.data + limit;
    const uint8_t *p = in.data + (seen > start ? seen : start);
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        if (p == in.data || p[-1] != '\r')
            return refuse(reason, 400, "a LF without CR");
        if (p[-2] == '\n') /* the first line is not empty, so p[-2] is in it or behind it */
            return (int)(p + 1 - in.data);
        p++;
    }
    if (limit < HTTP1_HEAD_BYTES_MAX)
        return 0;
    if (!memchr(in.data + start, '\n', limit - start))
        return refuse(reason, 414, "the request line is too long");
    return refuse(reason, 431, "the header section is too large");
}

/* ---- the request line ---- */

static enum http_method find_method(struct slice m) {
    static const struct {
        const char *name;
        enum http_method method;
    } methods[] = {
        {"GET", HTTP_GET},         {"HEAD", HTTP_HEAD},   {"PUT", HTTP_PUT},
        {"POST", HTTP_POST},       {"PATCH", HTTP_PATCH}, {"DELETE", HTTP_DELETE},
        {"OPTIONS", HTTP_OPTIONS},
    };
    for (size_t i = 0; i < ARRAY_COUNT(methods); i++)
        if (slice_equal_str(m, methods[i].name))
            return methods[i].method;
    return HTTP_OTHER;
}

static bool port_is_valid(const uint8_t *p, const uint8_t *end) {
    if (end - p > 5)
        return false;
    while (p < end && is_class(*p, C_DIGIT))
        p++;
    return p == end;
}

/* uri-host [":" port], RFC 3986 section 3.2.2; may be empty. */
static bool host_is_valid(struct slice host) {
    if (host.size == 0)
        return true;
    const uint8_t *p = host.data, *end = p + host.size;
    if (*p == '[') {
        for (p++; p < end && (is_class(*p, C_HEX) || *p == ':' || *p == '.'); p++)
            ;
        if (p == end || *p != ']' || p == host.data + 1)
            return false;
        p++;
    } else {
        for (; p < end && is_class(*p, C_HOST); p++)
            if (*p == '%' && (end - p < 3 || !is_class(p[1], C_HEX) || !is_class(p[2], C_HEX)))
                return false;
    }
    return p == end || (*p == ':' && port_is_valid(p + 1, end));
}

static void split_query(struct http_head *head, struct slice path) {
    const uint8_t *mark = path.size ? memchr(path.data, '?', path.size) : NULL;
    head->path = path;
    head->query = slice_of(path.data + path.size, 0);
    if (mark) {
        head->path.size = (size_t)(mark - path.data);
        head->query = slice_of(mark + 1, path.size - head->path.size - 1);
    }
}

/* http://authority/path?query: the authority counts, not the Host field (RFC 9112 section 3.2.2).
 */
static int parse_absolute_form(struct http_head *head, struct slice rest, const char **reason) {
    size_t size = 0;
    while (size < rest.size && rest.data[size] != '/' && rest.data[size] != '?')
        size++;
    head->host = slice_of(rest.data, size);
    if (size == 0 || !host_is_valid(head->host) || head->host.data[0] == ':')
        return refuse(reason, 400, "the target's host is not valid");
    split_query(head, slice_of(rest.data + size, rest.size - size));
    if (head->path.size == 0) {
        bool asterisk = head->method == HTTP_OPTIONS && head->query.size == 0;
        head->path = slice_str(asterisk ? "*" : "/");
    }
    return 1;
}

static int parse_target(struct http_head *head, struct slice target, const char **reason) {
    if (target.size > HTTP1_TARGET_BYTES_MAX)
        return refuse(reason, 414, "the target is too long");
    if (slice_equal_str(head->method_text, "CONNECT"))
        return refuse(reason, 400, "CONNECT is not for this server");
    if (target.data[0] == '/') {
        split_query(head, target);
        return 1;
    }
    if (slice_equal_str(target, "*")) {
        if (head->method != HTTP_OPTIONS)
            return refuse(reason, 400, "the target * is for OPTIONS");
        split_query(head, target);
        return 1;
    }
    for (size_t n = 7; n <= 8; n++)
        if (target.size >= n &&
            slice_equal_nocase(slice_of(target.data, n), n == 7 ? "http://" : "https://"))
            return parse_absolute_form(head, slice_of(target.data + n, target.size - n), reason);
    return refuse(reason, 400, "the target is neither a path nor an http URL");
}

/* Parses the line at *at; on success *at is behind it. `end` is the end of the head. */
static int parse_request_line(struct http_head *head, const uint8_t **at, const uint8_t *end,
                              const char **reason) {
    const uint8_t *p = *at, *start = p;
    while (is_class(*p, C_TOKEN))
        p++;
    head->method_text = slice_of(start, (size_t)(p - start));
    head->method = find_method(head->method_text);
    if (*p != ' ')
        return refuse(reason, 400, "the method is not followed by one space");
    start = ++p;
    while (is_class(*p, C_TARGET))
        p++;
    struct slice target = slice_of(start, (size_t)(p - start));
    if (*p == '\r')
        return refuse(reason, 400, "the request line has no HTTP version");
    if (*p != ' ')
        return refuse(reason, 400, "the target has a character that must be percent-encoded");
    p++;
    if (target.size == 0)
        return refuse(reason, 400, "the method is not followed by one space");
    if (end - p < 10 || memcmp(p, "HTTP/", 5) != 0 || !is_class(p[5], C_DIGIT) || p[6] != '.' ||
        !is_class(p[7], C_DIGIT) || p[8] != '\r' || p[9] != '\n')
        return refuse(reason, 400, "the request line does not end with an HTTP version");
    if (p[5] != '1')
        return refuse(reason, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    head->minor_version = p[7] != '0';
    *at = p + 10;
    return parse_target(head, target, reason);
}

/* ---- header fields ---- */

/* What the fields say about framing and the connection, gathered while they are read. */
struct framing {
    unsigned host_count, length_count;
    unsigned coding_fields, chunked_count, other_coding_count;
    bool coding_malformed, chunked_last;
    bool close, keep_alive;
    bool expect_continue, expect_other;
};

static bool parse_length(struct slice value, uint64_t *ret_length) {
    uint64_t length = 0;
    for (size_t i = 0; i < value.size; i++)
        if (!is_class(value.data[i], C_DIGIT) || __builtin_mul_overflow(length, 10, &length) ||
            __builtin_add_overflow(length, value.data[i] - '0', &length))
            return false;
    *ret_length = length;
    return value.size > 0;
}

static void read_codings(struct framing *f, struct slice value) {
    struct slice e;
    f->coding_fields++;
    while (list_next(&value, &e)) {
        size_t token = 0;
        while (token < e.size && is_class(e.data[token], C_TOKEN))
            token++;
        bool chunked = slice_equal_nocase(slice_of(e.data, token), "chunked");
        if (token == 0 || (token < e.size && chunked))
            f->coding_malformed = true; /* "chunked" has no parameters, RFC 9112 section 7 */
        f->chunked_count += chunked;
        f->other_coding_count += !chunked;
        f->chunked_last = chunked;
    }
}

static void read_connection(struct framing *f, struct slice value) {
    struct slice e;
    while (list_next(&value, &e)) {
        f->close |= slice_equal_nocase(e, "close");
        f->keep_alive |= slice_equal_nocase(e, "keep-alive");
    }
}

static void read_expect(struct framing *f, struct slice value) {
    struct slice e;
    while (list_next(&value, &e)) {
        bool known = slice_equal_nocase(e, "100-continue");
        f->expect_continue |= known;
        f->expect_other |= !known && e.size > 0;
    }
}

/* Notes what a field means to us here. */
static int read_field(struct http_head *head, struct framing *f, const struct http_header *h,
                      const char **reason) {
    switch (h->name.size) {
    case 4:
        if (!slice_equal_nocase(h->name, "host"))
            break;
        if (f->host_count++ > 0)
            return refuse(reason, 400, "more than one Host");
        if (!host_is_valid(h->value))
            return refuse(reason, 400, "Host is not valid");
        if (!head->host.data)
            head->host = h->value;
        break;
    case 6:
        if (slice_equal_nocase(h->name, "expect"))
            read_expect(f, h->value);
        break;
    case 10:
        if (slice_equal_nocase(h->name, "connection"))
            read_connection(f, h->value);
        break;
    case 14:
        if (!slice_equal_nocase(h->name, "content-length"))
            break;
        if (f->length_count++ > 0)
            return refuse(reason, 400, "more than one Content-Length");
        if (!parse_length(h->value, &head->length))
            return refuse(reason, 400, "Content-Length is not a number");
        break;
    case 17:
        if (slice_equal_nocase(h->name, "transfer-encoding"))
            read_codings(f, h->value);
        break;
    }
    return 1;
}

/* Parses the line at *at into *h; on success *at is behind it. */
static int parse_field(struct http_header *h, const uint8_t **at, const uint8_t *end,
                       const char **reason) {
    const uint8_t *p = *at, *start = p;
    if (is_blank(*p))
        return refuse(reason, 400, "a header line begins with white space");
    while (is_class(*p, C_TOKEN))
        p++;
    h->name = slice_of(start, (size_t)(p - start));
    if (h->name.size == 0 || *p != ':')
        return refuse(reason, 400,
                      is_blank(*p) ? "white space before the colon of a header"
                                   : "a header's name is not valid");
    for (p++; is_blank(*p); p++)
        ;
    start = p;
    p = value_end(p, end);
    if (p[0] != '\r' || p[1] != '\n')
        return refuse(reason, 400, "a control character in a header's value");
    *at = p + 2;
    while (p > start && is_blank(p[-1]))
        p--;
    h->value = slice_of(start, (size_t)(p - start));
    return 1;
}

/* RFC 9112 section 6.3, on the strict side. */
static int decide_framing(struct http_head *head, const struct framing *f, const char **reason) {
    head->has_length = f->length_count > 0;
    if (f->coding_fields == 0)
        return 1;
    if (head->minor_version == 0)
        return refuse(reason, 400, "Transfer-Encoding in HTTP/1.0");
    if (head->has_length)
        return refuse(reason, 400, "both Content-Length and Transfer-Encoding");
    if (f->coding_malformed || !f->chunked_last || f->chunked_count != 1)
        return refuse(reason, 400, "Transfer-Encoding does not end with one chunked");
    if (f->other_coding_count > 0)
        return refuse(reason, 501, "a transfer coding other than chunked");
    head->chunked = true;
    return 1;
}

static int decide(struct http_head *head, const struct framing *f, const char **reason) {
    if (f->host_count == 0 && head->minor_version > 0)
        return refuse(reason, 400, "no Host");
    int status = decide_framing(head, f, reason);
    if (status < 0)
        return status;
    bool persistent = head->minor_version > 0 || f->keep_alive;
    head->keep_alive = persistent && !f->close;
    if (head->minor_version == 0)
        return 1; /* such a client's Expect is ignored, RFC 9110 section 10.1.1 */
    if (f->expect_other)
        return refuse(reason, 417, "an expectation other than 100-continue");
    head->expect_continue = f->expect_continue && (head->chunked || head->length > 0);
    return 1;
}

static void head_clear(struct http_head *head) {
    /* All but the array, which is large and guarded by header_count. */
    memset(head, 0, offsetof(struct http_head, headers));
}

int http1_parse_head(struct slice in, size_t seen, struct http_head *ret_head,
                     const char **ret_reason) {
    size_t start;
    int status = find_start(in, &start, ret_reason);
    if (status <= 0)
        return status;
    int size = find_end(in, seen, start, ret_reason);
    if (size <= 0)
        return size;
    head_clear(ret_head);
    const uint8_t *at = in.data + start, *end = in.data + size;
    status = parse_request_line(ret_head, &at, end, ret_reason);
    if (status < 0)
        return status;
    struct framing f = {0};
    while (at[0] != '\r' || at[1] != '\n') {
        if (ret_head->header_count == HTTP1_HEADERS_MAX)
            return refuse(ret_reason, 431, "too many headers");
        struct http_header *h = &ret_head->headers[ret_head->header_count];
        status = parse_field(h, &at, end, ret_reason);
        if (status < 0)
            return status;
        ret_head->header_count++;
        status = read_field(ret_head, &f, h, ret_reason);
        if (status < 0)
            return status;
    }
    CHECK(at + 2 == end);
    status = decide(ret_head, &f, ret_reason);
    return status < 0 ? status : size;
}

int http_head_begin(struct http_head *ret_head, struct slice method, struct slice path,
                    struct slice authority, const char **ret_reason) {
    head_clear(ret_head);
    ret_head->method_text = method;
    ret_head->method = find_method(method);
    ret_head->minor_version = 1;
    ret_head->keep_alive = true;
    if (!host_is_valid(authority))
        return refuse(ret_reason, 400, "the authority is not valid");
    ret_head->host = authority;
    for (size_t i = 0; i < path.size; i++)
        if (!is_class(path.data[i], C_TARGET))
            return refuse(ret_reason, 400,
                          "the target has a character that must be percent-encoded");
    if (path.size == 0 || (path.data[0] != '/' && path.data[0] != '*'))
        return refuse(ret_reason, 400, "the target is not a path");
    return parse_target(ret_head, path, ret_reason);
}

const struct slice *http_find_header(const struct http_head *head, const char *name) {
    size_t size = strlen(name);
    for (size_t i = 0; i < head->header_count; i++)
        if (head->headers[i].name.size == size && slice_equal_nocase(head->headers[i].name, name))
            return &head->headers[i].value;
    return NULL;
}
