/* Directed cases of the upstream. test_upstream_random.c has the random ones. */
#include "upstream_fake.h"

#include <stdio.h>

static const char *const seeds3[] = {"n1:1", "n2:1", "n3:1"};
static const struct upstream_options three = {.seeds = seeds3, .seed_count = 3};

struct trio {
    struct fake f;
    struct fake_conn *n[4]; /* by node id */
};

/* Three nodes, the first leads in term 5, the session is open. */
static void trio_init(struct trio *t) {
    fake_init(&t->f, &three);
    fake_turn(&t->f);
    for (uint64_t id = 1; id <= 3; id++)
        t->n[id] = node_up(&t->f, id, 5, 1);
    node_open_session(&t->f, t->n[1]);
}

static void submit_writes(struct trio *t, struct request *r, size_t count) {
    static const char *const names[] = {"A", "B", "C", "D", "E", "F", "G", "H"};
    for (size_t i = 0; i < count; i++)
        request_submit(&t->f, &r[i], UPSTREAM_WRITE, names[i]);
}

static void assert_items(const struct fake_conn *c, const char *names, uint64_t first_id) {
    assert_int_equal(c->item_count, strlen(names));
    for (size_t i = 0; i < c->item_count; i++) {
        assert_int_equal(c->items[i].name[0], names[i]);
        assert_int_equal(c->items[i].id, first_id + i);
    }
}

static struct upstream_status status_of(struct fake *f) {
    struct upstream_status s;
    upstream_get_status(f->up, &s);
    return s;
}

/* ---- the session and its sequences ---- */

static void test_session_opens_first(void **state) {
    struct fake f;
    struct request a, b;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    fake_init(&f, &three);
    fake_turn(&f);
    assert_false(status_of(&f).ready);
    request_submit(&f, &a, UPSTREAM_WRITE, "A");
    struct fake_conn *n1 = node_up(&f, 1, 5, 1);
    fake_turn(&f);
    assert_true(status_of(&f).ready);
    assert_int_equal(status_of(&f).links_up, 1);
    assert_int_equal(node_take(n1), 1);
    assert_string_equal(n1->items[0].name, "SESSION.OPEN");
    request_submit(&f, &b, UPSTREAM_WRITE, "B");
    fake_advance(&f, 50);
    assert_int_equal(node_take(n1), 0);
    n1->items[0] = (struct item){.type = LINK_WRITES, .id = 1};
    node_answer(&f, n1, &n1->items[0], LINK_OK, 1, "+OK\r\n");
    n1->sends = 0;
    fake_turn(&f);
    assert_int_equal(n1->sends, 1); /* both in one batch */
    node_take(n1);
    assert_items(n1, "AB", 2);
    node_answer_all(&f, n1);
    assert_done(&a, UPSTREAM_DONE, "+A\r\n");
    assert_int_equal(a.index, 100);
    assert_done(&b, UPSTREAM_DONE, "+B\r\n");
    assert_int_equal(status_of(&f).pending_requests, 0);
    fake_fini(&f);
}

static void test_acked_below_is_lowest_unanswered(void **state) {
    struct trio t;
    struct request r[4] = {0};
    trio_init(&t);
    submit_writes(&t, r, 3);
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_items(t.n[1], "ABC", 3);
    struct item items[3];
    memcpy(items, t.n[1]->items, sizeof items);
    node_answer(&t.f, t.n[1], &items[1], LINK_OK, 7, "+B\r\n");
    node_answer(&t.f, t.n[1], &items[2], LINK_OK, 7, "+C\r\n");
    request_submit(&t.f, &r[3], UPSTREAM_WRITE, "D");
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_items(t.n[1], "D", 6);
    assert_int_equal(t.n[1]->items[0].acked_below, 3);
    node_answer(&t.f, t.n[1], &items[0], LINK_OK, 7, "+A\r\n");
    node_answer_all(&t.f, t.n[1]);
    struct request e = {0};
    request_submit(&t.f, &e, UPSTREAM_WRITE, "E");
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_int_equal(t.n[1]->items[0].acked_below, 7);
    node_answer_all(&t.f, t.n[1]);
    assert_done(&e, UPSTREAM_DONE, "+E\r\n");
    fake_fini(&t.f);
}

static void test_idle_session_is_renewed(void **state) {
    struct trio t;
    struct request r = {0};
    trio_init(&t);
    uint8_t before[16];
    memcpy(before, t.n[1]->hello_session, 16);
    fake_advance(&t.f, 31 * 60 * 1000);
    request_submit(&t.f, &r, UPSTREAM_WRITE, "A");
    fake_turn(&t.f);
    assert_true(t.n[1]->closed);
    fake_advance(&t.f, 1);
    t.n[1] = node_up(&t.f, 1, 5, 1);
    assert_memory_not_equal(t.n[1]->hello_session, before, 16);
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_string_equal(t.n[1]->items[0].name, "SESSION.OPEN");
    node_answer(&t.f, t.n[1], &t.n[1]->items[0], LINK_OK, 1, "+OK\r\n");
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_items(t.n[1], "A", 2);
    node_answer_all(&t.f, t.n[1]);
    assert_done(&r, UPSTREAM_DONE, "+A\r\n");
    fake_fini(&t.f);
}

static void test_session_gone(void **state) {
    struct trio t;
    struct request r[3] = {0};
    trio_init(&t);
    uint8_t before[16];
    memcpy(before, t.n[1]->hello_session, 16);
    submit_writes(&t, r, 2);
    fake_turn(&t.f);
    node_take(t.n[1]);
    struct item first = t.n[1]->items[0];
    request_submit(&t.f, &r[2], UPSTREAM_WRITE, "C"); /* not sent yet */
    node_answer(&t.f, t.n[1], &first, LINK_SESSION_GONE, 9, "");
    assert_done(&r[0], UPSTREAM_UNKNOWN,
                "-UNAVAILABLE the client session was lost; applied: unknown\r\n");
    assert_done(&r[1], UPSTREAM_UNKNOWN,
                "-UNAVAILABLE the client session was lost; applied: unknown\r\n");
    assert_int_equal(r[2].done, 0);
    for (int i = 1; i <= 3; i++)
        assert_true(t.n[i]->closed);
    fake_advance(&t.f, 40);
    t.n[1] = node_up(&t.f, 1, 5, 1);
    assert_memory_not_equal(t.n[1]->hello_session, before, 16);
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_string_equal(t.n[1]->items[0].name, "SESSION.OPEN");
    node_answer(&t.f, t.n[1], &t.n[1]->items[0], LINK_OK, 1, "+OK\r\n");
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_items(t.n[1], "C", 2);
    node_answer_all(&t.f, t.n[1]);
    assert_done(&r[2], UPSTREAM_DONE, "+C\r\n");
    fake_fini(&t.f);
}

