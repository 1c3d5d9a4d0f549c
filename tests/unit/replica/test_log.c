#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log_model.h"
#include "replica/log_format.h"

enum { SEGMENT_BYTES = 4096 };

static void open_good(struct model *m) {
    char error[256];
    int r = model_open(m, error);
    if (r < 0)
        fail_msg("log_open: %d: %s", r, error);
}

static void test_empty(void **state) {
    struct model m;
    struct disk *d = mem_disk_new(1);
    model_init(&m, 1, d, 0);
    open_good(&m);
    assert_int_equal(log_last_index(m.log), 0);
    assert_int_equal(log_bytes(m.log), 0);
    assert_false(log_append_pending(m.log));
    model_close(&m);
    open_good(&m);
    model_append_next(&m, 1);
    model_close(&m);
    open_good(&m);
    assert_int_equal(m.acked.last, 1);
    model_close(&m);
    model_fini(&m);
    mem_disk_free(d);
}

static void test_append_reopen(void **state) {
    struct model m;
    struct disk *d = mem_disk_new(2);
    model_init(&m, 2, d, SEGMENT_BYTES);
    open_good(&m);
    for (int i = 0; i < 200; i++) {
        model_append_next(&m, 1 + (size_t)i % 5);
        if (i % 17 == 0)
            mem_disk_run(d);
        if (i % 50 == 49) {
            model_close(&m);
            open_good(&m);
        }
    }
    model_close(&m);
    assert_int_equal(m.acks, 200);
    open_good(&m);
    assert_int_equal(m.torn, 0);
    model_close(&m);
    model_fini(&m);
    mem_disk_free(d);
}

static void count_name(void *ctx, const char *name) {
    size_t *counts = ctx;
    counts[strncmp(name, "spare-", 6) == 0 ? 0 : strstr(name, ".segment") ? 1 : 2]++;
}

/* Old segments are used again and the number of files stays small. */
static void test_recycling(void **state) {
    struct model m;
    struct disk *d = mem_disk_new(3);
    model_init(&m, 3, d, SEGMENT_BYTES);
    open_good(&m);
    for (int i = 0; i < 300; i++) {
        model_append_next(&m, 2);
        mem_disk_run(d);
        if (i % 20 == 19) {
            model_compact(&m, m.acked.last, m.acked.last + 1);
            mem_disk_run(d);
            size_t counts[3] = {0};
            assert_int_equal(d->ops->list(d, "log", count_name, counts), 0);
            assert_true(counts[0] <= LOG_SPARES_MAX);
            assert_true(counts[1] <= 2);
            assert_true(log_bytes(m.log) <= 3 * SEGMENT_BYTES);
        }
    }
    model_close(&m);
    open_good(&m);
    model_close(&m);
    model_fini(&m);
    mem_disk_free(d);
}

static void on_plain_done(struct log_append *a, int status) {
    assert_int_equal(status, 0);
    a->count = 0;
}

static void on_big_entry(void *ctx, const struct log_entry *e) {
    const size_t *sizes = ctx;
    assert_int_equal(e->body.size, sizes[e->index - 1]);
    for (size_t i = 0; i < e->body.size; i++)
        if (e->body.data[i] != (uint8_t)e->index)
            fail_msg("entry %llu differs at %zu", (unsigned long long)e->index, i);
}

