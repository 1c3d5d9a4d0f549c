#include "mem_disk.h"

#include <errno.h>
#include <stdlib.h>

#include "base/rand.h"

enum { SECTOR_BYTES = 512 };

/* A write that was not flushed yet. */
struct pending_write {
    struct list node;
    uint64_t offset;
    size_t bytes;
    uint8_t data[];
};

struct inode {
    size_t refs;
    struct buf now;     /* as a process sees it */
    struct buf durable; /* as it was at the last flush */
    struct list writes; /* in order */
};

struct entry {
    char *name;
    struct inode *inode;
};

struct folder {
    struct entry *entries;
    size_t count;
};

/* A change of the folder that was not flushed yet. */
struct folder_change {
    char *name;          /* to remove; NULL: none */
    char *to;            /* to add; NULL: none */
    struct inode *inode; /* of `to` */
};

struct disk_file {
    struct list node;
    struct inode *inode;
};

struct mem_disk {
    struct disk disk;
    struct rand rand;
    struct folder now;
    struct folder durable;
    struct folder_change *changes;
    size_t change_count;
    struct list files;
    struct list line;    /* jobs, in order */
    struct list creates; /* jobs of the other kind */
    int line_error;
    uint64_t ops;
    uint64_t fail_at;
    int fail_error;
    bool dead; /* the power went */
};

static struct mem_disk *of(const struct disk *d) {
    return CONTAINER_OF(d, struct mem_disk, disk);
}

/* ---- inodes ---- */

static struct inode *inode_new(void) {
    struct inode *n = xcalloc(1, sizeof *n);
    list_init(&n->writes);
    return n;
}

static void drop_writes(struct inode *n) {
    LIST_FOREACH_SAFE (it, &n->writes) {
        list_remove(it);
        free(LIST_ENTRY(it, struct pending_write, node));
    }
}

static struct inode *inode_ref(struct inode *n) {
    n->refs++;
    return n;
}

static void inode_unref(struct inode *n) {
    if (--n->refs > 0)
        return;
    drop_writes(n);
    buf_fini(&n->now);
    buf_fini(&n->durable);
    free(n);
}

static void resize(struct buf *b, uint64_t bytes) {
    if (bytes > b->size) {
        size_t more = bytes - b->size;
        memset(buf_reserve(b, more), 0, more);
        buf_commit(b, more);
    }
    b->size = bytes;
}

static void put_bytes(struct buf *b, uint64_t offset, const uint8_t *data, size_t bytes) {
    if (bytes == 0)
        return;
    if (offset + bytes > b->size)
        resize(b, offset + bytes);
    memcpy(b->data + offset, data, bytes);
}

static void inode_write(struct inode *n, uint64_t offset, const uint8_t *data, size_t bytes) {
    struct pending_write *w = xmalloc(sizeof *w + bytes);
    w->offset = offset;
    w->bytes = bytes;
    if (bytes > 0)
        memcpy(w->data, data, bytes);
    list_push_back(&n->writes, &w->node);
    put_bytes(&n->now, offset, data, bytes);
}

static void inode_flush(struct inode *n) {
    LIST_FOREACH (it, &n->writes) {
        struct pending_write *w = LIST_ENTRY(it, struct pending_write, node);
        put_bytes(&n->durable, w->offset, w->data, w->bytes);
    }
    drop_writes(n);
}

/* Each sector that was written since the last flush comes to hold what it held after some of
 * these writes: none, a few, or all of them. */
