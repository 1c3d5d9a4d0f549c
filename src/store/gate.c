#include "store/gate.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"

/* Each reader has a lock of its own, which it holds during its turns: nobody but a closing gate
 * ever waits for it. The store is taken away first, so that a reader that begins one turn after the
 * other cannot keep the gate from closing. */
struct store_gate {
    struct store *store;  /* atomic; NULL: closed */
    uint64_t fresh;       /* atomic: since_ms + 1; 0: not known */
    pthread_mutex_t lock; /* guards the list; taken before a reader's */
    struct list readers;
    void (*fatal)(void *ctx, int error);
    void *ctx;
};

struct store_reader {
    struct store_gate *gate;
    struct list node;
    pthread_mutex_t lock; /* guards the view */
    struct store_view *view;
    bool active;
};

struct store_gate *store_gate_new(void (*fatal)(void *ctx, int error), void *ctx) {
    struct store_gate *g = xcalloc(1, sizeof *g);
    g->fatal = fatal;
    g->ctx = ctx;
    list_init(&g->readers);
    pthread_mutex_init(&g->lock, NULL);
    return g;
}

void store_gate_free(struct store_gate *g) {
    CHECK(!__atomic_load_n(&g->store, __ATOMIC_ACQUIRE));
    CHECK(list_empty(&g->readers));
    pthread_mutex_destroy(&g->lock);
    free(g);
}

void store_gate_open(struct store_gate *g, struct store *s) {
    CHECK(!__atomic_load_n(&g->store, __ATOMIC_ACQUIRE));
    __atomic_store_n(&g->store, s, __ATOMIC_RELEASE);
}

void store_gate_close(struct store_gate *g) {
    __atomic_store_n(&g->store, NULL, __ATOMIC_SEQ_CST);
    __atomic_store_n(&g->fresh, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&g->lock);
    LIST_FOREACH (it, &g->readers) {
        struct store_reader *r = LIST_ENTRY(it, struct store_reader, node);
        pthread_mutex_lock(&r->lock);
        if (r->view)
            store_view_free(r->view);
        r->view = NULL;
        pthread_mutex_unlock(&r->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

void store_gate_note_fresh(struct store_gate *g, uint64_t since_ms) {
    if (__atomic_load_n(&g->store, __ATOMIC_ACQUIRE))
        __atomic_store_n(&g->fresh, since_ms + 1, __ATOMIC_RELEASE);
}

struct store_freshness store_gate_freshness(const struct store_gate *g) {
    uint64_t fresh = __atomic_load_n(&g->fresh, __ATOMIC_ACQUIRE);
    return (struct store_freshness){.known = fresh != 0, .since_ms = fresh != 0 ? fresh - 1 : 0};
}

struct store_reader *store_reader_new(struct store_gate *g) {
    struct store_reader *r = xcalloc(1, sizeof *r);
    r->gate = g;
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_lock(&g->lock);
    list_push_back(&g->readers, &r->node);
    pthread_mutex_unlock(&g->lock);
    return r;
}

void store_reader_free(struct store_reader *r) {
    CHECK(!r->active);
    /* Under the gate's lock: the store cannot go away meanwhile. */
    pthread_mutex_lock(&r->gate->lock);
    list_remove(&r->node);
    if (r->view)
        store_view_free(r->view);
    pthread_mutex_unlock(&r->gate->lock);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

bool store_reader_begin(struct store_reader *r, struct store_view **ret_view,
                        struct store_freshness *ret_fresh) {
    struct store_gate *g = r->gate;
    CHECK(!r->active);
    pthread_mutex_lock(&r->lock);
    struct store *s = __atomic_load_n(&g->store, __ATOMIC_SEQ_CST);
    if (!s) {
        pthread_mutex_unlock(&r->lock);
        return false;
    }
    /* Before the view: what it says holds for every state that is committed later. */
    struct store_freshness fresh = store_gate_freshness(g);
    int rc = r->view ? 0 : store_view_new(s, &r->view);
    if (rc == 0)
        rc = store_view_begin(r->view);
    if (rc < 0) {
        pthread_mutex_unlock(&r->lock);
        g->fatal(g->ctx, rc);
        return false;
    }
    r->active = true;
    *ret_view = r->view;
    if (ret_fresh)
        *ret_fresh = fresh;
    return true;
}

void store_reader_end(struct store_reader *r) {
    CHECK(r->active);
    r->active = false;
    store_view_end(r->view);
    pthread_mutex_unlock(&r->lock);
}

void store_reader_fail(struct store_reader *r, int error) {
    r->gate->fatal(r->gate->ctx, error);
}
