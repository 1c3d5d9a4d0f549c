#include "proto/site_pattern.h"

#include <stdlib.h>

#include "proto/url.h"

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_letter(uint8_t c) {
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_name_char(uint8_t c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_';
}

/* The name behind a colon: its bytes, 0 when there is none. */
static size_t name_bytes(struct slice in) {
    size_t n = 0;
    if (in.size == 0 || !is_letter(in.data[0]))
        return 0;
    while (n < in.size && is_name_char(in.data[n]))
        n++;
    return n;
}

/* ---- patterns ---- */

struct compiler {
    struct site_pattern *pattern;
    uint8_t *literal; /* where the present one begins; it is decoded in place */
    size_t literal_bytes;
};

static void add_token(struct site_pattern *p, struct slice text, int placeholder) {
    p->tokens[p->count++] = (struct site_token){.text = text, .placeholder = placeholder};
}

static void end_literal(struct compiler *c) {
    if (c->literal_bytes > 0)
        add_token(c->pattern, slice_of(c->literal, c->literal_bytes), -1);
    c->literal_bytes = 0;
}

static const char *add_name(struct compiler *c, struct slice name) {
    struct site_pattern *p = c->pattern;
    for (uint32_t i = 0; i < p->name_count; i++)
        if (slice_equal(p->names[i], name))
            return "a placeholder comes twice";
    if (p->name_count == SITE_PLACEHOLDERS_MAX)
        return "more than 8 placeholders";
    if (name.size > SITE_PLACEHOLDER_BYTES_MAX)
        return "the name of a placeholder is longer than 32 bytes";
    end_literal(c);
    add_token(p, slice_of(NULL, 0), (int)p->name_count);
    p->names[p->name_count++] = name;
    return NULL;
}

/* Takes what stands at the front of *in into the pattern. Returns what is wrong, or NULL. */
static const char *compile_next(struct compiler *c, uint8_t **at, size_t *left, uint8_t previous) {
    uint8_t *in = *at;
    size_t used = 1;
    const char *wrong = NULL;
    size_t name = previous == '/' && in[0] == ':' ? name_bytes(slice_of(in + 1, *left - 1)) : 0;
    if (in[0] == '*') {
        if (c->pattern->star != UINT32_MAX)
            return "more than one star";
        wrong = add_name(c, slice_str("splat"));
        c->pattern->star = c->pattern->count - 1;
    } else if (name > 0) {
        used += name;
        if (used < *left && in[used] != '/')
            return "a placeholder stands for a whole segment, as in /blog/:year/:slug";
        if (slice_equal_str(slice_of(in + 1, name), "splat"))
            return "\":splat\" is the name of the star; give the placeholder another name";
        wrong = add_name(c, slice_of(in + 1, name));
    } else {
        uint8_t byte = in[0];
        if (byte == '%') {
            int high = *left >= 3 ? hex_value(in[1]) : -1;
            int low = *left >= 3 ? hex_value(in[2]) : -1;
            if (high < 0 || low < 0)
                return "\"%\" without two hexadecimal digits behind it";
            byte = (uint8_t)(high << 4 | low);
            used = 3;
        }
        if (byte < ' ' || byte == 0x7F)
            return "a control character";
        if (byte == '/' && (used == 3 || previous == '/'))
            return used == 3 ? "no file's name has a slash (%2F) in it" : "two slashes in a row";
        if (c->literal_bytes == 0)
            c->literal = in;
        c->literal[c->literal_bytes++] = byte;
    }
    *at += used;
    *left -= used;
    return wrong;
}

int site_pattern_compile(struct site_pattern *p, uint8_t *text, size_t size,
                         const char **ret_reason) {
    *p = (struct site_pattern){.star = UINT32_MAX};
    if (size == 0 || text[0] != '/') {
        *ret_reason = "a path must begin with \"/\"";
        return 1;
    }
    p->tokens = xcalloc(2 * SITE_PLACEHOLDERS_MAX + 1, sizeof *p->tokens);
    struct compiler c = {.pattern = p};
    uint8_t previous = 0;
    while (size > 0) {
        uint8_t first = text[0];
        const char *wrong = compile_next(&c, &text, &size, previous);
        if (wrong) {
            site_pattern_fini(p);
            *ret_reason = wrong;
            return 1;
        }
        previous = first;
    }
    end_literal(&c);
    if (p->star == UINT32_MAX)
        p->star = p->count;
    p->tokens = xrealloc(p->tokens, p->count * sizeof *p->tokens);
    return 0;
}

void site_pattern_fini(struct site_pattern *p) {
    free(p->tokens);
    *p = (struct site_pattern){0};
}

bool site_pattern_is_literal(const struct site_pattern *p) {
    return p->name_count == 0;
}

struct slice site_pattern_literal(const struct site_pattern *p) {
    CHECK(site_pattern_is_literal(p));
    return p->tokens[0].text;
}

/* Matches tokens before the star against the front of *path. */
static bool match_prefix(const struct site_pattern *p, struct slice *path,
                         struct site_captures *ret) {
    for (uint32_t i = 0; i < p->star; i++) {
        const struct site_token *t = &p->tokens[i];
        size_t n = t->text.size;
        if (t->placeholder >= 0) {
            const uint8_t *slash = path->size > 0 ? memchr(path->data, '/', path->size) : NULL;
            n = slash ? (size_t)(slash - path->data) : path->size;
            if (n == 0)
                return false;
            ret->values[t->placeholder] = slice_of(path->data, n);
        } else if (!slice_starts_with(*path, t->text)) {
            return false;
        }
        path->data += n;
        path->size -= n;
    }
    return true;
}

/* Matches tokens behind the star against the end of *path. */
static bool match_suffix(const struct site_pattern *p, struct slice *path,
                         struct site_captures *ret) {
    for (uint32_t i = p->count; i > p->star + 1; i--) {
        const struct site_token *t = &p->tokens[i - 1];
        size_t n = t->text.size;
        if (t->placeholder >= 0) {
            for (n = 0; n < path->size && path->data[path->size - n - 1] != '/';)
                n++;
            if (n == 0)
                return false;
            ret->values[t->placeholder] = slice_of(path->data + path->size - n, n);
        } else if (path->size < n || memcmp(path->data + path->size - n, t->text.data, n) != 0) {
            return false;
        }
        path->size -= n;
    }
    return true;
}

/* "/docs/" and a star, against "/docs". */
static bool match_bare(const struct site_pattern *p, struct slice path, struct site_captures *ret) {
    if (p->star + 1 != p->count)
        return false;
    const struct site_token *last = &p->tokens[p->star - 1];
    if (last->placeholder >= 0 || last->text.data[last->text.size - 1] != '/')
        return false;
    struct site_pattern shorter = *p;
    struct site_token tokens[2 * SITE_PLACEHOLDERS_MAX + 1];
    memcpy(tokens, p->tokens, p->star * sizeof *tokens);
    tokens[p->star - 1].text.size--;
    shorter.tokens = tokens;
    if (!match_prefix(&shorter, &path, ret) || path.size > 0)
        return false;
    ret->values[p->tokens[p->star].placeholder] = path;
    return true;
}

bool site_pattern_match(const struct site_pattern *p, struct slice path,
                        struct site_captures *ret) {
    struct slice rest = path;
    if (match_prefix(p, &rest, ret)) {
        if (p->star == p->count)
            return rest.size == 0;
        if (match_suffix(p, &rest, ret)) {
            ret->values[p->tokens[p->star].placeholder] = rest;
            return true;
        }
        return false;
    }
    return p->star < p->count && match_bare(p, path, ret);
}

void site_pattern_put_sample(const struct site_pattern *p, struct slice filler, struct buf *out) {
    for (uint32_t i = 0; i < p->count; i++)
        buf_append_slice(out, p->tokens[i].placeholder >= 0 ? filler : p->tokens[i].text);
}

/* ---- templates ---- */

static int find_name(const struct site_pattern *p, struct slice name) {
    for (uint32_t i = 0; i < p->name_count; i++)
        if (slice_equal(p->names[i], name))
            return (int)i;
    return -1;
}

int site_template_compile(struct site_template *t, struct slice text, const struct site_pattern *p,
                          bool strict, const char **ret_reason) {
    struct site_token tokens[2 * SITE_TEMPLATE_USES_MAX + 1];
    size_t literal = 0; /* where the present literal begins */
    *t = (struct site_template){0};
    for (size_t at = 0; at < text.size;) {
        size_t name =
            text.data[at] == ':' ? name_bytes(slice_of(text.data + at + 1, text.size - at - 1)) : 0;
        int index = name > 0 ? find_name(p, slice_of(text.data + at + 1, name)) : -1;
        if (name > 0 && index < 0 && strict) {
            *ret_reason = "a placeholder that the pattern before it does not have (write %3A for a "
                          "colon before a letter)";
            return 1;
        }
        if (index < 0) {
            at++;
            continue;
        }
        if (t->use_count == SITE_TEMPLATE_USES_MAX) {
            *ret_reason = "placeholders are used more than 16 times";
            return 1;
        }
        t->use_count++;
        if (at > literal)
            tokens[t->count++] =
                (struct site_token){slice_of(text.data + literal, at - literal), -1};
        tokens[t->count++] = (struct site_token){slice_of(NULL, 0), index};
        at += 1 + name;
        literal = at;
    }
    if (text.size > literal)
        tokens[t->count++] =
            (struct site_token){slice_of(text.data + literal, text.size - literal), -1};
    t->tokens = xmemdup(tokens, t->count * sizeof *tokens);
    return 0;
}

void site_template_fini(struct site_template *t) {
    free(t->tokens);
    *t = (struct site_template){0};
}

void site_template_expand(const struct site_template *t, const struct site_captures *captures,
                          enum site_expand how, struct buf *out) {
    bool in_query = false;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct site_token *token = &t->tokens[i];
        bool literal = token->placeholder < 0;
        struct slice s = literal ? token->text : captures->values[token->placeholder];
        switch (how) {
        case SITE_EXPAND_PATH:
            if (literal) {
                bool decoded = url_decode(out, s);
                CHECK(decoded); /* looked at when the rule was read */
            } else {
                buf_append_slice(out, s);
            }
            break;
        case SITE_EXPAND_URL:
            if (literal)
                url_put_query(out, s);
            else
                url_encode(out, s, in_query ? "/:@" : "/!$&'()*+,;=:@");
            in_query |= literal && memchr(s.data, '?', s.size) != NULL;
            break;
        case SITE_EXPAND_VALUE:
            if (literal)
                buf_append_slice(out, s);
            else
                url_encode(out, s, "/");
            break;
        }
    }
}
