/* The network: ordered connections that delay, break and are cut. */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

static uint64_t latency_us(void) {
    uint64_t us = 50 + sim_rand(300);
    if (sim.faults && sim_chance(20))
        us += sim_rand(40000);
    return us;
}

/* ---- between nodes ---- */

struct packet {
    struct server *from, *to;
    unsigned connection, incarnation;
    size_t size;
    uint8_t bytes[];
};

static void packet_arrive(void *arg, uint64_t number) {
    struct packet *p = arg;
    struct server *to = p->to;
    if (to->node && server_defer(to, packet_arrive, p, number, true))
        return;
    bool lost = !to->node || p->connection != sim.connection[p->from->index][to->index] ||
                p->incarnation != to->incarnation;
    if (lost) {
        stats.lost_messages++;
        free(p);
        return;
    }
    struct slice in = slice_of(p->bytes, p->size), payload;
    uint8_t type;
    size_t need;
    if (wire_take_frame(&in, &type, &payload, &need) != WIRE_TAKE_FRAME || in.size != 0)
        sim_violation("a node sent a malformed frame");
    if (!node_on_peer_frame(to->node, number, p->from->address, type, payload))
        sim_violation("s%d calls a frame of type %d malformed", to->index, type);
    free(p);
    server_after(to);
}

void net_reset(int a, int b) {
    sim.connection[a][b]++;
    sim.last_at_us[a][b] = 0;
}

void net_peer_send(struct server *from, uint64_t id, const char *address, struct slice frame) {
    struct server *to = server_at(address);
    stats.messages++;
    if (to == from || strcmp(to->address, address) != 0 || sim.cut[from->index][to->index] ||
        !to->node) {
        stats.lost_messages++;
        return;
    }
    if (sim.faults && sim.o.reset && sim_chance(2)) {
        stats.resets++;
        net_reset(from->index, to->index);
        return;
    }
    aim_at_message(from, to, frame.data[4]);
    struct packet *p = xmalloc(sizeof *p + frame.size);
    *p = (struct packet){.from = from, .to = to, .size = frame.size};
    p->connection = sim.connection[from->index][to->index];
    p->incarnation = to->incarnation;
    memcpy(p->bytes, frame.data, frame.size);
    uint64_t *last = &sim.last_at_us[from->index][to->index];
    uint64_t at = sim.now_us + latency_us();
    if (sim.slow_us[from->index][to->index] > 0)
        at += sim_rand(sim.slow_us[from->index][to->index]);
    if (sim.o.disorder && sim.faults) {
        if (sim_chance(40) || frame.data[4] == WIRE_INSTALL)
            at += sim_rand(600000);
        bool install = frame.data[4] == WIRE_INSTALL;
        for (int n = install ? 3 : sim_chance(20); n > 0; n--) {
            struct packet *again = xmemdup(p, sizeof *p + frame.size);
            bool late = install || sim_chance(200);
            sim_at_owned(at + sim_rand(late ? 2500000 : 300000), packet_arrive, again,
                         from->node_id);
        }
    } else {
        if (at <= *last)
            at = *last + 1;
        *last = at;
    }
    sim_at_owned(at, packet_arrive, p, from->node_id);
}

/* ---- links ---- */

struct chunk_event {
    struct slink *link;
    bool to_node;
    size_t size;
    uint8_t bytes[];
};

static bool slink_cut(const struct slink *l) {
    return sim.gateway_cut[l->gateway->index][l->server->index];
}

static void link_closed_up(void *arg, uint64_t number) {
    struct slink *l = arg;
    if (l->dead_up)
        return;
    l->dead_up = true;
    sim_trace("g%d link to s%d closed", l->gateway->index, l->server->index);
    upstream_on_closed(l->up);
    gateway_after(l->gateway);
}

static void link_closed_down(void *arg, uint64_t number) {
    struct slink *l = arg;
    if (l->dead_down)
        return;
    l->dead_down = true;
    if (l->down && l->server->node && l->server->incarnation == l->incarnation) {
        struct node_link *down = l->down;
        l->down = NULL;
        node_link_closed(down);
        server_after(l->server);
    }
}

