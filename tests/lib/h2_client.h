/* The client's side of HTTP/2 for unit tests: frames made by hand, also wrong ones, and what the
 * server sends taken apart. Only HPACK is libnghttp2's. */
#pragma once
#include "base/buf.h"

enum {
    H2_DATA,
    H2_HEADERS,
    H2_PRIORITY,
    H2_RST_STREAM,
    H2_SETTINGS,
    H2_PUSH_PROMISE,
    H2_PING,
    H2_GOAWAY,
    H2_WINDOW_UPDATE,
    H2_CONTINUATION,
};
enum { H2_ACK = 1, H2_END_STREAM = 1, H2_END_HEADERS = 4 };

/* ---- what the client sends ---- */

void h2_put_frame(struct buf *out, int type, int flags, uint32_t id, struct slice payload);
/* The preface, and SETTINGS with this initial window (0xffffffff: none said). */
void h2_put_preface(struct buf *out, uint32_t window);
void h2_put_u32_frame(struct buf *out, int type, uint32_t id, uint32_t value);
/* One field: a literal that nobody remembers (RFC 7541 section 6.2.2). */
void h2_put_field(struct buf *block, const char *name, const char *value);
/* HEADERS with method, scheme, path, authority, then pairs of name and value up to NULL. */
void h2_put_request(struct buf *out, uint32_t id, int flags, const char *method, const char *path,
                    ...) __attribute__((sentinel));

/* ---- what the server has sent ---- */

struct h2_stream {
    uint32_t id;
    int status;      /* 0: no head yet */
    int interim;     /* heads with a status of 1xx */
    struct buf head; /* "name: value\n"... */
    struct buf body;
    bool ended;
    bool reset;
    uint32_t error;      /* of the reset */
    uint32_t data_count; /* DATA frames */
};

enum { H2_CLIENT_STREAMS_MAX = 256 };
struct h2_client {
    void *inflater;
    struct buf in; /* of an incomplete frame */
    struct h2_stream streams[H2_CLIENT_STREAMS_MAX];
    size_t stream_count;
    bool goaway;
    uint32_t goaway_error, goaway_last;
    uint32_t settings_count, settings_acks, pings, ping_acks, frames;
    uint32_t streams_max; /* as the server's SETTINGS say */
};

void h2_client_init(struct h2_client *c);
void h2_client_fini(struct h2_client *c);
/* CHECKs that these are frames. */
void h2_client_take(struct h2_client *c, struct slice bytes);
/* CHECKs that something came for it. */
struct h2_stream *h2_client_stream(struct h2_client *c, uint32_t id);
/* The value of that header, NUL-terminated, until the next call; NULL when it is not there. */
const char *h2_stream_field(const struct h2_stream *st, const char *name);
