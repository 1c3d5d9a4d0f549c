/* The upstream's links: connecting, handshake, frames from the nodes, topology. */
#include <stdlib.h>

#include "base/log.h"
#include "gateway/upstream_internal.h"

static const uint8_t allowed[] = {
    [PHASE_DOWN] = 1 << PHASE_CONNECTING | 1 << PHASE_PARKED,
    [PHASE_CONNECTING] = 1 << PHASE_GREETING | 1 << PHASE_DOWN,
    [PHASE_GREETING] = 1 << PHASE_READY | 1 << PHASE_DOWN,
    [PHASE_READY] = 1 << PHASE_DOWN | 1 << PHASE_PARKED,
    [PHASE_PARKED] = 1 << PHASE_DOWN,
};

static void set_phase(struct upstream_link *link, enum link_phase phase) {
    CHECK(allowed[link->phase] & 1 << phase);
    link->phase = (uint8_t)phase;
}

static bool is_open(const struct upstream_link *link) {
    return link->phase >= PHASE_CONNECTING && link->phase <= PHASE_READY;
}

struct upstream_link *link_new(struct upstream *up, struct slice address, bool seed) {
    if (up->link_count >= UPSTREAM_LINKS_MAX)
        return NULL;
    struct upstream_link *link = xcalloc(1, sizeof *link);
    link->up = up;
    link->address = xmalloc(address.size + 1);
    memcpy(link->address, address.data, address.size);
    link->address[address.size] = '\0';
    link->seed = seed;
    link->local = slice_equal_str(address, "local");
    link->until_ms = upstream_now(up);
    list_push_back(&up->links, &link->node);
    up->link_count++;
    return link;
}

void link_free(struct upstream_link *link) {
    struct upstream *up = link->up;
    if (is_open(link))
        up->ops->close(up->env, link->handle);
    if (up->round_robin == &link->node)
        up->round_robin = link->node.prev;
    list_remove(&link->node);
    up->link_count--;
    buf_fini(&link->in);
    free(link->address);
    free(link);
}

/* ---- ends of connections ---- */

/* The connection is gone: everything it owed waits again. */
static void link_ended(struct upstream_link *link, enum link_phase phase) {
    struct upstream *up = link->up;
    bool was_ready = link->phase == PHASE_READY;
    set_phase(link, phase);
    link->handle = NULL;
    link->topology_seen = link->knows_leader = false;
    link->grace_until_ms = 0;
    link->holds[HOLD_LINEARIZABLE] = link->holds[HOLD_ANY] = (struct hold){0};
    if (up->write_link == link)
        up->write_link = NULL;
    if (up->refuser == link)
        up->refuser = NULL;
    if (up->members_from == link->node_id)
        up->members_from = 0;
    writes_link_down(link);
    reads_link_down(link);
    if (!was_ready || phase == PHASE_PARKED)
        return;
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *other = LIST_ENTRY(it, struct upstream_link, node);
        if (other->phase == PHASE_PARKED && other->node_id == link->node_id) {
            set_phase(other, PHASE_DOWN);
            other->until_ms = upstream_now(up);
        }
    }
}

/* Connects again after a pause that doubles with every failure in a row. */
static void link_ended_pause(struct upstream_link *link) {
    struct upstream *up = link->up;
    uint64_t now = upstream_now(up);
    if (link->phase == PHASE_READY && now - link->ready_since_ms >= UPSTREAM_SETTLED_MS)
        link->backoff_ms = 0;
    uint32_t next = link->backoff_ms ? link->backoff_ms * 2 : UPSTREAM_BACKOFF_MIN_MS;
    link->backoff_ms = next < UPSTREAM_BACKOFF_MAX_MS ? next : UPSTREAM_BACKOFF_MAX_MS;
    link_ended(link, PHASE_DOWN);
    link->until_ms = now + link->backoff_ms / 2 + rand_below(&up->rand, link->backoff_ms / 2 + 1);
}

void link_close_pause(struct upstream_link *link) {
    if (!is_open(link))
        return;
    link->up->ops->close(link->up->env, link->handle);
    link_ended_pause(link);
}

void link_restart(struct upstream_link *link) {
    if (!is_open(link))
        return;
    link->up->ops->close(link->up->env, link->handle);
    link_ended(link, PHASE_DOWN);
    link->until_ms = upstream_now(link->up);
}

void link_break(struct upstream_link *link, const char *why) {
    link->up->protocol_errors_total++;
    log_warn("link-broken", "node=%s reason=%s", log_quote(slice_str(link->address)), why);
    link_close_pause(link);
}

