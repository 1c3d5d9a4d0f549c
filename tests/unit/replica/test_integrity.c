/* Copies that are wrong: found by digests in the log, by other nodes' digests, by a scrub, by a
 * snapshot; taken out of service, and made anew. */
#include "rig.h"

#include <stdlib.h>

#include "planted.h"
#include "store/store_impl.h"

/* A bit of the value of this key changes in the store of server i. */
static void damage(struct rig *r, unsigned i, const char *name) {
    struct store_view *view;
    struct slice key, value;
    bool found = false;
    assert_int_equal(store_view_new(node_store(r->servers[i].node), &view), 0);
    assert_int_equal(store_view_begin(view), 0);
    int rc = table_first(&view->txn, TABLE_MAIN, &key, &value);
    for (; rc == 0; rc = table_next(&view->txn, TABLE_MAIN, &key, &value))
        if (slice_equal_str(slice_of(key.data + 1, key.size - 1), name)) {
            ((uint8_t *)(uintptr_t)value.data)[value.size - 1] ^= 1;
            found = true;
        }
    store_view_end(view);
    store_view_free(view);
    assert_true(found);
}

static void expect_sound(struct rig *r, unsigned i) {
    struct node *n = r->servers[i].node;
    struct store_view *view;
    struct hash128 found;
    assert_int_equal(n->health, HEALTH_SOUND);
    assert_int_equal(store_view_new(node_store(n), &view), 0);
    assert_int_equal(store_view_begin(view), 0);
    assert_int_equal(store_verify(view, &found), 0);
    store_view_end(view);
    store_view_free(view);
}

static struct rig_link *three(struct rig *r, uint64_t scrub_every_ms) {
    for (unsigned i = 1; i <= 3; i++) {
        r->servers[i].options.snapshot_log_bytes = 4000;
        r->servers[i].options.scrub_every_ms = scrub_every_ms;
    }
    rig_grow_to_three(r);
    struct rig_link *l = rig_session(r, 1, 1);
    static char filler[12000];
    memset(filler, 'f', sizeof filler - 1);
    rig_set(l, 2, "filler", filler); /* for a snapshot to be worth it */
    rig_set(l, 3, "a", "first value");
    rig_set(l, 4, "b", "second value");
    rig_run(r, 2500); /* a digest goes into the log, and all agree */
    return l;
}

static void test_digests_go_into_the_log(void **state) {
    struct rig *r = rig_new();
    struct rig_link *l = three(r, 0);
    for (unsigned i = 1; i <= 3; i++)
        assert_true(r->servers[i].node->counters.digest_checks > 0);
    uint64_t checks = r->servers[2].node->counters.digest_checks;
    rig_run(r, 20 * NODE_CHECK_EVERY_MS); /* nothing new: nothing to compare */
    assert_int_equal(r->servers[2].node->counters.digest_checks, checks);
    rig_set(l, 5, "a", "another");
    rig_run(r, 2 * NODE_CHECK_EVERY_MS);
    assert_int_equal(r->servers[2].node->counters.digest_checks, checks + 1);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(r->servers[i].node->counters.digest_differences, 0);
        expect_sound(r, i);
    }
    rig_free(r);
}

/* A snapshot of a wrong copy, taken before anybody has noticed, is dropped; a right one counts. */
static void test_a_snapshot_waits_for_the_others(void **state) {
    struct rig *r = rig_new();
    for (unsigned i = 1; i <= 3; i++)
        r->servers[i].options.snapshot_agree_ms = 60000;
    struct rig_link *l = three(r, 0);
    struct node *n = r->servers[3].node;
    static char filler[40000];
    memset(filler, 'g', sizeof filler - 1);
    uint64_t taken = n->counters.snapshots_taken, index = n->snapshot.index;
    assert_true(taken > 0); /* although one of the others, too, had to agree */
    damage(r, 3, "a");
    rig_set(l, 5, "a", "another");
    rig_set(l, 6, "filler", filler);
    RIG_UNTIL(r, n->health != HEALTH_SOUND, 1000);
    assert_int_equal(n->snapshot.index, index);
    RIG_UNTIL(r, n->health == HEALTH_SOUND, 2000);
    RIG_UNTIL(r, n->counters.snapshots_taken > taken, 5000);
    assert_int_equal(n->counters.repairs, 1);
    expect_sound(r, 3);
    rig_free(r);
}

