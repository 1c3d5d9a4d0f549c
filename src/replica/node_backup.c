/* Backups: a snapshot of the store, taken for somebody outside and fetched in pieces over a link.
 *
 *            BEGIN index          applied up to it        the copy is written
 *   (none) -------------> waiting ----------------> copying ----------------> ready, or failed
 *      ^                                                                         |
 *      +---------------------- END, or nobody has asked for a minute ------------+
 *
 * The asker brings an index: one that a linearizable read was answered at. What was acknowledged
 * before that read began is in the backup then, whichever node takes it. A node takes one at a
 * time. The file has no name once it is written, so that nothing is left behind however this ends.
 *
 * These are ADMIN commands; they belong to the node that has the file:
 *   NODE.BACKUP.BEGIN index             -> node, id
 *   NODE.BACKUP.STATE id                -> a map
 *   NODE.BACKUP.READ id offset bytes    -> bytes
 *   NODE.BACKUP.END id
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "base/reply.h"
#include "replica/node_internal.h"
#include "store/check.h"

enum {
    FORGET_AFTER_MS = 60000,
    PIECE_BYTES_MAX = 1 << 20,
};

enum backup_state { BACKUP_WAITING, BACKUP_COPYING, BACKUP_READY, BACKUP_FAILED };

struct backup {
    struct node *owner;
    uint64_t id; /* random: who knows it has begun it */
    enum backup_state state;
    uint64_t index; /* to be applied first */
    uint64_t used_ms;
    int fd;     /* of the copy, when READY */
    bool ended; /* while copying: nobody wants it any more */
    struct store_snapshot info;
    struct background_job job;
    char path[4096];
    char reason[128];
};

static void backup_free(struct backup *b) {
    if (b->fd >= 0)
        close(b->fd);
    b->owner->backup = NULL;
    free(b);
}

static void backup_end(struct backup *b) {
    if (b->state == BACKUP_COPYING)
        b->ended = true; /* freed when the helper thread is done */
    else
        backup_free(b);
}

void node_backup_drop(struct node *n) {
    if (n->backup)
        backup_free(n->backup);
}

bool node_backup_copying(const struct node *n) {
    return n->backup && n->backup->state == BACKUP_COPYING;
}

/* ---- copying ---- */

static int copy_run(void *arg) {
    struct backup *b = arg; /* the store stays open, and nothing else of the node is touched here */
    int rc = store_snapshot_write(b->owner->store, b->path, &b->info);
    struct store_check check; /* it may be all that there is one day */
    return rc == 0 ? store_check_snapshot(b->path, &b->info, NULL, NULL, &check) : rc;
}

static void copy_finished(void *arg, int status) {
    struct backup *b = arg;
    struct node *n = b->owner;
    if (status == 0) {
        b->fd = open(b->path, O_RDONLY | O_CLOEXEC);
        if (b->fd < 0)
            status = -errno;
    }
    unlink(b->path);
    b->used_ms = node_now(n);
    b->state = status < 0 ? BACKUP_FAILED : BACKUP_READY;
    if (status == -EBADMSG)
        node_integrity_damaged(n, "what a backup holds does not add up to the digest");
    if (status < 0) {
        snprintf(b->reason, sizeof b->reason, "%s", strerror(-status));
        log_error("backup-failed", "node=%llu reason=%s", (unsigned long long)n->o.id,
                  log_quote(slice_str(b->reason)));
    } else {
        log_info("backup", "node=%llu index=%llu bytes=%llu", (unsigned long long)n->o.id,
                 (unsigned long long)b->info.index, (unsigned long long)b->info.file_bytes);
    }
    if (b->ended)
        backup_free(b);
}

static void copy_begin(struct backup *b) {
    struct node *n = b->owner;
    if (!node_has_room(n, store_file_bytes(n->store))) {
        snprintf(b->reason, sizeof b->reason, "no space left on its disk");
        b->state = BACKUP_FAILED;
        return;
    }
    snprintf(b->path, sizeof b->path, "%s/snapshots", n->o.dir);
    if (mkdir(b->path, 0700) < 0 && errno != EEXIST) {
        snprintf(b->reason, sizeof b->reason, "%s", strerror(errno));
        b->state = BACKUP_FAILED;
        return;
    }
    snprintf(b->path, sizeof b->path, "%s/" NODE_BACKUP_NAME, n->o.dir);
    b->state = BACKUP_COPYING;
    b->job = (struct background_job){.fn = copy_run, .arg = b, .done = copy_finished};
    n->ops->background(n->env, &b->job);
}

