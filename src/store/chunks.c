/* Values that are too large for their record, as chunks in the table data. LMDB stores a large
 * value in consecutive pages, which get hard to find in a file that has been in use for long;
 * 256 KiB at a time they stay easy to find. */
#include <errno.h>

#include "store/keyspace_impl.h"

void chunks_stage(struct keyspace *ks, struct slice value) {
    /* Only a value of one chunk is ever handed out in place; a larger one stands in a scratch
     * buffer or in the entry, where no change can reach it. */
    if (value.size > CHUNK_BYTES)
        return;
    buf_reset(&ks->chunk);
    buf_append_u8(&ks->chunk, CHUNK_FORMAT);
    buf_append_slice(&ks->chunk, value);
}

static int write_chunk(struct keyspace *ks, struct slice key, struct slice piece,
                       struct hash128 *sum) {
    uint8_t *at;
    int rc = table_reserve(ks->txn, TABLE_DATA, key, 1 + piece.size, &at);
    if (rc)
        return rc;
    at[0] = CHUNK_FORMAT;
    memcpy(at + 1, piece.data, piece.size);
    *sum = hash128_add(*sum, pair_sum(data_key_inner(key), slice_of(at, 1 + piece.size)));
    return 0;
}

int chunks_write(struct keyspace *ks, const struct data_key *owner, struct slice value,
                 uint64_t old_bytes, struct hash128 *ret_sum) {
    struct hash128 sum = {0};
    uint32_t count = chunk_count(value.size);
    if (count == 1) {
        struct data_key key = data_key_chunk(owner, 0);
        struct slice staged = buf_slice(&ks->chunk);
        CHECK(staged.size == 1 + value.size);
        int rc = table_put(ks->txn, TABLE_DATA, data_key_slice(&key), staged);
        if (rc)
            return rc;
        sum = pair_sum(data_key_inner(data_key_slice(&key)), staged);
    } else {
        for (uint32_t i = 0; i < count; i++) {
            size_t from = (size_t)i * CHUNK_BYTES;
            size_t left = value.size - from;
            struct data_key key = data_key_chunk(owner, i);
            struct slice piece =
                slice_of(value.data + from, left < CHUNK_BYTES ? left : CHUNK_BYTES);
            int rc = write_chunk(ks, data_key_slice(&key), piece, &sum);
            if (rc)
                return rc;
        }
    }
    *ret_sum = sum;
    return chunks_delete(ks, owner, count, chunk_count(old_bytes));
}

int chunks_delete(struct keyspace *ks, const struct data_key *owner, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        struct data_key key = data_key_chunk(owner, i);
        int rc = table_delete(ks->txn, TABLE_DATA, data_key_slice(&key));
        if (rc)
            return rc < 0 ? rc : -EBADMSG;
    }
    return 0;
}

static int read_chunk(struct keyspace *ks, const struct data_key *owner, uint32_t index,
                      struct slice *ret_value) {
    struct data_key key = data_key_chunk(owner, index);
    struct slice bytes;
    int rc = table_get(ks->txn, TABLE_DATA, data_key_slice(&key), &bytes);
    if (rc)
        return rc < 0 ? rc : -EBADMSG;
    return chunk_decode(bytes, ret_value);
}

int chunks_read(struct keyspace *ks, const struct data_key *owner, uint64_t bytes,
                struct buf *scratch, struct slice *ret_value) {
    uint64_t chunks = (bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
    if (chunks == 1) {
        struct slice value;
        int rc = read_chunk(ks, owner, 0, &value);
        if (rc)
            return rc;
        if (value.size != bytes)
            return -EBADMSG;
        *ret_value = value;
        return 0;
    }
    /* The claimed size is not believed: the buffer grows by what is found. */
    buf_reset(scratch);
    for (uint64_t i = 0; i < chunks; i++) {
        struct slice value;
        if (i > UINT32_MAX)
            return -EBADMSG;
        int rc = read_chunk(ks, owner, (uint32_t)i, &value);
        if (rc)
            return rc;
        buf_append_slice(scratch, value);
    }
    if (scratch->size != bytes)
        return -EBADMSG;
    *ret_value = buf_slice(scratch);
    return 0;
}
