#include "store/keyspace.h"

#include <errno.h>
#include <stdlib.h>

#include "base/plant.h"
#include "store/keyspace_impl.h"

enum { SCRATCH_KEEP_BYTES = 1024 * 1024 };

static uint64_t default_member_hash(struct slice field, uint64_t seed) {
    return hash64(field, seed) >> 1;
}

static struct hash128 default_key_hash(struct slice key, uint64_t seed) {
    uint8_t bytes[8];
    put_u64le(bytes, seed);
    struct slice pieces[] = {slice_of(bytes, sizeof bytes), key};
    return hash128_pieces(pieces, 2);
}

const struct keyspace_hashes keyspace_hashes_default = {
    .member = default_member_hash,
    .key = default_key_hash,
};

void keyspace_init(struct keyspace *ks, struct env_txn *txn, struct state *state,
                   const struct keyspace_hashes *hashes, bool writable) {
    *ks = (struct keyspace){.txn = txn, .state = state, .hashes = hashes, .writable = writable};
}

void keyspace_fini(struct keyspace *ks) {
    free(ks->group.keys);
    change_log_fini(&ks->log);
    buf_fini(&ks->record);
    buf_fini(&ks->chunk);
    buf_fini(&ks->value_scratch);
    buf_fini(&ks->member_scratch);
    buf_fini(&ks->next_scratch);
}

void keyspace_reset(struct keyspace *ks) {
    ks->at_state = AT_NOWHERE;
    keyspace_forget_iteration(ks);
    struct buf *bufs[] = {&ks->record, &ks->chunk, &ks->value_scratch, &ks->member_scratch,
                          &ks->next_scratch};
    for (size_t i = 0; i < ARRAY_COUNT(bufs); i++) {
        if (bufs[i]->capacity > SCRATCH_KEEP_BYTES)
            buf_fini(bufs[i]);
    }
}

uint64_t keyspace_now_ms(const struct keyspace *ks) {
    return ks->now_ms;
}

uint64_t keyspace_revision(const struct keyspace *ks) {
    return ks->revision;
}

void keyspace_note_sites(struct keyspace *ks) {
    ks->sites_revision = ks->revision;
}

uint64_t keyspace_state_revision(const struct keyspace *ks) {
    return ks->state->applied_index << 20;
}

struct rand *keyspace_rand(struct keyspace *ks) {
    return &ks->rand;
}

bool keyspace_writable(const struct keyspace *ks) {
    return ks->writable;
}

uint64_t keyspace_count(struct keyspace *ks, uint16_t db) {
    return db < STORE_DB_ALL ? ks->state->key_count[db] : 0;
}

uint64_t keyspace_expiring_count(struct keyspace *ks, uint16_t db) {
    return db < STORE_DB_ALL ? ks->state->expiring_count[db] : 0;
}

uint64_t keyspace_next_node_id(struct keyspace *ks) {
    CHECK(ks->writable);
    return ks->state->next_node_id++;
}

/* ---- finding ---- */

int keyspace_set_at(struct keyspace *ks, struct slice main_key, struct slice bytes) {
    ks->at_state = AT_NOWHERE;
    if (main_key.size < 1 || main_key.size > sizeof ks->at_key.bytes)
        return -EBADMSG;
    int rc = record_decode(main_key, bytes, &ks->at);
    if (rc)
        return rc;
    if (main_key.data != ks->at_key.bytes)
        memcpy(ks->at_key.bytes, main_key.data, main_key.size);
    ks->at_key.size = (uint16_t)main_key.size;
    ks->at_bytes = bytes;
    ks->at_state = AT_FRESH;
    return 0;
}

uint16_t keyspace_at_db(const struct keyspace *ks) {
    return ks->at_key.bytes[0];
}

static int refresh_at(struct keyspace *ks) {
    struct slice key, bytes;
    int rc = table_current(ks->txn, TABLE_MAIN, &key, &bytes);
    CHECK(rc <= 0);
    return rc ? rc : keyspace_set_at(ks, main_key_slice(&ks->at_key), bytes);
}

