#include "net_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/tcp.h"

/* One end of a connection that records what happens to it. */
struct end {
    struct stream *stream;
    struct buf got;
    size_t want; /* `enough` when this much was received */
    bool enough;
    bool drained;
    bool eof;
    bool closed;
    int close_count;
    int error;
    bool inside; /* a stream_*() call of ours is under way */
};

static void end_on_read(void *ctx, struct slice bytes) {
    struct end *e = ctx;
    assert_false(e->closed);
    buf_append_slice(&e->got, bytes);
    if (e->want && e->got.size >= e->want)
        e->enough = true;
}
static void end_on_drain(void *ctx) {
    struct end *e = ctx;
    assert_int_equal(stream_pending_bytes(e->stream), 0);
    e->drained = true;
}
static void end_on_close(void *ctx, int error) {
    struct end *e = ctx;
    assert_false(e->inside);
    e->closed = true;
    e->close_count++;
    e->error = error;
}
static void end_on_eof(void *ctx) {
    ((struct end *)ctx)->eof = true;
}
static const struct stream_handler end_handler = {
    .on_read = end_on_read, .on_drain = end_on_drain, .on_close = end_on_close};
static const struct stream_handler half_handler = {.on_read = end_on_read,
                                                   .on_drain = end_on_drain,
                                                   .on_close = end_on_close,
                                                   .on_eof = end_on_eof};

static void end_init(struct end *e, struct loop *l, int fd) {
    assert_int_equal(stream_from_fd(l, fd, &e->stream), 0);
    stream_set_handler(e->stream, &end_handler, e);
}

static void end_fini(struct end *e) {
    assert_int_equal(e->close_count, 1);
    buf_fini(&e->got);
}

static void pair(struct runner *r, struct end *a, struct end *b) {
    int fds[2];
    assert_int_equal(socketpair_new(fds), 0);
    end_init(a, r->loop, fds[0]);
    end_init(b, r->loop, fds[1]);
}

static void test_big_write_arrives_whole(void **state) {
    struct runner *r = runner_new();
    struct end a = {0}, b = {.want = 20 << 20};
    pair(r, &a, &b);
    struct buf data = {0};
    for (uint32_t i = 0; i < 5 << 20; i++)
        buf_append_u32(&data, i * 2654435761u);
    stream_write(a.stream, slice_of(data.data, 1 << 20));
    assert_true(stream_pending_bytes(a.stream) > 0);
    /* Written while the first is under way: kept in order behind it. */
    stream_write(a.stream, slice_of(data.data + (1 << 20), data.size - (1 << 20)));
    run_until(r, &b.enough);
    assert_true(slice_equal(buf_slice(&b.got), buf_slice(&data)));
    run_until(r, &a.drained);
    assert_int_equal(stream_pending_bytes(a.stream), 0);
    stream_close(a.stream);
    run_until(r, &b.closed);
    assert_int_equal(b.error, 0);
    runner_free(r);
    end_fini(&a);
    end_fini(&b);
    buf_fini(&data);
}

static void test_close_is_deferred_and_once(void **state) {
    struct runner *r = runner_new();
    struct end a = {0}, b = {0};
    pair(r, &a, &b);
    a.inside = true;
    stream_close(a.stream);
    stream_close(a.stream);
    stream_shutdown(a.stream);
    stream_write(a.stream, slice_str("dropped"));
    a.inside = false;
    assert_int_equal(a.close_count, 0);
    run_until(r, &b.closed);
    assert_int_equal(b.got.size, 0);
    runner_free(r);
    end_fini(&a);
    end_fini(&b);
}

/* A write into a connection that the peer has reset fails at once; on_close still comes later. */
static void test_write_error_is_deferred(void **state) {
    struct runner *r = runner_new();
    struct end a = {0};
    int fds[2];
    assert_int_equal(socketpair_new(fds), 0);
    end_init(&a, r->loop, fds[0]);
    close(fds[1]);
    a.inside = true;
    stream_write(a.stream, slice_str("x"));
    a.inside = false;
    assert_int_equal(a.close_count, 0);
    run_until(r, &a.closed);
    assert_int_equal(a.error, -EPIPE);
    runner_free(r);
    end_fini(&a);
}

