/* The network of a node on a real loop over loopback: who is let in, what ends a connection, and
 * what a node's own connections say first. All of it twice: plain, and over TLS. */
#include "../net/net_test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "mem_disk.h"
#include "net/cert.h"
#include "net/tls_peer.h"
#include "proto/link.h"
#include "replica/node_internal.h"
#include "replica/transport.h"

static const uint8_t CLUSTER[16] = "cluster of tests";
static const uint8_t OTHER_CLUSTER[16] = "another cluster!";

/* Of both ends, when the tests run over TLS. */
static struct tls_peer *tls;
static char tls_folder[] = "/tmp/cotidal-transport-tls-XXXXXX";

/* A bootstrapped node behind a transport. */
struct server {
    struct runner *runner;
    struct transport *transport;
    struct disk *disk;
    struct node *node;
    char dir[64];
};

/* Our end of a connection. */
struct end {
    struct server *server;
    struct stream *stream;
    struct buf got;
    bool closed, some; /* some: anything was received */
};

/* ---- the server ---- */

static uint64_t env_now_ms(void *env) {
    return loop_now_ms(((struct server *)env)->runner->loop);
}
static uint64_t env_wall_ms(void *env) {
    return 1700000000000u;
}
static void env_random(void *env, void *out, size_t size) {
    memset(out, 5, size);
}
static void env_peer_send(void *env, uint64_t id, const char *address, struct slice frame) {
    transport_peer_send(((struct server *)env)->transport, id, address, frame);
}
static void env_link_send(void *env, void *handle, struct slice frames) {
    transport_link_send(handle, frames);
}
static size_t env_link_pending_bytes(void *env, void *handle) {
    return transport_link_pending_bytes(handle);
}
static void env_link_close(void *env, void *handle) {
    transport_link_close(handle);
}
static void env_background(void *env, struct background_job *job) {
    fail_msg("there is no work for the background here");
}
static void env_fatal(void *env, const char *reason) {
    fail_msg("%s", reason);
}
static const struct replica_env_ops env_ops = {
    .now_ms = env_now_ms,
    .wall_ms = env_wall_ms,
    .random = env_random,
    .peer_send = env_peer_send,
    .link_send = env_link_send,
    .link_pending_bytes = env_link_pending_bytes,
    .link_close = env_link_close,
    .background = env_background,
    .fatal = env_fatal,
};

static void server_turn(void *ctx) {
    struct server *s = ctx;
    if (!s->node)
        return;
    mem_disk_run(s->disk);
    node_turn_end(s->node);
}

static struct server *server_with(bool with_node, uint32_t greeting_ms, uint32_t ungreeted_max) {
    struct server *s = xcalloc(1, sizeof *s);
    char error[256] = "";
    log_set_level((enum log_level)(LOG_ERROR + 1));
    s->runner = runner_new();
    s->disk = mem_disk_new(1);
    snprintf(s->dir, sizeof s->dir, "/tmp/cotidal-transport-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    struct transport_options options = {.loop = s->runner->loop,
                                        .greeting_ms = greeting_ms,
                                        .ungreeted_max = ungreeted_max,
                                        .tls = tls,
                                        .listen = {.host = "127.0.0.1", .port = 0}};
    assert_int_equal(transport_new(&options, &s->transport), 0);
    assert_true(transport_port(s->transport) != 0);
    loop_on_turn_end(s->runner->loop, server_turn, s);
    if (!with_node)
        return s;
    struct node_options node = {
        .id = 1,
        .bootstrap = true,
        .dir = s->dir,
        .peer_address = transport_address(s->transport),
        .http_address = "",
        .redis_address = "",
        .boot_id = "boot",
        .log_segment_bytes = 128 * 1024,
        .map_bytes = 64 << 20,
    };
    memcpy(node.cluster_id, CLUSTER, 16);
    assert_int_equal(node_new(&node, &env_ops, s, s->disk, &s->node, error), 0);
    transport_set_node(s->transport, s->node, 1, CLUSTER, 7);
    server_turn(s);
    server_turn(s);
    assert_true(node_is_leader(s->node));
    return s;
}

