/* POST /v1/txn: JSON in, one KV.TXN, JSON out.
 *
 *   {"if": [guard ...], "then": [operation ...], "else": [operation ...]}
 *
 *   guard      {"key": K, "rev": R}            R: a revision, as string or number; 0: missing
 *              {"key": K, "exists": true|false}
 *              {"key": K, "value": V}          add "base64": true for bytes in base64
 *   operation  {"put": K, "value": V, "base64": true, "ttl": "30s", "keepttl": true,
 *               "content_type": T}
 *              {"delete": K}   {"get": K}
 *              {"incr": K, "by": N, "min": N, "max": N, "ttl": "30s"}
 *              {"redis": ["HSET", "key", ...]} any Redis command on data; strings and whole numbers
 *
 * Strict: a member that is not listed, or of another type, is an error that names its place.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reader.h"
#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/http_txn.h"
#include "gateway/pack.h"
#include "proto/url.h"
#include "store/commands.h"
#include "store/store.h"

struct txn {
    struct pack pack;
    struct txn_plan *plan;
    struct buf scratch;
    const struct who *who;
    bool forbidden;   /* what `error` says is that the token does not allow it */
    const char *list; /* where we are: "if", "then", "else" */
    size_t position;
    char error[256];
};

/* ---- reading -----------------------------------------------------------------------------------
 */

static bool __attribute__((format(printf, 2, 3))) fail(struct txn *t, const char *fmt, ...) {
    int n = snprintf(t->error, sizeof t->error, "%s[%zu]: ", t->list, t->position);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->error + n, sizeof t->error - (size_t)n, fmt, ap);
    va_end(ap);
    return false;
}

/* Whether `name` is one of the comma-separated names. */
static bool name_in(const char *names, const char *name) {
    size_t size = strlen(name);
    for (const char *at = names; *at;) {
        size_t n = strcspn(at, ",");
        if (n == size && memcmp(at, name, n) == 0)
            return true;
        at += n + (at[n] == ',');
    }
    return false;
}

static bool check_members(struct txn *t, json_t *object, const char *names) {
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        if (!name_in(names, name))
            return fail(t, "unknown member \"%.60s\"; here there may be: %s", name, names);
    }
    return true;
}

static struct slice string_of(const json_t *value) {
    return slice_of(json_string_value(value), json_string_length(value));
}

static bool forbid(struct txn *t, const char *what) {
    t->forbidden = true;
    return fail(t, "the token does not allow this %s", what);
}

static bool key_may(struct txn *t, struct slice key, bool write) {
    const struct access_token *token = t->who->token;
    if (t->who->kind == WHO_TRUSTED)
        return true;
    if (t->who->kind == WHO_TOKEN &&
        (write ? access_token_writes(token, key) : access_token_reads(token, key)))
        return true;
    return forbid(t, "key");
}

static bool put_key(struct txn *t, json_t *object, const char *name) {
    json_t *key = json_object_get(object, name);
    if (!json_is_string(key))
        return fail(t, "\"%s\" must be a string: the key", name);
    if (json_string_length(key) == 0 || json_string_length(key) > STORE_KEY_BYTES_MAX)
        return fail(t, "a key has 1 to %d bytes", (int)STORE_KEY_BYTES_MAX);
    if (!key_may(t, string_of(key), strcmp(name, "get") != 0 && strcmp(name, "key") != 0))
        return false;
    pack_slice(&t->pack, string_of(key));
    return true;
}

