/* Hot membership: an operator who changes the members all the time, and faults that are aimed at
 * the moments around a change: when it is proposed, arrives, is flushed, is applied somewhere, and
 * when somebody begins to lead.
 *
 *   server_after() -> hot_watch() sees such a moment -> strike(), now or a little later:
 *       the network splits, the leader or who the change is about stops, a member dies for good
 *
 * A member dies for good only where the cluster has to bear it, by every membership that can be in
 * force: the last committed one, those that stand in some log behind it, and what these become by
 * the removals that are under way. The cluster must then find a leader and go on. */
#include "replica/memlog.h"
#include "sim.h"

enum {
    CHANGES_MAX = 1024,
    PENDING_MAX = 4,
    DEATHS_MAX = 3,
    FORGOTTEN_US = 13000000, /* a removal without an answer can happen for so long */
};

/* Something that a membership entry does, on a server. */
enum moment { PROPOSED, ARRIVED, FLUSHED, APPLIED, LEADS, MOMENTS };

struct seat {
    uint64_t id;
    int server;
    bool voter;
};

/* A membership entry that was seen in a log. Index and term name it (log matching). */
struct change {
    uint64_t index, term;
    uint32_t count;
    struct seat seats[MEMBERS_MAX];
    int about;                         /* the server whose role it changes, 0: unknown */
    bool weighty;                      /* it changes who votes */
    unsigned in_log, flushed, applied; /* bits: servers where it was seen so */
};

static struct {
    struct change changes[CHANGES_MAX];
    size_t count;
    struct {
        uint64_t id, at_us;
    } pending[PENDING_MAX]; /* removals without an answer */
    uint64_t seen_last[SERVERS_MAX + 1], seen_term[SERVERS_MAX + 1];
    uint64_t led_term[SERVERS_MAX + 1];
    unsigned chance[MOMENTS]; /* per thousand, of a strike */
    bool even_only;           /* the operator removes somebody only while the voters are even */
    unsigned removal_chance;  /* per thousand, each time the operator looks */
    uint64_t operator_pace_us;
    int deaths, rifts;
} hot;

/* ---- what can be borne ---- */

static const struct seat *seat_of(const struct change *c, uint64_t id) {
    for (uint32_t i = 0; i < c->count; i++)
        if (c->seats[i].id == id)
            return &c->seats[i];
    return NULL;
}

static uint32_t change_voters(const struct change *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->count; i++)
        n += c->seats[i].voter;
    return n;
}

static bool seat_lives(const struct seat *seat, const struct server *victim) {
    const struct server *s = &sim.servers[seat->server];
    return s != victim && s->node_id == seat->id && !s->dead_for_good;
}

/* From one voter to two neither may be missed; but until the second has the change on its disk, the
 * first must be able to take it back (M5). */
static bool still_held(const struct change *last, const struct change *c,
                       const struct server *victim) {
    return change_voters(last) == 1 && change_voters(c) == 2 && victim->node &&
           !seat_of(last, victim->node_id)->voter &&
           memlog_term(node_memlog(victim->node), c->index) != c->term;
}

/* Whether the voters that stay are a majority, also when any of the pending removals happens. */
static bool majority_stays(const struct change *c, const struct server *victim) {
    for (unsigned removed = 0; removed < 1u << PENDING_MAX; removed++) {
        uint32_t voters = 0, live = 0;
        for (uint32_t i = 0; i < c->count; i++) {
            bool gone = !c->seats[i].voter;
            for (int p = 0; p < PENDING_MAX; p++)
                gone |= (removed >> p & 1) && hot.pending[p].id == c->seats[i].id;
            voters += !gone;
            live += !gone && seat_lives(&c->seats[i], victim);
        }
        if (live <= voters / 2)
            return false;
    }
    return true;
}

static const struct change *last_committed(void) {
    const struct change *last = NULL;
    for (size_t i = 0; i < hot.count; i++)
        if (check_committed_term(hot.changes[i].index) == hot.changes[i].term &&
            (!last || hot.changes[i].index > last->index))
            last = &hot.changes[i];
    return last;
}

