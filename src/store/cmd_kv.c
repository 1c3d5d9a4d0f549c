/* The internal commands behind HTTP's /v1/kv and /v1/incr (commands.h says what they take and
 * answer), and those of the nodes. */
#include "base/num.h"
#include "store/call.h"

enum {
    KV_LIST_VALUE_BYTES_MAX = 64 * 1024,
    KV_LIST_PAGE_BYTES_MAX = 8 * 1024 * 1024,
};

/* ---- arguments ---- */

static bool get_u64(struct call *c, size_t at, const char *what, uint64_t *ret_value) {
    if (num_parse_u64(c->args[at], ret_value))
        return true;
    reply_error(c->out, "ERR %s is not a number", what);
    return false;
}

/* An optional integer: `absent` when the argument is empty. */
static bool get_i64_or(struct call *c, size_t at, int64_t absent, int64_t *ret_value) {
    *ret_value = absent;
    return c->args[at].size == 0 || call_get_i64(c, at, ret_value);
}

/* "" is 0 (never); else milliseconds from now, as a time. */
static bool get_ttl(struct call *c, size_t at, uint64_t *ret_expiry_ms) {
    int64_t expiry_ms = 0;
    if (c->args[at].size > 0 && !call_get_expiry(c, at, EXPIRY_MILLISECONDS, false, &expiry_ms))
        return false;
    *ret_expiry_ms = (uint64_t)expiry_ms;
    return true;
}

/* ---- conditions ---- */

/* Takes the next revision off a list joined by commas. False: malformed or at its end. */
static bool next_revision(struct slice *list, uint64_t *ret_revision) {
    const uint8_t *comma = list->size ? memchr(list->data, ',', list->size) : NULL;
    size_t size = comma ? (size_t)(comma - list->data) : list->size;
    if (!num_parse_u64(slice_of(list->data, size), ret_revision))
        return false;
    size_t used = size + (comma && size + 1 < list->size); /* a comma at the end stays: malformed */
    list->data += used;
    list->size -= used;
    return true;
}

static bool check_condition(struct call *c, size_t at) {
    struct slice list = c->args[at];
    uint64_t revision;
    if (slice_equal_str(list, "*"))
        return true;
    while (list.size > 0) {
        if (!next_revision(&list, &revision)) {
            reply_error(c->out, "ERR a condition is \"*\" or revisions joined by commas");
            return false;
        }
    }
    return true;
}

/* Whether a key of this revision (0: missing) is named. */
static bool condition_names(struct slice list, uint64_t revision) {
    uint64_t named;
    if (revision == 0 || slice_equal_str(list, "*"))
        return revision != 0;
    while (next_revision(&list, &named))
        if (named == revision)
            return true;
    return false;
}

/* If-Match and If-None-Match stand at `at` and behind it (RFC 9110 section 13.1). */
static bool conditions_hold(struct call *c, size_t at, uint64_t revision) {
    struct slice match = c->args[at], none_match = c->args[at + 1];
    return (match.size == 0 || condition_names(match, revision)) &&
           (none_match.size == 0 || !condition_names(none_match, revision));
}

static void reply_status(struct call *c, int64_t status, uint64_t revision) {
    reply_array(c->out, 2);
    reply_int(c->out, status);
    reply_int(c->out, (int64_t)revision);
}

/* ---- reading ---- */

static int kv_get(struct call *c, bool with_value) {
    struct record rec;
    struct slice value = {0};
    if (c->check_only)
        return 0;
    int rc = with_value ? call_find_string(c, c->args[1], &rec, &value)
                        : call_find(c, c->args[1], RECORD_STRING, &rec);
    if (rc == CALL_MISSING)
        reply_null(c->out);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    reply_array(c->out, 4);
    reply_int(c->out, (int64_t)rec.revision);
    reply_int(c->out, (int64_t)rec.expiry_ms);
    reply_bulk(c->out, rec.content_type);
    if (with_value)
        reply_bulk(c->out, value);
    else
        reply_int(c->out, (int64_t)rec.size);
    return 0;
}

int call_kv_get(struct call *c) {
    return kv_get(c, true);
}

int call_kv_head(struct call *c) {
    return kv_get(c, false);
}

int call_kv_rev(struct call *c) {
    if (c->check_only)
        return 0;
    reply_array(c->out, c->count - 1);
    for (size_t i = 1; i < c->count; i++) {
        struct record rec;
        int rc = keyspace_find(c->ks, c->db, c->args[i], &rec);
        if (rc < 0)
            return rc;
        reply_int(c->out, rc == 0 ? (int64_t)rec.revision : 0);
    }
    return 0;
}

int call_kv_count(struct call *c) {
    if (c->check_only)
        return 0;
    reply_array(c->out, 2);
    reply_int(c->out, (int64_t)keyspace_count(c->ks, c->db));
    reply_int(c->out, (int64_t)keyspace_expiring_count(c->ks, c->db));
    return 0;
}

/* ---- writing ---- */

