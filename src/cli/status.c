/* status: GET /_/status of one node, as a table. */
#include <inttypes.h>
#include <jansson.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/http.h"
#include "store/commands.h"

enum { COLUMN_COUNT = 10, DIGEST_SHOWN = 12 };

static const char *const column_names[COLUMN_COUNT] = {"",    "NODE",   "ROLE", "STATE", "APPLIED",
                                                       "LAG", "DIGEST", "HTTP", "REDIS", "PEERS"};

struct row {
    char cells[COLUMN_COUNT][64];
};

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

static void fill_row(struct row *row, const json_t *status, const json_t *member) {
    bool alive = is_alive(member);
    uint64_t id = number_of(member, "id");
    uint64_t applied = number_of(member, "applied");
    uint64_t commit = number_of(status, "commit");
    uint64_t age_ms = number_of(member, "age_ms");
    const char *texts[] = {text_of(member, "http"), text_of(member, "redis"),
                           text_of(member, "peer")};
    size_t size = sizeof row->cells[0];
    snprintf(row->cells[0], size, "%s", id == number_of(status, "leader") ? "*" : "");
    snprintf(row->cells[1], size, "%" PRIu64, id);
    snprintf(row->cells[2], size, "%.20s", text_of(member, "role"));
    const char *health = text_of(member, "health");
    if (alive && *health && strcmp(health, "sound") != 0)
        snprintf(row->cells[3], size, "up, %.20s", health);
    else if (alive)
        snprintf(row->cells[3], size, "up");
    else if (age_ms)
        snprintf(row->cells[3], size, "down %" PRIu64 " s", age_ms / 1000);
    else
        snprintf(row->cells[3], size, "down");
    snprintf(row->cells[4], size, "%" PRIu64, applied);
    snprintf(row->cells[5], size, "%" PRIu64, commit > applied ? commit - applied : 0);
    snprintf(row->cells[6], size, "%.*s", DIGEST_SHOWN, text_of(member, "digest"));
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
        snprintf(row->cells[7 + i], size, "%.60s", texts[i][0] ? texts[i] : "-");
}

static void print_table(const struct row *rows, size_t count) {
    int widths[COLUMN_COUNT];
    for (size_t c = 0; c < COLUMN_COUNT; c++) {
        widths[c] = (int)strlen(column_names[c]);
        for (size_t i = 0; i < count; i++)
            if ((int)strlen(rows[i].cells[c]) > widths[c])
                widths[c] = (int)strlen(rows[i].cells[c]);
    }
    for (size_t i = 0; i <= count; i++) {
        for (size_t c = 0; c < COLUMN_COUNT; c++) {
            const char *cell = i == 0 ? column_names[c] : rows[i - 1].cells[c];
            bool last = c == COLUMN_COUNT - 1;
            printf("%-*s%s", last ? 0 : widths[c], cell, last ? "\n" : c == 0 ? " " : "  ");
        }
    }
}

enum digest_verdict { DIGESTS_EQUAL, DIGESTS_AT_DIFFERENT_INDEXES, DIGESTS_DIFFER };

/* Copies can be compared at the same applied index only. */
static enum digest_verdict compare_digests(const json_t *members) {
    bool moved = false;
    size_t i, j;
    const json_t *a, *b;
    json_array_foreach(members, i, a) {
        json_array_foreach(members, j, b) {
            if (j <= i || !is_alive(a) || !is_alive(b))
                continue;
            if (number_of(a, "applied") != number_of(b, "applied"))
                moved = true;
            else if (strcmp(text_of(a, "digest"), text_of(b, "digest")) != 0)
                return DIGESTS_DIFFER;
        }
    }
    return moved ? DIGESTS_AT_DIFFERENT_INDEXES : DIGESTS_EQUAL;
}

static void print_head(const json_t *status, size_t alive, size_t count) {
    uint64_t leader = number_of(status, "leader");
    printf("cluster %.8s, as node %" PRIu64 " sees it: %zu of %zu nodes up, ",
           text_of(status, "cluster"), number_of(status, "node"), alive, count);
    if (leader)
        printf("node %" PRIu64 " leads (*)", leader);
    else
        printf("no leader");
    printf(", term %" PRIu64 ", commit %" PRIu64 "\n", number_of(status, "term"),
           number_of(status, "commit"));
    printf("log %.1f MiB, snapshot at %" PRIu64 "\n\n",
           (double)number_of(status, "log_bytes") / (1024 * 1024),
           number_of(status, "snapshot_index"));
}

