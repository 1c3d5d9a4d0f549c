/* Histories that are good, and ones that are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rand.h"
#include "linear.h"
#include "verdict.h"

/* The result; the first line that was said must contain `said` (when not NULL). */
static enum verdict_result judge(const char *history, const char *said) {
    struct verdict v;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    verdict_judge(slice_str(history), out, &v);
    fclose(out);
    if (said && !strstr(text, said))
        fail_msg("\"%s\" instead of \"%s\"", text, said);
    if (!said)
        assert_string_equal(text, "");
    free(text);
    return v.result;
}
static void good(const char *history) {
    assert_int_equal(judge(history, NULL), VERDICT_GOOD);
}
static void bad(const char *history, const char *said) {
    assert_int_equal(judge(history, said), VERDICT_BAD);
}
static void malformed(const char *history) {
    assert_int_equal(judge(history, ""), VERDICT_MALFORMED);
}

static void test_good_counters(void **state) {
    good("");
    good("# nothing but a comment\n");
    good("1 0 5 ok incr c 1\n2 1 6 ok incr c 2\n3 7 9 ok count c 2\n");
    /* The two overlap, so their order is free. */
    good("1 0 5 ok incr c 2\n2 1 6 ok incr c 1\n");
    /* An end and a beginning at one moment overlap. */
    good("1 0 5 ok incr c 2\n2 5 6 ok incr c 1\n");
    good("1 0 5 ok count c 0\n2 1 6 ok incr c 1\n1 6 7 ok count c 1\n");
    /* Not known, and done; not known, and not done; refused. */
    good("1 0 5 unknown incr c\n2 6 7 ok incr c 2\n");
    good("1 0 5 unknown incr c\n2 6 7 ok incr c 1\n");
    good("1 0 5 no incr c\n2 6 7 ok incr c 1\n");
    /* Done long after it was given up. */
    good("1 0 5 unknown incr c\n2 6 7 ok count c 0\n2 8 9 ok count c 1\n");
    good("1 0 5 unknown count c\n1 6 7 no count c\n");
}

static void test_bad_counters(void **state) {
    bad("1 0 5 ok incr c 1\n2 1 6 ok incr c 1\n", "both answered 1");
    bad("1 0 5 ok incr c 2\n2 6 7 ok incr c 1\n", "line 2 comes before line 1");
    bad("1 0 5 ok incr c 1\n2 6 7 ok count c 0\n", "line 2 comes before line 1");
    bad("1 0 5 ok incr c 1\n2 6 7 ok incr c 3\n", "more than was added");
    bad("1 0 5 ok count c 1\n", "more than was added");
    /* What was refused was done; what was not known was done twice. */
    bad("1 0 5 no incr c\n2 6 7 ok incr c 2\n", "more than was added");
    bad("1 0 5 unknown incr c\n2 6 7 ok incr c 3\n", "more than was added");
    /* The unknown one began when 2 had been seen. */
    bad("1 0 5 ok incr c 2\n2 6 7 unknown incr c\n", "added by nobody");
    /* The first gap has an explanation, the second has not. */
    bad("1 0 1 unknown incr c\n1 9 9 unknown incr c\n2 2 3 ok incr c 2\n2 4 5 ok incr c 4\n",
        "value 3 was added by nobody");
    /* A reading that goes back, over two others. */
    bad("1 0 9 ok incr c 1\n2 1 2 ok count c 1\n3 3 4 ok count c 0\n",
        "line 3 comes before line 2");
}

static void test_good_texts(void **state) {
    good("1 0 5 ok append t a; 2\n2 1 6 ok append t b; 4\n1 7 8 ok text t 4 a;b;\n");
    good("1 0 5 ok text t 0\n1 6 7 ok append t a; 2\n1 8 9 ok text t 2 a;\n");
    good("1 0 5 unknown append t a;\n1 6 7 ok append t b; 4\n1 8 9 ok text t 4 a;b;\n");
    good("1 0 5 unknown append t a;\n1 6 7 ok append t b; 2\n1 8 9 ok text t 2 b;\n");
    good("1 0 5 no append t a;\n1 6 7 ok append t b; 2\n1 8 9 ok text t 2 b;\n");
    /* It was under way when the last reading began. */
    good("1 0 9 ok append t a; 2\n2 1 2 ok text t 0\n");
}

