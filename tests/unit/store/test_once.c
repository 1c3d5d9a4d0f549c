/* Requests with an id of their own: executed once, whichever session asks. */
#include "kit.h"

#include <stdio.h>

#include "store/commands.h"
#include "store/once.h"
#include "store/store_impl.h"

static struct kit kit;

static int setup(void **state) {
    kit_open(&kit);
    return 0;
}

static int teardown(void **state) {
    kit_close(&kit);
    return 0;
}

#define MISMATCH "-MISMATCH another request was executed with this key\r\n"
#define DAY ((uint64_t)ONCE_KEEP_MS)

static void expect(const char *command, const char *reply) {
    assert_bytes(kit_run(&kit, command), S(reply));
}

static uint64_t rows(enum table table) {
    struct env_txn txn;
    uint64_t count;
    assert_int_equal(env_read_open(&kit.store->env, &txn), 0);
    assert_int_equal(table_count(&txn, table, &count), 0);
    env_read_close(&txn);
    return count;
}

static void runs_once(void **state) {
    expect("ONCE.EXEC k INCR n", "*3\r\n:0\r\n:1\r\n:1\r\n");
    struct hash128 before = kit.store->state.record_sum;
    expect("ONCE.EXEC k INCR n", "*3\r\n:1\r\n:1\r\n:1\r\n");
    assert_same_digest(before, kit.store->state.record_sum);
    expect("INCR n", ":2\r\n");
    expect("ONCE.EXEC k INCR n", "*3\r\n:1\r\n:1\r\n:1\r\n");
    expect("ONCE.EXEC other INCR n", "*3\r\n:0\r\n:5\r\n:3\r\n");
    assert_int_equal(kit.store->state.once_count, 2);
    kit_verify(&kit);
}

/* What it is for: the gateway has died, and another one asks in a session of its own; perhaps
 * within one entry. */
static void other_sessions(void **state) {
    struct kit_group groups[] = {
        {.session = kit_session(1),
         .sequence = 1,
         .commands = {"SESSION.OPEN", "ONCE.EXEC k INCR n"}},
        {.session = kit_session(2),
         .sequence = 1,
         .commands = {"SESSION.OPEN", "ONCE.EXEC k INCR n", "ONCE.EXEC k INCR n"}},
    };
    kit_apply(&kit, groups, ARRAY_COUNT(groups));
    assert_replies(&kit, "+OK\r\n*3\r\n:0\r\n:1\r\n:1\r\n+OK\r\n*3\r\n:1\r\n:1\r\n:1\r\n"
                         "*3\r\n:1\r\n:1\r\n:1\r\n");
    /* The session's own repetition is not a replay: nobody has seen the answer yet. */
    kit_apply(&kit, groups, 1);
    assert_replies(&kit, "+OK\r\n*3\r\n:0\r\n:1\r\n:1\r\n");
    expect("GET n", "$1\r\n1\r\n");
    kit_verify(&kit);
}

static void another_request(void **state) {
    expect("ONCE.EXEC k INCRBY n 5", "*3\r\n:0\r\n:1\r\n:5\r\n");
    expect("ONCE.EXEC k INCRBY n 6", MISMATCH);
    expect("ONCE.EXEC k DECRBY n 5", MISMATCH);
    expect("ONCE.EXEC k INCRBY n5", MISMATCH);
    expect("ONCE.EXEC k INCRBY n 5", "*3\r\n:1\r\n:1\r\n:5\r\n");
    struct slice args[] = {S("ab"), S("c")}, shifted[] = {S("a"), S("bc")},
                 longer[] = {S("ab"), S("c"), S("")};
    struct hash128 hash = once_fingerprint(0, args, 2);
    assert_false(hash128_equal(hash, once_fingerprint(0, shifted, 2)));
    assert_false(hash128_equal(hash, once_fingerprint(1, args, 2)));
    assert_false(hash128_equal(hash, once_fingerprint(0, longer, 3)));
    assert_true(hash128_equal(hash, once_fingerprint(0, args, 2)));
    kit_verify(&kit);
}

