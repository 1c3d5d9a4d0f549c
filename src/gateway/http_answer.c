#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reply.h"
#include "gateway/http_conn.h"
#include "gateway/http_json.h"
#include "gateway/http_sink.h"
#include "proto/url.h"

enum { RETRY_AFTER_MS = 500 };

static void count_status(struct gateway *gw, int status) {
    if (status >= 500)
        METRIC_ADD(&gw->metrics, http_answers_5xx_total, 1);
    else if (status >= 400)
        METRIC_ADD(&gw->metrics, http_answers_4xx_total, 1);
}

void http_begin_plain(struct http_request *r, int status) {
    CHECK(r->status == 0);
    count_status(r->base.conn->gw, status);
    r->status = status;
    r->sink->begin(r, status);
}

void http_begin(struct http_request *r, int status) {
    http_begin_plain(r, status);
    http_header(r, "X-Content-Type-Options", slice_str("nosniff"));
    if (r->cors)
        http_cors_headers(r);
    if (r->replayed)
        http_header(r, "Idempotency-Replayed", slice_str("true"));
    /* Whatever a stale read says, also that there is no such key, was so then. */
    if (r->base.up.kind == UPSTREAM_READ_STALE && r->base.up.age_ms != LINK_AGE_UNKNOWN)
        http_header_u64(r, "Kv-Age-Ms", r->base.up.age_ms);
}

void http_header(struct http_request *r, const char *name, struct slice value) {
    r->sink->header(r, name, value);
}

void http_header_u64(struct http_request *r, const char *name, uint64_t value) {
    char text[24];
    int size = snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    r->sink->header(r, name, slice_of(text, (size_t)size));
}

void http_header_etag(struct http_request *r, uint64_t revision) {
    char text[32];
    int size = snprintf(text, sizeof text, "\"%llu\"", (unsigned long long)revision);
    r->sink->header(r, "ETag", slice_of(text, (size_t)size));
}

static void end(struct http_request *r) {
    http_request_over(r);
    r->sink->end(r);
}

void http_end(struct http_request *r, const char *content_type, struct slice content) {
    if (content_type) {
        http_header(r, "Content-Type", slice_str(content_type));
        http_header_u64(r, "Content-Length", content.size);
    }
    r->has_body = content_type && r->method != HTTP_HEAD;
    r->sink->head_end(r, content_type ? HTTP_FRAMING_LENGTH : HTTP_FRAMING_NONE);
    if (r->has_body) {
        r->sent_bytes = content.size;
        r->sink->body(r, content);
    }
    end(r);
}

void http_answer(struct http_request *r, int status, const char *content_type,
                 struct slice content) {
    http_begin(r, status);
    http_header(r, "Cache-Control", slice_str("no-store"));
    http_end(r, content_type, content);
}

void http_answer_json(struct http_request *r, int status, struct buf *json) {
    buf_append_char(json, '\n');
    http_answer(r, status, "application/json", buf_slice(json));
    buf_fini(json);
}

/* ---- in pieces ---------------------------------------------------------------------------------
 */

bool http_stream_begin(struct http_request *r, const char *content_type, uint64_t length) {
    bool known = length != HTTP_LENGTH_UNKNOWN;
    http_header(r, "Content-Type", slice_str(content_type));
    if (known)
        http_header_u64(r, "Content-Length", length);
    r->has_body = r->method != HTTP_HEAD;
    r->sink->head_end(r, known ? HTTP_FRAMING_LENGTH : HTTP_FRAMING_PIECES);
    if (!r->has_body) {
        end(r); /* frees it */
        return false;
    }
    conn_request_stream(&r->base);
    return true;
}

void http_stream_write(struct http_request *r, struct slice piece) {
    r->sent_bytes += piece.size;
    r->sink->body(r, piece);
}

void http_stream_end(struct http_request *r) {
    end(r);
}

