/* A node and its gateways: commands and replies over links, restarts, the quota, links that break
 * the protocol. */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>

static void expect_text(const struct rig_reply *reply, const char *text) {
    assert_non_null(reply);
    assert_string_equal(reply->text, text);
}

/* ---- one node ---- */

static void test_bootstrap(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    struct membership m;
    assert_int_equal(node_leader_id(n), 1);
    assert_int_equal(node_id(n), 1);
    node_membership(n, &m);
    assert_int_equal(m.count, 1);
    assert_int_equal(m.members[0].id, 1);
    assert_int_equal(m.members[0].role, MEMBER_VOTER);
    assert_string_equal(m.members[0].address, "s1:1");
    assert_int_equal(node_applied_index(n), node_commit_index(n));
    assert_int_equal(node_memlog(n)->last_index, node_commit_index(n));
    rig_free(r);
}

/* The leader's clock jumps, as when somebody sets it: the log's time never goes back, and a key
 * expires by it. */
static void test_clock_jumps(void **state) {
    const uint64_t day_ms = 86400000;
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    rig_write(l, 2, "SET", "k", "v", "PX", "3600000", NULL);
    rig_run(r, 50);
    expect_text(rig_reply(l, LINK_KIND_WRITE, 2), "+OK\r\n");
    uint64_t before_ms = store_time_ms(node_store(n));
    r->wall_ms -= day_ms;
    expect_text(rig_set(l, 3, "other", "v"), "+OK\r\n");
    assert_true(store_time_ms(node_store(n)) >= before_ms);
    expect_text(rig_get(l, 1, "k"), "$1\r\nv\r\n");
    r->wall_ms += 2 * day_ms;
    expect_text(rig_get(l, 2, "k"), "$-1\r\n");
    expect_text(rig_set(l, 4, "other", "w"), "+OK\r\n");
    uint64_t later_ms = store_time_ms(node_store(n));
    assert_true(later_ms >= before_ms + day_ms / 2);
    /* Back to where it was: what has expired stays so, also after a start. */
    r->wall_ms -= day_ms;
    expect_text(rig_get(l, 3, "k"), "$-1\r\n");
    rig_stop(r, 1);
    n = rig_start(r, 1);
    RIG_UNTIL(r, rig_leader(r) == 1, 5000);
    l = rig_session(r, 1, 2);
    expect_text(rig_set(l, 2, "other", "x"), "+OK\r\n");
    assert_true(store_time_ms(node_store(n)) >= later_ms);
    expect_text(rig_get(l, 1, "k"), "$-1\r\n");
    rig_free(r);
}

/* The leader's disk is nearly full. */
static uint64_t few_bytes(void *env) {
    return 1000;
}

static void test_a_disk_that_is_nearly_full(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    expect_text(rig_set(l, 2, "k", "v"), "+OK\r\n");
    struct replica_env_ops ops = *n->ops;
    const struct replica_env_ops *real = n->ops;
    ops.free_bytes = few_bytes;
    n->ops = &ops;
    n->o.min_free_bytes = 1001;
    RIG_UNTIL(r, n->disk_low, 2000);
    rig_write(l, 3, "SET", "k", "w", NULL);
    rig_write(l, 4, "DEL", "k", NULL);
    rig_run(r, 50);
    assert_int_equal(rig_reply(l, LINK_KIND_WRITE, 3)->status, LINK_REFUSED);
    assert_true(strncmp(rig_reply(l, LINK_KIND_WRITE, 3)->text, "-OOM", 4) == 0);
    expect_text(rig_reply(l, LINK_KIND_WRITE, 4), ":1\r\n");
    n->o.min_free_bytes = 500;
    RIG_UNTIL(r, !n->disk_low, 2000);
    expect_text(rig_set(l, 5, "k", "x"), "+OK\r\n");
    n->ops = real;
    rig_free(r);
}

static void test_a_node_that_does_not_bootstrap_waits(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_start(r, 1);
    rig_run(r, 5000);
    assert_int_equal(node_leader_id(n), 0);
    assert_int_equal(node_memlog(n)->last_index, 0);
    struct rig_link *l = rig_link(r, 1, 1);
    rig_write(l, 1, "SESSION.OPEN", NULL);
    rig_read(l, 2, 0, "GET", "k", NULL);
    rig_run(r, 5000);
    assert_int_equal(rig_reply(l, LINK_KIND_WRITE, 1)->status, LINK_NOT_LEADER);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 2)->status, LINK_UNAVAILABLE);
    assert_string_equal(r->servers[1].failed, "");
    rig_free(r);
}

static void test_write_and_read(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    assert_int_equal(l->leader_id, 1);
    expect_text(rig_set(l, 2, "k", "v"), "+OK\r\n");
    expect_text(rig_get(l, 1, "k"), "$1\r\nv\r\n");
    expect_text(rig_get(l, 2, "none"), "$-1\r\n");
    const struct rig_reply *set = rig_set(l, 3, "k", "w");
    const struct rig_reply *get = rig_get(l, 3, "k");
    expect_text(get, "$1\r\nw\r\n");
    assert_true(get->index >= set->index);
    assert_int_equal(set->index, node_applied_index(r->servers[1].node));
    rig_free(r);
}

