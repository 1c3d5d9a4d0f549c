/* Clients: each has one request under way and remembers what it must be able to count on.
 *
 * Four kinds of keys. Three of them are made so that linearizability can be checked without search,
 * since every answer tells its place in the order: counts   INCR answers a value that nobody else
 * may get, above all that was known when it began texts    APPEND of a fixed-size id answers the
 * length; what a reader sees grows and never changes; the ids of one gateway stand in the order in
 * which it asked, since one connection's writes keep their order scratch  SET, DEL, EXPIRE and
 * hashes: exercise deletion, expiry and the digest; only errors are checked and registers (SET,
 * compare-and-set, GET), whose histories linear.c searches for an order.
 *
 * In a quarter of the runs the INCRs have a key of their own (ONCE.EXEC), as Idempotency-Key makes
 * it over HTTP. Such a client does not put up with an unknown outcome, nor always wait for one: it
 * leaves its gateway, as if that had died, and asks again at any gateway until it is answered. All
 * its attempts count as one INCR, and each must get the same value. */
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reply.h"
#include "linear.h"
#include "sim.h"

enum {
    ID_BYTES = 7,
    APPENDS_MAX = 20000,
    COUNTS_MAX = 20000,
    REGISTERS = 2,
    OPEN_MAX = 6,
    CONFIGURATIONS_MAX = 500000
};

enum op_kind {
    OP_INCR,
    OP_APPEND,
    OP_READ_COUNT,
    OP_READ_TEXT,
    OP_SET,
    OP_CAS,
    OP_GET,
    OP_SCRATCH,
    OP_KINDS
};

struct client {
    struct upstream_request up; /* first */
    struct gateway_sim *gateway;
    enum op_kind kind;
    int key;
    uint64_t id; /* of an append; the value of a SET or CAS */
    uint64_t
        floor;   /* what the answer must not be below: known to be there when the request began */
    int history; /* of a register's operation */
    struct gateway_sim *at; /* the gateway that was asked last */
    uint64_t once;          /* the request's own key; 0: none */
    uint64_t attempt;       /* of all clients, so that a timer knows whose it is */
    bool busy, stale;
    uint64_t seen_index; /* the newest state that its connection has seen */
    uint64_t count_seen[KEYS], text_seen[KEYS];
};

static struct {
    uint64_t count_known;       /* the highest answer of a finished request */
    uint8_t counts[COUNTS_MAX]; /* 1: this value was given to an INCR */
    uint64_t incr_done, incr_unknown;
    uint64_t text_known;                  /* ids that a finished request has seen */
    uint8_t text[APPENDS_MAX * ID_BYTES]; /* as far as seen; 0: not yet */
    uint64_t append_done, append_unknown;
} keys[KEYS];
static struct history registers[REGISTERS];
static uint16_t id_connection[APPENDS_MAX * KEYS];
static uint64_t id_next, value_next, once_next, attempt_next;
static uint64_t done_total, done_at_check;

static void client_begin(struct client *c);
static void client_ask(struct client *c, struct buf *argv);

/* Not all runs: those of other seeds stay what they were. */
static bool with_keys(void) {
    return sim.seed % 4 == 3;
}

static void client_again(void *arg, uint64_t number) {
    struct client *c = arg;
    if (sim.quiet) {
        sim_at(sim.now_us + 20000, client_again, c, 0);
        return;
    }
    if (!c->busy)
        client_begin(c);
    gateway_after(c->gateway);
}

/* ---- requests with a key of their own ---- */

static void once_ask(struct client *c) {
    char id[24], name[16];
    struct buf argv = {0};
    snprintf(id, sizeof id, "once%llu", (unsigned long long)c->once);
    snprintf(name, sizeof name, "c%d", c->key);
    argv_append_strs(&argv, "ONCE.EXEC", id, "INCR", name, NULL);
    client_ask(c, &argv);
}

static void once_elsewhere(struct client *c) {
    c->at = &sim.gateways[sim_rand(GATEWAYS_MAX)];
    once_ask(c);
    gateway_after(c->at);
}

/* The client's gateway is gone, as far as the client can see. */
static void once_abandon(void *arg, uint64_t attempt) {
    struct client *c = arg;
    if (!c->busy || c->attempt != attempt || c->once == 0)
        return;
    upstream_forget(c->at->upstream, &c->up);
    gateway_after(c->at);
    once_elsewhere(c);
}

