#include "net/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/tcp_uv.h"

enum {
    /* How long we go on reading what the peer still sends after our last byte is out. Closing with
     * unread bytes makes the kernel reset the connection, and a reset can overtake the answer that
     * the peer has not read yet (RFC 9112 section 9.6). */
    LINGER_MS = 2000,
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_INTERVAL_S = 10,
    KEEPALIVE_PROBES = 3,
};

/*   CONNECTING --> OPEN --> FLUSHING --> LINGERING --> CLOSING
 *        |          |          |                         ^
 *        +----------+----------+-------------------------+
 * FLUSHING: stream_shutdown() was called, bytes are still to be sent. A CONNECTING stream that is
 * shut down becomes FLUSHING when it is connected. */
enum tcp_state { STATE_CONNECTING, STATE_OPEN, STATE_FLUSHING, STATE_LINGERING, STATE_CLOSING };

static const uint8_t allowed[] = {
    [STATE_CONNECTING] = 1 << STATE_OPEN | 1 << STATE_CLOSING,
    [STATE_OPEN] = 1 << STATE_FLUSHING | 1 << STATE_CLOSING,
    [STATE_FLUSHING] = 1 << STATE_LINGERING | 1 << STATE_CLOSING,
    [STATE_LINGERING] = 1 << STATE_CLOSING,
    [STATE_CLOSING] = 0,
};

/* A connection being made. Outlives its stream when that is closed during a name look-up, which
 * cannot always be cancelled. */
struct connecting {
    union {
        uv_getaddrinfo_t resolve;
        uv_connect_t connect;
    } req;
    struct tcp_stream *stream; /* NULL: closed meanwhile */
    struct addrinfo *found;    /* all addresses of the name, freed at the end; NULL: was numeric */
    struct addrinfo *next;     /* what to try when the one under way fails */
    uint32_t user_timeout_ms;
    int error; /* of the last attempt */
    void (*on_connect)(void *ctx, struct stream *s);
    void *ctx;
};

struct tcp_stream {
    struct stream base;
    struct loop *loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uint8_t state;
    bool paused;
    bool eof; /* the peer sends no more */
    bool shutdown_asked;
    bool writing; /* `write` is under way with the bytes of `sending` */
    int error;    /* what on_close will say */
    uv_write_t write;
    struct buf sending; /* both without memory while nothing waits */
    struct buf waiting;
    struct connecting *connecting;
    struct list linger_node; /* in loop.lingering */
    uint64_t linger_until_ms;
    struct sockaddr_in6 peer; /* or a sockaddr_in; family 0: see peer_text */
    char *peer_text;          /* made when first asked for */
};

static const struct stream_ops tcp_ops;

static void set_state(struct tcp_stream *t, enum tcp_state state) {
    CHECK(allowed[t->state] & 1 << state);
    t->state = (uint8_t)state;
}

static struct tcp_stream *tcp_of(const struct stream *s) {
    CHECK(s->ops == &tcp_ops);
    return CONTAINER_OF(s, struct tcp_stream, base);
}

