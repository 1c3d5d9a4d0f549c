#include "rig.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reply.h"

/* ---- the environment of a node ---- */

static uint64_t env_now_ms(void *env) {
    return ((struct rig_server *)env)->rig->now_ms;
}

static uint64_t env_wall_ms(void *env) {
    return ((struct rig_server *)env)->rig->wall_ms;
}

static void env_random(void *env, void *out, size_t size) {
    struct rig *r = ((struct rig_server *)env)->rig;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (uint8_t)rand_u64(&r->rand);
}

static void env_peer_send(void *env, uint64_t id, const char *address, struct slice frame) {
    struct rig_server *s = env;
    struct rig *r = s->rig;
    unsigned to = (unsigned)(address[1] - '0'), from = (unsigned)(s - r->servers);
    struct slice payload;
    uint8_t type;
    size_t need;
    assert_int_equal(wire_take_frame(&frame, &type, &payload, &need), WIRE_TAKE_FRAME);
    assert_int_equal(frame.size, 0);
    assert_true(to >= 1 && to <= RIG_SERVERS && to != from);
    if (r->cut[from][to])
        return;
    struct packet *p = xmalloc(sizeof *p + payload.size);
    *p = (struct packet){.from = s->id, .to = to, .type = type, .size = payload.size};
    if (payload.size > 0)
        memcpy(p->payload, payload.data, payload.size);
    list_push_back(&r->packets, &p->node);
}

static void env_background(void *env, struct background_job *job) {
    list_push_back(&((struct rig_server *)env)->jobs, &job->node);
}

static void env_fatal(void *env, const char *reason) {
    struct rig_server *s = env;
    snprintf(s->failed, sizeof s->failed, "%s", reason);
}

static void link_take_replies(struct rig_link *l, struct slice payload) {
    uint32_t count;
    assert_true(link_decode_count(&payload, &count));
    while (count--) {
        struct link_reply reply;
        assert_true(link_next_reply(&payload, &reply));
        struct rig_reply *one = xcalloc(1, sizeof *one + reply.reply.size + 1);
        one->id = reply.id;
        one->index = reply.index;
        one->kind = reply.kind == LINK_KIND_STALE ? LINK_KIND_READ : reply.kind;
        one->age_ms = reply.kind == LINK_KIND_STALE ? reply.age_ms : LINK_AGE_UNKNOWN;
        one->status = reply.status;
        one->size = reply.reply.size;
        if (one->size > 0)
            memcpy(one->text, reply.reply.data, one->size);
        list_push_back(&l->replies, &one->node);
    }
    assert_int_equal(payload.size, 0);
}

static void env_link_send(void *env, void *handle, struct slice frames) {
    struct rig_link *l = handle;
    assert_non_null(l->link);
    buf_append_slice(&l->in, frames);
    struct slice in = buf_slice(&l->in), payload;
    uint8_t type;
    size_t need;
    while (link_take_frame(&in, &type, &payload, &need) == LINK_TAKE_FRAME) {
        struct link_node_hello hello;
        struct link_topology topology;
        if (type == LINK_NODE_HELLO) {
            assert_true(link_decode_node_hello(payload, &hello));
            assert_int_equal(hello.node_id, l->server->id);
            l->hellos++;
        } else if (type == LINK_TOPOLOGY) {
            assert_true(link_decode_topology(payload, &topology));
            l->leader_id = topology.leader_id;
            l->topologies++;
        } else if (type == LINK_READ_INDEXED) {
            assert_true(link_decode_read_indexed(payload, &l->indexed));
            l->indexed_count++;
        } else if (type == LINK_PONG) {
            assert_true(link_decode_ping(payload, &l->pong));
        } else {
            assert_int_equal(type, LINK_REPLIES);
            link_take_replies(l, payload);
        }
    }
    buf_consume(&l->in, l->in.size - in.size);
}

static size_t env_link_pending_bytes(void *env, void *handle) {
    return ((struct rig_link *)handle)->untaken;
}

static void env_link_close(void *env, void *handle) {
    ((struct rig_link *)handle)->link = NULL;
}

static const struct replica_env_ops env_ops = {
    .now_ms = env_now_ms,
    .wall_ms = env_wall_ms,
    .random = env_random,
    .peer_send = env_peer_send,
    .link_send = env_link_send,
    .link_pending_bytes = env_link_pending_bytes,
    .link_close = env_link_close,
    .background = env_background,
    .fatal = env_fatal,
};

