/* The upstream against a model of a cluster, from random seeds: connections break, leaders come and
 * go and lag behind the news, answers are cut anywhere, sessions vanish, clients leave.
 *
 * Checked: every request is answered exactly once; a write that was answered was applied exactly
 * once, one "not applied" never; writes are applied in the order of their sequences; a connection
 * carries them in ascending order, no copy twice, and never more than its window.
 *
 * The model's nodes keep one rule that order needs on their side: when a node has refused a write
 * of a connection it refuses all that follow on it, until the refused one comes again.
 */
#include "upstream_fake.h"

#include <stdio.h>

enum {
    NODES = 3,
    STEPS = 2500,
    REQUESTS_MAX = 1500,
    SESSIONS_MAX = 64,
    SEQUENCES_MAX = 2000,
    WINDOW_REQUESTS = 12,
    WINDOW_BYTES = 400,
};

static uint64_t seed;
#define EXPECT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fail_msg("seed %llu, line %d: %s", (unsigned long long)seed, __LINE__, #cond);         \
    } while (0)

struct client {
    struct request r;
    bool used;
    bool forgotten;
    int applied;
};

struct session {
    uint8_t id[16];
    bool alive;
    uint64_t acked_below;
    uint64_t last_executed;
    bool executed[SEQUENCES_MAX];
    char names[SEQUENCES_MAX][16];
};

struct command {
    uint8_t session[16];
    uint64_t sequence;
    uint64_t acked_below;
    char name[16];
};

/* What a node knows of a connection. */
struct side {
    struct fake_conn *c;
    int node;
    bool greeted;
    bool gone;         /* for the node */
    struct buf rx, tx; /* on their way */
    bool refusing;
    uint64_t refused_low; /* UINT64_MAX: none was refused that will come again */
    bool owed[SEQUENCES_MAX];
    int owed_count;
    int reads_owed;
};

struct node {
    bool leads; /* thinks so */
    uint64_t term;
    uint64_t leader;
    bool unavailable;
    bool busy;
    struct command *proposals;
    size_t proposal_count;
};

struct model {
    struct fake f;
    struct rand rand;
    struct node nodes[NODES + 1];
    uint64_t leader, term;
    uint64_t index;
    struct session sessions[SESSIONS_MAX];
    size_t session_count;
    struct side **sides;
    size_t side_count;
    struct client clients[REQUESTS_MAX];
    size_t client_count;
    bool healing;
};

static bool chance(struct model *m, uint64_t percent) {
    return rand_below(&m->rand, 100) < percent;
}

/* ---- the replicated state ---- */

static struct session *session_find(struct model *m, const uint8_t id[16]) {
    for (size_t i = 0; i < m->session_count; i++)
        if (m->sessions[i].alive && memcmp(m->sessions[i].id, id, 16) == 0)
            return &m->sessions[i];
    return NULL;
}

static struct side *side_of_session(struct model *m, int node, const uint8_t id[16]) {
    for (size_t i = m->side_count; i-- > 0;) {
        struct side *s = m->sides[i];
        if (s->node == node && s->greeted && !s->gone && memcmp(s->c->hello_session, id, 16) == 0)
            return s;
    }
    return NULL;
}

static void put_reply(struct side *s, uint64_t id, uint8_t kind, enum link_status status,
                      uint64_t index, const char *text) {
    struct link_batch b;
    struct link_reply r = {.id = id,
                           .kind = kind,
                           .status = (uint8_t)status,
                           .index = index,
                           .reply = slice_str(text)};
    link_open_replies(&s->tx, &b);
    link_add_reply(&s->tx, &b, &r);
    link_close(&s->tx, &b);
}

static void answer_write(struct model *m, struct side *s, uint64_t sequence,
                         enum link_status status, const char *text) {
    if (s->owed[sequence]) {
        s->owed[sequence] = false;
        s->owed_count--;
    }
    put_reply(s, sequence, LINK_KIND_WRITE, status, m->index, text);
}

