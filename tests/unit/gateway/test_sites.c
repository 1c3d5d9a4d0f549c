/* Sites at the gateway: deploys over HTTP, the loader, what is answered and how, on a real store.
 */
#include "http_client.h"

#include "gateway/site_serve.h"
#include "gateway/sites.h"
#include "net/sha256.h"
#include "proto/site_manifest.h"

struct site_maker {
    struct site_manifest_writer *w;
    struct buf frames;
    size_t files;
};

static void frame(struct buf *frames, struct slice bytes, struct buf *hashes) {
    for (size_t at = 0; at < bytes.size; at += SITE_MANIFEST_BLOCK_BYTES) {
        size_t left = bytes.size - at;
        struct slice block = slice_of(
            bytes.data + at, left < SITE_MANIFEST_BLOCK_BYTES ? left : SITE_MANIFEST_BLOCK_BYTES);
        uint8_t hash[SHA256_BYTES];
        sha256_of(block, hash);
        buf_append(hashes, hash, sizeof hash);
        buf_append_lstr(frames, block);
    }
}

static void add_variant(struct site_maker *m, uint8_t encoding, struct slice content) {
    struct buf hashes = {0};
    uint8_t digest[SHA256_BYTES];
    sha256_of(content, digest);
    frame(&m->frames, content, &hashes);
    site_manifest_writer_variant(m->w, encoding, content.size, digest, hashes.data);
    buf_fini(&hashes);
}

static void add_file(struct site_maker *m, const char *path, struct slice content) {
    if (!m->w)
        m->w = site_manifest_writer_new();
    site_manifest_writer_file(m->w, slice_str(path), 784111000);
    add_variant(m, 0, content);
}

static void post(struct bench *b, struct fake_stream *f, const char *path, struct slice body,
                 struct answer *ret) {
    struct buf request = {0};
    buf_printf(&request, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", path,
               body.size);
    buf_append_slice(&request, body);
    bench_feed(b, f, buf_slice(&request), SIZE_MAX);
    *ret = take_answer(f, false);
    buf_fini(&request);
}

/* Sends everything up to the switch; the deploy's number. Takes what m has. */
static unsigned upload(struct bench *b, const char *site, struct site_maker *m) {
    struct fake_stream *f = bench_http(b);
    struct buf manifest = {0}, hashes = {0}, json = {0};
    struct answer a;
    unsigned id = 0;
    char path[64], hex[2 * SHA256_BYTES + 1];
    assert_true(site_manifest_writer_end(m->w, &manifest));
    site_manifest_writer_free(m->w);
    frame(&m->frames, buf_slice(&manifest), &hashes);
    for (struct reader r = reader_of(buf_slice(&m->frames)); reader_left(&r) > 0;) {
        struct buf one = {0};
        buf_append_lstr(&one, reader_lstr(&r));
        post(b, f, "/v1/deploys/blocks", buf_slice(&one), &a);
        assert_int_equal(a.status, 200);
        free(a.body);
        buf_fini(&one);
    }
    buf_printf(&json, "{\"site\":\"%s\",\"manifest\":{\"bytes\":%zu,\"blocks\":[", site,
               manifest.size);
    for (size_t at = 0; at < hashes.size; at += SHA256_BYTES) {
        sha256_to_hex(hashes.data + at, hex);
        buf_printf(&json, "%s\"%s\"", at ? "," : "", hex);
    }
    buf_append_str(&json, "]}}");
    post(b, f, "/v1/deploys", buf_slice(&json), &a);
    assert_int_equal(a.status, 201);
    assert_int_equal(sscanf(a.body, "{\"id\":%u", &id), 1);
    free(a.body);
    snprintf(path, sizeof path, "/v1/deploys/%u/pin?from=0", id);
    post(b, f, path, slice_of(NULL, 0), &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"missing\":[]"));
    free(a.body);
    buf_fini(&m->frames);
    buf_fini(&manifest);
    buf_fini(&hashes);
    buf_fini(&json);
    *m = (struct site_maker){0};
    bench_hang_up(b, f);
    return id;
}

