/* What site_redirects.c and site_redirects_check.c share. */
#pragma once
#include "proto/site_redirects.h"

struct site_redirects {
    uint8_t *text; /* rules borrow from it */
    struct site_redirect *rules;
    uint32_t count;
    bool any_forced;
    /* Rules with placeholders, in their order. */
    uint32_t patterns[SITE_REDIRECTS_PATTERNS_MAX];
    uint32_t pattern_count;
    /* Literal rules by the hash of their path; each chain in the order of the rules. */
    uint32_t *buckets;
    uint32_t *next;
    uint32_t bucket_mask;
};
