/* Watchers: the real hub (gateway/watch_hub.h) on the simulated gateways, and clients that follow
 * all keys through it, as those of /v1/watch do: from the revision they know, on whatever gateway
 * there is, with a change log so short that its end is met.
 *
 *   catch up (KV.CHANGES) --> live (the hub) --its gateway dies, it is slow, it likes to-->
 * elsewhere |     ^ v     | the history is gone state (KV.LIST)
 *
 * What any of them is told is compared with what the others were told: between two revisions that a
 * watcher has passed there are exactly the same changes in the same order, whichever nodes told
 * them. In the end each holds what the store holds. */
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reply.h"
#include "gateway/pack.h"
#include "gateway/watch_hub.h"
#include "sim.h"

enum { WATCHERS = 4, KEYS_MAX = 64, KEY_BYTES = 16, SWEEP_US = 1000000, REVISION_MASK = 0xFFFFF };

struct held {
    char key[KEY_BYTES];
    uint64_t revision, expires_ms;
};

struct follower {
    struct watcher w;
    struct gateway_sim *g; /* NULL: on its way to one */
    struct upstream_request up;
    bool reading, state;
    uint64_t min_index;
    uint64_t turn; /* so that a timer knows whether it is still meant */
    struct held held[KEYS_MAX];
    size_t held_count;
};

/* One change as somebody was told it first. */
struct told {
    uint64_t revision;
    enum watch_op op;
    char key[KEY_BYTES];
};

static struct follower followers[WATCHERS];
static struct told *record; /* complete between from (exclusive) and to */
static size_t record_count, record_capacity;
static uint64_t record_from, record_to;
static bool on;

static void follower_read(struct follower *f);

bool watch_is_on(void) {
    return sim.seed % 4 == 1; /* the runs of other seeds stay what they were */
}

/* ---- what is told ---- */

static void hold(struct follower *f, const struct watch_row *row) {
    char key[KEY_BYTES] = "";
    if (row->key.size >= sizeof key)
        sim_violation("a watcher is told of a key that nobody uses");
    memcpy(key, row->key.data, row->key.size);
    size_t i = 0;
    while (i < f->held_count && strcmp(f->held[i].key, key) != 0)
        i++;
    if (row->op == WATCH_PUT) {
        CHECK(i < KEYS_MAX);
        f->held_count += i == f->held_count;
        memcpy(f->held[i].key, key, sizeof key);
        f->held[i].revision = row->revision;
        f->held[i].expires_ms = row->expires_ms;
    } else if (i < f->held_count) {
        f->held[i] = f->held[--f->held_count];
    } else if (row->op == WATCH_DELETE && key[0] != 'x') {
        /* Those with x expire, and a state does not show what has by the reader's clock, though the
         * log may still be to come to that moment. */
        sim_violation("a watcher is told that %s is gone, which it never had", key);
    }
}

static void remember(const struct watch_row *row) {
    if (record_count == record_capacity) {
        record_capacity = record_capacity ? 2 * record_capacity : 256;
        record = xrealloc(record, record_capacity * sizeof *record);
    }
    struct told *t = &record[record_count++];
    *t = (struct told){.revision = row->revision, .op = row->op};
    CHECK(row->key.size < sizeof t->key);
    memcpy(t->key, row->key.data, row->key.size);
}

/* The changes behind `from` and up to `upto`, in the order in which they came. */
static void check_told(int who, uint64_t from, uint64_t upto, const struct watch_row *rows,
                       size_t count) {
    size_t at = 0;
    if (upto < from)
        sim_violation("watcher %d goes back from %llu to %llu", who, (unsigned long long)from,
                      (unsigned long long)upto);
    if (from > record_to) { /* a state was told in between: what came before is of no use */
        record_count = 0;
        record_from = record_to = from;
    }
    while (at < record_count && record[at].revision <= from)
        at++;
    uint64_t last = from;
    for (size_t i = 0; i < count; i++) {
        const struct watch_row *row = &rows[i];
        if (row->revision < last || row->revision <= from || row->revision > upto)
            sim_violation("watcher %d is told %llu behind %llu, up to %llu", who,
                          (unsigned long long)row->revision, (unsigned long long)last,
                          (unsigned long long)upto);
        last = row->revision;
        if (check_committed_term(row->revision >> 20) == 0)
            sim_violation("watcher %d is told a change of entry %llu, which is not committed", who,
                          (unsigned long long)row->revision >> 20);
        if (row->revision <= record_from)
            continue; /* not compared any more */
        if (row->revision > record_to) {
            remember(row);
            at = record_count;
            continue;
        }
        if (at == record_count || record[at].revision != row->revision ||
            record[at].op != row->op || !slice_equal_str(row->key, record[at].key))
            sim_violation("watcher %d is told %.*s at %llu, another one was told %s at %llu", who,
                          (int)row->key.size, (const char *)row->key.data,
                          (unsigned long long)row->revision,
                          at < record_count ? record[at].key : "nothing",
                          (unsigned long long)(at < record_count ? record[at].revision : 0));
        at++;
    }
    if (at < record_count && record[at].revision <= upto && record[at].revision > record_from &&
        from >= record_from)
        sim_violation("watcher %d was not told of %s at %llu", who, record[at].key,
                      (unsigned long long)record[at].revision);
    if (upto > record_to)
        record_to = upto;
}

