/* What arrives from other nodes, and what goes to them. */
#include "replica/node_internal.h"

#include <stdio.h>
#include <stdlib.h>

struct peer *node_peer(struct node *n, uint64_t id) {
    LIST_FOREACH (it, &n->peers) {
        struct peer *p = LIST_ENTRY(it, struct peer, node);
        if (p->id == id)
            return p;
    }
    return NULL;
}

/* A node that speaks to us although no membership that we hold names it: we may be new, and it the
 * leader. It is remembered, so that we can answer, until the next membership. So is a leader whom
 * another node has named.
 *
 * A member that says another address than its record has moved. What we send goes there at once,
 * since the change of the record may need its acknowledgement; the leader proposes that change
 * (node_member_tick()). */
static struct peer *peer_of_sender(struct node *n, uint64_t id, const char *address) {
    struct peer *p = node_peer(n, id);
    if (p && *address != 0 && strcmp(p->said, address) != 0) {
        snprintf(p->said, sizeof p->said, "%s", address);
        snprintf(p->address, sizeof p->address, "%s", address);
    }
    if (p || *address == 0 || n->peer_count >= 2 * MEMBERS_MAX)
        return p;
    p = xcalloc(1, sizeof *p);
    p->id = id;
    snprintf(p->address, sizeof p->address, "%s", address);
    list_push_back(&n->peers, &p->node);
    n->peer_count++;
    return p;
}

void node_sync_peers(struct node *n) {
    struct membership m;
    node_membership(n, &m);
    LIST_FOREACH_SAFE (it, &n->peers) {
        struct peer *p = LIST_ENTRY(it, struct peer, node);
        if (!membership_find(&m, p->id)) {
            list_remove(&p->node);
            n->peer_count--;
            free(p);
        }
    }
    for (uint32_t i = 0; i < m.count; i++) {
        if (m.members[i].id == n->o.id)
            continue;
        struct peer *p = node_peer(n, m.members[i].id);
        if (!p) {
            p = xcalloc(1, sizeof *p);
            p->id = m.members[i].id;
            list_push_back(&n->peers, &p->node);
            n->peer_count++;
        }
        /* What was said before may be older than a new record. An old one does not undo it. */
        if (strcmp(p->recorded, m.members[i].address) != 0) {
            memcpy(p->recorded, m.members[i].address, sizeof p->recorded);
            memcpy(p->address, m.members[i].address, sizeof p->address);
            p->said[0] = 0;
        }
    }
}

void node_send(struct node *n, uint64_t id, struct slice frame) {
    struct peer *p = node_peer(n, id);
    if (p)
        n->ops->peer_send(n->env, id, p->address, frame);
}

void node_send_later(struct node *n, uint64_t id, struct slice frame) {
    struct peer *p = node_peer(n, id);
    if (p && n->ops->peer_send_later)
        n->ops->peer_send_later(n->env, id, p->address, frame);
    else if (p)
        n->ops->peer_send(n->env, id, p->address, frame);
}

void node_send_message(struct node *n, const struct core_message *m) {
    buf_reset(&n->frame);
    if (m->type == CORE_MSG_APPEND) {
        if (!wire_put_append(&n->frame, m, &n->memlog, n->o.append_bytes))
            return;
    } else if (m->type == CORE_MSG_INSTALL) {
        struct core_message filled = *m;
        struct buf descriptor = {0};
        if (node_snapshot_fill(n, &filled, &descriptor))
            wire_put_message(&n->frame, &filled);
        buf_fini(&descriptor);
    } else {
        wire_put_message(&n->frame, m);
    }
    if (n->frame.size == 0)
        return;
    if (!node_peer(n, m->peer_id))
        node_sync_peers(n); /* the core knows a membership before it is applied */
    node_send(n, m->peer_id, buf_slice(&n->frame));
}

