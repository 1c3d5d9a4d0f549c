/* /v1/kv and /v1/incr. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"
#include "proto/url.h"
#include "store/commands.h"
#include "store/store.h"

enum {
    LIST_LIMIT_DEFAULT = 100,
    REVISION_POSITION_BITS = 20, /* a revision is log index << 20 | position */
};

/* What users store must not act as a page of ours when a browser opens it. */
#define VALUE_POLICY "default-src 'none'; sandbox"

/* ---- what requests have in common --------------------------------------------------------------
 */

/* Decodes the key; false when it was answered. */
static bool take_key(struct http_request *r, const struct http_input *in) {
    if (!url_decode(&r->key, in->rest)) {
        http_bad_request(r, "the key in the path is not properly percent-encoded");
        return false;
    }
    if (r->key.size > STORE_KEY_BYTES_MAX) {
        http_problem(r, &(struct http_problem){.status = 414, .code = "key_too_long"},
                     "a key may have at most %d bytes", (int)STORE_KEY_BYTES_MAX);
        return false;
    }
    return true;
}

/* Kv-Consistency and min_rev. False when it was answered. */
static bool take_consistency(struct http_request *r, const struct http_input *in,
                             enum upstream_kind *ret_kind) {
    const struct slice *mode = http_find_header(in->head, "Kv-Consistency");
    *ret_kind = UPSTREAM_READ;
    if (mode && slice_equal_nocase(*mode, "stale")) {
        *ret_kind = UPSTREAM_READ_STALE;
    } else if (mode && !slice_equal_nocase(*mode, "linearizable")) {
        http_bad_request(r, "Kv-Consistency is \"linearizable\" (as without it) or \"stale\"");
        return false;
    }
    struct buf text = {0};
    uint64_t revision = 0;
    int found = http_query(r, in, "min_rev", &text);
    bool number = found > 0 && num_parse_u64(buf_slice(&text), &revision);
    buf_fini(&text);
    if (found < 0)
        return false;
    if (found > 0 && !number) {
        http_bad_request(r, "min_rev must be a revision: a decimal number");
        return false;
    }
    r->base.up.min_index = revision >> REVISION_POSITION_BITS;
    return true;
}

/* ttl, and keepttl where `keep` is set. Appends what KV.PUT takes. False when answered. */
static bool take_ttl(struct http_request *r, const struct http_input *in, bool keep,
                     struct buf *out) {
    struct buf text = {0};
    uint64_t ttl_ms = 0;
    bool ok = false;
    int has_ttl = http_query(r, in, "ttl", &text);
    if (has_ttl < 0)
        goto out;
    if (has_ttl && (!duration_parse_ms(buf_slice(&text), &ttl_ms) || ttl_ms == 0)) {
        http_bad_request(r, "ttl must be a duration such as 500ms, 30s, 5m, 2h or 7d");
        goto out;
    }
    int has_keep = keep ? http_query(r, in, "keepttl", &text) : 0;
    if (has_keep < 0)
        goto out;
    if (has_keep && has_ttl) {
        http_bad_request(r, "ttl and keepttl exclude each other");
        goto out;
    }
    if (has_keep && text.size > 0 && !slice_equal_str(buf_slice(&text), "1") &&
        !slice_equal_str(buf_slice(&text), "true")) {
        http_bad_request(r, "keepttl takes no value");
        goto out;
    }
    if (has_keep)
        buf_append_str(out, "keep");
    else if (has_ttl)
        num_append_u64(out, ttl_ms);
    ok = true;
out:
    buf_fini(&text);
    return ok;
}

/* Reads a list of entity tags (RFC 9110 section 8.8.3) into what the KV commands take: "*", or
 * revisions joined by ",". Tags that no revision of ours has are left out; when nothing else is
 * left, NO_REVISION stands for them, which no key has. Weak tags match in If-None-Match only. */
#define NO_REVISION "18446744073709551615"
static bool parse_tags(struct slice list, bool weak_match, struct buf *out) {
    size_t i = 0;
    if (slice_equal_str(list, "*")) {
        buf_reset(out);
        buf_append_char(out, '*');
        return true;
    }
    while (i < list.size) {
        if (list.data[i] == ' ' || list.data[i] == '\t' || list.data[i] == ',') {
            i++;
            continue;
        }
        bool weak = i + 1 < list.size && list.data[i] == 'W' && list.data[i + 1] == '/';
        i += weak ? 2 : 0;
        if (i >= list.size || list.data[i] != '"')
            return false;
        const uint8_t *start = list.data + i + 1;
        const uint8_t *end = memchr(start, '"', list.size - i - 1);
        if (!end)
            return false;
        struct slice tag = slice_of(start, (size_t)(end - start));
        i += tag.size + 2;
        uint64_t revision;
        if ((!weak || weak_match) && num_parse_u64(tag, &revision) && revision > 0) {
            if (out->size > 0)
                buf_append_char(out, ',');
            num_append_u64(out, revision);
        }
    }
    return true;
}

