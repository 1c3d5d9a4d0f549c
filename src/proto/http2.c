#include "proto/http2.h"

#include <stdlib.h>

#include <nghttp2/nghttp2.h>

#include "base/list.h"

enum {
    /* A page's next link may hold a key of 64 KiB, percent-encoded. */
    SEND_HEAD_BYTES_MAX = 256 * 1024,
    /* Sent content at the front of a queue is moved away when it is this much. */
    COMPACT_BYTES = 256 * 1024,
};

enum leave_stage { STAYING, NOTICE_GIVEN, LEFT };

struct http2 {
    nghttp2_session *session;
    struct http2_handler handler;
    void *ctx;
    struct http2_guard guard;
    uint32_t head_bytes_max;
    struct list streams;
    uint32_t stream_count;
    size_t queued;
    enum leave_stage leave;
    bool over;
    bool flood;
};

struct field {
    size_t name_at, name_size, value_at, value_size;
};

enum pseudo { METHOD, PATH, AUTHORITY, PSEUDO_COUNT };

struct http2_stream {
    struct http2 *h;
    struct list node;
    int32_t id;
    void *user;
    bool seen;  /* on_head was called */
    bool over;  /* the client's side is complete */
    bool reset; /* by us: only on_closed comes */
    /* The head while it is read: names and values in `bytes`, where they are in `fields`. */
    struct buf bytes;
    struct buf fields; /* of struct field */
    struct buf cookie; /* its crumbs joined, RFC 9113 section 8.2.3 */
    struct field pseudo[PSEUDO_COUNT];
    size_t list_bytes; /* as SETTINGS_MAX_HEADER_LIST_SIZE counts */
    size_t field_count;
    struct http_head *head;
    /* The answer. */
    struct buf out; /* sent up to out_at */
    size_t out_at;
    uint64_t sent;
    bool ended;
    bool deferred; /* the library waits for more content */
};

static const char leave_ping[8] = {'c', 'o', 't', 'i', 'd', 'a', 'l', 0};

/* ---- ending ------------------------------------------------------------------------------------
 */

void http2_end(struct http2 *h, enum http2_error error) {
    if (!h->over)
        CHECK(nghttp2_session_terminate_session(h->session, (uint32_t)error) != NGHTTP2_ERR_NOMEM);
    h->over = true;
}

static void end_flood(struct http2 *h) {
    h->flood = true;
    http2_end(h, HTTP2_ENHANCE_YOUR_CALM);
}

static void leave_now(struct http2 *h) {
    h->leave = LEFT;
    CHECK(nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(h->session),
                                NGHTTP2_NO_ERROR, NULL, 0) != NGHTTP2_ERR_NOMEM);
}

void http2_leave(struct http2 *h) {
    if (h->over || h->leave == LEFT)
        return;
    if (h->leave == NOTICE_GIVEN) {
        leave_now(h);
        return;
    }
    h->leave = NOTICE_GIVEN;
    CHECK(nghttp2_submit_shutdown_notice(h->session) != NGHTTP2_ERR_NOMEM);
    CHECK(nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)leave_ping) !=
          NGHTTP2_ERR_NOMEM);
}

bool http2_has_left(const struct http2 *h) {
    return h->leave == LEFT;
}

bool http2_is_over(const struct http2 *h) {
    return !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session);
}

bool http2_is_flood(const struct http2 *h) {
    return h->flood;
}

/* ---- heads -------------------------------------------------------------------------------------
 */

