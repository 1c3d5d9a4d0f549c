#include "base/gather.h"

enum {
    WAIT_MS = 2,
    LATE = 8, /* one in so many may be late */
    SKIP_FIRST = 4,
    SKIP_MAX = 1024,
};

void gather_answered(struct gather *g, uint64_t now_ms, uint32_t waiting) {
    uint32_t all = g->sent + waiting;
    g->sent = 0;
    g->target = 0;
    if (g->skip > 0) {
        g->skip--;
        return;
    }
    g->target = all - all / LATE;
    g->until_ms = now_ms + WAIT_MS;
}

bool gather_ready(struct gather *g, uint64_t now_ms, uint32_t waiting) {
    if (g->target == 0)
        return true;
    if (waiting >= g->target) {
        g->backoff = 0;
    } else if (now_ms < g->until_ms) {
        return false;
    } else if (waiting > 0) {
        g->backoff = g->backoff == 0         ? SKIP_FIRST
                     : g->backoff < SKIP_MAX ? g->backoff * 2
                                             : SKIP_MAX;
        g->skip = g->backoff;
    }
    g->target = 0;
    return true;
}
