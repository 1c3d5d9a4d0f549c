/* cotidal member: who belongs to the cluster. */
#include "cli/http.h"

#include <string.h>

int cli_member(const struct cli_args *args) {
    struct http_request request = {.method = "DELETE", .is_write = true, .expected = {204}};
    struct http_reply reply = {0};
    if (strcmp(args->words[0], "remove") != 0) {
        fprintf(stderr, "cotidal: member %s: expected member remove ID\n", args->words[0]);
        return CLI_USAGE;
    }
    buf_printf(&request.path, "/_/members/%s", args->words[1]);
    int code = http_exchange(args, &request, &reply);
    if (code == CLI_OK)
        printf(
            "node %s is no member any more; stop it, and empty its --data before it joins again\n",
            args->words[1]);
    http_request_fini(&request);
    http_reply_fini(&reply);
    return code;
}
