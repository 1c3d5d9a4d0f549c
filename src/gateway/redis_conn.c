#include "gateway/redis_conn.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/reply.h"
#include "store/store.h"

enum {
    WARN_EVERY_MS = 60000,
    STORE_PACKED_BYTES = 96, /* of a read's packed arguments: a usual key fits */
    /* Replies up to this size count as small: 65,536 of them, all that a gateway has under way,
     * are half of what the database keeps for a client session (store/session.h). */
    SMALL_REPLY_BYTES = 128,
    SMALL_READS = 4,      /* so many small replies in a row, and the next is expected to be small */
    JOINED_READS_MAX = 8, /* behind one write: a long run of reads is cheaper outside the log */
};

/* ---- answers -----------------------------------------------------------------------------------
 */

struct slice redis_malformed_reply(const struct redis_request *r) {
    bool write = r->base.up.kind == UPSTREAM_WRITE && !r->read;
    return slice_str(write ? "-ERR the database node sent a malformed reply; applied: unknown\r\n"
                           : "-ERR the database node sent a malformed reply; applied: no\r\n");
}

void redis_request_reply(struct redis_request *r, struct slice neutral) {
    struct buf *out = conn_request_out(&r->base);
    if (reply_is_error(neutral))
        METRIC_ADD(&r->base.conn->gw->metrics, redis_errors_total, 1);
    if (!r->silent && !resp_append_reply(out, neutral, r->version))
        buf_append_slice(out, redis_malformed_reply(r));
    conn_request_done(&r->base);
}

void redis_answer(struct redis_conn *rc, struct slice neutral) {
    if (reply_is_error(neutral))
        METRIC_ADD(&rc->conn.gw->metrics, redis_errors_total, 1);
    if (rc->silent)
        return;
    CHECK(resp_append_reply(conn_answer(&rc->conn), neutral, rc->version));
}

void redis_answer_error(struct redis_conn *rc, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct buf *out = &rc->conn.gw->scratch;
    buf_reset(out);
    reply_error(out, "%s", text);
    redis_answer(rc, buf_slice(out));
}

void redis_answer_simple(struct redis_conn *rc, const char *text) {
    struct buf *out = &rc->conn.gw->scratch;
    buf_reset(out);
    reply_simple(out, text);
    redis_answer(rc, buf_slice(out));
}

void redis_error_subcommand(struct buf *out, const char *command, struct slice sub) {
    reply_error(out, "ERR unknown subcommand '%.*s'. Try %s HELP.",
                (int)(sub.size < 128 ? sub.size : 128), (const char *)sub.data, command);
}

void redis_error_arity(struct buf *out, const char *command, const char *sub) {
    reply_error(out, "ERR wrong number of arguments for '%s%s%s' command", command, sub ? "|" : "",
                sub ? sub : "");
}

/* ---- requests ----------------------------------------------------------------------------------
 */

/* A command for the store: most of what clients ask. It comes from a pool, and a small read has its
 * packed arguments with it. */
struct store_request {
    struct redis_request base;
    uint8_t packed[STORE_PACKED_BYTES];
};

size_t redis_store_request_bytes(void) {
    return sizeof(struct store_request);
}

static void request_begin(struct redis_conn *rc, struct redis_request *r,
                          const struct conn_request_ops *ops) {
    r->rc = rc;
    r->version = (uint8_t)rc->version;
    r->silent = rc->silent;
    conn_enqueue(&rc->conn, &r->base, ops);
}

struct redis_request *redis_request_new(struct redis_conn *rc, size_t size,
                                        const struct conn_request_ops *ops) {
    CHECK(size >= sizeof(struct redis_request));
    struct redis_request *r = xcalloc(1, size);
    request_begin(rc, r, ops);
    return r;
}

void redis_request_answer(struct conn_request *base, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    (void)outcome; /* a request that was given up has an error reply that says so */
    (void)index;
    redis_request_reply(CONTAINER_OF(base, struct redis_request, base), reply);
}

static void store_answer(struct conn_request *base, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct redis_request *r = CONTAINER_OF(base, struct redis_request, base);
    if (r->read && outcome == UPSTREAM_DONE) {
        bool small = reply.size <= SMALL_REPLY_BYTES;
        r->rc->small_reads = (uint8_t)(!small                             ? 0
                                       : r->rc->small_reads < SMALL_READS ? r->rc->small_reads + 1
                                                                          : SMALL_READS);
    }
    redis_request_answer(base, outcome, index, reply);
}

