/* The change log: what every command leaves in it, its bounds, KV.CHANGES. */
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/reply.h"
#include "store/changes.h"
#include "store/commands.h"
#include "store/store_impl.h"

static struct kit kit;
static struct buf text;

static int setup(void **state) {
    kit_open(&kit);
    return 0;
}

static int teardown(void **state) {
    kit_close(&kit);
    buf_fini(&text);
    text = (struct buf){0};
    return 0;
}

#define REV(index, position) ((uint64_t)(index) << 20 | (position))

static void read_command(const char *const *words, uint16_t db, struct buf *out) {
    struct store_view *view;
    struct argv argv = {0};
    struct slice args[8];
    size_t count = 0;
    struct buf packed = {0};
    for (; words[count]; count++)
        args[count] = S(words[count]);
    argv_append(&packed, args, count);
    assert_true(argv_unpack(&argv, buf_slice(&packed)));
    assert_int_equal(store_view_new(kit.store, &view), 0);
    assert_int_equal(store_view_begin(view), 0);
    assert_int_equal(store_read(view, db, 0, 1, &argv, out), 0);
    store_view_end(view);
    store_view_free(view);
    argv_fini(&argv);
    buf_fini(&packed);
}

/* "floor upto: index.position op key[=value]; ..." of the changes of a database behind `since`. */
static const char *changes(uint64_t since, const char *filter, const char *of, uint16_t db) {
    char number[32];
    struct buf reply = {0};
    struct reply_item item, rows;
    snprintf(number, sizeof number, "%llu", (unsigned long long)since);
    read_command((const char *const[]){"KV.CHANGES", number, filter, of, "1", NULL}, db, &reply);
    struct slice in = buf_slice(&reply);
    buf_reset(&text);
    assert_true(reply_next(&in, &item) && item.type == '*' && item.integer == 3);
    assert_true(reply_next(&in, &item));
    buf_printf(&text, "%llu.%llu ", (unsigned long long)item.integer >> 20,
               (unsigned long long)item.integer & 0xFFFFF);
    assert_true(reply_next(&in, &item));
    buf_printf(&text, "%llu.%llu:", (unsigned long long)item.integer >> 20,
               (unsigned long long)item.integer & 0xFFFFF);
    assert_true(reply_next(&in, &rows) && rows.type == '*');
    for (int64_t i = 0; i < rows.integer; i++) {
        struct reply_item row, cell[8] = {0};
        assert_true(reply_next(&in, &row) && (row.integer == 3 || row.integer == 8));
        for (int64_t k = 0; k < row.integer; k++)
            assert_true(reply_next(&in, &cell[k]));
        buf_printf(&text, " %llu.%llu %.*s %.*s", (unsigned long long)cell[0].integer >> 20,
                   (unsigned long long)cell[0].integer & 0xFFFFF, (int)cell[1].bytes.size,
                   (const char *)cell[1].bytes.data, (int)cell[2].bytes.size,
                   (const char *)cell[2].bytes.data);
        if (row.integer == 8 && cell[7].type == '$')
            buf_printf(&text, "=%.*s", (int)cell[7].bytes.size, (const char *)cell[7].bytes.data);
        if (row.integer == 8 && cell[3].integer)
            buf_printf(&text, "@%llu", (unsigned long long)cell[3].integer);
        buf_append_char(&text, ';');
    }
    assert_int_equal(in.size, 0);
    buf_fini(&reply);
    buf_append_u8(&text, 0);
    return (const char *)text.data;
}

#define ALL(since, want) assert_string_equal(changes(since, "all", "", 0), want)

