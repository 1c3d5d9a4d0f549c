/* What a gateway thread counts. Each counter is defined once, here: the struct's fields, and name,
 * type and help text in /_/metrics, are expanded from METRICS.
 *
 * One thread writes, others read: relaxed atomic loads and stores of whole words, no locks. A
 * reader may see one counter newer than another; each is monotonic by itself (gauges aside).
 */
#pragma once
#include <stdint.h>

#include "base/buf.h"

/* name, Prometheus type, help */
#define METRICS(X)                                                                                 \
    X(connections_http, gauge, "HTTP connections now open.")                                       \
    X(connections_redis, gauge, "Redis protocol connections now open.")                            \
    X(connections_parked, gauge, "HTTP connections that hold nothing but their socket.")           \
    X(connections_accepted_total, counter, "Connections taken.")                                   \
    X(connections_refused_total, counter, "Connections refused because the limit was reached.")    \
    X(connections_limited_total, counter,                                                          \
      "Connections refused because their address has too many.")                                   \
    X(connections_timed_out_total, counter, "Connections closed by a time limit.")                 \
    X(connections_overrun_total, counter,                                                          \
      "Connections closed because they held too much memory or did not read.")                     \
    X(http_requests_total, counter, "HTTP requests understood.")                                   \
    X(connections_http2, gauge, "HTTP connections now open that speak HTTP/2.")                    \
    X(tls_handshakes_total, counter, "TLS handshakes done.")                                       \
    X(tls_resumed_total, counter, "TLS handshakes that a ticket made short.")                      \
    X(tls_handshakes_failed_total, counter, "TLS handshakes that failed or took too long.")        \
    X(http2_floods_total, counter, "HTTP/2 connections ended with ENHANCE_YOUR_CALM.")             \
    X(http_malformed_total, counter, "HTTP requests answered 400, 414, 431, 501 or 505 unread.")   \
    X(http_limited_total, counter, "HTTP requests refused because their address sends too many.")  \
    X(http_answers_4xx_total, counter, "HTTP answers with a status of 400 to 499.")                \
    X(http_answers_5xx_total, counter, "HTTP answers with a status of 500 to 599.")                \
    X(access_lines_total, counter, "Lines handed to the access log.")                              \
    X(access_lines_dropped_total, counter, "Lines dropped because the access log is too slow.")    \
    X(http_replayed_total, counter,                                                                \
      "HTTP requests that their Idempotency-Key had executed before.")                             \
    X(site_requests_total, counter, "Requests answered by a site.")                                \
    X(site_quick_total, counter, "Those of them answered from memory in one step.")                \
    X(site_waits_total, counter,                                                                   \
      "Requests that waited because their visitor had seen a newer deploy.")                       \
    X(redis_commands_total, counter, "Redis commands understood.")                                 \
    X(redis_errors_total, counter, "Error replies to Redis clients.")                              \
    X(redis_malformed_total, counter, "Redis protocol errors.")                                    \
    X(reads_total, counter, "Reads sent to the database.")                                         \
    X(writes_total, counter, "Writes sent to the database.")                                       \
    X(requests_not_applied_total, counter, "Requests given up, certainly not applied.")            \
    X(requests_unknown_total, counter, "Requests given up, perhaps applied.")                      \
    X(requests_in_flight, gauge, "Requests sent to the database and not yet answered.")            \
    X(order_waits_total, counter,                                                                  \
      "Times a connection waited before it went from reads to writes or back.")                    \
    X(reads_joined_total, counter, "Reads that went through the log with the writes before them.") \
    X(watchers, gauge, "Clients of /v1/watch that are up to date and told changes as they come.")  \
    X(watch_polls_total, counter, "Batches of changes that were looked at for watchers.")          \
    X(watch_encodings_total, counter, "Changes encoded as events.")                                \
    X(watch_deliveries_total, counter, "Times a watcher was told events as they came.")            \
    X(watch_lagged_total, counter, "Times a watcher took too little and had to catch up.")         \
    X(watch_resets_total, counter, "Times a watcher was told the state anew.")                     \
    X(received_bytes_total, counter, "Bytes received from clients.")                               \
    X(sent_bytes_total, counter, "Bytes written to clients.")                                      \
    X(input_bytes, gauge, "Memory held for requests that are not complete.")                       \
    X(output_bytes, gauge, "Memory held for answers that are not written.")

struct gateway_metrics {
#define METRIC_FIELD(name, type, help) uint64_t name;
    METRICS(METRIC_FIELD)
#undef METRIC_FIELD
};

/* By the owning thread only. `n` may be negative for gauges. */
#define METRIC_ADD(m, name, n)                                                                     \
    __atomic_store_n(&(m)->name, (m)->name + (uint64_t)(n), __ATOMIC_RELAXED)

/* Adds the counters of another thread to a sum of the caller's own. */
void metrics_sum(struct gateway_metrics *sum, const struct gateway_metrics *other);
/* Prometheus text format 0.0.4. */
void metrics_append(struct buf *out, const struct gateway_metrics *m);
/* One further sample in the same format. */
void metrics_append_one(struct buf *out, const char *name, const char *type, const char *help,
                        uint64_t value);