static void activate(struct bench *b, unsigned id) {
    struct fake_stream *f = bench_http(b);
    struct answer a;
    char path[64];
    snprintf(path, sizeof path, "/v1/deploys/%u/activate", id);
    post(b, f, path, slice_of(NULL, 0), &a);
    assert_int_equal(a.status, 200);
    free(a.body);
    bench_hang_up(b, f);
}

static unsigned deploy(struct bench *b, struct site_maker *m) {
    unsigned id = upload(b, "default", m);
    activate(b, id);
    return id;
}

static struct bench *with_page(const char *text) {
    struct bench *b = bench_new(NULL);
    struct site_maker m = {0};
    add_file(&m, "/index.html", slice_str(text));
    add_file(&m, "/empty.txt", slice_of("", 0));
    add_file(&m, "/a.js", slice_str("plain plain plain"));
    add_variant(&m, 1, slice_str("gzip"));
    add_variant(&m, 2, slice_str("br"));
    deploy(b, &m);
    return b;
}

/* ---- */

/* The same answer in all three ways: fetched, from memory, and the short way. */
static void test_three_ways(void **state) {
    struct bench *b = with_page("<h1>hello</h1>");
    struct fake_stream *f = bench_http(b);
    char first[2048] = "";
    for (int i = 0; i < 4; i++) {
        struct answer a = ask(b, f, GET("/"));
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, "<h1>hello</h1>");
        assert_string_equal(field(&a, "Content-Type"), "text/html; charset=utf-8");
        assert_string_equal(field(&a, "Cache-Control"), "no-cache");
        assert_string_equal(field(&a, "X-Content-Type-Options"), "nosniff");
        assert_non_null(strstr(a.head, "Set-Cookie: cotidal_site=abababab."));
        const char *etag = field(&a, "ETag");
        if (i == 0)
            strcpy(first, etag);
        assert_string_equal(etag, first);
        free(a.body);
    }
    assert_int_equal(b->gw->metrics.site_requests_total, 4);
    assert_int_equal(b->gw->metrics.site_quick_total, 2);
    for (int i = 0; i < 4; i++) {
        struct answer a = ask(b, f, "GET /a.js" HOST "Accept-Encoding: gzip\r\n\r\n");
        assert_string_equal(a.body, "gzip");
        assert_string_equal(field(&a, "Content-Encoding"), "gzip");
        assert_string_equal(field(&a, "Vary"), "Accept-Encoding");
        assert_null(strstr(a.head, "Set-Cookie"));
        free(a.body);
        expect(b, f, "GET /a.js" HOST "Accept-Encoding: br;q=0.9, gzip;q=0.1\r\n\r\n", 200, "br");
        expect(b, f, GET("/a.js"), 200, "plain plain");
        expect(b, f, "GET /a.js" HOST "Accept-Encoding: identity;q=0, gzip;q=0, br;q=0\r\n\r\n",
               406, NULL);
        expect(b, f, GET("/empty.txt"), 200, "");
        expect(b, f, GET("/%69ndex.html"), 200, "hello");
        expect(b, f, GET("/index%2Ehtml?x=y"), 200, "hello");
    }
    bench_free(b);
}

