#include "gateway/http_routes.h"

#include <stdio.h>

enum { ALLOW_BYTES = 64 };

static const struct http_route routes[] = {
#define X(method, pattern, needs, body, access, handler, help)                                     \
    {HTTP_##method, pattern, needs, body, access, handler, help},
    HTTP_ROUTES(X)
#undef X
};

const struct http_route *http_routes_all(size_t *ret_count) {
    *ret_count = ARRAY_COUNT(routes);
    return routes;
}

static bool match(const char *pattern, struct slice path, struct slice *ret_rest) {
    const char *key = strstr(pattern, "{key}");
    if (!key) {
        *ret_rest = slice_of(NULL, 0);
        return slice_equal_str(path, pattern);
    }
    struct slice before = slice_of(pattern, (size_t)(key - pattern)), after = slice_str(key + 5);
    if (path.size <= before.size + after.size || !slice_starts_with(path, before) ||
        memcmp(path.data + path.size - after.size, after.data, after.size) != 0)
        return false;
    *ret_rest = slice_of(path.data + before.size, path.size - before.size - after.size);
    return true;
}

enum http_match http_route_find(enum http_method method, struct slice path,
                                const struct http_route **ret_route, struct slice *ret_rest,
                                char allow[ALLOW_BYTES]) {
    static const char *const names[] = {"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"};
    unsigned methods = 0;
    for (size_t i = 0; i < ARRAY_COUNT(routes); i++) {
        struct slice rest;
        if (!match(routes[i].pattern, path, &rest))
            continue;
        methods |= 1u << routes[i].method;
        if (routes[i].method == HTTP_GET)
            methods |= 1u << HTTP_HEAD;
        if (routes[i].method == method || (method == HTTP_HEAD && routes[i].method == HTTP_GET)) {
            *ret_route = &routes[i];
            *ret_rest = rest;
            return HTTP_FOUND;
        }
    }
    size_t at = 0; /* all of them together have 42 bytes */
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (methods & (1u << i))
            at += (size_t)snprintf(allow + at, ALLOW_BYTES - at, "%s, ", names[i]);
    snprintf(allow + at, ALLOW_BYTES - at, "OPTIONS");
    return methods ? HTTP_NO_METHOD : HTTP_NO_PATH;
}
