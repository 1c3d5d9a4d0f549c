/* What goes wrong in a run: one fault after the other, as the seed draws them. */
#include <errno.h>

#include "sim.h"

static struct server *any_server(void) {
    struct server *leader = server_leader();
    if (leader && sim_chance(400))
        return leader;
    struct server *known[SERVERS_MAX];
    size_t count = 0;
    for (int i = 1; i <= SERVERS_MAX; i++)
        if (sim.servers[i].node_id != 0 && !sim.servers[i].dead_for_good)
            known[count++] = &sim.servers[i];
    return count ? known[sim_rand(count)] : &sim.servers[1];
}

void fault_heal(void) {
    memset(sim.cut, 0, sizeof sim.cut);
    memset(sim.gateway_cut, 0, sizeof sim.gateway_cut);
    memset(sim.slow_us, 0, sizeof sim.slow_us);
}

static void cut(int from, int to, bool both) {
    sim.cut[from][to] = true;
    if (both)
        sim.cut[to][from] = true;
    if (sim_chance(300)) {
        net_reset(from, to);
        net_reset(to, from);
    }
}

static void partition(void) {
    stats.partitions++;
    int victim = any_server()->index;
    bool both = sim_chance(700);
    uint64_t mode = sim_rand(3), side = rand_u64(&sim.rand);
    for (int i = 1; i <= SERVERS_MAX; i++)
        for (int j = 1; j <= SERVERS_MAX; j++)
            if (mode == 0   ? i == victim
                : mode == 1 ? i == victim && j == 1 + (int)(side % SERVERS_MAX)
                            : (side >> i & 1) && !(side >> j & 1))
                cut(i, j, both);
    if (sim_chance(400))
        sim.gateway_cut[sim_rand(GATEWAYS_MAX)][victim] = true;
    sim_trace("partition: s%d, mode %d", victim, (int)mode);
}

/* Some links are slow, as one that is overloaded: what waits in it arrives in order, perhaps after
 * an election. */
static void slow_links(void) {
    static const uint32_t longest_us[] = {40000, 200000, 900000};
    uint32_t us = longest_us[sim_rand(3)];
    int victim = any_server()->index;
    uint64_t mode = sim_rand(4);
    for (int i = 1; i <= SERVERS_MAX; i++) {
        for (int j = 1; j <= SERVERS_MAX; j++)
            if (mode == 0 ? i == victim : mode == 1 ? j == victim : mode == 2 ? sim_chance(300) : 1)
                sim.slow_us[i][j] = us;
    }
    sim_trace("slow links: s%d, mode %d, up to %u us", victim, (int)mode, us);
}

static void cut_off(const struct server *s) {
    bool out = sim_chance(800), in = !out || sim_chance(700);
    for (int i = 1; i <= SERVERS_MAX; i++) {
        if (out)
            sim.cut[s->index][i] = true;
        if (in)
            sim.cut[i][s->index] = true;
    }
    for (int g = 0; g < GATEWAYS_MAX; g++)
        sim.gateway_cut[g][s->index] = false;
    stats.partitions++;
    sim_trace("s%d is cut off from the other nodes", s->index);
}

static void pause_later(void *arg, uint64_t us) {
    struct server *s = arg;
    if (sim.faults && s->node)
        server_pause(s, us);
}

/* The leader loses the other nodes but not its gateways, perhaps while it stands still: for a
 * moment it takes itself for the leader that somebody else is by now. */
static void isolate(void) {
    struct server *s = server_leader();
    if (!s)
        return;
    cut_off(s);
    if (sim.o.pause && sim_chance(600))
        sim_at(sim.now_us + sim_rand(150000), pause_later, s, sim_rand(400000));
}

void fault_exile(void) {
    struct server *s = server_leader();
    if (!s)
        return;
    fault_heal();
    cut_off(s);
    static const uint32_t longest_us[] = {60000, 150000, 300000};
    uint32_t us = longest_us[sim_rand(3)];
    for (int i = 1; i <= SERVERS_MAX; i++)
        for (int j = 1; j <= SERVERS_MAX; j++)
            sim.slow_us[i][j] = us;
}

/* A voter goes for good: it dies, loses its disk, or is removed; only when all others are there, so
 * that the cluster can bear it. */
static bool all_voters_there(void) {
    struct server *leader = server_leader();
    struct membership m;
    if (!leader)
        return false;
    node_membership(leader->node, &m);
    for (uint32_t i = 0; i < m.count; i++) {
        const struct server *s = server_at(m.members[i].address);
        /* Losing a voter before the others know of the last change can be more than they can bear.
         */
        if (m.members[i].role == MEMBER_VOTER &&
            (!s->node || s->node_id != m.members[i].id || s->removed ||
             node_membership_index(s->node) == 0 ||
             node_membership_index(s->node) != node_membership_index(leader->node)))
            return false;
    }
    return membership_voters(&m) >= (uint32_t)sim.o.voters;
}

