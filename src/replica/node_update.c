/* Carrying out what the core says: durability, messages, the commit index, and what follows from
 * them. */
#include "replica/node_internal.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the log on disk ---- */

static void pending_write_free(struct pending_write *w) {
    list_remove(&w->node);
    for (uint32_t i = 0; i < w->append.count; i++)
        chunk_unref(w->entries[i].chunk);
    free(w->entries);
    free(w->append.entries);
    free(w);
}

void node_free_writes(struct node *n) {
    LIST_FOREACH_SAFE (it, &n->writes) {
        pending_write_free(LIST_ENTRY(it, struct pending_write, node));
    }
}

/* G2: a completed write counts only as far as no later queued write overwrote it. */
static uint64_t written_up_to(const struct node *n, const struct pending_write *w) {
    uint64_t last = w->last;
    if (PLANTED(PLANT_G2_WRITE_ORDER))
        return last;
    for (const struct list *it = w->node.next; it != &n->writes; it = it->next) {
        const struct pending_write *later = LIST_ENTRY(it, const struct pending_write, node);
        if (later->index <= last)
            last = later->index - 1;
    }
    return last;
}

static void node_persisted(struct node *n, uint64_t index) {
    if (index <= n->durable_index)
        return;
    n->durable_index = index;
    if (!node_running(n) || n->install)
        return;
    struct core_update u;
    int rc = core_persisted(n->core, node_now(n), index, &u);
    node_carry_out(n, rc, &u);
}

static void node_on_written(struct log_append *a, int status) {
    struct pending_write *w = CONTAINER_OF(a, struct pending_write, append);
    struct node *n = w->owner;
    uint64_t index = w->index, last = written_up_to(n, w);
    pending_write_free(w);
    if (status < 0 && !PLANTED(PLANT_G7_IO_ERROR)) {
        /* G7: before the core sees anything; nothing of it was acknowledged. */
        node_fatal(n, "the log could not be written: %s", strerror(-status));
        return;
    }
    if (last >= index)
        node_persisted(n, last);
    node_settle(n);
}

/* Hands the entries index..last to the log. */
static void node_write(struct node *n, uint64_t index, uint64_t last) {
    uint32_t count = (uint32_t)(last - index + 1);
    struct pending_write *w = xcalloc(1, sizeof *w);
    w->owner = n;
    w->index = index;
    w->last = last;
    w->entries = xmalloc(count * sizeof w->entries[0]);
    w->append.entries = xmalloc(count * sizeof w->append.entries[0]);
    w->append.count = count;
    w->append.done = node_on_written;
    for (uint32_t i = 0; i < count; i++) {
        const struct core_entry *e = memlog_get(&n->memlog, index + i);
        w->entries[i] = *e;
        chunk_ref(e->chunk);
        w->append.entries[i] = (struct log_entry){
            .index = index + i, .term = e->term, .type = (uint8_t)e->type, .body = e->body};
    }
    list_push_back(&n->writes, &w->node);
    log_append(n->log, &w->append);
    if (PLANTED(PLANT_ACK_BEFORE_FLUSH))
        node_persisted(n, last);
}

void node_write_first(struct node *n) {
    node_write(n, 1, 1);
}

/* ---- M5: from one voter to two ----
 *
 * When the sole voter A promotes B, A alone decides under the old membership and A and B together
 * under the new one. If the change became durable on A first and A died, B could never learn of it
 * and A could never win again. So A holds its own write of the change, and of all behind it, until
 * B has it. */

static uint64_t promoted_peer(const struct node *n) {
    struct membership now;
    core_membership(n->core, &now);
    for (uint32_t i = 0; i < now.count; i++)
        if (now.members[i].role == MEMBER_VOTER && now.members[i].id != n->o.id)
            return now.members[i].id;
    return 0;
}

static void node_maybe_hold(struct node *n, uint64_t index, uint64_t last) {
    uint64_t change = core_membership_uncommitted_index(n->core);
    if (n->hold_index != 0 || PLANTED(PLANT_M5_NO_HOLD) || core_role(n->core) != CORE_LEADER ||
        change < index || change > last)
        return;
    if (core_voters(n->core, true) == 1 && core_voters(n->core, false) == 2) {
        n->hold_index = change;
        n->hold_peer = promoted_peer(n);
        n->hold_term = core_term(n->core);
        n->hold_deadline_ms = node_now(n) + NODE_HOLD_TIMEOUT_MS;
    }
}

/* Releases the held writes when the promotee has the change; discards them and starts again when it
 * does not come to that. */
