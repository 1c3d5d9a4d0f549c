#include "kit.h"

#include <stdio.h>

#include "store/session.h"
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

/* Commands of session `session`, counted from `sequence`. */
#define apply(session_n, acked, sequence_n, ...)                                                   \
    kit_apply(&kit,                                                                                \
              &(struct kit_group){.session = kit_session(session_n),                               \
                                  .acked_below = acked,                                            \
                                  .sequence = sequence_n,                                          \
                                  .commands = {__VA_ARGS__}},                                      \
              1)

#define ACKED "-NOTKEPT executed before, and its reply was acknowledged; applied: yes\r\n"

static void runs_once(void **state) {
    apply(1, 0, 1, "SESSION.OPEN", "INCR n", "INCR n");
    assert_replies(&kit, "+OK\r\n:1\r\n:2\r\n");
    struct hash128 before = kit.store->state.record_sum;
    apply(1, 0, 1, "SESSION.OPEN", "INCR n", "INCR n");
    assert_replies(&kit, "+OK\r\n:1\r\n:2\r\n");
    assert_same_digest(before, kit.store->state.record_sum);
    assert_int_equal(store_session_count(kit.store), 1);
    /* Partly known, within one group; a gap; out of order. */
    apply(1, 0, 3, "INCR n", "INCR n");
    assert_replies(&kit, ":2\r\n:3\r\n");
    apply(1, 0, 9, "INCR n");
    assert_replies(&kit, ":4\r\n");
    apply(1, 0, 5, "INCR n", "INCR n");
    assert_replies(&kit, ":5\r\n:6\r\n");
    apply(1, 0, 5, "INCR n", "INCR n", "INCR n", "INCR n", "INCR n");
    assert_replies(&kit, ":5\r\n:6\r\n:7\r\n:8\r\n:4\r\n");
    kit_verify(&kit);
}

static void twice_in_one_group(void **state) {
    struct kit_group groups[] = {
        {.session = kit_session(1), .sequence = 1, .commands = {"SESSION.OPEN", "INCR n"}},
        {.session = kit_session(1), .sequence = 2, .commands = {"INCR n", "INCR n"}},
        {.session = kit_session(2), .sequence = 1, .commands = {"SESSION.OPEN", "INCR n"}},
    };
    kit_apply(&kit, groups, ARRAY_COUNT(groups));
    assert_replies(&kit, "+OK\r\n:1\r\n:1\r\n:2\r\n+OK\r\n:3\r\n");
    assert_int_equal(store_session_count(kit.store), 2);
    kit_verify(&kit);
}

static void errors_are_replies_too(void **state) {
    apply(1, 0, 1, "SESSION.OPEN", "SET s text", "INCR s");
    assert_replies(&kit, "+OK\r\n+OK\r\n-ERR value is not an integer or out of range\r\n");
    apply(1, 0, 3, "INCR s");
    assert_replies(&kit, "-ERR value is not an integer or out of range\r\n");
    apply(1, 0, 4, "SESSION.OPEN");
    assert_replies(&kit, "-ERR SESSION.OPEN must be the first command of a new session\r\n");
    kit_verify(&kit);
}

static void acknowledged_replies_are_dropped(void **state) {
    apply(1, 0, 1, "SESSION.OPEN", "INCR n", "INCR n", "INCR n");
    apply(1, 3, 3, "INCR n");
    assert_replies(&kit, ":2\r\n");
    apply(1, 3, 2, "INCR n");
    assert_replies(&kit, ACKED);
    apply(1, 1, 2, "INCR n"); /* an old acked_below takes nothing back */
    assert_replies(&kit, ACKED);
    apply(1, 5, 5, "INCR n");
    assert_replies(&kit, ":4\r\n");
    kit_verify(&kit);
    store_abandon(kit.store);
    kit_reopen(&kit);
    apply(1, 5, 4, "INCR n", "INCR n");
    assert_replies(&kit, ACKED ":4\r\n");
    /* An ack of what was never sent: everything below counts as done. */
    apply(1, 1000, 999, "INCR n", "INCR n");
    assert_replies(&kit, ACKED ":5\r\n");
    kit_verify(&kit);
}

static void unknown_sessions(void **state) {
    apply(1, 0, 1, "INCR n");
    assert_replies(&kit, "gone\r\n");
    assert_int_equal(kit.last_status, STORE_SESSION_GONE);
    apply(1, 0, 2, "SESSION.OPEN", "INCR n");
    assert_replies(&kit, "gone\r\ngone\r\n");
    apply(1, 5, 1, "SESSION.OPEN"); /* has acked replies: not at its beginning */
    assert_replies(&kit, "gone\r\n");
    assert_int_equal(store_session_count(kit.store), 0);
    assert_int_equal(store_key_count(kit.store), 0);
    apply(1, 0, 0, "INCR n", "SESSION.OPEN", "INCR n");
    assert_replies(&kit, "gone\r\n+OK\r\n:1\r\n");
    apply(1, 0, 0, "INCR n"); /* there is no sequence 0 */
    assert_replies(&kit, ACKED);
    kit_verify(&kit);
}

