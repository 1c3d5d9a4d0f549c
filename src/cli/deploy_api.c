#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/deploy.h"
#include "cli/http.h"
#include "proto/json_out.h"

enum { ASK_BLOCKS = 4000 };

static int bad_answer(void) {
    fputs("cotidal: what answers at --to does not seem to be cotidal\n", stderr);
    return CLI_REFUSED;
}

/* One exchange whose answer is JSON. */
static int exchange_json(const struct cli_args *args, struct http_request *request,
                         json_t **ret_json) {
    struct http_reply reply = {0};
    int code = http_exchange(args, request, &reply);
    if (code == CLI_OK) {
        *ret_json = json_loadb((const char *)reply.body.data, reply.body.size, 0, NULL);
        if (!json_is_object(*ret_json)) {
            json_decref(*ret_json);
            code = bad_answer();
        }
    }
    http_reply_fini(&reply);
    http_request_fini(request);
    return code;
}

static int get_block(const struct cli_args *args, const char *hash, struct buf *out) {
    struct http_request request = {.method = "GET", .expected = {200, 404}};
    struct http_reply reply = {0};
    buf_printf(&request.path, "/v1/deploys/blocks/%s", hash);
    int code = http_exchange(args, &request, &reply);
    if (code == CLI_OK && reply.status == 200)
        buf_append_slice(out, buf_slice(&reply.body));
    http_reply_fini(&reply);
    http_request_fini(&request);
    return code;
}

static json_t *find_by(json_t *list, const char *key, const char *name, json_int_t number) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        json_t *value = json_object_get(item, key);
        if (name ? json_is_string(value) && strcmp(json_string_value(value), name) == 0
                 : json_integer_value(value) == number)
            return item;
    }
    return NULL;
}

int deploy_get_shown(const struct cli_args *args, const char *site, struct buf *ret_manifest) {
    struct http_request request = {.method = "GET", .expected = {200}};
    json_t *all = NULL, *block;
    size_t i;
    buf_append_str(&request.path, "/v1/sites");
    int code = exchange_json(args, &request, &all);
    if (code != CLI_OK)
        return code;
    json_t *found = find_by(json_object_get(all, "sites"), "name", site, 0);
    json_t *shown = found ? find_by(json_object_get(found, "deploys"), "id", NULL,
                                    json_integer_value(json_object_get(found, "deploy")))
                          : NULL;
    json_t *blocks = json_object_get(json_object_get(shown, "manifest"), "blocks");
    json_array_foreach(blocks, i, block) {
        if (code == CLI_OK && json_is_string(block))
            code = get_block(args, json_string_value(block), ret_manifest);
    }
    json_decref(all);
    return code;
}

static int ask_some(const struct cli_args *args, const uint8_t *hashes, size_t count,
                    bool *ret_missing) {
    struct http_request request = {.method = "POST", .expected = {200}};
    struct http_reply reply = {0};
    struct buf body = {0};
    char hex[2 * SHA256_BYTES + 1];
    buf_append_str(&request.path, "/v1/deploys/blocks/missing");
    for (size_t i = 0; i < count; i++) {
        sha256_to_hex(hashes + i * SHA256_BYTES, hex);
        buf_append_str(&body, hex);
        buf_append_char(&body, '\n');
    }
    request.body = buf_slice(&body);
    int code = http_exchange(args, &request, &reply);
    /* The answer has them in the order in which they were asked for. */
    struct slice left = buf_slice(&reply.body);
    for (size_t i = 0; code == CLI_OK && i < count; i++) {
        sha256_to_hex(hashes + i * SHA256_BYTES, hex);
        ret_missing[i] =
            left.size > 2 * SHA256_BYTES && memcmp(left.data, hex, 2 * SHA256_BYTES) == 0;
        if (ret_missing[i])
            left = slice_of(left.data + 2 * SHA256_BYTES + 1, left.size - 2 * SHA256_BYTES - 1);
    }
    if (code == CLI_OK && left.size > 0)
        code = bad_answer();
    buf_fini(&body);
    http_reply_fini(&reply);
    http_request_fini(&request);
    return code;
}

int deploy_ask_missing(const struct cli_args *args, const uint8_t *hashes, size_t count,
                       bool *ret_missing) {
    int code = CLI_OK;
    for (size_t at = 0; at < count && code == CLI_OK; at += ASK_BLOCKS) {
        size_t n = count - at < ASK_BLOCKS ? count - at : ASK_BLOCKS;
        code = ask_some(args, hashes + at * SHA256_BYTES, n, ret_missing + at);
    }
    return code;
}