/* ---- the leader ---- */

static void test_leader_change_mid_flight(void **state) {
    struct trio t;
    struct request r[5] = {0};
    trio_init(&t);
    submit_writes(&t, r, 4);
    fake_turn(&t.f);
    node_take(t.n[1]);
    node_answer(&t.f, t.n[1], &t.n[1]->items[1], LINK_OK, 9, "+B\r\n");
    assert_done(&r[1], UPSTREAM_DONE, "+B\r\n");
    node_topology(&t.f, t.n[2], 6, 2);
    request_submit(&t.f, &r[4], UPSTREAM_WRITE, "E");
    fake_turn(&t.f);
    /* What was on its way to the old leader must not come late. */
    assert_true(t.n[1]->closed);
    assert_int_equal(node_take(t.n[2]), 4);
    static const struct {
        char name;
        uint64_t id;
    } want[] = {{'A', 3}, {'C', 5}, {'D', 6}, {'E', 7}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(t.n[2]->items[i].name[0], want[i].name);
        assert_int_equal(t.n[2]->items[i].id, want[i].id);
        assert_int_equal(t.n[2]->items[i].acked_below, 3);
    }
    assert_int_equal(status_of(&t.f).retried_total, 3);
    assert_int_equal(status_of(&t.f).term, 6);
    /* An older view of the third node changes nothing. */
    node_topology(&t.f, t.n[3], 5, 1);
    fake_turn(&t.f);
    assert_int_equal(status_of(&t.f).leader_id, 2);
    node_answer_all(&t.f, t.n[2]);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(r[i].done, 1);
    fake_fini(&t.f);
}

static void test_not_leader_is_damped(void **state) {
    struct trio t;
    struct request r = {0};
    trio_init(&t);
    request_submit(&t.f, &r, UPSTREAM_WRITE, "A");
    fake_turn(&t.f);
    int asked = 0;
    uint64_t begun = t.f.now_ms, last = begun;
    while (t.f.now_ms < begun + 2000) {
        if (node_take(t.n[1])) {
            assert_items(t.n[1], "A", 3);
            if (asked > 0)
                assert_true(t.f.now_ms - last >= 10);
            last = t.f.now_ms;
            asked++;
            node_answer(&t.f, t.n[1], &t.n[1]->items[0], LINK_NOT_LEADER, 0, "");
        }
        fake_advance(&t.f, 1);
    }
    assert_in_range(asked, 8, 25);
    assert_int_equal(r.done, 0);
    /* News of a leader end the wait at once. */
    node_take(t.n[1]);
    node_topology(&t.f, t.n[3], 7, 3);
    fake_turn(&t.f);
    node_take(t.n[3]);
    assert_items(t.n[3], "A", 3);
    node_answer_all(&t.f, t.n[3]);
    assert_done(&r, UPSTREAM_DONE, "+A\r\n");
    fake_fini(&t.f);
}

/* It says no to one write and owes the answer to another: both must come in order again. */
static void test_refused_and_owed_go_in_order(void **state) {
    struct trio t;
    struct request r[3] = {0};
    trio_init(&t);
    submit_writes(&t, r, 3);
    fake_turn(&t.f);
    node_take(t.n[1]);
    node_answer(&t.f, t.n[1], &t.n[1]->items[1], LINK_NOT_LEADER, 0, "");
    fake_advance(&t.f, 90);
    assert_false(t.n[1]->closed);
    assert_int_equal(node_take(t.n[1]), 0);
    fake_advance(&t.f, 40);
    assert_true(t.n[1]->closed);
    fake_advance(&t.f, 1);
    t.n[1] = node_up(&t.f, 1, 5, 1);
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_items(t.n[1], "ABC", 3);
    node_answer_all(&t.f, t.n[1]);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(r[i].done, 1);
    fake_fini(&t.f);
}

/* The same leader in a new term may have lost what it had taken before. */
static void test_new_term_of_the_same_leader(void **state) {
    struct trio t;
    struct request r[2] = {0};
    trio_init(&t);
    submit_writes(&t, r, 1);
    fake_turn(&t.f);
    node_take(t.n[1]);
    node_topology(&t.f, t.n[1], 7, 1);
    request_submit(&t.f, &r[1], UPSTREAM_WRITE, "B");
    fake_advance(&t.f, 50);
    assert_int_equal(node_take(t.n[1]), 0);
    fake_advance(&t.f, 60);
    assert_true(t.n[1]->closed);
    t.n[1] = node_up(&t.f, 1, 7, 1);
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_items(t.n[1], "AB", 3);
    node_answer_all(&t.f, t.n[1]);
    assert_done(&r[1], UPSTREAM_DONE, "+B\r\n");
    fake_fini(&t.f);
}

static void test_leader_steps_down_without_successor(void **state) {
    struct trio t;
    struct request r = {0};
    trio_init(&t);
    node_topology(&t.f, t.n[1], 6, 0);
    request_submit(&t.f, &r, UPSTREAM_WRITE, "A");
    fake_advance(&t.f, 500);
    assert_int_equal(node_take(t.n[1]), 0);
    assert_false(status_of(&t.f).ready);
    node_topology(&t.f, t.n[2], 7, 3);
    fake_turn(&t.f);
    node_take(t.n[3]);
    assert_items(t.n[3], "A", 3);
    node_answer_all(&t.f, t.n[3]);
    fake_fini(&t.f);
}

/* A new leader answers what its predecessor had proposed, before it is asked and once more after.
 */
static void test_answers_before_and_after_the_question(void **state) {
    struct trio t;
    struct request r[2] = {0};
    trio_init(&t);
    submit_writes(&t, r, 2);
    fake_turn(&t.f);
    node_take(t.n[1]);
    struct item items[2];
    memcpy(items, t.n[1]->items, sizeof items);
    node_answer(&t.f, t.n[2], &items[0], LINK_OK, 9, "+A\r\n");
    assert_done(&r[0], UPSTREAM_DONE, "+A\r\n");
    node_topology(&t.f, t.n[2], 6, 2);
    fake_turn(&t.f);
    node_take(t.n[2]);
    assert_items(t.n[2], "B", 4);
    node_answer(&t.f, t.n[2], &items[1], LINK_OK, 10, "+B\r\n");
    node_answer(&t.f, t.n[2], &items[1], LINK_OK, 11, "+B\r\n");
    node_answer(&t.f, t.n[2], &items[0], LINK_OK, 11, "+A\r\n");
    assert_done(&r[1], UPSTREAM_DONE, "+B\r\n");
    assert_int_equal(r[1].index, 10);
    assert_int_equal(status_of(&t.f).protocol_errors_total, 0);
    fake_fini(&t.f);
}