void node_send_status(struct node *n) {
    if (!n->store)
        return;
    struct wire_status s = {
        .term = node_term(n),
        .applied = store_applied_index(n->store),
        .digest = store_digest(n->store),
        .snapshot_index = node_may_hand_out(n) ? n->snapshot.index : 0,
        .snapshot_hash = n->snapshot_info.file_hash.low,
        .http_address = slice_str(n->o.http_address),
        .redis_address = slice_str(n->o.redis_address),
    };
    s.leader_id = node_leader_id(n);
    const struct peer *leader = s.leader_id ? node_peer(n, s.leader_id) : NULL;
    if (s.leader_id == n->o.id)
        s.leader_address = slice_str(n->o.peer_address);
    else if (leader)
        s.leader_address = slice_str(leader->address);
    else
        s.leader_id = 0;
    s.check_index = n->check_index;
    s.check_digest = n->check_digest;
    s.health = n->health;
    node_work_now(n, &s.work);
    buf_reset(&n->frame);
    wire_put_status(&n->frame, &s);
    LIST_FOREACH (it, &n->peers) {
        struct peer *p = LIST_ENTRY(it, struct peer, node);
        n->ops->peer_send(n->env, p->id, p->address, buf_slice(&n->frame));
    }
}

static void copy_address(struct node *n, char out[MEMBER_ADDRESS_BYTES_MAX], struct slice in) {
    if (slice_equal_str(in, out))
        return;
    memset(out, 0, MEMBER_ADDRESS_BYTES_MAX);
    memcpy(out, in.data, in.size);
    n->members_version++;
}

/* Who was down while members came, went or moved, and has moved itself, may not know where the
 * leader is, which does not know where it is: those who know both tell it. It will say its address
 * there.
 */
static void know_leader(struct node *n, const struct wire_status *s) {
    char address[MEMBER_ADDRESS_BYTES_MAX] = "";
    if (s->leader_id == 0 || s->leader_id == n->o.id || s->term < node_term(n) ||
        s->leader_id == node_leader_id(n))
        return;
    memcpy(address, s->leader_address.data, s->leader_address.size);
    peer_of_sender(n, s->leader_id, address);
}

static void node_on_status(struct node *n, uint64_t from, const struct wire_status *s) {
    struct peer *p = node_peer(n, from);
    if (!p)
        return;
    know_leader(n, s);
    p->term = s->term;
    p->applied = s->applied;
    p->digest = s->digest;
    p->snapshot_index = s->snapshot_index;
    p->snapshot_hash = s->snapshot_hash;
    p->work = s->work;
    node_integrity_status(n, p, s);
    copy_address(n, p->http, s->http_address);
    copy_address(n, p->redis, s->redis_address);
}

/* ---- M5: votes of a non-voter ----
 *
 * A node can have been made a voter by an entry that it does not have yet. When it has heard no
 * leader for an election timeout it answers votes itself, with the normal checks; the library would
 * refuse. */

static bool log_is_behind(const struct node *n, const struct core_message *m) {
    uint64_t last = n->memlog.last_index, term = memlog_term(&n->memlog, last);
    return m->vote.last_term > term || (m->vote.last_term == term && m->vote.last_index >= last);
}

static void answer_vote(struct node *n, uint64_t to, uint64_t term, bool pre_vote) {
    struct core_message answer = {
        .type = CORE_MSG_VOTE_RESULT,
        .peer_id = to,
        .term = term,
        .vote_result = {.granted = true, .pre_vote = pre_vote},
    };
    node_send_message(n, &answer);
}

static bool node_vote_outside(struct node *n, const struct core_message *m) {
    if (m->type != CORE_MSG_VOTE || core_role(n->core) != CORE_FOLLOWER ||
        m->term < core_term(n->core) || core_is_voter(n->core, n->o.id) || n->install ||
        PLANTED(PLANT_M5_NO_VOTE))
        return false;
    bool leaderless =
        core_leader_id(n->core) == 0 || node_now(n) - n->append_heard_ms > n->o.election_timeout_ms;
    if (!leaderless || !log_is_behind(n, m))
        return false;
    if (m->vote.pre_vote) {
        answer_vote(n, m->peer_id, m->term, true);
        return true;
    }
    uint64_t voted_for = core_voted_for(n->core);
    if (m->term == core_term(n->core) && voted_for != 0 && voted_for != m->vote.candidate_id)
        return false;
    n->vote = (struct log_vote){.term = m->term, .voted_for = m->vote.candidate_id};
    int rc = log_set_vote(n->log, &n->vote);
    if (rc < 0) {
        node_fatal(n, "term and vote could not be written: %s", strerror(-rc));
        return true;
    }
    n->vote_owed = true;
    n->vote_owed_to = m->vote.candidate_id;
    n->vote_owed_term = m->term;
    n->restart_wanted = true; /* the core learns its new term by STARTing again */
    return true;
}

