/* Applying entries: the writing half of the state machine. */
#include <errno.h>

#include "base/num.h"
#include "base/plant.h"
#include "base/reply.h"
#include "store/commands.h"
#include "store/once.h"
#include "store/store_impl.h"

/* One entry while it is applied. */
struct applying {
    struct store *s;
    uint64_t index;
    uint64_t seed;
    uint64_t position; /* of the command within the entry */
    store_reply_fn reply_fn;
    void *ctx;
};

static int fail(struct store *s, int rc) {
    if (rc < 0 && s->failed == 0)
        s->failed = rc;
    return rc;
}

/* Room for what one transaction usually adds. One that adds more may still meet a full disk in the
 * middle of a page: that ends the process, which loses nothing (docs/operations.md). */
static int reserve(struct store *s) {
    if (s->reserve_bytes == 0)
        return 0;
    uint64_t want = env_file_bytes(&s->env) + s->reserve_bytes;
    if (want > s->map_bytes)
        want = s->map_bytes;
    if (want <= s->env.reserved)
        return 0;
    want += s->reserve_bytes; /* in steps */
    return env_reserve(&s->env, want < s->map_bytes ? want : s->map_bytes);
}

int store_begin(struct store *s) {
    CHECK(!s->txn.handle);
    if (s->failed)
        return s->failed;
    s->changed = false;
    int rc = reserve(s);
    return fail(s, rc ? rc : env_write_begin(&s->env, &s->txn));
}

/* SESSION.SWEEP now_ms. What is newer than the log's time is taken for the log's time: a session
 * that is not yet silent by the log must stay. */
static int sweep_sessions(struct store *s) {
    uint64_t now_ms, removed;
    if (s->argv.count != 2 || !num_parse_u64(s->argv.args[1], &now_ms)) {
        reply_error(&s->reply, "ERR SESSION.SWEEP takes a time in milliseconds");
        return 0;
    }
    if (now_ms > s->state.time_ms)
        now_ms = s->state.time_ms;
    int rc = session_table_sweep(&s->sessions, &s->txn, now_ms, &removed);
    if (rc == 0)
        reply_int(&s->reply, (int64_t)removed);
    return rc;
}

/* ONCE.SWEEP now_ms limit, by the log's time as well. */
static int sweep_once(struct store *s) {
    uint64_t now_ms, limit, removed;
    if (s->argv.count != 3 || !num_parse_u64(s->argv.args[1], &now_ms) ||
        !num_parse_u64(s->argv.args[2], &limit)) {
        reply_error(&s->reply, "ERR ONCE.SWEEP takes a time in milliseconds and a limit");
        return 0;
    }
    if (now_ms > s->state.time_ms)
        now_ms = s->state.time_ms;
    int rc = once_sweep(&s->txn, &s->state, now_ms, limit, &removed);
    if (rc == 0)
        reply_int(&s->reply, (int64_t)removed);
    return rc;
}

static bool is_command(const struct store *s, const char *name) {
    return slice_equal_nocase(s->argv.args[0], name);
}

static void once_reply(struct store *s, bool before, uint64_t index) {
    reply_array(&s->reply, 3);
    reply_int(&s->reply, before);
    reply_int(&s->reply, (int64_t)index);
}

/* Transactions may have a name; what only nodes do may not. */
static bool may_have_id(const struct argv *argv) {
    const struct command *command = command_find(argv->args[0]);
    if (!command || !(command->flags & CMD_WRITE))
        return false;
    return command_may_be_carried(command) || strcmp(command->name, "KV.TXN") == 0 ||
           strcmp(command->name, "TX.EXEC") == 0 || strncmp(command->name, "SITE.", 5) == 0;
}

