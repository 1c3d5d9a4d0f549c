/* The other subcommands of the binary: what a person or a script asks of a running system, over
 * HTTP.
 *
 * cli_main() takes the program's own arguments. CLI_COMMANDS and CLI_OPTIONS are the tables that
 * dispatch, option parsing and every help text are expanded from. Each option is also a variable of
 * the environment. Single thread; messages for people go to standard error, results to standard
 * output.
 *
 * curl/curl.h is included in http.c only, jansson.h in http.c (error bodies), status.c and
 * member.c, deploy_api.c and sites.c. zlib.h and brotli/ are included in compress.c only.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes, for scripts: a 4 has changed nothing, a 5 may have. */
enum cli_exit {
    CLI_OK = 0,
    CLI_NO =
        1, /* get, del: no such key; status: no leader, or copies that differ; check: damaged */
    CLI_USAGE = 2,       /* the command line is wrong; nothing was sent */
    CLI_UNREACHABLE = 3, /* no answer; nothing was changed */
    CLI_REFUSED = 4,     /* the server answered with an error; nothing was changed */
    CLI_UNKNOWN = 5,     /* a write was sent, and whether it was applied is not known */
    CLI_LOCAL = 6,       /* reading the input or writing the output failed here */
};

/* Which commands take an option: each command names the sets that it takes. */
enum cli_option_set {
    CLI_SET_COMMON = 1 << 0,
    CLI_SET_STORE = 1 << 1,
    CLI_SET_CONDITION = 1 << 2,
    CLI_SET_JSON = 1 << 3, /* of those that do not speak HTTP */
    CLI_SET_BACKUP = 1 << 4,
    CLI_SET_DATA = 1 << 5,
    CLI_SET_JOIN = 1 << 6,
    CLI_SET_BENCH = 1 << 7,
    CLI_SET_DEPLOY = 1 << 8,
    CLI_SET_SITE = 1 << 9,
    CLI_SET_CERT = 1 << 10,
    CLI_SET_TOKEN = 1 << 12,
};

