/* A line on the terminal that says how far long work is:
 *
 *   checking the log  [==========>                   ]  36%  1.2 of 3.4 GiB
 *
 * It goes to standard error, and only when that is a terminal. One at a time, single thread.
 */
#pragma once
#include <stdint.h>

#include "base/buf.h"

struct progress {
    const char *label;    /* borrowed */
    uint64_t done, total; /* bytes; total 0: not known */
    uint64_t shown_ms;
    bool shown;
};

/* quiet: show nothing whatever standard error is. */
void progress_begin(struct progress *p, const char *label, uint64_t total, bool quiet);
void progress_add(struct progress *p, uint64_t bytes);
/* Takes the line away. */
void progress_end(struct progress *p);

/* "1.2 GiB", for people. */
void bytes_append(struct buf *out, uint64_t bytes);
