#include "store/once.h"

#include <errno.h>

#include "base/reader.h"
#include "store/record.h"

enum {
    RECORD_FORMAT = 1,
    RECORD_HEADER_BYTES = 1 + 8 + 16 + 8,
    EXPIRY_HEADER_BYTES = 8,
};
_Static_assert(EXPIRY_HEADER_BYTES + ONCE_ID_BYTES_MAX <= TABLE_KEY_BYTES_MAX, "LMDB's keys");

static const char too_large[] = "-NOTKEPT the request was executed before, and its answer was too "
                                "large to keep; applied: yes\r\n";

struct expiry_key {
    uint8_t bytes[EXPIRY_HEADER_BYTES + ONCE_ID_BYTES_MAX];
    size_t size;
};

static struct slice expiry_key_of(struct expiry_key *k, uint64_t expiry_ms, struct slice id) {
    CHECK(id.size <= ONCE_ID_BYTES_MAX);
    put_u64be(k->bytes, expiry_ms);
    memcpy(k->bytes + EXPIRY_HEADER_BYTES, id.data, id.size);
    k->size = EXPIRY_HEADER_BYTES + id.size;
    return slice_of(k->bytes, k->size);
}

struct hash128 once_fingerprint(uint16_t db, const struct slice *args, size_t count) {
    uint8_t chain[16 + 16];
    struct hash128 hash = {.low = db, .high = count};
    for (size_t i = 0; i < count; i++) {
        struct hash128 arg = hash128(args[i]);
        put_u64le(chain, hash.low);
        put_u64le(chain + 8, hash.high);
        put_u64le(chain + 16, arg.low);
        put_u64le(chain + 24, arg.high);
        hash = hash128(slice_of(chain, sizeof chain));
    }
    return hash;
}

static int record_take_apart(struct slice id, struct slice bytes, struct once_record *ret_record) {
    struct once_record record;
    struct reader r = reader_of(bytes);
    uint8_t format = reader_u8(&r);
    record.expiry_ms = reader_u64(&r);
    record.fingerprint.low = reader_u64(&r);
    record.fingerprint.high = reader_u64(&r);
    record.index = reader_u64(&r);
    record.reply = reader_rest(&r);
    if (!reader_ok(&r) || format != RECORD_FORMAT || id.size == 0 || id.size > ONCE_ID_BYTES_MAX ||
        record.reply.size == 0 || record.reply.size > ONCE_REPLY_BYTES_MAX)
        return -EBADMSG;
    *ret_record = record;
    return 0;
}

/* What one record takes of ONCE_BYTES_MAX; its id stands in both tables. */
static uint64_t record_bytes(struct slice id, const struct once_record *record) {
    return ONCE_RECORD_BYTES + 2 * id.size + record->reply.size;
}

int once_find(struct env_txn *t, struct slice id, uint64_t now_ms, struct once_record *ret_record) {
    struct slice bytes;
    struct once_record record;
    int rc = table_get(t, TABLE_ONCE, id, &bytes);
    if (rc)
        return rc < 0 ? rc : ONCE_MISSING;
    if ((rc = record_take_apart(id, bytes, &record)))
        return rc;
    if (record.expiry_ms <= now_ms)
        return ONCE_MISSING;
    *ret_record = record;
    return 0;
}

bool once_full(const struct state *state) {
    return state->once_count >= ONCE_COUNT_MAX ||
           state->once_bytes + ONCE_RECORD_BYTES + 2 * ONCE_ID_BYTES_MAX + ONCE_REPLY_BYTES_MAX >
               ONCE_BYTES_MAX;
}

/* TABLE_END when there is no such record. */
static int remove_record(struct env_txn *t, struct state *state, struct slice id) {
    struct slice bytes;
    struct once_record record;
    struct expiry_key key;
    int rc = table_get(t, TABLE_ONCE, id, &bytes);
    if (rc || (rc = record_take_apart(id, bytes, &record)))
        return rc;
    state->once_sum = hash128_sub(state->once_sum, pair_sum(id, bytes));
    state->once_bytes -= record_bytes(id, &record);
    state->once_count--;
    if ((rc = table_delete(t, TABLE_ONCE, id)) == 0)
        rc = table_delete(t, TABLE_ONCE_EXPIRY, expiry_key_of(&key, record.expiry_ms, id));
    return rc > 0 ? -EBADMSG : rc;
}