/* db, prefix and hash of a long key; the suffix is left to the caller. */
static void begin_long_key(const struct keyspace *ks, uint16_t db, struct slice key,
                           struct main_key *out) {
    struct hash128 hash = ks->hashes->key(key, ks->state->hash_seed);
    out->size = MAIN_LONG_BYTES;
    out->bytes[0] = (uint8_t)db;
    memcpy(out->bytes + 1, key.data, MAIN_SHORT_BYTES_MAX);
    put_u64be(out->bytes + 1 + MAIN_SHORT_BYTES_MAX, hash.high);
    put_u64be(out->bytes + 1 + MAIN_SHORT_BYTES_MAX + 8, hash.low);
    put_u32be(out->bytes + MAIN_LONG_BYTES - MAIN_SUFFIX_BYTES, 0);
}

static bool same_but_suffix(struct slice a, const struct main_key *b) {
    return a.size == b->size && memcmp(a.data, b->bytes, a.size - MAIN_SUFFIX_BYTES) == 0;
}

static int locate_long(struct keyspace *ks, uint16_t db, struct slice key) {
    struct main_key want;
    begin_long_key(ks, db, key, &want);
    ks->at_state = AT_NOWHERE;
    struct slice found, bytes;
    int rc = table_seek(ks->txn, TABLE_MAIN, main_key_slice(&want), &found, &bytes);
    for (; rc == 0 && same_but_suffix(found, &want);
         rc = table_next(ks->txn, TABLE_MAIN, &found, &bytes)) {
        struct main_record m;
        if ((rc = record_decode(found, bytes, &m)))
            return rc;
        if (slice_equal(m.long_key, key))
            return keyspace_set_at(ks, found, bytes);
    }
    return rc < 0 ? rc : KEYSPACE_MISSING;
}

int keyspace_locate(struct keyspace *ks, uint16_t db, struct slice key) {
    if (db >= STORE_DB_ALL)
        return KEYSPACE_MISSING;
    if (key.size > MAIN_SHORT_BYTES_MAX)
        return locate_long(ks, db, key);
    if (ks->at_state != AT_NOWHERE && ks->at_key.size == key.size + 1 &&
        ks->at_key.bytes[0] == db &&
        (key.size == 0 || memcmp(ks->at_key.bytes + 1, key.data, key.size) == 0))
        return ks->at_state == AT_FRESH ? 0 : refresh_at(ks);
    ks->at_state = AT_NOWHERE;
    ks->at_key.size = (uint16_t)(key.size + 1);
    ks->at_key.bytes[0] = (uint8_t)db;
    if (key.size > 0)
        memmove(ks->at_key.bytes + 1, key.data, key.size);
    struct slice bytes;
    int rc = table_get(ks->txn, TABLE_MAIN, main_key_slice(&ks->at_key), &bytes);
    if (rc)
        return rc < 0 ? rc : KEYSPACE_MISSING;
    return keyspace_set_at(ks, main_key_slice(&ks->at_key), bytes);
}

int keyspace_locate_visible(struct keyspace *ks, uint16_t db, struct slice key) {
    int rc = keyspace_locate(ks, db, key);
    return rc ? rc : keyspace_visible(ks, &ks->at) ? 0 : KEYSPACE_MISSING;
}

int keyspace_locate_main(struct keyspace *ks, struct slice main_key) {
    ks->at_state = AT_NOWHERE;
    if (main_key.size < 1 || main_key.size > sizeof ks->at_key.bytes ||
        main_key.data[0] >= STORE_DB_ALL)
        return -EBADMSG;
    struct slice bytes;
    int rc = table_get(ks->txn, TABLE_MAIN, main_key, &bytes);
    if (rc)
        return rc < 0 ? rc : -EBADMSG;
    return keyspace_set_at(ks, main_key, bytes);
}

int keyspace_locate_for_change(struct keyspace *ks, uint16_t db, struct slice key) {
    CHECK(ks->writable);
    CHECK(db < STORE_DB_ALL);
    int rc = keyspace_locate(ks, db, key);
    if (rc || keyspace_visible(ks, &ks->at))
        return rc;
    rc = keyspace_remove_at(ks);
    return rc ? rc : KEYSPACE_MISSING;
}

int keyspace_find(struct keyspace *ks, uint16_t db, struct slice key, struct record *ret_record) {
    int rc = keyspace_locate_visible(ks, db, key);
    if (rc == 0)
        *ret_record = ks->at.pub;
    return rc;
}

int keyspace_value(struct keyspace *ks, uint16_t db, struct slice key, struct slice *ret_value) {
    int rc = keyspace_locate_visible(ks, db, key);
    if (rc)
        return rc;
    CHECK(ks->at.pub.type == RECORD_STRING);
    if (ks->at.flags & RECORD_OUTSIDE) {
        struct data_key owner = data_key_object(ks->at.pub.id);
        return chunks_read(ks, &owner, ks->at.pub.size, &ks->value_scratch, ret_value);
    }
    *ret_value = ks->at.value;
    return 0;
}

