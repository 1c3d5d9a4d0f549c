#include "base/pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define POOL_IS_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_IS_MALLOC 1
#endif
#endif
#ifndef POOL_IS_MALLOC
#define POOL_IS_MALLOC 0
#endif

/* Aligned to its size, so that an object's address says which block it is in. */
enum { BLOCK_BYTES = 64 * 1024, ALIGN = 8 };

struct spare {
    struct spare *next;
};
struct block {
    struct list node; /* pool.open or pool.full */
    struct spare *spares;
    size_t used;   /* objects in use */
    bool kept;     /* it is empty, and counted in pool.kept_count */
    size_t unused; /* objects at the end that were never given out: their pages are not touched */
};

void pool_init(struct pool *p, size_t object_bytes) {
    *p = (struct pool){.object_bytes = (object_bytes + ALIGN - 1) / ALIGN * ALIGN};
    CHECK(p->object_bytes >= sizeof(struct spare));
    CHECK(p->object_bytes <= BLOCK_BYTES / 8);
    list_init(&p->open);
    list_init(&p->full);
}

static size_t capacity(const struct pool *p) {
    return (BLOCK_BYTES - sizeof(struct block)) / p->object_bytes;
}

static void block_free(struct pool *p, struct block *b) {
    list_remove(&b->node);
    p->kept_count -= b->kept;
    p->block_count--;
    CHECK(munmap(b, BLOCK_BYTES) == 0);
}

void pool_fini(struct pool *p) {
    CHECK(p->object_count == 0);
    struct list *first;
    while ((first = list_first(&p->open)) != NULL)
        block_free(p, LIST_ENTRY(first, struct block, node));
    CHECK(p->block_count == 0);
}

/* Twice as much, and what lies outside the alignment given back. */
static struct block *block_new(struct pool *p) {
    char *at =
        mmap(NULL, 2 * BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    size_t before = (BLOCK_BYTES - ((uintptr_t)at & (BLOCK_BYTES - 1))) & (BLOCK_BYTES - 1);
    if (before > 0)
        CHECK(munmap(at, before) == 0);
    if (before < BLOCK_BYTES)
        CHECK(munmap(at + before + BLOCK_BYTES, BLOCK_BYTES - before) == 0);
    struct block *b = (struct block *)(at + before);
    b->unused = capacity(p); /* the rest is zero */
    list_push_back(&p->open, &b->node);
    p->block_count++;
    return b;
}

void *pool_alloc(struct pool *p) {
    p->object_count++;
    if (POOL_IS_MALLOC)
        return xcalloc(1, p->object_bytes);
    struct list *first = list_first(&p->open);
    struct block *b = first ? LIST_ENTRY(first, struct block, node) : block_new(p);
    p->kept_count -= b->kept;
    b->kept = false;
    void *object;
    if (b->spares) {
        object = b->spares;
        b->spares = b->spares->next;
        memset(object, 0, p->object_bytes);
    } else {
        object = (char *)(b + 1) + (capacity(p) - b->unused) * p->object_bytes;
        b->unused--;
    }
    if (++b->used == capacity(p)) {
        list_remove(&b->node);
        list_push_back(&p->full, &b->node);
    }
    return object;
}

static void block_spare(struct pool *p, struct block *b) {
    if (p->kept_count == p->kept_max) {
        block_free(p, b);
        return;
    }
    b->kept = true;
    p->kept_count++;
    list_remove(&b->node);
    list_push_back(&p->open, &b->node);
}

void pool_free(struct pool *p, void *object) {
    CHECK(p->object_count > 0);
    p->object_count--;
    if (POOL_IS_MALLOC) {
        free(object);
        return;
    }
    struct block *b = (struct block *)((uintptr_t)object & ~(uintptr_t)(BLOCK_BYTES - 1));
    struct spare *spare = object;
    spare->next = b->spares;
    b->spares = spare;
    /* One that was full is the fullest of those with room: the next object goes there. */
    if (b->used-- == capacity(p)) {
        list_remove(&b->node);
        list_push_front(&p->open, &b->node);
    } else if (b->used == 0 && p->open.next->next != &p->open) {
        block_spare(p, b); /* there is another one with room */
    }
}
