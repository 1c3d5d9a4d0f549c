/* The _redirects file: which rule applies, where it leads, what is wrong with it, what goes in
 * circles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/site_path.h"
#include "proto/site_redirects.h"

static void note_error(void *ctx, uint32_t line, const char *text) {
    buf_printf(ctx, "%u: %s\n", line, text);
}

static struct site_redirects *parse(const char *text) {
    struct buf errors = {0};
    size_t size = strlen(text);
    uint8_t *copy = xmemdup(text, size);
    struct site_redirects *r = site_redirects_parse(slice_of(copy, size), note_error, &errors);
    free(copy); /* nothing borrows from it */
    if (!r)
        fail_msg("%.*s", (int)errors.size, errors.data);
    buf_fini(&errors);
    return r;
}

enum { NO_FILE = 0, FILE_EXISTS = 1, SCRIPT = 2 /* no navigation */ };

/* "301 /new", "200 /index.html", "-" when no rule applies. */
static void answer(const struct site_redirects *r, const char *path, const char *query, int flags,
                   struct buf *out) {
    struct site_captures captures;
    const struct site_redirect *rule =
        site_redirects_match(r, slice_str(path), flags & FILE_EXISTS, !(flags & SCRIPT), &captures);
    buf_reset(out);
    if (!rule) {
        buf_append_char(out, '-');
        return;
    }
    buf_printf(out, "%d ", rule->status);
    if (rule->status >= 300 && rule->status < 400)
        site_redirect_put_location(rule, &captures, slice_str(query), out);
    else if (!site_redirect_put_path(rule, &captures, out))
        buf_append_str(out, "nothing");
}

static void expect(const struct site_redirects *r, const char *path, const char *query, int flags,
                   const char *want) {
    struct buf got = {0};
    answer(r, path, query, flags, &got);
    if (!slice_equal_str(buf_slice(&got), want))
        fail_msg("%s?%s (%d): %.*s, not %s", path, query, flags, (int)got.size, got.data, want);
    buf_fini(&got);
}

static void test_rules(void **state) {
    struct site_redirects *r = parse("# from to status\n"
                                     "/old            /new\n"
                                     "/temporary\t/new 302   # why\n"
                                     "/blog/*         /news/:splat           302\r\n"
                                     "/shop/:id/*     https://shop.example/:id?x=:splat#top 308\n"
                                     "/a%20b          /c%20d\n"
                                     "/store          /buy?from=store         307\n"
                                     "/see            /other#part             303\n"
                                     "/frag/:a        /x#y:a%20#z\n"
                                     "/beta/*         /soon.html              200!\n"
                                     "/old            /never\n"
                                     "/user/:name     /profile/:name.html     200\n"
                                     "/de/*           /de/404.html            404\n"
                                     "/app/*          /app/index.html         200\n"
                                     "/raw/*          /store/:splat           200\n");
    assert_int_equal(site_redirects_rule_count(r), 14);
    assert_true(site_redirects_any_forced(r));
    expect(r, "/old", "", NO_FILE, "301 /new");
    expect(r, "/old", "a=1&b=%20\"", NO_FILE, "301 /new?a=1&b=%20%22");
    expect(r, "/old/", "", NO_FILE, "-");
    expect(r, "/Old", "", NO_FILE, "-");
    expect(r, "/old", "", FILE_EXISTS, "-");
    expect(r, "/temporary", "", NO_FILE, "302 /new");
    expect(r, "/blog/2024/x y", "", NO_FILE, "302 /news/2024/x%20y");
    expect(r, "/blog/", "q", NO_FILE, "302 /news/?q");
    expect(r, "/blog", "", NO_FILE, "302 /news/");
    expect(r, "/blogs", "", NO_FILE, "-");
    expect(r, "/shop/7/a&b=c", "q", NO_FILE, "308 https://shop.example/7?x=a%26b%3Dc#top");
    expect(r, "/shop/7", "", NO_FILE, "308 https://shop.example/7?x=#top");
    expect(r, "/a b", "", NO_FILE, "301 /c%20d");
    expect(r, "/store", "utm=1", NO_FILE, "307 /buy?from=store");
    expect(r, "/see", "q=1", NO_FILE, "303 /other?q=1#part");
    expect(r, "/frag/a b#\\", "q", NO_FILE, "301 /x?q#ya%20b%23%5C%20%23z");
    expect(r, "/beta/x", "", FILE_EXISTS, "200 /soon.html");
    expect(r, "/beta/x.js", "", FILE_EXISTS | SCRIPT, "200 /soon.html");
    expect(r, "/user/j d", "", NO_FILE, "200 /profile/j d.html");
    expect(r, "/user/j/d", "", NO_FILE, "-");
    expect(r, "/de/x", "", NO_FILE | SCRIPT, "404 /de/404.html");
    expect(r, "/app/x", "", NO_FILE, "200 /app/index.html");
    expect(r, "/app/x", "", SCRIPT, "-");
    expect(r, "/raw/x", "", SCRIPT, "200 /store/x");
    site_redirects_free(r);
    site_redirects_free(NULL);
    r = parse("\n# nothing\n");
    assert_false(site_redirects_any_forced(r));
    expect(r, "/", "", NO_FILE, "-");
    site_redirects_free(r);
}

