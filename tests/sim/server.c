/* Servers: a node on its simulated disk. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/plant.h"
#include "sim.h"

/* ---- the environment ---- */

static uint64_t env_now_ms(void *env) {
    const struct server *s = env;
    return s->clock_ms + sim.now_us * s->clock_rate / 1024 / 1000;
}

static uint64_t env_wall_ms(void *env) {
    const struct server *s = env;
    return 1700000000000u + sim.now_us * s->clock_rate / 1024 / 1000 + s->wall_skew_ms +
           sim.leap_ms;
}

static void env_random(void *env, void *out, size_t size) {
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (uint8_t)rand_u64(&sim.rand);
}

static void env_peer_send(void *env, uint64_t id, const char *address, struct slice frame) {
    net_peer_send(env, id, address, frame);
}

static void env_link_send(void *env, void *handle, struct slice frames) {
    net_link_send(handle, frames);
}

static size_t env_link_pending_bytes(void *env, void *handle) {
    return 0;
}

static void env_link_close(void *env, void *handle) {
    net_link_close(handle);
}

static void job_run(void *arg, uint64_t incarnation) {
    struct server *s = arg;
    if (!s->node || s->incarnation != incarnation)
        return;
    struct list *first = list_first(&s->jobs);
    if (!first)
        return;
    list_remove(first);
    struct background_job *job = LIST_ENTRY(first, struct background_job, node);
    job->status = job->fn(job->arg);
    job->done(job->arg, job->status);
    server_after(s);
}

static void env_background(void *env, struct background_job *job) {
    struct server *s = env;
    list_push_back(&s->jobs, &job->node);
    sim_at(sim.now_us + 1000 + sim_rand(60000), job_run, s, s->incarnation);
}

static void env_fatal(void *env, const char *reason) {
    struct server *s = env;
    sim_trace("s%d fatal: %s", s->index, reason);
    s->failed = true;
    stats.io_errors++;
    if (!s->disk_faulty)
        sim_violation("s%d stopped: %s", s->index, reason);
}

static const struct replica_env_ops env_ops = {
    .now_ms = env_now_ms,
    .wall_ms = env_wall_ms,
    .random = env_random,
    .peer_send = env_peer_send,
    .link_send = env_link_send,
    .link_pending_bytes = env_link_pending_bytes,
    .link_close = env_link_close,
    .background = env_background,
    .fatal = env_fatal,
};

static void gate_fatal(void *ctx, int error) {
    sim_violation("s%d: a gateway cannot read its store: %s", ((struct server *)ctx)->index,
                  strerror(-error));
}

/* ---- driving ---- */

void server_init(struct server *s, int index) {
    *s = (struct server){.index = index};
    snprintf(s->address, sizeof s->address, "s%d:1", index);
    snprintf(s->dir, sizeof s->dir, "%s/s%d", sim.dir, index);
    snprintf(s->boot_id, sizeof s->boot_id, "boot-%d", index);
    s->disk = mem_disk_new(rand_u64(&sim.rand));
    s->wall_skew_ms = sim.o.skew ? sim_rand(5000) : 0;
    s->gate = store_gate_new(gate_fatal, s);
}

void server_clocks(struct server *s, uint64_t *ret_now_ms, uint64_t *ret_wall_ms) {
    *ret_now_ms = env_now_ms(s);
    *ret_wall_ms = env_wall_ms(s);
}

struct deferred {
    event_fn fn;
    void *arg;
    uint64_t number;
    bool owned;
};

bool server_busy(const struct server *s) {
    return s->paused_until_us >= sim.now_us && s->paused_until_us != 0;
}

void server_pause(struct server *s, uint64_t us) {
    stats.pauses++;
    uint64_t until = sim.now_us + us;
    if (until > s->paused_until_us) /* never shorter: what waits keeps its order */
        s->paused_until_us = until;
}

void server_drop_deferred(struct server *s) {
    for (size_t i = 0; i < s->deferred_count; i++)
        if (s->deferred[i].owned)
            free(s->deferred[i].arg);
    free(s->deferred);
    s->deferred = NULL;
    s->deferred_count = s->deferred_capacity = 0;
}

static void server_wake(void *arg, uint64_t number) {
    struct server *s = arg;
    if (server_busy(s)) {
        sim_at(s->paused_until_us + 1, server_wake, s, 0);
        return;
    }
    struct deferred *all = s->deferred;
    size_t count = s->deferred_count;
    s->deferred = NULL;
    s->deferred_count = s->deferred_capacity = 0;
    s->waking = true;
    for (size_t i = 0; i < count; i++)
        all[i].fn(all[i].arg, all[i].number);
    s->waking = false;
    free(all);
}

