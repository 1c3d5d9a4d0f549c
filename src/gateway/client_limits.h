/* Limits by a client's address: how many connections it may have, and how many HTTP requests a
 * second. Shared by all gateway threads of a process: every function may be called from any thread.
 *
 * An address is an IPv4 address, or the first 64 bits of an IPv6 address (what one customer gets).
 * Behind a proxy all clients have the proxy's.
 *
 * Connections are counted exactly. Rates are a virtual queue for each address (the generic cell
 * rate algorithm, ITU-T I.371): one time stamp, `due`, moves on by 1/rate with each request, and a
 * request is refused while `due` is more than the burst ahead. An address whose `due` has passed is
 * like one that was never seen, so that the table needs no clean-up: it has 65,536 places in sets
 * of eight, and a new address takes the place of the one that would be forgotten first. Whoever
 * comes from more addresses than that can be limited less, never more.
 *
 * The hash is seeded, so that nobody can choose addresses that meet in one set.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct client_limits_options {
    uint32_t connections_max; /* of the process: bounds the table */
    uint32_t per_address_max; /* connections of one address; 0: no limit */
    uint32_t rate_per_s;      /* requests of one address; 0: no limit */
    uint32_t rate_burst;      /* at once, of an address that was silent; 0: as rate_per_s */
};

struct client_limits;
struct client_limits *client_limits_new(const struct client_limits_options *o, uint64_t seed);
void client_limits_free(struct client_limits *l);

/* `ip` is 16 bytes (stream_peer_ip()); NULL, where there is no address, is never limited. */

/* A connection begins; false: it has too many. Each true needs a client_limits_leave(). */
bool client_limits_enter(struct client_limits *l, const uint8_t *ip);
void client_limits_leave(struct client_limits *l, const uint8_t *ip);
/* A request; false: too soon, *ret_wait_ms says when the next one would be taken. */
bool client_limits_request(struct client_limits *l, const uint8_t *ip, uint64_t now_ms,
                           uint32_t *ret_wait_ms);

struct site_access;
/* One for each rule with a rate (proto/site_access.h), NULL for the others: an array of rule_count;
 * who frees it frees them. */
struct client_limits **client_limits_of_rules(const struct site_access *rules);

/* "N/s" or "N/s,BURST", N and BURST from 1 to 1,000,000. */
bool client_limits_parse_rate(struct slice text, uint32_t *ret_rate, uint32_t *ret_burst);
