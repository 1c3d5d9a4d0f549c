#include "replica/node_internal.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t node_now(const struct node *n) {
    return n->ops->now_ms(n->env);
}

bool node_running(const struct node *n) {
    return n->state == NODE_RUNNING || (n->state == NODE_STOPPING && n->core != NULL);
}

void node_fatal(struct node *n, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n->state == NODE_FAILED)
        return;
    n->state = NODE_FAILED;
    log_error("node-failed", "node=%llu reason=%s", (unsigned long long)n->o.id,
              log_quote(slice_str(text)));
    n->ops->fatal(n->env, text);
}

/* The time that goes into entries and read rounds: the wall clock, but never behind anything that
 * this node has stamped or applied. */
uint64_t node_leader_time(struct node *n) {
    uint64_t t = n->ops->wall_ms(n->env);
    uint64_t applied = store_time_ms(n->store);
    if (t < applied)
        t = applied;
    if (t < n->time_stamped_ms)
        t = n->time_stamped_ms;
    n->time_stamped_ms = t;
    return t;
}

int node_new(const struct node_options *options, const struct replica_env_ops *ops, void *env,
             struct disk *disk, struct node **ret_node, char ret_error[256]) {
    struct node *n = xcalloc(1, sizeof *n);
    n->o = *options;
    n->ops = ops;
    n->env = env;
    n->disk = disk;
    n->o.dir = n->dir = xstrdup(options->dir);
    n->o.peer_address = n->peer_address = xstrdup(options->peer_address);
    n->o.http_address = n->http_address = xstrdup(options->http_address);
    n->o.redis_address = n->redis_address = xstrdup(options->redis_address);
    n->o.boot_id = n->boot_id = xstrdup(options->boot_id);
    if (n->o.election_timeout_ms == 0)
        n->o.election_timeout_ms = 300;
    if (n->o.heartbeat_ms == 0)
        n->o.heartbeat_ms = 30;
    if (n->o.voters_max == 0)
        n->o.voters_max = 5;
    if (n->o.pair_grace_ms == 0)
        n->o.pair_grace_ms = 2000;
    if (n->o.snapshot_log_bytes == 0)
        n->o.snapshot_log_bytes = 64u << 20;
    if (n->o.log_trailing_bytes == 0)
        n->o.log_trailing_bytes = 16u << 20;
    if (n->o.entries_inflight == 0)
        n->o.entries_inflight = NODE_ENTRIES_INFLIGHT;
    if (n->o.append_bytes == 0)
        n->o.append_bytes = NODE_APPEND_BYTES;
    if (n->o.log_laggard_bytes == 0)
        n->o.log_laggard_bytes = NODE_LAGGARD_FACTOR * n->o.snapshot_log_bytes;
    if (n->o.snapshot_piece_bytes == 0)
        n->o.snapshot_piece_bytes = WIRE_PIECE_BYTES;
    if (n->o.snapshot_rate_bytes > 0 && n->o.snapshot_rate_bytes < NODE_SNAPSHOT_RATE_MIN)
        n->o.snapshot_rate_bytes = NODE_SNAPSHOT_RATE_MIN;
    if (n->o.fresh_every_ms == 0)
        n->o.fresh_every_ms = 500;
    ops->random(env, &n->rand.state, sizeof n->rand.state);
    memlog_init(&n->memlog);
    list_init(&n->writes);
    list_init(&n->sealed);
    list_init(&n->reads_waiting);
    list_init(&n->reads_round);
    list_init(&n->reads_applying);
    list_init(&n->peers);
    list_init(&n->joins);
    list_init(&n->fetches);
    for (size_t i = 0; i < ARRAY_COUNT(n->served); i++)
        n->served[i].fd = -1;
    list_init(&n->links);
    ops->random(env, &n->round,
                sizeof n->round); /* answers to an earlier life's rounds must not match */
    /* Nor may an earlier life's NODE.ALLOC, applied again after a restart, be taken for one of
     * ours. */
    ops->random(env, &n->tag_next, sizeof n->tag_next);
    n->tag_next |= 1ull << 63;
    n->members_version = 1;
    n->scrub_at_ms = node_now(n) + n->o.scrub_every_ms;
    int rc = node_load_state(n, ret_error);
    if (rc < 0) {
        node_abandon(n);
        return rc;
    }
    n->state = NODE_DRAINING;
    node_gate_open(n);
    node_settle(n);
    *ret_node = n;
    return 0;
}

