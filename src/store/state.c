#include "store/state.h"

#include <errno.h>

#include "base/reader.h"

enum {
    STATE_FORMAT = 4, /* of the whole environment: raised when any record changes its meaning */
    STATE_BYTES = 4 + 13 * 8 + 4 * 16 + 2 * 8 * STORE_DB_ALL + 4,
    MEMBERSHIP_FORMAT = 1,
};
#define STATE_KEY "state"
#define MEMBERSHIP_KEY "membership"

struct state state_new(void) {
    return (struct state){.next_object_id = 1, .next_node_id = 2};
}

static uint8_t *put64(uint8_t *at, uint64_t v) {
    put_u64le(at, v);
    return at + 8;
}

static struct hash128 reader_hash(struct reader *r) {
    uint64_t low = reader_u64(r);
    return (struct hash128){.low = low, .high = reader_u64(r)};
}

int state_load(struct env_txn *t, struct state *ret_state) {
    struct slice bytes;
    int rc = table_get(t, TABLE_SYS, slice_str(STATE_KEY), &bytes);
    if (rc)
        return rc;
    struct reader r = reader_of(bytes);
    uint32_t format = reader_u32(&r);
    if (reader_ok(&r) && format != STATE_FORMAT)
        return -EPROTONOSUPPORT;
    struct state s = {0};
    s.applied_index = reader_u64(&r);
    s.applied_term = reader_u64(&r);
    s.time_ms = reader_u64(&r);
    s.hash_seed = reader_u64(&r);
    s.next_object_id = reader_u64(&r);
    s.next_node_id = reader_u64(&r);
    s.data_bytes = reader_u64(&r);
    s.session_count = reader_u64(&r);
    s.once_count = reader_u64(&r);
    s.once_bytes = reader_u64(&r);
    s.change_floor = reader_u64(&r);
    s.change_count = reader_u64(&r);
    s.change_bytes = reader_u64(&r);
    s.once_sum = reader_hash(&r);
    s.record_sum = reader_hash(&r);
    s.session_sum = reader_hash(&r);
    s.change_sum = reader_hash(&r);
    for (int i = 0; i < STORE_DB_ALL; i++)
        s.key_count[i] = reader_u64(&r);
    for (int i = 0; i < STORE_DB_ALL; i++)
        s.expiring_count[i] = reader_u64(&r);
    uint32_t crc = reader_u32(&r);
    if (!reader_done(&r) || crc != crc32c(0, slice_of(bytes.data, bytes.size - 4)))
        return -EBADMSG;
    *ret_state = s;
    return 0;
}

int state_save(struct env_txn *t, const struct state *s) {
    uint8_t bytes[STATE_BYTES], *at = bytes;
    put_u32le(at, STATE_FORMAT);
    at = put64(at + 4, s->applied_index);
    at = put64(at, s->applied_term);
    at = put64(at, s->time_ms);
    at = put64(at, s->hash_seed);
    at = put64(at, s->next_object_id);
    at = put64(at, s->next_node_id);
    at = put64(at, s->data_bytes);
    at = put64(at, s->session_count);
    at = put64(at, s->once_count);
    at = put64(at, s->once_bytes);
    at = put64(at, s->change_floor);
    at = put64(at, s->change_count);
    at = put64(at, s->change_bytes);
    at = put64(at, s->once_sum.low);
    at = put64(at, s->once_sum.high);
    at = put64(at, s->record_sum.low);
    at = put64(at, s->record_sum.high);
    at = put64(at, s->session_sum.low);
    at = put64(at, s->session_sum.high);
    at = put64(at, s->change_sum.low);
    at = put64(at, s->change_sum.high);
    for (int i = 0; i < STORE_DB_ALL; i++)
        at = put64(at, s->key_count[i]);
    for (int i = 0; i < STORE_DB_ALL; i++)
        at = put64(at, s->expiring_count[i]);
    CHECK(at == bytes + sizeof bytes - 4);
    put_u32le(at, crc32c(0, slice_of(bytes, sizeof bytes - 4)));
    return table_put(t, TABLE_SYS, slice_str(STATE_KEY), slice_of(bytes, sizeof bytes));
}

struct hash128 state_digest(const struct state *s) {
    uint8_t bytes[11 * 8], *at = bytes;
    at = put64(at, s->time_ms);
    at = put64(at, s->hash_seed);
    at = put64(at, s->next_object_id);
    at = put64(at, s->next_node_id);
    at = put64(at, s->data_bytes);
    at = put64(at, state_key_count(s));
    at = put64(at, s->once_count);
    at = put64(at, s->once_bytes);
    at = put64(at, s->change_floor);
    at = put64(at, s->change_count);
    put64(at, s->change_bytes);
    struct hash128 counters = hash128(slice_of(bytes, sizeof bytes));
    struct hash128 requests = hash128_add(s->session_sum, s->once_sum);
    struct hash128 data = hash128_add(s->record_sum, s->change_sum);
    return hash128_add(counters, hash128_add(data, requests));
}

uint64_t state_key_count(const struct state *s) {
    uint64_t sum = 0;
    for (int i = 0; i < STORE_DB_ALL; i++)
        sum += s->key_count[i];
    return sum;
}

int state_load_membership(struct env_txn *t, uint64_t *ret_index, struct slice *ret_membership) {
    struct slice bytes;
    int rc = table_get(t, TABLE_SYS, slice_str(MEMBERSHIP_KEY), &bytes);
    if (rc)
        return rc;
    struct reader r = reader_of(bytes);
    uint8_t format = reader_u8(&r);
    uint32_t crc = reader_u32(&r);
    struct slice checked = slice_of(r.at, reader_left(&r));
    uint64_t index = reader_u64(&r);
    struct slice membership = reader_rest(&r);
    if (!reader_ok(&r) || format != MEMBERSHIP_FORMAT || crc != crc32c(0, checked))
        return -EBADMSG;
    *ret_index = index;
    *ret_membership = membership;
    return 0;
}

int state_save_membership(struct env_txn *t, uint64_t index, struct slice membership) {
    uint8_t *at;
    int rc = table_reserve(t, TABLE_SYS, slice_str(MEMBERSHIP_KEY), 13 + membership.size, &at);
    if (rc)
        return rc;
    at[0] = MEMBERSHIP_FORMAT;
    put_u64le(at + 5, index);
    if (membership.size > 0)
        memcpy(at + 13, membership.data, membership.size);
    put_u32le(at + 1, crc32c(0, slice_of(at + 5, 8 + membership.size)));
    return 0;
}