static struct http2_stream *find_stream(struct http2 *h, int32_t id) {
    return nghttp2_session_get_stream_user_data(h->session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx) {
    struct http2 *h = ctx;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0; /* trailers */
    struct http2_stream *st = xcalloc(1, sizeof *st);
    st->h = h;
    st->id = frame->hd.stream_id;
    list_push_back(&h->streams, &st->node);
    h->stream_count++;
    CHECK(nghttp2_session_set_stream_user_data(session, st->id, st) == 0);
    return 0;
}

static size_t keep(struct http2_stream *st, struct slice s) {
    size_t at = st->bytes.size;
    buf_append_slice(&st->bytes, s);
    return at;
}

static struct field keep_field(struct http2_stream *st, struct slice name, struct slice value) {
    struct field f = {.name_size = name.size, .value_size = value.size};
    f.name_at = keep(st, name);
    f.value_at = keep(st, value);
    return f;
}

static void take_field(struct http2_stream *st, struct slice name, struct slice value) {
    static const char *const pseudos[] = {":method", ":path", ":authority"};
    if (name.size > 0 && name.data[0] == ':') {
        for (size_t i = 0; i < PSEUDO_COUNT; i++)
            if (slice_equal_str(name, pseudos[i]))
                st->pseudo[i] = keep_field(st, name, value);
        return; /* :scheme is not needed; the library knows no others */
    }
    if (slice_equal_str(name, "cookie")) {
        if (st->cookie.size > 0)
            buf_append_str(&st->cookie, "; ");
        buf_append_slice(&st->cookie, value);
        return;
    }
    struct field f = keep_field(st, name, value);
    buf_append(&st->fields, &f, sizeof f);
    st->field_count++;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *ctx) {
    struct http2 *h = ctx;
    struct http2_stream *st = find_stream(h, frame->hd.stream_id);
    (void)session;
    (void)flags;
    if (!st)
        return 0;
    st->list_bytes += name_size + value_size + 32;
    if (st->list_bytes > HTTP2_HEAD_BYTES_CALM)
        end_flood(h);
    bool request = frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
    bool method = name_size == 7 && memcmp(name, ":method", 7) == 0;
    if (request && !h->over && (method || st->list_bytes <= st->h->head_bytes_max))
        take_field(st, slice_of(name, name_size), slice_of(value, value_size));
    return 0;
}

static struct slice kept(const struct http2_stream *st, size_t at, size_t size) {
    return slice_of(st->bytes.data + at, size);
}

static int refuse(const char **reason, int status, const char *text) {
    *reason = text;
    return status;
}

/* Content-Length was checked, and will be compared with the content, by the library; a body without
 * it is read until it ends. */
static void take_length(struct http_head *head, struct slice value) {
    head->has_length = true;
    head->length = 0;
    for (size_t i = 0; i < value.size; i++)
        head->length = head->length * 10 + (uint64_t)(value.data[i] - '0');
}

/* Fields into the head. 0, or the status to refuse it with. */
static int take_fields(struct http2_stream *st, struct http_head *head, const char **reason) {
    const struct field *fields = (const struct field *)(const void *)st->fields.data;
    if (st->field_count > HTTP1_HEADERS_MAX)
        return refuse(reason, 431, "too many headers");
    bool authority = st->pseudo[AUTHORITY].name_size > 0, host = false;
    for (size_t i = 0; i < st->field_count; i++) {
        struct http_header *f = &head->headers[head->header_count++];
        f->name = kept(st, fields[i].name_at, fields[i].name_size);
        f->value = kept(st, fields[i].value_at, fields[i].value_size);
        if (slice_equal_str(f->name, "content-length")) {
            take_length(head, f->value);
        } else if (slice_equal_str(f->name, "host")) {
            /* RFC 9113 section 8.3.1: two names would be two requests to those who look at one. */
            bool same = f->value.size == head->host.size &&
                        strncasecmp((const char *)f->value.data, (const char *)head->host.data,
                                    f->value.size) == 0;
            if (host || (authority && !same))
                return refuse(reason, 400, "Host and :authority differ");
            host = true;
            head->host = f->value;
        } else if (slice_equal_str(f->name, "expect")) {
            if (!slice_equal_nocase(f->value, "100-continue"))
                return refuse(reason, 417, "an expectation other than 100-continue");
            head->expect_continue = !st->over;
        }
    }
    return 0;
}

static int make_head(struct http2_stream *st, struct http_head *head, const char **reason) {
    struct slice p[PSEUDO_COUNT];
    if (st->cookie.size > 0 && st->list_bytes <= st->h->head_bytes_max) {
        struct field f = keep_field(st, slice_str("cookie"), buf_slice(&st->cookie));
        buf_append(&st->fields, &f, sizeof f);
        st->field_count++;
    }
    buf_fini(&st->cookie);
    for (size_t i = 0; i < PSEUDO_COUNT; i++)
        p[i] = kept(st, st->pseudo[i].value_at, st->pseudo[i].value_size);
    bool large = st->list_bytes > st->h->head_bytes_max;
    /* In a head that is too large only the method is sure to be there. */
    int rc = http_head_begin(head, p[METHOD], large ? slice_str("/") : p[PATH],
                             large ? slice_of(NULL, 0) : p[AUTHORITY], reason);
    if (large)
        return refuse(reason, 431, "the header section is too large");
    if (rc < 0)
        return -rc;
    head->minor_version = 1;
    return take_fields(st, head, reason);
}

static void head_is_whole(struct http2_stream *st, bool over) {
    struct http2 *h = st->h;
    const char *reason = "";
    st->over = over;
    st->head = xmalloc(sizeof *st->head);
    int status = make_head(st, st->head, &reason);
    buf_fini(&st->fields);
    st->seen = true;
    st->user = h->handler.on_head(h->ctx, st, st->head, status, reason, over);
}

void http2_stream_forget_head(struct http2_stream *st) {
    free(st->head);
    st->head = NULL;
    buf_fini(&st->bytes);
}

/* ---- what else comes in ------------------------------------------------------------------------
 */

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *ctx) {
    struct http2 *h = ctx;
    bool ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
    (void)session;
    if (frame->hd.type == NGHTTP2_PING && ack && h->leave == NOTICE_GIVEN &&
        memcmp(frame->ping.opaque_data, leave_ping, sizeof leave_ping) == 0)
        leave_now(h);
    if (h->over || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    struct http2_stream *st = find_stream(h, frame->hd.stream_id);
    bool over = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (!st || st->reset)
        return 0;
    if (!st->seen) {
        head_is_whole(st, over);
    } else if (over && !st->over) {
        st->over = true;
        h->handler.on_end(h->ctx, st->user);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *ctx) {
    struct http2 *h = ctx;
    struct http2_stream *st = find_stream(h, id);
    (void)session;
    (void)flags;
    if (st && st->seen && !st->reset && !h->over)
        h->handler.on_body(h->ctx, st->user, slice_of(data, size));
    return 0;
}

static void stream_free(struct http2_stream *st) {
    st->h->queued -= st->out.size - st->out_at;
    st->h->stream_count--;
    list_remove(&st->node);
    http2_stream_forget_head(st);
    buf_fini(&st->fields);
    buf_fini(&st->cookie);
    buf_fini(&st->out);
    free(st);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *ctx) {
    struct http2 *h = ctx;
    struct http2_stream *st = find_stream(h, id);
    (void)session;
    (void)error;
    if (!st)
        return 0;
    if (st->seen)
        h->handler.on_closed(h->ctx, st->user);
    stream_free(st);
    return 0;
}

/* ---- what goes out -----------------------------------------------------------------------------
 */

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *ctx) {
    struct http2 *h = ctx;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_RST_STREAM && !http2_guard_pay(&h->guard, HTTP2_COST_RESET))
        end_flood(h);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    if (frame->hd.type == NGHTTP2_DATA && frame->hd.length > 0)
        http2_guard_earn(&h->guard, HTTP2_EARN_DATA);
    if (!end)
        return 0;
    http2_guard_earn(&h->guard, HTTP2_EARN_ANSWER);
    struct http2_stream *st = find_stream(h, frame->hd.stream_id);
    /* Answered before the request was complete: its rest is not wanted (RFC 9113 section 8.1). */
    if (st && !st->over && !st->reset)
        CHECK(nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_NO_ERROR) !=
              NGHTTP2_ERR_NOMEM);
    return 0;
}

