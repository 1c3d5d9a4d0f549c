/* A byte stream between us and one peer: TCP, a socketpair, or in tests a fake.
 *
 * Reading: bytes arrive in on_read, borrowed until it returns (one read buffer a loop, so that idle
 * connections own none). Writing: stream_write() copies nothing when the kernel takes everything at
 * once, else it keeps the rest and sends it when it can; on_drain says when all that was kept is
 * gone (it does not come when nothing had to be kept). Closing: stream_close() ends it at once and
 * drops what waits. stream_shutdown() does after what was written is out: the peer sees our end
 * then, and what it still sends is thrown away for a bounded time before the stream closes. No
 * on_read or on_drain comes behind either. A peer that does not read holds a shutdown up: who shuts
 * down keeps a time limit and then closes. on_close comes exactly once, for either or when the peer
 * or the network ended it, never from inside a call of these functions, and is the last call; the
 * stream is freed behind it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct stream;

struct stream_handler {
    void (*on_read)(void *ctx, struct slice bytes);
    void (*on_drain)(void *ctx); /* may be NULL */
    /* The peer sends no more but may still read (a half-closed connection). May be NULL: the stream
     * then closes itself, with what still waits to be sent. Else it stays open until it is closed
     * or shut down here, or a write fails. */
    void (*on_eof)(void *ctx);
    /* error: 0 for an orderly end by the peer or by ourselves, else a negative errno. */
    void (*on_close)(void *ctx, int error);
};

/* The implementation's side; struct stream is its first member. */
struct stream_ops {
    void (*write)(struct stream *s, struct slice bytes);
    /* The same of two pieces, one behind the other. NULL: they are written one after the other. */
    void (*write2)(struct stream *s, struct slice first, struct slice second);
    void (*pause)(struct stream *s);
    void (*resume)(struct stream *s);
    void (*shutdown)(struct stream *s);
    void (*close)(struct stream *s);
    size_t (*pending_bytes)(const struct stream *s);
    const char *(*peer)(const struct stream *s);
    const uint8_t *(*peer_ip)(const struct stream *s); /* may be NULL: it has none */
    const char *(*protocol)(const struct stream *s);   /* may be NULL: none was agreed on */
};
struct stream {
    const struct stream_ops *ops;
    const struct stream_handler *handler;
    void *ctx;
};

static inline void stream_set_handler(struct stream *s, const struct stream_handler *h, void *ctx) {
    s->handler = h;
    s->ctx = ctx;
}
/* After close or shutdown further writes are dropped. */
static inline void stream_write(struct stream *s, struct slice bytes) {
    s->ops->write(s, bytes);
}
/* In one go where the stream can: for a head and a body that stand in different places. */
static inline void stream_write2(struct stream *s, struct slice first, struct slice second) {
    if (s->ops->write2) {
        s->ops->write2(s, first, second);
        return;
    }
    s->ops->write(s, first);
    s->ops->write(s, second);
}
/* Stops and restarts on_read; the kernel's buffers then push back on the peer. */
static inline void stream_pause(struct stream *s) {
    s->ops->pause(s);
}
static inline void stream_resume(struct stream *s) {
    s->ops->resume(s);
}
static inline void stream_shutdown(struct stream *s) {
    s->ops->shutdown(s);
}
static inline void stream_close(struct stream *s) {
    s->ops->close(s);
}
/* Bytes written here that the kernel has not taken yet. */
static inline size_t stream_pending_bytes(const struct stream *s) {
    return s->ops->pending_bytes(s);
}
/* "address:port" of the other end, for logs; valid until the thread's next call of it. */
static inline const char *stream_peer(const struct stream *s) {
    return s->ops->peer(s);
}
/* The other end's address, 16 bytes (IPv4 as ::ffff:a.b.c.d), borrowed as long as the stream is
 * there; NULL when it has none. */
static inline const uint8_t *stream_peer_ip(const struct stream *s) {
    return s->ops->peer_ip ? s->ops->peer_ip(s) : NULL;
}
/* The protocol that both ends agreed on before the first byte (ALPN, net/tls.h): "h2", "http/1.1";
 * "" when they did not. */
static inline const char *stream_protocol(const struct stream *s) {
    return s->ops->protocol ? s->ops->protocol(s) : "";
}
