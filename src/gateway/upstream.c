#include <stdlib.h>

#include "base/reply.h"
#include "gateway/upstream_internal.h"

/* ---- time limits ---- */

static void time_add(struct upstream *up, struct upstream_request *req, uint64_t now) {
    uint64_t timeout = req->timeout_ms ? req->timeout_ms : up->timeout_ms;
    req->deadline_ms = now + timeout;
    if (up->timed_count++ == 0)
        up->wheel_at = now / UPSTREAM_WHEEL_STEP_MS;
    uint64_t step = req->deadline_ms / UPSTREAM_WHEEL_STEP_MS;
    list_push_back(&up->wheel[step % UPSTREAM_WHEEL_SLOTS], &req->time_node);
}

static void time_remove(struct upstream_request *req) {
    if (list_empty(&req->time_node))
        return;
    list_remove(&req->time_node);
    req->up->timed_count--;
}

static void give_up(struct upstream_request *req, const char *why) {
    bool doubt = request_in_doubt(req);
    req->timed_out = true;
    if (request_is_read(req)) {
        doubt = doubt && req->kind == UPSTREAM_ADMIN;
        reads_detach(req);
    } else {
        (void)writes_orphan(req);
    }
    request_fail(req, doubt ? UPSTREAM_UNKNOWN : UPSTREAM_NOT_APPLIED, why);
}

static void times_tick(struct upstream *up, uint64_t now) {
    uint64_t step = now / UPSTREAM_WHEEL_STEP_MS;
    if (up->timed_count == 0 || step < up->wheel_at)
        return;
    if (step - up->wheel_at > UPSTREAM_WHEEL_SLOTS)
        up->wheel_at = step - UPSTREAM_WHEEL_SLOTS;
    for (; up->wheel_at < step; up->wheel_at++) {
        LIST_FOREACH_SAFE (it, &up->wheel[up->wheel_at % UPSTREAM_WHEEL_SLOTS]) {
            struct upstream_request *req = LIST_ENTRY(it, struct upstream_request, time_node);
            if (req->deadline_ms <= now)
                give_up(req, !request_is_read(req) ? "UNAVAILABLE no leader answered in time"
                             : req->read_index     ? "UNAVAILABLE this node did not get to the "
                                                     "revision that was asked for in time"
                                                   : "UNAVAILABLE no node answered in time");
        }
    }
}

/* ---- requests ---- */

/* Off all lists and out of the counts; the bytes are freed. */
static void release(struct upstream_request *req) {
    list_remove(&req->node);
    time_remove(req);
    if (req->counted) {
        req->up->pending_requests--;
        req->up->pending_bytes -= req->packed_argv.size;
        req->counted = false;
    }
    upstream_request_drop_argv(req);
}

void request_finish(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    release(req);
    if (req->orphan)
        free(req);
    else
        req->done(req, outcome, index, reply);
}

void request_fail(struct upstream_request *req, enum upstream_outcome outcome, const char *why) {
    CHECK(!req->failed);
    CHECK(!req->orphan);
    struct upstream *up = req->up;
    release(req);
    req->failed = true;
    req->outcome = outcome;
    req->why = why;
    list_push_back(&up->failed, &req->node);
}

/* What fails from now on, because a callback submits again, is for the next call. */
void upstream_deliver(struct upstream *up) {
    if (list_empty(&up->failed))
        return;
    struct list failed;
    struct list *first;
    struct buf reply = {0};
    list_init(&failed);
    list_splice(&failed, &up->failed);
    while ((first = list_first(&failed))) {
        struct upstream_request *req = LIST_ENTRY(first, struct upstream_request, node);
        list_remove(&req->node);
        buf_reset(&reply);
        reply_error(&reply, "%s; applied: %s", req->why,
                    req->outcome == UPSTREAM_UNKNOWN ? "unknown" : "no");
        req->done(req, req->outcome, 0, buf_slice(&reply));
    }
    buf_fini(&reply);
}