static struct client *client_of(struct model *m, const char *name) {
    size_t at = (size_t)atoi(name + 1);
    EXPECT(at < m->client_count);
    return &m->clients[at];
}

static void apply(struct model *m, const struct command *c) {
    struct side *s = side_of_session(m, (int)m->leader, c->session);
    struct session *session = session_find(m, c->session);
    bool opens = strcmp(c->name, "SESSION.OPEN") == 0;
    m->index++;
    EXPECT(c->sequence < SEQUENCES_MAX);
    if (!session && opens) {
        EXPECT(c->sequence == 1);
        EXPECT(m->session_count < SESSIONS_MAX);
        session = &m->sessions[m->session_count++];
        memcpy(session->id, c->session, 16);
        session->alive = true;
    }
    if (!session) {
        if (s)
            answer_write(m, s, c->sequence, LINK_SESSION_GONE, "");
        return;
    }
    if (c->acked_below > session->acked_below)
        session->acked_below = c->acked_below;
    if (c->sequence < session->acked_below)
        return;
    if (!session->executed[c->sequence]) {
        EXPECT(c->sequence > session->last_executed);
        session->last_executed = c->sequence;
        session->executed[c->sequence] = true;
        strcpy(session->names[c->sequence], c->name);
        if (!opens)
            client_of(m, c->name)->applied++;
    }
    EXPECT(strcmp(session->names[c->sequence], c->name) == 0);
    char text[32];
    snprintf(text, sizeof text, "+%s\r\n", opens ? "OK" : c->name);
    if (s)
        answer_write(m, s, c->sequence, LINK_OK, text);
}

static void commit(struct model *m, size_t count) {
    struct node *n = &m->nodes[m->leader];
    if (!m->leader || !n->leads)
        return;
    for (; count > 0 && n->proposal_count > 0; count--) {
        struct command c = n->proposals[0];
        memmove(n->proposals, n->proposals + 1, --n->proposal_count * sizeof c);
        apply(m, &c);
    }
}

/* ---- nodes ---- */

static void tell_topology(struct model *m, struct side *s) {
    static const char *const addresses[] = {"n1:1", "n2:1", "n3:1"};
    struct link_batch b;
    const struct node *n = &m->nodes[s->node];
    link_open_topology(&s->tx, &b, n->term, n->leader);
    for (uint64_t i = 0; i < NODES; i++) {
        struct link_member member = {
            .id = i + 1, .role = 1, .peer_address = slice_str(addresses[i])};
        link_add_member(&s->tx, &b, &member);
    }
    link_close(&s->tx, &b);
}

/* The end of a leader's term: what it owes answers to may be lost, so nothing behind it may be
 * taken before it comes again. */
static void node_refuse_owing(struct model *m, int node) {
    for (size_t i = 0; i < m->side_count; i++) {
        struct side *s = m->sides[i];
        if (s->node != node || s->owed_count == 0)
            continue;
        uint64_t lowest = 0;
        while (!s->owed[lowest])
            lowest++;
        if (!s->refusing || lowest < s->refused_low)
            s->refused_low = lowest;
        s->refusing = true;
    }
}

/* The node hears of the present term. */
static void node_learn(struct model *m, int node) {
    struct node *n = &m->nodes[node];
    if (n->term == m->term && n->leader == m->leader)
        return;
    bool was = n->leads;
    n->term = m->term;
    n->leader = m->leader;
    n->leads = m->leader == (uint64_t)node;
    if (was && !n->leads)
        n->proposal_count = 0;
    if (was)
        node_refuse_owing(m, node);
    for (size_t i = 0; i < m->side_count; i++)
        if (m->sides[i]->node == node && m->sides[i]->greeted && !m->sides[i]->gone)
            tell_topology(m, m->sides[i]);
}

