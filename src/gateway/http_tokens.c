/* /_/tokens: makes, lists and revokes API tokens (proto/access_token.h says what is kept).
 *
 *   POST    {"name": N, "read": [P ...], "write": [P ...], "admin": true, "deploy": true,
 *            "ttl": "30d"}   ->  201 with the text in "token", which is nowhere else
 *   GET     ->  {"tokens": [...]}, without their texts
 *   DELETE  /_/tokens/{id}   ->  204
 */
#include <jansson.h>
#include <stdio.h>
#include <sys/random.h>

#include "gateway/access.h"
#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"
#include "net/sha256.h"
#include "proto/url.h"
#include "store/store.h"

/* What POST keeps until the token is stored. */
struct making {
    char text[ACCESS_TEXT_BYTES + 1];
    char key[ACCESS_KEY_BYTES + 1];
};

static void submit(struct http_request *r, enum upstream_kind kind, struct buf *packed,
                   http_answer_fn answer) {
    r->answer = answer;
    conn_submit(&r->base, kind, STORE_DB_ACCESS, packed);
}

/* The text may have a token in it. */
static void answer_json(struct http_request *r, int status, struct buf *json) {
    buf_append_char(json, '\n');
    http_answer(r, status, "application/json", buf_slice(json));
    explicit_bzero(json->data, json->size);
    buf_fini(json);
}

/* ---- POST --------------------------------------------------------------------------------------
 */

static bool take_list(const json_t *body, const char *name, struct access_list *list) {
    const json_t *patterns = json_object_get(body, name), *one;
    size_t i;
    if (patterns && !json_is_array(patterns))
        return false;
    json_array_foreach(patterns, i, one) {
        if (!json_is_string(one) ||
            !access_list_add(list, slice_of(json_string_value(one), json_string_length(one))))
            return false;
    }
    return true;
}

static bool take_switch(const json_t *body, const char *name, bool *ret) {
    const json_t *value = json_object_get(body, name);
    *ret = json_is_true(value);
    return !value || json_is_boolean(value);
}

/* What is wrong with the body, or NULL. */
static const char *take_body(json_t *body, struct access_token *t, uint64_t *ret_ttl_ms) {
    static const char *const names[] = {"name", "read", "write", "admin", "deploy", "ttl"};
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value) {
        size_t i = 0;
        while (i < ARRAY_COUNT(names) && strcmp(names[i], name) != 0)
            i++;
        if (i == ARRAY_COUNT(names))
            return "a token has name, read, write, admin, deploy and ttl only";
    }
    const json_t *text = json_object_get(body, "name"), *ttl = json_object_get(body, "ttl");
    struct slice called =
        text ? slice_of(json_string_value(text), json_string_length(text)) : slice_str("token");
    if (!access_name_ok(called) || slice_equal_str(called, "default"))
        return "name has 1 to 64 of A-Z a-z 0-9 . _ - and is not \"default\"";
    memcpy(t->name, called.data, called.size);
    if (!take_list(body, "read", &t->read) || !take_list(body, "write", &t->write))
        return "read and write are arrays of at most 64 patterns: a key, or the beginning of keys "
               "and a * behind it, without blanks";
    if (!take_switch(body, "admin", &t->admin) || !take_switch(body, "deploy", &t->deploy))
        return "admin and deploy are true or false";
    *ret_ttl_ms = 0;
    if (ttl && (!json_is_string(ttl) ||
                !duration_parse_ms(slice_of(json_string_value(ttl), json_string_length(ttl)),
                                   ret_ttl_ms) ||
                *ret_ttl_ms == 0))
        return "ttl is a duration such as \"12h\" or \"30d\"";
    return NULL;
}

static void make_text(struct making *m) {
    uint8_t random[32], hash[SHA256_BYTES];
    char hex[ACCESS_KEY_BYTES + 1];
    CHECK(getrandom(random, sizeof random, 0) == (ssize_t)sizeof random);
    sha256_to_hex(random, hex);
    snprintf(m->text, sizeof m->text, "ct_%s", hex);
    sha256_of(slice_str(m->text), hash);
    sha256_to_hex(hash, m->key);
    explicit_bzero(random, sizeof random);
    explicit_bzero(hex, sizeof hex);
}

