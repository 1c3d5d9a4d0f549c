/* Random changes against a model in plain memory. COTIDAL_TEST_SEED picks another run; a failure
 * says which seed it was. */
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/record.h"
#include "store/store_impl.h"

enum { DBS = 2, KEYS = 24, FIELDS = 12, STEPS = 4000, STEPS_A_CHECK = 250 };

struct model_value {
    bool present;
    size_t size;
    uint64_t seed;
};

struct model_key {
    enum record_type type; /* 0: missing */
    uint64_t expiry_ms;
    uint64_t revision;
    bool typed;
    struct model_value string;
    struct model_value fields[FIELDS];
};

struct model {
    struct kit kit;
    struct rand rand;
    struct keyspace_hashes hashes;
    struct model_key keys[DBS][KEYS];
    struct buf names[KEYS]; /* in byte order */
    struct buf fields[FIELDS];
    struct buf scratch;
    struct keyspace *ks;
};

static int compare_bufs(const void *a, const void *b) {
    return slice_compare(buf_slice(a), buf_slice(b));
}

static void model_names(struct model *m) {
    static const size_t sizes[] = {0, 1, 7, 489, 490, 491, 511, 600, 601, 2000, 5000, 65536};
    for (size_t i = 0; i < KEYS; i++) {
        kit_fill(&m->names[i], sizes[i % ARRAY_COUNT(sizes)], 77); /* prefixes of each other */
        if (i >= ARRAY_COUNT(sizes))
            buf_append_u8(&m->names[i], (uint8_t)i);
    }
    qsort(m->names, KEYS, sizeof m->names[0], compare_bufs);
    for (size_t i = 0; i < FIELDS; i++) {
        kit_fill(&m->fields[i], i == 5 ? 70000 : i, 78);
        buf_append_u8(&m->fields[i], (uint8_t)i);
    }
}

static uint64_t weak_member_hash(struct slice field, uint64_t seed) {
    return field.size % 3;
}

static struct hash128 weak_key_hash(struct slice key, uint64_t seed) {
    return (struct hash128){.low = key.size % 2};
}

static size_t random_size(struct model *m) {
    static const size_t limits[] = {8, 100, 2000, 5000, 300000, 900000};
    return rand_below(&m->rand, limits[rand_below(&m->rand, rand_below(&m->rand, 6) + 1)]);
}

static bool live(const struct model *m, const struct model_key *k) {
    return k->type && (k->expiry_ms == 0 || k->expiry_ms > m->ks->now_ms);
}

static struct slice model_bytes(struct model *m, const struct model_value *v) {
    kit_fill(&m->scratch, v->size, v->seed);
    return buf_slice(&m->scratch);
}

static void assert_model_value(struct model *m, const struct model_value *v, struct slice found) {
    assert_int_equal(found.size, v->size);
    assert_bytes(found, model_bytes(m, v));
}

/* ---- one step ---- */

static uint64_t random_expiry(struct model *m) {
    return rand_below(&m->rand, 2) ? 0 : m->ks->now_ms + rand_below(&m->rand, 200);
}

static void step_string(struct model *m, uint16_t db, size_t at) {
    struct model_key k = {.type = RECORD_STRING, .revision = m->ks->revision};
    k.string = (struct model_value){true, random_size(m), rand_u64(&m->rand)};
    k.expiry_ms = random_expiry(m);
    k.typed = rand_below(&m->rand, 3) == 0;
    assert_int_equal(keyspace_put_string(m->ks, db, buf_slice(&m->names[at]),
                                         model_bytes(m, &k.string), S(k.typed ? "a/b" : ""),
                                         k.expiry_ms),
                     0);
    m->keys[db][at] = k;
}

static void step_member(struct model *m, uint16_t db, size_t at) {
    struct model_key *k = &m->keys[db][at];
    bool added;
    if (live(m, k) && k->type != RECORD_HASH)
        return;
    if (!live(m, k))
        *k = (struct model_key){.type = RECORD_HASH};
    size_t f = rand_below(&m->rand, FIELDS);
    struct model_value v = {true, random_size(m), rand_u64(&m->rand)};
    assert_int_equal(keyspace_member_put(m->ks, db, buf_slice(&m->names[at]),
                                         buf_slice(&m->fields[f]), model_bytes(m, &v), &added),
                     0);
    assert_int_equal(added, !k->fields[f].present);
    k->fields[f] = v;
    k->revision = m->ks->revision;
}

