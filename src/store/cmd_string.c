/* The commands over strings. */
#include <math.h>

#include "base/num.h"
#include "store/call.h"

/* ---- SET and its family ---- */

enum set_flag {
    SET_NX = 1 << 0,
    SET_XX = 1 << 1,
    SET_GET = 1 << 2,
    SET_KEEPTTL = 1 << 3,
    SET_PERSIST = 1 << 4,
    SET_EX = 1 << 5,
    SET_PX = 1 << 6,
    SET_EXAT = 1 << 7,
    SET_PXAT = 1 << 8,
    SET_TIMES = SET_EX | SET_PX | SET_EXAT | SET_PXAT,
};

struct set_options {
    unsigned flags;
    size_t expiry_at; /* the argument with the time; 0: none */
};

/* The options of SET (for_set) or GETEX. As in Redis the same option may stand there twice. */
static bool parse_set_options(struct call *c, size_t at, bool for_set,
                              struct set_options *ret_options) {
    static const struct {
        const char *name;
        unsigned flag, excludes;
        bool set, getex, value;
    } options[] = {
        {"nx", SET_NX, SET_XX, true, false, false},
        {"xx", SET_XX, SET_NX, true, false, false},
        {"get", SET_GET, 0, true, false, false},
        {"keepttl", SET_KEEPTTL, SET_PERSIST | SET_TIMES, true, false, false},
        {"persist", SET_PERSIST, SET_KEEPTTL | SET_TIMES, false, true, false},
        {"ex", SET_EX, SET_KEEPTTL | SET_PERSIST | (SET_TIMES & ~SET_EX), true, true, true},
        {"px", SET_PX, SET_KEEPTTL | SET_PERSIST | (SET_TIMES & ~SET_PX), true, true, true},
        {"exat", SET_EXAT, SET_KEEPTTL | SET_PERSIST | (SET_TIMES & ~SET_EXAT), true, true, true},
        {"pxat", SET_PXAT, SET_KEEPTTL | SET_PERSIST | (SET_TIMES & ~SET_PXAT), true, true, true},
    };
    struct set_options o = {0};
    for (; at < c->count; at++) {
        size_t i = 0;
        while (i < ARRAY_COUNT(options) && !slice_equal_nocase(c->args[at], options[i].name))
            i++;
        if (i == ARRAY_COUNT(options) || !(for_set ? options[i].set : options[i].getex) ||
            (o.flags & options[i].excludes) || (options[i].value && at + 1 == c->count)) {
            call_syntax_error(c);
            return false;
        }
        o.flags |= options[i].flag;
        if (options[i].value)
            o.expiry_at = ++at;
    }
    *ret_options = o;
    return true;
}

static bool get_option_expiry(struct call *c, const struct set_options *o, int64_t *ret_expiry_ms) {
    return call_get_expiry(c, o->expiry_at,
                           o->flags & (SET_EX | SET_EXAT) ? EXPIRY_SECONDS : EXPIRY_MILLISECONDS,
                           o->flags & (SET_EXAT | SET_PXAT), ret_expiry_ms);
}

/* Writes a string whose expiry may have passed already: then nothing is left of the key. */
static int put_expiring(struct call *c, struct slice key, struct slice value, int64_t expiry_ms) {
    if (expiry_ms > (int64_t)keyspace_now_ms(c->ks))
        return keyspace_put_string(c->ks, c->db, key, value, slice_of(NULL, 0),
                                   (uint64_t)expiry_ms);
    int rc = keyspace_delete(c->ks, c->db, key);
    return rc == KEYSPACE_MISSING ? 0 : rc;
}

static int set_with(struct call *c, struct slice value, const struct set_options *o) {
    struct slice key = c->args[1];
    struct record rec = {0};
    struct slice old = {0};
    int64_t expiry_ms = 0;
    if (!call_check_value(c, value.size) ||
        (o->expiry_at && !get_option_expiry(c, o, &expiry_ms)) || c->check_only)
        return 0;
    int rc = o->flags & SET_GET ? call_find_string(c, key, &rec, &old)
                                : keyspace_find(c->ks, c->db, key, &rec);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    bool found = rc == 0;
    bool skip = found ? o->flags & SET_NX : o->flags & SET_XX;
    if (o->flags & SET_GET) {
        if (!call_room_or_error(c, old.size))
            return 0;
        if (found)
            reply_bulk(c->out, old);
        else
            reply_null(c->out);
    } else if (skip) {
        reply_null(c->out);
    }
    if (skip)
        return 0;
    if (o->expiry_at)
        rc = put_expiring(c, key, value, expiry_ms);
    else
        rc = keyspace_put_string(c->ks, c->db, key, value, slice_of(NULL, 0),
                                 o->flags & SET_KEEPTTL && found ? rec.expiry_ms : 0);
    if (rc == 0 && !(o->flags & SET_GET))
        reply_simple(c->out, "OK");
    return rc;
}

int call_set(struct call *c) {
    struct set_options o;
    return parse_set_options(c, 3, true, &o) ? set_with(c, c->args[2], &o) : 0;
}

