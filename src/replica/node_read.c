/* Linearizable reads on every node, through a confirmed read index (Raft dissertation section 6.4;
 * no clock is trusted, section 6.4.1 is not used).
 *
 *   waiting --round begins--> in the round --confirmed--> applying --index applied--> answered
 *      ^                          |
 *      +------ leader or term changed
 *
 * On the leader a round takes the commit index, then asks voters "is your term still no higher
 * than mine?"; with a majority the index is a read index for every read that arrived before the
 * round began. It asks as many as it needs, those it heard of last, and all when they are slow.
 * On a follower a round asks the leader, and says its own term, which is the answer to that
 * question: of three voters the two of them are a majority already. Reads that arrive while a round
 * is under way share the next one. */
#include <errno.h>
#include <stdlib.h>

#include "replica/node_internal.h"

static void read_free(struct pending_read *r) {
    if (r->link) {
        r->link->reads_pending--;
        r->link->read_bytes_pending -= r->size;
    }
    list_remove(&r->node);
    free(r);
}

/* Who was removed refuses at once what needs the others. */
static uint64_t read_deadline(struct node *n) {
    if (!n->removed)
        return node_now(n) + NODE_READ_TIMEOUT_MS;
    n->expire_at_ms = 0;
    return node_now(n);
}

void node_read_enqueue(struct node *n, struct node_link *l, const struct link_read *in) {
    struct pending_read *r = xcalloc(1, sizeof *r + in->packed_argv.size);
    r->link = l;
    r->id = in->id;
    r->db = in->db;
    r->index = in->min_index;
    r->size = in->packed_argv.size;
    r->deadline_ms = read_deadline(n);
    memcpy(r->packed_argv, in->packed_argv.data, r->size);
    l->reads_pending++;
    l->read_bytes_pending += r->size;
    r->stale = in->flags & LINK_READ_STALE;
    if (r->stale) {
        r->time_ms = n->ops->wall_ms(n->env);
        list_push_back(&n->reads_applying, &r->node);
    } else {
        list_push_back(&n->reads_waiting, &r->node);
    }
}

void node_read_index(struct node *n, struct node_link *l, const struct link_read_index *ask) {
    struct pending_read *r = xcalloc(1, sizeof *r);
    r->link = l;
    r->id = ask->id;
    r->index = ask->min_index;
    r->index_only = true;
    r->deadline_ms = read_deadline(n);
    l->reads_pending++;
    bool confirmed = ask->flags & LINK_READ_STALE || PLANTED(PLANT_DIRECT_UNCONFIRMED);
    if (confirmed)
        r->time_ms = n->ops->wall_ms(n->env);
    list_push_back(confirmed ? &n->reads_applying : &n->reads_waiting, &r->node);
}

static void answer_peer(struct node *n, uint64_t peer, uint64_t round, bool ok, uint64_t index) {
    struct wire_read answer = {.round = round, .ok = ok};
    if (ok) {
        answer.index = index;
        answer.time_ms = node_leader_time(n);
    }
    buf_reset(&n->frame);
    wire_put_read(&n->frame, WIRE_READ_INDEXED, &answer);
    node_send_later(n, peer, buf_slice(&n->frame));
}

/* A new leader does not know how far its predecessors committed until an entry of its own term is.
 */
static bool knows_commits(const struct node *n) {
    return (n->barrier_index != 0 && n->commit_index >= n->barrier_index) ||
           PLANTED(PLANT_READ_OWN_TERM);
}

static bool is_majority(const struct node *n, uint32_t voters) {
    return voters > core_voters(n->core, false) / 2;
}

/* It sent this after the reads had come to it, and its term was ours then: what it would say to a
 * READ_CHECK. */
static bool confirmed_by_asking(const struct node *n, uint64_t peer_id,
                                const struct wire_read *ask) {
    return ask->term == core_term(n->core) && knows_commits(n) && core_is_voter(n->core, peer_id) &&
           core_is_voter(n->core, n->o.id) && is_majority(n, 2);
}

