/* Snapshots: opening what is on the disk at start, taking snapshots and compacting the log behind
 * them, sending them, installing them.
 *
 * snapshot.meta (snapshot_meta.h) names the one durable snapshot that counts; the file itself is
 * snapshots/INDEX.mdb. It is written before the log is compacted or reset, so that whatever a crash
 * leaves behind, snapshot.meta and the log together are complete: at start the store is brought to
 * at least the log's beginning.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/plant.h"
#include "replica/node_internal.h"
#include "replica/snapshot_meta.h"

struct install {
    struct core_snapshot snapshot;
    struct store_snapshot info;
    uint64_t from; /* the node that we fetch from */
    int fd;
    uint64_t asked, received; /* bytes */
    uint64_t progress_ms;
    bool prepared;  /* verified and copied beside the store */
    bool preparing; /* on the helper thread */
    bool dropped;   /* given up while preparing */
    struct background_job job;
    struct node *owner;
    char part[4096], incoming[4096];
    char boot_id[128];
};

static void snapshot_path(const struct node *n, uint64_t index, char out[4096]) {
    snapshot_file_path(n->o.dir, index, out);
}

static void store_dir(const struct node *n, char out[4096]) {
    snprintf(out, 4096, "%s/store", n->o.dir);
}

static int sync_dir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int rename_durably(const struct node *n, const char *from, const char *to) {
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/snapshots", n->o.dir);
    if (rename(from, to) < 0)
        return -errno;
    return sync_dir(dir);
}

/* ---- snapshot.meta ---- */

static int meta_save(struct node *n, const struct core_snapshot *s,
                     const struct store_snapshot *info) {
    struct snapshot_meta m = {.snapshot = *s, .info = *info};
    struct buf b = {0};
    snapshot_meta_encode(&m, &b);
    int rc = n->disk->ops->replace_sync(n->disk, SNAPSHOT_META_NAME, buf_slice(&b));
    buf_fini(&b);
    return rc;
}

static int meta_load(struct node *n) {
    struct snapshot_meta m;
    struct buf b = {0};
    int rc = n->disk->ops->load(n->disk, SNAPSHOT_META_NAME, &b);
    if (rc == 0 && !snapshot_meta_decode(buf_slice(&b), &m))
        rc = -EBADMSG;
    if (rc == 0) {
        n->snapshot = m.snapshot;
        n->snapshot_info = m.info;
    }
    buf_fini(&b);
    return rc == -ENOENT ? 0 : rc;
}

/* ---- start ---- */

static void load_entry(void *ctx, const struct log_entry *e) {
    struct node *n = ctx;
    struct chunk *chunk = e->body.size ? chunk_new(e->body.size) : NULL;
    if (chunk)
        memcpy(chunk->data, e->body.data, e->body.size);
    struct core_entry entry = {
        .term = e->term,
        .type = (enum core_entry_type)e->type,
        .body = slice_of(chunk ? chunk->data : NULL, e->body.size),
        .chunk = chunk,
    };
    if (n->memlog.last_index + 1 == n->memlog.first_index)
        memlog_reset(&n->memlog, e->index, 0);
    memlog_append(&n->memlog, e->index, &entry);
}

static struct store_options store_options(const struct node *n, const char *dir) {
    return (struct store_options){
        .dir = dir,
        .map_bytes = n->o.map_bytes,
        .max_data_bytes = n->o.max_data_bytes,
        .boot_id = n->o.boot_id,
    };
}

static int store_open_here(struct node *n, const char *dir) {
    struct store_options options = store_options(n, dir);
    return store_open(&options, &n->store);
}

/* What lies in the folder at start may have been damaged since: a record with a changed byte would
 * be served. The node has all that it takes to make the store anew. */
static int store_open_checked(struct node *n, const char *dir) {
    struct store_options options = store_options(n, dir);
    char problem[256] = "";
    options.check = true;
    int rc = store_open_explained(&options, &n->store, problem);
    if (rc == STORE_DAMAGED)
        log_error("store-rebuild", "node=%llu reason=%s", (unsigned long long)n->o.id,
                  log_quote(slice_str(problem)));
    else if (rc == STORE_UNTRUSTED)
        log_warn("store-rebuild",
                 "node=%llu reason=\"the operating system was not shut down cleanly\"",
                 (unsigned long long)n->o.id);
    return rc;
}

/* Empties the store and fills it from the snapshot, when there is one. What is there stays when the
 * snapshot turns out to be damaged, for somebody to look at. */
