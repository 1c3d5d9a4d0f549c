/* What database nodes say to each other: messages to and from bytes. A connection between nodes
 * begins with the preface, then a HELLO from the side that connected, then frames; each direction
 * has a connection of its own.
 *
 *     u32 size of what follows | u8 type | payload        (all numbers little-endian)
 */
/* clang-format off */
/*
 * HELLO          u16 version | u64 node id | u8[16] cluster id | u64 starts | u64 connection
 *                | lstr peer address of the sender
 * APPEND         u64 term | u64 prev index | u64 prev term | u64 commit | u32 count
 *                | count x (u64 term | u8 type | lstr body)
 * APPEND_RESULT  u64 term | u64 rejected | u64 last index
 * VOTE           u64 term | u64 candidate | u64 last index | u64 last term | u8 disrupt
 *                | u8 pre-vote
 * VOTE_RESULT    u64 term | u8 granted | u8 pre-vote
 * INSTALL        u64 term | u64 index | u64 last term | u64 membership index | lstr membership
 *                | lstr descriptor
 * TIMEOUT_NOW    u64 term | u64 last index | u64 last term
 * READ_CHECK     u64 term | u64 round       a leader asks: is your term still no higher than this?
 * READ_CHECKED   u64 term | u64 round | u8 yes
 * READ_INDEX     u64 term | u64 round       a follower, of that durable term, asks the leader for a
 *                                           read index
 * READ_INDEXED   u64 round | u8 ok | u64 index | u64 time ms
 * STATUS         u64 term | u64 applied | u64 digest low | u64 digest high | u64 snapshot index
 *                | u64 snapshot hash | u64 check index | u64 check digest low
 *                | u64 check digest high | u8 health | u8 work | u64 work from | u64 work done
 *                | u64 work total | lstr http address | lstr redis address
 * FETCH          u64 snapshot index | u64 snapshot hash | u64 offset | u32 bytes
 * PIECE          u64 snapshot index | u64 snapshot hash | u64 offset | u32 crc32c
 *                | lstr data (empty: not to be had here)
 * REMOVED        u64 membership index       the leader, to a node that is no member any more
 *
 * The snapshot hash is the low half of the file's: two nodes' snapshots of one index hold the same
 * state and are different files, unless one of them got it from the other.
 */
/* clang-format on */
#pragma once
#include "base/hash.h"
#include "replica/core.h"
#include "replica/memlog.h"

#define WIRE_PREFACE "CTR1"
enum {
    WIRE_VERSION = 6,
    WIRE_FRAME_BYTES_MAX = 160 * 1024 * 1024, /* entries of the largest values, two at a time */
    WIRE_PIECE_BYTES = 256 * 1024,
};

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_APPEND,
    WIRE_APPEND_RESULT,
    WIRE_VOTE,
    WIRE_VOTE_RESULT,
    WIRE_INSTALL,
    WIRE_TIMEOUT_NOW,
    WIRE_READ_CHECK,
    WIRE_READ_CHECKED,
    WIRE_READ_INDEX,
    WIRE_READ_INDEXED,
    WIRE_STATUS,
    WIRE_FETCH,
    WIRE_PIECE,
    WIRE_REMOVED,
};

struct wire_hello {
    uint16_t version;
    uint64_t node_id;
    uint8_t cluster_id[16];
    uint64_t starts;     /* which start of the sender this is */
    uint64_t connection; /* to the receiver or to others, since that start */
    struct slice address;
};
struct wire_read {
    uint64_t term, round;
    bool ok;
    uint64_t index, time_ms;
};
/* Whether a node's copy is right (node_integrity.c). */
enum node_health {
    HEALTH_SOUND,
    HEALTH_DOUBTFUL, /* another's digest differs, and it is not known who is right */
    HEALTH_REPAIR,   /* wrong: being made anew from the own snapshot and log */
    HEALTH_LOST,     /* wrong, and that does not help */
    HEALTH_KINDS,
};

/* Long work that a node is at, for whoever looks. */
enum node_work_kind {
    WORK_NONE,
    WORK_TAKING,     /* writes a snapshot */
    WORK_FETCHING,   /* fetches one from another node */
    WORK_CHECKING,   /* checks the fetched one, and copies it beside its store */
    WORK_SCRUBBING,  /* counts its records up against the digest */
    WORK_REBUILDING, /* makes its store anew */
    WORK_KINDS,
};
struct node_work {
    enum node_work_kind kind;
    uint64_t from;        /* the other node */
    uint64_t done, total; /* bytes; total 0: not known */
};

struct wire_status {
    uint64_t term, applied;
    struct hash128 digest;
    uint64_t snapshot_index, snapshot_hash; /* that it hands out; 0: none */
    uint64_t check_index; /* of the last digest in the log that was compared; 0: none */
    struct hash128 check_digest;
    enum node_health health;
    struct node_work work;
    struct slice http_address, redis_address;
    uint64_t leader_id; /* and where it is, as this node knows it; 0: none */
    struct slice leader_address;
};
struct wire_piece {
    uint64_t index, hash, offset;
    uint32_t bytes;
    struct slice data;
};

void wire_put_hello(struct buf *out, const struct wire_hello *h);
/* An APPEND takes its entries from the log, at most bytes_max of bodies but at least one entry;
 * returns how many it took. False when the log does not hold them (any more): nothing was appended
 * then. */
bool wire_put_append(struct buf *out, const struct core_message *m, const struct memlog *log,
                     uint64_t bytes_max);
/* Every other message of the core. For INSTALL all of m->install must be filled. */
void wire_put_message(struct buf *out, const struct core_message *m);
void wire_put_read(struct buf *out, enum wire_type type, const struct wire_read *r);
void wire_put_status(struct buf *out, const struct wire_status *s);
void wire_put_fetch(struct buf *out, const struct wire_piece *p);
void wire_put_piece(struct buf *out, const struct wire_piece *p);

void wire_put_removed(struct buf *out, uint64_t membership_index);

enum wire_take { WIRE_TAKE_FRAME, WIRE_TAKE_MORE, WIRE_TAKE_BAD };
/* Takes one frame off the front of *in; BAD: a size out of range. *ret_need: the frame's whole size
 * once known. */
enum wire_take wire_take_frame(struct slice *in, uint8_t *ret_type, struct slice *ret_payload,
                               size_t *ret_need);
/* Each false when malformed. Slices borrow from the payload. */
bool wire_decode_hello(struct slice payload, struct wire_hello *ret);
/* Types APPEND to TIMEOUT_NOW. For APPEND the entries' array comes from `entries` (reused memory)
 * and their bodies from one new chunk, whose single reference goes to the caller. */
bool wire_decode_message(uint8_t type, struct slice payload, struct core_message *ret,
                         struct core_entry **entries, uint32_t *entries_capacity);
bool wire_decode_read(uint8_t type, struct slice payload, struct wire_read *ret);
bool wire_decode_status(struct slice payload, struct wire_status *ret);
bool wire_decode_fetch(struct slice payload, struct wire_piece *ret);
bool wire_decode_piece(struct slice payload, struct wire_piece *ret); /* the CRC is checked */
bool wire_decode_removed(struct slice payload, uint64_t *ret_membership_index);
