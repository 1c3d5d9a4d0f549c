/* The Redis protocol, sans-I/O: commands out of bytes, neutral replies (base/reply.h) into RESP2 or
 * RESP3. Spec: github.com/redis/redis-specifications (RESP3), redis.io "Redis serialization
 * protocol".
 *
 * Commands are arrays of bulk strings, or inline commands (a line of words with Redis's quoting).
 * Errors carry Redis's wording. */
#pragma once
#include "base/argv.h"
#include "base/buf.h"

enum {
    RESP_INLINE_BYTES_MAX = 64 * 1024, /* also of the line of a count or a length */
};

struct resp_limits {
    uint32_t args_max;       /* elements of a multibulk; 1,048,576 */
    uint32_t bulk_bytes_max; /* one argument */
    uint64_t command_bytes_max;
};

/* Of who has not logged in and must, as in Redis 7.2: enough for AUTH and HELLO. */
enum { RESP_STRANGER_ARGS_MAX = 10, RESP_STRANGER_BULK_BYTES_MAX = 16 * 1024 };

/* State of the command being read. Offsets are relative to the command's first byte, so that the
 * caller may move its buffer. */
struct resp_parser {
    struct resp_limits limits;
    bool stranger;      /* may be changed between commands: RESP_STRANGER_... hold too */
    size_t at;          /* bytes of the command understood so far */
    size_t scanned;     /* bytes behind `at` in which no line end was found */
    int64_t args_left;  /* -1: header not yet seen */
    int64_t bulk_bytes; /* of the argument that begins at `at`; -1: its header not yet seen */
    struct argv args;   /* while incomplete: data holds offsets, not pointers */
    struct buf inline_words;
    char error[96];
};

enum resp_result {
    RESP_COMMAND, /* parser->args holds it, borrowing from `in` (inline commands: from the parser)
                   */
    RESP_EMPTY,   /* an empty line or empty array: skip *ret_used bytes, nothing to answer */
    RESP_MORE,    /* incomplete; call again with more bytes behind the same ones */
    RESP_ERROR,   /* parser->error holds "ERR Protocol error: ..."; answer it and close. Every
                     further call returns the same. */
};

void resp_parser_init(struct resp_parser *p, const struct resp_limits *limits);
void resp_parser_fini(struct resp_parser *p);
/* Gives memory back while idle, that is between commands; what the last one was is forgotten. In
 * the middle of a command it does nothing. */
void resp_parser_trim(struct resp_parser *p);
/* `in` begins at the first byte of a command, also on repeated calls for the same command. On
 * COMMAND and EMPTY *ret_used is what the command takes; the next call begins behind it, or at the
 * same byte again, when the caller cannot take the command yet. Work is linear in bytes however
 * they arrive. */
enum resp_result resp_parse(struct resp_parser *p, struct slice in, size_t *ret_used);
/* While MORE: how many bytes the command has at the least, as far as known. It is a client's claim,
 * within the limits: let a buffer grow towards it, do not allocate it at once. */
size_t resp_parser_need(const struct resp_parser *p);

/* Appends one whole neutral reply in the client's protocol version (2 or 3). The input is trusted
 * to be well formed (it comes from our nodes; checked where frames are decoded). Returns false if
 * not, having appended nothing. */
bool resp_append_reply(struct buf *out, struct slice reply, int version);
