/* A database node: consensus, log, store, reads, membership and snapshots put together. One thread
 * drives it; nothing here blocks for longer than a small synchronous write (term and vote).
 *
 * The driver hands in what arrives (frames from other nodes, bytes from gateways), calls
 * node_tick() when node_deadline_ms() has come and node_turn_end() after each batch of events.
 * Everything the node does goes through struct replica_env_ops, struct disk and the store.
 *
 *   gateway links -> open batch -> log entry -> core -> messages to followers
 *                                       |         \-> log on disk -> persisted -> core -> commit
 * index
 *                                       v
 *                                    memlog -> apply (one store transaction a turn) -> replies to
 * links
 */
#pragma once
#include "replica/core.h"
#include "replica/disk.h"
#include "replica/env.h"

struct node;
struct node_gauges;
struct node_link;
struct store_gate;

struct node_options {
    uint64_t id;
    uint8_t cluster_id[16];
    bool bootstrap;  /* an empty log begins with us as the only voter; otherwise it waits for a
                        leader */
    bool begun;      /* the node has worked before: without its log it must not start */
    const char *dir; /* of store/ and snapshots/, real paths also under the simulator; copied */
    const char *peer_address; /* what others reach us at; copied, as the next two */
    const char *http_address; /* "" when it does not listen */
    const char *redis_address;
    const char *boot_id;
    uint32_t election_timeout_ms; /* 0: 300 */
    uint32_t heartbeat_ms;        /* 0: 30 */
    uint32_t voters_max;          /* 0: 5 */
    uint32_t
        pair_grace_ms; /* how long a second node waits for a third before both vote; 0: 2,000 */
    uint32_t
        replace_after_ms; /* a voter silent for so long is replaced by a live learner; 0: never */
    uint64_t snapshot_log_bytes; /* log bytes behind the last snapshot at which one is taken; 0: 64
                                    MiB */
    uint64_t log_trailing_bytes; /* entries kept behind a snapshot for nodes that lag; 0: 16 MiB */
    uint64_t
        append_bytes; /* entries in one message to a follower, the first one at least; 0: 16 MiB */
    uint32_t
        entries_inflight; /* on their way to one follower, and kept behind a snapshot (G3); 0: 64 */
    uint64_t log_laggard_bytes;    /* kept likewise for followers that are on their way; 0: 16 times
                                      snapshot_log_bytes */
    uint64_t snapshot_rate_bytes;  /* handed out a second, at least 64 KiB; 0: no limit */
    uint32_t snapshot_piece_bytes; /* asked for at a time; 0: WIRE_PIECE_BYTES, the most */
    uint64_t snapshot_agree_ms;    /* one that was taken waits so long until most voters have its
                                      digest; 0: it does not wait */
    uint64_t scrub_every_ms;       /* how often all records are counted up; 0: never */
    struct node_gauges *gauges;    /* NULL: nobody looks; outlives the node */
    uint64_t log_segment_bytes;    /* 0: the log's default */
    uint64_t map_bytes;            /* of the store */
    uint64_t max_data_bytes;       /* quota; 0: none */
    uint64_t changes_max;          /* of the change log, the same on all nodes; 0: the default */
    /* How often the node makes sure, through a read round, how new its copy is; 0: 500;
     * UINT32_MAX: only when somebody reads. */
    uint32_t fresh_every_ms;
    struct store_gate *gate; /* open while other threads may read the store; NULL: none do.
                                Outlives the node */
    uint64_t min_free_bytes; /* of the disk: below, growing writes are refused; 0: never */
    uint64_t reserve_bytes;  /* of disk space held ahead of the store's writer; 0: none */
};

/* On failure ret_error (256 bytes) says what and what to do. */
int node_new(const struct node_options *options, const struct replica_env_ops *ops, void *env,
             struct disk *disk, struct node **ret_node, char ret_error[256]) WARN_UNUSED;
/* Stops taking requests, hands leadership over when it leads, then calls done once. */
void node_stop(struct node *n, void (*done)(void *ctx), void *ctx);
/* Closes log and store cleanly. No disk job or background job may be under way (node_idle()). */
int node_free(struct node *n) WARN_UNUSED;
/* As a process crash: frees memory, syncs nothing. The disk has forgotten its jobs. */
void node_abandon(struct node *n);
bool node_idle(const struct node *n);

uint64_t node_deadline_ms(const struct node *n);
void node_tick(struct node *n);
void node_turn_end(struct node *n);

/* A whole frame from another node (type and payload of wire.h, without HELLO). Returns false when
 * it is malformed: the connection is to be closed. */
bool node_on_peer_frame(struct node *n, uint64_t from_id, const char *from_address, uint8_t type,
                        struct slice payload) WARN_UNUSED;

/* A gateway connected (its preface was read). handle is the environment's. NULL: there are too
 * many. */
struct node_link *node_link_open(struct node *n, void *handle);
/* Whole or partial frames. Returns false when the gateway broke the protocol: the link is gone then
 * and the environment closes the connection. */
bool node_link_bytes(struct node_link *l, struct slice bytes) WARN_UNUSED;
void node_link_closed(struct node_link *l);
/* Whether the gateway has said who it is. */
bool node_link_greeted(const struct node_link *l);

/* Begins to hand leadership over: to the voter `id`, or to the best one (0). Whether it comes to
 * that shows later: node_is_leader() turns false, or after two election timeouts
 * node_handing_over() does and we go on leading. Meanwhile writes are refused with NOT_LEADER. */
enum node_transfer {
    NODE_TRANSFER_BEGUN,
    NODE_TRANSFER_NOT_LEADER,
    NODE_TRANSFER_BUSY,      /* another hand-over, a change of members or a catch-up is under way */
    NODE_TRANSFER_NO_TARGET, /* ourselves, no voter, or one that is silent */
    NODE_TRANSFER_BEHIND,    /* the target lacks more than what may be on its way to it */
};
enum node_transfer node_transfer(struct node *n, uint64_t id);
bool node_handing_over(const struct node *n);

/* Since the process began. */
struct node_counters {
    uint64_t snapshots_taken, snapshots_installed;
    uint64_t installs_resumed;        /* went on with what had been fetched before */
    uint64_t install_sources_changed; /* went on with another node */
    uint64_t pieces_asked_again;
    uint64_t digest_checks, digest_differences; /* in the log; anywhere */
    uint64_t scrubs, scrub_bytes;               /* that went through */
    uint64_t repairs;
};
const struct node_counters *node_counters(const struct node *n);

/* For tests, the simulator and status. */
uint64_t node_id(const struct node *n);
uint64_t node_term(const struct node *n);
uint64_t node_leader_id(const struct node *n);
bool node_is_leader(const struct node *n);
int node_health(const struct node *n); /* enum node_health, wire.h */
uint64_t node_applied_index(const struct node *n);
struct store;
struct store *node_store(struct node *n);
const struct memlog *node_memlog(const struct node *n);
uint64_t node_commit_index(const struct node *n);
void node_membership(const struct node *n, struct membership *ret);
/* Index of the last membership entry applied here; 0 while a later one is under way. */
uint64_t node_membership_index(const struct node *n);
/* Whether our disk holds this entry, flushed: for the simulator, which knows better than
 * acknowledgements. */
bool node_has_durable(const struct node *n, uint64_t index, uint64_t term);