static struct server *server_new(bool with_node) {
    return server_with(with_node, 0, 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static void server_free(struct server *s) {
    transport_close(s->transport);
    loop_drain(s->runner->loop);
    if (s->node) {
        assert_int_equal(s->node->link_count, 0);
        mem_disk_run(s->disk);
        assert_int_equal(node_free(s->node), 0);
    }
    transport_free(s->transport);
    loop_off_turn_end(s->runner->loop, server_turn, s);
    runner_free(s->runner);
    mem_disk_free(s->disk);
    nftw(s->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(s);
}

/* ---- our ends ---- */

static void end_on_read(void *ctx, struct slice bytes) {
    struct end *e = ctx;
    buf_append_slice(&e->got, bytes);
    e->some = true;
}
static void end_on_close(void *ctx, int error) {
    ((struct end *)ctx)->closed = true;
}
static const struct stream_handler end_handler = {.on_read = end_on_read, .on_close = end_on_close};

static struct end *end_connect_with(struct server *s, struct tls_peer *with) {
    struct end *e = xcalloc(1, sizeof *e);
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", transport_port(s->transport));
    e->server = s;
    e->stream = tcp_connect(s->runner->loop, address, 0, NULL, NULL);
    if (with)
        e->stream = tls_peer_connect(with, e->stream, address, NULL, NULL);
    stream_set_handler(e->stream, &end_handler, e);
    return e;
}

static struct end *end_connect(struct server *s) {
    return end_connect_with(s, tls);
}

static void end_free(struct end *e) {
    if (!e->closed) {
        stream_close(e->stream);
        run_until(e->server->runner, &e->closed);
    }
    buf_fini(&e->got);
    free(e);
}

/* Takes the buf's content. */
static void say(struct end *e, struct buf *b) {
    stream_write(e->stream, buf_slice(b));
    buf_fini(b);
    *b = (struct buf){0};
}

/* The server closes, having said nothing. */
static void expect_closed(struct end *e) {
    run_until(e->server->runner, &e->closed);
    assert_int_equal(e->got.size, 0);
    end_free(e);
}

static void put_numbered_hello(struct buf *b, uint64_t id, const uint8_t cluster[16],
                               const char *address, uint64_t starts, uint64_t connection) {
    struct wire_hello hello = {.version = WIRE_VERSION,
                               .node_id = id,
                               .starts = starts,
                               .connection = connection,
                               .address = slice_str(address)};
    memcpy(hello.cluster_id, cluster, 16);
    buf_append_str(b, WIRE_PREFACE);
    wire_put_hello(b, &hello);
}

/* Each on a newer connection than the one before. */
static void put_hello(struct buf *b, uint64_t id, const uint8_t cluster[16], const char *address) {
    static uint64_t connections;
    put_numbered_hello(b, id, cluster, address, 5, ++connections);
}

static void put_check(struct buf *b, uint64_t round) {
    struct wire_read read = {.term = 100, .round = round};
    wire_put_read(b, WIRE_READ_CHECK, &read);
}

/* ---- a listener in the place of another node ---- */

struct other {
    struct server *server;
    struct listener *listener;
    char address[32];
    struct end *accepted[4]; /* in order */
    unsigned count;
    uint64_t round, wanted; /* of the READ_CHECKED that arrived last here, and is waited for */
    bool got_it, greeted;
};

static void other_on_accept(void *ctx, struct stream *stream) {
    struct other *o = ctx;
    assert_true(o->count < ARRAY_COUNT(o->accepted));
    struct end *e = xcalloc(1, sizeof *e);
    e->server = o->server;
    e->stream = tls ? tls_peer_accept(tls, stream) : stream;
    stream_set_handler(e->stream, &end_handler, e);
    o->accepted[o->count++] = e;
}

static void other_look(struct other *o, struct slice in) {
    struct slice payload;
    uint8_t type;
    size_t need;
    if (in.size < 4)
        return;
    assert_memory_equal(in.data, WIRE_PREFACE, 4);
    in = slice_of(in.data + 4, in.size - 4);
    for (unsigned k = 0; wire_take_frame(&in, &type, &payload, &need) == WIRE_TAKE_FRAME; k++) {
        struct wire_hello hello;
        struct wire_read read;
        if (k == 0) { /* every connection begins with it */
            assert_int_equal(type, WIRE_HELLO);
            assert_true(wire_decode_hello(payload, &hello));
            assert_int_equal(hello.node_id, 1);
            assert_memory_equal(hello.cluster_id, CLUSTER, 16);
            assert_true(slice_equal_str(hello.address, transport_address(o->server->transport)));
            assert_int_equal(hello.starts, 7);
            assert_true(hello.connection > 0);
            o->greeted = true;
        } else if (type == WIRE_READ_CHECKED) {
            assert_true(wire_decode_read(type, payload, &read));
            o->round = read.round;
            o->got_it |= read.round == o->wanted;
        }
    }
}

/* Looks at what has arrived so far. */
static void other_turn(void *ctx) {
    struct other *o = ctx;
    for (unsigned i = 0; i < o->count; i++)
        other_look(o, buf_slice(&o->accepted[i]->got));
}

static void other_init(struct other *o, struct server *s) {
    *o = (struct other){.server = s};
    struct address at = {.host = "127.0.0.1", .port = 0};
    loop_on_turn_end(s->runner->loop, other_turn, o);
    assert_int_equal(listener_new(s->runner->loop, &at, false, 8, other_on_accept, o, &o->listener),
                     0);
    snprintf(o->address, sizeof o->address, "127.0.0.1:%u", listener_port(o->listener));
}

static void other_fini(struct other *o) {
    loop_off_turn_end(o->server->runner->loop, other_turn, o);
    for (unsigned i = 0; i < o->count; i++)
        end_free(o->accepted[i]);
    listener_free(o->listener);
}

/* Asks the node something as this other node, again and again while nothing comes: frames may be
 * lost, as long as no connection stands. */
struct question {
    struct end *end;
    struct timer *timer;
    uint64_t round;
};

static void question_ask(void *ctx) {
    struct question *q = ctx;
    struct buf b = {0};
    put_check(&b, q->round);
    say(q->end, &b);
    timer_set(q->timer, loop_now_ms(q->end->server->runner->loop) + 50);
}

static void expect_answer(struct other *o, struct end *e, uint64_t round) {
    struct question q = {.end = e, .round = round};
    q.timer = timer_new(o->server->runner->loop, question_ask, &q);
    o->wanted = round;
    o->got_it = false;
    question_ask(&q);
    run_until(o->server->runner, &o->got_it);
    timer_free(q.timer);
}

/* ---- who is let in ---- */

static void test_unknown_prefaces(void **state) {
    struct server *s = server_new(true);
    static const char *const prefaces[] = {"GET ", "XXXX", "CTR2", "ctl1"};
    for (size_t i = 0; i < ARRAY_COUNT(prefaces); i++) {
        struct end *e = end_connect(s);
        struct buf b = {0};
        buf_append_str(&b, prefaces[i]);
        say(e, &b);
        expect_closed(e);
    }
    server_free(s);
}

static void test_still_starting(void **state) {
    struct server *s = server_new(false);
    static const char *const prefaces[] = {WIRE_PREFACE, LINK_PREFACE};
    for (size_t i = 0; i < ARRAY_COUNT(prefaces); i++) {
        struct end *e = end_connect(s);
        struct buf b = {0};
        buf_append_str(&b, prefaces[i]);
        say(e, &b);
        expect_closed(e);
    }
    server_free(s);
}

static void put_bad_greeting(struct buf *b, int which) {
    switch (which) {
    case 0:
        put_hello(b, 2, OTHER_CLUSTER, "127.0.0.1:1");
        break;
    case 1:
        put_hello(b, 0, CLUSTER, "127.0.0.1:1");
        break;
    case 2:
        put_hello(b, 1, CLUSTER, "127.0.0.1:1"); /* that is us */
        break;
    case 3:
        put_hello(b, 2, CLUSTER, "127.0.0.1:1");
        b->data[9]++; /* another version */
        break;
    case 4:
        buf_append_str(b, WIRE_PREFACE);
        put_check(b, 1); /* none at all */
        break;
    case 5:
        put_hello(b, 2, CLUSTER, "127.0.0.1:1");
        put_hello(b, 2, CLUSTER, "127.0.0.1:1"); /* a second preface is no frame */
        break;
    default:
        buf_append_str(b, WIRE_PREFACE);
        buf_append_u32(b, 50000000); /* a frame, but no greeting is as long */
        buf_append_u8(b, WIRE_HELLO);
    }
}

static void test_greetings_that_are_refused(void **state) {
    struct server *s = server_new(true);
    for (int which = 0; which < 7; which++) {
        struct end *e = end_connect(s);
        struct buf b = {0};
        put_bad_greeting(&b, which);
        say(e, &b);
        expect_closed(e);
    }
    server_free(s);
}

static void test_frames_that_end_a_connection(void **state) {
    struct server *s = server_new(true);
    for (int which = 0; which < 5; which++) {
        struct end *e = end_connect(s);
        struct buf b = {0};
        put_hello(&b, 2, CLUSTER, "127.0.0.1:1");
        struct slice hello = slice_of(b.data + 4, b.size - 4);
        switch (which) {
        case 0:
            buf_append_u32(&b, WIRE_FRAME_BYTES_MAX + 1);
            break;
        case 1:
            buf_append_u32(&b, 0);
            break;
        case 2:
            buf_append_u32(&b, 1);
            buf_append_u8(&b, 99);
            break;
        case 3:
            buf_append_u32(&b, 3);
            buf_append_u8(&b, WIRE_APPEND);
            buf_append_u16(&b, 7);
            break;
        default: { /* a second greeting */
            struct buf copy = {0};
            buf_append_slice(&copy, hello);
            buf_append_slice(&b, buf_slice(&copy));
            buf_fini(&copy);
        }
        }
        say(e, &b);
        expect_closed(e);
    }
    assert_true(node_is_leader(s->node));
    server_free(s);
}

/* ---- peers ---- */

static void test_a_peer_is_answered_over_our_own_connection(void **state) {
    struct server *s = server_new(true);
    struct other o;
    other_init(&o, s);
    struct end *e = end_connect(s);
    struct buf b = {0};
    put_hello(&b, 2, CLUSTER, o.address);
    for (size_t i = 0; i < b.size; i++) /* byte for byte */
        stream_write(e->stream, slice_of(b.data + i, 1));
    buf_fini(&b);
    expect_answer(&o, e, 41);
    expect_answer(&o, e, 42);
    assert_true(o.greeted);
    assert_int_equal(o.count, 1); /* one connection for all of it */
    assert_int_equal(e->got.size, 0);
    end_free(e);
    other_fini(&o);
    server_free(s);
}

/* M9: what an earlier connection had not delivered yet must not come behind the new one's. */
static void test_m9_a_second_connection_ends_the_first(void **state) {
    struct server *s = server_new(true);
    struct other o;
    other_init(&o, s);
    struct end *first = end_connect(s), *third = end_connect(s);
    struct buf b = {0};
    put_hello(&b, 2, CLUSTER, o.address);
    say(first, &b);
    put_hello(&b, 3, CLUSTER, o.address); /* another node's */
    say(third, &b);
    expect_answer(&o, first, 1);
    expect_answer(&o, third, 2);
    struct end *second = end_connect(s);
    put_hello(&b, 2, CLUSTER, o.address);
    say(second, &b);
    expect_answer(&o, second, 3);
    if (!first->closed)
        run_until(s->runner, &first->closed);
    assert_false(third->closed);
    expect_answer(&o, third, 4);
    expect_answer(&o, second, 5);
    end_free(first);
    end_free(second);
    end_free(third);
    other_fini(&o);
    server_free(s);
}

/* M9: a greeting that was read late does not end what came after it. */
static void test_m9_an_older_connection_is_refused(void **state) {
    static const uint64_t older[][2] = {{5, 9}, {5, 10}, {4, 99}};
    struct server *s = server_new(true);
    struct other o;
    other_init(&o, s);
    struct end *first = end_connect(s);
    struct buf b = {0};
    put_numbered_hello(&b, 2, CLUSTER, o.address, 5, 10);
    say(first, &b);
    expect_answer(&o, first, 1);
    for (size_t i = 0; i < ARRAY_COUNT(older); i++) {
        struct end *e = end_connect(s);
        put_numbered_hello(&b, 2, CLUSTER, o.address, older[i][0], older[i][1]);
        put_check(&b, 100 + i);
        say(e, &b);
        expect_closed(e);
        assert_false(first->closed);
        expect_answer(&o, first, 2 + i); /* not 100 + i */
    }
    end_free(first);
    /* Not even when the newer one is gone. */
    struct end *late = end_connect(s), *next = end_connect(s);
    put_numbered_hello(&b, 2, CLUSTER, o.address, 5, 9);
    say(late, &b);
    expect_closed(late);
    put_numbered_hello(&b, 2, CLUSTER, o.address, 6, 1); /* it was restarted */
    say(next, &b);
    expect_answer(&o, next, 9);
    end_free(next);
    other_fini(&o);
    server_free(s);
}

/* Who does not say who it is is closed after a time, and at once when there are too many of them;
 * others are left alone. */
static void test_those_that_do_not_greet(void **state) {
    struct server *s = server_with(true, 100, 3);
    struct other o;
    other_init(&o, s);
    struct end *peer = end_connect(s), *silent[6];
    struct buf b = {0};
    put_hello(&b, 2, CLUSTER, o.address);
    say(peer, &b);
    expect_answer(&o, peer, 1);
    for (size_t i = 0; i < ARRAY_COUNT(silent); i++) {
        silent[i] = end_connect(s);
        if (i % 2) {
            buf_append_str(&b, i % 4 == 1 ? WIRE_PREFACE : LINK_PREFACE);
            say(silent[i], &b);
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(silent); i++)
        expect_closed(silent[i]);
    assert_false(peer->closed);
    expect_answer(&o, peer, 2);
    end_free(peer);
    other_fini(&o);
    server_free(s);
}

/* A connection of ours that broke is made again when there is something to say. */
static void test_connecting_again(void **state) {
    struct server *s = server_new(true);
    struct other o;
    other_init(&o, s);
    struct end *e = end_connect(s);
    struct buf b = {0};
    put_hello(&b, 2, CLUSTER, o.address);
    say(e, &b);
    expect_answer(&o, e, 1);
    stream_close(o.accepted[0]->stream);
    run_until(s->runner, &o.accepted[0]->closed);
    o.greeted = false;
    expect_answer(&o, e, 2);
    assert_int_equal(o.count, 2);
    assert_true(o.greeted);
    end_free(e);
    other_fini(&o);
    server_free(s);
}

/* The rounds above 10 of the READ_CHECKED that arrived there, in order, as decimal digits. */
static uint64_t rounds_of(const struct other *o) {
    struct slice in = buf_slice(&o->accepted[0]->got), payload;
    uint64_t digits = 0;
    uint8_t type;
    size_t need;
    struct wire_read read;
    in = slice_of(in.data + 4, in.size - 4);
    while (wire_take_frame(&in, &type, &payload, &need) == WIRE_TAKE_FRAME)
        if (type == WIRE_READ_CHECKED && wire_decode_read(type, payload, &read) && read.round > 10)
            digits = digits * 10 + read.round - 10;
    return digits;
}

/* What may wait goes out with the flush, or before the next frame that must not; in order. */
static void test_frames_that_go_out_together(void **state) {
    struct server *s = server_new(true);
    struct other o;
    struct buf b = {0};
    other_init(&o, s);
    struct end *e = end_connect(s);
    put_hello(&b, 2, CLUSTER, o.address);
    say(e, &b);
    expect_answer(&o, e, 1); /* the connection stands */
    for (uint64_t round = 11; round <= 14; round++) {
        struct wire_read read = {.term = 1, .round = round, .ok = true};
        buf_reset(&b);
        wire_put_read(&b, WIRE_READ_CHECKED, &read);
        if (round == 13)
            transport_peer_send(s->transport, 2, o.address, buf_slice(&b));
        else
            transport_peer_send_later(s->transport, 2, o.address, buf_slice(&b));
        if (round == 14)
            transport_peer_flush(s->transport);
        if (round < 13)
            continue;
        transport_peer_flush(s->transport);   /* there is nothing left */
        expect_answer(&o, e, round - 13 + 2); /* what comes behind them has arrived */
        assert_int_equal(rounds_of(&o), round == 13 ? 123 : 1234);
    }
    transport_peer_send_later(s->transport, 2, o.address, buf_slice(&b)); /* dropped at the end */
    buf_fini(&b);
    end_free(e);
    other_fini(&o);
    server_free(s);
}

/* Nobody listens there: frames are dropped, and nothing is left at the end. */
static void test_a_node_that_cannot_be_reached(void **state) {
    struct server *s = server_new(true);
    struct other o;
    other_init(&o, s);
    listener_free(o.listener);
    loop_off_turn_end(s->runner->loop, other_turn, &o);
    struct end *e = end_connect(s), *link = end_connect(s);
    struct buf b = {0};
    put_hello(&b, 2, CLUSTER, o.address);
    for (uint64_t round = 0; round < 100; round++)
        put_check(&b, round);
    say(e, &b);
    buf_append_str(&b, "XXXX"); /* a turn or two later */
    say(link, &b);
    expect_closed(link);
    assert_false(e->closed);
    end_free(e);
    server_free(s);
}

/* ---- links ---- */

static void put_link_hello(struct buf *b, uint8_t session) {
    struct link_hello hello = {.version = LINK_VERSION};
    memset(hello.session, session, sizeof hello.session);
    buf_append_str(b, LINK_PREFACE);
    link_put_hello(b, &hello);
}

/* Greeting and topology have come. */
static void expect_link(struct end *e) {
    struct slice payload, in;
    uint8_t type;
    struct link_node_hello hello;
    struct link_topology topology;
    for (;;) {
        in = buf_slice(&e->got);
        if (link_take_frame(&in, &type, &payload, NULL) == LINK_TAKE_FRAME) {
            assert_int_equal(type, LINK_NODE_HELLO);
            assert_true(link_decode_node_hello(payload, &hello));
            assert_memory_equal(hello.cluster_id, CLUSTER, 16);
            if (link_take_frame(&in, &type, &payload, NULL) == LINK_TAKE_FRAME)
                break;
        }
        e->some = false;
        run_until(e->server->runner, &e->some);
    }
    assert_int_equal(type, LINK_TOPOLOGY);
    assert_true(link_decode_topology(payload, &topology));
    assert_int_equal(topology.leader_id, 1);
}

static void test_a_link(void **state) {
    struct server *s = server_new(true);
    struct end *e = end_connect(s);
    struct buf b = {0};
    put_link_hello(&b, 9);
    say(e, &b);
    expect_link(e);
    assert_int_equal(s->node->link_count, 1);
    /* The same session over a new connection ends this one. */
    struct end *again = end_connect(s);
    put_link_hello(&b, 9);
    say(again, &b);
    expect_link(again);
    if (!e->closed)
        run_until(s->runner, &e->closed);
    assert_int_equal(s->node->link_count, 1);
    /* And what is malformed ends that. */
    buf_append_u32(&b, 1);
    buf_append_u8(&b, 77);
    say(again, &b);
    run_until(s->runner, &again->closed);
    assert_int_equal(s->node->link_count, 0);
    end_free(e);
    end_free(again);
    server_free(s);
}

static void test_a_link_within_the_process(void **state) {
    struct server *s = server_new(true);
    int fds[2];
    assert_int_equal(socketpair_new(fds), 0);
    struct end *e = xcalloc(1, sizeof *e);
    e->server = s;
    assert_int_equal(stream_from_fd(s->runner->loop, fds[0], &e->stream), 0);
    stream_set_handler(e->stream, &end_handler, e);
    transport_adopt(s->transport, fds[1]);
    struct buf b = {0};
    put_link_hello(&b, 9);
    say(e, &b);
    expect_link(e);
    server_free(s); /* with the link open */
    assert_true(e->closed);
    end_free(e);
}

/* The node goes first, as when a server stops. */
static void test_a_node_that_goes_with_its_links_open(void **state) {
    struct server *s = server_new(true);
    struct end *e = end_connect(s);
    struct buf b = {0};
    put_link_hello(&b, 9);
    say(e, &b);
    expect_link(e);
    mem_disk_run(s->disk);
    assert_int_equal(node_free(s->node), 0);
    s->node = NULL;
    run_until(s->runner, &e->closed);
    end_free(e);
    server_free(s);
}

/* ---- TLS ---- */

static struct tls_peer *make_peer(const char *name) {
    char error[TLS_ERROR_BYTES], cert[128], key[128], ca[128];
    snprintf(cert, sizeof cert, "%s/%s.pem", tls_folder, name);
    snprintf(key, sizeof key, "%s/%s.key", tls_folder, name);
    snprintf(ca, sizeof ca, "%s/ca.pem", tls_folder);
    const struct tls_peer_options options = {.cert_file = cert, .key_file = key, .ca_file = ca};
    struct tls_peer *p;
    if (cert_make_node(tls_folder, tls_folder, name, NULL, 0, 1, error) < 0 ||
        tls_peer_new(&options, &p, error) < 0)
        fail_msg("%s", error);
    return p;
}

static int tls_setup(void **state) {
    char error[TLS_ERROR_BYTES];
    CHECK(mkdtemp(tls_folder) != NULL);
    CHECK(cert_make_authority(tls_folder, "tests", 1, error) == 0);
    tls = make_peer("127.0.0.1");
    return 0;
}

static int tls_teardown(void **state) {
    tls_peer_free(tls);
    tls = NULL;
    nftw(tls_folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return 0;
}

/* Over the network nobody gets in without TLS, whatever they say. */
static void test_tls_plain_is_refused(void **state) {
    struct server *s = server_new(true);
    for (int which = 0; which < 3; which++) {
        struct end *e = end_connect_with(s, NULL);
        struct buf b = {0};
        if (which == 0)
            put_hello(&b, 2, CLUSTER, "127.0.0.1:1");
        else if (which == 1)
            put_link_hello(&b, 9);
        else
            buf_append_str(&b, "GET / HTTP/1.1\r\n\r\n");
        say(e, &b);
        expect_closed(e);
    }
    assert_int_equal(s->node->link_count, 0);
    server_free(s);
}

/* And who speaks it to a node that does not, neither. */
static void test_tls_to_a_plain_node(void **state) {
    struct tls_peer *ours = tls;
    tls = NULL;
    struct server *s = server_new(true);
    tls = ours;
    struct end *e = end_connect(s);
    struct buf b = {0};
    put_hello(&b, 2, CLUSTER, "127.0.0.1:1");
    say(e, &b);
    expect_closed(e);
    server_free(s);
}

/* A node speaks for the host of its certificate only; a web server, which names none, is let in. */
static void test_tls_a_node_of_another_host(void **state) {
    struct server *s = server_new(true);
    struct tls_peer *other = make_peer("other.example");
    static const char *const addresses[] = {"127.0.0.1:1", "more.example:1", ":1", "other.example"};
    struct buf b = {0};
    for (size_t i = 0; i < ARRAY_COUNT(addresses); i++) {
        struct end *e = end_connect_with(s, other);
        put_hello(&b, 2, CLUSTER, addresses[i]);
        say(e, &b);
        expect_closed(e);
    }
    struct end *peer = end_connect_with(s, other), *link = end_connect_with(s, other);
    put_hello(&b, 2, CLUSTER, "other.example:1");
    say(peer, &b);
    put_link_hello(&b, 9);
    say(link, &b);
    expect_link(link);
    assert_false(peer->closed);
    end_free(peer);
    end_free(link);
    server_free(s);
    tls_peer_free(other);
}

/* Our own connection to a node whose certificate is for somebody else brings it nothing. */
static void test_tls_a_false_node(void **state) {
    struct server *s = server_new(true);
    struct tls_peer *ours = tls, *other = make_peer("other.example");
    struct other o;
    other_init(&o, s);
    struct end *e = end_connect(s);
    struct buf b = {0};
    put_hello(&b, 2, CLUSTER, o.address);
    tls = other; /* what o accepts with */
    put_check(&b, 1);
    say(e, &b);
    while (o.count == 0)
        run_until(s->runner, &(const bool){true});
    run_until(s->runner, &o.accepted[0]->closed);
    assert_false(o.greeted);
    assert_int_equal(o.accepted[0]->got.size, 0);
    tls = ours;
    end_free(e);
    other_fini(&o);
    server_free(s);
    tls_peer_free(other);
}

int main(void) {
    const struct CMUnitTest tls_tests[] = {
        cmocka_unit_test(test_tls_plain_is_refused),
        cmocka_unit_test(test_tls_to_a_plain_node),
        cmocka_unit_test(test_tls_a_node_of_another_host),
        cmocka_unit_test(test_tls_a_false_node),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_prefaces),
        cmocka_unit_test(test_still_starting),
        cmocka_unit_test(test_greetings_that_are_refused),
        cmocka_unit_test(test_frames_that_end_a_connection),
        cmocka_unit_test(test_a_peer_is_answered_over_our_own_connection),
        cmocka_unit_test(test_m9_a_second_connection_ends_the_first),
        cmocka_unit_test(test_m9_an_older_connection_is_refused),
        cmocka_unit_test(test_those_that_do_not_greet),
        cmocka_unit_test(test_connecting_again),
        cmocka_unit_test(test_frames_that_go_out_together),
        cmocka_unit_test(test_a_node_that_cannot_be_reached),
        cmocka_unit_test(test_a_link),
        cmocka_unit_test(test_a_link_within_the_process),
        cmocka_unit_test(test_a_node_that_goes_with_its_links_open),
    };
    int failed = cmocka_run_group_tests_name("plain", tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("over TLS", tests, tls_setup, tls_teardown);
    strcpy(tls_folder + strlen(tls_folder) - 6, "XXXXXX");
    return failed + cmocka_run_group_tests_name("TLS", tls_tests, tls_setup, tls_teardown);
}
