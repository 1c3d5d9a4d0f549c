#include "store/session.h"

#include <errno.h>
#include <stdlib.h>

#include "base/plant.h"
#include "base/reader.h"
#include "store/record.h"

enum {
    HEADER_FORMAT = 1,
    RUN_FORMAT = 1,
    HEADER_KEY_BYTES = 16,
    RUN_KEY_BYTES = 16 + 8,
    HEADER_BYTES = 1 + 8 + 8,
    RUN_SPLIT_BYTES = 256 * 1024, /* a run is closed when it has grown to this */
    REPLY_INLINE_BYTES = 24,
    SLOTS_MIN = 16,
    BUCKETS_MIN = 16,
};

struct reply_slot {
    union {
        uint8_t small[REPLY_INLINE_BYTES]; /* up to this size */
        uint8_t *heap;
    } bytes;
    uint32_t size;
    bool used;
};

struct reply_run {
    uint64_t first; /* in its key */
    uint64_t last;  /* the highest sequence in it */
};

struct session {
    struct session_id id;
    struct session *next;       /* in its bucket */
    struct session *next_dirty; /* valid when dirty */
    bool dirty;
    uint64_t acked_below; /* from 1 */
    uint64_t end;         /* every executed sequence is lower; >= acked_below */
    uint64_t active_ms;
    uint64_t reply_bytes;
    struct reply_slot *slots; /* sequence & (slot_count - 1) */
    uint64_t slot_count;      /* power of two; 0: none yet; end - acked_below <= slot_count */
    struct reply_run *runs;   /* on disk */
    size_t run_count, run_capacity;
    uint64_t *fresh; /* executed since the last save, in the order of execution */
    size_t fresh_count, fresh_capacity;
};

/* ---- sums ---- */

static struct hash128 header_sum(const struct session *s) {
    uint8_t bytes[16];
    put_u64le(bytes, s->acked_below);
    put_u64le(bytes + 8, s->active_ms);
    return pair_sum(slice_of(s->id.bytes, sizeof s->id.bytes), slice_of(bytes, sizeof bytes));
}

static struct hash128 reply_sum(const struct session *s, uint64_t sequence, struct slice reply) {
    uint8_t key[16 + 8];
    memcpy(key, s->id.bytes, 16);
    put_u64le(key + 16, sequence);
    return pair_sum(slice_of(key, sizeof key), reply);
}

static void sum_add(struct session_table *t, struct hash128 h) {
    t->state->session_sum = hash128_add(t->state->session_sum, h);
}

static void sum_sub(struct session_table *t, struct hash128 h) {
    t->state->session_sum = hash128_sub(t->state->session_sum, h);
}

/* ---- slots ---- */

static struct reply_slot *slot_at(const struct session *s, uint64_t sequence) {
    return &s->slots[sequence & (s->slot_count - 1)];
}

static struct slice slot_reply(const struct reply_slot *slot) {
    return slice_of(slot->size <= REPLY_INLINE_BYTES ? slot->bytes.small : slot->bytes.heap,
                    slot->size);
}

static void slot_clear(struct session *s, struct reply_slot *slot) {
    if (slot->size > REPLY_INLINE_BYTES)
        free(slot->bytes.heap);
    s->reply_bytes -= slot->size;
    *slot = (struct reply_slot){0};
}

static void slot_fill(struct session *s, struct reply_slot *slot, struct slice reply) {
    CHECK(!slot->used);
    CHECK(reply.size <= UINT32_MAX);
    slot->used = true;
    slot->size = (uint32_t)reply.size;
    if (reply.size > REPLY_INLINE_BYTES)
        slot->bytes.heap = xmemdup(reply.data, reply.size);
    else if (reply.size > 0)
        memcpy(slot->bytes.small, reply.data, reply.size);
    s->reply_bytes += reply.size;
}

