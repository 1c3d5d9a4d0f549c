/* Private to the upstream: its parts are upstream.c (requests, time limits), upstream_links.c
 * (connections, handshake, topology), upstream_writes.c (the client session), upstream_reads.c
 * and upstream_direct.c (reads that are executed here).
 */
#pragma once
#include "base/rand.h"
#include "gateway/upstream.h"
#include "store/gate.h"

enum {
    UPSTREAM_TIMEOUT_MS = 10000,
    UPSTREAM_REQUESTS_MAX = 65536,
    UPSTREAM_LINKS_MAX = 64,
    UPSTREAM_BATCH_BYTES = 1024 * 1024, /* a frame is closed when it has grown to this */
    /* A frame must hold one request with its headers. */
    UPSTREAM_ARGV_BYTES_MAX = LINK_FRAME_BYTES_MAX - 1024,
    UPSTREAM_GREETING_MS = 3000, /* for connecting and the answer to our HELLO */
    UPSTREAM_BACKOFF_MIN_MS = 20,
    UPSTREAM_BACKOFF_MAX_MS = 1000,
    UPSTREAM_HOLD_MIN_MS = 10, /* before a node that said no is asked again */
    UPSTREAM_HOLD_MAX_MS = 160,
    UPSTREAM_SETTLED_MS = 1000,  /* a link that stood this long reconnects at once */
    UPSTREAM_GRACE_MS = 100,     /* for answers owed by a leader that stays the leader */
    UPSTREAM_SPAN_MAX = 1 << 20, /* sequences from the lowest unanswered to the highest */
    UPSTREAM_WHEEL_SLOTS = 256,
    UPSTREAM_WHEEL_STEP_MS = 64,
    UPSTREAM_ASKS_MAX = 16, /* questions for a read index under way; what comes meanwhile gathers */
    /* A turn of direct reads, during which the store can neither be swapped nor its pages be used
     * again. A command that has begun is finished. */
    UPSTREAM_TURN_READS = 1024,
    UPSTREAM_TURN_BYTES = 1024 * 1024,
    UPSTREAM_PING_AFTER_MS = 400, /* a link that owes answers was silent for so long */
    UPSTREAM_PING_LIMIT_MS = 800, /* for any sign of life after a PING */
};
#define UPSTREAM_BYTES_MAX ((uint64_t)256 << 20)
/* The database drops sessions that were silent for an hour, so ours is not used any more well
 * before that: a write in a dropped session would have an unknown outcome. */
#define UPSTREAM_SESSION_IDLE_MS ((uint64_t)30 * 60 * 1000)

/*            tick                  upstream_on_connected      NODE_HELLO
 *   DOWN ------------> CONNECTING ------------------> GREETING ----------> READY
 *    ^                     |                             |                   |
 *    +---------------------+-----------------------------+-------------------+
 *                      closed, too slow, or it broke the protocol
 * PARKED (from READY or DOWN): another link to the same node is READY; DOWN when that one ends. */
enum link_phase { PHASE_DOWN, PHASE_CONNECTING, PHASE_GREETING, PHASE_READY, PHASE_PARKED };

/* Requests and bytes that a link owes answers for. */
struct usage {
    uint32_t requests;
    uint64_t bytes;
};

/* What a node that answers UNAVAILABLE is spared for a while, separately for linearizable reads and
 * for what needs no leader (stale reads, administration). */
struct hold {
    uint64_t until_ms;
    uint32_t last_ms; /* how long the last one was; 0 after a success */
};

struct upstream_link {
    struct upstream *up;
    struct list node; /* in upstream.links */
    char *address;
    void *handle; /* the environment's; set in CONNECTING, GREETING, READY */
    uint8_t phase;
    bool seed;          /* from the options: kept for ever */
    bool local;         /* the node of this process: preferred for reads */
    bool doomed;        /* to be freed by the next flush */
    bool topology_seen; /* since it connected */
    bool knows_leader;  /* as of the last topology */
    uint64_t node_id;   /* from its HELLO; 0: not known */
    uint64_t until_ms;  /* DOWN: connect then; CONNECTING, GREETING: too slow then */
    uint64_t ready_since_ms;
    uint64_t grace_until_ms; /* see writes_choose_link(); 0: not set */
    uint32_t backoff_ms;
    uint32_t window_requests;
    uint32_t window_bytes;
    struct usage reads;
    struct usage writes;
    uint32_t polls;       /* of the reads */
    struct hold holds[2]; /* by enum hold_kind */
    uint64_t heard_ms;    /* when it last said something, or began to owe answers */
    uint64_t pinged_ms;   /* a PING has been under way since then; 0: none is */
    bool ping_extended;   /* it got more time, since we had been away ourselves */
    struct buf in;        /* an incomplete frame */
};

enum hold_kind { HOLD_LINEARIZABLE, HOLD_ANY };
/* What waits to be sent as a read, by where it may go. */
enum read_queue {
    QUEUE_READ,
    QUEUE_STALE,
    QUEUE_ADMIN,
    QUEUE_ADMIN_LEADER,
    QUEUE_ADMIN_NODE,
    QUEUE_COUNT
};

