/* TLS streams: OpenSSL between two struct streams, through a BIO of our own that reads what the
 * stream below has just delivered and gathers what is to be written to it. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "net/tls_internal.h"

enum {
    /* What one read of the loop may hold, and a record that was incomplete before. */
    PLAIN_BYTES = 96 * 1024,
    /* Encrypted at a time, and how much may wait below before we stop. */
    PIECE_BYTES = 64 * 1024,
    BELOW_BYTES = 256 * 1024,
    /* Our own bytes never come to this; answers to KeyUpdate would, without end. */
    BELOW_BYTES_MAX = 2 * BELOW_BYTES,
    COMPACT_BYTES = 1024 * 1024,
};

/*   HANDSHAKE --> OPEN --> SHUT --> CLOSING
 *        |          |        |         ^
 *        +----------+--------+---------+
 * SHUT: close_notify is sent and the stream below shuts down; nothing is delivered any more. */
enum tls_state { STATE_HANDSHAKE, STATE_OPEN, STATE_SHUT, STATE_CLOSING };

struct tls_stream {
    struct stream base;
    struct stream *below;
    SSL *ssl;
    struct tls_set *set; /* of a server: what it was made from */
    uint8_t state;
    bool shutdown_asked;
    bool heard;          /* the first byte came */
    bool eof;            /* close_notify came */
    bool cut_short;      /* the peer ended it during the handshake, without an alert */
    bool kept;           /* something had to wait: on_drain will come */
    int error;           /* what on_close will say; 0: what the stream below says */
    const char *failure; /* in words; static */
    struct slice in;     /* from below, while on_read is being handled */
    struct buf out;      /* to below, while something is done */
    struct buf waiting;  /* plain bytes to be encrypted, from waiting_at on */
    size_t waiting_at;
    const char *alpn_list;
    char alpn[32];
    tls_ready_fn ready;
    void *ready_ctx;
};

static const struct stream_ops tls_ops;

static struct tls_stream *tls_of(const struct stream *s) {
    CHECK(s->ops == &tls_ops);
    return CONTAINER_OF(s, struct tls_stream, base);
}

struct tls_set *tls_stream_set(SSL *ssl) {
    return ((struct tls_stream *)SSL_get_app_data(ssl))->set;
}

const char *tls_stream_alpn_list(SSL *ssl) {
    return ((struct tls_stream *)SSL_get_app_data(ssl))->alpn_list;
}

/* ---- the BIO -----------------------------------------------------------------------------------
 */

static int bio_read(BIO *bio, char *to, size_t bytes_max, size_t *ret_size) {
    struct tls_stream *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->in.size == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    size_t n = t->in.size < bytes_max ? t->in.size : bytes_max;
    memcpy(to, t->in.data, n);
    t->in = slice_of(t->in.data + n, t->in.size - n);
    *ret_size = n;
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t size, size_t *ret_size) {
    struct tls_stream *t = BIO_get_data(bio);
    buf_append(&t->out, from, size);
    *ret_size = size;
    return 1;
}

static long bio_ctrl(BIO *bio, int what, long number, void *pointer) {
    (void)bio;
    (void)number;
    (void)pointer;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void) {
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    CHECK(bio_method != NULL);
    CHECK(BIO_meth_set_read_ex(bio_method, bio_read) == 1);
    CHECK(BIO_meth_set_write_ex(bio_method, bio_write) == 1);
    CHECK(BIO_meth_set_ctrl(bio_method, bio_ctrl) == 1);
}

static BIO *bio_new(struct tls_stream *t) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CHECK(pthread_once(&once, make_bio_method) == 0);
    BIO *bio = BIO_new(bio_method);
    CHECK(bio != NULL);
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    return bio;
}

/* What OpenSSL wanted to send goes down. */
static void flush(struct tls_stream *t) {
    if (t->out.size > 0)
        stream_write(t->below, buf_slice(&t->out));
    buf_fini(&t->out);
}

/* ---- the end -----------------------------------------------------------------------------------
 */

static void send_close_notify(struct tls_stream *t) {
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl); /* 0: sent, the peer's has not come; more is not wanted */
    ERR_clear_error();
    flush(t);
}

/* Ends the stream; on_close follows when the one below has closed. An alert that says why is on
 * its way, and should arrive unless something before it is stuck. */