void node_read_for_peer(struct node *n, uint64_t peer_id, const struct wire_read *ask) {
    if (!node_is_leader(n)) {
        answer_peer(n, peer_id, ask->round, false, 0);
        return;
    }
    if (confirmed_by_asking(n, peer_id, ask)) {
        answer_peer(n, peer_id, ask->round, true, n->commit_index);
        return;
    }
    struct pending_read *r = xcalloc(1, sizeof *r);
    r->peer_id = peer_id;
    r->id = ask->round;
    r->deadline_ms = read_deadline(n);
    list_push_back(&n->reads_waiting, &r->node);
}

/* ---- rounds ---- */

static void round_end(struct node *n, uint64_t time_ms) {
    n->round_active = false;
    /* One that is not applied yet is kept: under load a newer one would never be, either. */
    if (!n->fresh_next_known) {
        n->fresh_next_known = true;
        n->fresh_next_ms = n->round_began_ms;
        n->fresh_next_index = n->round_index;
    }
    LIST_FOREACH_SAFE (it, &n->reads_round) {
        struct pending_read *r = LIST_ENTRY(it, struct pending_read, node);
        if (!r->link) {
            answer_peer(n, r->peer_id, r->id, true, n->round_index);
            read_free(r);
            continue;
        }
        if (r->index < n->round_index)
            r->index = n->round_index;
        r->time_ms = time_ms;
        list_remove(&r->node);
        list_push_back(&n->reads_applying, &r->node);
    }
}

/* The voter that we heard of last, of those that were not asked in this round; NULL: none. */
static struct peer *round_next(struct node *n) {
    struct peer *best = NULL;
    LIST_FOREACH (it, &n->peers) {
        struct peer *p = LIST_ENTRY(it, struct peer, node);
        if (core_is_voter(n->core, p->id) && p->read_asked != n->round &&
            (!best || p->heard_ms > best->heard_ms))
            best = p;
    }
    return best;
}

static void round_ask(struct node *n, bool all) {
    struct wire_read ask = {.term = n->round_term, .round = n->round};
    buf_reset(&n->frame);
    n->round_sent_ms = node_now(n);
    if (!n->leading) {
        wire_put_read(&n->frame, WIRE_READ_INDEX, &ask);
        node_send_later(n, n->round_leader, buf_slice(&n->frame));
        return;
    }
    wire_put_read(&n->frame, WIRE_READ_CHECK, &ask);
    struct peer *p;
    for (uint32_t sure = core_is_voter(n->core, n->o.id) ? 1 : 0;
         (all || !is_majority(n, sure)) && (p = round_next(n)); sure++) {
        p->read_asked = n->round;
        node_send_later(n, p->id, buf_slice(&n->frame));
    }
}

/* Questions or answers were lost, or who was asked is slow. */
static void round_ask_again(struct node *n) {
    LIST_FOREACH (it, &n->peers) {
        struct peer *p = LIST_ENTRY(it, struct peer, node);
        p->read_asked = p->read_checked;
    }
    round_ask(n, true);
}

static bool round_has_majority(const struct node *n) {
    uint32_t yes = core_is_voter(n->core, n->o.id) ? 1 : 0;
    LIST_FOREACH (it, (struct list *)&n->peers) {
        const struct peer *p = LIST_ENTRY(it, struct peer, node);
        if (core_is_voter(n->core, p->id) && p->read_checked == n->round)
            yes++;
    }
    return is_majority(n, yes);
}

/* Nobody reads, but stale reads are to know how old they are. */
static bool fresh_is_due(const struct node *n) {
    return n->o.fresh_every_ms != UINT32_MAX &&
           node_now(n) >= n->round_began_ms + n->o.fresh_every_ms;
}

static void round_begin(struct node *n) {
    if ((list_empty(&n->reads_waiting) && !fresh_is_due(n)) || n->round_active ||
        !node_running(n) || node_now(n) < n->round_pause_ms)
        return;
    if (n->leading) {
        if (!knows_commits(n))
            return;
        n->round_index = n->commit_index;
    } else {
        n->round_leader = core_leader_id(n->core);
        if (n->round_leader == 0 || !node_peer(n, n->round_leader))
            return;
    }
    n->round++;
    n->round_began_ms = node_now(n);
    n->round_term = core_term(n->core);
    n->round_active = true;
    list_splice(&n->reads_round, &n->reads_waiting);
    if (n->leading && (round_has_majority(n) || PLANTED(PLANT_READ_UNCONFIRMED)))
        round_end(n, node_leader_time(n));
    else
        round_ask(n, false);
}

