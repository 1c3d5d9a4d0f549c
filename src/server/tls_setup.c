#include "server/tls_setup.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

enum { LOOK_EVERY_MS = 12 * 3600 * 1000, WARN_S = 14 * 86400 };

static bool is_off(const char *address) {
    return strcmp(address, "off") == 0 || *address == 0;
}

static bool init_peer(const char *cert, const char *key, const char *ca, struct tls_peer **ret) {
    char error[TLS_ERROR_BYTES] = "";
    const struct tls_peer_options options = {.cert_file = cert, .key_file = key, .ca_file = ca};
    *ret = NULL;
    if (!*cert && !*key && !*ca)
        return true;
    if (!*cert || !*key || !*ca) {
        fprintf(stderr, "cotidal: --peer-cert, --peer-key and --peer-ca go together\n");
        return false;
    }
    if (tls_peer_new(&options, ret, error) == 0)
        return true;
    fprintf(stderr, "cotidal: %s\n", error);
    return false;
}

static bool init_clients(struct tls_setup *t, const struct server_options *o) {
    struct tls_pair pairs[TLS_PAIRS_MAX];
    char error[TLS_ERROR_BYTES] = "";
    bool wanted = (o->role & ROLES_CLIENTS) && (!is_off(o->https) || !is_off(o->rediss));
    if (o->cert.count != o->key.count) {
        fprintf(stderr,
                "cotidal: --cert was given %zu times and --key %zu times: each certificate needs "
                "its key\n",
                o->cert.count, o->key.count);
        return false;
    }
    if (wanted && o->cert.count == 0) {
        fprintf(stderr, "cotidal: --https and --rediss need --cert FILE and --key FILE\n");
        return false;
    }
    if (!wanted)
        return true;
    for (size_t i = 0; i < o->cert.count; i++)
        pairs[i] = (struct tls_pair){.cert_file = o->cert.items[i], .key_file = o->key.items[i]};
    const struct tls_server_options options = {.pairs = pairs, .pair_count = o->cert.count};
    if (tls_server_new(&options, &t->server, error) < 0) {
        fprintf(stderr, "cotidal: %s\n", error);
        return false;
    }
    return true;
}

bool tls_setup_init(struct tls_setup *t, const struct server_options *o) {
    return init_peer(o->peer_cert, o->peer_key, o->peer_ca, &t->peer) && init_clients(t, o);
}

static void say_certificate(const struct tls_certificate *c, bool always) {
    int64_t now_s = (int64_t)time(NULL);
    long long days = (long long)((c->not_after_s - now_s) / 86400);
    const char *file = log_quote(slice_str(c->file)), *names = log_quote(slice_str(c->names));
    if (c->not_after_s <= now_s)
        log_error("certificate-expired", "file=%s names=%s days_ago=%lld", file, names, -days);
    else if (c->not_before_s > now_s)
        log_error("certificate-not-valid-yet", "file=%s names=%s", file, names);
    else if (c->not_after_s - now_s < WARN_S)
        log_warn("certificate-expires", "file=%s names=%s days=%lld", file, names, days);
    else if (always)
        log_info("certificate", "file=%s names=%s days=%lld", file, names, days);
}

static void say_client_certificates(struct tls_setup *t, bool all) {
    struct tls_certificate certificates[TLS_PAIRS_MAX];
    size_t count = tls_server_certificates(t->server, certificates, TLS_PAIRS_MAX);
    for (size_t i = 0; i < count; i++)
        say_certificate(&certificates[i], all);
}

static void say_peer_certificate(struct tls_setup *t, bool always) {
    struct tls_certificate c = tls_peer_certificate(t->peer);
    say_certificate(&c, always);
}

static void say_certificates(struct tls_setup *t, bool all) {
    if (t->server)
        say_client_certificates(t, all);
    if (t->peer)
        say_peer_certificate(t, all);
}

static void on_timer(void *ctx) {
    struct tls_setup *t = ctx;
    say_certificates(t, false);
    timer_set(t->timer, loop_now_ms(t->loop) + LOOK_EVERY_MS);
}

void tls_setup_watch(struct tls_setup *t, struct loop *loop) {
    if (!t->server && !t->peer)
        return;
    say_certificates(t, true);
    t->loop = loop;
    t->timer = timer_new(loop, on_timer, t);
    timer_set(t->timer, loop_now_ms(loop) + LOOK_EVERY_MS);
}

/* Those for clients and those for the other nodes come from different hands: one does not hold the
 * other up. */
void tls_setup_reload(struct tls_setup *t) {
    char error[TLS_ERROR_BYTES] = "";
    if (t->server && tls_server_reload(t->server, error) < 0) {
        log_error("certificates-kept", "reason=%s", log_quote(slice_str(error)));
    } else if (t->server) {
        log_info("certificates-reloaded", "files=%zu", tls_server_certificates(t->server, NULL, 0));
        say_client_certificates(t, true);
    }
    if (t->peer && tls_peer_reload(t->peer, error) < 0) {
        log_error("peer-certificate-kept", "reason=%s", log_quote(slice_str(error)));
    } else if (t->peer) {
        log_info("peer-certificate-reloaded", "files=1");
        say_peer_certificate(t, true);
    }
}

void tls_setup_fini(struct tls_setup *t) {
    if (t->timer)
        timer_free(t->timer);
    tls_server_free(t->server);
    tls_peer_free(t->peer);
}
