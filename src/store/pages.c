#include "store/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/slice.h"
#include "store/files.h"

/* Of lmdb.h and mdb.c, as far as they describe the file. */
enum {
    META_MAGIC = (int)0xBEEFC0DE,
    DATA_VERSION = 1,
    PAGE_HEAD = 16, /* u64 number | u16 pad | u16 flags | u16 lower, u16 upper or u32 pages */
    NODE_HEAD = 8,  /* u16 size low | u16 size high | u16 flags | u16 key size */
    DB_BYTES = 48,
    META_BYTES = 24 + 2 * DB_BYTES + 16,
    KEY_BYTES_MAX = 511,
    DEPTH_MAX = 32,
    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    PAGE_OVERFLOW = 0x04,
    PAGE_META = 0x08,
    PAGE_DIRTY = 0x10, /* may be left behind, and means nothing in a file */
    NODE_BIG = 0x01,   /* the value is on overflow pages */
    NODE_TREE = 0x02,  /* the value is another tree */
    TREE_INTEGER_KEY = 0x08,
};
#define NO_PAGE UINT64_MAX

struct tree {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct meta {
    uint64_t last_page, transaction;
    struct tree free, main;
};

enum tree_kind { TREE_FREE, TREE_MAIN, TREE_TABLE };

struct checking {
    int fd;
    pages_read_fn on_read;
    void *ctx;
    uint64_t page_bytes;
    uint64_t last_page;
    uint8_t *seen; /* a bit for each page */
    struct pages_report *report;
};

/* What a subtree may hold: low <= key < high; data NULL: no bound. */
struct bounds {
    struct slice low, high;
};

struct walk {
    struct checking *c;
    enum tree_kind kind;
    const struct tree *tree;
    struct tree found; /* counts */
};

struct leaf_node {
    struct slice key, value; /* value: inside the page */
    uint16_t flags;
    uint32_t value_bytes; /* wherever it is */
};

static int damaged(struct checking *c, uint64_t offset, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int damaged(struct checking *c, uint64_t offset, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->report->problem, sizeof c->report->problem, fmt, ap);
    va_end(ap);
    c->report->offset = offset;
    return -EBADMSG;
}

static int read_at(struct checking *c, uint64_t offset, uint8_t *out, size_t bytes) {
    int rc = files_read_at(c->fd, offset, out, bytes);
    if (rc == -EBADMSG)
        return damaged(c, offset, "the file ends here");
    if (rc == 0 && c->on_read)
        c->on_read(c->ctx, bytes);
    return rc;
}

/* ---- pages ---- */

/* Each page has one use. */
static int claim(struct checking *c, uint64_t page, uint64_t from_offset) {
    if (page < 2 || page > c->last_page)
        return damaged(c, from_offset, "points to page %llu of %llu", (unsigned long long)page,
                       (unsigned long long)c->last_page);
    uint8_t bit = (uint8_t)(1u << (page & 7));
    if (c->seen[page >> 3] & bit)
        return damaged(c, from_offset, "points to page %llu, which has another use",
                       (unsigned long long)page);
    c->seen[page >> 3] |= bit;
    return 0;
}

static int read_page(struct checking *c, uint64_t page, uint64_t from_offset, uint8_t *out) {
    int rc = claim(c, page, from_offset);
    uint64_t offset = page * c->page_bytes;
    if (rc == 0)
        rc = read_at(c, offset, out, (size_t)c->page_bytes);
    if (rc == 0 && get_u64le(out) != page)
        rc = damaged(c, offset, "not the page that it should be");
    if (rc == 0)
        c->report->pages++;
    return rc;
}

static unsigned page_flags(const uint8_t *page) {
    return get_u16le(page + 10) & ~(unsigned)PAGE_DIRTY;
}

static size_t page_count(const uint8_t *page) {
    return (get_u16le(page + 12) - (size_t)PAGE_HEAD) / 2;
}

static size_t node_at(const uint8_t *page, size_t i) {
    return get_u16le(page + PAGE_HEAD + 2 * i);
}

static uint64_t node_low_bits(const uint8_t *node) {
    return get_u16le(node) | (uint64_t)get_u16le(node + 2) << 16;
}

static size_t even(size_t n) {
    return (n + 1) & ~(size_t)1;
}

/* The frame of a branch or leaf page, and that its nodes fill it without a gap. */
static int check_frame(struct checking *c, const uint8_t *page, uint64_t offset, bool leaf) {
    size_t lower = get_u16le(page + 12), upper = get_u16le(page + 14), filled = 0;
    if (page_flags(page) != (leaf ? PAGE_LEAF : PAGE_BRANCH))
        return damaged(c, offset + 10, "page flags 0x%x, not those of a %s", page_flags(page),
                       leaf ? "leaf" : "branch");
    if (lower < PAGE_HEAD || lower > upper || upper > c->page_bytes || lower % 2)
        return damaged(c, offset + 12, "bounds %zu and %zu of a page", lower, upper);
    for (size_t i = 0; i < page_count(page); i++) {
        size_t at = node_at(page, i);
        if (at < upper || at + NODE_HEAD > c->page_bytes)
            return damaged(c, offset + PAGE_HEAD + 2 * i, "record %zu begins at %zu", i, at);
        const uint8_t *node = page + at;
        size_t key_bytes = get_u16le(node + 6), bytes = NODE_HEAD + key_bytes;
        if (leaf)
            bytes += get_u16le(node + 4) & NODE_BIG ? 8 : (size_t)node_low_bits(node);
        if (key_bytes > KEY_BYTES_MAX || bytes > c->page_bytes - at)
            return damaged(c, offset + at, "record %zu of %zu bytes does not fit its page", i,
                           bytes);
        filled += even(bytes);
    }
    if (filled != c->page_bytes - upper)
        return damaged(c, offset, "records of %zu bytes where %zu bytes are in use", filled,
                       (size_t)c->page_bytes - upper);
    return 0;
}

/* ---- keys ---- */

static int compare(const struct walk *w, struct slice a, struct slice b) {
    if (w->kind == TREE_FREE) {
        uint64_t x = get_u64le(a.data), y = get_u64le(b.data);
        return (x > y) - (x < y);
    }
    size_t n = a.size < b.size ? a.size : b.size;
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int check_key(struct walk *w, struct slice key, const struct slice *before,
                     const struct bounds *in, uint64_t offset) {
    if (key.size == 0 || (w->kind == TREE_FREE && key.size != 8))
        return damaged(w->c, offset, "a key of %zu bytes", key.size);
    if ((before && compare(w, *before, key) >= 0) ||
        (in->low.data && compare(w, key, in->low) < 0) ||
        (in->high.data && compare(w, key, in->high) >= 0))
        return damaged(w->c, offset, "a key that does not stand in order");
    return 0;
}

/* ---- values ---- */

static struct tree tree_get(const uint8_t *at) {
    return (struct tree){
        .pad = get_u32le(at),
        .flags = get_u16le(at + 4),
        .depth = get_u16le(at + 6),
        .branch_pages = get_u64le(at + 8),
        .leaf_pages = get_u64le(at + 16),
        .overflow_pages = get_u64le(at + 24),
        .entries = get_u64le(at + 32),
        .root = get_u64le(at + 40),
    };
}

/* Pages that are free must not be in use, nor twice in the lists. */
static int take_free_list(struct checking *c, struct slice list, uint64_t offset) {
    uint64_t count = list.size >= 8 ? get_u64le(list.data) : UINT64_MAX;
    if (count > list.size / 8 - (list.size >= 8))
        return damaged(c, offset, "a list of free pages that does not fit its record");
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = get_u64le(list.data + 8 * i);
        if (i > 1 && page >= get_u64le(list.data + 8 * (i - 1)))
            return damaged(c, offset, "a list of free pages that is not in order");
        int rc = claim(c, page, offset);
        if (rc)
            return rc;
    }
    c->report->free_pages += count;
    return 0;
}

/* A value on pages of its own: their frame, and for the free list what is on them. */
static int walk_big(struct walk *w, const struct leaf_node *node, uint64_t offset) {
    struct checking *c = w->c;
    uint64_t first = get_u64le(node->value.data);
    uint64_t pages = (PAGE_HEAD - 1 + (uint64_t)node->value_bytes) / c->page_bytes + 1;
    uint8_t head[PAGE_HEAD];
    for (uint64_t i = 0; i < pages; i++) {
        int rc = claim(c, first + i, offset);
        if (rc)
            return rc;
    }
    uint64_t at = first * c->page_bytes;
    int rc = read_at(c, at, head, sizeof head);
    if (rc)
        return rc;
    if (get_u64le(head) != first || page_flags(head) != PAGE_OVERFLOW ||
        get_u32le(head + 12) != pages)
        return damaged(c, at, "not the head of a large value of %llu pages",
                       (unsigned long long)pages);
    w->found.overflow_pages += pages;
    c->report->pages += pages;
    if (w->kind != TREE_FREE)
        return 0;
    uint8_t *list = xmalloc(node->value_bytes);
    rc = read_at(c, at + PAGE_HEAD, list, node->value_bytes);
    if (rc == 0)
        rc = take_free_list(c, slice_of(list, node->value_bytes), at);
    free(list);
    return rc;
}

static int walk_tree(struct checking *c, enum tree_kind kind, const struct tree *tree,
                     uint64_t offset);

static int walk_value(struct walk *w, const struct leaf_node *node, uint64_t offset) {
    struct checking *c = w->c;
    unsigned want = w->kind == TREE_MAIN ? NODE_TREE : node->flags & NODE_BIG;
    if (node->flags != want || (w->kind == TREE_MAIN && node->value.size != DB_BYTES))
        return damaged(c, offset, "a record with flags 0x%x", node->flags);
    if (node->flags & NODE_BIG)
        return walk_big(w, node, offset);
    if (w->kind == TREE_FREE)
        return take_free_list(c, node->value, offset);
    if (w->kind == TREE_TABLE)
        return 0;
    struct tree table = tree_get(node->value.data);
    return walk_tree(c, TREE_TABLE, &table, offset);
}

/* ---- trees ---- */

static int walk_leaf(struct walk *w, const uint8_t *page, uint64_t offset,
                     const struct bounds *in) {
    struct slice before = {0};
    size_t count = page_count(page);
    if (count == 0)
        return damaged(w->c, offset, "an empty leaf");
    w->found.leaf_pages++;
    for (size_t i = 0; i < count; i++) {
        size_t at = node_at(page, i);
        const uint8_t *bytes = page + at;
        struct leaf_node node = {.flags = get_u16le(bytes + 4),
                                 .value_bytes = (uint32_t)node_low_bits(bytes)};
        node.key = slice_of(bytes + NODE_HEAD, get_u16le(bytes + 6));
        node.value = slice_of(node.key.data + node.key.size,
                              node.flags & NODE_BIG ? 8 : (size_t)node.value_bytes);
        int rc = check_key(w, node.key, i ? &before : NULL, in, offset + at);
        if (rc == 0)
            rc = walk_value(w, &node, offset + at);
        if (rc)
            return rc;
        before = node.key;
        w->found.entries++;
    }
    return 0;
}

static int walk_page(struct walk *w, uint64_t number, unsigned depth, uint64_t from_offset,
                     const struct bounds *in);

static int walk_branch(struct walk *w, const uint8_t *page, uint64_t offset, unsigned depth,
                       const struct bounds *in) {
    size_t count = page_count(page);
    if (count < (w->kind == TREE_FREE ? 1 : 2))
        return damaged(w->c, offset, "a branch of %zu", count);
    w->found.branch_pages++;
    struct slice before = {0};
    for (size_t i = 0; i < count; i++) {
        size_t at = node_at(page, i);
        const uint8_t *node = page + at;
        struct slice key = slice_of(node + NODE_HEAD, get_u16le(node + 6));
        /* The key of the first one is not used, and may be anything. */
        int rc = i ? check_key(w, key, i > 1 ? &before : NULL, in, offset + at) : 0;
        if (rc)
            return rc;
        before = key;
        struct bounds inner = *in;
        if (i > 0)
            inner.low = key;
        if (i + 1 < count) {
            const uint8_t *next = page + node_at(page, i + 1);
            inner.high = slice_of(next + NODE_HEAD, get_u16le(next + 6));
            if (inner.high.size == 0 || (w->kind == TREE_FREE && inner.high.size != 8))
                return damaged(w->c, offset + node_at(page, i + 1), "a key of %zu bytes",
                               inner.high.size);
        }
        uint64_t child = node_low_bits(node) | (uint64_t)get_u16le(node + 4) << 32;
        rc = walk_page(w, child, depth + 1, offset + at, &inner);
        if (rc)
            return rc;
    }
    return 0;
}

static int walk_page(struct walk *w, uint64_t number, unsigned depth, uint64_t from_offset,
                     const struct bounds *in) {
    struct checking *c = w->c;
    bool leaf = depth == w->tree->depth;
    uint8_t *page = xmalloc((size_t)c->page_bytes);
    uint64_t offset = number * c->page_bytes;
    int rc = read_page(c, number, from_offset, page);
    if (rc == 0)
        rc = check_frame(c, page, offset, leaf);
    if (rc == 0)
        rc = leaf ? walk_leaf(w, page, offset, in) : walk_branch(w, page, offset, depth, in);
    free(page);
    return rc;
}

static int walk_tree(struct checking *c, enum tree_kind kind, const struct tree *tree,
                     uint64_t offset) {
    struct walk w = {.c = c, .kind = kind, .tree = tree};
    struct bounds all = {0};
    if (tree->flags != (kind == TREE_FREE ? TREE_INTEGER_KEY : 0) || tree->depth > DEPTH_MAX ||
        (tree->depth == 0) != (tree->root == NO_PAGE))
        return damaged(c, offset, "not the description of a tree");
    int rc = tree->depth ? walk_page(&w, tree->root, 1, offset, &all) : 0;
    if (rc == 0 &&
        (w.found.branch_pages != tree->branch_pages || w.found.leaf_pages != tree->leaf_pages ||
         w.found.overflow_pages != tree->overflow_pages || w.found.entries != tree->entries))
        rc = damaged(c, offset, "counts that do not fit the tree");
    return rc;
}

/* ---- the head of the file ---- */

static int check_meta(struct checking *c, const uint8_t *page, uint64_t number,
                      struct meta *ret_meta) {
    const uint8_t *at = page + PAGE_HEAD;
    uint64_t offset = number * c->page_bytes;
    if (get_u32le(at) != (uint32_t)META_MAGIC || page_flags(page) != PAGE_META ||
        get_u64le(page) != number)
        return damaged(c, offset, "not the head of an LMDB file");
    if (get_u32le(at + 4) != DATA_VERSION)
        return damaged(c, offset + PAGE_HEAD + 4, "data version %u, not %d", get_u32le(at + 4),
                       DATA_VERSION);
    struct meta m = {.free = tree_get(at + 24), .main = tree_get(at + 24 + DB_BYTES)};
    m.last_page = get_u64le(at + 24 + 2 * DB_BYTES);
    m.transaction = get_u64le(at + 32 + 2 * DB_BYTES);
    if (m.free.pad != c->page_bytes)
        return damaged(c, offset + PAGE_HEAD + 24, "pages of %u bytes", m.free.pad);
    *ret_meta = m;
    return 0;
}

/* Both heads must be whole: LMDB takes the later one, and nothing else says which that is. */
static int read_metas(struct checking *c, struct meta *ret_meta, uint64_t *ret_offset) {
    uint8_t page[PAGE_HEAD + META_BYTES];
    struct meta metas[2];
    int rc = read_at(c, 0, page, sizeof page);
    if (rc)
        return rc;
    c->page_bytes = get_u32le(page + PAGE_HEAD + 24);
    if (c->page_bytes < 512 || c->page_bytes > 65536 || (c->page_bytes & (c->page_bytes - 1)))
        return damaged(c, PAGE_HEAD + 24, "not the head of an LMDB file");
    rc = check_meta(c, page, 0, &metas[0]);
    if (rc == 0)
        rc = read_at(c, c->page_bytes, page, sizeof page);
    if (rc == 0)
        rc = check_meta(c, page, 1, &metas[1]);
    if (rc)
        return rc;
    unsigned newest = metas[0].transaction < metas[1].transaction;
    uint64_t last = metas[newest].transaction;
    /* Transaction n goes to head n % 2, and one follows the other. */
    if (last > 0 && (last % 2 != newest || metas[!newest].transaction != last - 1))
        return damaged(c, newest * c->page_bytes + PAGE_HEAD + 32 + 2 * DB_BYTES,
                       "transactions %llu and %llu do not follow each other",
                       (unsigned long long)metas[0].transaction,
                       (unsigned long long)metas[1].transaction);
    *ret_meta = metas[newest];
    *ret_offset = newest * c->page_bytes;
    return 0;
}

static int check_file(struct checking *c) {
    struct meta meta = {0};
    uint64_t offset = 0;
    int rc = read_metas(c, &meta, &offset);
    if (rc)
        return rc;
    off_t bytes = lseek(c->fd, 0, SEEK_END);
    if (bytes < 0)
        return -errno;
    if (meta.last_page < 1 || meta.last_page > 1 + 2 * (uint64_t)bytes / c->page_bytes)
        return damaged(c, offset + PAGE_HEAD + 24 + 2 * DB_BYTES, "%llu pages in so small a file",
                       (unsigned long long)meta.last_page);
    c->last_page = meta.last_page;
    c->seen = xcalloc(1, (size_t)(c->last_page / 8 + 1));
    c->report->pages = 2;
    meta.free.pad = 0;
    rc = walk_tree(c, TREE_MAIN, &meta.main, offset + PAGE_HEAD + 24 + DB_BYTES);
    if (rc == 0)
        rc = walk_tree(c, TREE_FREE, &meta.free, offset + PAGE_HEAD + 24);
    return rc;
}

int pages_check(const char *path, pages_read_fn on_read, void *ctx, struct pages_report *ret) {
    *ret = (struct pages_report){0};
    struct checking c = {.on_read = on_read, .ctx = ctx, .report = ret};
    c.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (c.fd < 0)
        return -errno;
    int rc = check_file(&c);
    close(c.fd);
    free(c.seen);
    return rc;
}