/* The first rule of the file counts, whether it is found by hash or by trying. */
static void test_order(void **state) {
    struct site_redirects *r = parse("/a/b /1\n"
                                     "/a/* /2\n"
                                     "/a/c /3\n"
                                     "/a/b /4 302!\n"
                                     "/x /5\n"
                                     "/x /6 301!\n"
                                     "/* /7 302!\n");
    expect(r, "/a/b", "", NO_FILE, "301 /1");
    expect(r, "/a/b", "", FILE_EXISTS, "302 /4");
    expect(r, "/a/c", "", NO_FILE, "301 /2");
    expect(r, "/a/c", "", FILE_EXISTS, "302 /7");
    expect(r, "/x", "", NO_FILE, "301 /5");
    expect(r, "/x", "", FILE_EXISTS, "301 /6");
    expect(r, "/", "", NO_FILE, "302 /7");
    site_redirects_free(r);
}

static void test_stars(void **state) {
    struct site_redirects *r = parse("/*/feed.xml   /feeds/:splat\n"
                                     "/img/*.jpg    /img/:splat.webp\n"
                                     "/:lang/docs/*/:page  /d/:lang/:page/:splat\n"
                                     "/lit%2Aeral   /star\n"
                                     "/wiki/Help:Me /help\n"
                                     "/q/:a_1/:b   /x/:b:a_1/:b%3Aa\n");
    expect(r, "/blog/de/feed.xml", "", NO_FILE, "301 /feeds/blog/de");
    expect(r, "/feed.xml", "", NO_FILE, "-");
    expect(r, "/img/a/b.jpg", "", NO_FILE, "301 /img/a/b.webp");
    expect(r, "/img/.jpg", "", NO_FILE, "301 /img/.webp");
    expect(r, "/img/a.png", "", NO_FILE, "-");
    expect(r, "/de/docs/a/b/c", "", NO_FILE, "301 /d/de/c/a/b");
    expect(r, "/de/docs/c", "", NO_FILE, "-");
    expect(r, "/de/docs//c", "", NO_FILE, "301 /d/de/c/");
    expect(r, "/lit*eral", "", NO_FILE, "301 /star");
    expect(r, "/litxeral", "", NO_FILE, "-");
    expect(r, "/wiki/Help:Me", "", NO_FILE, "301 /help");
    expect(r, "/q/1/2", "", NO_FILE, "301 /x/21/2%3Aa");
    site_redirects_free(r);
}

