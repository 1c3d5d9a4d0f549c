/* The core on its own: who owns what, what the guards G1 and G4 keep from the library, and what its
 * codes become. Run it under AddressSanitizer: half of what is tested here is a leak or a double
 * free when it goes wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "planted.h"
#include "replica/core.h"
#include "replica/memlog.h"

/* A core and the log that its owner keeps. */
struct bench {
    struct core *core;
    struct memlog log;
    uint64_t now_ms;
    struct core_update u;
};

static struct membership members(unsigned voters, unsigned learners) {
    struct membership m = {.count = voters + learners};
    for (unsigned i = 0; i < m.count; i++) {
        m.members[i].id = i + 1;
        m.members[i].role = i < voters ? MEMBER_VOTER : MEMBER_LEARNER;
        snprintf(m.members[i].address, sizeof m.members[i].address, "s%u:1", i + 1);
    }
    return m;
}

static struct core_entry entry_of(uint64_t term, enum core_entry_type type, const void *body,
                                  size_t size) {
    struct chunk *chunk = chunk_new(size);
    if (size > 0)
        memcpy(chunk->data, body, size);
    return (struct core_entry){
        .term = term, .type = type, .body = slice_of(chunk->data, size), .chunk = chunk};
}

static struct core_entry membership_entry(uint64_t term, const struct membership *m) {
    struct buf b = {0};
    membership_encode(m, &b);
    struct core_entry e = entry_of(term, CORE_MEMBERSHIP, b.data, b.size);
    buf_fini(&b);
    return e;
}

static const struct core_entry *bench_entry(void *ctx, uint64_t index) {
    return memlog_get(&((struct bench *)ctx)->log, index);
}

/* Takes what an update hands over, as its owner does. */
static void take(struct bench *b) {
    if (b->u.entries_count == 0)
        return;
    if (b->u.entries_index <= b->log.last_index)
        memlog_truncate(&b->log, b->u.entries_index);
    for (uint32_t i = 0; i < b->u.entries_count; i++)
        memlog_append(&b->log, b->u.entries_index + i, &b->u.entries[i]);
}

static void start(struct bench *b, uint64_t term, uint64_t voted_for,
                  const struct core_snapshot *snapshot) {
    const struct core_options options = {.id = 1,
                                         .address = "s1:1",
                                         .election_timeout_ms = 300,
                                         .heartbeat_ms = 30,
                                         .install_timeout_ms = 30000,
                                         .entries_inflight_max = 64,
                                         .seed = 1};
    const struct core_start s = {.term = term,
                                 .voted_for = voted_for,
                                 .snapshot = snapshot,
                                 .first_index = b->log.first_index,
                                 .count = b->log.last_index - b->log.first_index + 1,
                                 .entry = bench_entry,
                                 .ctx = b};
    b->now_ms = 1000;
    b->core = core_new(&options);
    assert_int_equal(core_start(b->core, b->now_ms, &s, &b->u), 0);
    take(b);
}

/* Entry 1 is the membership; term is the current one. */
static void bench_init(struct bench *b, unsigned voters, unsigned learners, uint64_t term) {
    log_set_level((enum log_level)(LOG_ERROR + 1));
    *b = (struct bench){0};
    memlog_init(&b->log);
    struct membership m = members(voters, learners);
    struct core_entry e = membership_entry(1, &m);
    memlog_append(&b->log, 1, &e);
    start(b, term, 0, NULL);
}

static void bench_fini(struct bench *b) {
    core_free(b->core);
    memlog_fini(&b->log);
}

static int receive(struct bench *b, struct core_message *m) {
    char address[16];
    snprintf(address, sizeof address, "s%d:1", (int)m->peer_id);
    int rc = core_receive(b->core, b->now_ms, m, address, &b->u);
    if (rc == 0)
        take(b);
    return rc;
}

/* An AppendEntries of `count` commands of entry_term. */
static int append(struct bench *b, uint64_t from, uint64_t term, uint64_t prev_index,
                  uint64_t prev_term, uint64_t commit, uint32_t count, uint64_t entry_term) {
    struct core_entry entries[16];
    struct chunk *chunk = count ? chunk_new(8 * (size_t)count) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        memset(chunk->data + 8 * i, 'a' + (int)i, 8);
        entries[i] = (struct core_entry){.term = entry_term,
                                         .type = CORE_COMMAND,
                                         .body = slice_of(chunk->data + 8 * i, 8),
                                         .chunk = chunk};
    }
    struct core_message m = {
        .type = CORE_MSG_APPEND,
        .peer_id = from,
        .term = term,
        .append = {.prev_index = prev_index,
                   .prev_term = prev_term,
                   .commit = commit,
                   .count = count,
                   .entries = count ? entries : NULL},
    };
    return receive(b, &m);
}

