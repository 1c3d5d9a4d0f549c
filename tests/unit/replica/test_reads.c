/* Linearizable reads: a leader among puppets that confirm its rounds or do not, a follower that
 * asks a puppet. */
#include "rig.h"

#include "planted.h"

static bool answered(struct rig_link *l, uint64_t id) {
    const struct rig_reply *reply = rig_reply(l, LINK_KIND_READ, id);
    return reply && reply->status == LINK_OK;
}

static void checked(struct rig *r, unsigned from, uint64_t term, uint64_t round, bool ok) {
    const struct wire_read read = {.term = term, .round = round, .ok = ok};
    struct buf b = {0};
    wire_put_read(&b, WIRE_READ_CHECKED, &read);
    rig_deliver(r, 1, from, buf_slice(&b));
    rig_turn(r);
    buf_fini(&b);
}

static bool asked(struct rig *r, unsigned puppet, uint8_t type, struct wire_read *ret) {
    struct slice payload;
    if (!puppet_got_frame(r, puppet, type, &payload))
        return false;
    assert_true(wire_decode_read(type, payload, ret));
    return true;
}

/* Server 1 leads term 3; 2 acknowledges; the barrier is committed. */
static struct node *leading(struct rig *r, const char *roles) {
    r->servers[2].acks = true;
    struct node *n = rig_elected(r, roles);
    RIG_UNTIL(r, node_commit_index(n) >= 3, 500);
    puppet_forget(r, 2);
    puppet_forget(r, 3);
    return n;
}

/* What the leader before committed is not known before an entry of our own term is. */
static void test_own_term_rule(void **state) {
    struct rig *r = rig_new();
    const struct puppet_entry command = {2, CORE_COMMAND, NULL};
    rig_follower(r, "vvv");
    puppet_append(r, 1, 2, 2, 2, 2, 2, &command, 1); /* committed, but we have not heard so */
    rig_turn(r);
    struct node *n = r->servers[1].node;
    r->servers[2].votes = r->servers[3].votes = true;
    r->servers[2].confirms = r->servers[3].confirms = true;
    RIG_UNTIL(r, node_is_leader(n), 2000);
    struct rig_link *l = rig_link(r, 1, 1);
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_run(r, 200);
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    r->servers[2].acks = true;
    RIG_UNTIL(r, answered(l, 1), 500);
    assert_string_equal(rig_reply(l, LINK_KIND_READ, 1)->text, "$1\r\nv\r\n");
    rig_free(r);
}

static void test_unconfirmed_read_is_refused(void **state) {
    struct rig *r = rig_new();
    leading(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_run(r, NODE_READ_TIMEOUT_MS - 500);
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    rig_run(r, 1000);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 1)->status, LINK_UNAVAILABLE);
    r->servers[3].confirms = true;
    rig_read(l, 2, 0, "GET", "k", NULL);
    RIG_UNTIL(r, answered(l, 2), 500);
    rig_read(l, 3, LINK_READ_STALE, "GET", "k", NULL); /* asks nobody */
    r->servers[3].confirms = false;
    rig_turn(r);
    assert_true(answered(l, 3));
    rig_free(r);
}

static void test_what_confirms_a_read(void **state) {
    struct rig *r = rig_new();
    leading(r, "vvvl");
    struct rig_link *l = rig_link(r, 1, 1);
    struct wire_read ask;
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_turn(r);
    assert_true(asked(r, 2, WIRE_READ_CHECK, &ask));
    assert_int_equal(ask.term, 3);
    assert_false(asked(r, 4, WIRE_READ_CHECK, &(struct wire_read){0})); /* no voter */
    checked(r, 2, 3, ask.round, false);                                 /* it has a newer term */
    checked(r, 2, 3, ask.round - 1, true);                              /* an earlier round */
    checked(r, 2, 3, ask.round + 1, true);
    checked(r, 2, 2, ask.round, true); /* another term */
    checked(r, 4, 3, ask.round, true); /* a learner does not count */
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    checked(r, 3, 3, ask.round, true);
    assert_true(answered(l, 1));
    rig_free(r);
}

