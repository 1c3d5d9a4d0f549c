#include "server/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "net/pair.h"
#include "server/gateway_thread.h"
#include "server/join.h"
#include "server/replica_thread.h"

enum { THREADS_MAX = 256, DRAIN_MS = 5000, DESCRIPTORS_RESERVED = 128, SMALL_MACHINE_CORES = 2 };

struct server {
    const struct server_options *o;
    struct replica_thread *replica; /* NULL in a web server */
    struct gateway_shared *shared;
    struct gateway_thread *gateways[THREADS_MAX];
    size_t gateway_count;
    bool one_thread; /* for clients and node */
    struct identity id;
    char http[300], redis[300]; /* as bound; empty: off */
    struct loop *loop;          /* of the main thread: signals */
    int signals;
};

/* ---- what may listen where ---- */

static bool is_off(const char *address) {
    return strcmp(address, "off") == 0 || *address == 0;
}

/* Without credentials only this machine may come in (docs/threat-model.md). */
static bool address_allowed(const struct server_options *o, const char *option, const char *text) {
    struct address a;
    if (is_off(text))
        return true;
    if (!address_parse(text, &a)) {
        fprintf(stderr, "cotidal: %s %s is not an address: expected HOST:PORT\n", option, text);
        return false;
    }
    if (o->insecure || address_is_loopback(&a))
        return true;
    fprintf(stderr,
            "cotidal: %s %s can be reached by other machines, and no credentials are configured\n"
            "cotidal: bind to 127.0.0.1 instead, or add --insecure if you trust everything on that "
            "network\n",
            option, text);
    return false;
}

static bool addresses_valid(const char *option, const char *list) {
    size_t count;
    const char **parts = split_list(list, &count);
    bool ok = count > 0;
    for (size_t i = 0; i < count; i++) {
        struct address a;
        ok = ok && address_parse(parts[i], &a) && a.port != 0;
    }
    free(parts);
    if (!ok)
        fprintf(stderr, "cotidal: %s %s: expected HOST:PORT,...\n", option, list);
    return ok;
}

static bool addresses_allowed(const struct server_options *o) {
    if ((o->role & ROLES_CLIENTS) &&
        (!address_allowed(o, "--http", o->http) || !address_allowed(o, "--redis", o->redis)))
        return false;
    if ((o->role & ROLES_DATA) && is_off(o->peer)) {
        fprintf(stderr, "cotidal: a database node needs --peer\n");
        return false;
    }
    if ((o->role & ROLE_WEB) && *o->db == 0) {
        fprintf(stderr, "cotidal: a web server needs --db HOST:PORT,... of its database nodes\n");
        return false;
    }
    if (((o->role & ROLE_WEB) && !addresses_valid("--db", o->db)) ||
        (*o->join && !addresses_valid("--join", o->join)) ||
        (*o->advertise && !addresses_valid("--advertise", o->advertise)))
        return false;
    return !(o->role & ROLES_DATA) || address_allowed(o, "--peer", o->peer);
}

/* ---- gateways ---- */

static struct stream *connect_local(void *ctx, struct loop *loop) {
    struct server *s = ctx;
    int fds[2];
    struct stream *stream, *other;
    if (loop == replica_thread_loop(s->replica)) {
        stream_pair_new(loop, &stream, &other);
        transport_adopt_stream(replica_thread_transport(s->replica), other);
        return stream;
    }
    if (socketpair_new(fds) < 0)
        return NULL;
    if (stream_from_fd(loop, fds[0], &stream) < 0) {
        close(fds[0]);
        close(fds[1]);
        return NULL;
    }
    transport_adopt(replica_thread_transport(s->replica), fds[1]);
    return stream;
}

static uint64_t raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

static void address_with_port(const char *text, uint16_t port, char out[300]) {
    const char *colon = strrchr(text, ':');
    snprintf(out, 300, "%.*s:%u", (int)(colon - text), text, port);
}

static bool open_gateway(struct server *s, const char *const *seeds, size_t seed_count,
                         uint64_t connections) {
    const struct server_options *o = s->o;
    struct gateway_thread_options options = {
        .gateway = {.connections_max = (uint32_t)connections,
                    .node = s->replica ? replica_thread_gauges(s->replica) : NULL},
        .net = {.http_address = is_off(o->http) ? NULL
                                : *s->http      ? s->http
                                                : o->http,
                .redis_address = is_off(o->redis) ? NULL
                                 : *s->redis      ? s->redis
                                                  : o->redis},
        .upstream = {.upstream = {.seeds = seeds,
                                  .seed_count = seed_count,
                                  .gate = s->replica ? replica_thread_gate(s->replica) : NULL},
                     .connect_local = connect_local,
                     .ctx = s},
        .shared = s->shared,
        .loop = s->one_thread ? replica_thread_loop(s->replica) : NULL,
    };
    struct address redis;
    if (options.net.redis_address && address_parse(options.net.redis_address, &redis))
        options.gateway.redis_port = redis.port;
    struct gateway_thread *t;
    int rc = gateway_thread_new(&options, &t);
    if (rc < 0) {
        fprintf(stderr,
                "cotidal: cannot listen on --http %s or --redis %s: %s\n"
                "cotidal: choose other ports, or port 0 for any free one\n",
                o->http, o->redis, strerror(-rc));
        return false;
    }
    s->gateways[s->gateway_count++] = t;
    if (!is_off(o->http))
        address_with_port(o->http, gateway_thread_http_port(t), s->http);
    if (!is_off(o->redis))
        address_with_port(o->redis, gateway_thread_redis_port(t), s->redis);
    return true;
}