static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *ctx) {
    (void)ctx;
    (void)error;
    if (frame->hd.type == NGHTTP2_HEADERS)
        CHECK(nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_INTERNAL_ERROR) != NGHTTP2_ERR_NOMEM);
    return 0;
}

static ssize_t on_content(nghttp2_session *session, int32_t id, uint8_t *to, size_t bytes_max,
                          uint32_t *flags, nghttp2_data_source *source, void *ctx) {
    struct http2_stream *st = source->ptr;
    size_t left = st->out.size - st->out_at;
    size_t n = left < bytes_max ? left : bytes_max;
    (void)session;
    (void)id;
    (void)ctx;
    if (n == 0 && !st->ended) {
        st->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        memcpy(to, st->out.data + st->out_at, n);
    st->out_at += n;
    st->sent += n;
    st->h->queued -= n;
    if (st->out_at == st->out.size) {
        buf_fini(&st->out);
        st->out_at = 0;
        if (st->ended)
            *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

static nghttp2_nv field_of(const uint8_t *name, size_t name_size, struct slice value) {
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .namelen = name_size,
                        .value = (uint8_t *)(uintptr_t)value.data,
                        .valuelen = value.size,
                        .flags = NGHTTP2_NV_FLAG_NONE};
}

static nghttp2_nv status_field(int status, char text[4]) {
    text[0] = (char)('0' + status / 100);
    text[1] = (char)('0' + status / 10 % 10);
    text[2] = (char)('0' + status % 10);
    text[3] = 0;
    return field_of((const uint8_t *)":status", 7, slice_of(text, 3));
}

/* Field names are lower case in HTTP/2 (RFC 9113 section 8.2.1). */
static void append_lower(struct buf *out, struct slice name) {
    uint8_t *at = buf_reserve(out, name.size);
    for (size_t i = 0; i < name.size; i++)
        at[i] = name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] | 0x20 : name.data[i];
    buf_commit(out, name.size);
}

void http2_answer(struct http2_stream *st, int status, const struct http_header *fields,
                  size_t field_count, bool has_body) {
    char text[4];
    struct buf names = {0};
    nghttp2_nv *nv = xmalloc((field_count + 1) * sizeof *nv);
    for (size_t i = 0; i < field_count; i++)
        append_lower(&names, fields[i].name);
    nv[0] = status_field(status, text);
    size_t at = 0;
    for (size_t i = 0; i < field_count; i++) {
        nv[i + 1] = field_of(names.data + at, fields[i].name.size, fields[i].value);
        at += fields[i].name.size;
    }
    const nghttp2_data_provider content = {.source.ptr = st, .read_callback = on_content};
    /* The library copies names and values. It may refuse what it knows to be useless, for a stream
     * that is being reset. */
    CHECK(nghttp2_submit_response(st->h->session, st->id, nv, field_count + 1,
                                  has_body ? &content : NULL) != NGHTTP2_ERR_NOMEM);
    free(nv);
    buf_fini(&names);
}

static void resume(struct http2_stream *st) {
    if (!st->deferred)
        return;
    st->deferred = false;
    CHECK(nghttp2_session_resume_data(st->h->session, st->id) != NGHTTP2_ERR_NOMEM);
}

void http2_answer_body(struct http2_stream *st, struct slice piece) {
    CHECK(!st->ended);
    if (st->reset || piece.size == 0)
        return;
    if (st->out_at >= COMPACT_BYTES && st->out_at >= st->out.size / 2) {
        buf_consume(&st->out, st->out_at);
        st->out_at = 0;
    }
    buf_append_slice(&st->out, piece);
    st->h->queued += piece.size;
    resume(st);
}

void http2_answer_end(struct http2_stream *st) {
    st->ended = true;
    resume(st);
}

void http2_continue(struct http2_stream *st) {
    char text[4];
    nghttp2_nv nv = status_field(100, text);
    CHECK(nghttp2_submit_headers(st->h->session, NGHTTP2_FLAG_NONE, st->id, NULL, &nv, 1, NULL) !=
          NGHTTP2_ERR_NOMEM);
}

void http2_reset(struct http2_stream *st, enum http2_error error) {
    if (st->reset)
        return;
    st->reset = true;
    CHECK(nghttp2_submit_rst_stream(st->h->session, NGHTTP2_FLAG_NONE, st->id, (uint32_t)error) !=
          NGHTTP2_ERR_NOMEM);
}

/* ---- the connection ----------------------------------------------------------------------------
 */

static nghttp2_session *session_new(struct http2 *h) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_session *session;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    CHECK(nghttp2_option_new(&option) == 0);
    nghttp2_option_set_no_closed_streams(option, 1);
    /* The library counts a CONTINUATION frame that arrives in pieces several times; the guard does
     * not. */
    nghttp2_option_set_max_continuations(option, 100 * HTTP2_CONTINUATIONS_MAX);
    nghttp2_option_set_max_send_header_block_length(option, SEND_HEAD_BYTES_MAX);
    CHECK(nghttp2_session_server_new2(&session, callbacks, h, option) == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

struct http2 *http2_new(const struct http2_handler *handler, void *ctx, uint32_t head_bytes_max) {
    struct http2 *h = xcalloc(1, sizeof *h);
    h->handler = *handler;
    h->ctx = ctx;
    h->head_bytes_max = head_bytes_max ? head_bytes_max : HTTP2_HEAD_BYTES_MAX;
    list_init(&h->streams);
    http2_guard_begin(&h->guard);
    h->session = session_new(h);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h->head_bytes_max},
        /* The priorities of RFC 7540 are a tree that clients rearrange at our cost. */
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    CHECK(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_COUNT(settings)) ==
          0);
    CHECK(nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                                HTTP2_CONNECTION_WINDOW) == 0);
    return h;
}

