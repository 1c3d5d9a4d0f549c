#include "h2_client.h"

#include <stdio.h>
#include <stdlib.h>

#include <nghttp2/nghttp2.h>

/* ---- sending ---- */

static void put_be(struct buf *out, uint64_t value, int bytes) {
    while (bytes-- > 0)
        buf_append_u8(out, (uint8_t)(value >> 8 * bytes));
}

void h2_put_frame(struct buf *out, int type, int flags, uint32_t id, struct slice payload) {
    put_be(out, payload.size, 3);
    put_be(out, (uint64_t)type, 1);
    put_be(out, (uint64_t)flags, 1);
    put_be(out, id, 4);
    buf_append_slice(out, payload);
}

void h2_put_u32_frame(struct buf *out, int type, uint32_t id, uint32_t value) {
    struct buf payload = {0};
    put_be(&payload, value, 4);
    h2_put_frame(out, type, 0, id, buf_slice(&payload));
    buf_fini(&payload);
}

void h2_put_preface(struct buf *out, uint32_t window) {
    struct buf settings = {0};
    if (window != UINT32_MAX) {
        put_be(&settings, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 2);
        put_be(&settings, window, 4);
    }
    buf_append_str(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    h2_put_frame(out, H2_SETTINGS, 0, 0, buf_slice(&settings));
    buf_fini(&settings);
}

static void put_hpack_string(struct buf *block, const char *text) {
    size_t size = strlen(text);
    if (size < 127) {
        buf_append_u8(block, (uint8_t)size);
    } else {
        size_t rest = size - 127;
        buf_append_u8(block, 127);
        for (; rest >= 128; rest /= 128)
            buf_append_u8(block, (uint8_t)(rest % 128 + 128));
        buf_append_u8(block, (uint8_t)rest);
    }
    buf_append_str(block, text);
}

void h2_put_field(struct buf *block, const char *name, const char *value) {
    buf_append_u8(block, 0);
    put_hpack_string(block, name);
    put_hpack_string(block, value);
}

void h2_put_request(struct buf *out, uint32_t id, int flags, const char *method, const char *path,
                    ...) {
    struct buf block = {0};
    const char *name;
    va_list ap;
    h2_put_field(&block, ":method", method);
    h2_put_field(&block, ":scheme", "http");
    h2_put_field(&block, ":path", path);
    h2_put_field(&block, ":authority", "localhost");
    va_start(ap, path);
    while ((name = va_arg(ap, const char *)) != NULL)
        h2_put_field(&block, name, va_arg(ap, const char *));
    va_end(ap);
    h2_put_frame(out, H2_HEADERS, flags | H2_END_HEADERS, id, buf_slice(&block));
    buf_fini(&block);
}

/* ---- receiving ---- */

void h2_client_init(struct h2_client *c) {
    nghttp2_hd_inflater *inflater;
    *c = (struct h2_client){0};
    CHECK(nghttp2_hd_inflate_new(&inflater) == 0);
    c->inflater = inflater;
}

void h2_client_fini(struct h2_client *c) {
    nghttp2_hd_inflate_del(c->inflater);
    for (size_t i = 0; i < c->stream_count; i++) {
        buf_fini(&c->streams[i].head);
        buf_fini(&c->streams[i].body);
    }
    buf_fini(&c->in);
}

static struct h2_stream *find(struct h2_client *c, uint32_t id) {
    for (size_t i = 0; i < c->stream_count; i++)
        if (c->streams[i].id == id)
            return &c->streams[i];
    return NULL;
}

struct h2_stream *h2_client_stream(struct h2_client *c, uint32_t id) {
    struct h2_stream *st = find(c, id);
    CHECK(st != NULL);
    return st;
}

static struct h2_stream *open_stream(struct h2_client *c, uint32_t id) {
    struct h2_stream *st = find(c, id);
    if (st)
        return st;
    CHECK(c->stream_count < H2_CLIENT_STREAMS_MAX);
    st = &c->streams[c->stream_count++];
    *st = (struct h2_stream){.id = id};
    return st;
}

static void take_head(struct h2_client *c, struct h2_stream *st, struct slice block) {
    bool interim = false;
    CHECK(!st->ended);
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(c->inflater, &nv, &flags, block.data, block.size, 1);
        CHECK(n >= 0);
        block = slice_of(block.data + n, block.size - (size_t)n);
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            struct slice name = slice_of(nv.name, nv.namelen);
            for (size_t i = 0; i < name.size; i++)
                CHECK(name.data[i] < 'A' || name.data[i] > 'Z');
            if (slice_equal_str(name, ":status")) {
                int status = atoi((const char *)nv.value);
                interim = status < 200;
                st->interim += interim;
                if (!interim)
                    st->status = status;
            } else {
                CHECK(!slice_equal_str(name, "connection"));
                CHECK(!slice_equal_str(name, "transfer-encoding"));
                buf_append_slice(&st->head, name);
                buf_append_str(&st->head, ": ");
                buf_append(&st->head, nv.value, nv.valuelen);
                buf_append_char(&st->head, '\n');
            }
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL) {
            CHECK(nghttp2_hd_inflate_end_headers(c->inflater) == 0);
            return;
        }
        CHECK(n > 0 || (flags & NGHTTP2_HD_INFLATE_EMIT));
    }
}

static uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void take_settings(struct h2_client *c, int flags, struct slice payload) {
    c->settings_count += !(flags & H2_ACK);
    c->settings_acks += (flags & H2_ACK) != 0;
    for (size_t i = 0; i + 6 <= payload.size; i += 6)
        if (payload.data[i + 1] == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
            c->streams_max = be32(payload.data + i + 2);
}

static void take_frame(struct h2_client *c, int type, int flags, uint32_t id,
                       struct slice payload) {
    struct h2_stream *st = type <= H2_RST_STREAM && id ? open_stream(c, id) : NULL;
    c->frames++;
    CHECK(!st || !st->reset);
    switch (type) {
    case H2_DATA:
        CHECK(st->status != 0);
        CHECK(!st->ended);
        buf_append_slice(&st->body, payload);
        st->data_count++;
        break;
    case H2_HEADERS:
        CHECK(flags & H2_END_HEADERS); /* the tests have no large heads */
        take_head(c, st, payload);
        break;
    case H2_RST_STREAM:
        st->reset = true;
        st->error = be32(payload.data);
        return;
    case H2_SETTINGS:
        take_settings(c, flags, payload);
        return;
    case H2_PING:
        c->ping_acks += (flags & H2_ACK) != 0;
        c->pings += !(flags & H2_ACK);
        return;
    case H2_GOAWAY:
        c->goaway = true;
        c->goaway_last = be32(payload.data) & 0x7fffffff;
        c->goaway_error = be32(payload.data + 4);
        return;
    default:
        CHECK(type == H2_WINDOW_UPDATE);
        return;
    }
    st->ended = (flags & H2_END_STREAM) != 0;
}

void h2_client_take(struct h2_client *c, struct slice bytes) {
    buf_append_slice(&c->in, bytes);
    size_t at = 0;
    while (c->in.size - at >= 9) {
        const uint8_t *p = c->in.data + at;
        size_t length = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        CHECK(length <= 16384);
        if (c->in.size - at < 9 + length)
            break;
        take_frame(c, p[3], p[4], be32(p + 5) & 0x7fffffff, slice_of(p + 9, length));
        at += 9 + length;
    }
    buf_consume(&c->in, at);
}

const char *h2_stream_field(const struct h2_stream *st, const char *name) {
    static char value[4096];
    struct slice left = buf_slice(&st->head);
    while (left.size > 0) {
        const uint8_t *end = memchr(left.data, '\n', left.size);
        size_t size = (size_t)(end - left.data), n = strlen(name);
        if (size > n + 2 && memcmp(left.data, name, n) == 0 && left.data[n] == ':') {
            snprintf(value, sizeof value, "%.*s", (int)(size - n - 2),
                     (const char *)left.data + n + 2);
            return value;
        }
        left = slice_of(end + 1, left.size - size - 1);
    }
    return NULL;
}
