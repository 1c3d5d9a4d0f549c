/* POST /v1/redis, /v1/redis/pipeline, /v1/redis/multi-exec: Redis commands as JSON, in the form
 * that Upstash's REST API has made common, so that its clients work.
 *
 *   ["SET", "k", "v"]                    ->  {"result": "OK"}    {"error": "ERR ..."}
 *   [["GET", "a"], ["INCR", "b"], ...]   ->  [{"result": ...}, {"error": ...}, ...]
 *
 * Strings and numbers are arguments as they are. Replies have the forms of RESP2: maps are arrays
 * of names and values one after the other. With "Upstash-Encoding: base64" strings in results are
 * in base64, all but the status OK.
 *
 * A pipeline is one command to the store: TX.READ when it only reads, else TX.EXEC. That is more
 * than was asked for (nothing comes between its commands), and one round for all of them. Commands
 * that cannot be executed have their error at their place; in a transaction it refuses all.
 */
#include <jansson.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reader.h"
#include "base/reply.h"
#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"
#include "proto/json_out.h"
#include "store/commands.h"

/* What the answer needs to know; goes with the request. */
struct rest {
    bool list;   /* of results */
    bool base64; /* strings in it */
    /* For each command: lstr of the reply that was made here, empty: the store's next one. */
    struct buf local;
    uint32_t count;
};

/* A body that is being turned into what goes up. */
struct reading {
    struct rest *rest;
    struct buf store; /* packed as TX.EXEC takes them: db, argc, arguments */
    uint32_t store_args, store_count;
    bool writes;
    const struct who *who;
    struct buf error; /* neutral, of the command that was refused first */
    struct argv argv;
    struct buf argv_bytes;
};

static struct rest *rest_of(struct http_request *r) {
    return r->data;
}

/* ---- answers -----------------------------------------------------------------------------------
 */

static void put_string(struct json_out *j, struct slice s, bool base64) {
    struct buf text = {0};
    if (!base64) {
        json_out_string(j, s);
        return;
    }
    base64_append(&text, s);
    json_out_string(j, buf_slice(&text));
    buf_fini(&text);
}

/* One reply in the form of RESP2. False: malformed. */
static bool put_value(struct json_out *j, struct slice *reply, bool base64, int depth) {
    struct reply_item item;
    if (depth > JSON_OUT_DEPTH_MAX / 2 || !reply_next(reply, &item))
        return false;
    switch (item.type) {
    case '+':
        put_string(j, item.bytes, base64 && !slice_equal_str(item.bytes, "OK"));
        return true;
    case '$':
    case ',':
        put_string(j, item.bytes, base64);
        return true;
    case '-':
        json_out_string(j, item.bytes);
        return true;
    case ':':
    case '#':
        json_out_i64(j, item.integer);
        return true;
    case 'n':
        json_out_null(j);
        return true;
    default:
        json_out_array(j);
        for (uint64_t i = 0; i < reply_item_children(&item); i++)
            if (!put_value(j, reply, base64, depth + 1))
                return false;
        json_out_end(j, ']');
        return true;
    }
}

/* {"result": ...} or {"error": "..."}; takes one reply. */
static bool put_result(struct json_out *j, struct slice *reply, bool base64) {
    json_out_object(j);
    json_out_key(j, reply_is_error(*reply) ? "error" : "result");
    bool ok = put_value(j, reply, base64, 0);
    if (ok)
        json_out_end(j, '}');
    return ok;
}

static void drop(struct http_request *r) {
    struct rest *rest = rest_of(r);
    if (rest)
        buf_fini(&rest->local);
}

/* The client has gone. */
static void on_gone(struct http_request *r) {
    drop(r);
}

static void answer_json(struct http_request *r, int status, struct buf *json) {
    drop(r);
    http_answer_json(r, status, json);
}