static void inode_tear(struct inode *n, struct rand *rand) {
    uint64_t end = 0;
    LIST_FOREACH (it, &n->writes) {
        struct pending_write *w = LIST_ENTRY(it, struct pending_write, node);
        if (w->offset + w->bytes > end)
            end = w->offset + w->bytes;
    }
    uint8_t *writes_kept = xcalloc(end / SECTOR_BYTES + 1, 1);
    uint8_t *writes_seen = xcalloc(end / SECTOR_BYTES + 1, 1);
    /* Sometimes a cut clean between two writes, sometimes nearly all or nothing, else anything. */
    uint64_t style = rand_below(rand, 4);
    for (uint64_t i = 0; i <= end / SECTOR_BYTES; i++) {
        uint64_t chance = style == 0 ? 2 : style == 1 ? 10 : 3;
        bool keep = style == 1 ? rand_below(rand, chance) > 0 : rand_below(rand, chance) == 0;
        writes_kept[i] = keep ? 255 : (uint8_t)rand_below(rand, 4);
    }
    LIST_FOREACH (it, &n->writes) {
        struct pending_write *w = LIST_ENTRY(it, struct pending_write, node);
        for (uint64_t at = 0; at < w->bytes;) {
            uint64_t sector = (w->offset + at) / SECTOR_BYTES;
            uint64_t bytes = (sector + 1) * SECTOR_BYTES - (w->offset + at);
            if (bytes > w->bytes - at)
                bytes = w->bytes - at;
            if (writes_seen[sector] < writes_kept[sector]) {
                if (writes_seen[sector] < 254)
                    writes_seen[sector]++;
                put_bytes(&n->durable, w->offset + at, w->data + at, bytes);
            }
            at += bytes;
        }
    }
    free(writes_kept);
    free(writes_seen);
    drop_writes(n);
}

static void inode_revert(struct inode *n) {
    n->now.size = 0;
    buf_append_slice(&n->now, buf_slice(&n->durable));
}

/* ---- the folder ---- */

static struct entry *folder_find(const struct folder *f, const char *name) {
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->entries[i].name, name) == 0)
            return &f->entries[i];
    return NULL;
}

static void folder_remove(struct folder *f, const char *name) {
    struct entry *e = folder_find(f, name);
    if (!e)
        return;
    free(e->name);
    inode_unref(e->inode);
    size_t at = (size_t)(e - f->entries);
    memmove(e, e + 1, (--f->count - at) * sizeof *e);
}

static void folder_add(struct folder *f, const char *name, struct inode *inode) {
    inode_ref(inode);
    folder_remove(f, name);
    f->entries = xrealloc(f->entries, (f->count + 1) * sizeof *f->entries);
    f->entries[f->count++] = (struct entry){.name = xstrdup(name), .inode = inode};
}

static void folder_fini(struct folder *f) {
    while (f->count > 0)
        folder_remove(f, f->entries[f->count - 1].name);
    free(f->entries);
    *f = (struct folder){0};
}

static void folder_copy(struct folder *to, const struct folder *from) {
    for (size_t i = 0; i < from->count; i++)
        folder_add(to, from->entries[i].name, from->entries[i].inode);
}

static void apply_change(struct folder *f, const struct folder_change *c) {
    /* A renaming whose beginning was lost: there is nothing to rename. */
    if (c->name && !folder_find(f, c->name))
        return;
    if (c->to)
        folder_add(f, c->to, c->inode);
    if (c->name)
        folder_remove(f, c->name);
}

static void folder_change(struct mem_disk *m, const char *name, const char *to,
                          struct inode *inode) {
    m->changes = xrealloc(m->changes, (m->change_count + 1) * sizeof *m->changes);
    struct folder_change *c = &m->changes[m->change_count++];
    *c = (struct folder_change){.name = name ? xstrdup(name) : NULL,
                                .to = to ? xstrdup(to) : NULL,
                                .inode = inode ? inode_ref(inode) : NULL};
    apply_change(&m->now, c);
}

static void drop_changes(struct mem_disk *m) {
    for (size_t i = 0; i < m->change_count; i++) {
        free(m->changes[i].name);
        free(m->changes[i].to);
        if (m->changes[i].inode)
            inode_unref(m->changes[i].inode);
    }
    free(m->changes);
    m->changes = NULL;
    m->change_count = 0;
}

static void folder_flush(struct mem_disk *m) {
    for (size_t i = 0; i < m->change_count; i++)
        apply_change(&m->durable, &m->changes[i]);
    drop_changes(m);
}

/* ---- single steps, each of which may be made to fail ---- */

static int step_op(struct mem_disk *m) {
    if (m->dead)
        return -EIO;
    m->ops++;
    if (m->fail_at == 0 || --m->fail_at > 0)
        return 0;
    if (m->fail_error == 0) {
        m->dead = true;
        return -EIO;
    }
    return m->fail_error;
}