/* An answer that says no is an answer: the repetition must not act on a state that has changed. */
static void refusals_are_kept(void **state) {
    expect("SET s text", "+OK\r\n");
    expect("ONCE.EXEC a INCR s",
           "*3\r\n:0\r\n:2\r\n-ERR value is not an integer or out of range\r\n");
    expect("ONCE.EXEC b SETNX s x", "*3\r\n:0\r\n:3\r\n:0\r\n");
    expect("DEL s", ":1\r\n");
    expect("ONCE.EXEC a INCR s",
           "*3\r\n:1\r\n:2\r\n-ERR value is not an integer or out of range\r\n");
    expect("ONCE.EXEC b SETNX s x", "*3\r\n:1\r\n:3\r\n:0\r\n");
    expect("EXISTS s", ":0\r\n");
    kit_verify(&kit);
}

static void what_it_carries(void **state) {
    static const char *const refused[] = {
        "GET n",      "PING",           "NONSENSE",        "SESSION.OPEN", "ONCE.EXEC x INCR n",
        "NODE.ALLOC", "ONCE.SWEEP 1 1", "EXPIRE.SWEEP 1 1"};
    char command[128];
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++) {
        snprintf(command, sizeof command, "ONCE.EXEC k %s", refused[i]);
        expect(command, "-ERR ONCE.EXEC executes writing commands on keys only\r\n");
    }
    expect("ONCE.EXEC k", "-ERR ONCE.EXEC takes an id of up to 400 bytes and a command\r\n");
    expect("ONCE.EXEC  INCR n", "-ERR ONCE.EXEC takes an id of up to 400 bytes and a command\r\n");
    assert_int_equal(store_key_count(kit.store), 0);
    assert_int_equal(kit.store->state.once_count, 0);
    expect("ONCE.EXEC k TX.EXEC 0 2 0 2 INCR n 0 2 INCR n",
           "*3\r\n:0\r\n:11\r\n*2\r\n:1\r\n:2\r\n");
    expect("ONCE.EXEC k TX.EXEC 0 2 0 2 INCR n 0 2 INCR n",
           "*3\r\n:1\r\n:11\r\n*2\r\n:1\r\n:2\r\n");
    expect("TX.EXEC 0 1 0 4 ONCE.EXEC k INCR n",
           "*1\r\n-ERR 'ONCE.EXEC' cannot stand inside a transaction\r\n");
    expect("ONCE.EXEC wrong INCR",
           "*3\r\n:0\r\n:14\r\n-ERR wrong number of arguments for 'incr' command\r\n");
    kit_verify(&kit);
}

static void ids(void **state) {
    char command[512];
    memset(command, 'x', sizeof command);
    memcpy(command, "ONCE.EXEC ", 10);
    strcpy(command + 10 + ONCE_ID_BYTES_MAX + 1, " INCR n");
    expect(command, "-ERR ONCE.EXEC takes an id of up to 400 bytes and a command\r\n");
    strcpy(command + 10 + ONCE_ID_BYTES_MAX, " INCR n");
    expect(command, "*3\r\n:0\r\n:2\r\n:1\r\n");
    expect(command, "*3\r\n:1\r\n:2\r\n:1\r\n");
    kit_verify(&kit);
}

