#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "log_model.h"

void model_init(struct model *m, uint64_t seed, struct disk *disk, uint64_t segment_bytes) {
    *m = (struct model){
        .rand.state = seed, .disk = disk, .segment_bytes = segment_bytes, .keep_from = 1};
    m->next_id = 1;
    m->term = 1;
}

static void append_free(struct model_append *a) {
    for (size_t i = 0; i < ARRAY_COUNT(a->bodies); i++)
        buf_fini(&a->bodies[i]);
    free(a);
}

void model_fini(struct model *m) {
    for (size_t i = 0; i < m->pending_count; i++)
        append_free(m->pending[i]);
    m->pending_count = 0;
}

void model_body(uint64_t id, struct buf *ret_body) {
    struct rand r = {.state = id};
    uint64_t kind = rand_below(&r, 20);
    size_t size = (size_t)rand_below(&r, kind == 0 ? 9000 : kind < 4 ? 700 : 60);
    if (id & MODEL_ID_FIXED)
        size = 200;
    buf_reset(ret_body);
    for (size_t i = 0; i < size; i++)
        buf_append_u8(ret_body, (uint8_t)rand_u64(&r));
}

uint8_t model_type(uint64_t id) {
    return (uint8_t)(id * 7); /* tells short bodies apart */
}

static void state_apply(struct model_state *s, uint64_t index, uint64_t term, uint64_t id) {
    s->last = index;
    s->entries[index] = (struct model_entry){.term = term, .id = id};
}

/* ---- operations ---- */

static void on_append(struct log_append *append, int status) {
    struct model_append *a = CONTAINER_OF(append, struct model_append, append);
    struct model *m = a->model;
    size_t first = 0;
    while (m->pending[first]->done)
        first++;
    assert_ptr_equal(m->pending[first], a); /* completions in order */
    a->done = true;
    if (status < 0) {
        m->error = status;
        return; /* stays pending: it may be there or not */
    }
    assert_int_equal(first, 0);
    assert_int_equal(m->error, 0); /* no success after an error */
    for (uint32_t i = 0; i < append->count; i++)
        state_apply(&m->acked, a->entries[i].index, a->entries[i].term, a->ids[i]);
    m->acks++;
    m->pending_count--;
    for (size_t i = 0; i < m->pending_count; i++)
        m->pending[i] = m->pending[i + 1];
    append_free(a);
}

uint64_t model_last(const struct model *m) {
    if (m->pending_count == 0)
        return m->acked.last;
    const struct model_append *a = m->pending[m->pending_count - 1];
    return a->entries[a->append.count - 1].index;
}

static uint64_t model_term_at(const struct model *m, uint64_t index) {
    for (size_t i = m->pending_count; i-- > 0;) {
        const struct model_append *a = m->pending[i];
        uint64_t first = a->entries[0].index;
        if (index >= first && index < first + a->append.count)
            return a->entries[index - first].term;
    }
    return m->acked.entries[index].term;
}

void model_append(struct model *m, uint64_t index, size_t count) {
    if (m->error || m->pending_count == MODEL_PENDING_MAX || index + count > MODEL_INDEX_MAX)
        return;
    struct model_append *a = xcalloc(1, sizeof *a);
    a->model = m;
    a->append.entries = a->entries;
    a->append.count = (uint32_t)count;
    a->append.done = on_append;
    if (index <= model_last(m)) {
        m->term++;
        m->cuts++;
    }
    for (size_t i = 0; i < count; i++) {
        a->ids[i] = m->next_id++;
        model_body(a->ids[i], &a->bodies[i]);
        a->entries[i] = (struct log_entry){.index = index + i,
                                           .term = m->term,
                                           .type = model_type(a->ids[i]),
                                           .body = buf_slice(&a->bodies[i])};
    }
    m->pending[m->pending_count++] = a;
    log_append(m->log, &a->append);
    assert_int_equal(log_last_index(m->log), index + count - 1);
    assert_true(log_append_pending(m->log));
}

void model_append_next(struct model *m, size_t count) {
    model_append(m, model_last(m) + 1, count);
}

void model_vote(struct model *m) {
    if (m->error)
        return;
    m->vote_tried = m->vote;
    if (rand_below(&m->rand, 2))
        m->vote_tried.term += 1 + rand_below(&m->rand, 3);
    m->vote_tried.voted_for = rand_below(&m->rand, 5);
    int r = log_set_vote(m->log, &m->vote_tried);
    if (r == 0)
        m->vote = m->vote_tried;
    else
        m->error = r;
}

