/* Links in pages and style sheets, and where they lead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/site_links.h"

static void note(void *ctx, const struct site_link *link) {
    buf_printf(ctx, "%u %s%.*s\n", link->line, link->base ? "base " : "", (int)link->url.size,
               link->url.data);
}

static const struct {
    const char *text;
    const char *want;
} pages[] = {
    {"<a href=\"/x\">", "1 /x\n"},
    {"<a href='/x'>", "1 /x\n"},
    {"<a href=/x>", "1 /x\n"},
    {"<a href=/x/>", "1 /x/\n"},
    {"<a href = \"/x\" class=y>", "1 /x\n"},
    {"<A HREF=\"/x\">", "1 /x\n"},
    {"<a\nclass=\"a\nb\"\n\nhref=\"/x\">", "5 /x\n"},
    {"<a href=\" /x\n\">", "1 /x\n"},
    {"<a href=\"\">", ""},
    {"<a href>", ""},
    {"<a href=>", ""},
    {"<a href", ""},
    {"<a href=", ""},
    {"<a href=\"/x", ""},
    {"<a href=/x", "1 /x\n"},
    {"<a x=\"<a href='/no'>\" href=/y>", "1 /y\n"},
    {"<a href=\"/x?a=1&amp;b=2&lt;&#65;&#x42;&nbsp;&\">", "1 /x?a=1&b=2<AB&nbsp;&\n"},
    {"<a href=\"&#xfc;&#0;&#x110000;&#99999999;&#;&#x;\">",
     "1 \xc3\xbc\xef\xbf\xbd\xef\xbf\xbd&#99999999;&#;&#x;\n"},
    {"<img src=a.png srcset=\"a.png 1x, b.png 2x,c.png\">", "1 a.png\n1 a.png\n1 b.png\n1 c.png\n"},
    {"<img srcset=\"data:image/png;base64,AA,BB 1x, b.png 100w (a, b) 2x, c.png\">",
     "1 data:image/png;base64,AA,BB\n1 b.png\n1 c.png\n"},
    {"<img srcset=\",a.png, b.png,\">", "1 a.png\n1 b.png\n"},
    {"<link imagesrcset=\"a 1x\">", "1 a\n"},
    {"<video poster=p.jpg><source src=v.mp4></video><object data=o.svg><div data=no>",
     "1 p.jpg\n1 v.mp4\n1 o.svg\n"},
    {"<svg><use xlink:href=\"/i.svg#a\"/><use href=\"/i.svg#b\"/></svg>",
     "1 /i.svg#a\n1 /i.svg#b\n"},
    {"<base href=\"/app/\">", "1 base /app/\n"},
    {"<!-- <a href=no> -->\n<a href=yes>", "2 yes\n"},
    {"<!--><a href=yes>", "1 yes\n"},
    {"<!-- <a href=no>", ""},
    {"<!DOCTYPE html><?xml?></a href=no><a href=yes>", "1 yes\n"},
    {"<script>'<a href=no>'</script><a href=yes>", "1 yes\n"},
    {"<script src=a.js></script >\n<a href=yes>", "1 a.js\n2 yes\n"},
    {"<SCRIPT></Script><a href=yes>", "1 yes\n"},
    {"<script>\n'<a href=no>'", ""},
    {"<title><a href=no></title><textarea><a href=no></textarea>", ""},
    {"<style>\nbody { background: url(/a.png) }\n</style><a href=yes>", "2 /a.png\n3 yes\n"},
    {"\n<div style=\"background: url(&quot;a.png&quot;)\">", "2 a.png\n"},
    {"a < b <3 <a href=yes>", "1 yes\n"},
    {"<<a href=yes>", "1 yes\n"},
    {"<a =x href=yes>", "1 yes\n"},
    {"<a/href=yes>", "1 yes\n"},
    {"<a href=1 / href=2>", "1 1\n1 2\n"},
};

static const struct {
    const char *text;
    const char *want;
} sheets[] = {
    {"a { background: url(a.png) }", "1 a.png\n"},
    {"a { background: url( \"a.png\" ) }", "1 a.png\n"},
    {"a { background: URL('a.png') }", "1 a.png\n"},
    {"a\n{\nsrc: url(a.woff2) format('woff2'),\nurl(b.woff) }", "3 a.woff2\n4 b.woff\n"},
    {"@import 'a.css';\n@import url(b.css);@IMPORT\t\"c.css\" screen;",
     "1 a.css\n2 b.css\n2 c.css\n"},
    {"@import /* why */ 'a.css';", "1 a.css\n"},
    {"/* url(no) */ a { b: url(yes) }", "1 yes\n"},
    {"/* url(no)", ""},
    {"/*", ""},
    {"/*/ url(no)", ""},
    {"a { content: 'url(no)' } b { c: url(yes) }", "1 yes\n"},
    {"a { content: \"\\\"url(no)\" }", ""},
    {"a { b: xurl(no) -url(no) }", ""},
    {"a { b: url(a\\20 b.png) url(\\(c\\)) }", "1 a b.png\n1 (c)\n"},
    {"a { b: url('\\66 oo') url(\"a\\\nb\") }", "1 foo\n1 ab\n"},
    {"a { b: url(", ""},
    {"a { b: url(x", "1 x\n"},
    {"a { b: url()", ""},
    {"a { b: url(#grad) url(data:x,y) }", "1 #grad\n1 data:x,y\n"},
    {"'unended\n url(yes)", "2 yes\n"},
    {"\\", ""},
    {"", ""},
};