/* By the log's time, and not a moment before the sweep comes. */
static void a_day(void **state) {
    struct buf argv = {0};
    char sweep[64];
    uint64_t begin = kit.time_ms;
    expect("ONCE.EXEC a INCR n", "*3\r\n:0\r\n:1\r\n:1\r\n");
    kit.time_ms = begin + 1;
    expect("ONCE.EXEC b INCR n", "*3\r\n:0\r\n:2\r\n:2\r\n");
    kit.time_ms = begin + DAY - 1;
    expect("ONCE.EXEC a INCR n", "*3\r\n:1\r\n:1\r\n:1\r\n");
    assert_false(store_housekeeping(kit.store, kit.time_ms, &argv));
    kit.time_ms = begin + DAY;
    /* Expired and not yet swept: a new one takes its place. */
    expect("ONCE.EXEC a INCR n", "*3\r\n:0\r\n:4\r\n:3\r\n");
    assert_int_equal(rows(TABLE_ONCE), 2);
    assert_int_equal(rows(TABLE_ONCE_EXPIRY), 2);
    kit_verify(&kit);
    assert_false(store_housekeeping(kit.store, kit.time_ms, &argv));
    assert_true(store_housekeeping(kit.store, begin + DAY + 1, &argv));
    buf_fini(&argv);
    /* The command's own time does not count when the log has not come so far. */
    snprintf(sweep, sizeof sweep, "ONCE.SWEEP %llu 10", (unsigned long long)(begin + DAY + 1));
    expect(sweep, ":0\r\n");
    kit.time_ms = begin + DAY + 1;
    expect(sweep, ":1\r\n");
    expect(sweep, ":0\r\n");
    kit_verify(&kit);
    kit.time_ms = begin + 3 * DAY;
    expect("ONCE.EXEC c INCR n", "*3\r\n:0\r\n:8\r\n:4\r\n");
    expect("ONCE.EXEC d INCR n", "*3\r\n:0\r\n:9\r\n:5\r\n");
    kit.time_ms = begin + 5 * DAY;
    expect("ONCE.SWEEP 99999999999 2", ":2\r\n"); /* the oldest first */
    expect("ONCE.SWEEP 99999999999 2", ":1\r\n");
    assert_int_equal(rows(TABLE_ONCE), 0);
    assert_int_equal(rows(TABLE_ONCE_EXPIRY), 0);
    assert_int_equal(kit.store->state.once_bytes, 0);
    expect("ONCE.SWEEP x 2", "-ERR ONCE.SWEEP takes a time in milliseconds and a limit\r\n");
    kit_verify(&kit);
}

static void restart(void **state) {
    expect("ONCE.EXEC a INCR n", "*3\r\n:0\r\n:1\r\n:1\r\n");
    struct hash128 before = kit_digest(&kit);
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            store_abandon(kit.store);
        else
            assert_int_equal(store_close(kit.store), 0);
        kit_reopen(&kit);
        assert_same_digest(before, kit_digest(&kit));
        kit_verify(&kit);
    }
    expect("ONCE.EXEC a INCR n", "*3\r\n:1\r\n:1\r\n:1\r\n");
}

/* It is in the digest: a copy that has forgotten a record is not the same. */
static void in_the_digest(void **state) {
    expect("ONCE.EXEC a SET k v", "*3\r\n:0\r\n:1\r\n+OK\r\n");
    struct hash128 sum = kit.store->state.once_sum;
    assert_false(hash128_equal(sum, (struct hash128){0}));
    struct env_txn txn;
    assert_int_equal(env_write_begin(&kit.store->env, &txn), 0);
    assert_int_equal(table_delete(&txn, TABLE_ONCE, S("a")), 0);
    assert_int_equal(env_write_commit(&txn), 0);
    struct store_view *view;
    struct hash128 digest;
    assert_int_equal(store_view_new(kit.store, &view), 0);
    assert_int_equal(store_view_begin(view), 0);
    assert_int_equal(store_verify(view, &digest), -EBADMSG);
    store_view_end(view);
    store_view_free(view);
}

static void large_replies(void **state) {
    struct buf value = {0};
    kit_fill(&value, ONCE_REPLY_BYTES_MAX, 1);
    struct keyspace *ks = kit_begin(&kit);
    assert_int_equal(keyspace_put_string(ks, 0, S("k"), buf_slice(&value), S(""), 0), 0);
    kit_step(&kit);
    assert_int_equal(keyspace_put_string(ks, 0, S("l"), slice_of(value.data, 100000), S(""), 0), 0);
    kit_commit(&kit);
    assert_true(kit_run(&kit, "ONCE.EXEC a GETDEL k").size > ONCE_REPLY_BYTES_MAX);
    expect("ONCE.EXEC a GETDEL k",
           "*3\r\n:1\r\n:2\r\n-NOTKEPT the request was executed before, and its answer was too "
           "large to keep; applied: yes\r\n");
    assert_true(kit_run(&kit, "ONCE.EXEC b GETDEL l").size > 100000);
    assert_true(kit_run(&kit, "ONCE.EXEC b GETDEL l").size > 100000);
    assert_int_equal(store_key_count(kit.store), 0);
    kit_verify(&kit);
    buf_fini(&value);
}