static void test_link_break_resends(void **state) {
    struct trio t;
    struct request r[2] = {0};
    trio_init(&t);
    submit_writes(&t, r, 2);
    fake_turn(&t.f);
    assert_int_equal(node_take(t.n[1]), 2);
    fake_break(&t.f, t.n[1]);
    fake_turn(&t.f);
    assert_null(fake_find(&t.f, "n1:1"));
    fake_advance(&t.f, 25);
    t.n[1] = node_up(&t.f, 1, 5, 1);
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_items(t.n[1], "AB", 3);
    node_answer_all(&t.f, t.n[1]);
    assert_done(&r[0], UPSTREAM_DONE, "+A\r\n");
    assert_done(&r[1], UPSTREAM_DONE, "+B\r\n");
    fake_fini(&t.f);
}

/* ---- outcomes ---- */

static void test_busy_and_refused(void **state) {
    struct trio t;
    struct request r[4] = {0};
    trio_init(&t);
    submit_writes(&t, r, 4);
    fake_turn(&t.f);
    node_take(t.n[1]);
    node_answer(&t.f, t.n[1], &t.n[1]->items[0], LINK_BUSY, 0, "-BUSY too much\r\n");
    assert_done(&r[0], UPSTREAM_NOT_APPLIED, "-BUSY too much\r\n");
    node_answer(&t.f, t.n[1], &t.n[1]->items[1], LINK_REFUSED, 0, "-OOM full\r\n");
    assert_done(&r[1], UPSTREAM_NOT_APPLIED, "-OOM full\r\n");
    /* In doubt: these two were on a link that broke. */
    fake_break(&t.f, t.n[1]);
    fake_advance(&t.f, 25);
    t.n[1] = node_up(&t.f, 1, 5, 1);
    fake_turn(&t.f);
    node_take(t.n[1]);
    assert_items(t.n[1], "CD", 5);
    struct item d = t.n[1]->items[1];
    node_answer(&t.f, t.n[1], &t.n[1]->items[0], LINK_REFUSED, 0, "-OOM full\r\n");
    assert_done(&r[2], UPSTREAM_UNKNOWN,
                "-UNAVAILABLE the leader refused to say; applied: unknown\r\n");
    node_answer(&t.f, t.n[1], &d, LINK_BUSY, 0, "-BUSY too much\r\n");
    assert_int_equal(r[3].done, 0);
    fake_advance(&t.f, 30);
    node_take(t.n[1]);
    assert_items(t.n[1], "D", 6);
    node_answer_all(&t.f, t.n[1]);
    assert_done(&r[3], UPSTREAM_DONE, "+D\r\n");
    fake_fini(&t.f);
}

static void test_time_limits(void **state) {
    struct trio t;
    struct request sent = {.up.timeout_ms = 300}, refused = {.up.timeout_ms = 300}, unsent = {0},
                   read = {.up.timeout_ms = 300};
    trio_init(&t);
    request_submit(&t.f, &sent, UPSTREAM_WRITE, "S");
    request_submit(&t.f, &refused, UPSTREAM_WRITE, "R");
    request_submit(&t.f, &read, UPSTREAM_READ, "Q");
    fake_turn(&t.f);
    node_take(t.n[1]);
    struct item first = {0};
    for (size_t i = 0; i < t.n[1]->item_count; i++) {
        const struct item *item = &t.n[1]->items[i];
        if (item->name[0] == 'S')
            first = *item;
        if (item->name[0] == 'R')
            node_answer(&t.f, t.n[1], item, LINK_UNAVAILABLE, 0, "");
    }
    assert_int_equal(first.id, 3);
    node_topology(&t.f, t.n[1], 6, 0);
    unsent.up.timeout_ms = 250;
    request_submit(&t.f, &unsent, UPSTREAM_WRITE, "U");
    fake_advance(&t.f, 200);
    assert_int_equal(sent.done + refused.done + unsent.done + read.done, 0);
    fake_advance(&t.f, 200);
    assert_done(&sent, UPSTREAM_UNKNOWN,
                "-UNAVAILABLE no leader answered in time; applied: unknown\r\n");
    assert_done(&refused, UPSTREAM_NOT_APPLIED,
                "-UNAVAILABLE no leader answered in time; applied: no\r\n");
    assert_done(&unsent, UPSTREAM_NOT_APPLIED,
                "-UNAVAILABLE no leader answered in time; applied: no\r\n");
    assert_done(&read, UPSTREAM_NOT_APPLIED,
                "-UNAVAILABLE no node answered in time; applied: no\r\n");
    assert_true(sent.up.timed_out && refused.up.timed_out && read.up.timed_out);
    /* The one in doubt keeps its sequence, is asked again, and holds acked_below. */
    assert_int_equal(status_of(&t.f).pending_requests, 1);
    struct request next = {0};
    request_submit(&t.f, &next, UPSTREAM_WRITE, "N");
    node_topology(&t.f, t.n[2], 7, 2);
    fake_turn(&t.f);
    struct item *items = (node_take(t.n[2]), t.n[2]->items);
    size_t at = t.n[2]->item_count - 2; /* a read may stand before them */
    assert_string_equal(items[at].name, "S");
    assert_int_equal(items[at].id, first.id);
    assert_string_equal(items[at + 1].name, "N");
    assert_int_equal(items[at + 1].id, first.id + 2);
    assert_int_equal(items[at + 1].acked_below, first.id);
    node_answer(&t.f, t.n[2], &items[at], LINK_OK, 9, "+S\r\n");
    node_answer(&t.f, t.n[2], &items[at + 1], LINK_OK, 9, "+N\r\n");
    assert_int_equal(sent.done, 1);
    assert_done(&next, UPSTREAM_DONE, "+N\r\n");
    assert_int_equal(status_of(&t.f).pending_requests, 0);
    fake_fini(&t.f);
}

/* It waited elsewhere until its time was over: refused with the next call, and never sent. */
static void test_late(void **state) {
    struct trio t;
    struct request late = {.up.late = true}, read = {.up.late = true}, next = {0};
    trio_init(&t);
    request_submit(&t.f, &late, UPSTREAM_WRITE, "L");
    request_submit(&t.f, &read, UPSTREAM_READ, "R");
    request_submit(&t.f, &next, UPSTREAM_WRITE, "N");
    fake_turn(&t.f);
    const char *refused =
        "-UNAVAILABLE it waited for one that was not answered in time; applied: no\r\n";
    assert_done(&late, UPSTREAM_NOT_APPLIED, refused);
    assert_done(&read, UPSTREAM_NOT_APPLIED, refused);
    assert_true(late.up.timed_out && read.up.timed_out);
    node_take(t.n[1]);
    assert_string_equal(t.n[1]->items[t.n[1]->item_count - 1].name, "N");
    for (size_t i = 0; i < t.n[1]->item_count; i++)
        assert_true(t.n[1]->items[i].name[0] != 'L' && t.n[1]->items[i].name[0] != 'R');
    node_answer_all(&t.f, t.n[1]);
    assert_done(&next, UPSTREAM_DONE, "+N\r\n");
    assert_false(next.up.timed_out);
    fake_fini(&t.f);
}

