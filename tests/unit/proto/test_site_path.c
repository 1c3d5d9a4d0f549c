/* From a request's path to a file: normal forms, resolution, 404 pages, navigations, hashed names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/site_path.h"

/* ---- normal forms ---- */

static const struct {
    const char *raw;
    int result;
    const char *want;
} normal[] = {
    {"/", 0, "/"},
    {"/index.html", 0, "/index.html"},
    {"/a/b/", 0, "/a/b/"},
    {"/a%20b", 0, "/a b"},
    {"/%C3%BC", 0, "/\xc3\xbc"},
    {"/%c3%bc", 0, "/\xc3\xbc"},
    {"/%ff", 0, "/\xff"},
    {"/A/a", 0, "/A/a"},
    {"/a+b", 0, "/a+b"},
    {"/%2B", 0, "/+"},
    {"/%25", 0, "/%"},
    {"/%2541", 0, "/%41"},
    {"/a\\b", 0, "/a\\b"},
    {"/%5C", 0, "/\\"},
    {"//", 0, "/"},
    {"//a///b//", 0, "/a/b/"},
    {"//evil.example/", 0, "/evil.example/"},
    {"/a..b", 0, "/a..b"},
    {"/a.", 0, "/a."},
    {"/.well-known/acme", 0, "/.well-known/acme"},
    {"/.well-known", 0, "/.well-known"},
    {"/%2Ewell-known/x", 0, "/.well-known/x"},
    /* malformed, or something that browsers do not send */
    {"", 400, NULL},
    {"a", 400, NULL},
    {"*", 400, NULL},
    {"/%", 400, NULL},
    {"/%4", 400, NULL},
    {"/%4g", 400, NULL},
    {"/a%00", 400, NULL},
    {"/.", 400, NULL},
    {"/..", 400, NULL},
    {"/../", 400, NULL},
    {"/a/./b", 400, NULL},
    {"/a/../b", 400, NULL},
    {"/a/..", 400, NULL},
    {"/%2e%2E/", 400, NULL},
    {"/a/.%2e/b", 400, NULL},
    {"//..//", 400, NULL},
    {"/.well-known/../x", 400, NULL},
    /* nothing that a site can have */
    {"/a%2Fb", 404, NULL},
    {"/..%2f..%2fetc/passwd", 404, NULL},
    {"/%0A", 404, NULL},
    {"/a%7f", 404, NULL},
    {"/.git/config", 404, NULL},
    {"/%2egit/config", 404, NULL},
    {"/a/.env", 404, NULL},
    {"/...", 404, NULL},
    {"/.well-knownx", 404, NULL},
    {"/.well-known/.x", 404, NULL},
    {"/a/.well-known/x", 404, NULL},
};

static void test_normalise(void **state) {
    uint8_t scratch[SITE_PATH_BUFFER_BYTES];
    for (size_t i = 0; i < ARRAY_COUNT(normal); i++) {
        size_t size = strlen(normal[i].raw);
        uint8_t *copy = xmemdup(normal[i].raw, size);
        struct slice path = slice_str("untouched");
        int result = (int)site_path_normalise(slice_of(copy, size), scratch, &path);
        if (result != normal[i].result ||
            !slice_equal_str(path, normal[i].want ? normal[i].want : "untouched"))
            fail_msg("'%s': %d %.*s", normal[i].raw, result, (int)path.size, path.data);
        if (result == 0) {
            assert_true(site_path_is_servable(path, NULL));
            /* A normal path, asked for again, is itself. */
            struct buf url = {0};
            uint8_t again_scratch[SITE_PATH_BUFFER_BYTES];
            struct slice again;
            site_path_put_url(path, slice_of(NULL, 0), &url);
            assert_int_equal(site_path_normalise(buf_slice(&url), again_scratch, &again), 0);
            assert_true(slice_equal(path, again));
            buf_fini(&url);
        }
        free(copy);
    }
}