/* Entries larger than a segment, all sizes around the limits, in the midst of small ones. */
static void test_large_entries(void **state) {
    static const size_t sizes[] = {10,
                                   5000,
                                   0,
                                   SEGMENT_BYTES,
                                   70000,
                                   1,
                                   4095,
                                   4096,
                                   4097,
                                   SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES - 56,
                                   SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES - 55,
                                   300000};
    struct disk *d = mem_disk_new(4);
    char error[256];
    struct replica_log *l = NULL;
    struct log_open_info info;
    uint8_t *bytes = xmalloc(300000);
    assert_int_equal(log_open(d, SEGMENT_BYTES, on_big_entry, (void *)sizes, &l, &info, error), 0);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        memset(bytes, (int)i + 1, sizes[i]);
        struct log_entry e = {.index = i + 1, .term = 1, .body = slice_of(bytes, sizes[i])};
        struct log_append a = {.entries = &e, .count = 1, .done = on_plain_done};
        log_append(l, &a);
        mem_disk_run(d);
        assert_int_equal(a.count, 0);
    }
    log_close(l);
    assert_int_equal(log_open(d, SEGMENT_BYTES, on_big_entry, (void *)sizes, &l, &info, error), 0);
    assert_int_equal(info.last_index, ARRAY_COUNT(sizes));
    assert_int_equal(info.first_index, 1);
    mem_disk_run(d);
    log_close(l);
    free(bytes);
    mem_disk_free(d);
}

/* Random histories with clean stops and crashes of all kinds. */
static void test_random_histories(void **state) {
    const char *env = getenv("TEST_SEEDS");
    uint64_t seeds = env ? strtoull(env, NULL, 10) : 200;
    const char *from = getenv("TEST_SEED_FROM");
    uint64_t first = from ? strtoull(from, NULL, 10) : 1;
    uint64_t acks = 0, cuts = 0, drops = 0, resets = 0, torn = 0, crashes = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        struct model *m = xmalloc(sizeof *m);
        struct disk *d = mem_disk_new(seed);
        model_init(m, seed, d, rand_below(&(struct rand){seed}, 3) ? SEGMENT_BYTES : 16384);
        if (seed % 2)
            m->next_id |= MODEL_ID_FIXED;
        for (int life = 0; life < 12; life++) {
            char error[256];
            int r = model_open(m, error);
            if (r < 0)
                fail_msg("seed %llu life %d: %s", (unsigned long long)seed, life, error);
            uint64_t operations = rand_below(&m->rand, 60);
            for (uint64_t i = 0; i < operations; i++)
                model_random(m);
            uint64_t end = rand_below(&m->rand, 4);
            if (end == 0)
                model_close(m);
            else
                model_crash(m, end == 1   ? MEM_DISK_KILL
                               : end == 2 ? MEM_DISK_POWER_CUT
                                          : (enum mem_disk_crash)rand_below(&m->rand, 3));
        }
        acks += m->acks, cuts += m->cuts, drops += m->drops, resets += m->resets;
        torn += m->torn, crashes += m->crashes;
        model_fini(m);
        free(m);
        mem_disk_free(d);
    }
    print_message("%llu acks, %llu cuts, %llu dropped, %llu resets, %llu torn in %llu crashes\n",
                  (unsigned long long)acks, (unsigned long long)cuts, (unsigned long long)drops,
                  (unsigned long long)resets, (unsigned long long)torn,
                  (unsigned long long)crashes);
    assert_true(acks > seeds * 10);
    assert_true(cuts > seeds);
    if (seeds >= 200) {
        assert_true(drops > 0);
        assert_true(resets > 0);
        assert_true(torn > 0);
    }
}

/* ---- failures at every step ---- */

/* Two lives of random operations, up to the first error. */
static void live_twice(struct model *m) {
    char error[256];
    for (int life = 0; life < 2; life++) {
        if (model_open(m, error) < 0)
            return;
        for (int i = 0; i < 50 && !m->error; i++)
            model_random(m);
        mem_disk_run(m->disk);
        /* A failure that hit no operation of ours shows at the next append. */
        if (!m->error)
            model_append_next(m, 1);
        mem_disk_run(m->disk);
        for (size_t i = 0; i < m->pending_count; i++)
            assert_true(m->pending[i]->done);
        if (m->error) {
            struct log_vote vote = {.term = m->vote_tried.term + 1};
            struct log_base base = m->base_tried;
            assert_true(log_set_vote(m->log, &vote) < 0);
            assert_true(log_reset(m->log, &base) < 0);
            return;
        }
        model_close(m);
    }
}

