/* TLS streams over fake ones: our server with our client and with OpenSSL's own, in pieces of every
 * size; certificates by name, reloading, tickets, mutual verification, ends, back-pressure. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ssl.h>

#include "fake_stream.h"
#include "net/tls.h"
#include "test_certs.h"

/* ---- files ---- */

static char folder[] = "/tmp/test_tls.XXXXXX";
static struct test_cert authority, other_authority;

static const char *path(const char *name) {
    static char paths[8][128];
    static int next;
    char *out = paths[next++ % 8];
    snprintf(out, sizeof paths[0], "%s/%s", folder, name);
    return out;
}

static void write_pair(const char *cert, const char *key, const char *names, long days) {
    struct test_cert c = test_cert_make("test", names, days, &authority);
    test_cert_write(&c, path(cert), path(key));
    test_cert_free(&c);
}

static int setup(void **state) {
    CHECK(mkdtemp(folder) != NULL);
    authority = test_cert_make("authority", NULL, 30, NULL);
    other_authority = test_cert_make("other", NULL, 30, NULL);
    test_cert_write(&authority, path("ca.pem"), NULL);
    test_cert_write(&other_authority, path("other-ca.pem"), NULL);
    write_pair("a.pem", "a.key", "DNS:a.example,IP:127.0.0.1", 30);
    write_pair("b.pem", "b.key", "DNS:b.example,DNS:*.b.example", 30);
    return 0;
}

static int teardown(void **state) {
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    test_cert_free(&authority);
    test_cert_free(&other_authority);
    return system(command);
}

static struct tls_server *server_new(const char *client_ca) {
    const struct tls_pair pairs[] = {{path("a.pem"), path("a.key")},
                                     {path("b.pem"), path("b.key")}};
    const struct tls_server_options options = {
        .pairs = pairs, .pair_count = 2, .client_ca_file = client_ca};
    char error[TLS_ERROR_BYTES] = "";
    struct tls_server *s;
    if (tls_server_new(&options, &s, error) < 0)
        fail_msg("%s", error);
    return s;
}

static struct tls_client *client_new(const char *ca, const char *cert, const char *key) {
    const struct tls_client_options options = {.ca_file = ca, .cert_file = cert, .key_file = key};
    char error[TLS_ERROR_BYTES] = "";
    struct tls_client *c;
    if (tls_client_new(&options, &c, error) < 0)
        fail_msg("%s", error);
    return c;
}

/* ---- two ends ---- */

struct end {
    struct fake_stream *below;
    struct stream *s;
    struct buf got;
    int ready, reads, drains, eofs, closed, error;
    char failure[128];
};

struct pair {
    struct end server, client;
};

static void on_read(void *ctx, struct slice bytes) {
    struct end *e = ctx;
    e->reads++;
    assert_int_equal(e->closed, 0);
    buf_append_slice(&e->got, bytes);
}
static void on_drain(void *ctx) {
    ((struct end *)ctx)->drains++;
}
static void on_eof(void *ctx) {
    ((struct end *)ctx)->eofs++;
}
static void on_close(void *ctx, int error) {
    struct end *e = ctx;
    e->closed++;
    e->error = error;
    snprintf(e->failure, sizeof e->failure, "%s", tls_failure(e->s));
}
static const struct stream_handler end_handler = {
    .on_read = on_read, .on_drain = on_drain, .on_eof = on_eof, .on_close = on_close};

static void on_ready(void *ctx, struct stream *s) {
    struct end *e = ctx;
    e->ready++;
    assert_ptr_equal(e->s, s);
}

static void pair_begin(struct pair *p, struct tls_server *s, struct tls_client *c, const char *host,
                       const char *client_alpn) {
    *p = (struct pair){0};
    p->server.below = fake_stream_new();
    p->client.below = fake_stream_new();
    p->server.s = tls_accept(s, &p->server.below->base, "h2,http/1.1", on_ready, &p->server);
    stream_set_handler(p->server.s, &end_handler, &p->server);
    p->client.s = tls_connect(c, &p->client.below->base, host, client_alpn, on_ready, &p->client);
    stream_set_handler(p->client.s, &end_handler, &p->client);
}

