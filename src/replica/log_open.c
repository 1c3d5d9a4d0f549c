/* Reading the log at start.
 *
 * The files are loaded one by one and the stream is walked record by record until the first bytes
 * that are no record of it. Then everything behind that place is searched for evidence that more
 * was durable once: that is the difference between damage and a torn tail (log.h). Only when all is
 * found good is anything on the disk changed, and then entries are delivered in a second pass,
 * because a later record may supersede an earlier one. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "replica/log_internal.h"

struct found {
    struct segment *segment;
    bool used;
    struct log_segment_head head; /* when used */
    uint32_t head_crc;
};

/* A record that superseded earlier ones. */
struct cut {
    struct log_position at;
    uint64_t index;
};

struct opening {
    struct replica_log *log;
    struct disk *disk;
    char *error; /* 256 bytes */

    uint32_t *numbers; /* of the segment files in the folder */
    size_t number_count;
    uint32_t *spares; /* serial numbers */
    size_t spare_count;
    bool vote_missing;

    struct found *found; /* live segments and those beyond the stream, in order */
    size_t found_count;
    uint8_t *bytes; /* of the segment loaded last */
    size_t bytes_capacity;
    const struct segment *loaded;

    /* the walk */
    size_t in_stream;         /* of `found`, that hold the stream */
    struct log_position tail; /* the stream's end */
    uint32_t epoch;           /* of the last record */
    uint64_t first_index;     /* 0: no entry */
    uint64_t last_index;
    bool base_entry; /* the stream holds an entry at base.index, */
    uint64_t base_entry_term;
    struct log_position durable; /* the highest anything in the stream speaks of */
    struct cut *cuts;
    size_t cut_count;
    uint64_t torn_bytes;
};

static int fail(struct opening *o, int error, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int fail(struct opening *o, int error, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(o->error, 256, fmt, ap);
    va_end(ap);
    return error;
}

static int fail_io(struct opening *o, int error, const char *name) {
    return fail(o, error, "%s: %s", name, strerror(-error));
}

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
        return fail_io(o, r, LOG_FOLDER);
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
        return fail(o, r, "%s, offset 0: both copies are damaged, or it is not a file of this log",
                    s->name);
    if (r < 0 && r != -ENOENT)
        return fail_io(o, r, s->name);
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
            return fail(o, -EBADMSG, "%s is missing, though there are segments", LOG_BASE_NAME);
        int r = 0;
        if (vote == -ENOENT) {
            r = log_slots_replace(&l->vote_slots, fields, &old);
            if (r < 0)
                return fail_io(o, r, LOG_VOTE_NAME);
        }
        l->base_slots.mark = l->vote_slots.mark;
        fields[2] = 1; /* the first segment's number */
        r = log_slots_replace(&l->base_slots, fields, &old);
        if (r < 0)
            return fail_io(o, r, LOG_BASE_NAME);
    } else if (vote == -ENOENT) {
        return fail(o, -EBADMSG, "%s is missing, though there is %s", LOG_VOTE_NAME, LOG_BASE_NAME);
    }
    if (l->vote_slots.mark != l->base_slots.mark)
        return fail(o, -EBADMSG, "%s and %s are of two different logs", LOG_VOTE_NAME,
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
    return r < 0 ? fail_io(o, r, name) : 0;
}

static int open_file(struct opening *o, struct segment *s) {
    int r = o->disk->ops->open(o->disk, s->name, &s->file, &s->bytes);
    if (r < 0)
        s->file = NULL;
    return r < 0 ? fail_io(o, r, s->name) : 0;
}