static void fail_at_every_step(uint64_t seed, int error, enum mem_disk_crash how) {
    uint64_t total = 1;
    for (uint64_t n = 0; n <= total; n++) {
        struct model *m = xmalloc(sizeof *m);
        struct disk *d = mem_disk_new(seed + (error ? 0 : n * 1000));
        model_init(m, seed, d, SEGMENT_BYTES);
        if (seed % 2)
            m->next_id |= MODEL_ID_FIXED;
        mem_disk_fail_at(d, n, error);
        live_twice(m);
        if (n == 0)
            total = mem_disk_ops(d);
        model_crash(m, how);
        for (int i = 0; i < 2; i++) {
            char text[256];
            if (model_open(m, text) < 0)
                fail_msg("seed %llu step %llu: %s", (unsigned long long)seed, (unsigned long long)n,
                         text);
            model_append_next(m, 1 + n % 3);
            model_close(m);
        }
        model_fini(m);
        free(m);
        mem_disk_free(d);
    }
    assert_true(total > 100);
}

static void test_power_cut_at_every_step(void **state) {
    for (uint64_t seed = 1; seed <= 6; seed++)
        fail_at_every_step(seed, 0, seed % 3 ? MEM_DISK_POWER_CUT : MEM_DISK_ALL_LOST);
}

static void test_error_at_every_step(void **state) {
    for (uint64_t seed = 1; seed <= 4; seed++)
        fail_at_every_step(seed, seed % 2 ? -EIO : -ENOSPC,
                           seed < 3 ? MEM_DISK_POWER_CUT : MEM_DISK_KILL);
}

/* ---- damage ---- */

static struct disk *copy_of(struct model *m) {
    return mem_disk_clone(m->disk, 99);
}

/* Opens the model's log on another disk; the model stays as it is. */
static int open_other(struct model *m, struct disk *d, char error[256]) {
    struct model *other = xmemdup(m, sizeof *m);
    other->disk = d;
    other->pending_count = 0;
    other->error = 0;
    uint64_t ops = mem_disk_ops(d);
    int r = model_open(other, error);
    if (r == 0)
        model_close(other);
    else
        assert_int_equal(mem_disk_ops(d), ops); /* refused, and nothing changed */
    assert_int_equal(mem_disk_open_files(d), 0);
    free(other);
    return r;
}

struct files {
    char names[32][32];
    size_t count;
};

static void on_file(void *ctx, const char *name) {
    struct files *f = ctx;
    snprintf(f->names[f->count++], sizeof f->names[0], "log/%s", name);
}

static void make_log(struct model *m, uint64_t seed, int operations) {
    model_init(m, seed, mem_disk_new(seed), SEGMENT_BYTES);
    open_good(m);
    for (int i = 0; i < operations; i++) {
        model_append_next(m, 1 + (size_t)i % 3);
        if (i % 4 == 0)
            mem_disk_run(m->disk);
        if (i == operations / 2)
            model_append(m, model_last(m) - 1, 2);
    }
    model_vote(m);
    model_compact(m, 3, 2);
}

