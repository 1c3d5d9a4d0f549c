/* Is there an order of a register's operations that explains every answer, and in which none is
 * moved out of the time between its call and its return? Wing and Gong's search (1993) with the
 * memory of visited configurations that Lowe (2017) added. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HISTORY_MAX = 128 };
enum history_kind { HISTORY_READ, HISTORY_WRITE, HISTORY_CAS };

struct history_op {
    enum history_kind kind;
    uint64_t value, old; /* WRITE, CAS: the new value; CAS: the expected one */
    uint64_t answer;     /* READ: the value, 0 for none; CAS: whether it took */
    uint64_t call, back; /* positions in time; back UINT64_MAX: never answered, may happen at any
                            time or not at all */
    bool ignored;        /* certainly not applied */
};
struct history {
    struct history_op ops[HISTORY_MAX];
    int count, open; /* open: given up, and perhaps applied */
    uint64_t clock;
    uint64_t last_seen; /* a value that a finished operation saw or wrote, for clients to base a CAS
                           on */
};

bool history_full(const struct history *h);
int history_call(struct history *h, enum history_kind kind, uint64_t value, uint64_t old);
void history_return(struct history *h, int op, uint64_t answer);
/* perhaps: it may have been applied. */
void history_give_up(struct history *h, int op, bool perhaps);
/* UNDECIDED: more configurations than that would have had to be visited (24 bytes each); 0: no
 * limit. */
enum history_verdict { HISTORY_LINEARIZABLE, HISTORY_WRONG, HISTORY_UNDECIDED };
enum history_verdict history_search(const struct history *h, size_t configurations_max);
bool history_linearizable(const struct history *h);
