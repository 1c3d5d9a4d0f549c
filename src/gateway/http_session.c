/* /v1/session: a visitor's document, behind a cookie that only this server sees.
 *
 *   cookie   160 random bits in hexadecimal; their SHA-256 is the key in database STORE_DB_VISITORS
 *   record   the document, content type application/json, expiring; or, after DELETE, a tombstone
 * of content type TOMBSTONE, so that what comes late cannot bring the session back
 *
 *   PATCH:  read --> merge --> write, if the revision is still the one that was read --> answer
 *            ^                                     |
 *            +-------------- it is not ------------+
 *
 * The merge is done here and not in the store, which knows no JSON. A client never chooses the id
 * of a session: a cookie that names none gets a new one.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/num.h"
#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/json_merge.h"
#include "gateway/pack.h"
#include "net/sha256.h"
#include "net/tls.h"
#include "proto/cookie.h"
#include "store/store.h"

enum {
    TOKEN_BYTES = 20,
    TOKEN_TEXT_BYTES = 2 * TOKEN_BYTES,
    DOCUMENT_BYTES_MAX = 64 * 1024,
    DEPTH_MAX = 32,
    ATTEMPTS_MAX = 32, /* of a patch that finds the document changed */
};
#define COOKIE_NAME "cotidal_session"
#define TOMBSTONE "application/x-cotidal-ended"

struct visit {
    struct http_request *r;
    char token[TOKEN_TEXT_BYTES + 1]; /* empty: the visitor has no session */
    json_t *patch;                    /* of PATCH */
    struct buf document;
    uint64_t revision;  /* as read or written; 0: there is none */
    uint64_t expiry_ms; /* likewise */
    unsigned attempts;
    struct upstream_request up; /* what comes behind the first read */
    bool asking;
};

static struct visit *visit_of(struct http_request *r) {
    return r->data;
}

static struct gateway *gateway_of(const struct visit *v) {
    return v->r->base.conn->gw;
}

/* ---- cookies -----------------------------------------------------------------------------------
 */

static bool token_valid(struct slice s) {
    if (s.size != TOKEN_TEXT_BYTES)
        return false;
    for (size_t i = 0; i < s.size; i++)
        if (!((s.data[i] >= '0' && s.data[i] <= '9') || (s.data[i] >= 'a' && s.data[i] <= 'f')))
            return false;
    return true;
}

static void take_cookie(struct visit *v, const struct http_head *head) {
    struct slice value;
    for (size_t i = 0; i < head->header_count; i++) {
        if (slice_equal_nocase(head->headers[i].name, "Cookie") &&
            cookie_find(head->headers[i].value, COOKIE_NAME, &value) && token_valid(value)) {
            memcpy(v->token, value.data, value.size);
            return;
        }
    }
}

