#include "cli/bench.h"

#include "base/num.h"
#include "proto/resp.h"

static const char key_prefix[] = "bench:";
static const char key_word[] = "{key}";
static const char value_word[] = "{value}";

void bench_request_fini(struct bench_request *r) {
    buf_fini(&r->bytes);
    buf_fini(&r->key_places);
}

static void append_key(struct bench_request *r) {
    buf_append_str(&r->bytes, key_prefix);
    uint32_t place = (uint32_t)r->bytes.size;
    buf_append(&r->key_places, &place, sizeof place);
    buf_append(&r->bytes, "0000000000", BENCH_KEY_DIGITS);
}

/* Appends `text` with what {key} and {value} stand for. */
static void append_filled(struct bench_request *r, const struct bench_request_form *form,
                          struct slice text) {
    while (text.size > 0) {
        size_t n = 1;
        if (slice_starts_with(text, slice_str(key_word))) {
            append_key(r);
            n = strlen(key_word);
        } else if (slice_starts_with(text, slice_str(value_word))) {
            buf_append_slice(&r->bytes, form->value);
            n = strlen(value_word);
        } else {
            buf_append_u8(&r->bytes, text.data[0]);
        }
        text = slice_of(text.data + n, text.size - n);
    }
}

/* How many bytes append_filled() will append. */
static size_t filled_bytes(const struct bench_request_form *form, struct slice text) {
    struct bench_request scratch = {0};
    append_filled(&scratch, form, text);
    size_t size = scratch.bytes.size;
    bench_request_fini(&scratch);
    return size;
}

static const char *make_redis(const struct bench_request_form *form, const char *text,
                              struct bench_request *r) {
    static const struct resp_limits limits = {
        .args_max = 1024, .bulk_bytes_max = 1 << 16, .command_bytes_max = 1 << 20};
    struct resp_parser parser;
    struct buf line = {0};
    size_t used;
    const char *wrong = NULL;
    buf_append_str(&line, text);
    buf_append_str(&line, "\r\n");
    resp_parser_init(&parser, &limits);
    if (text[0] == '*' || strpbrk(text, "\r\n") ||
        resp_parse(&parser, buf_slice(&line), &used) != RESP_COMMAND) {
        wrong = "it is no command line: words, in quotes where they hold spaces";
    } else {
        buf_printf(&r->bytes, "*%zu\r\n", parser.args.count);
        for (size_t i = 0; i < parser.args.count; i++) {
            buf_printf(&r->bytes, "$%zu\r\n", filled_bytes(form, parser.args.args[i]));
            append_filled(r, form, parser.args.args[i]);
            buf_append_str(&r->bytes, "\r\n");
        }
    }
    if (!wrong && form->wait > 0) {
        struct buf number = {0};
        num_append_u64(&number, form->wait);
        buf_printf(&r->bytes, "*3\r\n$4\r\nWAIT\r\n$%zu\r\n%.*s\r\n$1\r\n0\r\n", number.size,
                   (int)number.size, (const char *)number.data);
        buf_fini(&number);
    }
    resp_parser_fini(&parser);
    buf_fini(&line);
    return wrong;
}

/* Takes the next word off *at, which ends at a space. */
static struct slice next_word(const char **at) {
    struct slice word = slice_of(*at, strcspn(*at, " "));
    *at += word.size;
    *at += **at == ' ';
    return word;
}

static const char *make_http(const struct bench_request_form *form, const char *text,
                             struct bench_request *r) {
    for (const char *c = text; *c; c++)
        if ((uint8_t)*c < ' ' || *c == 0x7f)
            return "it has control characters";
    if (form->header && (strpbrk(form->header, "\r\n") || !strchr(form->header, ':')))
        return "its header is not of the form Name: value";
    const char *at = text;
    struct slice method = next_word(&at);
    struct slice target = next_word(&at);
    struct slice body = slice_str(at);
    if (method.size == 0 || target.size == 0 || target.data[0] != '/')
        return "it is not of the form METHOD /PATH [BODY]";
    if (slice_equal_str(method, "HEAD") || slice_equal_str(method, "CONNECT"))
        return "HEAD and CONNECT are not supported";
    buf_append_slice(&r->bytes, method);
    buf_append_char(&r->bytes, ' ');
    append_filled(r, form, target);
    buf_printf(&r->bytes, " HTTP/1.1\r\nHost: %s\r\n", form->host);
    if (form->header)
        buf_printf(&r->bytes, "%s\r\n", form->header);
    if (body.size > 0 || !slice_equal_str(method, "GET"))
        buf_printf(&r->bytes, "Content-Length: %zu\r\n", filled_bytes(form, body));
    buf_append_str(&r->bytes, "\r\n");
    append_filled(r, form, body);
    return NULL;
}

const char *bench_request_make(const struct bench_request_form *form, const char *text,
                               struct bench_request *ret_request) {
    *ret_request = (struct bench_request){0};
    return form->protocol == BENCH_REDIS ? make_redis(form, text, ret_request)
                                         : make_http(form, text, ret_request);
}

void bench_request_append(struct buf *out, const struct bench_request *r, uint64_t key) {
    uint8_t *bytes = buf_reserve(out, r->bytes.size);
    memcpy(bytes, r->bytes.data, r->bytes.size);
    char digits[BENCH_KEY_DIGITS];
    for (size_t i = BENCH_KEY_DIGITS; i > 0; i--) {
        digits[i - 1] = (char)('0' + key % 10);
        key /= 10;
    }
    for (size_t i = 0; i < r->key_places.size; i += sizeof(uint32_t)) {
        uint32_t place;
        memcpy(&place, r->key_places.data + i, sizeof place);
        memcpy(bytes + place, digits, sizeof digits);
    }
    buf_commit(out, r->bytes.size);
}
