/* Frames between nodes: whatever decodes must encode again, to something that decodes to the same
 * bytes, and a membership in it must be one that the library takes. */
#include <stdlib.h>

#include "replica/node_internal.h"
#include "replica/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool append_again(const struct core_message *m, struct buf *out) {
    struct memlog log;
    memlog_init(&log);
    memlog_reset(&log, m->append.prev_index + 1, m->append.prev_term);
    for (uint32_t i = 0; i < m->append.count; i++) {
        struct core_entry e = m->append.entries[i];
        struct membership members;
        CHECK(e.term > 0 && e.term <= m->term);
        if (e.type == CORE_MEMBERSHIP)
            CHECK(membership_decode(e.body, &members));
        chunk_ref(e.chunk);
        memlog_append(&log, m->append.prev_index + 1 + i, &e);
    }
    bool ok = wire_put_append(out, m, &log, UINT64_MAX);
    CHECK(ok);
    if (m->append.count > 0)
        chunk_unref(m->append.entries[0].chunk);
    memlog_fini(&log);
    return true;
}

static bool message_again(uint8_t type, struct slice payload, struct buf *out) {
    struct core_entry *entries = NULL;
    struct core_message m;
    uint32_t capacity = 0;
    bool ok = wire_decode_message(type, payload, &m, &entries, &capacity);
    if (ok && m.type == CORE_MSG_APPEND)
        append_again(&m, out);
    else if (ok)
        wire_put_message(out, &m);
    free(entries);
    return ok;
}

/* Decodes a payload and builds its frame anew. False: malformed. */
static bool rebuild(uint8_t type, struct slice payload, struct buf *out) {
    struct wire_hello hello;
    struct wire_read read;
    struct wire_status status;
    struct wire_piece piece;
    switch (type) {
    case WIRE_HELLO:
        if (!wire_decode_hello(payload, &hello))
            return false;
        wire_put_hello(out, &hello);
        return true;
    case WIRE_APPEND ... WIRE_TIMEOUT_NOW:
        return message_again(type, payload, out);
    case WIRE_READ_CHECK ... WIRE_READ_INDEXED:
        if (!wire_decode_read(type, payload, &read))
            return false;
        wire_put_read(out, (enum wire_type)type, &read);
        return true;
    case WIRE_STATUS:
        if (!wire_decode_status(payload, &status))
            return false;
        wire_put_status(out, &status);
        return true;
    case WIRE_FETCH:
        if (!wire_decode_fetch(payload, &piece))
            return false;
        wire_put_fetch(out, &piece);
        return true;
    case WIRE_PIECE:
        if (!wire_decode_piece(payload, &piece))
            return false;
        wire_put_piece(out, &piece);
        return true;
    case WIRE_REMOVED:
        if (!wire_decode_removed(payload, &read.index))
            return false;
        wire_put_removed(out, read.index);
        return true;
    default:
        return false;
    }
}

/* A digest in the log is the body of an entry. */
static void note(struct slice bytes) {
    uint64_t index;
    struct hash128 digest;
    if (node_note_decode(bytes, &index, &digest))
        CHECK(bytes.size == 32 && index != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    note(slice_of(data, size));
    struct slice in = slice_of(data, size), payload;
    struct buf first = {0}, second = {0};
    uint8_t type;
    size_t need;
    for (;;) {
        const uint8_t *frame = in.data;
        enum wire_take r = wire_take_frame(&in, &type, &payload, &need);
        if (r == WIRE_TAKE_MORE)
            CHECK(need == 0 ? in.size < 4 : need > in.size);
        if (r != WIRE_TAKE_FRAME)
            break;
        CHECK((size_t)(in.data - frame) == need);
        CHECK(payload.size + 5 == need);
        buf_reset(&first);
        buf_reset(&second);
        if (!rebuild(type, payload, &first))
            continue;
        /* A flag may have been any byte; from then on it is 0 or 1. */
        CHECK(first.size == need && first.data[4] == type);
        bool again = rebuild(type, slice_of(first.data + 5, first.size - 5), &second);
        CHECK(again);
        CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    }
    buf_fini(&first);
    buf_fini(&second);
    return 0;
}
