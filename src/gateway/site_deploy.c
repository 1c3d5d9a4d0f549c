#include "gateway/site_deploy.h"

#include <stdlib.h>

#include "base/hash.h"
#include "gateway/client_limits.h"
#include "proto/mime.h"

/* ---- memory ------------------------------------------------------------------------------------
 */

static bool budget_take(struct site_budget *b, uint64_t bytes) {
    if (__atomic_add_fetch(&b->bytes, bytes, __ATOMIC_RELAXED) <= b->bytes_max)
        return true;
    __atomic_sub_fetch(&b->bytes, bytes, __ATOMIC_RELAXED);
    return false;
}

static void blob_unref(struct site_blob *b) {
    if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    __atomic_sub_fetch(&b->budget->bytes, b->size, __ATOMIC_RELAXED);
    free(b);
}

static bool install(struct site_blob **at, struct site_blob *b) {
    struct site_blob *none = NULL;
    return __atomic_compare_exchange_n(at, &none, b, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

bool site_variant_keep(struct site_variant *v, struct site_budget *budget, struct slice bytes) {
    CHECK(bytes.size == v->size);
    if (site_variant_blob(v))
        return true;
    if (!budget_take(budget, bytes.size))
        return false;
    struct site_blob *b = xmalloc(sizeof *b + bytes.size);
    *b = (struct site_blob){.refs = 1, .budget = budget, .size = bytes.size};
    if (bytes.size > 0)
        memcpy(b->bytes, bytes.data, bytes.size);
    if (!install(&v->blob, b)) /* another thread was faster */
        blob_unref(b);
    return true;
}

static void hot_free(struct site_hot *h, struct site_budget *budget) {
    if (h)
        __atomic_sub_fetch(&budget->bytes, h->size, __ATOMIC_RELAXED);
    free(h);
}

void site_entry_keep(struct site_entry *e, enum http_encoding enc, struct site_budget *budget,
                     struct site_blob *blob, struct slice head) {
    bool one_piece = blob->size <= SITE_HOT_BODY_BYTES_MAX;
    size_t size = head.size + (one_piece ? blob->size : 0);
    if (site_entry_hot(e, enc) || !budget_take(budget, size))
        return;
    struct site_hot *h = xmalloc(sizeof *h + size), *none = NULL;
    *h = (struct site_hot){.blob = blob, .head_size = head.size, .size = size};
    memcpy(h->bytes, head.data, head.size);
    if (one_piece && blob->size > 0)
        memcpy(h->bytes + head.size, blob->bytes, blob->size);
    if (!__atomic_compare_exchange_n(&e->hot[enc], &none, h, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        hot_free(h, budget);
}

/* ---- compiling ---------------------------------------------------------------------------------
 */

struct compiling {
    struct site_deploy *d;
    struct site_file *file;
    size_t capacity;
};

static size_t slot_of(const struct site_deploy *d, struct slice path, uint64_t hash) {
    size_t at = hash & (d->table_size - 1);
    while (d->table[at]) {
        const struct site_entry *e = &d->entries[d->table[at] - 1];
        if (e->hash == hash && slice_equal(e->path, path))
            break;
        at = (at + 1) & (d->table_size - 1);
    }
    return at;
}

static struct slice keep_text(struct site_deploy *d, struct slice text) {
    size_t at = d->texts.size;
    CHECK(d->texts.capacity - at >= text.size); /* it must not move */
    buf_append_slice(&d->texts, text);
    return slice_of(d->texts.data + at, text.size);
}

static void add_alias(void *ctx, struct slice path, int rank, struct slice to) {
    struct compiling *c = ctx;
    struct site_deploy *d = c->d;
    uint64_t hash = hash64(path, 0);
    size_t at = slot_of(d, path, hash);
    struct site_entry *e;
    if (d->table[at] == 0) {
        CHECK(d->entry_count < c->capacity);
        e = &d->entries[d->entry_count++];
        *e = (struct site_entry){.path = keep_text(d, path), .hash = hash, .rank = INT32_MAX};
        d->table[at] = (uint32_t)d->entry_count;
    } else {
        e = &d->entries[d->table[at] - 1];
    }
    if (rank >= e->rank)
        return;
    e->rank = rank;
    e->file = rank == SITE_ALIAS_MOVED ? NULL : c->file;
    if (rank == SITE_ALIAS_MOVED)
        e->to = keep_text(d, to);
}

static void count_alias(void *ctx, struct slice path, int rank, struct slice to) {
    size_t *sums = ctx;
    sums[0]++;
    sums[1] += path.size + (rank == SITE_ALIAS_MOVED ? to.size : 0);
}

static void make_variant(struct site_variant *v, const struct site_manifest_variant *from) {
    static const char digits[] = "0123456789abcdef";
    *v = (struct site_variant){
        .encoding = (enum http_encoding)from->encoding, .size = from->size, .blocks = from->blocks};
    char *at = v->etag;
    *at++ = '"';
    for (size_t i = 0; i < sizeof from->tag; i++) {
        *at++ = digits[from->tag[i] >> 4];
        *at++ = digits[from->tag[i] & 15];
    }
    *at = '"';
}

static void make_file(struct site_file *f, const struct site_manifest_file *from,
                      struct site_variant *variants) {
    *f = (struct site_file){.path = from->path,
                            .content_type = mime_type(from->path),
                            .modified_s = from->modified_s,
                            .hashed = site_path_is_hashed(from->path),
                            .variant_count = from->variant_count,
                            .variants = variants};
    f->html = mime_is_html(f->content_type);
    for (uint8_t i = 0; i < from->variant_count; i++) {
        make_variant(&variants[i], &from->variants[i]);
        f->encodings |= 1u << variants[i].encoding;
    }
}

/* Rules that cannot be read let nobody do anything. */
static void take_access(struct site_deploy *d) {
    char error[SITE_ACCESS_ERROR_BYTES];
    d->access = xcalloc(1, sizeof *d->access);
    if (!site_access_parse(d->manifest.access, d->access, error)) {
        free(d->access);
        d->access = NULL;
        return;
    }
    d->limits = client_limits_of_rules(d->access);
}

static void compile(struct site_deploy *d) {
    const struct site_manifest *m = &d->manifest;
    struct site_manifest_file f;
    size_t variants = 0, sums[2] = {0};
    for (struct slice in = m->files; site_manifest_next(&in, &f);) {
        variants += f.variant_count;
        site_path_each_alias(f.path, count_alias, sums);
    }
    d->files = xcalloc(m->file_count + 1, sizeof d->files[0]);
    d->variants = xcalloc(variants + 1, sizeof d->variants[0]);
    d->entries = xcalloc(sums[0] + 1, sizeof d->entries[0]);
    (void)buf_reserve(&d->texts, sums[1] + 1);
    d->table_size = 16;
    while (d->table_size < 2 * sums[0])
        d->table_size *= 2;
    d->table = xcalloc(d->table_size, sizeof d->table[0]);
    struct compiling c = {.d = d, .file = d->files, .capacity = sums[0]};
    struct site_variant *next = d->variants;
    for (struct slice in = m->files; site_manifest_next(&in, &f); c.file++) {
        make_file(c.file, &f, next);
        next += f.variant_count;
        site_path_each_alias(c.file->path, add_alias, &c);
    }
    if (m->headers.size > 0)
        d->headers = site_headers_parse(m->headers, NULL, NULL);
    if (m->redirects.size > 0)
        d->redirects = site_redirects_parse(m->redirects, NULL, NULL);
    if (m->access.size > 0)
        take_access(d);
}

struct site_deploy *site_deploy_new(uint64_t id, struct buf *manifest, struct slice hashes,
                                    struct site_budget *budget) {
    struct site_deploy *d = xcalloc(1, sizeof *d);
    d->refs = 1;
    d->id = id;
    d->budget = budget;
    d->bytes = *manifest;
    *manifest = (struct buf){0};
    if (!site_manifest_decode(buf_slice(&d->bytes), &d->manifest)) {
        buf_fini(&d->bytes);
        free(d);
        return NULL;
    }
    buf_append_slice(&d->hashes, hashes);
    compile(d);
    return d;
}

struct site_deploy *site_deploy_ref(struct site_deploy *d) {
    __atomic_add_fetch(&d->refs, 1, __ATOMIC_RELAXED);
    return d;
}

void site_deploy_unref(struct site_deploy *d) {
    if (!d || __atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < d->entry_count; i++)
        for (size_t e = 0; e < HTTP_ENCODING_COUNT; e++)
            hot_free(d->entries[i].hot[e], d->budget);
    for (uint32_t i = 0; i < d->manifest.file_count; i++)
        for (uint8_t v = 0; v < d->files[i].variant_count; v++)
            blob_unref(d->files[i].variants[v].blob);
    site_headers_free(d->headers);
    site_redirects_free(d->redirects);
    for (size_t i = 0; d->access && i < d->access->rule_count; i++)
        client_limits_free(d->limits[i]);
    free(d->limits);
    if (d->access)
        site_access_fini(d->access);
    free(d->access);
    free(d->files);
    free(d->variants);
    free(d->entries);
    free(d->table);
    buf_fini(&d->texts);
    buf_fini(&d->hashes);
    buf_fini(&d->bytes);
    free(d);
}

struct site_deploy *site_deploy_fresh(const struct site_deploy *d) {
    struct buf bytes = {0};
    buf_append_slice(&bytes, buf_slice(&d->bytes));
    return site_deploy_new(d->id, &bytes, buf_slice(&d->hashes), d->budget);
}

void site_deploy_inherit(struct site_deploy *d, const struct site_deploy *from) {
    for (uint32_t i = 0; i < d->manifest.file_count; i++) {
        struct site_file *f = &d->files[i];
        const struct site_entry *e = site_deploy_find(from, f->path);
        for (uint8_t v = 0; e && e->file && v < f->variant_count; v++) {
            const struct site_variant *old = site_file_variant(e->file, f->variants[v].encoding);
            struct site_blob *b = old ? site_variant_blob(old) : NULL;
            if (!b || strcmp(old->etag, f->variants[v].etag) != 0 || old->size != b->size)
                continue;
            __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
            if (!install(&f->variants[v].blob, b))
                blob_unref(b);
        }
    }
}

/* ---- finding ---- */

static int compare_hashes(const void *a, const void *b) {
    return memcmp(a, b, SHA256_BYTES);
}

bool site_deploy_has_block(const struct site_deploy *d, const uint8_t *hash) {
    for (size_t at = 0; at < d->hashes.size; at += SHA256_BYTES)
        if (memcmp(d->hashes.data + at, hash, SHA256_BYTES) == 0)
            return true;
    return d->manifest.block_count > 0 && bsearch(hash, d->manifest.table, d->manifest.block_count,
                                                  SHA256_BYTES, compare_hashes) != NULL;
}

struct site_entry *site_deploy_find(const struct site_deploy *d, struct slice path) {
    uint32_t at = d->table[slot_of(d, path, hash64(path, 0))];
    return at ? &d->entries[at - 1] : NULL;
}

const struct site_variant *site_file_variant(const struct site_file *f, enum http_encoding e) {
    for (uint8_t i = 0; i < f->variant_count; i++)
        if (f->variants[i].encoding == e)
            return &f->variants[i];
    return NULL;
}

size_t site_variant_block_bytes(const struct site_variant *v, uint64_t i) {
    uint64_t left = v->size - i * SITE_MANIFEST_BLOCK_BYTES;
    return left < SITE_MANIFEST_BLOCK_BYTES ? (size_t)left : SITE_MANIFEST_BLOCK_BYTES;
}
