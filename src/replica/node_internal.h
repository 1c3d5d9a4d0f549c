/* What the node_*.c files share. See node.h for the picture. */
#pragma once
#include "base/gather.h"
#include "base/log.h"
#include "base/plant.h"
#include "base/rand.h"
#include "proto/link.h"
#include "replica/gauges.h"
#include "replica/log.h"
#include "replica/memlog.h"
#include "replica/node.h"
#include "replica/wire.h"
#include "store/commands.h"
#include "store/gate.h"
#include "store/store.h"

enum {
    NODE_ENTRY_BYTES =
        1024 * 1024, /* a batch is closed at this size; one larger command stands alone */
    NODE_ENTRY_COMMANDS = 16 * 1024, /* likewise */
    NODE_BATCH_BYTES = 64 << 10, /* gathered, and the entry before not committed: proposed all the
                                    same */
    NODE_BATCH_COMMANDS = 512,   /* likewise */
    NODE_WRITES_PENDING = 2,     /* own log writes under way before batches wait */
    NODE_UNCOMMITTED_BYTES = 128 << 20, /* entries ahead of the commit index before batches wait */
    NODE_APPEND_BYTES = 16 << 20,       /* entries in one message to a follower */
    NODE_ENTRIES_INFLIGHT = 64,         /* per follower */
    NODE_TRAILING_ENTRIES = NODE_ENTRIES_INFLIGHT, /* kept behind a snapshot (G3) */
    NODE_APPLY_BYTES = 4 << 20,                    /* applied in one transaction at most */
    NODE_LINK_WINDOW_REQUESTS = 65536,
    NODE_LINK_WINDOW_BYTES = 64 << 20,
    NODE_LINKS_MAX = 4096,
    NODE_SESSION_BUCKETS = 1024,    /* a power of two */
    NODE_GREETING_BYTES = 4096,     /* a gateway may send before its HELLO */
    NODE_BACKLOG_BYTES = 256 << 20, /* gathered and not yet proposed, all links */
    NODE_ANSWER_BYTES = 4 << 20,    /* of reads answered in one turn */
    NODE_LINK_OUT_BYTES = 8 << 20,  /* replies that a gateway has not taken before its reads wait */
    NODE_APPLY_ROUNDS = 8,          /* transactions applied in one turn */
    NODE_JOINS_MAX = 64,
    NODE_FETCH_QUIET_MS = 10000, /* no new snapshot while somebody fetches the old one */
    NODE_LOOK_BYTES = 1 << 20,   /* taken before the disk's room is looked at again */
    NODE_STATUS_EVERY_MS = 250,
    NODE_ALONE_MS = 30000, /* after a start, before a node that nobody speaks to says so */
    NODE_ALIVE_MS = 1500,
    NODE_MEMBERS_EVERY_MS = 50,
    NODE_SWEEP_EVERY_MS = 100,
    NODE_READ_AGAIN_MS = 10, /* before a question for a read index is asked again, of all */
    NODE_READ_TIMEOUT_MS = 3000,
    NODE_HOLD_TIMEOUT_MS = 2000,
    NODE_INSTALL_TIMEOUT_MS = 5000, /* without a piece, when nobody says that it has the file */
    NODE_INSTALL_LIMIT_MS = 60000,  /* without a piece, whatever they say */
    NODE_INSTALL_OFFER_MS = 3000,   /* a leader offers a snapshot again that was not installed */
    NODE_SOURCE_TIMEOUT_MS = 3000,  /* without a piece, before another node is asked */
    NODE_FETCH_AGAIN_MS = 500,      /* before a piece is asked for again */
    NODE_JOIN_TIMEOUT_MS = 10000,
    NODE_TRANSFER_TIMEOUT_MS = 5000,
    NODE_STOP_HANDOVER_MS = 2000, /* a leader that stops tries for so long to hand over */
    NODE_FETCHES_PENDING = 8,
    NODE_DIGESTS = 1024,       /* of the last entries applied */
    NODE_CHECK_ENTRIES = 1000, /* at most between two digests in the log, while there are writes */
    NODE_CHECK_EVERY_MS = 1000,
    NODE_SCRUB_RATE = 64 << 20, /* bytes a second */
    NODE_REPAIRS_IN_ROW = 5,    /* with less than that between them: they do not help */
    NODE_REPAIRS_APART_MS = 60000,
    NODE_LAGGARD_MS = 30000,           /* the log is kept for followers heard of within that time */
    NODE_LAGGARD_FACTOR = 16,          /* up to so many times snapshot_log_bytes */
    NODE_SNAPSHOT_RATE_MIN = 64 << 10, /* a lower limit would look like a node that is gone */
};

