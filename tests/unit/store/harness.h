/* Runs commands on a keyspace and gives their replies as short text. Two backends, and each test of
 * the commands is built with both: harness_fake.c on the model, harness_store.c on the store.
 *
 * Text of replies: +OK, -ERR ..., 5, 'bytes' (of others than printable ones \xx), nil, nil[] (a
 * missing array), [a b], {key value}. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/argv.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/reply.h"

struct harness {
    struct backend *backend;
    uint64_t now_ms; /* the time at which commands run, see harness_advance() */
    uint64_t count;  /* commands run */
    uint16_t db;
    struct argv argv;
    struct buf packed, reply, text;
};

/* ---- of the backend ---- */

struct backend *backend_new(void);
void backend_free(struct backend *b);
/* Runs a command, or (view) answers it as a read. Appends the neutral reply. */
void backend_run(struct backend *b, struct harness *h, bool view, struct buf *out);
/* Changes whenever the state does, time included. */
struct hash128 backend_digest(struct backend *b);

/* ---- of the tests ---- */

int harness_setup(void **state);
int harness_teardown(void **state);
/* Lets time pass. */
void harness_advance(struct harness *h, uint64_t ms);
/* Words are split at blanks; '' is an empty one, \xx a byte. Returns the text of the reply, valid
 * until the next call. Fails the test when an error changed the state, or when a view answers a
 * read otherwise than the writer does. */
const char *run(struct harness *h, const char *words);
/* The same of arguments with any bytes. */
const char *run_args(struct harness *h, const struct slice *args, size_t count);
/* The integer that a reply is. */
int64_t run_int(struct harness *h, const char *words);

#define SAYS(h, words, want) assert_string_equal(run(h, words), want)
#define OK(h, words) SAYS(h, words, "+OK")
#define WRONG_TYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define NOT_INTEGER "-ERR value is not an integer or out of range"
#define SYNTAX "-ERR syntax error"
