/* Keys in byte order and in the order of their ids. */
#include <errno.h>
#include <stdlib.h>

#include "store/keyspace_impl.h"

static int hand_out(struct keyspace *ks, struct slice main_key, struct slice bytes,
                    struct slice *ret_key, struct record *ret_record) {
    int rc = keyspace_set_at(ks, main_key, bytes);
    if (rc)
        return rc;
    *ret_key = record_key(main_key, &ks->at);
    *ret_record = ks->at.pub;
    return 0;
}

/* ---- long keys ---- */

static int compare_slices(const void *a, const void *b) {
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Gathers the long keys that begin with prefix (db and MAIN_SHORT_BYTES_MAX bytes). */
static int load_group(struct keyspace *ks, const uint8_t *prefix) {
    struct long_group *g = &ks->group;
    if (g->valid && memcmp(g->prefix, prefix, sizeof g->prefix) == 0)
        return 0;
    g->valid = false;
    g->count = 0;
    memcpy(g->prefix, prefix, sizeof g->prefix);
    struct slice want = slice_of(g->prefix, sizeof g->prefix), key, bytes;
    ks->at_state = AT_NOWHERE;
    int rc = table_seek(ks->txn, TABLE_MAIN, want, &key, &bytes);
    for (; rc == 0 && slice_starts_with(key, want);
         rc = table_next(ks->txn, TABLE_MAIN, &key, &bytes)) {
        struct main_record m;
        if (!main_key_is_long(key))
            continue; /* the short key that is the prefix itself */
        if ((rc = record_decode(key, bytes, &m)))
            return rc;
        if (g->count == g->capacity) {
            g->capacity = g->capacity ? 2 * g->capacity : 16;
            g->keys = xrealloc(g->keys, g->capacity * sizeof g->keys[0]);
        }
        g->keys[g->count++] = m.long_key;
    }
    if (rc < 0)
        return rc;
    if (g->count > 0)
        qsort(g->keys, g->count, sizeof g->keys[0], compare_slices);
    g->valid = true;
    return 0;
}

/* The first visible key of the group that is > after (>= when or_equal): 0 and `at`, or
 * KEYSPACE_MISSING. */
static int group_next(struct keyspace *ks, const uint8_t *prefix, struct slice after,
                      bool or_equal) {
    uint8_t group_prefix[1 + MAIN_SHORT_BYTES_MAX];
    memcpy(group_prefix, prefix, sizeof group_prefix);
    int rc = load_group(ks, group_prefix);
    if (rc)
        return rc;
    const struct long_group *g = &ks->group;
    size_t low = 0, high = g->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = slice_compare(g->keys[mid], after);
        if (c > 0 || (c == 0 && or_equal))
            high = mid;
        else
            low = mid + 1;
    }
    for (; low < g->count; low++) {
        rc = keyspace_locate_visible(ks, group_prefix[0], g->keys[low]);
        if (rc != KEYSPACE_MISSING)
            return rc;
    }
    return KEYSPACE_MISSING;
}

/* The first record of main behind all long keys with this prefix. */
static int seek_past_group(struct keyspace *ks, const uint8_t *prefix, struct slice *ret_key,
                           struct slice *ret_bytes) {
    struct main_key last = {.size = MAIN_LONG_BYTES};
    memcpy(last.bytes, prefix, 1 + MAIN_SHORT_BYTES_MAX);
    memset(last.bytes + 1 + MAIN_SHORT_BYTES_MAX, 0xff, MAIN_HASH_BYTES + MAIN_SUFFIX_BYTES);
    ks->at_state = AT_NOWHERE;
    int rc = table_seek(ks->txn, TABLE_MAIN, main_key_slice(&last), ret_key, ret_bytes);
    if (rc == 0 && slice_equal(*ret_key, main_key_slice(&last)))
        rc = table_next(ks->txn, TABLE_MAIN, ret_key, ret_bytes);
    return rc;
}

/* Where the iteration begins among the short keys, as records of main. */
static int seek_short(struct keyspace *ks, uint16_t db, struct slice after, bool or_equal,
                      struct slice *ret_key, struct slice *ret_bytes) {
    struct main_key *at = &ks->at_key;
    bool here = ks->at_state != AT_NOWHERE && at->size == after.size + 1 && at->bytes[0] == db &&
                (after.size == 0 || memcmp(at->bytes + 1, after.data, after.size) == 0);
    ks->at_state = AT_NOWHERE;
    if (here && !or_equal)
        return table_next(ks->txn, TABLE_MAIN, ret_key, ret_bytes);
    at->size = (uint16_t)(after.size + 1);
    at->bytes[0] = (uint8_t)db;
    if (after.size > 0)
        memmove(at->bytes + 1, after.data, after.size);
    int rc = table_seek(ks->txn, TABLE_MAIN, main_key_slice(at), ret_key, ret_bytes);
    if (rc == 0 && !or_equal && slice_equal(*ret_key, main_key_slice(at)))
        rc = table_next(ks->txn, TABLE_MAIN, ret_key, ret_bytes);
    return rc;
}

