/* Copies that go wrong, which their nodes must find out by themselves, and mend:
 *
 *   damage     a bit of a stored value changes, as on a bad disk or in bad memory. The digest that
 *              is kept up stays what it was: a count of all records shows it
 *   misapply   an entry is applied as another one, as by a bug, or by a bit that changed on its way
 *              from the log to the store. The node's own sums fit: only the others can tell
 *
 * One server at a time, so that most are right. Clients do not look at what is changed: until it is
 * noticed it can be read. */
#include <stdio.h>

#include "sim.h"
#include "store/store_impl.h"

/* The next entry that can be is applied wrongly on this server, until then. */
static struct {
    struct server *server;
    uint64_t until_us;
} misapply;

bool damage_mended(void) {
    for (int i = 1; i <= SERVERS_MAX; i++) {
        const struct server *s = &sim.servers[i];
        if (s->node && !s->removed &&
            (s->damaged || s->misapplied || node_health(s->node) != HEALTH_SOUND))
            return false;
    }
    return true;
}

/* No copy is wrong, nor that of a server which is down and will come back with it. */
static bool all_right(void) {
    for (int i = 1; i <= SERVERS_MAX; i++) {
        const struct server *s = &sim.servers[i];
        if (!s->removed && (s->damaged || s->misapplied))
            return false;
    }
    return damage_mended();
}

static void server_damage(struct server *s) {
    struct store_view *view;
    struct slice key, value;
    struct slice found[64];
    size_t count = 0;
    if (!s->node || s->damaged || node_health(s->node) != HEALTH_SOUND ||
        store_view_new(node_store(s->node), &view) != 0)
        return;
    CHECK(store_view_begin(view) == 0);
    int rc = table_first(&view->txn, TABLE_MAIN, &key, &value);
    for (; rc == 0 && count < ARRAY_COUNT(found);
         rc = table_next(&view->txn, TABLE_MAIN, &key, &value))
        if (key.size > 1 && key.data[1] == 'x' && value.size > 4)
            found[count++] = value;
    if (count > 0) {
        struct slice victim = found[rand_below(&sim.damage_rand, count)];
        ((uint8_t *)(uintptr_t)victim.data)[victim.size - 1] ^=
            (uint8_t)(1 << rand_below(&sim.damage_rand, 7));
        s->damaged = true;
        stats.damages++;
        sim_trace("s%d a byte of its store changes", s->index);
    }
    store_view_end(view);
    store_view_free(view);
}

/* In one seed of sixteen, so that the runs of all others stay what they were. Three voters are
 * needed to know who is right, so nobody may be missing for good. Only in these runs snapshots wait
 * until the others agree (server.c): elsewhere there are to be many of them. */
void damage_choose(const struct sim_options *base) {
    if (sim.seed % 16 != 14 || !base->damage || (base->voters != 0 && base->voters < 3))
        return;
    sim.o.damage = sim.o.misapply = true;
    sim.o.hot = sim.o.churn = sim.o.replace = false;
    if (sim.o.voters < 3)
        sim.o.voters = 3;
}

static void damage_step(void *arg, uint64_t number) {
    bool any = !all_right();
    if (!sim.faults) {
        misapply.server = NULL; /* also in a second act, in which a minority dies for good */
        return;
    }
    if (!any) {
        uint64_t first = rand_below(&sim.damage_rand, SERVERS_MAX);
        struct server *s = &sim.servers[1 + first];
        if (sim.o.misapply && rand_below(&sim.damage_rand, 4) != 0) {
            for (uint64_t i = 1; i < SERVERS_MAX && !s->node; i++)
                s = &sim.servers[1 + (first + i) % SERVERS_MAX];
            misapply.server = voters_now() >= 3 ? s : NULL;
            misapply.until_us = sim.now_us + 400000;
        } else {
            server_damage(s);
        }
    }
    sim_at(sim.now_us + 20000 + rand_below(&sim.damage_rand, 200000), damage_step, NULL, 0);
}

void damage_begin(void) {
    misapply.server = NULL;
    if (sim.o.damage)
        sim_at(sim.now_us + 1000, damage_step, NULL, 0);
}

/* ---- misapply: store_apply() is called through here (the linker's --wrap) ---- */

int __real_store_apply(struct store *s, uint64_t index, uint64_t term, struct slice entry,
                       store_reply_fn reply_fn, void *ctx);
int __wrap_store_apply(struct store *s, uint64_t index, uint64_t term, struct slice entry,
                       store_reply_fn reply_fn, void *ctx);

int __wrap_store_apply(struct store *s, uint64_t index, uint64_t term, struct slice entry,
                       store_reply_fn reply_fn, void *ctx) {
    struct server *server = misapply.server;
    if (!server || !server->node || node_store(server->node) != s || !sim.faults ||
        sim.now_us > misapply.until_us || !all_right())
        return __real_store_apply(s, index, term, entry, reply_fn, ctx);
    struct buf other = {0};
    buf_append_slice(&other, entry);
    uint8_t *value = memmem(other.data, other.size, CLIENT_LONG_VALUE, strlen(CLIENT_LONG_VALUE));
    /* SET xN as SET zN, which nobody sets: ... | u32 2 | xN | u32 | value. */
    uint8_t *key = value ? value - 4 - 2 : NULL;
    if (key && *key == 'x') {
        *key ^= 2;
        misapply.server = NULL;
        server->misapplied = true;
        stats.misapplied++;
        sim_trace("s%d applies entry %llu wrongly", server->index, (unsigned long long)index);
    }
    int rc = __real_store_apply(s, index, term, buf_slice(&other), reply_fn, ctx);
    buf_fini(&other);
    return rc;
}
