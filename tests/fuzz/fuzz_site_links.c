/* A page and a style sheet of any bytes: links have their place, and lead to what a site can have.
 */
#include <stdlib.h>

#include "proto/site_links.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint32_t line, lines;
};

static void check_link(void *ctx, const struct site_link *link) {
    static const char *const pages[] = {"/", "/a/b/c.html", "/x y/"};
    struct seen *seen = ctx;
    CHECK(link->url.size > 0);
    CHECK(link->url.size <= SITE_LINK_BYTES_MAX);
    CHECK(link->line >= seen->line);
    CHECK(link->line <= seen->lines);
    seen->line = link->line;
    for (size_t i = 0; i < ARRAY_COUNT(pages); i++) {
        uint8_t buffer[SITE_PATH_BUFFER_BYTES];
        struct slice path;
        if (site_link_resolve(slice_str(pages[i]), link->url, buffer, &path) == SITE_LINK_INTERNAL)
            CHECK(site_path_is_servable(path, NULL));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = xmemdup(data, size);
    struct seen html = {1, 1}, css = {1, 1};
    for (size_t i = 0; i < size; i++)
        html.lines += data[i] == '\n';
    css.lines = html.lines;
    site_links_html(slice_of(copy, size), check_link, &html);
    site_links_css(slice_of(copy, size), check_link, &css);
    free(copy);
    return 0;
}
