/* Nodes on disks in memory, with time, disks and network in the hands of the test.
 *
 * A server 1 .. RIG_SERVERS is a real node when it was started, else a puppet: what is sent to a
 * puppet lies in its inbox, and the test speaks in its name. Addresses are "s1:1" and so on; the
 * server's number is also its node id, unless a join gave it another.
 *
 * Nothing happens by itself: rig_turn() lets everything happen that needs no time, rig_run() lets
 * time pass as well. Both leave alone what is held.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem_disk.h"
#include "proto/link.h"
#include "replica/node_internal.h"

enum { RIG_SERVERS = 4 };

struct rig_server {
    struct rig *rig;
    uint64_t id;
    char address[16], dir[160], boot_id[32];
    unsigned boots;
    struct node_options options; /* set what the test needs before rig_start() */
    struct disk *disk;
    struct node *node; /* NULL: down, or a puppet */
    char failed[512];  /* the reason given to fatal() */
    bool hold_disk, hold_jobs;
    struct list jobs;
    struct list inbox; /* struct packet: of a puppet */
    /* What a puppet does by itself: gives its vote, acknowledges entries, confirms reads, hands
     * out the pieces of this snapshot file. */
    bool votes, acks, confirms;
    char serves[192];
    uint64_t acks_to; /* no entry behind this is acknowledged; 0: all are */
};

struct packet {
    struct list node;
    uint64_t from, to; /* ids */
    uint8_t type;
    size_t size; /* of the payload */
    uint8_t payload[];
};

struct rig {
    uint64_t now_ms, wall_ms;
    char dir[96];
    struct rig_server servers[RIG_SERVERS + 1];
    struct list packets; /* under way, in order */
    struct list links;   /* struct rig_link */
    bool cut[RIG_SERVERS + 1][RIG_SERVERS + 1];
    bool hold_network;
    struct rand rand;
};

struct rig *rig_new(void);
void rig_free(struct rig *r);

struct node *rig_start(struct rig *r, unsigned i);
/* As the first node of a cluster, until it leads. */
struct node *rig_bootstrap(struct rig *r, unsigned i);
void rig_kill(struct rig *r, unsigned i, enum mem_disk_crash how); /* a power cut changes boot_id */
void rig_stop(struct rig *r, unsigned i);                          /* cleanly */
/* Starts server i as a node that the leader `leader` lets join. */
struct node *rig_join(struct rig *r, unsigned leader, unsigned i);
/* Three voters 1, 2, 3 that are all real; server 1 leads. */
void rig_grow_to_three(struct rig *r);

void rig_turn(struct rig *r);
void rig_run(struct rig *r, uint64_t ms);
/* Until the condition holds, at most that long; fails the test otherwise. */
#define RIG_UNTIL(r, condition, ms)                                                                \
    do {                                                                                           \
        uint64_t rig_end = (r)->now_ms + (ms);                                                     \
        while (rig_turn(r), !(condition)) {                                                        \
            if ((r)->now_ms >= rig_end)                                                            \
                fail_msg("not within %d ms: %s", (int)(ms), #condition);                           \
            rig_run(r, 1);                                                                         \
        }                                                                                          \
    } while (0)
unsigned rig_leader(struct rig *r); /* 0: none */

/* ---- puppets ---- */

/* "vvl": server 1 and 2 voters, 3 learner; "j" joining, "-" no member. */
struct membership rig_members(const char *roles);
struct puppet_entry {
    uint64_t term;
    enum core_entry_type type;
    const char *roles; /* of a membership; commands set key k to "v" */
};
void rig_deliver(struct rig *r, unsigned to, unsigned from, struct slice frame);
void puppet_append(struct rig *r, unsigned to, unsigned from, uint64_t term, uint64_t prev_index,
                   uint64_t prev_term, uint64_t commit, const struct puppet_entry *entries,
                   uint32_t count);
void puppet_say(struct rig *r, unsigned to, unsigned from, const struct core_message *m);
void puppet_vote(struct rig *r, unsigned to, unsigned from, uint64_t term, uint64_t last_index,
                 uint64_t last_term, bool pre_vote);
/* The last message of this type that the puppet got, decoded; its entries are counted only.
 * False: none. */
bool puppet_got(struct rig *r, unsigned i, enum core_message_type type, struct core_message *ret);
/* The same of any frame; the payload is borrowed until the inbox is emptied. */
bool puppet_got_frame(struct rig *r, unsigned i, uint8_t type, struct slice *ret_payload);
void puppet_forget(struct rig *r, unsigned i);
/* A snapshot file of `index` entries of `term`, the first of them the membership, others setting
 * keys key1 ... to the values value1 ...; then puppet 2 can offer it. */
void puppet_snapshot(struct rig *r, unsigned i, uint64_t index, uint64_t term, const char *roles,
                     struct store_snapshot *ret_info);
void puppet_install(struct rig *r, unsigned to, unsigned from, uint64_t term, const char *roles,
                    const struct store_snapshot *info);
/* Server 1 as a follower of puppet 2 in term 2, in a cluster of these roles: entry 1 the
 * membership, entry 2 a barrier, both durable and committed. */
struct node *rig_follower(struct rig *r, const char *roles);
/* Then elected by the puppets 2 and 3, which go on voting; they do not acknowledge anything yet.
 * Its barrier is entry 3. */
struct node *rig_elected(struct rig *r, const char *roles);

/* ---- links ---- */

struct rig_reply {
    struct list node;
    uint64_t id, index;
    uint8_t kind, status; /* LINK_KIND_READ also for stale ones */
    uint32_t age_ms;      /* of those */
    size_t size;
    char text[];
};
struct rig_link {
    struct list node;
    struct rig *rig;
    struct rig_server *server;
    struct node_link *link; /* NULL: gone */
    uint8_t session[16];
    struct buf in;
    struct list replies;
    uint64_t leader_id; /* of the last topology */
    unsigned hellos, topologies;
    struct link_read_indexed indexed; /* the last one */
    unsigned indexed_count;
    uint64_t pong;  /* id of the last one */
    size_t untaken; /* what the gateway is said not to have taken yet */
};
/* Connects and greets. */
struct rig_link *rig_link(struct rig *r, unsigned i, uint8_t session);
/* The same, and opens the session; the next sequence is 2. */
struct rig_link *rig_session(struct rig *r, unsigned i, uint8_t session);
/* Without the greeting. */
struct rig_link *rig_link_raw(struct rig *r, unsigned i);
bool rig_link_bytes(struct rig_link *l, struct slice bytes); /* node_link_bytes(), then a turn */
void rig_link_close(struct rig_link *l);
void rig_write(struct rig_link *l, uint64_t sequence, const char *first, ...)
    __attribute__((sentinel));
void rig_read(struct rig_link *l, uint64_t id, uint8_t flags, const char *first, ...)
    __attribute__((sentinel));
void rig_read_index(struct rig_link *l, uint64_t id, uint8_t flags, uint64_t min_index);
void rig_admin(struct rig_link *l, uint64_t id, const char *first, ...) __attribute__((sentinel));
/* NULL: none yet. */
const struct rig_reply *rig_reply(const struct rig_link *l, enum link_reply_kind kind, uint64_t id);
/* A write or read whose reply is awaited; fails the test when it is not LINK_OK. */
const struct rig_reply *rig_set(struct rig_link *l, uint64_t sequence, const char *key,
                                const char *value);
const struct rig_reply *rig_get(struct rig_link *l, uint64_t id, const char *key);