static void take_rows(struct follower *f, uint64_t upto, const struct watch_row *rows,
                      size_t count) {
    check_told((int)(f - followers), f->w.position, upto, rows, count);
    for (size_t i = 0; i < count; i++)
        hold(f, &rows[i]);
    stats.watched += count;
}

/* ---- live ---- */

static struct slice field(struct slice text, const char *name) {
    const uint8_t *at = memmem(text.data, text.size, name, strlen(name));
    if (!at)
        return slice_of(NULL, 0);
    at += strlen(name);
    const uint8_t *end = at, *limit = text.data + text.size;
    while (end < limit && *end != '"' && *end != '\n' && *end != ',' && *end != '}')
        end++;
    return slice_of(at, (size_t)(end - at));
}

/* Events back into rows. Keys here are plain. */
static size_t parse_events(struct slice text, struct watch_row *rows, size_t max) {
    static const char *const names[] = {"put", "delete", "expire"};
    size_t count = 0;
    while (text.size > 0) {
        const uint8_t *end = memmem(text.data, text.size, "\n\n", 2);
        CHECK(end != NULL);
        struct slice one = slice_of(text.data, (size_t)(end - text.data) + 1);
        text = slice_of(end + 2, text.size - one.size - 1);
        struct slice name = field(one, "event: "), key = field(one, "\"key\":\"");
        struct watch_row row = {.key = key};
        size_t op = 0;
        while (op < ARRAY_COUNT(names) && !slice_equal_str(name, names[op]))
            op++;
        if (slice_equal_str(name, "progress"))
            continue;
        if (op == ARRAY_COUNT(names) || count == max ||
            !num_parse_u64(field(one, "\"revision\":\""), &row.revision))
            sim_violation("an event of an unknown form: %.*s", (int)one.size,
                          (const char *)one.data);
        row.op = (enum watch_op)op;
        struct slice expires = field(one, "\"expires_ms\":");
        if (expires.size > 0)
            CHECK(num_parse_u64(expires, &row.expires_ms));
        rows[count++] = row;
    }
    return count;
}

static void follower_leave(struct follower *f) {
    f->turn++;
    if (!f->g)
        return;
    watch_hub_leave(f->g->hub, &f->w);
    if (f->reading)
        upstream_forget(f->g->upstream, &f->up);
    f->reading = false;
    f->g = NULL;
}

static void follower_arrive(void *arg, uint64_t turn) {
    struct follower *f = arg;
    if (f->turn != turn || f->g)
        return;
    f->g = &sim.gateways[rand_below(&sim.watch_rand, GATEWAYS_MAX)];
    f->min_index = 0;
    follower_read(f);
    gateway_after(f->g);
}

static void follower_move(struct follower *f) {
    follower_leave(f);
    sim_at(sim.now_us + rand_below(&sim.watch_rand, 60000), follower_arrive, f, f->turn);
}

static void follower_go_on(void *arg, uint64_t turn) {
    struct follower *f = arg;
    if (f->turn != turn || !f->g || f->reading)
        return;
    follower_read(f);
    gateway_after(f->g);
}

