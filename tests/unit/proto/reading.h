/* What a parser makes of one request: for test_http1_differential.c, which has two. The other one
 * is behind a function, since its header and proto/http1.h use the same names. */
#pragma once
#include "base/buf.h"

enum { FIELDS = 128 };

struct field {
    struct buf name, value;
};
struct reading {
    bool accepted, complete, keep_alive;
    const char *reason; /* of a refusal */
    struct buf method, target, body;
    int minor;
    size_t field_count, used;
    struct field fields[FIELDS];
};

/* By http-parser. */
void read_theirs(struct slice in, struct reading *r);