static void test_a_write_is_answered_when_it_is_durable(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    r->servers[1].hold_disk = true;
    rig_write(l, 2, "SET", "k", "v", NULL);
    rig_run(r, 200);
    assert_null(rig_reply(l, LINK_KIND_WRITE, 2));
    rig_read(l, 1, 0, "GET", "k", NULL);
    rig_run(r, 10);
    expect_text(rig_reply(l, LINK_KIND_READ, 1), "$-1\r\n");
    r->servers[1].hold_disk = false;
    rig_turn(r);
    expect_text(rig_reply(l, LINK_KIND_WRITE, 2), "+OK\r\n");
    rig_free(r);
}

static void test_a_repeated_write_runs_once(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    for (int i = 0; i < 3; i++) {
        rig_write(l, 2, "INCR", "n", NULL);
        rig_run(r, 10);
        expect_text(rig_reply(l, LINK_KIND_WRITE, 2), ":1\r\n");
        rig_link_close(l);
        if (i == 1) {
            rig_kill(r, 1, MEM_DISK_KILL);
            rig_start(r, 1);
            RIG_UNTIL(r, rig_leader(r) == 1, 1000);
        }
        l = rig_link(r, 1, 1);
    }
    expect_text(rig_get(l, 1, "n"), "$1\r\n1\r\n");
    rig_free(r);
}

static void test_an_unknown_session_is_gone(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_link(r, 1, 9);
    rig_write(l, 5, "SET", "k", "v", NULL);
    rig_run(r, 10);
    assert_int_equal(rig_reply(l, LINK_KIND_WRITE, 5)->status, LINK_SESSION_GONE);
    rig_free(r);
}

static struct rig_link *link_with(struct rig *r, const uint8_t session[16]) {
    struct rig_link *l = rig_link_raw(r, 1);
    struct link_hello hello = {.version = LINK_VERSION};
    struct buf b = {0};
    memcpy(l->session, session, sizeof l->session);
    memcpy(hello.session, session, sizeof hello.session);
    link_put_hello(&b, &hello);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    buf_fini(&b);
    return l;
}

/* Replies find the link of their session among many, some of which share a bucket; also after
 * others have gone, and after a gateway has connected again before its old link was closed. */
static void test_many_links(void **state) {
    enum { LINKS = 40, SHARED = 5 };
    struct rig *r = rig_new();
    struct rig_link *l[LINKS];
    rig_bootstrap(r, 1);
    for (uint64_t i = 0; i < LINKS; i++) {
        uint8_t session[16] = {[0] = i < SHARED ? 0 : (uint8_t)i, [15] = (uint8_t)i + 1};
        l[i] = link_with(r, session);
        rig_write(l[i], 1, "SESSION.OPEN", NULL);
    }
    rig_run(r, 50);
    rig_link_close(l[1]);
    rig_link_close(l[LINKS - 1]);
    struct rig_link *again = link_with(r, l[2]->session);
    assert_null(l[2]->link);
    l[2] = again;
    for (uint64_t i = 0; i < LINKS; i++) {
        char text[24];
        if (!l[i]->link)
            continue;
        snprintf(text, sizeof text, "%llu", (unsigned long long)i);
        rig_write(l[i], 2, "INCRBY", text, text, NULL);
    }
    rig_run(r, 50);
    for (uint64_t i = 0; i < LINKS; i++) {
        char text[24];
        snprintf(text, sizeof text, ":%llu\r\n", (unsigned long long)i);
        if (l[i]->link)
            expect_text(rig_reply(l[i], LINK_KIND_WRITE, 2), text);
    }
    for (uint64_t i = 0; i < LINKS; i++)
        if (l[i]->link)
            rig_link_close(l[i]);
    rig_free(r);
}

static void restart_and_compare(bool clean) {
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    for (uint64_t i = 2; i < 50; i++) {
        char key[24];
        snprintf(key, sizeof key, "k%llu", (unsigned long long)i);
        rig_set(l, i, key, "v");
    }
    uint64_t applied = node_applied_index(n);
    struct hash128 digest = store_digest(node_store(n));
    if (clean)
        rig_stop(r, 1);
    else
        rig_kill(r, 1, MEM_DISK_KILL);
    assert_null(l->link);
    n = rig_start(r, 1);
    assert_true(node_applied_index(n) >= applied);
    RIG_UNTIL(r, rig_leader(r) == 1, 1000);
    assert_true(hash128_equal(store_digest(node_store(n)), digest));
    expect_text(rig_get(rig_link(r, 1, 1), 1, "k49"), "$1\r\nv\r\n");
    rig_free(r);
}

static void test_restart_after_a_stop(void **state) {
    restart_and_compare(true);
}