void node_send_owed_vote(struct node *n) {
    n->vote_owed = false;
    if (core_term(n->core) == n->vote_owed_term && core_voted_for(n->core) == n->vote_owed_to)
        answer_vote(n, n->vote_owed_to, n->vote_owed_term, false);
}

/* ---- messages of the core ---- */

static bool node_step_message(struct node *n, struct core_message *m, const char *address) {
    struct core_update u;
    int rc = core_receive(n->core, node_now(n), m, address, &u);
    /* NOT_LEADER and BUSY say that the message came too late. */
    return node_carry_out(n, rc > 0 ? 0 : rc, &u);
}

/* The piece [from, to) of an APPEND as a message of its own, its bodies in a chunk of its own. */
static bool step_piece(struct node *n, const struct core_message *whole, uint32_t from, uint32_t to,
                       const char *address) {
    struct core_message m = *whole;
    const struct core_entry *entries = whole->append.entries;
    m.append.prev_index = whole->append.prev_index + from;
    m.append.prev_term = from ? entries[from - 1].term : whole->append.prev_term;
    m.append.count = to - from;
    struct core_entry *piece = NULL;
    if (to > from) {
        size_t bytes = 0;
        for (uint32_t i = from; i < to; i++)
            bytes += entries[i].body.size;
        struct chunk *chunk = chunk_new(bytes);
        piece = xmalloc((to - from) * sizeof *piece);
        bytes = 0;
        for (uint32_t i = from; i < to; i++) {
            struct slice body = entries[i].body;
            if (body.size > 0)
                memcpy(chunk->data + bytes, body.data, body.size);
            piece[i - from] = entries[i];
            piece[i - from].body = slice_of(chunk->data + bytes, body.size);
            piece[i - from].chunk = chunk;
            bytes += body.size;
        }
    }
    m.append.entries = piece;
    bool ok = node_step_message(n, &m, address);
    free(piece);
    if (!ok)
        return false;
    node_apply(n, true);
    uint64_t end = whole->append.prev_index + to;
    uint64_t end_term = to ? entries[to - 1].term : whole->append.prev_term;
    return n->state == NODE_RUNNING && !n->restart_wanted && !n->install && n->core &&
           core_term(n->core) == whole->term &&
           (end == 0 || memlog_term(&n->memlog, end) == end_term);
}

/* M8: each membership entry begins a message of its own, behind one that lets the commit index
 * before it be applied: the library tracks one uncommitted membership, at the wrong index when it
 * is not the first entry. */
static void step_append_split(struct node *n, const struct core_message *whole,
                              const char *address) {
    uint32_t at = 0, count = whole->append.count;
    while (at < count) {
        if (whole->append.entries[at].type == CORE_MEMBERSHIP &&
            core_commit_index(n->core) < whole->append.commit &&
            !step_piece(n, whole, at, at, address))
            break;
        uint32_t to = at + 1;
        while (to < count && whole->append.entries[to].type != CORE_MEMBERSHIP)
            to++;
        if (!step_piece(n, whole, at, to, address))
            break;
        at = to;
    }
    chunk_unref(whole->append.entries[0].chunk);
}

static void node_on_append(struct node *n, struct core_message *m, const char *address) {
    bool split = false;
    for (uint32_t i = 0; i < m->append.count; i++)
        split |= m->append.entries[i].type == CORE_MEMBERSHIP;
    /* M9: from the log's very beginning, to one that was compacted: an old connection's, or a
     * leader's first guess. */
    if (m->append.prev_index == 0 && n->memlog.first_index > 1 && m->term >= core_term(n->core) &&
        !PLANTED(PLANT_M9_PREV_ZERO)) {
        if (m->append.count > 0)
            chunk_unref(m->append.entries[0].chunk);
        return;
    }
    if (m->term >= core_term(n->core))
        n->append_heard_ms = node_now(n);
    if (split && m->term >= core_term(n->core) && !PLANTED(PLANT_M8_NO_SPLIT))
        step_append_split(n, m, address);
    else
        node_step_message(n, m, address);
}