void redis_request_free(struct conn_request *base) {
    free(CONTAINER_OF(base, struct redis_request, base));
}

static void store_request_free(struct conn_request *base) {
    struct store_request *s = CONTAINER_OF(base, struct store_request, base.base);
    pool_free(&base->conn->gw->store_requests, s);
}

static const struct conn_request_ops store_ops = {
    .answer = store_answer,
    .free = store_request_free,
};

/* Packs the arguments into the request itself when they fit, else into memory of their own. */
static struct buf pack(struct store_request *s, bool write, const struct argv *args) {
    struct buf packed = {0};
    size_t size = 4;
    for (size_t i = 0; i < args->count && size <= sizeof s->packed; i++)
        size += 4 + args->args[i].size;
    if (!write && size <= sizeof s->packed) {
        packed = (struct buf){.data = s->packed, .capacity = sizeof s->packed};
        s->base.base.up.packed_kept = true;
    }
    argv_append(&packed, args->args, args->count);
    return packed;
}

/* Whether a read joins the writes that are under way on its connection, through the log: it is then
 * executed between the one before it and the one behind it, and neither has to wait. Its reply
 * takes room in the client session like that of a write, so that it should be small, which is known
 * only of the ones before it. (docs/decisions/0010-mixed-pipelines.md) */
static bool joins_writes(const struct redis_conn *rc, const struct command *cmd,
                         const struct argv *args) {
    const unsigned quick = CMD_READ | CMD_FAST;
    return (cmd->flags & quick) == quick && args->count <= 3 && rc->small_reads == SMALL_READS &&
           rc->joined_reads < JOINED_READS_MAX && rc->conn.in_flight > 0 &&
           rc->conn.order == CONN_ORDER_WRITE;
}

static enum conn_order order_of(const struct redis_conn *rc, const struct command *cmd,
                                const struct argv *args) {
    return cmd->flags & CMD_WRITE || joins_writes(rc, cmd, args) ? CONN_ORDER_WRITE
                                                                 : CONN_ORDER_READ;
}

static bool submit_command(struct redis_conn *rc, const struct command *cmd,
                           const struct argv *args) {
    bool write = order_of(rc, cmd, args) == CONN_ORDER_WRITE;
    struct store_request *s = pool_alloc(&rc->conn.gw->store_requests);
    struct redis_request *r = &s->base;
    request_begin(rc, r, &store_ops);
    r->read = (cmd->flags & CMD_READ) != 0;
    if (!r->read) {
        rc->joined_reads = 0;
    } else if (write) {
        rc->joined_reads++;
        METRIC_ADD(&rc->conn.gw->metrics, reads_joined_total, 1);
    }
    struct buf packed = pack(s, write, args);
    conn_submit(&r->base, write ? UPSTREAM_WRITE : UPSTREAM_READ, rc->db, &packed);
    return true;
}

/* ---- dispatch ----------------------------------------------------------------------------------
 */

redis_local_fn redis_find_local(const struct command *cmd) {
    static const struct {
        const char *name;
        redis_local_fn fn;
    } table[] = {
#define X(name, fn) {name, fn},
        REDIS_LOCAL_TABLE(X)
#undef X
    };
    for (size_t i = 0; i < ARRAY_COUNT(table); i++)
        if (strcmp(table[i].name, cmd->name) == 0)
            return table[i].fn;
    return NULL;
}

redis_special_fn redis_find_special(const struct command *cmd) {
    static const struct {
        const char *name;
        redis_special_fn fn;
    } table[] = {
#define X(name, fn) {name, fn},
        REDIS_SPECIAL_TABLE(X)
#undef X
    };
    for (size_t i = 0; i < ARRAY_COUNT(table); i++)
        if (strcmp(table[i].name, cmd->name) == 0)
            return table[i].fn;
    return NULL;
}

