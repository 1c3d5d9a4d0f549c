/* CLIENT and its subcommands. */
#include <inttypes.h>

#include "base/num.h"
#include "base/reply.h"
#include "gateway/redis_conn.h"

void redis_client_update(struct redis_conn *rc) {
    CLIENT_SET(&rc->client, last_ms, gateway_wall_ms(rc->conn.gw));
    CLIENT_SET(&rc->client, queued,
               rc->multi.active ? (int32_t)rc->multi.queued_count : (int32_t)-1);
    CLIENT_SET(&rc->client, watched, rc->multi.watch_count);
}

#define GET(e, field) __atomic_load_n(&(e)->field, __ATOMIC_RELAXED)

static void append_lower(struct buf *out, const char *text) {
    for (; *text; text++)
        buf_append_char(out, (char)(*text >= 'A' && *text <= 'Z' ? *text + 32 : *text));
}

/* The line of CLIENT LIST. Fields that mean nothing here have the value Redis shows when idle. */
static void append_client(struct buf *out, const struct client_entry *e, uint16_t port,
                          uint64_t now_ms) {
    uint64_t last_ms = GET(e, last_ms);
    buf_printf(out, "id=%" PRIu64 " addr=%s laddr=127.0.0.1:%u fd=0 name=%s", e->id, e->peer, port,
               e->name);
    buf_printf(out, " age=%" PRIu64 " idle=%" PRIu64,
               (now_ms > e->connected_ms ? now_ms - e->connected_ms : 0) / 1000,
               (now_ms > last_ms ? now_ms - last_ms : 0) / 1000);
    buf_printf(out, " flags=%s%s db=%u sub=0 psub=0 ssub=0 multi=%d watch=%u",
               GET(e, queued) >= 0 ? "x"
               : GET(e, no_evict)  ? ""
                                   : "N",
               GET(e, no_evict) ? "e" : "", GET(e, db), GET(e, queued), GET(e, watched));
    buf_append_str(out, " qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 "
                        "tot-mem=0 events=r cmd=");
    append_lower(out, GET(e, last_command));
    buf_printf(out, " user=default redir=-1 resp=%u lib-name=%s lib-ver=%s\n", GET(e, resp),
               e->lib_name, e->lib_version);
}

struct list_job {
    struct buf *out;
    const struct argv *args; /* ids from index `ids_at` on; 0: all */
    size_t ids_at;
    uint64_t only_id;
    uint16_t port;
    uint64_t now_ms;
};

static void list_one(void *ctx, const struct client_entry *e) {
    struct list_job *job = ctx;
    bool take = job->only_id ? e->id == job->only_id : job->ids_at == 0;
    for (size_t i = job->ids_at; job->ids_at && !take && i < job->args->count; i++) {
        uint64_t id;
        take = num_parse_u64(job->args->args[i], &id) && id == e->id;
    }
    if (take)
        append_client(job->out, e, job->port, job->now_ms);
}

static void reply_list(struct redis_conn *rc, const struct argv *args, size_t ids_at,
                       uint64_t only_id, struct buf *out) {
    struct buf text = {0};
    struct list_job job = {.out = &text,
                           .args = args,
                           .ids_at = ids_at,
                           .only_id = only_id,
                           .port = rc->conn.gw->options.redis_port,
                           .now_ms = gateway_wall_ms(rc->conn.gw)};
    client_each(rc->conn.gw->shared, list_one, &job);
    reply_bulk(out, buf_slice(&text));
    buf_fini(&text);
}

static void client_list(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    size_t ids_at = 0;
    if (args->count == 4 && slice_equal_nocase(args->args[2], "TYPE")) {
        struct slice type = args->args[3];
        if (slice_equal_nocase(type, "master") || slice_equal_nocase(type, "replica") ||
            slice_equal_nocase(type, "slave") || slice_equal_nocase(type, "pubsub")) {
            reply_bulk_str(out, ""); /* kinds of clients that we do not have */
            return;
        }
        if (!slice_equal_nocase(type, "normal")) {
            reply_error(out, "ERR Unknown client type '%.*s'",
                        (int)(type.size < 128 ? type.size : 128), (const char *)type.data);
            return;
        }
    } else if (args->count > 3 && slice_equal_nocase(args->args[2], "ID")) {
        ids_at = 3;
        for (size_t i = ids_at; i < args->count; i++) {
            int64_t id;
            if (!num_parse_i64(args->args[i], &id) || id <= 0) {
                reply_error(out, "ERR Invalid client ID");
                return;
            }
        }
    } else if (args->count != 2) {
        reply_error(out, "ERR syntax error");
        return;
    }
    reply_list(rc, args, ids_at, 0, out);
}

