/* KV.CHANGES: a page of the change log (commands.h says what it takes and answers). */
#include "base/num.h"
#include "store/call.h"

enum {
    PAGE_BYTES_MAX = 1024 * 1024, /* a page ends behind the revision that passes it */
    VALUE_BYTES_MAX = 64 * 1024,
    REVISION_POSITION_BITS = 20,
};

enum filter_kind { FILTER_ALL, FILTER_PREFIX, FILTER_KEY };

struct page {
    struct change_cursor cursor;
    enum filter_kind filter;
    struct slice text;
    bool values;
    struct buf rows;
    uint64_t count;
    uint64_t revision; /* of the change met last; 0: none */
};

static bool wanted(const struct call *c, const struct page *p, const struct change *change) {
    if (change->db != c->db)
        return false;
    if (change->op == CHANGE_FLUSH || p->filter == FILTER_ALL)
        return true;
    return p->filter == FILTER_KEY ? slice_equal(change->key, p->text)
                                   : slice_starts_with(change->key, p->text);
}

/* The value of a change: kept with it, or that of the record while it is still the same one. */
static int put_value(struct call *c, struct page *p, const struct change *change) {
    struct record rec;
    struct slice value = change->value;
    bool have = change->has_value;
    if (!p->values || change->type != RECORD_STRING || change->size > VALUE_BYTES_MAX) {
        have = false;
    } else if (!have) {
        int rc = keyspace_find(c->ks, c->db, change->key, &rec);
        if (rc == 0 && rec.revision == change->revision) {
            rc = keyspace_value(c->ks, c->db, change->key, &value);
            have = rc == 0;
        }
        if (rc < 0)
            return rc;
    }
    if (have)
        reply_bulk(&p->rows, value);
    else
        reply_null(&p->rows);
    return 0;
}

static int put_row(struct call *c, struct page *p, const struct change *change) {
    static const char *const names[] = {
        [CHANGE_PUT] = "put",
        [CHANGE_DELETE] = "delete",
        [CHANGE_EXPIRE] = "expire",
        [CHANGE_FLUSH] = "flush",
    };
    bool put = change->op == CHANGE_PUT;
    reply_array(&p->rows, put ? 8 : 3);
    reply_int(&p->rows, (int64_t)change->revision);
    reply_bulk_str(&p->rows, names[change->op]);
    reply_bulk(&p->rows, change->key);
    p->count++;
    if (!put)
        return 0;
    reply_int(&p->rows, (int64_t)change->expiry_ms);
    reply_bulk_str(&p->rows, call_type_name(change->type));
    reply_int(&p->rows, (int64_t)change->size);
    reply_bulk(&p->rows, change->content_type);
    return put_value(c, p, change);
}

/* *ret_upto: the page has all changes up to this revision. */
static int fill(struct call *c, struct page *p, uint64_t *ret_upto) {
    for (;;) {
        struct change change;
        int rc = keyspace_change_next(c->ks, &p->cursor, &change);
        if (rc < 0)
            return rc;
        if (rc == KEYSPACE_MISSING)
            return 0;
        if (p->rows.size > PAGE_BYTES_MAX && change.revision != p->revision) {
            *ret_upto = p->revision;
            return 0;
        }
        p->revision = change.revision;
        if (wanted(c, p, &change) && (rc = put_row(c, p, &change)) < 0)
            return rc;
    }
}

static bool get_filter(struct call *c, struct page *p) {
    static const char *const kinds[] = {
        [FILTER_ALL] = "all", [FILTER_PREFIX] = "prefix", [FILTER_KEY] = "key"};
    p->text = c->args[3];
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
        if (slice_equal_str(c->args[2], kinds[i])) {
            p->filter = (enum filter_kind)i;
            return true;
        }
    reply_error(c->out, "ERR a filter is all, prefix or key");
    return false;
}

int call_kv_changes(struct call *c) {
    struct page p = {0};
    uint64_t values;
    if (!num_parse_u64(c->args[1], &p.cursor.after) || !num_parse_u64(c->args[4], &values) ||
        values > 1) {
        reply_error(c->out, "ERR KV.CHANGES takes a revision, a filter, and 0 or 1");
        return 0;
    }
    if (!get_filter(c, &p) || c->check_only)
        return 0;
    p.values = values;
    uint64_t floor = keyspace_changes_floor(c->ks);
    uint64_t end = keyspace_state_revision(c->ks) | ((1u << REVISION_POSITION_BITS) - 1);
    uint64_t upto = end;
    int rc = p.cursor.after >= floor && p.cursor.after < end ? fill(c, &p, &upto) : 0;
    reply_array(c->out, 3);
    reply_int(c->out, (int64_t)floor);
    reply_int(c->out, (int64_t)upto);
    reply_array(c->out, p.count);
    buf_append_slice(c->out, buf_slice(&p.rows));
    buf_fini(&p.rows);
    return rc;
}
