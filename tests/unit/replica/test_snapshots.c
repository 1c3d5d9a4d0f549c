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
    }
    rig_grow_to_three(r);
    struct rig_link *l = rig_session(r, 1, 1);
    uint64_t sequence = 2;
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
    rig_read(f, 1, LINK_READ_STALE, "GET", "k5", NULL); /* waits for it */
    RIG_UNTIL(r, node_applied_index(r->servers[3].node) >= applied, 20000);
    struct hash128 digest = store_digest(node_store(r->servers[1].node));
    expect_digest(r, 3, applied, digest);
    assert_true(r->servers[3].node->snapshot.index > had);
    assert_false(exists(r, 3, "snapshots/incoming.part"));
    rig_run(r, 500);
    assert_non_null(rig_reply(f, LINK_KIND_READ, 1));
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

static struct node *offered(struct rig *r, struct store_snapshot *info) {
    struct node *n = rig_follower(r, "vvv");
    puppet_snapshot(r, 2, OFFERED, 2, "vvv", info);
    assert_true(info->file_bytes > 2 * WIRE_PIECE_BYTES);
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
    const struct wire_piece piece = {.index = index, .offset = offset, .data = data};
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

static void test_pieces_that_are_not_taken(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    struct node *n = offered(r, &info);
    struct buf file = offered_file(r);
    struct slice data = slice_of(file.data, WIRE_PIECE_BYTES);
    r->servers[2].serves[0] = 0;
    say_piece(r, 2, OFFERED, 0, data); /* nothing is being installed */
    puppet_install(r, 1, 2, 2, "vvv", &info);
    say_piece(r, 3, OFFERED, 0, data); /* from another */
    say_piece(r, 2, OFFERED + 1, 0, data);
    say_piece(r, 2, OFFERED, 1, data);
    say_piece(r, 2, OFFERED, WIRE_PIECE_BYTES, data);
    for (size_t at = 0; at < file.size; at += 100000) { /* smaller ones will do; each comes twice */
        size_t left = file.size - at;
        struct slice piece = slice_of(file.data + at, left < 100000 ? left : 100000);
        say_piece(r, 2, OFFERED, at, piece);
        say_piece(r, 2, OFFERED, at, piece);
        rig_turn(r);
    }
    assert_string_equal(r->servers[1].failed, "");
    assert_true(n->state == NODE_RUNNING);
    expect_installed(r, &info);
    buf_fini(&file);
    rig_free(r);
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
}

static void silence(struct rig *r, const struct store_snapshot *info, const struct buf *file) {
    puppet_install(r, 1, 2, 2, "vvv", info);
    say_piece(r, 2, OFFERED, 0, slice_of(file->data, WIRE_PIECE_BYTES));
    rig_run(r, NODE_INSTALL_TIMEOUT_MS - 100);
    assert_non_null(r->servers[1].node->install);
    rig_run(r, 200);
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

/* A process that dies in the middle begins with what it had. */
static void test_killed_while_installing(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    offered(r, &info);
    struct buf file = offered_file(r);
    char serves[sizeof r->servers[2].serves];
    memcpy(serves, r->servers[2].serves, sizeof serves);
    r->servers[2].serves[0] = 0;
    puppet_install(r, 1, 2, 2, "vvv", &info);
    say_piece(r, 2, OFFERED, 0, slice_of(file.data, WIRE_PIECE_BYTES));
    assert_true(exists(r, 1, "snapshots/incoming.part"));
    rig_kill(r, 1, MEM_DISK_KILL);
    struct node *n = rig_start(r, 1);
    assert_false(exists(r, 1, "snapshots/incoming.part"));
    assert_int_equal(n->memlog.last_index, 2);
    memcpy(r->servers[2].serves, serves, sizeof serves);
    puppet_install(r, 1, 2, 2, "vvv", &info);
    expect_installed(r, &info);
    buf_fini(&file);
    rig_free(r);
}

static void test_stopped_while_installing(void **state) {
    struct rig *r = rig_new();
    struct store_snapshot info;
    offered(r, &info);
    r->servers[1].hold_jobs = true;
    puppet_install(r, 1, 2, 2, "vvv", &info);
    rig_run(r, 10);
    struct list *first = list_first(&r->servers[1].jobs); /* it is being verified */
    assert_non_null(first);
    rig_stop(r, 1);
    list_remove(first);
    struct background_job *job = LIST_ENTRY(first, struct background_job, node);
    job->status = job->fn(job->arg);
    job->done(job->arg, job->status);
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
    } rows[] = {
        {OFFERED, 0, WIRE_PIECE_BYTES},
        {OFFERED, 1000, 17},
        {OFFERED, 1u << 30, 100},   /* behind the end */
        {OFFERED, UINT64_MAX, 100}, /* no offset at all */
        {OFFERED - 1, 0, 100},      /* another snapshot */
        {0, 0, 100},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct wire_piece ask = {
            .index = rows[i].index, .offset = rows[i].offset, .bytes = rows[i].bytes};
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