/* X(field, type, option, environment, value's name or "" for a switch, set, help) */
#define CLI_OPTIONS(X)                                                                             \
    X(to, const char *, "--to", "COTIDAL_TO", "URL", CLI_SET_COMMON,                               \
      "which node to ask (default http://127.0.0.1:8080)")                                         \
    X(json, const char *, "--json", "COTIDAL_JSON", "", CLI_SET_COMMON | CLI_SET_JSON,             \
      "print JSON, for machines")                                                                  \
    X(timeout, const char *, "--timeout", "COTIDAL_TIMEOUT", "DURATION", CLI_SET_COMMON,           \
      "how long to wait for an answer (default 15s)")                                              \
    X(ttl, const char *, "--ttl", "COTIDAL_TTL", "DURATION", CLI_SET_STORE | CLI_SET_TOKEN,        \
      "the key, or the token, expires after this time: 30s, 5m, 2h, 7d, 500ms")                    \
    X(token_file, const char *, "--token-file", "COTIDAL_TOKEN_FILE", "FILE", CLI_SET_COMMON,      \
      "where the token is that the node asks for (or it is in COTIDAL_TOKEN)")                     \
    X(token_name, const char *, "--name", "COTIDAL_TOKEN_NAME", "NAME", CLI_SET_TOKEN,             \
      "what the token is called, and the user's name in AUTH (default token)")                     \
    X(token_read, const char *, "--read", "COTIDAL_TOKEN_READ", "PATTERN,...", CLI_SET_TOKEN,      \
      "keys that it may read: a key, or the beginning of keys and a *")                            \
    X(token_write, const char *, "--write", "COTIDAL_TOKEN_WRITE", "PATTERN,...", CLI_SET_TOKEN,   \
      "keys that it may write, likewise")                                                          \
    X(token_admin, const char *, "--admin", "COTIDAL_TOKEN_ADMIN", "", CLI_SET_TOKEN,              \
      "it may do everything")                                                                      \
    X(token_deploy, const char *, "--deploy", "COTIDAL_TOKEN_DEPLOY", "", CLI_SET_TOKEN,           \
      "it may deploy sites")                                                                       \
    X(content_type, const char *, "--content-type", "COTIDAL_CONTENT_TYPE", "TYPE", CLI_SET_STORE, \
      "kept with the value and given back over HTTP")                                              \
    X(if_absent, const char *, "--if-absent", "COTIDAL_IF_ABSENT", "", CLI_SET_STORE,              \
      "only when there is no such key")                                                            \
    X(if_revision, const char *, "--if-revision", "COTIDAL_IF_REVISION", "N", CLI_SET_CONDITION,   \
      "only when the key is still at this revision")                                               \
    X(from, const char *, "--from", "COTIDAL_FROM", "URL|DIR", CLI_SET_BACKUP,                     \
      "which node to take it from, or the data folder of one that is stopped")                     \
    X(data, const char *, "--data", "COTIDAL_DATA", "DIR", CLI_SET_DATA,                           \
      "the data folder to make")                                                                   \
    X(join, const char *, "--join", "COTIDAL_JOIN", "HOST:PORT", CLI_SET_JOIN,                     \
      "the --peer address of a node that is up")                                                   \
    X(yes, const char *, "--yes", "COTIDAL_YES", "", CLI_SET_JOIN, "do not ask")                   \
    X(site, const char *, "--site", "COTIDAL_SITE", "NAME", CLI_SET_SITE,                          \
      "which site (default \"default\", which answers every host name that no other site has)")    \
    X(host, const char *, "--host", "COTIDAL_HOST", "NAME,...", CLI_SET_DEPLOY,                    \
      "the host names of the site from now on; \"\" for none (default: as they are)")              \
    X(keep, const char *, "--keep", "COTIDAL_KEEP", "N", CLI_SET_DEPLOY,                           \
      "how many deploys stay, to go back to (default: as it is, 10 at first)")                     \
    X(note, const char *, "--note", "COTIDAL_NOTE", "TEXT", CLI_SET_DEPLOY,                        \
      "kept with the deploy and shown by cotidal sites")                                           \
    X(preview, const char *, "--preview", "COTIDAL_PREVIEW", "", CLI_SET_DEPLOY,                   \
      "send everything, but do not switch: cotidal preview shows it")                              \
    X(dry_run, const char *, "--dry-run", "COTIDAL_DRY_RUN", "", CLI_SET_DEPLOY,                   \
      "send nothing: say what would be sent, and what is wrong with links and rules")              \
    X(peer_cert, const char *, "--peer-cert", "COTIDAL_PEER_CERT", "FILE", CLI_SET_JOIN,           \
      "when nodes speak TLS among themselves: a certificate for it, this node's")                  \
    X(peer_key, const char *, "--peer-key", "COTIDAL_PEER_KEY", "FILE", CLI_SET_JOIN, "its key")   \
    X(peer_ca, const char *, "--peer-ca", "COTIDAL_PEER_CA", "FILE", CLI_SET_JOIN,                 \
      "the authority of the nodes' certificates")                                                  \
    X(cert_out, const char *, "--out", "COTIDAL_CERT_OUT", "DIR", CLI_SET_CERT,                    \
      "init, node: the folder to write to; it is made when it is not there (default .)")           \
    X(cert_ca, const char *, "--ca", "COTIDAL_CERT_CA", "DIR", CLI_SET_CERT,                       \
      "node: the folder of the authority (default .)")                                             \
    X(cert_san, const char *, "--san", "COTIDAL_CERT_SAN", "HOST,...", CLI_SET_CERT,               \
      "node: further host names and addresses that it is reached at")                              \
    X(cert_days, const char *, "--days", "COTIDAL_CERT_DAYS", "N", CLI_SET_CERT,                   \
      "init, node: how long it is valid (default 3650 for an authority, 365 for a node)")          \
    CLI_BENCH_OPTIONS(X)

