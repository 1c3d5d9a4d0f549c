/* Which content coding to answer with (RFC 9110 section 12.5.3): Accept-Encoding against what a
 * file is there in.
 *
 * The highest weight wins; of equal ones br before gzip before identity. identity is always
 * acceptable unless "identity;q=0" or "*;q=0" without an identity of its own says otherwise, but
 * when it is not named, everything that is named goes before it. "*" is whatever is not named. A
 * name that comes twice counts with its higher weight; "x-gzip" is gzip. What is malformed in a
 * list is passed over up to the next comma. Without the field the answer is identity: a client that
 * does not say that it can decode may not be able to.
 */
#pragma once
#include "proto/http1.h"

enum http_encoding {
    HTTP_ENCODING_IDENTITY,
    HTTP_ENCODING_GZIP,
    HTTP_ENCODING_BR,
    HTTP_ENCODING_COUNT,
};

/* `available` has bit 1 << e for each encoding e that there is. Returns an enum http_encoding, or
 * -1 when nothing that is there is acceptable: 406. One pass over the head's fields. */
int http_encoding_choose(const struct http_head *head, unsigned available);
/* The same for the value of a single field. */
int http_encoding_choose_value(struct slice value, unsigned available);
/* "gzip", "br"; NULL for identity. */
const char *http_encoding_name(enum http_encoding e);
/* What a file's name ends in when it is that encoding of another: ".gz", ".br"; "" for identity. */
const char *http_encoding_suffix(enum http_encoding e);