static void test_long_paths(void **state) {
    uint8_t raw[3 * SITE_PATH_BYTES_MAX + 9], scratch[SITE_PATH_BUFFER_BYTES];
    struct slice path;
    memset(raw, 'a', sizeof raw);
    raw[0] = '/';
    assert_int_equal(site_path_normalise(slice_of(raw, SITE_PATH_BYTES_MAX), scratch, &path), 0);
    assert_ptr_equal(path.data, raw);
    assert_int_equal(site_path_normalise(slice_of(raw, SITE_PATH_BYTES_MAX + 1), scratch, &path),
                     404);
    for (size_t i = 1; i + 2 < sizeof raw; i += 3)
        memcpy(raw + i, "%41", 3);
    size_t most = 1 + 3 * (SITE_PATH_BYTES_MAX - 1);
    assert_int_equal(site_path_normalise(slice_of(raw, most), scratch, &path), 0);
    assert_int_equal(path.size, SITE_PATH_BYTES_MAX);
    assert_int_equal(site_path_normalise(slice_of(raw, most + 3), scratch, &path), 404);
}

static void test_servable(void **state) {
    static const struct {
        const char *path;
        const char *reason;
    } cases[] = {
        {"/a", NULL},
        {"/", NULL},
        {"/a b/\xc3\xbc.html", NULL},
        {"/.well-known/x", NULL},
        {"a", "does not begin with a slash"},
        {"", "does not begin with a slash"},
        {"//a", "has two slashes in a row"},
        {"/a//", "has two slashes in a row"},
        {"/a\nb", "has a control character"},
        {"/../a", "has a segment \".\" or \"..\""},
        {"/.git/x", "is hidden: a name in it begins with a dot"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const char *reason = NULL;
        bool good = site_path_is_servable(slice_str(cases[i].path), &reason);
        assert_int_equal(good, cases[i].reason == NULL);
        if (!good)
            assert_string_equal(reason, cases[i].reason);
    }
}

static void test_url(void **state) {
    struct buf out = {0};
    site_path_put_url(slice_str("/a b/\xc3\xbc?#%\\\"&=:@"), slice_str("q=a b&\"\xc3\xbc%20"),
                      &out);
    assert_true(
        slice_equal_str(buf_slice(&out), "/a%20b/%C3%BC%3F%23%25%5C%22&=:@?q=a%20b&%22%C3%BC%20"));
    buf_reset(&out);
    site_path_put_url(slice_str("//evil.example"), slice_of(NULL, 0), &out);
    assert_true(slice_equal_str(buf_slice(&out), "/evil.example"));
    buf_fini(&out);
}

/* ---- resolution ---- */

static bool in_list(void *ctx, struct slice path) {
    for (const char *const *file = ctx; *file; file++)
        if (slice_equal_str(path, *file))
            return true;
    return false;
}

static const char *const files[] = {"/index.html",
                                    "/about.html",
                                    "/docs/index.html",
                                    "/docs/a.html",
                                    "/docs.html",
                                    "/both.html",
                                    "/both",
                                    "/app.js",
                                    "/404.html",
                                    "/docs/404.html",
                                    "/team/index.html",
                                    "/x/y/z.html",
                                    "/.well-known/a",
                                    "/docs/deep/er/x.css",
                                    "/blog/index.html",
                                    "/blog.html",
                                    "/index",
                                    "/empty.html/index.html",
                                    NULL};

static const struct {
    const char *path;
    enum site_resolution result;
    const char *want;
} resolutions[] = {
    {"/", SITE_FILE, "/index.html"},
    {"/index.html", SITE_FILE, "/index.html"},
    {"/index", SITE_FILE, "/index"},
    {"/about", SITE_FILE, "/about.html"},
    {"/about.html", SITE_FILE, "/about.html"},
    {"/about/", SITE_MOVED, "/about"},
    {"/docs/", SITE_FILE, "/docs/index.html"},
    {"/docs", SITE_FILE, "/docs.html"},
    {"/docs/a", SITE_FILE, "/docs/a.html"},
    {"/docs/index", SITE_FILE, "/docs/index.html"},
    {"/both", SITE_FILE, "/both"},
    {"/team", SITE_MOVED, "/team/"},
    {"/team/", SITE_FILE, "/team/index.html"},
    {"/app.js", SITE_FILE, "/app.js"},
    {"/app.js/", SITE_NOT_FOUND, NULL},
    {"/App.js", SITE_NOT_FOUND, NULL},
    {"/x", SITE_NOT_FOUND, NULL},
    {"/x/", SITE_NOT_FOUND, NULL},
    {"/x/y/z", SITE_FILE, "/x/y/z.html"},
    {"/nothing", SITE_NOT_FOUND, NULL},
    {"/empty.html", SITE_MOVED, "/empty.html/"},
    {"/empty", SITE_NOT_FOUND, NULL},
};

static void test_resolve(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(resolutions); i++) {
        uint8_t buffer[SITE_PATH_BUFFER_BYTES];
        struct slice path = slice_str("none");
        enum site_resolution result = site_path_resolve(slice_str(resolutions[i].path), in_list,
                                                        (void *)files, buffer, &path);
        const char *want = resolutions[i].want ? resolutions[i].want : "none";
        if (result != resolutions[i].result || !slice_equal_str(path, want))
            fail_msg("%s: %d %.*s", resolutions[i].path, result, (int)path.size, path.data);
    }
    /* The longest path there is has room for all that is tried. */
    uint8_t longest[SITE_PATH_BYTES_MAX], buffer[SITE_PATH_BUFFER_BYTES];
    const char *none[] = {NULL};
    struct slice path;
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            site_path_resolve(slice_of(longest, sizeof longest), in_list, none, buffer, &path),
            SITE_NOT_FOUND);
        assert_false(
            site_path_find_404(slice_of(longest, sizeof longest), in_list, none, buffer, &path));
        longest[sizeof longest - 1] = '/';
    }
}

