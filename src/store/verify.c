/* store_verify(): everything that is kept up incrementally, computed again from the records. */
#include <errno.h>

#include "store/changes.h"
#include "store/check_impl.h"
#include "store/once.h"

struct verifying {
    struct store_view *view;
    struct hash128 record_sum;
    uint64_t data_bytes;
    uint64_t data_records; /* met in data */
    uint64_t expiring;
    uint64_t key_count[STORE_DB_ALL], expiring_count[STORE_DB_ALL];
    store_verify_fn on_bytes; /* NULL: nobody wants to know */
    void *ctx;
    uint64_t bytes; /* since it was called */
};

enum { REPORT_BYTES = 1 << 20 };

static int looked_at(struct verifying *v, uint64_t bytes) {
    v->bytes += bytes;
    if (!v->on_bytes || v->bytes < REPORT_BYTES)
        return 0;
    bool go_on = v->on_bytes(v->ctx, v->bytes);
    v->bytes = 0;
    return go_on ? 0 : -ECANCELED;
}

/* Walks what an object has in data; *ret_sum and the sizes as its record should have them. */
static int walk_outside(struct verifying *v, const struct main_record *m, struct hash128 *ret_sum,
                        uint64_t *ret_size, uint64_t *ret_bytes) {
    struct data_key prefix = data_key_object(m->pub.id);
    struct hash128 sum = {0};
    uint64_t size = 0, bytes = 0;
    size_t owner_bytes = m->pub.type == RECORD_STRING ? DATA_ID_BYTES : DATA_MEMBER_BYTES;
    uint64_t chunks = 0, chunked_bytes = 0; /* expected of the member met last */
    uint32_t next_chunk = 0;
    if (m->pub.type == RECORD_STRING) {
        chunked_bytes = m->pub.size;
        chunks = chunk_count(chunked_bytes);
    }
    struct slice key, value;
    int rc = table_seek(&v->view->txn, TABLE_DATA, data_key_slice(&prefix), &key, &value);
    for (; rc == 0 && slice_starts_with(key, data_key_slice(&prefix));
         rc = table_next(&v->view->txn, TABLE_DATA, &key, &value)) {
        sum = hash128_add(sum, pair_sum(data_key_inner(key), value));
        v->data_records++;
        if ((rc = looked_at(v, key.size + value.size)))
            return rc;
        if (key.size == owner_bytes + 4) {
            struct slice piece;
            if ((rc = chunk_decode(value, &piece)))
                return rc;
            if (next_chunk >= chunks || get_u32be(key.data + owner_bytes) != next_chunk ||
                piece.size > chunked_bytes || piece.size > CHUNK_BYTES)
                return -EBADMSG;
            chunked_bytes -= piece.size;
            bytes += piece.size;
            next_chunk++;
        } else {
            struct member_record member;
            if (m->pub.type != RECORD_HASH || key.size != DATA_MEMBER_BYTES || chunked_bytes > 0)
                return -EBADMSG;
            if ((rc = member_decode(value, &member)))
                return rc;
            uint64_t hash = v->view->store->hashes.member(member.field, v->view->state.hash_seed);
            if (get_u64be(key.data + DATA_ID_BYTES) != hash)
                return -EBADMSG;
            size++;
            bytes += member.field.size + member.value.size;
            chunked_bytes = member.chunked ? member.value_bytes : 0;
            chunks = chunk_count(chunked_bytes);
            next_chunk = 0;
        }
    }
    if (rc < 0)
        return rc;
    if (chunked_bytes > 0)
        return -EBADMSG;
    *ret_sum = sum;
    *ret_size = m->pub.type == RECORD_STRING ? bytes : size;
    *ret_bytes = bytes;
    return 0;
}

