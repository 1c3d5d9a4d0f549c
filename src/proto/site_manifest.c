#include "proto/site_manifest.h"

#include <stdlib.h>

#include "proto/site_path.h"

#define MAGIC "COTSITE1"
enum { HEADER_BYTES = 64, ENCODINGS = 3 };

/* ---- reading ---- */

static bool next_variant(struct reader *r, struct site_manifest_variant *v) {
    v->encoding = reader_u8(r);
    v->size = reader_u64(r);
    struct slice tag = reader_bytes(r, sizeof v->tag);
    uint64_t count = site_manifest_block_count(v->size);
    if (!reader_ok(r) || count > SITE_MANIFEST_BLOCKS_MAX)
        return false;
    memcpy(v->tag, tag.data, sizeof v->tag);
    v->blocks = reader_take(r, 4 * count);
    return reader_ok(r);
}

bool site_manifest_next(struct slice *in, struct site_manifest_file *ret) {
    struct reader r = reader_of(*in);
    if (in->size == 0)
        return false;
    ret->path = reader_bytes(&r, reader_u16(&r));
    ret->modified_s = reader_u64(&r);
    ret->variant_count = reader_u8(&r);
    if (!reader_ok(&r) || ret->variant_count == 0 ||
        ret->variant_count > SITE_MANIFEST_VARIANTS_MAX)
        return false;
    for (uint8_t i = 0; i < ret->variant_count; i++)
        if (!next_variant(&r, &ret->variants[i]))
            return false;
    *in = slice_of(r.at, reader_left(&r));
    return true;
}

static bool file_valid(const struct site_manifest *m, const struct site_manifest_file *f,
                       struct slice before) {
    if (!site_path_is_servable(f->path, NULL) || f->path.data[f->path.size - 1] == '/' ||
        (before.size > 0 && slice_compare(before, f->path) >= 0) || f->variants[0].encoding != 0)
        return false;
    for (uint8_t i = 0; i < f->variant_count; i++) {
        const struct site_manifest_variant *v = &f->variants[i];
        if (v->encoding >= ENCODINGS || (i > 0 && v->encoding <= v[-1].encoding))
            return false;
        for (uint64_t b = 0; b < site_manifest_block_count(v->size); b++)
            if (get_u32le(v->blocks + 4 * b) >= m->block_count)
                return false;
    }
    return true;
}

static bool all_valid(const struct site_manifest *m) {
    struct slice in = m->files, before = {0};
    struct site_manifest_file f;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->file_count; i++) {
        if (!site_manifest_next(&in, &f) || !file_valid(m, &f, before))
            return false;
        before = f.path;
        bytes += f.variants[0].size; /* each at most 2^38, and files at most 2^32 */
    }
    for (uint32_t i = 1; i < m->block_count; i++)
        if (memcmp(m->table + (size_t)(i - 1) * SHA256_BYTES, m->table + (size_t)i * SHA256_BYTES,
                   SHA256_BYTES) >= 0)
            return false;
    return in.size == 0 && bytes == m->bytes;
}

bool site_manifest_decode(struct slice bytes, struct site_manifest *ret) {
    static const uint8_t zeros[32];
    struct reader r = reader_of(bytes);
    struct site_manifest m = {0};
    struct slice magic = reader_bytes(&r, 8);
    m.block_count = reader_u32(&r);
    m.file_count = reader_u32(&r);
    uint64_t size = reader_u64(&r);
    m.bytes = reader_u64(&r);
    struct slice rest = reader_bytes(&r, sizeof zeros);
    if (!reader_ok(&r) || !slice_equal_str(magic, MAGIC) || size != bytes.size ||
        size > SITE_MANIFEST_SIZE_MAX || m.block_count > SITE_MANIFEST_BLOCKS_MAX ||
        memcmp(rest.data, zeros, sizeof zeros) != 0)
        return false;
    m.table = reader_take(&r, (size_t)m.block_count * SHA256_BYTES);
    m.headers = reader_lstr(&r);
    m.redirects = reader_lstr(&r);
    m.access = reader_lstr(&r);
    m.files = reader_rest(&r);
    if (!reader_ok(&r) || !all_valid(&m))
        return false;
    *ret = m;
    return true;
}

/* ---- writing ---- */

struct written_variant {
    uint8_t encoding;
    uint64_t size;
    uint8_t tag[SITE_MANIFEST_TAG_BYTES];
    uint8_t *hashes;
};
struct written_file {
    struct slice path; /* owned */
    uint64_t modified_s;
    uint8_t variant_count;
    struct written_variant variants[SITE_MANIFEST_VARIANTS_MAX];
};

struct site_manifest_writer {
    struct written_file *files;
    size_t count, capacity;
    struct buf headers, redirects, access;
    struct buf hashes; /* of all variants; then sorted, each once */
    uint64_t bytes;
};

struct site_manifest_writer *site_manifest_writer_new(void) {
    return xcalloc(1, sizeof(struct site_manifest_writer));
}

