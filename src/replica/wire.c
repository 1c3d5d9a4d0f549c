#include "replica/wire.h"

#include "base/reader.h"

static size_t frame_open(struct buf *out, enum wire_type type) {
    size_t at = out->size;
    buf_append_u32(out, 0);
    buf_append_u8(out, (uint8_t)type);
    return at;
}

static void frame_close(struct buf *out, size_t at) {
    size_t size = out->size - at - 4;
    CHECK(size <= WIRE_FRAME_BYTES_MAX);
    buf_patch_u32(out, at, (uint32_t)size);
}

void wire_put_hello(struct buf *out, const struct wire_hello *h) {
    size_t at = frame_open(out, WIRE_HELLO);
    buf_append_u16(out, h->version);
    buf_append_u64(out, h->node_id);
    buf_append(out, h->cluster_id, sizeof h->cluster_id);
    buf_append_u64(out, h->starts);
    buf_append_u64(out, h->connection);
    buf_append_lstr(out, h->address);
    frame_close(out, at);
}

bool wire_put_append(struct buf *out, const struct core_message *m, const struct memlog *log,
                     uint64_t bytes_max) {
    uint64_t first = m->append.prev_index + 1;
    if (m->append.count > 0 &&
        (!memlog_get(log, first) || !memlog_get(log, first + m->append.count - 1)))
        return false;
    uint32_t count = 0;
    for (uint64_t bytes = 0; count < m->append.count; count++) {
        bytes += memlog_get(log, first + count)->body.size;
        if (count > 0 && bytes > bytes_max)
            break; /* the leader's next heartbeat or answer goes on from here */
    }
    size_t at = frame_open(out, WIRE_APPEND);
    buf_append_u64(out, m->term);
    buf_append_u64(out, m->append.prev_index);
    buf_append_u64(out, m->append.prev_term);
    buf_append_u64(out, m->append.commit);
    buf_append_u32(out, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct core_entry *e = memlog_get(log, first + i);
        buf_append_u64(out, e->term);
        buf_append_u8(out, (uint8_t)e->type);
        buf_append_lstr(out, e->body);
    }
    frame_close(out, at);
    return true;
}

void wire_put_message(struct buf *out, const struct core_message *m) {
    CHECK(m->type != CORE_MSG_APPEND);
    static const enum wire_type types[] = {
        [CORE_MSG_APPEND_RESULT] = WIRE_APPEND_RESULT, [CORE_MSG_VOTE] = WIRE_VOTE,
        [CORE_MSG_VOTE_RESULT] = WIRE_VOTE_RESULT,     [CORE_MSG_INSTALL] = WIRE_INSTALL,
        [CORE_MSG_TIMEOUT_NOW] = WIRE_TIMEOUT_NOW,
    };
    size_t at = frame_open(out, types[m->type]);
    buf_append_u64(out, m->term);
    switch (m->type) {
    case CORE_MSG_APPEND_RESULT:
        buf_append_u64(out, m->append_result.rejected);
        buf_append_u64(out, m->append_result.last_index);
        break;
    case CORE_MSG_VOTE:
        buf_append_u64(out, m->vote.candidate_id);
        buf_append_u64(out, m->vote.last_index);
        buf_append_u64(out, m->vote.last_term);
        buf_append_u8(out, m->vote.disrupt_leader);
        buf_append_u8(out, m->vote.pre_vote);
        break;
    case CORE_MSG_VOTE_RESULT:
        buf_append_u8(out, m->vote_result.granted);
        buf_append_u8(out, m->vote_result.pre_vote);
        break;
    case CORE_MSG_INSTALL: {
        struct buf membership = {0};
        membership_encode(&m->install.snapshot.membership, &membership);
        buf_append_u64(out, m->install.snapshot.index);
        buf_append_u64(out, m->install.snapshot.term);
        buf_append_u64(out, m->install.snapshot.membership_index);
        buf_append_lstr(out, buf_slice(&membership));
        buf_append_lstr(out, m->install.descriptor);
        buf_fini(&membership);
        break;
    }
    case CORE_MSG_TIMEOUT_NOW:
        buf_append_u64(out, m->timeout_now.last_index);
        buf_append_u64(out, m->timeout_now.last_term);
        break;
    case CORE_MSG_APPEND:
        break;
    }
    frame_close(out, at);
}

