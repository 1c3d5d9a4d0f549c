/* Snapshots of a node: taken, sent, installed, given up, and the power going at any moment. */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "planted.h"

/* ---- taking ---- */

/* Enough to have the log cut: more than is kept for others behind a snapshot. */
static void write_much(struct rig_link *l, uint64_t *sequence) {
    static char value[16 * 1024];
    memset(value, 'v', sizeof value - 1);
    for (uint64_t bytes = 0; bytes < 4 << 20; bytes += sizeof value) {
        char key[24];
        snprintf(key, sizeof key, "k%llu", (unsigned long long)(*sequence % 20));
        value[0] = (char)('a' + *sequence % 26);
        rig_set(l, (*sequence)++, key, value);
        if (*sequence % 10 == 0)
            rig_run(l->rig, NODE_MEMBERS_EVERY_MS);
    }
    rig_run(l->rig, 200);
}

static bool exists(const struct rig *r, unsigned i, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", r->servers[i].dir, name);
    return access(path, F_OK) == 0;
}

static void expect_digest(struct rig *r, unsigned i, uint64_t applied, struct hash128 digest) {
    struct node *n = r->servers[i].node;
    struct store_view *view;
    struct hash128 found;
    RIG_UNTIL(r, node_applied_index(n) >= applied, 5000);
    assert_true(hash128_equal(store_digest(node_store(n)), digest));
    assert_int_equal(store_view_new(node_store(n), &view), 0);
    assert_int_equal(store_view_begin(view), 0);
    assert_int_equal(store_verify(view, &found), 0);
    store_view_end(view);
    store_view_free(view);
    assert_true(hash128_equal(found, digest));
}

static void test_taken_compacted_and_restarted(void **state) {
    struct rig *r = rig_new();
    r->servers[1].options.snapshot_log_bytes = 1 << 20;
    r->servers[1].options.log_trailing_bytes = 1 << 20;
    struct node *n = rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    uint64_t sequence = 2;
    write_much(l, &sequence);
    assert_true(n->snapshot.index > 0);
    assert_true(n->memlog.first_index > 1);
    assert_true(n->memlog.first_index + NODE_TRAILING_ENTRIES <= n->snapshot.index + 1);
    assert_false(exists(r, 1, "snapshots/new.mdb"));
    uint64_t applied = node_applied_index(n);
    struct hash128 digest = store_digest(node_store(n));
    for (int how = 0; how < 3; how++) { /* the last one loses the store, too */
        uint64_t snapshot = n->snapshot.index;
        if (how == 0)
            rig_stop(r, 1);
        else
            rig_kill(r, 1, how == 1 ? MEM_DISK_KILL : MEM_DISK_ALL_LOST);
        n = rig_start(r, 1);
        assert_int_equal(n->snapshot.index, snapshot);
        assert_true(n->memlog.first_index > 1);
        RIG_UNTIL(r, rig_leader(r) == 1, 1000);
        expect_digest(r, 1, applied, digest);
    }
    rig_set(rig_link(r, 1, 1), sequence, "more", "v");
    rig_free(r);
}

/* The power goes at every step of putting a snapshot in place and cutting the log. */
static void test_power_lost_while_taking(void **state) {
    for (uint64_t step = 1; step < 30; step++) {
        struct rig *r = rig_new();
        r->servers[1].options.snapshot_log_bytes = 20000;
        struct node *n = rig_bootstrap(r, 1);
        struct rig_link *l = rig_session(r, 1, 1);
        char value[1000];
        memset(value, 'v', sizeof value - 1);
        value[sizeof value - 1] = 0;
        r->servers[1].hold_jobs = true;
        for (uint64_t sequence = 2; !n->taking; sequence++) {
            rig_set(l, sequence, "k", value);
            rig_run(r, 10);
        }
        uint64_t applied = node_applied_index(n);
        struct hash128 digest = store_digest(node_store(n));
        uint64_t before = mem_disk_ops(r->servers[1].disk);
        mem_disk_fail_at(r->servers[1].disk, step, 0);
        r->servers[1].hold_jobs = false;
        rig_run(r, 200);
        bool beyond = mem_disk_ops(r->servers[1].disk) < before + step;
        if (!beyond)
            assert_string_not_equal(r->servers[1].failed, "");
        rig_kill(r, 1, MEM_DISK_POWER_CUT);
        mem_disk_fail_at(r->servers[1].disk, 0, 0);
        n = rig_start(r, 1);
        RIG_UNTIL(r, rig_leader(r) == 1, 1000);
        expect_digest(r, 1, applied, digest);
        rig_free(r);
        if (beyond)
            return;
    }
    fail_msg("it never got to an end");
}

/* ---- sent by a real leader to a real follower ---- */

