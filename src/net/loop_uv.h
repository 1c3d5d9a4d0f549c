/* Private to net/: what the parts of net/ share about a loop. */
#pragma once
#include <uv.h>

#include "base/list.h"
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
    struct list signals; /* struct loop_signal, closed by loop_free() */

    /* Streams whose last bytes are out and that wait for the peer's end, oldest first; they all
     * wait equally long, so one timer serves them (tcp.c). */
    struct list lingering;
    uv_timer_t linger_timer;

    /* Bytes are handed on and forgotten before the next read begins, so one buffer serves all
     * streams of a loop. */
    char read_buffer[LOOP_READ_BUFFER_BYTES];
};
