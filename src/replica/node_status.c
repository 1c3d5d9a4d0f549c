/* NODE.STATUS: what this node knows of itself and of the others, as a neutral reply (a map). */
#include "base/num.h"
#include "base/reply.h"
#include "replica/node_internal.h"

static void put_hex(struct buf *out, const uint8_t *bytes, size_t size) {
    char text[64];
    CHECK(size * 2 <= sizeof text);
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    reply_bulk(out, slice_of(text, 2 * size));
}

static void put_digest(struct buf *out, struct hash128 digest) {
    uint8_t bytes[16];
    put_u64be(bytes, digest.high);
    put_u64be(bytes + 8, digest.low);
    put_hex(out, bytes, sizeof bytes);
}

static void put_u64(struct buf *out, const char *name, uint64_t value) {
    reply_bulk_str(out, name);
    reply_int(out, (int64_t)value);
}

static void put_str(struct buf *out, const char *name, const char *value) {
    reply_bulk_str(out, name);
    reply_bulk_str(out, value);
}

static const char *role_name(enum member_role role) {
    return role == MEMBER_VOTER ? "voter" : role == MEMBER_LEARNER ? "learner" : "joining";
}

static const char *work_name(enum node_work_kind kind) {
    static const char *const names[WORK_KINDS] = {
        [WORK_NONE] = "nothing",
        [WORK_TAKING] = "taking a snapshot",
        [WORK_FETCHING] = "fetching a snapshot",
        [WORK_CHECKING] = "checking a snapshot",
        [WORK_SCRUBBING] = "counting up its records",
        [WORK_REBUILDING] = "making its copy anew",
    };
    return names[kind];
}

/* What a node is at that takes long, and how far it is; null: nothing. */
static void put_work(struct buf *out, const struct node_work *w) {
    reply_bulk_str(out, "work");
    if (w->kind == WORK_NONE) {
        reply_null(out);
        return;
    }
    reply_map(out, 4);
    put_str(out, "what", work_name(w->kind));
    reply_bulk_str(out, "from");
    if (w->from)
        reply_int(out, (int64_t)w->from);
    else
        reply_null(out);
    put_u64(out, "done", w->done);
    put_u64(out, "total", w->total);
}

const char *node_health_name(enum node_health health) {
    static const char *const names[HEALTH_KINDS] = {
        [HEALTH_SOUND] = "sound",
        [HEALTH_DOUBTFUL] = "doubtful",
        [HEALTH_REPAIR] = "repair",
        [HEALTH_LOST] = "lost",
    };
    return names[health];
}

static void put_member(struct node *n, const struct member *m, struct buf *out) {
    bool self = m->id == n->o.id;
    const struct peer *p = self ? NULL : node_peer(n, m->id);
    uint64_t now = node_now(n);
    uint64_t age = self ? 0 : p && p->heard_ms ? now - p->heard_ms : INT64_MAX;
    bool known = self || (p && p->heard_ms);
    reply_map(out, 12);
    put_u64(out, "id", m->id);
    put_str(out, "role", role_name(m->role));
    put_str(out, "peer", m->address);
    put_str(out, "http", self ? n->o.http_address : p ? p->http : "");
    put_str(out, "redis", self ? n->o.redis_address : p ? p->redis : "");
    reply_bulk_str(out, "alive");
    reply_bool(out, age <= NODE_ALIVE_MS);
    put_u64(out, "applied", self ? store_applied_index(n->store) : p ? p->applied : 0);
    reply_bulk_str(out, "digest");
    if (known)
        put_digest(out, self ? store_digest(n->store) : p->digest);
    else
        reply_null(out);
    reply_bulk_str(out, "age_ms");
    if (known)
        reply_int(out, (int64_t)age);
    else
        reply_null(out);
    struct node_work work = {.kind = WORK_NONE};
    if (self)
        node_work_now(n, &work);
    else if (p && age <= NODE_ALIVE_MS)
        work = p->work;
    put_work(out, &work);
    put_str(out, "health", node_health_name(self ? n->health : p ? p->health : HEALTH_SOUND));
    reply_bulk_str(out, "match");
    if (n->leading)
        reply_int(out, (int64_t)(self ? n->durable_index : core_match_index(n->core, m->id)));
    else
        reply_null(out);
}

void node_status_reply(struct node *n, struct buf *out) {
    struct membership m;
    node_membership(n, &m);
    uint64_t leader = node_leader_id(n);
    reply_map(out, 21);
    reply_bulk_str(out, "cluster");
    put_hex(out, n->o.cluster_id, sizeof n->o.cluster_id);
    put_u64(out, "node", n->o.id);
    put_u64(out, "term", node_term(n));
    put_u64(out, "leader", leader);
    reply_bulk_str(out, "ready");
    reply_bool(out, leader != 0 && n->state == NODE_RUNNING && !n->install && node_may_serve(n));
    reply_bulk_str(out, "removed");
    reply_bool(out, n->removed);
    put_u64(out, "applied", store_applied_index(n->store));
    put_u64(out, "commit", n->commit_index);
    reply_bulk_str(out, "digest");
    put_digest(out, store_digest(n->store));
    put_u64(out, "keys", store_key_count(n->store));
    put_u64(out, "data_bytes", store_data_bytes(n->store));
    reply_bulk_str(out, "disk_low");
    reply_bool(out, n->disk_low);
    put_u64(out, "sessions", store_session_count(n->store));
    put_u64(out, "log_bytes", log_bytes(n->log));
    put_u64(out, "log_first", n->memlog.first_index);
    put_u64(out, "log_last", n->memlog.last_index);
    put_u64(out, "snapshot_index", n->snapshot.index);
    put_u64(out, "entries_proposed", n->entries_proposed);
    put_u64(out, "commands_proposed", n->commands_proposed);
    put_u64(out, "time_ms", n->ops->wall_ms(n->env));
    reply_bulk_str(out, "members");
    reply_array(out, m.count);
    for (uint32_t i = 0; i < m.count; i++)
        put_member(n, &m.members[i], out);
}

void node_gauges_update(const struct node *n) {
    struct node_gauges *g = n->o.gauges;
    const struct node_counters *c = &n->counters;
    if (!g)
        return;
    NODE_GAUGE_SET(g, health, (uint64_t)n->health);
    NODE_GAUGE_SET(g, applied_index, store_applied_index(n->store));
    NODE_GAUGE_SET(g, digest_checks_total, c->digest_checks);
    NODE_GAUGE_SET(g, digest_differences_total, c->digest_differences);
    NODE_GAUGE_SET(g, repairs_total, c->repairs);
    NODE_GAUGE_SET(g, scrubs_total, c->scrubs);
    NODE_GAUGE_SET(g, scrub_records_bytes_total, c->scrub_bytes);
    NODE_GAUGE_SET(g, snapshots_taken_total, c->snapshots_taken);
    NODE_GAUGE_SET(g, snapshots_installed_total, c->snapshots_installed);
    NODE_GAUGE_SET(g, snapshot_index, n->snapshot.index);
    NODE_GAUGE_SET(g, log_bytes, log_bytes(n->log));
}