int deploy_send_blocks(const struct cli_args *args, struct slice frames) {
    struct http_request request = {
        .method = "POST", .is_write = true, .body = frames, .expected = {200}};
    json_t *answer = NULL;
    buf_append_str(&request.path, "/v1/deploys/blocks");
    int code = exchange_json(args, &request, &answer);
    if (code == CLI_OK)
        json_decref(answer);
    return code;
}

static void put_hosts(struct json_out *j, const char *hosts) {
    json_out_key(j, "hosts");
    json_out_array(j);
    while (*hosts) {
        size_t n = strcspn(hosts, ",");
        if (n > 0)
            json_out_string(j, slice_of(hosts, n));
        hosts += n + (hosts[n] == ',');
    }
    json_out_end(j, ']');
}

static void put_staging(struct buf *body, const struct cli_args *args, const char *site,
                        uint64_t manifest_bytes, const struct buf *hashes) {
    struct json_out j;
    json_out_begin(&j, body);
    json_out_object(&j);
    json_out_key(&j, "site");
    json_out_str(&j, site);
    if (args->host)
        put_hosts(&j, args->host);
    if (args->keep) {
        json_out_key(&j, "keep");
        json_out_i64(&j, strtol(args->keep, NULL, 10));
    }
    if (args->note) {
        json_out_key(&j, "note");
        json_out_str(&j, args->note);
    }
    json_out_key(&j, "manifest");
    json_out_object(&j);
    json_out_key(&j, "bytes");
    json_out_u64(&j, manifest_bytes);
    json_out_key(&j, "blocks");
    json_out_array(&j);
    for (size_t at = 0; at < hashes->size; at += SHA256_BYTES) {
        char hex[2 * SHA256_BYTES + 1];
        sha256_to_hex(hashes->data + at, hex);
        json_out_str(&j, hex);
    }
    json_out_end(&j, ']');
    json_out_end(&j, '}');
    json_out_end(&j, '}');
}

int deploy_stage(const struct cli_args *args, const char *site, uint64_t manifest_bytes,
                 const struct buf *hashes, uint64_t *ret_id) {
    struct http_request request = {.method = "POST", .is_write = true, .expected = {201}};
    struct buf body = {0};
    json_t *answer = NULL;
    buf_append_str(&request.path, "/v1/deploys");
    http_request_header(&request, "Content-Type", "application/json");
    put_staging(&body, args, site, manifest_bytes, hashes);
    request.body = buf_slice(&body);
    int code = exchange_json(args, &request, &answer);
    buf_fini(&body);
    if (code == CLI_OK) {
        *ret_id = (uint64_t)json_integer_value(json_object_get(answer, "id"));
        json_decref(answer);
    }
    return code;
}

int deploy_pin(const struct cli_args *args, uint64_t id, uint64_t from, uint64_t *ret_pinned,
               uint64_t *ret_total, struct buf *ret_missing) {
    struct http_request request = {.method = "POST", .is_write = true, .expected = {200}};
    json_t *answer = NULL, *hash;
    size_t i;
    buf_printf(&request.path, "/v1/deploys/%" PRIu64 "/pin?from=%" PRIu64, id, from);
    int code = exchange_json(args, &request, &answer);
    if (code != CLI_OK)
        return code;
    *ret_pinned = (uint64_t)json_integer_value(json_object_get(answer, "pinned"));
    *ret_total = (uint64_t)json_integer_value(json_object_get(answer, "blocks"));
    json_array_foreach(json_object_get(answer, "missing"), i, hash) {
        uint8_t bytes[SHA256_BYTES];
        const char *text = json_string_value(hash);
        if (text && sha256_from_hex(slice_str(text), bytes))
            buf_append(ret_missing, bytes, sizeof bytes);
    }
    json_decref(answer);
    return CLI_OK;
}

int deploy_activate(const struct cli_args *args, uint64_t id, uint64_t *ret_before) {
    struct http_request request = {.method = "POST", .is_write = true, .expected = {200}};
    json_t *answer = NULL;
    buf_printf(&request.path, "/v1/deploys/%" PRIu64 "/activate", id);
    int code = exchange_json(args, &request, &answer);
    if (code == CLI_OK) {
        *ret_before = (uint64_t)json_integer_value(json_object_get(answer, "before"));
        json_decref(answer);
    }
    return code;
}
