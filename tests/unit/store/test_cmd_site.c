/* The commands of sites (store/sites.h). Manifests are made by hand: the store reads only their
 * beginning. */
#include "harness.h"

#include <stdio.h>

#include "base/bytes.h"
#include "net/sha256.h"
#include "store/sites.h"

/* A block: `size` bytes that begin with n. */
struct block {
    uint8_t hash[SITE_HASH_BYTES];
    struct buf bytes;
};

static void block_make(struct block *b, uint32_t n, size_t size) {
    *b = (struct block){0};
    memset(buf_reserve(&b->bytes, size), (int)n, size);
    buf_commit(&b->bytes, size);
    put_u32le(b->bytes.data, n);
    sha256_of(buf_slice(&b->bytes), b->hash);
}

static const char *put_bytes(struct harness *h, const uint8_t *hash, struct slice bytes) {
    const struct slice args[] = {slice_str("SITE.PUT"), slice_of(hash, SITE_HASH_BYTES), bytes};
    return run_args(h, args, 3);
}

/* Stores block n and frees it; its hash. */
static const uint8_t *put_block(struct harness *h, uint32_t n, const char *want) {
    static uint8_t hash[SITE_HASH_BYTES];
    struct block b;
    block_make(&b, n, 100);
    memcpy(hash, b.hash, sizeof hash);
    assert_string_equal(put_bytes(h, b.hash, buf_slice(&b.bytes)), want);
    buf_fini(&b.bytes);
    return hash;
}

static bool has_block(struct harness *h, uint32_t n) {
    struct block b;
    block_make(&b, n, 100);
    const struct slice args[] = {slice_str("SITE.HAVE"), slice_of(b.hash, SITE_HASH_BYTES)};
    bool has = strcmp(run_args(h, args, 2), "'1'") == 0;
    buf_fini(&b.bytes);
    return has;
}

/* A manifest that needs blocks [first, first + count), with `rest` bytes behind its table. */
static void make_manifest(struct buf *out, uint32_t first, uint32_t count, size_t rest) {
    buf_append_str(out, SITE_MANIFEST_MAGIC);
    buf_append_u32(out, count);
    buf_append_u32(out, 3);
    buf_append_u64(out, SITE_MANIFEST_HEADER_BYTES + (uint64_t)count * SITE_HASH_BYTES + rest);
    buf_append_u64(out, 1234);
    memset(buf_reserve(out, 32 + rest), 0, 32 + rest);
    buf_commit(out, 32);
    for (uint32_t i = 0; i < count; i++) {
        struct block b;
        block_make(&b, first + i, 100);
        buf_append(out, b.hash, sizeof b.hash);
        buf_fini(&b.bytes);
    }
    memset(buf_reserve(out, rest + 1), 0, rest + 1);
    buf_commit(out, rest);
}

/* Stores the manifest's blocks; their hashes are appended. */
static void put_manifest(struct harness *h, const struct buf *manifest, struct buf *hashes) {
    for (size_t at = 0; at < manifest->size; at += SITE_BLOCK_BYTES) {
        size_t left = manifest->size - at;
        struct slice piece =
            slice_of(manifest->data + at, left < SITE_BLOCK_BYTES ? left : SITE_BLOCK_BYTES);
        uint8_t hash[SITE_HASH_BYTES];
        sha256_of(piece, hash);
        buf_append(hashes, hash, sizeof hash);
        put_bytes(h, hash, piece);
    }
}

static const char *stage_as(struct harness *h, const char *site, const char *hosts,
                            const char *keep, uint64_t bytes, struct slice hashes) {
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)bytes);
    const struct slice args[] = {slice_str("SITE.STAGE"), slice_str(site),   slice_str(hosts),
                                 slice_str(keep),         slice_str(number), hashes,
                                 slice_str("a note")};
    return run_args(h, args, 7);
}

