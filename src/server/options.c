#include "server/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/num.h"
#include "proto/url.h"

struct option {
    enum option_type type;
    const char *name, *value;
    unsigned roles;
    const char *initial, *help;
    size_t offset;
};

static const struct option options[] = {
#define X(field, type, name, value, roles, initial, help)                                          \
    {OPTION_##type, name, value, roles, initial, help, offsetof(struct server_options, field)},
    SERVER_OPTIONS(X)
#undef X
};

static const struct option *option_find(const char *name, size_t size) {
    for (size_t i = 0; i < ARRAY_COUNT(options); i++)
        if (strlen(options[i].name) == size && memcmp(options[i].name, name, size) == 0)
            return &options[i];
    return NULL;
}

static bool parse_switch(const char *text, bool *ret) {
    bool yes = strcmp(text, "1") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "true") == 0;
    *ret = yes;
    return yes || strcmp(text, "0") == 0 || strcmp(text, "no") == 0 || strcmp(text, "false") == 0;
}

static void list_free(struct option_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free((char *)(uintptr_t)list->items[i]);
    *list = (struct option_list){0};
}

/* Appends what stands between commas. */
static bool list_append(struct option_list *list, const char *text, const void *source) {
    if (list->source != source) {
        list_free(list);
        list->source = source;
    }
    while (*text) {
        size_t n = strcspn(text, ",");
        if (n == 0 || list->count == OPTION_LIST_MAX)
            return false;
        char *item = xmalloc(n + 1);
        memcpy(item, text, n);
        item[n] = 0;
        list->items[list->count++] = item;
        text += n + (text[n] == ',');
    }
    return true;
}

static bool option_set(const struct option *o, const char *text, const void *source,
                       struct server_options *ret) {
    void *at = (char *)ret + o->offset;
    switch (o->type) {
    case OPTION_TEXT:
        *(const char **)at = text;
        return true;
    case OPTION_BYTES:
        return num_parse_bytes(slice_str(text), at);
    case OPTION_COUNT:
        return num_parse_u64(slice_str(text), at);
    case OPTION_DURATION:
        return duration_parse_ms(slice_str(text), at);
    case OPTION_SWITCH:
        return parse_switch(text, at);
    case OPTION_LIST:
        return list_append(at, text, source);
    }
    return false;
}

/* Where values come from. */
static const char from_table[] = "table", from_file[] = "file", from_environment[] = "environment",
                  from_arguments[] = "arguments";

static bool apply(const struct option *o, const char *text, const char *where, const void *source,
                  struct server_options *ret, FILE *err) {
    if (!(o->roles & ret->role)) {
        fprintf(err, "cotidal: %s: --%s does not go with this command\n", where, o->name);
        return false;
    }
    if (option_set(o, text, source, ret))
        return true;
    fprintf(err, "cotidal: %s: '%s' is not a value for --%s %s\n", where, text, o->name, o->value);
    return false;
}

static bool apply_environment(struct server_options *ret, FILE *err) {
    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        char name[64];
        snprintf(name, sizeof name, "COTIDAL_%s", options[i].name);
        for (char *c = name; *c; c++)
            *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        const char *text = getenv(name);
        /* The environment is shared by all commands: what this role does not take is passed over.
         */
        if (text && *text && (options[i].roles & ret->role) &&
            !apply(&options[i], text, name, from_environment, ret, err))
            return false;
    }
    return true;
}

static char *trim(char *s) {
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n > 0 && isspace((unsigned char)s[n - 1]))
        s[--n] = 0;
    return s;
}