void http_stream_abort(struct http_request *r) {
    http_request_over(r);
    r->sink->abort(r);
}

size_t http_stream_unsent(const struct http_request *r) {
    return r->sink->unsent(r);
}

/* ---- problems ----------------------------------------------------------------------------------
 */

static void put_problem_json(struct buf *json, const struct http_problem *p, struct slice detail) {
    static const char *const applied[] = {"no", "yes", "unknown"};
    struct json_out j;
    json_out_begin(&j, json);
    json_out_object(&j);
    json_out_key(&j, "type");
    json_out_str(&j, "about:blank");
    json_out_key(&j, "title");
    json_out_str(&j, http_status_text(p->status));
    json_out_key(&j, "status");
    json_out_i64(&j, p->status);
    json_out_key(&j, "detail");
    json_out_string(&j, detail);
    json_out_key(&j, "code");
    json_out_str(&j, p->code);
    json_out_key(&j, "applied");
    json_out_str(&j, applied[p->applied]);
    if (p->retry_after_ms) {
        json_out_key(&j, "retry_after_ms");
        json_out_u64(&j, p->retry_after_ms);
    }
    buf_append_slice(json, p->extra);
    json_out_end(&j, '}');
    buf_append_char(json, '\n');
}

static void problem_v(struct http_request *r, const struct http_problem *p, const char *fmt,
                      va_list ap) {
    struct buf detail = {0}, json = {0};
    buf_vprintf(&detail, fmt, ap);
    put_problem_json(&json, p, buf_slice(&detail));
    http_begin(r, p->status);
    if (p->allow)
        http_header(r, "Allow", slice_str(p->allow));
    if (p->status == 401 && strcmp(p->code, "unauthorized") == 0)
        http_header(r, "WWW-Authenticate", slice_str("Bearer realm=\"cotidal\""));
    if (p->retry_after_ms)
        http_header_u64(r, "Retry-After", (p->retry_after_ms + 999) / 1000);
    if (p->etag)
        http_header_etag(r, p->etag);
    http_header(r, "Cache-Control", slice_str("no-store"));
    http_end(r, "application/problem+json", buf_slice(&json));
    buf_fini(&detail);
    buf_fini(&json);
}

void http_problem(struct http_request *r, const struct http_problem *p, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    problem_v(r, p, fmt, ap);
    va_end(ap);
}

void http_bad_request(struct http_request *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    problem_v(r, &(struct http_problem){.status = 400, .code = "bad_request"}, fmt, ap);
    va_end(ap);
}

void http_put_bare_problem(struct buf *out, int status, const char *detail, uint64_t wall_ms,
                           bool head_only) {
    struct buf json = {0};
    struct http_problem p = {.status = status,
                             .code = status == 408   ? "timeout"
                                     : status == 503 ? "busy"
                                     : status == 429 ? "rate_limited"
                                                     : "malformed",
                             .retry_after_ms = status == 503 || status == 429 ? RETRY_AFTER_MS : 0};
    put_problem_json(&json, &p, slice_str(detail));
    http1_put_status(out, status, wall_ms / 1000);
    http1_put_header(out, "Connection", slice_str("close"));
    if (p.retry_after_ms)
        http1_put_header_u64(out, "Retry-After", (p.retry_after_ms + 999) / 1000);
    http1_put_header(out, "Content-Type", slice_str("application/problem+json"));
    http1_put_header_u64(out, "Content-Length", json.size);
    buf_append_str(out, "\r\n");
    if (!head_only)
        buf_append_slice(out, buf_slice(&json));
    buf_fini(&json);
}

