/* The path of a request: refused, or a site path that means itself, and that resolving and compiled
 * aliases agree on. The last byte decides which files there are. */
#include <stdlib.h>

#include "base/hash.h"
#include "proto/mime.h"
#include "proto/site_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool exists(void *ctx, struct slice path) {
    CHECK(path.size <= SITE_PATH_BUFFER_BYTES);
    CHECK(path.data[0] == '/');
    return hash64(path, *(uint8_t *)ctx) % 3 == 0;
}

struct claim {
    struct slice path, to;
    bool moved, found;
};

static void find_claim(void *ctx, struct slice path, int rank, struct slice to) {
    struct claim *c = ctx;
    if (slice_equal(path, c->path) && (rank == SITE_ALIAS_MOVED) == c->moved)
        c->found |= slice_equal(to, c->to);
}

static void check_resolution(struct slice path, uint8_t seed) {
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    struct slice to;
    enum site_resolution result = site_path_resolve(path, exists, &seed, buffer, &to);
    if (result == SITE_FILE) {
        CHECK(exists(&seed, to));
        struct claim claim = {.path = path, .to = to};
        if (to.size <= SITE_PATH_BYTES_MAX) {
            site_path_each_alias(to, find_claim, &claim);
            CHECK(claim.found);
        }
    } else if (result == SITE_MOVED && to.size <= SITE_PATH_BYTES_MAX) {
        /* It leads to a file, not to and fro. */
        uint8_t again[SITE_PATH_BUFFER_BYTES];
        struct slice file;
        CHECK(site_path_resolve(to, exists, &seed, again, &file) == SITE_FILE);
    }
    if (site_path_find_404(path, exists, &seed, buffer, &to))
        CHECK(exists(&seed, to));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t scratch[SITE_PATH_BUFFER_BYTES], scratch2[SITE_PATH_BUFFER_BYTES];
    uint8_t *copy = xmemdup(data, size);
    struct slice raw = slice_of(copy, size), path, again;
    struct buf url = {0};
    mime_type(raw);
    site_path_is_hashed(raw);
    bool servable = site_path_is_servable(raw, NULL);
    enum site_path_result result = site_path_normalise(raw, scratch, &path);
    CHECK(result == SITE_PATH_OK || result == SITE_PATH_BAD || result == SITE_PATH_NONE);
    if (result == SITE_PATH_OK) {
        CHECK(site_path_is_servable(path, NULL));
        site_path_put_url(path, slice_of(NULL, 0), &url);
        CHECK(site_path_normalise(buf_slice(&url), scratch2, &again) == SITE_PATH_OK);
        CHECK(slice_equal(path, again));
        check_resolution(path, size > 0 ? data[size - 1] : 0);
    }
    /* A site path is asked for by its URL, whatever bytes it has. */
    if (servable) {
        buf_reset(&url);
        site_path_put_url(raw, slice_of(NULL, 0), &url);
        CHECK(site_path_normalise(buf_slice(&url), scratch2, &again) == SITE_PATH_OK);
        CHECK(slice_equal(raw, again));
    }
    buf_fini(&url);
    free(copy);
    return 0;
}
