/* Reading the log at start.
 *
 * The files are loaded one by one and the stream is walked record by record until the first bytes
 * that are no record of it. Then everything behind that place is searched for evidence that more
 * was durable once: that is the difference between damage and a torn tail (log.h). Only when all is
 * found good is anything on the disk changed, and then entries are delivered in a second pass,
 * because a later record may supersede an earlier one. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "replica/log_opening.h"

/* ---- the folder ---- */

/* Parses exactly what PATTERN prints. */
static bool parse_name(const char *name, const char *pattern, uint32_t *ret_number) {
    char full[LOG_NAME_BYTES + 8], again[LOG_NAME_BYTES + 8];
    if (strlen(name) >= LOG_NAME_BYTES - 4)
        return false;
    snprintf(full, sizeof full, LOG_FOLDER "/%s", name);
    unsigned number = 0;
    if (sscanf(full, pattern, &number) != 1)
        return false;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(again, sizeof again, pattern, number);
#pragma GCC diagnostic pop
    *ret_number = number;
    return strcmp(full, again) == 0;
}

static void on_name(void *ctx, const char *name) {
    struct opening *o = ctx;
    uint32_t number = 0;
    if (parse_name(name, LOG_SEGMENT_PATTERN, &number)) {
        o->numbers = xrealloc(o->numbers, (o->number_count + 1) * sizeof *o->numbers);
        o->numbers[o->number_count++] = number;
    } else if (parse_name(name, LOG_SPARE_PATTERN, &number)) {
        o->spares = xrealloc(o->spares, (o->spare_count + 1) * sizeof *o->spares);
        o->spares[o->spare_count++] = number;
    }
}

