/* Certificates for unit tests, made as they are needed: short-lived keys on P-256. Programs that
 * use this link OpenSSL. */
#pragma once
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/check.h"

struct test_cert {
    EVP_PKEY *key;
    X509 *cert;
};

static inline void test_cert_extension(X509 *cert, int id, const char *value) {
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, id, value);
    CHECK(e != NULL);
    CHECK(X509_add_ext(cert, e, -1) == 1);
    X509_EXTENSION_free(e);
}

/* names: "DNS:a.example,IP:127.0.0.1"; NULL: an authority. issuer NULL: signed by itself. Valid
 * from a day ago for that many days. */
static inline struct test_cert test_cert_make(const char *subject, const char *names, long days,
                                              const struct test_cert *issuer) {
    static long serial = 1;
    struct test_cert c = {.key = EVP_EC_gen("P-256"), .cert = X509_new()};
    CHECK(c.key != NULL);
    const struct test_cert *by = issuer ? issuer : &c;
    X509_set_version(c.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c.cert), -86400);
    X509_gmtime_adj(X509_getm_notAfter(c.cert), days * 86400);
    X509_set_pubkey(c.cert, c.key);
    X509_NAME *name = X509_get_subject_name(c.cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)subject, -1, -1, 0);
    X509_set_issuer_name(c.cert, X509_get_subject_name(by->cert));
    if (names)
        test_cert_extension(c.cert, NID_subject_alt_name, names);
    else
        test_cert_extension(c.cert, NID_basic_constraints, "critical,CA:TRUE");
    CHECK(X509_sign(c.cert, by->key, EVP_sha256()) > 0);
    return c;
}

static inline void test_cert_free(struct test_cert *c) {
    EVP_PKEY_free(c->key);
    X509_free(c->cert);
}

static inline void test_cert_write(const struct test_cert *c, const char *cert_file,
                                   const char *key_file) {
    FILE *f = fopen(cert_file, "w");
    CHECK(f != NULL);
    CHECK(PEM_write_X509(f, c->cert) == 1);
    fclose(f);
    if (!key_file)
        return;
    f = fopen(key_file, "w");
    CHECK(f != NULL);
    CHECK(PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
}
