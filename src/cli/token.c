/* cotidal token: who may ask a running system for what. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "cli/http.h"
#include "proto/access_token.h"
#include "proto/url.h"

/* "a/x,b/y" as an array. */
static json_t *patterns_of(const char *text) {
    json_t *list = json_array();
    while (text && *text) {
        size_t n = strcspn(text, ",");
        if (n > 0)
            json_array_append_new(list, json_stringn(text, n));
        text += n + (text[n] == ',');
    }
    return list;
}

static int exchange(const struct cli_args *args, struct http_request *request, json_t **ret) {
    struct http_reply reply = {0};
    int code = http_exchange(args, request, &reply);
    http_request_fini(request);
    if (code == CLI_OK && ret) {
        *ret = json_loadb((const char *)reply.body.data, reply.body.size, 0, NULL);
        if (!json_is_object(*ret)) {
            fputs("cotidal: what answers at --to does not seem to be cotidal\n", stderr);
            json_decref(*ret);
            code = CLI_REFUSED;
        }
    }
    if (reply.body.size > 0)
        explicit_bzero(reply.body.data, reply.body.size);
    http_reply_fini(&reply);
    return code;
}

static void print_json(json_t *taken) {
    json_dumpf(taken, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(taken);
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static int create(const struct cli_args *args) {
    struct http_request request = {.method = "POST", .is_write = true, .expected = {201}};
    json_t *made,
        *body = json_pack("{s:s, s:o, s:o, s:b, s:b}", "name",
                          args->token_name ? args->token_name : "token", "read",
                          patterns_of(args->token_read), "write", patterns_of(args->token_write),
                          "admin", args->token_admin != NULL, "deploy", args->token_deploy != NULL);
    if (!body) {
        fputs("cotidal: names and patterns are UTF-8\n", stderr);
        return CLI_USAGE;
    }
    if (args->ttl)
        json_object_set_new(body, "ttl", json_string(args->ttl));
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    buf_append_str(&request.path, "/_/tokens");
    request.body = slice_str(text);
    http_request_header(&request, "Content-Type", "application/json");
    int code = exchange(args, &request, &made);
    free(text);
    if (code != CLI_OK)
        return code;
    if (args->json) {
        print_json(made);
        return CLI_OK;
    }
    puts(text_of(made, "token"));
    fprintf(stderr, "This is shown once. Its id is %s: cotidal token revoke %s takes it back.\n",
            text_of(made, "id"), text_of(made, "id"));
    json_decref(made);
    return CLI_OK;
}

static void print_patterns(const char *name, const json_t *list) {
    size_t i;
    const json_t *one;
    if (json_array_size(list) == 0)
        return;
    printf(" %s", name);
    json_array_foreach(list, i, one) printf("%c%s", i ? ',' : '=', json_string_value(one));
}

static void print_token(const json_t *t) {
    char expires[32] = "never";
    json_int_t ms = json_integer_value(json_object_get(t, "expires_ms"));
    time_t at = (time_t)(ms / 1000);
    struct tm tm;
    if (ms > 0 && gmtime_r(&at, &tm))
        strftime(expires, sizeof expires, "%Y-%m-%dT%H:%M:%SZ", &tm);
    printf("%-16s  %-16s  %-20s ", text_of(t, "id"), text_of(t, "name"), expires);
    if (json_is_true(json_object_get(t, "admin")))
        printf(" admin");
    if (json_is_true(json_object_get(t, "deploy")))
        printf(" deploy");
    print_patterns("read", json_object_get(t, "read"));
    print_patterns("write", json_object_get(t, "write"));
    putchar('\n');
}

static int list(const struct cli_args *args) {
    struct http_request request = {.method = "GET", .expected = {200}};
    json_t *answer;
    const json_t *t;
    size_t i;
    buf_append_str(&request.path, "/_/tokens");
    int code = exchange(args, &request, &answer);
    if (code != CLI_OK)
        return code;
    if (args->json) {
        print_json(answer);
        return CLI_OK;
    }
    printf("%-16s  %-16s  %-20s  %s\n", "ID", "NAME", "EXPIRES", "MAY");
    json_array_foreach(json_object_get(answer, "tokens"), i, t) print_token(t);
    json_decref(answer);
    return CLI_OK;
}

static int revoke(const struct cli_args *args, const char *id) {
    struct http_request request = {.method = "DELETE", .is_write = true, .expected = {204}};
    buf_append_str(&request.path, "/_/tokens/");
    url_encode(&request.path, slice_str(id), "");
    return exchange(args, &request, NULL);
}

/* The text of a token that no database knows, for --admin-token-file. */
static int make_text(void) {
    uint8_t random[32];
    CHECK(getrandom(random, sizeof random, 0) == (ssize_t)sizeof random);
    fputs("ct_", stdout);
    for (size_t i = 0; i < sizeof random; i++)
        printf("%02x", random[i]);
    putchar('\n');
    return CLI_OK;
}

int cli_token(const struct cli_args *args) {
    const char *verb = args->words[0], *id = args->word_count > 1 ? args->words[1] : NULL;
    if (strcmp(verb, "create") == 0 && !id)
        return create(args);
    if (strcmp(verb, "list") == 0 && !id)
        return list(args);
    if (strcmp(verb, "revoke") == 0 && id)
        return revoke(args, id);
    if (strcmp(verb, "new") == 0 && !id)
        return make_text();
    fputs("cotidal: usage: cotidal token create|list|revoke ID|new\n", stderr);
    return CLI_USAGE;
}
