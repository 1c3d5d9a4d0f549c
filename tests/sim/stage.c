/* Staged runs: in one seed of sixteen (and in one more of sixty-four) the network is not cut at any
 * moment, but in an order that a play asks for. What a play shows needs four or five faults, each
 * at the right moment between two messages, and comes together by chance once in many thousands of
 * runs. Everything in it can happen to a cluster: an operator who changes members, cuts that come
 * and heal, a disk that stands still.
 *
 *   server_after() -> stage_watch() sees the moment that the act waits for, cuts, and ends the act
 *   stage_play()   waits for that, or gives the play up, and begins the next act
 *
 * Which nodes it is about, which members are changed, how long things take and what clients do are
 * the seed's choice. Behind the plays come ordinary faults, and the end of every run. */
#include <string.h>

#include "replica/memlog.h"
#include "sim.h"

enum act {
    ACT_NONE, /* no play, or it was given up */
    ACT_DONE, /* the last one has ended */
    /* rivals */
    ACT_FIRST_CHANGE,  /* the leader proposes one: it is cut off with it */
    ACT_SUCCESSOR,     /* somebody else leads: the operator asks it for another change */
    ACT_SECOND_CHANGE, /* it is proposed: the successor keeps no more than it needs to commit it */
    /* rollback */
    ACT_COMMITTED, /* the leader commits a change: nobody hears of that */
    ACT_ON_DISK,   /* and has another one on its disk, alone */
    ACT_AGAIN,     /* having been started again it leads again: only the follower hears it */
    ACT_TAKEN,     /* the follower has both changes */
    ACT_ANOTHER,   /* one of the others leads: only the follower hears it */
    ACT_CUT_OFF,   /* the follower has lost the second change */
    /* overwrite */
    ACT_ALONE,   /* a follower with a slow disk has entries that nobody else has but the leader */
    ACT_WITHOUT, /* the others have another leader: it keeps the follower, and one too few */
    ACT_OVER,    /* it has committed something */
    /* estranged */
    ACT_STANDS, /* the leader is cut off: somebody stands for election, and is cut off as well */
    ACT_REST,   /* the rest goes on without it; alone it stands again and again */
};

static struct {
    enum act act;
    struct server *leader, *other; /* other: the successor; the follower; the estranged */
    uint64_t index, term;          /* of the change that the act is about */
    struct membership before, first;
    unsigned side; /* bits: servers on the side of `other`, in the second cut of rivals */
    uint64_t remove;
} stage;

/* ---- what a play does ---- */

static int group(int server, unsigned a, unsigned b) {
    if (a >> server & 1)
        return 1;
    return b >> server & 1 ? 2 : 3;
}

/* Nobody in one group hears anybody in another, and what is on its way between them is lost. */
static void split(unsigned a, unsigned b) {
    for (int i = 1; i <= SERVERS_MAX; i++)
        for (int j = 1; j <= SERVERS_MAX; j++) {
            int from = group(i, a, b), to = group(j, a, b);
            bool was = sim.cut[i][j];
            sim.cut[i][j] = from != to;
            if (sim.cut[i][j] && !was)
                net_reset(i, j);
        }
    stats.partitions++;
    sim_trace("split: %x, %x, the rest", a, b);
}

/* It hears nobody, and nobody hears it. */
static void split_off(int s) {
    for (int i = 1; i <= SERVERS_MAX; i++) {
        sim.cut[s][i] = sim.cut[i][s] = true;
        net_reset(s, i);
        net_reset(i, s);
    }
}

static unsigned bit(const struct server *s) {
    return 1u << s->index;
}

static bool act_ends(enum act act, uint64_t limit_us) {
    uint64_t end = sim.now_us + limit_us;
    while (stage.act == act && sim.now_us < end)
        sim_run_until(sim.now_us + 2000);
    if (stage.act == act)
        stage.act = ACT_NONE;
    return stage.act != ACT_NONE;
}

/* ---- what it looks at ---- */

static unsigned side_of(const struct membership *m) {
    unsigned side = 0;
    for (uint32_t i = 0; i < m->count; i++)
        side |= bit(server_at(m->members[i].address));
    return side;
}

