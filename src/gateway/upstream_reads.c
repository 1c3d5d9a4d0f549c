/* The upstream's reads and administrative requests: which node, ids, asking another one. */
#include <stdlib.h>

#include "gateway/upstream_internal.h"

void reads_init(struct upstream *up) {
    up->slot_free = UINT32_MAX;
    for (size_t q = 0; q < QUEUE_COUNT; q++)
        list_init(&up->reads[q]);
}

void reads_fini(struct upstream *up) {
    for (uint32_t i = 0; i < up->slot_count; i++)
        free(up->slots[i].ask);
    free(up->slots);
}

/* ---- slots ---- */

static uint32_t slot_take(struct upstream *up) {
    if (up->slot_free == UINT32_MAX) {
        uint32_t old = up->slot_count;
        up->slot_count = old ? old * 2 : 64;
        up->slots = xrealloc(up->slots, up->slot_count * sizeof *up->slots);
        for (uint32_t i = up->slot_count; i-- > old;) {
            up->slots[i] = (struct read_slot){.next_free = up->slot_free};
            up->slot_free = i;
        }
    }
    uint32_t at = up->slot_free;
    up->slot_free = up->slots[at].next_free;
    return at;
}

struct read_slot *reads_slot_take(struct upstream_link *link, uint64_t bytes, uint64_t *ret_id) {
    struct upstream *up = link->up;
    uint32_t at = slot_take(up);
    struct read_slot *slot = &up->slots[at];
    slot->link = link;
    slot->bytes = bytes;
    usage_add(&link->reads, bytes);
    *ret_id = (uint64_t)slot->generation << 32 | at;
    return slot;
}

void reads_slot_release(struct upstream *up, struct read_slot *slot) {
    usage_remove(&slot->link->reads, slot->bytes);
    slot->link->polls -= slot->poll;
    slot->poll = false;
    slot->req = NULL;
    slot->ask = NULL;
    slot->link = NULL;
    slot->generation++;
    slot->next_free = up->slot_free;
    up->slot_free = (uint32_t)(slot - up->slots);
}

struct read_slot *reads_slot_find(struct upstream *up, uint64_t id) {
    uint32_t at = (uint32_t)id;
    if (at >= up->slot_count || up->slots[at].generation != id >> 32 || !up->slots[at].link)
        return NULL;
    return &up->slots[at];
}

void reads_detach(struct upstream_request *req) {
    if (!req->link)
        return;
    struct read_slot *slot = reads_slot_find(req->up, req->id);
    CHECK(slot && slot->req == req);
    slot->req = NULL;
    req->link = NULL;
    req->id = 0;
}

/* ---- where to ---- */

static bool usable(const struct upstream_link *link, enum hold_kind kind, uint64_t now) {
    return link->phase == PHASE_READY && now >= link->holds[kind].until_ms;
}

/* A node that knows no leader (it is cut off, or was removed) cannot confirm a read, but keeps it
 * waiting until it does: it is asked only while nobody knows one. */
static bool somebody_leads(const struct upstream *up, enum hold_kind kind, uint64_t now) {
    LIST_FOREACH (it, (struct list *)&up->links) {
        const struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (kind == HOLD_LINEARIZABLE && link->knows_leader && usable(link, kind, now))
            return true;
    }
    return false;
}

/* The local node; else the one that has reads under way (see upstream.h on order); else the next in
 * turn. */
static struct upstream_link *pick(struct upstream *up, enum hold_kind kind, uint64_t now) {
    struct upstream_link *last = NULL;
    bool leads = somebody_leads(up, kind, now);
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->phase == PHASE_READY && !usable(link, kind, now))
            upstream_wake_at(up, link->holds[kind].until_ms);
        if (!usable(link, kind, now) || (leads && !link->knows_leader))
            continue;
        if (link->local)
            return link;
        if (it == up->round_robin)
            last = link;
    }
    if (last && last->reads.requests > last->polls)
        return last;
    struct list *it = up->round_robin;
    for (uint32_t i = 0; i <= up->link_count; i++) {
        it = it->next;
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (it == &up->links || !usable(link, kind, now) || (leads && !link->knows_leader))
            continue;
        up->round_robin = it;
        return link;
    }
    return NULL;
}

