#include "kit.h"

#include <stdio.h>

#include "store/record.h"
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

static void put(struct keyspace *ks, const char *key, const char *value, uint64_t expiry_ms) {
    kit_step(&kit);
    assert_int_equal(keyspace_put_string(ks, 0, S(key), S(value), slice_of(NULL, 0), expiry_ms), 0);
}

static void assert_value(struct keyspace *ks, uint16_t db, struct slice key, struct slice want) {
    struct slice value;
    assert_int_equal(keyspace_value(ks, db, key, &value), 0);
    assert_bytes(value, want);
}

static void put_get_delete(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct record r;
    assert_int_equal(keyspace_find(ks, 0, S("a"), &r), KEYSPACE_MISSING);
    put(ks, "a", "1", 0);
    assert_int_equal(keyspace_find(ks, 0, S("a"), &r), 0);
    assert_int_equal(r.type, RECORD_STRING);
    assert_int_equal(r.size, 1);
    assert_int_equal(r.data_bytes, 2);
    assert_int_equal(r.expiry_ms, 0);
    assert_int_equal(r.revision, keyspace_revision(ks));
    uint64_t id = r.id;
    assert_value(ks, 0, S("a"), S("1"));

    put(ks, "a", "twenty", 0);
    assert_int_equal(keyspace_find(ks, 0, S("a"), &r), 0);
    assert_int_equal(r.id, id);
    assert_int_equal(r.revision, keyspace_revision(ks));
    assert_value(ks, 0, S("a"), S("twenty"));
    assert_int_equal(keyspace_find(ks, 1, S("a"), &r), KEYSPACE_MISSING);
    assert_int_equal(keyspace_count(ks, 0), 1);
    assert_int_equal(store_data_bytes(kit.store), 7);

    assert_int_equal(keyspace_delete(ks, 0, S("b")), KEYSPACE_MISSING);
    assert_int_equal(keyspace_delete(ks, 0, S("a")), 0);
    assert_int_equal(keyspace_delete(ks, 0, S("a")), KEYSPACE_MISSING);
    assert_int_equal(keyspace_count(ks, 0), 0);
    assert_int_equal(store_data_bytes(kit.store), 0);
    assert_true(hash128_equal(kit.store->state.record_sum, (struct hash128){0}));
    kit_commit(&kit);
    kit_verify(&kit);
}

static void content_type_and_empty(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct record r;
    assert_int_equal(keyspace_put_string(ks, 3, S(""), slice_of(NULL, 0), S("text/plain"), 0), 0);
    assert_int_equal(keyspace_find(ks, 3, S(""), &r), 0);
    assert_bytes(r.content_type, S("text/plain"));
    assert_int_equal(r.size, 0);
    assert_value(ks, 3, S(""), S(""));
    /* Arguments may be what was just read. */
    assert_int_equal(keyspace_put_string(ks, 3, S(""), S("v"), r.content_type, 0), 0);
    assert_int_equal(keyspace_find(ks, 3, S(""), &r), 0);
    assert_bytes(r.content_type, S("text/plain"));
    kit_commit(&kit);
    kit_verify(&kit);
}

static const size_t value_sizes[] = {
    0,
    1,
    RECORD_INLINE_BYTES_MAX,
    RECORD_INLINE_BYTES_MAX + 1,
    5000,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    2 * CHUNK_BYTES,
    3 * CHUNK_BYTES + 17,
    5 * 1024 * 1024,
};

/* Every size over every other: chunks are added, replaced, cut off. */
static void value_sizes_over_each_other(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct buf value = {0};
    for (size_t i = 0; i < ARRAY_COUNT(value_sizes); i++) {
        for (size_t j = 0; j < ARRAY_COUNT(value_sizes); j++) {
            kit_step(&kit);
            kit_fill(&value, value_sizes[i], i);
            assert_int_equal(
                keyspace_put_string(ks, 0, S("k"), buf_slice(&value), slice_of(NULL, 0), 0), 0);
            assert_value(ks, 0, S("k"), buf_slice(&value));
            kit_fill(&value, value_sizes[j], j);
            assert_int_equal(
                keyspace_put_string(ks, 0, S("k"), buf_slice(&value), slice_of(NULL, 0), 0), 0);
            assert_value(ks, 0, S("k"), buf_slice(&value));
            assert_int_equal(store_data_bytes(kit.store), 1 + value_sizes[j]);
        }
        kit_commit(&kit);
        kit_verify(&kit);
        ks = kit_begin(&kit);
    }
    assert_int_equal(keyspace_delete(ks, 0, S("k")), 0);
    kit_commit(&kit);
    kit_verify(&kit);
    buf_fini(&value);
}