enum node_state {
    NODE_DRAINING, /* the core is down: waits for log writes, then STARTs (also at first) */
    NODE_RUNNING,
    NODE_STOPPING,
    NODE_FAILED,
};

/* Entries handed to the log, in order. */
struct pending_write {
    struct list node;
    struct node *owner;
    struct log_append append;
    struct core_entry *entries; /* hold the chunks */
    uint64_t index, last;
};

struct node_link {
    struct list node;
    struct node *owner;
    void *handle;
    bool greeted;
    struct session_id session;          /* no other greeted link has it */
    struct node_link *next_in_sessions; /* once greeted: in its bucket of node.sessions */
    struct buf in;                      /* a frame not yet complete */
    struct buf out;                     /* replies of this turn */
    struct link_batch replies;
    bool replies_open;
    uint64_t
        refused_from; /* the lowest write refused with NOT_LEADER and not asked again; 0: none */
    bool wrote;       /* writes were accepted since we lead */
    uint32_t writes_pending; /* against the window, as the next two */
    uint32_t reads_pending;
    uint64_t read_bytes_pending;
};

struct pending_read {
    struct list node;
    struct node_link *link; /* NULL: another node's round */
    uint64_t peer_id;       /* of that node */
    uint64_t id;            /* the gateway's, or the other node's round */
    bool stale;
    bool index_only; /* the gateway reads by itself: it wants to hear the index, once applied */
    uint16_t db;
    uint64_t index; /* once confirmed: answer when applied */
    uint64_t time_ms;
    uint64_t deadline_ms;
    size_t size;
    uint8_t packed_argv[];
};

struct peer {
    struct list node;
    uint64_t id;
    char address[MEMBER_ADDRESS_BYTES_MAX];  /* where we send to */
    char recorded[MEMBER_ADDRESS_BYTES_MAX]; /* in the last membership; "": in none yet */
    char said[MEMBER_ADDRESS_BYTES_MAX];     /* its own word since that record; "": none */
    char http[MEMBER_ADDRESS_BYTES_MAX], redis[MEMBER_ADDRESS_BYTES_MAX];
    uint64_t heard_ms; /* 0: never */
    uint64_t term, applied;
    struct hash128 digest;
    uint64_t read_asked, read_checked;      /* the last read round it was asked about, confirmed */
    uint64_t snapshot_index, snapshot_hash; /* that it says it hands out; 0: none */
    uint64_t fetch_index, fetched_ms; /* the snapshot of ours that it fetches, and when last */
    struct node_work work;
    enum node_health health;
    uint64_t compared_index; /* of the last digest of both; 0: none */
    bool differs;
};

/* A membership operation that somebody waits for. */
enum join_stage { JOIN_WAITS_ID, JOIN_WAITS_CHANGE, JOIN_REMOVAL, JOIN_TRANSFER, JOIN_PROMOTION };
struct join {
    struct list node;
    enum join_stage stage;
    struct node_link *link;
    uint64_t reply_id;
    uint64_t tag; /* sequence of the NODE.ALLOC command */
    uint64_t id;  /* of the member that joins, leaves or is to lead; 0: not known, or any */
    bool begun;   /* the hand-over, or the catch-up before a promotion, was begun */
    uint64_t deadline_ms;
    char address[MEMBER_ADDRESS_BYTES_MAX];
};

/* A snapshot file that others fetch; open, so that it outlives its name. */
struct served_file {
    uint64_t index, hash;
    int fd;         /* -1: none */
    uint32_t users; /* pieces of it that wait or are being read */
    uint64_t asked_ms;
};

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): a process has one. */
struct node {
    struct node_options o;
    char *dir, *peer_address, *http_address, *redis_address, *boot_id;
    const struct replica_env_ops *ops;
    void *env;
    struct disk *disk;
    struct rand rand;
    enum node_state state;

    /* log */
    struct replica_log *log;
    struct memlog memlog;
    struct list writes; /* struct pending_write, as handed to the log */
    uint64_t durable_index;
    struct log_vote vote; /* as durable */
    struct core *core;
    bool removed;          /* from the membership: the core is down for good */
    bool restart_wanted;   /* M8: START the core again from our log */
    uint64_t commit_index; /* G3: the highest ever reported */
    uint64_t core_applied; /* the core's view: membership entries up to here were announced to it */
    bool applying;
    bool more; /* a turn left work behind: the next one comes at once */

    /* M5: writes held while two voters come to be */
    uint64_t hold_index; /* 0: none */
    uint64_t hold_peer, hold_term, hold_deadline_ms;