static void post_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                        struct slice reply) {
    struct making *m = r->data;
    struct reply_item row[3];
    struct buf json = {0};
    struct json_out j;
    uint64_t status, expiry_ms = 0;
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (!http_take_row(&reply, row, 3) || !http_item_u64(&row[0], &status) || status != 201 ||
        !http_item_u64(&row[2], &expiry_ms)) {
        http_malformed_reply(r);
        return;
    }
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "id");
    json_out_string(&j, slice_of(m->key, ACCESS_ID_BYTES));
    json_out_key(&j, "token");
    json_out_str(&j, m->text);
    if (expiry_ms) {
        json_out_key(&j, "expires_ms");
        json_out_u64(&j, expiry_ms);
    }
    json_out_end(&j, '}');
    explicit_bzero(m, sizeof *m);
    answer_json(r, 201, &json);
}

static void post(struct http_request *r, const struct access_token *t, uint64_t ttl_ms) {
    struct buf record = {0};
    access_record_append(&record, t);
    if (record.size > ACCESS_RECORD_BYTES_MAX) {
        buf_fini(&record);
        http_problem(r, &(struct http_problem){.status = 413, .code = "too_large"},
                     "the patterns of a token have about %d bytes at most",
                     (int)ACCESS_RECORD_BYTES_MAX);
        return;
    }
    struct making *m = xcalloc(1, sizeof *m);
    r->data = m;
    make_text(m);
    struct pack p = pack_begin("KV.PUT");
    pack_str(&p, m->key);
    pack_slice(&p, buf_slice(&record));
    pack_str(&p, "");
    if (ttl_ms)
        pack_u64(&p, ttl_ms);
    else
        pack_str(&p, "");
    pack_str(&p, "");
    pack_str(&p, "*");
    struct buf packed = pack_end(&p);
    buf_fini(&record);
    submit(r, UPSTREAM_WRITE, &packed, post_answer);
}

void http_tokens_post(struct http_request *r, const struct http_input *in) {
    struct gateway *gw = r->base.conn->gw;
    struct access_token t = {0};
    uint64_t ttl_ms = 0;
    if (!http_check_query(r, in, ""))
        return;
    if (r->once.size > 0) { /* its answer would have to be kept, and the text is not to be */
        http_bad_request(r, "a token cannot be made with an Idempotency-Key");
        return;
    }
    if (gw->access && access_token_count(gw) >= ACCESS_TOKENS_MAX) {
        http_problem(r, &(struct http_problem){.status = 409, .code = "too_many_tokens"},
                     "there are %d tokens: revoke some first", (int)ACCESS_TOKENS_MAX);
        return;
    }
    json_t *body =
        json_loadb((const char *)in->body.data, in->body.size, JSON_REJECT_DUPLICATES, NULL);
    const char *wrong =
        json_is_object(body) ? take_body(body, &t, &ttl_ms) : "the body is a JSON object";
    t.created_ms = gateway_wall_ms(gw);
    if (wrong)
        http_bad_request(r, "%s", wrong);
    else
        post(r, &t, ttl_ms);
    json_decref(body);
    access_token_fini(&t);
}

/* ---- GET ---------------------------------------------------------------------------------------
 */

static void put_pattern(void *ctx, struct slice pattern) {
    json_out_string(ctx, pattern);
}

static void put_list(struct json_out *j, const char *name, const struct access_list *list) {
    json_out_key(j, name);
    json_out_array(j);
    access_list_each(list, put_pattern, j);
    json_out_end(j, ']');
}

static void put_token(struct json_out *j, struct slice key, uint64_t expiry_ms,
                      const struct access_token *t) {
    json_out_object(j);
    json_out_key(j, "id");
    json_out_string(j, slice_of(key.data, key.size < ACCESS_ID_BYTES ? key.size : ACCESS_ID_BYTES));
    json_out_key(j, "name");
    json_out_str(j, t->name);
    json_out_key(j, "created_ms");
    json_out_u64(j, t->created_ms);
    if (expiry_ms) {
        json_out_key(j, "expires_ms");
        json_out_u64(j, expiry_ms);
    }
    json_out_key(j, "admin");
    json_out_bool(j, t->admin);
    json_out_key(j, "deploy");
    json_out_bool(j, t->deploy);
    put_list(j, "read", &t->read);
    put_list(j, "write", &t->write);
    json_out_end(j, '}');
}

