#include "replica/snapshot_meta.h"

#include <stdio.h>

#include "base/hash.h"
#include "base/reader.h"

enum { SNAPSHOT_META_VERSION = 1, CHECKSUM_BYTES = 4 };

void snapshot_meta_encode(const struct snapshot_meta *m, struct buf *out) {
    struct buf part = {0};
    size_t at = out->size;
    buf_append_u32(out, SNAPSHOT_META_VERSION);
    buf_append_u64(out, m->snapshot.index);
    buf_append_u64(out, m->snapshot.term);
    buf_append_u64(out, m->snapshot.membership_index);
    membership_encode(&m->snapshot.membership, &part);
    buf_append_lstr(out, buf_slice(&part));
    buf_reset(&part);
    store_snapshot_encode(&m->info, &part);
    buf_append_lstr(out, buf_slice(&part));
    buf_append_u32(out, crc32c(0, slice_of(out->data + at, out->size - at)));
    buf_fini(&part);
}

bool snapshot_meta_decode(struct slice in, struct snapshot_meta *ret) {
    struct reader r = reader_of(in);
    uint32_t version = reader_u32(&r);
    struct snapshot_meta m = {.snapshot.index = reader_u64(&r)};
    m.snapshot.term = reader_u64(&r);
    m.snapshot.membership_index = reader_u64(&r);
    struct slice membership = reader_lstr(&r), info = reader_lstr(&r);
    uint32_t crc = reader_u32(&r);
    if (!reader_done(&r) || version != SNAPSHOT_META_VERSION ||
        crc != crc32c(0, slice_of(in.data, in.size - CHECKSUM_BYTES)) ||
        !membership_decode(membership, &m.snapshot.membership) ||
        !store_snapshot_decode(info, &m.info) || m.info.index != m.snapshot.index)
        return false;
    *ret = m;
    return true;
}

void snapshot_file_path(const char *data_dir, uint64_t index, char out[4096]) {
    snprintf(out, 4096, "%s/snapshots/%llu.mdb", data_dir, (unsigned long long)index);
}