static bool text_ok(struct slice text) {
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < '!' || text.data[i] > '~')
            return false;
    return text.size < CLIENT_TEXT_BYTES_MAX;
}

static void client_setname(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    if (!text_ok(args->args[2])) {
        reply_error(out, "ERR Client names cannot contain spaces, newlines or special characters.");
        return;
    }
    client_set_text(rc->conn.gw->shared, rc->client.name, args->args[2]);
    reply_simple(out, "OK");
}

static void client_getname(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)args;
    if (rc->client.name[0])
        reply_bulk_str(out, rc->client.name);
    else
        reply_null(out);
}

static void client_setinfo(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    bool name = slice_equal_nocase(args->args[2], "lib-name");
    if (!name && !slice_equal_nocase(args->args[2], "lib-ver")) {
        reply_error(out, "ERR Unrecognized option '%.*s'",
                    (int)(args->args[2].size < 128 ? args->args[2].size : 128),
                    (const char *)args->args[2].data);
        return;
    }
    if (!text_ok(args->args[3])) {
        reply_error(out, "ERR %s cannot contain spaces, newlines or special characters.",
                    name ? "lib-name" : "lib-ver");
        return;
    }
    client_set_text(rc->conn.gw->shared, name ? rc->client.lib_name : rc->client.lib_version,
                    args->args[3]);
    reply_simple(out, "OK");
}

static void client_id(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)args;
    reply_int(out, (int64_t)rc->client.id);
}

static void client_info(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    reply_list(rc, args, 0, rc->client.id, out);
}

/* ON is answered; OFF and SKIP are not, themselves included. */
static void client_reply(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    struct slice mode = args->args[2];
    if (slice_equal_nocase(mode, "ON")) {
        rc->reply_off = rc->silent = false;
        reply_simple(out, "OK");
    } else if (slice_equal_nocase(mode, "OFF")) {
        rc->reply_off = rc->silent = true;
        reply_simple(out, "OK");
    } else if (slice_equal_nocase(mode, "SKIP")) {
        rc->reply_skip = !rc->reply_off;
        rc->silent = true;
        reply_simple(out, "OK");
    } else {
        reply_error(out, "ERR syntax error");
    }
}

/* Nothing is ever evicted, so the promise is easily kept. */
static void client_no_evict(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    bool on = slice_equal_nocase(args->args[2], "ON");
    if (!on && !slice_equal_nocase(args->args[2], "OFF")) {
        reply_error(out, "ERR syntax error");
        return;
    }
    CLIENT_SET(&rc->client, no_evict, on);
    reply_simple(out, "OK");
}

static void client_help(struct redis_conn *rc, const struct argv *args, struct buf *out);

/* name, arity as in the command table, function, arguments, one line of help */
#define CLIENT_TABLE(X)                                                                            \
    X("ID", 2, client_id, "", "The number of this connection.")                                    \
    X("GETNAME", 2, client_getname, "", "The name of this connection.")                            \
    X("SETNAME", 3, client_setname, " <name>", "Name this connection.")                            \
    X("SETINFO", 4, client_setinfo, " <lib-name|lib-ver> <text>", "Name the client library.")      \
    X("INFO", 2, client_info, "", "One line about this connection.")                               \
    X("LIST", -2, client_list, " [TYPE <type> | ID <id> ...]", "One line a connection.")           \
    X("REPLY", 3, client_reply, " <ON|OFF|SKIP>", "Whether commands are answered.")                \
    X("NO-EVICT", 3, client_no_evict, " <ON|OFF>", "Kept for clients that set it.")                \
    X("HELP", 2, client_help, "", "This help.")

static void client_help(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    static const char *const lines[] = {
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
#define X(name, arity, fn, usage, help) name usage, "    " help,
        CLIENT_TABLE(X)
#undef X
    };
    (void)rc;
    (void)args;
    reply_array(out, ARRAY_COUNT(lines));
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++)
        reply_simple(out, lines[i]);
}

void redis_client(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    static const struct {
        const char *name;
        int arity;
        redis_local_fn fn;
    } table[] = {
#define X(name, arity, fn, usage, help) {name, arity, fn},
        CLIENT_TABLE(X)
#undef X
    };
    if (args->count < 2) {
        redis_error_arity(out, "client", NULL);
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        if (!slice_equal_nocase(args->args[1], table[i].name))
            continue;
        int arity = table[i].arity;
        if (arity > 0 ? args->count != (size_t)arity : args->count < (size_t)-arity) {
            struct buf lower = {0};
            append_lower(&lower, table[i].name);
            buf_append_char(&lower, 0);
            redis_error_arity(out, "client", (const char *)lower.data);
            buf_fini(&lower);
        } else {
            table[i].fn(rc, args, out);
        }
        return;
    }
    redis_error_subcommand(out, "CLIENT", args->args[1]);
}