static bool put_tokens(struct json_out *j, struct slice reply) {
    struct reply_item header, revision, more, rows, row[7];
    if (!reply_next(&reply, &header) || header.type != '*' || header.integer != 4 ||
        !reply_next(&reply, &revision) || !reply_next(&reply, &more) ||
        !reply_next(&reply, &rows) || rows.type != '*')
        return false;
    for (int64_t i = 0; i < rows.integer; i++) {
        struct access_token t = {0};
        uint64_t expiry_ms = 0;
        if (!http_take_row(&reply, row, 7) || !http_item_u64(&row[2], &expiry_ms))
            return false;
        if (row[0].type != '$' || row[6].type != '$' || !access_record_parse(row[6].bytes, &t))
            continue;
        put_token(j, row[0].bytes, expiry_ms, &t);
        access_token_fini(&t);
    }
    return true;
}

static void get_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct buf json = {0};
    struct json_out j;
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "tokens");
    json_out_array(&j);
    if (!put_tokens(&j, reply)) {
        buf_fini(&json);
        http_malformed_reply(r);
        return;
    }
    json_out_end(&j, ']');
    json_out_end(&j, '}');
    answer_json(r, 200, &json);
}

static void pack_list(struct buf *out, struct slice prefix) {
    struct pack p = pack_begin("KV.LIST");
    pack_slice(&p, prefix);
    pack_str(&p, "");
    pack_str(&p, "");
    pack_u64(&p, KV_LIST_LIMIT_MAX);
    pack_u64(&p, 1);
    *out = pack_end(&p);
}

void http_tokens_get(struct http_request *r, const struct http_input *in) {
    struct buf packed;
    if (!http_check_query(r, in, ""))
        return;
    pack_list(&packed, slice_of(NULL, 0));
    submit(r, UPSTREAM_READ, &packed, get_answer);
}

/* ---- DELETE: the id leads to the key, the key to the record ------------------------------------
 */

struct revoking {
    struct http_request *r;
    struct upstream_request up;
    bool asking;
};

static void revoke_gone(struct http_request *r) {
    struct revoking *v = r->data;
    if (v->asking)
        upstream_forget(r->base.conn->gw->upstream, &v->up);
    v->asking = false;
}

static void on_revoked(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct revoking *v = CONTAINER_OF(up, struct revoking, up);
    (void)index;
    v->asking = false;
    v->r->gone = NULL;
    if (!http_answer_failure(v->r, outcome, reply))
        http_answer(v->r, 204, NULL, slice_of(NULL, 0));
}

static void found_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct revoking *v = r->data;
    struct reply_item header, revision, more, rows, row[7];
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (!reply_next(&reply, &header) || header.type != '*' || !reply_next(&reply, &revision) ||
        !reply_next(&reply, &more) || !reply_next(&reply, &rows) || rows.type != '*') {
        http_malformed_reply(r);
    } else if (rows.integer != 1 || !http_take_row(&reply, row, 7) || row[0].type != '$') {
        http_problem(r, &(struct http_problem){.status = 404, .code = "no_such_token"},
                     "there is no token with this id");
    } else {
        struct pack p = pack_begin("KV.DEL");
        pack_slice(&p, row[0].bytes);
        pack_str(&p, "");
        pack_str(&p, "");
        v->up =
            (struct upstream_request){.kind = UPSTREAM_WRITE,
                                      .db = STORE_DB_ACCESS,
                                      .timeout_ms = r->base.conn->gw->options.upstream_timeout_ms,
                                      .packed_argv = pack_end(&p),
                                      .done = on_revoked};
        v->asking = true;
        r->gone = revoke_gone;
        upstream_submit(r->base.conn->gw->upstream, &v->up);
    }
}

void http_tokens_delete(struct http_request *r, const struct http_input *in) {
    struct buf packed;
    if (!http_check_query(r, in, ""))
        return;
    if (in->rest.size != ACCESS_ID_BYTES) {
        http_problem(r, &(struct http_problem){.status = 404, .code = "no_such_token"},
                     "there is no token with this id");
        return;
    }
    struct revoking *v = xcalloc(1, sizeof *v);
    v->r = r;
    r->data = v;
    pack_list(&packed, in->rest);
    submit(r, UPSTREAM_READ, &packed, found_answer);
    if (r->version != HTTP_VERSION_2)
        conn_hold(r->base.conn); /* what comes behind it sees that the token is gone */
}
