/* Parts of the steady load client: load.c (connections, pace, choice of operations) and
 * load_protocol.c (an operation's bytes, an answer's meaning). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { KEY_BYTES = 48, BURST_MAX = 16, ETAG_BYTES = 40, IN_BYTES = 65536, OUT_BYTES = 8192 };

/* X(kind, its name in the history, whether it changes something) */
#define OPERATIONS(X)                                                                              \
    X(INCR, "incr", true)                                                                          \
    X(COUNT, "count", false)                                                                       \
    X(APPEND, "append", true)                                                                      \
    X(TEXT, "text", false)                                                                         \
    X(READ, "read", false)                                                                         \
    X(WRITE, "write", true)                                                                        \
    X(CAS, "cas", true)
enum op_kind {
#define X(kind, name, writes) OP_##kind,
    OPERATIONS(X)
#undef X
};

enum outcome {
    OUTCOME_OK,
    OUTCOME_NO,      /* certainly not applied */
    OUTCOME_UNKNOWN, /* may have been, or may yet be */
};

struct op {
    enum op_kind kind;
    char key[KEY_BYTES];
    uint64_t start_ns;
    uint64_t value;        /* WRITE, CAS: the new one */
    uint64_t old;          /* CAS: the expected one; 0: there is none */
    char etag[ETAG_BYTES]; /* CAS over HTTP: of the expected one */
    char id[24];           /* APPEND */
    bool watch;            /* READ over Redis: a CAS that watches the key follows */
    int replies_left;      /* Redis */
};

struct answer {
    enum outcome outcome;
    bool failed; /* an error, whatever the outcome */
    bool taken;  /* CAS */
    uint64_t number;
    char etag[ETAG_BYTES];
    const uint8_t *text; /* TEXT; an error's own words */
    size_t text_size;
};

/* Returns how many bytes were written to `out` (of OUT_BYTES). Sets op->replies_left. */
size_t http_request(struct op *op, char *out);
size_t redis_request(struct op *op, char *out);
/* Takes the first answer from `in`. Returns its bytes; 0: not all there yet; SIZE_MAX: this is not
 * the protocol. For Redis op->replies_left counts down; `ret` holds when it has reached 0. */
size_t http_answer(const struct op *op, const uint8_t *in, size_t size, struct answer *ret);
size_t redis_answer(struct op *op, const uint8_t *in, size_t size, struct answer *ret);
