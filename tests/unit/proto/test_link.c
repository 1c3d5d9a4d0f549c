/* Link frames: what is built decodes to the same; what is cut, longer, or lies about a count or a
 * size is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/reply.h"
#include "proto/link.h"

static const uint8_t session[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* The one frame in `b`: its payload, after checking its type. */
static struct slice take_only(const struct buf *b, uint8_t want_type) {
    struct slice in = buf_slice(b), payload;
    uint8_t type;
    size_t need;
    assert_int_equal(link_take_frame(&in, &type, &payload, &need), LINK_TAKE_FRAME);
    assert_int_equal(in.size, 0);
    assert_int_equal(need, b->size);
    assert_int_equal(type, want_type);
    assert_int_equal(payload.size, b->size - LINK_FRAME_HEADER_BYTES);
    return payload;
}

static struct slice pack(struct buf *b, const char *command, const char *key) {
    size_t at = b->size;
    argv_append_strs(b, command, key, NULL);
    return slice_of(b->data + at, b->size - at);
}

/* ---- frames ---- */

static void test_take_frame(void **state) {
    struct buf b = {0};
    struct link_hello hello = {.version = 1};
    link_put_hello(&b, &hello);
    size_t first = b.size;
    link_put_hello(&b, &hello);
    for (size_t n = 0; n <= b.size; n++) {
        uint8_t *copy = xmemdup(b.data, n), type;
        struct slice in = slice_of(copy, n), payload;
        size_t need = 99, frames = 0;
        enum link_take r;
        while ((r = link_take_frame(&in, &type, &payload, &need)) == LINK_TAKE_FRAME)
            frames++;
        assert_int_equal(r, LINK_TAKE_MORE);
        assert_int_equal(frames, n / first);
        assert_int_equal(in.size, n % first);
        assert_int_equal(need, n % first >= 4 ? first : 0);
        free(copy);
    }
    buf_fini(&b);
}

static void test_frame_sizes(void **state) {
    static const struct {
        uint32_t size;
        enum link_take want;
    } cases[] = {
        {0, LINK_TAKE_BAD},
        {1, LINK_TAKE_MORE},
        {LINK_FRAME_BYTES_MAX, LINK_TAKE_MORE},
        {LINK_FRAME_BYTES_MAX + 1, LINK_TAKE_BAD},
        {UINT32_MAX, LINK_TAKE_BAD},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buf b = {0};
        buf_append_u32(&b, cases[i].size);
        struct slice in = buf_slice(&b), payload;
        uint8_t type;
        assert_int_equal(link_take_frame(&in, &type, &payload, NULL), cases[i].want);
        assert_int_equal(in.size, 4);
        buf_fini(&b);
    }
}

/* ---- single messages ---- */

static void test_hello(void **state) {
    struct buf b = {0};
    struct link_hello in = {.version = 7, .features = 0x01020304}, out;
    memcpy(in.session, session, 16);
    link_put_hello(&b, &in);
    struct slice payload = take_only(&b, LINK_HELLO);
    assert_true(link_decode_hello(payload, &out));
    assert_int_equal(out.version, 7);
    assert_int_equal(out.features, 0x01020304);
    assert_memory_equal(out.session, session, 16);
    for (size_t n = 0; n < payload.size; n++)
        assert_false(link_decode_hello(slice_of(payload.data, n), &out));
    buf_append_u8(&b, 0);
    assert_false(link_decode_hello(slice_of(b.data + 5, b.size - 5), &out));
    buf_fini(&b);
}

static void test_node_hello(void **state) {
    struct buf b = {0};
    struct link_node_hello in = {.version = 1,
                                 .features = 2,
                                 .node_id = UINT64_MAX,
                                 .window_requests = 4,
                                 .window_bytes = 5},
                           out;
    memcpy(in.cluster_id, session, 16);
    link_put_node_hello(&b, &in);
    struct slice payload = take_only(&b, LINK_NODE_HELLO);
    assert_true(link_decode_node_hello(payload, &out));
    assert_int_equal(out.version, 1);
    assert_int_equal(out.features, 2);
    assert_int_equal(out.node_id, UINT64_MAX);
    assert_memory_equal(out.cluster_id, session, 16);
    assert_int_equal(out.window_requests, 4);
    assert_int_equal(out.window_bytes, 5);
    for (size_t n = 0; n < payload.size; n++)
        assert_false(link_decode_node_hello(slice_of(payload.data, n), &out));
    buf_fini(&b);
}

