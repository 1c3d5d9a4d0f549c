// The `_headers` file of a site: which fields its answers carry.
//
//     # a comment
//     /assets/*
//       Access-Control-Allow-Origin: *
//       ! X-Content-Type-Options
//     /blog/:slug
//       X-Post: :slug
//
// A line that begins with "/" is a pattern (proto/site_pattern.h); the lines below it, indented by
// custom, are the fields of every path that it matches. All rules that match apply, in the order of
// the file. A name that is given again is sent again, which means a list (RFC 9110 section 5.3); `!
// Name` takes back what earlier lines gave, and what the server would send by itself. A field that
// is given takes the place of the server's own. :name and :splat in a value become what the pattern
// captured, percent-encoded so that no request can put anything but itself there.
//
// Vary is only ever added to. Fields that frame the message, that say what the server knows better,
// or that belong to one connection or one visitor are refused (site_header_is_refused).
//
// A parsed file is immutable and may be read by many threads at once.
#pragma once
#include "proto/site_pattern.h"
#include "proto/site_rules.h"

enum {
    SITE_HEADERS_BYTES_MAX = 256 * 1024, /* of the file */
    SITE_HEADERS_LINE_BYTES_MAX = 2000,
    SITE_HEADERS_RULES_MAX = 256,
    SITE_HEADERS_FIELDS_MAX = 1024, /* of the file, `!` included */
};

struct site_headers;

/* Copies what it needs of `text`. NULL when there were errors: each was reported to `fn` (may be
 * NULL), in the order of lines. An empty file is a file without rules. */
struct site_headers *site_headers_parse(struct slice text, site_error_fn fn, void *ctx) WARN_UNUSED;
void site_headers_free(struct site_headers *h); /* NULL is nothing */
size_t site_headers_rule_count(const struct site_headers *h);

/* The rules that hold for one path. Borrows h; does not allocate. */
struct site_headers_match {
    const struct site_headers *headers;
    uint64_t rules[SITE_HEADERS_RULES_MAX / 64];
    bool any;
};
void site_headers_match(const struct site_headers *h, struct slice path,
                        struct site_headers_match *ret);
/* True when the server's own field of that name is not to be sent: the site gives or takes back
 * that field. */
bool site_headers_overrides(const struct site_headers_match *m, const char *name);
/* Calls fn for each field to send, in the order of the file; the same name may come repeatedly.
 * `path` is that of the match. `name` borrows from h, `value` from h or from `scratch`, and only
 * until fn returns. Values hold no CR, LF or NUL and can be sent as they are. */
void site_headers_each(const struct site_headers_match *m, struct slice path, struct buf *scratch,
                       void (*fn)(void *ctx, struct slice name, struct slice value), void *ctx);

/* May a site not give this field? Without case. */
bool site_header_is_refused(struct slice name);
