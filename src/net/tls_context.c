/* Certificates, keys, tickets: what TLS streams of servers and clients are made from. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "net/tls_internal.h"

/* TLS 1.2: forward secrecy and authenticated encryption only. */
#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"

enum { TICKET_KEYS = 2 };

struct ticket_key {
    unsigned char name[16];
    unsigned char aes[32];
    unsigned char hmac[32];
    bool valid;
};

struct tls_set {
    int refs;
    size_t count;
    SSL_CTX *contexts[TLS_PAIRS_MAX];
    char *files[TLS_PAIRS_MAX];
};

struct tls_server {
    struct tls_pair pairs[TLS_PAIRS_MAX]; /* copied */
    size_t pair_count;
    char *client_ca_file;
    bool strict;
    pthread_mutex_t mutex;                  /* guards what follows */
    struct tls_set *set;                    /* in force */
    struct ticket_key tickets[TICKET_KEYS]; /* newest first */
    time_t tickets_s;                       /* when the newest was made */
};

struct tls_client {
    char *ca_file, *cert_file, *key_file; /* copied; NULL: not given */
    bool strict;
    pthread_mutex_t mutex; /* guards the context, which is replaced as a whole */
    SSL_CTX *context;
};

/* ---- errors ------------------------------------------------------------------------------------
 */

static int fail(char error[TLS_ERROR_BYTES], const char *file, const char *what) {
    unsigned long code;
    const char *reason = NULL;
    while ((code = ERR_get_error()) != 0) {
        if (ERR_SYSTEM_ERROR(code)) {
            reason = strerror(ERR_GET_REASON(code));
            break;
        }
        if (!reason) /* the first says most */
            reason = ERR_reason_error_string(code);
    }
    snprintf(error, TLS_ERROR_BYTES, "%s: %s%s%s", file, what, reason ? ": " : "",
             reason ? reason : "");
    ERR_clear_error();
    return -EINVAL;
}

/* ---- tickets (RFC 5077, 8446 section 4.6.1) ----------------------------------------------------
 */

static time_t clock_s(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
    return now.tv_sec;
}

/* Under the mutex. */
static void rotate(struct tls_server *s) {
    struct ticket_key *k = s->tickets;
    memmove(k + 1, k, (TICKET_KEYS - 1) * sizeof *k);
    CHECK(RAND_bytes(k->name, sizeof k->name) == 1);
    CHECK(RAND_bytes(k->aes, sizeof k->aes) == 1);
    CHECK(RAND_bytes(k->hmac, sizeof k->hmac) == 1);
    k->valid = true;
    s->tickets_s = clock_s();
}

void tls_server_rotate_tickets(struct tls_server *s) {
    pthread_mutex_lock(&s->mutex);
    rotate(s);
    pthread_mutex_unlock(&s->mutex);
}

/* The key to use; with a name: that of the name, or false. *ret_old: not the newest. */
static bool find_key(struct tls_server *s, const unsigned char *name, struct ticket_key *ret,
                     bool *ret_old) {
    bool found = false;
    pthread_mutex_lock(&s->mutex);
    time_t age_s = clock_s() - s->tickets_s;
    if (age_s >= 2 * TLS_TICKET_S)
        rotate(s); /* and the one before is too old as well */
    if (age_s >= TLS_TICKET_S)
        rotate(s);
    for (size_t i = 0; i < TICKET_KEYS && !found; i++) {
        const struct ticket_key *k = &s->tickets[i];
        found = k->valid && (!name || memcmp(k->name, name, sizeof k->name) == 0);
        if (found) {
            *ret = *k;
            *ret_old = i > 0;
        }
    }
    pthread_mutex_unlock(&s->mutex);
    return found;
}

static int on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt) {
    struct tls_server *s = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct ticket_key key;
    bool old;
    int result = -1;
    if (!find_key(s, encrypt ? NULL : name, &key, &old))
        return 0; /* a full handshake */
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.hmac, sizeof key.hmac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    if (encrypt)
        memcpy(name, key.name, sizeof key.name);
    if ((!encrypt || RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1) &&
        EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv, encrypt) == 1 &&
        EVP_MAC_CTX_set_params(mac, params) == 1)
        result = !encrypt && old ? 2 : 1; /* 2: taken, and a new one is sent */
    OPENSSL_cleanse(&key, sizeof key);
    return result;
}

/* ---- contexts ----------------------------------------------------------------------------------
 */

