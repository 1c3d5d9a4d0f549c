#include "gateway/site_load.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/reply.h"
#include "gateway/pack.h"
#include "gateway/site_cache.h"
#include "gateway/site_fetch.h"
#include "gateway/sites.h"
#include "store/sites.h"

enum { RETRY_MS = 500, WARM_FETCHES = 4, CLUSTER_BYTES = 16 };

_Static_assert((int)SITE_BLOCK_BYTES == (int)SITE_MANIFEST_BLOCK_BYTES, "the same blocks");
_Static_assert((int)SITE_MANIFEST_BYTES_MAX == (int)SITE_MANIFEST_SIZE_MAX, "the same limit");

enum load_state { LOAD_IDLE, LOAD_LIST, LOAD_MANIFESTS };

/* One deploy of the list. */
struct listed {
    size_t site;
    bool shown;
    uint64_t id;
    uint64_t manifest_bytes;
    struct slice hashes; /* in `list` */
};

struct site_loader {
    struct gateway *gw;
    enum load_state state;
    uint64_t again_ms; /* not before */

    struct upstream_request up; /* LIST */
    bool asking;
    struct buf list; /* the reply */
    struct listed *deploys;
    size_t deploy_count, deploy_at;
    struct site_set *set; /* being made */
    struct buf manifest;  /* of deploys[deploy_at], so far */
    struct site_fetch fetch;
    struct buf block;

    /* WARM */
    struct site_set *warm; /* its blocks are being fetched; NULL: nothing to do */
    size_t warm_site;
    uint32_t warm_block;
    struct site_fetch warm_fetches[WARM_FETCHES];
};

/* ---- the list ----------------------------------------------------------------------------------
 */

static bool take(struct slice *in, char type, struct reply_item *ret) {
    return reply_next(in, ret) && ret->type == type;
}

static bool take_u64(struct slice *in, uint64_t *ret) {
    struct reply_item item;
    if (!take(in, ':', &item))
        return false;
    *ret = (uint64_t)item.integer;
    return true;
}

static bool take_deploy(struct site_loader *l, struct slice *in, size_t site, uint64_t shown) {
    struct reply_item header, item;
    struct listed d = {.site = site};
    uint64_t state, number;
    if (!take(in, '*', &header) || header.integer != 10 || !take_u64(in, &d.id) ||
        !take_u64(in, &state))
        return false;
    for (int i = 0; i < 5; i++)
        if (!take_u64(in, &number))
            return false;
    if (!take(in, '$', &item) || !take_u64(in, &d.manifest_bytes) || !take(in, '$', &item))
        return false;
    d.hashes = item.bytes;
    d.shown = d.id == shown;
    if (state != SITE_READY || d.manifest_bytes > SITE_MANIFEST_BYTES_MAX ||
        d.hashes.size != site_manifest_block_count(d.manifest_bytes) * SHA256_BYTES)
        return state != SITE_READY;
    l->deploys = xrealloc(l->deploys, (l->deploy_count + 1) * sizeof l->deploys[0]);
    l->deploys[l->deploy_count++] = d;
    return true;
}

static bool take_site(struct site_loader *l, struct slice *in, size_t at) {
    struct site *site = &l->set->sites[at];
    struct reply_item header, name, hosts, deploys;
    uint64_t shown, ms, keep;
    if (!take(in, '*', &header) || header.integer != 7 || !take(in, '$', &name) ||
        !take(in, '$', &hosts) || !take_u64(in, &shown) || !take_u64(in, &site->switch_index) ||
        !take_u64(in, &ms) || !take_u64(in, &keep) || !take(in, '*', &deploys))
        return false;
    site->name = xmalloc(name.bytes.size + 1);
    memcpy(site->name, name.bytes.data, name.bytes.size);
    site->name[name.bytes.size] = 0;
    site->hosts = slice_of(xmemdup(hosts.bytes.data, hosts.bytes.size), hosts.bytes.size);
    for (int64_t i = 0; i < deploys.integer; i++)
        if (!take_deploy(l, in, at, shown))
            return false;
    return true;
}

