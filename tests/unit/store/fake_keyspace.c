#include "fake_keyspace.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/hash.h"

struct fake_member {
    uint64_t hash;
    uint32_t suffix;
    struct buf field, value;
};

struct fake_record {
    struct buf key, value, content_type;
    struct record rec; /* content_type is set when handed out */
    struct fake_member *members;
    size_t member_count;
};

struct fake_db {
    struct fake_record **records; /* sorted by key */
    size_t count;
};

enum scratch { FIND, VALUE, MEMBER, NEXT_MEMBER, NEXT_KEY, SCAN, SCRATCH_COUNT };

struct keyspace {
    struct fake_db dbs[STORE_DB_ALL];
    uint8_t *scratch[SCRATCH_COUNT][2];
    uint64_t now_ms, revision, state_revision, last_id, last_node_id;
    struct rand rand;
};

/* ---- what is handed out ---- */

static struct slice lend(struct keyspace *ks, enum scratch which, int part, struct slice s) {
    free(ks->scratch[which][part]);
    ks->scratch[which][part] = xmalloc(s.size + 1);
    if (s.size > 0)
        memcpy(ks->scratch[which][part], s.data, s.size);
    return slice_of(ks->scratch[which][part], s.size);
}

static void take_back(struct keyspace *ks) {
    CHECK(keyspace_writable(ks));
    for (size_t i = 0; i < SCRATCH_COUNT; i++) {
        for (size_t part = 0; part < 2; part++) {
            free(ks->scratch[i][part]);
            ks->scratch[i][part] = NULL;
        }
    }
}

static struct record lend_record(struct keyspace *ks, enum scratch which,
                                 const struct fake_record *r) {
    struct record rec = r->rec;
    rec.content_type = lend(ks, which, 1, buf_slice(&r->content_type));
    rec.size = rec.type == RECORD_HASH ? r->member_count : r->value.size;
    rec.data_bytes = r->key.size + r->value.size;
    for (size_t i = 0; i < r->member_count; i++)
        rec.data_bytes += r->members[i].field.size + r->members[i].value.size;
    return rec;
}

/* ---- records ---- */

static void record_free(struct fake_record *r) {
    for (size_t i = 0; i < r->member_count; i++) {
        buf_fini(&r->members[i].field);
        buf_fini(&r->members[i].value);
    }
    free(r->members);
    buf_fini(&r->key);
    buf_fini(&r->value);
    buf_fini(&r->content_type);
    free(r);
}