    /* M5: a vote to give after the restart that makes it durable */
    bool vote_owed;
    uint64_t vote_owed_to, vote_owed_term;
    uint64_t append_heard_ms; /* when a leader last spoke to us, or we started */
    bool alone_told;

    /* leading */
    bool leading; /* as of the last step */
    uint64_t leading_term, leading_since_ms;
    uint64_t barrier_index; /* of our term; reads and changes wait for it */
    uint64_t time_stamped_ms;
    struct buf batch; /* the open entry */
    uint32_t batch_commands, batch_groups;
    struct list sealed; /* struct sealed_batch: waiting for the log */
    uint64_t sealed_bytes;
    struct gather gather; /* commands; answered when committed */
    uint64_t sweep_at_ms;
    uint64_t tag_next;

    /* topology as last told to gateways */
    uint64_t told_term, told_leader, told_version, members_version;
    uint64_t told_sites; /* likewise, the revision of the last change of sites */

    /* store */
    struct store *store;
    struct store_view *view;
    struct buf reply_scratch;
    struct argv argv;

    /* reads */
    struct list reads_waiting;  /* for the next round */
    struct list reads_round;    /* in the round under way */
    struct list reads_applying; /* confirmed, wait for their index */
    uint64_t round, round_term, round_index, round_sent_ms, round_leader, round_pause_ms;
    uint64_t round_began_ms;
    /* How new our copy is: all that anybody had been told was written at fresh_ms is applied here;
     * the same is true of fresh_next_ms once fresh_next_index is. */
    uint64_t fresh_ms, fresh_next_ms, fresh_next_index;
    bool fresh_known, fresh_next_known;
    uint64_t expire_at_ms;
    bool round_active;

    /* members */
    struct list peers; /* struct peer: everyone in the membership but us, and who spoke to us */
    uint32_t peer_count;
    uint64_t status_at_ms, members_at_ms;
    struct list joins;
    uint32_t join_count;
    uint64_t handover_to;    /* leadership is being handed to this member; 0: it is not */
    uint64_t handover_tried; /* the last one that did not take it; 0: none */
    uint64_t handover_term, handover_deadline_ms;
    bool handover_sent;    /* it was told to take over */
    uint64_t change_index; /* of the last membership entry applied */
    uint64_t pair_since_ms;

    /* snapshots */
    struct core_snapshot snapshot; /* durable; index 0: none */
    struct store_snapshot snapshot_info;
    bool snapshot_agreed; /* most of three or more voters have had its digest */
    bool taking;
    struct background_job take_job;
    char take_path[4096];
    struct store_snapshot take_info;
    bool take_done; /* written; waits until our own log is durable up to it, and until others agree
                     */
    uint64_t take_done_ms;
    bool compacting;
    uint64_t log_bytes_at_snapshot;
    struct install *install;   /* under way, NULL otherwise */
    struct install *parked;    /* given up, with what it has fetched; NULL: none */
    struct retiring *retiring; /* the store that was replaced, while it is being closed */

    /* whether the copy is right */
    enum node_health health;
    struct digest_at {
        uint64_t index;
        struct hash128 digest;
    } digests[NODE_DIGESTS]; /* of the last entries, by index */
    uint64_t unchecked;      /* entries applied since the last digest went into the log */
    uint64_t unchecked_ms;   /* when the first of them was */
    uint64_t check_index;    /* of the last digest in the log that was compared; 0: none */
    struct hash128 check_digest;
    uint64_t differs_from; /* the first index at which somebody differs; 0: nobody does */
    bool store_broken;     /* an entry could not be applied */
    struct scrub *scrub;   /* on a helper thread; NULL: none */
    uint64_t scrub_at_ms;
    struct rebuild *rebuild; /* a new store from the own snapshot; NULL: none */
    uint64_t repair_at_ms, repair_since_ms;
    uint64_t repaired_to; /* to be applied again before it counts; UINT64_MAX: not yet replaced */
    uint64_t repaired_ms; /* the last time that it was replaced; 0: never */
    uint32_t repairs_in_row; /* not far from each other */

    /* handing them out */
    struct list fetches; /* pieces that were asked for, in order */
    uint32_t fetch_count;
    struct fetch_job *fetch_job; /* being read; NULL: none */
    uint64_t fetch_free_us;      /* when the rate limit allows the next piece */
    struct served_file served[3];
    bool disk_low;           /* less than min_free_bytes are left */
    uint64_t unlooked_bytes; /* taken from gateways since that was looked at */
    struct backup *backup;   /* NULL: none */