static void test_conditions_and_heads(void **state) {
    struct bench *b = with_page("<h1>hello</h1>");
    struct fake_stream *f = bench_http(b);
    for (int i = 0; i < 3; i++) {
        struct answer a = ask(b, f, "HEAD /" HOST "\r\n");
        assert_string_equal(field(&a, "Content-Length"), "14");
        char request[200];
        snprintf(request, sizeof request, "GET /" HOST "If-None-Match: %s\r\n\r\n",
                 field(&a, "ETag"));
        free(a.body);
        a = ask(b, f, request);
        assert_int_equal(a.status, 304);
        assert_null(field(&a, "Content-Length"));
        free(a.body);
        expect(b, f, "GET /" HOST "Range: bytes=1-2\r\n\r\n", 206, "h1");
        expect(b, f, "GET /" HOST "Range: bytes=99-\r\n\r\n", 416, NULL);
        expect(b, f, "GET /" HOST "If-Match: \"x\"\r\n\r\n", 412, NULL);
    }
    expect(b, f, GET("/nothing"), 404, "nothing at this address");
    expect(b, f, GET("/a/%zz"), 400, NULL);
    expect(b, f, BODY("POST", "/", "1", "x"), 405, NULL);
    expect(b, f, GET("/v1/nothing"), 404, "not_found");
    expect(b, f, GET("/_/health"), 200, NULL);
    /* A request with a body takes the long way. */
    expect(b, f, BODY("GET", "/", "1", "x"), 200, "hello");
    bench_free(b);
}

/* What is said of a file is not said of what comes in its place. */
static void test_fields(void **state) {
    struct bench *b = bench_new(NULL);
    struct site_maker m = {0};
    add_file(&m, "/index.html", slice_str("<h1>hello</h1>"));
    add_file(&m, "/main.3f2a91bc.js", slice_str("plain plain plain"));
    add_variant(&m, 1, slice_str("gzip"));
    site_manifest_writer_texts(m.w, slice_str("/*\n  X-Site: yes\n"), slice_of(NULL, 0),
                               slice_of(NULL, 0));
    deploy(b, &m);
    struct fake_stream *f = bench_http(b);
#define JS "GET /main.3f2a91bc.js" HOST "Accept-Encoding: gzip\r\n"
    struct answer a = ask(b, f, JS "\r\n");
    char etag[60], request[300];
    snprintf(etag, sizeof etag, "%s", field(&a, "ETag"));
    assert_string_equal(field(&a, "Content-Encoding"), "gzip");
    assert_string_equal(field(&a, "X-Site"), "yes");
    free(a.body);
    a = ask(b, f, JS "Range: bytes=99-\r\n\r\n");
    assert_int_equal(a.status, 416);
    assert_string_equal(field(&a, "Content-Range"), "bytes */4");
    assert_string_equal(field(&a, "Cache-Control"), "no-store");
    assert_null(field(&a, "Content-Encoding"));
    assert_null(field(&a, "ETag"));
    free(a.body);
    a = ask(b, f, JS "If-Match: \"x\"\r\n\r\n");
    assert_int_equal(a.status, 412);
    assert_string_equal(field(&a, "Cache-Control"), "no-store");
    assert_null(field(&a, "Content-Encoding"));
    free(a.body);
    /* RFC 9110 section 15.4.5. */
    snprintf(request, sizeof request, JS "If-None-Match: %s\r\n\r\n", etag);
    a = ask(b, f, request);
    assert_int_equal(a.status, 304);
    assert_string_equal(field(&a, "ETag"), etag);
    assert_string_equal(field(&a, "Vary"), "Accept-Encoding");
    assert_string_equal(field(&a, "Cache-Control"), "public, max-age=31536000, immutable");
    assert_string_equal(field(&a, "X-Site"), "yes");
    assert_null(field(&a, "Content-Encoding"));
    assert_null(field(&a, "Accept-Ranges"));
    free(a.body);
    bench_free(b);
}