/* Makes the ring wide enough for a sequence and moves the end behind it. */
static void reach(struct session *s, uint64_t sequence) {
    uint64_t span = sequence - s->acked_below + 1;
    if (span > s->slot_count) {
        uint64_t count = s->slot_count ? s->slot_count : SLOTS_MIN;
        while (count < span)
            count *= 2;
        struct reply_slot *slots = xcalloc(count, sizeof slots[0]);
        for (uint64_t q = s->acked_below; q < s->end; q++)
            slots[q & (count - 1)] = *slot_at(s, q);
        free(s->slots);
        s->slots = slots;
        s->slot_count = count;
    }
    if (sequence >= s->end)
        s->end = sequence + 1;
}

/* ---- the table ---- */

void session_table_init(struct session_table *t, struct state *state) {
    *t = (struct session_table){.state = state, .oldest_ms = UINT64_MAX};
    t->bucket_count = BUCKETS_MIN;
    t->buckets = xcalloc(t->bucket_count, sizeof(struct session *));
}

static void session_free(struct session *s) {
    for (uint64_t q = s->acked_below; q < s->end; q++)
        slot_clear(s, slot_at(s, q));
    CHECK(s->reply_bytes == 0);
    free(s->slots);
    free(s->runs);
    free(s->fresh);
    free(s);
}

void session_table_fini(struct session_table *t) {
    for (size_t i = 0; i < t->bucket_count; i++) {
        for (struct session *s = t->buckets[i], *next; s; s = next) {
            next = s->next;
            session_free(s);
        }
    }
    free(t->buckets);
    buf_fini(&t->scratch);
    *t = (struct session_table){0};
}

bool session_id_is_zero(const struct session_id *id) {
    static const struct session_id zero;
    return memcmp(id, &zero, sizeof zero) == 0;
}

static struct session **bucket_of(const struct session_table *t, const struct session_id *id) {
    uint64_t hash = hash64(slice_of(id->bytes, sizeof id->bytes), t->state->hash_seed);
    return &t->buckets[hash & (t->bucket_count - 1)];
}

struct session *session_find(const struct session_table *t, const struct session_id *id) {
    struct session *s = *bucket_of(t, id);
    while (s && memcmp(&s->id, id, sizeof *id) != 0)
        s = s->next;
    return s;
}

static void grow_buckets(struct session_table *t) {
    struct session **old = t->buckets;
    size_t old_count = t->bucket_count;
    t->bucket_count *= 2;
    t->buckets = xcalloc(t->bucket_count, sizeof(struct session *));
    for (size_t i = 0; i < old_count; i++) {
        for (struct session *s = old[i], *next; s; s = next) {
            next = s->next;
            struct session **bucket = bucket_of(t, &s->id);
            s->next = *bucket;
            *bucket = s;
        }
    }
    free(old);
}

static void mark_dirty(struct session_table *t, struct session *s) {
    if (s->dirty)
        return;
    s->dirty = true;
    s->next_dirty = t->dirty;
    t->dirty = s;
}

static struct session *insert(struct session_table *t, const struct session_id *id,
                              uint64_t acked_below, uint64_t active_ms) {
    if (t->state->session_count >= t->bucket_count)
        grow_buckets(t);
    struct session *s = xcalloc(1, sizeof *s);
    s->id = *id;
    s->acked_below = s->end = acked_below;
    s->active_ms = active_ms;
    struct session **bucket = bucket_of(t, id);
    s->next = *bucket;
    *bucket = s;
    t->state->session_count++;
    if (active_ms < t->oldest_ms)
        t->oldest_ms = active_ms;
    sum_add(t, header_sum(s));
    return s;
}

struct session *session_create(struct session_table *t, const struct session_id *id,
                               uint64_t time_ms) {
    if (t->state->session_count >= SESSION_COUNT_MAX)
        return NULL;
    struct session *s = insert(t, id, 1, time_ms);
    mark_dirty(t, s);
    return s;
}

