#include "replica/log.h"

#include <stdlib.h>

#include "replica/log_internal.h"

enum { BODY_COPY_MAX = 4096 }; /* smaller bodies are copied beside their heads: fewer pieces */

/* ---- jobs and the end of the log ---- */

void log_file_close(struct replica_log *l, struct disk_file *file) {
    if (!l->abandoned)
        l->disk->ops->close(l->disk, file);
}

static void free_list(struct list *head) {
    LIST_FOREACH_SAFE (it, head)
        segment_free(LIST_ENTRY(it, struct segment, node));
}

static void compaction_free(struct compaction *c) {
    free_list(&c->victims);
    if (c->base_file && c->base_file != c->log->base_slots.file)
        log_file_close(c->log, c->base_file);
    list_remove(&c->node);
    free(c);
}

void log_free(struct replica_log *l) {
    LIST_FOREACH_SAFE (it, &l->compactions)
        compaction_free(LIST_ENTRY(it, struct compaction, node));
    free_list(&l->segments);
    free_list(&l->retiring);
    free_list(&l->spares);
    if (l->next)
        segment_free(l->next);
    log_slots_close(&l->vote_slots);
    log_slots_close(&l->base_slots);
    free(l);
}

void log_job_submit(struct replica_log *l, struct disk_job *job) {
    l->jobs++;
    l->disk->ops->submit(l->disk, job);
}

void log_job_status(struct replica_log *l, int status) {
    if (status < 0 && l->error == 0)
        l->error = status;
}

void log_job_end(struct replica_log *l) {
    CHECK(l->jobs > 0);
    if (--l->jobs == 0 && l->closing)
        log_free(l);
}

void log_base_fields(const struct replica_log *l, uint64_t ret_fields[LOG_SLOT_FIELDS]) {
    ret_fields[0] = l->base.index;
    ret_fields[1] = l->base.term;
    ret_fields[2] = l->live_from;
    ret_fields[3] = l->epoch;
    ret_fields[4] = l->durable.segment;
    ret_fields[5] = l->durable.offset;
}

void log_close(struct replica_log *l) {
    if (!l)
        return;
    CHECK(!log_append_pending(l));
    /* So that damage to the last records, too, is told from a torn tail. Nothing is lost when this
     * fails. */
    if (l->error == 0 && list_empty(&l->compactions)) {
        uint64_t fields[LOG_SLOT_FIELDS];
        log_base_fields(l, fields);
        int ignored = log_slots_write(&l->base_slots, fields);
        (void)ignored;
    }
    l->closing = true;
    if (l->jobs == 0)
        log_free(l);
}

bool log_append_pending(const struct replica_log *l) {
    return !list_empty(&l->flying) || !list_empty(&l->waiting);
}

uint64_t log_last_index(const struct replica_log *l) {
    return l->last_index;
}

uint64_t log_bytes(const struct replica_log *l) {
    uint64_t bytes = 0;
    LIST_FOREACH (it, &l->segments)
        bytes += LIST_ENTRY(it, struct segment, node)->end;
    return bytes;
}

/* ---- the vote ---- */

int log_set_vote(struct replica_log *l, const struct log_vote *vote) {
    CHECK(vote->term >= l->vote.term);
    if (l->error)
        return l->error;
    uint64_t fields[LOG_SLOT_FIELDS] = {vote->term, vote->voted_for};
    int r = log_slots_write(&l->vote_slots, fields);
    log_job_status(l, r);
    if (r == 0)
        l->vote = *vote;
    return r;
}

/* ---- appending ---- */

static void append_finish(struct log_append *a, int status) {
    free(a->iov);
    a->iov = NULL;
    buf_fini(&a->frames);
    a->done(a, status);
}

static void fail_waiting(struct replica_log *l) {
    while (!list_empty(&l->waiting)) {
        struct log_append *a = LIST_ENTRY(list_first(&l->waiting), struct log_append, node);
        list_remove(&a->node);
        append_finish(a, l->error);
    }
}