static int submit(struct bench *b, enum core_entry_type type, const char *body) {
    struct core_entry e = entry_of(0, type, body, strlen(body));
    int rc = core_submit(b->core, b->now_ms, &e, &b->u);
    if (rc == 0)
        take(b);
    return rc;
}

static int submit_membership(struct bench *b, const struct membership *m) {
    struct core_entry e = membership_entry(0, m);
    int rc = core_submit(b->core, b->now_ms, &e, &b->u);
    if (rc == 0)
        take(b);
    return rc;
}

static void persisted(struct bench *b, uint64_t index) {
    assert_int_equal(core_persisted(b->core, b->now_ms, index, &b->u), 0);
    take(b);
}

static void vote_result(struct bench *b, uint64_t from, bool pre_vote) {
    struct core_message m = {.type = CORE_MSG_VOTE_RESULT,
                             .peer_id = from,
                             .term = core_term(b->core) + pre_vote,
                             .vote_result = {.granted = true, .pre_vote = pre_vote}};
    assert_int_equal(receive(b, &m), 0);
}

static void become_leader(struct bench *b) {
    b->now_ms = core_deadline_ms(b->core);
    assert_int_equal(core_timeout(b->core, b->now_ms, &b->u), 0);
    assert_int_equal(core_role(b->core), CORE_CANDIDATE);
    vote_result(b, 2, true);
    assert_int_equal(core_role(b->core), CORE_CANDIDATE);
    vote_result(b, 2, false);
    assert_int_equal(core_role(b->core), CORE_LEADER);
}

/* ---- the guards ---- */

static void expect_rejection(const struct bench *b, uint64_t to) {
    assert_int_equal(b->u.message_count, 1);
    assert_int_equal(b->u.messages[0].type, CORE_MSG_APPEND_RESULT);
    assert_int_equal(b->u.messages[0].peer_id, to);
    assert_int_equal(b->u.messages[0].term, 7);
    assert_int_equal(b->u.messages[0].append_result.rejected, 1ull << 62);
    assert_int_equal(b->u.messages[0].append_result.last_index, 0);
    assert_false(b->u.vote_changed);
    assert_int_equal(b->u.term, 7);
    assert_int_equal(b->u.entries_count, 0);
    assert_false(b->u.install);
    assert_int_equal(core_leader_id(b->core), 0);
}

static void test_g1_append_of_an_old_term_is_rejected_by_us(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 6, 1, 1, 1, 3, 6), 0);
    expect_rejection(&b, 2);
    assert_int_equal(append(&b, 3, 6, 0, 0, 0, 0, 0), 0);
    expect_rejection(&b, 3);
    /* One of our own term is stepped. */
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 3, 7), 0);
    assert_int_equal(b.u.entries_count, 3);
    bench_fini(&b);
}

static void test_g1_install_of_an_old_term_is_rejected_by_us(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    struct core_message m = {
        .type = CORE_MSG_INSTALL,
        .peer_id = 2,
        .term = 6,
        .install = {.snapshot = {.index = 50, .term = 6, .membership = members(3, 0)},
                    .descriptor = slice_str("descriptor")}};
    assert_int_equal(receive(&b, &m), 0);
    expect_rejection(&b, 2);
    assert_false(core_installing(b.core));
    bench_fini(&b);
}

static void test_g4_pre_vote_of_an_old_term_gets_our_term(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    struct core_message m = {
        .type = CORE_MSG_VOTE,
        .peer_id = 3,
        .term = 5,
        .vote = {.candidate_id = 3, .last_index = 9, .last_term = 4, .pre_vote = true}};
    assert_int_equal(receive(&b, &m), 0);
    assert_int_equal(b.u.message_count, 1);
    assert_int_equal(b.u.messages[0].type, CORE_MSG_VOTE_RESULT);
    assert_int_equal(b.u.messages[0].peer_id, 3);
    assert_int_equal(b.u.messages[0].term, 7);
    assert_false(b.u.messages[0].vote_result.granted);
    assert_true(b.u.messages[0].vote_result.pre_vote);
    assert_false(b.u.vote_changed);
    bench_fini(&b);
}

