/* HTTP/2, server side: what a client sends means the same however it is cut; rules for messages;
 * answers, flow control, the end. The client is tests/lib/h2_client.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "h2_client.h"
#include "proto/http2.h"

/* The server under test writes down what it sees. */
struct seen {
    struct http2 *h;
    struct buf notes;
    struct http2_stream *streams[600]; /* by the order of their heads */
    size_t count, open;
};

struct seen_stream {
    struct seen *seen;
    size_t number;
};

static void *on_head(void *ctx, struct http2_stream *st, const struct http_head *head, int status,
                     const char *reason, bool over) {
    struct seen *s = ctx;
    struct seen_stream *user = xcalloc(1, sizeof *user);
    assert_true(s->count < ARRAY_COUNT(s->streams));
    *user = (struct seen_stream){.seen = s, .number = s->count};
    s->streams[s->count++] = st;
    s->open++;
    buf_printf(&s->notes, "head %zu ", user->number);
    if (status) {
        buf_printf(&s->notes, "%d %s\n", status, reason);
        return user;
    }
    buf_printf(&s->notes, "%.*s %.*s?%.*s %.*s", (int)head->method_text.size,
               (const char *)head->method_text.data, (int)head->path.size,
               (const char *)head->path.data, (int)head->query.size, (const char *)head->query.data,
               (int)head->host.size, (const char *)head->host.data);
    for (size_t i = 0; i < head->header_count; i++)
        buf_printf(&s->notes, " [%.*s=%.*s]", (int)head->headers[i].name.size,
                   (const char *)head->headers[i].name.data, (int)head->headers[i].value.size,
                   (const char *)head->headers[i].value.data);
    if (head->has_length)
        buf_printf(&s->notes, " length %llu", (unsigned long long)head->length);
    buf_append_str(&s->notes, head->expect_continue ? " expects" : "");
    buf_append_str(&s->notes, over ? " over\n" : "\n");
    return user;
}

/* Pieces are joined, so that notes do not depend on how the bytes arrived. */
static void on_body(void *ctx, void *user, struct slice piece) {
    struct seen *s = ctx;
    char line[32];
    snprintf(line, sizeof line, "body %zu ", ((struct seen_stream *)user)->number);
    struct slice notes = buf_slice(&s->notes);
    bool joins = notes.size > 0 && notes.data[notes.size - 1] == '.';
    if (joins)
        s->notes.size--;
    else
        buf_append_str(&s->notes, line);
    buf_append_slice(&s->notes, piece);
    buf_append_char(&s->notes, '.');
}

static void on_end(void *ctx, void *user) {
    struct seen *s = ctx;
    buf_printf(&s->notes, "end %zu\n", ((struct seen_stream *)user)->number);
}

static void on_closed(void *ctx, void *user) {
    struct seen *s = ctx;
    buf_printf(&s->notes, "closed %zu\n", ((struct seen_stream *)user)->number);
    s->streams[((struct seen_stream *)user)->number] = NULL;
    s->open--;
    free(user);
}

static const struct http2_handler handler = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_closed = on_closed};

static struct seen seen;
static struct h2_client client;

static void begin(void) {
    seen = (struct seen){0};
    seen.h = http2_new(&handler, &seen, 0);
    h2_client_init(&client);
}

static void finish(void) {
    for (size_t i = 0; i < seen.count; i++)
        if (seen.streams[i])
            free(http2_stream_user(seen.streams[i]));
    http2_free(seen.h);
    buf_fini(&seen.notes);
    h2_client_fini(&client);
}

/* What is to be sent goes to the client. */
static void flush(void) {
    struct buf out = {0};
    http2_send(seen.h, &out, SIZE_MAX);
    h2_client_take(&client, buf_slice(&out));
    buf_fini(&out);
}