static bool majority(const struct membership *m, unsigned side) {
    uint32_t have = 0;
    for (uint32_t i = 0; i < m->count; i++)
        have += m->members[i].role == MEMBER_VOTER &&
                (side & bit(server_at(m->members[i].address))) != 0;
    return have > membership_voters(m) / 2;
}

static bool same_voters(const struct membership *a, const struct membership *b) {
    for (uint32_t i = 0; i < a->count; i++)
        if (a->members[i].role == MEMBER_VOTER && !membership_is_voter(b, a->members[i].id))
            return false;
    return membership_voters(a) == membership_voters(b);
}

/* The last membership entry of its log that it does not know to be committed; 0: none. */
static uint64_t open_change(const struct server *s, struct membership *ret) {
    const struct memlog *log = node_memlog(s->node);
    for (uint64_t i = log->last_index; i > node_commit_index(s->node) && i >= log->first_index; i--)
        if (memlog_get(log, i)->type == CORE_MEMBERSHIP) {
            CHECK(membership_decode(memlog_get(log, i)->body, ret));
            return i;
        }
    return 0;
}

static void without(const struct membership *m, uint64_t id, struct membership *ret) {
    *ret = (struct membership){0};
    for (uint32_t i = 0; i < m->count; i++)
        if (m->members[i].id != id)
            ret->members[ret->count++] = m->members[i];
}

/* All members have everything, and know that it is committed. */
static bool all_know_all(void) {
    struct server *leader = server_leader();
    struct membership m;
    if (!leader || clients_busy())
        return false;
    node_membership(leader->node, &m);
    for (uint32_t i = 0; i < m.count; i++) {
        const struct server *s = server_at(m.members[i].address);
        if (!s->node || s->node_id != m.members[i].id ||
            node_memlog(s->node)->last_index != node_memlog(leader->node)->last_index ||
            node_commit_index(s->node) != node_memlog(leader->node)->last_index)
            return false;
    }
    return true;
}

static bool calm(uint64_t limit_us) {
    uint64_t end = sim.now_us + limit_us, since = sim.now_us, last = 0;
    while (sim.now_us < end) {
        sim_run_until(sim.now_us + 10000);
        if (!all_know_all() || check_last_index() != last)
            since = sim.now_us;
        last = check_last_index();
        /* Somewhat more than a second after the last entry the leader appends its digest. */
        if (sim.now_us - since > 1300000)
            return true;
    }
    return false;
}

static bool members_come_to(uint32_t members, uint32_t voters, uint64_t limit_us) {
    uint64_t end = sim.now_us + limit_us;
    while (sim.now_us < end) {
        struct membership m, open;
        struct server *leader = server_leader();
        if (leader) {
            node_membership(leader->node, &m);
            if (m.count == members && membership_voters(&m) == voters &&
                open_change(leader, &open) == 0)
                return true;
        }
        sim_run_until(sim.now_us + 10000);
    }
    return false;
}

/* ---- rivals ----
 *
 * Of four voters the leader is cut off with a change of its own. Its successor, who does not know
 * of that, makes another change; each of the two gives a majority to those who have not heard of
 * the other one, if the successor may make its change before an entry of its own term is committed
 * (M3). The first leader comes back among those who have heard of neither. */

/* What the successor N removes, and who alone stays with it: with H it is a majority by its own
 * change, and the others are one by the first. */
static bool choose_second_change(void) {
    struct {
        uint64_t remove;
        unsigned side;
    } can[MEMBERS_MAX * MEMBERS_MAX];
    uint64_t count = 0;
    unsigned n = bit(stage.other);
    for (uint32_t i = 0; i < stage.before.count; i++) {
        struct membership second;
        uint64_t id = stage.before.members[i].id;
        if (id == stage.other->node_id || !membership_is_voter(&stage.before, id))
            continue;
        without(&stage.before, id, &second);
        for (uint32_t k = 0; k < second.count; k++) {
            unsigned side = n | bit(server_at(second.members[k].address));
            if ((side & bit(stage.leader)) == 0 && majority(&second, side) &&
                majority(&stage.first, ~side)) {
                can[count].remove = id;
                can[count++].side = side;
            }
        }
    }
    if (count == 0)
        return false;
    uint64_t chosen = sim_rand(count);
    stage.remove = can[chosen].remove;
    stage.side = can[chosen].side;
    return true;
}