static void every_kind(void **state) {
    kit.time_ms = 1000;
    kit_run(&kit, "SET a 1");
    kit_run(&kit, "SET b 2 PX 500");
    kit_run(&kit, "HSET h f 1 g 2 i 3");
    kit_run(&kit, "MSET a 3 c 4");
    kit_run(&kit, "RENAME a z");
    kit_run(&kit, "DEL c nothing");
    kit_run(&kit, "GET z");
    kit_run(&kit, "PEXPIRE z 100000");
    ALL(0, "0.0 8.1048575: 1.0 put a=1; 2.0 put b=2@1500; 3.0 put h; 4.0 put a=3; 4.0 put c=4; "
           "5.0 put z=3; 5.0 delete a; 6.0 delete c; 8.0 put z=3@101000;");
    kit.time_ms = 2000;
    kit_run(&kit, "EXPIRE.SWEEP 2000 10");
    ALL(REV(8, 0), "0.0 9.1048575: 9.0 expire b;");
    kit_run(&kit, "TX.EXEC 0 3 0 3 SET x 1 0 2 INCR x 0 2 DEL h");
    ALL(REV(9, 0), "0.0 10.1048575: 10.0 put x=2; 10.0 delete h;");
    kit_run(&kit, "FLUSHALL");
    kit_run(&kit, "FLUSHALL"); /* nothing is there any more */
    ALL(REV(10, 0), "0.0 12.1048575: 11.0 flush ;");
    kit_verify(&kit);
}

/* What an expired key is overwritten with is all that is told of it; so is what a command did to
 * one key several times. */
static void the_last_counts(void **state) {
    kit.time_ms = 1000;
    kit_run(&kit, "SET a 1 PX 10");
    kit.time_ms = 2000;
    kit_run(&kit, "SET a 2");
    kit_run(&kit, "HSET h f 1");
    kit_run(&kit, "HDEL h f");
    ALL(0, "0.0 4.1048575: 1.0 put a=1@1010; 2.0 put a=2; 3.0 put h; 4.0 delete h;");
}

static void filters(void **state) {
    kit_run(&kit, "MSET user:1 a user:2 b item:1 c");
    kit_run(&kit, "FLUSHDB");
    kit_run(&kit, "SET user:2 d");
    assert_string_equal(changes(0, "prefix", "user:", 0),
                        "0.0 3.1048575: 1.0 put user:1=a; 1.0 put user:2=b; 2.0 flush ; "
                        "3.0 put user:2=d;");
    assert_string_equal(changes(0, "key", "user:2", 0),
                        "0.0 3.1048575: 1.0 put user:2=b; 2.0 flush ; 3.0 put user:2=d;");
    assert_string_equal(changes(0, "all", "", 5), "0.0 3.1048575:");
    ALL(REV(1, 0), "0.0 3.1048575: 2.0 flush ; 3.0 put user:2=d;");
    ALL(REV(3, 0), "0.0 3.1048575:");
    ALL(REV(700, 0), "0.0 3.1048575:");
}

/* Applies one packed command in a database. */
static void apply_packed(uint16_t db, struct slice packed) {
    struct buf entry = {0}, commands = {0};
    entry_begin(&entry, 0, 1);
    entry_append_command(&commands, 0, db, packed);
    struct entry_group group = {.command_count = 1, .commands = buf_slice(&commands)};
    entry_append_group(&entry, &group);
    assert_int_equal(store_begin(kit.store), 0);
    assert_int_equal(store_apply(kit.store, store_applied_index(kit.store) + 1, 1,
                                 buf_slice(&entry), NULL, NULL),
                     0);
    assert_int_equal(store_commit(kit.store), 0);
    buf_fini(&entry);
    buf_fini(&commands);
}

/* Databases that clients do not see are neither flushed nor told of. */
static void hidden_databases(void **state) {
    struct buf packed = {0};
    argv_append_strs(&packed, "SET", "s", "1", NULL);
    apply_packed(STORE_DB_VISITORS, buf_slice(&packed));
    kit_run(&kit, "SET a 1");
    kit_run(&kit, "FLUSHALL");
    ALL(0, "0.0 3.1048575: 2.0 put a=1; 3.0 flush ;");
    assert_string_equal(changes(0, "all", "", STORE_DB_VISITORS), "0.0 3.1048575:");
    assert_int_equal(store_key_count(kit.store), 1);
    kit_verify(&kit);
    buf_fini(&packed);
}

