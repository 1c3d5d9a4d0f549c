/* The route table: every path of ours, once. Dispatch, 405 with Allow, and OPTIONS are made from
 * it; docs/http-api.md lists it (a test compares them). HEAD is allowed wherever GET is. */
#pragma once
#include "gateway/http_conn.h"

/* Whether the handler will send something up, and of which kind (the order rule of conn.h). */
enum http_needs { NEEDS_NOTHING, NEEDS_READ, NEEDS_WRITE };
/* None: at most 64 KiB, ignored. Document: 64 KiB. Blocks: HTTP_BLOCKS_BYTES_MAX. */
enum http_body_rule { BODY_NONE, BODY_VALUE, BODY_TXN, BODY_DOCUMENT, BODY_BLOCKS };
enum { HTTP_BLOCKS_BYTES_MAX = 512 * 1024 };

/* Who may (gateway/access.h). There is no default: a row without one does not compile. */
enum http_access {
    ACCESS_PUBLIC = 1,  /* everybody: it tells nothing about what is stored */
    ACCESS_ANY_TOKEN,   /* whoever has a token */
    ACCESS_READ_KEY,    /* `read` for {key} */
    ACCESS_WRITE_KEY,   /* `write` for {key} */
    ACCESS_INCR_KEY,    /* the same; visitors by a rule of their own */
    ACCESS_READ_PREFIX, /* `read` for all keys that ?prefix= (or for the one that ?key=) names */
    ACCESS_SESSION,     /* whoever has a token, and visitors whom _access lets */
    ACCESS_COMMANDS,    /* a token; the handler asks for each command of the body */
    ACCESS_DEPLOY,      /* a token with `deploy` */
    ACCESS_ADMIN,       /* a token with `admin` */
};

/* method, pattern, needs, body, access, handler, one line of help. "{key}" in a pattern takes what
 * the rest of it leaves, slashes included, and at least one byte; the first row that fits counts.
 */