static void on_compacted(void *ctx, int status) {
    struct model *m = ctx;
    struct log_base base = m->bases[0];
    m->compactions--;
    for (size_t i = 0; i < m->compactions; i++)
        m->bases[i] = m->bases[i + 1];
    if (status < 0) {
        m->error = status;
        return;
    }
    assert_int_equal(m->error, 0);
    if (m->base.index < base.index)
        m->base = base;
}

void model_compact(struct model *m, uint64_t base_index, uint64_t keep) {
    if (m->error || m->compactions == ARRAY_COUNT(m->bases))
        return;
    struct log_base base = m->base_tried;
    if (base_index > base.index)
        base = (struct log_base){.index = base_index, .term = model_term_at(m, base_index)};
    m->base_tried = base;
    if (keep > m->keep_from)
        m->keep_from = keep;
    m->bases[m->compactions++] = base;
    log_compact(m->log, &base, keep, on_compacted, m);
}

static void compact_somewhere(struct model *m) {
    uint64_t last = model_last(m), least = m->base_tried.index;
    uint64_t base = least + rand_below(&m->rand, last - least + 1);
    model_compact(m, base, base + 1 - rand_below(&m->rand, base + 1 < 20 ? 1 : 20));
}

void model_reset(struct model *m) {
    mem_disk_run(m->disk);
    if (m->error)
        return;
    struct log_base base = {.index = m->base_tried.index + rand_below(&m->rand, 40),
                            .term = m->term};
    if (base.index == m->base_tried.index)
        base.term = m->base_tried.term;
    if (base.index + 100 > MODEL_INDEX_MAX)
        return;
    m->base_tried = base;
    m->reset_tried = true;
    int r = log_reset(m->log, &base);
    if (r < 0) {
        m->error = r;
        return;
    }
    m->reset_tried = false;
    m->base = base;
    m->acked.last = base.index;
    m->acked.entries[base.index].term = base.term;
    m->keep_from = base.index + 1;
    m->resets++;
    assert_int_equal(log_last_index(m->log), base.index);
}

void model_random(struct model *m) {
    uint64_t last = model_last(m), base = m->base_tried.index;
    uint64_t what = rand_below(&m->rand, 100);
    if (what < 45) {
        model_append(m, last + 1, 1 + (size_t)rand_below(&m->rand, 4));
    } else if (what < 55 && last > base) {
        uint64_t back = last - base < 10 ? last - base : 10;
        model_append(m, last + 1 - rand_below(&m->rand, back + 1),
                     1 + (size_t)rand_below(&m->rand, 4));
    } else if (what < 60) {
        compact_somewhere(m);
    } else if (what < 61) {
        model_reset(m);
    } else if (what < 66) {
        model_vote(m);
    } else if (what < 70) {
        mem_disk_run(m->disk);
    } else {
        mem_disk_step(m->disk);
    }
}

/* ---- opening and judging ---- */

struct seen {
    uint64_t count;
    uint64_t first;
    struct model_entry entries[MODEL_INDEX_MAX + 1]; /* by index; id 0: none */
    struct buf expected;
    struct model *model;
};

/* Entries say which they are by their bytes: finds the id whose bytes these are. */
static uint64_t id_of(struct seen *s, const struct log_entry *e) {
    struct model *m = s->model;
    uint64_t candidates[MODEL_PENDING_MAX * 8 + 1];
    size_t count = 0;
    if (e->index <= MODEL_INDEX_MAX)
        candidates[count++] = m->acked.entries[e->index].id;
    for (size_t i = 0; i < m->pending_count; i++) {
        const struct model_append *a = m->pending[i];
        uint64_t first = a->entries[0].index;
        if (e->index >= first && e->index < first + a->append.count)
            candidates[count++] = a->ids[e->index - first];
    }
    for (size_t i = 0; i < count; i++) {
        model_body(candidates[i], &s->expected);
        if (candidates[i] > 0 && slice_equal(e->body, buf_slice(&s->expected)) &&
            e->type == model_type(candidates[i]))
            return candidates[i];
    }
    return 0;
}

static void on_entry(void *ctx, const struct log_entry *e) {
    struct seen *s = ctx;
    if (s->count == 0)
        s->first = e->index;
    assert_int_equal(e->index, s->first + s->count); /* in order, without gaps */
    assert_true(e->index <= MODEL_INDEX_MAX);
    s->count++;
    /* Two entries may have the same (short) bytes: the term tells them apart as well. */
    uint64_t id = id_of(s, e);
    if (id == 0)
        fail_msg("entry %llu holds bytes that were never written there",
                 (unsigned long long)e->index);
    s->entries[e->index] = (struct model_entry){.term = e->term, .id = id};
}

static bool same_entry(struct seen *s, struct model_entry a, struct model_entry b) {
    struct buf other = {0};
    model_body(a.id, &s->expected);
    model_body(b.id, &other);
    bool same = a.term == b.term && model_type(a.id) == model_type(b.id) &&
                slice_equal(buf_slice(&s->expected), buf_slice(&other));
    buf_fini(&other);
    return same;
}

