/* The upstream's writes: the client session, its sequences, sending them again. */
#include <stdlib.h>

#include "base/log.h"
#include "base/reply.h"
#include "gateway/upstream_internal.h"

/* ---- the ring ---- */

static struct upstream_request **ring_at(struct session *s, uint64_t sequence) {
    CHECK(sequence >= s->base);
    CHECK(sequence < s->next);
    return &s->ring[sequence & (s->ring_size - 1)];
}

static void ring_push(struct session *s, struct upstream_request *req) {
    if (s->next - s->base == s->ring_size) {
        uint64_t size = s->ring_size ? s->ring_size * 2 : 64;
        struct upstream_request **ring = xcalloc(size, sizeof(struct upstream_request *));
        for (uint64_t i = s->base; i < s->next; i++)
            ring[i & (size - 1)] = s->ring[i & (s->ring_size - 1)];
        free(s->ring);
        s->ring = ring;
        s->ring_size = size;
    }
    req->id = s->next++;
    *ring_at(s, req->id) = req;
}

/* The sequence is answered, or was certainly not applied and is left out. */
static void ring_clear(struct session *s, struct upstream_request *req) {
    *ring_at(s, req->id) = NULL;
    req->id = 0;
    while (s->base < s->next && !*ring_at(s, s->base))
        s->base++;
    if (s->cursor < s->base)
        s->cursor = s->base;
}

/* ---- the session ---- */

static void session_reset(struct upstream *up) {
    struct session *s = &up->session;
    up->ops->random(up->env, s->id, sizeof s->id);
    s->state = SESSION_NEW;
    s->base = s->next = s->cursor = 1;
    s->open.link = NULL;
}

void writes_init(struct upstream *up) {
    struct session *s = &up->session;
    list_init(&up->writes_new);
    s->open = (struct upstream_request){.kind = UPSTREAM_WRITE, .up = up};
    list_init(&s->open.node);
    list_init(&s->open.time_node);
    argv_append_strs(&s->open.packed_argv, "SESSION.OPEN", NULL);
    session_reset(up);
}

void writes_fini(struct upstream *up) {
    struct session *s = &up->session;
    for (uint64_t i = s->base; i < s->next; i++) {
        struct upstream_request *req = *ring_at(s, i);
        if (!req || req == &s->open)
            continue;
        CHECK(req->orphan);
        buf_fini(&req->packed_argv);
        free(req);
    }
    buf_fini(&s->open.packed_argv);
    free(s->ring);
}

/* A node knows a link by the session in its HELLO, so a new session means new connections; and no
 * reply of the old one can be taken for one of the new. */
static void session_lost(struct upstream *up) {
    struct session *s = &up->session;
    struct list unsent;
    list_init(&unsent);
    log_warn("session-lost", "pending=%llu", (unsigned long long)(s->next - s->base));
    for (uint64_t i = s->base; i < s->next; i++) {
        struct upstream_request *req = *ring_at(s, i);
        if (!req || req == &s->open)
            continue;
        bool doubt = request_in_doubt(req);
        req->link = NULL;
        req->id = 0;
        if (req->orphan)
            request_finish(req, UPSTREAM_UNKNOWN, 0, slice_of(NULL, 0));
        else if (doubt)
            request_fail(req, UPSTREAM_UNKNOWN, "UNAVAILABLE the client session was lost");
        else
            list_push_back(&unsent, &req->node);
    }
    list_splice(&unsent, &up->writes_new);
    list_splice(&up->writes_new, &unsent);
    session_reset(up);
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        link->writes = (struct usage){0};
        link_close_pause(link);
    }
}

/* The database would drop the session before long; nothing is under way, so a new one costs
 * nothing but new connections. */
static void session_renew(struct upstream *up) {
    session_reset(up);
    LIST_FOREACH (it, &up->links) {
        link_restart(LIST_ENTRY(it, struct upstream_link, node));
    }
}

/* ---- where to ---- */