void wire_put_read(struct buf *out, enum wire_type type, const struct wire_read *r) {
    size_t at = frame_open(out, type);
    if (type != WIRE_READ_INDEXED)
        buf_append_u64(out, r->term);
    buf_append_u64(out, r->round);
    if (type == WIRE_READ_CHECKED || type == WIRE_READ_INDEXED)
        buf_append_u8(out, r->ok);
    if (type == WIRE_READ_INDEXED) {
        buf_append_u64(out, r->index);
        buf_append_u64(out, r->time_ms);
    }
    frame_close(out, at);
}

void wire_put_status(struct buf *out, const struct wire_status *s) {
    size_t at = frame_open(out, WIRE_STATUS);
    buf_append_u64(out, s->term);
    buf_append_u64(out, s->applied);
    buf_append_u64(out, s->digest.low);
    buf_append_u64(out, s->digest.high);
    buf_append_u64(out, s->snapshot_index);
    buf_append_u64(out, s->snapshot_hash);
    buf_append_u64(out, s->check_index);
    buf_append_u64(out, s->check_digest.low);
    buf_append_u64(out, s->check_digest.high);
    buf_append_u8(out, (uint8_t)s->health);
    buf_append_u8(out, (uint8_t)s->work.kind);
    buf_append_u64(out, s->work.from);
    buf_append_u64(out, s->work.done);
    buf_append_u64(out, s->work.total);
    buf_append_lstr(out, s->http_address);
    buf_append_lstr(out, s->redis_address);
    buf_append_u64(out, s->leader_id);
    buf_append_lstr(out, s->leader_address);
    frame_close(out, at);
}

void wire_put_fetch(struct buf *out, const struct wire_piece *p) {
    size_t at = frame_open(out, WIRE_FETCH);
    buf_append_u64(out, p->index);
    buf_append_u64(out, p->hash);
    buf_append_u64(out, p->offset);
    buf_append_u32(out, p->bytes);
    frame_close(out, at);
}

void wire_put_piece(struct buf *out, const struct wire_piece *p) {
    size_t at = frame_open(out, WIRE_PIECE);
    buf_append_u64(out, p->index);
    buf_append_u64(out, p->hash);
    buf_append_u64(out, p->offset);
    buf_append_u32(out, crc32c(0, p->data));
    buf_append_lstr(out, p->data);
    frame_close(out, at);
}

enum wire_take wire_take_frame(struct slice *in, uint8_t *ret_type, struct slice *ret_payload,
                               size_t *ret_need) {
    *ret_need = 0;
    if (in->size < 4)
        return WIRE_TAKE_MORE;
    uint32_t size = get_u32le(in->data);
    if (size < 1 || size > WIRE_FRAME_BYTES_MAX)
        return WIRE_TAKE_BAD;
    *ret_need = 4 + (size_t)size;
    if (in->size < *ret_need)
        return WIRE_TAKE_MORE;
    *ret_type = in->data[4];
    *ret_payload = slice_of(in->data + 5, size - 1);
    in->data += *ret_need;
    in->size -= *ret_need;
    return WIRE_TAKE_FRAME;
}

bool wire_decode_hello(struct slice payload, struct wire_hello *ret) {
    struct reader r = reader_of(payload);
    ret->version = reader_u16(&r);
    ret->node_id = reader_u64(&r);
    const uint8_t *cluster = reader_take(&r, sizeof ret->cluster_id);
    if (cluster)
        memcpy(ret->cluster_id, cluster, sizeof ret->cluster_id);
    ret->starts = reader_u64(&r);
    ret->connection = reader_u64(&r);
    ret->address = reader_lstr(&r);
    return reader_done(&r) && ret->address.size < MEMBER_ADDRESS_BYTES_MAX;
}