static void node_check_hold(struct node *n) {
    if (n->hold_index == 0 || !node_running(n))
        return;
    bool leading = core_role(n->core) == CORE_LEADER && core_term(n->core) == n->hold_term;
    if (leading && core_match_index(n->core, n->hold_peer) >= n->hold_index) {
        uint64_t first = n->hold_index;
        n->hold_index = 0;
        node_write(n, first, n->memlog.last_index);
    } else if (!leading || node_now(n) >= n->hold_deadline_ms) {
        log_warn("promotion-discarded", "peer=%llu index=%llu", (unsigned long long)n->hold_peer,
                 (unsigned long long)n->hold_index);
        n->restart_wanted = true;
    }
}

/* ---- entries ---- */

static void node_take_entries(struct node *n, struct core_update *u) {
    uint64_t index = u->entries_index, last = index + u->entries_count - 1;
    if (index <= n->commit_index || index > n->memlog.last_index + 1) {
        node_fatal(n, "the core replaces entry %llu; committed: %llu, last: %llu",
                   (unsigned long long)index, (unsigned long long)n->commit_index,
                   (unsigned long long)n->memlog.last_index);
        for (uint32_t i = 0; i < u->entries_count; i++)
            chunk_unref(u->entries[i].chunk);
        return;
    }
    if (index <= n->memlog.last_index) {
        /* M8: the library rolls a truncated membership back to the wrong one: START again from our
         * log. */
        for (uint64_t i = index; i <= n->memlog.last_index; i++)
            if (memlog_get(&n->memlog, i)->type == CORE_MEMBERSHIP && !PLANTED(PLANT_M8_NO_RESTART))
                n->restart_wanted = true;
        memlog_truncate(&n->memlog, index);
        if (n->durable_index >= index)
            n->durable_index = index - 1;
    }
    for (uint32_t i = 0; i < u->entries_count; i++)
        memlog_append(&n->memlog, index + i, &u->entries[i]);
    uint64_t first = index;
    if (n->hold_index == 0) {
        node_maybe_hold(n, index, last);
        if (n->hold_index > first)
            node_write(n, first, n->hold_index - 1);
        if (n->hold_index == 0)
            node_write(n, first, last);
    }
}

/* ---- leadership ---- */

static void node_on_leadership(struct node *n) {
    bool leading = core_role(n->core) == CORE_LEADER;
    uint64_t term = core_term(n->core);
    if (leading == n->leading && (!leading || term == n->leading_term))
        return;
    if (n->leading)
        node_leadership_lost(n);
    n->leading = leading;
    n->leading_term = leading ? term : 0;
    n->barrier_index = 0;
    if (leading) {
        log_info("leading", "node=%llu term=%llu last=%llu", (unsigned long long)n->o.id,
                 (unsigned long long)term, (unsigned long long)core_last_index(n->core));
        n->leading_since_ms = node_now(n);
        n->sweep_at_ms = node_now(n) + NODE_SWEEP_EVERY_MS;
    }
    node_read_restart(n);
}

/* An entry of our own term, at once: reads and membership changes wait until it is committed and
 * applied (M1, M3; Raft dissertation section 6.4). The library adds one itself in some elections
 * only. */
static void node_ensure_barrier(struct node *n) {
    if (!n->leading || n->barrier_index != 0)
        return;
    const struct core_entry *last = memlog_get(&n->memlog, n->memlog.last_index);
    bool own = last && last->term == n->leading_term;
    if (own && (last->type == CORE_BARRIER || PLANTED(PLANT_M3_NO_BARRIER))) {
        n->barrier_index = n->memlog.last_index;
        return;
    }
    if (PLANTED(PLANT_M3_NO_BARRIER)) /* reads wait for whatever comes first in our term */
        return;
    uint64_t index = n->memlog.last_index + 1;
    if (node_propose(n, CORE_BARRIER, slice_of(NULL, 0)))
        n->barrier_index = index;
}

/* ---- the update ---- */