/* Nobody says anything: after a while it counts all the same. */
static void test_a_snapshot_does_not_wait_for_ever(void **state) {
    struct rig *r = rig_new();
    for (unsigned i = 1; i <= 3; i++)
        r->servers[i].options.snapshot_agree_ms = 2000;
    struct rig_link *l = three(r, 0);
    struct node *n = r->servers[3].node;
    static char filler[40000];
    memset(filler, 'g', sizeof filler - 1);
    uint64_t taken = n->counters.snapshots_taken;
    r->servers[3].hold_jobs = true; /* what is taken holds all that was written */
    rig_set(l, 5, "filler", filler);
    RIG_UNTIL(r, node_applied_index(n) == node_applied_index(r->servers[1].node), 100);
    r->cut[1][3] = r->cut[2][3] = true;
    r->servers[3].hold_jobs = false;
    rig_run(r, 1000);
    assert_true(n->take_done);
    assert_int_equal(n->counters.snapshots_taken, taken);
    RIG_UNTIL(r, n->counters.snapshots_taken > taken, 3000);
    rig_free(r);
}

/* What was damaged is changed: the digest that is kept up goes wrong. Most voters are right. */
static void test_a_follower_that_differs(void **state) {
    struct rig *r = rig_new();
    struct rig_link *l = three(r, 0);
    struct node *n = r->servers[3].node;
    damage(r, 3, "a");
    rig_run(r, 3000);
    assert_int_equal(n->health, HEALTH_SOUND); /* nobody has looked */
    r->servers[3].hold_jobs = true;
    rig_set(l, 5, "a", "another");
    RIG_UNTIL(r, n->health == HEALTH_REPAIR, 1000);
    assert_int_equal(rig_leader(r), 1);
    assert_int_equal(r->servers[1].node->health, HEALTH_SOUND);
    /* It answers no reads, and hands nothing out. */
    struct rig_link *f = rig_link(r, 3, 2);
    rig_read(f, 1, LINK_READ_STALE, "GET", "b", NULL);
    rig_read(f, 2, 0, "GET", "b", NULL);
    rig_run(r, 100);
    assert_int_equal(rig_reply(f, LINK_KIND_READ, 1)->status, LINK_UNAVAILABLE);
    assert_int_equal(rig_reply(f, LINK_KIND_READ, 2)->status, LINK_UNAVAILABLE);
    if (n->snapshot.index == 0)
        fail_msg("there is no snapshot to refuse");
    struct core_message m = {.install.snapshot.index = n->snapshot.index};
    struct buf descriptor = {0};
    assert_false(node_snapshot_fill(n, &m, &descriptor));
    /* It goes on acknowledging: its log is right. */
    r->cut[1][2] = r->cut[2][1] = true;
    rig_set(l, 6, "b", "with two of three");
    memset(r->cut, 0, sizeof r->cut);
    r->servers[3].hold_jobs = false;
    RIG_UNTIL(r, n->health == HEALTH_SOUND, 2000);
    assert_int_equal(n->counters.repairs, 1);
    rig_run(r, 1000);
    expect_sound(r, 3);
    rig_read(f, 3, LINK_READ_STALE, "GET", "a", NULL);
    rig_run(r, 100);
    assert_non_null(strstr(rig_reply(f, LINK_KIND_READ, 3)->text, "another"));
    assert_true(
        hash128_equal(store_digest(node_store(n)), store_digest(node_store(r->servers[1].node))));
    rig_free(r);
}

/* The leader is the wrong one: the others are more, and one of them leads. */
static void test_a_leader_that_differs(void **state) {
    struct rig *r = rig_new();
    struct rig_link *l = three(r, 0);
    struct node *n = r->servers[1].node;
    damage(r, 1, "a");
    rig_set(l, 5, "a", "another");
    RIG_UNTIL(r, n->health == HEALTH_REPAIR, 2000);
    RIG_UNTIL(r, rig_leader(r) > 1, 3000);
    assert_int_equal(r->servers[2].node->health, HEALTH_SOUND);
    assert_int_equal(r->servers[3].node->health, HEALTH_SOUND);
    RIG_UNTIL(r, n->health == HEALTH_SOUND, 3000);
    rig_run(r, 1000);
    for (unsigned i = 1; i <= 3; i++)
        expect_sound(r, i);
    rig_free(r);
}

/* A scrub needs nobody else, and finds what nobody has touched. */
static void test_a_scrub_finds_it(void **state) {
    for (unsigned victim = 1; victim <= 3; victim++) {
        struct rig *r = rig_new();
        three(r, 500);
        struct node *n = r->servers[victim].node;
        assert_true(n->counters.scrubs > 0);
        damage(r, victim, "b");
        RIG_UNTIL(r, n->counters.repairs == 1 && n->health == HEALTH_SOUND, 5000);
        rig_run(r, 2000);
        for (unsigned i = 1; i <= 3; i++)
            expect_sound(r, i);
        rig_free(r);
    }
}

