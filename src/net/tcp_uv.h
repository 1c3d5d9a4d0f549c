/* Private to net/: sockets, shared by streams and listeners. */
#pragma once
#include <sys/socket.h>

#include "net/loop_uv.h"
#include "net/stream.h"

/* TCP_NODELAY and keepalive; TCP_USER_TIMEOUT when not 0. Failures are ignored: the connection
 * works without. */
void tcp_set_options(int fd, uint32_t user_timeout_ms);
/* A stream of a socket that was accepted from a listener, which it has its options from. Takes the
 * descriptor. */
int tcp_accepted(struct loop *l, int fd, const struct sockaddr_storage *peer,
                 struct stream **ret_stream) WARN_UNUSED;

/* What an idle stream may take: libuv's handle is 264 bytes of it, the rest is ours. With malloc's
 * overhead this is a chunk of 336. (docs/decisions/0020-idle-connections.md) */
enum { TCP_STREAM_BYTES = 328 };
