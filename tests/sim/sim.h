/* A whole cluster in one process, driven by one seed: the real node, core, log, store and upstream
 * on a simulated clock, network and disk. The same seed gives the same run.
 *
 *   heap of events -> server (node on mem_disk, store on a memory file system)
 *                  -> gateway (upstream with clients)
 *                  -> faults
 *
 * After every event the touched server is checked against what was seen before (check.c); clients
 * check their own histories (client.c). A violation prints the seed and ends the run.
 */
#pragma once
#include <setjmp.h>

#include "base/rand.h"
#include "gateway/upstream.h"
#include "mem_disk.h"
#include "replica/node.h"
#include "replica/wire.h"
#include "store/gate.h"
#include "store/store.h"

enum {
    SERVERS_MAX = 9,
    GATEWAYS_MAX = 3,
    CLIENTS_PER_GATEWAY = 3,
    KEYS = 2,
    CONNECTIONS_MAX = 1024
};

/* What can happen in a run; by default the seed chooses. */
struct sim_options {
    int voters;     /* to grow to: 1, 3 or 5 */
    bool crash;     /* processes end and start again */
    bool power;     /* and lose what was not flushed, also in the middle of a step */
    bool partition; /* links between nodes, and to gateways, are cut in one or both directions */
    bool reset;     /* connections break */
    bool slow_disk, pause, skew, snapshots;
    bool drift;     /* clocks run at different speeds */
    bool slow_link; /* messages between nodes take up to as long as an election, in their order */
    bool aim;       /* faults come at elections and installations (aim.c) */
    bool handover;  /* the leader hands over */
    bool gateways;  /* gateways die with what their clients wait for, and new ones come */
    bool leap;      /* the wall clocks jump by more than an hour: client sessions end */
    bool isolate;   /* the leader loses the other nodes, and keeps its gateways */
    bool io_error;  /* a disk operation fails: the node must stop */
    bool replace;  /* voters die for good, lose their disks, are removed; others take their place */
    bool disorder; /* frames between nodes come late, out of order and twice, as no connection would
                      bring them */
    bool sluggish; /* disks are slow all the time */
    bool churn;    /* members are removed and come back as new ones all the time */
    bool hot;      /* members change all the time, and faults are aimed at that (hot.c) */
    bool move;     /* nodes come back under other addresses */
    bool damage;   /* bytes of a store change */
    bool misapply; /* and entries are applied wrongly */
    bool early;    /* faults begin while the cluster is being built */
    enum play {
        PLAY_NONE,
        PLAY_RIVALS,
        PLAY_ROLLBACK,
        PLAY_OVERWRITE,
        PLAY_ESTRANGED
    } play; /* stage.c */
    uint64_t duration_ms;
    int verbose;
};

struct server {
    int index; /* 1.. */
    char address[16], dir[256], boot_id[32];
    struct disk *disk;
    struct node *node; /* NULL: down */
    uint64_t node_id;  /* 0: has not joined */
    uint8_t cluster[16];
    bool bootstrap, begun, dead_for_good, removed, failed, joining;
    bool disk_faulty;      /* an error or a power cut was planned for its disk */
    uint64_t member_index; /* of a membership that it stood in */
    unsigned life;         /* of this address: counts lost disks */
    unsigned incarnation, boots;
    bool disk_scheduled;
    uint64_t disk_slow_us; /* each of its jobs takes so much longer */
    uint64_t tick_at_us, tick_seq;
    uint64_t clock_ms, wall_skew_ms;
    uint32_t clock_rate; /* of its clocks, in 1/1024 */
    uint64_t paused_until_us;
    struct deferred *deferred; /* events that came during a pause, in their order */
    size_t deferred_count, deferred_capacity;
    bool waking;
    uint64_t seen_commit, highest_commit, seen_applied, seen_last, seen_last_term;
    bool membership_seen; /* the last one in its log is the core's */
    struct list jobs;     /* background jobs waiting */
    struct node_counters counted;
    struct store_gate *gate;
    bool misapplied; /* its store has applied an entry as another one, and is not mended yet */
    bool damaged;    /* a byte of its store was changed, and is not mended yet */
};

struct slink {
    struct list node;
    struct gateway_sim *gateway;
    struct server *server;
    unsigned incarnation;
    struct upstream_link *up;
    struct node_link *down;
    bool dead_up, dead_down; /* that side is gone */
    bool nobody;             /* its address is not, or no longer, that of a server */
    bool stalled[2];         /* bytes were lost in this direction: nothing comes through any more */
    uint64_t last_at_us[2];
};

struct gateway_sim {
    int index;
    uint16_t connection; /* its life, of all gateways' lives in this run */
    bool dying;
    struct server *home; /* the node of its own process, which it reads from; NULL: none */
    bool direct;         /* and on whose store it executes reads itself */
    struct upstream *upstream;
    struct watch_hub *hub; /* NULL: without watchers */
    uint64_t tick_at_us, tick_seq;
    struct list links;
    struct client *clients;
};

