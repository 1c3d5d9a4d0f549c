/* The RESP parser: a table of byte streams, each fed whole, byte by byte and split at every point,
 * from a buffer that moves in memory between calls; limits; that nothing is read twice. And the
 * RESP2 and RESP3 forms of neutral replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/reply.h"
#include "proto/resp.h"

/* The tables leave out what is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

static const struct resp_limits limits = {
    .args_max = 1024 * 1024, .bulk_bytes_max = 512 * 1024 * 1024, .command_bytes_max = 1 << 30};

/* What the parser made of a stream: "[a|b]" a command, "()" an empty one, "!..." an error. */
static void describe(struct buf *out, const struct resp_parser *p, enum resp_result r) {
    switch (r) {
    case RESP_COMMAND:
        for (size_t i = 0; i < p->args.count; i++) {
            buf_append_char(out, i ? '|' : '[');
            for (size_t k = 0; k < p->args.args[i].size; k++) {
                uint8_t c = p->args.args[i].data[k];
                if (c < ' ' || c >= 0x7f)
                    buf_printf(out, "\\x%02x", c);
                else
                    buf_append_char(out, (char)c);
            }
        }
        buf_append_char(out, ']');
        break;
    case RESP_EMPTY:
        buf_append_str(out, "()");
        break;
    case RESP_ERROR:
        buf_printf(out, "!%s", p->error);
        break;
    case RESP_MORE:
        break;
    }
}

/* Gives the parser what has arrived up to `end`; every call gets its own copy of the bytes. Returns
 * how far the commands that are complete go. */
static size_t feed_to(struct resp_parser *p, struct slice in, size_t from, size_t end,
                      struct buf *out) {
    for (;;) {
        uint8_t *copy = xmemdup(in.data + from, end - from);
        size_t used = 0;
        enum resp_result r = resp_parse(p, slice_of(copy, end - from), &used);
        if (r == RESP_MORE)
            assert_true(resp_parser_need(p) > end - from);
        if (r == RESP_COMMAND || r == RESP_EMPTY)
            assert_in_range(used, 1, end - from);
        describe(out, p, r);
        free(copy);
        if (r == RESP_MORE || r == RESP_ERROR)
            return from;
        from += used;
    }
}

static void feed(const struct resp_limits *lim, struct slice in, size_t first, size_t step,
                 struct buf *out) {
    struct resp_parser p;
    resp_parser_init(&p, lim);
    buf_reset(out);
    size_t from = 0;
    for (size_t end = first;; end += step) {
        end = end < in.size ? end : in.size;
        from = feed_to(&p, in, from, end, out);
        if (p.error[0] || end == in.size)
            break;
    }
    resp_parser_fini(&p);
}

struct stream_case {
    const char *what;
    const char *in;
    const char *want;
    size_t size; /* of the input when it holds a NUL, else 0 */
};

#define ERR "!ERR Protocol error: "
#define BINARY(text) .in = (text), .size = sizeof(text) - 1

