/* The commands over hashes. Fields stand in the order of their hash values: an order that is the
 * same on every node, but not that of insertion. */
#include <math.h>
#include <stdlib.h>

#include "base/glob.h"
#include "base/num.h"
#include "store/call.h"

enum {
    /* Hashes up to this size come back whole from one HSCAN, as those that Redis packs do. */
    HSCAN_WHOLE_MEMBERS = 128,
    /* With one more of the largest values it still fits into a reply. */
    HSCAN_PAGE_BYTES_MAX = 4 * 1024 * 1024,
};

/* ---- writing ---- */

static bool check_field_and_value(struct call *c, size_t at) {
    return call_check_field(c, at) && call_check_value(c, c->args[at + 1].size);
}

/* Finds a hash to write to: 0 also when the key is missing. */
static int find_hash_to_write(struct call *c) {
    struct record rec;
    int rc = call_find(c, c->args[1], RECORD_HASH, &rec);
    return rc == CALL_MISSING ? 0 : rc;
}

/* HSET and HMSET. */
int call_hset(struct call *c) {
    int64_t added_count = 0;
    if (c->count % 2 == 1) {
        command_reply_arity(c->out, c->command);
        return 0;
    }
    for (size_t i = 2; i < c->count; i += 2)
        if (!check_field_and_value(c, i))
            return 0;
    if (c->check_only)
        return 0;
    int rc = find_hash_to_write(c);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    for (size_t i = 2; i < c->count; i += 2) {
        bool added;
        rc = keyspace_member_put(c->ks, c->db, c->args[1], c->args[i], c->args[i + 1], &added);
        if (rc < 0)
            return rc;
        added_count += added;
    }
    if (strcmp(c->command->name, "HMSET") == 0)
        reply_simple(c->out, "OK");
    else
        reply_int(c->out, added_count);
    return 0;
}

int call_hsetnx(struct call *c) {
    struct slice old;
    bool added;
    if (!check_field_and_value(c, 2) || c->check_only)
        return 0;
    int rc = find_hash_to_write(c);
    if (rc == 0)
        rc = keyspace_member_get(c->ks, c->db, c->args[1], c->args[2], &old);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    reply_int(c->out, rc == KEYSPACE_MISSING);
    if (rc == 0)
        return 0;
    return keyspace_member_put(c->ks, c->db, c->args[1], c->args[2], c->args[3], &added);
}

int call_hdel(struct call *c) {
    struct record rec;
    int64_t deleted = 0;
    for (size_t i = 2; i < c->count; i++)
        if (!call_check_field(c, i))
            return 0;
    if (c->check_only)
        return 0;
    int rc = call_find(c, c->args[1], RECORD_HASH, &rec);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    /* The key goes with its last field: what is left of the arguments then finds nothing. */
    for (size_t i = 2; rc == 0 && i < c->count && (uint64_t)deleted < rec.size; i++) {
        int found = keyspace_member_delete(c->ks, c->db, c->args[1], c->args[i]);
        if (found < 0)
            return found;
        deleted += found == 0;
    }
    reply_int(c->out, deleted);
    return 0;
}

/* The member's value before an increment; a missing member is CALL_MISSING. */
static int find_counter(struct call *c, struct slice *ret_value) {
    int rc = find_hash_to_write(c);
    return rc ? rc : keyspace_member_get(c->ks, c->db, c->args[1], c->args[2], ret_value);
}

static int put_counter(struct call *c, const struct buf *text) {
    bool added;
    return keyspace_member_put(c->ks, c->db, c->args[1], c->args[2], buf_slice(text), &added);
}

int call_hincrby(struct call *c) {
    struct slice value;
    int64_t by, n = 0;
    if (!call_get_i64(c, 3, &by) || !call_check_field(c, 2) || c->check_only)
        return 0;
    int rc = find_counter(c, &value);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    if (rc == 0 && !num_parse_i64(value, &n)) {
        reply_error(c->out, "ERR hash value is not an integer");
        return 0;
    }
    if (__builtin_add_overflow(n, by, &n)) {
        reply_error(c->out, "ERR increment or decrement would overflow");
        return 0;
    }
    struct buf text = {0};
    num_append_i64(&text, n);
    rc = put_counter(c, &text);
    buf_fini(&text);
    reply_int(c->out, n);
    return rc;
}

