// The `_redirects` file of a site: one rule a line, the first one that matches counts.
//
//     # from            to                          status (301 when not given)
//     /old              /new
//     /blog/*           /news/:splat                302
//     /shop/:id         https://shop.example/:id    308
//     /beta/*           /soon.html                  200!
//     /de/*             /de/404.html                404
//     /*                /index.html                 200
//
// 301, 302, 303, 307, 308 send the client elsewhere: to a path of this site or to an http(s) URL
// whose host is written out (no placeholder can choose the host). 200 and 404 answer with the file
// `to` of this site under the URL that was asked for; no rule is looked for again. A rule applies
// where the site has no file, one with "!" also where it has. A 200 rule without "!" whose `from`
// has a star and whose `to` is a page (ends in ".html" or "/") is a *single-page fallback*: it
// applies to navigations only (site_path_is_navigation), so a missing script is a 404, never HTML.
//
// The query of a request goes along with a redirect unless `to` has one of its own. What a
// placeholder captured is percent-encoded in a Location; a Location that is a path begins with
// exactly one slash and holds no backslash, so no request can turn it into another host.
//
// Not there, each with an error that says so: other hosts for 200 (proxying), conditions
// (Country=, Language=, Role=), query parameters before `to`, rules for one host.
//
// A parsed file is immutable and may be read by many threads at once. Literal rules are found by
// hash; the others are tried in order, so their number is bounded separately.
#pragma once
#include "proto/site_pattern.h"
#include "proto/site_rules.h"

enum {
    SITE_REDIRECTS_BYTES_MAX = 1024 * 1024, /* of the file */
    SITE_REDIRECTS_LINE_BYTES_MAX = 2000,
    SITE_REDIRECTS_RULES_MAX = 4000,
    SITE_REDIRECTS_PATTERNS_MAX = 200, /* of them with a star or a placeholder */
    SITE_REDIRECTS_HOPS_MAX = 10,      /* redirects in a row, for the search for loops */
};

struct site_redirects;

struct site_redirect {
    uint32_t line; /* from 1 */
    int status;
    bool forced;       /* "!" */
    bool single_page;  /* applies to navigations only */
    bool elsewhere;    /* `to` is a URL of another host */
    bool has_query;    /* `to` has a query */
    bool has_fragment; /* `to` has a fragment */
    struct site_pattern from;
    struct site_template to;       /* up to the fragment */
    struct site_template fragment; /* without its "#" */
};

/* Copies what it needs of `text`. NULL when there were errors: each was reported to `fn` (may be
 * NULL), in the order of lines. */
struct site_redirects *site_redirects_parse(struct slice text, site_error_fn fn,
                                            void *ctx) WARN_UNUSED;
void site_redirects_free(struct site_redirects *r); /* NULL is nothing */
size_t site_redirects_rule_count(const struct site_redirects *r);
/* False: no rule can apply where a file is, so there is nothing to ask. */
bool site_redirects_any_forced(const struct site_redirects *r);

/* The rule for a normalised path, or NULL. `file_exists`: the site answers this path by itself
 * (site_path_resolve found something); only rules with "!" apply then. `navigation`: see above.
 * Does not allocate. The rule borrows from r, the captures from path. */
const struct site_redirect *site_redirects_match(const struct site_redirects *r, struct slice path,
                                                 bool file_exists, bool navigation,
                                                 struct site_captures *ret_captures);
/* Status 3xx: appends the value of Location. `query` is that of the request, without "?", as sent;
 * bytes in it that a Location cannot hold are encoded. */
void site_redirect_put_location(const struct site_redirect *rule,
                                const struct site_captures *captures, struct slice query,
                                struct buf *out);
/* Status 200 and 404: appends the site path to look for. False, and nothing appended: what was
 * captured makes no path that a site can have, answer 404. */
bool site_redirect_put_path(const struct site_redirect *rule, const struct site_captures *captures,
                            struct buf *out);

/* Follows what each redirect leads to, through the other rules, with a sample for what a
 * placeholder captures: a chain that comes back to where it was, or that is longer than
 * SITE_REDIRECTS_HOPS_MAX, is reported to fn with the line that it began in. `exists`: does the
 * site answer this path by itself? (Rules without "!" do not apply there.) NULL: it has no files.
 * Returns the number of chains reported. */
size_t site_redirects_find_loops(const struct site_redirects *r,
                                 bool (*exists)(void *ctx, struct slice path), void *exists_ctx,
                                 site_error_fn fn, void *ctx);
/* Calls fn for each file that a rule with 200 or 404 leads to and that has no placeholder in it, so
 * that a check before a deploy can say which are not there. */
void site_redirects_each_file(const struct site_redirects *r,
                              void (*fn)(void *ctx, uint32_t line, struct slice path), void *ctx);