/* A grant of a pre-vote names a term that its candidate has not reached, and may never. */
static void grant(struct bench *b, uint64_t from, uint64_t term) {
    struct core_message m = {.type = CORE_MSG_VOTE_RESULT,
                             .peer_id = from,
                             .term = term,
                             .vote_result = {.granted = true, .pre_vote = true}};
    assert_int_equal(receive(b, &m), 0);
    assert_int_equal(b->u.message_count, 0);
    assert_false(b->u.vote_changed);
}

static void test_g8_a_late_result_of_a_vote_changes_no_term(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 8, 1, 1, 1, 1, 8), 0); /* a follower, of 2 */
    persisted(&b, 2);
    grant(&b, 3, 9);
    assert_int_equal(core_term(b.core), 8);
    assert_int_equal(core_leader_id(b.core), 2);
    bench_fini(&b);

    bench_init(&b, 3, 0, 7);
    become_leader(&b);
    uint64_t term = core_term(b.core);
    grant(&b, 3, term + 1);
    assert_int_equal(core_role(b.core), CORE_LEADER);
    assert_int_equal(core_term(b.core), term);
    bench_fini(&b);
}

/* ---- what goes in and comes out ---- */

static void test_sole_voter_leads_at_once(void **state) {
    struct bench b;
    bench_init(&b, 1, 0, 3);
    assert_int_equal(core_role(b.core), CORE_LEADER);
    assert_int_equal(core_leader_id(b.core), 1);
    assert_int_equal(submit(&b, CORE_COMMAND, "one"), 0);
    uint64_t index = b.u.entries_index;
    assert_int_equal(b.u.entries_count, 1);
    assert_int_equal(b.log.last_index, index);
    assert_true(slice_equal_str(memlog_get(&b.log, index)->body, "one"));
    assert_int_equal(memlog_get(&b.log, index)->chunk->refs, 1);
    assert_int_equal(memlog_term(&b.log, index), 3);
    assert_true(core_commit_index(b.core) < index);
    persisted(&b, index);
    assert_int_equal(core_commit_index(b.core), index);
    bench_fini(&b);
}

static void test_empty_entry_of_ours(void **state) {
    struct bench b;
    bench_init(&b, 1, 0, 3);
    assert_int_equal(submit(&b, CORE_BARRIER, ""), 0);
    assert_int_equal(b.u.entries_count, 1);
    const struct core_entry *e = memlog_get(&b.log, b.log.last_index);
    assert_int_equal(e->type, CORE_BARRIER);
    assert_int_equal(e->body.size, 0);
    bench_fini(&b);
}

static void test_election(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(core_role(b.core), CORE_FOLLOWER);
    b.now_ms = core_deadline_ms(b.core);
    assert_int_equal(core_timeout(b.core, b.now_ms, &b.u), 0);
    assert_false(b.u.vote_changed); /* a pre-vote costs no term */
    assert_int_equal(b.u.message_count, 2);
    for (int i = 0; i < 2; i++) {
        const struct core_message *m = &b.u.messages[i];
        assert_int_equal(m->type, CORE_MSG_VOTE);
        assert_int_equal(m->peer_id, 2 + i);
        assert_true(m->vote.pre_vote);
        assert_int_equal(m->term, 8);
        assert_int_equal(m->vote.candidate_id, 1);
        assert_int_equal(m->vote.last_index, 1);
        assert_int_equal(m->vote.last_term, 1);
    }
    vote_result(&b, 3, true);
    assert_true(b.u.vote_changed);
    assert_int_equal(b.u.term, 8);
    assert_int_equal(b.u.voted_for, 1);
    assert_int_equal(b.u.message_count, 2);
    assert_false(b.u.messages[0].vote.pre_vote);
    vote_result(&b, 3, false);
    assert_int_equal(core_role(b.core), CORE_LEADER);
    assert_int_equal(core_term(b.core), 8);
    assert_int_equal(b.u.messages[0].type, CORE_MSG_APPEND);
    bench_fini(&b);
}

/* A follower gives its pre-vote as soon as the leader was silent for the least election timeout,
 * not only when its own random time is up; and not before. */
