/* One block of a file on its way here from the database, for whoever owns the struct. Blocks never
 * change, so a read from any copy will do; it is asked of a state that has the sites as they are
 * known here. Of the gateway's thread; `done` comes from the upstream, never from inside a call. */
#pragma once
#include "base/sha256.h"
#include "gateway/gateway.h"

enum site_fetch_result {
    SITE_FETCH_OK,
    SITE_FETCH_MISSING,     /* the database has no such block (any more) */
    SITE_FETCH_UNAVAILABLE, /* it gave no answer in time */
};

struct site_fetch;
/* `bytes` is borrowed until return. */
typedef void (*site_fetch_fn)(struct site_fetch *f, enum site_fetch_result result,
                              struct slice bytes);

/* Zeroed is idle. */
struct site_fetch {
    struct upstream_request up;
    struct gateway *gw;
    uint8_t hash[SHA256_BYTES];
    site_fetch_fn done;
    bool active;
};

void site_fetch_start(struct site_fetch *f, struct gateway *gw, const uint8_t *hash,
                      site_fetch_fn done);
/* `done` is not called any more. Harmless when idle. */
void site_fetch_cancel(struct site_fetch *f);
