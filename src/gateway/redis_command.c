/* COMMAND and its subcommands, out of the command table. Commands that RESP clients cannot call are
 * left out. */
#include <stdlib.h>

#include "base/reply.h"
#include "gateway/redis_conn.h"

static bool is_public(const struct command *c) {
    return !(c->flags & CMD_INTERNAL);
}

static size_t count_public(void) {
    size_t count, public = 0;
    const struct command *all = command_all(&count);
    for (size_t i = 0; i < count; i++)
    public += is_public(&all[i]);
    return public;
}

static const struct command *find_public(struct slice name) {
    const struct command *c = command_find(name);
    return c && is_public(c) ? c : NULL;
}

static void command_list(const struct argv *args, struct buf *out) {
    struct slice pattern = slice_str("*");
    bool by_pattern = args->count == 5 && slice_equal_nocase(args->args[2], "FILTERBY") &&
                      slice_equal_nocase(args->args[3], "PATTERN");
    if (by_pattern) {
        pattern = args->args[4];
    } else if (args->count != 2) {
        reply_error(out, "ERR syntax error");
        return;
    }
    size_t count, match = 0;
    const struct command *all = command_all(&count);
    for (size_t i = 0; i < count; i++)
        match += is_public(&all[i]) && redis_glob_match(pattern, slice_str(all[i].name));
    reply_array(out, match);
    for (size_t i = 0; i < count; i++) {
        if (!is_public(&all[i]) || !redis_glob_match(pattern, slice_str(all[i].name)))
            continue;
        char lower[32];
        size_t n = 0;
        for (; all[i].name[n] && n < sizeof lower; n++)
            lower[n] = (char)(all[i].name[n] >= 'A' && all[i].name[n] <= 'Z' ? all[i].name[n] + 32
                                                                             : all[i].name[n]);
        reply_bulk(out, slice_of(lower, n));
    }
}

static void command_info(const struct argv *args, size_t from, struct buf *out) {
    size_t count;
    const struct command *all = command_all(&count);
    if (args->count <= from) {
        reply_array(out, count_public());
        for (size_t i = 0; i < count; i++)
            if (is_public(&all[i]))
                command_info_append(out, &all[i]);
        return;
    }
    reply_array(out, args->count - from);
    for (size_t i = from; i < args->count; i++) {
        const struct command *c = find_public(args->args[i]);
        if (c)
            command_info_append(out, c);
        else
            reply_null_array(out);
    }
}

static void command_docs(const struct argv *args, struct buf *out) {
    size_t count, known = 0;
    const struct command *all = command_all(&count);
    if (args->count == 2) {
        reply_map(out, count_public());
        for (size_t i = 0; i < count; i++)
            if (is_public(&all[i]))
                command_docs_reply(out, &all[i]);
        return;
    }
    for (size_t i = 2; i < args->count; i++)
        known += find_public(args->args[i]) != NULL;
    reply_map(out, known);
    for (size_t i = 2; i < args->count; i++) {
        const struct command *c = find_public(args->args[i]);
        if (c)
            command_docs_reply(out, c);
    }
}

static void command_getkeys(const struct argv *args, struct buf *out) {
    struct argv rest = {.args = args->args + 2, .count = args->count - 2};
    const struct command *c = rest.count ? find_public(rest.args[0]) : NULL;
    struct command_keys keys;
    if (!c) {
        reply_error(out, "ERR Invalid command specified");
    } else if (!command_arity_ok(c, rest.count)) {
        reply_error(out, "ERR Invalid number of arguments specified for command");
    } else if (!command_key_range(c, rest.count, &keys)) {
        reply_error(out, "ERR The command has no key arguments");
    } else {
        reply_array(out, (keys.last - keys.first) / keys.step + 1);
        for (size_t i = keys.first; i <= keys.last; i += keys.step)
            reply_bulk(out, rest.args[i]);
    }
}

void redis_command(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    static const char *const help[] = {
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    Details of every command.",
        "COUNT",
        "    How many commands there are.",
        "DOCS [<command> ...]",
        "    What commands are for.",
        "GETKEYS <full-command>",
        "    The keys of a command with its arguments.",
        "INFO [<command> ...]",
        "    Details of the commands named.",
        "LIST [FILTERBY PATTERN <pattern>]",
        "    The names of all commands.",
        "HELP",
        "    This help.",
    };
    (void)rc;
    if (args->count == 1) {
        command_info(args, 1, out);
        return;
    }
    struct slice sub = args->args[1];
    if (slice_equal_nocase(sub, "COUNT")) {
        if (args->count == 2)
            reply_int(out, (int64_t)count_public());
        else
            redis_error_arity(out, "command", "count");
    } else if (slice_equal_nocase(sub, "DOCS")) {
        command_docs(args, out);
    } else if (slice_equal_nocase(sub, "INFO")) {
        command_info(args, 2, out);
    } else if (slice_equal_nocase(sub, "LIST")) {
        command_list(args, out);
    } else if (slice_equal_nocase(sub, "GETKEYS")) {
        if (args->count > 3)
            command_getkeys(args, out);
        else
            redis_error_arity(out, "command", "getkeys");
    } else if (slice_equal_nocase(sub, "HELP")) {
        reply_array(out, ARRAY_COUNT(help));
        for (size_t i = 0; i < ARRAY_COUNT(help); i++)
            reply_simple(out, help[i]);
    } else {
        redis_error_subcommand(out, "COMMAND", sub);
    }
}
