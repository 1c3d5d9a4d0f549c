/* The guards of a node (docs/replication.md): one real node among puppets, whose messages the test
 * writes. Each test fails when its guard is switched off (meson.build). The guards G1 and G4 are in
 * test_core.c. */
#include "rig.h"

#include <errno.h>

#include "planted.h"

static const struct puppet_entry COMMAND_2 = {2, CORE_COMMAND, NULL};

static struct puppet_entry membership_2(const char *roles) {
    return (struct puppet_entry){2, CORE_MEMBERSHIP, roles};
}

/* The highest index that server 1 acknowledged to the puppet in that term; 0: none. */
static uint64_t acknowledged(struct rig *r, unsigned puppet, uint64_t term) {
    uint64_t highest = 0;
    LIST_FOREACH (it, &r->servers[puppet].inbox) {
        const struct packet *p = LIST_ENTRY(it, struct packet, node);
        struct core_message m;
        if (p->type != WIRE_APPEND_RESULT)
            continue;
        assert_true(
            wire_decode_message(p->type, slice_of(p->payload, p->size), &m, NULL, &(uint32_t){0}));
        if (m.term == term && m.append_result.rejected == 0 && m.append_result.last_index > highest)
            highest = m.append_result.last_index;
    }
    return highest;
}

static bool granted(struct rig *r, unsigned puppet, uint64_t term) {
    struct core_message m;
    return puppet_got(r, puppet, CORE_MSG_VOTE_RESULT, &m) && m.vote_result.granted &&
           m.term == term;
}

/* The first membership entry at or behind an index; 0: none. */
static uint64_t next_membership(const struct node *n, uint64_t from, struct membership *ret) {
    for (uint64_t i = from; i <= n->memlog.last_index; i++) {
        const struct core_entry *e = memlog_get(&n->memlog, i);
        if (e->type == CORE_MEMBERSHIP) {
            assert_true(membership_decode(e->body, ret));
            return i;
        }
    }
    return 0;
}

static enum member_role role_of(const struct node *n, uint64_t id) {
    struct membership m;
    node_membership(n, &m);
    const struct member *member = membership_find(&m, id);
    assert_non_null(member);
    return member->role;
}

/* ---- G2: what was overwritten does not count ---- */

static void test_g2_an_overwritten_write_does_not_count(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    const struct puppet_entry old[] = {COMMAND_2, COMMAND_2, COMMAND_2};
    const struct puppet_entry new[] = {{3, CORE_COMMAND, NULL}, {3, CORE_COMMAND, NULL}};
    r->servers[1].hold_disk = true;
    puppet_append(r, 1, 2, 2, 2, 2, 2, old, 3);
    puppet_append(r, 1, 3, 3, 3, 2, 2, new, 2); /* 4 and 5 again, under the write of 3 to 5 */
    assert_int_equal(memlog_term(&n->memlog, 4), 3);
    assert_true(mem_disk_step_line(r->servers[1].disk));
    node_turn_end(n);
    rig_turn(r);
    assert_int_equal(acknowledged(r, 3, 3), 3);
    assert_int_equal(n->durable_index, 3);
    r->servers[1].hold_disk = false;
    rig_turn(r);
    assert_int_equal(acknowledged(r, 3, 3), 5);
    rig_free(r);
}

/* Terms alone do not tell: the same term can come back at the same index. */
static void test_g2_the_old_term_comes_back(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    const struct puppet_entry old[] = {COMMAND_2, COMMAND_2};
    const struct puppet_entry other[] = {{3, CORE_COMMAND, NULL}};
    r->servers[1].hold_disk = true;
    puppet_append(r, 1, 2, 2, 2, 2, 2, old, 2);
    puppet_append(r, 1, 3, 3, 2, 2, 2, other, 1);
    puppet_append(r, 1, 2, 4, 2, 2, 2, old, 2); /* a leader of term 4 that still has them */
    assert_int_equal(memlog_term(&n->memlog, 3), 2);
    assert_true(mem_disk_step_line(r->servers[1].disk));
    node_turn_end(n);
    rig_turn(r);
    assert_true(acknowledged(r, 2, 4) <= 2);
    assert_int_equal(n->durable_index, 2);
    r->servers[1].hold_disk = false;
    rig_turn(r);
    assert_int_equal(acknowledged(r, 2, 4), 4);
    rig_free(r);
}

