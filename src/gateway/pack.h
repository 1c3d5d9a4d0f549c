/* Builds one packed argv (base/argv.h) argument by argument, for requests that the gateway makes
 * up itself. */
#pragma once
#include "base/argv.h"
#include "base/num.h"

struct pack {
    struct buf out;
    size_t at; /* of the count */
    uint32_t count;
};

static inline void pack_slice(struct pack *p, struct slice s) {
    buf_append_lstr(&p->out, s);
    p->count++;
}
static inline void pack_str(struct pack *p, const char *s) {
    pack_slice(p, slice_str(s));
}
static inline void pack_u64(struct pack *p, uint64_t v) {
    size_t at = p->out.size;
    buf_append_u32(&p->out, 0);
    num_append_u64(&p->out, v);
    buf_patch_u32(&p->out, at, (uint32_t)(p->out.size - at - 4));
    p->count++;
}
static inline void pack_i64(struct pack *p, int64_t v) {
    size_t at = p->out.size;
    buf_append_u32(&p->out, 0);
    num_append_i64(&p->out, v);
    buf_patch_u32(&p->out, at, (uint32_t)(p->out.size - at - 4));
    p->count++;
}
static inline struct pack pack_begin(const char *name) {
    struct pack p = {0};
    buf_append_u32(&p.out, 0);
    pack_str(&p, name);
    return p;
}
/* Begins a write that is executed once for that id: an ONCE.EXEC around the command. */
static inline struct pack pack_begin_once(struct slice id, const char *name) {
    struct pack p = pack_begin("ONCE.EXEC");
    pack_slice(&p, id);
    pack_str(&p, name);
    return p;
}
/* The finished argv; the caller owns it. */
static inline struct buf pack_end(struct pack *p) {
    buf_patch_u32(&p->out, p->at, p->count);
    struct buf out = p->out;
    *p = (struct pack){0};
    return out;
}
