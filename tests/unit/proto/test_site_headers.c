/* The _headers file: what it gives for a path, and what is wrong with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/site_headers.h"

static void note_error(void *ctx, uint32_t line, const char *text) {
    buf_printf(ctx, "%u: %s\n", line, text);
}

static void note_field(void *ctx, struct slice name, struct slice value) {
    buf_printf(ctx, "%.*s: %.*s\n", (int)name.size, name.data, (int)value.size, value.data);
}

static struct site_headers *parse(const char *text) {
    struct buf errors = {0};
    size_t size = strlen(text);
    uint8_t *copy = xmemdup(text, size);
    struct site_headers *h = site_headers_parse(slice_of(copy, size), note_error, &errors);
    free(copy); /* nothing borrows from it */
    if (!h)
        fail_msg("%.*s", (int)errors.size, errors.data);
    buf_fini(&errors);
    return h;
}

static void expect(const struct site_headers *h, const char *path, const char *want) {
    struct buf got = {0}, scratch = {0};
    struct site_headers_match match;
    site_headers_match(h, slice_str(path), &match);
    site_headers_each(&match, slice_str(path), &scratch, note_field, &got);
    if (!slice_equal_str(buf_slice(&got), want))
        fail_msg("%s:\n%.*s", path, (int)got.size, got.data);
    buf_fini(&got);
    buf_fini(&scratch);
}

static void test_fields(void **state) {
    struct site_headers *h = parse("\xEF\xBB\xBF# a comment\r\n"
                                   "/*\r\n"
                                   "  X-Frame-Options: DENY\r\n"
                                   "  Content-Security-Policy: default-src 'self'; img-src data: "
                                   "https://cdn.example:443\r\n"
                                   "\r\n"
                                   "/assets/*.js\n"
                                   "\tCache-Control: public, max-age=60\n"
                                   "  # between\n"
                                   "  Link: </a.css>; rel=preload\n"
                                   "  Link: </b.css>; rel=preload\n"
                                   "/assets/raw/*\n"
                                   "  ! x-frame-options\n"
                                   "! Cache-Control\n"
                                   "X-Raw:yes");
    const char *policy = "Content-Security-Policy: default-src 'self'; img-src data: "
                         "https://cdn.example:443\n";
    char want[500];
    assert_int_equal(site_headers_rule_count(h), 3);
    snprintf(want, sizeof want, "X-Frame-Options: DENY\n%s", policy);
    expect(h, "/", want);
    expect(h, "/assets/a.css", want);
    snprintf(want, sizeof want,
             "X-Frame-Options: DENY\n%sCache-Control: public, max-age=60\n"
             "Link: </a.css>; rel=preload\nLink: </b.css>; rel=preload\n",
             policy);
    expect(h, "/assets/deep/a.js", want);
    snprintf(want, sizeof want,
             "%sLink: </a.css>; rel=preload\nLink: </b.css>; rel=preload\nX-Raw: yes\n", policy);
    expect(h, "/assets/raw/a.js", want);
    struct site_headers_match match;
    site_headers_match(h, slice_str("/assets/raw/a.js"), &match);
    assert_true(site_headers_overrides(&match, "X-Frame-Options"));
    assert_true(site_headers_overrides(&match, "cache-control"));
    assert_false(site_headers_overrides(&match, "X-Content-Type-Options"));
    site_headers_match(h, slice_str("/x"), &match);
    assert_false(site_headers_overrides(&match, "Cache-Control"));
    site_headers_free(h);
}

static void test_taking_back(void **state) {
    struct site_headers *h = parse("/*\n A: 1\n B: 1\n ! A\n A: 2\n"
                                   "/x\n ! A\n A: 3\n"
                                   "/y\n ! A\n"
                                   "/*\n ! B\n Vary: Cookie\n");
    expect(h, "/", "A: 2\nVary: Cookie\n");
    expect(h, "/x", "A: 3\nVary: Cookie\n");
    expect(h, "/y", "Vary: Cookie\n");
    struct site_headers_match match;
    site_headers_match(h, slice_str("/y"), &match);
    assert_false(site_headers_overrides(&match, "Vary")); /* the server's own is sent, too */
    site_headers_free(h);
    h = parse("");
    expect(h, "/", "");
    site_headers_match(h, slice_str("/"), &match);
    assert_false(match.any);
    site_headers_free(h);
    site_headers_free(NULL);
}