/* ---- G3: the commit index never goes back ---- */

static void test_g3_commit_index_does_not_go_back(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    const struct puppet_entry three[] = {COMMAND_2, COMMAND_2, COMMAND_2};
    puppet_append(r, 1, 2, 2, 2, 2, 5, three, 3);
    rig_turn(r);
    assert_int_equal(node_commit_index(n), 5);
    puppet_append(r, 1, 2, 2, 3, 2, 9, NULL, 0);
    rig_turn(r);
    assert_true(core_commit_index(n->core) < 5); /* else the guard is not needed any more */
    assert_int_equal(node_commit_index(n), 5);
    assert_int_equal(node_applied_index(n), 5);
    rig_free(r);
}

/* ---- G7: nothing after an I/O error ---- */

static void test_g7_failed_write_is_not_acknowledged(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "vvv");
    mem_disk_fail_at(r->servers[1].disk, 1, -EIO);
    puppet_append(r, 1, 2, 2, 2, 2, 2, &COMMAND_2, 1);
    rig_run(r, 1000);
    assert_int_equal(acknowledged(r, 2, 2), 0);
    assert_string_not_equal(r->servers[1].failed, "");
    rig_free(r);
}

static void test_g7_failed_vote_is_not_given(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "vvv");
    rig_kill(r, 1, MEM_DISK_KILL);
    rig_start(r, 1);
    mem_disk_fail_at(r->servers[1].disk, 1, -ENOSPC);
    puppet_vote(r, 1, 3, 5, 9, 4, false);
    rig_run(r, 1000);
    assert_false(granted(r, 3, 5));
    assert_string_not_equal(r->servers[1].failed, "");
    rig_free(r);
}

static void test_acknowledged_is_durable(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "vvv");
    r->servers[1].hold_disk = true;
    puppet_append(r, 1, 2, 2, 2, 2, 2, &COMMAND_2, 1);
    rig_run(r, 100);
    assert_true(acknowledged(r, 2, 2) <= 2);
    r->servers[1].hold_disk = false;
    rig_turn(r);
    assert_int_equal(acknowledged(r, 2, 2), 3);
    rig_kill(r, 1, MEM_DISK_ALL_LOST);
    assert_int_equal(rig_start(r, 1)->memlog.last_index, 3);
    rig_free(r);
}

static void test_vote_is_remembered(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "vvv");
    rig_kill(r, 1, MEM_DISK_KILL);
    rig_start(r, 1);
    puppet_vote(r, 1, 3, 5, 9, 4, false);
    rig_turn(r);
    assert_true(granted(r, 3, 5));
    rig_kill(r, 1, MEM_DISK_ALL_LOST);
    assert_int_equal(node_term(rig_start(r, 1)), 5);
    puppet_vote(r, 1, 2, 5, 9, 4, false);
    rig_turn(r);
    assert_false(granted(r, 2, 5));
    puppet_forget(r, 3);
    puppet_vote(r, 1, 3, 5, 9, 4, false);
    rig_turn(r);
    assert_true(granted(r, 3, 5));
    rig_free(r);
}

/* ---- M1: a sole voter never leads the same term twice ---- */

static void test_m1_sole_voter_raises_its_term(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    for (int i = 0; i < 3; i++) {
        uint64_t term = node_term(n);
        rig_kill(r, 1, MEM_DISK_ALL_LOST);
        r->servers[1].hold_disk = true; /* also when it dies before its barrier is durable */
        n = rig_start(r, 1);
        assert_true(node_is_leader(n));
        assert_int_equal(node_term(n), term + 1);
        assert_int_equal(n->vote.voted_for, 1);
        const struct core_entry *last = memlog_get(&n->memlog, n->memlog.last_index);
        assert_int_equal(last->type, CORE_BARRIER);
        assert_int_equal(last->term, term + 1);
        r->servers[1].hold_disk = i == 1;
        rig_turn(r);
    }
    rig_free(r);
}

/* ---- M2, M6: identities ---- */

static uint64_t join(struct rig *r, uint64_t request, const char *address) {
    struct rig_link *l = rig_link(r, 1, 100);
    unsigned long long id = 0;
    rig_admin(l, request, "NODE.JOIN", address, NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, request), 5000);
    const struct rig_reply *reply = rig_reply(l, LINK_KIND_READ, request);
    assert_int_equal(reply->status, LINK_OK);
    assert_int_equal(sscanf(reply->text, "%%2\r\n$2\r\nid\r\n:%llu", &id), 1);
    rig_link_close(l);
    return id;
}

