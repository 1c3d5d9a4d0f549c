/* Handing out our snapshot, piece by piece, to nodes that fetch it.
 *
 * What is asked for waits in a queue, in the order it came. A helper thread reads the next few
 * pieces while this thread goes on, and then they are sent; so no read of a disk holds the loop up.
 * A limit in bytes a second spreads them over time. Who asks again for what still waits changes
 * nothing.
 *
 * A file stays open while somebody fetches it, so that a newer snapshot can take its name away: the
 * fetch goes on to its end. What the log holds behind it is kept for the fetcher
 * (node_log_floor()).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "replica/node_internal.h"

enum { READ_AT_ONCE = 4 };

struct fetch {
    struct list node;
    uint64_t peer;
    struct wire_piece piece; /* as it was asked for */
    struct served_file *file;
    uint8_t *data; /* as the next, once it was read */
    size_t bytes;
};

/* A batch of pieces on its way to the helper thread and back. */
struct fetch_job {
    struct background_job job;
    struct node *owner;
    struct fetch *pieces[READ_AT_ONCE];
    uint32_t count;
};

static bool is_served(const struct node *n, const struct served_file *f) {
    return f->fd >= 0 && node_now(n) - f->asked_ms < NODE_FETCH_QUIET_MS;
}

bool node_fetch_busy(const struct node *n) {
    for (size_t i = 0; i < ARRAY_COUNT(n->served); i++)
        if (is_served(n, &n->served[i]))
            return true;
    return false;
}

static void served_close(struct served_file *f) {
    CHECK(f->users == 0);
    if (f->fd >= 0)
        close(f->fd);
    *f = (struct served_file){.fd = -1};
}

/* Opens our snapshot, in the place of the file that nobody has asked for longest. */
static struct served_file *served_open(struct node *n) {
    struct served_file *oldest = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(n->served); i++) {
        struct served_file *f = &n->served[i];
        if (f->users == 0 && (!oldest || f->asked_ms < oldest->asked_ms))
            oldest = f;
    }
    char path[4096];
    node_snapshot_path(n, n->snapshot.index, path);
    int fd = oldest ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    served_close(oldest);
    *oldest = (struct served_file){
        .index = n->snapshot.index, .hash = n->snapshot_info.file_hash.low, .fd = fd};
    return oldest;
}

/* The open file of this snapshot; NULL: we do not have it. */
static struct served_file *served_get(struct node *n, uint64_t index, uint64_t hash) {
    for (size_t i = 0; i < ARRAY_COUNT(n->served); i++) {
        struct served_file *f = &n->served[i];
        if (f->fd >= 0 && f->index == index && f->hash == hash)
            return f;
    }
    return node_snapshot_is(n, index, hash) ? served_open(n) : NULL;
}

static void mark_asked(struct node *n, struct served_file *f, struct peer *p) {
    f->asked_ms = p->fetched_ms = node_now(n);
    p->fetch_index = f->index;
}

void node_fetch_offered(struct node *n, uint64_t peer_id) {
    struct peer *p = node_peer(n, peer_id);
    struct served_file *f = served_get(n, n->snapshot.index, n->snapshot_info.file_hash.low);
    if (p && f)
        mark_asked(n, f, p);
}

static void answer(struct node *n, uint64_t peer, const struct wire_piece *asked,
                   struct slice data) {
    struct wire_piece piece = *asked;
    piece.data = data;
    buf_reset(&n->frame);
    wire_put_piece(&n->frame, &piece);
    node_send(n, peer, buf_slice(&n->frame));
}

static void fetch_free(struct fetch *f) {
    f->file->users--;
    free(f->data);
    free(f);
}

/* ---- reading ---- */

static int fetch_run(void *arg) {
    struct fetch_job *j = arg;
    for (uint32_t i = 0; i < j->count; i++) {
        struct fetch *f = j->pieces[i];
        f->data = xmalloc(f->piece.bytes);
        ssize_t got;
        do
            got = pread(f->file->fd, f->data, f->piece.bytes, (off_t)f->piece.offset);
        while (got < 0 && errno == EINTR);
        f->bytes = got > 0 ? (size_t)got : 0;
    }
    return 0;
}

/* Behind how many microseconds the bytes that were sent are paid for. */
static void charge(struct node *n, uint64_t bytes) {
    uint64_t now_us = node_now(n) * 1000;
    if (n->fetch_free_us < now_us)
        n->fetch_free_us = now_us;
    if (n->o.snapshot_rate_bytes > 0)
        n->fetch_free_us += bytes * 1000000 / n->o.snapshot_rate_bytes;
}