/* Makes the set of what `list` says; false: it is malformed. */
static bool take_list(struct site_loader *l) {
    struct slice in = buf_slice(&l->list);
    struct reply_item header, sites;
    uint64_t revision;
    if (!take(&in, '*', &header) || header.integer != 2 || !take_u64(&in, &revision) ||
        !take(&in, '*', &sites) || (uint64_t)sites.integer > in.size)
        return false;
    l->set = site_set_new(revision, (size_t)sites.integer);
    for (size_t i = 0; i < l->set->count; i++)
        if (!take_site(l, &in, i))
            return false;
    return in.size == 0;
}

static void forget(struct site_loader *l) {
    if (l->set)
        site_set_unref(l->set);
    l->set = NULL;
    free(l->deploys);
    l->deploys = NULL;
    l->deploy_count = l->deploy_at = 0;
    buf_reset(&l->manifest);
    l->state = LOAD_IDLE;
}

static void give_up(struct site_loader *l) {
    forget(l);
    l->again_ms = gateway_now_ms(l->gw) + RETRY_MS;
}

/* ---- manifests ---------------------------------------------------------------------------------
 */

static void add_deploy(struct site_loader *l, struct site_deploy *d) {
    const struct listed *from = &l->deploys[l->deploy_at++];
    struct site *site = &l->set->sites[from->site];
    buf_reset(&l->manifest);
    if (!d)
        return;
    if (from->shown) {
        site->shown = d;
        return;
    }
    /* Listed in ascending order, kept the other way round. */
    site->others = xrealloc(site->others, (site->other_count + 1) * sizeof(struct site_deploy *));
    memmove(site->others + 1, site->others, site->other_count * sizeof(struct site_deploy *));
    site->others[0] = d;
    site->other_count++;
}

/* One that is known already; what was shown and is not any more gives its memory back. */
static struct site_deploy *known_deploy(struct site_loader *l, const struct listed *from) {
    struct site_set *now = l->gw->sites->set; /* only this thread changes it */
    struct site_deploy *d = now ? site_set_deploy(now, from->id) : NULL;
    if (!d || memcmp(now->cluster, l->set->cluster, sizeof now->cluster) != 0)
        return NULL;
    bool was_shown = false;
    for (size_t i = 0; i < now->count; i++)
        was_shown |= now->sites[i].shown == d;
    return was_shown && !from->shown ? site_deploy_fresh(d) : site_deploy_ref(d);
}

static void start_warming(struct site_loader *l);

static void publish(struct site_loader *l) {
    struct sites *sites = l->gw->sites;
    for (size_t i = 0; i < l->set->count; i++) {
        struct site *site = &l->set->sites[i];
        struct site *before = sites->set ? site_set_named(sites->set, slice_str(site->name)) : NULL;
        if (site->shown && before && before->shown && before->shown != site->shown)
            site_deploy_inherit(site->shown, before->shown);
    }
    site_set_finish(l->set);
    log_info("sites", "revision=%llu sites=%zu", (unsigned long long)l->set->revision,
             l->set->count);
    if (sites->cache) {
        struct buf state = {0};
        buf_append(&state, l->set->cluster, CLUSTER_BYTES);
        buf_append_slice(&state, buf_slice(&l->list));
        site_cache_write_state(sites->cache, buf_slice(&state));
        buf_fini(&state);
    }
    sites_publish(sites, l->set);
    l->set = NULL;
    forget(l);
    buf_fini(&l->list);
    gateway_wake_others(l->gw);
    start_warming(l);
}

static void next_manifest(struct site_loader *l);

static void on_manifest_block(struct site_fetch *f, enum site_fetch_result result,
                              struct slice bytes) {
    struct site_loader *l = CONTAINER_OF(f, struct site_loader, fetch);
    if (result == SITE_FETCH_UNAVAILABLE) {
        give_up(l);
        return;
    }
    if (result == SITE_FETCH_MISSING) {
        /* Dropped while we read: of old deploys nobody needs to hear. */
        if (l->deploys[l->deploy_at].shown)
            give_up(l);
        else
            add_deploy(l, NULL);
    } else {
        buf_append_slice(&l->manifest, bytes);
    }
    if (l->state == LOAD_MANIFESTS)
        next_manifest(l);
}

