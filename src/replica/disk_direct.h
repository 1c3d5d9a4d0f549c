/* Durable writes past the page cache, without a thread: O_DIRECT and RWF_DSYNC by the kernel's
 * asynchronous I/O (io_submit(2)), which tells the loop when they are done. A write to a log that
 * goes by a thread costs a wake-up of that thread, a copy into the page cache, the search for what
 * is dirty there, and two more sleeps; this one costs the copy into a buffer.
 *
 * Only where the kernel says that it can (statx(2), STATX_DIOALIGN, Linux 6.1) and on file systems
 * where a write into a file that has its blocks does not block in io_submit(): ext4 and XFS.
 * Elsewhere direct_open() says no, and the disk's thread does it; also where /proc is missing.
 *
 * One write at a time. It covers whole blocks: the beginning of the first one is written again as
 * it is, and zeros fill the last one up (disk_job.tail). All calls come from the loop's thread. */
#pragma once
#include "net/loop.h"
#include "replica/disk.h"

enum { DIRECT_BYTES_MAX = 1024 * 1024 }; /* of one write, blocks filled up */

/* The other side of a file that is open already. */
struct direct_file {
    int fd; /* -1: none */
    uint64_t bytes;
    /* What the last block that was written holds from its beginning; -1: not known */
    uint64_t tail_at;
    int32_t tail_bytes;
    uint8_t tail[DISK_BLOCK_BYTES];
};

struct direct;

/* NULL when the kernel has no asynchronous I/O (left). `done` gets 0, a negative errno, or
 * DIRECT_REFUSED: nothing is wrong with the disk, but this file cannot be written this way. */
enum { DIRECT_REFUSED = 1 };
struct direct *direct_new(struct loop *loop, void (*done)(void *ctx, int status), void *ctx);
/* No write is under way. */
void direct_free(struct direct *d);

/* Opens the file behind `fd`, which has its full length, a second time. NULL when it cannot be
 * written this way. */
struct direct_file *direct_open(int fd);
void direct_close(struct direct_file *f); /* NULL is allowed */
/* Somebody else has written to the file. */
void direct_forget(struct direct_file *f);

/* Whether `bytes` at `offset` can be one write. */
bool direct_fits(const struct direct_file *f, uint64_t offset, uint64_t bytes);
/* Begins a write at `offset`, adds pieces that lie behind each other, and sends it. begin and send
 * return 0, a negative errno or DIRECT_REFUSED; then nothing is under way. `fd` is for reading what
 * the first block holds, where that is not known. */
int direct_begin(struct direct *d, struct direct_file *f, int fd, uint64_t offset);
void direct_add(struct direct *d, const struct iovec *iov, int count);
int direct_send(struct direct *d);
/* Waits for the write under way and calls done. */
void direct_wait(struct direct *d);