void node_read_checked(struct node *n, uint64_t from, const struct wire_read *r) {
    struct peer *p = node_peer(n, from);
    if (!p || !r->ok || !n->round_active || !node_is_leader(n) || r->round != n->round ||
        r->term != n->round_term || core_term(n->core) != n->round_term)
        return;
    p->read_checked = r->round;
    if (round_has_majority(n))
        round_end(n, node_leader_time(n));
}

void node_read_indexed(struct node *n, uint64_t from, const struct wire_read *r) {
    if (!n->round_active || n->leading || r->round != n->round || from != n->round_leader)
        return;
    if (r->ok) {
        n->round_index = r->index;
        round_end(n, r->time_ms);
    } else {
        n->round_pause_ms = node_now(n) + 10;
        node_read_restart(n);
    }
}

void node_read_restart(struct node *n) {
    n->round_active = false;
    LIST_FOREACH_SAFE (it, &n->reads_round) {
        struct pending_read *r = LIST_ENTRY(it, struct pending_read, node);
        list_remove(&r->node);
        list_push_back(&n->reads_waiting, &r->node);
    }
    if (n->leading)
        return;
    LIST_FOREACH_SAFE (it, &n->reads_waiting) {
        struct pending_read *r = LIST_ENTRY(it, struct pending_read, node);
        if (r->link)
            continue;
        answer_peer(n, r->peer_id, r->id, false, 0);
        read_free(r);
    }
}

/* ---- the age of our copy ---- */

/* "Fresh at t" is what a confirmed round that began at t proves, once its index is applied:
 * whatever anybody had been told was written at t was committed then, so it is at or below that
 * index. A heartbeat proves less: it may have been on its way for long, or come from a leader that
 * is none any more. */
static void fresh_turn(struct node *n) {
    if (!n->fresh_next_known || !n->store || n->fresh_next_index > store_applied_index(n->store))
        return;
    n->fresh_next_known = false;
    n->fresh_known = true;
    n->fresh_ms = n->fresh_next_ms;
    if (n->o.gate)
        store_gate_note_fresh(n->o.gate, n->fresh_ms);
}

uint32_t node_read_age_ms(const struct node *n) {
    uint64_t age = node_now(n) - n->fresh_ms;
    return !n->fresh_known || age >= LINK_AGE_UNKNOWN ? LINK_AGE_UNKNOWN : (uint32_t)age;
}

void node_gate_open(struct node *n) {
    if (!n->o.gate)
        return;
    store_gate_open(n->o.gate, n->store);
    /* What takes a store's place is never older. */
    if (n->fresh_known)
        store_gate_note_fresh(n->o.gate, n->fresh_ms);
}

void node_gate_close(struct node *n) {
    if (n->o.gate)
        store_gate_close(n->o.gate);
}

/* ---- answers ---- */

static bool view_open(struct node *n) {
    int rc = 0;
    if (!n->view)
        rc = store_view_new(n->store, &n->view);
    if (rc == 0)
        rc = store_view_begin(n->view);
    if (rc < 0)
        node_fatal(n, "the store cannot be read: %s", strerror(-rc));
    return rc == 0;
}

static bool read_answer(struct node *n, struct pending_read *r) {
    CHECK(argv_unpack(&n->argv, slice_of(r->packed_argv, r->size)));
    if (n->reply_scratch.capacity > 4 * NODE_ENTRY_BYTES)
        buf_fini(&n->reply_scratch);
    buf_reset(&n->reply_scratch);
    int rc =
        store_read(n->view, r->db, r->time_ms, rand_u64(&n->rand), &n->argv, &n->reply_scratch);
    if (rc == -EBADMSG) {
        node_integrity_damaged(n, "a record cannot be read");
        return false;
    }
    if (rc < 0) {
        node_fatal(n, "the store cannot be read: %s", strerror(-rc));
        return false;
    }
    uint64_t index = store_view_applied_index(n->view);
    if (r->stale)
        link_reply_stale(r->link, r->id, index, node_read_age_ms(n), buf_slice(&n->reply_scratch));
    else
        link_reply(r->link, r->id, LINK_KIND_READ, LINK_OK, index, buf_slice(&n->reply_scratch));
    return true;
}