static const struct stream_case streams[] = {
    {"one argument", "*1\r\n$4\r\nPING\r\n", "[PING]"},
    {"two commands", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n", "[GET|a][PING]"},
    {"an empty argument", "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", "[ECHO|]"},
    {"CRLF in an argument", "*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n",
     "[ECHO|\\x0d\\x0a\\x0d\\x0a]"},
    {"NUL in an argument", BINARY("*2\r\n$4\r\nECHO\r\n$3\r\na\0b\r\n"), .want = "[ECHO|a\\x00b]"},
    {"an argument that looks like a command", "*2\r\n$4\r\nECHO\r\n$4\r\n*1\r\n\r\n",
     "[ECHO|*1\\x0d\\x0a]"},
    {"empty arrays", "*0\r\n*-1\r\n*-7\r\n*1\r\n$4\r\nPING\r\n", "()()()[PING]"},
    {"incomplete", "*2\r\n$3\r\nGET\r\n$1\r\na\r", ""},
    {"complete and incomplete", "PING\r\n*1", "[PING]"},

    {"count empty", "*\r\n", ERR "invalid multibulk length"},
    {"count of letters", "*abc\r\n", ERR "invalid multibulk length"},
    {"count with plus", "*+1\r\n", ERR "invalid multibulk length"},
    {"count with zeros", "*01\r\n", ERR "invalid multibulk length"},
    {"count with space", "*1 \r\n", ERR "invalid multibulk length"},
    {"count too large", "*1048577\r\n", ERR "invalid multibulk length"},
    {"count of 64 bits", "*18446744073709551617\r\n", ERR "invalid multibulk length"},
    {"the largest count is not allocated", "*1048576\r\n$1\r\n", ""},
    {"CR without LF behind a count", "*1\rx", ERR "invalid multibulk length"},
    {"no dollar", "*1\r\nfoo\r\n", ERR "expected '$', got 'f'"},
    {"no dollar, a control character", "*1\r\n\r\n", ERR "expected '$', got ' '"},
    {"no dollar, NUL", BINARY("*1\r\n\0"), .want = ERR "expected '$', got ' '"},
    {"no dollar in the second", "*2\r\n$3\r\nGET\r\n:1\r\n", ERR "expected '$', got ':'"},
    {"length empty", "*1\r\n$\r\n", ERR "invalid bulk length"},
    {"length negative", "*1\r\n$-1\r\n", ERR "invalid bulk length"},
    {"length of letters", "*1\r\n$a\r\n", ERR "invalid bulk length"},
    {"length with zeros", "*1\r\n$04\r\nPING\r\n", ERR "invalid bulk length"},
    {"length too large", "*1\r\n$536870913\r\n", ERR "invalid bulk length"},
    {"the largest length is waited for", "*1\r\n$536870912\r\n", ""},
    {"CR without LF behind a length", "*1\r\n$4\rPING", ERR "invalid bulk length"},
    {"argument longer than its length", "*1\r\n$3\r\nPING\r\n", ERR "invalid bulk length"},
    {"argument shorter than its length", "*1\r\n$5\r\nPING\r\n*1\r\n", ERR "invalid bulk length"},
    {"good, then bad", "PING\r\n*x\r\nPING\r\n", "[PING]" ERR "invalid multibulk length"},

    {"inline", "PING\r\n", "[PING]"},
    {"inline with LF only", "GET a\n", "[GET|a]"},
    {"inline with blanks", "  SET \t a  b \r\n", "[SET|a|b]"},
    {"empty lines", "\r\n\n  \r\nPING\r\n", "()()()[PING]"},
    {"double quotes", "SET a \"b c\"\r\n", "[SET|a|b c]"},
    {"escapes", "ECHO \"\\x00\\xfF\\n\\r\\t\\b\\a\\\\\\\"\\q\\xzz\"\r\n",
     "[ECHO|\\x00\\xff\\x0a\\x0d\\x09\\x08\\x07\\\"qxzz]"},
    {"single quotes", "ECHO 'a\\'b\\n\"'\r\n", "[ECHO|a'b\\n\"]"},
    {"empty quotes", "ECHO \"\" ''\r\n", "[ECHO||]"},
    {"quotes begin within a word", "ECHO a\"b c\"\r\n", "[ECHO|ab c]"},
    {"backslash outside quotes", "ECHO a\\nb\r\n", "[ECHO|a\\nb]"},
    {"CR within a line", "ECHO a\rb\r\n", "[ECHO|a|b]"},
    {"double quote left open", "ECHO \"a\r\n", ERR "unbalanced quotes in request"},
    {"single quote left open", "ECHO 'a\r\n", ERR "unbalanced quotes in request"},
    {"escaped closing quote", "ECHO \"a\\\"\r\n", ERR "unbalanced quotes in request"},
    {"backslash at the end", "ECHO \"a\\\r\n", ERR "unbalanced quotes in request"},
    {"text behind a closing quote", "ECHO \"a\"b\r\n", ERR "unbalanced quotes in request"},
    {"text behind a closing single quote", "ECHO 'a'b\r\n", ERR "unbalanced quotes in request"},
    {"NUL in a line", BINARY("ECHO a\0b\r\n"), .want = "[ECHO|a\\x00b]"},
    {"inline and array", "PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n", "[PING][PING][PING]"},
    {"a dollar alone is inline", "$4\r\nPING\r\n", "[$4][PING]"},
};

static void test_streams(void **state) {
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(streams); i++) {
        const struct stream_case *c = &streams[i];
        struct slice in = slice_of(c->in, c->size ? c->size : strlen(c->in));
        for (size_t first = 0; first <= in.size + 1; first++) {
            bool bytes = first > in.size; /* the last round is byte by byte */
            feed(&limits, in, bytes ? 1 : first, bytes ? 1 : in.size + 1, &out);
            if (!slice_equal_str(buf_slice(&out), c->want))
                fail_msg("%s, split at %zu: got '%.*s', want '%s'", c->what, first, (int)out.size,
                         out.data, c->want);
        }
    }
    buf_fini(&out);
}