/* All fields of that name together. False when answered. */
static bool take_tags(struct http_request *r, const struct http_input *in, const char *name,
                      bool weak_match, struct buf *out) {
    bool present = false;
    for (size_t i = 0; i < in->head->header_count; i++) {
        if (!slice_equal_nocase(in->head->headers[i].name, name))
            continue;
        present = true;
        if (!parse_tags(in->head->headers[i].value, weak_match, out)) {
            http_bad_request(r, "%s must be * or a list of quoted entity tags", name);
            return false;
        }
    }
    if (present && out->size == 0)
        buf_append_str(out, NO_REVISION);
    return true;
}

static bool take_conditions(struct http_request *r, const struct http_input *in) {
    return take_tags(r, in, "If-Match", false, &r->if_match) &&
           take_tags(r, in, "If-None-Match", true, &r->if_none_match);
}

static bool tags_have(const struct buf *tags, uint64_t revision) {
    if (slice_equal_str(buf_slice(tags), "*"))
        return revision != 0;
    struct slice left = buf_slice(tags);
    while (left.size > 0) {
        const uint8_t *comma = memchr(left.data, ',', left.size);
        size_t n = comma ? (size_t)(comma - left.data) : left.size;
        uint64_t tag;
        if (num_parse_u64(slice_of(left.data, n), &tag) && tag == revision)
            return true;
        left = slice_of(left.data + n + (comma != NULL), left.size - n - (comma != NULL));
    }
    return false;
}

static void put_version_headers(struct http_request *r, uint64_t revision, uint64_t expiry_ms) {
    if (revision)
        http_header_etag(r, revision);
    if (expiry_ms)
        http_header_u64(r, "Kv-Expires", expiry_ms);
}

static void answer_precondition(struct http_request *r, uint64_t revision) {
    char extra[64];
    snprintf(extra, sizeof extra, ",\"revision\":\"%" PRIu64 "\"", revision);
    http_problem(r,
                 &(struct http_problem){.status = 412,
                                        .code = "precondition_failed",
                                        .etag = revision,
                                        .extra = slice_str(extra)},
                 "%s", revision ? "the key has another revision" : "the key does not exist");
}

static void answer_missing(struct http_request *r) {
    http_problem(r, &(struct http_problem){.status = 404, .code = "key_not_found"},
                 "the key does not exist");
}

/* ---- GET and HEAD ------------------------------------------------------------------------------
 */

static void get_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct reply_item row[4];
    uint64_t revision, expiry_ms, size;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (reply_is_null(reply)) {
        if (r->if_match.size > 0)
            answer_precondition(r, 0);
        else
            answer_missing(r);
        return;
    }
    if (!http_take_row(&reply, row, 4) || !http_item_u64(&row[0], &revision) ||
        !http_item_u64(&row[1], &expiry_ms) || row[2].type != '$') {
        http_malformed_reply(r);
        return;
    }
    if (r->if_match.size > 0 && !tags_have(&r->if_match, revision)) {
        answer_precondition(r, revision);
        return;
    }
    bool same = r->if_none_match.size > 0 && tags_have(&r->if_none_match, revision);
    http_begin(r, same ? 304 : 200);
    put_version_headers(r, revision, expiry_ms);
    http_header_u64(r, "Kv-Index", index);
    http_header(r, "Cache-Control", slice_str("no-cache"));
    if (same) {
        http_end(r, NULL, slice_of(NULL, 0));
        return;
    }
    http_header(r, "Content-Security-Policy", slice_str(VALUE_POLICY));
    char type[COMMAND_CONTENT_TYPE_BYTES_MAX + 1] = "application/octet-stream";
    if (row[2].bytes.size > 0 && row[2].bytes.size < sizeof type) {
        memcpy(type, row[2].bytes.data, row[2].bytes.size);
        type[row[2].bytes.size] = 0;
    }
    if (r->method == HTTP_HEAD && http_item_u64(&row[3], &size))
        row[3].bytes = slice_of(NULL, size); /* only its size is written */
    http_end(r, type, row[3].bytes);
}

