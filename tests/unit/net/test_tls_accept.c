/* The acceptor on a real loop: handshakes that are done, that fail, that never end, and too many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/tcp.h"
#include "net/tls.h"
#include "net_test.h"
#include "test_certs.h"

static struct runner *runner;
static struct tls_server *server;
static struct tls_client *client;
static struct tls_acceptor *acceptor;
static struct listener *listener;
static char address[64];

/* What the server's side hears. */
static bool something;
static int taken, failed, closed;
static char reason[128];
static char got[64];

static void server_on_read(void *ctx, struct slice bytes) {
    strncat(got, (const char *)bytes.data, bytes.size);
    something = true;
}
static void server_on_close(void *ctx, int error) {
    closed++;
    something = true;
}
static const struct stream_handler server_handler = {.on_read = server_on_read,
                                                     .on_close = server_on_close};

static void on_stream(void *ctx, struct stream *s) {
    taken++;
    stream_set_handler(s, &server_handler, NULL);
}
static void on_failure(void *ctx, const char *why) {
    failed++;
    snprintf(reason, sizeof reason, "%s", why);
    something = true;
}
static void on_accept(void *ctx, struct stream *s) {
    tls_acceptor_take(acceptor, s);
}

static void nobody_on_read(void *ctx, struct slice bytes) {
}
/* ctx, when not NULL, is where the test keeps the stream. */
static void nobody_on_close(void *ctx, int error) {
    if (ctx)
        *(struct stream **)ctx = NULL;
}
static const struct stream_handler nobody = {.on_read = nobody_on_read,
                                             .on_close = nobody_on_close};

static struct stream *clients[4]; /* NULL: closed */

static struct stream *connect_plain(int i) {
    clients[i] = tcp_connect(runner->loop, address, 0, NULL, NULL);
    stream_set_handler(clients[i], &nobody, &clients[i]);
    return clients[i];
}

static void close_clients(void) {
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++)
        if (clients[i])
            stream_close(clients[i]);
}

static void wait_for_something(void) {
    something = false;
    run_until(runner, &something);
}

static void begin(uint32_t time_limit_ms) {
    const struct tls_acceptor_handler handler = {.on_stream = on_stream, .on_failure = on_failure};
    const struct address at = {.host = "127.0.0.1"};
    taken = failed = closed = 0;
    got[0] = 0;
    runner = runner_new();
    acceptor = tls_acceptor_new(runner->loop, server, "", time_limit_ms, &handler);
    assert_int_equal(listener_new(runner->loop, &at, false, 16, on_accept, NULL, &listener), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", listener_port(listener));
}

static void end(void) {
    close_clients();
    listener_free(listener);
    tls_acceptor_free(acceptor);
    runner_free(runner);
}

static void test_done(void **state) {
    begin(10000);
    struct stream *s = tls_connect(client, tcp_connect(runner->loop, address, 0, NULL, NULL),
                                   "localhost", "", NULL, NULL);
    stream_set_handler(s, &nobody, NULL);
    stream_write(s, slice_str("hello"));
    wait_for_something();
    assert_string_equal(got, "hello");
    assert_int_equal(taken, 1);
    assert_int_equal(tls_acceptor_count(acceptor), 0);
    stream_shutdown(s);
    wait_for_something();
    assert_int_equal(closed, 1);
    assert_int_equal(failed, 0);
    end();
}

static void test_failed(void **state) {
    begin(10000);
    stream_write(connect_plain(0), slice_str("GET / HTTP/1.1\r\n\r\n"));
    wait_for_something();
    assert_int_equal(failed, 1);
    assert_int_equal(taken, 0);
    stream_shutdown(connect_plain(1));
    wait_for_something();
    assert_int_equal(failed, 2);
    assert_string_equal(reason, "the peer ended the connection during the handshake");
    assert_int_equal(tls_acceptor_count(acceptor), 0);
    end();
}

/* Those that say nothing are let go, each in its turn. */
static void test_late(void **state) {
    begin(30);
    for (int i = 0; i < 3; i++)
        connect_plain(i);
    while (failed < 3)
        wait_for_something();
    assert_string_equal(reason, "the handshake took too long");
    assert_int_equal(tls_acceptor_count(acceptor), 0);
    end();
}

/* The end while some are under way: nobody hears of them any more. */
static void test_end(void **state) {
    begin(10000);
    for (int i = 0; i < 3; i++)
        stream_write(connect_plain(i), slice_str("\x16\x03\x01"));
    stream_shutdown(connect_plain(3));
    wait_for_something(); /* the last one fails when the others are there */
    assert_int_equal(failed, 1);
    end();
    assert_int_equal(failed, 1);
    assert_int_equal(taken, 0);
}

static int setup(void **state) {
    static char cert_file[64], key_file[64];
    snprintf(cert_file, sizeof cert_file, "/tmp/test_tls_accept.%d.pem", (int)getpid());
    snprintf(key_file, sizeof key_file, "/tmp/test_tls_accept.%d.key", (int)getpid());
    struct test_cert c = test_cert_make("test", "DNS:localhost", 30, NULL);
    test_cert_write(&c, cert_file, key_file);
    test_cert_free(&c);
    const struct tls_pair pair = {cert_file, key_file};
    const struct tls_server_options options = {.pairs = &pair, .pair_count = 1};
    const struct tls_client_options client_options = {.ca_file = cert_file};
    char error[TLS_ERROR_BYTES];
    int rc = tls_server_new(&options, &server, error);
    if (rc == 0)
        rc = tls_client_new(&client_options, &client, error);
    unlink(cert_file);
    unlink(key_file);
    return rc;
}

static int teardown(void **state) {
    tls_client_free(client);
    tls_server_free(server);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
