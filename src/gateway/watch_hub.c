#include "gateway/watch_hub.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/plant.h"
#include "base/reply.h"
#include "gateway/pack.h"

enum {
    BUCKETS_MIN = 64,
    SWEEP_MS = 1000,
    EVENTS_KEEP_BYTES = 64 * 1024,
    PROGRESS_MIN = 64, /* of a sweep; else an eighth of all, so that they do not come at once */
};

struct watch_group {
    struct list node; /* in its bucket */
    struct list live; /* of struct watcher.node */
    struct list dirty_node;
    uint64_t hash;
    bool key, values;
    struct buf text;
    struct watch_events events; /* of the poll that is being told */
};

/* How many groups have a prefix of this length. */
struct prefix_length {
    uint32_t bytes;
    uint32_t groups;
};

struct watch_hub {
    struct watch_hub_env env;
    uint64_t at; /* told to all but those ahead; means nothing without watchers */
    uint64_t live_count;
    struct list by_time; /* told longest ago first */

    struct list *buckets;
    size_t bucket_count; /* a power of two */
    size_t group_count;
    struct prefix_length *lengths;
    size_t length_count, length_capacity;

    struct upstream_request poll;
    bool polling;
    bool confirm; /* the next poll asks for the present state */
    bool draining;
    uint64_t swept_ms;
    struct list dirty;       /* groups with events */
    struct buf encoded[2];   /* of a row, without and with its value */
    struct watch_events own; /* of a watcher that is ahead */
};

bool watch_filter_wants(const struct watch_filter *f, const struct watch_row *row) {
    return row->op == WATCH_FLUSH ||
           (f->key ? slice_equal(row->key, f->text) : slice_starts_with(row->key, f->text));
}

struct watch_hub *watch_hub_new(const struct watch_hub_env *env) {
    struct watch_hub *h = xcalloc(1, sizeof *h);
    h->env = *env;
    list_init(&h->by_time);
    list_init(&h->dirty);
    h->bucket_count = BUCKETS_MIN;
    h->buckets = xmalloc(h->bucket_count * sizeof *h->buckets);
    for (size_t i = 0; i < h->bucket_count; i++)
        list_init(&h->buckets[i]);
    return h;
}

static uint64_t now_ms(const struct watch_hub *h) {
    return h->env.now_ms(h->env.env);
}

/* ---- groups ------------------------------------------------------------------------------------
 */

static uint64_t hash_of(bool key, bool values, struct slice text) {
    return hash64(text, (uint64_t)key * 2 + values);
}

static struct watch_group *find_group(struct watch_hub *h, bool key, bool values,
                                      struct slice text) {
    uint64_t hash = hash_of(key, values, text);
    LIST_FOREACH (it, &h->buckets[hash & (h->bucket_count - 1)]) {
        struct watch_group *g = LIST_ENTRY(it, struct watch_group, node);
        if (g->hash == hash && g->key == key && g->values == values &&
            slice_equal(buf_slice(&g->text), text))
            return g;
    }
    return NULL;
}

static void grow(struct watch_hub *h) {
    if (h->group_count <= h->bucket_count)
        return;
    size_t count = h->bucket_count * 4;
    struct list *buckets = xmalloc(count * sizeof *buckets);
    for (size_t i = 0; i < count; i++)
        list_init(&buckets[i]);
    for (size_t i = 0; i < h->bucket_count; i++) {
        LIST_FOREACH_SAFE (it, &h->buckets[i]) {
            struct watch_group *g = LIST_ENTRY(it, struct watch_group, node);
            list_remove(&g->node);
            list_push_back(&buckets[g->hash & (count - 1)], &g->node);
        }
    }
    free(h->buckets);
    h->buckets = buckets;
    h->bucket_count = count;
}