static void test_a_follower_that_lags_gets_a_snapshot(void **state) {
    struct rig *r = rig_new();
    for (unsigned i = 1; i <= 3; i++) {
        r->servers[i].options.snapshot_log_bytes = 1 << 20;
        r->servers[i].options.log_trailing_bytes = 1 << 20;
        r->servers[i].options.log_laggard_bytes = 1;
    }
    rig_grow_to_three(r);
    struct rig_link *l = rig_session(r, 1, 1);
    uint64_t sequence = 2;
    rig_set(l, sequence++, "old", "here");
    rig_run(r, 100);
    uint64_t had = node_memlog(r->servers[3].node)->last_index;
    for (unsigned i = 1; i <= 2; i++)
        r->cut[i][3] = r->cut[3][i] = true;
    write_much(l, &sequence);
    assert_true(node_memlog(r->servers[1].node)->first_index > had + 1);
    memset(r->cut, 0, sizeof r->cut);
    uint64_t applied = node_applied_index(r->servers[1].node);
    RIG_UNTIL(r, r->servers[3].node->install != NULL, 5000);
    struct rig_link *f = rig_link(r, 3, 2);
    r->servers[3].hold_jobs = true;
    rig_read(f, 1, LINK_READ_STALE, "GET", "old", NULL); /* from the copy that it had */
    rig_turn(r);
    assert_non_null(r->servers[3].node->install);
    assert_non_null(rig_reply(f, LINK_KIND_READ, 1));
    assert_non_null(strstr(rig_reply(f, LINK_KIND_READ, 1)->text, "here"));
    r->servers[3].hold_jobs = false;
    RIG_UNTIL(r, node_applied_index(r->servers[3].node) >= applied, 20000);
    struct hash128 digest = store_digest(node_store(r->servers[1].node));
    expect_digest(r, 3, applied, digest);
    assert_true(r->servers[3].node->snapshot.index > had);
    assert_false(exists(r, 3, "snapshots/incoming.part"));
    struct membership m;
    node_membership(r->servers[3].node, &m);
    assert_int_equal(membership_voters(&m), 3);
    rig_kill(r, 3, MEM_DISK_ALL_LOST);
    rig_start(r, 3);
    expect_digest(r, 3, applied, digest);
    rig_set(l, sequence, "more", "v");
    rig_run(r, 500);
    assert_true(hash128_equal(store_digest(node_store(r->servers[1].node)),
                              store_digest(node_store(r->servers[3].node))));
    rig_free(r);
}

/* ---- installing what a puppet sends ---- */

enum { OFFERED = 6000 }; /* index of the snapshot: several pieces */

static uint64_t offered_hash; /* of the file last offered */

static struct node *offered(struct rig *r, struct store_snapshot *info) {
    struct node *n = rig_follower(r, "vvv");
    puppet_snapshot(r, 2, OFFERED, 2, "vvv", info);
    assert_true(info->file_bytes > 2 * WIRE_PIECE_BYTES);
    offered_hash = info->file_hash.low;
    return n;
}

static struct buf offered_file(struct rig *r) {
    struct buf b = {0};
    FILE *f = fopen(r->servers[2].serves, "rb");
    assert_non_null(f);
    for (size_t got; (got = fread(buf_reserve(&b, 65536), 1, 65536, f)) > 0;)
        buf_commit(&b, got);
    fclose(f);
    return b;
}

static void say_piece(struct rig *r, unsigned from, uint64_t index, uint64_t offset,
                      struct slice data) {
    const struct wire_piece piece = {
        .index = index, .hash = offered_hash, .offset = offset, .data = data};
    struct buf b = {0};
    wire_put_piece(&b, &piece);
    rig_deliver(r, 1, from, buf_slice(&b));
    buf_fini(&b);
}

static uint64_t acknowledged(struct rig *r) {
    struct core_message m;
    return puppet_got(r, 2, CORE_MSG_APPEND_RESULT, &m) && m.append_result.rejected == 0
               ? m.append_result.last_index
               : 0;
}

static void expect_installed(struct rig *r, const struct store_snapshot *info) {
    struct node *n = r->servers[1].node;
    RIG_UNTIL(r, !n->install && node_applied_index(n) == OFFERED, 1000);
    assert_int_equal(acknowledged(r), OFFERED);
    assert_int_equal(node_commit_index(n), OFFERED);
    assert_int_equal(n->memlog.first_index, OFFERED + 1);
    expect_digest(r, 1, OFFERED, info->digest);
}

