/* What a token may do among the commands.
 *
 * A command with keys: a reading one needs `read` for all of them, a writing one `write`; those
 * that also hand out what was stored (GETDEL, SET with GET, COPY and their kin) need `read` for the
 * key they take it from. Commands without keys have a rule in RULES. One that has neither is the
 * admin's. Every token holds in all numbered databases.
 */
#include <ctype.h>

#include "base/glob.h"
#include "base/reply.h"
#include "gateway/access.h"

enum rule {
    RULE_KEYS,    /* by the positions of its keys */
    RULE_FREE,    /* any token */
    RULE_PATTERN, /* names keys by a pattern: all that it can match must be readable */
    RULE_ALL,     /* tells about all keys: "*" must be readable */
    RULE_CLIENT,  /* about the own connection any token, else the admin */
    RULE_OBJECT,  /* its key is behind a subcommand */
    RULE_GIVES,   /* writes its keys, and the first one is read */
    RULE_SET,     /* gives when there is a GET */
    RULE_ADMIN,
};

#define RULES(X)                                                                                   \
    X("AUTH", FREE)                                                                                \
    X("HELLO", FREE)                                                                               \
    X("QUIT", FREE)                                                                                \
    X("RESET", FREE)                                                                               \
    X("PING", FREE)                                                                                \
    X("ECHO", FREE)                                                                                \
    X("SELECT", FREE)                                                                              \
    X("COMMAND", FREE)                                                                             \
    X("INFO", FREE)                                                                                \
    X("TIME", FREE)                                                                                \
    X("MULTI", FREE)                                                                               \
    X("EXEC", FREE)                                                                                \
    X("DISCARD", FREE)                                                                             \
    X("UNWATCH", FREE)                                                                             \
    X("CLIENT", CLIENT)                                                                            \
    X("CONFIG", ADMIN)                                                                             \
    X("FLUSHALL", ADMIN)                                                                           \
    X("FLUSHDB", ADMIN)                                                                            \
    X("DBSIZE", ALL)                                                                               \
    X("RANDOMKEY", ALL)                                                                            \
    X("KEYS", PATTERN)                                                                             \
    X("SCAN", PATTERN)                                                                             \
    X("OBJECT", OBJECT)                                                                            \
    X("GETDEL", GIVES)                                                                             \
    X("GETEX", GIVES)                                                                              \
    X("GETSET", GIVES)                                                                             \
    X("RENAME", GIVES)                                                                             \
    X("RENAMENX", GIVES)                                                                           \
    X("MOVE", GIVES)                                                                               \
    X("COPY", GIVES)                                                                               \
    X("SET", SET)

static const struct {
    const char *name;
    enum rule rule;
} rules[] = {
#define X(name, rule) {name, RULE_##rule},
    RULES(X)
#undef X
};

static enum rule rule_of(const struct command *command) {
    for (size_t i = 0; i < ARRAY_COUNT(rules); i++)
        if (strcmp(rules[i].name, command->name) == 0)
            return rules[i].rule;
    return command->key_step > 0 && !(command->flags & CMD_INTERNAL) ? RULE_KEYS : RULE_ADMIN;
}

bool access_command_has_rule(const struct command *command) {
    for (size_t i = 0; i < ARRAY_COUNT(rules); i++)
        if (strcmp(rules[i].name, command->name) == 0)
            return true;
    return command->key_step > 0;
}

static enum access_command keys_may(const struct access_token *t, const struct command *command,
                                    const struct argv *argv, bool gives) {
    struct command_keys keys;
    if (!command_key_range(command, argv->count, &keys))
        return COMMAND_MAY_NOT;
    bool writes = (command->flags & CMD_WRITE) != 0;
    bool copies = strcmp(command->name, "COPY") == 0; /* its first key stays as it is */
    for (size_t i = keys.first; i <= keys.last && i < argv->count; i += keys.step) {
        bool first = i == keys.first;
        if (((!writes || (gives && first)) && !access_token_reads(t, argv->args[i])) ||
            (writes && !(copies && first) && !access_token_writes(t, argv->args[i])))
            return COMMAND_KEY_MAY_NOT;
    }
    return COMMAND_MAY;
}

