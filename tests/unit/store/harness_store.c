#include <stdio.h>
#include <unistd.h>

#include "harness.h"
#include "store/store.h"

struct backend {
    char dir[64];
    struct store *store;
    struct store_view *view;
};

struct backend *backend_new(void) {
    struct backend *b = xcalloc(1, sizeof *b);
    strcpy(b->dir, "/tmp/test-cmd-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    const struct store_options options = {
        .dir = b->dir, .map_bytes = 1ull << 30, .boot_id = "test"};
    assert_int_equal(store_open(&options, &b->store), 0);
    assert_int_equal(store_view_new(b->store, &b->view), 0);
    return b;
}

void backend_free(struct backend *b) {
    store_view_free(b->view);
    assert_int_equal(store_close(b->store), 0);
    assert_int_equal(store_wipe(b->dir), 0);
    assert_int_equal(rmdir(b->dir), 0);
    free(b);
}

static void keep_reply(void *ctx, const struct session_id *session, uint64_t sequence,
                       enum store_status status, struct slice reply) {
    assert_int_equal(status, STORE_DONE);
    buf_append_slice(ctx, reply);
}

static void apply(struct backend *b, struct harness *h, struct buf *out) {
    struct buf commands = {0}, entry = {0};
    entry_append_command(&commands, 0, h->db, buf_slice(&h->packed));
    const struct entry_group group = {.command_count = 1, .commands = buf_slice(&commands)};
    entry_begin(&entry, h->now_ms, h->count);
    entry_append_group(&entry, &group);
    assert_int_equal(store_begin(b->store), 0);
    assert_int_equal(store_apply(b->store, store_applied_index(b->store) + 1, 1, buf_slice(&entry),
                                 keep_reply, out),
                     0);
    assert_int_equal(store_commit(b->store), 0);
    buf_fini(&commands);
    buf_fini(&entry);
}

void backend_run(struct backend *b, struct harness *h, bool view, struct buf *out) {
    if (!view) {
        apply(b, h, out);
        return;
    }
    assert_int_equal(store_view_begin(b->view), 0);
    assert_int_equal(store_read(b->view, h->db, h->now_ms, h->count, &h->argv, out), 0);
    store_view_end(b->view);
}

/* Recomputed from all records, and compared with what the store has kept up. */
struct hash128 backend_digest(struct backend *b) {
    struct hash128 digest;
    assert_int_equal(store_view_begin(b->view), 0);
    assert_int_equal(store_verify(b->view, &digest), 0);
    store_view_end(b->view);
    return digest;
}