static int do_write(struct mem_disk *m, struct inode *n, uint64_t offset, const uint8_t *data,
                    size_t bytes) {
    bool was_dead = m->dead;
    int r = step_op(m);
    if (r < 0 && was_dead)
        return r;
    if (r < 0 && !m->dead) {
        uint64_t end = offset + rand_below(&m->rand, bytes + 1);
        if (end < offset + bytes)
            end -= end % SECTOR_BYTES; /* whole sectors, as everywhere */
        bytes = end > offset ? (size_t)(end - offset) : 0;
    }
    inode_write(n, offset, data, bytes);
    return r;
}

static int do_flush(struct mem_disk *m, struct inode *n) {
    int r = step_op(m);
    if (r == 0)
        inode_flush(n);
    return r;
}

static int do_change(struct mem_disk *m, const char *name, const char *to, struct inode *inode) {
    bool was_dead = m->dead;
    int r = step_op(m);
    if (r == 0 || (m->dead && !was_dead))
        folder_change(m, name, to, inode);
    return r;
}

static int do_folder_flush(struct mem_disk *m) {
    int r = step_op(m);
    if (r == 0)
        folder_flush(m);
    return r;
}

/* ---- the interface ---- */

static int mem_list(struct disk *d, const char *folder, void (*fn)(void *ctx, const char *name),
                    void *ctx) {
    struct mem_disk *m = of(d);
    size_t prefix = strlen(folder);
    for (size_t i = 0; i < m->now.count; i++) {
        const char *name = m->now.entries[i].name;
        if (prefix > 0) {
            if (strncmp(name, folder, prefix) != 0 || name[prefix] != '/')
                continue;
            name += prefix + 1;
        }
        if (!strchr(name, '/'))
            fn(ctx, name);
    }
    return 0;
}

static struct disk_file *file_new(struct mem_disk *m, struct inode *inode) {
    struct disk_file *f = xcalloc(1, sizeof *f);
    f->inode = inode_ref(inode);
    list_push_back(&m->files, &f->node);
    return f;
}

static int mem_open(struct disk *d, const char *name, struct disk_file **ret_file,
                    uint64_t *ret_bytes) {
    struct mem_disk *m = of(d);
    struct entry *e = folder_find(&m->now, name);
    if (!e)
        return -ENOENT;
    *ret_file = file_new(m, e->inode);
    *ret_bytes = e->inode->now.size;
    return 0;
}

static void mem_close(struct disk *d, struct disk_file *f) {
    list_remove(&f->node);
    inode_unref(f->inode);
    free(f);
}

static int64_t mem_read(struct disk *d, struct disk_file *f, uint64_t offset, void *out,
                        size_t bytes) {
    struct slice s = buf_slice(&f->inode->now);
    if (offset >= s.size)
        return 0;
    if (bytes > s.size - offset)
        bytes = s.size - offset;
    memcpy(out, s.data + offset, bytes);
    return (int64_t)bytes;
}

static int mem_write_sync(struct disk *d, struct disk_file *f, uint64_t offset,
                          struct slice bytes) {
    struct mem_disk *m = of(d);
    int r = bytes.size > 0 ? do_write(m, f->inode, offset, bytes.data, bytes.size) : 0;
    return r < 0 ? r : do_flush(m, f->inode);
}

static int mem_truncate_sync(struct disk *d, struct disk_file *f, uint64_t bytes) {
    struct mem_disk *m = of(d);
    int r = step_op(m);
    if (r < 0)
        return r;
    inode_flush(f->inode);
    resize(&f->inode->now, bytes);
    resize(&f->inode->durable, bytes);
    return 0;
}

static int mem_unlink_sync(struct disk *d, const char *name) {
    struct mem_disk *m = of(d);
    if (!folder_find(&m->now, name))
        return -ENOENT;
    int r = do_change(m, name, NULL, NULL);
    return r < 0 ? r : do_folder_flush(m);
}

static int mem_replace_sync(struct disk *d, const char *name, struct slice content) {
    struct mem_disk *m = of(d);
    struct buf beside = {0};
    buf_printf(&beside, "%s.new", name);
    buf_append_u8(&beside, 0);
    const char *beside_name = (const char *)beside.data;
    struct inode *n = inode_ref(inode_new());
    int r = do_change(m, NULL, beside_name, n);
    if (r == 0)
        r = do_write(m, n, 0, content.data, content.size);
    if (r == 0)
        r = do_flush(m, n);
    if (r == 0)
        r = do_change(m, beside_name, name, n);
    if (r == 0)
        r = do_folder_flush(m);
    inode_unref(n);
    buf_fini(&beside);
    return r;
}