static void test_admin(void **state) {
    struct buf b = {0}, argv = {0};
    struct link_admin in = {.id = 9, .packed_argv = pack(&argv, "STATUS", "x")}, out;
    link_put_admin(&b, &in);
    struct slice payload = take_only(&b, LINK_ADMIN);
    assert_true(link_decode_admin(payload, &out));
    assert_int_equal(out.id, 9);
    assert_true(slice_equal(out.packed_argv, in.packed_argv));
    for (size_t n = 0; n < payload.size; n++)
        assert_false(link_decode_admin(slice_of(payload.data, n), &out));
    buf_fini(&b);
    buf_fini(&argv);
}

/* ---- batches ---- */

static void put_writes(struct buf *b, struct buf *argv, uint32_t count) {
    struct link_batch batch;
    link_open_writes(b, &batch, session, 41);
    for (uint32_t i = 0; i < count; i++) {
        buf_reset(argv);
        struct link_write w = {.sequence = 42 + i,
                               .db = (uint16_t)i,
                               .packed_argv = pack(argv, "DEL", i % 2 ? "odd" : "")};
        link_add_write(b, &batch, &w);
    }
    link_close(b, &batch);
}

static void test_writes(void **state) {
    struct buf b = {0}, argv = {0};
    put_writes(&b, &argv, 3);
    struct slice payload = take_only(&b, LINK_WRITES);
    struct link_writes w;
    assert_true(link_decode_writes(payload, &w));
    assert_memory_equal(w.session, session, 16);
    assert_int_equal(w.acked_below, 41);
    assert_int_equal(w.count, 3);
    assert_true(slice_equal(w.whole, payload));
    struct slice commands = w.commands;
    for (uint32_t i = 0; i < 3; i++) {
        struct link_write one;
        assert_true(link_next_write(&commands, &one));
        assert_int_equal(one.sequence, 42 + i);
        assert_int_equal(one.db, i);
        struct argv a = {0};
        assert_true(argv_unpack(&a, one.packed_argv));
        assert_int_equal(a.count, 2);
        assert_true(slice_equal_str(a.args[1], i % 2 ? "odd" : ""));
        argv_fini(&a);
    }
    assert_int_equal(commands.size, 0);
    for (size_t n = 0; n < payload.size; n++) {
        uint8_t *cut = xmemdup(payload.data, n);
        assert_false(link_decode_writes(slice_of(cut, n), &w));
        free(cut);
    }
    buf_fini(&b);
    buf_fini(&argv);
}

/* The layout is also that of a group in the log, so its bytes are fixed here. */
static void test_writes_layout(void **state) {
    static const uint8_t want[] = {71,  0,   0,  0,  LINK_WRITES, /* size and type */
                                   1,   2,   3,  4,  5,           6, 7,   8,   9,   10,  11,  12,
                                   13,  14,  15, 16,                         /* session */
                                   41,  0,   0,  0,  0,           0, 0,   0, /* acked_below */
                                   1,   0,   0,  0,  38,          0, 0,   0, /* count, bytes */
                                   2,   1,   0,  0,  0,           0, 0,   0,   7,   0,   24,  0,
                                   0,   0, /* sequence, db, size */
                                   2,   0,   0,  0,  6,           0, 0,   0,   'U', 'N', 'L', 'I',
                                   'N', 'K', 6,  0,  0,           0, 'c', 'o', 't', 'i', 'd', 'e'};
    struct buf b = {0}, argv = {0};
    struct link_batch batch;
    struct link_write w = {
        .sequence = 258, .db = 7, .packed_argv = pack(&argv, "UNLINK", "cotide")};
    link_open_writes(&b, &batch, session, 41);
    link_add_write(&b, &batch, &w);
    link_close(&b, &batch);
    assert_int_equal(b.size, sizeof want);
    assert_memory_equal(b.data, want, sizeof want);
    buf_fini(&b);
    buf_fini(&argv);
}