static void test_installed(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    struct node *n = offered(r, &info);
    puppet_install(r, 1, 2, 2, "vvv", &info);
    assert_non_null(n->install);
    expect_installed(r, &info);
    const struct puppet_entry next = {2, CORE_COMMAND, NULL};
    puppet_append(r, 1, 2, 2, OFFERED, 2, OFFERED + 1, &next, 1);
    rig_turn(r);
    assert_int_equal(node_applied_index(n), OFFERED + 1);
    struct hash128 digest = store_digest(node_store(n));
    for (int how = 0; how < 2; how++) {
        rig_kill(r, 1, how ? MEM_DISK_ALL_LOST : MEM_DISK_KILL);
        n = rig_start(r, 1);
        assert_int_equal(n->memlog.last_index, OFFERED + 1);
        puppet_append(r, 1, 2, 2, OFFERED + 1, 2, OFFERED + 1, NULL, 0);
        rig_turn(r);
        expect_digest(r, 1, OFFERED + 1, digest);
    }
    rig_free(r);
}

/* Nothing is said of it before it is whole, verified and in place. */
static void test_announced_when_it_is_complete(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    struct node *n = offered(r, &info);
    struct buf file = offered_file(r);
    r->servers[2].serves[0] = 0;
    r->servers[1].hold_jobs = true;
    puppet_install(r, 1, 2, 2, "vvv", &info);
    for (size_t at = 0; at < file.size; at += WIRE_PIECE_BYTES) {
        size_t left = file.size - at;
        rig_run(r, 10);
        assert_int_equal(acknowledged(r), 0);
        assert_int_equal(node_applied_index(n), 2);
        say_piece(r, 2, OFFERED, at,
                  slice_of(file.data + at, left < WIRE_PIECE_BYTES ? left : WIRE_PIECE_BYTES));
    }
    rig_run(r, 100);
    assert_int_equal(acknowledged(r), 0); /* it is being verified */
    r->servers[1].hold_jobs = false;
    expect_installed(r, &info);
    buf_fini(&file);
    rig_free(r);
}

/* Pieces [from, to) of the file, each from server `by`. */
static void say_pieces(struct rig *r, unsigned by, const struct buf *file, size_t from, size_t to) {
    for (size_t at = from * WIRE_PIECE_BYTES; at < to * WIRE_PIECE_BYTES && at < file->size;
         at += WIRE_PIECE_BYTES) {
        size_t left = file->size - at;
        say_piece(r, by, OFFERED, at,
                  slice_of(file->data + at, left < WIRE_PIECE_BYTES ? left : WIRE_PIECE_BYTES));
    }
}

static void test_pieces_that_are_not_taken(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    struct node *n = offered(r, &info);
    struct buf file = offered_file(r);
    struct slice data = slice_of(file.data, WIRE_PIECE_BYTES);
    struct buf wrong = {0};
    buf_append(&wrong, file.data, WIRE_PIECE_BYTES);
    wrong.data[5] ^= 1;
    r->servers[2].serves[0] = 0;
    say_piece(r, 2, OFFERED, 0, data); /* nothing is being installed */
    puppet_install(r, 1, 2, 2, "vvv", &info);
    say_piece(r, 2, OFFERED + 1, 0, buf_slice(&wrong));
    offered_hash++;
    say_piece(r, 2, OFFERED, 0, buf_slice(&wrong)); /* of another file */
    offered_hash--;
    say_piece(r, 2, OFFERED, 1, buf_slice(&wrong));
    say_piece(r, 2, OFFERED, 0, slice_of(wrong.data, wrong.size - 1)); /* too short */
    say_piece(r, 2, OFFERED, (uint64_t)WIRE_PIECE_BYTES * NODE_FETCHES_PENDING, buf_slice(&wrong));
    say_piece(r, 2, OFFERED, UINT64_MAX, buf_slice(&wrong));
    /* In any order, from anybody, the second time in vain. */
    say_pieces(r, 3, &file, 1, SIZE_MAX / WIRE_PIECE_BYTES);
    say_piece(r, 2, OFFERED, WIRE_PIECE_BYTES, buf_slice(&wrong));
    say_pieces(r, 2, &file, 0, 1);
    assert_string_equal(r->servers[1].failed, "");
    assert_true(n->state == NODE_RUNNING);
    expect_installed(r, &info);
    buf_fini(&file);
    buf_fini(&wrong);
    rig_free(r);
}

/* ---- what gets lost, and who has it ---- */

/* The offsets that puppet i was asked for since it last forgot, in pieces. */
static size_t asked_for(struct rig *r, unsigned i, uint64_t *pieces, size_t max) {
    size_t count = 0;
    LIST_FOREACH (it, &r->servers[i].inbox) {
        const struct packet *p = LIST_ENTRY(it, struct packet, node);
        struct wire_piece ask;
        if (p->type != WIRE_FETCH)
            continue;
        assert_true(wire_decode_fetch(slice_of(p->payload, p->size), &ask));
        assert_int_equal(ask.index, OFFERED);
        assert_int_equal(ask.offset % WIRE_PIECE_BYTES, 0);
        assert_true(count < max);
        pieces[count++] = ask.offset / WIRE_PIECE_BYTES;
    }
    return count;
}

