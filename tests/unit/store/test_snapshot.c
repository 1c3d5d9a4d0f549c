#include "kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rand.h"
#include "store/record.h"
#include "store/store_impl.h"

static struct kit kit;
static char path[128];

static int setup(void **state) {
    kit_open(&kit);
    snprintf(path, sizeof path, "%s/snapshot", kit.dir);
    return 0;
}

static int teardown(void **state) {
    kit_close(&kit);
    return 0;
}

static void fill(void) {
    struct kit_group group = {
        .session = kit_session(3),
        .sequence = 1,
        .commands = {"SESSION.OPEN", "SET a 1", "SET b 2 PX 100000", "HSET h x 1 y 2"}};
    kit_apply(&kit, &group, 1);
    struct keyspace *ks = kit_begin(&kit);
    struct buf value = {0};
    kit_fill(&value, 2 * 1024 * 1024 + 5, 1);
    assert_int_equal(keyspace_put_string(ks, 2, S("big"), buf_slice(&value), S("x/y"), 0), 0);
    for (int i = 0; i < 2000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%d", i);
        assert_int_equal(keyspace_put_string(ks, 1, S(key), S(key), S(""), 0), 0);
    }
    kit_commit(&kit);
    assert_int_equal(store_begin(kit.store), 0);
    assert_int_equal(
        store_apply_other(kit.store, store_applied_index(kit.store) + 1, 2, S("members")), 0);
    assert_int_equal(store_commit(kit.store), 0);
    buf_fini(&value);
}

static void assert_same_info(const struct store_snapshot *a, const struct store_snapshot *b) {
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->term, b->term);
    assert_same_digest(a->digest, b->digest);
    assert_int_equal(a->file_bytes, b->file_bytes);
    assert_same_digest(a->file_hash, b->file_hash);
    assert_int_equal(a->membership_index, b->membership_index);
}

/* The file's hash as the header describes it, computed another way. */
static void assert_file_hash(const struct store_snapshot *info) {
    struct buf file = {0}, hashes = {0};
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, buf_reserve(&file, info->file_bytes), info->file_bytes),
                     info->file_bytes);
    close(fd);
    file.size = info->file_bytes;
    for (size_t at = 0; at < file.size; at += 1 << 20) {
        size_t n = file.size - at < 1 << 20 ? file.size - at : 1 << 20;
        struct hash128 h = hash128(slice_of(file.data + at, n));
        buf_append_u64(&hashes, h.low);
        buf_append_u64(&hashes, h.high);
    }
    assert_true(hashes.size > 32); /* several pieces */
    assert_same_digest(hash128(buf_slice(&hashes)), info->file_hash);
    buf_fini(&file);
    buf_fini(&hashes);
}

static void write_verify_install(void **state) {
    struct store_snapshot info, found;
    struct stat st;
    fill();
    struct hash128 digest = kit_digest(&kit);
    uint64_t index = store_applied_index(kit.store), at;
    assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(info.file_bytes, st.st_size);
    assert_int_equal(info.index, index);
    assert_int_equal(info.term, 2);
    assert_int_equal(info.membership_index, index);
    assert_same_digest(info.digest, digest);
    assert_file_hash(&info);
    assert_int_equal(store_snapshot_verify(path, &info, &found), 0);
    assert_same_info(&info, &found);
    assert_int_equal(store_snapshot_verify(path, NULL, &found), 0);
    assert_same_info(&info, &found);

    /* What comes afterwards is not in it. */
    kit_run(&kit, "SET a changed");
    kit_run(&kit, "FLUSHALL");
    store_abandon(kit.store);
    kit.boot_id = "boot-2"; /* installing makes it trusted, whatever was there */
    assert_int_equal(store_snapshot_install(path, kit.store_dir, kit.boot_id), 0);
    kit_reopen(&kit);
    assert_int_equal(store_applied_index(kit.store), index);
    assert_same_digest(kit_digest(&kit), digest);
    assert_bytes(store_membership(kit.store, &at), S("members"));
    assert_int_equal(store_session_count(kit.store), 1);
    kit_verify(&kit);
    assert_bytes(kit_run(&kit, "GET a"), S("$1\r\n1\r\n"));
    struct kit_group group = {
        .session = kit_session(3), .sequence = 3, .commands = {"SET b 2 PX 100000", "HLEN h"}};
    kit_apply(&kit, &group, 1);
    assert_replies(&kit, "+OK\r\n:2\r\n"); /* the second is stored: HSET's reply */
    kit_verify(&kit);
    /* And it goes on from there: a snapshot of the installed state is written over the first. */
    assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
    assert_int_equal(store_snapshot_verify(path, &info, &found), 0);
    assert_same_digest(info.digest, kit_digest(&kit));
}