/* False when the connection is over. */
static bool feed(struct slice bytes, size_t first, size_t step) {
    bool ok = true;
    for (size_t at = 0, n = first; at < bytes.size && ok; at += n, n = step) {
        n = n > bytes.size - at ? bytes.size - at : n;
        if (n == 0)
            n = 1;
        uint8_t *exact = xmemdup(bytes.data + at, n);
        ok = http2_receive(seen.h, slice_of(exact, n));
        free(exact);
        flush();
    }
    return ok;
}

static const char *notes(void) {
    buf_append_char(&seen.notes, 0);
    return (const char *)seen.notes.data;
}

static void expect_notes(struct buf *bytes, const char *expected) {
    for (size_t first = 0; first <= bytes->size; first++) {
        begin();
        if (!feed(buf_slice(bytes), first, first == 0 ? 1 : bytes->size))
            fail_msg("split at %zu: the end, %d %u", first, client.goaway, client.goaway_error);
        assert_string_equal(notes(), expected);
        finish();
    }
}

static void test_requests(void **state) {
    struct buf b = {0};
    h2_put_preface(&b, UINT32_MAX);
    h2_put_request(&b, 1, H2_END_STREAM, "GET", "/a?b=c", "accept", "*/*", "cookie", "x=1",
                   "cookie", "y=2", "empty", "", NULL);
    h2_put_request(&b, 3, 0, "PUT", "/v1/kv/k", "content-length", "5", NULL);
    h2_put_frame(&b, H2_DATA, 0, 3, slice_str("he"));
    h2_put_request(&b, 5, H2_END_STREAM, "GET", "/other", NULL);
    h2_put_frame(&b, H2_DATA, H2_END_STREAM, 3, slice_str("llo"));
    h2_put_request(&b, 7, 0, "POST", "/t", "expect", "100-continue", "te", "trailers", NULL);
    h2_put_frame(&b, H2_DATA, 0, 7, slice_str("x"));
    struct buf trailers = {0};
    h2_put_field(&trailers, "sum", "1");
    h2_put_frame(&b, H2_HEADERS, H2_END_STREAM | H2_END_HEADERS, 7, buf_slice(&trailers));
    buf_fini(&trailers);
    expect_notes(&b, "head 0 GET /a?b=c localhost [accept=*/*] [empty=] [cookie=x=1; y=2] over\n"
                     "head 1 PUT /v1/kv/k? localhost [content-length=5] length 5\n"
                     "body 1 he.head 2 GET /other? localhost over\n"
                     "body 1 llo.end 1\n"
                     "head 3 POST /t? localhost [expect=100-continue] [te=trailers] expects\n"
                     "body 3 x.end 3\n");
    buf_fini(&b);
}

/* A head in as many CONTINUATION frames as there may be, with padding and priority. */
static void test_continuation(void **state) {
    struct buf b = {0}, block = {0};
    h2_put_preface(&b, UINT32_MAX);
    buf_append(&block, "\3\0\0\0\0\x10", 6); /* 3 bytes of padding; depends on 0, weight 17 */
    h2_put_field(&block, ":method", "GET");
    h2_put_field(&block, ":scheme", "https");
    h2_put_field(&block, ":path", "/c");
    h2_put_field(&block, ":authority", "a.example");
    struct slice s = buf_slice(&block);
    struct buf first = {0};
    buf_append(&first, s.data, 20);
    buf_append(&first, "\0\0\0", 3);
    h2_put_frame(&b, H2_HEADERS, H2_END_STREAM | 0x8 | 0x20, 1, buf_slice(&first));
    for (size_t i = 0; i < HTTP2_CONTINUATIONS_MAX - 1; i++)
        h2_put_frame(&b, H2_CONTINUATION, 0, 1, slice_of(s.data + 20 + i, 1));
    size_t at = 20 + HTTP2_CONTINUATIONS_MAX - 1;
    h2_put_frame(&b, H2_CONTINUATION, H2_END_HEADERS, 1, slice_of(s.data + at, s.size - at));
    expect_notes(&b, "head 0 GET /c? a.example over\n");
    buf_fini(&b);
    buf_fini(&block);
    buf_fini(&first);
}

