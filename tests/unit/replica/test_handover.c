/* Handing leadership over, among real nodes and against puppets. */
#include "rig.h"

#include <stdio.h>

static uint64_t key_count(struct rig *r, unsigned i) {
    return store_key_count(r->servers[i].node->store);
}

static void expect_equal_copies(struct rig *r) {
    struct hash128 first = store_digest(r->servers[1].node->store);
    for (unsigned i = 2; i <= 3; i++) {
        struct hash128 d = store_digest(r->servers[i].node->store);
        assert_int_equal(node_applied_index(r->servers[i].node),
                         node_applied_index(r->servers[1].node));
        assert_memory_equal(&d, &first, sizeof d);
    }
}

static void test_to_the_one_that_was_named(void **state) {
    struct rig *r = rig_new();
    rig_grow_to_three(r);
    struct node *n = r->servers[1].node;
    struct rig_link *l = rig_session(r, 1, 1);
    rig_set(l, 2, "k", "v");
    for (uint64_t to = 3; to >= 2; to--) {
        uint64_t from = r->now_ms, term = node_term(n);
        assert_int_equal(node_transfer(n, r->servers[to].id), NODE_TRANSFER_BEGUN);
        assert_true(node_handing_over(n));
        RIG_UNTIL(r, rig_leader(r) == to, 1000);
        assert_true(r->now_ms - from < 200); /* no election timeout had to pass */
        assert_false(node_handing_over(n));
        assert_true(node_term(r->servers[to].node) > term);
        assert_int_equal(node_transfer(n, r->servers[1].id), NODE_TRANSFER_NOT_LEADER);
        rig_set(rig_session(r, (unsigned)to, (uint8_t)to), 2, "other", "w");
        rig_run(r, 100);
        assert_int_equal(node_transfer(r->servers[to].node, r->servers[1].id), NODE_TRANSFER_BEGUN);
        RIG_UNTIL(r, rig_leader(r) == 1, 1000);
        rig_run(r, 100);
    }
    expect_equal_copies(r);
    rig_free(r);
}

/* What is asked meanwhile is refused or done, and what is asked again of the next leader is done
 * once. */
static void test_under_load(void **state) {
    struct rig *r = rig_new();
    rig_grow_to_three(r);
    struct rig_link *l = rig_session(r, 1, 1);
    uint64_t asked = 1, keys = key_count(r, 1);
    char key[24];
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "k%d", i);
        rig_write(l, ++asked, "SET", key, "v", NULL);
    }
    assert_int_equal(node_transfer(r->servers[1].node, r->servers[2].id), NODE_TRANSFER_BEGUN);
    for (int i = 5; i < 10; i++) {
        snprintf(key, sizeof key, "k%d", i);
        rig_write(l, ++asked, "SET", key, "v", NULL);
    }
    RIG_UNTIL(r, rig_leader(r) == 2, 1000);
    /* Those before were answered by the old leader, those behind refused. */
    for (uint64_t s = 2; s <= asked; s++) {
        const struct rig_reply *reply = rig_reply(l, LINK_KIND_WRITE, s);
        assert_non_null(reply);
        assert_int_equal(reply->status, s <= 6 ? LINK_OK : LINK_NOT_LEADER);
    }
    struct rig_link *next = rig_link(r, 2, 1);
    for (uint64_t s = 2; s <= asked; s++) {
        snprintf(key, sizeof key, "k%d", (int)(s - 2));
        rig_set(next, s, key, "v");
    }
    assert_int_equal(key_count(r, 2), keys + 10);
    rig_run(r, 500);
    expect_equal_copies(r);
    rig_free(r);
}

static void test_rules(void **state) {
    struct rig *r = rig_new();
    r->servers[2].acks = r->servers[3].acks = r->servers[4].acks = true;
    struct node *n = rig_elected(r, "vvvl");
    rig_run(r, 1);
    RIG_UNTIL(r, n->core_applied >= 3, 500);
    assert_int_equal(node_transfer(n, 1), NODE_TRANSFER_NO_TARGET); /* ourselves */
    assert_int_equal(node_transfer(n, 4), NODE_TRANSFER_NO_TARGET); /* a learner */
    assert_int_equal(node_transfer(n, 9), NODE_TRANSFER_NO_TARGET);
    /* M3: not while a change is uncommitted. */
    r->servers[2].acks = r->servers[3].acks = false;
    struct rig_link *l = rig_link(r, 1, 100);
    rig_admin(l, 1, "NODE.REMOVE", "4", NULL);
    RIG_UNTIL(r, core_membership_uncommitted_index(n->core) != 0, 500);
    assert_int_equal(node_transfer(n, 2), NODE_TRANSFER_BUSY);
    r->servers[2].acks = r->servers[3].acks = true;
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, 1), 2000);
    assert_int_equal(node_transfer(n, 2), NODE_TRANSFER_BEGUN);
    assert_int_equal(node_transfer(n, 3), NODE_TRANSFER_BUSY); /* one at a time */
    rig_free(r);
}