/* Those of bench alone. */
#define CLI_BENCH_OPTIONS(X)                                                                       \
    X(bench_command, const char *, "--command", "COTIDAL_BENCH_COMMAND", "TEXT", CLI_SET_BENCH,    \
      "set, get, incr, mixed, or a request of your own with {key} and {value} in it: "             \
      "\"HSET {key} f {value}\", over HTTP \"GET /index.html\" (default set)")                     \
    X(bench_ratio, const char *, "--ratio", "COTIDAL_BENCH_RATIO", "SETS:GETS", CLI_SET_BENCH,     \
      "of --command mixed (default 1:10)")                                                         \
    X(bench_clients, const char *, "--clients", "COTIDAL_BENCH_CLIENTS", "N", CLI_SET_BENCH,       \
      "connections, spread over the addresses (default 50)")                                       \
    X(bench_threads, const char *, "--threads", "COTIDAL_BENCH_THREADS", "N", CLI_SET_BENCH,       \
      "threads that share the connections (default 1)")                                            \
    X(bench_pipeline, const char *, "--pipeline", "COTIDAL_BENCH_PIPELINE", "N", CLI_SET_BENCH,    \
      "requests that a connection has on their way (default 1)")                                   \
    X(bench_rate, const char *, "--rate", "COTIDAL_BENCH_RATE", "N", CLI_SET_BENCH,                \
      "requests a second, whether the server keeps up or not; times count from when a request "    \
      "was due (default: each connection sends when it has its answers)")                          \
    X(bench_duration, const char *, "--duration", "COTIDAL_BENCH_DURATION", "DURATION",            \
      CLI_SET_BENCH, "how long to measure (default 10s)")                                          \
    X(bench_warmup, const char *, "--warm-up", "COTIDAL_BENCH_WARM_UP", "DURATION", CLI_SET_BENCH, \
      "how long to run before that (default 500ms)")                                               \
    X(bench_requests, const char *, "--requests", "COTIDAL_BENCH_REQUESTS", "N", CLI_SET_BENCH,    \
      "end after so many requests; no warm-up then")                                               \
    X(bench_size, const char *, "--size", "COTIDAL_BENCH_SIZE", "SIZE", CLI_SET_BENCH,             \
      "bytes of {value} (default 100; K and M are understood)")                                    \
    X(bench_keys, const char *, "--keys", "COTIDAL_BENCH_KEYS", "N", CLI_SET_BENCH,                \
      "how many keys to choose {key} from, at random: bench:0000000000 and on (default 10000)")    \
    X(bench_fill, const char *, "--fill", "COTIDAL_BENCH_FILL", "", CLI_SET_BENCH,                 \
      "each key once, in order, and then end")                                                     \
    X(bench_wait, const char *, "--wait", "COTIDAL_BENCH_WAIT", "N", CLI_SET_BENCH,                \
      "Redis: a WAIT for N replicas behind each write, both counted as one request")               \
    X(bench_header, const char *, "--header", "COTIDAL_BENCH_HEADER", "TEXT", CLI_SET_BENCH,       \
      "HTTP: a header field for each request, \"Name: value\"")                                    \
    X(bench_interval, const char *, "--interval", "COTIDAL_BENCH_INTERVAL", "DURATION",            \
      CLI_SET_BENCH, "with --json: also how many requests and the longest time in each interval")  \
    X(bench_pids, const char *, "--server-pids", "COTIDAL_BENCH_SERVER_PIDS", "PID,...",           \
      CLI_SET_BENCH, "processes of this machine whose CPU time is to be told")

