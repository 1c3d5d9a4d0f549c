#include "net_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tcp.h"

enum { CLIENTS = 40 };

struct server {
    struct loop *loop;
    struct stream *conns[CLIENTS];
    int accepted;
    int want;
    int closed;
    bool enough;
};

static void on_read(void *ctx, struct slice bytes) {
}
static void on_close(void *ctx, int error) {
    ((struct server *)ctx)->closed++;
}
static const struct stream_handler handler = {.on_read = on_read, .on_close = on_close};

static void on_accept(void *ctx, struct stream *s) {
    struct server *server = ctx;
    assert_true(server->accepted < CLIENTS);
    server->conns[server->accepted++] = s;
    stream_set_handler(s, &handler, server);
    server->enough = server->accepted >= server->want;
}

static struct listener *listen_any(struct server *server, const char *text, bool reuse_port) {
    struct address at;
    struct listener *l;
    assert_true(address_parse(text, &at));
    assert_int_equal(listener_new(server->loop, &at, reuse_port, 128, on_accept, server, &l), 0);
    return l;
}

static int connect_to(uint16_t port) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void close_all(struct server *server) {
    for (int i = 0; i < server->accepted; i++)
        stream_close(server->conns[i]);
}

static void test_pause_and_resume(void **state) {
    struct runner *r = runner_new();
    struct server server = {.loop = r->loop, .want = 2};
    struct listener *l = listen_any(&server, "127.0.0.1:0", false);
    bool turn = true;
    listener_pause(l);
    int a = connect_to(listener_port(l)), b = connect_to(listener_port(l));
    run_until(r, &turn);
    assert_int_equal(server.accepted, 0);
    listener_resume(l);
    run_until(r, &server.enough);
    close_all(&server);
    listener_free(l);
    runner_free(r);
    assert_int_equal(server.closed, 2);
    close(a);
    close(b);
}

static void test_reuse_port(void **state) {
    struct runner *r = runner_new();
    struct server server = {.loop = r->loop};
    struct listener *l = listen_any(&server, "127.0.0.1:0", true), *second = NULL;
    struct address at;
    assert_true(address_parse("127.0.0.1:1", &at));
    at.port = listener_port(l);
    assert_int_equal(listener_new(r->loop, &at, true, 16, on_accept, &server, &second), 0);
    assert_int_equal(listener_port(second), at.port);
    struct listener *third = NULL;
    assert_int_equal(listener_new(r->loop, &at, false, 16, on_accept, &server, &third),
                     -EADDRINUSE);
    assert_null(third);
    listener_free(l);
    listener_free(second);
    runner_free(r);
}

static void test_any_address_and_names(void **state) {
    struct runner *r = runner_new();
    struct server server = {.loop = r->loop, .want = 2};
    struct listener *any = listen_any(&server, ":0", false);
    struct listener *name = listen_any(&server, "localhost:0", false);
    int a = connect_to(listener_port(any)), b = connect_to(listener_port(name));
    run_until(r, &server.enough);
    assert_int_equal(strncmp(stream_peer(server.conns[0]), "127.0.0.1:", 10), 0);
    close_all(&server);
    listener_free(any);
    listener_free(name);
    runner_free(r);
    close(a);
    close(b);
}

static void test_unusable_address(void **state) {
    struct runner *r = runner_new();
    struct listener *l = NULL;
    struct address at;
    assert_true(address_parse("192.0.2.1:0", &at));
    assert_true(listener_new(r->loop, &at, false, 16, on_accept, NULL, &l) < 0);
    assert_true(address_parse("no-such-name.invalid:0", &at));
    assert_true(listener_new(r->loop, &at, false, 16, on_accept, NULL, &l) < 0);
    assert_null(l);
    runner_free(r);
}

struct exhausted {
    struct listener *listener;
    bool refused;
};
static void watch_refusals(void *ctx) {
    struct exhausted *e = ctx;
    e->refused = listener_refused_count(e->listener) > 0;
}

/* Out of descriptors: somebody is refused, nobody else is lost, and the loop does not spin. */
static void test_out_of_descriptors(void **state) {
    struct runner *r = runner_new();
    struct server server = {.loop = r->loop, .want = CLIENTS - 4};
    struct listener *l = listen_any(&server, "127.0.0.1:0", false);
    struct exhausted e = {.listener = l};
    loop_on_turn_end(r->loop, watch_refusals, &e);
    int clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_to(listener_port(l));
    /* All descriptors but a few are taken. */
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int top = dup(0);
    assert_true(top >= 0);
    tight = before;
    tight.rlim_cur = (rlim_t)top + 8;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    run_until(r, &e.refused);
    assert_true(server.accepted < CLIENTS);
    assert_true(listener_refused_count(l) < 4);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    run_until(r, &server.enough);
    close(top);
    close_all(&server);
    listener_free(l);
    runner_free(r);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pause_and_resume),      cmocka_unit_test(test_reuse_port),
        cmocka_unit_test(test_any_address_and_names), cmocka_unit_test(test_unusable_address),
        cmocka_unit_test(test_out_of_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