/* Sorted by length, so that a row stops at its own. */
static void count_length(struct watch_hub *h, size_t bytes, int by) {
    size_t i = 0;
    while (i < h->length_count && h->lengths[i].bytes < bytes)
        i++;
    if (i == h->length_count || h->lengths[i].bytes != bytes) {
        CHECK(by > 0);
        if (h->length_count == h->length_capacity) {
            h->length_capacity = h->length_capacity ? 2 * h->length_capacity : 8;
            h->lengths = xrealloc(h->lengths, h->length_capacity * sizeof *h->lengths);
        }
        memmove(&h->lengths[i + 1], &h->lengths[i], (h->length_count - i) * sizeof *h->lengths);
        h->lengths[i] = (struct prefix_length){.bytes = (uint32_t)bytes};
        h->length_count++;
    }
    h->lengths[i].groups += (uint32_t)by;
    if (h->lengths[i].groups > 0)
        return;
    h->length_count--;
    memmove(&h->lengths[i], &h->lengths[i + 1], (h->length_count - i) * sizeof *h->lengths);
}

static struct watch_group *make_group(struct watch_hub *h, const struct watch_filter *f) {
    struct watch_group *g = find_group(h, f->key, f->values, f->text);
    if (g)
        return g;
    g = xcalloc(1, sizeof *g);
    list_init(&g->live);
    list_init(&g->dirty_node);
    g->hash = hash_of(f->key, f->values, f->text);
    g->key = f->key;
    g->values = f->values;
    buf_append_slice(&g->text, f->text);
    list_push_back(&h->buckets[g->hash & (h->bucket_count - 1)], &g->node);
    h->group_count++;
    if (!f->key)
        count_length(h, f->text.size, 1);
    grow(h);
    return g;
}

static void drop_group(struct watch_hub *h, struct watch_group *g) {
    if (!g->key)
        count_length(h, g->text.size, -1);
    list_remove(&g->node);
    list_remove(&g->dirty_node);
    buf_fini(&g->text);
    buf_fini(&g->events.out);
    free(g);
    h->group_count--;
}

void watch_hub_free(struct watch_hub *h) {
    CHECK(h->live_count == 0);
    if (h->polling)
        upstream_forget(h->env.upstream, &h->poll);
    for (size_t i = 0; i < h->bucket_count; i++) {
        LIST_FOREACH_SAFE (it, &h->buckets[i]) {
            drop_group(h, LIST_ENTRY(it, struct watch_group, node));
        }
    }
    free(h->buckets);
    free(h->lengths);
    buf_fini(&h->encoded[0]);
    buf_fini(&h->encoded[1]);
    buf_fini(&h->own.out);
    free(h);
}

/* ---- watchers ----------------------------------------------------------------------------------
 */

static void poll_if_needed(struct watch_hub *h);

static void told(struct watch_hub *h, struct watcher *w, struct slice events) {
    w->told_ms = now_ms(h);
    list_remove(&w->time_node);
    list_push_back(&h->by_time, &w->time_node);
    METRIC_ADD(h->env.metrics, watch_deliveries_total, 1);
    w->deliver(w, events);
}

bool watch_hub_join(struct watch_hub *h, struct watcher *w, const struct watch_filter *filter,
                    uint64_t *ret_at) {
    CHECK(!w->group);
    CHECK(filter->key || filter->text.size <= WATCH_PREFIX_BYTES_MAX);
    if (h->live_count == 0)
        h->at = w->position;
    if (h->draining || w->position < h->at) {
        *ret_at = h->at;
        return false;
    }
    w->group = make_group(h, filter);
    list_push_back(&w->group->live, &w->node);
    list_push_back(&h->by_time, &w->time_node);
    w->told_ms = now_ms(h);
    h->live_count++;
    METRIC_ADD(h->env.metrics, watchers, 1);
    poll_if_needed(h);
    return true;
}

void watch_hub_leave(struct watch_hub *h, struct watcher *w) {
    struct watch_group *g = w->group;
    if (!g)
        return;
    list_remove(&w->node);
    list_remove(&w->time_node);
    w->group = NULL;
    h->live_count--;
    METRIC_ADD(h->env.metrics, watchers, -1);
    /* One with events is being told them: its end comes there. */
    if (list_empty(&g->live) && list_empty(&g->dirty_node))
        drop_group(h, g);
}

