/* Members of hashes: one record of data each, keyed by object id, a 63-bit hash of the field and a
 * suffix that tells fields with the same hash apart. The field stands in the record and is always
 * compared. */
#include <errno.h>

#include "store/keyspace_impl.h"

static int locate_hash(struct keyspace *ks, uint16_t db, struct slice key) {
    int rc = keyspace_locate_visible(ks, db, key);
    if (rc == 0)
        CHECK(ks->at.pub.type == RECORD_HASH);
    return rc;
}

/* Takes a key of data apart: 0 for a member of the object (not a chunk of one), TABLE_END when the
 * key is behind the object's, -EBADMSG. */
static int member_key_decode(struct slice key, uint64_t id, uint64_t *ret_hash,
                             uint32_t *ret_suffix) {
    if (key.size < DATA_ID_BYTES || get_u64be(key.data) != id)
        return TABLE_END;
    if (key.size != DATA_MEMBER_BYTES)
        return -EBADMSG;
    *ret_hash = get_u64be(key.data + 8);
    *ret_suffix = get_u32be(key.data + 16);
    return 0;
}

/* The first member at (hash, suffix) or behind it: 0, TABLE_END, < 0. */
static int seek_member(struct keyspace *ks, uint64_t id, uint64_t *hash, uint32_t *suffix,
                       struct member_record *ret_member, struct slice *ret_bytes) {
    struct data_key want = data_key_member(id, *hash, *suffix);
    struct slice key = {0}, bytes = {0};
    int rc = table_seek(ks->txn, TABLE_DATA, data_key_slice(&want), &key, &bytes);
    if (rc == 0)
        rc = member_key_decode(key, id, hash, suffix);
    if (rc == 0)
        rc = member_decode(bytes, ret_member);
    if (rc == 0)
        *ret_bytes = bytes;
    return rc;
}

static bool step(uint64_t *hash, uint32_t *suffix) {
    if (++*suffix == 0)
        ++*hash;
    return *suffix != 0;
}

/* Where a field is: 0, KEYSPACE_MISSING with *ret_suffix the lowest free one, < 0. */
static int find_member(struct keyspace *ks, uint64_t id, uint64_t hash, struct slice field,
                       uint32_t *ret_suffix, struct member_record *ret_member,
                       struct slice *ret_bytes) {
    uint32_t suffix = 0, free = 0;
    for (;;) {
        uint64_t at_hash = hash;
        struct member_record m = {0};
        struct slice bytes = {0};
        int rc = seek_member(ks, id, &at_hash, &suffix, &m, &bytes);
        if (rc < 0)
            return rc;
        if (rc == TABLE_END || at_hash != hash)
            break;
        if (slice_equal(m.field, field)) {
            *ret_suffix = suffix;
            *ret_member = m;
            *ret_bytes = bytes;
            return 0;
        }
        if (suffix == free)
            free++;
        if (!step(&at_hash, &suffix))
            break;
    }
    *ret_suffix = free;
    return KEYSPACE_MISSING;
}

static int member_value(struct keyspace *ks, uint64_t id, uint64_t hash, uint32_t suffix,
                        const struct member_record *m, struct buf *scratch,
                        struct slice *ret_value) {
    if (!m->chunked) {
        *ret_value = m->value;
        return 0;
    }
    struct data_key owner = data_key_member(id, hash, suffix);
    return chunks_read(ks, &owner, m->value_bytes, scratch, ret_value);
}

static uint64_t hash_field(const struct keyspace *ks, struct slice field) {
    return ks->hashes->member(field, ks->state->hash_seed);
}

int keyspace_member_get(struct keyspace *ks, uint16_t db, struct slice key, struct slice field,
                        struct slice *ret_value) {
    uint32_t suffix;
    struct member_record m;
    struct slice bytes;
    int rc = locate_hash(ks, db, key);
    if (rc)
        return rc;
    uint64_t id = ks->at.pub.id, hash = hash_field(ks, field);
    if ((rc = find_member(ks, id, hash, field, &suffix, &m, &bytes)))
        return rc;
    return member_value(ks, id, hash, suffix, &m, &ks->member_scratch, ret_value);
}

/* What a stored member adds to the object's sum. */
static struct hash128 member_sum(const struct data_key *key, const struct member_record *m,
                                 struct slice bytes) {
    return hash128_add(m->chunk_sum, pair_sum(data_key_inner(data_key_slice(key)), bytes));
}

/* The hash a member is about to be put into: the located one, or a new one not stored yet. */
static int place_hash(struct keyspace *ks, uint16_t db, struct slice key,
                      struct main_record *ret_old, struct main_key *ret_main_key,
                      struct main_record *ret_new) {
    int rc = keyspace_locate_for_change(ks, db, key);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        CHECK(ks->at.pub.type == RECORD_HASH);
        *ret_old = *ret_new = ks->at;
        *ret_main_key = ks->at_key;
        ret_new->pub.revision = ks->revision;
        return 0;
    }
    *ret_new = (struct main_record){
        .pub = {.type = RECORD_HASH, .revision = ks->revision},
        .flags = RECORD_OUTSIDE,
        .long_key = key.size > MAIN_SHORT_BYTES_MAX ? key : slice_of(NULL, 0),
    };
    rc = keyspace_new_record(ks, db, key, ret_main_key, &ret_new->pub.id);
    return rc ? rc : KEYSPACE_MISSING;
}

