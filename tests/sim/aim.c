/* Faults aimed at moments: a vote is asked for or given, a snapshot is announced. Faults that come
 * at any time rarely meet these, and what happens between two messages of an election decides what
 * its terms and logs look like.
 *
 *   net_peer_send() -> aim_at_message() -> strike(), a little later
 */
#include <stdlib.h>

#include "sim.h"

enum strike {
    STRIKE_CUT_THERE, /* what goes the same way as the message is lost for a while */
    STRIKE_CUT_BACK,  /* the answers are */
    STRIKE_EXILE,     /* the sender loses all other nodes for a while */
    STRIKE_PAUSE,     /* the sender stands still for a while */
    STRIKE_CRASH,     /* the sender does, or the receiver */
    STRIKE_HANDOVER,  /* the leader hands over, and the next one perhaps back */
    STRIKES
};

struct aimed {
    enum strike strike;
    int from, to;
};

static void mend(void *arg, uint64_t number) {
    const struct aimed *a = arg;
    for (int i = 1; i <= SERVERS_MAX; i++) {
        if (a->strike == STRIKE_EXILE)
            sim.cut[a->from][i] = sim.cut[i][a->from] = false;
    }
    if (a->strike == STRIKE_CUT_THERE)
        sim.cut[a->from][a->to] = false;
    if (a->strike == STRIKE_CUT_BACK)
        sim.cut[a->to][a->from] = false;
    free(arg);
}

static void strike(void *arg, uint64_t number) {
    struct aimed *a = arg;
    struct server *from = &sim.servers[a->from];
    if (!sim.faults) {
        free(a);
        return;
    }
    sim_trace("aimed at s%d, s%d: %d", a->from, a->to, (int)a->strike);
    switch (a->strike) {
    case STRIKE_CUT_THERE:
        sim.cut[a->from][a->to] = true;
        break;
    case STRIKE_CUT_BACK:
        sim.cut[a->to][a->from] = true;
        break;
    case STRIKE_EXILE:
        for (int i = 1; i <= SERVERS_MAX; i++)
            sim.cut[a->from][i] = sim.cut[i][a->from] = true;
        break;
    case STRIKE_PAUSE:
        if (sim.o.pause && from->node)
            server_pause(from, sim_rand(400000));
        break;
    case STRIKE_HANDOVER:
        fault_hand_over();
        break;
    default:
        if (sim.o.crash)
            server_crash(sim_chance(600) ? from : &sim.servers[a->to],
                         sim.o.power && sim_chance(400));
        break;
    }
    static const uint64_t longest_us[] = {50000, 400000, 900000};
    if (a->strike == STRIKE_HANDOVER && sim_chance(700)) {
        sim_at_owned(sim.now_us + 5000 + sim_rand(200000), strike, a, 0);
        return;
    }
    sim_at_owned(sim.now_us + 20000 + sim_rand(longest_us[sim_rand(3)]), mend, a, 0);
}

void aim_at_message(const struct server *from, const struct server *to, uint8_t type) {
    bool vote = type == WIRE_VOTE || type == WIRE_VOTE_RESULT, install = type == WIRE_INSTALL;
    if (!sim.faults || !sim.o.aim || (!vote && !install) || !sim_chance(vote ? 80 : 500))
        return;
    struct aimed a = {.from = from->index, .to = to->index};
    a.strike = (enum strike)sim_rand(STRIKES);
    if (install)
        a.strike = sim_chance(600) ? STRIKE_HANDOVER : STRIKE_EXILE;
    if ((a.strike == STRIKE_EXILE && !sim.o.isolate) ||
        (a.strike <= STRIKE_CUT_BACK && !sim.o.partition))
        return;
    sim_at_owned(sim.now_us + sim_rand(install ? 30000 : 700), strike, xmemdup(&a, sizeof a), 0);
}