/* Lets time pass while the leader is heard. */
static void run_led(struct rig *r, uint64_t ms) {
    for (uint64_t at = 0; at < ms; at += 50) {
        puppet_append(r, 1, 2, 2, 2, 2, 2, NULL, 0);
        rig_run(r, 50);
    }
}

static void say_status(struct rig *r, unsigned from, const struct store_snapshot *info) {
    const struct wire_status status = {.term = 2,
                                       .applied = 2,
                                       .snapshot_index = info ? info->index : 0,
                                       .snapshot_hash = info ? info->file_hash.low : 0};
    struct buf b = {0};
    wire_put_status(&b, &status);
    rig_deliver(r, 1, from, buf_slice(&b));
    buf_fini(&b);
}

static void test_lost_pieces_are_asked_for_again(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    struct node *n = offered(r, &info);
    struct buf file = offered_file(r);
    uint64_t asked[64];
    r->servers[2].serves[0] = 0;
    puppet_install(r, 1, 2, 2, "vvv", &info);
    rig_turn(r);
    size_t all = (file.size + WIRE_PIECE_BYTES - 1) / WIRE_PIECE_BYTES;
    assert_in_range(all, 3, NODE_FETCHES_PENDING);
    assert_int_equal(asked_for(r, 2, asked, 64), all);
    puppet_forget(r, 2);
    say_pieces(r, 2, &file, 0, 1);
    say_pieces(r, 2, &file, 2, all); /* the second one is lost */
    run_led(r, NODE_FETCH_AGAIN_MS - 100);
    assert_int_equal(asked_for(r, 2, asked, 64), 0);
    run_led(r, 200);
    assert_int_equal(asked_for(r, 2, asked, 64), 1);
    assert_int_equal(asked[0], 1);
    assert_int_equal(n->counters.pieces_asked_again, 1);
    say_pieces(r, 2, &file, 1, 2);
    expect_installed(r, &info);
    buf_fini(&file);
    rig_free(r);
}

static void test_another_node_has_it(void **state) {
    for (int silent = 0; silent < 2; silent++) {
        struct rig *r = rig_new();
        struct store_snapshot info, other;
        struct node *n = offered(r, &info);
        struct buf file = offered_file(r);
        uint64_t asked[64];
        memcpy(r->servers[3].serves, r->servers[2].serves, sizeof r->servers[3].serves);
        r->servers[2].serves[0] = 0;
        puppet_install(r, 1, 2, 2, "vvv", &info);
        say_pieces(r, 2, &file, 0, 1);
        rig_turn(r);
        other = info;
        other.file_hash.low ^= 1; /* of the same index, but not this file */
        say_status(r, 3, &other);
        if (silent)
            run_led(r, NODE_SOURCE_TIMEOUT_MS);
        assert_int_equal(asked_for(r, 3, asked, 64), 0);
        say_status(r, 3, &info);
        if (silent)
            run_led(r, 100);
        else
            say_piece(r, 2, OFFERED, WIRE_PIECE_BYTES, slice_of(NULL, 0));
        rig_turn(r);
        assert_true(asked_for(r, 3, asked, 64) > 0);
        assert_int_equal(asked[0], 1); /* not from the beginning */
        expect_installed(r, &info);
        assert_int_equal(n->counters.install_sources_changed, 1);
        buf_fini(&file);
        rig_free(r);
    }
}

/* A voter that installs gives no vote; without a leader it must. */
static void test_given_up_for_an_election(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    struct node *n = offered(r, &info);
    struct buf file = offered_file(r);
    struct core_message m;
    uint64_t asked[64];
    r->servers[2].serves[0] = 0;
    puppet_install(r, 1, 2, 2, "vvv", &info);
    say_pieces(r, 2, &file, 0, 1);
    run_led(r, 2000);
    assert_non_null(n->install);
    rig_run(r, 3ul * n->o.election_timeout_ms);
    assert_null(n->install);
    puppet_forget(r, 3);
    puppet_vote(r, 1, 3, node_term(n) + 1, 3, 2, false);
    rig_turn(r);
    assert_true(puppet_got(r, 3, CORE_MSG_VOTE_RESULT, &m));
    assert_true(m.vote_result.granted);
    /* The next leader offers the same: it goes on where it was. */
    puppet_forget(r, 2);
    puppet_install(r, 1, 2, node_term(n), "vvv", &info);
    rig_turn(r);
    assert_true(asked_for(r, 2, asked, 64) > 0);
    assert_int_equal(asked[0], 1);
    assert_int_equal(n->counters.installs_resumed, 1);
    say_pieces(r, 2, &file, 1, SIZE_MAX / WIRE_PIECE_BYTES);
    expect_installed(r, &info);
    buf_fini(&file);
    rig_free(r);
}

