/* The consensus core: Raft (Ongaro, dissertation, 2014) without I/O. An event goes in, an update
 * comes out.
 *
 * Inside is libraft 0.22.1, driven through raft_step(); raft.h is included in core.c only. Around
 * it stand the guards that the library needs to keep its promises (G1 ... and M1 ...,
 * docs/replication.md): those that concern one event are in here, those that need the disk, the log
 * or time are in the node_*.c files, each with a comment that names it.
 *
 * The owner of a core keeps the entries (replica/memlog.h); the core knows only their terms. It
 * carries out each update in this order: (1) term and vote, made durable before anything else; (2)
 * entries: cut the in-memory log at their index, append, queue the write; (3) the snapshot to
 * install; (4) messages, which may leave while our own write is under way; (5) the commit index.
 *
 * Return codes: 0; CORE_NOT_LEADER and CORE_BUSY for events that a leader takes; < 0 -EPROTO: the
 * library said something that it must not: fatal for the process.
 */
#pragma once
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/buf.h"

enum member_role {
    MEMBER_LEARNER = 0, /* replicates, does not count */
    MEMBER_VOTER = 1,
    MEMBER_JOINING = 2, /* known, receives nothing yet */
};
enum { MEMBERS_MAX = 32, MEMBER_ADDRESS_BYTES_MAX = 262 };

struct member {
    uint64_t id;
    enum member_role role;
    char address[MEMBER_ADDRESS_BYTES_MAX]; /* of the peer port, "host:port" */
};
struct membership {
    uint32_t count;
    struct member members[MEMBERS_MAX];
};
const struct member *membership_find(const struct membership *m, uint64_t id);
uint32_t membership_voters(const struct membership *m);
bool membership_is_voter(const struct membership *m, uint64_t id);
/* The encoding that stands in membership entries of the log (the library's own). What decodes has
 * 1 to MEMBERS_MAX members, each with an id, an address and a role, no id or address twice. */
void membership_encode(const struct membership *m, struct buf *out);
bool membership_decode(struct slice in, struct membership *ret);

enum core_entry_type { CORE_COMMAND = 1, CORE_BARRIER = 2, CORE_MEMBERSHIP = 3 };

/* Bytes of entries, shared between the log in memory, writes under way and messages. */
struct chunk {
    uint32_t refs; /* replica thread only */
    uint32_t pad;
    uint8_t data[];
};
struct chunk *chunk_new(size_t bytes);
struct chunk *chunk_ref(struct chunk *c);
void chunk_unref(struct chunk *c);

struct core_entry {
    uint64_t term;
    enum core_entry_type type;
    struct slice body;   /* inside chunk */
    struct chunk *chunk; /* NULL for an empty body */
};

/* What stands for everything up to an index. */
struct core_snapshot {
    uint64_t index;
    uint64_t term;
    uint64_t membership_index;
    struct membership membership;
};

enum core_message_type {
    CORE_MSG_APPEND = 1,
    CORE_MSG_APPEND_RESULT,
    CORE_MSG_VOTE,
    CORE_MSG_VOTE_RESULT,
    CORE_MSG_INSTALL,
    CORE_MSG_TIMEOUT_NOW,
};
struct core_message {
    enum core_message_type type;
    uint64_t peer_id; /* the sender or the receiver */
    uint64_t term;
    union {
        struct {
            uint64_t prev_index, prev_term, commit;
            uint32_t count;             /* outgoing: the owner fills the entries from its log */
            struct core_entry *entries; /* incoming; each holds a reference that the core takes */
        } append;
        struct {
            uint64_t rejected, last_index;
        } append_result;
        struct {
            uint64_t candidate_id, last_index, last_term;
            bool disrupt_leader, pre_vote;
        } vote;
        struct {
            bool granted, pre_vote;
        } vote_result;
        struct {
            struct slice descriptor; /* incoming: opaque bytes, copied */
            struct core_snapshot
                snapshot; /* outgoing: index and term only, the owner fills the rest */
        } install;
        struct {
            uint64_t last_index, last_term;
        } timeout_now;
    };
};

/* A membership has room for many members; messages and updates, of which there are several for
 * every write, are cleared up to those. */
enum { CORE_MESSAGE_CLEARED = offsetof(struct core_message, install.snapshot.membership.members) };
static_assert(offsetof(struct core_message, append.entries) + sizeof(void *) <=
                      CORE_MESSAGE_CLEARED &&
                  offsetof(struct core_message, vote.pre_vote) + sizeof(bool) <=
                      CORE_MESSAGE_CLEARED,
              "what other messages have is in front of an installation's members");
