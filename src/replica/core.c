#include "replica/core.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <raft.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/plant.h"
#include "base/reader.h"

#if RAFT_VERSION_NUMBER != 2201
#error                                                                                             \
    "libraft 0.22.1 is needed: 0.15 loses acknowledged writes, later versions changed who owns what"
#endif

/* The features we announce in answers that we give in the library's place: those of 0.22. */
enum { CORE_FEATURES = 1, CORE_CAPACITY = 1024 };

struct core {
    struct raft raft;
    bool initialised;
    struct raft_configuration start_configuration;
    /* What an update points to; valid until the next step. */
    struct core_entry *entries;
    uint32_t entries_capacity;
    struct core_message *messages;
    uint32_t messages_capacity;
    struct raft_entry *raft_entries;
    uint32_t raft_entries_capacity;
    struct chunk *submitted; /* the chunk of the entry being submitted, NULL otherwise */
    bool appending;          /* an AppendEntries is being received */
    struct buf descriptor;
};

/* ---- chunks: allocated as the library allocates, since it frees what it does not keep ---- */

struct chunk *chunk_new(size_t bytes) {
    struct chunk *c = raft_malloc(sizeof *c + bytes);
    CHECK(c != NULL);
    *c = (struct chunk){.refs = 1};
    return c;
}

struct chunk *chunk_ref(struct chunk *c) {
    if (c)
        c->refs++;
    return c;
}

void chunk_unref(struct chunk *c) {
    if (c && --c->refs == 0)
        raft_free(c);
}

/* ---- membership ---- */

const struct member *membership_find(const struct membership *m, uint64_t id) {
    for (uint32_t i = 0; i < m->count; i++)
        if (m->members[i].id == id)
            return &m->members[i];
    return NULL;
}

bool membership_is_voter(const struct membership *m, uint64_t id) {
    const struct member *member = membership_find(m, id);
    return member && member->role == MEMBER_VOTER;
}

uint32_t membership_voters(const struct membership *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->count; i++)
        n += m->members[i].role == MEMBER_VOTER;
    return n;
}

static_assert((int)MEMBER_LEARNER == RAFT_STANDBY && (int)MEMBER_VOTER == RAFT_VOTER &&
                  (int)MEMBER_JOINING == RAFT_SPARE,
              "roles are the library's");
static_assert((int)CORE_COMMAND == RAFT_COMMAND && (int)CORE_BARRIER == RAFT_BARRIER &&
                  (int)CORE_MEMBERSHIP == RAFT_CHANGE,
              "entry types are the library's");

static void configuration_from(const struct membership *m, struct raft_configuration *ret) {
    raft_configuration_init(ret);
    for (uint32_t i = 0; i < m->count; i++)
        CHECK(raft_configuration_add(ret, m->members[i].id, m->members[i].address,
                                     (int)m->members[i].role) == 0);
}

static bool configuration_to(const struct raft_configuration *c, struct membership *ret) {
    if (c->n > MEMBERS_MAX)
        return false;
    ret->count = c->n;
    for (unsigned i = 0; i < c->n; i++) {
        struct member *m = &ret->members[i];
        size_t size = strlen(c->servers[i].address);
        if (size >= sizeof m->address)
            return false;
        m->id = c->servers[i].id;
        m->role = (enum member_role)c->servers[i].role;
        memset(m->address, 0, sizeof m->address);
        memcpy(m->address, c->servers[i].address, size);
    }
    return true;
}

void membership_encode(const struct membership *m, struct buf *out) {
    struct raft_configuration c;
    struct raft_buffer encoded;
    configuration_from(m, &c);
    CHECK(raft_configuration_encode(&c, &encoded) == 0);
    buf_append(out, encoded.base, encoded.len);
    raft_free(encoded.base);
    raft_configuration_close(&c);
}

/* The library's decoder reads past the end of what is cut off, so this one is ours:
 *
 *   u8 version (1) | u64 count | count x (u64 id | address, NUL | u8 role) | zeros up to 8 bytes
 */
