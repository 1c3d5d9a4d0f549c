/* The links: commands from gateways into entries, replies back. */
#include "replica/node_internal.h"

#include "base/log.h"
#include "base/reply.h"

#include <stdlib.h>

/* ---- replies ---- */

void link_end_replies(struct node_link *l) {
    if (!l->replies_open)
        return;
    link_close(&l->out, &l->replies);
    l->replies_open = false;
}

static void link_put_reply(struct node_link *l, const struct link_reply *r) {
    if (!l->replies_open) {
        link_open_replies(&l->out, &l->replies);
        l->replies_open = true;
    }
    link_add_reply(&l->out, &l->replies, r);
    if (r->kind == LINK_KIND_WRITE && l->writes_pending > 0)
        l->writes_pending--;
    if (l->out.size - l->replies.frame_at > NODE_ENTRY_BYTES)
        link_end_replies(l);
}

void link_reply(struct node_link *l, uint64_t id, enum link_reply_kind kind,
                enum link_status status, uint64_t index, struct slice reply) {
    struct link_reply r = {
        .id = id, .kind = (uint8_t)kind, .status = (uint8_t)status, .index = index, .reply = reply};
    link_put_reply(l, &r);
}

void link_reply_stale(struct node_link *l, uint64_t id, uint64_t index, uint32_t age_ms,
                      struct slice reply) {
    struct link_reply r = {.id = id,
                           .kind = LINK_KIND_STALE,
                           .status = LINK_OK,
                           .index = index,
                           .age_ms = age_ms,
                           .reply = reply};
    link_put_reply(l, &r);
}

static void link_reply_text(struct node_link *l, uint64_t id, enum link_reply_kind kind,
                            enum link_status status, const char *text) {
    struct buf b = {0};
    reply_error(&b, "%s", text);
    link_reply(l, id, kind, status, 0, buf_slice(&b));
    buf_fini(&b);
}

static void link_send_out(struct node_link *l) {
    link_end_replies(l);
    if (l->out.size > 0)
        l->owner->ops->link_send(l->owner->env, l->handle, buf_slice(&l->out));
    if (l->out.capacity > 4 * NODE_ENTRY_BYTES)
        buf_fini(&l->out);
    else
        buf_reset(&l->out);
}

void node_flush_links(struct node *n) {
    LIST_FOREACH_SAFE (it, &n->links) {
        link_send_out(LIST_ENTRY(it, struct node_link, node));
    }
}

/* Session ids are random, so that any of their bytes will do. Gateways that chose them badly on
 * purpose would make a node as slow as it is with one bucket. */
static struct node_link **session_bucket(struct node *n, const struct session_id *session) {
    return &n->sessions[get_u32le(session->bytes) & (NODE_SESSION_BUCKETS - 1)];
}

struct node_link *node_link_of_session(struct node *n, const struct session_id *session) {
    struct node_link *l = *session_bucket(n, session);
    while (l && memcmp(&l->session, session, sizeof *session) != 0)
        l = l->next_in_sessions;
    return l;
}

static void session_insert(struct node_link *l) {
    struct node_link **bucket = session_bucket(l->owner, &l->session);
    l->next_in_sessions = *bucket;
    *bucket = l;
}

static void session_remove(struct node_link *l) {
    struct node_link **at = session_bucket(l->owner, &l->session);
    while (*at != l)
        at = &(*at)->next_in_sessions;
    *at = l->next_in_sessions;
}

static bool session_is_zero(const struct session_id *s) {
    static const struct session_id zero;
    return memcmp(s, &zero, sizeof zero) == 0;
}

/* From store_apply(). Every committed command's reply goes to the gateway of its session if it is
 * connected here and we lead; also those that an earlier leader proposed, which saves the gateway
 * from asking again. */
void node_reply_session(void *ctx, const struct session_id *session, uint64_t sequence,
                        enum store_status status, struct slice reply) {
    struct node *n = ctx;
    if (!n->leading)
        return;
    if (session_is_zero(session)) {
        if (sequence != 0)
            node_join_allocated(n, sequence, reply);
        return;
    }
    struct node_link *l = node_link_of_session(n, session);
    if (l)
        link_reply(l, sequence, LINK_KIND_WRITE,
                   status == STORE_SESSION_GONE ? LINK_SESSION_GONE : LINK_OK, n->core_applied + 1,
                   reply);
}