static void rivals_watch(struct server *s) {
    struct membership m;
    uint64_t index;
    switch (stage.act) {
    case ACT_FIRST_CHANGE:
        if (s != stage.leader || !node_is_leader(s->node) || (index = open_change(s, &m)) == 0 ||
            same_voters(&m, &stage.before))
            return;
        stage.first = m;
        stage.index = index;
        split(bit(s) | (side_of(&m) & ~side_of(&stage.before)), 0);
        for (int g = 0; g < GATEWAYS_MAX; g++)
            sim.gateway_cut[g][s->index] = true;
        stage_servers = STAGE_HANDS_OFF; /* whoever is removed cannot be reached */
        stage.act = ACT_SUCCESSOR;
        break;
    case ACT_SUCCESSOR:
        if (s == stage.leader || !node_is_leader(s->node))
            return;
        stage.other = s;
        if (!choose_second_change()) {
            stage.act = ACT_NONE;
            return;
        }
        stage.act = ACT_SECOND_CHANGE;
        break;
    default:
        if (s != stage.other || (index = open_change(s, &m)) == 0)
            return;
        stage.index = index;
        split(stage.side, bit(stage.leader));
        stage.act = ACT_DONE;
        break;
    }
}

/* An operator asks again: a request can get lost with a leader that is none any more. */
static bool asked(enum act act, uint64_t remove) {
    for (int tries = 0; tries < 4 && stage.act == act; tries++) {
        admin_remove(remove);
        for (int i = 0; i < 250 && stage.act == act; i++)
            sim_run_until(sim.now_us + 2000);
    }
    return act_ends(act, 0);
}

/* Five voters become four. */
static bool come_to_four(void) {
    struct membership m;
    struct server *leader = server_leader();
    if (!leader)
        return false;
    stage_servers = 4;
    node_membership(leader->node, &m);
    uint64_t id = m.members[sim_rand(m.count)].id;
    for (int tries = 0; tries < 4; tries++) {
        if (tries > 0 || membership_voters(&m) == 5)
            admin_remove(id);
        if (members_come_to(4, 4, 1000000))
            return true;
    }
    return false;
}

static bool grow_to_five(void) {
    stage_servers = 5;
    return act_ends(ACT_FIRST_CHANGE, 8000000);
}

static bool first_change(void) {
    struct membership *m = &stage.before;
    node_membership(stage.leader->node, m);
    stage.act = ACT_FIRST_CHANGE;
    if (sim_chance(300)) /* a fifth one becomes a voter */
        return grow_to_five();
    const struct member *victim = &m->members[sim_rand(m->count)];
    if (victim->id == stage.leader->node_id)
        victim = &m->members[victim == m->members ? 1 : 0];
    return asked(ACT_FIRST_CHANGE, victim->id);
}

static void play_rivals(void) {
    if (!come_to_four() || !calm(4000000) || !(stage.leader = server_leader()) || !first_change())
        return;
    if (!act_ends(ACT_SUCCESSOR, 2000000))
        return;
    sim_run_until(sim.now_us + 5000 + sim_rand(20000)); /* gateways hear who leads */
    if (!asked(ACT_SECOND_CHANGE, stage.remove))
        return;
    /* Until it is committed, or for long enough. */
    for (int i = 0;
         i < 100 && stage.other->node && node_commit_index(stage.other->node) < stage.index; i++)
        sim_run_until(sim.now_us + 2000);
    split(stage.side, 0);
    sim_run_until(sim.now_us + 300000 + sim_rand(1500000));
}

/* ---- rollback ----
 *
 * A follower takes two changes that it does not know to be committed, and the second one is cut off
 * again; the first one is in force then (M8). For that it must get both from a leader that has been
 * started again, and so knows of no commit itself, and the second one must be on no other disk. The
 * next leader must not know of the first one's commit either. */

