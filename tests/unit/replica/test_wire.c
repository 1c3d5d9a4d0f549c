/* What nodes say to each other: every message there and back, at every truncation, with every bit
 * flipped, and the fields that the library takes for granted. Inputs end at a page that cannot be
 * read, so that a read past the end is found in the library's decoder too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "replica/wire.h"

/* ---- inputs that end at a guard page ---- */

enum { FENCE_BYTES = 64 * 1024 };
static uint8_t *fence_end;

static int fence_new(void **state) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *at =
        mmap(NULL, FENCE_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at + FENCE_BYTES, page, PROT_NONE) < 0)
        return -1;
    fence_end = at + FENCE_BYTES;
    return 0;
}

static struct slice fenced(struct slice in) {
    assert_true(in.size <= FENCE_BYTES);
    if (in.size > 0)
        memcpy(fence_end - in.size, in.data, in.size);
    return slice_of(fence_end - in.size, in.size);
}

/* ---- decoding whatever it is ---- */

struct decoded {
    struct core_message message;
    struct core_entry *entries;
    uint32_t capacity;
    struct wire_hello hello;
    struct wire_read read;
    struct wire_status status;
    struct wire_piece piece;
};

static void decoded_fini(struct decoded *d) {
    if (d->message.type == CORE_MSG_APPEND && d->message.append.entries)
        chunk_unref(d->message.append.entries[0].chunk);
    free(d->entries);
    *d = (struct decoded){0};
}

static bool decode(uint8_t type, struct slice payload, struct decoded *d) {
    switch (type) {
    case WIRE_HELLO:
        return wire_decode_hello(payload, &d->hello);
    case WIRE_APPEND ... WIRE_TIMEOUT_NOW:
        if (wire_decode_message(type, payload, &d->message, &d->entries, &d->capacity))
            return true;
        d->message.type = 0; /* nothing to free */
        return false;
    case WIRE_READ_CHECK ... WIRE_READ_INDEXED:
        return wire_decode_read(type, payload, &d->read);
    case WIRE_STATUS:
        return wire_decode_status(payload, &d->status);
    case WIRE_FETCH:
        return wire_decode_fetch(payload, &d->piece);
    case WIRE_PIECE:
        return wire_decode_piece(payload, &d->piece);
    case WIRE_REMOVED:
        return wire_decode_removed(payload, &d->read.index);
    default:
        return wire_decode_message(type, payload, &d->message, &d->entries, &d->capacity) ||
               wire_decode_read(type, payload, &d->read);
    }
}

/* ---- one frame of every kind ---- */

static struct membership members(uint32_t count) {
    struct membership m = {.count = count};
    for (uint32_t i = 0; i < count; i++) {
        m.members[i].id = i + 1;
        m.members[i].role = (enum member_role)((i + 1) % 3);
        snprintf(m.members[i].address, sizeof m.members[i].address, "host%u:7070", i + 1);
    }
    return m;
}

static void log_push(struct memlog *log, uint64_t term, enum core_entry_type type,
                     struct slice body) {
    struct chunk *c = chunk_new(body.size);
    if (body.size > 0)
        memcpy(c->data, body.data, body.size);
    struct core_entry e = {
        .term = term, .type = type, .body = slice_of(c->data, body.size), .chunk = c};
    memlog_append(log, log->last_index + 1, &e);
}

/* Entries 11 to 14: a command, a barrier, a membership, a command. */
static void log_of_every_kind(struct memlog *log) {
    struct membership m = members(3);
    struct buf body = {0};
    memlog_init(log);
    memlog_reset(log, 11, 5);
    membership_encode(&m, &body);
    log_push(log, 5, CORE_COMMAND, slice_str("first command"));
    log_push(log, 6, CORE_BARRIER, slice_of(NULL, 0));
    log_push(log, 6, CORE_MEMBERSHIP, buf_slice(&body));
    log_push(log, 6, CORE_COMMAND, slice_str("x"));
    buf_fini(&body);
}

