#include "fake_stream.h"

#include <stdlib.h>

static struct fake_stream *fake_of(const struct stream *s) {
    return CONTAINER_OF(s, struct fake_stream, base);
}

static void fake_write(struct stream *s, struct slice bytes) {
    struct fake_stream *f = fake_of(s);
    if (!f->shutdown && !f->closing)
        buf_append_slice(f->blocked ? &f->held : &f->written, bytes);
}

static void fake_pause(struct stream *s) {
    fake_of(s)->paused = true;
}

static void fake_resume(struct stream *s) {
    fake_of(s)->paused = false;
}

static void fake_shutdown(struct stream *s) {
    struct fake_stream *f = fake_of(s);
    f->shutdown = true;
    if (f->held.size == 0)
        f->closing = true;
}

static void fake_close(struct stream *s) {
    struct fake_stream *f = fake_of(s);
    buf_reset(&f->held);
    f->closing = true;
}

static size_t fake_pending_bytes(const struct stream *s) {
    return fake_of(s)->held.size;
}

static const char *fake_peer(const struct stream *s) {
    return "192.0.2.1:1234";
}

static const uint8_t *fake_peer_ip(const struct stream *s) {
    return fake_of(s)->ip;
}

static const struct stream_ops fake_ops = {
    .write = fake_write,
    .pause = fake_pause,
    .resume = fake_resume,
    .shutdown = fake_shutdown,
    .close = fake_close,
    .pending_bytes = fake_pending_bytes,
    .peer = fake_peer,
    .peer_ip = fake_peer_ip,
};

struct fake_stream *fake_stream_new(void) {
    struct fake_stream *f = xcalloc(1, sizeof *f);
    f->base.ops = &fake_ops;
    memcpy(f->ip, "\0\0\0\0\0\0\0\0\0\0\377\377\300\0\2\1", sizeof f->ip);
    return f;
}

void fake_stream_free(struct fake_stream *f) {
    CHECK(f->closed || !f->base.handler);
    buf_fini(&f->written);
    buf_fini(&f->held);
    free(f);
}

bool fake_stream_feed(struct fake_stream *f, struct slice bytes) {
    if (f->paused || f->shutdown || f->closing)
        return false;
    f->base.handler->on_read(f->base.ctx, bytes);
    return true;
}

bool fake_stream_feed_str(struct fake_stream *f, const char *text) {
    return fake_stream_feed(f, slice_str(text));
}

void fake_stream_eof(struct fake_stream *f) {
    if (f->shutdown || f->closing)
        return;
    if (f->base.handler->on_eof)
        f->base.handler->on_eof(f->base.ctx);
    else
        fake_stream_break(f, 0);
}

void fake_stream_block(struct fake_stream *f) {
    f->blocked = true;
}

void fake_stream_unblock(struct fake_stream *f) {
    bool held = f->held.size > 0;
    f->blocked = false;
    buf_append_slice(&f->written, buf_slice(&f->held));
    buf_reset(&f->held);
    if (f->shutdown)
        f->closing = true;
    else if (held && !f->closing && f->base.handler->on_drain)
        f->base.handler->on_drain(f->base.ctx);
}

void fake_stream_break(struct fake_stream *f, int error) {
    if (f->closing)
        return;
    f->closing = true;
    f->error = error;
    buf_reset(&f->held);
}

void fake_stream_turn(struct fake_stream *f) {
    if (!f->closing || f->closed)
        return;
    f->closed = true;
    if (f->base.handler && f->base.handler->on_close)
        f->base.handler->on_close(f->base.ctx, f->error);
}
