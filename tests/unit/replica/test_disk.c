/* The contract of replica/disk.h, held against both disks: the real one and the one in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/rand.h"
#include "mem_disk.h"
#include "replica/disk_direct.h"
#include "replica/disk_uv.h"
#include "replica/log.h"

struct place {
    struct disk *disk;
    bool threads;      /* without direct writes */
    struct loop *loop; /* NULL: in memory */
    char dir[200];
};

static void place_open(struct place *p) {
    assert_int_equal(loop_new(&p->loop), 0);
    assert_int_equal(disk_uv_new(p->loop, p->dir, !p->threads, &p->disk), 0);
}

static int setup_place(void **state, bool threads) {
    struct place *p = xcalloc(1, sizeof *p);
    p->threads = threads;
    const char *tmp = getenv("TMPDIR");
    snprintf(p->dir, sizeof p->dir, "%s/cotidal-test-disk-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(p->dir));
    place_open(p);
    *state = p;
    return 0;
}

static int setup_real(void **state) {
    return setup_place(state, false);
}

static int setup_threads(void **state) {
    return setup_place(state, true);
}

static int setup_memory(void **state) {
    struct place *p = xcalloc(1, sizeof *p);
    p->disk = mem_disk_new(7);
    *state = p;
    return 0;
}

static void place_close(struct place *p) {
    if (p->loop) {
        disk_uv_free(p->disk);
        loop_drain(p->loop);
        loop_free(p->loop);
    } else {
        mem_disk_free(p->disk);
    }
}

static int teardown(void **state) {
    struct place *p = *state;
    place_close(p);
    if (p->loop) {
        char command[256];
        snprintf(command, sizeof command, "rm -r '%s'", p->dir);
        assert_int_equal(system(command), 0);
    }
    free(p);
    return 0;
}

struct work {
    struct disk_job job;
    struct place *place;
    size_t *order; /* the count of completions so far */
    size_t at;     /* which completion this was */
    size_t stop_at;
    int status;
};

static void on_work(struct disk_job *job, int status) {
    struct work *w = CONTAINER_OF(job, struct work, job);
    w->status = status;
    w->at = ++*w->order;
    if (w->at == w->stop_at && w->place->loop)
        loop_stop(w->place->loop);
}

/* Submits all and waits for them. */
static void work_run(struct place *p, struct work *works, size_t count) {
    size_t order = 0;
    for (size_t i = 0; i < count; i++) {
        works[i].job.done = on_work;
        works[i].place = p;
        works[i].order = &order;
        works[i].stop_at = count;
        works[i].status = 1;
    }
    for (size_t i = 0; i < count; i++)
        p->disk->ops->submit(p->disk, &works[i].job);
    assert_int_equal(order, 0); /* no callback from within submit() */
    if (p->loop)
        loop_run(p->loop);
    else
        mem_disk_run(p->disk);
    assert_int_equal(order, count);
}

static struct disk_file *create(struct place *p, const char *name, uint64_t bytes) {
    struct work w = {.job = {.kind = DISK_JOB_CREATE, .name = name, .bytes = bytes}};
    work_run(p, &w, 1);
    assert_int_equal(w.status, 0);
    return w.job.ret_file;
}

static void expect(struct place *p, struct disk_file *f, uint64_t offset, const void *bytes,
                   size_t size) {
    uint8_t *got = xmalloc(size + 1);
    assert_int_equal(p->disk->ops->read(p->disk, f, offset, got, size), size);
    assert_memory_equal(got, bytes, size);
    free(got);
}

struct names {
    char all[512];
};

static void on_name(void *ctx, const char *name) {
    struct names *n = ctx;
    strcat(strcat(n->all, name), " ");
}

static void test_create_rename_unlink(void **state) {
    struct place *p = *state;
    struct disk *d = p->disk;
    struct names names = {{0}};
    assert_int_equal(d->ops->list(d, "log", on_name, &names), 0);
    assert_string_equal(names.all, "");
    const uint64_t bytes = 3 * 1024 * 1024 + 4096;
    struct disk_file *f = create(p, "log/a", bytes), *again = NULL;
    uint8_t *content = xmalloc(bytes + 10);
    assert_int_equal(d->ops->read(d, f, 0, content, bytes + 10), bytes);
    for (uint64_t i = 0; i < bytes; i++)
        if (content[i] != 0)
            fail_msg("byte %llu is not zero", (unsigned long long)i);
    free(content);

    struct work works[2] = {
        {.job = {.kind = DISK_JOB_RENAME, .name = "log/a", .to = "log/b"}},
        {.job = {.kind = DISK_JOB_WRITE,
                 .file = f,
                 .offset = 4,
                 .iov = &(struct iovec){"abc", 3},
                 .iov_count = 1,
                 .sync = true}},
    };
    work_run(p, works, 2);
    assert_int_equal(works[0].status, 0);
    assert_int_equal(works[1].status, 0);
    uint64_t size = 0;
    assert_int_equal(d->ops->open(d, "log/a", &again, &size), -ENOENT);
    assert_int_equal(d->ops->open(d, "log/b", &again, &size), 0);
    assert_int_equal(size, bytes);
    expect(p, again, 2, "\0\0abc\0", 6);
    d->ops->close(d, again);
    assert_int_equal(d->ops->list(d, "log", on_name, &names), 0);
    assert_string_equal(names.all, "b ");

    struct work unlink = {.job = {.kind = DISK_JOB_UNLINK, .name = "log/b"}};
    work_run(p, &unlink, 1);
    assert_int_equal(unlink.status, 0);
    expect(p, f, 2, "\0\0abc\0", 6); /* an open file stays */
    d->ops->close(d, f);
    assert_int_equal(d->ops->open(d, "log/b", &again, &size), -ENOENT);
    assert_int_equal(d->ops->unlink_sync(d, "log/b"), -ENOENT);
}

static void test_replace_load(void **state) {
    struct place *p = *state;
    struct disk *d = p->disk;
    struct buf got = {0};
    assert_int_equal(d->ops->load(d, "small", &got), -ENOENT);
    assert_int_equal(d->ops->replace_sync(d, "small", slice_str("first")), 0);
    struct disk_file *old = NULL;
    uint64_t bytes = 0;
    assert_int_equal(d->ops->open(d, "small", &old, &bytes), 0);
    assert_int_equal(d->ops->replace_sync(d, "small", slice_str("the second")), 0);
    assert_int_equal(d->ops->load(d, "small", &got), 0);
    assert_true(slice_equal_str(buf_slice(&got), "the second"));
    expect(p, old, 0, "first", 5); /* another file by now */
    d->ops->close(d, old);
    assert_int_equal(d->ops->replace_sync(d, "small", slice_str("")), 0);
    assert_int_equal(d->ops->load(d, "small", &got), 0);
    assert_int_equal(got.size, 0);
    assert_int_equal(d->ops->unlink_sync(d, "small"), 0);
    assert_int_equal(d->ops->load(d, "small", &got), -ENOENT);
    buf_fini(&got);
}

static void test_sync_calls(void **state) {
    struct place *p = *state;
    struct disk *d = p->disk;
    assert_int_equal(d->ops->replace_sync(d, "f", slice_str("0123456789")), 0);
    struct disk_file *f = NULL;
    uint64_t bytes = 0;
    assert_int_equal(d->ops->open(d, "f", &f, &bytes), 0);
    assert_int_equal(d->ops->write_sync(d, f, 3, slice_str("abc")), 0);
    assert_int_equal(d->ops->write_sync(d, f, 0, slice_of(NULL, 0)), 0);
    expect(p, f, 0, "012abc6789", 10);
    assert_int_equal(d->ops->truncate_sync(d, f, 5), 0);
    char got[20];
    assert_int_equal(d->ops->read(d, f, 0, got, sizeof got), 5);
    assert_int_equal(d->ops->read(d, f, 5, got, sizeof got), 0);
    assert_int_equal(d->ops->truncate_sync(d, f, 8), 0);
    expect(p, f, 0, "012ab\0\0\0", 8);
    d->ops->close(d, f);
}

static int add_one(void *arg) {
    int *n = arg;
    ++*n;
    return *n == 2 ? -ENOANO : 0;
}

/* Many writes with many pieces, adjacent or not, in two files, with other jobs between them. */
static void test_jobs_in_order(void **state) {
    enum { COUNT = 300, PIECES = 40, PIECE = 13 };
    struct place *p = *state;
    struct disk *d = p->disk;
    struct disk_file *files[2] = {create(p, "a", COUNT * PIECES * PIECE),
                                  create(p, "b", COUNT * PIECES * PIECE)};
    struct work *works = xcalloc(COUNT + 2, sizeof *works);
    struct iovec *iov = xcalloc((COUNT + 1) * PIECES, sizeof *iov);
    uint8_t *bytes = xmalloc(COUNT * PIECES * PIECE);
    uint8_t *expected[2] = {xcalloc(1, COUNT * PIECES * PIECE), xcalloc(1, COUNT * PIECES * PIECE)};
    for (size_t i = 0; i < COUNT * PIECES * PIECE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < COUNT; i++) {
        size_t file = i / 100 % 2;
        size_t at = i % 10 == 9 ? i - 9 : i; /* now and then over an earlier one */
        for (size_t k = 0; k < PIECES; k++)
            iov[i * PIECES + k] = (struct iovec){bytes + (i * PIECES + k) * PIECE, PIECE};
        works[i].job = (struct disk_job){.kind = DISK_JOB_WRITE,
                                         .file = files[file],
                                         .offset = at * PIECES * PIECE,
                                         .iov = iov + i * PIECES,
                                         .iov_count = PIECES,
                                         .sync = i % 3 > 0};
        memcpy(expected[file] + at * PIECES * PIECE, bytes + i * PIECES * PIECE, PIECES * PIECE);
    }
    int calls = 1;
    works[155].job = (struct disk_job){.kind = DISK_JOB_CALL, .fn = add_one, .arg = &calls};
    memset(expected[1] + 155 * PIECES * PIECE, 0, PIECES * PIECE);
    work_run(p, works, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(works[i].at, i + 1);
        /* A call's own failure is not one of the disk. */
        assert_int_equal(works[i].status, i == 155 ? -ENOANO : 0);
    }
    assert_int_equal(calls, 2);
    for (size_t i = 0; i < 2; i++) {
        expect(p, files[i], 0, expected[i], COUNT * PIECES * PIECE);
        free(expected[i]);
        d->ops->close(d, files[i]);
    }
    free(works);
    free(iov);
    free(bytes);
}

/* A log that grows: tails of all sizes, more than one direct write takes among them, other jobs in
 * between, and what others write into the same file. What lies behind in the last block is either
 * what was there or zeros. */
static void test_tails(void **state) {
    enum { BYTES = 8 * 1024 * 1024, COUNT = 60 };
    struct place *p = *state;
    struct disk *d = p->disk;
    struct disk_file *f = create(p, "log", BYTES), *slots = create(p, "slots", 8192);
    uint8_t *bytes = xmalloc(BYTES), *got = xmalloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 11 | 1);
    struct rand rand = {9};
    static const uint32_t most[] = {16, 600, 5000, 70000, 1500000};
    uint64_t end = 0;
    for (size_t round = 0; round < 40 && end < BYTES - 2000000; round++) {
        struct work works[COUNT];
        struct iovec iov[2 * COUNT];
        int calls = 5;
        size_t count = 1 + rand_below(&rand, round % 5 == 4 ? 2 : COUNT);
        for (size_t i = 0; i < count; i++) {
            uint64_t size = 1 + rand_below(&rand, most[round % 5]), half = rand_below(&rand, size);
            if (end + size > BYTES - 4096)
                size = half = 1;
            iov[2 * i] = (struct iovec){bytes + end, half};
            iov[2 * i + 1] = (struct iovec){bytes + end + half, size - half};
            works[i].job = (struct disk_job){.kind = DISK_JOB_WRITE,
                                             .file = f,
                                             .offset = end,
                                             .iov = iov + 2 * i,
                                             .iov_count = 2,
                                             .sync = true,
                                             .tail = true};
            if (i % 11 == 5)
                works[i].job.tail = false;
            if (i % 13 == 7) {
                works[i].job =
                    (struct disk_job){.kind = DISK_JOB_CALL, .fn = add_one, .arg = &calls};
                continue;
            }
            if (i % 17 == 9) {
                works[i].job.file = slots;
                works[i].job.offset = 512;
                works[i].job.tail = false;
                works[i].job.iov_count = 1;
                iov[2 * i] = (struct iovec){"slot", 4};
                continue;
            }
            end += size;
        }
        work_run(p, works, count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(works[i].status, 0);
            assert_int_equal(works[i].at, i + 1);
        }
        assert_int_equal(d->ops->read(d, f, 0, got, BYTES), BYTES);
        assert_memory_equal(got, bytes, end);
        for (uint64_t i = end; i < BYTES; i++)
            if (got[i] != 0 && got[i] != 'x')
                fail_msg("byte %llu", (unsigned long long)i);
        if (round % 3 == 0) /* an old segment's */
            assert_int_equal(d->ops->write_sync(d, f, end, slice_str("xxxxxxxxx")), 0);
    }
    assert_true(end > 1000000);
    d->ops->close(d, f);
    d->ops->close(d, slots);
    free(bytes);
    free(got);
}

