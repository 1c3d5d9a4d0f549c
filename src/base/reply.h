/* The neutral form of a reply: what the store produces and gateways translate.
 *
 * It is RESP3 (github.com/redis/redis-specifications) with two additions from RESP2 that RESP3
 * merged: "$-1" is a missing value and "*-1" a missing array; "_" is not used. A gateway writes it
 * to a RESP3 client after turning both into "_", to a RESP2 client after turning maps, sets,
 * doubles and booleans into their RESP2 forms (proto/resp.h), and to an HTTP client by walking it.
 *
 * Every function appends to `out`.
 */
#pragma once
#include "base/buf.h"

void reply_simple(struct buf *out, const char *text); /* +text */
/* -text. `text` begins with the code ("ERR ..."); CR and LF in it become spaces. */
void reply_error(struct buf *out, const char *fmt, ...) PRINTF_LIKE(2, 3);
void reply_int(struct buf *out, int64_t value);        /* :value */
void reply_bulk(struct buf *out, struct slice value);  /* $size value */
void reply_bulk_str(struct buf *out, const char *str); /* the same of a C string */
void reply_null(struct buf *out);                      /* $-1 */
void reply_null_array(struct buf *out);                /* *-1 */
void reply_array(struct buf *out, size_t count);       /* *count, the elements follow */
void reply_map(struct buf *out, size_t pairs);         /* %pairs, keys and values follow */
void reply_set(struct buf *out, size_t count);         /* ~count, the elements follow */
void reply_double(struct buf *out, double value);      /* ,value */
void reply_bool(struct buf *out, bool value);          /* #t or #f */

static inline bool reply_is_error(struct slice reply) {
    return reply.size > 0 && reply.data[0] == '-';
}
static inline bool reply_is_null(struct slice reply) {
    return reply.size >= 3 && (reply.data[0] == '$' || reply.data[0] == '*') &&
           reply.data[1] == '-';
}

/* One element of a reply, for walking it. */
struct reply_item {
    char type;          /* '+' '-' ':' '$' '*' '%' '~' ',' '#'; 'n' for both missing forms */
    int64_t integer;    /* ':' the value; '#' 0 or 1; '*' '%' '~' the count of elements or pairs */
    struct slice bytes; /* '+' '-' '$' ',' the text; borrows from the input */
};

/* How many elements follow the header of an aggregate; 0 for all others. Not to be trusted: compare
 * it with the bytes that are left before adding it to anything. */
static inline uint64_t reply_item_children(const struct reply_item *item) {
    uint64_t count = (uint64_t)item->integer;
    return item->type == '*' || item->type == '~' ? count : item->type == '%' ? 2 * count : 0;
}

/* Takes the next element off the front of `*in` (for an aggregate: its header only). False when the
 * bytes are not a well-formed reply, and then `*in` is unchanged. */
bool reply_next(struct slice *in, struct reply_item *ret_item);
/* Takes one whole reply, aggregates with all they hold, off the front of `*in`. */
bool reply_skip(struct slice *in);