/* Blocks, manifest, STAGE: everything before the pins. The deploy's number. */
static unsigned staged(struct harness *h, const char *site, const char *hosts, uint32_t first,
                       uint32_t count, size_t rest) {
    struct buf manifest = {0}, hashes = {0};
    unsigned status, id, blocks;
    for (uint32_t i = 0; i < count; i++)
        put_block(h, first + i, has_block(h, first + i) ? "0" : "1");
    make_manifest(&manifest, first, count, rest);
    put_manifest(h, &manifest, &hashes);
    const char *text = stage_as(h, site, hosts, "2", manifest.size, buf_slice(&hashes));
    assert_int_equal(sscanf(text, "[%u %u %u]", &status, &id, &blocks), 3);
    assert_int_equal(status, 201);
    assert_int_equal(blocks, count);
    buf_fini(&manifest);
    buf_fini(&hashes);
    return id;
}

static const char *runf(struct harness *h, const char *fmt, ...) {
    char words[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    return run(h, words);
}

static void pin_all(struct harness *h, unsigned id) {
    unsigned status, pinned = 0, total = 1;
    while (pinned < total) {
        unsigned before = pinned;
        const char *text = runf(h, "SITE.PIN %u %u", id, pinned);
        assert_int_equal(sscanf(text, "[%u %u %u", &status, &pinned, &total), 3);
        assert_non_null(strstr(text, " '']"));
        assert_true(pinned > before);
        assert_true(pinned - before <= SITE_PIN_BLOCKS);
        /* Asked again it changes nothing. */
        assert_string_equal(runf(h, "SITE.PIN %u %u", id, before), text);
    }
}

static unsigned deployed(struct harness *h, const char *site, uint32_t first, uint32_t count) {
    unsigned id = staged(h, site, "*", first, count, 0);
    pin_all(h, id);
    assert_memory_equal(runf(h, "SITE.SWITCH %u", id), "[200 ", 5);
    return id;
}

static void sweep_all(struct harness *h) {
    for (int i = 0; i < 200; i++)
        runf(h, "SITE.SWEEP %llu 1000", (unsigned long long)h->now_ms);
}

static void test_blocks(void **state) {
    struct harness *h = *state;
    uint8_t hash[SITE_HASH_BYTES];
    memcpy(hash, put_block(h, 1, "1"), sizeof hash);
    put_block(h, 1, "0");
    assert_true(has_block(h, 1));
    assert_false(has_block(h, 2));
    const struct slice get[] = {slice_str("SITE.GET"), slice_of(hash, sizeof hash)};
    assert_non_null(strstr(run_args(h, get, 2), "\\01\\00\\00\\00"));
    /* Nobody sees it otherwise, and it goes by itself. */
    SAYS(h, "DBSIZE", "0");
    OK(h, "FLUSHALL");
    assert_true(has_block(h, 1));
    harness_advance(h, SITE_STAGED_MS - 1);
    put_block(h, 1, "0"); /* another day */
    harness_advance(h, SITE_STAGED_MS - 1);
    assert_true(has_block(h, 1));
    harness_advance(h, 1);
    assert_false(has_block(h, 1));
    SAYS(h, "SITE.GET short", "-ERR SITE.GET takes a hash of 32 bytes");
    SAYS(h, "SITE.HAVE short", "-ERR SITE.HAVE takes hashes of 32 bytes");
    assert_memory_equal(put_bytes(h, hash, slice_of("", 0)), "-ERR", 4);
    SAYS(h, "SITE.PUT a b c",
         "-ERR SITE.PUT takes hashes of 32 bytes, each with up to 262144 bytes");
}

static void test_life(void **state) {
    struct harness *h = *state;
    unsigned one = staged(h, "web", "a.example,b.example", 0, 300, 0);
    assert_memory_equal(runf(h, "SITE.SWITCH %u", one), "[409 ", 5);
    pin_all(h, one);
    assert_memory_equal(runf(h, "SITE.SWITCH %u", one), "[200 1 0 ", 9);
    const char *list = run(h, "SITE.LIST");
    assert_non_null(strstr(list, "['web' 'a.example,b.example' 1 "));
    assert_non_null(strstr(list, " 3 1234 300 300 'a note' "));
    /* Tied blocks stay. */
    harness_advance(h, 10ull * SITE_STAGED_MS);
    assert_true(has_block(h, 299));
    /* The next one shares most of them. */
    unsigned two = deployed(h, "web", 100, 300);
    assert_int_equal(two, 2);
    assert_memory_equal(runf(h, "SITE.SWITCH %u", one), "[200 1 2 ", 9);
    assert_memory_equal(runf(h, "SITE.DROP %u", one), "[409 ", 5);
    assert_memory_equal(runf(h, "SITE.DROP %u", two), "[204 ", 5);
    assert_memory_equal(runf(h, "SITE.SWITCH %u", two), "[404 ", 5);
    assert_memory_equal(runf(h, "SITE.PIN %u 0", two), "[404 ", 5);
    sweep_all(h);
    assert_true(has_block(h, 0));
    assert_true(has_block(h, 299));
    assert_false(has_block(h, 300));
    assert_false(has_block(h, 399));
    assert_memory_equal(run(h, "SITE.DELETE web"), "[204 ", 5);
    assert_memory_equal(run(h, "SITE.DELETE web"), "[404 ", 5);
    sweep_all(h);
    for (uint32_t i = 0; i < 300; i += 50)
        assert_false(has_block(h, i));
    SAYS(h, "SITE.SWEEP 0 10", "0");
    assert_non_null(strstr(run(h, "SITE.LIST"), " []]"));
}

/* keep 2: of five deploys the last two stay, and the one that is shown. */
static void test_old_ones_go(void **state) {
    struct harness *h = *state;
    unsigned first = deployed(h, "web", 0, 2);
    for (uint32_t i = 1; i < 5; i++)
        deployed(h, "web", i * 10, 2);
    sweep_all(h);
    assert_false(has_block(h, 0));
    assert_false(has_block(h, 20));
    assert_true(has_block(h, 30));
    assert_true(has_block(h, 40));
    assert_memory_equal(runf(h, "SITE.SWITCH %u", first), "[404 ", 5);
    assert_memory_equal(run(h, "SITE.SWITCH 4"), "[200 4 5 ", 9);
    deployed(h, "web", 50, 2);
    assert_memory_equal(run(h, "SITE.SWITCH 4"), "[404 ", 5);
    assert_memory_equal(run(h, "SITE.SWITCH 5"), "[200 5 6 ", 9);
}

/* A block that is missing when it is to be tied. */
static void test_gaps(void **state) {
    struct harness *h = *state;
    unsigned id = staged(h, "web", "*", 0, 5, 0);
    struct buf manifest = {0};
    harness_advance(h, SITE_STAGED_MS + 1); /* the manifest stays, its blocks do not */
    put_block(h, 0, "1");
    put_block(h, 1, "1");
    put_block(h, 3, "1");
    const char *text = runf(h, "SITE.PIN %u 0", id);
    assert_memory_equal(text, "[200 2 5 '", 10); /* up to the gap */
    put_block(h, 2, "1");
    put_block(h, 4, "1");
    assert_memory_equal(runf(h, "SITE.PIN %u 2", id), "[200 5 5 '']", 12);
    assert_memory_equal(runf(h, "SITE.SWITCH %u", id), "[200 ", 5);
    harness_advance(h, 2ull * SITE_STAGED_MS);
    for (uint32_t i = 0; i < 5; i++)
        assert_true(has_block(h, i));
    buf_fini(&manifest);
}

/* One that is never finished is dropped with the next deploy, a day later. */
static void test_abandoned(void **state) {
    struct harness *h = *state;
    unsigned id = staged(h, "web", "*", 0, 200, 0);
    runf(h, "SITE.PIN %u 0", id);
    harness_advance(h, SITE_STAGED_MS + 1);
    assert_true(has_block(h, 0));
    deployed(h, "web", 500, 1);
    sweep_all(h);
    assert_false(has_block(h, 0));
    assert_memory_equal(runf(h, "SITE.PIN %u 128", id), "[404 ", 5);
}

/* The manifest's own blocks are tied apart from those of files, even where a manifest lists them.
 */
static void test_large_and_hostile_manifests(void **state) {
    struct harness *h = *state;
    unsigned id = staged(h, "web", "*", 0, 10, 3 * SITE_BLOCK_BYTES);
    pin_all(h, id);
    assert_memory_equal(runf(h, "SITE.SWITCH %u", id), "[200 ", 5);
    struct buf manifest = {0}, hashes = {0};
    make_manifest(&manifest, 600, 2, SITE_BLOCK_BYTES);
    /* Its second block among the blocks that it needs. */
    struct slice tail =
        slice_of(manifest.data + SITE_BLOCK_BYTES, manifest.size - SITE_BLOCK_BYTES);
    sha256_of(tail, manifest.data + SITE_MANIFEST_HEADER_BYTES);
    put_block(h, 601, "1");
    put_manifest(h, &manifest, &hashes);
    assert_memory_equal(stage_as(h, "odd", "*", "", manifest.size, buf_slice(&hashes)), "[201 2 2]",
                        9);
    pin_all(h, 2);
    assert_memory_equal(run(h, "SITE.SWITCH 2"), "[200 ", 5);
    assert_memory_equal(run(h, "SITE.DELETE odd"), "[204 ", 5);
    sweep_all(h);
    SAYS(h, "SITE.SWEEP 0 10", "0");
    assert_false(has_block(h, 601));
    buf_fini(&manifest);
    buf_fini(&hashes);
}

static void test_refusals(void **state) {
    struct harness *h = *state;
    struct buf manifest = {0}, hashes = {0};
    make_manifest(&manifest, 0, 1, 0);
    put_manifest(h, &manifest, &hashes);
    struct slice good = buf_slice(&hashes);
    uint64_t size = manifest.size;
    assert_memory_equal(stage_as(h, "Web", "*", "", size, good), "-ERR", 4);
    assert_memory_equal(stage_as(h, "", "*", "", size, good), "-ERR", 4);
    assert_memory_equal(stage_as(h, "web", "*", "0", size, good), "-ERR", 4);
    assert_memory_equal(stage_as(h, "web", "*", "101", size, good), "-ERR", 4);
    assert_memory_equal(stage_as(h, "web", "*", "", 63, good), "-ERR", 4);
    assert_memory_equal(stage_as(h, "web", "*", "", size, slice_of(good.data, 31)), "-ERR", 4);
    assert_memory_equal(stage_as(h, "web", "*", "", size - 1, good), "[409 ", 5);
    uint8_t other[SITE_HASH_BYTES] = {1};
    assert_memory_equal(stage_as(h, "web", "*", "", size, slice_of(other, sizeof other)), "[409 ",
                        5);
    put_bytes(h, other, slice_of(manifest.data + 1, manifest.size - 1));
    assert_memory_equal(stage_as(h, "web", "*", "", size - 1, slice_of(other, sizeof other)),
                        "[422 ", 5);
    assert_memory_equal(stage_as(h, "web", "a.example", "", size, good), "[201 ", 5);
    assert_memory_equal(stage_as(h, "two", "b.example,a.example", "", size, good), "[409 ", 5);
    assert_memory_equal(stage_as(h, "two", "a.exampl", "", size, good), "[201 ", 5);
    assert_memory_equal(stage_as(h, "web", "", "", size, good), "[201 ", 5); /* gives it back */
    assert_memory_equal(stage_as(h, "two", "a.example", "", size, good), "[201 ", 5);
    assert_memory_equal(run(h, "SITE.SWITCH 99"), "[404 ", 5);
    assert_memory_equal(run(h, "SITE.SWITCH x"), "-ERR", 4);
    assert_memory_equal(run(h, "SITE.DROP 99"), "[404 ", 5);
    assert_memory_equal(run(h, "SITE.DELETE UP"), "-ERR", 4);
    SAYS(h, "KV.TXN 0 1 0 2 SITE.SWITCH 1",
         "-ERR then[0]: 'SITE.SWITCH' cannot stand inside a transaction");
    for (int i = 0; i < SITE_DEPLOYS_MAX - 2; i++)
        assert_memory_equal(stage_as(h, "web", "*", "", size, good), "[201 ", 5);
    assert_memory_equal(stage_as(h, "web", "*", "", size, good), "[409 ", 5);
    buf_fini(&manifest);
    buf_fini(&hashes);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_blocks),   TEST(test_life),      TEST(test_old_ones_go),
        TEST(test_gaps),     TEST(test_abandoned), TEST(test_large_and_hostile_manifests),
        TEST(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