static int base64_digit(uint8_t c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 section 4, padded, without line breaks. */
static bool base64_decode(struct slice in, struct buf *out) {
    if (in.size % 4 != 0)
        return false;
    for (size_t i = 0; i < in.size; i += 4) {
        bool last = i + 4 == in.size;
        int pad =
            last ? (in.data[i + 3] == '=') + (in.data[i + 3] == '=' && in.data[i + 2] == '=') : 0;
        uint32_t bits = 0;
        for (int k = 0; k < 4; k++) {
            int digit = k >= 4 - pad ? 0 : base64_digit(in.data[i + (size_t)k]);
            if (digit < 0)
                return false;
            bits = bits << 6 | (uint32_t)digit;
        }
        for (int k = 0; k < 3 - pad; k++)
            buf_append_u8(out, (uint8_t)(bits >> (16 - 8 * k)));
    }
    return true;
}

static bool put_value(struct txn *t, json_t *object) {
    json_t *value = json_object_get(object, "value");
    json_t *base64 = json_object_get(object, "base64");
    if (!json_is_string(value))
        return fail(t, "\"value\" must be a string");
    if (base64 && !json_is_boolean(base64))
        return fail(t, "\"base64\" must be true or false");
    if (!json_is_true(base64)) {
        pack_slice(&t->pack, string_of(value));
        return true;
    }
    buf_reset(&t->scratch);
    if (!base64_decode(string_of(value), &t->scratch))
        return fail(t, "\"value\" is not padded base64");
    pack_slice(&t->pack, buf_slice(&t->scratch));
    return true;
}

static bool put_ttl(struct txn *t, json_t *object, bool keep_allowed) {
    json_t *ttl = json_object_get(object, "ttl");
    json_t *keep = keep_allowed ? json_object_get(object, "keepttl") : NULL;
    uint64_t ttl_ms = 0;
    if (keep && !json_is_boolean(keep))
        return fail(t, "\"keepttl\" must be true or false");
    if (json_is_true(keep) && ttl)
        return fail(t, "\"ttl\" and \"keepttl\" exclude each other");
    if (json_is_true(keep)) {
        pack_str(&t->pack, "keep");
        return true;
    }
    if (!ttl) {
        pack_str(&t->pack, "");
        return true;
    }
    bool ok = json_is_string(ttl) && duration_parse_ms(string_of(ttl), &ttl_ms);
    if (json_is_integer(ttl) && json_integer_value(ttl) > 0 &&
        json_integer_value(ttl) < (1LL << 43)) {
        ttl_ms = (uint64_t)json_integer_value(ttl) * 1000;
        ok = true;
    }
    if (!ok || ttl_ms == 0)
        return fail(t, "\"ttl\" must be a duration such as \"30s\", or seconds");
    pack_u64(&t->pack, ttl_ms);
    return true;
}

static bool put_integer(struct txn *t, json_t *object, const char *name) {
    json_t *value = json_object_get(object, name);
    if (value && !json_is_integer(value))
        return fail(t, "\"%s\" must be a whole number", name);
    if (value)
        pack_i64(&t->pack, json_integer_value(value));
    else
        pack_str(&t->pack, "");
    return true;
}

static bool put_revision(struct txn *t, json_t *value) {
    uint64_t revision;
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        revision = (uint64_t)json_integer_value(value);
    else if (!json_is_string(value) || !num_parse_u64(string_of(value), &revision))
        return fail(t, "\"rev\" must be a revision: a number, or a string of digits");
    pack_u64(&t->pack, revision);
    return true;
}

static bool read_guard(struct txn *t, json_t *guard) {
    json_t *rev = json_object_get(guard, "rev");
    json_t *exists = json_object_get(guard, "exists");
    json_t *value = json_object_get(guard, "value");
    if (!!rev + !!exists + !!value != 1)
        return fail(t, "a guard has \"key\" and one of \"rev\", \"exists\", \"value\"");
    if (!check_members(t, guard, value ? "key,value,base64" : "key,rev,exists"))
        return false;
    if (exists && !json_is_boolean(exists))
        return fail(t, "\"exists\" must be true or false");
    pack_str(&t->pack, rev ? "rev" : value ? "value" : json_is_true(exists) ? "exists" : "absent");
    if (!put_key(t, guard, "key"))
        return false;
    if (rev)
        return put_revision(t, rev);
    if (value)
        return put_value(t, guard);
    pack_str(&t->pack, "");
    return true;
}

static bool read_put(struct txn *t, json_t *op) {
    json_t *type = json_object_get(op, "content_type");
    if (type && !json_is_string(type))
        return fail(t, "\"content_type\" must be a string");
    struct slice text = type ? string_of(type) : slice_of(NULL, 0);
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < ' ' || text.data[i] > '~')
            return fail(t, "\"content_type\" may have printable ASCII only");
    if (text.size > COMMAND_CONTENT_TYPE_BYTES_MAX)
        return fail(t, "\"content_type\" may have at most %d bytes",
                    (int)COMMAND_CONTENT_TYPE_BYTES_MAX);
    pack_u64(&t->pack, 7);
    pack_str(&t->pack, "KV.PUT");
    if (!put_key(t, op, "put") || !put_value(t, op))
        return false;
    pack_slice(&t->pack, text);
    if (!put_ttl(t, op, true))
        return false;
    pack_str(&t->pack, "");
    pack_str(&t->pack, "");
    return true;
}

