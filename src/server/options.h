/* The options of the server roles: one table, from which the command line, the environment
 * (COTIDAL_...), the configuration file, --help and docs/operations.md are made. A later source
 * wins: file, environment, command line. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum server_role { ROLE_SERVE = 1 << 0, ROLE_DB = 1 << 1, ROLE_WEB = 1 << 2 };
enum { ROLES_DATA = ROLE_SERVE | ROLE_DB, ROLES_CLIENTS = ROLE_SERVE | ROLE_WEB, ROLES_ALL = 7 };

enum option_type {
    OPTION_TEXT,     /* const char * */
    OPTION_BYTES,    /* uint64_t: a number with K, M, G or T (powers of 1,024) */
    OPTION_COUNT,    /* uint64_t */
    OPTION_DURATION, /* uint64_t milliseconds: 300ms, 30s, 5m, 2h */
    OPTION_SWITCH,   /* bool */
    OPTION_LIST,     /* struct option_list: given several times, or with commas between */
};

enum { OPTION_LIST_MAX = 16 };
struct option_list {
    size_t count;
    const char *items[OPTION_LIST_MAX];
    const void *source; /* what set it: a later source begins anew */
};

/* X(field, type, name, value, roles, default, help) */
#define SERVER_OPTIONS(X)                                                                          \
    X(data, TEXT, "data", "DIR", ROLES_DATA, "./cotidal-data", "where this node keeps its copy")   \
    X(http, TEXT, "http", "ADDR:PORT", ROLES_CLIENTS, "127.0.0.1:8080",                            \
      "listen for HTTP here; port 0 picks a free one, \"off\" does not listen")                    \
    X(redis, TEXT, "redis", "ADDR:PORT", ROLES_CLIENTS, "127.0.0.1:6379",                          \
      "listen for the Redis protocol here, likewise")                                              \
    X(peer, TEXT, "peer", "ADDR:PORT", ROLES_DATA, "127.0.0.1:7070",                               \
      "listen for other nodes and for web servers here")                                           \
    X(https, TEXT, "https", "ADDR:PORT", ROLES_CLIENTS, "off",                                     \
      "listen for HTTP over TLS here, with --cert and --key")                                      \
    X(rediss, TEXT, "rediss", "ADDR:PORT", ROLES_CLIENTS, "off",                                   \
      "listen for the Redis protocol over TLS here, likewise")                                     \
    X(cert, LIST, "cert", "FILE", ROLES_CLIENTS, "",                                               \
      "certificate with its chain (PEM); again for further names, each with its --key")            \
    X(key, LIST, "key", "FILE", ROLES_CLIENTS, "", "key of the --cert at the same place (PEM)")    \
    X(peer_cert, TEXT, "peer-cert", "FILE", ROLES_ALL, "",                                         \
      "between nodes and web servers: TLS, with this certificate (PEM; see cotidal cert)")         \
    X(peer_key, TEXT, "peer-key", "FILE", ROLES_ALL, "", "key of --peer-cert (PEM)")               \
    X(peer_ca, TEXT, "peer-ca", "FILE", ROLES_ALL, "",                                             \
      "the authority that must have signed the certificates of the others (PEM)")                  \
    X(advertise, TEXT, "advertise", "HOST:PORT", ROLES_DATA, "",                                   \
      "what others reach --peer at, when that differs from the address it listens on")             \
    X(join, TEXT, "join", "HOST:PORT,...", ROLES_DATA, "",                                         \
      "become another copy of the running system that these nodes belong to (first start only)")   \
    X(db, TEXT, "db", "HOST:PORT,...", ROLE_WEB, "", "the database nodes to work with; some do")   \
    X(threads, COUNT, "threads", "N", ROLES_CLIENTS, "0",                                          \
      "threads for clients; 1: shared with the node; 0: one a core, or 1 next to a node with up "  \
      "to two cores")                                                                              \
    X(max_data, BYTES, "max-data", "SIZE", ROLES_DATA, "0",                                        \
      "refuse writes that add data above this size; 0: no limit")                                  \
    X(min_free, BYTES, "min-free", "SIZE", ROLES_DATA, "64M",                                      \
      "refuse writes that add data when the disk has less than this left; 0: do not look")         \
    X(map_size, BYTES, "map-size", "SIZE", ROLES_DATA, "64G",                                      \
      "the most that the store's file can grow to (address space, not memory)")                    \
    X(snapshot_bytes, BYTES, "snapshot-bytes", "SIZE", ROLES_DATA, "64M",                          \
      "take a snapshot and shorten the log when it has grown by this much")                        \
    X(snapshot_rate, BYTES, "snapshot-rate", "SIZE", ROLES_DATA, "64M",                            \
      "hand out snapshots to other nodes at this many bytes a second at most; 0: no limit")        \
    X(scrub_every, DURATION, "scrub-every", "TIME", ROLES_DATA, "1h",                              \
      "count all records up against the digest this often; 0: never")                              \
    X(connections, COUNT, "connections", "N", ROLES_CLIENTS, "0",                                  \
      "clients at most; 0: what the limit on open files allows")                                   \
    X(site_memory, BYTES, "site-memory", "SIZE", ROLES_CLIENTS, "256M",                            \
      "keep files of sites in memory up to this size")                                             \
    X(cache, TEXT, "cache", "DIR", ROLE_WEB, "",                                                   \
      "keep what sites show in this folder, to serve it also while the database is unreachable")   \
    X(cache_max, BYTES, "cache-max", "SIZE", ROLE_WEB, "4G", "let that folder grow up to this")    \
    X(session_ttl, DURATION, "session-ttl", "TIME", ROLES_CLIENTS, "30d",                          \
      "forget the session of a visitor (/v1/session) who did not come for so long")                \
    X(per_address, COUNT, "per-address", "N", ROLES_CLIENTS, "0",                                  \
      "connections of one client address at most (IPv6: of one /64); 0: no limit")                 \
    X(rate_limit, TEXT, "rate-limit", "N/s[,BURST]", ROLES_CLIENTS, "",                            \
      "HTTP requests a second of one client address, and how many at once; beyond: 429")           \
    X(keepalive_requests, COUNT, "keepalive-requests", "N", ROLES_CLIENTS, "0",                    \
      "close an HTTP connection after so many requests; 0: no limit")                              \
    X(idle_timeout, DURATION, "idle-timeout", "TIME", ROLES_CLIENTS, "75s",                        \
      "how long an HTTP connection may be idle between requests")                                  \
    X(header_timeout, DURATION, "header-timeout", "TIME", ROLES_CLIENTS, "10s",                    \
      "from the first byte of an HTTP request to the end of its header section")                   \
    X(body_timeout, DURATION, "body-timeout", "TIME", ROLES_CLIENTS, "30s",                        \
      "for the body of an HTTP request, and one second more for each KiB of it")                   \
    X(send_timeout, DURATION, "send-timeout", "TIME", ROLES_CLIENTS, "60s",                        \
      "how long a client may take nothing of what waits for it")                                   \
    X(redis_idle_timeout, DURATION, "redis-idle-timeout", "TIME", ROLES_CLIENTS, "0s",             \
      "how long a Redis client may be idle; 0s: for ever")                                         \
    X(max_header, BYTES, "max-header", "SIZE", ROLES_CLIENTS, "32K",                               \
      "of an HTTP request's line and fields, 32K at most")                                         \
    X(max_body, BYTES, "max-body", "SIZE", ROLES_CLIENTS, "64M",                                   \
      "of one value, one argument, one HTTP body, 64M at most")                                    \
    X(drain_timeout, DURATION, "drain-timeout", "TIME", ROLES_CLIENTS, "5s",                       \
      "how long a stop waits for the answers that clients are owed")                               \
    X(access_log, TEXT, "access-log", "FILE", ROLES_CLIENTS, "",                                   \
      "write a line for each HTTP request; \"-\" is standard output")                              \
    X(access_format, TEXT, "access-format", "FORMAT", ROLES_CLIENTS, "combined",                   \
      "of those lines: combined or json")                                                          \
    X(election_timeout, DURATION, "election-timeout", "TIME", ROLES_DATA, "300ms",                 \
      "how long a leader may be silent before another is elected")                                 \
    X(heartbeat, DURATION, "heartbeat", "TIME", ROLES_DATA, "30ms",                                \
      "how often a leader speaks when it has nothing to say")                                      \
    X(replace_after, DURATION, "replace-after", "TIME", ROLES_DATA, "60s",                         \
      "replace a voter that was silent for so long by a live learner; 0: never")                   \
    X(auth, SWITCH, "auth", "", ROLES_CLIENTS, "",                                                 \
      "ask clients of other machines for a token (cotidal token create); then the listeners for "  \
      "clients may be reached by other machines")                                                  \
    X(require_auth, SWITCH, "require-auth", "", ROLES_CLIENTS, "",                                 \
      "the same, and clients of this machine too")                                                 \
    X(admin_token_file, TEXT, "admin-token-file", "FILE", ROLES_CLIENTS, "",                       \
      "a token (cotidal token new) that may do everything here, whatever the database knows")      \
    X(anonymous_access, TEXT, "anonymous-access", "FILE", ROLES_CLIENTS, "",                       \
      "rules for visitors without a token, in the form of a site's _access file")                  \
    X(cors_origin, LIST, "cors-origin", "ORIGIN,...", ROLES_CLIENTS, "",                           \
      "pages of these origins may ask /v1; \"*\": all, with a token")                              \
    X(config, TEXT, "config", "FILE", ROLES_ALL, "",                                               \
      "read options from here: lines of name = value")                                             \
    X(log_level, TEXT, "log-level", "LEVEL", ROLES_ALL, "info", "debug, info, warn or error")      \
    X(insecure, SWITCH, "insecure", "", ROLES_ALL, "",                                             \
      "allow addresses that other machines can reach, without credentials: trusted networks only")

struct server_options {
    enum server_role role;
#define OPTION_FIELD_TEXT(f) const char *f;
#define OPTION_FIELD_BYTES(f) uint64_t f;
#define OPTION_FIELD_COUNT(f) uint64_t f;
#define OPTION_FIELD_DURATION(f) uint64_t f;
#define OPTION_FIELD_SWITCH(f) bool f;
#define OPTION_FIELD_LIST(f) struct option_list f;
#define X(field, type, name, value, roles, initial, help) OPTION_FIELD_##type(field)
    SERVER_OPTIONS(X)
#undef X
};

enum options_result { OPTIONS_OK, OPTIONS_HELP, OPTIONS_BAD };
/* argv[0] is the role's name. Texts borrow from argv, the environment, or memory that lives as long
 * as the process. BAD: the reason was written to `err`. */
enum options_result options_parse(int argc, char **argv, enum server_role role,
                                  struct server_options *ret, FILE *err);
/* Frees the lists. */
void options_fini(struct server_options *o);
void options_help(enum server_role role, FILE *out);
/* The Markdown table for docs/operations.md. */
void options_docs(FILE *out);