void node_backup_tick(struct node *n) {
    struct backup *b = n->backup;
    if (!b || b->state == BACKUP_COPYING)
        return;
    if (n->state != NODE_RUNNING || node_now(n) >= b->used_ms + FORGET_AFTER_MS)
        backup_free(b);
    else if (b->state == BACKUP_WAITING && !n->install && node_may_serve(n) &&
             store_applied_index(n->store) >= b->index)
        copy_begin(b);
}

/* ---- the commands ---- */

static const char *state_name(enum backup_state state) {
    static const char *const names[] = {"waiting", "copying", "ready", "failed"};
    return names[state];
}

static void begin(struct node *n, uint64_t index, struct buf *reply) {
    struct backup *b = n->backup;
    if (b && b->state == BACKUP_FAILED) {
        backup_free(b);
    } else if (b) {
        reply_error(reply, "BUSY node %llu is taking another backup", (unsigned long long)n->o.id);
        return;
    }
    if (n->state != NODE_RUNNING || n->install || !node_may_serve(n)) {
        reply_error(reply, "BUSY node %llu cannot take a backup now", (unsigned long long)n->o.id);
        return;
    }
    b = xcalloc(1, sizeof *b);
    b->owner = n;
    b->fd = -1;
    b->index = index;
    b->used_ms = node_now(n);
    n->ops->random(n->env, &b->id, sizeof b->id);
    n->backup = b;
    reply_array(reply, 2);
    reply_int(reply, (int64_t)n->o.id);
    reply_int(reply, (int64_t)(b->id >>= 1)); /* a positive number */
    node_backup_tick(n);
}

static void tell_state(const struct backup *b, struct buf *reply) {
    char hex[33];
    bool ready = b->state == BACKUP_READY; /* until then the helper thread writes b->info */
    reply_map(reply, ready ? 5 : 2);
    reply_bulk_str(reply, "state");
    reply_bulk_str(reply, state_name(b->state));
    if (ready) {
        snprintf(hex, sizeof hex, "%016llx%016llx", (unsigned long long)b->info.digest.high,
                 (unsigned long long)b->info.digest.low);
        reply_bulk_str(reply, "index");
        reply_int(reply, (int64_t)b->info.index);
        reply_bulk_str(reply, "term");
        reply_int(reply, (int64_t)b->info.term);
        reply_bulk_str(reply, "bytes");
        reply_int(reply, (int64_t)b->info.file_bytes);
        reply_bulk_str(reply, "digest");
        reply_bulk_str(reply, hex);
    } else {
        reply_bulk_str(reply, "reason");
        reply_bulk_str(reply, b->reason);
    }
}

static void read_piece(struct backup *b, uint64_t offset, uint64_t bytes, struct buf *reply) {
    if (b->state != BACKUP_READY || offset >= b->info.file_bytes || bytes == 0) {
        reply_error(reply, "ERR nothing there");
        return;
    }
    if (bytes > PIECE_BYTES_MAX)
        bytes = PIECE_BYTES_MAX;
    uint8_t *data = xmalloc(bytes);
    ssize_t got = pread(b->fd, data, bytes, (off_t)offset);
    if (got > 0)
        reply_bulk(reply, slice_of(data, (size_t)got));
    else
        reply_error(reply, "ERR the copy cannot be read");
    free(data);
    /* The next pieces are read while this one travels, and not by the loop that serves everybody.
     */
    posix_fadvise(b->fd, (off_t)(offset + bytes), 4 * PIECE_BYTES_MAX, POSIX_FADV_WILLNEED);
}

bool node_backup_command(struct node *n, const struct argv *argv, struct buf *reply) {
    struct backup *b = n->backup;
    struct slice name = argv->args[0];
    uint64_t id, offset, bytes;
    if (argv->count < 2 || !slice_starts_with(name, slice_str("NODE.BACKUP.")) ||
        !num_parse_u64(argv->args[1], &id))
        return false;
    if (slice_equal_str(name, "NODE.BACKUP.BEGIN") && argv->count == 2) {
        begin(n, id, reply);
        return true;
    }
    if (!b || b->id != id || b->ended) {
        reply_error(reply, "ERR no such backup: it was not asked for over a minute, or the node "
                           "was started again");
        return true;
    }
    b->used_ms = node_now(n);
    if (slice_equal_str(name, "NODE.BACKUP.STATE") && argv->count == 2) {
        tell_state(b, reply);
    } else if (slice_equal_str(name, "NODE.BACKUP.END") && argv->count == 2) {
        backup_end(b);
        reply_simple(reply, "OK");
    } else if (slice_equal_str(name, "NODE.BACKUP.READ") && argv->count == 4 &&
               num_parse_u64(argv->args[2], &offset) && num_parse_u64(argv->args[3], &bytes)) {
        read_piece(b, offset, bytes, reply);
    } else {
        return false;
    }
    return true;
}