/* Nothing that a client asks for makes a Location that leads to another host. */
static void test_open_redirects(void **state) {
    struct site_redirects *r = parse("/go*         /:splat\n"
                                     "/to/*        /:splat  302\n"
                                     "/x/:a        /:a\n"
                                     "/out/*       https://shop.example/:splat\n"
                                     "/q/*         /search?q=:splat\n"
                                     "/in*         /:splat 200\n");
    expect(r, "/go//evil.example", "", NO_FILE, "301 /evil.example");
    expect(r, "/go/evil.example/", "", NO_FILE, "301 /evil.example/");
    expect(r, "/to//evil.example", "", NO_FILE, "302 /evil.example");
    expect(r, "/to/\\evil.example", "", NO_FILE, "302 /%5Cevil.example");
    expect(r, "/to/\\/evil.example", "", NO_FILE, "302 /%5C/evil.example");
    expect(r, "/to/https://evil.example", "", NO_FILE, "302 /https://evil.example");
    expect(r, "/to/\t/evil.example", "", NO_FILE, "302 /%09/evil.example");
    expect(r, "/x/\r\nSet-Cookie: a=b", "", NO_FILE, "301 /%0D%0ASet-Cookie:%20a=b");
    expect(r, "/x/a?b#c%", "", NO_FILE, "301 /a%3Fb%23c%25");
    expect(r, "/out/.evil.example", "", NO_FILE, "301 https://shop.example/.evil.example");
    expect(r, "/out/@evil.example", "", NO_FILE, "301 https://shop.example/@evil.example");
    expect(r, "/q/a&b=c+d#e", "", NO_FILE, "301 /search?q=a%26b%3Dc%2Bd%23e");
    expect(r, "/q/x", "a=\r\n#", NO_FILE, "301 /search?q=x");
    expect(r, "/x/y", "a=\r\n# b", NO_FILE, "301 /y?a=%0D%0A%23%20b");
    /* And no path inside of the site that it cannot have. */
    expect(r, "/in/.git/config", "", NO_FILE, "200 nothing");
    expect(r, "/in/../x", "", NO_FILE, "200 nothing");
    expect(r, "/in/x", "", NO_FILE, "200 nothing"); /* //x */
    expect(r, "/inx", "", NO_FILE, "200 /x");
    site_redirects_free(r);
}

static const struct {
    const char *text;
    const char *want;
} errors[] = {
    {"/a\n", "1: where does it lead? Expected: path, target, status\n"},
    {"/a # b\n", "1: where does it lead? Expected: path, target, status\n"},
    {"a /b\n", "1: a rule begins with a path, and a path with \"/\"\n"},
    {"http://a.example/* /b\n", "1: rules for one host are not supported: begin with a path\n"},
    {"/a b\n",
     "1: leads to something that is neither a path (\"/...\") nor an http or https URL\n"},
    {"/a javascript:alert(1)\n",
     "1: leads to something that is neither a path (\"/...\") nor an http or https URL\n"},
    {"/a //evil.example\n",
     "1: leads to \"//...\", another host: write https:// before it if that is meant\n"},
    {"/a id=:id /b/:id 301\n", "1: matching query parameters is not supported\n"},
    {"/a /b 301 Country=de\n", "1: conditions (Country=, Language=, Role=) are not supported\n"},
    {"/a /b Country=de\n", "1: conditions (Country=, Language=, Role=) are not supported\n"},
    {"/a /b 300\n", "1: the status must be 301, 302, 303, 307, 308, 200 or 404, with or without "
                    "\"!\"\n"},
    {"/a /b 3010\n", "1: the status must be 301, 302, 303, 307, 308, 200 or 404, with or without "
                     "\"!\"\n"},
    {"/a /b !\n", "1: the status must be 301, 302, 303, 307, 308, 200 or 404, with or without "
                  "\"!\"\n"},
    {"/a /b 301 /c\n", "1: there is more in the line than path, target and status\n"},
    {"/v1/kv/* /b\n", "1: /v1/ and /_/ belong to the server; a site's rules are not asked there\n"},
    {"/_/status /b\n",
     "1: /v1/ and /_/ belong to the server; a site's rules are not asked there\n"},
    {"/a https://b.example/ 200\n",
     "1: answers of other hosts are not handed on (no proxying): use 301, 302, 303, 307 or 308\n"},
    {"/a https://\n", "1: a URL without a host\n"},
    {"/a https:///b\n", "1: a URL without a host\n"},
    {"/a https://user@b.example/\n",
     "1: the host may have letters, digits and . - _ : [ ] (write others in punycode; no user "
     "names)\n"},
    {"/a https://b\xc3\xbc.example/\n",
     "1: the host may have letters, digits and . - _ : [ ] (write others in punycode; no user "
     "names)\n"},
    {"/a/:h https://:h/\n", "1: a placeholder cannot choose the host\n"},
    {"/a/:h https://:h.b.example/\n", "1: a placeholder cannot choose the host\n"},
    {"/a/* https://b.example:splat\n", "1: a placeholder cannot choose the host\n"},
    {"/a/:b /c/:d\n", "1: a placeholder that the pattern before it does not have (write %3A for a "
                      "colon before a letter)\n"},
    {"/a /b/:splat\n", "1: a placeholder that the pattern before it does not have (write %3A for a "
                       "colon before a letter)\n"},
    {"/a/*/* /b\n", "1: more than one star\n"},
    {"/a /b?c 200\n", "1: a rule with 200 or 404 leads to a file, which has no query and no "
                      "fragment\n"},
    {"/a /b#c 404\n", "1: a rule with 200 or 404 leads to a file, which has no query and no "
                      "fragment\n"},
    {"/a /.git/config 200\n", "1: the site can have no file of that name\n"},
    {"/a /b/../c 200\n", "1: the site can have no file of that name\n"},
    {"/a /b%zz 200\n", "1: \"%\" without two hexadecimal digits behind it\n"},
    {"/a /b\n/c\n/d e\n", "2: where does it lead? Expected: path, target, status\n"
                          "3: leads to something that is neither a path (\"/...\") nor an http or "
                          "https URL\n"},
};