/* Up to 256 bytes come whole (getrandom(2)). */
static void make_token(struct visit *v) {
    uint8_t random[TOKEN_BYTES];
    CHECK(getrandom(random, sizeof random, 0) == (ssize_t)sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(v->token + 2 * i, 3, "%02x", random[i]);
}

/* Who reads the database, or a backup of it, must not become the visitor: the key is a hash. */
static void pack_key(struct pack *p, const struct visit *v) {
    uint8_t digest[SHA256_BYTES];
    char key[2 * SHA256_BYTES + 1];
    sha256_of(slice_str(v->token), digest);
    sha256_to_hex(digest, key);
    pack_str(p, key);
}

/* `keep`: for as long as the session; else the browser is to forget it. */
static void put_cookie(struct visit *v, bool keep) {
    char text[160];
    uint64_t seconds = keep ? gateway_of(v)->options.session_ttl_ms / 1000 : 0;
    snprintf(text, sizeof text,
             COOKIE_NAME "=%s; Path=/; Max-Age=%" PRIu64 "; HttpOnly; SameSite=Lax%s",
             keep ? v->token : "", seconds, tls_is(v->r->base.conn->stream) ? "; Secure" : "");
    http_header(v->r, "Set-Cookie", slice_str(text));
}

/* ---- the answers -------------------------------------------------------------------------------
 */

static void put_private(struct http_request *r) {
    http_header(r, "Cache-Control", slice_str("no-store"));
    http_header(r, "Vary", slice_str("Cookie"));
}

static void on_gone(struct http_request *r) {
    struct visit *v = visit_of(r);
    if (v->asking)
        upstream_forget(gateway_of(v)->upstream, &v->up);
    v->asking = false;
    json_decref(v->patch);
    v->patch = NULL;
    buf_fini(&v->document);
}

/* What the visit holds goes with the answer, which frees it. */
static void answer_document(struct visit *v, int status, bool cookie) {
    struct http_request *r = v->r;
    struct buf document = v->document;
    v->document = (struct buf){0};
    on_gone(r);
    http_begin(r, status);
    http_header_etag(r, v->revision);
    http_header_u64(r, "Kv-Expires", v->expiry_ms);
    put_private(r);
    if (cookie)
        put_cookie(v, true);
    http_end(r, "application/json", buf_slice(&document));
    buf_fini(&document);
}

static void answer_problem(struct visit *v, const struct http_problem *p, const char *detail) {
    on_gone(v->r);
    http_problem(v->r, p, "%s", detail);
}

static void answer_none(struct visit *v) {
    answer_problem(v, &(struct http_problem){.status = 404, .code = "no_session"},
                   "this visitor has no session: PATCH begins one");
}

static void answer_ended(struct visit *v) {
    answer_problem(v, &(struct http_problem){.status = 401, .code = "session_ended"},
                   "this session has ended: forget the cookie (DELETE does) and begin anew");
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static void pack_get(const struct visit *v, struct buf *out) {
    struct pack p = pack_begin("KV.GET");
    pack_key(&p, v);
    *out = pack_end(&p);
}

/* A reply of KV.GET, into the visit: revision 0 when there is no session. False: malformed. */
static bool take_record(struct visit *v, struct slice reply, bool *ret_ended) {
    struct reply_item row[4];
    *ret_ended = false;
    v->revision = v->expiry_ms = 0;
    buf_reset(&v->document);
    if (reply_is_null(reply))
        return true;
    if (!http_take_row(&reply, row, 4) || !http_item_u64(&row[0], &v->revision) ||
        !http_item_u64(&row[1], &v->expiry_ms) || row[2].type != '$' || row[3].type != '$')
        return false;
    *ret_ended = slice_equal_str(row[2].bytes, TOMBSTONE);
    buf_append_slice(&v->document, row[3].bytes);
    return true;
}

/* Further requests of the visit are its own: others of the connection wait for its answer. */
static void ask(struct visit *v, enum upstream_kind kind, struct buf *packed,
                upstream_done_fn done) {
    struct gateway *gw = gateway_of(v);
    v->up = (struct upstream_request){
        .kind = kind,
        .db = STORE_DB_VISITORS,
        .timeout_ms = gw->options.upstream_timeout_ms,
        .packed_argv = *packed,
        .done = done,
    };
    v->asking = true;
    upstream_submit(gw->upstream, &v->up);
}

static struct visit *answered(struct upstream_request *up) {
    struct visit *v = CONTAINER_OF(up, struct visit, up);
    v->asking = false;
    return v;
}

/* ---- GET ---------------------------------------------------------------------------------------
 */

/* Whether the life of the session is prolonged or not, the document is what was read. */
static void on_prolonged(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct visit *v = answered(up);
    (void)index;
    bool done = outcome == UPSTREAM_DONE && slice_equal_str(reply, ":1\r\n");
    if (done)
        v->expiry_ms = gateway_wall_ms(gateway_of(v)) + gateway_of(v)->options.session_ttl_ms;
    answer_document(v, 200, done);
}

static void get_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct visit *v = visit_of(r);
    bool ended;
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (!take_record(v, reply, &ended)) {
        on_gone(r);
        http_malformed_reply(r);
    } else if (v->revision == 0) {
        answer_none(v);
    } else if (ended) {
        answer_ended(v);
    } else {
        uint64_t ttl_ms = gateway_of(v)->options.session_ttl_ms;
        /* Not at every visit: that would be a write for each. */
        if (v->expiry_ms > gateway_wall_ms(gateway_of(v)) + ttl_ms - ttl_ms / 8) {
            answer_document(v, 200, false);
            return;
        }
        struct pack p = pack_begin("PEXPIRE");
        pack_key(&p, v);
        pack_u64(&p, ttl_ms);
        struct buf packed = pack_end(&p);
        ask(v, UPSTREAM_WRITE, &packed, on_prolonged);
    }
}

static struct visit *visit_begin(struct http_request *r, const struct http_input *in) {
    struct visit *v = xcalloc(1, sizeof *v);
    r->data = v;
    v->r = r;
    take_cookie(v, in->head);
    return v;
}

/* The first read, in the order of the connection's requests; those behind it wait until the visit
 * is answered, since it may write. (In HTTP/2 they are not in an order.) */
static void first_read(struct visit *v, http_answer_fn answer) {
    struct buf packed;
    struct http_request *r = v->r;
    r->gone = on_gone;
    r->answer = answer;
    pack_get(v, &packed);
    conn_submit(&r->base, UPSTREAM_READ, STORE_DB_VISITORS, &packed);
    if (r->version != HTTP_VERSION_2)
        conn_hold(r->base.conn);
}

void http_session_get(struct http_request *r, const struct http_input *in) {
    if (!http_check_query(r, in, ""))
        return;
    struct visit *v = visit_begin(r, in);
    if (v->token[0])
        first_read(v, get_answer);
    else
        answer_none(v);
}

/* ---- PATCH -------------------------------------------------------------------------------------
 */

static void on_written(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply);

/* Puts the merged document into v->document. False: answered. */
static bool merge(struct visit *v) {
    json_t *old = NULL;
    if (v->revision != 0) {
        old = json_loadb((const char *)v->document.data, v->document.size, JSON_ALLOW_NUL, NULL);
        if (!old) {
            answer_problem(v, &(struct http_problem){.status = 500, .code = "internal"},
                           "the stored document is not JSON");
            return false;
        }
    }
    json_t *merged = json_merge_patch(old, v->patch);
    json_decref(old);
    char *text = json_dumps(merged, JSON_COMPACT);
    bool deep = !json_within_depth(merged, DEPTH_MAX);
    json_decref(merged);
    CHECK(text != NULL);
    buf_reset(&v->document);
    buf_append_str(&v->document, text);
    free(text);
    if (v->document.size > DOCUMENT_BYTES_MAX) {
        answer_problem(v, &(struct http_problem){.status = 413, .code = "too_large"},
                       "the document of a session has at most 65536 bytes");
        return false;
    }
    if (deep) {
        answer_problem(v, &(struct http_problem){.status = 400, .code = "bad_request"},
                       "the document of a session has at most 32 levels");
        return false;
    }
    return true;
}

static void write_document(struct visit *v) {
    if (!merge(v))
        return;
    struct pack p = pack_begin("KV.PUT");
    pack_key(&p, v);
    pack_slice(&p, buf_slice(&v->document));
    pack_str(&p, "application/json");
    pack_u64(&p, gateway_of(v)->options.session_ttl_ms);
    if (v->revision != 0) {
        pack_u64(&p, v->revision);
        pack_str(&p, "");
    } else {
        pack_str(&p, "");
        pack_str(&p, "*");
    }
    struct buf packed = pack_end(&p);
    ask(v, UPSTREAM_WRITE, &packed, on_written);
}

/* The document as it is, or none. */
static void take_and_write(struct visit *v, struct slice reply) {
    bool ended;
    if (!take_record(v, reply, &ended)) {
        on_gone(v->r);
        http_malformed_reply(v->r);
    } else if (ended) {
        answer_ended(v);
    } else {
        if (v->revision == 0)
            make_token(v); /* never one that a client has named */
        write_document(v);
    }
}

static void on_read_again(struct upstream_request *up, enum upstream_outcome outcome,
                          uint64_t index, struct slice reply) {
    struct visit *v = answered(up);
    (void)index;
    if (outcome != UPSTREAM_DONE || reply_is_error(reply)) {
        on_gone(v->r);
        http_answer_failure(v->r, outcome, reply);
    } else {
        take_and_write(v, reply);
    }
}

static void on_written(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct visit *v = answered(up);
    struct reply_item row[3];
    uint64_t status, created = v->revision == 0;
    (void)index;
    if (outcome != UPSTREAM_DONE || reply_is_error(reply)) {
        on_gone(v->r);
        http_answer_failure(v->r, outcome, reply);
        return;
    }
    struct slice in = reply;
    if (!http_take_row(&in, row, 2) || !http_item_u64(&row[0], &status)) {
        on_gone(v->r);
        http_malformed_reply(v->r);
    } else if (status != 412) {
        if (http_take_row(&reply, row, 3)) {
            (void)http_item_u64(&row[1], &v->revision);
            (void)http_item_u64(&row[2], &v->expiry_ms);
        }
        answer_document(v, created ? 201 : 200, true);
    } else if (++v->attempts < ATTEMPTS_MAX) {
        struct buf packed;
        pack_get(v, &packed);
        ask(v, UPSTREAM_READ, &packed, on_read_again);
    } else {
        answer_problem(v,
                       &(struct http_problem){.status = 503, .code = "busy", .retry_after_ms = 500},
                       "the document is changed too often by others");
    }
}

static void patch_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    (void)index;
    if (outcome != UPSTREAM_DONE || reply_is_error(reply)) {
        on_gone(r);
        http_answer_failure(r, outcome, reply);
    } else {
        take_and_write(visit_of(r), reply);
    }
}

