#include "proto/cookie.h"

static struct slice trim(struct slice s) {
    while (s.size > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
        s = slice_of(s.data + 1, s.size - 1);
    while (s.size > 0 && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t'))
        s.size--;
    return s;
}

bool cookie_find(struct slice field, const char *name, struct slice *ret_value) {
    for (;;) {
        const uint8_t *end = field.size > 0 ? memchr(field.data, ';', field.size) : NULL;
        size_t size = end ? (size_t)(end - field.data) : field.size;
        struct slice pair = slice_of(field.data, size);
        const uint8_t *equals = size > 0 ? memchr(pair.data, '=', pair.size) : NULL;
        if (equals) {
            struct slice key = trim(slice_of(pair.data, (size_t)(equals - pair.data)));
            struct slice value =
                trim(slice_of(equals + 1, pair.size - (size_t)(equals - pair.data) - 1));
            if (slice_equal_str(key, name)) {
                if (value.size >= 2 && value.data[0] == '"' && value.data[value.size - 1] == '"')
                    value = slice_of(value.data + 1, value.size - 2);
                *ret_value = value;
                return true;
            }
        }
        if (!end)
            return false;
        field = slice_of(end + 1, field.size - size - 1);
    }
}
