/* An HTTP/1.1 client: head and body by proto/http1.h, then the route table (http_routes.h).
 *
 *   HEAD --- whole head ---> no body ------------------------> handler
 *     ^                 \--> BODY --- all of it is here -----> handler
 *     |                  \--> refused (404, 405, 413 ...): DISCARD a small body, else close
 *     `--------------------------- next request ----------------'
 *
 * A handler runs once, when the whole request is here. It either answers at once (http_answer() and
 * its kin) or sends a request up and answers when that is answered. Answers go out in the order of
 * the requests (gateway/conn.h).
 *
 * Files: http_conn.c this; http_answer.c answers and problems; http_routes.c the table; http_kv.c,
 * http_txn.c, http_status.c, http_web.c what the routes do.
 */
#pragma once
#include "gateway/conn.h"
#include "gateway/pack.h"
#include "proto/http1.h"

struct http_route;

struct http_request;
typedef void (*http_answer_fn)(struct http_request *r, enum upstream_outcome outcome,
                               uint64_t index, struct slice reply);

/* Embeds what the connection's line needs; owns what its handler keeps until the answer. */
struct http_request {
    struct conn_request base;
    http_answer_fn answer; /* of the request that was sent up */
    enum http_method method;
    bool keep_alive;
    bool old; /* HTTP/1.0: keep-alive is said aloud */
    const struct http_route *route;
    struct buf key; /* of /v1/kv/{key} and its like, decoded */
    /* The conditions of GET and HEAD: "", "*" or revisions joined by ",". */
    struct buf if_match, if_none_match;
    struct buf once; /* its Idempotency-Key; empty: none */
    bool replayed;   /* that key has executed it before: the answer is the one of then */
    void *data;      /* the handler's own; freed with free() */
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

/* ---- answers (http_answer.c) -------------------------------------------------------------------
 */

/* Whether a refused request changed anything. */
enum http_applied { APPLIED_NO, APPLIED_YES, APPLIED_UNKNOWN };

/* Begins an answer: status line and the headers that every answer has. Add others with
 * http1_put_header(), then http_end(). */
struct buf *http_begin(struct http_request *r, int status);
/* Ends the head and the request: content of that type (none when NULL: an answer that has no
 * content by its status). HEAD gets the length only. */
void http_end(struct http_request *r, struct buf *out, const char *content_type,
              struct slice content);
/* The usual case of both. */
void http_answer(struct http_request *r, int status, const char *content_type,
                 struct slice content);

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

/* Bytes written for a request that has no struct http_request (a malformed head). */
void http_put_bare_problem(struct buf *out, int status, const char *detail, uint64_t wall_ms,
                           bool head_only);

/* "\"<revision>\"" */
void http_put_etag(struct buf *out, uint64_t revision);

/* Parameters: each name of the query must be among `names` (comma-separated); else answers 400 and
 * returns false. */
bool http_check_query(struct http_request *r, const struct http_input *in, const char *names);
/* Finds one parameter in `out`; 1 found, 0 not, -1 malformed and answered. */
int http_query(struct http_request *r, const struct http_input *in, const char *name,
               struct buf *out);
