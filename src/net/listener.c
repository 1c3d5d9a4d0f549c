/* Listeners accept by themselves, not through uv_listen(): out of descriptors is then ours to
 * handle, and the listening socket is one we made (SO_REUSEPORT before bind). */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/tcp.h"
#include "net/tcp_uv.h"

enum {
    /* Accepted in one go before the connections already there get their turn. */
    ACCEPT_BURST = 64,
    /* Bounds listener_accept_all() when clients come faster than they are accepted. */
    ACCEPT_ALL_MAX = 16384,
    /* How long clients wait in the backlog when we are out of descriptors. */
    EXHAUSTED_PAUSE_MS = 50,
};

struct listener {
    uv_poll_t poll;
    uv_timer_t retry;
    struct loop *loop;
    int fd;
    /* An open descriptor kept to be given up: with it the process can still take a connection
     * off the backlog, to close it. */
    int reserve_fd;
    uint16_t port;
    bool paused;
    bool freed;
    int open_handles;
    uint64_t refused_count;
    accept_fn fn;
    void *ctx;
};

static void listener_poll(struct listener *l);

static int open_reserve(void) {
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_retry(uv_timer_t *timer) {
    struct listener *l = timer->data;
    if (l->reserve_fd < 0)
        l->reserve_fd = open_reserve();
    listener_poll(l);
}

/* Refuses one client, so that somebody hears of it, and lets the others wait a little. Accepting
 * on at once would spin: the socket stays readable while nothing can be accepted. */
static void on_exhausted(struct listener *l) {
    if (l->reserve_fd >= 0) {
        close(l->reserve_fd);
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        l->refused_count += fd >= 0;
        l->reserve_fd = open_reserve();
    }
    uv_poll_stop(&l->poll);
    uv_timer_start(&l->retry, on_retry, EXHAUSTED_PAUSE_MS, 0);
}

/* Returns false when there is nothing more to accept for now. */
static bool accept_one(struct listener *l) {
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    int fd = accept4(l->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            on_exhausted(l);
        /* EAGAIN: no more. Anything else concerns one client that has gone already (accept(2)
         * hands on pending network errors), or is tried again in the next turn. */
        return false;
    }
    struct stream *s;
    if (tcp_accepted(l->loop, fd, &peer, &s) == 0)
        l->fn(l->ctx, s);
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct listener *l = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPT_BURST && !l->paused && !l->freed; i++)
        if (!accept_one(l))
            return;
}

void listener_accept_all(struct listener *l) {
    for (int i = 0; i < ACCEPT_ALL_MAX && accept_one(l); i++)
        ;
}

static void listener_poll(struct listener *l) {
    if (l->paused || l->freed || uv_is_active((uv_handle_t *)&l->retry))
        uv_poll_stop(&l->poll);
    else
        uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

/* Returns the bound and listening socket, or a negative errno. */
static int listen_at(const struct addrinfo *at, bool reuse_port, int backlog) {
    const int on = 1, off = 0;
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              (!reuse_port || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
              (at->ai_family != AF_INET6 ||
               setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0) &&
              bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, backlog) == 0;
    if (ok) {
        tcp_set_options(fd, 0); /* accepted sockets have them from here: no call for each */
        return fd;
    }
    int error = -errno;
    close(fd);
    return error;
}

/* An empty host is every address: the IPv6 wildcard, which takes IPv4 as well, else the IPv4 one.
 * A name binds its first IPv4 address, else its first IPv6 one ("localhost" is 127.0.0.1 to most
 * clients). Blocks for the look-up: listeners are made at start-up. */
static int listen_on(const struct address *at, bool reuse_port, int backlog) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    bool any = at->host[0] == '\0';
    int first_family = any ? AF_INET6 : AF_INET;
    char port[8];
    snprintf(port, sizeof port, "%u", at->port);
    struct addrinfo *found;
    if (getaddrinfo(any ? NULL : at->host, port, &hints, &found) != 0)
        return -EADDRNOTAVAIL;
    int fd = -EADDRNOTAVAIL;
    for (int round = 0; round < 2 && fd < 0 && fd != -EADDRINUSE; round++)
        for (struct addrinfo *it = found; it && fd < 0; it = it->ai_next)
            if ((it->ai_family == first_family) == (round == 0))
                fd = listen_at(it, reuse_port, backlog);
    freeaddrinfo(found);
    return fd;
}

static uint16_t port_of(int fd) {
    struct sockaddr_in6 at = {0};
    socklen_t size = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        return 0;
    return ntohs(at.sin6_family == AF_INET6 ? at.sin6_port : ((struct sockaddr_in *)&at)->sin_port);
}

static void on_closed(uv_handle_t *handle) {
    struct listener *l = handle->data;
    if (--l->open_handles == 0)
        free(l);
}

int listener_new(struct loop *loop, const struct address *at, bool reuse_port, int backlog,
                 accept_fn fn, void *ctx, struct listener **ret_listener) {
    int fd = listen_on(at, reuse_port, backlog);
    if (fd < 0)
        return fd;
    struct listener *l = xcalloc(1, sizeof *l);
    int r = uv_poll_init(&loop->uv, &l->poll, fd);
    if (r < 0) {
        close(fd);
        free(l);
        return r;
    }
    uv_timer_init(&loop->uv, &l->retry);
    l->poll.data = l->retry.data = l;
    l->open_handles = 2;
    l->loop = loop;
    l->fd = fd;
    l->reserve_fd = open_reserve();
    l->port = port_of(fd);
    l->fn = fn;
    l->ctx = ctx;
    listener_poll(l);
    *ret_listener = l;
    return 0;
}

void listener_set_keepalive(struct listener *l, int idle_s) {
    const int on = idle_s > 0;
    (void)setsockopt(l->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (on)
        (void)setsockopt(l->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
}

uint16_t listener_port(const struct listener *l) {
    return l->port;
}

uint64_t listener_refused_count(const struct listener *l) {
    return l->refused_count;
}

void listener_pause(struct listener *l) {
    l->paused = true;
    listener_poll(l);
}

void listener_resume(struct listener *l) {
    l->paused = false;
    listener_poll(l);
}

void listener_free(struct listener *l) {
    if (!l)
        return;
    l->freed = true;
    uv_close((uv_handle_t *)&l->poll, on_closed);
    uv_close((uv_handle_t *)&l->retry, on_closed);
    /* uv_close() has stopped the polling, so the descriptors may go at once. */
    close(l->fd);
    if (l->reserve_fd >= 0)
        close(l->reserve_fd);
}