static void test_shutdown_after_flush(void **state) {
    struct runner *r = runner_new();
    struct end a = {0}, b = {0};
    pair(r, &a, &b);
    struct buf data = {0};
    memset(buf_reserve(&data, 8 << 20), 'x', 8 << 20);
    buf_commit(&data, 8 << 20);
    /* The peer still sends when we end: without reading that away a close would reset. */
    stream_write(b.stream, slice_str("unread"));
    stream_write(a.stream, buf_slice(&data));
    stream_shutdown(a.stream);
    stream_write(a.stream, slice_str("dropped"));
    run_until(r, &b.closed);
    assert_int_equal(b.error, 0);
    assert_int_equal(b.got.size, data.size);
    run_until(r, &a.closed);
    assert_int_equal(a.error, 0);
    assert_int_equal(a.got.size, 0);
    assert_false(a.drained);
    runner_free(r);
    end_fini(&a);
    end_fini(&b);
    buf_fini(&data);
}

static void test_shutdown_cut_short_by_close(void **state) {
    struct runner *r = runner_new();
    struct end a = {0}, b = {0};
    pair(r, &a, &b);
    stream_pause(b.stream);
    struct buf data = {0};
    buf_commit(&data, (memset(buf_reserve(&data, 8 << 20), 'x', 8 << 20), 8 << 20));
    stream_write(a.stream, buf_slice(&data));
    stream_shutdown(a.stream);
    stream_close(a.stream);
    run_until(r, &a.closed);
    stream_close(b.stream);
    runner_free(r);
    end_fini(&a);
    end_fini(&b);
    buf_fini(&data);
}

static void test_pause_holds_back(void **state) {
    struct runner *r = runner_new();
    struct end a = {0}, b = {.want = 5}, c = {0}, d = {.want = 1};
    pair(r, &a, &b);
    pair(r, &c, &d);
    stream_pause(b.stream);
    stream_write(a.stream, slice_str("hello"));
    stream_write(c.stream, slice_str("x"));
    run_until(r, &d.enough);
    assert_int_equal(b.got.size, 0);
    stream_resume(b.stream);
    stream_resume(b.stream);
    run_until(r, &b.enough);
    stream_close(a.stream);
    stream_close(b.stream);
    stream_close(c.stream);
    stream_close(d.stream);
    runner_free(r);
    end_fini(&a);
    end_fini(&b);
    end_fini(&c);
    end_fini(&d);
}

static void test_half_close(void **state) {
    struct runner *r = runner_new();
    struct end a = {0};
    int fds[2];
    assert_int_equal(socketpair_new(fds), 0);
    end_init(&a, r->loop, fds[0]);
    stream_set_handler(a.stream, &half_handler, &a);
    assert_int_equal(write(fds[1], "question", 8), 8);
    shutdown(fds[1], SHUT_WR);
    run_until(r, &a.eof);
    assert_int_equal(a.got.size, 8);
    assert_false(a.closed);
    stream_write(a.stream, slice_str("answer"));
    stream_shutdown(a.stream);
    run_until(r, &a.closed);
    char answer[16];
    assert_int_equal(read(fds[1], answer, sizeof answer), 6);
    assert_int_equal(read(fds[1], answer, sizeof answer), 0);
    close(fds[1]);
    runner_free(r);
    end_fini(&a);
}

/* ---- TCP ---- */

struct server {
    struct end conn;
    bool accepted;
};
static void on_accept(void *ctx, struct stream *s) {
    struct server *server = ctx;
    server->conn.stream = s;
    stream_set_handler(s, &end_handler, &server->conn);
    server->accepted = true;
}
static void on_connect(void *ctx, struct stream *s) {
    *(bool *)ctx = true;
}

static struct listener *listen_any(struct runner *r, struct server *server, char *ret_address) {
    struct address at;
    struct listener *l;
    assert_true(address_parse("127.0.0.1:0", &at));
    assert_int_equal(listener_new(r->loop, &at, true, 16, on_accept, server, &l), 0);
    assert_int_not_equal(listener_port(l), 0);
    sprintf(ret_address, "127.0.0.1:%u", listener_port(l));
    return l;
}

static void test_connect_keeps_early_writes(void **state) {
    struct runner *r = runner_new();
    struct server server = {.conn.want = 11};
    struct end client = {.want = 2};
    bool stands = false;
    char address[64];
    struct listener *l = listen_any(r, &server, address);
    client.stream = tcp_connect(r->loop, address, 5000, on_connect, &stands);
    stream_set_handler(client.stream, &end_handler, &client);
    stream_write(client.stream, slice_str("early "));
    stream_write(client.stream, slice_str("bytes"));
    assert_int_equal(stream_pending_bytes(client.stream), 11);
    assert_string_equal(stream_peer(client.stream), address);
    run_until(r, &server.conn.enough);
    assert_true(stands);
    assert_true(slice_equal_str(buf_slice(&server.conn.got), "early bytes"));
    assert_int_equal(strncmp(stream_peer(server.conn.stream), "127.0.0.1:", 10), 0);
    stream_write(server.conn.stream, slice_str("ok"));
    run_until(r, &client.enough);
    stream_shutdown(client.stream);
    run_until(r, &server.conn.closed);
    listener_free(l);
    runner_free(r);
    end_fini(&client);
    end_fini(&server.conn);
}