/* "Not the leader" does not say that nothing was applied. */
static void test_not_leader_leaves_doubt(void **state) {
    struct trio t;
    struct request r = {.up.timeout_ms = 200};
    trio_init(&t);
    request_submit(&t.f, &r, UPSTREAM_WRITE, "A");
    fake_turn(&t.f);
    node_take(t.n[1]);
    node_topology(&t.f, t.n[1], 6, 0);
    node_answer(&t.f, t.n[1], &t.n[1]->items[0], LINK_NOT_LEADER, 0, "");
    fake_advance(&t.f, 300);
    assert_done(&r, UPSTREAM_UNKNOWN,
                "-UNAVAILABLE no leader answered in time; applied: unknown\r\n");
    fake_fini(&t.f);
}

static void test_forget(void **state) {
    struct trio t;
    struct request r[4] = {0}, rejected = {0};
    trio_init(&t);
    submit_writes(&t, r, 2);
    request_submit(&t.f, &r[2], UPSTREAM_READ, "Q");
    fake_turn(&t.f);
    node_take(t.n[1]);
    upstream_forget(t.f.up, &r[0].up); /* sent: kept */
    upstream_forget(t.f.up, &r[2].up); /* a read under way */
    request_submit(&t.f, &r[3], UPSTREAM_WRITE, "D");
    upstream_forget(t.f.up, &r[3].up); /* never sent: gone */
    request_submit_sized(&t.f, &rejected, UPSTREAM_WRITE, "X", LINK_FRAME_BYTES_MAX);
    upstream_forget(t.f.up, &rejected.up);
    memset(&r[0], 0xaa, sizeof r[0]);
    memset(&r[2], 0xaa, sizeof r[2]);
    memset(&r[3], 0xaa, sizeof r[3]);
    memset(&rejected, 0xaa, sizeof rejected);
    assert_int_equal(status_of(&t.f).pending_requests, 2);
    for (int i = 1; i <= 3; i++) { /* the read's answer finds nobody */
        if (i > 1)
            node_take(t.n[i]);
        for (size_t k = 0; k < t.n[i]->item_count; k++)
            if (t.n[i]->items[k].type == LINK_READS)
                node_answer(&t.f, t.n[i], &t.n[i]->items[k], LINK_OK, 9, "+Q\r\n");
    }
    node_topology(&t.f, t.n[2], 6, 2);
    fake_turn(&t.f);
    node_take(t.n[2]);
    assert_items(t.n[2], "AB", 3);
    node_answer_all(&t.f, t.n[2]);
    assert_done(&r[1], UPSTREAM_DONE, "+B\r\n");
    assert_int_equal(status_of(&t.f).pending_requests, 0);
    assert_int_equal(status_of(&t.f).protocol_errors_total, 0);
    fake_fini(&t.f);
}

static void test_limits(void **state) {
    struct fake f;
    struct upstream_options o = three;
    struct request r[3] = {0}, big = {0};
    o.pending_requests_max = 2;
    o.pending_bytes_max = 1000;
    fake_init(&f, &o);
    request_submit(&f, &big, UPSTREAM_WRITE, "BIG");
    upstream_forget(f.up, &big.up);
    request_submit_sized(&f, &big, UPSTREAM_WRITE, "BIG", 2000);
    request_submit(&f, &r[0], UPSTREAM_WRITE, "A");
    request_submit(&f, &r[1], UPSTREAM_READ, "B");
    request_submit(&f, &r[2], UPSTREAM_READ_STALE, "C");
    assert_int_equal(r[2].done, 0);
    assert_true(upstream_deadline_ms(f.up) <= f.now_ms);
    fake_turn(&f);
    assert_done(&r[2], UPSTREAM_NOT_APPLIED,
                "-BUSY too many requests wait for the database; applied: no\r\n");
    assert_done(&big, UPSTREAM_NOT_APPLIED,
                "-BUSY too many requests wait for the database; applied: no\r\n");
    upstream_free(f.up);
    f.up = NULL;
    assert_done(&r[0], UPSTREAM_NOT_APPLIED,
                "-UNAVAILABLE the server is stopping; applied: no\r\n");
    assert_done(&r[1], UPSTREAM_NOT_APPLIED,
                "-UNAVAILABLE the server is stopping; applied: no\r\n");
    fake_fini(&f);
}

static void test_free_with_writes_sent(void **state) {
    struct trio t;
    struct request r[2] = {0}, read = {0}, admin = {0};
    trio_init(&t);
    submit_writes(&t, r, 2);
    request_submit(&t.f, &read, UPSTREAM_READ, "Q");
    request_submit(&t.f, &admin, UPSTREAM_ADMIN, "STATUS");
    fake_turn(&t.f);
    upstream_forget(t.f.up, &r[1].up);
    fake_fini(&t.f);
    assert_done(&r[0], UPSTREAM_UNKNOWN,
                "-UNAVAILABLE the server is stopping; applied: unknown\r\n");
    assert_done(&read, UPSTREAM_NOT_APPLIED,
                "-UNAVAILABLE the server is stopping; applied: no\r\n");
    assert_done(&admin, UPSTREAM_UNKNOWN,
                "-UNAVAILABLE the server is stopping; applied: unknown\r\n");
}

/* ---- windows ---- */

static void test_request_window(void **state) {
    struct fake f;
    struct request r[6] = {0};
    static const char *const one[] = {"n1:1"};
    struct upstream_options o = {.seeds = one, .seed_count = 1};
    fake_init(&f, &o);
    fake_turn(&f);
    struct fake_conn *c = fake_find(&f, "n1:1");
    node_accept(&f, c);
    node_hello(&f, c, 1, 3, 1 << 20);
    node_topology(&f, c, 1, 1);
    node_open_session(&f, c);
    for (int i = 0; i < 3; i++)
        request_submit(&f, &r[i], UPSTREAM_WRITE, "W");
    for (int i = 3; i < 6; i++)
        request_submit(&f, &r[i], UPSTREAM_READ, "R");
    fake_turn(&f);
    assert_int_equal(node_take(c), 3);
    fake_turn(&f);
    assert_int_equal(node_take(c), 0);
    c->item_count = 3;
    uint64_t seen = 3;
    while (seen < 6) {
        node_answer(&f, c, &c->items[--c->item_count], LINK_OK, 1, "+OK\r\n");
        struct item rest[3];
        size_t rest_count = c->item_count;
        memcpy(rest, c->items, sizeof(struct item) * rest_count);
        fake_turn(&f);
        assert_int_equal(node_take(c), 1);
        seen++;
        memcpy(rest + rest_count, c->items, sizeof(struct item));
        c->items = xrealloc(c->items, sizeof rest);
        memcpy(c->items, rest, sizeof rest);
        c->item_count = rest_count + 1;
    }
    node_answer_all(&f, c);
    for (int i = 0; i < 6; i++)
        assert_int_equal(r[i].done, 1);
    fake_fini(&f);
}