static void once_later(void *arg, uint64_t attempt) {
    struct client *c = arg;
    if (c->busy && c->attempt == attempt)
        once_elsewhere(c);
}

/* ---- answers ---- */

static void check_count(struct client *c, uint64_t value) {
    if (value < c->floor)
        sim_violation("stale counter %d: %llu, %llu was known", c->key, (unsigned long long)value,
                      (unsigned long long)c->floor);
    if (value >= COUNTS_MAX)
        sim_violation("counter %d runs away: %llu", c->key, (unsigned long long)value);
    if (c->kind == OP_INCR) {
        if (value <= c->floor)
            sim_violation("counter %d: INCR gave %llu, known before", c->key,
                          (unsigned long long)value);
        if (keys[c->key].counts[value]++)
            sim_violation("counter %d: two INCR gave %llu", c->key, (unsigned long long)value);
        keys[c->key].incr_done++;
    }
    if (value > keys[c->key].count_known)
        keys[c->key].count_known = value;
    c->count_seen[c->key] = value;
}

static void note_text(int key, uint64_t position, const uint8_t *bytes, size_t size) {
    uint8_t *known = keys[key].text + position * ID_BYTES;
    if (position * ID_BYTES + size > sizeof keys[key].text)
        sim_violation("text %d runs away", key);
    for (size_t i = 0; i < size; i++) {
        if (known[i] != 0 && known[i] != bytes[i])
            sim_violation("text %d differs from what was seen at byte %llu", key,
                          (unsigned long long)(position * ID_BYTES + i));
        known[i] = bytes[i];
    }
}

static void check_append(struct client *c, uint64_t bytes) {
    uint64_t length = bytes / ID_BYTES;
    char id[ID_BYTES + 1];
    if (bytes % ID_BYTES != 0 || length <= c->floor)
        sim_violation("text %d: APPEND gave %llu bytes, %llu ids were known", c->key,
                      (unsigned long long)bytes, (unsigned long long)c->floor);
    snprintf(id, sizeof id, "%0*llu", ID_BYTES, (unsigned long long)c->id);
    note_text(c->key, length - 1, (const uint8_t *)id, ID_BYTES);
    keys[c->key].append_done++;
    if (length > keys[c->key].text_known)
        keys[c->key].text_known = length;
    c->text_seen[c->key] = length;
}

static void check_text(int key, uint64_t floor, struct slice text) {
    uint64_t length = text.size / ID_BYTES;
    if (text.size % ID_BYTES != 0 || length < floor)
        sim_violation("stale text %d: %llu ids, %llu were known", key, (unsigned long long)length,
                      (unsigned long long)floor);
    note_text(key, 0, text.data, text.size);
    if (length > keys[key].text_known)
        keys[key].text_known = length;
}

static uint64_t item_number(const struct reply_item *item) {
    uint64_t value = 0;
    if (item->type == ':')
        return (uint64_t)item->integer;
    if (item->type == '$' && !num_parse_u64(item->bytes, &value))
        sim_violation("a value that is no number");
    return value;
}

static void client_check(struct client *c, struct slice reply) {
    struct reply_item item, status;
    struct slice rest = reply;
    if (!reply_next(&rest, &item))
        sim_violation("a malformed reply");
    if (c->once != 0 && item.type == '*') { /* [executed before, index, the INCR's reply] */
        struct reply_item before, executed;
        if (!reply_next(&rest, &before) || !reply_next(&rest, &executed) ||
            !reply_next(&rest, &item))
            sim_violation("a malformed reply to ONCE.EXEC");
        stats.replayed += before.integer == 1;
    }
    if (item.type == '-')
        sim_violation("an error reply: %.*s", (int)item.bytes.size, (const char *)item.bytes.data);
    switch (c->kind) {
    case OP_INCR:
    case OP_READ_COUNT:
        check_count(c, item_number(&item));
        break;
    case OP_APPEND:
        check_append(c, (uint64_t)item.integer);
        break;
    case OP_READ_TEXT:
        check_text(c->key, c->floor, item.type == '$' ? item.bytes : slice_of(NULL, 0));
        c->text_seen[c->key] = item.type == '$' ? item.bytes.size / ID_BYTES : 0;
        break;
    case OP_SET:
        history_return(&registers[c->key], c->history, 0);
        break;
    case OP_CAS: /* [200 or 412, ...] */
        if (!reply_next(&rest, &status) || (status.integer != 200 && status.integer != 412))
            sim_violation("a transaction's reply");
        history_return(&registers[c->key], c->history, status.integer == 200);
        break;
    case OP_GET:
        history_return(&registers[c->key], c->history, item_number(&item));
        break;
    default:
        break;
    }
    if (c->up.kind == UPSTREAM_WRITE)
        stats.writes++;
    else
        stats.reads++;
}