void session_touch(struct session_table *t, struct session *s, uint64_t acked_below,
                   uint64_t time_ms) {
    sum_sub(t, header_sum(s));
    s->active_ms = time_ms;
    if (acked_below > s->acked_below) {
        uint64_t until = acked_below < s->end ? acked_below : s->end;
        for (uint64_t q = s->acked_below; q < until; q++) {
            struct reply_slot *slot = slot_at(s, q);
            if (slot->used) {
                sum_sub(t, reply_sum(s, q, slot_reply(slot)));
                slot_clear(s, slot);
            }
        }
        s->acked_below = acked_below;
        if (s->end < acked_below)
            s->end = acked_below;
    }
    sum_add(t, header_sum(s));
    mark_dirty(t, s);
}

enum session_lookup session_lookup(const struct session *s, uint64_t sequence,
                                   struct slice *ret_reply) {
    if (sequence < s->acked_below)
        return SESSION_ACKED;
    if (sequence - s->acked_below >= SESSION_WINDOW)
        return SESSION_TOO_FAR;
    if (sequence >= s->end)
        return SESSION_NEW;
    const struct reply_slot *slot = slot_at(s, sequence);
    if (!slot->used)
        return SESSION_NEW;
    *ret_reply = slot_reply(slot);
    return SESSION_KNOWN;
}

void session_keep(struct session_table *t, struct session *s, uint64_t sequence,
                  struct slice reply) {
    static const char too_large[] =
        "-NOTKEPT executed, but the reply was too large to keep; applied: yes\r\n";
    if (s->reply_bytes + reply.size > SESSION_REPLY_BYTES_MAX)
        reply = slice_str(too_large);
    if (PLANTED(PLANT_FORGET_REPLY))
        return;
    reach(s, sequence);
    slot_fill(s, slot_at(s, sequence), reply);
    sum_add(t, reply_sum(s, sequence, reply));
    if (s->fresh_count == s->fresh_capacity) {
        s->fresh_capacity = s->fresh_capacity ? 2 * s->fresh_capacity : 16;
        s->fresh = xrealloc(s->fresh, s->fresh_capacity * sizeof s->fresh[0]);
    }
    s->fresh[s->fresh_count++] = sequence;
    mark_dirty(t, s);
}

/* ---- silence ---- */

static bool is_silent(uint64_t active_ms, uint64_t now_ms) {
    return now_ms >= SESSION_SILENT_MS && active_ms <= now_ms - SESSION_SILENT_MS;
}

bool session_table_any_silent(struct session_table *t, uint64_t now_ms) {
    if (!is_silent(t->oldest_ms, now_ms))
        return false;
    t->oldest_ms = UINT64_MAX;
    for (size_t i = 0; i < t->bucket_count; i++) {
        for (const struct session *s = t->buckets[i]; s; s = s->next) {
            if (s->active_ms < t->oldest_ms)
                t->oldest_ms = s->active_ms;
        }
    }
    return is_silent(t->oldest_ms, now_ms);
}

static int compare_silence(const void *a, const void *b) {
    const struct session *x = *(struct session *const *)a, *y = *(struct session *const *)b;
    if (x->active_ms != y->active_ms)
        return x->active_ms < y->active_ms ? -1 : 1;
    return memcmp(&x->id, &y->id, sizeof x->id);
}