void tcp_set_options(int fd, uint32_t user_timeout_ms) {
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, (int)user_timeout_ms},
    };
    for (size_t i = 0; i < ARRAY_COUNT(options); i++)
        if (options[i].value != 0)
            (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

/* ---- the end ---- */

static void connecting_free(struct connecting *c) {
    if (c->found)
        uv_freeaddrinfo(c->found);
    free(c);
}

static void connect_next(struct tcp_stream *t);

static void on_handle_closed(uv_handle_t *handle) {
    struct tcp_stream *t = handle->data;
    if (t->state != STATE_CLOSING) {
        /* One address did not answer: try the name's next with a new socket. */
        uv_tcp_init(&t->loop->uv, &t->uv.tcp);
        t->uv.handle.data = t;
        connect_next(t);
        return;
    }
    if (t->base.handler && t->base.handler->on_close)
        t->base.handler->on_close(t->base.ctx, t->error);
    list_remove(&t->linger_node);
    buf_fini(&t->sending);
    buf_fini(&t->waiting);
    free(t->peer_text);
    free(t);
}

/* Ends the stream; on_close follows from the loop. The first error is the one reported. */
static void end(struct tcp_stream *t, int error) {
    if (t->state == STATE_CLOSING)
        return;
    set_state(t, STATE_CLOSING);
    t->error = error;
    list_remove(&t->linger_node);
    if (t->connecting) {
        t->connecting->stream = NULL;
        /* While a name is looked up or a connection attempted libuv owns the request, and its
         * callback frees it. Between two attempts there is none, and the handle is closing. */
        if (uv_is_closing(&t->uv.handle))
            connecting_free(t->connecting);
        t->connecting = NULL;
    }
    if (!uv_is_closing(&t->uv.handle))
        uv_close(&t->uv.handle, on_handle_closed);
}

static void linger_expire(uv_timer_t *timer) {
    struct loop *l = timer->data;
    uint64_t now = loop_now_ms(l);
    struct list *first;
    while ((first = list_first(&l->lingering))) {
        struct tcp_stream *t = LIST_ENTRY(first, struct tcp_stream, linger_node);
        if (t->linger_until_ms > now) {
            uv_update_time(&l->uv);
            uv_timer_start(timer, linger_expire, t->linger_until_ms - now, 0);
            return;
        }
        end(t, 0);
    }
}

static void linger(struct tcp_stream *t) {
    set_state(t, STATE_LINGERING);
    int fd;
    /* All bytes are out, so the shutdown does not have to wait for anything. */
    if (t->eof || uv_fileno(&t->uv.handle, &fd) < 0 || shutdown(fd, SHUT_WR) < 0) {
        end(t, 0);
        return;
    }
    struct loop *l = t->loop;
    t->linger_until_ms = loop_now_ms(l) + LINGER_MS;
    if (list_empty(&l->lingering)) {
        uv_update_time(&l->uv);
        uv_timer_start(&l->linger_timer, linger_expire, LINGER_MS, 0);
    }
    list_push_back(&l->lingering, &t->linger_node);
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret) {
    struct tcp_stream *t = handle->data;
    *ret = uv_buf_init(t->loop->read_buffer, sizeof t->loop->read_buffer);
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf) {
    struct tcp_stream *t = uv->data;
    if (t->state == STATE_CLOSING || n == 0)
        return;
    if (n > 0) {
        struct loop *l = t->loop;
        if (t->state == STATE_OPEN)
            t->base.handler->on_read(t->base.ctx, slice_of(buf->base, (size_t)n));
        loop_breathe(l, (size_t)n);
        return;
    }
    if (n != UV_EOF) {
        end(t, (int)n);
        return;
    }
    t->eof = true;
    uv_read_stop(uv);
    if (t->state == STATE_OPEN && t->base.handler->on_eof)
        t->base.handler->on_eof(t->base.ctx);
    else if (t->state != STATE_FLUSHING)
        end(t, 0);
}

/* Brings libuv's reading in line with what is wanted now. While the last bytes go out, and behind
 * them, we read to discard. */
static void update_reading(struct tcp_stream *t) {
    if (t->state == STATE_CLOSING || t->state == STATE_CONNECTING)
        return;
    if (t->eof || (t->state == STATE_OPEN && t->paused))
        uv_read_stop(&t->uv.stream);
    else
        /* Says EALREADY when it is reading, and nothing else can go wrong here. */
        (void)uv_read_start(&t->uv.stream, on_alloc, on_read);
}

static void tcp_pause(struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    t->paused = true;
    update_reading(t);
}

static void tcp_resume(struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    t->paused = false;
    update_reading(t);
}

/* ---- writing ---- */

static void on_written(uv_write_t *req, int status);

static void send_waiting(struct tcp_stream *t) {
    struct buf empty = t->sending;
    t->sending = t->waiting;
    t->waiting = empty;
    uv_buf_t buf = uv_buf_init((char *)t->sending.data, (unsigned)t->sending.size);
    t->write.data = t;
    int r = uv_write(&t->write, &t->uv.stream, &buf, 1, on_written);
    if (r < 0)
        end(t, r);
    else
        t->writing = true;
}

static void on_written(uv_write_t *req, int status) {
    struct tcp_stream *t = req->data;
    t->writing = false;
    buf_fini(&t->sending);
    if (t->state == STATE_CLOSING)
        return;
    if (status < 0) {
        end(t, status);
        return;
    }
    if (t->waiting.size) {
        send_waiting(t);
        return;
    }
    if (t->state == STATE_FLUSHING)
        linger(t);
    else if (t->base.handler->on_drain)
        t->base.handler->on_drain(t->base.ctx);
}

static void tcp_write(struct stream *s, struct slice bytes) {
    struct tcp_stream *t = tcp_of(s);
    if (t->state > STATE_OPEN || t->shutdown_asked || bytes.size == 0)
        return;
    if (t->state == STATE_OPEN && !t->writing) {
        /* libuv takes sizes as unsigned int; what is over goes into the queue. */
        unsigned n = bytes.size > INT32_MAX ? INT32_MAX : (unsigned)bytes.size;
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes.data, n);
        int r = uv_try_write(&t->uv.stream, &buf, 1);
        if (r < 0 && r != UV_EAGAIN) {
            end(t, r);
            return;
        }
        size_t done = r > 0 ? (size_t)r : 0;
        bytes = slice_of(bytes.data + done, bytes.size - done);
        if (bytes.size == 0)
            return;
    }
    buf_append_slice(&t->waiting, bytes);
    if (t->state == STATE_OPEN && !t->writing)
        send_waiting(t);
}

