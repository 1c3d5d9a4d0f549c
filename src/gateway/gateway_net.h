/* A gateway on a real loop: listening sockets, clocks, the turn's end, the sweep once a second.
 * Everything runs on the loop's thread. */
#pragma once
#include "gateway/gateway.h"
#include "net/tcp.h"
#include "net/tls.h"

struct gateway_net;

enum gateway_port {
    GATEWAY_HTTP,
    GATEWAY_REDIS,
    GATEWAY_HTTPS, /* the same over TLS */
    GATEWAY_REDISS,
    GATEWAY_PORT_COUNT,
};

struct gateway_net_options {
    const char *addresses[GATEWAY_PORT_COUNT]; /* "host:port"; NULL: no such listener; copied */
    struct tls_server *tls;                    /* for the last two; borrowed as long as the loop */
    int backlog;                               /* 0: 4,096 */
};

/* Borrows the loop until gateway_net_stop(). Listens (SO_REUSEPORT, so that every gateway thread
 * has a socket of its own on the same port) and calls gateway_turn_end() and gateway_sweep() from
 * now on. Negative errno when an address cannot be parsed (-EINVAL) or bound. */
int gateway_net_new(struct loop *l, struct gateway *gw, const struct gateway_net_options *options,
                    struct gateway_net **ret_net) WARN_UNUSED;
/* The port really bound (it matters when port 0 was asked for); 0: no such listener. */
uint16_t gateway_net_port(const struct gateway_net *n, enum gateway_port which);
/* Stops listening and closes what is idle; `drained` is called on the loop once, when the last
 * connection is gone or time_limit_ms is over. */
void gateway_net_drain(struct gateway_net *n, uint32_t time_limit_ms, void (*drained)(void *ctx),
                       void *ctx);
/* Closes listeners and timers; the gateway is not called any more. Before gateway_free(). */
void gateway_net_stop(struct gateway_net *n);
void gateway_net_free(struct gateway_net *n);

/* The clocks of a loop, for gateway_new(): milliseconds are those of the turn. */
struct gateway_env gateway_net_env(struct loop *l);
