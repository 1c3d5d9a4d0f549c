/* Two streams of one loop that are each other's peer: what a socketpair is between threads, without
 * descriptors, system calls and wake-ups.
 *
 * What is written to one end is kept, and handed to the other one's on_read after the hooks of the
 * turn's end, which then run again: bytes that go to and fro arrive before the loop sleeps. No
 * callback comes from inside a call. Back-pressure is stream_pending_bytes() and stream_pause(); no
 * kernel buffer sets a limit.
 */
#pragma once
#include "net/loop.h"
#include "net/stream.h"

/* Neither has a handler yet: it must be set before the turn's end. */
void stream_pair_new(struct loop *l, struct stream **ret_a, struct stream **ret_b);