static void empty_store(void **state) {
    struct store_snapshot info, found;
    assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
    assert_int_equal(info.index, 0);
    assert_int_equal(store_snapshot_verify(path, &info, &found), 0);
    store_abandon(kit.store);
    assert_int_equal(store_wipe(kit.store_dir), 0);
    assert_int_equal(rmdir(kit.store_dir), 0);
    assert_int_equal(store_snapshot_install(path, kit.store_dir, kit.boot_id), 0);
    kit_reopen(&kit);
    kit_verify(&kit);
}

static void other_descriptor(void **state) {
    struct store_snapshot info, wrong, found;
    fill();
    assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
    wrong = info;
    wrong.index++;
    assert_int_equal(store_snapshot_verify(path, &wrong, &found), -EBADMSG);
    wrong = info;
    wrong.term++;
    assert_int_equal(store_snapshot_verify(path, &wrong, &found), -EBADMSG);
    wrong = info;
    wrong.digest.low++;
    assert_int_equal(store_snapshot_verify(path, &wrong, &found), -EBADMSG);
    wrong = info;
    wrong.file_hash.high++;
    assert_int_equal(store_snapshot_verify(path, &wrong, &found), -EBADMSG);
    wrong = info;
    wrong.file_bytes--;
    assert_int_equal(store_snapshot_verify(path, &wrong, &found), -EBADMSG);
    wrong = info;
    wrong.membership_index++;
    assert_int_equal(store_snapshot_verify(path, &wrong, &found), -EBADMSG);
    assert_int_equal(store_snapshot_verify("/nonexistent/x", NULL, &found), -ENOENT);
    assert_int_equal(store_snapshot_verify(kit.dir, NULL, &found), -EBADMSG);
}

