/* Direct reads: the upstream with a gate to a real store, and a node that the test plays. */
#include "upstream_fake.h"

#include <stdio.h>
#include <unistd.h>

#include "store/gate.h"

enum { TIME_MS = 1700000000 };

static struct {
    struct fake f;
    char dir[64], store_dir[80];
    struct store *store;
    struct store_gate *gate;
    struct fake_conn *node; /* 1: of this process, leads nothing */
    struct fake_conn *other;
    int fatal;
} t;

static void on_fatal(void *ctx, int error) {
    t.fatal = error;
}

/* Applies one command as the next entry. */
static void apply(const char *name, const char *key, const char *value) {
    struct buf argv = {0}, commands = {0}, entry = {0};
    uint64_t index = store_applied_index(t.store) + 1;
    argv_append_strs(&argv, name, key, value, NULL);
    entry_append_command(&commands, 0, 0, buf_slice(&argv));
    struct entry_group group = {.command_count = 1, .commands = buf_slice(&commands)};
    entry_begin(&entry, TIME_MS + index, 1);
    entry_append_group(&entry, &group);
    assert_int_equal(store_begin(t.store), 0);
    assert_int_equal(store_apply(t.store, index, 1, buf_slice(&entry), NULL, NULL), 0);
    assert_int_equal(store_commit(t.store), 0);
    buf_fini(&argv);
    buf_fini(&commands);
    buf_fini(&entry);
}

