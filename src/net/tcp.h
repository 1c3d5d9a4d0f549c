/* TCP streams and listeners, and streams over a socketpair. All sockets: non-blocking,
 * close-on-exec, TCP_NODELAY, keepalive. Errors are negative errno. */
#pragma once
#include "net/loop.h"
#include "net/stream.h"

/* "host:port", "[v6]:port" or ":port" (all addresses). */
struct address {
    char host[256];
    uint16_t port;
};
bool address_parse(const char *text, struct address *ret_address);
/* True for loopback hosts only: 127/8, ::1, localhost. */
bool address_is_loopback(const struct address *a);

struct listener;
/* The stream has no handler yet: the callback must set one, or close it. */
typedef void (*accept_fn)(void *ctx, struct stream *s);
/* Listens with SO_REUSEADDR, and SO_REUSEPORT when reuse_port. Port 0 picks a free one. */
int listener_new(struct loop *l, const struct address *at, bool reuse_port, int backlog,
                 accept_fn fn, void *ctx, struct listener **ret_listener) WARN_UNUSED;
/* For those accepted from now on: how long they are silent before the kernel asks whether the peer
 * is still there; 0: never, for protocols whose connections all have time limits. 200,000 idle
 * clients that are asked every 30 s are asked by the ten thousand at a time, since the kernel's
 * timers are coarse: every two seconds that took 20 ms. */
void listener_set_keepalive(struct listener *l, int idle_s);
uint16_t listener_port(const struct listener *l);
/* Clients closed right after they were accepted because the process was out of descriptors. Others
 * wait in the backlog then, and are accepted when descriptors come free. */
uint64_t listener_refused_count(const struct listener *l);
/* While paused, clients wait in the backlog. */
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);
/* Accepts now all that wait in the backlog: before listener_free(), which would reset them. */
void listener_accept_all(struct listener *l);
void listener_free(struct listener *l);

/* Connects (names are resolved off the loop). The stream is returned at once, its handler set by
 * the caller; what is written before the connection stands is kept and sent then. on_connect, when
 * not NULL, says that it stands; a failure comes as on_close. user_timeout_ms: TCP_USER_TIMEOUT, 0
 * for the system's. */
struct stream *tcp_connect(struct loop *l, const char *address, uint32_t user_timeout_ms,
                           void (*on_connect)(void *ctx, struct stream *s), void *ctx);
/* Both ends of a socketpair as streams, on two loops (each handler is to be set on its own thread:
 * hand the descriptor over and call stream_from_fd() there). */
int socketpair_new(int ret_fds[2]) WARN_UNUSED;
/* Takes the connected descriptor, and closes it when that fails. */
int stream_from_fd(struct loop *l, int fd, struct stream **ret_stream) WARN_UNUSED;
