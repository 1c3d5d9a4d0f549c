#include "store/call.h"

#include <ctype.h>

#include "base/num.h"

/* ---- replies ---- */

void call_syntax_error(struct call *c) {
    reply_error(c->out, "ERR syntax error");
}

void call_wrong_type(struct call *c) {
    reply_error(c->out, "WRONGTYPE Operation against a key holding the wrong kind of value");
}

bool call_room(const struct call *c, uint64_t bytes) {
    return c->out->size <= c->reply_end && bytes <= c->reply_end - c->out->size;
}

bool call_room_or_error(struct call *c, uint64_t bytes) {
    enum { HEADER_BYTES = 32 };
    if (call_room(c, bytes + HEADER_BYTES))
        return true;
    reply_error(c->out, "ERR the reply would exceed %d bytes", COMMAND_REPLY_BYTES_MAX);
    return false;
}

/* ---- arguments ---- */

bool call_get_i64(struct call *c, size_t at, int64_t *ret_value) {
    if (num_parse_i64(c->args[at], ret_value))
        return true;
    reply_error(c->out, "ERR value is not an integer or out of range");
    return false;
}

bool call_get_float(struct call *c, size_t at, long double *ret_value) {
    if (num_parse_float(c->args[at], ret_value))
        return true;
    reply_error(c->out, "ERR value is not a valid float");
    return false;
}

bool call_get_db(struct call *c, size_t at, uint16_t *ret_db) {
    int64_t db;
    if (!call_get_i64(c, at, &db))
        return false;
    if (db < INT32_MIN || db > INT32_MAX) {
        reply_error(c->out, "ERR value is out of range, value must between %d and %d", INT32_MIN,
                    INT32_MAX);
        return false;
    }
    if (db < 0 || db >= STORE_DB_COUNT) {
        reply_error(c->out, "ERR DB index is out of range");
        return false;
    }
    *ret_db = (uint16_t)db;
    return true;
}

bool call_check_value(struct call *c, uint64_t bytes) {
    if (bytes <= STORE_VALUE_BYTES_MAX)
        return true;
    reply_error(c->out, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    return false;
}

bool call_check_field(struct call *c, size_t at) {
    if (c->args[at].size <= STORE_KEY_BYTES_MAX)
        return true;
    reply_error(c->out, "ERR field exceeds maximum allowed size (%d bytes)", STORE_KEY_BYTES_MAX);
    return false;
}

bool call_check_pattern(struct call *c, struct slice pattern) {
    if (pattern.size <= COMMAND_PATTERN_BYTES_MAX)
        return true;
    reply_error(c->out, "ERR pattern exceeds maximum allowed size (%d bytes)",
                COMMAND_PATTERN_BYTES_MAX);
    return false;
}

bool call_get_cursor(struct call *c, size_t at, uint64_t *ret_cursor) {
    if (num_parse_u64(c->args[at], ret_cursor))
        return true;
    reply_error(c->out, "ERR invalid cursor");
    return false;
}

bool call_get_scan_options(struct call *c, size_t at, bool allow_type,
                           struct scan_options *ret_options) {
    struct scan_options o = {.count = 10};
    for (; at < c->count; at += 2) {
        bool has_value = at + 1 < c->count;
        if (has_value && slice_equal_nocase(c->args[at], "count")) {
            int64_t count;
            if (!call_get_i64(c, at + 1, &count))
                return false;
            if (count < 1) {
                call_syntax_error(c);
                return false;
            }
            o.count = (uint64_t)count;
        } else if (has_value && slice_equal_nocase(c->args[at], "match")) {
            if (!call_check_pattern(c, c->args[at + 1]))
                return false;
            o.pattern = c->args[at + 1];
        } else if (has_value && allow_type && slice_equal_nocase(c->args[at], "type")) {
            o.type = c->args[at + 1];
        } else {
            call_syntax_error(c);
            return false;
        }
    }
    if (slice_equal_str(o.pattern, "*"))
        o.pattern.data = NULL;
    *ret_options = o;
    return true;
}

/* ---- records ---- */

int call_find(struct call *c, struct slice key, enum record_type type, struct record *ret_record) {
    int rc = keyspace_find(c->ks, c->db, key, ret_record);
    if (rc != 0 || ret_record->type == type)
        return rc;
    call_wrong_type(c);
    return CALL_ANSWERED;
}

int call_find_string(struct call *c, struct slice key, struct record *ret_record,
                     struct slice *ret_value) {
    *ret_value = slice_of(NULL, 0);
    int rc = call_find(c, key, RECORD_STRING, ret_record);
    return rc ? rc : keyspace_value(c->ks, c->db, key, ret_value);
}

int call_put_string(struct call *c, struct slice key, struct slice value,
                    const struct record *old) {
    uint8_t type[COMMAND_CONTENT_TYPE_BYTES_MAX];
    size_t type_size = 0;
    if (old) {
        /* The old record's bytes lie where the new one may be written. */
        type_size = old->content_type.size;
        CHECK(type_size <= sizeof type);
        if (type_size > 0)
            memcpy(type, old->content_type.data, type_size);
    }
    return keyspace_put_string(c->ks, c->db, key, value, slice_of(type, type_size),
                               old ? old->expiry_ms : 0);
}

int call_set_expiry(struct call *c, struct slice key, int64_t expiry_ms) {
    if (expiry_ms <= (int64_t)keyspace_now_ms(c->ks))
        return keyspace_delete(c->ks, c->db, key);
    return keyspace_set_expiry(c->ks, c->db, key, (uint64_t)expiry_ms);
}

const char *call_type_name(enum record_type type) {
    return type == RECORD_HASH ? "hash" : "string";
}

/* ---- expiry ---- */

void call_expiry_error(struct call *c) {
    char name[32];
    size_t n = 0;
    for (; c->command->name[n] && n < sizeof name - 1; n++)
        name[n] = (char)tolower((unsigned char)c->command->name[n]);
    name[n] = 0;
    reply_error(c->out, "ERR invalid expire time in '%s' command", name);
}

bool call_get_expiry(struct call *c, size_t at, enum expiry_unit unit, bool absolute,
                     int64_t *ret_expiry_ms) {
    int64_t v;
    if (!call_get_i64(c, at, &v))
        return false;
    if (v <= 0 || (unit == EXPIRY_SECONDS && __builtin_mul_overflow(v, 1000, &v)) ||
        (!absolute && __builtin_add_overflow(v, (int64_t)keyspace_now_ms(c->ks), &v))) {
        call_expiry_error(c);
        return false;
    }
    *ret_expiry_ms = v;
    return true;
}