static const size_t key_sizes[] = {
    1, 489, 490, 491, 492, 509, 510, 511, 512, 600, 65535, 65536,
};

static void long_keys(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct buf key = {0};
    struct record r;
    for (size_t i = 0; i < ARRAY_COUNT(key_sizes); i++) {
        kit_step(&kit);
        kit_fill(&key, key_sizes[i], 5); /* each is the beginning of the next */
        assert_int_equal(keyspace_put_string(ks, 0, buf_slice(&key), buf_slice(&key),
                                             slice_of(NULL, 0), 5000000),
                         0);
    }
    kit_commit(&kit);
    kit_verify(&kit);
    ks = kit_begin(&kit);
    assert_int_equal(keyspace_count(ks, 0), ARRAY_COUNT(key_sizes));
    for (size_t i = 0; i < ARRAY_COUNT(key_sizes); i++) {
        kit_fill(&key, key_sizes[i], 5);
        assert_int_equal(keyspace_find(ks, 0, buf_slice(&key), &r), 0);
        assert_int_equal(r.size, key_sizes[i]);
        assert_int_equal(r.data_bytes, 2 * key_sizes[i]);
        assert_value(ks, 0, buf_slice(&key), buf_slice(&key));
        key.data[key.size - 1] ^= 1;
        assert_int_equal(keyspace_find(ks, 0, buf_slice(&key), &r), KEYSPACE_MISSING);
        key.data[key.size - 1] ^= 1;
    }
    /* In byte order, through short and long ones. */
    struct slice at = slice_of(NULL, 0);
    for (size_t i = 0; i < ARRAY_COUNT(key_sizes); i++) {
        assert_int_equal(keyspace_next_key(ks, 0, at, i == 0, &at, &r), 0);
        assert_int_equal(at.size, key_sizes[i]);
    }
    assert_int_equal(keyspace_next_key(ks, 0, at, false, &at, &r), KEYSPACE_MISSING);
    for (size_t i = 0; i < ARRAY_COUNT(key_sizes); i++) {
        kit_fill(&key, key_sizes[i], 5);
        assert_int_equal(keyspace_set_expiry(ks, 0, buf_slice(&key), 0), 0);
        assert_int_equal(keyspace_delete(ks, 0, buf_slice(&key)), 0);
    }
    assert_int_equal(keyspace_count(ks, 0), 0);
    kit_commit(&kit);
    kit_verify(&kit);
    buf_fini(&key);
}

static struct hash128 same_key_hash(struct slice key, uint64_t seed) {
    return (struct hash128){.low = 1, .high = 2};
}

static void long_keys_with_equal_hash(void **state) {
    enum { COUNT = 20 };
    kit.store->hashes.key = same_key_hash;
    struct keyspace *ks = kit_begin(&kit);
    struct buf key = {0};
    struct record r;
    kit_fill(&key, 700, 1);
    for (int i = 0; i < COUNT; i++) {
        key.data[699] = (uint8_t)(255 - i);
        char value[8];
        snprintf(value, sizeof value, "%d", i);
        assert_int_equal(
            keyspace_put_string(ks, 0, buf_slice(&key), S(value), slice_of(NULL, 0), 0), 0);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = round; i < COUNT; i += 2) {
            key.data[699] = (uint8_t)(255 - i);
            char value[8];
            snprintf(value, sizeof value, "%d", i);
            assert_value(ks, 0, buf_slice(&key), S(value));
            if (i % 2 == 0)
                assert_int_equal(keyspace_delete(ks, 0, buf_slice(&key)), 0);
        }
    }
    assert_int_equal(keyspace_count(ks, 0), COUNT / 2);
    /* What is left comes in byte order, although its place in main is its order of arrival. */
    struct slice at = slice_of(NULL, 0);
    for (int i = COUNT - 1; i > 0; i -= 2) {
        assert_int_equal(keyspace_next_key(ks, 0, at, false, &at, &r), 0);
        assert_int_equal(at.data[699], 255 - i);
    }
    assert_int_equal(keyspace_next_key(ks, 0, at, false, &at, &r), KEYSPACE_MISSING);
    /* A freed suffix is taken again. */
    key.data[699] = 0;
    assert_int_equal(keyspace_put_string(ks, 0, buf_slice(&key), S("again"), slice_of(NULL, 0), 0),
                     0);
    assert_value(ks, 0, buf_slice(&key), S("again"));
    kit_commit(&kit);
    kit_verify(&kit);
    buf_fini(&key);
}

