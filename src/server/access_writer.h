/* The thread that writes the access log: takes lines off a ring for each gateway thread
 * (gateway/access_log.h) and appends them to the file. The gateways never wait for it. A file that
 * cannot be written to loses lines, not requests: it says so in the log, once a minute.
 *
 * Rotating: rename the file and send SIGUSR1 or SIGHUP; the thread opens the name anew. Lines are
 * never split between the two files.
 */
#pragma once
#include "base/check.h"
#include "base/ring.h"

struct access_writer;

/* Opens the file (append, created 0640), or standard output for "-"; negative errno. */
int access_writer_new(const char *path, struct access_writer **ret_writer) WARN_UNUSED;
/* A ring for one gateway thread, owned by the writer. Before access_writer_start(). */
struct ring *access_writer_add(struct access_writer *w);
void access_writer_start(struct access_writer *w);
/* Any thread: opens the file anew before the next line. */
void access_writer_reopen(struct access_writer *w);
/* Writes what is left (the gateway threads have ended), and frees. NULL: does nothing. */
void access_writer_free(struct access_writer *w);