static void test_m2_every_join_gets_a_fresh_id(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    uint64_t first = join(r, 1, "s2:1");
    rig_run(r, 3000);
    uint64_t second = join(r, 2, "s2:1");
    assert_true(second > first);
    struct membership m;
    node_membership(n, &m);
    assert_null(membership_find(&m, first)); /* the earlier self is gone */
    assert_non_null(membership_find(&m, second));
    rig_kill(r, 1, MEM_DISK_KILL);
    rig_start(r, 1);
    RIG_UNTIL(r, rig_leader(r) == 1, 1000);
    assert_true(join(r, 3, "s3:1") > second);
    rig_free(r);
}

static void test_m2_an_address_that_answers_is_taken(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    rig_join(r, 1, 2);
    rig_run(r, 400);
    struct rig_link *l = rig_link(r, 1, 100);
    rig_admin(l, 1, "NODE.JOIN", "s2:1", NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, 1), 5000);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 1)->status, LINK_REFUSED);
    rig_admin(l, 2, "NODE.JOIN", "", NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, 2), 5000);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 2)->status, LINK_REFUSED);
    rig_free(r);
}

static void test_m6_a_dead_voter_is_removed_before_another_is_added(void **state) {
    struct rig *r = rig_new();
    r->servers[1].options.replace_after_ms = 1000;
    r->servers[2].acks = r->servers[4].acks = true;
    struct node *n = rig_elected(r, "vvvl");
    struct membership m;
    RIG_UNTIL(r, next_membership(n, 4, &m), 5000);
    assert_int_equal(m.count, 3);
    assert_null(membership_find(&m, 3));
    assert_false(membership_is_voter(&m, 4));
    RIG_UNTIL(r, role_of(n, 4) == MEMBER_VOTER, 5000); /* and then comes the other */
    rig_free(r);
}

/* ---- M3: nothing before an own-term barrier ---- */

static void test_m3_no_change_before_the_barrier(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "v-j"); /* the next step of server 3 is due */
    rig_kill(r, 1, MEM_DISK_KILL);
    r->servers[1].hold_disk = true;
    struct node *n = rig_start(r, 1);
    rig_run(r, 500);
    assert_true(node_is_leader(n));
    assert_int_equal(memlog_get(&n->memlog, 3)->type, CORE_BARRIER);
    assert_int_equal(n->memlog.last_index, 3);
    r->servers[1].hold_disk = false;
    RIG_UNTIL(r, role_of(n, 3) == MEMBER_LEARNER, 500);
    rig_free(r);
}

/* ---- M4: the last change has settled ---- */

static void test_m4_no_removal_that_leaves_a_voter_behind(void **state) {
    struct rig *r = rig_new();
    r->servers[2].acks = r->servers[2].confirms = true;
    struct node *n = rig_elected(r, "vvv");
    struct membership m;
    struct rig_link *l = rig_link(r, 1, 100);
    RIG_UNTIL(r, n->core_applied >= 3, 500);
    rig_admin(l, 1, "NODE.REMOVE", "2", NULL); /* 1 and 3 would be left; 3 has nothing yet */
    rig_run(r, 500);
    assert_int_equal(next_membership(n, 2, &m), 0);
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    r->servers[3].acks = true;
    RIG_UNTIL(r, next_membership(n, 2, &m), 1000);
    assert_null(membership_find(&m, 2));
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, 1), 1000);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 1)->status, LINK_OK);
    rig_free(r);
}

/* 3 has the last change, and is dead: 1 alone would be left to commit the removal of 2. */
static void test_m4_no_removal_that_leaves_no_majority(void **state) {
    struct rig *r = rig_new();
    r->servers[2].acks = r->servers[2].confirms = true;
    r->servers[3].acks = true;
    struct node *n = rig_elected(r, "vvv");
    struct membership m;
    struct rig_link *l = rig_link(r, 1, 100);
    RIG_UNTIL(r, core_match_index(n->core, 3) >= 3, 500);
    r->servers[3].acks = false;
    rig_run(r, NODE_ALIVE_MS + 100);
    rig_admin(l, 1, "NODE.REMOVE", "2", NULL);
    rig_run(r, 500);
    assert_int_equal(next_membership(n, 2, &m), 0);
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    rig_free(r);
}

