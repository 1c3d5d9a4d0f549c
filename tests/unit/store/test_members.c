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

static bool put(struct keyspace *ks, const char *key, const char *field, struct slice value) {
    bool added;
    kit_step(&kit);
    assert_int_equal(keyspace_member_put(ks, 0, S(key), S(field), value, &added), 0);
    return added;
}

static void assert_member(struct keyspace *ks, const char *key, const char *field,
                          struct slice want) {
    struct slice value;
    assert_int_equal(keyspace_member_get(ks, 0, S(key), S(field), &value), 0);
    assert_bytes(value, want);
}

static void put_get_delete(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct record r;
    struct slice value;
    assert_int_equal(keyspace_member_get(ks, 0, S("h"), S("f"), &value), KEYSPACE_MISSING);
    assert_int_equal(keyspace_member_delete(ks, 0, S("h"), S("f")), KEYSPACE_MISSING);
    assert_true(put(ks, "h", "f", S("1")));
    assert_true(put(ks, "h", "", S("")));
    assert_false(put(ks, "h", "f", S("longer")));
    assert_int_equal(keyspace_find(ks, 0, S("h"), &r), 0);
    assert_int_equal(r.type, RECORD_HASH);
    assert_int_equal(r.size, 2);
    assert_int_equal(r.data_bytes, 8);
    assert_int_equal(r.revision, keyspace_revision(ks));
    assert_member(ks, "h", "f", S("longer"));
    assert_member(ks, "h", "", S(""));
    assert_int_equal(keyspace_member_get(ks, 0, S("h"), S("g"), &value), KEYSPACE_MISSING);
    assert_int_equal(keyspace_member_delete(ks, 0, S("h"), S("g")), KEYSPACE_MISSING);
    kit_commit(&kit);
    kit_verify(&kit);

    ks = kit_begin(&kit);
    assert_int_equal(keyspace_member_delete(ks, 0, S("h"), S("f")), 0);
    assert_int_equal(keyspace_find(ks, 0, S("h"), &r), 0);
    assert_int_equal(r.size, 1);
    assert_int_equal(r.revision, keyspace_revision(ks));
    assert_int_equal(keyspace_member_delete(ks, 0, S("h"), S("")), 0);
    assert_int_equal(keyspace_find(ks, 0, S("h"), &r), KEYSPACE_MISSING);
    assert_int_equal(store_data_bytes(kit.store), 0);
    kit_commit(&kit);
    kit_verify(&kit);
}

static void large_values(void **state) {
    static const size_t sizes[] = {10, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 0};
    struct keyspace *ks = kit_begin(&kit);
    struct buf value = {0};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        for (size_t j = 0; j < ARRAY_COUNT(sizes); j++) {
            kit_fill(&value, sizes[i], i);
            put(ks, "h", "big", buf_slice(&value));
            put(ks, "h", "other", S("x"));
            kit_fill(&value, sizes[j], j);
            put(ks, "h", "big", buf_slice(&value));
            assert_member(ks, "h", "big", buf_slice(&value));
            assert_int_equal(store_data_bytes(kit.store), 1 + 3 + sizes[j] + 5 + 1);
        }
        kit_commit(&kit);
        kit_verify(&kit);
        ks = kit_begin(&kit);
    }
    kit_fill(&value, 2 * CHUNK_BYTES, 3);
    put(ks, "h", "big", buf_slice(&value));
    assert_int_equal(keyspace_copy(ks, 0, S("h"), 0, S("copy")), 0);
    assert_int_equal(keyspace_member_delete(ks, 0, S("h"), S("big")), 0);
    assert_member(ks, "copy", "big", buf_slice(&value));
    kit_commit(&kit);
    kit_verify(&kit);
    ks = kit_begin(&kit);
    assert_int_equal(keyspace_delete(ks, 0, S("copy")), 0);
    kit_commit(&kit);
    kit_verify(&kit);
    buf_fini(&value);
}

enum { COUNT = 300 };

static void iterate_all(struct keyspace *ks, bool *seen, int *ret_met) {
    struct member_cursor at = {0};
    struct slice field, value;
    int met = 0, rc;
    uint64_t hash = 0;
    while ((rc = keyspace_member_next(ks, 0, S("h"), &at, &field, &value)) == 0) {
        int i = (field.data[0] - '0') * 100 + (field.data[1] - '0') * 10 + field.data[2] - '0';
        assert_true(i >= 0 && i < COUNT);
        assert_false(seen[i]);
        seen[i] = true;
        assert_bytes(value, field);
        assert_true(at.hash >= hash);
        hash = at.hash;
        met++;
    }
    assert_int_equal(rc, KEYSPACE_MISSING);
    *ret_met = met;
}