static size_t tcp_pending_bytes(const struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    return t->waiting.size + (t->writing ? uv_stream_get_write_queue_size(&t->uv.stream) : 0);
}

static void tcp_shutdown(struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    if (t->shutdown_asked || t->state > STATE_OPEN)
        return;
    t->shutdown_asked = true;
    if (t->state != STATE_OPEN)
        return;
    set_state(t, STATE_FLUSHING);
    if (!t->writing)
        linger(t);
    update_reading(t);
}

static void tcp_close(struct stream *s) {
    end(tcp_of(s), 0);
}

/* ---- who it is ---- */

static const char *tcp_peer(const struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    if (t->peer_text)
        return t->peer_text;
    char host[INET6_ADDRSTRLEN] = "";
    char text[INET6_ADDRSTRLEN + 16] = "local";
    if (t->peer.sin6_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&t->peer;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text, sizeof text, "%s:%u", host, ntohs(v4->sin_port));
    } else if (t->peer.sin6_family == AF_INET6) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&t->peer.sin6_addr);
        if (mapped)
            inet_ntop(AF_INET, &t->peer.sin6_addr.s6_addr[12], host, sizeof host);
        else
            inet_ntop(AF_INET6, &t->peer.sin6_addr, host, sizeof host);
        snprintf(text, sizeof text, mapped ? "%s:%u" : "[%s]:%u", host, ntohs(t->peer.sin6_port));
    }
    return t->peer_text = xstrdup(text);
}

static const struct stream_ops tcp_ops = {
    .write = tcp_write,
    .pause = tcp_pause,
    .resume = tcp_resume,
    .shutdown = tcp_shutdown,
    .close = tcp_close,
    .pending_bytes = tcp_pending_bytes,
    .peer = tcp_peer,
};

/* ---- beginning ---- */

static struct tcp_stream *tcp_new(struct loop *l) {
    struct tcp_stream *t = xcalloc(1, sizeof *t);
    t->base.ops = &tcp_ops;
    t->loop = l;
    list_init(&t->linger_node);
    return t;
}

int stream_from_fd(struct loop *l, int fd, struct stream **ret_stream) {
    struct tcp_stream *t = tcp_new(l);
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof own;
    int r = getsockname(fd, (struct sockaddr *)&own, &size);
    if (r == 0 && (own.ss_family == AF_INET || own.ss_family == AF_INET6)) {
        size = sizeof t->peer;
        /* A client that has reset the connection already has no address any more. */
        if (getpeername(fd, (struct sockaddr *)&t->peer, &size) < 0)
            t->peer_text = xstrdup("unknown");
        tcp_set_options(fd, 0);
        uv_tcp_init(&l->uv, &t->uv.tcp);
        r = uv_tcp_open(&t->uv.tcp, fd);
    } else {
        uv_pipe_init(&l->uv, &t->uv.pipe, 0);
        r = uv_pipe_open(&t->uv.pipe, fd);
    }
    t->uv.handle.data = t;
    t->state = STATE_OPEN;
    if (r < 0) {
        /* No handler is set, so nobody hears of the end. */
        end(t, r);
        close(fd);
        return r;
    }
    update_reading(t);
    *ret_stream = &t->base;
    return 0;
}

