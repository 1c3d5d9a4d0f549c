/* One gateway: the clients of one thread, both protocols, in front of one upstream.
 *
 * A gateway is sans-I/O like the upstream below it: streams come in through gateway_add_http() and
 * gateway_add_redis(), clocks through struct gateway_env, and whoever runs it calls
 * gateway_turn_end() once a loop turn and gateway_sweep() about once a second. gateway_net.h does
 * that on a real loop; unit tests and the simulator do it by hand.
 *
 *   bytes -> conn (one per client) -> parser -> request -> upstream_submit()
 *   upstream's answer -> the request's place in the connection's line -> turn end: one stream_write
 *
 * Threads: everything but struct gateway_shared belongs to the gateway's thread. The shared part is
 * what CLIENT LIST, INFO, CONFIG and /_/metrics need to know about the other gateways of the
 * process; a mutex guards it. It must outlive all gateways made with it.
 *
 * Limits: everything a client can make grow has one (struct gateway_options). Memory of unfinished
 * requests and unread answers is counted over the whole thread; past the limit the connections that
 * hold most of it are answered BUSY or closed, so that many patient clients cannot add up to the
 * machine's memory.
 */
#pragma once
#include <pthread.h>

#include "base/list.h"
#include "base/pool.h"
#include "gateway/metrics.h"
#include "gateway/upstream.h"
#include "net/stream.h"

struct access;
struct access_log;
struct access_options;
struct client_limits;
struct conn;
struct watch_hub;
struct node_gauges;
struct site_cache;
struct site_loader;
struct site_set;
struct site_waits;
struct sites;
struct tls_server;

struct gateway_env {
    uint64_t (*now_ms)(void *env);  /* monotonic */
    uint64_t (*wall_ms)(void *env); /* since 1970, for Date, TIME and INFO */
    uint64_t (*now_us)(void *env);  /* the clock of now_ms, finer; NULL: that one */
    void *env;
};

/* 0 means the default, which stands behind each. */
struct gateway_options {
    uint32_t connections_max;        /* of all gateways that share: 20,000 */
    uint32_t pipeline_requests_max;  /* unanswered requests of one connection: 1,024 */
    uint64_t pipeline_bytes_max;     /* and their bytes; one may be larger: 8 MiB */
    uint64_t output_bytes_max;       /* unwritten answers after which we stop reading: 1 MiB */
    uint64_t input_bytes_total_max;  /* unfinished requests, all connections: 1 GiB */
    uint64_t output_bytes_total_max; /* unwritten answers, all connections: 1 GiB */
    uint32_t value_bytes_max;        /* one value, one argument, one body: 64 MiB */
    uint32_t txn_bytes_max;          /* a body of POST /v1/txn, a queue of MULTI: 16 MiB */
    uint32_t http_idle_timeout_ms;   /* between requests: 75,000 */
    uint32_t http_requests_max;      /* of one connection; 0: no limit */
    uint32_t http_head_bytes_max;    /* of a request: 32 KiB, which is also the most */
    uint32_t http_head_timeout_ms;  /* from a request's first byte to the end of its head: 10,000 */
    uint32_t http_body_timeout_ms;  /* for a body, plus one second a KiB received: 30,000 */
    uint32_t redis_idle_timeout_ms; /* 0: never, as Redis */
    uint32_t write_stall_timeout_ms;     /* a client that takes nothing of its answers: 60,000 */
    uint64_t session_ttl_ms;             /* of a visitor that does not come back: 30 days */
    uint32_t upstream_timeout_ms;        /* time limit of a request; 0: the upstream's */
    uint16_t redis_port;                 /* as INFO and CLIENT LIST report it */
    const struct access_log *access_log; /* borrowed; NULL: none */
    struct client_limits *limits;        /* by address, borrowed; NULL: there are none */
    struct tls_server *tls; /* whose certificates are reported, borrowed; NULL: there is none */
    const struct access_options *access; /* borrowed; NULL: everybody may do everything */
    const struct node_gauges *node; /* of the node in this process, borrowed; NULL: there is none */
};

struct gateway_shared;
struct gateway_shared *gateway_shared_new(void);
/* Before the first gateway: where blocks of sites are kept on disk (taken; NULL: nowhere), and how
 * much of them in memory. */
void gateway_shared_sites(struct gateway_shared *s, struct site_cache *cache, uint64_t memory_max);
void gateway_shared_free(struct gateway_shared *s);

struct gateway {
    struct gateway_options options; /* defaults filled in */
    struct gateway_env env;
    struct gateway_shared *shared;
    struct upstream *upstream;
    struct gateway_metrics metrics;
    struct access *access;     /* NULL: everybody may do everything */
    struct watch_hub *watch;   /* whoever follows changes (watch_hub.h) */
    struct list conns;         /* of struct conn with something unfinished; see gateway/conn.h */
    struct list idle, resting; /* of struct conn */
    struct list fresh, parked, leaving; /* of struct parked */
    struct list dirty;                  /* conns with something to do at the turn's end */
    struct list dead;                   /* closed, freed at the turn's end */
    struct pool http_conns, parkeds;    /* of struct http_conn, struct parked */
    struct pool store_requests;         /* of what redis_conn.c sends up */
    uint32_t conn_count;                /* all clients */
    uint32_t busy_count, warm_count;    /* of the lists conns and idle */
    uint32_t refusal_count;             /* clients that are being refused, in `leaving` */
    bool draining;
    bool grace_over;
    uint64_t draining_ms;   /* since when */
    struct buf access_line; /* the line being made */
    struct buf scratch;     /* for one neutral reply being made; never held across calls */
    struct list shared_node;
    uint64_t started_ms; /* monotonic */
    /* Sites: of the process; the set that this thread uses, and its revision. */
    struct sites *sites;
    struct site_set *site_set;
    uint64_t site_revision;
    struct site_loader *site_loader; /* NULL: another gateway loads */
    struct site_waits *site_waits;
    uint64_t ok_line_s; /* the second that ok_line is of */
    char ok_line[64];   /* the first two lines of an answer with 200, from this second on */
    size_t ok_line_size;
    /* Makes the thread take a turn; called on any thread. NULL: it takes them by itself. */
    void (*wake)(void *ctx);
    void *wake_ctx;
    uint64_t warn_again_ms; /* when a client's mischief may be logged again */
};

