#include "gateway/watch_event.h"

#include "gateway/http_json.h"
#include "proto/sse.h"

/* ---- taking apart ---- */

static bool next_u64(struct slice *in, uint64_t *ret_value) {
    struct reply_item item;
    if (!reply_next(in, &item) || item.type != ':' || item.integer < 0)
        return false;
    *ret_value = (uint64_t)item.integer;
    return true;
}

static bool next_bytes(struct slice *in, struct slice *ret_bytes) {
    struct reply_item item;
    if (!reply_next(in, &item) || item.type != '$')
        return false;
    *ret_bytes = item.bytes;
    return true;
}

static bool next_array(struct slice *in, uint64_t *ret_count) {
    struct reply_item item;
    if (!reply_next(in, &item) || item.type != '*' || item.integer < 0)
        return false;
    *ret_count = (uint64_t)item.integer;
    return true;
}

/* Bytes, or the missing value. */
static bool next_optional(struct slice *in, bool *ret_there, struct slice *ret_bytes) {
    struct reply_item item;
    if (!reply_next(in, &item) || (item.type != '$' && item.type != 'n'))
        return false;
    *ret_there = item.type == '$';
    *ret_bytes = *ret_there ? item.bytes : slice_of(NULL, 0);
    return true;
}

bool watch_page_parse(struct slice reply, struct watch_page *ret_page) {
    uint64_t parts;
    struct watch_page p;
    if (!next_array(&reply, &parts) || parts != 3 || !next_u64(&reply, &p.floor) ||
        !next_u64(&reply, &p.upto) || !next_array(&reply, &p.count))
        return false;
    p.rows = reply;
    *ret_page = p;
    return true;
}

bool watch_row_next(struct slice *rows, struct watch_row *ret_row) {
    static const char *const names[] = {"put", "delete", "expire", "flush"};
    uint64_t cells;
    struct slice name;
    struct watch_row row = {0};
    if (!next_array(rows, &cells) || !next_u64(rows, &row.revision) || !next_bytes(rows, &name) ||
        !next_bytes(rows, &row.key))
        return false;
    size_t op = 0;
    while (op < ARRAY_COUNT(names) && !slice_equal_str(name, names[op]))
        op++;
    if (op == ARRAY_COUNT(names) || cells != (op == WATCH_PUT ? 8 : 3))
        return false;
    row.op = (enum watch_op)op;
    if (row.op == WATCH_PUT &&
        (!next_u64(rows, &row.expires_ms) || !next_bytes(rows, &row.type) ||
         !next_u64(rows, &row.size) || !next_bytes(rows, &row.content_type) ||
         !next_optional(rows, &row.has_value, &row.value)))
        return false;
    *ret_row = row;
    return true;
}

bool watch_listing_parse(struct slice reply, struct watch_listing *ret_listing) {
    uint64_t parts;
    bool more;
    struct watch_listing l;
    if (!next_array(&reply, &parts) || parts != 4 || !next_u64(&reply, &l.revision) ||
        !next_optional(&reply, &more, &l.after) || !next_array(&reply, &l.count))
        return false;
    if (more && !l.after.data)
        return false;
    l.revision |= WATCH_POSITION_MASK;
    l.rows = reply;
    *ret_listing = l;
    return true;
}

bool watch_listing_next(struct slice *rows, struct watch_row *ret_row) {
    uint64_t cells;
    struct watch_row row = {.op = WATCH_PUT};
    if (!next_array(rows, &cells) || cells != 7 || !next_bytes(rows, &row.key) ||
        !next_u64(rows, &row.revision) || !next_u64(rows, &row.expires_ms) ||
        !next_bytes(rows, &row.type) || !next_u64(rows, &row.size) ||
        !next_bytes(rows, &row.content_type) || !next_optional(rows, &row.has_value, &row.value))
        return false;
    *ret_row = row;
    return true;
}

/* ---- writing ---- */

static void put_data(struct buf *out, struct buf *json) {
    sse_data(out, buf_slice(json));
    buf_fini(json);
}

void watch_encode(struct buf *out, const struct watch_row *row, bool values) {
    static const char *const names[] = {
        [WATCH_PUT] = "put",
        [WATCH_DELETE] = "delete",
        [WATCH_EXPIRE] = "expire",
        [WATCH_FLUSH] = "reset",
    };
    struct buf json = {0};
    struct json_out j;
    json_out_begin(&j, &json);
    json_out_object(&j);
    if (row->op != WATCH_FLUSH)
        http_json_bytes(&j, "key", "key_base64", row->key);
    http_json_revision(&j, row->revision);
    if (row->op == WATCH_FLUSH) {
        json_out_key(&j, "reason");
        json_out_str(&j, "flushed");
    }
    if (row->op == WATCH_PUT) {
        json_out_key(&j, "type");
        json_out_string(&j, row->type);
        json_out_key(&j, "size");
        json_out_u64(&j, row->size);
        if (row->expires_ms) {
            json_out_key(&j, "expires_ms");
            json_out_u64(&j, row->expires_ms);
        }
        if (row->content_type.size > 0) {
            json_out_key(&j, "content_type");
            json_out_string(&j, row->content_type);
        }
        if (values && row->has_value)
            http_json_bytes(&j, "value", "base64", row->value);
    }
    json_out_end(&j, '}');
    sse_event(out, names[row->op]);
    put_data(out, &json);
    if (row->op != WATCH_FLUSH)
        return;
    /* The state that a reset is followed by is empty: that is all of it. */
    sse_end(out);
    struct watch_events progress = {.out = *out};
    watch_events_progress(&progress, row->revision);
    *out = progress.out;
}

/* The event that is open, with its id or (more of the same revision come) without. */
static void close_event(struct watch_events *e, bool with_id) {
    if (e->open == 0)
        return;
    if (with_id)
        sse_id(&e->out, e->open);
    sse_end(&e->out);
    e->open = 0;
}

void watch_events_append(struct watch_events *e, uint64_t revision, struct slice encoded) {
    close_event(e, e->open != revision);
    buf_append_slice(&e->out, encoded);
    e->open = revision;
}

void watch_events_append_state(struct watch_events *e, struct slice encoded) {
    close_event(e, true);
    buf_append_slice(&e->out, encoded);
    sse_end(&e->out);
}

void watch_events_reset(struct watch_events *e, const char *reason) {
    struct buf json = {0};
    close_event(e, true);
    sse_event(&e->out, "reset");
    buf_printf(&json, "{\"reason\":\"%s\"}", reason);
    put_data(&e->out, &json);
    sse_end(&e->out);
}

void watch_events_progress(struct watch_events *e, uint64_t revision) {
    struct buf json = {0};
    close_event(e, true);
    sse_event(&e->out, "progress");
    buf_printf(&json, "{\"revision\":\"%llu\"}", (unsigned long long)revision);
    put_data(&e->out, &json);
    e->open = revision;
}

void watch_events_end(struct watch_events *e) {
    close_event(e, true);
}