static void node_release(struct node *n) {
    LIST_FOREACH_SAFE (it, &n->links) {
        struct node_link *l = LIST_ENTRY(it, struct node_link, node);
        void *handle = l->handle;
        node_link_closed(l);
        n->ops->link_close(n->env, handle);
    }
    node_read_fail_all(n);
    node_joins_fail(n, NULL);
    node_install_fini(n);
    node_retire_fini(n);
    node_integrity_fini(n);
    node_fetch_fini(n);
    node_backup_drop(n);
    core_free(n->core);
    node_free_writes(n);
    LIST_FOREACH_SAFE (it, &n->sealed) {
        struct sealed_batch *b = LIST_ENTRY(it, struct sealed_batch, node);
        buf_fini(&b->entry);
        free(b);
    }
    LIST_FOREACH_SAFE (it, &n->peers) {
        free(LIST_ENTRY(it, struct peer, node));
    }
    memlog_fini(&n->memlog);
    if (n->view)
        store_view_free(n->view);
    buf_fini(&n->batch);
    buf_fini(&n->reply_scratch);
    buf_fini(&n->frame);
    argv_fini(&n->argv);
    free(n->wire_entries);
    free(n->dir);
    free(n->peer_address);
    free(n->http_address);
    free(n->redis_address);
    free(n->boot_id);
}

int node_free(struct node *n) {
    CHECK(node_idle(n));
    struct store *s = n->store;
    struct replica_log *log = n->log;
    node_gate_close(n);
    n->store = NULL;
    n->log = NULL;
    node_release(n);
    int rc = s ? store_close(s) : 0;
    if (log)
        log_close(log);
    free(n);
    return rc;
}

void node_abandon(struct node *n) {
    struct store *s = n->store;
    struct replica_log *log = n->log;
    node_gate_close(n);
    if (log)
        log_abandon(log); /* appends under way must still be in place */
    node_release(n);
    if (s)
        store_abandon(s);
    free(n);
}

bool node_idle(const struct node *n) {
    return list_empty(&n->writes) && !n->taking && !node_backup_copying(n) && !n->compacting &&
           !n->fetch_job && node_install_idle(n) && node_integrity_idle(n);
}

/* ---- time ---- */

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t node_deadline_ms(const struct node *n) {
    if (n->state == NODE_FAILED)
        return UINT64_MAX;
    if (n->more)
        return node_now(n);
    uint64_t at = earlier(n->members_at_ms, n->status_at_ms);
    if (n->state == NODE_STOPPING && n->core)
        at = node_is_leader(n) ? earlier(at, n->stop_deadline_ms) : node_now(n);
    if (node_running(n))
        at = earlier(at, core_deadline_ms(n->core));
    if (n->leading)
        at = earlier(at, n->sweep_at_ms);
    if (n->leading && n->gather.target > 0 && n->batch_groups > 0)
        at = earlier(at, n->gather.until_ms);
    if (n->round_active)
        at = earlier(at, n->round_sent_ms + NODE_READ_AGAIN_MS);
    if (n->install)
        at = earlier(at, node_install_deadline(n));
    at = earlier(at, node_fetch_deadline(n));
    return at;
}

static void node_sweep(struct node *n, uint64_t now) {
    if (!n->leading || now < n->sweep_at_ms)
        return;
    n->sweep_at_ms = now + NODE_SWEEP_EVERY_MS;
    if (n->commit_index < n->barrier_index || n->handover_to != 0)
        return;
    struct buf argv = {0};
    if (store_housekeeping(n->store, node_leader_time(n), &argv))
        node_propose_own(n, 0, buf_slice(&argv));
    buf_fini(&argv);
}

static void node_stop_tick(struct node *n, uint64_t now) {
    if (n->state != NODE_STOPPING || !n->stop_done)
        return;
    if (node_is_leader(n) && now < n->stop_deadline_ms) {
        /* Leadership is handed over first, or a second time when the one asked did not come. */
        if (n->handover_to != 0 || node_transfer(n, 0) != NODE_TRANSFER_NO_TARGET)
            return;
    }
    core_free(n->core);
    n->core = NULL;
    n->leading = false;
    node_leadership_lost(n);
    node_flush_links(n);
    node_install_drop(n);
    node_scrub_cancel(n);
    if (!node_idle(n))
        return; /* a copy of the store must not outlive it */
    void (*done)(void *) = n->stop_done;
    n->stop_done = NULL;
    done(n->stop_ctx);
}

/* A full disk under the log ends the process. Before it comes to that the leader stops taking what
 * makes data grow: reads and deletions go on, and somebody can make room. */
void node_look_at_disk(struct node *n) {
    n->unlooked_bytes = 0;
    if (!n->ops->free_bytes || n->o.min_free_bytes == 0)
        return;
    uint64_t left = n->ops->free_bytes(n->env), limit = n->o.min_free_bytes;
    bool low = left < (n->disk_low ? limit + limit / 8 : limit);
    if (low != n->disk_low) {
        n->disk_low = low;
        if (low)
            log_error("disk-low", "node=%llu free=%llu reason=\"writes that add data are refused\"",
                      (unsigned long long)n->o.id, (unsigned long long)left);
        else
            log_info("disk-low-over", "node=%llu free=%llu", (unsigned long long)n->o.id,
                     (unsigned long long)left);
    }
}