static bool node_on_message(struct node *n, uint64_t from, const char *address, uint8_t type,
                            struct slice payload) {
    struct core_message m;
    if (!wire_decode_message(type, payload, &m, &n->wire_entries, &n->wire_entries_capacity))
        return false;
    m.peer_id = from;
    if (!node_running(n) || n->restart_wanted) {
        if (m.type == CORE_MSG_APPEND && m.append.count > 0)
            chunk_unref(m.append.entries[0].chunk);
        return true; /* as if it had been lost */
    }
    if (m.type == CORE_MSG_APPEND) {
        node_on_append(n, &m, address);
    } else {
        if (m.type == CORE_MSG_INSTALL && m.term >= core_term(n->core))
            n->append_heard_ms = node_now(n);
        if (!node_vote_outside(n, &m))
            node_step_message(n, &m, address);
    }
    node_settle(n);
    return true;
}

/* ---- members that are none any more ---- */

/* Only the leader knows for certain: elsewhere, or before its own entry is applied, somebody that
 * just joined may not stand in the membership yet. Ids are never used again, so it is for ever. */
static void tell_removed(struct node *n, uint64_t id) {
    struct membership m;
    if (!node_is_leader(n) || n->barrier_index == 0 || n->core_applied < n->barrier_index ||
        core_membership_uncommitted_index(n->core) != 0 || !store_knows_node_id(n->store, id))
        return;
    core_membership(n->core, &m);
    if (membership_find(&m, id))
        return;
    buf_reset(&n->frame);
    wire_put_removed(&n->frame, n->change_index);
    node_send(n, id, buf_slice(&n->frame));
}

/* The core ends for good (node_settle()): no vote, no linearizable read, no write. The process
 * stays, so that its gateways serve their clients through the other nodes, and no supervisor starts
 * it over and over. */
static void node_on_removed(struct node *n, uint64_t from, uint64_t index) {
    if (n->removed || n->state != NODE_RUNNING)
        return;
    n->removed = n->restart_wanted = true;
    log_error("removed", "node=%llu by=%llu membership=%llu text=%s", (unsigned long long)n->o.id,
              (unsigned long long)from, (unsigned long long)index,
              log_quote(slice_str("this node is no member of the cluster any more; stop it, and "
                                  "empty its --data before it joins again")));
    node_settle(n);
}

bool node_on_peer_frame(struct node *n, uint64_t from, const char *address, uint8_t type,
                        struct slice payload) {
    if (n->state == NODE_FAILED)
        return true;
    struct peer *p = peer_of_sender(n, from, address);
    if (p)
        p->heard_ms = node_now(n);
    struct wire_read read;
    struct wire_status status;
    struct wire_piece piece;
    uint64_t index;
    switch (type) {
    case WIRE_APPEND ... WIRE_TIMEOUT_NOW:
        return node_on_message(n, from, address, type, payload);
    case WIRE_READ_CHECK:
        if (!wire_decode_read(type, payload, &read))
            return false;
        /* "Is your term still no higher than mine?", from the term that is durable here. */
        read.ok = n->vote.term <= read.term && node_running(n);
        buf_reset(&n->frame);
        wire_put_read(&n->frame, WIRE_READ_CHECKED, &read);
        node_send_later(n, from, buf_slice(&n->frame));
        return true;
    case WIRE_READ_CHECKED:
        if (!wire_decode_read(type, payload, &read))
            return false;
        node_read_checked(n, from, &read);
        return true;
    case WIRE_READ_INDEX:
        if (!wire_decode_read(type, payload, &read))
            return false;
        node_read_for_peer(n, from, &read);
        return true;
    case WIRE_READ_INDEXED:
        if (!wire_decode_read(type, payload, &read))
            return false;
        node_read_indexed(n, from, &read);
        return true;
    case WIRE_STATUS:
        if (!wire_decode_status(payload, &status))
            return false;
        node_on_status(n, from, &status);
        tell_removed(n, from);
        return true;
    case WIRE_REMOVED:
        if (!wire_decode_removed(payload, &index))
            return false;
        node_on_removed(n, from, index);
        return true;
    case WIRE_FETCH:
        if (!wire_decode_fetch(payload, &piece))
            return false;
        node_fetch(n, from, &piece);
        return true;
    case WIRE_PIECE:
        if (!wire_decode_piece(payload, &piece))
            return false;
        node_install_piece(n, from, &piece);
        return true;
    default:
        return false;
    }
}
