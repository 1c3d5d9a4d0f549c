#include "net/tls_peer.h"

#include <stdlib.h>

#include "base/check.h"
#include "net/tcp.h"

#define PROTOCOL "cotidal"

struct tls_peer {
    struct tls_server *server;
    struct tls_client *client;
};

int tls_peer_new(const struct tls_peer_options *o, struct tls_peer **ret_peer,
                 char error[TLS_ERROR_BYTES]) {
    const struct tls_pair pair = {.cert_file = o->cert_file, .key_file = o->key_file};
    const struct tls_server_options server = {
        .pairs = &pair, .pair_count = 1, .client_ca_file = o->ca_file, .strict = true};
    const struct tls_client_options client = {
        .ca_file = o->ca_file, .cert_file = o->cert_file, .key_file = o->key_file, .strict = true};
    struct tls_peer *p = xcalloc(1, sizeof *p);
    int rc = tls_server_new(&server, &p->server, error);
    if (rc == 0)
        rc = tls_client_new(&client, &p->client, error);
    if (rc < 0) {
        tls_peer_free(p);
        return rc;
    }
    *ret_peer = p;
    return 0;
}

void tls_peer_free(struct tls_peer *p) {
    if (!p)
        return;
    tls_server_free(p->server);
    tls_client_free(p->client);
    free(p);
}

int tls_peer_reload(struct tls_peer *p, char error[TLS_ERROR_BYTES]) {
    int rc = tls_server_reload(p->server, error);
    return rc < 0 ? rc : tls_client_reload(p->client, error);
}

struct tls_certificate tls_peer_certificate(struct tls_peer *p) {
    struct tls_certificate c;
    size_t count = tls_server_certificates(p->server, &c, 1);
    CHECK(count == 1);
    return c;
}

/* Never empty: a client without a name to look for would take any. */
static const char *host_of(const char *address, struct address *a) {
    return address_parse(address, a) && *a->host ? a->host : "localhost";
}

struct stream *tls_peer_accept(struct tls_peer *p, struct stream *below) {
    return tls_accept(p->server, below, PROTOCOL, NULL, NULL);
}

struct stream *tls_peer_connect(struct tls_peer *p, struct stream *below, const char *address,
                                tls_ready_fn ready, void *ctx) {
    struct address a;
    return tls_connect(p->client, below, host_of(address, &a), PROTOCOL, ready, ctx);
}

const char *tls_peer_refusal(const struct stream *s) {
    if (!tls_is(s))
        return "";
    if (tls_cut_short(s)) /* as a node does that does not speak TLS */
        return tls_is_client(s) ? "the connection ended during the handshake" : "";
    return tls_failure(s);
}

bool tls_peer_is_at(const struct stream *s, const char *address) {
    struct address a;
    return address_parse(address, &a) && *a.host && tls_peer_is(s, a.host);
}