/* While the helper thread is still busy with one that was given up, another one is offered. */
static void test_another_is_offered_while_one_is_checked(void **state) {
    for (int same = 0; same < 2; same++) {
        struct rig *r = rig_new();
        struct store_snapshot info, other;
        struct node *n = offered(r, &info);
        r->servers[1].hold_jobs = true;
        puppet_install(r, 1, 2, 2, "vvv", &info);
        rig_turn(r);
        assert_non_null(list_first(&r->servers[1].jobs));
        rig_run(r, 3ul * n->o.election_timeout_ms);
        assert_null(n->install);
        if (!same)
            puppet_snapshot(r, 2, OFFERED + 50, 2, "vvv", &other);
        puppet_install(r, 1, 2, node_term(n), "vvv", same ? &info : &other);
        rig_turn(r);
        assert_non_null(n->install);
        r->servers[1].hold_jobs = false;
        uint64_t index = same ? OFFERED : OFFERED + 50;
        RIG_UNTIL(r, !n->install && node_applied_index(n) == index, 1000);
        expect_digest(r, 1, index, same ? info.digest : other.digest);
        assert_false(exists(r, 1, "snapshots/incoming.part"));
        assert_false(exists(r, 1, "snapshots/incoming.meta"));
        assert_false(exists(r, 1, "store.old"));
        assert_false(exists(r, 1, "store.incoming"));
        rig_free(r);
    }
}

/* Given up for any reason, the node goes on from what it had, and takes the next one. */
static void given_up(void (*spoil)(struct rig *r, const struct store_snapshot *info,
                                   const struct buf *file)) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    struct node *n = offered(r, &info);
    struct buf file = offered_file(r);
    char serves[sizeof r->servers[2].serves];
    memcpy(serves, r->servers[2].serves, sizeof serves);
    r->servers[2].serves[0] = 0;
    spoil(r, &info, &file);
    rig_turn(r);
    assert_null(n->install);
    assert_string_equal(r->servers[1].failed, "");
    assert_int_equal(acknowledged(r), 0);
    assert_int_equal(n->state, NODE_RUNNING);
    assert_int_equal(n->memlog.last_index, 2);
    const struct puppet_entry next = {2, CORE_COMMAND, NULL};
    puppet_append(r, 1, 2, 2, 2, 2, 3, &next, 1);
    rig_turn(r);
    assert_int_equal(acknowledged(r), 3);
    assert_int_equal(node_applied_index(n), 3);
    memcpy(r->servers[2].serves, serves, sizeof serves);
    puppet_install(r, 1, 2, 2, "vvv", &info);
    expect_installed(r, &info);
    buf_fini(&file);
    rig_free(r);
}

static void no_more(struct rig *r, const struct store_snapshot *info, const struct buf *file) {
    puppet_install(r, 1, 2, 2, "vvv", info);
    say_piece(r, 2, OFFERED, 0, slice_of(file->data, WIRE_PIECE_BYTES));
    say_piece(r, 2, OFFERED, WIRE_PIECE_BYTES, slice_of(NULL, 0));
}

static void too_much(struct rig *r, const struct store_snapshot *info, const struct buf *file) {
    struct store_snapshot less = *info;
    less.file_bytes = 100;
    puppet_install(r, 1, 2, 2, "vvv", &less);
    say_piece(r, 2, OFFERED, 0, slice_of(file->data, 101));
    rig_turn(r);
    assert_non_null(r->servers[1].node->install); /* it is not taken */
    run_led(r, NODE_INSTALL_TIMEOUT_MS + 100);
    puppet_forget(r, 2);
}

static void silence(struct rig *r, const struct store_snapshot *info, const struct buf *file) {
    puppet_install(r, 1, 2, 2, "vvv", info);
    say_piece(r, 2, OFFERED, 0, slice_of(file->data, WIRE_PIECE_BYTES));
    run_led(r, NODE_INSTALL_TIMEOUT_MS - 100);
    assert_non_null(r->servers[1].node->install);
    run_led(r, 200);
    puppet_forget(r, 2);
}

static void another_file(struct rig *r, const struct store_snapshot *info, const struct buf *file) {
    puppet_install(r, 1, 2, 2, "vvv", info);
    for (size_t at = 0; at < file->size; at += WIRE_PIECE_BYTES) {
        size_t left = file->size - at;
        struct buf piece = {0};
        buf_append(&piece, file->data + at, left < WIRE_PIECE_BYTES ? left : WIRE_PIECE_BYTES);
        if (at == 2 * WIRE_PIECE_BYTES)
            piece.data[77] ^= 1; /* the piece's own checksum is right */
        say_piece(r, 2, OFFERED, at, buf_slice(&piece));
        buf_fini(&piece);
    }
}