/* A question for a read index, and the reads that wait for the answer. They have no slots, and go
 * off the list when they are given up. */
struct direct_ask {
    struct list requests;
    bool confirmed; /* asked only for a min_index to be applied; not one of UPSTREAM_ASKS_MAX */
};

/* Reads that are executed here, on the store of the node in this process. */
struct direct {
    struct store_gate *gate;     /* NULL: there are none */
    struct store_reader *reader; /* likewise */
    uint32_t asks;               /* those that are not `confirmed` */
    struct list ready;           /* may be executed when read_index is applied */
    struct list late;            /* read_index is not applied here yet: the node is to be asked */
    struct list executed;        /* the answer is in `reply` */
    struct argv argv;
    struct buf reply; /* of a turn */
    uint64_t total;
};

/* A read under way. The id on the wire is generation << 32 | position in the table. It stays
 * occupied until the answer comes, though the request may have been given up before. */
struct read_slot {
    struct upstream_request *req; /* NULL: given up, an ask, or the slot is free */
    struct direct_ask *ask;       /* NULL: a read that the node executes */
    struct upstream_link *link;   /* NULL: free */
    uint64_t bytes;
    bool poll;
    uint32_t generation;
    uint32_t next_free;
};

enum session_state { SESSION_NEW, SESSION_OPENING, SESSION_OPEN };

/* The client session. Sequences [base, next) are in the ring; answered ones are NULL there. Those
 * below `cursor` were sent on write_link (when there is one) in ascending order; the others were
 * sent on links that are no more, or refused, and wait to be sent again. */
struct session {
    uint8_t id[16];
    uint8_t state;
    uint64_t base;
    uint64_t next;
    uint64_t cursor;
    struct upstream_request **ring;
    uint64_t ring_size; /* a power of two, or 0 */
    uint64_t last_use_ms;
    struct upstream_request open; /* SESSION.OPEN: sequence 1 */
};

struct upstream {
    const struct upstream_env_ops *ops;
    void *env;
    struct rand rand;
    uint32_t timeout_ms;
    uint32_t requests_max;
    uint64_t bytes_max;
    bool freeing;

    struct list links;
    uint32_t link_count;
    struct list *round_robin;         /* the link that took reads last, or the list's head */
    struct upstream_link *write_link; /* writes go there; NULL: no leader is usable */
    struct upstream_link *refuser;    /* said NOT_LEADER although it is thought to lead */
    struct hold leader_hold;          /* not to ask the refuser again before */
    uint64_t leader_term;
    uint64_t leader_id; /* 0: not known */
    uint8_t cluster_id[16];
    bool cluster_known;
    uint64_t members_term;
    uint64_t members_from; /* the leader, when it told them itself and its link stands; or 0 */
    struct link_member *members; /* slices into members_bytes */
    size_t member_count;
    struct buf members_bytes;

    uint64_t sites_revision; /* the newest that a node has told */

    struct session session;
    struct list writes_new; /* never sent: no sequence yet */

    struct list reads[QUEUE_COUNT];
    struct read_slot *slots;
    uint32_t slot_count;
    uint32_t slot_free; /* UINT32_MAX: none */
    struct direct direct;
    bool reads_first; /* writes and reads take turns in being first to a window */

    struct list failed; /* given up; `done` is called by upstream_deliver() */

    /* Time limits: slot (deadline / step) % slots. */
    struct list wheel[UPSTREAM_WHEEL_SLOTS];
    uint64_t wheel_at; /* the step up to which limits were enforced */
    uint64_t timed_count;

    uint64_t wake_ms; /* when the last flush wants the next one */
    struct buf out;   /* frames of one link in a flush */
    uint64_t pending_requests;
    uint64_t pending_bytes;
    uint64_t retried_total;
    uint64_t protocol_errors_total;
};

static inline uint64_t upstream_now(const struct upstream *up) {
    return up->ops->now_ms(up->env);
}
static inline void upstream_wake_at(struct upstream *up, uint64_t at_ms) {
    if (at_ms < up->wake_ms)
        up->wake_ms = at_ms;
}
/* Lengthens the hold (10, 20, ... 160 ms, plus as much again at random) and starts it. */
void hold_start(struct upstream *up, struct hold *h, uint64_t now);
static inline void hold_clear(struct hold *h) {
    *h = (struct hold){0};
}

/* ---- requests (upstream.c) ---- */

/* Ends the request: off all lists, its bytes freed, `done` called unless it is an orphan. The
 * caller has taken it out of ring or slot. */
void request_finish(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply);
/* The same with an error reply of our own, and later: from upstream_deliver(). `why` is static. */
void request_fail(struct upstream_request *req, enum upstream_outcome outcome, const char *why);
void upstream_deliver(struct upstream *up);
static inline bool request_is_read(const struct upstream_request *req) {
    return req->kind != UPSTREAM_WRITE;
}
/* May it have been applied? False when it was never sent or every attempt was refused for certain.
 */
