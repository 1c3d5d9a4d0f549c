#include "net/cert.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "base/check.h"
#include "net/tls_internal.h"

enum { PATH_BYTES = 4096, SERIAL_BYTES = 16, CLOCK_SLACK_S = 3600, DAY_S = 86400 };

struct pair {
    EVP_PKEY *key;
    X509 *cert;
};

static void pair_fini(struct pair *p) {
    EVP_PKEY_free(p->key);
    X509_free(p->cert);
    ERR_clear_error();
}

static int fail(char error[TLS_ERROR_BYTES], int rc, const char *file, const char *what) {
    snprintf(error, TLS_ERROR_BYTES, "%.400s: %s", file, what);
    ERR_clear_error();
    return rc;
}

static int path_of(char out[PATH_BYTES], const char *dir, const char *name, const char *end,
                   char error[TLS_ERROR_BYTES]) {
    int n = snprintf(out, PATH_BYTES, "%s/%s%s", dir, name, end);
    return n < PATH_BYTES ? 0 : fail(error, -ENAMETOOLONG, dir, strerror(ENAMETOOLONG));
}

static bool is_address(const char *name) {
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);
    ASN1_OCTET_STRING_free(address);
    return address != NULL;
}

bool cert_name_valid(const char *name) {
    size_t size = strlen(name);
    if (size == 0 || size > CERT_NAME_BYTES_MAX)
        return false;
    if (is_address(name))
        return true;
    for (size_t i = 0; i < size; i++) {
        bool inside = i > 0 && i + 1 < size && name[i - 1] != '.' && name[i + 1] != '.';
        if (!isalnum((unsigned char)name[i]) && !(inside && (name[i] == '-' || name[i] == '.')))
            return false;
    }
    return true;
}

/* ---- making ------------------------------------------------------------------------------------
 */

static void put_extension(X509 *cert, X509 *issuer, int id, const char *value) {
    X509V3_CTX v;
    X509V3_set_ctx_nodb(&v);
    X509V3_set_ctx(&v, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v, id, value);
    CHECK(e != NULL);
    CHECK(X509_add_ext(cert, e, -1) == 1);
    X509_EXTENSION_free(e);
}

/* 127 random bits: unique without a count that would have to be kept. */
static void put_serial(X509 *cert) {
    unsigned char bytes[SERIAL_BYTES];
    CHECK(RAND_bytes(bytes, sizeof bytes) == 1);
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40); /* positive, and of full length */
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    CHECK(number != NULL);
    CHECK(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL);
    BN_free(number);
}

/* A key, and a certificate without extensions and signature. */
static struct pair pair_begin(const char *name, long days) {
    struct pair p = {.key = EVP_EC_gen("P-256"), .cert = X509_new()};
    CHECK(p.key != NULL);
    CHECK(p.cert != NULL);
    CHECK(X509_set_version(p.cert, X509_VERSION_3) == 1);
    put_serial(p.cert);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(p.cert), -CLOCK_SLACK_S) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(p.cert), days * DAY_S) != NULL);
    CHECK(X509_set_pubkey(p.cert, p.key) == 1);
    CHECK(X509_NAME_add_entry_by_txt(X509_get_subject_name(p.cert), "CN", MBSTRING_UTF8,
                                     (const unsigned char *)name, -1, -1, 0) == 1);
    return p;
}

static void pair_sign(struct pair *p, const struct pair *by) {
    CHECK(X509_set_issuer_name(p->cert, X509_get_subject_name(by->cert)) == 1);
    put_extension(p->cert, by->cert, NID_subject_key_identifier, "hash");
    if (by != p)
        put_extension(p->cert, by->cert, NID_authority_key_identifier, "keyid:always");
    CHECK(X509_sign(p->cert, by->key, EVP_sha256()) > 0);
}

/* ---- files -------------------------------------------------------------------------------------
 */

/* Written beside it, flushed, and renamed over what is there. */
static int write_file(const char *path, mode_t mode, const struct pair *p, bool key,
                      char error[TLS_ERROR_BYTES]) {
    char fresh[PATH_BYTES + 8];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    if (unlink(fresh) < 0 && errno != ENOENT)
        return fail(error, -errno, fresh, strerror(errno));
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        return fail(error, -errno, fresh, strerror(errno));
    int done = key ? PEM_write_PKCS8PrivateKey(f, p->key, NULL, NULL, 0, NULL, NULL)
                   : PEM_write_X509(f, p->cert);
    bool ok = done == 1 && fflush(f) == 0 && fsync(fd) == 0;
    int rc = ok ? 0 : errno ? -errno : -EIO;
    if (fclose(f) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(fresh, path) < 0)
        rc = -errno;
    if (rc < 0)
        unlink(fresh);
    return rc < 0 ? fail(error, rc, path, strerror(-rc)) : 0;
}

static int write_pair(const char *dir, const char *name, const struct pair *p,
                      char error[TLS_ERROR_BYTES]) {
    char path[PATH_BYTES];
    int rc = path_of(path, dir, name, ".key", error);
    if (rc == 0)
        rc = write_file(path, 0600, p, true, error);
    if (rc == 0)
        rc = path_of(path, dir, name, ".pem", error);
    if (rc == 0)
        rc = write_file(path, 0644, p, false, error);
    return rc;
}

static int make_folder(const char *dir, char error[TLS_ERROR_BYTES]) {
    return mkdir(dir, 0700) == 0 || errno == EEXIST ? 0 : fail(error, -errno, dir, strerror(errno));
}

