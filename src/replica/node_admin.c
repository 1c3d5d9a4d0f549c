/* ADMIN frames: what is asked about a node, and the changes of members that somebody waits for.
 *
 *   NODE.STATUS | NODE.TIME            answered by any node, at once
 *   NODE.JOIN address                  the leader; answered when the member stands in the log
 *   NODE.REMOVE id                     the leader; answered when it is none any more
 *   NODE.PROMOTE id                    the leader; answered when the learner votes
 *   NODE.TRANSFER to from              whoever leads: answered when `to` leads, or (to = 0) when
 *                                      `from` does not. So it may be asked again of the next one.
 *
 * A leader that loses its leadership sends all that wait to the next one: with NOT_LEADER those
 * that wanted just that, with UNAVAILABLE the others, since their change may be in the log already.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reply.h"
#include "replica/node_internal.h"

/* ---- answers ---- */

static void join_free(struct node *n, struct join *j) {
    list_remove(&j->node);
    n->join_count--;
    free(j);
}

void node_join_answer(struct node *n, struct join *j, enum link_status status, const char *error) {
    struct buf reply = {0};
    if (error) {
        reply_error(&reply, "%s", error);
    } else if (j->stage == JOIN_REMOVAL || j->stage == JOIN_PROMOTION) {
        reply_simple(&reply, "OK");
    } else if (j->stage == JOIN_TRANSFER) {
        reply_map(&reply, 1);
        reply_bulk_str(&reply, "leader");
        reply_int(&reply, (int64_t)node_leader_id(n));
    } else {
        reply_map(&reply, 2);
        reply_bulk_str(&reply, "id");
        reply_int(&reply, (int64_t)j->id);
        reply_bulk_str(&reply, "cluster");
        reply_bulk(&reply, slice_of(n->o.cluster_id, sizeof n->o.cluster_id));
    }
    link_reply(j->link, j->reply_id, LINK_KIND_READ, status, 0, buf_slice(&reply));
    buf_fini(&reply);
    join_free(n, j);
}

void node_joins_fail(struct node *n, struct node_link *l) {
    LIST_FOREACH_SAFE (it, &n->joins) {
        struct join *j = LIST_ENTRY(it, struct join, node);
        if (l == NULL) {
            node_join_answer(n, j, j->stage == JOIN_TRANSFER ? LINK_NOT_LEADER : LINK_UNAVAILABLE,
                             NULL);
        } else if (j->link == l) {
            join_free(n, j);
        }
    }
}

static void transfer_failed(struct node *n, struct join *j) {
    char text[128];
    snprintf(text, sizeof text, "ERR %s %llu did not take over in time; node %llu leads",
             j->id ? "node" : "no other voter than", (unsigned long long)(j->id ? j->id : n->o.id),
             (unsigned long long)n->o.id);
    node_join_answer(n, j, LINK_REFUSED, text);
}

/* The first failed attempt of one that was named is the answer; without a name others are tried. */
static void transfer_step(struct node *n, struct join *j) {
    if (n->handover_to != 0)
        return;
    if (j->begun && j->id != 0) {
        transfer_failed(n, j);
        return;
    }
    switch (node_transfer(n, j->id)) {
    case NODE_TRANSFER_BEGUN:
        j->begun = true;
        break;
    case NODE_TRANSFER_NO_TARGET:
        node_join_answer(n, j, LINK_REFUSED,
                         "ERR there is no other voter that answers, or it is not the one named");
        break;
    case NODE_TRANSFER_BEHIND:
        node_join_answer(n, j, LINK_REFUSED,
                         "ERR the node is too far behind to lead; ask again when it has caught up");
        break;
    case NODE_TRANSFER_NOT_LEADER:
    case NODE_TRANSFER_BUSY:
        break; /* asked again until the time is over */
    }
}

