#include "proto/idempotency.h"

static bool is_bare(uint8_t c) {
    return c > ' ' && c < 0x7F && c != '"' && c != ',' && c != ';' && c != '\\';
}

static bool parse_bare(struct slice value, uint8_t *out, size_t *ret_size) {
    if (value.size > IDEMPOTENCY_KEY_BYTES_MAX)
        return false;
    for (size_t i = 0; i < value.size; i++) {
        if (!is_bare(value.data[i]))
            return false;
        out[i] = value.data[i];
    }
    if (value.size == 0)
        return false;
    *ret_size = value.size;
    return true;
}

static bool parse_quoted(struct slice value, uint8_t *out, size_t *ret_size) {
    size_t n = 0;
    for (size_t i = 1; i < value.size; i++) {
        uint8_t c = value.data[i];
        if (c == '"') {
            if (n == 0 || i + 1 < value.size)
                return false;
            *ret_size = n;
            return true;
        }
        if (c == '\\') {
            i++;
            if (i == value.size || (value.data[i] != '"' && value.data[i] != '\\'))
                return false;
            c = value.data[i];
        }
        if (c < ' ' || c > '~' || n == IDEMPOTENCY_KEY_BYTES_MAX)
            return false;
        out[n++] = c;
    }
    return false; /* no closing quote */
}

bool idempotency_key_parse(struct slice value, uint8_t ret_key[IDEMPOTENCY_KEY_BYTES_MAX],
                           size_t *ret_size) {
    if (value.size > 0 && value.data[0] == '"')
        return parse_quoted(value, ret_key, ret_size);
    return parse_bare(value, ret_key, ret_size);
}