static void expiry_and_sweep(void **state) {
    struct record r;
    uint64_t deleted;
    kit.time_ms = 1000;
    struct keyspace *ks = kit_begin(&kit);
    put(ks, "never", "1", 0);
    put(ks, "soon", "2", 2000);
    put(ks, "later", "3", 3000);
    put(ks, "moved", "4", 2000);
    put(ks, "now", "5", 1000); /* is over at once */
    assert_int_equal(keyspace_find(ks, 0, S("now"), &r), KEYSPACE_MISSING);
    assert_int_equal(keyspace_set_expiry(ks, 0, S("moved"), 0), 0);
    assert_int_equal(keyspace_count(ks, 0), 5);
    kit_commit(&kit);
    kit_verify(&kit);

    struct buf argv = {0};
    assert_true(store_housekeeping(kit.store, 1000, &argv));
    buf_fini(&argv);

    kit.time_ms = 2000;
    ks = kit_begin(&kit);
    assert_int_equal(keyspace_find(ks, 0, S("soon"), &r), KEYSPACE_MISSING);
    assert_int_equal(keyspace_delete(ks, 0, S("soon")), KEYSPACE_MISSING);
    assert_int_equal(keyspace_set_expiry(ks, 0, S("soon"), 9000), KEYSPACE_MISSING);
    assert_int_equal(keyspace_find(ks, 0, S("later"), &r), 0);
    assert_int_equal(r.expiry_ms, 3000);
    put(ks, "soon", "new", 0);
    assert_value(ks, 0, S("soon"), S("new"));
    /* A sweep goes no further than the log's time, whatever it is told. */
    assert_int_equal(keyspace_sweep_expired(ks, 99999, 100, &deleted), 0);
    assert_int_equal(deleted, 1);
    assert_int_equal(keyspace_count(ks, 0), 4);
    assert_int_equal(keyspace_find(ks, 0, S("later"), &r), 0);
    kit_commit(&kit);
    kit_verify(&kit);
    assert_false(store_housekeeping(kit.store, 2999, &argv));
    assert_true(store_housekeeping(kit.store, 3000, &argv));
    buf_fini(&argv);
}

static void sweep_is_bounded(void **state) {
    uint64_t deleted;
    kit.time_ms = 10;
    struct keyspace *ks = kit_begin(&kit);
    for (int i = 0; i < 50; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        put(ks, key, "v", 20 + (uint64_t)i);
    }
    kit_commit(&kit);
    kit.time_ms = 60;
    ks = kit_begin(&kit);
    assert_int_equal(keyspace_sweep_expired(ks, 60, 30, &deleted), 0);
    assert_int_equal(deleted, 30);
    assert_int_equal(keyspace_sweep_expired(ks, 60, 30, &deleted), 0);
    assert_int_equal(deleted, 11);
    assert_int_equal(keyspace_count(ks, 0), 9);
    kit_commit(&kit);
    kit_verify(&kit);
}