static void replace(void) {
    if (sim.o.voters < 3 || !all_voters_there())
        return;
    int spare = 0;
    for (int i = 1; i <= SERVERS_MAX; i++)
        spare += sim.servers[i].node_id == 0 && !sim.servers[i].dead_for_good;
    struct server *s = any_server();
    uint64_t kind = sim_rand(3);
    if (s->removed || !s->node || (kind != 1 && spare == 0))
        return;
    if (kind == 2) {
        sim_trace("operator removes s%d", s->index);
        admin_remove(s->node_id);
        s->removed = true;
        return;
    }
    server_crash(s, true);
    s->incarnation++; /* no restart */
    if (kind == 1) {
        server_wipe(s);
        return;
    }
    stats.deaths++;
    s->dead_for_good = s->removed = true;
    sim_trace("s%d is dead for good", s->index);
}

static void disk_fault(struct server *s) {
    s->disk_faulty = true;
    bool power = sim_chance(600);
    mem_disk_fail_at(s->disk, 1 + sim_rand(8), power ? 0 : sim_chance(500) ? -EIO : -ENOSPC);
    sim_trace("s%d disk is about to %s", s->index, power ? "lose power" : "fail");
}

void fault_hand_over(void) {
    struct server *s = server_leader();
    if (!s)
        return;
    sim_trace("s%d is asked to hand over: %d", s->index, (int)node_transfer(s->node, 0));
    server_after(s);
}

/* Somebody falls behind for a while, and nothing else happens to it. */
static void lag_ends(void *arg, uint64_t victim) {
    for (int i = 1; i <= SERVERS_MAX; i++)
        sim.cut[i][victim] = sim.cut[victim][i] = false;
}

static void lag(void) {
    const struct server *s = any_server();
    for (int i = 1; i <= SERVERS_MAX; i++)
        sim.cut[i][s->index] = sim.cut[s->index][i] = true;
    stats.partitions++;
    sim_trace("s%d falls behind", s->index);
    sim_at(sim.now_us + 30000 + sim_rand(500000), lag_ends, NULL, (uint64_t)s->index);
}

/* What can come; some stand here more than once, to come more often. */
enum fault_kind {
    FAULT_PARTITION,
    FAULT_HEAL,
    FAULT_CRASH,
    FAULT_PAUSE,
    FAULT_DISK,
    FAULT_MEMBER,
    FAULT_SLOW_LINKS,
    FAULT_ISOLATE,
    FAULT_LAG,
    FAULT_HANDOVER,
    FAULT_GATEWAY,
};
static const enum fault_kind faults[] = {
    FAULT_PARTITION,  FAULT_PARTITION, FAULT_PARTITION, FAULT_HEAL, FAULT_HEAL,     FAULT_CRASH,
    FAULT_CRASH,      FAULT_PAUSE,     FAULT_DISK,      FAULT_DISK, FAULT_MEMBER,   FAULT_MEMBER,
    FAULT_SLOW_LINKS, FAULT_ISOLATE,   FAULT_LAG,       FAULT_LAG,  FAULT_HANDOVER, FAULT_GATEWAY,
};

void fault_choose(void) {
    sim.focus = sim_chance(300) ? (int)faults[sim_rand(ARRAY_COUNT(faults))] : -1;
}

static void fault_do(enum fault_kind kind) {
    struct server *s = any_server();
    switch (kind) {
    case FAULT_PARTITION:
        if (sim.o.partition)
            partition();
        break;
    case FAULT_HEAL:
        fault_heal();
        break;
    case FAULT_CRASH:
        if (sim.o.crash) {
            bool move = sim.o.move && server_may_move(s) && sim_chance(400);
            server_crash(s, sim.o.power && sim_chance(400));
            if (move)
                server_move(s);
        }
        break;
    case FAULT_PAUSE:
        if (sim.o.pause && s->node)
            server_pause(s, sim_rand(900000));
        break;
    case FAULT_DISK:
        if (s->node && (sim.o.io_error || sim.o.power))
            disk_fault(s);
        break;
    case FAULT_MEMBER:
        if (sim.o.churn && s->node_id != 0)
            admin_remove(s->node_id);
        else if (sim.o.replace)
            replace();
        break;
    case FAULT_SLOW_LINKS:
        if (sim.o.slow_link)
            slow_links();
        break;
    case FAULT_ISOLATE:
        if (sim.o.isolate)
            isolate();
        break;
    case FAULT_LAG:
        if (sim.o.partition)
            lag();
        break;
    case FAULT_HANDOVER:
        if (sim.o.handover)
            fault_hand_over();
        break;
    case FAULT_GATEWAY:
        /* Less than a day in all: a request's own key is not kept for longer (seed 30000291). */
        if (sim.o.leap && sim.leap_ms < 20 * 3600000 && sim_chance(300)) {
            stats.leaps++;
            sim.leap_ms += 3700000;
            sim_trace("the wall clocks leap");
        } else if (sim.o.gateways) {
            gateway_die(&sim.gateways[sim_rand(GATEWAYS_MAX)]);
        }
        break;
    }
}

void fault_step(void *arg, uint64_t pace_us) {
    if (!sim.faults)
        return;
    enum fault_kind kind = faults[sim_rand(ARRAY_COUNT(faults))];
    if (sim.focus >= 0 && sim_chance(400))
        kind = (enum fault_kind)sim.focus;
    if (!sim.held)
        fault_do(kind);
    sim_at(sim.now_us + 3000 + sim_rand(pace_us), fault_step, NULL, pace_us);
}
