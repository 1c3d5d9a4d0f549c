/* The TLS of a process: from the options --cert and --key to a tls_server for its clients, from
 * --peer-cert, --peer-key and --peer-ca to a tls_peer for other processes of the system; their
 * reloading, and warnings before a certificate expires. On the main thread. */
#pragma once
#include "net/loop.h"
#include "net/tls_peer.h"
#include "server/options.h"

struct tls_setup {
    struct tls_server *server; /* NULL: no listener needs it */
    struct tls_peer *peer;     /* NULL: plain */
    struct loop *loop;
    struct timer *timer;
};

/* False: the options do not go together, or a file is not what it should be; stderr says which. */
bool tls_setup_init(struct tls_setup *t, const struct server_options *o);
/* Says in the log what is there, and from now on, twice a day, what is about to expire. */
void tls_setup_watch(struct tls_setup *t, struct loop *loop);
/* Reads the files again, and says in the log how that went. */
void tls_setup_reload(struct tls_setup *t);
/* All other threads have ended, the loop is still there. */
void tls_setup_fini(struct tls_setup *t);
