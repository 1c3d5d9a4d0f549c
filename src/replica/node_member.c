/* Membership: joining, promotion, removal, one change at a time (ENGINE rules M2 to M7;
 * docs/replication.md).
 *
 *   NODE.JOIN -> NODE.ALLOC (a fresh id, through the log) -> joining -> learner -> catch-up ->
 * voter
 *
 * The leader looks every NODE_MEMBERS_EVERY_MS whether a change is due and allowed, and proposes at
 * most one. */

#include <stdio.h>

#include "base/reply.h"
#include "replica/node_internal.h"

bool node_peer_alive(struct node *n, uint64_t id, uint64_t within_ms) {
    if (id == n->o.id)
        return true;
    const struct peer *p = node_peer(n, id);
    return p && p->heard_ms != 0 && node_now(n) - p->heard_ms <= within_ms;
}

/* ---- rules ---- */

/* M3: an own-term barrier committed and applied, the previous change applied, nothing else going
 * on. */
static bool change_possible(const struct node *n) {
    if (n->state != NODE_RUNNING || !n->leading || core_role(n->core) != CORE_LEADER ||
        n->handover_to != 0 || core_transferring(n->core) || n->restart_wanted ||
        n->hold_index != 0 || n->install)
        return false;
    if (core_membership_uncommitted_index(n->core) != 0 || core_catch_up_running(n->core))
        return false;
    if (PLANTED(PLANT_M3_NO_BARRIER))
        return true;
    return n->barrier_index != 0 && n->core_applied >= n->barrier_index &&
           n->core_applied >= n->commit_index;
}

/* M4: voters of both memberships that have the last change, and were heard of lately, must form a
 * majority of each: what is left could otherwise never commit the change that made it so. A first
 * promotion, from one voter to two, is held instead (M5); taking out one of an even number needs
 * the majority of what stays. */
static bool change_settled(struct node *n, const struct membership *now,
                           const struct membership *next) {
    if (PLANTED(PLANT_M4_NO_SETTLE))
        return true;
    uint32_t have = 0, now_voters = membership_voters(now), next_voters = membership_voters(next);
    uint32_t now_majority = now_voters / 2 + 1, next_majority = next_voters / 2 + 1;
    for (uint32_t i = 0; i < now->count; i++)
        if (now->members[i].role == MEMBER_VOTER && membership_is_voter(next, now->members[i].id) &&
            core_match_index(n->core, now->members[i].id) >= n->change_index &&
            node_peer_alive(n, now->members[i].id, NODE_ALIVE_MS))
            have++;
    if (now_voters == 1 && next_voters == 2)
        next_majority = 1;
    if (have < next_majority)
        return false;
    return have >= now_majority || now_voters == next_voters + 1;
}

static bool propose_membership(struct node *n, const struct membership *now,
                               const struct membership *next) {
    if (!change_settled(n, now, next))
        return false;
    struct buf body = {0};
    membership_encode(next, &body);
    bool ok = node_propose(n, CORE_MEMBERSHIP, buf_slice(&body));
    buf_fini(&body);
    return ok;
}

static bool propose_role(struct node *n, const struct membership *now, uint64_t id,
                         enum member_role role) {
    struct membership next = *now;
    for (uint32_t i = 0; i < next.count; i++)
        if (next.members[i].id == id)
            next.members[i].role = role;
    if (!propose_membership(n, now, &next))
        return false;
    log_info("membership-change", "node=%llu member=%llu role=%d", (unsigned long long)n->o.id,
             (unsigned long long)id, (int)role);
    return true;
}

/* Never below two voters while running; going back to one node is an offline operation. */
bool node_removal_allowed(const struct membership *now, uint64_t id) {
    return !membership_is_voter(now, id) || membership_voters(now) > 2;
}

static bool propose_removal(struct node *n, const struct membership *now, uint64_t id) {
    if (!node_removal_allowed(now, id))
        return false;
    struct membership next = {0};
    for (uint32_t i = 0; i < now->count; i++)
        if (now->members[i].id != id)
            next.members[next.count++] = now->members[i];
    if (id == n->o.id && !PLANTED(PLANT_M7_SELF_REMOVE)) {
        if (!change_settled(n, now, &next))
            return false;
        /* M7: a leader hands over first; its successor removes it. */
        return node_transfer(n, 0) == NODE_TRANSFER_BEGUN;
    }
    log_info("membership-change", "node=%llu member=%llu role=removed", (unsigned long long)n->o.id,
             (unsigned long long)id);
    return propose_membership(n, now, &next);
}

