/* clang-format off */
/* The link protocol: what gateways and database nodes say to each other, over a socketpair inside
 * one process and over TCP between machines. Sans-I/O: frames to and from bytes.
 *
 * A connection begins with the 4-byte preface of its kind, then frames in both directions:
 *
 *   u32 size of what follows | u8 type | payload                     (all numbers little-endian)
 *
 * gateway -> node
 *   HELLO     u16 version | u32 features (0) | u8[16] client session of the gateway thread
 *   WRITES    one group of a log entry (store/store.h), byte for byte:
 *             u8[16] session | u64 acked_below | u32 count | u32 bytes
 *             | count x (u64 sequence | u16 db | u32 size | packed argv)
 *   READS     u32 count | count x (u64 id | u8 flags | u16 db | u64 min_index | u32 size
 *             | packed argv)
 *   ADMIN     u64 id | packed argv: what concerns the node itself (status, membership);
 *             answered as a read
 *   READ_INDEX  u64 id | u8 flags | u64 min_index: when may who reads this node's store by itself
 *             (store/gate.h) answer the reads that it has gathered? A request like the others
 *   PING      u64 id: answered at once, whatever else the node waits for
 *
 * node -> gateway
 *   HELLO     u16 version | u32 features | u64 node id | u8[16] cluster id
 *             | u32 window requests | u32 window bytes
 *   REPLIES   u32 count | count x (u64 id or sequence | u8 kind | u8 status | u64 index | u32 size
 *             | reply); in those of the kind STALE, u32 age_ms stands before the size
 *   READ_INDEXED  u64 id | u8 status | u64 index | u64 time_ms: with OK, from now on every state
 *             of the store that has applied `index`, read as of time_ms
 *   PONG      u64 id
 *   SITES     u64 revision of the last change of what sites there are, as far as this node has
 *             applied it; sent after HELLO and at every change
 *   TOPOLOGY  u64 term | u64 leader id or 0 | u32 count | count x (u64 id | u8 role
 *             | lstr peer address | lstr http address | lstr redis address);
 *             sent after HELLO and at every change
 *
 * Replies come in any order. `index` is the applied index at which a write was applied or a read
 * was answered; `age_ms` says how old the answer of a stale read may be (upstream.h). Flow control: a gateway never has more than the window's requests, nor more than
 * the window's bytes (packed argv sizes), unanswered on a link; one request larger than the byte
 * window may stand alone. Whoever breaks the format or the window is disconnected and counted.
 *
 * What decodes is well formed all the way down: every argv unpacks, and a reply is exactly one
 * neutral reply (base/reply.h), or empty where the status says it all (never with LINK_OK).
 */
/* clang-format on */
#pragma once
#include "base/argv.h"
#include "base/buf.h"
#include "base/reader.h"

#define LINK_PREFACE "CTL1"
enum {
    LINK_VERSION = 3,
    LINK_FRAME_HEADER_BYTES = 5,
    LINK_FRAME_BYTES_MAX = 72 * 1024 * 1024,
};

enum link_frame_type {
    LINK_HELLO = 1,
    LINK_WRITES = 2,
    LINK_READS = 3,
    LINK_ADMIN = 4,
    LINK_READ_INDEX = 5,
    LINK_PING = 6,
    LINK_NODE_HELLO = 65,
    LINK_REPLIES = 66,
    LINK_TOPOLOGY = 67,
    LINK_READ_INDEXED = 68,
    LINK_PONG = 69,
    LINK_SITES = 70,
};

enum link_status {
    LINK_OK = 0, /* `reply` is the answer */
    LINK_NOT_LEADER =
        1, /* ask the leader; a write may or may not have been applied, so keep its sequence */
    LINK_BUSY = 2, /* refused before the log: not applied; the reply says why (an error reply) */
    LINK_SESSION_GONE = 3, /* the client session is gone: unknown whether the write was applied */
    LINK_UNAVAILABLE =
        4, /* this node cannot answer now (no leader, behind). A write was not applied by this
              attempt; an ADMIN request that changes something may yet be carried out */
    LINK_REFUSED = 5, /* never to be retried: not applied; the reply says why */
};

enum link_reply_kind { LINK_KIND_WRITE = 0, LINK_KIND_READ = 1, LINK_KIND_STALE = 2 };
#define LINK_AGE_UNKNOWN UINT32_MAX
enum link_read_flag { LINK_READ_STALE = 1 };

