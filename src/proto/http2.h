/* HTTP/2 (RFC 9113), server side, sans-I/O, on libnghttp2: frames, HPACK, flow control and the
 * rules for messages are the library's; requests come out as the struct http_head of HTTP/1.1,
 * answers go in as status, fields and content.
 *
 *   bytes -> http2_receive() -> on_head, on_body..., on_end        (a stream of the client's)
 *   http2_answer(), http2_answer_body()..., http2_answer_end() -> http2_send() -> bytes
 *                                                              -> on_closed   (the stream is over)
 *
 * Streams are independent of each other: answers may be given in any order, and at any time between
 * on_head and on_closed. Content is copied, waits until the client's window has room, and counts as
 * queued until then. http2_send() is to be called when something may be to be sent: behind
 * http2_receive() and behind answers; never from inside a callback. All other functions may be
 * called there.
 *
 * What a client may do is bounded (the numbers below; http2_guard.h for floods). A request that
 * breaks the rules for messages (RFC 9113 section 8) has its stream reset by the library and is
 * never seen here; one that breaks the protocol, or a flood, ends the connection with GOAWAY.
 *
 * Not thread-safe; one thread a connection.
 */
#pragma once
#include "proto/http1.h"
#include "proto/http2_guard.h"

enum {
    HTTP2_STREAMS_MAX = 100,            /* SETTINGS_MAX_CONCURRENT_STREAMS */
    HTTP2_HEAD_BYTES_MAX = 32 * 1024,   /* SETTINGS_MAX_HEADER_LIST_SIZE at most; beyond it: 431 */
    HTTP2_HEAD_BYTES_CALM = 256 * 1024, /* beyond it: the end of the connection */
    HTTP2_STREAM_WINDOW = 256 * 1024,
    HTTP2_CONNECTION_WINDOW = 1024 * 1024,
};

/* RFC 9113 section 7: those that we use. */
enum http2_error {
    HTTP2_NO_ERROR = 0,
    HTTP2_PROTOCOL_ERROR = 1,
    HTTP2_INTERNAL_ERROR = 2,
    HTTP2_REFUSED_STREAM = 7,
    HTTP2_CANCEL = 8,
    HTTP2_ENHANCE_YOUR_CALM = 11,
};

struct http2;
/* One request and its answer, from on_head to on_closed. */
struct http2_stream;

struct http2_handler {
    /* A head is whole. status 0: `head` is valid, and stays so until http2_stream_forget_head() or
     * on_closed. Else the request is to be refused with that status (431, 400 ...) for *reason*,
     * and `head` has nothing but the method. `over`: no body follows; on_end does not come. Returns
     * what http2_stream_user() is to say. */
    void *(*on_head)(void *ctx, struct http2_stream *st, const struct http_head *head, int status,
                     const char *reason, bool over);
    /* Content of a request; borrowed. */
    void (*on_body)(void *ctx, void *user, struct slice piece);
    /* The body is complete (and as long as its Content-Length said). Trailers are skipped. */
    void (*on_end)(void *ctx, void *user);
    /* The stream is over and freed behind this call: its answer is sent, or it was reset. */
    void (*on_closed)(void *ctx, void *user);
};

/* Copies the handler; its functions get ctx. head_bytes_max: of a request's fields, with 32 for
 * each (RFC 9113 section 6.5.2); 0: HTTP2_HEAD_BYTES_MAX. What our side says first is ready to be
 * sent. */
struct http2 *http2_new(const struct http2_handler *handler, void *ctx, uint32_t head_bytes_max);
/* on_closed is not called for streams that are left. */
void http2_free(struct http2 *h);

/* Takes the connection's next bytes, preface included. False: the connection is over (a protocol
 * error, a flood, an end agreed on): send what is there to be sent, then close. (Or http2_is_over()
 * says so when that is sent.) */
bool http2_receive(struct http2 *h, struct slice bytes);
/* Appends bytes to be sent while `out` has less than `bytes_max`. False: nothing was to be sent. */
bool http2_send(struct http2 *h, struct buf *out, size_t bytes_max);
/* Nothing more will come and nothing is left to be sent. */
bool http2_is_over(const struct http2 *h);
/* The connection was ended because of a flood. */
bool http2_is_flood(const struct http2 *h);

/* Begins the answer. The names of fields are put in lower case; Connection and its kin must not be
 * among them. has_body: http2_answer_body() and http2_answer_end() follow, else the answer is
 * complete. Once a stream. */
void http2_answer(struct http2_stream *st, int status, const struct http_header *fields,
                  size_t field_count, bool has_body);
void http2_answer_body(struct http2_stream *st, struct slice piece);
void http2_answer_end(struct http2_stream *st);
/* 100 Continue. */
void http2_continue(struct http2_stream *st);
void http2_reset(struct http2_stream *st, enum http2_error error);

void *http2_stream_user(const struct http2_stream *st);
/* Gives its memory back; the head that on_head got is not valid any more. */
void http2_stream_forget_head(struct http2_stream *st);
/* Content that waits to be sent; all that was sent so far. */
size_t http2_stream_queued(const struct http2_stream *st);
uint64_t http2_stream_sent(const struct http2_stream *st);

size_t http2_queued(const struct http2 *h); /* of all streams */
uint32_t http2_stream_count(const struct http2 *h);
/* The client has begun a head and not finished it. */
bool http2_in_head(const struct http2 *h);
/* Time earns a client the right to further frames; call it about once a second. */
void http2_second(struct http2 *h);

/* Orderly end, RFC 9113 section 6.8: first says that no new streams are wanted and pings, so that
 * requests under way to us are still taken. When the ping is answered, or at the second call, says
 * which stream is the last. Streams go on to their ends. */
void http2_leave(struct http2 *h);
/* True when the last stream was named. */
bool http2_has_left(const struct http2 *h);
/* Ends the connection at once, as http2_receive() does for protocol errors. */
void http2_end(struct http2 *h, enum http2_error error);
