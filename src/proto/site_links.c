#include "proto/site_links.h"

#include "proto/site_rules.h"

/* What is scanned, from `at` on; lines are counted on the way. */
struct scan {
    const uint8_t *data;
    size_t at, end;
    size_t counted; /* up to where line feeds have been counted */
    uint32_t line;
    site_link_fn fn;
    void *ctx;
    struct buf value; /* decoded, of the present attribute */
};

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_letter(uint8_t c) {
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_utf8(struct buf *out, uint32_t c) {
    if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        c = 0xFFFD;
    if (c < 0x80) {
        buf_append_u8(out, (uint8_t)c);
        return;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t marks[] = {0, 0xC0, 0xE0, 0xF0};
    buf_append_u8(out, (uint8_t)(marks[more] | c >> 6 * more));
    while (more-- > 0)
        buf_append_u8(out, (uint8_t)(0x80 | (c >> 6 * more & 0x3F)));
}

static uint32_t line_of(struct scan *s, size_t at) {
    for (; s->counted < at; s->counted++)
        s->line += s->data[s->counted] == '\n';
    return s->line;
}

static void report(struct scan *s, struct slice url, uint32_t line, bool base) {
    while (url.size > 0 && is_space(url.data[0])) {
        url.data++;
        url.size--;
    }
    while (url.size > 0 && is_space(url.data[url.size - 1]))
        url.size--;
    struct site_link link = {.url = url, .line = line, .base = base};
    if (url.size > 0 && url.size <= SITE_LINK_BYTES_MAX)
        s->fn(s->ctx, &link);
}

/* ---- style sheets ---- */

/* Takes an escape (behind its backslash, at s[at]) into `out`; returns how many bytes it has. */
static size_t take_escape(const uint8_t *s, size_t left, struct buf *out) {
    uint32_t c = 0;
    size_t n = 0;
    while (n < left && n < 6 && hex_value(s[n]) >= 0)
        c = c << 4 | (uint32_t)hex_value(s[n++]);
    if (n == 0) {
        if (left > 0 && s[0] != '\n')
            buf_append_u8(out, s[0]);
        return left > 0;
    }
    put_utf8(out, c);
    return n + (n < left && is_space(s[n]));
}

/* A string in quotes, from its first quote on: appended to `out`. Returns its bytes with the
 * quotes, also when its end is missing. */
static size_t take_string(const uint8_t *s, size_t left, struct buf *out) {
    size_t n = 1;
    while (n < left && s[n] != s[0] && s[n] != '\n') {
        if (s[n] == '\\') {
            n++;
            n += take_escape(s + n, left - n, out);
        } else {
            buf_append_u8(out, s[n++]);
        }
    }
    return n < left ? n + 1 : n;
}

static size_t skip_spaces(const uint8_t *s, size_t at, size_t end) {
    while (at < end && is_space(s[at]))
        at++;
    return at;
}

/* What is between "url(" and ")". Returns where it ends. */
static size_t take_url(const uint8_t *s, size_t at, size_t end, struct buf *out) {
    at = skip_spaces(s, at, end);
    if (at < end && (s[at] == '"' || s[at] == '\''))
        return at + take_string(s + at, end - at, out);
    while (at < end && s[at] != ')' && s[at] != '"' && s[at] != '\'' && s[at] != '(') {
        if (s[at] == '\\') {
            at++;
            at += take_escape(s + at, end - at, out);
        } else {
            buf_append_u8(out, s[at++]);
        }
    }
    return at;
}

static bool is_name_char(uint8_t c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_' || c >= 0x80;
}

static bool begins_nocase(const uint8_t *s, size_t left, const char *with) {
    size_t n = strlen(with);
    return left >= n && strncasecmp((const char *)s, with, n) == 0;
}

static size_t skip_comment(const uint8_t *s, size_t at, size_t end) {
    const uint8_t *close = memmem(s + at + 2, end - at - 2, "*/", 2);
    return close ? (size_t)(close - s) + 2 : end;
}

/* Scans css[0..end). `fixed_line`: of everything in it, or 0 to count from the scan's bytes. */
static void scan_css(struct scan *s, const uint8_t *css, size_t at, size_t end,
                     uint32_t fixed_line) {
    struct buf text = {0};
    bool import = false; /* the last word was @import */
    while (at < end) {
        size_t start = at;
        uint8_t c = css[at];
        bool in_name = start > 0 && is_name_char(css[start - 1]);
        buf_reset(&text);
        if (begins_nocase(css + at, end - at, "/*")) {
            at = skip_comment(css, at, end);
            continue;
        }
        if (is_space(c)) {
            at++;
            continue;
        }
        bool link = false;
        if (c == '"' || c == '\'') {
            at += take_string(css + at, end - at, &text);
            link = import;
        } else if (!in_name && begins_nocase(css + at, end - at, "url(")) {
            at = take_url(css, at + 4, end, &text);
            link = true;
        } else if (begins_nocase(css + at, end - at, "@import")) {
            at += strlen("@import");
            import = true;
            continue;
        } else if (c == '\\') {
            at += at + 1 < end ? 2 : 1;
        } else {
            at++;
        }
        import = false;
        if (link)
            report(s, buf_slice(&text), fixed_line ? fixed_line : line_of(s, start), false);
    }
    buf_fini(&text);
}

void site_links_css(struct slice text, site_link_fn fn, void *ctx) {
    struct scan s = {.data = text.data, .end = text.size, .line = 1, .fn = fn, .ctx = ctx};
    scan_css(&s, text.data, 0, text.size, 0);
}

/* ---- pages ---- */

/* Decodes the character reference at s[0] == '&' into `out`. Returns its bytes; 1, and the "&" as
 * it is, when it is none that we know. */
static size_t take_reference(const uint8_t *s, size_t left, struct buf *out) {
    static const struct {
        const char *name;
        char c;
    } names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (left >= strlen(names[i].name) && memcmp(s, names[i].name, strlen(names[i].name)) == 0) {
            buf_append_char(out, names[i].c);
            return strlen(names[i].name);
        }
    if (left >= 4 && s[1] == '#') {
        bool hex = (s[2] | 0x20) == 'x';
        size_t n = hex ? 3 : 2, digits = 0;
        uint32_t c = 0;
        for (; n < left && digits < 8; n++, digits++) {
            int value = hex_value(s[n]);
            if (value < 0 || (!hex && value > 9))
                break;
            c = c * (hex ? 16 : 10) + (uint32_t)value;
        }
        if (digits > 0 && digits < 8 && n < left && s[n] == ';') {
            put_utf8(out, c);
            return n + 1;
        }
    }
    buf_append_char(out, '&');
    return 1;
}

static struct slice decode(struct scan *s, struct slice in) {
    buf_reset(&s->value);
    for (size_t i = 0; i < in.size;) {
        if (in.data[i] == '&') {
            i += take_reference(in.data + i, in.size - i, &s->value);
        } else {
            buf_append_u8(&s->value, in.data[i]);
            i++;
        }
    }
    return buf_slice(&s->value);
}

/* "a.jpg 1x, b.jpg 2x": the URL ends at a blank, its description at a comma outside of brackets. */
static void report_srcset(struct scan *s, struct slice in, uint32_t line) {
    size_t at = 0;
    while (at < in.size) {
        while (at < in.size && (is_space(in.data[at]) || in.data[at] == ','))
            at++;
        size_t start = at;
        while (at < in.size && !is_space(in.data[at]))
            at++;
        size_t end = at;
        while (end > start && in.data[end - 1] == ',')
            end--;
        report(s, slice_of(in.data + start, end - start), line, false);
        if (end < at) /* it ended with a comma: no description */
            continue;
        for (int depth = 0; at < in.size && (in.data[at] != ',' || depth > 0); at++)
            depth += (in.data[at] == '(') - (in.data[at] == ')' && depth > 0);
    }
}

static void take_attribute(struct scan *s, struct slice tag, struct slice name, struct slice raw,
                           uint32_t line) {
    static const char *const urls[] = {"href", "src", "poster", "xlink:href"};
    bool url = slice_equal_nocase(name, "data") && slice_equal_nocase(tag, "object");
    for (size_t i = 0; i < ARRAY_COUNT(urls); i++)
        url |= slice_equal_nocase(name, urls[i]);
    if (url) {
        /* A character takes at most 10 bytes to write; longer is longer than a link may be. */
        if (raw.size <= (size_t)10 * SITE_LINK_BYTES_MAX)
            report(s, decode(s, raw), line, slice_equal_nocase(tag, "base"));
    } else if (slice_equal_nocase(name, "srcset") || slice_equal_nocase(name, "imagesrcset")) {
        report_srcset(s, decode(s, raw), line);
    } else if (slice_equal_nocase(name, "style")) {
        struct slice css = decode(s, raw);
        scan_css(s, css.data, 0, css.size, line);
    }
}

/* One attribute of a tag, or what stands in its place. */
static void scan_attribute(struct scan *s, struct slice tag) {
    const uint8_t *d = s->data;
    size_t start = s->at;
    while (s->at < s->end && !is_space(d[s->at]) && d[s->at] != '/' && d[s->at] != '>' &&
           (d[s->at] != '=' || s->at == start))
        s->at++;
    struct slice name = slice_of(d + start, s->at - start);
    size_t after = skip_spaces(d, s->at, s->end);
    if (after >= s->end || d[after] != '=')
        return;
    s->at = skip_spaces(d, after + 1, s->end);
    if (s->at >= s->end)
        return;
    uint8_t quote = d[s->at];
    size_t value;
    if (quote == '"' || quote == '\'') {
        value = ++s->at;
        const uint8_t *close = memchr(d + value, quote, s->end - value);
        if (!close) {
            s->at = s->end;
            return;
        }
        s->at = (size_t)(close - d) + 1;
        take_attribute(s, tag, name, slice_of(d + value, s->at - 1 - value), line_of(s, start));
        return;
    }
    value = s->at;
    while (s->at < s->end && !is_space(d[s->at]) && d[s->at] != '>')
        s->at++;
    take_attribute(s, tag, name, slice_of(d + value, s->at - value), line_of(s, start));
}

/* Behind <script>, <style>, <textarea>, <title>: up to "</" and the name. */
static void scan_raw_text(struct scan *s, struct slice tag) {
    size_t start = s->at;
    while (s->at < s->end) {
        const uint8_t *less = memchr(s->data + s->at, '<', s->end - s->at);
        s->at = less ? (size_t)(less - s->data) : s->end;
        if (s->end - s->at > tag.size + 2 && s->data[s->at + 1] == '/' &&
            strncasecmp((const char *)s->data + s->at + 2, (const char *)tag.data, tag.size) == 0)
            break;
        s->at += s->at < s->end;
    }
    if (slice_equal_nocase(tag, "style"))
        scan_css(s, s->data, start, s->at, 0);
}

static void scan_tag(struct scan *s) {
    static const char *const raw[] = {"script", "style", "textarea", "title"};
    const uint8_t *d = s->data;
    size_t start = s->at;
    while (s->at < s->end && !is_space(d[s->at]) && d[s->at] != '/' && d[s->at] != '>')
        s->at++;
    struct slice tag = slice_of(d + start, s->at - start);
    while (s->at < s->end && d[s->at] != '>') {
        if (is_space(d[s->at]) || d[s->at] == '/')
            s->at++;
        else
            scan_attribute(s, tag);
    }
    s->at += s->at < s->end;
    for (size_t i = 0; i < ARRAY_COUNT(raw); i++)
        if (slice_equal_nocase(tag, raw[i]))
            scan_raw_text(s, tag);
}

void site_links_html(struct slice text, site_link_fn fn, void *ctx) {
    struct scan s = {.data = text.data, .end = text.size, .line = 1, .fn = fn, .ctx = ctx};
    while (s.at < s.end) {
        const uint8_t *less = memchr(s.data + s.at, '<', s.end - s.at);
        if (!less)
            break;
        s.at = (size_t)(less - s.data) + 1;
        size_t left = s.end - s.at;
        if (left >= 3 && memcmp(s.data + s.at, "!--", 3) == 0) {
            /* "<!-->" is a whole comment, too: its two dashes may be those of the end. */
            const uint8_t *close = memmem(s.data + s.at + 1, left - 1, "-->", 3);
            s.at = close ? (size_t)(close - s.data) + 3 : s.end;
        } else if (left > 0 && is_letter(s.data[s.at])) {
            scan_tag(&s);
        } else if (left > 0 &&
                   (s.data[s.at] == '!' || s.data[s.at] == '/' || s.data[s.at] == '?')) {
            const uint8_t *close = memchr(s.data + s.at, '>', left);
            s.at = close ? (size_t)(close - s.data) + 1 : s.end;
        }
    }
    buf_fini(&s.value);
}

/* ---- where links lead ---- */

static bool has_scheme(struct slice url) {
    size_t n = 0;
    if (url.size == 0 || !is_letter(url.data[0]))
        return false;
    while (n < url.size && (is_letter(url.data[n]) || (url.data[n] >= '0' && url.data[n] <= '9') ||
                            url.data[n] == '+' || url.data[n] == '-' || url.data[n] == '.'))
        n++;
    return n < url.size && url.data[n] == ':';
}

/* Decodes a segment into out[*size..], which ends in "/" before it. False: no name of a file. */
static bool put_segment(struct slice segment, uint8_t *out, size_t *size) {
    for (size_t i = 0; i < segment.size; i++) {
        uint8_t c = segment.data[i];
        if (c == '%') {
            int high = segment.size - i >= 3 ? hex_value(segment.data[i + 1]) : -1;
            int low = segment.size - i >= 3 ? hex_value(segment.data[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (uint8_t)(high << 4 | low);
            i += 2;
            if (c == '/')
                return false;
        }
        if (*size == SITE_PATH_BYTES_MAX)
            return false;
        out[(*size)++] = c;
    }
    return true;
}

static size_t last_slash(const uint8_t *path, size_t size) {
    while (size > 0 && path[size - 1] != '/')
        size--;
    return size;
}

enum site_link_result site_link_resolve(struct slice page, struct slice url,
                                        uint8_t buffer[SITE_PATH_BUFFER_BYTES],
                                        struct slice *ret_path) {
    size_t cut = 0;
    CHECK(page.size > 0);
    CHECK(page.size <= SITE_PATH_BYTES_MAX);
    CHECK(page.data[0] == '/');
    if (has_scheme(url) || slice_starts_with(url, slice_str("//")))
        return SITE_LINK_OTHER;
    while (cut < url.size && url.data[cut] != '?' && url.data[cut] != '#')
        cut++;
    if (cut == 0) /* the page itself */
        return SITE_LINK_OTHER;
    struct slice rest = slice_of(url.data, cut);
    size_t size = rest.data[0] == '/' ? 1 : last_slash(page.data, page.size);
    memcpy(buffer, page.data, size);
    while (rest.size > 0) { /* buffer[0..size) ends in "/" here */
        const uint8_t *slash = memchr(rest.data, '/', rest.size);
        size_t n = slash ? (size_t)(slash - rest.data) : rest.size;
        size_t start = size;
        if (!put_segment(slice_of(rest.data, n), buffer, &size))
            return SITE_LINK_BROKEN;
        struct slice segment = slice_of(buffer + start, size - start);
        bool up = slice_equal_str(segment, "..");
        if (up || slice_equal_str(segment, "."))
            size = up && start > 1 ? last_slash(buffer, start - 1) : start;
        else if (slash && size > start) {
            if (size == SITE_PATH_BYTES_MAX)
                return SITE_LINK_BROKEN;
            buffer[size++] = '/';
        }
        rest.data += slash ? n + 1 : n;
        rest.size -= slash ? n + 1 : n;
    }
    struct slice path = slice_of(buffer, size);
    if (site_rules_is_reserved(path))
        return SITE_LINK_OTHER;
    if (!site_path_is_servable(path, NULL))
        return SITE_LINK_BROKEN;
    *ret_path = path;
    return SITE_LINK_INTERNAL;
}