static void test_errors(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(errors); i++) {
        struct buf got = {0};
        struct site_redirects *r =
            site_redirects_parse(slice_str(errors[i].text), note_error, &got);
        if (r || !slice_equal_str(buf_slice(&got), errors[i].want))
            fail_msg("%s:\n%.*s", errors[i].text, (int)got.size, got.data);
        buf_fini(&got);
        assert_null(site_redirects_parse(slice_str(errors[i].text), NULL, NULL));
    }
}

static void expect_error(struct buf *text, const char *want) {
    struct buf got = {0};
    assert_null(site_redirects_parse(buf_slice(text), note_error, &got));
    if (!slice_equal_str(buf_slice(&got), want))
        fail_msg("%.*s", (int)got.size, got.data);
    buf_fini(&got);
    buf_reset(text);
}

static void test_limits(void **state) {
    struct buf text = {0};
    for (int i = 0; i < SITE_REDIRECTS_RULES_MAX; i++)
        buf_printf(&text, "/from/%d /to/%d\n", i, i);
    struct site_redirects *r = site_redirects_parse(buf_slice(&text), note_error, NULL);
    assert_non_null(r);
    for (int i = 0; i < SITE_REDIRECTS_RULES_MAX; i++) {
        char path[40], want[40];
        snprintf(path, sizeof path, "/from/%d", i);
        snprintf(want, sizeof want, "301 /to/%d", i);
        expect(r, path, "", NO_FILE, want);
    }
    site_redirects_free(r);
    buf_append_str(&text, "/one /more\n/two /more\n");
    expect_error(&text, "4001: more than 4000 rules\n");
    for (int i = 0; i < SITE_REDIRECTS_PATTERNS_MAX; i++)
        buf_printf(&text, "/from/%d/* /to/%d\n", i, i);
    r = site_redirects_parse(buf_slice(&text), note_error, NULL);
    assert_non_null(r);
    expect(r, "/from/199/x", "", NO_FILE, "301 /to/199");
    site_redirects_free(r);
    buf_append_str(&text, "/one/* /more\n/two/* /more\n");
    expect_error(&text, "201: more than 200 rules with a star or a placeholder\n");
    buf_append_str(&text, "/a/* /");
    for (int i = 0; i <= SITE_TEMPLATE_USES_MAX; i++)
        buf_append_str(&text, ":splat");
    expect_error(&text, "1: placeholders are used more than 16 times\n");
    buf_append_str(&text, "/a /");
    for (int i = 0; i < SITE_REDIRECTS_LINE_BYTES_MAX; i++)
        buf_append_char(&text, 'x');
    expect_error(&text, "1: the line is longer than 2000 bytes\n");
    for (int i = 0; i <= SITE_REDIRECTS_BYTES_MAX; i++)
        buf_append_char(&text, '\n');
    expect_error(&text, "0: the file is longer than 1048576 bytes\n");
    buf_fini(&text);
}

static bool exists(void *ctx, struct slice path) {
    return slice_equal_str(path, "/index.html") || slice_equal_str(path, "/en/sample");
}