static int remove_session(struct session_table *t, struct env_txn *txn, struct session *s) {
    for (struct session **at = bucket_of(t, &s->id); *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    for (struct session **at = &t->dirty; s->dirty && *at; at = &(*at)->next_dirty) {
        if (*at == s) {
            *at = s->next_dirty;
            break;
        }
    }
    for (uint64_t q = s->acked_below; q < s->end; q++) {
        if (slot_at(s, q)->used)
            sum_sub(t, reply_sum(s, q, slot_reply(slot_at(s, q))));
    }
    sum_sub(t, header_sum(s));
    t->state->session_count--;
    int rc = table_delete_prefix(txn, TABLE_SESSIONS, slice_of(s->id.bytes, sizeof s->id.bytes));
    session_free(s);
    return rc;
}

int session_table_sweep(struct session_table *t, struct env_txn *txn, uint64_t now_ms,
                        uint64_t *ret_removed) {
    struct session **silent = NULL;
    size_t count = 0, capacity = 0;
    for (size_t i = 0; i < t->bucket_count; i++) {
        for (struct session *s = t->buckets[i]; s; s = s->next) {
            if (!is_silent(s->active_ms, now_ms))
                continue;
            if (count == capacity) {
                capacity = capacity ? 2 * capacity : 64;
                silent = xrealloc(silent, capacity * sizeof(struct session *));
            }
            silent[count++] = s;
        }
    }
    /* The order in the buckets differs between nodes: which go first must not depend on it. */
    if (count > 0)
        qsort(silent, count, sizeof(struct session *), compare_silence);
    if (count > SESSION_SWEEP_MAX)
        count = SESSION_SWEEP_MAX;
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = remove_session(t, txn, silent[i]);
    free(silent);
    if (rc == 0)
        *ret_removed = count;
    return rc;
}

/* ---- records ---- */

static void add_run(struct session *s, uint64_t first, uint64_t last) {
    if (s->run_count == s->run_capacity) {
        s->run_capacity = s->run_capacity ? 2 * s->run_capacity : 4;
        s->runs = xrealloc(s->runs, s->run_capacity * sizeof s->runs[0]);
    }
    s->runs[s->run_count++] = (struct reply_run){.first = first, .last = last};
}

static void run_key(uint8_t out[RUN_KEY_BYTES], const struct session *s, uint64_t first) {
    memcpy(out, s->id.bytes, 16);
    put_u64be(out + 16, first);
}

static int save_run(struct session_table *t, struct env_txn *txn, struct session *s, uint64_t first,
                    uint64_t last) {
    uint8_t key[RUN_KEY_BYTES];
    run_key(key, s, first);
    add_run(s, first, last);
    return table_put(txn, TABLE_SESSIONS, slice_of(key, sizeof key), buf_slice(&t->scratch));
}

static int save_fresh(struct session_table *t, struct env_txn *txn, struct session *s) {
    uint64_t first = 0, last = 0;
    buf_reset(&t->scratch);
    for (size_t i = 0; i < s->fresh_count; i++) {
        uint64_t sequence = s->fresh[i];
        if (sequence < s->acked_below)
            continue;
        if (t->scratch.size == 0) {
            buf_append_u8(&t->scratch, RUN_FORMAT);
            first = last = sequence;
        }
        if (sequence > last)
            last = sequence;
        buf_append_u64(&t->scratch, sequence);
        buf_append_lstr(&t->scratch, slot_reply(slot_at(s, sequence)));
        if (t->scratch.size >= RUN_SPLIT_BYTES) {
            int rc = save_run(t, txn, s, first, last);
            if (rc)
                return rc;
            buf_reset(&t->scratch);
        }
    }
    s->fresh_count = 0;
    return t->scratch.size > 0 ? save_run(t, txn, s, first, last) : 0;
}

static int drop_acked_runs(struct env_txn *txn, struct session *s) {
    size_t kept = 0;
    for (size_t i = 0; i < s->run_count; i++) {
        if (s->runs[i].last >= s->acked_below) {
            s->runs[kept++] = s->runs[i];
            continue;
        }
        uint8_t key[RUN_KEY_BYTES];
        run_key(key, s, s->runs[i].first);
        int rc = table_delete(txn, TABLE_SESSIONS, slice_of(key, sizeof key));
        if (rc)
            return rc < 0 ? rc : -EBADMSG;
    }
    s->run_count = kept;
    return 0;
}

int session_table_save(struct session_table *t, struct env_txn *txn) {
    while (t->dirty) {
        struct session *s = t->dirty;
        uint8_t header[HEADER_BYTES] = {HEADER_FORMAT};
        put_u64le(header + 1, s->acked_below);
        put_u64le(header + 9, s->active_ms);
        int rc = table_put(txn, TABLE_SESSIONS, slice_of(s->id.bytes, sizeof s->id.bytes),
                           slice_of(header, sizeof header));
        if (rc == 0)
            rc = drop_acked_runs(txn, s);
        if (rc == 0)
            rc = save_fresh(t, txn, s);
        if (rc)
            return rc;
        t->dirty = s->next_dirty;
        s->dirty = false;
    }
    if (t->scratch.capacity > 4 * RUN_SPLIT_BYTES)
        buf_fini(&t->scratch);
    return 0;
}

static int load_header(struct session_table *t, struct slice key, struct slice bytes,
                       struct session **ret_session) {
    struct session_id id;
    struct reader r = reader_of(bytes);
    uint8_t format = reader_u8(&r);
    uint64_t acked_below = reader_u64(&r);
    uint64_t active_ms = reader_u64(&r);
    if (!reader_done(&r) || format != HEADER_FORMAT || acked_below == 0)
        return -EBADMSG;
    memcpy(id.bytes, key.data, sizeof id.bytes);
    *ret_session = insert(t, &id, acked_below, active_ms);
    return 0;
}

static int load_run(struct session_table *t, struct session *s, struct slice key,
                    struct slice bytes) {
    struct reader r = reader_of(bytes);
    uint8_t format = reader_u8(&r);
    uint64_t first = get_u64be(key.data + HEADER_KEY_BYTES), last = first;
    while (reader_ok(&r) && reader_left(&r) > 0) {
        uint64_t sequence = reader_u64(&r);
        struct slice reply = reader_lstr(&r), known;
        if (!reader_ok(&r))
            break;
        if (sequence > last)
            last = sequence;
        if (sequence < s->acked_below)
            continue;
        if (session_lookup(s, sequence, &known) != SESSION_NEW)
            return -EBADMSG;
        reach(s, sequence);
        slot_fill(s, slot_at(s, sequence), reply);
        sum_add(t, reply_sum(s, sequence, reply));
    }
    if (!reader_done(&r) || format != RUN_FORMAT)
        return -EBADMSG;
    add_run(s, first, last);
    return 0;
}

static int load_all(struct session_table *t, struct env_txn *txn) {
    struct slice key, bytes;
    struct session *s = NULL;
    int rc = table_first(txn, TABLE_SESSIONS, &key, &bytes);
    for (; rc == 0; rc = table_next(txn, TABLE_SESSIONS, &key, &bytes)) {
        if (key.size == HEADER_KEY_BYTES)
            rc = load_header(t, key, bytes, &s);
        else if (key.size == RUN_KEY_BYTES && s && memcmp(key.data, s->id.bytes, 16) == 0)
            rc = load_run(t, s, key, bytes);
        else
            rc = -EBADMSG;
        if (rc)
            return rc;
    }
    return rc < 0 ? rc : 0;
}

int session_table_load(struct session_table *t, struct env_txn *txn) {
    struct state *state = t->state;
    uint64_t count = state->session_count;
    struct hash128 sum = state->session_sum;
    state->session_count = 0;
    state->session_sum = (struct hash128){0};
    int rc = load_all(t, txn);
    if (rc)
        return rc;
    return count == state->session_count && hash128_equal(sum, state->session_sum) ? 0 : -EBADMSG;
}

int session_verify(struct env_txn *txn, uint64_t *ret_count, struct hash128 *ret_sum) {
    struct state state = {0};
    struct session_table t;
    session_table_init(&t, &state);
    int rc = load_all(&t, txn);
    session_table_fini(&t);
    if (rc == 0) {
        *ret_count = state.session_count;
        *ret_sum = state.session_sum;
    }
    return rc;
}