static void test_bad_texts(void **state) {
    bad("1 0 5 ok append t a; 2\n1 6 7 ok text t 0\n", "line 1 was answered and is not there");
    bad("1 0 5 ok append t a; 2\n1 6 7 ok text t 4 a;a;\n", "twice");
    bad("1 0 5 no append t a;\n1 6 7 ok text t 2 a;\n", "which was refused");
    bad("1 6 7 ok text t 2 a;\n", "which nobody appended");
    bad("1 0 5 ok append t a; 4\n1 6 7 ok text t 2 a;\n", "at another length");
    bad("1 0 5 ok append t a; 4\n2 6 7 ok append t b; 2\n1 8 9 ok text t 4 b;a;\n",
        "line 2 comes before line 1");
    /* A stale reading; one that went another way. */
    bad("1 0 5 ok append t a; 2\n1 6 7 ok text t 0\n1 8 9 ok text t 2 a;\n",
        "line 2 comes before line 1");
    bad("1 0 5 ok append t a; 2\n2 0 5 ok append t b; 4\n1 1 9 ok text t 2 b;\n"
        "1 8 9 ok text t 4 a;b;\n",
        "line 3 read what is not its beginning");
    bad("1 0 5 ok append t aa; 3\n2 0 9 ok text t 1 a\n1 8 9 ok text t 3 aa;\n",
        "line 2 read what is not its beginning");
    /* Pipelined, so that time does not order them. */
    bad("1 0 5 ok append t a; 4\n1 0 5 ok append t b; 2\n1 8 9 ok text t 4 b;a;\n",
        "line 2 overtook line 1 of the same client");
    bad("1 0 5 unknown append t a;\n1 0 5 ok append t b; 2\n1 8 9 ok text t 4 b;a;\n",
        "line 2 overtook line 1 of the same client");
}

static void test_registers(void **state) {
    good("1 0 5 ok write r 7\n2 6 7 ok read r 7\n2 8 9 ok cas r 7 8 1\n1 10 11 ok read r 8\n");
    good("1 0 5 ok cas r 0 7 1\n2 6 7 ok cas r 0 8 0\n");
    good("1 0 5 unknown write r 7\n2 6 7 ok read r 0\n2 8 9 ok read r 7\n");
    good("1 0 5 no write r 7\n2 6 7 ok read r 0\n2 8 9 unknown read r\n");
    good("1 0 9 ok write r 7\n2 1 9 ok write r 8\n3 10 11 ok read r 7\n");
    bad("1 0 5 ok write r 7\n2 6 7 ok read r 0\n", "r: no order explains its 2 operations");
    bad("1 0 5 no write r 7\n2 6 7 ok read r 7\n", "no order");
    bad("1 0 5 unknown write r 7\n2 6 7 ok read r 7\n2 8 9 ok read r 0\n", "no order");
    bad("1 0 5 ok cas r 0 7 1\n2 6 7 ok cas r 0 8 1\n", "no order");
    bad("1 0 5 ok write r 7\n2 6 7 ok cas r 7 8 0\n", "no order");
    /* Written twice: a retried compare-and-set that undoes another's. */
    bad("1 0 5 ok write r 7\n2 6 7 ok write r 8\n2 8 9 ok read r 7\n", "no order");
}

static void test_keys_are_apart(void **state) {
    good("1 0 5 ok incr b 1\n1 6 7 ok incr a 1\n1 8 9 ok incr b 2\n");
    bad("1 0 5 ok incr b 1\n1 6 7 ok incr a 1\n1 8 9 ok incr b 1\n", "b: ");
}

static void test_malformed(void **state) {
    malformed("1 0 5 ok incr c 1");
    malformed("\n");
    malformed("1 0 5 ok incr c\n");
    malformed("1 0 5 no incr c 1\n");
    malformed("1 0 5 ok incr c 0\n");
    malformed("1 0 5 ok incr  1\n");
    malformed("1 5 0 ok incr c 1\n");
    malformed("1 0 5 perhaps incr c 1\n");
    malformed("1 0 5 ok decr c 1\n");
    malformed("x 0 5 ok incr c 1\n");
    malformed("1 0 99999999999999999999 ok incr c 1\n");
    malformed("1 0 5 ok append t a 1\n");
    malformed("1 0 5 ok append t a;b; 4\n");
    malformed("1 0 5 ok append t a; 2\n");
    malformed("1 0 5 no append t a;\n1 0 5 no append t a;\n1 6 7 ok text t 0\n");
    malformed("1 0 5 ok text t 3 a;\n");
    malformed("1 0 5 ok write r 0\n");
    malformed("1 0 5 ok cas r 0 7 2\n");
    malformed("1 0 5 ok incr c 1\n1 6 7 ok read c 1\n");
}