/* No room: nothing is executed, and what is kept stays kept. */
static void full(void **state) {
    struct state *s = &kit.store->state;
    expect("ONCE.EXEC a INCR n", "*3\r\n:0\r\n:1\r\n:1\r\n");
    struct state real = *s;
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            s->once_count = ONCE_COUNT_MAX;
        else
            s->once_bytes = ONCE_BYTES_MAX - ONCE_REPLY_BYTES_MAX;
        expect("ONCE.EXEC b INCR n",
               "-ONCEFULL no room to remember one more key: leave it out, or wait\r\n");
        struct slice again = kit_run(&kit, "ONCE.EXEC a INCR n");
        assert_bytes(again, S("*3\r\n:1\r\n:1\r\n:1\r\n"));
        s->once_count = real.once_count;
        s->once_bytes = real.once_bytes;
    }
    expect("GET n", "$1\r\n1\r\n");
    expect("ONCE.EXEC b INCR n", "*3\r\n:0\r\n:7\r\n:2\r\n");
    kit_verify(&kit);
}

static struct argv *argv_of(const char *const *words, size_t count) {
    static struct buf packed;
    static struct argv argv;
    struct slice args[8];
    for (size_t i = 0; i < count; i++)
        args[i] = S(words[i]);
    buf_reset(&packed);
    argv_append(&packed, args, count);
    assert_true(argv_unpack(&argv, buf_slice(&packed)));
    return &argv;
}

/* Over the quota a request that was executed must get its answer, not a refusal. */
static void known_to_the_quota(void **state) {
    static const char *const put[] = {"once.exec", "a", "SET", "k", "v"},
                             *const del[] = {"ONCE.EXEC", "b", "DEL", "k"},
                             *const nested[] = {"ONCE.EXEC", "b", "ONCE.EXEC", "b",
                                                "SET",       "k", "v"},
                             *const plain[] = {"SET", "a", "v"};
    assert_true(command_grows(argv_of(put, 5)));
    assert_false(command_grows(argv_of(del, 4)));
    assert_false(command_grows(argv_of(nested, 7)));
    assert_false(store_once_knows(kit.store, argv_of(put, 5)));
    expect("ONCE.EXEC a SET k v", "*3\r\n:0\r\n:1\r\n+OK\r\n");
    assert_true(store_once_knows(kit.store, argv_of(put, 5)));
    assert_false(store_once_knows(kit.store, argv_of(del, 4)));
    assert_false(store_once_knows(kit.store, argv_of(plain, 3)));
    assert_int_equal(store_begin(kit.store), 0);
    assert_true(store_once_knows(kit.store, argv_of(put, 5)));
    assert_int_equal(store_commit(kit.store), 0);
}

static void snapshot_carries_it(void **state) {
    struct store_snapshot info;
    char path[128];
    expect("ONCE.EXEC a INCR n", "*3\r\n:0\r\n:1\r\n:1\r\n");
    snprintf(path, sizeof path, "%s/snapshot", kit.dir);
    assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
    store_abandon(kit.store);
    assert_int_equal(store_wipe(kit.store_dir), 0);
    assert_int_equal(store_snapshot_install(path, kit.store_dir, kit.boot_id), 0);
    kit_reopen(&kit);
    kit_verify(&kit);
    expect("ONCE.EXEC a INCR n", "*3\r\n:1\r\n:1\r\n:1\r\n");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(runs_once),
        TEST(other_sessions),
        TEST(another_request),
        TEST(refusals_are_kept),
        TEST(what_it_carries),
        TEST(ids),
        TEST(a_day),
        TEST(restart),
        TEST(in_the_digest),
        TEST(large_replies),
        TEST(full),
        TEST(known_to_the_quota),
        TEST(snapshot_carries_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