static void test_a_silent_leader_is_not_held_on_to(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 0, 0), 0);
    assert_int_equal(core_leader_id(b.core), 2);
    uint64_t heard_ms = b.now_ms;
    assert_true(core_deadline_ms(b.core) > heard_ms + 300);
    struct core_message m = {
        .type = CORE_MSG_VOTE,
        .peer_id = 3,
        .term = 8,
        .vote = {.candidate_id = 3, .last_index = 1, .last_term = 1, .pre_vote = true}};
    b.now_ms = heard_ms + 299;
    assert_int_equal(receive(&b, &m), 0);
    assert_false(b.u.messages[0].vote_result.granted);
    assert_int_equal(core_leader_id(b.core), 2);
    b.now_ms = heard_ms + 300;
    assert_int_equal(receive(&b, &m), 0);
    assert_int_equal(b.u.message_count, 1);
    assert_true(b.u.messages[0].vote_result.granted);
    assert_false(b.u.vote_changed);
    assert_int_equal(core_role(b.core), CORE_FOLLOWER);
    assert_int_equal(core_leader_id(b.core), 0);
    /* It was only late: it leads on. */
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 0, 0), 0);
    assert_int_equal(core_leader_id(b.core), 2);
    b.now_ms += 300;
    m.vote.pre_vote = false;
    assert_int_equal(receive(&b, &m), 0);
    assert_true(b.u.messages[0].vote_result.granted);
    assert_int_equal(b.u.voted_for, 3);
    bench_fini(&b);
}

/* After a vote that nobody won the next one comes soon, also for who could not stand yet. */
static void test_a_candidate_tries_again_soon(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    for (int i = 0; i < 20; i++) {
        b.now_ms = core_deadline_ms(b.core);
        assert_int_equal(core_timeout(b.core, b.now_ms, &b.u), 0);
        assert_int_equal(b.u.message_count, 2);
        uint64_t wait_ms = core_deadline_ms(b.core) - b.now_ms;
        assert_in_range(wait_ms, 150, 300);
    }
    /* Its pre-vote is won, then nobody gets the votes. */
    vote_result(&b, 3, true);
    assert_int_equal(core_term(b.core), 8);
    assert_in_range(core_deadline_ms(b.core) - b.now_ms, 150, 300);
    /* As a follower it is patient again. */
    for (int i = 0; i < 20; i++) {
        b.now_ms += 10;
        assert_int_equal(append(&b, 2, 8, 1, 1, 1, 0, 0), 0);
        assert_in_range(core_deadline_ms(b.core) - b.now_ms, 300, 600);
    }
    bench_fini(&b);
}

static bool gives_pre_vote(struct bench *b, uint64_t to, uint64_t last_index) {
    struct core_message m = {
        .type = CORE_MSG_VOTE,
        .peer_id = to,
        .term = 8,
        .vote = {.candidate_id = to, .last_index = last_index, .last_term = 1, .pre_vote = true}};
    assert_int_equal(receive(b, &m), 0);
    assert_int_equal(b->u.message_count, 1);
    assert_int_equal(b->u.messages[0].type, CORE_MSG_VOTE_RESULT);
    assert_int_equal(b->u.messages[0].peer_id, to);
    assert_int_equal(b->u.messages[0].term, 8);
    assert_true(b->u.messages[0].vote_result.pre_vote);
    assert_false(b->u.vote_changed);
    return b->u.messages[0].vote_result.granted;
}

/* Of two that stand at one moment the one with the lower id goes first, but not for long. */
static void test_two_candidates_do_not_split_the_vote(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_true(gives_pre_vote(&b, 3, 1)); /* not a candidate yet */
    b.now_ms = core_deadline_ms(b.core);
    assert_int_equal(core_timeout(b.core, b.now_ms, &b.u), 0);
    b.now_ms += 74;
    assert_false(gives_pre_vote(&b, 3, 1));
    assert_true(gives_pre_vote(&b, 3, 2)); /* has what we have not */
    b.now_ms += 1;
    assert_true(gives_pre_vote(&b, 3, 1));
    /* Likewise when the election proper has begun. */
    vote_result(&b, 2, true);
    assert_int_equal(core_term(b.core), 8);
    assert_false(gives_pre_vote(&b, 3, 1));
    bench_fini(&b);
}

static void test_vote_is_remembered(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    core_free(b.core);
    start(&b, 7, 2, NULL);
    struct core_message m = {.type = CORE_MSG_VOTE,
                             .peer_id = 3,
                             .term = 7,
                             .vote = {.candidate_id = 3, .last_index = 9, .last_term = 6}};
    assert_int_equal(receive(&b, &m), 0);
    assert_int_equal(b.u.message_count, 1);
    assert_false(b.u.messages[0].vote_result.granted);
    m.peer_id = m.vote.candidate_id = 2;
    assert_int_equal(receive(&b, &m), 0);
    assert_int_equal(b.u.message_count, 1);
    assert_true(b.u.messages[0].vote_result.granted);
    bench_fini(&b);
}

/* The library makes the barrier of a new leader itself when entries are not known to be committed:
 * it comes in memory of the library's own. */