/* ---- life ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

/* A test that failed did not get to rig_free(). */
static char dir_left[sizeof((struct rig *)0)->dir];

static void remove_dir(void) {
    if (dir_left[0])
        nftw(dir_left, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    dir_left[0] = 0;
}

struct rig *rig_new(void) {
    static bool registered;
    if (!registered)
        atexit(remove_dir);
    registered = true;
    remove_dir();
    struct rig *r = xcalloc(1, sizeof *r);
    log_set_level((enum log_level)(LOG_ERROR + 1));
    r->now_ms = 1000;
    r->wall_ms = 1700000000000u;
    r->rand.state = 7;
    list_init(&r->packets);
    list_init(&r->links);
    snprintf(r->dir, sizeof r->dir, "%s/cotidal-node-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(r->dir));
    memcpy(dir_left, r->dir, sizeof dir_left);
    for (unsigned i = 1; i <= RIG_SERVERS; i++) {
        struct rig_server *s = &r->servers[i];
        s->rig = r;
        s->id = i;
        snprintf(s->address, sizeof s->address, "s%u:1", i);
        snprintf(s->dir, sizeof s->dir, "%s/s%u", r->dir, i);
        snprintf(s->boot_id, sizeof s->boot_id, "boot-%u", i);
        assert_int_equal(mkdir(s->dir, 0700), 0);
        s->disk = mem_disk_new(i);
        list_init(&s->jobs);
        list_init(&s->inbox);
        s->options = (struct node_options){
            .dir = s->dir,
            .peer_address = s->address,
            .http_address = "",
            .redis_address = "",
            .boot_id = s->boot_id,
            .log_segment_bytes = 128 * 1024,
            .snapshot_log_bytes = 1u << 30,
            .map_bytes = 256 << 20,
            .pair_grace_ms = 200,
            .fresh_every_ms = UINT32_MAX,
        };
        memset(s->options.cluster_id, 7, sizeof s->options.cluster_id);
    }
    return r;
}

static void packets_free(struct list *packets) {
    LIST_FOREACH_SAFE (it, packets) {
        list_remove(it);
        free(LIST_ENTRY(it, struct packet, node));
    }
}

void rig_free(struct rig *r) {
    for (unsigned i = 1; i <= RIG_SERVERS; i++) {
        if (r->servers[i].node)
            rig_kill(r, i, MEM_DISK_KILL);
        mem_disk_free(r->servers[i].disk);
        packets_free(&r->servers[i].inbox);
    }
    packets_free(&r->packets);
    LIST_FOREACH_SAFE (it, &r->links) {
        struct rig_link *l = LIST_ENTRY(it, struct rig_link, node);
        LIST_FOREACH_SAFE (at, &l->replies) {
            free(LIST_ENTRY(at, struct rig_reply, node));
        }
        buf_fini(&l->in);
        free(l);
    }
    remove_dir();
    free(r);
}

struct node *rig_start(struct rig *r, unsigned i) {
    struct rig_server *s = &r->servers[i];
    char error[256] = "";
    assert_null(s->node);
    s->failed[0] = 0;
    s->options.id = s->id;
    int rc = node_new(&s->options, &env_ops, s, s->disk, &s->node, error);
    if (rc < 0)
        fail_msg("server %u does not start: %s", i, error);
    node_turn_end(s->node);
    return s->node;
}

struct node *rig_bootstrap(struct rig *r, unsigned i) {
    r->servers[i].options.bootstrap = true;
    rig_start(r, i);
    RIG_UNTIL(r, node_is_leader(r->servers[i].node) && rig_leader(r) == i, 1000);
    return r->servers[i].node;
}

void rig_kill(struct rig *r, unsigned i, enum mem_disk_crash how) {
    struct rig_server *s = &r->servers[i];
    struct node *n = s->node;
    s->node = NULL;
    LIST_FOREACH_SAFE (it, &s->jobs) { /* they end with the process */
        list_remove(it);
    }
    mem_disk_crash(s->disk, how);
    node_abandon(n);
    if (how != MEM_DISK_KILL)
        snprintf(s->boot_id, sizeof s->boot_id, "boot-%u-%u", i, ++s->boots);
}

static void on_stopped(void *ctx) {
    *(bool *)ctx = true;
}

void rig_stop(struct rig *r, unsigned i) {
    struct rig_server *s = &r->servers[i];
    bool stopped = false;
    node_stop(s->node, on_stopped, &stopped);
    RIG_UNTIL(r, stopped, 10000);
    assert_true(node_idle(s->node));
    assert_int_equal(node_free(s->node), 0);
    s->node = NULL;
}

struct node *rig_join(struct rig *r, unsigned leader, unsigned i) {
    struct rig_link *l = rig_link(r, leader, (uint8_t)(200 + i));
    rig_admin(l, 1, "NODE.JOIN", r->servers[i].address, NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_READ, 1), 5000);
    const struct rig_reply *reply = rig_reply(l, LINK_KIND_READ, 1);
    assert_int_equal(reply->status, LINK_OK);
    unsigned long long id;
    assert_int_equal(sscanf(reply->text, "%%2\r\n$2\r\nid\r\n:%llu", &id), 1);
    r->servers[i].id = id;
    rig_link_close(l);
    return rig_start(r, i);
}

static uint32_t voters_of(struct rig *r, unsigned i) {
    struct membership m;
    node_membership(r->servers[i].node, &m);
    return membership_voters(&m);
}

void rig_grow_to_three(struct rig *r) {
    rig_bootstrap(r, 1);
    rig_join(r, 1, 2);
    rig_join(r, 1, 3);
    RIG_UNTIL(r,
              voters_of(r, 1) == 3 && voters_of(r, 2) == 3 && voters_of(r, 3) == 3 &&
                  core_membership_uncommitted_index(r->servers[1].node->core) == 0,
              10000);
    assert_int_equal(rig_leader(r), 1);
}

unsigned rig_leader(struct rig *r) {
    unsigned found = 0;
    for (unsigned i = 1; i <= RIG_SERVERS; i++) {
        struct node *n = r->servers[i].node;
        if (n && node_is_leader(n) && n->barrier_index != 0 &&
            n->core_applied >= n->barrier_index &&
            (!found || node_term(n) > node_term(r->servers[found].node)))
            found = i;
    }
    return found;
}

/* ---- what happens without time ---- */

static void after(struct rig_server *s) {
    if (s->node)
        node_turn_end(s->node);
}

static void puppet_serve(struct rig *r, struct rig_server *s, const struct packet *p) {
    struct wire_piece piece;
    struct buf b = {0};
    uint8_t data[WIRE_PIECE_BYTES];
    assert_true(wire_decode_fetch(slice_of(p->payload, p->size), &piece));
    FILE *f = fopen(s->serves, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)piece.offset, SEEK_SET), 0);
    piece.data = slice_of(data, fread(data, 1, piece.bytes, f));
    fclose(f);
    wire_put_piece(&b, &piece);
    rig_deliver(r, (unsigned)p->from, (unsigned)(s - r->servers), buf_slice(&b));
    buf_fini(&b);
}