/* Every node alone, but for those of one group. */
static void split_all(unsigned together) {
    fault_heal();
    for (int i = 1; i <= SERVERS_MAX; i++)
        if (!(together >> i & 1))
            split_off(i);
    sim_trace("only %x hear each other", together);
}

static bool has_entry(const struct server *s, uint64_t index, uint64_t term) {
    return s->node && memlog_term(node_memlog(s->node), index) == term;
}

static void rollback_watch(struct server *s) {
    struct membership m;
    const struct server *leader = stage.leader, *follower = stage.other;
    switch (stage.act) {
    case ACT_COMMITTED:
        if (s != leader)
            return;
        if (stage.index == 0)
            stage.index = open_change(s, &m);
        if (stage.index == 0 || node_commit_index(s->node) < stage.index)
            return;
        split_all(0);
        stage.act = ACT_ON_DISK;
        break;
    case ACT_ON_DISK:
        if (s != leader)
            return;
        uint64_t second = open_change(s, &m);
        if (second <= stage.index || !node_has_durable(s->node, second, node_term(s->node)))
            return;
        stage.index = second;
        stage.term = node_term(s->node);
        stage.act = ACT_AGAIN;
        break;
    case ACT_AGAIN:
        if (s != leader || !node_is_leader(s->node) || node_term(s->node) == stage.term)
            return;
        split_all(bit(leader) | bit(follower));
        stage.act = ACT_TAKEN;
        break;
    case ACT_TAKEN:
        if (!has_entry(follower, stage.index, stage.term))
            return;
        split_all(side_of(&stage.before) & ~(bit(leader) | bit(follower)));
        stage.act = ACT_ANOTHER;
        break;
    case ACT_ANOTHER:
        if (s == leader || s == follower || !node_is_leader(s->node))
            return;
        split_all(bit(s) | bit(follower));
        stage.act = ACT_CUT_OFF;
        break;
    default:
        if (!has_entry(follower, stage.index, stage.term))
            stage.act = ACT_DONE;
        break;
    }
}

/* The others are a majority without these two: a voter of five, or a learner. */
static struct server *some_follower(const struct server *leader) {
    const struct membership *m = &stage.before;
    struct server *can[MEMBERS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        struct server *s = server_at(m->members[i].address);
        if (s != leader && m->members[i].role != MEMBER_JOINING &&
            majority(m, ~(bit(leader) | bit(s))))
            can[count++] = s;
    }
    return count ? can[sim_rand(count)] : NULL;
}

static void play_rollback(void) {
    uint32_t voters = (uint32_t)sim.o.voters;
    stage_servers = voters == 3 ? 4 : 5;
    if (!members_come_to((uint32_t)stage_servers, voters, 5000000) || !calm(4000000) ||
        !(stage.leader = server_leader()))
        return;
    node_membership(stage.leader->node, &stage.before);
    stage.other = some_follower(stage.leader);
    if (!stage.other)
        return;
    split_off(stage.other->index);
    stage.index = 0;
    stage.act = ACT_COMMITTED;
    stage_servers++; /* it joins, and becomes a learner: two changes */
    if (!act_ends(ACT_COMMITTED, 2000000))
        return;
    stage_servers = STAGE_HANDS_OFF;
    if (!act_ends(ACT_ON_DISK, 500000) || !stage.leader->node)
        return;
    server_crash(stage.leader, sim_chance(500));
    sim_run_until(sim.now_us + sim_rand(30000));
    if (!stage.leader->node)
        server_start(stage.leader);
    /* Of the others only who is needed to elect it. */
    unsigned together = bit(stage.leader);
    for (uint32_t i = 0, at = (uint32_t)sim_rand(stage.before.count);
         i < stage.before.count && !majority(&stage.before, together); i++)
        together |= bit(server_at(stage.before.members[(at + i) % stage.before.count].address));
    split_all(together);
    if (!act_ends(ACT_AGAIN, 2000000) || !act_ends(ACT_TAKEN, 300000) ||
        !act_ends(ACT_ANOTHER, 2000000) || !act_ends(ACT_CUT_OFF, 300000))
        return;
    sim_trace("the second change is cut off");
    sim_run_until(sim.now_us + sim_rand(100000));
}

