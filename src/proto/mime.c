#include "proto/mime.h"

#include "base/check.h"

enum { EXTENSION_MAX = 11 }; /* of the table's */

static const struct {
    char extension[EXTENSION_MAX + 1];
    const char *type;
} table[] = {
#define MIME(extension, type) {extension, type},
#include "proto/mime_table.h"
#undef MIME
};

struct slice mime_extension(struct slice path) {
    for (size_t i = path.size; i > 0 && path.data[i - 1] != '/'; i--)
        if (path.data[i - 1] == '.') {
            bool named = i >= 2 && path.data[i - 2] != '/';
            return named ? slice_of(path.data + i, path.size - i) : slice_of(path.data, 0);
        }
    return slice_of(path.data, 0);
}

const char *mime_type(struct slice path) {
    struct slice extension = mime_extension(path);
    char key[EXTENSION_MAX + 1] = {0};
    size_t low = 0, high = extension.size <= EXTENSION_MAX ? ARRAY_COUNT(table) : 0;
    for (size_t i = 0; high > 0 && i < extension.size; i++) {
        uint8_t c = extension.data[i];
        key[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
        if (c == 0) /* it would end the key before its time */
            high = 0;
    }
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(key, table[middle].extension);
        if (order == 0)
            return table[middle].type;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return "application/octet-stream";
}

static bool begins_with(const char *type, const char *prefix) {
    return strncasecmp(type, prefix, strlen(prefix)) == 0;
}

static bool is_type(const char *type, const char *name) {
    size_t n = strlen(name);
    return begins_with(type, name) && (type[n] == 0 || type[n] == ';' || type[n] == ' ');
}

bool mime_is_compressible(const char *type) {
    static const char *const types[] = {
        "application/json",
        "application/xml",
        "application/javascript",
        "application/xml-dtd",
        "application/json5",
        "application/x-ndjson",
        "application/yaml",
        "application/toml",
        "application/sql",
        "application/graphql",
        "application/rtf",
        "application/wasm",
        "application/n-triples",
        "application/x-sh",
        "application/x-ruby",
        "application/x-subrip",
        "application/postscript",
        "application/vnd.apple.mpegurl",
        "application/x-tar",
        "application/vnd.ms-fontobject",
        "application/vnd.sqlite3",
        "font/ttf",
        "font/otf",
        "font/collection",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "image/x-tga",
        "model/gltf-binary",
        "model/obj",
        "model/mtl",
        "model/stl",
    };
    if (begins_with(type, "text/"))
        return true;
    for (size_t i = 0; i < ARRAY_COUNT(types); i++)
        if (is_type(type, types[i]))
            return true;
    const char *end = strpbrk(type, "; ");
    size_t n = end ? (size_t)(end - type) : strlen(type);
    return (n > 4 && strncasecmp(type + n - 4, "+xml", 4) == 0) ||
           (n > 5 && strncasecmp(type + n - 5, "+json", 5) == 0);
}

bool mime_is_html(const char *type) {
    return is_type(type, "text/html") || is_type(type, "application/xhtml+xml");
}