static bool member_decode(struct reader *r, const struct membership *before, struct member *ret) {
    ret->id = reader_u64(r);
    const uint8_t *end = reader_ok(r) ? memchr(r->at, 0, reader_left(r)) : NULL;
    size_t size = end ? (size_t)(end - r->at) : 0;
    if (size == 0 || size >= sizeof ret->address || ret->id == 0 ||
        membership_find(before, ret->id))
        return false;
    memset(ret->address, 0, sizeof ret->address);
    memcpy(ret->address, reader_take(r, size + 1), size);
    uint8_t role = reader_u8(r);
    ret->role = (enum member_role)role;
    for (uint32_t i = 0; i < before->count; i++)
        if (strcmp(before->members[i].address, ret->address) == 0)
            return false;
    return reader_ok(r) && role <= MEMBER_JOINING;
}

bool membership_decode(struct slice in, struct membership *ret) {
    struct reader r = reader_of(in);
    uint8_t version = reader_u8(&r);
    uint64_t count = reader_u64(&r);
    if (version != 1 || count == 0 || count > MEMBERS_MAX || in.size % 8 != 0)
        return false;
    struct membership m = {0};
    for (; m.count < count; m.count++)
        if (!member_decode(&r, &m, &m.members[m.count]))
            return false;
    if (reader_left(&r) >= 8)
        return false;
    while (reader_left(&r) > 0)
        if (reader_u8(&r) != 0)
            return false;
    *ret = m;
    return true;
}

/* ---- life ---- */

struct core *core_new(const struct core_options *o) {
    struct core *c = xcalloc(1, sizeof *c);
    CHECK(raft_init(&c->raft, NULL, NULL, o->id, o->address) == 0);
    c->raft.tracer = NULL; /* the default one formats every line */
    raft_seed(&c->raft, o->seed);
    raft_set_election_timeout(&c->raft, o->election_timeout_ms);
    raft_set_heartbeat_timeout(&c->raft, o->heartbeat_ms);
    raft_set_install_snapshot_timeout(&c->raft, o->install_timeout_ms);
    raft_set_pre_vote(&c->raft, true);
    raft_set_max_inflight_entries(&c->raft, o->entries_inflight_max);
    raft_set_max_catch_up_round_duration(&c->raft, 1000);
    return c;
}

void core_free(struct core *c) {
    if (!c)
        return;
    raft_close(&c->raft, NULL);
    free(c->entries);
    free(c->messages);
    free(c->raft_entries);
    buf_fini(&c->descriptor);
    free(c);
}

/* ---- updates ---- */

static bool message_from_raft(const struct raft_message *in, struct core_message *out) {
    core_message_clear(out);
    out->type = (enum core_message_type)in->type;
    out->peer_id = in->server_id;
    switch (in->type) {
    case RAFT_APPEND_ENTRIES:
        out->term = in->append_entries.term;
        out->append.prev_index = in->append_entries.prev_log_index;
        out->append.prev_term = in->append_entries.prev_log_term;
        out->append.commit = in->append_entries.leader_commit;
        out->append.count = in->append_entries.n_entries;
        return true;
    case RAFT_APPEND_ENTRIES_RESULT:
        out->term = in->append_entries_result.term;
        out->append_result.rejected = in->append_entries_result.rejected;
        out->append_result.last_index = in->append_entries_result.last_log_index;
        return true;
    case RAFT_REQUEST_VOTE:
        out->term = in->request_vote.term;
        out->vote.candidate_id = in->request_vote.candidate_id;
        out->vote.last_index = in->request_vote.last_log_index;
        out->vote.last_term = in->request_vote.last_log_term;
        out->vote.disrupt_leader = in->request_vote.disrupt_leader;
        out->vote.pre_vote = in->request_vote.pre_vote;
        return true;
    case RAFT_REQUEST_VOTE_RESULT:
        out->term = in->request_vote_result.term;
        out->vote_result.granted = in->request_vote_result.vote_granted;
        out->vote_result.pre_vote = in->request_vote_result.pre_vote;
        return true;
    case RAFT_INSTALL_SNAPSHOT:
        out->term = in->install_snapshot.term;
        out->install.snapshot.index = in->install_snapshot.last_index;
        out->install.snapshot.term = in->install_snapshot.last_term;
        return true;
    case RAFT_TIMEOUT_NOW:
        out->term = in->timeout_now.term;
        out->timeout_now.last_index = in->timeout_now.last_log_index;
        out->timeout_now.last_term = in->timeout_now.last_log_term;
        return true;
    }
    return false;
}