/* Goes on until a block must be fetched, or all is there. */
static void next_manifest(struct site_loader *l) {
    while (l->deploy_at < l->deploy_count) {
        const struct listed *from = &l->deploys[l->deploy_at];
        struct site_deploy *d = known_deploy(l, from);
        if (!d && l->manifest.size >= from->manifest_bytes) {
            d = site_deploy_new(from->id, &l->manifest, from->hashes, &l->gw->sites->budget);
            if (!d)
                log_warn("site-deploy", "id=%llu error=\"not a manifest\"",
                         (unsigned long long)from->id);
            add_deploy(l, d);
            continue;
        }
        if (d) {
            add_deploy(l, d);
            continue;
        }
        const uint8_t *hash =
            from->hashes.data + l->manifest.size / SITE_BLOCK_BYTES * SHA256_BYTES;
        if (!l->gw->sites->cache || !site_cache_read(l->gw->sites->cache, hash, &l->block)) {
            site_fetch_start(&l->fetch, l->gw, hash, on_manifest_block);
            return;
        }
        buf_append_slice(&l->manifest, buf_slice(&l->block));
    }
    publish(l);
}

static void on_list(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    struct site_loader *l = CONTAINER_OF(up, struct site_loader, up);
    (void)index;
    l->asking = false;
    buf_reset(&l->list);
    buf_append_slice(&l->list, reply);
    if (outcome != UPSTREAM_DONE || !take_list(l) ||
        !upstream_cluster_id(l->gw->upstream, l->set->cluster)) {
        give_up(l);
        return;
    }
    l->state = LOAD_MANIFESTS;
    next_manifest(l);
}

static void begin(struct site_loader *l, uint64_t revision) {
    struct pack p = pack_begin("SITE.LIST");
    l->state = LOAD_LIST;
    l->asking = true;
    l->up = (struct upstream_request){.kind = UPSTREAM_READ_STALE,
                                      .min_index = revision >> 20,
                                      .packed_argv = pack_end(&p),
                                      .done = on_list};
    upstream_submit(l->gw->upstream, &l->up);
}

/* ---- the cache ---------------------------------------------------------------------------------
 */

static void warm_next(struct site_loader *l, struct site_fetch *f);

static void on_warm_block(struct site_fetch *f, enum site_fetch_result result, struct slice bytes) {
    struct site_loader *l = f->gw->site_loader;
    (void)bytes; /* the fetch has put it into the cache */
    if (result == SITE_FETCH_UNAVAILABLE)
        l->again_ms = gateway_now_ms(l->gw) + RETRY_MS;
    else
        warm_next(l, f);
}

static bool wanted_block(void *ctx, const uint8_t *hash) {
    const struct site_set *set = ctx;
    for (size_t i = 0; i < set->count; i++) {
        const struct site *site = &set->sites[i];
        for (size_t o = 0; o <= site->other_count; o++) {
            const struct site_deploy *d = o == 0 ? site->shown : site->others[o - 1];
            if (d && site_deploy_has_block(d, hash))
                return true;
        }
    }
    return false;
}

/* Fetches one more block that the cache lacks. A file of the cache that cannot be read is found out
 * when it is asked for. */
static void warm_next(struct site_loader *l, struct site_fetch *f) {
    struct site_cache *cache = l->gw->sites->cache;
    while (l->warm && !site_cache_full(cache) && l->warm_site < l->warm->count) {
        const struct site_deploy *d = l->warm->sites[l->warm_site].shown;
        if (!d || l->warm_block >= d->manifest.block_count) {
            l->warm_site++;
            l->warm_block = 0;
            continue;
        }
        const uint8_t *hash = d->manifest.table + (size_t)l->warm_block++ * SHA256_BYTES;
        if (!site_cache_has(cache, hash)) {
            site_fetch_start(f, l->gw, hash, on_warm_block);
            return;
        }
    }
    for (size_t i = 0; i < WARM_FETCHES; i++)
        if (l->warm_fetches[i].active)
            return;
    if (l->warm)
        site_set_unref(l->warm);
    l->warm = NULL;
}