static void check(bool css, const char *text, const char *want) {
    struct buf got = {0};
    size_t size = strlen(text);
    uint8_t *copy = xmemdup(text, size);
    if (css)
        site_links_css(slice_of(copy, size), note, &got);
    else
        site_links_html(slice_of(copy, size), note, &got);
    free(copy);
    if (!slice_equal_str(buf_slice(&got), want))
        fail_msg("%s:\n%.*s", text, (int)got.size, got.data);
    /* Cut off anywhere: no byte behind the end is looked at (the sanitizers see that). */
    for (size_t n = 0; n < size; n++) {
        copy = xmemdup(text, n);
        if (css)
            site_links_css(slice_of(copy, n), note, &got);
        else
            site_links_html(slice_of(copy, n), note, &got);
        free(copy);
    }
    buf_fini(&got);
}

static void test_pages(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(pages); i++)
        check(false, pages[i].text, pages[i].want);
}

static void test_sheets(void **state) {
    for (size_t i = 0; i < ARRAY_COUNT(sheets); i++)
        check(true, sheets[i].text, sheets[i].want);
}

static void test_long_links(void **state) {
    struct buf text = {0}, got = {0};
    for (int more = 0; more < 2; more++) {
        buf_reset(&text);
        buf_reset(&got);
        buf_append_str(&text, "<a href=");
        for (int i = 0; i < SITE_LINK_BYTES_MAX + more; i++)
            buf_append_char(&text, 'x');
        buf_append_char(&text, '>');
        site_links_html(buf_slice(&text), note, &got);
        assert_int_equal(got.size, more ? 0 : SITE_LINK_BYTES_MAX + 3);
    }
    buf_fini(&text);
    buf_fini(&got);
}

static const struct {
    const char *page;
    const char *url;
    int result;
    const char *want;
} links[] = {
    {"/a/b.html", "c.html", SITE_LINK_INTERNAL, "/a/c.html"},
    {"/a/b.html", "./c.html", SITE_LINK_INTERNAL, "/a/c.html"},
    {"/a/b.html", "../c.html", SITE_LINK_INTERNAL, "/c.html"},
    {"/a/b.html", "../../c.html", SITE_LINK_INTERNAL, "/c.html"},
    {"/a/b.html", "/c.html", SITE_LINK_INTERNAL, "/c.html"},
    {"/a/b.html", "c/d/", SITE_LINK_INTERNAL, "/a/c/d/"},
    {"/a/b.html", "c/./d/../e", SITE_LINK_INTERNAL, "/a/c/e"},
    {"/a/b.html", ".", SITE_LINK_INTERNAL, "/a/"},
    {"/a/b.html", "..", SITE_LINK_INTERNAL, "/"},
    {"/a/b.html", "c/..", SITE_LINK_INTERNAL, "/a/"},
    {"/a/b.html", "/", SITE_LINK_INTERNAL, "/"},
    {"/a/b.html", "/c//d", SITE_LINK_INTERNAL, "/c/d"},
    {"/a/b.html", "c.html?x=1#y", SITE_LINK_INTERNAL, "/a/c.html"},
    {"/a/b.html", "c%20d.html", SITE_LINK_INTERNAL, "/a/c d.html"},
    {"/a/b.html", "%2e%2e/c", SITE_LINK_INTERNAL, "/c"},
    {"/a/b.html", "\xc3\xbc", SITE_LINK_INTERNAL, "/a/\xc3\xbc"},
    {"/a/b.html", "a/b:c", SITE_LINK_INTERNAL, "/a/a/b:c"},
    {"/", "c", SITE_LINK_INTERNAL, "/c"},
    {"/app/", "c", SITE_LINK_INTERNAL, "/app/c"},
    {"/a/b.html", "/.well-known/x", SITE_LINK_INTERNAL, "/.well-known/x"},
    {"/a/b.html", "", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "#x", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "?x", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "https://a.example/", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "//a.example/", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "mailto:a@b", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "data:x", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "javascript:void(0)", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "/v1/session", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "../_/status", SITE_LINK_OTHER, NULL},
    {"/a/b.html", "c%2Fd", SITE_LINK_BROKEN, NULL},
    {"/a/b.html", "c%", SITE_LINK_BROKEN, NULL},
    {"/a/b.html", "c%00", SITE_LINK_BROKEN, NULL},
    {"/a/b.html", ".git/x", SITE_LINK_BROKEN, NULL},
};

static void test_resolve(void **state) {
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    for (size_t i = 0; i < ARRAY_COUNT(links); i++) {
        struct slice path = slice_str("none");
        int result = (int)site_link_resolve(slice_str(links[i].page), slice_str(links[i].url),
                                            buffer, &path);
        if (result != links[i].result ||
            !slice_equal_str(path, links[i].want ? links[i].want : "none"))
            fail_msg("%s in %s: %d %.*s", links[i].url, links[i].page, result, (int)path.size,
                     path.data);
    }
    char url[SITE_PATH_BYTES_MAX + 3];
    struct slice path;
    memset(url, 'a', sizeof url);
    url[SITE_PATH_BYTES_MAX - 1] = 0;
    assert_int_equal(site_link_resolve(slice_str("/"), slice_str(url), buffer, &path),
                     SITE_LINK_INTERNAL);
    url[SITE_PATH_BYTES_MAX - 1] = '/';
    url[SITE_PATH_BYTES_MAX] = 0;
    assert_int_equal(site_link_resolve(slice_str("/"), slice_str(url), buffer, &path),
                     SITE_LINK_BROKEN);
    url[SITE_PATH_BYTES_MAX - 1] = 'a';
    assert_int_equal(site_link_resolve(slice_str("/"), slice_str(url), buffer, &path),
                     SITE_LINK_BROKEN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_sheets),
        cmocka_unit_test(test_long_links),
        cmocka_unit_test(test_resolve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
