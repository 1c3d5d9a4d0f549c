/* Paths of a site: from the path of a request to the file that answers it.
 *
 * A *site path* begins with "/", is decoded, has no empty, "." or ".." segments (but may end in
 * "/") and no control characters. Files are named by site paths: /index.html, /blog/a.html. There
 * is no folder on any disk behind it, so nothing can be climbed out of; the rules are there so that
 * one file has one name, and so that patterns cannot be passed by writing a path differently.
 *
 * The request's path is refused, or becomes a site path:
 *   malformed % or %00              BAD      400
 *   a segment "." or "..", also as %2E   BAD  400: browsers resolve them before they ask
 *   %2F                             NONE     404: no name of a file holds a slash
 *   other control characters        NONE     404
 *   a segment that begins with "."  NONE     404: .git, .env; but the first one may be .well-known
 *   longer than SITE_PATH_BYTES_MAX NONE     404: no file has such a name
 *   several slashes in a row        one slash, as nginx does
 * Everything else is decoded and taken as it is: upper and lower case are different, and bytes need
 * not be UTF-8.
 *
 * Nothing here allocates; threads share nothing.
 */
#pragma once
#include "base/buf.h"

enum { SITE_PATH_BYTES_MAX = 1024 };
/* Longest path that resolving builds: a path with "index.html" or ".html" behind it. */
enum { SITE_PATH_BUFFER_BYTES = SITE_PATH_BYTES_MAX + 16 };

enum site_path_result { SITE_PATH_OK = 0, SITE_PATH_BAD = 400, SITE_PATH_NONE = 404 };

/* `raw` is the path of a request, not decoded, without its query. *ret_path borrows from `raw` when
 * there was nothing to change (the usual case: one look at each byte), else from `scratch`. */
enum site_path_result site_path_normalise(struct slice raw, uint8_t scratch[SITE_PATH_BUFFER_BYTES],
                                          struct slice *ret_path);
/* Is it a site path that may be served, by the rules above? For paths that a rule built, and for
 * the names of files before a deploy. When not, *ret_reason (unless NULL) is a static string that
 * goes behind the name: "has a control character". */
bool site_path_is_servable(struct slice path, const char **ret_reason);
/* Appends the path percent-encoded, with a "?" and the query behind it unless that is empty, for a
 * Location. The result begins with one slash. */
void site_path_put_url(struct slice path, struct slice query, struct buf *out);

/* The file for a path; the first that is there:
 *   /a/b/   ->  /a/b/index.html           FILE
 *               /a/b.html                 MOVED to /a/b
 *   /a/b    ->  /a/b                      FILE
 *               /a/b.html                 FILE   (clean URLs)
 *               /a/b/index.html           MOVED to /a/b/
 * else NOT_FOUND. MOVED is a redirect (308), so that relative links lead where they should. */
enum site_resolution { SITE_FILE, SITE_MOVED, SITE_NOT_FOUND };
typedef bool (*site_exists_fn)(void *ctx, struct slice path);
/* *ret_path is the file, or where to go; it borrows from `path` or `buffer`, and is not written for
 * NOT_FOUND. */
enum site_resolution site_path_resolve(struct slice path, site_exists_fn exists, void *ctx,
                                       uint8_t buffer[SITE_PATH_BUFFER_BYTES],
                                       struct slice *ret_path);
/* The same the other way round, for those who compile a table of all answers beforehand: calls fn
 * for each path that a file answers or redirects. Where two files claim a path, the lower rank
 * counts: a table filled by rank gives the same answers as site_path_resolve(). FILE: `file` is the
 * answer. MOVED: `to` is where to go. */
enum { SITE_ALIAS_EXACT = 0, SITE_ALIAS_HTML = 1, SITE_ALIAS_MOVED = 2 };
void site_path_each_alias(struct slice file,
                          void (*fn)(void *ctx, struct slice path, int rank, struct slice to),
                          void *ctx);

/* The nearest 404.html: in the folder of the path, then in each above it. False: there is none. */
bool site_path_find_404(struct slice path, site_exists_fn exists, void *ctx,
                        uint8_t buffer[SITE_PATH_BUFFER_BYTES], struct slice *ret_path);

/* Does a browser go to a page? The last segment has no dot in it, and `accept` (the Accept field's
 * value, NULL when there is none) names text/html or application/xhtml+xml with a weight above
 * zero. A script, an image, a fetch() ask for other types or for anything at all. */
bool site_path_is_navigation(struct slice path, const struct slice *accept);

/* Does the name hold a hash of the content, so that it can be cached for ever? main.3f2a91bc.js,
 * index-BkX3d9aQ.css, 0a1b2c3d4e5f6071.woff2. Careful, since a wrong yes cannot be taken back: the
 * hash is a run between "." or "-" before the extension, or (16 digits and more) the whole name; at
 * least 8 hexadecimal digits of one case with a letter and a digit among them, or exactly 8 letters
 * and digits that no word looks like (see site_path_hash.c). Never for pages. */
bool site_path_is_hashed(struct slice path);
/* The Cache-Control value that the file is served with unless `_headers` gives another one. Static.
 */
const char *site_path_cache_control(struct slice path);
