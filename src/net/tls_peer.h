/* TLS between the processes of one system: both ends show certificates that the same small
 * authority signed, and verify each other's. One object for both directions: the same files make a
 * server of a node's peer port, and a client of every process that connects to one.
 *
 *  - TLS 1.3 only, and no tickets: a connection never stands on what an earlier one has shown.
 *  - Who connects demands that the certificate is for the host that it connects to (RFC 9525).
 *  - ALPN says "cotidal", so that nothing else that trusts the authority can be taken for us.
 *  - Expiry is looked at in handshakes only; connections that stand go on.
 *
 * Threads: may be used by many at once; a stream belongs to its loop's. */
#pragma once
#include "net/tls.h"

struct tls_peer;

/* Files in PEM. ca_file may hold several authorities, for the time of a change from one to the
 * next. */
struct tls_peer_options {
    const char *cert_file, *key_file, *ca_file;
};
/* Copies the options. A negative errno, and why, when a file is not what it should be, or when
 * others with this authority would refuse the certificate for another reason than its time. */
int tls_peer_new(const struct tls_peer_options *options, struct tls_peer **ret_peer,
                 char error[TLS_ERROR_BYTES]) WARN_UNUSED;
/* All streams must be gone. */
void tls_peer_free(struct tls_peer *p);
/* Reads the same files again. When something is wrong with any of them nothing changes. (Should
 * they change between two looks at them, incoming and outgoing connections can differ until the
 * next reload; the result is then negative as well.) Connections that are there go on. */
int tls_peer_reload(struct tls_peer *p, char error[TLS_ERROR_BYTES]) WARN_UNUSED;
struct tls_certificate tls_peer_certificate(struct tls_peer *p);

/* Take the stream below, as tls_accept() and tls_connect() do. address: "host:port" that the stream
 * connects to. */
struct stream *tls_peer_accept(struct tls_peer *p, struct stream *below);
struct stream *tls_peer_connect(struct tls_peer *p, struct stream *below, const char *address,
                                tls_ready_fn ready, void *ctx);
/* In on_close, of any stream: in words why it was refused, by either side; "" when TLS has nothing
 * to do with its end (nobody listens there, say), or when one that connected to us went away. */
const char *tls_peer_refusal(const struct stream *s);
/* Whether the other end has shown a certificate for the host of "host:port". Of TLS streams. */
bool tls_peer_is_at(const struct stream *s, const char *address);