/* ---- overwrite ----
 *
 * A follower's disk is slow. What it is writing is overwritten in its log by the next leader, who
 * has only as many others that it needs this follower, too: it must count when the later write is
 * done, not when the earlier one is (G2). */

static uint64_t last_of_others(unsigned besides) {
    uint64_t last = 0;
    for (int i = 1; i <= SERVERS_MAX; i++)
        if (sim.servers[i].node && !(besides >> i & 1) &&
            node_memlog(sim.servers[i].node)->last_index > last)
            last = node_memlog(sim.servers[i].node)->last_index;
    return last;
}

static void overwrite_watch(struct server *s) {
    const struct server *follower = stage.other;
    switch (stage.act) {
    case ACT_ALONE:
        if (s != follower || node_memlog(s->node)->last_index <= stage.index)
            return;
        split_all(side_of(&stage.before) & ~(bit(stage.leader) | bit(follower)));
        stage.act = ACT_WITHOUT;
        break;
    case ACT_WITHOUT:
        if (s == stage.leader || s == follower || !node_is_leader(s->node))
            return;
        stage.side = bit(s) | bit(follower);
        for (uint32_t i = 0; !majority(&stage.before, stage.side); i++)
            if (stage.before.members[i].id != stage.leader->node_id)
                stage.side |= bit(server_at(stage.before.members[i].address));
        split_all(stage.side);
        stage.leader = s;
        stage.act = ACT_OVER;
        break;
    default:
        if (s == stage.leader && node_commit_index(s->node) > stage.index)
            stage.act = ACT_DONE;
        break;
    }
}

static void play_overwrite(void) {
    stage_servers = 5;
    if (!members_come_to(5, 5, 5000000) || !(stage.leader = server_leader()))
        return;
    node_membership(stage.leader->node, &stage.before);
    if (!(stage.other = some_follower(stage.leader)))
        return;
    sim.quiet = false;
    sim_run_until(sim.now_us + 50000);
    if (!stage.leader->node || !stage.other->node)
        return;
    stage.other->disk_slow_us = 300000 + sim_rand(500000);
    unsigned two = bit(stage.leader) | bit(stage.other);
    stage.index = last_of_others(two);
    split(two, 0);
    stage.act = ACT_ALONE;
    if (act_ends(ACT_ALONE, 200000) && act_ends(ACT_WITHOUT, 1000000))
        (void)act_ends(ACT_OVER, 2000000);
    stage.other->disk_slow_us = 0;
}

/* ---- estranged ----
 *
 * A voter stands for election and loses all others before they have its requests, so that its term
 * grows, unheard of. The rest commits more without it; then as many of the rest die as the others
 * must bear, and it comes back, having been started again. What remains can only be led by who has
 * the entries that it lacks, and only with its vote: it must tell that one its term (G4). */

static bool knows_more(const struct server *s, const struct server *than) {
    const struct memlog *a = node_memlog(s->node), *b = node_memlog(than->node);
    return node_commit_index(s->node) > b->last_index &&
           memlog_term(a, a->last_index) >= memlog_term(b, b->last_index);
}

static void estranged_watch(struct server *s) {
    switch (stage.act) {
    case ACT_STANDS:
        if (s == stage.leader || node_term(s->node) <= stage.term)
            return;
        split_all(0);
        stage.other = s;
        stage.act = ACT_REST;
        break;
    default:
        /* Two terms ahead: asked for a pre-vote of the next term, it calls that an old one. */
        if (s == stage.other || !stage.other->node || !node_is_leader(s->node) ||
            !knows_more(s, stage.other) || node_term(stage.other->node) < node_term(s->node) + 2)
            return;
        stage.leader = s;
        stage.act = ACT_DONE;
        break;
    }
}