static void test_two_voters_stay(void **state) {
    struct rig *r = rig_new();
    r->servers[2].acks = true;
    rig_elected(r, "vv");
    struct rig_link *l = rig_link(r, 1, 100);
    rig_admin(l, 1, "NODE.REMOVE", "2", NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, 1), 500);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 1)->status, LINK_REFUSED);
    rig_free(r);
}

/* ---- M5: from one voter to two ---- */

/* Server 1, a sole voter, has just proposed to promote the learner 3, which has not got it. */
static struct node *promoting(struct rig *r) {
    rig_follower(r, "v-l");
    rig_kill(r, 1, MEM_DISK_KILL);
    r->servers[3].acks = true;
    struct node *n = rig_start(r, 1);
    RIG_UNTIL(r, core_catch_up_state(n->core, 3) == CORE_CATCH_UP_FINISHED, 5000);
    r->servers[3].acks = false;
    RIG_UNTIL(r, role_of(n, 3) == MEMBER_VOTER, 1000);
    rig_turn(r);
    return n;
}

static void test_m5_the_promotion_is_not_ours_alone(void **state) {
    struct rig *r = rig_new();
    promoting(r);
    rig_run(r, 100);
    rig_kill(r, 1, MEM_DISK_KILL);
    struct node *n = rig_start(r, 1); /* server 3 is dead, it never heard of it */
    RIG_UNTIL(r, node_is_leader(n), 3000);
    assert_int_equal(role_of(n, 3), MEMBER_LEARNER);
    rig_free(r);
}

/* Small writes wait for the commit of what is held; a batch that is large goes behind it. */
static void write_behind_the_hold(struct rig_link *l) {
    static char large[NODE_BATCH_BYTES + 1];
    memset(large, 'x', sizeof large - 1);
    rig_write(l, 1, "SESSION.OPEN", NULL);
    rig_write(l, 2, "SET", "large", large, NULL);
}

static void test_m5_held_writes_go_when_the_promoted_has_them(void **state) {
    struct rig *r = rig_new();
    struct node *n = promoting(r);
    assert_int_not_equal(n->hold_index, 0);
    struct rig_link *l = rig_link(r, 1, 100);
    write_behind_the_hold(l);
    rig_run(r, 100);
    assert_int_equal(n->durable_index, n->hold_index - 1);
    assert_true(n->memlog.last_index > n->hold_index);
    assert_null(rig_reply(l, LINK_KIND_WRITE, 1));
    r->servers[3].acks = r->servers[3].confirms = true;
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_WRITE, 2), 1000);
    assert_int_equal(n->hold_index, 0);
    rig_kill(r, 1, MEM_DISK_ALL_LOST);
    n = rig_start(r, 1);
    assert_int_equal(role_of(n, 3), MEMBER_VOTER);
    assert_false(node_is_leader(n));
    rig_free(r);
}

static void test_m5_held_writes_are_discarded_after_a_while(void **state) {
    struct rig *r = rig_new();
    struct node *n = promoting(r);
    uint64_t hold = n->hold_index, term = node_term(n);
    struct rig_link *l = rig_link(r, 1, 100);
    write_behind_the_hold(l);
    r->servers[3].acks = true; /* it is there, but its disk is slow */
    r->servers[3].acks_to = hold - 1;
    rig_run(r, NODE_HOLD_TIMEOUT_MS - 200);
    assert_int_equal(n->hold_index, hold);
    assert_true(node_is_leader(n));
    assert_int_equal(node_term(n), term);
    r->servers[3].acks = false;
    RIG_UNTIL(r, n->hold_index == 0, 200);
    assert_true(node_is_leader(n));
    assert_int_equal(node_term(n), term + 1);
    assert_int_equal(role_of(n, 3), MEMBER_LEARNER);
    assert_int_equal(memlog_get(&n->memlog, hold)->type, CORE_BARRIER);
    assert_null(rig_reply(l, LINK_KIND_WRITE, 1)); /* it may have reached the other: unknown */
    rig_set(rig_session(r, 1, 100), 2, "k", "v");
    rig_free(r);
}

