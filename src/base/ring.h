/* A queue of bytes from one thread to one other, without locks: one puts, one takes.
 *
 * A put is whole or not at all: when there is no room it says no at once, and the other side never
 * sees part of it. Sizes are powers of two.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct ring;
struct ring *ring_new(size_t bytes);
void ring_free(struct ring *r);
/* By the putting thread. */
bool ring_put(struct ring *r, struct slice bytes);
/* By the taking thread. The oldest bytes, as far as they lie together (a second call behind
 * ring_drop() gives what is left); borrowed until ring_drop(). */
struct slice ring_peek(const struct ring *r);
void ring_drop(struct ring *r, size_t bytes);
