/* Damaged records: every reader says -EBADMSG (or finds nothing, or reads what happens to be
 * valid) and none crashes; store_verify() notices every change of a byte. */
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/record.h"
#include "store/store_impl.h"

static struct kit kit;
static struct buf long_key;

static void build(void) {
    struct buf value = {0};
    bool added;
    kit_open(&kit);
    kit_fill(&long_key, 600, 1);
    struct kit_group group = {.session = kit_session(1),
                              .sequence = 1,
                              .commands = {"SESSION.OPEN", "SET s 1", "INCR s"}};
    kit_apply(&kit, &group, 1);
    struct keyspace *ks = kit_begin(&kit);
    kit_fill(&value, 2 * CHUNK_BYTES + 10, 2);
    assert_int_equal(keyspace_put_string(ks, 0, S("big"), buf_slice(&value), S("x/y"), 9000000), 0);
    assert_int_equal(keyspace_put_string(ks, 0, buf_slice(&long_key), S("v"), slice_of(NULL, 0), 0),
                     0);
    assert_int_equal(keyspace_member_put(ks, 0, S("h"), S("a"), S("1"), &added), 0);
    assert_int_equal(keyspace_member_put(ks, 0, S("h"), S("b"), buf_slice(&value), &added), 0);
    kit_commit(&kit);
    assert_int_equal(store_begin(kit.store), 0);
    assert_int_equal(
        store_apply_other(kit.store, store_applied_index(kit.store) + 1, 1, S("members")), 0);
    assert_int_equal(store_commit(kit.store), 0);
    kit_verify(&kit);
    buf_fini(&value);
}

static void done(void) {
    buf_fini(&long_key);
    kit_close(&kit);
}

/* The n-th record of a table, copied. */
static bool nth(enum table table, size_t n, struct buf *ret_key, struct buf *ret_value) {
    struct env_txn t;
    struct slice key, value;
    assert_int_equal(env_read_open(&kit.store->env, &t), 0);
    int rc = table_first(&t, table, &key, &value);
    for (; rc == 0 && n > 0; n--)
        rc = table_next(&t, table, &key, &value);
    if (rc == 0) {
        buf_reset(ret_key);
        buf_append_slice(ret_key, key);
        buf_reset(ret_value);
        buf_append_slice(ret_value, value);
    }
    env_read_close(&t);
    return rc == 0;
}

/* Stores a record as it is; an empty `value` with data NULL deletes it. */
static void overwrite(enum table table, struct slice key, struct slice value) {
    struct env_txn t;
    assert_int_equal(env_write_begin(&kit.store->env, &t), 0);
    if (value.data)
        assert_int_equal(table_put(&t, table, key, value), 0);
    else
        assert_int_equal(table_delete(&t, table, key), 0);
    assert_int_equal(env_write_commit(&t), 0);
}

static int verify(void) {
    struct store_view *view;
    struct hash128 digest;
    assert_int_equal(store_view_new(kit.store, &view), 0);
    int rc = store_view_begin(view);
    if (rc == 0) {
        rc = store_verify(view, &digest);
        store_view_end(view);
    }
    store_view_free(view);
    return rc;
}

/* Everything a reader may do; the answers are not looked at. */
static void read_everything(void) {
    static const char *const keys[] = {"s", "big", "h"};
    struct store_view *view;
    struct slice key, value, field;
    struct record r;
    uint64_t first, last;
    assert_int_equal(store_view_new(kit.store, &view), 0);
    if (store_view_begin(view) == 0) {
        struct keyspace *ks = &view->ks;
        ks->now_ms = kit.time_ms;
        for (size_t i = 0; i <= ARRAY_COUNT(keys); i++) {
            struct slice k = i < ARRAY_COUNT(keys) ? S(keys[i]) : buf_slice(&long_key);
            int rc = keyspace_find(ks, 0, k, &r);
            if (rc == 0 && r.type == RECORD_STRING) {
                rc = keyspace_value(ks, 0, k, &value);
            } else if (rc == 0) {
                struct member_cursor at = {0};
                for (int n = 0; n < 10 && rc == 0; n++)
                    rc = keyspace_member_next(ks, 0, k, &at, &field, &value);
                rc = keyspace_member_get(ks, 0, k, S("b"), &value);
            }
            (void)rc;
        }
        uint64_t from = 0;
        for (int n = 0; n < 10 && keyspace_scan(ks, 0, from, &key, &r) == 0; n++)
            from = r.id + 1;
        key = slice_of(NULL, 0);
        for (int n = 0; n < 10; n++) {
            if (keyspace_next_key(ks, 0, key, false, &key, &r))
                break;
        }
        (void)!keyspace_id_bounds(ks, 0, &first, &last);
        store_view_end(view);
    }
    store_view_free(view);
}

