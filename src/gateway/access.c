#include "gateway/access.h"

#include <stdlib.h>
#include <sys/random.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/reply.h"
#include "gateway/http_json.h"
#include "gateway/pack.h"
#include "gateway/sites.h"
#include "net/sha256.h"
#include "store/store.h"

enum {
    SLOTS = 4 * ACCESS_TOKENS_MAX,
    VERIFIED = 256, /* a power of two */
    POLL_TIMEOUT_MS = 5000,
    LIST_LIMIT = KV_LIST_LIMIT_MAX,
    TOKENS_TAKEN_MAX = 2 * ACCESS_TOKENS_MAX, /* creations at the same moment can pass the limit */
};

struct known {
    uint8_t hash[SHA256_BYTES];
    struct access_token token;
};

/* A text that was verified: the place in `known` it led to. */
struct verified {
    bool used, admin;
    uint32_t at;
    uint8_t text[ACCESS_TEXT_BYTES];
};

struct access {
    struct gateway *gw;
    const struct access_options *o;
    bool loaded;
    uint64_t as_of_ms; /* the tokens are at least as new as what was acknowledged then */
    uint64_t content;  /* hash of what was read */
    struct known *known;
    size_t count;
    uint32_t *slots; /* place in `known` + 1, by the hash's first bytes; 0: free */
    struct verified verified[VERIFIED];
    uint64_t seed;
    struct upstream_request poll;
    bool polling;
    uint64_t polled_ms;
    struct list holds;   /* of struct access_hold */
    uint64_t sites;      /* revision of the sites by whose rules they were looked at last */
    uint64_t lookups_ms; /* the second that is counted */
    uint32_t lookups;
    bool warned;
};

/* conn.access_looked */
enum { LOOKED_NOT, LOOKED_UNDER_WAY, LOOKED_DONE, LOOKED_FAILED };

const struct access_options *access_options_of(const struct gateway *gw) {
    return gw->access ? gw->access->o : NULL;
}

size_t access_token_count(const struct gateway *gw) {
    return gw->access->count;
}

/* In a time that does not depend on where they differ. */
static bool same_secret(const uint8_t *a, const uint8_t *b, size_t size) {
    volatile uint8_t differ = 0;
    for (size_t i = 0; i < size; i++)
        differ = (uint8_t)(differ | (a[i] ^ b[i]));
    return differ == 0;
}

/* ---- the tokens --------------------------------------------------------------------------------
 */

static size_t slot_of(const uint8_t *hash) {
    return (hash[0] | (size_t)hash[1] << 8) % SLOTS;
}

static const struct known *find(const struct access *a, const uint8_t *hash) {
    for (size_t at = slot_of(hash); a->slots[at]; at = (at + 1) % SLOTS) {
        const struct known *k = &a->known[a->slots[at] - 1];
        if (memcmp(k->hash, hash, SHA256_BYTES) == 0)
            return k;
    }
    return NULL;
}

static void forget(struct access *a) {
    for (size_t i = 0; i < a->count; i++)
        access_token_fini(&a->known[i].token);
    free(a->known);
    a->known = NULL;
    a->count = 0;
    memset(a->slots, 0, SLOTS * sizeof *a->slots);
    explicit_bzero(a->verified, sizeof a->verified);
}

/* One row of KV.LIST. What is not a token of ours is passed over: it lets nobody in. */
static bool take_row(struct access *a, struct slice *rows) {
    struct reply_item row[7];
    struct known k = {0};
    if (!http_take_row(rows, row, 7))
        return false;
    if (a->count == TOKENS_TAKEN_MAX || row[0].type != '$' || row[6].type != '$' ||
        !sha256_from_hex(row[0].bytes, k.hash) || !access_record_parse(row[6].bytes, &k.token))
        return true;
    a->known[a->count++] = k;
    size_t at = slot_of(k.hash);
    while (a->slots[at])
        at = (at + 1) % SLOTS;
    a->slots[at] = (uint32_t)a->count;
    return true;
}

static bool is_admin(const struct access *a, const uint8_t *hash) {
    return a->o->has_admin && same_secret(a->o->admin, hash, SHA256_BYTES);
}

bool access_knows(const struct gateway *gw, const uint8_t hash[SHA256_BYTES]) {
    return find(gw->access, hash) || is_admin(gw->access, hash);
}

/* Ends what may not be any more. */
static void end_holds(struct access *a) {
    LIST_FOREACH_SAFE (it, &a->holds) {
        struct access_hold *hold = LIST_ENTRY(it, struct access_hold, node);
        if (hold->may(hold))
            continue;
        list_remove(&hold->node);
        hold->ended(hold);
    }
}

bool access_hold(struct gateway *gw, struct access_hold *hold) {
    list_push_back(&gw->access->holds, &hold->node);
    return hold->may(hold);
}

