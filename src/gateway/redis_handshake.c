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

/* There are no users yet. As in a Redis without a password, "default" may log in with anything. */
static bool user_ok(struct slice user) {
    return slice_equal_str(user, "default");
}

#define WRONGPASS "WRONGPASS invalid username-password pair or user is disabled."

void redis_auth(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)rc;
    if (args->count > 3)
        reply_error(out, "ERR syntax error");
    else if (args->count == 2)
        reply_error(out, "ERR AUTH <password> called without any password configured for the "
                         "default user. Are you sure your configuration is correct?");
    else if (!user_ok(args->args[1]))
        reply_error(out, WRONGPASS);
    else
        reply_simple(out, "OK");
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

void redis_hello(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    int64_t version = rc->version;
    if (args->count > 1 && !num_parse_i64(args->args[1], &version)) {
        reply_error(out, "ERR Protocol version is not an integer or out of range");
        return;
    }
    if (version < 2 || version > 3) {
        reply_error(out, "NOPROTO unsupported protocol version");
        return;
    }
    const struct slice *name = NULL, *user = NULL;
    for (size_t i = 2; i < args->count; i++) {
        size_t left = args->count - i - 1;
        if (slice_equal_nocase(args->args[i], "AUTH") && left >= 2) {
            user = &args->args[i + 1];
            i += 2;
        } else if (slice_equal_nocase(args->args[i], "SETNAME") && left >= 1) {
            name = &args->args[++i];
            if (!name_ok(*name)) {
                reply_error(out, "ERR Client names cannot contain spaces, newlines or special "
                                 "characters.");
                return;
            }
        } else {
            reply_error(out, "ERR Syntax error in HELLO option '%.*s'",
                        (int)(args->args[i].size < 128 ? args->args[i].size : 128),
                        (const char *)args->args[i].data);
            return;
        }
    }
    if (user && !user_ok(*user)) {
        reply_error(out, WRONGPASS);
        return;
    }
    if (name)
        client_set_text(rc->conn.gw->shared, rc->client.name, *name);
    rc->version = (int)version;
    CLIENT_SET(&rc->client, resp, (uint32_t)version);
    hello_reply(rc, out);
}

void redis_reset(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)args;
    redis_multi_reset(rc, true);
    rc->db = 0;
    rc->version = 2;
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