static void start_warming(struct site_loader *l) {
    struct site_cache *cache = l->gw->sites->cache;
    if (!cache)
        return;
    if (l->warm)
        site_set_unref(l->warm);
    l->warm = sites_ref(l->gw->sites);
    l->warm_site = l->warm_block = 0;
    site_cache_prune(cache, wanted_block, l->warm);
    for (size_t i = 0; i < WARM_FETCHES && l->warm; i++)
        if (!l->warm_fetches[i].active)
            warm_next(l, &l->warm_fetches[i]);
}

/* What was shown when the process ran last. Manifests that the cache lacks are asked of the
 * database like others. */
static void load_cached(struct site_loader *l) {
    struct buf state = {0};
    if (!site_cache_read_state(l->gw->sites->cache, &state) || state.size < CLUSTER_BYTES) {
        buf_fini(&state);
        return;
    }
    buf_reset(&l->list);
    buf_append(&l->list, state.data + CLUSTER_BYTES, state.size - CLUSTER_BYTES);
    if (take_list(l)) {
        memcpy(l->set->cluster, state.data, CLUSTER_BYTES);
        l->state = LOAD_MANIFESTS;
        next_manifest(l);
    } else {
        forget(l);
    }
    buf_fini(&state);
}

/* ---- */

struct site_loader *site_loader_new(struct gateway *gw) {
    struct sites *sites = gw->sites;
    pthread_mutex_lock(&sites->mutex);
    bool ours = !sites->loader;
    if (ours)
        sites->loader = gw;
    pthread_mutex_unlock(&sites->mutex);
    if (!ours)
        return NULL;
    struct site_loader *l = xcalloc(1, sizeof *l);
    l->gw = gw;
    gw->site_loader = l;
    if (sites->cache)
        load_cached(l);
    return l;
}

void site_loader_free(struct site_loader *l) {
    if (!l)
        return;
    struct sites *sites = l->gw->sites;
    if (l->asking)
        upstream_forget(l->gw->upstream, &l->up);
    site_fetch_cancel(&l->fetch);
    for (size_t i = 0; i < WARM_FETCHES; i++)
        site_fetch_cancel(&l->warm_fetches[i]);
    forget(l);
    if (l->warm)
        site_set_unref(l->warm);
    buf_fini(&l->list);
    buf_fini(&l->manifest);
    buf_fini(&l->block);
    pthread_mutex_lock(&sites->mutex);
    sites->loader = NULL;
    pthread_mutex_unlock(&sites->mutex);
    free(l);
}

/* What the cache had is of a cluster that is no more. */
static bool other_cluster(const struct site_loader *l) {
    const struct site_set *now = l->gw->sites->set;
    uint8_t id[CLUSTER_BYTES];
    return now && upstream_cluster_id(l->gw->upstream, id) &&
           memcmp(id, now->cluster, sizeof id) != 0;
}

void site_loader_turn(struct site_loader *l) {
    uint64_t told = upstream_sites_revision(l->gw->upstream);
    if (told == 0 || l->state != LOAD_IDLE)
        return;
    bool behind = told > sites_revision(l->gw->sites) || other_cluster(l);
    if (!behind && !l->warm)
        return;
    if (gateway_now_ms(l->gw) < l->again_ms)
        return;
    if (behind)
        begin(l, told);
    for (size_t i = 0; i < WARM_FETCHES && l->warm && !behind; i++)
        if (!l->warm_fetches[i].active)
            warm_next(l, &l->warm_fetches[i]);
}

bool site_loader_settled(const struct site_loader *l) {
    return l->state == LOAD_IDLE && !l->warm &&
           upstream_sites_revision(l->gw->upstream) <= sites_revision(l->gw->sites);
}
