#include "upstream_fake.h"

#include <stdio.h>

#include "base/reply.h"

/* ---- the environment ---- */

static uint64_t env_now_ms(void *env) {
    return ((struct fake *)env)->now_ms;
}

static void env_random(void *env, void *out, size_t size) {
    struct fake *f = env;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (uint8_t)rand_u64(&f->rand);
}

static void *env_connect(void *env, const char *address, struct upstream_link *link) {
    struct fake *f = env;
    if (f->refuse_connect)
        return NULL;
    struct fake_conn *c = xcalloc(1, sizeof *c);
    c->link = link;
    snprintf(c->address, sizeof c->address, "%s", address);
    f->conns = xrealloc(f->conns, (f->conn_count + 1) * sizeof(struct fake_conn *));
    f->conns[f->conn_count++] = c;
    return c;
}

static void env_send(void *env, void *handle, struct slice bytes) {
    struct fake_conn *c = handle;
    assert_true(c->connected);
    assert_false(c->closed);
    assert_true(bytes.size > 0);
    c->sends++;
    buf_append_slice(&c->in, bytes);
}

static void env_close(void *env, void *handle) {
    struct fake_conn *c = handle;
    assert_false(c->closed);
    c->closed = true;
}

static void env_node_clocks(void *env, uint64_t *ret_now_ms, uint64_t *ret_wall_ms) {
    *ret_now_ms = ((struct fake *)env)->now_ms + FAKE_NODE_MS;
    *ret_wall_ms = ((struct fake *)env)->now_ms + FAKE_WALL_MS;
}

static const struct upstream_env_ops ops = {
    .now_ms = env_now_ms,
    .random = env_random,
    .connect = env_connect,
    .send = env_send,
    .close = env_close,
    .node_clocks = env_node_clocks,
};

void fake_init(struct fake *f, const struct upstream_options *options) {
    *f = (struct fake){.now_ms = 1000000, .rand.state = 42};
    f->up = upstream_new(options, &ops, f);
}

void fake_fini(struct fake *f) {
    if (f->up)
        upstream_free(f->up);
    for (size_t i = 0; i < f->conn_count; i++) {
        assert_true(f->conns[i]->closed);
        buf_fini(&f->conns[i]->in);
        free(f->conns[i]->items);
        free(f->conns[i]);
    }
    free(f->conns);
}

/* Takes the PINGs out of what was sent; a node answers them whatever else it does. */
static void answer_pings(struct fake *f, struct fake_conn *c) {
    struct slice in = buf_slice(&c->in), payload;
    struct buf rest = {0}, pongs = {0};
    uint8_t type;
    for (const uint8_t *at = in.data;
         link_take_frame(&in, &type, &payload, NULL) == LINK_TAKE_FRAME; at = in.data) {
        uint64_t id;
        if (type != LINK_PING) {
            buf_append(&rest, at, (size_t)(in.data - at));
            continue;
        }
        assert_true(link_decode_ping(payload, &id));
        link_put_ping(&pongs, LINK_PONG, id);
        c->sends--;
        c->pings++;
    }
    assert_int_equal(in.size, 0);
    buf_fini(&c->in);
    c->in = rest;
    if (pongs.size > 0 && !c->frozen)
        fake_bytes(f, c, buf_slice(&pongs));
    buf_fini(&pongs);
}

void fake_turn(struct fake *f) {
    if (upstream_deadline_ms(f->up) <= f->now_ms)
        upstream_tick(f->up);
    f->inside = true;
    upstream_flush(f->up);
    f->inside = false;
    for (size_t i = 0; i < f->conn_count; i++)
        if (!f->pings_stay && f->conns[i]->connected && !f->conns[i]->closed &&
            f->conns[i]->in.size > 0)
            answer_pings(f, f->conns[i]);
}

void fake_advance(struct fake *f, uint64_t ms) {
    uint64_t until = f->now_ms + ms;
    fake_turn(f);
    /* As a loop does it: asleep until the deadline. A deadline that stays due would spin. */
    for (int spins = 0;; spins++) {
        uint64_t at = upstream_deadline_ms(f->up);
        if (at > until)
            break;
        if (at > f->now_ms) {
            f->now_ms = at;
            spins = 0;
        }
        assert_true(spins < 5);
        fake_turn(f);
    }
    f->now_ms = until;
    fake_turn(f);
}

struct fake_conn *fake_find(struct fake *f, const char *address) {
    for (size_t i = f->conn_count; i-- > 0;)
        if (!f->conns[i]->closed && strcmp(f->conns[i]->address, address) == 0)
            return f->conns[i];
    return NULL;
}

size_t fake_count(const struct fake *f, const char *address) {
    size_t count = 0;
    for (size_t i = 0; i < f->conn_count; i++)
        count += strcmp(f->conns[i]->address, address) == 0;
    return count;
}