/* What is answered is of a committed state, and of none that is older than what this connection has
 * seen, its own writes included. */
static void check_index(struct client *c, uint64_t index) {
    if (index != 0 && check_committed_term(index) == 0)
        sim_violation("an answer from index %llu, which is not committed",
                      (unsigned long long)index);
    if (c->up.kind != UPSTREAM_WRITE && index < c->seen_index)
        sim_violation("g%d an answer from index %llu, after one from %llu", c->gateway->index,
                      (unsigned long long)index, (unsigned long long)c->seen_index);
    if (index > c->seen_index)
        c->seen_index = index;
    stats.stale_reads += c->stale;
}

static void client_done(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                        struct slice reply) {
    struct client *c = (struct client *)up;
    if (outcome != UPSTREAM_DONE && c->once != 0) {
        c->attempt = ++attempt_next; /* this one is over: nothing to abandon */
        sim_at(sim.now_us + sim_rand(20000), once_later, c, c->attempt);
        return;
    }
    c->busy = false;
    done_total++;
    if (c->at->dying) /* nobody hears what it has to say */
        outcome = up->kind == UPSTREAM_WRITE ? UPSTREAM_UNKNOWN : UPSTREAM_NOT_APPLIED;
    if (sim.o.verbose > 2)
        sim_trace("g%d request %llu has outcome %d at index %llu", c->gateway->index,
                  (unsigned long long)up->id, (int)outcome, (unsigned long long)index);
    if (outcome == UPSTREAM_DONE) {
        check_index(c, index);
        client_check(c, reply);
    } else {
        stats.unknown += outcome == UPSTREAM_UNKNOWN;
        stats.not_applied += outcome == UPSTREAM_NOT_APPLIED;
        if (outcome == UPSTREAM_UNKNOWN && c->kind == OP_INCR)
            keys[c->key].incr_unknown++;
        if (outcome == UPSTREAM_UNKNOWN && c->kind == OP_APPEND)
            keys[c->key].append_unknown++;
        if (c->kind == OP_SET || c->kind == OP_CAS || c->kind == OP_GET)
            history_give_up(&registers[c->key], c->history,
                            outcome == UPSTREAM_UNKNOWN && c->kind != OP_GET);
    }
    sim_at(sim.now_us + sim_rand(sim.think_us), client_again, c, 0);
}

/* ---- requests ---- */

static void request_register(struct client *c, struct buf *argv) {
    char name[16], value[24], old[24];
    struct history *h = &registers[c->key];
    snprintf(name, sizeof name, "r%d", c->key);
    c->id = ++value_next;
    snprintf(value, sizeof value, "%llu", (unsigned long long)c->id);
    if (c->kind == OP_GET) {
        argv_append_strs(argv, "GET", name, NULL);
        c->history = history_call(h, HISTORY_READ, 0, 0);
    } else if (c->kind == OP_SET || h->last_seen == 0) {
        c->kind = OP_SET;
        argv_append_strs(argv, "SET", name, value, NULL);
        c->history = history_call(h, HISTORY_WRITE, c->id, 0);
    } else {
        snprintf(old, sizeof old, "%llu", (unsigned long long)h->last_seen);
        argv_append_strs(argv, "KV.TXN", "1", "1", "0", "value", name, old, "3", "SET", name, value,
                         NULL);
        c->history = history_call(h, HISTORY_CAS, c->id, h->last_seen);
    }
}

