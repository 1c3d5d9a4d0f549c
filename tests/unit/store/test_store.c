#include "kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rand.h"
#include "store/files.h"
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

static int try_open(const char *boot_id, struct store **ret_store) {
    struct store_options options = {.dir = kit.store_dir, .map_bytes = 1 << 26, .boot_id = boot_id};
    return store_open(&options, ret_store);
}

static void survives_a_process_crash(void **state) {
    kit_run(&kit, "SET a 1");
    assert_int_equal(store_begin(kit.store), 0);
    kit_run(&kit, "SET a 2");
    kit_run(&kit, "SET b 2");
    /* in the middle of a transaction: what was not committed is not there */
    store_abandon(kit.store);
    kit_reopen(&kit);
    assert_int_equal(store_applied_index(kit.store), 1);
    assert_int_equal(store_applied_term(kit.store), 1);
    assert_int_equal(store_time_ms(kit.store), kit.time_ms);
    assert_bytes(kit_run(&kit, "GET a"), S("$1\r\n1\r\n"));
    assert_bytes(kit_run(&kit, "GET b"), S("$-1\r\n"));
    kit_verify(&kit);
}

static void after_a_crash_of_the_system(void **state) {
    struct store *s;
    kit_run(&kit, "SET a 1");
    store_abandon(kit.store);
    kit.store = NULL;
    assert_int_equal(try_open("boot-2", &s), STORE_UNTRUSTED);
    assert_int_equal(try_open("boot-2", &s), STORE_UNTRUSTED);
    assert_int_equal(try_open("boot-1", &s), STORE_OPENED); /* it was a mistake */
    store_abandon(s);
    assert_int_equal(store_wipe(kit.store_dir), 0);
    assert_int_equal(store_wipe(kit.store_dir), 0);
    kit.boot_id = "boot-2";
    kit_reopen(&kit);
    assert_int_equal(store_applied_index(kit.store), 0);
    assert_int_equal(store_key_count(kit.store), 0);
}

static void after_a_clean_stop(void **state) {
    kit_run(&kit, "SET a 1");
    assert_int_equal(store_close(kit.store), 0);
    kit.boot_id = "boot-2";
    kit_reopen(&kit);
    assert_int_equal(store_key_count(kit.store), 1);
    /* The clean stop counts once: it is open again. */
    struct store *s;
    store_abandon(kit.store);
    kit.store = NULL;
    assert_int_equal(try_open("boot-3", &s), STORE_UNTRUSTED);
    kit_reopen(&kit);
    kit_verify(&kit);
    assert_int_equal(store_close(kit.store), 0);
    kit_reopen(&kit); /* the same boot */
    store_abandon(kit.store);
    kit.store = NULL;
    assert_int_equal(try_open("boot-3", &s), STORE_UNTRUSTED);
}

static void open_at(enum store_look look, bool want_sound) {
    struct store_options options = {
        .dir = kit.store_dir, .map_bytes = 64 << 20, .boot_id = kit.boot_id, .look = look};
    assert_int_equal(store_open(&options, &kit.store), STORE_OPENED);
    assert_int_equal(store_is_sound(kit.store), want_sound);
}

static void abandon(void) {
    store_abandon(kit.store);
    kit.store = NULL;
}

/* Who was open and not looked at is looked at; who was is not, as long as nobody touches the file.
 */
static void what_a_start_looks_at(void **state) {
    kit_run(&kit, "SET a 1");
    abandon();
    open_at(STORE_LOOK_UNLESS_SOUND, false); /* an empty one was right when it was made */
    abandon();
    open_at(STORE_LOOK_UNLESS_SOUND, true); /* nobody has looked since: the start does */
    abandon();
    open_at(STORE_LOOK_NEVER, false);
    assert_int_equal(store_note_sound(kit.store), 0); /* a scrub has */
    abandon();
    open_at(STORE_LOOK_UNLESS_SOUND, false);
    abandon();
    open_at(STORE_LOOK_ALWAYS, true);
    assert_int_equal(store_close(kit.store), 0);
    open_at(STORE_LOOK_UNLESS_SOUND, false); /* as it was left */
    assert_int_equal(store_close(kit.store), 0);
    char path[4096];
    snprintf(path, sizeof path, "%s/data.mdb", kit.store_dir);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    open_at(STORE_LOOK_UNLESS_SOUND, true);
    abandon();
    kit_reopen(&kit);
    kit_verify(&kit);
}

