/* Snapshots: opening what is on the disk at start, taking snapshots and compacting the log behind
 * them. node_install.c fetches them from others, node_fetch.c hands them out.
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
#include "store/check.h"

void node_snapshot_path(const struct node *n, uint64_t index, char out[4096]) {
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

int node_rename_durably(const struct node *n, const char *from, const char *to) {
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/snapshots", n->o.dir);
    if (rename(from, to) < 0)
        return -errno;
    return sync_dir(dir);
}

/* ---- snapshot.meta ---- */

int node_meta_save(struct node *n, const struct core_snapshot *s,
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
        .changes_max = n->o.changes_max,
        .boot_id = n->o.boot_id,
        .reserve_bytes = n->o.reserve_bytes,
    };
}

int node_store_open(const struct node *n, const char *dir, struct store **ret_store) {
    struct store_options options = store_options(n, dir);
    return store_open(&options, ret_store);
}

/* What lies in the folder at start may have been damaged since: a record with a changed byte would
 * be served. The node has all that it takes to make the store anew. Where the store says that its
 * records were right, and nobody has touched the file, the node serves at once, and a scrub looks
 * at them meanwhile. */
static int store_open_checked(struct node *n, const char *dir) {
    struct store_options options = store_options(n, dir);
    char problem[256] = "";
    options.look = n->o.scrub_every_ms ? STORE_LOOK_UNLESS_SOUND : STORE_LOOK_ALWAYS;
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
    node_snapshot_path(n, n->snapshot.index, path);
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
    if (rc == 0)
        rc = node_store_open(n, dir, &n->store);
    return rc == 0 ? store_note_sound(n->store) : rc;
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

/* The first start of a cluster that is made from a backup: the snapshot is there, the log is not,
 * and under which address we are the only member is known only now. Again, when an earlier start
 * was cut short. */
static int restored_begin(struct node *n) {
    struct membership *m = &n->snapshot.membership;
    *m = (struct membership){.count = 1};
    m->members[0] = (struct member){.id = n->o.id, .role = MEMBER_VOTER};
    snprintf(m->members[0].address, sizeof m->members[0].address, "%s", n->o.peer_address);
    int rc = node_meta_save(n, &n->snapshot, &n->snapshot_info);
    if (rc == 0 && n->vote.term < n->snapshot.term) {
        n->vote = (struct log_vote){.term = n->snapshot.term};
        rc = log_set_vote(n->log, &n->vote);
    }
    return rc;
}

/* What an earlier life was copying when it ended. */
static void remove_leftovers(const struct node *n) {
    static const char *const names[] = {"snapshots/new.mdb", "snapshots/new.mdb.tmp",
                                        NODE_BACKUP_NAME, NODE_BACKUP_NAME ".tmp"};
    static const char *const folders[] = {"store.incoming", "store.old"};
    char path[4096];
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", n->o.dir, names[i]);
        unlink(path);
    }
    for (size_t i = 0; i < ARRAY_COUNT(folders); i++) {
        snprintf(path, sizeof path, "%s/%s", n->o.dir, folders[i]);
        if (store_wipe(path) == 0)
            rmdir(path);
    }
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
    if (n->o.bootstrap && n->snapshot.index > 0 && (rc = restored_begin(n)) < 0) {
        snprintf(ret_error, 256, "%.150s: %s", n->o.dir, strerror(-rc));
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
    if (!store_is_sound(n->store))
        n->scrub_at_ms = node_now(n);
    n->log_bytes_at_snapshot = 0;
    if (n->o.bootstrap && n->memlog.last_index == 0 && n->snapshot.index == 0)
        rc = node_bootstrap(n);
    return rc;
}

/* ---- taking ---- */

static int take_run(void *arg) {
    struct node *n = arg; /* the store stays open, and nothing else of the node is touched here */
    int rc = store_snapshot_write(n->store, n->take_path, &n->take_info);
    /* What it holds may be all that there is one day, here or on another node. */
    struct store_check check;
    return rc == 0 ? store_check_snapshot(n->take_path, &n->take_info, NULL, NULL, &check) : rc;
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
    if (status == -EBADMSG) {
        take_drop(n);
        node_integrity_damaged(n, "what a snapshot holds does not add up to the digest");
    } else if (status == -ENOSPC) {
        /* The copy is not the log: nothing is at stake yet. Try again later. */
        log_error("snapshot-failed", "node=%llu reason=\"no space left\"",
                  (unsigned long long)n->o.id);
        n->log_bytes_at_snapshot = log_bytes(n->log);
        take_drop(n);
    } else if (status < 0) {
        node_fatal(n, "a snapshot could not be written: %s", strerror(-status));
    } else {
        n->take_done = true;
        n->take_done_ms = node_now(n);
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
 * (G3), some bytes more, and what followers that are on their way still need. */
static uint32_t trailing_entries(const struct node *n, uint64_t index) {
    uint64_t bytes = 0, at = index;
    uint64_t laggards = node_log_floor(n, false), fetchers = node_log_floor(n, true);
    while (at >= n->memlog.first_index &&
           (index - at < n->o.entries_inflight || bytes < n->o.log_trailing_bytes ||
            (at >= laggards && bytes < n->o.log_laggard_bytes) ||
            (at >= fetchers && bytes < NODE_LAGGARD_FACTOR * n->o.snapshot_log_bytes))) {
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
    node_snapshot_path(n, s.index, path);
    node_snapshot_path(n, n->snapshot.index, old);
    int rc = node_rename_durably(n, n->take_path, path);
    if (rc == 0)
        rc = node_meta_save(n, &s, info);
    n->take_done = false;
    if (rc < 0) {
        node_fatal(n, "a snapshot could not be stored: %s", strerror(-rc));
        return;
    }
    if (n->snapshot.index > 0)
        unlink(old);
    n->snapshot = s;
    n->snapshot_info = *info;
    n->snapshot_agreed = false; /* the next tick looks */
    n->counters.snapshots_taken++;
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

/* A copy that is wrong, and fits its own digest, is noticed when digests are compared, a few times
 * a second. A snapshot of it that others have fetched by then would make them wrong as well, and
 * from it we could not be made anew. When nobody says anything for long, it is better than none. */
static bool take_agreed(const struct node *n) {
    return node_integrity_agreed(n, n->take_info.index) ||
           node_now(n) >= n->take_done_ms + n->o.snapshot_agree_ms;
}

/* By how many bytes the log must have grown. A snapshot costs as much as the store is large: one
 * of a large store has to be worth it. What the log holds is also in memory, which bounds this. */
static uint64_t worth_taking(const struct node *n) {
    uint64_t least = n->o.snapshot_log_bytes, bytes = store_file_bytes(n->store) / 8;
    return bytes < least ? least : bytes > 8 * least ? 8 * least : bytes;
}

void node_snapshot_tick(struct node *n) {
    node_install_tidy(n);
    if (!n->snapshot_agreed && n->snapshot.index > 0 && node_running(n) && node_may_serve(n))
        n->snapshot_agreed =
            core_voters(n->core, false) > 2 && node_integrity_agreed(n, n->snapshot.index);
    if (n->state != NODE_RUNNING || n->restart_wanted || n->taking || n->compacting)
        return;
    if (n->take_done) {
        if (n->install || !node_may_serve(n))
            take_drop(n);
        else if (n->durable_index >= n->take_info.index && n->core_applied >= n->take_info.index &&
                 take_agreed(n))
            take_use(n);
        return;
    }
    uint64_t grown = log_bytes(n->log) - n->log_bytes_at_snapshot;
    if (log_bytes(n->log) < n->log_bytes_at_snapshot)
        grown = 0;
    /* What the log holds behind a snapshot that somebody fetches is kept for him anyway. */
    if (node_fetch_busy(n) && grown < NODE_LAGGARD_FACTOR / 2 * n->o.snapshot_log_bytes)
        return;
    if (n->install || !node_may_serve(n) || grown < worth_taking(n) ||
        store_applied_index(n->store) <= n->snapshot.index)
        return;
    if (!node_has_room(n, store_file_bytes(n->store)))
        return; /* the log grows meanwhile, and at last the leader refuses to let it */
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

/* ---- what there is ---- */

bool node_snapshot_is(const struct node *n, uint64_t index, uint64_t hash) {
    return index != 0 && n->snapshot.index == index && n->snapshot_info.file_hash.low == hash;
}

bool node_snapshot_fill(struct node *n, struct core_message *m, struct buf *descriptor) {
    if (!node_may_hand_out(n) || n->snapshot.index == 0 ||
        m->install.snapshot.index != n->snapshot.index)
        return false;
    m->install.snapshot = n->snapshot;
    store_snapshot_encode(&n->snapshot_info, descriptor);
    m->install.descriptor = buf_slice(descriptor);
    node_fetch_offered(n, m->peer_id); /* it stays until it was fetched */
    return true;
}

void node_work_now(const struct node *n, struct node_work *ret) {
    struct stat st;
    char path[4096 + 8];
    *ret = (struct node_work){.kind = WORK_NONE};
    if (n->install) {
        node_install_work(n, ret);
    } else if (n->taking) {
        snprintf(path, sizeof path, "%s.tmp", n->take_path);
        *ret = (struct node_work){.kind = WORK_TAKING, .total = store_file_bytes(n->store)};
        if (stat(path, &st) == 0)
            ret->done = (uint64_t)st.st_size;
        if (ret->done > ret->total)
            ret->done = ret->total;
    } else {
        node_integrity_work(n, ret);
    }
}
