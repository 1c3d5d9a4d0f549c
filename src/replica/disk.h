/* The disk as the replica sees it: a folder of files. The real one (disk_uv.c) works on a directory
 * with a thread of its own; the simulator keeps files in memory and loses, tears and delays what
 * was not flushed.
 *
 * Names are relative to the folder, may contain one "/", and are ASCII. All errors are negative
 * errno; any error of a write, flush, rename or unlink means that the node stops (ENGINE rule G7):
 * what is on the disk is then unknown.
 *
 * Synchronous calls are for start-up and for rare small things (term and vote). Jobs run one after
 * the other in the order submitted, off the caller's thread; their completions come in order, on
 * the caller's loop. DISK_JOB_CREATE is the exception: filling a file with zeros takes as long as
 * hundreds of small flushes, so it runs beside the line of the others and completes when it does.
 *
 * After a write, flush, rename or unlink has failed, every later job of the line fails with the
 * same error and is not carried out: a flush that succeeds after one that failed proves nothing.
 *
 * What survives a crash: everything whose call or job was reported done with 0; of the rest any
 * part, by sectors of 512 bytes, in any order.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/list.h"

enum { DISK_BLOCK_BYTES = 4096 };

struct disk;
struct disk_file; /* an open file */
struct disk_job;

/* status: 0 or a negative errno. The job may be freed or reused in it. */
typedef void (*disk_done_fn)(struct disk_job *job, int status);

enum disk_job_kind {
    DISK_JOB_WRITE,  /* write iov at offset, then fdatasync when sync; zeros behind it when tail */
    DISK_JOB_CREATE, /* make file `name` of `bytes` zero bytes, really written, fsync it and its
                        folder; into ret_file. After a crash the file may be there and short. */
    DISK_JOB_RENAME, /* rename `name` to `to`, fsync the folder */
    DISK_JOB_UNLINK, /* delete `name`, fsync the folder */
    DISK_JOB_CALL,   /* run fn(arg) on the disk's thread (snapshot copies have their own: see
                        background) */
};

/* Embedded in the caller's own; must stay in place, with all it points to, until done. */
struct disk_job {
    enum disk_job_kind kind;
    disk_done_fn done;
    struct disk_file *file; /* WRITE */
    uint64_t offset;
    const struct iovec *iov; /* WRITE: borrowed until done */
    int iov_count;
    bool sync;
    bool tail; /* WRITE: what lies behind in the file is worthless, and may be overwritten with
                  zeros up to the next multiple of DISK_BLOCK_BYTES */
    const char *name; /* borrowed until done */
    const char *to;
    uint64_t bytes;             /* CREATE */
    struct disk_file *ret_file; /* CREATE: open, owned by the caller when done with 0 */
    int (*fn)(void *arg);
    void *arg;
    /* the disk's own */
    struct list node;
    int status;
};

struct disk_ops {
    /* Calls fn for each file name in the subfolder ("" or "log"); creates the subfolder when
     * missing. */
    int (*list)(struct disk *d, const char *folder, void (*fn)(void *ctx, const char *name),
                void *ctx);
    /* Opens an existing file for reading and writing; -ENOENT when missing. */
    int (*open)(struct disk *d, const char *name, struct disk_file **ret_file, uint64_t *ret_bytes);
    void (*close)(struct disk *d, struct disk_file *f);
    /* Bytes read, short only at the end of the file. */
    int64_t (*read)(struct disk *d, struct disk_file *f, uint64_t offset, void *out, size_t bytes);
    /* Durable on return, with all that was written to this file before; an empty slice only
     * flushes.
     */
    int (*write_sync)(struct disk *d, struct disk_file *f, uint64_t offset, struct slice bytes);
    int (*truncate_sync)(struct disk *d, struct disk_file *f, uint64_t bytes);
    int (*unlink_sync)(struct disk *d, const char *name);
    /* The whole content of a small file, replaced atomically and durably (beside, fsync, rename,
     * fsync folder). Earlier changes of the folder become durable with it. */
    int (*replace_sync)(struct disk *d, const char *name, struct slice content);
    /* Reads a whole small file (at most 1 MiB); -ENOENT when missing. */
    int (*load)(struct disk *d, const char *name, struct buf *ret_content);
    void (*submit)(struct disk *d, struct disk_job *job);
};
struct disk {
    const struct disk_ops *ops;
    /* Hard to guess for clients and different for each disk object: what is made on it takes its
     * identity from here. Never 0. */
    uint64_t salt;
};