static void elect(struct model *m) {
    uint64_t old = m->leader;
    m->term++;
    m->leader = m->healing ? 1 : rand_below(&m->rand, NODES + 1);
    if (m->leader == 0)
        return;
    struct node *to = &m->nodes[m->leader], *from = &m->nodes[old];
    if (old && old != m->leader && from->leads && chance(m, 60)) {
        /* Some of what the old one had proposed was replicated, and is committed by the new. */
        size_t count = (size_t)rand_below(&m->rand, from->proposal_count + 1);
        to->proposals =
            xrealloc(to->proposals, (to->proposal_count + count + 1) * sizeof *to->proposals);
        if (count > 0)
            memcpy(to->proposals, from->proposals, count * sizeof *to->proposals);
        to->proposal_count = count;
    } else if (old != m->leader) {
        to->proposal_count = 0;
    } else {
        to->proposal_count = (size_t)rand_below(&m->rand, to->proposal_count + 1);
    }
    node_learn(m, (int)m->leader);
}

static void side_gone(struct side *s) {
    s->gone = true;
    buf_reset(&s->tx);
}

static void on_hello(struct model *m, struct side *s, struct slice payload) {
    struct link_hello hello;
    EXPECT(link_decode_hello(payload, &hello));
    struct side *old = side_of_session(m, s->node, hello.session);
    memcpy(s->c->hello_session, hello.session, 16);
    if (old)
        side_gone(old);
    s->greeted = true;
    struct link_node_hello h = {.version = LINK_VERSION,
                                .node_id = (uint64_t)s->node,
                                .cluster_id = {7},
                                .window_requests = WINDOW_REQUESTS,
                                .window_bytes = WINDOW_BYTES};
    link_put_node_hello(&s->tx, &h);
    tell_topology(m, s);
}

static void first_arg(struct slice packed, char name[16]) {
    struct argv argv = {0};
    EXPECT(argv_unpack(&argv, packed));
    EXPECT(argv.args[0].size < 16);
    memset(name, 0, 16);
    memcpy(name, argv.args[0].data, argv.args[0].size);
    argv_fini(&argv);
}

static void on_write(struct model *m, struct side *s, const struct link_writes *ws,
                     const struct link_write *w) {
    struct node *n = &m->nodes[s->node];
    struct command c = {.sequence = w->sequence, .acked_below = ws->acked_below};
    memcpy(c.session, ws->session, 16);
    first_arg(w->packed_argv, c.name);
    EXPECT(w->sequence > 0 && w->sequence < SEQUENCES_MAX);
    for (uint64_t i = w->sequence; i < SEQUENCES_MAX; i++)
        EXPECT(!s->owed[i]);
    s->owed[w->sequence] = true;
    s->owed_count++;
    if (s->refusing && s->refused_low != UINT64_MAX &&
        (w->sequence <= s->refused_low || ws->acked_below > s->refused_low))
        s->refusing = false;
    if (!n->leads || s->refusing) {
        if (!s->refusing || w->sequence < s->refused_low)
            s->refused_low = w->sequence;
        s->refusing = true;
        answer_write(m, s, w->sequence, chance(m, 50) ? LINK_NOT_LEADER : LINK_UNAVAILABLE, "");
        return;
    }
    if (n->busy && chance(m, 30)) {
        s->refusing = true;
        s->refused_low = UINT64_MAX;
        answer_write(m, s, w->sequence, chance(m, 50) ? LINK_BUSY : LINK_REFUSED, "-BUSY no\r\n");
        return;
    }
    n->proposals = xrealloc(n->proposals, (n->proposal_count + 1) * sizeof c);
    n->proposals[n->proposal_count++] = c;
}

static void on_read(struct model *m, struct side *s, const struct link_read *r) {
    const struct node *n = &m->nodes[s->node];
    char name[16], text[32];
    first_arg(r->packed_argv, name);
    bool stale = r->flags & LINK_READ_STALE;
    bool refuse = !stale && (n->unavailable || n->leader == 0);
    snprintf(text, sizeof text, "+%s\r\n", name);
    EXPECT(s->reads_owed + s->owed_count < WINDOW_REQUESTS);
    put_reply(s, r->id, LINK_KIND_READ, refuse ? LINK_UNAVAILABLE : LINK_OK, m->index,
              refuse ? "" : text);
}

