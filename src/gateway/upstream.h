/* The gateway's side of the links: what a gateway thread's clients ask for goes out in batches on
 * one link to each database node, and is asked again until it is answered.
 *
 * The retry logic that keeps promise 3 (a request is executed once, a leader's death is a pause)
 * lives here, sans-I/O: clock, randomness and connections are reached through struct upstream_env
 * only, so that the simulator runs this code as it is.
 *
 * Writes carry (client session, sequence) and go to the leader. When its link breaks, or it answers
 * NOT_LEADER, they are sent again, in order of their sequences, to the next leader, which
 * recognises what was applied before (Raft dissertation section 6.3). Reads go to the local node,
 * else to any node whose link is up. A request that is not answered within its time limit is given
 * up: the outcome is UNKNOWN for a write that was sent, unless every attempt was refused for
 * certain, else NOT_APPLIED. A write that was given up in doubt keeps its place in the session, and
 * is sent again like the others, until the answer comes: its sequence is never reused.
 *
 * One connection carries the writes of a session in ascending order and never two copies of one: a
 * link that owes answers is connected anew before they are asked for elsewhere or again. What was
 * on its way there is discarded with it, so it cannot come late.
 *
 * Direct reads: with a gate to the store of the node in this process, reads are executed here, on a
 * view of that store. Linearizable ones first ask the node, over the link, for a read index: one
 * question for all that were gathered. Stale ones ask nobody, unless they want a state that is not
 * there yet. When the gate is closed, or the node has no read index to give, they go to another
 * node over its link, as in a process without a node.
 *
 * How old: a stale read is answered with an age. Whatever anybody had been told was written that
 * long before the answer was made is in it.
 *
 * A node that owes answers and sends nothing is asked whether it is there (PING); one that does not
 * answer that either is taken for frozen, and what it owes is asked for elsewhere.
 *
 * Linearizable reads stay on one node while any is under way, so that what a client pipelines is
 * answered from states that do not go back.
 *
 * Single thread. Callbacks come from upstream_tick(), upstream_on_bytes(), upstream_on_closed() and
 * upstream_free() only, never from inside upstream_submit(), upstream_forget() or upstream_flush();
 * they may submit and forget. (What cannot be taken is answered by the next tick, for which the
 * deadline is then due.)
 */
#pragma once
#include "base/buf.h"
#include "base/list.h"
#include "proto/link.h"

struct upstream;
struct store_gate;
struct upstream_link; /* one connection to one node; `handle` below is the environment's */

/* None of these calls back into the upstream before it returns. */
struct upstream_env_ops {
    uint64_t (*now_ms)(void *env); /* monotonic */
    void (*random)(void *env, void *out, size_t size);
    /* Begins to connect; returns a handle, or NULL when it cannot even begin. Then comes exactly
     * one of upstream_on_connected() / upstream_on_closed(). address is "host:port", or "local" for
     * the node in this process. The environment sends the preface. */
    void *(*connect)(void *env, const char *address, struct upstream_link *link);
    /* Sends; the bytes are copied or written before it returns. Errors come as
     * upstream_on_closed(). */
    void (*send)(void *env, void *handle, struct slice bytes);
    /* Closes; no upstream_on_*() call for it comes afterwards. */
    void (*close)(void *env, void *handle);
    /* Needed with a gate: the clocks of the node in this process, monotonic and Unix time. */
    void (*node_clocks)(void *env, uint64_t *ret_now_ms, uint64_t *ret_wall_ms);
};

enum upstream_outcome {
    UPSTREAM_DONE,        /* `reply` is the answer (perhaps an error reply) */
    UPSTREAM_NOT_APPLIED, /* given up; certainly not applied */
    UPSTREAM_UNKNOWN,     /* given up; may have been applied or may yet be */
};
enum upstream_kind { UPSTREAM_WRITE, UPSTREAM_READ, UPSTREAM_READ_STALE, UPSTREAM_ADMIN };

struct upstream_request;
/* `reply` is borrowed until return (for a given-up request: an error reply that says why). `index`:
 * see link.h. */
typedef void (*upstream_done_fn)(struct upstream_request *req, enum upstream_outcome outcome,
                                 uint64_t index, struct slice reply);

/* Embedded in the caller's own request; must stay in place until `done` was called. The caller
 * zeroes it and fills the first part. */