static void test_byte_window_and_large_requests(void **state) {
    struct fake f;
    struct request small[4] = {0}, large = {0}, large_read = {0};
    static const char *const one[] = {"n1:1"};
    struct upstream_options o = {.seeds = one, .seed_count = 1};
    fake_init(&f, &o);
    fake_turn(&f);
    struct fake_conn *c = fake_find(&f, "n1:1");
    node_accept(&f, c);
    node_hello(&f, c, 1, 100, 1000);
    node_topology(&f, c, 1, 1);
    node_open_session(&f, c);
    request_submit_sized(&f, &small[0], UPSTREAM_WRITE, "A", 600);
    request_submit_sized(&f, &small[1], UPSTREAM_WRITE, "B", 600);
    request_submit_sized(&f, &large, UPSTREAM_WRITE, "L", 5000);
    request_submit_sized(&f, &large_read, UPSTREAM_READ, "M", 3000);
    request_submit_sized(&f, &small[2], UPSTREAM_READ, "C", 10);
    request_submit_sized(&f, &small[3], UPSTREAM_WRITE, "D", 10);
    char order[8] = "";
    for (int i = 0; i < 20 && strlen(order) < 6; i++) {
        fake_turn(&f);
        size_t count = node_take(c);
        size_t bytes = 0;
        for (size_t k = 0; k < count; k++) {
            char name = c->items[k].name[0];
            bytes += name == 'L' ? 5000 : name == 'M' ? 3000 : name <= 'B' ? 600 : 10;
            order[strlen(order)] = name;
        }
        assert_true(bytes <= 1000 || count == 1);
        node_answer_all(&f, c);
    }
    assert_int_equal(strlen(order), 6);
    assert_true(strchr(order, 'A') < strchr(order, 'B'));
    assert_true(strchr(order, 'B') < strchr(order, 'L'));
    assert_true(strchr(order, 'L') < strchr(order, 'D'));
    assert_true(strchr(order, 'M') < strchr(order, 'C'));
    assert_int_equal(status_of(&f).pending_requests, 0);
    fake_fini(&f);
}

/* ---- reads ---- */

static struct fake_conn *find_read(struct trio *t) {
    for (int i = 1; i <= 3; i++)
        if (!t->n[i]->closed && node_take(t->n[i]))
            return t->n[i];
    return NULL;
}

static void test_reads_move_on(void **state) {
    struct trio t;
    struct request r = {.up.min_index = 77, .up.db = 3};
    trio_init(&t);
    request_submit(&t.f, &r, UPSTREAM_READ, "GET");
    fake_turn(&t.f);
    struct fake_conn *first = find_read(&t);
    assert_int_equal(first->items[0].min_index, 77);
    assert_int_equal(first->items[0].db, 3);
    assert_int_equal(first->items[0].flags, 0);
    node_answer(&t.f, first, &first->items[0], LINK_UNAVAILABLE, 0, "");
    fake_turn(&t.f);
    struct fake_conn *second = find_read(&t);
    assert_non_null(second);
    assert_ptr_not_equal(first, second);
    fake_break(&t.f, second);
    fake_turn(&t.f);
    struct fake_conn *third = find_read(&t);
    assert_non_null(third);
    assert_ptr_not_equal(third, first);
    assert_ptr_not_equal(third, second);
    node_answer(&t.f, third, &third->items[0], LINK_OK, 80, "$1\r\nx\r\n");
    assert_done(&r, UPSTREAM_DONE, "$1\r\nx\r\n");
    assert_int_equal(r.index, 80);
    fake_fini(&t.f);
}

/* The second answer must not go to the next read that uses the same place. */
static void test_read_answered_twice(void **state) {
    struct fake f;
    struct request a = {0}, b = {0};
    static const char *const one[] = {"n1:1"};
    struct upstream_options o = {.seeds = one, .seed_count = 1};
    fake_init(&f, &o);
    fake_turn(&f);
    struct fake_conn *c = node_up(&f, 1, 5, 1);
    request_submit(&f, &a, UPSTREAM_READ, "A");
    fake_turn(&f);
    node_take(c);
    struct item item = c->items[0];
    node_answer_all(&f, c);
    request_submit(&f, &b, UPSTREAM_READ, "B");
    fake_turn(&f);
    node_answer(&f, c, &item, LINK_OK, 1, "+A\r\n");
    assert_true(c->closed);
    assert_int_equal(b.done, 0);
    assert_int_equal(status_of(&f).protocol_errors_total, 1);
    fake_fini(&f);
}

static void test_unavailable_reads_are_damped(void **state) {
    struct trio t;
    struct request r = {.up.timeout_ms = 5000};
    trio_init(&t);
    request_submit(&t.f, &r, UPSTREAM_READ, "GET");
    int asked = 0;
    for (int i = 0; i < 2000; i++) {
        fake_advance(&t.f, 1);
        struct fake_conn *c;
        while ((c = find_read(&t))) {
            asked++;
            node_answer(&t.f, c, &c->items[0], LINK_UNAVAILABLE, 0, "");
        }
    }
    assert_in_range(asked, 20, 75);
    fake_advance(&t.f, 400);
    struct fake_conn *c = find_read(&t);
    node_answer(&t.f, c, &c->items[0], LINK_OK, 80, "+late\r\n");
    assert_done(&r, UPSTREAM_DONE, "+late\r\n");
    fake_fini(&t.f);
}

static void test_round_robin_and_staying(void **state) {
    struct trio t;
    struct request r[8] = {0};
    trio_init(&t);
    /* One at a time: every node gets its turn. */
    bool used[4] = {false};
    for (int i = 0; i < 3; i++) {
        request_submit(&t.f, &r[i], UPSTREAM_READ, "GET");
        fake_turn(&t.f);
        for (int n = 1; n <= 3; n++)
            if (node_take(t.n[n])) {
                used[n] = true;
                node_answer_all(&t.f, t.n[n]);
            }
    }
    assert_true(used[1] && used[2] && used[3]);
    /* While some are under way on one node, the next ones join them. */
    request_submit(&t.f, &r[3], UPSTREAM_READ, "GET");
    fake_turn(&t.f);
    request_submit(&t.f, &r[4], UPSTREAM_READ, "GET");
    fake_turn(&t.f);
    struct fake_conn *c = find_read(&t);
    assert_int_equal(c->item_count, 2);
    node_answer_all(&t.f, c);
    fake_fini(&t.f);
}

