/* RESP: a connection's bytes must mean the same commands however they arrive; and the same bytes,
 * taken for a neutral reply, are translated or refused. */
#include <stdlib.h>

#include "base/reply.h"
#include "proto/resp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { COPIED_MAX = 512 };

static void note_result(struct buf *notes, const struct resp_parser *p, enum resp_result r) {
    buf_append_u8(notes, (uint8_t)r);
    if (r == RESP_ERROR)
        buf_append_str(notes, p->error);
    if (r != RESP_COMMAND)
        return;
    CHECK(p->args.count > 0);
    CHECK(p->args.count <= p->limits.args_max);
    size_t at = notes->size;
    argv_append(notes, p->args.args, p->args.count);
    CHECK(argv_check(slice_of(notes->data + at, notes->size - at)));
}

/* The bytes arrive in a first part and then in steps. */
static void talk(const uint8_t *data, size_t size, size_t first, size_t step, struct buf *notes) {
    static const struct resp_limits limits = {
        .args_max = 1000, .bulk_bytes_max = 100000, .command_bytes_max = 200000};
    struct resp_parser p;
    size_t at = 0, end = first < size ? first : size;
    resp_parser_init(&p, &limits);
    buf_reset(notes);
    for (;;) {
        /* A copy moves the bytes between calls and shows a sanitizer what reads behind them. */
        size_t n = end - at, used = 0;
        uint8_t *copy = size <= COPIED_MAX ? xmemdup(data + at, n) : NULL;
        enum resp_result r = resp_parse(&p, slice_of(copy ? copy : data + at, n), &used);
        if (r != RESP_MORE)
            note_result(notes, &p, r);
        free(copy);
        if (r == RESP_ERROR || (r == RESP_MORE && end == size))
            break;
        if (r == RESP_MORE) {
            CHECK(resp_parser_need(&p) > n);
            end = step < size - end ? end + step : size;
        } else {
            CHECK(used > 0 && used <= n);
            at += used;
            resp_parser_trim(&p);
        }
    }
    resp_parser_fini(&p);
}

static void translate(const uint8_t *data, size_t size) {
    struct slice in = slice_of(data, size), rest = in;
    struct buf resp2 = {0}, resp3 = {0}, again = {0};
    bool good = reply_skip(&rest) && rest.size == 0;
    CHECK(resp_append_reply(&resp2, in, 2) == good);
    CHECK(resp_append_reply(&resp3, in, 3) == good);
    if (good) {
        /* RESP2 has nothing left to translate, and is a neutral reply itself. */
        CHECK(resp_append_reply(&again, buf_slice(&resp2), 2));
        CHECK(slice_equal(buf_slice(&again), buf_slice(&resp2)));
    } else {
        CHECK(resp2.size == 0 && resp3.size == 0);
    }
    buf_fini(&resp2);
    buf_fini(&resp3);
    buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf whole = {0}, parts = {0};
    talk(data, size, size, size, &whole);
    talk(data, size, 1, 1, &parts);
    CHECK(slice_equal(buf_slice(&whole), buf_slice(&parts)));
    for (size_t first = 0; first < size; first += size / 8 + 1) {
        talk(data, size, first, size / 3 + 1, &parts);
        CHECK(slice_equal(buf_slice(&whole), buf_slice(&parts)));
    }
    buf_fini(&whole);
    buf_fini(&parts);
    translate(data, size);
    return 0;
}
