/* The upstream over real sockets: TCP to a node and a socketpair to the local one, both played by
 * this test on the same loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "gateway/upstream_net.h"
#include "net/tcp.h"

struct node;
struct peer {
    struct node *node;
    struct stream *stream;
    struct buf in;
    bool greeted;
};

/* Answers everything with "+name" and where it was asked. */
struct node {
    struct loop *loop;
    uint64_t id;
    const char *name;
    uint64_t leader;
    char addresses[2][32];
    struct peer *peers[16];
    size_t peer_count;
    int writes, reads;
    bool drop_writes; /* closes the connection instead of answering */
};

struct bed {
    struct loop *loop;
    struct node tcp, local;
    struct listener *listener;
    struct upstream_net *net;
    struct upstream *up;
    int left; /* requests without an answer */
    int done;
    struct timer *guard;
};

static void put_hello(struct peer *p, struct buf *out) {
    struct link_batch b;
    struct link_node_hello h = {.version = LINK_VERSION,
                                .node_id = p->node->id,
                                .window_requests = 50,
                                .window_bytes = 1 << 20};
    link_put_node_hello(out, &h);
    link_open_topology(out, &b, 1, p->node->leader);
    for (uint64_t i = 0; i < 2; i++) {
        struct link_member m = {
            .id = i + 1, .role = 1, .peer_address = slice_str(p->node->addresses[i])};
        link_add_member(out, &b, &m);
    }
    link_close(out, &b);
}

static void put_answer(struct peer *p, struct buf *out, uint64_t id, uint8_t kind) {
    struct link_batch b;
    char text[32];
    snprintf(text, sizeof text, "+%s\r\n", p->node->name);
    struct link_reply r = {.id = id, .kind = kind, .index = 1, .reply = slice_str(text)};
    link_open_replies(out, &b);
    link_add_reply(out, &b, &r);
    link_close(out, &b);
}

static bool on_frame(struct peer *p, uint8_t type, struct slice payload, struct buf *out) {
    struct link_writes ws;
    struct link_write w;
    struct link_read r;
    uint32_t count;
    switch (type) {
    case LINK_HELLO:
        put_hello(p, out);
        return true;
    case LINK_WRITES:
        assert_true(link_decode_writes(payload, &ws));
        while (ws.commands.size) {
            assert_true(link_next_write(&ws.commands, &w));
            p->node->writes++;
            if (p->node->drop_writes && w.sequence > 1)
                return false;
            put_answer(p, out, w.sequence, LINK_KIND_WRITE);
        }
        return true;
    default:
        assert_int_equal(type, LINK_READS);
        assert_true(link_decode_count(&payload, &count));
        while (count--) {
            assert_true(link_next_read(&payload, &r));
            p->node->reads++;
            put_answer(p, out, r.id, LINK_KIND_READ);
        }
        return true;
    }
}

static void peer_on_read(void *ctx, struct slice bytes) {
    struct peer *p = ctx;
    struct buf out = {0};
    buf_append_slice(&p->in, bytes);
    if (!p->greeted && p->in.size >= 4) {
        assert_memory_equal(p->in.data, LINK_PREFACE, 4);
        buf_consume(&p->in, 4);
        p->greeted = true;
    }
    struct slice in = buf_slice(&p->in), payload;
    uint8_t type;
    bool fine = true;
    while (p->greeted && fine && link_take_frame(&in, &type, &payload, NULL) == LINK_TAKE_FRAME)
        fine = on_frame(p, type, payload, &out);
    buf_consume(&p->in, p->in.size - in.size);
    stream_write(p->stream, buf_slice(&out));
    if (!fine)
        stream_close(p->stream);
    buf_fini(&out);
}

static void peer_on_close(void *ctx, int error) {
    struct peer *p = ctx;
    p->stream = NULL;
}

static const struct stream_handler peer_handler = {.on_read = peer_on_read,
                                                   .on_close = peer_on_close};

static void node_add(struct node *n, struct stream *s) {
    struct peer *p = xcalloc(1, sizeof *p);
    assert_true(n->peer_count < ARRAY_COUNT(n->peers));
    n->peers[n->peer_count++] = p;
    p->node = n;
    p->stream = s;
    stream_set_handler(s, &peer_handler, p);
}

static void on_accept(void *ctx, struct stream *s) {
    node_add(ctx, s);
}

static struct stream *connect_local(void *ctx, struct loop *loop) {
    struct bed *b = ctx;
    struct stream *ours, *theirs;
    int fds[2];
    assert_int_equal(socketpair_new(fds), 0);
    assert_int_equal(stream_from_fd(loop, fds[0], &ours), 0);
    assert_int_equal(stream_from_fd(loop, fds[1], &theirs), 0);
    node_add(&b->local, theirs);
    return ours;
}

static void node_fini(struct node *n) {
    for (size_t i = 0; i < n->peer_count; i++) {
        if (n->peers[i]->stream)
            stream_close(n->peers[i]->stream);
    }
}