/* A table made of aliases, as somebody would compile one beforehand. */
struct entry {
    char path[64];
    int rank;
    char to[64];
};
struct table {
    struct entry entries[100];
    int count;
};

static void add_alias(void *ctx, struct slice path, int rank, struct slice to) {
    struct table *t = ctx;
    struct entry new = {.rank = rank};
    memcpy(new.path, path.data, path.size);
    memcpy(new.to, to.data, to.size);
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->entries[i].path, new.path) == 0) {
            if (rank < t->entries[i].rank)
                t->entries[i] = new;
            return;
        }
    t->entries[t->count++] = new;
}

static void test_aliases(void **state) {
    static struct table table;
    for (const char *const *file = files; *file; file++)
        site_path_each_alias(slice_str(*file), add_alias, &table);
    for (size_t i = 0; i < ARRAY_COUNT(resolutions); i++) {
        const struct entry *found = NULL;
        for (int k = 0; k < table.count; k++)
            if (strcmp(table.entries[k].path, resolutions[i].path) == 0)
                found = &table.entries[k];
        if (!found) {
            assert_int_equal(resolutions[i].result, SITE_NOT_FOUND);
            continue;
        }
        assert_int_equal(found->rank == SITE_ALIAS_MOVED, resolutions[i].result == SITE_MOVED);
        assert_string_equal(found->to, resolutions[i].want);
    }
    /* And the other way: every alias is what resolving says. */
    for (int k = 0; k < table.count; k++) {
        uint8_t buffer[SITE_PATH_BUFFER_BYTES];
        struct slice to;
        enum site_resolution result = site_path_resolve(slice_str(table.entries[k].path), in_list,
                                                        (void *)files, buffer, &to);
        assert_int_equal(result == SITE_MOVED, table.entries[k].rank == SITE_ALIAS_MOVED);
        assert_true(slice_equal_str(to, table.entries[k].to));
    }
}

