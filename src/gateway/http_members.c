/* Who belongs to the cluster: DELETE /_/members/{id}. */
#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"

static void remove_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    struct slice in = reply;
    struct reply_item item;
    (void)index;
    /* What the rules of membership forbid will not be allowed by asking again. */
    if (outcome == UPSTREAM_NOT_APPLIED && reply_next(&in, &item) && item.type == '-' &&
        slice_starts_with(item.bytes, slice_str("ERR "))) {
        http_problem(
            r, &(struct http_problem){.status = 409, .code = "refused", .applied = APPLIED_NO},
            "%.*s", (int)(item.bytes.size - 4), (const char *)item.bytes.data + 4);
        return;
    }
    if (http_answer_failure(r, outcome, reply))
        return;
    struct buf *out = http_begin(r, 204);
    http_end(r, out, NULL, slice_of(NULL, 0));
}

/* Takes a node out, once a majority agrees; the node that leads hands over first. */
void http_member_delete(struct http_request *r, const struct http_input *in) {
    if (!http_check_query(r, in, ""))
        return;
    struct pack p = pack_begin("NODE.REMOVE");
    pack_slice(&p, in->rest);
    struct buf packed = pack_end(&p);
    http_submit(r, UPSTREAM_ADMIN, &packed, remove_answer);
}
