/* What is to be done with a request, whatever the version of HTTP it came by. */
#include <stdio.h>
#include <stdlib.h>

#include "base/reply.h"
#include "gateway/access_log.h"
#include "gateway/client_limits.h"
#include "gateway/http_routes.h"
#include "gateway/http_sink.h"
#include "gateway/site_serve.h"
#include "proto/idempotency.h"

enum {
    /* Before the Idempotency-Keys of visitors: no key that a client can send begins with it. */
    VISITORS_KEY = 1,
    /* The body of a request that is refused or takes none is read and thrown away up to here, so
     * that the connection lives on. */
    DISCARD_BYTES_MAX = 64 * 1024,
    /* What the access log says of a request whose client did not wait for the answer. */
    CLIENT_GONE = 499,
};

/* ---- requests ----------------------------------------------------------------------------------
 */

/* The answer to an ONCE.EXEC: [executed before, log index of the execution, the command's reply].
 * False when it is not of that form. */
static bool take_once(struct http_request *r, uint64_t *index, struct slice *reply) {
    struct reply_item header, before, executed;
    struct slice in = *reply;
    if (!reply_next(&in, &header) || header.type != '*' || header.integer != 3 ||
        !reply_next(&in, &before) || before.type != ':' || !reply_next(&in, &executed) ||
        executed.type != ':')
        return false;
    struct slice inner = in;
    if (!reply_skip(&in) || in.size > 0)
        return false;
    r->replayed = before.integer != 0;
    *index = (uint64_t)executed.integer;
    *reply = inner;
    if (r->replayed)
        METRIC_ADD(&r->base.conn->gw->metrics, http_replayed_total, 1);
    return true;
}

static void http_request_answer(struct conn_request *base, enum upstream_outcome outcome,
                                uint64_t index, struct slice reply) {
    struct http_request *r = CONTAINER_OF(base, struct http_request, base);
    bool executed = r->once.size > 0 && outcome == UPSTREAM_DONE && !reply_is_error(reply);
    if (executed && !take_once(r, &index, &reply))
        http_malformed_reply(r);
    else
        r->answer(r, outcome, index, reply);
}

static void http_request_cancel(struct conn_request *base) {
    struct http_request *r = CONTAINER_OF(base, struct http_request, base);
    if (r->gone)
        r->gone(r);
    r->gone = NULL;
}

static void http_request_more(struct conn_request *base) {
    struct http_request *r = CONTAINER_OF(base, struct http_request, base);
    if (r->more)
        r->more(r);
}

static void http_request_free(struct conn_request *base) {
    struct http_request *r = CONTAINER_OF(base, struct http_request, base);
    if (r->sink->forget)
        r->sink->forget(r);
    access_note_end(base->conn->gw, r->note, r->status ? r->status : CLIENT_GONE, r->sent_bytes);
    buf_fini(&r->key);
    buf_fini(&r->if_match);
    buf_fini(&r->if_none_match);
    buf_fini(&r->once);
    free(r->data);
    free(r);
}

static const struct conn_request_ops http_request_ops = {
    .answer = http_request_answer,
    .cancel = http_request_cancel,
    .more = http_request_more,
    .free = http_request_free,
};

struct pack http_pack_write(const struct http_request *r, const char *name) {
    return r->once.size > 0 ? pack_begin_once(buf_slice(&r->once), name) : pack_begin(name);
}

/* Idempotency-Key, where it means something: on requests that write. False when it was answered. */
static bool take_idempotency_key(struct http_request *r, const struct http_head *head) {
    uint8_t key[IDEMPOTENCY_KEY_BYTES_MAX];
    size_t size, found = 0;
    for (size_t i = 0; i < head->header_count; i++) {
        if (!slice_equal_nocase(head->headers[i].name, "Idempotency-Key"))
            continue;
        if (found++ > 0) {
            http_bad_request(r, "there is more than one Idempotency-Key");
            return false;
        }
        if (!idempotency_key_parse(head->headers[i].value, key, &size)) {
            http_bad_request(r,
                             "Idempotency-Key must be a string of 1 to %d bytes, \"in quotes\", or "
                             "bare without \" , ; \\ and blanks",
                             (int)IDEMPOTENCY_KEY_BYTES_MAX);
            return false;
        }
        /* What anybody may send must not get into the way of who has credentials. */
        if (http_who(r->base.conn, head).kind == WHO_ANONYMOUS)
            buf_append_u8(&r->once, VISITORS_KEY);
        buf_append(&r->once, key, size);
    }
    return true;
}

