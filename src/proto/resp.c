#include "proto/resp.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reply.h"

enum { ARGS_KEPT_MAX = 64, INLINE_BYTES_KEPT_MAX = 4096 };

void resp_parser_init(struct resp_parser *p, const struct resp_limits *limits) {
    *p = (struct resp_parser){.limits = *limits, .args_left = -1, .bulk_bytes = -1};
}

void resp_parser_fini(struct resp_parser *p) {
    argv_fini(&p->args);
    buf_fini(&p->inline_words);
}

static bool parser_is_idle(const struct resp_parser *p) {
    return p->at == 0 && p->scanned == 0;
}

void resp_parser_trim(struct resp_parser *p) {
    if (!parser_is_idle(p))
        return;
    p->args.count = 0;
    if (p->args.capacity > ARGS_KEPT_MAX)
        argv_fini(&p->args);
    if (p->inline_words.capacity > INLINE_BYTES_KEPT_MAX)
        buf_fini(&p->inline_words);
}

static enum resp_result fail(struct resp_parser *p, const char *what) {
    snprintf(p->error, sizeof p->error, "ERR Protocol error: %s", what);
    return RESP_ERROR;
}

/* The command ends here: ready for the next one. The arguments stay until then. */
static enum resp_result finish(struct resp_parser *p, enum resp_result result) {
    p->at = p->scanned = 0;
    p->args_left = p->bulk_bytes = -1;
    return result;
}

static struct slice *args_push(struct argv *a) {
    if (a->count == a->capacity) {
        a->capacity = a->capacity ? a->capacity * 2 : 8;
        a->args = xrealloc(a->args, a->capacity * sizeof a->args[0]);
    }
    return &a->args[a->count++];
}

/* While a command is incomplete its arguments are offsets, kept in the pointers. */
static void args_push_offset(struct argv *a, size_t offset, size_t size) {
    *args_push(a) = slice_of((const void *)(uintptr_t)offset, size);
}

static void args_resolve(struct argv *a, const uint8_t *base) {
    for (size_t i = 0; i < a->count; i++)
        a->args[i].data = base + (uintptr_t)a->args[i].data;
}

/* ---- inline commands: sdssplitargs() of Redis ---- */

static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character that an escape in double quotes stands for; `*at` is behind the backslash. */
static uint8_t inline_escape(const uint8_t **at, const uint8_t *end) {
    const uint8_t *p = *at;
    if (*p == 'x' && end - p >= 3 && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0) {
        *at = p + 3;
        return (uint8_t)(hex_value(p[1]) * 16 + hex_value(p[2]));
    }
    *at = p + 1;
    switch (*p) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return *p;
    }
}

/* Takes a quoted part; `*at` is behind the opening quote. False: it does not end, or something
 * other than a space follows the closing quote. */
static bool inline_quoted(struct buf *word, const uint8_t **at, const uint8_t *end, uint8_t quote) {
    const uint8_t *p = *at;
    while (p < end && *p != quote) {
        if (*p == '\\' && end - p >= 2 && quote == '"') {
            p++;
            buf_append_u8(word, inline_escape(&p, end));
        } else if (*p == '\\' && end - p >= 2 && p[1] == '\'') {
            buf_append_u8(word, '\'');
            p += 2;
        } else {
            buf_append_u8(word, *p++);
        }
    }
    if (p == end || (p + 1 < end && !is_space(p[1])))
        return false;
    *at = p + 1;
    return true;
}

static bool inline_word(struct buf *word, const uint8_t **at, const uint8_t *end) {
    const uint8_t *p = *at;
    while (p < end && *p != ' ' && *p != '\t' && *p != '\r' && *p != '\n') {
        if (*p == '"' || *p == '\'') {
            uint8_t quote = *p++;
            if (!inline_quoted(word, &p, end, quote))
                return false;
            break;
        }
        buf_append_u8(word, *p++);
    }
    *at = p;
    return true;
}