/* Clients look at "error"; `applied` is NULL or says whether anything changed. */
static void answer_error(struct http_request *r, int status, struct slice text,
                         const char *applied) {
    struct buf json = {0};
    struct json_out j;
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "error");
    json_out_string(&j, text);
    if (applied) {
        json_out_key(&j, "applied");
        json_out_str(&j, applied);
    }
    json_out_end(&j, '}');
    answer_json(r, status, &json);
}

/* A request that was given up, or refused as a whole. */
static void answer_failure(struct http_request *r, enum upstream_outcome outcome,
                           struct slice reply) {
    const char *code;
    struct slice in = reply;
    struct reply_item item = {.bytes = slice_str("UNAVAILABLE the database gave no answer")};
    int status = reply_is_error(reply) ? http_error_status(reply, &code) : 503;
    if (reply_is_error(reply))
        (void)reply_next(&in, &item);
    if (status < 500)
        status = outcome == UPSTREAM_DONE ? 400 : 503;
    answer_error(r, status, item.bytes,
                 outcome == UPSTREAM_UNKNOWN ? "unknown"
                 : outcome == UPSTREAM_DONE  ? NULL
                                             : "no");
}

static void answer_malformed(struct http_request *r, struct buf *json) {
    buf_fini(json);
    answer_error(r, 500, slice_str("ERR the database node sent a reply of an unknown form"),
                 "unknown");
}

/* The store's replies and those made here, each at its place. */
static void answer_list(struct http_request *r, struct slice reply) {
    struct rest *rest = rest_of(r);
    struct reader local = reader_of(buf_slice(&rest->local));
    struct buf json = {0};
    struct json_out j;
    json_out_begin(&j, &json);
    json_out_array(&j);
    for (uint32_t i = 0; i < rest->count; i++) {
        struct slice here = reader_lstr(&local);
        if (!put_result(&j, here.size > 0 ? &here : &reply, rest->base64)) {
            answer_malformed(r, &json);
            return;
        }
    }
    json_out_end(&j, ']');
    answer_json(r, 200, &json);
}

static void store_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct rest *rest = rest_of(r);
    struct buf json = {0};
    struct json_out j;
    (void)index;
    if (outcome != UPSTREAM_DONE || reply_is_error(reply)) {
        answer_failure(r, outcome, reply);
        return;
    }
    if (rest->list) {
        struct reply_item header;
        if (!reply_next(&reply, &header) || header.type != '*')
            answer_malformed(r, &json);
        else
            answer_list(r, reply);
        return;
    }
    json_out_begin(&j, &json);
    if (put_result(&j, &reply, rest->base64))
        answer_json(r, 200, &json);
    else
        answer_malformed(r, &json);
}

/* ---- requests ----------------------------------------------------------------------------------
 */

static bool put_argument(struct buf *out, const json_t *value) {
    struct buf text = {0};
    if (json_is_string(value))
        buf_append(&text, json_string_value(value), json_string_length(value));
    else if (json_is_integer(value))
        num_append_i64(&text, json_integer_value(value));
    else if (json_is_boolean(value))
        buf_append_str(&text, json_is_true(value) ? "true" : "false");
    else if (json_is_real(value)) {
        struct json_out j;
        json_out_begin(&j, &text);
        json_out_double(&j, json_real_value(value));
    } else {
        return false;
    }
    buf_append_lstr(out, buf_slice(&text));
    buf_fini(&text);
    return true;
}

/* Takes a command apart into in->argv. False: a neutral error is in *error. */
static bool take_command(struct reading *in, const json_t *command, struct buf *error) {
    size_t i;
    json_t *value;
    struct buf *bytes = &in->argv_bytes;
    buf_reset(bytes);
    buf_append_u32(bytes, (uint32_t)json_array_size(command));
    if (!json_is_array(command) || json_array_size(command) == 0) {
        reply_error(error, "ERR a command is an array: its name and its arguments");
        return false;
    }
    json_array_foreach((json_t *)command, i, value) {
        if (!put_argument(bytes, value)) {
            reply_error(error, "ERR arguments are strings, numbers, true or false");
            return false;
        }
    }
    if (!argv_unpack(&in->argv, buf_slice(bytes))) {
        reply_error(error, "ERR a command has at most %d arguments", (int)ARGV_COUNT_MAX);
        return false;
    }
    return true;
}

