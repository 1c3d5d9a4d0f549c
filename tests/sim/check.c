/* What must hold after every event. */
#include <stdlib.h>

#include "replica/memlog.h"
#include "sim.h"

enum { INDEXES_MAX = 60000, TERMS_MAX = 20000 };
static struct {
    uint64_t term, hash;
    struct hash128 digest;
    uint64_t seen_term; /* the highest term in which it was seen committed first */
    bool known, digest_known;
} committed[INDEXES_MAX];
static uint64_t committed_last;
static uint64_t leader_of[TERMS_MAX];
static uint64_t term_last;

/* Log matching (Raft figure 3.2): what two logs hold at the same index and term is the same, and so
 * is what precedes. */
static struct { uint64_t term, hash, before; } seen[INDEXES_MAX][4];

void check_reset(void) {
    memset(committed, 0, sizeof committed[0] * (committed_last + 2));
    memset(seen, 0, sizeof seen[0] * (committed_last + 2));
    memset(leader_of, 0, sizeof leader_of[0] * (term_last + 2));
    committed_last = term_last = 0;
}

uint64_t check_last_index(void) {
    return committed_last;
}

uint64_t check_committed_term(uint64_t index) {
    return index < INDEXES_MAX && committed[index].known ? committed[index].term : 0;
}

static void check_completeness(struct server *s);

static void check_leader(struct server *s) {
    if (!node_is_leader(s->node))
        return;
    uint64_t term = node_term(s->node);
    if (term >= TERMS_MAX)
        sim_violation("terms run away: %llu", (unsigned long long)term);
    if (term > term_last)
        term_last = term;
    if (leader_of[term] == 0) {
        leader_of[term] = s->node_id;
        stats.elections++;
        sim_trace("s%d leads term %llu", s->index, (unsigned long long)term);
        check_completeness(s);
    } else if (leader_of[term] != s->node_id) {
        sim_violation("two leaders in term %llu: %llu and %llu", (unsigned long long)term,
                      (unsigned long long)leader_of[term], (unsigned long long)s->node_id);
    }
}

/* What a leader calls committed is flushed on a majority of the voters. Of those that are down we
 * cannot know. */
static void check_durable(struct server *s, uint64_t index, uint64_t term) {
    struct membership m;
    if (!node_is_leader(s->node) || node_term(s->node) != term)
        return;
    node_membership(s->node, &m);
    uint32_t have = 0;
    for (uint32_t i = 0; i < m.count; i++) {
        const struct server *voter = server_at(m.members[i].address);
        if (m.members[i].role != MEMBER_VOTER)
            continue;
        have += !voter->node || voter->node_id != m.members[i].id ||
                node_has_durable(voter->node, index, term);
    }
    if (have <= membership_voters(&m) / 2)
        sim_violation("s%d calls %llu committed, which only %u of %u voters have on disk", s->index,
                      (unsigned long long)index, have, membership_voters(&m));
}

static void check_committed(struct server *s) {
    const struct memlog *log = node_memlog(s->node);
    uint64_t commit = node_commit_index(s->node);
    if (commit < s->highest_commit)
        sim_violation("s%d commit index went back from %llu to %llu", s->index,
                      (unsigned long long)s->highest_commit, (unsigned long long)commit);
    s->highest_commit = commit;
    uint64_t from = s->seen_commit + 1 < log->first_index ? log->first_index : s->seen_commit + 1;
    for (uint64_t i = from; i <= commit && i <= log->last_index; i++) {
        const struct core_entry *e = memlog_get(log, i);
        uint64_t hash = hash64(e->body, (uint64_t)e->type);
        check_durable(s, i, e->term);
        if (i >= INDEXES_MAX)
            sim_violation("the log is too long for the simulator");
        if (!committed[i].known) {
            committed[i].known = true;
            committed[i].term = e->term;
            committed[i].hash = hash;
            committed[i].seen_term = node_term(s->node);
            if (i > committed_last)
                committed_last = i;
        } else if (committed[i].term != e->term || committed[i].hash != hash) {
            sim_violation("s%d committed another entry at %llu: term %llu, was %llu", s->index,
                          (unsigned long long)i, (unsigned long long)e->term,
                          (unsigned long long)committed[i].term);
        }
    }
    if (commit <= log->last_index && commit > s->seen_commit)
        s->seen_commit = commit;
}