static void test_local_is_preferred(void **state) {
    static const char *const seeds[] = {"n1:1", "local"};
    struct upstream_options o = {.seeds = seeds, .seed_count = 2};
    struct fake f;
    struct request r[3] = {0}, stale = {0};
    fake_init(&f, &o);
    fake_turn(&f);
    struct fake_conn *n1 = node_up(&f, 1, 5, 1);
    fake_turn(&f);
    /* The topology names our own node as well, at its address. */
    struct fake_conn *self = node_up(&f, 2, 5, 1);
    struct fake_conn *local = node_up_at(&f, "local", 2, 5, 1);
    assert_true(self->closed);
    fake_advance(&f, 5000);
    assert_null(fake_find(&f, "n2:1"));
    for (int i = 0; i < 2; i++) {
        request_submit(&f, &r[i], UPSTREAM_READ, "GET");
        fake_turn(&f);
        assert_int_equal(node_take(local), 1);
        node_answer_all(&f, local);
    }
    assert_int_equal(node_take(n1), 0);
    /* A local node without a leader still answers stale reads. */
    request_submit(&f, &r[2], UPSTREAM_READ, "GET");
    fake_turn(&f);
    node_take(local);
    node_answer(&f, local, &local->items[0], LINK_UNAVAILABLE, 0, "");
    request_submit(&f, &stale, UPSTREAM_READ_STALE, "OLD");
    fake_turn(&f);
    assert_int_equal(node_take(local), 1);
    assert_string_equal(local->items[0].name, "OLD");
    assert_int_equal(local->items[0].flags, LINK_READ_STALE);
    assert_int_equal(node_take(n1), 1);
    assert_string_equal(n1->items[0].name, "GET");
    node_answer_all(&f, local);
    node_answer_all(&f, n1);
    assert_done(&stale, UPSTREAM_DONE, "+OLD\r\n");
    assert_done(&r[2], UPSTREAM_DONE, "+GET\r\n");
    fake_fini(&f);
}

static void test_admin(void **state) {
    static const char *const seeds[] = {"n1:1", "local"};
    struct upstream_options o = {.seeds = seeds, .seed_count = 2};
    struct fake f;
    struct request a = {0}, b = {0};
    fake_init(&f, &o);
    fake_turn(&f);
    struct fake_conn *n1 = node_up(&f, 1, 5, 1);
    struct fake_conn *local = node_up_at(&f, "local", 2, 5, 1);
    request_submit(&f, &a, UPSTREAM_ADMIN, "MEMBER.ADD");
    fake_turn(&f);
    assert_int_equal(node_take(local), 1);
    assert_int_equal(local->items[0].type, LINK_ADMIN);
    node_answer(&f, local, &local->items[0], LINK_NOT_LEADER, 0, "");
    fake_turn(&f);
    assert_int_equal(node_take(n1), 1);
    assert_string_equal(n1->items[0].name, "MEMBER.ADD");
    node_answer_all(&f, n1);
    assert_done(&a, UPSTREAM_DONE, "+MEMBER.ADD\r\n");
    request_submit(&f, &b, UPSTREAM_ADMIN, "MEMBER.ADD");
    fake_turn(&f);
    fake_break(&f, local);
    assert_done(&b, UPSTREAM_UNKNOWN,
                "-UNAVAILABLE the connection to the node broke; applied: unknown\r\n");
    /* What changes nothing when it is asked again, is. */
    struct request c = {0};
    c.up.repeat = true;
    request_submit(&f, &c, UPSTREAM_ADMIN, "MEMBER.LEAD");
    fake_turn(&f);
    assert_int_equal(node_take(n1), 1);
    fake_break(&f, n1);
    fake_advance(&f, 50);
    fake_turn(&f);
    local = node_up_at(&f, "local", 2, 5, 1);
    fake_turn(&f);
    assert_int_equal(node_take(local), 1);
    assert_string_equal(local->items[0].name, "MEMBER.LEAD");
    node_answer_all(&f, local);
    assert_done(&c, UPSTREAM_DONE, "+MEMBER.LEAD\r\n");
    fake_fini(&f);
}

/* ---- connections ---- */

static void test_backoff(void **state) {
    static const char *const one[] = {"n1:1"};
    struct upstream_options o = {.seeds = one, .seed_count = 1};
    struct fake f;
    fake_init(&f, &o);
    uint64_t last = 0, longest = 0;
    for (int i = 0; i < 14; i++) {
        while (!fake_find(&f, "n1:1"))
            fake_advance(&f, 1);
        uint64_t gap = last ? f.now_ms - last : 0;
        assert_true(gap <= 1002);
        longest = gap > longest ? gap : longest;
        last = f.now_ms;
        fake_break(&f, fake_find(&f, "n1:1"));
    }
    assert_true(longest >= 490);
    /* One that says nothing is given up. */
    while (!fake_find(&f, "n1:1"))
        fake_advance(&f, 1);
    struct fake_conn *c = fake_find(&f, "n1:1");
    fake_advance(&f, 1000);
    assert_false(c->closed);
    node_accept(&f, c);
    fake_advance(&f, 2100);
    assert_true(c->closed);
    /* A good one that ends after a while is back at once. */
    fake_advance(&f, 1001);
    c = node_up(&f, 1, 1, 1);
    fake_advance(&f, 1500);
    fake_break(&f, c);
    fake_advance(&f, 21);
    assert_non_null(fake_find(&f, "n1:1"));
    f.refuse_connect = true;
    fake_break(&f, fake_find(&f, "n1:1"));
    fake_advance(&f, 3000);
    fake_fini(&f);
}

static void test_members_are_connected(void **state) {
    static const char *const one[] = {"n1:1"};
    struct upstream_options o = {.seeds = one, .seed_count = 1};
    struct fake f;
    size_t count;
    fake_init(&f, &o);
    assert_null(upstream_members(f.up, &count));
    fake_turn(&f);
    (void)node_up(&f, 1, 5, 2);
    fake_turn(&f);
    const struct link_member *members = upstream_members(f.up, &count);
    assert_int_equal(count, 3);
    assert_int_equal(members[2].id, 3);
    assert_true(slice_equal_str(members[2].peer_address, "n3:1"));
    assert_true(slice_equal_str(members[2].redis_address, "redis"));
    fake_turn(&f);
    struct fake_conn *n2 = node_up(&f, 2, 5, 2);
    struct fake_conn *n3 = node_up(&f, 3, 5, 2);
    fake_advance(&f, 10);
    assert_int_equal(status_of(&f).links_up, 3);
    assert_int_equal(f.conn_count, 3);
    /* The third one leaves. */
    struct buf b = {0};
    struct link_batch batch;
    link_open_topology(&b, &batch, 5, 2);
    struct link_member left[] = {{.id = 1, .peer_address = slice_str("n1:1")},
                                 {.id = 2, .peer_address = slice_str("n2:1")}};
    link_add_member(&b, &batch, &left[0]);
    link_add_member(&b, &batch, &left[1]);
    link_close(&b, &batch);
    fake_bytes(&f, n2, buf_slice(&b));
    buf_fini(&b);
    assert_true(n3->closed);
    assert_false(n2->closed);
    fake_advance(&f, 3000);
    assert_int_equal(f.conn_count, 3);
    fake_fini(&f);
}