static void test_not_before_the_barrier(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_elected(r, "vvv"); /* nobody acknowledges its barrier */
    rig_run(r, 5);
    assert_int_equal(node_transfer(n, 2), NODE_TRANSFER_BUSY);
    rig_free(r);
}

/* The target is told when it has everything, not before. */
static void test_waits_for_the_target(void **state) {
    struct rig *r = rig_new();
    r->servers[2].acks = r->servers[3].acks = true;
    struct node *n = rig_elected(r, "vvv");
    struct core_message m;
    RIG_UNTIL(r, n->core_applied >= 3, 500);
    r->servers[2].acks_to = n->memlog.last_index;
    struct rig_link *l = rig_link(r, 1, 1);
    rig_write(l, 1, "SESSION.OPEN", NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_WRITE, 1), 500); /* 1 and 3 have it, 2 does not */
    assert_int_equal(node_transfer(n, 2), NODE_TRANSFER_BEGUN);
    rig_run(r, 200);
    assert_false(puppet_got(r, 2, CORE_MSG_TIMEOUT_NOW, &m));
    r->servers[2].acks_to = 0;
    struct core_message have = {
        .type = CORE_MSG_APPEND_RESULT,
        .term = node_term(n),
        .append_result = {.last_index = n->memlog.last_index},
    };
    puppet_say(r, 1, 2, &have);
    rig_turn(r);
    assert_true(puppet_got(r, 2, CORE_MSG_TIMEOUT_NOW, &m));
    assert_int_equal(m.timeout_now.last_index, n->memlog.last_index);
    rig_free(r);
}

/* A target that does not come: we lead again, and take writes again. */
static void test_nobody_takes_over(void **state) {
    struct rig *r = rig_new();
    r->servers[2].acks = r->servers[3].acks = true;
    struct node *n = rig_elected(r, "vvv");
    struct core_message m;
    RIG_UNTIL(r, n->core_applied >= 3, 500);
    struct rig_link *l = rig_session(r, 1, 1);
    assert_int_equal(node_transfer(n, 2), NODE_TRANSFER_BEGUN);
    rig_turn(r);
    assert_true(puppet_got(r, 2, CORE_MSG_TIMEOUT_NOW, &m));
    rig_write(l, 2, "SET", "k", "v", NULL);
    rig_turn(r);
    assert_int_equal(rig_reply(l, LINK_KIND_WRITE, 2)->status, LINK_NOT_LEADER);
    RIG_UNTIL(r, !node_handing_over(n), 1000);
    assert_true(node_is_leader(n));
    rig_link_close(l);
    rig_set(rig_link(r, 1, 1), 2, "k", "v");
    /* The one that did not come is not asked again while there is another. */
    puppet_forget(r, 2);
    assert_int_equal(node_transfer(n, 0), NODE_TRANSFER_BEGUN);
    rig_run(r, 10);
    assert_true(puppet_got(r, 3, CORE_MSG_TIMEOUT_NOW, &m));
    assert_false(puppet_got(r, 2, CORE_MSG_TIMEOUT_NOW, &m));
    rig_free(r);
}

static void test_a_voter_far_behind_is_no_target(void **state) {
    struct rig *r = rig_new();
    r->servers[2].acks = r->servers[3].acks = true;
    struct node *n = rig_elected(r, "vvv");
    RIG_UNTIL(r, n->core_applied >= 3, 500);
    struct rig_link *l = rig_session(r, 1, 1);
    r->servers[2].acks_to = n->memlog.last_index;
    for (uint64_t s = 2; s < 2 + NODE_ENTRIES_INFLIGHT + 8; s++)
        rig_set(l, s, "k", "v");
    puppet_vote(r, 1, 2, 1, 1, 1, true); /* it lives */
    assert_int_equal(node_transfer(n, 2), NODE_TRANSFER_BEHIND);
    assert_int_equal(node_transfer(n, 0), NODE_TRANSFER_BEGUN);
    assert_int_equal(n->handover_to, 3);
    rig_free(r);
}

