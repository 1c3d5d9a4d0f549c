/* The upstream on a real loop: connections over net/, its clock and timer, flushed at the end of
 * each turn behind all other hooks, so that what those submit leaves in the same turn.
 *
 * One per gateway thread, on that thread's loop.
 */
#pragma once
#include "gateway/upstream.h"
#include "net/loop.h"
#include "net/stream.h"

struct upstream_net;
struct tls_peer;

struct upstream_net_options {
    struct upstream_options upstream;
    /* Opens a stream to the node of this process, for the seed "local": one end of a socketpair on
     * `loop`, the other one already on its way to the node. NULL: not now; it is tried again. Like
     * every other connection it begins with the preface. */
    struct stream *(*connect_local)(void *ctx, struct loop *loop);
    void *ctx;
    /* For connections over the network; borrowed until upstream_net_free(). NULL: plain. */
    struct tls_peer *tls;
};

struct upstream_net *upstream_net_new(struct loop *loop,
                                      const struct upstream_net_options *options);
/* Ends all requests (their `done` is called) and closes the connections, which the loop completes
 * (loop_drain()). */
void upstream_net_free(struct upstream_net *n);
struct upstream *upstream_net_upstream(struct upstream_net *n);
