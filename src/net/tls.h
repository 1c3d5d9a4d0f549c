/* TLS 1.2 and 1.3 (RFC 8446, 5246) as a layer on any struct stream: the bytes of the stream below
 * are records, those of the stream above what is in them. OpenSSL's headers are included in net/
 * only.
 *
 *   tls_server (files, tickets)          handler (a connection of the gateway)
 *        |                                     |  struct stream: on_read, write, ...
 *        +------> tls_accept() ----------> tls stream
 *   tls_client -> tls_connect()                |  struct stream
 *                                        TCP, or a fake
 *
 * Streams follow net/stream.h. What TLS adds:
 *  - What is written before the handshake is done is kept and sent then. `ready` says that it is
 *    done; no on_read comes before. A handshake that fails is an on_close with -EPROTO.
 *  - One on_read below is one on_read above in general, so a pause holds what comes after.
 *  - Plain bytes wait until the stream below has room and are encrypted then, a piece at a time.
 *  - close_notify from the peer is on_eof. An end without it is an error (-EPROTO), since somebody
 *    on the way could have cut the rest off.
 *  - Renegotiation and early data are refused, compression is off.
 *  - Between records an idle stream owns no record buffers.
 *
 * Threads: a tls_server and a tls_client may be used by many threads at once; a stream belongs to
 * its loop's. Failures that say why do so in `error`, in words for people. */
#pragma once
#include "net/loop.h"
#include "net/stream.h"

enum {
    TLS_ERROR_BYTES = 512,
    TLS_PAIRS_MAX = 16,
    TLS_NAMES_BYTES = 256,
    /* Tickets are good for so long, and the key that they are encrypted with is made anew as often;
     * the one before is still taken. */
    TLS_TICKET_S = 12 * 3600,
};

/* ---- servers ---- */

struct tls_server;

/* Files in PEM: the certificate with its chain behind it, and its key (without a passphrase). */
struct tls_pair {
    const char *cert_file;
    const char *key_file;
};

struct tls_server_options {
    const struct tls_pair *pairs; /* 1 to TLS_PAIRS_MAX; the first is for clients without SNI, or
                                     with a name that none has */
    size_t pair_count;
    const char *client_ca_file; /* clients must show a certificate that one of these signed; NULL:
                                   none is asked for */
    bool strict;                /* TLS 1.3 only, and no tickets: every connection is verified */
};

/* Copies the options. Reads the files; a negative errno, and why, when one is missing, malformed,
 * or a key is not the certificate's. */
int tls_server_new(const struct tls_server_options *options, struct tls_server **ret_server,
                   char error[TLS_ERROR_BYTES]) WARN_UNUSED;
/* All streams must be gone. */
void tls_server_free(struct tls_server *s);
/* Reads the same files again. When something is wrong with any of them nothing changes, and the
 * result is a negative errno. Connections that are there go on with what they have; tickets stay
 * good. */
int tls_server_reload(struct tls_server *s, char error[TLS_ERROR_BYTES]) WARN_UNUSED;
/* Makes a new key for tickets, as it happens every TLS_TICKET_S. */
void tls_server_rotate_tickets(struct tls_server *s);

struct tls_certificate {
    char file[TLS_NAMES_BYTES];
    char names[TLS_NAMES_BYTES];       /* "a.example, *.b.example"; cut when there are many */
    int64_t not_before_s, not_after_s; /* unix time */
};
/* How many there are; describes the first `count_max`. */
size_t tls_server_certificates(struct tls_server *s, struct tls_certificate *ret_certificates,
                               size_t count_max);

/* ---- clients ---- */

struct tls_client;

struct tls_client_options {
    const char *ca_file;              /* NULL: those that the system trusts */
    const char *cert_file, *key_file; /* to show when asked; NULL: none */
    bool strict;                      /* TLS 1.3 only */
};
/* Copies the options. */
int tls_client_new(const struct tls_client_options *options, struct tls_client **ret_client,
                   char error[TLS_ERROR_BYTES]) WARN_UNUSED;
void tls_client_free(struct tls_client *c);
/* As tls_server_reload(). */
int tls_client_reload(struct tls_client *c, char error[TLS_ERROR_BYTES]) WARN_UNUSED;

/* ---- streams ---- */

/* The handshake is done. The stream's handler may be set or changed here. */
typedef void (*tls_ready_fn)(void *ctx, struct stream *s);

/* Take the stream below, which has no handler yet and may be still connecting. `alpn` are the
 * protocols spoken, best first, with commas between ("h2,http/1.1"; "": none); borrowed as long as
 * the stream lives. A client that offers others only is refused. `ready` may be NULL. */
struct stream *tls_accept(struct tls_server *s, struct stream *below, const char *alpn,
                          tls_ready_fn ready, void *ctx);
/* Verifies the peer: signed by whom the client trusts, and for `host`, which is also what SNI says.
 * An address (127.0.0.1) is looked for among the certificate's addresses. */
struct stream *tls_connect(struct tls_client *c, struct stream *below, const char *host,
                           const char *alpn, tls_ready_fn ready, void *ctx);

/* Whether a stream is one over TLS. Of any stream. */
bool tls_is(const struct stream *s);
/* Of TLS streams only, when ready. What ALPN chose is stream_protocol(). */
bool tls_resumed(const struct stream *s);        /* by a ticket */
const char *tls_version(const struct stream *s); /* "TLSv1.3" */
/* Whether the peer showed a certificate (that was verified) for this name. */
bool tls_peer_is(const struct stream *s, const char *host);
/* Why it failed, until on_close has returned; "" when it did not. */
const char *tls_failure(const struct stream *s);
/* In on_close: the peer ended the connection during the handshake and did not say why. */
bool tls_cut_short(const struct stream *s);
bool tls_is_client(const struct stream *s); /* it is from tls_connect() */

/* ---- accepting on a loop ---- */

enum { TLS_HANDSHAKES_MAX = 4096 };

/* Streams whose handshake is under way, before anybody else hears of them: bounded in time and
 * number (the oldest goes). */
struct tls_acceptor;
struct tls_acceptor_handler {
    void (*on_stream)(void *ctx, struct stream *s); /* sets its handler, or closes it */
    void (*on_failure)(void *ctx, const char *reason);
    void *ctx;
};
/* Borrows the server and alpn, copies the handler. time_limit_ms: of one handshake. */
struct tls_acceptor *tls_acceptor_new(struct loop *l, struct tls_server *s, const char *alpn,
                                      uint32_t time_limit_ms,
                                      const struct tls_acceptor_handler *handler);
void tls_acceptor_take(struct tls_acceptor *a, struct stream *below);
/* Gives up the oldest handshake, to make room. False: none is under way. */
bool tls_acceptor_drop_oldest(struct tls_acceptor *a);
size_t tls_acceptor_count(const struct tls_acceptor *a);
/* Ends what is under way. */
void tls_acceptor_free(struct tls_acceptor *a);