/* Of the voters as many as a majority can do without; neither of the two. */
static void minority_dies(const struct membership *m) {
    uint32_t dead = 0;
    for (uint32_t i = 0, at = (uint32_t)sim_rand(m->count); i < m->count; i++) {
        struct server *s = server_at(m->members[(at + i) % m->count].address);
        if (s == stage.leader || s == stage.other || dead == membership_voters(m) / 2)
            continue;
        server_crash(s, sim_chance(500));
        s->dead_for_good = true;
        sim_trace("s%d stays down", s->index);
        dead++;
    }
    sim.minority_down = true;
}

static void play_estranged(void) {
    uint32_t voters = (uint32_t)sim.o.voters;
    stage_servers = sim.o.voters;
    if (sim.minority_down || !members_come_to(voters, voters, 5000000) ||
        !(stage.leader = server_leader()))
        return;
    node_membership(stage.leader->node, &stage.before);
    unsigned all = side_of(&stage.before);
    stage.term = node_term(stage.leader->node);
    stage.act = ACT_STANDS;
    split_all(all & ~bit(stage.leader));
    if (!act_ends(ACT_STANDS, 2000000))
        return;
    sim_run_until(sim.now_us + sim_rand(200000));
    sim.quiet = false;
    split_all(all & ~bit(stage.other));
    if (!act_ends(ACT_REST, 5000000))
        return;
    server_crash(stage.other, sim_chance(500));
    minority_dies(&stage.before);
    for (int i = 0; i < 100 && stage.leader->node && node_is_leader(stage.leader->node); i++)
        sim_run_until(sim.now_us + 10000);
    sim_run_until(sim.now_us + sim_rand(100000));
    server_start(stage.other);
}

/* ---- */

int stage_servers;

static enum play play_of_seed(uint64_t seed) {
    static const enum play plays[] = {PLAY_ROLLBACK, PLAY_RIVALS, PLAY_OVERWRITE};
    if (seed % 16 == 6)
        return plays[seed / 16 % ARRAY_COUNT(plays)];
    return seed % 64 == 42 ? PLAY_ESTRANGED : PLAY_NONE;
}

void stage_choose(const struct sim_options *base) {
    stage_servers = 0;
    memset(&stage, 0, sizeof stage);
    sim.o.play = PLAY_NONE;
    /* Seeds of their own: the runs of all others stay what they were. */
    if (!base->hot || !base->partition || base->voters != 0)
        return;
    sim.o.play = play_of_seed(sim.seed);
    if (sim.o.play == PLAY_NONE)
        return;
    bool may_be_three = sim.o.play == PLAY_ROLLBACK || sim.o.play == PLAY_ESTRANGED;
    sim.o.voters = !may_be_three || sim_chance(500) ? 5 : 3;
    sim.o.hot = sim.o.churn = sim.o.replace = sim.o.early = sim.o.damage = false;
    sim.o.duration_ms = 300;
}

void stage_watch(struct server *s) {
    if (stage.act <= ACT_DONE)
        return;
    if (stage.act >= ACT_STANDS)
        estranged_watch(s);
    else if (stage.act >= ACT_ALONE)
        overwrite_watch(s);
    else if (stage.act >= ACT_COMMITTED)
        rollback_watch(s);
    else
        rivals_watch(s);
}

void stage_play(void) {
    for (int plays = sim_chance(300) ? 2 : 1; plays > 0; plays--) {
        sim_trace("a play begins");
        sim.quiet = true; /* an idle cluster; and such runs must not take longer than others */
        if (sim.o.play == PLAY_RIVALS)
            play_rivals();
        else if (sim.o.play == PLAY_ROLLBACK)
            play_rollback();
        else if (sim.o.play == PLAY_OVERWRITE)
            play_overwrite();
        else
            play_estranged();
        stage.act = ACT_NONE;
        sim.quiet = true;
        sim_trace("a play ends");
        fault_heal();
        stage_servers = 0;
        for (int i = 0; i < 100 && voters_now() != (uint32_t)sim.o.voters; i++)
            sim_run_until(sim.now_us + 50000);
    }
    sim.quiet = false;
}
