#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "store/commands.h"

struct command_row {
    const char *name;
    int (*run)(const struct cli_args *args);
    unsigned sets;
    int words_min, words_max;
    const char *usage;
    const char *help;
};

static const struct command_row command_rows[] = {
#define X(name, run, sets, words_min, words_max, usage, help)                                      \
    {name, run, sets, words_min, words_max, usage, help},
    CLI_COMMANDS(X)
#undef X
};

struct option_row {
    size_t offset; /* of the field in struct cli_args */
    const char *option;
    const char *environment;
    const char *value; /* "" for a switch */
    unsigned set;
    const char *help;
};

static const struct option_row option_rows[] = {
#define X(field, type, option, environment, value, set, help)                                      \
    {offsetof(struct cli_args, field), option, environment, value, set, help},
    CLI_OPTIONS(X)
#undef X
};

static const struct {
    const char *name, *usage, *help;
} role_rows[] = {
#define X(name, usage, help) {name, usage, help},
    CLI_ROLES(X)
#undef X
};

static const char exit_codes_help[] =
    "Exit codes:\n"
    "  0  done\n"
    "  1  no: no such key (get, del), no leader or copies that differ (status), damage (check)\n"
    "  2  the command line is wrong\n"
    "  3  no node could be reached; nothing was changed\n"
    "  4  the server refused; nothing was changed\n"
    "  5  it is not known whether the write was applied\n"
    "  6  reading the input or writing the output failed here\n";

static const struct command_row *find_command(const char *name) {
    for (size_t i = 0; i < ARRAY_COUNT(command_rows); i++)
        if (strcmp(command_rows[i].name, name) == 0)
            return &command_rows[i];
    return NULL;
}

static void print_row(FILE *out, const char *left, const char *right, const char *help) {
    int width = fprintf(out, "  %s %s", left, right);
    fprintf(out, "%*s%s\n", width < 38 ? 38 - width : 1, "", help);
}

static void print_help(FILE *out) {
    fputs("cotidal: web server, gateway and replicated database in one program\n\n"
          "To run a system (each has its own --help):\n",
          out);
    for (size_t i = 0; i < ARRAY_COUNT(role_rows); i++)
        print_row(out, role_rows[i].name, role_rows[i].usage, role_rows[i].help);
    fputs("\nTo use a running one:\n", out);
    for (size_t i = 0; i < ARRAY_COUNT(command_rows); i++)
        print_row(out, command_rows[i].name, command_rows[i].usage, command_rows[i].help);
    print_row(out, "help", "[COMMAND]", "this list, or a command's options");
    print_row(out, "version", "", "the version");
    fputc('\n', out);
    fputs(exit_codes_help, out);
}

static void print_command_help(FILE *out, const struct command_row *row) {
    fprintf(out, "usage: cotidal %s%s%s%s\n\n%s\n", row->name, row->sets ? " [OPTION...]" : "",
            row->usage[0] ? " " : "", row->usage, row->help);
    for (size_t i = 0; i < ARRAY_COUNT(option_rows); i++) {
        const struct option_row *o = &option_rows[i];
        if (!(o->set & row->sets))
            continue;
        if (&option_rows[i] == &option_rows[0])
            fputs("\nOptions, and their variables in the environment:\n", out);
        print_row(out, o->option, o->value, o->help);
        fprintf(out, "%*s%s\n", 38, "", o->environment);
    }
    fputc('\n', out);
    fputs(exit_codes_help, out);
}

static const char **option_field(struct cli_args *args, const struct option_row *o) {
    return (const char **)((char *)args + o->offset);
}

/* One option at argv[*at], as "--name value" or "--name=value"; moves *at to its last word. */
static bool parse_option(struct cli_args *args, const struct command_row *row, int argc,
                         char **argv, int *at) {
    const char *word = argv[*at];
    size_t name_bytes = strcspn(word, "=");
    const char *inline_value = word[name_bytes] ? word + name_bytes + 1 : NULL;
    for (size_t i = 0; i < ARRAY_COUNT(option_rows); i++) {
        const struct option_row *o = &option_rows[i];
        if (strlen(o->option) != name_bytes || strncmp(o->option, word, name_bytes) != 0 ||
            !(o->set & row->sets))
            continue;
        const char *value = inline_value;
        if (!o->value[0]) {
            if (inline_value) {
                fprintf(stderr, "cotidal: %s takes no value\n", o->option);
                return false;
            }
            value = "1";
        } else if (!inline_value) {
            if (*at + 1 >= argc) {
                fprintf(stderr, "cotidal: %s needs a value: %s\n", o->option, o->value);
                return false;
            }
            value = argv[++*at];
        }
        *option_field(args, o) = value;
        return true;
    }
    fprintf(stderr, "cotidal: %s has no option %s; see: cotidal %s --help\n", row->name, word,
            row->name);
    return false;
}

static void take_environment(struct cli_args *args, const struct command_row *row) {
    for (size_t i = 0; i < ARRAY_COUNT(option_rows); i++) {
        const struct option_row *o = &option_rows[i];
        const char *value = getenv(o->environment);
        /* A switch is off when its variable is empty or 0. */
        if (value && value[0] && (o->set & row->sets) && (o->value[0] || strcmp(value, "0") != 0))
            *option_field(args, o) = value;
    }
}

static int run_command(const struct command_row *row, int argc, char **argv) {
    struct cli_args args = {0};
    bool only_words = false;
    take_environment(&args, row);
    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
        } else if (!only_words && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_command_help(stdout, row);
            return CLI_OK;
        } else if (!only_words && strncmp(word, "--", 2) == 0) {
            if (!parse_option(&args, row, argc, argv, &i))
                return CLI_USAGE;
        } else if (args.word_count == row->words_max) {
            fprintf(stderr, "cotidal: too many arguments at '%s'; usage: cotidal %s %s\n", word,
                    row->name, row->usage);
            return CLI_USAGE;
        } else {
            args.words[args.word_count++] = word;
        }
    }
    if (args.word_count < row->words_min) {
        fprintf(stderr, "cotidal: something is missing; usage: cotidal %s %s\n", row->name,
                row->usage);
        return CLI_USAGE;
    }
    int code = row->run(&args);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "cotidal: could not write to standard output\n");
        return code == CLI_OK ? CLI_LOCAL : code;
    }
    return code;
}

int cli_main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        puts("cotidal " COTIDAL_VERSION);
        return CLI_OK;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        const struct command_row *row = argc > 2 ? find_command(argv[2]) : NULL;
        if (row)
            print_command_help(stdout, row);
        else
            print_help(stdout);
        return CLI_OK;
    }
    const struct command_row *row = find_command(name);
    if (row)
        return run_command(row, argc, argv);
    if (argc > 1)
        fprintf(stderr, "cotidal: there is no command '%s'; cotidal --help lists them\n", name);
    else
        print_help(stderr);
    return CLI_USAGE;
}
