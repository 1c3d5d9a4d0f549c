/* Certificates for TLS between the processes of one system (net/tls_peer.h): a small authority of
 * its own, and what it signs. X.509 version 3 (RFC 5280), ECDSA with P-256 and SHA-256, in PEM.
 *
 *   DIR/ca.pem    the authority's certificate: may sign certificates of nodes, and nothing below
 * them DIR/ca.key    its key: whoever has it can make a node DIR/NAME.pem  a node's or web
 * server's: for both ends of a connection (server and client) DIR/NAME.key  its key
 *
 * Keys are PKCS#8 without a passphrase, in files of mode 0600. A file appears whole or not at all.
 * Validity begins an hour ago, for clocks that are behind.
 *
 * Single calls of a command-line program; any thread. All return 0, or a negative errno and in
 * `error`, for people, why. */
#pragma once
#include <stddef.h>

#include "net/tls.h"

enum {
    CERT_NAME_BYTES_MAX = 64, /* X.520's bound of a common name */
    CERT_SANS_MAX = 32,
    CERT_DAYS_MAX = 36500,
    CERT_AUTHORITY_DAYS = 3650,
    CERT_NODE_DAYS = 365,
};

/* Whether it can be a certificate's name: a host name (letters, digits, '-' and '.') or an address
 * (v4, or v6 without brackets). */
bool cert_name_valid(const char *name);

/* Makes the folder (0700) when it is not there. -EEXIST when there is an authority already. */
int cert_make_authority(const char *dir, const char *name, long days,
                        char error[TLS_ERROR_BYTES]) WARN_UNUSED;
/* Signed by the authority in ca_dir, for `name` and the others. A pair of that name is replaced. It
 * ends no later than its authority. */
int cert_make_node(const char *ca_dir, const char *dir, const char *name, const char *const *sans,
                   size_t san_count, long days, char error[TLS_ERROR_BYTES]) WARN_UNUSED;

struct cert_info {
    char subject[TLS_NAMES_BYTES], issuer[TLS_NAMES_BYTES];
    char names[TLS_NAMES_BYTES]; /* what it is for */
    char serial[64];             /* hexadecimal */
    char sha256[65];             /* of the whole certificate */
    bool authority;
    int64_t not_before_s, not_after_s; /* unix time */
};
/* The first certificate in the file. */
int cert_read(const char *file, struct cert_info *ret_info,
              char error[TLS_ERROR_BYTES]) WARN_UNUSED;