static void test_the_librarys_own_barrier(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 2, 7), 0);
    persisted(&b, 3);
    become_leader(&b);
    assert_int_equal(b.u.entries_index, 4);
    assert_int_equal(b.u.entries_count, 1);
    const struct core_entry *e = memlog_get(&b.log, 4);
    assert_int_equal(e->type, CORE_BARRIER);
    assert_int_equal(e->term, 8);
    assert_int_equal(e->body.size, 0);
    assert_null(e->chunk);
    bench_fini(&b);
}

static void test_received_entries_share_their_chunk(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 3, 7), 0);
    assert_int_equal(b.u.entries_index, 2);
    assert_int_equal(b.u.entries_count, 3);
    struct chunk *chunk = memlog_get(&b.log, 2)->chunk;
    assert_int_equal(chunk->refs, 3);
    assert_ptr_equal(memlog_get(&b.log, 4)->chunk, chunk);
    assert_true(slice_equal_str(memlog_get(&b.log, 3)->body, "bbbbbbbb"));
    assert_int_equal(b.u.message_count, 0); /* nothing is acknowledged that is not durable */
    persisted(&b, 4);
    assert_int_equal(b.u.message_count, 1);
    assert_int_equal(b.u.messages[0].type, CORE_MSG_APPEND_RESULT);
    assert_int_equal(b.u.messages[0].append_result.rejected, 0);
    assert_int_equal(b.u.messages[0].append_result.last_index, 4);
    bench_fini(&b);
}

static void test_known_entries_come_back_once(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 3, 7), 0);
    persisted(&b, 4);
    /* All of them known: the library frees the batch. */
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 3, 7), 0);
    assert_int_equal(b.u.entries_count, 0);
    /* Two known, two new. */
    assert_int_equal(append(&b, 2, 7, 2, 7, 1, 4, 7), 0);
    assert_int_equal(b.u.entries_index, 5);
    assert_int_equal(b.u.entries_count, 2);
    assert_int_equal(memlog_get(&b.log, 5)->chunk->refs, 2);
    assert_true(slice_equal_str(memlog_get(&b.log, 5)->body, "cccccccc"));
    /* None fits: there is a gap. */
    assert_int_equal(append(&b, 2, 7, 9, 7, 1, 2, 7), 0);
    assert_int_equal(b.u.entries_count, 0);
    assert_int_equal(b.u.messages[0].append_result.rejected, 9);
    bench_fini(&b);
}

static void test_conflicting_tail_is_replaced(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 4, 7), 0);
    persisted(&b, 5);
    assert_int_equal(append(&b, 3, 8, 3, 7, 1, 1, 8), 0);
    assert_true(b.u.vote_changed);
    assert_int_equal(b.u.term, 8);
    assert_int_equal(b.u.entries_index, 4);
    assert_int_equal(b.u.entries_count, 1);
    assert_int_equal(core_last_index(b.core), 4);
    assert_int_equal(b.log.last_index, 4);
    assert_int_equal(memlog_term(&b.log, 4), 8);
    bench_fini(&b);
}

static void test_leader_replicates_and_commits(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    become_leader(&b);
    struct core_message ack = {.type = CORE_MSG_APPEND_RESULT,
                               .peer_id = 2,
                               .term = 8,
                               .append_result = {.last_index = b.log.last_index}};
    assert_int_equal(receive(&b, &ack), 0); /* probing ends */
    assert_int_equal(submit(&b, CORE_COMMAND, "x"), 0);
    uint64_t index = b.log.last_index;
    bool sent = false;
    for (uint32_t i = 0; i < b.u.message_count; i++)
        sent |= b.u.messages[i].type == CORE_MSG_APPEND && b.u.messages[i].peer_id == 2 &&
                b.u.messages[i].append.count > 0;
    assert_true(sent); /* before our own write is durable */
    ack.append_result.last_index = index;
    assert_int_equal(receive(&b, &ack), 0);
    assert_true(core_commit_index(b.core) < index); /* it counts itself only when durable */
    persisted(&b, index);
    assert_int_equal(core_commit_index(b.core), index);
    assert_int_equal(core_match_index(b.core, 2), index);
    assert_int_equal(core_match_index(b.core, 99), 0);
    bench_fini(&b);
}

/* ---- codes ---- */

static void answer(struct bench *b, uint64_t from, uint64_t rejected, uint64_t last_index) {
    struct core_message m = {.type = CORE_MSG_APPEND_RESULT,
                             .peer_id = from,
                             .term = core_term(b->core),
                             .append_result = {.rejected = rejected, .last_index = last_index}};
    assert_int_equal(receive(b, &m), 0);
}

