#include "proto/access_token.h"

#include "base/num.h"

bool access_text_ok(struct slice text) {
    if (text.size != ACCESS_TEXT_BYTES || memcmp(text.data, "ct_", 3) != 0)
        return false;
    for (size_t i = 3; i < text.size; i++)
        if (!((text.data[i] >= '0' && text.data[i] <= '9') ||
              (text.data[i] >= 'a' && text.data[i] <= 'f')))
            return false;
    return true;
}

bool access_name_ok(struct slice name) {
    if (name.size == 0 || name.size > ACCESS_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return true;
}

/* ---- writing ---- */

static void append_line(struct buf *out, const char *verb, struct slice rest) {
    buf_append_str(out, verb);
    buf_append_slice(out, rest);
    buf_append_char(out, '\n');
}

static void append_read(void *ctx, struct slice pattern) {
    append_line(ctx, "read ", pattern);
}

static void append_write(void *ctx, struct slice pattern) {
    append_line(ctx, "write ", pattern);
}

void access_record_append(struct buf *out, const struct access_token *t) {
    append_line(out, "name ", slice_str(t->name));
    buf_append_str(out, "created ");
    num_append_u64(out, t->created_ms);
    buf_append_char(out, '\n');
    if (t->admin)
        buf_append_str(out, "admin\n");
    if (t->deploy)
        buf_append_str(out, "deploy\n");
    access_list_each(&t->read, append_read, out);
    access_list_each(&t->write, append_write, out);
}

/* ---- reading ---- */

/* Takes "verb rest" apart; `rest` is empty without a blank. */
static struct slice verb_of(struct slice line, struct slice *ret_rest) {
    const uint8_t *blank = line.size ? memchr(line.data, ' ', line.size) : NULL;
    size_t size = blank ? (size_t)(blank - line.data) : line.size;
    size_t skip = size + (blank != NULL);
    *ret_rest = slice_of(line.data + skip, line.size - skip);
    return slice_of(line.data, size);
}

static bool take_switch(struct slice rest, bool *ret) {
    if (rest.size > 0 || *ret)
        return false;
    *ret = true;
    return true;
}

static bool take_name(struct slice name, struct access_token *t) {
    if (t->name[0] || !access_name_ok(name))
        return false;
    memcpy(t->name, name.data, name.size);
    return true;
}

static bool take_line(struct slice line, struct access_token *t, bool *created) {
    struct slice rest, verb = verb_of(line, &rest);
    if (slice_equal_str(verb, "name"))
        return take_name(rest, t);
    if (slice_equal_str(verb, "created"))
        return !*created && (*created = num_parse_u64(rest, &t->created_ms));
    if (slice_equal_str(verb, "admin"))
        return take_switch(rest, &t->admin);
    if (slice_equal_str(verb, "deploy"))
        return take_switch(rest, &t->deploy);
    if (slice_equal_str(verb, "read"))
        return access_list_add(&t->read, rest);
    return slice_equal_str(verb, "write") && access_list_add(&t->write, rest);
}

bool access_record_parse(struct slice record, struct access_token *ret) {
    bool ok = record.size <= ACCESS_RECORD_BYTES_MAX, created = false;
    while (ok && record.size > 0) {
        const uint8_t *end = memchr(record.data, '\n', record.size);
        if (!end)
            break;
        size_t size = (size_t)(end - record.data);
        ok = take_line(slice_of(record.data, size), ret, &created);
        record = slice_of(record.data + size + 1, record.size - size - 1);
    }
    ok = ok && record.size == 0 && ret->name[0] && created;
    if (!ok)
        access_token_fini(ret);
    return ok;
}

void access_token_fini(struct access_token *t) {
    access_list_fini(&t->read);
    access_list_fini(&t->write);
}
