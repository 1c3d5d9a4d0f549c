/* Who belongs to the cluster, who votes, who leads: /_/members/{id}, /_/transfer. */
#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"

/* True when the reason was answered. What the rules of membership forbid will not be allowed by
 * asking again: 409. */
static bool answered_refusal(struct http_request *r, enum upstream_outcome outcome,
                             struct slice reply) {
    struct slice in = reply;
    struct reply_item item;
    if (outcome == UPSTREAM_NOT_APPLIED && reply_next(&in, &item) && item.type == '-' &&
        slice_starts_with(item.bytes, slice_str("ERR "))) {
        http_problem(
            r, &(struct http_problem){.status = 409, .code = "refused", .applied = APPLIED_NO},
            "%.*s", (int)(item.bytes.size - 4), (const char *)item.bytes.data + 4);
        return true;
    }
    return http_answer_failure(r, outcome, reply);
}

static void change_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    (void)index;
    if (answered_refusal(r, outcome, reply))
        return;
    http_begin(r, 204);
    http_end(r, NULL, slice_of(NULL, 0));
}

static void change_submit(struct http_request *r, const struct http_input *in,
                          const char *command) {
    if (!http_check_query(r, in, ""))
        return;
    struct pack p = pack_begin(command);
    pack_slice(&p, in->rest);
    struct buf packed = pack_end(&p);
    r->base.up.repeat = true;
    http_submit(r, UPSTREAM_ADMIN, &packed, change_answer);
}

/* Takes a node out, once a majority agrees; the node that leads hands over first. */
void http_member_delete(struct http_request *r, const struct http_input *in) {
    change_submit(r, in, "NODE.REMOVE");
}

void http_member_promote(struct http_request *r, const struct http_input *in) {
    change_submit(r, in, "NODE.PROMOTE");
}

/* ---- leadership ---- */

/* The node's map: {"leader": id}. */
static void transfer_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                            struct slice reply) {
    struct buf json = {0};
    struct json_out j;
    (void)index;
    if (answered_refusal(r, outcome, reply))
        return;
    json_out_begin(&j, &json);
    if (http_reply_to_json(&j, &reply)) {
        buf_append_char(&json, '\n');
        http_answer(r, 200, "application/json", buf_slice(&json));
    } else {
        http_malformed_reply(r);
    }
    buf_fini(&json);
}

static void transfer_submit(struct http_request *r, struct slice to) {
    struct upstream_status up;
    upstream_get_status(r->base.conn->gw->upstream, &up);
    if (up.leader_id == 0) {
        http_problem(
            r, &(struct http_problem){.status = 503, .code = "unavailable", .applied = APPLIED_NO},
            "no leader is known that could hand over");
        return;
    }
    struct pack p = pack_begin("NODE.TRANSFER");
    pack_slice(&p, to);
    pack_u64(&p, up.leader_id); /* away from this one: so it may be asked again of the next */
    struct buf packed = pack_end(&p);
    r->base.up.repeat = true;
    http_submit(r, UPSTREAM_ADMIN, &packed, transfer_answer);
}

void http_member_transfer(struct http_request *r, const struct http_input *in) {
    if (http_check_query(r, in, ""))
        transfer_submit(r, slice_equal_str(in->rest, "0") ? slice_str("none") : in->rest);
}

void http_leader_transfer(struct http_request *r, const struct http_input *in) {
    if (http_check_query(r, in, ""))
        transfer_submit(r, slice_str("0"));
}
