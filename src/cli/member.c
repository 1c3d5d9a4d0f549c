/* cotidal member: who belongs to the cluster, who votes, who leads. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/num.h"
#include "cli/http.h"

/* The status of the node at --to, with an array "members". NULL: *ret_code is the exit code. */
static json_t *ask_status(const struct cli_args *args, int *ret_code) {
    struct http_request request = {.method = "GET", .expected = {200, 503}};
    struct http_reply reply = {0};
    json_t *status = NULL;
    buf_append_str(&request.path, "/_/status");
    *ret_code = http_exchange(args, &request, &reply);
    if (*ret_code == CLI_OK) {
        status = json_loadb((const char *)reply.body.data, reply.body.size, 0, NULL);
        if (!json_is_array(json_object_get(status, "members"))) {
            fputs("cotidal: what answers at --to does not seem to be cotidal\n", stderr);
            json_decref(status);
            status = NULL;
            *ret_code = CLI_REFUSED;
        }
    }
    http_request_fini(&request);
    http_reply_fini(&reply);
    return status;
}

static uint64_t number_of(const json_t *object, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool is_alive(const json_t *member) {
    return json_is_true(json_object_get(member, "alive"));
}

static void print_json(json_t *taken) {
    json_dumpf(taken, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(taken);
}

/* ---- list ---- */

static void print_member(const json_t *status, const json_t *m) {
    uint64_t id = number_of(m, "id"), applied = number_of(m, "applied"),
             commit = number_of(status, "commit");
    char state[32] = "up";
    if (!is_alive(m) && number_of(m, "age_ms"))
        snprintf(state, sizeof state, "down %" PRIu64 " s", number_of(m, "age_ms") / 1000);
    else if (!is_alive(m))
        snprintf(state, sizeof state, "down");
    printf("%-1s %5" PRIu64 "  %-8s %-12s %8" PRIu64 "  %-24s %s\n",
           id == number_of(status, "leader") ? "*" : "", id, text_of(m, "role"), state,
           commit > applied ? commit - applied : 0, text_of(m, "peer"),
           text_of(m, "http")[0] ? text_of(m, "http") : "-");
}

static int member_list(const struct cli_args *args) {
    int code;
    json_t *status = ask_status(args, &code);
    if (!status)
        return code;
    json_t *members = json_object_get(status, "members");
    uint64_t leader = number_of(status, "leader");
    if (args->json) {
        print_json(json_pack("{s:I, s:O}", "leader", (json_int_t)leader, "members", members));
    } else {
        size_t i;
        const json_t *m;
        printf("%-1s %5s  %-8s %-12s %8s  %-24s %s\n", "", "NODE", "ROLE", "STATE", "LAG", "PEERS",
               "HTTP");
        json_array_foreach(members, i, m) print_member(status, m);
        puts(leader ? "\n* leads" : "\nNo node leads: a majority of the voters must be up.");
    }
    json_decref(status);
    return leader ? CLI_OK : CLI_NO;
}

/* ---- add ---- */

static bool only_this_machine(const char *address) {
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "localhost:", 10) == 0 ||
           strncmp(address, "[::1]", 5) == 0;
}

/* A node adds itself when it is started with --join; nothing is changed before. So there is nothing
 * to prepare but the command. */
static int member_add(const struct cli_args *args) {
    int code;
    json_t *status = ask_status(args, &code);
    if (!status)
        return code;
    struct buf join = {0};
    size_t i;
    const json_t *m;
    bool local = false;
    json_array_foreach(json_object_get(status, "members"), i, m) {
        if (!is_alive(m))
            continue;
        buf_printf(&join, "%s%s", join.size ? "," : "", text_of(m, "peer"));
        local |= only_this_machine(text_of(m, "peer"));
    }
    buf_append_char(&join, 0);
    const char *nodes = (const char *)join.data;
    if (args->json) {
        print_json(json_pack("{s:s}", "join", nodes));
    } else {
        printf("Start the new node, with an empty data folder, on its machine:\n\n"
               "  cotidal serve --data DIR --peer ADDR:7070 --join %s\n\n"
               "ADDR is an address of that machine which the others reach. The node copies the\n"
               "data as a learner, and votes as soon as that makes an odd number of voters.\n"
               "`cotidal member list` shows how far it is.\n",
               nodes);
        if (local)
            printf("\nNodes of this cluster listen on this machine only (%s). To be joined from\n"
                   "another machine, restart them one by one with a --peer address that it "
                   "reaches.\n",
                   nodes);
    }
    buf_fini(&join);
    json_decref(status);
    return CLI_OK;
}

/* ---- changes ---- */

/* Asks for a change of the member that is named on the command line. */
static int change(const struct cli_args *args, const char *method, const char *after,
                  struct http_reply *ret_reply) {
    struct http_request request = {.method = method, .is_write = true, .expected = {200, 204}};
    buf_printf(&request.path, "/_/members/%s%s", args->words[1], after);
    int code = http_exchange(args, &request, ret_reply);
    http_request_fini(&request);
    return code;
}

static int member_remove(const struct cli_args *args) {
    struct http_reply reply = {0};
    int code = change(args, "DELETE", "", &reply);
    if (code == CLI_OK && args->json)
        print_json(json_pack("{s:s}", "removed", args->words[1]));
    else if (code == CLI_OK)
        printf("node %s is no member any more; stop it, and empty its --data before it joins "
               "again\n",
               args->words[1]);
    http_reply_fini(&reply);
    return code;
}

static int member_promote(const struct cli_args *args) {
    struct http_reply reply = {0};
    int code = change(args, "POST", "/promote", &reply);
    if (code == CLI_OK && args->json)
        print_json(json_pack("{s:s}", "promoted", args->words[1]));
    else if (code == CLI_OK)
        printf("node %s is a voter\n", args->words[1]);
    http_reply_fini(&reply);
    return code;
}

static int member_transfer(const struct cli_args *args) {
    struct http_reply reply = {0};
    struct http_request request = {.method = "POST", .is_write = true, .expected = {200}};
    if (args->word_count > 1)
        buf_printf(&request.path, "/_/members/%s/transfer", args->words[1]);
    else
        buf_append_str(&request.path, "/_/transfer");
    int code = http_exchange(args, &request, &reply);
    if (code == CLI_OK && args->json) {
        fwrite(reply.body.data, 1, reply.body.size, stdout);
    } else if (code == CLI_OK) {
        json_t *answer = json_loadb((const char *)reply.body.data, reply.body.size, 0, NULL);
        printf("node %" PRIu64 " leads\n", number_of(answer, "leader"));
        json_decref(answer);
    }
    http_request_fini(&request);
    http_reply_fini(&reply);
    return code;
}

/* X(verb, function, words at least, words at most) */
#define MEMBER_VERBS(X)                                                                            \
    X("list", member_list, 1, 1)                                                                   \
    X("add", member_add, 1, 1)                                                                     \
    X("remove", member_remove, 2, 2)                                                               \
    X("promote", member_promote, 2, 2)                                                             \
    X("transfer", member_transfer, 1, 2)

int cli_member(const struct cli_args *args) {
    static const struct {
        const char *verb;
        int (*run)(const struct cli_args *args);
        int words_min, words_max;
    } verbs[] = {
#define X(verb, run, words_min, words_max) {verb, run, words_min, words_max},
        MEMBER_VERBS(X)
#undef X
    };
    uint64_t id;
    for (size_t i = 0; i < ARRAY_COUNT(verbs); i++) {
        if (strcmp(args->words[0], verbs[i].verb) != 0)
            continue;
        if (args->word_count < verbs[i].words_min || args->word_count > verbs[i].words_max)
            break;
        if (args->word_count > 1 && !num_parse_u64(slice_str(args->words[1]), &id)) {
            fprintf(stderr, "cotidal: '%s' is not the number of a node\n", args->words[1]);
            return CLI_USAGE;
        }
        return verbs[i].run(args);
    }
    fputs("cotidal: expected member list, add, remove ID, promote ID or transfer [ID]\n", stderr);
    return CLI_USAGE;
}
