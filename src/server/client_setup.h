/* What the options say about clients: limits, time limits, the access log. Made once at the start,
 * used for every gateway thread, ended behind them. */
#pragma once
#include "gateway/access_log.h"
#include "gateway/gateway.h"
#include "server/access_writer.h"
#include "server/options.h"

enum { CLIENT_THREADS_MAX = 256 };

struct client_setup {
    struct gateway_options gateway; /* what is the same for all threads */
    uint64_t connections_max;       /* clients that this process can hold */
    struct client_limits *limits;
    struct access_writer *writer; /* NULL: no access log */
    struct access_log logs[CLIENT_THREADS_MAX];
};

/* Raises the limit on open files as far as it goes; returns what it is then. */
uint64_t descriptor_limit_raise(void);
/* False: an option makes no sense, or the access log cannot be opened; stderr says which. */
bool client_setup_init(struct client_setup *c, const struct server_options *o, size_t threads);
/* The options of one gateway thread. */
struct gateway_options client_setup_gateway(struct client_setup *c, size_t thread);
/* The gateway threads have ended. */
void client_setup_fini(struct client_setup *c);