/* After a failure nothing that follows is carried out. */
static void test_failure_is_final(void **state) {
    struct place *p = *state;
    struct disk *d = p->disk;
    struct disk_file *f = create(p, "f", 8192);
    struct iovec iov = {"x", 1};
    struct work works[3] = {
        {.job = {.kind = DISK_JOB_WRITE, .file = f, .iov = &iov, .iov_count = 1, .sync = true}},
        {.job = {.kind = DISK_JOB_RENAME, .name = "none", .to = "other"}},
        {.job = {.kind = DISK_JOB_WRITE,
                 .file = f,
                 .offset = 1,
                 .iov = &iov,
                 .iov_count = 1,
                 .sync = true}},
    };
    work_run(p, works, 3);
    assert_int_equal(works[0].status, 0);
    assert_int_equal(works[1].status, -ENOENT);
    assert_int_equal(works[2].status, -ENOENT);
    expect(p, f, 0, "x\0", 2);
    struct work later = {.job = {.kind = DISK_JOB_UNLINK, .name = "f"}};
    work_run(p, &later, 1);
    assert_int_equal(later.status, -ENOENT);
    struct disk_file *again = NULL;
    uint64_t bytes = 0;
    assert_int_equal(d->ops->open(d, "f", &again, &bytes), 0);
    d->ops->close(d, again);
    d->ops->close(d, f);
}

