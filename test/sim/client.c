/* Clients: each has one request under way and remembers what it must be able to count on. */
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reply.h"
#include "sim.h"

enum { ID_BYTES = 7, APPENDS_MAX = 60000, COUNTS_MAX = 60000 };

enum op_kind { OP_INCR, OP_APPEND, OP_READ_COUNT, OP_READ_TEXT };

struct client {
    struct upstream_request up; /* first */
    struct gateway_sim *gateway;
    enum op_kind kind;
    int key;
    uint64_t id; /* of an append */
    uint64_t
        floor; /* what the answer must not be below: known to be there when the request began */
    bool busy;
};

/* Per key: a counter, where each INCR's answer is unique, and a text of fixed-size ids that only
 * grows, where an APPEND answers the length. Both make linearizability checkable without search: an
 * answer must not be below anything that was known when its request began. */
static struct {
    uint64_t count_known;       /* the highest answer of a finished request */
    uint8_t counts[COUNTS_MAX]; /* 1: this value was given to an INCR */
    uint64_t incr_done, incr_unknown;
    uint64_t text_known;
    uint64_t text_ids[APPENDS_MAX]; /* id at each position, as far as seen */
    uint64_t append_done, append_unknown;
} keys[KEYS];
static uint64_t id_next;
static uint64_t done_total, done_at_check;

static void client_begin(struct client *c);

static void client_again(void *arg, uint64_t number) {
    struct client *c = arg;
    if (!c->busy)
        client_begin(c);
    gateway_after(c->gateway);
}

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
}

static void note_text(int key, uint64_t position, uint64_t id) {
    if (position >= APPENDS_MAX)
        sim_violation("text %d runs away", key);
    uint64_t *known = &keys[key].text_ids[position];
    if (*known != 0 && *known != id)
        sim_violation("text %d position %llu: %llu, was %llu", key, (unsigned long long)position,
                      (unsigned long long)id, (unsigned long long)*known);
    *known = id;
}

static void check_append(struct client *c, uint64_t bytes) {
    uint64_t length = bytes / ID_BYTES;
    if (bytes % ID_BYTES != 0 || length <= c->floor)
        sim_violation("text %d: APPEND gave %llu bytes, %llu ids were known", c->key,
                      (unsigned long long)bytes, (unsigned long long)c->floor);
    note_text(c->key, length - 1, c->id);
    keys[c->key].append_done++;
    if (length > keys[c->key].text_known)
        keys[c->key].text_known = length;
}

static void check_text(struct client *c, struct slice text) {
    uint64_t length = text.size / ID_BYTES;
    if (text.size % ID_BYTES != 0 || length < c->floor)
        sim_violation("stale text %d: %llu ids, %llu were known", c->key,
                      (unsigned long long)length, (unsigned long long)c->floor);
    for (uint64_t i = 0; i < length; i++) {
        char digits[ID_BYTES + 1] = {0};
        memcpy(digits, text.data + i * ID_BYTES, ID_BYTES);
        note_text(c->key, i, strtoull(digits, NULL, 10));
    }
    if (length > keys[c->key].text_known)
        keys[c->key].text_known = length;
}

static void client_check(struct client *c, struct slice reply) {
    struct reply_item item;
    if (!reply_next(&reply, &item))
        sim_violation("a malformed reply");
    if (item.type == '-')
        sim_violation("an error reply: %.*s", (int)item.bytes.size, (const char *)item.bytes.data);
    uint64_t value = 0;
    switch (c->kind) {
    case OP_INCR:
        check_count(c, (uint64_t)item.integer);
        stats.writes++;
        break;
    case OP_APPEND:
        check_append(c, (uint64_t)item.integer);
        stats.writes++;
        break;
    case OP_READ_COUNT:
        if (item.type == '$' && !num_parse_u64(item.bytes, &value))
            sim_violation("a counter that is no number");
        check_count(c, value);
        stats.reads++;
        break;
    case OP_READ_TEXT:
        check_text(c, item.type == '$' ? item.bytes : slice_of(NULL, 0));
        stats.reads++;
        break;
    }
}

static void client_done(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                        struct slice reply) {
    struct client *c = (struct client *)up;
    c->busy = false;
    done_total++;
    if (outcome == UPSTREAM_DONE) {
        client_check(c, reply);
    } else if (outcome == UPSTREAM_UNKNOWN) {
        stats.unknown++;
        if (c->kind == OP_INCR)
            keys[c->key].incr_unknown++;
        else if (c->kind == OP_APPEND)
            keys[c->key].append_unknown++;
    }
    sim_at(sim.now_us + sim_rand(4000), client_again, c, 0);
}