void node_joins_tick(struct node *n) {
    LIST_FOREACH_SAFE (it, &n->joins) {
        struct join *j = LIST_ENTRY(it, struct join, node);
        bool over = node_now(n) >= j->deadline_ms;
        if (over && j->stage == JOIN_TRANSFER)
            transfer_failed(n, j);
        else if (over && j->stage == JOIN_PROMOTION)
            node_join_answer(n, j, LINK_REFUSED,
                             "ERR the node did not become a voter in time: it has not caught up, "
                             "or a majority of the voters does not answer");
        else if (over)
            node_join_answer(n, j, LINK_UNAVAILABLE, NULL);
        else if (j->stage == JOIN_TRANSFER)
            transfer_step(n, j);
    }
}

/* ---- requests ---- */

static void admin_answer(struct node_link *l, uint64_t id, enum link_status status,
                         struct buf *reply) {
    link_reply(l, id, LINK_KIND_READ, status, 0, buf_slice(reply));
}

static void check_join(struct node *n, const struct membership *now, struct join *j,
                       struct slice address, struct buf *reply) {
    j->stage = JOIN_WAITS_ID;
    if (address.size == 0 || address.size >= sizeof j->address) {
        reply_error(reply, "ERR the address is empty or too long");
        return;
    }
    memcpy(j->address, address.data, address.size);
    const struct member *there = node_member_at(now, j->address);
    if (there && node_peer_alive(n, there->id, NODE_ALIVE_MS))
        reply_error(reply, "ERR node %llu answers at this address already",
                    (unsigned long long)there->id);
    else if (there && !node_removal_allowed(now, there->id))
        reply_error(reply,
                    "ERR node %llu had this address and cannot be removed: it is one of two "
                    "voters. Restart it with its data",
                    (unsigned long long)there->id);
}

/* This, and the next two: false when it is as it should be already. */
static bool check_removal(struct node *n, const struct membership *now, struct join *j,
                          struct slice id, struct buf *reply) {
    j->stage = JOIN_REMOVAL;
    bool number = num_parse_u64(id, &j->id);
    if (number && !membership_find(now, j->id) && store_knows_node_id(n->store, j->id))
        return false; /* removed before */
    if (!number || !membership_find(now, j->id))
        reply_error(reply, "ERR no such node");
    else if (!node_removal_allowed(now, j->id))
        reply_error(reply, "ERR two voters must stay: add a node first");
    return true;
}

static bool check_promotion(struct node *n, const struct membership *now, struct join *j,
                            struct slice id, struct buf *reply) {
    j->stage = JOIN_PROMOTION;
    /* Shorter than what gateways wait, so that the reason arrives. */
    j->deadline_ms = node_now(n) + NODE_TRANSFER_TIMEOUT_MS;
    if (!num_parse_u64(id, &j->id) || !membership_find(now, j->id))
        reply_error(reply, "ERR no such node");
    else if (membership_is_voter(now, j->id))
        return false;
    else if (membership_voters(now) >= n->o.voters_max)
        reply_error(reply, "ERR there are %u voters, the most there may be: remove one first",
                    (unsigned)membership_voters(now));
    else if (!node_peer_alive(n, j->id, NODE_ALIVE_MS))
        reply_error(reply, "ERR node %llu does not answer", (unsigned long long)j->id);
    return true;
}

static bool check_transfer(struct node *n, const struct membership *now, struct join *j,
                           struct slice to, struct slice from, struct buf *reply) {
    uint64_t away;
    j->stage = JOIN_TRANSFER;
    j->deadline_ms = node_now(n) + NODE_TRANSFER_TIMEOUT_MS;
    if (!num_parse_u64(to, &j->id) || !num_parse_u64(from, &away) ||
        (j->id != 0 && !membership_find(now, j->id))) {
        reply_error(reply, "ERR no such node");
    } else if (j->id == n->o.id || (j->id == 0 && away != n->o.id)) {
        return false;
    } else if (j->id != 0 && !membership_is_voter(now, j->id)) {
        reply_error(reply, "ERR node %llu does not vote, so it cannot lead",
                    (unsigned long long)j->id);
    } else if (j->id != 0 && !node_peer_alive(n, j->id, NODE_ALIVE_MS)) {
        reply_error(reply, "ERR node %llu does not answer", (unsigned long long)j->id);
    }
    return true;
}