/* The indexes must point back at the record. */
static int check_indexes(struct verifying *v, struct slice main_key, const struct main_record *m) {
    uint8_t id_key[IDS_KEY_BYTES], when_key[EXPIRY_KEY_BYTES];
    struct slice found;
    uint16_t db = main_key.data[0];
    ids_key(id_key, db, m->pub.id);
    int rc = table_get(&v->view->txn, TABLE_IDS, slice_of(id_key, sizeof id_key), &found);
    if (rc < 0)
        return rc;
    if (rc || !slice_equal(found, main_key) || m->pub.id >= v->view->state.next_object_id)
        return -EBADMSG;
    if (m->pub.expiry_ms == 0)
        return 0;
    v->expiring++;
    v->expiring_count[db]++;
    expiry_key(when_key, m->pub.expiry_ms, db, m->pub.id);
    rc = table_get(&v->view->txn, TABLE_EXPIRY, slice_of(when_key, sizeof when_key), &found);
    if (rc < 0)
        return rc;
    return rc || found.size > 0 ? -EBADMSG : 0;
}

static int check_record(struct verifying *v, struct slice main_key, struct slice bytes) {
    struct main_record m;
    if (main_key.size < 1 || main_key.data[0] >= STORE_DB_ALL)
        return -EBADMSG;
    int rc = record_decode(main_key, bytes, &m);
    if (rc)
        return rc;
    v->record_sum = hash128_add(v->record_sum, pair_sum(main_key, bytes));
    if ((rc = looked_at(v, main_key.size + bytes.size)))
        return rc;
    v->data_bytes += m.pub.data_bytes;
    v->key_count[main_key.data[0]]++;
    if ((rc = check_indexes(v, main_key, &m)) || !(m.flags & RECORD_OUTSIDE))
        return rc;
    struct hash128 sum;
    uint64_t size, outside_bytes;
    if ((rc = walk_outside(v, &m, &sum, &size, &outside_bytes)))
        return rc;
    return hash128_equal(sum, m.outside_sum) && size == m.pub.size &&
                   outside_bytes == m.outside_bytes
               ? 0
               : -EBADMSG;
}

static int check_count(struct verifying *v, enum table table, uint64_t want) {
    uint64_t count;
    int rc = table_count(&v->view->txn, table, &count);
    return rc ? rc : count == want ? 0 : -EBADMSG;
}

static int verify(struct verifying *v, struct hash128 *ret_digest, uint64_t *ret_offset) {
    struct store_view *view = v->view;
    CHECK(view->active);
    struct slice key, bytes;
    *ret_offset = 0;
    struct state found = view->state;
    keyspace_reset(&view->ks);
    int rc = table_first(&view->txn, TABLE_MAIN, &key, &bytes);
    for (; rc == 0; rc = table_next(&view->txn, TABLE_MAIN, &key, &bytes)) {
        if ((rc = check_record(v, key, bytes))) {
            *ret_offset = env_offset(view->txn.env, key);
            return rc;
        }
    }
    if (rc < 0)
        return rc;
    if ((rc = session_verify(&view->txn, &found.session_count, &found.session_sum)))
        return rc;
    if ((rc = once_verify(&view->txn, &found)) || (rc = changes_verify(&view->txn, &found)))
        return rc;
    found.record_sum = v->record_sum;
    found.data_bytes = v->data_bytes;
    memcpy(found.key_count, v->key_count, sizeof found.key_count);
    memcpy(found.expiring_count, v->expiring_count, sizeof found.expiring_count);
    if ((rc = check_count(v, TABLE_IDS, state_key_count(&found))) ||
        (rc = check_count(v, TABLE_EXPIRY, v->expiring)) ||
        (rc = check_count(v, TABLE_DATA, v->data_records)))
        return rc;
    uint64_t membership_index;
    struct slice membership;
    rc = state_load_membership(&view->txn, &membership_index, &membership);
    if (rc < 0)
        return rc;
    if (memcmp(&found, &view->state, sizeof found) != 0)
        return -EBADMSG;
    *ret_digest = state_digest(&found);
    return 0;
}

int store_verify_at(struct store_view *view, struct hash128 *ret_digest, uint64_t *ret_offset) {
    struct verifying v = {.view = view};
    return verify(&v, ret_digest, ret_offset);
}

int store_verify_slowly(struct store_view *view, store_verify_fn on_bytes, void *ctx,
                        struct hash128 *ret_digest) {
    struct verifying v = {.view = view, .on_bytes = on_bytes, .ctx = ctx};
    uint64_t offset;
    return verify(&v, ret_digest, &offset);
}

int store_verify(struct store_view *view, struct hash128 *ret_digest) {
    uint64_t offset;
    return store_verify_at(view, ret_digest, &offset);
}