/* ---- changing ---- */

/* The lowest suffix that no key with the same hash has. */
static int free_suffix(struct keyspace *ks, struct main_key *key) {
    struct slice found;
    uint32_t suffix = 0;
    int rc = table_seek(ks->txn, TABLE_MAIN, main_key_slice(key), &found, NULL);
    while (rc == 0 && same_but_suffix(found, key) &&
           get_u32be(found.data + MAIN_LONG_BYTES - MAIN_SUFFIX_BYTES) == suffix) {
        suffix++;
        rc = table_next(ks->txn, TABLE_MAIN, &found, NULL);
    }
    put_u32be(key->bytes + MAIN_LONG_BYTES - MAIN_SUFFIX_BYTES, suffix);
    return rc < 0 ? rc : 0;
}

int keyspace_new_record(struct keyspace *ks, uint16_t db, struct slice key,
                        struct main_key *ret_main_key, uint64_t *ret_id) {
    ks->at_state = AT_NOWHERE;
    if (key.size > MAIN_SHORT_BYTES_MAX) {
        begin_long_key(ks, db, key, ret_main_key);
        int rc = free_suffix(ks, ret_main_key);
        if (rc)
            return rc;
    } else {
        ret_main_key->size = (uint16_t)(key.size + 1);
        ret_main_key->bytes[0] = (uint8_t)db;
        if (key.size > 0)
            memcpy(ret_main_key->bytes + 1, key.data, key.size);
    }
    *ret_id = ks->state->next_object_id++;
    return 0;
}

static int update_expiry(struct keyspace *ks, uint16_t db, uint64_t id, uint64_t old_ms,
                         uint64_t new_ms) {
    uint8_t key[EXPIRY_KEY_BYTES];
    if (old_ms == new_ms)
        return 0;
    if (old_ms != 0) {
        expiry_key(key, old_ms, db, id);
        int rc = table_delete(ks->txn, TABLE_EXPIRY, slice_of(key, sizeof key));
        if (rc)
            return rc < 0 ? rc : -EBADMSG;
        ks->state->expiring_count[db]--;
    }
    if (new_ms != 0) {
        ks->state->expiring_count[db]++;
        expiry_key(key, new_ms, db, id);
        return table_put(ks->txn, TABLE_EXPIRY, slice_of(key, sizeof key), slice_of(NULL, 0));
    }
    return 0;
}

/* Key, content type and what they hold together. */
static uint64_t data_bytes_of(const struct main_key *main_key, const struct main_record *m) {
    return (m->long_key.size ? m->long_key.size : main_key->size - 1u) + m->pub.content_type.size +
           (m->flags & RECORD_OUTSIDE ? m->outside_bytes : m->value.size);
}

static int note(struct keyspace *ks, const struct change *c) {
    if (c->db >= STORE_DB_COUNT)
        return 0;
    change_log_add(&ks->log, c);
    return change_log_is_full(&ks->log) ? changes_flush(ks->txn, ks->state, &ks->log, false) : 0;
}

/* Out of the encoding: slices of the record that is stored may point to what has moved since. */
static int note_put(struct keyspace *ks, struct slice main_key, struct slice bytes) {
    struct main_record m;
    int rc = record_decode(main_key, bytes, &m);
    if (rc)
        return rc;
    return note(ks, &(struct change){.revision = ks->revision,
                                     .op = CHANGE_PUT,
                                     .db = main_key.data[0],
                                     .key = record_key(main_key, &m),
                                     .type = m.pub.type,
                                     .expiry_ms = m.pub.expiry_ms,
                                     .size = m.pub.size,
                                     .content_type = m.pub.content_type,
                                     .has_value = !(m.flags & RECORD_OUTSIDE),
                                     .value = m.value});
}

static int note_gone(struct keyspace *ks) {
    return note(
        ks, &(struct change){.revision = ks->revision,
                             .op = keyspace_visible(ks, &ks->at) ? CHANGE_DELETE : CHANGE_EXPIRE,
                             .db = keyspace_at_db(ks),
                             .key = record_key(main_key_slice(&ks->at_key), &ks->at)});
}