/* w->position is the new one already: what it was is known by what was told. */
static void on_deliver(struct watcher *w, struct slice events) {
    enum { ROWS_MAX = 4096 };
    static struct watch_row rows[ROWS_MAX];
    struct follower *f = CONTAINER_OF(w, struct follower, w);
    uint64_t upto = w->position;
    w->position = f->min_index; /* see follower_live() */
    take_rows(f, upto, rows, parse_events(events, rows, ROWS_MAX));
    w->position = f->min_index = upto;
    if (sim.quiet)
        return;
    uint64_t whim = rand_below(&sim.watch_rand, 100);
    if (whim < 3) { /* too slow: it catches up later, from where it is */
        watch_hub_leave(f->g->hub, w);
        f->turn++;
        f->min_index = 0;
        sim_at(sim.now_us + rand_below(&sim.watch_rand, 400000), follower_go_on, f, f->turn);
    } else if (whim < 5) {
        follower_move(f);
    }
}

static void on_lost(struct watcher *w) {
    struct follower *f = CONTAINER_OF(w, struct follower, w);
    f->state = true;
    f->min_index = 0;
    follower_read(f);
}

static void on_ended(struct watcher *w) {
    (void)w;
    sim_violation("a watcher was ended");
}

/* min_index holds the position before a delivery from here on. */
static void follower_live(struct follower *f) {
    const struct watch_filter all = {.values = true};
    uint64_t at;
    if (watch_hub_join(f->g->hub, &f->w, &all, &at)) {
        f->min_index = f->w.position;
        return;
    }
    f->min_index = watch_index(at);
    follower_read(f);
}

/* ---- reads ---- */

static void take_changes(struct follower *f, const struct watch_page *page) {
    if (f->w.position < page->floor || f->w.position > page->upto) {
        if (f->w.position > page->upto)
            sim_violation("a watcher knows %llu, the log ends at %llu",
                          (unsigned long long)f->w.position, (unsigned long long)page->upto);
        stats.watch_resets++;
        f->state = true;
        follower_read(f);
        return;
    }
    struct watch_row *rows = xcalloc(page->count + 1, sizeof *rows);
    struct slice in = page->rows;
    bool ok = true;
    for (uint64_t i = 0; i < page->count && ok; i++)
        ok = watch_row_next(&in, &rows[i]);
    if (ok)
        take_rows(f, page->upto, rows, page->count);
    free(rows);
    if (!ok)
        sim_violation("a malformed page of changes");
    f->w.position = page->upto;
    follower_live(f);
}

static void take_state(struct follower *f, const struct watch_listing *page) {
    struct slice in = page->rows;
    f->held_count = 0;
    for (uint64_t i = 0; i < page->count; i++) {
        struct watch_row row;
        CHECK(watch_listing_next(&in, &row));
        hold(f, &row);
    }
    CHECK(!page->after.data);
    f->state = false;
    f->w.position = page->revision;
    f->min_index = watch_index(page->revision);
    follower_read(f);
}

static void on_read(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    struct follower *f = CONTAINER_OF(up, struct follower, up);
    struct watch_page page;
    struct watch_listing listing;
    (void)index;
    f->reading = false;
    if (outcome != UPSTREAM_DONE) {
        f->turn++;
        f->min_index = 0; /* the node beside it may never get there: it was removed, say */
        sim_at(sim.now_us + 20000, follower_go_on, f, f->turn);
    } else if (f->state) {
        CHECK(watch_listing_parse(reply, &listing));
        take_state(f, &listing);
    } else {
        CHECK(watch_page_parse(reply, &page));
        take_changes(f, &page);
    }
}

static void follower_read(struct follower *f) {
    struct pack p = pack_begin(f->state ? "KV.LIST" : "KV.CHANGES");
    if (f->state) {
        pack_str(&p, "");
        pack_str(&p, "");
        pack_str(&p, "");
        pack_u64(&p, 1000);
        pack_u64(&p, 0);
    } else {
        pack_u64(&p, f->w.position);
        pack_str(&p, "all");
        pack_str(&p, "");
        pack_u64(&p, 1);
    }
    f->up = (struct upstream_request){
        .kind = f->min_index ? UPSTREAM_READ_STALE : UPSTREAM_READ,
        .min_index = f->min_index,
        .timeout_ms = 3000,
        .packed_argv = pack_end(&p),
        .done = on_read,
    };
    f->reading = true;
    upstream_submit(f->g->upstream, &f->up);
}

/* ---- gateways ---- */

static uint64_t hub_now_ms(void *env) {
    (void)env;
    return sim.now_us / 1000;
}

static void hub_sweep(void *arg, uint64_t connection) {
    struct gateway_sim *g = arg;
    if (g->connection != connection || !g->hub)
        return;
    watch_hub_sweep(g->hub);
    gateway_after(g);
    sim_at(sim.now_us + SWEEP_US, hub_sweep, g, connection);
}

