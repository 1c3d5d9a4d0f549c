/* Looking at a closed store: a good one passes, one with a changed byte does not, and what passes
 * can be opened, read and written whatever was changed. */
#include "kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rand.h"
#include "store/check.h"
#include "store/store_impl.h"

enum { PAGE = 4096 };

static struct kit kit;
static char data_path[128];
static struct store_check good;

/* Trees with branches, large values, free pages: whatever LMDB has. */
static void fill(void) {
    struct kit_group group = {.session = kit_session(1),
                              .sequence = 1,
                              .commands = {"SESSION.OPEN", "SET s 1 PX 100000", "INCR s"}};
    kit_apply(&kit, &group, 1);
    struct buf value = {0};
    kit_fill(&value, 300 * 1024, 2);
    for (int round = 0; round < 3; round++) {
        struct keyspace *ks = kit_begin(&kit);
        for (int i = 0; i < 1000; i++) {
            char key[16], text[64];
            snprintf(key, sizeof key, "key%d", i);
            snprintf(text, sizeof text, "value %d of round %d, of some length", i, round);
            assert_int_equal(
                keyspace_put_string(ks, 1, S(key), S(text), S(""), i % 7 ? 0 : 9000000), 0);
        }
        assert_int_equal(keyspace_put_string(ks, 0, S("big"), buf_slice(&value), S("x/y"), 0), 0);
        for (int i = 0; i < 50; i++) {
            bool added;
            char field[16];
            snprintf(field, sizeof field, "f%d", i);
            assert_int_equal(
                keyspace_member_put(ks, 0, S("h"), S(field), slice_of(value.data, 300), &added), 0);
        }
        kit_commit(&kit);
    }
    assert_int_equal(store_begin(kit.store), 0);
    assert_int_equal(
        store_apply_other(kit.store, store_applied_index(kit.store) + 1, 2, S("members")), 0);
    assert_int_equal(store_commit(kit.store), 0);
    buf_fini(&value);
}

static int setup(void **state) {
    kit_open(&kit);
    snprintf(data_path, sizeof data_path, "%s/data.mdb", kit.store_dir);
    fill();
    struct hash128 digest = store_digest(kit.store);
    uint64_t index = store_applied_index(kit.store);
    assert_int_equal(store_close(kit.store), 0);
    kit.store = NULL;
    assert_int_equal(store_check_folder(kit.store_dir, kit.boot_id, NULL, NULL, &good), 0);
    assert_string_equal(good.problem, "");
    assert_same_digest(good.digest, digest);
    assert_int_equal(good.index, index);
    assert_int_equal(good.membership_index, index);
    assert_int_equal(good.keys, 1003);
    assert_int_equal(good.sessions, 1);
    return 0;
}

static int teardown(void **state) {
    kit_reopen(&kit);
    kit_close(&kit);
    return 0;
}

static int check(struct store_check *ret) {
    return store_check_folder(kit.store_dir, kit.boot_id, NULL, NULL, ret);
}

static uint8_t change_byte(uint64_t offset, uint8_t value) {
    uint8_t old;
    int fd = open(data_path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &old, 1, (off_t)offset), 1);
    assert_int_equal(pwrite(fd, &value, 1, (off_t)offset), 1);
    close(fd);
    return old;
}

/* How far the file is in use: LMDB may have made it larger. */
static uint64_t used_bytes(void) {
    uint64_t last[2];
    int fd = open(data_path, O_RDONLY);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pread(fd, &last[i], 8, i * PAGE + 16 + 24 + 96), 8);
    close(fd);
    return ((last[0] > last[1] ? last[0] : last[1]) + 1) * PAGE;
}