static void step_member_delete(struct model *m, uint16_t db, size_t at) {
    struct model_key *k = &m->keys[db][at];
    size_t f = rand_below(&m->rand, FIELDS), left = 0;
    if (live(m, k) && k->type != RECORD_HASH)
        return;
    int rc = keyspace_member_delete(m->ks, db, buf_slice(&m->names[at]), buf_slice(&m->fields[f]));
    assert_int_equal(rc, live(m, k) && k->fields[f].present ? 0 : KEYSPACE_MISSING);
    if (rc)
        return;
    k->fields[f] = (struct model_value){0};
    k->revision = m->ks->revision;
    for (size_t i = 0; i < FIELDS; i++)
        left += k->fields[i].present;
    if (left == 0)
        *k = (struct model_key){0};
}

static void step_delete(struct model *m, uint16_t db, size_t at) {
    struct model_key *k = &m->keys[db][at];
    int rc = keyspace_delete(m->ks, db, buf_slice(&m->names[at]));
    assert_int_equal(rc, live(m, k) ? 0 : KEYSPACE_MISSING);
    if (rc == 0)
        *k = (struct model_key){0};
}

static void step_expiry(struct model *m, uint16_t db, size_t at) {
    struct model_key *k = &m->keys[db][at];
    uint64_t expiry_ms = random_expiry(m);
    int rc = keyspace_set_expiry(m->ks, db, buf_slice(&m->names[at]), expiry_ms);
    assert_int_equal(rc, live(m, k) ? 0 : KEYSPACE_MISSING);
    if (rc == 0) {
        k->expiry_ms = expiry_ms;
        k->revision = m->ks->revision;
    }
}

static void step_copy(struct model *m, uint16_t db, size_t at) {
    uint16_t to_db = (uint16_t)rand_below(&m->rand, DBS);
    size_t to = rand_below(&m->rand, KEYS);
    const struct model_key *k = &m->keys[db][at];
    int rc = keyspace_copy(m->ks, db, buf_slice(&m->names[at]), to_db, buf_slice(&m->names[to]));
    assert_int_equal(rc, live(m, k) ? 0 : KEYSPACE_MISSING);
    if (rc == 0 && k != &m->keys[to_db][to]) {
        m->keys[to_db][to] = *k;
        m->keys[to_db][to].revision = m->ks->revision;
    }
}

static void step_rare(struct model *m, uint16_t db) {
    uint64_t deleted;
    if (rand_below(&m->rand, 20) == 0) {
        assert_int_equal(keyspace_flush(m->ks, db), 0);
        memset(m->keys[db], 0, sizeof m->keys[db]);
        return;
    }
    m->ks->now_ms = m->kit.store->state.time_ms += rand_below(&m->rand, 60);
    assert_int_equal(keyspace_sweep_expired(m->ks, UINT64_MAX, 5, &deleted), 0);
}

static void step(struct model *m) {
    uint16_t db = (uint16_t)rand_below(&m->rand, DBS);
    size_t at = rand_below(&m->rand, KEYS);
    kit_step(&m->kit);
    switch (rand_below(&m->rand, 16)) {
    case 0 ... 3:
        step_string(m, db, at);
        break;
    case 4 ... 8:
        step_member(m, db, at);
        break;
    case 9 ... 10:
        step_member_delete(m, db, at);
        break;
    case 11:
        step_delete(m, db, at);
        break;
    case 12:
        step_expiry(m, db, at);
        break;
    case 13 ... 14:
        step_copy(m, db, at);
        break;
    default:
        step_rare(m, db);
        break;
    }
}

/* ---- comparing ---- */

static void check_hash(struct model *m, uint16_t db, size_t at, uint64_t size) {
    const struct model_key *k = &m->keys[db][at];
    struct slice name = buf_slice(&m->names[at]), field, value;
    struct member_cursor cursor = {0};
    uint64_t met = 0;
    for (size_t f = 0; f < FIELDS; f++) {
        int rc = keyspace_member_get(m->ks, db, name, buf_slice(&m->fields[f]), &value);
        assert_int_equal(rc, k->fields[f].present ? 0 : KEYSPACE_MISSING);
        if (rc == 0)
            assert_model_value(m, &k->fields[f], value);
    }
    while (keyspace_member_next(m->ks, db, name, &cursor, &field, &value) == 0) {
        size_t f = field.data[field.size - 1];
        assert_true(f < FIELDS);
        assert_bytes(field, buf_slice(&m->fields[f]));
        assert_true(k->fields[f].present);
        assert_model_value(m, &k->fields[f], value);
        met++;
    }
    assert_int_equal(met, size);
}