/* ---- topology ---- */

static void put_topology(struct node *n, struct buf *out) {
    struct membership m;
    node_membership(n, &m);
    struct link_batch b;
    link_open_topology(out, &b, node_term(n), node_leader_id(n));
    for (uint32_t i = 0; i < m.count; i++) {
        bool self = m.members[i].id == n->o.id;
        const struct peer *p = self ? NULL : node_peer(n, m.members[i].id);
        struct link_member member = {
            .id = m.members[i].id,
            .role = (uint8_t)m.members[i].role,
            .peer_address = slice_str(m.members[i].address),
            .http_address = slice_str(self ? n->o.http_address
                                      : p  ? p->http
                                           : ""),
            .redis_address = slice_str(self ? n->o.redis_address
                                       : p  ? p->redis
                                            : ""),
        };
        link_add_member(out, &b, &member);
    }
    link_close(out, &b);
}

static void link_tell_topology(struct node *n, struct node_link *l) {
    struct membership m;
    node_membership(n, &m);
    if (!l->greeted || m.count == 0) /* the core is down: told when it is up again */
        return;
    link_end_replies(l);
    put_topology(n, &l->out);
}

void node_tell_topology(struct node *n, struct node_link *only) {
    if (only) {
        link_tell_topology(n, only);
        return;
    }
    uint64_t term = node_term(n), leader = node_leader_id(n);
    if (term == n->told_term && leader == n->told_leader && n->members_version == n->told_version)
        return;
    if (leader != n->told_leader && leader != 0)
        log_info("leader-known", "node=%llu leader=%llu term=%llu", (unsigned long long)n->o.id,
                 (unsigned long long)leader, (unsigned long long)term);
    n->told_term = term;
    n->told_leader = leader;
    n->told_version = n->members_version;
    LIST_FOREACH (it, &n->links) {
        link_tell_topology(n, LIST_ENTRY(it, struct node_link, node));
    }
}

/* ---- sites ---- */

static void link_tell_sites(struct node_link *l, uint64_t revision) {
    if (!l->greeted)
        return;
    link_end_replies(l);
    link_put_ping(&l->out, LINK_SITES, revision);
}

/* From a copy that may be wrong nobody shall read what is new. */
void node_tell_sites(struct node *n) {
    uint64_t revision = n->store && node_may_serve(n) ? store_sites_revision(n->store) : 0;
    if (revision == 0 || revision == n->told_sites)
        return;
    n->told_sites = revision;
    LIST_FOREACH (it, &n->links) {
        link_tell_sites(LIST_ENTRY(it, struct node_link, node), revision);
    }
}

/* ---- refusing ---- */

/* Sends the gateway to the leader. A write must not overtake an earlier one of its session: from
 * the first refused one on, everything on this link is refused until that one comes again or is no
 * longer asked for. */
void link_refuse_commands(struct node_link *l, struct slice commands) {
    struct link_write w;
    while (commands.size > 0 && link_next_write(&commands, &w)) {
        if (l->refused_from == 0 || w.sequence < l->refused_from)
            l->refused_from = w.sequence;
        link_reply(l, w.sequence, LINK_KIND_WRITE, LINK_NOT_LEADER, 0, slice_of(NULL, 0));
    }
}

static bool still_refusing(struct node_link *l, const struct link_writes *writes) {
    struct slice in = writes->commands;
    struct link_write first;
    CHECK(link_next_write(&in, &first));
    if (first.sequence <= l->refused_from || writes->acked_below > l->refused_from)
        l->refused_from = 0;
    return l->refused_from != 0;
}

/* ---- frames from gateways ---- */

void link_end(struct node_link *l) {
    struct node *n = l->owner;
    void *handle = l->handle;
    node_link_closed(l);
    n->ops->link_close(n->env, handle);
}