static void copy_and_flush(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct record r;
    struct buf value = {0};
    bool added;
    kit_fill(&value, 3 * CHUNK_BYTES, 9);
    assert_int_equal(keyspace_put_string(ks, 0, S("big"), buf_slice(&value), S("a/b"), 5000000), 0);
    put(ks, "small", "1", 0);
    for (int i = 0; i < 30; i++) {
        char field[16];
        snprintf(field, sizeof field, "f%d", i);
        assert_int_equal(keyspace_member_put(ks, 0, S("h"), S(field), S("x"), &added), 0);
    }
    kit_step(&kit);
    assert_int_equal(keyspace_copy(ks, 0, S("missing"), 1, S("x")), KEYSPACE_MISSING);
    assert_int_equal(keyspace_copy(ks, 0, S("big"), 1, S("big")), 0);
    assert_int_equal(keyspace_copy(ks, 0, S("h"), 1, S("h")), 0);
    assert_int_equal(keyspace_copy(ks, 0, S("h"), 0, S("small")), 0); /* over another type */
    assert_int_equal(keyspace_copy(ks, 0, S("h"), 0, S("h")), 0);     /* over itself */
    assert_value(ks, 1, S("big"), buf_slice(&value));
    assert_int_equal(keyspace_find(ks, 1, S("big"), &r), 0);
    assert_int_equal(r.expiry_ms, 5000000);
    assert_bytes(r.content_type, S("a/b"));
    assert_int_equal(r.revision, keyspace_revision(ks));
    assert_int_equal(keyspace_find(ks, 0, S("small"), &r), 0);
    assert_int_equal(r.type, RECORD_HASH);
    assert_int_equal(r.size, 30);
    kit_commit(&kit);
    kit_verify(&kit);

    ks = kit_begin(&kit);
    assert_int_equal(keyspace_flush(ks, 2), 0);
    assert_int_equal(keyspace_flush(ks, 0), 0); /* db 1 has keys: one by one */
    assert_int_equal(keyspace_count(ks, 0), 0);
    assert_int_equal(keyspace_count(ks, 1), 2);
    kit_commit(&kit);
    kit_verify(&kit);
    ks = kit_begin(&kit);
    assert_value(ks, 1, S("big"), buf_slice(&value));
    assert_int_equal(keyspace_flush(ks, 1), 0); /* all there is: at once */
    assert_int_equal(keyspace_find(ks, 1, S("big"), &r), KEYSPACE_MISSING);
    assert_int_equal(store_data_bytes(kit.store), 0);
    put(ks, "after", "1", 0);
    kit_commit(&kit);
    kit_verify(&kit);
    buf_fini(&value);
}

static void scan_order_and_completeness(void **state) {
    enum { COUNT = 500 };
    struct keyspace *ks = kit_begin(&kit);
    struct record r;
    struct slice key;
    char name[16];
    uint64_t first, last;
    bool seen[COUNT] = {0};
    assert_int_equal(keyspace_id_bounds(ks, 0, &first, &last), KEYSPACE_MISSING);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "k%03d", i);
        put(ks, name, "v", 0);
    }
    assert_int_equal(keyspace_put_string(ks, 1, S("other"), S(""), S(""), 0), 0);
    assert_int_equal(keyspace_id_bounds(ks, 0, &first, &last), 0);
    assert_int_equal(last - first, COUNT - 1);
    /* While we scan: even keys change, odd ones in front of us vanish, new ones come. */
    uint64_t from = 0;
    int met = 0;
    while (keyspace_scan(ks, 0, from, &key, &r) == 0) {
        assert_true(r.id >= from);
        from = r.id + 1;
        if (key.data[0] == 'k') {
            int i = (key.data[1] - '0') * 100 + (key.data[2] - '0') * 10 + key.data[3] - '0';
            assert_false(seen[i]);
            seen[i] = true;
            if (i % 2 == 0 && i + 101 < COUNT) {
                snprintf(name, sizeof name, "k%03d", i + 101);
                assert_true(keyspace_delete(ks, 0, S(name)) >= 0);
                snprintf(name, sizeof name, "k%03d", i);
                put(ks, name, "changed to something longer", 0);
                if (met < 50) {
                    snprintf(name, sizeof name, "new%d", i);
                    put(ks, name, "", 0);
                }
            }
            met++;
        }
    }
    for (int i = 0; i < COUNT; i += 2)
        assert_true(seen[i]);
    kit_commit(&kit);
    kit_verify(&kit);
}