static void answer_index(struct pending_read *r, enum link_status status) {
    struct link_read_indexed answer = {
        .id = r->id, .status = (uint8_t)status, .index = r->index, .time_ms = r->time_ms};
    link_end_replies(r->link);
    link_put_read_indexed(&r->link->out, &answer);
}

/* A gateway that takes its replies slowly waits for its reads; the others do not. */
static bool link_is_full(const struct node_link *l) {
    const struct node *n = l->owner;
    return l->out.size + n->ops->link_pending_bytes(n->env, l->handle) > NODE_LINK_OUT_BYTES;
}

/* A copy that may be wrong answers nobody: gateways ask another node. */
static void refuse_ready(struct node *n) {
    LIST_FOREACH_SAFE (it, &n->reads_applying) {
        struct pending_read *r = LIST_ENTRY(it, struct pending_read, node);
        link_reply(r->link, r->id, LINK_KIND_READ, LINK_UNAVAILABLE, 0, slice_of(NULL, 0));
        read_free(r);
    }
}

static void answer_ready(struct node *n) {
    if (!node_may_serve(n)) {
        refuse_ready(n);
        return;
    }
    if (!n->store || list_empty(&n->reads_applying))
        return;
    uint64_t applied = store_applied_index(n->store);
    size_t bytes = 0;
    bool open = false;
    LIST_FOREACH_SAFE (it, &n->reads_applying) {
        struct pending_read *r = LIST_ENTRY(it, struct pending_read, node);
        if (r->index > applied || link_is_full(r->link))
            continue;
        if (r->index_only) {
            answer_index(r, LINK_OK);
            read_free(r);
            continue;
        }
        if (bytes > NODE_ANSWER_BYTES) {
            n->more = true;
            break;
        }
        if (!open && !view_open(n))
            return;
        open = true;
        if (!read_answer(n, r))
            break;
        bytes += n->reply_scratch.size;
        read_free(r);
    }
    if (open)
        store_view_end(n->view);
}

static void expire(struct node *n, struct list *reads, uint64_t now) {
    LIST_FOREACH_SAFE (it, reads) {
        struct pending_read *r = LIST_ENTRY(it, struct pending_read, node);
        if (r->deadline_ms > now)
            continue;
        if (r->link && r->index_only)
            answer_index(r, LINK_UNAVAILABLE);
        else if (r->link)
            link_reply(r->link, r->id, LINK_KIND_READ, LINK_UNAVAILABLE, 0, slice_of(NULL, 0));
        else
            answer_peer(n, r->peer_id, r->id, false, 0);
        read_free(r);
    }
}

void node_read_turn(struct node *n) {
    uint64_t now = node_now(n);
    if (n->state == NODE_FAILED)
        return;
    if (n->round_active && node_running(n) && now >= n->round_sent_ms + NODE_READ_AGAIN_MS) {
        if (!n->leading && core_leader_id(n->core) != n->round_leader)
            node_read_restart(n);
        else
            round_ask_again(n);
    }
    round_begin(n);
    fresh_turn(n);
    answer_ready(n);
    if (now < n->expire_at_ms)
        return;
    n->expire_at_ms = now + NODE_MEMBERS_EVERY_MS;
    expire(n, &n->reads_waiting, now);
    expire(n, &n->reads_round, now);
    expire(n, &n->reads_applying, now);
}

void node_read_forget(struct node *n, struct node_link *l) {
    struct list *lists[] = {&n->reads_waiting, &n->reads_round, &n->reads_applying};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++)
        LIST_FOREACH_SAFE (it, lists[i]) {
            struct pending_read *r = LIST_ENTRY(it, struct pending_read, node);
            if (r->link == l)
                read_free(r);
        }
}

void node_read_fail_all(struct node *n) {
    struct list *lists[] = {&n->reads_waiting, &n->reads_round, &n->reads_applying};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++)
        LIST_FOREACH_SAFE (it, lists[i]) {
            read_free(LIST_ENTRY(it, struct pending_read, node));
        }
}
