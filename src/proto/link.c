#include "proto/link.h"

#include "base/bytes.h"
#include "base/reply.h"

enum {
    SESSION_BYTES = 16,
    WRITES_HEADER_BYTES = SESSION_BYTES + 16, /* session, acked_below, count, bytes */
    WRITE_HEADER_BYTES = 14,
    READ_HEADER_BYTES = 23,
    REPLY_HEADER_BYTES = 22,
    MEMBER_BYTES_MIN = 21,
    TOPOLOGY_HEADER_BYTES = 20,
};

/* ---- taking frames apart ---- */

enum link_take link_take_frame(struct slice *in, uint8_t *ret_type, struct slice *ret_payload,
                               size_t *ret_need) {
    if (ret_need)
        *ret_need = 0;
    if (in->size < 4)
        return LINK_TAKE_MORE;
    uint32_t size = get_u32le(in->data);
    if (size == 0 || size > LINK_FRAME_BYTES_MAX)
        return LINK_TAKE_BAD;
    size_t whole = (size_t)size + 4;
    if (ret_need)
        *ret_need = whole;
    if (in->size < whole)
        return LINK_TAKE_MORE;
    *ret_type = in->data[4];
    *ret_payload = slice_of(in->data + LINK_FRAME_HEADER_BYTES, size - 1);
    in->data += whole;
    in->size -= whole;
    return LINK_TAKE_FRAME;
}

/* Copies fixed-size bytes; after a failed read `to` is left as it is and the reader says so. */
static void read_bytes(struct reader *r, uint8_t *to, size_t n) {
    const uint8_t *at = reader_take(r, n);
    if (at)
        memcpy(to, at, n);
}

bool link_decode_hello(struct slice payload, struct link_hello *ret) {
    struct reader r = reader_of(payload);
    struct link_hello h = {.version = reader_u16(&r), .features = reader_u32(&r)};
    read_bytes(&r, h.session, sizeof h.session);
    if (!reader_done(&r))
        return false;
    *ret = h;
    return true;
}

bool link_decode_node_hello(struct slice payload, struct link_node_hello *ret) {
    struct reader r = reader_of(payload);
    struct link_node_hello h = {0};
    h.version = reader_u16(&r);
    h.features = reader_u32(&r);
    h.node_id = reader_u64(&r);
    read_bytes(&r, h.cluster_id, sizeof h.cluster_id);
    h.window_requests = reader_u32(&r);
    h.window_bytes = reader_u32(&r);
    if (!reader_done(&r))
        return false;
    *ret = h;
    return true;
}

bool link_decode_writes(struct slice payload, struct link_writes *ret) {
    struct reader r = reader_of(payload);
    struct link_writes w = {.whole = payload};
    read_bytes(&r, w.session, sizeof w.session);
    w.acked_below = reader_u64(&r);
    w.count = reader_u32(&r);
    uint32_t bytes = reader_u32(&r);
    w.commands = reader_rest(&r);
    if (!reader_ok(&r) || bytes != w.commands.size || w.count == 0 ||
        w.count > w.commands.size / WRITE_HEADER_BYTES)
        return false;
    /* The bytes go into the log as they are, so nothing malformed may pass here. */
    struct slice commands = w.commands;
    for (uint32_t i = 0; i < w.count; i++) {
        struct link_write one;
        if (!link_next_write(&commands, &one))
            return false;
    }
    if (commands.size != 0)
        return false;
    *ret = w;
    return true;
}

bool link_decode_admin(struct slice payload, struct link_admin *ret) {
    struct reader r = reader_of(payload);
    struct link_admin a = {.id = reader_u64(&r)};
    a.packed_argv = reader_rest(&r);
    if (!reader_ok(&r) || !argv_check(a.packed_argv))
        return false;
    *ret = a;
    return true;
}

bool link_decode_topology(struct slice payload, struct link_topology *ret) {
    struct reader r = reader_of(payload);
    struct link_topology t = {0};
    t.term = reader_u64(&r);
    t.leader_id = reader_u64(&r);
    t.count = reader_u32(&r);
    t.members = reader_rest(&r);
    if (!reader_ok(&r) || t.count == 0 || t.count > t.members.size / MEMBER_BYTES_MIN)
        return false;
    struct slice members = t.members;
    for (uint32_t i = 0; i < t.count; i++) {
        struct link_member one;
        if (!link_next_member(&members, &one))
            return false;
    }
    if (members.size != 0)
        return false;
    *ret = t;
    return true;
}

bool link_decode_read_index(struct slice payload, struct link_read_index *ret) {
    struct reader r = reader_of(payload);
    struct link_read_index ask = {0};
    ask.id = reader_u64(&r);
    ask.flags = reader_u8(&r);
    ask.min_index = reader_u64(&r);
    if (!reader_done(&r) || (ask.flags & ~LINK_READ_STALE) != 0)
        return false;
    *ret = ask;
    return true;
}