/* The one that is cut off is not chosen, and a node whose others are all gone stops all the same.
 */
static void test_a_leader_that_stops_asks_one_that_lives(void **state) {
    for (unsigned gone = 2; gone <= 3; gone++) {
        struct rig *r = rig_new();
        rig_grow_to_three(r);
        rig_kill(r, gone, MEM_DISK_KILL);
        rig_run(r, NODE_ALIVE_MS + 100);
        unsigned left = 5 - gone;
        uint64_t term = node_term(r->servers[left].node), from = r->now_ms;
        rig_stop(r, 1);
        assert_true(r->now_ms - from < NODE_STOP_HANDOVER_MS);
        assert_int_equal(node_term(r->servers[left].node), term + 1);
        rig_stop(r, left);
        rig_free(r);
    }
}

/* Asked by a gateway: the answer comes from whoever leads then. */
static void test_on_request(void **state) {
    struct rig *r = rig_new();
    rig_grow_to_three(r);
    struct rig_link *l = rig_session(r, 1, 1);
    char one[24], three[24];
    snprintf(one, sizeof one, "%llu", (unsigned long long)r->servers[1].id);
    snprintf(three, sizeof three, "%llu", (unsigned long long)r->servers[3].id);
    rig_set(l, 2, "k", "v"); /* its link ends with the leadership; it is answered before */
    rig_admin(l, 1, "NODE.TRANSFER", three, "0", NULL);
    RIG_UNTIL(r, rig_leader(r) == 3, 1000);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 1)->status, LINK_NOT_LEADER);
    struct rig_link *next = rig_session(r, 3, 2);
    rig_admin(next, 1, "NODE.TRANSFER", three, "0", NULL);
    rig_turn(r);
    assert_int_equal(rig_reply(next, LINK_KIND_READ, 1)->status, LINK_OK);
    /* "Away from node 1" is already the case. */
    rig_admin(next, 2, "NODE.TRANSFER", "0", one, NULL);
    rig_turn(r);
    assert_int_equal(rig_reply(next, LINK_KIND_READ, 2)->status, LINK_OK);
    rig_admin(next, 3, "NODE.TRANSFER", "0", three, NULL);
    RIG_UNTIL(r, rig_leader(r) != 0 && rig_leader(r) != 3, 1000);
    assert_int_equal(rig_reply(next, LINK_KIND_READ, 3)->status, LINK_NOT_LEADER);
    rig_free(r);
}

static void test_requests_that_are_refused(void **state) {
    static const char *const bad[][2] = {{"9", "0"}, {"4", "0"}, {"x", "0"}, {"2", "y"}, {"", ""}};
    struct rig *r = rig_new();
    r->servers[2].acks = r->servers[3].acks = r->servers[4].acks = true;
    struct node *n = rig_elected(r, "vvvl");
    struct rig_link *l = rig_link(r, 1, 1);
    RIG_UNTIL(r, n->core_applied >= 3, 500);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        rig_admin(l, i + 1, "NODE.TRANSFER", bad[i][0], bad[i][1], NULL);
        rig_turn(r);
        assert_int_equal(rig_reply(l, LINK_KIND_READ, i + 1)->status, LINK_REFUSED);
    }
    /* A puppet that does not take over: the answer says so, and we still lead. */
    rig_admin(l, 50, "NODE.TRANSFER", "2", "0", NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, 50), NODE_TRANSFER_TIMEOUT_MS + 1000);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 50)->status, LINK_REFUSED);
    assert_non_null(strstr(rig_reply(l, LINK_KIND_READ, 50)->text, "did not take over"));
    assert_true(node_is_leader(n));
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_the_one_that_was_named),
        cmocka_unit_test(test_under_load),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_not_before_the_barrier),
        cmocka_unit_test(test_waits_for_the_target),
        cmocka_unit_test(test_nobody_takes_over),
        cmocka_unit_test(test_a_voter_far_behind_is_no_target),
        cmocka_unit_test(test_a_leader_that_stops_asks_one_that_lives),
        cmocka_unit_test(test_on_request),
        cmocka_unit_test(test_requests_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