void upstream_submit(struct upstream *up, struct upstream_request *req) {
    CHECK(!req->packed_kept || request_is_read(req));
    req->up = up;
    req->id = 0;
    req->link = NULL;
    req->read_index = req->read_ms = 0;
    req->age_ms = LINK_AGE_UNKNOWN;
    req->timed_out = req->late;
    req->ever_sent = req->orphan = req->doubt = req->failed = req->counted = false;
    list_init(&req->node);
    list_init(&req->time_node);
    const char *refusal = NULL;
    if (up->freeing)
        refusal = "UNAVAILABLE the server is stopping";
    else if (req->late)
        refusal = "UNAVAILABLE it waited for one that was not answered in time";
    else if (req->packed_argv.size > UPSTREAM_ARGV_BYTES_MAX)
        refusal = "ERR the request is too large";
    else if (up->pending_requests >= up->requests_max ||
             up->pending_bytes + req->packed_argv.size > up->bytes_max)
        refusal = "BUSY too many requests wait for the database";
    if (refusal) {
        request_fail(req, UPSTREAM_NOT_APPLIED, refusal);
        return;
    }
    req->counted = true;
    up->pending_requests++;
    up->pending_bytes += req->packed_argv.size;
    time_add(up, req, upstream_now(up));
    if (request_is_read(req))
        reads_submit(up, req);
    else
        writes_submit(up, req);
}

void upstream_forget(struct upstream *up, struct upstream_request *req) {
    CHECK(req->up == up);
    if (!req->failed) {
        if (request_is_read(req))
            reads_detach(req);
        else
            (void)writes_orphan(req);
    }
    release(req);
}

/* ---- turns ---- */

void hold_start(struct upstream *up, struct hold *h, uint64_t now) {
    uint32_t ms = h->last_ms ? h->last_ms * 2 : UPSTREAM_HOLD_MIN_MS;
    h->last_ms = ms < UPSTREAM_HOLD_MAX_MS ? ms : UPSTREAM_HOLD_MAX_MS;
    h->until_ms = now + h->last_ms + rand_below(&up->rand, h->last_ms);
}

/* Writes what one link has room for. A request larger than the window must stand alone: while the
 * next of one kind waits for that, the other kind adds nothing. */
static void flush_link(struct upstream *up, struct upstream_link *link,
                       struct upstream_link *const reads_links[QUEUE_COUNT]) {
    bool busy = link->reads.requests + link->writes.requests > 0;
    bool takes_writes = link == up->write_link;
    bool big_write = takes_writes && writes_next_bytes(up) > link->window_bytes;
    bool big_read = reads_next_bytes(up, link, reads_links) > link->window_bytes;
    bool hold_reads = busy && big_write;
    bool hold_writes = busy && big_read && !hold_reads;
    if (!busy)
        link->heard_ms = upstream_now(up); /* from now on it may owe something */
    buf_reset(&up->out);
    for (int turn = 0; turn < 2; turn++) {
        bool reads = up->reads_first == (turn == 0);
        if (reads && !hold_reads)
            reads_fill(up, link, reads_links);
        if (!reads && !hold_writes && takes_writes)
            writes_fill(up, link);
    }
    if (up->out.size)
        up->ops->send(up->env, link->handle, buf_slice(&up->out));
    if (up->out.capacity > 4 * UPSTREAM_BATCH_BYTES)
        buf_fini(&up->out);
}

void upstream_flush(struct upstream *up) {
    links_sweep(up);
    uint64_t now = upstream_now(up);
    struct upstream_link *reads_links[QUEUE_COUNT];
    up->wake_ms = UINT64_MAX;
    writes_choose_link(up, now);
    reads_choose_links(up, now, reads_links);
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->phase == PHASE_READY)
            flush_link(up, link, reads_links);
    }
    up->reads_first = !up->reads_first;
}