static void fetch_done(void *arg, int status) {
    struct fetch_job *j = arg;
    struct node *n = j->owner;
    (void)status;
    n->fetch_job = NULL;
    for (uint32_t i = 0; i < j->count; i++) {
        struct fetch *f = j->pieces[i];
        if (n->state != NODE_FAILED)
            answer(n, f->peer, &f->piece, slice_of(f->data, f->bytes));
        fetch_free(f);
    }
    free(j);
    if (n->state != NODE_FAILED)
        node_fetch_tick(n);
}

static bool due(const struct node *n) {
    return n->fetch_count > 0 && !n->fetch_job && n->fetch_free_us <= node_now(n) * 1000;
}

uint64_t node_fetch_deadline(const struct node *n) {
    return n->fetch_count == 0 || n->fetch_job ? UINT64_MAX : (n->fetch_free_us + 999) / 1000;
}

void node_fetch_tick(struct node *n) {
    for (size_t i = 0; i < ARRAY_COUNT(n->served); i++)
        if (n->served[i].fd >= 0 && !is_served(n, &n->served[i]) && n->served[i].users == 0)
            served_close(&n->served[i]);
    if (!due(n))
        return;
    struct fetch_job *j = xcalloc(1, sizeof *j);
    j->owner = n;
    while (j->count < READ_AT_ONCE && n->fetch_count > 0 &&
           (j->count == 0 || n->fetch_free_us <= node_now(n) * 1000)) {
        struct fetch *f = LIST_ENTRY(list_first(&n->fetches), struct fetch, node);
        list_remove(&f->node);
        n->fetch_count--;
        j->pieces[j->count++] = f;
        charge(n, f->piece.bytes);
    }
    j->job = (struct background_job){.fn = fetch_run, .arg = j, .done = fetch_done};
    n->fetch_job = j;
    n->ops->background(n->env, &j->job);
}

/* ---- what arrives ---- */

static bool waits_already(const struct node *n, uint64_t from, const struct wire_piece *p) {
    uint32_t waiting = 0;
    LIST_FOREACH (it, (struct list *)&n->fetches) {
        const struct fetch *f = LIST_ENTRY(it, struct fetch, node);
        if (f->peer != from)
            continue;
        waiting++;
        if (f->piece.index == p->index && f->piece.hash == p->hash && f->piece.offset == p->offset)
            return true;
    }
    return waiting >= 2 * NODE_FETCHES_PENDING;
}

void node_fetch(struct node *n, uint64_t from, const struct wire_piece *p) {
    struct peer *peer = node_peer(n, from);
    if (!peer || waits_already(n, from, p))
        return;
    struct served_file *file = node_may_hand_out(n) ? served_get(n, p->index, p->hash) : NULL;
    if (!file) {
        answer(n, from, p, slice_of(NULL, 0));
        return;
    }
    mark_asked(n, file, peer);
    struct fetch *f = xcalloc(1, sizeof *f);
    f->peer = from;
    f->piece = *p;
    f->file = file;
    file->users++;
    list_push_back(&n->fetches, &f->node);
    n->fetch_count++;
    node_fetch_tick(n);
}

void node_fetch_fini(struct node *n) {
    LIST_FOREACH_SAFE (it, &n->fetches) {
        fetch_free(LIST_ENTRY(it, struct fetch, node));
    }
    if (n->fetch_job) { /* the process ends, and with it the thread */
        for (uint32_t i = 0; i < n->fetch_job->count; i++)
            fetch_free(n->fetch_job->pieces[i]);
        free(n->fetch_job);
    }
    for (size_t i = 0; i < ARRAY_COUNT(n->served); i++)
        served_close(&n->served[i]);
}

/* ---- what is kept for them ---- */

/* The last entry that a follower has which keeps up, of all such the lowest; or, of those who fetch
 * a snapshot of ours, the one up to which that goes. The log is not cut behind their backs while
 * they are on their way. That entry itself is kept, since an AppendEntries names the term of the
 * one before. */
uint64_t node_log_floor(const struct node *n, bool of_fetchers) {
    uint64_t floor = UINT64_MAX, now = node_now(n);
    if (!n->leading)
        return floor;
    LIST_FOREACH (it, (struct list *)&n->peers) {
        const struct peer *p = LIST_ENTRY(it, struct peer, node);
        uint64_t has = core_match_index(n->core, p->id);
        bool fetches = p->fetched_ms != 0 && now - p->fetched_ms < NODE_LAGGARD_MS;
        if (fetches && p->fetch_index > has)
            has = p->fetch_index;
        if (p->heard_ms != 0 && now - p->heard_ms < NODE_LAGGARD_MS && fetches == of_fetchers &&
            has >= n->memlog.first_index && has < floor)
            floor = has;
    }
    return floor;
}