static void test_connect_refused(void **state) {
    struct runner *r = runner_new();
    struct server server = {0};
    struct end client = {0};
    bool stands = false;
    char address[64];
    listener_free(listen_any(r, &server, address));
    client.stream = tcp_connect(r->loop, address, 0, on_connect, &stands);
    stream_set_handler(client.stream, &end_handler, &client);
    run_until(r, &client.closed);
    assert_int_equal(client.error, -ECONNREFUSED);
    assert_false(stands);
    runner_free(r);
    end_fini(&client);
}

static void test_connect_by_name(void **state) {
    struct runner *r = runner_new();
    struct server server = {.conn.want = 1};
    struct end client = {0};
    bool stands = false;
    char address[64], by_name[64];
    struct listener *l = listen_any(r, &server, address);
    /* Where the name has an IPv6 address as well, nobody listens there, and the next is tried. */
    sprintf(by_name, "localhost:%u", listener_port(l));
    client.stream = tcp_connect(r->loop, by_name, 0, on_connect, &stands);
    stream_set_handler(client.stream, &end_handler, &client);
    stream_write(client.stream, slice_str("x"));
    run_until(r, &server.conn.enough);
    stream_close(client.stream);
    run_until(r, &server.conn.closed);
    listener_free(l);
    runner_free(r);
    end_fini(&client);
    end_fini(&server.conn);
}

static void test_bad_addresses_close_later(void **state) {
    static const char *const bad[] = {"", "nonsense", "host:99999", "127.0.0.1:0",
                                      "no-such-name.invalid:1"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct runner *r = runner_new();
        struct end client = {0};
        client.stream = tcp_connect(r->loop, bad[i], 0, NULL, NULL);
        stream_set_handler(client.stream, &end_handler, &client);
        assert_false(client.closed);
        run_until(r, &client.closed);
        assert_true(client.error < 0);
        runner_free(r);
        end_fini(&client);
    }
}

/* Closed in every stage of connecting: nothing is called or freed twice (for the sanitizers). */
static void test_close_while_connecting(void **state) {
    static const char *const names[] = {"127.0.0.1:1", "localhost:1", "[::1]:1"};
    for (size_t i = 0; i < ARRAY_COUNT(names) * 4; i++) {
        struct runner *r = runner_new();
        struct end client = {0};
        bool stands = false, soon = false;
        client.stream = tcp_connect(r->loop, names[i / 4], 0, on_connect, &stands);
        stream_set_handler(client.stream, &end_handler, &client);
        for (size_t turn = 0; turn < i % 4 && !client.closed; turn++) {
            soon = true;
            run_until(r, &soon);
        }
        if (!client.closed)
            stream_close(client.stream);
        runner_free(r);
        assert_false(stands);
        end_fini(&client);
    }
}

static void test_shutdown_while_connecting(void **state) {
    struct runner *r = runner_new();
    struct server server = {0};
    struct end client = {0};
    char address[64];
    struct listener *l = listen_any(r, &server, address);
    client.stream = tcp_connect(r->loop, address, 0, NULL, NULL);
    stream_set_handler(client.stream, &end_handler, &client);
    stream_write(client.stream, slice_str("last words"));
    stream_shutdown(client.stream);
    run_until(r, &server.conn.closed);
    assert_true(slice_equal_str(buf_slice(&server.conn.got), "last words"));
    run_until(r, &client.closed);
    assert_int_equal(client.error, 0);
    listener_free(l);
    runner_free(r);
    end_fini(&client);
    end_fini(&server.conn);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_big_write_arrives_whole),
        cmocka_unit_test(test_close_is_deferred_and_once),
        cmocka_unit_test(test_write_error_is_deferred),
        cmocka_unit_test(test_shutdown_after_flush),
        cmocka_unit_test(test_shutdown_cut_short_by_close),
        cmocka_unit_test(test_pause_holds_back),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_connect_keeps_early_writes),
        cmocka_unit_test(test_connect_refused),
        cmocka_unit_test(test_connect_by_name),
        cmocka_unit_test(test_bad_addresses_close_later),
        cmocka_unit_test(test_close_while_connecting),
        cmocka_unit_test(test_shutdown_while_connecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