static void damaged_marks(void **state) {
    static const char *const texts[] = {"",
                                        "x",
                                        "cotidal store mark 1\nboot boot-1\nclean\n",
                                        "cotidal store mark 2\nboot boot-1\nclean\n",
                                        "cotidal store mark 2\nboot boot-1\nsoun",
                                        "cotidal store mark 2\nboot boot-1\nsound\nx",
                                        "cotidal store mark 2\nboot boot-1",
                                        "cotidal store mark 2\nboot boot-1\nclean\nfile 1 2.3 4"};
    struct store *s;
    kit_run(&kit, "SET a 1");
    assert_int_equal(store_close(kit.store), 0);
    kit.store = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        assert_int_equal(files_replace(kit.store_dir, "store.mark", S(texts[i])), 0);
        assert_int_equal(try_open("boot-1", &s), STORE_UNTRUSTED);
    }
    assert_int_equal(files_remove(kit.store_dir, "store.mark"), 0);
    assert_int_equal(try_open("boot-1", &s), STORE_UNTRUSTED);
}

static void open_in_one_place_only(void **state) {
    struct store *s;
    assert_int_equal(try_open("boot-1", &s), -EBUSY);
}

static void map_full_is_a_local_failure(void **state) {
    struct buf value = {0};
    store_abandon(kit.store);
    struct store_options options = {
        .dir = kit.store_dir, .map_bytes = 1 << 20, .boot_id = "boot-1"};
    assert_int_equal(store_open(&options, &kit.store), 0);
    struct keyspace *ks = kit_begin(&kit);
    kit_fill(&value, 2 << 20, 1);
    kit.store->failed = keyspace_put_string(ks, 0, S("k"), buf_slice(&value), slice_of(NULL, 0), 0);
    assert_int_equal(kit.store->failed, -ENOSPC);
    assert_int_equal(store_commit(kit.store), -ENOSPC);
    assert_int_equal(store_begin(kit.store), -ENOSPC);
    store_abandon(kit.store);
    kit_reopen(&kit);
    assert_int_equal(store_applied_index(kit.store), 0);
    kit_verify(&kit);
    buf_fini(&value);
}

static void membership(void **state) {
    uint64_t index = 99;
    assert_bytes(store_membership(kit.store, &index), S(""));
    assert_int_equal(index, 0);
    struct hash128 before = kit_digest(&kit);
    assert_int_equal(store_begin(kit.store), 0);
    assert_int_equal(store_apply_other(kit.store, 1, 3, S("first")), 0);
    assert_int_equal(store_apply_other(kit.store, 2, 3, S("")), 0);
    assert_int_equal(store_commit(kit.store), 0);
    assert_same_digest(before, kit_digest(&kit));
    for (int i = 0; i < 2; i++) {
        assert_bytes(store_membership(kit.store, &index), S("first"));
        assert_int_equal(index, 1);
        assert_int_equal(store_applied_index(kit.store), 2);
        assert_int_equal(store_applied_term(kit.store), 3);
        store_abandon(kit.store);
        kit_reopen(&kit);
    }
    assert_int_equal(store_begin(kit.store), 0);
    assert_int_equal(store_apply_other(kit.store, 3, 4, S("the second")), 0);
    assert_int_equal(store_commit(kit.store), 0);
    assert_bytes(store_membership(kit.store, &index), S("the second"));
    assert_int_equal(index, 3);
}

static void quota(void **state) {
    store_abandon(kit.store);
    kit.max_data_bytes = 100;
    kit_reopen(&kit);
    assert_false(store_over_quota(kit.store));
    kit_run(&kit, "SETRANGE a 98 x");
    assert_int_equal(store_data_bytes(kit.store), 100);
    assert_true(store_over_quota(kit.store));
    kit_run(&kit, "SET a 1");
    assert_false(store_over_quota(kit.store));
    kit_run(&kit, "HSET h field 01234567890123456789012345678901234567890123456789");
    kit_run(&kit, "HSET h other 01234567890123456789012345678901234567890123456789");
    assert_true(store_over_quota(kit.store));
    kit_run(&kit, "HDEL h other");
    assert_false(store_over_quota(kit.store));
    kit_verify(&kit);
}

static void time_never_goes_back(void **state) {
    kit.time_ms = 5000;
    kit_run(&kit, "SET a 1 PX 1000");
    kit.time_ms = 4000;
    kit_run(&kit, "SET b 1 PX 1000");
    assert_int_equal(store_time_ms(kit.store), 5000);
    assert_bytes(kit_run(&kit, "PEXPIRETIME b"), S(":6000\r\n"));
}

/* ---- the digest ---- */

static const char *const script[] = {
    "SET a 1",
    "SET b 2 PX 100",
    "INCR a",
    "HSET h x 1 y 2",
    "APPEND b xyz",
    "HSET h y 3",
    "RENAME b c",
    "HDEL h x",
    "SET d 1 PX 5",
    "COPY h h2",
    "SETRANGE big 300000 z",
    "APPEND big tail",
    "DEL a",
    "GETSET big small",
    "EXPIRE.SWEEP 9999999999999 10",
    "RENAME h2 h3",
    "SET d 1",
    "HSET h3 z 1",
};