static void malformed_descriptor(struct rig *r, const struct store_snapshot *info,
                                 const struct buf *file) {
    const struct core_message m = {.type = CORE_MSG_INSTALL,
                                   .term = 2,
                                   .install = {.snapshot = {.index = OFFERED,
                                                            .term = 2,
                                                            .membership_index = 1,
                                                            .membership = rig_members("vvv")},
                                               .descriptor = slice_str("no descriptor")}};
    puppet_say(r, 1, 2, &m);
}

static void another_index(struct rig *r, const struct store_snapshot *info,
                          const struct buf *file) {
    struct store_snapshot other = *info;
    struct buf descriptor = {0};
    other.index++;
    store_snapshot_encode(&other, &descriptor);
    const struct core_message m = {.type = CORE_MSG_INSTALL,
                                   .term = 2,
                                   .install = {.snapshot = {.index = OFFERED,
                                                            .term = 2,
                                                            .membership_index = 1,
                                                            .membership = rig_members("vvv")},
                                               .descriptor = buf_slice(&descriptor)}};
    puppet_say(r, 1, 2, &m);
    buf_fini(&descriptor);
}

static void test_given_up_no_more(void **state) {
    given_up(no_more);
}
static void test_given_up_too_much(void **state) {
    given_up(too_much);
}
static void test_given_up_silence(void **state) {
    given_up(silence);
}
static void test_given_up_another_file(void **state) {
    given_up(another_file);
}
static void test_given_up_malformed_descriptor(void **state) {
    given_up(malformed_descriptor);
}
static void test_given_up_another_index(void **state) {
    given_up(another_index);
}

/* A process that dies in the middle goes on where it was; after a crash of the system what lies
 * there is not believed, nor is it the beginning of another file. */
static void test_killed_while_installing(void **state) {
    static const struct {
        enum mem_disk_crash how;
        bool another;
        uint64_t first;
    } rows[] = {
        {MEM_DISK_KILL, false, 2}, {MEM_DISK_POWER_CUT, false, 0}, {MEM_DISK_KILL, true, 0}};
    for (size_t row = 0; row < ARRAY_COUNT(rows); row++) {
        struct rig *r = rig_new();
        struct store_snapshot info;
        uint64_t asked[64];
        offered(r, &info);
        struct buf file = offered_file(r);
        char serves[sizeof r->servers[2].serves];
        memcpy(serves, r->servers[2].serves, sizeof serves);
        r->servers[2].serves[0] = 0;
        puppet_install(r, 1, 2, 2, "vvv", &info);
        say_pieces(r, 2, &file, 0, 2);
        rig_turn(r);
        rig_kill(r, 1, rows[row].how);
        struct node *n = rig_start(r, 1);
        assert_true(exists(r, 1, "snapshots/incoming.part"));
        assert_int_equal(n->memlog.last_index, 2);
        if (rows[row].another)
            puppet_snapshot(r, 2, OFFERED + 1, 2, "vvv", &info);
        else
            memcpy(r->servers[2].serves, serves, sizeof serves);
        puppet_forget(r, 2);
        puppet_install(r, 1, 2, 2, "vvv", &info);
        RIG_UNTIL(r, !n->install && node_applied_index(n) == info.index, 1000);
        if (!rows[row].another) {
            assert_true(asked_for(r, 2, asked, 64) > 0);
            assert_int_equal(asked[0], rows[row].first);
            assert_int_equal(n->counters.installs_resumed, rows[row].first > 0);
        }
        expect_digest(r, 1, info.index, info.digest);
        buf_fini(&file);
        rig_free(r);
    }
}

static void on_stopped(void *ctx) {
    *(bool *)ctx = true;
}

static void test_stopped_while_installing(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    offered(r, &info);
    r->servers[1].hold_jobs = true;
    puppet_install(r, 1, 2, 2, "vvv", &info);
    rig_run(r, 10);
    assert_non_null(list_first(&r->servers[1].jobs)); /* it is being written */
    bool stopped = false;
    node_stop(r->servers[1].node, on_stopped, &stopped);
    rig_run(r, 1000);
    assert_false(stopped); /* a thread that works for it must not outlive it */
    r->servers[1].hold_jobs = false;
    RIG_UNTIL(r, stopped, 1000);
    assert_int_equal(node_free(r->servers[1].node), 0);
    r->servers[1].node = NULL;
    struct node *n = rig_start(r, 1);
    assert_int_equal(n->memlog.last_index, 2);
    assert_int_equal(node_applied_index(n), 2);
    rig_free(r);
}

/* The power goes at every step of putting the new state in the place of the old one: afterwards it
 * is the one or the other. */