/* The first position whose key is not less. */
static size_t position_of(const struct fake_db *db, struct slice key) {
    size_t low = 0, high = db->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (slice_compare(buf_slice(&db->records[middle]->key), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool visible(const struct keyspace *ks, const struct fake_record *r) {
    return r->rec.expiry_ms == 0 || r->rec.expiry_ms > ks->now_ms;
}

static void remove_at(struct fake_db *db, size_t at) {
    record_free(db->records[at]);
    db->count--;
    memmove(db->records + at, db->records + at + 1, (db->count - at) * sizeof db->records[0]);
}

static struct fake_record *find(struct keyspace *ks, uint16_t db, struct slice key) {
    CHECK(db < STORE_DB_ALL);
    CHECK(key.size <= STORE_KEY_BYTES_MAX);
    struct fake_db *d = &ks->dbs[db];
    size_t at = position_of(d, key);
    if (at == d->count || !slice_equal(buf_slice(&d->records[at]->key), key) ||
        !visible(ks, d->records[at]))
        return NULL;
    return d->records[at];
}

/* Makes an empty record in place of whatever had the key. */
static struct fake_record *add(struct keyspace *ks, uint16_t db, struct slice key,
                               enum record_type type, uint64_t id) {
    struct fake_db *d = &ks->dbs[db];
    size_t at = position_of(d, key);
    if (at < d->count && slice_equal(buf_slice(&d->records[at]->key), key))
        remove_at(d, at);
    d->records = xrealloc(d->records, (d->count + 1) * sizeof d->records[0]);
    memmove(d->records + at + 1, d->records + at, (d->count - at) * sizeof d->records[0]);
    d->count++;
    struct fake_record *r = d->records[at] = xcalloc(1, sizeof *r);
    buf_append_slice(&r->key, key);
    r->rec = (struct record){.type = type, .revision = ks->revision, .id = id ? id : ++ks->last_id};
    return r;
}

struct keyspace *fake_keyspace_new(void) {
    struct keyspace *ks = xcalloc(1, sizeof *ks);
    ks->last_node_id = 1;
    return ks;
}

void fake_keyspace_free(struct keyspace *ks) {
    ks->revision = 1;
    take_back(ks);
    for (size_t db = 0; db < STORE_DB_ALL; db++) {
        while (ks->dbs[db].count > 0)
            remove_at(&ks->dbs[db], ks->dbs[db].count - 1);
        free(ks->dbs[db].records);
    }
    free(ks);
}

void fake_keyspace_begin(struct keyspace *ks, uint64_t now_ms, uint64_t revision, uint64_t seed) {
    ks->now_ms = now_ms;
    ks->revision = revision;
    if (revision > ks->state_revision)
        ks->state_revision = revision >> 20 << 20;
    ks->rand.state = seed;
}

static uint64_t mix(uint64_t digest, struct slice s) {
    return hash64(s, digest + s.size);
}

uint64_t fake_keyspace_digest(const struct keyspace *ks) {
    uint64_t digest = 0;
    for (size_t db = 0; db < STORE_DB_ALL; db++) {
        for (size_t i = 0; i < ks->dbs[db].count; i++) {
            const struct fake_record *r = ks->dbs[db].records[i];
            const uint64_t numbers[] = {db, r->rec.type, r->rec.revision, r->rec.expiry_ms,
                                        r->rec.id};
            digest = mix(digest, slice_of(numbers, sizeof numbers));
            digest = mix(digest, buf_slice(&r->key));
            digest = mix(digest, buf_slice(&r->value));
            digest = mix(digest, buf_slice(&r->content_type));
            for (size_t m = 0; m < r->member_count; m++) {
                digest = mix(digest, buf_slice(&r->members[m].field));
                digest = mix(digest, buf_slice(&r->members[m].value));
            }
        }
    }
    return digest;
}

/* ---- the seam: records ---- */

uint64_t keyspace_now_ms(const struct keyspace *ks) {
    return ks->now_ms;
}

uint64_t keyspace_revision(const struct keyspace *ks) {
    return ks->revision;
}

uint64_t keyspace_state_revision(const struct keyspace *ks) {
    return ks->state_revision;
}

struct rand *keyspace_rand(struct keyspace *ks) {
    return &ks->rand;
}

bool keyspace_writable(const struct keyspace *ks) {
    return ks->revision != 0;
}

int keyspace_find(struct keyspace *ks, uint16_t db, struct slice key, struct record *ret_record) {
    const struct fake_record *r = find(ks, db, key);
    if (!r)
        return KEYSPACE_MISSING;
    *ret_record = lend_record(ks, FIND, r);
    return 0;
}

int keyspace_value(struct keyspace *ks, uint16_t db, struct slice key, struct slice *ret_value) {
    const struct fake_record *r = find(ks, db, key);
    if (!r)
        return KEYSPACE_MISSING;
    CHECK(r->rec.type == RECORD_STRING);
    *ret_value = lend(ks, VALUE, 0, buf_slice(&r->value));
    return 0;
}

int keyspace_put_string(struct keyspace *ks, uint16_t db, struct slice key, struct slice value,
                        struct slice content_type, uint64_t expiry_ms) {
    take_back(ks);
    CHECK(value.size <= STORE_VALUE_BYTES_MAX);
    CHECK(expiry_ms == 0 || expiry_ms > ks->now_ms);
    struct fake_record *old = find(ks, db, key);
    struct fake_record *r = add(ks, db, key, RECORD_STRING, old ? old->rec.id : 0);
    buf_append_slice(&r->value, value);
    buf_append_slice(&r->content_type, content_type);
    r->rec.expiry_ms = expiry_ms;
    return 0;
}

int keyspace_set_expiry(struct keyspace *ks, uint16_t db, struct slice key, uint64_t expiry_ms) {
    take_back(ks);
    struct fake_record *r = find(ks, db, key);
    if (!r)
        return KEYSPACE_MISSING;
    r->rec.expiry_ms = expiry_ms;
    r->rec.revision = ks->revision;
    return 0;
}

int keyspace_delete(struct keyspace *ks, uint16_t db, struct slice key) {
    take_back(ks);
    if (!find(ks, db, key))
        return KEYSPACE_MISSING;
    remove_at(&ks->dbs[db], position_of(&ks->dbs[db], key));
    return 0;
}

int keyspace_copy(struct keyspace *ks, uint16_t from_db, struct slice from, uint16_t to_db,
                  struct slice to) {
    take_back(ks);
    struct fake_record *source = find(ks, from_db, from);
    if (!source)
        return KEYSPACE_MISSING;
    CHECK(from_db != to_db || !slice_equal(from, to));
    struct fake_record *r = add(ks, to_db, to, source->rec.type, 0);
    r->rec.expiry_ms = source->rec.expiry_ms;
    buf_append_slice(&r->value, buf_slice(&source->value));
    buf_append_slice(&r->content_type, buf_slice(&source->content_type));
    r->members = xcalloc(source->member_count + 1, sizeof r->members[0]);
    r->member_count = source->member_count;
    for (size_t i = 0; i < r->member_count; i++) {
        r->members[i].hash = source->members[i].hash;
        r->members[i].suffix = source->members[i].suffix;
        buf_append_slice(&r->members[i].field, buf_slice(&source->members[i].field));
        buf_append_slice(&r->members[i].value, buf_slice(&source->members[i].value));
    }
    return 0;
}

int keyspace_flush(struct keyspace *ks, uint16_t db) {
    take_back(ks);
    while (ks->dbs[db].count > 0)
        remove_at(&ks->dbs[db], ks->dbs[db].count - 1);
    return 0;
}

/* ---- members ---- */

/* Few hash values, so that fields collide. */
static uint64_t field_hash(struct slice field) {
    return (hash64(field, 0) & 0xFF) << 40;
}

/* The position of the field, or where it would stand. */
static size_t member_position(const struct fake_record *r, struct slice field, bool *ret_found) {
    uint64_t hash = field_hash(field);
    size_t at = 0;
    *ret_found = false;
    for (; at < r->member_count && r->members[at].hash <= hash; at++) {
        if (r->members[at].hash == hash && slice_equal(buf_slice(&r->members[at].field), field)) {
            *ret_found = true;
            break;
        }
    }
    return at;
}

int keyspace_member_get(struct keyspace *ks, uint16_t db, struct slice key, struct slice field,
                        struct slice *ret_value) {
    bool found = false;
    const struct fake_record *r = find(ks, db, key);
    CHECK(!r || r->rec.type == RECORD_HASH);
    size_t at = r ? member_position(r, field, &found) : 0;
    if (!found)
        return KEYSPACE_MISSING;
    *ret_value = lend(ks, MEMBER, 0, buf_slice(&r->members[at].value));
    return 0;
}

int keyspace_member_put(struct keyspace *ks, uint16_t db, struct slice key, struct slice field,
                        struct slice value, bool *ret_added) {
    bool found;
    take_back(ks);
    CHECK(field.size <= STORE_KEY_BYTES_MAX);
    CHECK(value.size <= STORE_VALUE_BYTES_MAX);
    struct fake_record *r = find(ks, db, key);
    if (!r)
        r = add(ks, db, key, RECORD_HASH, 0);
    CHECK(r->rec.type == RECORD_HASH);
    size_t at = member_position(r, field, &found);
    if (!found) {
        r->members = xrealloc(r->members, (r->member_count + 1) * sizeof r->members[0]);
        memmove(r->members + at + 1, r->members + at,
                (r->member_count - at) * sizeof r->members[0]);
        r->member_count++;
        struct fake_member m = {.hash = field_hash(field)};
        if (at > 0 && r->members[at - 1].hash == m.hash)
            m.suffix = r->members[at - 1].suffix + 1;
        buf_append_slice(&m.field, field);
        r->members[at] = m;
    }
    buf_reset(&r->members[at].value);
    buf_append_slice(&r->members[at].value, value);
    r->rec.revision = ks->revision;
    *ret_added = !found;
    return 0;
}

int keyspace_member_delete(struct keyspace *ks, uint16_t db, struct slice key, struct slice field) {
    bool found = false;
    take_back(ks);
    struct fake_record *r = find(ks, db, key);
    CHECK(!r || r->rec.type == RECORD_HASH);
    size_t at = r ? member_position(r, field, &found) : 0;
    if (!found)
        return KEYSPACE_MISSING;
    buf_fini(&r->members[at].field);
    buf_fini(&r->members[at].value);
    r->member_count--;
    memmove(r->members + at, r->members + at + 1, (r->member_count - at) * sizeof r->members[0]);
    r->rec.revision = ks->revision;
    if (r->member_count == 0)
        remove_at(&ks->dbs[db], position_of(&ks->dbs[db], key));
    return 0;
}

int keyspace_member_next(struct keyspace *ks, uint16_t db, struct slice key,
                         struct member_cursor *cursor, struct slice *ret_field,
                         struct slice *ret_value) {
    const struct fake_record *r = find(ks, db, key);
    for (size_t i = 0; r && i < r->member_count; i++) {
        const struct fake_member *m = &r->members[i];
        if (m->hash < cursor->hash || (m->hash == cursor->hash && m->suffix < cursor->suffix))
            continue;
        *cursor = (struct member_cursor){.hash = m->hash, .suffix = m->suffix + 1};
        *ret_field = lend(ks, NEXT_MEMBER, 0, buf_slice(&m->field));
        *ret_value = lend(ks, NEXT_MEMBER, 1, buf_slice(&m->value));
        return 0;
    }
    return KEYSPACE_MISSING;
}

/* ---- walks ---- */

int keyspace_next_key(struct keyspace *ks, uint16_t db, struct slice after, bool or_equal,
                      struct slice *ret_key, struct record *ret_record) {
    const struct fake_db *d = &ks->dbs[db];
    size_t at = position_of(d, after);
    if (at < d->count && !or_equal && slice_equal(buf_slice(&d->records[at]->key), after))
        at++;
    while (at < d->count && !visible(ks, d->records[at]))
        at++;
    if (at == d->count)
        return KEYSPACE_MISSING;
    *ret_record = lend_record(ks, NEXT_KEY, d->records[at]);
    *ret_key = lend(ks, NEXT_KEY, 0, buf_slice(&d->records[at]->key));
    return 0;
}

int keyspace_scan(struct keyspace *ks, uint16_t db, uint64_t from_id, struct slice *ret_key,
                  struct record *ret_record) {
    const struct fake_db *d = &ks->dbs[db];
    const struct fake_record *best = NULL;
    for (size_t i = 0; i < d->count; i++) {
        const struct fake_record *r = d->records[i];
        if (visible(ks, r) && r->rec.id >= from_id && (!best || r->rec.id < best->rec.id))
            best = r;
    }
    if (!best)
        return KEYSPACE_MISSING;
    *ret_record = lend_record(ks, SCAN, best);
    *ret_key = lend(ks, SCAN, 0, buf_slice(&best->key));
    return 0;
}

int keyspace_id_bounds(struct keyspace *ks, uint16_t db, uint64_t *ret_first, uint64_t *ret_last) {
    const struct fake_db *d = &ks->dbs[db];
    uint64_t first = UINT64_MAX, last = 0;
    for (size_t i = 0; i < d->count; i++) {
        uint64_t id = d->records[i]->rec.id;
        first = id < first ? id : first;
        last = id > last ? id : last;
    }
    if (d->count == 0)
        return KEYSPACE_MISSING;
    *ret_first = first;
    *ret_last = last;
    return 0;
}

uint64_t keyspace_count(struct keyspace *ks, uint16_t db) {
    return ks->dbs[db].count;
}

uint64_t keyspace_expiring_count(struct keyspace *ks, uint16_t db) {
    uint64_t count = 0;
    for (size_t i = 0; i < ks->dbs[db].count; i++)
        count += ks->dbs[db].records[i]->rec.expiry_ms != 0;
    return count;
}

int keyspace_sweep_expired(struct keyspace *ks, uint64_t now_ms, uint64_t limit,
                           uint64_t *ret_deleted) {
    uint64_t deleted = 0;
    take_back(ks);
    for (size_t db = 0; db < STORE_DB_ALL; db++) {
        struct fake_db *d = &ks->dbs[db];
        for (size_t i = d->count; i-- > 0 && deleted < limit;) {
            uint64_t expiry_ms = d->records[i]->rec.expiry_ms;
            if (expiry_ms != 0 && expiry_ms <= now_ms) {
                remove_at(d, i);
                deleted++;
            }
        }
    }
    *ret_deleted = deleted;
    return 0;
}

void keyspace_note_sites(struct keyspace *ks) {
    (void)ks;
}

uint64_t keyspace_next_node_id(struct keyspace *ks) {
    take_back(ks);
    return ++ks->last_node_id;
}

/* ---- the change log: the model keeps no history (test_changes.c has the real one) ---- */

uint64_t keyspace_changes_floor(const struct keyspace *ks) {
    return ks->state_revision;
}

int keyspace_change_next(struct keyspace *ks, struct change_cursor *cursor,
                         struct change *ret_change) {
    (void)ks;
    (void)cursor;
    (void)ret_change;
    return KEYSPACE_MISSING;
}