static const struct core_message append_of_every_kind = {
    .type = CORE_MSG_APPEND,
    .term = 7,
    .append = {.prev_index = 10, .prev_term = 5, .commit = 12, .count = 4},
};
static const struct core_message append_result = {
    .type = CORE_MSG_APPEND_RESULT,
    .term = 7,
    .append_result = {.rejected = 1ull << 62, .last_index = 99}};
static const struct core_message vote = {.type = CORE_MSG_VOTE,
                                         .term = 8,
                                         .vote = {.candidate_id = 3,
                                                  .last_index = 14,
                                                  .last_term = 6,
                                                  .disrupt_leader = true,
                                                  .pre_vote = false}};
static const struct core_message vote_result = {
    .type = CORE_MSG_VOTE_RESULT, .term = 8, .vote_result = {.granted = false, .pre_vote = true}};
static const struct core_message timeout_now = {
    .type = CORE_MSG_TIMEOUT_NOW, .term = 9, .timeout_now = {.last_index = 14, .last_term = 6}};

static struct core_message install(void) {
    return (struct core_message){
        .type = CORE_MSG_INSTALL,
        .term = 9,
        .install = {
            .snapshot = {.index = 100, .term = 6, .membership_index = 13, .membership = members(5)},
            .descriptor = slice_str("a descriptor")}};
}

enum { FRAMES = 16 };

/* The frames, and what there is to say about each when it decodes. */
static void put_frame(int which, struct buf *out) {
    struct core_message i = install();
    struct memlog log;
    const struct wire_hello hello = {.version = WIRE_VERSION,
                                     .node_id = 5,
                                     .cluster_id = "0123456789abcde",
                                     .starts = 3,
                                     .connection = 17,
                                     .address = slice_str("host5:7070")};
    const struct wire_read read = {
        .term = 7, .round = 1234, .ok = true, .index = 55, .time_ms = 66};
    const struct wire_status status = {
        .term = 7,
        .applied = 14,
        .digest = {.low = 1, .high = 2},
        .snapshot_index = 9,
        .snapshot_hash = 77,
        .work = {.kind = WORK_FETCHING, .from = 3, .done = 4096, .total = 8192},
        .http_address = slice_str("host5:8080"),
        .redis_address = slice_str(""),
        .leader_id = 3,
        .leader_address = slice_str("host3:7070")};
    const struct wire_piece piece = {
        .index = 100, .hash = 78, .offset = 1 << 20, .bytes = 6, .data = slice_str("pieces")};
    switch (which) {
    case 0:
        wire_put_hello(out, &hello);
        break;
    case 1:
        log_of_every_kind(&log);
        assert_true(wire_put_append(out, &append_of_every_kind, &log, UINT64_MAX));
        memlog_fini(&log);
        break;
    case 2:
        wire_put_message(out, &append_result);
        break;
    case 3:
        wire_put_message(out, &vote);
        break;
    case 4:
        wire_put_message(out, &vote_result);
        break;
    case 5:
        wire_put_message(out, &i);
        break;
    case 6:
        wire_put_message(out, &timeout_now);
        break;
    case 7 ... 10:
        wire_put_read(out, (enum wire_type)(WIRE_READ_CHECK + which - 7), &read);
        break;
    case 11:
        wire_put_status(out, &status);
        break;
    case 12:
        wire_put_fetch(out, &piece);
        break;
    case 13:
        wire_put_piece(out, &piece);
        break;
    case 14:
        wire_put_removed(out, 55);
        break;
    default:
        log_of_every_kind(&log); /* a heartbeat */
        i = append_of_every_kind;
        i.append.count = 0;
        assert_true(wire_put_append(out, &i, &log, UINT64_MAX));
        memlog_fini(&log);
    }
}