static int read_cert(const char *path, X509 **ret, char error[TLS_ERROR_BYTES]) {
    FILE *f = fopen(path, "re");
    if (!f)
        return fail(error, -errno, path, strerror(errno));
    *ret = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    return *ret ? 0 : fail(error, -EINVAL, path, "not a certificate in PEM");
}

static int read_authority(const char *dir, struct pair *ret, char error[TLS_ERROR_BYTES]) {
    char cert[PATH_BYTES], key[PATH_BYTES], empty[] = "";
    int rc = path_of(cert, dir, "ca", ".pem", error);
    if (rc == 0)
        rc = path_of(key, dir, "ca", ".key", error);
    if (rc == 0)
        rc = read_cert(cert, &ret->cert, error);
    if (rc < 0)
        return rc;
    FILE *f = fopen(key, "re");
    if (!f)
        return fail(error, -errno, key, strerror(errno));
    ret->key = PEM_read_PrivateKey(f, NULL, NULL, empty);
    fclose(f);
    if (!ret->key)
        return fail(error, -EINVAL, key, "not a key in PEM, without a passphrase");
    if (X509_check_private_key(ret->cert, ret->key) != 1)
        return fail(error, -EINVAL, key, "not the key of the authority's certificate");
    if (X509_check_ca(ret->cert) != 1)
        return fail(error, -EINVAL, cert, "not an authority");
    return 0;
}

/* ---- what others call --------------------------------------------------------------------------
 */

int cert_make_authority(const char *dir, const char *name, long days, char error[TLS_ERROR_BYTES]) {
    char path[PATH_BYTES];
    static const char *const ends[] = {".key", ".pem"};
    CHECK(days > 0);
    CHECK(days <= CERT_DAYS_MAX);
    int rc = make_folder(dir, error);
    for (size_t i = 0; rc == 0 && i < ARRAY_COUNT(ends); i++) {
        rc = path_of(path, dir, "ca", ends[i], error);
        if (rc == 0 && access(path, F_OK) == 0)
            rc = fail(error, -EEXIST, path, "there is an authority already");
    }
    if (rc < 0)
        return rc;
    struct pair p = pair_begin(name, days);
    put_extension(p.cert, p.cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    put_extension(p.cert, p.cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    pair_sign(&p, &p);
    rc = write_pair(dir, "ca", &p, error);
    pair_fini(&p);
    return rc;
}

static void put_names(X509 *cert, X509 *issuer, const char *name, const char *const *sans,
                      size_t san_count) {
    char text[(CERT_SANS_MAX + 1) * (CERT_NAME_BYTES_MAX + 5)];
    size_t size = 0;
    CHECK(san_count <= CERT_SANS_MAX);
    for (size_t i = 0; i <= san_count; i++) {
        const char *one = i == 0 ? name : sans[i - 1];
        CHECK(cert_name_valid(one));
        size += (size_t)snprintf(text + size, sizeof text - size, "%s%s:%s", i ? "," : "",
                                 is_address(one) ? "IP" : "DNS", one);
    }
    put_extension(cert, issuer, NID_subject_alt_name, text);
}

int cert_make_node(const char *ca_dir, const char *dir, const char *name, const char *const *sans,
                   size_t san_count, long days, char error[TLS_ERROR_BYTES]) {
    struct pair authority = {0};
    CHECK(days > 0);
    CHECK(days <= CERT_DAYS_MAX);
    int rc = read_authority(ca_dir, &authority, error);
    if (rc == 0)
        rc = make_folder(dir, error);
    if (rc == 0) {
        struct pair p = pair_begin(name, days);
        if (ASN1_TIME_compare(X509_get0_notAfter(p.cert), X509_get0_notAfter(authority.cert)) > 0)
            CHECK(X509_set1_notAfter(p.cert, X509_get0_notAfter(authority.cert)) == 1);
        put_extension(p.cert, authority.cert, NID_basic_constraints, "critical,CA:FALSE");
        put_extension(p.cert, authority.cert, NID_key_usage, "critical,digitalSignature");
        put_extension(p.cert, authority.cert, NID_ext_key_usage, "serverAuth,clientAuth");
        put_names(p.cert, authority.cert, name, sans, san_count);
        pair_sign(&p, &authority);
        rc = write_pair(dir, name, &p, error);
        pair_fini(&p);
    }
    pair_fini(&authority);
    return rc;
}

static void hex(const unsigned char *bytes, size_t size, char *out, size_t bytes_max) {
    for (size_t i = 0; i < size && 2 * i + 2 < bytes_max; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

int cert_read(const char *file, struct cert_info *ret_info, char error[TLS_ERROR_BYTES]) {
    X509 *cert = NULL;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int rc = read_cert(file, &cert, error);
    if (rc < 0)
        return rc;
    struct cert_info c = {0};
    X509_NAME_oneline(X509_get_subject_name(cert), c.subject, sizeof c.subject);
    X509_NAME_oneline(X509_get_issuer_name(cert), c.issuer, sizeof c.issuer);
    tls_certificate_names(cert, c.names, sizeof c.names);
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    hex(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial), c.serial,
        sizeof c.serial);
    CHECK(X509_digest(cert, EVP_sha256(), digest, &size) == 1);
    hex(digest, size, c.sha256, sizeof c.sha256);
    c.authority = X509_check_ca(cert) == 1;
    c.not_before_s = tls_unix_s(X509_get0_notBefore(cert));
    c.not_after_s = tls_unix_s(X509_get0_notAfter(cert));
    X509_free(cert);
    ERR_clear_error();
    *ret_info = c;
    return 0;
}