static int store_rebuild(struct node *n, const char *dir) {
    char path[4096];
    int rc = 0;
    snapshot_path(n, n->snapshot.index, path);
    if (n->snapshot.index > 0) {
        struct store_snapshot found;
        rc = store_snapshot_verify(path, &n->snapshot_info, &found);
        if (rc == -ENOENT)
            rc = -EBADMSG;
    }
    if (rc == 0)
        rc = store_wipe(dir);
    if (rc == 0 && n->snapshot.index > 0)
        rc = store_snapshot_install(path, dir, n->o.boot_id);
    return rc == 0 ? store_open_here(n, dir) : rc;
}

/* The log must go on from the snapshot. What a crash in the middle of an installation left of the
 * old log goes. */
static int log_fit_snapshot(struct node *n, const struct log_base *base) {
    struct memlog *m = &n->memlog;
    uint64_t index = n->snapshot.index;
    /* Entries may be kept from long before the base: then the one before the first is not known. */
    if (m->last_index >= m->first_index && m->first_index == base->index + 1)
        m->before_term = base->term;
    if (index == 0)
        return m->last_index < m->first_index || m->first_index == 1 ? 0 : -EBADMSG;
    uint64_t term = memlog_term(m, index);
    bool empty = m->last_index < m->first_index;
    if (!empty && (term == n->snapshot.term || (term == 0 && m->first_index == index + 1))) {
        if (m->first_index == index + 1)
            m->before_term = n->snapshot.term;
        return 0;
    }
    if (!empty && m->first_index > index + 1)
        return -EBADMSG;
    memlog_reset(m, index + 1, n->snapshot.term);
    struct log_base reset = {.index = index, .term = n->snapshot.term};
    return log_reset(n->log, &reset);
}

static int node_bootstrap(struct node *n) {
    struct membership m = {.count = 1};
    m.members[0] = (struct member){.id = n->o.id, .role = MEMBER_VOTER};
    snprintf(m.members[0].address, sizeof m.members[0].address, "%s", n->o.peer_address);
    struct buf body = {0};
    membership_encode(&m, &body);
    n->vote = (struct log_vote){.term = 1};
    int rc = log_set_vote(n->log, &n->vote);
    if (rc == 0) {
        struct log_entry e = {
            .index = 1, .term = 1, .type = CORE_MEMBERSHIP, .body = buf_slice(&body)};
        load_entry(n, &e);
        node_write_first(n);
    }
    buf_fini(&body);
    return rc;
}

/* What an earlier life was copying when it ended. */
static void remove_leftovers(const struct node *n) {
    static const char *const names[] = {"snapshots/new.mdb", "snapshots/new.mdb.tmp",
                                        "snapshots/incoming.part"};
    char path[4096];
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", n->o.dir, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/store.incoming", n->o.dir);
    if (store_wipe(path) == 0)
        rmdir(path);
}

int node_load_state(struct node *n, char ret_error[256]) {
    char dir[4096];
    struct log_open_info info;
    remove_leftovers(n);
    store_dir(n, dir);
    int rc = n->o.begun ? log_exists(n->disk) : 1;
    if (rc == 0) {
        snprintf(ret_error, 256, "log/base is missing, though this node has worked before");
        return -EBADMSG;
    }
    rc = log_open(n->disk, n->o.log_segment_bytes, load_entry, n, &n->log, &info, ret_error);
    if (rc < 0)
        return rc;
    n->vote = info.vote;
    if (info.cut_bytes > 0)
        log_warn("log-tail-cut", "node=%llu bytes=%llu", (unsigned long long)n->o.id,
                 (unsigned long long)info.cut_bytes);
    if ((rc = meta_load(n)) < 0) {
        snprintf(ret_error, 256, "%.150s/snapshot.meta, offset 0: damaged", n->o.dir);
        return rc;
    }
    if ((rc = log_fit_snapshot(n, &info.base)) < 0) {
        snprintf(ret_error, 256, "the log in %.150s does not go on from the snapshot", n->o.dir);
        return rc;
    }
    rc = store_open_checked(n, dir);
    if (rc == STORE_UNTRUSTED || rc == STORE_DAMAGED) {
        rc = store_rebuild(n, dir);
    } else if (rc == 0 && (store_applied_index(n->store) + 1 < n->memlog.first_index ||
                           store_applied_index(n->store) < n->snapshot.index)) {
        /* An installation, or a rebuilding, that a crash cut short. */
        store_abandon(n->store);
        n->store = NULL;
        rc = store_rebuild(n, dir);
    }
    if (rc == 0 && (store_applied_index(n->store) + 1 < n->memlog.first_index ||
                    store_applied_index(n->store) < n->snapshot.index))
        rc = -EBADMSG;
    if (rc < 0) {
        if (rc == -EBADMSG)
            snprintf(
                ret_error, 256,
                "the store must be made anew, and the snapshot in %.120s is damaged or missing",
                n->o.dir);
        else
            snprintf(ret_error, 256, "the store in %.150s cannot be opened: %s", dir,
                     strerror(-rc));
        return rc;
    }
    n->log_bytes_at_snapshot = 0;
    if (n->o.bootstrap && n->memlog.last_index == 0 && n->snapshot.index == 0)
        rc = node_bootstrap(n);
    return rc;
}