/* Every beginning of a history is one, or is malformed: nothing reads beyond it. */
static void test_any_beginning(void **state) {
    static const char text[] = "# c\n1 0 5 ok incr c 1\n1 6 7 ok append t a; 2\n1 8 9 ok text t 2 "
                               "a;\n1 10 11 ok cas r 0 7 1\n";
    for (size_t size = 0; size < sizeof text; size++) {
        char *copy = strndup(text, size);
        struct verdict v;
        FILE *out = fopen("/dev/null", "we");
        verdict_judge(slice_of(copy, size), out, &v);
        assert_true(v.result == VERDICT_GOOD || v.result == VERDICT_MALFORMED);
        fclose(out);
        free(copy);
    }
}

/* So many writes under way at once that the search must give up: it says so. */
static void test_bounds(void **state) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (int i = 1; i <= 40; i++)
        fprintf(out, "%d 0 5 ok write r %d\n", i, i);
    fprintf(out, "1 6 7 ok read r 41\n");
    fclose(out);
    assert_int_equal(judge(text, "too many orders"), VERDICT_UNDECIDED);
    free(text);
    out = open_memstream(&text, &size);
    for (int i = 0; i <= HISTORY_MAX; i++)
        fprintf(out, "1 %d %d ok read r 0\n", i, i);
    fclose(out);
    malformed(text);
    free(text);
}

/* Every order, by hand: those without an answer may be left out. */
static bool any_order(const struct history *h, unsigned taken, uint64_t value) {
    uint64_t bound = UINT64_MAX;
    for (int i = 0; i < h->count; i++)
        if (!h->ops[i].ignored && !(taken >> i & 1) && h->ops[i].back < bound)
            bound = h->ops[i].back;
    if (bound == UINT64_MAX)
        return true;
    for (int i = 0; i < h->count; i++) {
        const struct history_op *o = &h->ops[i];
        bool answered = o->back != UINT64_MAX, hit = value == o->old;
        uint64_t after =
            o->kind == HISTORY_WRITE || (o->kind == HISTORY_CAS && hit) ? o->value : value;
        if (o->ignored || (taken >> i & 1) || o->call > bound ||
            (answered && o->kind == HISTORY_READ && o->answer != value) ||
            (answered && o->kind == HISTORY_CAS && o->answer != hit))
            continue;
        if (any_order(h, taken | 1u << i, after))
            return true;
    }
    return false;
}

static struct history random_history(struct rand *r) {
    struct history h = {0};
    int open[3], running = 0;
    uint64_t next = 1;
    while (h.count < 8 || running > 0) {
        if (running < 3 && h.count < 8 && rand_below(r, 2) == 0) {
            enum history_kind kind = (enum history_kind)rand_below(r, 3);
            uint64_t value = kind == HISTORY_READ ? 0 : next++;
            open[running++] = history_call(&h, kind, value, rand_below(r, next));
        } else if (running > 0) {
            int at = (int)rand_below(r, (uint64_t)running), op = open[at];
            open[at] = open[--running];
            if (rand_below(r, 3) == 0)
                history_give_up(&h, op, rand_below(r, 4) != 0);
            else
                history_return(&h, op,
                               h.ops[op].kind == HISTORY_READ ? rand_below(r, next)
                                                              : rand_below(r, 2));
        }
    }
    return h;
}

/* What the search leaves out must not be missed. */
static void test_search_against_every_order(void **state) {
    struct rand r = {.state = 20};
    int right = 0, wrong = 0;
    for (int i = 0; i < 20000; i++) {
        struct history h = random_history(&r);
        bool expected = any_order(&h, 0, 0);
        if (history_linearizable(&h) != expected)
            fail_msg("history %d: %d, not %d", i, !expected, expected);
        *(expected ? &right : &wrong) += 1;
    }
    assert_true(right > 500 && wrong > 500);
}

/* Unanswered writes that nobody saw cost nothing, however many. */
static void test_many_unknown(void **state) {
    struct history h = {0};
    for (uint64_t i = 1; i <= 60; i++)
        history_give_up(&h, history_call(&h, HISTORY_WRITE, i, 0), true);
    for (uint64_t i = 0; i < 60; i++)
        history_return(&h, history_call(&h, HISTORY_READ, 0, 0), i / 2 + 1);
    assert_int_equal(history_search(&h, 100000), HISTORY_LINEARIZABLE);
    history_return(&h, history_call(&h, HISTORY_READ, 0, 0), 3);
    assert_int_equal(history_search(&h, 100000), HISTORY_WRONG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_counters), cmocka_unit_test(test_bad_counters),
        cmocka_unit_test(test_good_texts),    cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_registers),     cmocka_unit_test(test_keys_are_apart),
        cmocka_unit_test(test_malformed),     cmocka_unit_test(test_any_beginning),
        cmocka_unit_test(test_bounds),        cmocka_unit_test(test_search_against_every_order),
        cmocka_unit_test(test_many_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
