/* clang-format off */
/* The command table: every command, once. Dispatch, arity checks, routing, COMMAND and its
 * subcommands, and the table in docs/protocols.md are expanded from COMMAND_TABLE
 * (store/command_table.h).
 *
 * Arity as in Redis: the count of arguments with the name; negative means at least that many.
 * Keys: positions of the first and last key and the step between them, as in Redis's COMMAND; last
 * may be negative (counted from the end); all 0: no keys.
 *
 * Everything here is constant after the first call and may be used on any thread.
 *
 * The internal commands (CMD_INTERNAL). Numbers are decimal text, "" means absent; replies are
 * neutral replies (base/reply.h); statuses are those that HTTP answers with. KV.GET, HEAD, PUT
 * and INCR of a key that holds a hash answer WRONGTYPE; KV.DEL deletes keys of any type.
 *
 *   KV.GET key
 *       [revision, expiry_ms or 0, content type, value]; missing: null
 *   KV.HEAD key
 *       [revision, expiry_ms or 0, content type, value size]; missing: null
 *   KV.PUT key value content-type ttl if-match if-none-match
 *       ttl: "" never expires, "keep", or milliseconds from the entry's time; if-match,
 *       if-none-match: "", "*" or revisions joined by ",".
 *       [201 or 204, revision, expiry_ms or 0]; [412, current revision or 0]
 *   KV.DEL key if-match if-none-match
 *       [204, revision of the deletion]; [404, 0]; [412, current revision or 0]
 *   KV.LIST prefix delimiter after limit values
 *       Keys behind `after` in byte order. Names are cut behind the first delimiter that follows the
 *       prefix and then stand once among the common prefixes. limit: 1 to KV_LIST_LIMIT_MAX keys and
 *       common prefixes; a page may be shorter, so that its reply stays moderate. values: "0" or "1"
 *       (string values up to 64 KiB are included).
 *       [revision of the state, next `after` or null, [[key, revision, expiry_ms, type name,
 *       size in bytes or members, content type, value or null] ...], [common prefix ...]]
 *   KV.INCR key by min max ttl
 *       by: "" is 1. ttl: milliseconds, given to a counter that this call creates; one that exists
 *       keeps its expiry, so that a window begins with its first event.
 *       [200, value, revision]; [409, current value, its revision or 0] when a bound would be passed
 *   KV.TXN guards thens elses
 *       Three counts, then the guards, each `kind key operand` (kind: "rev" with a revision, 0 for
 *       missing; "value" with the bytes; "exists"; "absent"), then the commands of both branches,
 *       each `argc arg...`: any command of the store but KV.TXN, TX.EXEC and the nodes' own. All
 *       that can be seen without the state (structure, names, arity, syntax, sizes; of both
 *       branches) is checked first: an error reply means that nothing ran. A command that fails on
 *       the state (a wrong type, an overflow) has its error reply in the list, as in MULTI, and the
 *       others stand: what must not fail is to be guarded.
 *       [200, [reply ...]]; [412, index of the failed guard, [reply ...] of the else branch]
 *   KV.REV key...
 *       [revision or 0 ...], of keys of any type
 *   KV.CHANGES since filter text values
 *       What has changed behind the revision `since`, oldest first (store/changes.h). filter: "all",
 *       "prefix" or "key", with text. values: "0" or "1" (values of strings up to 64 KiB, as far as
 *       they are known: of up to 256 bytes always, of larger ones until the key is changed again).
 *       [floor, upto, [row ...]]: the page has all changes behind since up to `upto`, which is the
 *       end of the state that was seen, or of a full page (about 1 MiB). When since is below floor
 *       the history in between is gone, and there are no rows. A row is [revision, "delete" or
 *       "expire", key], [revision, "flush", ""]: all keys of the database are gone,
 *       or [revision, "put", key, expiry_ms, type name, size, content type, value or null]
 *   KV.COUNT
 *       [keys of the database, those with an expiry among them], expired ones not yet swept included
 *   TX.EXEC watches commands
 *       Two counts, then the watches, each `db key revision`, then the commands, each
 *       `db argc arg...`: what EXEC sends. Commands of the connection (PING, SELECT, ...) do not
 *       belong here. [reply ...], or a missing array when a watched key has changed
 *   TX.READ commands
 *       A count, then the commands, each `db argc arg...`, which only read. [reply ...]
 *   ONCE.EXEC id command...     executes the command, a writing one that is none of the nodes' own,
 *       and keeps its reply under the id for a day (store/once.h).
 *       [0 executed now or 1 executed before, log index of the execution, the command's reply].
 *       Errors, nothing executed: MISMATCH, another command was executed under this id; ONCEFULL.
 *       In the place of a reply that was too large to keep: NOTKEPT
 *   ONCE.SWEEP now_ms limit     forgets up to limit ids whose day is over. :forgotten
 *   SESSION.OPEN                creates the group's session; its sequence must be 1. +OK
 *   SESSION.SWEEP now_ms        removes sessions that were silent for an hour. :removed
 *   EXPIRE.SWEEP now_ms limit   deletes up to limit expired keys. :deleted
 *   SITE.*                      what sites are made of: store/sites.h
 *   NODE.ALLOC                  a node id that was never given out before. :id
 */