static bool bearable(const struct server *victim) {
    const struct change *last = last_committed();
    if (!last || victim->node_id == 0 || victim->dead_for_good || victim->joining ||
        hot.deaths >= DEATHS_MAX || !seat_of(last, victim->node_id))
        return false;
    for (size_t i = 0; i < hot.count; i++) {
        const struct change *c = &hot.changes[i];
        uint64_t term = check_committed_term(c->index);
        if (c->index < last->index || (term != 0 && term != c->term))
            continue; /* no longer in force */
        for (uint32_t k = 0; k < c->count; k++)
            if (sim.servers[c->seats[k].server].dead_for_good &&
                sim.servers[c->seats[k].server].node_id == c->seats[k].id)
                return false; /* one at a time */
        const struct seat *seat = seat_of(c, victim->node_id);
        if (seat && seat->voter && !majority_stays(c, victim) && !still_held(last, c, victim))
            return false;
    }
    return true;
}

/* ---- strikes ---- */

static void rift_heals(void *arg, uint64_t number) {
    if (sim.faults && (int)number == hot.rifts)
        fault_heal();
}

/* Who stays with the leader: often nobody, or no more than a majority by the new membership. */
static unsigned rift_side(const struct change *c, int leader) {
    unsigned side = 1u << leader;
    uint64_t kind = sim_rand(100);
    if (kind < 35)
        return side;
    if (kind < 45)
        return side | (c->about ? 1u << c->about : 0);
    if (kind < 60)
        return side | (unsigned)rand_u64(&sim.rand);
    uint32_t wanted = change_voters(c) / 2;
    for (uint32_t first = (uint32_t)sim_rand(c->count), i = 0; i < c->count && wanted > 0; i++) {
        const struct seat *seat = &c->seats[(first + i) % c->count];
        if (!seat->voter || seat->server == leader)
            continue;
        side |= 1u << seat->server;
        wanted--;
    }
    return side;
}

/* Splits the network in two; what is on its way from one side to the other is lost. */
static void rift(const struct change *c, int leader) {
    unsigned side = rift_side(c, leader);
    bool both = sim_chance(800), other_way = sim_chance(500);
    for (int i = 1; i <= SERVERS_MAX; i++)
        for (int j = 1; j <= SERVERS_MAX; j++) {
            bool out = (side >> i & 1) && !(side >> j & 1),
                 in = !(side >> i & 1) && (side >> j & 1);
            sim.cut[i][j] = both ? out || in : other_way ? in : out;
            if (sim.cut[i][j])
                net_reset(i, j);
        }
    stats.partitions++;
    hot.rifts++;
    static const uint64_t longest_us[] = {60000, 400000, 1500000};
    sim_trace("rift: s%d with %x on its side", leader, side & ((2u << SERVERS_MAX) - 2));
    sim_at(sim.now_us + sim_rand(longest_us[sim_rand(3)]), rift_heals, NULL, (uint64_t)hot.rifts);
}

static struct server *some_member(const struct change *c) {
    return &sim.servers[c->seats[sim_rand(c->count)].server];
}

/* One of those without whom the others must get along, mostly another voter than the leader. */
static void die(const struct change *c, const struct server *leader) {
    struct server *can[SERVERS_MAX];
    size_t count = 0;
    bool any = sim_chance(300);
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        const struct seat *seat = seat_of(c, s->node_id);
        if (bearable(s) && (any || (seat && seat->voter && s != leader)))
            can[count++] = s;
    }
    if (count == 0)
        return;
    struct server *s = can[sim_rand(count)];
    sim_trace("s%d is dead for good", s->index);
    server_crash(s, true);
    s->incarnation++; /* no restart */
    s->dead_for_good = s->removed = true;
    hot.deaths++;
    stats.deaths++;
}

