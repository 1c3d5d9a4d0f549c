/* Media types by name; the table is in order, and agrees with Debian's where that is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/mime.h"

static const struct {
    const char *path;
    const char *want;
} cases[] = {
    {"/index.html", "text/html; charset=utf-8"},
    {"/INDEX.HTML", "text/html; charset=utf-8"},
    {"/app.js", "text/javascript; charset=utf-8"},
    {"/app.mjs", "text/javascript; charset=utf-8"},
    {"/a.css", "text/css; charset=utf-8"},
    {"/a.tar.gz", "application/gzip"},
    {"/feed.xml", "application/xml"},
    {"/data.json", "application/json"},
    {"/app.js.map", "application/json"},
    {"/site.webmanifest", "application/manifest+json"},
    {"/a.svg", "image/svg+xml"},
    {"/a.woff2", "font/woff2"},
    {"/a.wasm", "application/wasm"},
    {"/favicon.ico", "image/vnd.microsoft.icon"},
    {"/3gp.3gp", "video/3gpp"},
    {"/a.zst", "application/zstd"},
    {"/README", "application/octet-stream"},
    {"/.html", "application/octet-stream"},
    {"/a.html/b", "application/octet-stream"},
    {"/a.", "application/octet-stream"},
    {"/a.appcache", "text/cache-manifest; charset=utf-8"},
    {"/a.webmanifesto", "application/octet-stream"},
    {"/a.unknown", "application/octet-stream"},
    {"/a.ht\xc3\xbc", "application/octet-stream"},
    {"/", "application/octet-stream"},
    {"", "application/octet-stream"},
};

static void test_types(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        size_t size = strlen(cases[i].path);
        uint8_t *copy = xmemdup(cases[i].path, size);
        const char *type = mime_type(slice_of(copy, size));
        free(copy);
        if (strcmp(type, cases[i].want) != 0)
            fail_msg("%s: %s", cases[i].path, type);
    }
    /* "htm" with a NUL is not "htm". */
    assert_string_equal(mime_type(slice_of("/a.htm\0", 7)), "application/octet-stream");
}

static void test_extensions(void **state) {
    assert_true(slice_equal_str(mime_extension(slice_str("/a/b.tar.gz")), "gz"));
    assert_int_equal(mime_extension(slice_str("/a.b/c")).size, 0);
    assert_int_equal(mime_extension(slice_str("/a/.env")).size, 0);
    assert_int_equal(mime_extension(slice_str(".env")).size, 0);
}

static const struct {
    const char *extension;
    const char *type;
} table[] = {
#define MIME(extension, type) {extension, type},
#include "proto/mime_table.h"
#undef MIME
};

static void test_table(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        char path[40];
        if (i > 0 && strcmp(table[i - 1].extension, table[i].extension) >= 0)
            fail_msg("%s is not in its place", table[i].extension);
        for (const char *c = table[i].extension; *c; c++)
            assert_true((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9'));
        snprintf(path, sizeof path, "/x.%s", table[i].extension);
        assert_string_equal(mime_type(slice_str(path)), table[i].type);
        bool text = strncmp(table[i].type, "text/", 5) == 0;
        assert_int_equal(strstr(table[i].type, "; charset=utf-8") != NULL, text);
    }
}

/* Where ours is another type than Debian's, on purpose. */
static const char *const differs[] = {
    "exe", /* its own is of MS-DOS */
    "mid", /* audio/midi is what players know */
    "rpm", /* the other one is of nobody else */
    "rss", /* without x- since feed readers look at it */
    "rst", /* text/prs.fallenstein.rst is another format */
    "srt", /* its own name, not text/plain */
    "tgz", /* a gzip file, and browsers know that */
    "ts",  /* of videos, not of Qt's translations */
};

/* What Debian says of one extension, which it may name for several types. */
static struct {
    bool agrees;
    char other[80];
} debian[ARRAY_COUNT(table)];

static void note(const char *type, const char *extension) {
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        size_t n = strcspn(table[i].type, ";");
        if (strcmp(table[i].extension, extension) != 0)
            continue;
        if (strlen(type) == n && strncasecmp(table[i].type, type, n) == 0)
            debian[i].agrees = true;
        else
            snprintf(debian[i].other, sizeof debian[i].other, "%s", type);
    }
}

static bool may_differ(const char *extension) {
    for (size_t i = 0; i < ARRAY_COUNT(differs); i++)
        if (strcmp(differs[i], extension) == 0)
            return true;
    return false;
}

static void test_against_debian(void **state) {
    FILE *f = fopen("/etc/mime.types", "r");
    char line[1024];
    int agreed = 0;
    if (!f)
        skip();
    while (fgets(line, sizeof line, f)) {
        char *rest = NULL;
        char *type = line[0] == '#' ? NULL : strtok_r(line, " \t\n", &rest);
        for (char *word; type && (word = strtok_r(NULL, " \t\n", &rest)) != NULL;)
            note(type, word);
    }
    fclose(f);
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        agreed += debian[i].agrees;
        if (!debian[i].agrees && debian[i].other[0] && !may_differ(table[i].extension))
            fail_msg(".%s: %s here, %s there", table[i].extension, table[i].type, debian[i].other);
    }
    assert_true(agreed > 100);
}

static void test_kinds(void **state) {
    static const char *const yes[] = {"text/html; charset=utf-8",
                                      "image/svg+xml",
                                      "application/json",
                                      "application/ld+json",
                                      "application/wasm",
                                      "font/ttf",
                                      "TEXT/CSS",
                                      "application/rss+xml; charset=utf-8"};
    static const char *const no[] = {"image/png",
                                     "font/woff2",
                                     "application/zip",
                                     "video/mp4",
                                     "application/octet-stream",
                                     "application/jsonx",
                                     "+xml",
                                     ""};
    for (size_t i = 0; i < ARRAY_COUNT(yes); i++)
        assert_true(mime_is_compressible(yes[i]));
    for (size_t i = 0; i < ARRAY_COUNT(no); i++)
        assert_false(mime_is_compressible(no[i]));
    assert_true(mime_is_html("text/html"));
    assert_true(mime_is_html("text/html; charset=utf-8"));
    assert_true(mime_is_html("application/xhtml+xml"));
    assert_false(mime_is_html("text/htmlx"));
    assert_false(mime_is_html("text/plain"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types), cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_table), cmocka_unit_test(test_against_debian),
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
