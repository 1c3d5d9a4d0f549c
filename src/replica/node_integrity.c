/* Whether our copy is right, and what we do when it is not.
 *
 *            a digest differs              most voters have another
 *   sound ----------------------> in doubt -------------------------> being repaired --+
 *     ^  ^                         |   (and at once: a scrub, or a read, finds damage) |
 *     |  +---- most agree with us -+                                                   |
 *     +------------------ made anew from our snapshot and our log ---------------------+
 *                                        | and most voters still have another
 *                                        v
 *                                      lost: out of service until somebody acts
 *
 * The digest is kept up with each change; every node keeps those of its last entries. While there
 * are writes the leader puts one into the log (a barrier entry that carries an index and the
 * digest there), and every node that applies the entry compares. Besides, nodes tell each other
 * index and digest with their status. Whoever differs, the leader too, is found by counting the
 * voters: where most are, is right. With two voters there is no majority, and both stop serving.
 *
 * A byte that changes in the store's file does not change the digest that is kept up. So every now
 * and then a helper thread counts all records up again from a read transaction (a scrub), and
 * compares with the digest of that same transaction. What it finds is a fact about our own copy,
 * and needs no majority.
 *
 * The log is right even where the store is wrong, so the node goes on acknowledging entries and
 * voting. It does not answer reads, hands out no snapshot, takes none, and does not go on leading
 * when another can. It makes a new store beside the old one, from its own snapshot (whose hash is
 * checked, and whose records are counted up) and its own log.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/plant.h"
#include "base/reader.h"
#include "replica/node_internal.h"

enum { NOTE_FORMAT = 1, NOTE_BYTES = 32 };

bool node_may_serve(const struct node *n) {
    return n->health == HEALTH_SOUND;
}

static void health_set(struct node *n, enum node_health health, const char *why) {
    if (n->health == health)
        return;
    if (health == HEALTH_SOUND)
        log_info("copy-sound", "node=%llu index=%llu was=%s reason=%s", (unsigned long long)n->o.id,
                 (unsigned long long)store_applied_index(n->store), node_health_name(n->health),
                 log_quote(slice_str(why)));
    else
        log_error("copy-wrong", "node=%llu index=%llu health=%s reason=%s",
                  (unsigned long long)n->o.id, (unsigned long long)store_applied_index(n->store),
                  node_health_name(health), log_quote(slice_str(why)));
    if (health == HEALTH_SOUND)
        node_gate_open(n); /* for the threads that read by themselves */
    else if (n->health == HEALTH_SOUND)
        node_gate_close(n);
    n->health = health;
    n->status_at_ms = node_now(n); /* the others want to know */
}

/* ---- the digests of the last entries ---- */

static void remember(struct node *n, uint64_t index) {
    n->digests[index % NODE_DIGESTS] =
        (struct digest_at){.index = index, .digest = store_digest(n->store)};
}

static const struct hash128 *recalled(const struct node *n, uint64_t index) {
    const struct digest_at *d = &n->digests[index % NODE_DIGESTS];
    return index != 0 && d->index == index ? &d->digest : NULL;
}

/* Nothing that was known of the old store, or compared with it, counts for the new one. */
void node_integrity_forget(struct node *n) {
    memset(n->digests, 0, sizeof n->digests);
    n->differs_from = 0;
    LIST_FOREACH (it, &n->peers) {
        struct peer *p = LIST_ENTRY(it, struct peer, node);
        p->compared_index = 0;
    }
}

/* ---- comparing ---- */

static void judge(struct node *n);

static void tell_difference(struct node *n, uint64_t peer, uint64_t index,
                            const struct hash128 *own, const struct hash128 *other) {
    n->counters.digest_differences++;
    log_error("copy-differs",
              "node=%llu other=%llu index=%llu own=%016llx%016llx other=%016llx%016llx",
              (unsigned long long)n->o.id, (unsigned long long)peer, (unsigned long long)index,
              (unsigned long long)own->high, (unsigned long long)own->low,
              (unsigned long long)other->high, (unsigned long long)other->low);
}