/* ---- taking ---- */

static int take_run(void *arg) {
    struct node *n = arg; /* the store stays open, and nothing else of the node is touched here */
    return store_snapshot_write(n->store, n->take_path, &n->take_info);
}

static void take_drop(struct node *n) {
    unlink(n->take_path);
    n->take_done = false;
}

static void take_finished(void *arg, int status) {
    struct node *n = arg;
    n->taking = false;
    if (n->state == NODE_FAILED)
        return;
    if (status == -ENOSPC) {
        /* The copy is not the log: nothing is at stake yet. Try again later. */
        log_error("snapshot-failed", "node=%llu reason=\"no space left\"",
                  (unsigned long long)n->o.id);
        n->log_bytes_at_snapshot = log_bytes(n->log);
        take_drop(n);
    } else if (status < 0) {
        node_fatal(n, "a snapshot could not be written: %s", strerror(-status));
    } else {
        n->take_done = true;
    }
}

static bool membership_as_of(const struct node *n, uint64_t index, struct membership *ret) {
    if (index == n->snapshot.membership_index && n->snapshot.index > 0) {
        *ret = n->snapshot.membership;
        return true;
    }
    const struct core_entry *e = memlog_get(&n->memlog, index);
    return e && e->type == CORE_MEMBERSHIP && membership_decode(e->body, ret);
}

static void compact_done(void *ctx, int status) {
    struct node *n = ctx;
    n->compacting = false;
    if (status < 0)
        node_fatal(n, "the log could not be compacted: %s", strerror(-status));
    else
        n->log_bytes_at_snapshot = log_bytes(n->log);
}

/* How many entries to keep behind a snapshot at index: at least what may be in flight to a follower
 * (G3), more while they are small. */
static uint32_t trailing_entries(const struct node *n, uint64_t index) {
    uint64_t bytes = 0, at = index;
    while (at >= n->memlog.first_index &&
           (index - at < NODE_TRAILING_ENTRIES ||
            (bytes < n->o.log_trailing_bytes && index - at < UINT16_MAX))) {
        bytes += memlog_get(&n->memlog, at)->body.size;
        at--;
    }
    return (uint32_t)(index - at);
}

static void take_use(struct node *n) {
    const struct store_snapshot *info = &n->take_info;
    struct core_snapshot s = {
        .index = info->index, .term = info->term, .membership_index = info->membership_index};
    if (!membership_as_of(n, info->membership_index, &s.membership) ||
        info->index <= n->snapshot.index) {
        take_drop(n);
        return;
    }
    char path[4096], old[4096];
    snapshot_path(n, s.index, path);
    snapshot_path(n, n->snapshot.index, old);
    int rc = rename_durably(n, n->take_path, path);
    if (rc == 0)
        rc = meta_save(n, &s, info);
    n->take_done = false;
    if (rc < 0) {
        node_fatal(n, "a snapshot could not be stored: %s", strerror(-rc));
        return;
    }
    if (n->snapshot.index > 0)
        unlink(old);
    n->snapshot = s;
    n->snapshot_info = *info;
    uint32_t trailing = trailing_entries(n, s.index);
    struct core_update u;
    rc = core_snapshot_taken(n->core, node_now(n), &s, trailing, &u);
    if (!node_carry_out(n, rc, &u))
        return;
    uint64_t keep_from = s.index - trailing + 1;
    memlog_trim(&n->memlog, keep_from);
    struct log_base base = {.index = s.index, .term = s.term};
    n->compacting = true;
    log_compact(n->log, &base, keep_from, compact_done, n);
    log_info("snapshot", "node=%llu index=%llu bytes=%llu", (unsigned long long)n->o.id,
             (unsigned long long)s.index, (unsigned long long)info->file_bytes);
}