/* Of two links to one node one is enough. Seeds may be needed again when the other one ends. */
static void link_park(struct upstream_link *link) {
    if (is_open(link)) {
        link->up->ops->close(link->up->env, link->handle);
        link_ended(link, PHASE_PARKED);
    } else {
        set_phase(link, PHASE_PARKED);
    }
    link->doomed = !link->seed;
}

/* Another link that is ready and leads to the same node. */
static struct upstream_link *twin_of(const struct upstream_link *link) {
    LIST_FOREACH (it, &link->up->links) {
        struct upstream_link *other = LIST_ENTRY(it, struct upstream_link, node);
        if (other != link && link->node_id && other->phase == PHASE_READY &&
            other->node_id == link->node_id)
            return other;
    }
    return NULL;
}

void links_sweep(struct upstream *up) {
    LIST_FOREACH_SAFE (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->doomed)
            link_free(link);
    }
}

/* ---- connecting ---- */

static void link_connect(struct upstream_link *link, uint64_t now) {
    struct upstream *up = link->up;
    set_phase(link, PHASE_CONNECTING);
    link->until_ms = now + UPSTREAM_GREETING_MS;
    buf_fini(&link->in);
    link->handle = up->ops->connect(up->env, link->address, link);
    if (!link->handle)
        link_ended_pause(link);
}

static bool link_owes(const struct upstream_link *link) {
    return link->reads.requests > 0 || link->writes.requests > 0;
}

/* A node that is frozen keeps its connections. Whoever owes answers and is silent is asked whether
 * it is there; the answer does not wait for anything, so its lack says that nothing else will come
 * soon either. When it is us who were away, what it sent meanwhile is still to be read. */
static void link_watch(struct upstream_link *link, uint64_t now) {
    struct upstream *up = link->up;
    if (!link_owes(link)) {
        link->pinged_ms = 0;
    } else if (link->pinged_ms == 0) {
        if (now - link->heard_ms < UPSTREAM_PING_AFTER_MS)
            return;
        struct buf out = {0};
        link_put_ping(&out, LINK_PING, now);
        up->ops->send(up->env, link->handle, buf_slice(&out));
        buf_fini(&out);
        link->pinged_ms = now;
        link->ping_extended = false;
    } else if (now - link->pinged_ms >= UPSTREAM_PING_LIMIT_MS) {
        if (!link->ping_extended && now - link->pinged_ms >= 3 * UPSTREAM_PING_LIMIT_MS / 2) {
            link->ping_extended = true;
            link->pinged_ms = now - UPSTREAM_PING_LIMIT_MS / 2;
            return;
        }
        log_warn("link-silent", "node=%s", log_quote(slice_str(link->address)));
        link_close_pause(link);
    }
}

void links_tick(struct upstream *up, uint64_t now) {
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->phase == PHASE_READY)
            link_watch(link, now);
        if (link->doomed || link->phase >= PHASE_READY || link->until_ms > now)
            continue;
        if (link->phase != PHASE_DOWN)
            link_close_pause(link);
        else if (!link->local && twin_of(link))
            link_park(link);
        else
            link_connect(link, now);
    }
}

uint64_t links_deadline(const struct upstream *up) {
    uint64_t at = UINT64_MAX;
    LIST_FOREACH (it, (struct list *)&up->links) {
        const struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        uint64_t due = UINT64_MAX;
        if (link->phase == PHASE_READY && link_owes(link))
            due = link->pinged_ms ? link->pinged_ms + UPSTREAM_PING_LIMIT_MS
                                  : link->heard_ms + UPSTREAM_PING_AFTER_MS;
        else if (!link->doomed && link->phase < PHASE_READY)
            due = link->until_ms;
        if (due < at)
            at = due;
    }
    return at;
}

void upstream_on_connected(struct upstream_link *link) {
    struct upstream *up = link->up;
    set_phase(link, PHASE_GREETING);
    struct link_hello hello = {.version = LINK_VERSION};
    memcpy(hello.session, up->session.id, sizeof hello.session);
    struct buf out = {0};
    link_put_hello(&out, &hello);
    up->ops->send(up->env, link->handle, buf_slice(&out));
    buf_fini(&out);
}

void upstream_on_closed(struct upstream_link *link) {
    struct upstream *up = link->up;
    if (link->phase == PHASE_READY)
        log_info("link-down", "node=%s", log_quote(slice_str(link->address)));
    link_ended_pause(link);
    upstream_deliver(up);
}

