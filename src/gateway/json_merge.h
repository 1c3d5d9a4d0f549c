/* JSON merge patch (RFC 7396). */
#pragma once
#include <jansson.h>
#include <stdbool.h>

/* Applies `patch` to `target` (borrows both; target may be NULL: nothing was there) and returns the
 * result, a new reference. The patch's members of value null delete. Recursion is as deep as the
 * patch. */
json_t *json_merge_patch(json_t *target, json_t *patch);
/* Whether objects and arrays lie in each other at most `levels` deep. */
bool json_within_depth(const json_t *value, unsigned levels);
