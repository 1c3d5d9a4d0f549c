/* The real disk: a directory, and two threads beside a loop.
 *
 * Writes to the end of a log are asynchronous and go past the page cache (disk_direct.h), where the
 * file system has that. All other jobs of the line are a thread's, which carries
 * them out in order: it takes all that wait, writes what lies
 * next to each other with one pwritev() and flushes a run of writes to one file once, with
 * fdatasync(). The other fills new files with zeros, so that nobody waits for that. (RWF_DSYNC was
 * measured beside pwritev() + fdatasync() and is no faster; it could not cover several writes.)
 *
 * All calls come from the loop's thread, except from within a CALL job, which may use reads and the
 * synchronous calls.
 */
#pragma once
#include "net/loop.h"
#include "replica/disk.h"

/* Makes the directory when missing (its parent must be there) and locks it against a second process
 * (-EWOULDBLOCK when it is locked). `direct`: with direct writes, where that is possible. */
int disk_uv_new(struct loop *loop, const char *dir, bool direct,
                struct disk **ret_disk) WARN_UNUSED;
/* Waits for jobs under way (their done functions are called), then frees. Files must be closed. */
void disk_uv_free(struct disk *d);