static void fail(struct tls_stream *t, const char *failure) {
    if (t->state == STATE_CLOSING)
        return;
    t->state = STATE_CLOSING;
    t->error = -EPROTO;
    t->failure = failure;
    flush(t);
    if (stream_pending_bytes(t->below) == 0)
        stream_shutdown(t->below);
    else
        stream_close(t->below);
}

static void fail_ssl(struct tls_stream *t, const char *otherwise) {
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    long verdict = SSL_get_verify_result(t->ssl);
    ERR_clear_error();
    fail(t, verdict != X509_V_OK ? X509_verify_cert_error_string(verdict)
            : reason             ? reason
                                 : otherwise);
}

static void finish_shutdown(struct tls_stream *t) {
    t->state = STATE_SHUT;
    send_close_notify(t);
    stream_shutdown(t->below);
}

static void tls_shutdown(struct stream *s);

static void peer_has_ended(struct tls_stream *t) {
    if (t->eof)
        return;
    t->eof = true;
    if (t->base.handler && t->base.handler->on_eof)
        t->base.handler->on_eof(t->base.ctx);
    else
        tls_shutdown(&t->base); /* with what still waits */
}

/* ---- writing -----------------------------------------------------------------------------------
 */

static bool below_has_room(const struct tls_stream *t) {
    return stream_pending_bytes(t->below) < BELOW_BYTES;
}

/* Encrypts as much as the stream below has room for; returns how much. */
static size_t encrypt(struct tls_stream *t, struct slice plain) {
    size_t total = 0;
    while (t->state == STATE_OPEN && total < plain.size && below_has_room(t)) {
        size_t n = plain.size - total < PIECE_BYTES ? plain.size - total : PIECE_BYTES, done = 0;
        ERR_clear_error();
        if (SSL_write_ex(t->ssl, plain.data + total, n, &done) != 1) {
            fail_ssl(t, "cannot encrypt");
            break;
        }
        total += done;
        flush(t);
    }
    return total;
}

static void pump(struct tls_stream *t) {
    size_t left = t->waiting.size - t->waiting_at;
    if (t->state != STATE_OPEN)
        return;
    if (left > 0)
        t->waiting_at += encrypt(t, slice_of(t->waiting.data + t->waiting_at, left));
    if (t->waiting_at < t->waiting.size)
        return;
    buf_fini(&t->waiting);
    t->waiting_at = 0;
    if (t->shutdown_asked && t->state == STATE_OPEN)
        finish_shutdown(t);
}

static void tls_write(struct stream *s, struct slice bytes) {
    struct tls_stream *t = tls_of(s);
    if (t->state > STATE_OPEN || t->shutdown_asked || bytes.size == 0)
        return;
    if (t->state == STATE_OPEN && t->waiting.size == 0) {
        size_t done = encrypt(t, bytes);
        bytes = slice_of(bytes.data + done, bytes.size - done);
    }
    /* What has gone is given up now and then, also when something always waits. */
    if (t->waiting_at > COMPACT_BYTES && t->waiting_at > t->waiting.size / 2) {
        buf_consume(&t->waiting, t->waiting_at);
        t->waiting_at = 0;
    }
    if (bytes.size > 0)
        buf_append_slice(&t->waiting, bytes);
    t->kept = t->waiting.size > 0 || stream_pending_bytes(t->below) > 0;
}

static void on_below_drain(void *ctx) {
    struct tls_stream *t = ctx;
    pump(t);
    if (!t->kept || t->state != STATE_OPEN || t->waiting.size > 0 ||
        stream_pending_bytes(t->below) > 0)
        return;
    t->kept = false;
    if (!t->shutdown_asked && t->base.handler->on_drain)
        t->base.handler->on_drain(t->base.ctx);
}

static size_t tls_pending_bytes(const struct stream *s) {
    const struct tls_stream *t = tls_of(s);
    return t->waiting.size - t->waiting_at + stream_pending_bytes(t->below);
}

static void tls_shutdown(struct stream *s) {
    struct tls_stream *t = tls_of(s);
    if (t->shutdown_asked || t->state > STATE_OPEN)
        return;
    t->shutdown_asked = true;
    pump(t);
}

