/* MULTI EXEC DISCARD WATCH UNWATCH.
 *
 * Queued commands wait here. EXEC sends the store's commands among them as one TX.EXEC with the
 * revisions that WATCH has read, so that the test of the watched keys and all commands are one
 * position of the log. Commands that are answered here (PING, SELECT, CLIENT ...) run when its
 * answer comes, each at its place; until then nothing behind EXEC is parsed, since they may change
 * how that is to be understood.
 *
 * WATCH is a barrier too: what a client reads after it must not be older than the revision it
 * watches, or a change between the two would go unnoticed.
 */
#include <stdlib.h>

#include "base/reader.h"
#include "base/reply.h"
#include "gateway/pack.h"
#include "gateway/redis_conn.h"
#include "store/store.h"

void redis_multi_reset(struct redis_conn *rc, bool unwatch_too) {
    struct redis_multi *m = &rc->multi;
    m->active = m->aborted = false;
    m->queued_count = m->local_count = 0;
    buf_fini(&m->queue);
    if (unwatch_too) {
        m->watch_lost = false;
        m->watch_count = 0;
        buf_fini(&m->watches);
    }
}

bool redis_multi_begin(struct redis_conn *rc, const struct argv *args) {
    (void)args;
    if (rc->multi.active) {
        redis_answer_error(rc, "ERR MULTI calls can not be nested");
        return true;
    }
    rc->multi.active = true;
    redis_answer_simple(rc, "OK");
    return true;
}

bool redis_multi_discard(struct redis_conn *rc, const struct argv *args) {
    (void)args;
    if (!rc->multi.active) {
        redis_answer_error(rc, "ERR DISCARD without MULTI");
        return true;
    }
    redis_multi_reset(rc, true);
    redis_answer_simple(rc, "OK");
    return true;
}

void redis_multi_queue(struct redis_conn *rc, const struct command *cmd, const struct argv *args) {
    struct redis_multi *m = &rc->multi;
    const struct gateway_options *o = &rc->conn.gw->options;
    if (cmd->flags & CMD_NO_MULTI) {
        m->aborted = true;
        redis_answer_error(rc, "ERR Command not allowed inside a transaction");
        return;
    }
    size_t at = m->queue.size;
    buf_append_u32(&m->queue, 0);
    argv_append(&m->queue, args->args, args->count);
    buf_patch_u32(&m->queue, at, (uint32_t)(m->queue.size - at - 4));
    if (m->queue.size > o->txn_bytes_max || m->queued_count >= COMMAND_TXN_COMMANDS_MAX) {
        m->queue.size = at;
        m->aborted = true;
        redis_answer_error(rc, "ERR transaction too large: at most %u bytes and %d commands",
                           o->txn_bytes_max, (int)COMMAND_TXN_COMMANDS_MAX);
        return;
    }
    m->queued_count++;
    if (cmd->flags & CMD_CONNECTION)
        m->local_count++;
    redis_answer_simple(rc, "QUEUED");
}

/* ---- WATCH -------------------------------------------------------------------------------------
 */

struct watch_request {
    struct redis_request base;
    struct buf keys; /* lstr each */
    uint16_t db;
};

/* The answer is [revision or 0 ...], one for each key. */
static bool watch_store(struct watch_request *w, struct slice reply) {
    struct redis_multi *m = &w->base.rc->multi;
    struct reader keys = reader_of(buf_slice(&w->keys));
    struct reply_item item;
    if (!reply_next(&reply, &item) || item.type != '*')
        return false;
    for (int64_t left = item.integer; left > 0; left--) {
        struct reply_item revision;
        struct slice key = reader_lstr(&keys);
        if (!reader_ok(&keys) || !reply_next(&reply, &revision) || revision.type != ':')
            return false;
        buf_append_lstr(&m->watches, key);
        buf_append_u16(&m->watches, w->db);
        buf_append_u64(&m->watches, (uint64_t)revision.integer);
        m->watch_count++;
    }
    return reader_done(&keys);
}