/* A confirmation counts for the reads that came before its round began, not for later ones. */
static void test_a_later_read_needs_a_later_round(void **state) {
    struct rig *r = rig_new();
    leading(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    struct wire_read first, second;
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_turn(r);
    assert_true(asked(r, 2, WIRE_READ_CHECK, &first));
    rig_read(l, 2, 0, "GET", "k", NULL);
    checked(r, 2, 3, first.round, true);
    assert_true(answered(l, 1));
    assert_false(answered(l, 2));
    assert_true(asked(r, 2, WIRE_READ_CHECK, &second));
    assert_true(second.round > first.round);
    checked(r, 3, 3, first.round, true);
    assert_false(answered(l, 2));
    checked(r, 3, 3, second.round, true);
    assert_true(answered(l, 2));
    rig_free(r);
}

static void test_lost_questions_are_asked_again(void **state) {
    struct rig *r = rig_new();
    leading(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    struct wire_read ask;
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_turn(r);
    puppet_forget(r, 2);
    puppet_forget(r, 3);
    rig_run(r, 200);
    assert_true(asked(r, 2, WIRE_READ_CHECK, &ask));
    checked(r, 2, 3, ask.round, true);
    assert_true(answered(l, 1));
    rig_free(r);
}

/* ---- what a node says about its own term ---- */

static void test_checks_are_answered_from_the_durable_term(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    struct buf b = {0};
    struct wire_read answer;
    for (uint64_t term = 1; term <= 4; term++) {
        const struct wire_read read = {.term = term, .round = 40 + term};
        buf_reset(&b);
        wire_put_read(&b, WIRE_READ_CHECK, &read);
        rig_deliver(r, 1, 2, buf_slice(&b));
        rig_turn(r);
        assert_true(asked(r, 2, WIRE_READ_CHECKED, &answer));
        assert_int_equal(answer.term, term);
        assert_int_equal(answer.round, 40 + term);
        assert_int_equal(answer.ok, term >= 2);
        assert_int_equal(node_term(n), 2); /* a question changes nothing */
    }
    buf_fini(&b);
    rig_free(r);
}

/* ---- a follower asks the leader ---- */

static void indexed(struct rig *r, unsigned from, uint64_t round, bool ok, uint64_t index) {
    const struct wire_read read = {.round = round, .ok = ok, .index = index, .time_ms = r->wall_ms};
    struct buf b = {0};
    wire_put_read(&b, WIRE_READ_INDEXED, &read);
    rig_deliver(r, 1, from, buf_slice(&b));
    rig_turn(r);
    buf_fini(&b);
}

static void test_a_follower_waits_for_the_index(void **state) {
    struct rig *r = rig_new();
    const struct puppet_entry command = {2, CORE_COMMAND, NULL};
    rig_follower(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    struct wire_read ask;
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_turn(r);
    assert_true(asked(r, 2, WIRE_READ_INDEX, &ask));
    indexed(r, 3, ask.round, true, 1);     /* not the one that was asked */
    indexed(r, 2, ask.round + 1, true, 1); /* another question's answer */
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    indexed(r, 2, ask.round, true, 3);
    assert_null(rig_reply(l, LINK_KIND_READ, 1)); /* entry 3 is not here */
    puppet_append(r, 1, 2, 2, 2, 2, 3, &command, 1);
    rig_turn(r);
    assert_true(answered(l, 1));
    assert_string_equal(rig_reply(l, LINK_KIND_READ, 1)->text, "$1\r\nv\r\n");
    rig_free(r);
}

static void test_a_follower_asks_again(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    struct wire_read first, second;
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_turn(r);
    assert_true(asked(r, 2, WIRE_READ_INDEX, &first));
    indexed(r, 2, first.round, false, 0); /* it leads no more */
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    puppet_forget(r, 2);
    puppet_append(r, 1, 2, 2, 2, 2, 2, NULL, 0);
    rig_run(r, 100);
    assert_true(asked(r, 2, WIRE_READ_INDEX, &second));
    assert_true(second.round != first.round);
    indexed(r, 2, first.round, true, 2);
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    indexed(r, 2, second.round, true, 2);
    assert_true(answered(l, 1));
    rig_free(r);
}

static void test_a_follower_answers_no_other(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "vvv");
    const struct wire_read read = {.round = 77};
    struct buf b = {0};
    struct wire_read answer;
    wire_put_read(&b, WIRE_READ_INDEX, &read);
    rig_deliver(r, 1, 3, buf_slice(&b));
    rig_turn(r);
    assert_true(asked(r, 3, WIRE_READ_INDEXED, &answer));
    assert_false(answer.ok);
    assert_int_equal(answer.round, 77);
    buf_fini(&b);
    rig_free(r);
}

static void test_a_leader_answers_others_after_a_round(void **state) {
    struct rig *r = rig_new();
    struct node *n = leading(r, "vvv");
    const struct wire_read read = {.round = 77};
    struct buf b = {0};
    struct wire_read ask, answer;
    wire_put_read(&b, WIRE_READ_INDEX, &read);
    rig_deliver(r, 1, 3, buf_slice(&b));
    rig_turn(r);
    assert_false(asked(r, 3, WIRE_READ_INDEXED, &answer));
    assert_true(asked(r, 2, WIRE_READ_CHECK, &ask));
    checked(r, 2, 3, ask.round, true);
    assert_true(asked(r, 3, WIRE_READ_INDEXED, &answer));
    assert_true(answer.ok);
    assert_int_equal(answer.round, 77);
    assert_int_equal(answer.index, node_commit_index(n));
    /* A new leader turns up while a round is under way: nobody is told anything that was not
     * confirmed. */
    puppet_forget(r, 3);
    rig_deliver(r, 1, 3, buf_slice(&b));
    rig_turn(r);
    puppet_append(r, 1, 2, 9, 3, 3, 3, NULL, 0);
    rig_turn(r);
    assert_false(node_is_leader(n));
    assert_true(asked(r, 3, WIRE_READ_INDEXED, &answer));
    assert_false(answer.ok);
    buf_fini(&b);
    rig_free(r);
}

static bool answers(struct rig *r, unsigned from, uint64_t term, uint64_t round,
                    struct wire_read *ret) {
    const struct wire_read read = {.term = term, .round = round};
    struct buf b = {0};
    puppet_forget(r, from);
    wire_put_read(&b, WIRE_READ_INDEX, &read);
    rig_deliver(r, 1, from, buf_slice(&b));
    rig_turn(r);
    buf_fini(&b);
    return asked(r, from, WIRE_READ_INDEXED, ret);
}

/* Of three voters the leader and the one that asks, in the same term, are a majority. */
static void test_who_asks_in_our_term_confirms_it(void **state) {
    struct rig *r = rig_new();
    struct node *n = leading(r, "vvvl");
    struct wire_read answer;
    assert_true(answers(r, 3, 3, 77, &answer));
    assert_true(answer.ok);
    assert_int_equal(answer.round, 77);
    assert_int_equal(answer.index, node_commit_index(n));
    assert_false(answers(r, 3, 2, 78, &answer)); /* another term */
    assert_false(answers(r, 4, 3, 79, &answer)); /* a learner */
    rig_free(r);
}

static void test_of_four_two_are_no_majority(void **state) {
    struct rig *r = rig_new();
    r->servers[3].acks = true;
    leading(r, "vvvv");
    struct wire_read answer;
    assert_false(answers(r, 3, 3, 77, &answer));
    rig_free(r);
}

/* As many are asked as are needed; the others when they do not answer. */
static void test_who_is_asked(void **state) {
    struct rig *r = rig_new();
    leading(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    struct wire_read ask;
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_turn(r);
    assert_true(asked(r, 2, WIRE_READ_CHECK, &ask));
    assert_false(asked(r, 3, WIRE_READ_CHECK, &ask));
    rig_run(r, NODE_READ_AGAIN_MS);
    assert_true(asked(r, 3, WIRE_READ_CHECK, &ask));
    checked(r, 3, 3, ask.round, true);
    assert_true(answered(l, 1));
    rig_free(r);
}

/* ---- gateways that read by themselves ---- */

static void test_an_index_is_confirmed_and_applied(void **state) {
    struct rig *r = rig_new();
    const struct puppet_entry command = {2, CORE_COMMAND, NULL};
    rig_follower(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    struct wire_read ask;
    rig_read_index(l, 1, 0, 0);
    rig_turn(r);
    assert_true(asked(r, 2, WIRE_READ_INDEX, &ask));
    assert_int_equal(l->indexed_count, 0); /* not confirmed */
    indexed(r, 2, ask.round, true, 3);
    assert_int_equal(l->indexed_count, 0); /* not applied */
    puppet_append(r, 1, 2, 2, 2, 2, 3, &command, 1);
    rig_turn(r);
    assert_int_equal(l->indexed_count, 1);
    assert_int_equal(l->indexed.id, 1);
    assert_int_equal(l->indexed.status, LINK_OK);
    assert_int_equal(l->indexed.index, 3);
    assert_int_equal(l->indexed.time_ms, r->wall_ms);
    /* Who only waits for a state asks nobody. */
    puppet_forget(r, 2);
    rig_read_index(l, 2, LINK_READ_STALE, 3);
    rig_turn(r);
    assert_int_equal(l->indexed.id, 2);
    rig_read_index(l, 3, LINK_READ_STALE, 4);
    rig_turn(r);
    assert_int_equal(l->indexed.id, 2);
    assert_false(asked(r, 2, WIRE_READ_INDEX, &ask));
    rig_run(r, NODE_READ_TIMEOUT_MS + 500);
    assert_int_equal(l->indexed.id, 3);
    assert_int_equal(l->indexed.status, LINK_UNAVAILABLE);
    rig_free(r);
}

static void test_an_index_without_a_leader(void **state) {
    struct rig *r = rig_new();
    leading(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    rig_read_index(l, 1, 0, 0);
    rig_run(r, NODE_READ_TIMEOUT_MS - 500);
    assert_int_equal(l->indexed_count, 0);
    rig_run(r, 1000);
    assert_int_equal(l->indexed.status, LINK_UNAVAILABLE);
    rig_free(r);
}

static uint32_t age_of(struct rig *r, struct rig_link *l, uint64_t id) {
    rig_read(l, id, LINK_READ_STALE, "GET", "k", NULL);
    rig_turn(r);
    assert_true(answered(l, id));
    return rig_reply(l, LINK_KIND_READ, id)->age_ms;
}

/* The age of a copy counts from the beginning of a confirmed round whose index is applied. */
static void test_the_age_of_a_copy(void **state) {
    struct rig *r = rig_new();
    const struct puppet_entry command = {2, CORE_COMMAND, NULL};
    r->servers[1].options.fresh_every_ms = 100;
    rig_follower(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    struct wire_read ask, next;
    RIG_UNTIL(r, asked(r, 2, WIRE_READ_INDEX, &next), 300); /* though nobody reads */
    indexed(r, 2, next.round, false, 0);
    RIG_UNTIL(r, asked(r, 2, WIRE_READ_INDEX, &ask) && ask.round != next.round, 200);
    uint64_t began = r->now_ms;
    assert_int_equal(age_of(r, l, 1), LINK_AGE_UNKNOWN);
    rig_run(r, 30);
    indexed(r, 2, ask.round, true, 3);
    assert_int_equal(age_of(r, l, 2), LINK_AGE_UNKNOWN); /* entry 3 is not here */
    puppet_append(r, 1, 2, 2, 2, 2, 3, &command, 1);
    rig_turn(r);
    assert_int_equal(age_of(r, l, 3), r->now_ms - began);
    puppet_forget(r, 2);
    RIG_UNTIL(r, asked(r, 2, WIRE_READ_INDEX, &next) && next.round != ask.round, 300);
    uint32_t age = age_of(r, l, 4);
    assert_int_equal(age, r->now_ms - began); /* a question alone proves nothing */
    indexed(r, 2, next.round, true, 3);
    assert_true(age_of(r, l, 5) < age);
    rig_free(r);
}

/* Other threads read while the gate is open, which it is not when the store is gone. */
static void test_the_gate_follows_the_store(void **state) {
    struct rig *r = rig_new();
    struct store_gate *gate = store_gate_new(NULL, NULL);
    struct store_reader *reader = store_reader_new(gate);
    struct store_view *view;
    struct store_freshness fresh;
    r->servers[1].options.gate = gate;
    r->servers[1].options.fresh_every_ms = 100;
    assert_false(store_reader_begin(reader, &view, &fresh));
    rig_bootstrap(r, 1);
    rig_run(r, 200);
    assert_true(store_reader_begin(reader, &view, &fresh));
    assert_true(fresh.known);
    assert_in_range(fresh.since_ms, r->now_ms - 200, r->now_ms);
    store_reader_end(reader);
    rig_kill(r, 1, MEM_DISK_KILL); /* it checks that no view is open */
    assert_false(store_reader_begin(reader, &view, &fresh));
    rig_start(r, 1);
    assert_true(store_reader_begin(reader, &view, &fresh));
    store_reader_end(reader);
    rig_stop(r, 1);
    assert_false(store_reader_begin(reader, &view, &fresh));
    store_reader_free(reader);
    store_gate_free(gate);
    rig_free(r);
}

static void test_a_ping_is_answered(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 1);
    struct buf b = {0};
    rig_read(l, 1, 0, "GET", "k", NULL); /* waits */
    link_put_ping(&b, LINK_PING, 42);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    assert_int_equal(l->pong, 42);
    buf_fini(&b);
    rig_free(r);
}

int main(int argc, char **argv) {
    plant_by_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_term_rule),
        cmocka_unit_test(test_unconfirmed_read_is_refused),
        cmocka_unit_test(test_what_confirms_a_read),
        cmocka_unit_test(test_a_later_read_needs_a_later_round),
        cmocka_unit_test(test_lost_questions_are_asked_again),
        cmocka_unit_test(test_checks_are_answered_from_the_durable_term),
        cmocka_unit_test(test_a_follower_waits_for_the_index),
        cmocka_unit_test(test_a_follower_asks_again),
        cmocka_unit_test(test_a_follower_answers_no_other),
        cmocka_unit_test(test_a_leader_answers_others_after_a_round),
        cmocka_unit_test(test_who_asks_in_our_term_confirms_it),
        cmocka_unit_test(test_of_four_two_are_no_majority),
        cmocka_unit_test(test_who_is_asked),
        cmocka_unit_test(test_an_index_is_confirmed_and_applied),
        cmocka_unit_test(test_an_index_without_a_leader),
        cmocka_unit_test(test_the_age_of_a_copy),
        cmocka_unit_test(test_the_gate_follows_the_store),
        cmocka_unit_test(test_a_ping_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
