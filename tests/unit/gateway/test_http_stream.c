/* Answers in pieces: chunked, with a length, to HTTP/1.0, behind others, to clients that do not
 * read, go away, or get an answer that fails. The routes are the test's own: its http_route_find()
 * is found before the archive's. */
#include "gateway/http_routes.h"
#include "h2_client.h"
#include "http_client.h"

static struct http_request *pushed; /* the answer of /push that is under way */
static int more_calls, gone_calls;

struct count {
    size_t left, piece;
};

static void more(struct http_request *r) {
    struct count *count = r->data;
    char text[100000];
    more_calls++;
    size_t n = count->left < count->piece ? count->left : count->piece;
    memset(text, 'x', n);
    if (n > 0)
        http_stream_write(r, slice_of(text, n));
    count->left -= n;
    if (count->left == 0)
        http_stream_end(r);
}

static void gone(struct http_request *r) {
    gone_calls++;
    if (pushed == r)
        pushed = NULL;
}

static void begin_count(struct http_request *r, size_t bytes, size_t piece, bool known) {
    struct count *count = xcalloc(1, sizeof *count);
    *count = (struct count){.left = bytes, .piece = piece};
    r->data = count;
    r->more = more;
    r->gone = gone;
    http_begin(r, 200);
    if (!http_stream_begin(r, "text/plain", known ? bytes : HTTP_LENGTH_UNKNOWN))
        return;
}

static void get_short(struct http_request *r, const struct http_input *in) {
    (void)in;
    begin_count(r, 25, 10, false);
}
static void get_known(struct http_request *r, const struct http_input *in) {
    (void)in;
    begin_count(r, 25, 10, true);
}
static void get_large(struct http_request *r, const struct http_input *in) {
    (void)in;
    begin_count(r, 10000000, 100000, true);
}
static void get_push(struct http_request *r, const struct http_input *in) {
    (void)in;
    r->gone = gone;
    http_begin(r, 200);
    pushed = r;
    if (!http_stream_begin(r, "text/event-stream", HTTP_LENGTH_UNKNOWN))
        pushed = NULL;
}

static const struct http_route routes[] = {
    {HTTP_GET, "/short", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, get_short, ""},
    {HTTP_GET, "/known", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, get_known, ""},
    {HTTP_GET, "/large", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, get_large, ""},
    {HTTP_GET, "/push", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, get_push, ""},
    {HTTP_GET, "/ready", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, http_ready_get, ""},
    {HTTP_GET, "/members", NEEDS_READ, BODY_NONE, ACCESS_PUBLIC, http_kv_list, ""},
};

enum http_match http_route_find(enum http_method method, struct slice path,
                                const struct http_route **ret_route, struct slice *ret_rest,
                                char allow[64]) {
    (void)method;
    allow[0] = 0;
    *ret_rest = slice_of(NULL, 0);
    for (size_t i = 0; i < ARRAY_COUNT(routes); i++)
        if (slice_equal_str(path, routes[i].pattern)) {
            *ret_route = &routes[i];
            return HTTP_FOUND;
        }
    return HTTP_NO_PATH;
}

