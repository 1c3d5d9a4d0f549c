#include "kit.h"

#include <stdlib.h>

#include "base/bytes.h"

static void build(struct buf *entry) {
    struct kit k = {.time_ms = 123456789, .seed = 42};
    struct kit_group groups[] = {
        {.session = kit_session(1),
         .acked_below = 3,
         .sequence = 5,
         .commands = {"SET a 1", "GET b"}},
        {.session = kit_session(0), .commands = {NULL}},
        {.session = kit_session(2), .acked_below = 1, .sequence = 1, .commands = {"SESSION.OPEN"}},
    };
    kit_entry(&k, entry, groups, ARRAY_COUNT(groups));
}

static void round_trip(void **state) {
    struct buf entry = {0};
    struct entry_header header;
    struct entry_group group;
    struct entry_command command;
    struct argv argv = {0};
    build(&entry);
    struct slice in = buf_slice(&entry);
    assert_true(entry_next_header(&in, &header));
    assert_int_equal(header.time_ms, 123456789);
    assert_int_equal(header.seed, 42);
    assert_int_equal(header.group_count, 3);

    assert_true(entry_next_group(&in, &group));
    struct session_id want = kit_session(1);
    assert_memory_equal(&group.session, &want, sizeof want);
    assert_int_equal(group.acked_below, 3);
    assert_int_equal(group.command_count, 2);
    assert_true(entry_next_command(&group.commands, &command));
    assert_int_equal(command.sequence, 5);
    assert_int_equal(command.db, 0);
    assert_true(argv_unpack(&argv, command.packed_argv));
    assert_int_equal(argv.count, 3);
    assert_bytes(argv.args[2], S("1"));
    assert_true(entry_next_command(&group.commands, &command));
    assert_int_equal(command.sequence, 6);
    assert_int_equal(group.commands.size, 0);
    assert_false(entry_next_command(&group.commands, &command));

    assert_true(entry_next_group(&in, &group));
    assert_int_equal(group.command_count, 0);
    assert_true(entry_next_group(&in, &group));
    assert_int_equal(group.command_count, 1);
    assert_int_equal(in.size, 0);
    assert_false(entry_next_group(&in, &group));
    argv_fini(&argv);
    buf_fini(&entry);
}

/* A group is laid out as the link protocol has it, byte for byte. */
static void layout(void **state) {
    static const uint8_t want[] = {
        1, 0, 0, 0, 1, 0, 0, 0, 2,   0,   0,   0,   0,  0, 0, 0,
        3, 0, 0, 0, 0, 0, 0, 0,                                  /* header */
        7, 7, 7, 7, 7, 7, 7, 7, 7,   7,   7,   7,   7,  7, 7, 7, /* session */
        9, 0, 0, 0, 0, 0, 0, 0, 1,   0,   0,   0,   26, 0, 0, 0, /* acked, count, bytes */
        8, 0, 0, 0, 0, 0, 0, 0, 0,   0,   12,  0,   0,  0,       /* sequence, db, size */
        1, 0, 0, 0, 4, 0, 0, 0, 'P', 'I', 'N', 'G',
    };
    struct kit k = {.time_ms = 2, .seed = 3};
    struct buf entry = {0};
    struct kit_group group = {
        .session = kit_session(7), .acked_below = 9, .sequence = 8, .commands = {"PING"}};
    kit_entry(&k, &entry, &group, 1);
    assert_bytes(buf_slice(&entry), slice_of(want, sizeof want));
    buf_fini(&entry);
}

static void every_prefix_is_refused(void **state) {
    struct buf entry = {0};
    build(&entry);
    for (size_t n = 0; n < entry.size; n++) {
        uint8_t *exact = xmalloc(n ? n : 1); /* so that a read past the end is seen */
        memcpy(exact, entry.data, n);
        assert_false(entry_check(slice_of(exact, n)));
        free(exact);
    }
    buf_append_u8(&entry, 0);
    assert_false(entry_check(buf_slice(&entry)));
    buf_fini(&entry);
}