static void test_placeholders(void **state) {
    struct site_headers *h = parse("/blog/:year/:slug\n"
                                   "  X-Post: \":slug\" of :year, :month, :splat\n"
                                   "  X-Plain: a:b\n"
                                   "/files/*\n"
                                   "  Content-Disposition: attachment; filename=\":splat\"\n");
    expect(h, "/blog/2024/hello", "X-Post: \"hello\" of 2024, :month, :splat\nX-Plain: a:b\n");
    expect(h, "/blog/2024/a/b", "");
    expect(h, "/blog/2024/", "");
    /* What a request puts in stays what it is: one word. */
    expect(
        h, "/files/a\r\nSet-Cookie: x=\"y\";z",
        "Content-Disposition: attachment; filename=\"a%0D%0ASet-Cookie%3A%20x%3D%22y%22%3Bz\"\n");
    expect(h, "/files/a/b.txt", "Content-Disposition: attachment; filename=\"a/b.txt\"\n");
    expect(h, "/files", "Content-Disposition: attachment; filename=\"\"\n");
    site_headers_free(h);
}

static const struct {
    const char *text;
    const char *want;
} errors[] = {
    {"X: y\n", "1: a field before the first path: a path begins with \"/\"\n"},
    {"/a\n", "1: a path without fields\n"},
    {"/a\n/b\n X: y\n", "1: a path without fields\n"},
    {"/a\n X\n", "2: expected \"Name: value\", \"! Name\", or a path that begins with \"/\"\n"},
    {"/a\n X y: z\n", "2: \"X y\" is no name of a field\n"},
    {"/a\n X : z\n", "2: \"X \" is no name of a field\n"},
    {"/a\n : z\n", "2: \"\" is no name of a field\n"},
    {"/a\n !\n", "2: \"\" is no name of a field\n"},
    {"/a\n X:\n", "2: no value; to take the field back write \"! X\"\n"},
    {"/a\n content-length: 1\n",
     "2: \"content-length\" is the server's own; a site cannot set it\n"},
    {"/a\n Transfer-Encoding: x\n Connection: close\n Date: x\n Set-Cookie: a=b\n ! ETag\n",
     "2: \"Transfer-Encoding\" is the server's own; a site cannot set it\n"
     "3: \"Connection\" is the server's own; a site cannot set it\n"
     "4: \"Date\" is the server's own; a site cannot set it\n"
     "5: \"Set-Cookie\" is the server's own; a site cannot set it\n"
     "6: \"ETag\" is the server's own; a site cannot set it\n"},
    {"/a\n ! Vary\n", "2: \"Vary\" cannot be taken back: caches need it\n"},
    {"/a\n X: a\x01"
     "b\n",
     "2: the line has a control character in it\n"},
    {"/a\n X: a\rb\n", "2: the line has a control character in it\n"},
    {"https://a.example/*\n X: y\n",
     "1: rules for one host are not supported: a path begins with \"/\"\n"
     "2: a field before the first path: a path begins with \"/\"\n"},
    {"/v1/kv/*\n X: y\n",
     "1: /v1/ and /_/ belong to the server; their answers carry no fields of a site\n"},
    {"/a*b*\n X: y\n", "1: the path is not right: more than one star\n"},
    {"/:a/:a\n X: y\n", "1: the path is not right: a placeholder comes twice\n"},
    {"/:splat\n X: y\n", "1: the path is not right: \":splat\" is the name of the star; give the "
                         "placeholder another name\n"},
    {"/:a.html\n X: y\n",
     "1: the path is not right: a placeholder stands for a whole segment, as in "
     "/blog/:year/:slug\n"},
    {"/a//b\n X: y\n", "1: the path is not right: two slashes in a row\n"},
    {"/%zz\n X: y\n", "1: the path is not right: \"%\" without two hexadecimal digits behind it\n"},
    {"/%2f\n X: y\n", "1: the path is not right: no file's name has a slash (%2F) in it\n"},
    {"/%00\n X: y\n", "1: the path is not right: a control character\n"},
    {"/:a/:b/:c/:d/:e/:f/:g/:h/:i\n X: y\n",
     "1: the path is not right: more than 8 placeholders\n"},
};