void site_manifest_writer_free(struct site_manifest_writer *w) {
    for (size_t i = 0; i < w->count; i++) {
        free((void *)(uintptr_t)w->files[i].path.data);
        for (uint8_t v = 0; v < w->files[i].variant_count; v++)
            free(w->files[i].variants[v].hashes);
    }
    free(w->files);
    buf_fini(&w->headers);
    buf_fini(&w->redirects);
    buf_fini(&w->access);
    buf_fini(&w->hashes);
    free(w);
}

void site_manifest_writer_texts(struct site_manifest_writer *w, struct slice headers,
                                struct slice redirects, struct slice access) {
    buf_reset(&w->headers);
    buf_append_slice(&w->headers, headers);
    buf_reset(&w->redirects);
    buf_append_slice(&w->redirects, redirects);
    buf_reset(&w->access);
    buf_append_slice(&w->access, access);
}

void site_manifest_writer_file(struct site_manifest_writer *w, struct slice path,
                               uint64_t modified_s) {
    if (w->count == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 64;
        w->files = xrealloc(w->files, w->capacity * sizeof w->files[0]);
    }
    w->files[w->count++] = (struct written_file){
        .path = slice_of(xmemdup(path.data, path.size), path.size), .modified_s = modified_s};
}

void site_manifest_writer_variant(struct site_manifest_writer *w, uint8_t encoding, uint64_t size,
                                  const uint8_t tag[SITE_MANIFEST_TAG_BYTES],
                                  const uint8_t *hashes) {
    CHECK(w->count > 0);
    struct written_file *f = &w->files[w->count - 1];
    CHECK(f->variant_count < SITE_MANIFEST_VARIANTS_MAX);
    struct written_variant *v = &f->variants[f->variant_count++];
    size_t hash_bytes = (size_t)site_manifest_block_count(size) * SHA256_BYTES;
    v->encoding = encoding;
    v->size = size;
    memcpy(v->tag, tag, sizeof v->tag);
    v->hashes = xmalloc(hash_bytes + 1);
    if (hash_bytes > 0)
        memcpy(v->hashes, hashes, hash_bytes);
    buf_append(&w->hashes, v->hashes, hash_bytes);
    if (f->variant_count == 1)
        w->bytes += size;
}

static int compare_hashes(const void *a, const void *b) {
    return memcmp(a, b, SHA256_BYTES);
}

static int compare_files(const void *a, const void *b) {
    return slice_compare(((const struct written_file *)a)->path,
                         ((const struct written_file *)b)->path);
}

static uint32_t sort_hashes(struct buf *hashes) {
    size_t count = hashes->size / SHA256_BYTES, kept = 0;
    if (count > 0)
        qsort(hashes->data, count, SHA256_BYTES, compare_hashes);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *hash = hashes->data + i * SHA256_BYTES;
        if (kept > 0 && memcmp(hash, hashes->data + (kept - 1) * SHA256_BYTES, SHA256_BYTES) == 0)
            continue;
        memmove(hashes->data + kept++ * SHA256_BYTES, hash, SHA256_BYTES);
    }
    hashes->size = kept * SHA256_BYTES;
    return kept > UINT32_MAX ? UINT32_MAX : (uint32_t)kept;
}

static void put_file(const struct site_manifest_writer *w, const struct written_file *f,
                     struct buf *out) {
    buf_append_u16(out, (uint16_t)f->path.size);
    buf_append_slice(out, f->path);
    buf_append_u64(out, f->modified_s);
    buf_append_u8(out, f->variant_count);
    for (uint8_t i = 0; i < f->variant_count; i++) {
        const struct written_variant *v = &f->variants[i];
        buf_append_u8(out, v->encoding);
        buf_append_u64(out, v->size);
        buf_append(out, v->tag, sizeof v->tag);
        for (uint64_t b = 0; b < site_manifest_block_count(v->size); b++) {
            const uint8_t *at =
                bsearch(v->hashes + b * SHA256_BYTES, w->hashes.data, w->hashes.size / SHA256_BYTES,
                        SHA256_BYTES, compare_hashes);
            buf_append_u32(out, (uint32_t)((size_t)(at - w->hashes.data) / SHA256_BYTES));
        }
    }
}

bool site_manifest_writer_end(struct site_manifest_writer *w, struct buf *out) {
    size_t start = out->size;
    uint32_t blocks = sort_hashes(&w->hashes);
    if (w->count > 0)
        qsort(w->files, w->count, sizeof w->files[0], compare_files);
    buf_append_str(out, MAGIC);
    buf_append_u32(out, blocks);
    buf_append_u32(out, (uint32_t)w->count);
    buf_append_u64(out, 0); /* its size, below */
    buf_append_u64(out, w->bytes);
    memset(buf_reserve(out, 32), 0, 32);
    buf_commit(out, 32);
    CHECK(out->size - start == HEADER_BYTES);
    buf_append_slice(out, buf_slice(&w->hashes));
    buf_append_lstr(out, buf_slice(&w->headers));
    buf_append_lstr(out, buf_slice(&w->redirects));
    buf_append_lstr(out, buf_slice(&w->access));
    for (size_t i = 0; i < w->count; i++)
        put_file(w, &w->files[i], out);
    put_u64le(out->data + start + 16, out->size - start);
    struct site_manifest m;
    return site_manifest_decode(slice_of(out->data + start, out->size - start), &m);
}
