#include <stdio.h>
#include <stdlib.h>

#include "replica/log_internal.h"

struct segment *segment_new(struct replica_log *l) {
    struct segment *s = xcalloc(1, sizeof *s);
    list_init(&s->node);
    s->log = l;
    return s;
}

void segment_free(struct segment *s) {
    if (s->file)
        log_file_close(s->log, s->file);
    list_remove(&s->node);
    free(s);
}

static void submit(struct segment *s, enum disk_job_kind kind, disk_done_fn done) {
    s->job = (struct disk_job){
        .kind = kind, .done = done, .name = s->name, .to = s->new_name, .bytes = s->bytes};
    log_job_submit(s->log, &s->job);
}

static void become_spare(struct segment *s) {
    list_remove(&s->node);
    s->end = 0;
    s->live_last = 0;
    list_push_back(&s->log->spares, &s->node);
}

static void name_spare(struct replica_log *l, char *ret_name) {
    snprintf(ret_name, LOG_NAME_BYTES, LOG_SPARE_PATTERN, l->spare_serial++);
}

/* ---- retiring ---- */

static void on_retired(struct disk_job *job, int status) {
    struct segment *s = CONTAINER_OF(job, struct segment, job);
    struct replica_log *l = s->log;
    struct compaction *owner = s->owner;
    s->owner = NULL;
    log_job_status(l, status);
    if (status == 0 && job->kind == DISK_JOB_RENAME) {
        memcpy(s->name, s->new_name, sizeof s->name);
        become_spare(s);
    } else {
        segment_free(s);
    }
    if (owner)
        compaction_victim_gone(owner);
    log_job_end(l);
}

void segment_retire(struct segment *s, struct compaction *owner) {
    struct replica_log *l = s->log;
    list_remove(&s->node);
    list_push_back(&l->retiring, &s->node);
    s->owner = owner;
    if (l->spare_count < LOG_SPARES_MAX && s->bytes == l->segment_bytes) {
        l->spare_count++;
        name_spare(l, s->new_name);
        submit(s, DISK_JOB_RENAME, on_retired);
    } else {
        submit(s, DISK_JOB_UNLINK, on_retired);
    }
}

/* ---- making the next one ready ---- */

static void on_next_renamed(struct disk_job *job, int status) {
    struct segment *s = CONTAINER_OF(job, struct segment, job);
    struct replica_log *l = s->log;
    log_job_status(l, status);
    memcpy(s->name, s->new_name, sizeof s->name);
    if (l->next_state == NEXT_UNDOING) {
        l->next = NULL;
        l->next_state = NEXT_NONE;
        l->spare_count++;
        become_spare(s);
    } else {
        l->next_state = NEXT_READY;
    }
    log_pump(l);
    log_job_end(l);
}

static void rename_next(struct replica_log *l) {
    struct segment *s = l->next;
    s->number = l->next_number;
    snprintf(s->new_name, sizeof s->new_name, LOG_SEGMENT_PATTERN, s->number);
    l->next_state = NEXT_RENAMING;
    submit(s, DISK_JOB_RENAME, on_next_renamed);
}

static void on_next_created(struct disk_job *job, int status) {
    struct segment *s = CONTAINER_OF(job, struct segment, job);
    struct replica_log *l = s->log;
    log_job_status(l, status);
    if (status == 0) {
        s->file = job->ret_file;
        if (!l->closing && !l->error)
            rename_next(l);
    }
    log_pump(l);
    log_job_end(l);
}

void segment_make_next(struct replica_log *l, uint64_t bytes) {
    if (l->error || l->closing)
        return;
    if (l->next_state == NEXT_READY && l->next->bytes < bytes) {
        l->next_state = NEXT_UNDOING;
        name_spare(l, l->next->new_name);
        submit(l->next, DISK_JOB_RENAME, on_next_renamed);
        return;
    }
    if (l->next_state != NEXT_NONE)
        return;
    LIST_FOREACH (it, &l->spares) {
        struct segment *s = LIST_ENTRY(it, struct segment, node);
        if (s->bytes < bytes)
            continue;
        list_remove(&s->node);
        l->spare_count--;
        l->next = s;
        rename_next(l);
        return;
    }
    struct segment *s = segment_new(l);
    s->bytes = bytes > l->segment_bytes ? (bytes + 4095) & ~(uint64_t)4095 : l->segment_bytes;
    name_spare(l, s->name);
    l->next = s;
    l->next_state = NEXT_CREATING;
    submit(s, DISK_JOB_CREATE, on_next_created);
}

struct segment *segment_advance(struct replica_log *l, uint64_t bytes) {
    if (l->next_state != NEXT_READY || l->next->bytes < bytes) {
        segment_make_next(l, bytes);
        return NULL;
    }
    struct segment *s = l->next;
    CHECK(s->number == l->next_number);
    l->next = NULL;
    l->next_state = NEXT_NONE;
    l->next_number++;
    s->end = 0;
    s->live_last = 0;
    list_push_back(&l->segments, &s->node);
    return s;
}
