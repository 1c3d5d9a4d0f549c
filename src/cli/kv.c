/* get, set, del: one key over HTTP. */
#include <errno.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/http.h"
#include "proto/json_out.h"
#include "proto/url.h"
#include "store/store.h"

/* Writes one JSON object that was built in `json`. */
static void print_json(struct buf *json) {
    buf_append_char(json, '\n');
    fwrite(json->data, 1, json->size, stdout);
    buf_fini(json);
}

static void add_revision(struct json_out *j, const struct http_reply *reply) {
    if (reply->etag.size > 0) {
        json_out_key(j, "revision");
        json_out_string(j, buf_slice(&reply->etag));
    }
}

static void print_value_json(const struct cli_args *args, const struct http_reply *reply) {
    struct buf json = {0};
    struct json_out j;
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "key");
    json_out_str(&j, args->words[0]);
    if (json_out_is_utf8(buf_slice(&reply->body))) {
        json_out_key(&j, "value");
        json_out_string(&j, buf_slice(&reply->body));
    } else {
        struct buf encoded = {0};
        base64_append(&encoded, buf_slice(&reply->body));
        json_out_key(&j, "value_base64");
        json_out_string(&j, buf_slice(&encoded));
        buf_fini(&encoded);
    }
    json_out_key(&j, "content_type");
    json_out_string(&j, buf_slice(&reply->content_type));
    add_revision(&j, reply);
    if (reply->expires.size > 0) {
        json_out_key(&j, "expires");
        json_out_string(&j, buf_slice(&reply->expires));
    }
    json_out_end(&j, '}');
    print_json(&json);
}

static void print_done_json(const char *key, const char *what, const struct http_reply *reply) {
    struct buf json = {0};
    struct json_out j;
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "key");
    json_out_str(&j, key);
    json_out_key(&j, "result");
    json_out_str(&j, what);
    add_revision(&j, reply);
    json_out_end(&j, '}');
    print_json(&json);
}

static void print_done(const struct cli_args *args, const char *what,
                       const struct http_reply *reply) {
    if (args->json)
        print_done_json(args->words[0], what, reply);
    else if (reply->etag.size > 0)
        printf("%s, revision %.*s\n", what, (int)reply->etag.size, (const char *)reply->etag.data);
    else
        printf("%s\n", what);
}

static void no_such_key(const struct cli_args *args, const struct http_reply *reply) {
    if (args->json)
        print_done_json(args->words[0], "missing", reply);
    else
        fprintf(stderr, "cotidal: there is no key '%s'\n", args->words[0]);
}

/* A 404 is either our answer about the key, or somebody else's about the path. */
static bool is_ours(const struct http_reply *reply) {
    return slice_starts_with(buf_slice(&reply->content_type),
                             slice_str("application/problem+json"));
}

int cli_get(const struct cli_args *args) {
    struct http_request request = {.method = "GET", .expected = {200, 404}};
    struct http_reply reply = {0};
    http_request_key(&request, args->words[0]);
    int code = http_exchange(args, &request, &reply);
    if (code == CLI_OK && reply.status == 404) {
        if (is_ours(&reply)) {
            no_such_key(args, &reply);
            code = CLI_NO;
        } else {
            fputs("cotidal: what answers at --to does not seem to be cotidal (status 404)\n",
                  stderr);
            code = CLI_REFUSED;
        }
    } else if (code == CLI_OK && args->json) {
        print_value_json(args, &reply);
    } else if (code == CLI_OK) {
        fwrite(reply.body.data, 1, reply.body.size, stdout);
        if (isatty(STDOUT_FILENO) &&
            (reply.body.size == 0 || reply.body.data[reply.body.size - 1] != '\n'))
            putchar('\n');
    }
    http_request_fini(&request);
    http_reply_fini(&reply);
    return code;
}

/* Reads standard input to its end. */
static int read_input(struct buf *value) {
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buf_reserve(value, 65536), 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            perror("cotidal: could not read standard input");
            return CLI_LOCAL;
        }
        if (n == 0)
            return CLI_OK;
        buf_commit(value, (size_t)n);
        if (value->size > STORE_VALUE_BYTES_MAX) {
            fprintf(stderr, "cotidal: the value is over the limit of %d bytes; nothing was sent\n",
                    STORE_VALUE_BYTES_MAX);
            return CLI_REFUSED;
        }
    }
}

static int add_conditions(struct http_request *request, const struct cli_args *args) {
    if (args->if_revision && args->if_absent) {
        fputs("cotidal: --if-absent and --if-revision cannot both be true\n", stderr);
        return CLI_USAGE;
    }
    if (args->if_absent)
        http_request_header(request, "If-None-Match", "*");
    if (args->if_revision) {
        size_t n = strlen(args->if_revision);
        if (n == 0 || n > 20 || strspn(args->if_revision, "0123456789") != n) {
            fprintf(stderr, "cotidal: '%s' is no revision (cotidal get KEY --json shows it)\n",
                    args->if_revision);
            return CLI_USAGE;
        }
        char etag[32];
        snprintf(etag, sizeof etag, "\"%s\"", args->if_revision);
        http_request_header(request, "If-Match", etag);
    }
    return CLI_OK;
}

static int add_set_options(struct http_request *request, const struct cli_args *args) {
    uint64_t ttl_ms;
    if (args->ttl) {
        if (!duration_parse_ms(slice_str(args->ttl), &ttl_ms) || ttl_ms == 0) {
            fprintf(stderr, "cotidal: '%s' is no time: write 30s, 5m, 2h, 7d or 500ms\n",
                    args->ttl);
            return CLI_USAGE;
        }
        buf_append_str(&request->path, "?ttl=");
        url_encode(&request->path, slice_str(args->ttl), "");
    }
    const char *type = args->content_type ? args->content_type : "application/octet-stream";
    if (strpbrk(type, "\r\n")) {
        fputs("cotidal: a content type is one line\n", stderr);
        return CLI_USAGE;
    }
    http_request_header(request, "Content-Type", type);
    return add_conditions(request, args);
}

int cli_set(const struct cli_args *args) {
    struct http_request request = {.method = "PUT", .is_write = true, .expected = {200, 201, 204}};
    struct http_reply reply = {0};
    struct buf value = {0};
    http_request_key(&request, args->words[0]);
    int code = add_set_options(&request, args);
    if (code == CLI_OK && strcmp(args->words[1], "-") == 0)
        code = read_input(&value);
    else
        buf_append_str(&value, args->words[1]);
    if (code == CLI_OK) {
        request.body = buf_slice(&value);
        code = http_exchange(args, &request, &reply);
    }
    if (code == CLI_OK)
        print_done(args, reply.status == 201 ? "created" : "stored", &reply);
    http_request_fini(&request);
    http_reply_fini(&reply);
    buf_fini(&value);
    return code;
}

int cli_del(const struct cli_args *args) {
    struct http_request request = {
        .method = "DELETE", .is_write = true, .expected = {200, 204, 404}};
    struct http_reply reply = {0};
    http_request_key(&request, args->words[0]);
    int code = add_conditions(&request, args);
    if (code == CLI_OK)
        code = http_exchange(args, &request, &reply);
    if (code == CLI_OK && reply.status == 404) {
        no_such_key(args, &reply);
        code = CLI_NO;
    } else if (code == CLI_OK) {
        print_done(args, "deleted", &reply);
    }
    http_request_fini(&request);
    http_reply_fini(&reply);
    return code;
}