/* The writer meets the damage too: it fails as a whole or goes on. */
static void change_everything(void) {
    struct store *s = kit.store;
    if (store_begin(s) || store_apply_other(s, store_applied_index(s) + 1, 1, S("")))
        return;
    struct keyspace *ks = &s->ks;
    bool added;
    uint64_t n;
    s->state.time_ms = ks->now_ms = 9500000;
    ks->revision = 1;
    int rc = 0;
    struct record r;
    if (rc >= 0 && (rc = keyspace_find(ks, 0, S("h"), &r)) == 0 && r.type == RECORD_HASH)
        rc = keyspace_member_put(ks, 0, S("h"), S("b"), S("new"), &added);
    if (rc >= 0 && (rc = keyspace_find(ks, 0, S("h"), &r)) == 0 && r.type == RECORD_HASH)
        rc = keyspace_member_delete(ks, 0, S("h"), S("a"));
    if (rc >= 0)
        rc = keyspace_copy(ks, 0, S("h"), 0, S("copy"));
    if (rc >= 0)
        rc = keyspace_put_string(ks, 0, buf_slice(&long_key), S("w"), S(""), 0);
    if (rc >= 0)
        rc = keyspace_sweep_expired(ks, 9500000, 100, &n);
    if (rc >= 0)
        rc = keyspace_set_expiry(ks, 0, S("s"), 9999999);
    if (rc >= 0)
        rc = keyspace_delete(ks, 0, S("h"));
    if (rc < 0)
        s->failed = rc;
    assert_int_equal(store_commit(s), rc < 0 ? rc : 0);
}

static void damage(enum table table, struct slice key, struct slice value) {
    overwrite(table, key, value);
    int rc = verify();
    if (rc != -EBADMSG && rc != -EPROTONOSUPPORT)
        fail_msg("table %d: damage not noticed: %d", table, rc);
    read_everything();
}

static void every_byte(void **state) {
    struct buf key = {0}, value = {0}, changed = {0};
    build();
    for (int table = 0; table < TABLE_COUNT; table++) {
        for (size_t n = 0; nth((enum table)table, n, &key, &value); n++) {
            struct slice k = buf_slice(&key);
            /* All of a small record; the ends of a chunk. */
            for (size_t at = 0; at < value.size; at++) {
                if (at == 4 && value.size > 1000)
                    at = value.size - 2;
                buf_reset(&changed);
                buf_append_slice(&changed, buf_slice(&value));
                changed.data[at] ^= (uint8_t)(1 << (at * 5 + n) % 8);
                damage((enum table)table, k, buf_slice(&changed));
            }
            /* Cut, longer, empty, gone. */
            if (value.size > 0)
                damage((enum table)table, k, slice_of(value.data, value.size - 1));
            buf_reset(&changed);
            buf_append_slice(&changed, buf_slice(&value));
            buf_append_u8(&changed, 0);
            damage((enum table)table, k, buf_slice(&changed));
            if (value.size > 0)
                damage((enum table)table, k, slice_of("", 0));
            if (!slice_equal_str(k, "membership")) /* there need not be one */
                damage((enum table)table, k, slice_of(NULL, 0));
            overwrite((enum table)table, k, value.data ? buf_slice(&value) : S(""));
            assert_int_equal(verify(), 0);
        }
    }
    buf_fini(&key);
    buf_fini(&value);
    buf_fini(&changed);
    done();
}

/* The same for the writer, and for opening the store again: fewer cases, each on a new store. */
static void writer_and_opening(void **state) {
    struct buf key = {0}, value = {0};
    struct rand r = {.state = 5};
    for (int table = 0; table < TABLE_COUNT; table++) {
        for (size_t n = 0;; n++) {
            for (int round = 0; round < 4; round++) {
                build();
                if (!nth((enum table)table, n, &key, &value)) {
                    done();
                    goto next_table;
                }
                if (round == 0)
                    overwrite((enum table)table, buf_slice(&key), slice_of(NULL, 0));
                else if (round == 1)
                    overwrite((enum table)table, buf_slice(&key), slice_of("", 0));
                else if (value.size > 0) {
                    value.data[rand_below(&r, value.size < 40 ? value.size : 40)] ^=
                        (uint8_t)(1 << rand_below(&r, 8));
                    overwrite((enum table)table, buf_slice(&key), buf_slice(&value));
                }
                change_everything();
                store_abandon(kit.store);
                struct store_options options = {
                    .dir = kit.store_dir, .map_bytes = 1 << 26, .boot_id = kit.boot_id};
                int rc = store_open(&options, &kit.store);
                if (rc)
                    kit.store = NULL;
                assert_true(rc == 0 || rc == -EBADMSG || rc == -EPROTONOSUPPORT);
                done();
            }
        }
    next_table:;
    }
    buf_fini(&key);
    buf_fini(&value);
}

static void foreign_records(void **state) {
    static const uint8_t keys[][25] = {{0}, {200}, {0, 0, 0}, {255, 255, 255, 255}};
    static const size_t sizes[] = {1, 9, 12, 16, 17, 20, 24, 25};
    build();
    for (int table = 0; table < TABLE_SYS; table++) {
        for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
            for (size_t j = 0; j < ARRAY_COUNT(sizes); j++) {
                struct slice key = slice_of(keys[i], sizes[j]);
                damage((enum table)table, key, S("x"));
                overwrite((enum table)table, key, slice_of(NULL, 0));
            }
        }
    }
    assert_int_equal(verify(), 0);
    done();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte),
        cmocka_unit_test(writer_and_opening),
        cmocka_unit_test(foreign_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