int call_hincrbyfloat(struct call *c) {
    struct slice value;
    long double by, n = 0;
    if (!call_get_float(c, 3, &by))
        return 0;
    if (isinf(by)) {
        reply_error(c->out, "ERR value is NaN or Infinity");
        return 0;
    }
    if (!call_check_field(c, 2) || c->check_only)
        return 0;
    int rc = find_counter(c, &value);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    if (rc == 0 && !num_parse_float(value, &n)) {
        reply_error(c->out, "ERR hash value is not a float");
        return 0;
    }
    n += by;
    if (isnan(n) || isinf(n)) {
        reply_error(c->out, "ERR increment would produce NaN or Infinity");
        return 0;
    }
    struct buf text = {0};
    num_append_float(&text, n);
    rc = 0;
    if (call_room_or_error(c, text.size)) {
        rc = put_counter(c, &text);
        reply_bulk(c->out, buf_slice(&text));
    }
    buf_fini(&text);
    return rc;
}

/* ---- reading members ---- */

/* Finds the hash and then the field of argument 2. */
static int find_member(struct call *c, struct slice *ret_value) {
    struct record rec;
    int rc = call_find(c, c->args[1], RECORD_HASH, &rec);
    return rc ? rc : keyspace_member_get(c->ks, c->db, c->args[1], c->args[2], ret_value);
}

int call_hget(struct call *c) {
    struct slice value;
    if (!call_check_field(c, 2) || c->check_only)
        return 0;
    int rc = find_member(c, &value);
    if (rc == 0)
        reply_bulk(c->out, value);
    else if (rc == CALL_MISSING)
        reply_null(c->out);
    return rc < 0 ? rc : 0;
}

int call_hexists(struct call *c) {
    struct slice value;
    if (!call_check_field(c, 2) || c->check_only)
        return 0;
    int rc = find_member(c, &value);
    if (rc == 0 || rc == CALL_MISSING)
        reply_int(c->out, rc == 0);
    return rc < 0 ? rc : 0;
}

int call_hstrlen(struct call *c) {
    struct slice value = {0};
    if (!call_check_field(c, 2) || c->check_only)
        return 0;
    int rc = find_member(c, &value);
    if (rc == 0 || rc == CALL_MISSING)
        reply_int(c->out, rc == 0 ? (int64_t)value.size : 0);
    return rc < 0 ? rc : 0;
}

int call_hmget(struct call *c) {
    struct record rec;
    for (size_t i = 2; i < c->count; i++)
        if (!call_check_field(c, i))
            return 0;
    if (c->check_only)
        return 0;
    int found = call_find(c, c->args[1], RECORD_HASH, &rec);
    if (found < 0 || found == CALL_ANSWERED)
        return found < 0 ? found : 0;
    reply_array(c->out, c->count - 2);
    for (size_t i = 2; i < c->count && call_room(c, 0); i++) {
        struct slice value;
        int rc = found ? CALL_MISSING
                       : keyspace_member_get(c->ks, c->db, c->args[1], c->args[i], &value);
        if (rc < 0)
            return rc;
        if (rc == 0)
            reply_bulk(c->out, value);
        else
            reply_null(c->out);
    }
    return 0;
}

int call_hlen(struct call *c) {
    struct record rec;
    if (c->check_only)
        return 0;
    int rc = call_find(c, c->args[1], RECORD_HASH, &rec);
    if (rc == 0 || rc == CALL_MISSING)
        reply_int(c->out, rc == 0 ? (int64_t)rec.size : 0);
    return rc < 0 ? rc : 0;
}

/* ---- reading all of it ---- */

enum { WITH_FIELDS = 1, WITH_VALUES = 2 };

