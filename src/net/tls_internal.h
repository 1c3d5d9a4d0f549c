/* Private to the TLS part of net/: what contexts and streams share. */
#pragma once
#include <openssl/ssl.h>

#include "net/tls.h"

/* What was read from the files at one time: immutable, counted, one context a pair. */
struct tls_set;
struct tls_set *tls_server_set(struct tls_server *s); /* the one in force, with a reference */
void tls_set_unref(struct tls_set *set);
SSL_CTX *tls_set_context(const struct tls_set *set, size_t i);
/* The context for that server name, or the first. */
SSL_CTX *tls_set_find(const struct tls_set *set, const char *name);

/* The names and addresses that a certificate is for, or else its subject. */
void tls_certificate_names(X509 *cert, char *out, size_t bytes_max);
int64_t tls_unix_s(const ASN1_TIME *at);

/* A new connection with what is in force; the caller's. */
SSL *tls_client_ssl(struct tls_client *c);

/* By contexts, for the stream that an SSL belongs to. */
struct tls_set *tls_stream_set(SSL *ssl);
const char *tls_stream_alpn_list(SSL *ssl);

/* "h2,http/1.1" as ALPN has it: each with its length before it. At most 255 bytes. */
size_t tls_alpn_encode(const char *list, unsigned char out[256]);