static bool decode_append(struct reader *r, struct core_message *ret, struct core_entry **entries,
                          uint32_t *entries_capacity) {
    ret->append.prev_index = reader_u64(r);
    ret->append.prev_term = reader_u64(r);
    ret->append.commit = reader_u64(r);
    uint32_t count = reader_u32(r);
    /* The library takes these for granted. */
    if (!reader_ok(r) || count > reader_left(r) / 13 || ret->append.prev_term > ret->term ||
        ret->append.prev_index > UINT64_MAX - 1 - count ||
        (ret->append.prev_index == 0) != (ret->append.prev_term == 0))
        return false;
    ret->append.count = count;
    ret->append.entries = NULL;
    if (count == 0)
        return reader_done(r);
    if (count > *entries_capacity) {
        *entries = xrealloc(*entries, count * sizeof **entries);
        *entries_capacity = count;
    }
    struct chunk *chunk = chunk_new(reader_left(r));
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct core_entry *e = &(*entries)[i];
        e->term = reader_u64(r);
        e->type = (enum core_entry_type)reader_u8(r);
        struct slice body = reader_lstr(r);
        if (body.size > 0)
            memcpy(chunk->data + used, body.data, body.size);
        e->body = slice_of(chunk->data + used, body.size);
        e->chunk = chunk;
        used += body.size;
        struct membership m;
        if (!reader_ok(r) || e->term == 0 || e->term > ret->term || e->type < CORE_COMMAND ||
            e->type > CORE_MEMBERSHIP ||
            (e->type == CORE_MEMBERSHIP && !membership_decode(e->body, &m))) {
            r->failed = true;
            break;
        }
    }
    if (!reader_done(r)) {
        chunk_unref(chunk);
        return false;
    }
    ret->append.entries = *entries;
    return true;
}

bool wire_decode_message(uint8_t type, struct slice payload, struct core_message *ret,
                         struct core_entry **entries, uint32_t *entries_capacity) {
    struct reader r = reader_of(payload);
    core_message_clear(ret);
    ret->term = reader_u64(&r);
    switch (type) {
    case WIRE_APPEND:
        ret->type = CORE_MSG_APPEND;
        return ret->term > 0 && decode_append(&r, ret, entries, entries_capacity);
    case WIRE_APPEND_RESULT:
        ret->type = CORE_MSG_APPEND_RESULT;
        ret->append_result.rejected = reader_u64(&r);
        ret->append_result.last_index = reader_u64(&r);
        break;
    case WIRE_VOTE:
        ret->type = CORE_MSG_VOTE;
        ret->vote.candidate_id = reader_u64(&r);
        ret->vote.last_index = reader_u64(&r);
        ret->vote.last_term = reader_u64(&r);
        ret->vote.disrupt_leader = reader_u8(&r);
        ret->vote.pre_vote = reader_u8(&r);
        break;
    case WIRE_VOTE_RESULT:
        ret->type = CORE_MSG_VOTE_RESULT;
        ret->vote_result.granted = reader_u8(&r);
        ret->vote_result.pre_vote = reader_u8(&r);
        break;
    case WIRE_INSTALL:
        ret->type = CORE_MSG_INSTALL;
        ret->install.snapshot.index = reader_u64(&r);
        ret->install.snapshot.term = reader_u64(&r);
        ret->install.snapshot.membership_index = reader_u64(&r);
        if (!membership_decode(reader_lstr(&r), &ret->install.snapshot.membership))
            return false;
        ret->install.descriptor = reader_lstr(&r);
        if (ret->install.snapshot.index == 0 || ret->install.snapshot.term == 0 ||
            ret->install.snapshot.term > ret->term || ret->install.snapshot.membership_index == 0 ||
            ret->install.snapshot.membership_index > ret->install.snapshot.index)
            return false;
        break;
    case WIRE_TIMEOUT_NOW:
        ret->type = CORE_MSG_TIMEOUT_NOW;
        ret->timeout_now.last_index = reader_u64(&r);
        ret->timeout_now.last_term = reader_u64(&r);
        break;
    default:
        return false;
    }
    return reader_done(&r) && ret->term > 0;
}