/* The most entries that a message to `to` holds within the next heartbeats. */
static uint32_t entries_sent_to(struct bench *b, uint64_t to) {
    uint32_t most = 0;
    for (int i = 0; i < 3; i++) {
        b->now_ms = core_deadline_ms(b->core);
        assert_int_equal(core_timeout(b->core, b->now_ms, &b->u), 0);
        for (uint32_t k = 0; k < b->u.message_count; k++)
            if (b->u.messages[k].peer_id == to && b->u.messages[k].type == CORE_MSG_APPEND &&
                b->u.messages[k].append.count > most)
                most = b->u.messages[k].append.count;
        answer(b, 3, 0, core_last_index(b->core));
    }
    return most;
}

static void test_an_overtaken_rejection_is_dropped(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    become_leader(&b);
    assert_int_equal(submit(&b, CORE_COMMAND, "x"), 0);
    uint64_t last = core_last_index(b.core);
    persisted(&b, last);
    answer(&b, 2, 0, last);
    answer(&b, 3, 0, last);
    /* Nothing of 2 for so long that it is probed again. */
    for (int i = 0; i < 15; i++)
        (void)entries_sent_to(&b, 2);
    assert_int_equal(core_role(b.core), CORE_LEADER);
    answer(&b, 2, last, last - 1);
    assert_int_equal(submit(&b, CORE_COMMAND, "y"), 0);
    assert_int_equal(entries_sent_to(&b, 2), 1);
    bench_fini(&b);
}

static void test_what_was_compacted_is_not_rejected(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 7, 1, 1, 8, 9, 7), 0);
    persisted(&b, 10);
    const struct core_snapshot s = {
        .index = 8, .term = 7, .membership_index = 1, .membership = members(3, 0)};
    assert_int_equal(core_snapshot_taken(b.core, b.now_ms, &s, 2, &b.u), 0);
    assert_int_equal(append(&b, 2, 7, 4, 7, 8, 0, 7), 0);
    assert_int_equal(b.u.message_count, 1);
    assert_int_equal(b.u.messages[0].append_result.rejected, 0);
    assert_int_equal(b.u.messages[0].append_result.last_index, 8);
    /* What we do not have, or have otherwise, is rejected as before. */
    assert_int_equal(append(&b, 2, 7, 12, 7, 8, 0, 7), 0);
    assert_int_equal(b.u.messages[0].append_result.rejected, 12);
    assert_int_equal(append(&b, 2, 7, 9, 6, 8, 0, 7), 0);
    assert_int_equal(b.u.messages[0].append_result.rejected, 9);
    bench_fini(&b);
}

/* G3: the library's commit index went back behind our snapshot. */
static void test_what_a_snapshot_holds_is_committed(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 7, 1, 1, 3, 9, 7), 0);
    persisted(&b, 10);
    assert_int_equal(core_commit_index(b.core), 3);
    const struct core_snapshot s = {
        .index = 8, .term = 7, .membership_index = 1, .membership = members(3, 0)};
    assert_int_equal(core_snapshot_taken(b.core, b.now_ms, &s, 2, &b.u), 0);
    assert_int_equal(append(&b, 2, 7, 4, 7, 3, 0, 7), 0);
    assert_int_equal(b.u.message_count, 1);
    assert_int_equal(b.u.messages[0].append_result.rejected, 0);
    assert_int_equal(b.u.messages[0].append_result.last_index, 8);
    bench_fini(&b);
}

static void test_follower_takes_no_entries(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(submit(&b, CORE_COMMAND, "x"), CORE_NOT_LEADER);
    assert_int_equal(b.u.entries_count, 0);
    assert_int_equal(core_catch_up(b.core, b.now_ms, 2, &b.u), CORE_NOT_LEADER);
    assert_int_equal(core_transfer(b.core, b.now_ms, 2, &b.u), CORE_NOT_LEADER);
    assert_int_equal(core_match_index(b.core, 2), 0);
    assert_false(core_transferring(b.core));
    bench_fini(&b);
}

static void test_one_membership_at_a_time(void **state) {
    struct bench b;
    bench_init(&b, 1, 0, 3);
    struct membership two = members(1, 1), three = members(1, 2), got;
    assert_int_equal(submit_membership(&b, &two), 0);
    uint64_t index = b.log.last_index;
    assert_int_equal(core_membership_uncommitted_index(b.core), index);
    assert_int_equal(submit_membership(&b, &three), CORE_BUSY);
    persisted(&b, index);
    assert_int_equal(core_commit_index(b.core), index);
    assert_int_equal(core_membership_applied(b.core, b.now_ms, index, &two, &b.u), 0);
    assert_int_equal(core_membership_uncommitted_index(b.core), 0);
    core_membership(b.core, &got);
    assert_int_equal(got.count, 2);
    assert_int_equal(core_voters(b.core, false), 1);
    assert_true(core_is_voter(b.core, 1));
    assert_false(core_is_voter(b.core, 2));
    assert_int_equal(submit_membership(&b, &three), 0);
    bench_fini(&b);
}

