/* The deterministic state machine: what every database node holds, and how an entry changes it.
 *
 * store_apply() is a pure function of (state, entry): no clock, no randomness, no environment. Time
 * and a random seed are stamped into the entry by the leader. Two kinds of failure never mix: a
 * client's mistake becomes a reply, the same on every node; a local failure (disk, map full,
 * damaged record) is returned as a negative errno, and the caller stops the node.
 *
 * One LMDB environment in a directory (docs/store-format.md has every byte), opened with WRITEMAP |
 * NOSYNC | NORDAHEAD: the log is what makes a write durable. Applied index and term are part of
 * each write transaction, so a process crash loses nothing; after a crash of the operating system
 * the environment is not trusted (store_open() says so) and the caller rebuilds it from a snapshot.
 *
 * Threads: one thread calls the writing functions. Readers (struct store_view) may be on any
 * thread, one view a thread at a time; they never block the writer.
 *
 * Return codes: 0 success; < 0 negative errno, fatal for this node unless said otherwise.
 */
#pragma once
#include "base/argv.h"
#include "base/buf.h"
#include "base/hash.h"

enum {
    STORE_KEY_BYTES_MAX = 64 * 1024,
    STORE_VALUE_BYTES_MAX =
        64 * 1024 * 1024, /* the same on every node; gateways may be configured lower */
    STORE_DB_COUNT = 16,  /* numbered databases, as Redis's default */
    /* Further ones that no client can choose, list or flush, and whose changes are not told. */
    STORE_DB_SITES = 16,    /* what is deployed */
    STORE_DB_VISITORS = 17, /* documents of visitor sessions (/v1/session) */
    STORE_DB_ACCESS = 18,   /* API tokens */
    STORE_DB_ALL = 19,
};

struct store;

enum store_look {
    STORE_LOOK_NEVER,
    STORE_LOOK_UNLESS_SOUND, /* unless the mark says that it is known to be right */
    STORE_LOOK_ALWAYS,
};

struct store_options {
    const char *dir;         /* holds data.mdb and store.mark; made when missing; copied */
    uint64_t map_bytes;      /* the LMDB map's size: the most the file can grow to; page multiple */
    uint64_t max_data_bytes; /* quota on live data, see store_over_quota(); 0: none */
    const char *boot_id;     /* identifies this boot of the operating system; copied */
    uint64_t reserve_bytes;  /* of disk space held ahead of the writer; 0: none */
    uint64_t changes_max;    /* of the change log, the same on all nodes (store/changes.h); 0:
                                CHANGES_COUNT_MAX */
    enum store_look look;    /* whether to look at every page and record first (store/check.h) */
};

enum store_open_result {
    STORE_OPENED = 0,
    STORE_UNTRUSTED = 1, /* the operating system crashed since it was last open: wipe and rebuild */
    STORE_DAMAGED = 2,   /* the look found something: wipe and rebuild */
};

/* Opens or creates. On STORE_UNTRUSTED and STORE_DAMAGED nothing is open and *ret_store is
 * untouched; ret_problem (NULL, or 256 bytes) says what STORE_DAMAGED is about. -EBUSY: open
 * already, here or in another process. -EBADMSG: damaged. -EPROTONOSUPPORT: of another format. */
int store_open(const struct store_options *options, struct store **ret_store) WARN_UNUSED;
int store_open_explained(const struct store_options *options, struct store **ret_store,
                         char *ret_problem) WARN_UNUSED;
/* Whether all records were looked at since it was opened, or it was empty. */
bool store_is_sound(const struct store *s);
/* Somebody has looked (store_verify_slowly()): the mark says so, for the next start after a crash
 * of the process. */
int store_note_sound(struct store *s) WARN_UNUSED;
/* Syncs, writes the clean-stop mark, closes. Takes the store. */
int store_close(struct store *s) WARN_UNUSED;
/* As after a process crash: closes without sync or mark (simulator, fatal paths). An open write
 * transaction is lost. Takes the store. No view may be left, here as in store_close(). */
void store_abandon(struct store *s);
/* The open store's folder got another name. */
void store_moved(struct store *s, const char *dir);
/* Deletes the environment's files, so that store_open() begins empty. The store must be closed. */
int store_wipe(const char *dir) WARN_UNUSED;