static void on_append_done(struct disk_job *job, int status) {
    struct log_append *a = CONTAINER_OF(job, struct log_append, job);
    struct replica_log *l = a->log;
    log_job_status(l, status);
    list_remove(&a->node);
    if (l->error == 0)
        l->durable = (struct log_position){a->end_segment, a->end_offset};
    append_finish(a, l->error);
    log_pump(l);
    log_job_end(l);
}

struct placing {
    struct log_append *a;
    const struct segment *segment;
    size_t start; /* in frames: where the piece being gathered begins */
    int iov_count;
};

static void placing_cut(struct placing *p) {
    struct buf *f = &p->a->frames;
    if (f->size > p->start)
        p->a->iov[p->iov_count++] =
            (struct iovec){.iov_base = f->data + p->start, .iov_len = f->size - p->start};
    p->start = f->size;
}

static uint32_t place_record(struct placing *p, const struct log_entry *e) {
    static const uint8_t zeros[LOG_ALIGN];
    struct buf *f = &p->a->frames;
    struct replica_log *l = p->a->log;
    struct log_record_head h = {
        .body_bytes = (uint32_t)e->body.size,
        .body_crc = log_body_crc(e->body),
        .index = e->index,
        .term = e->term,
        .segment = p->segment->number,
        .epoch = l->epoch,
        .durable = l->durable,
        .type = e->type,
    };
    uint32_t crc = log_record_head_put(f->data + f->size, l->mark, &h);
    buf_commit(f, LOG_RECORD_HEAD_BYTES);
    if (e->body.size <= BODY_COPY_MAX) {
        buf_append_slice(f, e->body);
    } else {
        placing_cut(p);
        p->a->iov[p->iov_count++] =
            (struct iovec){.iov_base = (void *)e->body.data, .iov_len = e->body.size};
    }
    buf_append(f, zeros, log_pad(e->body.size) - e->body.size);
    return crc;
}

/* Encodes the append for its place and hands it to the disk as one write. */
static void place(struct log_append *a, struct segment *s) {
    struct replica_log *l = a->log;
    const struct segment *before =
        s->node.prev == &l->segments ? NULL : LIST_ENTRY(s->node.prev, struct segment, node);
    uint64_t offset = s->end;
    size_t frame_bytes = LOG_SEGMENT_HEAD_BYTES, large = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        size_t body = a->entries[i].body.size;
        large += body > BODY_COPY_MAX;
        frame_bytes += LOG_RECORD_HEAD_BYTES + LOG_ALIGN + (body > BODY_COPY_MAX ? 0 : body);
    }
    a->iov = xcalloc(2 * large + 1, sizeof *a->iov);
    buf_reserve(&a->frames, frame_bytes); /* all at once: iov points into it */
    struct placing p = {.a = a, .segment = s};
    if (s->end == 0) {
        struct log_segment_head h = {
            .segment = s->number,
            .epoch = l->epoch,
            .bytes = s->bytes,
            .previous_end = before ? (uint32_t)before->end : 0,
            .previous_crc = before ? before->last_crc : 0,
            .durable = l->durable,
        };
        s->last_crc = log_segment_head_put(a->frames.data, l->mark, &h);
        buf_commit(&a->frames, LOG_SEGMENT_HEAD_BYTES);
        s->end = LOG_SEGMENT_HEAD_BYTES;
    }
    for (uint32_t i = 0; i < a->count; i++)
        s->last_crc = place_record(&p, &a->entries[i]);
    placing_cut(&p);
    s->end += a->record_bytes;
    CHECK(s->end <= s->bytes);

    LIST_FOREACH (it, &l->segments) {
        struct segment *other = LIST_ENTRY(it, struct segment, node);
        if (other->live_last >= a->entries[0].index)
            other->live_last = a->entries[0].index - 1;
    }
    s->live_last = a->entries[a->count - 1].index;
    a->end_segment = s->number;
    a->end_offset = (uint32_t)s->end;
    a->job = (struct disk_job){.kind = DISK_JOB_WRITE,
                               .done = on_append_done,
                               .file = s->file,
                               .offset = offset,
                               .iov = a->iov,
                               .iov_count = p.iov_count,
                               .sync = true,
                               .tail = true};
    list_push_back(&l->flying, &a->node);
    log_job_submit(l, &a->job);
}