/* These act at once even between MULTI and EXEC. */
static bool acts_in_multi(const struct command *cmd) {
    static const char *const names[] = {"MULTI", "EXEC", "DISCARD", "WATCH", "QUIT", "RESET"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (strcmp(names[i], cmd->name) == 0)
            return true;
    return false;
}

/* A command that is refused before it could be queued spoils the transaction. */
static void refuse_in_multi(struct redis_conn *rc) {
    if (rc->multi.active)
        rc->multi.aborted = true;
}

static void refuse_arity(struct redis_conn *rc, const struct command *cmd, struct buf *out) {
    refuse_in_multi(rc);
    if (strcmp(cmd->name, "EXEC") == 0) { /* so that a client sees that nothing ran */
        redis_multi_reset(rc, true);
        reply_error(out, "EXECABORT Transaction discarded because of: wrong number of arguments "
                         "for 'exec' command");
    } else {
        command_reply_arity(out, cmd);
    }
    redis_answer(rc, buf_slice(out));
}

/* A browser that was made to talk to us: its next lines could be commands (Redis does the same). */
static bool looks_like_http(struct redis_conn *rc, const struct argv *args) {
    if (!slice_equal_nocase(args->args[0], "POST") && !slice_equal_nocase(args->args[0], "Host:"))
        return false;
    struct gateway *gw = rc->conn.gw;
    if (gateway_now_ms(gw) >= gw->warn_again_ms) { /* clients must not fill the log */
        gw->warn_again_ms = gateway_now_ms(gw) + WARN_EVERY_MS;
        log_warn("http-on-redis-port", "peer=%s", rc->client.peer);
    }
    METRIC_ADD(&rc->conn.gw->metrics, redis_malformed_total, 1);
    conn_abort(&rc->conn);
    return true;
}

/* False: the command must wait, nothing was done. */
static bool dispatch(struct redis_conn *rc, const struct command *cmd, const struct argv *args) {
    if (rc->multi.active && !acts_in_multi(cmd)) {
        redis_multi_queue(rc, cmd, args);
        return true;
    }
    if (!(cmd->flags & CMD_CONNECTION))
        return submit_command(rc, cmd, args);
    redis_special_fn special = redis_find_special(cmd);
    if (special)
        return special(rc, args);
    struct buf *out = &rc->conn.gw->scratch;
    buf_reset(out);
    redis_find_local(cmd)(rc, args, out);
    redis_answer(rc, buf_slice(out));
    return true;
}

static bool execute(struct redis_conn *rc, const struct argv *args) {
    const struct command *cmd = command_find(args->args[0]);
    if (cmd && (cmd->flags & CMD_INTERNAL))
        cmd = NULL;
    if (cmd && (cmd->flags & CMD_CONNECTION) && !redis_find_local(cmd) && !redis_find_special(cmd))
        cmd = NULL;
    bool wait = false, may = true;
    if (rc->conn.gw->access && cmd && command_arity_ok(cmd, args->count)) {
        buf_reset(&rc->conn.gw->scratch);
        may = redis_may(rc, cmd, args, &rc->conn.gw->scratch, &wait);
    }
    if (wait) {
        access_wait(&rc->conn);
        return false;
    }
    bool queued = rc->multi.active && cmd && !acts_in_multi(cmd);
    if (cmd && may && !queued && !(cmd->flags & CMD_CONNECTION) &&
        !conn_may_submit(&rc->conn, order_of(rc, cmd, args))) {
        conn_wait(&rc->conn);
        return false;
    }
    bool skip = rc->reply_skip;
    rc->silent = rc->reply_off || skip;
    rc->reply_skip = false;
    bool done = true;
    const char *before = rc->client.last_command;
    CLIENT_SET(&rc->client, last_command, cmd ? cmd->name : "NULL");
    struct buf *out = &rc->conn.gw->scratch;
    if (may)
        buf_reset(out);
    if (!cmd) {
        if (looks_like_http(rc, args))
            return true;
        refuse_in_multi(rc);
        command_reply_unknown(out, args);
        redis_answer(rc, buf_slice(out));
    } else if (!command_arity_ok(cmd, args->count)) {
        refuse_arity(rc, cmd, out);
    } else if (!may) {
        refuse_in_multi(rc);
        redis_answer(rc, buf_slice(out));
    } else {
        done = dispatch(rc, cmd, args);
    }
    if (!done) {
        rc->reply_skip = skip;
        CLIENT_SET(&rc->client, last_command, before);
        return false;
    }
    METRIC_ADD(&rc->conn.gw->metrics, redis_commands_total, 1);
    redis_client_update(rc);
    return true;
}

static void protocol_error(struct redis_conn *rc) {
    METRIC_ADD(&rc->conn.gw->metrics, redis_malformed_total, 1);
    rc->silent = false;
    redis_answer_error(rc, "%s", rc->parser.error);
    conn_finish(&rc->conn);
}

static size_t redis_parse(struct conn *c, struct slice in) {
    struct redis_conn *rc = CONTAINER_OF(c, struct redis_conn, conn);
    size_t total = 0;
    while (total < in.size && conn_may_parse(c)) {
        size_t used = 0;
        rc->parser.stranger = redis_is_stranger(rc); /* AUTH may have come */
        switch (resp_parse(&rc->parser, slice_of(in.data + total, in.size - total), &used)) {
        case RESP_MORE:
            return total;
        case RESP_EMPTY:
            total += used;
            break;
        case RESP_ERROR:
            protocol_error(rc);
            return in.size;
        case RESP_COMMAND:
            if (!execute(rc, &rc->parser.args))
                return total;
            total += used;
            break;
        }
    }
    return total;
}

/* ---- the connection ----------------------------------------------------------------------------
 */

static void redis_check_time(struct conn *c, uint64_t now_ms) {
    uint32_t limit_ms = c->gw->options.redis_idle_timeout_ms;
    if (limit_ms > 0 && c->line_count == 0 && now_ms - c->active_ms >= limit_ms) {
        METRIC_ADD(&c->gw->metrics, connections_timed_out_total, 1);
        conn_finish(c);
    }
}

static void redis_overload(struct conn *c) {
    struct redis_conn *rc = CONTAINER_OF(c, struct redis_conn, conn);
    rc->silent = false;
    redis_answer_error(rc, "BUSY the server holds too many unfinished requests; applied: no");
    conn_finish(c);
}

static size_t redis_held_bytes(const struct conn *c) {
    const struct redis_conn *rc = CONTAINER_OF(c, struct redis_conn, conn);
    return rc->multi.queue.capacity + rc->multi.watches.capacity;
}

static void redis_free(struct conn *c) {
    struct redis_conn *rc = CONTAINER_OF(c, struct redis_conn, conn);
    METRIC_ADD(&c->gw->metrics, connections_redis, -1);
    client_unregister(c->gw->shared, &rc->client);
    resp_parser_fini(&rc->parser);
    buf_fini(&rc->multi.queue);
    buf_fini(&rc->multi.watches);
    free(rc);
}

/* It has a name, a database, perhaps a transaction: it stays. */
static bool redis_rest(struct conn *c) {
    resp_parser_trim(&CONTAINER_OF(c, struct redis_conn, conn)->parser);
    return false;
}

static bool redis_is_idle(const struct conn *c) {
    (void)c;
    return true;
}

static const struct conn_ops redis_conn_ops = {
    .protocol = "redis",
    .parse = redis_parse,
    .check_time = redis_check_time,
    .overload = redis_overload,
    .held_bytes = redis_held_bytes,
    .free = redis_free,
    .rest = redis_rest,
    .is_idle = redis_is_idle,
};

void redis_conn_new(struct gateway *gw, struct stream *s) {
    struct redis_conn *rc = xcalloc(1, sizeof *rc);
    /* Room for the command's name and options beside the largest value. */
    struct resp_limits limits = {
        .args_max = ARGV_COUNT_MAX,
        .bulk_bytes_max = gw->options.value_bytes_max,
        .command_bytes_max = (uint64_t)gw->options.value_bytes_max + STORE_KEY_BYTES_MAX + 4096,
    };
    resp_parser_init(&rc->parser, &limits);
    rc->version = 2;
    rc->client.resp = 2;
    rc->client.queued = -1;
    rc->client.connected_ms = rc->client.last_ms = gateway_wall_ms(gw);
    rc->client.last_command = "NULL";
    snprintf(rc->client.peer, sizeof rc->client.peer, "%s", stream_peer(s));
    conn_init(&rc->conn, gw, &redis_conn_ops, s);
    client_register(gw->shared, &rc->client);
    METRIC_ADD(&gw->metrics, connections_redis, 1);
}