static int mem_load(struct disk *d, const char *name, struct buf *ret_content) {
    struct entry *e = folder_find(&of(d)->now, name);
    if (!e)
        return -ENOENT;
    buf_reset(ret_content);
    buf_append_slice(ret_content, buf_slice(&e->inode->now));
    return 0;
}

static void mem_submit(struct disk *d, struct disk_job *job) {
    struct mem_disk *m = of(d);
    list_push_back(job->kind == DISK_JOB_CREATE ? &m->creates : &m->line, &job->node);
}

static const struct disk_ops mem_ops = {
    .list = mem_list,
    .open = mem_open,
    .close = mem_close,
    .read = mem_read,
    .write_sync = mem_write_sync,
    .truncate_sync = mem_truncate_sync,
    .unlink_sync = mem_unlink_sync,
    .replace_sync = mem_replace_sync,
    .load = mem_load,
    .submit = mem_submit,
};

/* ---- jobs ---- */

static int job_write(struct mem_disk *m, const struct disk_job *job) {
    struct buf all = {0};
    for (int i = 0; i < job->iov_count; i++)
        buf_append(&all, job->iov[i].iov_base, job->iov[i].iov_len);
    uint64_t end = job->offset + all.size, size = job->file->inode->now.size;
    if (job->tail && end < size) {
        uint64_t rest = (DISK_BLOCK_BYTES - end % DISK_BLOCK_BYTES) % DISK_BLOCK_BYTES;
        size_t zeros = (size_t)(rest < size - end ? rest : size - end);
        memset(buf_reserve(&all, zeros), 0, zeros);
        buf_commit(&all, zeros);
    }
    int r = do_write(m, job->file->inode, job->offset, all.data, all.size);
    buf_fini(&all);
    return r;
}

static int job_create(struct mem_disk *m, const struct disk_job *job, uint64_t bytes,
                      struct inode **ret_inode) {
    struct inode *n = inode_ref(inode_new());
    uint8_t *zeros = xcalloc(1, bytes + 1);
    int r = do_change(m, NULL, job->name, n);
    if (r == 0)
        r = do_write(m, n, 0, zeros, bytes);
    free(zeros);
    *ret_inode = n;
    return r;
}

static int job_change(struct mem_disk *m, const struct disk_job *job) {
    struct entry *e = folder_find(&m->now, job->name);
    if (!e)
        return -ENOENT;
    return job->kind == DISK_JOB_RENAME ? do_change(m, job->name, job->to, e->inode)
                                        : do_change(m, job->name, NULL, NULL);
}

static int job_carry_out(struct mem_disk *m, struct disk_job *job) {
    int r = 0;
    struct inode *created = NULL;
    switch (job->kind) {
    case DISK_JOB_WRITE:
        r = job_write(m, job);
        if (r == 0 && job->sync)
            r = do_flush(m, job->file->inode);
        return r;
    case DISK_JOB_CREATE:
        r = job_create(m, job, job->bytes, &created);
        if (r == 0)
            r = do_flush(m, created);
        if (r == 0)
            r = do_folder_flush(m);
        if (r == 0)
            job->ret_file = file_new(m, created);
        inode_unref(created);
        return r;
    case DISK_JOB_RENAME:
    case DISK_JOB_UNLINK:
        r = job_change(m, job);
        return r < 0 ? r : do_folder_flush(m);
    case DISK_JOB_CALL:
        return job->fn(job->arg);
    }
    return -EINVAL;
}

bool mem_disk_step_line(struct disk *d) {
    struct mem_disk *m = of(d);
    struct list *node = list_first(&m->line);
    if (!node)
        return false;
    struct disk_job *job = LIST_ENTRY(node, struct disk_job, node);
    list_remove(node);
    job->status = m->line_error ? m->line_error : job_carry_out(m, job);
    if (job->status < 0 && job->kind != DISK_JOB_CALL && m->line_error == 0)
        m->line_error = job->status;
    job->done(job, job->status);
    return true;
}

