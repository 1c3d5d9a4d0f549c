/* Records of the store: the input says which records of a small state to overwrite, add or delete,
 * below the checks that guard a whole snapshot file. Readers, the writer and opening may say
 * -EBADMSG and must not do anything worse.
 *
 *   input: any number of (u8 table | u8 key size | u8 value size | key | value);
 *   table + 128: changes the n-th record (n is the first byte of the key) by xoring the value into
 *   it; a value size of 255: deletes.
 */
#include <errno.h>

#include "base/reader.h"
#include "store/store_impl.h"
#include "store_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const build_script[][6] = {
    {"SET", "s", "value"},
    {"SET", "t", "value", "PX", "5000"},
    {"HSET", "h", "a", "1", "b", "2"},
    {"SETRANGE", "big", "300000", "x"},
    {"HSETNX", "h", "long", "0123456789"},
    {"ONCE.EXEC", "id", "SET", "once", "1"},
    {"ONCE.EXEC", "other", "INCR", "once"},
};
static const char *const use_script[][6] = {
    {"GET", "s"},
    {"APPEND", "s", "x"},
    {"GET", "big"},
    {"STRLEN", "big"},
    {"HGETALL", "h"},
    {"HSET", "h", "a", "2"},
    {"KEYS", "*"},
    {"SCAN", "0"},
    {"RANDOMKEY"},
    {"PERSIST", "t"},
    {"COPY", "h", "h2"},
    {"HDEL", "h", "b"},
    {"SET", "big", "small"},
    {"RENAME", "s", "s2"},
    {"EXPIRE.SWEEP", "9999999", "10"},
    {"KV.LIST", "", "", "", "100", "1"},
    {"ONCE.EXEC", "id", "SET", "once", "1"},
    {"ONCE.EXEC", "other", "INCR", "once"},
    {"ONCE.EXEC", "third", "INCR", "once"},
    {"ONCE.SWEEP", "99999999999", "10"},
    {"DEL", "h", "t"},
    {"HSCAN", "h2", "0"},
    {"FLUSHALL"},
};

/* One entry a script, of one session. */
static int run(struct store *s, const char *const (*script)[6], size_t count, uint64_t time_ms,
               uint64_t sequence) {
    struct buf entry = {0}, commands = {0}, packed = {0};
    struct entry_group group = {.session = {{1}}, .acked_below = sequence > 1 ? sequence - 1 : 0};
    if (sequence == 1) {
        argv_append_strs(&packed, "SESSION.OPEN", NULL);
        entry_append_command(&commands, sequence++, 0, buf_slice(&packed));
        group.command_count++;
    }
    for (size_t i = 0; i < count; i++, group.command_count++) {
        struct slice args[6];
        size_t argc = 0;
        for (; argc < 6 && script[i][argc]; argc++)
            args[argc] = slice_str(script[i][argc]);
        buf_reset(&packed);
        argv_append(&packed, args, argc);
        entry_append_command(&commands, sequence + i, 0, buf_slice(&packed));
    }
    group.commands = buf_slice(&commands);
    entry_begin(&entry, time_ms, 1);
    entry_append_group(&entry, &group);
    int rc = store_begin(s);
    if (rc == 0) {
        rc = store_apply(s, store_applied_index(s) + 1, 1, buf_slice(&entry), NULL, NULL);
        int committed = store_commit(s);
        CHECK(committed <= 0);
        rc = rc ? rc : committed;
    }
    buf_fini(&entry);
    buf_fini(&commands);
    buf_fini(&packed);
    return rc;
}

static void change_nth(struct env_txn *t, enum table table, size_t n, struct slice value) {
    struct slice k, v;
    int rc = table_first(t, table, &k, &v);
    for (; rc == 0 && n > 0; n--)
        rc = table_next(t, table, &k, &v);
    if (rc)
        return;
    struct buf key = {0}, bytes = {0};
    buf_append_slice(&key, k);
    buf_append_slice(&bytes, v);
    for (size_t i = 0; i < value.size && i < bytes.size; i++)
        bytes.data[i] ^= value.data[i];
    CHECK(table_put(t, table, buf_slice(&key), buf_slice(&bytes)) == 0);
    buf_fini(&key);
    buf_fini(&bytes);
}

static void change(struct store *s, struct slice input) {
    struct reader r = reader_of(input);
    struct env_txn t;
    CHECK(env_write_begin(&s->env, &t) == 0);
    while (reader_left(&r) > 0 && reader_ok(&r)) {
        uint8_t what = reader_u8(&r), key_size = reader_u8(&r), value_size = reader_u8(&r);
        struct slice key = reader_bytes(&r, key_size);
        struct slice value = reader_bytes(&r, value_size == 255 ? 0 : value_size);
        enum table table = (enum table)(what % 128 % TABLE_COUNT);
        if (!reader_ok(&r) || key.size == 0)
            break;
        if (what >= 128)
            change_nth(&t, table, key.data[0], value);
        else if (value_size == 255)
            CHECK(table_delete(&t, table, key) >= 0);
        else
            CHECK(table_put(&t, table, key, value) == 0);
    }
    CHECK(env_write_commit(&t) == 0);
}

static void read_all(struct store *s) {
    struct store_view *view;
    CHECK(store_view_new(s, &view) == 0);
    if (store_view_begin(view) == 0) {
        struct hash128 digest;
        struct argv argv = {0};
        struct buf out = {0}, packed = {0};
        CHECK(store_verify(view, &digest) <= 0);
        for (size_t i = 0; i < ARRAY_COUNT(use_script); i++) {
            struct slice args[6];
            size_t argc = 0;
            for (; argc < 6 && use_script[i][argc]; argc++)
                args[argc] = slice_str(use_script[i][argc]);
            buf_reset(&packed);
            buf_reset(&out);
            argv_append(&packed, args, argc);
            CHECK(argv_unpack(&argv, buf_slice(&packed)));
            CHECK(store_read(view, 0, 1000, 1, &argv, &out) <= 0);
        }
        argv_fini(&argv);
        buf_fini(&out);
        buf_fini(&packed);
        store_view_end(view);
    }
    store_view_free(view);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct store_options options = {.dir = store_folder, .map_bytes = 256 << 20, .boot_id = "fuzz"};
    struct store *s = store_folder_open_new();
    CHECK(run(s, build_script, ARRAY_COUNT(build_script), 1000, 1) == 0);
    change(s, slice_of(data, size));
    read_all(s);
    (void)run(s, use_script, ARRAY_COUNT(use_script), 6000, 10);
    store_abandon(s);
    int rc = store_open(&options, &s);
    CHECK(rc <= 0);
    if (rc == 0) {
        /* Two days later. */
        (void)run(s, use_script, ARRAY_COUNT(use_script), 172800000, 10 + ARRAY_COUNT(use_script));
        store_abandon(s);
    }
    return 0;
}