/* ---- topology ---- */

static bool is_member(const struct upstream *up, const struct upstream_link *link) {
    for (size_t i = 0; i < up->member_count; i++)
        if ((link->phase == PHASE_READY && link->node_id == up->members[i].id) ||
            slice_equal_str(up->members[i].peer_address, link->address))
            return true;
    return false;
}

static bool has_link(const struct upstream *up, const struct link_member *m) {
    LIST_FOREACH (it, (struct list *)&up->links) {
        const struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->doomed)
            continue;
        if ((link->phase == PHASE_READY && link->node_id == m->id) ||
            slice_equal_str(m->peer_address, link->address))
            return true;
    }
    return false;
}

/* One link for each member; those to nodes that are none any more go, seeds excepted. */
static void reconcile(struct upstream *up) {
    for (size_t i = 0; i < up->member_count; i++)
        if (up->members[i].peer_address.size && !has_link(up, &up->members[i]))
            (void)link_new(up, up->members[i].peer_address, false);
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->seed || link->doomed || is_member(up, link))
            continue;
        link_restart(link);
        link->doomed = true;
    }
}

static void take_members(struct upstream *up, const struct link_topology *t) {
    struct slice in = t->members;
    struct buf bytes = {0};
    struct link_member *members = xcalloc(t->count, sizeof *members);
    /* Nothing may grow it any more once slices point into it. */
    buf_reserve(&bytes, t->members.size);
    for (uint32_t i = 0; i < t->count; i++) {
        CHECK(link_next_member(&in, &members[i]));
        struct slice *parts[] = {&members[i].peer_address, &members[i].http_address,
                                 &members[i].redis_address};
        for (size_t k = 0; k < ARRAY_COUNT(parts); k++) {
            size_t at = bytes.size;
            buf_append_slice(&bytes, *parts[k]);
            *parts[k] = slice_of(bytes.data + at, parts[k]->size);
        }
    }
    free(up->members);
    buf_fini(&up->members_bytes);
    up->members = members;
    up->member_count = t->count;
    up->members_bytes = bytes;
}

static bool names_node(const struct link_topology *t, uint64_t id) {
    struct slice in = t->members;
    struct link_member m;
    for (uint32_t i = 0; i < t->count; i++)
        if (link_next_member(&in, &m) && m.id == id)
            return true;
    return false;
}

/* A node that is behind knows an old membership, and going by that one would end the links to those
 * who came since, perhaps to the leader. A node that is joining, or was removed, does not stand in
 * what it knows; in the leader's own term nobody knows better than the leader. */
static bool members_credible(const struct upstream_link *link, const struct link_topology *t) {
    const struct upstream *up = link->up;
    if (up->member_count == 0)
        return true;
    if (t->term < up->members_term || !t->leader_id || !names_node(t, link->node_id))
        return false;
    return t->term > up->members_term || up->members_from == 0 || up->members_from == link->node_id;
}

static bool on_topology(struct upstream_link *link, struct slice payload) {
    struct upstream *up = link->up;
    struct link_topology t;
    if (!link_decode_topology(payload, &t))
        return false;
    link->topology_seen = true;
    link->knows_leader = t.leader_id != 0;
    if (t.leader_id && t.term >= up->leader_term) {
        if (t.term != up->leader_term || t.leader_id != up->leader_id) {
            up->refuser = NULL;
            hold_clear(&up->leader_hold);
            /* Also for the same leader in a new term: between the two somebody may have cut off
             * what it had proposed, and then it never answers that. */
            up->write_link = NULL;
        }
        up->leader_term = t.term;
        up->leader_id = t.leader_id;
    } else if (!t.leader_id && t.term >= up->leader_term && link->node_id == up->leader_id) {
        /* Nobody knows better than the leader itself that it is none any more. */
        up->leader_id = 0;
    }
    /* Who knows a leader can perhaps answer again. */
    if (t.leader_id)
        hold_clear(&link->holds[HOLD_LINEARIZABLE]);
    if (members_credible(link, &t)) {
        up->members_term = t.term;
        up->members_from = t.leader_id == link->node_id ? t.leader_id : 0;
        take_members(up, &t);
        reconcile(up);
    }
    return true;
}

struct upstream_link *links_leader(struct upstream *up, uint64_t now) {
    if (!up->leader_id)
        return NULL;
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->phase != PHASE_READY || link->node_id != up->leader_id || !link->topology_seen)
            continue;
        if (link == up->refuser && now < up->leader_hold.until_ms) {
            upstream_wake_at(up, up->leader_hold.until_ms);
            return NULL;
        }
        return link;
    }
    return NULL;
}

