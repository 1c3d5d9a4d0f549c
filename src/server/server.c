#include "server/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/site_cache.h"
#include "net/pair.h"
#include "server/access_setup.h"
#include "server/client_setup.h"
#include "server/gateway_thread.h"
#include "server/join.h"
#include "server/replica_thread.h"
#include "server/tls_setup.h"

enum { SMALL_MACHINE_CORES = 2 };

struct server {
    const struct server_options *o;
    struct replica_thread *replica; /* NULL in a web server */
    struct gateway_shared *shared;
    struct client_setup clients;
    struct access_setup access;
    struct gateway_thread *gateways[CLIENT_THREADS_MAX];
    size_t gateway_count;
    bool one_thread; /* for clients and node */
    struct identity id;
    struct tls_setup tls;
    char bound[GATEWAY_PORT_COUNT][300]; /* the listeners' addresses; empty: off */
    struct loop *loop;                   /* of the main thread: signals */
};

/* ---- what may listen where ---- */

static bool is_off(const char *address) {
    return strcmp(address, "off") == 0 || *address == 0;
}

static const struct {
    const char *option; /* on the command line */
    const char *name;   /* in the start-up line */
    size_t offset;
} listeners[GATEWAY_PORT_COUNT] = {
    [GATEWAY_HTTP] = {"--http", "http", offsetof(struct server_options, http)},
    [GATEWAY_REDIS] = {"--redis", "redis", offsetof(struct server_options, redis)},
    [GATEWAY_HTTPS] = {"--https", "https", offsetof(struct server_options, https)},
    [GATEWAY_REDISS] = {"--rediss", "rediss", offsetof(struct server_options, rediss)},
};

static const char *asked_address(const struct server_options *o, size_t which) {
    return *(const char *const *)(const void *)((const char *)o + listeners[which].offset);
}

/* Without credentials only this machine may come in (docs/threat-model.md). */
static bool address_allowed(const struct server_options *o, const char *option, const char *text) {
    struct address a;
    bool peer = strcmp(option, "--peer") == 0;
    if (is_off(text))
        return true;
    if (!address_parse(text, &a)) {
        fprintf(stderr, "cotidal: %s %s is not an address: expected HOST:PORT\n", option, text);
        return false;
    }
    if (o->insecure || address_is_loopback(&a) || (peer && *o->peer_ca) ||
        (!peer && (o->auth || o->require_auth)))
        return true;
    fprintf(stderr,
            "cotidal: %s %s can be reached by other machines, and no credentials are configured\n"
            "cotidal: bind to 127.0.0.1 instead, or %s, or add --insecure if you trust everything "
            "on that "
            "network\n",
            option, text,
            peer ? "give --peer-cert, --peer-key and --peer-ca (cotidal cert makes them)"
                 : "add --auth to ask for tokens");
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
    for (size_t i = 0; (o->role & ROLES_CLIENTS) && i < GATEWAY_PORT_COUNT; i++)
        if (!address_allowed(o, listeners[i].option, asked_address(o, i)))
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
    if (stream_from_fd(loop, fds[0], &stream) < 0) { /* which has closed it */
        close(fds[1]);
        return NULL;
    }
    transport_adopt(replica_thread_transport(s->replica), fds[1]);
    return stream;
}

static void address_with_port(const char *text, uint16_t port, char out[300]) {
    const char *colon = strrchr(text, ':');
    snprintf(out, 300, "%.*s:%u", (int)(colon - text), text, port);
}

static bool open_gateway(struct server *s, const char *const *seeds, size_t seed_count) {
    const struct server_options *o = s->o;
    struct gateway_thread_options options = {
        .gateway = client_setup_gateway(&s->clients, s->gateway_count),
        .net = {.tls = s->tls.server},
        .upstream = {.upstream = {.seeds = seeds,
                                  .seed_count = seed_count,
                                  .gate = s->replica ? replica_thread_gate(s->replica) : NULL},
                     .connect_local = connect_local,
                     .ctx = s,
                     .tls = s->tls.peer},
        .shared = s->shared,
        .loop = s->one_thread ? replica_thread_loop(s->replica) : NULL,
    };
    options.gateway.node = s->replica ? replica_thread_gauges(s->replica) : NULL;
    options.gateway.tls = s->tls.server;
    options.gateway.access = &s->access.options;
    for (size_t i = 0; i < GATEWAY_PORT_COUNT; i++)
        if (!is_off(asked_address(o, i)))
            options.net.addresses[i] = *s->bound[i] ? s->bound[i] : asked_address(o, i);
    struct address redis;
    if (options.net.addresses[GATEWAY_REDIS] &&
        address_parse(options.net.addresses[GATEWAY_REDIS], &redis))
        options.gateway.redis_port = redis.port;
    struct gateway_thread *t;
    int rc = gateway_thread_new(&options, &t);
    if (rc < 0) {
        fprintf(stderr, "cotidal: cannot listen on");
        for (size_t i = 0; i < GATEWAY_PORT_COUNT; i++)
            if (options.net.addresses[i])
                fprintf(stderr, " %s %s", listeners[i].option, asked_address(o, i));
        fprintf(stderr, ": %s\ncotidal: choose other ports, or port 0 for any free one\n",
                strerror(-rc));
        return false;
    }
    s->gateways[s->gateway_count++] = t;
    for (size_t i = 0; i < GATEWAY_PORT_COUNT; i++)
        if (options.net.addresses[i])
            address_with_port(asked_address(o, i), gateway_thread_port(t, (enum gateway_port)i),
                              s->bound[i]);
    return true;
}