static void puppet_react(struct rig *r, struct rig_server *s, const struct packet *p) {
    unsigned i = (unsigned)(s - r->servers), to = (unsigned)p->from;
    struct core_message m, answer = {0};
    struct wire_read read;
    static struct core_entry *entries;
    static uint32_t capacity;
    struct slice payload = slice_of(p->payload, p->size);
    if (p->type == WIRE_READ_CHECK && s->confirms) {
        struct buf b = {0};
        assert_true(wire_decode_read(p->type, payload, &read));
        read.ok = true;
        wire_put_read(&b, WIRE_READ_CHECKED, &read);
        rig_deliver(r, to, i, buf_slice(&b));
        buf_fini(&b);
    }
    if (p->type == WIRE_FETCH && s->serves[0])
        puppet_serve(r, s, p);
    if (!(p->type == WIRE_VOTE && s->votes) && !(p->type == WIRE_APPEND && s->acks))
        return;
    assert_true(wire_decode_message(p->type, payload, &m, &entries, &capacity));
    answer.term = m.term;
    if (m.type == CORE_MSG_VOTE) {
        answer.type = CORE_MSG_VOTE_RESULT;
        answer.vote_result.granted = true;
        answer.vote_result.pre_vote = m.vote.pre_vote;
    } else {
        answer.type = CORE_MSG_APPEND_RESULT;
        answer.append_result.last_index = m.append.prev_index + m.append.count;
        if (s->acks_to != 0 && answer.append_result.last_index > s->acks_to)
            answer.append_result.last_index = s->acks_to;
        if (m.append.count > 0)
            chunk_unref(m.append.entries[0].chunk);
    }
    free(entries);
    entries = NULL;
    capacity = 0;
    puppet_say(r, to, i, &answer);
}