void watch_gateway_starts(struct gateway_sim *g) {
    static struct gateway_metrics metrics; /* nobody reads them */
    if (!watch_is_on())
        return;
    g->hub = watch_hub_new(&(struct watch_hub_env){
        .upstream = g->upstream, .now_ms = hub_now_ms, .env = g, .metrics = &metrics});
    sim_at(sim.now_us + SWEEP_US, hub_sweep, g, g->connection);
}

void watch_gateway_stops(struct gateway_sim *g, bool for_good) {
    if (!g->hub)
        return;
    for (int i = 0; i < WATCHERS; i++) {
        if (followers[i].g != g)
            continue;
        if (for_good)
            follower_leave(&followers[i]);
        else
            follower_move(&followers[i]);
    }
    watch_hub_free(g->hub);
    g->hub = NULL;
}

void watch_begin(void) {
    memset(followers, 0, sizeof followers);
    record_count = 0;
    record_from = record_to = 0;
    on = watch_is_on();
    sim.watch_rand.state = sim.seed ^ 0x3A7C4;
    for (int i = 0; i < WATCHERS && on; i++) {
        followers[i].w.deliver = on_deliver;
        followers[i].w.lost = on_lost;
        followers[i].w.ended = on_ended;
        follower_move(&followers[i]);
    }
}

/* ---- the end ---- */

/* A gateway of a process that stays down serves nobody; when the others have moved meanwhile it
 * would not even find them. */
static bool out_of_reach(const struct follower *f) {
    return f->g && f->g->home && !f->g->home->node;
}

bool watch_caught_up(void) {
    struct server *leader = server_leader();
    if (!on)
        return true;
    for (int i = 0; i < WATCHERS; i++) {
        struct follower *f = &followers[i];
        if (out_of_reach(f))
            continue;
        if (!leader || !f->w.group ||
            watch_index(watch_hub_at(f->g->hub)) < node_applied_index(leader->node))
            return false;
    }
    return true;
}

/* Each holds what the store holds. What has expired and is not swept yet nobody sees, and nobody is
 * told to be gone. */
static void check_held(int who, const struct follower *f, struct slice reply, uint64_t time_ms) {
    struct watch_listing listing;
    struct watch_row row;
    size_t found = 0;
    CHECK(watch_listing_parse(reply, &listing));
    for (uint64_t i = 0; i < listing.count; i++) {
        CHECK(watch_listing_next(&listing.rows, &row));
        size_t k = 0;
        while (k < f->held_count && !slice_equal_str(row.key, f->held[k].key))
            k++;
        if (k == f->held_count && row.expires_ms != 0)
            continue; /* likewise */
        if (k == f->held_count || f->held[k].revision != row.revision)
            sim_violation("watcher %d holds %.*s of %llu, the store has %llu", who,
                          (int)row.key.size, (const char *)row.key.data,
                          (unsigned long long)(k < f->held_count ? f->held[k].revision : 0),
                          (unsigned long long)row.revision);
        found++;
    }
    for (size_t k = 0; k < f->held_count; k++)
        found += f->held[k].expires_ms != 0 && f->held[k].expires_ms <= time_ms;
    if (found < f->held_count)
        sim_violation("watcher %d holds %zu keys, the store has %llu", who, f->held_count,
                      (unsigned long long)listing.count);
}

void watch_check_end(void) {
    static struct buf reply;
    struct server *leader = server_leader();
    struct store_view *view;
    struct buf packed = {0};
    struct argv argv = {0};
    if (!on)
        return;
    uint64_t time_ms = store_time_ms(node_store(leader->node));
    argv_append_strs(&packed, "KV.LIST", "", "", "", "1000", "0", NULL);
    CHECK(argv_unpack(&argv, buf_slice(&packed)));
    buf_reset(&reply);
    CHECK(store_view_new(node_store(leader->node), &view) == 0);
    CHECK(store_view_begin(view) == 0);
    CHECK(store_read(view, 0, 0, 0, &argv, &reply) == 0);
    store_view_end(view);
    store_view_free(view);
    argv_fini(&argv);
    buf_fini(&packed);
    for (int i = 0; i < WATCHERS; i++)
        if (!out_of_reach(&followers[i]))
            check_held(i, &followers[i], buf_slice(&reply), time_ms);
}
