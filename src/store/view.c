/* Reading: views, and commands that only read. */
#include <errno.h>
#include <stdlib.h>

#include "base/reply.h"
#include "store/store_impl.h"

int store_view_new(struct store *s, struct store_view **ret_view) {
    struct store_view *v = xcalloc(1, sizeof *v);
    v->store = s;
    int rc = env_read_open(&s->env, &v->txn);
    if (rc) {
        free(v);
        return rc;
    }
    env_read_park(&v->txn);
    keyspace_init(&v->ks, &v->txn, &v->state, &s->hashes, false);
    __atomic_add_fetch(&s->view_count, 1, __ATOMIC_SEQ_CST);
    *ret_view = v;
    return 0;
}

void store_view_free(struct store_view *v) {
    CHECK(!v->active);
    env_read_close(&v->txn);
    keyspace_fini(&v->ks);
    __atomic_sub_fetch(&v->store->view_count, 1, __ATOMIC_SEQ_CST);
    free(v);
}

int store_view_begin(struct store_view *v) {
    CHECK(!v->active);
    int rc = env_read_renew(&v->txn);
    if (rc)
        return rc;
    rc = state_load(&v->txn, &v->state);
    if (rc) {
        env_read_park(&v->txn);
        return rc < 0 ? rc : -EBADMSG;
    }
    keyspace_reset(&v->ks);
    v->active = true;
    return 0;
}

void store_view_end(struct store_view *v) {
    CHECK(v->active);
    v->active = false;
    env_read_park(&v->txn);
}

uint64_t store_view_applied_index(const struct store_view *v) {
    CHECK(v->active);
    return v->state.applied_index;
}

int store_read(struct store_view *v, uint16_t db, uint64_t now_ms, uint64_t seed,
               const struct argv *argv, struct buf *out) {
    CHECK(v->active);
    CHECK(argv->count > 0);
    if (db >= STORE_DB_ALL) {
        reply_error(out, "ERR DB index is out of range");
        return 0;
    }
    v->ks.now_ms = now_ms > v->state.time_ms ? now_ms : v->state.time_ms;
    v->ks.rand.state = seed;
    int rc = command_execute(&v->ks, db, argv, out);
    CHECK(rc <= 0);
    return rc;
}