/* What the error replies of the store and of the upstream mean in HTTP. */
int http_error_status(struct slice reply, const char **ret_code) {
    static const struct {
        const char *prefix;
        int status;
        const char *code;
    } table[] = {
        {"-OOM", 507, "quota_exceeded"},
        {"-WRONGTYPE", 409, "wrong_type"},
        {"-UNAVAILABLE", 503, "unavailable"},
        {"-BUSY", 503, "busy"},
        {"-MISMATCH", 422, "idempotency_key_reused"},
        {"-ONCEFULL", 503, "idempotency_full"},
        {"-NOTKEPT", 410, "answer_not_kept"},
        {"-ERR value is not an integer", 409, "not_an_integer"},
        {"-ERR increment or decrement would overflow", 409, "overflow"},
        {"-ERR string exceeds maximum", 413, "too_large"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(table); i++)
        if (slice_starts_with(reply, slice_str(table[i].prefix))) {
            *ret_code = table[i].code;
            return table[i].status;
        }
    *ret_code = "refused";
    return 400;
}

bool http_answer_failure(struct http_request *r, enum upstream_outcome outcome,
                         struct slice reply) {
    if (outcome == UPSTREAM_DONE && !reply_is_error(reply))
        return false;
    struct http_problem p = {.status = 503, .code = "unavailable"};
    struct slice in = reply, detail = slice_str("the database gave no answer");
    struct reply_item item;
    if (reply_next(&in, &item) && item.type == '-') {
        p.status = http_error_status(reply, &p.code);
        /* The first word is the code that Redis clients get. */
        const uint8_t *space = memchr(item.bytes.data, ' ', item.bytes.size);
        size_t skip = space ? (size_t)(space + 1 - item.bytes.data) : 0;
        detail = slice_of(item.bytes.data + skip, item.bytes.size - skip);
    }
    if (outcome != UPSTREAM_DONE && p.status < 500) {
        p.status = 503;
        p.code = "unavailable";
    }
    /* A command that answers an error has changed nothing (store/call.h); this one says that it was
     * executed, and that its answer is lost. */
    if (slice_starts_with(reply, slice_str("-NOTKEPT")))
        p.applied = APPLIED_YES;
    else
        p.applied = outcome == UPSTREAM_UNKNOWN ? APPLIED_UNKNOWN : APPLIED_NO;
    if (p.status == 503)
        p.retry_after_ms = RETRY_AFTER_MS;
    http_problem(r, &p, "%.*s", (int)detail.size, (const char *)detail.data);
    return true;
}

void http_malformed_reply(struct http_request *r) {
    bool read = r->base.up.kind == UPSTREAM_READ || r->base.up.kind == UPSTREAM_READ_STALE;
    http_problem(r,
                 &(struct http_problem){.status = 500,
                                        .code = "internal",
                                        .applied = read ? APPLIED_NO : APPLIED_UNKNOWN},
                 "the database node sent a reply of an unknown form");
}

/* ---- parameters --------------------------------------------------------------------------------
 */

struct query_check {
    const char *names;
    struct slice unknown;
    bool bad;
};

static void check_name(void *ctx, struct slice name, struct slice value) {
    struct query_check *check = ctx;
    (void)value;
    if (check->bad || name.size == 0)
        return;
    for (const char *at = check->names; *at;) {
        size_t n = strcspn(at, ",");
        if (n == name.size && memcmp(at, name.data, n) == 0)
            return;
        at += n + (at[n] == ',');
    }
    check->bad = true;
    check->unknown = name;
}

bool http_check_query(struct http_request *r, const struct http_input *in, const char *names) {
    struct query_check check = {.names = names};
    url_query_each(in->head->query, check_name, &check);
    if (check.bad)
        http_bad_request(r, "unknown parameter \"%.*s\"; this endpoint has: %s",
                         (int)(check.unknown.size < 100 ? check.unknown.size : 100),
                         (const char *)check.unknown.data, *names ? names : "none");
    return !check.bad;
}

int http_query(struct http_request *r, const struct http_input *in, const char *name,
               struct buf *out) {
    buf_reset(out);
    int found = url_query_get(in->head->query, name, out);
    if (found < 0)
        http_bad_request(r, "the parameter \"%s\" is not properly percent-encoded", name);
    return found;
}