/* Fed in pieces of every size, pipelined with requests of ours. */
static void test_pieces(void **state) {
    struct bench *b = with_page("<h1>hello</h1>");
    static const char requests[] =
        GET("/") GET("/v1/kv/a") GET("/a.js") BODY("PUT", "/v1/kv/a", "1", "x") GET("/")
            GET("/v1/kv/a") GET("/nothing") GET("/empty.txt") GET("/");
    static const int statuses[] = {200, 404, 200, 201, 200, 200, 404, 200, 200};
    static const int again[] = {200, 200, 200, 204, 200, 200, 404, 200, 200};
    for (size_t piece = 1; piece < sizeof requests; piece += piece < 40 ? 1 : 37) {
        struct fake_stream *f = bench_http(b);
        bench_feed(b, f, slice_of(requests, sizeof requests - 1), piece);
        for (size_t i = 0; i < ARRAY_COUNT(statuses); i++) {
            struct answer a = take_answer(f, false);
            assert_int_equal(a.status, piece == 1 ? statuses[i] : again[i]);
            free(a.body);
        }
        assert_int_equal(f->written.size, 0);
        bench_hang_up(b, f);
    }
    bench_free(b);
}

static void fill(struct buf *b, size_t size) {
    for (size_t i = 0; i < size; i++)
        buf_append_u8(b, (uint8_t)(i * 31 + i / 997));
}

/* Larger than a block: in pieces, as fast as the client takes them. */
static void test_large(void **state) {
    struct bench *b = bench_new(NULL);
    struct site_maker m = {0};
    struct buf content = {0};
    fill(&content, 5 * SITE_MANIFEST_BLOCK_BYTES + 77);
    add_file(&m, "/big.bin", buf_slice(&content));
    deploy(b, &m);
    struct fake_stream *f = bench_http(b);
    bench_feed(b, f, slice_str(GET("/big.bin") GET("/v1/kv/a")), SIZE_MAX);
    struct answer a = take_answer(f, false);
    assert_int_equal(a.body_bytes, content.size);
    assert_memory_equal(a.body, content.data, content.size);
    free(a.body);
    a = take_answer(f, false);
    assert_int_equal(a.status, 404);
    free(a.body);
    a = ask(b, f, "GET /big.bin" HOST "Range: bytes=262000-600000, 700000-700009\r\n\r\n");
    assert_int_equal(a.status, 206);
    assert_non_null(strstr(a.head, "multipart/byteranges; boundary="));
    assert_non_null(memmem(a.body, a.body_bytes, content.data + 262000, 338001));
    assert_non_null(memmem(a.body, a.body_bytes, content.data + 700000, 10));
    free(a.body);
    /* A client that goes away in the middle. */
    bench_feed(b, f, slice_str("GET /big.bin" HOST "\r\n"), SIZE_MAX);
    bench_hang_up(b, f);
    buf_fini(&content);
    bench_free(b);
}

/* Requests with a head of 4 KiB until the client is pushed back, or `most` were taken. */
static size_t push(struct bench *b, struct fake_stream *f, const char *path, size_t most) {
    struct buf request = {0};
    size_t taken = 0;
    buf_printf(&request, "GET %s HTTP/1.1\r\nHost: localhost\r\nX: %04000d\r\n\r\n", path, 7);
    while (taken < most && fake_stream_feed(f, buf_slice(&request))) {
        taken++;
        bench_turn(b);
    }
    buf_fini(&request);
    return taken;
}

