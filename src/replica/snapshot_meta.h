/* The file snapshot.meta: names the one durable snapshot of a node that counts, with what the core
 * and the store need to know of it. The snapshot itself is snapshots/INDEX.mdb.
 * docs/store-format.md has the bytes. Pure functions. */
#pragma once
#include "replica/core.h"
#include "store/store.h"

#define SNAPSHOT_META_NAME "snapshot.meta"

struct snapshot_meta {
    struct core_snapshot snapshot;
    struct store_snapshot info;
};

void snapshot_meta_encode(const struct snapshot_meta *m, struct buf *out);
/* False when these bytes are not such a record, or damaged, or contradict themselves. */
bool snapshot_meta_decode(struct slice in, struct snapshot_meta *ret);
/* Where the snapshot file at an index is, in a data folder. */
void snapshot_file_path(const char *data_dir, uint64_t index, char out[4096]);
