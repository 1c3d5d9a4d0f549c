/* Backups of the whole state, fetched in pieces:
 *
 *   POST   /_/backups               201 {"id": "1-77"}: a node begins to take one
 *   GET    /_/backups/1-77          200 {"state": "ready", "bytes": ...}: how far it is
 *   GET    /_/backups/1-77?offset=N 200 up to 1 MiB of the file from there
 *   DELETE /_/backups/1-77          204: the node may forget it
 *
 * An id is the node's and the backup's: pieces come from the node that has the file, through
 * whichever gateway they are asked. Pieces, not one long answer: the client sets the pace, and goes
 * on where it was when its connection broke.
 */
#include <stdio.h>

#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"

enum { PIECE_BYTES = 1 << 20 };

/* A refusal of the node, in its words. */
static bool refused(struct http_request *r, enum upstream_outcome outcome, struct slice reply) {
    struct slice in = reply;
    struct reply_item item;
    if (outcome == UPSTREAM_NOT_APPLIED && reply_next(&in, &item) && item.type == '-' &&
        slice_starts_with(item.bytes, slice_str("ERR "))) {
        http_problem(
            r,
            &(struct http_problem){.status = 404, .code = "no_such_backup", .applied = APPLIED_NO},
            "%.*s", (int)(item.bytes.size - 4), (const char *)item.bytes.data + 4);
        return true;
    }
    return http_answer_failure(r, outcome, reply);
}

/* "NODE-ID"; false when it was answered. */
static bool take_id(struct http_request *r, const struct http_input *in, uint64_t *ret_node,
                    uint64_t *ret_id) {
    const uint8_t *dash = memchr(in->rest.data, '-', in->rest.size);
    if (dash) {
        size_t at = (size_t)(dash - in->rest.data);
        if (num_parse_u64(slice_of(in->rest.data, at), ret_node) && *ret_node > 0 &&
            num_parse_u64(slice_of(dash + 1, in->rest.size - at - 1), ret_id))
            return true;
    }
    http_problem(r, &(struct http_problem){.status = 404, .code = "no_such_backup"},
                 "there is no such backup");
    return false;
}

static void submit(struct http_request *r, struct pack *p, uint64_t node, http_answer_fn answer) {
    struct buf packed = pack_end(p);
    r->base.up.node_id = node;
    http_submit(r, UPSTREAM_ADMIN, &packed, answer);
}

/* ---- beginning ---- */

static void begin_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct reply_item node, id;
    struct buf json = {0};
    char path[80];
    struct slice in = reply;
    (void)index;
    if (refused(r, outcome, reply))
        return;
    if (!reply_next(&in, &node) || !reply_next(&in, &node) || node.type != ':' ||
        !reply_next(&in, &id) || id.type != ':') {
        http_malformed_reply(r);
        return;
    }
    snprintf(path, sizeof path, "/_/backups/%lld-%lld", (long long)node.integer,
             (long long)id.integer);
    buf_printf(&json, "{\"id\":\"%s\"}\n", path + strlen("/_/backups/"));
    http_begin(r, 201);
    http_header(r, "Location", slice_str(path));
    http_header(r, "Cache-Control", slice_str("no-store"));
    http_end(r, "application/json", buf_slice(&json));
    buf_fini(&json);
}

/* What was acknowledged before is applied at this index, and so will be in the backup. */
static void index_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    if (http_answer_failure(r, outcome, reply))
        return;
    struct pack p = pack_begin("NODE.BACKUP.BEGIN");
    pack_u64(&p, index);
    submit(r, &p, 0, begin_answer);
}

void http_backup_post(struct http_request *r, const struct http_input *in) {
    if (!http_check_query(r, in, ""))
        return;
    struct pack p = pack_begin("DBSIZE"); /* any read: its index is what counts */
    struct buf packed = pack_end(&p);
    http_submit(r, UPSTREAM_READ, &packed, index_answer);
}

/* ---- fetching ---- */

static void state_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct buf json = {0};
    struct json_out j;
    (void)index;
    if (refused(r, outcome, reply))
        return;
    json_out_begin(&j, &json);
    if (http_reply_to_json(&j, &reply)) {
        http_answer_json(r, 200, &json);
    } else {
        http_malformed_reply(r);
        buf_fini(&json);
    }
}

static void piece_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct reply_item piece;
    (void)index;
    if (refused(r, outcome, reply))
        return;
    if (!reply_next(&reply, &piece) || piece.type != '$') {
        http_malformed_reply(r);
        return;
    }
    http_answer(r, 200, "application/octet-stream", piece.bytes);
}

void http_backup_get(struct http_request *r, const struct http_input *in) {
    uint64_t node, id, offset;
    if (!http_check_query(r, in, "offset") || !take_id(r, in, &node, &id))
        return;
    struct buf text = {0};
    int found = http_query(r, in, "offset", &text);
    if (found > 0 && !num_parse_u64(buf_slice(&text), &offset)) {
        http_bad_request(r, "the parameter \"offset\" is a number of bytes");
    } else if (found > 0) {
        struct pack p = pack_begin("NODE.BACKUP.READ");
        pack_u64(&p, id);
        pack_u64(&p, offset);
        pack_u64(&p, PIECE_BYTES);
        submit(r, &p, node, piece_answer);
    } else if (found == 0) {
        struct pack p = pack_begin("NODE.BACKUP.STATE");
        pack_u64(&p, id);
        submit(r, &p, node, state_answer);
    }
    buf_fini(&text);
}

static void end_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    (void)index;
    if (refused(r, outcome, reply))
        return;
    http_begin(r, 204);
    http_end(r, NULL, slice_of(NULL, 0));
}

void http_backup_delete(struct http_request *r, const struct http_input *in) {
    uint64_t node, id;
    if (!http_check_query(r, in, "") || !take_id(r, in, &node, &id))
        return;
    struct pack p = pack_begin("NODE.BACKUP.END");
    pack_u64(&p, id);
    submit(r, &p, node, end_answer);
}