struct link_hello {
    uint16_t version;
    uint32_t features;
    uint8_t session[16];
};
struct link_node_hello {
    uint16_t version;
    uint32_t features;
    uint64_t node_id;
    uint8_t cluster_id[16];
    uint32_t window_requests;
    uint32_t window_bytes;
};
struct link_writes {
    uint8_t session[16];
    uint64_t acked_below;
    uint32_t count;
    struct slice commands; /* count x (sequence, db, argv); take them with link_next_write() */
    struct slice whole;    /* the payload: a group of a log entry */
};
struct link_write {
    uint64_t sequence;
    uint16_t db;
    struct slice packed_argv;
};
struct link_read {
    uint64_t id;
    uint8_t flags;
    uint16_t db;
    uint64_t min_index; /* answer from a state at least this new */
    struct slice packed_argv;
};
struct link_admin {
    uint64_t id;
    struct slice packed_argv;
};
struct link_reply {
    uint64_t id;
    uint8_t kind;
    uint8_t status;
    uint64_t index;
    uint32_t age_ms; /* LINK_KIND_STALE only; LINK_AGE_UNKNOWN */
    struct slice reply;
};
struct link_read_index {
    uint64_t id;
    uint8_t flags; /* LINK_READ_STALE: no confirmation, only min_index */
    uint64_t min_index;
};
struct link_read_indexed {
    uint64_t id;
    uint8_t status; /* LINK_OK or LINK_UNAVAILABLE */
    uint64_t index;
    uint64_t time_ms;
};
struct link_member {
    uint64_t id;
    uint8_t role; /* enum member_role of replica/core.h: 0 learner, 1 voter, 2 joining */
    struct slice peer_address, http_address, redis_address;
};
struct link_topology {
    uint64_t term;
    uint64_t leader_id;
    uint32_t count;
    struct slice members; /* take them with link_next_member() */
};

/* ---- taking frames apart; all slices borrow from the input ---- */

enum link_take { LINK_TAKE_FRAME, LINK_TAKE_MORE, LINK_TAKE_BAD };
/* Takes one frame off the front of *in. MORE: not all of it is there yet; *ret_need, when not NULL,
 * is the whole frame's size once known, else 0. BAD: a size of 0 or over LINK_FRAME_BYTES_MAX. */
enum link_take link_take_frame(struct slice *in, uint8_t *ret_type, struct slice *ret_payload,
                               size_t *ret_need);
/* Each returns false when the payload is malformed (every count and size is checked). */
bool link_decode_hello(struct slice payload, struct link_hello *ret);
bool link_decode_node_hello(struct slice payload, struct link_node_hello *ret);
bool link_decode_writes(struct slice payload, struct link_writes *ret);
bool link_decode_admin(struct slice payload, struct link_admin *ret);
bool link_decode_topology(struct slice payload, struct link_topology *ret);
bool link_decode_read_index(struct slice payload, struct link_read_index *ret);
bool link_decode_read_indexed(struct slice payload, struct link_read_indexed *ret);
/* PING and PONG, and SITES with its revision. */
bool link_decode_ping(struct slice payload, uint64_t *ret_id);
/* READS and REPLIES: the count first, then one call an element. Each takes its part off the front;
 * a payload with bytes left behind the last element is malformed. */
bool link_decode_count(struct slice *payload, uint32_t *ret_count);
bool link_next_read(struct slice *in, struct link_read *ret);
bool link_next_reply(struct slice *in, struct link_reply *ret);
bool link_next_write(struct slice *in, struct link_write *ret);
bool link_next_member(struct slice *in, struct link_member *ret);

/* ---- building frames ---- */

void link_put_hello(struct buf *out, const struct link_hello *hello);
void link_put_node_hello(struct buf *out, const struct link_node_hello *hello);
void link_put_admin(struct buf *out, const struct link_admin *admin);
void link_put_read_index(struct buf *out, const struct link_read_index *ask);
void link_put_read_indexed(struct buf *out, const struct link_read_indexed *answer);
/* LINK_PING, LINK_PONG; LINK_SITES with a revision in the place of the id. */
void link_put_ping(struct buf *out, enum link_frame_type type, uint64_t id);

/* A frame of many elements is opened, filled and closed. Nothing else may be appended to `out`
 * meanwhile. The caller closes a batch before it outgrows LINK_FRAME_BYTES_MAX (CHECKed). */
struct link_batch {
    size_t frame_at; /* offset of the frame in the buf */
    uint32_t count;
};
void link_open_writes(struct buf *out, struct link_batch *b, const uint8_t session[16],
                      uint64_t acked_below);
void link_add_write(struct buf *out, struct link_batch *b, const struct link_write *w);
void link_open_reads(struct buf *out, struct link_batch *b);
void link_add_read(struct buf *out, struct link_batch *b, const struct link_read *r);
void link_open_replies(struct buf *out, struct link_batch *b);
void link_add_reply(struct buf *out, struct link_batch *b, const struct link_reply *r);
void link_open_topology(struct buf *out, struct link_batch *b, uint64_t term, uint64_t leader_id);
void link_add_member(struct buf *out, struct link_batch *b, const struct link_member *m);
/* Writes sizes and counts. A batch without elements is removed again. */
void link_close(struct buf *out, struct link_batch *b);