static void link_connect(void *arg, uint64_t number) {
    struct slink *l = arg;
    if (l->dead_up)
        return;
    if (l->nobody || !l->server->node || slink_cut(l) || server_busy(l->server)) {
        l->dead_down = true;
        link_closed_up(l, 0);
        return;
    }
    l->incarnation = l->server->incarnation;
    l->down = node_link_open(l->server->node, l);
    sim_trace("g%d link to s%d open", l->gateway->index, l->server->index);
    upstream_on_connected(l->up);
    gateway_after(l->gateway);
    if (l->server->node)
        server_after(l->server);
}

static void chunk_arrive(void *arg, uint64_t number) {
    struct chunk_event *e = arg;
    struct slink *l = e->link;
    if (e->to_node && l->server->node && l->server->incarnation == l->incarnation &&
        server_defer(l->server, chunk_arrive, e, number, true))
        return;
    struct slice bytes = slice_of(e->bytes, e->size);
    if (e->to_node && !l->dead_down && l->down && l->server->node &&
        l->server->incarnation == l->incarnation) {
        if (!node_link_bytes(l->down, bytes))
            sim_violation("s%d calls a link frame malformed", l->server->index);
        server_after(l->server);
    } else if (!e->to_node && !l->dead_up) {
        upstream_on_bytes(l->up, bytes);
        gateway_after(l->gateway);
    }
    free(e);
}

static void link_push(struct slink *l, bool to_node, struct slice bytes) {
    if (l->stalled[to_node])
        return;
    if (slink_cut(l)) { /* it stalls, then both sides notice */
        l->stalled[to_node] = true;
        uint64_t at = sim.now_us + 200000 + sim_rand(600000);
        sim_at(at, link_closed_up, l, 0);
        sim_at(at + sim_rand(100000), link_closed_down, l, 0);
        return;
    }
    uint64_t *last = &l->last_at_us[to_node];
    /* A stream is cut anywhere: sometimes in two. */
    size_t first = sim_chance(100) ? (size_t)sim_rand(bytes.size) : bytes.size;
    while (bytes.size > 0) {
        size_t n = first > 0 ? first : bytes.size;
        struct chunk_event *e = xmalloc(sizeof *e + n);
        *e = (struct chunk_event){.link = l, .to_node = to_node, .size = n};
        memcpy(e->bytes, bytes.data, n);
        uint64_t at = sim.now_us + latency_us();
        if (at <= *last)
            at = *last + 1;
        *last = at;
        sim_at_owned(at, chunk_arrive, e, 0);
        bytes.data += n;
        bytes.size -= n;
        first = bytes.size;
    }
}

void net_link_send(struct slink *l, struct slice bytes) {
    if (!l->dead_down)
        link_push(l, false, bytes);
}

void net_link_close(struct slink *l) {
    l->down = NULL;
    if (!l->dead_down) {
        l->dead_down = true;
        sim_at(sim.now_us + latency_us(), link_closed_up, l, 0);
    }
}

void net_server_down(struct server *s) {
    for (int g = 0; g < GATEWAYS_MAX; g++)
        LIST_FOREACH (it, &sim.gateways[g].links) {
            struct slink *l = LIST_ENTRY(it, struct slink, node);
            if (l->server == s && !l->dead_down) {
                l->dead_down = true;
                if (!l->dead_up)
                    sim_at(sim.now_us + latency_us() + sim_rand(20000), link_closed_up, l, 0);
            }
        }
    for (int i = 1; i <= SERVERS_MAX; i++) {
        net_reset(i, s->index);
        net_reset(s->index, i);
    }
}

/* ---- the environment of an upstream ---- */

static uint64_t up_now_ms(void *env) {
    return sim.now_us / 1000;
}

static void up_random(void *env, void *out, size_t size) {
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (uint8_t)rand_u64(&sim.rand);
}