/* ---- joins and removals that somebody waits for (node_admin.c) ---- */

void node_join_allocated(struct node *n, uint64_t tag, struct slice reply) {
    LIST_FOREACH (it, &n->joins) {
        struct join *j = LIST_ENTRY(it, struct join, node);
        struct reply_item item;
        if (j->stage != JOIN_WAITS_ID || j->tag != tag)
            continue;
        if (reply_next(&reply, &item) && item.type == ':' && item.integer > 0) {
            j->id = (uint64_t)item.integer;
            j->stage = JOIN_WAITS_CHANGE;
        }
        return;
    }
}

const struct member *node_member_at(const struct membership *m, const char *address) {
    for (uint32_t i = 0; i < m->count; i++)
        if (strcmp(m->members[i].address, address) == 0)
            return &m->members[i];
    return NULL;
}

/* Lets a learner catch up, then makes it a voter. */
static bool promote(struct node *n, const struct membership *now, uint64_t id) {
    if (core_catch_up_state(n->core, id) == CORE_CATCH_UP_FINISHED)
        return propose_role(n, now, id, MEMBER_VOTER);
    struct core_update u;
    int rc = core_catch_up(n->core, node_now(n), id, &u);
    /* The library looks at a round only when the learner's log grows: give it something to grow
     * by. */
    if (node_carry_out(n, rc > 0 ? 0 : rc, &u))
        node_propose(n, CORE_BARRIER, slice_of(NULL, 0));
    return true;
}

static bool promotion_step(struct node *n, const struct membership *now, struct join *j) {
    const struct member *m = membership_find(now, j->id);
    if (!m)
        node_join_answer(n, j, LINK_REFUSED, "ERR the node was removed meanwhile");
    else if (m->role == MEMBER_VOTER)
        node_join_answer(n, j, LINK_OK, NULL);
    else if (j->begun && core_catch_up_state(n->core, j->id) == CORE_CATCH_UP_ABORTED)
        node_join_answer(n, j, LINK_REFUSED,
                         "ERR the node does not catch up: look at its LAG in cotidal status, and "
                         "ask again when it is small");
    else if (m->role == MEMBER_LEARNER) {
        j->begun = true;
        return promote(n, now, j->id);
    }
    return false;
}

/* Works on the first operation that can go on. True when it did something, so that nothing else is
 * proposed. */
static bool join_step(struct node *n, const struct membership *now, struct join *j) {
    if (j->stage == JOIN_TRANSFER)
        return false;
    if (j->stage == JOIN_PROMOTION)
        return promotion_step(n, now, j);
    if (j->stage == JOIN_REMOVAL) {
        if (!membership_find(now, j->id)) {
            node_join_answer(n, j, LINK_OK, NULL);
            return false;
        }
        return propose_removal(n, now, j->id);
    }
    if (j->stage != JOIN_WAITS_CHANGE)
        return false;
    if (membership_find(now, j->id)) {
        node_join_answer(n, j, LINK_OK, NULL);
        return false;
    }
    /* M2: whoever comes back without its disk is a new node; its earlier self is taken out first
     * (M6). */
    const struct member *earlier = node_member_at(now, j->address);
    if (earlier && PLANTED(PLANT_M2_REUSED_ID)) {
        j->id = earlier->id;
        node_join_answer(n, j, LINK_OK, NULL);
        return false;
    }
    if (earlier)
        return propose_removal(n, now, earlier->id);
    if (now->count >= MEMBERS_MAX)
        return false;
    struct membership next = *now;
    struct member *m = &next.members[next.count++];
    *m = (struct member){.id = j->id, .role = MEMBER_JOINING};
    memcpy(m->address, j->address, sizeof m->address);
    log_info("membership-change", "node=%llu member=%llu role=joining address=%s",
             (unsigned long long)n->o.id, (unsigned long long)j->id,
             log_quote(slice_str(j->address)));
    return propose_membership(n, now, &next);
}

/* ---- addresses ---- */

