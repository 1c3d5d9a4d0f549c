/* Several commands as one: TX.EXEC (what EXEC sends) and KV.TXN (HTTP's transactions). Both run
 * inside one command of the log, so that nothing comes between. */
#include "base/num.h"
#include "store/call.h"

enum {
    /* Kept free in the reply for each command that has not run yet: an error or a small reply
     * always fits. */
    REPLY_BYTES_RESERVED = 256,
    GUARD_ARGS = 3,
    WATCH_ARGS = 3,
};

/* Walks over the commands packed into the arguments of another. */
struct carried {
    size_t at;
    bool with_db; /* TX.EXEC: each begins with its database */
};

struct carried_command {
    const struct slice *args;
    size_t count;
    uint16_t db;
};

/* Takes the next one; false when malformed. */
static bool carried_next(const struct slice *args, size_t count, struct carried *w,
                         struct carried_command *ret_command) {
    uint64_t db = 0, argc;
    size_t at = w->at;
    if (w->with_db && (at >= count || !num_parse_u64(args[at++], &db) || db >= STORE_DB_COUNT))
        return false;
    if (at >= count || !num_parse_u64(args[at++], &argc) || argc == 0 || argc > count - at)
        return false;
    *ret_command =
        (struct carried_command){.args = args + at, .count = (size_t)argc, .db = (uint16_t)db};
    w->at = at + (size_t)argc;
    return true;
}

static bool get_count(const struct slice *args, size_t at, uint64_t *ret_count) {
    return num_parse_u64(args[at], ret_count) && *ret_count <= ARGV_COUNT_MAX;
}

bool command_may_be_carried(const struct command *command) {
    static const char *const refused[] = {"KV.TXN",        "TX.EXEC",      "SESSION.OPEN",
                                          "SESSION.SWEEP", "EXPIRE.SWEEP", "NODE.ALLOC",
                                          "ONCE.EXEC",     "ONCE.SWEEP",   "TX.READ"};
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++)
        if (strcmp(command->name, refused[i]) == 0)
            return false;
    return !(command->flags & CMD_CONNECTION) && strncmp(command->name, "SITE.", 5) != 0;
}

bool command_grows(const struct argv *argv) {
    const struct command *command = command_find(argv->args[0]);
    bool tx = command && strcmp(command->name, "TX.EXEC") == 0;
    uint64_t first, second, third = 0;
    if (!command || !(command->flags & CMD_GROWS) || !command_arity_ok(command, argv->count))
        return false;
    if (strcmp(command->name, "ONCE.EXEC") == 0) {
        const struct argv inner = {.args = argv->args + 2, .count = argv->count - 2};
        return !slice_equal_nocase(inner.args[0], "ONCE.EXEC") && command_grows(&inner);
    }
    if (!tx && strcmp(command->name, "KV.TXN") != 0)
        return true;
    if (!get_count(argv->args, 1, &first) || !get_count(argv->args, 2, &second) ||
        (!tx && !get_count(argv->args, 3, &third)))
        return false;
    struct carried w = {.at = tx ? 3 + WATCH_ARGS * first : 4 + GUARD_ARGS * first, .with_db = tx};
    struct carried_command carried;
    while (w.at < argv->count && carried_next(argv->args, argv->count, &w, &carried)) {
        command = command_find(carried.args[0]);
        if (command && (command->flags & CMD_GROWS))
            return true;
    }
    return false;
}

/* ---- running a list of commands ---- */

static struct call carried_call(const struct call *c, const struct carried_command *carried) {
    return (struct call){
        .ks = c->ks,
        .out = c->out,
        .args = carried->args,
        .count = carried->count,
        .db = carried->db,
    };
}

static int run_one(struct call *c, const struct carried_command *carried) {
    struct call inner = carried_call(c, carried);
    const struct command *command = command_find(carried->args[0]);
    if (!command) {
        reply_error(c->out, "ERR unknown command");
        return 0;
    }
    if (!command_may_be_carried(command)) {
        reply_error(c->out, "ERR '%s' cannot stand inside a transaction", command->name);
        return 0;
    }
    inner.reply_end = c->reply_end;
    return call_run(&inner);
}

/* Runs `count` commands from where `w` stands, appending an array of their replies. The structure
 * has been checked. The reply always fits: each command leaves room for those behind it. */
