#include "proto/site_redirects.h"

#include <stdlib.h>

#include "base/hash.h"
#include "proto/site_path.h"
#include "proto/site_redirects_impl.h"
#include "proto/url.h"

/* ---- reading ---- */

static bool begins_with_nocase(struct slice s, const char *with) {
    size_t n = strlen(with);
    return s.size >= n && strncasecmp((const char *)s.data, with, n) == 0;
}

static bool is_url(struct slice s) {
    return begins_with_nocase(s, "http://") || begins_with_nocase(s, "https://");
}

/* "301", "200!"; an empty word is 301. False when it is no status of ours. */
static bool read_status(struct slice word, struct site_redirect *rule) {
    static const int statuses[] = {200, 301, 302, 303, 307, 308, 404};
    rule->status = 301;
    if (word.size == 0)
        return true;
    rule->forced = word.data[word.size - 1] == '!';
    word.size -= rule->forced;
    int status = 0;
    for (size_t i = 0; i < word.size; i++) {
        if (word.data[i] < '0' || word.data[i] > '9' || i == 3)
            return false;
        status = status * 10 + (word.data[i] - '0');
    }
    for (size_t i = 0; i < ARRAY_COUNT(statuses); i++)
        if (statuses[i] == status) {
            rule->status = status;
            return true;
        }
    return false;
}

/* The scheme and the host of a URL, which no placeholder may be part of. */
static const char *check_authority(const struct site_template *to, struct slice url) {
    size_t start = begins_with_nocase(url, "https://") ? 8 : 7;
    size_t end = start;
    for (; end < url.size && url.data[end] != '/' && url.data[end] != '?'; end++) {
        uint8_t c = url.data[end];
        bool good = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                    strchr(".-_:[]", c) != NULL;
        if (c == 0 || !good)
            return "the host may have letters, digits and . - _ : [ ] (write others in punycode; "
                   "no "
                   "user names)";
    }
    if (end == start)
        return "a URL without a host";
    /* A placeholder of the host would end the first token within it. */
    if (to->tokens[0].text.size < end)
        return "a placeholder cannot choose the host";
    return NULL;
}

/* A path of this site to answer with. */
static const char *check_file(const struct site_redirect *rule) {
    struct site_captures captures;
    struct buf path = {0}, decoded = {0};
    const char *wrong = NULL;
    if (rule->has_query || rule->has_fragment)
        return "a rule with 200 or 404 leads to a file, which has no query and no fragment";
    for (uint32_t i = 0; i < rule->to.count && !wrong; i++)
        if (rule->to.tokens[i].placeholder < 0 && !url_decode(&decoded, rule->to.tokens[i].text))
            wrong = "\"%\" without two hexadecimal digits behind it";
    for (int i = 0; i < SITE_PLACEHOLDERS_MAX; i++)
        captures.values[i] = slice_str("x");
    if (!wrong) {
        site_template_expand(&rule->to, &captures, SITE_EXPAND_PATH, &path);
        if (!site_path_is_servable(buf_slice(&path), NULL))
            wrong = "the site can have no file of that name";
    }
    buf_fini(&path);
    buf_fini(&decoded);
    return wrong;
}

static const char *read_to(struct site_redirect *rule, struct slice to) {
    const char *wrong = NULL;
    rule->elsewhere = is_url(to);
    if (!rule->elsewhere && to.data[0] != '/')
        return "leads to something that is neither a path (\"/...\") nor an http or https URL";
    if (slice_starts_with(to, slice_str("//")))
        return "leads to \"//...\", another host: write https:// before it if that is meant";
    const uint8_t *hash = memchr(to.data, '#', to.size);
    if (hash) {
        size_t n = (size_t)(hash - to.data);
        struct slice fragment = slice_of(hash + 1, to.size - n - 1);
        rule->has_fragment = true;
        to.size = n;
        if (site_template_compile(&rule->fragment, fragment, &rule->from, true, &wrong))
            return wrong;
    }
    rule->has_query = memchr(to.data, '?', to.size) != NULL;
    if (site_template_compile(&rule->to, to, &rule->from, true, &wrong))
        return wrong;
    if (rule->elsewhere)
        return rule->status == 200 || rule->status == 404
                   ? "answers of other hosts are not handed on (no proxying): use 301, 302, 303, "
                     "307 "
                     "or 308"
                   : check_authority(&rule->to, to);
    return rule->status == 200 || rule->status == 404 ? check_file(rule) : NULL;
}

