/* SHA-256 (FIPS 180-4) as a name: of blocks of files, which whoever makes a file must not be able
 * to give to another one, and of secrets. net/sha256.h computes it. For checks against chance
 * base/hash.h is faster. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { SHA256_BYTES = 32 };

/* 64 lower-case digits and a NUL. */
void sha256_to_hex(const uint8_t digest[SHA256_BYTES], char ret_hex[2 * SHA256_BYTES + 1]);
/* Exactly 64 digits of either case. */
bool sha256_from_hex(struct slice hex, uint8_t ret_digest[SHA256_BYTES]);