static struct core_message *messages_reserve(struct core *c, uint32_t count) {
    if (count > c->messages_capacity) {
        c->messages = xrealloc(c->messages, count * sizeof c->messages[0]);
        c->messages_capacity = count;
    }
    return c->messages;
}

/* Entries that the library made itself (the barrier of a new leader) come in memory of its own. */
static bool entries_are_ours(const struct core *c, const struct raft_update *u) {
    return c->appending || (c->submitted && u->entries.batch[0].batch == c->submitted);
}

static void entries_from_raft(struct core *c, const struct raft_update *u,
                              struct core_update *ret) {
    uint32_t n = u->entries.n;
    if (n > c->entries_capacity) {
        c->entries = xrealloc(c->entries, n * sizeof c->entries[0]);
        c->entries_capacity = n;
    }
    bool ours = entries_are_ours(c, u);
    struct chunk *chunk = ours ? u->entries.batch[0].batch : NULL;
    if (chunk)
        chunk->refs = n;
    for (uint32_t i = 0; i < n; i++) {
        const struct raft_entry *e = &u->entries.batch[i];
        c->entries[i] = (struct core_entry){
            .term = e->term,
            .type = (enum core_entry_type)e->type,
            .body = ours ? slice_of(e->buf.base, e->buf.len) : slice_of(NULL, 0),
            .chunk = chunk,
        };
    }
    if (!ours) {
        CHECK(n == 1 && u->entries.batch[0].type == RAFT_BARRIER);
        raft_free(u->entries.batch[0].batch);
    }
    ret->entries_index = u->entries.index;
    ret->entries_count = n;
    ret->entries = c->entries;
}

static int install_from_raft(struct core *c, struct raft_update *u, struct core_update *ret) {
    struct raft_snapshot_metadata *meta = &u->snapshot.metadata;
    buf_reset(&c->descriptor);
    buf_append(&c->descriptor, u->snapshot.chunk.base, u->snapshot.chunk.len);
    ret->install = true;
    ret->descriptor = buf_slice(&c->descriptor);
    ret->snapshot.index = meta->index;
    ret->snapshot.term = meta->term;
    ret->snapshot.membership_index = meta->configuration_index;
    bool ok = configuration_to(&meta->configuration, &ret->snapshot.membership);
    raft_free(u->snapshot.chunk.base);
    raft_configuration_close(&meta->configuration);
    return ok ? 0 : -EPROTO;
}

/* The library's codes stop here. */
static int step_error(int event, int rv) {
    switch (rv) {
    case RAFT_NOTLEADER:
    case RAFT_LEADERSHIPLOST:
        return CORE_NOT_LEADER;
    case RAFT_CANTCHANGE:
    case RAFT_BADID:
    case RAFT_NOTFOUND:
    case RAFT_BUSY:
        return CORE_BUSY;
    default:
        /* G7: RAFT_SHUTDOWN says that a committed entry conflicts; anything else is not documented.
         */
        log_error("core-failed", "event=%d code=%d text=%s", event, rv,
                  log_quote(slice_str(raft_strerror(rv))));
        return -EPROTO;
    }
}

#ifdef COTIDAL_PLANT
/* Leaves numbers on the stack that look like terms, like indexes around our last one, and like
 * addresses, where the library reads what it never wrote (G1). */
static __attribute__((noinline)) void litter_stack(uint64_t seed, uint64_t last) {
    volatile uint64_t litter[512];
    const uint64_t numbers[] = {0, seed % 97, last + seed % 29, seed << 16};
    uint64_t number = numbers[seed / 97 % ARRAY_COUNT(numbers)];
    for (size_t i = 0; i < ARRAY_COUNT(litter); i++)
        litter[i] = number;
}
#define LITTER_STACK(seed, last) litter_stack(seed, last)
#else
#define LITTER_STACK(seed, last) ((void)0)
#endif

