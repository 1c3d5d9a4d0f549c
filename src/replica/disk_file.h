/* What the disks that are real folders do alike (disk_uv.c, disk_read.c). */
#pragma once
#include "replica/disk.h"

/* Calls fn for each regular file of the open folder; takes and closes fd. 0 or a negative errno. */
int disk_walk_folder(int fd, void (*fn)(void *ctx, const char *name), void *ctx) WARN_UNUSED;
/* The operation `load`, made of the disk's own open, read and close. */
int disk_load_file(struct disk *d, const char *name, struct buf *ret_content);
