/* A path, a NUL, a query, a NUL, and a _redirects file: refused with errors, or no path and no
 * query makes it lead where the file does not say. */
#include <stdlib.h>

#include "proto/site_path.h"
#include "proto/site_redirects.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count_error(void *ctx, uint32_t line, const char *text) {
    CHECK(strlen(text) > 0);
    ++*(int *)ctx;
}

static struct slice take_part(const uint8_t **data, size_t *size) {
    const uint8_t *nul = *size > 0 ? memchr(*data, 0, *size) : NULL;
    if (!nul)
        return slice_of(*data, 0);
    struct slice part = slice_of(*data, (size_t)(nul - *data));
    *data += part.size + 1;
    *size -= part.size + 1;
    return part;
}

/* "https://host:port" of a Location. */
static struct slice origin_of(struct slice url) {
    size_t n = 8;
    while (n < url.size && url.data[n] != '/' && url.data[n] != '?' && url.data[n] != '#')
        n++;
    return slice_of(url.data, n < url.size ? n : url.size);
}

static void check_location(const struct site_redirect *rule, const struct site_captures *captures,
                           struct slice query) {
    struct site_captures others;
    struct buf location = {0}, other = {0};
    for (int i = 0; i < SITE_PLACEHOLDERS_MAX; i++)
        others.values[i] = slice_str("other");
    site_redirect_put_location(rule, captures, query, &location);
    site_redirect_put_location(rule, &others, slice_of(NULL, 0), &other);
    for (size_t i = 0; i < location.size; i++) {
        CHECK(location.data[i] > ' ');
        CHECK(location.data[i] < 0x7F);
        CHECK(location.data[i] != '\\');
    }
    if (rule->elsewhere) {
        CHECK(slice_equal(origin_of(buf_slice(&location)), origin_of(buf_slice(&other))));
    } else {
        CHECK(location.data[0] == '/');
        CHECK(location.size == 1 || location.data[1] != '/');
    }
    buf_fini(&location);
    buf_fini(&other);
}

static void ask(const struct site_redirects *r, struct slice path, struct slice query) {
    for (int flags = 0; flags < 4; flags++) {
        struct site_captures captures;
        const struct site_redirect *rule =
            site_redirects_match(r, path, flags & 1, flags & 2, &captures);
        if (!rule)
            continue;
        CHECK(rule->forced || !(flags & 1));
        CHECK(!rule->single_page || flags & 2);
        if (rule->status >= 300 && rule->status < 400) {
            check_location(rule, &captures, query);
            continue;
        }
        struct buf to = {0};
        if (site_redirect_put_path(rule, &captures, &to))
            CHECK(site_path_is_servable(buf_slice(&to), NULL));
        else
            CHECK(to.size == 0);
        buf_fini(&to);
    }
}

static void check_file(void *ctx, uint32_t line, struct slice path) {
    CHECK(site_path_is_servable(path, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice path = take_part(&data, &size);
    struct slice query = take_part(&data, &size);
    uint8_t *copy = xmemdup(data, size);
    int errors = 0;
    struct site_redirects *r = site_redirects_parse(slice_of(copy, size), count_error, &errors);
    free(copy); /* nothing borrows from it */
    CHECK((r == NULL) == (errors > 0));
    if (!r)
        return 0;
    int told = 0;
    uint8_t scratch[SITE_PATH_BUFFER_BYTES];
    struct slice normal;
    ask(r, path, query);
    if (site_path_normalise(path, scratch, &normal) == SITE_PATH_OK)
        ask(r, normal, query);
    CHECK(site_redirects_find_loops(r, NULL, NULL, count_error, &told) == (size_t)told);
    site_redirects_each_file(r, check_file, NULL);
    site_redirects_free(r);
    return 0;
}