static bool is_page(const struct site_redirect *rule) {
    const struct site_token *last = &rule->to.tokens[rule->to.count - 1];
    struct slice s = last->text;
    return last->placeholder < 0 && (s.data[s.size - 1] == '/' ||
                                     (s.size >= 5 && memcmp(s.data + s.size - 5, ".html", 5) == 0));
}

/* Reads a line into *rule. Returns what is wrong, or NULL; `rule` is to be freed in any case. */
static const char *read_rule(struct site_redirects *r, struct slice line,
                             struct site_redirect *rule) {
    struct slice from = site_rules_word(&line);
    struct slice to = site_rules_word(&line);
    struct slice status = site_rules_word(&line);
    if (status.size > 0 && status.data[0] == '#')
        status = line = slice_of(line.data, 0);
    struct slice more = site_rules_word(&line);
    const char *wrong;
    if (is_url(from))
        return "rules for one host are not supported: begin with a path";
    if (from.data[0] != '/')
        return "a rule begins with a path, and a path with \"/\"";
    if (to.size == 0 || to.data[0] == '#')
        return "where does it lead? Expected: path, target, status";
    if (to.data[0] != '/' && !is_url(to) && memchr(to.data, '=', to.size))
        return "matching query parameters is not supported";
    if (!read_status(status, rule))
        return memchr(status.data, '=', status.size)
                   ? "conditions (Country=, Language=, Role=) are not supported"
                   : "the status must be 301, 302, 303, 307, 308, 200 or 404, with or without "
                     "\"!\"";
    if (more.size > 0 && more.data[0] != '#')
        return memchr(more.data, '=', more.size)
                   ? "conditions (Country=, Language=, Role=) are not supported"
                   : "there is more in the line than path, target and status";
    if (site_rules_is_reserved(from))
        return "/v1/ and /_/ belong to the server; a site's rules are not asked there";
    /* Decoding in place makes the word shorter, and what is behind it is not touched. */
    if (site_pattern_compile(&rule->from, r->text + (from.data - r->text), from.size, &wrong))
        return wrong;
    wrong = read_to(rule, to);
    if (wrong)
        return wrong;
    rule->single_page =
        rule->status == 200 && !rule->forced && rule->from.star < rule->from.count && is_page(rule);
    return NULL;
}

static void free_rule(struct site_redirect *rule) {
    site_pattern_fini(&rule->from);
    site_template_fini(&rule->to);
    site_template_fini(&rule->fragment);
}

static void build_index(struct site_redirects *r) {
    uint32_t buckets = 16;
    while (buckets < 2 * r->count)
        buckets *= 2;
    r->bucket_mask = buckets - 1;
    r->buckets = xmalloc(buckets * sizeof *r->buckets);
    r->next = xmalloc((r->count + 1) * sizeof *r->next);
    memset(r->buckets, 0xFF, buckets * sizeof *r->buckets);
    r->pattern_count = 0;
    for (uint32_t i = 0; i < r->count; i++)
        if (!site_pattern_is_literal(&r->rules[i].from))
            r->patterns[r->pattern_count++] = i;
    for (uint32_t i = r->count; i-- > 0;) { /* backwards: chains begin with the first rule */
        if (!site_pattern_is_literal(&r->rules[i].from))
            continue;
        uint64_t hash = hash64(site_pattern_literal(&r->rules[i].from), 0);
        uint32_t *bucket = &r->buckets[hash & r->bucket_mask];
        r->next[i] = *bucket;
        *bucket = i;
    }
}