static int on_server_name(SSL *ssl, int *alert, void *arg) {
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    (void)arg;
    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_CTX *context = tls_set_find(tls_stream_set(ssl), name);
    if (context != SSL_get_SSL_CTX(ssl))
        SSL_set_SSL_CTX(ssl, context);
    return SSL_TLSEXT_ERR_OK;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                   const unsigned char *in, unsigned in_size, void *arg) {
    unsigned char ours[256];
    size_t size = tls_alpn_encode(tls_stream_alpn_list(ssl), ours);
    (void)arg;
    if (size == 0)
        return SSL_TLSEXT_ERR_NOACK;
    /* Our order counts. What is chosen is returned out of the client's list, which stays. */
    for (size_t i = 0; i < size; i += 1u + ours[i])
        for (unsigned k = 0; k + 1 < in_size && k + in[k] < in_size; k += 1u + in[k])
            if (in[k] == ours[i] && memcmp(in + k + 1, ours + i + 1, in[k]) == 0) {
                *out = in + k + 1;
                *out_size = in[k];
                return SSL_TLSEXT_ERR_OK;
            }
    return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 section 3.2 */
}

/* Nobody is there to type it. */
static int no_passphrase(char *out, int size, int writing, void *arg) {
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static SSL_CTX *context_new(const SSL_METHOD *method, bool strict) {
    SSL_CTX *c = SSL_CTX_new(method);
    CHECK(c != NULL);
    CHECK(SSL_CTX_set_min_proto_version(c, strict ? TLS1_3_VERSION : TLS1_2_VERSION) == 1);
    CHECK(SSL_CTX_set_cipher_list(c, CIPHERS) == 1);
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
    if (strict) /* the authority's own certificate is there already, or it is another's */
        SSL_CTX_set_mode(c, SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(c, no_passphrase);
    return c;
}

static int use_pair(SSL_CTX *c, const char *cert_file, const char *key_file,
                    char error[TLS_ERROR_BYTES]) {
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(c, cert_file) != 1)
        return fail(error, cert_file, "not a certificate in PEM that can be read");
    if (SSL_CTX_use_PrivateKey_file(c, key_file, SSL_FILETYPE_PEM) != 1) {
        bool other = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH ||
                     ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_TYPE_MISMATCH;
        return fail(error, key_file,
                    other ? "not the key of the certificate"
                          : "not a key in PEM, without a passphrase, that can be read");
    }
    if (SSL_CTX_check_private_key(c) != 1)
        return fail(error, key_file, "not the key of the certificate");
    return 0;
}

static int ask_clients(SSL_CTX *c, const char *ca_file, char error[TLS_ERROR_BYTES]) {
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca_file);
    if (!names || SSL_CTX_load_verify_file(c, ca_file) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return fail(error, ca_file, "not certificates in PEM that can be read");
    }
    SSL_CTX_set_client_CA_list(c, names);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static int verify_own(SSL_CTX *c, int purpose) {
    X509_STORE_CTX *v = X509_STORE_CTX_new();
    STACK_OF(X509) *chain = NULL;
    CHECK(v != NULL);
    SSL_CTX_get0_chain_certs(c, &chain);
    CHECK(X509_STORE_CTX_init(v, SSL_CTX_get_cert_store(c), SSL_CTX_get0_certificate(c), chain) ==
          1);
    X509_STORE_CTX_set_flags(v, X509_V_FLAG_NO_CHECK_TIME);
    CHECK(X509_STORE_CTX_set_purpose(v, purpose) == 1);
    int verdict = X509_verify_cert(v) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(v);
    X509_STORE_CTX_free(v);
    ERR_clear_error();
    return verdict;
}

/* Whether those who trust the same authority would take our certificate, at both ends. Not about
 * time: an expired one is used, and others refuse it. */
static int check_own(SSL_CTX *c, const char *cert_file, const char *ca_file,
                     char error[TLS_ERROR_BYTES]) {
    int verdict = verify_own(c, X509_PURPOSE_SSL_SERVER);
    if (verdict == X509_V_OK)
        verdict = verify_own(c, X509_PURPOSE_SSL_CLIENT);
    if (verdict == X509_V_OK)
        return 0;
    snprintf(error, TLS_ERROR_BYTES, "%s: others that trust %s would refuse it: %s", cert_file,
             ca_file, X509_verify_cert_error_string(verdict));
    return -EINVAL;
}

static int server_context(struct tls_server *s, const struct tls_pair *pair, SSL_CTX **ret,
                          char error[TLS_ERROR_BYTES]) {
    static const unsigned char id[] = "cotidal";
    SSL_CTX *c = context_new(TLS_server_method(), s->strict);
    int rc = use_pair(c, pair->cert_file, pair->key_file, error);
    if (rc == 0 && s->client_ca_file)
        rc = ask_clients(c, s->client_ca_file, error);
    if (rc == 0 && s->strict && s->client_ca_file)
        rc = check_own(c, pair->cert_file, s->client_ca_file, error);
    if (rc < 0) {
        SSL_CTX_free(c);
        return rc;
    }
    SSL_CTX_set_app_data(c, s);
    CHECK(SSL_CTX_set_session_id_context(c, id, sizeof id - 1) == 1);
    CHECK(SSL_CTX_set_num_tickets(c, s->strict ? 0 : 1) == 1);
    if (s->strict) {
        SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
    } else {
        SSL_CTX_set_timeout(c, TLS_TICKET_S);
        SSL_CTX_set_tlsext_ticket_key_evp_cb(c, on_ticket);
    }
    SSL_CTX_set_tlsext_servername_callback(c, on_server_name);
    SSL_CTX_set_alpn_select_cb(c, on_alpn, NULL);
    *ret = c;
    return 0;
}

/* ---- sets --------------------------------------------------------------------------------------
 */

static void set_free(struct tls_set *set) {
    for (size_t i = 0; i < set->count; i++) {
        SSL_CTX_free(set->contexts[i]);
        free(set->files[i]);
    }
    free(set);
}

static int set_load(struct tls_server *s, struct tls_set **ret, char error[TLS_ERROR_BYTES]) {
    struct tls_set *set = xcalloc(1, sizeof *set);
    set->refs = 1;
    for (size_t i = 0; i < s->pair_count; i++) {
        int rc = server_context(s, &s->pairs[i], &set->contexts[i], error);
        if (rc < 0) {
            set_free(set);
            return rc;
        }
        set->files[i] = xstrdup(s->pairs[i].cert_file);
        set->count++;
    }
    *ret = set;
    return 0;
}

struct tls_set *tls_server_set(struct tls_server *s) {
    pthread_mutex_lock(&s->mutex);
    struct tls_set *set = s->set;
    __atomic_add_fetch(&set->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&s->mutex);
    return set;
}

void tls_set_unref(struct tls_set *set) {
    if (set && __atomic_sub_fetch(&set->refs, 1, __ATOMIC_ACQ_REL) == 0)
        set_free(set);
}

SSL_CTX *tls_set_context(const struct tls_set *set, size_t i) {
    CHECK(i < set->count);
    return set->contexts[i];
}

SSL_CTX *tls_set_find(const struct tls_set *set, const char *name) {
    for (size_t i = 0; i < set->count; i++)
        if (X509_check_host(SSL_CTX_get0_certificate(set->contexts[i]), name, 0, 0, NULL) == 1)
            return set->contexts[i];
    return set->contexts[0];
}

/* ---- servers -----------------------------------------------------------------------------------
 */

int tls_server_new(const struct tls_server_options *options, struct tls_server **ret_server,
                   char error[TLS_ERROR_BYTES]) {
    CHECK(options->pair_count > 0);
    CHECK(options->pair_count <= TLS_PAIRS_MAX);
    struct tls_server *s = xcalloc(1, sizeof *s);
    CHECK(pthread_mutex_init(&s->mutex, NULL) == 0);
    s->pair_count = options->pair_count;
    s->strict = options->strict;
    for (size_t i = 0; i < s->pair_count; i++) {
        s->pairs[i].cert_file = xstrdup(options->pairs[i].cert_file);
        s->pairs[i].key_file = xstrdup(options->pairs[i].key_file);
    }
    if (options->client_ca_file)
        s->client_ca_file = xstrdup(options->client_ca_file);
    rotate(s);
    int rc = set_load(s, &s->set, error);
    if (rc < 0) {
        tls_server_free(s);
        return rc;
    }
    *ret_server = s;
    return 0;
}

void tls_server_free(struct tls_server *s) {
    if (!s)
        return;
    tls_set_unref(s->set);
    for (size_t i = 0; i < s->pair_count; i++) {
        free((char *)(uintptr_t)s->pairs[i].cert_file);
        free((char *)(uintptr_t)s->pairs[i].key_file);
    }
    free(s->client_ca_file);
    OPENSSL_cleanse(s->tickets, sizeof s->tickets);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

int tls_server_reload(struct tls_server *s, char error[TLS_ERROR_BYTES]) {
    struct tls_set *set;
    int rc = set_load(s, &set, error);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->mutex);
    struct tls_set *old = s->set;
    s->set = set;
    pthread_mutex_unlock(&s->mutex);
    tls_set_unref(old);
    return 0;
}

int64_t tls_unix_s(const ASN1_TIME *at) {
    struct tm tm = {0};
    return ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static void put_ip(struct buf *text, const ASN1_OCTET_STRING *ip) {
    char out[INET6_ADDRSTRLEN] = "?";
    int size = ASN1_STRING_length(ip);
    if (size == 4 || size == 16)
        inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(ip), out, sizeof out);
    buf_append_str(text, out);
}

/* The names that a certificate is for, or else whom it is about. */
void tls_certificate_names(X509 *cert, char *out, size_t bytes_max) {
    struct buf text = {0};
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS && name->type != GEN_IPADD)
            continue;
        if (text.size > 0)
            buf_append_str(&text, ", ");
        if (name->type == GEN_DNS)
            buf_append(&text, ASN1_STRING_get0_data(name->d.dNSName),
                       (size_t)ASN1_STRING_length(name->d.dNSName));
        else
            put_ip(&text, name->d.iPAddress);
    }
    GENERAL_NAMES_free(names);
    if (text.size == 0) {
        char subject[TLS_NAMES_BYTES] = "";
        X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof subject);
        buf_append_str(&text, subject);
    }
    snprintf(out, bytes_max, "%.*s", (int)text.size, (const char *)text.data);
    buf_fini(&text);
}

