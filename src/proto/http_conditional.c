#include "proto/http_conditional.h"

#include "proto/http_list.h"

/* The fields of a head that are asked for here. */
enum field { IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, OTHER };

static enum field field_of(struct slice name) {
    /* One look at the length rules out nearly everything. */
    switch (name.size) {
    case 8:
        return slice_equal_nocase(name, "if-match")   ? IF_MATCH
               : slice_equal_nocase(name, "if-range") ? IF_RANGE
                                                      : OTHER;
    case 13:
        return slice_equal_nocase(name, "if-none-match") ? IF_NONE_MATCH : OTHER;
    case 17:
        return slice_equal_nocase(name, "if-modified-since") ? IF_MODIFIED_SINCE : OTHER;
    case 19:
        return slice_equal_nocase(name, "if-unmodified-since") ? IF_UNMODIFIED_SINCE : OTHER;
    default:
        return OTHER;
    }
}

/* etagc = %x21 / %x23-7E / obs-text */
static bool is_etag_char(uint8_t c) {
    return c == 0x21 || (c >= 0x23 && c != 0x7F);
}

/* Takes an entity tag off the front: *ret_tag is with its quotes. False: there is none. */
static bool take_etag(struct slice *in, struct slice *ret_tag, bool *ret_weak) {
    size_t at = 0;
    bool weak = in->size >= 2 && in->data[0] == 'W' && in->data[1] == '/';
    if (weak)
        at = 2;
    size_t start = at;
    if (at >= in->size || in->data[at] != '"')
        return false;
    for (at++; at < in->size && is_etag_char(in->data[at]);)
        at++;
    if (at >= in->size || in->data[at] != '"')
        return false;
    at++;
    *ret_tag = slice_of(in->data + start, at - start);
    *ret_weak = weak;
    in->data += at;
    in->size -= at;
    return true;
}

static void skip(struct slice *in, const char *what) {
    while (in->size > 0 && in->data[0] != 0 && strchr(what, in->data[0])) {
        in->data++;
        in->size--;
    }
}

bool http_etag_in_list(struct slice list, struct slice etag, bool weak_too) {
    list = http_trim(list);
    if (slice_equal_str(list, "*"))
        return true;
    struct slice tag;
    bool weak;
    for (skip(&list, ", \t"); take_etag(&list, &tag, &weak); skip(&list, ", \t")) {
        struct slice rest = list;
        skip(&rest, " \t");
        if (rest.size > 0 && rest.data[0] != ',')
            return false; /* broken: something behind the tag */
        if (slice_equal(tag, etag) && (weak_too || !weak))
            return true;
    }
    return false;
}

struct date_field {
    int count;
    struct slice value;
};

/* The date of a field that is there once and parses. */
static bool date_of(const struct date_field *f, const struct http_validators *v, uint64_t now_s,
                    uint64_t *ret_s) {
    return f->count == 1 && v->last_modified_s > 0 && http_parse_date(f->value, now_s, ret_s);
}

enum http_precondition http_conditional_check(const struct http_head *head,
                                              const struct http_validators *v, uint64_t now_s) {
    bool has_match = false, match = false, has_none_match = false, none_match = true;
    struct date_field modified = {0}, unmodified = {0};
    for (size_t i = 0; i < head->header_count; i++) {
        struct slice value = head->headers[i].value;
        switch (field_of(head->headers[i].name)) {
        case IF_MATCH:
            has_match = true;
            match |= http_etag_in_list(value, v->etag, false);
            break;
        case IF_NONE_MATCH:
            has_none_match = true;
            none_match &= !http_etag_in_list(value, v->etag, true);
            break;
        case IF_MODIFIED_SINCE:
            modified = (struct date_field){modified.count + 1, value};
            break;
        case IF_UNMODIFIED_SINCE:
            unmodified = (struct date_field){unmodified.count + 1, value};
            break;
        default:
            break;
        }
    }
    bool reading = head->method == HTTP_GET || head->method == HTTP_HEAD;
    uint64_t since;
    if (has_match && !match)
        return HTTP_PRECONDITION_FAILED;
    if (!has_match && date_of(&unmodified, v, now_s, &since) && v->last_modified_s > since)
        return HTTP_PRECONDITION_FAILED;
    if (has_none_match && !none_match)
        return reading ? HTTP_NOT_MODIFIED : HTTP_PRECONDITION_FAILED;
    if (!has_none_match && reading && date_of(&modified, v, now_s, &since) &&
        v->last_modified_s <= since)
        return HTTP_NOT_MODIFIED;
    return HTTP_PRECONDITION_HOLDS;
}

bool http_if_range_holds(const struct http_head *head, const struct http_validators *v,
                         uint64_t now_s) {
    const struct slice *value = NULL;
    for (size_t i = 0; i < head->header_count; i++)
        if (field_of(head->headers[i].name) == IF_RANGE) {
            if (value)
                return false;
            value = &head->headers[i].value;
        }
    if (!value)
        return true;
    struct slice in = http_trim(*value), tag;
    bool weak;
    uint64_t date;
    if (take_etag(&in, &tag, &weak))
        return in.size == 0 && !weak && slice_equal(tag, v->etag);
    return v->last_modified_s > 0 && v->last_modified_s + 1 < now_s &&
           http_parse_date(in, now_s, &date) && date == v->last_modified_s;
}