static void test_restart_after_a_kill(void **state) {
    restart_and_compare(false);
}

/* After a power cut the store is not trusted; without a snapshot the log has everything. */
static void test_store_rebuilt_from_the_log(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    rig_set(l, 2, "k", "v");
    struct hash128 digest = store_digest(node_store(r->servers[1].node));
    rig_kill(r, 1, MEM_DISK_ALL_LOST);
    struct node *n = rig_start(r, 1);
    RIG_UNTIL(r, rig_leader(r) == 1, 1000);
    assert_true(hash128_equal(store_digest(node_store(n)), digest));
    expect_text(rig_get(rig_link(r, 1, 1), 1, "k"), "$1\r\nv\r\n");
    rig_free(r);
}

static void test_a_node_never_begins_a_second_cluster(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    rig_set(l, 2, "k", "v");
    rig_stop(r, 1);
    struct node *n = rig_start(r, 1); /* still told to begin one */
    assert_true(node_memlog(n)->last_index > 3);
    RIG_UNTIL(r, rig_leader(r) == 1, 1000);
    assert_int_equal(node_memlog(n)->first_index, 1);
    assert_int_equal(memlog_term(node_memlog(n), 1), 1);
    rig_free(r);
}

/* ---- reads ---- */

static void test_reads_that_wait(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    struct buf argv = {0}, b = {0};
    struct link_batch batch;
    argv_append_strs(&argv, "GET", "k", NULL);
    uint64_t later = node_applied_index(n) + 1;
    struct link_read read = {.id = 1, .min_index = later, .packed_argv = buf_slice(&argv)};
    link_open_reads(&b, &batch);
    link_add_read(&b, &batch, &read);
    read = (struct link_read){
        .id = 2, .min_index = later, .flags = LINK_READ_STALE, .packed_argv = buf_slice(&argv)};
    link_add_read(&b, &batch, &read);
    link_close(&b, &batch);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    rig_run(r, 100);
    assert_null(rig_reply(l, LINK_KIND_READ, 1));
    assert_null(rig_reply(l, LINK_KIND_READ, 2));
    rig_set(l, 2, "k", "v");
    expect_text(rig_reply(l, LINK_KIND_READ, 1), "$1\r\nv\r\n");
    expect_text(rig_reply(l, LINK_KIND_READ, 2), "$1\r\nv\r\n");
    buf_reset(&b);
    read.id = 3;
    read.min_index = 1000000;
    link_open_reads(&b, &batch);
    link_add_read(&b, &batch, &read);
    link_close(&b, &batch);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    rig_run(r, NODE_READ_TIMEOUT_MS + 100);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 3)->status, LINK_UNAVAILABLE);
    buf_fini(&argv);
    buf_fini(&b);
    rig_free(r);
}

static void test_a_slow_gateway_waits_for_its_reads_only(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *slow = rig_session(r, 1, 1), *other = rig_session(r, 1, 2);
    rig_set(slow, 2, "k", "v");
    slow->untaken = NODE_LINK_OUT_BYTES + 1;
    rig_read(slow, 1, 0, "GET", "k", NULL);
    rig_run(r, 100);
    assert_null(rig_reply(slow, LINK_KIND_READ, 1));
    expect_text(rig_get(other, 1, "k"), "$1\r\nv\r\n");
    slow->untaken = 0;
    rig_run(r, 100);
    expect_text(rig_reply(slow, LINK_KIND_READ, 1), "$1\r\nv\r\n");
    rig_free(r);
}

static void test_reads_of_a_link_that_closed(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    r->servers[1].hold_disk = true;
    rig_write(l, 2, "SET", "k", "v", NULL);
    rig_admin(l, 3, "NODE.JOIN", "s2:1", NULL);
    rig_read(l, 4, 0, "GET", "k", NULL);
    rig_link_close(l);
    r->servers[1].hold_disk = false;
    rig_run(r, 1000);
    expect_text(rig_get(rig_link(r, 1, 2), 1, "k"), "$1\r\nv\r\n");
    rig_free(r);
}

/* ---- the quota ---- */