static bool deliver_one(struct rig *r) {
    struct list *first = r->hold_network ? NULL : list_first(&r->packets);
    if (!first)
        return false;
    list_remove(first);
    struct packet *p = LIST_ENTRY(first, struct packet, node);
    struct rig_server *s = &r->servers[p->to];
    char address[16] = "";
    for (unsigned i = 1; i <= RIG_SERVERS; i++)
        if (r->servers[i].id == p->from)
            snprintf(address, sizeof address, "s%u:1", i);
    if (!s->node) {
        list_push_back(&s->inbox, &p->node);
        puppet_react(r, s, p);
        return true;
    }
    assert_true(
        node_on_peer_frame(s->node, p->from, address, p->type, slice_of(p->payload, p->size)));
    free(p);
    after(s);
    return true;
}

static bool server_work(struct rig_server *s) {
    bool did = false;
    if (!s->node)
        return false;
    if (!s->hold_disk && mem_disk_pending(s->disk) > 0) {
        mem_disk_step(s->disk);
        did = true;
    }
    struct list *first = s->hold_jobs ? NULL : list_first(&s->jobs);
    if (first) {
        list_remove(first);
        struct background_job *job = LIST_ENTRY(first, struct background_job, node);
        job->status = job->fn(job->arg);
        job->done(job->arg, job->status);
        did = true;
    }
    if (did)
        after(s);
    return did;
}

void rig_turn(struct rig *r) {
    for (unsigned i = 0; i < 1000000; i++) {
        bool did = deliver_one(r);
        for (unsigned s = 1; s <= RIG_SERVERS; s++)
            did |= server_work(&r->servers[s]);
        if (!did)
            return;
    }
    fail_msg("it never comes to rest");
}

static uint64_t next_deadline(const struct rig *r, uint64_t end) {
    uint64_t at = end;
    for (unsigned i = 1; i <= RIG_SERVERS; i++) {
        const struct node *n = r->servers[i].node;
        if (n && node_deadline_ms(n) < at)
            at = node_deadline_ms(n);
    }
    return at > r->now_ms ? at : r->now_ms + 1;
}

void rig_run(struct rig *r, uint64_t ms) {
    uint64_t end = r->now_ms + ms;
    rig_turn(r);
    while (r->now_ms < end) {
        uint64_t step = next_deadline(r, end) - r->now_ms;
        r->now_ms += step;
        r->wall_ms += step;
        for (unsigned i = 1; i <= RIG_SERVERS; i++) {
            struct rig_server *s = &r->servers[i];
            if (s->node && node_deadline_ms(s->node) <= r->now_ms) {
                node_tick(s->node);
                after(s);
            }
        }
        rig_turn(r);
    }
}

/* ---- puppets ---- */

struct membership rig_members(const char *roles) {
    struct membership m = {0};
    for (unsigned i = 1; roles[i - 1]; i++) {
        char role = roles[i - 1];
        if (role == '-')
            continue;
        struct member *member = &m.members[m.count++];
        member->id = i;
        member->role = role == 'v' ? MEMBER_VOTER : role == 'l' ? MEMBER_LEARNER : MEMBER_JOINING;
        snprintf(member->address, sizeof member->address, "s%u:1", i);
    }
    return m;
}

void rig_deliver(struct rig *r, unsigned to, unsigned from, struct slice frame) {
    struct rig_server *s = &r->servers[to];
    struct slice payload;
    uint8_t type;
    size_t need;
    assert_int_equal(wire_take_frame(&frame, &type, &payload, &need), WIRE_TAKE_FRAME);
    assert_int_equal(frame.size, 0);
    assert_true(node_on_peer_frame(s->node, from, r->servers[from].address, type, payload));
    after(s);
}

void puppet_say(struct rig *r, unsigned to, unsigned from, const struct core_message *m) {
    struct buf b = {0};
    wire_put_message(&b, m);
    rig_deliver(r, to, from, buf_slice(&b));
    buf_fini(&b);
}