static void test_m5_held_writes_are_discarded_with_the_leadership(void **state) {
    struct rig *r = rig_new();
    struct node *n = promoting(r);
    uint64_t hold = n->hold_index, term = node_term(n);
    struct core_message m = {
        .type = CORE_MSG_APPEND_RESULT, .term = term + 5, .append_result = {.rejected = 1}};
    puppet_say(r, 1, 3, &m);
    rig_turn(r);
    assert_int_equal(n->hold_index, 0);
    assert_true(node_term(n) > term + 5);
    assert_int_equal(role_of(n, 3), MEMBER_LEARNER);
    assert_int_equal(memlog_get(&n->memlog, hold)->type, CORE_BARRIER);
    rig_free(r);
}

static void test_m5_a_non_voter_gives_its_vote(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "lvv");
    rig_run(r, 400); /* the leader is silent */
    puppet_vote(r, 1, 3, 5, 2, 2, true);
    rig_turn(r);
    assert_true(granted(r, 3, 5));
    assert_int_equal(node_term(n), 2); /* a pre-vote changes nothing */
    puppet_forget(r, 3);
    puppet_vote(r, 1, 3, 5, 2, 2, false);
    rig_turn(r);
    assert_true(granted(r, 3, 5));
    assert_int_equal(node_term(n), 5);
    rig_kill(r, 1, MEM_DISK_ALL_LOST); /* it was durable */
    rig_start(r, 1);
    puppet_vote(r, 1, 2, 5, 2, 2, false);
    rig_turn(r);
    assert_false(granted(r, 2, 5));
    rig_free(r);
}

/* Its record has the old address; the core starts again between question and answer. */
static void test_m5_the_vote_goes_where_the_candidate_is(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "lvv");
    rig_run(r, 400);
    memcpy(r->servers[3].address, r->servers[4].address, sizeof r->servers[3].address);
    puppet_vote(r, 1, 3, 5, 2, 2, false);
    rig_turn(r);
    assert_true(granted(r, 4, 5));
    rig_free(r);
}

static void test_m5_a_non_voter_checks_as_a_voter(void **state) {
    struct rig *r = rig_new();
    rig_follower(r, "lvv");
    puppet_append(r, 1, 2, 2, 2, 2, 2, &COMMAND_2, 1);
    rig_run(r, 100);
    puppet_vote(r, 1, 3, 5, 9, 2, false); /* the leader was heard a moment ago */
    rig_turn(r);
    assert_false(granted(r, 3, 5));
    rig_run(r, 400);
    puppet_vote(r, 1, 3, 6, 2, 2, false); /* its log is shorter */
    puppet_vote(r, 1, 3, 6, 2, 2, true);
    puppet_vote(r, 1, 3, 1, 9, 2, false); /* an old term */
    rig_turn(r);
    assert_false(granted(r, 3, 6));
    assert_false(granted(r, 3, 1));
    rig_free(r);
}

/* ---- M7: a leader does not remove itself ---- */

static void test_m7_a_leader_hands_over_before_it_goes(void **state) {
    struct rig *r = rig_new();
    r->servers[2].acks = r->servers[3].acks = true;
    struct node *n = rig_elected(r, "vvv");
    struct rig_link *l = rig_link(r, 1, 100);
    struct membership m;
    struct core_message now;
    RIG_UNTIL(r, n->core_applied >= 3, 500);
    rig_admin(l, 1, "NODE.REMOVE", "1", NULL);
    rig_run(r, 200);
    assert_int_equal(next_membership(n, 2, &m), 0);
    assert_true(puppet_got(r, 2, CORE_MSG_TIMEOUT_NOW, &now) ||
                puppet_got(r, 3, CORE_MSG_TIMEOUT_NOW, &now));
    rig_free(r);
}

/* ---- M8: one membership entry at a time ---- */

static void test_m8_a_membership_entry_behind_others(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    const struct puppet_entry entries[] = {COMMAND_2, COMMAND_2, membership_2("vvvv")};
    puppet_append(r, 1, 2, 2, 2, 2, 2, entries, 3);
    rig_turn(r);
    assert_int_equal(n->memlog.last_index, 5);
    assert_int_equal(core_membership_uncommitted_index(n->core), 5);
    assert_int_equal(acknowledged(r, 2, 2), 5);
    puppet_append(r, 1, 2, 2, 5, 2, 4, NULL, 0); /* the others are committed, it is not */
    rig_turn(r);
    assert_int_equal(core_membership_uncommitted_index(n->core), 5);
    assert_int_equal(core_voters(n->core, true), 3);
    assert_int_equal(core_voters(n->core, false), 4);
    rig_free(r);
}

