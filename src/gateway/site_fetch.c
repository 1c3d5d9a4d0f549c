#include "gateway/site_fetch.h"

#include "base/reply.h"
#include "gateway/pack.h"
#include "gateway/site_cache.h"
#include "gateway/sites.h"

static void on_done(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    struct site_fetch *f = CONTAINER_OF(up, struct site_fetch, up);
    struct reply_item item;
    (void)index;
    f->active = false;
    if (outcome != UPSTREAM_DONE || !reply_next(&reply, &item)) {
        f->done(f, SITE_FETCH_UNAVAILABLE, slice_of(NULL, 0));
    } else if (item.type != '$') {
        f->done(f, item.type == 'n' ? SITE_FETCH_MISSING : SITE_FETCH_UNAVAILABLE,
                slice_of(NULL, 0));
    } else {
        if (f->gw->sites->cache)
            site_cache_put(f->gw->sites->cache, f->hash, item.bytes);
        f->done(f, SITE_FETCH_OK, item.bytes);
    }
}

void site_fetch_start(struct site_fetch *f, struct gateway *gw, const uint8_t *hash,
                      site_fetch_fn done) {
    CHECK(!f->active);
    memcpy(f->hash, hash, sizeof f->hash);
    f->gw = gw;
    f->done = done;
    f->active = true;
    struct pack p = pack_begin("SITE.GET");
    pack_slice(&p, slice_of(hash, SHA256_BYTES));
    f->up = (struct upstream_request){
        .kind = UPSTREAM_READ_STALE,
        .min_index = upstream_sites_revision(gw->upstream) >> 20,
        .timeout_ms = gw->options.upstream_timeout_ms,
        .packed_argv = pack_end(&p),
        .done = on_done,
    };
    upstream_submit(gw->upstream, &f->up);
}

void site_fetch_cancel(struct site_fetch *f) {
    if (f->active)
        upstream_forget(f->gw->upstream, &f->up);
    f->active = false;
}