static enum resp_result parse_inline_line(struct resp_parser *p, struct slice line) {
    struct buf *words = &p->inline_words;
    buf_reset(words);
    buf_reserve(words, line.size + 1); /* an empty argument too has an address */
    const uint8_t *at = line.data, *end = line.data + line.size;
    for (;;) {
        while (at < end && is_space(*at))
            at++;
        if (at == end)
            break;
        if (p->args.count >= p->limits.args_max)
            return fail(p, "too big inline request");
        size_t start = words->size;
        if (!inline_word(words, &at, end))
            return fail(p, "unbalanced quotes in request");
        args_push_offset(&p->args, start, words->size - start);
    }
    if (p->args.count == 0)
        return finish(p, RESP_EMPTY);
    args_resolve(&p->args, words->data);
    return finish(p, RESP_COMMAND);
}

static enum resp_result parse_inline(struct resp_parser *p, struct slice in, size_t *ret_used) {
    size_t limit = in.size <= RESP_INLINE_BYTES_MAX ? in.size : RESP_INLINE_BYTES_MAX + 1;
    const uint8_t *newline = memchr(in.data + p->scanned, '\n', limit - p->scanned);
    if (!newline) {
        if (limit > RESP_INLINE_BYTES_MAX)
            return fail(p, "too big inline request");
        p->scanned = limit;
        return RESP_MORE;
    }
    size_t size = (size_t)(newline - in.data);
    *ret_used = size + 1;
    if (size > 0 && in.data[size - 1] == '\r')
        size--;
    return parse_inline_line(p, slice_of(in.data, size));
}

/* ---- arrays of bulk strings ---- */

/* Finds the line that begins at p->at: *ret_line without its first byte and its CRLF. MORE: not all
 * there yet. COMMAND: found, and p->at is behind it. */
static enum resp_result take_line(struct resp_parser *p, struct slice in, const char *too_big,
                                  const char *invalid, struct slice *ret_line) {
    const uint8_t *line = in.data + p->at;
    size_t left = in.size - p->at;
    size_t limit = left <= RESP_INLINE_BYTES_MAX ? left : RESP_INLINE_BYTES_MAX + 1;
    const uint8_t *cr = memchr(line + p->scanned, '\r', limit - p->scanned);
    if (!cr) {
        if (limit > RESP_INLINE_BYTES_MAX)
            return fail(p, too_big);
        p->scanned = limit;
        return RESP_MORE;
    }
    size_t size = (size_t)(cr - line);
    if (size + 1 == left) {
        p->scanned = size;
        return RESP_MORE;
    }
    /* Redis takes any byte for the LF. A peer that is out of step is better told at once. */
    if (cr[1] != '\n')
        return fail(p, invalid);
    *ret_line = slice_of(line + 1, size - 1);
    p->at += size + 2;
    p->scanned = 0;
    return RESP_COMMAND;
}

static enum resp_result take_count(struct resp_parser *p, struct slice in) {
    static const char invalid[] = "invalid multibulk length";
    struct slice line;
    enum resp_result result = take_line(p, in, "too big mbulk count string", invalid, &line);
    if (result != RESP_COMMAND)
        return result;
    int64_t count;
    if (!num_parse_i64(line, &count) || count > p->limits.args_max)
        return fail(p, invalid);
    if (p->stranger && count > RESP_STRANGER_ARGS_MAX)
        return fail(p, "unauthenticated multibulk length");
    p->args_left = count > 0 ? count : 0;
    return RESP_COMMAND;
}

