/* An HTTP client: head and body by proto/http1.h, or by proto/http2.h when it begins with HTTP/2's
 * preface; then the route table (http_routes.h). A handler does not know the version: it answers
 * through the functions below, which go through the request's sink (http_sink.h).
 *
 * HTTP/1.1:
 *
 *   HEAD --- whole head ---> no body ------------------------> handler
 *     ^                 \--> BODY --- all of it is here -----> handler
 *     |                  \--> refused (404, 405, 413 ...): DISCARD a small body, else close
 *     `--------------------------- next request ----------------'
 *
 * A handler runs once, when the whole request is here. It either answers at once (http_answer() and
 * its kin), or sends a request up and answers when that is answered, or begins an answer whose
 * content comes in pieces (http_stream_begin()). Answers of HTTP/1.1 go out in the order of the
 * requests (gateway/conn.h), those of HTTP/2 as they come.
 *
 * Files: http_conn.c HTTP/1.1; http2_conn.c HTTP/2; http_request.c what is to be done with a
 * request, for all versions; http_answer.c answers and problems; http_routes.c the table;
 * http_kv.c, http_txn.c, http_status.c, http_web.c what the routes do.
 */
#pragma once
#include "gateway/access.h"
#include "gateway/conn.h"
#include "gateway/pack.h"
#include "proto/http1.h"

struct http_route;
struct http_sink;

struct http_request;
enum http_version { HTTP_VERSION_1_0, HTTP_VERSION_1_1, HTTP_VERSION_2 };
typedef void (*http_answer_fn)(struct http_request *r, enum upstream_outcome outcome,
                               uint64_t index, struct slice reply);

/* Embeds what the connection's line needs; owns what its handler keeps until the answer. */
struct http_request {
    struct conn_request base;
    http_answer_fn answer; /* of the request that was sent up */
    const struct http_sink *sink;
    enum http_version version;
    enum http_method method;
    bool keep_alive;     /* HTTP/1: the connection goes on behind this answer */
    bool has_body;       /* the answer under way: content goes out (not for HEAD, 204, 304) */
    bool chunked;        /* the answer under way: HTTP/1.1, length not known */
    int status;          /* of the answer, once begun */
    uint64_t sent_bytes; /* of its content so far */
    const struct http_route *route;
    struct buf key; /* of /v1/kv/{key} and its like, decoded */
    /* The conditions of GET and HEAD: "", "*" or revisions joined by ",". */
    struct buf if_match, if_none_match;
    struct buf once;          /* its Idempotency-Key; empty: none */
    struct who who;           /* of a route with ACCESS_COMMANDS, until the handler returns */
    const char *cors;         /* see struct http_plan */
    bool replayed;            /* that key has executed it before: the answer is the one of then */
    void *data;               /* the handler's own; freed with free() */
    uint64_t began_us;        /* when its first byte came; 0: not noted */
    struct access_note *note; /* for the access log; NULL: there is none */
    /* Of an answer in pieces, see http_stream_begin(). */
    void (*more)(struct http_request *r);
    void (*gone)(struct http_request *r);
};

/* What a handler gets; borrowed until it returns. Answering frees the request, perhaps at once: a
 * handler does not touch it afterwards, and functions that may answer say so by their result. */
struct http_input {
    const struct http_head *head;
    struct slice rest; /* of the path, behind the route's pattern; not decoded */
    struct slice body;
};
typedef void (*http_handler_fn)(struct http_request *r, const struct http_input *in);

void http_conn_new(struct gateway *gw, struct stream *s);
/* What gw->http_conns holds. */
size_t http_conn_bytes(void);

/* ---- answers (http_answer.c) -------------------------------------------------------------------
 */

/* Whether a refused request changed anything. */
enum http_applied { APPLIED_NO, APPLIED_YES, APPLIED_UNKNOWN };

/* Begins an answer: the status, and the headers that every answer has. Add others with
 * http_header(), then http_end() or http_stream_begin(). */