static void check_digest(struct server *s) {
    uint64_t applied = node_applied_index(s->node);
    if ((applied == s->seen_applied && !s->misapplied) || applied >= INDEXES_MAX)
        return;
    if (applied < s->seen_applied && node_health(s->node) == HEALTH_SOUND)
        sim_violation("s%d applied index went back from %llu to %llu", s->index,
                      (unsigned long long)s->seen_applied, (unsigned long long)applied);
    s->seen_applied = applied;
    if (s->damaged) /* by us: its node has to find that out by itself */
        return;
    struct hash128 digest = store_digest(node_store(s->node));
    if (s->misapplied) {
        /* It may have been repeated, and then changed nothing; or was lost with its process. */
        s->misapplied =
            !committed[applied].digest_known || !hash128_equal(committed[applied].digest, digest);
        return;
    }
    if (applied > committed_last)
        committed_last = applied;
    if (!committed[applied].digest_known) {
        committed[applied].digest_known = true;
        committed[applied].digest = digest;
    } else if (!hash128_equal(committed[applied].digest, digest)) {
        sim_violation("s%d digest differs at %llu", s->index, (unsigned long long)applied);
    }
}

static void check_entry(struct server *s, const struct memlog *log, uint64_t i) {
    const struct core_entry *e = memlog_get(log, i);
    uint64_t hash = hash64(e->body, (uint64_t)e->type) | 1, before = memlog_term(log, i - 1);
    for (int k = 0; k < 4; k++) {
        if (seen[i][k].hash == 0) {
            seen[i][k].term = e->term;
            seen[i][k].hash = hash;
            seen[i][k].before = before;
            return;
        }
        if (seen[i][k].term != e->term)
            continue;
        if (seen[i][k].hash != hash ||
            (before != 0 && seen[i][k].before != 0 && before != seen[i][k].before))
            sim_violation(
                "s%d log matching is broken at %llu, term %llu: %s, %llu before, was %llu",
                s->index, (unsigned long long)i, (unsigned long long)e->term,
                seen[i][k].hash != hash ? "another entry" : "the same entry",
                (unsigned long long)before, (unsigned long long)seen[i][k].before);
        return;
    }
}

/* The core goes by the last membership in its log, committed or not; the core tells its own only
 * while it runs. */
static void check_membership(struct server *s, const struct memlog *log) {
    struct membership ours, written;
    node_membership(s->node, &ours);
    if (ours.count == 0)
        return;
    s->membership_seen = true;
    uint64_t at = log->last_index;
    while (at >= log->first_index && memlog_get(log, at)->type != CORE_MEMBERSHIP)
        at--;
    if (at < log->first_index)
        return; /* it stands in the snapshot */
    CHECK(membership_decode(memlog_get(log, at)->body, &written));
    bool same = ours.count == written.count;
    for (uint32_t i = 0; same && i < ours.count; i++)
        same = ours.members[i].id == written.members[i].id &&
               ours.members[i].role == written.members[i].role;
    if (!same)
        sim_violation("s%d works with a membership of %u, its log says %u at %llu", s->index,
                      ours.count, written.count, (unsigned long long)at);
}

static void check_log(struct server *s) {
    const struct memlog *log = node_memlog(s->node);
    if (log->last_index >= INDEXES_MAX)
        sim_violation("the log is too long for the simulator");
    if (log->last_index > committed_last)
        committed_last = log->last_index;
    uint64_t from = s->seen_last + 1;
    if (from > log->last_index + 1 || memlog_term(log, s->seen_last) != s->seen_last_term)
        from = log->first_index; /* it was cut: look at all of it */
    if (from <= s->seen_last)
        s->membership_seen = false;
    for (uint64_t i = from < log->first_index ? log->first_index : from; i <= log->last_index;
         i++) {
        check_entry(s, log, i);
        if (memlog_get(log, i)->type == CORE_MEMBERSHIP)
            s->membership_seen = false;
    }
    if (!s->membership_seen)
        check_membership(s, log);
    s->seen_last = log->last_index;
    s->seen_last_term = memlog_term(log, log->last_index);
}

/* A new leader has everything that was ever committed (Raft figure 3.2). */
static void check_completeness(struct server *s) {
    const struct memlog *log = node_memlog(s->node);
    for (uint64_t i = log->first_index; i <= committed_last; i++)
        if (committed[i].known && committed[i].seen_term < node_term(s->node) &&
            memlog_term(log, i) != committed[i].term)
            sim_violation("s%d leads term %llu without committed entry %llu", s->index,
                          (unsigned long long)node_term(s->node), (unsigned long long)i);
}

void check_server(struct server *s) {
    check_leader(s);
    check_log(s);
    check_committed(s);
    check_digest(s);
}

/* All members have applied the same; those that died for good are no voters any more. */
bool check_converged(void) {
    struct server *leader = server_leader();
    if (!leader)
        return false;
    struct membership m;
    node_membership(leader->node, &m);
    uint64_t applied = node_applied_index(leader->node);
    if (applied != node_commit_index(leader->node))
        return false;
    for (uint32_t i = 0; i < m.count; i++) {
        struct server *s = server_at(m.members[i].address);
        if (s->node_id != m.members[i].id || s->dead_for_good) {
            if (m.members[i].role == MEMBER_VOTER && !sim.minority_down)
                return false;
            continue;
        }
        if (!s->node || node_applied_index(s->node) != applied)
            return false;
    }
    return true;
}
