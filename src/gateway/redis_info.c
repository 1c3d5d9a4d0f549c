/* INFO. The sections are made here, but for the keyspace's sizes, which one KV.COUNT read a
 * numbered database brings: stale ones with a short time limit, so that INFO answers while there is
 * no leader (the lines are then left out). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/reply.h"
#include "gateway/pack.h"
#include "gateway/redis_conn.h"
#include "store/store.h"

enum { KEYSPACE_TIMEOUT_MS = 1000 };

#define INFO_SECTIONS(X)                                                                           \
    X(server, "Server")                                                                            \
    X(clients, "Clients")                                                                          \
    X(memory, "Memory")                                                                            \
    X(persistence, "Persistence")                                                                  \
    X(stats, "Stats")                                                                              \
    X(replication, "Replication")                                                                  \
    X(cpu, "CPU")                                                                                  \
    X(modules, "Modules")                                                                          \
    X(errorstats, "Errorstats")                                                                    \
    X(cluster, "Cluster")                                                                          \
    X(keyspace, "Keyspace")

enum info_section {
#define X(name, title) INFO_##name,
    INFO_SECTIONS(X)
#undef X
        INFO_SECTION_COUNT
};
static const char *const section_names[] = {
#define X(name, title) #name,
    INFO_SECTIONS(X)
#undef X
};
static const char *const section_titles[] = {
#define X(name, title) title,
    INFO_SECTIONS(X)
#undef X
};

static unsigned wanted_sections(const struct argv *args) {
    const unsigned all = (1u << INFO_SECTION_COUNT) - 1;
    unsigned want = args->count == 1 ? all : 0;
    for (size_t i = 1; i < args->count; i++) {
        if (slice_equal_nocase(args->args[i], "all") ||
            slice_equal_nocase(args->args[i], "default") ||
            slice_equal_nocase(args->args[i], "everything"))
            want = all;
        for (unsigned s = 0; s < INFO_SECTION_COUNT; s++)
            if (slice_equal_nocase(args->args[i], section_names[s]))
                want |= 1u << s;
    }
    return want;
}

static void put_server(struct gateway *gw, struct buf *out) {
    struct utsname os;
    if (uname(&os) != 0)
        memset(&os, 0, sizeof os);
    uint64_t uptime_s = (gateway_now_ms(gw) - gw->started_ms) / 1000;
    buf_printf(out,
               "redis_version:" REDIS_VERSION "\r\nredis_mode:standalone\r\n"
               "server_name:cotidal\r\ncotidal_version:" COTIDAL_VERSION "\r\n"
               "os:%s %s %s\r\narch_bits:%zu\r\nprocess_id:%d\r\nrun_id:%s\r\ntcp_port:%u\r\n"
               "server_time_usec:%" PRIu64 "\r\nuptime_in_seconds:%" PRIu64
               "\r\nuptime_in_days:%" PRIu64 "\r\nhz:10\r\n",
               os.sysname, os.release, os.machine, 8 * sizeof(void *), (int)getpid(),
               gateway_run_id(gw->shared), gw->options.redis_port, gateway_wall_ms(gw) * 1000,
               uptime_s, uptime_s / 86400);
}

static uint64_t resident_bytes(void) {
    unsigned long long total, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &total, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void put_memory(struct gateway *gw, struct buf *out) {
    struct gateway_metrics m;
    gateway_sum_metrics(gw, &m);
    uint64_t rss = resident_bytes();
    buf_printf(out,
               "used_memory:%" PRIu64 "\r\nused_memory_rss:%" PRIu64
               "\r\nused_memory_human:%.2fM\r\nmem_clients_normal:%" PRIu64
               "\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\n"
               "mem_fragmentation_ratio:1.00\r\nmem_allocator:libc\r\n",
               rss, rss, (double)rss / 1048576.0, m.input_bytes + m.output_bytes);
}

static void put_stats(struct gateway *gw, struct buf *out) {
    struct gateway_metrics m;
    gateway_sum_metrics(gw, &m);
    buf_printf(out,
               "total_connections_received:%" PRIu64 "\r\ntotal_commands_processed:%" PRIu64
               "\r\ntotal_net_input_bytes:%" PRIu64 "\r\ntotal_net_output_bytes:%" PRIu64
               "\r\nrejected_connections:%" PRIu64 "\r\ntotal_error_replies:%" PRIu64
               "\r\nevicted_keys:0\r\n",
               m.connections_accepted_total, m.redis_commands_total, m.received_bytes_total,
               m.sent_bytes_total, m.connections_refused_total, m.redis_errors_total);
}

static void put_clients(struct gateway *gw, struct buf *out) {
    struct gateway_metrics m;
    gateway_sum_metrics(gw, &m);
    buf_printf(out,
               "connected_clients:%" PRIu64 "\r\ncluster_connections:0\r\nmaxclients:%u\r\n"
               "blocked_clients:0\r\ntracking_clients:0\r\n",
               m.connections_redis, gw->options.connections_max);
}

/* How old the copy of the node in this process may be; -1: it has not heard from a leader since it
 * started. A web server has no copy, and no such line. */
