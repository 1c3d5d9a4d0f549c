#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool num_parse_u64(struct slice s, uint64_t *ret_value) {
    if (s.size == 0 || s.size > 20 || (s.size > 1 && s.data[0] == '0'))
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < s.size; i++) {
        unsigned d = (unsigned)s.data[i] - '0';
        if (d > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v))
            return false;
    }
    *ret_value = v;
    return true;
}

bool num_parse_i64(struct slice s, int64_t *ret_value) {
    bool negative = s.size > 0 && s.data[0] == '-';
    uint64_t v;
    if (!num_parse_u64(negative ? slice_of(s.data + 1, s.size - 1) : s, &v))
        return false;
    if (negative ? v == 0 || v > (uint64_t)INT64_MAX + 1 : v > INT64_MAX)
        return false;
    *ret_value = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool num_parse_bytes(struct slice s, uint64_t *ret_value) {
    static const char units[] = "KMGT";
    uint64_t unit = 1, number;
    const char *at = s.size > 0 ? memchr(units, s.data[s.size - 1] & ~0x20, 4) : NULL;
    if (at) {
        unit = UINT64_C(1) << (10 * (at - units + 1));
        s.size--;
    }
    return num_parse_u64(s, &number) && !__builtin_mul_overflow(number, unit, ret_value);
}

bool num_parse_float(struct slice s, long double *ret_value) {
    char text[5 * 1024]; /* as Redis: what INCRBYFLOAT writes can be read again */
    if (s.size == 0 || s.size >= sizeof text || memchr(s.data, 0, s.size) || s.data[0] == ' ' ||
        (s.data[0] >= '\t' && s.data[0] <= '\r'))
        return false;
    memcpy(text, s.data, s.size);
    text[s.size] = 0;
    char *end;
    errno = 0;
    long double v = strtold(text, &end);
    if (*end != 0 || isnan(v) || (errno == ERANGE && (isinf(v) || v == 0)))
        return false;
    *ret_value = v;
    return true;
}

void num_append_u64(struct buf *b, uint64_t value) {
    char text[20];
    size_t at = sizeof text;
    do
        text[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    buf_append(b, text + at, sizeof text - at);
}

void num_append_i64(struct buf *b, int64_t value) {
    if (value < 0)
        buf_append_char(b, '-');
    num_append_u64(b, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void num_append_float(struct buf *b, long double value) {
    if (isinf(value)) {
        buf_append_str(b, value > 0 ? "inf" : "-inf");
        return;
    }
    char text[5200]; /* LDBL_MAX has 4,933 digits before the point */
    int n = snprintf(text, sizeof text, "%.17Lf", value);
    CHECK(n > 0 && (size_t)n < sizeof text);
    if (memchr(text, '.', (size_t)n)) {
        while (text[n - 1] == '0')
            n--;
        if (text[n - 1] == '.')
            n--;
    }
    if (n == 2 && text[0] == '-' && text[1] == '0')
        buf_append_char(b, '0');
    else
        buf_append(b, text, (size_t)n);
}
