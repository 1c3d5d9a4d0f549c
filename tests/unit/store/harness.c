#include "harness.h"

#include <stdio.h>

#include "store/commands.h"
#include "store/store.h"

static void pack(struct harness *h, const struct slice *args, size_t count) {
    buf_reset(&h->packed);
    argv_append(&h->packed, args, count);
    assert_true(argv_unpack(&h->argv, buf_slice(&h->packed)));
    h->count++;
}

void harness_advance(struct harness *h, uint64_t ms) {
    struct slice nothing = slice_str("DBSIZE");
    h->now_ms += ms;
    pack(h, &nothing, 1);
    buf_reset(&h->reply);
    backend_run(h->backend, h, false, &h->reply);
}

int harness_setup(void **state) {
    struct harness *h = xcalloc(1, sizeof *h);
    h->backend = backend_new();
    h->now_ms = 1000000;
    harness_advance(h, 0);
    *state = h;
    return 0;
}

int harness_teardown(void **state) {
    struct harness *h = *state;
    backend_free(h->backend);
    argv_fini(&h->argv);
    buf_fini(&h->packed);
    buf_fini(&h->reply);
    buf_fini(&h->text);
    free(h);
    return 0;
}

static void append_bytes(struct buf *out, struct slice s) {
    enum { SHOWN_BYTES_MAX = 10000 };
    if (s.size > SHOWN_BYTES_MAX) {
        buf_printf(out, "... %zu bytes", s.size);
        return;
    }
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] >= ' ' && s.data[i] <= '~')
            buf_append_char(out, (char)s.data[i]);
        else
            buf_printf(out, "\\%02x", s.data[i]);
    }
}

static void append_text(struct buf *out, struct slice *reply) {
    struct reply_item item;
    assert_true(reply_next(reply, &item));
    switch (item.type) {
    case '+':
    case '-':
        buf_append_char(out, item.type);
        append_bytes(out, item.bytes);
        return;
    case ':':
        buf_printf(out, "%lld", (long long)item.integer);
        return;
    case '$':
        buf_append_char(out, '\'');
        append_bytes(out, item.bytes);
        buf_append_char(out, '\'');
        return;
    case '*':
    case '%':
        buf_append_char(out, item.type == '*' ? '[' : '{');
        for (uint64_t i = 0, n = reply_item_children(&item); i < n; i++) {
            if (i > 0)
                buf_append_char(out, ' ');
            append_text(out, reply);
        }
        buf_append_char(out, item.type == '*' ? ']' : '}');
        return;
    default:
        assert_int_equal(item.type, 'n');
        buf_append_str(out, item.bytes.data[-1] == '*' ? "nil[]" : "nil");
    }
}

static bool is_random(struct slice name) {
    return slice_equal_nocase(name, "randomkey") || slice_equal_nocase(name, "hrandfield");
}

const char *run_args(struct harness *h, const struct slice *args, size_t count) {
    pack(h, args, count);
    const struct command *c = command_find(args[0]);
    struct hash128 before = backend_digest(h->backend);
    buf_reset(&h->reply);
    backend_run(h->backend, h, false, &h->reply);
    struct slice reply = buf_slice(&h->reply);
    bool read_only = c && (c->flags & CMD_READ);
    if (reply_is_error(reply) || read_only)
        assert_true(hash128_equal(before, backend_digest(h->backend)));
    buf_reset(&h->text);
    if (read_only && !is_random(args[0])) {
        backend_run(h->backend, h, true, &h->text);
        assert_true(slice_equal(reply, buf_slice(&h->text)));
        buf_reset(&h->text);
    }
    append_text(&h->text, &reply);
    assert_int_equal(reply.size, 0);
    buf_append_char(&h->text, 0);
    return (const char *)h->text.data;
}

const char *run(struct harness *h, const char *words) {
    enum { WORDS_MAX = 64, BYTES_MAX = 4096 };
    struct slice args[WORDS_MAX];
    uint8_t bytes[BYTES_MAX];
    size_t count = 0, used = 0;
    assert_true(strlen(words) < BYTES_MAX);
    while (*words) {
        size_t start = used;
        size_t size = strcspn(words, " ");
        for (size_t i = 0; i < size; i++) {
            if (words[i] == '\\') {
                const char hex[3] = {words[i + 1], words[i + 2]};
                bytes[used++] = (uint8_t)strtoul(hex, NULL, 16);
                i += 2;
            } else {
                bytes[used++] = (uint8_t)words[i];
            }
        }
        bool empty = size == 2 && words[0] == '\'' && words[1] == '\'';
        assert_true(count < WORDS_MAX);
        args[count++] = slice_of(bytes + start, empty ? 0 : used - start);
        words += size + (words[size] == ' ');
    }
    return run_args(h, args, count);
}

int64_t run_int(struct harness *h, const char *words) {
    const char *text = run(h, words);
    char *end;
    int64_t v = strtoll(text, &end, 10);
    assert_int_equal(*end, 0);
    return v;
}
