/* What a node reaches of the world besides its disk: clock, randomness, other nodes, gateways,
 * helper threads. The real one is server/ with replica/transport.c; the simulator has its own, so
 * that the same code runs in both. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"

/* Work for a helper thread: fn runs there, done afterwards on the node's thread. Embedded in the
 * caller's. */
struct background_job {
    int (*fn)(void *arg);
    void *arg;
    void (*done)(void *arg, int status);
    struct list node; /* the environment's */
    int status;
};

struct replica_env_ops {
    uint64_t (*now_ms)(void *env);  /* monotonic; the same at each call within one event */
    uint64_t (*wall_ms)(void *env); /* Unix time; may jump */
    void (*random)(void *env, void *out, size_t size);
    /* Sends a frame to another node, in order with earlier ones to it; connects when there is no
     * connection. Frames may be lost, as when a connection breaks; never reordered or repeated. The
     * bytes are copied. */
    void (*peer_send)(void *env, uint64_t id, const char *address, struct slice frame);
    /* The same, but it may wait for peer_flush(), or the next frame to the same node: so that
     * several go out together. Both NULL: peer_send() is as good. */
    void (*peer_send_later)(void *env, uint64_t id, const char *address, struct slice frame);
    void (*peer_flush)(void *env);
    /* Frames to a gateway. The bytes are copied or written. */
    void (*link_send)(void *env, void *handle, struct slice frames);
    /* Bytes sent there that the gateway has not taken yet. */
    size_t (*link_pending_bytes)(void *env, void *handle);
    void (*link_close)(void *env, void *handle); /* no node_link_closed() follows */
    /* Bytes free on the disk that holds the data folder; NULL: not known. */
    uint64_t (*free_bytes)(void *env);
    void (*background)(void *env, struct background_job *job);
    /* A local failure (G7) or a broken promise: the process must end now, acknowledging nothing
     * more. */
    void (*fatal)(void *env, const char *reason);
};
