#include "store/changes.h"

#include <errno.h>

#include "base/plant.h"
#include "store/keyspace_impl.h"

enum {
    RUN_FORMAT = 1,
    RUN_HEADER_BYTES = 1 + 4 + 4,
    POSITION_BITS = 20,
    POSITION_MASK = (1 << POSITION_BITS) - 1,
    CHANGE_BYTES = 4 + 1 + 1 + 4,         /* besides the key */
    CHANGE_PUT_BYTES = 1 + 1 + 8 + 8 + 4, /* besides the content type */
    FLAG_VALUE = 1,
};

/* ---- gathering ---- */

void change_log_fini(struct change_log *log) {
    buf_fini(&log->run);
}

static bool same_key(const struct change_log *log, const struct change *c) {
    return log->count > 0 && log->last == c->revision && log->last_db == c->db &&
           log->last_key_bytes == c->key.size &&
           memcmp(log->run.data + log->last_key_at, c->key.data, c->key.size) == 0;
}

static uint8_t *put_bytes(uint8_t *at, struct slice s) {
    put_u32le(at, (uint32_t)s.size);
    if (s.size > 0)
        memcpy(at + 4, s.data, s.size);
    return at + 4 + s.size;
}

/* Every write does this: one reservation for all fields. */
static void put_change(struct buf *run, const struct change *c) {
    bool put = c->op == CHANGE_PUT;
    bool with_value = put && c->has_value && c->value.size <= CHANGE_VALUE_BYTES_MAX;
    size_t size = CHANGE_BYTES + c->key.size;
    size += put ? CHANGE_PUT_BYTES + c->content_type.size : 0;
    size += with_value ? 4 + c->value.size : 0;
    uint8_t *at = buf_reserve(run, size);
    put_u32le(at, (uint32_t)c->revision & POSITION_MASK);
    at[4] = (uint8_t)c->op;
    at[5] = (uint8_t)c->db;
    at = put_bytes(at + 6, c->key);
    if (put) {
        at[0] = (uint8_t)c->type;
        at[1] = with_value ? FLAG_VALUE : 0;
        put_u64le(at + 2, c->expiry_ms);
        put_u64le(at + 10, c->size);
        at = put_bytes(at + 18, c->content_type);
    }
    if (with_value)
        put_bytes(at, c->value);
    buf_commit(run, size);
}

void change_log_add(struct change_log *log, const struct change *c) {
    struct buf *run = &log->run;
    if (log->muted)
        return;
    if (same_key(log, c)) {
        run->size = log->last_at; /* only what it has become is to be seen */
        log->count--;
    }
    if (log->count == 0 && run->size == 0) {
        log->first = c->revision;
        buf_append_u8(run, RUN_FORMAT);
        buf_append_u32(run, 0);
        buf_append_u32(run, 0);
    }
    log->last_at = run->size;
    log->last_key_at = run->size + CHANGE_BYTES;
    log->last_key_bytes = (uint32_t)c->key.size;
    log->last_db = c->db;
    log->last = c->revision;
    log->count++;
    put_change(run, c);
}

/* ---- storing ---- */

static void run_key(uint8_t out[CHANGES_KEY_BYTES], uint64_t first, uint32_t run) {
    put_u64be(out, first);
    put_u32be(out + 8, run);
}

/* The oldest runs go while there are too many changes; the newest one stays. */
static int trim(struct env_txn *t, struct state *state, uint64_t count_max) {
    while (state->change_count > count_max || state->change_bytes > CHANGES_BYTES_MAX) {
        struct slice key, bytes;
        struct reader changes;
        uint64_t first, last;
        uint32_t count;
        int rc = table_first(t, TABLE_CHANGES, &key, &bytes);
        if (rc)
            return rc < 0 ? rc : -EBADMSG;
        if (!changes_run_decode(key, bytes, &first, &last, &count, &changes) ||
            count > state->change_count || key.size + bytes.size > state->change_bytes)
            return -EBADMSG;
        if (count == state->change_count)
            return 0;
        if (!PLANTED(PLANT_CHANGES_FLOOR))
            state->change_floor = last;
        state->change_count -= count;
        state->change_bytes -= key.size + bytes.size;
        state->change_sum = hash128_sub(state->change_sum, pair_sum(key, bytes));
        if ((rc = table_delete_current(t, TABLE_CHANGES)))
            return rc < 0 ? rc : -EBADMSG;
    }
    return 0;
}

int changes_flush(struct env_txn *t, struct state *state, struct change_log *log, bool entry_ends) {
    enum { KEEP_BYTES = 4 * CHANGES_RUN_BYTES };
    uint8_t key[CHANGES_KEY_BYTES];
    int rc = 0;
    if (log->count > 0) {
        struct slice k = slice_of(key, sizeof key);
        run_key(key, log->first, log->runs);
        buf_patch_u32(&log->run, 1, log->count);
        buf_patch_u32(&log->run, 5, (uint32_t)log->last & POSITION_MASK);
        state->change_count += log->count;
        state->change_bytes += k.size + log->run.size;
        state->change_sum = hash128_add(state->change_sum, pair_sum(k, buf_slice(&log->run)));
        rc = table_put(t, TABLE_CHANGES, k, buf_slice(&log->run));
        if (rc == 0)
            rc = trim(t, state, log->count_max ? log->count_max : CHANGES_COUNT_MAX);
        log->runs++;
    }
    log->count = 0;
    buf_reset(&log->run);
    if (log->run.capacity > KEEP_BYTES)
        buf_fini(&log->run);
    if (entry_ends)
        log->runs = 0;
    return rc;
}