static void wrong_fields_are_refused(void **state) {
    struct buf entry = {0};
    static const size_t counts_and_sizes[] = {
        0,                                /* format version */
        1,                                /* its zeros */
        4,                                /* group count */
        ENTRY_HEADER_BYTES + 24,          /* command count */
        ENTRY_HEADER_BYTES + 28,          /* bytes of the commands */
        ENTRY_HEADER_BYTES + 32 + 10,     /* size of a command */
        ENTRY_HEADER_BYTES + 32 + 14,     /* argument count */
        ENTRY_HEADER_BYTES + 32 + 14 + 4, /* size of an argument */
    };
    static const int changes[] = {-1, 1, 100};
    for (size_t i = 0; i < ARRAY_COUNT(counts_and_sizes); i++) {
        for (size_t c = 0; c < ARRAY_COUNT(changes); c++) {
            build(&entry);
            entry.data[counts_and_sizes[i]] =
                (uint8_t)(entry.data[counts_and_sizes[i]] + changes[c]);
            assert_false(entry_check(buf_slice(&entry)));
        }
        build(&entry);
        entry.data[counts_and_sizes[i] + 3] = 0xff;
        assert_false(entry_check(buf_slice(&entry)));
    }
    buf_fini(&entry);
}

static void more_commands_than_a_revision_can_tell_apart(void **state) {
    struct buf entry = {0}, commands = {0}, ping = {0};
    argv_append_strs(&ping, "PING", NULL);
    struct entry_group group = {.command_count = ENTRY_COMMANDS_MAX / 2 + 1};
    for (uint32_t i = 0; i < group.command_count; i++)
        entry_append_command(&commands, i, 0, buf_slice(&ping));
    group.commands = buf_slice(&commands);
    entry_begin(&entry, 1, 1);
    entry_append_group(&entry, &group);
    assert_true(entry_check(buf_slice(&entry)));
    entry_append_group(&entry, &group);
    assert_false(entry_check(buf_slice(&entry)));
    buf_fini(&entry);
    buf_fini(&commands);
    buf_fini(&ping);
}

/* What entry_check() lets through can be applied; what it refuses, store_apply() refuses. */
static void apply_agrees_with_check(void **state) {
    struct buf entry = {0};
    build(&entry);
    for (size_t at = 0; at < entry.size; at += 3) {
        struct kit k;
        kit_open(&k);
        build(&entry);
        entry.data[at] ^= 0x41;
        bool well_formed = entry_check(buf_slice(&entry));
        assert_int_equal(store_begin(k.store), 0);
        int rc = store_apply(k.store, 1, 1, buf_slice(&entry), NULL, NULL);
        if (well_formed) {
            assert_int_equal(rc, 0);
            assert_int_equal(store_commit(k.store), 0);
            kit_verify(&k);
        } else if (rc != 0) {
            /* Nothing of it stays, and the store goes no further. */
            assert_int_equal(rc, -EBADMSG);
            assert_int_equal(store_apply(k.store, 2, 1, buf_slice(&entry), NULL, NULL), -EBADMSG);
            assert_int_equal(store_commit(k.store), -EBADMSG);
            assert_int_equal(store_begin(k.store), -EBADMSG);
            store_abandon(k.store);
            kit_reopen(&k);
            assert_int_equal(store_applied_index(k.store), 0);
            assert_int_equal(store_key_count(k.store), 0);
            kit_verify(&k);
        } else {
            store_abandon(k.store); /* a malformed argument list of a command that never ran */
            k.store = NULL;
        }
        kit_close(&k);
    }
    buf_fini(&entry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(layout),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(wrong_fields_are_refused),
        cmocka_unit_test(more_commands_than_a_revision_can_tell_apart),
        cmocka_unit_test(apply_agrees_with_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
