/* Nodes that are frozen: they owe answers, keep their connections, and say nothing. */
#include "upstream_fake.h"

struct trio {
    struct fake f;
    struct fake_conn *n[4]; /* by node; 1 leads */
};

static void trio_init(struct trio *t) {
    static const char *const seeds[] = {"n1:1", "n2:1", "n3:1"};
    static const struct upstream_options three = {.seeds = seeds, .seed_count = 3};
    fake_init(&t->f, &three);
    fake_turn(&t->f);
    for (uint64_t id = 1; id <= 3; id++)
        t->n[id] = node_up(&t->f, id, 5, 1);
    node_open_session(&t->f, t->n[1]);
}

static void a_slow_node_is_not_a_frozen_one(void **state) {
    struct trio t;
    struct request r = {0};
    trio_init(&t);
    fake_advance(&t.f, 3000);
    for (int i = 1; i <= 3; i++)
        assert_int_equal(t.n[i]->pings, 0); /* nothing is owed */
    request_submit(&t.f, &r, UPSTREAM_WRITE, "A");
    fake_advance(&t.f, 5000);
    assert_in_range(t.n[1]->pings, 2, 13);
    assert_int_equal(t.n[2]->pings + t.n[3]->pings, 0);
    assert_false(t.n[1]->closed);
    node_take(t.n[1]);
    node_answer_all(&t.f, t.n[1]);
    assert_int_equal(r.done, 1);
    size_t pings = t.n[1]->pings;
    fake_advance(&t.f, 3000);
    assert_int_equal(t.n[1]->pings, pings);
    fake_fini(&t.f);
}

static void a_frozen_node_is_asked_no_more(void **state) {
    struct trio t;
    struct request r = {0};
    trio_init(&t);
    request_submit(&t.f, &r, UPSTREAM_READ, "R");
    fake_turn(&t.f);
    struct fake_conn *first = NULL;
    for (int i = 1; i <= 3; i++)
        if (node_take(t.n[i]) == 1)
            first = t.n[i];
    assert_non_null(first);
    first->frozen = true;
    fake_advance(&t.f, 1000);
    assert_false(first->closed);
    fake_advance(&t.f, 500);
    assert_true(first->closed);
    int asked = 0;
    for (int i = 1; i <= 3; i++)
        if (t.n[i] != first && node_take(t.n[i]) == 1) {
            asked++;
            node_answer_all(&t.f, t.n[i]);
        }
    assert_int_equal(asked, 1);
    assert_done(&r, UPSTREAM_DONE, "+R\r\n");
    fake_fini(&t.f);
}

/* When the gateway itself was frozen, the answers lie there to be read. */
static void who_was_away_itself_blames_nobody(void **state) {
    struct trio t;
    struct request r = {0};
    trio_init(&t);
    request_submit(&t.f, &r, UPSTREAM_WRITE, "A");
    fake_advance(&t.f, 450);
    t.n[1]->frozen = true; /* its answers come after the tick */
    t.f.now_ms += 60000 - 1000;
    r.up.deadline_ms = UINT64_MAX;
    fake_turn(&t.f);
    assert_false(t.n[1]->closed);
    fake_advance(&t.f, 1000);
    assert_true(t.n[1]->closed); /* it had its time */
    upstream_forget(t.f.up, &r.up);
    fake_fini(&t.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_node_is_not_a_frozen_one),
        cmocka_unit_test(a_frozen_node_is_asked_no_more),
        cmocka_unit_test(who_was_away_itself_blames_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