/* What node p says that its digest at an index is. */
static void compare(struct node *n, struct peer *p, uint64_t index, const struct hash128 *digest) {
    const struct hash128 *own = recalled(n, index);
    if (!own || index <= p->compared_index || PLANTED(PLANT_DIFFERENCE_IGNORED))
        return;
    bool differs = !hash128_equal(*own, *digest), differed = p->compared_index && p->differs;
    p->compared_index = index;
    p->differs = differs;
    if (!differs)
        n->repairs_in_row = 0; /* the last one helped */
    if (differs && !differed)
        tell_difference(n, p->id, index, own, digest);
    if (differs && n->differs_from == 0)
        n->differs_from = index;
    if (differs || n->differs_from != 0)
        judge(n);
}

void node_integrity_status(struct node *n, struct peer *p, const struct wire_status *s) {
    p->health = s->health;
    if (s->health > HEALTH_DOUBTFUL) {
        p->compared_index = 0; /* it knows that it is wrong, and is no witness */
        if (n->differs_from != 0)
            judge(n);
        return;
    }
    compare(n, p, s->check_index, &s->check_digest);
    compare(n, p, s->applied, &s->digest);
}

/* Counts the voters on both sides. Only what was compared since the difference came up counts. */
static void judge(struct node *n) {
    if (!node_running(n) || n->health > HEALTH_DOUBTFUL)
        return;
    uint32_t voters = core_voters(n->core, false), equal = core_is_voter(n->core, n->o.id),
             different = 0;
    uint64_t odd = 0;
    LIST_FOREACH (it, &n->peers) {
        const struct peer *p = LIST_ENTRY(it, struct peer, node);
        if (p->compared_index < n->differs_from || p->compared_index == 0)
            continue;
        if (p->differs)
            odd = p->id;
        if (core_is_voter(n->core, p->id)) {
            equal += !p->differs;
            different += p->differs;
        }
    }
    if (odd == 0) { /* whoever differed knows it now, or is gone */
        n->differs_from = 0;
        health_set(n, HEALTH_SOUND, "nobody differs");
    } else if (equal > voters / 2) {
        health_set(n, HEALTH_SOUND, "most voters have the same digest");
    } else if (different > voters / 2) {
        /* Made anew again and again: then it is in the snapshot, or in how we apply. One time
         * proves nothing: the new store may have been damaged too. */
        if (n->repairs_in_row >= NODE_REPAIRS_IN_ROW)
            health_set(n, HEALTH_LOST, "made anew, and most voters still have another digest");
        else
            node_integrity_damaged(n, "most voters have another digest");
    } else {
        if (n->health == HEALTH_SOUND)
            n->scrub_at_ms = node_now(n); /* perhaps our own records tell */
        health_set(n, HEALTH_DOUBTFUL, "digests differ, and there is no majority");
    }
}

/* While it is in doubt whose copy is right, somebody who could decide it may be too far behind for
 * the log: what most voters had agreed about before is right in any case. */
bool node_may_hand_out(const struct node *n) {
    return n->health == HEALTH_SOUND || (n->health == HEALTH_DOUBTFUL && n->snapshot_agreed);
}

bool node_integrity_agreed(const struct node *n, uint64_t index) {
    uint32_t voters = core_voters(n->core, false), equal = core_is_voter(n->core, n->o.id);
    LIST_FOREACH (it, &n->peers) {
        const struct peer *p = LIST_ENTRY(it, const struct peer, node);
        equal += p->compared_index >= index && !p->differs && core_is_voter(n->core, p->id);
    }
    return voters < 3 || equal > voters / 2;
}

/* ---- in the log ---- */

static void note_encode(uint64_t index, struct hash128 digest, struct buf *out) {
    buf_append_u64(out, NOTE_FORMAT);
    buf_append_u64(out, index);
    buf_append_u64(out, digest.low);
    buf_append_u64(out, digest.high);
}

