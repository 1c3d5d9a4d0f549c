/* The network of a database node: one listening port for other nodes and for gateways, told apart
 * by a 4-byte preface, and one outgoing connection to each other node.
 *
 * Ordered links (ENGINE rule M9): all that we send to a node goes over one connection; a newer
 * connection from a node ends the one it had before, and what that had not yet delivered is
 * dropped. Which one is newer the greeting says: it counts the starts of the node and the
 * connections of that start. An older one that is read late is refused.
 *
 * With `tls` whoever connects over the network must speak TLS and show a certificate of the
 * cluster's authority (net/tls_peer.h), and so do we: plain connections are refused. A node, by its
 * greeting, must have one for the host of the address that it gives. What comes from this process
 * is plain.
 *
 * Who connects and does not say who it is gets five seconds, and only so many may do that at once.
 *
 * All calls on the replica thread, but transport_adopt().
 */
#pragma once
#include "net/loop.h"
#include "net/tcp.h"
#include "replica/node.h"

struct transport;
struct tls_peer;

struct transport_options {
    struct loop *loop;
    struct address listen;
    uint32_t greeting_ms;   /* who has not greeted by then is closed; 0: 5,000 */
    uint32_t ungreeted_max; /* connections at once; of more, those that waited longest are closed;
                               0: 256 */
    const char *advertise;  /* our peer address, sent in HELLO; NULL: the listening one */
    struct tls_peer *tls;   /* borrowed; NULL: plain */
};

int transport_new(const struct transport_options *options,
                  struct transport **ret_transport) WARN_UNUSED;
/* Until then connections are refused. The node is borrowed. starts: a number that is higher at each
 * start of this node. */
void transport_set_node(struct transport *t, struct node *n, uint64_t node_id,
                        const uint8_t cluster_id[16], uint64_t starts);
/* "host:port" of our peer port as others reach it; borrowed. */
const char *transport_address(const struct transport *t);
uint16_t transport_port(const struct transport *t);
/* Closes the listener and every connection; drain the loop before transport_free(). */
void transport_close(struct transport *t);
void transport_free(struct transport *t);

/* Any thread: takes the connected descriptor (one end of a socketpair of a gateway in this
 * process), which then behaves as an accepted connection. */
void transport_adopt(struct transport *t, int fd);
/* Replica thread: likewise a stream on its own loop, of a gateway that runs there too. */
void transport_adopt_stream(struct transport *t, struct stream *s);

/* For struct replica_env_ops. */
void transport_peer_send_later(struct transport *t, uint64_t id, const char *address,
                               struct slice frame);
void transport_peer_flush(struct transport *t);
void transport_peer_send(struct transport *t, uint64_t id, const char *address, struct slice frame);
void transport_link_send(void *handle, struct slice frames);
size_t transport_link_pending_bytes(void *handle);
void transport_link_close(void *handle);
