/* The folder of blocks: what is damaged comes back, and sizes are counted once. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "gateway/site_cache.h"
#include "net/sha256.h"

enum { BLOCKS = 200, THREADS = 8, TRAILER_BYTES = 8 };

static char dir[] = "/tmp/test-site-cache-XXXXXX";
static struct site_cache *cache;

static int setup(void **state) {
    log_set_level(LOG_ERROR);
    assert_non_null(mkdtemp(dir));
    assert_int_equal(site_cache_open(dir, 1 << 30, &cache), 0);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int teardown(void **state) {
    site_cache_free(cache);
    assert_int_equal(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    return 0;
}

static void make_block(int i, struct buf *bytes, uint8_t hash[SHA256_BYTES]) {
    buf_reset(bytes);
    buf_printf(bytes, "block %d %0999d", i, i);
    sha256_of(buf_slice(bytes), hash);
}

static void path_of(const uint8_t *hash, char path[200]) {
    char hex[2 * SHA256_BYTES + 1];
    sha256_to_hex(hash, hex);
    snprintf(path, 200, "%s/blocks/%.2s/%s", dir, hex, hex);
}

/* Cut short, empty, or with another byte in it: it is not there, and can be put again. */
static void test_damage(void **state) {
    struct buf bytes = {0}, got = {0};
    uint8_t hash[SHA256_BYTES];
    char path[200];
    make_block(1, &bytes, hash);
    path_of(hash, path);
    const off_t sizes[] = {0, 5, TRAILER_BYTES, 100, (off_t)bytes.size + TRAILER_BYTES};
    site_cache_put(cache, hash, buf_slice(&bytes));
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        assert_true(site_cache_read(cache, hash, &got));
        assert_true(slice_equal(buf_slice(&got), buf_slice(&bytes)));
        assert_int_equal(site_cache_bytes(cache), bytes.size + TRAILER_BYTES);
        assert_int_equal(truncate(path, sizes[i]), 0);
        if (sizes[i] > (off_t)bytes.size) {
            int fd = open(path, O_WRONLY);
            assert_int_equal(pwrite(fd, "X", 1, 50), 1);
            close(fd);
        }
        site_cache_free(cache);
        assert_int_equal(site_cache_open(dir, 1 << 30, &cache), 0);
        if (sizes[i] <= TRAILER_BYTES)
            assert_false(site_cache_has(cache, hash));
        assert_false(site_cache_read(cache, hash, &got));
        assert_false(site_cache_has(cache, hash));
        assert_int_equal(site_cache_bytes(cache), 0);
        site_cache_put(cache, hash, buf_slice(&bytes));
    }
    assert_true(site_cache_read(cache, hash, &got));
    buf_fini(&bytes);
    buf_fini(&got);
}

static void *put_all(void *arg) {
    struct buf bytes = {0};
    uint8_t hash[SHA256_BYTES];
    for (int i = 0; i < BLOCKS; i++) {
        make_block(i, &bytes, hash);
        site_cache_put(cache, hash, buf_slice(&bytes));
    }
    buf_fini(&bytes);
    return NULL;
}

static uint64_t found_bytes;
static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    if (type == FTW_F) {
        assert_null(strstr(path, "/.tmp"));
        found_bytes += (uint64_t)st->st_size;
    }
    return 0;
}

/* Threads that put the same blocks at once. */
static void test_counted_once(void **state) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_all, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    found_bytes = 0;
    assert_int_equal(nftw(dir, count_one, 16, FTW_PHYS), 0);
    assert_true(found_bytes > BLOCKS * 1000);
    assert_int_equal(site_cache_bytes(cache), found_bytes);
    struct site_cache *again;
    assert_int_equal(site_cache_open(dir, 1 << 30, &again), 0);
    assert_int_equal(site_cache_bytes(again), found_bytes);
    site_cache_free(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counted_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