static bool move(struct fake_stream *from, struct fake_stream *to, size_t piece) {
    bool some = from->written.size > 0;
    while (from->written.size > 0) {
        size_t n = from->written.size < piece ? from->written.size : piece;
        uint8_t *exact = xmemdup(from->written.data, n);
        bool taken = fake_stream_feed(to, slice_of(exact, n));
        free(exact);
        if (!taken && to->paused)
            return false;
        buf_consume(&from->written, n);
    }
    return some;
}

/* Until nothing moves any more. */
static void talk(struct pair *p, size_t piece) {
    for (;;) {
        bool some = move(p->client.below, p->server.below, piece);
        some |= move(p->server.below, p->client.below, piece);
        /* The end of one side is seen by the other behind its bytes. */
        if (p->client.below->closing && !p->server.below->closing && !some)
            fake_stream_eof(p->server.below);
        if (p->server.below->closing && !p->client.below->closing && !some)
            fake_stream_eof(p->client.below);
        fake_stream_turn(p->client.below);
        fake_stream_turn(p->server.below);
        if (!some)
            return;
    }
}

static void end_end(struct end *e) {
    if (!e->below->closed) {
        fake_stream_break(e->below, 0);
        fake_stream_turn(e->below);
    }
    assert_int_equal(e->closed, 1);
    fake_stream_free(e->below);
    buf_fini(&e->got);
}

static void pair_end(struct pair *p) {
    end_end(&p->server);
    end_end(&p->client);
}

static void assert_got(struct end *e, const char *text) {
    assert_true(slice_equal_str(buf_slice(&e->got), text));
    buf_reset(&e->got);
}

/* ---- tests ---- */

static void test_talk(void **state) {
    struct tls_server *s = server_new(NULL);
    struct tls_client *c = client_new(path("ca.pem"), NULL, NULL);
    for (size_t piece = 1; piece <= 700; piece += piece < 40 ? 1 : 13) {
        struct pair p;
        pair_begin(&p, s, c, "a.example", "http/1.1,h2");
        stream_write(p.client.s, slice_str("early "));
        talk(&p, piece);
        assert_int_equal(p.server.ready, 1);
        assert_int_equal(p.client.ready, 1);
        assert_string_equal(stream_protocol(p.server.s), "h2"); /* the server's order counts */
        assert_string_equal(stream_protocol(p.client.s), "h2");
        assert_string_equal(tls_version(p.client.s), "TLSv1.3");
        assert_string_equal(stream_peer(p.client.s), "192.0.2.1:1234");
        stream_write(p.client.s, slice_str("hello"));
        stream_write(p.client.s, slice_of(NULL, 0));
        stream_write(p.server.s, slice_str("welcome"));
        talk(&p, piece);
        assert_got(&p.server, "early hello");
        assert_got(&p.client, "welcome");
        assert_int_equal(stream_pending_bytes(p.client.s), 0);
        assert_int_equal(p.client.drains, 1); /* of what was written before */
        assert_int_equal(p.server.drains, 0);
        pair_end(&p);
    }
    tls_client_free(c);
    tls_server_free(s);
}

/* All that one read brings is one on_read, so that a pause holds the next. */
static void test_one_read(void **state) {
    struct tls_server *s = server_new(NULL);
    struct tls_client *c = client_new(path("ca.pem"), NULL, NULL);
    struct pair p;
    char text[50000];
    memset(text, 'x', sizeof text);
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    stream_write(p.client.s, slice_of(text, sizeof text));
    talk(&p, 65536);
    assert_int_equal(p.server.reads, 1);
    assert_int_equal(p.server.got.size, sizeof text);
    stream_pause(p.server.s);
    stream_write(p.client.s, slice_str("more"));
    talk(&p, SIZE_MAX);
    assert_int_equal(p.server.reads, 1);
    stream_resume(p.server.s);
    talk(&p, SIZE_MAX);
    assert_int_equal(p.server.reads, 2);
    /* More at once than is decrypted at a time. */
    buf_reset(&p.server.got);
    for (int i = 0; i < 20; i++)
        stream_write(p.client.s, slice_of(text, sizeof text));
    talk(&p, SIZE_MAX);
    assert_int_equal(p.server.got.size, 20 * sizeof text);
    pair_end(&p);
    tls_client_free(c);
    tls_server_free(s);
}

