#include "proto/site_headers.h"

#include <stdlib.h>

#include "proto/http_list.h"

struct field {
    struct slice name;
    struct site_template value; /* empty when taken_back */
    uint32_t rule;
    bool taken_back;         /* "! Name" */
    uint32_t next_take_back; /* the next field that takes this name back, or field_count */
};

struct rule {
    struct site_pattern pattern;
    uint32_t line;
    uint32_t first, count; /* of fields */
};

struct site_headers {
    uint8_t *text; /* patterns and templates borrow from it */
    struct rule *rules;
    uint32_t rule_count;
    struct field *fields;
    uint32_t field_count;
};

static bool is_one_of(struct slice name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (slice_equal_nocase(name, names[i]))
            return true;
    return false;
}

bool site_header_is_refused(struct slice name) {
    static const char *const refused[] = {
        /* framing and the connection, RFC 9110 section 7.6.1 and RFC 9112 */
        "Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "TE", "Trailer",
        "Transfer-Encoding", "Upgrade",
        /* what the server knows about the answer */
        "Accept-Ranges", "Age", "Allow", "Content-Encoding", "Content-Range", "Date", "ETag",
        "Last-Modified", "Location", "Retry-After",
        /* of one visitor, or the server's own */
        "Proxy-Authenticate", "Set-Cookie", "WWW-Authenticate"};
    return is_one_of(name, refused, ARRAY_COUNT(refused));
}

static bool is_token_char(uint8_t c) {
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct slice name) {
    for (size_t i = 0; i < name.size; i++)
        if (!is_token_char(name.data[i]))
            return false;
    return name.size > 0;
}

static void read_pattern(struct site_headers *h, struct site_rules *r, struct slice line) {
    const char *reason;
    if (h->rule_count == SITE_HEADERS_RULES_MAX) {
        site_rules_error(r, "more than %d paths", SITE_HEADERS_RULES_MAX);
        r->rest.size = 0; /* every further one would say the same */
        return;
    }
    if (site_rules_is_reserved(line))
        site_rules_error(r, "/v1/ and /_/ belong to the server; their answers carry no fields of a "
                            "site");
    struct rule *rule = &h->rules[h->rule_count];
    /* Decoding in place makes the line shorter, and what is behind it is not touched. */
    uint8_t *at = h->text + (line.data - h->text);
    *rule = (struct rule){.line = r->line, .first = h->field_count};
    if (site_pattern_compile(&rule->pattern, at, line.size, &reason))
        site_rules_error(r, "the path is not right: %s", reason);
    h->rule_count++; /* of one that failed, too: the fields below it are looked at */
}

static const char *check_name(struct slice name, bool taken_back) {
    if (!is_token(name))
        return "is no name of a field";
    if (site_header_is_refused(name))
        return "is the server's own; a site cannot set it";
    if (taken_back && slice_equal_nocase(name, "Vary"))
        return "cannot be taken back: caches need it";
    return NULL;
}

static bool is_url(struct slice s) {
    return (s.size >= 7 && strncasecmp((const char *)s.data, "http://", 7) == 0) ||
           (s.size >= 8 && strncasecmp((const char *)s.data, "https://", 8) == 0);
}

static void read_field(struct site_headers *h, struct site_rules *r, struct slice line) {
    if (is_url(line)) {
        site_rules_error(r, "rules for one host are not supported: a path begins with \"/\"");
        return;
    }
    if (h->rule_count == 0) {
        site_rules_error(r, "a field before the first path: a path begins with \"/\"");
        return;
    }
    if (h->field_count == SITE_HEADERS_FIELDS_MAX) {
        site_rules_error(r, "more than %d fields", SITE_HEADERS_FIELDS_MAX);
        r->rest.size = 0;
        return;
    }
    struct field *f = &h->fields[h->field_count];
    *f = (struct field){.rule = h->rule_count - 1, .taken_back = line.data[0] == '!'};
    struct slice value = slice_of(NULL, 0);
    if (f->taken_back) {
        f->name = http_trim(slice_of(line.data + 1, line.size - 1));
    } else {
        const uint8_t *colon = memchr(line.data, ':', line.size);
        if (!colon) {
            site_rules_error(r, "expected \"Name: value\", \"! Name\", or a path that begins with "
                                "\"/\"");
            return;
        }
        f->name = slice_of(line.data, (size_t)(colon - line.data));
        value = http_trim(slice_of(colon + 1, line.size - f->name.size - 1));
    }
    const char *wrong = check_name(f->name, f->taken_back);
    if (wrong) {
        site_rules_error(r, "\"%.*s\" %s", SITE_QUOTE(f->name), wrong);
        return;
    }
    if (!f->taken_back && value.size == 0) {
        site_rules_error(r, "no value; to take the field back write \"! %.*s\"",
                         SITE_QUOTE(f->name));
        return;
    }
    struct rule *rule = &h->rules[h->rule_count - 1];
    if (site_template_compile(&f->value, value, &rule->pattern, false, &wrong)) {
        site_rules_error(r, "%s", wrong);
        return;
    }
    rule->count++;
    h->field_count++;
}

