/* A gateway on a real loop: listening sockets, clocks, the turn's end, the sweep once a second.
 * Everything runs on the loop's thread. */
#pragma once
#include "gateway/gateway.h"
#include "net/tcp.h"

struct gateway_net;

struct gateway_net_options {
    const char *http_address; /* "host:port"; NULL: no such listener; copied */
    const char *redis_address;
    int backlog; /* 0: 1,024 */
};

/* Borrows the loop until gateway_net_stop(). Listens (SO_REUSEPORT, so that every gateway thread
 * has a socket of its own on the same port) and calls gateway_turn_end() and gateway_sweep() from
 * now on. Negative errno when an address cannot be parsed (-EINVAL) or bound. */
int gateway_net_new(struct loop *l, struct gateway *gw, const struct gateway_net_options *options,
                    struct gateway_net **ret_net) WARN_UNUSED;
/* The ports really bound (they matter when port 0 was asked for); 0: no such listener. */
uint16_t gateway_net_http_port(const struct gateway_net *n);
uint16_t gateway_net_redis_port(const struct gateway_net *n);
/* Stops listening and closes what is idle; `drained` is called on the loop once, when the last
 * connection is gone or time_limit_ms is over. */
void gateway_net_drain(struct gateway_net *n, uint32_t time_limit_ms, void (*drained)(void *ctx),
                       void *ctx);
/* Closes listeners and timers; the gateway is not called any more. Before gateway_free(). */
void gateway_net_stop(struct gateway_net *n);
void gateway_net_free(struct gateway_net *n);

/* Clocks of the machine, for gateway_new(). */
extern const struct gateway_env gateway_real_env;
