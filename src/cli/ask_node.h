/* One administrative request to a database node, on its peer port: for commands that must not
 * depend on somebody's HTTP. */
#pragma once
#include "base/buf.h"
#include "gateway/upstream.h"
#include "net/tls_peer.h"

/* Takes the packed argv, borrows tls (NULL: plain). Waits for the answer, or the time limit;
 * appends the reply (for a request that was given up: an error reply that says why). */
enum upstream_outcome ask_node(const char *peer_address, struct tls_peer *tls,
                               struct buf *packed_argv, uint32_t timeout_ms, struct buf *ret_reply);