static enum access_command pattern_may(const struct access_token *t, const struct command *command,
                                       const struct argv *argv) {
    struct slice pattern = slice_of(NULL, 0);
    if (strcmp(command->name, "KEYS") == 0)
        pattern = argv->args[1];
    for (size_t i = 2; i + 1 < argv->count; i += 2) /* the last MATCH counts */
        if (slice_equal_nocase(argv->args[i], "MATCH"))
            pattern = argv->args[i + 1];
    return access_token_reads_prefix(t, glob_literal_prefix(pattern)) ? COMMAND_MAY
                                                                      : COMMAND_KEY_MAY_NOT;
}

static enum access_command object_may(const struct access_token *t, const struct argv *argv) {
    for (size_t i = 2; i < argv->count; i++)
        if (!access_token_reads(t, argv->args[i]))
            return COMMAND_KEY_MAY_NOT;
    return COMMAND_MAY;
}

/* Of CLIENT: what is about the connection that asks. */
static enum access_command client_may(const struct argv *argv) {
    static const char *const own[] = {"ID",    "GETNAME",  "SETNAME",  "SETINFO", "INFO",
                                      "REPLY", "NO-EVICT", "NO-TOUCH", "HELP"};
    for (size_t i = 0; i < ARRAY_COUNT(own); i++)
        if (argv->count > 1 && slice_equal_nocase(argv->args[1], own[i]))
            return COMMAND_MAY;
    return COMMAND_MAY_NOT;
}

static bool has_get(const struct argv *argv) {
    for (size_t i = 3; i < argv->count; i++)
        if (slice_equal_nocase(argv->args[i], "GET"))
            return true;
    return false;
}

enum access_command access_command(const struct who *who, const struct command *command,
                                   const struct argv *argv) {
    const struct access_token *t = who->token;
    if (who->kind == WHO_TRUSTED)
        return COMMAND_MAY;
    if (who->kind != WHO_TOKEN)
        return COMMAND_MAY_NOT;
    switch (rule_of(command)) {
    case RULE_KEYS:
        return keys_may(t, command, argv, false);
    case RULE_GIVES:
        return keys_may(t, command, argv, true);
    case RULE_SET:
        return keys_may(t, command, argv, has_get(argv));
    case RULE_FREE:
        return COMMAND_MAY;
    case RULE_PATTERN:
        return pattern_may(t, command, argv);
    case RULE_ALL:
        return access_token_reads_prefix(t, slice_of(NULL, 0)) ? COMMAND_MAY : COMMAND_MAY_NOT;
    case RULE_CLIENT:
        return client_may(argv);
    case RULE_OBJECT:
        return object_may(t, argv);
    case RULE_ADMIN:
        break;
    }
    return COMMAND_MAY_NOT;
}

static void append_lower(struct buf *out, struct slice text) {
    for (size_t i = 0; i < text.size && i < 64; i++)
        buf_append_char(out, (char)tolower(text.data[i]));
}

void access_command_error(struct buf *out, enum access_command verdict, const struct who *who,
                          const struct command *command, const struct argv *argv) {
    struct buf name = {0};
    if (verdict == COMMAND_KEY_MAY_NOT) {
        reply_error(out, "NOPERM No permissions to access a key");
        return;
    }
    append_lower(&name, slice_str(command->name));
    bool sub = strcmp(command->name, "CLIENT") == 0 || strcmp(command->name, "CONFIG") == 0;
    if (sub && argv->count > 1) {
        buf_append_char(&name, '|');
        append_lower(&name, argv->args[1]);
    }
    reply_error(out, "NOPERM User %s has no permissions to run the '%.*s' command",
                who->token ? who->token->name : "default", (int)name.size, (const char *)name.data);
    buf_fini(&name);
}