bool link_decode_read_indexed(struct slice payload, struct link_read_indexed *ret) {
    struct reader r = reader_of(payload);
    struct link_read_indexed answer = {0};
    answer.id = reader_u64(&r);
    answer.status = reader_u8(&r);
    answer.index = reader_u64(&r);
    answer.time_ms = reader_u64(&r);
    if (!reader_done(&r) || (answer.status != LINK_OK && answer.status != LINK_UNAVAILABLE))
        return false;
    *ret = answer;
    return true;
}

bool link_decode_ping(struct slice payload, uint64_t *ret_id) {
    struct reader r = reader_of(payload);
    uint64_t id = reader_u64(&r);
    if (!reader_done(&r))
        return false;
    *ret_id = id;
    return true;
}

bool link_decode_count(struct slice *payload, uint32_t *ret_count) {
    struct reader r = reader_of(*payload);
    uint32_t count = reader_u32(&r);
    struct slice rest = reader_rest(&r);
    if (!reader_ok(&r) || count == 0 || count > rest.size / REPLY_HEADER_BYTES)
        return false;
    *ret_count = count;
    *payload = rest;
    return true;
}

bool link_next_read(struct slice *in, struct link_read *ret) {
    struct reader r = reader_of(*in);
    struct link_read e = {0};
    e.id = reader_u64(&r);
    e.flags = reader_u8(&r);
    e.db = reader_u16(&r);
    e.min_index = reader_u64(&r);
    e.packed_argv = reader_lstr(&r);
    if (!reader_ok(&r) || (e.flags & ~LINK_READ_STALE) != 0 || !argv_check(e.packed_argv))
        return false;
    *in = reader_rest(&r);
    *ret = e;
    return true;
}

/* A reply is empty (a status that needs no words) or exactly one well-formed neutral reply. */
static bool reply_fits(uint8_t status, struct slice reply) {
    if (reply.size == 0)
        return status != LINK_OK;
    return reply_skip(&reply) && reply.size == 0;
}

bool link_next_reply(struct slice *in, struct link_reply *ret) {
    struct reader r = reader_of(*in);
    struct link_reply e = {0};
    e.id = reader_u64(&r);
    e.kind = reader_u8(&r);
    e.status = reader_u8(&r);
    e.index = reader_u64(&r);
    if (e.kind == LINK_KIND_STALE)
        e.age_ms = reader_u32(&r);
    e.reply = reader_lstr(&r);
    if (!reader_ok(&r) || e.kind > LINK_KIND_STALE || e.status > LINK_REFUSED ||
        !reply_fits(e.status, e.reply))
        return false;
    *in = reader_rest(&r);
    *ret = e;
    return true;
}

bool link_next_write(struct slice *in, struct link_write *ret) {
    struct reader r = reader_of(*in);
    struct link_write e = {0};
    e.sequence = reader_u64(&r);
    e.db = reader_u16(&r);
    e.packed_argv = reader_lstr(&r);
    if (!reader_ok(&r) || !argv_check(e.packed_argv))
        return false;
    *in = reader_rest(&r);
    *ret = e;
    return true;
}

bool link_next_member(struct slice *in, struct link_member *ret) {
    struct reader r = reader_of(*in);
    struct link_member e = {0};
    e.id = reader_u64(&r);
    e.role = reader_u8(&r);
    e.peer_address = reader_lstr(&r);
    e.http_address = reader_lstr(&r);
    e.redis_address = reader_lstr(&r);
    if (!reader_ok(&r) || e.id == 0)
        return false;
    *in = reader_rest(&r);
    *ret = e;
    return true;
}

/* ---- building frames ---- */

static size_t frame_begin(struct buf *out, enum link_frame_type type) {
    size_t at = out->size;
    buf_append_u32(out, 0);
    buf_append_u8(out, (uint8_t)type);
    return at;
}

static void frame_end(struct buf *out, size_t frame_at) {
    size_t size = out->size - frame_at - 4;
    CHECK(size > 0);
    CHECK(size <= LINK_FRAME_BYTES_MAX);
    buf_patch_u32(out, frame_at, (uint32_t)size);
}

void link_put_hello(struct buf *out, const struct link_hello *hello) {
    size_t at = frame_begin(out, LINK_HELLO);
    buf_append_u16(out, hello->version);
    buf_append_u32(out, hello->features);
    buf_append(out, hello->session, sizeof hello->session);
    frame_end(out, at);
}

void link_put_node_hello(struct buf *out, const struct link_node_hello *hello) {
    size_t at = frame_begin(out, LINK_NODE_HELLO);
    buf_append_u16(out, hello->version);
    buf_append_u32(out, hello->features);
    buf_append_u64(out, hello->node_id);
    buf_append(out, hello->cluster_id, sizeof hello->cluster_id);
    buf_append_u32(out, hello->window_requests);
    buf_append_u32(out, hello->window_bytes);
    frame_end(out, at);
}

