#include "linear.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

bool history_full(const struct history *h) {
    return h->count == HISTORY_MAX;
}

int history_call(struct history *h, enum history_kind kind, uint64_t value, uint64_t old) {
    CHECK(h->count < HISTORY_MAX);
    h->ops[h->count] = (struct history_op){
        .kind = kind, .value = value, .old = old, .call = ++h->clock, .back = UINT64_MAX};
    return h->count++;
}

void history_return(struct history *h, int op, uint64_t answer) {
    struct history_op *o = &h->ops[op];
    o->back = ++h->clock;
    o->answer = answer;
    if (o->kind == HISTORY_READ)
        h->last_seen = answer;
    else if (o->kind == HISTORY_WRITE || answer)
        h->last_seen = o->value;
}

void history_give_up(struct history *h, int op, bool perhaps) {
    h->ops[op].ignored = !perhaps;
    h->open += perhaps;
}

/* ---- the search ---- */

struct config {
    uint64_t taken[HISTORY_MAX / 64];
    uint64_t value;
};
struct visited {
    struct config *slots;
    size_t capacity, count;
    size_t count_max; /* 0: no limit */
};

static uint64_t config_hash(const struct config *c) {
    uint64_t h = c->value * 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < HISTORY_MAX / 64; i++)
        h = (h ^ (h >> 29) ^ c->taken[i]) * 0xBF58476D1CE4E5B9u;
    return h ^ (h >> 32);
}

static bool slot_used(const struct config *c) {
    return c->taken[0] != 0 || c->taken[1] != 0;
}

static bool visited_put(struct visited *v, const struct config *c);

static void visited_grow(struct visited *v) {
    struct visited old = *v;
    v->capacity = old.capacity ? old.capacity * 4 : 1024;
    v->slots = xcalloc(v->capacity, sizeof v->slots[0]);
    v->count = 0;
    for (size_t i = 0; i < old.capacity; i++)
        if (slot_used(&old.slots[i]))
            visited_put(v, &old.slots[i]);
    free(old.slots);
}

/* False when it was there already. */
static bool visited_put(struct visited *v, const struct config *c) {
    if (2 * v->count >= v->capacity)
        visited_grow(v);
    size_t at = config_hash(c) & (v->capacity - 1);
    while (slot_used(&v->slots[at])) {
        if (memcmp(&v->slots[at], c, sizeof *c) == 0)
            return false;
        at = (at + 1) & (v->capacity - 1);
    }
    v->slots[at] = *c;
    v->count++;
    return true;
}

static bool taken(const struct config *c, int i) {
    return c->taken[i / 64] >> (i % 64) & 1;
}

static bool is_open(const struct history_op *o) {
    return o->back == UINT64_MAX;
}

static bool is_left(const struct history *h, const struct config *c, int i) {
    return !h->ops[i].ignored && !taken(c, i);
}

/* Whether op can come next at `value`; the value after it. */
static bool op_fits(const struct history_op *o, uint64_t value, uint64_t *ret_value) {
    *ret_value = value;
    switch (o->kind) {
    case HISTORY_READ:
        return o->answer == value;
    case HISTORY_WRITE:
        *ret_value = o->value;
        return true;
    case HISTORY_CAS:
        if (value == o->old)
            *ret_value = o->value;
        return is_open(o) || o->answer == (value == o->old);
    }
    return false;
}

/* The earliest return among the operations that are left bounds what may come next. UINT64_MAX:
 * nothing is left that was answered. */
static uint64_t earliest_return(const struct history *h, const struct config *c) {
    uint64_t bound = UINT64_MAX;
    for (int i = 0; i < h->count; i++)
        if (is_left(h, c, i) && h->ops[i].back < bound)
            bound = h->ops[i].back;
    return bound;
}

/* Takes every answered operation that may come next, fits and leaves the value as it is: if there
 * is an order at all, there is one in which it comes now. False when nothing answered is left. */
static bool take_idle(const struct history *h, struct config *c, uint64_t *ret_bound) {
    for (;;) {
        uint64_t bound = earliest_return(h, c), after;
        bool some = false;
        if (bound == UINT64_MAX)
            return false;
        for (int i = 0; i < h->count; i++) {
            const struct history_op *o = &h->ops[i];
            if (is_left(h, c, i) && !is_open(o) && o->call <= bound && o->kind != HISTORY_WRITE &&
                op_fits(o, c->value, &after) && after == c->value) {
                c->taken[i / 64] |= 1ull << (i % 64);
                some = true;
            }
        }
        *ret_bound = bound;
        if (!some)
            return true;
    }
}

/* Whether an operation that was never answered can explain anything if it comes now: its value is
 * seen by another, or a CAS has to fail that would succeed at the value that is there. If neither,
 * an order with it is one without it as well. */
static bool explains(const struct history *h, const struct config *c, int op) {
    const struct history_op *o = &h->ops[op];
    if (o->kind == HISTORY_READ || (o->kind == HISTORY_CAS && o->old != c->value))
        return false;
    for (int i = 0; i < h->count; i++) {
        const struct history_op *other = &h->ops[i];
        if (i == op || !is_left(h, c, i))
            continue;
        if (other->kind == HISTORY_READ && !is_open(other) && other->answer == o->value)
            return true;
        bool failed = other->kind == HISTORY_CAS && !is_open(other) && !other->answer;
        if (failed ? other->old == c->value : other->kind == HISTORY_CAS && other->old == o->value)
            return true;
    }
    return false;
}

/* Whether somebody who is left, other than op, must find the value that is there, which nobody who
 * is left can bring back. */
static bool is_missed(const struct history *h, const struct config *c, int op) {
    bool missed = false;
    for (int i = 0; i < h->count; i++) {
        const struct history_op *o = &h->ops[i];
        if (i == op || !is_left(h, c, i))
            continue;
        if (o->kind != HISTORY_READ && o->value == c->value)
            return false;
        if (!is_open(o) && ((o->kind == HISTORY_READ && o->answer == c->value) ||
                            (o->kind == HISTORY_CAS && o->answer && o->old == c->value)))
            missed = true;
    }
    return missed;
}

static bool too_many(const struct visited *v) {
    return v->count_max && v->count >= v->count_max;
}

static bool search(const struct history *h, struct visited *v, struct config c) {
    uint64_t bound;
    if (!take_idle(h, &c, &bound))
        return true;
    for (int i = 0; i < h->count && !too_many(v); i++) {
        const struct history_op *o = &h->ops[i];
        struct config next = c;
        if (!is_left(h, &c, i) || o->call > bound || (is_open(o) && !explains(h, &c, i)) ||
            !op_fits(o, c.value, &next.value) || (next.value != c.value && is_missed(h, &c, i)))
            continue;
        next.taken[i / 64] |= 1ull << (i % 64);
        if (visited_put(v, &next) && search(h, v, next))
            return true;
    }
    return false;
}

enum history_verdict history_search(const struct history *h, size_t configurations_max) {
    struct visited v = {.count_max = configurations_max};
    struct config begin = {0};
    bool ok = search(h, &v, begin);
    bool gave_up = !ok && too_many(&v);
    free(v.slots);
    return ok ? HISTORY_LINEARIZABLE : gave_up ? HISTORY_UNDECIDED : HISTORY_WRONG;
}

bool history_linearizable(const struct history *h) {
    return history_search(h, 0) == HISTORY_LINEARIZABLE;
}