bool node_note_decode(struct slice body, uint64_t *ret_index, struct hash128 *ret_digest) {
    struct reader r = reader_of(body);
    uint64_t format = reader_u64(&r), index = reader_u64(&r);
    struct hash128 digest = {.low = reader_u64(&r)};
    digest.high = reader_u64(&r);
    if (!reader_done(&r) || format != NOTE_FORMAT || index == 0)
        return false;
    *ret_index = index;
    *ret_digest = digest;
    return true;
}

/* After each entry that changed the store. A note is compared with what we had at its index. */
void node_integrity_applied(struct node *n, uint64_t index, const struct core_entry *e) {
    uint64_t at;
    struct hash128 said;
    remember(n, index);
    if (e->type != CORE_BARRIER || !node_note_decode(e->body, &at, &said)) {
        if (n->unchecked++ == 0)
            n->unchecked_ms = node_now(n);
        return;
    }
    const struct hash128 *own = recalled(n, at);
    if (!own)
        return;
    n->counters.digest_checks++;
    n->check_index = at;
    n->check_digest = *own;
    struct peer *leader = n->core ? node_peer(n, core_leader_id(n->core)) : NULL;
    if (!leader)
        return;
    if (!hash128_equal(*own, said))
        n->status_at_ms = node_now(n);
    compare(n, leader, at, &said);
}

/* The leader's part: while there are writes, its own digest goes into the log. */
static void note_propose(struct node *n, uint64_t now) {
    if (!n->leading || n->state != NODE_RUNNING || n->restart_wanted || n->install ||
        n->hold_index != 0 || node_handing_over(n) || core_transferring(n->core) ||
        n->health != HEALTH_SOUND || n->barrier_index == 0 || n->core_applied < n->barrier_index)
        return;
    if (n->unchecked == 0 ||
        (n->unchecked < NODE_CHECK_ENTRIES && now < n->unchecked_ms + NODE_CHECK_EVERY_MS))
        return;
    struct buf body = {0};
    note_encode(store_applied_index(n->store), store_digest(n->store), &body);
    n->unchecked = 0;
    node_propose(n, CORE_BARRIER, buf_slice(&body));
    buf_fini(&body);
}

/* ---- the scrub ---- */

struct scrub {
    struct background_job job;
    struct node *owner;
    struct store *store;
    bool fast; /* somebody waits for what it finds */
    /* Atomic: the node's thread looks at the one and sets the other. */
    uint64_t bytes;
    bool cancelled;
};

/* Reading all of a store at once would push other things out of the caches and the disk's queue. */
static bool scrub_pace(void *ctx, uint64_t bytes) {
    struct scrub *s = ctx;
    __atomic_add_fetch(&s->bytes, bytes, __ATOMIC_RELAXED);
    if (!s->fast) {
        uint64_t us = bytes * 1000000 / NODE_SCRUB_RATE;
        struct timespec pause = {.tv_sec = (time_t)(us / 1000000),
                                 .tv_nsec = (long)(us % 1000000) * 1000};
        nanosleep(&pause, NULL);
    }
    return !__atomic_load_n(&s->cancelled, __ATOMIC_RELAXED);
}

static int scrub_run(void *arg) {
    struct scrub *s = arg;
    struct store_view *view;
    struct hash128 digest;
    int rc = store_view_new(s->store, &view);
    if (rc < 0)
        return rc;
    rc = store_view_begin(view);
    if (rc == 0) {
        rc = store_verify_slowly(view, scrub_pace, s, &digest);
        store_view_end(view);
    }
    store_view_free(view);
    return rc;
}

static void scrub_done(void *arg, int status) {
    struct scrub *s = arg;
    struct node *n = s->owner;
    n->scrub = NULL;
    n->counters.scrub_bytes += s->bytes;
    free(s);
    if (n->state == NODE_FAILED)
        return;
    if (status == 0)
        status = store_note_sound(n->store);
    if (status == 0)
        n->counters.scrubs++;
    else if (status == -EBADMSG && !PLANTED(PLANT_DAMAGE_IGNORED))
        node_integrity_damaged(n, "the records do not add up to the digest");
    else if (status != -ECANCELED && status != -EBADMSG)
        node_fatal(n, "the store cannot be read: %s", strerror(-status));
    node_settle(n);
}