/* The record of a member that has moved follows, unless another one still has that address. */
static bool address_step(struct node *n, const struct membership *now) {
    for (uint32_t i = 0; i < now->count; i++) {
        const struct member *m = &now->members[i];
        const struct peer *p = node_peer(n, m->id);
        const char *said = m->id == n->o.id ? n->o.peer_address : p ? p->said : "";
        if (*said == 0 || strcmp(said, m->address) == 0 || node_member_at(now, said))
            continue;
        struct membership next = *now;
        memset(next.members[i].address, 0, sizeof next.members[i].address);
        snprintf(next.members[i].address, sizeof next.members[i].address, "%s", said);
        log_info("membership-change", "node=%llu member=%llu address=%s",
                 (unsigned long long)n->o.id, (unsigned long long)m->id,
                 log_quote(slice_str(said)));
        return propose_membership(n, now, &next);
    }
    return false;
}

/* ---- promotion and replacement ---- */

/* An odd number of voters up to the limit, two only when there are just two nodes. */
static uint32_t voters_wanted(struct node *n, const struct membership *now,
                              uint32_t *ret_learners) {
    uint32_t alive = membership_voters(now);
    *ret_learners = 0;
    for (uint32_t i = 0; i < now->count; i++)
        if (now->members[i].role == MEMBER_LEARNER &&
            node_peer_alive(n, now->members[i].id, NODE_ALIVE_MS))
            ++*ret_learners;
    alive += *ret_learners;
    if (alive > n->o.voters_max)
        alive = n->o.voters_max;
    return alive > 2 && alive % 2 == 0 ? alive - 1 : alive;
}

static bool promote_step(struct node *n, const struct membership *now) {
    uint32_t learners, voters = membership_voters(now);
    uint32_t wanted = voters_wanted(n, now, &learners);
    if (voters >= wanted || learners == 0) {
        n->pair_since_ms = 0;
        return false;
    }
    if (voters == 1 && wanted == 2) {
        /* With two voters the loss of either stops writes: give a third node some time to come. */
        if (n->pair_since_ms == 0)
            n->pair_since_ms = node_now(n);
        if (node_now(n) - n->pair_since_ms < n->o.pair_grace_ms)
            return false;
    }
    /* The one that is furthest: another may be alive and yet not come along. */
    const struct member *best = NULL;
    for (uint32_t i = 0; i < now->count; i++) {
        const struct member *m = &now->members[i];
        if (m->role == MEMBER_LEARNER && node_peer_alive(n, m->id, NODE_ALIVE_MS) &&
            (!best || core_match_index(n->core, m->id) > core_match_index(n->core, best->id)))
            best = m;
    }
    return best && promote(n, now, best->id);
}

static bool replace_step(struct node *n, const struct membership *now) {
    if (n->o.replace_after_ms == 0)
        return false;
    uint32_t learners;
    voters_wanted(n, now, &learners);
    if (learners == 0 || node_now(n) < n->leading_since_ms + n->o.replace_after_ms)
        return false;
    if (PLANTED(PLANT_M6_ADD_FIRST))
        for (uint32_t i = 0; i < now->count; i++)
            if (now->members[i].role == MEMBER_LEARNER)
                return propose_role(n, now, now->members[i].id, MEMBER_VOTER);
    for (uint32_t i = 0; i < now->count; i++)
        if (now->members[i].role == MEMBER_VOTER &&
            !node_peer_alive(n, now->members[i].id, n->o.replace_after_ms))
            return propose_removal(n, now, now->members[i].id);
    return false;
}

void node_member_tick(struct node *n) {
    node_joins_tick(n);
    if (!node_running(n) || !change_possible(n))
        return;
    struct membership now;
    core_membership(n->core, &now);
    if (address_step(n, &now))
        return;
    LIST_FOREACH_SAFE (it, &n->joins) {
        if (join_step(n, &now, LIST_ENTRY(it, struct join, node)))
            return;
    }
    for (uint32_t i = 0; i < now.count; i++)
        if (now.members[i].role == MEMBER_JOINING) {
            propose_role(n, &now, now.members[i].id, MEMBER_LEARNER);
            return;
        }
    if (!replace_step(n, &now))
        promote_step(n, &now);
}

void node_member_applied(struct node *n, uint64_t index) {
    n->change_index = index;
    n->members_version++;
    node_sync_peers(n);
    struct membership m;
    node_membership(n, &m);
    const struct member *self = membership_find(&m, n->o.id);
    log_info("membership", "node=%llu index=%llu members=%u voters=%u self=%s",
             (unsigned long long)n->o.id, (unsigned long long)index, m.count, membership_voters(&m),
             !self                          ? "none"
             : self->role == MEMBER_VOTER   ? "voter"
             : self->role == MEMBER_LEARNER ? "learner"
                                            : "joining");
    n->members_at_ms = n->status_at_ms = node_now(n);
}
