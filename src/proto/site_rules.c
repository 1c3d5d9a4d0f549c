#include "proto/site_rules.h"

#include <stdlib.h>

#include "proto/http_list.h"

uint8_t *site_rules_begin(struct site_rules *r, struct slice text, size_t bytes_max,
                          size_t line_bytes_max, site_error_fn fn, void *ctx) {
    size_t size = text.size <= bytes_max ? text.size : 0;
    uint8_t *copy = xmalloc(size + 1);
    if (size > 0)
        memcpy(copy, text.data, size);
    *r = (struct site_rules){
        .rest = slice_of(copy, size), .line_bytes_max = line_bytes_max, .fn = fn, .ctx = ctx};
    if (text.size > bytes_max)
        site_rules_error(r, "the file is longer than %zu bytes", bytes_max);
    if (slice_starts_with(r->rest, slice_str("\xEF\xBB\xBF"))) {
        r->rest.data += 3;
        r->rest.size -= 3;
    }
    return copy;
}

static void report(struct site_rules *r, uint32_t line, const char *fmt, va_list ap) {
    r->error_count++;
    if (!r->fn || r->error_count > SITE_ERRORS_MAX)
        return;
    struct buf text = {0};
    if (r->error_count == SITE_ERRORS_MAX)
        buf_append_str(&text, "too many errors; the rest of the file was not looked at");
    else
        buf_vprintf(&text, fmt, ap);
    buf_append_u8(&text, 0);
    r->fn(r->ctx, line, (const char *)text.data);
    buf_fini(&text);
}

void site_rules_error(struct site_rules *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    report(r, r->line, fmt, ap);
    va_end(ap);
}

void site_rules_error_at(struct site_rules *r, uint32_t line, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    report(r, line, fmt, ap);
    va_end(ap);
}

static bool has_control(struct slice s) {
    for (size_t i = 0; i < s.size; i++)
        if ((s.data[i] < ' ' && s.data[i] != '\t') || s.data[i] == 0x7F)
            return true;
    return false;
}

bool site_rules_next(struct site_rules *r, struct slice *ret_line) {
    while (r->rest.size > 0 && r->error_count < SITE_ERRORS_MAX) {
        const uint8_t *end = memchr(r->rest.data, '\n', r->rest.size);
        size_t n = end ? (size_t)(end - r->rest.data) : r->rest.size;
        struct slice line = slice_of(r->rest.data, n);
        r->rest.data += end ? n + 1 : n;
        r->rest.size -= end ? n + 1 : n;
        r->line++;
        if (line.size > 0 && line.data[line.size - 1] == '\r')
            line.size--;
        if (line.size > r->line_bytes_max) {
            site_rules_error(r, "the line is longer than %zu bytes", r->line_bytes_max);
            continue;
        }
        line = http_trim(line);
        if (line.size == 0 || line.data[0] == '#')
            continue;
        if (has_control(line)) {
            site_rules_error(r, "the line has a control character in it");
            continue;
        }
        *ret_line = line;
        return true;
    }
    return false;
}

struct slice site_rules_word(struct slice *line) {
    *line = http_trim(*line);
    size_t n = 0;
    while (n < line->size && line->data[n] != ' ' && line->data[n] != '\t')
        n++;
    struct slice word = slice_of(line->data, n);
    line->data += n;
    line->size -= n;
    return word;
}

bool site_rules_is_reserved(struct slice path) {
    return slice_starts_with(path, slice_str("/v1/")) || slice_starts_with(path, slice_str("/_/"));
}
