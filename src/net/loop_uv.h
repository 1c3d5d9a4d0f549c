/* Private to net/: what the parts of net/ share about a loop. */
#pragma once
#include <uv.h>

#include "base/list.h"
#include "base/pool.h"
#include "net/loop.h"

enum { LOOP_READ_BUFFER_BYTES = 64 * 1024 };

struct loop_hook {
    void (*fn)(void *ctx); /* NULL: taken back */
    void *ctx;
};
struct loop_hooks {
    struct loop_hook *items;
    size_t count;
};

struct loop {
    uv_loop_t uv;
    uv_prepare_t turn_end;
    struct loop_hooks hooks;
    struct loop_hooks last_hooks;
    bool stop;
    struct list due; /* ends of pairs that are to be told something (pair.c) */
    uv_idle_t again; /* runs, and so keeps the loop from sleeping, while there are some left */
    uint64_t turn_ms, turn_wall_ms; /* 0: not read in this turn */
    size_t input;        /* handled since the hooks ran last: bytes, and so many for each read */
    struct list signals; /* struct loop_signal, closed by loop_free() */

    struct pool streams; /* of struct tcp_stream */

    /* Streams whose last bytes are out and that wait for the peer's end, oldest first; they all
     * wait equally long, so one timer serves them (tcp.c). */
    struct list lingering;
    uv_timer_t linger_timer;

    /* Bytes are handed on and forgotten before the next read begins, so one buffer serves all
     * streams of a loop. */
    char read_buffer[LOOP_READ_BUFFER_BYTES];
};

/* Tells the ends of pairs what they are due; false when there was nothing. */
bool pairs_deliver(struct loop *l);
/* Called behind each read that was handed on: runs the hooks when much has come since. */
void loop_breathe(struct loop *l, size_t bytes);