static void test_power_lost_while_installing(void **state) {
    unsigned old = 0, new = 0;
    for (uint64_t step = 1; step < 30; step++) {
        struct rig *r = rig_new();
        struct store_snapshot info;
        struct node *n = offered(r, &info);
        uint64_t before = mem_disk_ops(r->servers[1].disk);
        mem_disk_fail_at(r->servers[1].disk, step, 0);
        puppet_install(r, 1, 2, 2, "vvv", &info);
        rig_run(r, 100);
        bool beyond = mem_disk_ops(r->servers[1].disk) < before + step;
        rig_kill(r, 1, MEM_DISK_POWER_CUT);
        mem_disk_fail_at(r->servers[1].disk, 0, 0);
        n = rig_start(r, 1);
        puppet_forget(r, 2);
        if (n->snapshot.index == OFFERED) {
            new ++;
            assert_int_equal(n->memlog.last_index, OFFERED);
            puppet_append(r, 1, 2, 2, OFFERED, 2, OFFERED, NULL, 0);
            rig_turn(r);
            expect_digest(r, 1, OFFERED, info.digest);
        } else {
            old++;
            assert_int_equal(n->memlog.last_index, 2);
            puppet_install(r, 1, 2, 2, "vvv", &info);
            expect_installed(r, &info);
        }
        rig_free(r);
        if (beyond) {
            assert_true(old > 0 && new > 1);
            return;
        }
    }
    fail_msg("it never got to an end");
}

/* ---- handing out ---- */

