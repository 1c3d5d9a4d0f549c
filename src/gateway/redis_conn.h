/* A Redis client: RESP2 or RESP3 (proto/resp.h), dispatched by the command table
 * (store/commands.h).
 *
 *   CMD_READ        sent up as a read, or joins    CMD_WRITE     sent up as a write
 *                   the writes under way
 *   CMD_CONNECTION  answered here, by the tables   CMD_INTERNAL  "unknown command"
 *                   below
 *
 * What is answered here is made as a neutral reply and then written in the client's protocol
 * version, like the upstream's replies. A request remembers the version and whether CLIENT REPLY
 * silenced it, since both may change before its answer comes.
 *
 * Files: redis_conn.c parsing and dispatch; redis_handshake.c what clients say at connect;
 * redis_client.c CLIENT; redis_info.c INFO; redis_config.c CONFIG; redis_command.c COMMAND;
 * redis_multi.c transactions.
 */
#pragma once
#include "gateway/access.h"
#include "gateway/conn.h"
#include "proto/resp.h"
#include "store/commands.h"

/* What we say we are: clients choose what they send by it, and refuse what is too old. */
#define REDIS_VERSION "7.2.4"

struct redis_multi {
    bool active;           /* between MULTI and EXEC or DISCARD */
    bool aborted;          /* a command was refused while queueing: EXEC will be */
    bool watch_lost;       /* a WATCH could not be answered: EXEC answers as if a key had changed */
    uint32_t queued_count; /* commands in `queue` */
    uint32_t local_count;  /* those among them that are answered here */
    uint32_t watch_count;
    struct buf queue;   /* lstr of packed argv, for each */
    struct buf watches; /* lstr key | u16 db | u64 revision, for each */
};

struct redis_conn {
    struct conn conn;
    struct resp_parser parser;
    int version; /* of RESP: 2 or 3 */
    uint16_t db;
    bool reply_off;       /* CLIENT REPLY OFF */
    bool reply_skip;      /* CLIENT REPLY SKIP: the next command is not answered */
    bool silent;          /* the command being executed is not answered */
    uint8_t small_reads;  /* how many replies to reads in a row were small, up to what matters */
    uint8_t joined_reads; /* that joined the writes under way since the last write */
    bool authenticated;   /* by a token: */
    uint8_t token[SHA256_BYTES];
    bool in_exec; /* a local command runs as part of EXEC */
    struct redis_multi multi;
    struct client_entry client;
};

void redis_conn_new(struct gateway *gw, struct stream *s);
/* What gw->store_requests holds. */
size_t redis_store_request_bytes(void);

/* A command in flight. */
struct redis_request {
    struct conn_request base;
    struct redis_conn *rc;
    uint8_t version;
    bool silent;
    bool read;
};
struct redis_request *redis_request_new(struct redis_conn *rc, size_t size,
                                        const struct conn_request_ops *ops);
/* For requests without an ending of their own. */
void redis_request_answer(struct conn_request *r, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply);
void redis_request_free(struct conn_request *r);
/* Answers with a neutral reply in the request's version, unless it is silent; frees the request. */
void redis_request_reply(struct redis_request *r, struct slice neutral);

/* The error reply in the place of one that is not well formed. */
struct slice redis_malformed_reply(const struct redis_request *r);

/* Commands answered here. `out` takes exactly one neutral reply. args->args[0] is the name. */
typedef void (*redis_local_fn)(struct redis_conn *rc, const struct argv *args, struct buf *out);
/* Commands that ask the upstream, or end or change the flow. Returns false when they must wait
 * (after conn_wait()), having done nothing. */
typedef bool (*redis_special_fn)(struct redis_conn *rc, const struct argv *args);

/* name, function; each name must be CMD_CONNECTION in the command table. */
#define REDIS_LOCAL_TABLE(X)                                                                       \
    X("PING", redis_ping)                                                                          \
    X("ECHO", redis_echo)                                                                          \
    X("SELECT", redis_select)                                                                      \
    X("AUTH", redis_auth_local)                                                                    \
    X("HELLO", redis_hello_local)                                                                  \
    X("RESET", redis_reset)                                                                        \
    X("TIME", redis_time)                                                                          \
    X("CLIENT", redis_client)                                                                      \
    X("CONFIG", redis_config)                                                                      \
    X("COMMAND", redis_command)                                                                    \
    X("UNWATCH", redis_unwatch)
#define REDIS_SPECIAL_TABLE(X)                                                                     \
    X("INFO", redis_info)                                                                          \
    X("AUTH", redis_auth)                                                                          \
    X("HELLO", redis_hello)                                                                        \
    X("QUIT", redis_quit)                                                                          \
    X("MULTI", redis_multi_begin)                                                                  \
    X("EXEC", redis_multi_exec)                                                                    \
    X("DISCARD", redis_multi_discard)                                                              \
    X("WATCH", redis_watch)

#define X(name, fn) void fn(struct redis_conn *rc, const struct argv *args, struct buf *out);
REDIS_LOCAL_TABLE(X)
#undef X
#define X(name, fn) bool fn(struct redis_conn *rc, const struct argv *args);
REDIS_SPECIAL_TABLE(X)
#undef X

/* NULL when the command is not answered by such a function. */
redis_local_fn redis_find_local(const struct command *cmd);
redis_special_fn redis_find_special(const struct command *cmd);

/* Answers now, behind everything in the line. */
void redis_answer(struct redis_conn *rc, struct slice neutral);
void redis_answer_error(struct redis_conn *rc, const char *fmt, ...) PRINTF_LIKE(2, 3);
void redis_answer_simple(struct redis_conn *rc, const char *text);

/* For commands with subcommands, in Redis's words. */
void redis_error_subcommand(struct buf *out, const char *command, struct slice sub);
void redis_error_arity(struct buf *out, const char *command, const char *sub);

/* redis_access.c: who the connection's client is. */
struct who redis_who(struct redis_conn *rc);
/* Whether it must log in and has not. */
bool redis_is_stranger(const struct redis_conn *rc);
/* Whether it may. False: it must wait (*ret_wait), or the error is in `out`. */
bool redis_may(struct redis_conn *rc, const struct command *cmd, const struct argv *args,
               struct buf *out, bool *ret_wait);
/* AUTH's question. WHO_UNKNOWN: access_wait() first. True: the connection is that user's now. */
enum who_kind redis_log_in(struct redis_conn *rc, const struct slice *user, struct slice password);
/* The error reply to a log-in that failed. */
void redis_log_in_error(struct buf *out, enum who_kind kind);
/* redis_multi.c */
void redis_multi_queue(struct redis_conn *rc, const struct command *cmd, const struct argv *args);
void redis_multi_reset(struct redis_conn *rc, bool unwatch_too);
/* redis_info.c: INFO inside EXEC, where the keyspace's sizes are not asked for. */
void redis_info_local(struct redis_conn *rc, const struct argv *args, struct buf *out);
/* redis_client.c: the fields a command has changed, as CLIENT LIST shows them. */
void redis_client_update(struct redis_conn *rc);
/* redis_config.c: glob matching as Redis's, without case. */
bool redis_glob_match(struct slice pattern, struct slice text);
