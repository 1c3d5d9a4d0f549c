/* Who may use which route, and pages of which origins may ask (CORS). */
#include <arpa/inet.h>
#include <stdio.h>

#include "base/bytes.h"
#include "gateway/client_limits.h"
#include "gateway/http_routes.h"
#include "gateway/http_sink.h"
#include "gateway/site_serve.h"
#include "net/sha256.h"
#include "proto/url.h"

/* ---- who ---------------------------------------------------------------------------------------
 */

/* The field, when there is exactly one. */
static const struct slice *find_authorization(const struct http_head *head, bool *ret_many) {
    const struct slice *found = NULL;
    *ret_many = false;
    for (size_t i = 0; i < head->header_count; i++) {
        if (!slice_equal_nocase(head->headers[i].name, "Authorization"))
            continue;
        *ret_many = found != NULL;
        if (found)
            return NULL;
        found = &head->headers[i].value;
    }
    return found;
}

/* The token in it; RFC 6750 section 2.1, and the scheme's case does not matter. Empty: none. */
static struct slice bearer_of(struct slice value) {
    struct slice text = slice_of(NULL, 0);
    if (value.size > 7 && strncasecmp((const char *)value.data, "Bearer ", 7) == 0)
        text = slice_of(value.data + 7, value.size - 7);
    while (text.size > 0 && text.data[0] == ' ')
        text = slice_of(text.data + 1, text.size - 1);
    return text;
}

/* The host without its port. */
static struct slice name_of(struct slice host) {
    bool literal = host.size > 0 && host.data[0] == '[';
    const uint8_t *end = host.size > 0 ? memchr(host.data, literal ? ']' : ':', host.size) : NULL;
    return end ? slice_of(host.data, (size_t)(end - host.data) + literal) : host;
}

/* Whether nobody but this machine can have the name: no host at all, localhost and what is below
 * it (RFC 6761 section 6.3), a loopback address, or a name without a dot, which the network that
 * the machine is in gives out. */
static bool is_name_here(struct slice host) {
    static const char below[] = ".localhost";
    char text[INET_ADDRSTRLEN];
    uint8_t ip[4];
    struct slice name = name_of(host);
    size_t n = sizeof below - 1;
    if (slice_equal_str(name, "[::1]") || slice_equal_str(name, "[::]"))
        return true;
    if (name.size == 0 || (name.data[0] != '[' && !memchr(name.data, '.', name.size)))
        return true;
    if (name.size > n && slice_equal_nocase(slice_of(name.data + name.size - n, n), below))
        return true;
    if (name.size >= sizeof text)
        return false;
    memcpy(text, name.data, name.size);
    text[name.size] = 0;
    return inet_pton(AF_INET, text, ip) == 1 && (ip[0] == 127 || get_u32le(ip) == 0);
}

/* Whether a page of another site embeds it (an image, a script): it may not read what it gets, but
 * sees whether there is something, and runs a script. Who follows a link wants it. */
static bool is_embedded_elsewhere(const struct gateway *gw, const struct http_head *head) {
    const struct slice *site = http_find_header(head, "Sec-Fetch-Site");
    const struct slice *dest = http_find_header(head, "Sec-Fetch-Dest");
    return site && slice_equal_str(*site, "cross-site") &&
           !(dest && slice_equal_str(*dest, "document")) && !http_cors_origin(gw, head);
}

/* Whether a client of this machine asks for itself. A page from anywhere, whose own name was made
 * to resolve to this machine, is asked for under that name (DNS rebinding); a proxy asks for its
 * clients, and says so. */
static bool is_for_itself(const struct gateway *gw, const struct http_head *head) {
    static const char *const names[] = {"X-Forwarded-For", "Forwarded", "X-Real-IP"};
    for (size_t i = 0; i < head->header_count; i++)
        for (size_t n = 0; n < ARRAY_COUNT(names); n++)
            if (slice_equal_nocase(head->headers[i].name, names[n]))
                return false;
    return is_name_here(head->host) && !is_embedded_elsewhere(gw, head);
}

struct who http_who(struct conn *c, const struct http_head *head) {
    bool many;
    if (!c->gw->access)
        return (struct who){.kind = WHO_TRUSTED};
    const struct slice *value = find_authorization(head, &many);
    if (many)
        return (struct who){.kind = WHO_NOBODY};
    struct slice text = value ? bearer_of(*value) : slice_of(NULL, 0);
    if (access_text_ok(text))
        return access_secret(c, text, NULL);
    bool for_itself = is_for_itself(c->gw, head);
    if (value && !access_is_open(c, for_itself))
        return (struct who){.kind = WHO_NOBODY};
    return access_anonymous(c, for_itself);
}

/* ---- what of -----------------------------------------------------------------------------------
 */

/* The key or prefix that the request is about, decoded. False: malformed, which the handler says in
 * its own words. */