void http_begin(struct http_request *r, int status);
/* Without X-Content-Type-Options: nosniff. */
void http_begin_plain(struct http_request *r, int status);
void http_header(struct http_request *r, const char *name, struct slice value);
void http_header_u64(struct http_request *r, const char *name, uint64_t value);
/* "ETag: \"<revision>\"" */
void http_header_etag(struct http_request *r, uint64_t revision);
/* Ends the head and the request: content of that type (none when NULL: an answer that has no
 * content by its status). HEAD gets the length only. Frees r. */
void http_end(struct http_request *r, const char *content_type, struct slice content);
/* The usual case of both: what is so now, and no cache keeps. */
void http_answer(struct http_request *r, int status, const char *content_type,
                 struct slice content);
/* The same with a JSON text, which gets its line end here. Takes it. */
void http_answer_json(struct http_request *r, int status, struct buf *json);

/* Ends the head of an answer whose content comes in pieces, by http_stream_write(), of `length`
 * bytes together or HTTP_LENGTH_UNKNOWN. Returns false when the request asked for the head only
 * (HEAD): the answer is complete then, and r is freed.
 *
 * Two ways to write. Who has the content at hand (a file) sets r->more before: it is called at the
 * ends of turns, whenever there is room, and writes a piece or ends; it is not called again in vain
 * when it does neither, but at the next turn's end at which the connection has something to do.
 * Who is told of content by others (events) writes when it comes, and looks at
 * http_stream_unsent() to see whether this client takes it.
 *
 * r->gone, when not NULL, is called when the client has gone or was given up before
 * http_stream_end(); r is freed behind it. It is not called after http_stream_end(). */
#define HTTP_LENGTH_UNKNOWN UINT64_MAX
bool http_stream_begin(struct http_request *r, const char *content_type,
                       uint64_t length) WARN_UNUSED;
/* Copies. All of them together are exactly the length that was said. */
void http_stream_write(struct http_request *r, struct slice piece);
/* The content is complete. Frees r. */
void http_stream_end(struct http_request *r);
/* The content fails in the middle: the client must not take it for complete (HTTP/1.1: the
 * connection ends; HTTP/2: the stream is reset). Frees r. */
void http_stream_abort(struct http_request *r);
/* Bytes that wait to be taken by the client, of this answer and what stands before it. */
size_t http_stream_unsent(const struct http_request *r);

/* RFC 9457. `code` is a stable word for programs, `detail` for people; may be NULL. */
struct http_problem {
    int status;
    const char *code;
    enum http_applied applied;
    uint32_t retry_after_ms; /* 0: not said */
    const char *allow;       /* 405 and OPTIONS */
    uint64_t etag;           /* 412: the current revision; 0: none */
    struct slice extra;      /* further JSON members, each with a comma before it */
};
void http_problem(struct http_request *r, const struct http_problem *p, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* A client's mistake in the request: 400, nothing applied. */
void http_bad_request(struct http_request *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Answers for a request that was given up, or whose reply is an error; returns false when it is
 * neither, and has done nothing. */
bool http_answer_failure(struct http_request *r, enum upstream_outcome outcome, struct slice reply);
/* The node's reply was not of the form agreed: 500. */
void http_malformed_reply(struct http_request *r);
/* The status and code for an error reply ("ERR ..."), as far as it has them. */
int http_error_status(struct slice reply, const char **ret_code);
/* Begins the command of a write, around it what its Idempotency-Key needs. */
struct pack http_pack_write(const struct http_request *r, const char *name);
/* Sends up; the answer comes to `answer`, which uses the functions above. Takes packed_argv. A
 * write was begun by http_pack_write(); `answer` sees its own reply whether it has a key or not. */
void http_submit(struct http_request *r, enum upstream_kind kind, struct buf *packed_argv,
                 http_answer_fn answer);

/* HTTP/1.1 bytes for a request that has no struct http_request (a malformed head). */
void http_put_bare_problem(struct buf *out, int status, const char *detail, uint64_t wall_ms,
                           bool head_only);

/* Parameters: each name of the query must be among `names` (comma-separated); else answers 400 and
 * returns false. */
bool http_check_query(struct http_request *r, const struct http_input *in, const char *names);
/* Finds one parameter in `out`; 1 found, 0 not, -1 malformed and answered. */
int http_query(struct http_request *r, const struct http_input *in, const char *name,
               struct buf *out);