void http_kv_get(struct http_request *r, const struct http_input *in) {
    enum upstream_kind kind;
    if (!http_check_query(r, in, "min_rev") || !take_key(r, in) ||
        !take_consistency(r, in, &kind) || !take_conditions(r, in))
        return;
    struct pack p = pack_begin(r->method == HTTP_HEAD ? "KV.HEAD" : "KV.GET");
    pack_slice(&p, buf_slice(&r->key));
    struct buf packed = pack_end(&p);
    http_submit(r, kind, &packed, get_answer);
}

/* ---- PUT and DELETE ----------------------------------------------------------------------------
 */

/* The row of KV.PUT, KV.DEL and KV.INCR: [status, ...]. */
static bool take_status_row(struct http_request *r, enum upstream_outcome outcome,
                            struct slice reply, struct reply_item *row, size_t count,
                            uint64_t *ret_status) {
    if (http_answer_failure(r, outcome, reply))
        return false;
    if (!http_take_row(&reply, row, count) || !http_item_u64(&row[0], ret_status)) {
        http_malformed_reply(r);
        return false;
    }
    return true;
}

static void put_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct reply_item row[3];
    struct slice whole = reply;
    struct reply_item header;
    uint64_t status, revision, expiry_ms = 0;
    size_t count = reply_next(&whole, &header) && header.integer >= 3 ? 3 : 2;
    if (!take_status_row(r, outcome, reply, row, count, &status))
        return;
    if (!http_item_u64(&row[1], &revision) || (count == 3 && !http_item_u64(&row[2], &expiry_ms))) {
        http_malformed_reply(r);
        return;
    }
    if (status == 412) {
        answer_precondition(r, revision);
        return;
    }
    http_begin(r, status == 201 ? 201 : 204);
    put_version_headers(r, revision, expiry_ms);
    http_header_u64(r, "Kv-Index", index);
    if (status == 201)
        http_header_u64(r, "Content-Length", 0);
    http_end(r, NULL, slice_of(NULL, 0));
}

void http_kv_put(struct http_request *r, const struct http_input *in) {
    struct buf ttl = {0};
    const struct slice *type = http_find_header(in->head, "Content-Type");
    if (!http_check_query(r, in, "ttl,keepttl") || !take_key(r, in))
        return;
    if (http_find_header(in->head, "Content-Encoding")) {
        http_problem(r, &(struct http_problem){.status = 415, .code = "content_encoding"},
                     "values are stored as they are: send them without Content-Encoding");
        return;
    }
    if (http_find_header(in->head, "Content-Range")) {
        http_bad_request(r, "a value is stored whole: Content-Range is not possible");
        return;
    }
    if (type && type->size > COMMAND_CONTENT_TYPE_BYTES_MAX) {
        http_bad_request(r, "Content-Type may have at most %d bytes",
                         (int)COMMAND_CONTENT_TYPE_BYTES_MAX);
        return;
    }
    if (!take_conditions(r, in) || !take_ttl(r, in, true, &ttl)) {
        buf_fini(&ttl);
        return;
    }
    struct pack p = http_pack_write(r, "KV.PUT");
    pack_slice(&p, buf_slice(&r->key));
    pack_slice(&p, in->body);
    pack_slice(&p, type ? *type : slice_of(NULL, 0));
    pack_slice(&p, buf_slice(&ttl));
    pack_slice(&p, buf_slice(&r->if_match));
    pack_slice(&p, buf_slice(&r->if_none_match));
    buf_fini(&ttl);
    struct buf packed = pack_end(&p);
    http_submit(r, UPSTREAM_WRITE, &packed, put_answer);
}

static void delete_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    struct reply_item row[2];
    uint64_t status, revision;
    if (!take_status_row(r, outcome, reply, row, 2, &status))
        return;
    if (!http_item_u64(&row[1], &revision)) {
        http_malformed_reply(r);
    } else if (status == 412) {
        answer_precondition(r, revision);
    } else if (status == 404) {
        answer_missing(r);
    } else {
        http_begin(r, 204);
        http_header_u64(r, "Kv-Revision", revision);
        http_header_u64(r, "Kv-Index", index);
        http_end(r, NULL, slice_of(NULL, 0));
    }
}

void http_kv_delete(struct http_request *r, const struct http_input *in) {
    if (!http_check_query(r, in, "") || !take_key(r, in) || !take_conditions(r, in))
        return;
    struct pack p = http_pack_write(r, "KV.DEL");
    pack_slice(&p, buf_slice(&r->key));
    pack_slice(&p, buf_slice(&r->if_match));
    pack_slice(&p, buf_slice(&r->if_none_match));
    struct buf packed = pack_end(&p);
    http_submit(r, UPSTREAM_WRITE, &packed, delete_answer);
}

