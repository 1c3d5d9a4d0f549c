/* What clients say when they connect, and small talk: PING ECHO SELECT AUTH HELLO RESET QUIT TIME.
 */
#include <stdio.h>

#include "base/num.h"
#include "base/reply.h"
#include "gateway/redis_conn.h"
#include "store/store.h"

void redis_ping(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)rc;
    if (args->count > 2)
        redis_error_arity(out, "ping", NULL);
    else if (args->count == 2)
        reply_bulk(out, args->args[1]);
    else
        reply_simple(out, "PONG");
}

void redis_echo(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)rc;
    reply_bulk(out, args->args[1]);
}

void redis_select(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    int64_t db;
    if (!num_parse_i64(args->args[1], &db) || db > INT32_MAX || db < INT32_MIN) {
        reply_error(out, "ERR value is not an integer or out of range");
    } else if (db < 0 || db >= STORE_DB_COUNT) {
        reply_error(out, "ERR DB index is out of range");
    } else {
        rc->db = (uint16_t)db;
        CLIENT_SET(&rc->client, db, (uint32_t)db);
        reply_simple(out, "OK");
    }
}

/* As a queued command of MULTI: then nothing can be looked for. */
void redis_auth_local(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    const struct slice *user = args->count == 3 ? &args->args[1] : NULL;
    if (args->count > 3) {
        reply_error(out, "ERR syntax error");
        return;
    }
    enum who_kind kind = redis_log_in(rc, user, args->args[args->count - 1]);
    if (kind == WHO_TOKEN || kind == WHO_TRUSTED)
        reply_simple(out, "OK");
    else if (kind == WHO_ANONYMOUS)
        reply_error(out, "ERR AUTH <password> called without any password configured for the "
                         "default user. Are you sure your configuration is correct?");
    else
        redis_log_in_error(out, kind);
}

bool redis_auth(struct redis_conn *rc, const struct argv *args) {
    struct buf *out = &rc->conn.gw->scratch;
    const struct slice *user = args->count == 3 ? &args->args[1] : NULL;
    if (args->count <= 3 && redis_log_in(rc, user, args->args[args->count - 1]) == WHO_UNKNOWN) {
        access_wait(&rc->conn);
        return false;
    }
    buf_reset(out);
    redis_auth_local(rc, args, out);
    access_decided(&rc->conn);
    redis_answer(rc, buf_slice(out));
    return true;
}

/* The characters a client's name may have: printable, without spaces. */
static bool name_ok(struct slice name) {
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] < '!' || name.data[i] > '~')
            return false;
    return true;
}

static void hello_reply(struct redis_conn *rc, struct buf *out) {
    reply_map(out, 7);
    reply_bulk_str(out, "server");
    reply_bulk_str(out, "redis");
    reply_bulk_str(out, "version");
    reply_bulk_str(out, REDIS_VERSION);
    reply_bulk_str(out, "proto");
    reply_int(out, rc->version);
    reply_bulk_str(out, "id");
    reply_int(out, (int64_t)rc->client.id);
    reply_bulk_str(out, "mode");
    reply_bulk_str(out, "standalone");
    reply_bulk_str(out, "role");
    reply_bulk_str(out, "master");
    reply_bulk_str(out, "modules");
    reply_array(out, 0);
}

/* The options of HELLO. False: the error is in `out`. */
static bool hello_options(const struct argv *args, struct buf *out, const struct slice **name,
                          const struct slice **user, const struct slice **password) {
    for (size_t i = 2; i < args->count; i++) {
        size_t left = args->count - i - 1;
        if (slice_equal_nocase(args->args[i], "AUTH") && left >= 2) {
            *user = &args->args[i + 1];
            *password = &args->args[i + 2];
            i += 2;
        } else if (slice_equal_nocase(args->args[i], "SETNAME") && left >= 1) {
            *name = &args->args[++i];
            if (!name_ok(**name)) {
                reply_error(out, "ERR Client names cannot contain spaces, newlines or special "
                                 "characters.");
                return false;
            }
        } else {
            reply_error(out, "ERR Syntax error in HELLO option '%.*s'",
                        (int)(args->args[i].size < 128 ? args->args[i].size : 128),
                        (const char *)args->args[i].data);
            return false;
        }
    }
    return true;
}

void redis_hello_local(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    int64_t version = rc->version;
    if (args->count > 1 && !num_parse_i64(args->args[1], &version)) {
        reply_error(out, "ERR Protocol version is not an integer or out of range");
        return;
    }
    if (version < 2 || version > 3) {
        reply_error(out, "NOPROTO unsupported protocol version");
        return;
    }
    const struct slice *name = NULL, *user = NULL, *password = NULL;
    if (!hello_options(args, out, &name, &user, &password))
        return;
    enum who_kind kind = user ? redis_log_in(rc, user, *password) : redis_who(rc).kind;
    if (!user && kind == WHO_ANONYMOUS) {
        reply_error(out,
                    "NOAUTH HELLO must be called with the client already authenticated, otherwise "
                    "the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the "
                    "client and select the RESP protocol version at the same time");
        return;
    }
    if (kind != WHO_TOKEN && kind != WHO_TRUSTED) {
        redis_log_in_error(out, kind);
        return;
    }
    if (name)
        client_set_text(rc->conn.gw->shared, rc->client.name, *name);
    rc->version = (int)version;
    CLIENT_SET(&rc->client, resp, (uint32_t)version);
    hello_reply(rc, out);
}

bool redis_hello(struct redis_conn *rc, const struct argv *args) {
    struct buf *out = &rc->conn.gw->scratch;
    const struct slice *name = NULL, *user = NULL, *password = NULL;
    buf_reset(out);
    if (hello_options(args, out, &name, &user, &password) &&
        (user ? redis_log_in(rc, user, *password) : redis_who(rc).kind) == WHO_UNKNOWN) {
        access_wait(&rc->conn);
        return false;
    }
    buf_reset(out);
    redis_hello_local(rc, args, out);
    access_decided(&rc->conn);
    redis_answer(rc, buf_slice(out));
    return true;
}

void redis_reset(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)args;
    redis_multi_reset(rc, true);
    rc->db = 0;
    rc->version = 2;
    rc->authenticated = false;
    rc->reply_off = rc->reply_skip = rc->silent = false;
    CLIENT_SET(&rc->client, db, 0);
    CLIENT_SET(&rc->client, resp, 2);
    CLIENT_SET(&rc->client, no_evict, false);
    client_set_text(rc->conn.gw->shared, rc->client.name, slice_str(""));
    reply_simple(out, "RESET");
}

bool redis_quit(struct redis_conn *rc, const struct argv *args) {
    (void)args;
    redis_answer_simple(rc, "OK");
    conn_finish(&rc->conn);
    return true;
}

/* The gateway's wall clock, not the log's: TIME asks what time the server has, and must answer
 * while there is no leader. Expiry goes by the time in the log. */
void redis_time(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)args;
    uint64_t now_ms = gateway_wall_ms(rc->conn.gw);
    struct buf text = {0};
    reply_array(out, 2);
    num_append_u64(&text, now_ms / 1000);
    reply_bulk(out, buf_slice(&text));
    buf_reset(&text);
    num_append_u64(&text, now_ms % 1000 * 1000);
    reply_bulk(out, buf_slice(&text));
    buf_fini(&text);
}