bool server_defer(struct server *s, event_fn fn, void *arg, uint64_t number, bool owned) {
    if (s->waking || (!server_busy(s) && s->deferred_count == 0))
        return false;
    if (s->deferred_count == 0)
        sim_at(s->paused_until_us + 1, server_wake, s, 0);
    if (s->deferred_count == s->deferred_capacity) {
        s->deferred_capacity = s->deferred_capacity ? 2 * s->deferred_capacity : 16;
        s->deferred = xrealloc(s->deferred, s->deferred_capacity * sizeof s->deferred[0]);
    }
    s->deferred[s->deferred_count++] = (struct deferred){fn, arg, number, owned};
    return true;
}

static void server_step_disk(void *arg, uint64_t incarnation) {
    struct server *s = arg;
    if (!s->node || s->incarnation != incarnation)
        return;
    s->disk_scheduled = false;
    mem_disk_step(s->disk);
    server_after(s);
}

static void server_tick(void *arg, uint64_t seq) {
    struct server *s = arg;
    if (!s->node || s->tick_seq != seq)
        return;
    if (server_defer(s, server_tick, s, seq, false))
        return;
    s->tick_at_us = UINT64_MAX;
    node_tick(s->node);
    server_after(s);
}

static void count(struct server *s) {
    const struct node_counters *c = node_counters(s->node);
    stats.background += c->snapshots_taken - s->counted.snapshots_taken;
    stats.installs += c->snapshots_installed - s->counted.snapshots_installed;
    stats.resumed += c->installs_resumed - s->counted.installs_resumed;
    stats.source_changes += c->install_sources_changed - s->counted.install_sources_changed;
    stats.repairs += c->repairs - s->counted.repairs;
    stats.checks += c->digest_checks - s->counted.digest_checks;
    stats.scrubs += c->scrubs - s->counted.scrubs;
    stats.asked_again += c->pieces_asked_again - s->counted.pieces_asked_again;
    if (c->repairs != s->counted.repairs ||
        c->snapshots_installed != s->counted.snapshots_installed)
        s->damaged = s->misapplied = false;
    s->counted = *c;
}

void server_after(struct server *s) {
    if (s->failed) {
        server_crash(s, s->disk_faulty);
        return;
    }
    node_turn_end(s->node);
    if (s->failed) {
        server_crash(s, s->disk_faulty);
        return;
    }
    count(s);
    if (node_commit_index(s->node) > 0) { /* as the server notes it in its identity */
        s->bootstrap = false;
        s->begun = true;
    }
    check_server(s);
    if (sim.o.hot)
        hot_watch(s);
    if (sim.o.play)
        stage_watch(s);
    if (mem_disk_pending(s->disk) > 0 && !s->disk_scheduled) {
        s->disk_scheduled = true;
        uint64_t latency = 80 + sim_rand(400) + s->disk_slow_us;
        if (sim.faults && sim.o.sluggish)
            latency += sim_rand(40000);
        if (sim.faults && sim.o.slow_disk && sim_chance(20))
            latency += sim_rand(300000);
        sim_at(sim.now_us + latency, server_step_disk, s, s->incarnation);
    }
    uint64_t deadline = node_deadline_ms(s->node);
    if (deadline == UINT64_MAX)
        return;
    uint64_t at = 0;
    if (deadline > s->clock_ms) /* rounded up: not before the clock shows it */
        at = ((deadline - s->clock_ms) * 1000 * 1024 + s->clock_rate - 1) / s->clock_rate;
    if (at <= sim.now_us)
        at = sim.now_us + 1000;
    if (at < s->tick_at_us || s->tick_at_us <= sim.now_us) {
        s->tick_at_us = at;
        s->tick_seq = sim.seq + 1;
        sim_at(at, server_tick, s, s->tick_seq);
    }
}

static void server_restart(void *arg, uint64_t incarnation) {
    struct server *s = arg;
    if (!s->node && s->incarnation == incarnation && !s->dead_for_good)
        server_start(s);
}