uint64_t watch_hub_at(const struct watch_hub *h) {
    return h->at;
}

/* ---- telling -----------------------------------------------------------------------------------
 */

static struct slice encoded(struct watch_hub *h, const struct watch_row *row, bool values) {
    struct buf *b = &h->encoded[values];
    if (b->size == 0) {
        watch_encode(b, row, values);
        METRIC_ADD(h->env.metrics, watch_encodings_total, 1);
    }
    return buf_slice(b);
}

static void tell_group(struct watch_hub *h, struct watch_group *g, const struct watch_row *row) {
    if (!g || list_empty(&g->live))
        return;
    watch_events_append(&g->events, row->revision, encoded(h, row, g->values));
    if (list_empty(&g->dirty_node))
        list_push_back(&h->dirty, &g->dirty_node);
}

static void tell_everybody(struct watch_hub *h, const struct watch_row *row) {
    for (size_t i = 0; i < h->bucket_count; i++) {
        LIST_FOREACH (it, &h->buckets[i]) {
            tell_group(h, LIST_ENTRY(it, struct watch_group, node), row);
        }
    }
}

/* Puts a row into the events of all groups that want it. */
static void sort_row(struct watch_hub *h, const struct watch_row *row) {
    buf_reset(&h->encoded[0]);
    buf_reset(&h->encoded[1]);
    if (row->op == WATCH_FLUSH) {
        tell_everybody(h, row);
        return;
    }
    for (int values = 0; values < 2; values++) {
        tell_group(h, find_group(h, true, values, row->key), row);
        for (size_t i = 0; i < h->length_count && h->lengths[i].bytes <= row->key.size; i++)
            tell_group(
                h, find_group(h, false, values, slice_of(row->key.data, h->lengths[i].bytes)), row);
    }
}

/* One that joined ahead of the hub: what it knows is left out. */
static void tell_ahead(struct watch_hub *h, struct watcher *w, const struct watch_page *page) {
    const struct watch_group *g = w->group;
    struct watch_filter f = {.key = g->key, .values = g->values, .text = buf_slice(&g->text)};
    struct slice rows = page->rows;
    struct watch_row row;
    buf_reset(&h->own.out);
    for (uint64_t i = 0; i < page->count; i++) {
        CHECK(watch_row_next(&rows, &row)); /* it was looked at before */
        if (row.revision <= w->position || !watch_filter_wants(&f, &row))
            continue;
        struct buf one = {0};
        watch_encode(&one, &row, g->values);
        watch_events_append(&h->own, row.revision, buf_slice(&one));
        buf_fini(&one);
    }
    watch_events_end(&h->own);
    if (page->upto > w->position)
        w->position = page->upto;
    if (h->own.out.size > 0)
        told(h, w, buf_slice(&h->own.out));
}

static void deliver(struct watch_hub *h, struct watch_group *g, const struct watch_page *page) {
    watch_events_end(&g->events);
    LIST_FOREACH_SAFE (it, &g->live) {
        struct watcher *w = LIST_ENTRY(it, struct watcher, node);
        if (w->position > h->at) {
            tell_ahead(h, w, page);
        } else {
            w->position = page->upto;
            told(h, w, buf_slice(&g->events.out));
        }
    }
    list_remove(&g->dirty_node);
    if (list_empty(&g->live)) {
        drop_group(h, g);
        return;
    }
    buf_reset(&g->events.out);
    if (g->events.out.capacity > EVENTS_KEEP_BYTES)
        buf_fini(&g->events.out);
}

static void lose_everybody(struct watch_hub *h) {
    struct list *first;
    while ((first = list_first(&h->by_time))) {
        struct watcher *w = LIST_ENTRY(first, struct watcher, time_node);
        watch_hub_leave(h, w);
        w->lost(w);
    }
}

/* ---- polls -------------------------------------------------------------------------------------
 */