int call_kv_put(struct call *c) {
    struct slice key = c->args[1], value = c->args[2], content_type = c->args[3];
    bool keep = slice_equal_str(c->args[4], "keep");
    uint64_t expiry_ms = 0;
    struct record rec = {0};
    if (!call_check_value(c, value.size) || (!keep && !get_ttl(c, 4, &expiry_ms)) ||
        !check_condition(c, 5) || !check_condition(c, 6))
        return 0;
    if (content_type.size > COMMAND_CONTENT_TYPE_BYTES_MAX) {
        reply_error(c->out, "ERR content type exceeds maximum allowed size (%d bytes)",
                    COMMAND_CONTENT_TYPE_BYTES_MAX);
        return 0;
    }
    if (c->check_only)
        return 0;
    int rc = call_find(c, key, RECORD_STRING, &rec);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    bool found = rc == 0;
    if (!conditions_hold(c, 5, found ? rec.revision : 0)) {
        reply_status(c, 412, found ? rec.revision : 0);
        return 0;
    }
    if (keep && found)
        expiry_ms = rec.expiry_ms;
    reply_array(c->out, 3);
    reply_int(c->out, found ? 204 : 201);
    reply_int(c->out, (int64_t)keyspace_revision(c->ks));
    reply_int(c->out, (int64_t)expiry_ms);
    return keyspace_put_string(c->ks, c->db, key, value, content_type, expiry_ms);
}

int call_kv_del(struct call *c) {
    struct record rec = {0};
    if (!check_condition(c, 2) || !check_condition(c, 3) || c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, c->db, c->args[1], &rec);
    if (rc < 0)
        return rc;
    bool found = rc == 0;
    if (!conditions_hold(c, 2, found ? rec.revision : 0)) {
        reply_status(c, 412, found ? rec.revision : 0);
        return 0;
    }
    if (!found) {
        reply_status(c, 404, 0);
        return 0;
    }
    reply_status(c, 204, keyspace_revision(c->ks));
    return keyspace_delete(c->ks, c->db, c->args[1]);
}

int call_kv_incr(struct call *c) {
    int64_t by, min, max, n = 0;
    uint64_t expiry_ms;
    struct record rec = {0};
    struct slice value;
    if (!get_i64_or(c, 2, 1, &by) || !get_i64_or(c, 3, INT64_MIN, &min) ||
        !get_i64_or(c, 4, INT64_MAX, &max) || !get_ttl(c, 5, &expiry_ms) || c->check_only)
        return 0;
    int rc = call_find_string(c, c->args[1], &rec, &value);
    if (rc < 0 || rc == CALL_ANSWERED)
        return rc < 0 ? rc : 0;
    bool found = rc == 0;
    if (found && !num_parse_i64(value, &n)) {
        reply_error(c->out, "ERR value is not an integer or out of range");
        return 0;
    }
    int64_t sum;
    bool overflow = __builtin_add_overflow(n, by, &sum);
    bool bound = by < 0 ? (overflow ? c->args[3].size > 0 : sum < min)
                        : (overflow ? c->args[4].size > 0 : sum > max);
    if (overflow && !bound) {
        reply_error(c->out, "ERR increment or decrement would overflow");
        return 0;
    }
    reply_array(c->out, 3);
    reply_int(c->out, bound ? 409 : 200);
    reply_int(c->out, bound ? n : sum);
    reply_int(c->out, bound ? (int64_t)rec.revision : (int64_t)keyspace_revision(c->ks));
    if (bound)
        return 0;
    struct buf text = {0};
    num_append_i64(&text, sum);
    if (found)
        rc = call_put_string(c, c->args[1], buf_slice(&text), &rec);
    else
        rc = keyspace_put_string(c->ks, c->db, c->args[1], buf_slice(&text), slice_of(NULL, 0),
                                 expiry_ms);
    buf_fini(&text);
    return rc;
}

/* ---- listing ---- */

struct listing {
    struct slice prefix, delimiter;
    bool values;
    struct buf seek; /* where the walk goes on */
    bool seek_equal; /* whether a key equal to `seek` is still to come */
    struct buf last; /* the last key or common prefix on this page */
    struct buf keys, prefixes;
    uint64_t key_count, prefix_count;
};

/* The part of `name` up to and with the first delimiter behind the prefix; empty: there is none. */
static struct slice common_prefix(const struct listing *l, struct slice name) {
    if (l->delimiter.size == 0 || !slice_starts_with(name, l->prefix))
        return slice_of(NULL, 0);
    const uint8_t *from = name.data + l->prefix.size;
    const uint8_t *at =
        memmem(from, name.size - l->prefix.size, l->delimiter.data, l->delimiter.size);
    return at ? slice_of(name.data, (size_t)(at - name.data) + l->delimiter.size)
              : slice_of(NULL, 0);
}

/* Lets the walk go on behind every key that begins with `prefix`. False: there are none. */
static bool seek_behind(struct listing *l, struct slice prefix) {
    while (prefix.size > 0 && prefix.data[prefix.size - 1] == 0xFF)
        prefix.size--;
    if (prefix.size == 0)
        return false;
    struct buf seek = {0};
    buf_append_slice(&seek, prefix);
    seek.data[seek.size - 1]++;
    buf_fini(&l->seek);
    l->seek = seek;
    l->seek_equal = true;
    return true;
}