static void test_m8_two_membership_entries_in_one_message(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    const struct puppet_entry entries[] = {membership_2("vvvl"), COMMAND_2, membership_2("vvvv"),
                                           COMMAND_2};
    puppet_append(r, 1, 2, 2, 2, 2, 4, entries, 4);
    rig_turn(r);
    assert_int_equal(n->memlog.last_index, 6);
    assert_int_equal(core_membership_uncommitted_index(n->core), 5);
    assert_int_equal(core_voters(n->core, true), 3);
    assert_int_equal(n->change_index, 3);
    assert_int_equal(acknowledged(r, 2, 2), 6);
    puppet_append(r, 1, 2, 2, 6, 2, 6, NULL, 0);
    rig_turn(r);
    assert_int_equal(core_membership_uncommitted_index(n->core), 0);
    assert_int_equal(core_voters(n->core, true), 4);
    assert_int_equal(node_applied_index(n), 6);
    rig_free(r);
}

/* A membership entry arrives before our disk has the one before it, is appended, and is replaced by
 * another leader's entry. */
static void test_m8_a_truncated_membership_is_forgotten(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    const struct puppet_entry learner = membership_2("vvvl"), voter = membership_2("vvvv");
    const struct puppet_entry barrier = {3, CORE_BARRIER, NULL};
    r->servers[1].hold_disk = true;
    puppet_append(r, 1, 2, 2, 2, 2, 2, &learner, 1);
    puppet_append(r, 1, 2, 2, 3, 2, 3, &voter, 1);
    assert_int_equal(role_of(n, 4), MEMBER_VOTER);
    r->servers[1].hold_disk = false;
    rig_turn(r);
    puppet_append(r, 1, 2, 2, 4, 2, 3, NULL, 0);
    rig_turn(r);
    assert_int_equal(node_applied_index(n), 3);
    puppet_append(r, 1, 3, 3, 3, 2, 3, &barrier, 1);
    rig_turn(r);
    puppet_append(r, 1, 3, 3, 4, 3, 4, NULL, 0);
    rig_turn(r);
    assert_int_equal(memlog_term(&n->memlog, 4), 3);
    assert_int_equal(role_of(n, 4), MEMBER_LEARNER);
    assert_int_equal(acknowledged(r, 3, 3), 4);
    rig_free(r);
}

/* While M8's other half holds, the library rolls back to the right one; what it forgets then is not
 * relied upon all the same. */
static void test_m8_a_truncated_membership_restarts_the_core(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    const struct puppet_entry learner = membership_2("vvvl");
    const struct puppet_entry barrier = {3, CORE_BARRIER, NULL};
    r->servers[1].hold_disk = true;
    puppet_append(r, 1, 2, 2, 2, 2, 2, &learner, 1);
    puppet_append(r, 1, 3, 3, 2, 2, 2, &barrier, 1);
    assert_int_equal(n->state, NODE_DRAINING); /* until the disk has what the log in memory has */
    assert_null(n->core);
    r->servers[1].hold_disk = false;
    rig_turn(r);
    assert_int_equal(n->state, NODE_RUNNING);
    struct membership m;
    node_membership(n, &m);
    assert_int_equal(m.count, 3);
    assert_int_equal(node_term(n), 3);
    puppet_append(r, 1, 3, 3, 3, 3, 3, NULL, 0);
    rig_turn(r);
    assert_int_equal(acknowledged(r, 3, 3), 3);
    assert_int_equal(node_applied_index(n), 3);
    rig_free(r);
}