/* ONCE.EXEC id command...: the execution and the record of it are one change of the state. */
static int execute_once(struct applying *a, uint16_t db) {
    struct store *s = a->s;
    if (s->argv.count < 3 || s->argv.args[1].size == 0 ||
        s->argv.args[1].size > ONCE_ID_BYTES_MAX) {
        reply_error(&s->reply, "ERR ONCE.EXEC takes an id of up to %d bytes and a command",
                    ONCE_ID_BYTES_MAX);
        return 0;
    }
    struct slice id = s->argv.args[1];
    const struct argv inner = {.args = s->argv.args + 2, .count = s->argv.count - 2};
    if (!may_have_id(&inner)) {
        reply_error(&s->reply, "ERR ONCE.EXEC executes writing commands on keys only");
        return 0;
    }
    struct once_record record;
    struct hash128 fingerprint = once_fingerprint(db, inner.args, inner.count);
    int rc = once_find(&s->txn, id, s->state.time_ms, &record);
    if (rc < 0)
        return rc;
    if (rc == 0 && !hash128_equal(record.fingerprint, fingerprint)) {
        reply_error(&s->reply, "MISMATCH another request was executed with this key");
        return 0;
    }
    if (rc == 0) {
        once_reply(s, true, record.index);
        buf_append_slice(&s->reply, record.reply);
        return 0;
    }
    if (once_full(&s->state)) {
        reply_error(&s->reply, "ONCEFULL no room to remember one more key: leave it out, or wait");
        return 0;
    }
    once_reply(s, false, a->index);
    size_t header = s->reply.size;
    if ((rc = command_execute(&s->ks, db, &inner, &s->reply)))
        return rc;
    record = (struct once_record){
        .expiry_ms = s->state.time_ms + ONCE_KEEP_MS,
        .fingerprint = fingerprint,
        .index = a->index,
        .reply = slice_of(s->reply.data + header, s->reply.size - header),
    };
    return PLANTED(PLANT_FORGET_ONCE) ? 0 : once_keep(&s->txn, &s->state, id, &record);
}

/* Runs the command unpacked in s->argv; its reply is in s->reply. */
static int execute(struct applying *a, uint16_t db) {
    struct store *s = a->s;
    struct rand mix = {.state = a->seed + a->position};
    buf_reset(&s->reply);
    s->ks.now_ms = s->state.time_ms;
    s->ks.revision = a->index << 20 | a->position;
    s->ks.rand.state = rand_u64(&mix);
    if (db >= STORE_DB_ALL) {
        reply_error(&s->reply, "ERR DB index is out of range");
        return 0;
    }
    if (is_command(s, "SESSION.SWEEP"))
        return sweep_sessions(s);
    if (is_command(s, "ONCE.EXEC"))
        return execute_once(a, db);
    if (is_command(s, "ONCE.SWEEP"))
        return sweep_once(s);
    if (is_command(s, "SESSION.OPEN")) {
        reply_error(&s->reply, "ERR SESSION.OPEN must be the first command of a new session");
        return 0;
    }
    int rc = command_execute(&s->ks, db, &s->argv, &s->reply);
    CHECK(rc <= 0);
    return rc;
}

static void answer(const struct applying *a, const struct session_id *session, uint64_t sequence,
                   enum store_status status, struct slice reply) {
    if (a->reply_fn)
        a->reply_fn(a->ctx, session, sequence, status, reply);
}

/* A command of a session that is not there: opening it, or too late. */
static int apply_without(struct applying *a, const struct entry_group *group,
                         const struct entry_command *c, struct session **ret_session) {
    struct store *s = a->s;
    if (!argv_unpack(&s->argv, c->packed_argv))
        return -EBADMSG;
    /* A gateway that has acked anything is not at its beginning: its session was dropped. */
    if (c->sequence != 1 || group->acked_below > 1 || !is_command(s, "SESSION.OPEN")) {
        answer(a, &group->session, c->sequence, STORE_SESSION_GONE, slice_of(NULL, 0));
        return 0;
    }
    buf_reset(&s->reply);
    struct session *session = session_create(&s->sessions, &group->session, s->state.time_ms);
    if (session) {
        reply_simple(&s->reply, "OK");
        session_keep(&s->sessions, session, c->sequence, buf_slice(&s->reply));
        *ret_session = session;
    } else {
        reply_error(&s->reply, "BUSY too many client sessions");
    }
    answer(a, &group->session, c->sequence, STORE_DONE, buf_slice(&s->reply));
    return 0;
}

static int apply_within(struct applying *a, const struct entry_group *group,
                        const struct entry_command *c, struct session *session) {
    static const char acked[] =
        "-NOTKEPT executed before, and its reply was acknowledged; applied: yes\r\n";
    static const char too_far[] = "-ERR not executed: beyond the window of the session\r\n";
    struct store *s = a->s;
    struct slice reply;
    switch (session_lookup(session, c->sequence, &reply)) {
    case SESSION_KNOWN:
        break;
    case SESSION_ACKED:
        reply = slice_str(acked);
        break;
    case SESSION_TOO_FAR:
        reply = slice_str(too_far);
        break;
    case SESSION_NEW:
        if (!argv_unpack(&s->argv, c->packed_argv))
            return -EBADMSG;
        int rc = execute(a, c->db);
        if (PLANTED(PLANT_APPLY_TWICE) && rc == 0)
            rc = execute(a, c->db);
        if (rc)
            return rc;
        reply = buf_slice(&s->reply);
        session_keep(&s->sessions, session, c->sequence, reply);
        break;
    }
    answer(a, &group->session, c->sequence, STORE_DONE, reply);
    return 0;
}