static void update_begin(const struct core *c, struct core_update *ret) {
    memset(ret, 0, offsetof(struct core_update, snapshot));
    ret->term = c->raft.current_term;
    ret->voted_for = c->raft.voted_for;
}

static int core_step(struct core *c, uint64_t now_ms, struct raft_event *event,
                     struct core_update *ret) {
    struct raft_update u = {0};
    event->time = now_ms;
    event->capacity = CORE_CAPACITY;
    update_begin(c, ret);
    uint64_t term = c->raft.current_term, voted_for = c->raft.voted_for;
    LITTER_STACK(now_ms * 0x9E3779B97F4A7C15u >> 32, raft_last_index(&c->raft));
    int rv = raft_step(&c->raft, event, &u);
    ret->term = c->raft.current_term;
    ret->voted_for = c->raft.voted_for;
    ret->vote_changed = ret->term != term || ret->voted_for != voted_for;
    if (rv != 0)
        return step_error((int)event->type, rv);
    if (u.flags & (RAFT_UPDATE_ENTRIES))
        entries_from_raft(c, &u, ret);
    if ((u.flags & (RAFT_UPDATE_SNAPSHOT)) && (rv = install_from_raft(c, &u, ret)) != 0)
        return rv;
    struct core_message *out = messages_reserve(c, u.messages.n);
    for (unsigned i = 0; i < u.messages.n; i++)
        if (message_from_raft(&u.messages.batch[i], &out[ret->message_count]))
            ret->message_count++;
    ret->messages = c->messages;
    return 0;
}

/* ---- events ---- */

int core_start(struct core *c, uint64_t now_ms, const struct core_start *start,
               struct core_update *ret) {
    CHECK(!c->initialised);
    c->initialised = true;
    struct raft_event event = {.type = RAFT_START};
    struct raft_snapshot_metadata meta = {0};
    event.start.term = start->term;
    event.start.voted_for = start->voted_for;
    event.start.start_index = start->first_index;
    event.start.n_entries = (unsigned)start->count;
    if (start->snapshot) {
        meta.index = start->snapshot->index;
        meta.term = start->snapshot->term;
        meta.configuration_index = start->snapshot->membership_index;
        configuration_from(&start->snapshot->membership, &meta.configuration);
        event.start.metadata = &meta;
    }
    struct raft_entry *entries = xcalloc(start->count, sizeof *entries);
    for (uint64_t i = 0; i < start->count; i++) {
        const struct core_entry *e = start->entry(start->ctx, start->first_index + i);
        entries[i].term = e->term;
        entries[i].type = (enum raft_entry_type)e->type;
        entries[i].buf.base = (void *)e->body.data;
        entries[i].buf.len = e->body.size;
    }
    event.start.entries = entries;
    int rc = core_step(c, now_ms, &event, ret);
    free(entries);
    return rc;
}

/* Steps a candidate, or one that may become it. Who stands for election draws the time after which
 * it stands again. The library draws it as a follower does, from one to two election timeouts, so
 * that one split vote makes an outage of a second. There is no leader to be disturbed any more,
 * and a pre-vote changes nothing: half of that will do. */
static int core_step_candidate(struct core *c, uint64_t now_ms, struct raft_event *event,
                               struct core_update *ret) {
    unsigned timeout_ms = c->raft.election_timeout;
    c->raft.election_timeout = (timeout_ms + 1) / 2;
    int rc = core_step(c, now_ms, event, ret);
    c->raft.election_timeout = timeout_ms; /* the library's setter would draw again */
    return rc;
}

int core_timeout(struct core *c, uint64_t now_ms, struct core_update *ret) {
    struct raft_event event = {.type = RAFT_TIMEOUT};
    if (c->raft.state == RAFT_LEADER)
        return core_step(c, now_ms, &event, ret);
    return core_step_candidate(c, now_ms, &event, ret);
}

/* An answer of our own in the library's place: one message and nothing else. */
static int core_answer(struct core *c, const struct core_message *answer, struct core_update *ret) {
    update_begin(c, ret);
    *messages_reserve(c, 1) = *answer;
    ret->messages = c->messages;
    ret->message_count = 1;
    return 0;
}

