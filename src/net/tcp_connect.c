/* Connecting: the addresses of a name, tried one after the other. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/tcp.h"
#include "net/tcp_uv.h"

/* A connection being made. Outlives its stream when that is closed during a name look-up, which
 * cannot always be cancelled. */
struct connecting {
    uv_getaddrinfo_t resolve;
    bool resolving;
    struct tcp_stream *stream; /* NULL: closed meanwhile */
    struct addrinfo *found;    /* all addresses of the name, freed at the end; NULL: was numeric */
    struct addrinfo *next;     /* what to try now, or when the one under way fails */
    struct addrinfo numeric;   /* the one address, when it was numeric */
    struct sockaddr_storage numeric_address;
    uint32_t user_timeout_ms;
    int error; /* of the last attempt */
    void (*on_connect)(void *ctx, struct stream *s);
    void *ctx;
};

static void connecting_free(struct connecting *c) {
    if (c->found)
        uv_freeaddrinfo(c->found);
    free(c);
}

void tcp_connect_cancel(struct tcp_stream *t) {
    struct connecting *c = t->more ? t->more->connecting : NULL;
    if (!c)
        return;
    t->more->connecting = NULL;
    c->stream = NULL;
    if (!c->resolving) /* else libuv has it, and on_resolved() frees it */
        connecting_free(c);
}

/* Something for libuv to close, so that what follows comes from the loop, while there is no socket.
 */
static void hold_place(struct tcp_stream *t) {
    uv_idle_init(&t->loop->uv, &t->uv.idle);
    t->uv.handle.data = t;
}

/* A new socket for each address, with its options set before it connects, since TCP_USER_TIMEOUT
 * also bounds the handshake. */
static int connect_to(struct tcp_stream *t, const struct addrinfo *to) {
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    tcp_set_options(fd, t->more->connecting->user_timeout_ms);
    int r = connect(fd, to->ai_addr, to->ai_addrlen) < 0 && errno != EINPROGRESS ? -errno : 0;
    if (r == 0)
        r = tcp_open(t, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    tcp_update_poll(t);
    return 0;
}

void tcp_connect_next(struct tcp_stream *t) {
    struct connecting *c = t->more->connecting;
    while (c->next) {
        struct addrinfo *to = c->next;
        c->next = to->ai_next;
        int r = connect_to(t, to);
        if (r == 0)
            return;
        c->error = r;
    }
    hold_place(t);
    tcp_end(t, c->error);
}

static void connected(struct tcp_stream *t) {
    struct connecting *c = t->more->connecting;
    t->more->connecting = NULL;
    tcp_set_state(t, STATE_OPEN);
    tcp_update_poll(t);
    if (c->on_connect)
        c->on_connect(c->ctx, &t->base);
    connecting_free(c);
    if (t->state == STATE_OPEN && t->shutdown_asked) {
        t->shutdown_asked = false;
        stream_shutdown(&t->base);
    }
}

void tcp_connect_ready(struct tcp_stream *t) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error == 0) {
        connected(t);
        return;
    }
    t->more->connecting->error = -error;
    tcp_drop_socket(t);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found) {
    struct connecting *c = CONTAINER_OF(req, struct connecting, resolve);
    c->resolving = false;
    c->found = found;
    if (!c->stream) {
        connecting_free(c);
        return;
    }
    c->next = found;
    /* The resolver has its own numbers; callers of net/ know errno. */
    c->error = status < 0 ? -EHOSTUNREACH : 0;
    tcp_drop_socket(c->stream);
}

static void use_numeric(struct connecting *c, const void *address, int family, size_t size) {
    memcpy(&c->numeric_address, address, size);
    c->numeric = (struct addrinfo){.ai_family = family,
                                   .ai_addr = (struct sockaddr *)&c->numeric_address,
                                   .ai_addrlen = (socklen_t)size};
    c->next = &c->numeric;
}

/* Begins a look-up, or finds that none is needed: then the first attempt comes from the loop. */
static int connect_begin(struct tcp_stream *t, const struct address *a) {
    struct connecting *c = t->more->connecting;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (uv_ip4_addr(a->host, a->port, &v4) == 0) {
        use_numeric(c, &v4, AF_INET, sizeof v4);
    } else if (uv_ip6_addr(a->host, a->port, &v6) == 0) {
        use_numeric(c, &v6, AF_INET6, sizeof v6);
    } else {
        char port[8];
        snprintf(port, sizeof port, "%u", a->port);
        const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
        int r = uv_getaddrinfo(&t->loop->uv, &c->resolve, on_resolved, a->host, port, &hints);
        c->resolving = r == 0;
        return r;
    }
    tcp_drop_socket(t);
    return 0;
}

struct stream *tcp_connect(struct loop *l, const char *address, uint32_t user_timeout_ms,
                           void (*on_connected)(void *ctx, struct stream *s), void *ctx) {
    struct tcp_stream *t = tcp_new(l);
    struct address a;
    hold_place(t);
    t->state = STATE_CONNECTING;
    tcp_more_of(t)->name = xstrdup(address);
    if (!address_parse(address, &a) || a.port == 0) {
        tcp_end(t, -EINVAL);
        return &t->base;
    }
    struct connecting *c = xcalloc(1, sizeof *c);
    c->stream = t;
    c->user_timeout_ms = user_timeout_ms;
    c->on_connect = on_connected;
    c->ctx = ctx;
    t->more->connecting = c;
    int r = connect_begin(t, &a);
    if (r < 0)
        tcp_end(t, r);
    return &t->base;
}