static int run_all(struct call *c, struct carried w, uint64_t count) {
    size_t reply_end = c->reply_end;
    int rc = 0;
    reply_array(c->out, count);
    for (uint64_t left = count; left > 0 && rc == 0; left--) {
        struct carried_command carried;
        CHECK(carried_next(c->args, c->count, &w, &carried));
        if (!w.with_db)
            carried.db = c->db;
        c->reply_end = reply_end - (size_t)(left - 1) * REPLY_BYTES_RESERVED;
        rc = run_one(c, &carried);
    }
    c->reply_end = reply_end;
    return rc;
}

static void reply_malformed(struct call *c) {
    reply_error(c->out, "ERR malformed transaction");
}

/* Passes over `count` commands; false when one is malformed. */
static bool skip_commands(struct call *c, struct carried *w, uint64_t count) {
    struct carried_command carried;
    while (count-- > 0)
        if (!carried_next(c->args, c->count, w, &carried))
            return false;
    return true;
}

static bool check_command_count(struct call *c, uint64_t count) {
    if (count <= COMMAND_TXN_COMMANDS_MAX)
        return true;
    reply_error(c->out, "ERR a transaction has at most %d commands", COMMAND_TXN_COMMANDS_MAX);
    return false;
}

/* ---- TX.EXEC ---- */

static bool check_watches(struct call *c, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        const struct slice *watch = c->args + 3 + WATCH_ARGS * i;
        uint64_t db, revision;
        if (!num_parse_u64(watch[0], &db) || db >= STORE_DB_COUNT ||
            watch[1].size > STORE_KEY_BYTES_MAX || !num_parse_u64(watch[2], &revision))
            return false;
    }
    return true;
}

/* 0: as watched; KEYSPACE_MISSING: a watched key has changed. */
static int compare_watches(struct call *c, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        const struct slice *watch = c->args + 3 + WATCH_ARGS * i;
        uint64_t db = 0, revision = 0;
        struct record rec;
        CHECK(num_parse_u64(watch[0], &db));
        CHECK(num_parse_u64(watch[2], &revision));
        int rc = keyspace_find(c->ks, (uint16_t)db, watch[1], &rec);
        if (rc < 0)
            return rc;
        if ((rc == 0 ? rec.revision : 0) != revision)
            return KEYSPACE_MISSING;
    }
    return 0;
}

int call_tx_exec(struct call *c) {
    uint64_t watch_count, command_count;
    if (!get_count(c->args, 1, &watch_count) || !get_count(c->args, 2, &command_count) ||
        watch_count > (c->count - 3) / WATCH_ARGS || !check_watches(c, watch_count)) {
        reply_malformed(c);
        return 0;
    }
    if (!check_command_count(c, command_count))
        return 0;
    struct carried first = {.at = 3 + WATCH_ARGS * (size_t)watch_count, .with_db = true};
    struct carried w = first;
    if (!skip_commands(c, &w, command_count) || w.at != c->count) {
        reply_malformed(c);
        return 0;
    }
    int rc = compare_watches(c, watch_count);
    if (rc == 0)
        return run_all(c, first, command_count);
    if (rc > 0)
        reply_null_array(c->out);
    return rc < 0 ? rc : 0;
}

/* ---- TX.READ ---- */

/* On a view a command that writes gets an error reply in its place. */
int call_tx_read(struct call *c) {
    uint64_t count;
    if (!get_count(c->args, 1, &count)) {
        reply_malformed(c);
        return 0;
    }
    if (!check_command_count(c, count))
        return 0;
    struct carried first = {.at = 2, .with_db = true};
    struct carried w = first;
    if (!skip_commands(c, &w, count) || w.at != c->count) {
        reply_malformed(c);
        return 0;
    }
    return c->check_only ? 0 : run_all(c, first, count);
}

/* ---- KV.TXN ---- */

enum guard_kind { GUARD_REVISION, GUARD_VALUE, GUARD_EXISTS, GUARD_ABSENT };

struct guard {
    enum guard_kind kind;
    struct slice key;
    struct slice operand;
    uint64_t revision;
};

