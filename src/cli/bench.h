/* cotidal bench: a load generator for servers of the Redis protocol and of HTTP/1.1.
 *
 *   bench.c           the options become a plan; threads are started, timed and joined
 *   bench_request.c   a request's template becomes bytes with places for the key
 *   bench_worker.c    one thread: its connections, what is on its way, what is counted
 *   bench_report.c    the result as text or JSON
 *
 * Closed loop: each connection sends `pipeline` requests at once, waits for all their answers, and
 * sends the next; a request's time begins when it is sent. Open loop (--rate): requests are due at
 * fixed moments whatever the server does, go out on any connection with fewer than `pipeline` on
 * their way, and a request's time begins when it was due. So a server that stalls for a second is
 * charged with all the requests that would have been made in that second, not with one of each
 * connection (what is called coordinated omission). Requests that are not answered, or could not
 * even be sent, by the end count with the time they had waited.
 *
 *   start_ns      begin_ns                          end_ns        + BENCH_DRAIN_MS at most
 *      | warm-up      | what is counted                | answers to what was sent before
 *
 * An answer counts for the rate when it came between begin and end; a time counts when it began
 * there, so that the slowest are not left out. */
#pragma once
#include <pthread.h>

#include "base/buf.h"
#include "base/histogram.h"

enum {
    BENCH_OPERATIONS_MAX = 2,
    BENCH_ADDRESSES_MAX = 32,
    BENCH_PIDS_MAX = 64,
    BENCH_ERROR_BYTES = 100,
    BENCH_DRAIN_MS = 2000,
    BENCH_INTERVALS_MAX = 100000,
    BENCH_KEY_DIGITS = 10,
};

enum bench_protocol { BENCH_REDIS, BENCH_HTTP };

/* ---- requests (bench_request.c) ---- */

/* The bytes of a request, with the places where the digits of the key's number go. */
struct bench_request {
    struct buf bytes;
    struct buf key_places; /* offsets into bytes, a uint32_t each */
};

/* What stands for the parts of a template that are not its own. */
struct bench_request_form {
    enum bench_protocol protocol;
    const char *host;   /* HTTP: of the Host field */
    const char *header; /* HTTP: one further field, "Name: value"; or NULL */
    struct slice value; /* of {value} */
    uint64_t wait;      /* Redis: WAIT for so many replicas behind it; 0: none */
};
/* Redis: a command line with Redis's quoting. HTTP: "METHOD TARGET [BODY]". In either {key} stands
 * for a key and {value} for a value. Returns NULL, or what is wrong with the template (a static
 * string). *ret_request is to be freed in either case. */
const char *bench_request_make(const struct bench_request_form *form, const char *text,
                               struct bench_request *ret_request);
void bench_request_fini(struct bench_request *r);
/* Appends the request for the key of this number. */
void bench_request_append(struct buf *out, const struct bench_request *r, uint64_t key);

/* ---- the plan ---- */

struct bench_operation {
    const char *name;
    struct bench_request request;
    uint64_t weight;     /* its share of the requests, among the weights of all */
    unsigned answers;    /* replies to one request */
    bool may_be_missing; /* HTTP: 404 is a miss, not an error */
};

struct bench_plan {
    enum bench_protocol protocol;
    char *addresses[BENCH_ADDRESSES_MAX];
    size_t address_count;
    struct bench_operation operations[BENCH_OPERATIONS_MAX];
    size_t operation_count;
    uint64_t clients, threads, pipeline, rate, keys, requests; /* rate, requests: 0 for none */
    uint64_t value_bytes, wait;
    uint64_t duration_ms, warmup_ms, interval_ms; /* duration: 0 for none; interval: 0 for none */
    bool fill;                                    /* each key once, in order */
    uint64_t pids[BENCH_PIDS_MAX];
    size_t pid_count;
    /* Set when all are connected. */
    uint64_t start_ns, begin_ns, end_ns;
};

/* ---- what is counted ---- */

struct bench_tally {
    uint64_t answered; /* between begin and end, errors included */
    uint64_t errors;
    uint64_t misses;
    uint64_t unanswered; /* at the end of the run */
    struct histogram ns; /* of requests that did not fail */
};

struct bench_interval {
    uint64_t answered, errors, max_ns;
};

/* A thread's, or the sum of all. */
struct bench_counts {
    struct bench_tally tally[BENCH_OPERATIONS_MAX];
    uint64_t unsent;               /* open loop: due, and never sent */
    uint64_t lost_connections;     /* that had requests on their way, or could not be made again */
    uint64_t pause_ns;             /* the longest time without a good answer */
    uint64_t last_ns;              /* when the last request was answered */
    char error[BENCH_ERROR_BYTES]; /* the first one's text */
    struct bench_interval *intervals;
    size_t interval_count;
};

struct bench_result {
    struct bench_counts counts;
    double seconds; /* that were counted */
    double client_cpu_s, server_cpu_s;
};

/* ---- threads (bench_worker.c) ---- */

enum bench_outcome { BENCH_DONE, BENCH_NOT_CONNECTED, BENCH_LOCAL_FAILURE };

struct bench_worker {
    const struct bench_plan *plan;
    uint64_t index;
    pthread_barrier_t *barrier; /* passed twice: when connected, and when start_ns is set */
    bool *give_up;              /* read behind the second: some other thread is not connected */
    enum bench_outcome outcome; /* the rest is valid behind the first pass */
    char problem[BENCH_ERROR_BYTES + 300];
    struct bench_counts counts;
};

/* The thread's function; takes a struct bench_worker, of which it sets outcome, problem, counts. */
void *bench_worker_run(void *worker);

/* ---- the report (bench_report.c) ---- */

void bench_report_text(const struct bench_plan *plan, const struct bench_result *result);
void bench_report_json(const struct bench_plan *plan, const struct bench_result *result);
