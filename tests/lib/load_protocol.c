/* The operations of the load client as bytes of HTTP/1.1 and RESP2. It understands as much of each
 * as cotidal's answers to these operations need, and calls everything else broken. */
#include <string.h>

#include "base/num.h"
#include "load.h"

/* ---- HTTP ---- */

size_t http_request(struct op *op, char *out) {
    char body[256] = "", condition[64] = "", path[96];
    const char *method = "GET";
    snprintf(path, sizeof path, "/v1/kv/%s", op->key);
    switch (op->kind) {
    case OP_COUNT:
    case OP_TEXT:
    case OP_READ:
        break;
    case OP_INCR:
        method = "POST";
        snprintf(path, sizeof path, "/v1/incr/%s", op->key);
        break;
    case OP_APPEND:
        method = "POST";
        snprintf(path, sizeof path, "/v1/txn");
        snprintf(body, sizeof body, "{\"then\":[{\"redis\":[\"APPEND\",\"%s\",\"%s\"]}]}", op->key,
                 op->id);
        break;
    case OP_CAS:
        if (op->old)
            snprintf(condition, sizeof condition, "If-Match: %s\r\n", op->etag);
        else
            snprintf(condition, sizeof condition, "If-None-Match: *\r\n");
        /* fall through */
    case OP_WRITE:
        method = "PUT";
        snprintf(body, sizeof body, "%llu", (unsigned long long)op->value);
        break;
    }
    return (size_t)snprintf(out, OUT_BYTES,
                            "%s %s HTTP/1.1\r\nHost: load\r\n%sContent-Length: %zu\r\n\r\n%s",
                            method, path, condition, strlen(body), body);
}

/* The value of a header field among `head`, which ends in an empty line. */
static struct slice header(struct slice head, const char *name) {
    const uint8_t *at = head.data;
    size_t left = head.size, length = strlen(name);
    while (left > 0) {
        const uint8_t *end = memchr(at, '\n', left);
        if (!end)
            break;
        size_t line = (size_t)(end - at) + 1;
        if (line > length + 3 && strncasecmp((const char *)at, name, length) == 0 &&
            at[length] == ':')
            return slice_of(at + length + 2, line - length - 4);
        at += line;
        left -= line;
    }
    return slice_of(NULL, 0);
}

static bool contains(struct slice text, const char *word) {
    return text.size && memmem(text.data, text.size, word, strlen(word));
}

/* The digits behind `mark` in a JSON body that we know the form of. */
static bool number_behind(struct slice body, const char *mark, uint64_t *ret_number) {
    const uint8_t *at = body.size ? memmem(body.data, body.size, mark, strlen(mark)) : NULL;
    if (!at)
        return false;
    at += strlen(mark);
    const uint8_t *end = at;
    while (end < body.data + body.size && *end >= '0' && *end <= '9')
        end++;
    return num_parse_u64(slice_of(at, (size_t)(end - at)), ret_number);
}

static bool http_success(const struct op *op, int status, struct slice head, struct slice body,
                         struct answer *ret) {
    bool read = op->kind == OP_COUNT || op->kind == OP_TEXT || op->kind == OP_READ;
    struct slice etag = header(head, "ETag");
    if (etag.size && etag.size < sizeof ret->etag)
        memcpy(ret->etag, etag.data, etag.size);
    if (read && status == 404)
        return true;
    if (op->kind == OP_CAS && status == 412)
        return true;
    if (status < 200 || status > 204)
        return false;
    ret->text = body.data;
    ret->text_size = body.size;
    switch (op->kind) {
    case OP_INCR:
        return number_behind(body, "\"value\":", &ret->number);
    case OP_APPEND:
        return number_behind(body, "\"reply\":", &ret->number);
    case OP_COUNT:
    case OP_READ:
        return num_parse_u64(body, &ret->number);
    case OP_CAS:
        ret->taken = true;
        return true;
    case OP_TEXT:
    case OP_WRITE:
        return true;
    }
    return false;
}

size_t http_answer(const struct op *op, const uint8_t *in, size_t size, struct answer *ret) {
    const uint8_t *end = memmem(in, size, "\r\n\r\n", 4);
    if (!end)
        return size < IN_BYTES ? 0 : SIZE_MAX;
    struct slice head = slice_of(in, (size_t)(end - in) + 4);
    uint64_t status, length = 0;
    if (head.size < 12 || memcmp(in, "HTTP/1.1 ", 9) != 0 ||
        !num_parse_u64(slice_of(in + 9, 3), &status))
        return SIZE_MAX;
    struct slice content_length = header(head, "Content-Length");
    if (content_length.size && (!num_parse_u64(content_length, &length) || length > IN_BYTES / 2))
        return SIZE_MAX;
    if (size < head.size + length)
        return 0;
    struct slice body = slice_of(in + head.size, length);
    *ret = (struct answer){.outcome = OUTCOME_OK};
    if (!http_success(op, (int)status, head, body, ret)) {
        /* An answer that does not say what became of the request leaves that open. */
        ret->failed = true;
        ret->outcome = contains(body, "\"applied\":\"no\"") ? OUTCOME_NO : OUTCOME_UNKNOWN;
        ret->text = body.data;
        ret->text_size = body.size;
    }
    return head.size + length;
}