/* False: an error reply was appended. */
static bool get_guard(struct call *c, uint64_t i, struct guard *ret_guard) {
    static const char *const kinds[] = {"rev", "value", "exists", "absent"};
    const struct slice *args = c->args + 4 + GUARD_ARGS * i;
    struct guard g = {.key = args[1], .operand = args[2]};
    size_t kind = 0;
    while (kind < ARRAY_COUNT(kinds) && !slice_equal_str(args[0], kinds[kind]))
        kind++;
    if (kind == ARRAY_COUNT(kinds)) {
        reply_error(c->out, "ERR guard %llu is of an unknown kind", (unsigned long long)i);
        return false;
    }
    g.kind = (enum guard_kind)kind;
    if (g.key.size > STORE_KEY_BYTES_MAX) {
        reply_error(c->out, "ERR key exceeds maximum allowed size (%d bytes)", STORE_KEY_BYTES_MAX);
        return false;
    }
    if (g.kind == GUARD_REVISION && !num_parse_u64(g.operand, &g.revision)) {
        reply_error(c->out, "ERR guard %llu needs a revision", (unsigned long long)i);
        return false;
    }
    *ret_guard = g;
    return true;
}

/* 0: it holds; KEYSPACE_MISSING: it does not. */
static int test_guard(struct call *c, const struct guard *g) {
    struct record rec;
    struct slice value = {0};
    int rc = keyspace_find(c->ks, c->db, g->key, &rec);
    if (rc < 0)
        return rc;
    bool found = rc == 0, holds = false;
    switch (g->kind) {
    case GUARD_REVISION:
        holds = (found ? rec.revision : 0) == g->revision;
        break;
    case GUARD_VALUE:
        if (found && rec.type == RECORD_STRING && rec.size == g->operand.size) {
            rc = keyspace_value(c->ks, c->db, g->key, &value);
            if (rc < 0)
                return rc;
            holds = slice_equal(value, g->operand);
        }
        break;
    case GUARD_EXISTS:
        holds = found;
        break;
    case GUARD_ABSENT:
        holds = !found;
        break;
    }
    return holds ? 0 : KEYSPACE_MISSING;
}

/* Checks what can be seen of one command without the state. False: an error reply that names the
 * command was appended. */
static bool check_carried(struct call *c, const struct carried_command *carried, const char *branch,
                          uint64_t i) {
    struct buf error = {0};
    struct call inner = carried_call(c, carried);
    inner.out = &error;
    inner.check_only = true;
    inner.reply_end = COMMAND_REPLY_BYTES_MAX;
    const struct command *command = command_find(carried->args[0]);
    int rc = 0;
    if (command && !command_may_be_carried(command))
        reply_error(&error, "ERR '%s' cannot stand inside a transaction", command->name);
    else
        rc = call_run(&inner);
    CHECK(rc == 0); /* nothing was read */
    bool good = error.size == 0;
    if (!good) {
        CHECK(error.size > 5 && memcmp(error.data, "-ERR ", 5) == 0);
        reply_error(c->out, "ERR %s[%llu]: %.*s", branch, (unsigned long long)i,
                    (int)(error.size - 7), (const char *)error.data + 5);
    }
    buf_fini(&error);
    return good;
}

static bool check_branch(struct call *c, struct carried *w, const char *branch, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        struct carried_command carried;
        if (!carried_next(c->args, c->count, w, &carried)) {
            reply_malformed(c);
            return false;
        }
        carried.db = c->db;
        if (!check_carried(c, &carried, branch, i))
            return false;
    }
    return true;
}

int call_kv_txn(struct call *c) {
    uint64_t guard_count, then_count, else_count, i;
    struct guard g;
    if (!get_count(c->args, 1, &guard_count) || !get_count(c->args, 2, &then_count) ||
        !get_count(c->args, 3, &else_count) || guard_count > (c->count - 4) / GUARD_ARGS) {
        reply_malformed(c);
        return 0;
    }
    if (!check_command_count(c, then_count + else_count))
        return 0;
    for (i = 0; i < guard_count; i++)
        if (!get_guard(c, i, &g))
            return 0;
    struct carried thens = {.at = 4 + GUARD_ARGS * (size_t)guard_count};
    struct carried elses = thens;
    if (!check_branch(c, &elses, "then", then_count))
        return 0;
    struct carried end = elses;
    if (!check_branch(c, &end, "else", else_count))
        return 0;
    if (end.at != c->count) {
        reply_malformed(c);
        return 0;
    }
    int rc = 0;
    for (i = 0; i < guard_count && rc == 0; i++) {
        CHECK(get_guard(c, i, &g));
        rc = test_guard(c, &g);
    }
    if (rc < 0)
        return rc;
    if (rc == 0) {
        reply_array(c->out, 2);
        reply_int(c->out, 200);
        return run_all(c, thens, then_count);
    }
    reply_array(c->out, 3);
    reply_int(c->out, 412);
    reply_int(c->out, (int64_t)i - 1);
    return run_all(c, elses, else_count);
}
