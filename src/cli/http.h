/* One HTTP exchange of a subcommand, with libcurl behind it (curl/curl.h is included in http.c
 * only).
 *
 * http_exchange() asks the node that --to names. When there is no answer, or the answer is an
 * error, it has told the user on standard error what happened, whether something was changed, and
 * what to do next, and returns the exit code to end with; the statuses named in `expected` are
 * handed to the caller instead.
 */
#pragma once
#include "base/buf.h"
#include "cli/cli.h"

enum { HTTP_HEADERS_MAX = 6, HTTP_EXPECTED_MAX = 4 };

struct http_request {
    const char *method;
    struct buf path; /* encoded, with the query; begins with '/' */
    bool is_write;   /* an answer that stays away leaves its outcome unknown */
    struct slice body;
    struct buf headers[HTTP_HEADERS_MAX]; /* "Name: value", NUL-terminated */
    size_t header_count;
    long expected[HTTP_EXPECTED_MAX]; /* statuses that are results; 0 ends the list */
};

struct http_reply {
    long status;
    struct buf body;
    struct buf etag; /* header values, without the quotes of an ETag; empty when absent */
    struct buf content_type;
    struct buf expires; /* Kv-Expires */
};

void http_request_fini(struct http_request *request);
void http_reply_fini(struct http_reply *reply);

/* Sets the path to /v1/kv/ and the key, encoded. */
void http_request_key(struct http_request *request, const char *key);
void http_request_header(struct http_request *request, const char *name, const char *value);

/* CLI_OK with the reply filled, or the exit code to end with. */
int http_exchange(const struct cli_args *args, const struct http_request *request,
                  struct http_reply *ret_reply) WARN_UNUSED;
