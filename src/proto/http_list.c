#include "proto/http_list.h"

struct slice http_trim(struct slice s) {
    while (s.size > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.size--;
    }
    while (s.size > 0 && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t'))
        s.size--;
    return s;
}

/* Takes what stands before the next `end` that is not quoted off the front, and the `end` too. */
static struct slice take_until(struct slice *in, uint8_t end) {
    bool quoted = false;
    size_t n = 0;
    for (; n < in->size; n++) {
        uint8_t c = in->data[n];
        if (quoted && c == '\\' && n + 1 < in->size)
            n++;
        else if (c == '"')
            quoted = !quoted;
        else if (c == end && !quoted)
            break;
    }
    struct slice taken = slice_of(in->data, n);
    size_t used = n < in->size ? n + 1 : n;
    in->data += used;
    in->size -= used;
    return taken;
}

/* qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ) */
static int parse_weight(struct slice s) {
    if (s.size == 0 || s.size > 5 || (s.data[0] != '0' && s.data[0] != '1'))
        return HTTP_WEIGHT_BAD;
    if (s.size > 1 && s.data[1] != '.')
        return HTTP_WEIGHT_BAD;
    int weight = (s.data[0] - '0') * HTTP_WEIGHT_MAX;
    int unit = 100;
    for (size_t i = 2; i < s.size; i++, unit /= 10) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return HTTP_WEIGHT_BAD;
        weight += (s.data[i] - '0') * unit;
    }
    return weight <= HTTP_WEIGHT_MAX ? weight : HTTP_WEIGHT_BAD;
}

bool http_list_next(struct slice *list, struct slice *ret_item, int *ret_weight) {
    while (list->size > 0) {
        struct slice member = http_trim(take_until(list, ','));
        if (member.size == 0)
            continue;
        *ret_item = http_trim(take_until(&member, ';'));
        *ret_weight = HTTP_WEIGHT_MAX;
        while (member.size > 0) {
            struct slice parameter = http_trim(take_until(&member, ';'));
            if (parameter.size >= 2 && (parameter.data[0] | 0x20) == 'q' &&
                parameter.data[1] == '=')
                *ret_weight = parse_weight(slice_of(parameter.data + 2, parameter.size - 2));
        }
        return true;
    }
    return false;
}