#define HTTP_ROUTES(X)                                                                             \
    X(GET, "/", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, http_web_get, "The welcome page.")        \
    X(GET, "/v1/kv/{key}", NEEDS_READ, BODY_NONE, ACCESS_READ_KEY, http_kv_get,                    \
      "The value of a key.")                                                                       \
    X(PUT, "/v1/kv/{key}", NEEDS_WRITE, BODY_VALUE, ACCESS_WRITE_KEY, http_kv_put,                 \
      "Stores a value.")                                                                           \
    X(DELETE, "/v1/kv/{key}", NEEDS_WRITE, BODY_NONE, ACCESS_WRITE_KEY, http_kv_delete,            \
      "Deletes a key.")                                                                            \
    X(GET, "/v1/kv", NEEDS_READ, BODY_NONE, ACCESS_READ_PREFIX, http_kv_list,                      \
      "A page of keys, as JSON.")                                                                  \
    X(GET, "/v1/watch", NEEDS_READ, BODY_NONE, ACCESS_READ_PREFIX, http_watch_get,                 \
      "Changes of keys, as Server-Sent Events.")                                                   \
    X(GET, "/v1/session", NEEDS_READ, BODY_NONE, ACCESS_SESSION, http_session_get,                 \
      "The visitor's document.")                                                                   \
    X(PATCH, "/v1/session", NEEDS_READ, BODY_DOCUMENT, ACCESS_SESSION, http_session_patch,         \
      "Merges a patch into the visitor's document.")                                               \
    X(DELETE, "/v1/session", NEEDS_WRITE, BODY_NONE, ACCESS_SESSION, http_session_delete,          \
      "Ends the visitor's session.")                                                               \
    X(POST, "/v1/redis", NEEDS_WRITE, BODY_VALUE, ACCESS_COMMANDS, http_redis_post,                \
      "A Redis command as JSON.")                                                                  \
    X(POST, "/v1/redis/pipeline", NEEDS_WRITE, BODY_TXN, ACCESS_COMMANDS, http_redis_pipeline,     \
      "Several Redis commands as JSON.")                                                           \
    X(POST, "/v1/redis/multi-exec", NEEDS_WRITE, BODY_TXN, ACCESS_COMMANDS, http_redis_multi_exec, \
      "Several Redis commands as JSON, as a transaction.")                                         \
    X(POST, "/v1/incr/{key}", NEEDS_WRITE, BODY_NONE, ACCESS_INCR_KEY, http_kv_incr,               \
      "Adds to a number.")                                                                         \
    X(POST, "/v1/txn", NEEDS_WRITE, BODY_TXN, ACCESS_COMMANDS, http_txn_post,                      \
      "Several operations as one.")                                                                \
    X(GET, "/v1/sites", NEEDS_READ, BODY_NONE, ACCESS_DEPLOY, http_sites_get,                      \
      "Sites and their deploys.")                                                                  \
    X(DELETE, "/v1/sites/{key}", NEEDS_WRITE, BODY_NONE, ACCESS_DEPLOY, http_site_delete,          \
      "Deletes a site.")                                                                           \
    X(POST, "/v1/deploys/blocks/missing", NEEDS_READ, BODY_BLOCKS, ACCESS_DEPLOY,                  \
      http_blocks_missing, "Which blocks of files are to be sent.")                                \
    X(POST, "/v1/deploys/blocks", NEEDS_WRITE, BODY_BLOCKS, ACCESS_DEPLOY, http_blocks_post,       \
      "Stores blocks of files.")                                                                   \
    X(GET, "/v1/deploys/blocks/{key}", NEEDS_READ, BODY_NONE, ACCESS_DEPLOY, http_block_get,       \
      "A block.")                                                                                  \
    X(POST, "/v1/deploys", NEEDS_WRITE, BODY_BLOCKS, ACCESS_DEPLOY, http_deploy_post,              \
      "Begins a deploy.")                                                                          \
    X(POST, "/v1/deploys/{key}/pin", NEEDS_WRITE, BODY_NONE, ACCESS_DEPLOY, http_deploy_pin,       \
      "Ties some of its blocks to a deploy.")                                                      \
    X(POST, "/v1/deploys/{key}/activate", NEEDS_WRITE, BODY_NONE, ACCESS_DEPLOY,                   \
      http_deploy_activate, "Makes a deploy the one that its site shows.")                         \
    X(DELETE, "/v1/deploys/{key}", NEEDS_WRITE, BODY_NONE, ACCESS_DEPLOY, http_deploy_delete,      \
      "Gives a deploy up.")                                                                        \
    X(GET, "/_/", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, http_dashboard_get, "The dashboard.")   \
    X(GET, "/_/preview/{key}", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, http_preview_get,          \
      "Shows this browser a deploy; \"off\" ends it.")                                             \
    X(GET, "/_/status", NEEDS_READ, BODY_NONE, ACCESS_ANY_TOKEN, http_status_get,                  \
      "The cluster, as JSON.")                                                                     \
    X(DELETE, "/_/members/{key}", NEEDS_READ, BODY_NONE, ACCESS_ADMIN, http_member_delete,         \
      "Takes a node out of the cluster.")                                                          \
    X(POST, "/_/members/{key}/promote", NEEDS_READ, BODY_NONE, ACCESS_ADMIN, http_member_promote,  \
      "Makes a learner a voter.")                                                                  \
    X(POST, "/_/members/{key}/transfer", NEEDS_READ, BODY_NONE, ACCESS_ADMIN,                      \
      http_member_transfer, "Hands leadership to this voter.")                                     \
    X(POST, "/_/transfer", NEEDS_READ, BODY_NONE, ACCESS_ADMIN, http_leader_transfer,              \
      "Hands leadership to the voter that is best placed.")                                        \
    X(POST, "/_/backups", NEEDS_READ, BODY_NONE, ACCESS_ADMIN, http_backup_post,                   \
      "Begins to take a backup.")                                                                  \
    X(GET, "/_/backups/{key}", NEEDS_READ, BODY_NONE, ACCESS_ADMIN, http_backup_get,               \
      "How far a backup is, or a piece of it.")                                                    \
    X(DELETE, "/_/backups/{key}", NEEDS_READ, BODY_NONE, ACCESS_ADMIN, http_backup_delete,         \
      "Lets a node forget a backup.")                                                              \
    X(POST, "/_/tokens", NEEDS_WRITE, BODY_DOCUMENT, ACCESS_ADMIN, http_tokens_post,               \
      "Makes a token.")                                                                            \
    X(GET, "/_/tokens", NEEDS_READ, BODY_NONE, ACCESS_ADMIN, http_tokens_get, "The tokens.")       \
    X(DELETE, "/_/tokens/{key}", NEEDS_READ, BODY_NONE, ACCESS_ADMIN, http_tokens_delete,          \
      "Revokes a token.")                                                                          \
    X(GET, "/_/health", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, http_health_get,                  \
      "200 while the process works.")                                                              \
    X(GET, "/_/ready", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, http_ready_get,                    \
      "200 while it can serve writes.")                                                            \
    X(GET, "/_/metrics", NEEDS_NOTHING, BODY_NONE, ACCESS_ANY_TOKEN, http_metrics_get,             \
      "Prometheus text.")                                                                          \
    X(GET, "/_/web/{key}", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC, http_web_get,                  \
      "Files of these two pages.")

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): in the table's order. */
struct http_route {
    enum http_method method;
    const char *pattern;
    enum http_needs needs;
    enum http_body_rule body;
    enum http_access access;
    http_handler_fn handler;
    const char *help;
};

#define X(method, pattern, needs, body, access, handler, help)                                     \
    void handler(struct http_request *r, const struct http_input *in);
HTTP_ROUTES(X)
#undef X

/* All of them, in the table's order. */
const struct http_route *http_routes_all(size_t *ret_count);

enum http_match { HTTP_FOUND, HTTP_NO_PATH, HTTP_NO_METHOD };
/* On NO_METHOD `allow` (at least 64 bytes) holds the methods that the path has. *ret_rest borrows
 * from path. */
enum http_match http_route_find(enum http_method method, struct slice path,
                                const struct http_route **ret_route, struct slice *ret_rest,
                                char allow[64]);
