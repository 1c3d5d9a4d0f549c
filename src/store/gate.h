/* How other threads read the store that a node's thread owns.
 *
 *   node's thread    store_gate_open() ... apply, commit ... store_gate_close() -> store_close()
 *   other threads           begin, read, end   begin, read, end   (one turn each)
 *
 * The store behind a node is swapped when a snapshot is installed, and closed when the node stops.
 * A reader so never holds on to it: it asks for a view at the beginning of each turn, may be told
 * that there is none, and gives it back soon. Closing the gate waits for the turns under way, no
 * longer, and takes every reader's view away, so that the store can be closed or abandoned.
 *
 * Threads: a gate is opened and closed by the thread that owns the store. A reader belongs to one
 * thread. Readers do not wait for each other, nor for the writer.
 */
#pragma once
#include "store/store.h"

struct store_gate;
struct store_reader;

/* A store that cannot be read is a local failure, whichever thread meets it: fatal() must end the
 * process (a simulator may go on, with the gate taken for closed). Any thread calls it. */
struct store_gate *store_gate_new(void (*fatal)(void *ctx, int error), void *ctx);
/* Closed, and without readers. */
void store_gate_free(struct store_gate *g);

/* ---- the store's owner ---- */

/* Borrows the store until store_gate_close(). Nothing is known of its age yet. */
void store_gate_open(struct store_gate *g, struct store *s);
/* Returns when no reader is in a turn; there is no view of theirs any more. Harmless when closed.
 */
void store_gate_close(struct store_gate *g);
/* What is committed in the store from now on contains everything that any client anywhere had been
 * told was written at `since_ms` of the owner's monotonic clock. */
void store_gate_note_fresh(struct store_gate *g, uint64_t since_ms);

/* ---- readers ---- */

/* What store_gate_note_fresh() said last. */
struct store_freshness {
    bool known; /* false: nothing was said since the gate was opened */
    uint64_t since_ms;
};

/* Any thread, also when the gate is closed. */
struct store_freshness store_gate_freshness(const struct store_gate *g);

struct store_reader *store_reader_new(struct store_gate *g);
/* Not in a turn. */
void store_reader_free(struct store_reader *r);
/* Begins a turn: a view of the newest committed state, which is at least as fresh as ret_fresh says
 * (may be NULL). False: the gate is closed. The turn holds up a gate that closes, so it must be
 * short, and must not wait for anything. */
bool store_reader_begin(struct store_reader *r, struct store_view **ret_view,
                        struct store_freshness *ret_fresh);
void store_reader_end(struct store_reader *r);
/* A read in this turn failed with this negative errno. */
void store_reader_fail(struct store_reader *r, int error);