/* By default one a core; next to a node on a small machine only one, which it then shares. */
static size_t client_threads(const struct server_options *o) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = o->threads ? o->threads : cores > 0 ? (size_t)cores : 1;
    if (!o->threads && (o->role & ROLES_DATA) && cores <= SMALL_MACHINE_CORES)
        threads = 1;
    return threads < THREADS_MAX ? threads : THREADS_MAX;
}

static bool open_gateways(struct server *s) {
    const struct server_options *o = s->o;
    static const char *const local[] = {"local"};
    if (!(o->role & ROLES_CLIENTS))
        return true;
    size_t seed_count = 1;
    const char **seeds = o->role & ROLE_WEB ? split_list(o->db, &seed_count) : NULL;
    size_t threads = client_threads(o);
    s->one_thread = s->replica && threads == 1;
    uint64_t limit = raise_descriptor_limit();
    uint64_t clients = limit > 2 * DESCRIPTORS_RESERVED ? limit - DESCRIPTORS_RESERVED : limit / 2;
    if (o->connections && o->connections < clients)
        clients = o->connections;
    s->shared = gateway_shared_new();
    bool ok = true;
    for (size_t i = 0; ok && i < threads; i++)
        ok = open_gateway(s, seeds ? seeds : (const char **)local, seed_count,
                          clients / threads + 1);
    free(seeds);
    return ok;
}

/* ---- identity ---- */

static bool find_identity(struct server *s) {
    const struct server_options *o = s->o;
    int rc = identity_load(o->data, &s->id);
    if (rc < 0 && rc != -ENOENT) {
        fprintf(stderr, "cotidal: %s/node.meta: %s\n", o->data,
                rc == -EBADMSG ? "damaged; let the node join the others anew: cotidal rejoin"
                               : strerror(-rc));
        return false;
    }
    if (rc == 0) {
        /* A node of before: nothing to decide. */
    } else if (*o->join) {
        if (!join_cluster(o->join, replica_thread_address(s->replica), &s->id))
            return false;
    } else {
        s->id = (struct identity){.node_id = 1, .bootstrap = true};
        CHECK(getrandom(s->id.cluster_id, sizeof s->id.cluster_id, 0) == sizeof s->id.cluster_id);
    }
    s->id.starts++;
    rc = identity_save(o->data, &s->id);
    if (rc < 0)
        fprintf(stderr, "cotidal: %s/node.meta: %s\n", o->data, strerror(-rc));
    return rc == 0;
}

/* ---- running ---- */

static void on_signal(void *ctx, int signum) {
    struct server *s = ctx;
    if (s->signals++ > 0) {
        fprintf(stderr, "cotidal: stopped at once\n");
        _exit(128 + signum);
    }
    loop_stop(s->loop);
}

static bool start(struct server *s) {
    const struct server_options *o = s->o;
    if (!addresses_allowed(o))
        return false;
    if ((o->role & ROLES_DATA) && !(s->replica = replica_thread_prepare(o)))
        return false;
    if (!open_gateways(s))
        return false;
    if (s->replica &&
        (!find_identity(s) || !replica_thread_start(s->replica, &s->id, s->http, s->redis)))
        return false;
    for (size_t i = 0; i < s->gateway_count; i++)
        gateway_thread_start(s->gateways[i], (int)i);
    return true;
}

static void announce(const struct server *s) {
    if (s->replica)
        printf("cotidal: node %llu ready", (unsigned long long)s->id.node_id);
    else
        printf("cotidal: node web ready");
    if (*s->http)
        printf(" http=%s", s->http);
    if (*s->redis)
        printf(" redis=%s", s->redis);
    if (s->replica)
        printf(" peer=%s", replica_thread_address(s->replica));
    printf("\n");
    fflush(stdout);
}

/* Clients first, while the node still answers them; then the node, which hands leadership over. */
static int stop(struct server *s) {
    for (size_t i = 0; i < s->gateway_count; i++)
        gateway_thread_drain(s->gateways[i], DRAIN_MS);
    for (size_t i = 0; i < s->gateway_count; i++)
        gateway_thread_free(s->gateways[i]);
    int rc = 0;
    if (s->replica) {
        rc = replica_thread_stop(s->replica);
        replica_thread_free(s->replica);
    }
    if (s->shared)
        gateway_shared_free(s->shared);
    if (rc < 0)
        fprintf(stderr, "cotidal: not stopped cleanly: %s\n", strerror(-rc));
    return rc < 0 ? 70 : 0;
}

int server_run(const struct server_options *options) {
    /* Static, so that what a failed start leaves behind is not lost to leak checkers. */
    static struct server s;
    s = (struct server){.o = options};
    signal(SIGPIPE, SIG_IGN);
    int rc = loop_new(&s.loop);
    if (rc == 0 && !start(&s)) /* until now a signal simply ends the process */
        return 1;              /* nothing to undo */
    if (rc == 0)
        rc = loop_on_signal(s.loop, SIGINT, on_signal, &s);
    if (rc == 0)
        rc = loop_on_signal(s.loop, SIGTERM, on_signal, &s);
    if (rc < 0) {
        fprintf(stderr, "cotidal: %s\n", strerror(-rc));
        return 1;
    }
    announce(&s);
    loop_run(s.loop);
    log_info("stopping", "signal=1");
    rc = stop(&s);
    loop_drain(s.loop);
    loop_free(s.loop);
    return rc;
}
