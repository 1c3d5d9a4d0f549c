/* The commands over keys of any type, and over whole databases. */
#include <stdlib.h>

#include "base/glob.h"
#include "base/num.h"
#include "store/call.h"

enum { SCAN_PAGE_BYTES_MAX = 4 * 1024 * 1024 };

/* ---- whole databases ---- */

int call_dbsize(struct call *c) {
    if (!c->check_only)
        reply_int(c->out, (int64_t)keyspace_count(c->ks, c->db));
    return 0;
}

static int flush(struct call *c, uint16_t first, uint16_t last) {
    if (c->count > 2 || (c->count == 2 && !slice_equal_nocase(c->args[1], "sync") &&
                         !slice_equal_nocase(c->args[1], "async"))) {
        call_syntax_error(c);
        return 0;
    }
    if (c->check_only)
        return 0;
    for (unsigned db = first; db <= last; db++) {
        int rc = keyspace_flush(c->ks, (uint16_t)db);
        if (rc < 0)
            return rc;
    }
    reply_simple(c->out, "OK");
    return 0;
}

int call_flushdb(struct call *c) {
    return flush(c, c->db, c->db);
}

int call_flushall(struct call *c) {
    return flush(c, 0, STORE_DB_COUNT - 1);
}

/* ---- existence and type ---- */

int call_del(struct call *c) {
    int64_t deleted = 0;
    if (c->check_only)
        return 0;
    for (size_t i = 1; i < c->count; i++) {
        int rc = keyspace_delete(c->ks, c->db, c->args[i]);
        if (rc < 0)
            return rc;
        deleted += rc == 0;
    }
    reply_int(c->out, deleted);
    return 0;
}

int call_exists(struct call *c) {
    int64_t found = 0;
    if (c->check_only)
        return 0;
    for (size_t i = 1; i < c->count; i++) {
        struct record rec;
        int rc = keyspace_find(c->ks, c->db, c->args[i], &rec);
        if (rc < 0)
            return rc;
        found += rc == 0;
    }
    reply_int(c->out, found);
    return 0;
}

int call_touch(struct call *c) {
    return call_exists(c);
}

int call_type(struct call *c) {
    struct record rec;
    if (c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc >= 0)
        reply_simple(c->out, rc == 0 ? call_type_name(rec.type) : "none");
    return rc < 0 ? rc : 0;
}

/* ---- expiry ---- */

enum { EXPIRE_NX = 1, EXPIRE_XX = 2, EXPIRE_GT = 4, EXPIRE_LT = 8 };