/* clang-format on */
#pragma once
#include "base/argv.h"

enum {
    /* A reply is at most this long, so that it fits into one link frame; commands whose reply would
     * be longer answer an error and change nothing. */
    COMMAND_REPLY_BYTES_MAX = 70 * 1024 * 1024,
    COMMAND_CONTENT_TYPE_BYTES_MAX = 255,
    COMMAND_PATTERN_BYTES_MAX = 4096,   /* of KEYS and MATCH */
    COMMAND_TXN_COMMANDS_MAX = 1 << 18, /* in one MULTI or KV.TXN */
    KV_LIST_LIMIT_MAX = 10000,
};

enum command_flag {
    CMD_WRITE = 1 << 0,      /* changes the state: goes through the log */
    CMD_READ = 1 << 1,       /* only reads it: answered from a view */
    CMD_CONNECTION = 1 << 2, /* answered by the gateway's connection itself (HELLO, MULTI ...) */
    CMD_GROWS = 1 << 3,      /* may add data: refused when over the quota (Redis's denyoom) */
    CMD_FAST = 1 << 4,       /* O(1) or O(log n): Redis's fast flag */
    CMD_INTERNAL = 1 << 5,   /* for HTTP and the nodes; RESP clients get "unknown command" */
    CMD_NO_MULTI = 1 << 6,   /* not allowed between MULTI and EXEC */
    CMD_NO_AUTH = 1 << 7,    /* allowed before AUTH */
    CMD_NO_SCRIPT = 1 << 8,  /* these five are only told in COMMAND INFO */
    CMD_LOADING = 1 << 9,
    CMD_STALE = 1 << 10,
    CMD_ALLOW_BUSY = 1 << 11,
    CMD_SKIP_SLOWLOG = 1 << 12,
};

struct command {
    const char *name; /* upper case */
    const char *args; /* the arguments' syntax, as in Redis's documentation; "" for none */
    int arity;
    unsigned flags;
    int first_key, last_key, key_step;
    const char *group;   /* as in Redis's COMMAND DOCS: "string", "generic", "connection" ... */
    const char *since;   /* the Redis version that introduced it; "" for ours */
    const char *summary; /* one line, our words */
};

/* Case-insensitive. NULL when unknown. */
const struct command *command_find(struct slice name);
/* All of them, in table order. */
const struct command *command_all(size_t *ret_count);
bool command_arity_ok(const struct command *c, size_t argc);

/* Which arguments of a command with argc arguments are keys: for (i = first; i <= last; i += step).
 * False when there are none. argc has passed command_arity_ok(). */
struct command_keys {
    size_t first, last, step;
};
bool command_key_range(const struct command *c, size_t argc, struct command_keys *ret_keys);

/* Whether the command may add data: it, or one that it carries (TX.EXEC, KV.TXN), has CMD_GROWS.
 * False for unknown and malformed ones, which change nothing. */
bool command_grows(const struct argv *argv);

/* What a command that carries others may carry: what the keyspace executes, but no transactions. */
bool command_may_be_carried(const struct command *command);

/* The error replies of Redis to an unknown name and to a wrong count of arguments. */
void command_reply_unknown(struct buf *out, const struct argv *argv);
void command_reply_arity(struct buf *out, const struct command *c);

/* What COMMAND and COMMAND INFO answer about one command. */
void command_info_append(struct buf *out, const struct command *c);
/* What COMMAND DOCS answers about one command: its name, then a map. */
void command_docs_reply(struct buf *out, const struct command *c);
/* The Markdown table of all public commands: docs/protocols.md contains exactly this. */
void command_docs_append(struct buf *out);