static void check_key(struct model *m, uint16_t db, size_t at) {
    const struct model_key *k = &m->keys[db][at];
    struct slice name = buf_slice(&m->names[at]), value;
    struct record r;
    int rc = keyspace_find(m->ks, db, name, &r);
    assert_int_equal(rc, live(m, k) ? 0 : KEYSPACE_MISSING);
    if (rc)
        return;
    assert_int_equal(r.type, k->type);
    assert_int_equal(r.expiry_ms, k->expiry_ms);
    assert_int_equal(r.revision, k->revision);
    assert_bytes(r.content_type, S(k->typed ? "a/b" : ""));
    if (k->type == RECORD_HASH) {
        check_hash(m, db, at, r.size);
    } else {
        assert_int_equal(keyspace_value(m->ks, db, name, &value), 0);
        assert_model_value(m, &k->string, value);
    }
}

static void check(struct model *m) {
    struct slice key;
    struct record r;
    for (uint16_t db = 0; db < DBS; db++) {
        size_t count = 0, scanned = 0;
        struct slice after = slice_of(NULL, 0);
        for (size_t at = 0; at < KEYS; at++) {
            check_key(m, db, at);
            if (!live(m, &m->keys[db][at]))
                continue;
            assert_int_equal(keyspace_next_key(m->ks, db, after, count == 0, &key, &r), 0);
            assert_bytes(key, buf_slice(&m->names[at]));
            after = key;
            count++;
        }
        assert_int_equal(keyspace_next_key(m->ks, db, after, count == 0, &key, &r),
                         KEYSPACE_MISSING);
        uint64_t from = 0;
        while (keyspace_scan(m->ks, db, from, &key, &r) == 0) {
            assert_true(r.id >= from);
            from = r.id + 1;
            scanned++;
        }
        assert_int_equal(scanned, count);
    }
}

/* The process dies, stops cleanly, or is set up anew from a snapshot of itself. */
static void restart(struct model *m) {
    struct store *s = m->kit.store;
    struct hash128 digest = kit_digest(&m->kit);
    switch (rand_below(&m->rand, 3)) {
    case 0:
        store_abandon(s);
        break;
    case 1:
        assert_int_equal(store_close(s), 0);
        break;
    default: {
        struct store_snapshot info;
        char path[128];
        snprintf(path, sizeof path, "%s/snapshot", m->kit.dir);
        assert_int_equal(store_snapshot_write(s, path, &info), 0);
        assert_same_digest(info.digest, digest);
        store_abandon(s);
        assert_int_equal(store_snapshot_verify(path, &info, &info), 0);
        assert_int_equal(store_snapshot_install(path, m->kit.store_dir, m->kit.boot_id), 0);
    }
    }
    kit_reopen(&m->kit);
    m->kit.store->hashes = m->hashes;
    assert_same_digest(kit_digest(&m->kit), digest);
}

static void run(uint64_t seed, bool weak) {
    struct model *m = xcalloc(1, sizeof *m);
    fprintf(stderr, "seed %llu%s\n", (unsigned long long)seed, weak ? ", weak hashes" : "");
    m->rand.state = seed;
    m->hashes = keyspace_hashes_default;
    if (weak)
        m->hashes = (struct keyspace_hashes){.member = weak_member_hash, .key = weak_key_hash};
    kit_open(&m->kit);
    m->kit.store->hashes = m->hashes;
    model_names(m);
    m->ks = kit_begin(&m->kit);
    for (int i = 1; i <= STEPS; i++) {
        step(m);
        if (i % STEPS_A_CHECK == 0)
            check(m);
        if (rand_below(&m->rand, 30) == 0) {
            kit_commit(&m->kit);
            if (rand_below(&m->rand, 10) == 0)
                kit_verify(&m->kit);
            if (rand_below(&m->rand, 15) == 0)
                restart(m);
            m->ks = kit_begin(&m->kit);
        }
    }
    check(m);
    kit_commit(&m->kit);
    kit_verify(&m->kit);
    for (size_t i = 0; i < KEYS; i++)
        buf_fini(&m->names[i]);
    for (size_t i = 0; i < FIELDS; i++)
        buf_fini(&m->fields[i]);
    buf_fini(&m->scratch);
    kit_close(&m->kit);
    free(m);
}

static uint64_t seed_of_run(void) {
    const char *text = getenv("COTIDAL_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

static void against_the_model(void **state) {
    run(seed_of_run(), false);
}

static void against_the_model_with_weak_hashes(void **state) {
    run(seed_of_run() + 1000, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_the_model),
        cmocka_unit_test(against_the_model_with_weak_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