bool mem_disk_step(struct disk *d) {
    struct mem_disk *m = of(d);
    struct list *node = list_first(&m->creates);
    if (!node || (!list_empty(&m->line) && rand_below(&m->rand, 4) > 0))
        return mem_disk_step_line(d);
    struct disk_job *job = LIST_ENTRY(node, struct disk_job, node);
    list_remove(node);
    job->status = job_carry_out(m, job);
    job->done(job, job->status);
    return true;
}

void mem_disk_run(struct disk *d) {
    while (mem_disk_step(d))
        ;
}

static size_t list_count(const struct list *head) {
    size_t n = 0;
    for (const struct list *it = head->next; it != head; it = it->next)
        n++;
    return n;
}

size_t mem_disk_pending(const struct disk *d) {
    return list_count(&of(d)->line) + list_count(&of(d)->creates);
}

/* ---- crashes ---- */

/* How far the disk had got with the jobs: some done, then some written but not flushed. */
static void carry_out_some(struct mem_disk *m) {
    bool flush = true;
    while (!list_empty(&m->line) && m->line_error == 0 && !m->dead) {
        struct disk_job *job = LIST_ENTRY(list_first(&m->line), struct disk_job, node);
        list_remove(&job->node);
        if (flush && rand_below(&m->rand, 2) == 0)
            flush = false;
        if (!flush && (job->kind != DISK_JOB_WRITE || rand_below(&m->rand, 3) == 0)) {
            if (job->kind == DISK_JOB_RENAME || job->kind == DISK_JOB_UNLINK)
                m->line_error = job_change(m, job);
            break;
        }
        m->line_error = flush ? job_carry_out(m, job) : job_write(m, job);
    }
    LIST_FOREACH_SAFE (it, &m->creates) {
        struct disk_job *job = LIST_ENTRY(it, struct disk_job, node);
        uint64_t how = rand_below(&m->rand, 3);
        list_remove(it);
        struct inode *created = NULL;
        if (how == 0 || m->dead)
            continue;
        int r = job_create(m, job, rand_below(&m->rand, 2) ? job->bytes : job->bytes / 3, &created);
        if (how == 2 && r == 0)
            folder_flush(m);
        inode_unref(created);
    }
}

static void lose_power(struct mem_disk *m, bool all_lost) {
    bool whole = rand_below(&m->rand, 2) == 0; /* in order, as a journal does it, or not */
    size_t kept = (size_t)rand_below(&m->rand, m->change_count + 1);
    for (size_t i = 0; i < m->change_count && !all_lost; i++)
        if (whole ? i < kept : rand_below(&m->rand, 2) == 0)
            apply_change(&m->durable, &m->changes[i]);
    drop_changes(m);
    folder_fini(&m->now);
    folder_copy(&m->now, &m->durable);
    for (size_t i = 0; i < m->durable.count; i++) {
        struct inode *n = m->durable.entries[i].inode;
        if (all_lost)
            drop_writes(n);
        else
            inode_tear(n, &m->rand);
        inode_revert(n);
    }
}

void mem_disk_crash(struct disk *d, enum mem_disk_crash how) {
    struct mem_disk *m = of(d);
    if (how != MEM_DISK_ALL_LOST)
        carry_out_some(m);
    LIST_FOREACH_SAFE (it, &m->line)
        list_remove(it);
    LIST_FOREACH_SAFE (it, &m->creates)
        list_remove(it);
    LIST_FOREACH_SAFE (it, &m->files)
        mem_close(d, LIST_ENTRY(it, struct disk_file, node));
    if (how != MEM_DISK_KILL)
        lose_power(m, how == MEM_DISK_ALL_LOST);
    m->dead = false;
    m->line_error = 0;
    m->fail_at = 0;
}

/* ---- making and looking ---- */

struct disk *mem_disk_new(uint64_t seed) {
    struct mem_disk *m = xcalloc(1, sizeof *m);
    m->disk.ops = &mem_ops;
    m->rand.state = seed;
    m->disk.salt = rand_u64(&m->rand) | 1;
    list_init(&m->files);
    list_init(&m->line);
    list_init(&m->creates);
    return &m->disk;
}