static int reply_members(struct call *c, unsigned what) {
    struct record rec = {0};
    struct member_cursor at = {0};
    if (c->check_only)
        return 0;
    int rc = call_find(c, c->args[1], RECORD_HASH, &rec);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    uint64_t count = rc == 0 ? rec.size : 0;
    if (what == (WITH_FIELDS | WITH_VALUES))
        reply_map(c->out, count);
    else
        reply_array(c->out, count);
    while (count > 0 && call_room(c, 0)) {
        struct slice field, value;
        rc = keyspace_member_next(c->ks, c->db, c->args[1], &at, &field, &value);
        if (rc < 0)
            return rc;
        CHECK(rc == 0); /* the record counts its members */
        if (what & WITH_FIELDS)
            reply_bulk(c->out, field);
        if (what & WITH_VALUES)
            reply_bulk(c->out, value);
        count--;
    }
    return 0;
}

int call_hgetall(struct call *c) {
    return reply_members(c, WITH_FIELDS | WITH_VALUES);
}

int call_hkeys(struct call *c) {
    return reply_members(c, WITH_FIELDS);
}

int call_hvals(struct call *c) {
    return reply_members(c, WITH_VALUES);
}

/* ---- HSCAN ---- */

struct hscan_page {
    struct buf items;
    uint64_t count;
    uint64_t next; /* the cursor for the next page; 0: that was all */
};

/* A cursor is a hash value, so a page ends only where the hash value changes: members that share
 * one stand on the same page. */
static int hscan_fill(struct call *c, uint64_t cursor, const struct scan_options *o,
                      struct hscan_page *page) {
    struct member_cursor at = {.hash = cursor};
    for (uint64_t looked = 0;; looked++) {
        struct slice field, value;
        struct member_cursor before = at;
        int rc = keyspace_member_next(c->ks, c->db, c->args[1], &at, &field, &value);
        if (rc != 0)
            return rc;
        bool full = looked >= o->count || page->items.size > HSCAN_PAGE_BYTES_MAX;
        if (full && at.hash != before.hash) {
            /* A suffix: the member before had this hash, and it was the last one that has. */
            page->next = before.hash + (before.suffix > 0);
            return 0;
        }
        if (scan_matches_all(o) || glob_match(o->pattern, field)) {
            reply_bulk(&page->items, field);
            reply_bulk(&page->items, value);
            page->count += 2;
        }
    }
}

int call_hscan(struct call *c) {
    struct scan_options o;
    struct hscan_page page = {0};
    struct record rec;
    uint64_t cursor;
    if (!call_get_cursor(c, 2, &cursor))
        return 0;
    if (c->check_only) {
        (void)call_get_scan_options(c, 3, false, &o);
        return 0;
    }
    int rc = call_find(c, c->args[1], RECORD_HASH, &rec);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    if (rc == 0) {
        if (!call_get_scan_options(c, 3, false, &o))
            return 0;
        if (rec.size <= HSCAN_WHOLE_MEMBERS && o.count < HSCAN_WHOLE_MEMBERS)
            o.count = HSCAN_WHOLE_MEMBERS;
        rc = hscan_fill(c, cursor, &o, &page);
    }
    struct buf text = {0};
    num_append_u64(&text, page.next);
    reply_array(c->out, 2);
    reply_bulk(c->out, buf_slice(&text));
    reply_array(c->out, page.count);
    buf_append_slice(c->out, buf_slice(&page.items));
    buf_fini(&text);
    buf_fini(&page.items);
    return rc < 0 ? rc : 0;
}

/* ---- HRANDFIELD ---- */

enum { REPEATED_PICKS_MAX = 1 << 20 };

/* Distinct members: each of the `left` ones ahead is taken with the chance wanted / left (Knuth,
 * TAOCP 2, algorithm 3.4.2 S), in the order of the walk. The header of the reply is the caller's.
 */
static int reply_distinct(struct call *c, uint64_t size, uint64_t wanted, bool with_values) {
    struct member_cursor at = {0};
    for (uint64_t left = size; wanted > 0 && call_room(c, 0); left--) {
        struct slice field, value;
        int rc = keyspace_member_next(c->ks, c->db, c->args[1], &at, &field, &value);
        if (rc < 0)
            return rc;
        CHECK(rc == 0); /* the record counts its members */
        if (rand_below(keyspace_rand(c->ks), left) >= wanted)
            continue;
        reply_bulk(c->out, field);
        if (with_values)
            reply_bulk(c->out, value);
        wanted--;
    }
    return 0;
}