void upstream_tick(struct upstream *up) {
    uint64_t now = upstream_now(up);
    times_tick(up, now);
    links_tick(up, now);
    direct_run(up);
    upstream_deliver(up);
}

uint64_t upstream_deadline_ms(const struct upstream *up) {
    if (!list_empty(&up->failed) || !list_empty(&up->direct.ready))
        return 0;
    uint64_t at = links_deadline(up);
    if (up->wake_ms < at)
        at = up->wake_ms;
    uint64_t limit = (up->wheel_at + 1) * UPSTREAM_WHEEL_STEP_MS;
    return up->timed_count && limit < at ? limit : at;
}

/* ---- beginning and end ---- */

struct upstream *upstream_new(const struct upstream_options *options,
                              const struct upstream_env_ops *ops, void *env) {
    struct upstream *up = xcalloc(1, sizeof *up);
    up->ops = ops;
    up->env = env;
    up->timeout_ms = options->timeout_ms ? options->timeout_ms : UPSTREAM_TIMEOUT_MS;
    up->requests_max =
        options->pending_requests_max ? options->pending_requests_max : UPSTREAM_REQUESTS_MAX;
    up->bytes_max = options->pending_bytes_max ? options->pending_bytes_max : UPSTREAM_BYTES_MAX;
    ops->random(env, &up->rand, sizeof up->rand);
    list_init(&up->links);
    up->round_robin = &up->links;
    list_init(&up->failed);
    for (size_t i = 0; i < UPSTREAM_WHEEL_SLOTS; i++)
        list_init(&up->wheel[i]);
    writes_init(up);
    reads_init(up);
    direct_init(up, options->gate);
    for (size_t i = 0; i < options->seed_count; i++)
        (void)link_new(up, slice_str(options->seeds[i]), true);
    return up;
}

void upstream_free(struct upstream *up) {
    up->freeing = true;
    for (size_t i = 0; i < UPSTREAM_WHEEL_SLOTS; i++)
        LIST_FOREACH_SAFE (it, &up->wheel[i]) {
            give_up(LIST_ENTRY(it, struct upstream_request, time_node),
                    "UNAVAILABLE the server is stopping");
        }
    while (!list_empty(&up->failed))
        upstream_deliver(up);
    struct list *first;
    while ((first = list_first(&up->links)))
        link_free(LIST_ENTRY(first, struct upstream_link, node));
    writes_fini(up);
    reads_fini(up);
    direct_fini(up);
    free(up->members);
    buf_fini(&up->members_bytes);
    buf_fini(&up->out);
    free(up);
}

void upstream_get_status(const struct upstream *up, struct upstream_status *ret) {
    *ret = (struct upstream_status){
        .term = up->leader_term,
        .leader_id = up->leader_id,
        .pending_requests = up->pending_requests,
        .retried_total = up->retried_total,
        .direct_total = up->direct.total,
        .protocol_errors_total = up->protocol_errors_total,
    };
    if (up->direct.gate) {
        struct store_freshness fresh = store_gate_freshness(up->direct.gate);
        uint64_t now_ms, wall_ms;
        up->ops->node_clocks(up->env, &now_ms, &wall_ms);
        ret->has_copy = true;
        ret->copy_age_ms = direct_age_ms(&fresh, now_ms);
    }
    LIST_FOREACH (it, (struct list *)&up->links) {
        const struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->phase != PHASE_READY)
            continue;
        ret->links_up++;
        ret->ready |= up->leader_id && link->node_id == up->leader_id;
    }
}

const struct link_member *upstream_members(const struct upstream *up, size_t *ret_count) {
    *ret_count = up->member_count;
    return up->members;
}

uint64_t upstream_sites_revision(const struct upstream *up) {
    return up->sites_revision;
}

bool upstream_cluster_id(const struct upstream *up, uint8_t ret_id[16]) {
    if (up->cluster_known)
        memcpy(ret_id, up->cluster_id, sizeof up->cluster_id);
    return up->cluster_known;
}
