/* Fetching a snapshot from another node, and putting it in the place of the store.
 *
 *   waits --> fetches --> checks --> ready --> in place
 *     |          |           |         |
 *     +----------+-----------+---------+--> parked --the same snapshot is offered again--> goes on
 *
 * Pieces are asked for a window ahead, from one node at a time: first from the leader that offered
 * the snapshot, then from any that says that it has the same file. A piece that does not come is
 * asked for again; a node that says no, or nothing, is left for the next. Pieces are written by a
 * helper thread, in order, so that the size of snapshots/incoming.part says how far we are, and
 * snapshots/incoming.meta which snapshot it is: a process that ends goes on there in its next life,
 * as long as the system did not crash. When the file is whole it is checked as a whole, copied
 * beside the store, opened, and its records are counted up against its digest, all of that by a
 * helper thread. What is left for this thread is to switch from one to the other.
 *
 * Meanwhile the node keeps its old store, and answers stale reads from it. An installation is given
 * up when nobody is left who has the file, and by a voter that hears no leader: its vote may be
 * needed, and while the core waits for a snapshot it gives none. What has been fetched is kept
 * (parked) until another snapshot is offered.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/plant.h"
#include "replica/node_internal.h"

enum {
    RESUME_VERSION = 1,
    SYNC_BYTES = 16 << 20, /* flushed at a time while it arrives, not all at the end */
};

enum install_stage {
    INSTALL_WAITS, /* for the helper thread to be done with an earlier one's files */
    INSTALL_FETCHES,
    INSTALL_CHECKS, /* and copies, on the helper thread */
    INSTALL_READY,
};

struct install_piece {
    uint8_t *data; /* arrived; NULL: not yet */
    size_t bytes;
    bool asked;
    uint64_t asked_ms;
};

struct install {
    struct node *owner;
    struct core_snapshot snapshot;
    struct store_snapshot info;
    enum install_stage stage;
    uint64_t from;        /* the node that we fetch from */
    uint64_t progress_ms; /* when the last piece came */
    uint64_t source_ms;   /* likewise, or when the source was chosen */
    int fd;
    uint64_t written; /* bytes of the file, in order */
    /* The pieces from `written` on, as a ring. */
    struct install_piece window[NODE_FETCHES_PENDING];
    uint32_t window_at;
    uint32_t writing; /* of the pieces from window_at on, on the helper thread */
    bool busy;        /* the helper thread works for us */
    struct background_job job;
    struct store *store; /* READY: open beside the old one */
    char part[4096], resume[4096], incoming[4096];
    char boot_id[128];
};

static bool same_file(const struct store_snapshot *a, const struct store_snapshot *b) {
    return a->index == b->index && a->term == b->term && a->file_bytes == b->file_bytes &&
           hash128_equal(a->file_hash, b->file_hash);
}

static uint64_t piece_bytes(const struct install *i) {
    return i->owner->o.snapshot_piece_bytes;
}

static struct install_piece *piece_at(struct install *i, uint32_t ahead) {
    return &i->window[(i->window_at + ahead) % NODE_FETCHES_PENDING];
}

/* ---- what a process leaves for its next life ---- */

static void resume_encode(const struct install *i, struct buf *out) {
    struct buf info = {0};
    store_snapshot_encode(&i->info, &info);
    buf_append_u32(out, RESUME_VERSION);
    buf_append_lstr(out, slice_str(i->boot_id));
    buf_append_lstr(out, buf_slice(&info));
    buf_append_u32(out, crc32c(0, buf_slice(out)));
    buf_fini(&info);
}