/* G1: the library answers an AppendEntries or InstallSnapshot of an old term with uninitialised
 * memory, which a leader can take for an acknowledgement. We answer with our term and a rejection
 * out of every range. */
static int answer_stale_append(struct core *c, const struct core_message *m,
                               struct core_update *ret) {
    const struct core_message answer = {
        .type = CORE_MSG_APPEND_RESULT,
        .peer_id = m->peer_id,
        .term = c->raft.current_term,
        .append_result = {.rejected = 1ull << 62, .last_index = 0},
    };
    return core_answer(c, &answer, ret);
}

static int refuse_pre_vote(struct core *c, const struct core_message *m, uint64_t term,
                           struct core_update *ret) {
    const struct core_message answer = {
        .type = CORE_MSG_VOTE_RESULT,
        .peer_id = m->peer_id,
        .term = term,
        .vote_result = {.granted = false, .pre_vote = true},
    };
    return core_answer(c, &answer, ret);
}

/* Two that stand at one moment give each other their pre-votes, then vote for themselves, and
 * nobody wins. So the one with the lower id does not give its pre-vote while its own attempt is
 * young, unless the other's log is another one. It is bounded, since that attempt may fail for want
 * of a connection. */
static bool goes_first(const struct core *c, uint64_t now_ms, const struct core_message *m) {
    const struct raft *r = &c->raft;
    return r->state == RAFT_CANDIDATE && m->vote.pre_vote && r->id < m->vote.candidate_id &&
           m->vote.last_index == raft_last_index((struct raft *)r) &&
           now_ms < r->election_timer_start + r->election_timeout / 4;
}

/* G8: the library takes the term of a vote's result, or not, by the phase of an election that it
 * has not looked for yet: a follower or leader has other things in that place of the union. Nobody
 * but a candidate has use for a result; one of a pre-vote has a term that nobody may have reached.
 */
static bool vote_result_is_late(const struct core *c, const struct core_message *m) {
    const struct raft *r = &c->raft;
    return r->state != RAFT_CANDIDATE ||
           (m->vote_result.pre_vote && !r->candidate_state.in_pre_vote);
}

/* A leader that was silent for the least election timeout protects nobody any more (Raft
 * dissertation, sections 4.2.3 and 9.6). The library holds on to it until its own, longer, random
 * time has passed, and so refuses the first candidate: of three nodes that lose their leader
 * the slower one would decide. It is forgotten as the library does it when it becomes a candidate.
 */
static void forget_silent_leader(struct core *c, uint64_t now_ms) {
    struct raft *r = &c->raft;
    if (r->state != RAFT_FOLLOWER || r->follower_state.current_leader.id == 0 ||
        r->snapshot.installing || now_ms < r->election_timer_start + r->election_timeout)
        return;
    r->follower_state.current_leader.id = 0;
    raft_free(r->follower_state.current_leader.address);
    r->follower_state.current_leader.address = NULL;
}

/* A rejection of what this peer has acknowledged since we lead: it was overtaken by the
 * acknowledgement, as ordered connections (M9) would not have it, or comes from a node that is
 * installing a snapshot. The library, when it is probing, takes it, and then sends that peer no
 * entries any more. It is stepped as a sign of life that acknowledges nothing new. */
static bool overtaken(const struct core *c, const struct core_message *m) {
    return c->raft.state == RAFT_LEADER && m->term == c->raft.current_term &&
           m->append_result.rejected > 0 &&
           m->append_result.rejected <= core_match_index(c, m->peer_id);
}

/* The leader goes on from an entry that we had and have compacted: it missed what we acknowledged
 * since. The library rejects that, but all that we know to be committed is in the log of every
 * later leader, so what of it is on our disk is acknowledged instead. What our snapshot holds is
 * committed, also where the library's commit index went back behind it (G3). */