bool node_carry_out(struct node *n, int rc, struct core_update *u) {
    if (rc < 0) {
        node_fatal(n, "the consensus core failed (%s)", strerror(-rc));
        return false;
    }
    if (n->state == NODE_FAILED)
        return false;
    if (u->vote_changed) {
        struct log_vote vote = {.term = u->term, .voted_for = u->voted_for};
        rc = log_set_vote(n->log, &vote);
        if (rc < 0 && !PLANTED(PLANT_G7_IO_ERROR)) {
            node_fatal(n, "term and vote could not be written: %s", strerror(-rc));
            return false;
        }
        n->vote = vote;
    }
    if (rc == 0 && u->entries_count > 0)
        node_take_entries(n, u);
    if (u->install)
        node_install_begin(n, &u->snapshot, u->descriptor);
    for (uint32_t i = 0; i < u->message_count; i++)
        node_send_message(n, &u->messages[i]);
    /* G3: the library's commit index can go back; ours cannot. */
    uint64_t commit = core_commit_index(n->core);
    /* During an installation the core has forgotten its log and speaks of what the snapshot holds,
     * while ours still has what may have been overwritten elsewhere: were the installation given
     * up, we would apply that. */
    if (!n->install && (commit > n->commit_index || PLANTED(PLANT_G3_COMMIT_BACK)))
        n->commit_index = commit;
    node_on_leadership(n);
    return n->state != NODE_FAILED;
}

bool node_propose(struct node *n, enum core_entry_type type, struct slice body) {
    struct chunk *chunk = chunk_new(body.size);
    if (body.size > 0)
        memcpy(chunk->data, body.data, body.size);
    struct core_entry e = {.type = type, .body = slice_of(chunk->data, body.size), .chunk = chunk};
    struct core_update u;
    uint64_t before = n->memlog.last_index;
    int rc = core_submit(n->core, node_now(n), &e, &u);
    if (!node_carry_out(n, rc < 0 ? rc : 0, &u))
        return false;
    return rc == 0 && n->memlog.last_index > before;
}

/* ---- applying ---- */

static bool node_apply_membership(struct node *n, uint64_t index, const struct core_entry *e) {
    struct membership m;
    if (!membership_decode(e->body, &m)) {
        node_fatal(n, "membership entry %llu is damaged", (unsigned long long)index);
        return false;
    }
    struct core_update u;
    int rc = core_membership_applied(n->core, node_now(n), index, &m, &u);
    if (!node_carry_out(n, rc, &u))
        return false;
    node_member_applied(n, index);
    return true;
}

static int node_apply_to_store(struct node *n, uint64_t index, const struct core_entry *e) {
    int rc = e->type == CORE_COMMAND
                 ? store_apply(n->store, index, e->term, e->body, node_reply_session, n)
                 : store_apply_other(n->store, index, e->term,
                                     e->type == CORE_MEMBERSHIP ? e->body : slice_of(NULL, 0));
    if (rc == 0)
        node_integrity_applied(n, index, e);
    return rc;
}

/* One transaction: entries up to a membership entry or a bound. Returns false when there was
 * nothing or it failed. */
static bool node_apply_some(struct node *n, uint64_t *ret_bytes) {
    uint64_t stop = n->commit_index < n->memlog.last_index ? n->commit_index : n->memlog.last_index;
    if (n->core_applied >= stop)
        return false;
    int rc = 0;
    bool open = false;
    const struct core_entry *membership = NULL;
    uint64_t bytes = 0;
    while (rc == 0 && n->core_applied < stop && !membership && bytes < NODE_APPLY_BYTES) {
        uint64_t index = n->core_applied + 1;
        const struct core_entry *e = memlog_get(&n->memlog, index);
        CHECK(e != NULL);
        /* After a restart the store may be ahead of what the core knows to be committed. */
        if (index > store_applied_index(n->store)) {
            if (!open)
                rc = store_begin(n->store);
            open = rc == 0; /* the disk may have no room for a transaction */
            if (rc == 0)
                rc = node_apply_to_store(n, index, e);
        }
        if (e->type == CORE_MEMBERSHIP)
            membership = e;
        bytes += e->body.size;
        n->core_applied = index;
    }
    *ret_bytes = bytes;
    if (open) {
        int committed = store_commit(n->store); /* or taken back, after a failure */
        rc = rc == 0 ? committed : rc;
    }
    if (rc == -EBADMSG) {
        n->store_broken = true;
        node_integrity_damaged(n, "an entry met a record that cannot be read");
        return false;
    }
    if (rc < 0) {
        node_fatal(n, "entry %llu could not be applied: %s", (unsigned long long)n->core_applied,
                   strerror(-rc));
        return false;
    }
    return !membership || node_apply_membership(n, n->core_applied, membership);
}