static void without_a_session(void **state) {
    apply(0, 0, 0, "INCR n", "INCR n");
    apply(0, 0, 0, "INCR n", "SESSION.OPEN");
    assert_replies(&kit, ":3\r\n-ERR SESSION.OPEN must be the first command of a new session\r\n");
    assert_int_equal(store_session_count(kit.store), 0);
}

static void window(void **state) {
    apply(1, 0, 1, "SESSION.OPEN");
    apply(1, 0, SESSION_WINDOW, "INCR n", "INCR n");
    assert_replies(&kit, ":1\r\n-ERR not executed: beyond the window of the session\r\n");
    apply(1, 0, UINT64_MAX - 1, "INCR n");
    assert_replies(&kit, "-ERR not executed: beyond the window of the session\r\n");
    apply(1, 2, SESSION_WINDOW + 1, "INCR n");
    assert_replies(&kit, ":2\r\n");
    kit_verify(&kit);
}

static void replies_too_large_to_keep(void **state) {
    struct buf value = {0}, packed = {0}, commands = {0}, entry = {0};
    apply(1, 0, 1, "SESSION.OPEN");
    kit_fill(&value, SESSION_REPLY_BYTES_MAX, 1);
    struct keyspace *ks = kit_begin(&kit);
    assert_int_equal(keyspace_put_string(ks, 0, S("k"), buf_slice(&value), S(""), 0), 0);
    kit_commit(&kit);
    apply(1, 0, 2, "GETDEL k");
    assert_true(kit.replies.size > SESSION_REPLY_BYTES_MAX);
    apply(1, 0, 2, "GETDEL k");
    assert_replies(&kit,
                   "-NOTKEPT executed, but the reply was too large to keep; applied: yes\r\n");
    kit_verify(&kit);
    store_abandon(kit.store);
    kit_reopen(&kit);
    kit_verify(&kit);
    buf_fini(&value);
    buf_fini(&packed);
    buf_fini(&commands);
    buf_fini(&entry);
}

/* Everything a session knows comes back after a restart, whichever way it was spread over
 * commits. */
static void restart(void **state) {
    struct buf value = {0};
    struct keyspace *ks = kit_begin(&kit);
    kit_fill(&value, 300000, 1);
    assert_int_equal(keyspace_put_string(ks, 0, S("big"), buf_slice(&value), S(""), 0), 0);
    kit_commit(&kit);
    apply(1, 0, 1, "SESSION.OPEN", "INCR n");
    assert_int_equal(store_begin(kit.store), 0);
    apply(1, 0, 3, "INCR n", "GETSET big small");
    apply(1, 3, 5, "INCR n", "APPEND big er", "GETDEL big");
    apply(2, 0, 1, "SESSION.OPEN");
    assert_int_equal(store_commit(kit.store), 0);
    apply(1, 4, 8, "INCR n");
    kit_verify(&kit);
    struct hash128 before = kit_digest(&kit);
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            store_abandon(kit.store);
        else
            assert_int_equal(store_close(kit.store), 0);
        kit_reopen(&kit);
        assert_same_digest(before, kit_digest(&kit));
        assert_int_equal(store_session_count(kit.store), 2);
        kit_verify(&kit);
    }
    apply(1, 4, 3, "INCR n");
    assert_replies(&kit, ACKED);
    apply(1, 4, 5, "INCR n", "APPEND big er", "GETDEL big", "INCR n");
    assert_replies(&kit, ":3\r\n:7\r\n$7\r\nsmaller\r\n:4\r\n");
    apply(1, 4, 4, "GETSET big x");
    assert_true(kit.replies.size > 300000);
    /* All acked: nothing of the replies stays on disk. */
    apply(1, 9, 9, "INCR n");
    apply(1, 10, 10, "INCR n");
    assert_replies(&kit, ":6\r\n");
    apply(1, 11, 11, "INCR n");
    struct env_txn txn;
    uint64_t count;
    assert_int_equal(env_read_open(&kit.store->env, &txn), 0);
    assert_int_equal(table_count(&txn, TABLE_SESSIONS, &count), 0);
    assert_int_equal(count, 2 + 1 + 1); /* two headers; OPEN of 2; the last reply of 1 */
    env_read_close(&txn);
    kit_verify(&kit);
    buf_fini(&value);
}

