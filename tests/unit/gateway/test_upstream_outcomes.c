/* What the upstream says when it cannot know: a client session that the database has dropped, on a
 * real store, and requests about members. */
#include <stdio.h>
#include <unistd.h>

#include "store/commands.h"
#include "store/session.h"
#include "upstream_fake.h"

static const char *const seeds[] = {"n1:1"};
static const struct upstream_options options = {.seeds = seeds, .seed_count = 1};

/* ---- a node that executes on a store -----------------------------------------------------------
 */

struct node {
    struct store *store;
    uint64_t time_ms; /* of the log */
    char dir[64];
    struct buf replies; /* a frame */
    struct link_batch batch;
};

static void node_open(struct node *n) {
    *n = (struct node){.time_ms = 1000};
    snprintf(n->dir, sizeof n->dir, "%s/test-outcomes-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(n->dir));
    const struct store_options o = {.dir = n->dir, .map_bytes = 1 << 26, .boot_id = "test"};
    assert_int_equal(store_open(&o, &n->store), 0);
}

static void node_close(struct node *n) {
    store_abandon(n->store);
    assert_int_equal(store_wipe(n->dir), 0);
    assert_int_equal(rmdir(n->dir), 0);
    buf_fini(&n->replies);
}

static void on_reply(void *ctx, const struct session_id *session, uint64_t sequence,
                     enum store_status status, struct slice reply) {
    struct node *n = ctx;
    (void)session;
    const struct link_reply r = {.id = sequence,
                                 .kind = LINK_KIND_WRITE,
                                 .status =
                                     status == STORE_SESSION_GONE ? LINK_SESSION_GONE : LINK_OK,
                                 .index = store_applied_index(n->store),
                                 .reply = reply};
    link_add_reply(&n->replies, &n->batch, &r);
}

static void node_apply(struct node *n, const struct entry_group *group) {
    struct buf entry = {0};
    entry_begin(&entry, n->time_ms, 1);
    entry_append_group(&entry, group);
    buf_reset(&n->replies);
    link_open_replies(&n->replies, &n->batch);
    assert_int_equal(store_begin(n->store), 0);
    assert_int_equal(
        store_apply(n->store, store_applied_index(n->store) + 1, 1, buf_slice(&entry), on_reply, n),
        0);
    assert_int_equal(store_commit(n->store), 0);
    link_close(&n->replies, &n->batch);
    buf_fini(&entry);
}

/* Executes the writes that have come; the answers to the last frame of them wait in n->replies. */
static void node_execute(struct node *n, struct fake_conn *c) {
    struct slice in = buf_slice(&c->in), payload;
    uint8_t type;
    while (link_take_frame(&in, &type, &payload, NULL) == LINK_TAKE_FRAME) {
        struct entry_group group;
        assert_int_equal(type, LINK_WRITES);
        assert_true(entry_next_group(&payload, &group));
        node_apply(n, &group);
    }
    buf_reset(&c->in);
}

/* What a leader does with nobody to ask it: the sweep of silent sessions. */
static bool node_sweep(struct node *n) {
    struct buf argv = {0}, commands = {0};
    bool due = store_housekeeping(n->store, n->time_ms, &argv);
    if (due) {
        entry_append_command(&commands, 0, 0, buf_slice(&argv));
        const struct entry_group group = {.command_count = 1, .commands = buf_slice(&commands)};
        node_apply(n, &group);
    }
    buf_fini(&argv);
    buf_fini(&commands);
    return due;
}

/* ---- a client ----------------------------------------------------------------------------------
 */

struct asked {
    struct upstream_request up;
    int done;
    enum upstream_outcome outcome;
    char reply[100];
};

static void asked_done(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct asked *a = (struct asked *)req;
    (void)index;
    a->done++;
    a->outcome = outcome;
    snprintf(a->reply, sizeof a->reply, "%.*s", (int)reply.size, (const char *)reply.data);
}

static void ask(struct fake *f, struct asked *a, const char *counter) {
    enum { HOURS = 3 };
    *a = (struct asked){
        .up = {.kind = UPSTREAM_WRITE, .timeout_ms = HOURS * 3600 * 1000, .done = asked_done}};
    argv_append_strs(&a->up.packed_argv, "INCR", counter, NULL);
    upstream_submit(f->up, &a->up);
}

static void expect(const struct asked *a, enum upstream_outcome outcome, const char *reply) {
    assert_int_equal(a->done, 1);
    assert_int_equal(a->outcome, outcome);
    assert_string_equal(a->reply, reply);
}

/* ---- tests -------------------------------------------------------------------------------------
 */

/* Cut off for more than an hour of log time, with one write executed and not answered, one sent and
 * lost, and one not sent. The first two are unknown, for what the session knew is gone; the third
 * goes on in a new session. Nothing is executed twice, though all are asked for again. */
static void test_dropped_session(void **state) {
    struct fake f;
    struct node n;
    struct asked before, executed, lost, unsent, after;
    node_open(&n);
    fake_init(&f, &options);
    fake_turn(&f);
    struct fake_conn *c = node_up(&f, 1, 5, 1);
    ask(&f, &before, "before");
    fake_turn(&f);
    node_execute(&n, c); /* SESSION.OPEN */
    fake_bytes(&f, c, buf_slice(&n.replies));
    fake_turn(&f);
    node_execute(&n, c);
    fake_bytes(&f, c, buf_slice(&n.replies));
    expect(&before, UPSTREAM_DONE, ":1\r\n");
    ask(&f, &executed, "executed");
    fake_turn(&f);
    node_execute(&n, c);
    ask(&f, &lost, "lost");
    fake_turn(&f);
    uint8_t session[16];
    memcpy(session, c->hello_session, sizeof session);
    f.refuse_connect = true;
    fake_break(&f, c);
    assert_false(node_sweep(&n));
    n.time_ms += SESSION_SILENT_MS;
    assert_true(node_sweep(&n));
    assert_int_equal(store_session_count(n.store), 0);
    fake_advance(&f, 2000);
    assert_int_equal(executed.done + lost.done, 0);

    f.refuse_connect = false;
    fake_advance(&f, 2000);
    c = node_up(&f, 1, 5, 1);
    assert_memory_equal(c->hello_session, session, sizeof session); /* it does not know yet */
    fake_turn(&f);
    node_execute(&n, c);
    ask(&f, &unsent, "unsent");
    fake_bytes(&f, c, buf_slice(&n.replies));
    static const char unknown[] = "-UNAVAILABLE the client session was lost; applied: unknown\r\n";
    expect(&executed, UPSTREAM_UNKNOWN, unknown);
    expect(&lost, UPSTREAM_UNKNOWN, unknown);
    assert_true(c->closed);

    fake_advance(&f, 2000);
    c = node_up(&f, 1, 5, 1);
    assert_memory_not_equal(c->hello_session, session, sizeof session);
    for (int i = 0; i < 2; i++) { /* SESSION.OPEN, then the write */
        fake_turn(&f);
        node_execute(&n, c);
        fake_bytes(&f, c, buf_slice(&n.replies));
    }
    assert_int_equal(store_session_count(n.store), 1);
    /* Executed once each, or not at all; never twice: the values tell. */
    static const char *const counters[] = {"executed", "lost", "unsent"};
    static const char *const next[] = {":2\r\n", ":1\r\n", ":2\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(counters); i++) {
        ask(&f, &after, counters[i]);
        fake_turn(&f);
        node_execute(&n, c);
        fake_bytes(&f, c, buf_slice(&n.replies));
        expect(&after, UPSTREAM_DONE, next[i]);
    }
    expect(&unsent, UPSTREAM_DONE, ":1\r\n");
    fake_fini(&f);
    node_close(&n);
}

/* A change of members whose leader stopped leading may be in the log. That the next one refuses it
 * does not mean that it was not applied: the node may be gone because of it. */
static void test_membership_in_doubt(void **state) {
    struct fake f;
    struct request removal = {0}, refused = {0}, late = {.up.timeout_ms = 300},
                   early = {.up.timeout_ms = 300};
    fake_init(&f, &options);
    fake_turn(&f);
    struct fake_conn *c = node_up(&f, 1, 5, 1);
    request_submit(&f, &refused, UPSTREAM_ADMIN, "NODE.REMOVE");
    fake_turn(&f);
    assert_int_equal(node_take(c), 1);
    node_answer(&f, c, &c->items[0], LINK_REFUSED, 0, "-ERR no such node\r\n");
    assert_done(&refused, UPSTREAM_NOT_APPLIED, "-ERR no such node\r\n");

    request_submit(&f, &removal, UPSTREAM_ADMIN, "NODE.REMOVE");
    fake_turn(&f);
    assert_int_equal(node_take(c), 1);
    node_answer(&f, c, &c->items[0], LINK_UNAVAILABLE, 0, "");
    fake_advance(&f, 200);
    assert_int_equal(node_take(c), 1);
    node_answer(&f, c, &c->items[0], LINK_REFUSED, 0, "-ERR no such node\r\n");
    assert_done(&removal, UPSTREAM_UNKNOWN, "-ERR no such node\r\n");

    request_submit(&f, &late, UPSTREAM_ADMIN, "NODE.REMOVE");
    request_submit(&f, &early, UPSTREAM_ADMIN, "NODE.REMOVE");
    fake_turn(&f);
    assert_int_equal(node_take(c), 2);
    struct item second = c->items[1];
    node_answer(&f, c, &c->items[0], LINK_UNAVAILABLE, 0, "");
    node_answer(&f, c, &second, LINK_NOT_LEADER, 0, "");
    node_topology(&f, c, 6, 0);
    for (int i = 0; i < 40; i++) {
        fake_advance(&f, 20);
        node_take(c);
        for (size_t k = 0; k < c->item_count; k++)
            if (c->items[k].id)
                node_answer(&f, c, &c->items[k], LINK_NOT_LEADER, 0, "");
    }
    assert_done(&late, UPSTREAM_UNKNOWN,
                "-UNAVAILABLE no node answered in time; applied: unknown\r\n");
    assert_done(&early, UPSTREAM_NOT_APPLIED,
                "-UNAVAILABLE no node answered in time; applied: no\r\n");
    fake_fini(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dropped_session),
        cmocka_unit_test(test_membership_in_doubt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