/* number: the change, and above it the server where the moment was seen. */
static void strike(void *arg, uint64_t number) {
    const struct change *c = &hot.changes[number % CHANGES_MAX];
    struct server *here = &sim.servers[number / CHANGES_MAX];
    struct server *about = c->about ? &sim.servers[c->about] : here;
    if (!sim.faults)
        return;
    if (sim.o.partition && sim_chance(700))
        rift(c, here->index);
    if (sim.o.crash && sim_chance(350)) {
        struct server *s = sim_chance(500) ? here : sim_chance(500) ? about : some_member(c);
        server_crash(s, sim.o.power && sim_chance(500));
    }
    if (sim_chance(600))
        die(c, here);
}

/* Whether changes of different leaders can be in force: only one of them can come to be committed,
 * and this is the time to mix them up. */
static bool rivals(void) {
    const struct change *last = last_committed();
    uint64_t term = 0;
    for (size_t i = 0; last && i < hot.count; i++) {
        const struct change *c = &hot.changes[i];
        if (c->index <= last->index || check_committed_term(c->index) != 0)
            continue;
        if (term != 0 && c->term != term)
            return true;
        term = c->term;
    }
    return false;
}

static void moment(const struct server *s, size_t change, enum moment what) {
    unsigned chance = hot.chance[what];
    if (!hot.changes[change].weighty)
        chance /= 8;
    else if (what == PROPOSED && rivals())
        chance = 900;
    if (!sim_chance(chance))
        return;
    static const uint64_t longest_us[] = {1, 1, 1, 1, 500, 4000, 60000};
    sim_at(sim.now_us + sim_rand(longest_us[sim_rand(ARRAY_COUNT(longest_us))]), strike, NULL,
           (uint64_t)s->index * CHANGES_MAX + change);
}

/* ---- watching ---- */

static size_t change_find(uint64_t index, uint64_t term) {
    size_t i = hot.count;
    while (i > 0 && (hot.changes[i - 1].index != index || hot.changes[i - 1].term != term))
        i--;
    return i; /* 0: new */
}

static size_t change_add(uint64_t index, uint64_t term, struct slice body) {
    struct membership m;
    if (hot.count == CHANGES_MAX || !membership_decode(body, &m))
        sim_violation("more membership entries than the simulator bears, or a damaged one");
    struct change *c = &hot.changes[hot.count];
    const struct change *before = last_committed();
    *c = (struct change){.index = index, .term = term, .count = m.count};
    for (uint32_t i = 0; i < m.count; i++) {
        const struct member *in = &m.members[i];
        c->seats[i] = (struct seat){.id = in->id,
                                    .server = server_at(in->address)->index,
                                    .voter = in->role == MEMBER_VOTER};
        const struct seat *was = before ? seat_of(before, in->id) : NULL;
        if (!was || was->voter != c->seats[i].voter)
            c->about = c->seats[i].server;
        c->weighty |= c->seats[i].voter != (was && was->voter);
    }
    for (uint32_t i = 0; before && i < before->count; i++)
        if (!seat_of(c, before->seats[i].id)) {
            c->about = before->seats[i].server;
            c->weighty |= before->seats[i].voter;
        }
    sim_trace("change at %llu, term %llu: %u members, %u voters (%u before), about s%d",
              (unsigned long long)index, (unsigned long long)term, c->count, change_voters(c),
              before ? change_voters(before) : 0, c->about);
    return hot.count++;
}

static void watch_log(const struct server *s) {
    const struct memlog *log = node_memlog(s->node);
    uint64_t *last = &hot.seen_last[s->index], from = *last + 1;
    if (from > log->last_index + 1 || memlog_term(log, *last) != hot.seen_term[s->index])
        from = log->first_index;
    for (uint64_t i = from < log->first_index ? log->first_index : from; i <= log->last_index;
         i++) {
        const struct core_entry *e = memlog_get(log, i);
        if (e->type != CORE_MEMBERSHIP)
            continue;
        size_t known = change_find(i, e->term);
        size_t at = known ? known - 1 : change_add(i, e->term, e->body);
        if (!(hot.changes[at].in_log >> s->index & 1))
            moment(s, at, known ? ARRIVED : PROPOSED);
        hot.changes[at].in_log |= 1u << s->index;
    }
    *last = log->last_index;
    hot.seen_term[s->index] = memlog_term(log, log->last_index);
}