static void changed_bytes_are_noticed_or_do_not_matter(void **state) {
    struct rand rand = {.state = 7};
    uint64_t bytes = used_bytes();
    int noticed = 0, rounds = 600;
    for (int i = 0; i < rounds; i++) {
        struct store_check c;
        uint64_t offset = rand_below(&rand, bytes);
        if (i % 3 == 0) /* heads of pages and of files more often */
            offset = offset / PAGE * PAGE + rand_below(&rand, i % 2 ? 32 : 176);
        uint8_t mask = (uint8_t)(1u << rand_below(&rand, 8));
        uint8_t old = change_byte(offset, 0);
        change_byte(offset, old ^ mask);
        int rc = check(&c);
        if (rc) {
            assert_true(rc == -EBADMSG || rc == -EPROTONOSUPPORT);
            assert_true(strstr(c.problem, "data.mdb") != NULL);
            noticed++;
        } else {
            assert_same_digest(c.digest, good.digest);
            assert_int_equal(c.index, good.index);
        }
        change_byte(offset, old);
    }
    assert_true(noticed > rounds / 5); /* much of the file is free */
    struct store_check c;
    assert_int_equal(check(&c), 0);
}

static void the_place_is_named(void **state) {
    struct store_check c;
    char want[64];
    /* The first key of some leaf: the record is read, and does not fit. */
    uint8_t page[PAGE];
    int fd = open(data_path, O_RDONLY);
    uint64_t offset = 0;
    for (uint64_t at = 2 * PAGE; !offset && at < used_bytes(); at += PAGE) {
        assert_int_equal(pread(fd, page, PAGE, (off_t)at), PAGE);
        uint8_t *found = memmem(page, PAGE, " of round 2", 11);
        if (found)
            offset = at + (uint64_t)(found - page);
    }
    close(fd);
    assert_true(offset > 0);
    uint8_t old = change_byte(offset, 'X');
    int rc = check(&c);
    change_byte(offset, old);
    if (rc == 0)
        skip(); /* a page that is free now */
    assert_int_equal(rc, -EBADMSG);
    /* A page's number: the page is named. */
    old = change_byte(2 * PAGE, 0xee);
    rc = check(&c);
    change_byte(2 * PAGE, old);
    snprintf(want, sizeof want, "data.mdb, offset %d:", 2 * PAGE);
    if (rc)
        assert_true(strstr(c.problem, want) != NULL);
}

static void a_shorter_file(void **state) {
    struct store_check c;
    uint64_t bytes = used_bytes();
    assert_int_equal(truncate(data_path, (off_t)bytes / 2), 0);
    assert_int_equal(check(&c), -EBADMSG);
    assert_int_equal(truncate(data_path, 100), 0);
    assert_int_equal(check(&c), -EBADMSG);
    assert_int_equal(truncate(data_path, 0), 0);
    assert_int_equal(check(&c), -EBADMSG);
    assert_int_equal(unlink(data_path), 0);
    assert_int_equal(check(&c), STORE_CHECK_NONE);
}

static void the_mark_decides_first(void **state) {
    struct store_check c;
    char mark[160];
    snprintf(mark, sizeof mark, "%s/store.mark", kit.store_dir);
    assert_int_equal(store_check_folder(kit.store_dir, "later boot", NULL, NULL, &c), 0);
    assert_int_equal(unlink(mark), 0);
    assert_int_equal(check(&c), STORE_CHECK_UNTRUSTED);
    assert_int_equal(truncate(data_path, 0), 0);
    assert_int_equal(unlink(data_path), 0);
}

static void snapshots(void **state) {
    struct store_snapshot info;
    struct store_check c;
    char path[128];
    kit_reopen(&kit);
    snprintf(path, sizeof path, "%s/snapshot", kit.dir);
    assert_int_equal(store_snapshot_write(kit.store, path, &info), 0);
    assert_int_equal(store_check_snapshot(path, &info, NULL, NULL, &c), 0);
    assert_same_digest(c.digest, good.digest);
    assert_int_equal(c.file_bytes, info.file_bytes);
    assert_int_equal(truncate(path, (off_t)info.file_bytes - 1), 0);
    assert_int_equal(store_check_snapshot(path, NULL, NULL, NULL, &c), -EBADMSG);
    assert_true(strstr(c.problem, "snapshot") != NULL);
    assert_int_equal(store_close(kit.store), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(changed_bytes_are_noticed_or_do_not_matter, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_place_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_shorter_file, setup, teardown),
        cmocka_unit_test_setup_teardown(the_mark_decides_first, setup, teardown),
        cmocka_unit_test_setup_teardown(snapshots, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
