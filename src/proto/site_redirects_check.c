/* What can be said about redirects before they are in use. */
#include "proto/site_path.h"
#include "proto/site_redirects_impl.h"
#include "proto/url.h"

struct walk {
    const struct site_redirects *redirects;
    bool (*exists)(void *ctx, struct slice path);
    void *ctx;
    struct buf paths[SITE_REDIRECTS_HOPS_MAX + 1];
    uint32_t count;
};

static bool is_redirect(const struct site_redirect *rule) {
    return rule->status >= 300 && rule->status < 400;
}

/* The path that a redirect of `from` leads to, as a browser would ask for it. False: to another
 * host, or to nothing. */
static bool next_path(const struct site_redirect *rule, const struct site_captures *captures,
                      struct buf *ret_path) {
    struct buf url = {0};
    uint8_t scratch[SITE_PATH_BUFFER_BYTES];
    struct slice path;
    if (rule->elsewhere)
        return false;
    site_redirect_put_location(rule, captures, slice_of(NULL, 0), &url);
    size_t n = 0;
    while (n < url.size && url.data[n] != '?' && url.data[n] != '#')
        n++;
    bool good = site_path_normalise(slice_of(url.data, n), scratch, &path) == SITE_PATH_OK;
    if (good)
        buf_append_slice(ret_path, path);
    buf_fini(&url);
    return good;
}

enum end { ENDS, COMES_BACK, TOO_LONG };

static enum end follow(struct walk *w) {
    for (w->count = 1;; w->count++) {
        struct slice path = buf_slice(&w->paths[w->count - 1]);
        struct site_captures captures;
        bool exists = w->exists && w->exists(w->ctx, path);
        const struct site_redirect *rule =
            site_redirects_match(w->redirects, path, exists, true, &captures);
        if (!rule || !is_redirect(rule))
            return ENDS;
        if (w->count > SITE_REDIRECTS_HOPS_MAX)
            return TOO_LONG;
        struct buf *next = &w->paths[w->count];
        buf_reset(next);
        if (!next_path(rule, &captures, next))
            return ENDS;
        for (uint32_t i = 0; i < w->count; i++)
            if (slice_equal(buf_slice(&w->paths[i]), buf_slice(next))) {
                w->count++;
                return COMES_BACK;
            }
    }
}

static void report(const struct walk *w, enum end end, uint32_t line, site_error_fn fn, void *ctx) {
    struct buf text = {0};
    buf_append_str(&text, end == COMES_BACK ? "redirects in a circle: "
                                            : "more than 10 redirects in a row: ");
    for (uint32_t i = 0; i < w->count; i++) {
        struct slice path = buf_slice(&w->paths[i]);
        if (i > 0)
            buf_append_str(&text, " -> ");
        buf_append_slice(&text, path.size > 80 ? slice_of(path.data, 80) : path);
    }
    buf_append_u8(&text, 0);
    if (fn)
        fn(ctx, line, (const char *)text.data);
    buf_fini(&text);
}

size_t site_redirects_find_loops(const struct site_redirects *r,
                                 bool (*exists)(void *ctx, struct slice path), void *exists_ctx,
                                 site_error_fn fn, void *ctx) {
    struct walk w = {.redirects = r, .exists = exists, .ctx = exists_ctx};
    size_t found = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct site_redirect *rule = &r->rules[i];
        struct site_captures captures;
        if (!is_redirect(rule) || rule->elsewhere)
            continue;
        buf_reset(&w.paths[0]);
        site_pattern_put_sample(&rule->from, slice_str("sample"), &w.paths[0]);
        struct slice start = buf_slice(&w.paths[0]);
        if (!site_path_is_servable(start, NULL)) /* nobody can ask for it */
            continue;
        bool there = exists && exists(exists_ctx, start);
        /* Only what begins with this rule, so that each circle is told of once a rule. */
        if (site_redirects_match(r, start, there, true, &captures) != rule)
            continue;
        enum end end = follow(&w);
        if (end == ENDS)
            continue;
        report(&w, end, rule->line, fn, ctx);
        found++;
    }
    for (size_t i = 0; i < ARRAY_COUNT(w.paths); i++)
        buf_fini(&w.paths[i]);
    return found;
}

void site_redirects_each_file(const struct site_redirects *r,
                              void (*fn)(void *ctx, uint32_t line, struct slice path), void *ctx) {
    struct buf path = {0};
    for (uint32_t i = 0; i < r->count; i++) {
        const struct site_redirect *rule = &r->rules[i];
        struct site_captures none;
        if (is_redirect(rule) || rule->to.use_count > 0)
            continue;
        buf_reset(&path);
        if (site_redirect_put_path(rule, &none, &path))
            fn(ctx, rule->line, buf_slice(&path));
    }
    buf_fini(&path);
}