static int note_flush(struct keyspace *ks, uint16_t db) {
    return note(ks, &(struct change){.revision = ks->revision, .op = CHANGE_FLUSH, .db = db});
}

int keyspace_store(struct keyspace *ks, const struct main_key *main_key,
                   const struct main_record *m, const struct main_record *old) {
    struct state *st = ks->state;
    struct slice key = main_key_slice(main_key), bytes = buf_slice(&ks->record);
    uint16_t db = main_key->bytes[0];
    keyspace_forget_iteration(ks);
    int rc = note_put(ks, key, bytes);
    if (rc)
        return rc;
    if (old) {
        CHECK(ks->at_state == AT_FRESH);
        st->record_sum = hash128_sub(st->record_sum, pair_sum(key, ks->at_bytes));
        st->data_bytes -= old->pub.data_bytes;
        ks->at_state = AT_STALE;
        rc = table_put_current(ks->txn, TABLE_MAIN, key, bytes);
    } else {
        uint8_t id_key[IDS_KEY_BYTES];
        ids_key(id_key, db, m->pub.id);
        rc = table_put(ks->txn, TABLE_IDS, slice_of(id_key, sizeof id_key), key);
        if (rc == 0)
            rc = table_put(ks->txn, TABLE_MAIN, key, bytes);
        st->key_count[db]++;
        ks->at_key = *main_key;
        ks->at_state = AT_STALE;
    }
    if (rc)
        return rc;
    st->record_sum = hash128_add(st->record_sum, pair_sum(key, bytes));
    st->data_bytes += data_bytes_of(main_key, m);
    return update_expiry(ks, db, m->pub.id, old ? old->pub.expiry_ms : 0, m->pub.expiry_ms);
}

/* Everything the located object has in data. */
static int delete_outside(struct keyspace *ks, const struct main_record *m) {
    if (!(m->flags & RECORD_OUTSIDE))
        return 0;
    struct data_key owner = data_key_object(m->pub.id);
    if (m->pub.type == RECORD_STRING)
        return chunks_delete(ks, &owner, 0, chunk_count(m->pub.size));
    return table_delete_prefix(ks->txn, TABLE_DATA, data_key_slice(&owner));
}

int keyspace_remove_at(struct keyspace *ks) {
    CHECK(ks->at_state == AT_FRESH);
    struct state *st = ks->state;
    uint16_t db = keyspace_at_db(ks);
    uint8_t id_key[IDS_KEY_BYTES];
    struct hash128 sum = pair_sum(main_key_slice(&ks->at_key), ks->at_bytes);
    ids_key(id_key, db, ks->at.pub.id);
    keyspace_forget_iteration(ks);
    int rc = note_gone(ks);
    if (rc == 0)
        rc = delete_outside(ks, &ks->at);
    if (rc == 0)
        rc = table_delete(ks->txn, TABLE_IDS, slice_of(id_key, sizeof id_key));
    if (rc == 0)
        rc = update_expiry(ks, db, ks->at.pub.id, ks->at.pub.expiry_ms, 0);
    if (rc == 0)
        rc = table_delete_current(ks->txn, TABLE_MAIN);
    if (rc)
        return rc < 0 ? rc : -EBADMSG;
    if (!PLANTED(PLANT_DIGEST_DELETE))
        st->record_sum = hash128_sub(st->record_sum, sum);
    st->data_bytes -= ks->at.pub.data_bytes;
    st->key_count[db]--;
    ks->at_state = AT_NOWHERE;
    return 0;
}

/* The place of a record about to be written over `key`: the located one, or a new one. */
static int place(struct keyspace *ks, uint16_t db, struct slice key, struct main_record *ret_old,
                 struct main_key *ret_main_key, struct main_record *ret_new) {
    int rc = keyspace_locate_for_change(ks, db, key);
    if (rc < 0)
        return rc;
    *ret_new = (struct main_record){.pub.revision = ks->revision};
    if (key.size > MAIN_SHORT_BYTES_MAX)
        ret_new->long_key = key;
    if (rc == 0) {
        *ret_old = ks->at;
        *ret_main_key = ks->at_key;
        ret_new->pub.id = ks->at.pub.id;
        return 0;
    }
    int failed = keyspace_new_record(ks, db, key, ret_main_key, &ret_new->pub.id);
    return failed ? failed : KEYSPACE_MISSING;
}