int call_setex(struct call *c) {
    return set_with(c, c->args[3], &(struct set_options){.flags = SET_EX, .expiry_at = 2});
}

int call_psetex(struct call *c) {
    return set_with(c, c->args[3], &(struct set_options){.flags = SET_PX, .expiry_at = 2});
}

int call_setnx(struct call *c) {
    struct record rec;
    if (!call_check_value(c, c->args[2].size) || c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc < 0)
        return rc;
    reply_int(c->out, rc == KEYSPACE_MISSING);
    return rc == KEYSPACE_MISSING ? call_put_string(c, c->args[1], c->args[2], NULL) : 0;
}

static int mset(struct call *c, bool only_new) {
    if (c->count % 2 == 0) {
        command_reply_arity(c->out, c->command);
        return 0;
    }
    for (size_t i = 2; i < c->count; i += 2)
        if (!call_check_value(c, c->args[i].size))
            return 0;
    if (c->check_only)
        return 0;
    for (size_t i = 1; only_new && i < c->count; i += 2) {
        struct record rec;
        int rc = keyspace_find(c->ks, c->db, c->args[i], &rec);
        if (rc == 0)
            reply_int(c->out, 0);
        if (rc != KEYSPACE_MISSING)
            return rc;
    }
    for (size_t i = 1; i < c->count; i += 2) {
        int rc = call_put_string(c, c->args[i], c->args[i + 1], NULL);
        if (rc < 0)
            return rc;
    }
    if (only_new)
        reply_int(c->out, 1);
    else
        reply_simple(c->out, "OK");
    return 0;
}

int call_mset(struct call *c) {
    return mset(c, false);
}

int call_msetnx(struct call *c) {
    return mset(c, true);
}

/* ---- GET and its family ---- */

/* Appends the string or null. CALL_ANSWERED: an error reply; CALL_MISSING: null. */
static int reply_string(struct call *c, struct slice key) {
    struct record rec;
    struct slice value;
    int rc = call_find_string(c, key, &rec, &value);
    if (rc == CALL_MISSING)
        reply_null(c->out);
    if (rc != 0)
        return rc;
    if (!call_room_or_error(c, value.size))
        return CALL_ANSWERED;
    reply_bulk(c->out, value);
    return 0;
}

int call_get(struct call *c) {
    if (c->check_only)
        return 0;
    int rc = reply_string(c, c->args[1]);
    return rc < 0 ? rc : 0;
}

int call_getdel(struct call *c) {
    if (c->check_only)
        return 0;
    int rc = reply_string(c, c->args[1]);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    return keyspace_delete(c->ks, c->db, c->args[1]);
}

int call_getset(struct call *c) {
    if (!call_check_value(c, c->args[2].size) || c->check_only)
        return 0;
    int rc = reply_string(c, c->args[1]);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    return call_put_string(c, c->args[1], c->args[2], NULL);
}

int call_getex(struct call *c) {
    struct set_options o;
    int64_t expiry_ms = 0;
    if (!parse_set_options(c, 2, false, &o))
        return 0;
    if (c->check_only) {
        if (o.expiry_at)
            (void)get_option_expiry(c, &o, &expiry_ms);
        return 0;
    }
    struct record rec;
    int rc = call_find(c, c->args[1], RECORD_STRING, &rec);
    if (rc == CALL_MISSING)
        reply_null(c->out);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (o.expiry_at && !get_option_expiry(c, &o, &expiry_ms))
        return 0;
    rc = reply_string(c, c->args[1]);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (o.expiry_at)
        return call_set_expiry(c, c->args[1], expiry_ms);
    if (o.flags & SET_PERSIST && rec.expiry_ms)
        return keyspace_set_expiry(c->ks, c->db, c->args[1], 0);
    return 0;
}

int call_mget(struct call *c) {
    if (c->check_only)
        return 0;
    reply_array(c->out, c->count - 1);
    for (size_t i = 1; i < c->count && call_room(c, 0); i++) {
        struct record rec;
        struct slice value;
        int rc = keyspace_find(c->ks, c->db, c->args[i], &rec);
        if (rc == 0 && rec.type == RECORD_STRING)
            rc = keyspace_value(c->ks, c->db, c->args[i], &value);
        else if (rc == 0)
            rc = KEYSPACE_MISSING;
        if (rc < 0)
            return rc;
        if (rc == 0)
            reply_bulk(c->out, value);
        else
            reply_null(c->out);
    }
    return 0;
}

int call_strlen(struct call *c) {
    struct record rec;
    if (c->check_only)
        return 0;
    int rc = call_find(c, c->args[1], RECORD_STRING, &rec);
    if (rc == 0 || rc == CALL_MISSING)
        reply_int(c->out, rc == 0 ? (int64_t)rec.size : 0);
    return rc < 0 ? rc : 0;
}