void puppet_vote(struct rig *r, unsigned to, unsigned from, uint64_t term, uint64_t last_index,
                 uint64_t last_term, bool pre_vote) {
    const struct core_message m = {.type = CORE_MSG_VOTE,
                                   .term = term,
                                   .vote = {.candidate_id = from,
                                            .last_index = last_index,
                                            .last_term = last_term,
                                            .pre_vote = pre_vote}};
    puppet_say(r, to, from, &m);
}

static void put_set(struct buf *body, const char *key, const char *value) {
    struct buf argv = {0}, commands = {0};
    argv_append_strs(&argv, "SET", key, value, NULL);
    entry_append_command(&commands, 0, 0, buf_slice(&argv));
    struct entry_group group = {.command_count = 1, .commands = buf_slice(&commands)};
    entry_begin(body, 1700000000000u, 1);
    entry_append_group(body, &group);
    buf_fini(&argv);
    buf_fini(&commands);
}

static void entry_body(const struct puppet_entry *e, struct buf *body) {
    if (e->type == CORE_MEMBERSHIP) {
        struct membership m = rig_members(e->roles);
        membership_encode(&m, body);
    } else if (e->type == CORE_COMMAND) {
        put_set(body, "k", "v");
    }
}

void puppet_append(struct rig *r, unsigned to, unsigned from, uint64_t term, uint64_t prev_index,
                   uint64_t prev_term, uint64_t commit, const struct puppet_entry *entries,
                   uint32_t count) {
    struct memlog log;
    struct buf b = {0};
    memlog_init(&log);
    memlog_reset(&log, prev_index + 1, prev_term);
    for (uint32_t i = 0; i < count; i++) {
        struct buf body = {0};
        entry_body(&entries[i], &body);
        struct chunk *chunk = chunk_new(body.size);
        if (body.size > 0)
            memcpy(chunk->data, body.data, body.size);
        struct core_entry e = {.term = entries[i].term,
                               .type = entries[i].type,
                               .body = slice_of(chunk->data, body.size),
                               .chunk = chunk};
        memlog_append(&log, prev_index + 1 + i, &e);
        buf_fini(&body);
    }
    const struct core_message m = {
        .type = CORE_MSG_APPEND,
        .term = term,
        .append = {.prev_index = prev_index,
                   .prev_term = prev_term,
                   .commit = commit,
                   .count = count},
    };
    assert_true(wire_put_append(&b, &m, &log, UINT64_MAX));
    memlog_fini(&log);
    rig_deliver(r, to, from, buf_slice(&b));
    buf_fini(&b);
}

void puppet_snapshot(struct rig *r, unsigned i, uint64_t index, uint64_t term, const char *roles,
                     struct store_snapshot *ret_info) {
    struct rig_server *p = &r->servers[i];
    struct membership m = rig_members(roles);
    struct buf body = {0};
    struct store *s;
    char dir[sizeof p->dir + 8], path[sizeof p->serves] = "";
    snprintf(dir, sizeof dir, "%s/store", p->dir);
    const struct store_options options = {.dir = dir, .map_bytes = 64 << 20, .boot_id = "boot"};
    assert_int_equal(store_wipe(dir), 0);
    assert_int_equal(store_open(&options, &s), 0);
    assert_int_equal(store_begin(s), 0);
    membership_encode(&m, &body);
    assert_int_equal(store_apply_other(s, 1, 1, buf_slice(&body)), 0);
    for (uint64_t at = 2; at <= index; at++) {
        char key[32], value[32];
        snprintf(key, sizeof key, "key%llu", (unsigned long long)at);
        snprintf(value, sizeof value, "value%llu", (unsigned long long)at);
        buf_reset(&body);
        put_set(&body, key, value);
        assert_int_equal(store_apply(s, at, term, buf_slice(&body), NULL, NULL), 0);
    }
    assert_int_equal(store_commit(s), 0);
    snprintf(path, sizeof path, "%s/offered.mdb", p->dir);
    memcpy(p->serves, path, sizeof p->serves);
    assert_int_equal(store_snapshot_write(s, p->serves, ret_info), 0);
    assert_int_equal(store_close(s), 0);
    buf_fini(&body);
}

