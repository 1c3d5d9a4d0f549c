#include "cli/http.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>

#include "proto/access_token.h"
#include "proto/url.h"

enum { CONNECT_TIMEOUT_MS = 3000, REPLY_TIMEOUT_MS = 15000 };

void http_request_fini(struct http_request *request) {
    buf_fini(&request->path);
    for (size_t i = 0; i < request->header_count; i++)
        buf_fini(&request->headers[i]);
}

void http_reply_fini(struct http_reply *reply) {
    buf_fini(&reply->body);
    buf_fini(&reply->etag);
    buf_fini(&reply->content_type);
    buf_fini(&reply->expires);
}

void http_request_key(struct http_request *request, const char *key) {
    buf_append_str(&request->path, "/v1/kv/");
    if (strspn(key, "./") == strlen(key)) {
        /* "." and ".." would read as path segments on the way (RFC 3986 section 5.2.4). */
        for (const char *c = key; *c; c++)
            buf_append_str(&request->path, *c == '.' ? "%2E" : "%2F");
        return;
    }
    url_encode(&request->path, slice_str(key), "");
}

void http_request_header(struct http_request *request, const char *name, const char *value) {
    CHECK(request->header_count < HTTP_HEADERS_MAX);
    struct buf *b = &request->headers[request->header_count++];
    buf_printf(b, "%s: %s", name, value);
    buf_append_char(b, '\0');
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx) {
    struct http_reply *reply = ctx;
    buf_append(&reply->body, data, size * count);
    return size * count;
}

/* Takes the value of header `name` out of one line; the last one counts. */
static void take_header(struct slice line, const char *name, struct buf *value) {
    size_t n = strlen(name);
    if (line.size <= n || line.data[n] != ':' || strncasecmp((const char *)line.data, name, n) != 0)
        return;
    const char *begin = (const char *)line.data + n + 1;
    const char *end = (const char *)line.data + line.size;
    while (begin < end && strchr(" \t\"", *begin))
        begin++;
    while (end > begin && strchr(" \t\r\n\"", end[-1]))
        end--;
    buf_reset(value);
    buf_append(value, begin, (size_t)(end - begin));
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx) {
    struct http_reply *reply = ctx;
    struct slice line = slice_of(data, size * count);
    take_header(line, "ETag", &reply->etag);
    take_header(line, "Content-Type", &reply->content_type);
    take_header(line, "Kv-Expires", &reply->expires);
    return size * count;
}

/* "http://" is added when --to names no scheme, slashes at the end go. */
static void append_base(struct buf *url, const struct cli_args *args) {
    const char *to = args->to ? args->to : "http://127.0.0.1:8080";
    if (!strstr(to, "://"))
        buf_append_str(url, "http://");
    buf_append_str(url, to);
    while (url->size > 0 && url->data[url->size - 1] == '/')
        url->size--;
}

static int explain_no_answer(const struct cli_args *args, const struct http_request *request,
                             CURL *curl, CURLcode result) {
    double connected = 0;
    curl_easy_getinfo(curl, CURLINFO_CONNECT_TIME, &connected);
    struct buf base = {0};
    append_base(&base, args);
    int code = CLI_UNREACHABLE;
    fprintf(stderr, "cotidal: no answer from %.*s: %s.\n", (int)base.size, (const char *)base.data,
            curl_easy_strerror(result));
    if (result == CURLE_URL_MALFORMAT || result == CURLE_UNSUPPORTED_PROTOCOL) {
        fputs("--to wants a URL like http://127.0.0.1:8080\n", stderr);
        code = CLI_USAGE;
    } else if (connected > 0 && request->is_write) {
        fputs("The write was sent, and may or may not have been applied. Look at the key, or write "
              "again when that does no harm.\n",
              stderr);
        code = CLI_UNKNOWN;
    } else if (connected > 0) {
        fputs("The node took the connection and did not answer: is there a majority of nodes? See "
              "its log, or ask another one with --to URL.\n",
              stderr);
    } else {
        fputs(
            "Nothing was changed. Start a node (cotidal serve), or name another one with --to URL "
            "or COTIDAL_TO.\n",
            stderr);
    }
    buf_fini(&base);
    return code;
}

static const char *problem_text(const json_t *problem, const char *key) {
    const char *text = json_string_value(json_object_get(problem, key));
    return text ? text : "";
}

/* What a person can do about a status, beyond what the server says. */
static const char *advice_for(long status) {
    switch (status) {
    case 401:
    case 403:
        return "Name a token that may do this: COTIDAL_TOKEN=ct_..., or --token-file FILE.";
    case 404:
        return "Is --to the address of a cotidal node (its HTTP port)?";
    case 412:
        return "The key has changed meanwhile, or exists already: read it again (cotidal get KEY "
               "--json shows its revision).";
    case 413:
        return "The value or the key is over the node's limit.";
    case 503:
        return "cotidal status shows which nodes are there; try again in a moment.";
    case 507:
        return "The data quota is reached: delete keys, or raise --max-data on the nodes.";
    default:
        return "";
    }
}