/* After a clean stop no bit of the stream can change unnoticed, and no bit at all with effect. */
static void test_bit_flips(void **state) {
    struct model m;
    char error[256];
    make_log(&m, 5, 14);
    model_close(&m);
    struct files files = {.count = 0};
    assert_int_equal(m.disk->ops->list(m.disk, "log", on_file, &files), 0);
    size_t refused = 0, harmless = 0;
    struct rand rand = {.state = 1};
    for (size_t i = 0; i < files.count; i++) {
        struct slice s = mem_disk_get(m.disk, files.names[i]);
        uint8_t *bytes = xmemdup(s.data, s.size);
        size_t used = 0;
        if (strstr(files.names[i], ".segment"))
            for (size_t k = 0; k < s.size; k++)
                if (s.data[k])
                    used = k + 1;
        for (size_t k = 0; k < s.size; k += k < used || k < 80 ? 1 : 61) {
            struct disk *d = copy_of(&m);
            uint8_t bit = (uint8_t)(1u << rand_below(&rand, 8));
            bytes[k] ^= bit;
            mem_disk_set(d, files.names[i], slice_of(bytes, s.size));
            bytes[k] ^= bit;
            int r = open_other(&m, d, error);
            assert_true(r == 0 || r == -EBADMSG);
            if (k < used && r == 0)
                fail_msg("%s: a flip at %zu was not noticed", files.names[i], k);
            refused += r < 0;
            harmless += r == 0;
            if (r < 0)
                assert_non_null(strstr(error, "log/"));
            mem_disk_free(d);
        }
        free(bytes);
    }
    assert_true(refused > 1000);
    assert_true(harmless > 100);
    model_fini(&m);
    mem_disk_free(m.disk);
}

static void flip(struct disk *d, const char *name, size_t at) {
    struct slice s = mem_disk_get(d, name);
    assert_true(at < s.size);
    uint8_t *bytes = xmemdup(s.data, s.size);
    bytes[at] ^= 0x10;
    mem_disk_set(d, name, slice_of(bytes, s.size));
    free(bytes);
}

/* Without a clean stop only the last record may be cut, for it may never have been flushed. */
static void test_damage_or_torn_tail(void **state) {
    struct model m;
    char error[256];
    model_init(&m, 6, mem_disk_new(6), 65536);
    m.next_id |= MODEL_ID_FIXED;
    open_good(&m);
    for (int i = 0; i < 10; i++) {
        model_append_next(&m, 1);
        mem_disk_run(m.disk);
    }
    model_crash(&m, MEM_DISK_ALL_LOST);
    const size_t record = 256; /* 56 + 200 */
    for (size_t i = 0; i < 10; i++) {
        for (size_t at = 0; at < record; at += 5) {
            struct disk *d = copy_of(&m);
            flip(d, "log/0000000001.segment", LOG_SEGMENT_HEAD_BYTES + i * record + at);
            if (i < 9) {
                char place[64];
                assert_int_equal(open_other(&m, d, error), -EBADMSG);
                snprintf(place, sizeof place, "log/0000000001.segment, offset %zu:",
                         LOG_SEGMENT_HEAD_BYTES + i * record);
                if (!strstr(error, place))
                    fail_msg("%s lacks: %s", error, place);
            } else {
                struct model *less = xmemdup(&m, sizeof m);
                less->acked.last = 9;
                assert_int_equal(open_other(less, d, error), 0);
                free(less);
            }
            mem_disk_free(d);
        }
    }
    model_fini(&m);
    mem_disk_free(m.disk);
}

static void expect_refusal(struct model *m, struct disk *d, const char *text) {
    char error[256];
    assert_int_equal(open_other(m, d, error), -EBADMSG);
    if (!strstr(error, text))
        fail_msg("\"%s\" lacks \"%s\"", error, text);
    mem_disk_free(d);
}