static void admin_queue(struct node *n, struct node_link *l, uint64_t id, enum join_stage stage,
                        struct buf *reply) {
    if (n->join_count >= NODE_JOINS_MAX) {
        reply_error(reply, "BUSY too many membership requests at once");
        admin_answer(l, id, LINK_REFUSED, reply);
        return;
    }
    struct join *j = xcalloc(1, sizeof *j);
    list_init(&j->node);
    j->link = l;
    j->reply_id = id;
    j->deadline_ms = node_now(n) + NODE_JOIN_TIMEOUT_MS;
    struct membership now;
    node_membership(n, &now);
    struct slice operand = n->argv.args[1];
    bool wanted = true;
    if (stage == JOIN_WAITS_ID)
        check_join(n, &now, j, operand, reply);
    else if (stage == JOIN_REMOVAL)
        wanted = check_removal(n, &now, j, operand, reply);
    else if (stage == JOIN_PROMOTION)
        wanted = check_promotion(n, &now, j, operand, reply);
    else
        wanted = check_transfer(n, &now, j, operand, n->argv.args[2], reply);
    if (reply->size > 0) {
        admin_answer(l, id, LINK_REFUSED, reply);
        free(j);
        return;
    }
    list_push_back(&n->joins, &j->node);
    n->join_count++;
    if (!wanted) {
        node_join_answer(n, j, LINK_OK, NULL);
    } else if (stage == JOIN_WAITS_ID) {
        struct buf argv = {0};
        argv_append_strs(&argv, "NODE.ALLOC", NULL);
        j->tag = n->tag_next++;
        node_propose_own(n, j->tag, buf_slice(&argv));
        buf_fini(&argv);
    } else {
        n->members_at_ms = node_now(n); /* at once */
    }
}

static const struct {
    const char *name;
    uint32_t words;
    enum join_stage stage;
} changes[] = {
    {"NODE.JOIN", 2, JOIN_WAITS_ID},
    {"NODE.REMOVE", 2, JOIN_REMOVAL},
    {"NODE.PROMOTE", 2, JOIN_PROMOTION},
    {"NODE.TRANSFER", 3, JOIN_TRANSFER},
};

void node_admin(struct node *n, struct node_link *l, uint64_t id, struct slice packed_argv) {
    struct buf reply = {0};
    enum link_status status = LINK_OK;
    if (!argv_unpack(&n->argv, packed_argv)) {
        reply_error(&reply, "ERR malformed request");
        admin_answer(l, id, LINK_REFUSED, &reply);
        buf_fini(&reply);
        return;
    }
    struct slice name = n->argv.args[0];
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        if (!slice_equal_nocase(name, changes[i].name) || n->argv.count != changes[i].words)
            continue;
        if (!node_is_leader(n) || n->state != NODE_RUNNING)
            admin_answer(l, id, LINK_NOT_LEADER, &reply);
        else
            admin_queue(n, l, id, changes[i].stage, &reply);
        buf_fini(&reply);
        return;
    }
    if (slice_equal_nocase(name, "NODE.STATUS") && n->argv.count == 1) {
        node_status_reply(n, &reply);
    } else if (slice_equal_nocase(name, "NODE.TIME") && n->argv.count == 1) {
        reply_int(&reply, (int64_t)n->ops->wall_ms(n->env));
    } else if (node_backup_command(n, &n->argv, &reply)) {
        if (reply_is_error(buf_slice(&reply)))
            status = LINK_REFUSED;
    } else {
        reply_error(&reply, "ERR unknown administrative command");
        status = LINK_REFUSED;
    }
    admin_answer(l, id, status, &reply);
    buf_fini(&reply);
}
