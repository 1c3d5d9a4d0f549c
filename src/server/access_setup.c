#include "server/access_setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/client_limits.h"
#include "net/sha256.h"

/* At most `max` bytes; false when there are more, or it cannot be read. */
static bool read_file(const char *option, const char *path, size_t max, struct buf *out) {
    FILE *f = fopen(path, "re");
    if (!f) {
        fprintf(stderr, "cotidal: --%s %s: %s\n", option, path, strerror(errno));
        return false;
    }
    size_t got = fread(buf_reserve(out, max + 1), 1, max + 1, f);
    bool ok = !ferror(f) && got <= max;
    if (ok)
        buf_commit(out, got);
    else
        fprintf(stderr, "cotidal: --%s %s: cannot be read, or has more than %zu bytes\n", option,
                path, max);
    fclose(f);
    return ok;
}

static bool take_admin(struct access_setup *a, const char *path) {
    struct buf text = {0};
    if (!*path)
        return true;
    if (!read_file("admin-token-file", path, ACCESS_TEXT_BYTES + 64, &text)) {
        buf_fini(&text);
        return false;
    }
    while (text.size > 0 && memchr(" \r\n", text.data[text.size - 1], 3))
        text.size--;
    bool ok = access_text_ok(buf_slice(&text));
    if (ok)
        sha256_of(buf_slice(&text), a->options.admin);
    else
        fprintf(stderr,
                "cotidal: --admin-token-file %s: no token is in it; make one: "
                "cotidal token new > %s\n",
                path, path);
    a->options.has_admin = ok;
    explicit_bzero(text.data, text.size);
    buf_fini(&text);
    return ok;
}

static bool take_site(struct access_setup *a, const char *path) {
    struct buf text = {0};
    char error[SITE_ACCESS_ERROR_BYTES];
    if (!*path)
        return true;
    bool ok = read_file("anonymous-access", path, SITE_ACCESS_BYTES_MAX, &text);
    if (ok && !site_access_parse(buf_slice(&text), &a->site, error)) {
        fprintf(stderr, "cotidal: --anonymous-access %s: %s\n", path, error);
        ok = false;
    }
    buf_fini(&text);
    if (!ok)
        return false;
    a->options.site = &a->site;
    a->options.site_limits = client_limits_of_rules(&a->site);
    return true;
}

/* As browsers send it: scheme, host, perhaps a port; no path (RFC 6454 section 6.2). */
static bool origin_ok(const char *origin) {
    const char *host = strstr(origin, "://");
    return strcmp(origin, "*") == 0 ||
           (host && host > origin && host[3] && !strpbrk(host + 3, "/?#@ *"));
}

static bool take_cors(struct access_setup *a, const struct option_list *origins) {
    for (size_t i = 0; i < origins->count; i++) {
        if (origin_ok(origins->items[i]))
            continue;
        fprintf(stderr,
                "cotidal: --cors-origin %s: an origin is like https://shop.example or "
                "http://localhost:3000\n",
                origins->items[i]);
        return false;
    }
    a->options.cors = origins->items;
    a->options.cors_count = origins->count;
    return true;
}

bool access_setup_init(struct access_setup *a, const struct server_options *o) {
    a->options.require = o->require_auth;
    a->options.on = o->auth || o->require_auth;
    a->options.insecure = o->insecure;
    return take_admin(a, o->admin_token_file) && take_site(a, o->anonymous_access) &&
           take_cors(a, &o->cors_origin);
}

void access_setup_fini(struct access_setup *a) {
    for (size_t i = 0; i < a->site.rule_count; i++)
        client_limits_free(a->options.site_limits[i]);
    free(a->options.site_limits);
    site_access_fini(&a->site);
}