/* Takes over what KV.LIST has answered. False: malformed; then none are known. */
static bool take_tokens(struct access *a, struct slice reply) {
    struct reply_item header, revision, more, rows;
    if (!reply_next(&reply, &header) || header.type != '*' || header.integer != 4 ||
        !reply_next(&reply, &revision) || !reply_next(&reply, &more))
        return false;
    uint64_t content = hash64(reply, a->seed);
    if (a->loaded && a->content == content)
        return true;
    forget(a);
    a->loaded = false;
    if (!reply_next(&reply, &rows) || rows.type != '*' || rows.integer < 0 ||
        rows.integer > LIST_LIMIT)
        return false;
    size_t most = rows.integer < TOKENS_TAKEN_MAX ? (size_t)rows.integer : TOKENS_TAKEN_MAX;
    a->known = most ? xcalloc(most, sizeof *a->known) : NULL;
    for (int64_t i = 0; i < rows.integer; i++)
        if (!take_row(a, &reply))
            return false;
    a->content = content;
    a->loaded = true;
    end_holds(a);
    return true;
}

static bool take_reply(struct access *a, enum upstream_outcome outcome, struct slice reply,
                       uint64_t asked_ms) {
    bool ok = outcome == UPSTREAM_DONE && !reply_is_error(reply) && take_tokens(a, reply);
    if (ok && asked_ms > a->as_of_ms)
        a->as_of_ms = asked_ms;
    return ok;
}

static void pack_list(struct buf *out) {
    struct pack p = pack_begin("KV.LIST");
    pack_str(&p, "");
    pack_str(&p, "");
    pack_str(&p, "");
    pack_u64(&p, LIST_LIMIT);
    pack_u64(&p, 1);
    *out = pack_end(&p);
}

static void on_poll(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    struct access *a = CONTAINER_OF(req, struct access, poll);
    (void)index;
    a->polling = false;
    take_reply(a, outcome, reply, a->polled_ms);
    bool stale = a->loaded && gateway_now_ms(a->gw) - a->as_of_ms > ACCESS_STALE_MS;
    if (stale && !a->warned)
        log_warn("tokens-stale", "since_ms=%llu",
                 (unsigned long long)(gateway_now_ms(a->gw) - a->as_of_ms));
    a->warned = stale;
}

void access_sweep(struct access *a) {
    uint64_t now_ms = gateway_now_ms(a->gw), sites = sites_revision(a->gw->sites);
    if (sites != a->sites) {
        a->sites = sites;
        end_holds(a);
    }
    if (a->polling || a->gw->draining || (a->polled_ms && now_ms - a->polled_ms < ACCESS_POLL_MS))
        return;
    a->polling = true;
    a->polled_ms = now_ms;
    a->poll = (struct upstream_request){.kind = UPSTREAM_READ,
                                        .db = STORE_DB_ACCESS,
                                        .timeout_ms = POLL_TIMEOUT_MS,
                                        .done = on_poll};
    pack_list(&a->poll.packed_argv);
    upstream_submit(a->gw->upstream, &a->poll);
}

struct access *access_new(struct gateway *gw, const struct access_options *options) {
    struct access *a = xcalloc(1, sizeof *a);
    a->gw = gw;
    a->o = options;
    list_init(&a->holds);
    a->slots = xcalloc(SLOTS, sizeof *a->slots);
    CHECK(getrandom(&a->seed, sizeof a->seed, 0) == sizeof a->seed);
    return a;
}

void access_free(struct access *a) {
    if (!a)
        return;
    if (a->polling)
        upstream_forget(a->gw->upstream, &a->poll);
    forget(a);
    free(a->slots);
    free(a);
}

/* ---- looking for tokens ------------------------------------------------------------------------
 */

struct lookup {
    struct conn_request base;
    uint64_t asked_ms;
};

static void lookup_answer(struct conn_request *base, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    struct lookup *l = CONTAINER_OF(base, struct lookup, base);
    struct conn *c = base->conn;
    (void)index;
    bool ok = take_reply(c->gw->access, outcome, reply, l->asked_ms);
    c->access_looked = ok ? LOOKED_DONE : LOOKED_FAILED;
    if (c->unordered)
        conn_request_leave(base);
    else
        conn_request_done(base);
}

static void lookup_free(struct conn_request *base) {
    free(CONTAINER_OF(base, struct lookup, base));
}

static const struct conn_request_ops lookup_ops = {.answer = lookup_answer, .free = lookup_free};

void access_wait(struct conn *c) {
    struct buf packed;
    if (c->access_looked == LOOKED_UNDER_WAY)
        return;
    if (!conn_may_submit(c, CONN_ORDER_READ)) {
        conn_wait(c);
        return;
    }
    struct lookup *l = xcalloc(1, sizeof *l);
    l->asked_ms = gateway_now_ms(c->gw);
    c->access_looked = LOOKED_UNDER_WAY;
    conn_enqueue(c, &l->base, &lookup_ops);
    pack_list(&packed);
    conn_submit(&l->base, UPSTREAM_READ, STORE_DB_ACCESS, &packed);
    if (!c->unordered)
        conn_hold(c);
}

