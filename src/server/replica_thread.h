/* The database node of a process: its thread, loop, disk and network around struct node. */
#pragma once
#include "net/tls_peer.h"
#include "replica/identity.h"
#include "replica/node.h"
#include "replica/transport.h"
#include "server/options.h"

struct replica_thread;

/* Locks the data folder and listens on the peer port, with TLS unless `tls` (borrowed) is NULL.
 * Errors are said on stderr; NULL then. */
struct replica_thread *replica_thread_prepare(const struct server_options *o, struct tls_peer *tls);
/* Our peer address as others reach it; the port is known from prepare on. */
/* What the node says of itself to other threads; lives as long as the replica thread's struct. */
const struct node_gauges *replica_thread_gauges(const struct replica_thread *t);
const char *replica_thread_address(const struct replica_thread *t);
struct transport *replica_thread_transport(struct replica_thread *t);
struct loop *replica_thread_loop(struct replica_thread *t);
/* Opens the node's state and starts the thread. False: said on stderr. */
bool replica_thread_start(struct replica_thread *t, const struct identity *id,
                          const char *http_address, const char *redis_address);
/* Through it other threads of the process read the node's store; valid until
 * replica_thread_free(). */
struct store_gate *replica_thread_gate(struct replica_thread *t);
/* Any thread: hands leadership over, stops, closes cleanly; returns when done. Returns the store's
 * and the log's verdict: 0, or a negative errno when they could not be closed cleanly. */
int replica_thread_stop(struct replica_thread *t);
void replica_thread_free(struct replica_thread *t);