static void watch_answer(struct conn_request *base, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct watch_request *w = CONTAINER_OF(base, struct watch_request, base.base);
    (void)index;
    if (outcome == UPSTREAM_DONE && !reply_is_error(reply) && watch_store(w, reply)) {
        redis_request_reply(&w->base, slice_str("+OK\r\n"));
        return;
    }
    w->base.rc->multi.watch_lost = true;
    if (!reply_is_error(reply))
        reply = redis_malformed_reply(&w->base);
    redis_request_reply(&w->base, reply);
}

static void watch_free(struct conn_request *base) {
    struct watch_request *w = CONTAINER_OF(base, struct watch_request, base.base);
    buf_fini(&w->keys);
    free(w);
}

static const struct conn_request_ops watch_ops = {.answer = watch_answer, .free = watch_free};

bool redis_watch(struct redis_conn *rc, const struct argv *args) {
    if (rc->multi.active) {
        redis_answer_error(rc, "ERR WATCH inside MULTI is not allowed");
        return true;
    }
    if (!conn_may_submit(&rc->conn, CONN_ORDER_READ)) {
        conn_wait(&rc->conn);
        return false;
    }
    if (rc->multi.watches.size > rc->conn.gw->options.txn_bytes_max) {
        redis_answer_error(rc, "ERR too many watched keys");
        return true;
    }
    struct watch_request *w =
        CONTAINER_OF(redis_request_new(rc, sizeof *w, &watch_ops), struct watch_request, base);
    struct pack p = pack_begin("KV.REV");
    w->db = rc->db;
    for (size_t i = 1; i < args->count; i++) {
        pack_slice(&p, args->args[i]);
        buf_append_lstr(&w->keys, args->args[i]);
    }
    struct buf packed = pack_end(&p);
    conn_submit(&w->base.base, UPSTREAM_READ, rc->db, &packed);
    conn_hold(&rc->conn);
    return true;
}

void redis_unwatch(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    (void)args;
    /* Inside EXEC there is nothing left to unwatch, and what follows EXEC has its own watches. */
    rc->multi.watch_lost = false;
    rc->multi.watch_count = 0;
    buf_fini(&rc->multi.watches);
    reply_simple(out, "OK");
}

/* ---- EXEC --------------------------------------------------------------------------------------
 */

struct exec_request {
    struct redis_request base;
    struct buf queue; /* taken from the connection */
    uint32_t queued_count;
    uint32_t local_count;
};

static bool is_local(const struct argv *args) {
    const struct command *cmd = command_find(args->args[0]);
    CHECK(cmd);
    return (cmd->flags & CMD_CONNECTION) != 0;
}

static void run_local(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    const struct command *cmd = command_find(args->args[0]);
    redis_local_fn fn = redis_find_local(cmd);
    if (!fn && strcmp(cmd->name, "INFO") == 0)
        fn = redis_info_local;
    CHECK(fn);
    fn(rc, args, out);
}

/* Puts the replies of the store's commands and those made here together, in the order queued.
 * `replies` begins behind the array's header. False when there are too few. */
static bool exec_merge(struct exec_request *e, struct slice replies, struct buf *out) {
    struct redis_conn *rc = e->base.rc;
    struct reader queue = reader_of(buf_slice(&e->queue));
    struct argv args = {0};
    bool ok = true, silent = rc->silent;
    reply_array(out, e->queued_count);
    for (uint32_t i = 0; ok && i < e->queued_count; i++) {
        CHECK(argv_unpack(&args, reader_lstr(&queue)));
        if (is_local(&args)) {
            run_local(rc, &args, out);
        } else {
            struct slice rest = replies;
            ok = reply_skip(&replies);
            buf_append(out, rest.data, rest.size - replies.size);
        }
    }
    rc->silent = silent; /* CLIENT REPLY may have changed it for what follows only */
    argv_fini(&args);
    return ok;
}

static void exec_answer(struct conn_request *base, enum upstream_outcome outcome, uint64_t index,
                        struct slice reply) {
    struct exec_request *e = CONTAINER_OF(base, struct exec_request, base.base);
    struct reply_item item;
    struct slice rest = reply;
    (void)outcome;
    (void)index;
    if (e->local_count == 0 || !reply_next(&rest, &item) || item.type != '*') {
        redis_request_reply(&e->base, reply);
        return;
    }
    struct buf merged = {0};
    if (!exec_merge(e, rest, &merged)) {
        buf_reset(&merged);
        buf_append_slice(&merged, redis_malformed_reply(&e->base));
    }
    redis_client_update(e->base.rc);
    redis_request_reply(&e->base, buf_slice(&merged));
    buf_fini(&merged);
}