bool node_has_room(const struct node *n, uint64_t bytes) {
    return !n->ops->free_bytes || n->ops->free_bytes(n->env) >= bytes + n->o.min_free_bytes;
}

/* Who joined and was removed before the others reached it cannot be told: they do not know it. */
static void say_when_alone(struct node *n, uint64_t now) {
    if (n->alone_told || n->memlog.last_index > 0 || n->snapshot.index > 0 ||
        now < n->append_heard_ms + NODE_ALONE_MS)
        return;
    n->alone_told = true;
    log_warn(
        "nobody-came", "node=%llu text=%s", (unsigned long long)n->o.id,
        log_quote(slice_str("no node of the cluster has spoken to this one since it started. Can "
                            "they reach its --peer (--advertise) address? If it is not in "
                            "cotidal member list any more: stop it, empty its --data, and "
                            "start it again with --join")));
}

void node_tick(struct node *n) {
    uint64_t now = node_now(n);
    if (node_running(n) && core_deadline_ms(n->core) <= now) {
        struct core_update u;
        int rc = core_timeout(n->core, now, &u);
        node_carry_out(n, rc, &u);
    }
    if (n->state == NODE_FAILED)
        return;
    if (n->members_at_ms <= now) {
        n->members_at_ms = now + NODE_MEMBERS_EVERY_MS;
        node_member_tick(n);
        node_snapshot_tick(n);
        node_backup_tick(n);
    }
    if (n->status_at_ms <= now) {
        n->status_at_ms = now + NODE_STATUS_EVERY_MS;
        node_look_at_disk(n);
        say_when_alone(n, now);
        node_send_status(n);
        node_gauges_update(n);
    }
    if (n->install)
        node_install_tick(n);
    node_fetch_tick(n);
    if (n->state != NODE_FAILED)
        node_integrity_tick(n);
    node_sweep(n, now);
    node_settle(n);
    node_handover_turn(n);
    node_stop_tick(n, now);
}

void node_turn_end(struct node *n) {
    if (n->state == NODE_FAILED)
        return;
    node_propose_batches(n);
    node_settle(n);
    n->more = false;
    node_apply(n, false);
    node_handover_turn(n);
    node_settle(n);
    node_read_turn(n);
    node_tell_topology(n, NULL);
    node_tell_sites(n);
    node_flush_links(n);
    if (n->ops->peer_flush)
        n->ops->peer_flush(n->env);
}

void node_stop(struct node *n, void (*done)(void *ctx), void *ctx) {
    CHECK(n->state != NODE_STOPPING);
    uint64_t now = node_now(n);
    n->stop_done = done;
    n->stop_ctx = ctx;
    n->stop_deadline_ms = now + NODE_STOP_HANDOVER_MS;
    if (n->state != NODE_FAILED)
        n->state = NODE_STOPPING;
    node_member_tick(n);
    if (node_is_leader(n))
        node_transfer(n, 0); /* node_stop_tick() looks what came of it */
}

/* ---- looking in ---- */

const struct node_counters *node_counters(const struct node *n) {
    return &n->counters;
}

uint64_t node_id(const struct node *n) {
    return n->o.id;
}

uint64_t node_term(const struct node *n) {
    return n->core ? core_term(n->core) : n->vote.term;
}

uint64_t node_leader_id(const struct node *n) {
    return node_running(n) ? core_leader_id(n->core) : 0;
}

bool node_is_leader(const struct node *n) {
    return n->leading && node_running(n);
}

bool node_handing_over(const struct node *n) {
    return n->handover_to != 0;
}

int node_health(const struct node *n) {
    return (int)n->health;
}

uint64_t node_applied_index(const struct node *n) {
    return n->store ? store_applied_index(n->store) : 0;
}

struct store *node_store(struct node *n) {
    return n->store;
}

const struct memlog *node_memlog(const struct node *n) {
    return &n->memlog;
}

uint64_t node_commit_index(const struct node *n) {
    return n->commit_index;
}

void node_membership(const struct node *n, struct membership *ret) {
    *ret = (struct membership){0};
    if (node_running(n))
        core_membership(n->core, ret);
}

uint64_t node_membership_index(const struct node *n) {
    return node_running(n) && core_membership_uncommitted_index(n->core) == 0 ? n->change_index : 0;
}

bool node_has_durable(const struct node *n, uint64_t index, uint64_t term) {
    if (index <= n->snapshot.index)
        return true;
    if (memlog_term(&n->memlog, index) != term || (n->hold_index != 0 && index >= n->hold_index))
        return false;
    for (const struct list *it = n->writes.next; it != &n->writes; it = it->next) {
        const struct pending_write *w = LIST_ENTRY(it, const struct pending_write, node);
        if (index >= w->index && index <= w->last)
            return false;
    }
    return true;
}