static void next_key_in_byte_order(void **state) {
    static const char *const names[] = {"", "a", "a/", "a/b", "a0", "b", "b\xff", "c"};
    struct keyspace *ks = kit_begin(&kit);
    struct record r;
    struct slice key;
    for (size_t i = ARRAY_COUNT(names); i-- > 0;)
        put(ks, names[i], names[i], 0);
    put(ks, "bb", "expired", 1);
    assert_int_equal(keyspace_put_string(ks, 1, S("a"), S(""), S(""), 0), 0);
    assert_int_equal(keyspace_next_key(ks, 0, S(""), true, &key, &r), 0);
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        assert_bytes(key, S(names[i]));
        assert_int_equal(r.size, strlen(names[i]));
        int rc = keyspace_next_key(ks, 0, S(names[i]), false, &key, &r);
        assert_int_equal(rc, i + 1 < ARRAY_COUNT(names) ? 0 : KEYSPACE_MISSING);
    }
    assert_int_equal(keyspace_next_key(ks, 0, S("a/a"), true, &key, &r), 0);
    assert_bytes(key, S("a/b"));
    assert_int_equal(keyspace_next_key(ks, 0, S("a/b"), true, &key, &r), 0);
    assert_bytes(key, S("a/b"));
    kit_commit(&kit);
}

/* Prefixes cut from long keys are where a listing goes on from: none of them may go back. */
static void next_key_among_long_keys(void **state) {
    enum { COUNT = 64, BYTES = 800 };
    struct keyspace *ks = kit_begin(&kit);
    struct buf key = {0}, after = {0};
    struct record r;
    struct slice found;
    kit_fill(&key, BYTES, 3);
    for (int i = 0; i < COUNT; i++) {
        key.data[600] = (uint8_t)(i * 37 % COUNT); /* 37 is prime to 64: each once */
        assert_int_equal(
            keyspace_put_string(ks, 0, buf_slice(&key), S("v"), S(""), i % 8 == 7 ? 1 : 0), 0);
    }
    put(ks, "\xff\xff", "last", 0);
    for (int i = 0; i < COUNT; i++) {
        buf_reset(&after);
        buf_append(&after, key.data, 601);
        after.data[600] = (uint8_t)i;
        /* behind everything that begins with these 601 bytes */
        after.data[600]++;
        int rc = keyspace_next_key(ks, 0, buf_slice(&after), true, &found, &r);
        assert_int_equal(rc, 0);
        if (found.size == BYTES)
            assert_true(slice_compare(found, buf_slice(&after)) > 0);
        else
            assert_bytes(found, S("\xff\xff"));
    }
    /* From a long key of a group that does not exist. */
    key.data[0] ^= 0x80;
    key.data[600] = 0;
    assert_true(keyspace_next_key(ks, 0, buf_slice(&key), false, &found, &r) >= 0);
    int met = 0;
    struct buf before = {0};
    found = slice_of(NULL, 0);
    while (keyspace_next_key(ks, 0, found, false, &found, &r) == 0) {
        assert_true(slice_compare(buf_slice(&before), found) < 0);
        buf_reset(&before);
        buf_append_slice(&before, found);
        met++;
    }
    assert_int_equal(met, COUNT - COUNT / 8 + 1);
    kit_commit(&kit);
    kit_verify(&kit);
    buf_fini(&key);
    buf_fini(&after);
    buf_fini(&before);
}

static void node_ids(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct hash128 before = kit_digest(&kit);
    assert_int_equal(keyspace_next_node_id(ks), 2);
    assert_int_equal(keyspace_next_node_id(ks), 3);
    assert_false(hash128_equal(before, kit_digest(&kit)));
    kit_commit(&kit);
    store_abandon(kit.store);
    kit_reopen(&kit);
    ks = kit_begin(&kit);
    assert_int_equal(keyspace_next_node_id(ks), 4);
    kit_commit(&kit);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(put_get_delete),
        TEST(content_type_and_empty),
        TEST(value_sizes_over_each_other),
        TEST(long_keys),
        TEST(long_keys_with_equal_hash),
        TEST(expiry_and_sweep),
        TEST(sweep_is_bounded),
        TEST(copy_and_flush),
        TEST(scan_order_and_completeness),
        TEST(next_key_in_byte_order),
        TEST(next_key_among_long_keys),
        TEST(node_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