/* Not flushed: after a crash of the system it does not count anyway, since the boot id differs. */
static int resume_save(const struct install *i) {
    struct buf b = {0};
    resume_encode(i, &b);
    int fd = open(i->resume, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : 0;
    if (rc == 0 && write(fd, b.data, b.size) != (ssize_t)b.size)
        rc = -ENOSPC;
    if (fd >= 0)
        close(fd);
    buf_fini(&b);
    return rc;
}

/* Whether what lies there is the beginning of this very file. */
static bool resume_matches(const struct install *i) {
    struct buf want = {0};
    uint8_t found[1024];
    resume_encode(i, &want);
    int fd = open(i->resume, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, found, sizeof found);
    if (fd >= 0)
        close(fd);
    bool same = got >= 0 && (size_t)got == want.size && memcmp(found, want.data, want.size) == 0;
    buf_fini(&want);
    return same;
}

/* ---- life ---- */

static void drop_pieces(struct install *i) {
    for (size_t k = 0; k < ARRAY_COUNT(i->window); k++) {
        free(i->window[k].data);
        i->window[k] = (struct install_piece){0};
    }
}

static void install_free(struct install *i) {
    drop_pieces(i);
    if (i->store)
        store_abandon(i->store);
    if (i->fd >= 0)
        close(i->fd);
    free(i);
}

/* With all that was fetched. */
static void install_discard(struct install *i) {
    unlink(i->resume);
    unlink(i->part);
    install_free(i);
}

/* Gives an installation up; the core must START again, since it has already forgotten its log. */
void node_install_drop(struct node *n) {
    struct install *i = n->install;
    if (!i)
        return;
    n->install = NULL;
    if (n->core)
        n->restart_wanted = true;
    if (i->stage == INSTALL_WAITS) {
        install_free(i);
        return;
    }
    CHECK(n->parked == NULL);
    n->parked = i;
}

static void parked_discard(struct node *n) {
    CHECK(!n->parked->busy);
    install_discard(n->parked);
    n->parked = NULL;
}

static void install_fail(struct node *n, const char *why, bool keep) {
    log_warn("install-dropped", "node=%llu index=%llu have=%llu of=%llu reason=%s",
             (unsigned long long)n->o.id, (unsigned long long)n->install->snapshot.index,
             (unsigned long long)n->install->written,
             (unsigned long long)n->install->info.file_bytes, log_quote(slice_str(why)));
    node_install_drop(n);
    if (!keep && n->parked && !n->parked->busy)
        parked_discard(n);
}

/* What was parked is of no use any more once the log has brought us as far. */
void node_install_tidy(struct node *n) {
    if (n->parked && !n->parked->busy && n->parked->info.index <= store_applied_index(n->store))
        parked_discard(n);
}

/* The folder of a new store is free for somebody else. */
bool node_install_make_room(struct node *n) {
    if (n->parked && n->parked->busy)
        return false;
    if (n->parked)
        parked_discard(n);
    return !n->install;
}

bool node_install_idle(const struct node *n) {
    return !n->install && !(n->parked && n->parked->busy) && !n->retiring;
}

/* The process ends: what was fetched stays for the next one. */
void node_install_fini(struct node *n) {
    node_install_drop(n);
    if (n->parked)
        install_free(n->parked);
    n->parked = NULL;
}

void node_install_work(const struct node *n, struct node_work *ret) {
    const struct install *i = n->install;
    *ret = (struct node_work){
        .kind = i->stage <= INSTALL_FETCHES ? WORK_FETCHING : WORK_CHECKING,
        .from = i->from,
        .done = i->written,
        .total = i->info.file_bytes,
    };
}

/* ---- asking ---- */

static void install_ask(struct node *n) {
    struct install *i = n->install;
    uint64_t now = node_now(n);
    for (uint32_t k = 0; k < NODE_FETCHES_PENDING; k++) {
        struct install_piece *p = piece_at(i, k);
        uint64_t offset = i->written + k * piece_bytes(i);
        if (offset >= i->info.file_bytes)
            return;
        if (p->data || (p->asked && now < p->asked_ms + NODE_FETCH_AGAIN_MS))
            continue;
        uint64_t left = i->info.file_bytes - offset;
        struct wire_piece ask = {
            .index = i->snapshot.index,
            .hash = i->info.file_hash.low,
            .offset = offset,
            .bytes = (uint32_t)(left < piece_bytes(i) ? left : piece_bytes(i)),
        };
        n->counters.pieces_asked_again += p->asked;
        p->asked = true;
        p->asked_ms = now;
        p->bytes = ask.bytes;
        buf_reset(&n->frame);
        wire_put_fetch(&n->frame, &ask);
        node_send(n, i->from, buf_slice(&n->frame));
    }
}

static bool has_it(const struct node *n, const struct peer *p, const struct install *i) {
    return p->heard_ms != 0 && node_now(n) - p->heard_ms <= NODE_ALIVE_MS &&
           p->snapshot_index == i->snapshot.index && p->snapshot_hash == i->info.file_hash.low;
}

/* The next node, by id, that says it has the file: the present one last. 0: nobody. */
static uint64_t next_source(const struct node *n, const struct install *i) {
    uint64_t best = 0;
    LIST_FOREACH (it, (struct list *)&n->peers) {
        const struct peer *p = LIST_ENTRY(it, struct peer, node);
        /* Distance in the circle of ids, from the present one on. */
        if (has_it(n, p, i) && (best == 0 || p->id - i->from - 1 < best - i->from - 1))
            best = p->id;
    }
    return best;
}

static void take_source(struct node *n, uint64_t id) {
    struct install *i = n->install;
    i->source_ms = node_now(n);
    n->counters.install_sources_changed += id != i->from;
    if (id != i->from)
        log_info("install-source", "node=%llu index=%llu from=%llu have=%llu",
                 (unsigned long long)n->o.id, (unsigned long long)i->snapshot.index,
                 (unsigned long long)id, (unsigned long long)i->written);
    i->from = id;
    for (size_t k = 0; k < ARRAY_COUNT(i->window); k++)
        i->window[k].asked = false;
    install_ask(n);
}

/* ---- writing what came ---- */

static int write_piece(int fd, const struct install_piece *p, uint64_t offset) {
    for (size_t at = 0; at < p->bytes;) {
        ssize_t put = pwrite(fd, p->data + at, p->bytes - at, (off_t)(offset + at));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -ENOSPC;
        at += (size_t)put;
    }
    return 0;
}

static int install_write(void *arg) {
    struct install *i = arg;
    uint64_t offset = i->written;
    for (uint32_t k = 0; k < i->writing; k++) {
        const struct install_piece *p = piece_at(i, k);
        int rc = write_piece(i->fd, p, offset);
        if (rc < 0)
            return rc;
        offset += p->bytes;
    }
    if (offset / SYNC_BYTES > i->written / SYNC_BYTES && fdatasync(i->fd) < 0)
        return -errno;
    return 0;
}

static void install_go_on(struct node *n);

/* The helper thread is done with i's files. True when it is still the installation under way. */
static bool install_back(struct install *i, int status) {
    struct node *n = i->owner;
    i->busy = false;
    if (n->state == NODE_FAILED)
        return false;
    if (n->install == i)
        return true;
    CHECK(n->parked == i);
    if (status < 0 || n->install) /* whoever waits needs the files for another one */
        parked_discard(n);
    install_go_on(n);
    return false;
}

static void install_written(void *arg, int status) {
    struct install *i = arg;
    struct node *n = i->owner;
    if (status == 0)
        for (; i->writing > 0; i->writing--) {
            struct install_piece *p = piece_at(i, 0);
            i->written += p->bytes;
            free(p->data);
            *p = (struct install_piece){0};
            i->window_at = (i->window_at + 1) % NODE_FETCHES_PENDING;
        }
    i->writing = 0;
    if (!install_back(i, status))
        return;
    if (status < 0) /* the copy is not the log: nothing is at stake */
        install_fail(n, strerror(-status), false);
    else
        install_go_on(n);
    node_settle(n);
}

/* ---- checking and copying ---- */

int node_store_count_up(struct store *s, struct hash128 digest) {
    struct store_view *view;
    struct hash128 found = {0};
    int rc = store_view_new(s, &view);
    if (rc < 0)
        return rc;
    rc = store_view_begin(view);
    if (rc == 0) {
        rc = store_verify(view, &found);
        store_view_end(view);
    }
    store_view_free(view);
    if (rc == 0 && !hash128_equal(found, digest))
        rc = -EBADMSG;
    return rc == 0 ? store_note_sound(s) : rc;
}

static int install_prepare(void *arg) {
    struct install *i = arg;
    if (fsync(i->fd) < 0)
        return -errno;
    struct store_snapshot found;
    int rc = store_snapshot_verify(i->part, &i->info, &found);
    if (rc == 0)
        rc = store_wipe(i->incoming);
    if (rc == 0)
        rc = store_snapshot_install(i->part, i->incoming, i->boot_id);
    if (rc == 0)
        rc = node_store_open(i->owner, i->incoming, &i->store);
    if (rc > 0)
        rc = -EBADMSG;
    return rc == 0 ? node_store_count_up(i->store, i->info.digest) : rc;
}

static void install_prepared(void *arg, int status) {
    struct install *i = arg;
    struct node *n = i->owner;
    if (status == 0)
        i->stage = INSTALL_READY;
    if (!install_back(i, status))
        return;
    if (status == -EBADMSG)
        install_fail(n, "the file does not match its checksum", false);
    else if (status == -ENOSPC)
        install_fail(n, "no space left", false);
    else if (status < 0)
        node_fatal(n, "a snapshot could not be installed: %s", strerror(-status));
    node_settle(n);
}

/* ---- the stages ---- */

static void start_job(struct install *i, int (*fn)(void *), void (*done)(void *, int)) {
    struct node *n = i->owner;
    i->busy = true;
    i->job = (struct background_job){.fn = fn, .arg = i, .done = done};
    n->ops->background(n->env, &i->job);
}

static int open_part(struct install *i) {
    struct stat st;
    bool resumed = resume_matches(i);
    if (!resumed)
        unlink(i->resume);
    i->fd = open(i->part, O_RDWR | O_CREAT | O_CLOEXEC | (resumed ? 0 : O_TRUNC), 0600);
    if (i->fd < 0 || fstat(i->fd, &st) < 0)
        return -errno;
    uint64_t have = (uint64_t)st.st_size;
    if (have > i->info.file_bytes)
        have = 0;
    i->written = have == i->info.file_bytes ? have : have - have % piece_bytes(i);
    return resumed ? 0 : resume_save(i);
}

static void install_open(struct node *n) {
    struct install *i = n->install;
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/snapshots", n->o.dir);
    int rc = mkdir(dir, 0700) < 0 && errno != EEXIST ? -errno : open_part(i);
    i->stage = INSTALL_FETCHES;
    if (rc == -ENOSPC) {
        install_fail(n, "no space left", false);
    } else if (rc < 0) {
        node_fatal(n, "%s: %s", i->part, strerror(-rc));
    } else {
        n->counters.installs_resumed += i->written > 0;
        log_info("installing", "node=%llu index=%llu bytes=%llu have=%llu from=%llu",
                 (unsigned long long)n->o.id, (unsigned long long)i->snapshot.index,
                 (unsigned long long)i->info.file_bytes, (unsigned long long)i->written,
                 (unsigned long long)i->from);
    }
}

static void install_go_on(struct node *n) {
    struct install *i = n->install;
    if (i && i->stage == INSTALL_WAITS && !n->parked)
        install_open(n);
    i = n->install;
    if (!i || i->stage != INSTALL_FETCHES || n->state == NODE_FAILED)
        return;
    if (i->written == i->info.file_bytes && !i->busy) {
        if (n->rebuild) /* it works in the same folder */
            return;
        drop_pieces(i);
        i->stage = INSTALL_CHECKS;
        start_job(i, install_prepare, install_prepared);
        return;
    }
    if (!i->busy) {
        while (i->writing < NODE_FETCHES_PENDING && piece_at(i, i->writing)->data)
            i->writing++;
        if (i->writing > 0)
            start_job(i, install_write, install_written);
    }
    install_ask(n);
}

static struct install *install_new(struct node *n, const struct core_snapshot *s,
                                   const struct store_snapshot *info) {
    struct install *i = xcalloc(1, sizeof *i);
    i->fd = -1;
    i->owner = n;
    i->snapshot = *s;
    i->info = *info;
    snprintf(i->part, sizeof i->part, "%s/snapshots/incoming.part", n->o.dir);
    snprintf(i->resume, sizeof i->resume, "%s/snapshots/incoming.meta", n->o.dir);
    snprintf(i->incoming, sizeof i->incoming, "%s/store.incoming", n->o.dir);
    snprintf(i->boot_id, sizeof i->boot_id, "%s", n->o.boot_id);
    return i;
}

void node_install_begin(struct node *n, const struct core_snapshot *s, struct slice descriptor) {
    CHECK(n->install == NULL);
    struct store_snapshot info = {0};
    bool valid = store_snapshot_decode(descriptor, &info) && info.index == s->index;
    if (valid && n->parked && same_file(&n->parked->info, &info)) {
        n->install = n->parked;
        n->install->snapshot = *s;
        n->parked = NULL;
        n->counters.installs_resumed++;
    } else {
        if (n->parked && !n->parked->busy)
            parked_discard(n);
        n->install = install_new(n, s, &info);
    }
    struct install *i = n->install;
    i->from = core_leader_id(n->core);
    i->progress_ms = i->source_ms = node_now(n);
    for (size_t k = 0; k < ARRAY_COUNT(i->window); k++)
        i->window[k].asked = false;
    if (!valid) {
        install_fail(n, "malformed descriptor", true);
        return;
    }
    install_go_on(n);
    if (PLANTED(PLANT_SNAPSHOT_EARLY)) {
        struct log_base base = {.index = s->index, .term = s->term};
        struct core_update u;
        memlog_reset(&n->memlog, s->index + 1, s->term);
        int rc = log_reset(n->log, &base);
        if (rc == 0)
            rc = core_snapshot_installed(n->core, node_now(n), s, &u);
        node_carry_out(n, rc, &u);
    }
}

void node_install_piece(struct node *n, uint64_t from, const struct wire_piece *p) {
    struct install *i = n->install;
    if (!i || i->stage != INSTALL_FETCHES || p->index != i->snapshot.index ||
        p->hash != i->info.file_hash.low || p->offset < i->written ||
        (p->offset - i->written) % piece_bytes(i) != 0)
        return;
    uint64_t ahead = (p->offset - i->written) / piece_bytes(i);
    if (ahead >= NODE_FETCHES_PENDING)
        return;
    struct install_piece *slot = piece_at(i, (uint32_t)ahead);
    if (p->data.size == 0) {
        struct peer *peer = node_peer(n, from);
        if (peer) /* until it says again that it has it */
            peer->snapshot_index = 0;
        uint64_t next = from == i->from ? next_source(n, i) : i->from;
        if (next == 0)
            install_fail(n, "nobody has it any more", true);
        else if (next != i->from)
            take_source(n, next);
        return;
    }
    if (slot->data || !slot->asked || p->data.size != slot->bytes)
        return;
    slot->data = xmemdup(p->data.data, p->data.size);
    i->progress_ms = i->source_ms = node_now(n);
    install_go_on(n);
}

/* ---- putting it in place ---- */

/* A store that was replaced: closed and deleted by a helper thread, since both can take long. */
struct retiring {
    struct background_job job;
    struct node *owner;
    struct store *store;
    char dir[4096], snapshot[4096];
};

static int retire_run(void *arg) {
    struct retiring *r = arg;
    store_abandon(r->store);
    int rc = store_wipe(r->dir);
    if (rc == 0 && rmdir(r->dir) < 0)
        rc = -errno;
    if (r->snapshot[0])
        unlink(r->snapshot);
    return rc;
}

static void retire_done(void *arg, int status) {
    struct retiring *r = arg;
    struct node *n = r->owner;
    n->retiring = NULL;
    free(r);
    if (status < 0)
        node_fatal(n, "the replaced store could not be deleted: %s", strerror(-status));
}

static void retire(struct node *n, struct store *old, const char *dir, const char *snapshot) {
    struct retiring *r = xcalloc(1, sizeof *r);
    r->owner = n;
    r->store = old;
    snprintf(r->dir, sizeof r->dir, "%s", dir);
    snprintf(r->snapshot, sizeof r->snapshot, "%s", snapshot);
    r->job = (struct background_job){.fn = retire_run, .arg = r, .done = retire_done};
    n->retiring = r;
    n->ops->background(n->env, &r->job);
}

/* The process ends before the helper thread is done. */
void node_retire_fini(struct node *n) {
    if (n->retiring)
        store_abandon(n->retiring->store);
    free(n->retiring);
    n->retiring = NULL;
}

/* Puts an open store, whose folder is `from`, in the place of ours; takes it. The old one goes, and
 * the file `snapshot` with it when that is not NULL. What a crash leaves undone the next start
 * completes from snapshot.meta; so the renames need no flush. */
int node_store_swap(struct node *n, const char *from, struct store *s, const char *snapshot) {
    char dir[4096], aside[4096];
    snprintf(dir, sizeof dir, "%s/store", n->o.dir);
    snprintf(aside, sizeof aside, "%s/store.old", n->o.dir);
    node_gate_close(n);
    if (n->view)
        store_view_free(n->view);
    n->view = NULL;
    if (rename(dir, aside) < 0 || rename(from, dir) < 0) {
        int rc = -errno;
        store_abandon(s);
        return rc;
    }
    store_moved(s, dir);
    retire(n, n->store, aside, snapshot ? snapshot : "");
    n->store = s;
    node_integrity_forget(n);
    if (node_may_serve(n))
        node_gate_open(n);
    return 0;
}

static int install_swap(struct node *n, struct install *i) {
    char path[4096], old[4096];
    node_snapshot_path(n, i->snapshot.index, path);
    node_snapshot_path(n, n->snapshot.index, old);
    unlink(i->resume);
    int rc = node_rename_durably(n, i->part, path);
    if (rc == 0)
        rc = node_meta_save(n, &i->snapshot, &i->info);
    struct log_base base = {.index = i->snapshot.index, .term = i->snapshot.term};
    if (rc == 0)
        rc = log_reset(n->log, &base);
    if (rc < 0)
        return rc;
    bool replaced = n->snapshot.index != 0 && n->snapshot.index != i->snapshot.index;
    struct store *s = i->store;
    i->store = NULL;
    return node_store_swap(n, i->incoming, s, replaced ? old : NULL);
}

static void install_finish(struct node *n) {
    struct install *i = n->install;
    int rc = install_swap(n, i);
    if (rc < 0) {
        node_fatal(n, "a snapshot could not be put in place: %s", strerror(-rc));
        return;
    }
    struct core_snapshot s = i->snapshot;
    n->snapshot = s;
    n->snapshot_agreed = false;
    n->snapshot_info = i->info;
    n->counters.snapshots_installed++;
    n->install = NULL;
    install_free(i);
    memlog_reset(&n->memlog, s.index + 1, s.term);
    n->durable_index = s.index;
    n->core_applied = s.index;
    n->log_bytes_at_snapshot = 0;
    if (n->commit_index < s.index)
        n->commit_index = s.index;
    struct core_update u;
    rc = core_snapshot_installed(n->core, node_now(n), &s, &u);
    if (!node_carry_out(n, rc, &u))
        return;
    node_member_applied(n, s.membership_index);
    node_integrity_installed(n);
    log_info("installed", "node=%llu index=%llu", (unsigned long long)n->o.id,
             (unsigned long long)s.index);
}

/* ---- time ---- */

/* While the core waits for a snapshot it gives no vote. A voter that hears of no leader must not
 * keep the others without one. */
static bool vote_is_needed(const struct node *n) {
    return core_is_voter(n->core, n->o.id) &&
           node_now(n) - n->append_heard_ms > 2ull * n->o.election_timeout_ms;
}

uint64_t node_install_deadline(const struct node *n) {
    return n->install->stage == INSTALL_READY ? node_now(n) + 5
                                              : node_now(n) + NODE_MEMBERS_EVERY_MS;
}

void node_install_tick(struct node *n) {
    struct install *i = n->install;
    uint64_t now = node_now(n);
    node_scrub_cancel(n); /* of a store that goes */
    if (i->stage == INSTALL_READY && list_empty(&n->writes) && !n->taking &&
        !node_backup_copying(n) && !n->compacting && !n->retiring && !n->scrub && n->core &&
        !n->restart_wanted) {
        install_finish(n);
        return;
    }
    if (n->core && vote_is_needed(n)) {
        install_fail(n, "no leader is heard, and our vote may be needed", true);
        return;
    }
    if (i->stage != INSTALL_FETCHES)
        return;
    uint64_t next = next_source(n, i);
    if ((next == 0 && now >= i->progress_ms + NODE_INSTALL_TIMEOUT_MS) ||
        now >= i->progress_ms + NODE_INSTALL_LIMIT_MS)
        install_fail(n, "nothing arrived for too long", true);
    else if (next != 0 && now >= i->source_ms + NODE_SOURCE_TIMEOUT_MS)
        take_source(n, next);
    else
        install_go_on(n);
}
