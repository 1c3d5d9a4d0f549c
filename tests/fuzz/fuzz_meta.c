/* The small files that say who a node is (node.meta) and which snapshot counts (snapshot.meta):
 * whatever decodes encodes to what decodes to the same. The first byte of the input chooses the
 * file, and whether its checksum is put right first. */
#include "base/hash.h"
#include "replica/identity.h"
#include "replica/snapshot_meta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_identity(struct slice in) {
    struct identity id, same;
    struct buf out = {0};
    if (identity_decode(in, &id)) {
        identity_encode(&id, &out);
        CHECK(slice_equal(buf_slice(&out), in));
        CHECK(identity_decode(buf_slice(&out), &same));
        CHECK(same.node_id == id.node_id);
    }
    buf_fini(&out);
}

static void try_snapshot_meta(struct slice in) {
    struct snapshot_meta m, same;
    struct buf out = {0}, again = {0};
    if (snapshot_meta_decode(in, &m)) {
        snapshot_meta_encode(&m, &out);
        CHECK(snapshot_meta_decode(buf_slice(&out), &same));
        snapshot_meta_encode(&same, &again);
        CHECK(slice_equal(buf_slice(&out), buf_slice(&again)));
    }
    buf_fini(&out);
    buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    unsigned choice = data[0];
    struct buf in = {0};
    buf_append(&in, data + 1, size - 1);
    if (choice & 2 && choice & 1)
        buf_append_u32(&in, crc32c(0, buf_slice(&in)));
    else if (choice & 2)
        buf_printf(&in, "checksum %08x\n", crc32c(0, buf_slice(&in)));
    if (choice & 1)
        try_snapshot_meta(buf_slice(&in));
    else
        try_identity(buf_slice(&in));
    buf_fini(&in);
    return 0;
}
