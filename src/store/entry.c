#include "base/reader.h"
#include "store/store.h"

enum { ENTRY_FORMAT = 1, GROUP_COUNT_AT = 4 };

void entry_begin(struct buf *b, uint64_t time_ms, uint64_t seed) {
    buf_reset(b);
    buf_append_u32(b, ENTRY_FORMAT); /* the format version and three zeros */
    buf_append_u32(b, 0);
    buf_append_u64(b, time_ms);
    buf_append_u64(b, seed);
}

void entry_append_group(struct buf *b, const struct entry_group *group) {
    CHECK(b->size >= ENTRY_HEADER_BYTES);
    CHECK(group->commands.size <= UINT32_MAX);
    buf_append(b, group->session.bytes, sizeof group->session.bytes);
    buf_append_u64(b, group->acked_below);
    buf_append_u32(b, group->command_count);
    buf_append_lstr(b, group->commands);
    buf_patch_u32(b, GROUP_COUNT_AT, get_u32le(b->data + GROUP_COUNT_AT) + 1);
}

void entry_append_command(struct buf *commands, uint64_t sequence, uint16_t db,
                          struct slice packed_argv) {
    buf_append_u64(commands, sequence);
    buf_append_u16(commands, db);
    buf_append_lstr(commands, packed_argv);
}

static bool advance(struct slice *in, const struct reader *r) {
    if (!reader_ok(r))
        return false;
    *in = slice_of(r->at, reader_left(r));
    return true;
}

bool entry_next_header(struct slice *in, struct entry_header *ret_header) {
    struct reader r = reader_of(*in);
    uint32_t format = reader_u32(&r);
    uint32_t group_count = reader_u32(&r);
    uint64_t time_ms = reader_u64(&r);
    uint64_t seed = reader_u64(&r);
    if (format != ENTRY_FORMAT || !advance(in, &r))
        return false;
    *ret_header =
        (struct entry_header){.time_ms = time_ms, .seed = seed, .group_count = group_count};
    return true;
}

bool entry_next_group(struct slice *in, struct entry_group *ret_group) {
    struct reader r = reader_of(*in);
    struct slice session = reader_bytes(&r, sizeof ret_group->session.bytes);
    uint64_t acked_below = reader_u64(&r);
    uint32_t count = reader_u32(&r);
    struct slice commands = reader_lstr(&r);
    if (!advance(in, &r))
        return false;
    *ret_group = (struct entry_group){
        .acked_below = acked_below, .command_count = count, .commands = commands};
    memcpy(ret_group->session.bytes, session.data, session.size);
    return true;
}

bool entry_next_command(struct slice *in, struct entry_command *ret_command) {
    struct reader r = reader_of(*in);
    uint64_t sequence = reader_u64(&r);
    uint16_t db = reader_u16(&r);
    struct slice packed_argv = reader_lstr(&r);
    if (!advance(in, &r))
        return false;
    *ret_command =
        (struct entry_command){.sequence = sequence, .db = db, .packed_argv = packed_argv};
    return true;
}

bool entry_check(struct slice entry) {
    struct entry_header header;
    uint64_t commands = 0;
    if (!entry_next_header(&entry, &header))
        return false;
    for (uint32_t g = 0; g < header.group_count; g++) {
        struct entry_group group;
        if (!entry_next_group(&entry, &group))
            return false;
        commands += group.command_count;
        if (commands > ENTRY_COMMANDS_MAX)
            return false;
        for (uint32_t c = 0; c < group.command_count; c++) {
            struct entry_command command;
            if (!entry_next_command(&group.commands, &command) || !argv_check(command.packed_argv))
                return false;
        }
        if (group.commands.size > 0)
            return false;
    }
    return entry.size == 0;
}
