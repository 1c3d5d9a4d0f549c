/* A small record that is replaced often and never lost: two copies ("slots") in a file that is
 * written before.
 *
 * A new record goes into one slot, is flushed, then into the other, and is flushed. While one is
 * being written the other is whole, so a crash leaves the old record or the new one. Once the write
 * is done both slots hold it: one that is damaged later is made up for by the other. (Writing the
 * slots in turn, one a time, would silently fall back to the record before when the newer is
 * damaged: a vote forgotten is a vote given twice.) The slots are 4096 bytes apart, so that they
 * share no sector of the device.
 */
#pragma once
#include "replica/disk.h"
#include "replica/log_format.h"

struct log_slots {
    struct disk *disk;
    struct disk_file *file; /* NULL: not open */
    const char *name;
    const char *magic;
    uint64_t mark;    /* of the log that the file belongs to */
    uint64_t counter; /* of the newest record */
    unsigned first;   /* the slot to write first: never the only one that holds the newest record */
};

/* Opens the file and reads the newest record. -ENOENT when missing, -EBADMSG when it is not such a
 * file or both slots are damaged. What it returns may not be durable yet (a process may have died
 * between write and flush): call log_slots_write() before relying on it. */
int log_slots_open(struct log_slots *s, uint64_t ret_fields[LOG_SLOT_FIELDS]) WARN_UNUSED;
/* Makes the file anew, with s->mark, in one atomic and durable step, and opens it. A file that
 * was open stays so and belongs to the caller: *ret_old, NULL if none. */
int log_slots_replace(struct log_slots *s, const uint64_t fields[LOG_SLOT_FIELDS],
                      struct disk_file **ret_old) WARN_UNUSED;
/* Durable on return. */
int log_slots_write(struct log_slots *s, const uint64_t fields[LOG_SLOT_FIELDS]) WARN_UNUSED;
void log_slots_close(struct log_slots *s);