static void acknowledge_compacted(struct core *c, const struct core_message *m,
                                  struct core_update *ret) {
    const struct raft *r = &c->raft;
    uint64_t prev = m->append.prev_index;
    uint64_t snapshot = r->trail.snapshot.index;
    uint64_t committed = r->commit_index > snapshot ? r->commit_index : snapshot;
    uint64_t have = committed < r->last_stored ? committed : r->last_stored;
    struct core_message *answer = ret->message_count == 1 ? &c->messages[0] : NULL;
    if (!answer || answer->type != CORE_MSG_APPEND_RESULT || prev == 0 ||
        answer->append_result.rejected != prev || m->term != r->current_term ||
        r->snapshot.installing || prev >= snapshot || prev > have)
        return;
    answer->append_result.rejected = 0;
    answer->append_result.last_index = have;
}

static void append_to_raft(struct core *c, const struct core_message *m,
                           struct raft_append_entries *ae) {
    uint32_t n = m->append.count;
    if (n > c->raft_entries_capacity) {
        c->raft_entries = xrealloc(c->raft_entries, n * sizeof c->raft_entries[0]);
        c->raft_entries_capacity = n;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct core_entry *e = &m->append.entries[i];
        CHECK(e->chunk != NULL && e->chunk == m->append.entries[0].chunk);
        c->raft_entries[i] = (struct raft_entry){
            .term = e->term,
            .type = (enum raft_entry_type)e->type,
            .buf = {.base = (void *)e->body.data, .len = e->body.size},
            .batch = e->chunk,
        };
    }
    ae->version = 0;
    ae->term = m->term;
    ae->prev_log_index = m->append.prev_index;
    ae->prev_log_term = m->append.prev_term;
    ae->leader_commit = m->append.commit;
    ae->n_entries = n;
    ae->entries = n ? c->raft_entries : NULL;
}

static void install_to_raft(const struct core_message *m, struct raft_install_snapshot *is) {
    is->version = 0;
    is->term = m->term;
    is->last_index = m->install.snapshot.index;
    is->last_term = m->install.snapshot.term;
    is->conf_index = m->install.snapshot.membership_index;
    configuration_from(&m->install.snapshot.membership, &is->conf);
    is->data.len = m->install.descriptor.size;
    is->data.base = raft_malloc(is->data.len + 1);
    CHECK(is->data.base != NULL);
    memcpy(is->data.base, m->install.descriptor.data, is->data.len);
}

int core_receive(struct core *c, uint64_t now_ms, struct core_message *m, const char *peer_address,
                 struct core_update *ret) {
    bool stale = m->term < c->raft.current_term, installing = c->raft.snapshot.installing;
    struct raft_message rm = {.type = (enum raft_message_type)m->type,
                              .server_id = m->peer_id,
                              .server_address = peer_address};
    struct raft_event event = {.type = RAFT_RECEIVE};
    event.receive.message = &rm;
    switch (m->type) {
    case CORE_MSG_APPEND:
        if (stale && !PLANTED(PLANT_G1_STALE_APPEND)) {
            if (m->append.count > 0)
                chunk_unref(m->append.entries[0].chunk);
            return answer_stale_append(c, m, ret);
        }
        append_to_raft(c, m, &rm.append_entries);
        break;
    case CORE_MSG_INSTALL:
        if (stale && !PLANTED(PLANT_G1_STALE_APPEND))
            return answer_stale_append(c, m, ret);
        install_to_raft(m, &rm.install_snapshot);
        break;
    case CORE_MSG_APPEND_RESULT:
        rm.append_entries_result = (struct raft_append_entries_result){
            .version = 2,
            .term = m->term,
            .rejected = m->append_result.rejected,
            .last_log_index = m->append_result.last_index,
            .features = CORE_FEATURES,
            .capacity = CORE_CAPACITY,
        };
        if (overtaken(c, m)) {
            rm.append_entries_result.rejected = 0;
            rm.append_entries_result.last_log_index = core_match_index(c, m->peer_id);
        }
        break;
    case CORE_MSG_VOTE:
        /* G4: a pre-vote request of an old term is answered with our own term, not granted; the
         * library echoes the candidate's term, which can leave a cluster without a leader. */
        if (stale && m->vote.pre_vote && !PLANTED(PLANT_G4_PRE_VOTE))
            return refuse_pre_vote(c, m, c->raft.current_term, ret);
        if (!stale && goes_first(c, now_ms, m))
            return refuse_pre_vote(c, m, m->term, ret);
        forget_silent_leader(c, now_ms);
        rm.request_vote = (struct raft_request_vote){
            .version = 2,
            .term = m->term,
            .candidate_id = m->vote.candidate_id,
            .last_log_index = m->vote.last_index,
            .last_log_term = m->vote.last_term,
            .disrupt_leader = m->vote.disrupt_leader,
            .pre_vote = m->vote.pre_vote,
        };
        break;
    case CORE_MSG_VOTE_RESULT:
        if (vote_result_is_late(c, m)) {
            update_begin(c, ret);
            return 0;
        }
        rm.request_vote_result = (struct raft_request_vote_result){
            .version = 2,
            .term = m->term,
            .vote_granted = m->vote_result.granted,
            .pre_vote = m->vote_result.pre_vote,
            .features = CORE_FEATURES,
            .capacity = CORE_CAPACITY,
        };
        break;
    case CORE_MSG_TIMEOUT_NOW:
        rm.timeout_now = (struct raft_timeout_now){
            .version = 1,
            .term = m->term,
            .last_log_index = m->timeout_now.last_index,
            .last_log_term = m->timeout_now.last_term,
        };
        break;
    }
    /* A pre-vote that was won begins the election, with another draw. */
    if (m->type == CORE_MSG_VOTE_RESULT && c->raft.state == RAFT_CANDIDATE)
        return core_step_candidate(c, now_ms, &event, ret);
    c->appending = m->type == CORE_MSG_APPEND;
    int rc = core_step(c, now_ms, &event, ret);
    c->appending = false;
    if (m->type == CORE_MSG_APPEND && rc == 0)
        acknowledge_compacted(c, m, ret);
    if (m->type == CORE_MSG_INSTALL && installing && !stale) {
        /* The library ignores it then, and forgets to free it. */
        raft_free(rm.install_snapshot.data.base);
        raft_configuration_close(&rm.install_snapshot.conf);
    }
    return rc;
}