static void test_errors(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(errors); i++) {
        struct buf got = {0};
        struct site_headers *h = site_headers_parse(slice_str(errors[i].text), note_error, &got);
        if (h || !slice_equal_str(buf_slice(&got), errors[i].want))
            fail_msg("%s:\n%.*s", errors[i].text, (int)got.size, got.data);
        buf_fini(&got);
        assert_null(site_headers_parse(slice_str(errors[i].text), NULL, NULL));
    }
}

static void expect_error(struct buf *text, const char *want) {
    struct buf got = {0};
    assert_null(site_headers_parse(buf_slice(text), note_error, &got));
    if (!slice_starts_with(buf_slice(&got), slice_str(want)))
        fail_msg("%.*s", (int)got.size, got.data);
    buf_fini(&got);
    buf_reset(text);
}

static void test_limits(void **state) {
    struct buf text = {0};
    for (int i = 0; i < SITE_HEADERS_RULES_MAX; i++)
        buf_printf(&text, "/%d\n X: y\n", i);
    struct site_headers *h = site_headers_parse(buf_slice(&text), note_error, NULL);
    assert_non_null(h);
    expect(h, "/255", "X: y\n");
    site_headers_free(h);
    buf_append_str(&text, "/more\n X: y\n/still more\n X: y\n");
    expect_error(&text, "513: more than 256 paths\n");
    buf_append_str(&text, "/a\n");
    for (int i = 0; i <= SITE_HEADERS_FIELDS_MAX; i++)
        buf_append_str(&text, " X: y\n");
    expect_error(&text, "1026: more than 1024 fields\n");
    buf_append_str(&text, "/a\n X: ");
    for (int i = 0; i < SITE_HEADERS_LINE_BYTES_MAX; i++)
        buf_append_char(&text, 'x');
    expect_error(&text, "2: the line is longer than 2000 bytes\n");
    for (int i = 0; i <= SITE_HEADERS_BYTES_MAX; i++)
        buf_append_char(&text, '\n');
    expect_error(&text, "0: the file is longer than 262144 bytes\n");
    for (int i = 0; i < 200; i++)
        buf_append_str(&text, "nonsense\n");
    struct buf got = {0};
    assert_null(site_headers_parse(buf_slice(&text), note_error, &got));
    int lines = 0;
    for (size_t i = 0; i < got.size; i++)
        lines += got.data[i] == '\n';
    assert_int_equal(lines, SITE_ERRORS_MAX);
    buf_fini(&got);
    buf_fini(&text);
}

/* Cut off anywhere, the file is good or is refused; the last bytes of the text are its end. */
static void test_every_prefix(void **state) {
    const char *text =
        "/*\n  X-Frame-Options: DENY\n/blog/:a/*\n  ! X-Frame-Options\n  Y: :a-:splat\n";
    for (size_t n = 0; n <= strlen(text); n++) {
        struct buf got = {0};
        uint8_t *copy = xmemdup(text, n);
        struct site_headers *h = site_headers_parse(slice_of(copy, n), note_error, &got);
        free(copy);
        assert_int_equal(h == NULL, got.size > 0);
        site_headers_free(h);
        buf_fini(&got);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),       cmocka_unit_test(test_taking_back),
        cmocka_unit_test(test_placeholders), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_every_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
