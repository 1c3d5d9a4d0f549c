/* What a node tells other threads of its process about itself, for metrics and readiness.
 *
 * The node's thread writes, others read: relaxed atomic loads and stores of whole words. A reader
 * may see one newer than another.
 */
#pragma once
#include <stdint.h>

/* X(name, Prometheus type, help) */
#define NODE_GAUGES(X)                                                                             \
    X(health, gauge, "The copy: 0 sound, 1 in doubt, 2 being repaired, 3 beyond local repair.")    \
    X(applied_index, gauge, "Index of the last log entry applied.")                                \
    X(digest_checks_total, counter, "Digests in the log that were compared with the own one.")     \
    X(digest_differences_total, counter, "Times that a digest of another node differed.")          \
    X(repairs_total, counter, "Times that the store was made anew because it was wrong.")          \
    X(scrubs_total, counter, "Times that every record was counted up against the digest.")         \
    X(scrub_records_bytes_total, counter, "Bytes of records that were counted up.")                \
    X(snapshots_taken_total, counter, "Snapshots taken.")                                          \
    X(snapshots_installed_total, counter, "Snapshots of other nodes put in place.")                \
    X(snapshot_index, gauge, "Index of the present snapshot, 0 when there is none.")               \
    X(log_bytes, gauge, "Size of the log on the disk.")

struct node_gauges {
#define NODE_GAUGE_FIELD(name, type, help) uint64_t name;
    NODE_GAUGES(NODE_GAUGE_FIELD)
#undef NODE_GAUGE_FIELD
};

#define NODE_GAUGE_SET(g, name, value) __atomic_store_n(&(g)->name, (value), __ATOMIC_RELAXED)
#define NODE_GAUGE_GET(g, name) __atomic_load_n(&(g)->name, __ATOMIC_RELAXED)