/* ---- Redis ---- */

static size_t command(char *out, int count, const char *const *words) {
    size_t n = (size_t)sprintf(out, "*%d\r\n", count);
    for (int i = 0; i < count; i++)
        n += (size_t)sprintf(out + n, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
    return n;
}

size_t redis_request(struct op *op, char *out) {
    char value[24];
    snprintf(value, sizeof value, "%llu", (unsigned long long)op->value);
    op->replies_left = 1;
    size_t n = 0;
    switch (op->kind) {
    case OP_INCR:
        return command(out, 2, (const char *[]){"INCR", op->key});
    case OP_APPEND:
        return command(out, 3, (const char *[]){"APPEND", op->key, op->id});
    case OP_WRITE:
        return command(out, 3, (const char *[]){"SET", op->key, value});
    case OP_CAS:
        op->replies_left = 3;
        n = command(out, 1, (const char *[]){"MULTI"});
        n += command(out + n, 3, (const char *[]){"SET", op->key, value});
        return n + command(out + n, 1, (const char *[]){"EXEC"});
    case OP_COUNT:
    case OP_TEXT:
    case OP_READ:
        if (op->watch) {
            op->replies_left = 2;
            n = command(out, 2, (const char *[]){"WATCH", op->key});
        }
        return n + command(out + n, 2, (const char *[]){"GET", op->key});
    }
    return 0;
}

/* One reply: its type, and what it holds. An array is taken whole; `number` is its count then. */
struct resp {
    uint8_t type;
    bool null;
    struct slice text;
    int64_t number;
};

static size_t take_resp(const uint8_t *in, size_t size, struct resp *ret) {
    const uint8_t *end = size ? memchr(in, '\n', size) : NULL;
    if (!end)
        return 0;
    size_t line = (size_t)(end - in) + 1;
    if (line < 3)
        return SIZE_MAX;
    *ret = (struct resp){.type = in[0], .text = slice_of(in + 1, line - 3)};
    if (in[0] == '+' || in[0] == '-')
        return line;
    if (!num_parse_i64(ret->text, &ret->number))
        return SIZE_MAX;
    if (in[0] == ':')
        return line;
    if (ret->number > IN_BYTES / 2)
        return SIZE_MAX;
    ret->null = ret->number < 0;
    if (ret->null)
        return line;
    if (in[0] == '$') {
        ret->text = slice_of(in + line, (size_t)ret->number);
        line += (size_t)ret->number + 2;
        return size < line ? 0 : line;
    }
    if (in[0] != '*')
        return SIZE_MAX;
    for (int64_t i = 0; i < ret->number; i++) {
        struct resp element;
        size_t n = take_resp(in + line, size - line, &element);
        if (n == 0 || n == SIZE_MAX)
            return n;
        line += n;
    }
    return line;
}

static bool redis_success(const struct op *op, const struct resp *r, struct answer *ret) {
    ret->text = r->text.data;
    ret->text_size = r->text.size;
    switch (op->kind) {
    case OP_INCR:
    case OP_APPEND:
        ret->number = (uint64_t)r->number;
        return r->type == ':' && r->number > 0;
    case OP_COUNT:
    case OP_READ:
        return r->type == '$' && (r->null || num_parse_u64(r->text, &ret->number));
    case OP_TEXT:
        if (r->null)
            ret->text_size = 0;
        return r->type == '$';
    case OP_WRITE:
        return r->type == '+';
    case OP_CAS:
        ret->taken = !r->null;
        return r->type == '*';
    }
    return false;
}

size_t redis_answer(struct op *op, const uint8_t *in, size_t size, struct answer *ret) {
    struct resp r;
    size_t n = take_resp(in, size, &r);
    if (n == 0 || n == SIZE_MAX)
        return n == 0 && size == IN_BYTES ? SIZE_MAX : n;
    op->replies_left--;
    /* Every error of an operation of several commands is repeated by its last one, or does not
     * matter: a WATCH that failed lets EXEC fail. */
    *ret = (struct answer){.outcome = OUTCOME_OK};
    if (op->replies_left == 0 && !redis_success(op, &r, ret)) {
        ret->failed = true;
        ret->outcome = contains(r.text, "applied: no") ? OUTCOME_NO : OUTCOME_UNKNOWN;
        ret->text = r.text.data;
        ret->text_size = r.text.size;
    }
    return n;
}