void access_decided(struct conn *c) {
    if (c->access_looked != LOOKED_UNDER_WAY)
        c->access_looked = LOOKED_NOT;
}

/* Whether one more may be looked for in this second. */
static bool may_look(struct access *a) {
    uint64_t now_ms = gateway_now_ms(a->gw);
    if (now_ms - a->lookups_ms >= 1000) {
        a->lookups_ms = now_ms;
        a->lookups = 0;
    }
    return a->lookups < ACCESS_LOOKUPS_PER_S && ++a->lookups > 0;
}

static bool fresh(const struct access *a) {
    return a->loaded && gateway_now_ms(a->gw) - a->as_of_ms <= ACCESS_STALE_MS;
}

struct who access_settle(struct conn *c, struct who who) {
    if (who.kind == WHO_UNKNOWN)
        who.kind = fresh(c->gw->access) ? WHO_NOBODY : WHO_UNAVAILABLE;
    return who;
}

/* For who is not known, or not for certain. */
static struct who ask_or(struct conn *c, enum who_kind kind) {
    switch (c->access_looked) {
    case LOOKED_UNDER_WAY:
        return (struct who){.kind = WHO_UNKNOWN};
    case LOOKED_DONE:
        return (struct who){.kind = kind};
    case LOOKED_FAILED:
        return (struct who){.kind = WHO_UNAVAILABLE};
    default:
        return (struct who){.kind = !fresh(c->gw->access) || may_look(c->gw->access) ? WHO_UNKNOWN
                                                                                     : kind};
    }
}

/* ---- who it is ---------------------------------------------------------------------------------
 */

/* 127.0.0.0/8 and ::1. */
static bool is_here(const uint8_t *ip) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, loopback[16] = {[15] = 1};
    return ip && ((memcmp(ip, mapped, sizeof mapped) == 0 && ip[12] == 127) ||
                  memcmp(ip, loopback, sizeof loopback) == 0);
}

bool access_is_here(const struct conn *c) {
    return is_here(stream_peer_ip(c->stream));
}

/* Whether who comes from elsewhere needs credentials, as far as is known. */
static bool is_closed(const struct access *a) {
    return a->o->require || a->o->on || a->o->site || a->o->has_admin || a->count > 0;
}

bool access_needs_login(const struct conn *c) {
    const struct access *a = c->gw->access;
    return a->o->require || (is_closed(a) && !access_is_here(c));
}

struct who access_anonymous(struct conn *c, bool for_itself) {
    const struct access *a = c->gw->access;
    if (!a)
        return (struct who){.kind = WHO_TRUSTED};
    bool here = access_is_here(c), trusted = here && for_itself;
    /* Without --insecure nobody comes from elsewhere but in this way. */
    bool closed = is_closed(a) || (here && !a->o->insecure);
    if (a->o->require || (!trusted && closed))
        return (struct who){.kind = WHO_ANONYMOUS};
    if (trusted || a->loaded)
        return (struct who){.kind = WHO_TRUSTED};
    return ask_or(c, WHO_UNAVAILABLE);
}

bool access_is_open(struct conn *c, bool for_itself) {
    const struct access *a = c->gw->access;
    return !a || (a->count == 0 && !a->o->has_admin &&
                  access_anonymous(c, for_itself).kind == WHO_TRUSTED);
}

static struct who of_known(struct conn *c, const struct known *k) {
    struct access *a = c->gw->access;
    if (!k || !fresh(a))
        return ask_or(c, fresh(a) ? WHO_NOBODY : WHO_UNAVAILABLE);
    return (struct who){.kind = k->token.admin ? WHO_TRUSTED : WHO_TOKEN, .token = &k->token};
}

struct who access_hash(struct conn *c, const uint8_t hash[SHA256_BYTES]) {
    if (is_admin(c->gw->access, hash))
        return (struct who){.kind = WHO_TRUSTED};
    return of_known(c, find(c->gw->access, hash));
}

struct who access_secret(struct conn *c, struct slice text, uint8_t ret_hash[SHA256_BYTES]) {
    struct access *a = c->gw->access;
    uint8_t hash[SHA256_BYTES];
    if (!access_text_ok(text))
        return (struct who){.kind = WHO_NOBODY};
    struct verified *v = &a->verified[hash64(text, a->seed) & (VERIFIED - 1)];
    if (!ret_hash && v->used && same_secret(v->text, text.data, ACCESS_TEXT_BYTES))
        return v->admin ? (struct who){.kind = WHO_TRUSTED} : of_known(c, &a->known[v->at]);
    sha256_of(text, hash);
    if (ret_hash)
        memcpy(ret_hash, hash, SHA256_BYTES);
    bool admin = is_admin(a, hash);
    const struct known *k = admin ? NULL : find(a, hash);
    if (admin || k) {
        *v =
            (struct verified){.used = true, .admin = admin, .at = k ? (uint32_t)(k - a->known) : 0};
        memcpy(v->text, text.data, ACCESS_TEXT_BYTES);
    }
    return admin ? (struct who){.kind = WHO_TRUSTED} : of_known(c, k);
}