static void test_catch_up(void **state) {
    struct bench b;
    bench_init(&b, 1, 1, 3);
    assert_int_equal(core_catch_up_state(b.core, 2), CORE_CATCH_UP_NONE);
    /* The library would crash. */
    assert_int_equal(core_catch_up(b.core, b.now_ms, 99, &b.u), CORE_BUSY);
    assert_int_equal(core_catch_up(b.core, b.now_ms, 1, &b.u), CORE_BUSY);
    assert_int_equal(b.u.message_count, 0);
    assert_int_equal(core_catch_up(b.core, b.now_ms, 2, &b.u), 0);
    assert_true(core_catch_up_running(b.core));
    assert_int_equal(core_catch_up_state(b.core, 2), CORE_CATCH_UP_RUNNING);
    assert_int_equal(core_catch_up_state(b.core, 7), CORE_CATCH_UP_NONE);
    bench_fini(&b);
}

static void test_transfer(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    become_leader(&b);
    assert_int_equal(core_transfer(b.core, b.now_ms, 99, &b.u), CORE_BUSY);
    assert_int_equal(core_transfer(b.core, b.now_ms, 2, &b.u), 0);
    assert_true(core_transferring(b.core));
    assert_int_equal(core_transfer(b.core, b.now_ms, 3, &b.u), CORE_NOT_LEADER);
    bench_fini(&b);
}

/* G7: a committed entry that a leader wants to replace means that something is broken beyond
 * repair. */
static void test_g7_conflict_with_a_committed_entry_is_fatal(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    assert_int_equal(append(&b, 2, 7, 1, 1, 1, 3, 7), 0);
    persisted(&b, 4);
    assert_int_equal(append(&b, 2, 7, 4, 7, 4, 0, 0), 0);
    assert_int_equal(core_commit_index(b.core), 4);
    assert_int_equal(append(&b, 3, 8, 1, 1, 1, 2, 8), -EPROTO);
    bench_fini(&b);
}

/* ---- snapshots ---- */

static void test_start_from_a_snapshot(void **state) {
    struct bench b = {0};
    log_set_level((enum log_level)(LOG_ERROR + 1));
    memlog_init(&b.log);
    memlog_reset(&b.log, 101, 5);
    const struct core_snapshot s = {
        .index = 100, .term = 5, .membership_index = 40, .membership = members(3, 1)};
    start(&b, 6, 0, &s);
    assert_int_equal(core_last_index(b.core), 100);
    assert_int_equal(core_commit_index(b.core), 100);
    struct membership m;
    core_membership(b.core, &m);
    assert_int_equal(m.count, 4);
    assert_string_equal(m.members[3].address, "s4:1");
    assert_int_equal(append(&b, 2, 6, 100, 5, 100, 2, 6), 0);
    assert_int_equal(b.u.entries_index, 101);
    bench_fini(&b);
}

static void test_take_a_snapshot(void **state) {
    struct bench b;
    bench_init(&b, 1, 0, 3);
    for (int i = 0; i < 10; i++)
        assert_int_equal(submit(&b, CORE_COMMAND, "x"), 0);
    uint64_t last = b.log.last_index;
    persisted(&b, last);
    const struct core_snapshot s = {
        .index = last, .term = 3, .membership_index = 1, .membership = members(1, 0)};
    assert_int_equal(core_snapshot_taken(b.core, b.now_ms, &s, 4, &b.u), 0);
    assert_int_equal(core_last_index(b.core), last);
    assert_int_equal(submit(&b, CORE_COMMAND, "y"), 0);
    assert_int_equal(b.u.entries_index, last + 1);
    bench_fini(&b);
}