struct upstream_request {
    /* filled by the caller */
    enum upstream_kind kind; /* ADMIN goes to the local node, or any; to the leader when that one
                                says so; and never twice, unless it may be repeated: when its link
                                breaks it is UNKNOWN */
    bool poll;               /* a read that waits for a state to come, for long perhaps: others need
                                not go where it went */
    bool repeat;             /* ADMIN: to be asked again changes nothing */
    uint16_t db;
    uint64_t min_index;     /* reads: answer from a state at least this new; 0: any */
    uint64_t node_id;       /* ADMIN: only this node can answer; 0: any */
    uint32_t timeout_ms;    /* 0: the upstream's default */
    bool late;              /* its time was over before it came here: NOT_APPLIED, and not sent */
    struct buf packed_argv; /* taken; freed when done, unless: */
    bool packed_kept;       /* of a read: the caller keeps its bytes in place, and frees them */
    upstream_done_fn done;
    /* set before `done` */
    uint32_t age_ms; /* of a stale read that is DONE; LINK_AGE_UNKNOWN: the node has not heard from
                        a leader since it started */
    bool timed_out;  /* the time limit has ended it */
    /* the upstream's own */
    struct list node;
    uint64_t id; /* sequence of a write, id of a read */
    uint64_t deadline_ms;
    struct upstream_link *link; /* where it was sent last; NULL: waits */
    bool ever_sent;
    bool orphan;  /* its client went away (upstream_forget) or was told: nobody to call */
    bool doubt;   /* an earlier attempt may have been applied */
    bool failed;  /* given up, `done` is about to be called */
    bool counted; /* in pending_requests and pending_bytes */
    uint8_t queue;
    enum upstream_outcome outcome;
    const char *why;
    struct upstream *up;
    struct list time_node;
    uint64_t read_index; /* a direct read: execute it on a state at least this new, */
    uint64_t read_ms;    /* as of this time */
    size_t reply_at, reply_bytes;
};

/* Frees packed_argv, unless the caller keeps it. */
static inline void upstream_request_drop_argv(struct upstream_request *req) {
    if (!req->packed_kept)
        buf_fini(&req->packed_argv);
    req->packed_argv = (struct buf){0};
}

struct upstream_options {
    const char *const *seeds; /* "host:port" of database nodes, or "local"; copied */
    size_t seed_count;
    uint32_t timeout_ms;           /* default time limit of a request; 0: 10,000 */
    uint32_t pending_requests_max; /* over all links; more is answered NOT_APPLIED with a BUSY
                                      error; 0: 65,536 */
    uint64_t pending_bytes_max;    /* likewise; 0: 256 MiB */
    struct store_gate *gate;       /* to the store of the node "local"; NULL: none. Outlives the
                                      upstream */
};

struct upstream *upstream_new(const struct upstream_options *options,
                              const struct upstream_env_ops *ops, void *env);
/* Closes all links; requests not yet answered get UNKNOWN or NOT_APPLIED. */
void upstream_free(struct upstream *up);

void upstream_submit(struct upstream *up, struct upstream_request *req);
/* The client is gone: `done` will not be called and the caller's memory may go. A write already
 * sent is kept (in memory of the upstream's own) until it is answered. */
void upstream_forget(struct upstream *up, struct upstream_request *req);
/* At the end of each loop turn, and after upstream_tick(): writes what was gathered, one send a
 * link. */
void upstream_flush(struct upstream *up);
/* Reconnects, time limits. Call when upstream_deadline_ms() has come (it is right after a flush).
 */
void upstream_tick(struct upstream *up);
uint64_t upstream_deadline_ms(const struct upstream *up);

/* From the environment. */
void upstream_on_connected(struct upstream_link *link);
/* Whole or partial frames, in order. */
void upstream_on_bytes(struct upstream_link *link, struct slice bytes);
void upstream_on_closed(struct upstream_link *link);

/* What is known of the cluster. */
struct upstream_status {
    bool ready; /* a leader is known and its link is up */
    uint64_t term;
    uint64_t leader_id;
    uint32_t links_up;
    uint64_t pending_requests;
    uint64_t retried_total; /* requests sent more than once */
    uint64_t direct_total;  /* reads executed here */
    uint64_t protocol_errors_total;
    bool has_copy;        /* there is a node in this process */
    uint32_t copy_age_ms; /* the age that a stale read of now would get */
};
void upstream_get_status(const struct upstream *up, struct upstream_status *ret);
/* The newest revision of sites that a node has told, 0: none. A read with min_index = revision >>
 * 20 sees it. */
uint64_t upstream_sites_revision(const struct upstream *up);
/* The id of the cluster, as nodes told it; false: none has. */
bool upstream_cluster_id(const struct upstream *up, uint8_t ret_id[16]);
/* The members as last heard, for the environment's and the dashboard's use; borrowed until the next
 * event. */
const struct link_member *upstream_members(const struct upstream *up, size_t *ret_count);