void http2_free(struct http2 *h) {
    nghttp2_session_del(h->session);
    LIST_FOREACH_SAFE (it, &h->streams) {
        stream_free(LIST_ENTRY(it, struct http2_stream, node));
    }
    free(h);
}

bool http2_receive(struct http2 *h, struct slice bytes) {
    if (h->over)
        return false;
    if (!http2_guard_take(&h->guard, bytes)) {
        end_flood(h);
        return false;
    }
    ssize_t n = nghttp2_session_mem_recv(h->session, bytes.data, bytes.size);
    CHECK(n != NGHTTP2_ERR_NOMEM);
    if (n == NGHTTP2_ERR_FLOODED)
        end_flood(h);
    else if (n < 0)
        http2_end(h, HTTP2_PROTOCOL_ERROR);
    else if (!nghttp2_session_want_read(h->session))
        h->over = true;
    return !h->over;
}

bool http2_send(struct http2 *h, struct buf *out, size_t bytes_max) {
    bool some = false;
    while (out->size < bytes_max) {
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(h->session, &data);
        CHECK(n >= 0); /* of its errors only want of memory is left: no callback here fails */
        if (n == 0)
            break;
        some = true;
        buf_append(out, data, (size_t)n);
    }
    return some;
}

void *http2_stream_user(const struct http2_stream *st) {
    return st->user;
}

size_t http2_stream_queued(const struct http2_stream *st) {
    return st->out.size - st->out_at;
}

uint64_t http2_stream_sent(const struct http2_stream *st) {
    return st->sent;
}

size_t http2_queued(const struct http2 *h) {
    return h->queued;
}

uint32_t http2_stream_count(const struct http2 *h) {
    return h->stream_count;
}

bool http2_in_head(const struct http2 *h) {
    return h->guard.in_head;
}

void http2_second(struct http2 *h) {
    http2_guard_earn(&h->guard, HTTP2_EARN_SECOND);
}