static void run_script(struct kit *k, size_t entries_a_commit, size_t commands_an_entry) {
    struct session_id session = kit_session(9);
    size_t entries = 0;
    struct kit_group open = {.session = session, .sequence = 1, .commands = {"SESSION.OPEN"}};
    kit_apply(k, &open, 1);
    for (size_t i = 0; i < ARRAY_COUNT(script); i += commands_an_entry) {
        struct kit_group group = {.session = session, .acked_below = 1 + i / 2, .sequence = 2 + i};
        for (size_t c = 0; c < commands_an_entry && i + c < ARRAY_COUNT(script); c++)
            group.commands[c] = script[i + c];
        if (entries % entries_a_commit == 0)
            assert_int_equal(store_begin(k->store), 0);
        k->time_ms += 10;
        k->seed++;
        kit_apply(k, &group, 1);
        if (++entries % entries_a_commit == 0)
            assert_int_equal(store_commit(k->store), 0);
    }
    if (entries % entries_a_commit != 0)
        assert_int_equal(store_commit(k->store), 0);
    kit_verify(k);
}

static void digest_does_not_depend_on_transactions(void **state) {
    for (size_t commands_an_entry = 1; commands_an_entry < 8; commands_an_entry += 3) {
        struct hash128 want = {0};
        for (size_t entries_a_commit = 1; entries_a_commit < 30; entries_a_commit *= 2) {
            struct kit k;
            kit_open(&k);
            run_script(&k, entries_a_commit, commands_an_entry);
            if (entries_a_commit == 1)
                want = kit_digest(&k);
            assert_same_digest(want, kit_digest(&k));
            kit_close(&k);
        }
    }
}

static void digest_tells_states_apart(void **state) {
    static const char *const commands[] = {
        "SET a 1",        "SET a 2",           "HSET h a 1",
        "HSET h a 2",     "HSET h b 1",        "SET b 1",
        "SET a 1 PX 100", "SET a 1 PX 101",    "SET a 1 PXAT 5000000",
        "GET a",          "SETRANGE a 3000 x",
    };
    struct hash128 seen[ARRAY_COUNT(commands)];
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        struct kit k;
        kit_open(&k);
        kit_run(&k, commands[i]);
        seen[i] = kit_digest(&k);
        for (size_t j = 0; j < i; j++)
            assert_false(hash128_equal(seen[i], seen[j]));
        kit_close(&k);
    }
}

/* The digest is looked at while a transaction is open: it must follow every entry at once. */
static void digest_within_a_transaction(void **state) {
    struct kit other;
    kit_open(&other);
    struct kit_group group = {.session = kit_session(1),
                              .sequence = 1,
                              .commands = {"SESSION.OPEN", "SET a 1", "INCR b"}};
    kit_apply(&kit, &group, 1);
    assert_int_equal(store_begin(other.store), 0);
    kit_apply(&other, &group, 1);
    assert_same_digest(kit_digest(&kit), kit_digest(&other));
    assert_int_equal(store_applied_index(other.store), 1);
    assert_int_equal(store_commit(other.store), 0);
    assert_same_digest(kit_digest(&kit), kit_digest(&other));
    kit_close(&other);
}

/* ---- views ---- */

static void read_argv(struct store_view *v, uint64_t now_ms, const char *a, const char *b,
                      const char *want) {
    struct buf packed = {0}, out = {0};
    struct argv argv = {0};
    argv_append_strs(&packed, a, b, NULL);
    assert_true(argv_unpack(&argv, buf_slice(&packed)));
    assert_int_equal(store_read(v, 0, now_ms, 1, &argv, &out), 0);
    assert_bytes(buf_slice(&out), S(want));
    argv_fini(&argv);
    buf_fini(&packed);
    buf_fini(&out);
}