void http_submit(struct http_request *r, enum upstream_kind kind, struct buf *packed_argv,
                 http_answer_fn answer) {
    r->answer = answer;
    conn_submit(&r->base, kind, 0, packed_argv);
}

void http_request_begin(struct http_request *r, struct conn *c, enum http_version version,
                        const struct http_head *head, const struct http_sink *sink) {
    METRIC_ADD(&c->gw->metrics, http_requests_total, 1);
    r->sink = sink;
    r->version = version;
    r->method = head->method;
    r->keep_alive = head->keep_alive;
    conn_enqueue(c, &r->base, &http_request_ops);
}

void http_request_over(struct http_request *r) {
    r->gone = NULL;
}

static void run_refusal(const struct http_plan *plan, struct http_request *r) {
    if (plan->status == 204) {
        http_begin(r, 204);
        http_header(r, "Allow", slice_str(plan->allow));
        if (plan->preflight)
            http_cors_preflight(r);
        http_end(r, NULL, slice_of(NULL, 0));
        return;
    }
    char error[sizeof plan->detail + 16] = "";
    if (plan->as_error) /* its text is one of ours, without quotes */
        snprintf(error, sizeof error, ",\"error\":\"%s\"", plan->detail);
    http_problem(r,
                 &(struct http_problem){.extra = slice_str(error),
                                        .status = plan->status,
                                        .code = plan->code,
                                        .retry_after_ms = plan->retry_after_ms,
                                        .allow = plan->allow[0] ? plan->allow : NULL},
                 "%s", plan->detail);
}

/* Whether the client's address may send one more now. If not, it is answered. */
static bool within_rate(struct http_request *r) {
    struct conn *c = r->base.conn;
    uint32_t wait_ms;
    if (!c->gw->options.limits ||
        client_limits_request(c->gw->options.limits, stream_peer_ip(c->stream),
                              gateway_now_ms(c->gw), &wait_ms))
        return true;
    METRIC_ADD(&c->gw->metrics, http_limited_total, 1);
    http_problem(
        r, &(struct http_problem){.status = 429, .code = "rate_limited", .retry_after_ms = wait_ms},
        "there are too many requests from this address");
    return false;
}

void http_plan_run(struct http_plan *plan, struct http_request *r, const struct http_head *head,
                   struct slice body) {
    static const char *const versions[] = {"1.0", "1.1", "2.0"};
    struct conn *c = r->base.conn;
    r->note =
        access_note_new(c->gw, stream_peer_ip(c->stream), head, versions[r->version], r->began_us);
    r->cors = plan->cors;
    if (!within_rate(r))
        return;
    if (plan->late)
        http_plan_access_again(plan, c, head);
    r->route = plan->route;
    if (plan->route && plan->route->access == ACCESS_COMMANDS)
        r->who = http_who(c, head);
    if (!plan->route) {
        run_refusal(plan, r);
        return;
    }
    struct http_input in = {.head = head, .rest = plan->rest, .body = body};
    if (plan->route->needs != NEEDS_WRITE || take_idempotency_key(r, head))
        plan->route->handler(r, &in);
}

/* ---- refusals ----------------------------------------------------------------------------------
 */

void http_plan_refuse(struct http_plan *plan, int status, const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(plan->detail, sizeof plan->detail, fmt, ap);
    va_end(ap);
    plan->route = NULL;
    plan->status = status;
    plan->code = code;
    plan->allow[0] = 0;
}

void http_plan_refuse_large(struct http_plan *plan, const struct gateway *gw) {
    http_plan_refuse(plan, 413, "too_large", "the body may have at most %llu bytes",
                     (unsigned long long)http_plan_body_limit(plan, gw));
}