static void set_bytes(struct buf *b, struct slice s) {
    buf_reset(b);
    buf_append_slice(b, s);
}

static int list_key(struct call *c, struct listing *l, struct slice key, const struct record *rec) {
    struct slice value = {0};
    bool with_value =
        l->values && rec->type == RECORD_STRING && rec->size <= KV_LIST_VALUE_BYTES_MAX;
    set_bytes(&l->last, key);
    reply_array(&l->keys, 7);
    reply_bulk(&l->keys, key);
    reply_int(&l->keys, (int64_t)rec->revision);
    reply_int(&l->keys, (int64_t)rec->expiry_ms);
    reply_bulk_str(&l->keys, call_type_name(rec->type));
    reply_int(&l->keys, (int64_t)rec->size);
    reply_bulk(&l->keys, rec->content_type);
    if (with_value) {
        int rc = keyspace_value(c->ks, c->db, buf_slice(&l->last), &value);
        if (rc < 0)
            return rc;
        CHECK(rc == 0);
        reply_bulk(&l->keys, value);
    } else {
        reply_null(&l->keys);
    }
    l->key_count++;
    set_bytes(&l->seek, buf_slice(&l->last));
    l->seek_equal = false;
    return 0;
}

/* 0: one key or common prefix was added; KEYSPACE_MISSING: there are no more. With `peek` nothing
 * is added. */
static int list_step(struct call *c, struct listing *l, bool peek) {
    struct slice key;
    struct record rec;
    int rc = keyspace_next_key(c->ks, c->db, buf_slice(&l->seek), l->seek_equal, &key, &rec);
    if (rc != 0)
        return rc;
    if (!slice_starts_with(key, l->prefix))
        return KEYSPACE_MISSING;
    if (peek)
        return 0;
    struct slice cut = common_prefix(l, key);
    if (cut.size == 0)
        return list_key(c, l, key, &rec);
    reply_bulk(&l->prefixes, cut);
    l->prefix_count++;
    set_bytes(&l->last, cut);
    return seek_behind(l, buf_slice(&l->last)) ? 0 : KEYSPACE_MISSING;
}

/* Fills a page; *ret_more is whether anything is left behind it. */
static int list_page(struct call *c, struct listing *l, uint64_t limit, bool *ret_more) {
    int rc = 0;
    while (rc == 0 && l->key_count + l->prefix_count < limit &&
           l->keys.size + l->prefixes.size < KV_LIST_PAGE_BYTES_MAX)
        rc = list_step(c, l, false);
    if (rc == 0)
        rc = list_step(c, l, true);
    *ret_more = rc == 0;
    return rc < 0 ? rc : 0;
}

/* Where the walk begins. False: behind all keys with the prefix. */
static bool list_begin(struct listing *l, struct slice after) {
    if (after.size == 0 || slice_compare(after, l->prefix) < 0) {
        set_bytes(&l->seek, l->prefix);
        l->seek_equal = true;
        return true;
    }
    struct slice cut = common_prefix(l, after);
    if (cut.size > 0 && cut.size == after.size)
        return seek_behind(l, after); /* a common prefix ended the last page */
    set_bytes(&l->seek, after);
    return true;
}

int call_kv_list(struct call *c) {
    struct listing l = {.prefix = c->args[1], .delimiter = c->args[2]};
    struct slice after = c->args[3];
    uint64_t limit, values;
    bool more = false;
    if (!get_u64(c, 4, "limit", &limit) || !get_u64(c, 5, "values", &values))
        return 0;
    if (limit < 1 || limit > KV_LIST_LIMIT_MAX || values > 1) {
        reply_error(c->out, "ERR limit is 1 to %d, values 0 or 1", KV_LIST_LIMIT_MAX);
        return 0;
    }
    if (c->check_only)
        return 0;
    l.values = values;
    int rc = list_begin(&l, after) ? list_page(c, &l, limit, &more) : 0;
    reply_array(c->out, 4);
    reply_int(c->out, (int64_t)keyspace_state_revision(c->ks));
    if (more)
        reply_bulk(c->out, buf_slice(&l.last));
    else
        reply_null(c->out);
    reply_array(c->out, l.key_count);
    buf_append_slice(c->out, buf_slice(&l.keys));
    reply_array(c->out, l.prefix_count);
    buf_append_slice(c->out, buf_slice(&l.prefixes));
    buf_fini(&l.seek);
    buf_fini(&l.last);
    buf_fini(&l.keys);
    buf_fini(&l.prefixes);
    return rc;
}

/* ---- the nodes' own ---- */

int call_expire_sweep(struct call *c) {
    uint64_t now_ms, limit, deleted = 0;
    if (!get_u64(c, 1, "now-ms", &now_ms) || !get_u64(c, 2, "limit", &limit) || c->check_only)
        return 0;
    int rc = keyspace_sweep_expired(c->ks, now_ms, limit, &deleted);
    reply_int(c->out, (int64_t)deleted);
    return rc;
}

int call_node_alloc(struct call *c) {
    if (!c->check_only)
        reply_int(c->out, (int64_t)keyspace_next_node_id(c->ks));
    return 0;
}