static const char *body_of(struct fake_stream *f) {
    const char *text = bench_received(f), *end = strstr(text, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static void send_text(struct bench *b, struct fake_stream *f, const char *text) {
    assert_true(fake_stream_feed_str(f, text));
    bench_turn(b);
}

#define X10 "xxxxxxxxxx"
#define SHORT_CHUNKED "a\r\n" X10 "\r\na\r\n" X10 "\r\n5\r\nxxxxx\r\n0\r\n\r\n"

static void test_framing(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    send_text(b, f, GET("/short"));
    assert_non_null(strstr((char *)memchr(f->written.data, 'T', f->written.size),
                           "Transfer-Encoding: chunked\r\n"));
    assert_string_equal(body_of(f), SHORT_CHUNKED);
    send_text(b, f, GET("/known"));
    struct answer a = take_answer(f, false);
    assert_string_equal(field(&a, "Content-Length"), "25");
    assert_null(field(&a, "Transfer-Encoding"));
    assert_string_equal(a.body, X10 X10 "xxxxx");
    free(a.body);
    /* HEAD has the same head, and no content. */
    send_text(b, f, "HEAD /short" HOST "\r\nHEAD /known" HOST "\r\n");
    a = take_answer(f, true);
    assert_string_equal(field(&a, "Transfer-Encoding"), "chunked");
    free(a.body);
    a = take_answer(f, true);
    assert_string_equal(field(&a, "Content-Length"), "25");
    free(a.body);
    assert_int_equal(f->written.size, 0);
    /* HTTP/1.0 has no chunks: the content ends with the connection. */
    send_text(b, f, "GET /short HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_string_equal(body_of(f), X10 X10 "xxxxx");
    bench_turn(b);
    assert_true(f->closed);
    bench_free(b);
}

/* Behind an unanswered request it waits its turn; behind it others wait. */
static void test_order(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    send_text(b, f, GET("/members") GET("/push") GET("/ready"));
    assert_non_null(pushed);
    http_stream_write(pushed, slice_str("one"));
    bench_turn(b);
    assert_int_equal(f->written.size, 0);
    assert_true(http_stream_unsent(pushed) > 3);
    fake_upstream_answer(b->up, 0);
    bench_turn(b);
    struct answer a = take_answer(f, false);
    assert_int_equal(a.status, 200);
    free(a.body);
    assert_string_equal(body_of(f), "3\r\none\r\n");
    assert_int_equal(http_stream_unsent(pushed), 0);
    http_stream_write(pushed, slice_str("two"));
    http_stream_write(pushed, slice_of(NULL, 0));
    bench_turn(b);
    assert_string_equal(bench_received(f), "3\r\ntwo\r\n");
    http_stream_end(pushed);
    pushed = NULL;
    bench_turn(b);
    const char *rest = bench_received(f);
    assert_int_equal(strncmp(rest, "0\r\n\r\nHTTP/1.1 200", 17), 0);
    bench_free(b);
}

/* Who does not read is not written to; memory stays bounded; it goes on when the client does. */
static void test_room(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    more_calls = 0;
    fake_stream_block(f);
    send_text(b, f, GET("/large"));
    for (int i = 0; i < 10; i++)
        bench_turn(b);
    assert_in_range(f->held.size, CONN_ROOM_BYTES, CONN_ROOM_BYTES + 110000);
    assert_int_equal(more_calls, 3);
    size_t total = 0;
    while (f->held.size > 0) {
        fake_stream_unblock(f);
        total += f->written.size;
        buf_reset(&f->written);
        fake_stream_block(f);
        bench_turn(b);
    }
    assert_int_equal(more_calls, 100);
    assert_in_range(total, 10000000, 10001000);
    fake_stream_unblock(f);
    expect(b, f, GET("/ready"), 200, NULL);
    bench_free(b);
}

/* One that reads as fast as we write lets others have their turns. */
static void test_turns(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    assert_true(fake_stream_feed_str(f, GET("/large")));
    gateway_turn_end(b->gw);
    assert_in_range(f->written.size, CONN_TURN_BYTES, CONN_TURN_BYTES + CONN_ROOM_BYTES + 110000);
    for (int i = 0; i < 3; i++)
        gateway_turn_end(b->gw);
    assert_in_range(f->written.size, 10000000, 10001000);
    bench_free(b);
}

static void test_gone(void **state) {
    struct bench *b = bench_new(NULL);
    gone_calls = 0;
    struct fake_stream *f = bench_http(b);
    send_text(b, f, GET("/push"));
    assert_non_null(pushed);
    bench_hang_up(b, f);
    assert_null(pushed);
    assert_int_equal(gone_calls, 1);
    /* A client that sends no more may still read. */
    f = bench_http(b);
    send_text(b, f, GET("/push"));
    fake_stream_eof(f);
    bench_turn(b);
    assert_non_null(pushed);
    http_stream_write(pushed, slice_str("one"));
    http_stream_end(pushed);
    bench_turn(b);
    assert_string_equal(body_of(f), "3\r\none\r\n0\r\n\r\n");
    assert_true(f->closed);
    /* The gateway ends with answers under way. */
    f = bench_http(b);
    send_text(b, f, GET("/push"));
    assert_int_equal(gone_calls, 1);
    bench_free(b);
    assert_int_equal(gone_calls, 2);
}

/* Content that fails: no last chunk, and the connection ends. */
static void test_abort(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    gone_calls = 0;
    send_text(b, f, GET("/push"));
    http_stream_write(pushed, slice_str("one"));
    bench_turn(b);
    http_stream_abort(pushed);
    bench_turn(b);
    assert_string_equal(body_of(f), "3\r\none\r\n");
    assert_true(f->closed);
    assert_int_equal(gone_calls, 0);
    bench_free(b);
}

/* ---- HTTP/2 -----------------------------------------------------------------------------------
 */

static struct h2_client client;

/* The client sends, and takes what comes. */
static void talk2(struct bench *b, struct fake_stream *f, struct buf *out) {
    if (out->size > 0)
        assert_true(fake_stream_feed(f, buf_slice(out)));
    buf_reset(out);
    bench_turn(b);
    h2_client_take(&client, buf_slice(&f->written));
    buf_reset(&f->written);
}

static void get2(struct buf *out, uint32_t id, const char *method, const char *path) {
    h2_put_request(out, id, H2_END_STREAM, method, path, NULL);
}

static void test_http2_framing(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    struct buf out = {0};
    h2_client_init(&client);
    h2_put_preface(&out, UINT32_MAX);
    get2(&out, 1, "GET", "/short");
    get2(&out, 3, "GET", "/known");
    get2(&out, 5, "HEAD", "/short");
    get2(&out, 7, "HEAD", "/known");
    talk2(b, f, &out);
    for (uint32_t id = 1; id <= 7; id += 2) {
        struct h2_stream *st = h2_client_stream(&client, id);
        assert_int_equal(st->status, 200);
        assert_true(st->ended);
        assert_true(slice_equal_str(buf_slice(&st->body), id < 5 ? X10 X10 "xxxxx" : ""));
        const char *length = h2_stream_field(st, "content-length");
        if (id == 3 || id == 7)
            assert_string_equal(length, "25");
        else
            assert_null(length);
    }
    /* Events, with others beside them, in any order. */
    get2(&out, 9, "GET", "/push");
    get2(&out, 11, "GET", "/ready");
    talk2(b, f, &out);
    assert_true(h2_client_stream(&client, 11)->ended);
    struct h2_stream *events = h2_client_stream(&client, 9);
    assert_int_equal(events->status, 200);
    http_stream_write(pushed, slice_str("one "));
    talk2(b, f, &out);
    assert_true(slice_equal_str(buf_slice(&events->body), "one "));
    assert_int_equal(http_stream_unsent(pushed), 0);
    http_stream_write(pushed, slice_str("two"));
    http_stream_end(pushed);
    talk2(b, f, &out);
    assert_true(slice_equal_str(buf_slice(&events->body), "one two"));
    assert_true(events->ended);
    /* An answer that fails. */
    get2(&out, 13, "GET", "/push");
    talk2(b, f, &out);
    http_stream_write(pushed, slice_str("half"));
    http_stream_abort(pushed);
    talk2(b, f, &out);
    assert_true(h2_client_stream(&client, 13)->reset);
    assert_int_equal(h2_client_stream(&client, 13)->error, 2);
    h2_client_fini(&client);
    buf_fini(&out);
    bench_free(b);
}

/* A stream whose window is closed is not asked for more than there is room for; others are. */
static void test_http2_room(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    struct buf out = {0};
    h2_client_init(&client);
    h2_put_preface(&out, 1000);
    more_calls = 0;
    get2(&out, 1, "GET", "/large");
    talk2(b, f, &out);
    for (int i = 0; i < 10; i++)
        bench_turn(b);
    assert_int_equal(more_calls, 1);
    assert_int_equal(h2_client_stream(&client, 1)->body.size, 1000);
    get2(&out, 3, "GET", "/known");
    talk2(b, f, &out);
    assert_true(h2_client_stream(&client, 3)->ended);
    h2_put_u32_frame(&out, H2_WINDOW_UPDATE, 1, 20000000);
    h2_put_u32_frame(&out, H2_WINDOW_UPDATE, 0, 20000000);
    talk2(b, f, &out);
    talk2(b, f, &out);
    assert_int_equal(h2_client_stream(&client, 1)->body.size, 10000000);
    assert_true(h2_client_stream(&client, 1)->ended);
    assert_int_equal(more_calls, 100 + 3);
    h2_client_fini(&client);
    buf_fini(&out);
    bench_free(b);
}

/* The client sends no more, so its windows will not open again: what it is owed is given up like
 * that of any other client that takes nothing. */
static void test_http2_half_closed(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    struct buf out = {0};
    h2_client_init(&client);
    h2_put_preface(&out, 1000);
    get2(&out, 1, "GET", "/large");
    talk2(b, f, &out);
    fake_stream_eof(f);
    bench_wait(b, 50000);
    assert_false(f->closed);
    bench_wait(b, 20000);
    assert_true(f->closed);
    h2_client_fini(&client);
    buf_fini(&out);
    bench_free(b);
}

static void test_http2_gone(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    struct buf out = {0};
    gone_calls = 0;
    h2_client_init(&client);
    h2_put_preface(&out, UINT32_MAX);
    get2(&out, 1, "GET", "/push");
    talk2(b, f, &out);
    assert_non_null(pushed);
    h2_put_u32_frame(&out, H2_RST_STREAM, 1, 8);
    talk2(b, f, &out);
    assert_null(pushed);
    assert_int_equal(gone_calls, 1);
    get2(&out, 3, "GET", "/push");
    talk2(b, f, &out);
    bench_hang_up(b, f);
    assert_null(pushed);
    assert_int_equal(gone_calls, 2);
    h2_client_fini(&client);
    buf_fini(&out);
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_framing),       cmocka_unit_test(test_order),
        cmocka_unit_test(test_room),          cmocka_unit_test(test_turns),
        cmocka_unit_test(test_gone),          cmocka_unit_test(test_abort),
        cmocka_unit_test(test_http2_framing), cmocka_unit_test(test_http2_room),
        cmocka_unit_test(test_http2_gone),    cmocka_unit_test(test_http2_half_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