static bool check_rows(const struct watch_page *page) {
    struct slice rows = page->rows;
    struct watch_row row;
    for (uint64_t i = 0; i < page->count; i++)
        if (!watch_row_next(&rows, &row))
            return false;
    return rows.size == 0;
}

static void take_page(struct watch_hub *h, const struct watch_page *page) {
    struct slice rows = page->rows;
    struct watch_row row;
    struct list *first;
    for (uint64_t i = 0; i < page->count; i++) {
        CHECK(watch_row_next(&rows, &row));
        sort_row(h, &row);
    }
    while ((first = list_first(&h->dirty)))
        deliver(h, LIST_ENTRY(first, struct watch_group, dirty_node), page);
    if (page->upto > h->at)
        h->at = page->upto;
}

static void on_polled(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                      struct slice reply) {
    struct watch_hub *h = CONTAINER_OF(req, struct watch_hub, poll);
    struct watch_page page;
    bool waited = req->kind == UPSTREAM_READ_STALE;
    (void)index;
    h->polling = false;
    if (outcome != UPSTREAM_DONE || reply_is_error(reply) || !watch_page_parse(reply, &page) ||
        !check_rows(&page)) {
        h->confirm = true;
        if (PLANTED(PLANT_WATCH_SKIP))
            h->at |= WATCH_POSITION_MASK + 1;
        if (waited) /* nothing has come; when not even the leader answers, the sweep goes on */
            poll_if_needed(h);
        return;
    }
    h->confirm = false;
    METRIC_ADD(h->env.metrics, watch_polls_total, 1);
    if (page.floor > h->at)
        lose_everybody(h);
    else
        take_page(h, &page);
    poll_if_needed(h);
}

static void poll_if_needed(struct watch_hub *h) {
    if (h->polling || h->live_count == 0)
        return;
    struct pack p = pack_begin("KV.CHANGES");
    pack_u64(&p, h->at);
    pack_str(&p, "all");
    pack_str(&p, "");
    pack_u64(&p, 1);
    h->poll = (struct upstream_request){
        .kind = h->confirm ? UPSTREAM_READ : UPSTREAM_READ_STALE,
        .min_index = h->confirm ? 0 : watch_index(h->at + 1),
        .timeout_ms = h->confirm ? 0 : WATCH_POLL_MS,
        .poll = true,
        .packed_argv = pack_end(&p),
        .done = on_polled,
    };
    h->polling = true;
    upstream_submit(h->env.upstream, &h->poll);
}

/* ---- time --------------------------------------------------------------------------------------
 */

static void tell_progress(struct watch_hub *h, uint64_t now) {
    uint64_t left = h->live_count / 8 > PROGRESS_MIN ? h->live_count / 8 : PROGRESS_MIN;
    struct watch_events e = {0};
    struct list *first;
    while (left-- > 0 && (first = list_first(&h->by_time))) {
        struct watcher *w = LIST_ENTRY(first, struct watcher, time_node);
        if (now - w->told_ms < WATCH_PROGRESS_MS)
            break;
        if (e.out.size == 0) {
            watch_events_progress(&e, h->at);
            watch_events_end(&e);
        }
        if (w->position > h->at) { /* it will be told when the hub is there */
            w->told_ms = now;
            list_remove(&w->time_node);
            list_push_back(&h->by_time, &w->time_node);
            continue;
        }
        w->position = h->at;
        told(h, w, buf_slice(&e.out));
    }
    buf_fini(&e.out);
}

void watch_hub_sweep(struct watch_hub *h) {
    uint64_t now = now_ms(h);
    if (now < h->swept_ms + SWEEP_MS)
        return;
    h->swept_ms = now;
    tell_progress(h, now);
    poll_if_needed(h);
}

void watch_hub_drain(struct watch_hub *h) {
    struct list *first;
    h->draining = true;
    while ((first = list_first(&h->by_time))) {
        struct watcher *w = LIST_ENTRY(first, struct watcher, time_node);
        watch_hub_leave(h, w);
        w->ended(w);
    }
}