static void take(struct slice in, uint8_t *ret_type, struct slice *ret_payload) {
    size_t need, size = in.size;
    assert_int_equal(wire_take_frame(&in, ret_type, ret_payload, &need), WIRE_TAKE_FRAME);
    assert_int_equal(need, size);
    assert_int_equal(in.size, 0);
}

static void expect_entries(const struct core_message *m) {
    assert_int_equal(m->append.prev_index, 10);
    assert_int_equal(m->append.prev_term, 5);
    assert_int_equal(m->append.commit, 12);
    const struct core_entry *e = m->append.entries;
    assert_int_equal(m->append.count, 4);
    assert_true(e[0].term == 5 && e[0].type == CORE_COMMAND);
    assert_true(slice_equal_str(e[0].body, "first command"));
    assert_true(e[1].term == 6 && e[1].type == CORE_BARRIER && e[1].body.size == 0);
    struct membership got;
    assert_true(e[2].type == CORE_MEMBERSHIP && membership_decode(e[2].body, &got));
    assert_int_equal(got.count, 3);
    assert_string_equal(got.members[2].address, "host3:7070");
    assert_true(slice_equal_str(e[3].body, "x"));
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(e[i].chunk, e[0].chunk);
    assert_int_equal(e[0].chunk->refs, 1);
}

static void test_there_and_back(void **state) {
    for (int which = 0; which < FRAMES; which++) {
        struct buf b = {0};
        struct decoded d = {0};
        struct slice payload;
        uint8_t type;
        put_frame(which, &b);
        take(buf_slice(&b), &type, &payload);
        assert_true(decode(type, payload, &d));
        const struct core_message *m = &d.message;
        switch (which) {
        case 0:
            assert_int_equal(d.hello.version, WIRE_VERSION);
            assert_int_equal(d.hello.node_id, 5);
            assert_memory_equal(d.hello.cluster_id, "0123456789abcde", 16);
            assert_true(slice_equal_str(d.hello.address, "host5:7070"));
            break;
        case 1:
            expect_entries(m);
            break;
        case 2:
            assert_int_equal(m->type, CORE_MSG_APPEND_RESULT);
            assert_int_equal(m->term, 7);
            assert_int_equal(m->append_result.rejected, 1ull << 62);
            assert_int_equal(m->append_result.last_index, 99);
            break;
        case 3:
            assert_int_equal(m->vote.candidate_id, 3);
            assert_int_equal(m->vote.last_index, 14);
            assert_int_equal(m->vote.last_term, 6);
            assert_true(m->vote.disrupt_leader);
            assert_false(m->vote.pre_vote);
            break;
        case 4:
            assert_false(m->vote_result.granted);
            assert_true(m->vote_result.pre_vote);
            break;
        case 5:
            assert_int_equal(m->install.snapshot.index, 100);
            assert_int_equal(m->install.snapshot.term, 6);
            assert_int_equal(m->install.snapshot.membership_index, 13);
            assert_int_equal(m->install.snapshot.membership.count, 5);
            assert_true(slice_equal_str(m->install.descriptor, "a descriptor"));
            break;
        case 6:
            assert_int_equal(m->timeout_now.last_index, 14);
            assert_int_equal(m->timeout_now.last_term, 6);
            break;
        case 7 ... 10:
            assert_int_equal(d.read.round, 1234);
            assert_int_equal(d.read.term, type < WIRE_READ_INDEXED ? 7 : 0);
            assert_int_equal(d.read.ok, type == WIRE_READ_CHECKED || type == WIRE_READ_INDEXED);
            assert_int_equal(d.read.index, type == WIRE_READ_INDEXED ? 55 : 0);
            assert_int_equal(d.read.time_ms, type == WIRE_READ_INDEXED ? 66 : 0);
            break;
        case 11:
            assert_int_equal(d.status.applied, 14);
            assert_int_equal(d.status.digest.high, 2);
            assert_true(slice_equal_str(d.status.http_address, "host5:8080"));
            assert_int_equal(d.status.redis_address.size, 0);
            assert_int_equal(d.status.snapshot_index, 9);
            assert_int_equal(d.status.snapshot_hash, 77);
            assert_int_equal(d.status.work.kind, WORK_FETCHING);
            assert_int_equal(d.status.work.from, 3);
            assert_int_equal(d.status.work.done, 4096);
            assert_int_equal(d.status.work.total, 8192);
            break;
        case 12:
            assert_int_equal(d.piece.bytes, 6);
            assert_int_equal(d.piece.offset, 1 << 20);
            assert_int_equal(d.piece.hash, 78);
            break;
        case 13:
            assert_true(slice_equal_str(d.piece.data, "pieces"));
            break;
        default:
            assert_int_equal(m->append.count, 0);
            assert_null(m->append.entries);
        }
        decoded_fini(&d);
        buf_fini(&b);
    }
}