static bool link_on_hello(struct node_link *l, struct slice payload) {
    struct node *n = l->owner;
    struct link_hello hello;
    if (l->greeted || !link_decode_hello(payload, &hello) || hello.version != LINK_VERSION)
        return false;
    memcpy(l->session.bytes, hello.session, sizeof l->session.bytes);
    if (session_is_zero(&l->session))
        return false;
    /* A gateway that connects again before we noticed that its old connection died. */
    struct node_link *old = node_link_of_session(n, &l->session);
    if (old)
        link_end(old);
    l->greeted = true;
    session_insert(l);
    struct link_node_hello answer = {
        .version = LINK_VERSION,
        .node_id = n->o.id,
        .window_requests = NODE_LINK_WINDOW_REQUESTS,
        .window_bytes = NODE_LINK_WINDOW_BYTES,
    };
    memcpy(answer.cluster_id, n->o.cluster_id, sizeof answer.cluster_id);
    link_put_node_hello(&l->out, &answer);
    node_tell_topology(n, l);
    if (n->told_sites)
        link_tell_sites(l, n->told_sites);
    return true;
}

/* Over the quota growing commands are refused before they enter the log; the rest of the frame goes
 * on. */
static void link_filter_quota(struct node_link *l, const struct link_writes *w) {
    struct node *n = l->owner;
    struct buf kept = {0};
    uint32_t count = 0;
    struct slice in = w->commands;
    struct link_write one;
    while (in.size > 0 && link_next_write(&in, &one)) {
        /* What was executed before gets the answer that is kept for it. */
        if (!store_session_knows(n->store, &l->session, one.sequence) &&
            argv_unpack(&n->argv, one.packed_argv) && command_grows(&n->argv) &&
            !store_once_knows(n->store, &n->argv)) {
            link_reply_text(
                l, one.sequence, LINK_KIND_WRITE, LINK_REFUSED,
                n->disk_low
                    ? "OOM command not allowed when used memory > 'maxmemory': the leader's "
                      "disk is nearly full (--min-free); reads and deletions go on"
                    : "OOM command not allowed when used memory > 'maxmemory': the data "
                      "quota (--max-data) is used up; reads and deletions go on");
        } else {
            entry_append_command(&kept, one.sequence, one.db, one.packed_argv);
            count++;
        }
    }
    if (count > 0) {
        struct entry_group group = {.session = l->session,
                                    .acked_below = w->acked_below,
                                    .command_count = count,
                                    .commands = buf_slice(&kept)};
        struct buf bytes = {0};
        buf_append(&bytes, group.session.bytes, sizeof group.session.bytes);
        buf_append_u64(&bytes, group.acked_below);
        buf_append_u32(&bytes, count);
        buf_append_u32(&bytes, (uint32_t)kept.size);
        buf_append(&bytes, kept.data, kept.size);
        node_batch_add(n, buf_slice(&bytes), count);
        buf_fini(&bytes);
    }
    buf_fini(&kept);
}

static bool link_on_writes(struct node_link *l, struct slice payload) {
    struct node *n = l->owner;
    struct link_writes w;
    if (!link_decode_writes(payload, &w) || w.count == 0 || w.count > NODE_LINK_WINDOW_REQUESTS ||
        memcmp(w.session, &l->session, sizeof l->session) != 0)
        return false;
    struct slice in = w.commands;
    struct link_write one;
    for (uint32_t i = 0; i < w.count; i++)
        if (!link_next_write(&in, &one) || one.sequence == 0 || one.db >= STORE_DB_ALL ||
            !argv_unpack(&n->argv, one.packed_argv))
            return false;
    if (in.size > 0 || w.count > NODE_LINK_WINDOW_REQUESTS - l->writes_pending)
        return false;
    l->writes_pending += w.count;
    if (!node_running(n) || !n->leading || n->state != NODE_RUNNING || n->handover_to != 0) {
        link_refuse_commands(l, w.commands);
        return true;
    }
    if ((l->refused_from != 0 && still_refusing(l, &w)) ||
        n->sealed_bytes + n->batch.size > NODE_BACKLOG_BYTES) {
        link_refuse_commands(l, w.commands);
        return true;
    }
    l->wrote = true;
    n->commands_proposed += w.count;
    n->unlooked_bytes += w.whole.size;
    if (n->unlooked_bytes > NODE_LOOK_BYTES)
        node_look_at_disk(n);
    if (store_over_quota(n->store) || n->disk_low)
        link_filter_quota(l, &w);
    else
        node_batch_add(n, w.whole, w.count);
    return true;
}