uint64_t http_plan_body_limit(const struct http_plan *plan, const struct gateway *gw) {
    if (!plan->route || plan->route->body == BODY_NONE)
        return DISCARD_BYTES_MAX;
    if (plan->route->body == BODY_BLOCKS)
        return HTTP_BLOCKS_BYTES_MAX;
    if (plan->route->body == BODY_DOCUMENT)
        return DISCARD_BYTES_MAX;
    return plan->route->body == BODY_TXN ? gw->options.txn_bytes_max : gw->options.value_bytes_max;
}

bool http_plan_wants_body(const struct http_plan *plan) {
    return plan->route && plan->route->body != BODY_NONE;
}

/* A page of another site must not change anything here through its visitor's browser. Browsers say
 * so in Sec-Fetch-Site where the connection is secure or local, and send Origin with every such
 * request (to be compared with Host, which a proxy may have changed, hence second). */
static bool foreign_origin(const struct http_head *head) {
    if (head->method == HTTP_GET || head->method == HTTP_HEAD)
        return false;
    const struct slice *site = http_find_header(head, "Sec-Fetch-Site");
    if (site)
        return !slice_equal_str(*site, "same-origin") && !slice_equal_str(*site, "none");
    const struct slice *origin = http_find_header(head, "Origin");
    if (!origin)
        return false;
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        struct slice scheme = slice_str(schemes[i]);
        if (slice_starts_with(*origin, scheme)) {
            struct slice host = slice_of(origin->data + scheme.size, origin->size - scheme.size);
            return host.size != head->host.size ||
                   strncasecmp((const char *)host.data, (const char *)head->host.data, host.size) !=
                       0;
        }
    }
    return true;
}

static bool has_dot_segment(struct slice path) {
    for (size_t i = 0; i < path.size; i++) {
        if (path.data[i] != '/')
            continue;
        size_t n = 0;
        while (i + 1 + n < path.size && path.data[i + 1 + n] != '/')
            n++;
        const uint8_t *segment = path.data + i + 1;
        if ((n == 1 && segment[0] == '.') || (n == 2 && segment[0] == '.' && segment[1] == '.'))
            return true;
    }
    return false;
}

static void refuse_method(struct http_plan *plan, const struct http_head *head, const char *allow) {
    bool asks = head->method == HTTP_OPTIONS;
    plan->preflight = asks && plan->cors && http_find_header(head, "Access-Control-Request-Method");
    if (asks)
        http_plan_refuse(plan, 204, "", "%s", "");
    else
        http_plan_refuse(plan, 405, "method_not_allowed", "this path allows %s", allow);
    snprintf(plan->allow, sizeof plan->allow, "%s", allow);
}

void http_plan_make(struct http_plan *plan, struct gateway *gw, const struct http_head *head) {
    char allow[64];
    *plan = (struct http_plan){.cors = gw->access ? http_cors_origin(gw, head) : NULL};
    if (head->method == HTTP_OTHER) {
        http_plan_refuse(plan, 501, "not_implemented", "this server does not know the method");
        return;
    }
    if (slice_equal_str(head->path, "*")) {
        refuse_method(plan, head, "GET, HEAD, PUT, POST, DELETE, OPTIONS");
        return;
    }
    if (site_takes(gw, head)) {
        if (head->method == HTTP_GET || head->method == HTTP_HEAD)
            plan->route = &site_route;
        else
            refuse_method(plan, head, "GET, HEAD, OPTIONS");
        return;
    }
    if (has_dot_segment(head->path)) {
        http_plan_refuse(plan, 400, "bad_request",
                         "the path has a dot segment; write %%2E for a dot that belongs to a key");
        return;
    }
    switch (http_route_find(head->method, head->path, &plan->route, &plan->rest, allow)) {
    case HTTP_FOUND:
        break;
    case HTTP_NO_PATH:
        http_plan_refuse(plan, 404, "not_found", "there is nothing at this path");
        return;
    case HTTP_NO_METHOD:
        refuse_method(plan, head, allow);
        return;
    }
    if (!plan->cors && foreign_origin(head))
        http_plan_refuse(plan, 403, "cross_origin",
                         "the request comes from a page of another site");
}