/* However much is asked for behind an answer that cannot go out, it is not gathered. */
static void test_behind_others(void **state) {
    struct bench *b = bench_new(NULL);
    struct site_maker m = {0};
    struct buf big = {0}, small = {0};
    fill(&big, 5 * SITE_MANIFEST_BLOCK_BYTES);
    fill(&small, 200000);
    add_file(&m, "/big.bin", buf_slice(&big));
    add_file(&m, "/small.bin", buf_slice(&small));
    deploy(b, &m);
    static const char *const first[] = {GET("/big.bin"), GET("/v1/kv/a")};
    for (size_t i = 0; i < 4; i++) {
        struct fake_stream *f = bench_http(b);
        const char *path = i % 2 ? "/big.bin" : "/small.bin";
        for (int k = 0; k < 3; k++)
            expect(b, f, GET("/small.bin"), 200, NULL);
        fake_stream_block(f);
        fake_stream_feed_str(f, first[i / 2]);
        if (i < 2)
            bench_settle(b); /* it is under way, and the client does not take it */
        else
            bench_turn(b); /* it is not answered */
        size_t taken = push(b, f, path, 100);
        assert_true(taken < 60);
        assert_true(fake_upstream_pending(b->up) <= 2);
        assert_true(b->gw->metrics.output_bytes < 1600000);
        while (f->held.size > 0 || fake_upstream_pending(b->up) > 0) {
            bench_settle(b);
            fake_stream_unblock(f);
            fake_stream_block(f);
        }
        fake_stream_unblock(f);
        bench_settle(b);
        struct answer a = take_answer(f, false);
        assert_int_equal(a.status, i < 2 ? 200 : 404);
        free(a.body);
        const struct buf *want = i % 2 ? &big : &small;
        for (size_t k = 0; k < taken; k++) {
            a = take_answer(f, false);
            assert_int_equal(a.body_bytes, want->size);
            assert_memory_equal(a.body, want->data, want->size);
            free(a.body);
        }
        assert_int_equal(f->written.size, 0);
        bench_hang_up(b, f);
    }
    buf_fini(&big);
    buf_fini(&small);
    bench_free(b);
}

/* The database gives no answer: an error before the answer has begun, else a broken connection. */
static void test_unavailable(void **state) {
    struct bench *b = bench_new(NULL);
    struct site_maker m = {0};
    struct buf content = {0};
    fill(&content, 2 * SITE_MANIFEST_BLOCK_BYTES);
    add_file(&m, "/index.html", slice_str("small"));
    add_file(&m, "/big.bin", buf_slice(&content));
    deploy(b, &m);
    struct fake_stream *f = bench_http(b);
    fake_stream_feed(f, slice_str(GET("/")));
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE no\r\n");
    bench_turn(b);
    struct answer a = take_answer(f, false);
    assert_int_equal(a.status, 503);
    free(a.body);
    fake_stream_feed(f, slice_str(GET("/big.bin")));
    bench_turn(b);
    fake_upstream_answer(b->up, 0);
    bench_turn(b);
    assert_non_null(memmem(f->written.data, f->written.size, "200 OK", 6));
    assert_int_equal(fake_upstream_pending(b->up), 1);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_DONE, "$-1\r\n");
    bench_turn(b);
    assert_true(f->closed || f->shutdown);
    bench_drop_stream(f);
    /* Given up while the block is under way. */
    f = bench_http(b);
    fake_stream_feed(f, slice_str(GET("/")));
    bench_turn(b);
    size_t forgotten = fake_upstream_forgotten(b->up);
    bench_hang_up(b, f);
    assert_int_equal(fake_upstream_forgotten(b->up), forgotten + 1);
    buf_fini(&content);
    bench_free(b);
}

