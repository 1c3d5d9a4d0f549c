/* Entries: what entry_check() lets through comes out of the encoders as the same bytes and can be
 * applied, twice with the same result; what it refuses leaves a store as it was. */
#include <errno.h>

#include "store_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rebuild(struct slice entry, struct buf *out) {
    struct entry_header header;
    struct slice in = entry;
    CHECK(entry_next_header(&in, &header));
    entry_begin(out, header.time_ms, header.seed);
    for (uint32_t g = 0; g < header.group_count; g++) {
        struct entry_group group, again;
        struct buf commands = {0};
        CHECK(entry_next_group(&in, &group));
        again = group;
        for (uint32_t c = 0; c < group.command_count; c++) {
            struct entry_command command;
            CHECK(entry_next_command(&group.commands, &command));
            entry_append_command(&commands, command.sequence, command.db, command.packed_argv);
        }
        again.commands = buf_slice(&commands);
        entry_append_group(out, &again);
        buf_fini(&commands);
    }
}

static void verify(struct store *s) {
    struct store_view *view;
    struct hash128 digest;
    CHECK(store_view_new(s, &view) == 0);
    CHECK(store_view_begin(view) == 0);
    CHECK(store_verify(view, &digest) == 0);
    CHECK(hash128_equal(digest, store_digest(s)));
    store_view_end(view);
    store_view_free(view);
}

/* Applies it twice (sessions see it again), in one transaction or in two. */
static int apply(struct slice entry, bool one_transaction, struct hash128 *ret_digest) {
    struct store *s = store_folder_open_new();
    int rc = 0;
    for (uint64_t index = 1; index <= 2 && rc == 0; index++) {
        if (index == 1 || !one_transaction)
            CHECK(store_begin(s) == 0);
        rc = store_apply(s, index, 1, entry, NULL, NULL);
        if (rc || index == 2 || !one_transaction) {
            int committed = store_commit(s);
            CHECK(committed == rc || committed == -ENOSPC);
            rc = committed;
        }
    }
    if (rc == 0) {
        verify(s);
        *ret_digest = store_digest(s);
    }
    store_abandon(s);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice entry = slice_of(data, size);
    struct hash128 one = {0}, two = {0};
    bool well_formed = entry_check(entry);
    if (well_formed) {
        struct buf out = {0};
        rebuild(entry, &out);
        CHECK(slice_equal(buf_slice(&out), entry));
        buf_fini(&out);
    }
    int rc = apply(entry, true, &one);
    CHECK(well_formed ? rc == 0 || rc == -ENOSPC : rc <= 0);
    CHECK(apply(entry, false, &two) == rc);
    CHECK(hash128_equal(one, two));
    return 0;
}
