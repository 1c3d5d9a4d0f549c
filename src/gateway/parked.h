/* A connection at rest: all that is left of an idle HTTP client besides its stream.
 *
 * Idle clients are most of a server's connections and most of its memory, so this is kept small:
 * the size is pinned below. When a byte arrives the protocol's conn is made anew
 * (conn_ops.revive()), gets what is noted here, and reads the byte as if it had always been there.
 * New connections begin like this as well: who connects and says nothing costs nothing more.
 *
 * A parked connection has no request, no unwritten answer and no unread byte. It counts in
 * gw->conn_count and in the protocol's gauge. Time limit: gw->options.http_idle_timeout_ms since it
 * was last heard of; the lists gw->parked and gw->fresh are ordered by that.
 */
#pragma once
#include <assert.h>

#include "gateway/conn.h"

struct parked {
    struct list node; /* gw->parked, gw->fresh, or gw->leaving while the stream closes */
    struct gateway *gw;
    struct stream *stream;
    const struct conn_ops *ops; /* what it was, and becomes again; NULL: it is being refused */
    uint64_t write_index;       /* as in struct conn */
    uint32_t since_ms;          /* the last byte, low bits of the gateway's clock */
    uint32_t requests;          /* as in struct conn */
};
static_assert(sizeof(struct parked) <= 56, "docs/decisions/0020-idle-connections.md");

/* Takes a stream that has not said anything. */
void parked_new(struct gateway *gw, const struct conn_ops *ops, struct stream *s);
/* Parks an idle connection; c is freed. */
void parked_take_over(struct conn *c);
/* Answers and closes: for a client there is no room for. The answer gets there although the client
 * may be sending (stream_shutdown()), as long as not too many are refused at once. */
void parked_refuse(struct gateway *gw, struct stream *s, struct slice answer);
/* Closes those whose time is over, at most `most` of each list. */
void parked_sweep(struct gateway *gw, uint64_t now_ms, uint32_t most);
/* For an orderly stop: closes those that were last heard of before so many milliseconds. */
void parked_drain(struct gateway *gw, uint64_t now_ms, uint32_t idle_ms);
/* Frees all, at the gateway's end. */
void parked_free_all(struct gateway *gw);