int socketpair_new(int ret_fds[2]) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_fds) < 0 ? -errno
                                                                                           : 0;
}

/* ---- connecting ---- */

static void connected(struct tcp_stream *t, struct connecting *c) {
    t->connecting = NULL;
    set_state(t, STATE_OPEN);
    bool flush = t->waiting.size > 0;
    if (flush)
        send_waiting(t);
    update_reading(t);
    if (t->state == STATE_OPEN && c->on_connect)
        c->on_connect(c->ctx, &t->base);
    connecting_free(c);
    if (t->state == STATE_OPEN && t->shutdown_asked) {
        t->shutdown_asked = false;
        tcp_shutdown(&t->base);
    }
}

static void on_connect(uv_connect_t *req, int status) {
    struct connecting *c = req->data;
    struct tcp_stream *t = c->stream;
    if (!t) {
        connecting_free(c);
        return;
    }
    if (status == 0) {
        connected(t, c);
        return;
    }
    c->error = status;
    uv_close(&t->uv.handle, on_handle_closed);
}

/* A new socket for each address, with its options set before it connects, since TCP_USER_TIMEOUT
 * also bounds the handshake. */
static int connect_to(struct tcp_stream *t, const struct sockaddr *to) {
    struct connecting *c = t->connecting;
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    tcp_set_options(fd, c->user_timeout_ms);
    int r = uv_tcp_open(&t->uv.tcp, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    c->req.connect.data = c;
    return uv_tcp_connect(&c->req.connect, &t->uv.tcp, to, on_connect);
}

static void connect_next(struct tcp_stream *t) {
    struct connecting *c = t->connecting;
    if (!c->next) {
        int error = c->error;
        connecting_free(c);
        t->connecting = NULL;
        end(t, error);
        return;
    }
    const struct sockaddr *to = c->next->ai_addr;
    c->next = c->next->ai_next;
    int r = connect_to(t, to);
    if (r < 0) {
        c->error = r;
        uv_close(&t->uv.handle, on_handle_closed);
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found) {
    struct connecting *c = req->data;
    c->found = found;
    if (!c->stream) {
        connecting_free(c);
        return;
    }
    c->next = found;
    /* The resolver has its own numbers; callers of net/ know errno. */
    c->error = status < 0 ? -EHOSTUNREACH : 0;
    connect_next(c->stream);
}

static int connect_begin(struct tcp_stream *t, const struct address *a) {
    struct connecting *c = t->connecting;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (uv_ip4_addr(a->host, a->port, &v4) == 0)
        return connect_to(t, (const struct sockaddr *)&v4);
    if (uv_ip6_addr(a->host, a->port, &v6) == 0)
        return connect_to(t, (const struct sockaddr *)&v6);
    char port[8];
    snprintf(port, sizeof port, "%u", a->port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    c->req.resolve.data = c;
    return uv_getaddrinfo(&t->loop->uv, &c->req.resolve, on_resolved, a->host, port, &hints);
}

struct stream *tcp_connect(struct loop *l, const char *address, uint32_t user_timeout_ms,
                           void (*on_connected)(void *ctx, struct stream *s), void *ctx) {
    struct tcp_stream *t = tcp_new(l);
    struct address a;
    uv_tcp_init(&l->uv, &t->uv.tcp);
    t->uv.handle.data = t;
    t->state = STATE_CONNECTING;
    t->peer_text = xstrdup(address);
    if (!address_parse(address, &a) || a.port == 0) {
        end(t, -EINVAL);
        return &t->base;
    }
    struct connecting *c = xcalloc(1, sizeof *c);
    *c = (struct connecting){
        .stream = t, .user_timeout_ms = user_timeout_ms, .on_connect = on_connected, .ctx = ctx};
    t->connecting = c;
    int r = connect_begin(t, &a);
    if (r < 0) {
        connecting_free(c);
        t->connecting = NULL;
        end(t, r);
    }
    return &t->base;
}