static bool read_delete(struct txn *t, json_t *op) {
    pack_u64(&t->pack, 4);
    pack_str(&t->pack, "KV.DEL");
    if (!put_key(t, op, "delete"))
        return false;
    pack_str(&t->pack, "");
    pack_str(&t->pack, "");
    return true;
}

static bool read_incr(struct txn *t, json_t *op) {
    pack_u64(&t->pack, 6);
    pack_str(&t->pack, "KV.INCR");
    return put_key(t, op, "incr") && put_integer(t, op, "by") && put_integer(t, op, "min") &&
           put_integer(t, op, "max") && put_ttl(t, op, false);
}

static bool read_get(struct txn *t, json_t *op) {
    pack_u64(&t->pack, 2);
    pack_str(&t->pack, "KV.GET");
    return put_key(t, op, "get");
}

/* The command whose arguments stand in the pack from `at` on. */
static bool redis_may(struct txn *t, const struct command *cmd, size_t at) {
    struct buf bytes = {0};
    struct argv argv = {0};
    if (t->who->kind == WHO_TRUSTED)
        return true;
    struct reader r = reader_of(slice_of(t->pack.out.data + at, t->pack.out.size - at));
    uint32_t count = 0;
    buf_append_u32(&bytes, 0);
    for (; reader_left(&r) > 0; count++)
        buf_append_lstr(&bytes, reader_lstr(&r));
    buf_patch_u32(&bytes, 0, count);
    bool may =
        argv_unpack(&argv, buf_slice(&bytes)) && access_command(t->who, cmd, &argv) == COMMAND_MAY;
    argv_fini(&argv);
    buf_fini(&bytes);
    return may || forbid(t, "command");
}

static bool read_redis(struct txn *t, json_t *op) {
    json_t *args = json_object_get(op, "redis"), *arg;
    size_t i;
    if (!json_is_array(args) || json_array_size(args) == 0 ||
        !json_is_string(json_array_get(args, 0)))
        return fail(t, "\"redis\" must be an array: the command's name and its arguments");
    struct slice name = string_of(json_array_get(args, 0));
    const struct command *cmd = command_find(name);
    if (!cmd || (cmd->flags & CMD_INTERNAL))
        return fail(t, "unknown command \"%.*s\"", (int)(name.size < 60 ? name.size : 60),
                    (const char *)name.data);
    if (cmd->flags & (CMD_CONNECTION | CMD_NO_MULTI))
        return fail(t, "%s is not possible in a transaction", cmd->name);
    if (!command_arity_ok(cmd, json_array_size(args)))
        return fail(t, "wrong number of arguments for %s", cmd->name);
    pack_u64(&t->pack, json_array_size(args));
    size_t at = t->pack.out.size;
    json_array_foreach(args, i, arg) {
        if (json_is_string(arg))
            pack_slice(&t->pack, string_of(arg));
        else if (json_is_integer(arg))
            pack_i64(&t->pack, json_integer_value(arg));
        else
            return fail(t, "arguments of \"redis\" are strings or whole numbers");
    }
    return redis_may(t, cmd, at);
}

static bool redis_writes(const json_t *op) {
    const struct command *cmd =
        command_find(string_of(json_array_get(json_object_get(op, "redis"), 0)));
    return (cmd->flags & CMD_WRITE) != 0;
}

