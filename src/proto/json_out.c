#include "proto/json_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"

void json_out_begin(struct json_out *j, struct buf *out) {
    *j = (struct json_out){.out = out};
}

/* Before every value: a comma where one is due, and the nesting as it must be. */
static void before_value(struct json_out *j) {
    if (j->closer[j->depth] == '}') {
        CHECK(j->after_key);
        j->after_key = false;
        return;
    }
    CHECK(j->depth > 0 || !j->comma[0]); /* a text is one value */
    if (j->comma[j->depth])
        buf_append_char(j->out, ',');
    j->comma[j->depth] = true;
}

static void open_level(struct json_out *j, char opener, char closer) {
    before_value(j);
    CHECK(j->depth < JSON_OUT_DEPTH_MAX);
    buf_append_char(j->out, opener);
    j->depth++;
    j->comma[j->depth] = false;
    j->closer[j->depth] = closer;
}

void json_out_object(struct json_out *j) {
    open_level(j, '{', '}');
}

void json_out_array(struct json_out *j) {
    open_level(j, '[', ']');
}

void json_out_end(struct json_out *j, char close) {
    CHECK(j->depth > 0);
    CHECK(j->closer[j->depth] == close);
    CHECK(!j->after_key);
    buf_append_char(j->out, close);
    j->depth--;
}

/* ---- strings ---- */

static bool is_continuation(uint8_t c) {
    return (c & 0xc0) == 0x80;
}

/* The size of the UTF-8 sequence at the front of s (not empty); *ret_good tells whether it is well
 * formed (Unicode 15 table 3-7). If not, it is the size of the longest part that could have begun
 * one, which is replaced as a whole. */
static size_t utf8_size(struct slice s, bool *ret_good) {
    uint8_t c = s.data[0];
    *ret_good = true;
    if (c < 0x80)
        return 1;
    *ret_good = false;
    if (c < 0xc2 || c > 0xf4)
        return 1;
    size_t size = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (s.size < 2 || s.data[1] < low || s.data[1] > high)
        return 1;
    for (size_t i = 2; i < size; i++)
        if (i >= s.size || !is_continuation(s.data[i]))
            return i;
    *ret_good = true;
    return size;
}

bool json_out_is_utf8(struct slice s) {
    while (s.size > 0) {
        bool good;
        size_t n = utf8_size(s, &good);
        if (!good)
            return false;
        s.data += n;
        s.size -= n;
    }
    return true;
}

static void append_escaped(struct buf *out, uint8_t c) {
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\', 0, '0', '0', digits[c >> 4], digits[c & 15]};
    switch (c) {
    case '"':
    case '\\':
        text[1] = (char)c;
        break;
    case '\n':
        text[1] = 'n';
        break;
    case '\r':
        text[1] = 'r';
        break;
    case '\t':
        text[1] = 't';
        break;
    default:
        text[1] = 'u';
    }
    buf_append(out, text, text[1] == 'u' ? 6 : 2);
}

/* How many bytes at the front of s stand for themselves: ASCII that needs no escape. */
static size_t plain_size(struct slice s) {
    size_t n = 0;
    while (n < s.size && s.data[n] >= 0x20 && s.data[n] < 0x80 && s.data[n] != '"' &&
           s.data[n] != '\\')
        n++;
    return n;
}

static void append_string(struct buf *out, struct slice s) {
    buf_append_char(out, '"');
    while (s.size > 0) {
        size_t n = plain_size(s);
        buf_append(out, s.data, n);
        if (n == 0) {
            bool good;
            n = utf8_size(s, &good);
            if (!good)
                buf_append_str(out, "\xef\xbf\xbd");
            else if (n == 1)
                append_escaped(out, s.data[0]);
            else
                buf_append(out, s.data, n);
        }
        s.data += n;
        s.size -= n;
    }
    buf_append_char(out, '"');
}

void json_out_key_slice(struct json_out *j, struct slice key) {
    CHECK(j->closer[j->depth] == '}');
    CHECK(!j->after_key);
    if (j->comma[j->depth])
        buf_append_char(j->out, ',');
    j->comma[j->depth] = true;
    j->after_key = true;
    append_string(j->out, key);
    buf_append_char(j->out, ':');
}

void json_out_key(struct json_out *j, const char *key) {
    json_out_key_slice(j, slice_str(key));
}

void json_out_string(struct json_out *j, struct slice s) {
    before_value(j);
    append_string(j->out, s);
}

void json_out_str(struct json_out *j, const char *s) {
    json_out_string(j, slice_str(s));
}

/* ---- other values ---- */

void json_out_u64(struct json_out *j, uint64_t v) {
    before_value(j);
    num_append_u64(j->out, v);
}

void json_out_i64(struct json_out *j, int64_t v) {
    before_value(j);
    num_append_i64(j->out, v);
}

void json_out_double(struct json_out *j, double v) {
    if (!isfinite(v)) {
        json_out_null(j);
        return;
    }
    before_value(j);
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_append_str(j->out, text);
}

void json_out_bool(struct json_out *j, bool v) {
    before_value(j);
    buf_append_str(j->out, v ? "true" : "false");
}

void json_out_null(struct json_out *j) {
    before_value(j);
    buf_append_str(j->out, "null");
}

void base64_append(struct buf *out, struct slice in) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < in.size; i += 3) {
        size_t left = in.size - i;
        uint32_t v = (uint32_t)in.data[i] << 16;
        v |= left > 1 ? (uint32_t)in.data[i + 1] << 8 : 0;
        v |= left > 2 ? in.data[i + 2] : 0;
        char text[4] = {letters[v >> 18], letters[v >> 12 & 63], letters[v >> 6 & 63],
                        letters[v & 63]};
        if (left < 3)
            text[3] = '=';
        if (left < 2)
            text[2] = '=';
        buf_append(out, text, 4);
    }
}