static void test_quota(void **state) {
    struct rig *r = rig_new();
    char value[1000];
    r->servers[1].options.max_data_bytes = 10000;
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    uint64_t sequence = 3;
    rig_write(l, 2, "ONCE.EXEC", "id", "SET", "k2", "v", NULL);
    rig_run(r, 5);
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    const struct rig_reply *reply = NULL;
    for (; sequence < 100 && !reply; sequence++) {
        char key[24];
        snprintf(key, sizeof key, "k%llu", (unsigned long long)sequence);
        rig_write(l, sequence, "SET", key, value, NULL);
        rig_run(r, 5);
        reply = rig_reply(l, LINK_KIND_WRITE, sequence);
        if (reply->status == LINK_OK)
            reply = NULL;
    }
    assert_non_null(reply);
    assert_int_equal(reply->status, LINK_REFUSED);
    assert_memory_equal(reply->text, "-OOM ", 5);
    assert_true(sequence > 5);
    uint64_t last = node_memlog(r->servers[1].node)->last_index;
    /* What was executed before is answered again; reads go on. */
    rig_write(l, 3, "SET", "k3", value, NULL);
    rig_run(r, 5);
    assert_int_equal(rig_reply(l, LINK_KIND_WRITE, 3)->status, LINK_OK);
    /* Also what another gateway's session executed under the same id, but nothing new. */
    struct rig_link *other = rig_session(r, 1, 2);
    rig_write(other, 2, "ONCE.EXEC", "id", "SET", "k2", "v", NULL);
    rig_write(other, 3, "ONCE.EXEC", "new", "SET", "k2", "v", NULL);
    rig_run(r, 5);
    assert_int_equal(rig_reply(other, LINK_KIND_WRITE, 2)->status, LINK_OK);
    assert_memory_equal(rig_reply(other, LINK_KIND_WRITE, 2)->text, "*3\r\n:1\r\n", 8);
    assert_int_equal(rig_reply(other, LINK_KIND_WRITE, 3)->status, LINK_REFUSED);
    assert_int_equal(rig_get(l, 1, "k3")->size, 6 + 999 + 2);
    assert_true(node_memlog(r->servers[1].node)->last_index >= last);
    /* In one frame what grows is refused and the rest is done. */
    struct buf b = {0}, set = {0}, del = {0};
    struct link_batch batch;
    argv_append_strs(&set, "SET", "k3", value, NULL);
    argv_append_strs(&del, "DEL", "k2", "k3", "k4", NULL);
    struct link_write w1 = {.sequence = sequence, .packed_argv = buf_slice(&set)};
    struct link_write w2 = {.sequence = sequence + 1, .packed_argv = buf_slice(&del)};
    link_open_writes(&b, &batch, l->session, 1);
    link_add_write(&b, &batch, &w1);
    link_add_write(&b, &batch, &w2);
    link_close(&b, &batch);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    rig_run(r, 5);
    assert_int_equal(rig_reply(l, LINK_KIND_WRITE, sequence)->status, LINK_REFUSED);
    expect_text(rig_reply(l, LINK_KIND_WRITE, sequence + 1), ":3\r\n");
    rig_set(l, sequence + 2, "k2", "there is room again");
    buf_fini(&b);
    buf_fini(&set);
    buf_fini(&del);
    rig_free(r);
}

/* ---- administration ---- */

static void test_administration(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    static const struct {
        const char *words[3];
        enum link_status status;
    } rows[] = {
        {{"NODE.STATUS"}, LINK_OK},
        {{"node.time"}, LINK_OK},
        {{"NODE.STATUS", "x"}, LINK_REFUSED},
        {{"NODE.JOIN"}, LINK_REFUSED},
        {{"NODE.REMOVE", "99"}, LINK_REFUSED},
        {{"NODE.REMOVE", "no number"}, LINK_REFUSED},
        {{"NODE.REMOVE", "1"}, LINK_REFUSED}, /* the last voter */
        {{"NODE.DANCE"}, LINK_REFUSED},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        rig_admin(l, 10 + i, rows[i].words[0], rows[i].words[1], rows[i].words[2], NULL);
        rig_run(r, 5);
        const struct rig_reply *reply = rig_reply(l, LINK_KIND_READ, 10 + i);
        assert_non_null(reply);
        if (reply->status != rows[i].status)
            fail_msg("row %zu: %s", i, reply->text);
    }
    char address[400];
    memset(address, 'a', sizeof address - 1);
    address[sizeof address - 1] = 0;
    rig_admin(l, 1, "NODE.JOIN", address, NULL);
    rig_run(r, 5);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 1)->status, LINK_REFUSED);
    rig_free(r);
}

/* ---- links that break the protocol ---- */

static bool refused(struct rig *r, struct slice bytes) {
    struct rig_link *l = rig_link_raw(r, 1);
    uint64_t errors = r->servers[1].node->protocol_errors;
    bool ok = rig_link_bytes(l, bytes);
    rig_run(r, 1);
    if (ok && l->link)
        rig_link_close(l);
    assert_int_equal(r->servers[1].node->protocol_errors, errors + !ok);
    return !ok;
}

static void put_hello(struct buf *b, uint8_t session, uint16_t version) {
    struct link_hello hello = {.version = version};
    memset(hello.session, session, sizeof hello.session);
    link_put_hello(b, &hello);
}