static bool open_site_cache(struct server *s) {
    const struct server_options *o = s->o;
    struct site_cache *cache = NULL;
    int rc = *o->cache ? site_cache_open(o->cache, o->cache_max, &cache) : 0;
    if (rc < 0)
        fprintf(stderr, "cotidal: --cache %s: %s\n", o->cache, strerror(-rc));
    else
        gateway_shared_sites(s->shared, cache, o->site_memory);
    return rc == 0;
}

/* By default one a core; next to a node on a small machine only one, which it then shares. */
static size_t client_threads(const struct server_options *o) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = o->threads ? o->threads : cores > 0 ? (size_t)cores : 1;
    if (!o->threads && (o->role & ROLES_DATA) && cores <= SMALL_MACHINE_CORES)
        threads = 1;
    return threads < CLIENT_THREADS_MAX ? threads : CLIENT_THREADS_MAX;
}

static bool open_gateways(struct server *s) {
    const struct server_options *o = s->o;
    static const char *const local[] = {"local"};
    if (!(o->role & ROLES_CLIENTS)) {
        descriptor_limit_raise(); /* for the links of web servers */
        return true;
    }
    size_t seed_count = 1;
    const char **seeds = o->role & ROLE_WEB ? split_list(o->db, &seed_count) : NULL;
    size_t threads = client_threads(o);
    s->one_thread = s->replica && threads == 1;
    if (!access_setup_init(&s->access, o) || !client_setup_init(&s->clients, o, threads)) {
        free(seeds);
        return false;
    }
    s->shared = gateway_shared_new();
    if (!open_site_cache(s))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && i < threads; i++)
        ok = open_gateway(s, seeds ? seeds : (const char **)local, seed_count);
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
        if (!join_cluster(o->join, replica_thread_address(s->replica), s->tls.peer, &s->id))
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
    (void)signum;
    loop_stop(s->loop);
}

/* While the process stops its main thread waits for the others and runs no loop. */
static void on_second_signal(int signum) {
    static const char text[] = "cotidal: stopped at once\n";
    ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
    (void)n;
    _exit(128 + signum);
}

/* Files that others have renamed are opened anew; those that others have written are read anew. */
static void on_reopen(void *ctx, int signum) {
    struct server *s = ctx;
    if (signum == SIGHUP)
        tls_setup_reload(&s->tls);
    if (s->clients.writer)
        access_writer_reopen(s->clients.writer);
}

static bool start(struct server *s) {
    const struct server_options *o = s->o;
    if (!addresses_allowed(o) || !tls_setup_init(&s->tls, o))
        return false;
    if ((o->role & ROLES_DATA) && !(s->replica = replica_thread_prepare(o, s->tls.peer)))
        return false;
    if (!open_gateways(s))
        return false;
    if (s->replica &&
        (!find_identity(s) || !replica_thread_start(s->replica, &s->id, s->bound[GATEWAY_HTTP],
                                                    s->bound[GATEWAY_REDIS])))
        return false;
    if (s->clients.writer)
        access_writer_start(s->clients.writer);
    for (size_t i = 0; i < s->gateway_count; i++)
        gateway_thread_start(s->gateways[i], (int)i);
    return true;
}

static void announce(const struct server *s) {
    if (s->replica)
        printf("cotidal: node %llu ready", (unsigned long long)s->id.node_id);
    else
        printf("cotidal: node web ready");
    for (size_t i = 0; i < GATEWAY_PORT_COUNT; i++)
        if (*s->bound[i])
            printf(" %s=%s", listeners[i].name, s->bound[i]);
    if (s->replica)
        printf(" peer=%s", replica_thread_address(s->replica));
    if (s->gateway_count > 0)
        printf(" connections=%llu", (unsigned long long)s->clients.connections_max);
    printf("\n");
    fflush(stdout);
}

/* Clients first, while the node still answers them; then the node, which hands leadership over. */
static int stop(struct server *s) {
    for (size_t i = 0; i < s->gateway_count; i++)
        gateway_thread_drain(s->gateways[i], (uint32_t)s->o->drain_timeout);
    for (size_t i = 0; i < s->gateway_count; i++)
        gateway_thread_free(s->gateways[i]);
    client_setup_fini(&s->clients);
    access_setup_fini(&s->access);
    int rc = 0;
    if (s->replica) {
        rc = replica_thread_stop(s->replica);
        replica_thread_free(s->replica);
    }
    if (s->shared)
        gateway_shared_free(s->shared);
    tls_setup_fini(&s->tls);
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
    if (rc == 0)
        rc = loop_on_signal(s.loop, SIGUSR1, on_reopen, &s);
    if (rc == 0)
        rc = loop_on_signal(s.loop, SIGHUP, on_reopen, &s);
    if (rc < 0) {
        fprintf(stderr, "cotidal: %s\n", strerror(-rc));
        return 1;
    }
    tls_setup_watch(&s.tls, s.loop);
    announce(&s);
    loop_run(s.loop);
    signal(SIGINT, on_second_signal);
    signal(SIGTERM, on_second_signal);
    log_info("stopping", "signal=1");
    rc = stop(&s);
    loop_drain(s.loop);
    loop_free(s.loop);
    return rc;
}