int once_keep(struct env_txn *t, struct state *state, struct slice id,
              const struct once_record *record) {
    struct once_record kept = *record;
    struct expiry_key key;
    uint8_t *at;
    CHECK(id.size > 0);
    CHECK(kept.reply.size > 0);
    if (kept.reply.size > ONCE_REPLY_BYTES_MAX)
        kept.reply = slice_str(too_large);
    int rc = remove_record(t, state, id);
    if (rc < 0)
        return rc;
    size_t size = RECORD_HEADER_BYTES + kept.reply.size;
    if ((rc = table_reserve(t, TABLE_ONCE, id, size, &at)))
        return rc;
    at[0] = RECORD_FORMAT;
    put_u64le(at + 1, kept.expiry_ms);
    put_u64le(at + 9, kept.fingerprint.low);
    put_u64le(at + 17, kept.fingerprint.high);
    put_u64le(at + 25, kept.index);
    memcpy(at + RECORD_HEADER_BYTES, kept.reply.data, kept.reply.size);
    state->once_sum = hash128_add(state->once_sum, pair_sum(id, slice_of(at, size)));
    state->once_bytes += record_bytes(id, &kept);
    state->once_count++;
    return table_put(t, TABLE_ONCE_EXPIRY, expiry_key_of(&key, kept.expiry_ms, id),
                     slice_of(NULL, 0));
}

/* The oldest: 0, TABLE_END or < 0. The id borrows from the transaction. */
static int first_expiry(struct env_txn *t, uint64_t *ret_ms, struct slice *ret_id) {
    struct slice key;
    int rc = table_first(t, TABLE_ONCE_EXPIRY, &key, NULL);
    if (rc)
        return rc;
    if (key.size <= EXPIRY_HEADER_BYTES || key.size > EXPIRY_HEADER_BYTES + ONCE_ID_BYTES_MAX)
        return -EBADMSG;
    *ret_ms = get_u64be(key.data);
    *ret_id = slice_of(key.data + EXPIRY_HEADER_BYTES, key.size - EXPIRY_HEADER_BYTES);
    return 0;
}

int once_first_expiry(struct env_txn *t, uint64_t *ret_ms) {
    struct slice id;
    *ret_ms = UINT64_MAX;
    int rc = first_expiry(t, ret_ms, &id);
    return rc < 0 ? rc : 0;
}

int once_sweep(struct env_txn *t, struct state *state, uint64_t now_ms, uint64_t limit,
               uint64_t *ret_removed) {
    uint64_t removed = 0;
    for (; removed < limit; removed++) {
        uint8_t copy[ONCE_ID_BYTES_MAX]; /* the id lies where it is deleted */
        struct slice id;
        uint64_t expiry_ms;
        int rc = first_expiry(t, &expiry_ms, &id);
        if (rc < 0)
            return rc;
        if (rc || expiry_ms > now_ms)
            break;
        memcpy(copy, id.data, id.size);
        if ((rc = remove_record(t, state, slice_of(copy, id.size))))
            return rc < 0 ? rc : -EBADMSG;
    }
    *ret_removed = removed;
    return 0;
}

int once_verify(struct env_txn *t, struct state *found) {
    struct slice id, bytes, nothing;
    uint64_t expiries;
    found->once_count = found->once_bytes = 0;
    found->once_sum = (struct hash128){0};
    int rc = table_first(t, TABLE_ONCE, &id, &bytes);
    for (; rc == 0; rc = table_next(t, TABLE_ONCE, &id, &bytes)) {
        struct once_record record;
        struct expiry_key key;
        if ((rc = record_take_apart(id, bytes, &record)))
            return rc;
        found->once_sum = hash128_add(found->once_sum, pair_sum(id, bytes));
        found->once_bytes += record_bytes(id, &record);
        found->once_count++;
        rc = table_get(t, TABLE_ONCE_EXPIRY, expiry_key_of(&key, record.expiry_ms, id), &nothing);
        if (rc || nothing.size > 0)
            return rc < 0 ? rc : -EBADMSG;
    }
    if (rc < 0 || (rc = table_count(t, TABLE_ONCE_EXPIRY, &expiries)))
        return rc;
    return expiries == found->once_count ? 0 : -EBADMSG;
}
