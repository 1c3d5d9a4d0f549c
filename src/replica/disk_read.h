/* A folder of files that is only read (replica/disk.h), for looking at a node that is stopped.
 * Everything that would change something fails with -EROFS; submitting a job is a programmer's
 * error. No thread and no loop.
 */
#pragma once
#include "replica/disk.h"

/* Called with the bytes read since the last time. */
typedef void (*disk_read_fn)(void *ctx, uint64_t bytes);

/* The folder must be there. on_read may be NULL. */
int disk_read_new(const char *dir, disk_read_fn on_read, void *ctx,
                  struct disk **ret_disk) WARN_UNUSED;
void disk_read_free(struct disk *d);