static void test_install_a_snapshot(void **state) {
    struct bench b;
    bench_init(&b, 3, 0, 7);
    struct core_message m = {.type = CORE_MSG_INSTALL,
                             .peer_id = 2,
                             .term = 7,
                             .install = {.snapshot = {.index = 50,
                                                      .term = 6,
                                                      .membership_index = 30,
                                                      .membership = members(3, 1)},
                                         .descriptor = slice_str("descriptor")}};
    assert_int_equal(receive(&b, &m), 0);
    assert_true(b.u.install);
    assert_true(core_installing(b.core));
    assert_int_equal(b.u.snapshot.index, 50);
    assert_int_equal(b.u.snapshot.term, 6);
    assert_int_equal(b.u.snapshot.membership_index, 30);
    assert_int_equal(b.u.snapshot.membership.count, 4);
    assert_true(slice_equal_str(b.u.descriptor, "descriptor"));
    assert_int_equal(core_leader_id(b.core), 2);
    struct core_snapshot s = b.u.snapshot;
    /* Another one meanwhile is ignored, and freed: the leak checker looks. */
    assert_int_equal(receive(&b, &m), 0);
    assert_false(b.u.install);
    assert_int_equal(b.u.message_count, 0);
    memlog_reset(&b.log, 51, 6);
    assert_int_equal(core_snapshot_installed(b.core, b.now_ms, &s, &b.u), 0);
    assert_false(core_installing(b.core));
    assert_int_equal(core_last_index(b.core), 50);
    assert_int_equal(b.u.message_count, 1);
    assert_int_equal(b.u.messages[0].type, CORE_MSG_APPEND_RESULT);
    assert_int_equal(b.u.messages[0].append_result.last_index, 50);
    assert_int_equal(append(&b, 2, 7, 50, 6, 50, 1, 7), 0);
    assert_int_equal(b.u.entries_index, 51);
    bench_fini(&b);
}

/* ---- memberships as bytes ---- */

static void test_membership_encoding(void **state) {
    struct membership in = {.count = MEMBERS_MAX}, out;
    for (uint32_t i = 0; i < in.count; i++) {
        struct member *m = &in.members[i];
        m->id = 1000 + i;
        m->role = (enum member_role)(i % 3);
        memset(m->address, 'a', MEMBER_ADDRESS_BYTES_MAX - 1);
        m->address[i] = 'b'; /* no two may be the same */
    }
    struct buf b = {0};
    membership_encode(&in, &b);
    assert_true(membership_decode(buf_slice(&b), &out));
    assert_int_equal(out.count, in.count);
    assert_int_equal(membership_voters(&out), membership_voters(&in));
    for (uint32_t i = 0; i < in.count; i++) {
        assert_int_equal(out.members[i].id, in.members[i].id);
        assert_int_equal(out.members[i].role, in.members[i].role);
        assert_string_equal(out.members[i].address, in.members[i].address);
    }
    assert_non_null(membership_find(&out, 1003));
    assert_null(membership_find(&out, 3));
    assert_true(membership_is_voter(&out, 1001));
    assert_false(membership_is_voter(&out, 1000));
    assert_false(membership_is_voter(&out, 3));
    buf_fini(&b);
}

int main(int argc, char **argv) {
    plant_by_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_g1_append_of_an_old_term_is_rejected_by_us),
        cmocka_unit_test(test_g1_install_of_an_old_term_is_rejected_by_us),
        cmocka_unit_test(test_g4_pre_vote_of_an_old_term_gets_our_term),
        cmocka_unit_test(test_g8_a_late_result_of_a_vote_changes_no_term),
        cmocka_unit_test(test_sole_voter_leads_at_once),
        cmocka_unit_test(test_empty_entry_of_ours),
        cmocka_unit_test(test_election),
        cmocka_unit_test(test_a_silent_leader_is_not_held_on_to),
        cmocka_unit_test(test_a_candidate_tries_again_soon),
        cmocka_unit_test(test_two_candidates_do_not_split_the_vote),
        cmocka_unit_test(test_vote_is_remembered),
        cmocka_unit_test(test_the_librarys_own_barrier),
        cmocka_unit_test(test_received_entries_share_their_chunk),
        cmocka_unit_test(test_known_entries_come_back_once),
        cmocka_unit_test(test_conflicting_tail_is_replaced),
        cmocka_unit_test(test_leader_replicates_and_commits),
        cmocka_unit_test(test_an_overtaken_rejection_is_dropped),
        cmocka_unit_test(test_what_was_compacted_is_not_rejected),
        cmocka_unit_test(test_what_a_snapshot_holds_is_committed),
        cmocka_unit_test(test_follower_takes_no_entries),
        cmocka_unit_test(test_one_membership_at_a_time),
        cmocka_unit_test(test_catch_up),
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_g7_conflict_with_a_committed_entry_is_fatal),
        cmocka_unit_test(test_start_from_a_snapshot),
        cmocka_unit_test(test_take_a_snapshot),
        cmocka_unit_test(test_install_a_snapshot),
        cmocka_unit_test(test_membership_encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