static void request_scratch(struct client *c, struct buf *argv) {
    char name[16], field[16];
    snprintf(name, sizeof name, "x%llu", (unsigned long long)sim_rand(6));
    snprintf(field, sizeof field, "f%llu", (unsigned long long)sim_rand(9));
    switch (sim_rand(6)) {
    case 0:
        argv_append_strs(argv, "SET", name, field, "PX", "40", NULL);
        break;
    case 1:
        argv_append_strs(argv, "DEL", name, NULL);
        break;
    case 2:
        argv_append_strs(argv, "SET", name, CLIENT_LONG_VALUE, NULL);
        break;
    case 3:
        argv_append_strs(argv, "DEL", "h0", "x1", NULL);
        break;
    case 4:
        argv_append_strs(argv, "HDEL", "h0", field, NULL);
        break;
    default:
        argv_append_strs(argv, "HSET", "h0", field, name, NULL);
        break;
    }
}

/* Takes argv. */
static void client_ask(struct client *c, struct buf *argv) {
    bool read = c->kind == OP_READ_COUNT || c->kind == OP_READ_TEXT || c->kind == OP_GET;
    c->up = (struct upstream_request){
        .kind = c->stale ? UPSTREAM_READ_STALE
                : read   ? UPSTREAM_READ
                         : UPSTREAM_WRITE,
        .min_index = c->stale ? c->seen_index : 0,
        .timeout_ms = 2000 + (uint32_t)sim_rand(4000),
        .packed_argv = *argv,
        .done = client_done,
    };
    c->busy = true;
    c->attempt = ++attempt_next;
    upstream_submit(c->at->upstream, &c->up);
    if (c->once != 0 && !sim.quiet && sim_chance(300))
        sim_at(sim.now_us + sim_rand(10000), once_abandon, c, c->attempt);
    if (sim.o.verbose > 2)
        sim_trace("g%d kind %d key %d id %llu is request %llu", c->at->index, (int)c->kind, c->key,
                  (unsigned long long)c->id, (unsigned long long)c->up.id);
}

static void client_begin(struct client *c) {
    char name[16], id[16];
    struct buf argv = {0};
    c->stale = false;
    c->kind = (enum op_kind)sim_rand(OP_KINDS);
    c->key = (int)sim_rand(c->kind >= OP_SET ? REGISTERS : KEYS);
    c->at = c->gateway;
    c->once = 0;
    if (c->kind == OP_INCR && with_keys()) {
        c->floor = keys[c->key].count_known;
        c->once = ++once_next;
        once_ask(c);
        return;
    }
    switch (c->kind) {
    case OP_INCR:
    case OP_READ_COUNT:
        snprintf(name, sizeof name, "c%d", c->key);
        c->floor = keys[c->key].count_known;
        argv_append_strs(&argv, c->kind == OP_INCR ? "INCR" : "GET", name, NULL);
        break;
    case OP_APPEND:
        snprintf(name, sizeof name, "t%d", c->key);
        c->floor = keys[c->key].text_known;
        c->id = ++id_next;
        if (c->id >= ARRAY_COUNT(id_connection))
            sim_violation("too many appends");
        id_connection[c->id] = c->gateway->connection;
        snprintf(id, sizeof id, "%0*llu", ID_BYTES, (unsigned long long)c->id);
        argv_append_strs(&argv, "APPEND", name, id, NULL);
        break;
    case OP_READ_TEXT:
        snprintf(name, sizeof name, "t%d", c->key);
        c->floor = keys[c->key].text_known;
        argv_append_strs(&argv, "GET", name, NULL);
        break;
    case OP_SCRATCH:
        request_scratch(c, &argv);
        break;
    default:
        /* What may or may not have been applied, at any time, makes the search long. */
        if (history_full(&registers[c->key]) || registers[c->key].open >= OPEN_MAX) {
            c->kind = OP_SCRATCH;
            request_scratch(c, &argv);
        } else {
            request_register(c, &argv);
        }
        break;
    }
    /* From whatever the node has, but not behind what this connection knows. */
    c->stale = (c->kind == OP_READ_COUNT || c->kind == OP_READ_TEXT) && sim_chance(300);
    if (c->stale)
        c->floor = c->kind == OP_READ_COUNT ? c->count_seen[c->key] : c->text_seen[c->key];
    client_ask(c, &argv);
}