static struct upstream_link *link_of_node(struct upstream *up, uint64_t node_id) {
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->node_id == node_id && link->phase == PHASE_READY)
            return link;
    }
    return NULL;
}

static struct upstream_request *first_of(struct upstream *up, int queue) {
    struct list *first = list_first(&up->reads[queue]);
    return first ? LIST_ENTRY(first, struct upstream_request, node) : NULL;
}

void reads_choose_links(struct upstream *up, uint64_t now,
                        struct upstream_link *ret_links[QUEUE_COUNT]) {
    for (int q = 0; q < QUEUE_COUNT; q++)
        ret_links[q] = NULL;
    if (!list_empty(&up->reads[QUEUE_READ]))
        ret_links[QUEUE_READ] = pick(up, HOLD_LINEARIZABLE, now);
    if (!list_empty(&up->reads[QUEUE_STALE]) || !list_empty(&up->reads[QUEUE_ADMIN]))
        ret_links[QUEUE_STALE] = ret_links[QUEUE_ADMIN] = pick(up, HOLD_ANY, now);
    if (!list_empty(&up->reads[QUEUE_ADMIN_LEADER]))
        ret_links[QUEUE_ADMIN_LEADER] = links_leader(up, now);
    if (!list_empty(&up->reads[QUEUE_ADMIN_NODE]))
        ret_links[QUEUE_ADMIN_NODE] = link_of_node(up, first_of(up, QUEUE_ADMIN_NODE)->node_id);
}

/* ---- sending ---- */

void reads_enqueue(struct upstream_request *req, enum read_queue queue) {
    req->queue = (uint8_t)queue;
    req->read_index = 0;
    list_push_back(&req->up->reads[queue], &req->node);
}

void reads_submit(struct upstream *up, struct upstream_request *req) {
    if (req->kind == UPSTREAM_READ_STALE && direct_submit(req))
        return;
    reads_enqueue(req, req->kind == UPSTREAM_ADMIN && req->node_id ? QUEUE_ADMIN_NODE
                       : req->kind == UPSTREAM_ADMIN               ? QUEUE_ADMIN
                       : req->kind == UPSTREAM_READ_STALE          ? QUEUE_STALE
                                                                   : QUEUE_READ);
}

uint64_t reads_next_bytes(struct upstream *up, const struct upstream_link *link,
                          struct upstream_link *const links[QUEUE_COUNT]) {
    uint64_t bytes = 0;
    for (int q = 0; q < QUEUE_COUNT; q++) {
        struct upstream_request *req = links[q] == link ? first_of(up, q) : NULL;
        if (q == QUEUE_READ && direct_link(link))
            continue; /* it does not travel */
        if (req && req->packed_argv.size > bytes)
            bytes = req->packed_argv.size;
    }
    return bytes;
}

static void put(struct upstream *up, struct upstream_link *link, struct upstream_request *req) {
    struct read_slot *slot = reads_slot_take(link, req->packed_argv.size, &req->id);
    slot->req = req;
    slot->poll = req->poll;
    link->polls += req->poll;
    list_remove(&req->node);
    req->link = link;
    up->retried_total += req->ever_sent;
    req->ever_sent = true;
}

static void fill_reads(struct upstream *up, struct upstream_link *link, enum read_queue queue) {
    struct upstream_request *req = first_of(up, queue);
    if (!req || !link_has_room(link, req->packed_argv.size))
        return;
    struct link_batch batch;
    size_t begun = up->out.size;
    link_open_reads(&up->out, &batch);
    do {
        if (batch.count && up->out.size - begun + req->packed_argv.size > UPSTREAM_BATCH_BYTES) {
            link_close(&up->out, &batch);
            begun = up->out.size;
            link_open_reads(&up->out, &batch);
        }
        put(up, link, req);
        struct link_read r = {.id = req->id,
                              .flags = queue == QUEUE_STALE ? LINK_READ_STALE : 0,
                              .db = req->db,
                              .min_index = req->min_index,
                              .packed_argv = buf_slice(&req->packed_argv)};
        link_add_read(&up->out, &batch, &r);
        req = first_of(up, queue);
    } while (req && link_has_room(link, req->packed_argv.size));
    link_close(&up->out, &batch);
}

