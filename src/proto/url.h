/* URLs after RFC 3986: percent-decoding, query strings. */
#pragma once
#include "base/buf.h"

/* Decodes %XX; '+' stays. False on a "%" that is not followed by two hex digits; nothing appended
 * then. */
bool url_decode(struct buf *out, struct slice in);
/* Encodes all but unreserved characters; `keep` are further characters left as they are ("/" or
 * ""). */
void url_encode(struct buf *out, struct slice in, const char *keep);
/* Appends a query (or fragment) that is encoded already, as it was sent; only what no URL may hold
 * (RFC 3986) is encoded: controls, blanks, "<>\\^`{|}#" and bytes above 0x7E. */
void url_put_query(struct buf *out, struct slice query);
/* Finds a parameter of a query string ("a=1&b"), appended to `out` decoded ('+' is a space here).
 * Returns 1 found (empty when there is no "="), 0 not there, -1 malformed, that is this value, or a
 * name before it, is; nothing is appended but for 1. The first of that name counts. */
int url_query_get(struct slice query, const char *name, struct buf *out);
/* Calls fn for each name and value (still encoded) in order, empty ones ("a&&b") left out; for
 * rejecting unknown parameters. */
void url_query_each(struct slice query,
                    void (*fn)(void *ctx, struct slice name, struct slice value), void *ctx);
/* "30s" "500ms" "5m" "2h" "7d", or a plain number of seconds -> milliseconds. False when malformed
 * (whole numbers without sign or leading zeros only) or over 2^53. Zero is for the caller to judge.
 */
bool duration_parse_ms(struct slice in, uint64_t *ret_ms);