void server_start(struct server *s) {
    if (s->node_id == 0)
        return;
    struct node_options options = {
        .id = s->node_id,
        .bootstrap = s->bootstrap,
        .begun = s->begun,
        .dir = s->dir,
        .peer_address = s->address,
        .http_address = "",
        .redis_address = "",
        .boot_id = s->boot_id,
        .map_bytes = 64 << 20,
        .log_segment_bytes = 128 * 1024,
        .snapshot_log_bytes =
            sim.o.snapshots ? sim.snapshot_bytes + (uint64_t)s->index * 1500 : 1u << 30,
        .log_trailing_bytes = sim.trailing_bytes,
        .append_bytes = sim.append_bytes,
        .log_laggard_bytes = sim.laggard_bytes,
        .snapshot_piece_bytes = 32 * 1024,
        .entries_inflight = sim.entries_inflight,
        .snapshot_agree_ms = sim.o.misapply ? 3000 : 0,
        .scrub_every_ms = sim.o.damage ? 200 : 2000,
        .pair_grace_ms = 200 + (uint32_t)sim_rand(500),
        .election_timeout_ms = 150,
        .voters_max = sim.o.hot || sim.o.play ? (uint32_t)sim.o.voters : 0,
        .replace_after_ms = sim.o.replace ? 500 : 0,
        .gate = s->gate,
        /* So that watchers meet the end of the history; the same on all nodes. */
        .changes_max = watch_is_on() ? 200 : 0,
    };
    memcpy(options.cluster_id, s->cluster, sizeof options.cluster_id);
    char error[256] = "";
    mkdir(s->dir, 0700);
    s->incarnation++;
    s->failed = s->disk_faulty = false;
    mem_disk_fail_at(s->disk, 0, 0);
    s->disk_scheduled = false;
    s->tick_at_us = UINT64_MAX;
    s->paused_until_us = 0;
    s->seen_commit = s->highest_commit = s->seen_applied = s->seen_last = s->seen_last_term = 0;
    s->membership_seen = false;
    s->clock_ms = 1000 + sim_rand(100000);
    s->clock_rate = sim.o.drift ? 720 + (uint32_t)sim_rand(620) : 1024;
    list_init(&s->jobs);
    s->counted = (struct node_counters){0};
    stats.restarts++;
    sim_trace("s%d starts as node %llu", s->index, (unsigned long long)s->node_id);
    int rc = node_new(&options, &env_ops, s, s->disk, &s->node, error);
    if (rc < 0)
        sim_violation("s%d does not start: %s (%s)", s->index, error, strerror(-rc));
    if (store_is_sound(node_store(s->node)))
        s->damaged = false; /* the start has looked at everything; else a scrub will */
    server_after(s);
}

static void home_died(void *arg, uint64_t number) {
    gateway_die(arg);
}

void server_crash(struct server *s, bool power) {
    if (!s->node)
        return;
    sim_trace("s%d %s", s->index, power ? "loses power" : "is killed");
    stats.crashes++;
    struct node *n = s->node;
    s->node = NULL;
    s->incarnation++;
    net_server_down(s);
    mem_disk_crash(s->disk, power ? MEM_DISK_POWER_CUT : MEM_DISK_KILL);
    node_abandon(n);
    for (int g = 0; g < GATEWAYS_MAX && sim.o.gateways; g++)
        if (sim.gateways[g].home == s) /* one process */
            sim_at(sim.now_us, home_died, &sim.gateways[g], 0);
    if (power) {
        stats.power_cuts++;
        s->misapplied = false; /* its store will be made anew */
        snprintf(s->boot_id, sizeof s->boot_id, "boot-%d-%u", s->index, ++s->boots);
    }
    if (sim.faults || s->failed)
        sim_at(sim.now_us +
                   (sim_chance(500) ? sim_rand(30000) : sim_rand(sim.o.hot ? 300000 : 1500000)),
               server_restart, s, s->incarnation);
}

bool server_may_move(const struct server *s) {
    struct membership m;
    if (!s->node || node_membership_index(s->node) == 0)
        return false;
    /* What it knows only in memory it may forget. */
    uint64_t index = node_membership_index(s->node);
    const struct core_entry *e = memlog_get(node_memlog(s->node), index);
    if (e && !node_has_durable(s->node, index, e->term))
        return false;
    node_membership(s->node, &m);
    for (uint32_t i = 0; i < m.count; i++)
        if (strcmp(server_at(m.members[i].address)->address, m.members[i].address) != 0)
            return false;
    /* Gateways know only those that stay. */
    return membership_voters(&m) >= 3 && membership_find(&m, s->node_id) != NULL;
}

void server_move(struct server *s) {
    CHECK(!s->node);
    snprintf(s->address, sizeof s->address, "s%d:%d", s->index,
             1 + (atoi(strchr(s->address, ':') + 1)) % 10000);
    sim_trace("s%d moves to %s", s->index, s->address);
}

void server_wipe(struct server *s) {
    CHECK(!s->node);
    stats.wipes++;
    s->life++;
    s->incarnation++;
    s->joining = s->bootstrap = s->begun = false;
    s->member_index = 0;
    if (!PLANTED(PLANT_M2_REUSED_ID))
        s->node_id = 0;
    mem_disk_free(s->disk);
    s->disk = mem_disk_new(rand_u64(&sim.rand));
    snprintf(s->dir, sizeof s->dir, "%s/s%d-%u", sim.dir, s->index, s->life);
    mkdir(s->dir, 0700);
    sim_trace("s%d loses its disk", s->index);
    if (s->node_id != 0)
        server_start(s);
}

struct server *server_leader(void) {
    struct server *found = NULL;
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        if (s->node && node_is_leader(s->node) &&
            (!found || node_term(s->node) > node_term(found->node)))
            found = s;
    }
    return found;
}

uint32_t voters_now(void) {
    struct server *leader = server_leader();
    struct membership m;
    if (!leader)
        return 0;
    node_membership(leader->node, &m);
    return membership_voters(&m);
}

struct server *server_at(const char *address) {
    int index = atoi(address + 1);
    CHECK(index >= 1 && index <= SERVERS_MAX);
    return &sim.servers[index];
}