/* Not all at once, unless asked: a node that has much to apply must not fall silent over it. */
void node_apply(struct node *n, bool all) {
    if (n->applying)
        return;
    n->applying = true;
    uint64_t total = 0, bytes;
    for (int rounds = 0; node_running(n) && !n->install && !n->store_broken; rounds++) {
        if (!all && (rounds == NODE_APPLY_ROUNDS || total >= NODE_APPLY_BYTES)) {
            n->more = true;
            break;
        }
        if (!node_apply_some(n, &bytes))
            break;
        total += bytes;
    }
    n->applying = false;
}

/* ---- starting the core ---- */

static const struct core_entry *start_entry(void *ctx, uint64_t index) {
    return memlog_get(&((struct node *)ctx)->memlog, index);
}

/* M1: a sole voter that restarts elects itself in the term it had, in which it may have sent
 * entries that its disk lost: raise the term, with a vote for ourselves, durably, before every
 * START. */
static bool node_raise_sole_term(struct node *n, const struct membership *m) {
    if (membership_voters(m) != 1 || !membership_is_voter(m, n->o.id) || n->vote.term == 0 ||
        PLANTED(PLANT_M1_SOLE_VOTER))
        return true;
    n->vote = (struct log_vote){.term = n->vote.term + 1, .voted_for = n->o.id};
    int rc = log_set_vote(n->log, &n->vote);
    if (rc < 0)
        node_fatal(n, "term and vote could not be written: %s", strerror(-rc));
    return rc == 0;
}

/* The latest membership that our log and snapshot hold. */
static void node_latest_membership(const struct node *n, struct membership *ret) {
    *ret = n->snapshot.membership;
    for (uint64_t i = n->memlog.first_index; i <= n->memlog.last_index; i++) {
        const struct core_entry *e = memlog_get(&n->memlog, i);
        struct membership m;
        if (e->type == CORE_MEMBERSHIP && i > n->snapshot.membership_index &&
            membership_decode(e->body, &m))
            *ret = m;
    }
}

void node_start_core(struct node *n) {
    CHECK(n->core == NULL && list_empty(&n->writes));
    struct membership members;
    node_latest_membership(n, &members);
    if (!node_raise_sole_term(n, &members))
        return;
    struct core_options options = {
        .id = n->o.id,
        .address = n->o.peer_address,
        .election_timeout_ms = n->o.election_timeout_ms,
        .heartbeat_ms = n->o.heartbeat_ms,
        .install_timeout_ms = NODE_INSTALL_OFFER_MS,
        .entries_inflight_max = n->o.entries_inflight,
        .seed = (uint32_t)rand_u64(&n->rand),
    };
    n->core = core_new(&options);
    n->core_applied = n->snapshot.index;
    n->change_index = n->snapshot.membership_index;
    n->durable_index = n->memlog.last_index;
    struct core_start start = {
        .term = n->vote.term,
        .voted_for = PLANTED(PLANT_FORGET_VOTE) ? 0 : n->vote.voted_for,
        .snapshot = n->snapshot.index ? &n->snapshot : NULL,
        .first_index = n->memlog.first_index,
        .count = n->memlog.last_index - n->memlog.first_index + 1,
        .entry = start_entry,
        .ctx = n,
    };
    n->state = n->stop_done ? NODE_STOPPING : NODE_RUNNING;
    n->leading = false;
    n->append_heard_ms = node_now(n);
    struct core_update u;
    int rc = core_start(n->core, node_now(n), &start, &u);
    if (!node_carry_out(n, rc, &u))
        return;
    node_sync_peers(n);
    n->members_version++;
    if (n->vote_owed)
        node_send_owed_vote(n);
}

/* Closes the core and drops what was held, to START again when the log's writes are done. */
static void node_begin_restart(struct node *n) {
    n->restart_wanted = false;
    if (n->hold_index != 0) {
        memlog_truncate(&n->memlog, n->hold_index);
        n->hold_index = 0;
    }
    if (n->leading)
        node_leadership_lost(n);
    node_install_drop(n);
    n->restart_wanted = false;
    core_free(n->core);
    n->core = NULL;
    n->leading = false;
    if (n->state == NODE_RUNNING)
        n->state = NODE_DRAINING;
    node_joins_fail(n, NULL);
    node_read_restart(n);
}

void node_settle(struct node *n) {
    for (;;) {
        if (n->state == NODE_FAILED || (n->state == NODE_STOPPING && !n->core))
            return;
        if (n->core) {
            node_check_hold(n);
            if (!n->restart_wanted) {
                node_ensure_barrier(n);
                if (!n->restart_wanted)
                    return;
            }
            node_begin_restart(n);
        }
        if (n->removed || !list_empty(&n->writes) || n->state != NODE_DRAINING)
            return;
        node_start_core(n);
    }
}