int keyspace_member_put(struct keyspace *ks, uint16_t db, struct slice key, struct slice field,
                        struct slice value, bool *ret_added) {
    struct main_record old, m;
    struct main_key main_key;
    int rc = place_hash(ks, db, key, &old, &main_key, &m);
    if (rc < 0)
        return rc;
    bool found = rc == 0;
    uint64_t hash = hash_field(ks, field);
    uint32_t suffix = 0;
    struct member_record before = {0};
    struct slice before_bytes;
    rc = found ? find_member(ks, m.pub.id, hash, field, &suffix, &before, &before_bytes)
               : KEYSPACE_MISSING;
    if (rc < 0)
        return rc;
    bool added = rc == KEYSPACE_MISSING;
    struct data_key member_key = data_key_member(m.pub.id, hash, suffix);
    if (added) {
        m.pub.size++;
        m.outside_bytes += field.size;
    } else {
        m.outside_sum = hash128_sub(m.outside_sum, member_sum(&member_key, &before, before_bytes));
        m.outside_bytes -= before.value_bytes;
    }
    m.outside_bytes += value.size;

    struct member_record after = {.field = field, .value_bytes = value.size};
    after.chunked = value.size > CHUNK_BYTES;
    if (!after.chunked)
        after.value = value;
    member_encode(&ks->record, &after);
    uint64_t before_chunked = before.chunked ? before.value_bytes : 0;
    if (after.chunked) {
        rc = chunks_write(ks, &member_key, value, before_chunked, &after.chunk_sum);
        member_patch_sum(&ks->record, &after);
    } else {
        rc = chunks_delete(ks, &member_key, 0, chunk_count(before_chunked));
    }
    if (rc == 0)
        rc = table_put(ks->txn, TABLE_DATA, data_key_slice(&member_key), buf_slice(&ks->record));
    if (rc)
        return rc < 0 ? rc : -EBADMSG;
    m.outside_sum =
        hash128_add(m.outside_sum, member_sum(&member_key, &after, buf_slice(&ks->record)));
    record_encode(&ks->record, &m);
    rc = keyspace_store(ks, &main_key, &m, found ? &old : NULL);
    if (rc == 0)
        *ret_added = added;
    return rc;
}

int keyspace_member_delete(struct keyspace *ks, uint16_t db, struct slice key, struct slice field) {
    CHECK(ks->writable);
    int rc = locate_hash(ks, db, key);
    if (rc)
        return rc;
    struct main_record old = ks->at, m = ks->at;
    struct main_key main_key = ks->at_key;
    uint64_t hash = hash_field(ks, field);
    uint32_t suffix;
    struct member_record member = {0};
    struct slice bytes = {0};
    if ((rc = find_member(ks, m.pub.id, hash, field, &suffix, &member, &bytes)))
        return rc;
    if (m.pub.size == 1)
        return keyspace_remove_at(ks);
    struct data_key member_key = data_key_member(m.pub.id, hash, suffix);
    m.outside_sum = hash128_sub(m.outside_sum, member_sum(&member_key, &member, bytes));
    m.outside_bytes -= member.field.size + member.value_bytes;
    m.pub.size--;
    m.pub.revision = ks->revision;
    rc = table_delete(ks->txn, TABLE_DATA, data_key_slice(&member_key));
    if (rc == 0 && member.chunked)
        rc = chunks_delete(ks, &member_key, 0, chunk_count(member.value_bytes));
    if (rc)
        return rc < 0 ? rc : -EBADMSG;
    record_encode(&ks->record, &m);
    return keyspace_store(ks, &main_key, &m, &old);
}

/* Is this call the next of a walk over all members of the object? */
static bool on_walk(const struct member_walk *walk, uint64_t id, const struct member_cursor *at) {
    return walk->valid && walk->id == id && walk->at.hash == at->hash &&
           walk->at.suffix == at->suffix;
}

int keyspace_member_next(struct keyspace *ks, uint16_t db, struct slice key,
                         struct member_cursor *cursor, struct slice *ret_field,
                         struct slice *ret_value) {
    int rc = locate_hash(ks, db, key);
    if (rc)
        return rc;
    uint64_t id = ks->at.pub.id, hash = cursor->hash;
    uint32_t suffix = cursor->suffix;
    struct member_walk *walk = &ks->walk;
    struct member_record m;
    struct slice bytes, value;
    if (hash == 0 && suffix == 0)
        *walk = (struct member_walk){.valid = true, .id = id};
    else if (!on_walk(walk, id, cursor))
        walk->valid = false;
    rc = seek_member(ks, id, &hash, &suffix, &m, &bytes);
    if (rc == TABLE_END)
        return walk->valid && walk->met != ks->at.pub.size ? -EBADMSG : KEYSPACE_MISSING;
    if (rc)
        return rc;
    if ((rc = member_value(ks, id, hash, suffix, &m, &ks->next_scratch, &value)))
        return rc;
    *cursor = (struct member_cursor){.hash = hash, .suffix = suffix};
    step(&cursor->hash, &cursor->suffix);
    walk->at = *cursor;
    walk->met++;
    *ret_field = m.field;
    *ret_value = value;
    return 0;
}