int call_getrange(struct call *c) {
    int64_t start, end;
    struct record rec;
    struct slice value;
    if (!call_get_i64(c, 2, &start) || !call_get_i64(c, 3, &end) || c->check_only)
        return 0;
    int rc = call_find_string(c, c->args[1], &rec, &value);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    int64_t size = (int64_t)value.size;
    bool crossed = start < 0 && end < 0 && start > end;
    if (start < 0)
        start = start + size < 0 ? 0 : start + size;
    if (end < 0)
        end = end + size < 0 ? 0 : end + size;
    if (end >= size)
        end = size - 1;
    if (crossed || size == 0 || start > end)
        reply_bulk(c->out, slice_of(NULL, 0));
    else
        reply_bulk(c->out, slice_of(value.data + start, (size_t)(end - start + 1)));
    return 0;
}

/* ---- changing a part ---- */

/* Writes `patch` at `offset` of a string, zeros between its end and the offset, and answers with
 * the new length. The caller has found the record (`old`, NULL when missing) and its value. */
static int patch_string(struct call *c, const struct record *old, struct slice value, size_t offset,
                        struct slice patch) {
    if (!call_check_value(c, (uint64_t)offset + patch.size))
        return 0;
    struct buf b = {0};
    size_t size = offset + patch.size > value.size ? offset + patch.size : value.size;
    uint8_t *at = buf_reserve(&b, size);
    if (value.size > 0)
        memcpy(at, value.data, value.size);
    if (size > value.size)
        memset(at + value.size, 0, size - value.size);
    if (patch.size > 0)
        memcpy(at + offset, patch.data, patch.size);
    buf_commit(&b, size);
    int rc = call_put_string(c, c->args[1], buf_slice(&b), old);
    buf_fini(&b);
    reply_int(c->out, (int64_t)size);
    return rc;
}

int call_append(struct call *c) {
    struct record rec;
    struct slice value;
    if (!call_check_value(c, c->args[2].size) || c->check_only)
        return 0;
    int rc = call_find_string(c, c->args[1], &rec, &value);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    return patch_string(c, rc == 0 ? &rec : NULL, value, value.size, c->args[2]);
}

int call_setrange(struct call *c) {
    int64_t offset;
    struct record rec;
    struct slice value, patch = c->args[3];
    if (!call_get_i64(c, 2, &offset))
        return 0;
    if (offset < 0) {
        reply_error(c->out, "ERR offset is out of range");
        return 0;
    }
    if (c->check_only)
        return 0;
    int rc = call_find_string(c, c->args[1], &rec, &value);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    if (patch.size == 0) {
        reply_int(c->out, (int64_t)value.size);
        return 0;
    }
    if (!call_check_value(c, (uint64_t)offset))
        return 0;
    return patch_string(c, rc == 0 ? &rec : NULL, value, (size_t)offset, patch);
}

/* ---- counting ---- */

static int increment(struct call *c, int64_t by) {
    struct record rec;
    struct slice value;
    int64_t n = 0;
    if (c->check_only)
        return 0;
    int rc = call_find_string(c, c->args[1], &rec, &value);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    if (rc == 0 && !num_parse_i64(value, &n)) {
        reply_error(c->out, "ERR value is not an integer or out of range");
        return 0;
    }
    if (__builtin_add_overflow(n, by, &n)) {
        reply_error(c->out, "ERR increment or decrement would overflow");
        return 0;
    }
    struct buf text = {0};
    num_append_i64(&text, n);
    rc = call_put_string(c, c->args[1], buf_slice(&text), rc == 0 ? &rec : NULL);
    buf_fini(&text);
    reply_int(c->out, n);
    return rc;
}

int call_incr(struct call *c) {
    return increment(c, 1);
}

int call_decr(struct call *c) {
    return increment(c, -1);
}

int call_incrby(struct call *c) {
    int64_t by;
    return call_get_i64(c, 2, &by) ? increment(c, by) : 0;
}

int call_decrby(struct call *c) {
    int64_t by;
    if (!call_get_i64(c, 2, &by))
        return 0;
    if (by == INT64_MIN) {
        reply_error(c->out, "ERR decrement would overflow");
        return 0;
    }
    return increment(c, -by);
}

int call_incrbyfloat(struct call *c) {
    struct record rec;
    struct slice value;
    long double n = 0, by = 0;
    if (c->check_only) {
        (void)call_get_float(c, 2, &by);
        return 0;
    }
    int rc = call_find_string(c, c->args[1], &rec, &value);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    if (rc == 0 && !num_parse_float(value, &n)) {
        reply_error(c->out, "ERR value is not a valid float");
        return 0;
    }
    if (!call_get_float(c, 2, &by))
        return 0;
    n += by;
    if (isnan(n) || isinf(n)) {
        reply_error(c->out, "ERR increment would produce NaN or Infinity");
        return 0;
    }
    struct buf text = {0};
    num_append_float(&text, n);
    bool found = rc == 0;
    rc = 0;
    if (call_room_or_error(c, text.size)) {
        rc = call_put_string(c, c->args[1], buf_slice(&text), found ? &rec : NULL);
        reply_bulk(c->out, buf_slice(&text));
    }
    buf_fini(&text);
    return rc;
}
