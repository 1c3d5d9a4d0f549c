/* SHA-256, computed by libcrypto, which uses what the processor has for it. Any thread. */
#pragma once
#include "base/sha256.h"

void sha256_of(struct slice bytes, uint8_t ret_digest[SHA256_BYTES]);

/* In pieces. */
struct sha256;
struct sha256 *sha256_new(void);
void sha256_update(struct sha256 *s, struct slice bytes);
void sha256_end(struct sha256 *s, uint8_t ret_digest[SHA256_BYTES]); /* frees it */
