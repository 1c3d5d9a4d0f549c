/* A stream for unit tests: the test is the peer and the network. What is written collects in
 * `written`; the test feeds bytes, takes or holds back writes, and ends the stream. Like a real
 * stream it never calls on_close from inside a stream_*() function: fake_stream_turn() stands for
 * the loop. Unlike a real one it stays readable for the test until fake_stream_free().
 */
#pragma once
#include "base/buf.h"
#include "net/stream.h"

struct fake_stream {
    struct stream base; /* hand &fake->base to the code under test */
    struct buf written; /* what the peer has received; buf_reset() it as you like */
    struct buf held;    /* written while `blocked`: counts as pending */
    bool blocked;       /* the peer does not read: see fake_stream_unblock() */
    bool paused;
    bool shutdown; /* stream_shutdown() was called */
    bool closing;  /* on_close will come with the next turn */
    bool closed;   /* on_close has been called */
    int error;
    uint8_t ip[16]; /* 192.0.2.1 */
};

struct fake_stream *fake_stream_new(void);
/* The stream must have closed, or have no handler. */
void fake_stream_free(struct fake_stream *f);

/* The peer sends bytes; they go to on_read at once. False (and nothing happens) while the stream is
 * paused, shut down or closed. */
bool fake_stream_feed(struct fake_stream *f, struct slice bytes);
bool fake_stream_feed_str(struct fake_stream *f, const char *text);
/* The peer sends no more: on_eof when the handler has it, else the stream closes. */
void fake_stream_eof(struct fake_stream *f);
/* From now on writes wait. */
void fake_stream_block(struct fake_stream *f);
/* Passes on what waits, calls on_drain when something did, completes a shutdown. */
void fake_stream_unblock(struct fake_stream *f);
/* The connection breaks (error is a negative errno) or the peer closes (0). */
void fake_stream_break(struct fake_stream *f, int error);
/* One turn of the loop: calls on_close when the stream is ending. */
void fake_stream_turn(struct fake_stream *f);