/* What needs no database. False: it is not one of those. */
static bool run_local(const struct argv *argv, struct buf *reply) {
    if (slice_equal_nocase(argv->args[0], "PING")) {
        if (argv->count > 1)
            reply_bulk(reply, argv->args[1]);
        else
            reply_simple(reply, "PONG");
        return true;
    }
    if (slice_equal_nocase(argv->args[0], "ECHO")) {
        reply_bulk(reply, argv->args[1]);
        return true;
    }
    return false;
}

/* Adds one command: to those of the store, or its reply to those made here. */
static void add_command(struct reading *in, const json_t *json) {
    struct buf reply = {0};
    const struct argv *argv = &in->argv;
    enum access_command verdict;
    if (take_command(in, json, &reply)) {
        const struct command *command = command_find(argv->args[0]);
        if (!command || (command->flags & CMD_INTERNAL)) {
            command_reply_unknown(&reply, argv);
        } else if (!command_arity_ok(command, argv->count)) {
            command_reply_arity(&reply, command);
        } else if ((verdict = access_command(in->who, command, argv)) != COMMAND_MAY) {
            access_command_error(&reply, verdict, in->who, command, argv);
        } else if (command->flags & CMD_CONNECTION) {
            if (!run_local(argv, &reply))
                reply_error(&reply, "ERR %s belongs to a connection and is not possible here",
                            command->name);
        } else {
            struct pack p = {.out = in->store, .count = in->store_args};
            pack_u64(&p, 0);
            pack_u64(&p, argv->count);
            for (size_t i = 0; i < argv->count; i++)
                pack_slice(&p, argv->args[i]);
            in->store = p.out;
            in->store_args = p.count;
            in->store_count++;
            in->writes |= (command->flags & CMD_WRITE) != 0;
        }
    }
    buf_append_lstr(&in->rest->local, buf_slice(&reply));
    in->rest->count++;
    if (reply_is_error(buf_slice(&reply)) && in->error.size == 0)
        buf_append_slice(&in->error, buf_slice(&reply));
    buf_fini(&reply);
}

static void reading_fini(struct reading *in) {
    buf_fini(&in->store);
    buf_fini(&in->error);
    buf_fini(&in->argv_bytes);
    argv_fini(&in->argv);
}

/* A read goes up as a read when no write of its connection is under way, else through the log
 * behind it. A name for the request means something only where something is written. */
static void submit(struct http_request *r, bool writes, struct buf *packed) {
    bool read = !writes && conn_may_submit(r->base.conn, CONN_ORDER_READ);
    r->gone = on_gone;
    http_submit(r, read ? UPSTREAM_READ : UPSTREAM_WRITE, packed, store_answer);
}

/* Begins what goes up; with an Idempotency-Key where that means something. */
static struct pack begin(struct http_request *r, bool writes, const char *name) {
    if (!writes)
        buf_reset(&r->once);
    return http_pack_write(r, name);
}

static void submit_list(struct http_request *r, struct reading *in) {
    struct pack p = begin(r, in->writes, in->writes ? "TX.EXEC" : "TX.READ");
    if (in->writes)
        pack_u64(&p, 0); /* watches */
    pack_u64(&p, in->store_count);
    buf_append_slice(&p.out, buf_slice(&in->store));
    p.count += in->store_args;
    struct buf packed = pack_end(&p);
    submit(r, in->writes, &packed);
}