static void test_back_pressure(void **state) {
    struct tls_server *s = server_new(NULL);
    struct tls_client *c = client_new(path("ca.pem"), NULL, NULL);
    struct buf content = {0};
    struct pair p;
    for (uint32_t i = 0; i < 1000000; i++)
        buf_append_u32(&content, i);
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    fake_stream_block(p.server.below);
    stream_write(p.server.s, buf_slice(&content));
    assert_in_range(p.server.below->held.size, 256 * 1024, 400 * 1024);
    assert_true(stream_pending_bytes(p.server.s) >= content.size);
    stream_write(p.server.s, slice_str("end"));
    /* What is written and not out yet still goes out before the end. */
    stream_shutdown(p.server.s);
    for (int i = 0; i < 100 && !p.server.below->closing; i++) {
        fake_stream_unblock(p.server.below);
        fake_stream_block(p.server.below);
        talk(&p, 65536);
    }
    fake_stream_unblock(p.server.below);
    talk(&p, 65536);
    assert_int_equal(p.client.got.size, content.size + 3);
    assert_memory_equal(p.client.got.data, content.data, content.size);
    assert_int_equal(p.client.eofs, 1);
    assert_int_equal(p.server.drains, 0);
    pair_end(&p);
    /* on_drain comes once, when all is out. */
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    fake_stream_block(p.server.below);
    stream_write(p.server.s, buf_slice(&content));
    while (stream_pending_bytes(p.server.s) > 0) {
        assert_int_equal(p.server.drains, 0);
        fake_stream_unblock(p.server.below);
        if (stream_pending_bytes(p.server.s) > 0)
            fake_stream_block(p.server.below);
        talk(&p, SIZE_MAX);
    }
    assert_int_equal(p.server.drains, 1);
    assert_int_equal(p.client.got.size, content.size);
    pair_end(&p);
    buf_fini(&content);
    tls_client_free(c);
    tls_server_free(s);
}

/* What waits below goes, and what comes then waits again. */
static void drain_once(struct fake_stream *f) {
    buf_append_slice(&f->written, buf_slice(&f->held));
    buf_reset(&f->held);
    f->base.handler->on_drain(f->base.ctx);
}

/* The other side always reads a little less than what is written: all comes, in order, and what has
 * gone is given up on the way. */
static void test_always_behind(void **state) {
    struct tls_server *s = server_new(NULL);
    struct tls_client *c = client_new(path("ca.pem"), NULL, NULL);
    static uint32_t piece[125000];
    uint32_t next = 0;
    struct pair p;
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    fake_stream_block(p.server.below);
    for (int i = 0; i < 40; i++) {
        for (size_t k = 0; k < ARRAY_COUNT(piece); k++)
            piece[k] = next++;
        stream_write(p.server.s, slice_of(piece, sizeof piece));
        drain_once(p.server.below);
        talk(&p, 65536);
        assert_true(stream_pending_bytes(p.server.s) > 0);
    }
    fake_stream_unblock(p.server.below);
    talk(&p, SIZE_MAX);
    assert_int_equal(stream_pending_bytes(p.server.s), 0);
    assert_int_equal(p.client.got.size, 40 * sizeof piece);
    for (uint32_t k = 0; k < next; k++) {
        uint32_t got;
        memcpy(&got, p.client.got.data + 4 * (size_t)k, 4);
        assert_int_equal(got, k);
    }
    assert_int_equal(p.server.drains, 1);
    pair_end(&p);
    tls_client_free(c);
    tls_server_free(s);
}