static void test_missing_and_foreign_files(void **state) {
    struct model m, other;
    make_log(&m, 7, 60);
    model_close(&m);
    make_log(&other, 8, 60);
    model_close(&other);
    static const char first[] = "log/0000000001.segment", second[] = "log/0000000002.segment",
                      third[] = "log/0000000003.segment";
    struct disk *d = copy_of(&m);
    mem_disk_remove(d, second);
    expect_refusal(&m, d, "log/0000000002.segment is missing");
    d = copy_of(&m);
    for (int i = 1; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "log/%010d.segment", i);
        mem_disk_remove(d, name);
    }
    expect_refusal(&m, d, "log/0000000001.segment is missing");
    d = copy_of(&m);
    mem_disk_remove(d, first);
    expect_refusal(&m, d, "log/0000000001.segment is missing");
    d = copy_of(&m);
    for (int i = 2; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "log/%010d.segment", i);
        mem_disk_remove(d, name);
    }
    expect_refusal(&m, d, "log/0000000002.segment is missing: log/base, offset 0, shows");
    d = copy_of(&m);
    mem_disk_remove(d, "log/base");
    expect_refusal(&m, d, "log/base is missing");
    d = copy_of(&m);
    mem_disk_remove(d, "log/vote");
    expect_refusal(&m, d, "log/vote is missing");
    d = copy_of(&m);
    mem_disk_set(d, second, mem_disk_get(other.disk, second));
    expect_refusal(&m, d, "log/0000000002.segment, offset 8: a segment of another log");
    d = copy_of(&m);
    mem_disk_set(d, "log/vote", mem_disk_get(other.disk, "log/vote"));
    expect_refusal(&m, d, "two different logs");
    d = copy_of(&m);
    mem_disk_set(d, "log/base", slice_str("index=7\n"));
    expect_refusal(&m, d, "log/base, offset 0: both copies");
    d = copy_of(&m);
    mem_disk_set(d, second, mem_disk_get(m.disk, third));
    expect_refusal(&m, d, "under a wrong name");
    d = copy_of(&m);
    mem_disk_set(d, third, mem_disk_get(m.disk, second));
    expect_refusal(&m, d, "damaged: the log was on the disk further than this");
    d = copy_of(&m);
    mem_disk_set(d, second, slice_str(""));
    expect_refusal(&m, d, "log/0000000002.segment, offset 0: the file is truncated");
    for (size_t bytes = 60; bytes < SEGMENT_BYTES; bytes += 501) {
        d = copy_of(&m);
        mem_disk_set(d, second, slice_of(mem_disk_get(m.disk, second).data, bytes));
        expect_refusal(&m, d, "the file is truncated");
    }
    uint8_t text[SEGMENT_BYTES];
    memset(text, 'x', sizeof text);
    d = copy_of(&m);
    mem_disk_set(d, second, slice_of(text, sizeof text));
    expect_refusal(&m, d, "log/0000000002.segment, offset 0: not a log segment");
    memset(text, 0, sizeof text);
    d = copy_of(&m);
    mem_disk_set(d, second, slice_of(text, sizeof text));
    expect_refusal(&m, d, "log/0000000002.segment, offset 0: damaged");
    /* An older copy of the small file beside newer segments. */
    d = copy_of(&m);
    struct slice base = mem_disk_get(m.disk, "log/base");
    uint8_t *old_base = xmemdup(base.data, base.size);
    open_good(&m);
    for (int i = 0; i < 3; i++)
        model_append_next(&m, 3);
    model_close(&m);
    mem_disk_free(d);
    d = copy_of(&m);
    mem_disk_set(d, "log/base", slice_of(old_base, base.size));
    expect_refusal(&m, d, "an older copy?");
    free(old_base);
    /* Files that are nobody's are left alone. */
    d = copy_of(&m);
    mem_disk_set(d, "log/README", slice_str("hello"));
    mem_disk_set(d, "log/0000000002.segment.bak", slice_str("hello"));
    char error[256];
    assert_int_equal(open_other(&m, d, error), 0);
    assert_int_equal(mem_disk_get(d, "log/README").size, 5);
    mem_disk_free(d);
    model_fini(&m);
    model_fini(&other);
    mem_disk_free(m.disk);
    mem_disk_free(other.disk);
}

/* Either copy of the vote is enough, and a damaged one is made good. */
static void test_vote_copies(void **state) {
    struct model m;
    model_init(&m, 9, mem_disk_new(9), SEGMENT_BYTES);
    open_good(&m);
    for (int i = 0; i < 20; i++)
        model_vote(&m);
    model_close(&m);
    for (int i = 0; i < 10; i++) {
        flip(m.disk, "log/vote", (i % 2 ? LOG_SLOT_PITCH : 0) + 24);
        flip(m.disk, "log/base", (i % 2 ? 0 : LOG_SLOT_PITCH) + 40);
        open_good(&m); /* judges the vote */
        model_vote(&m);
        model_close(&m);
    }
    flip(m.disk, "log/vote", 24);
    flip(m.disk, "log/vote", LOG_SLOT_PITCH + 24);
    expect_refusal(&m, copy_of(&m), "log/vote, offset 0: both copies");
    model_fini(&m);
    mem_disk_free(m.disk);
}

