#include "proto/site_path.h"

#include "proto/http_list.h"
#include "proto/url.h"

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_control(uint8_t c) {
    return c < ' ' || c == 0x7F;
}

/* Nothing to decode, no slash before a slash or a dot: what is left to look at is nothing. */
static bool is_plain(struct slice raw) {
    if (raw.size == 0 || raw.data[0] != '/' || raw.size > SITE_PATH_BYTES_MAX)
        return false;
    uint8_t previous = 0;
    for (size_t i = 0; i < raw.size; i++) {
        uint8_t c = raw.data[i];
        if (is_control(c) || c == '%' || (previous == '/' && (c == '/' || c == '.')))
            return false;
        previous = c;
    }
    return true;
}

/* Looks at the segments of a decoded path that begins with "/". */
static enum site_path_result check_segments(struct slice path, const char **ret_reason) {
    for (size_t at = 0; at < path.size;) {
        size_t start = at + 1;
        for (at = start; at < path.size && path.data[at] != '/';)
            at++;
        struct slice segment = slice_of(path.data + start, at - start);
        if (segment.size == 0 || segment.data[0] != '.')
            continue;
        if (slice_equal_str(segment, ".") || slice_equal_str(segment, "..")) {
            *ret_reason = "has a segment \".\" or \"..\"";
            return SITE_PATH_BAD;
        }
        if (start == 1 && slice_equal_str(segment, ".well-known"))
            continue;
        *ret_reason = "is hidden: a name in it begins with a dot";
        return SITE_PATH_NONE;
    }
    return SITE_PATH_OK;
}

enum site_path_result site_path_normalise(struct slice raw, uint8_t scratch[SITE_PATH_BUFFER_BYTES],
                                          struct slice *ret_path) {
    if (is_plain(raw)) {
        *ret_path = raw;
        return SITE_PATH_OK;
    }
    if (raw.size == 0 || raw.data[0] != '/')
        return SITE_PATH_BAD;
    size_t n = 0;
    for (size_t i = 0; i < raw.size; i++) {
        uint8_t c = raw.data[i];
        if (c == '%') {
            int high = raw.size - i >= 3 ? hex_value(raw.data[i + 1]) : -1;
            int low = raw.size - i >= 3 ? hex_value(raw.data[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0))
                return SITE_PATH_BAD;
            c = (uint8_t)(high << 4 | low);
            i += 2;
            if (c == '/')
                return SITE_PATH_NONE;
        } else if (c == '/' && n > 0 && scratch[n - 1] == '/') {
            continue;
        }
        if (c == 0)
            return SITE_PATH_BAD;
        if (is_control(c) || n == SITE_PATH_BYTES_MAX)
            return SITE_PATH_NONE;
        scratch[n++] = c;
    }
    const char *reason;
    enum site_path_result result = check_segments(slice_of(scratch, n), &reason);
    if (result == SITE_PATH_OK)
        *ret_path = slice_of(scratch, n);
    return result;
}

bool site_path_is_servable(struct slice path, const char **ret_reason) {
    const char *reason = NULL;
    if (path.size == 0 || path.data[0] != '/')
        reason = "does not begin with a slash";
    else if (path.size > SITE_PATH_BYTES_MAX)
        reason = "is longer than 1024 bytes";
    else if (check_segments(path, &reason) == SITE_PATH_OK)
        for (size_t i = 0; i < path.size && !reason; i++) {
            if (is_control(path.data[i]))
                reason = "has a control character";
            else if (i > 0 && path.data[i] == '/' && path.data[i - 1] == '/')
                reason = "has two slashes in a row";
        }
    if (reason && ret_reason)
        *ret_reason = reason;
    return reason == NULL;
}

void site_path_put_url(struct slice path, struct slice query, struct buf *out) {
    while (path.size > 0 && path.data[0] == '/') {
        path.data++;
        path.size--;
    }
    buf_append_char(out, '/');
    url_encode(out, path, "/!$&'()*+,;=:@");
    if (query.size > 0) {
        buf_append_char(out, '?');
        url_put_query(out, query);
    }
}

