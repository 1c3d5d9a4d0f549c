/* Private to net/: sockets, shared by streams and listeners. */
#pragma once
#include <sys/socket.h>

#include "net/loop_uv.h"
#include "net/stream.h"

/* TCP_NODELAY and keepalive; TCP_USER_TIMEOUT when not 0. Failures are ignored: the connection
 * works without. */
void tcp_set_options(int fd, uint32_t user_timeout_ms);
