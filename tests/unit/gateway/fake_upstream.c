/* Stands in for gateway/upstream.c at link time: the same functions, on a store in this process.
 * Writes are executed when they are submitted, reads when they are answered. */
#include <stdio.h>
#include <unistd.h>

#include "base/reply.h"
#include "bench.h"
#include "store/commands.h"
#include "store/store.h"

enum { FAKE_PENDING_MAX = 4096 };

struct fake_request {
    struct upstream_request *req;
    struct buf reply; /* of a write */
    uint64_t index;
};

struct upstream {
    char dir[64];
    struct store *store;
    struct store_view *view;
    struct fake_request pending[FAKE_PENDING_MAX];
    size_t pending_count;
    size_t forgotten, flushes;
    uint64_t now_ms;
    bool not_ready;
};

uint64_t fake_upstream_changes_max;

struct upstream *fake_upstream_new(void) {
    struct upstream *up = xcalloc(1, sizeof *up);
    /* In memory where there is any: nothing here is about disks. */
    snprintf(up->dir, sizeof up->dir, "%s/test-gateway-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(up->dir));
    const struct store_options options = {.dir = up->dir,
                                          .map_bytes = 1ull << 30,
                                          .boot_id = "test",
                                          .changes_max = fake_upstream_changes_max};
    assert_int_equal(store_open(&options, &up->store), 0);
    assert_int_equal(store_view_new(up->store, &up->view), 0);
    up->now_ms = 1700000000000;
    return up;
}

void upstream_free(struct upstream *up) {
    assert_int_equal(up->pending_count, 0);
    store_view_free(up->view);
    assert_int_equal(store_close(up->store), 0);
    assert_int_equal(store_wipe(up->dir), 0);
    assert_int_equal(rmdir(up->dir), 0);
    free(up);
}

static void keep_reply(void *ctx, const struct session_id *session, uint64_t sequence,
                       enum store_status status, struct slice reply) {
    (void)session;
    (void)sequence;
    assert_int_equal(status, STORE_DONE);
    buf_append_slice(ctx, reply);
}

static void execute_write(struct upstream *up, struct fake_request *f) {
    struct buf commands = {0}, entry = {0};
    entry_append_command(&commands, 0, f->req->db, buf_slice(&f->req->packed_argv));
    const struct entry_group group = {.command_count = 1, .commands = buf_slice(&commands)};
    entry_begin(&entry, up->now_ms, 1);
    entry_append_group(&entry, &group);
    f->index = store_applied_index(up->store) + 1;
    assert_int_equal(store_begin(up->store), 0);
    assert_int_equal(store_apply(up->store, f->index, 1, buf_slice(&entry), keep_reply, &f->reply),
                     0);
    assert_int_equal(store_commit(up->store), 0);
    buf_fini(&commands);
    buf_fini(&entry);
}

static void status_reply(struct upstream *up, struct buf *out) {
    reply_map(out, 6);
    reply_bulk_str(out, "node");
    reply_int(out, 1);
    reply_bulk_str(out, "term");
    reply_int(out, 1);
    reply_bulk_str(out, "leader");
    reply_int(out, up->not_ready ? 0 : 1);
    reply_bulk_str(out, "ready");
    reply_bool(out, !up->not_ready);
    reply_bulk_str(out, "applied");
    reply_int(out, (int64_t)store_applied_index(up->store));
    reply_bulk_str(out, "members");
    reply_array(out, 1);
    reply_map(out, 2);
    reply_bulk_str(out, "id");
    reply_int(out, 1);
    reply_bulk_str(out, "role");
    reply_bulk_str(out, "voter");
}

static void execute_read(struct upstream *up, struct fake_request *f) {
    struct argv argv = {0};
    assert_true(argv_unpack(&argv, buf_slice(&f->req->packed_argv)));
    if (f->req->kind == UPSTREAM_ADMIN) {
        assert_true(slice_equal_str(argv.args[0], "NODE.STATUS"));
        status_reply(up, &f->reply);
    } else {
        assert_int_equal(store_view_begin(up->view), 0);
        f->index = store_view_applied_index(up->view);
        assert_int_equal(store_read(up->view, f->req->db, up->now_ms, 1, &argv, &f->reply), 0);
        store_view_end(up->view);
    }
    argv_fini(&argv);
}

void upstream_submit(struct upstream *up, struct upstream_request *req) {
    assert_true(up->pending_count < FAKE_PENDING_MAX);
    assert_non_null(req->done);
    assert_true(argv_check(buf_slice(&req->packed_argv)));
    struct fake_request *f = &up->pending[up->pending_count++];
    *f = (struct fake_request){.req = req};
    if (req->kind == UPSTREAM_WRITE && !req->late)
        execute_write(up, f);
}

static struct fake_request take(struct upstream *up, size_t i) {
    assert_true(i < up->pending_count);
    struct fake_request f = up->pending[i];
    up->pending_count--;
    memmove(&up->pending[i], &up->pending[i + 1], (up->pending_count - i) * sizeof f);
    return f;
}

void fake_upstream_answer(struct upstream *up, size_t i) {
    struct fake_request f = take(up, i);
    if (f.req->kind != UPSTREAM_WRITE)
        execute_read(up, &f);
    upstream_request_drop_argv(f.req);
    f.req->done(f.req, UPSTREAM_DONE, f.index, buf_slice(&f.reply));
    buf_fini(&f.reply);
}

void fake_upstream_answer_with(struct upstream *up, size_t i, enum upstream_outcome outcome,
                               const char *reply) {
    struct fake_request f = take(up, i);
    buf_fini(&f.reply);
    upstream_request_drop_argv(f.req);
    f.req->done(f.req, outcome, 0, slice_str(reply));
}

void fake_upstream_time_out(struct upstream *up, size_t i) {
    assert_true(i < up->pending_count);
    up->pending[i].req->timed_out = true;
    fake_upstream_answer_with(up, i, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE x\r\n");
}

bool fake_upstream_late(const struct upstream *up, size_t i) {
    assert_true(i < up->pending_count);
    return up->pending[i].req->late;
}

void upstream_forget(struct upstream *up, struct upstream_request *req) {
    for (size_t i = 0; i < up->pending_count; i++) {
        if (up->pending[i].req != req)
            continue;
        struct fake_request f = take(up, i);
        buf_fini(&f.reply);
        upstream_request_drop_argv(req);
        up->forgotten++;
        return;
    }
    fail_msg("forgot a request that is not under way");
}

void upstream_flush(struct upstream *up) {
    up->flushes++;
}

void upstream_get_status(const struct upstream *up, struct upstream_status *ret) {
    *ret = (struct upstream_status){.ready = !up->not_ready,
                                    .term = 1,
                                    .leader_id = up->not_ready ? 0 : 1,
                                    .links_up = 1,
                                    .pending_requests = up->pending_count};
}

void fake_upstream_pass(struct upstream *up, uint64_t ms) {
    up->now_ms += ms;
}

void fake_upstream_set_ready(struct upstream *up, bool ready) {
    up->not_ready = !ready;
}
size_t fake_upstream_pending(const struct upstream *up) {
    return up->pending_count;
}
size_t fake_upstream_next(const struct upstream *up) {
    for (size_t i = 0; i < up->pending_count; i++) {
        const struct upstream_request *req = up->pending[i].req;
        if (!req->poll || req->min_index <= store_applied_index(up->store))
            return i;
    }
    return SIZE_MAX;
}
enum upstream_kind fake_upstream_kind(const struct upstream *up, size_t i) {
    assert_true(i < up->pending_count);
    return up->pending[i].req->kind;
}
struct slice fake_upstream_name(const struct upstream *up, size_t i) {
    static struct argv argv;
    assert_true(i < up->pending_count);
    assert_true(argv_unpack(&argv, buf_slice(&up->pending[i].req->packed_argv)));
    return argv.args[0];
}
uint64_t fake_upstream_min_index(const struct upstream *up, size_t i) {
    assert_true(i < up->pending_count);
    return up->pending[i].req->min_index;
}
size_t fake_upstream_forgotten(const struct upstream *up) {
    return up->forgotten;
}
size_t fake_upstream_flushes(const struct upstream *up) {
    return up->flushes;
}

uint64_t upstream_sites_revision(const struct upstream *up) {
    return store_sites_revision(up->store);
}

bool upstream_cluster_id(const struct upstream *up, uint8_t ret_id[16]) {
    (void)up;
    memset(ret_id, 0xab, 16);
    return true;
}