static void tell_members(struct fake *f, struct fake_conn *c, uint64_t term, uint64_t leader,
                         const uint64_t *ids, size_t count) {
    static const char *const addresses[] = {"n1:1", "n2:1", "n3:1", "n4:1"};
    struct buf b = {0};
    struct link_batch batch;
    link_open_topology(&b, &batch, term, leader);
    for (size_t i = 0; i < count; i++) {
        struct link_member m = {.id = ids[i], .peer_address = slice_str(addresses[ids[i] - 1])};
        link_add_member(&b, &batch, &m);
    }
    link_close(&b, &batch);
    fake_bytes(f, c, buf_slice(&b));
    buf_fini(&b);
}

/* A node that joins, or is behind, replays old memberships in the leader's term: they do not count.
 * When the leader is gone, a member's word does. */
static void test_old_memberships_do_not_count(void **state) {
    static const char *const one[] = {"n1:1"};
    static const uint64_t old[] = {1}, behind[] = {1, 3}, all[] = {1, 2, 3, 4};
    struct upstream_options o = {.seeds = one, .seed_count = 1};
    struct fake f;
    fake_init(&f, &o);
    fake_turn(&f);
    struct fake_conn *n1 = node_up(&f, 1, 5, 2);
    fake_turn(&f);
    struct fake_conn *n2 = node_up(&f, 2, 5, 2);
    tell_members(&f, n2, 5, 2, all, 4);
    fake_turn(&f);
    struct fake_conn *n3 = node_up(&f, 3, 5, 2);
    struct fake_conn *n4 = fake_find(&f, "n4:1");
    node_accept(&f, n4);
    node_hello(&f, n4, 4, 1000, 1 << 20);
    tell_members(&f, n4, 5, 2, old, 1);
    tell_members(&f, n4, 6, 2, old, 1);
    assert_false(n2->closed);
    tell_members(&f, n3, 5, 2, behind, 2);
    assert_false(n2->closed);
    assert_false(n4->closed);
    fake_break(&f, n2);
    tell_members(&f, n3, 5, 2, behind, 2);
    assert_true(n4->closed);
    assert_false(n1->closed);
    fake_fini(&f);
}

/* Two seeds that are one node: one link stays, the other comes back when it ends. */
static void test_two_names_for_one_node(void **state) {
    static const char *const two[] = {"n1:1", "alias:1"};
    struct upstream_options o = {.seeds = two, .seed_count = 2};
    struct fake f;
    fake_init(&f, &o);
    fake_turn(&f);
    struct fake_conn *c = node_up(&f, 1, 5, 1);
    struct fake_conn *alias = node_up_at(&f, "alias:1", 1, 5, 1);
    assert_true(c->closed);
    fake_advance(&f, 3000);
    assert_int_equal(fake_count(&f, "n1:1"), 1);
    fake_break(&f, alias);
    fake_advance(&f, 1);
    c = node_up(&f, 1, 5, 1);
    fake_advance(&f, 3000);
    assert_int_equal(fake_count(&f, "alias:1"), 1);
    assert_false(c->closed);
    fake_fini(&f);
}

static void test_foreign_cluster_and_version(void **state) {
    struct fake f;
    fake_init(&f, &three);
    fake_turn(&f);
    (void)node_up(&f, 1, 5, 1);
    struct fake_conn *n2 = fake_find(&f, "n2:1"), *n3 = fake_find(&f, "n3:1");
    node_accept(&f, n2);
    node_accept(&f, n3);
    struct link_node_hello h = {.version = LINK_VERSION,
                                .node_id = 2,
                                .cluster_id = {9},
                                .window_requests = 10,
                                .window_bytes = 10};
    struct buf b = {0};
    link_put_node_hello(&b, &h);
    fake_bytes(&f, n2, buf_slice(&b));
    assert_true(n2->closed);
    h.cluster_id[0] = 7;
    h.version++;
    buf_reset(&b);
    link_put_node_hello(&b, &h);
    fake_bytes(&f, n3, buf_slice(&b));
    assert_true(n3->closed);
    assert_int_equal(status_of(&f).protocol_errors_total, 2);
    buf_fini(&b);
    fake_fini(&f);
}

/* ---- bytes ---- */

/* HELLO, TOPOLOGY and answers, cut in two at every place and byte by byte. */
static void test_any_split(void **state) {
    static const char *const one[] = {"n1:1"};
    struct upstream_options o = {.seeds = one, .seed_count = 1};
    struct buf greeting = {0}, answers = {0};
    struct link_batch batch;
    struct link_node_hello h = {
        .version = LINK_VERSION, .node_id = 1, .window_requests = 100, .window_bytes = 1000};
    struct link_member m = {.id = 1, .peer_address = slice_str("n1:1")};
    link_put_node_hello(&greeting, &h);
    link_open_topology(&greeting, &batch, 1, 1);
    link_add_member(&greeting, &batch, &m);
    link_close(&greeting, &batch);
    for (uint64_t i = 0; i < 3; i++) {
        struct link_reply r = {
            .id = i, .kind = LINK_KIND_READ, .index = 5 + i, .reply = slice_str("$3\r\nabc\r\n")};
        link_open_replies(&answers, &batch);
        link_add_reply(&answers, &batch, &r);
        link_close(&answers, &batch);
    }
    for (size_t cut = 0; cut <= greeting.size + answers.size; cut++) {
        struct fake f;
        struct request r[3] = {0};
        fake_init(&f, &o);
        fake_turn(&f);
        struct fake_conn *c = fake_find(&f, "n1:1");
        node_accept(&f, c);
        struct slice in = buf_slice(&greeting);
        size_t step = cut == 0 ? 1 : cut < in.size ? cut : in.size;
        for (size_t at = 0; at < in.size; at += step)
            fake_bytes(&f, c, slice_of(in.data + at, step < in.size - at ? step : in.size - at));
        for (int i = 0; i < 3; i++)
            request_submit(&f, &r[i], UPSTREAM_READ, "GET");
        fake_turn(&f);
        assert_int_equal(node_take(c), 3);
        in = buf_slice(&answers);
        step = cut == 0 ? 1 : cut <= greeting.size ? in.size : cut - greeting.size;
        for (size_t at = 0; at < in.size; at += step)
            fake_bytes(&f, c, slice_of(in.data + at, step < in.size - at ? step : in.size - at));
        for (int i = 0; i < 3; i++) {
            assert_done(&r[i], UPSTREAM_DONE, "$3\r\nabc\r\n");
            assert_int_equal(r[i].index, 5 + i);
        }
        assert_int_equal(status_of(&f).protocol_errors_total, 0);
        fake_fini(&f);
    }
    buf_fini(&greeting);
    buf_fini(&answers);
}

