/* A client's connection: what both protocols share.
 *
 * Requests stand in a line in the order they were asked and are answered in that order, however
 * their answers come in. What is answered is gathered in `out` and written once a turn.
 *
 *                    parse            upstream's answer         all before it answered
 *   bytes in `in` ---------> request ------------------> reply ------------------------> `out`
 *
 * Order rule: at any time the requests that were sent up and not answered are all reads or all
 * writes. A request of the other kind waits, and everything behind it with it: parsing stops and
 * the bytes stay where they are. So a read after a write sees the write, and a read before a write
 * does not. (A parser may send a small read up as a write: redis_conn.c.) A barrier (conn_hold())
 * stops parsing until the line is empty. HTTP/2 has no order between its streams: there the line
 * only counts, and answers leave it as they come (http2_conn.c).
 *
 * Time: a request's limit begins when it is sent up. When it ends one that others wait for, they
 * have waited as long, and are refused with it (late_bytes): the limit holds for a pipeline too.
 *
 * Back-pressure: parsing stops too while the line or the unwritten answers are over their limits,
 * those that wait in the line for others included. Behind an answer that comes in pieces nothing is
 * parsed (in HTTP/2 such answers have limits of their own). While parsing is stopped at most
 * CONN_AHEAD_BYTES more are taken in, then the stream is paused: the kernel pushes back on the
 * client.
 *
 * Memory: an idle connection owns no buffers. `in` exists only while a request is incomplete or
 * waits. One that stays idle is put to rest: an HTTP connection is *parked*, which leaves nothing
 * of it but the stream and a struct parked (gateway/parked.h), and comes back with the next byte.
 *
 * Lists, so that what happens once a second costs by what is going on and not by who is there:
 *
 *     busy  gw->conns    something is unfinished; swept once a second
 *     idle  gw->idle     nothing is; the longest idle first. After CONN_WARM_MS, or when there are
 *                        more than CONN_WARM_MAX, the first is put to rest
 *     rest  gw->resting  what stays a struct conn at rest (Redis), the longest idle first
 *     --    gw->parked   struct parked, the longest idle first; gw->fresh: those that have not said
 *                        anything yet
 *
 * conn_mark_dirty() makes any connection busy; the turn's end finds out that it is idle again.
 *
 * Life:
 *     OPEN ---> CLOSING ------------> CLOSED   (freed at the turn's end)
 *       \        line is answered,     ^
 *        \       then stream_shutdown  |
 *         `----------------------------'       peer or network ended it, time limit, conn_abort()
 *
 * A CLOSING connection reads no further requests; what still arrives is thrown away. Behind the
 * last answer the client sees the end at once; the stream goes on taking in what the client still
 * sends, for a while, so that a reset does not destroy the answer (stream_shutdown(); RFC 9112
 * section 9.6).
 *
 * Nothing here frees a struct conn inside a callback: that happens in gateway_turn_end().
 */
#pragma once
#include "gateway/gateway.h"

enum {
    CONN_AHEAD_BYTES = 64 * 1024,
    CONN_WARM_MS = 1000,
    CONN_WARM_MAX = 16384,
    /* An answer in pieces is asked for more while less than this is unwritten. */
    CONN_ROOM_BYTES = 256 * 1024,
    /* From here on a body is written from where it is. */
    CONN_DIRECT_BYTES = 8 * 1024,
    /* When a connection has written so much in a turn others have theirs first. */
    CONN_TURN_BYTES = 4 * 1024 * 1024,
};

enum conn_state { CONN_OPEN, CONN_CLOSING, CONN_CLOSED };
enum conn_place { CONN_NOWHERE, CONN_BUSY, CONN_IDLE, CONN_RESTING };
enum conn_order { CONN_ORDER_NONE, CONN_ORDER_READ, CONN_ORDER_WRITE };

