/* The authority of cotidal cert, and TLS between processes over fake streams: who takes whom,
 * whatever pieces the bytes come in, and reloading. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_stream.h"
#include "net/cert.h"
#include "net/tls_peer.h"
#include "test_certs.h"

static char folder[] = "/tmp/test_tls_peer.XXXXXX";
static char error[TLS_ERROR_BYTES];

static const char *path(const char *name) {
    static char paths[8][128];
    static int next;
    char *out = paths[next++ % 8];
    snprintf(out, sizeof paths[0], "%s/%s", folder, name);
    return out;
}

static void must(int rc) {
    if (rc < 0)
        fail_msg("%s", error);
}

static void make_node(const char *ca, const char *name, const char *san) {
    must(cert_make_node(path(ca), path("nodes"), name, &san, san != NULL, 30, error));
}

static int setup(void **state) {
    (void)state;
    CHECK(mkdtemp(folder) != NULL);
    must(cert_make_authority(path("ca"), "one", 90, error));
    must(cert_make_authority(path("ca2"), "another", 90, error));
    make_node("ca", "a.example", "127.0.0.1");
    make_node("ca", "b.example", NULL);
    make_node("ca", "192.0.2.7", "::1");
    make_node("ca2", "x.example", "a.example");
    return 0;
}

static int teardown(void **state) {
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* "b.example", "ca": nodes/b.example.pem and .key, ca/ca.pem */
static int open_peer(const char *name, const char *ca_file, struct tls_peer **ret) {
    char cert[128], key[128];
    snprintf(cert, sizeof cert, "%s/nodes/%s.pem", folder, name);
    snprintf(key, sizeof key, "%s/nodes/%s.key", folder, name);
    const struct tls_peer_options options = {
        .cert_file = cert, .key_file = key, .ca_file = path(ca_file)};
    return tls_peer_new(&options, ret, error);
}

static struct tls_peer *peer_new(const char *name) {
    struct tls_peer *p;
    must(open_peer(name, "ca/ca.pem", &p));
    return p;
}

/* ---- two ends ---- */

struct end {
    struct fake_stream *below;
    struct stream *s;
    struct buf got;
    int ready, closed, error;
    char refusal[128];
};

static void on_read(void *ctx, struct slice bytes) {
    buf_append_slice(&((struct end *)ctx)->got, bytes);
}
static void on_close(void *ctx, int code) {
    struct end *e = ctx;
    e->closed++;
    e->error = code;
    snprintf(e->refusal, sizeof e->refusal, "%s", tls_peer_refusal(e->s));
}
static const struct stream_handler handler = {.on_read = on_read, .on_close = on_close};
static void on_ready(void *ctx, struct stream *s) {
    ((struct end *)ctx)->ready++;
    (void)s;
}

static void move(struct end *from, struct end *to, size_t piece) {
    while (from->below->written.size > 0) {
        size_t n = from->below->written.size < piece ? from->below->written.size : piece;
        uint8_t *exact = xmemdup(from->below->written.data, n);
        (void)fake_stream_feed(to->below, slice_of(exact, n));
        free(exact);
        buf_consume(&from->below->written, n);
    }
}

static void talk(struct end *a, struct end *b, size_t piece) {
    while (a->below->written.size + b->below->written.size > 0) {
        move(a, b, piece);
        move(b, a, piece);
        fake_stream_turn(a->below);
        fake_stream_turn(b->below);
    }
}