void node_snapshot_tick(struct node *n) {
    if (n->state != NODE_RUNNING || n->restart_wanted || n->taking || n->compacting)
        return;
    if (n->take_done) {
        if (n->install)
            take_drop(n);
        else if (n->durable_index >= n->take_info.index && n->core_applied >= n->take_info.index)
            take_use(n);
        return;
    }
    uint64_t grown = log_bytes(n->log) - n->log_bytes_at_snapshot;
    if (log_bytes(n->log) < n->log_bytes_at_snapshot)
        grown = 0;
    /* Somebody who fetches the present one could never finish if each were replaced at once. */
    if (n->fetched_ms != 0 && node_now(n) - n->fetched_ms < NODE_FETCH_QUIET_MS &&
        grown < 16 * n->o.snapshot_log_bytes)
        return;
    if (n->install || grown < n->o.snapshot_log_bytes ||
        store_applied_index(n->store) <= n->snapshot.index)
        return;
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/snapshots", n->o.dir);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        node_fatal(n, "%s: %s", dir, strerror(errno));
        return;
    }
    snprintf(n->take_path, sizeof n->take_path, "%s/snapshots/new.mdb", n->o.dir);
    n->taking = true;
    n->take_job = (struct background_job){.fn = take_run, .arg = n, .done = take_finished};
    n->ops->background(n->env, &n->take_job);
}

/* ---- sending ---- */

bool node_snapshot_fill(struct node *n, struct core_message *m, struct buf *descriptor) {
    if (n->snapshot.index == 0 || m->install.snapshot.index != n->snapshot.index)
        return false;
    m->install.snapshot = n->snapshot;
    store_snapshot_encode(&n->snapshot_info, descriptor);
    m->install.descriptor = buf_slice(descriptor);
    return true;
}

