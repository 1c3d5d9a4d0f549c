/* Links in the files of a site, so that broken ones can be named before a deploy.
 *
 * A tolerant scanner, no HTML parser: it knows tags, attributes, comments, and that what is between
 * <script> and its end is not HTML. It reports the values of
 *   href src poster data (of <object>) srcset imagesrcset, url() in style attributes and <style>
 * and, of style sheets, url() and @import. What scripts do is not seen. Character references
 * (&amp; and numbers) in attributes are decoded. The work is linear in the size of the file.
 *
 * site_link_resolve() then says which of them lead into the site, and to which site path.
 */
#pragma once
#include "proto/site_path.h"

enum { SITE_LINK_BYTES_MAX = 2048 }; /* longer ones (data: URLs, mostly) are not reported */

struct site_link {
    struct slice url; /* decoded, without blanks around it; until the call returns */
    uint32_t line;    /* from 1 */
    bool base;        /* the href of <base>: what comes after is relative to it */
};
typedef void (*site_link_fn)(void *ctx, const struct site_link *link);

void site_links_html(struct slice text, site_link_fn fn, void *ctx);
void site_links_css(struct slice text, site_link_fn fn, void *ctx);

enum site_link_result {
    SITE_LINK_INTERNAL = 0, /* *ret_path is a site path */
    SITE_LINK_OTHER,        /* another host or scheme, a fragment, /v1/ or /_/: nothing to check */
    SITE_LINK_BROKEN,       /* leads to nothing that a site can have: hidden names, %2F, bad % */
};
/* `page` is the site path of the file that the link is in; "" or "." of ".." are resolved as RFC
 * 3986 section 5.2 says, query and fragment cut off. *ret_path borrows from `buffer`. */
enum site_link_result site_link_resolve(struct slice page, struct slice url,
                                        uint8_t buffer[SITE_PATH_BUFFER_BYTES],
                                        struct slice *ret_path);