/* The value of a record about to be stored: its chunks, or what is left of older ones. */
static int replace_outside(struct keyspace *ks, const struct main_record *old,
                           struct main_record *m, struct slice value) {
    uint64_t old_bytes = 0;
    if (old && (old->flags & RECORD_OUTSIDE)) {
        if (old->pub.type == RECORD_STRING) {
            old_bytes = old->pub.size;
        } else {
            int rc = delete_outside(ks, old);
            if (rc)
                return rc;
        }
    }
    struct data_key owner = data_key_object(m->pub.id);
    if (m->flags & RECORD_OUTSIDE)
        return chunks_write(ks, &owner, value, old_bytes, &m->outside_sum);
    return chunks_delete(ks, &owner, 0, chunk_count(old_bytes));
}

int keyspace_put_string(struct keyspace *ks, uint16_t db, struct slice key, struct slice value,
                        struct slice content_type, uint64_t expiry_ms) {
    struct main_record old, m;
    struct main_key main_key;
    /* An expired record is deleted here, before its value or content type could be an argument:
     * nobody was shown them. */
    int rc = place(ks, db, key, &old, &main_key, &m);
    if (rc < 0)
        return rc;
    bool found = rc == 0;
    m.pub.type = RECORD_STRING;
    m.pub.expiry_ms = expiry_ms;
    m.pub.content_type = content_type;
    m.pub.size = value.size;
    if (value.size > RECORD_INLINE_BYTES_MAX) {
        m.flags = RECORD_OUTSIDE;
        m.outside_bytes = value.size;
        chunks_stage(ks, value);
    } else {
        m.value = value;
    }
    record_encode(&ks->record, &m);
    if (m.flags & RECORD_OUTSIDE || (found && old.flags & RECORD_OUTSIDE)) {
        rc = replace_outside(ks, found ? &old : NULL, &m, value);
        if (rc)
            return rc;
        record_patch_sum(&ks->record, &m);
    }
    return keyspace_store(ks, &main_key, &m, found ? &old : NULL);
}

int keyspace_set_expiry(struct keyspace *ks, uint16_t db, struct slice key, uint64_t expiry_ms) {
    int rc = keyspace_locate_for_change(ks, db, key);
    if (rc)
        return rc;
    struct main_record old = ks->at, m = ks->at;
    struct main_key main_key = ks->at_key;
    m.pub.expiry_ms = expiry_ms;
    m.pub.revision = ks->revision;
    record_encode(&ks->record, &m);
    return keyspace_store(ks, &main_key, &m, &old);
}

int keyspace_delete(struct keyspace *ks, uint16_t db, struct slice key) {
    CHECK(ks->writable);
    int rc = keyspace_locate_visible(ks, db, key);
    return rc ? rc : keyspace_remove_at(ks);
}

/* Copies what object `from` has in data to object `to`, record by record: keys within the object
 * and bytes stay the same, and with them the sum. */
static int copy_outside(struct keyspace *ks, uint64_t from, uint64_t to) {
    struct data_key prefix = data_key_object(from), at = prefix;
    for (bool again = false;; again = true) {
        struct slice key, bytes;
        int rc = table_seek(ks->txn, TABLE_DATA, data_key_slice(&at), &key, &bytes);
        if (rc == 0 && again && slice_equal(key, data_key_slice(&at)))
            rc = table_next(ks->txn, TABLE_DATA, &key, &bytes);
        if (rc < 0)
            return rc;
        if (rc || !slice_starts_with(key, data_key_slice(&prefix)))
            return 0;
        if (key.size > sizeof at.bytes)
            return -EBADMSG;
        at.size = (uint8_t)key.size;
        memcpy(at.bytes, key.data, key.size);
        struct data_key copy = at;
        put_u64be(copy.bytes, to);
        buf_reset(&ks->chunk);
        buf_append_slice(&ks->chunk, bytes);
        rc = table_put(ks->txn, TABLE_DATA, data_key_slice(&copy), buf_slice(&ks->chunk));
        if (rc)
            return rc;
    }
}