int keyspace_next_key(struct keyspace *ks, uint16_t db, struct slice after, bool or_equal,
                      struct slice *ret_key, struct record *ret_record) {
    struct slice key, bytes;
    int rc;
    if (db >= STORE_DB_ALL)
        return KEYSPACE_MISSING;
    if (after.size > MAIN_SHORT_BYTES_MAX) {
        uint8_t prefix[1 + MAIN_SHORT_BYTES_MAX];
        prefix[0] = (uint8_t)db;
        memcpy(prefix + 1, after.data, MAIN_SHORT_BYTES_MAX);
        rc = group_next(ks, prefix, after, or_equal);
        if (rc == KEYSPACE_MISSING)
            rc = seek_past_group(ks, prefix, &key, &bytes);
        else if (rc == 0)
            goto located;
    } else {
        rc = seek_short(ks, db, after, or_equal, &key, &bytes);
    }
    while (rc == 0 && key.data[0] == db) {
        if (main_key_is_long(key)) {
            uint8_t prefix[1 + MAIN_SHORT_BYTES_MAX];
            memcpy(prefix, key.data, sizeof prefix);
            rc = group_next(ks, prefix, slice_of(NULL, 0), true);
            if (rc == 0)
                goto located;
            if (rc == KEYSPACE_MISSING)
                rc = seek_past_group(ks, prefix, &key, &bytes);
        } else {
            rc = hand_out(ks, key, bytes, ret_key, ret_record);
            if (rc || keyspace_visible(ks, &ks->at))
                return rc;
            ks->at_state = AT_NOWHERE;
            rc = table_next(ks->txn, TABLE_MAIN, &key, &bytes);
        }
    }
    return rc < 0 ? rc : KEYSPACE_MISSING;
located:
    *ret_key = ks->at.long_key;
    *ret_record = ks->at.pub;
    return 0;
}

/* ---- by id ---- */

static int check_id_key(struct slice key) {
    return key.size == IDS_KEY_BYTES ? 0 : -EBADMSG;
}

int keyspace_scan(struct keyspace *ks, uint16_t db, uint64_t from_id, struct slice *ret_key,
                  struct record *ret_record) {
    uint8_t want[IDS_KEY_BYTES];
    struct slice key, main_key, found, bytes;
    if (db >= STORE_DB_ALL)
        return KEYSPACE_MISSING;
    ids_key(want, db, from_id);
    int rc = table_seek(ks->txn, TABLE_IDS, slice_of(want, sizeof want), &key, &main_key);
    for (; rc == 0; rc = table_next(ks->txn, TABLE_IDS, &key, &main_key)) {
        if ((rc = check_id_key(key)))
            return rc;
        if (key.data[0] != db)
            return KEYSPACE_MISSING;
        if ((rc = keyspace_locate_main(ks, main_key)))
            return rc;
        if (ks->at.pub.id != get_u64be(key.data + 1) || keyspace_at_db(ks) != db)
            return -EBADMSG;
        if (!keyspace_visible(ks, &ks->at))
            continue;
        if ((rc = table_current(ks->txn, TABLE_MAIN, &found, &bytes)))
            return rc;
        *ret_key = record_key(found, &ks->at);
        *ret_record = ks->at.pub;
        return 0;
    }
    return rc < 0 ? rc : KEYSPACE_MISSING;
}

int keyspace_id_bounds(struct keyspace *ks, uint16_t db, uint64_t *ret_first, uint64_t *ret_last) {
    uint8_t want[IDS_KEY_BYTES];
    struct slice key;
    if (db >= STORE_DB_ALL)
        return KEYSPACE_MISSING;
    ids_key(want, db, 0);
    int rc = table_seek(ks->txn, TABLE_IDS, slice_of(want, sizeof want), &key, NULL);
    if (rc)
        return rc < 0 ? rc : KEYSPACE_MISSING;
    if ((rc = check_id_key(key)))
        return rc;
    if (key.data[0] != db)
        return KEYSPACE_MISSING;
    uint64_t first = get_u64be(key.data + 1);

    ids_key(want, db, UINT64_MAX);
    rc = table_seek(ks->txn, TABLE_IDS, slice_of(want, sizeof want), &key, NULL);
    if (rc == 0)
        rc = table_prev(ks->txn, TABLE_IDS, &key, NULL);
    else if (rc == TABLE_END)
        rc = table_last(ks->txn, TABLE_IDS, &key, NULL);
    if (rc)
        return rc < 0 ? rc : -EBADMSG;
    if ((rc = check_id_key(key)))
        return rc;
    if (key.data[0] != db)
        return -EBADMSG;
    *ret_first = first;
    *ret_last = get_u64be(key.data + 1);
    return 0;
}
