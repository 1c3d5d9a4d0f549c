/* Judges what clients of real processes were told: counters, append-only texts, registers.
 *
 * A history is text, a line for each operation in fields that one space separates:
 *
 *   CLIENT START END OUTCOME incr KEY [VALUE]          VALUE: what it answered
 *   CLIENT START END OUTCOME count KEY [VALUE]         a reading of a counter; 0: it is not there
 *   CLIENT START END OUTCOME append KEY ID [LENGTH]    ID ends in ';' and is unique in KEY
 *   CLIENT START END OUTCOME text KEY [LENGTH TEXT]    a reading of a text
 *   CLIENT START END OUTCOME read KEY [VALUE]          a reading of a register; 0: it is not there
 *   CLIENT START END OUTCOME write KEY VALUE           values are positive, unique in KEY
 *   CLIENT START END OUTCOME cas KEY OLD VALUE [0|1]   OLD 0: it must not be there. 1: it took
 *
 * START and END are times of one clock, in any unit. OUTCOME is `ok` (then the field in brackets
 * is there), `no` (certainly not applied, now or later), or `unknown` (may have been, or may yet
 * be, once). The lines of one client stand in the order in which it asked. Lines that begin with #
 * are passed over. Every key begins without a value, and nobody else writes to it.
 *
 * What is demanded, beyond that each reading is linearizable with everything else on its key:
 *
 *   counters   answers are unique, and every value that nobody was told is explained by an
 *              `unknown` that began before the next one was seen
 *   texts      every reading is a beginning of the longest one; every id that was answered stands
 *              there once, at the length that was answered, unless it ended after that reading
 *              began; no id that was refused does; those of a client stand in the order it asked.
 *              The last reading of a text should be made when all else is done.
 *   registers  an order that explains all answers exists (linear.h); at most HISTORY_MAX
 *              operations a register, refused ones and readings without an answer not counted
 *
 * Single thread. Memory is a small multiple of the text's size, and at most VERDICT_CONFIGURATIONS
 * times some 100 bytes for the search. The same text gives the same verdict.
 */
#pragma once
#include <stdio.h>

#include "base/slice.h"

enum { VERDICT_CONFIGURATIONS = 1 << 20 };

enum verdict_result {
    VERDICT_GOOD,
    VERDICT_BAD,       /* something that must not happen did */
    VERDICT_MALFORMED, /* the text is not a history */
    VERDICT_UNDECIDED, /* a register's search was given up */
};
struct verdict {
    enum verdict_result result;
    size_t operations, ok, no, unknown;
    size_t counters, texts, registers;
};
/* Writes a line for each thing that is wrong (one a key) to `out`. Of several results the worst in
 * the order MALFORMED, BAD, UNDECIDED, GOOD. */
void verdict_judge(struct slice history, FILE *out, struct verdict *ret);