/* The last few changes: how far they have come here. */
static void watch_progress(const struct server *s) {
    for (size_t i = hot.count > 6 ? hot.count - 6 : 0; i < hot.count; i++) {
        struct change *c = &hot.changes[i];
        unsigned bit = 1u << s->index;
        if (memlog_term(node_memlog(s->node), c->index) != c->term)
            continue;
        if (!(c->flushed & bit) && node_has_durable(s->node, c->index, c->term)) {
            c->flushed |= bit;
            moment(s, i, FLUSHED);
        }
        if (!(c->applied & bit) && node_membership_index(s->node) == c->index) {
            c->applied |= bit;
            moment(s, i, APPLIED);
        }
    }
}

void hot_watch(struct server *s) {
    watch_log(s);
    watch_progress(s);
    if (node_is_leader(s->node) && hot.led_term[s->index] != node_term(s->node) && hot.count > 0) {
        hot.led_term[s->index] = node_term(s->node);
        moment(s, hot.count - 1, LEADS);
    }
}

/* ---- the operator ---- */

static bool removal_pending(uint64_t id) {
    for (int i = 0; i < PENDING_MAX; i++)
        if (hot.pending[i].id == id)
            return true;
    return false;
}

static void removal_ask(uint64_t id) {
    for (int i = 0; i < PENDING_MAX; i++)
        if (hot.pending[i].id == 0) {
            hot.pending[i].id = id;
            hot.pending[i].at_us = sim.now_us;
            sim_trace("operator removes node %llu", (unsigned long long)id);
            admin_remove(id);
            return;
        }
}

void hot_removal_answered(uint64_t id) {
    sim_trace("removal of node %llu answered", (unsigned long long)id);
    for (int i = 0; i < PENDING_MAX; i++)
        if (hot.pending[i].id == id)
            hot.pending[i].id = 0;
}

/* Takes out the dead; while there are none, any member, and often the leader. */
static void operator_looks(void *arg, uint64_t number) {
    struct server *leader = server_leader();
    const struct change *last = last_committed();
    for (int i = 0; i < PENDING_MAX; i++)
        if (hot.pending[i].id != 0 && last &&
            (!seat_of(last, hot.pending[i].id) || sim.now_us > hot.pending[i].at_us + FORGOTTEN_US))
            hot.pending[i].id = 0;
    bool dead = false;
    for (uint32_t i = 0; last && i < last->count; i++) {
        const struct server *s = &sim.servers[last->seats[i].server];
        if (!s->dead_for_good || s->node_id != last->seats[i].id)
            continue;
        dead = true;
        if (!removal_pending(s->node_id) && sim_chance(sim.faults ? 200 : 1000))
            removal_ask(s->node_id);
    }
    /* Single changes overlap least where the number of voters is even. */
    unsigned chance = hot.removal_chance;
    if (hot.even_only && last)
        chance = change_voters(last) % 2 == 0 ? 600 : chance / 2;
    if (sim.faults && last && leader && !dead && sim_chance(chance)) {
        uint64_t id = sim_chance(500) ? leader->node_id : last->seats[sim_rand(last->count)].id;
        if (!removal_pending(id))
            removal_ask(id);
    }
    sim_at(sim.now_us + 1000 + sim_rand(hot.operator_pace_us), operator_looks, NULL, 0);
}

void hot_begin(void) {
    memset(&hot, 0, sizeof hot);
    static const unsigned chances[] = {0, 10, 50};
    for (int i = 0; i < MOMENTS; i++)
        hot.chance[i] = chances[sim_rand(3)];
    hot.chance[PROPOSED] = 100 + (unsigned)sim_rand(600);
    static const unsigned removals[] = {10, 40, 150};
    hot.removal_chance = removals[sim_rand(3)];
    hot.even_only = sim_chance(700);
    static const uint64_t paces_us[] = {30000, 100000};
    hot.operator_pace_us = paces_us[sim_rand(2)];
    sim_at(20000, operator_looks, NULL, 0);
}