static enum resp_result take_bulk_header(struct resp_parser *p, struct slice in) {
    static const char invalid[] = "invalid bulk length";
    if (p->at == in.size)
        return RESP_MORE;
    uint8_t first = in.data[p->at];
    if (first != '$') {
        char what[32];
        bool breaks_line = first == '\r' || first == '\n' || first == 0;
        snprintf(what, sizeof what, "expected '$', got '%c'", breaks_line ? ' ' : first);
        return fail(p, what);
    }
    struct slice line;
    enum resp_result result = take_line(p, in, "too big bulk count string", invalid, &line);
    if (result != RESP_COMMAND)
        return result;
    int64_t bytes;
    if (!num_parse_i64(line, &bytes) || bytes < 0 || bytes > p->limits.bulk_bytes_max)
        return fail(p, invalid);
    if (p->stranger && bytes > RESP_STRANGER_BULK_BYTES_MAX)
        return fail(p, "unauthenticated bulk length");
    if (p->at + (uint64_t)bytes + 2 > p->limits.command_bytes_max)
        return fail(p, "too big command");
    p->bulk_bytes = bytes;
    return RESP_COMMAND;
}

static enum resp_result take_bulk(struct resp_parser *p, struct slice in) {
    size_t bytes = (size_t)p->bulk_bytes;
    if (in.size - p->at < bytes + 2)
        return RESP_MORE;
    if (memcmp(in.data + p->at + bytes, "\r\n", 2) != 0)
        return fail(p, "invalid bulk length");
    args_push_offset(&p->args, p->at, bytes);
    p->at += bytes + 2;
    p->bulk_bytes = -1;
    p->args_left--;
    return RESP_COMMAND;
}

enum resp_result resp_parse(struct resp_parser *p, struct slice in, size_t *ret_used) {
    enum resp_result result;
    if (p->error[0])
        return RESP_ERROR;
    if (in.size == 0)
        return RESP_MORE;
    CHECK(in.size >= p->at + p->scanned);
    if (parser_is_idle(p))
        p->args.count = 0;
    if (in.data[0] != '*')
        return parse_inline(p, in, ret_used);
    if (p->args_left < 0) {
        result = take_count(p, in);
        if (result != RESP_COMMAND)
            return result;
    }
    while (p->args_left > 0) {
        if (p->bulk_bytes < 0) {
            result = take_bulk_header(p, in);
            if (result != RESP_COMMAND)
                return result;
        }
        result = take_bulk(p, in);
        if (result != RESP_COMMAND)
            return result;
    }
    *ret_used = p->at;
    if (p->args.count == 0)
        return finish(p, RESP_EMPTY);
    args_resolve(&p->args, in.data);
    return finish(p, RESP_COMMAND);
}

size_t resp_parser_need(const struct resp_parser *p) {
    if (p->bulk_bytes >= 0)
        return p->at + (size_t)p->bulk_bytes + 2;
    return p->at + p->scanned + 2; /* CR LF; for an inline command LF alone would do */
}

/* ---- replies ---- */

static bool is_neutral(char type, int version) {
    if (version >= 3)
        return type != 'n';
    return type != '%' && type != '~' && type != ',' && type != '#';
}

/* Appends an element in the form that a client of this version reads, when that is another one. */
static void append_translated(struct buf *out, const struct reply_item *item) {
    switch (item->type) {
    case 'n':
        buf_append(out, "_\r\n", 3);
        break;
    case '%':
    case '~':
        reply_array(out, reply_item_children(item));
        break;
    case ',':
        reply_bulk(out, item->bytes);
        break;
    default: /* '#' */
        reply_int(out, item->integer);
    }
}

bool resp_append_reply(struct buf *out, struct slice reply, int version) {
    size_t start = out->size;
    struct slice at = reply;
    const uint8_t *run = reply.data; /* what goes out unchanged since here is copied in one go */
    for (uint64_t left = 1; left > 0;) {
        const uint8_t *item_at = at.data;
        struct reply_item item;
        if (!reply_next(&at, &item))
            goto malformed;
        uint64_t children = reply_item_children(&item);
        if (children > at.size || left - 1 + children > at.size)
            goto malformed;
        left += children - 1;
        if (is_neutral(item.type, version))
            continue;
        buf_append(out, run, (size_t)(item_at - run));
        append_translated(out, &item);
        run = at.data;
    }
    if (at.size > 0)
        goto malformed;
    buf_append(out, run, (size_t)(at.data - run));
    return true;

malformed:
    out->size = start;
    return false;
}