/* X(name, function, option sets, arguments' least and most count, usage, help) */
#define CLI_COMMANDS(X)                                                                            \
    X("status", cli_status, CLI_SET_COMMON, 0, 0, "",                                              \
      "the nodes: who leads, how far each one is, whether the copies are equal")                   \
    X("get", cli_get, CLI_SET_COMMON, 1, 1, "KEY", "write a key's value to standard output")       \
    X("set", cli_set, CLI_SET_COMMON | CLI_SET_STORE | CLI_SET_CONDITION, 2, 2, "KEY VALUE|-",     \
      "store a value; - reads it from standard input")                                             \
    X("del", cli_del, CLI_SET_COMMON | CLI_SET_CONDITION, 1, 1, "KEY", "delete a key")             \
    X("deploy", cli_deploy, CLI_SET_COMMON | CLI_SET_SITE | CLI_SET_DEPLOY, 1, 1, "DIR",           \
      "publish a folder as a site: send what is new, then switch at once everywhere")              \
    X("sites", cli_sites, CLI_SET_COMMON, 0, 2, "[delete NAME]",                                   \
      "the sites and their deploys; or delete a site with all of them")                            \
    X("rollback", cli_rollback, CLI_SET_COMMON | CLI_SET_SITE, 0, 1, "[ID]",                       \
      "show an earlier deploy again (default: the one before)")                                    \
    X("preview", cli_preview, CLI_SET_COMMON, 1, 1, "ID",                                          \
      "where a browser goes to see a deploy that is not shown")                                    \
    X("check", cli_check, CLI_SET_JSON, 1, 1, "DIR|FILE",                                          \
      "whether the files of a stopped node, or of a backup, are what was written")                 \
    X("member", cli_member, CLI_SET_COMMON, 1, 2, "list|add|remove ID|promote ID|transfer [ID]",   \
      "who belongs to the cluster: show, how to add one, take one out, let one vote, let one "     \
      "lead")                                                                                      \
    X("token", cli_token, CLI_SET_COMMON | CLI_SET_TOKEN, 1, 2, "create|list|revoke ID|new",       \
      "who may ask: make a token, list them, take one back; or only make the text of one")         \
    X("backup", cli_backup, CLI_SET_COMMON | CLI_SET_BACKUP, 1, 1, "FILE",                         \
      "copy everything that a running system holds into a file")                                   \
    X("restore", cli_restore, CLI_SET_JSON | CLI_SET_DATA, 1, 1, "FILE",                           \
      "make the data folder of a new system's first node from a backup")                           \
    X("rejoin", cli_rejoin, CLI_SET_JOIN, 1, 1, "DIR --join HOST:PORT",                            \
      "set a damaged node's files aside, so that it joins as a new one")                           \
    X("cert", cli_cert, CLI_SET_CERT, 1, 2, "init|node NAME|show FILE",                            \
      "certificates for TLS between nodes: a small authority, one for each node, what one says")   \
    X("bench", cli_bench, CLI_SET_JSON | CLI_SET_BENCH, 0, 1, "[redis://|http://]HOST:PORT[,...]", \
      "how many requests a server of the Redis protocol or of HTTP answers, and how fast")         \
    X("commands", cli_commands, 0, 0, 0, "",                                                       \
      "the Redis commands this version has, as a Markdown table")

/* The subcommands that run a server: main()'s own, here for the list of all. X(name, usage, help)
 */
#define CLI_ROLES(X)                                                                               \
    X("serve", "[OPTION...]", "web server and database in one process")                            \
    X("db", "[OPTION...]", "a database node alone")                                                \
    X("web", "--db HOST:PORT,... [OPTION...]", "a web server alone, in front of database nodes")

/* A parsed command line; everything borrows from argv and the environment. Options that were not
 * given are NULL, a switch that was given is "1". */
struct cli_args {
#define X(field, type, option, environment, value, set, help) type field;
    CLI_OPTIONS(X)
#undef X
    const char *words[2];
    int word_count;
};

/* Runs `argv[1]` and returns the exit code. main() comes here for everything but the roles. */
int cli_main(int argc, char **argv);

int cli_status(const struct cli_args *args);
int cli_get(const struct cli_args *args);
int cli_set(const struct cli_args *args);
int cli_del(const struct cli_args *args);
int cli_member(const struct cli_args *args);
int cli_token(const struct cli_args *args);
int cli_check(const struct cli_args *args);
int cli_deploy(const struct cli_args *args);
int cli_sites(const struct cli_args *args);
int cli_rollback(const struct cli_args *args);
int cli_preview(const struct cli_args *args);
int cli_backup(const struct cli_args *args);
int cli_rejoin(const struct cli_args *args);
int cli_restore(const struct cli_args *args);
int cli_cert(const struct cli_args *args);
int cli_bench(const struct cli_args *args);
int cli_commands(const struct cli_args *args);

/* Locks a data folder as a node does, until the descriptor is closed. A node that runs there keeps
 * us out, and we keep one from starting. Or, having said why, a negative enum cli_exit. */
int cli_lock_folder(const char *dir);