int keyspace_copy(struct keyspace *ks, uint16_t from_db, struct slice from, uint16_t to_db,
                  struct slice to) {
    CHECK(ks->writable);
    CHECK(to_db < STORE_DB_ALL);
    int rc = keyspace_locate_visible(ks, from_db, from);
    if (rc || (from_db == to_db && slice_equal(from, to)))
        return rc;
    struct main_record m = ks->at;
    uint64_t from_id = m.pub.id;
    m.long_key = to.size > MAIN_SHORT_BYTES_MAX ? to : slice_of(NULL, 0);
    m.pub.revision = ks->revision;
    record_encode(&ks->record, &m);

    /* The destination's old record goes first; then nothing of `m` but numbers is used, and the
     * new id is put into the encoding. */
    struct main_key main_key;
    struct buf encoded = ks->record;
    ks->record = (struct buf){0};
    rc = keyspace_locate(ks, to_db, to);
    if (rc == 0) {
        main_key = ks->at_key;
        m.pub.id = ks->state->next_object_id++;
        rc = keyspace_remove_at(ks);
    } else if (rc > 0) {
        rc = keyspace_new_record(ks, to_db, to, &main_key, &m.pub.id);
    }
    buf_fini(&ks->record);
    ks->record = encoded;
    if (rc)
        return rc;
    record_patch_id(&ks->record, m.pub.id);
    if (m.flags & RECORD_OUTSIDE) {
        rc = copy_outside(ks, from_id, m.pub.id);
        if (rc)
            return rc;
    }
    return keyspace_store(ks, &main_key, &m, NULL);
}

/* One after the other. */
static int flush_each(struct keyspace *ks, uint16_t db) {
    uint8_t prefix = (uint8_t)db;
    for (;;) {
        struct slice key, bytes;
        int rc = table_seek(ks->txn, TABLE_MAIN, slice_of(&prefix, 1), &key, &bytes);
        if (rc || key.data[0] != prefix)
            return rc < 0 ? rc : ks->state->key_count[db] == 0 ? 0 : -EBADMSG;
        if ((rc = keyspace_set_at(ks, key, bytes)) || (rc = keyspace_remove_at(ks)))
            return rc;
    }
}

/* Everything there is, in a time that grows with the pages instead of the records. */
static int flush_all(struct keyspace *ks) {
    static const enum table tables[] = {TABLE_MAIN, TABLE_IDS, TABLE_DATA, TABLE_EXPIRY};
    for (size_t i = 0; i < ARRAY_COUNT(tables); i++) {
        int rc = table_clear(ks->txn, tables[i]);
        if (rc)
            return rc;
    }
    ks->state->record_sum = (struct hash128){0};
    ks->state->data_bytes = 0;
    memset(ks->state->key_count, 0, sizeof ks->state->key_count);
    memset(ks->state->expiring_count, 0, sizeof ks->state->expiring_count);
    return 0;
}

int keyspace_flush(struct keyspace *ks, uint16_t db) {
    CHECK(ks->writable);
    CHECK(db < STORE_DB_ALL);
    uint64_t count = ks->state->key_count[db];
    ks->at_state = AT_NOWHERE;
    keyspace_forget_iteration(ks);
    if (count == 0)
        return 0;
    int rc = note_flush(ks, db);
    if (rc)
        return rc;
    if (count == state_key_count(ks->state))
        return flush_all(ks);
    ks->log.muted = true;
    rc = flush_each(ks, db);
    ks->log.muted = false;
    return rc;
}

int keyspace_sweep_expired(struct keyspace *ks, uint64_t now_ms, uint64_t limit,
                           uint64_t *ret_deleted) {
    CHECK(ks->writable);
    uint64_t deleted = 0;
    if (now_ms > ks->now_ms)
        now_ms = ks->now_ms; /* what is still visible must stay */
    while (deleted < limit) {
        struct slice key, main_key;
        uint64_t expiry_ms, id;
        uint16_t db;
        uint8_t id_key[IDS_KEY_BYTES];
        int rc = table_first(ks->txn, TABLE_EXPIRY, &key, NULL);
        if (rc < 0)
            return rc;
        if (rc == TABLE_END)
            break;
        if (!expiry_key_decode(key, &expiry_ms, &db, &id))
            return -EBADMSG;
        if (expiry_ms > now_ms)
            break;
        ids_key(id_key, db, id);
        rc = table_get(ks->txn, TABLE_IDS, slice_of(id_key, sizeof id_key), &main_key);
        if (rc)
            return rc < 0 ? rc : -EBADMSG;
        if ((rc = keyspace_locate_main(ks, main_key)))
            return rc;
        if (ks->at.pub.expiry_ms != expiry_ms || ks->at.pub.id != id)
            return -EBADMSG;
        if ((rc = keyspace_remove_at(ks)))
            return rc;
        deleted++;
    }
    *ret_deleted = deleted;
    return 0;
}
