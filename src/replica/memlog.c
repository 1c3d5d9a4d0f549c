#include "replica/memlog.h"

#include <stdlib.h>

void memlog_init(struct memlog *m) {
    *m = (struct memlog){.capacity = 1024, .first_index = 1};
    m->ring = xcalloc(m->capacity, sizeof m->ring[0]);
}

static struct core_entry *memlog_slot(const struct memlog *m, uint64_t index) {
    return &m->ring[index & (m->capacity - 1)];
}

static void memlog_drop(struct memlog *m, uint64_t index) {
    struct core_entry *e = memlog_slot(m, index);
    m->bytes -= e->body.size;
    chunk_unref(e->chunk);
    *e = (struct core_entry){0};
}

void memlog_fini(struct memlog *m) {
    memlog_reset(m, 1, 0);
    free(m->ring);
    *m = (struct memlog){0};
}

void memlog_reset(struct memlog *m, uint64_t first_index, uint64_t before_term) {
    for (uint64_t i = m->first_index; i <= m->last_index; i++)
        memlog_drop(m, i);
    m->first_index = first_index;
    m->last_index = first_index - 1;
    m->before_term = before_term;
}

static void memlog_grow(struct memlog *m) {
    struct memlog old = *m;
    m->capacity *= 2;
    m->ring = xcalloc(m->capacity, sizeof m->ring[0]);
    for (uint64_t i = m->first_index; i <= m->last_index; i++)
        *memlog_slot(m, i) = *memlog_slot(&old, i);
    free(old.ring);
}

void memlog_append(struct memlog *m, uint64_t index, const struct core_entry *e) {
    CHECK(index == m->last_index + 1);
    if (index - m->first_index == m->capacity)
        memlog_grow(m);
    *memlog_slot(m, index) = *e;
    m->last_index = index;
    m->bytes += e->body.size;
}

void memlog_truncate(struct memlog *m, uint64_t index) {
    CHECK(index >= m->first_index);
    while (m->last_index >= index)
        memlog_drop(m, m->last_index--);
}

void memlog_trim(struct memlog *m, uint64_t index) {
    CHECK(index <= m->last_index + 1);
    while (m->first_index < index) {
        m->before_term = memlog_slot(m, m->first_index)->term;
        memlog_drop(m, m->first_index++);
    }
}

const struct core_entry *memlog_get(const struct memlog *m, uint64_t index) {
    return index >= m->first_index && index <= m->last_index ? memlog_slot(m, index) : NULL;
}

uint64_t memlog_term(const struct memlog *m, uint64_t index) {
    const struct core_entry *e = memlog_get(m, index);
    if (e)
        return e->term;
    return index + 1 == m->first_index ? m->before_term : 0;
}
