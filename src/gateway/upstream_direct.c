/* Direct reads: executed here, on the store of the node in this process.
 *
 *   linearizable:  queue --flush--> ask --READ_INDEXED--> ready --a turn--> answered
 *   stale:         submit ------------------------------> ready              ^
 *                                                           |                |
 *                     read_index is not applied here yet:   late --> ask ----+
 *
 * The node's answer to an ask says that its index is confirmed and applied, so late is for reads
 * that want a state of their own (min_index). Nothing rests on that: every read compares its
 * read_index with the view that it is executed on.
 */
#include <stdlib.h>

#include "gateway/upstream_internal.h"

void direct_init(struct upstream *up, struct store_gate *gate) {
    list_init(&up->direct.ready);
    list_init(&up->direct.late);
    list_init(&up->direct.executed);
    up->direct.gate = gate;
    if (gate)
        up->direct.reader = store_reader_new(gate);
}

void direct_fini(struct upstream *up) {
    if (up->direct.reader)
        store_reader_free(up->direct.reader);
    argv_fini(&up->direct.argv);
    buf_fini(&up->direct.reply);
}

static struct upstream_link *local_link(struct upstream *up) {
    LIST_FOREACH (it, &up->links) {
        struct upstream_link *link = LIST_ENTRY(it, struct upstream_link, node);
        if (link->local)
            return link;
    }
    return NULL;
}

static enum hold_kind hold_of(const struct upstream_request *req) {
    return req->queue == QUEUE_READ ? HOLD_LINEARIZABLE : HOLD_ANY;
}

bool direct_submit(struct upstream_request *req) {
    struct upstream *up = req->up;
    struct upstream_link *link = up->direct.reader ? local_link(up) : NULL;
    if (!link || upstream_now(up) < link->holds[HOLD_ANY].until_ms)
        return false;
    req->queue = QUEUE_STALE;
    req->read_index = req->min_index;
    list_push_back(&up->direct.ready, &req->node);
    return true;
}

/* ---- asking ---- */

static void ask(struct upstream_link *link, struct direct_ask *a, uint64_t min_index) {
    struct upstream *up = link->up;
    struct link_read_index frame = {.flags = a->confirmed ? LINK_READ_STALE : 0,
                                    .min_index = min_index};
    reads_slot_take(link, 0, &frame.id)->ask = a;
    link_put_read_index(&up->out, &frame);
}

static struct direct_ask *ask_new(bool confirmed) {
    struct direct_ask *a = xcalloc(1, sizeof *a);
    list_init(&a->requests);
    a->confirmed = confirmed;
    return a;
}

static void ask_free(struct upstream *up, struct direct_ask *a) {
    CHECK(list_empty(&a->requests));
    up->direct.asks -= !a->confirmed;
    free(a);
}

void direct_fill(struct upstream_link *link, bool reads_wanted) {
    struct upstream *up = link->up;
    struct list *first;
    while ((first = list_first(&up->direct.late)) && link_has_room(link, 0)) {
        struct upstream_request *req = LIST_ENTRY(first, struct upstream_request, node);
        struct direct_ask *a = ask_new(true);
        list_remove(&req->node);
        list_push_back(&a->requests, &req->node);
        ask(link, a, req->read_index);
    }
    struct list *reads = &up->reads[QUEUE_READ];
    if (!reads_wanted || list_empty(reads) || up->direct.asks >= UPSTREAM_ASKS_MAX ||
        !link_has_room(link, 0))
        return;
    struct direct_ask *a = ask_new(false);
    LIST_FOREACH (it, reads) {
        struct upstream_request *req = LIST_ENTRY(it, struct upstream_request, node);
        up->retried_total += req->ever_sent;
        req->ever_sent = true;
    }
    list_splice(&a->requests, reads);
    up->direct.asks++;
    ask(link, a, 0);
}

void direct_ask_lost(struct upstream *up, struct direct_ask *a) {
    struct list *first;
    while ((first = list_first(&a->requests))) {
        struct upstream_request *req = LIST_ENTRY(first, struct upstream_request, node);
        list_remove(&req->node);
        if (a->confirmed)
            list_push_back(&up->direct.late, &req->node);
        else
            reads_enqueue(req, (enum read_queue)req->queue);
    }
    ask_free(up, a);
}

static void take_index(struct direct_ask *a, const struct link_read_indexed *answer) {
    LIST_FOREACH (it, &a->requests) {
        struct upstream_request *req = LIST_ENTRY(it, struct upstream_request, node);
        req->read_index = req->min_index > answer->index ? req->min_index : answer->index;
        req->read_ms = answer->time_ms;
    }
}

