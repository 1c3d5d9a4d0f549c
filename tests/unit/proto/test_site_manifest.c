/* Manifests: what was written is read; what is cut off, changed or out of order is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/site_manifest.h"

static void hashes_of(uint8_t first, uint64_t size, struct buf *out) {
    for (uint64_t i = 0; i < site_manifest_block_count(size); i++)
        for (int b = 0; b < SHA256_BYTES; b++)
            buf_append_u8(out, b == 0 ? (uint8_t)(first - i) : 5);
}

static void add(struct site_manifest_writer *w, const char *path, uint8_t first, uint64_t size,
                uint64_t gzip_size) {
    uint8_t tag[SITE_MANIFEST_TAG_BYTES] = {first};
    struct buf hashes = {0};
    site_manifest_writer_file(w, slice_str(path), 1000 + first);
    hashes_of(first, size, &hashes);
    site_manifest_writer_variant(w, 0, size, tag, hashes.data);
    if (gzip_size) {
        buf_reset(&hashes);
        hashes_of((uint8_t)(first + 100), gzip_size, &hashes);
        site_manifest_writer_variant(w, 1, gzip_size, tag, hashes.data);
    }
    buf_fini(&hashes);
}

static void make(struct buf *out) {
    struct site_manifest_writer *w = site_manifest_writer_new();
    site_manifest_writer_texts(w, slice_str("/a\n X: y\n"), slice_str("/b /c\n"),
                               slice_str("read a\n"));
    add(w, "/z.bin", 90, 3 * SITE_MANIFEST_BLOCK_BYTES + 1, 0);
    add(w, "/a.html", 7, 1000, 300);
    add(w, "/b/empty", 1, 0, 0);
    add(w, "/copy.html", 7, 1000, 0);
    assert_true(site_manifest_writer_end(w, out));
    site_manifest_writer_free(w);
}

static void test_round_trip(void **state) {
    struct buf bytes = {0};
    struct site_manifest m;
    struct site_manifest_file f;
    make(&bytes);
    assert_true(site_manifest_decode(buf_slice(&bytes), &m));
    assert_int_equal(m.file_count, 4);
    assert_int_equal(m.block_count, 6); /* 4 of z.bin, a.html and its variant; the copy has none */
    assert_int_equal(m.bytes, 3 * SITE_MANIFEST_BLOCK_BYTES + 1 + 2000);
    assert_true(slice_equal_str(m.headers, "/a\n X: y\n"));
    assert_true(slice_equal_str(m.redirects, "/b /c\n"));
    assert_true(slice_equal_str(m.access, "read a\n"));
    struct slice in = m.files;
    static const char *const paths[] = {"/a.html", "/b/empty", "/copy.html", "/z.bin"};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        assert_true(site_manifest_next(&in, &f));
        assert_true(slice_equal_str(f.path, paths[i]));
        if (i == 0) {
            assert_int_equal(f.variant_count, 2);
            assert_int_equal(f.variants[1].encoding, 1);
            assert_int_equal(f.variants[1].size, 300);
            assert_int_equal(site_manifest_block(&m, &f.variants[0], 0)[0], 7);
            assert_int_equal(site_manifest_block(&m, &f.variants[1], 0)[0], 107);
        }
        if (i == 3)
            for (uint8_t b = 0; b < 4; b++)
                assert_int_equal(site_manifest_block(&m, &f.variants[0], b)[0], 90 - b);
    }
    assert_false(site_manifest_next(&in, &f));
    buf_fini(&bytes);
}

/* Cut off anywhere, or with something behind it. */
static void test_cut(void **state) {
    struct buf bytes = {0};
    struct site_manifest m;
    make(&bytes);
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *exact = xmemdup(bytes.data, size);
        assert_false(site_manifest_decode(slice_of(exact, size), &m));
        if (size > 24) { /* also when the header agrees */
            put_u64le(exact + 16, size);
            assert_false(site_manifest_decode(slice_of(exact, size), &m));
        }
        free(exact);
    }
    buf_append_u8(&bytes, 0);
    assert_false(site_manifest_decode(buf_slice(&bytes), &m));
    buf_fini(&bytes);
}

/* Any byte changed: refused, or still a manifest that can be walked over. */
static void test_changed(void **state) {
    struct buf bytes = {0};
    struct site_manifest m;
    struct site_manifest_file f;
    make(&bytes);
    for (size_t i = 0; i < bytes.size; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes.data[i] ^= (uint8_t)(1 << bit);
            if (site_manifest_decode(buf_slice(&bytes), &m)) {
                uint32_t count = 0;
                for (struct slice in = m.files; site_manifest_next(&in, &f); count++)
                    for (uint8_t v = 0; v < f.variant_count; v++)
                        for (uint64_t b = 0; b < site_manifest_block_count(f.variants[v].size); b++)
                            assert_true(site_manifest_block(&m, &f.variants[v], b) <
                                        m.table + m.block_count * SHA256_BYTES);
                assert_int_equal(count, m.file_count);
            }
            bytes.data[i] ^= (uint8_t)(1 << bit);
        }
    buf_fini(&bytes);
}

static void test_refused(void **state) {
    static const char *const paths[] = {"a", "/../a", "/.git/x", "/a/", "/a\nb", "/a//b"};
    struct buf bytes = {0};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        struct site_manifest_writer *w = site_manifest_writer_new();
        add(w, paths[i], 1, 10, 0);
        assert_false(site_manifest_writer_end(w, &bytes));
        site_manifest_writer_free(w);
        buf_reset(&bytes);
    }
    struct site_manifest_writer *w = site_manifest_writer_new();
    add(w, "/twice", 1, 10, 0);
    add(w, "/twice", 2, 10, 0);
    assert_false(site_manifest_writer_end(w, &bytes));
    site_manifest_writer_free(w);
    buf_fini(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