bool link_has_room(const struct upstream_link *link, uint64_t bytes) {
    uint64_t requests = (uint64_t)link->reads.requests + link->writes.requests;
    if (requests == 0)
        return true;
    return requests < link->window_requests &&
           link->reads.bytes + link->writes.bytes + bytes <= link->window_bytes;
}

/* ---- frames ---- */

static bool on_hello(struct upstream_link *link, struct slice payload) {
    static const uint8_t none[16];
    struct upstream *up = link->up;
    struct link_node_hello hello;
    if (link->phase != PHASE_GREETING || !link_decode_node_hello(payload, &hello) ||
        hello.version != LINK_VERSION || hello.window_requests == 0)
        return false;
    /* A node that has not joined yet has no cluster; one of another cluster must not get what is
     * meant for ours. */
    if (memcmp(hello.cluster_id, none, sizeof none) != 0) {
        if (up->cluster_known && memcmp(hello.cluster_id, up->cluster_id, sizeof none) != 0)
            return false;
        memcpy(up->cluster_id, hello.cluster_id, sizeof up->cluster_id);
        up->cluster_known = true;
    }
    set_phase(link, PHASE_READY);
    link->ready_since_ms = link->heard_ms = upstream_now(up);
    link->pinged_ms = 0;
    link->window_requests = hello.window_requests;
    link->window_bytes = hello.window_bytes;
    link->node_id = hello.node_id;
    /* A node keeps one link for a session, the newest. So do we; but the local one comes back. */
    struct upstream_link *twin = twin_of(link);
    if (twin && twin->local)
        link_restart(twin);
    else if (twin)
        link_park(twin);
    return true;
}

static bool on_replies(struct upstream_link *link, struct slice payload) {
    uint32_t count;
    if (!link_decode_count(&payload, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct link_reply r;
        if (!link_next_reply(&payload, &r))
            return false;
        if (!(r.kind == LINK_KIND_WRITE ? writes_on_reply(link, &r) : reads_on_reply(link, &r)))
            return false;
        /* Closed, because the session is gone: what follows belongs to the past. */
        if (link->phase != PHASE_READY)
            return true;
    }
    return payload.size == 0;
}

static bool on_sites(struct upstream_link *link, struct slice payload) {
    struct upstream *up = link->up;
    uint64_t revision;
    if (!link_decode_ping(payload, &revision))
        return false;
    if (revision > up->sites_revision)
        up->sites_revision = revision;
    return true;
}

static bool on_frame(struct upstream_link *link, uint8_t type, struct slice payload) {
    if (type == LINK_NODE_HELLO)
        return on_hello(link, payload);
    if (link->phase != PHASE_READY)
        return false;
    if (type == LINK_TOPOLOGY)
        return on_topology(link, payload);
    if (type == LINK_READ_INDEXED)
        return direct_on_indexed(link, payload);
    if (type == LINK_PONG)
        return link_decode_ping(payload, &(uint64_t){0});
    if (type == LINK_SITES)
        return on_sites(link, payload);
    return type == LINK_REPLIES && on_replies(link, payload);
}

void upstream_on_bytes(struct upstream_link *link, struct slice bytes) {
    struct upstream *up = link->up;
    link->heard_ms = upstream_now(up);
    link->pinged_ms = 0;
    bool kept = link->in.size > 0;
    if (kept) {
        buf_append_slice(&link->in, bytes);
        bytes = buf_slice(&link->in);
    }
    size_t before = bytes.size;
    enum link_take take;
    uint8_t type;
    struct slice payload;
    while ((take = link_take_frame(&bytes, &type, &payload, NULL)) == LINK_TAKE_FRAME) {
        if (!on_frame(link, type, payload))
            take = LINK_TAKE_BAD;
        if (take == LINK_TAKE_BAD || !is_open(link))
            break;
    }
    if (take == LINK_TAKE_BAD && is_open(link))
        link_break(link, "malformed");
    if (!is_open(link))
        buf_fini(&link->in);
    else if (kept)
        buf_consume(&link->in, before - bytes.size);
    else
        buf_append_slice(&link->in, bytes);
    if (link->in.size == 0 && link->in.capacity > UPSTREAM_BATCH_BYTES)
        buf_fini(&link->in);
    direct_run(up);
    upstream_deliver(up);
}