void log_pump(struct replica_log *l) {
    if (l->error) {
        /* In order: those handed to the disk come first. */
        if (list_empty(&l->flying))
            fail_waiting(l);
        return;
    }
    while (!list_empty(&l->waiting)) {
        struct log_append *a = LIST_ENTRY(list_first(&l->waiting), struct log_append, node);
        struct segment *s = segment_last(l);
        if (!s || s->end + a->record_bytes > s->bytes)
            s = segment_advance(l, LOG_SEGMENT_HEAD_BYTES + a->record_bytes);
        if (!s)
            return;
        list_remove(&a->node);
        place(a, s);
    }
    segment_make_next(l, 0);
}

static int do_nothing(void *arg) {
    return 0;
}

void log_append(struct replica_log *l, struct log_append *a) {
    CHECK(a->count > 0);
    CHECK(a->entries[0].index > l->base.index);
    CHECK(a->entries[0].index <= l->last_index + 1);
    a->log = l;
    a->iov = NULL;
    a->frames = (struct buf){0};
    a->record_bytes = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        CHECK(a->entries[i].index == a->entries[0].index + i);
        CHECK(a->entries[i].body.size <= LOG_APPEND_BYTES_MAX);
        a->record_bytes += log_record_bytes(a->entries[i].body.size);
        CHECK(a->record_bytes <= 2 * (uint64_t)LOG_APPEND_BYTES_MAX);
    }
    l->last_index = a->entries[a->count - 1].index;
    if (l->error && list_empty(&l->waiting)) {
        /* Its failure comes later, as all callbacks do, by way of an empty job. */
        a->job = (struct disk_job){.kind = DISK_JOB_CALL, .done = on_append_done, .fn = do_nothing};
        list_push_back(&l->flying, &a->node);
        log_job_submit(l, &a->job);
        return;
    }
    list_push_back(&l->waiting, &a->node);
    if (!l->error)
        log_pump(l);
}

/* ---- compaction ---- */

static void compaction_start(struct compaction *c);

static void compaction_finish(struct compaction *c) {
    struct replica_log *l = c->log;
    void (*done)(void *ctx, int status) = c->done;
    void *ctx = c->ctx;
    compaction_free(c);
    if (l->closing)
        return;
    if (!list_empty(&l->compactions))
        compaction_start(LIST_ENTRY(list_first(&l->compactions), struct compaction, node));
    done(ctx, l->error);
}

void compaction_victim_gone(struct compaction *c) {
    CHECK(c->victims_left > 0);
    if (--c->victims_left == 0)
        compaction_finish(c);
}

static void retire_victims(struct compaction *c) {
    if (c->victims_left == 0 || c->log->error || c->log->closing) {
        compaction_finish(c);
        return;
    }
    LIST_FOREACH_SAFE (it, &c->victims)
        segment_retire(LIST_ENTRY(it, struct segment, node), c);
}

static void on_base_written(struct disk_job *job, int status) {
    struct compaction *c = CONTAINER_OF(job, struct compaction, job);
    struct replica_log *l = c->log;
    log_job_status(l, status);
    c->slots_written++;
    if (l->error == 0 && c->slots_written < 2) {
        c->job.offset = (c->slot_first ^ 1) * LOG_SLOT_PITCH;
        log_job_submit(l, &c->job);
    } else {
        retire_victims(c);
    }
    log_job_end(l);
}