static void fill_admins(struct upstream *up, struct upstream_link *link, enum read_queue queue) {
    struct upstream_request *req;
    while ((req = first_of(up, queue)) && link_has_room(link, req->packed_argv.size) &&
           (queue != QUEUE_ADMIN_NODE || req->node_id == link->node_id)) {
        put(up, link, req);
        struct link_admin a = {.id = req->id, .packed_argv = buf_slice(&req->packed_argv)};
        link_put_admin(&up->out, &a);
    }
}

void reads_fill(struct upstream *up, struct upstream_link *link,
                struct upstream_link *const links[QUEUE_COUNT]) {
    if (direct_link(link))
        direct_fill(link, links[QUEUE_READ] == link);
    for (int q = 0; q < QUEUE_COUNT; q++) {
        if (links[q] != link || (q == QUEUE_READ && direct_link(link)))
            continue;
        if (q == QUEUE_READ || q == QUEUE_STALE)
            fill_reads(up, link, (enum read_queue)q);
        else
            fill_admins(up, link, (enum read_queue)q);
    }
}

/* ---- answers ---- */

void reads_ask_elsewhere(struct upstream_link *link, struct upstream_request *req) {
    struct upstream *up = link->up;
    uint64_t now = upstream_now(up);
    enum read_queue queue = (enum read_queue)req->queue;
    if (queue == QUEUE_ADMIN_LEADER) {
        writes_refused_by(link);
    } else {
        struct hold *h = &link->holds[queue == QUEUE_READ ? HOLD_LINEARIZABLE : HOLD_ANY];
        if (now >= h->until_ms)
            hold_start(up, h, now);
    }
    reads_enqueue(req, queue);
}

bool reads_on_reply(struct upstream_link *link, const struct link_reply *r) {
    struct upstream *up = link->up;
    struct read_slot *slot = reads_slot_find(up, r->id);
    if (!slot || slot->link != link || slot->ask || r->status == LINK_SESSION_GONE)
        return false;
    struct upstream_request *req = slot->req;
    reads_slot_release(up, slot);
    if (!req)
        return true;
    req->link = NULL;
    req->id = 0;
    switch (r->status) {
    case LINK_OK:
        req->age_ms = r->kind == LINK_KIND_STALE ? r->age_ms : LINK_AGE_UNKNOWN;
        hold_clear(&link->holds[req->queue == QUEUE_READ ? HOLD_LINEARIZABLE : HOLD_ANY]);
        request_finish(req, UPSTREAM_DONE, r->index, r->reply);
        break;
    case LINK_NOT_LEADER:
        if (req->queue == QUEUE_ADMIN)
            reads_enqueue(req, QUEUE_ADMIN_LEADER);
        else
            reads_ask_elsewhere(link, req);
        break;
    case LINK_UNAVAILABLE:
        req->doubt |= req->kind == UPSTREAM_ADMIN;
        reads_ask_elsewhere(link, req);
        break;
    default:
        /* In doubt: that there is nothing to do any more may be this request's own doing. */
        if (r->reply.size)
            request_finish(req, req->doubt ? UPSTREAM_UNKNOWN : UPSTREAM_NOT_APPLIED, 0, r->reply);
        else
            request_fail(req, UPSTREAM_NOT_APPLIED, "BUSY the node refused");
    }
    return true;
}

void reads_link_down(struct upstream_link *link) {
    struct upstream *up = link->up;
    for (uint32_t i = 0; link->reads.requests > 0 && i < up->slot_count; i++) {
        struct read_slot *slot = &up->slots[i];
        if (slot->link != link)
            continue;
        struct upstream_request *req = slot->req;
        struct direct_ask *ask = slot->ask;
        reads_slot_release(up, slot);
        if (ask)
            direct_ask_lost(up, ask);
        if (!req)
            continue;
        req->link = NULL;
        req->id = 0;
        req->doubt = true;
        if (req->kind == UPSTREAM_ADMIN && !req->repeat)
            request_fail(req, UPSTREAM_UNKNOWN, "UNAVAILABLE the connection to the node broke");
        else
            reads_enqueue(req, (enum read_queue)req->queue);
    }
    CHECK(link->reads.requests == 0);
}