void fake_break(struct fake *f, struct fake_conn *c) {
    assert_false(c->closed);
    c->closed = true;
    upstream_on_closed(c->link);
}

void fake_bytes(struct fake *f, struct fake_conn *c, struct slice bytes) {
    assert_false(c->closed);
    /* From memory of its exact size, so that the sanitizer sees a read beyond it. */
    uint8_t *copy = xmemdup(bytes.data, bytes.size);
    upstream_on_bytes(c->link, slice_of(copy, bytes.size));
    free(copy);
}

/* ---- the node's side ---- */

void node_accept(struct fake *f, struct fake_conn *c) {
    c->connected = true;
    upstream_on_connected(c->link);
    struct slice in = buf_slice(&c->in), payload;
    uint8_t type;
    struct link_hello hello;
    assert_int_equal(link_take_frame(&in, &type, &payload, NULL), LINK_TAKE_FRAME);
    assert_int_equal(type, LINK_HELLO);
    assert_true(link_decode_hello(payload, &hello));
    assert_int_equal(hello.version, LINK_VERSION);
    memcpy(c->hello_session, hello.session, 16);
    buf_consume(&c->in, c->in.size - in.size);
    c->sends = 0;
}

static void send_buf(struct fake *f, struct fake_conn *c, struct buf *b) {
    fake_bytes(f, c, buf_slice(b));
    buf_fini(b);
}

void node_hello(struct fake *f, struct fake_conn *c, uint64_t id, uint32_t window_requests,
                uint32_t window_bytes) {
    struct link_node_hello h = {.version = LINK_VERSION,
                                .node_id = id,
                                .cluster_id = {7},
                                .window_requests = window_requests,
                                .window_bytes = window_bytes};
    struct buf b = {0};
    link_put_node_hello(&b, &h);
    send_buf(f, c, &b);
}

void node_topology(struct fake *f, struct fake_conn *c, uint64_t term, uint64_t leader) {
    static const char *const addresses[] = {"n1:1", "n2:1", "n3:1"};
    struct buf b = {0};
    struct link_batch batch;
    link_open_topology(&b, &batch, term, leader);
    for (uint64_t i = 0; i < 3; i++) {
        struct link_member m = {.id = i + 1,
                                .role = 1,
                                .peer_address = slice_str(addresses[i]),
                                .http_address = slice_str("http"),
                                .redis_address = slice_str("redis")};
        link_add_member(&b, &batch, &m);
    }
    link_close(&b, &batch);
    send_buf(f, c, &b);
}

struct fake_conn *node_up_at(struct fake *f, const char *address, uint64_t id, uint64_t term,
                             uint64_t leader) {
    struct fake_conn *c = fake_find(f, address);
    assert_non_null(c);
    assert_false(c->connected);
    node_accept(f, c);
    node_hello(f, c, id, 1000, 1 << 20);
    node_topology(f, c, term, leader);
    return c;
}

struct fake_conn *node_up(struct fake *f, uint64_t id, uint64_t term, uint64_t leader) {
    char address[16];
    snprintf(address, sizeof address, "n%u:1", (unsigned)id);
    return node_up_at(f, address, id, term, leader);
}

static void set_name(struct item *item, struct slice packed_argv) {
    struct argv argv = {0};
    assert_true(argv_unpack(&argv, packed_argv));
    assert_true(argv.args[0].size < sizeof item->name);
    memcpy(item->name, argv.args[0].data, argv.args[0].size);
    argv_fini(&argv);
}

static struct item *item_add(struct fake_conn *c, uint8_t type) {
    c->items = xrealloc(c->items, (c->item_count + 1) * sizeof *c->items);
    struct item *item = &c->items[c->item_count++];
    *item = (struct item){.type = type};
    return item;
}

static void take_writes(struct fake_conn *c, struct slice payload) {
    struct link_writes writes;
    struct link_write w;
    assert_true(link_decode_writes(payload, &writes));
    assert_memory_equal(writes.session, c->hello_session, 16);
    for (uint32_t i = 0; i < writes.count; i++) {
        assert_true(link_next_write(&writes.commands, &w));
        struct item *item = item_add(c, LINK_WRITES);
        item->id = w.sequence;
        item->acked_below = writes.acked_below;
        item->db = w.db;
        memcpy(item->session, writes.session, 16);
        set_name(item, w.packed_argv);
    }
}

static void take_reads(struct fake_conn *c, struct slice payload) {
    uint32_t count;
    struct link_read r;
    assert_true(link_decode_count(&payload, &count));
    for (uint32_t i = 0; i < count; i++) {
        assert_true(link_next_read(&payload, &r));
        struct item *item = item_add(c, LINK_READS);
        item->id = r.id;
        item->flags = r.flags;
        item->db = r.db;
        item->min_index = r.min_index;
        set_name(item, r.packed_argv);
    }
    assert_int_equal(payload.size, 0);
}