static bool same_name(struct slice a, struct slice b) {
    return a.size == b.size && strncasecmp((const char *)a.data, (const char *)b.data, a.size) == 0;
}

/* Later fields that take a name back are chained, so that sending looks only at those. */
static void link_take_backs(struct site_headers *h) {
    for (uint32_t i = 0; i < h->field_count; i++) {
        uint32_t k = i + 1;
        while (k < h->field_count &&
               !(h->fields[k].taken_back && same_name(h->fields[k].name, h->fields[i].name)))
            k++;
        h->fields[i].next_take_back = k;
    }
}

/* The path read last, unless something of it was reported already. */
static void check_has_fields(struct site_headers *h, struct site_rules *r, uint32_t errors_before) {
    const struct rule *last = &h->rules[h->rule_count - (h->rule_count > 0)];
    if (h->rule_count > 0 && last->count == 0 && r->error_count == errors_before)
        site_rules_error_at(r, last->line, "a path without fields");
}

struct site_headers *site_headers_parse(struct slice text, site_error_fn fn, void *ctx) {
    struct site_headers *h = xcalloc(1, sizeof *h);
    struct site_rules r;
    struct slice line;
    h->rules = xcalloc(SITE_HEADERS_RULES_MAX, sizeof *h->rules);
    h->fields = xcalloc(SITE_HEADERS_FIELDS_MAX, sizeof *h->fields);
    h->text =
        site_rules_begin(&r, text, SITE_HEADERS_BYTES_MAX, SITE_HEADERS_LINE_BYTES_MAX, fn, ctx);
    uint32_t errors_before = 0; /* when the present path began */
    while (site_rules_next(&r, &line)) {
        if (line.data[0] != '/') {
            read_field(h, &r, line);
            continue;
        }
        check_has_fields(h, &r, errors_before);
        errors_before = r.error_count;
        read_pattern(h, &r, line);
    }
    check_has_fields(h, &r, errors_before);
    if (r.error_count > 0) {
        site_headers_free(h);
        return NULL;
    }
    h->rules = xrealloc(h->rules, (h->rule_count + 1) * sizeof *h->rules);
    h->fields = xrealloc(h->fields, (h->field_count + 1) * sizeof *h->fields);
    link_take_backs(h);
    return h;
}

void site_headers_free(struct site_headers *h) {
    if (!h)
        return;
    for (uint32_t i = 0; i < h->field_count; i++)
        site_template_fini(&h->fields[i].value);
    for (uint32_t i = 0; i < h->rule_count; i++)
        site_pattern_fini(&h->rules[i].pattern);
    free(h->fields);
    free(h->rules);
    free(h->text);
    free(h);
}

size_t site_headers_rule_count(const struct site_headers *h) {
    return h->rule_count;
}

void site_headers_match(const struct site_headers *h, struct slice path,
                        struct site_headers_match *ret) {
    struct site_captures captures;
    *ret = (struct site_headers_match){.headers = h};
    for (uint32_t i = 0; i < h->rule_count; i++)
        if (site_pattern_match(&h->rules[i].pattern, path, &captures)) {
            ret->rules[i / 64] |= UINT64_C(1) << i % 64;
            ret->any = true;
        }
}

static bool applies(const struct site_headers_match *m, uint32_t rule) {
    return m->rules[rule / 64] >> rule % 64 & 1;
}

bool site_headers_overrides(const struct site_headers_match *m, const char *name) {
    if (!m->any || strcasecmp(name, "Vary") == 0)
        return false;
    for (uint32_t i = 0; i < m->headers->field_count; i++)
        if (applies(m, m->headers->fields[i].rule) &&
            slice_equal_nocase(m->headers->fields[i].name, name))
            return true;
    return false;
}

static bool is_taken_back(const struct site_headers_match *m, uint32_t field) {
    const struct site_headers *h = m->headers;
    for (uint32_t i = h->fields[field].next_take_back; i < h->field_count;
         i = h->fields[i].next_take_back)
        if (applies(m, h->fields[i].rule))
            return true;
    return false;
}

void site_headers_each(const struct site_headers_match *m, struct slice path, struct buf *scratch,
                       void (*fn)(void *ctx, struct slice name, struct slice value), void *ctx) {
    const struct site_headers *h = m->headers;
    for (uint32_t i = 0; m->any && i < h->rule_count; i++) {
        const struct rule *rule = &h->rules[i];
        struct site_captures captures;
        if (!applies(m, i))
            continue;
        bool matches = site_pattern_match(&rule->pattern, path, &captures);
        CHECK(matches); /* the path is that of the match */
        for (uint32_t k = rule->first; k < rule->first + rule->count; k++) {
            const struct field *f = &h->fields[k];
            if (f->taken_back || is_taken_back(m, k))
                continue;
            struct slice value = f->value.tokens[0].text;
            if (f->value.use_count > 0) {
                buf_reset(scratch);
                site_template_expand(&f->value, &captures, SITE_EXPAND_VALUE, scratch);
                value = buf_slice(scratch);
            }
            fn(ctx, f->name, value);
        }
    }
}