static bool read_op(struct txn *t, json_t *op, uint8_t *ret_kind) {
    static const struct {
        const char *name, *members;
        enum txn_op kind;
        bool (*read)(struct txn *t, json_t *op);
    } table[] = {
        {"put", "put,value,base64,ttl,keepttl,content_type", OP_PUT, read_put},
        {"delete", "delete", OP_DELETE, read_delete},
        {"incr", "incr,by,min,max,ttl", OP_INCR, read_incr},
        {"get", "get", OP_GET, read_get},
        {"redis", "redis", OP_REDIS, read_redis},
    };
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        if (!json_object_get(op, table[i].name))
            continue;
        *ret_kind = (uint8_t)table[i].kind;
        if (!check_members(t, op, table[i].members) || !table[i].read(t, op))
            return false;
        if (table[i].kind == OP_REDIS && !redis_writes(op))
            *ret_kind = OP_REDIS_READ;
        return true;
    }
    return fail(t, "an operation has one of \"put\", \"delete\", \"incr\", \"get\", \"redis\"");
}

/* Reads one of the three lists; `kinds` is NULL for the guards. */
static bool read_list(struct txn *t, json_t *root, const char *name, uint8_t *kinds) {
    json_t *list = json_object_get(root, name), *item;
    t->list = name;
    json_array_foreach(list, t->position, item) {
        if (!json_is_object(item))
            return fail(t, "must be an object");
        if (kinds ? !read_op(t, item, &kinds[t->position]) : !read_guard(t, item))
            return false;
    }
    return true;
}

static bool read_root(struct txn *t, json_t *root) {
    static const char *const names[] = {"if", "then", "else"};
    size_t counts[3];
    const char *name;
    json_t *value;
    t->list = "body";
    if (!json_is_object(root)) {
        strcpy(t->error, "the body must be a JSON object");
        return false;
    }
    json_object_foreach(root, name, value) {
        if (!name_in("if,then,else", name) || !json_is_array(value)) {
            snprintf(t->error, sizeof t->error,
                     "\"%.60s\": the body has the arrays \"if\", \"then\" and \"else\" only", name);
            return false;
        }
    }
    for (size_t i = 0; i < 3; i++)
        counts[i] = json_array_size(json_object_get(root, names[i]));
    if (counts[0] + counts[1] + counts[2] == 0) {
        strcpy(t->error, "the transaction is empty");
        return false;
    }
    if (counts[0] + counts[1] + counts[2] > COMMAND_TXN_COMMANDS_MAX) {
        snprintf(t->error, sizeof t->error, "at most %d guards and operations",
                 (int)COMMAND_TXN_COMMANDS_MAX);
        return false;
    }
    for (size_t i = 0; i < 3; i++)
        pack_u64(&t->pack, counts[i]);
    t->plan = xcalloc(1, sizeof *t->plan + counts[1] + counts[2]);
    t->plan->then_count = counts[1];
    t->plan->else_count = counts[2];
    return read_list(t, root, "if", NULL) && read_list(t, root, "then", t->plan->kinds) &&
           read_list(t, root, "else", t->plan->kinds + counts[1]);
}

void http_txn_post(struct http_request *r, const struct http_input *in) {
    json_error_t error;
    if (!http_check_query(r, in, ""))
        return;
    if (!http_json_is_moderate(in->body)) {
        http_problem(r, &(struct http_problem){.status = 413, .code = "too_large"},
                     "the body has more than %d values", (int)HTTP_JSON_VALUES_MAX);
        return;
    }
    json_t *root = json_loadb((const char *)in->body.data, in->body.size,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!root) {
        http_bad_request(r, "the body is not JSON: %s (line %d, column %d)", error.text, error.line,
                         error.column);
        return;
    }
    struct txn t = {.pack = http_pack_write(r, "KV.TXN"), .who = &r->who};
    bool ok = read_root(&t, root);
    json_decref(root);
    buf_fini(&t.scratch);
    if (!ok) {
        buf_fini(&t.pack.out);
        free(t.plan);
        http_problem(r,
                     &(struct http_problem){.status = t.forbidden ? 403 : 400,
                                            .code = t.forbidden ? "forbidden" : "bad_request"},
                     "%s", t.error);
        return;
    }
    r->data = t.plan;
    struct buf packed = pack_end(&t.pack);
    http_submit(r, UPSTREAM_WRITE, &packed, http_txn_answer);
}