/* Overwrites the u32 at each place of a good WRITES payload where a count or size stands. */
static void test_writes_that_lie(void **state) {
    struct buf b = {0}, argv = {0};
    put_writes(&b, &argv, 2);
    static const size_t places[] = {24, 28, 42, 46, 50};
    static const uint32_t lies[] = {0, 1, 4, 1000, 0x7fffffff, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(places); i++)
        for (size_t k = 0; k < ARRAY_COUNT(lies); k++) {
            struct buf bad = {0};
            struct link_writes w;
            buf_append(&bad, b.data + LINK_FRAME_HEADER_BYTES, b.size - LINK_FRAME_HEADER_BYTES);
            assert_int_not_equal(memcmp(bad.data + places[i], &lies[k], 4), 0);
            buf_patch_u32(&bad, places[i], lies[k]);
            if (link_decode_writes(buf_slice(&bad), &w))
                fail_msg("accepted %u at %zu", lies[k], places[i]);
            buf_fini(&bad);
        }
    buf_fini(&b);
    buf_fini(&argv);
}

static void test_reads(void **state) {
    struct buf b = {0}, argv = {0};
    struct link_batch batch;
    struct link_read in = {.id = 5,
                           .flags = LINK_READ_STALE,
                           .db = 3,
                           .min_index = 77,
                           .packed_argv = pack(&argv, "GET", "a")},
                     out;
    link_open_reads(&b, &batch);
    link_add_read(&b, &batch, &in);
    in.id = 6;
    link_add_read(&b, &batch, &in);
    link_close(&b, &batch);
    struct slice payload = take_only(&b, LINK_READS);
    uint32_t count;
    assert_true(link_decode_count(&payload, &count));
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++) {
        for (size_t n = 0; n < payload.size / (2 - i); n++) {
            struct slice cut = slice_of(payload.data, n);
            assert_false(link_next_read(&cut, &out));
            assert_int_equal(cut.size, n);
        }
        assert_true(link_next_read(&payload, &out));
        assert_int_equal(out.id, 5 + i);
        assert_int_equal(out.flags, LINK_READ_STALE);
        assert_int_equal(out.db, 3);
        assert_int_equal(out.min_index, 77);
        assert_true(slice_equal(out.packed_argv, in.packed_argv));
    }
    assert_int_equal(payload.size, 0);
    assert_false(link_next_read(&payload, &out));
    b.data[LINK_FRAME_HEADER_BYTES + 4 + 8] = 2; /* a flag that does not exist */
    payload = slice_of(b.data + 9, b.size - 9);
    assert_false(link_next_read(&payload, &out));
    buf_fini(&b);
    buf_fini(&argv);
}

static bool reply_roundtrip(uint8_t kind, uint8_t status, const char *reply) {
    struct buf b = {0};
    struct link_batch batch;
    struct link_reply in = {.id = 1,
                            .kind = kind,
                            .status = status,
                            .index = 2,
                            .age_ms = 9,
                            .reply = slice_str(reply)};
    struct link_reply out;
    link_open_replies(&b, &batch);
    link_add_reply(&b, &batch, &in);
    link_close(&b, &batch);
    struct slice payload = take_only(&b, LINK_REPLIES);
    uint32_t count;
    assert_true(link_decode_count(&payload, &count));
    assert_int_equal(count, 1);
    bool good = link_next_reply(&payload, &out);
    if (good) {
        assert_int_equal(payload.size, 0);
        assert_int_equal(out.id, 1);
        assert_int_equal(out.kind, kind);
        assert_int_equal(out.status, status);
        assert_int_equal(out.index, 2);
        assert_int_equal(out.age_ms, kind == LINK_KIND_STALE ? 9 : 0);
        assert_true(slice_equal_str(out.reply, reply));
    }
    buf_fini(&b);
    return good;
}