/* A record that survived behind a torn one must not come back when the torn one is written anew. */
static void test_no_resurrection(void **state) {
    uint64_t torn = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct model m;
        model_init(&m, seed, mem_disk_new(seed), 65536);
        m.next_id |= MODEL_ID_FIXED;
        open_good(&m);
        model_append_next(&m, 1);
        mem_disk_run(m.disk);
        for (int life = 0; life < 4; life++) {
            for (int i = 0; i < 6; i++)
                model_append_next(&m, 1);
            model_crash(&m, MEM_DISK_POWER_CUT);
            open_good(&m);
        }
        torn += m.torn;
        model_append_next(&m, 1);
        model_close(&m);
        open_good(&m);
        model_close(&m);
        model_fini(&m);
        mem_disk_free(m.disk);
    }
    assert_true(torn > 50);
}

static void run_line(struct disk *d) {
    while (mem_disk_step_line(d))
        ;
}

/* The making of the next segment hangs and a new leader's entries wait for it, while the snapshot
 * that covers them is durable already: after a crash the old tail belongs to no log any more. */
static void test_snapshot_ahead_of_conflict(void **state) {
    for (int ahead = 0; ahead < 2; ahead++) {
        struct model m;
        model_init(&m, 11, mem_disk_new(11), SEGMENT_BYTES);
        m.next_id |= MODEL_ID_FIXED; /* 15 records to a segment */
        open_good(&m);
        mem_disk_run(m.disk); /* segment 1 is ready */
        for (int i = 0; i < 15; i++)
            model_append_next(&m, 1);
        run_line(m.disk);
        assert_int_equal(m.acked.last, 15);
        model_append(&m, ahead ? 16 : 12, 2);
        run_line(m.disk);
        assert_true(log_append_pending(m.log));
        model_compact(&m, ahead ? 17 : 12, 2);
        run_line(m.disk);
        assert_int_equal(m.compactions, 0);
        model_crash(&m, MEM_DISK_ALL_LOST);
        open_good(&m);
        assert_int_equal(m.drops, 1);
        assert_int_equal(m.acked.last, ahead ? 17 : 12);
        model_append_next(&m, 3);
        model_close(&m);
        open_good(&m);
        assert_int_equal(m.keep_from, ahead ? 18 : 13);
        model_close(&m);
        model_fini(&m);
        mem_disk_free(m.disk);
    }
}

/* A segment begun beyond a torn end must be gone before the stream grows past that end again. */
static void test_begun_beyond_torn_end(void **state) {
    uint64_t torn = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct model m;
        model_init(&m, seed, mem_disk_new(seed), SEGMENT_BYTES);
        m.next_id |= MODEL_ID_FIXED;
        open_good(&m);
        for (int i = 0; i < 13; i++)
            model_append_next(&m, 1);
        mem_disk_run(m.disk);
        for (int i = 0; i < 4; i++)
            model_append_next(&m, 1);
        model_crash(&m, MEM_DISK_POWER_CUT);
        open_good(&m);
        torn += m.torn;
        for (int i = 0; i < 2; i++)
            model_append_next(&m, 1);
        run_line(m.disk); /* in segment 1 as far as there is room: no other is made */
        model_crash(&m, MEM_DISK_ALL_LOST);
        open_good(&m);
        model_close(&m);
        model_fini(&m);
        mem_disk_free(m.disk);
    }
    assert_true(torn > 20);
}