void node_fetch(struct node *n, uint64_t from, const struct wire_piece *p) {
    struct wire_piece piece = {.index = p->index, .offset = p->offset};
    uint8_t *data = xmalloc(p->bytes);
    if (p->index == n->snapshot.index && p->index != 0) {
        n->fetched_ms = node_now(n);
        char path[4096];
        snapshot_path(n, p->index, path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? -1 : pread(fd, data, p->bytes, (off_t)p->offset);
        if (fd >= 0)
            close(fd);
        if (got > 0)
            piece.data = slice_of(data, (size_t)got);
    }
    buf_reset(&n->frame);
    wire_put_piece(&n->frame, &piece);
    node_send(n, from, buf_slice(&n->frame));
    free(data);
}

/* ---- installing ---- */

static void install_free(struct install *i) {
    if (i->fd >= 0)
        close(i->fd);
    free(i);
}

/* Gives an installation up; the core must START again, since it has already forgotten its log. */
void node_install_drop(struct node *n) {
    struct install *i = n->install;
    if (!i)
        return;
    n->install = NULL;
    if (n->core)
        n->restart_wanted = true;
    if (i->preparing)
        i->dropped = true; /* freed when the helper thread is done */
    else
        install_free(i);
}

static void install_fail(struct node *n, const char *why) {
    log_warn("install-dropped", "node=%llu index=%llu reason=%s", (unsigned long long)n->o.id,
             (unsigned long long)n->install->snapshot.index, log_quote(slice_str(why)));
    node_install_drop(n);
}

static void install_ask(struct node *n) {
    struct install *i = n->install;
    while (i->asked < i->info.file_bytes &&
           i->asked - i->received < (uint64_t)NODE_FETCHES_PENDING * WIRE_PIECE_BYTES) {
        struct wire_piece p = {
            .index = i->snapshot.index, .offset = i->asked, .bytes = WIRE_PIECE_BYTES};
        buf_reset(&n->frame);
        wire_put_fetch(&n->frame, &p);
        node_send(n, i->from, buf_slice(&n->frame));
        i->asked += WIRE_PIECE_BYTES;
        if (i->asked > i->info.file_bytes)
            i->asked = i->info.file_bytes;
    }
}

void node_install_begin(struct node *n, const struct core_snapshot *s, struct slice descriptor) {
    CHECK(n->install == NULL);
    struct install *i = xcalloc(1, sizeof *i);
    i->fd = -1;
    i->owner = n;
    i->snapshot = *s;
    i->from = core_leader_id(n->core);
    i->progress_ms = node_now(n);
    n->install = i;
    snprintf(i->part, sizeof i->part, "%s/snapshots/incoming.part", n->o.dir);
    snprintf(i->incoming, sizeof i->incoming, "%s/store.incoming", n->o.dir);
    snprintf(i->boot_id, sizeof i->boot_id, "%s", n->o.boot_id);
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/snapshots", n->o.dir);
    if (!store_snapshot_decode(descriptor, &i->info) || i->info.index != s->index) {
        install_fail(n, "malformed descriptor");
        return;
    }
    if ((mkdir(dir, 0700) < 0 && errno != EEXIST) ||
        (i->fd = open(i->part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) < 0) {
        node_fatal(n, "%s: %s", i->part, strerror(errno));
        return;
    }
    log_info("installing", "node=%llu index=%llu bytes=%llu from=%llu", (unsigned long long)n->o.id,
             (unsigned long long)s->index, (unsigned long long)i->info.file_bytes,
             (unsigned long long)i->from);
    install_ask(n);
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
    return rc;
}

static void install_prepared(void *arg, int status) {
    struct install *i = arg;
    struct node *n = i->owner;
    i->preparing = false;
    if (i->dropped) {
        install_free(i);
        return;
    }
    if (status == -EBADMSG)
        install_fail(n, "the file does not match its checksum");
    else if (status == -ENOSPC)
        install_fail(n, "no space left");
    else if (status < 0)
        node_fatal(n, "a snapshot could not be installed: %s", strerror(-status));
    else
        i->prepared = true;
}

void node_install_piece(struct node *n, uint64_t from, const struct wire_piece *p) {
    struct install *i = n->install;
    if (!i || i->preparing || i->prepared || from != i->from || p->index != i->snapshot.index ||
        p->offset != i->received)
        return;
    if (p->data.size == 0) {
        install_fail(n, "the sender has it no more");
        return;
    }
    if (p->data.size > i->info.file_bytes - i->received) {
        install_fail(n, "more arrived than was announced");
        return;
    }
    errno = ENOSPC; /* what a short write means */
    if (pwrite(i->fd, p->data.data, p->data.size, (off_t)p->offset) != (ssize_t)p->data.size) {
        /* The copy is not the log: nothing is at stake. */
        install_fail(n, strerror(errno));
        return;
    }
    i->received += p->data.size;
    i->progress_ms = node_now(n);
    if (i->received < i->info.file_bytes) {
        install_ask(n);
        return;
    }
    i->preparing = true;
    i->job = (struct background_job){.fn = install_prepare, .arg = i, .done = install_prepared};
    n->ops->background(n->env, &i->job);
}

/* Puts the prepared store in the place of the old one. Whatever of this a crash leaves undone, the
 * next start completes from snapshot.meta. */
static int install_swap(struct node *n, struct install *i) {
    char path[4096], old[4096], dir[4096];
    snapshot_path(n, i->snapshot.index, path);
    snapshot_path(n, n->snapshot.index, old);
    store_dir(n, dir);
    int rc = rename_durably(n, i->part, path);
    if (rc == 0)
        rc = meta_save(n, &i->snapshot, &i->info);
    struct log_base base = {.index = i->snapshot.index, .term = i->snapshot.term};
    if (rc == 0)
        rc = log_reset(n->log, &base);
    if (rc < 0)
        return rc;
    if (n->view)
        store_view_free(n->view);
    n->view = NULL;
    store_abandon(n->store);
    n->store = NULL;
    if ((rc = store_wipe(dir)) < 0)
        return rc;
    if (rmdir(dir) < 0 || rename(i->incoming, dir) < 0)
        return -errno;
    if ((rc = sync_dir(n->o.dir)) < 0 || (rc = store_open_here(n, dir)) != 0)
        return rc < 0 ? rc : -EBADMSG;
    if (n->snapshot.index > 0 && n->snapshot.index != i->snapshot.index)
        unlink(old);
    return 0;
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
    n->snapshot_info = i->info;
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
    log_info("installed", "node=%llu index=%llu", (unsigned long long)n->o.id,
             (unsigned long long)s.index);
}

uint64_t node_install_deadline(const struct node *n) {
    return n->install->prepared ? node_now(n) + 5
                                : n->install->progress_ms + NODE_INSTALL_TIMEOUT_MS;
}

void node_install_tick(struct node *n) {
    struct install *i = n->install;
    if (i->prepared) {
        if (list_empty(&n->writes) && !n->taking && !n->compacting && n->core && !n->restart_wanted)
            install_finish(n);
    } else if (!i->preparing && node_now(n) >= i->progress_ms + NODE_INSTALL_TIMEOUT_MS) {
        install_fail(n, "nothing arrived for too long");
    }
}