/* `before`, then `count` times `fill`, then `after`; checked whole, in two and byte by byte. */
/* Who has not logged in may send what that takes, and no more. */
static void test_strangers(void **state) {
    static const struct {
        const char *in, *error;
    } cases[] = {
        {"*10\r\n$16384\r\n", ""},
        {"*11\r\n", "ERR Protocol error: unauthenticated multibulk length"},
        {"*1048576\r\n", "ERR Protocol error: unauthenticated multibulk length"},
        {"*2\r\n$4\r\nAUTH\r\n$16385\r\n", "ERR Protocol error: unauthenticated bulk length"},
        {"*1048577\r\n", "ERR Protocol error: invalid multibulk length"},
        {"PING a b c d e f g h i j k l\r\n", ""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        size_t size = strlen(cases[i].in);
        for (size_t first = 0; first <= size; first++) { /* split at every point */
            struct resp_parser p;
            struct buf out = {0};
            resp_parser_init(&p, &limits);
            p.stranger = true;
            if (first > 0)
                feed_to(&p, slice_str(cases[i].in), 0, first, &out);
            if (!p.error[0])
                feed_to(&p, slice_str(cases[i].in), 0, size, &out);
            assert_string_equal(p.error, cases[i].error);
            buf_fini(&out);
            resp_parser_fini(&p);
        }
    }
}

static void check_filled(const struct resp_limits *lim, const char *before, size_t count, char fill,
                         const char *after, const char *want_end) {
    struct buf in = {0}, out = {0};
    buf_append_str(&in, before);
    for (size_t i = 0; i < count; i++)
        buf_append_char(&in, fill);
    buf_append_str(&in, after);
    size_t steps[] = {in.size, in.size / 2 + 1, 997};
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        feed(lim, buf_slice(&in), steps[i], steps[i], &out);
        size_t n = strlen(want_end);
        assert_true(out.size >= n);
        assert_memory_equal(out.data + out.size - n, want_end, n);
        if (n == 0)
            assert_int_equal(out.size, 0);
    }
    buf_fini(&in);
    buf_fini(&out);
}

static void test_line_limits(void **state) {
    size_t most = RESP_INLINE_BYTES_MAX;
    check_filled(&limits, "", most, 'a', "\n", "a]");
    check_filled(&limits, "", most - 1, 'a', "\r\n", "a]");
    check_filled(&limits, "", most, 'a', "", "");
    check_filled(&limits, "", most + 1, 'a', "", ERR "too big inline request");
    check_filled(&limits, "", most + 1, 'a', "\n", ERR "too big inline request");
    check_filled(&limits, "*", most - 1, '1', "", "");
    check_filled(&limits, "*", most, '1', "", ERR "too big mbulk count string");
    check_filled(&limits, "*", most - 1, '1', "\r\n", ERR "invalid multibulk length");
    check_filled(&limits, "*1\r\n$", most - 1, '1', "", "");
    check_filled(&limits, "*1\r\n$", most, '1', "", ERR "too big bulk count string");
    check_filled(&limits, "*1\r\n$", most - 1, '1', "\r\n", ERR "invalid bulk length");
}

static void test_configured_limits(void **state) {
    struct resp_limits small = {.args_max = 2, .bulk_bytes_max = 4, .command_bytes_max = 26};
    check_filled(&small, "*2\r\n$4\r\naaaa\r\n$4\r\n", 4, 'b', "\r\n", "[aaaa|bbbb]");
    check_filled(&small, "*3\r\n", 0, 0, "", ERR "invalid multibulk length");
    check_filled(&small, "*1\r\n$5\r\n", 0, 0, "", ERR "invalid bulk length");
    check_filled(&small, "a b c\r\n", 0, 0, "", ERR "too big inline request");
    small.command_bytes_max = 23;
    check_filled(&small, "*2\r\n$4\r\naaaa\r\n$4\r\n", 0, 0, "", ERR "too big command");
    check_filled(&small, "*2\r\n$4\r\naaaa\r\n$3\r\n", 0, 0, "bbb\r\n", "[aaaa|bbb]");
}

/* An error stays; and an argument's length is told before its bytes are there. */
static void test_error_stays_and_need(void **state) {
    struct resp_parser p;
    size_t used;
    resp_parser_init(&p, &limits);
    assert_int_equal(resp_parse(&p, slice_str("*x\r\n"), &used), RESP_ERROR);
    assert_int_equal(resp_parse(&p, slice_str("PING\r\n"), &used), RESP_ERROR);
    assert_string_equal(p.error, "ERR Protocol error: invalid multibulk length");
    resp_parser_fini(&p);

    resp_parser_init(&p, &limits);
    assert_int_equal(resp_parse(&p, slice_str("*2\r\n$3\r\nGET\r\n$100000\r\nab"), &used),
                     RESP_MORE);
    assert_int_equal(resp_parser_need(&p), 13 + 9 + 100000 + 2);
    resp_parser_trim(&p); /* in the middle of a command: keeps what it knows */
    assert_int_equal(p.args.count, 1);
    resp_parser_fini(&p);
}

