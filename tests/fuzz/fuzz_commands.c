/* Commands on the model of the keyspace. The input is text: a command a line, its words apart by
 * blanks, \xx a byte, '' nothing; "@ xx" lets half a second pass for each x. Each command
 * must answer exactly one well-formed reply, errors and reads change nothing, and a view answers a
 * read as the writer does. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/reply.h"
#include "fake_keyspace.h"
#include "store/commands.h"

enum { WORDS_MAX = 256 };

struct line {
    struct slice words[WORDS_MAX];
    size_t count;
    struct buf bytes;
};

static int hex_digit(uint8_t c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void unescape(struct buf *out, struct slice word) {
    for (size_t i = 0; i < word.size; i++) {
        bool escaped = word.data[i] == '\\' && word.size - i > 2 &&
                       hex_digit(word.data[i + 1]) >= 0 && hex_digit(word.data[i + 2]) >= 0;
        if (escaped) {
            buf_append_u8(
                out, (uint8_t)(hex_digit(word.data[i + 1]) * 16 + hex_digit(word.data[i + 2])));
            i += 2;
        } else {
            buf_append_u8(out, word.data[i]);
        }
    }
}

/* Takes a line off the input. */
static void next_line(struct slice *in, struct line *l) {
    const uint8_t *end = memchr(in->data, '\n', in->size);
    size_t size = end ? (size_t)(end - in->data) : in->size, at = 0;
    l->count = 0;
    buf_reset(&l->bytes);
    buf_reserve(&l->bytes, size + 1); /* the words must not move */
    while (at < size && l->count < WORDS_MAX) {
        const uint8_t *blank = memchr(in->data + at, ' ', size - at);
        size_t word_end = blank ? (size_t)(blank - in->data) : size;
        struct slice word = slice_of(in->data + at, word_end - at);
        size_t start = l->bytes.size;
        if (!slice_equal_str(word, "''"))
            unescape(&l->bytes, word);
        l->words[l->count++] = slice_of(l->bytes.data + start, l->bytes.size - start);
        at = word_end + 1;
    }
    size_t used = size + (end != NULL);
    in->data += used;
    in->size -= used;
}

static bool is_random(const struct command *c) {
    return strcmp(c->name, "RANDOMKEY") == 0 || strcmp(c->name, "HRANDFIELD") == 0;
}

static void run(struct keyspace *ks, const struct argv *argv, uint64_t now_ms, uint64_t count) {
    struct buf out = {0}, again = {0};
    uint64_t before = fake_keyspace_digest(ks);
    const struct command *c = command_find(argv->args[0]);
    bool reads = c && (c->flags & CMD_READ);
    (void)command_grows(argv);
    fake_keyspace_begin(ks, now_ms, count << 20, count);
    CHECK(command_execute(ks, 0, argv, &out) == 0);
    struct slice reply = buf_slice(&out);
    CHECK(reply.size <= COMMAND_REPLY_BYTES_MAX);
    CHECK(reply_skip(&reply));
    CHECK(reply.size == 0);
    if (reads || reply_is_error(buf_slice(&out)))
        CHECK(before == fake_keyspace_digest(ks));
    if (reads && !is_random(c) && strcmp(c->name, "KV.LIST") != 0) {
        fake_keyspace_begin(ks, now_ms, 0, count);
        CHECK(command_execute(ks, 0, argv, &again) == 0);
        CHECK(slice_equal(buf_slice(&out), buf_slice(&again)));
    }
    buf_fini(&out);
    buf_fini(&again);
}

/* Long strings are slow and teach nothing here. */
static bool makes_long_string(const struct argv *argv) {
    for (size_t i = 0; i + 2 < argv->count; i++)
        if (slice_equal_nocase(argv->args[i], "setrange") && argv->args[i + 2].size > 4)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct keyspace *ks = fake_keyspace_new();
    struct line line = {0};
    struct slice in = slice_of(data, size);
    uint64_t now_ms = 1000000;
    for (uint64_t count = 1; in.size > 0 && count < 1000; count++) {
        next_line(&in, &line);
        struct argv argv = {.args = line.words, .count = line.count};
        if (argv.count == 0 || makes_long_string(&argv))
            continue;
        if (slice_equal_str(argv.args[0], "@"))
            now_ms += argv.count > 1 ? argv.args[1].size * 500 : 1;
        else
            run(ks, &argv, now_ms, count);
    }
    buf_fini(&line.bytes);
    fake_keyspace_free(ks);
    return 0;
}