static void test_m8_a_restarted_core_rolls_back_to_the_right_membership(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    const struct puppet_entry learner = membership_2("vvvl"), voter = membership_2("vvvv");
    const struct puppet_entry barrier = {3, CORE_BARRIER, NULL};
    puppet_append(r, 1, 2, 2, 2, 2, 2, &learner, 1);
    puppet_append(r, 1, 2, 2, 3, 2, 3, &voter, 1);
    rig_turn(r);
    rig_kill(r, 1, MEM_DISK_KILL); /* it does not know any more that entry 3 is committed */
    n = rig_start(r, 1);
    assert_int_equal(role_of(n, 4), MEMBER_VOTER);
    puppet_append(r, 1, 3, 3, 3, 2, 2, &barrier, 1);
    rig_turn(r);
    puppet_append(r, 1, 3, 3, 3, 2, 3, &barrier, 1);
    rig_turn(r);
    assert_int_equal(memlog_term(&n->memlog, 4), 3);
    assert_int_equal(role_of(n, 4), MEMBER_LEARNER);
    assert_int_equal(acknowledged(r, 3, 3), 4);
    rig_free(r);
}

/* ---- M9: nothing from the log's beginning to a log that was compacted ---- */

static void test_m9_append_from_the_beginning_to_a_compacted_log(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_follower(r, "vvv");
    struct store_snapshot info;
    puppet_snapshot(r, 2, 50, 2, "vvv", &info);
    puppet_install(r, 1, 2, 2, "vvv", &info);
    RIG_UNTIL(r, node_applied_index(n) == 50 && !n->install, 1000);
    assert_int_equal(n->memlog.first_index, 51);
    puppet_forget(r, 2);
    const struct puppet_entry first[] = {{1, CORE_MEMBERSHIP, "vvv"}, COMMAND_2};
    puppet_append(r, 1, 2, 2, 0, 0, 2, first, 2);
    puppet_append(r, 1, 2, 2, 0, 0, 2, NULL, 0);
    rig_turn(r);
    assert_string_equal(r->servers[1].failed, "");
    struct core_message m;
    assert_false(puppet_got(r, 2, CORE_MSG_APPEND_RESULT, &m));
    assert_int_equal(n->memlog.last_index, 50);
    puppet_append(r, 1, 2, 2, 50, 2, 50, &COMMAND_2, 1);
    rig_turn(r);
    assert_int_equal(acknowledged(r, 2, 2), 51);
    rig_free(r);
}

int main(int argc, char **argv) {
    plant_by_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_g2_an_overwritten_write_does_not_count),
        cmocka_unit_test(test_g2_the_old_term_comes_back),
        cmocka_unit_test(test_g3_commit_index_does_not_go_back),
        cmocka_unit_test(test_g7_failed_write_is_not_acknowledged),
        cmocka_unit_test(test_g7_failed_vote_is_not_given),
        cmocka_unit_test(test_acknowledged_is_durable),
        cmocka_unit_test(test_vote_is_remembered),
        cmocka_unit_test(test_m1_sole_voter_raises_its_term),
        cmocka_unit_test(test_m2_every_join_gets_a_fresh_id),
        cmocka_unit_test(test_m2_an_address_that_answers_is_taken),
        cmocka_unit_test(test_m3_no_change_before_the_barrier),
        cmocka_unit_test(test_m4_no_removal_that_leaves_a_voter_behind),
        cmocka_unit_test(test_m4_no_removal_that_leaves_no_majority),
        cmocka_unit_test(test_two_voters_stay),
        cmocka_unit_test(test_m5_the_promotion_is_not_ours_alone),
        cmocka_unit_test(test_m5_held_writes_go_when_the_promoted_has_them),
        cmocka_unit_test(test_m5_held_writes_are_discarded_after_a_while),
        cmocka_unit_test(test_m5_held_writes_are_discarded_with_the_leadership),
        cmocka_unit_test(test_m5_a_non_voter_gives_its_vote),
        cmocka_unit_test(test_m5_the_vote_goes_where_the_candidate_is),
        cmocka_unit_test(test_m5_a_non_voter_checks_as_a_voter),
        cmocka_unit_test(test_m6_a_dead_voter_is_removed_before_another_is_added),
        cmocka_unit_test(test_m7_a_leader_hands_over_before_it_goes),
        cmocka_unit_test(test_m8_a_membership_entry_behind_others),
        cmocka_unit_test(test_m8_two_membership_entries_in_one_message),
        cmocka_unit_test(test_m8_a_truncated_membership_is_forgotten),
        cmocka_unit_test(test_m8_a_truncated_membership_restarts_the_core),
        cmocka_unit_test(test_m8_a_restarted_core_rolls_back_to_the_right_membership),
        cmocka_unit_test(test_m9_append_from_the_beginning_to_a_compacted_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
