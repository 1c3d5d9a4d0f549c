#include "store/sites_impl.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/reader.h"

enum { DEPLOY_FORMAT = 1, SITE_FORMAT = 1 };

struct site_name site_name_of(enum site_key kind, struct slice rest) {
    struct site_name n = {.bytes = {(uint8_t)kind}, .size = 1 + rest.size};
    CHECK(n.size <= sizeof n.bytes);
    memcpy(n.bytes + 1, rest.data, rest.size);
    return n;
}

struct site_name site_name_deploy(enum site_key kind, uint64_t id) {
    struct site_name n = {.bytes = {(uint8_t)kind}, .size = 9};
    put_u64be(n.bytes + 1, id);
    return n;
}

struct site_name site_name_reference(const uint8_t *hash, uint64_t id) {
    struct site_name n = site_name_of(SITES_REFERENCE, slice_of(hash, SITE_HASH_BYTES));
    put_u64be(n.bytes + n.size, id);
    n.size += 8;
    return n;
}

bool site_name_valid(struct slice name) {
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return name.size > 0 && name.size <= SITE_NAME_BYTES_MAX;
}

/* ---- records ---- */

bool site_deploy_decode(struct slice bytes, struct site_deploy_record *ret) {
    struct reader r = reader_of(bytes);
    if (reader_u8(&r) != DEPLOY_FORMAT)
        return false;
    uint8_t state = reader_u8(&r);
    struct site_deploy_record d = {.state = state};
    d.created_ms = reader_u64(&r);
    d.files = reader_u64(&r);
    d.bytes = reader_u64(&r);
    d.pinned = reader_u32(&r);
    d.block_count = reader_u32(&r);
    d.manifest_bytes = reader_u64(&r);
    d.site = reader_lstr(&r);
    d.note = reader_lstr(&r);
    d.hashes = reader_rest(&r);
    if (!reader_ok(&r) || state > SITE_GONE || d.pinned > d.block_count ||
        d.hashes.size % SITE_HASH_BYTES != 0 || d.hashes.size == 0 || !site_name_valid(d.site))
        return false;
    *ret = d;
    return true;
}

void site_deploy_encode(struct buf *out, const struct site_deploy_record *d) {
    buf_append_u8(out, DEPLOY_FORMAT);
    buf_append_u8(out, (uint8_t)d->state);
    buf_append_u64(out, d->created_ms);
    buf_append_u64(out, d->files);
    buf_append_u64(out, d->bytes);
    buf_append_u32(out, d->pinned);
    buf_append_u32(out, d->block_count);
    buf_append_u64(out, d->manifest_bytes);
    buf_append_lstr(out, d->site);
    buf_append_lstr(out, d->note);
    buf_append_slice(out, d->hashes);
}

bool site_record_decode(struct slice bytes, struct site_record *ret) {
    struct reader r = reader_of(bytes);
    if (reader_u8(&r) != SITE_FORMAT)
        return false;
    struct site_record s = {0};
    s.shown = reader_u64(&r);
    s.switch_index = reader_u64(&r);
    s.switch_ms = reader_u64(&r);
    s.keep = reader_u32(&r);
    s.hosts = reader_lstr(&r);
    s.deploy_count = reader_u32(&r);
    if (!reader_ok(&r) || s.deploy_count > SITE_DEPLOYS_MAX)
        return false;
    for (uint32_t i = 0; i < s.deploy_count; i++)
        s.deploys[i] = reader_u64(&r);
    if (!reader_done(&r))
        return false;
    *ret = s;
    return true;
}

void site_record_encode(struct buf *out, const struct site_record *s) {
    buf_append_u8(out, SITE_FORMAT);
    buf_append_u64(out, s->shown);
    buf_append_u64(out, s->switch_index);
    buf_append_u64(out, s->switch_ms);
    buf_append_u32(out, s->keep);
    buf_append_lstr(out, s->hosts);
    buf_append_u32(out, s->deploy_count);
    for (uint32_t i = 0; i < s->deploy_count; i++)
        buf_append_u64(out, s->deploys[i]);
}

/* ---- loading and storing ---- */

static int load(struct keyspace *ks, const struct site_name *name, struct buf *bytes) {
    struct record record;
    struct slice value;
    int rc = keyspace_find(ks, STORE_DB_SITES, site_name_slice(name), &record);
    if (rc == 0)
        rc = keyspace_value(ks, STORE_DB_SITES, site_name_slice(name), &value);
    if (rc)
        return rc;
    buf_reset(bytes);
    buf_append_slice(bytes, value);
    return 0;
}

int site_deploy_load(struct keyspace *ks, uint64_t id, struct buf *bytes,
                     struct site_deploy_record *ret) {
    struct site_name name = site_name_deploy(SITES_DEPLOY, id);
    int rc = load(ks, &name, bytes);
    return rc ? rc : site_deploy_decode(buf_slice(bytes), ret) ? 0 : -EBADMSG;
}

int site_record_load(struct keyspace *ks, struct slice site, struct buf *bytes,
                     struct site_record *ret) {
    struct site_name name = site_name_of(SITES_SITE, site);
    int rc = load(ks, &name, bytes);
    return rc ? rc : site_record_decode(buf_slice(bytes), ret) ? 0 : -EBADMSG;
}

static int put(struct keyspace *ks, const struct site_name *name, struct buf *value) {
    int rc = keyspace_put_string(ks, STORE_DB_SITES, site_name_slice(name), buf_slice(value),
                                 slice_of(NULL, 0), 0);
    buf_fini(value);
    return rc;
}

int site_deploy_store(struct keyspace *ks, uint64_t id, const struct site_deploy_record *d) {
    struct site_name name = site_name_deploy(SITES_DEPLOY, id);
    struct buf value = {0};
    site_deploy_encode(&value, d);
    return put(ks, &name, &value);
}

int site_record_store(struct keyspace *ks, struct slice site, const struct site_record *s) {
    struct site_name name = site_name_of(SITES_SITE, site);
    struct buf value = {0};
    site_record_encode(&value, s);
    return put(ks, &name, &value);
}

/* Hashes never lie across two blocks of a manifest: its header and a block are multiples of their
 * size. */
int site_hashes_load(struct keyspace *ks, const struct site_deploy_record *d, uint32_t from,
                     uint32_t count, uint8_t *ret_hashes) {
    uint32_t done = 0;
    while (done < count) {
        uint64_t offset = SITE_MANIFEST_HEADER_BYTES + (uint64_t)(from + done) * SITE_HASH_BYTES;
        uint64_t block = offset / SITE_BLOCK_BYTES, at = offset % SITE_BLOCK_BYTES;
        struct slice value;
        struct record record;
        if (block >= d->hashes.size / SITE_HASH_BYTES)
            return -EBADMSG;
        struct site_name name = site_name_of(
            SITES_BLOCK, slice_of(d->hashes.data + block * SITE_HASH_BYTES, SITE_HASH_BYTES));
        int rc = keyspace_find(ks, STORE_DB_SITES, site_name_slice(&name), &record);
        if (rc == 0)
            rc = keyspace_value(ks, STORE_DB_SITES, site_name_slice(&name), &value);
        if (rc || value.size < at + SITE_HASH_BYTES)
            return rc < 0 ? rc : -EBADMSG;
        uint64_t here = (value.size - at) / SITE_HASH_BYTES;
        if (here > count - done)
            here = count - done;
        memcpy(ret_hashes + (size_t)done * SITE_HASH_BYTES, value.data + at,
               here * SITE_HASH_BYTES);
        done += (uint32_t)here;
    }
    return 0;
}