struct site_redirects *site_redirects_parse(struct slice text, site_error_fn fn, void *ctx) {
    struct site_redirects *r = xcalloc(1, sizeof *r);
    struct site_rules rules;
    struct slice line;
    r->rules = xcalloc(SITE_REDIRECTS_RULES_MAX, sizeof *r->rules);
    r->text = site_rules_begin(&rules, text, SITE_REDIRECTS_BYTES_MAX,
                               SITE_REDIRECTS_LINE_BYTES_MAX, fn, ctx);
    while (site_rules_next(&rules, &line)) {
        struct site_redirect *rule = &r->rules[r->count];
        if (r->count == SITE_REDIRECTS_RULES_MAX) {
            site_rules_error(&rules, "more than %d rules", SITE_REDIRECTS_RULES_MAX);
            break;
        }
        *rule = (struct site_redirect){.line = rules.line};
        const char *wrong = read_rule(r, line, rule);
        if (!wrong && !site_pattern_is_literal(&rule->from) &&
            r->pattern_count++ == SITE_REDIRECTS_PATTERNS_MAX)
            wrong = "more than 200 rules with a star or a placeholder";
        if (wrong) {
            free_rule(rule);
            site_rules_error(&rules, "%s", wrong);
            if (r->pattern_count > SITE_REDIRECTS_PATTERNS_MAX)
                break;
            continue;
        }
        r->any_forced |= rule->forced;
        r->count++;
    }
    if (rules.error_count > 0) {
        site_redirects_free(r);
        return NULL;
    }
    r->rules = xrealloc(r->rules, (r->count + 1) * sizeof *r->rules);
    build_index(r);
    return r;
}

void site_redirects_free(struct site_redirects *r) {
    if (!r)
        return;
    for (uint32_t i = 0; i < r->count; i++)
        free_rule(&r->rules[i]);
    free(r->rules);
    free(r->buckets);
    free(r->next);
    free(r->text);
    free(r);
}

size_t site_redirects_rule_count(const struct site_redirects *r) {
    return r->count;
}

bool site_redirects_any_forced(const struct site_redirects *r) {
    return r->any_forced;
}

/* ---- asking ---- */

static bool applies(const struct site_redirect *rule, bool file_exists, bool navigation) {
    return (rule->forced || !file_exists) && (navigation || !rule->single_page);
}

const struct site_redirect *site_redirects_match(const struct site_redirects *r, struct slice path,
                                                 bool file_exists, bool navigation,
                                                 struct site_captures *ret_captures) {
    if (r->count == 0 || (file_exists && !r->any_forced))
        return NULL;
    uint32_t found = r->buckets[hash64(path, 0) & r->bucket_mask];
    while (found != UINT32_MAX && !(applies(&r->rules[found], file_exists, navigation) &&
                                    slice_equal(site_pattern_literal(&r->rules[found].from), path)))
        found = r->next[found];
    for (uint32_t i = 0; i < r->pattern_count && r->patterns[i] < found; i++) {
        const struct site_redirect *rule = &r->rules[r->patterns[i]];
        if (applies(rule, file_exists, navigation) &&
            site_pattern_match(&rule->from, path, ret_captures))
            return rule;
    }
    return found != UINT32_MAX ? &r->rules[found] : NULL;
}

void site_redirect_put_location(const struct site_redirect *rule,
                                const struct site_captures *captures, struct slice query,
                                struct buf *out) {
    CHECK(rule->status >= 300 && rule->status < 400);
    size_t start = out->size;
    site_template_expand(&rule->to, captures, SITE_EXPAND_URL, out);
    if (!rule->elsewhere) {
        /* "/:splat" of "/evil.example" must not become "//evil.example", another host. */
        size_t slashes = 0;
        while (start + slashes < out->size && out->data[start + slashes] == '/')
            slashes++;
        CHECK(slashes > 0);
        size_t rest = out->size - start - slashes;
        memmove(out->data + start + 1, out->data + start + slashes, rest);
        out->size = start + 1 + rest;
    }
    if (query.size > 0 && !rule->has_query) {
        buf_append_char(out, '?');
        url_put_query(out, query);
    }
    if (rule->has_fragment) {
        buf_append_char(out, '#');
        site_template_expand(&rule->fragment, captures, SITE_EXPAND_URL, out);
    }
}

bool site_redirect_put_path(const struct site_redirect *rule, const struct site_captures *captures,
                            struct buf *out) {
    CHECK(rule->status == 200 || rule->status == 404);
    size_t start = out->size;
    site_template_expand(&rule->to, captures, SITE_EXPAND_PATH, out);
    if (site_path_is_servable(slice_of(out->data + start, out->size - start), NULL))
        return true;
    out->size = start;
    return false;
}