static void client_begin(struct client *c) {
    char name[16], id[16];
    c->kind = (enum op_kind)sim_rand(4);
    c->key = (int)sim_rand(KEYS);
    bool count = c->kind == OP_INCR || c->kind == OP_READ_COUNT;
    c->floor = count ? keys[c->key].count_known : keys[c->key].text_known;
    snprintf(name, sizeof name, "%c%d", count ? 'c' : 't', c->key);
    c->up = (struct upstream_request){
        .kind = c->kind == OP_INCR || c->kind == OP_APPEND ? UPSTREAM_WRITE : UPSTREAM_READ,
        .timeout_ms = 2000 + (uint32_t)sim_rand(4000),
        .done = client_done,
    };
    switch (c->kind) {
    case OP_INCR:
        argv_append_strs(&c->up.packed_argv, "INCR", name, NULL);
        break;
    case OP_APPEND:
        c->id = ++id_next;
        snprintf(id, sizeof id, "%0*llu", ID_BYTES, (unsigned long long)c->id);
        argv_append_strs(&c->up.packed_argv, "APPEND", name, id, NULL);
        break;
    default:
        argv_append_strs(&c->up.packed_argv, "GET", name, NULL);
        break;
    }
    c->busy = true;
    upstream_submit(c->gateway->upstream, &c->up);
}

void clients_begin(void) {
    for (int k = 0; k < KEYS; k++)
        memset(&keys[k], 0, sizeof keys[k]);
    id_next = done_total = done_at_check = 0;
    for (int g = 0; g < GATEWAYS_MAX; g++) {
        struct gateway_sim *gw = &sim.gateways[g];
        gw->clients = xcalloc(CLIENTS_PER_GATEWAY, sizeof gw->clients[0]);
        for (int i = 0; i < CLIENTS_PER_GATEWAY; i++) {
            gw->clients[i].gateway = gw;
            sim_at(sim.now_us + sim_rand(20000), client_again, &gw->clients[i], 0);
        }
    }
}

bool clients_progressed(void) {
    bool yes = done_total > done_at_check + 50;
    return yes;
}

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
    uint64_t value = 0;
    CHECK(reply_next(&reply, &item));
    if (item.type == '$')
        CHECK(num_parse_u64(item.bytes, &value));
    uint64_t unknown = keys[k].incr_unknown + under_way(OP_INCR, k);
    if (value < keys[k].incr_done || value > keys[k].incr_done + unknown)
        sim_violation("counter %d ends at %llu: %llu answered, %llu unknown", k,
                      (unsigned long long)value, (unsigned long long)keys[k].incr_done,
                      (unsigned long long)unknown);
}

static void check_final_text(int k, struct slice reply) {
    struct reply_item item;
    CHECK(reply_next(&reply, &item));
    struct client probe = {.kind = OP_READ_TEXT, .key = k, .floor = keys[k].text_known};
    struct slice text = item.type == '$' ? item.bytes : slice_of(NULL, 0);
    check_text(&probe, text);
    uint64_t length = text.size / ID_BYTES,
             unknown = keys[k].append_unknown + under_way(OP_APPEND, k);
    static uint8_t seen[APPENDS_MAX * KEYS];
    memset(seen, 0, sizeof seen);
    for (uint64_t i = 0; i < length; i++) {
        uint64_t id = keys[k].text_ids[i];
        if (id == 0 || id > id_next || id >= sizeof seen || seen[id]++)
            sim_violation("text %d: id %llu twice or never asked for", k, (unsigned long long)id);
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
    CHECK(store_view_new(node_store(leader->node), &view) == 0);
    CHECK(store_view_begin(view) == 0);
    for (int k = 0; k < KEYS; k++) {
        char name[3] = {'c', (char)('0' + k), 0};
        read_key(view, name, &replies[2 * k]);
        name[0] = 't';
        read_key(view, name, &replies[2 * k + 1]);
    }
    store_view_end(view);
    store_view_free(view);
    for (int k = 0; k < KEYS; k++) {
        check_final_count(k, buf_slice(&replies[2 * k]));
        check_final_text(k, buf_slice(&replies[2 * k + 1]));
    }
    for (int k = 0; k < 2 * KEYS; k++)
        buf_fini(&replies[k]);
    done_at_check = done_total;
}

void clients_free(void) {
    for (int g = 0; g < GATEWAYS_MAX; g++)
        free(sim.gateways[g].clients);
}

/* ---- joining ---- */

struct admin_op {
    struct upstream_request up; /* first */
    struct server *server;
};

static void joined(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                   struct slice reply) {
    struct admin_op *op = (struct admin_op *)up;
    struct server *s = op->server;
    struct reply_item item;
    free(op);
    if (s)
        s->joining = false;
    if (!s || outcome != UPSTREAM_DONE || s->node_id != 0 || !reply_next(&reply, &item) ||
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
    server_start(s);
}

static void admin_submit(struct server *s, const char *verb, const char *operand) {
    struct gateway_sim *g = &sim.gateways[sim_rand(GATEWAYS_MAX)];
    struct admin_op *op = xcalloc(1, sizeof *op);
    op->server = s;
    op->up.kind = UPSTREAM_ADMIN;
    op->up.done = joined;
    op->up.timeout_ms = 3000;
    argv_append_strs(&op->up.packed_argv, verb, operand, NULL);
    upstream_submit(g->upstream, &op->up);
    gateway_after(g);
}

void admin_join(struct server *s) {
    if (s->joining)
        return;
    s->joining = true;
    admin_submit(s, "NODE.JOIN", s->address);
}

void admin_remove(uint64_t id) {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    admin_submit(NULL, "NODE.REMOVE", text);
}
