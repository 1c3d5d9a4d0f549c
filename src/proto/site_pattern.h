/* Path patterns of `_headers` and `_redirects`, and the texts that what they captured is put into.
 *
 * A pattern begins with "/" and is held against a normalised site path (proto/site_path.h), byte by
 * byte, from end to end:
 *   *      any run of bytes, "/" and the empty one included; once in a pattern, its name is "splat"
 *   :name  one whole segment, at least a byte, no "/": /blog/:year/:slug
 *   %XX    the byte itself, also where it would be special (%2A is a star and no wildcard)
 * A pattern that ends in "/" and a star matches the folder without its slash as well: what is said
 * of /docs/ and all below it holds for /docs. A colon is special at the beginning of a segment
 * only.
 *
 * Matching neither allocates nor goes back: it is linear in the path. Compiled forms are immutable
 * and may be read by many threads at once.
 */
#pragma once
#include "base/buf.h"

enum {
    SITE_PLACEHOLDERS_MAX = 8, /* of a pattern, its star included */
    SITE_PLACEHOLDER_BYTES_MAX = 32,
    SITE_TEMPLATE_USES_MAX = 16, /* placeholders in one text, repeated ones counted */
};

struct site_token {
    struct slice text; /* a literal, when placeholder is negative */
    int placeholder;   /* index of what is captured or put */
};

/* prefix tokens, then at most one star, then suffix tokens. */
struct site_pattern {
    struct site_token *tokens;
    uint32_t count;
    uint32_t star; /* index of the star's token; == count when there is none */
    uint32_t name_count;
    struct slice names[SITE_PLACEHOLDERS_MAX]; /* in the order in which they stand */
};

/* What the placeholders stood for; borrows from the path. */
struct site_captures {
    struct slice values[SITE_PLACEHOLDERS_MAX];
};

/* Decodes `text` in place and borrows it for the pattern's life. 0, or 1 with *ret_reason, a static
 * string, and nothing to free. */
int site_pattern_compile(struct site_pattern *p, uint8_t *text, size_t size,
                         const char **ret_reason) WARN_UNUSED;
void site_pattern_fini(struct site_pattern *p);
/* No placeholder and no star: it matches one path, which is site_pattern_literal(). */
bool site_pattern_is_literal(const struct site_pattern *p);
struct slice site_pattern_literal(const struct site_pattern *p);
bool site_pattern_match(const struct site_pattern *p, struct slice path, struct site_captures *ret);
/* Appends a path that the pattern matches, every placeholder filled with `filler`. */
void site_pattern_put_sample(const struct site_pattern *p, struct slice filler, struct buf *out);

/* A text with :name and :splat in it. */
struct site_template {
    struct site_token *tokens;
    uint32_t count;
    uint32_t use_count; /* placeholders put */
};

/* What becomes of captured bytes. */
enum site_expand {
    SITE_EXPAND_PATH,  /* as they are: the result is a site path */
    SITE_EXPAND_URL,   /* percent-encoded: all but what a path may hold, in a query more */
    SITE_EXPAND_VALUE, /* percent-encoded, all but unreserved characters and "/" */
};

/* Borrows `text` for the template's life. A :name that the pattern lacks is an error when `strict`
 * and text otherwise. 0, or 1 with *ret_reason and nothing to free. */
int site_template_compile(struct site_template *t, struct slice text, const struct site_pattern *p,
                          bool strict, const char **ret_reason) WARN_UNUSED;
void site_template_fini(struct site_template *t);
void site_template_expand(const struct site_template *t, const struct site_captures *captures,
                          enum site_expand how, struct buf *out);