/* Where the page for all paths is, what is answered depends on whether the browser goes there. */
static void test_by_accept(void **state) {
    struct bench *b = bench_new(NULL);
    struct site_maker m = {0};
    add_file(&m, "/index.html", slice_str("app"));
    add_file(&m, "/404.html", slice_str("nothing"));
    site_manifest_writer_texts(m.w, slice_of(NULL, 0),
                               slice_str("/old /new 301\n/* /index.html 200\n"), slice_of(NULL, 0));
    deploy(b, &m);
    struct fake_stream *f = bench_http(b);
    static const struct {
        const char *request;
        int status;
        const char *vary;
    } rows[] = {
        {"GET /x" HOST "Accept: text/html\r\n\r\n", 200, "Accept"},
        {"GET /x" HOST "Accept: */*\r\n\r\n", 404, "Accept"},
        {GET("/x"), 404, "Accept"},
        {"GET /x.js" HOST "Accept: text/html\r\n\r\n", 404, NULL},
        {"GET /" HOST "Accept: text/html\r\n\r\n", 200, NULL},
        {"GET /old" HOST "Accept: text/html\r\n\r\n", 301, NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct answer a = ask(b, f, rows[i].request);
        assert_int_equal(a.status, rows[i].status);
        if (rows[i].vary)
            assert_string_equal(field(&a, "Vary"), rows[i].vary);
        else
            assert_null(field(&a, "Vary"));
        free(a.body);
    }
    bench_free(b);
}

/* A type that is made from the path, where there is nothing to make it from. */
static void test_empty_type(void **state) {
    struct bench *b = bench_new(NULL);
    struct site_maker m = {0};
    struct buf big = {0};
    fill(&big, 2 * SITE_MANIFEST_BLOCK_BYTES);
    add_file(&m, "/big/index.html", buf_slice(&big));
    add_file(&m, "/small/index.html", slice_str("small"));
    site_manifest_writer_texts(
        m.w, slice_str("/small/*\n  Content-Type: :splat\n/big/*\n  Content-Type: :splat\n"),
        slice_of(NULL, 0), slice_of(NULL, 0));
    deploy(b, &m);
    struct fake_stream *f = bench_http(b);
    static const char *const requests[] = {GET("/small/"), GET("/big/"), "HEAD /big/" HOST "\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(requests); i++) {
        struct answer a = ask(b, f, requests[i]);
        assert_int_equal(a.status, 200);
        assert_string_equal(field(&a, "Content-Type"), "text/html; charset=utf-8");
        assert_string_equal(field(&a, "Content-Length"), i == 0 ? "5" : "524288");
        free(a.body);
    }
    expect(b, f, GET("/small/index.html"), 200, "small");
    buf_fini(&big);
    bench_free(b);
}

static unsigned long long index_of(struct bench *b) {
    return site_set_now(b->gw)->fallback->switch_index;
}

/* A visitor who has seen a newer switch waits until it is here; nobody else does. */
static void test_never_back(void **state) {
    struct bench *b = with_page("one");
    struct site_maker m = {0};
    char request[200];
    unsigned long long now = index_of(b);
    struct fake_stream *f = bench_http(b);
    add_file(&m, "/index.html", slice_str("two"));
    unsigned next = upload(b, "default", &m);
    /* He comes before the loader has heard of it: the question says what to wait for. */
    snprintf(request, sizeof request,
             "GET /" HOST "Cookie: a=b; cotidal_site=abababab.%llu\r\n\r\n", now + 1000);
    fake_stream_feed(f, slice_str(request));
    bench_turn(b);
    assert_int_equal(f->written.size, 0);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_READ);
    /* A second one needs a question of his own, since the first may have been answered already. */
    struct fake_stream *other = bench_http(b);
    fake_stream_feed(other, slice_str(request));
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    bench_settle(b); /* the cookie was ahead of everything there is */
    struct answer a = take_answer(f, false);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "one");
    free(a.body);
    a = take_answer(other, false);
    assert_string_equal(a.body, "one");
    free(a.body);
    activate(b, next);
    assert_true(index_of(b) > now);
    snprintf(request, sizeof request, "GET /" HOST "Cookie: cotidal_site=abababab.%llu\r\n\r\n",
             index_of(b));
    a = ask(b, f, request);
    assert_string_equal(a.body, "two");
    assert_null(strstr(a.head, "Set-Cookie"));
    free(a.body);
    snprintf(request, sizeof request, "GET /" HOST "Cookie: cotidal_site=00000000.%llu\r\n\r\n",
             index_of(b) + 5);
    a = ask(b, f, request);
    assert_string_equal(a.body, "two");
    assert_non_null(strstr(a.head, "Set-Cookie"));
    free(a.body);
    /* The database is away: rather nothing than less. */
    snprintf(request, sizeof request, "GET /" HOST "Cookie: cotidal_site=abababab.%llu\r\n\r\n",
             index_of(b) + 5);
    fake_stream_feed(f, slice_str(request));
    bench_turn(b);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE no\r\n");
    bench_turn(b);
    a = take_answer(f, false);
    assert_int_equal(a.status, 503);
    free(a.body);
    /* One who waits goes away. */
    fake_stream_feed(f, slice_str(request));
    bench_turn(b);
    bench_hang_up(b, f);
    bench_settle(b);
    bench_free(b);
}