static void test_greetings(void **state) {
    struct rig *r = rig_new();
    struct buf b = {0}, argv = {0};
    rig_bootstrap(r, 1);
    put_hello(&b, 3, LINK_VERSION);
    assert_false(refused(r, buf_slice(&b)));
    put_hello(&b, 3, LINK_VERSION); /* twice */
    assert_true(refused(r, buf_slice(&b)));
    buf_reset(&b);
    put_hello(&b, 0, LINK_VERSION); /* no session */
    assert_true(refused(r, buf_slice(&b)));
    buf_reset(&b);
    put_hello(&b, 3, LINK_VERSION + 1);
    assert_true(refused(r, buf_slice(&b)));
    buf_reset(&b);
    argv_append_strs(&argv, "NODE.STATUS", NULL);
    struct link_admin admin = {.id = 1, .packed_argv = buf_slice(&argv)};
    link_put_admin(&b, &admin); /* no greeting */
    assert_true(refused(r, buf_slice(&b)));
    for (unsigned type = 0; type < 256; type++) {
        if (type >= LINK_HELLO && type <= LINK_ADMIN)
            continue;
        buf_reset(&b);
        put_hello(&b, 3, LINK_VERSION);
        buf_append_u32(&b, 3);
        buf_append_u8(&b, (uint8_t)type);
        buf_append_u16(&b, 0);
        assert_true(refused(r, buf_slice(&b)));
    }
    buf_reset(&b);
    buf_append_u32(&b, LINK_FRAME_BYTES_MAX + 1);
    assert_true(refused(r, buf_slice(&b)));
    buf_reset(&b);
    buf_append_u32(&b, LINK_FRAME_BYTES_MAX); /* allowed, but not to somebody unknown */
    for (int i = 0; i < NODE_GREETING_BYTES; i++)
        buf_append_u8(&b, LINK_ADMIN);
    assert_true(refused(r, buf_slice(&b)));
    buf_fini(&b);
    buf_fini(&argv);
    rig_free(r);
}

/* What a gateway might say: greeting, two writes, two reads, status. */
static void put_conversation(struct buf *b, uint8_t session) {
    struct buf argv = {0};
    struct link_batch batch;
    uint8_t id[16];
    memset(id, session, sizeof id);
    put_hello(b, session, LINK_VERSION);
    link_open_writes(b, &batch, id, 1);
    argv_append_strs(&argv, "SESSION.OPEN", NULL);
    struct link_write w = {.sequence = 1, .packed_argv = buf_slice(&argv)};
    link_add_write(b, &batch, &w);
    buf_reset(&argv);
    argv_append_strs(&argv, "SET", "key", "value", NULL);
    w = (struct link_write){.sequence = 2, .db = 3, .packed_argv = buf_slice(&argv)};
    link_add_write(b, &batch, &w);
    link_close(b, &batch);
    buf_reset(&argv);
    argv_append_strs(&argv, "GET", "key", NULL);
    link_open_reads(b, &batch);
    struct link_read read = {.id = 7, .db = 3, .packed_argv = buf_slice(&argv)};
    link_add_read(b, &batch, &read);
    read.flags = LINK_READ_STALE;
    read.id = 8;
    link_add_read(b, &batch, &read);
    link_close(b, &batch);
    buf_reset(&argv);
    argv_append_strs(&argv, "NODE.STATUS", NULL);
    struct link_admin admin = {.id = 9, .packed_argv = buf_slice(&argv)};
    link_put_admin(b, &admin);
    buf_fini(&argv);
}

static void test_frames_cut_at_every_byte(void **state) {
    struct rig *r = rig_new();
    struct buf b = {0};
    rig_bootstrap(r, 1);
    put_conversation(&b, 5);
    for (size_t at = 0; at <= b.size; at++) {
        struct rig_link *l = rig_link_raw(r, 1);
        assert_true(rig_link_bytes(l, slice_of(b.data, at)));
        assert_true(rig_link_bytes(l, slice_of(b.data + at, b.size - at)));
        rig_run(r, 1);
        assert_int_equal(rig_reply(l, LINK_KIND_WRITE, 2)->status, LINK_OK);
        assert_int_equal(rig_reply(l, LINK_KIND_READ, 7)->status, LINK_OK);
        assert_non_null(rig_reply(l, LINK_KIND_READ, 8));
        assert_non_null(rig_reply(l, LINK_KIND_READ, 9));
        rig_link_close(l);
    }
    struct rig_link *l = rig_link_raw(r, 1); /* byte for byte */
    for (size_t at = 0; at < b.size; at++)
        assert_true(rig_link_bytes(l, slice_of(b.data + at, 1)));
    rig_run(r, 1);
    assert_non_null(rig_reply(l, LINK_KIND_READ, 9));
    buf_fini(&b);
    rig_free(r);
}

static void test_frames_malformed_at_every_byte(void **state) {
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    struct rig *r = rig_new();
    struct buf good = {0};
    unsigned broken = 0;
    rig_bootstrap(r, 1);
    struct rig_link *other = rig_session(r, 1, 1);
    rig_set(other, 2, "mine", "unharmed");
    put_conversation(&good, 5);
    for (size_t at = 0; at < good.size; at++)
        for (size_t i = 0; i < ARRAY_COUNT(flips); i++) {
            struct buf b = {0};
            buf_append_slice(&b, buf_slice(&good));
            b.data[at] ^= flips[i];
            broken += refused(r, buf_slice(&b));
            buf_fini(&b);
        }
    assert_true(broken > good.size);
    assert_string_equal(r->servers[1].failed, "");
    assert_non_null(other->link);
    expect_text(rig_get(other, 1, "mine"), "$8\r\nunharmed\r\n");
    rig_kill(r, 1, MEM_DISK_KILL); /* and what went into the log can be replayed */
    rig_start(r, 1);
    RIG_UNTIL(r, rig_leader(r) == 1, 1000);
    buf_fini(&good);
    rig_free(r);
}