size_t node_take(struct fake_conn *c) {
    struct slice in = buf_slice(&c->in), payload;
    uint8_t type;
    c->item_count = 0;
    while (link_take_frame(&in, &type, &payload, NULL) == LINK_TAKE_FRAME) {
        if (type == LINK_WRITES) {
            take_writes(c, payload);
        } else if (type == LINK_READS) {
            take_reads(c, payload);
        } else if (type == LINK_READ_INDEX) {
            struct link_read_index ask;
            assert_true(link_decode_read_index(payload, &ask));
            struct item *item = item_add(c, LINK_READ_INDEX);
            item->id = ask.id;
            item->flags = ask.flags;
            item->min_index = ask.min_index;
        } else {
            struct link_admin a;
            assert_int_equal(type, LINK_ADMIN);
            assert_true(link_decode_admin(payload, &a));
            struct item *item = item_add(c, LINK_ADMIN);
            item->id = a.id;
            set_name(item, a.packed_argv);
        }
    }
    buf_consume(&c->in, c->in.size - in.size);
    return c->item_count;
}

void node_answer(struct fake *f, struct fake_conn *c, const struct item *item,
                 enum link_status status, uint64_t index, const char *reply) {
    struct buf b = {0};
    struct link_batch batch;
    struct link_reply r = {.id = item->id,
                           .kind = item->type == LINK_WRITES ? LINK_KIND_WRITE : LINK_KIND_READ,
                           .status = (uint8_t)status,
                           .index = index,
                           .reply = slice_str(reply)};
    link_open_replies(&b, &batch);
    link_add_reply(&b, &batch, &r);
    link_close(&b, &batch);
    send_buf(f, c, &b);
}

void node_answer_index(struct fake *f, struct fake_conn *c, const struct item *item,
                       enum link_status status, uint64_t index, uint64_t time_ms) {
    struct buf b = {0};
    struct link_read_indexed answer = {
        .id = item->id, .status = (uint8_t)status, .index = index, .time_ms = time_ms};
    link_put_read_indexed(&b, &answer);
    send_buf(f, c, &b);
}

void node_answer_all(struct fake *f, struct fake_conn *c) {
    for (size_t i = 0; i < c->item_count; i++) {
        char text[80];
        snprintf(text, sizeof text, "+%s\r\n", c->items[i].name);
        node_answer(f, c, &c->items[i], LINK_OK, 100 + i, text);
    }
}

void node_open_session(struct fake *f, struct fake_conn *leader) {
    struct request r = {0};
    request_submit(f, &r, UPSTREAM_WRITE, "FIRST");
    fake_turn(f);
    assert_int_equal(node_take(leader), 1);
    assert_string_equal(leader->items[0].name, "SESSION.OPEN");
    assert_int_equal(leader->items[0].id, 1);
    node_answer(f, leader, &leader->items[0], LINK_OK, 1, "+OK\r\n");
    fake_turn(f);
    assert_int_equal(node_take(leader), 1);
    assert_string_equal(leader->items[0].name, "FIRST");
    assert_int_equal(leader->items[0].id, 2);
    assert_int_equal(leader->items[0].acked_below, 2);
    node_answer_all(f, leader);
    assert_done(&r, UPSTREAM_DONE, "+FIRST\r\n");
}

/* ---- the client's side ---- */

static void on_done(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    struct request *r = CONTAINER_OF(up, struct request, up);
    assert_false(r->fake->inside);
    assert_true(reply.size < sizeof r->reply);
    r->done++;
    r->outcome = outcome;
    r->index = index;
    memcpy(r->reply, reply.data, reply.size);
    r->reply[reply.size] = '\0';
}

void request_submit_sized(struct fake *f, struct request *r, enum upstream_kind kind,
                          const char *name, size_t bytes) {
    struct upstream_request before = r->up;
    *r = (struct request){.fake = f};
    snprintf(r->name, sizeof r->name, "%s", name);
    r->up.kind = kind;
    r->up.db = before.db;
    r->up.min_index = before.min_index;
    r->up.timeout_ms = before.timeout_ms;
    r->up.repeat = before.repeat;
    r->up.late = before.late;
    r->up.done = on_done;
    uint8_t *value = xcalloc(1, bytes + 1);
    struct slice args[] = {slice_str(name), slice_of(value, bytes)};
    argv_append(&r->up.packed_argv, args, bytes ? 2 : 1);
    free(value);
    f->inside = true;
    upstream_submit(f->up, &r->up);
    f->inside = false;
}

void request_submit(struct fake *f, struct request *r, enum upstream_kind kind, const char *name) {
    request_submit_sized(f, r, kind, name, 0);
}

void assert_done(const struct request *r, enum upstream_outcome outcome, const char *reply) {
    assert_int_equal(r->done, 1);
    assert_int_equal(r->outcome, outcome);
    assert_string_equal(r->reply, reply);
    assert_int_equal(r->up.packed_argv.size, 0);
}