void writes_refused_by(struct upstream_link *link) {
    struct upstream *up = link->up;
    uint64_t now = upstream_now(up);
    if (up->write_link == link)
        up->write_link = NULL;
    if (up->refuser == link && now < up->leader_hold.until_ms)
        return;
    up->refuser = link;
    hold_start(up, &up->leader_hold, now);
}

void writes_choose_link(struct upstream *up, uint64_t now) {
    struct session *s = &up->session;
    if (s->state == SESSION_OPEN && s->base == s->next && !list_empty(&up->writes_new) &&
        now - s->last_use_ms > UPSTREAM_SESSION_IDLE_MS)
        session_renew(up);
    struct upstream_link *target = links_leader(up, now);
    if (target == up->write_link)
        return;
    up->write_link = NULL;
    if (!target)
        return;
    if (target->writes.requests > 0) {
        /* It stays, or is again, the leader, but said no to some, or was none for a moment. What
         * it owes may come yet; what it lost never will. */
        if (!target->grace_until_ms)
            target->grace_until_ms = now + UPSTREAM_GRACE_MS;
        if (now < target->grace_until_ms)
            upstream_wake_at(up, target->grace_until_ms);
        else
            link_restart(target);
        return;
    }
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->writes.requests > 0)
            link_restart(link);
    }
    target->grace_until_ms = 0;
    up->write_link = target;
    s->cursor = s->base;
}

void writes_link_down(struct upstream_link *link) {
    struct session *s = &link->up->session;
    for (uint64_t i = s->base; link->writes.requests > 0 && i < s->next; i++) {
        struct upstream_request *req = *ring_at(s, i);
        if (!req || req->link != link)
            continue;
        usage_remove(&link->writes, req->packed_argv.size);
        req->link = NULL;
        req->doubt = true;
    }
    CHECK(link->writes.requests == 0);
}

/* ---- sending ---- */

void writes_submit(struct upstream *up, struct upstream_request *req) {
    list_push_back(&up->writes_new, &req->node);
}

/* Moves the cursor over what was answered meanwhile. NULL: nothing has to be sent again. */
static struct upstream_request *next_again(struct session *s) {
    for (; s->cursor < s->next; s->cursor++) {
        struct upstream_request *req = *ring_at(s, s->cursor);
        if (req)
            return req;
    }
    return NULL;
}

/* The next write to be sent, not yet taken. */
static struct upstream_request *next_write(struct upstream *up) {
    struct session *s = &up->session;
    struct upstream_request *again = next_again(s);
    if (again)
        return again;
    struct list *first = list_first(&up->writes_new);
    if (!first || s->state == SESSION_OPENING)
        return NULL;
    if (s->state == SESSION_NEW)
        return &s->open;
    if (s->next - s->base >= UPSTREAM_SPAN_MAX)
        return NULL;
    return LIST_ENTRY(first, struct upstream_request, node);
}

uint64_t writes_next_bytes(struct upstream *up) {
    struct upstream_request *req = next_write(up);
    return req ? req->packed_argv.size : 0;
}

/* Gives a request that is sent for the first time its sequence. */
static void take_write(struct upstream *up, struct upstream_request *req) {
    struct session *s = &up->session;
    if (s->cursor < s->next) {
        up->retried_total++;
    } else {
        list_remove(&req->node);
        ring_push(s, req);
        if (req == &s->open)
            s->state = SESSION_OPENING;
    }
    s->cursor++;
}

