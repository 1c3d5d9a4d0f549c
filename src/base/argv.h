/* A command and its arguments in packed form: u32 count, then for each argument u32 size and the
 * bytes. It is what travels in link frames and log entries; the first argument is the command's
 * name.
 */
#pragma once
#include "base/buf.h"

enum {
    ARGV_COUNT_MAX = 1024 * 1024, /* as Redis's limit on a multibulk */
};

/* Appends count arguments. */
void argv_append(struct buf *b, const struct slice *args, size_t count);
/* Packs C strings, for callers that build a command in code: NULL ends the list. */
void argv_append_strs(struct buf *b, const char *first, ...) __attribute__((sentinel));

struct argv {
    struct slice *args; /* each borrows from the packed bytes */
    size_t count;
    size_t capacity;
};

void argv_fini(struct argv *a);
/* Unpacks all of `packed` into `a` (whose memory is reused). False when malformed: count 0 or over
 * ARGV_COUNT_MAX, a size beyond the end, bytes left over. */
bool argv_unpack(struct argv *a, struct slice packed) WARN_UNUSED;
/* Whether argv_unpack() would take it. */
bool argv_check(struct slice packed) WARN_UNUSED;