static void test_find_404(void **state) {
    static const struct {
        const char *path;
        const char *want;
    } cases[] = {
        {"/nothing", "/404.html"},    {"/", "/404.html"},     {"/docs/nothing", "/docs/404.html"},
        {"/docs/", "/docs/404.html"}, {"/docs", "/404.html"}, {"/docs/a/b/c", "/docs/404.html"},
        {"/other/b/c/", "/404.html"},
    };
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    struct slice page;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        assert_true(
            site_path_find_404(slice_str(cases[i].path), in_list, (void *)files, buffer, &page));
        assert_true(slice_equal_str(page, cases[i].want));
    }
    const char *none[] = {NULL};
    assert_false(site_path_find_404(slice_str("/a/b"), in_list, none, buffer, &page));
}

/* ---- navigations ---- */

static void test_navigation(void **state) {
    static const struct {
        const char *path;
        const char *accept;
        bool want;
    } cases[] = {
        {"/users/7", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true},
        {"/users/", "text/html", true},
        {"/", "TEXT/HTML", true},
        {"/a.b/c", "text/html", true},
        {"/a", "application/xhtml+xml", true},
        {"/a", "*/*, text/html;q=0.1", true},
        {"/app.js", "text/html", false},
        {"/users/john.doe", "text/html", false},
        {"/a", "*/*", false},
        {"/a", "text/*", false},
        {"/a", "application/json", false},
        {"/a", "text/html;q=0", false},
        {"/a", "text/html;q=0.0, */*", false},
        {"/a", "text/htmlx", false},
        {"/a", "", false},
        {"/a", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct slice accept = slice_str(cases[i].accept ? cases[i].accept : "");
        if (site_path_is_navigation(slice_str(cases[i].path), cases[i].accept ? &accept : NULL) !=
            cases[i].want)
            fail_msg("%s %s", cases[i].path, cases[i].accept);
    }
}

/* ---- hashed names ---- */

static void test_hashed(void **state) {
    static const char *const yes[] = {
        "/static/js/main.3f2a91bc.js",
        "/static/js/main.3f2a91bc.chunk.js",
        "/main.3F2A91BC.css",
        "/assets/index-3f2a91bc.js",
        "/_next/static/chunks/framework-0a1b2c3d4e5f6071.js",
        "/main.0a1b2c3d4e5f60718293.js.map",
        "/assets/index-BkX3d9aQ.js",
        "/assets/index.Dq7Lz2Xw.css",
        "/chunk-QK7BZ2XA.js",
        "/img/logo.d41d8cd98f00b204e9800998ecf8427e.png",
        "/0a1b2c3d4e5f6071.woff2",
        "/a-b-c.d41d8cd9.svg",
    };
    static const char *const no[] = {
        "/main.js",
        "/index.html",
        "/page.3f2a91bc.html",
        "/page-3f2a91bc",
        "/3f2a91bc.js",
        "/photo.20240101.jpg",
        "/photo-2024-01-01.jpg",
        "/photo-20240101-123456.jpg",
        "/jquery-3.7.1.min.js",
        "/bootstrap.bundle.min.js",
        "/app.production.js",
        "/app-deadbeef.js", /* no digit: a word, for all we know */
        "/effaced-facade.js",
        "/lib-MyPlugin.js",
        "/lib-MyPlug12.js",
        "/lib-webpack5.js",
        "/lib-REPORT24.js",
        "/lib-PRODUCTS.js",
        "/my-version2.js",
        "/fonts/open-sans-v34-latin-regular.woff2",
        "/data.3f2a9.json",
        "/uploads/123e4567-e89b-12d3-a456-426614174abc.jpg",
        "/a.3f2a91bc/main.js",
        "/",
        "",
        "/main.",
        "/3f2a91bc.",
    };
    for (size_t i = 0; i < ARRAY_COUNT(yes); i++)
        if (!site_path_is_hashed(slice_str(yes[i])))
            fail_msg("%s is hashed", yes[i]);
    for (size_t i = 0; i < ARRAY_COUNT(no); i++)
        if (site_path_is_hashed(slice_str(no[i])))
            fail_msg("%s is not hashed", no[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalise), cmocka_unit_test(test_long_paths),
        cmocka_unit_test(test_servable),  cmocka_unit_test(test_url),
        cmocka_unit_test(test_resolve),   cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_find_404),  cmocka_unit_test(test_navigation),
        cmocka_unit_test(test_hashed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