/* The body, or NULL when it was answered. */
static json_t *take_body(struct http_request *r, const struct http_input *in) {
    json_error_t error;
    if (!http_check_query(r, in, ""))
        return NULL;
    if (!http_json_is_moderate(in->body)) {
        answer_error(r, 413, slice_str("ERR the body has too many values"), NULL);
        return NULL;
    }
    json_t *body = json_loadb((const char *)in->body.data, in->body.size, JSON_ALLOW_NUL, &error);
    if (body && json_is_array(body) && json_array_size(body) > 0)
        return body;
    struct buf text = {0};
    if (body)
        buf_append_str(&text, "ERR the body is not an array with something in it");
    else
        buf_printf(&text, "ERR the body is not JSON: %s (line %d, column %d)", error.text,
                   error.line, error.column);
    json_decref(body);
    answer_error(r, 400, buf_slice(&text), NULL);
    buf_fini(&text);
    return NULL;
}

static struct rest *rest_begin(struct http_request *r, const struct http_input *in, bool list) {
    const struct slice *encoding = http_find_header(in->head, "Upstash-Encoding");
    struct rest *rest = xcalloc(1, sizeof *rest);
    rest->list = list;
    rest->base64 = encoding && slice_equal_nocase(*encoding, "base64");
    r->data = rest;
    return rest;
}

void http_redis_post(struct http_request *r, const struct http_input *in) {
    json_t *body = take_body(r, in);
    if (!body)
        return;
    struct reading reading = {.rest = rest_begin(r, in, false), .who = &r->who};
    add_command(&reading, body);
    json_decref(body);
    if (reading.store_count > 0) {
        struct pack p = {0};
        for (size_t i = 0; i < reading.argv.count; i++) {
            if (i == 0) {
                struct buf name = {0};
                buf_append_slice(&name, reading.argv.args[0]);
                buf_append_u8(&name, 0);
                p = begin(r, reading.writes, (const char *)name.data);
                buf_fini(&name);
            } else {
                pack_slice(&p, reading.argv.args[i]);
            }
        }
        struct buf packed = pack_end(&p);
        submit(r, reading.writes, &packed);
    } else {
        struct reader local = reader_of(buf_slice(&reading.rest->local));
        struct slice reply = reader_lstr(&local);
        struct buf json = {0};
        struct json_out j;
        bool refused = reply_is_error(reply);
        bool noperm = slice_starts_with(reply, slice_str("-NOPERM "));
        json_out_begin(&j, &json);
        CHECK(put_result(&j, &reply, reading.rest->base64));
        answer_json(r, noperm ? 403 : refused ? 400 : 200, &json);
    }
    reading_fini(&reading);
}

static bool take_list(struct http_request *r, const struct http_input *in,
                      struct reading *ret_reading) {
    json_t *body = take_body(r, in), *command;
    size_t i;
    if (!body)
        return false;
    if (json_array_size(body) > COMMAND_TXN_COMMANDS_MAX) {
        json_decref(body);
        answer_error(r, 400, slice_str("ERR too many commands"), NULL);
        return false;
    }
    *ret_reading = (struct reading){.rest = rest_begin(r, in, true), .who = &r->who};
    json_array_foreach(body, i, command) {
        add_command(ret_reading, command);
    }
    json_decref(body);
    return true;
}

void http_redis_pipeline(struct http_request *r, const struct http_input *in) {
    struct reading reading;
    if (!take_list(r, in, &reading))
        return;
    if (reading.store_count > 0)
        submit_list(r, &reading);
    else
        answer_list(r, slice_of(NULL, 0));
    reading_fini(&reading);
}

void http_redis_multi_exec(struct http_request *r, const struct http_input *in) {
    struct reading reading;
    if (!take_list(r, in, &reading))
        return;
    if (reading.error.size > 0) {
        struct buf text = {0};
        buf_append_str(&text, "EXECABORT Transaction discarded because of: ");
        buf_append(&text, reading.error.data + 1, reading.error.size - 3);
        answer_error(r, 400, buf_slice(&text), NULL);
        buf_fini(&text);
    } else if (reading.store_count > 0) {
        submit_list(r, &reading);
    } else {
        answer_list(r, slice_of(NULL, 0));
    }
    reading_fini(&reading);
}