static bool link_on_reads(struct node_link *l, struct slice payload) {
    uint32_t count;
    if (!link_decode_count(&payload, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct link_read r;
        if (!link_next_read(&payload, &r) || r.db >= STORE_DB_ALL ||
            l->reads_pending >= NODE_LINK_WINDOW_REQUESTS ||
            (l->reads_pending > 0 && l->read_bytes_pending > NODE_LINK_WINDOW_BYTES) ||
            !argv_unpack(&l->owner->argv, r.packed_argv))
            return false;
        node_read_enqueue(l->owner, l, &r);
    }
    return payload.size == 0;
}

static bool link_on_read_index(struct node_link *l, struct slice payload) {
    struct link_read_index ask;
    if (!link_decode_read_index(payload, &ask) || l->reads_pending >= NODE_LINK_WINDOW_REQUESTS)
        return false;
    node_read_index(l->owner, l, &ask);
    return true;
}

static bool link_on_ping(struct node_link *l, struct slice payload) {
    uint64_t id;
    if (!link_decode_ping(payload, &id))
        return false;
    link_end_replies(l);
    link_put_ping(&l->out, LINK_PONG, id);
    return true;
}

static bool link_on_frame(struct node_link *l, uint8_t type, struct slice payload) {
    struct link_admin admin;
    if (type != LINK_HELLO && !l->greeted)
        return false;
    switch (type) {
    case LINK_HELLO:
        return link_on_hello(l, payload);
    case LINK_WRITES:
        return link_on_writes(l, payload);
    case LINK_READS:
        return link_on_reads(l, payload);
    case LINK_READ_INDEX:
        return link_on_read_index(l, payload);
    case LINK_PING:
        return link_on_ping(l, payload);
    case LINK_ADMIN:
        if (!link_decode_admin(payload, &admin))
            return false;
        node_admin(l->owner, l, admin.id, admin.packed_argv);
        return true;
    default:
        return false;
    }
}

struct node_link *node_link_open(struct node *n, void *handle) {
    if (n->link_count >= NODE_LINKS_MAX)
        return NULL;
    struct node_link *l = xcalloc(1, sizeof *l);
    l->owner = n;
    l->handle = handle;
    list_push_back(&n->links, &l->node);
    n->link_count++;
    return l;
}

bool node_link_greeted(const struct node_link *l) {
    return l->greeted;
}

void node_link_closed(struct node_link *l) {
    struct node *n = l->owner;
    node_read_forget(n, l);
    node_joins_fail(n, l);
    list_remove(&l->node);
    if (l->greeted)
        session_remove(l);
    n->link_count--;
    buf_fini(&l->in);
    buf_fini(&l->out);
    free(l);
}

bool node_link_bytes(struct node_link *l, struct slice bytes) {
    struct node *n = l->owner;
    if (n->state == NODE_FAILED)
        return true;
    bool kept = l->in.size > 0;
    if (kept) {
        buf_append_slice(&l->in, bytes);
        bytes = buf_slice(&l->in);
    }
    enum link_take take;
    uint8_t type;
    struct slice payload;
    size_t need, before = bytes.size;
    while ((take = link_take_frame(&bytes, &type, &payload, &need)) == LINK_TAKE_FRAME) {
        if (!link_on_frame(l, type, payload)) {
            take = LINK_TAKE_BAD;
            break;
        }
    }
    if (!l->greeted && bytes.size > NODE_GREETING_BYTES)
        take = LINK_TAKE_BAD;
    if (take == LINK_TAKE_BAD) {
        n->protocol_errors++;
        log_warn("link-broken", "node=%llu reason=protocol", (unsigned long long)n->o.id);
        node_link_closed(l);
        return false;
    }
    if (kept)
        buf_consume(&l->in, before - bytes.size);
    else if (bytes.size > 0)
        buf_append_slice(&l->in, bytes);
    if (l->in.size == 0 && l->in.capacity > 65536)
        buf_fini(&l->in);
    return true;
}
