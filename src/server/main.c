/* cotidal: one binary for everything. The roles serve, db and web run here; every other subcommand
 * is the command line's (cli/). */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "server/server.h"

static const struct {
    const char *name;
    enum server_role role;
} roles[] = {{"serve", ROLE_SERVE}, {"db", ROLE_DB}, {"web", ROLE_WEB}};

static int run_role(int argc, char **argv, enum server_role role) {
    static struct server_options options; /* its texts live as long as the process */
    switch (options_parse(argc, argv, role, &options, stderr)) {
    case OPTIONS_HELP:
        printf("usage: cotidal %s [OPTION...]\n\n", argv[0]);
        options_help(role, stdout);
        return 0;
    case OPTIONS_BAD:
        return CLI_USAGE;
    case OPTIONS_OK:
        break;
    }
    enum log_level level;
    if (!log_parse_level(options.log_level, &level)) {
        fprintf(stderr, "cotidal: --log-level is one of debug, info, warn, error\n");
        return CLI_USAGE;
    }
    log_set_level(level);
    int rc = server_run(&options);
    options_fini(&options);
    return rc;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "options") == 0) {
        options_docs(stdout);
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < ARRAY_COUNT(roles); i++)
        if (strcmp(argv[1], roles[i].name) == 0)
            return run_role(argc - 1, argv + 1, roles[i].role);
    return cli_main(argc, argv);
}
