#include "gateway/client_limits.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/hash.h"
#include "proto/site_access.h"

enum { SETS = 8192, WAYS = 8, LOCKS = 64 };
/* Addresses with connections, however many connections the process may have. */
enum { ADDRESSES_MAX = 1 << 20 };

struct counted {
    uint64_t key;
    uint32_t count; /* 0: the place is free */
};

struct paced {
    uint64_t key;
    uint64_t due_us; /* 0: free; in the past: as if free */
};

struct client_limits {
    struct client_limits_options o;
    uint64_t seed;
    /* Linear probing, at most half full: every entry is a connection at least. */
    pthread_mutex_t counted_mutex;
    struct counted *counted;
    size_t mask, used;
    pthread_mutex_t paced_mutex[LOCKS]; /* set i belongs to lock i % LOCKS */
    struct paced (*paced)[WAYS];
};

static uint64_t key_of(const uint8_t *ip) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(ip, mapped, sizeof mapped) == 0)
        return (uint64_t)0xffff << 32 | get_u32le(ip + 12); /* no prefix of IPv6 that is in use */
    return get_u64le(ip);
}

static uint64_t hash_of(const struct client_limits *l, uint64_t key) {
    return hash64(slice_of(&key, sizeof key), l->seed);
}

struct client_limits *client_limits_new(const struct client_limits_options *o, uint64_t seed) {
    struct client_limits *l = xcalloc(1, sizeof *l);
    size_t size = 16;
    l->o = *o;
    l->seed = seed;
    if (l->o.rate_burst == 0)
        l->o.rate_burst = l->o.rate_per_s;
    while (size < 2 * ((size_t)o->connections_max + 1) && size < 2 * ADDRESSES_MAX)
        size *= 2;
    if (o->per_address_max > 0) {
        l->counted = xcalloc(size, sizeof *l->counted);
        l->mask = size - 1;
    }
    if (o->rate_per_s > 0)
        l->paced = xcalloc(SETS, sizeof *l->paced);
    CHECK(pthread_mutex_init(&l->counted_mutex, NULL) == 0);
    for (size_t i = 0; i < LOCKS; i++)
        CHECK(pthread_mutex_init(&l->paced_mutex[i], NULL) == 0);
    return l;
}

void client_limits_free(struct client_limits *l) {
    if (!l)
        return;
    pthread_mutex_destroy(&l->counted_mutex);
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&l->paced_mutex[i]);
    free(l->counted);
    free(l->paced);
    free(l);
}

/* ---- connections ---- */

/* Where the key is, or the free place where it would go. */
static size_t find(const struct client_limits *l, uint64_t key) {
    size_t at = hash_of(l, key) & l->mask;
    while (l->counted[at].count > 0 && l->counted[at].key != key)
        at = (at + 1) & l->mask;
    return at;
}

/* Frees a place, and moves up what had to give way to it. */
static void forget(struct client_limits *l, size_t at) {
    size_t next = at;
    l->counted[at].count = 0;
    l->used--;
    for (;;) {
        next = (next + 1) & l->mask;
        if (l->counted[next].count == 0)
            return;
        size_t home = hash_of(l, l->counted[next].key) & l->mask;
        if (((next - home) & l->mask) >= ((next - at) & l->mask)) {
            l->counted[at] = l->counted[next];
            l->counted[next].count = 0;
            at = next;
        }
    }
}

bool client_limits_enter(struct client_limits *l, const uint8_t *ip) {
    if (!l->counted || !ip)
        return true;
    uint64_t key = key_of(ip);
    pthread_mutex_lock(&l->counted_mutex);
    struct counted *c = &l->counted[find(l, key)];
    bool room = c->count < l->o.per_address_max && (c->count > 0 || l->used <= l->mask / 2);
    if (room) {
        l->used += c->count == 0;
        c->key = key;
        c->count++;
    }
    pthread_mutex_unlock(&l->counted_mutex);
    return room;
}

void client_limits_leave(struct client_limits *l, const uint8_t *ip) {
    if (!l->counted || !ip)
        return;
    pthread_mutex_lock(&l->counted_mutex);
    size_t at = find(l, key_of(ip));
    CHECK(l->counted[at].count > 0);
    if (--l->counted[at].count == 0)
        forget(l, at);
    pthread_mutex_unlock(&l->counted_mutex);
}

/* ---- requests ---- */

/* The key's entry in its set, else the one that would be forgotten first. */
static struct paced *choose(struct paced *set, uint64_t key) {
    struct paced *oldest = &set[0];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].key == key && set[i].due_us > 0)
            return &set[i];
        if (set[i].due_us < oldest->due_us)
            oldest = &set[i];
    }
    oldest->key = key;
    oldest->due_us = 0;
    return oldest;
}

bool client_limits_request(struct client_limits *l, const uint8_t *ip, uint64_t now_ms,
                           uint32_t *ret_wait_ms) {
    if (!l->paced || !ip)
        return true;
    uint64_t key = key_of(ip), now_us = now_ms * 1000;
    uint64_t step_us = 1000000 / l->o.rate_per_s, ahead_us = step_us * (l->o.rate_burst - 1);
    size_t set = (hash_of(l, key) >> 32) % SETS;
    pthread_mutex_lock(&l->paced_mutex[set % LOCKS]);
    struct paced *p = choose(l->paced[set], key);
    uint64_t due_us = p->due_us > now_us ? p->due_us : now_us;
    bool taken = due_us - now_us <= ahead_us;
    if (taken)
        p->due_us = due_us + step_us;
    pthread_mutex_unlock(&l->paced_mutex[set % LOCKS]);
    if (!taken)
        *ret_wait_ms = (uint32_t)((due_us - now_us - ahead_us + 999) / 1000);
    return taken;
}

bool client_limits_parse_rate(struct slice text, uint32_t *ret_rate, uint32_t *ret_burst) {
    return rate_parse(text, ret_rate, ret_burst);
}

struct client_limits **client_limits_of_rules(const struct site_access *rules) {
    struct client_limits **limits = xcalloc(rules->rule_count + 1, sizeof(struct client_limits *));
    for (size_t i = 0; i < rules->rule_count; i++) {
        const struct client_limits_options o = {.rate_per_s = rules->rules[i].rate_per_s,
                                                .rate_burst = rules->rules[i].rate_burst};
        uint64_t seed = 0;
        CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed);
        limits[i] = o.rate_per_s > 0 ? client_limits_new(&o, seed) : NULL;
    }
    return limits;
}
