/* SHA-256 (FIPS 180-4): names of blocks of files, which whoever makes a file must not be able to
 * give to another one. For checks against chance base/hash.h is faster. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum { SHA256_BYTES = 32 };

struct sha256 {
    uint32_t h[8];
    uint64_t size; /* bytes taken */
    uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, struct slice bytes);
void sha256_final(struct sha256 *s, uint8_t ret_digest[SHA256_BYTES]);
/* All in one. */
void sha256_of(struct slice bytes, uint8_t ret_digest[SHA256_BYTES]);
/* 64 lower-case digits and a NUL. */
void sha256_to_hex(const uint8_t digest[SHA256_BYTES], char ret_hex[2 * SHA256_BYTES + 1]);
/* Exactly 64 digits of either case. */
bool sha256_from_hex(struct slice hex, uint8_t ret_digest[SHA256_BYTES]);