void link_put_admin(struct buf *out, const struct link_admin *admin) {
    size_t at = frame_begin(out, LINK_ADMIN);
    buf_append_u64(out, admin->id);
    buf_append_slice(out, admin->packed_argv);
    frame_end(out, at);
}

void link_put_read_index(struct buf *out, const struct link_read_index *ask) {
    size_t at = frame_begin(out, LINK_READ_INDEX);
    buf_append_u64(out, ask->id);
    buf_append_u8(out, ask->flags);
    buf_append_u64(out, ask->min_index);
    frame_end(out, at);
}

void link_put_read_indexed(struct buf *out, const struct link_read_indexed *answer) {
    size_t at = frame_begin(out, LINK_READ_INDEXED);
    buf_append_u64(out, answer->id);
    buf_append_u8(out, answer->status);
    buf_append_u64(out, answer->index);
    buf_append_u64(out, answer->time_ms);
    frame_end(out, at);
}

void link_put_ping(struct buf *out, enum link_frame_type type, uint64_t id) {
    size_t at = frame_begin(out, type);
    buf_append_u64(out, id);
    frame_end(out, at);
}

static void batch_open(struct buf *out, struct link_batch *b, enum link_frame_type type) {
    *b = (struct link_batch){.frame_at = frame_begin(out, type)};
}

void link_open_writes(struct buf *out, struct link_batch *b, const uint8_t session[16],
                      uint64_t acked_below) {
    batch_open(out, b, LINK_WRITES);
    buf_append(out, session, SESSION_BYTES);
    buf_append_u64(out, acked_below);
    buf_append_u64(out, 0); /* count and bytes, patched by link_close() */
}

void link_add_write(struct buf *out, struct link_batch *b, const struct link_write *w) {
    buf_append_u64(out, w->sequence);
    buf_append_u16(out, w->db);
    buf_append_lstr(out, w->packed_argv);
    b->count++;
}

void link_open_reads(struct buf *out, struct link_batch *b) {
    batch_open(out, b, LINK_READS);
    buf_append_u32(out, 0);
}

void link_add_read(struct buf *out, struct link_batch *b, const struct link_read *r) {
    buf_append_u64(out, r->id);
    buf_append_u8(out, r->flags);
    buf_append_u16(out, r->db);
    buf_append_u64(out, r->min_index);
    buf_append_lstr(out, r->packed_argv);
    b->count++;
}

void link_open_replies(struct buf *out, struct link_batch *b) {
    batch_open(out, b, LINK_REPLIES);
    buf_append_u32(out, 0);
}

void link_add_reply(struct buf *out, struct link_batch *b, const struct link_reply *r) {
    buf_append_u64(out, r->id);
    buf_append_u8(out, r->kind);
    buf_append_u8(out, r->status);
    buf_append_u64(out, r->index);
    if (r->kind == LINK_KIND_STALE)
        buf_append_u32(out, r->age_ms);
    buf_append_lstr(out, r->reply);
    b->count++;
}

void link_open_topology(struct buf *out, struct link_batch *b, uint64_t term, uint64_t leader_id) {
    batch_open(out, b, LINK_TOPOLOGY);
    buf_append_u64(out, term);
    buf_append_u64(out, leader_id);
    buf_append_u32(out, 0);
}

void link_add_member(struct buf *out, struct link_batch *b, const struct link_member *m) {
    CHECK(m->id != 0);
    buf_append_u64(out, m->id);
    buf_append_u8(out, m->role);
    buf_append_lstr(out, m->peer_address);
    buf_append_lstr(out, m->http_address);
    buf_append_lstr(out, m->redis_address);
    b->count++;
}

void link_close(struct buf *out, struct link_batch *b) {
    CHECK(b->frame_at + LINK_FRAME_HEADER_BYTES <= out->size);
    if (b->count == 0) {
        out->size = b->frame_at;
        return;
    }
    size_t payload_at = b->frame_at + LINK_FRAME_HEADER_BYTES;
    switch (out->data[b->frame_at + 4]) {
    case LINK_WRITES: {
        size_t commands_at = payload_at + WRITES_HEADER_BYTES;
        buf_patch_u32(out, commands_at - 8, b->count);
        buf_patch_u32(out, commands_at - 4, (uint32_t)(out->size - commands_at));
        break;
    }
    case LINK_TOPOLOGY:
        buf_patch_u32(out, payload_at + TOPOLOGY_HEADER_BYTES - 4, b->count);
        break;
    default:
        buf_patch_u32(out, payload_at, b->count);
    }
    frame_end(out, b->frame_at);
}
