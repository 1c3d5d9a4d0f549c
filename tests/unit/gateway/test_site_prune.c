/* Pruning the cache of blocks while others use it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after those */
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/site_cache.h"

enum { BLOCKS = 16, TRAILER_BYTES = 8, CACHE_BYTES_MAX = 1 << 20 };

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static void hash_of(uint8_t i, uint8_t out[SHA256_BYTES]) {
    memset(out, 0, SHA256_BYTES);
    out[0] = i % 2; /* two folders */
    out[1] = i;
}

static bool is_even(void *ctx, const uint8_t *hash) {
    return hash[0] % 2 == 0;
}

static bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* What another thread is writing meanwhile stays; what a process left behind goes with the next
 * start. */
static void test_prune(void **state) {
    char dir[] = "/tmp/cotidal-cache-XXXXXX", tmp[128];
    uint8_t hash[SHA256_BYTES];
    struct site_cache *c;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(site_cache_open(dir, CACHE_BYTES_MAX, &c), 0);
    for (uint8_t i = 0; i < BLOCKS; i++) {
        hash_of(i, hash);
        site_cache_put(c, hash, slice_str("block"));
    }
    assert_int_equal(site_cache_bytes(c), BLOCKS * (5 + TRAILER_BYTES));
    snprintf(tmp, sizeof tmp, "%s/blocks/01/.tmp-77", dir);
    int fd = open(tmp, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
    site_cache_prune(c, is_even, NULL);
    for (uint8_t i = 0; i < BLOCKS; i++) {
        hash_of(i, hash);
        assert_int_equal(site_cache_has(c, hash), i % 2 == 0);
    }
    assert_int_equal(site_cache_bytes(c), BLOCKS / 2 * (5 + TRAILER_BYTES));
    assert_true(exists(tmp));
    site_cache_free(c);
    assert_int_equal(site_cache_open(dir, CACHE_BYTES_MAX, &c), 0);
    assert_false(exists(tmp));
    assert_int_equal(site_cache_bytes(c), BLOCKS / 2 * (5 + TRAILER_BYTES));
    site_cache_free(c);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_prune)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
