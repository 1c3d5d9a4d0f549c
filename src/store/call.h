/* One command as it runs: what the functions behind COMMAND_TABLE get, and what they share.
 *
 * Each of them checks first and changes afterwards: a command that answers an error has changed
 * nothing. The checks of arguments alone come before anything is read, and with check_only the
 * function ends there: that is how KV.TXN looks at its commands before it runs the first. (Where
 * Redis looks at the state first, the order of the errors is kept when the command runs.)
 *
 * They return 0 with exactly one reply appended (none with check_only and good arguments), or < 0
 * on a local failure, and then the reply does not matter.
 */
#pragma once
#include "base/reply.h"
#include "store/command_table.h"
#include "store/commands.h"
#include "store/keyspace.h"

struct call {
    struct keyspace *ks;
    const struct command *command;
    const struct slice *args;
    size_t count;
    struct buf *out;
    size_t reply_end; /* the size of `out` that the reply must not pass, see call_room() */
    uint16_t db;
    bool check_only; /* stop behind the checks of the arguments */
};

typedef int (*call_fn)(struct call *c);

#define X(name, args, arity, flags, first, last, step, group, since, exec, summary)                \
    int exec(struct call *c);
COMMAND_TABLE(X)
#undef X

/* Runs one command that another one carries, and sees to the size of its reply. */
int call_run(struct call *c) WARN_UNUSED;

enum {
    CALL_MISSING = KEYSPACE_MISSING,
    CALL_ANSWERED = 2, /* an error reply has been appended */
};

/* ---- replies ---- */

void call_syntax_error(struct call *c);
void call_wrong_type(struct call *c);
/* Whether `bytes` more of reply fit. False: the caller stops appending, and call_run() replaces
 * what is there by an error; so a command that changes something asks before it does. */
bool call_room(const struct call *c, uint64_t bytes);
/* For commands that change something and answer with a value of that size: an error reply and false
 * when it does not fit. */
bool call_room_or_error(struct call *c, uint64_t bytes);

/* ---- arguments; false: an error reply was appended ---- */

bool call_get_i64(struct call *c, size_t at, int64_t *ret_value);
bool call_get_float(struct call *c, size_t at, long double *ret_value);
bool call_get_db(struct call *c, size_t at, uint16_t *ret_db);
bool call_check_value(struct call *c, uint64_t bytes);
bool call_check_field(struct call *c, size_t at);
bool call_check_pattern(struct call *c, struct slice pattern);
/* A cursor and the options behind it; TYPE only when allow_type. */
struct scan_options {
    struct slice pattern; /* data NULL: all */
    struct slice type;    /* likewise */
    uint64_t count;
};
bool call_get_cursor(struct call *c, size_t at, uint64_t *ret_cursor);
bool call_get_scan_options(struct call *c, size_t at, bool allow_type,
                           struct scan_options *ret_options);
static inline bool scan_matches_all(const struct scan_options *o) {
    return !o->pattern.data;
}

/* ---- records ---- */

/* 0, CALL_MISSING, CALL_ANSWERED (of another type: WRONGTYPE) or < 0. */
int call_find(struct call *c, struct slice key, enum record_type type,
              struct record *ret_record) WARN_UNUSED;
/* call_find() of a string, then its value. A missing key is an empty value and CALL_MISSING. */
int call_find_string(struct call *c, struct slice key, struct record *ret_record,
                     struct slice *ret_value) WARN_UNUSED;
/* Writes a string that takes content type and expiry over from `old` (NULL: neither). `value` does
 * not point into the keyspace. */
int call_put_string(struct call *c, struct slice key, struct slice value,
                    const struct record *old) WARN_UNUSED;
/* Sets the expiry of an existing key, or deletes it when that time has come. */
int call_set_expiry(struct call *c, struct slice key, int64_t expiry_ms) WARN_UNUSED;
const char *call_type_name(enum record_type type);

/* ---- expiry ---- */

enum expiry_unit { EXPIRY_SECONDS, EXPIRY_MILLISECONDS };
/* Turns an argument of SET, GETEX and their like into a time; it must be positive. False: an error
 * reply was appended. */
bool call_get_expiry(struct call *c, size_t at, enum expiry_unit unit, bool absolute,
                     int64_t *ret_expiry_ms);
void call_expiry_error(struct call *c);