/* Writes that are well formed but must not get into the log. */
static void test_writes_that_must_not_enter_the_log(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    static const struct {
        uint64_t sequence;
        uint16_t db;
        uint8_t session;
    } rows[] = {{0, 0, 5}, {1, STORE_DB_ALL, 5}, {1, UINT16_MAX, 5}, {1, 0, 6}, {1, 0, 0}};
    uint64_t proposed = n->commands_proposed;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct buf b = {0}, argv = {0};
        struct link_batch batch;
        uint8_t session[16];
        memset(session, rows[i].session, sizeof session);
        argv_append_strs(&argv, "SET", "k", "v", NULL);
        struct link_write w = {
            .sequence = rows[i].sequence, .db = rows[i].db, .packed_argv = buf_slice(&argv)};
        put_hello(&b, 5, LINK_VERSION);
        link_open_writes(&b, &batch, session, 1);
        link_add_write(&b, &batch, &w);
        link_close(&b, &batch);
        assert_true(refused(r, buf_slice(&b)));
        buf_fini(&b);
        buf_fini(&argv);
    }
    assert_int_equal(n->commands_proposed, proposed);
    rig_free(r);
}

static void put_many(struct buf *b, bool writes, uint32_t count, const char *first,
                     const char *second, uint8_t session) {
    struct buf argv = {0};
    struct link_batch batch;
    uint8_t id[16];
    memset(id, session, sizeof id);
    argv_append_strs(&argv, first, second, NULL);
    if (writes)
        link_open_writes(b, &batch, id, 1);
    else
        link_open_reads(b, &batch);
    for (uint32_t i = 0; i < count; i++) {
        struct link_write w = {.sequence = 2 + i, .packed_argv = buf_slice(&argv)};
        struct link_read read = {.id = i, .packed_argv = buf_slice(&argv)};
        if (writes)
            link_add_write(b, &batch, &w);
        else
            link_add_read(b, &batch, &read);
    }
    link_close(b, &batch);
    buf_fini(&argv);
}

static void test_window_of_requests(void **state) {
    for (int writes = 0; writes < 2; writes++) {
        struct rig *r = rig_new();
        struct buf b = {0};
        rig_bootstrap(r, 1);
        struct rig_link *l = rig_session(r, 1, 1), *other = rig_session(r, 1, 2);
        r->servers[1].hold_disk = true;
        put_many(&b, writes, NODE_LINK_WINDOW_REQUESTS, writes ? "INCR" : "GET", "k", 1);
        assert_true(
            node_link_bytes(l->link, buf_slice(&b))); /* the whole window, before the turn */
        buf_reset(&b);
        put_many(&b, writes, 1, writes ? "INCR" : "GET", "k", 1);
        assert_false(rig_link_bytes(l, buf_slice(&b)));
        r->servers[1].hold_disk = false;
        rig_run(r, 100);
        assert_non_null(other->link);
        rig_set(other, 2, "other", "v");
        buf_fini(&b);
        rig_free(r);
    }
}

static void test_window_of_bytes(void **state) {
    struct rig *r = rig_new();
    struct buf b = {0};
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    char *key = malloc(STORE_KEY_BYTES_MAX);
    memset(key, 'k', STORE_KEY_BYTES_MAX - 1);
    key[STORE_KEY_BYTES_MAX - 1] = 0;
    uint32_t many = NODE_LINK_WINDOW_BYTES / STORE_KEY_BYTES_MAX;
    put_many(&b, false, many, "GET", key, 1);
    assert_true(node_link_bytes(l->link, buf_slice(&b)));
    buf_reset(&b);
    put_many(&b, false, 2, "GET", key, 1);
    assert_false(rig_link_bytes(l, buf_slice(&b)));
    free(key);
    buf_fini(&b);
    rig_free(r);
}

static void test_a_gateway_that_connects_again(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    struct rig_link *again = rig_link(r, 1, 1);
    assert_null(l->link);
    rig_set(again, 2, "k", "v");
    assert_null(rig_reply(l, LINK_KIND_WRITE, 2));
    rig_free(r);
}

/* ---- stopping ---- */

static void test_stop_waits_for_the_log(void **state) {
    struct rig *r = rig_new();
    rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    r->servers[1].hold_disk = true;
    rig_write(l, 2, "SET", "k", "v", NULL);
    rig_run(r, 10);
    r->servers[1].hold_disk = false;
    rig_stop(r, 1);
    rig_start(r, 1);
    RIG_UNTIL(r, rig_leader(r) == 1, 1000);
    expect_text(rig_get(rig_link(r, 1, 1), 1, "k"), "$1\r\nv\r\n");
    rig_free(r);
}

