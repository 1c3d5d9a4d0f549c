#include "net/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/tcp_uv.h"

enum {
    /* How long we go on reading what the peer still sends after our last byte is out. Closing with
     * unread bytes makes the kernel reset the connection, and a reset can overtake the answer that
     * the peer has not read yet (RFC 9112 section 9.6). */
    LINGER_MS = 2000,
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_INTERVAL_S = 10,
    KEEPALIVE_PROBES = 3,
    /* Full buffers read from one stream before the others get their turn. */
    READS_MAX = 8,
};

static const uint8_t allowed[] = {
    [STATE_CONNECTING] = 1 << STATE_OPEN | 1 << STATE_CLOSING,
    [STATE_OPEN] = 1 << STATE_FLUSHING | 1 << STATE_CLOSING,
    [STATE_FLUSHING] = 1 << STATE_LINGERING | 1 << STATE_CLOSING,
    [STATE_LINGERING] = 1 << STATE_CLOSING,
    [STATE_CLOSING] = 0,
};

static const struct stream_ops tcp_ops;

void tcp_set_state(struct tcp_stream *t, enum tcp_state state) {
    CHECK(allowed[t->state] & 1 << state);
    t->state = (uint8_t)state;
}

static struct tcp_stream *tcp_of(const struct stream *s) {
    CHECK(s->ops == &tcp_ops);
    return CONTAINER_OF(s, struct tcp_stream, base);
}

struct tcp_more *tcp_more_of(struct tcp_stream *t) {
    if (!t->more) {
        t->more = xcalloc(1, sizeof *t->more);
        t->more->stream = t;
        list_init(&t->more->linger_node);
    }
    return t->more;
}

static size_t unsent_bytes(const struct tcp_stream *t) {
    return t->more ? t->more->sending.size - t->more->sent + t->more->waiting.size : 0;
}