int core_submit(struct core *c, uint64_t now_ms, struct core_entry *entry,
                struct core_update *ret) {
    CHECK(entry->chunk != NULL && entry->chunk->refs == 1);
    struct raft_event event = {.type = RAFT_SUBMIT};
    struct raft_entry e = {
        .term = c->raft.current_term, /* the library does not set it */
        .type = (enum raft_entry_type)entry->type,
        .buf = {.base = (void *)entry->body.data, .len = entry->body.size},
        .batch = entry->chunk,
    };
    event.submit.entries = &e;
    event.submit.n = 1;
    c->submitted = entry->chunk;
    int rc = core_step(c, now_ms, &event, ret);
    c->submitted = NULL;
    if (rc != 0)
        chunk_unref(entry->chunk); /* on an error it stays ours */
    return rc;
}

int core_persisted(struct core *c, uint64_t now_ms, uint64_t index, struct core_update *ret) {
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
    event.persisted_entries.index = index;
    return core_step(c, now_ms, &event, ret);
}

int core_snapshot_taken(struct core *c, uint64_t now_ms, const struct core_snapshot *s,
                        uint32_t trailing, struct core_update *ret) {
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    event.snapshot.metadata.index = s->index;
    event.snapshot.metadata.term = s->term;
    event.snapshot.metadata.configuration_index = s->membership_index;
    configuration_from(&s->membership, &event.snapshot.metadata.configuration);
    event.snapshot.trailing = trailing;
    return core_step(c, now_ms, &event, ret);
}

int core_snapshot_installed(struct core *c, uint64_t now_ms, const struct core_snapshot *s,
                            struct core_update *ret) {
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
    event.persisted_snapshot.metadata.index = s->index;
    event.persisted_snapshot.metadata.term = s->term;
    event.persisted_snapshot.metadata.configuration_index = s->membership_index;
    configuration_from(&s->membership, &event.persisted_snapshot.metadata.configuration);
    event.persisted_snapshot.last = true;
    return core_step(c, now_ms, &event, ret);
}

int core_membership_applied(struct core *c, uint64_t now_ms, uint64_t index,
                            const struct membership *m, struct core_update *ret) {
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    event.configuration.index = index;
    configuration_from(m, &event.configuration.conf);
    return core_step(c, now_ms, &event, ret);
}