    /* wire scratch */
    struct buf frame;
    struct core_entry *wire_entries;
    uint32_t wire_entries_capacity;

    /* stopping */
    void (*stop_done)(void *ctx);
    void *stop_ctx;
    uint64_t stop_deadline_ms;

    struct list links;
    uint32_t link_count;
    struct node_link *sessions[NODE_SESSION_BUCKETS]; /* greeted links by their session */
    uint64_t protocol_errors;
    uint64_t entries_proposed, commands_proposed;
    struct node_counters counters;
};

struct sealed_batch {
    struct list node;
    struct buf entry;
    uint32_t commands;
};

/* ---- node.c ---- */
void node_fatal(struct node *n, const char *fmt, ...) PRINTF_LIKE(2, 3);
uint64_t node_now(const struct node *n);
uint64_t node_leader_time(struct node *n);
bool node_running(const struct node *n); /* the core is up */

/* ---- node_update.c: carrying out what the core says ---- */
/* After every core call: carries the update out. rc is the core's. False when the node failed. */
bool node_carry_out(struct node *n, int rc, struct core_update *u);
/* Applies what is committed; answers what was waiting for it. */
void node_apply(struct node *n, bool all);
/* What follows from the last steps: restarts, the barrier of a new leader, holds. */
void node_settle(struct node *n);
bool node_propose(struct node *n, enum core_entry_type type, struct slice body);
void node_start_core(struct node *n);
void node_free_writes(struct node *n);
void node_write_first(struct node *n); /* the bootstrap entry */

/* ---- node_peer.c ---- */
struct peer *node_peer(struct node *n, uint64_t id);
void node_sync_peers(struct node *n); /* after a membership change */
void node_send(struct node *n, uint64_t id, struct slice frame);
void node_send_later(struct node *n, uint64_t id, struct slice frame); /* at the turn's end */
void node_send_message(struct node *n, const struct core_message *m);
void node_send_status(struct node *n);
void node_send_owed_vote(struct node *n);

/* ---- node_batch.c ---- */
/* The commands of one frame, which go on as they came: a frame's payload is a group of an entry. */
void node_batch_add(struct node *n, struct slice group, uint32_t commands);
void node_propose_batches(struct node *n);
void node_propose_own(struct node *n, uint64_t tag, struct slice packed_argv);
void node_leadership_lost(struct node *n);

/* ---- node_link.c ---- */
struct node_link *node_link_of_session(struct node *n, const struct session_id *session);
void link_refuse_commands(struct node_link *l, struct slice commands);
void link_end(struct node_link *l);
void link_reply(struct node_link *l, uint64_t id, enum link_reply_kind kind,
                enum link_status status, uint64_t index, struct slice reply);
void node_reply_session(void *ctx, const struct session_id *session, uint64_t sequence,
                        enum store_status status, struct slice reply);
void node_flush_links(struct node *n);
void node_tell_topology(struct node *n, struct node_link *only);
/* Tells all gateways when sites have changed. */
void node_tell_sites(struct node *n);

/* Closes the batch of replies that is open, so that another frame can be put behind it. */
void link_end_replies(struct node_link *l);
void link_reply_stale(struct node_link *l, uint64_t id, uint64_t index, uint32_t age_ms,
                      struct slice reply);

/* ---- node_read.c ---- */
void node_read_enqueue(struct node *n, struct node_link *l, const struct link_read *r);
void node_read_index(struct node *n, struct node_link *l, const struct link_read_index *ask);
void node_read_for_peer(struct node *n, uint64_t peer_id, const struct wire_read *ask);
void node_read_checked(struct node *n, uint64_t from, const struct wire_read *r);
void node_read_indexed(struct node *n, uint64_t from, const struct wire_read *r);
void node_read_turn(struct node *n);    /* starts rounds, answers what is ready */
void node_read_restart(struct node *n); /* leader or term changed */
void node_read_forget(struct node *n, struct node_link *l);
void node_read_fail_all(struct node *n);
/* The store is there, and other threads may read it; it is about to go. */
void node_gate_open(struct node *n);
void node_gate_close(struct node *n);
/* How old a stale read of now may be. */
uint32_t node_read_age_ms(const struct node *n);

/* ---- node_member.c ---- */
void node_member_tick(struct node *n);
void node_member_applied(struct node *n, uint64_t index);
void node_join_allocated(struct node *n, uint64_t tag, struct slice reply);
bool node_peer_alive(struct node *n, uint64_t id, uint64_t within_ms);
bool node_removal_allowed(const struct membership *now, uint64_t id);
const struct member *node_member_at(const struct membership *m, const char *address);