static void views_are_pinned(void **state) {
    struct store_view *v, *w;
    kit.time_ms = 1000;
    kit_run(&kit, "SET a 1 PX 500");
    assert_int_equal(store_view_new(kit.store, &v), 0);
    assert_int_equal(store_view_new(kit.store, &w), 0);
    assert_int_equal(store_view_begin(v), 0);
    kit_run(&kit, "SET a 2");
    kit_run(&kit, "SETRANGE b 1000000 x");
    assert_int_equal(store_view_begin(w), 0);
    assert_int_equal(store_view_applied_index(v), 1);
    assert_int_equal(store_view_applied_index(w), 3);
    read_argv(v, 0, "GET", "a", "$1\r\n1\r\n");
    read_argv(v, 1499, "GET", "a", "$1\r\n1\r\n");
    read_argv(v, 1500, "GET", "a", "$-1\r\n");
    read_argv(v, 0, "GET", "a", "$1\r\n1\r\n");
    read_argv(v, 0, "STRLEN", "b", ":0\r\n");
    read_argv(w, 1500, "GET", "a", "$1\r\n2\r\n");
    read_argv(w, 0, "STRLEN", "b", ":1000001\r\n");
    store_view_end(v);
    assert_int_equal(store_view_begin(v), 0);
    read_argv(v, 0, "GET", "a", "$1\r\n2\r\n");
    read_argv(v, 0, "STRLEN", "b", ":1000001\r\n");
    /* A write on a view is an error reply and changes nothing. */
    struct buf packed = {0}, out = {0};
    struct argv argv = {0};
    argv_append_strs(&packed, "SET", "a", "3", NULL);
    assert_true(argv_unpack(&argv, buf_slice(&packed)));
    assert_int_equal(store_read(v, 0, 0, 1, &argv, &out), 0);
    assert_int_equal(out.data[0], '-');
    buf_reset(&out);
    assert_int_equal(store_read(v, STORE_DB_ALL, 0, 1, &argv, &out), 0);
    assert_bytes(buf_slice(&out), S("-ERR DB index is out of range\r\n"));
    argv_fini(&argv);
    buf_fini(&packed);
    buf_fini(&out);
    store_view_end(v);
    /* A reader's clock that is behind does not bring back what is over by the log's. */
    kit_run(&kit, "SET c 1 PX 500");
    kit.time_ms = 1500;
    kit_run(&kit, "SET d 1");
    assert_int_equal(store_view_begin(v), 0);
    read_argv(v, 0, "GET", "c", "$-1\r\n");
    store_view_end(v);
    store_view_end(w);
    store_view_free(v);
    store_view_free(w);
}

static void many_views(void **state) {
    enum { COUNT = 500 };
    struct store_view *views[COUNT];
    kit_run(&kit, "SET a 1");
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(store_view_new(kit.store, &views[i]), 0);
        assert_int_equal(store_view_begin(views[i]), 0);
        read_argv(views[i], 0, "GET", "a", "$1\r\n1\r\n");
    }
    for (int i = 0; i < COUNT; i++) {
        store_view_end(views[i]);
        store_view_free(views[i]);
    }
}

static void housekeeping_is_a_command(void **state) {
    struct buf packed = {0}, entry = {0}, commands = {0};
    kit.time_ms = 1000;
    for (int i = 0; i < 1500; i++) {
        char command[64];
        snprintf(command, sizeof command, "SET key%d v PX %d", i, 1 + i % 7);
        kit_run(&kit, command);
    }
    assert_false(store_housekeeping(kit.store, 1000, &packed));
    kit.time_ms = 2000;
    int commands_count = 0;
    while (store_housekeeping(kit.store, 2000, &packed)) {
        struct entry_group group = {.command_count = 1};
        buf_reset(&commands);
        entry_append_command(&commands, 0, 0, buf_slice(&packed));
        group.commands = buf_slice(&commands);
        entry_begin(&entry, kit.time_ms, 1);
        entry_append_group(&entry, &group);
        assert_int_equal(store_begin(kit.store), 0);
        assert_int_equal(store_apply(kit.store, store_applied_index(kit.store) + 1, 1,
                                     buf_slice(&entry), NULL, NULL),
                         0);
        /* While the transaction is open it sees what the transaction did. */
        buf_reset(&packed);
        bool more = store_housekeeping(kit.store, 2000, &packed);
        assert_int_equal(more, store_key_count(kit.store) > 0);
        buf_reset(&packed);
        assert_int_equal(store_commit(kit.store), 0);
        commands_count++;
    }
    assert_int_equal(commands_count, 2);
    assert_int_equal(store_key_count(kit.store), 0);
    kit_verify(&kit);
    buf_fini(&packed);
    buf_fini(&entry);
    buf_fini(&commands);
}

static void revisions(void **state) {
    struct kit_group groups[] = {
        {.commands = {"SET a 1", "GET a"}},
        {.commands = {"SET b 1"}},
    };
    kit_apply(&kit, groups, 2);
    kit_apply(&kit, groups, 2);
    char want[64];
    snprintf(want, sizeof want, "*3\r\n:%d\r\n:%d\r\n:0\r\n", 2 << 20, (2 << 20) + 2);
    assert_bytes(kit_run(&kit, "KV.REV a b c"), S(want));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(survives_a_process_crash),
        TEST(after_a_crash_of_the_system),
        TEST(after_a_clean_stop),
        TEST(what_a_start_looks_at),
        TEST(damaged_marks),
        TEST(open_in_one_place_only),
        TEST(map_full_is_a_local_failure),
        TEST(membership),
        TEST(quota),
        TEST(time_never_goes_back),
        TEST(digest_does_not_depend_on_transactions),
        TEST(digest_tells_states_apart),
        TEST(digest_within_a_transaction),
        TEST(views_are_pinned),
        TEST(many_views),
        TEST(housekeeping_is_a_command),
        TEST(revisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