static bool apply_file(const char *path, struct server_options *ret, FILE *err) {
    FILE *f = fopen(path, "re");
    if (!f) {
        fprintf(err, "cotidal: %s: %s\n", path, strerror(errno));
        return false;
    }
    char line[4096];
    bool ok = true;
    for (int number = 1; ok && fgets(line, sizeof line, f); number++) {
        char where[4200];
        snprintf(where, sizeof where, "%.4000s:%d", path, number);
        char *at = trim(line);
        if (*at == 0 || *at == '#')
            continue;
        char *equals = strchr(at, '=');
        if (equals)
            *equals = 0;
        char *name = trim(at);
        const struct option *o = option_find(name, strlen(name));
        if (!equals || !o || strcmp(name, "config") == 0) {
            fprintf(err, "cotidal: %s: expected name = value, with the name of an option\n", where);
            ok = false;
        } else {
            char *text = xstrdup(trim(equals + 1));
            ok = apply(o, text, where, from_file, ret, err);
            if (o->type == OPTION_LIST)
                free(text);
        }
    }
    fclose(f);
    return ok;
}

static enum options_result apply_arguments(int argc, char **argv, struct server_options *ret,
                                           FILE *err) {
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
            return OPTIONS_HELP;
        const char *equals = strchr(arg, '=');
        size_t size = equals ? (size_t)(equals - arg) : strlen(arg);
        const struct option *o =
            size > 2 && strncmp(arg, "--", 2) == 0 ? option_find(arg + 2, size - 2) : NULL;
        if (!o) {
            fprintf(err, "cotidal: unknown option '%s'; see cotidal %s --help\n", arg, argv[0]);
            return OPTIONS_BAD;
        }
        const char *text = equals ? equals + 1 : NULL;
        if (!text)
            text = o->type == OPTION_SWITCH ? "1" : i + 1 < argc ? argv[++i] : NULL;
        if (!text) {
            fprintf(err, "cotidal: --%s needs a value: --%s %s\n", o->name, o->name, o->value);
            return OPTIONS_BAD;
        }
        if (!apply(o, text, "command line", from_arguments, ret, err))
            return OPTIONS_BAD;
    }
    return OPTIONS_OK;
}

void options_fini(struct server_options *o) {
    for (size_t i = 0; i < ARRAY_COUNT(options); i++)
        if (options[i].type == OPTION_LIST)
            list_free((void *)((char *)o + options[i].offset));
}

enum options_result options_parse(int argc, char **argv, enum server_role role,
                                  struct server_options *ret, FILE *err) {
    *ret = (struct server_options){.role = role};
    for (size_t i = 0; i < ARRAY_COUNT(options); i++)
        if (*options[i].initial || options[i].type == OPTION_TEXT)
            CHECK(option_set(&options[i], options[i].initial, from_table, ret));
    /* The command line is read twice, so that it says which file to read and still wins over it. */
    struct server_options first = *ret;
    enum options_result rc = apply_arguments(argc, argv, &first, err);
    options_fini(&first);
    if (rc != OPTIONS_OK)
        return rc;
    const char *file = *first.config ? first.config : getenv("COTIDAL_CONFIG");
    if (file && *file && !apply_file(file, ret, err))
        return OPTIONS_BAD;
    if (!apply_environment(ret, err))
        return OPTIONS_BAD;
    return apply_arguments(argc, argv, ret, err);
}

void options_help(enum server_role role, FILE *out) {
    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        const struct option *o = &options[i];
        char left[64];
        if (!(o->roles & role))
            continue;
        snprintf(left, sizeof left, "--%s %s", o->name, o->value);
        fprintf(out, "  %-30s %s", left, o->help);
        if (*o->initial && strcmp(o->initial, "0") != 0)
            fprintf(out, " (default %s)", o->initial);
        fputc('\n', out);
    }
    fputs("\nEvery option is also a variable (--max-data: COTIDAL_MAX_DATA) and a line of the "
          "--config file.\n",
          out);
}

void options_docs(FILE *out) {
    fputs("| option | serve | db | web | default | what it does |\n|---|---|---|---|---|---|\n",
          out);
    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        const struct option *o = &options[i];
        fprintf(out, "| `--%s%s%s` | %s | %s | %s | %s | %s |\n", o->name, *o->value ? " " : "",
                o->value, o->roles & ROLE_SERVE ? "x" : "", o->roles & ROLE_DB ? "x" : "",
                o->roles & ROLE_WEB ? "x" : "", *o->initial ? o->initial : "", o->help);
    }
}