void mem_disk_free(struct disk *d) {
    if (!d)
        return;
    struct mem_disk *m = of(d);
    LIST_FOREACH_SAFE (it, &m->files)
        mem_close(d, LIST_ENTRY(it, struct disk_file, node));
    LIST_FOREACH_SAFE (it, &m->line)
        list_remove(it);
    LIST_FOREACH_SAFE (it, &m->creates)
        list_remove(it);
    drop_changes(m);
    folder_fini(&m->now);
    folder_fini(&m->durable);
    free(m);
}

struct disk *mem_disk_clone(const struct disk *d, uint64_t seed) {
    const struct mem_disk *from = of(d);
    struct disk *made = mem_disk_new(seed);
    struct mem_disk *m = of(made);
    /* Both folders first as they share inodes in the original, then copies of these. */
    struct inode **old =
        xcalloc(from->now.count + from->durable.count + from->change_count + 1, sizeof *old);
    struct inode **new =
        xcalloc(from->now.count + from->durable.count + from->change_count + 1, sizeof *new);
    size_t count = 0;
    for (size_t i = 0; i < from->now.count; i++)
        old[count++] = from->now.entries[i].inode;
    for (size_t i = 0; i < from->durable.count; i++)
        old[count++] = from->durable.entries[i].inode;
    for (size_t i = 0; i < from->change_count; i++)
        if (from->changes[i].inode)
            old[count++] = from->changes[i].inode;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < i && !new[i]; k++)
            if (old[k] == old[i])
                new[i] = inode_ref(new[k]);
        if (new[i])
            continue;
        new[i] = inode_ref(inode_new());
        buf_append_slice(&new[i]->now, buf_slice(&old[i]->now));
        buf_append_slice(&new[i]->durable, buf_slice(&old[i]->durable));
        LIST_FOREACH (it, &old[i]->writes) {
            struct pending_write *w = LIST_ENTRY(it, struct pending_write, node);
            struct pending_write *copy = xmemdup(w, sizeof *w + w->bytes);
            list_push_back(&new[i]->writes, &copy->node);
        }
    }
    size_t at = 0;
    for (size_t i = 0; i < from->now.count; i++)
        folder_add(&m->now, from->now.entries[i].name, new[at++]);
    for (size_t i = 0; i < from->durable.count; i++)
        folder_add(&m->durable, from->durable.entries[i].name, new[at++]);
    m->changes = from->change_count ? xcalloc(from->change_count, sizeof *m->changes) : NULL;
    for (size_t i = 0; i < from->change_count; i++) {
        const struct folder_change *c = &from->changes[i];
        m->changes[m->change_count++] =
            (struct folder_change){.name = c->name ? xstrdup(c->name) : NULL,
                                   .to = c->to ? xstrdup(c->to) : NULL,
                                   .inode = c->inode ? inode_ref(new[at++]) : NULL};
    }
    for (size_t i = 0; i < count; i++)
        inode_unref(new[i]);
    free(old);
    free(new);
    return made;
}

void mem_disk_fail_at(struct disk *d, uint64_t n, int error) {
    CHECK(error <= 0);
    of(d)->fail_at = n;
    of(d)->fail_error = error;
}

uint64_t mem_disk_ops(const struct disk *d) {
    return of(d)->ops;
}

size_t mem_disk_open_files(const struct disk *d) {
    return list_count(&of(d)->files);
}

struct slice mem_disk_get(const struct disk *d, const char *name) {
    struct entry *e = folder_find(&of(d)->now, name);
    return e ? buf_slice(&e->inode->now) : slice_of(NULL, 0);
}

void mem_disk_set(struct disk *d, const char *name, struct slice content) {
    struct mem_disk *m = of(d);
    struct inode *n = inode_ref(inode_new());
    buf_append_slice(&n->now, content);
    buf_append_slice(&n->durable, content);
    folder_change(m, NULL, name, n);
    folder_flush(m);
    inode_unref(n);
}

void mem_disk_remove(struct disk *d, const char *name) {
    struct mem_disk *m = of(d);
    if (!folder_find(&m->now, name))
        return;
    folder_change(m, name, NULL, NULL);
    folder_flush(m);
}