static void put_copy_age(struct gateway *gw, struct buf *out) {
    struct upstream_status up;
    upstream_get_status(gw->upstream, &up);
    if (up.has_copy)
        buf_printf(out, "copy_age_ms:%" PRId64 "\r\n",
                   up.copy_age_ms == LINK_AGE_UNKNOWN ? (int64_t)-1 : (int64_t)up.copy_age_ms);
}

static void put_section(struct gateway *gw, enum info_section section, struct buf *out) {
    if (out->size > 0)
        buf_append_str(out, "\r\n");
    buf_printf(out, "# %s\r\n", section_titles[section]);
    switch (section) {
    case INFO_server:
        put_server(gw, out);
        break;
    case INFO_clients:
        put_clients(gw, out);
        break;
    case INFO_memory:
        put_memory(gw, out);
        break;
    case INFO_persistence:
        /* Every acknowledged write is on a majority's disks: in Redis's terms, an append-only
         * file that is synced always. */
        buf_append_str(out, "loading:0\r\nasync_loading:0\r\nrdb_bgsave_in_progress:0\r\n"
                            "rdb_last_bgsave_status:ok\r\naof_enabled:1\r\n"
                            "aof_rewrite_in_progress:0\r\naof_last_write_status:ok\r\n");
        break;
    case INFO_stats:
        put_stats(gw, out);
        break;
    case INFO_replication:
        /* To a Redis client every node is a master: it may write anywhere. */
        buf_printf(out,
                   "role:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n"
                   "master_replid:%s\r\nmaster_repl_offset:0\r\nsecond_repl_offset:-1\r\n"
                   "repl_backlog_active:0\r\n",
                   gateway_run_id(gw->shared));
        put_copy_age(gw, out);
        break;
    case INFO_cluster:
        buf_append_str(out, "cluster_enabled:0\r\n");
        break;
    case INFO_cpu:
    case INFO_modules:
    case INFO_errorstats:
    case INFO_keyspace:
    case INFO_SECTION_COUNT:
        break;
    }
}

static void put_sections(struct gateway *gw, unsigned want, struct buf *out) {
    for (unsigned s = 0; s < INFO_SECTION_COUNT; s++)
        if (want & (1u << s))
            put_section(gw, (enum info_section)s, out);
}

void redis_info_local(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    struct buf text = {0};
    put_sections(rc->conn.gw, wanted_sections(args), &text);
    reply_bulk(out, buf_slice(&text));
    buf_fini(&text);
}

/* ---- with the keyspace -------------------------------------------------------------------------
 */

