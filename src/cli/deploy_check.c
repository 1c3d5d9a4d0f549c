#include <stdlib.h>
#include <string.h>

#include "cli/deploy.h"
#include "proto/mime.h"
#include "proto/site_access.h"
#include "proto/site_headers.h"
#include "proto/site_links.h"
#include "proto/site_redirects.h"

enum { PAGE_BYTES_MAX = 32 * 1024 * 1024 };

struct checking {
    const struct deploy_tree *tree;
    const struct site_redirects *redirects;
    const char *name; /* of the file of rules */
    size_t errors;
    size_t broken;
    /* of the file whose links are looked at */
    const struct deploy_file *file;
    struct buf base; /* where its links begin */
};

static void on_rule_error(void *ctx, uint32_t line, const char *text) {
    struct checking *c = ctx;
    fprintf(stderr, "%s:%u: %s\n", c->name, line, text);
    c->errors++;
}

static bool exists(void *ctx, struct slice path) {
    return deploy_tree_find(ctx, path) != NULL;
}

static bool answers(const struct checking *c, struct slice path) {
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    struct slice found;
    struct site_captures captures;
    if (site_path_resolve(path, exists, (void *)(uintptr_t)c->tree, buffer, &found) !=
        SITE_NOT_FOUND)
        return true;
    const struct site_redirect *rule =
        c->redirects ? site_redirects_match(c->redirects, path, false, true, &captures) : NULL;
    return rule && rule->status != 404;
}

static bool rule_exists(void *ctx, struct slice path) {
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    struct slice found;
    return site_path_resolve(path, exists, ctx, buffer, &found) != SITE_NOT_FOUND;
}

static void on_rule_file(void *ctx, uint32_t line, struct slice path) {
    struct checking *c = ctx;
    if (rule_exists((void *)(uintptr_t)c->tree, path))
        return;
    fprintf(stderr, "_redirects:%u: there is no file for %.*s\n", line, (int)path.size,
            (const char *)path.data);
    c->errors++;
}

static void on_link(void *ctx, const struct site_link *link) {
    struct checking *c = ctx;
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    struct slice path;
    enum site_link_result result = site_link_resolve(buf_slice(&c->base), link->url, buffer, &path);
    if (link->base && result == SITE_LINK_INTERNAL) {
        buf_reset(&c->base);
        buf_append_slice(&c->base, path);
        return;
    }
    if (link->base || result == SITE_LINK_OTHER ||
        (result == SITE_LINK_INTERNAL && answers(c, path)))
        return;
    printf("%s:%u: leads nowhere: %.*s\n", c->file->local, link->line, (int)link->url.size,
           (const char *)link->url.data);
    c->broken++;
}

static int check_links(struct checking *c) {
    struct buf text = {0};
    int code = CLI_OK;
    for (size_t i = 0; i < c->tree->count && code == CLI_OK; i++) {
        const struct deploy_file *f = &c->tree->files[i];
        const char *type = mime_type(slice_str(f->path));
        bool css = strncmp(type, "text/css", 8) == 0;
        if ((!css && !mime_is_html(type)) || f->size > PAGE_BYTES_MAX)
            continue;
        c->file = f;
        buf_reset(&c->base);
        buf_append_str(&c->base, f->path);
        if (!deploy_read_file(f->local, 0, (size_t)f->size, &text))
            code = CLI_LOCAL;
        else if (css)
            site_links_css(buf_slice(&text), on_link, c);
        else
            site_links_html(buf_slice(&text), on_link, c);
    }
    buf_fini(&text);
    buf_fini(&c->base);
    return code;
}

/* 1: it is wrong, and was told. */
static unsigned check_access(struct slice text) {
    struct site_access *access = xcalloc(1, sizeof *access);
    char error[SITE_ACCESS_ERROR_BYTES];
    bool ok = site_access_parse(text, access, error);
    if (ok)
        site_access_fini(access);
    else
        fprintf(stderr, "_access: %s\n", error);
    free(access);
    return !ok;
}

int deploy_check(const struct deploy_tree *t, bool links, size_t *ret_broken) {
    struct checking c = {.tree = t, .name = "_headers"};
    struct site_headers *headers = site_headers_parse(buf_slice(&t->headers), on_rule_error, &c);
    site_headers_free(headers);
    c.name = "_redirects";
    struct site_redirects *redirects =
        site_redirects_parse(buf_slice(&t->redirects), on_rule_error, &c);
    c.redirects = redirects;
    if (redirects) {
        site_redirects_each_file(redirects, on_rule_file, &c);
        (void)site_redirects_find_loops(redirects, rule_exists, (void *)(uintptr_t)t, on_rule_error,
                                        &c);
    }
    int code = CLI_OK;
    c.errors += check_access(buf_slice(&t->access));
    if (c.errors > 0) {
        fprintf(stderr, "cotidal: the rules of the site are wrong; nothing was sent\n");
        code = CLI_NO;
    }
    if (links) {
        int checked = check_links(&c);
        code = code == CLI_OK ? checked : code;
    }
    site_redirects_free(redirects);
    *ret_broken = c.broken;
    return code;
}