void clients_begin(void) {
    memset(keys, 0, sizeof keys);
    for (int r = 0; r < REGISTERS; r++)
        registers[r] = (struct history){0};
    id_next = value_next = once_next = attempt_next = done_total = done_at_check = 0;
    for (int g = 0; g < GATEWAYS_MAX; g++) {
        struct gateway_sim *gw = &sim.gateways[g];
        gw->clients = xcalloc(CLIENTS_PER_GATEWAY, sizeof gw->clients[0]);
        for (int i = 0; i < CLIENTS_PER_GATEWAY; i++) {
            gw->clients[i].gateway = gw;
            sim_at(sim.now_us + sim_rand(20000), client_again, &gw->clients[i], 0);
        }
    }
}

void clients_reconnect(struct gateway_sim *g) {
    for (int i = 0; i < CLIENTS_PER_GATEWAY; i++) {
        struct client *c = &g->clients[i];
        c->seen_index = 0;
        memset(c->count_seen, 0, sizeof c->count_seen);
        memset(c->text_seen, 0, sizeof c->text_seen);
    }
}

bool clients_busy(void) {
    for (int g = 0; g < GATEWAYS_MAX; g++)
        for (int i = 0; i < CLIENTS_PER_GATEWAY; i++)
            if (sim.gateways[g].clients[i].busy)
                return true;
    return false;
}

void clients_mark(void) {
    done_at_check = done_total;
}

bool clients_progressed(void) {
    return done_total > done_at_check;
}

/* ---- the end ---- */

static void read_key(struct store_view *view, const char *name, struct buf *out) {
    struct buf packed = {0};
    struct argv argv = {0};
    argv_append_strs(&packed, "GET", name, NULL);
    CHECK(argv_unpack(&argv, buf_slice(&packed)) && store_read(view, 0, 0, 0, &argv, out) == 0);
    buf_fini(&packed);
    argv_fini(&argv);
}

/* Requests under way may or may not have been applied yet. */
static uint64_t under_way(enum op_kind kind, int key) {
    uint64_t count = 0;
    for (int g = 0; g < GATEWAYS_MAX; g++)
        for (int i = 0; i < CLIENTS_PER_GATEWAY; i++) {
            const struct client *c = &sim.gateways[g].clients[i];
            count += c->busy && c->kind == kind && c->key == key;
        }
    return count;
}

static void check_final_count(int k, struct slice reply) {
    struct reply_item item;
    CHECK(reply_next(&reply, &item));
    uint64_t value = item_number(&item), unknown = keys[k].incr_unknown + under_way(OP_INCR, k);
    if (value < keys[k].incr_done || value > keys[k].incr_done + unknown)
        sim_violation("counter %d ends at %llu: %llu answered, %llu unknown", k,
                      (unsigned long long)value, (unsigned long long)keys[k].incr_done,
                      (unsigned long long)unknown);
}

static void check_final_text(int k, struct slice reply) {
    struct reply_item item;
    CHECK(reply_next(&reply, &item));
    struct slice text = item.type == '$' ? item.bytes : slice_of(NULL, 0);
    check_text(k, keys[k].text_known, text);
    uint64_t length = text.size / ID_BYTES,
             unknown = keys[k].append_unknown + under_way(OP_APPEND, k);
    static uint64_t last_of[CONNECTIONS_MAX];
    memset(last_of, 0, sizeof last_of);
    for (uint64_t i = 0; i < length; i++) {
        char digits[ID_BYTES + 1] = {0};
        memcpy(digits, text.data + i * ID_BYTES, ID_BYTES);
        uint64_t id = strtoull(digits, NULL, 10);
        if (id == 0 || id > id_next)
            sim_violation("text %d: id %llu was never asked for", k, (unsigned long long)id);
        /* Also finds an id that stands twice. */
        if (id <= last_of[id_connection[id]])
            sim_violation("text %d: id %llu stands behind %llu of the same connection", k,
                          (unsigned long long)id, (unsigned long long)last_of[id_connection[id]]);
        last_of[id_connection[id]] = id;
    }
    if (length < keys[k].append_done || length > keys[k].append_done + unknown)
        sim_violation("text %d has %llu ids: %llu answered, %llu unknown", k,
                      (unsigned long long)length, (unsigned long long)keys[k].append_done,
                      (unsigned long long)unknown);
}

/* The final state, from a leader's store: every answered write is in it once, nothing that was not
 * asked for. */