/* ---- POST /v1/incr -----------------------------------------------------------------------------
 */

static void incr_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                        struct slice reply) {
    struct reply_item row[3];
    uint64_t status, revision;
    if (!take_status_row(r, outcome, reply, row, 3, &status))
        return;
    if (row[1].type != ':' || !http_item_u64(&row[2], &revision)) {
        http_malformed_reply(r);
        return;
    }
    if (status == 409) {
        char extra[64];
        snprintf(extra, sizeof extra, ",\"value\":%" PRId64, row[1].integer);
        http_problem(
            r,
            &(struct http_problem){
                .status = 409, .code = "bound", .etag = revision, .extra = slice_str(extra)},
            "the value would pass a bound");
        return;
    }
    struct buf json = {0};
    struct json_out j;
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "value");
    json_out_i64(&j, row[1].integer);
    http_json_revision(&j, revision);
    json_out_end(&j, '}');
    buf_append_char(&json, '\n');
    http_begin(r, 200);
    http_header_etag(r, revision);
    http_header_u64(r, "Kv-Index", index);
    http_header(r, "Cache-Control", slice_str("no-store"));
    http_end(r, "application/json", buf_slice(&json));
    buf_fini(&json);
}

void http_kv_incr(struct http_request *r, const struct http_input *in) {
    static const char *const names[] = {"by", "min", "max"};
    struct buf text = {0};
    if (!http_check_query(r, in, "by,min,max,ttl") || !take_key(r, in))
        return;
    struct pack p = http_pack_write(r, "KV.INCR");
    pack_slice(&p, buf_slice(&r->key));
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        int64_t value;
        int found = http_query(r, in, names[i], &text);
        if (found < 0)
            goto out;
        if (found && !num_parse_i64(buf_slice(&text), &value)) {
            http_bad_request(r, "%s must be a whole number of 64 bits", names[i]);
            goto out;
        }
        pack_slice(&p, found ? buf_slice(&text) : slice_of(NULL, 0));
    }
    buf_reset(&text);
    if (!take_ttl(r, in, false, &text))
        goto out;
    pack_slice(&p, buf_slice(&text));
    struct buf packed = pack_end(&p);
    http_submit(r, UPSTREAM_WRITE, &packed, incr_answer);
out:
    buf_fini(&p.out);
    buf_fini(&text);
}

/* ---- the listing -------------------------------------------------------------------------------
 */

/* What is needed for the link to the next page. */
struct list_query {
    char limit[16];
    bool values;
    size_t prefix_bytes, delimiter_bytes;
    uint8_t bytes[]; /* prefix, then delimiter */
};

static void put_next_url(const struct list_query *q, struct slice after, struct buf *out) {
    buf_append_str(out, "/v1/kv?");
    if (q->prefix_bytes) {
        buf_append_str(out, "prefix=");
        url_encode(out, slice_of(q->bytes, q->prefix_bytes), "/");
        buf_append_char(out, '&');
    }
    if (q->delimiter_bytes) {
        buf_append_str(out, "delimiter=");
        url_encode(out, slice_of(q->bytes + q->prefix_bytes, q->delimiter_bytes), "/");
        buf_append_char(out, '&');
    }
    buf_printf(out, "limit=%s%s&after=", q->limit, q->values ? "&values=1" : "");
    url_encode(out, after, "/");
}

static bool put_list_key(struct json_out *j, struct slice *reply) {
    struct reply_item row[7];
    uint64_t revision, expiry_ms;
    if (!http_take_row(reply, row, 7) || row[0].type != '$' || !http_item_u64(&row[1], &revision) ||
        !http_item_u64(&row[2], &expiry_ms) || (row[3].type != '$' && row[3].type != '+') ||
        row[4].type != ':' || row[5].type != '$')
        return false;
    json_out_object(j);
    http_json_bytes(j, "key", "key_base64", row[0].bytes);
    http_json_revision(j, revision);
    json_out_key(j, "type");
    json_out_string(j, row[3].bytes);
    json_out_key(j, "size");
    json_out_i64(j, row[4].integer);
    if (expiry_ms) {
        json_out_key(j, "expires_ms");
        json_out_u64(j, expiry_ms);
    }
    if (row[5].bytes.size > 0) {
        json_out_key(j, "content_type");
        json_out_string(j, row[5].bytes);
    }
    if (row[6].type == '$')
        http_json_bytes(j, "value", "base64", row[6].bytes);
    json_out_end(j, '}');
    return true;
}

