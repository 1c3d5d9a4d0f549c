/* The records of the keyspace as commands see them, inside one transaction: the seam between the
 * storage (LMDB, digest, quota, expiry index, in keyspace.c and its neighbours) and the commands
 * (cmd_*.c).
 *
 * A struct keyspace is bound either to the writer's transaction or to a reader's view; on a view
 * the changing functions must not be called (CHECKed). Expired records are invisible. Every change
 * keeps digest, quota counters, key counts, expiry index and scan index right; every changed record
 * gets the revision of the command that runs.
 *
 * Return codes: 0 success; KEYSPACE_MISSING no such key or member; < 0 negative errno: a local
 * failure, to be handed up at once (never turned into a reply).
 *
 * Bytes: slices handed out point into LMDB's map or into a scratch buffer of the keyspace, and are
 * borrowed until the next changing call or the next call of the same function on this keyspace,
 * whichever comes first.
 */
#pragma once
#include "base/rand.h"
#include "base/reader.h"
#include "store/store.h"

enum record_type { RECORD_STRING = 1, RECORD_HASH = 2 };
enum { KEYSPACE_MISSING = 1 };

struct keyspace;

struct record {
    enum record_type type;
    uint64_t revision; /* of the last change */
    uint64_t id; /* of the object: unique, given at creation, kept until deletion; orders SCAN */
    uint64_t expiry_ms;        /* 0: never */
    uint64_t size;             /* bytes of a string, members of a collection */
    uint64_t data_bytes;       /* key, value and members together: what counts for the quota */
    struct slice content_type; /* empty unless stored over HTTP */
};

uint64_t keyspace_now_ms(const struct keyspace *ks);
uint64_t keyspace_revision(const struct keyspace *ks); /* of the command that runs; 0 on a view */
struct rand *keyspace_rand(struct keyspace *ks); /* deterministic: seeded by entry and position */
/* Of the state that is seen: the index of the last applied entry in the place it has in a revision.
 * Whoever waits for this revision sees at least this state. The last entry's own writes have this
 * revision and the next ones. */
uint64_t keyspace_state_revision(const struct keyspace *ks);
bool keyspace_writable(const struct keyspace *ks);

int keyspace_find(struct keyspace *ks, uint16_t db, struct slice key,
                  struct record *ret_record) WARN_UNUSED;
/* The value of a string record just found. */
int keyspace_value(struct keyspace *ks, uint16_t db, struct slice key,
                   struct slice *ret_value) WARN_UNUSED;

/* Replaces whatever was there (of any type) by a string. Sets all of value, content type, expiry.
 */
int keyspace_put_string(struct keyspace *ks, uint16_t db, struct slice key, struct slice value,
                        struct slice content_type, uint64_t expiry_ms) WARN_UNUSED;
int keyspace_set_expiry(struct keyspace *ks, uint16_t db, struct slice key,
                        uint64_t expiry_ms) WARN_UNUSED;
int keyspace_delete(struct keyspace *ks, uint16_t db, struct slice key) WARN_UNUSED;
/* Copies a record of any type with its expiry over the destination (deleted first when there). */
int keyspace_copy(struct keyspace *ks, uint16_t from_db, struct slice from, uint16_t to_db,
                  struct slice to) WARN_UNUSED;
int keyspace_flush(struct keyspace *ks,
                   uint16_t db) WARN_UNUSED; /* deletes all keys of one database */

/* Members of a hash. put creates the hash when the key is missing (the caller has checked the
 * type); *ret_added is whether the field is new. delete removes the key with its last member. */
int keyspace_member_get(struct keyspace *ks, uint16_t db, struct slice key, struct slice field,
                        struct slice *ret_value) WARN_UNUSED;
int keyspace_member_put(struct keyspace *ks, uint16_t db, struct slice key, struct slice field,
                        struct slice value, bool *ret_added) WARN_UNUSED;