/* Segments that the base has declared dead go at the next start, if a crash was faster. */
static void test_dead_segments_go(void **state) {
    struct model m;
    make_log(&m, 12, 60);
    mem_disk_run(m.disk);
    model_compact(&m, m.acked.last, m.acked.last + 1);
    mem_disk_step_line(m.disk);
    mem_disk_step_line(m.disk); /* both copies of the base, but no segment yet */
    assert_non_null(mem_disk_get(m.disk, "log/0000000001.segment").data);
    model_crash(&m, MEM_DISK_ALL_LOST);
    assert_non_null(mem_disk_get(m.disk, "log/0000000001.segment").data);
    open_good(&m);
    assert_null(mem_disk_get(m.disk, "log/0000000001.segment").data);
    assert_null(mem_disk_get(m.disk, "log/0000000002.segment").data);
    model_close(&m);
    model_fini(&m);
    mem_disk_free(m.disk);
}

/* What was superseded again and again does not hold its segments, before a restart or after. */
static void test_superseded_segments_go(void **state) {
    for (int reopen = 0; reopen < 2; reopen++) {
        struct model m;
        model_init(&m, 13, mem_disk_new(13), SEGMENT_BYTES);
        m.next_id |= MODEL_ID_FIXED;
        open_good(&m);
        for (int i = 0; i < 100; i++) {
            model_append(&m, model_last(&m) < 5 ? model_last(&m) + 1 : 5, 4);
            mem_disk_run(m.disk);
        }
        assert_int_equal(m.acked.last, 8);
        assert_true(log_bytes(m.log) > 20 * SEGMENT_BYTES);
        if (reopen) {
            model_close(&m);
            open_good(&m);
        }
        model_compact(&m, 4, 5);
        mem_disk_run(m.disk);
        assert_true(log_bytes(m.log) <= 2 * SEGMENT_BYTES);
        model_close(&m);
        open_good(&m);
        assert_int_equal(m.acked.last, 8);
        model_close(&m);
        model_fini(&m);
        mem_disk_free(m.disk);
    }
}

/* A segment of the same log and number, but of a history that went another way. */
static void test_forked_copy(void **state) {
    struct model m;
    make_log(&m, 14, 10);
    model_close(&m);
    struct model *fork = xmemdup(&m, sizeof m);
    fork->disk = copy_of(&m);
    fork->next_id += 1000;
    struct model *both[2] = {&m, fork};
    for (int i = 0; i < 2; i++) {
        open_good(both[i]);
        both[i]->next_id |= MODEL_ID_FIXED;
        for (int k = 0; k < 60; k++)
            model_append_next(both[i], 1);
        model_close(both[i]);
    }
    size_t swapped = 0;
    for (unsigned i = 1; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "log/%010u.segment", i);
        struct slice ours = mem_disk_get(m.disk, name), theirs = mem_disk_get(fork->disk, name);
        if (!ours.data || !theirs.data || slice_equal(ours, theirs))
            continue;
        struct disk *d = copy_of(&m);
        mem_disk_set(d, name, theirs);
        expect_refusal(&m, d, "does not follow");
        swapped++;
    }
    assert_true(swapped > 2);
    mem_disk_free(fork->disk);
    model_fini(fork);
    free(fork);
    model_fini(&m);
    mem_disk_free(m.disk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_append_reopen),
        cmocka_unit_test(test_recycling),
        cmocka_unit_test(test_large_entries),
        cmocka_unit_test(test_random_histories),
        cmocka_unit_test(test_power_cut_at_every_step),
        cmocka_unit_test(test_error_at_every_step),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_damage_or_torn_tail),
        cmocka_unit_test(test_missing_and_foreign_files),
        cmocka_unit_test(test_vote_copies),
        cmocka_unit_test(test_no_resurrection),
        cmocka_unit_test(test_snapshot_ahead_of_conflict),
        cmocka_unit_test(test_begun_beyond_torn_end),
        cmocka_unit_test(test_dead_segments_go),
        cmocka_unit_test(test_superseded_segments_go),
        cmocka_unit_test(test_forked_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
