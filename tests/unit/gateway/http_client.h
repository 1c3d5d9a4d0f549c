/* What the tests of HTTP at the gateway share: a client that asks and takes answers apart. */
#pragma once
#include <stdio.h>

#include "bench.h"

/* One answer, taken off the front of what the client has received. */
struct answer {
    int status;
    char head[2048]; /* NUL-terminated */
    char *body;      /* NUL-terminated, on the heap */
    size_t body_bytes;
};

static inline const char *field(const struct answer *a, const char *name) {
    static char value[60];
    char search[128];
    snprintf(search, sizeof search, "\r\n%s: ", name);
    const char *at = strcasestr(a->head, search);
    if (!at)
        return NULL;
    at += strlen(search);
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
    return value;
}

static inline struct answer take_answer(struct fake_stream *f, bool head_only) {
    struct answer a = {0};
    buf_append_char(&f->written, 0);
    f->written.size--;
    const char *text = (const char *)f->written.data, *end = strstr(text, "\r\n\r\n");
    assert_non_null(end);
    size_t size = (size_t)(end - text) + 4;
    assert_true(size < sizeof a.head);
    memcpy(a.head, text, size);
    assert_int_equal(sscanf(text, "HTTP/1.1 %d ", &a.status), 1);
    const char *length = field(&a, "Content-Length");
    if (length && !head_only)
        a.body_bytes = (size_t)atoll(length);
    assert_true(f->written.size >= size + a.body_bytes);
    a.body = xcalloc(1, a.body_bytes + 1);
    memcpy(a.body, text + size, a.body_bytes);
    buf_consume(&f->written, size + a.body_bytes);
    return a;
}

/* Sends one request and takes the one answer to it; free its body. */
static inline struct answer ask(struct bench *b, struct fake_stream *f, const char *request) {
    bench_feed(b, f, slice_str(request), SIZE_MAX);
    struct answer a = take_answer(f, strncmp(request, "HEAD ", 5) == 0);
    assert_int_equal(f->written.size, 0);
    return a;
}

/* The same, for the status and (when not NULL) a part of the body. */
static inline void expect(struct bench *b, struct fake_stream *f, const char *request, int status,
                          const char *part) {
    struct answer a = ask(b, f, request);
    if (a.status != status || (part && !strstr(a.body, part)))
        fail_msg("%s\n-> %s%s", request, a.head, a.body);
    free(a.body);
}

#define HOST " HTTP/1.1\r\nHost: localhost\r\n"
#define GET(path) "GET " path HOST "\r\n"
#define BODY(method, path, length, body)                                                           \
    method " " path HOST "Content-Length: " length "\r\n\r\n" body