size_t tls_server_certificates(struct tls_server *s, struct tls_certificate *ret_certificates,
                               size_t count_max) {
    struct tls_set *set = tls_server_set(s);
    size_t count = set->count;
    for (size_t i = 0; i < count && i < count_max; i++) {
        struct tls_certificate *c = &ret_certificates[i];
        X509 *cert = SSL_CTX_get0_certificate(set->contexts[i]);
        snprintf(c->file, sizeof c->file, "%s", set->files[i]);
        tls_certificate_names(cert, c->names, sizeof c->names);
        c->not_before_s = tls_unix_s(X509_get0_notBefore(cert));
        c->not_after_s = tls_unix_s(X509_get0_notAfter(cert));
    }
    tls_set_unref(set);
    return count;
}

/* ---- clients -----------------------------------------------------------------------------------
 */

static char *copy(const char *text) {
    return text ? xstrdup(text) : NULL;
}

static int client_context(const struct tls_client *t, SSL_CTX **ret, char error[TLS_ERROR_BYTES]) {
    SSL_CTX *c = context_new(TLS_client_method(), t->strict);
    int rc = 0;
    ERR_clear_error();
    if (t->ca_file ? SSL_CTX_load_verify_file(c, t->ca_file) != 1
                   : SSL_CTX_set_default_verify_paths(c) != 1)
        rc = fail(error, t->ca_file ? t->ca_file : "the system's certificates",
                  "not certificates in PEM that can be read");
    if (rc == 0 && t->cert_file)
        rc = use_pair(c, t->cert_file, t->key_file, error);
    if (rc < 0) {
        SSL_CTX_free(c);
        return rc;
    }
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
    *ret = c;
    return 0;
}

