/* Snapshot files and their descriptors: whatever the bytes, verifying says yes or -EBADMSG; what it
 * says yes to can be installed and read. */
#include <errno.h>
#include <fcntl.h>

#include "store_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void descriptor(struct slice in) {
    struct store_snapshot info;
    struct buf out = {0};
    if (store_snapshot_decode(in, &info)) {
        store_snapshot_encode(&info, &out);
        CHECK(slice_equal(buf_slice(&out), in));
    }
    buf_fini(&out);
}

static void open_installed(const struct store_snapshot *info) {
    struct store_options options = {
        .dir = store_folder, .map_bytes = 256 << 20, .boot_id = "another"};
    struct store *s;
    struct store_view *view;
    struct hash128 digest;
    CHECK(store_open(&options, &s) == STORE_OPENED);
    CHECK(store_applied_index(s) == info->index);
    CHECK(hash128_equal(store_digest(s), info->digest));
    CHECK(store_view_new(s, &view) == 0);
    CHECK(store_view_begin(view) == 0);
    CHECK(store_verify(view, &digest) == 0);
    store_view_end(view);
    store_view_free(view);
    store_abandon(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[128];
    struct store_snapshot info;
    descriptor(slice_of(data, size));
    store_abandon(store_folder_open_new());
    snprintf(path, sizeof path, "%s/file", store_folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, data, size) == (ssize_t)size);
    close(fd);
    int rc = store_snapshot_verify(path, NULL, &info);
    CHECK(rc == 0 || rc == -EBADMSG);
    if (rc == 0)
        CHECK(store_snapshot_verify(path, &info, &info) == 0);
    CHECK(store_snapshot_install(path, store_folder, "another") == rc);
    if (rc == 0)
        open_installed(&info);
    return 0;
}