static void on_admin(struct model *m, struct side *s, struct slice payload) {
    struct link_admin a;
    char name[16], text[32];
    EXPECT(link_decode_admin(payload, &a));
    first_arg(a.packed_argv, name);
    snprintf(text, sizeof text, "+%s\r\n", name);
    bool leads = m->nodes[s->node].leads;
    if (leads)
        client_of(m, name)->applied++;
    put_reply(s, a.id, LINK_KIND_READ, leads ? LINK_OK : LINK_NOT_LEADER, m->index,
              leads ? text : "");
}

static void on_frame(struct model *m, struct side *s, uint8_t type, struct slice payload) {
    if (type == LINK_HELLO) {
        on_hello(m, s, payload);
    } else if (type == LINK_WRITES) {
        struct link_writes ws;
        struct link_write w;
        EXPECT(link_decode_writes(payload, &ws));
        EXPECT(memcmp(ws.session, s->c->hello_session, 16) == 0);
        for (uint32_t i = 0; i < ws.count; i++) {
            EXPECT(link_next_write(&ws.commands, &w));
            EXPECT(s->owed_count < WINDOW_REQUESTS);
            on_write(m, s, &ws, &w);
        }
    } else if (type == LINK_READS) {
        uint32_t count;
        struct link_read r;
        EXPECT(link_decode_count(&payload, &count));
        for (uint32_t i = 0; i < count; i++) {
            EXPECT(link_next_read(&payload, &r));
            on_read(m, s, &r);
        }
    } else if (type == LINK_PING) {
        uint64_t id;
        EXPECT(link_decode_ping(payload, &id));
        link_put_ping(&s->tx, LINK_PONG, id);
    } else {
        EXPECT(type == LINK_ADMIN);
        on_admin(m, s, payload);
    }
}

/* ---- the network ---- */

static void find_new_conns(struct model *m) {
    for (size_t i = m->side_count; i < m->f.conn_count; i++) {
        struct side *s = xcalloc(1, sizeof *s);
        s->c = m->f.conns[i];
        s->node = s->c->address[1] - '0';
        m->sides = xrealloc(m->sides, (m->side_count + 1) * sizeof(struct side *));
        m->sides[m->side_count++] = s;
    }
}

/* Bytes towards the node; also of a connection that the upstream has closed: the node may read them
 * long after. */
static void deliver_to_node(struct model *m, struct side *s, size_t most) {
    struct fake_conn *c = s->c;
    size_t n = c->in.size < most ? c->in.size : most;
    buf_append(&s->rx, c->in.data, n);
    buf_consume(&c->in, n);
    struct slice in = buf_slice(&s->rx), payload;
    uint8_t type;
    while (!s->gone && link_take_frame(&in, &type, &payload, NULL) == LINK_TAKE_FRAME)
        on_frame(m, s, type, payload);
    buf_consume(&s->rx, s->rx.size - in.size);
}

static void deliver_to_upstream(struct model *m, struct side *s, size_t most) {
    if (s->c->closed || s->tx.size == 0)
        return;
    size_t n = s->tx.size < most ? s->tx.size : most;
    uint8_t *bytes = xmemdup(s->tx.data, n);
    buf_consume(&s->tx, n);
    fake_bytes(&m->f, s->c, slice_of(bytes, n));
    free(bytes);
}

/* One that is open, as a rule. */
static struct side *any_side(struct model *m) {
    struct side *found = NULL;
    uint64_t open = 0;
    if (m->side_count == 0)
        return NULL;
    if (chance(m, 15))
        return m->sides[rand_below(&m->rand, m->side_count)];
    for (size_t i = 0; i < m->side_count; i++)
        if (!m->sides[i]->c->closed && rand_below(&m->rand, ++open) == 0)
            found = m->sides[i];
    return found;
}