int tls_client_new(const struct tls_client_options *options, struct tls_client **ret_client,
                   char error[TLS_ERROR_BYTES]) {
    struct tls_client *c = xcalloc(1, sizeof *c);
    CHECK(pthread_mutex_init(&c->mutex, NULL) == 0);
    c->ca_file = copy(options->ca_file);
    c->cert_file = copy(options->cert_file);
    c->key_file = copy(options->key_file);
    c->strict = options->strict;
    int rc = client_context(c, &c->context, error);
    if (rc < 0) {
        tls_client_free(c);
        return rc;
    }
    *ret_client = c;
    return 0;
}

void tls_client_free(struct tls_client *c) {
    if (!c)
        return;
    SSL_CTX_free(c->context);
    free(c->ca_file);
    free(c->cert_file);
    free(c->key_file);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

int tls_client_reload(struct tls_client *c, char error[TLS_ERROR_BYTES]) {
    SSL_CTX *fresh;
    int rc = client_context(c, &fresh, error);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&c->mutex);
    SSL_CTX *old = c->context;
    c->context = fresh;
    pthread_mutex_unlock(&c->mutex);
    SSL_CTX_free(old); /* connections that are there hold it */
    return 0;
}

SSL *tls_client_ssl(struct tls_client *c) {
    pthread_mutex_lock(&c->mutex);
    SSL *ssl = SSL_new(c->context);
    pthread_mutex_unlock(&c->mutex);
    return ssl;
}

/* ---- ALPN --------------------------------------------------------------------------------------
 */

size_t tls_alpn_encode(const char *list, unsigned char out[256]) {
    size_t size = 0;
    while (list && *list) {
        size_t n = strcspn(list, ",");
        CHECK(n > 0);
        CHECK(size + n + 1 <= 255);
        out[size++] = (unsigned char)n;
        memcpy(out + size, list, n);
        size += n;
        list += n + (list[n] == ',');
    }
    return size;
}
