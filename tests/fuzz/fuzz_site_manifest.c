/* Manifests of sites: whatever decodes can be walked over, compiled into what serves it, and asked
 * for every path it has. */
#include "gateway/site_deploy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct site_deploy *d) {
    const struct site_manifest *m = &d->manifest;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->file_count; i++) {
        const struct site_file *f = &d->files[i];
        const struct site_entry *e = site_deploy_find(d, f->path);
        CHECK(e && e->file == f);
        bytes += f->variants[0].size;
        for (uint8_t v = 0; v < f->variant_count; v++) {
            const struct site_variant *variant = &f->variants[v];
            CHECK(site_file_variant(f, variant->encoding) == variant);
            for (uint64_t b = 0; b < site_manifest_block_count(variant->size); b++) {
                CHECK(site_deploy_has_block(d, site_variant_block(d, variant, b)));
                CHECK(site_variant_block_bytes(variant, b) > 0);
            }
        }
    }
    CHECK(bytes == m->bytes);
    for (size_t i = 0; i < d->entry_count; i++)
        CHECK(site_deploy_find(d, d->entries[i].path) == &d->entries[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct site_budget budget = {.bytes_max = 1 << 20};
    struct buf bytes = {0};
    buf_append(&bytes, data, size);
    /* The size in the header is no riddle that a fuzzer should have to solve. */
    if (size >= 24)
        put_u64le(bytes.data + 16, size);
    struct site_deploy *d = site_deploy_new(1, &bytes, slice_of(NULL, 0), &budget);
    if (d)
        walk(d);
    site_deploy_unref(d);
    CHECK(budget.bytes == 0);
    return 0;
}