/* A caller that cannot take a command yet asks for it again. */
static void test_the_same_command_again(void **state) {
    static const char *const commands[] = {"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "GET \"a\"\r\n"};
    struct resp_parser p;
    resp_parser_init(&p, &limits);
    for (int i = 0; i < 6; i++) {
        size_t used = 0;
        struct slice in = slice_str(commands[i / 3]);
        assert_int_equal(resp_parse(&p, in, &used), RESP_COMMAND);
        assert_int_equal(used, in.size);
        assert_int_equal(p.args.count, 2);
        assert_true(slice_equal_str(p.args.args[1], "a"));
    }
    resp_parser_fini(&p);
}

static void test_trim(void **state) {
    struct resp_parser p;
    struct buf in = {0};
    size_t used;
    resp_parser_init(&p, &limits);
    for (int i = 0; i < 20000; i++)
        buf_append_str(&in, "a ");
    buf_append_str(&in, "\r\n");
    assert_int_equal(resp_parse(&p, buf_slice(&in), &used), RESP_COMMAND);
    assert_int_equal(p.args.count, 20000);
    resp_parser_trim(&p);
    assert_int_equal(p.args.capacity, 0);
    assert_int_equal(p.inline_words.capacity, 0);
    assert_int_equal(resp_parse(&p, slice_str("PING\r\n"), &used), RESP_COMMAND);
    assert_int_equal(p.args.count, 1);
    resp_parser_fini(&p);
    buf_fini(&in);
}

/* A bulk of 64 MiB arrives in pieces of 64 KiB. What the parser was given before is taken out of
 * the address space (but for the first page, where the command's first byte is), so that it would
 * crash if it read anything again. */