/* ---- node_admin.c ---- */
void node_admin(struct node *n, struct node_link *l, uint64_t id, struct slice packed_argv);
/* Answers, and forgets it. error: an error reply. */
void node_join_answer(struct node *n, struct join *j, enum link_status status, const char *error);
void node_joins_tick(struct node *n);
/* Those of a link that is gone; NULL: all, which are sent to the next leader. */
void node_joins_fail(struct node *n, struct node_link *l);

/* ---- node_handover.c ---- */
void node_handover_turn(struct node *n);

/* ---- node.c ---- */
void node_look_at_disk(struct node *n); /* sets disk_low */
/* Whether a copy of that size leaves min_free_bytes on the disk. */
bool node_has_room(const struct node *n, uint64_t bytes);

/* ---- node_backup.c ---- */
#define NODE_BACKUP_NAME "snapshots/backup.mdb"
struct backup;
void node_backup_tick(struct node *n);
/* No copy may be under way. */
void node_backup_drop(struct node *n);
bool node_backup_copying(const struct node *n);
/* NODE.BACKUP.*; false: not a well-formed one. */
bool node_backup_command(struct node *n, const struct argv *argv, struct buf *reply);

/* ---- node_status.c ---- */
const char *node_health_name(enum node_health health);
void node_gauges_update(const struct node *n);
void node_status_reply(struct node *n, struct buf *out);

/* ---- node_snapshot.c: at start; taking ---- */
int node_load_state(struct node *n, char ret_error[256]); /* opens log and store at start */
int node_store_open(const struct node *n, const char *dir,
                    struct store **ret_store); /* any thread */
void node_snapshot_path(const struct node *n, uint64_t index, char out[4096]);
bool node_snapshot_is(const struct node *n, uint64_t index, uint64_t hash);
int node_rename_durably(const struct node *n, const char *from, const char *to);
int node_meta_save(struct node *n, const struct core_snapshot *s,
                   const struct store_snapshot *info);
bool node_snapshot_fill(struct node *n, struct core_message *m, struct buf *descriptor);
void node_snapshot_tick(struct node *n);
void node_work_now(const struct node *n, struct node_work *ret);

/* ---- node_install.c: fetching a snapshot and putting it in place ---- */
void node_install_begin(struct node *n, const struct core_snapshot *s, struct slice descriptor);
void node_install_piece(struct node *n, uint64_t from, const struct wire_piece *p);
void node_install_drop(struct node *n);
uint64_t node_install_deadline(const struct node *n);
void node_install_tick(struct node *n);
void node_install_tidy(struct node *n);
bool node_install_make_room(struct node *n);
int node_store_count_up(struct store *s, struct hash128 digest); /* any thread */
int node_store_swap(struct node *n, const char *from, struct store *s, const char *snapshot);
bool node_install_idle(const struct node *n); /* no thread works for it */
void node_install_work(const struct node *n, struct node_work *ret);
void node_install_fini(struct node *n);
void node_retire_fini(struct node *n);

/* ---- node_integrity.c: is the copy right? ---- */
bool node_may_serve(const struct node *n);
void node_integrity_applied(struct node *n, uint64_t index, const struct core_entry *e);
void node_integrity_status(struct node *n, struct peer *p, const struct wire_status *s);
void node_integrity_damaged(struct node *n, const char *why); /* a fact, whatever others have */
void node_integrity_installed(struct node *n);
void node_integrity_forget(struct node *n);
/* Most voters have, or had, our digest at that index or behind it. With two nobody can tell. */
bool node_integrity_agreed(const struct node *n, uint64_t index);
/* Whether our snapshot may be handed out. */
bool node_may_hand_out(const struct node *n);
void node_integrity_tick(struct node *n);
bool node_integrity_idle(const struct node *n); /* no thread works for it */
void node_integrity_work(const struct node *n, struct node_work *ret);
void node_integrity_fini(struct node *n);
void node_scrub_cancel(struct node *n);
bool node_note_decode(struct slice body, uint64_t *ret_index, struct hash128 *ret_digest);

/* ---- node_fetch.c: handing our snapshot out ---- */
void node_fetch(struct node *n, uint64_t from, const struct wire_piece *p);
void node_fetch_offered(struct node *n, uint64_t peer_id); /* our snapshot, to this node */
void node_fetch_tick(struct node *n);
uint64_t node_fetch_deadline(const struct node *n);
bool node_fetch_busy(const struct node *n); /* somebody fetches */
void node_fetch_fini(struct node *n);
uint64_t node_log_floor(const struct node *n, bool of_fetchers);