static int apply_sessionless(struct applying *a, const struct entry_group *group,
                             const struct entry_command *c) {
    if (!argv_unpack(&a->s->argv, c->packed_argv))
        return -EBADMSG;
    int rc = execute(a, c->db);
    if (rc)
        return rc;
    answer(a, &group->session, c->sequence, STORE_DONE, buf_slice(&a->s->reply));
    return 0;
}

static int apply_group(struct applying *a, struct entry_group *group) {
    struct store *s = a->s;
    bool sessionless = session_id_is_zero(&group->session);
    struct session *session = sessionless ? NULL : session_find(&s->sessions, &group->session);
    if (session)
        session_touch(&s->sessions, session, group->acked_below, s->state.time_ms);
    for (uint32_t i = 0; i < group->command_count; i++, a->position++) {
        struct entry_command c;
        if (!entry_next_command(&group->commands, &c) || a->position >= ENTRY_COMMANDS_MAX)
            return -EBADMSG;
        int rc = sessionless ? apply_sessionless(a, group, &c)
                 : session   ? apply_within(a, group, &c, session)
                             : apply_without(a, group, &c, &session);
        if (rc)
            return rc;
    }
    return group->commands.size == 0 ? 0 : -EBADMSG;
}

static int apply_entry(struct applying *a, struct slice entry) {
    struct store *s = a->s;
    struct entry_header header;
    if (!entry_next_header(&entry, &header))
        return -EBADMSG;
    a->seed = header.seed;
    if (PLANTED(PLANT_LOCAL_CLOCK))
        header.time_ms += (uintptr_t)s / 64 % 4096; /* as if each node asked its own clock */
    if (header.time_ms > s->state.time_ms)
        s->state.time_ms = header.time_ms;
    /* Chosen once, while nothing depends on it: unknown to clients, the same on every node. */
    if (s->state.hash_seed == 0 && s->state.next_object_id == 1 && s->state.session_count == 0)
        s->state.hash_seed = header.seed ? header.seed : 1;
    for (uint32_t g = 0; g < header.group_count; g++) {
        struct entry_group group;
        if (!entry_next_group(&entry, &group))
            return -EBADMSG;
        int rc = apply_group(a, &group);
        if (rc)
            return rc;
    }
    return entry.size == 0 ? 0 : -EBADMSG;
}

static void advance(struct store *s, uint64_t index, uint64_t term) {
    CHECK(s->txn.handle);
    CHECK(index == s->state.applied_index + 1);
    CHECK(term >= s->state.applied_term);
    s->state.applied_index = index;
    s->state.applied_term = term;
    s->changed = true;
}

int store_apply(struct store *s, uint64_t index, uint64_t term, struct slice entry,
                store_reply_fn reply_fn, void *ctx) {
    if (s->failed)
        return s->failed;
    advance(s, index, term);
    struct applying a = {.s = s, .index = index, .reply_fn = reply_fn, .ctx = ctx};
    int rc = apply_entry(&a, entry);
    return fail(s, rc ? rc : changes_flush(&s->txn, &s->state, &s->ks.log, true));
}

int store_apply_other(struct store *s, uint64_t index, uint64_t term, struct slice membership) {
    if (s->failed)
        return s->failed;
    advance(s, index, term);
    if (membership.size == 0)
        return 0;
    buf_reset(&s->membership);
    buf_append_slice(&s->membership, membership);
    s->membership_index = index;
    return fail(s, state_save_membership(&s->txn, index, membership));
}

int store_commit(struct store *s) {
    enum { REPLY_KEEP_BYTES = 1024 * 1024 };
    CHECK(s->txn.handle);
    int rc = s->failed;
    if (rc == 0 && s->changed)
        rc = changes_flush(&s->txn, &s->state, &s->ks.log, true);
    if (rc == 0 && s->changed)
        rc = session_table_save(&s->sessions, &s->txn);
    if (rc == 0 && s->changed)
        rc = state_save(&s->txn, &s->state);
    if (rc || !s->changed)
        env_write_abort(&s->txn);
    else
        rc = env_write_commit(&s->txn);
    if (s->ks.sites_revision)
        s->sites_revision = s->ks.sites_revision;
    keyspace_reset(&s->ks);
    if (s->reply.capacity > REPLY_KEEP_BYTES)
        buf_fini(&s->reply);
    return fail(s, rc);
}

bool store_session_knows(const struct store *s, const struct session_id *id, uint64_t sequence) {
    struct slice reply;
    struct session *session = session_find(&s->sessions, id);
    return session && session_lookup(session, sequence, &reply) == SESSION_KNOWN;
}