/* Whether the reopened log is this state, seen through this base. */
static bool matches(struct seen *s, const struct log_open_info *info,
                    const struct model_state *state) {
    struct model *m = s->model;
    const struct log_base *base = &info->base;
    bool covered = state->last < base->index ||
                   (base->index > 0 && state->entries[base->index].term != base->term);
    if (info->dropped && !covered)
        return false;
    if (info->dropped || state->last < base->index)
        return info->last_index == base->index && info->first_index == base->index + 1 &&
               s->count == 0;
    if (info->last_index != state->last)
        return false;
    if (info->last_index - info->first_index + 1 != s->count)
        return false;
    if (s->count > 0 && s->first != info->first_index)
        return false;
    if (info->first_index > m->keep_from)
        return false;
    for (uint64_t i = info->first_index; i <= info->last_index; i++)
        if (!same_entry(s, s->entries[i], state->entries[i]))
            return false;
    return true;
}

static void judge_small(struct model *m, const struct log_open_info *info) {
    const struct log_vote *v = &info->vote;
    bool old = v->term == m->vote.term && v->voted_for == m->vote.voted_for;
    bool new = v->term == m->vote_tried.term && v->voted_for == m->vote_tried.voted_for;
    assert_true(old || (new && m->error));
    m->vote = m->vote_tried = *v;
    /* Compactions come in order: the base lies between the last done and the last wanted. */
    assert_true(info->base.index >= m->base.index);
    assert_true(info->base.index <= m->base_tried.index);
    if (info->base.index == m->base.index)
        assert_int_equal(info->base.term, m->base.term);
    assert_true(info->first_index <= info->base.index + 1);
    assert_true(info->last_index >= info->base.index);
}

static void judge(struct model *m, struct seen *s, const struct log_open_info *info) {
    judge_small(m, info);
    bool was_reset = m->reset_tried && info->base.index == m->base_tried.index &&
                     info->last_index == info->base.index && s->count == 0;
    struct model_state *state = xmemdup(&m->acked, sizeof m->acked);
    bool found = was_reset || matches(s, info, state);
    for (size_t i = 0; i < m->pending_count && !found; i++) {
        const struct model_append *a = m->pending[i];
        for (uint32_t k = 0; k < a->append.count && !found; k++) {
            state_apply(state, a->entries[k].index, a->entries[k].term, a->ids[k]);
            found = matches(s, info, state);
        }
    }
    if (!found)
        fail_msg("what is there, %llu to %llu (base %llu, %llu delivered), is no prefix that holds "
                 "all that was acknowledged (to %llu)",
                 (unsigned long long)info->first_index, (unsigned long long)info->last_index,
                 (unsigned long long)info->base.index, (unsigned long long)s->count,
                 (unsigned long long)m->acked.last);
    for (uint64_t i = info->first_index; i <= info->last_index; i++)
        state->entries[i] = s->entries[i];
    state->last = info->last_index;
    m->acked = *state;
    free(state);
    m->base = m->base_tried = info->base;
    m->keep_from = info->first_index;
    m->reset_tried = false;
    m->drops += info->dropped;
    m->torn += info->cut_bytes > 0;
}

int model_open(struct model *m, char ret_error[256]) {
    struct seen *s = xcalloc(1, sizeof *s);
    s->model = m;
    struct log_open_info info = {0};
    ret_error[0] = 0;
    m->log = NULL;
    int r = log_open(m->disk, m->segment_bytes, on_entry, s, &m->log, &info, ret_error);
    if (r == 0) {
        judge(m, s, &info);
        assert_int_equal(log_last_index(m->log), info.last_index);
        model_fini(m);
        m->error = 0;
        m->compactions = 0;
    } else {
        assert_null(m->log);
        assert_true(ret_error[0] != 0);
    }
    buf_fini(&s->expected);
    free(s);
    return r;
}

void model_close(struct model *m) {
    mem_disk_run(m->disk);
    assert_int_equal(m->error, 0);
    assert_int_equal(m->pending_count, 0);
    assert_int_equal(m->compactions, 0);
    assert_int_equal(m->base.index, m->base_tried.index);
    log_close(m->log);
    m->log = NULL;
    assert_int_equal(mem_disk_open_files(m->disk), 0);
}

void model_crash(struct model *m, enum mem_disk_crash how) {
    mem_disk_crash(m->disk, how);
    log_abandon(m->log);
    m->log = NULL;
    m->crashes++;
    /* Calls that had returned were durable; what was under way may be. */
    m->error = -EIO;
}