void writes_fill(struct upstream *up, struct upstream_link *link) {
    struct session *s = &up->session;
    struct upstream_request *req = next_write(up);
    if (!req || !link_has_room(link, req->packed_argv.size))
        return;
    struct link_batch batch;
    size_t begun = up->out.size;
    link_open_writes(&up->out, &batch, s->id, s->base);
    do {
        size_t grown = up->out.size - begun;
        if (batch.count && grown + req->packed_argv.size > UPSTREAM_BATCH_BYTES) {
            link_close(&up->out, &batch);
            begun = up->out.size;
            link_open_writes(&up->out, &batch, s->id, s->base);
        }
        take_write(up, req);
        CHECK(req->link == NULL);
        req->link = link;
        req->ever_sent = true;
        usage_add(&link->writes, req->packed_argv.size);
        struct link_write w = {
            .sequence = req->id, .db = req->db, .packed_argv = buf_slice(&req->packed_argv)};
        link_add_write(&up->out, &batch, &w);
        req = next_write(up);
    } while (req && link_has_room(link, req->packed_argv.size));
    link_close(&up->out, &batch);
    s->last_use_ms = upstream_now(up);
}

/* ---- answers ---- */

static void on_opened(struct upstream *up, struct slice reply) {
    struct session *s = &up->session;
    if (reply_is_error(reply)) {
        session_lost(up);
        return;
    }
    ring_clear(s, &s->open);
    s->state = SESSION_OPEN;
}

/* This attempt was not carried out, or the node cannot tell. */
static void on_refused(struct upstream_link *link, struct upstream_request *req,
                       const struct link_reply *r) {
    struct upstream *up = link->up;
    bool final = r->status == LINK_REFUSED || r->status == LINK_BUSY;
    if (r->status == LINK_NOT_LEADER)
        req->doubt = true;
    /* Busy is final while it is certain that nothing was applied: the client is told, and tries
     * again when it wants. In doubt only asking again brings the truth. */
    if (!final || req == &up->session.open || (req->doubt && r->status == LINK_BUSY)) {
        writes_refused_by(link);
        return;
    }
    ring_clear(&up->session, req);
    if (req->orphan)
        request_finish(req, UPSTREAM_UNKNOWN, 0, slice_of(NULL, 0));
    else if (req->doubt)
        request_fail(req, UPSTREAM_UNKNOWN, "UNAVAILABLE the leader refused to say");
    else if (r->reply.size)
        request_finish(req, UPSTREAM_NOT_APPLIED, 0, r->reply);
    else
        request_fail(req, UPSTREAM_NOT_APPLIED, "BUSY the leader refused");
}

bool writes_on_reply(struct upstream_link *link, const struct link_reply *r) {
    struct upstream *up = link->up;
    struct session *s = &up->session;
    if (r->id == 0 || r->id >= s->next)
        return false;
    /* A leader also answers what its predecessor had proposed, so an answer may come twice, or
     * before the question. */
    struct upstream_request *req = r->id < s->base ? NULL : *ring_at(s, r->id);
    if (!req)
        return true;
    bool asked = req->link == link;
    if (asked) {
        usage_remove(&link->writes, req->packed_argv.size);
        req->link = NULL;
    }
    if (r->status == LINK_SESSION_GONE) {
        /* Back into doubt: that is what it means. */
        req->doubt = true;
        session_lost(up);
    } else if (r->status != LINK_OK) {
        if (asked)
            on_refused(link, req, r);
    } else {
        if (link == up->write_link)
            hold_clear(&up->leader_hold);
        if (req->link) {
            usage_remove(&req->link->writes, req->packed_argv.size);
            req->link = NULL;
        }
        if (req == &s->open) {
            on_opened(up, r->reply);
        } else {
            ring_clear(s, req);
            request_finish(req, UPSTREAM_DONE, r->index, r->reply);
        }
    }
    return true;
}

/* ---- giving up ---- */

bool writes_orphan(struct upstream_request *req) {
    struct session *s = &req->up->session;
    if (req->id == 0)
        return false;
    if (!request_in_doubt(req)) {
        ring_clear(s, req);
        return false;
    }
    struct upstream_request *copy = xmalloc(sizeof *copy);
    *copy = *req;
    copy->orphan = true;
    copy->done = NULL;
    list_init(&copy->node);
    list_init(&copy->time_node);
    *ring_at(s, req->id) = copy;
    req->packed_argv = (struct buf){0};
    req->counted = false;
    req->link = NULL;
    req->id = 0;
    return true;
}