static void compaction_start(struct compaction *c) {
    struct replica_log *l = c->log;
    struct segment *last = segment_last(l);
    for (struct list *it = list_first(&l->segments); it; it = list_first(&l->segments)) {
        struct segment *s = LIST_ENTRY(it, struct segment, node);
        if (s == last || s->live_last >= c->keep_from)
            break;
        list_remove(it);
        list_push_back(&c->victims, it);
        c->victims_left++;
    }
    if (!list_empty(&l->segments))
        l->live_from = LIST_ENTRY(list_first(&l->segments), struct segment, node)->number;
    /* log_reset() may have gone further while this one waited. */
    if (c->base.index > l->base.index)
        l->base = c->base;

    struct log_slot slot = {.mark = l->mark, .counter = ++l->base_slots.counter};
    log_base_fields(l, slot.fields);
    log_slot_put(c->slot, LOG_BASE_MAGIC, &slot);
    c->iov = (struct iovec){.iov_base = c->slot, .iov_len = sizeof c->slot};
    c->base_file = l->base_slots.file;
    c->slot_first = l->base_slots.first;
    c->job = (struct disk_job){.kind = DISK_JOB_WRITE,
                               .done = on_base_written,
                               .file = c->base_file,
                               .offset = c->slot_first * LOG_SLOT_PITCH,
                               .iov = &c->iov,
                               .iov_count = 1,
                               .sync = true};
    log_job_submit(l, &c->job);
}

void log_compact(struct replica_log *l, const struct log_base *base, uint64_t keep_from,
                 void (*done)(void *ctx, int status), void *ctx) {
    CHECK(base->index >= l->base.index);
    CHECK(base->index <= l->last_index);
    CHECK(keep_from <= base->index + 1);
    struct compaction *c = xcalloc(1, sizeof *c);
    c->log = l;
    c->base = *base;
    c->keep_from = keep_from;
    c->done = done;
    c->ctx = ctx;
    list_init(&c->victims);
    list_push_back(&l->compactions, &c->node);
    if (list_first(&l->compactions) == &c->node)
        compaction_start(c);
}

int log_reset(struct replica_log *l, const struct log_base *base) {
    CHECK(!log_append_pending(l));
    CHECK(base->index >= l->base.index);
    if (l->error)
        return l->error;
    struct log_base old_base = l->base;
    uint32_t old_live_from = l->live_from;
    struct log_position old_durable = l->durable;
    l->base = *base;
    l->live_from = l->next_number;
    l->durable = (struct log_position){l->next_number, 0};
    uint64_t fields[LOG_SLOT_FIELDS];
    log_base_fields(l, fields);
    /* A new file, because a compaction may be writing to the slots of the old one. */
    struct disk_file *old = NULL;
    int r = log_slots_replace(&l->base_slots, fields, &old);
    if (r < 0) {
        log_job_status(l, r);
        l->base = old_base;
        l->live_from = old_live_from;
        l->durable = old_durable;
        return r;
    }
    struct list *running = list_first(&l->compactions);
    if (!running || LIST_ENTRY(running, struct compaction, node)->base_file != old)
        log_file_close(l, old);
    l->last_index = base->index;
    LIST_FOREACH_SAFE (it, &l->segments)
        segment_retire(LIST_ENTRY(it, struct segment, node), NULL);
    return 0;
}

void log_abandon(struct replica_log *l) {
    if (!l)
        return;
    l->abandoned = true;
    l->vote_slots.file = NULL;
    l->base_slots.file = NULL;
    LIST_FOREACH_SAFE (it, &l->flying) {
        struct log_append *a = LIST_ENTRY(it, struct log_append, node);
        list_remove(it);
        free(a->iov);
        buf_fini(&a->frames);
    }
    LIST_FOREACH_SAFE (it, &l->waiting)
        list_remove(it);
    log_free(l);
}
