/* The other side of second_opinion.py: reads questions, one a line, and writes our answers.
 *
 *   html HEX             links of a page:          "LINE URL-IN-HEX" each, then "."
 *   css HEX              links of a style sheet:   the same
 *   link PAGE-HEX URL-HEX  where it leads:         the path in hex, "other" or "broken"
 *   date HEX             a date:                   seconds, or "-"
 */
#include <stdio.h>
#include <stdlib.h>

#include "proto/http_conditional.h"
#include "proto/site_links.h"

static void take_hex(const char *text, struct buf *out) {
    unsigned byte;
    buf_reset(out);
    for (; text && sscanf(text, "%2x", &byte) == 1; text += 2)
        buf_append_u8(out, (uint8_t)byte);
}

static void put_hex(struct slice s) {
    for (size_t i = 0; i < s.size; i++)
        printf("%02x", s.data[i]);
    putchar('\n');
}

static void put_link(void *ctx, const struct site_link *link) {
    printf("%u ", link->line);
    put_hex(link->url);
}

static void answer(const char *kind, struct slice a, struct slice b) {
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    struct slice path;
    uint64_t at;
    if (strcmp(kind, "html") == 0 || strcmp(kind, "css") == 0) {
        if (kind[0] == 'h')
            site_links_html(a, put_link, NULL);
        else
            site_links_css(a, put_link, NULL);
        puts(".");
    } else if (strcmp(kind, "link") == 0) {
        enum site_link_result result = site_link_resolve(a, b, buffer, &path);
        if (result == SITE_LINK_INTERNAL)
            put_hex(path);
        else
            puts(result == SITE_LINK_OTHER ? "other" : "broken");
    } else if (http_parse_date(a, 1700000000, &at)) {
        printf("%llu\n", (unsigned long long)at);
    } else {
        puts("-");
    }
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    struct buf a = {0}, b = {0};
    while (getline(&line, &room, stdin) > 0) {
        char *rest = NULL;
        const char *kind = strtok_r(line, " \n", &rest);
        if (!kind)
            continue;
        take_hex(strtok_r(NULL, " \n", &rest), &a);
        take_hex(strtok_r(NULL, " \n", &rest), &b);
        answer(kind, buf_slice(&a), buf_slice(&b));
    }
    free(line);
    buf_fini(&a);
    buf_fini(&b);
    return 0;
}