static void exec_free(struct conn_request *base) {
    struct exec_request *e = CONTAINER_OF(base, struct exec_request, base.base);
    buf_fini(&e->queue);
    free(e);
}

static const struct conn_request_ops exec_ops = {.answer = exec_answer, .free = exec_free};

/* The database that SELECT among the queued commands would lead to. */
static uint16_t follow_select(const struct argv *args, uint16_t db) {
    int64_t to;
    if (slice_equal_nocase(args->args[0], "SELECT") && num_parse_i64(args->args[1], &to) &&
        to >= 0 && to < STORE_DB_COUNT)
        return (uint16_t)to;
    return db;
}

static struct buf pack_exec(struct redis_conn *rc) {
    struct redis_multi *m = &rc->multi;
    struct pack p = pack_begin("TX.EXEC");
    pack_u64(&p, m->watch_count);
    pack_u64(&p, m->queued_count - m->local_count);
    struct reader watches = reader_of(buf_slice(&m->watches));
    for (uint32_t i = 0; i < m->watch_count; i++) {
        struct slice key = reader_lstr(&watches);
        pack_u64(&p, reader_u16(&watches));
        pack_slice(&p, key);
        pack_u64(&p, reader_u64(&watches));
    }
    CHECK(reader_done(&watches));
    struct reader queue = reader_of(buf_slice(&m->queue));
    struct argv args = {0};
    uint16_t db = rc->db;
    for (uint32_t i = 0; i < m->queued_count; i++) {
        CHECK(argv_unpack(&args, reader_lstr(&queue)));
        if (is_local(&args)) {
            db = follow_select(&args, db);
            continue;
        }
        pack_u64(&p, db);
        pack_u64(&p, args.count);
        for (size_t a = 0; a < args.count; a++)
            pack_slice(&p, args.args[a]);
    }
    CHECK(reader_done(&queue));
    argv_fini(&args);
    return pack_end(&p);
}

/* Nothing for the store: no need to go to the leader. */
static void exec_local(struct redis_conn *rc) {
    struct exec_request e = {
        .base.rc = rc, .queue = rc->multi.queue, .queued_count = rc->multi.queued_count};
    struct buf out = {0};
    rc->multi.queue = (struct buf){0};
    redis_multi_reset(rc, true);
    CHECK(exec_merge(&e, slice_of(NULL, 0), &out));
    redis_answer(rc, buf_slice(&out));
    buf_fini(&out);
    buf_fini(&e.queue);
}

bool redis_multi_exec(struct redis_conn *rc, const struct argv *args) {
    struct redis_multi *m = &rc->multi;
    (void)args;
    if (!m->active) {
        redis_answer_error(rc, "ERR EXEC without MULTI");
        return true;
    }
    if (m->aborted) {
        redis_multi_reset(rc, true);
        redis_answer_error(rc, "EXECABORT Transaction discarded because of previous errors.");
        return true;
    }
    if (m->watch_lost) {
        redis_multi_reset(rc, true);
        redis_answer(rc, slice_str("*-1\r\n"));
        return true;
    }
    if (m->queued_count == m->local_count && m->watch_count == 0) {
        exec_local(rc);
        return true;
    }
    if (!conn_may_submit(&rc->conn, CONN_ORDER_WRITE)) {
        conn_wait(&rc->conn);
        return false;
    }
    struct exec_request *e =
        CONTAINER_OF(redis_request_new(rc, sizeof *e, &exec_ops), struct exec_request, base);
    struct buf packed = pack_exec(rc);
    e->queue = m->queue;
    e->queued_count = m->queued_count;
    e->local_count = m->local_count;
    m->queue = (struct buf){0};
    redis_multi_reset(rc, true);
    rc->joined_reads = 0;
    conn_submit(&e->base.base, UPSTREAM_WRITE, rc->db, &packed);
    if (e->local_count > 0)
        conn_hold(&rc->conn);
    return true;
}
