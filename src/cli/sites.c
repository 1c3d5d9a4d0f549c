/* cotidal sites, rollback, preview. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "cli/deploy.h"
#include "cli/http.h"
#include "proto/url.h"

static int get_sites(const struct cli_args *args, struct http_reply *ret_reply, json_t **ret_json) {
    struct http_request request = {.method = "GET", .expected = {200}};
    buf_append_str(&request.path, "/v1/sites");
    int code = http_exchange(args, &request, ret_reply);
    http_request_fini(&request);
    if (code != CLI_OK)
        return code;
    *ret_json = json_loadb((const char *)ret_reply->body.data, ret_reply->body.size, 0, NULL);
    if (json_is_object(*ret_json))
        return CLI_OK;
    json_decref(*ret_json);
    http_reply_fini(ret_reply);
    fputs("cotidal: what answers at --to does not seem to be cotidal\n", stderr);
    return CLI_REFUSED;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

static void print_deploy(const json_t *deploy, json_int_t shown) {
    time_t when = (time_t)(number_of(deploy, "created_ms") / 1000);
    struct tm local;
    char time_text[32] = "";
    struct buf size = {0};
    if (localtime_r(&when, &local))
        strftime(time_text, sizeof time_text, "%Y-%m-%d %H:%M", &local);
    bytes_append(&size, (uint64_t)number_of(deploy, "bytes"));
    buf_append_char(&size, 0);
    json_int_t id = number_of(deploy, "id");
    bool ready = strcmp(text_of(deploy, "state"), "ready") == 0;
    printf("  %c %6lld  %s  %6lld files %10s  %s%s\n", id == shown ? '*' : ' ', (long long)id,
           time_text, (long long)number_of(deploy, "files"), (const char *)size.data,
           ready ? "" : "(not complete) ", text_of(deploy, "note"));
    buf_fini(&size);
}

static void print_site(const json_t *site) {
    const json_t *hosts = json_object_get(site, "hosts");
    const json_t *deploys = json_object_get(site, "deploys");
    printf("%s", text_of(site, "name"));
    for (size_t i = 0; i < json_array_size(hosts); i++)
        printf("%s%s", i ? ", " : "  ", json_string_value(json_array_get(hosts, i)));
    printf("\n");
    for (size_t i = json_array_size(deploys); i-- > 0;)
        print_deploy(json_array_get(deploys, i), number_of(site, "deploy"));
}

static int delete_site(const struct cli_args *args) {
    struct http_request request = {.method = "DELETE", .is_write = true, .expected = {204, 404}};
    struct http_reply reply = {0};
    buf_append_str(&request.path, "/v1/sites/");
    url_encode(&request.path, slice_str(args->words[1]), "");
    int code = http_exchange(args, &request, &reply);
    http_request_fini(&request);
    if (code == CLI_OK && reply.status == 404) {
        fprintf(stderr, "cotidal: there is no site %s\n", args->words[1]);
        code = CLI_NO;
    } else if (code == CLI_OK && !args->json) {
        printf("deleted site %s\n", args->words[1]);
    }
    http_reply_fini(&reply);
    return code;
}

int cli_sites(const struct cli_args *args) {
    struct http_reply reply = {0};
    json_t *all = NULL;
    if (args->word_count > 0 && (strcmp(args->words[0], "delete") != 0 || args->word_count != 2)) {
        fputs("cotidal: usage: cotidal sites [delete NAME]\n", stderr);
        return CLI_USAGE;
    }
    if (args->word_count > 0)
        return delete_site(args);
    int code = get_sites(args, &reply, &all);
    if (code != CLI_OK)
        return code;
    const json_t *sites = json_object_get(all, "sites");
    if (args->json)
        fwrite(reply.body.data, 1, reply.body.size, stdout);
    else if (json_array_size(sites) == 0)
        printf("no sites yet; cotidal deploy DIR makes one\n");
    for (size_t i = 0; !args->json && i < json_array_size(sites); i++)
        print_site(json_array_get(sites, i));
    json_decref(all);
    http_reply_fini(&reply);
    return code;
}

/* ---- rollback ---- */

/* The newest complete deploy before the one that is shown; 0: none. */
static json_int_t deploy_before(const json_t *site) {
    const json_t *deploys = json_object_get(site, "deploys");
    json_int_t shown = number_of(site, "deploy"), found = 0;
    for (size_t i = 0; i < json_array_size(deploys); i++) {
        const json_t *d = json_array_get(deploys, i);
        json_int_t id = number_of(d, "id");
        if (strcmp(text_of(d, "state"), "ready") == 0 && id < shown && id > found)
            found = id;
    }
    return found;
}

static int find_before(const struct cli_args *args, const char *name, uint64_t *ret_id) {
    struct http_reply reply = {0};
    json_t *all = NULL;
    json_int_t found = -1;
    int code = get_sites(args, &reply, &all);
    if (code != CLI_OK)
        return code;
    const json_t *sites = json_object_get(all, "sites");
    for (size_t i = 0; i < json_array_size(sites); i++)
        if (strcmp(text_of(json_array_get(sites, i), "name"), name) == 0)
            found = deploy_before(json_array_get(sites, i));
    if (found < 0)
        fprintf(stderr, "cotidal: there is no site %s\n", name);
    else if (found == 0)
        fprintf(stderr, "cotidal: site %s has no earlier deploy (cotidal sites lists them)\n",
                name);
    *ret_id = (uint64_t)found;
    json_decref(all);
    http_reply_fini(&reply);
    return found > 0 ? CLI_OK : CLI_NO;
}

static int take_id(const char *text, uint64_t *ret_id) {
    if (num_parse_u64(slice_str(text), ret_id) && *ret_id > 0)
        return CLI_OK;
    fprintf(stderr, "cotidal: '%s' is not the number of a deploy (cotidal sites lists them)\n",
            text);
    return CLI_USAGE;
}

int cli_rollback(const struct cli_args *args) {
    const char *site = args->site ? args->site : "default";
    uint64_t id, before;
    int code = args->word_count > 0 ? take_id(args->words[0], &id) : find_before(args, site, &id);
    if (code == CLI_OK)
        code = deploy_activate(args, id, &before);
    if (code == CLI_OK && args->json)
        printf("{\"deploy\":%" PRIu64 ",\"before\":%" PRIu64 "}\n", id, before);
    else if (code == CLI_OK)
        printf("deploy %" PRIu64 " is shown again, %" PRIu64 " was before\n", id, before);
    return code;
}

int cli_preview(const struct cli_args *args) {
    uint64_t id;
    int code = take_id(args->words[0], &id);
    if (code != CLI_OK)
        return code;
    struct buf url = {0};
    const char *to = args->to ? args->to : "http://127.0.0.1:8080";
    if (!strstr(to, "://"))
        buf_append_str(&url, "http://");
    buf_append_str(&url, to);
    while (url.size > 0 && url.data[url.size - 1] == '/')
        url.size--;
    if (args->json)
        printf("{\"url\":\"%.*s/_/preview/%" PRIu64 "\"}\n", (int)url.size, (const char *)url.data,
               id);
    else
        printf("open %.*s/_/preview/%" PRIu64 " in a browser; .../_/preview/off ends it\n",
               (int)url.size, (const char *)url.data, id);
    buf_fini(&url);
    return CLI_OK;
}