struct sim {
    struct sim_options o;
    struct rand damage_rand; /* of its own, so that the other seeds go as they went */
    struct rand watch_rand;  /* likewise */
    uint64_t seed, now_us, seq, hash, events, end_us;
    struct rand rand;
    struct server servers[SERVERS_MAX + 1];
    struct gateway_sim gateways[GATEWAYS_MAX];
    bool cut[SERVERS_MAX + 1][SERVERS_MAX + 1]; /* from, to */
    bool gateway_cut[GATEWAYS_MAX][SERVERS_MAX + 1];
    uint32_t slow_us[SERVERS_MAX + 1][SERVERS_MAX + 1]; /* a message takes up to so much longer */
    unsigned connection[SERVERS_MAX + 1][SERVERS_MAX + 1];
    uint64_t last_at_us[SERVERS_MAX + 1][SERVERS_MAX + 1];
    bool faults, quiet;
    bool held;          /* no new faults: those under way last */
    bool minority_down; /* as many voters as the others must bear are down for good */
    uint64_t gone[64];  /* ids of members whose removal was answered */
    unsigned gone_count;
    uint16_t connections;
    uint64_t leap_ms; /* that the wall clocks of all have made */
    uint64_t think_us, snapshot_bytes, trailing_bytes, append_bytes, laggard_bytes;
    uint32_t entries_inflight;
    int focus; /* one kind of fault that comes more often than the others, or -1 */
    jmp_buf failed;
    char dir[128];
};
extern struct sim sim;

struct sim_stats {
    uint64_t undecided, stale_reads, gateway_deaths, leaps, damages, misapplied, repairs, checks,
        scrubs, runs, events, messages, lost_messages, crashes, power_cuts, restarts, partitions,
        resets, elections, background, installs, resumed, source_changes, asked_again, joins,
        removals, deaths, wipes, pauses, writes, reads, direct, unknown, not_applied, replayed,
        io_errors, violations, watched, watch_resets;
};
extern struct sim_stats stats;

typedef void (*event_fn)(void *arg, uint64_t number);
void sim_at(uint64_t at_us, event_fn fn, void *arg, uint64_t number);
/* The argument is freed by the function, or with the run. */
void sim_at_owned(uint64_t at_us, event_fn fn, void *arg, uint64_t number);
void sim_run_until(uint64_t until_us);
void sim_trace(const char *fmt, ...) PRINTF_LIKE(1, 2);
_Noreturn void sim_violation(const char *fmt, ...) PRINTF_LIKE(1, 2);
static inline uint64_t sim_rand(uint64_t below) {
    return rand_below(&sim.rand, below);
}
static inline bool sim_chance(unsigned per_thousand) {
    return sim_rand(1000) < per_thousand;
}

/* server.c */
void server_init(struct server *s, int index);
void server_start(struct server *s);
void server_crash(struct server *s, bool power);
/* It comes back under another address, if it knows those of all others: who forgets where the
 * others are, and is not where they look for it, is lost. */
bool server_may_move(const struct server *s);
void server_move(struct server *s);  /* down */
void server_wipe(struct server *s);  /* down: its disk is lost */
void server_after(struct server *s); /* after every call into its node */
struct server *server_leader(void);
struct server *server_at(const char *address);
uint32_t voters_now(void); /* in the leader's membership; 0: no leader */
/* While the server is paused its events wait, in their order: true when this one does. owned: as
 * sim_at_owned(). */
bool server_defer(struct server *s, event_fn fn, void *arg, uint64_t number, bool owned);
void server_pause(struct server *s, uint64_t us);
bool server_busy(const struct server *s);
void server_clocks(struct server *s, uint64_t *ret_now_ms, uint64_t *ret_wall_ms);
void server_drop_deferred(struct server *s);

/* faults.c */
void fault_step(void *arg, uint64_t pace_us); /* one fault, and the next after about pace_us */
void fault_choose(void);                      /* draws what this run is about */
void fault_heal(void);                        /* nothing is cut or slow any more */
void fault_hand_over(void);                   /* the leader is asked to */
void fault_exile(void); /* the leader is cut off, and the others have slow links */

/* damage.c */
void damage_choose(const struct sim_options *base);
void damage_begin(void);
bool damage_mended(void); /* every copy is right, and its node says so */

/* aim.c */
void aim_at_message(const struct server *from, const struct server *to, uint8_t type);

/* net.c */
void net_peer_send(struct server *from, uint64_t id, const char *address, struct slice frame);
extern const struct upstream_env_ops gateway_env_ops;
void net_link_send(struct slink *l, struct slice bytes);
void net_link_close(struct slink *l);
void net_server_down(struct server *s);
void net_reset(int a, int b);
void gateway_start(struct gateway_sim *g);
void gateway_die(struct gateway_sim *g); /* and another one takes its place */
void gateway_after(struct gateway_sim *g);
void gateway_stop(struct gateway_sim *g);
void net_free(void);

/* hot.c */
void hot_begin(void);
void hot_watch(struct server *s);       /* after every call into its node */
void hot_removal_answered(uint64_t id); /* it has happened, or will not */

/* stage.c */
extern int stage_servers; /* that the cluster is to have meanwhile; 0: as always */
enum { STAGE_HANDS_OFF = -1 };
void stage_choose(const struct sim_options *base);
void stage_watch(struct server *s); /* after every call into its node */
void stage_play(void);

/* client.c */
#define CLIENT_LONG_VALUE "some value that is a little longer than the others"
void clients_begin(void);
void clients_reconnect(struct gateway_sim *g); /* it died, and another one takes its place */
void clients_check_end(void);
void clients_free(void);
void clients_mark(void); /* progress is counted from here */
bool clients_progressed(void);
bool clients_busy(void);
void admin_join(struct server *s);
void admin_remove(uint64_t id);

/* watch.c */
bool watch_is_on(void);
void watch_begin(void);
void watch_gateway_starts(struct gateway_sim *g);
void watch_gateway_stops(struct gateway_sim *g, bool for_good);
bool watch_caught_up(void);
void watch_check_end(void);

/* check.c */
void check_reset(void);
uint64_t check_last_index(void);               /* the highest that any log has ever held */
uint64_t check_committed_term(uint64_t index); /* of the entry committed there; 0: none is known */
void check_server(struct server *s);
bool check_converged(void);