/* A member that was drawn: its position in the walk, its place in the reply, and where its bytes
 * were collected. */
struct pick {
    uint64_t member;
    uint64_t place;
    size_t start, size;
};

static int compare_members(const void *a, const void *b) {
    const struct pick *x = a, *y = b;
    return (x->member > y->member) - (x->member < y->member);
}

static int compare_places(const void *a, const void *b) {
    const struct pick *x = a, *y = b;
    return (x->place > y->place) - (x->place < y->place);
}

/* Collects the picked members, which are sorted by their position, in one walk. It ends early when
 * there is no room for them. */
static int collect_picks(struct call *c, struct pick *picks, uint64_t count, bool with_values,
                         struct buf *items) {
    struct member_cursor at = {0};
    uint64_t i = 0;
    for (uint64_t member = 0; i < count && call_room(c, items->size); member++) {
        struct slice field, value;
        int rc = keyspace_member_next(c->ks, c->db, c->args[1], &at, &field, &value);
        if (rc < 0)
            return rc;
        CHECK(rc == 0); /* the record counts its members */
        for (; i < count && picks[i].member == member && call_room(c, items->size); i++) {
            picks[i].start = items->size;
            reply_bulk(items, field);
            if (with_values)
                reply_bulk(items, value);
            picks[i].size = items->size - picks[i].start;
        }
    }
    return 0;
}

/* Any members, the same one perhaps several times, in the order they were drawn in. */
static int reply_repeated(struct call *c, uint64_t size, uint64_t wanted, bool with_values) {
    if (wanted > REPEATED_PICKS_MAX) {
        reply_error(c->out, "ERR value is out of range, at most %d fields can be asked for",
                    REPEATED_PICKS_MAX);
        return 0;
    }
    struct pick *picks = xcalloc(wanted, sizeof picks[0]);
    struct buf items = {0};
    for (uint64_t i = 0; i < wanted; i++) {
        picks[i].member = rand_below(keyspace_rand(c->ks), size);
        picks[i].place = i;
    }
    qsort(picks, wanted, sizeof picks[0], compare_members);
    int rc = collect_picks(c, picks, wanted, with_values, &items);
    qsort(picks, wanted, sizeof picks[0], compare_places);
    reply_array(c->out, with_values ? 2 * wanted : wanted);
    for (uint64_t i = 0; i < wanted; i++)
        buf_append(c->out, items.data + picks[i].start, picks[i].size);
    free(picks);
    buf_fini(&items);
    return rc;
}

int call_hrandfield(struct call *c) {
    struct record rec;
    int64_t count = 1;
    bool with_count = c->count > 2, with_values = c->count == 4;
    if (with_count && !call_get_i64(c, 2, &count))
        return 0;
    if (count == INT64_MIN) {
        reply_error(c->out, "ERR value is out of range, value must between %lld and %lld",
                    -(long long)INT64_MAX, (long long)INT64_MAX);
        return 0;
    }
    if (c->count > 4 || (with_values && !slice_equal_nocase(c->args[3], "withvalues"))) {
        call_syntax_error(c);
        return 0;
    }
    if (with_values && (count < -INT64_MAX / 2 || count > INT64_MAX / 2)) {
        reply_error(c->out, "ERR value is out of range");
        return 0;
    }
    if (c->check_only)
        return 0;
    int rc = call_find(c, c->args[1], RECORD_HASH, &rec);
    if (rc == CALL_MISSING && !with_count)
        reply_null(c->out);
    else if (rc == CALL_MISSING || (rc == 0 && count == 0))
        reply_array(c->out, 0);
    if (rc != 0 || count == 0)
        return rc < 0 ? rc : 0;
    if (count < 0)
        return reply_repeated(c, rec.size, (uint64_t)-count, with_values);
    uint64_t wanted = (uint64_t)count < rec.size ? (uint64_t)count : rec.size;
    if (with_count)
        reply_array(c->out, with_values ? 2 * wanted : wanted);
    return reply_distinct(c, rec.size, wanted, with_values);
}