static void tls_close(struct stream *s) {
    struct tls_stream *t = tls_of(s);
    if (t->state == STATE_CLOSING)
        return;
    if (t->state == STATE_OPEN && stream_pending_bytes(t->below) == 0)
        send_close_notify(t);
    t->state = STATE_CLOSING;
    stream_close(t->below);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

/* One for each thread: bytes are handed on and forgotten before the next stream is read. */
static _Thread_local uint8_t plain[PLAIN_BYTES];
static _Thread_local bool plain_used;

static void deliver(struct tls_stream *t, size_t size) {
    if (size > 0 && t->state == STATE_OPEN && !t->shutdown_asked)
        t->base.handler->on_read(t->base.ctx, slice_of(plain, size));
}

/* Decrypts all that is here. */
static void read_all(struct tls_stream *t) {
    size_t size = 0, n;
    int rc;
    if (stream_pending_bytes(t->below) > BELOW_BYTES_MAX) {
        fail(t, "the peer asks for answers that it does not take");
        return;
    }
    CHECK(!plain_used);
    plain_used = true;
    for (;;) {
        ERR_clear_error();
        n = 0;
        rc = SSL_read_ex(t->ssl, plain + size, sizeof plain - size, &n);
        if (rc != 1)
            break;
        size += n;
        if (size == sizeof plain) {
            deliver(t, size);
            size = 0;
        }
        if (t->state != STATE_OPEN)
            break;
    }
    int why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
    if (t->state == STATE_OPEN)
        flush(t); /* answers to what the peer's side of TLS asked */
    deliver(t, size);
    plain_used = false;
    if (t->state != STATE_OPEN || why == SSL_ERROR_NONE || why == SSL_ERROR_WANT_READ)
        return;
    if (why == SSL_ERROR_ZERO_RETURN)
        peer_has_ended(t);
    else
        fail_ssl(t, "a malformed record");
}

static void note_alpn(struct tls_stream *t) {
    const unsigned char *name;
    unsigned size;
    SSL_get0_alpn_selected(t->ssl, &name, &size);
    snprintf(t->alpn, sizeof t->alpn, "%.*s", (int)size, (const char *)name);
}

static void handshake(struct tls_stream *t) {
    ERR_clear_error();
    int rc = SSL_do_handshake(t->ssl);
    if (rc != 1) {
        if (SSL_get_error(t->ssl, rc) == SSL_ERROR_WANT_READ)
            flush(t);
        else
            fail_ssl(t, "the handshake failed");
        return;
    }
    flush(t);
    t->state = STATE_OPEN;
    note_alpn(t);
    if (t->ready)
        t->ready(t->ready_ctx, &t->base);
    on_below_drain(t); /* what was written meanwhile */
}

/* The first record is a handshake or an alert (RFC 8446 section 5.1). OpenSSL would find other
 * words for anything else, as it looks like to it. */
static bool begins_tls(struct slice bytes) {
    return bytes.data[0] == 22 || bytes.data[0] == 21;
}

static void on_below_read(void *ctx, struct slice bytes) {
    struct tls_stream *t = ctx;
    if (t->state > STATE_OPEN)
        return;
    if (!t->heard && bytes.size > 0 && !begins_tls(bytes)) {
        fail(t, "the peer does not speak TLS");
        return;
    }
    t->heard = true;
    t->in = bytes;
    if (t->state == STATE_HANDSHAKE)
        handshake(t);
    if (t->state == STATE_OPEN)
        read_all(t);
    t->in = slice_of(NULL, 0);
}

static void on_below_eof(void *ctx) {
    struct tls_stream *t = ctx;
    if (t->state == STATE_HANDSHAKE) {
        t->cut_short = true;
        fail(t, "the peer ended the connection during the handshake");
    } else if (t->state == STATE_OPEN && !t->eof) {
        fail(t, "the peer ended the connection without close_notify");
    }
}

static void on_below_close(void *ctx, int error) {
    struct tls_stream *t = ctx;
    t->cut_short |=
        t->state == STATE_HANDSHAKE && (error == 0 || error == -ECONNRESET || error == -EPIPE);
    t->state = STATE_CLOSING;
    if (t->base.handler && t->base.handler->on_close)
        t->base.handler->on_close(t->base.ctx, t->error ? t->error : error);
    SSL_free(t->ssl);
    tls_set_unref(t->set);
    buf_fini(&t->out);
    buf_fini(&t->waiting);
    free(t);
}

static const struct stream_handler below_handler = {
    .on_read = on_below_read,
    .on_drain = on_below_drain,
    .on_eof = on_below_eof,
    .on_close = on_below_close,
};

/* ---- the rest ----------------------------------------------------------------------------------
 */

static void tls_pause(struct stream *s) {
    stream_pause(tls_of(s)->below);
}

static void tls_resume(struct stream *s) {
    stream_resume(tls_of(s)->below);
}

static const char *tls_peer(const struct stream *s) {
    return stream_peer(tls_of(s)->below);
}

static const uint8_t *tls_peer_ip(const struct stream *s) {
    return stream_peer_ip(tls_of(s)->below);
}

static const char *tls_protocol(const struct stream *s) {
    return tls_of(s)->alpn;
}

static const struct stream_ops tls_ops = {
    .write = tls_write,
    .pause = tls_pause,
    .resume = tls_resume,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .pending_bytes = tls_pending_bytes,
    .peer = tls_peer,
    .peer_ip = tls_peer_ip,
    .protocol = tls_protocol,
};

/* Takes the SSL. */
static struct tls_stream *tls_new(SSL *ssl, struct stream *below, const char *alpn,
                                  tls_ready_fn ready, void *ctx) {
    struct tls_stream *t = xcalloc(1, sizeof *t);
    t->base.ops = &tls_ops;
    t->below = below;
    t->alpn_list = alpn;
    t->failure = "";
    t->ready = ready;
    t->ready_ctx = ctx;
    t->ssl = ssl;
    CHECK(t->ssl != NULL);
    SSL_set_app_data(t->ssl, t);
    BIO *bio = bio_new(t);
    SSL_set_bio(t->ssl, bio, bio);
    stream_set_handler(below, &below_handler, t);
    return t;
}

struct stream *tls_accept(struct tls_server *s, struct stream *below, const char *alpn,
                          tls_ready_fn ready, void *ctx) {
    struct tls_set *set = tls_server_set(s);
    struct tls_stream *t = tls_new(SSL_new(tls_set_context(set, 0)), below, alpn, ready, ctx);
    t->set = set;
    SSL_set_accept_state(t->ssl);
    return &t->base;
}

static bool is_address(const char *host) {
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(host);
    ASN1_OCTET_STRING_free(address);
    return address != NULL;
}

struct stream *tls_connect(struct tls_client *c, struct stream *below, const char *host,
                           const char *alpn, tls_ready_fn ready, void *ctx) {
    unsigned char protocols[256];
    struct tls_stream *t = tls_new(tls_client_ssl(c), below, alpn, ready, ctx);
    size_t size = tls_alpn_encode(alpn, protocols);
    if (size > 0)
        CHECK(SSL_set_alpn_protos(t->ssl, protocols, (unsigned)size) == 0);
    if (is_address(host)) {
        CHECK(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) == 1);
    } else {
        CHECK(SSL_set1_host(t->ssl, host) == 1);
        CHECK(SSL_set_tlsext_host_name(t->ssl, host) == 1);
    }
    SSL_set_connect_state(t->ssl);
    handshake(t); /* says hello; cannot be done yet */
    return &t->base;
}

bool tls_is(const struct stream *s) {
    return s->ops == &tls_ops;
}

bool tls_resumed(const struct stream *s) {
    return SSL_session_reused(tls_of(s)->ssl) != 0;
}

const char *tls_version(const struct stream *s) {
    return SSL_get_version(tls_of(s)->ssl);
}

const char *tls_failure(const struct stream *s) {
    return tls_of(s)->failure;
}

bool tls_cut_short(const struct stream *s) {
    return tls_of(s)->cut_short;
}

bool tls_is_client(const struct stream *s) {
    return SSL_is_server(tls_of(s)->ssl) == 0;
}

bool tls_peer_is(const struct stream *s, const char *host) {
    X509 *cert = SSL_get0_peer_certificate(tls_of(s)->ssl);
    return cert && SSL_get_verify_result(tls_of(s)->ssl) == X509_V_OK &&
           (is_address(host) ? X509_check_ip_asc(cert, host, 0)
                             : X509_check_host(cert, host, 0, 0, NULL)) == 1;
}