/* ---- log entries ------------------------------------------------------------------------------
 *
 * An entry: u8 format version (1) | u8 zero x3 | u32 group count | u64 time_ms | u64 seed, then the
 * groups. A group: the commands of one client session, exactly the bytes of a link's WRITE batch:
 *   u8[16] session | u64 acked_below | u32 command count | u32 bytes of the commands, then each:
 *   u64 sequence | u16 db | u32 size | packed argv (base/argv.h)
 */
struct session_id {
    uint8_t bytes[16];
};

enum {
    ENTRY_HEADER_BYTES = 24,
    ENTRY_GROUP_HEADER_BYTES = 32,
    ENTRY_COMMAND_HEADER_BYTES = 14,
    ENTRY_COMMANDS_MAX = 1 << 20, /* a revision has 20 bits for the position */
};

struct entry_header {
    uint64_t time_ms; /* wall time of the leader, never going back within a log */
    uint64_t seed;
    uint32_t group_count;
};
struct entry_group {
    struct session_id session;
    uint64_t acked_below; /* the gateway has handed on every reply with a sequence below this */
    uint32_t command_count;
    struct slice commands; /* borrows from the entry */
};
struct entry_command {
    uint64_t sequence;
    uint16_t db;
    struct slice packed_argv; /* borrows from the entry */
};

void entry_begin(struct buf *b, uint64_t time_ms, uint64_t seed);        /* group count 0 */
void entry_append_group(struct buf *b, const struct entry_group *group); /* after entry_begin */
void entry_append_command(struct buf *commands, uint64_t sequence, uint16_t db,
                          struct slice packed_argv);
/* Each takes its part off the front of *in; false: malformed. Unknown versions are malformed. */
bool entry_next_header(struct slice *in, struct entry_header *ret_header);
bool entry_next_group(struct slice *in, struct entry_group *ret_group);
bool entry_next_command(struct slice *in, struct entry_command *ret_command);
/* The whole entry is well formed: counts match, nothing is left over, every argv unpacks, command
 * count within ENTRY_COMMANDS_MAX. */
bool entry_check(struct slice entry);

/* ---- applying ----------------------------------------------------------------------------------
 */

enum store_status {
    STORE_DONE = 0,         /* executed now or earlier: the reply is the one to give */
    STORE_SESSION_GONE = 1, /* the session does not exist (any more): whether it ran is unknown */
};

/* Called for each command in order. `reply` is borrowed until the call returns. */
typedef void (*store_reply_fn)(void *ctx, const struct session_id *session, uint64_t sequence,
                               enum store_status status, struct slice reply);

/* One write transaction spans begin..commit; several entries may be applied in it. After the first
 * failure every further call returns it again and nothing is committed any more: what is in memory
 * is ahead of the disk, so the store can only be abandoned. */
int store_begin(struct store *s) WARN_UNUSED;
/* Applies one entry. `index` must be the applied index + 1. reply_fn may be NULL. -EBADMSG:
 * malformed. */
int store_apply(struct store *s, uint64_t index, uint64_t term, struct slice entry,
                store_reply_fn reply_fn, void *ctx) WARN_UNUSED;
/* Advances the applied index over an entry without commands (barrier, membership). `membership` is
 * the new encoded membership, kept in the state (store_membership()), or empty to leave it. */
int store_apply_other(struct store *s, uint64_t index, uint64_t term,
                      struct slice membership) WARN_UNUSED;
int store_commit(struct store *s) WARN_UNUSED;

/* As of the open write transaction if there is one, else of the last commit. Writer thread only. */
uint64_t store_applied_index(const struct store *s);
uint64_t store_applied_term(const struct store *s);
uint64_t store_time_ms(const struct store *s); /* log time: that of the last entry applied */
struct hash128 store_digest(const struct store *s);
uint64_t
store_data_bytes(const struct store *s); /* keys and values of live records, for the quota */
uint64_t store_key_count(
    const struct store *s); /* of clients, over all their databases, expired ones included */
/* The revision of the last change of what sites there are and which deploy each one shows; 0: there
 * was none. As of the last commit. */
uint64_t store_sites_revision(const struct store *s);
uint64_t store_session_count(const struct store *s);
/* What a copy of the environment's file would hold, about. Any thread. */
uint64_t store_file_bytes(const struct store *s);
/* Whether this id was given to a node at some time (NODE.ALLOC). */
bool store_knows_node_id(const struct store *s, uint64_t id);
/* Whether the session has executed this sequence, so that asking again changes nothing. */
bool store_session_knows(const struct store *s, const struct session_id *session,
                         uint64_t sequence);
