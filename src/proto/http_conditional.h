/* Conditional requests for a file (RFC 9110 section 13), and dates (section 5.6.7).
 *
 * The order is that of section 13.2.2: If-Match, or else If-Unmodified-Since; then If-None-Match,
 * or else If-Modified-Since; Range and If-Range come after that and only for GET. Dates that do not
 * parse are ignored, as are those of a file that has none. A list that is broken ends where it is
 * broken: what stands before counts. Fields that come more than once are one list (entity tags) or
 * are ignored (dates).
 */
#pragma once
#include "proto/http1.h"

struct http_validators {
    struct slice etag;        /* strong, with its quotes: "..."; of the encoding that is chosen */
    uint64_t last_modified_s; /* unix time; 0 when there is none */
};

enum http_precondition {
    HTTP_PRECONDITION_HOLDS = 0, /* go on: 200 or 206 */
    HTTP_NOT_MODIFIED = 304,     /* GET and HEAD */
    HTTP_PRECONDITION_FAILED = 412,
};

/* One pass over the head's fields. `now_s` decides what a two-digit year means. */
enum http_precondition http_conditional_check(const struct http_head *head,
                                              const struct http_validators *v, uint64_t now_s);
/* May the Range field be followed? True without If-Range, too. An entity tag is compared strongly.
 * A date holds when it is the file's exactly, and the file's is more than a second before `now_s`,
 * as a validator by date must be to be strong (section 8.8.2.2). */
bool http_if_range_holds(const struct http_head *head, const struct http_validators *v,
                         uint64_t now_s);

/* Is `etag` (strong, with quotes) in the list of entity tags of a field's value? "*" is every one.
 * `weak_too`: by weak comparison (If-None-Match), else a weak tag in the list equals nothing. */
bool http_etag_in_list(struct slice list, struct slice etag, bool weak_too);

/* All three forms: "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
 * "Sun Nov  6 08:49:37 1994". Strict: names in their case, digits in their places, days that the
 * month has; the day of the week must be one, but need not fit. A second of 60 is taken as the next
 * minute. A two-digit year is the latest that is not more than 50 years after `now_s`. False before
 * 1970. Written with http_format_date() (proto/http1.h). */
bool http_parse_date(struct slice in, uint64_t now_s, uint64_t *ret_unix_s);