void puppet_install(struct rig *r, unsigned to, unsigned from, uint64_t term, const char *roles,
                    const struct store_snapshot *info) {
    struct buf descriptor = {0};
    store_snapshot_encode(info, &descriptor);
    const struct core_message m = {
        .type = CORE_MSG_INSTALL,
        .term = term,
        .install = {.snapshot = {.index = info->index,
                                 .term = info->term,
                                 .membership_index = info->membership_index,
                                 .membership = rig_members(roles)},
                    .descriptor = buf_slice(&descriptor)}};
    puppet_say(r, to, from, &m);
    buf_fini(&descriptor);
}

bool puppet_got_frame(struct rig *r, unsigned i, uint8_t type, struct slice *ret_payload) {
    struct list *inbox = &r->servers[i].inbox;
    for (struct list *it = inbox->prev; it != inbox; it = it->prev) {
        const struct packet *p = LIST_ENTRY(it, struct packet, node);
        if (p->type == type) {
            *ret_payload = slice_of(p->payload, p->size);
            return true;
        }
    }
    return false;
}

bool puppet_got(struct rig *r, unsigned i, enum core_message_type type, struct core_message *ret) {
    static const uint8_t types[] = {
        [CORE_MSG_APPEND] = WIRE_APPEND,   [CORE_MSG_APPEND_RESULT] = WIRE_APPEND_RESULT,
        [CORE_MSG_VOTE] = WIRE_VOTE,       [CORE_MSG_VOTE_RESULT] = WIRE_VOTE_RESULT,
        [CORE_MSG_INSTALL] = WIRE_INSTALL, [CORE_MSG_TIMEOUT_NOW] = WIRE_TIMEOUT_NOW,
    };
    struct slice payload;
    struct core_entry *entries = NULL;
    uint32_t capacity = 0;
    if (!puppet_got_frame(r, i, types[type], &payload))
        return false;
    assert_true(wire_decode_message(types[type], payload, ret, &entries, &capacity));
    if (type == CORE_MSG_APPEND && ret->append.count > 0)
        chunk_unref(ret->append.entries[0].chunk);
    if (type == CORE_MSG_APPEND)
        ret->append.entries = NULL;
    free(entries);
    return true;
}

void puppet_forget(struct rig *r, unsigned i) {
    packets_free(&r->servers[i].inbox);
}

struct node *rig_follower(struct rig *r, const char *roles) {
    struct node *n = rig_start(r, 1);
    const struct puppet_entry first[] = {{1, CORE_MEMBERSHIP, roles}, {2, CORE_BARRIER, NULL}};
    puppet_append(r, 1, 2, 2, 0, 0, 0, first, 2);
    rig_turn(r);
    puppet_append(r, 1, 2, 2, 2, 2, 2, NULL, 0);
    rig_turn(r);
    assert_int_equal(node_commit_index(n), 2);
    assert_int_equal(node_applied_index(n), 2);
    assert_int_equal(node_leader_id(n), 2);
    puppet_forget(r, 2);
    return n;
}

struct node *rig_elected(struct rig *r, const char *roles) {
    struct node *n = rig_follower(r, roles);
    r->servers[2].votes = r->servers[3].votes = true;
    RIG_UNTIL(r, node_is_leader(n), 2000);
    assert_int_equal(node_memlog(n)->last_index, 3);
    assert_int_equal(memlog_get(node_memlog(n), 3)->type, CORE_BARRIER);
    return n;
}

/* ---- links ---- */

struct rig_link *rig_link_raw(struct rig *r, unsigned i) {
    struct rig_link *l = xcalloc(1, sizeof *l);
    l->rig = r;
    l->server = &r->servers[i];
    list_init(&l->replies);
    list_push_back(&r->links, &l->node);
    l->link = node_link_open(l->server->node, l);
    assert_non_null(l->link);
    return l;
}

bool rig_link_bytes(struct rig_link *l, struct slice bytes) {
    struct node_link *link = l->link;
    bool ok = node_link_bytes(link, bytes);
    if (!ok)
        l->link = NULL;
    after(l->server);
    return ok;
}

void rig_link_close(struct rig_link *l) {
    node_link_closed(l->link);
    l->link = NULL;
}