static void step_network(struct model *m) {
    struct side *s = any_side(m);
    if (!s)
        return;
    struct fake_conn *c = s->c;
    if (!c->connected && !c->closed) {
        if (!m->healing && chance(m, 10)) {
            s->gone = true;
            fake_break(&m->f, c);
            return;
        }
        c->connected = true;
        upstream_on_connected(c->link);
        return;
    }
    size_t most = chance(m, 50) ? SIZE_MAX : (size_t)rand_below(&m->rand, 60) + 1;
    if (chance(m, 50))
        deliver_to_node(m, s, most);
    else
        deliver_to_upstream(m, s, most);
    if (s->gone && !c->closed && chance(m, 50))
        fake_break(&m->f, c);
}

static void step_break(struct model *m) {
    struct side *s = any_side(m);
    if (!s || s->c->closed)
        return;
    /* The upstream notices; the node reads what is on its way, or does not. */
    if (chance(m, 50))
        side_gone(s);
    fake_break(&m->f, s->c);
}

/* ---- clients ---- */

static void step_submit(struct model *m) {
    if (m->client_count >= REQUESTS_MAX)
        return;
    uint64_t dice = rand_below(&m->rand, 100);
    enum upstream_kind kind = dice < 60   ? UPSTREAM_WRITE
                              : dice < 85 ? UPSTREAM_READ
                              : dice < 95 ? UPSTREAM_READ_STALE
                                          : UPSTREAM_ADMIN;
    struct client *c = &m->clients[m->client_count];
    char name[16];
    snprintf(name, sizeof name, "%c%zu", "WRSA"[kind], m -> client_count++);
    c->used = true;
    c->r.up.timeout_ms = chance(m, 30) ? 50 + (uint32_t)rand_below(&m->rand, 500) : 0;
    size_t bytes = chance(m, 5) ? 900 : (size_t)rand_below(&m->rand, 100);
    request_submit_sized(&m->f, &c->r, kind, name, bytes);
}

static void step_forget(struct model *m) {
    if (m->client_count == 0)
        return;
    struct client *c = &m->clients[rand_below(&m->rand, m->client_count)];
    if (c->r.done || c->forgotten)
        return;
    c->forgotten = true;
    upstream_forget(m->f.up, &c->r.up);
    /* Its memory is the caller's again. */
    memset(&c->r.up, 0xaa, sizeof c->r.up);
}

static void step(struct model *m) {
    uint64_t dice = rand_below(&m->rand, 1000);
    find_new_conns(m);
    if (dice < 200)
        step_submit(m);
    else if (dice < 640)
        step_network(m);
    else if (dice < 780)
        commit(m, (size_t)rand_below(&m->rand, 6));
    else if (dice < 880)
        fake_advance(&m->f, rand_below(&m->rand, 12));
    else if (dice < 920)
        fake_turn(&m->f);
    else if (dice < 940)
        step_forget(m);
    else if (dice < 950)
        step_break(m);
    else if (dice < 958)
        elect(m);
    else if (dice < 985)
        node_learn(m, 1 + (int)rand_below(&m->rand, NODES));
    else if (dice < 992)
        m->nodes[1 + rand_below(&m->rand, NODES)].unavailable ^= true;
    else if (dice < 998)
        m->nodes[1 + rand_below(&m->rand, NODES)].busy ^= true;
    else if (m->session_count && chance(m, 30))
        m->sessions[m->session_count - 1].alive = false;
}

/* ---- a run ---- */

static void heal(struct model *m) {
    m->healing = true;
    elect(m);
    for (int i = 1; i <= NODES; i++) {
        m->nodes[i].unavailable = m->nodes[i].busy = false;
        node_learn(m, i);
    }
    struct upstream_status status;
    for (int round = 0; round < 3000; round++) {
        upstream_get_status(m->f.up, &status);
        if (status.pending_requests == 0 && upstream_deadline_ms(m->f.up) != 0)
            break;
        for (int i = 0; i < 40; i++) {
            find_new_conns(m);
            step_network(m);
        }
        commit(m, 100);
        fake_advance(&m->f, 5);
    }
    EXPECT(status.pending_requests == 0);
    EXPECT(status.protocol_errors_total == 0);
    /* What still lies around, on connections long closed, must do no harm. */
    for (size_t i = 0; i < m->side_count; i++)
        deliver_to_node(m, m->sides[i], SIZE_MAX);
    commit(m, SIZE_MAX);
}