struct conn_ops {
    const char *protocol;
    /* Takes whole requests off `in` (borrowed until return) and returns how many bytes it used.
     * Stops when conn_may_parse() says no, when a request must wait (conn_wait()), or when the
     * rest is incomplete. */
    size_t (*parse)(struct conn *c, struct slice in);
    /* Called by the sweep: the protocol's own time limits. While OPEN; where there is a flush(),
     * until it is shut. */
    void (*check_time)(struct conn *c, uint64_t now_ms);
    /* The thread's memory is used up and this connection holds much of it: answer and close. */
    void (*overload)(struct conn *c);
    /* Bytes of unfinished requests that are held outside `in`. */
    size_t (*held_bytes)(const struct conn *c);
    /* For a protocol whose answers do not go out in the order of the line; both may be NULL. Called
     * at the turn's end, before `out` is written, also while CLOSING: appends to `out` what may go
     * out now, up to CONN_ROOM_BYTES beyond what is unwritten. */
    void (*flush)(struct conn *c);
    /* Bytes of answers that wait outside `out`. */
    size_t (*queued_bytes)(const struct conn *c);
    /* Frees the protocol's struct, conn included. */
    void (*free)(struct conn *c);
    /* It has been idle for a while. True: a struct parked keeps all that has to be known, and the
     * conn may be freed. False: it has given back what memory it could, and stays. NULL: this
     * protocol's connections are never at rest, and are swept as long as they live. */
    bool (*rest)(struct conn *c);
    /* A conn of this kind for a parked stream that wakes up. Only where rest() can be true. */
    struct conn *(*revive)(struct gateway *gw, struct stream *s);
    /* Whether there is nothing unfinished besides what struct conn knows. */
    bool (*is_idle)(const struct conn *c);
};

struct conn_request;
struct conn_request_ops {
    /* The upstream has answered: write it to conn_request_out() in the client's protocol and end
     * with conn_request_done(). */
    void (*answer)(struct conn_request *r, enum upstream_outcome outcome, uint64_t index,
                   struct slice reply);
    /* The client is gone before the answer: let go of upstream requests other than `up`. NULL:
     * none. */
    void (*cancel)(struct conn_request *r);
    /* There is room for more of an answer in pieces (conn_request_stream()). May be NULL. */
    void (*more)(struct conn_request *r);
    void (*free)(struct conn_request *r);
};

/* Embedded first in the protocol's request. */
struct conn_request {
    struct upstream_request up;
    const struct conn_request_ops *ops;
    struct conn *conn;
    struct list node; /* in conn->line */
    struct buf reply; /* the answer, while requests before it are unanswered */
    size_t counted;   /* of it, in conn->reply_bytes */
    uint64_t bytes;   /* of the packed argv, for the limit */
    bool submitted;
    bool answered;
    bool streaming; /* its answer has begun and comes in pieces */
    bool endless;   /* and has no end of its own: a client that sends no more has gone */
};

struct conn {
    const struct conn_ops *ops;
    struct gateway *gw;
    struct stream *stream; /* NULL when CLOSED */
    enum conn_state state;
    struct list node;       /* gw->conns, gw->idle, gw->resting, or gw->dead */
    struct list dirty_node; /* gw->dirty */
    struct buf in;
    size_t late_bytes; /* of `in`: they were there when the time of a request was over */
    struct buf out;
    struct list line; /* of struct conn_request, in the order asked */
    uint32_t line_count;
    size_t reply_bytes; /* of answers in the line; what the last one grew by is still missing */
    uint32_t in_flight; /* sent up, not answered */
    uint64_t in_flight_bytes;
    enum conn_order order; /* of those in flight */
    uint64_t write_index;  /* newest index at which a write of this connection was applied */
    bool unordered;        /* requests do not wait for each other; all that comes is parsed */
    bool waiting;          /* the next request must wait until nothing is in flight */
    bool holding;          /* a barrier: until the line is empty */
    bool paused;
    bool eof;              /* the client sends no more; what it sent is still answered */
    bool shut;             /* stream_shutdown() was called */
    bool doomed;           /* to be ended at once, at the turn's end */
    bool parsing;          /* inside ops->parse */
    uint8_t access_looked; /* what access.c knows of its looking for tokens */
    uint8_t place;         /* enum conn_place: which of the gateway's lists it is in */
    uint32_t requests;     /* that were taken from it (HTTP); 0: it may still begin as HTTP/2 */
    uint64_t active_ms;    /* when bytes came or went last */
    uint64_t moved_ms;     /* when unwritten answers were last seen to shrink or begin */
    size_t moved_bytes;    /* how many were unwritten then */
    uint64_t closing_ms;
    uint64_t in_charged;  /* of the gateway's input_bytes */
    uint64_t out_charged; /* of the gateway's output_bytes */
};

