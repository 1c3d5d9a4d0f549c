/* Private to net/: streams over sockets, shared by tcp.c (their life), tcp_connect.c (how they
 * begin on our side) and listener.c.
 *
 * libuv only says when a socket is ready (uv_poll_t); reading and writing are done here. Its own
 * streams take 90 bytes more each, for what an idle client does not need. A process holds tens of
 * thousands of streams and most are idle, so struct tcp_stream has what every stream always needs,
 * and struct tcp_more the rest. (docs/decisions/0020-idle-connections.md)
 */
#pragma once
#include <assert.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "net/loop_uv.h"
#include "net/stream.h"

/*   CONNECTING --> OPEN --> FLUSHING --> LINGERING --> CLOSING
 *        |          |          |                         ^
 *        +----------+----------+-------------------------+
 * FLUSHING: stream_shutdown() was called, bytes are still to be sent. A CONNECTING stream that is
 * shut down becomes FLUSHING when it is connected. */
enum tcp_state { STATE_CONNECTING, STATE_OPEN, STATE_FLUSHING, STATE_LINGERING, STATE_CLOSING };

struct connecting;

/* What a stream has only while bytes wait, while it connects or lingers, or when it was made by
 * tcp_connect(): an idle client's has none. Freed when the last bytes are out. */
struct tcp_more {
    struct buf sending; /* what is being sent, from `sent` on */
    size_t sent;
    struct buf waiting; /* what was written meanwhile */
    struct connecting *connecting;
    struct tcp_stream *stream;
    struct list linger_node; /* in loop.lingering */
    uint64_t linger_until_ms;
    char *name; /* what was connected to; NULL: accepted */
};

struct tcp_stream {
    struct stream base;
    struct loop *loop;
    union {
        uv_handle_t handle;
        uv_poll_t poll;
        uv_idle_t idle; /* before there is a socket: something to close */
    } uv;
    struct tcp_more *more; /* NULL: nothing of that */
    uint8_t ip[16];        /* of the peer, IPv4 as ::ffff:a.b.c.d */
    int fd;                /* -1: none */
    int error;             /* what on_close will say */
    uint16_t port;
    uint8_t state;
    uint8_t polled; /* UV_READABLE, UV_WRITABLE: what libuv looks for */
    bool known : 1; /* `ip` and `port` are set */
    bool local : 1; /* a socketpair */
    bool paused : 1;
    bool eof : 1; /* the peer sends no more */
    bool shutdown_asked : 1;
};
static_assert(sizeof(struct tcp_stream) <= 232, "see above");

/* TCP_NODELAY and keepalive; TCP_USER_TIMEOUT when not 0. Failures are ignored: the connection
 * works without. */
void tcp_set_options(int fd, uint32_t user_timeout_ms);
/* A stream of a socket that was accepted from a listener, which it has its options from. Takes the
 * descriptor. */
int tcp_accepted(struct loop *l, int fd, const struct sockaddr_storage *peer,
                 struct stream **ret_stream) WARN_UNUSED;

struct tcp_stream *tcp_new(struct loop *l);
struct tcp_more *tcp_more_of(struct tcp_stream *t);
void tcp_set_state(struct tcp_stream *t, enum tcp_state state);
/* Has libuv look at the descriptor from now on; takes it. */
int tcp_open(struct tcp_stream *t, int fd) WARN_UNUSED;
/* Brings what libuv looks for in line with the stream's state. */
void tcp_update_poll(struct tcp_stream *t);
/* Gives up the socket, to go on with another one: tcp_connect_next() follows from the loop. */
void tcp_drop_socket(struct tcp_stream *t);
/* Ends the stream; on_close follows from the loop. The first error is the one reported. */
void tcp_end(struct tcp_stream *t, int error);

/* tcp_connect.c: for a CONNECTING stream. */
void tcp_connect_next(struct tcp_stream *t);
void tcp_connect_ready(struct tcp_stream *t); /* the socket is connected, or has failed to */
void tcp_connect_cancel(struct tcp_stream *t);
