/* What `_headers` and `_redirects` have in common: lines, comments, errors with their place. */
#pragma once
#include "base/buf.h"

/* What is wrong in line `line` (from 1; 0: the file as a whole). The text is a sentence without its
 * full stop, without control characters, and lives until the call returns. */
typedef void (*site_error_fn)(void *ctx, uint32_t line, const char *text);

enum { SITE_ERRORS_MAX = 50 }; /* reported of one file; the last one says that there may be more */

struct site_rules {
    struct slice rest; /* what is left of the file */
    uint32_t line;     /* number of the line taken last */
    size_t line_bytes_max;
    site_error_fn fn;
    void *ctx;
    uint32_t error_count;
};

/* Begins to read a copy of `text`, a byte order mark at its beginning passed over. Lines and words
 * borrow from the copy, which is returned and is the caller's to free; its bytes may be changed. */
uint8_t *site_rules_begin(struct site_rules *r, struct slice text, size_t bytes_max,
                          size_t line_bytes_max, site_error_fn fn, void *ctx);
/* The next line that says something, without blanks around it: empty lines and those that begin
 * with
 * "#" are passed over. Lines that are too long or hold control characters are reported and passed
 * over. LF and CRLF end a line. False at the end, or when there were SITE_ERRORS_MAX errors. */
bool site_rules_next(struct site_rules *r, struct slice *ret_line);
/* Takes the next word off the front of a line: what stands before a blank. Empty at the end. */
struct slice site_rules_word(struct slice *line);
/* Reports an error in the line taken last, or in another one. */
void site_rules_error(struct site_rules *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void site_rules_error_at(struct site_rules *r, uint32_t line, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* The arguments for "%.*s" of bytes that a file holds, cut to a sensible length. They are lines
 * that site_rules_next() returned, so no control characters are in them. */
#define SITE_QUOTE(s) (int)((s).size < 80 ? (s).size : 80), (const char *)(s).data
/* Does the path belong to the server (/v1/, /_/), so that no site's rule is ever asked? */
bool site_rules_is_reserved(struct slice path);