/* ---- three nodes ---- */

static void expect_equal_copies(struct rig *r) {
    for (unsigned i = 2; i <= 3; i++) {
        struct node *n = r->servers[i].node;
        /* A digest may just be on its way through the log. */
        RIG_UNTIL(r, node_applied_index(n) == node_applied_index(r->servers[1].node), 200);
        assert_true(hash128_equal(store_digest(node_store(n)),
                                  store_digest(node_store(r->servers[1].node))));
    }
}

static void test_three_nodes(void **state) {
    struct rig *r = rig_new();
    rig_grow_to_three(r);
    struct rig_link *l = rig_session(r, 1, 1), *f = rig_link(r, 3, 2);
    assert_int_equal(f->leader_id, 1);
    for (uint64_t i = 2; i < 100; i++) {
        char value[24];
        snprintf(value, sizeof value, "%llu", (unsigned long long)i);
        rig_set(l, i, "k", value);
        const struct rig_reply *get = rig_get(f, i, "k"); /* on a follower, at once */
        assert_true(strstr(get->text, value) != NULL);
    }
    rig_run(r, 100);
    expect_equal_copies(r);
    rig_write(f, 1, "SESSION.OPEN", NULL);
    rig_run(r, 10);
    assert_int_equal(rig_reply(f, LINK_KIND_WRITE, 1)->status, LINK_NOT_LEADER);
    rig_free(r);
}

/* A node that has moved while others came does not know the leader, nor the leader where it is. */
static void test_a_leader_that_another_node_names(void **state) {
    struct rig *r = rig_new();
    struct node *n = rig_bootstrap(r, 1);
    struct buf b = {0};
    struct wire_status status = {.term = 1};
    wire_put_status(&b, &status);
    rig_deliver(r, 1, 3, buf_slice(&b));
    assert_null(node_peer(n, 4));
    status = (struct wire_status){
        .term = node_term(n), .leader_id = 4, .leader_address = slice_str("s4:1")};
    buf_reset(&b);
    wire_put_status(&b, &status);
    rig_deliver(r, 1, 3, buf_slice(&b));
    assert_non_null(node_peer(n, 4));
    rig_run(r, 1000);
    bool heard = false;
    LIST_FOREACH (it, &r->servers[4].inbox) {
        heard |= LIST_ENTRY(it, struct packet, node)->type == WIRE_STATUS;
    }
    assert_true(heard);
    /* It has moved as well. What an older term says is older. */
    status.leader_address = slice_str("elsewhere:1");
    buf_reset(&b);
    wire_put_status(&b, &status);
    rig_deliver(r, 1, 3, buf_slice(&b));
    assert_string_equal(node_peer(n, 4)->address, "elsewhere:1");
    status.leader_address = slice_str("s4:1");
    status.term--;
    buf_reset(&b);
    wire_put_status(&b, &status);
    rig_deliver(r, 1, 3, buf_slice(&b));
    assert_string_equal(node_peer(n, 4)->address, "elsewhere:1");
    buf_fini(&b);
    rig_free(r);
}

static void test_the_leader_dies(void **state) {
    struct rig *r = rig_new();
    rig_grow_to_three(r);
    rig_set(rig_session(r, 1, 1), 2, "k", "v");
    rig_kill(r, 1, MEM_DISK_ALL_LOST);
    RIG_UNTIL(r, rig_leader(r) != 0, 5000);
    unsigned leader = rig_leader(r);
    struct rig_link *l = rig_link(r, leader, 1);
    rig_write(l, 2, "SET", "k", "not again", NULL); /* asked again: it has run */
    rig_run(r, 50);
    expect_text(rig_reply(l, LINK_KIND_WRITE, 2), "+OK\r\n");
    rig_set(l, 3, "other", "w");
    expect_text(rig_get(l, 1, "k"), "$1\r\nv\r\n");
    rig_start(r, 1);
    rig_run(r, 1000);
    expect_equal_copies(r);
    rig_free(r);
}

static void test_a_leader_alone_serves_nothing(void **state) {
    struct rig *r = rig_new();
    rig_grow_to_three(r);
    struct rig_link *l = rig_session(r, 1, 1);
    rig_set(l, 2, "k", "v");
    for (unsigned i = 2; i <= 3; i++)
        r->cut[1][i] = r->cut[i][1] = true;
    rig_write(l, 3, "SET", "k", "lost", NULL);
    rig_read(l, 3, 0, "GET", "k", NULL);
    rig_run(r, 100);
    assert_null(rig_reply(l, LINK_KIND_WRITE, 3));
    assert_null(rig_reply(l, LINK_KIND_READ, 3));
    RIG_UNTIL(r, rig_leader(r) > 1, 5000);
    struct rig_link *other = rig_session(r, rig_leader(r), 2);
    rig_set(other, 2, "k", "new");
    rig_run(r, 5000);
    assert_false(node_is_leader(r->servers[1].node));
    assert_null(l->link); /* what is unanswered ended with the leadership */
    assert_null(rig_reply(l, LINK_KIND_WRITE, 3));
    memset(r->cut, 0, sizeof r->cut);
    rig_run(r, 2000);
    expect_text(rig_get(rig_link(r, 1, 3), 1, "k"), "$3\r\nnew\r\n");
    expect_equal_copies(r);
    rig_free(r);
}

