#include "kit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rand.h"
#include "store/store_impl.h"

enum { MAP_BYTES = 1 << 30 };

void kit_reopen(struct kit *k) {
    struct store_options options = {
        .dir = k->store_dir,
        .map_bytes = MAP_BYTES,
        .max_data_bytes = k->max_data_bytes,
        .boot_id = k->boot_id,
    };
    assert_int_equal(store_open(&options, &k->store), STORE_OPENED);
}

void kit_open(struct kit *k) {
    *k = (struct kit){.boot_id = "boot-1", .time_ms = 1000000, .seed = 7};
    const char *tmp = getenv("TMPDIR");
    snprintf(k->dir, sizeof k->dir, "%s/store-test-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(k->dir));
    snprintf(k->store_dir, sizeof k->store_dir, "%s/store", k->dir);
    kit_reopen(k);
}

void kit_remove(const char *dir) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        struct stat st;
        if (e->d_name[0] == '.' && (e->d_name[1] == 0 || e->d_name[1] == '.'))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        assert_int_equal(lstat(path, &st), 0);
        if (S_ISDIR(st.st_mode))
            kit_remove(path);
        else
            assert_int_equal(unlink(path), 0);
    }
    closedir(d);
    assert_int_equal(rmdir(dir), 0);
}

void kit_close(struct kit *k) {
    if (k->store)
        store_abandon(k->store);
    buf_fini(&k->replies);
    kit_remove(k->dir);
}

void kit_fill(struct buf *b, size_t size, uint64_t seed) {
    struct rand r = {.state = seed};
    buf_reset(b);
    while (b->size < size)
        buf_append_u64(b, rand_u64(&r));
    b->size = size;
}

struct session_id kit_session(unsigned n) {
    struct session_id id = {{0}};
    if (n)
        memset(id.bytes, (int)n, sizeof id.bytes);
    return id;
}

static void append_command(struct buf *commands, uint64_t sequence, const char *text) {
    struct slice args[32];
    size_t count = 0;
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, " ");
        assert_true(count < ARRAY_COUNT(args));
        args[count++] = slice_of(at, n);
        at += n + (at[n] == ' ');
    }
    struct buf packed = {0};
    argv_append(&packed, args, count);
    entry_append_command(commands, sequence, 0, buf_slice(&packed));
    buf_fini(&packed);
}

void kit_entry(struct kit *k, struct buf *ret_entry, const struct kit_group *groups, size_t count) {
    struct buf commands = {0};
    entry_begin(ret_entry, k->time_ms, k->seed);
    for (size_t g = 0; g < count; g++) {
        struct entry_group group = {.session = groups[g].session,
                                    .acked_below = groups[g].acked_below};
        buf_reset(&commands);
        for (; groups[g].commands[group.command_count]; group.command_count++)
            append_command(&commands, groups[g].sequence + group.command_count,
                           groups[g].commands[group.command_count]);
        group.commands = buf_slice(&commands);
        entry_append_group(ret_entry, &group);
    }
    assert_true(entry_check(buf_slice(ret_entry)));
    buf_fini(&commands);
}

static void on_reply(void *ctx, const struct session_id *session, uint64_t sequence,
                     enum store_status status, struct slice reply) {
    struct kit *k = ctx;
    k->reply_count++;
    k->last_status = status;
    if (status == STORE_SESSION_GONE)
        buf_append_str(&k->replies, "gone\r\n");
    buf_append_slice(&k->replies, reply);
}

static uint64_t kit_term(const struct kit *k) {
    uint64_t term = store_applied_term(k->store);
    return term ? term : 1;
}

void kit_apply(struct kit *k, const struct kit_group *groups, size_t count) {
    struct buf entry = {0};
    bool alone = !k->store->txn.handle;
    kit_entry(k, &entry, groups, count);
    buf_reset(&k->replies);
    k->reply_count = 0;
    if (alone)
        assert_int_equal(store_begin(k->store), 0);
    assert_int_equal(store_apply(k->store, store_applied_index(k->store) + 1, kit_term(k),
                                 buf_slice(&entry), on_reply, k),
                     0);
    if (alone)
        assert_int_equal(store_commit(k->store), 0);
    buf_fini(&entry);
}

struct slice kit_run(struct kit *k, const char *command) {
    struct kit_group group = {.commands = {command}};
    kit_apply(k, &group, 1);
    assert_int_equal(k->reply_count, 1);
    return buf_slice(&k->replies);
}

struct keyspace *kit_begin(struct kit *k) {
    struct store *s = k->store;
    assert_int_equal(store_begin(s), 0);
    assert_int_equal(
        store_apply_other(s, store_applied_index(s) + 1, kit_term(k), slice_of(NULL, 0)), 0);
    if (k->time_ms > s->state.time_ms)
        s->state.time_ms = k->time_ms;
    s->ks.now_ms = s->state.time_ms;
    s->ks.revision = s->state.applied_index << 20;
    return &s->ks;
}

void kit_step(struct kit *k) {
    k->store->ks.revision++;
}

void kit_commit(struct kit *k) {
    assert_int_equal(store_commit(k->store), 0);
}

void kit_verify(struct kit *k) {
    struct store_view *view;
    struct hash128 digest;
    assert_int_equal(store_view_new(k->store, &view), 0);
    assert_int_equal(store_view_begin(view), 0);
    assert_int_equal(store_verify(view, &digest), 0);
    assert_same_digest(digest, store_digest(k->store));
    store_view_end(view);
    store_view_free(view);
}

struct hash128 kit_digest(const struct kit *k) {
    return store_digest(k->store);
}
