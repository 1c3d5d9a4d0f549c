#include "server/tls_setup.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

enum { LOOK_EVERY_MS = 12 * 3600 * 1000, WARN_S = 14 * 86400 };

static bool is_off(const char *address) {
    return strcmp(address, "off") == 0 || *address == 0;
}

bool tls_setup_init(struct tls_setup *t, const struct server_options *o) {
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

static void say_certificates(struct tls_setup *t, bool all) {
    struct tls_certificate certificates[TLS_PAIRS_MAX];
    size_t count = tls_server_certificates(t->server, certificates, TLS_PAIRS_MAX);
    int64_t now_s = (int64_t)time(NULL);
    for (size_t i = 0; i < count; i++) {
        const struct tls_certificate *c = &certificates[i];
        long long days = (long long)((c->not_after_s - now_s) / 86400);
        const char *file = log_quote(slice_str(c->file)), *names = log_quote(slice_str(c->names));
        if (c->not_after_s <= now_s)
            log_error("certificate-expired", "file=%s names=%s days_ago=%lld", file, names, -days);
        else if (c->not_before_s > now_s)
            log_error("certificate-not-valid-yet", "file=%s names=%s", file, names);
        else if (c->not_after_s - now_s < WARN_S)
            log_warn("certificate-expires", "file=%s names=%s days=%lld", file, names, days);
        else if (all)
            log_info("certificate", "file=%s names=%s days=%lld", file, names, days);
    }
}

static void on_timer(void *ctx) {
    struct tls_setup *t = ctx;
    say_certificates(t, false);
    timer_set(t->timer, loop_now_ms(t->loop) + LOOK_EVERY_MS);
}

void tls_setup_watch(struct tls_setup *t, struct loop *loop) {
    if (!t->server)
        return;
    say_certificates(t, true);
    t->loop = loop;
    t->timer = timer_new(loop, on_timer, t);
    timer_set(t->timer, loop_now_ms(loop) + LOOK_EVERY_MS);
}

void tls_setup_reload(struct tls_setup *t) {
    char error[TLS_ERROR_BYTES] = "";
    if (!t->server)
        return;
    if (tls_server_reload(t->server, error) < 0) {
        log_error("certificates-kept", "reason=%s", log_quote(slice_str(error)));
        return;
    }
    log_info("certificates-reloaded", "files=%zu", tls_server_certificates(t->server, NULL, 0));
    say_certificates(t, true);
}

void tls_setup_fini(struct tls_setup *t) {
    if (t->timer)
        timer_free(t->timer);
    tls_server_free(t->server);
}