/* An RFC 9457 problem, or whatever else answered. */
static int explain_refusal(const struct http_request *request, const struct http_reply *reply) {
    json_t *problem = json_loadb((const char *)reply->body.data, reply->body.size, 0, NULL);
    const char *applied = problem_text(problem, "applied");
    const char *detail = problem_text(problem, "detail");
    const char *title = problem_text(problem, "title");
    const char *code_text = problem_text(problem, "code");
    int code = CLI_REFUSED;
    if (json_is_object(problem)) {
        fprintf(stderr, "cotidal: %s (%ld%s%s)\n", detail[0] ? detail : title, reply->status,
                code_text[0] ? " " : "", code_text);
    } else {
        fprintf(stderr, "cotidal: the server answered with status %ld\n", reply->status);
    }
    /* 502 and 504 are a proxy's words: the node behind it may have gone on. */
    if (request->is_write && (strcmp(applied, "unknown") == 0 ||
                              (!applied[0] && (reply->status == 502 || reply->status == 504)))) {
        fputs("Whether the write was applied is not known. Look at the key, or write again when "
              "that does no harm.\n",
              stderr);
        code = CLI_UNKNOWN;
    } else if (request->is_write && strcmp(applied, "yes") != 0) {
        fputs("Nothing was changed.\n", stderr);
    }
    const char *advice = advice_for(reply->status);
    if (advice[0])
        fprintf(stderr, "%s\n", advice);
    json_decref(problem);
    return code;
}

static bool is_expected(const struct http_request *request, long status) {
    for (size_t i = 0; i < HTTP_EXPECTED_MAX && request->expected[i]; i++)
        if (request->expected[i] == status)
            return true;
    return false;
}

static void set_options(CURL *curl, const struct http_request *request, const struct buf *url,
                        long timeout_ms, struct http_reply *reply) {
    curl_easy_setopt(curl, CURLOPT_URL, (const char *)url->data);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* nodes are on one's own network */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "cotidal/" COTIDAL_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, reply);
    if (strcmp(request->method, "PUT") == 0 || request->body.size > 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                         request->body.size ? (const char *)request->body.data : "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
    }
}

/* One for the whole process: it keeps the connection for the next exchange. */
static CURL *take_handle(void) {
    static CURL *kept;
    if (kept)
        curl_easy_reset(kept);
    else
        kept = curl_easy_init();
    CHECK(kept != NULL); /* fails only when there is no memory */
    return kept;
}

/* "Authorization: Bearer TOKEN" from the environment or a file, never from the command line, which
 * every user of the machine can see. False: there is one, and it is no token. */
static bool put_token(const struct cli_args *args, struct curl_slist **headers) {
    char text[ACCESS_TEXT_BYTES + 64], field[sizeof text + 32];
    const char *from = getenv("COTIDAL_TOKEN");
    if (args->token_file) {
        FILE *f = fopen(args->token_file, "re");
        if (!f || !fgets(text, sizeof text, f)) {
            fprintf(stderr, "cotidal: cannot read a token from %s\n", args->token_file);
            if (f)
                fclose(f);
            return false;
        }
        fclose(f);
    } else if (from && *from) {
        snprintf(text, sizeof text, "%s", from);
    } else {
        return true;
    }
    text[strcspn(text, " \r\n")] = 0;
    if (!access_text_ok(slice_str(text))) {
        fprintf(stderr, "cotidal: what is in %s is not a token: expected ct_ and 64 digits\n",
                args->token_file ? args->token_file : "COTIDAL_TOKEN");
        return false;
    }
    snprintf(field, sizeof field, "Authorization: Bearer %s", text);
    *headers = curl_slist_append(*headers, field);
    explicit_bzero(text, sizeof text);
    explicit_bzero(field, sizeof field);
    return true;
}

int http_exchange(const struct cli_args *args, const struct http_request *request,
                  struct http_reply *ret_reply) {
    uint64_t timeout_ms = REPLY_TIMEOUT_MS;
    if (args->timeout && (!duration_parse_ms(slice_str(args->timeout), &timeout_ms) ||
                          timeout_ms == 0 || timeout_ms > INT32_MAX)) {
        fprintf(stderr, "cotidal: '%s' is no time: write 500ms, 10s or 2m\n", args->timeout);
        return CLI_USAGE;
    }
    CURL *curl = take_handle();
    struct buf url = {0};
    append_base(&url, args);
    buf_append_slice(&url, buf_slice(&request->path));
    buf_append_char(&url, '\0');
    /* No Expect: 100-continue for small bodies, and no form type that nobody asked for. */
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    if (!put_token(args, &headers)) {
        curl_slist_free_all(headers);
        buf_fini(&url);
        return CLI_USAGE;
    }
    bool typed = false;
    for (size_t i = 0; i < request->header_count; i++) {
        const char *header = (const char *)request->headers[i].data;
        typed |= strncasecmp(header, "Content-Type:", 13) == 0;
        headers = curl_slist_append(headers, header);
    }
    if (!typed)
        headers = curl_slist_append(headers, "Content-Type:");
    struct http_reply reply = {0};
    set_options(curl, request, &url, (long)timeout_ms, &reply);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);

    int code = CLI_OK;
    CURLcode result = curl_easy_perform(curl);
    if (result != CURLE_OK) {
        code = explain_no_answer(args, request, curl, result);
    } else {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
        if (!is_expected(request, reply.status))
            code = explain_refusal(request, &reply);
    }
    curl_slist_free_all(headers);
    buf_fini(&url);
    if (code == CLI_OK)
        *ret_reply = reply;
    else
        http_reply_fini(&reply);
    return code;
}