static void test_every_truncation_and_extension(void **state) {
    for (int which = 0; which < FRAMES; which++) {
        struct buf b = {0};
        struct slice payload, in;
        uint8_t type;
        size_t need;
        put_frame(which, &b);
        for (size_t size = 0; size < b.size; size++) {
            in = fenced(slice_of(b.data, size));
            assert_int_equal(wire_take_frame(&in, &type, &payload, &need), WIRE_TAKE_MORE);
            assert_int_equal(in.size, size);
            assert_int_equal(need, size < 4 ? 0 : b.size);
        }
        take(buf_slice(&b), &type, &payload);
        for (size_t size = 0; size < payload.size; size++) {
            struct decoded d = {0};
            assert_false(decode(type, fenced(slice_of(payload.data, size)), &d));
            decoded_fini(&d);
        }
        struct decoded d = {0};
        struct buf longer = {0};
        buf_append_slice(&longer, payload);
        buf_append_u8(&longer, 0);
        assert_false(decode(type, fenced(buf_slice(&longer)), &d));
        decoded_fini(&d);
        buf_fini(&longer);
        buf_fini(&b);
    }
}

/* What still decodes must be safe to hand on: its entries and memberships are looked at. */
static void touch(const struct decoded *d) {
    static volatile uint64_t sum;
    if (d->message.type == CORE_MSG_APPEND)
        for (uint32_t i = 0; i < d->message.append.count; i++) {
            const struct core_entry *e = &d->message.append.entries[i];
            assert_true(e->term > 0 && e->term <= d->message.term);
            for (size_t at = 0; at < e->body.size; at++)
                sum += e->body.data[at];
        }
    if (d->message.type == CORE_MSG_INSTALL) {
        struct buf b = {0};
        membership_encode(&d->message.install.snapshot.membership, &b);
        buf_fini(&b);
    }
}