static void test_ends(void **state) {
    struct tls_server *s = server_new(NULL);
    struct tls_client *c = client_new(path("ca.pem"), NULL, NULL);
    struct pair p;
    /* An orderly one: the other side may still write. */
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    stream_write(p.client.s, slice_str("last"));
    stream_shutdown(p.client.s);
    stream_write(p.client.s, slice_str("too late"));
    talk(&p, 1);
    assert_got(&p.server, "last");
    assert_int_equal(p.server.eofs, 1);
    assert_int_equal(p.server.closed, 0);
    stream_shutdown(p.server.s);
    talk(&p, 1);
    assert_int_equal(p.server.closed, 1);
    assert_int_equal(p.server.error, 0);
    pair_end(&p);
    /* Cut off. */
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    fake_stream_eof(p.server.below);
    talk(&p, SIZE_MAX);
    assert_int_equal(p.server.eofs, 0);
    assert_int_equal(p.server.error, -EPROTO);
    assert_string_equal(p.server.failure, "the peer ended the connection without close_notify");
    pair_end(&p);
    /* Broken. */
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    fake_stream_break(p.server.below, -ECONNRESET);
    fake_stream_turn(p.server.below);
    assert_int_equal(p.server.error, -ECONNRESET);
    pair_end(&p);
    /* At once, with something unwritten; twice. */
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    fake_stream_block(p.server.below);
    stream_write(p.server.s, slice_str("lost"));
    stream_close(p.server.s);
    stream_close(p.server.s);
    stream_write(p.server.s, slice_str("nothing"));
    fake_stream_turn(p.server.below);
    assert_int_equal(p.server.error, 0);
    pair_end(&p);
    /* During the handshake, and before what was written could go. */
    pair_begin(&p, s, c, "a.example", "");
    stream_write(p.client.s, slice_str("all"));
    stream_shutdown(p.client.s);
    talk(&p, 7);
    assert_got(&p.server, "all");
    assert_int_equal(p.server.eofs, 1);
    pair_end(&p);
    pair_begin(&p, s, c, "a.example", "");
    fake_stream_eof(p.server.below);
    fake_stream_turn(p.server.below);
    assert_int_equal(p.server.error, -EPROTO);
    pair_end(&p);
    tls_client_free(c);
    tls_server_free(s);
}