/* Small values are kept; larger ones are known while the key is as the change left it. */
static void values(void **state) {
    char command[2048];
    int at = snprintf(command, sizeof command, "SET big ");
    memset(command + at, 'x', 300);
    command[at + 300] = 0;
    kit_run(&kit, command);
    const char *all = changes(0, "all", "", 0);
    assert_int_equal(strlen(all), strlen("0.0 1.1048575: 1.0 put big=;") + 300);
    kit_run(&kit, "APPEND big y");
    all = changes(0, "key", "big", 0);
    assert_non_null(strstr(all, "1.0 put big; 2.0 put big=x"));
}

/* What goes beyond the bound drops off, the same whatever the transactions were, and is said. */
static void bounded(void **state) {
    kit.store->ks.log.count_max = 10;
    for (int i = 0; i < 40; i++)
        kit_run(&kit, "INCR n");
    assert_int_equal(kit.store->state.change_count, 10);
    assert_int_equal(kit.store->state.change_floor, REV(30, 0));
    ALL(REV(29, 0), "30.0 40.1048575:");
    ALL(REV(38, 0), "30.0 40.1048575: 39.0 put n=39; 40.0 put n=40;");
    struct hash128 one_by_one = kit_digest(&kit);
    kit_verify(&kit);
    kit_close(&kit);
    kit_open(&kit);
    kit.store->ks.log.count_max = 10;
    assert_int_equal(store_begin(kit.store), 0);
    for (int i = 0; i < 40; i++)
        kit_run(&kit, "INCR n");
    assert_int_equal(store_commit(kit.store), 0);
    assert_same_digest(one_by_one, kit_digest(&kit));
    /* More than the bound in one command: its oldest changes are gone, and that is told. */
    kit_run(&kit, "MSET a 1 b 1 c 1 d 1 e 1 f 1 g 1 h 1 i 1 j 1 k 1 l 1");
    assert_int_equal(kit.store->state.change_count, 12); /* the newest run stays whole */
    kit_verify(&kit);
}

/* Runs end at 32 KiB, also inside a command; what was cut off from a revision is not told as if it
 * were all of it. */
static void long_runs(void **state) {
    enum { KEYS = 3000 };
    struct buf packed = {0};
    buf_append_u32(&packed, 1 + 2 * KEYS);
    buf_append_lstr(&packed, S("MSET"));
    for (int i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "key-%06d", i);
        buf_append_lstr(&packed, S(key));
        buf_append_lstr(&packed, S("v"));
    }
    apply_packed(0, buf_slice(&packed));
    kit_verify(&kit);
    assert_int_equal(kit.store->state.change_count, KEYS);
    uint64_t runs = 0;
    struct env_txn txn;
    assert_int_equal(env_read_open(&kit.store->env, &txn), 0);
    assert_int_equal(table_count(&txn, TABLE_CHANGES, &runs), 0);
    env_read_close(&txn);
    assert_true(runs > 2);
    const char *all = changes(0, "all", "", 0);
    assert_non_null(strstr(all, " 1.0 put key-000000=v; 1.0 put key-000001=v;"));
    assert_non_null(strstr(all, " 1.0 put key-002999=v;"));
    kit.store->ks.log.count_max = KEYS / 2;
    kit_run(&kit, "SET a 1");
    assert_int_equal(kit.store->state.change_floor, REV(1, 0));
    ALL(REV(0, 5), "1.0 2.1048575:");
    ALL(REV(1, 0), "1.0 2.1048575: 2.0 put a=1;");
    kit_verify(&kit);
    buf_fini(&packed);
}

static void survives(void **state) {
    kit_run(&kit, "SET a 1");
    kit_run(&kit, "SET b 2");
    assert_int_equal(store_close(kit.store), 0);
    kit_reopen(&kit);
    ALL(REV(1, 0), "0.0 2.1048575: 2.0 put b=2;");
    store_abandon(kit.store);
    kit_reopen(&kit);
    kit_run(&kit, "SET c 3");
    ALL(REV(1, 0), "0.0 3.1048575: 2.0 put b=2; 3.0 put c=3;");
    /* Whoever watched another cluster begins anew in one that was made of its backup. */
    assert_int_equal(store_refound(kit.store, 100, 9, S("we alone")), 0);
    assert_int_equal(store_close(kit.store), 0);
    kit_reopen(&kit);
    ALL(REV(3, 0), "100.1048575 100.1048575:");
    kit_run(&kit, "SET d 4");
    ALL(REV(101, 0) - 1, "100.1048575 101.1048575: 101.0 put d=4;");
    kit_verify(&kit);
}