static void many_members(const struct keyspace_hashes *hashes) {
    char field[8];
    bool seen[COUNT] = {0};
    int met;
    if (hashes)
        kit.store->hashes = *hashes;
    struct keyspace *ks = kit_begin(&kit);
    for (int i = 0; i < COUNT; i++) {
        snprintf(field, sizeof field, "%03d", i);
        assert_true(put(ks, "h", field, S(field)));
    }
    iterate_all(ks, seen, &met);
    assert_int_equal(met, COUNT);
    /* Every third goes, from the middle outwards; the rest stays where it is. */
    for (int i = 0; i < COUNT; i += 3) {
        snprintf(field, sizeof field, "%03d", (i + COUNT / 2) % COUNT);
        assert_int_equal(keyspace_member_delete(ks, 0, S("h"), S(field)), 0);
    }
    memset(seen, 0, sizeof seen);
    iterate_all(ks, seen, &met);
    assert_int_equal(met, COUNT - COUNT / 3);
    kit_commit(&kit);
    kit_verify(&kit);
    ks = kit_begin(&kit);
    for (int i = 0; i < COUNT; i++) {
        snprintf(field, sizeof field, "%03d", i);
        assert_int_equal(put(ks, "h", field, S(field)), i % 3 == 0);
        assert_member(ks, "h", field, S(field));
    }
    memset(seen, 0, sizeof seen);
    iterate_all(ks, seen, &met);
    assert_int_equal(met, COUNT);
    kit_commit(&kit);
    kit_verify(&kit);
}

static void order_of_hashes(void **state) {
    many_members(NULL);
}

static uint64_t few_hashes(struct slice field, uint64_t seed) {
    return field.data[2] % 3 == 0 ? UINT64_MAX >> 1 : 5;
}

static void forced_collisions(void **state) {
    struct keyspace_hashes hashes = keyspace_hashes_default;
    hashes.member = few_hashes;
    many_members(&hashes);
}

static void expired_hash_begins_anew(void **state) {
    struct record r;
    struct slice value;
    kit.time_ms = 1000;
    struct keyspace *ks = kit_begin(&kit);
    put(ks, "h", "a", S("1"));
    put(ks, "h", "b", S("2"));
    assert_int_equal(keyspace_set_expiry(ks, 0, S("h"), 2000), 0);
    kit_commit(&kit);
    kit.time_ms = 2000;
    ks = kit_begin(&kit);
    assert_int_equal(keyspace_member_get(ks, 0, S("h"), S("a"), &value), KEYSPACE_MISSING);
    assert_int_equal(keyspace_member_delete(ks, 0, S("h"), S("a")), KEYSPACE_MISSING);
    assert_true(put(ks, "h", "a", S("3")));
    assert_int_equal(keyspace_find(ks, 0, S("h"), &r), 0);
    assert_int_equal(r.size, 1);
    assert_int_equal(r.expiry_ms, 0);
    kit_commit(&kit);
    kit_verify(&kit);
}

/* A string over a hash and the other way round leaves nothing behind. */
static void change_of_type(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct buf value = {0};
    kit_fill(&value, 2 * CHUNK_BYTES, 1);
    for (int round = 0; round < 3; round++) {
        put(ks, "k", "a", buf_slice(&value));
        put(ks, "k", "b", S("2"));
        struct slice string = round ? buf_slice(&value) : S("small");
        assert_int_equal(keyspace_put_string(ks, 0, S("k"), string, slice_of(NULL, 0), 0), 0);
        kit_commit(&kit);
        kit_verify(&kit);
        ks = kit_begin(&kit);
        assert_int_equal(keyspace_delete(ks, 0, S("k")), 0);
    }
    assert_int_equal(store_data_bytes(kit.store), 0);
    kit_commit(&kit);
    kit_verify(&kit);
    buf_fini(&value);
}

static void long_key_with_members(void **state) {
    struct keyspace *ks = kit_begin(&kit);
    struct buf key = {0};
    struct slice value;
    bool added;
    kit_fill(&key, 65536, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            keyspace_member_put(ks, 0, buf_slice(&key), buf_slice(&key), S("v"), &added), 0);
        assert_int_equal(added, i == 0);
    }
    assert_int_equal(keyspace_member_get(ks, 0, buf_slice(&key), buf_slice(&key), &value), 0);
    assert_bytes(value, S("v"));
    kit_commit(&kit);
    kit_verify(&kit);
    buf_fini(&key);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(put_get_delete),        TEST(large_values),   TEST(order_of_hashes),
        TEST(forced_collisions),     TEST(change_of_type), TEST(expired_hash_begins_anew),
        TEST(long_key_with_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