static int read_exact(struct opening *o, const struct segment *s, void *out, size_t bytes) {
    int64_t n = o->disk->ops->read(o->disk, s->file, 0, out, bytes);
    if (n < 0)
        return fail_io(o, (int)n, s->name);
    if ((size_t)n < bytes)
        return fail(o, -EIO, "%s: became shorter while it was read", s->name);
    return 0;
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
                return fail_io(o, r, s->name);
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
        return fail(o, -EBADMSG, "%s, offset %" PRIu64 ": %s", s->name, s->bytes,
                    s->bytes > UINT32_MAX ? "larger than any log segment"
                                          : "the file is truncated");
    int r = read_exact(o, s, raw, sizeof raw);
    if (r < 0)
        return r;
    switch (log_segment_head_get(raw, l->mark, s->number, &f->head, &f->head_crc)) {
    case LOG_SEGMENT_UNUSED:
        return 0;
    case LOG_SEGMENT_FOREIGN:
        return fail(o, -EBADMSG, "%s, offset 0: not a log segment, or its head is damaged",
                    s->name);
    case LOG_SEGMENT_OTHER:
        return fail(o, -EBADMSG, "%s, offset 8: a segment of another log", s->name);
    case LOG_SEGMENT_RENAMED:
        return fail(o, -EBADMSG, "%s, offset 16: a later segment of this log under a wrong name",
                    s->name);
    case LOG_SEGMENT_USED:
        f->used = true;
        break;
    }
    if (f->head.bytes != s->bytes)
        return fail(o, -EBADMSG,
                    "%s, offset %" PRIu64 ": the file is truncated or was extended: it was made "
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
            return fail(o, -EBADMSG, LOG_SEGMENT_PATTERN " is missing, though there is a later one",
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

static int load(struct opening *o, const struct segment *s) {
    if (o->loaded == s)
        return 0;
    o->loaded = NULL;
    if (o->bytes_capacity < s->bytes) {
        free(o->bytes);
        o->bytes = xmalloc(s->bytes);
        o->bytes_capacity = s->bytes;
    }
    int r = read_exact(o, s, o->bytes, s->bytes);
    if (r == 0)
        o->loaded = s;
    return r;
}

/* ---- the walk ---- */

enum record_state { RECORD_GOOD, RECORD_NONE, RECORD_BODY_BAD };

struct record {
    struct log_record_head head;
    uint32_t crc;
    struct slice body;
    uint64_t bytes; /* with head and padding; may be more than the file has */
};

/* The record at an offset of the loaded segment, whatever its index. */
static enum record_state record_at(const struct opening *o, uint64_t offset,
                                   struct record *ret_record) {
    const struct segment *s = o->loaded;
    if (s->bytes < LOG_RECORD_HEAD_BYTES || offset > s->bytes - LOG_RECORD_HEAD_BYTES)
        return RECORD_NONE;
    if (!log_record_head_get(o->bytes + offset, o->log->mark, &ret_record->head, &ret_record->crc))
        return RECORD_NONE;
    const struct log_record_head *h = &ret_record->head;
    if (h->segment != s->number)
        return RECORD_NONE; /* of an earlier life of the file */
    ret_record->bytes = log_record_bytes(h->body_bytes);
    if (ret_record->bytes > s->bytes - offset)
        return RECORD_BODY_BAD;
    ret_record->body = slice_of(o->bytes + offset + LOG_RECORD_HEAD_BYTES, h->body_bytes);
    if (log_body_crc(ret_record->body) != h->body_crc)
        return RECORD_BODY_BAD;
    size_t padding = log_pad(h->body_bytes) - h->body_bytes;
    for (size_t i = 0; i < padding; i++)
        if (ret_record->body.data[h->body_bytes + i] != 0)
            return RECORD_BODY_BAD;
    return RECORD_GOOD;
}

static void note_durable(struct opening *o, struct log_position p) {
    if (log_position_before(o->durable, p))
        o->durable = p;
}

static void note_cut(struct opening *o, struct log_position at, uint64_t index) {
    if ((o->cut_count & (o->cut_count - 1)) == 0)
        o->cuts = xrealloc(o->cuts, (o->cut_count ? 2 * o->cut_count : 1) * sizeof *o->cuts);
    o->cuts[o->cut_count++] = (struct cut){.at = at, .index = index};
    for (size_t i = 0; i < o->found_count; i++) {
        struct segment *s = o->found[i].segment;
        if (s->live_last >= index)
            s->live_last = index - 1;
    }
}

static int fail_epoch(struct opening *o, const struct segment *s, uint64_t offset, uint32_t epoch) {
    return fail(o, -EBADMSG,
                "%s, offset %" PRIu64 ": a record of start %u, but %s knows of %u only: an older "
                "copy?",
                s->name, offset, epoch, LOG_BASE_NAME, o->log->epoch);
}

static int take_record(struct opening *o, struct segment *s, const struct record *r) {
    uint64_t index = r->head.index;
    if (index == 0 || (o->first_index > 0 && index > o->last_index + 1))
        return fail(o, -EBADMSG,
                    "%s, offset %u: a gap: a record with index %" PRIu64 " follows index %" PRIu64,
                    s->name, o->tail.offset, index, o->last_index);
    if (r->head.epoch > o->log->epoch)
        return fail_epoch(o, s, o->tail.offset, r->head.epoch);
    if (o->first_index == 0) {
        o->first_index = index;
    } else if (index <= o->last_index) {
        note_cut(o, o->tail, index);
        if (index < o->first_index)
            o->first_index = index;
    }
    uint64_t base = o->log->base.index;
    if (index <= base) {
        o->base_entry = index == base;
        o->base_entry_term = r->head.term;
    }
    o->last_index = index;
    s->live_last = index;
    s->last_crc = r->crc;
    o->epoch = r->head.epoch;
    note_durable(o, r->head.durable);
    return 0;
}

/* Whether the segment carries on where the stream ends. */
static int continues(struct opening *o, const struct found *f, bool *ret_continues) {
    const struct segment *s = f->segment;
    *ret_continues = false;
    if (!f->used)
        return 0;
    if (f->head.epoch > o->log->epoch || f->head.epoch < o->epoch)
        return fail(o, -EBADMSG, "%s, offset 20: of start %u, which does not follow start %u",
                    s->name, f->head.epoch, f->head.epoch < o->epoch ? o->epoch : o->log->epoch);
    if (o->in_stream > 0) {
        const struct segment *before = f[-1].segment;
        if (f->head.previous_end > o->tail.offset)
            return 0; /* what lies between is torn or damaged: the search tells */
        if (f->head.previous_end < o->tail.offset || f->head.previous_crc != before->last_crc)
            return fail(o, -EBADMSG, "%s, offset 32: does not follow %s, which ends at offset %u",
                        s->name, before->name, o->tail.offset);
    }
    *ret_continues = true;
    return 0;
}

static int walk(struct opening *o) {
    o->tail = (struct log_position){o->log->live_from, 0};
    for (size_t i = 0; i < o->found_count; i++) {
        struct found *f = &o->found[i];
        struct segment *s = f->segment;
        bool ok = false;
        int r = continues(o, f, &ok);
        if (r < 0 || !ok)
            return r;
        r = load(o, s);
        if (r < 0)
            return r;
        o->in_stream = i + 1;
        o->tail = (struct log_position){s->number, LOG_SEGMENT_HEAD_BYTES};
        o->epoch = f->head.epoch;
        s->last_crc = f->head_crc;
        note_durable(o, f->head.durable);
        struct record record;
        while (record_at(o, o->tail.offset, &record) == RECORD_GOOD &&
               record.head.epoch >= o->epoch) {
            r = take_record(o, s, &record);
            if (r < 0)
                return r;
            o->tail.offset += (uint32_t)record.bytes;
        }
        s->end = o->tail.offset;
    }
    return 0;
}

/* ---- damage or a torn tail ---- */

/* `witness` says that the stream was durable up to `claim`, which is behind its end. */
static int damaged(struct opening *o, struct log_position claim, const char *witness,
                   uint64_t witness_offset) {
    struct log_position at = o->tail;
    /* The stream went on in another segment, whose head is not there: that is what is damaged. (If
     * it were there it would say that the segment before went on.) */
    if (claim.segment > at.segment && o->in_stream > 0 &&
        (o->in_stream == o->found_count || !o->found[o->in_stream].used))
        at = (struct log_position){at.segment + 1, 0};
    char name[LOG_NAME_BYTES];
    snprintf(name, sizeof name, LOG_SEGMENT_PATTERN, at.segment);
    if (at.segment - o->log->live_from >= o->found_count)
        return fail(o, -EBADMSG, "%s is missing: %s, offset %" PRIu64 ", shows that it was there",
                    name, witness, witness_offset);
    return fail(o, -EBADMSG,
                "%s, offset %u: damaged: the log was on the disk further than this, as %s, offset "
                "%" PRIu64 ", shows",
                name, at.offset, witness, witness_offset);
}

/* Looks for records of this segment's life from an offset on. */
static int search_segment(struct opening *o, const struct found *f, uint64_t from) {
    int r = load(o, f->segment);
    if (r < 0)
        return r;
    struct record record;
    uint64_t counted_to = from;
    for (uint64_t at = from; at + LOG_RECORD_HEAD_BYTES <= f->segment->bytes; at += LOG_ALIGN) {
        /* Nearly all places fail this comparison already. */
        if (get_u64le(o->bytes + at) != o->log->mark || record_at(o, at, &record) == RECORD_NONE)
            continue;
        if (log_position_before(o->tail, record.head.durable))
            return damaged(o, record.head.durable, f->segment->name, at);
        if (record.head.epoch > o->log->epoch)
            return fail_epoch(o, f->segment, at, record.head.epoch);
        /* Of the tail cut by an earlier start, or of this one. */
        uint64_t end = at + record.bytes;
        if (record.head.epoch >= o->epoch && end > counted_to && end <= f->segment->bytes) {
            o->torn_bytes += end - (at > counted_to ? at : counted_to);
            counted_to = end;
        }
    }
    return 0;
}

static int search_evidence(struct opening *o) {
    struct replica_log *l = o->log;
    if (log_position_before(o->tail, o->durable))
        return damaged(o, o->durable, "a record before it", o->tail.offset);
    if (log_position_before(o->tail, l->durable))
        return damaged(o, l->durable, LOG_BASE_NAME, 0);
    if (o->in_stream > 0) {
        int r = search_segment(o, &o->found[o->in_stream - 1], o->tail.offset);
        if (r < 0)
            return r;
    }
    for (size_t i = o->in_stream; i < o->found_count; i++) {
        struct found *f = &o->found[i];
        if (f->used && log_position_before(o->tail, f->head.durable))
            return damaged(o, f->head.durable, f->segment->name, 0);
        int r = search_segment(o, f, f->used ? LOG_SEGMENT_HEAD_BYTES : 0);
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
        return fail(o, -EBADMSG,
                    "%s, offset 0: the entries begin at index %" PRIu64 ", but the snapshot before "
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
    note_durable(o, o->log->durable);
    for (size_t i = 0; i < o->in_stream; i++) {
        struct segment *s = o->found[i].segment;
        if (s->number < o->durable.segment)
            continue;
        int r = o->disk->ops->write_sync(o->disk, s->file, 0, slice_of(NULL, 0));
        if (r < 0)
            return fail_io(o, r, s->name);
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
        return fail_io(o, r, LOG_VOTE_NAME);
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
    return r < 0 ? fail_io(o, r, LOG_BASE_NAME) : 0;
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
        int r = load(o, s);
        if (r < 0)
            return r;
        struct record record;
        for (uint32_t at = LOG_SEGMENT_HEAD_BYTES; at < s->end; at += (uint32_t)record.bytes) {
            if (record_at(o, at, &record) != RECORD_GOOD)
                return fail(o, -EIO, "%s, offset %u: read twice and was not the same", s->name, at);
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

static int open_all(struct opening *o, void (*on_entry)(void *ctx, const struct log_entry *e),
                    void *ctx, bool *ret_drop) {
    int r = list_folder(o);
    if (r == 0)
        r = open_small_files(o);
    if (r == 0)
        r = open_segments(o);
    if (r == 0)
        r = walk(o);
    if (r == 0)
        r = search_evidence(o);
    if (r == 0)
        r = judge(o, ret_drop);
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

int log_open(struct disk *disk, uint64_t segment_bytes,
             void (*on_entry)(void *ctx, const struct log_entry *e), void *ctx,
             struct replica_log **ret_log, struct log_open_info *ret_info, char ret_error[256]) {
    if (segment_bytes == 0)
        segment_bytes = LOG_SEGMENT_BYTES;
    CHECK(segment_bytes >= LOG_SEGMENT_BYTES_MIN);
    CHECK(segment_bytes <= LOG_APPEND_BYTES_MAX);
    struct replica_log *l = xcalloc(1, sizeof *l);
    l->disk = disk;
    l->segment_bytes = segment_bytes;
    list_init(&l->segments);
    list_init(&l->spares);
    list_init(&l->retiring);
    list_init(&l->waiting);
    list_init(&l->flying);
    list_init(&l->compactions);

    struct opening o = {.log = l, .disk = disk, .error = ret_error};
    bool drop = false;
    int r = open_all(&o, on_entry, ctx, &drop);
    if (r == 0) {
        l->last_index = o.last_index;
        *ret_log = l;
        *ret_info = (struct log_open_info){
            .vote = l->vote,
            .base = l->base,
            .first_index = o.first_index,
            .last_index = o.last_index,
            .cut_bytes = o.torn_bytes,
            .dropped = drop,
        };
        if (drop)
            LIST_FOREACH_SAFE (it, &l->segments)
                segment_retire(LIST_ENTRY(it, struct segment, node), NULL);
        segment_make_next(l, 0);
    } else {
        log_free(l);
    }
    free(o.numbers);
    free(o.spares);
    free(o.found);
    free(o.cuts);
    free(o.bytes);
    return r;
}
