/* A disk in memory (replica/disk.h), for unit tests and the simulator. Deterministic: the same
 * seed and the same calls give the same results.
 *
 * Every write is volatile until its file was flushed, every creation, renaming and deletion until
 * its folder was. Jobs wait until the test lets them go on with mem_disk_step().
 *
 * A crash ends the life of the process above: jobs are dropped (some of them carried out, in part
 * or wholly, without telling), open files are gone, and the disk can be used by a new one. What the
 * process had then must not be used any more: log_abandon().
 */
#pragma once
#include "replica/disk.h"

struct disk *mem_disk_new(uint64_t seed);
/* Jobs that are left are dropped. */
void mem_disk_free(struct disk *d);
/* The same files, volatile and durable, without open files and jobs. */
struct disk *mem_disk_clone(const struct disk *d, uint64_t seed);

/* Carries out one job and calls its done function; false when there was none. Which one, when a
 * CREATE waits besides others, is the seed's choice. */
bool mem_disk_step(struct disk *d);
/* The same, but only from the line: CREATE jobs go on waiting. */
bool mem_disk_step_line(struct disk *d);
/* Steps until nothing is left. */
void mem_disk_run(struct disk *d);
size_t mem_disk_pending(const struct disk *d);

enum mem_disk_crash {
    MEM_DISK_POWER_CUT, /* of what was not flushed the seed picks sectors of 512 bytes */
    MEM_DISK_ALL_LOST,  /* nothing of it survives */
    MEM_DISK_KILL,      /* the process only: what was written stays, still volatile */
};
void mem_disk_crash(struct disk *d, enum mem_disk_crash how);

/* Makes the n-th operation from now fail (1: the next one) with `error`, negative; a write may have
 * been done in part. Operations are single steps: a write, a flush, a change of the folder, its
 * flush; reads do not count. error 0: the power goes there: this one and all after it fail with
 * -EIO, and mem_disk_crash() is to follow. n 0: never. */
void mem_disk_fail_at(struct disk *d, uint64_t n, int error);
/* Operations so far. */
uint64_t mem_disk_ops(const struct disk *d);
size_t mem_disk_open_files(const struct disk *d);

/* A file as it is now, borrowed until the disk is used again; data NULL when missing. */
struct slice mem_disk_get(const struct disk *d, const char *name);
/* Makes the file or gives it this content, durably. */
void mem_disk_set(struct disk *d, const char *name, struct slice content);
void mem_disk_remove(struct disk *d, const char *name);
