/* The _access file of a site: what a visitor without a token may do over HTTP. One rule a line;
 * what no rule names is refused.
 *
 *   # a comment
 *   read    public:* news:today
 *   write   feedback:*          rate=2/s,10
 *   incr    likes:*             rate=5/s
 *   session                     rate=5/s
 *
 *   read     GET of a key; listings and watches of what a pattern covers as a whole
 *   write    PUT, DELETE and increments. It does not include reading.
 *   incr     POST /v1/incr
 *   session  /v1/session
 *
 * The first rule of a kind that covers the key counts. rate: requests under this rule of one
 * visitor's address, as in --rate-limit.
 *
 * Parsed whole, without I/O. At most 64 KiB, 64 rules, of them 16 with a rate. */
#pragma once
#include "proto/access_list.h"

enum { SITE_ACCESS_BYTES_MAX = 64 * 1024, SITE_RULES_MAX = 64, SITE_RATES_MAX = 16 };
enum site_verb { SITE_READ, SITE_WRITE, SITE_INCR, SITE_SESSION };

struct site_rule {
    enum site_verb verb;
    struct access_list keys;
    uint32_t rate_per_s, rate_burst; /* 0: no limit; the burst of one second */
};

struct site_access {
    size_t rule_count;
    struct site_rule rules[SITE_RULES_MAX];
};

enum { SITE_ACCESS_ERROR_BYTES = 160 };
/* Fills a zeroed struct; false with "line N: ..." in `error`, and nothing is left to free. */
bool site_access_parse(struct slice text, struct site_access *ret,
                       char error[SITE_ACCESS_ERROR_BYTES]) WARN_UNUSED;
void site_access_fini(struct site_access *a);
/* The rule that allows it, or NULL. */
const struct site_rule *site_access_key(const struct site_access *a, enum site_verb verb,
                                        struct slice key);
/* Reading all keys with that prefix. */
const struct site_rule *site_access_prefix(const struct site_access *a, struct slice prefix);
const struct site_rule *site_access_session(const struct site_access *a);

/* "N/s" or "N/s,BURST", N and BURST from 1 to 1,000,000; without BURST it is 0. */
bool rate_parse(struct slice text, uint32_t *ret_rate, uint32_t *ret_burst);