static void test_old_assets_and_preview(void **state) {
    struct bench *b = bench_new(NULL);
    struct site_maker m = {0};
    add_file(&m, "/index.html", slice_str("one"));
    add_file(&m, "/main.3f2a91bc.js", slice_str("old"));
    unsigned one = deploy(b, &m);
    struct fake_stream *f = bench_http(b);
    for (int i = 0; i < 3; i++)
        expect(b, f, GET("/main.3f2a91bc.js"), 200, "old");
    add_file(&m, "/index.html", slice_str("two"));
    site_manifest_writer_texts(
        m.w,
        slice_str("/*\n  Cache-Control: public, max-age=600\n  CDN-Cache-Control: max-age=9\n"),
        slice_of(NULL, 0), slice_of(NULL, 0));
    unsigned two = upload(b, "default", &m);
    char request[200];
    snprintf(request, sizeof request, "GET /_/preview/%u" HOST "\r\n", two);
    struct answer a = ask(b, f, request);
    assert_int_equal(a.status, 303);
    free(a.body);
    snprintf(request, sizeof request, "GET /" HOST "Cookie: cotidal_preview=%u\r\n\r\n", two);
    for (int i = 0; i < 3; i++) {
        a = ask(b, f, request);
        assert_string_equal(a.body, "two");
        assert_non_null(strstr(a.head, "Site-Preview: "));
        assert_string_equal(field(&a, "Cache-Control"), "private, no-store");
        assert_null(strstr(a.head, "max-age"));
        assert_null(strstr(a.head, "Set-Cookie"));
        free(a.body);
        expect(b, f, GET("/"), 200, "one");
    }
    activate(b, two);
    for (int i = 0; i < 3; i++) {
        expect(b, f, GET("/"), 200, "two");
        expect(b, f, GET("/main.3f2a91bc.js"), 200, "old");
        expect(b, f, GET("/main.aaaaaaa1.js"), 404, NULL);
    }
    activate(b, one);
    expect(b, f, GET("/"), 200, "one");
    expect(b, f, "GET /_/preview/77" HOST "\r\n", 404, NULL);
    expect(b, f, "GET /_/preview/off" HOST "\r\n", 303, NULL);
    bench_free(b);
}

/* When there is no room in memory everything is served all the same. */
static void test_no_memory(void **state) {
    struct bench *b = bench_new(NULL);
    gateway_shared_sites(b->shared, NULL, 5);
    struct site_maker m = {0};
    add_file(&m, "/index.html", slice_str("more than five"));
    add_file(&m, "/s.txt", slice_str("five"));
    deploy(b, &m);
    struct fake_stream *f = bench_http(b);
    for (int i = 0; i < 4; i++) {
        expect(b, f, GET("/"), 200, "more than five");
        expect(b, f, GET("/s.txt"), 200, "five");
    }
    assert_int_equal(b->gw->metrics.site_quick_total, 0);
    assert_true(b->gw->sites->budget.bytes <= 5);
    bench_free(b);
}

