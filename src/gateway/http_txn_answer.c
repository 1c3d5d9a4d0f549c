/* The results of POST /v1/txn as JSON. */
#include <inttypes.h>

#include "gateway/http_json.h"
#include "gateway/http_txn.h"

/* ---- answering ---------------------------------------------------------------------------------
 */

static void put_status(struct json_out *j, int64_t status) {
    json_out_key(j, "status");
    json_out_i64(j, status);
}

static bool put_row_result(struct json_out *j, enum txn_op kind, struct slice *reply) {
    struct reply_item row[4] = {0};
    uint64_t status, revision, expiry_ms = 0;
    struct slice at = *reply;
    struct reply_item header;
    size_t want = kind == OP_GET ? 4 : kind == OP_INCR ? 3 : 2;
    if (!reply_next(&at, &header))
        return false;
    if (kind == OP_PUT && header.type == '*' && header.integer >= 3)
        want = 3;
    if (!http_take_row(reply, row, want))
        return false;
    if (kind == OP_GET) {
        if (!http_item_u64(&row[0], &revision) || !http_item_u64(&row[1], &expiry_ms) ||
            row[2].type != '$' || row[3].type != '$')
            return false;
        put_status(j, 200);
        http_json_bytes(j, "value", "base64", row[3].bytes);
        if (row[2].bytes.size > 0) {
            json_out_key(j, "content_type");
            json_out_string(j, row[2].bytes);
        }
    } else {
        const struct reply_item *rev = &row[kind == OP_INCR ? 2 : 1];
        if (!http_item_u64(&row[0], &status) || !http_item_u64(rev, &revision) ||
            (kind == OP_PUT && want == 3 && !http_item_u64(&row[2], &expiry_ms)))
            return false;
        put_status(j, (int64_t)status);
        if (kind == OP_INCR) {
            json_out_key(j, "value");
            json_out_i64(j, row[1].integer);
        }
    }
    http_json_revision(j, revision);
    if (expiry_ms) {
        json_out_key(j, "expires_ms");
        json_out_u64(j, expiry_ms);
    }
    return true;
}

static bool put_result(struct json_out *j, enum txn_op kind, struct slice *reply) {
    bool ok = true;
    json_out_object(j);
    if (reply_is_error(*reply)) {
        const char *code;
        struct slice whole = *reply;
        struct reply_item item;
        ok = reply_next(reply, &item);
        put_status(j, http_error_status(whole, &code));
        json_out_key(j, "code");
        json_out_str(j, code);
        json_out_key(j, "error");
        json_out_string(j, ok ? item.bytes : slice_of(NULL, 0));
    } else if (kind == OP_REDIS || kind == OP_REDIS_READ) {
        put_status(j, 200);
        json_out_key(j, "reply");
        ok = http_reply_to_json(j, reply);
    } else if (reply_is_null(*reply)) {
        put_status(j, 404);
        ok = reply_skip(reply);
    } else {
        ok = put_row_result(j, kind, reply);
    }
    if (ok)
        json_out_end(j, '}');
    return ok;
}

static bool put_results(struct json_out *j, const uint8_t *kinds, size_t count,
                        struct slice *reply) {
    struct reply_item header;
    json_out_key(j, "results");
    json_out_array(j);
    if (!reply_next(reply, &header) || header.type != '*' || (size_t)header.integer != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!put_result(j, (enum txn_op)kinds[i], reply))
            return false;
    json_out_end(j, ']');
    return true;
}

static void answer_done(struct http_request *r, const struct txn_plan *plan, struct slice reply) {
    struct buf json = {0};
    struct json_out j;
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "ok");
    json_out_bool(&j, true);
    if (put_results(&j, plan->kinds, plan->then_count, &reply)) {
        json_out_end(&j, '}');
        http_answer_json(r, 200, &json);
    } else {
        http_malformed_reply(r);
        buf_fini(&json);
    }
}

/* Whether any operation of a branch changed something; its results are well formed. What a Redis
 * command that writes has found to do is not looked into: it counts when it gave no error. */
static bool any_change(const uint8_t *kinds, size_t count, struct slice results) {
    struct reply_item header, status;
    bool changed = false;
    if (!reply_next(&results, &header))
        return false;
    for (size_t i = 0; i < count && !changed; i++) {
        struct slice result = results;
        bool row = reply_next(&result, &header) && header.type == '*' &&
                   reply_next(&result, &status) && status.type == ':' && status.integer < 300;
        if (kinds[i] == OP_REDIS)
            changed = !reply_is_error(results);
        else if (kinds[i] != OP_GET && kinds[i] != OP_REDIS_READ)
            changed = row;
        if (!reply_skip(&results))
            break;
    }
    return changed;
}

/* The else branch has run: what it did stands in "results". */
static void answer_guard_failed(struct http_request *r, const struct txn_plan *plan,
                                struct slice reply) {
    struct buf json = {0};
    struct json_out j;
    struct reply_item failed;
    if (!reply_next(&reply, &failed) || failed.type != ':') {
        http_malformed_reply(r);
        return;
    }
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "failed");
    json_out_i64(&j, failed.integer);
    const uint8_t *kinds = plan->kinds + plan->then_count;
    struct slice results = reply;
    if (put_results(&j, kinds, plan->else_count, &reply)) {
        bool changed = any_change(kinds, plan->else_count, results);
        json.data[0] = ','; /* these are further members of the problem's object */
        http_problem(r,
                     &(struct http_problem){.status = 412,
                                            .code = "guard_failed",
                                            .applied = changed ? APPLIED_YES : APPLIED_NO,
                                            .extra = buf_slice(&json)},
                     "if[%" PRId64 "] does not hold%s", failed.integer,
                     plan->else_count ? "; the \"else\" branch was executed" : "");
    } else {
        http_malformed_reply(r);
    }
    buf_fini(&json);
}

void http_txn_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                     struct slice reply) {
    struct reply_item header, status;
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (!reply_next(&reply, &header) || header.type != '*' || !reply_next(&reply, &status))
        http_malformed_reply(r);
    else if (status.integer == 412)
        answer_guard_failed(r, r->data, reply);
    else
        answer_done(r, r->data, reply);
}