static inline bool request_in_doubt(const struct upstream_request *req) {
    return req->link != NULL || req->doubt;
}

/* ---- links (upstream_links.c) ---- */

struct upstream_link *link_new(struct upstream *up, struct slice address, bool seed);
void link_free(struct upstream_link *link);
/* Closes, if it is open; connects again at once (restart) or after a pause. What it owed waits
 * again. link_break() also counts: the node broke the protocol. */
void link_restart(struct upstream_link *link);
void link_close_pause(struct upstream_link *link);
void link_break(struct upstream_link *link, const char *why);
void links_tick(struct upstream *up, uint64_t now);
void links_sweep(struct upstream *up);
uint64_t links_deadline(const struct upstream *up);
/* The leader's link when it is ready and has not just refused; else NULL. */
struct upstream_link *links_leader(struct upstream *up, uint64_t now);
/* Room in the window for one more of this size. */
bool link_has_room(const struct upstream_link *link, uint64_t bytes);

static inline void usage_add(struct usage *u, uint64_t bytes) {
    u->requests++;
    u->bytes += bytes;
}
static inline void usage_remove(struct usage *u, uint64_t bytes) {
    CHECK(u->requests > 0);
    CHECK(u->bytes >= bytes);
    u->requests--;
    u->bytes -= bytes;
}

/* ---- writes (upstream_writes.c) ---- */

void writes_init(struct upstream *up);
void writes_fini(struct upstream *up);
void writes_submit(struct upstream *up, struct upstream_request *req);
/* Decides where writes go now; may restart links. */
void writes_choose_link(struct upstream *up, uint64_t now);
/* Size of the next write to be sent; 0: none. */
uint64_t writes_next_bytes(struct upstream *up);
void writes_fill(struct upstream *up, struct upstream_link *link);
/* False: the node broke the protocol. */
bool writes_on_reply(struct upstream_link *link, const struct link_reply *r);
void writes_link_down(struct upstream_link *link);
/* The request's caller is gone (forgotten) or was told (given up): drops the write if it was
 * certainly not applied, else puts a copy of our own in its place. Returns the latter. */
bool writes_orphan(struct upstream_request *req);
/* The node that should lead said it does not. */
void writes_refused_by(struct upstream_link *link);

/* ---- reads (upstream_reads.c) ---- */

void reads_init(struct upstream *up);
void reads_fini(struct upstream *up);
void reads_submit(struct upstream *up, struct upstream_request *req);
void reads_choose_links(struct upstream *up, uint64_t now,
                        struct upstream_link *ret_links[QUEUE_COUNT]);
/* Size of the largest obstacle: the first read that waits for this link; 0: none. */
uint64_t reads_next_bytes(struct upstream *up, const struct upstream_link *link,
                          struct upstream_link *const links[QUEUE_COUNT]);
void reads_fill(struct upstream *up, struct upstream_link *link,
                struct upstream_link *const links[QUEUE_COUNT]);
bool reads_on_reply(struct upstream_link *link, const struct link_reply *r);
void reads_link_down(struct upstream_link *link);
/* Takes the request out of its slot. */
void reads_detach(struct upstream_request *req);
/* It waits to be sent, behind the others. */
void reads_enqueue(struct upstream_request *req, enum read_queue queue);
/* The node cannot answer this now: spare it for a while and ask another. */
void reads_ask_elsewhere(struct upstream_link *link, struct upstream_request *req);
/* A slot for something that the link owes; its id. */
struct read_slot *reads_slot_take(struct upstream_link *link, uint64_t bytes, uint64_t *ret_id);
void reads_slot_release(struct upstream *up, struct read_slot *slot);
/* NULL: no such id is under way. */
struct read_slot *reads_slot_find(struct upstream *up, uint64_t id);

/* ---- reads that are executed here (upstream_direct.c) ---- */

void direct_init(struct upstream *up, struct store_gate *gate);
void direct_fini(struct upstream *up);
/* How old what is read now may be; now_ms is of the node's clock. */
uint32_t direct_age_ms(const struct store_freshness *fresh, uint64_t now_ms);
/* Whether linearizable reads that go to this link are executed here. */
static inline bool direct_link(const struct upstream_link *link) {
    return link->local && link->up->direct.reader;
}
/* Takes a stale read that can be executed at once. */
bool direct_submit(struct upstream_request *req);
/* Puts the questions into the link's frames of this flush. */
void direct_fill(struct upstream_link *link, bool reads_wanted);
/* False: the node broke the protocol. */
bool direct_on_indexed(struct upstream_link *link, struct slice payload);
/* The link is down: those who wait for this answer ask anew. Frees the ask. */
void direct_ask_lost(struct upstream *up, struct direct_ask *ask);
/* Executes what is ready, a turn of it. */
void direct_run(struct upstream *up);
