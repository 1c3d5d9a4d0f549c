/* The real disk: a directory and one thread, on a loop. */
#pragma once
#include "net/loop.h"
#include "replica/disk.h"

/* Makes the directory when missing and locks it against a second process (-EWOULDBLOCK when it is
 * locked). */
int disk_uv_new(struct loop *loop, const char *dir, struct disk **ret_disk) WARN_UNUSED;
/* Waits for jobs under way (their done functions are called), then frees. */
void disk_uv_free(struct disk *d);