static void append_replies(struct buf *b, uint64_t id, uint8_t kind, uint8_t status) {
    struct link_batch batch;
    struct link_reply r = {
        .id = id, .kind = kind, .status = status, .index = 5, .reply = slice_str("+x\r\n")};
    link_open_replies(b, &batch);
    link_add_reply(b, &batch, &r);
    link_close(b, &batch);
}

/* Each of these ends the link and is counted, and the write that was under way is asked again. */
static void test_malformed(void **state) {
    struct buf bad[11] = {0};
    buf_append_u32(&bad[0], 0);
    buf_append_u32(&bad[1], LINK_FRAME_BYTES_MAX + 1);
    buf_append_u32(&bad[2], 1); /* an unknown type */
    buf_append_u8(&bad[2], 99);
    buf_append_u32(&bad[3], 1); /* types of the other direction, or out of place */
    buf_append_u8(&bad[3], LINK_WRITES);
    buf_append_u32(&bad[4], 1);
    buf_append_u8(&bad[4], LINK_NODE_HELLO);
    append_replies(&bad[5], 1000, LINK_KIND_WRITE, LINK_OK); /* never asked */
    append_replies(&bad[6], 0, LINK_KIND_WRITE, LINK_OK);
    append_replies(&bad[7], 12345, LINK_KIND_READ, LINK_OK);
    append_replies(&bad[8], 3, LINK_KIND_WRITE, 200);
    append_replies(&bad[9], 3, LINK_KIND_WRITE, LINK_OK); /* a reply too many bytes */
    buf_append_u8(&bad[9], 0);
    buf_patch_u32(&bad[9], 0, (uint32_t)bad[9].size - 4);
    buf_append_u32(&bad[10], 1 + 20); /* a topology without members */
    buf_append_u8(&bad[10], LINK_TOPOLOGY);
    for (int i = 0; i < 20; i++)
        buf_append_u8(&bad[10], 0);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        for (size_t cut = 1; cut <= bad[i].size; cut++) {
            struct trio t;
            struct request r = {0};
            trio_init(&t);
            request_submit(&t.f, &r, UPSTREAM_WRITE, "A");
            fake_turn(&t.f);
            node_take(t.n[1]);
            fake_bytes(&t.f, t.n[1], slice_of(bad[i].data, cut));
            if (cut < bad[i].size && !t.n[1]->closed)
                fake_bytes(&t.f, t.n[1], slice_of(bad[i].data + cut, bad[i].size - cut));
            if (!t.n[1]->closed)
                fail_msg("case %zu cut at %zu passed", i, cut);
            assert_int_equal(status_of(&t.f).protocol_errors_total, 1);
            if (r.done) { /* the reply before the damage was whole */
                assert_int_equal(i, 9);
            } else {
                fake_advance(&t.f, 25);
                t.n[1] = node_up(&t.f, 1, 5, 1);
                fake_turn(&t.f);
                node_take(t.n[1]);
                assert_items(t.n[1], "A", 3);
                node_answer_all(&t.f, t.n[1]);
                assert_done(&r, UPSTREAM_DONE, "+A\r\n");
            }
            fake_fini(&t.f);
        }
        buf_fini(&bad[i]);
    }
}

/* ---- callbacks that submit ---- */

struct chain {
    struct upstream_request up;
    struct upstream *upstream;
    int left;
};
static void chain_submit(struct chain *c);
static void chain_done(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct chain *c = CONTAINER_OF(up, struct chain, up);
    assert_int_equal(outcome, UPSTREAM_DONE);
    if (c->left-- > 0)
        chain_submit(c);
}
static void chain_submit(struct chain *c) {
    c->up = (struct upstream_request){.kind = UPSTREAM_WRITE, .done = chain_done};
    argv_append_strs(&c->up.packed_argv, "CHAIN", NULL);
    upstream_submit(c->upstream, &c->up);
}

/* More than fit into the ring's first size, the same request struct again and again. */
static void test_submit_from_callback(void **state) {
    struct trio t;
    struct chain chains[100];
    trio_init(&t);
    for (int i = 0; i < 100; i++) {
        chains[i] = (struct chain){.upstream = t.f.up, .left = 20};
        chain_submit(&chains[i]);
    }
    uint64_t expected = 3;
    while (status_of(&t.f).pending_requests) {
        fake_turn(&t.f);
        assert_true(node_take(t.n[1]) > 0);
        for (size_t i = 0; i < t.n[1]->item_count; i++)
            assert_int_equal(t.n[1]->items[i].id, expected++);
        node_answer_all(&t.f, t.n[1]);
    }
    for (int i = 0; i < 100; i++)
        assert_int_equal(chains[i].left, -1);
    fake_fini(&t.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_opens_first),
        cmocka_unit_test(test_acked_below_is_lowest_unanswered),
        cmocka_unit_test(test_idle_session_is_renewed),
        cmocka_unit_test(test_session_gone),
        cmocka_unit_test(test_leader_change_mid_flight),
        cmocka_unit_test(test_not_leader_is_damped),
        cmocka_unit_test(test_refused_and_owed_go_in_order),
        cmocka_unit_test(test_new_term_of_the_same_leader),
        cmocka_unit_test(test_leader_steps_down_without_successor),
        cmocka_unit_test(test_answers_before_and_after_the_question),
        cmocka_unit_test(test_link_break_resends),
        cmocka_unit_test(test_busy_and_refused),
        cmocka_unit_test(test_time_limits),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_not_leader_leaves_doubt),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_free_with_writes_sent),
        cmocka_unit_test(test_request_window),
        cmocka_unit_test(test_byte_window_and_large_requests),
        cmocka_unit_test(test_reads_move_on),
        cmocka_unit_test(test_read_answered_twice),
        cmocka_unit_test(test_unavailable_reads_are_damped),
        cmocka_unit_test(test_round_robin_and_staying),
        cmocka_unit_test(test_local_is_preferred),
        cmocka_unit_test(test_admin),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_members_are_connected),
        cmocka_unit_test(test_old_memberships_do_not_count),
        cmocka_unit_test(test_two_names_for_one_node),
        cmocka_unit_test(test_foreign_cluster_and_version),
        cmocka_unit_test(test_any_split),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_submit_from_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