static int setup(void **state) {
    memset(&t, 0, sizeof t);
    snprintf(t.dir, sizeof t.dir, "/tmp/cotidal-direct-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    snprintf(t.store_dir, sizeof t.store_dir, "%s/store", t.dir);
    struct store_options options = {.dir = t.store_dir, .map_bytes = 1 << 26, .boot_id = "boot"};
    assert_int_equal(store_open(&options, &t.store), STORE_OPENED);
    t.gate = store_gate_new(on_fatal, NULL);
    store_gate_open(t.gate, t.store);
    apply("SET", "k", "1"); /* index 1 */
    static const char *const seeds[] = {"local", "n2:1"};
    struct upstream_options up = {.seeds = seeds, .seed_count = 2, .gate = t.gate};
    fake_init(&t.f, &up);
    fake_advance(&t.f, 0);
    t.node = node_up_at(&t.f, "local", 1, 5, 2);
    t.other = node_up(&t.f, 2, 5, 2);
    return 0;
}

static int teardown(void **state) {
    fake_fini(&t.f);
    store_gate_close(t.gate);
    store_gate_free(t.gate);
    store_abandon(t.store);
    assert_int_equal(store_wipe(t.store_dir), 0);
    char path[100];
    snprintf(path, sizeof path, "%s/store.mark", t.store_dir);
    unlink(path);
    assert_int_equal(rmdir(t.store_dir), 0);
    assert_int_equal(rmdir(t.dir), 0);
    assert_int_equal(t.fatal, 0);
    return 0;
}

static void submit_get(struct request *r, enum upstream_kind kind, uint64_t min_index) {
    *r = (struct request){.up.min_index = min_index};
    request_submit(&t.f, r, kind, "DBSIZE"); /* for the fields that it sets */
    upstream_forget(t.f.up, &r->up);
    r->up.kind = kind;
    r->up.min_index = min_index;
    argv_append_strs(&r->up.packed_argv, "GET", "k", NULL);
    upstream_submit(t.f.up, &r->up);
}

static void assert_got(const struct request *r, const char *reply, uint64_t index) {
    assert_done(r, UPSTREAM_DONE, reply);
    assert_int_equal(r->index, index);
}

/* The one question that the node has got. */
static const struct item *asked(void) {
    assert_int_equal(node_take(t.node), 1);
    assert_int_equal(t.node->items[0].type, LINK_READ_INDEX);
    return &t.node->items[0];
}

static uint64_t direct_total(void) {
    struct upstream_status status;
    upstream_get_status(t.f.up, &status);
    return status.direct_total;
}

static void one_question_for_all_that_gathered(void **state) {
    struct request a, b, c;
    submit_get(&a, UPSTREAM_READ, 0);
    submit_get(&b, UPSTREAM_READ, 0);
    fake_turn(&t.f);
    struct item first = *asked();
    submit_get(&c, UPSTREAM_READ, 0);
    fake_turn(&t.f);
    struct item second = *asked();
    assert_int_equal(first.flags, 0);
    assert_int_equal(a.done, 0);
    node_answer_index(&t.f, t.node, &first, LINK_OK, 1, TIME_MS);
    assert_got(&a, "$1\r\n1\r\n", 1);
    assert_got(&b, "$1\r\n1\r\n", 1);
    assert_int_equal(c.done, 0); /* it came after the first question */
    apply("SET", "k", "2");
    node_answer_index(&t.f, t.node, &second, LINK_OK, 2, TIME_MS);
    assert_got(&c, "$1\r\n2\r\n", 2);
    assert_int_equal(direct_total(), 3);
}

/* Whatever the node says: no read is executed on a state before its index. */
static void an_index_that_is_not_applied(void **state) {
    struct request a;
    submit_get(&a, UPSTREAM_READ, 0);
    fake_turn(&t.f);
    struct item first = *asked();
    node_answer_index(&t.f, t.node, &first, LINK_OK, 2, TIME_MS);
    assert_int_equal(a.done, 0);
    fake_turn(&t.f);
    struct item second = *asked();
    assert_int_equal(second.flags, LINK_READ_STALE);
    assert_int_equal(second.min_index, 2);
    apply("SET", "k", "2");
    node_answer_index(&t.f, t.node, &second, LINK_OK, 2, 0);
    assert_got(&a, "$1\r\n2\r\n", 2);
}

static void stale_reads_ask_nobody(void **state) {
    struct request a, b;
    submit_get(&a, UPSTREAM_READ_STALE, 0);
    assert_int_equal(upstream_deadline_ms(t.f.up), 0);
    fake_turn(&t.f);
    assert_got(&a, "$1\r\n1\r\n", 1);
    assert_int_equal(a.up.age_ms, LINK_AGE_UNKNOWN);
    store_gate_note_fresh(t.gate, t.f.now_ms + FAKE_NODE_MS - 70);
    submit_get(&b, UPSTREAM_READ_STALE, 1);
    fake_turn(&t.f);
    assert_got(&b, "$1\r\n1\r\n", 1);
    assert_int_equal(b.up.age_ms, 70);
    assert_int_equal(node_take(t.node), 0);
    assert_int_equal(node_take(t.other), 0);
}

static void stale_reads_wait_for_their_revision(void **state) {
    struct request a, b;
    submit_get(&a, UPSTREAM_READ_STALE, 2);
    submit_get(&b, UPSTREAM_READ_STALE, 9);
    fake_turn(&t.f);
    fake_turn(&t.f);
    assert_int_equal(node_take(t.node), 2);
    struct item first = t.node->items[0], second = t.node->items[1];
    assert_int_equal(first.min_index, 2);
    assert_int_equal(second.min_index, 9);
    apply("SET", "k", "2");
    node_answer_index(&t.f, t.node, &first, LINK_OK, 2, 0);
    assert_got(&a, "$1\r\n2\r\n", 2);
    /* The node gives up before the gateway does. */
    node_answer_index(&t.f, t.node, &second, LINK_UNAVAILABLE, 9, 0);
    fake_turn(&t.f);
    assert_int_equal(asked()->min_index, 9);
    fake_advance(&t.f, 11000);
    assert_done(&b, UPSTREAM_NOT_APPLIED,
                "-UNAVAILABLE this node did not get to the revision that was asked for in time; "
                "applied: no\r\n");
}

static void a_closed_gate_sends_reads_elsewhere(void **state) {
    struct request a, b;
    submit_get(&a, UPSTREAM_READ, 0);
    fake_turn(&t.f);
    struct item first = *asked();
    store_gate_close(t.gate);
    node_answer_index(&t.f, t.node, &first, LINK_OK, 1, TIME_MS);
    submit_get(&b, UPSTREAM_READ_STALE, 0);
    fake_turn(&t.f);
    fake_turn(&t.f);
    assert_int_equal(node_take(t.node), 0);
    assert_int_equal(node_take(t.other), 2);
    assert_int_equal(t.other->items[0].type, LINK_READS);
    node_answer_all(&t.f, t.other);
    assert_done(&a, UPSTREAM_DONE, "+GET\r\n");
    assert_done(&b, UPSTREAM_DONE, "+GET\r\n");
    assert_int_equal(direct_total(), 0);
    store_gate_open(t.gate, t.store);
    fake_advance(&t.f, 400);
    submit_get(&a, UPSTREAM_READ, 0);
    submit_get(&b, UPSTREAM_READ_STALE, 0);
    fake_turn(&t.f);
    node_answer_index(&t.f, t.node, asked(), LINK_OK, 1, TIME_MS);
    assert_got(&a, "$1\r\n1\r\n", 1);
    assert_got(&b, "$1\r\n1\r\n", 1);
}

static void a_node_without_an_index_to_give(void **state) {
    struct request a, b;
    submit_get(&a, UPSTREAM_READ, 0);
    fake_turn(&t.f);
    node_answer_index(&t.f, t.node, asked(), LINK_UNAVAILABLE, 0, 0);
    submit_get(&b, UPSTREAM_READ_STALE, 0); /* the copy is there all the same */
    fake_turn(&t.f);
    assert_got(&b, "$1\r\n1\r\n", 1);
    assert_int_equal(node_take(t.other), 1);
    node_answer_all(&t.f, t.other);
    assert_done(&a, UPSTREAM_DONE, "+GET\r\n");
}

static void a_link_that_breaks(void **state) {
    struct request a, b;
    submit_get(&a, UPSTREAM_READ, 0);
    submit_get(&b, UPSTREAM_READ_STALE, 2);
    fake_turn(&t.f);
    fake_turn(&t.f);
    assert_int_equal(node_take(t.node), 2);
    fake_break(&t.f, t.node);
    fake_turn(&t.f);
    assert_int_equal(node_take(t.other), 1); /* the first one; the second waits for our copy */
    node_answer_all(&t.f, t.other);
    assert_done(&a, UPSTREAM_DONE, "+GET\r\n");
    fake_advance(&t.f, 100);
    t.node = node_up_at(&t.f, "local", 1, 5, 2);
    fake_turn(&t.f);
    apply("SET", "k", "2");
    node_answer_index(&t.f, t.node, asked(), LINK_OK, 2, 0);
    assert_got(&b, "$1\r\n2\r\n", 2);
}

static void forgotten_and_late(void **state) {
    static struct request a, b, c, d; /* one of them outlives the test */
    submit_get(&a, UPSTREAM_READ, 0);
    submit_get(&b, UPSTREAM_READ, 0);
    fake_turn(&t.f);
    struct item first = *asked();
    upstream_forget(t.f.up, &a.up); /* under way */
    node_answer_index(&t.f, t.node, &first, LINK_OK, 1, TIME_MS);
    assert_int_equal(a.done, 0);
    assert_got(&b, "$1\r\n1\r\n", 1);
    submit_get(&c, UPSTREAM_READ_STALE, 0);
    upstream_forget(t.f.up, &c.up); /* ready */
    fake_turn(&t.f);
    assert_int_equal(c.done, 0);
    submit_get(&d, UPSTREAM_READ, 0);
    fake_turn(&t.f);
    first = *asked();
    fake_advance(&t.f, 11000);
    assert_int_equal(d.outcome, UPSTREAM_NOT_APPLIED);
    node_answer_index(&t.f, t.node, &first, LINK_OK, 1, TIME_MS); /* nobody waits any more */
    assert_false(t.node->closed);
    assert_int_equal(d.done, 1);
    submit_get(&a, UPSTREAM_READ, 0); /* under way when the upstream ends */
    fake_turn(&t.f);
}

/* More than a turn takes: the rest follows in the next ones, in order. */
static void a_turn_is_bounded(void **state) {
    enum { COUNT = 3000 };
    struct request *r = xcalloc(COUNT, sizeof *r);
    for (int i = 0; i < COUNT; i++)
        submit_get(&r[i], UPSTREAM_READ, 0);
    fake_turn(&t.f);
    node_answer_index(&t.f, t.node, asked(), LINK_OK, 1, TIME_MS);
    int done = 0;
    while (done < COUNT && r[done].done)
        done++;
    assert_in_range(done, 1, COUNT / 2);
    assert_int_equal(upstream_deadline_ms(t.f.up), 0);
    apply("SET", "k", "2");
    for (int i = 0; i < 5; i++)
        fake_turn(&t.f);
    for (int i = 0; i < COUNT; i++)
        assert_got(&r[i], i < done ? "$1\r\n1\r\n" : "$1\r\n2\r\n", i < done ? 1 : 2);
    free(r);
}

static void wrong_answers_break_the_link(void **state) {
    static struct request a; /* outlives the test */
    submit_get(&a, UPSTREAM_READ, 0);
    fake_turn(&t.f);
    struct item first = *asked(), wrong = first;
    wrong.type = LINK_READS;
    node_answer(&t.f, t.node, &wrong, LINK_OK, 1, "+OK\r\n"); /* a reply to a question */
    assert_true(t.node->closed);
    fake_turn(&t.f);
    assert_int_equal(node_take(t.other), 1);
    node_answer_index(&t.f, t.other, &t.other->items[0], LINK_OK, 1, 1); /* and the reverse */
    assert_true(t.other->closed);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_question_for_all_that_gathered),
        TEST(an_index_that_is_not_applied),
        TEST(stale_reads_ask_nobody),
        TEST(stale_reads_wait_for_their_revision),
        TEST(a_closed_gate_sends_reads_elsewhere),
        TEST(a_node_without_an_index_to_give),
        TEST(a_link_that_breaks),
        TEST(forgotten_and_late),
        TEST(a_turn_is_bounded),
        TEST(wrong_answers_break_the_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