void clients_check_end(void) {
    struct server *leader = server_leader();
    struct store_view *view;
    struct buf replies[2 * KEYS] = {0};
    struct hash128 digest;
    CHECK(store_view_new(node_store(leader->node), &view) == 0);
    CHECK(store_view_begin(view) == 0);
    int verdict = store_verify(view, &digest);
    for (int k = 0; k < KEYS; k++) {
        char name[3] = {'c', (char)('0' + k), 0};
        read_key(view, name, &replies[2 * k]);
        name[0] = 't';
        read_key(view, name, &replies[2 * k + 1]);
    }
    store_view_end(view);
    store_view_free(view);
    /* The replies are copied out first: a violation leaves by a long jump. */
    static struct buf kept;
    size_t at[2 * KEYS + 1] = {0};
    buf_reset(&kept);
    for (int k = 0; k < 2 * KEYS; k++) {
        buf_append_slice(&kept, buf_slice(&replies[k]));
        at[k + 1] = kept.size;
        buf_fini(&replies[k]);
    }
    if (verdict != 0)
        sim_violation("s%d: the digest does not fit the records", leader->index);
    for (int k = 0; k < KEYS; k++) {
        check_final_count(k, slice_of(kept.data + at[2 * k], at[2 * k + 1] - at[2 * k]));
        check_final_text(k, slice_of(kept.data + at[2 * k + 1], at[2 * k + 2] - at[2 * k + 1]));
    }
    for (int r = 0; r < REGISTERS; r++)
        switch (history_search(&registers[r], CONFIGURATIONS_MAX)) {
        case HISTORY_LINEARIZABLE:
            break;
        case HISTORY_UNDECIDED:
            stats.undecided++;
            break;
        case HISTORY_WRONG:
            sim_violation("register %d: no order explains the %d operations", r,
                          registers[r].count);
        }
}

void clients_free(void) {
    for (int g = 0; g < GATEWAYS_MAX; g++)
        free(sim.gateways[g].clients);
}

/* ---- joining ---- */

struct admin_op {
    struct upstream_request up; /* first */
    struct server *server;      /* that joins; NULL: a removal */
    unsigned life;
    uint64_t removed;
};

static void admin_done(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct admin_op *op = (struct admin_op *)up;
    struct server *s = op->server;
    struct reply_item item;
    bool mine = s && op->life == s->life;
    if (!s && outcome != UPSTREAM_UNKNOWN)
        hot_removal_answered(op->removed);
    if (!s && outcome == UPSTREAM_DONE && reply_next(&reply, &item) && item.type == '+' &&
        sim.gone_count < ARRAY_COUNT(sim.gone))
        sim.gone[sim.gone_count++] = op->removed;
    free(op);
    if (!mine)
        return;
    s->joining = false;
    if (outcome != UPSTREAM_DONE || s->node_id != 0 || !reply_next(&reply, &item) ||
        item.type != '%')
        return;
    for (int i = 0; i < 2; i++) {
        struct reply_item key, value;
        CHECK(reply_next(&reply, &key) && reply_next(&reply, &value));
        if (slice_equal_str(key.bytes, "id"))
            s->node_id = (uint64_t)value.integer;
        else
            memcpy(s->cluster, value.bytes.data, sizeof s->cluster);
    }
    stats.joins++;
    s->member_index = check_last_index(); /* the answer came when it stood in the membership */
    server_start(s);
}

static void admin_submit(struct server *s, uint64_t removed, const char *verb,
                         const char *operand) {
    struct gateway_sim *g = &sim.gateways[sim_rand(GATEWAYS_MAX)];
    struct admin_op *op = xcalloc(1, sizeof *op);
    op->server = s;
    op->removed = removed;
    op->life = s ? s->life : 0;
    op->up.kind = UPSTREAM_ADMIN;
    op->up.done = admin_done;
    op->up.timeout_ms = 3000;
    argv_append_strs(&op->up.packed_argv, verb, operand, NULL);
    upstream_submit(g->upstream, &op->up);
    gateway_after(g);
}

void admin_join(struct server *s) {
    if (s->joining)
        return;
    s->joining = true;
    admin_submit(s, 0, "NODE.JOIN", s->address);
}

void admin_remove(uint64_t id) {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    stats.removals++;
    admin_submit(NULL, id, "NODE.REMOVE", text);
}