/* False when the reply is malformed. *ret_next is the URL of the next page, empty at the end. */
static bool list_to_json(const struct list_query *q, struct slice reply, struct buf *json,
                         struct buf *ret_next) {
    struct reply_item header, revision, after, keys, prefixes;
    struct json_out j;
    uint64_t number;
    if (!reply_next(&reply, &header) || header.type != '*' || header.integer != 4 ||
        !reply_next(&reply, &revision) || !http_item_u64(&revision, &number) ||
        !reply_next(&reply, &after) || !reply_next(&reply, &keys) || keys.type != '*')
        return false;
    json_out_begin(&j, json);
    json_out_object(&j);
    http_json_revision(&j, number);
    json_out_key(&j, "keys");
    json_out_array(&j);
    for (int64_t i = 0; i < keys.integer; i++)
        if (!put_list_key(&j, &reply))
            return false;
    json_out_end(&j, ']');
    json_out_key(&j, "prefixes");
    struct slice at = reply;
    if (!reply_next(&at, &prefixes) || prefixes.type != '*' || !http_reply_to_json(&j, &reply))
        return false;
    if (after.type == '$') {
        put_next_url(q, after.bytes, ret_next);
        json_out_key(&j, "next");
        json_out_string(&j, buf_slice(ret_next));
    }
    json_out_end(&j, '}');
    buf_append_char(json, '\n');
    return true;
}

static void list_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                        struct slice reply) {
    if (http_answer_failure(r, outcome, reply))
        return;
    struct buf json = {0}, next = {0};
    if (!list_to_json(r->data, reply, &json, &next)) {
        http_malformed_reply(r);
    } else {
        http_begin(r, 200);
        if (next.size > 0) {
            struct buf link = {0};
            buf_printf(&link, "<%.*s>; rel=\"next\"", (int)next.size, (const char *)next.data);
            http_header(r, "Link", buf_slice(&link));
            buf_fini(&link);
        }
        http_header_u64(r, "Kv-Index", index);
        http_header(r, "Cache-Control", slice_str("no-store"));
        http_end(r, "application/json", buf_slice(&json));
    }
    buf_fini(&json);
    buf_fini(&next);
}

void http_kv_list(struct http_request *r, const struct http_input *in) {
    struct buf prefix = {0}, delimiter = {0}, after = {0}, limit = {0}, values = {0};
    enum upstream_kind kind;
    uint64_t count = LIST_LIMIT_DEFAULT;
    if (!http_check_query(r, in, "prefix,delimiter,after,limit,values,min_rev") ||
        !take_consistency(r, in, &kind))
        return;
    int has_limit = 0, has_values = 0;
    if (http_query(r, in, "prefix", &prefix) < 0 ||
        http_query(r, in, "delimiter", &delimiter) < 0 || http_query(r, in, "after", &after) < 0 ||
        (has_limit = http_query(r, in, "limit", &limit)) < 0 ||
        (has_values = http_query(r, in, "values", &values)) < 0)
        goto out;
    if (has_limit &&
        (!num_parse_u64(buf_slice(&limit), &count) || count == 0 || count > KV_LIST_LIMIT_MAX)) {
        http_bad_request(r, "limit must be a number from 1 to %d", (int)KV_LIST_LIMIT_MAX);
        goto out;
    }
    bool with_values = has_values && slice_equal_str(buf_slice(&values), "1");
    if (has_values && !with_values && !slice_equal_str(buf_slice(&values), "0")) {
        http_bad_request(r, "values must be 0 or 1");
        goto out;
    }
    struct list_query *q = xmalloc(sizeof *q + prefix.size + delimiter.size);
    snprintf(q->limit, sizeof q->limit, "%" PRIu64, count);
    q->values = with_values;
    q->prefix_bytes = prefix.size;
    q->delimiter_bytes = delimiter.size;
    if (prefix.size > 0)
        memcpy(q->bytes, prefix.data, prefix.size);
    if (delimiter.size > 0)
        memcpy(q->bytes + prefix.size, delimiter.data, delimiter.size);
    r->data = q;
    struct pack p = pack_begin("KV.LIST");
    pack_slice(&p, buf_slice(&prefix));
    pack_slice(&p, buf_slice(&delimiter));
    pack_slice(&p, buf_slice(&after));
    pack_u64(&p, count);
    pack_str(&p, with_values ? "1" : "0");
    struct buf packed = pack_end(&p);
    http_submit(r, kind, &packed, list_answer);
out:
    buf_fini(&prefix);
    buf_fini(&delimiter);
    buf_fini(&after);
    buf_fini(&limit);
    buf_fini(&values);
}
