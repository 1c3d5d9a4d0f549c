/* What a site answers to a request: which file, which fields, which bytes. Sans-I/O, and without
 * knowing the version of HTTP; site_serve.c sends it.
 *
 * The order: a rule of _redirects that is forced; the file; a rule of _redirects; a file of an
 * earlier deploy when its name says what is in it (an open page of then may ask for it); the
 * nearest 404.html.
 *
 * Fields of a file: ETag (strong, another one for each encoding), Last-Modified, Cache-Control,
 * Accept-Ranges, Vary where there is more than one encoding; then those of _headers. Conditions,
 * ranges (RFC 9110 sections 13 and 14). Short texts (400, 404, 406, 412, 416) have none of them and
 * are not kept by caches.
 */
#pragma once
#include "gateway/sites.h"
#include "proto/http1.h"
#include "proto/http_range.h"

struct site_segment {
    bool literal;        /* of `texts`, else of the variant */
    uint64_t from, size; /* bytes */
};

struct site_answer {
    int status;
    struct buf fields; /* for each: lstr name, lstr value */
    struct buf type;   /* Content-Type; empty: the answer has no content */
    struct buf texts;
    uint64_t length; /* of the content */
    size_t segment_count;
    struct site_segment segments[2 * HTTP_RANGES_MAX + 1];
    struct site_deploy *deploy;         /* that has the file; not referenced */
    const struct site_variant *variant; /* NULL: nothing but texts */
    struct site_entry *entry;           /* of the file; NULL with another status than 200 */
    bool whole;                         /* all of the file, status 200 */
    bool direct;                        /* by its own name: no rule led there */
    bool html;                          /* a page: the visitor is told the number of the switch */
    bool by_accept;                     /* for others, which accept something else, it is another */
    bool plain;                         /* without the server's own X-Content-Type-Options */
};

void site_answer_make(struct site_answer *a, const struct site *site, struct site_deploy *shown,
                      const struct http_head *head, uint64_t now_s);
void site_answer_fini(struct site_answer *a);
/* The fields of a file that is answered in full, as HTTP/1.1 writes them, with the empty line. */
void site_answer_put_head(const struct site_answer *a, struct buf *out);
void site_answer_field(struct site_answer *a, const char *name, struct slice value);
/* No cache is to have it, whatever the site says: others, and this visitor later, see another
 * deploy at the same address. */
void site_answer_keep_nowhere(struct site_answer *a);