void node_scrub_cancel(struct node *n) {
    if (n->scrub)
        __atomic_store_n(&n->scrub->cancelled, true, __ATOMIC_RELAXED);
}

static void scrub_tick(struct node *n, uint64_t now) {
    if (n->o.scrub_every_ms == 0 || now < n->scrub_at_ms || n->scrub || n->install ||
        n->health > HEALTH_DOUBTFUL || n->state != NODE_RUNNING)
        return;
    n->scrub_at_ms = now + n->o.scrub_every_ms;
    struct scrub *s = xcalloc(1, sizeof *s);
    s->owner = n;
    s->store = n->store;
    s->fast = n->health == HEALTH_DOUBTFUL;
    s->job = (struct background_job){.fn = scrub_run, .arg = s, .done = scrub_done};
    n->scrub = s;
    n->ops->background(n->env, &s->job);
}

/* ---- repair ---- */

/* A new store beside the old one, from our own snapshot: the log goes on from there. */
struct rebuild {
    struct background_job job;
    struct node *owner;
    struct store *store;
    struct store_snapshot info; /* index 0: from nothing */
    bool running;
    char snapshot[4096], incoming[4096];
};

static int rebuild_run(void *arg) {
    struct rebuild *b = arg;
    struct store_snapshot found;
    int rc = b->info.index ? store_snapshot_verify(b->snapshot, &b->info, &found) : 0;
    if (rc == 0)
        rc = store_wipe(b->incoming);
    if (rc == 0 && b->info.index)
        rc = store_snapshot_install(b->snapshot, b->incoming, b->owner->o.boot_id);
    if (rc == 0)
        rc = node_store_open(b->owner, b->incoming, &b->store);
    if (rc == 0 && b->info.index)
        rc = node_store_count_up(b->store, b->info.digest);
    return rc > 0 ? -EBADMSG : rc;
}

static void rebuild_free(struct rebuild *b) {
    if (b->store)
        store_abandon(b->store);
    free(b);
}

static void rebuild_done(void *arg, int status) {
    struct rebuild *b = arg;
    struct node *n = b->owner;
    b->running = false;
    if (n->state == NODE_FAILED)
        return;
    if (status == -ENOSPC || status == -EBADMSG || status == -ENOENT ||
        n->health != HEALTH_REPAIR) {
        rebuild_free(b);
        n->rebuild = NULL;
        if (status == -ENOSPC)
            n->repair_at_ms = node_now(n) + 10000;
        else if (status < 0)
            health_set(n, HEALTH_LOST, "the own snapshot is damaged too");
    } else if (status < 0) {
        node_fatal(n, "the store could not be made anew: %s", strerror(-status));
    }
}

void node_integrity_damaged(struct node *n, const char *why) {
    if (n->health >= HEALTH_REPAIR)
        return;
    node_scrub_cancel(n);
    n->repair_at_ms = n->repair_since_ms = node_now(n);
    n->repaired_to = UINT64_MAX;
    health_set(n, HEALTH_REPAIR, why);
}

static void rebuild_start(struct node *n) {
    struct rebuild *b = xcalloc(1, sizeof *b);
    b->owner = n;
    b->info = n->snapshot_info;
    if (n->snapshot.index == 0)
        b->info = (struct store_snapshot){0};
    node_snapshot_path(n, n->snapshot.index, b->snapshot);
    snprintf(b->incoming, sizeof b->incoming, "%s/store.incoming", n->o.dir);
    b->running = true;
    b->job = (struct background_job){.fn = rebuild_run, .arg = b, .done = rebuild_done};
    n->rebuild = b;
    n->ops->background(n->env, &b->job);
}

