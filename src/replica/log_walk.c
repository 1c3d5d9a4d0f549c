/* The stream of records: where it ends, and whether that is right. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/plant.h"
#include "replica/log_opening.h"

int log_fail(struct opening *o, int error, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(o->error, 256, fmt, ap);
    va_end(ap);
    return error;
}

int log_fail_io(struct opening *o, int error, const char *name) {
    return log_fail(o, error, "%s: %s", name, strerror(-error));
}

int log_read_exact(struct opening *o, const struct segment *s, void *out, size_t bytes) {
    int64_t n = o->disk->ops->read(o->disk, s->file, 0, out, bytes);
    if (n < 0)
        return log_fail_io(o, (int)n, s->name);
    if ((size_t)n < bytes)
        return log_fail(o, -EIO, "%s: became shorter while it was read", s->name);
    return 0;
}

int log_load(struct opening *o, const struct segment *s) {
    if (o->loaded == s)
        return 0;
    o->loaded = NULL;
    if (o->bytes_capacity < s->bytes) {
        free(o->bytes);
        o->bytes = xmalloc(s->bytes);
        o->bytes_capacity = s->bytes;
    }
    int r = log_read_exact(o, s, o->bytes, s->bytes);
    if (r == 0)
        o->loaded = s;
    return r;
}

/* ---- the walk ---- */

/* The record at an offset of the loaded segment, whatever its index. */
enum record_state log_record_at(const struct opening *o, uint64_t offset,
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
    if (log_body_crc(ret_record->body) != h->body_crc && !PLANTED(PLANT_TORN_TAIL))
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
    return log_fail(o, -EBADMSG,
                    "%s, offset %" PRIu64
                    ": a record of start %u, but %s knows of %u only: an older "
                    "copy?",
                    s->name, offset, epoch, LOG_BASE_NAME, o->log->epoch);
}

static int take_record(struct opening *o, struct segment *s, const struct record *r) {
    uint64_t index = r->head.index;
    if (index == 0 || (o->first_index > 0 && index > o->last_index + 1))
        return log_fail(o, -EBADMSG,
                        "%s, offset %u: a gap: a record with index %" PRIu64
                        " follows index %" PRIu64,
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
        return log_fail(o, -EBADMSG, "%s, offset 20: of start %u, which does not follow start %u",
                        s->name, f->head.epoch,
                        f->head.epoch < o->epoch ? o->epoch : o->log->epoch);
    if (o->in_stream > 0) {
        const struct segment *before = f[-1].segment;
        if (f->head.previous_end > o->tail.offset)
            return 0; /* what lies between is torn or damaged: the search tells */
        if (f->head.previous_end < o->tail.offset || f->head.previous_crc != before->last_crc)
            return log_fail(o, -EBADMSG,
                            "%s, offset 32: does not follow %s, which ends at offset %u", s->name,
                            before->name, o->tail.offset);
    }
    *ret_continues = true;
    return 0;
}

int log_walk(struct opening *o) {
    o->tail = (struct log_position){o->log->live_from, 0};
    for (size_t i = 0; i < o->found_count; i++) {
        struct found *f = &o->found[i];
        struct segment *s = f->segment;
        bool ok = false;
        int r = continues(o, f, &ok);
        if (r < 0 || !ok)
            return r;
        r = log_load(o, s);
        if (r < 0)
            return r;
        o->in_stream = i + 1;
        o->tail = (struct log_position){s->number, LOG_SEGMENT_HEAD_BYTES};
        o->epoch = f->head.epoch;
        s->last_crc = f->head_crc;
        note_durable(o, f->head.durable);
        struct record record;
        while (log_record_at(o, o->tail.offset, &record) == RECORD_GOOD &&
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
        return log_fail(o, -EBADMSG,
                        "%s is missing: %s, offset %" PRIu64 ", shows that it was there", name,
                        witness, witness_offset);
    return log_fail(
        o, -EBADMSG,
        "%s, offset %u: damaged: the log was on the disk further than this, as %s, offset "
        "%" PRIu64 ", shows",
        name, at.offset, witness, witness_offset);
}

/* Looks for records of this segment's life from an offset on. */
static int search_segment(struct opening *o, const struct found *f, uint64_t from) {
    int r = log_load(o, f->segment);
    if (r < 0)
        return r;
    struct record record;
    uint64_t counted_to = from;
    for (uint64_t at = from; at + LOG_RECORD_HEAD_BYTES <= f->segment->bytes; at += LOG_ALIGN) {
        /* Nearly all places fail this comparison already. */
        if (get_u64le(o->bytes + at) != o->log->mark ||
            log_record_at(o, at, &record) == RECORD_NONE)
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

int log_search_evidence(struct opening *o) {
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