static int compare_numbers(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int list_folder(struct opening *o) {
    int r = o->disk->ops->list(o->disk, LOG_FOLDER, on_name, o);
    if (r < 0)
        return log_fail_io(o, r, LOG_FOLDER);
    if (o->number_count > 0)
        qsort(o->numbers, o->number_count, sizeof *o->numbers, compare_numbers);
    if (o->spare_count > 0)
        qsort(o->spares, o->spare_count, sizeof *o->spares, compare_numbers);
    return 0;
}

/* ---- vote and base ---- */

static int open_slots(struct opening *o, struct log_slots *s, uint64_t *ret_fields) {
    int r = log_slots_open(s, ret_fields);
    if (r == -EBADMSG)
        return log_fail(o, r,
                        "%s, offset 0: both copies are damaged, or it is not a file of this log",
                        s->name);
    if (r < 0 && r != -ENOENT)
        return log_fail_io(o, r, s->name);
    return r;
}

/* The vote is made first and the base second, so that a base without a vote is a loss. */
static int open_small_files(struct opening *o) {
    struct replica_log *l = o->log;
    uint64_t fields[LOG_SLOT_FIELDS] = {0};
    l->vote_slots = (struct log_slots){
        .disk = o->disk, .name = LOG_VOTE_NAME, .magic = LOG_VOTE_MAGIC, .mark = o->disk->salt};
    l->base_slots =
        (struct log_slots){.disk = o->disk, .name = LOG_BASE_NAME, .magic = LOG_BASE_MAGIC};
    int vote = open_slots(o, &l->vote_slots, fields);
    if (vote < 0 && vote != -ENOENT)
        return vote;
    l->vote = (struct log_vote){.term = fields[0], .voted_for = fields[1]};

    memset(fields, 0, sizeof fields);
    int base = open_slots(o, &l->base_slots, fields);
    if (base < 0 && base != -ENOENT)
        return base;
    struct disk_file *old = NULL;
    if (base == -ENOENT) {
        if (o->number_count > 0)
            return log_fail(o, -EBADMSG, "%s is missing, though there are segments", LOG_BASE_NAME);
        if (o->read_only)
            return log_fail(o, -ENOENT, "%s is missing: there is no log", LOG_BASE_NAME);
        int r = 0;
        if (vote == -ENOENT) {
            r = log_slots_replace(&l->vote_slots, fields, &old);
            if (r < 0)
                return log_fail_io(o, r, LOG_VOTE_NAME);
        }
        l->base_slots.mark = l->vote_slots.mark;
        fields[2] = 1; /* the first segment's number */
        r = log_slots_replace(&l->base_slots, fields, &old);
        if (r < 0)
            return log_fail_io(o, r, LOG_BASE_NAME);
    } else if (vote == -ENOENT) {
        return log_fail(o, -EBADMSG, "%s is missing, though there is %s", LOG_VOTE_NAME,
                        LOG_BASE_NAME);
    }
    if (l->vote_slots.mark != l->base_slots.mark)
        return log_fail(o, -EBADMSG, "%s and %s are of two different logs", LOG_VOTE_NAME,
                        LOG_BASE_NAME);
    l->mark = l->base_slots.mark;
    l->base = (struct log_base){.index = fields[0], .term = fields[1]};
    l->live_from = (uint32_t)fields[2];
    l->epoch = (uint32_t)fields[3];
    l->durable = (struct log_position){(uint32_t)fields[4], (uint32_t)fields[5]};
    return 0;
}

/* ---- segment files ---- */

static int unlink_file(struct opening *o, const char *name) {
    int r = o->disk->ops->unlink_sync(o->disk, name);
    return r < 0 ? log_fail_io(o, r, name) : 0;
}

static int open_file(struct opening *o, struct segment *s) {
    int r = o->disk->ops->open(o->disk, s->name, &s->file, &s->bytes);
    if (r < 0)
        s->file = NULL;
    return r < 0 ? log_fail_io(o, r, s->name) : 0;
}

/* Spares of another size than ours (a changed setting, a file whose making was cut short) go. */
static int open_spares(struct opening *o) {
    struct replica_log *l = o->log;
    for (size_t i = 0; i < o->spare_count; i++) {
        struct segment *s = segment_new(l);
        list_push_back(&l->spares, &s->node);
        l->spare_serial = o->spares[i] + 1;
        snprintf(s->name, sizeof s->name, LOG_SPARE_PATTERN, o->spares[i]);
        int r = open_file(o, s);
        if (r < 0)
            return r;
        if (s->bytes == l->segment_bytes && l->spare_count < LOG_SPARES_MAX) {
            l->spare_count++;
            /* Filled, but maybe not flushed, when the process was killed. */
            r = o->disk->ops->write_sync(o->disk, s->file, 0, slice_of(NULL, 0));
            if (r < 0)
                return log_fail_io(o, r, s->name);
            continue;
        }
        r = unlink_file(o, s->name);
        if (r < 0)
            return r;
        segment_free(s);
    }
    return 0;
}

static int read_segment_head(struct opening *o, struct found *f) {
    struct replica_log *l = o->log;
    struct segment *s = f->segment;
    uint8_t raw[LOG_SEGMENT_HEAD_BYTES];
    if (s->bytes < LOG_SEGMENT_BYTES_MIN || s->bytes > UINT32_MAX)
        return log_fail(o, -EBADMSG, "%s, offset %" PRIu64 ": %s", s->name, s->bytes,
                        s->bytes > UINT32_MAX ? "larger than any log segment"
                                              : "the file is truncated");
    int r = log_read_exact(o, s, raw, sizeof raw);
    if (r < 0)
        return r;
    switch (log_segment_head_get(raw, l->mark, s->number, &f->head, &f->head_crc)) {
    case LOG_SEGMENT_UNUSED:
        return 0;
    case LOG_SEGMENT_FOREIGN:
        return log_fail(o, -EBADMSG, "%s, offset 0: not a log segment, or its head is damaged",
                        s->name);
    case LOG_SEGMENT_OTHER:
        return log_fail(o, -EBADMSG, "%s, offset 8: a segment of another log", s->name);
    case LOG_SEGMENT_RENAMED:
        return log_fail(o, -EBADMSG,
                        "%s, offset 16: a later segment of this log under a wrong name", s->name);
    case LOG_SEGMENT_USED:
        f->used = true;
        break;
    }
    if (f->head.bytes != s->bytes)
        return log_fail(o, -EBADMSG,
                        "%s, offset %" PRIu64
                        ": the file is truncated or was extended: it was made "
                        "with %" PRIu64 " bytes",
                        s->name, s->bytes, f->head.bytes);
    return 0;
}

static size_t count_dead(const struct opening *o) {
    size_t dead = 0;
    while (dead < o->number_count && o->numbers[dead] < o->log->live_from)
        dead++;
    return dead;
}

/* Opens all that is not dead. */
static int open_segments(struct opening *o) {
    struct replica_log *l = o->log;
    size_t dead = count_dead(o);
    o->found = xcalloc(o->number_count - dead + 1, sizeof *o->found);
    for (size_t i = dead; i < o->number_count; i++) {
        uint32_t expected = l->live_from + (uint32_t)(i - dead);
        if (o->numbers[i] != expected)
            return log_fail(o, -EBADMSG,
                            LOG_SEGMENT_PATTERN " is missing, though there is a later one",
                            expected);
        struct segment *s = segment_new(l);
        list_push_back(&l->segments, &s->node);
        s->number = o->numbers[i];
        snprintf(s->name, sizeof s->name, LOG_SEGMENT_PATTERN, s->number);
        o->found[o->found_count++].segment = s;
        int r = open_file(o, s);
        if (r == 0)
            r = read_segment_head(o, &o->found[o->found_count - 1]);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Decides what the entries mean together with the base. Sets first_index and last_index, and
 * *ret_drop when they are to be dropped as a whole. */
static int judge(struct opening *o, bool *ret_drop) {
    const struct log_base *base = &o->log->base;
    *ret_drop = false;
    if (o->first_index > base->index + 1)
        return log_fail(o, -EBADMSG,
                        "%s, offset 0: the entries begin at index %" PRIu64
                        ", but the snapshot before "
                        "them ends at %" PRIu64,
                        o->found[0].segment->name, o->first_index, base->index);
    if (o->first_index > 0)
        *ret_drop =
            o->last_index < base->index || (o->base_entry && o->base_entry_term != base->term);
    if (o->first_index == 0 || *ret_drop) {
        o->first_index = base->index + 1;
        o->last_index = base->index;
    }
    return 0;
}

/* ---- from here on the disk is changed ---- */

/* A crash may have come between the base that declared them dead and their retirement. */
static int remove_dead(struct opening *o) {
    for (size_t i = 0; i < count_dead(o); i++) {
        char name[LOG_NAME_BYTES];
        snprintf(name, sizeof name, LOG_SEGMENT_PATTERN, o->numbers[i]);
        int r = unlink_file(o, name);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Segments beyond the stream that were written to but hold none of it must not be met again under
 * their numbers. The first of them stays when it was never written: it is the one made ready. */
static int remove_surplus(struct opening *o) {
    struct replica_log *l = o->log;
    while (o->found_count > o->in_stream) {
        struct found *f = &o->found[o->found_count - 1];
        struct segment *s = f->segment;
        if (o->found_count == o->in_stream + 1 && !f->used) {
            list_remove(&s->node);
            l->next = s;
            l->next_state = NEXT_READY;
            return 0;
        }
        int r = unlink_file(o, s->name);
        if (r < 0)
            return r;
        if (o->loaded == s)
            o->loaded = NULL;
        segment_free(s);
        o->found_count--;
    }
    return 0;
}

/* What a killed process wrote but did not flush looks durable here and need not be. */
static int flush_stream(struct opening *o) {
    const struct log_position *written = &o->log->durable;
    uint32_t safe_below =
        written->segment > o->durable.segment ? written->segment : o->durable.segment;
    for (size_t i = 0; i < o->in_stream; i++) {
        struct segment *s = o->found[i].segment;
        if (s->number < safe_below)
            continue;
        int r = o->disk->ops->write_sync(o->disk, s->file, 0, slice_of(NULL, 0));
        if (r < 0)
            return log_fail_io(o, r, s->name);
    }
    return 0;
}

static int write_small_files(struct opening *o, bool drop) {
    struct replica_log *l = o->log;
    uint64_t fields[LOG_SLOT_FIELDS] = {l->vote.term, l->vote.voted_for};
    /* Replaced rather than written: this flushes the folder, whose changes by a killed process may
     * not be durable yet, either. */
    struct disk_file *old = NULL;
    int r = log_slots_replace(&l->vote_slots, fields, &old);
    if (r < 0)
        return log_fail_io(o, r, LOG_VOTE_NAME);
    o->disk->ops->close(o->disk, old);
    l->epoch++;
    l->next_number = l->live_from + (uint32_t)o->in_stream;
    l->durable = o->tail;
    if (drop) {
        l->live_from = l->next_number;
        l->durable = (struct log_position){l->next_number, 0};
    }
    log_base_fields(l, fields);
    r = log_slots_write(&l->base_slots, fields);
    return r < 0 ? log_fail_io(o, r, LOG_BASE_NAME) : 0;
}

/* ---- delivery ---- */

static int deliver(struct opening *o, void (*on_entry)(void *ctx, const struct log_entry *e),
                   void *ctx) {
    /* From the last to the first: what follows a place supersedes from this index on. */
    for (size_t i = o->cut_count; i-- > 1;)
        if (o->cuts[i].index < o->cuts[i - 1].index)
            o->cuts[i - 1].index = o->cuts[i].index;
    size_t cut = 0;
    for (size_t i = 0; i < o->in_stream; i++) {
        struct segment *s = o->found[i].segment;
        int r = log_load(o, s);
        if (r < 0)
            return r;
        struct record record;
        for (uint32_t at = LOG_SEGMENT_HEAD_BYTES; at < s->end; at += (uint32_t)record.bytes) {
            if (log_record_at(o, at, &record) != RECORD_GOOD)
                return log_fail(o, -EIO, "%s, offset %u: read twice and was not the same", s->name,
                                at);
            while (cut < o->cut_count &&
                   !log_position_before((struct log_position){s->number, at}, o->cuts[cut].at))
                cut++;
            if (cut < o->cut_count && record.head.index >= o->cuts[cut].index)
                continue;
            struct log_entry e = {.index = record.head.index,
                                  .term = record.head.term,
                                  .type = record.head.type,
                                  .body = record.body};
            on_entry(ctx, &e);
        }
    }
    return 0;
}

/* Reads and judges all, and changes nothing on the disk but that it makes a missing log. */
static int read_all(struct opening *o, bool *ret_drop) {
    int r = list_folder(o);
    if (r == 0)
        r = open_small_files(o);
    if (r == 0)
        r = open_segments(o);
    if (r == 0)
        r = log_walk(o);
    if (r == 0)
        r = log_search_evidence(o);
    if (r == 0)
        r = judge(o, ret_drop);
    return r;
}

static int open_all(struct opening *o, void (*on_entry)(void *ctx, const struct log_entry *e),
                    void *ctx, bool *ret_drop) {
    int r = read_all(o, ret_drop);
    if (r == 0)
        r = remove_dead(o);
    if (r == 0)
        r = open_spares(o);
    if (r == 0)
        r = remove_surplus(o);
    if (r == 0)
        r = flush_stream(o);
    if (r == 0)
        r = write_small_files(o, *ret_drop);
    if (r == 0 && !*ret_drop)
        r = deliver(o, on_entry, ctx);
    return r;
}

static struct replica_log *log_new(struct disk *disk, uint64_t segment_bytes) {
    struct replica_log *l = xcalloc(1, sizeof *l);
    l->disk = disk;
    l->segment_bytes = segment_bytes;
    list_init(&l->segments);
    list_init(&l->spares);
    list_init(&l->retiring);
    list_init(&l->waiting);
    list_init(&l->flying);
    list_init(&l->compactions);
    return l;
}

static void opening_fini(struct opening *o) {
    free(o->numbers);
    free(o->spares);
    free(o->found);
    free(o->cuts);
    free(o->bytes);
}

static struct log_open_info opening_info(const struct opening *o, bool drop) {
    return (struct log_open_info){
        .vote = o->log->vote,
        .base = o->log->base,
        .first_index = o->first_index,
        .last_index = o->last_index,
        .cut_bytes = o->torn_bytes,
        .dropped = drop,
    };
}

int log_open(struct disk *disk, uint64_t segment_bytes,
             void (*on_entry)(void *ctx, const struct log_entry *e), void *ctx,
             struct replica_log **ret_log, struct log_open_info *ret_info, char ret_error[256]) {
    if (segment_bytes == 0)
        segment_bytes = LOG_SEGMENT_BYTES;
    CHECK(segment_bytes >= LOG_SEGMENT_BYTES_MIN);
    CHECK(segment_bytes <= LOG_APPEND_BYTES_MAX);
    struct replica_log *l = log_new(disk, segment_bytes);
    struct opening o = {.log = l, .disk = disk, .error = ret_error};
    bool drop = false;
    int r = open_all(&o, on_entry, ctx, &drop);
    if (r == 0) {
        l->last_index = o.last_index;
        *ret_log = l;
        *ret_info = opening_info(&o, drop);
        if (drop)
            LIST_FOREACH_SAFE (it, &l->segments)
                segment_retire(LIST_ENTRY(it, struct segment, node), NULL);
        segment_make_next(l, 0);
    } else {
        log_free(l);
    }
    opening_fini(&o);
    return r;
}

int log_check(struct disk *disk, struct log_open_info *ret_info, char ret_error[256]) {
    struct replica_log *l = log_new(disk, LOG_SEGMENT_BYTES);
    struct opening o = {.log = l, .disk = disk, .error = ret_error, .read_only = true};
    bool drop = false;
    int r = read_all(&o, &drop);
    if (r == 0)
        *ret_info = opening_info(&o, drop);
    log_free(l);
    opening_fini(&o);
    return r;
}

int log_exists(struct disk *disk) {
    struct disk_file *file = NULL;
    uint64_t bytes = 0;
    int r = disk->ops->open(disk, LOG_BASE_NAME, &file, &bytes);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    disk->ops->close(disk, file);
    return 1;
}