struct tally {
    uint64_t done, not_applied, unknown, forgotten, retried;
};

static void check_clients(struct model *m, struct tally *t) {
    for (size_t i = 0; i < m->client_count; i++) {
        const struct client *c = &m->clients[i];
        EXPECT(c->applied <= 1);
        t->forgotten += c->forgotten;
        if (c->forgotten) {
            EXPECT(c->r.done == 0);
            continue;
        }
        EXPECT(c->r.done == 1);
        char text[64];
        snprintf(text, sizeof text, "+%s\r\n", c->r.name);
        bool changes = c->r.name[0] == 'W' || c->r.name[0] == 'A';
        if (c->r.outcome == UPSTREAM_DONE) {
            EXPECT(strcmp(c->r.reply, text) == 0);
            EXPECT(!changes || c->applied == 1);
            t->done++;
        } else {
            EXPECT(c->r.reply[0] == '-');
            EXPECT(c->r.outcome != UPSTREAM_NOT_APPLIED || c->applied == 0);
            EXPECT(c->r.outcome != UPSTREAM_UNKNOWN || changes);
            t->not_applied += c->r.outcome == UPSTREAM_NOT_APPLIED;
            t->unknown += c->r.outcome == UPSTREAM_UNKNOWN;
        }
    }
}

static void run(uint64_t run_seed, struct tally *t) {
    static const char *const seeds[] = {"n1:1", "n2:1"};
    const struct upstream_options o = {.seeds = seeds, .seed_count = 2, .timeout_ms = 60000};
    struct model *m = xcalloc(1, sizeof *m);
    struct upstream_status status;
    seed = run_seed;
    m->rand.state = run_seed;
    fake_init(&m->f, &o);
    m->f.pings_stay = true;
    m->f.rand.state = run_seed * 31;
    m->leader = m->term = 1;
    for (int i = 1; i <= NODES; i++)
        node_learn(m, i);
    for (int i = 0; i < STEPS; i++)
        step(m);
    heal(m);
    upstream_get_status(m->f.up, &status);
    t->retried += status.retried_total;
    check_clients(m, t);
    fake_fini(&m->f);
    for (size_t i = 0; i < m->side_count; i++) {
        buf_fini(&m->sides[i]->rx);
        buf_fini(&m->sides[i]->tx);
        free(m->sides[i]);
    }
    for (int i = 1; i <= NODES; i++)
        free(m->nodes[i].proposals);
    free(m->sides);
    free(m);
}

static void test_random_seeds(void **state) {
    const char *count = getenv("UPSTREAM_SEEDS"), *first = getenv("UPSTREAM_SEED");
    uint64_t seeds = count ? strtoull(count, NULL, 10) : 200;
    uint64_t from = first ? strtoull(first, NULL, 10) : 1;
    struct tally t = {0};
    for (uint64_t i = 0; i < seeds; i++)
        run(from + i, &t);
    print_message("%llu seeds: %llu done, %llu not applied, %llu unknown, %llu forgotten, %llu "
                  "asked again\n",
                  (unsigned long long)seeds, (unsigned long long)t.done,
                  (unsigned long long)t.not_applied, (unsigned long long)t.unknown,
                  (unsigned long long)t.forgotten, (unsigned long long)t.retried);
    /* A run in which nothing goes wrong tests nothing. */
    assert_true(t.done > 0);
    if (seeds >= 100) {
        assert_true(t.not_applied > 0);
        assert_true(t.unknown > 0);
        assert_true(t.retried > t.done / 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_seeds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