static const struct {
    const char *text;
    const char *want;
} loops[] = {
    {"/a /b\n/b /c\n", ""},
    {"/a /a\n", "1: redirects in a circle: /a -> /a\n"},
    {"/a /a?x=1#y\n", "1: redirects in a circle: /a -> /a\n"},
    {"/a /b\n/b /a 302\n",
     "1: redirects in a circle: /a -> /b -> /a\n2: redirects in a circle: /b -> /a -> /b\n"},
    {"/x /a\n/a /b\n/b /a\n", "1: redirects in a circle: /x -> /a -> /b -> /a\n"
                              "2: redirects in a circle: /a -> /b -> /a\n"
                              "3: redirects in a circle: /b -> /a -> /b\n"},
    {"/%61 /b\n/b /%61\n",
     "1: redirects in a circle: /a -> /b -> /a\n2: redirects in a circle: /b -> /a -> /b\n"},
    {"/a/* /b/:splat\n/b/* /a/:splat\n",
     "1: redirects in a circle: /a/sample -> /b/sample -> /a/sample\n"
     "2: redirects in a circle: /b/sample -> /a/sample -> /b/sample\n"},
    {"/old/* /old/new/:splat\n",
     "1: more than 10 redirects in a row: /old/sample -> /old/new/sample -> /old/new/new/sample -> "
     "/old/new/new/new/sample -> /old/new/new/new/new/sample -> /old/new/new/new/new/new/sample -> "
     "/old/new/new/new/new/new/new/sample -> /old/new/new/new/new/new/new/new/sample -> "
     "/old/new/new/new/new/new/new/new/new/sample -> "
     "/old/new/new/new/new/new/new/new/new/new/sample -> "
     "/old/new/new/new/new/new/new/new/new/new/new/sample\n"},
    /* a file ends the chain, unless the rule goes before it */
    {"/* /index.html 302\n", ""},
    {"/* /index.html 302!\n", "1: redirects in a circle: /sample -> /index.html -> /index.html\n"},
    {"/* /en/:splat\n", ""},
    /* so do rewrites, and other hosts */
    {"/a /b\n/b /a 200\n", ""},
    {"/* /index.html 200\n", ""},
    {"/a https://a.example/a\n", ""},
    /* a rule that another one hides */
    {"/a /b\n/a /a\n", ""},
    {"/1 /2\n/2 /3\n/3 /4\n/4 /5\n/5 /6\n/6 /7\n/7 /8\n/8 /9\n/9 /10\n/10 /11\n", ""},
    {"/1 /2\n/2 /3\n/3 /4\n/4 /5\n/5 /6\n/6 /7\n/7 /8\n/8 /9\n/9 /10\n/10 /11\n/11 /12\n",
     "1: more than 10 redirects in a row: /1 -> /2 -> /3 -> /4 -> /5 -> /6 -> /7 -> /8 -> /9 -> "
     "/10 "
     "-> /11\n"},
};

static void test_loops(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(loops); i++) {
        struct site_redirects *r = parse(loops[i].text);
        struct buf got = {0};
        size_t found = site_redirects_find_loops(r, exists, NULL, note_error, &got);
        if (!slice_equal_str(buf_slice(&got), loops[i].want))
            fail_msg("%s:\n%.*s", loops[i].text, (int)got.size, got.data);
        size_t lines = 0;
        for (size_t k = 0; k < got.size; k++)
            lines += got.data[k] == '\n';
        assert_int_equal(found, lines);
        assert_int_equal(site_redirects_find_loops(r, exists, NULL, NULL, NULL), found);
        buf_fini(&got);
        site_redirects_free(r);
    }
    struct site_redirects *r = parse("/* /index.html 302\n");
    assert_int_equal(site_redirects_find_loops(r, NULL, NULL, NULL, NULL), 1);
    site_redirects_free(r);
}

static void note_file(void *ctx, uint32_t line, struct slice path) {
    buf_printf(ctx, "%u: %.*s\n", line, (int)path.size, path.data);
}

static void test_files(void **state) {
    struct site_redirects *r = parse("/a /b\n/c /d%20e.html 200\n/f/* /:splat 200\n/* /404 404\n");
    struct buf got = {0};
    site_redirects_each_file(r, note_file, &got);
    assert_true(slice_equal_str(buf_slice(&got), "2: /d e.html\n4: /404\n"));
    buf_fini(&got);
    site_redirects_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),  cmocka_unit_test(test_order),
        cmocka_unit_test(test_stars),  cmocka_unit_test(test_open_redirects),
        cmocka_unit_test(test_errors), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_loops),  cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