int keyspace_member_delete(struct keyspace *ks, uint16_t db, struct slice key,
                           struct slice field) WARN_UNUSED;
/* Iterates members in the order of a 63-bit hash of the field. Begin with *cursor = 0; each call
 * returns one member and moves the cursor; KEYSPACE_MISSING at the end. A walk from the first to
 * the end without a change in between meets record.size members, or it ends with -EBADMSG. */
struct member_cursor {
    uint64_t hash;   /* members with a smaller hash are passed */
    uint32_t suffix; /* among members with the same hash */
};
int keyspace_member_next(struct keyspace *ks, uint16_t db, struct slice key,
                         struct member_cursor *cursor, struct slice *ret_field,
                         struct slice *ret_value) WARN_UNUSED;

/* Keys in byte order: the first key > `after` (or >= when or_equal), expired ones passed over. */
int keyspace_next_key(struct keyspace *ks, uint16_t db, struct slice after, bool or_equal,
                      struct slice *ret_key, struct record *ret_record) WARN_UNUSED;
/* Keys in the order of their ids: the first with id >= from_id. For SCAN (the cursor is the next
 * id) and RANDOMKEY. */
int keyspace_scan(struct keyspace *ks, uint16_t db, uint64_t from_id, struct slice *ret_key,
                  struct record *ret_record) WARN_UNUSED;
int keyspace_id_bounds(struct keyspace *ks, uint16_t db, uint64_t *ret_first,
                       uint64_t *ret_last) WARN_UNUSED;
uint64_t keyspace_count(struct keyspace *ks,
                        uint16_t db); /* keys, expired ones not yet swept included */
uint64_t keyspace_expiring_count(struct keyspace *ks, uint16_t db); /* of them, with an expiry */

/* Deletes up to limit keys whose time has come as of now_ms (the log's time, not a reader's). */
int keyspace_sweep_expired(struct keyspace *ks, uint64_t now_ms, uint64_t limit,
                           uint64_t *ret_deleted) WARN_UNUSED;
/* Sites have changed, in what visitors can see: store_sites_revision() says so after the commit. */
void keyspace_note_sites(struct keyspace *ks);
uint64_t keyspace_next_node_id(struct keyspace *ks); /* NODE.ALLOC: counts up from 2 (node 1 began
                                                        the cluster), never the same again */

/* ---- the change log (store/changes.h) ---- */

enum change_op { CHANGE_PUT = 1, CHANGE_DELETE = 2, CHANGE_EXPIRE = 3, CHANGE_FLUSH = 4 };

/* One change of one key; of a FLUSH all keys of the database are gone. Slices borrow from the
 * transaction. */
struct change {
    uint64_t revision;
    enum change_op op;
    uint16_t db;
    struct slice key;
    /* of a PUT: what the record was then */
    enum record_type type;
    uint64_t expiry_ms;
    uint64_t size;
    struct slice content_type;
    bool has_value; /* a small string */
    struct slice value;
};

/* The log is complete behind this revision. */
uint64_t keyspace_changes_floor(const struct keyspace *ks);
/* Changes of all databases in the order of their revisions, from the first one behind `after` on.
 * Zero the rest; KEYSPACE_MISSING at the end. Those of the entry that is being applied are not
 * there yet. */
struct change_cursor {
    uint64_t after;
    bool begun;
    uint32_t left; /* of the run */
    uint64_t index;
    struct reader run;
};
int keyspace_change_next(struct keyspace *ks, struct change_cursor *cursor,
                         struct change *ret_change) WARN_UNUSED;

/* Implemented by the commands (commands.c), called by the storage: runs one command, appends one
 * reply. Unknown commands, wrong arity and wrong kind (a write on a view) are error replies.
 * Returns < 0 on a local failure only. SESSION.* are handled by the storage before it comes here.
 */
int command_execute(struct keyspace *ks, uint16_t db, const struct argv *argv,
                    struct buf *out) WARN_UNUSED;
