#include "proto/url.h"

#include "base/num.h"

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes one character off the front: the byte it stands for, or -1 when it is malformed. */
static int take_char(struct slice *in, bool plus_is_space) {
    uint8_t c = in->data[0];
    size_t used = 1;
    if (c == '%') {
        int high = in->size >= 3 ? hex_value(in->data[1]) : -1;
        int low = in->size >= 3 ? hex_value(in->data[2]) : -1;
        if (high < 0 || low < 0)
            return -1;
        c = (uint8_t)(high << 4 | low);
        used = 3;
    } else if (c == '+' && plus_is_space) {
        c = ' ';
    }
    in->data += used;
    in->size -= used;
    return c;
}

static bool decode(struct buf *out, struct slice in, bool plus_is_space) {
    size_t start = out->size;
    uint8_t *to = buf_reserve(out, in.size); /* decoding never makes it longer */
    while (in.size > 0) {
        int c = take_char(&in, plus_is_space);
        if (c < 0) {
            out->size = start;
            return false;
        }
        *to++ = (uint8_t)c;
        out->size++;
    }
    return true;
}

bool url_decode(struct buf *out, struct slice in) {
    return decode(out, in, false);
}

static bool is_unreserved(uint8_t c) {
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static void put_encoded(struct buf *out, uint8_t c) {
    static const char digits[] = "0123456789ABCDEF";
    char text[3] = {'%', digits[c >> 4], digits[c & 15]};
    buf_append(out, text, 3);
}

void url_encode(struct buf *out, struct slice in, const char *keep) {
    for (size_t i = 0; i < in.size; i++) {
        uint8_t c = in.data[i];
        if (is_unreserved(c) || (c != 0 && strchr(keep, c)))
            buf_append_u8(out, c);
        else
            put_encoded(out, c);
    }
}

void url_put_query(struct buf *out, struct slice query) {
    for (size_t i = 0; i < query.size; i++) {
        uint8_t c = query.data[i];
        if (c <= ' ' || c > '~' || strchr("\"<>\\^`{|}#", c))
            put_encoded(out, c);
        else
            buf_append_u8(out, c);
    }
}

/* Takes the next "name=value" or "name" off the front; empty ones ("a&&b") are passed over. False
 * at the end. */
static bool next_pair(struct slice *query, struct slice *ret_name, struct slice *ret_value) {
    while (query->size > 0) {
        const uint8_t *start = query->data;
        const uint8_t *amp = memchr(start, '&', query->size);
        size_t size = amp ? (size_t)(amp - start) : query->size;
        query->data += amp ? size + 1 : size;
        query->size -= amp ? size + 1 : size;
        if (size == 0)
            continue;
        const uint8_t *equals = memchr(start, '=', size);
        size_t name_size = equals ? (size_t)(equals - start) : size;
        *ret_name = slice_of(start, name_size);
        *ret_value =
            equals ? slice_of(equals + 1, size - name_size - 1) : slice_of(start + size, 0);
        return true;
    }
    return false;
}

/* 1 when the encoded `in` stands for `name`, 0 when not, -1 when it is malformed. */
static int name_is(struct slice in, const char *name) {
    bool same = true;
    while (in.size > 0) {
        int c = take_char(&in, true);
        if (c < 0)
            return -1;
        if (same && *name != 0 && (uint8_t)*name == c)
            name++;
        else
            same = false;
    }
    return same && *name == 0;
}

int url_query_get(struct slice query, const char *name, struct buf *out) {
    struct slice pair_name, value;
    while (next_pair(&query, &pair_name, &value)) {
        int same = name_is(pair_name, name);
        if (same < 0)
            return -1;
        if (same)
            return decode(out, value, true) ? 1 : -1;
    }
    return 0;
}

void url_query_each(struct slice query,
                    void (*fn)(void *ctx, struct slice name, struct slice value), void *ctx) {
    struct slice name, value;
    while (next_pair(&query, &name, &value))
        fn(ctx, name, value);
}

bool duration_parse_ms(struct slice in, uint64_t *ret_ms) {
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {
        {"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
    };
    size_t digits = 0;
    while (digits < in.size && in.data[digits] >= '0' && in.data[digits] <= '9')
        digits++;
    uint64_t value;
    if (!num_parse_u64(slice_of(in.data, digits), &value))
        return false;
    struct slice unit = slice_of(in.data + digits, in.size - digits);
    for (size_t i = 0; i < ARRAY_COUNT(units); i++)
        if (slice_equal_str(unit, units[i].unit)) {
            if (__builtin_mul_overflow(value, units[i].ms, &value) || value > UINT64_C(1) << 53)
                return false;
            *ret_ms = value;
            return true;
        }
    return false;
}
