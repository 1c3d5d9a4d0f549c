#include "server/client_setup.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "gateway/client_limits.h"

enum {
    /* Descriptors that are not for clients: of the process, and of each thread (its loop, its
     * listeners, its links, clients that are being refused, TLS handshakes beyond the limit). */
    RESERVED = 128,
    RESERVED_PER_THREAD = 64,
    HEAD_BYTES_MIN = 1024,
    HEAD_BYTES_MAX = 32 * 1024,
    BODY_BYTES_MAX = 64 << 20,
    TIMEOUT_MS_MIN = 100,
};

uint64_t descriptor_limit_raise(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

static bool refuse(const char *option, const char *reason) {
    fprintf(stderr, "cotidal: --%s %s\n", option, reason);
    return false;
}

static bool take_time(const char *option, uint64_t ms, uint32_t *ret_ms) {
    if (ms < TIMEOUT_MS_MIN || ms > UINT32_MAX / 2)
        return refuse(option, "is a time from 100ms to 24d");
    *ret_ms = (uint32_t)ms;
    return true;
}

static bool take_times(struct gateway_options *g, const struct server_options *o) {
    if (o->redis_idle_timeout > 0 &&
        !take_time("redis-idle-timeout", o->redis_idle_timeout, &g->redis_idle_timeout_ms))
        return false;
    return take_time("idle-timeout", o->idle_timeout, &g->http_idle_timeout_ms) &&
           take_time("header-timeout", o->header_timeout, &g->http_head_timeout_ms) &&
           take_time("body-timeout", o->body_timeout, &g->http_body_timeout_ms) &&
           take_time("send-timeout", o->send_timeout, &g->write_stall_timeout_ms);
}

static bool take_sizes(struct gateway_options *g, const struct server_options *o) {
    if (o->max_header < HEAD_BYTES_MIN || o->max_header > HEAD_BYTES_MAX)
        return refuse("max-header", "is a size from 1K to 32K");
    if (o->max_body == 0 || o->max_body > BODY_BYTES_MAX)
        return refuse("max-body", "is a size up to 64M");
    if (o->keepalive_requests > UINT32_MAX || o->per_address > UINT32_MAX)
        return refuse("keepalive-requests and --per-address", "are numbers below 2^32");
    g->http_head_bytes_max = (uint32_t)o->max_header;
    g->value_bytes_max = (uint32_t)o->max_body;
    if (g->value_bytes_max < 16u << 20)
        g->txn_bytes_max = g->value_bytes_max;
    g->http_requests_max = (uint32_t)o->keepalive_requests;
    return true;
}

static bool make_limits(struct client_setup *c, const struct server_options *o) {
    struct client_limits_options l = {.connections_max = (uint32_t)c->connections_max,
                                      .per_address_max = (uint32_t)o->per_address};
    uint64_t seed = 0;
    if (*o->rate_limit &&
        !client_limits_parse_rate(slice_str(o->rate_limit), &l.rate_per_s, &l.rate_burst))
        return refuse("rate-limit", "is N/s or N/s,BURST, with numbers from 1 to 1000000");
    if (l.per_address_max == 0 && l.rate_per_s == 0)
        return true;
    CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed);
    c->limits = client_limits_new(&l, seed);
    return true;
}

static bool open_access_log(struct client_setup *c, const struct server_options *o,
                            size_t threads) {
    bool json = strcmp(o->access_format, "json") == 0;
    if (!json && strcmp(o->access_format, "combined") != 0)
        return refuse("access-format", "is combined or json");
    if (!*o->access_log)
        return true;
    int rc = access_writer_new(o->access_log, &c->writer);
    if (rc < 0) {
        fprintf(stderr, "cotidal: --access-log %s: %s\n", o->access_log, strerror(-rc));
        return false;
    }
    for (size_t i = 0; i < threads; i++)
        c->logs[i] = (struct access_log){.ring = access_writer_add(c->writer),
                                         .format = json ? ACCESS_JSON : ACCESS_COMBINED};
    return true;
}

bool client_setup_init(struct client_setup *c, const struct server_options *o, size_t threads) {
    CHECK(threads <= CLIENT_THREADS_MAX);
    uint64_t limit = descriptor_limit_raise();
    uint64_t reserved = RESERVED + RESERVED_PER_THREAD * threads;
    c->connections_max = limit > 2 * reserved ? limit - reserved : limit / 2;
    if (c->connections_max > INT32_MAX)
        c->connections_max = INT32_MAX; /* the limit can be "none" */
    if (o->connections > c->connections_max) {
        fprintf(stderr,
                "cotidal: --connections %llu: the limit on open files (%llu, ulimit -Hn) allows "
                "%llu\n",
                (unsigned long long)o->connections, (unsigned long long)limit,
                (unsigned long long)c->connections_max);
        return false;
    }
    if (o->connections)
        c->connections_max = o->connections;
    c->gateway.connections_max = (uint32_t)c->connections_max;
    c->gateway.session_ttl_ms = o->session_ttl;
    return take_times(&c->gateway, o) && take_sizes(&c->gateway, o) && make_limits(c, o) &&
           open_access_log(c, o, threads);
}

struct gateway_options client_setup_gateway(struct client_setup *c, size_t thread) {
    struct gateway_options g = c->gateway;
    g.limits = c->limits;
    g.access_log = c->writer ? &c->logs[thread] : NULL;
    return g;
}

void client_setup_fini(struct client_setup *c) {
    access_writer_free(c->writer);
    client_limits_free(c->limits);
}