static void flip(uint64_t at, int bit) {
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= (uint8_t)(1 << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

static void flipped_bits(void **state) {
    enum { TRAILER = 116, FLIPS = 60 };
    struct store_snapshot info, found;
    struct rand r = {.state = 11};
    kit_run(&kit, "SET a 1");
    kit_run(&kit, "HSET h x 1");
    assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
    for (int i = 0; i < FLIPS + TRAILER; i++) {
        uint64_t at = i < FLIPS ? rand_below(&r, info.file_bytes)
                                : info.file_bytes - TRAILER + (uint64_t)(i - FLIPS);
        int bit = (int)rand_below(&r, 8);
        flip(at, bit);
        assert_int_equal(store_snapshot_verify(path, NULL, &found), -EBADMSG);
        assert_int_equal(store_snapshot_verify(path, &info, &found), -EBADMSG);
        flip(at, bit);
    }
    assert_int_equal(store_snapshot_verify(path, &info, &found), 0);

    /* A damaged file is not installed, and what was there stays as it was. */
    flip(info.file_bytes / 2, 0);
    store_abandon(kit.store);
    assert_int_equal(store_snapshot_install(path, kit.store_dir, kit.boot_id), -EBADMSG);
    kit_reopen(&kit);
    kit_verify(&kit);
    assert_int_equal(store_key_count(kit.store), 2);
}

static void cut_files(void **state) {
    struct store_snapshot info, found;
    kit_run(&kit, "SET a 1");
    assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
    static const uint64_t less[] = {1, 115, 116, 117, 4096, 8192};
    for (size_t i = 0; i < ARRAY_COUNT(less); i++) {
        assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
        assert_int_equal(truncate(path, (off_t)(info.file_bytes - less[i])), 0);
        assert_int_equal(store_snapshot_verify(path, NULL, &found), -EBADMSG);
    }
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(store_snapshot_verify(path, NULL, &found), -EBADMSG);
}

static void descriptor(void **state) {
    struct store_snapshot info = {.index = 1,
                                  .term = 2,
                                  .digest = {3, 4},
                                  .file_bytes = 5,
                                  .file_hash = {6, 7},
                                  .membership_index = 8};
    struct store_snapshot found;
    struct buf b = {0};
    store_snapshot_encode(&info, &b);
    assert_true(store_snapshot_decode(buf_slice(&b), &found));
    assert_same_info(&info, &found);
    for (size_t n = 0; n < b.size; n++)
        assert_false(store_snapshot_decode(slice_of(b.data, n), &found));
    b.data[0]++;
    assert_false(store_snapshot_decode(buf_slice(&b), &found));
    b.data[0]--;
    buf_append_u8(&b, 0);
    assert_false(store_snapshot_decode(buf_slice(&b), &found));
    buf_fini(&b);
}

struct writer {
    bool stop; /* atomic */
    int written;
};

static void *write_snapshots(void *arg) {
    struct writer *w = arg;
    char other[128];
    snprintf(other, sizeof other, "%s/concurrent", kit.dir);
    do {
        struct store_snapshot info, found;
        if (store_snapshot_write(kit.store, other, &info) == 0 &&
            store_snapshot_verify(other, &info, &found) == 0)
            w->written++;
        else
            w->written = -1000;
    } while (!__atomic_load_n(&w->stop, __ATOMIC_SEQ_CST));
    return NULL;
}

/* Copies made while the writer is at work are whole, and so is what is installed from one. */
static void beside_the_writer(void **state) {
    struct writer w = {0};
    pthread_t thread;
    char command[64], other[128];
    snprintf(other, sizeof other, "%s/concurrent", kit.dir);
    assert_int_equal(pthread_create(&thread, NULL, write_snapshots, &w), 0);
    for (int i = 0; i < 600; i++) {
        snprintf(command, sizeof command, "SETRANGE key%d %d x", i % 40, i * 17);
        kit_run(&kit, command);
        snprintf(command, sizeof command, "HSET hash%d field%d %d", i % 5, i, i);
        kit_run(&kit, command);
    }
    __atomic_store_n(&w.stop, true, __ATOMIC_SEQ_CST);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(w.written > 0);
    kit_verify(&kit);
    store_abandon(kit.store);
    assert_int_equal(store_snapshot_install(other, kit.store_dir, kit.boot_id), 0);
    kit_reopen(&kit);
    kit_verify(&kit);
}

/* What a restored backup begins with: the data of the old cluster, and nothing of its sessions.
 */
static void refounded(void **state) {
    fill();
    uint64_t index = store_applied_index(kit.store) + 1000, found;
    uint64_t keys = store_key_count(kit.store);
    assert_int_equal(store_session_count(kit.store), 1);
    assert_int_equal(store_refound(kit.store, index, 7, S("we alone")), 0);
    assert_int_equal(store_close(kit.store), 0);
    kit_reopen(&kit);
    kit_verify(&kit);
    assert_int_equal(store_applied_index(kit.store), index);
    assert_int_equal(store_applied_term(kit.store), 7);
    assert_int_equal(store_session_count(kit.store), 0);
    assert_int_equal(store_key_count(kit.store), keys);
    assert_bytes(store_membership(kit.store, &found), S("we alone"));
    assert_int_equal(found, index);
    assert_bytes(kit_run(&kit, "INCR a"), S(":2\r\n"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(write_verify_install), TEST(empty_store), TEST(other_descriptor),
        TEST(flipped_bits),         TEST(cut_files),   TEST(descriptor),
        TEST(beside_the_writer),    TEST(refounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