static void hung(void *ctx) {
    fail_msg("no answer for 20 seconds");
}

static void bed_init(struct bed *b) {
    struct address at;
    *b = (struct bed){0};
    assert_int_equal(loop_new(&b->loop), 0);
    assert_true(address_parse("127.0.0.1:0", &at));
    assert_int_equal(listener_new(b->loop, &at, false, 16, on_accept, &b->tcp, &b->listener), 0);
    b->tcp = (struct node){.loop = b->loop, .id = 1, .name = "tcp", .leader = 1};
    b->local = (struct node){.loop = b->loop, .id = 2, .name = "local", .leader = 1};
    snprintf(b->tcp.addresses[0], 32, "127.0.0.1:%u", listener_port(b->listener));
    strcpy(b->tcp.addresses[1], "127.0.0.1:1");
    memcpy(b->local.addresses, b->tcp.addresses, sizeof b->tcp.addresses);
    const char *seeds[] = {"local", b->tcp.addresses[0]};
    struct upstream_net_options o = {
        .upstream = {.seeds = seeds, .seed_count = 2}, .connect_local = connect_local, .ctx = b};
    b->net = upstream_net_new(b->loop, &o);
    b->up = upstream_net_upstream(b->net);
    b->guard = timer_new(b->loop, hung, b);
}

static void bed_fini(struct bed *b) {
    upstream_net_free(b->net);
    node_fini(&b->tcp);
    node_fini(&b->local);
    listener_free(b->listener);
    timer_free(b->guard);
    loop_drain(b->loop);
    loop_free(b->loop);
    for (size_t i = 0; i < b->tcp.peer_count; i++) {
        buf_fini(&b->tcp.peers[i]->in);
        free(b->tcp.peers[i]);
    }
    for (size_t i = 0; i < b->local.peer_count; i++) {
        buf_fini(&b->local.peers[i]->in);
        free(b->local.peers[i]);
    }
}

struct ask {
    struct upstream_request up;
    struct bed *bed;
    const char *from;
};

static void on_done(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    struct ask *a = CONTAINER_OF(up, struct ask, up);
    assert_int_equal(outcome, UPSTREAM_DONE);
    assert_int_equal(memcmp(reply.data + 1, a->from, strlen(a->from)), 0);
    a->bed->done++;
    if (--a->bed->left == 0)
        loop_stop(a->bed->loop);
    free(a);
}

static void ask(struct bed *b, enum upstream_kind kind, const char *from) {
    struct ask *a = xcalloc(1, sizeof *a);
    a->bed = b;
    a->from = from;
    a->up.kind = kind;
    a->up.done = on_done;
    argv_append_strs(&a->up.packed_argv, "NAME", "argument", NULL);
    upstream_submit(b->up, &a->up);
    b->left++;
}

static void run(struct bed *b) {
    timer_set(b->guard, loop_now_ms(b->loop) + 20000);
    loop_run(b->loop);
    assert_int_equal(b->left, 0);
}

static void test_writes_and_reads(void **state) {
    struct bed b;
    bed_init(&b);
    /* The first waits until the link stands; then both kinds go where they belong. */
    ask(&b, UPSTREAM_WRITE, "tcp");
    run(&b);
    for (int i = 0; i < 500; i++) {
        ask(&b, UPSTREAM_WRITE, "tcp");
        ask(&b, UPSTREAM_READ, "local");
    }
    run(&b);
    assert_int_equal(b.done, 1001);
    assert_int_equal(b.tcp.writes, 502); /* and SESSION.OPEN */
    assert_int_equal(b.local.reads, 500);
    bed_fini(&b);
}

static void test_breaks_are_bridged(void **state) {
    struct bed b;
    bed_init(&b);
    ask(&b, UPSTREAM_WRITE, "tcp");
    run(&b);
    b.tcp.drop_writes = true;
    for (int i = 0; i < 20; i++)
        ask(&b, UPSTREAM_WRITE, "tcp");
    struct upstream_status status;
    do {
        /* A read ends each run; meanwhile the writes fail and come again. */
        int writes_left = b.left;
        b.left = 0;
        ask(&b, UPSTREAM_READ, "local");
        run(&b);
        b.left = writes_left;
        upstream_get_status(b.up, &status);
    } while (status.retried_total < 20);
    b.tcp.drop_writes = false;
    run(&b);
    assert_true(b.tcp.peer_count >= 2);
    bed_fini(&b);
}

static void test_free_with_requests(void **state) {
    struct bed b;
    bed_init(&b);
    ask(&b, UPSTREAM_READ, "local");
    run(&b);
    struct upstream_request r = {.kind = UPSTREAM_READ};
    argv_append_strs(&r.packed_argv, "NAME", NULL);
    upstream_submit(b.up, &r);
    upstream_forget(b.up, &r);
    bed_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_and_reads),
        cmocka_unit_test(test_breaks_are_bridged),
        cmocka_unit_test(test_free_with_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