/* What comes is no TLS, or is changed on the way. */
static void test_garbage(void **state) {
    struct tls_server *s = server_new(NULL);
    struct tls_client *c = client_new(path("ca.pem"), NULL, NULL);
    struct pair p;
    pair_begin(&p, s, c, "a.example", "");
    fake_stream_feed_str(p.server.below, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    fake_stream_turn(p.server.below);
    assert_int_equal(p.server.error, -EPROTO);
    assert_int_equal(p.server.ready, 0);
    pair_end(&p);
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    stream_write(p.client.s, slice_str("something"));
    p.client.below->written.data[p.client.below->written.size - 1] ^= 1;
    talk(&p, 3);
    assert_int_equal(p.server.got.size, 0);
    assert_int_equal(p.server.error, -EPROTO);
    assert_int_equal(p.client.error, -EPROTO); /* an alert told it */
    pair_end(&p);
    tls_client_free(c);
    tls_server_free(s);
}

static void expect_refused(struct tls_server *s, struct tls_client *c, const char *host,
                           const char *alpn, const char *why) {
    struct pair p;
    pair_begin(&p, s, c, host, alpn);
    talk(&p, 50);
    if (!strstr(p.client.failure, why) && !strstr(p.server.failure, why))
        fail_msg("refused for other reasons: %s; %s", p.client.failure, p.server.failure);
    assert_int_equal(p.server.got.size, 0);
    pair_end(&p);
}

static void expect_taken(struct tls_server *s, struct tls_client *c, const char *host) {
    struct pair p;
    pair_begin(&p, s, c, host, "");
    stream_write(p.client.s, slice_str("hello"));
    talk(&p, 500);
    if (p.client.closed || p.server.closed)
        fail_msg("%s; %s", p.client.failure, p.server.failure);
    assert_got(&p.server, "hello");
    assert_true(tls_peer_is(p.client.s, host));
    assert_false(tls_peer_is(p.client.s, "someone.else"));
    pair_end(&p);
}

static void test_names(void **state) {
    struct tls_server *s = server_new(NULL);
    struct tls_client *c = client_new(path("ca.pem"), NULL, NULL);
    expect_taken(s, c, "a.example");
    expect_taken(s, c, "127.0.0.1");
    expect_taken(s, c, "b.example");
    expect_taken(s, c, "x.b.example");
    expect_refused(s, c, "c.example", "", "hostname mismatch");
    expect_refused(s, c, "127.0.0.2", "", "IP address mismatch");
    expect_refused(s, c, "a.example", "other", "no application protocol");
    struct tls_client *stranger = client_new(path("other-ca.pem"), NULL, NULL);
    expect_refused(s, stranger, "a.example", "", "unable to get local issuer certificate");
    tls_client_free(stranger);
    tls_client_free(c);
    tls_server_free(s);
}

/* Mutual: as between the nodes of a cluster. */
static void test_client_certificates(void **state) {
    struct tls_server *s = server_new(path("ca.pem"));
    struct tls_client *without = client_new(path("ca.pem"), NULL, NULL);
    struct tls_client *with = client_new(path("ca.pem"), path("b.pem"), path("b.key"));
    struct test_cert strange = test_cert_make("x", "DNS:b.example", 30, &other_authority);
    test_cert_write(&strange, path("x.pem"), path("x.key"));
    test_cert_free(&strange);
    struct tls_client *other = client_new(path("ca.pem"), path("x.pem"), path("x.key"));
    struct pair p;
    expect_refused(s, without, "a.example", "", "peer did not return a certificate");
    expect_refused(s, other, "a.example", "", "unable to get local issuer certificate");
    pair_begin(&p, s, with, "a.example", "");
    talk(&p, 50);
    assert_int_equal(p.server.ready, 1);
    assert_true(tls_peer_is(p.server.s, "b.example"));
    assert_true(tls_peer_is(p.server.s, "y.b.example"));
    assert_false(tls_peer_is(p.server.s, "a.example"));
    pair_end(&p);
    tls_client_free(without);
    tls_client_free(with);
    tls_client_free(other);
    tls_server_free(s);
}

static void copy(const char *from, const char *to) {
    char command[300];
    snprintf(command, sizeof command, "cp %s %s", path(from), path(to));
    assert_int_equal(system(command), 0);
}

static void test_reload(void **state) {
    char error[TLS_ERROR_BYTES] = "";
    copy("a.pem", "r.pem");
    copy("a.key", "r.key");
    const struct tls_pair one = {path("r.pem"), path("r.key")};
    const struct tls_server_options options = {.pairs = &one, .pair_count = 1};
    struct tls_client *c = client_new(path("ca.pem"), NULL, NULL);
    struct tls_server *s;
    struct pair p;
    assert_int_equal(tls_server_new(&options, &s, error), 0);
    pair_begin(&p, s, c, "a.example", "");
    talk(&p, SIZE_MAX);
    /* The certificate is there and its key is not yet: all stays. */
    copy("b.pem", "r.pem");
    assert_int_equal(tls_server_reload(s, error), -EINVAL);
    assert_non_null(strstr(error, "r.key: not the key of the certificate"));
    expect_taken(s, c, "a.example");
    copy("b.key", "r.key");
    assert_int_equal(tls_server_reload(s, error), 0);
    expect_taken(s, c, "b.example");
    expect_refused(s, c, "a.example", "", "hostname mismatch");
    /* Who was there goes on. */
    stream_write(p.client.s, slice_str("still"));
    talk(&p, SIZE_MAX);
    assert_got(&p.server, "still");
    pair_end(&p);
    assert_int_equal(unlink(path("r.pem")), 0);
    assert_int_equal(tls_server_reload(s, error), -EINVAL);
    assert_non_null(strstr(error, "No such file"));
    expect_taken(s, c, "b.example");
    tls_server_free(s);
    tls_client_free(c);
}

static void test_bad_files(void **state) {
    static const struct {
        const char *cert, *key, *why;
    } rows[] = {
        {"none.pem", "a.key", "none.pem: not a certificate in PEM that can be read: No such file"},
        {"a.key", "a.key", "a.key: not a certificate in PEM that can be read"},
        {"a.pem", "none.key", "none.key: not a key in PEM"},
        {"a.pem", "a.pem", "a.pem: not a key in PEM"},
        {"a.pem", "b.key", "b.key: not the key of the certificate"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct tls_pair one = {path(rows[i].cert), path(rows[i].key)};
        const struct tls_server_options options = {.pairs = &one, .pair_count = 1};
        struct tls_server *s;
        char error[TLS_ERROR_BYTES] = "";
        assert_int_equal(tls_server_new(&options, &s, error), -EINVAL);
        if (!strstr(error, rows[i].why))
            fail_msg("%s", error);
    }
    struct tls_client *c;
    char error[TLS_ERROR_BYTES] = "";
    const struct tls_client_options options = {.ca_file = path("a.key")};
    assert_int_equal(tls_client_new(&options, &c, error), -EINVAL);
}

static void test_certificates(void **state) {
    write_pair("short.pem", "short.key", "DNS:short.example", 2);
    const struct tls_pair pairs[] = {{path("b.pem"), path("b.key")},
                                     {path("short.pem"), path("short.key")}};
    const struct tls_server_options options = {.pairs = pairs, .pair_count = 2};
    struct tls_server *s;
    struct tls_certificate certs[2];
    char error[TLS_ERROR_BYTES] = "";
    assert_int_equal(tls_server_new(&options, &s, error), 0);
    assert_int_equal(tls_server_certificates(s, certs, 1), 2);
    assert_int_equal(tls_server_certificates(s, certs, 2), 2);
    assert_string_equal(certs[0].file, path("b.pem"));
    assert_string_equal(certs[0].names, "b.example, *.b.example");
    assert_in_range(certs[0].not_after_s - certs[1].not_after_s, 28 * 86400 - 5, 28 * 86400 + 5);
    assert_int_equal(certs[1].not_after_s - certs[1].not_before_s, 3 * 86400);
    tls_server_free(s);
}

/* ---- OpenSSL's own client ---- */

struct raw {
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
    struct end server;
};

static SSL_SESSION *session; /* the newest ticket */

static int on_session(SSL *ssl, SSL_SESSION *s) {
    SSL_SESSION_free(session);
    session = s;
    return 1;
}

static void raw_begin(struct raw *r, struct tls_server *s, int version) {
    *r = (struct raw){.context = SSL_CTX_new(TLS_client_method())};
    SSL_CTX_set_security_level(r->context, 0);
    SSL_CTX_set_min_proto_version(r->context, version);
    SSL_CTX_set_max_proto_version(r->context, version);
    SSL_CTX_set_session_cache_mode(r->context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(r->context, on_session);
    r->ssl = SSL_new(r->context);
    r->in = BIO_new(BIO_s_mem());
    r->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(r->in, -1);
    SSL_set_bio(r->ssl, r->in, r->out);
    SSL_set_connect_state(r->ssl);
    r->server.below = fake_stream_new();
    r->server.s = tls_accept(s, &r->server.below->base, "", on_ready, &r->server);
    stream_set_handler(r->server.s, &end_handler, &r->server);
}

static void raw_move(struct raw *r) {
    char bytes[20000];
    int n;
    while ((n = BIO_read(r->out, bytes, sizeof bytes)) > 0)
        fake_stream_feed(r->server.below, slice_of(bytes, (size_t)n));
    struct buf *written = &r->server.below->written;
    if (written->size > 0)
        BIO_write(r->in, written->data, (int)written->size);
    buf_reset(written);
    fake_stream_turn(r->server.below);
}

static bool raw_handshake(struct raw *r) {
    for (int i = 0; i < 10; i++) {
        int rc = SSL_do_handshake(r->ssl);
        raw_move(r);
        if (rc == 1) {
            char c;
            SSL_read(r->ssl, &c, 1); /* takes tickets in */
            return true;
        }
    }
    return false;
}

static void raw_end(struct raw *r) {
    end_end(&r->server);
    SSL_free(r->ssl);
    SSL_CTX_free(r->context);
}

static void test_versions(void **state) {
    struct tls_server *s = server_new(NULL);
    struct raw r;
    static const int versions[] = {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < ARRAY_COUNT(versions); i++) {
        raw_begin(&r, s, versions[i]);
        assert_int_equal(raw_handshake(&r), versions[i] >= TLS1_2_VERSION);
        assert_int_equal(r.server.ready, versions[i] >= TLS1_2_VERSION);
        raw_end(&r);
    }
    /* Ciphers without forward secrecy are not spoken. */
    raw_begin(&r, s, TLS1_2_VERSION);
    assert_int_equal(SSL_set_cipher_list(r.ssl, "AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA"), 1);
    assert_false(raw_handshake(&r));
    raw_end(&r);
    /* Renegotiation is refused, and what was agreed goes on. */
    raw_begin(&r, s, TLS1_2_VERSION);
    assert_true(raw_handshake(&r));
    assert_int_equal(SSL_renegotiate(r.ssl), 1);
    SSL_do_handshake(r.ssl);
    raw_move(&r);
    SSL_do_handshake(r.ssl);
    raw_move(&r);
    assert_int_equal(r.server.ready, 1);
    assert_true(SSL_renegotiate_pending(r.ssl) || r.server.closed);
    raw_end(&r);
    tls_server_free(s);
}

/* Each of these asks for an answer (RFC 8446 section 4.6.3), which a client need not take. */
static void test_key_updates(void **state) {
    struct tls_server *s = server_new(NULL);
    struct raw r;
    raw_begin(&r, s, TLS1_3_VERSION);
    assert_true(raw_handshake(&r));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_key_update(r.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_write(r.ssl, "hello", 5), 5);
        raw_move(&r);
    }
    assert_got(&r.server, "hellohellohello");
    fake_stream_block(r.server.below);
    int count = 0;
    for (; count < 40000 && !r.server.closed; count++) {
        assert_int_equal(SSL_key_update(r.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(r.ssl), 1);
        raw_move(&r);
        assert_true(r.server.below->held.size < 600 * 1024);
    }
    assert_true(r.server.closed);
    raw_end(&r);
    tls_server_free(s);
}

/* Whether the ticket is taken. Frees it: in TLS 1.3 one is good for one connection. */
static bool resumes(struct tls_server *s, int version, SSL_SESSION *ticket) {
    struct raw r;
    raw_begin(&r, s, version);
    if (ticket)
        assert_int_equal(SSL_set_session(r.ssl, ticket), 1);
    assert_true(raw_handshake(&r));
    bool resumed = SSL_session_reused(r.ssl) == 1;
    assert_int_equal(tls_resumed(r.server.s), resumed);
    SSL_set_shutdown(r.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* an orderly end */
    raw_end(&r);
    SSL_SESSION_free(ticket);
    return resumed;
}

static SSL_SESSION *fresh(struct tls_server *s, int version) {
    assert_false(resumes(s, version, NULL));
    SSL_SESSION *ticket = session;
    assert_non_null(ticket);
    session = NULL;
    return ticket;
}

static void test_tickets(void **state) {
    char error[TLS_ERROR_BYTES];
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_server *s = server_new(NULL), *other = server_new(NULL);
        assert_true(resumes(s, version, fresh(s, version)));
        assert_false(resumes(other, version, fresh(s, version)));
        SSL_SESSION *one = fresh(s, version), *two = fresh(s, version), *three = fresh(s, version);
        assert_int_equal(tls_server_reload(s, error), 0);
        assert_true(resumes(s, version, one));
        /* The key before the newest is still taken, the one before that is not. */
        tls_server_rotate_tickets(s);
        assert_true(resumes(s, version, two));
        tls_server_rotate_tickets(s);
        assert_false(resumes(s, version, three));
        tls_server_free(s);
        tls_server_free(other);
    }
    SSL_SESSION_free(session);
    session = NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talk),          cmocka_unit_test(test_one_read),
        cmocka_unit_test(test_back_pressure), cmocka_unit_test(test_always_behind),
        cmocka_unit_test(test_ends),          cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_names),         cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_reload),        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_certificates),  cmocka_unit_test(test_versions),
        cmocka_unit_test(test_tickets),       cmocka_unit_test(test_key_updates),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