static void test_every_bit_flipped(void **state) {
    for (int which = 0; which < FRAMES; which++) {
        struct buf b = {0};
        struct slice payload;
        uint8_t type;
        put_frame(which, &b);
        take(buf_slice(&b), &type, &payload);
        for (size_t bit = 0; bit < payload.size * 8; bit++) {
            struct slice copy = fenced(payload);
            struct decoded d = {0};
            ((uint8_t *)copy.data)[bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (decode(type, copy, &d))
                touch(&d);
            decoded_fini(&d);
        }
        for (unsigned other = 0; other < 256; other++) { /* taken for something else */
            struct decoded d = {0};
            if (decode((uint8_t)other, fenced(payload), &d))
                touch(&d);
            decoded_fini(&d);
        }
        buf_fini(&b);
    }
}

static void test_frame_sizes(void **state) {
    uint8_t bytes[8] = {0}, type;
    struct slice in = slice_of(bytes, 8), payload;
    size_t need;
    assert_int_equal(wire_take_frame(&in, &type, &payload, &need), WIRE_TAKE_BAD); /* 0 */
    put_u32le(bytes, WIRE_FRAME_BYTES_MAX + 1);
    assert_int_equal(wire_take_frame(&in, &type, &payload, &need), WIRE_TAKE_BAD);
    put_u32le(bytes, WIRE_FRAME_BYTES_MAX);
    assert_int_equal(wire_take_frame(&in, &type, &payload, &need), WIRE_TAKE_MORE);
    assert_int_equal(need, 4 + (size_t)WIRE_FRAME_BYTES_MAX);
    put_u32le(bytes, 1);
    bytes[4] = WIRE_STATUS;
    assert_int_equal(wire_take_frame(&in, &type, &payload, &need), WIRE_TAKE_FRAME);
    assert_int_equal(type, WIRE_STATUS);
    assert_int_equal(payload.size, 0);
    assert_int_equal(in.size, 3); /* what follows stays */
}

/* ---- what the library takes for granted ---- */

static bool append_decodes(uint64_t term, uint64_t prev_index, uint64_t prev_term, uint32_t count,
                           uint64_t entry_term, uint8_t entry_type, struct slice body) {
    struct buf b = {0};
    struct decoded d = {0};
    buf_append_u64(&b, term);
    buf_append_u64(&b, prev_index);
    buf_append_u64(&b, prev_term);
    buf_append_u64(&b, 0);
    buf_append_u32(&b, count);
    buf_append_u64(&b, entry_term);
    buf_append_u8(&b, entry_type);
    buf_append_lstr(&b, body);
    bool ok = decode(WIRE_APPEND, fenced(buf_slice(&b)), &d);
    decoded_fini(&d);
    buf_fini(&b);
    return ok;
}

static void test_bounds_of_an_append(void **state) {
    struct slice x = slice_str("x");
    assert_true(append_decodes(7, 10, 5, 1, 7, CORE_COMMAND, x));
    assert_true(append_decodes(7, 0, 0, 1, 1, CORE_COMMAND, x));
    assert_false(append_decodes(0, 10, 5, 1, 0, CORE_COMMAND, x)); /* no term */
    assert_false(append_decodes(7, 10, 0, 1, 7, CORE_COMMAND, x)); /* index without a term */
    assert_false(append_decodes(7, 0, 5, 1, 7, CORE_COMMAND, x));  /* and the other way round */
    assert_false(append_decodes(7, 10, 5, 1, 0, CORE_COMMAND, x));
    assert_false(append_decodes(7, 10, 5, 1, 8, CORE_COMMAND, x)); /* newer than its leader */
    assert_false(append_decodes(7, 10, 5, 1, 7, 0, x));
    assert_false(append_decodes(7, 10, 5, 1, 7, 4, x));
    assert_false(append_decodes(7, 10, 5, 1, 7, 255, x));
    assert_false(append_decodes(7, 10, 5, 0, 7, CORE_COMMAND, x)); /* something is left over */
    assert_false(append_decodes(7, 10, 5, 2, 7, CORE_COMMAND, x));
    assert_false(append_decodes(7, 10, 5, UINT32_MAX, 7, CORE_COMMAND, x));
    assert_false(append_decodes(7, 10, 5, 1, 7, CORE_MEMBERSHIP, x)); /* no membership */
    assert_false(append_decodes(7, 10, 8, 1, 7, CORE_COMMAND, x)); /* what precedes it is newer */
    assert_false(append_decodes(7, UINT64_MAX, 5, 1, 7, CORE_COMMAND, x)); /* behind the last */
}

static bool install_decodes(uint64_t term, uint64_t index, uint64_t last_term,
                            uint64_t membership_index, const struct membership *m) {
    struct core_message i = install();
    struct buf b = {0};
    struct decoded d = {0};
    struct slice payload;
    uint8_t type;
    i.term = term;
    i.install.snapshot.index = index;
    i.install.snapshot.term = last_term;
    i.install.snapshot.membership_index = membership_index;
    i.install.snapshot.membership = *m;
    wire_put_message(&b, &i);
    take(buf_slice(&b), &type, &payload);
    bool ok = decode(type, fenced(payload), &d);
    decoded_fini(&d);
    buf_fini(&b);
    return ok;
}

static void test_bounds_of_an_install(void **state) {
    struct membership m = members(3), most = members(MEMBERS_MAX);
    assert_true(install_decodes(9, 100, 6, 13, &m));
    assert_true(install_decodes(9, 100, 6, 13, &most));
    assert_false(install_decodes(0, 100, 6, 13, &m));
    assert_false(install_decodes(9, 0, 6, 0, &m));
    assert_false(install_decodes(9, 100, 0, 13, &m));
    assert_false(install_decodes(9, 100, 10, 13, &m)); /* newer than its leader */
    assert_false(install_decodes(9, 100, 6, 101, &m)); /* a membership behind the snapshot */
    assert_false(install_decodes(9, 100, 6, 0, &m));   /* none */
}

static void test_bounds_of_the_others(void **state) {
    struct decoded d = {0};
    struct buf b = {0};
    struct wire_piece piece = {.index = 1, .bytes = WIRE_PIECE_BYTES};
    struct slice payload;
    uint8_t type;
    wire_put_fetch(&b, &piece);
    take(buf_slice(&b), &type, &payload);
    assert_true(decode(type, payload, &d));
    for (uint32_t bytes = 0; bytes != 2 * (WIRE_PIECE_BYTES + 1);
         bytes = bytes ? 2 * bytes : WIRE_PIECE_BYTES + 1) {
        buf_reset(&b);
        piece.bytes = bytes;
        wire_put_fetch(&b, &piece);
        take(buf_slice(&b), &type, &payload);
        assert_false(decode(type, payload, &d));
    }
    char address[MEMBER_ADDRESS_BYTES_MAX + 1];
    memset(address, 'a', sizeof address);
    struct wire_hello hello = {.version = 1, .address = slice_of(address, sizeof address - 2)};
    buf_reset(&b);
    wire_put_hello(&b, &hello);
    take(buf_slice(&b), &type, &payload);
    assert_true(decode(type, payload, &d));
    hello.address.size++; /* its end would not fit */
    buf_reset(&b);
    wire_put_hello(&b, &hello);
    take(buf_slice(&b), &type, &payload);
    assert_false(decode(type, payload, &d));
    struct wire_status status = {.http_address = hello.address};
    buf_reset(&b);
    wire_put_status(&b, &status);
    take(buf_slice(&b), &type, &payload);
    assert_false(decode(type, payload, &d));
    status = (struct wire_status){.redis_address = hello.address};
    buf_reset(&b);
    wire_put_status(&b, &status);
    take(buf_slice(&b), &type, &payload);
    assert_false(decode(type, payload, &d));
    status = (struct wire_status){.leader_id = 1, .leader_address = hello.address};
    buf_reset(&b);
    wire_put_status(&b, &status);
    take(buf_slice(&b), &type, &payload);
    assert_false(decode(type, payload, &d));
    buf_fini(&b);
}

/* ---- memberships, which the library decodes ---- */

static void put_server(struct buf *b, uint64_t id, const char *address, size_t size, uint8_t role) {
    buf_append_u64(b, id);
    buf_append(b, address, size);
    buf_append_u8(b, role);
}

static bool membership_decodes(const struct buf *b) {
    struct membership m;
    struct buf again = {0};
    if (!membership_decode(fenced(buf_slice(b)), &m))
        return false;
    membership_encode(&m, &again); /* what decodes must encode */
    buf_fini(&again);
    return true;
}

static void test_memberships(void **state) {
    struct buf b = {0};
    char longest[MEMBER_ADDRESS_BYTES_MAX + 1];
    static const struct {
        uint64_t id[2];
        const char *address[2];
        uint8_t role[2];
        bool ok;
    } rows[] = {
        {{1, 2}, {"a", "b"}, {1, 1}, true},    {{1, 2}, {"a", "b"}, {0, 2}, true},
        {{1, 1}, {"a", "b"}, {1, 1}, false}, /* an id twice */
        {{1, 2}, {"a", "a"}, {1, 1}, false}, /* an address twice */
        {{1, 2}, {"a", "b"}, {1, 3}, false}, /* no such role */
        {{1, 2}, {"a", "b"}, {1, 255}, false}, {{0, 2}, {"a", "b"}, {1, 1}, false}, /* no id */
        {{1, 2}, {"", "b"}, {1, 1}, false},                                         /* no address */
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        buf_reset(&b);
        buf_append_u8(&b, 1);
        buf_append_u64(&b, 2);
        for (int k = 0; k < 2; k++)
            put_server(&b, rows[i].id[k], rows[i].address[k], strlen(rows[i].address[k]) + 1,
                       rows[i].role[k]);
        while (b.size % 8)
            buf_append_u8(&b, 0);
        if (membership_decodes(&b) != rows[i].ok)
            fail_msg("row %zu", i);
    }
    /* An address that does not end, one that is too long, counts that lie. */
    memset(longest, 'a', sizeof longest);
    for (int which = 0; which < 4; which++) {
        buf_reset(&b);
        buf_append_u8(&b, 1);
        buf_append_u64(&b, which == 2 ? 3 : which == 3 ? UINT64_MAX : 1);
        longest[sizeof longest - 1] = which == 0 ? 'a' : 0;
        put_server(&b, 1, longest, sizeof longest, 1);
        assert_false(membership_decodes(&b));
    }
    for (size_t size = 0; size < 9; size++) {
        b.size = size;
        assert_false(membership_decodes(&b));
    }
    buf_fini(&b);
}

/* ---- filling an AppendEntries ---- */

static void test_append_takes_entries_from_the_log(void **state) {
    struct memlog log;
    struct buf b = {0};
    struct decoded d = {0};
    struct slice payload;
    uint8_t type;
    memlog_init(&log);
    memlog_reset(&log, 11, 5);
    for (int i = 0; i < 5; i++)
        log_push(&log, 5, CORE_COMMAND, slice_str("0123456789"));
    struct core_message m = append_of_every_kind;
    static const struct {
        uint64_t prev, bytes_max;
        uint32_t count, taken;
    } rows[] = {{10, 1000, 5, 5}, {10, 30, 5, 3}, {10, 29, 5, 2}, {12, 1, 3, 1}, {14, 0, 1, 1}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        buf_reset(&b);
        m.append.prev_index = rows[i].prev;
        m.append.count = rows[i].count;
        assert_true(wire_put_append(&b, &m, &log, rows[i].bytes_max));
        take(buf_slice(&b), &type, &payload);
        assert_true(decode(type, payload, &d));
        assert_int_equal(d.message.append.count, rows[i].taken);
        decoded_fini(&d);
    }
    buf_reset(&b);
    m.append.prev_index = 9; /* entry 10 is gone */
    assert_false(wire_put_append(&b, &m, &log, 1000));
    m.append.prev_index = 14; /* 16 is not there yet */
    m.append.count = 2;
    assert_false(wire_put_append(&b, &m, &log, 1000));
    assert_int_equal(b.size, 0);
    memlog_fini(&log);
    buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_every_truncation_and_extension),
        cmocka_unit_test(test_every_bit_flipped),
        cmocka_unit_test(test_frame_sizes),
        cmocka_unit_test(test_bounds_of_an_append),
        cmocka_unit_test(test_bounds_of_an_install),
        cmocka_unit_test(test_bounds_of_the_others),
        cmocka_unit_test(test_memberships),
        cmocka_unit_test(test_append_takes_entries_from_the_log),
    };
    return cmocka_run_group_tests(tests, fence_new, NULL);
}