bool store_over_quota(const struct store *s);
/* Whether argv is an ONCE.EXEC whose id is kept: executing it changes nothing. */
bool store_once_knows(struct store *s, const struct argv *argv);
/* The last membership passed in, with the index it came with; borrowed until the next apply. */
struct slice store_membership(const struct store *s, uint64_t *ret_index);

/* When expired records, silent sessions (an hour of log time) or kept answers to named requests (a
 * day) wait to be removed as of time
 * now_ms, appends the packed argv of the command that does it (a bounded amount of work a command)
 * and returns true. The leader proposes it like any other command (session all zero, sequence 0:
 * such commands are executed without a session and not deduplicated). */
bool store_housekeeping(struct store *s, uint64_t now_ms, struct buf *ret_argv);

/* ---- reading -----------------------------------------------------------------------------------
 */

/* A consistent view: an LMDB read transaction. Created for a thread and reused. */
struct store_view;
int store_view_new(struct store *s, struct store_view **ret_view) WARN_UNUSED;
void store_view_free(struct store_view *v);
/* Pins the newest committed state until store_view_end(). Hold it for one batch of reads. */
int store_view_begin(struct store_view *v) WARN_UNUSED;
void store_view_end(struct store_view *v);
uint64_t store_view_applied_index(const struct store_view *v);
/* Executes a command that only reads, at time now_ms (expired keys are invisible from their moment;
 * the larger of now_ms and the state's log time counts). Appends the reply to `out`. An unknown or
 * a writing command gets an error reply. `seed` drives RANDOMKEY and its like. */
int store_read(struct store_view *v, uint16_t db, uint64_t now_ms, uint64_t seed,
               const struct argv *argv, struct buf *out) WARN_UNUSED;

/* ---- snapshots ----------------------------------------------------------------------------------
 */

/* What a snapshot file holds; also the descriptor that travels inside consensus. */
struct store_snapshot {
    uint64_t index;
    uint64_t term;
    struct hash128 digest;
    uint64_t file_bytes;
    struct hash128 file_hash;  /* hash128 over the hashes of 1 MiB pieces, in order */
    uint64_t membership_index; /* index of the membership that the snapshot contains */
};

/* Copies a consistent state to the file `path` (written beside, fsynced, renamed, folder fsynced)
 * from a read transaction. Any thread, the writer's only between transactions (it would wait for
 * itself); the store must stay open; the writer waits for the copy of two pages at most. */
int store_snapshot_write(struct store *s, const char *path,
                         struct store_snapshot *ret_info) WARN_UNUSED;
/* The same from the store in folder `dir`, which nobody has open, nor opens meanwhile, and which
 * was found good (store/check.h). It is only read. */
int store_snapshot_write_closed(const char *dir, const char *path,
                                struct store_snapshot *ret_info) WARN_UNUSED;
/* Reads back and verifies a snapshot file: hash over the file as in *info when info is not NULL
 * (-EBADMSG when it differs), opens it read-only, and checks format and digest record. */
int store_snapshot_verify(const char *path, const struct store_snapshot *info,
                          struct store_snapshot *ret_info) WARN_UNUSED;
/* Replaces the closed environment in `dir` by a copy of the snapshot file, marked as trusted for
 * boot_id. Open with store_open() afterwards. */
int store_snapshot_install(const char *path, const char *dir, const char *boot_id) WARN_UNUSED;
void store_snapshot_encode(const struct store_snapshot *info, struct buf *out);
bool store_snapshot_decode(struct slice in, struct store_snapshot *ret_info);
/* Makes the state the first one of another cluster: the sessions of the old one's gateways go, the
 * membership is the new one, and index and term are those given, which must not be lower. Between
 * transactions; the store is closed and opened again before it is used otherwise. */
int store_refound(struct store *s, uint64_t index, uint64_t term,
                  struct slice membership) WARN_UNUSED;
/* Recomputes the digest from all records and compares it with the stored one; -EBADMSG on a
 * difference or a record that cannot be read. For `check`, tests and the simulator. */
int store_verify(struct store_view *v, struct hash128 *ret_digest) WARN_UNUSED;
/* Called with the bytes looked at since the last time, at least every MiB or so; false: no more. */
typedef bool (*store_verify_fn)(void *ctx, uint64_t bytes);
/* The same for a store in use, on a thread of its own: -ECANCELED when on_bytes said no more. */
int store_verify_slowly(struct store_view *v, store_verify_fn on_bytes, void *ctx,
                        struct hash128 *ret_digest) WARN_UNUSED;