static bool has_member(const struct core *c, uint64_t id) {
    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        if (c->raft.configuration.servers[i].id == id)
            return true;
    return false;
}

int core_catch_up(struct core *c, uint64_t now_ms, uint64_t id, struct core_update *ret) {
    /* The library crashes when it does not lead, and over its own or an unknown id. */
    update_begin(c, ret);
    if (c->raft.state != RAFT_LEADER)
        return CORE_NOT_LEADER;
    if (id == c->raft.id || !has_member(c, id))
        return CORE_BUSY;
    struct raft_event event = {.type = RAFT_CATCH_UP};
    event.catch_up.server_id = id;
    return core_step(c, now_ms, &event, ret);
}

int core_transfer(struct core *c, uint64_t now_ms, uint64_t id, struct core_update *ret) {
    struct raft_event event = {.type = RAFT_TRANSFER};
    event.transfer.server_id = id;
    return core_step(c, now_ms, &event, ret);
}

/* ---- looking in ---- */

uint64_t core_deadline_ms(const struct core *c) {
    return raft_timeout(&c->raft);
}

enum core_role core_role(const struct core *c) {
    switch (c->raft.state) {
    case RAFT_LEADER:
        return CORE_LEADER;
    case RAFT_CANDIDATE:
        return CORE_CANDIDATE;
    default:
        return CORE_FOLLOWER;
    }
}

uint64_t core_term(const struct core *c) {
    return raft_current_term(&c->raft);
}

uint64_t core_voted_for(const struct core *c) {
    return raft_voted_for(&c->raft);
}

uint64_t core_last_index(const struct core *c) {
    return raft_last_index((struct raft *)&c->raft);
}

uint64_t core_commit_index(const struct core *c) {
    return raft_commit_index(&c->raft);
}

uint64_t core_leader_id(const struct core *c) {
    if (c->raft.state == RAFT_LEADER)
        return c->raft.id;
    return c->raft.state == RAFT_FOLLOWER ? c->raft.follower_state.current_leader.id : 0;
}

bool core_transferring(const struct core *c) {
    return c->raft.state == RAFT_LEADER && raft_transferee(&c->raft) != 0;
}

bool core_installing(const struct core *c) {
    return c->raft.snapshot.installing;
}

uint64_t core_match_index(const struct core *c, uint64_t id) {
    raft_index index = 0;
    return raft_match_index(&c->raft, id, &index) == 0 ? index : 0;
}

enum core_catch_up_state core_catch_up_state(const struct core *c, uint64_t id) {
    int status = RAFT_CATCH_UP_NONE;
    if (raft_catch_up(&c->raft, id, &status) != 0)
        return CORE_CATCH_UP_NONE;
    switch (status) {
    case RAFT_CATCH_UP_RUNNING:
        return CORE_CATCH_UP_RUNNING;
    case RAFT_CATCH_UP_FINISHED:
        return CORE_CATCH_UP_FINISHED;
    case RAFT_CATCH_UP_ABORTED:
        return CORE_CATCH_UP_ABORTED;
    default:
        return CORE_CATCH_UP_NONE;
    }
}

bool core_catch_up_running(const struct core *c) {
    return c->raft.state == RAFT_LEADER && c->raft.leader_state.promotee_id != 0;
}

void core_membership(const struct core *c, struct membership *ret) {
    CHECK(configuration_to(&c->raft.configuration, ret));
}

uint64_t core_membership_uncommitted_index(const struct core *c) {
    return c->raft.configuration_uncommitted_index;
}

static uint32_t configuration_voters(const struct raft_configuration *c) {
    uint32_t n = 0;
    for (unsigned i = 0; i < c->n; i++)
        n += c->servers[i].role == RAFT_VOTER;
    return n;
}

uint32_t core_voters(const struct core *c, bool committed_only) {
    return configuration_voters(committed_only ? &c->raft.configuration_committed
                                               : &c->raft.configuration);
}

bool core_is_voter(const struct core *c, uint64_t id) {
    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        if (c->raft.configuration.servers[i].id == id)
            return c->raft.configuration.servers[i].role == RAFT_VOTER;
    return false;
}