static void test_a_single_node_mends_itself(void **state) {
    for (int snapshots = 0; snapshots < 2; snapshots++) {
        struct rig *r = rig_new();
        if (snapshots)
            r->servers[1].options.snapshot_log_bytes = 1000;
        r->servers[1].options.scrub_every_ms = 500;
        struct node *n = rig_bootstrap(r, 1);
        struct rig_link *l = rig_session(r, 1, 1);
        for (uint64_t i = 2; i < 200; i++) {
            rig_set(l, i, "a", "a value that takes some room in the log, so that there is one");
            rig_run(r, 5);
        }
        assert_int_equal(n->snapshot.index > 0, snapshots);
        rig_run(r, 100);
        uint64_t applied = node_applied_index(n);
        damage(r, 1, "a");
        RIG_UNTIL(r, n->counters.repairs == 1 && n->health == HEALTH_SOUND, 5000);
        assert_true(node_applied_index(n) >= applied);
        expect_sound(r, 1);
        RIG_UNTIL(r, rig_leader(r) == 1, 2000);
        struct rig_link *again = rig_link(r, 1, 2);
        assert_non_null(strstr(rig_get(again, 1, "a")->text, "a value that takes"));
        rig_free(r);
    }
}

/* Two voters: neither knows who is right. Their own records may tell. */
static void test_two_that_differ(void **state) {
    for (int scrub = 0; scrub < 2; scrub++) {
        struct rig *r = rig_new();
        for (unsigned i = 1; i <= 2; i++)
            r->servers[i].options.scrub_every_ms = scrub ? 1u << 30 : 0; /* only when in doubt */
        rig_bootstrap(r, 1);
        rig_join(r, 1, 2);
        struct rig_link *l = rig_session(r, 1, 1);
        RIG_UNTIL(r, core_voters(r->servers[1].node->core, true) == 2, 5000);
        rig_set(l, 2, "a", "first value");
        rig_run(r, 2500);
        damage(r, 2, "a");
        rig_set(l, 3, "a", "another");
        struct node *one = r->servers[1].node, *two = r->servers[2].node;
        RIG_UNTIL(r, two->counters.digest_differences > 0 && one->counters.digest_differences > 0,
                  1000);
        if (scrub) {
            RIG_UNTIL(r, two->counters.repairs == 1, 5000);
            RIG_UNTIL(r, one->health == HEALTH_SOUND && two->health == HEALTH_SOUND, 5000);
            assert_int_equal(one->counters.repairs, 0);
            rig_run(r, 1000);
            expect_sound(r, 1);
            expect_sound(r, 2);
        } else {
            rig_run(r, 5000);
            assert_int_equal(one->health, HEALTH_DOUBTFUL);
            assert_int_equal(two->health, HEALTH_DOUBTFUL);
            struct rig_link *f = rig_link(r, 1, 2);
            rig_read(f, 1, LINK_READ_STALE, "GET", "a", NULL);
            rig_run(r, 100);
            assert_int_equal(rig_reply(f, LINK_KIND_READ, 1)->status, LINK_UNAVAILABLE);
        }
        rig_free(r);
    }
}

/* What a damaged store would give away is not kept. */
static void test_a_snapshot_of_it_is_not_kept(void **state) {
    struct rig *r = rig_new();
    r->servers[1].options.snapshot_log_bytes = 8000;
    struct node *n = rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    rig_set(l, 2, "quiet", "a value");
    rig_run(r, 100);
    damage(r, 1, "quiet");
    uint64_t sequence = 3;
    while (n->counters.repairs == 0) {
        assert_true(sequence < 500);
        if (rig_leader(r) == 1 && l->link)
            rig_set(l, sequence++, "k", "something longer, for the log to grow by");
        rig_run(r, 50);
    }
    RIG_UNTIL(r, n->health == HEALTH_SOUND, 2000);
    expect_sound(r, 1);
    rig_free(r);
}

static void test_notes(void **state) {
    struct buf b = {0};
    uint64_t index;
    struct hash128 digest;
    for (int i = 1; i <= 4; i++)
        buf_append_u64(&b, (uint64_t)(i == 1 ? 1 : i));
    assert_true(node_note_decode(buf_slice(&b), &index, &digest));
    assert_true(index == 2 && digest.low == 3 && digest.high == 4);
    for (size_t size = 0; size < b.size; size++)
        assert_false(node_note_decode(slice_of(b.data, size), &index, &digest));
    b.data[0] = 2;
    assert_false(node_note_decode(buf_slice(&b), &index, &digest)); /* of another format */
    b.data[0] = 1;
    b.data[8] = 0;
    assert_false(node_note_decode(buf_slice(&b), &index, &digest)); /* of no index */
    buf_fini(&b);
}

int main(int argc, char **argv) {
    plant_by_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests_go_into_the_log),
        cmocka_unit_test(test_a_snapshot_waits_for_the_others),
        cmocka_unit_test(test_a_snapshot_does_not_wait_for_ever),
        cmocka_unit_test(test_a_follower_that_differs),
        cmocka_unit_test(test_a_leader_that_differs),
        cmocka_unit_test(test_a_scrub_finds_it),
        cmocka_unit_test(test_a_single_node_mends_itself),
        cmocka_unit_test(test_two_that_differ),
        cmocka_unit_test(test_a_snapshot_of_it_is_not_kept),
        cmocka_unit_test(test_notes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
