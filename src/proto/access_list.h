/* Patterns of keys, as tokens and _access files name them: a key, or the beginning of keys with a
 * "*" behind it. No other wildcards, so that it can be told for certain whether a pattern covers
 * *every* key with some prefix: that is what listings and watchers ask for.
 *
 * A pattern has 1 to 256 bytes without blanks and control characters; ? [ ] \ and a * before the
 * end are refused, so that nobody takes them for what they mean in KEYS. */
#pragma once
#include "base/buf.h"

enum { ACCESS_PATTERN_BYTES_MAX = 256, ACCESS_LIST_MAX = 64 };

/* Zeroed: empty, covers nothing. */
struct access_list {
    struct buf patterns; /* lstr each */
    uint32_t count;
};

bool access_pattern_ok(struct slice pattern);
/* Copies. False: malformed, or there are ACCESS_LIST_MAX already. */
bool access_list_add(struct access_list *l, struct slice pattern) WARN_UNUSED;
void access_list_fini(struct access_list *l);
bool access_list_has_key(const struct access_list *l, struct slice key);
/* Whether every key that begins with `prefix` is covered. */
bool access_list_has_prefix(const struct access_list *l, struct slice prefix);
/* Calls fn for each, in the order added; borrowed until it returns. */
void access_list_each(const struct access_list *l, void (*fn)(void *ctx, struct slice pattern),
                      void *ctx);