static void *up_connect(void *env, const char *address, struct upstream_link *link) {
    struct gateway_sim *g = env;
    struct slink *l = xcalloc(1, sizeof *l);
    l->gateway = g;
    l->server = strcmp(address, "local") == 0 ? g->home : server_at(address);
    l->nobody = strcmp(address, "local") != 0 && strcmp(address, l->server->address) != 0;
    l->up = link;
    list_push_back(&g->links, &l->node);
    sim_at(sim.now_us + latency_us(), link_connect, l, 0);
    return l;
}

static void up_send(void *env, void *handle, struct slice bytes) {
    struct slink *l = handle;
    if (!l->dead_up)
        link_push(l, true, bytes);
}

static void up_close(void *env, void *handle) {
    struct slink *l = handle;
    l->dead_up = true;
    sim_trace("g%d ends its link to s%d", l->gateway->index, l->server->index);
    if (!l->dead_down)
        sim_at(sim.now_us + latency_us(), link_closed_down, l, 0);
}

static void up_node_clocks(void *env, uint64_t *ret_now_ms, uint64_t *ret_wall_ms) {
    server_clocks(((struct gateway_sim *)env)->home, ret_now_ms, ret_wall_ms);
}

const struct upstream_env_ops gateway_env_ops = {
    .node_clocks = up_node_clocks,
    .now_ms = up_now_ms,
    .random = up_random,
    .connect = up_connect,
    .send = up_send,
    .close = up_close,
};

static void gateway_tick(void *arg, uint64_t seq) {
    struct gateway_sim *g = arg;
    if (g->tick_seq != seq)
        return;
    g->tick_at_us = UINT64_MAX;
    upstream_tick(g->upstream);
    gateway_after(g);
}

void gateway_after(struct gateway_sim *g) {
    upstream_flush(g->upstream);
    uint64_t deadline = upstream_deadline_ms(g->upstream);
    if (deadline == UINT64_MAX)
        return;
    uint64_t at = deadline * 1000;
    if (at <= sim.now_us)
        at = sim.now_us + 500;
    if (at < g->tick_at_us || g->tick_at_us <= sim.now_us) {
        g->tick_at_us = at;
        g->tick_seq = sim.seq + 1;
        sim_at(at, gateway_tick, g, g->tick_seq);
    }
}

void gateway_start(struct gateway_sim *g) {
    /* Who configures it knows the first nodes and those that are there now,
     * up or not. */
    const char *seeds[SERVERS_MAX + 4] = {"s1:1", "s2:1", "s3:1"};
    size_t count = 3;
    for (int i = 1; i <= SERVERS_MAX; i++)
        if (sim.servers[i].node_id != 0 && !sim.servers[i].dead_for_good &&
            (i > 3 || strcmp(sim.servers[i].address, seeds[i - 1]) != 0))
            seeds[count++] = sim.servers[i].address;
    if (g->home)
        seeds[count++] = "local";
    struct upstream_options options = {.seeds = seeds, .seed_count = count};
    if (g->direct) {
        options.gate = g->home->gate;
        sim_trace("g%d reads the store of s%d", g->index, g->home->index);
    }
    if (++sim.connections == CONNECTIONS_MAX)
        sim_violation("too many gateways");
    g->connection = sim.connections;
    g->tick_at_us = UINT64_MAX;
    g->upstream = upstream_new(&options, &gateway_env_ops, g);
    watch_gateway_starts(g);
    gateway_after(g);
}

void gateway_stop(struct gateway_sim *g) {
    struct upstream_status status;
    upstream_get_status(g->upstream, &status);
    stats.direct += status.direct_total;
    watch_gateway_stops(g, !g->dying);
    upstream_free(g->upstream);
}

void gateway_die(struct gateway_sim *g) {
    stats.gateway_deaths++;
    sim_trace("g%d dies", g->index);
    g->dying = true;
    gateway_stop(g);
    g->dying = false;
    clients_reconnect(g);
    gateway_start(g);
}

void net_free(void) {
    for (int g = 0; g < GATEWAYS_MAX; g++) {
        if (!sim.gateways[g].links.next)
            continue;
        LIST_FOREACH_SAFE (it, &sim.gateways[g].links) {
            free(LIST_ENTRY(it, struct slink, node));
        }
    }
}