static void test_replies(void **state) {
    assert_true(reply_roundtrip(LINK_KIND_WRITE, LINK_OK, "+OK\r\n"));
    assert_true(reply_roundtrip(LINK_KIND_READ, LINK_OK, "*2\r\n:1\r\n$-1\r\n"));
    assert_true(reply_roundtrip(LINK_KIND_WRITE, LINK_NOT_LEADER, ""));
    assert_true(reply_roundtrip(LINK_KIND_WRITE, LINK_REFUSED, "-ERR no\r\n"));
    assert_false(reply_roundtrip(LINK_KIND_WRITE, LINK_OK, ""));
    assert_false(reply_roundtrip(LINK_KIND_WRITE, LINK_OK, "+OK\r\n+OK\r\n"));
    assert_false(reply_roundtrip(LINK_KIND_WRITE, LINK_OK, "*1\r\n"));
    assert_false(reply_roundtrip(LINK_KIND_WRITE, LINK_BUSY, "busy"));
    assert_true(reply_roundtrip(LINK_KIND_STALE, LINK_OK, "+OK\r\n"));
    assert_false(reply_roundtrip(3, LINK_OK, "+OK\r\n"));
    assert_false(reply_roundtrip(LINK_KIND_READ, LINK_REFUSED + 1, "+OK\r\n"));
}

/* Every prefix, and one byte more, is refused. */
static void assert_exact(struct slice payload, bool (*decodes)(struct slice)) {
    for (size_t n = 0; n <= payload.size; n++) {
        uint8_t *copy = xmemdup(payload.data, n);
        assert_int_equal(decodes(slice_of(copy, n)), n == payload.size);
        free(copy);
    }
    struct buf longer = {0};
    buf_append_slice(&longer, payload);
    buf_append_u8(&longer, 0);
    assert_false(decodes(buf_slice(&longer)));
    buf_fini(&longer);
}

static bool decodes_read_index(struct slice payload) {
    return link_decode_read_index(payload, &(struct link_read_index){0});
}

static bool decodes_read_indexed(struct slice payload) {
    return link_decode_read_indexed(payload, &(struct link_read_indexed){0});
}

static bool decodes_ping(struct slice payload) {
    return link_decode_ping(payload, &(uint64_t){0});
}

static void test_read_index(void **state) {
    struct buf b = {0};
    struct link_read_index ask = {.id = 7, .flags = LINK_READ_STALE, .min_index = 99}, ask_out;
    link_put_read_index(&b, &ask);
    struct slice payload = take_only(&b, LINK_READ_INDEX);
    assert_true(link_decode_read_index(payload, &ask_out));
    assert_int_equal(ask_out.id, 7);
    assert_int_equal(ask_out.flags, LINK_READ_STALE);
    assert_int_equal(ask_out.min_index, 99);
    assert_exact(payload, decodes_read_index);
    buf_reset(&b);
    ask.flags = 2;
    link_put_read_index(&b, &ask);
    assert_false(decodes_read_index(take_only(&b, LINK_READ_INDEX)));
    buf_reset(&b);
    struct link_read_indexed answer = {.id = 7, .index = 120, .time_ms = 1700000000000}, out;
    link_put_read_indexed(&b, &answer);
    payload = take_only(&b, LINK_READ_INDEXED);
    assert_true(link_decode_read_indexed(payload, &out));
    assert_int_equal(out.id, 7);
    assert_int_equal(out.status, LINK_OK);
    assert_int_equal(out.index, 120);
    assert_int_equal(out.time_ms, 1700000000000);
    assert_exact(payload, decodes_read_indexed);
    buf_reset(&b);
    answer.status = LINK_NOT_LEADER;
    link_put_read_indexed(&b, &answer);
    assert_false(decodes_read_indexed(take_only(&b, LINK_READ_INDEXED)));
    buf_fini(&b);
}

static void test_ping(void **state) {
    struct buf b = {0};
    uint64_t id;
    link_put_ping(&b, LINK_PING, 5);
    struct slice payload = take_only(&b, LINK_PING);
    assert_true(link_decode_ping(payload, &id));
    assert_int_equal(id, 5);
    assert_exact(payload, decodes_ping);
    buf_reset(&b);
    link_put_ping(&b, LINK_PONG, 6);
    assert_true(link_decode_ping(take_only(&b, LINK_PONG), &id));
    assert_int_equal(id, 6);
    buf_fini(&b);
}

