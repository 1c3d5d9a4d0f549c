/* The value of an Idempotency-Key field (draft-ietf-httpapi-idempotency-key-header-06): a String of
 * RFC 8941 section 3.3.3, in quotes with \" and \\ as its only escapes. Without quotes, as most
 * clients send it, it is taken too when it consists of visible ASCII without " , ; and \\, so that
 * it cannot be mistaken for anything else; both forms of the same text are the same key. Parameters
 * are not accepted. */
#pragma once
#include "base/slice.h"

enum { IDEMPOTENCY_KEY_BYTES_MAX = 255 };

/* False: malformed, empty, or longer than IDEMPOTENCY_KEY_BYTES_MAX. `value` has no blanks around
 * it. */
bool idempotency_key_parse(struct slice value, uint8_t ret_key[IDEMPOTENCY_KEY_BYTES_MAX],
                           size_t *ret_size);
