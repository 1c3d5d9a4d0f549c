#include "gateway/http_json.h"
#include "base/num.h"
#include "gateway/http_conn.h"

/* Behind the quote that ends the string, or the end of the text. */
static const uint8_t *skip_string(const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        const uint8_t *quote = memchr(at, '"', (size_t)(end - at));
        if (!quote)
            return end;
        size_t escapes = 0;
        while (quote - escapes > at && quote[-1 - (ptrdiff_t)escapes] == '\\')
            escapes++;
        at = quote + 1;
        if (escapes % 2 == 0)
            return at;
    }
    return end;
}

/* Each value but the first stands behind one of these. */
bool http_json_is_moderate(struct slice text) {
    size_t count = 1;
    const uint8_t *at = text.data, *end = text.data + text.size;
    while (at < end && count <= HTTP_JSON_VALUES_MAX) {
        uint8_t c = *at++;
        if (c == '"')
            at = skip_string(at, end);
        else
            count += c == ',' || c == '[' || c == '{';
    }
    return count <= HTTP_JSON_VALUES_MAX;
}

bool http_item_u64(const struct reply_item *item, uint64_t *ret_value) {
    if (item->type == ':' && item->integer >= 0) {
        *ret_value = (uint64_t)item->integer;
        return true;
    }
    return item->type == '$' && num_parse_u64(item->bytes, ret_value);
}

bool http_take_row(struct slice *reply, struct reply_item *items, size_t count) {
    struct slice at = *reply;
    struct reply_item header;
    if (!reply_next(&at, &header) || header.type != '*' || (uint64_t)header.integer < count)
        return false;
    for (size_t i = 0; i < (uint64_t)header.integer; i++) {
        struct reply_item item;
        if (!reply_next(&at, &item) || reply_item_children(&item) > 0)
            return false;
        if (i < count)
            items[i] = item;
    }
    *reply = at;
    return true;
}

void http_json_revision(struct json_out *j, uint64_t revision) {
    struct buf text = {0};
    num_append_u64(&text, revision);
    json_out_key(j, "revision");
    json_out_string(j, buf_slice(&text));
    buf_fini(&text);
}

void http_json_bytes(struct json_out *j, const char *name, const char *flag, struct slice bytes) {
    json_out_key(j, name);
    if (json_out_is_utf8(bytes)) {
        json_out_string(j, bytes);
        return;
    }
    struct buf text = {0};
    base64_append(&text, bytes);
    json_out_string(j, buf_slice(&text));
    buf_fini(&text);
    json_out_key(j, flag);
    json_out_bool(j, true);
}

static void put_bytes(struct json_out *j, struct slice bytes) {
    if (json_out_is_utf8(bytes)) {
        json_out_string(j, bytes);
        return;
    }
    json_out_object(j);
    http_json_bytes(j, "bytes", "base64", bytes);
    json_out_end(j, '}');
}

static bool put_any(struct json_out *j, struct slice *reply, int depth);

static bool put_map(struct json_out *j, struct slice *reply, uint64_t pairs, int depth) {
    json_out_object(j);
    for (uint64_t i = 0; i < pairs; i++) {
        struct reply_item key;
        if (!reply_next(reply, &key) || (key.type != '$' && key.type != '+'))
            return false;
        json_out_key_slice(j, key.bytes);
        if (!put_any(j, reply, depth + 1))
            return false;
    }
    json_out_end(j, '}');
    return true;
}

static bool put_any(struct json_out *j, struct slice *reply, int depth) {
    struct reply_item item;
    long double number;
    if (depth > JSON_OUT_DEPTH_MAX / 2 || !reply_next(reply, &item))
        return false;
    switch (item.type) {
    case '+':
    case '$':
        put_bytes(j, item.bytes);
        return true;
    case '-':
        json_out_object(j);
        json_out_key(j, "error");
        json_out_string(j, item.bytes);
        json_out_end(j, '}');
        return true;
    case ':':
        json_out_i64(j, item.integer);
        return true;
    case '#':
        json_out_bool(j, item.integer != 0);
        return true;
    case ',':
        if (!num_parse_float(item.bytes, &number))
            return false;
        json_out_double(j, (double)number);
        return true;
    case 'n':
        json_out_null(j);
        return true;
    case '%':
        return put_map(j, reply, (uint64_t)item.integer, depth);
    default:
        json_out_array(j);
        for (int64_t i = 0; i < item.integer; i++)
            if (!put_any(j, reply, depth + 1))
                return false;
        json_out_end(j, ']');
        return true;
    }
}

bool http_reply_to_json(struct json_out *j, struct slice *reply) {
    return put_any(j, reply, 0);
}