static void silent_sessions_are_swept(void **state) {
    char command[64];
    struct buf argv = {0};
    kit.time_ms = 10000000;
    apply(1, 0, 1, "SESSION.OPEN", "INCR n");
    apply(2, 0, 1, "SESSION.OPEN", "INCR n");
    kit.time_ms += SESSION_SILENT_MS / 2;
    apply(2, 0, 3, "INCR n");
    assert_false(store_housekeeping(kit.store, kit.time_ms, &argv));
    uint64_t now = 10000000 + SESSION_SILENT_MS;
    assert_false(store_housekeeping(kit.store, now - 1, &argv));
    assert_true(store_housekeeping(kit.store, now, &argv));

    /* By the log's time, not by what the command says. */
    snprintf(command, sizeof command, "SESSION.SWEEP %llu", (unsigned long long)now);
    kit.time_ms = now - 1;
    assert_bytes(kit_run(&kit, command), S(":0\r\n"));
    kit.time_ms = now;
    assert_bytes(kit_run(&kit, command), S(":1\r\n"));
    assert_int_equal(store_session_count(kit.store), 1);
    assert_false(store_housekeeping(kit.store, now, &argv));
    kit_verify(&kit);
    apply(1, 0, 2, "INCR n");
    assert_replies(&kit, "gone\r\n");
    apply(2, 0, 2, "INCR n", "INCR n");
    assert_replies(&kit, ":2\r\n:3\r\n");
    assert_bytes(kit_run(&kit, "SESSION.SWEEP x"),
                 S("-ERR SESSION.SWEEP takes a time in milliseconds\r\n"));
    store_abandon(kit.store);
    kit_reopen(&kit);
    assert_int_equal(store_session_count(kit.store), 1);
    buf_fini(&argv);
}

static void opened_and_swept_in_one_transaction(void **state) {
    kit.time_ms = 1000;
    assert_int_equal(store_begin(kit.store), 0);
    apply(1, 0, 1, "SESSION.OPEN");
    apply(2, 0, 1, "SESSION.OPEN");
    kit.time_ms = 1000 + SESSION_SILENT_MS;
    apply(2, 0, 2, "INCR n");
    apply(0, 0, 0, "SESSION.SWEEP 99999999");
    assert_replies(&kit, ":1\r\n");
    apply(1, 0, 1, "SESSION.OPEN", "INCR n");
    assert_replies(&kit, "+OK\r\n:2\r\n");
    assert_int_equal(store_commit(kit.store), 0);
    kit_verify(&kit);
}

static void many_sessions(void **state) {
    enum { COUNT = 3000 };
    struct buf open = {0}, commands = {0}, entry = {0};
    argv_append_strs(&open, "SESSION.OPEN", NULL);
    entry_append_command(&commands, 1, 0, buf_slice(&open));
    entry_begin(&entry, 1000, 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct entry_group group = {.command_count = 1, .commands = buf_slice(&commands)};
        memcpy(group.session.bytes, &i, sizeof i);
        group.session.bytes[15] = 1;
        entry_append_group(&entry, &group);
    }
    assert_int_equal(store_begin(kit.store), 0);
    assert_int_equal(store_apply(kit.store, 1, 1, buf_slice(&entry), NULL, NULL), 0);
    assert_int_equal(store_commit(kit.store), 0);
    assert_int_equal(store_session_count(kit.store), COUNT);
    kit_verify(&kit);
    store_abandon(kit.store);
    kit_reopen(&kit);
    kit.time_ms = 1000 + SESSION_SILENT_MS;
    assert_bytes(kit_run(&kit, "SESSION.SWEEP 9999999"), S(":1024\r\n"));
    kit_verify(&kit);
    assert_bytes(kit_run(&kit, "SESSION.SWEEP 9999999"), S(":1024\r\n"));
    assert_bytes(kit_run(&kit, "SESSION.SWEEP 9999999"), S(":952\r\n"));
    assert_int_equal(store_session_count(kit.store), 0);
    kit_verify(&kit);
    buf_fini(&open);
    buf_fini(&commands);
    buf_fini(&entry);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(runs_once),
        TEST(twice_in_one_group),
        TEST(errors_are_replies_too),
        TEST(acknowledged_replies_are_dropped),
        TEST(unknown_sessions),
        TEST(without_a_session),
        TEST(window),
        TEST(replies_too_large_to_keep),
        TEST(restart),
        TEST(silent_sessions_are_swept),
        TEST(opened_and_swept_in_one_transaction),
        TEST(many_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