static void test_counts(void **state) {
    struct buf b = {0};
    uint32_t count;
    struct slice in;
    static const struct {
        uint32_t count;
        size_t bytes;
        bool good;
    } cases[] = {{0, 0, false}, {0, 22, false}, {1, 21, false},
                 {1, 22, true}, {2, 43, false}, {UINT32_MAX, 100, false}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        buf_reset(&b);
        buf_append_u32(&b, cases[i].count);
        memset(buf_reserve(&b, 100), 0, 100);
        buf_commit(&b, cases[i].bytes);
        in = buf_slice(&b);
        assert_int_equal(link_decode_count(&in, &count), cases[i].good);
        assert_int_equal(in.size, cases[i].good ? cases[i].bytes : b.size);
    }
    in = slice_of("abc", 3);
    assert_false(link_decode_count(&in, &count));
    buf_fini(&b);
}

static void test_topology(void **state) {
    struct buf b = {0};
    struct link_batch batch;
    struct link_member m = {.id = 3,
                            .role = 1,
                            .peer_address = slice_str("h:7070"),
                            .http_address = slice_str("h:8080"),
                            .redis_address = slice_str("")},
                       out;
    link_open_topology(&b, &batch, 12, 3);
    link_add_member(&b, &batch, &m);
    m.id = 4;
    link_add_member(&b, &batch, &m);
    link_close(&b, &batch);
    struct slice payload = take_only(&b, LINK_TOPOLOGY);
    struct link_topology t;
    assert_true(link_decode_topology(payload, &t));
    assert_int_equal(t.term, 12);
    assert_int_equal(t.leader_id, 3);
    assert_int_equal(t.count, 2);
    for (uint32_t i = 0; i < t.count; i++) {
        assert_true(link_next_member(&t.members, &out));
        assert_int_equal(out.id, 3 + i);
        assert_int_equal(out.role, 1);
        assert_true(slice_equal_str(out.peer_address, "h:7070"));
        assert_true(slice_equal_str(out.http_address, "h:8080"));
        assert_int_equal(out.redis_address.size, 0);
    }
    assert_int_equal(t.members.size, 0);
    for (size_t n = 0; n < payload.size; n++)
        assert_false(link_decode_topology(slice_of(payload.data, n), &t));
    for (uint32_t lie = 0; lie < 5; lie++) {
        buf_patch_u32(&b, LINK_FRAME_HEADER_BYTES + 16, lie);
        assert_int_equal(link_decode_topology(payload, &t), lie == 2);
    }
    buf_fini(&b);
}

/* Frames follow one another in a buf; one without elements leaves no trace. */
static void test_batches_in_a_row(void **state) {
    struct buf b = {0}, argv = {0};
    struct link_batch batch;
    link_open_reads(&b, &batch);
    link_close(&b, &batch);
    assert_int_equal(b.size, 0);
    put_writes(&b, &argv, 1);
    size_t before = b.size;
    link_open_writes(&b, &batch, session, 0);
    link_close(&b, &batch);
    assert_int_equal(b.size, before);
    put_writes(&b, &argv, 2);
    struct slice in = buf_slice(&b), payload;
    for (uint32_t i = 1; i <= 2; i++) {
        uint8_t type;
        struct link_writes w;
        assert_int_equal(link_take_frame(&in, &type, &payload, NULL), LINK_TAKE_FRAME);
        assert_true(link_decode_writes(payload, &w));
        assert_int_equal(w.count, i);
    }
    assert_int_equal(in.size, 0);
    buf_fini(&b);
    buf_fini(&argv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_frame),
        cmocka_unit_test(test_frame_sizes),
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_node_hello),
        cmocka_unit_test(test_admin),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_writes_layout),
        cmocka_unit_test(test_writes_that_lie),
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_read_index),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_topology),
        cmocka_unit_test(test_batches_in_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