struct rig_link *rig_link(struct rig *r, unsigned i, uint8_t session) {
    struct rig_link *l = rig_link_raw(r, i);
    struct link_hello hello = {.version = LINK_VERSION};
    struct buf b = {0};
    memset(l->session, session, sizeof l->session);
    memset(hello.session, session, sizeof hello.session);
    link_put_hello(&b, &hello);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    buf_fini(&b);
    assert_int_equal(l->hellos, 1);
    return l;
}

static void pack(struct buf *argv, const char *first, va_list ap) {
    struct slice args[16];
    size_t count = 0;
    for (const char *arg = first; arg; arg = va_arg(ap, const char *)) {
        assert_true(count < ARRAY_COUNT(args));
        args[count++] = slice_str(arg);
    }
    argv_append(argv, args, count);
}

void rig_write(struct rig_link *l, uint64_t sequence, const char *first, ...) {
    struct buf argv = {0}, b = {0};
    struct link_batch batch;
    va_list ap;
    va_start(ap, first);
    pack(&argv, first, ap);
    va_end(ap);
    struct link_write w = {.sequence = sequence, .packed_argv = buf_slice(&argv)};
    link_open_writes(&b, &batch, l->session, 1);
    link_add_write(&b, &batch, &w);
    link_close(&b, &batch);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    buf_fini(&argv);
    buf_fini(&b);
}

void rig_read(struct rig_link *l, uint64_t id, uint8_t flags, const char *first, ...) {
    struct buf argv = {0}, b = {0};
    struct link_batch batch;
    va_list ap;
    va_start(ap, first);
    pack(&argv, first, ap);
    va_end(ap);
    struct link_read read = {.id = id, .flags = flags, .packed_argv = buf_slice(&argv)};
    link_open_reads(&b, &batch);
    link_add_read(&b, &batch, &read);
    link_close(&b, &batch);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    buf_fini(&argv);
    buf_fini(&b);
}

void rig_read_index(struct rig_link *l, uint64_t id, uint8_t flags, uint64_t min_index) {
    struct buf b = {0};
    struct link_read_index ask = {.id = id, .flags = flags, .min_index = min_index};
    link_put_read_index(&b, &ask);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    buf_fini(&b);
}

void rig_admin(struct rig_link *l, uint64_t id, const char *first, ...) {
    struct buf argv = {0}, b = {0};
    va_list ap;
    va_start(ap, first);
    pack(&argv, first, ap);
    va_end(ap);
    struct link_admin admin = {.id = id, .packed_argv = buf_slice(&argv)};
    link_put_admin(&b, &admin);
    assert_true(rig_link_bytes(l, buf_slice(&b)));
    buf_fini(&argv);
    buf_fini(&b);
}

const struct rig_reply *rig_reply(const struct rig_link *l, enum link_reply_kind kind,
                                  uint64_t id) {
    for (struct list *it = l->replies.prev; it != &l->replies; it = it->prev) {
        const struct rig_reply *one = LIST_ENTRY(it, struct rig_reply, node);
        if (one->kind == kind && one->id == id)
            return one;
    }
    return NULL;
}

struct rig_link *rig_session(struct rig *r, unsigned i, uint8_t session) {
    struct rig_link *l = rig_link(r, i, session);
    rig_write(l, 1, "SESSION.OPEN", NULL);
    RIG_UNTIL(r, rig_reply(l, LINK_KIND_WRITE, 1), 5000);
    assert_int_equal(rig_reply(l, LINK_KIND_WRITE, 1)->status, LINK_OK);
    return l;
}

const struct rig_reply *rig_set(struct rig_link *l, uint64_t sequence, const char *key,
                                const char *value) {
    rig_write(l, sequence, "SET", key, value, NULL);
    RIG_UNTIL(l->rig, rig_reply(l, LINK_KIND_WRITE, sequence), 5000);
    const struct rig_reply *reply = rig_reply(l, LINK_KIND_WRITE, sequence);
    assert_int_equal(reply->status, LINK_OK);
    return reply;
}

const struct rig_reply *rig_get(struct rig_link *l, uint64_t id, const char *key) {
    rig_read(l, id, 0, "GET", key, NULL);
    RIG_UNTIL(l->rig, rig_reply(l, LINK_KIND_READ, id), 5000);
    const struct rig_reply *reply = rig_reply(l, LINK_KIND_READ, id);
    assert_int_equal(reply->status, LINK_OK);
    return reply;
}
