/* What is told about the commands: COMMAND INFO, COMMAND DOCS, and the table of
 * docs/protocols.md. */
#include <ctype.h>

#include "base/reply.h"
#include "store/commands.h"

static const struct {
    unsigned flag;
    const char *name;
} info_flags[] = {
    {CMD_WRITE, "write"},
    {CMD_READ, "readonly"},
    {CMD_GROWS, "denyoom"},
    {CMD_NO_SCRIPT, "noscript"},
    {CMD_LOADING, "loading"},
    {CMD_STALE, "stale"},
    {CMD_SKIP_SLOWLOG, "skip_slowlog"},
    {CMD_FAST, "fast"},
    {CMD_NO_AUTH, "no_auth"},
    {CMD_ALLOW_BUSY, "allow_busy"},
};

/* OBJECT, CLIENT and CONFIG only carry subcommands; in Redis such names have no flags. */
static bool is_container(const struct command *c) {
    return strcmp(c->name, "OBJECT") == 0 || strcmp(c->name, "CLIENT") == 0 ||
           strcmp(c->name, "CONFIG") == 0;
}

static void reply_lower(struct buf *out, const char *name) {
    char text[32];
    size_t n = strlen(name);
    CHECK(n < sizeof text);
    for (size_t i = 0; i <= n; i++)
        text[i] = (char)tolower((unsigned char)name[i]);
    reply_bulk_str(out, text);
}

static void info_append_flags(struct buf *out, const struct command *c) {
    size_t count = 0;
    for (size_t pass = 0; pass < 2; pass++) {
        if (pass == 1)
            reply_set(out, count);
        for (size_t i = 0; i < ARRAY_COUNT(info_flags); i++) {
            if (!(c->flags & info_flags[i].flag) || is_container(c))
                continue;
            if (pass == 0)
                count++;
            else
                reply_simple(out, info_flags[i].name);
        }
    }
}

/* Redis's categories follow from group and flags, but for a few commands that it counts among the
 * dangerous ones. */
static void info_append_categories(struct buf *out, const struct command *c) {
    static const char *const dangerous[] = {"FLUSHALL", "FLUSHDB", "KEYS", "INFO"};
    const char *names[5];
    size_t count = 0;
    bool keyspace = strcmp(c->group, "generic") == 0 || strcmp(c->name, "DBSIZE") == 0 ||
                    strncmp(c->name, "FLUSH", 5) == 0;
    if (keyspace && !is_container(c))
        names[count++] = "@keyspace";
    if (!is_container(c) && c->flags & (CMD_WRITE | CMD_READ))
        names[count++] = c->flags & CMD_WRITE ? "@write" : "@read";
    if (strcmp(c->group, "string") == 0)
        names[count++] = "@string";
    else if (strcmp(c->group, "hash") == 0)
        names[count++] = "@hash";
    names[count++] = c->flags & CMD_FAST ? "@fast" : "@slow";
    for (size_t i = 0; i < ARRAY_COUNT(dangerous); i++)
        if (strcmp(c->name, dangerous[i]) == 0)
            names[count++] = "@dangerous";
    if (strcmp(c->group, "transactions") == 0)
        names[count++] = "@transaction";
    else if (!is_container(c) &&
             (strcmp(c->group, "connection") == 0 || strcmp(c->name, "COMMAND") == 0))
        names[count++] = "@connection";
    CHECK(count <= ARRAY_COUNT(names));
    reply_set(out, count);
    for (size_t i = 0; i < count; i++)
        reply_simple(out, names[i]);
}

void command_info_append(struct buf *out, const struct command *c) {
    reply_array(out, 10);
    reply_lower(out, c->name);
    reply_int(out, c->arity);
    info_append_flags(out, c);
    reply_int(out, c->first_key);
    reply_int(out, c->last_key);
    reply_int(out, c->key_step);
    info_append_categories(out, c);
    reply_array(out, 0); /* tips */
    reply_array(out, 0); /* key specifications: first, last and step say it all */
    reply_array(out, 0); /* subcommands */
}

void command_docs_reply(struct buf *out, const struct command *c) {
    reply_lower(out, c->name);
    reply_map(out, 3);
    reply_bulk_str(out, "summary");
    reply_bulk_str(out, c->summary);
    reply_bulk_str(out, "since");
    reply_bulk_str(out, c->since);
    reply_bulk_str(out, "group");
    reply_bulk_str(out, c->group);
}

/* ---- Markdown ---- */

static void append_cell_code(struct buf *out, const struct command *c) {
    buf_append_char(out, '`');
    buf_append_str(out, c->name);
    if (c->args[0])
        buf_append_char(out, ' ');
    for (const char *p = c->args; *p; p++) {
        if (*p == '|')
            buf_append_char(out, '\\'); /* a bar ends a cell, even inside code */
        buf_append_char(out, *p);
    }
    buf_append_char(out, '`');
}

void command_docs_append(struct buf *out) {
    size_t count;
    const struct command *all = command_all(&count);
    buf_append_str(out, "| Command | Group | Since Redis | What it does |\n"
                        "|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        if (all[i].flags & CMD_INTERNAL)
            continue;
        buf_append_str(out, "| ");
        append_cell_code(out, &all[i]);
        buf_printf(out, " | %s | %s | %s |\n", all[i].group, all[i].since, all[i].summary);
    }
}