/* application/merge-patch+json, application/json, or not said. */
static bool type_is_json(const struct http_head *head) {
    static const char *const types[] = {"application/merge-patch+json", "application/json"};
    const struct slice *type = http_find_header(head, "Content-Type");
    if (!type)
        return true;
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        size_t n = strlen(types[i]);
        if (type->size >= n && slice_equal_nocase(slice_of(type->data, n), types[i]) &&
            (type->size == n || type->data[n] == ';' || type->data[n] == ' '))
            return true;
    }
    return false;
}

void http_session_patch(struct http_request *r, const struct http_input *in) {
    json_error_t error;
    if (!http_check_query(r, in, ""))
        return;
    if (!type_is_json(in->head)) {
        http_problem(r, &(struct http_problem){.status = 415, .code = "content_type"},
                     "a patch is application/merge-patch+json or application/json");
        return;
    }
    json_t *patch = json_loadb((const char *)in->body.data, in->body.size,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!patch) {
        http_bad_request(r, "the body is not a JSON object: %s (line %d, column %d)", error.text,
                         error.line, error.column);
        return;
    }
    if (!json_is_object(patch) || !json_within_depth(patch, DEPTH_MAX)) {
        json_decref(patch);
        http_bad_request(r, "a patch is a JSON object of at most %d levels", (int)DEPTH_MAX);
        return;
    }
    struct visit *v = visit_begin(r, in);
    v->patch = patch;
    /* A visitor without a session gets one; the read finds nothing, in the order of the others. */
    if (!v->token[0])
        make_token(v);
    first_read(v, patch_answer);
}

/* ---- DELETE ------------------------------------------------------------------------------------
 */

static void delete_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    http_begin(r, 204);
    put_private(r);
    put_cookie(visit_of(r), false);
    http_end(r, NULL, slice_of(NULL, 0));
}

/* A tombstone in the place of what is there, also of another one. */
void http_session_delete(struct http_request *r, const struct http_input *in) {
    if (!http_check_query(r, in, ""))
        return;
    struct visit *v = visit_begin(r, in);
    if (!v->token[0]) {
        delete_answer(r, UPSTREAM_DONE, 0, slice_str("+OK\r\n"));
        return;
    }
    struct pack p = http_pack_write(r, "KV.PUT");
    pack_key(&p, v);
    pack_str(&p, "");
    pack_str(&p, TOMBSTONE);
    pack_u64(&p, gateway_of(v)->options.session_ttl_ms);
    pack_str(&p, "*");
    pack_str(&p, "");
    struct buf packed = pack_end(&p);
    r->answer = delete_answer;
    conn_submit(&r->base, UPSTREAM_WRITE, STORE_DB_VISITORS, &packed);
}