/* A line for each node that is at something that takes long. */
static void print_work(const json_t *members) {
    const double mib = 1024 * 1024;
    size_t i;
    const json_t *member;
    json_array_foreach(members, i, member) {
        const json_t *work = json_object_get(member, "work");
        if (!json_is_object(work))
            continue;
        uint64_t from = number_of(work, "from"), done = number_of(work, "done"),
                 total = number_of(work, "total");
        printf("\nNode %" PRIu64 " is %s", number_of(member, "id"), text_of(work, "what"));
        if (from)
            printf(" from node %" PRIu64, from);
        if (total)
            printf(": %.1f of %.1f MiB, %d %%", (double)done / mib, (double)total / mib,
                   (int)(100.0 * (double)done / (double)total));
        printf(".\n");
    }
}

/* Copies that are wrong, and what is done about it. True when there is one. */
static bool print_health(const json_t *members) {
    bool any = false;
    size_t i;
    const json_t *member;
    json_array_foreach(members, i, member) {
        const char *health = text_of(member, "health");
        uint64_t id = number_of(member, "id");
        if (!is_alive(member) || !*health || strcmp(health, "sound") == 0)
            continue;
        any = true;
        if (strcmp(health, "repair") == 0)
            printf("\nNode %" PRIu64
                   "'s copy is wrong: it answers no reads, and makes its copy anew "
                   "from its snapshot and its log.\n",
                   id);
        else if (strcmp(health, "doubtful") == 0)
            printf("\nNode %" PRIu64
                   "'s copy differs from another one, and there is no majority that "
                   "says which is right: it answers no reads. Look at the logs of both nodes; "
                   "`cotidal check DIR` says whether a stopped node's files are right.\n",
                   id);
        else
            printf("\nNode %" PRIu64
                   "'s copy is wrong, and making it anew did not help: it answers no "
                   "reads. Keep its data folder for whoever looks into it, and let the node join "
                   "again with an empty one.\n",
                   id);
    }
    return any;
}

/* The table and a verdict; returns the exit code. */
static int print_status(const json_t *status) {
    const json_t *members = json_object_get(status, "members");
    size_t count = json_array_size(members);
    size_t alive = 0;
    struct row *rows = xcalloc(count + 1, sizeof *rows);
    size_t i;
    const json_t *member;
    json_array_foreach(members, i, member) {
        fill_row(&rows[i], status, member);
        alive += is_alive(member);
    }
    print_head(status, alive, count);
    print_table(rows, count);
    free(rows);
    print_work(members);
    if (json_is_true(json_object_get(status, "disk_low")))
        printf("\nThe disk of node %" PRIu64
               " is nearly full: while it leads, writes that add data are refused.\n",
               number_of(status, "node"));
    bool wrong = print_health(members);

    enum digest_verdict verdict = compare_digests(members);
    if (alive > 1 && verdict == DIGESTS_EQUAL)
        printf(alive == count ? "\nAll %zu copies are equal.\n"
                              : "\nThe %zu copies that are up are equal.\n",
               alive);
    else if (verdict == DIGESTS_AT_DIFFERENT_INDEXES)
        printf("\nThe copies are at different indexes; they can be compared when writes pause.\n");
    else if (verdict == DIGESTS_DIFFER)
        printf(
            "\nTHE COPIES DIFFER at the same index. Keep the data folders of all nodes, and stop "
            "the node that disagrees with the other two.\n");
    if (!number_of(status, "leader"))
        printf("\nThere is no leader: a majority of the voters must be up and reach each other.\n");
    return wrong || verdict == DIGESTS_DIFFER || !number_of(status, "leader") ? CLI_NO : CLI_OK;
}

int cli_status(const struct cli_args *args) {
    struct http_request request = {.method = "GET", .expected = {200, 503}};
    struct http_reply reply = {0};
    buf_append_str(&request.path, "/_/status");
    int code = http_exchange(args, &request, &reply);
    if (code == CLI_OK) {
        json_error_t error;
        json_t *status = json_loadb((const char *)reply.body.data, reply.body.size, 0, &error);
        if (!json_is_array(json_object_get(status, "members"))) {
            fputs("cotidal: what answers at --to does not seem to be cotidal\n", stderr);
            code = CLI_REFUSED;
        } else if (args->json) {
            fwrite(reply.body.data, 1, reply.body.size, stdout);
            if (reply.body.data[reply.body.size - 1] != '\n')
                putchar('\n');
            code = number_of(status, "leader") ? CLI_OK : CLI_NO;
        } else {
            code = print_status(status);
        }
        json_decref(status);
    }
    http_request_fini(&request);
    http_reply_fini(&reply);
    return code;
}

int cli_commands(const struct cli_args *args) {
    (void)args;
    struct buf table = {0};
    command_docs_append(&table);
    fwrite(table.data, 1, table.size, stdout);
    buf_fini(&table);
    return CLI_OK;
}
