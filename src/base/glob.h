/* Patterns as in Redis's KEYS and MATCH: `*` any run of bytes, `?` any byte, `[abc]` `[a-z]` `[^a]`
 * one byte of a class, `\` takes the next byte as it is. A class without its end reaches to the end
 * of the pattern. Case-sensitive, bytes not characters.
 *
 * The work is bounded by the product of both sizes, whatever the pattern: only the last `*` that
 * was passed is ever tried again.
 */
#pragma once
#include "base/slice.h"

bool glob_match(struct slice pattern, struct slice text);
/* The bytes that every match begins with: the pattern up to its first special byte. Borrows from
 * the pattern. */
struct slice glob_literal_prefix(struct slice pattern);
