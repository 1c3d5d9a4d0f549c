/* Link frames: whatever decodes must come out of the encoders as the same bytes. */
#include <stdlib.h>

#include "base/reply.h"
#include "proto/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_argv(struct slice packed) {
    struct argv a = {0};
    CHECK(argv_unpack(&a, packed));
    argv_fini(&a);
}

static bool rebuild_writes(struct slice payload, struct buf *out) {
    struct link_writes w;
    struct link_batch batch;
    if (!link_decode_writes(payload, &w))
        return false;
    link_open_writes(out, &batch, w.session, w.acked_below);
    for (uint32_t i = 0; i < w.count; i++) {
        struct link_write one;
        CHECK(link_next_write(&w.commands, &one));
        check_argv(one.packed_argv);
        link_add_write(out, &batch, &one);
    }
    CHECK(w.commands.size == 0);
    link_close(out, &batch);
    return true;
}

static bool rebuild_reads(struct slice payload, struct buf *out) {
    uint32_t count;
    struct link_batch batch;
    if (!link_decode_count(&payload, &count))
        return false;
    link_open_reads(out, &batch);
    while (count--) {
        struct link_read one;
        if (!link_next_read(&payload, &one))
            return false;
        check_argv(one.packed_argv);
        link_add_read(out, &batch, &one);
    }
    link_close(out, &batch);
    return payload.size == 0;
}

static bool rebuild_replies(struct slice payload, struct buf *out) {
    uint32_t count;
    struct link_batch batch;
    if (!link_decode_count(&payload, &count))
        return false;
    link_open_replies(out, &batch);
    while (count--) {
        struct link_reply one;
        if (!link_next_reply(&payload, &one))
            return false;
        CHECK(one.reply.size == 0 || reply_skip(&(struct slice){one.reply.data, one.reply.size}));
        link_add_reply(out, &batch, &one);
    }
    link_close(out, &batch);
    return payload.size == 0;
}

static bool rebuild_topology(struct slice payload, struct buf *out) {
    struct link_topology t;
    struct link_batch batch;
    if (!link_decode_topology(payload, &t))
        return false;
    link_open_topology(out, &batch, t.term, t.leader_id);
    for (uint32_t i = 0; i < t.count; i++) {
        struct link_member m;
        CHECK(link_next_member(&t.members, &m));
        link_add_member(out, &batch, &m);
    }
    CHECK(t.members.size == 0);
    link_close(out, &batch);
    return true;
}

/* Decodes a payload and builds its frame anew. False: malformed. */
static bool rebuild(uint8_t type, struct slice payload, struct buf *out) {
    struct link_hello hello;
    struct link_node_hello node_hello;
    struct link_admin admin;
    struct link_read_index ask;
    struct link_read_indexed answer;
    uint64_t id;
    switch (type) {
    case LINK_HELLO:
        if (!link_decode_hello(payload, &hello))
            return false;
        link_put_hello(out, &hello);
        return true;
    case LINK_NODE_HELLO:
        if (!link_decode_node_hello(payload, &node_hello))
            return false;
        link_put_node_hello(out, &node_hello);
        return true;
    case LINK_ADMIN:
        if (!link_decode_admin(payload, &admin))
            return false;
        link_put_admin(out, &admin);
        return true;
    case LINK_READ_INDEX:
        if (!link_decode_read_index(payload, &ask))
            return false;
        link_put_read_index(out, &ask);
        return true;
    case LINK_READ_INDEXED:
        if (!link_decode_read_indexed(payload, &answer))
            return false;
        link_put_read_indexed(out, &answer);
        return true;
    case LINK_PING:
    case LINK_PONG:
        if (!link_decode_ping(payload, &id))
            return false;
        link_put_ping(out, (enum link_frame_type)type, id);
        return true;
    case LINK_WRITES:
        return rebuild_writes(payload, out);
    case LINK_READS:
        return rebuild_reads(payload, out);
    case LINK_REPLIES:
        return rebuild_replies(payload, out);
    case LINK_TOPOLOGY:
        return rebuild_topology(payload, out);
    default:
        return false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice in = slice_of(data, size), payload;
    struct buf out = {0};
    uint8_t type;
    size_t need;
    for (;;) {
        const uint8_t *frame = in.data;
        enum link_take r = link_take_frame(&in, &type, &payload, &need);
        if (r == LINK_TAKE_MORE)
            CHECK(need == 0 ? in.size < 4 : need > in.size);
        if (r != LINK_TAKE_FRAME)
            break;
        size_t frame_bytes = (size_t)(in.data - frame);
        CHECK(frame_bytes == need);
        CHECK(payload.size + LINK_FRAME_HEADER_BYTES == frame_bytes);
        buf_reset(&out);
        if (rebuild(type, payload, &out))
            CHECK(slice_equal(buf_slice(&out), slice_of(frame, frame_bytes)));
    }
    buf_fini(&out);
    return 0;
}