static inline void core_message_clear(struct core_message *m) {
    memset(m, 0, CORE_MESSAGE_CLEARED);
}

enum core_role { CORE_FOLLOWER, CORE_CANDIDATE, CORE_LEADER };

enum { CORE_NOT_LEADER = 1, CORE_BUSY = 2 };

struct core_options {
    uint64_t id;
    const char *address; /* copied */
    uint32_t election_timeout_ms;
    uint32_t heartbeat_ms;
    uint32_t install_timeout_ms;
    uint32_t entries_inflight_max; /* per follower */
    uint32_t seed;
};

struct core_start {
    uint64_t term, voted_for;
    const struct core_snapshot *snapshot; /* NULL: none, then entry 1 is a membership */
    uint64_t first_index;
    uint64_t count;
    /* Entries in order, borrowed for the call. */
    const struct core_entry *(*entry)(void *ctx, uint64_t index);
    void *ctx;
};

/* Valid until the next call on the core; the owner takes over the references of `entries`. */
struct core_update {
    bool vote_changed; /* term, voted_for below must become durable */
    uint64_t term, voted_for;
    uint64_t entries_index; /* 0: none */
    uint32_t entries_count;
    struct core_entry *entries;
    uint32_t message_count;
    const struct core_message *messages;
    bool install; /* a snapshot is to be fetched and installed */
    struct slice descriptor;
    struct core_snapshot snapshot; /* last: only an installation writes it */
};

struct core;

struct core *core_new(const struct core_options *options);
void core_free(struct core *c);

/* Each steps the core once. */
int core_start(struct core *c, uint64_t now_ms, const struct core_start *start,
               struct core_update *ret) WARN_UNUSED;
int core_timeout(struct core *c, uint64_t now_ms, struct core_update *ret) WARN_UNUSED;
/* peer_address: the sender's. Takes the references of incoming entries. */
int core_receive(struct core *c, uint64_t now_ms, struct core_message *m, const char *peer_address,
                 struct core_update *ret) WARN_UNUSED;
int core_submit(struct core *c, uint64_t now_ms, struct core_entry *entry,
                struct core_update *ret) WARN_UNUSED;
int core_persisted(struct core *c, uint64_t now_ms, uint64_t index,
                   struct core_update *ret) WARN_UNUSED;
int core_snapshot_taken(struct core *c, uint64_t now_ms, const struct core_snapshot *s,
                        uint32_t trailing, struct core_update *ret) WARN_UNUSED;
int core_snapshot_installed(struct core *c, uint64_t now_ms, const struct core_snapshot *s,
                            struct core_update *ret) WARN_UNUSED;
int core_membership_applied(struct core *c, uint64_t now_ms, uint64_t index,
                            const struct membership *m, struct core_update *ret) WARN_UNUSED;
int core_catch_up(struct core *c, uint64_t now_ms, uint64_t id,
                  struct core_update *ret) WARN_UNUSED;
int core_transfer(struct core *c, uint64_t now_ms, uint64_t id,
                  struct core_update *ret) WARN_UNUSED;

uint64_t core_deadline_ms(const struct core *c);
enum core_role core_role(const struct core *c);
uint64_t core_term(const struct core *c);
uint64_t core_voted_for(const struct core *c);
uint64_t core_last_index(const struct core *c);
uint64_t
core_commit_index(const struct core *c);       /* may go back in the library: G3 is the owner's */
uint64_t core_leader_id(const struct core *c); /* 0: unknown */
bool core_transferring(const struct core *c);
bool core_installing(const struct core *c);
/* Leader only: 0 when the id is unknown. */
uint64_t core_match_index(const struct core *c, uint64_t id);
enum core_catch_up_state {
    CORE_CATCH_UP_NONE,
    CORE_CATCH_UP_RUNNING,
    CORE_CATCH_UP_FINISHED,
    CORE_CATCH_UP_ABORTED
};
enum core_catch_up_state core_catch_up_state(const struct core *c, uint64_t id);
bool core_catch_up_running(const struct core *c);
/* The latest membership, committed or not; and whether it is not yet committed (its index, else 0).
 */
void core_membership(const struct core *c, struct membership *ret);
uint64_t core_membership_uncommitted_index(const struct core *c);
uint32_t core_voters(const struct core *c, bool committed_only);
bool core_is_voter(const struct core *c, uint64_t id);