/* Borrows shared and upstream until gateway_free(); copies the rest. */
struct gateway *gateway_new(const struct gateway_options *options, const struct gateway_env *env,
                            struct gateway_shared *shared, struct upstream *upstream);
/* Closes what connections are left (their unanswered requests are forgotten) and frees. No stream
 * may call back afterwards: free the gateway before its loop is drained. */
void gateway_free(struct gateway *gw);

/* Takes the stream: sets its handler, or closes it when the limit is reached. */
void gateway_add_http(struct gateway *gw, struct stream *s);
void gateway_add_redis(struct gateway *gw, struct stream *s);

/* Parses what waited, writes what was gathered, and flushes the upstream. */
void gateway_turn_end(struct gateway *gw);
/* Time limits: looks at everything that may be due. */
void gateway_sweep(struct gateway *gw);
/* Makes the other gateways of the process take a turn: something that they share has changed. */
void gateway_wake_others(struct gateway *gw);
/* `wake` is not called any more. */
void gateway_unwake(struct gateway *gw);
/* The same in bounded steps: one of `parts` equal parts of what is busy, and some of what is idle.
 * Called `parts` times a second it does what gateway_sweep() does, without holding a turn up. */
void gateway_sweep_part(struct gateway *gw, uint32_t parts);
/* Orderly stop: connections are closed after their answers, and idle ones at the turn's end. An
 * HTTP client that was heard of within GATEWAY_GRACE_MS may be about to send a request: it is given
 * as long to do so, and told to close by the answer. */
void gateway_drain(struct gateway *gw);
enum { GATEWAY_GRACE_MS = 500 };
/* Whether an idle connection is still given time. */
bool gateway_has_grace(const struct gateway *gw, const struct conn *c);
/* Connections that are not clients yet, their TLS handshake being under way, take descriptors as
 * clients do, and so room from them. */
bool gateway_has_room(const struct gateway *gw);
void gateway_count_handshakes(struct gateway *gw, int more);
/* A client that was admitted is gone; its stream still has its address. */
void gateway_client_left(struct gateway *gw, const struct stream *s);
/* Every struct conn and struct parked counts, here and for the process. */
void gateway_count_clients(struct gateway *gw, int more);
static inline bool gateway_is_drained(const struct gateway *gw) {
    return gw->conn_count == 0;
}

static inline uint64_t gateway_now_ms(const struct gateway *gw) {
    return gw->env.now_ms(gw->env.env);
}
static inline uint64_t gateway_now_us(const struct gateway *gw) {
    return gw->env.now_us ? gw->env.now_us(gw->env.env) : gateway_now_ms(gw) * 1000;
}
static inline uint64_t gateway_wall_ms(const struct gateway *gw) {
    return gw->env.wall_ms(gw->env.env);
}

/* ---- shared between the gateways of a process --------------------------------------------------
 */

enum { CLIENT_TEXT_BYTES_MAX = 128 };

/* One Redis client as CLIENT LIST shows it. The owning thread writes the numbers with relaxed
 * stores; the texts change under the registry's mutex only. */
struct client_entry {
    struct list node;
    uint64_t id;
    uint64_t connected_ms; /* wall time */
    uint64_t last_ms;      /* wall time of the last command */
    const char *last_command;
    uint32_t db;
    uint32_t resp;
    int32_t queued; /* commands behind MULTI; -1 outside */
    uint32_t watched;
    bool no_evict;
    char peer[64];
    char name[CLIENT_TEXT_BYTES_MAX];
    char lib_name[CLIENT_TEXT_BYTES_MAX];
    char lib_version[CLIENT_TEXT_BYTES_MAX];
};
#define CLIENT_SET(entry, field, value) __atomic_store_n(&(entry)->field, (value), __ATOMIC_RELAXED)

/* Gives it an id and adds it. */
void client_register(struct gateway_shared *s, struct client_entry *e);
void client_unregister(struct gateway_shared *s, struct client_entry *e);
/* Sets one of the entry's texts (cut at CLIENT_TEXT_BYTES_MAX - 1). */
void client_set_text(struct gateway_shared *s, char *text, struct slice value);
/* Calls fn for each client, oldest first, under the mutex: fn must not block. */
void client_each(struct gateway_shared *s, void (*fn)(void *ctx, const struct client_entry *e),
                 void *ctx);

/* The counters of all gateways of the process, added up. */
void gateway_sum_metrics(struct gateway *gw, struct gateway_metrics *ret_sum);
/* 40 hexadecimal digits that tell this start of the process from others. */
const char *gateway_run_id(const struct gateway_shared *s);

/* What CONFIG SET has changed: a value by the setting's number, NULL while it is the default. The
 * text is copied out under the mutex. */
bool gateway_config_get(struct gateway_shared *s, size_t setting, struct buf *out);
void gateway_config_set(struct gateway_shared *s, size_t setting, struct slice value);
enum { GATEWAY_SETTINGS_MAX = 64 };