static bool take_subject(const struct http_plan *plan, const struct http_head *head,
                         struct buf *out, bool *ret_prefix) {
    *ret_prefix = false;
    if (plan->route->access != ACCESS_READ_PREFIX)
        return url_decode(out, plan->rest);
    int key = url_query_get(head->query, "key", out);
    if (key > 0 && plan->route->handler == http_watch_get)
        return true;
    buf_reset(out);
    *ret_prefix = true;
    return key >= 0 && url_query_get(head->query, "prefix", out) >= 0;
}

static bool is_about_keys(enum http_access access) {
    return access == ACCESS_READ_KEY || access == ACCESS_WRITE_KEY || access == ACCESS_INCR_KEY ||
           access == ACCESS_READ_PREFIX;
}

static bool token_may(const struct access_token *t, enum http_access access, struct slice subject,
                      bool prefix) {
    switch (access) {
    case ACCESS_PUBLIC:
    case ACCESS_ANY_TOKEN:
    case ACCESS_SESSION:
    case ACCESS_COMMANDS:
        return true;
    case ACCESS_READ_KEY:
    case ACCESS_READ_PREFIX:
        return prefix ? access_token_reads_prefix(t, subject) : access_token_reads(t, subject);
    case ACCESS_WRITE_KEY:
    case ACCESS_INCR_KEY:
        return access_token_writes(t, subject);
    case ACCESS_DEPLOY:
        return t->deploy || t->admin;
    case ACCESS_ADMIN:
        return t->admin;
    }
    return false;
}

/* What a visitor may do: the rules that the site of this host brings, else those of the process. */
struct rules {
    const struct site_access *access; /* NULL: nothing */
    struct client_limits **limits;
};

static struct rules rules_of(struct gateway *gw, struct slice host) {
    const struct access_options *o = access_options_of(gw);
    struct site_set *set = site_set_now(gw);
    const struct site *site = set ? site_set_find(set, host) : NULL;
    const struct site_deploy *d = site ? site->shown : NULL;
    if (d && d->manifest.access.size > 0)
        return (struct rules){.access = d->access, .limits = d->limits};
    return (struct rules){.access = o->site, .limits = o->site_limits};
}

static const struct site_rule *visitor_rule(const struct site_access *site, enum http_access access,
                                            struct slice subject, bool prefix) {
    if (!site)
        return NULL;
    switch (access) {
    case ACCESS_SESSION:
        return site_access_session(site);
    case ACCESS_READ_KEY:
    case ACCESS_READ_PREFIX:
        return prefix ? site_access_prefix(site, subject)
                      : site_access_key(site, SITE_READ, subject);
    case ACCESS_WRITE_KEY:
        return site_access_key(site, SITE_WRITE, subject);
    case ACCESS_INCR_KEY:
        return site_access_key(site, SITE_INCR, subject);
    default:
        return NULL;
    }
}

/* ---- refusals ----------------------------------------------------------------------------------
 */

static void need_token(struct http_plan *plan, const char *why) {
    bool commands = strncmp(plan->route->pattern, "/v1/redis", 9) == 0;
    http_plan_refuse(plan, 401, "unauthorized", "%s: send Authorization: Bearer TOKEN", why);
    plan->as_error = commands;
}

static void decide_visitor(struct http_plan *plan, struct conn *c, const struct http_head *head,
                           struct slice subject, bool prefix) {
    uint32_t wait_ms = 0;
    bool again = plan->late; /* it was counted */
    struct rules rules = rules_of(c->gw, head->host);
    const struct site_rule *rule = visitor_rule(rules.access, plan->route->access, subject, prefix);
    struct client_limits *limits =
        rule && rules.limits ? rules.limits[rule - rules.access->rules] : NULL;
    if (!rule && access_is_here(c) && !is_for_itself(c->gw, head)) {
        need_token(plan,
                   "asked for by another name, a proxy or a page elsewhere, this needs a token");
    } else if (!rule) {
        need_token(plan, "this needs a token");
    } else if (limits && !again &&
               !client_limits_request(limits, stream_peer_ip(c->stream), gateway_now_ms(c->gw),
                                      &wait_ms)) {
        METRIC_ADD(&c->gw->metrics, http_limited_total, 1);
        http_plan_refuse(plan, 429, "rate_limited",
                         "there are too many of these from this address");
        plan->retry_after_ms = wait_ms;
    }
}

static void decide(struct http_plan *plan, struct conn *c, const struct http_head *head,
                   const struct who *who) {
    enum http_access access = plan->route->access;
    struct buf subject = {0};
    bool prefix = false;
    if (is_about_keys(access) && !take_subject(plan, head, &subject, &prefix)) {
        http_plan_refuse(plan, 400, "bad_request", "the key is not properly percent-encoded");
    } else if (who->kind == WHO_ANONYMOUS) {
        decide_visitor(plan, c, head, buf_slice(&subject), prefix);
    } else if (!token_may(who->token, access, buf_slice(&subject), prefix)) {
        http_plan_refuse(plan, 403, "forbidden", "the token %s does not allow this",
                         who->token->name);
    }
    buf_fini(&subject);
}