int changes_clear(struct env_txn *t, struct state *state, uint64_t floor) {
    state->change_floor = floor;
    state->change_count = state->change_bytes = 0;
    state->change_sum = (struct hash128){0};
    return table_clear(t, TABLE_CHANGES);
}

/* ---- taking apart ---- */

bool change_next(struct reader *run, uint64_t index, struct change *ret_change) {
    struct change c = {0};
    uint32_t position = reader_u32(run);
    c.revision = index << POSITION_BITS | position;
    c.op = (enum change_op)reader_u8(run);
    c.db = reader_u8(run);
    c.key = reader_lstr(run);
    if (!reader_ok(run) || position > POSITION_MASK || c.op < CHANGE_PUT || c.op > CHANGE_FLUSH ||
        c.db >= STORE_DB_ALL || (c.op == CHANGE_FLUSH && c.key.size > 0))
        return false;
    if (c.op == CHANGE_PUT) {
        c.type = (enum record_type)reader_u8(run);
        uint8_t flags = reader_u8(run);
        c.expiry_ms = reader_u64(run);
        c.size = reader_u64(run);
        c.content_type = reader_lstr(run);
        c.has_value = flags & FLAG_VALUE;
        if (c.has_value)
            c.value = reader_lstr(run);
        if (!reader_ok(run) || (c.type != RECORD_STRING && c.type != RECORD_HASH) ||
            flags > FLAG_VALUE || c.value.size > CHANGE_VALUE_BYTES_MAX)
            return false;
    }
    *ret_change = c;
    return true;
}

bool changes_run_decode(struct slice key, struct slice bytes, uint64_t *ret_first,
                        uint64_t *ret_last, uint32_t *ret_count, struct reader *ret_changes) {
    if (key.size != CHANGES_KEY_BYTES || bytes.size <= RUN_HEADER_BYTES)
        return false;
    struct reader r = reader_of(bytes);
    uint8_t format = reader_u8(&r);
    uint32_t count = reader_u32(&r);
    uint32_t last = reader_u32(&r);
    uint64_t first = get_u64be(key.data);
    if (format != RUN_FORMAT || count == 0 || last > POSITION_MASK ||
        last < (first & POSITION_MASK))
        return false;
    *ret_first = first;
    *ret_last = (first & ~(uint64_t)POSITION_MASK) | last;
    *ret_count = count;
    *ret_changes = r;
    return true;
}

/* ---- checking ---- */

static int check_run(struct slice key, struct slice bytes, uint64_t *floor, uint32_t *ret_count) {
    struct reader r;
    struct change c = {0};
    uint64_t first, last, at;
    if (!changes_run_decode(key, bytes, &first, &last, ret_count, &r) || first < *floor)
        return -EBADMSG;
    at = first;
    for (uint32_t i = 0; i < *ret_count; i++) {
        if (!change_next(&r, first >> POSITION_BITS, &c) || c.revision < at ||
            (i == 0 && c.revision != first))
            return -EBADMSG;
        at = c.revision;
    }
    if (!reader_done(&r) || at != last)
        return -EBADMSG;
    *floor = last;
    return 0;
}

int changes_verify(struct env_txn *t, struct state *found) {
    struct slice key, bytes;
    uint64_t floor = found->change_floor; /* one revision may be cut at the old end */
    found->change_count = found->change_bytes = 0;
    found->change_sum = (struct hash128){0};
    int rc = table_first(t, TABLE_CHANGES, &key, &bytes);
    for (; rc == 0; rc = table_next(t, TABLE_CHANGES, &key, &bytes)) {
        uint32_t count;
        if ((rc = check_run(key, bytes, &floor, &count)))
            return rc;
        found->change_count += count;
        found->change_bytes += key.size + bytes.size;
        found->change_sum = hash128_add(found->change_sum, pair_sum(key, bytes));
    }
    return rc < 0 ? rc : 0;
}

/* ---- reading ---- */

uint64_t keyspace_changes_floor(const struct keyspace *ks) {
    return ks->state->change_floor;
}

/* The run in which the first change behind `after` may stand. */
static int seek_run(struct env_txn *t, uint64_t after, struct slice *key, struct slice *bytes) {
    uint8_t want[CHANGES_KEY_BYTES];
    run_key(want, after + 1, 0);
    int rc = table_seek(t, TABLE_CHANGES, slice_of(want, sizeof want), key, bytes);
    if (rc < 0)
        return rc;
    int before = rc == TABLE_END ? table_last(t, TABLE_CHANGES, key, bytes)
                                 : table_prev(t, TABLE_CHANGES, key, bytes);
    if (before != TABLE_END)
        return before;
    return table_first(t, TABLE_CHANGES, key, bytes);
}

static int cursor_take_run(struct change_cursor *cursor, struct slice key, struct slice bytes) {
    uint64_t first, last;
    struct reader r;
    if (!changes_run_decode(key, bytes, &first, &last, &cursor->left, &r))
        return -EBADMSG;
    cursor->index = first >> POSITION_BITS;
    cursor->run = r;
    return 0;
}

int keyspace_change_next(struct keyspace *ks, struct change_cursor *cursor,
                         struct change *ret_change) {
    struct env_txn *t = ks->txn;
    struct slice key, bytes;
    for (;;) {
        while (cursor->left > 0) {
            if (!change_next(&cursor->run, cursor->index, ret_change))
                return -EBADMSG;
            cursor->left--;
            if (ret_change->revision > cursor->after)
                return 0;
        }
        int rc = cursor->begun ? table_next(t, TABLE_CHANGES, &key, &bytes)
                               : seek_run(t, cursor->after, &key, &bytes);
        cursor->begun = true;
        if (rc)
            return rc < 0 ? rc : KEYSPACE_MISSING;
        if ((rc = cursor_take_run(cursor, key, bytes)))
            return rc;
    }
}