static void in_the_digest(void **state) {
    kit_run(&kit, "SET a 1");
    struct env_txn txn;
    struct slice key;
    assert_int_equal(env_write_begin(&kit.store->env, &txn), 0);
    assert_int_equal(table_first(&txn, TABLE_CHANGES, &key, NULL), 0);
    assert_int_equal(table_delete_current(&txn, TABLE_CHANGES), 0);
    assert_int_equal(env_write_commit(&txn), 0);
    struct store_view *view;
    struct hash128 digest;
    assert_int_equal(store_view_new(kit.store, &view), 0);
    assert_int_equal(store_view_begin(view), 0);
    assert_int_equal(store_verify(view, &digest), -EBADMSG);
    store_view_end(view);
    store_view_free(view);
}

/* Every truncation and every changed byte of a run is malformed or another one, and never read
 * beyond. */
static void damaged_runs(void **state) {
    struct change_log log = {0};
    struct change put = {.revision = REV(7, 3),
                         .op = CHANGE_PUT,
                         .db = 2,
                         .key = S("key"),
                         .type = RECORD_STRING,
                         .size = 5,
                         .content_type = S("a/b"),
                         .has_value = true,
                         .value = S("value")};
    struct change gone = {.revision = REV(7, 4), .op = CHANGE_EXPIRE, .key = S("k")};
    change_log_add(&log, &put);
    change_log_add(&log, &gone);
    uint8_t key[CHANGES_KEY_BYTES] = {0};
    put_u64be(key, REV(7, 3));
    buf_patch_u32(&log.run, 1, log.count);
    buf_patch_u32(&log.run, 5, 4);
    for (size_t n = 0; n <= log.run.size; n++) {
        uint8_t *copy = n > 0 ? xmemdup(log.run.data, n) : NULL;
        struct reader r;
        struct change c;
        uint64_t first, last;
        uint32_t count;
        bool whole = changes_run_decode(slice_of(key, sizeof key), slice_of(copy, n), &first, &last,
                                        &count, &r);
        for (uint32_t i = 0; whole && i < count; i++)
            whole = change_next(&r, 7, &c);
        assert_int_equal(whole && reader_done(&r), n == log.run.size);
        free(copy);
    }
    change_log_fini(&log);
}

static void tx_read(void **state) {
    kit_run(&kit, "SET a 1");
    struct buf out = {0};
    read_command((const char *const[]){"TX.READ", "1", "0", "2", "GET", "a", NULL}, 0, &out);
    assert_bytes(buf_slice(&out), S("*1\r\n$1\r\n1\r\n"));
    buf_reset(&out);
    read_command((const char *const[]){"TX.READ", "1", "0", "2", "DEL", "a", NULL}, 0, &out);
    assert_true(reply_is_error(slice_of(out.data + 4, out.size - 4)));
    buf_reset(&out);
    read_command((const char *const[]){"TX.READ", "2", "0", "2", "GET", "a", NULL}, 0, &out);
    assert_bytes(buf_slice(&out), S("-ERR malformed transaction\r\n"));
    buf_fini(&out);
}

static void bad_arguments(void **state) {
    static const char *const bad[] = {"KV.CHANGES x all a 1", "KV.CHANGES 0 some a 1",
                                      "KV.CHANGES 0 all a 2", "KV.CHANGES -1 all a 1"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_true(reply_is_error(kit_run(&kit, bad[i])));
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_kind),    TEST(the_last_counts), TEST(filters),   TEST(hidden_databases),
        TEST(values),        TEST(bounded),         TEST(long_runs), TEST(survives),
        TEST(in_the_digest), TEST(damaged_runs),    TEST(tx_read),   TEST(bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
