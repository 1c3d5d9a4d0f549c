/* Handing leadership over: on request, when a leader stops, before a leader is removed (M7).
 *
 *   asked -> waiting: no write is taken, what was proposed is finished -> asked to take over ->
 * lost |                                                            |
 *              +------ the time is over, or the target did not come --------+--> we go on leading
 *
 * The target is told (Raft dissertation, section 3.10) only when everything that was proposed is
 * committed, applied and on its disk: then nobody's answer depends on what comes next, and its
 * election needs one round of messages. Until then writes are refused with NOT_LEADER, so that
 * gateways keep them for the next leader. */
#include "replica/node_internal.h"

static bool handover_target(struct node *n, const struct membership *m, uint64_t id) {
    const struct peer *p = node_peer(n, id);
    return id != n->o.id && membership_is_voter(m, id) && p && p->heard_ms != 0 &&
           node_now(n) - p->heard_ms <= NODE_ALIVE_MS;
}

static bool close_behind(const struct node *n, uint64_t id) {
    return core_match_index(n->core, id) + n->o.entries_inflight >= n->memlog.last_index;
}

/* The live voter that has most of our log; one that was tried in vain only when there is no other.
 * 0: none. */
static uint64_t best_target(struct node *n, const struct membership *m) {
    uint64_t best = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        uint64_t id = m->members[i].id;
        if (!handover_target(n, m, id))
            continue;
        bool tried = id == n->handover_tried, best_tried = best == n->handover_tried;
        if (best == 0 || (best_tried && !tried) ||
            (best_tried == tried &&
             core_match_index(n->core, id) > core_match_index(n->core, best)))
            best = id;
    }
    return best;
}

enum node_transfer node_transfer(struct node *n, uint64_t id) {
    struct membership m;
    if (!node_is_leader(n) || core_role(n->core) != CORE_LEADER)
        return NODE_TRANSFER_NOT_LEADER;
    /* M3: never beside another change of who decides. Without an own entry committed we do not know
     * what was committed before. */
    if (n->handover_to != 0 || n->restart_wanted || n->hold_index != 0 || n->install ||
        core_transferring(n->core) || core_membership_uncommitted_index(n->core) != 0 ||
        core_catch_up_running(n->core) || n->barrier_index == 0 ||
        n->core_applied < n->barrier_index)
        return NODE_TRANSFER_BUSY;
    core_membership(n->core, &m);
    if (id == 0)
        id = best_target(n, &m);
    if (id == 0 || !handover_target(n, &m, id))
        return NODE_TRANSFER_NO_TARGET;
    if (!close_behind(n, id))
        return NODE_TRANSFER_BEHIND;
    n->handover_to = id;
    n->handover_term = core_term(n->core);
    n->handover_sent = false;
    n->handover_deadline_ms = node_now(n) + 2 * n->o.election_timeout_ms;
    log_info("handover", "node=%llu to=%llu term=%llu", (unsigned long long)n->o.id,
             (unsigned long long)id, (unsigned long long)n->handover_term);
    node_handover_turn(n);
    return NODE_TRANSFER_BEGUN;
}

static bool everything_finished(const struct node *n) {
    uint64_t last = n->memlog.last_index;
    return n->batch_groups == 0 && list_empty(&n->sealed) && n->commit_index >= last &&
           n->core_applied >= last && core_match_index(n->core, n->handover_to) >= last;
}

void node_handover_turn(struct node *n) {
    if (n->handover_to == 0)
        return;
    bool leading = node_is_leader(n) && core_role(n->core) == CORE_LEADER &&
                   core_term(n->core) == n->handover_term;
    if (!leading) {
        n->handover_to = n->handover_tried = 0;
        n->handover_sent = false;
        return;
    }
    /* The core itself takes leadership back after an election timeout. */
    bool refused = n->handover_sent && !core_transferring(n->core);
    if (refused || node_now(n) >= n->handover_deadline_ms) {
        if (core_transferring(n->core))
            return;
        log_warn("handover-failed", "node=%llu to=%llu asked=%s", (unsigned long long)n->o.id,
                 (unsigned long long)n->handover_to, n->handover_sent ? "yes" : "no");
        n->handover_tried = n->handover_to;
        n->handover_to = 0;
        n->handover_sent = false;
        return;
    }
    if (n->handover_sent || n->restart_wanted || !everything_finished(n))
        return;
    struct core_update u;
    n->handover_sent = true;
    int rc = core_transfer(n->core, node_now(n), n->handover_to, &u);
    node_carry_out(n, rc > 0 ? 0 : rc, &u);
}
