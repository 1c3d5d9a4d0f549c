#include "store/commands.h"

#include <ctype.h>
#include <pthread.h>

#include "base/num.h"
#include "store/call.h"

#define X(name_, args_, arity_, flags_, first_, last_, step_, group_, since_, exec_, summary_)     \
    {.name = (name_),                                                                              \
     .args = (args_),                                                                              \
     .arity = (arity_),                                                                            \
     .flags = (flags_),                                                                            \
     .first_key = (first_),                                                                        \
     .last_key = (last_),                                                                          \
     .key_step = (step_),                                                                          \
     .group = (group_),                                                                            \
     .since = (since_),                                                                            \
     .summary = (summary_)},
static const struct command commands[] = {COMMAND_TABLE(X)};
#undef X

#define X(name, args, arity, flags, first, last, step, group, since, exec, summary) exec,
static const call_fn command_execs[] = {COMMAND_TABLE(X)};
#undef X

/* ---- finding -----------------------------------------------------------------------------------
 * An open-addressed table over the lower-case names, built once; at most a third of it is in use.
 */

enum {
    INDEX_SLOTS = 512,
    NAME_BYTES_MAX = 16,
};
static uint16_t name_index[INDEX_SLOTS]; /* position in commands + 1; 0: free */
static pthread_once_t name_index_once = PTHREAD_ONCE_INIT;

/* FNV-1a (Fowler, Noll, Vo) with the letters' case folded away. */
static uint32_t name_hash(struct slice name) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < name.size; i++)
        h = (h ^ (name.data[i] | 0x20u)) * 16777619u;
    return h ^ (h >> 15);
}

static void name_index_build(void) {
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        struct slice name = slice_str(commands[i].name);
        CHECK(name.size <= NAME_BYTES_MAX);
        uint32_t at = name_hash(name) % INDEX_SLOTS;
        while (name_index[at])
            at = (at + 1) % INDEX_SLOTS;
        name_index[at] = (uint16_t)(i + 1);
    }
}

const struct command *command_find(struct slice name) {
    if (name.size > NAME_BYTES_MAX)
        return NULL;
    pthread_once(&name_index_once, name_index_build);
    for (uint32_t at = name_hash(name) % INDEX_SLOTS; name_index[at]; at = (at + 1) % INDEX_SLOTS) {
        const struct command *c = &commands[name_index[at] - 1];
        if (slice_equal_nocase(name, c->name))
            return c;
    }
    return NULL;
}

const struct command *command_all(size_t *ret_count) {
    *ret_count = ARRAY_COUNT(commands);
    return commands;
}

bool command_arity_ok(const struct command *c, size_t argc) {
    return c->arity < 0 ? argc >= (size_t)-c->arity : argc == (size_t)c->arity;
}

bool command_key_range(const struct command *c, size_t argc, struct command_keys *ret_keys) {
    if (c->key_step == 0)
        return false;
    *ret_keys = (struct command_keys){
        .first = (size_t)c->first_key,
        .last = c->last_key < 0 ? argc - (size_t)-c->last_key : (size_t)c->last_key,
        .step = (size_t)c->key_step,
    };
    return true;
}

/* ---- errors ---- */

static void append_lower(struct buf *out, const char *name) {
    for (; *name; name++)
        buf_append_char(out, (char)tolower((unsigned char)*name));
}

void command_reply_unknown(struct buf *out, const struct argv *argv) {
    enum { SHOWN_BYTES = 128 };
    struct buf args = {0};
    for (size_t i = 1; i < argv->count && args.size < SHOWN_BYTES; i++) {
        struct slice a = argv->args[i];
        size_t left = SHOWN_BYTES - args.size;
        size_t n = strnlen((const char *)a.data, a.size < left ? a.size : left);
        buf_append_char(&args, '\'');
        buf_append(&args, a.data, n);
        buf_append_str(&args, "' ");
    }
    struct slice name = argv->args[0];
    int name_size = name.size < SHOWN_BYTES ? (int)name.size : SHOWN_BYTES;
    reply_error(out, "ERR unknown command '%.*s', with args beginning with: %.*s", name_size,
                (const char *)name.data, (int)args.size, (const char *)args.data);
    buf_fini(&args);
}

void command_reply_arity(struct buf *out, const struct command *c) {
    struct buf name = {0};
    append_lower(&name, c->name);
    reply_error(out, "ERR wrong number of arguments for '%.*s' command", (int)name.size,
                (const char *)name.data);
    buf_fini(&name);
}

/* ---- executing ---- */

int call_connection(struct call *c) {
    reply_error(c->out, "ERR '%s' is answered by the connection and cannot be stored",
                c->command->name);
    return 0;
}

int call_storage(struct call *c) {
    reply_error(c->out, "ERR '%s' is not a command of the keyspace", c->command->name);
    return 0;
}

static bool keys_fit(struct call *c) {
    struct command_keys keys;
    if (!command_key_range(c->command, c->count, &keys))
        return true;
    for (size_t i = keys.first; i <= keys.last; i += keys.step) {
        if (c->args[i].size > STORE_KEY_BYTES_MAX) {
            reply_error(c->out, "ERR key exceeds maximum allowed size (%d bytes)",
                        STORE_KEY_BYTES_MAX);
            return false;
        }
    }
    return true;
}

int call_run(struct call *c) {
    const struct argv argv = {.args = (struct slice *)c->args, .count = c->count};
    size_t start = c->out->size;
    c->command = command_find(c->args[0]);
    if (!c->command) {
        command_reply_unknown(c->out, &argv);
        return 0;
    }
    if (!command_arity_ok(c->command, c->count)) {
        command_reply_arity(c->out, c->command);
        return 0;
    }
    if ((c->command->flags & CMD_WRITE) && !keyspace_writable(c->ks)) {
        reply_error(c->out, "ERR '%s' changes the state and cannot be answered from a view",
                    c->command->name);
        return 0;
    }
    if (!keys_fit(c))
        return 0;
    int rc = command_execs[c->command - commands](c);
    if (rc == 0 && c->out->size > c->reply_end) {
        c->out->size = start;
        reply_error(c->out, "ERR the reply would exceed %d bytes", COMMAND_REPLY_BYTES_MAX);
    }
    return rc;
}

int command_execute(struct keyspace *ks, uint16_t db, const struct argv *argv, struct buf *out) {
    struct call c = {
        .ks = ks,
        .db = db,
        .args = argv->args,
        .count = argv->count,
        .out = out,
        .reply_end = out->size + COMMAND_REPLY_BYTES_MAX,
    };
    return call_run(&c);
}