/* ---- the real one alone ---- */

static void test_lock(void **state) {
    struct place *p = *state;
    struct disk *second = NULL;
    assert_int_equal(disk_uv_new(p->loop, p->dir, true, &second), -EWOULDBLOCK);
    assert_int_equal(disk_uv_new(p->loop, "/nowhere/at/all", true, &second), -ENOENT);
    assert_null(second);
}

static int direct_status;

static void on_direct_done(void *ctx, int status) {
    direct_status = status;
    loop_stop(((struct place *)ctx)->loop);
}

/* What lies before stays, what lies behind in the block becomes zeros. */
static void test_direct(void **state) {
    struct place *p = *state;
    char path[256];
    snprintf(path, sizeof path, "%s/direct", p->dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    uint8_t expected[4 * DISK_BLOCK_BYTES], got[sizeof expected];
    memset(expected, 'o', sizeof expected);
    assert_int_equal(write(fd, expected, sizeof expected), sizeof expected);
    assert_int_equal(fsync(fd), 0);
    struct direct_file *f = direct_open(fd);
    struct direct *d = direct_new(p->loop, on_direct_done, p);
    if (!f || !d) {
        direct_close(f);
        direct_free(d);
        close(fd);
        print_message("no direct writes in %s\n", p->dir);
        skip();
    }
    assert_true(direct_fits(f, 0, sizeof expected));
    assert_false(direct_fits(f, 1, sizeof expected));
    static const struct {
        uint64_t offset, bytes;
    } writes[] = {{5000, 1}, {5001, 300}, {5301, 2891}, {8192, 4096}, {12288, 4}, {12292, 4000}};
    for (size_t i = 0; i < ARRAY_COUNT(writes); i++) {
        uint64_t offset = writes[i].offset, bytes = writes[i].bytes, end = offset + bytes;
        memset(expected + offset, 'a' + (int)i, bytes);
        memset(expected + end, 0, (DISK_BLOCK_BYTES - end % DISK_BLOCK_BYTES) % DISK_BLOCK_BYTES);
        if (i == 2)
            direct_forget(f); /* then it reads the beginning of the block */
        assert_int_equal(direct_begin(d, f, fd, offset), 0);
        struct iovec iov[2] = {{expected + offset, bytes / 2},
                               {expected + offset + bytes / 2, bytes - bytes / 2}};
        direct_add(d, iov, 2);
        direct_status = 2;
        assert_int_equal(direct_send(d), 0);
        if (i % 2)
            loop_run(p->loop);
        else
            direct_wait(d);
        assert_int_equal(direct_status, 0);
        if (i % 2 == 0)
            loop_run(p->loop); /* ends at once: it was told to stop */
        assert_int_equal(pread(fd, got, sizeof got, 0), sizeof got);
        assert_memory_equal(got, expected, sizeof got);
    }
    direct_free(d);
    direct_close(f);
    close(fd);
}

static void test_end_with_writes_under_way(void **state) {
    struct place *p = *state;
    struct disk_file *f = create(p, "f", 65536);
    struct work works[20];
    struct iovec iov = {"abcde", 5};
    size_t order = 0;
    for (size_t i = 0; i < ARRAY_COUNT(works); i++) {
        works[i] = (struct work){.place = p, .order = &order, .status = 1};
        works[i].job = (struct disk_job){.kind = DISK_JOB_WRITE,
                                         .done = on_work,
                                         .file = f,
                                         .offset = 5 * i,
                                         .iov = &iov,
                                         .iov_count = 1,
                                         .sync = true,
                                         .tail = i % 7 > 0};
        p->disk->ops->submit(p->disk, &works[i].job);
    }
    disk_uv_free(p->disk);
    assert_int_equal(order, ARRAY_COUNT(works));
    for (size_t i = 0; i < ARRAY_COUNT(works); i++) {
        assert_int_equal(works[i].status, 0);
        assert_int_equal(works[i].at, i + 1);
    }
    loop_drain(p->loop);
    loop_free(p->loop);
    place_open(p);
    struct disk_file *again = NULL;
    uint64_t bytes = 0;
    assert_int_equal(p->disk->ops->open(p->disk, "f", &again, &bytes), 0);
    expect(p, again, 90, "abcdeabcde\0", 11);
    p->disk->ops->close(p->disk, again);
    p->disk->ops->close(p->disk, f); /* a descriptor and its memory, nothing of the disk's */
}

/* A file size limit makes the kernel refuse a write half way. */
static void test_write_error(void **state) {
    struct place *p = *state;
    struct disk *d = p->disk;
    struct disk_file *f = create(p, "f", 4096);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit small = {.rlim_cur = 8192, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    uint8_t *bytes = xcalloc(1, 10000);
    struct work write = {.job = {.kind = DISK_JOB_WRITE,
                                 .file = f,
                                 .iov = &(struct iovec){bytes, 10000},
                                 .iov_count = 1,
                                 .sync = true}};
    struct work fill = {.job = {.kind = DISK_JOB_CREATE, .name = "g", .bytes = 10000}};
    work_run(p, &write, 1);
    work_run(p, &fill, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(write.status, -EFBIG);
    assert_int_equal(fill.status, -EFBIG);
    free(bytes);
    d->ops->close(d, f);
}

/* ---- the log on the real disk ---- */

struct logger {
    struct place *place;
    struct replica_log *log;
    struct log_append append;
    struct log_entry entry;
    uint64_t left;
    uint64_t seen;
};

static void on_appended(struct log_append *a, int status) {
    struct logger *g = CONTAINER_OF(a, struct logger, append);
    assert_int_equal(status, 0);
    if (--g->left == 0) {
        loop_stop(g->place->loop);
        return;
    }
    g->entry.index++;
    log_append(g->log, a);
}

static void on_entry(void *ctx, const struct log_entry *e) {
    struct logger *g = ctx;
    assert_int_equal(e->index, ++g->seen);
    assert_int_equal(e->body.size, 1000);
    assert_int_equal(e->body.data[500], 'b');
}

static void test_log_on_disk(void **state) {
    enum { COUNT = 400 };
    struct place *p = *state;
    struct logger g = {.place = p, .left = COUNT};
    struct log_open_info info;
    char error[256];
    uint8_t body[1000];
    memset(body, 'b', sizeof body);
    assert_int_equal(log_open(p->disk, 65536, on_entry, &g, &g.log, &info, error), 0);
    g.entry = (struct log_entry){.index = 1, .term = 1, .body = slice_of(body, sizeof body)};
    g.append = (struct log_append){.entries = &g.entry, .count = 1, .done = on_appended};
    log_append(g.log, &g.append);
    loop_run(p->loop);
    assert_int_equal(log_set_vote(g.log, &(struct log_vote){.term = 7, .voted_for = 3}), 0);
    log_close(g.log);
    place_close(p);

    place_open(p);
    int r = log_open(p->disk, 65536, on_entry, &g, &g.log, &info, error);
    if (r < 0)
        fail_msg("%s", error);
    assert_int_equal(info.last_index, COUNT);
    assert_int_equal(info.vote.term, 7);
    assert_int_equal(info.vote.voted_for, 3);
    assert_int_equal(info.cut_bytes, 0);
    assert_int_equal(g.seen, COUNT);
    log_close(g.log); /* with the making of a segment under way */
}

#define ALL(fn)                                                                                    \
    {"real: " #fn, fn, setup_real, teardown, NULL},                                                \
        {"threads: " #fn, fn, setup_threads, teardown, NULL}, {                                    \
        "memory: " #fn, fn, setup_memory, teardown, NULL                                           \
    }

int main(void) {
    const struct CMUnitTest tests[] = {
        ALL(test_create_rename_unlink),
        ALL(test_replace_load),
        ALL(test_sync_calls),
        ALL(test_jobs_in_order),
        ALL(test_tails),
        ALL(test_failure_is_final),
        cmocka_unit_test_setup_teardown(test_direct, setup_real, teardown),
        cmocka_unit_test_setup_teardown(test_end_with_writes_under_way, setup_real, teardown),
        cmocka_unit_test_setup_teardown(test_lock, setup_real, teardown),
        cmocka_unit_test_setup_teardown(test_write_error, setup_real, teardown),
        cmocka_unit_test_setup_teardown(test_log_on_disk, setup_real, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