/* RFC 9113 section 8: each of these is malformed, and its stream reset with PROTOCOL_ERROR. */
static void test_malformed_messages(void **state) {
    static const char *const fields[][2] = {
        {"Upper", "x"},
        {"connection", "close"},
        {"keep-alive", "1"},
        {"proxy-connection", "x"},
        {"transfer-encoding", "chunked"},
        {"upgrade", "h2c"},
        {"te", "gzip"},
        {":status", "200"},
        {":unknown", "x"},
        {":path", "/again"},
        {"bad name", "x"},
        {"", "x"},
        {"v", "a\rb"},
        {"v", "a\nb"},
        {"v", " blank"},
        {"content-length", "x"},
        {"content-length", "-1"},
        {"content-length", "5"},
        {"host", "ba d"},
        {"content-length", "99999999999999999999"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        struct buf b = {0};
        begin();
        h2_put_preface(&b, UINT32_MAX);
        h2_put_request(&b, 1, H2_END_STREAM, "GET", "/", fields[i][0], fields[i][1], NULL);
        h2_put_request(&b, 3, H2_END_STREAM, "GET", "/next", NULL);
        feed(buf_slice(&b), 0, 1);
        struct h2_stream *st = h2_client_stream(&client, 1);
        if (!st->reset || st->error != HTTP2_PROTOCOL_ERROR)
            fail_msg("%s: %s was taken: %s", fields[i][0], fields[i][1], notes());
        assert_string_equal(notes(), "head 0 GET /next? localhost over\n");
        finish();
        buf_fini(&b);
    }
}

static void test_missing_pseudo(void **state) {
    static const char *const pseudos[][2] = {
        {":method", "GET"}, {":scheme", "http"}, {":path", "/"}};
    for (size_t leave_out = 0; leave_out <= ARRAY_COUNT(pseudos); leave_out++) {
        struct buf b = {0}, block = {0};
        begin();
        h2_put_preface(&b, UINT32_MAX);
        for (size_t i = 0; i < ARRAY_COUNT(pseudos); i++)
            if (i != leave_out)
                h2_put_field(&block, pseudos[i][0], pseudos[i][1]);
        if (leave_out == ARRAY_COUNT(pseudos))
            h2_put_field(&block, "x", "y"); /* a pseudo-header behind a field */
        h2_put_field(&block, ":authority", "localhost");
        h2_put_frame(&b, H2_HEADERS, H2_END_STREAM | H2_END_HEADERS, 1, buf_slice(&block));
        feed(buf_slice(&b), 0, 1);
        assert_true(h2_client_stream(&client, 1)->reset);
        assert_string_equal(notes(), "");
        finish();
        buf_fini(&b);
        buf_fini(&block);
    }
}

/* What the library lets pass and we do not. */
static void test_refused_heads(void **state) {
    static const struct {
        const char *path, *name, *value;
        const char *notes;
    } rows[] = {
        {"/", "host", "elsewhere", "head 0 400 Host and :authority differ\n"},
        {"/", "expect", "something", "head 0 417 an expectation other than 100-continue\n"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct buf b = {0};
        begin();
        h2_put_preface(&b, UINT32_MAX);
        h2_put_request(&b, 1, H2_END_STREAM, "GET", rows[i].path, rows[i].name, rows[i].value,
                       NULL);
        feed(buf_slice(&b), 0, 1);
        assert_string_equal(notes(), rows[i].notes);
        finish();
        buf_fini(&b);
    }
}

static struct http2_stream *stream(size_t number) {
    assert_true(number < seen.count);
    assert_non_null(seen.streams[number]);
    return seen.streams[number];
}

static void feed_all(struct buf *b) {
    feed(buf_slice(b), 0, SIZE_MAX / 2);
    buf_reset(b);
}

static void answer(struct http2_stream *st, int status, const char *content) {
    const struct http_header fields[] = {{slice_str("Content-Type"), slice_str("text/plain")},
                                         {slice_str("X-Test"), slice_str("A, b")}};
    http2_answer(st, status, fields, ARRAY_COUNT(fields), content != NULL);
    if (content) {
        http2_answer_body(st, slice_str(content));
        http2_answer_end(st);
    }
}

static void test_answers(void **state) {
    struct buf b = {0};
    begin();
    h2_put_preface(&b, UINT32_MAX);
    for (uint32_t id = 1; id <= 5; id += 2)
        h2_put_request(&b, id, H2_END_STREAM, "GET", "/", NULL);
    feed_all(&b);
    assert_int_equal(client.streams_max, HTTP2_STREAMS_MAX);
    assert_int_equal(client.settings_acks, 1);
    /* In any order. */
    answer(stream(2), 404, "none\n");
    flush();
    answer(stream(0), 204, NULL);
    flush();
    assert_int_equal(http2_stream_count(seen.h), 1);
    http2_answer(stream(1), 200, NULL, 0, true);
    flush();
    assert_false(h2_client_stream(&client, 3)->ended);
    http2_answer_body(stream(1), slice_str("one "));
    flush();
    http2_answer_body(stream(1), slice_str("two"));
    http2_answer_body(stream(1), slice_of(NULL, 0));
    flush();
    assert_string_equal(notes(), "head 0 GET /? localhost over\nhead 1 GET /? localhost over\n"
                                 "head 2 GET /? localhost over\nclosed 2\nclosed 0\n");
    http2_answer_end(stream(1));
    flush();
    assert_int_equal(seen.open, 0);
    struct h2_stream *st = h2_client_stream(&client, 5);
    assert_int_equal(st->status, 404);
    assert_string_equal(h2_stream_field(st, "x-test"), "A, b");
    assert_true(slice_equal_str(buf_slice(&st->body), "none\n"));
    assert_int_equal(h2_client_stream(&client, 1)->status, 204);
    assert_true(h2_client_stream(&client, 1)->ended);
    st = h2_client_stream(&client, 3);
    assert_true(slice_equal_str(buf_slice(&st->body), "one two"));
    assert_int_equal(st->data_count, 3); /* the last one has the end only */
    assert_false(st->reset);
    finish();
    buf_fini(&b);
}

/* Content goes out as the client's windows allow, of the stream and of the connection. */
static void test_flow_control(void **state) {
    struct buf b = {0}, content = {0};
    begin();
    for (size_t i = 0; i < 100000; i++)
        buf_append_char(&content, (char)('a' + i % 26));
    h2_put_preface(&b, 10);
    h2_put_request(&b, 1, H2_END_STREAM, "GET", "/", NULL);
    feed_all(&b);
    http2_answer(stream(0), 200, NULL, 0, true);
    http2_answer_body(stream(0), buf_slice(&content));
    http2_answer_end(stream(0));
    flush();
    struct h2_stream *st = h2_client_stream(&client, 1);
    assert_int_equal(st->body.size, 10);
    assert_int_equal(http2_queued(seen.h), 99990);
    assert_int_equal(http2_stream_queued(stream(0)), 99990);
    assert_int_equal(http2_stream_sent(stream(0)), 10);
    h2_put_u32_frame(&b, H2_WINDOW_UPDATE, 1, 1);
    feed_all(&b);
    assert_int_equal(st->body.size, 11);
    h2_put_u32_frame(&b, H2_WINDOW_UPDATE, 1, 1000000);
    feed_all(&b);
    assert_int_equal(st->body.size, 65535); /* the connection's window */
    h2_put_u32_frame(&b, H2_WINDOW_UPDATE, 0, 1000000);
    feed_all(&b);
    assert_true(slice_equal(buf_slice(&st->body), buf_slice(&content)));
    assert_true(st->ended);
    assert_int_equal(http2_queued(seen.h), 0);
    assert_int_equal(seen.open, 0);
    finish();
    buf_fini(&b);
    buf_fini(&content);
}

/* http2_send() stops at the size that it is given. */
static void test_send_in_pieces(void **state) {
    struct buf b = {0}, content = {0}, out = {0};
    begin();
    memset(buf_reserve(&content, 60000), 'x', 60000);
    buf_commit(&content, 60000);
    h2_put_preface(&b, UINT32_MAX);
    h2_put_request(&b, 1, H2_END_STREAM, "GET", "/", NULL);
    feed_all(&b);
    http2_answer(stream(0), 200, NULL, 0, true);
    http2_answer_body(stream(0), buf_slice(&content));
    http2_answer_end(stream(0));
    int rounds = 0;
    while (http2_send(seen.h, &out, 20000)) {
        assert_true(out.size < 20000 + 16384 + 9);
        h2_client_take(&client, buf_slice(&out));
        buf_reset(&out);
        rounds++;
    }
    assert_true(rounds >= 2);
    assert_int_equal(h2_client_stream(&client, 1)->body.size, 60000);
    finish();
    buf_fini(&b);
    buf_fini(&content);
    buf_fini(&out);
}

/* An answer that comes before the request is complete: its rest is not wanted. */
static void test_early_answer(void **state) {
    struct buf b = {0};
    begin();
    h2_put_preface(&b, UINT32_MAX);
    h2_put_request(&b, 1, 0, "PUT", "/", "expect", "100-continue", NULL);
    feed_all(&b);
    http2_continue(stream(0));
    flush();
    assert_int_equal(h2_client_stream(&client, 1)->interim, 1);
    answer(stream(0), 413, "large");
    flush();
    struct h2_stream *st = h2_client_stream(&client, 1);
    assert_true(st->ended);
    assert_true(st->reset);
    assert_int_equal(st->error, HTTP2_NO_ERROR);
    assert_int_equal(seen.open, 0);
    h2_put_frame(&b, H2_DATA, H2_END_STREAM, 1, slice_str("late"));
    feed_all(&b);
    assert_false(client.goaway);
    finish();
    buf_fini(&b);
}

static void test_resets(void **state) {
    struct buf b = {0};
    begin();
    h2_put_preface(&b, 5);
    for (uint32_t id = 1; id <= 7; id += 2)
        h2_put_request(&b, id, H2_END_STREAM, "GET", "/", NULL);
    feed_all(&b);
    /* By the client: before an answer, and with content queued. */
    answer(stream(1), 200, "longer than the window");
    flush();
    h2_put_u32_frame(&b, H2_RST_STREAM, 1, HTTP2_CANCEL);
    h2_put_u32_frame(&b, H2_RST_STREAM, 3, HTTP2_CANCEL);
    feed_all(&b);
    assert_null(seen.streams[0]);
    assert_null(seen.streams[1]);
    assert_int_equal(http2_queued(seen.h), 0);
    /* By us. */
    http2_reset(stream(2), HTTP2_INTERNAL_ERROR);
    http2_reset(stream(2), HTTP2_CANCEL);
    http2_answer(stream(3), 200, NULL, 0, true);
    http2_answer_body(stream(3), slice_str("some"));
    flush();
    http2_reset(stream(3), HTTP2_CANCEL);
    http2_answer_body(stream(3), slice_str("more"));
    flush();
    assert_int_equal(h2_client_stream(&client, 5)->error, HTTP2_INTERNAL_ERROR);
    assert_int_equal(h2_client_stream(&client, 7)->error, HTTP2_CANCEL);
    assert_int_equal(seen.open, 0);
    assert_int_equal(http2_queued(seen.h), 0);
    finish();
    buf_fini(&b);
}

/* Ends the connection: floods with ENHANCE_YOUR_CALM, violations with their own code. */
static void test_connection_errors(void **state) {
    struct buf rows[9] = {{0}};
    uint32_t codes[9];
    struct buf block = {0};
    size_t n = 0;
    char value[4001];
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        h2_put_preface(&rows[i], UINT32_MAX);
    /* Rapid reset. */
    for (uint32_t id = 1; id < 1000; id += 2) {
        h2_put_request(&rows[n], id, H2_END_STREAM, "GET", "/", NULL);
        h2_put_u32_frame(&rows[n], H2_RST_STREAM, id, HTTP2_CANCEL);
    }
    codes[n++] = HTTP2_ENHANCE_YOUR_CALM;
    /* Requests that make us reset their streams. */
    for (uint32_t id = 1; id < 1000; id += 2)
        h2_put_request(&rows[n], id, H2_END_STREAM, "GET", "/", "connection", "close", NULL);
    codes[n++] = HTTP2_ENHANCE_YOUR_CALM;
    for (int i = 0; i < 1200; i++)
        h2_put_frame(&rows[n], H2_PING, 0, 0, slice_str("12345678"));
    codes[n++] = HTTP2_ENHANCE_YOUR_CALM;
    for (int i = 0; i < 200; i++)
        h2_put_frame(&rows[n], H2_SETTINGS, 0, 0, slice_of(NULL, 0));
    codes[n++] = HTTP2_ENHANCE_YOUR_CALM;
    h2_put_request(&rows[n], 1, 0, "PUT", "/", NULL);
    for (int i = 0; i < 300; i++)
        h2_put_frame(&rows[n], H2_DATA, 0, 1, slice_of(NULL, 0));
    codes[n++] = HTTP2_ENHANCE_YOUR_CALM;
    /* A head that never ends. */
    h2_put_field(&block, ":method", "GET");
    h2_put_frame(&rows[n], H2_HEADERS, 0, 1, buf_slice(&block));
    for (int i = 0; i < 20; i++)
        h2_put_frame(&rows[n], H2_CONTINUATION, 0, 1, slice_of(NULL, 0));
    codes[n++] = HTTP2_ENHANCE_YOUR_CALM;
    /* One that is small and unpacks to much: a table entry of 4,000 bytes, named again and again.
     */
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    buf_append_u8(&block, 0x40);
    struct buf field = {0};
    h2_put_field(&field, "bomb", value);
    buf_append(&block, field.data + 1, field.size - 1);
    for (int i = 0; i < 8000; i++)
        buf_append_u8(&block, 0xbe);
    h2_put_frame(&rows[n], H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 1, buf_slice(&block));
    codes[n++] = HTTP2_ENHANCE_YOUR_CALM;
    /* A stream of our number, and no preface. */
    h2_put_request(&rows[n], 2, H2_END_STREAM, "GET", "/", NULL);
    codes[n++] = HTTP2_PROTOCOL_ERROR;
    rows[n].data[5] = 'X';
    codes[n++] = HTTP2_PROTOCOL_ERROR;
    for (size_t i = 0; i < n; i++)
        for (size_t step = 1; step < 100000; step = step * 7 + 1) {
            begin();
            feed(buf_slice(&rows[i]), 0, step);
            if (!client.goaway || client.goaway_error != codes[i])
                fail_msg("row %zu, step %zu: %d, %u", i, step, client.goaway, client.goaway_error);
            assert_int_equal(http2_is_flood(seen.h), codes[i] == HTTP2_ENHANCE_YOUR_CALM);
            assert_true(http2_is_over(seen.h));
            finish();
        }
    for (size_t i = 0; i < n; i++)
        buf_fini(&rows[i]);
    buf_fini(&block);
    buf_fini(&field);
}

static void test_large_heads(void **state) {
    char value[33000];
    struct buf b = {0};
    begin();
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    h2_put_preface(&b, UINT32_MAX);
    struct buf block = {0}, frames = {0};
    h2_put_field(&block, ":method", "HEAD");
    h2_put_field(&block, ":scheme", "http");
    h2_put_field(&block, ":path", "/");
    h2_put_field(&block, ":authority", "h");
    h2_put_field(&block, "large", value);
    struct slice s = buf_slice(&block);
    h2_put_frame(&b, H2_HEADERS, H2_END_STREAM, 1, slice_of(s.data, 16384));
    h2_put_frame(&b, H2_CONTINUATION, 0, 1, slice_of(s.data + 16384, 16384));
    h2_put_frame(&b, H2_CONTINUATION, H2_END_HEADERS, 1, slice_of(s.data + 32768, s.size - 32768));
    buf_reset(&block);
    h2_put_field(&block, ":method", "GET");
    h2_put_field(&block, ":scheme", "http");
    h2_put_field(&block, ":path", "/");
    h2_put_field(&block, ":authority", "h");
    for (int i = 0; i <= HTTP1_HEADERS_MAX; i++)
        h2_put_field(&block, "n", "v");
    h2_put_frame(&b, H2_HEADERS, H2_END_STREAM | H2_END_HEADERS, 3, buf_slice(&block));
    feed_all(&b);
    assert_string_equal(notes(), "head 0 431 the header section is too large\n"
                                 "head 1 431 too many headers\n");
    finish();
    buf_fini(&b);
    buf_fini(&block);
    buf_fini(&frames);
}

static void test_streams_max(void **state) {
    struct buf b = {0};
    begin();
    h2_put_preface(&b, UINT32_MAX);
    h2_put_frame(&b, H2_SETTINGS, H2_ACK, 0, slice_of(NULL, 0));
    for (uint32_t i = 0; i < 20; i++)
        h2_put_request(&b, 2 * i + 1, 0, "GET", "/", NULL);
    feed_all(&b);
    assert_int_equal(http2_stream_count(seen.h), 20);
    for (size_t i = 0; i < 20; i++)
        answer(stream(i), 200, "x");
    flush();
    assert_int_equal(http2_stream_count(seen.h), 0);
    finish();
    buf_fini(&b);
}

/* The orderly end: a notice, then the last stream's number; streams go on to their ends. */
static void test_leave(void **state) {
    for (int pinged = 0; pinged < 2; pinged++) {
        struct buf b = {0};
        begin();
        h2_put_preface(&b, UINT32_MAX);
        h2_put_request(&b, 1, H2_END_STREAM, "GET", "/", NULL);
        feed_all(&b);
        http2_leave(seen.h);
        flush();
        assert_true(client.goaway);
        assert_int_equal(client.goaway_last, 0x7fffffff);
        assert_int_equal(client.goaway_error, HTTP2_NO_ERROR);
        assert_int_equal(client.pings, 1);
        assert_false(http2_has_left(seen.h));
        /* It was under way. */
        h2_put_request(&b, 3, H2_END_STREAM, "GET", "/", NULL);
        if (pinged)
            h2_put_frame(&b, H2_PING, H2_ACK, 0, slice_of("cotidal", 8));
        feed_all(&b);
        if (!pinged)
            http2_leave(seen.h);
        flush();
        assert_true(http2_has_left(seen.h));
        assert_int_equal(client.goaway_last, 3);
        /* These come too late. */
        h2_put_request(&b, 5, H2_END_STREAM, "GET", "/", NULL);
        feed_all(&b);
        assert_int_equal(seen.count, 2);
        assert_false(http2_is_over(seen.h));
        answer(stream(0), 200, "x");
        answer(stream(1), 200, "x");
        flush();
        assert_true(h2_client_stream(&client, 3)->ended);
        assert_int_equal(http2_stream_count(seen.h), 0);
        assert_true(http2_is_over(seen.h));
        finish();
        buf_fini(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),           cmocka_unit_test(test_continuation),
        cmocka_unit_test(test_malformed_messages), cmocka_unit_test(test_missing_pseudo),
        cmocka_unit_test(test_refused_heads),      cmocka_unit_test(test_answers),
        cmocka_unit_test(test_flow_control),       cmocka_unit_test(test_send_in_pieces),
        cmocka_unit_test(test_early_answer),       cmocka_unit_test(test_resets),
        cmocka_unit_test(test_connection_errors),  cmocka_unit_test(test_large_heads),
        cmocka_unit_test(test_streams_max),        cmocka_unit_test(test_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
