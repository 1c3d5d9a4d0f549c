#include "net/pair.h"

#include <stdlib.h>

#include "base/buf.h"
#include "net/loop_uv.h"

enum { KEEP_BYTES = 1 << 20 }; /* a larger buffer is given back when it is empty */

/*            shutdown                all is taken
 *   OPEN ----------------> FLUSHING ------------> CLOSED ---> freed, behind on_close
 *     \                                            ^
 *      `-------------------------------------------'  close, or the other end is over
 */
enum pair_state { PAIR_OPEN, PAIR_FLUSHING, PAIR_CLOSED };

struct pair_end {
    struct stream base;
    struct loop *loop;
    struct pair_end *other; /* NULL: freed */
    struct list due;        /* in loop.due: something is to be told */
    struct buf in, spare;   /* written by the other end, not yet handed on; an empty one */
    uint8_t state;
    bool paused;
    bool ended;   /* the other end sends no more than is in `in` */
    bool told;    /* and on_eof said so */
    bool waiting; /* something written here could not be handed on at once: on_drain is owed */
};

static const struct stream_ops pair_ops;

static struct pair_end *pair_of(const struct stream *s) {
    CHECK(s->ops == &pair_ops);
    return CONTAINER_OF(s, struct pair_end, base);
}

static void make_due(struct pair_end *e) {
    list_remove(&e->due);
    list_push_back(&e->loop->due, &e->due);
}

static void pair_write(struct stream *s, struct slice bytes) {
    struct pair_end *e = pair_of(s), *other = e->other;
    if (e->state != PAIR_OPEN || !other || other->state != PAIR_OPEN || bytes.size == 0)
        return;
    buf_append_slice(&other->in, bytes);
    e->waiting |= other->paused;
    make_due(other);
}

static void pair_pause(struct stream *s) {
    pair_of(s)->paused = true;
}

static void pair_resume(struct stream *s) {
    struct pair_end *e = pair_of(s);
    e->paused = false;
    make_due(e);
}

static void pair_shutdown(struct stream *s) {
    struct pair_end *e = pair_of(s);
    if (e->state != PAIR_OPEN)
        return;
    e->state = PAIR_FLUSHING;
    make_due(e);
}

static void pair_close(struct stream *s) {
    struct pair_end *e = pair_of(s);
    e->state = PAIR_CLOSED;
    make_due(e);
}

static size_t pair_pending_bytes(const struct stream *s) {
    const struct pair_end *e = pair_of(s);
    return e->other ? e->other->in.size : 0;
}

static const char *pair_peer(const struct stream *s) {
    (void)s;
    return "local";
}

static const struct stream_ops pair_ops = {
    .write = pair_write,
    .pause = pair_pause,
    .resume = pair_resume,
    .shutdown = pair_shutdown,
    .close = pair_close,
    .pending_bytes = pair_pending_bytes,
    .peer = pair_peer,
};

static struct pair_end *pair_end_new(struct loop *l) {
    struct pair_end *e = xcalloc(1, sizeof *e);
    e->base.ops = &pair_ops;
    e->loop = l;
    list_init(&e->due);
    return e;
}

void stream_pair_new(struct loop *l, struct stream **ret_a, struct stream **ret_b) {
    struct pair_end *a = pair_end_new(l), *b = pair_end_new(l);
    a->other = b;
    b->other = a;
    *ret_a = &a->base;
    *ret_b = &b->base;
}

/* The other end hears that nothing follows. */
static void end_other(struct pair_end *e) {
    if (!e->other)
        return;
    e->other->ended = true;
    make_due(e->other);
}

static void hand_on(struct pair_end *e) {
    struct buf now = e->in;
    e->in = e->spare;
    e->spare = (struct buf){0};
    e->base.handler->on_read(e->base.ctx, buf_slice(&now));
    if (now.capacity > KEEP_BYTES)
        buf_fini(&now);
    buf_reset(&now);
    buf_fini(&e->spare);
    e->spare = now;
    struct pair_end *other = e->other;
    if (!other || e->in.size > 0)
        return;
    if (other->state == PAIR_FLUSHING)
        make_due(other);
    if (other->waiting && other->state == PAIR_OPEN) {
        other->waiting = false;
        if (other->base.handler->on_drain)
            other->base.handler->on_drain(other->base.ctx);
    }
}

static void pair_free(struct pair_end *e) {
    end_other(e);
    if (e->other)
        e->other->other = NULL;
    if (e->base.handler && e->base.handler->on_close)
        e->base.handler->on_close(e->base.ctx, 0);
    list_remove(&e->due);
    buf_fini(&e->in);
    buf_fini(&e->spare);
    free(e);
}

static void deliver(struct pair_end *e) {
    if (e->state == PAIR_OPEN && e->in.size > 0 && !e->paused)
        hand_on(e);
    if (e->state == PAIR_OPEN && e->ended && e->in.size == 0 && !e->told) {
        e->told = true;
        if (e->base.handler->on_eof)
            e->base.handler->on_eof(e->base.ctx);
        else
            e->state = PAIR_CLOSED;
    }
    if (e->state == PAIR_FLUSHING) {
        end_other(e);
        if (pair_pending_bytes(&e->base) == 0 || e->other->state != PAIR_OPEN)
            e->state = PAIR_CLOSED;
    }
    if (e->state == PAIR_CLOSED)
        pair_free(e);
}

bool pairs_deliver(struct loop *l) {
    struct list now, *first;
    bool any = false;
    list_init(&now);
    list_splice(&now, &l->due);
    while ((first = list_first(&now))) {
        list_remove(first);
        deliver(LIST_ENTRY(first, struct pair_end, due));
        any = true;
    }
    return any;
}