static void begin(struct end *server, struct end *client, struct tls_peer *s, struct tls_peer *c,
                  const char *address) {
    *server = (struct end){.below = fake_stream_new()};
    *client = (struct end){.below = fake_stream_new()};
    server->s = tls_peer_accept(s, &server->below->base);
    stream_set_handler(server->s, &handler, server);
    client->s = tls_peer_connect(c, &client->below->base, address, on_ready, client);
    stream_set_handler(client->s, &handler, client);
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

static void expect_taken(struct tls_peer *s, struct tls_peer *c, const char *address,
                         size_t piece) {
    struct end server, client;
    begin(&server, &client, s, c, address);
    stream_write(client.s, slice_str("hello")); /* before there is a connection */
    talk(&server, &client, piece);
    if (server.closed || client.closed)
        fail_msg("%s; %s", server.refusal, client.refusal);
    assert_int_equal(client.ready, 1);
    assert_true(slice_equal_str(buf_slice(&server.got), "hello"));
    assert_string_equal(tls_version(client.s), "TLSv1.3");
    assert_string_equal(stream_protocol(server.s), "cotidal");
    assert_false(tls_resumed(client.s));
    assert_true(tls_peer_is_at(client.s, address));
    stream_write(server.s, slice_str("welcome"));
    talk(&server, &client, piece);
    assert_true(slice_equal_str(buf_slice(&client.got), "welcome"));
    end_end(&server);
    end_end(&client);
    assert_string_equal(server.refusal, "");
    assert_string_equal(client.refusal, "");
}

/* why: what either of the two says. */
static void expect_refused(struct tls_peer *s, struct tls_peer *c, const char *address,
                           const char *why) {
    struct end server, client;
    begin(&server, &client, s, c, address);
    stream_write(client.s, slice_str("hello"));
    talk(&server, &client, 100);
    if (!strstr(server.refusal, why) && !strstr(client.refusal, why))
        fail_msg("refused for other reasons: %s; %s", server.refusal, client.refusal);
    assert_int_equal(server.got.size, 0);
    end_end(&server);
    end_end(&client);
}

/* ---- the authority ---- */

static void test_files(void **state) {
    struct stat st;
    struct cert_info c;
    int64_t now_s = (int64_t)time(NULL);
    (void)state;
    assert_int_equal(stat(path("ca/ca.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(path("nodes/a.example.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(path("nodes"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    must(cert_read(path("ca/ca.pem"), &c, error));
    assert_true(c.authority);
    assert_string_equal(c.subject, "/CN=one");
    must(cert_read(path("nodes/a.example.pem"), &c, error));
    assert_false(c.authority);
    assert_string_equal(c.subject, "/CN=a.example");
    assert_string_equal(c.issuer, "/CN=one");
    assert_string_equal(c.names, "a.example, 127.0.0.1");
    assert_int_equal(strlen(c.serial), 32);
    assert_int_equal(strlen(c.sha256), 64);
    assert_in_range(now_s - c.not_before_s, 3500, 86400);
    assert_in_range(c.not_after_s - now_s, 29 * 86400, 30 * 86400 + 60);
    must(cert_read(path("nodes/192.0.2.7.pem"), &c, error));
    assert_string_equal(c.names, "192.0.2.7, ::1");
}

static void test_what_is_refused(void **state) {
    struct cert_info c;
    (void)state;
    assert_int_equal(cert_make_authority(path("ca"), "again", 1, error), -EEXIST);
    assert_non_null(strstr(error, "there is an authority already"));
    assert_int_equal(cert_make_authority(path("no/where"), "x", 1, error), -ENOENT);
    assert_int_equal(cert_make_node(path("nodes"), path("nodes"), "n", NULL, 0, 1, error), -ENOENT);
    assert_int_equal(cert_read(path("ca/ca.key"), &c, error), -EINVAL);
    assert_int_equal(cert_read(path("nothing"), &c, error), -ENOENT);
    /* Another authority's key beside this one's certificate. */
    assert_int_equal(mkdir(path("mixed"), 0700), 0);
    assert_int_equal(link(path("ca/ca.pem"), path("mixed/ca.pem")), 0);
    assert_int_equal(link(path("ca2/ca.key"), path("mixed/ca.key")), 0);
    assert_int_equal(cert_make_node(path("mixed"), path("nodes"), "n", NULL, 0, 1, error), -EINVAL);
    assert_non_null(strstr(error, "not the key"));
}

/* It ends no later than who signed it. */
static void test_lifetime(void **state) {
    struct cert_info ca, c;
    (void)state;
    must(cert_make_node(path("ca"), path("nodes"), "long", NULL, 0, 3650, error));
    must(cert_read(path("ca/ca.pem"), &ca, error));
    must(cert_read(path("nodes/long.pem"), &c, error));
    assert_int_equal(c.not_after_s, ca.not_after_s);
}

static void test_names(void **state) {
    static const char *const good[] = {"a",         "a.b", "node-1.example", "10.0.0.1", "::1",
                                       "fe80::1:2", "1"};
    static const char *const bad[] = {"",    ".",     "a.",    ".a",   "a..b", "-a",
                                      "a-",  "a_b",   "a,b",   "a/b",  "../a", "*.a",
                                      "a b", "DNS:a", "[::1]", "a:80", "a\n"};
    char longest[CERT_NAME_BYTES_MAX + 2];
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        assert_true(cert_name_valid(good[i]));
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        if (cert_name_valid(bad[i]))
            fail_msg("'%s' was taken", bad[i]);
    memset(longest, 'a', sizeof longest);
    longest[CERT_NAME_BYTES_MAX] = 0;
    assert_true(cert_name_valid(longest));
    longest[CERT_NAME_BYTES_MAX] = 'a';
    longest[CERT_NAME_BYTES_MAX + 1] = 0;
    assert_false(cert_name_valid(longest));
}

/* ---- connections ---- */

static void test_talk(void **state) {
    struct tls_peer *a = peer_new("a.example"), *b = peer_new("b.example"),
                    *c = peer_new("192.0.2.7");
    (void)state;
    for (size_t piece = 1; piece <= 700; piece += piece < 30 ? 1 : 37)
        expect_taken(a, b, "a.example:7070", piece);
    expect_taken(a, b, "127.0.0.1:1", SIZE_MAX);
    expect_taken(b, a, "b.example:7070", SIZE_MAX);
    expect_taken(c, a, "192.0.2.7:7070", SIZE_MAX);
    expect_taken(c, a, "[::1]:7070", SIZE_MAX);
    tls_peer_free(a);
    tls_peer_free(b);
    tls_peer_free(c);
}

/* Who connects wants whom it has asked for; a host that is none is nobody. */
static void test_other_hosts(void **state) {
    struct tls_peer *a = peer_new("a.example"), *b = peer_new("b.example");
    (void)state;
    expect_refused(a, b, "b.example:7070", "hostname mismatch");
    expect_refused(a, b, "127.0.0.2:7070", "IP address mismatch");
    expect_refused(a, b, ":7070", "hostname mismatch");
    expect_refused(a, b, "no address", "hostname mismatch");
    struct end server, client;
    begin(&server, &client, a, b, "a.example:1");
    talk(&server, &client, SIZE_MAX);
    assert_true(tls_peer_is_at(server.s, "b.example:99"));
    assert_false(tls_peer_is_at(server.s, "a.example:99"));
    assert_false(tls_peer_is_at(server.s, ":99"));
    assert_false(tls_peer_is_at(server.s, ""));
    end_end(&server);
    end_end(&client);
    tls_peer_free(a);
    tls_peer_free(b);
}

static void test_another_authority(void **state) {
    struct tls_peer *a = peer_new("a.example"), *x, *both;
    (void)state;
    must(open_peer("x.example", "ca2/ca.pem", &x));
    expect_refused(a, x, "a.example:1", "unable to get local issuer certificate");
    expect_refused(x, a, "a.example:1", "unable to get local issuer certificate");
    /* A client that trusts both is still refused by the server. */
    char command[512];
    snprintf(command, sizeof command, "cat %s %s > %s", path("ca/ca.pem"), path("ca2/ca.pem"),
             path("both.pem"));
    assert_int_equal(system(command), 0);
    must(open_peer("x.example", "both.pem", &both));
    expect_refused(a, both, "a.example:1", "unable to get local issuer certificate");
    tls_peer_free(both);
    /* On the way from one authority to the next: all trust both, and have certificates of either.
     */
    struct tls_peer *old;
    must(open_peer("x.example", "both.pem", &both));
    must(open_peer("b.example", "both.pem", &old));
    expect_taken(both, old, "x.example:1", SIZE_MAX);
    expect_taken(old, both, "b.example:1", SIZE_MAX);
    tls_peer_free(old);
    tls_peer_free(both);
    tls_peer_free(x);
    tls_peer_free(a);
}

/* A certificate of the right authority whose time is over, or that is not for both ends. */
static void write_signed(const char *name, long days) {
    struct test_cert ca, c;
    char cert[128], key[128];
    FILE *f = fopen(path("ca/ca.pem"), "r");
    ca.cert = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    f = fopen(path("ca/ca.key"), "r");
    ca.key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    c = test_cert_make(name, "DNS:e.example", days, &ca);
    snprintf(cert, sizeof cert, "%s/nodes/%s.pem", folder, name);
    snprintf(key, sizeof key, "%s/nodes/%s.key", folder, name);
    test_cert_write(&c, cert, key);
    test_cert_free(&c);
    test_cert_free(&ca);
}

static void test_expired(void **state) {
    struct tls_peer *a = peer_new("a.example"), *e;
    (void)state;
    write_signed("expired", -1);
    e = peer_new("expired"); /* it is for the others to say */
    expect_refused(a, e, "a.example:1", "certificate has expired");
    expect_refused(e, a, "e.example:1", "certificate has expired");
    tls_peer_free(e);
    tls_peer_free(a);
}

static void test_plain(void **state) {
    struct tls_peer *a = peer_new("a.example");
    struct end server, client;
    (void)state;
    begin(&server, &client, a, a, "a.example:1");
    fake_stream_feed_str(server.below, "CTL1");
    fake_stream_feed_str(client.below, "CTR1....");
    fake_stream_turn(server.below);
    fake_stream_turn(client.below);
    assert_string_equal(server.refusal, "the peer does not speak TLS");
    assert_string_equal(client.refusal, "the peer does not speak TLS");
    assert_int_equal(server.error, -EPROTO);
    end_end(&server);
    end_end(&client);
    /* One that does not answer a ClientHello. */
    begin(&server, &client, a, a, "a.example:1");
    fake_stream_break(client.below, -ECONNRESET);
    fake_stream_turn(client.below);
    assert_string_equal(client.refusal, "the connection ended during the handshake");
    end_end(&server);
    end_end(&client);
    /* One that is not there is nothing about TLS. */
    begin(&server, &client, a, a, "a.example:1");
    fake_stream_break(client.below, -ECONNREFUSED);
    fake_stream_turn(client.below);
    assert_string_equal(client.refusal, "");
    end_end(&server);
    end_end(&client);
    struct fake_stream *bare = fake_stream_new();
    assert_string_equal(tls_peer_refusal(&bare->base), "");
    fake_stream_free(bare);
    tls_peer_free(a);
}

static void test_reload(void **state) {
    struct tls_peer *a, *b = peer_new("b.example");
    struct end server, client;
    struct cert_info before, after;
    (void)state;
    make_node("ca", "r.example", NULL);
    must(cert_read(path("nodes/r.example.pem"), &before, error));
    a = peer_new("r.example");
    begin(&server, &client, a, b, "r.example:1");
    talk(&server, &client, SIZE_MAX);
    /* The certificate is renewed, with one more name. */
    make_node("ca", "r.example", "new.example");
    must(cert_read(path("nodes/r.example.pem"), &after, error));
    assert_string_not_equal(before.serial, after.serial);
    expect_refused(a, b, "new.example:1", "hostname mismatch");
    must(tls_peer_reload(a, error));
    expect_taken(a, b, "new.example:1", SIZE_MAX);
    expect_taken(b, a, "b.example:1", SIZE_MAX);
    assert_string_equal(tls_peer_certificate(a).names, "r.example, new.example");
    /* The connection from before goes on. */
    stream_write(client.s, slice_str("still here"));
    talk(&server, &client, SIZE_MAX);
    assert_true(slice_equal_str(buf_slice(&server.got), "still here"));
    /* What is not right is not taken: the key of another. */
    assert_int_equal(rename(path("nodes/r.example.key"), path("kept.key")), 0);
    assert_int_equal(link(path("nodes/b.example.key"), path("nodes/r.example.key")), 0);
    assert_int_equal(tls_peer_reload(a, error), -EINVAL);
    assert_non_null(strstr(error, "not the key of the certificate"));
    expect_taken(a, b, "new.example:1", SIZE_MAX);
    expect_taken(b, a, "b.example:1", SIZE_MAX);
    end_end(&server);
    end_end(&client);
    tls_peer_free(a);
    tls_peer_free(b);
}

/* Said at the start, not when others refuse it. */
static void test_not_for_this_authority(void **state) {
    struct tls_peer *p;
    (void)state;
    assert_int_equal(open_peer("x.example", "ca/ca.pem", &p), -EINVAL);
    assert_non_null(strstr(error, "would refuse it: unable to get local issuer certificate"));
    assert_int_equal(open_peer("a.example", "nodes/a.example.key", &p), -EINVAL);
    assert_int_equal(open_peer("nobody", "ca/ca.pem", &p), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_talk),
        cmocka_unit_test(test_other_hosts),
        cmocka_unit_test(test_another_authority),
        cmocka_unit_test(test_expired),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_not_for_this_authority),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
