/* Arbitrary bytes as the segment files of a log (src/replica/log_open.c and log_walk.c).
 *
 * The first byte of the input chooses: bit 0: put right the marks and checksums, so that what is
 * behind them is reached; bit 1: make the file as long as its head says; bit 2: the second half is
 * a second segment. Whatever log_open() makes of it, log_check() must have said before, and a log
 * that it accepts must take an append and be found again with it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "mem_disk.h"
#include "replica/log.h"
#include "replica/log_format.h"

enum { SEGMENT_BYTES = 4096, STARTS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t first;
    uint64_t count;
    uint64_t sum; /* so that a sanitizer sees each byte used */
};

static void on_entry(void *ctx, const struct log_entry *e) {
    struct seen *s = ctx;
    if (s->count == 0)
        s->first = e->index;
    CHECK(e->index == s->first + s->count);
    s->count++;
    s->sum += hash64(e->body, 0);
}

static struct replica_log *open_log(struct disk *d, struct seen *s, struct log_open_info *info) {
    struct replica_log *l = NULL;
    char error[256] = "";
    *s = (struct seen){0};
    if (log_open(d, SEGMENT_BYTES, on_entry, s, &l, info, error) < 0) {
        CHECK(error[0] != 0);
        return NULL;
    }
    CHECK(info->last_index + 1 - info->first_index == s->count);
    mem_disk_run(d);
    return l;
}

/* A log without entries that was started a few times. */
static struct disk *make_template(void) {
    struct disk *d = mem_disk_new(1);
    struct seen s;
    struct log_open_info info;
    for (int i = 0; i < STARTS; i++)
        log_close(open_log(d, &s, &info));
    mem_disk_remove(d, "log/0000000001.segment");
    return d;
}

static void put_right(uint8_t *at, size_t size, uint64_t mark) {
    if (size < LOG_SEGMENT_HEAD_BYTES)
        return;
    put_u64le(at + 8, mark);
    put_u32le(at + 60, crc32c(0, slice_of(at, 60)));
    size_t offset = LOG_SEGMENT_HEAD_BYTES;
    while (size - offset >= LOG_RECORD_HEAD_BYTES) {
        uint8_t *head = at + offset;
        uint64_t bytes = log_record_bytes(get_u32le(head + 8));
        put_u64le(head, mark);
        if (bytes <= size - offset)
            put_u32le(head + 12,
                      log_body_crc(slice_of(head + LOG_RECORD_HEAD_BYTES, get_u32le(head + 8))));
        put_u32le(head + 52, crc32c(0, slice_of(head, 52)));
        if (bytes > size - offset)
            break;
        offset += bytes;
    }
}

static void put_segment(struct disk *d, unsigned number, const uint8_t *data, size_t size,
                        unsigned choice) {
    size_t bytes = size;
    if (choice & 2)
        bytes = size < SEGMENT_BYTES ? SEGMENT_BYTES : size + size % 8;
    uint8_t *copy = xcalloc(1, bytes + 1);
    if (size > 0)
        memcpy(copy, data, size);
    if (choice & 2)
        put_u64le(copy + 24, bytes);
    if (choice & 1)
        put_right(copy, bytes, d->salt);
    char name[32];
    snprintf(name, sizeof name, "log/%010u.segment", number);
    mem_disk_set(d, name, slice_of(copy, bytes));
    free(copy);
}

static void on_done(struct log_append *a, int status) {
    CHECK(status == 0);
    a->count = 0;
}

static void append_and_find(struct disk *d, struct replica_log *l, struct log_open_info *info) {
    struct log_entry e = {
        .index = info->last_index + 1, .term = 9, .type = 2, .body = slice_str("one more")};
    struct log_append a = {.entries = &e, .count = 1, .done = on_done};
    log_append(l, &a);
    mem_disk_run(d);
    CHECK(a.count == 0);
    log_close(l);
    struct seen s;
    struct log_open_info again;
    l = open_log(d, &s, &again);
    CHECK(l != NULL);
    CHECK(again.last_index == info->last_index + 1);
    CHECK(again.first_index == info->first_index);
    CHECK(again.cut_bytes == 0);
    log_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct disk *template;
    if (!template)
        template = make_template();
    if (size == 0)
        return 0;
    unsigned choice = data[0];
    data++;
    size--;
    struct disk *d = mem_disk_clone(template, 1);
    size_t first = choice & 4 ? size / 2 : size;
    put_segment(d, 1, data, first, choice);
    if (choice & 4)
        put_segment(d, 2, data + first, size - first, choice);
    struct seen s;
    struct log_open_info info, checked = {0};
    char error[256] = "";
    uint64_t ops = mem_disk_ops(d);
    int verdict = log_check(d, &checked, error);
    CHECK(mem_disk_ops(d) == ops);
    CHECK((verdict < 0) == (error[0] != 0));
    struct replica_log *l = open_log(d, &s, &info);
    CHECK((l != NULL) == (verdict == 0));
    if (l)
        CHECK(info.first_index == checked.first_index);
    if (l)
        CHECK(info.last_index == checked.last_index);
    if (l && info.last_index < UINT64_MAX - 1)
        append_and_find(d, l, &info);
    else
        log_close(l);
    CHECK(mem_disk_open_files(d) == 0);
    mem_disk_free(d);
    return 0;
}
