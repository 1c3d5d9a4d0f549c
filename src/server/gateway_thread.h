/* One gateway thread of a process: its loop, its listeners, its links to the database nodes.
 *
 * With a loop of somebody else's it is no thread of its own, but part of the one that runs that
 * loop: the replica thread, in a process that has one thread for clients. Then a request needs no
 * wake-up of another thread on its way to the node and back.
 */
#pragma once
#include "gateway/gateway_net.h"
#include "gateway/upstream_net.h"

struct gateway_thread;

struct gateway_thread_options {
    struct gateway_options gateway;
    struct gateway_net_options net;
    struct upstream_net_options upstream;
    struct gateway_shared *shared;
    struct loop *loop; /* NULL: one of its own. It must run until gateway_thread_free(). */
};

/* Binds the listeners; negative errno. The thread is not running yet. */
int gateway_thread_new(const struct gateway_thread_options *o,
                       struct gateway_thread **ret) WARN_UNUSED;
uint16_t gateway_thread_http_port(const struct gateway_thread *t);
uint16_t gateway_thread_redis_port(const struct gateway_thread *t);
void gateway_thread_start(struct gateway_thread *t, int number);
/* Any thread: begins to stop; clients get the answers they wait for, within time_limit_ms. */
void gateway_thread_drain(struct gateway_thread *t, uint32_t time_limit_ms);
/* Waits until it has stopped, and frees it. */
void gateway_thread_free(struct gateway_thread *t);