static void test_large_bulk_is_not_read_again(void **state) {
    const size_t piece = 64 * 1024, bytes = 64 * 1024 * 1024, page = (size_t)getpagesize();
    const char header[] = "*2\r\n$4\r\nECHO\r\n$67108864\r\n";
    const size_t whole = sizeof header - 1 + bytes + 2;
    uint8_t *map = mmap(NULL, bytes + 2 * piece, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(map != MAP_FAILED);
    memcpy(map, header, sizeof header - 1);
    struct resp_parser p;
    resp_parser_init(&p, &limits);
    size_t used = 0;
    for (size_t n = piece; n < whole; n += piece) {
        assert_int_equal(resp_parse(&p, slice_of(map, n), &used), RESP_MORE);
        assert_int_equal(resp_parser_need(&p), whole);
        assert_int_equal(madvise(map + page, n - page, MADV_DONTNEED), 0);
        assert_int_equal(mprotect(map + page, n - page, PROT_NONE), 0);
    }
    memcpy(map + whole - 2, "\r\n", 2);
    assert_int_equal(resp_parse(&p, slice_of(map, whole), &used), RESP_COMMAND);
    assert_int_equal(used, whole);
    assert_int_equal(p.args.count, 2);
    assert_ptr_equal(p.args.args[1].data, map + sizeof header - 1);
    assert_int_equal(p.args.args[1].size, bytes);
    resp_parser_fini(&p);
    munmap(map, bytes + 2 * piece);
}

/* Many arguments, byte by byte: a parser that begins anew each time would never finish. */
static void test_many_arguments_byte_by_byte(void **state) {
    struct buf in = {0};
    struct resp_parser p;
    size_t used = 0;
    enum { COUNT = 100000 };
    resp_parser_init(&p, &limits);
    buf_printf(&in, "*%d\r\n", COUNT);
    for (int i = 0; i < COUNT; i++)
        buf_append_str(&in, "$1\r\nx\r\n");
    for (size_t n = 1; n < in.size; n++)
        if (resp_parse(&p, slice_of(in.data, n), &used) != RESP_MORE)
            fail_msg("complete at %zu", n);
    assert_int_equal(resp_parse(&p, buf_slice(&in), &used), RESP_COMMAND);
    assert_int_equal(used, in.size);
    assert_int_equal(p.args.count, COUNT);
    assert_true(slice_equal_str(p.args.args[COUNT - 1], "x"));
    resp_parser_fini(&p);
    buf_fini(&in);
}

/* ---- replies ---- */

static const struct {
    const char *neutral;
    const char *resp2;
    const char *resp3;
} replies[] = {
    {"+OK\r\n", "+OK\r\n", "+OK\r\n"},
    {"-ERR no\r\n", "-ERR no\r\n", "-ERR no\r\n"},
    {":-5\r\n", ":-5\r\n", ":-5\r\n"},
    {"$5\r\na\r\n%1\r\n", "$5\r\na\r\n%1\r\n", "$5\r\na\r\n%1\r\n"},
    {"$0\r\n\r\n", "$0\r\n\r\n", "$0\r\n\r\n"},
    {"$-1\r\n", "$-1\r\n", "_\r\n"},
    {"*-1\r\n", "*-1\r\n", "_\r\n"},
    {"*0\r\n", "*0\r\n", "*0\r\n"},
    {"#t\r\n", ":1\r\n", "#t\r\n"},
    {"#f\r\n", ":0\r\n", "#f\r\n"},
    {",1.5\r\n", "$3\r\n1.5\r\n", ",1.5\r\n"},
    {",-inf\r\n", "$4\r\n-inf\r\n", ",-inf\r\n"},
    {"%0\r\n", "*0\r\n", "%0\r\n"},
    {"%1\r\n+a\r\n:1\r\n", "*2\r\n+a\r\n:1\r\n", "%1\r\n+a\r\n:1\r\n"},
    {"~2\r\n:1\r\n:2\r\n", "*2\r\n:1\r\n:2\r\n", "~2\r\n:1\r\n:2\r\n"},
    {"*3\r\n$1\r\na\r\n$-1\r\n$1\r\nb\r\n", "*3\r\n$1\r\na\r\n$-1\r\n$1\r\nb\r\n",
     "*3\r\n$1\r\na\r\n_\r\n$1\r\nb\r\n"},
    {"%2\r\n+a\r\n%1\r\n#t\r\n,2\r\n+b\r\n~1\r\n*-1\r\n",
     "*4\r\n+a\r\n*2\r\n:1\r\n$1\r\n2\r\n+b\r\n*1\r\n*-1\r\n",
     "%2\r\n+a\r\n%1\r\n#t\r\n,2\r\n+b\r\n~1\r\n_\r\n"},
};

static void test_reply_forms(void **state) {
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_COUNT(replies); i++)
        for (int version = 2; version <= 3; version++) {
            const char *want = version == 2 ? replies[i].resp2 : replies[i].resp3;
            buf_reset(&out);
            buf_append_str(&out, "+before\r\n");
            assert_true(resp_append_reply(&out, slice_str(replies[i].neutral), version));
            struct slice got = slice_of(out.data + 9, out.size - 9);
            if (!slice_equal_str(got, want))
                fail_msg("%zu, RESP%d: '%.*s'", i, version, (int)got.size, got.data);
        }
    buf_fini(&out);
}

static void test_malformed_replies(void **state) {
    struct buf out = {0};
    buf_append_str(&out, "x");
    for (size_t i = 0; i < ARRAY_COUNT(replies); i++) {
        size_t size = strlen(replies[i].neutral);
        for (size_t n = 0; n < size; n++) {
            uint8_t *cut = xmemdup(replies[i].neutral, n);
            assert_false(resp_append_reply(&out, slice_of(cut, n), 2));
            assert_false(resp_append_reply(&out, slice_of(cut, n), 3));
            free(cut);
        }
    }
    static const char *const bad[] = {"+OK\r\n+OK\r\n", "$-2\r\n", "%-1\r\n", "~-1\r\n", "#x\r\n",
                                      ":\r\n", ":1a\r\n", "_\r\n", "*9223372036854775807\r\n",
                                      /* 3 - 1 + 2 * (2^63 - 1) wraps to 0 */
                                      "*3\r\n%9223372036854775807\r\n",
                                      "%9223372036854775807\r\n:1\r\n:2\r\n", "$2\r\na\r\n",
                                      "$9223372036854775807\r\na\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        for (int version = 2; version <= 3; version++)
            if (resp_append_reply(&out, slice_str(bad[i]), version))
                fail_msg("accepted: %s", bad[i]);
    assert_int_equal(out.size, 1);
    buf_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_line_limits),
        cmocka_unit_test(test_configured_limits),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_error_stays_and_need),
        cmocka_unit_test(test_the_same_command_again),
        cmocka_unit_test(test_trim),
        cmocka_unit_test(test_large_bulk_is_not_read_again),
        cmocka_unit_test(test_many_arguments_byte_by_byte),
        cmocka_unit_test(test_reply_forms),
        cmocka_unit_test(test_malformed_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