/* Takes the stream. The conn is embedded in the protocol's struct, zeroed. */
void conn_init(struct conn *c, struct gateway *gw, const struct conn_ops *ops, struct stream *s);

/* For streams that nobody listens to any more: what they still say is thrown away. */
extern const struct stream_handler conn_nobody;

/* ---- for parsers ---- */

bool conn_may_parse(const struct conn *c);
/* Whether a request of this order may be sent up now. If not: conn_wait(), and return from parse
 * with the request's bytes unused. */
bool conn_may_submit(const struct conn *c, enum conn_order order);
void conn_wait(struct conn *c);
/* Barrier: parse nothing more until every request in the line is answered. */
void conn_hold(struct conn *c);

/* ---- requests ---- */

/* Puts a request at the end of the line. The line owns it: freed when its answer is in `out`. */
void conn_enqueue(struct conn *c, struct conn_request *r, const struct conn_request_ops *ops);
/* Sends an enqueued request up. Takes packed_argv. Its answer comes to ops->answer. */
void conn_submit(struct conn_request *r, enum upstream_kind kind, uint16_t db,
                 struct buf *packed_argv);
/* Where a request's answer goes, and that it is complete (frees r). */
struct buf *conn_request_out(struct conn_request *r);
void conn_request_done(struct conn_request *r);
/* The answer has begun and goes on in pieces: conn_request_out() is written again and again (a
 * piece at a time; conn_mark_dirty() then), ops->more is called at the turn's end while the request
 * is the first in the line and less than CONN_ROOM_BYTES are unwritten. A barrier, unless the
 * connection is unordered. */
void conn_request_stream(struct conn_request *r);
/* Writes what is gathered without waiting for the turn's end: for who writes much to many. Frees no
 * request. (So not where flush() says what may go out: streams end by it.) */
void conn_write_now(struct conn *c);
/* For a protocol with a flush(): the request's answer went its own way, or it is given up (its
 * upstream request is forgotten, `cancel` called). Frees r. */
void conn_request_leave(struct conn_request *r);
void conn_request_cancel(struct conn_request *r);
/* Gives up all of them. */
void conn_forget_line(struct conn *c);
/* Bytes of its answer, and of those before it, that are not written. */
size_t conn_request_unsent(const struct conn_request *r);
/* Bytes written on this connection that the client has not taken. */
size_t conn_unwritten_bytes(const struct conn *c);
/* Where bytes go that are known at once and stand behind everything in the line. Valid until the
 * next call of any function here. */
struct buf *conn_answer(struct conn *c);
/* An answer that is known at once, whose body stands elsewhere: a large one is written from where
 * it is, as far as the kernel takes it, instead of being gathered. Both are borrowed until return.
 */
void conn_answer_with(struct conn *c, struct slice head, struct slice body);
/* A request of several upstream requests counts itself in flight by these. */
void conn_flight_begin(struct conn *c, enum conn_order order, uint64_t bytes);
void conn_flight_end(struct conn *c, uint64_t bytes);

/* ---- ending ---- */

/* No more requests; closes when all are answered and written. */
void conn_finish(struct conn *c);
/* Ends at once (at the turn's end), without further answers. */
void conn_abort(struct conn *c);

/* Something is to be done at the turn's end. */
void conn_mark_dirty(struct conn *c);
/* By gateway_turn_end() and gateway_sweep(). */
void conn_turn_end(struct conn *c);
void conn_sweep(struct conn *c, uint64_t now_ms);
/* By the sweep: puts to rest what has been idle for CONN_WARM_MS, at most `most` of them. */
void conn_cool(struct gateway *gw, uint64_t now_ms, uint32_t most);
/* Forgets unanswered requests and frees. */
void conn_free(struct conn *c);