static void rebuild_use(struct node *n) {
    struct rebuild *b = n->rebuild;
    uint64_t applied = store_applied_index(n->store);
    int rc = node_store_swap(n, b->incoming, b->store, NULL);
    b->store = NULL;
    rebuild_free(b);
    n->rebuild = NULL;
    if (rc < 0) {
        node_fatal(n, "a store could not be put in place: %s", strerror(-rc));
        return;
    }
    n->store_broken = false;
    n->repaired_to = applied;
    if (node_now(n) - n->repaired_ms > NODE_REPAIRS_APART_MS)
        n->repairs_in_row = 0;
    n->repairs_in_row++;
    n->repaired_ms = node_now(n);
    n->counters.repairs++;
    log_warn("store-rebuilt", "node=%llu from=%llu to=%llu", (unsigned long long)n->o.id,
             (unsigned long long)n->snapshot.index, (unsigned long long)applied);
    n->restart_wanted = true; /* the core applies again from the snapshot on */
}

/* Another one leads before the store goes away, when there is another. */
static bool must_hand_over(struct node *n, uint64_t now) {
    if (!n->leading || core_voters(n->core, false) < 2)
        return false;
    if (!node_handing_over(n))
        (void)node_transfer(n, 0);
    return n->leading && n->health == HEALTH_REPAIR && now < n->repair_since_ms + 2000;
}

static void repair_tick(struct node *n, uint64_t now) {
    if (n->health < HEALTH_REPAIR || n->state != NODE_RUNNING || n->restart_wanted)
        return;
    bool leads = must_hand_over(n, now);
    if (n->health == HEALTH_LOST)
        return;
    if (n->repaired_to != UINT64_MAX) {
        if (store_applied_index(n->store) >= n->repaired_to) {
            n->scrub_at_ms = now + n->o.scrub_every_ms;
            health_set(n, HEALTH_SOUND, "made anew from the snapshot and the log");
        }
        return;
    }
    /* A core that waits for another node's snapshot gets a new store from there. */
    if (n->install && n->rebuild && !n->rebuild->running) {
        rebuild_free(n->rebuild);
        n->rebuild = NULL;
    }
    if (n->install || n->scrub || n->taking || n->compacting || n->retiring ||
        node_backup_copying(n))
        return;
    if (!n->rebuild) {
        if (n->snapshot.index == 0 && n->memlog.first_index > 1)
            health_set(n, HEALTH_LOST, "there is no snapshot to begin with");
        else if (now >= n->repair_at_ms && node_install_make_room(n))
            rebuild_start(n);
    } else if (!n->rebuild->running && !leads) {
        rebuild_use(n);
    }
}

/* A snapshot of another node is in the place of our store. */
void node_integrity_installed(struct node *n) {
    n->store_broken = false;
    health_set(n, HEALTH_SOUND, "a snapshot was installed");
}

bool node_integrity_idle(const struct node *n) {
    return !n->scrub && !(n->rebuild && n->rebuild->running);
}

/* The process ends. */
void node_integrity_fini(struct node *n) {
    if (n->rebuild)
        rebuild_free(n->rebuild);
    free(n->scrub);
    n->rebuild = NULL;
    n->scrub = NULL;
}

void node_integrity_tick(struct node *n) {
    uint64_t now = node_now(n);
    if (n->health == HEALTH_DOUBTFUL)
        judge(n); /* who differed may be no member any more */
    note_propose(n, now);
    scrub_tick(n, now);
    repair_tick(n, now);
}

void node_integrity_work(const struct node *n, struct node_work *ret) {
    if (n->health == HEALTH_REPAIR && n->snapshot.index != 0)
        *ret = (struct node_work){.kind = WORK_REBUILDING};
    else if (n->scrub)
        *ret = (struct node_work){.kind = WORK_SCRUBBING,
                                  .done = __atomic_load_n(&n->scrub->bytes, __ATOMIC_RELAXED),
                                  .total = store_data_bytes(n->store)};
}