struct info_part {
    struct upstream_request up;
    struct info_job *job;
    bool pending;
    int64_t keys; /* -1: not known */
    int64_t expiring;
};
struct info_job {
    struct redis_request base;
    unsigned want;
    uint32_t left;
    struct info_part parts[STORE_DB_COUNT];
};

static void info_finish(struct info_job *job) {
    struct redis_conn *rc = job->base.rc;
    struct buf text = {0}, reply = {0};
    put_sections(rc->conn.gw, job->want, &text);
    for (int db = 0; db < STORE_DB_COUNT; db++) /* the keyspace is the last section */
        if (job->parts[db].keys > 0)
            /* 0 is what Redis says of an average that it has not sampled yet; clients take the line
             * apart by its commas and want all three. */
            buf_printf(&text, "db%d:keys=%" PRId64 ",expires=%" PRId64 ",avg_ttl=0\r\n", db,
                       job->parts[db].keys, job->parts[db].expiring);
    reply_bulk(&reply, buf_slice(&text));
    redis_request_reply(&job->base, buf_slice(&reply));
    buf_fini(&text);
    buf_fini(&reply);
}

static void info_part_done(struct upstream_request *up, enum upstream_outcome outcome,
                           uint64_t index, struct slice reply) {
    struct info_part *part = CONTAINER_OF(up, struct info_part, up);
    struct info_job *job = part->job;
    struct reply_item header, keys, expiring;
    (void)index;
    part->pending = false;
    if (outcome == UPSTREAM_DONE && reply_next(&reply, &header) && header.type == '*' &&
        reply_next(&reply, &keys) && keys.type == ':' && reply_next(&reply, &expiring) &&
        expiring.type == ':') {
        part->keys = keys.integer;
        part->expiring = expiring.integer;
    }
    conn_flight_end(&job->base.rc->conn, 0);
    if (--job->left == 0)
        info_finish(job);
}

static void info_cancel(struct conn_request *base) {
    struct info_job *job = CONTAINER_OF(base, struct info_job, base.base);
    for (int db = 0; db < STORE_DB_COUNT; db++) {
        if (!job->parts[db].pending)
            continue;
        upstream_forget(job->base.rc->conn.gw->upstream, &job->parts[db].up);
        conn_flight_end(&job->base.rc->conn, 0);
    }
}

static void info_free(struct conn_request *base) {
    free(CONTAINER_OF(base, struct info_job, base.base));
}

static const struct conn_request_ops info_ops = {.cancel = info_cancel, .free = info_free};

bool redis_info(struct redis_conn *rc, const struct argv *args) {
    unsigned want = wanted_sections(args);
    if (!(want & (1u << INFO_keyspace))) {
        struct buf *out = &rc->conn.gw->scratch;
        buf_reset(out);
        redis_info_local(rc, args, out);
        redis_answer(rc, buf_slice(out));
        return true;
    }
    if (!conn_may_submit(&rc->conn, CONN_ORDER_READ)) {
        conn_wait(&rc->conn);
        return false;
    }
    struct info_job *job =
        CONTAINER_OF(redis_request_new(rc, sizeof *job, &info_ops), struct info_job, base);
    job->want = want;
    job->left = STORE_DB_COUNT;
    for (int db = 0; db < STORE_DB_COUNT; db++) {
        struct info_part *part = &job->parts[db];
        struct pack p = pack_begin("KV.COUNT");
        part->job = job;
        part->keys = -1;
        part->pending = true;
        part->up.kind = UPSTREAM_READ_STALE;
        part->up.db = (uint16_t)db;
        part->up.min_index = rc->conn.write_index;
        part->up.timeout_ms = KEYSPACE_TIMEOUT_MS;
        part->up.packed_argv = pack_end(&p);
        part->up.done = info_part_done;
        conn_flight_begin(&rc->conn, CONN_ORDER_READ, 0);
        upstream_submit(rc->conn.gw->upstream, &part->up);
    }
    return true;
}