static void test_fetches(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    struct node *n = offered(r, &info);
    puppet_install(r, 1, 2, 2, "vvv", &info);
    expect_installed(r, &info);
    struct buf file = offered_file(r), b = {0};
    static const struct {
        uint64_t index, offset;
        uint32_t bytes;
        uint64_t hash; /* added to the right one */
    } rows[] = {
        {OFFERED, 0, WIRE_PIECE_BYTES, 0},
        {OFFERED, 1000, 17, 0},
        {OFFERED, 1u << 30, 100, 0},   /* behind the end */
        {OFFERED, UINT64_MAX, 100, 0}, /* no offset at all */
        {OFFERED - 1, 0, 100, 0},      /* another snapshot */
        {OFFERED, 0, 100, 1},          /* another file of the same index */
        {0, 0, 100, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct wire_piece ask = {.index = rows[i].index,
                                       .hash = offered_hash + rows[i].hash,
                                       .offset = rows[i].offset,
                                       .bytes = rows[i].bytes};
        struct wire_piece got;
        struct slice payload;
        buf_reset(&b);
        wire_put_fetch(&b, &ask);
        puppet_forget(r, 3);
        rig_deliver(r, 1, 3, buf_slice(&b));
        rig_turn(r);
        assert_true(puppet_got_frame(r, 3, WIRE_PIECE, &payload));
        assert_true(wire_decode_piece(payload, &got));
        assert_int_equal(got.index, rows[i].index);
        assert_int_equal(got.offset, rows[i].offset);
        assert_int_equal(got.data.size, i < 2 ? rows[i].bytes : 0);
        if (i < 2)
            assert_memory_equal(got.data.data, file.data + rows[i].offset, rows[i].bytes);
    }
    assert_int_equal(n->snapshot.index, OFFERED);
    buf_fini(&file);
    buf_fini(&b);
    rig_free(r);
}

static void ask_piece(struct rig *r, uint64_t index, uint64_t hash, uint64_t number) {
    const struct wire_piece ask = {.index = index,
                                   .hash = hash,
                                   .offset = number * WIRE_PIECE_BYTES,
                                   .bytes = WIRE_PIECE_BYTES};
    struct buf b = {0};
    wire_put_fetch(&b, &ask);
    rig_deliver(r, 1, 3, buf_slice(&b));
    buf_fini(&b);
}

/* How many pieces with data puppet 3 got. */
static size_t pieces_got(struct rig *r) {
    size_t count = 0;
    LIST_FOREACH (it, &r->servers[3].inbox) {
        const struct packet *p = LIST_ENTRY(it, struct packet, node);
        struct wire_piece piece;
        if (p->type != WIRE_PIECE)
            continue;
        assert_true(wire_decode_piece(slice_of(p->payload, p->size), &piece));
        count += piece.data.size > 0;
    }
    return count;
}

static void test_handed_out_at_a_limited_rate(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    r->servers[1].options.snapshot_rate_bytes = WIRE_PIECE_BYTES; /* one a second */
    offered(r, &info);
    puppet_install(r, 1, 2, 2, "vvv", &info);
    expect_installed(r, &info);
    puppet_forget(r, 3);
    for (uint64_t i = 0; i < 3; i++) {
        ask_piece(r, OFFERED, offered_hash, i);
        ask_piece(r, OFFERED, offered_hash, i); /* who asks twice is answered once */
    }
    rig_turn(r);
    size_t first = pieces_got(r);
    assert_in_range(first, 1, 2); /* the first may have been answered before it came again */
    rig_run(r, 900);
    assert_int_equal(pieces_got(r), first);
    rig_run(r, 200);
    assert_int_equal(pieces_got(r), first + 1);
    rig_run(r, 4000);
    assert_in_range(pieces_got(r), 3, 4);
    rig_free(r);
}

/* A file that somebody fetches can be read to its end when a newer one has replaced it. */
static void test_handed_out_while_a_newer_one_is_taken(void **state) {
    struct rig *r = rig_new();
    r->servers[1].options.snapshot_log_bytes = 1 << 20;
    r->servers[1].options.log_trailing_bytes = 1 << 20;
    r->servers[1].options.log_laggard_bytes = 1;
    struct node *n = rig_bootstrap(r, 1);
    struct rig_link *l = rig_session(r, 1, 1);
    struct wire_status hello = {.term = 1};
    uint64_t sequence = 2;
    struct buf b = {0};
    wire_put_status(&b, &hello);
    rig_deliver(r, 1, 3, buf_slice(&b)); /* it has been heard of */
    buf_fini(&b);
    while (n->snapshot.index == 0)
        write_much(l, &sequence);
    uint64_t index = n->snapshot.index, hash = n->snapshot_info.file_hash.low;
    puppet_forget(r, 3);
    ask_piece(r, index, hash, 0);
    rig_turn(r);
    assert_int_equal(pieces_got(r), 1);
    while (n->snapshot.index == index)
        write_much(l, &sequence);
    ask_piece(r, index, hash, 1);
    rig_turn(r);
    assert_int_equal(pieces_got(r), 2);
    rig_run(r, NODE_FETCH_QUIET_MS + 100);
    ask_piece(r, index, hash, 2); /* now it is gone */
    rig_turn(r);
    assert_int_equal(pieces_got(r), 2);
    rig_free(r);
}

/* The log is not cut behind the back of a follower that is on its way. */
static void test_the_log_is_kept_for_a_laggard(void **state) {
    for (int kept = 0; kept < 2; kept++) {
        struct rig *r = rig_new();
        for (unsigned i = 1; i <= 3; i++) {
            r->servers[i].options.snapshot_log_bytes = 1 << 20;
            r->servers[i].options.log_trailing_bytes = 1;
            r->servers[i].options.log_laggard_bytes = kept ? 64 << 20 : 1;
        }
        rig_grow_to_three(r);
        struct rig_link *l = rig_session(r, 1, 1);
        uint64_t sequence = 2;
        for (unsigned i = 1; i <= 2; i++)
            r->cut[i][3] = r->cut[3][i] = true;
        uint64_t had = node_memlog(r->servers[3].node)->last_index;
        write_much(l, &sequence);
        assert_true(r->servers[1].node->snapshot.index > had);
        assert_int_equal(node_memlog(r->servers[1].node)->first_index <= had, kept);
        memset(r->cut, 0, sizeof r->cut);
        RIG_UNTIL(r,
                  node_applied_index(r->servers[3].node) == node_applied_index(r->servers[1].node),
                  20000);
        assert_int_equal(r->servers[3].node->counters.snapshots_installed > 0, !kept);
        rig_free(r);
    }
}

int main(int argc, char **argv) {
    plant_by_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_compacted_and_restarted),
        cmocka_unit_test(test_power_lost_while_taking),
        cmocka_unit_test(test_a_follower_that_lags_gets_a_snapshot),
        cmocka_unit_test(test_installed),
        cmocka_unit_test(test_announced_when_it_is_complete),
        cmocka_unit_test(test_pieces_that_are_not_taken),
        cmocka_unit_test(test_given_up_no_more),
        cmocka_unit_test(test_given_up_too_much),
        cmocka_unit_test(test_given_up_silence),
        cmocka_unit_test(test_given_up_another_file),
        cmocka_unit_test(test_given_up_malformed_descriptor),
        cmocka_unit_test(test_given_up_another_index),
        cmocka_unit_test(test_killed_while_installing),
        cmocka_unit_test(test_stopped_while_installing),
        cmocka_unit_test(test_power_lost_while_installing),
        cmocka_unit_test(test_fetches),
        cmocka_unit_test(test_lost_pieces_are_asked_for_again),
        cmocka_unit_test(test_another_node_has_it),
        cmocka_unit_test(test_given_up_for_an_election),
        cmocka_unit_test(test_another_is_offered_while_one_is_checked),
        cmocka_unit_test(test_handed_out_at_a_limited_rate),
        cmocka_unit_test(test_handed_out_while_a_newer_one_is_taken),
        cmocka_unit_test(test_the_log_is_kept_for_a_laggard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