static void test_api_refusals(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_http(b);
    struct answer a;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"site\":\"UP\"}",
        "{\"site\":\"a\"}",
        "{\"site\":\"a\",\"x\":1}",
        "{\"site\":\"a\",\"manifest\":{\"bytes\":64,\"blocks\":[]}}",
        "{\"site\":\"a\",\"manifest\":{\"bytes\":64,\"blocks\":[\"zz\"]}}",
        "{\"site\":\"a\",\"keep\":0}",
        "{\"site\":\"a\",\"hosts\":[\"a b\"]}",
        "{\"site\":\"a\",\"hosts\":\"a\"}",
        "{\"site\":\"a\",\"note\":1}"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        post(b, f, "/v1/deploys", slice_str(bad[i]), &a);
        assert_int_equal(a.status, 400);
        free(a.body);
    }
    post(b, f, "/v1/deploys/blocks", slice_str("abc"), &a);
    assert_int_equal(a.status, 400);
    free(a.body);
    post(b, f, "/v1/deploys/blocks", slice_of("\1\0\4\0", 4), &a);
    assert_int_equal(a.status, 400);
    free(a.body);
    post(b, f, "/v1/deploys/blocks/missing", slice_str("xyz\n"), &a);
    assert_int_equal(a.status, 400);
    free(a.body);
    post(b, f, "/v1/deploys/blocks/missing", slice_of(NULL, 0), &a);
    assert_int_equal(a.status, 200);
    free(a.body);
    expect(b, f, BODY("POST", "/v1/deploys/1/activate", "0", ""), 404, "no such deploy");
    expect(b, f, BODY("POST", "/v1/deploys/x/activate", "0", ""), 404, NULL);
    expect(b, f, BODY("POST", "/v1/deploys/1/pin?from=x", "0", ""), 400, NULL);
    expect(b, f, BODY("DELETE", "/v1/deploys/1", "0", ""), 404, NULL);
    expect(b, f, BODY("DELETE", "/v1/sites/none", "0", ""), 404, NULL);
    expect(b, f, GET("/v1/deploys/blocks/zz"), 404, NULL);
    expect(b, f,
           GET("/v1/deploys/blocks/"
               "0000000000000000000000000000000000000000000000000000000000000000"),
           404, NULL);
    expect(b, f, GET("/v1/sites"), 200, "\"sites\":[]");
    expect(b, f, GET("/"), 200, NULL); /* the welcome page */
    bench_free(b);
}

static void test_cookies(void **state) {
    static const struct {
        const char *value;
        uint64_t seen, preview;
    } rows[] = {
        {"cotidal_site=01020304.7", 7, 0},
        {"a=b; cotidal_site=01020304.7; cotidal_preview=9", 7, 9},
        {"cotidal_preview=9;cotidal_site=01020304.18446744073709551615", UINT64_MAX, 9},
        {"cotidal_site=01020304.", 0, 0},
        {"cotidal_site=01020304", 0, 0},
        {"cotidal_site=01020305.7", 0, 0},
        {"cotidal_site=01020304.-7", 0, 0},
        {"cotidal_site=01020304.99999999999999999999", 0, 0},
        {"xcotidal_site=01020304.7", 0, 0},
        {"cotidal_site", 0, 0},
        {";;;", 0, 0},
        {"", 0, 0},
    };
    const uint8_t cluster[16] = {1, 2, 3, 4};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct site_cookies c;
        struct http_head head = {.header_count = 1};
        head.headers[0] = (struct http_header){slice_str("cookie"), slice_str(rows[i].value)};
        site_cookies_parse(&head, cluster, &c);
        assert_int_equal(c.seen, rows[i].seen);
        assert_int_equal(c.preview, rows[i].preview);
    }
    struct buf out = {0};
    site_cookie_put(&out, cluster, 7);
    buf_append_u8(&out, 0);
    assert_string_equal(out.data, "cotidal_site=01020304.7; Path=/; HttpOnly; SameSite=Lax");
    buf_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_ways),
        cmocka_unit_test(test_conditions_and_heads),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_behind_others),
        cmocka_unit_test(test_unavailable),
        cmocka_unit_test(test_by_accept),
        cmocka_unit_test(test_empty_type),
        cmocka_unit_test(test_never_back),
        cmocka_unit_test(test_old_assets_and_preview),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_api_refusals),
        cmocka_unit_test(test_cookies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