static void more_free(struct tcp_stream *t) {
    if (!t->more)
        return;
    list_remove(&t->more->linger_node);
    buf_fini(&t->more->sending);
    buf_fini(&t->more->waiting);
    free(t->more->name);
    free(t->more);
    t->more = NULL;
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

static void on_handle_closed(uv_handle_t *handle) {
    struct tcp_stream *t = handle->data;
    if (t->state != STATE_CLOSING) {
        tcp_connect_next(t);
        return;
    }
    if (t->base.handler && t->base.handler->on_close)
        t->base.handler->on_close(t->base.ctx, t->error);
    more_free(t);
    pool_free(&t->loop->streams, t);
}

/* libuv stops polling at once, so the descriptor may go before the handle has closed. */
void tcp_drop_socket(struct tcp_stream *t) {
    if (!uv_is_closing(&t->uv.handle))
        uv_close(&t->uv.handle, on_handle_closed);
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
    t->polled = 0;
}

void tcp_end(struct tcp_stream *t, int error) {
    if (t->state == STATE_CLOSING)
        return;
    tcp_connect_cancel(t);
    tcp_set_state(t, STATE_CLOSING);
    t->error = error;
    if (t->more)
        list_remove(&t->more->linger_node);
    tcp_drop_socket(t);
}

static void linger_expire(uv_timer_t *timer) {
    struct loop *l = timer->data;
    uint64_t now = loop_now_ms(l);
    struct list *first;
    while ((first = list_first(&l->lingering))) {
        struct tcp_more *m = LIST_ENTRY(first, struct tcp_more, linger_node);
        if (m->linger_until_ms > now) {
            uv_update_time(&l->uv);
            uv_timer_start(timer, linger_expire, m->linger_until_ms - now, 0);
            return;
        }
        tcp_end(m->stream, 0);
    }
}

static void linger(struct tcp_stream *t) {
    tcp_set_state(t, STATE_LINGERING);
    /* All bytes are out, so the shutdown does not have to wait for anything. */
    if (t->eof || shutdown(t->fd, SHUT_WR) < 0) {
        tcp_end(t, 0);
        return;
    }
    struct loop *l = t->loop;
    struct tcp_more *m = tcp_more_of(t);
    m->linger_until_ms = loop_now_ms(l) + LINGER_MS;
    if (list_empty(&l->lingering)) {
        uv_update_time(&l->uv);
        uv_timer_start(&l->linger_timer, linger_expire, LINGER_MS, 0);
    }
    list_push_back(&l->lingering, &m->linger_node);
    tcp_update_poll(t);
}

/* ---- reading ---- */

/* While the last bytes go out, and behind them, we read to discard. */
static bool wants_to_read(const struct tcp_stream *t) {
    return !t->eof && t->state != STATE_CONNECTING && t->state != STATE_CLOSING &&
           !(t->state == STATE_OPEN && t->paused);
}

static void take_eof(struct tcp_stream *t) {
    t->eof = true;
    tcp_update_poll(t);
    if (t->state == STATE_OPEN && t->base.handler->on_eof)
        t->base.handler->on_eof(t->base.ctx);
    else if (t->state != STATE_FLUSHING)
        tcp_end(t, 0);
}

/* Reads what is there, as long as it is wanted: a handler may pause or end the stream. */
static void read_some(struct tcp_stream *t) {
    char *buffer = t->loop->read_buffer;
    const size_t size = sizeof t->loop->read_buffer;
    for (int i = 0; i < READS_MAX && wants_to_read(t); i++) {
        ssize_t n = recv(t->fd, buffer, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                tcp_end(t, -errno);
            return;
        }
        if (n == 0) {
            take_eof(t);
            return;
        }
        if (t->state == STATE_OPEN)
            t->base.handler->on_read(t->base.ctx, slice_of(buffer, (size_t)n));
        loop_breathe(t->loop, (size_t)n);
        if ((size_t)n < size)
            return;
    }
}

static void tcp_pause(struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    t->paused = true;
    tcp_update_poll(t);
}

static void tcp_resume(struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    t->paused = false;
    tcp_update_poll(t);
}

/* ---- writing ---- */

/* The kernel took nothing, as errno says: 0 when it does not now; negative when the stream has
 * ended by it. */
static ssize_t send_failed(struct tcp_stream *t) {
    if (errno == EAGAIN)
        return 0;
    int error = -errno;
    tcp_end(t, error);
    return error;
}

/* How much of it the kernel takes now; negative when the stream has ended by it. */
static ssize_t send_some(struct tcp_stream *t, struct slice bytes) {
    ssize_t n;
    do
        n = send(t->fd, bytes.data, bytes.size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : send_failed(t);
}

/* The socket takes bytes again. */
static void send_waiting(struct tcp_stream *t) {
    while (unsent_bytes(t) > 0) {
        struct tcp_more *m = t->more;
        if (m->sent == m->sending.size) {
            buf_fini(&m->sending);
            m->sending = m->waiting;
            m->waiting = (struct buf){0};
            m->sent = 0;
        }
        ssize_t n = send_some(t, slice_of(m->sending.data + m->sent, m->sending.size - m->sent));
        if (n <= 0)
            return;
        m->sent += (size_t)n;
    }
    if (t->more && !t->more->name) {
        more_free(t);
    } else if (t->more) {
        buf_fini(&t->more->sending);
        t->more->sent = 0;
    }
    if (t->state == STATE_FLUSHING) {
        linger(t);
        return;
    }
    tcp_update_poll(t);
    if (t->base.handler->on_drain)
        t->base.handler->on_drain(t->base.ctx);
}

static void skip(struct slice *bytes, size_t *done) {
    size_t n = *done < bytes->size ? *done : bytes->size;
    *bytes = slice_of(bytes->data + n, bytes->size - n);
    *done -= n;
}

/* send_some() of two pieces. */
static ssize_t send_two(struct tcp_stream *t, struct slice first, struct slice second) {
    struct iovec pieces[2] = {{(void *)(uintptr_t)first.data, first.size},
                              {(void *)(uintptr_t)second.data, second.size}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    ssize_t n;
    do
        n = sendmsg(t->fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : send_failed(t);
}

static void tcp_write2(struct stream *s, struct slice first, struct slice second) {
    struct tcp_stream *t = tcp_of(s);
    if (t->state > STATE_OPEN || t->shutdown_asked || first.size + second.size == 0)
        return;
    if (t->state == STATE_OPEN && unsent_bytes(t) == 0) {
        ssize_t n = second.size ? send_two(t, first, second) : send_some(t, first);
        if (n < 0 || (size_t)n == first.size + second.size)
            return;
        size_t done = (size_t)n;
        skip(&first, &done);
        skip(&second, &done);
    }
    struct buf *waiting = &tcp_more_of(t)->waiting;
    buf_append_slice(waiting, first);
    buf_append_slice(waiting, second);
    tcp_update_poll(t);
}

static void tcp_write(struct stream *s, struct slice bytes) {
    tcp_write2(s, bytes, slice_of(NULL, 0));
}

static size_t tcp_pending_bytes(const struct stream *s) {
    return unsent_bytes(tcp_of(s));
}

static void tcp_shutdown(struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    if (t->shutdown_asked || t->state > STATE_OPEN)
        return;
    t->shutdown_asked = true;
    if (t->state != STATE_OPEN)
        return;
    tcp_set_state(t, STATE_FLUSHING);
    if (unsent_bytes(t) == 0)
        linger(t);
    else
        tcp_update_poll(t);
}

static void tcp_close(struct stream *s) {
    tcp_end(tcp_of(s), 0);
}

/* ---- readiness ---- */

/* libuv reports an error of the socket by itself, and has stopped polling. Bytes that came before
 * it are there to be read first. */
static void on_socket_error(struct tcp_stream *t) {
    t->polled = 0;
    if (wants_to_read(t))
        read_some(t);
    if (t->state == STATE_CLOSING)
        return;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0)
        tcp_end(t, -error);
    else
        tcp_update_poll(t);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct tcp_stream *t = poll->data;
    if (t->state == STATE_CONNECTING) {
        tcp_connect_ready(t);
        return;
    }
    if (status < 0) {
        on_socket_error(t);
        return;
    }
    if (events & UV_READABLE)
        read_some(t);
    if ((events & UV_WRITABLE) && t->state != STATE_CLOSING && unsent_bytes(t) > 0)
        send_waiting(t);
}

void tcp_update_poll(struct tcp_stream *t) {
    int events = 0;
    if (t->state == STATE_CLOSING || t->fd < 0)
        return;
    if (wants_to_read(t))
        events |= UV_READABLE;
    if (t->state == STATE_CONNECTING || unsent_bytes(t) > 0)
        events |= UV_WRITABLE;
    if (events == t->polled)
        return;
    t->polled = (uint8_t)events;
    if (events == 0)
        uv_poll_stop(&t->uv.poll);
    else
        uv_poll_start(&t->uv.poll, events, on_poll);
}

/* ---- who it is ---- */

static const char *tcp_peer(const struct stream *s) {
    static _Thread_local char text[INET6_ADDRSTRLEN + 16];
    struct tcp_stream *t = tcp_of(s);
    char host[INET6_ADDRSTRLEN] = "";
    if (t->more && t->more->name)
        return t->more->name;
    if (!t->known)
        return t->local ? "local" : "unknown";
    struct in6_addr ip;
    memcpy(&ip, t->ip, sizeof ip);
    bool v4 = IN6_IS_ADDR_V4MAPPED(&ip);
    if (v4)
        inet_ntop(AF_INET, &t->ip[12], host, sizeof host);
    else
        inet_ntop(AF_INET6, &ip, host, sizeof host);
    snprintf(text, sizeof text, v4 ? "%s:%u" : "[%s]:%u", host, t->port);
    return text;
}

static const uint8_t *tcp_peer_ip(const struct stream *s) {
    struct tcp_stream *t = tcp_of(s);
    return t->known ? t->ip : NULL;
}

static void set_peer(struct tcp_stream *t, const struct sockaddr_storage *peer) {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)peer;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)peer;
    if (peer->ss_family == AF_INET) {
        t->ip[10] = t->ip[11] = 0xff;
        memcpy(&t->ip[12], &v4->sin_addr, 4);
        t->port = ntohs(v4->sin_port);
        t->known = true;
    } else if (peer->ss_family == AF_INET6) {
        memcpy(t->ip, &v6->sin6_addr, sizeof t->ip);
        t->port = ntohs(v6->sin6_port);
        t->known = true;
    }
}

static const struct stream_ops tcp_ops = {
    .write = tcp_write,
    .write2 = tcp_write2,
    .pause = tcp_pause,
    .resume = tcp_resume,
    .shutdown = tcp_shutdown,
    .close = tcp_close,
    .pending_bytes = tcp_pending_bytes,
    .peer = tcp_peer,
    .peer_ip = tcp_peer_ip,
};

/* ---- beginning ---- */

struct tcp_stream *tcp_new(struct loop *l) {
    struct tcp_stream *t = pool_alloc(&l->streams);
    t->base.ops = &tcp_ops;
    t->loop = l;
    t->fd = -1;
    return t;
}

int tcp_open(struct tcp_stream *t, int fd) {
    int r = uv_poll_init(&t->loop->uv, &t->uv.poll, fd);
    if (r < 0)
        return r;
    t->uv.handle.data = t;
    t->fd = fd;
    t->polled = 0;
    return 0;
}

/* A connected socket becomes a stream. */
static int begin(struct tcp_stream *t, int fd, struct stream **ret_stream) {
    int r = tcp_open(t, fd);
    if (r < 0) {
        close(fd);
        pool_free(&t->loop->streams, t);
        return r;
    }
    t->state = STATE_OPEN;
    tcp_update_poll(t);
    *ret_stream = &t->base;
    return 0;
}

int tcp_accepted(struct loop *l, int fd, const struct sockaddr_storage *peer,
                 struct stream **ret_stream) {
    struct tcp_stream *t = tcp_new(l);
    set_peer(t, peer);
    return begin(t, fd, ret_stream);
}

int stream_from_fd(struct loop *l, int fd, struct stream **ret_stream) {
    struct tcp_stream *t = tcp_new(l);
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t size = sizeof own;
    int r = getsockname(fd, (struct sockaddr *)&own, &size);
    if (r == 0 && (own.ss_family == AF_INET || own.ss_family == AF_INET6)) {
        size = sizeof peer;
        /* A client that has reset the connection already has no address any more. */
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0)
            set_peer(t, &peer);
        tcp_set_options(fd, 0);
    } else {
        t->local = true;
    }
    return begin(t, fd, ret_stream);
}

int socketpair_new(int ret_fds[2]) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_fds) < 0 ? -errno
                                                                                           : 0;
}