static void refuse_unavailable(struct http_plan *plan) {
    http_plan_refuse(plan, 503, "unavailable",
                     "the tokens cannot be read: is there a majority of nodes?");
    plan->retry_after_ms = 500;
}

bool http_plan_access(struct http_plan *plan, struct conn *c, const struct http_head *head) {
    plan->late = false;
    if (!plan->route || plan->route->access == ACCESS_PUBLIC)
        return true;
    struct who who = http_who(c, head);
    switch (who.kind) {
    case WHO_TRUSTED:
        break;
    case WHO_UNKNOWN:
        access_wait(c);
        return false;
    case WHO_NOBODY:
        need_token(plan, "the token is wrong, expired or revoked");
        break;
    case WHO_UNAVAILABLE:
        refuse_unavailable(plan);
        break;
    case WHO_ANONYMOUS:
    case WHO_TOKEN:
        decide(plan, c, head, &who);
        break;
    }
    access_decided(c);
    return true;
}

void http_plan_access_again(struct http_plan *plan, struct conn *c, const struct http_head *head) {
    if (!plan->route || plan->route->access == ACCESS_PUBLIC || !c->gw->access)
        return;
    struct who who = access_settle(c, http_who(c, head));
    switch (who.kind) {
    case WHO_ANONYMOUS:
        decide(plan, c, head, &who);
        break;
    case WHO_NOBODY:
        need_token(plan, "the token was revoked, or has expired");
        break;
    case WHO_UNAVAILABLE:
        refuse_unavailable(plan);
        break;
    default:
        break; /* what a token may do never changes */
    }
}

/* ---- what goes on for long ---------------------------------------------------------------------
 */

bool http_leave_take(struct http_leave *l, struct conn *c, const struct http_head *head) {
    bool many;
    const struct slice *value = find_authorization(head, &many);
    struct slice text = value ? bearer_of(*value) : slice_of(NULL, 0);
    if (!c->gw->access)
        return false;
    l->by_token = access_text_ok(text);
    if (l->by_token)
        sha256_of(text, l->token);
    l->for_itself = is_for_itself(c->gw, head);
    l->host = head->host;
    return l->by_token || !l->for_itself || !access_is_here(c) || access_options_of(c->gw)->require;
}

bool http_leave_reads(const struct http_leave *l, struct conn *c, struct slice text, bool prefix) {
    if (l->by_token)
        return access_knows(c->gw, l->token);
    /* Who is trusted, or not known for the moment, stays. */
    if (access_anonymous(c, l->for_itself).kind != WHO_ANONYMOUS)
        return true;
    const struct site_access *rules = rules_of(c->gw, l->host).access;
    return visitor_rule(rules, ACCESS_READ_PREFIX, text, prefix) != NULL;
}

/* ---- CORS --------------------------------------------------------------------------------------
 * What other pages may ask of /v1, by the Fetch standard. An origin that is named may also send
 * what the browser knows of the visitor. "*" is for requests with a token only, and nothing else of
 * the visitor's goes with them; so a page from anywhere cannot use that the browser runs on a
 * machine that is trusted.
 */

const char *http_cors_origin(const struct gateway *gw, const struct http_head *head) {
    const struct access_options *o = access_options_of(gw);
    const struct slice *origin = o->cors_count ? http_find_header(head, "Origin") : NULL;
    if (!origin || !slice_starts_with(head->path, slice_str("/v1/")))
        return NULL;
    bool open = false;
    for (size_t i = 0; i < o->cors_count; i++) {
        if (slice_equal_str(*origin, o->cors[i]))
            return o->cors[i];
        open |= strcmp(o->cors[i], "*") == 0;
    }
    const struct slice *value = http_find_header(head, "Authorization");
    bool token = value && access_text_ok(bearer_of(*value));
    return open && (token || head->method == HTTP_OPTIONS) ? "*" : NULL;
}

void http_cors_headers(struct http_request *r) {
    http_header(r, "Access-Control-Allow-Origin", slice_str(r->cors));
    http_header(r, "Vary", slice_str("Origin"));
    if (strcmp(r->cors, "*") != 0)
        http_header(r, "Access-Control-Allow-Credentials", slice_str("true"));
    http_header(r, "Access-Control-Expose-Headers",
                slice_str("ETag, Link, Kv-Age-Ms, Kv-Expires, Kv-Index, Idempotency-Replayed, "
                          "Retry-After"));
}

void http_cors_preflight(struct http_request *r) {
    http_header(r, "Access-Control-Allow-Methods",
                slice_str("GET, HEAD, PUT, POST, PATCH, DELETE"));
    http_header(r, "Access-Control-Allow-Headers",
                slice_str("Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, "
                          "Kv-Consistency, Last-Event-ID, Upstash-Encoding"));
    http_header(r, "Access-Control-Max-Age", slice_str("600"));
}
