/* The command table: every command, once. Dispatch, arity checks, routing, COMMAND and its
 * subcommands, and the table in docs/protocols.md are expanded from COMMAND_TABLE.
 *
 * Arity as in Redis: the count of arguments with the name; negative means at least that many.
 * Keys: positions of the first and last key and the step between them, as in Redis's COMMAND; last
 * may be negative (counted from the end); all 0: no keys.
 *
 * The internal commands (CMD_INTERNAL). Numbers are decimal text, "" means absent; replies are
 * neutral replies (base/reply.h); statuses are those that HTTP answers with.
 *
 *   KV.GET key                  [revision, expiry_ms or 0, content type, value], missing: null
 *   KV.HEAD key                 [revision, expiry_ms or 0, content type, value size], missing: null
 *   KV.PUT key value content-type ttl if-match if-none-match
 *       ttl: "" never expires, "keep", or milliseconds from the entry's time; if-match,
 * if-none-match: "",
 *       "*" or revisions joined by ",".   [201 or 204, revision, expiry_ms or 0]; [412, current
 * revision or 0] KV.DEL key if-match if-none-match    [204 or 404, revision of the deletion]; [412,
 * current revision or 0] KV.LIST prefix delimiter after limit values keys after `after` in byte
 * order; names are cut behind the first delimiter that follows the prefix and then stand once among
 * the common prefixes; values: "0" or "1" (string values up to 64 KiB are included). [state
 * revision, next `after` or null, [[key, revision, expiry_ms, type name, size in bytes or members,
 * content type, value or null] ...], [common prefix ...]] KV.INCR key by min max ttl  [200, value,
 * revision]; [409, current value, revision] when a bound would be passed KV.TXN guards thens elses
 * three counts, then the guards, each `kind key operand` (kind: "rev" with a revision, 0 for
 * missing; "value" with the bytes; "exists"; "absent"), then the commands, each `argc arg...` (any
 * store command but KV.TXN and TX.EXEC). [200, [reply ...]]; [412, index of the failed guard,
 * [reply ...] of the else branch] KV.REV key...               [revision or 0 ...] TX.EXEC watches
 * commands    two counts, then the watches, each `db key revision`, then the commands, each `db
 * argc arg...`: what EXEC sends. [reply ...], or a missing array when a watched key has changed
 *   SESSION.OPEN                creates the group's session; its sequence must be 1. +OK
 *   SESSION.SWEEP now_ms        removes sessions that were silent for an hour. :removed
 *   EXPIRE.SWEEP now_ms limit   deletes up to limit expired keys. :deleted
 *   NODE.ALLOC                  a node id that was never given out before. :id
 */
#pragma once
#include "base/slice.h"

enum command_flag {
    CMD_WRITE = 1 << 0, /* changes the state: goes through the log */
    CMD_READ = 1 << 1,  /* only reads it: answered from a view */
    CMD_CONNECTION =
        1 << 2,         /* answered by the gateway's connection itself (HELLO, SELECT, MULTI ...) */
    CMD_GROWS = 1 << 3, /* may add data: refused when over the quota (Redis's denyoom) */
    CMD_FAST = 1 << 4,  /* O(1) or O(log n): Redis's fast flag */
    CMD_INTERNAL = 1 << 5, /* ours, for HTTP and the nodes; RESP clients get "unknown command" */
    CMD_NO_MULTI = 1 << 6, /* not allowed between MULTI and EXEC */
};

struct command {
    const char *name; /* upper case */
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