bool wire_decode_read(uint8_t type, struct slice payload, struct wire_read *ret) {
    struct reader r = reader_of(payload);
    *ret = (struct wire_read){0};
    if (type != WIRE_READ_INDEXED)
        ret->term = reader_u64(&r);
    ret->round = reader_u64(&r);
    if (type == WIRE_READ_CHECKED || type == WIRE_READ_INDEXED)
        ret->ok = reader_u8(&r);
    if (type == WIRE_READ_INDEXED) {
        ret->index = reader_u64(&r);
        ret->time_ms = reader_u64(&r);
    }
    return reader_done(&r);
}

bool wire_decode_status(struct slice payload, struct wire_status *ret) {
    struct reader r = reader_of(payload);
    ret->term = reader_u64(&r);
    ret->applied = reader_u64(&r);
    ret->digest.low = reader_u64(&r);
    ret->digest.high = reader_u64(&r);
    ret->snapshot_index = reader_u64(&r);
    ret->snapshot_hash = reader_u64(&r);
    ret->check_index = reader_u64(&r);
    ret->check_digest.low = reader_u64(&r);
    ret->check_digest.high = reader_u64(&r);
    uint8_t health = reader_u8(&r);
    ret->health = (enum node_health)health;
    uint8_t work = reader_u8(&r);
    ret->work = (struct node_work){.kind = (enum node_work_kind)work};
    ret->work.from = reader_u64(&r);
    ret->work.done = reader_u64(&r);
    ret->work.total = reader_u64(&r);
    ret->http_address = reader_lstr(&r);
    ret->redis_address = reader_lstr(&r);
    ret->leader_id = reader_u64(&r);
    ret->leader_address = reader_lstr(&r);
    return reader_done(&r) && work < WORK_KINDS && health < HEALTH_KINDS &&
           ret->http_address.size < MEMBER_ADDRESS_BYTES_MAX &&
           ret->redis_address.size < MEMBER_ADDRESS_BYTES_MAX &&
           ret->leader_address.size < MEMBER_ADDRESS_BYTES_MAX;
}

bool wire_decode_fetch(struct slice payload, struct wire_piece *ret) {
    struct reader r = reader_of(payload);
    *ret = (struct wire_piece){.index = reader_u64(&r)};
    ret->hash = reader_u64(&r);
    ret->offset = reader_u64(&r);
    ret->bytes = reader_u32(&r);
    return reader_done(&r) && ret->bytes > 0 && ret->bytes <= WIRE_PIECE_BYTES;
}

bool wire_decode_piece(struct slice payload, struct wire_piece *ret) {
    struct reader r = reader_of(payload);
    *ret = (struct wire_piece){.index = reader_u64(&r)};
    ret->hash = reader_u64(&r);
    ret->offset = reader_u64(&r);
    uint32_t crc = reader_u32(&r);
    ret->data = reader_lstr(&r);
    ret->bytes = (uint32_t)ret->data.size;
    return reader_done(&r) && crc32c(0, ret->data) == crc;
}

void wire_put_removed(struct buf *out, uint64_t membership_index) {
    size_t at = frame_open(out, WIRE_REMOVED);
    buf_append_u64(out, membership_index);
    frame_close(out, at);
}

bool wire_decode_removed(struct slice payload, uint64_t *ret_membership_index) {
    struct reader r = reader_of(payload);
    uint64_t index = reader_u64(&r);
    if (!reader_done(&r) || index == 0)
        return false;
    *ret_membership_index = index;
    return true;
}