static struct slice join(uint8_t buffer[SITE_PATH_BUFFER_BYTES], struct slice path,
                         const char *end) {
    struct slice tail = slice_str(end);
    CHECK(path.size + tail.size <= SITE_PATH_BUFFER_BYTES);
    memcpy(buffer, path.data, path.size);
    memcpy(buffer + path.size, tail.data, tail.size);
    return slice_of(buffer, path.size + tail.size);
}

enum site_resolution site_path_resolve(struct slice path, site_exists_fn exists, void *ctx,
                                       uint8_t buffer[SITE_PATH_BUFFER_BYTES],
                                       struct slice *ret_path) {
    CHECK(path.size > 0);
    CHECK(path.size <= SITE_PATH_BYTES_MAX);
    CHECK(path.data[0] == '/');
    if (path.data[path.size - 1] == '/') {
        struct slice page = join(buffer, path, "index.html");
        if (exists(ctx, page)) {
            *ret_path = page;
            return SITE_FILE;
        }
        struct slice bare = slice_of(path.data, path.size - 1);
        if (bare.size == 0 || !exists(ctx, join(buffer, bare, ".html")))
            return SITE_NOT_FOUND;
        *ret_path = bare;
        return SITE_MOVED;
    }
    if (exists(ctx, path)) {
        *ret_path = path;
        return SITE_FILE;
    }
    struct slice page = join(buffer, path, ".html");
    if (exists(ctx, page)) {
        *ret_path = page;
        return SITE_FILE;
    }
    if (!exists(ctx, join(buffer, path, "/index.html")))
        return SITE_NOT_FOUND;
    *ret_path = slice_of(buffer, path.size + 1);
    return SITE_MOVED;
}

static bool ends_with(struct slice s, const char *end) {
    size_t n = strlen(end);
    return s.size >= n && memcmp(s.data + s.size - n, end, n) == 0;
}

void site_path_each_alias(struct slice file,
                          void (*fn)(void *ctx, struct slice path, int rank, struct slice to),
                          void *ctx) {
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    CHECK(file.size > 0);
    CHECK(file.size <= SITE_PATH_BYTES_MAX);
    fn(ctx, file, SITE_ALIAS_EXACT, file);
    if (ends_with(file, "/index.html")) {
        struct slice folder = slice_of(file.data, file.size - strlen("index.html"));
        fn(ctx, folder, SITE_ALIAS_EXACT, file);
        if (folder.size > 1)
            fn(ctx, slice_of(file.data, folder.size - 1), SITE_ALIAS_MOVED, folder);
    }
    if (ends_with(file, ".html") && !ends_with(file, "/.html")) {
        struct slice bare = slice_of(file.data, file.size - strlen(".html"));
        fn(ctx, bare, SITE_ALIAS_HTML, file);
        fn(ctx, join(buffer, bare, "/"), SITE_ALIAS_MOVED, bare);
    }
}

bool site_path_find_404(struct slice path, site_exists_fn exists, void *ctx,
                        uint8_t buffer[SITE_PATH_BUFFER_BYTES], struct slice *ret_path) {
    CHECK(path.size <= SITE_PATH_BYTES_MAX);
    size_t n = path.size;
    for (;;) {
        while (n > 0 && path.data[n - 1] != '/')
            n--;
        if (n == 0)
            return false;
        struct slice page = join(buffer, slice_of(path.data, n), "404.html");
        if (exists(ctx, page)) {
            *ret_path = page;
            return true;
        }
        n--;
    }
}

bool site_path_is_navigation(struct slice path, const struct slice *accept) {
    for (size_t i = path.size; i > 0 && path.data[i - 1] != '/'; i--)
        if (path.data[i - 1] == '.')
            return false;
    if (!accept)
        return false;
    struct slice list = *accept, type;
    int weight;
    while (http_list_next(&list, &type, &weight))
        if (weight > 0 && (slice_equal_nocase(type, "text/html") ||
                           slice_equal_nocase(type, "application/xhtml+xml")))
            return true;
    return false;
}