static bool parse_expire_options(struct call *c, unsigned *ret_flags) {
    static const char *const names[] = {"nx", "xx", "gt", "lt"};
    unsigned flags = 0;
    for (size_t at = 3; at < c->count; at++) {
        size_t i = 0;
        while (i < ARRAY_COUNT(names) && !slice_equal_nocase(c->args[at], names[i]))
            i++;
        if (i == ARRAY_COUNT(names)) {
            int shown = c->args[at].size < 128 ? (int)c->args[at].size : 128;
            reply_error(c->out, "ERR Unsupported option %.*s", shown,
                        (const char *)c->args[at].data);
            return false;
        }
        flags |= 1u << i;
    }
    if ((flags & EXPIRE_NX) && (flags & ~EXPIRE_NX)) {
        reply_error(c->out, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if ((flags & EXPIRE_GT) && (flags & EXPIRE_LT)) {
        reply_error(c->out, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    *ret_flags = flags;
    return true;
}

/* A missing expiry counts as infinitely late. */
static bool expire_allowed(unsigned flags, uint64_t current_ms, int64_t when_ms) {
    if (flags & EXPIRE_NX)
        return current_ms == 0;
    if ((flags & EXPIRE_XX) && current_ms == 0)
        return false;
    if (flags & EXPIRE_GT)
        return current_ms != 0 && when_ms > (int64_t)current_ms;
    if (flags & EXPIRE_LT)
        return current_ms == 0 || when_ms < (int64_t)current_ms;
    return true;
}

static int expire_at(struct call *c, enum expiry_unit unit, bool absolute) {
    unsigned flags;
    int64_t when;
    struct record rec;
    if (!parse_expire_options(c, &flags) || !call_get_i64(c, 2, &when))
        return 0;
    if ((unit == EXPIRY_SECONDS && __builtin_mul_overflow(when, 1000, &when)) ||
        (!absolute && __builtin_add_overflow(when, (int64_t)keyspace_now_ms(c->ks), &when))) {
        call_expiry_error(c);
        return 0;
    }
    if (c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc < 0)
        return rc;
    bool set = rc == 0 && expire_allowed(flags, rec.expiry_ms, when);
    reply_int(c->out, set);
    return set ? call_set_expiry(c, c->args[1], when) : 0;
}

int call_expire(struct call *c) {
    return expire_at(c, EXPIRY_SECONDS, false);
}

int call_pexpire(struct call *c) {
    return expire_at(c, EXPIRY_MILLISECONDS, false);
}

int call_expireat(struct call *c) {
    return expire_at(c, EXPIRY_SECONDS, true);
}

int call_pexpireat(struct call *c) {
    return expire_at(c, EXPIRY_MILLISECONDS, true);
}

static int reply_expiry(struct call *c, enum expiry_unit unit, bool absolute) {
    struct record rec;
    if (c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc < 0)
        return rc;
    if (rc == KEYSPACE_MISSING || rec.expiry_ms == 0) {
        reply_int(c->out, rc == KEYSPACE_MISSING ? -2 : -1);
        return 0;
    }
    uint64_t ms = rec.expiry_ms - (absolute ? 0 : keyspace_now_ms(c->ks));
    reply_int(c->out, (int64_t)(unit == EXPIRY_SECONDS ? (ms + 500) / 1000 : ms));
    return 0;
}

int call_ttl(struct call *c) {
    return reply_expiry(c, EXPIRY_SECONDS, false);
}

int call_pttl(struct call *c) {
    return reply_expiry(c, EXPIRY_MILLISECONDS, false);
}

int call_expiretime(struct call *c) {
    return reply_expiry(c, EXPIRY_SECONDS, true);
}

int call_pexpiretime(struct call *c) {
    return reply_expiry(c, EXPIRY_MILLISECONDS, true);
}

int call_persist(struct call *c) {
    struct record rec;
    if (c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc < 0)
        return rc;
    bool change = rc == 0 && rec.expiry_ms != 0;
    reply_int(c->out, change);
    return change ? keyspace_set_expiry(c->ks, c->db, c->args[1], 0) : 0;
}

/* ---- renaming, copying, moving ---- */

static int move_key(struct call *c, uint16_t to_db, struct slice to) {
    int rc = keyspace_copy(c->ks, c->db, c->args[1], to_db, to);
    if (rc == 0)
        rc = keyspace_delete(c->ks, c->db, c->args[1]);
    CHECK(rc <= 0); /* the caller has found the key */
    return rc;
}

static int rename_key(struct call *c, bool only_new) {
    struct record rec;
    if (c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc == KEYSPACE_MISSING)
        reply_error(c->out, "ERR no such key");
    if (rc != 0)
        return rc < 0 ? rc : 0;
    bool same = slice_equal(c->args[1], c->args[2]);
    rc = only_new ? keyspace_find(c->ks, c->db, c->args[2], &rec) : KEYSPACE_MISSING;
    if (rc < 0)
        return rc;
    bool renamed = rc == KEYSPACE_MISSING;
    if (only_new)
        reply_int(c->out, renamed);
    else
        reply_simple(c->out, "OK");
    return renamed && !same ? move_key(c, c->db, c->args[2]) : 0;
}

int call_rename(struct call *c) {
    return rename_key(c, false);
}

int call_renamenx(struct call *c) {
    return rename_key(c, true);
}

/* Whether source and destination are the same key; an error reply then. */
static bool same_object(struct call *c, uint16_t to_db, struct slice to) {
    if (to_db != c->db || !slice_equal(c->args[1], to))
        return false;
    reply_error(c->out, "ERR source and destination objects are the same");
    return true;
}

int call_copy(struct call *c) {
    uint16_t to_db = c->db;
    bool replace = false;
    struct slice to = c->args[2];
    struct record rec;
    for (size_t at = 3; at < c->count; at++) {
        if (slice_equal_nocase(c->args[at], "replace")) {
            replace = true;
        } else if (slice_equal_nocase(c->args[at], "db") && at + 1 < c->count) {
            if (!call_get_db(c, ++at, &to_db))
                return 0;
        } else {
            call_syntax_error(c);
            return 0;
        }
    }
    if (same_object(c, to_db, to) || c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc == 0 && !replace) {
        rc = keyspace_find(c->ks, to_db, to, &rec);
        rc = rc < 0 ? rc : rc == 0 ? KEYSPACE_MISSING : 0;
    }
    if (rc < 0)
        return rc;
    reply_int(c->out, rc == 0);
    return rc == 0 ? keyspace_copy(c->ks, c->db, c->args[1], to_db, to) : 0;
}

int call_move(struct call *c) {
    uint16_t to_db;
    struct record rec;
    if (!call_get_db(c, 2, &to_db) || same_object(c, to_db, c->args[1]) || c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc < 0)
        return rc;
    bool move = rc == 0;
    if (move) {
        rc = keyspace_find(c->ks, to_db, c->args[1], &rec);
        if (rc < 0)
            return rc;
        move = rc == KEYSPACE_MISSING;
    }
    reply_int(c->out, move);
    return move ? move_key(c, to_db, c->args[1]) : 0;
}

/* ---- looking around ---- */

int call_randomkey(struct call *c) {
    uint64_t first, last;
    struct slice key;
    struct record rec;
    if (c->check_only)
        return 0;
    int rc = keyspace_id_bounds(c->ks, c->db, &first, &last);
    if (rc == 0) {
        /* Ids have gaps where keys were deleted: the key behind a gap is likelier than others. */
        uint64_t from = first + rand_below(keyspace_rand(c->ks), last - first + 1);
        rc = keyspace_scan(c->ks, c->db, from, &key, &rec);
        if (rc == KEYSPACE_MISSING)
            rc = keyspace_scan(c->ks, c->db, first, &key, &rec);
    }
    if (rc == 0)
        reply_bulk(c->out, key);
    else if (rc == KEYSPACE_MISSING)
        reply_null(c->out);
    return rc < 0 ? rc : 0;
}

/* Appends `count` collected elements as one array; takes them. */
static void reply_collected(struct call *c, struct buf *items, uint64_t count) {
    reply_array(c->out, count);
    buf_append_slice(c->out, buf_slice(items));
    buf_fini(items);
}

int call_keys(struct call *c) {
    struct slice pattern = c->args[1], prefix = glob_literal_prefix(pattern);
    struct buf items = {0}, after = {0};
    uint64_t count = 0;
    int rc = 0;
    if (!call_check_pattern(c, pattern) || c->check_only)
        return 0;
    buf_append_slice(&after, prefix);
    for (bool first = true; rc == 0 && call_room(c, items.size); first = false) {
        struct slice key;
        struct record rec;
        rc = keyspace_next_key(c->ks, c->db, buf_slice(&after), first, &key, &rec);
        if (rc != 0 || !slice_starts_with(key, prefix))
            break;
        if (glob_match(pattern, key)) {
            reply_bulk(&items, key);
            count++;
        }
        buf_reset(&after);
        buf_append_slice(&after, key);
    }
    buf_fini(&after);
    reply_collected(c, &items, count);
    return rc < 0 ? rc : 0;
}

int call_scan(struct call *c) {
    struct scan_options o;
    struct buf items = {0};
    uint64_t cursor, count = 0, looked = 0;
    if (!call_get_cursor(c, 1, &cursor) || !call_get_scan_options(c, 2, true, &o) || c->check_only)
        return 0;
    int rc;
    for (;;) {
        struct slice key;
        struct record rec;
        rc = keyspace_scan(c->ks, c->db, cursor, &key, &rec);
        if (rc != 0)
            break;
        if (looked++ == o.count || items.size > SCAN_PAGE_BYTES_MAX) {
            cursor = rec.id;
            break;
        }
        if ((scan_matches_all(&o) || glob_match(o.pattern, key)) &&
            (!o.type.data || slice_equal_nocase(o.type, call_type_name(rec.type)))) {
            reply_bulk(&items, key);
            count++;
        }
        cursor = rec.id + 1;
    }
    struct buf text = {0};
    num_append_u64(&text, rc == KEYSPACE_MISSING ? 0 : cursor);
    reply_array(c->out, 2);
    reply_bulk(c->out, buf_slice(&text));
    buf_fini(&text);
    reply_collected(c, &items, count);
    return rc < 0 ? rc : 0;
}

/* ---- OBJECT ---- */

/* What Redis holds values in, by its default thresholds. */
enum {
    EMBSTR_BYTES_MAX = 44,
    LISTPACK_MEMBERS_MAX = 128,
    LISTPACK_MEMBER_BYTES_MAX = 64,
};

static int reply_encoding(struct call *c, struct slice key, const struct record *rec) {
    struct slice field, value;
    int64_t n;
    if (rec->type == RECORD_STRING) {
        int rc = keyspace_value(c->ks, c->db, key, &value);
        if (rc == 0)
            reply_bulk_str(c->out, num_parse_i64(value, &n)         ? "int"
                                   : value.size <= EMBSTR_BYTES_MAX ? "embstr"
                                                                    : "raw");
        return rc;
    }
    struct member_cursor at = {0};
    bool small = rec->size <= LISTPACK_MEMBERS_MAX;
    while (small) {
        int rc = keyspace_member_next(c->ks, c->db, key, &at, &field, &value);
        if (rc < 0)
            return rc;
        if (rc == KEYSPACE_MISSING)
            break;
        small = field.size <= LISTPACK_MEMBER_BYTES_MAX && value.size <= LISTPACK_MEMBER_BYTES_MAX;
    }
    reply_bulk_str(c->out, small ? "listpack" : "hashtable");
    return 0;
}

static void reply_object_help(struct call *c) {
    static const char *const lines[] = {
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation Redis would use for the value.",
        "FREQ <key>",
        "    Not tracked by this server: an error.",
        "IDLETIME <key>",
        "    Not tracked by this server: an error.",
        "REFCOUNT <key>",
        "    Return 1: values are not shared.",
        "HELP",
        "    Print this help.",
    };
    reply_array(c->out, ARRAY_COUNT(lines));
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++)
        reply_simple(c->out, lines[i]);
}

int call_object(struct call *c) {
    enum { ENCODING, REFCOUNT, IDLETIME, FREQ, HELP };
    static const char *const names[] = {"encoding", "refcount", "idletime", "freq", "help"};
    size_t what = 0;
    while (what < ARRAY_COUNT(names) && !slice_equal_nocase(c->args[1], names[what]))
        what++;
    if (what == ARRAY_COUNT(names)) {
        int shown = c->args[1].size < 128 ? (int)c->args[1].size : 128;
        reply_error(c->out, "ERR unknown subcommand '%.*s'. Try OBJECT HELP.", shown,
                    (const char *)c->args[1].data);
        return 0;
    }
    if (c->count != (what == HELP ? 2 : 3)) {
        reply_error(c->out, "ERR wrong number of arguments for 'object|%s' command", names[what]);
        return 0;
    }
    if (c->check_only)
        return 0;
    if (what == HELP) {
        reply_object_help(c);
        return 0;
    }
    struct record rec;
    int rc = c->args[2].size <= STORE_KEY_BYTES_MAX ? keyspace_find(c->ks, c->db, c->args[2], &rec)
                                                    : KEYSPACE_MISSING;
    if (rc == KEYSPACE_MISSING)
        reply_null(c->out);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (what == ENCODING)
        return reply_encoding(c, c->args[2], &rec);
    if (what == REFCOUNT)
        reply_int(c->out, 1);
    else if (what == IDLETIME)
        reply_error(c->out, "ERR the idle time of keys is not tracked");
    else
        reply_error(c->out, "ERR An LFU maxmemory policy is not selected, access frequency not "
                            "tracked. Please note that when switching between policies at runtime "
                            "LRU and LFU data will take some time to adjust.");
    return 0;
}