bool direct_on_indexed(struct upstream_link *link, struct slice payload) {
    struct upstream *up = link->up;
    struct link_read_indexed answer;
    if (!link_decode_read_indexed(payload, &answer))
        return false;
    struct read_slot *slot = reads_slot_find(up, answer.id);
    if (!slot || slot->link != link || !slot->ask)
        return false;
    struct direct_ask *a = slot->ask;
    reads_slot_release(up, slot);
    if (answer.status == LINK_OK) {
        if (!a->confirmed)
            take_index(a, &answer);
        list_splice(&up->direct.ready, &a->requests);
        ask_free(up, a);
    } else if (a->confirmed) {
        /* The state is not here yet: ask on, until the time limit. */
        direct_ask_lost(up, a);
    } else {
        struct list *first;
        while ((first = list_first(&a->requests))) {
            struct upstream_request *req = LIST_ENTRY(first, struct upstream_request, node);
            list_remove(&req->node);
            reads_ask_elsewhere(link, req);
        }
        ask_free(up, a);
    }
    return true;
}

/* ---- executing ---- */

/* The node's store is being swapped or closed, or must not be read. */
static void gate_is_closed(struct upstream *up) {
    struct upstream_link *link = local_link(up);
    struct list *first;
    while ((first = list_first(&up->direct.ready))) {
        struct upstream_request *req = LIST_ENTRY(first, struct upstream_request, node);
        list_remove(&req->node);
        reads_ask_elsewhere(link, req);
    }
}

/* What all reads of a turn share. */
struct turn {
    struct store_view *view;
    uint64_t applied, wall_ms;
    uint32_t age_ms;
};

uint32_t direct_age_ms(const struct store_freshness *fresh, uint64_t now_ms) {
    uint64_t age = now_ms > fresh->since_ms ? now_ms - fresh->since_ms : 0;
    return fresh->known && age < LINK_AGE_UNKNOWN ? (uint32_t)age : LINK_AGE_UNKNOWN;
}

static bool turn_begin(struct upstream *up, struct turn *t) {
    struct store_freshness fresh;
    uint64_t now_ms;
    if (!store_reader_begin(up->direct.reader, &t->view, &fresh))
        return false;
    t->applied = store_view_applied_index(t->view);
    up->ops->node_clocks(up->env, &now_ms, &t->wall_ms);
    t->age_ms = direct_age_ms(&fresh, now_ms);
    return true;
}

/* Appends the answer to direct.reply. */
static bool execute(struct upstream *up, const struct turn *t, struct upstream_request *req) {
    struct direct *d = &up->direct;
    bool stale = req->queue == QUEUE_STALE;
    CHECK(argv_unpack(&d->argv, buf_slice(&req->packed_argv)));
    req->reply_at = d->reply.size;
    int rc = store_read(t->view, req->db, stale ? t->wall_ms : req->read_ms, rand_u64(&up->rand),
                        &d->argv, &d->reply);
    if (rc < 0) {
        store_reader_fail(d->reader, rc);
        return false;
    }
    req->reply_bytes = d->reply.size - req->reply_at;
    req->age_ms = t->age_ms;
    hold_clear(&local_link(up)->holds[hold_of(req)]);
    list_remove(&req->node);
    list_push_back(&d->executed, &req->node);
    d->total++;
    return true;
}

static void execute_ready(struct upstream *up, const struct turn *t) {
    struct direct *d = &up->direct;
    struct list *first;
    for (unsigned i = 0; i < UPSTREAM_TURN_READS && d->reply.size < UPSTREAM_TURN_BYTES; i++) {
        if (!(first = list_first(&d->ready)))
            return;
        struct upstream_request *req = LIST_ENTRY(first, struct upstream_request, node);
        if (req->read_index > t->applied) {
            list_remove(&req->node);
            list_push_back(&d->late, &req->node);
        } else if (!execute(up, t, req)) {
            return;
        }
    }
}

/* Clients are told when the store has been let go. */
void direct_run(struct upstream *up) {
    struct direct *d = &up->direct;
    struct list *first;
    struct turn turn;
    if (list_empty(&d->ready))
        return;
    if (!turn_begin(up, &turn)) {
        gate_is_closed(up);
        return;
    }
    if (d->reply.capacity > 4 * UPSTREAM_TURN_BYTES)
        buf_fini(&d->reply);
    buf_reset(&d->reply);
    execute_ready(up, &turn);
    store_reader_end(d->reader);
    while ((first = list_first(&d->executed))) {
        struct upstream_request *req = LIST_ENTRY(first, struct upstream_request, node);
        request_finish(req, UPSTREAM_DONE, turn.applied,
                       slice_of(d->reply.data + req->reply_at, req->reply_bytes));
    }
}