static void test_a_leader_that_stops_hands_over(void **state) {
    struct rig *r = rig_new();
    rig_grow_to_three(r);
    uint64_t from = r->now_ms;
    rig_stop(r, 1);
    RIG_UNTIL(r, rig_leader(r) != 0, 1000);
    assert_true(r->now_ms - from < 300); /* no election timeout had to pass */
    rig_set(rig_session(r, rig_leader(r), 1), 2, "k", "v");
    rig_start(r, 1);
    rig_run(r, 1000);
    expect_equal_copies(r);
    rig_free(r);
}

static void test_a_follower_is_removed(void **state) {
    struct rig *r = rig_new();
    rig_grow_to_three(r);
    struct rig_link *l = rig_session(r, 1, 1);
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)r->servers[3].id);
    rig_admin(l, 1, "NODE.REMOVE", id, NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, 1), 5000);
    assert_int_equal(rig_reply(l, LINK_KIND_READ, 1)->status, LINK_OK);
    struct membership m;
    node_membership(r->servers[2].node, &m);
    assert_int_equal(m.count, 2);
    assert_int_equal(membership_voters(&m), 2);
    rig_set(l, 2, "k", "v");
    /* It is told, answers what needs nobody, and does not disturb the others. */
    RIG_UNTIL(r, r->servers[3].node->removed, 2000);
    struct rig_link *gone = rig_link(r, 3, 3);
    rig_read(gone, 1, 0, "GET", "k", NULL);
    rig_read(gone, 2, LINK_READ_STALE, "DBSIZE", NULL);
    rig_write(gone, 1, "SESSION.OPEN", NULL);
    rig_admin(gone, 3, "NODE.STATUS", NULL);
    rig_turn(r);
    assert_int_equal(rig_reply(gone, LINK_KIND_READ, 1)->status, LINK_UNAVAILABLE);
    assert_int_equal(rig_reply(gone, LINK_KIND_READ, 2)->status, LINK_OK);
    assert_int_equal(rig_reply(gone, LINK_KIND_WRITE, 1)->status, LINK_NOT_LEADER);
    assert_non_null(strstr(rig_reply(gone, LINK_KIND_READ, 3)->text, "removed\r\n#t"));
    uint64_t term = node_term(r->servers[1].node);
    rig_run(r, 3000);
    assert_int_equal(rig_leader(r), 1);
    assert_int_equal(node_term(r->servers[1].node), term);
    /* Nor does it when it was down, and starts again. */
    rig_kill(r, 3, MEM_DISK_KILL);
    rig_start(r, 3);
    RIG_UNTIL(r, r->servers[3].node->removed, 2000);
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bootstrap),
        cmocka_unit_test(test_a_node_that_does_not_bootstrap_waits),
        cmocka_unit_test(test_clock_jumps),
        cmocka_unit_test(test_a_disk_that_is_nearly_full),
        cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_a_write_is_answered_when_it_is_durable),
        cmocka_unit_test(test_a_repeated_write_runs_once),
        cmocka_unit_test(test_an_unknown_session_is_gone),
        cmocka_unit_test(test_many_links),
        cmocka_unit_test(test_restart_after_a_stop),
        cmocka_unit_test(test_restart_after_a_kill),
        cmocka_unit_test(test_store_rebuilt_from_the_log),
        cmocka_unit_test(test_a_node_never_begins_a_second_cluster),
        cmocka_unit_test(test_reads_that_wait),
        cmocka_unit_test(test_a_slow_gateway_waits_for_its_reads_only),
        cmocka_unit_test(test_reads_of_a_link_that_closed),
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_administration),
        cmocka_unit_test(test_greetings),
        cmocka_unit_test(test_frames_cut_at_every_byte),
        cmocka_unit_test(test_frames_malformed_at_every_byte),
        cmocka_unit_test(test_writes_that_must_not_enter_the_log),
        cmocka_unit_test(test_window_of_requests),
        cmocka_unit_test(test_window_of_bytes),
        cmocka_unit_test(test_a_gateway_that_connects_again),
        cmocka_unit_test(test_stop_waits_for_the_log),
        cmocka_unit_test(test_three_nodes),
        cmocka_unit_test(test_a_leader_that_another_node_names),
        cmocka_unit_test(test_the_leader_dies),
        cmocka_unit_test(test_a_leader_alone_serves_nothing),
        cmocka_unit_test(test_a_leader_that_stops_hands_over),
        cmocka_unit_test(test_a_follower_is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
