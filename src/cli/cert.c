/* cotidal cert: certificates for TLS between nodes. `init` makes an authority, `node` what each
 * node and web server shows, `show` says what is in a file. Nothing is sent anywhere. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/num.h"
#include "cli/cli.h"
#include "net/cert.h"

static int usage(const char *text) {
    fprintf(stderr, "cotidal: %s\n", text);
    return CLI_USAGE;
}

static bool take_days(const struct cli_args *args, long otherwise, long *ret_days) {
    uint64_t days = (uint64_t)otherwise;
    if (args->cert_days &&
        (!num_parse_u64(slice_str(args->cert_days), &days) || days == 0 || days > CERT_DAYS_MAX)) {
        fprintf(stderr, "cotidal: --days is a number from 1 to %d\n", CERT_DAYS_MAX);
        return false;
    }
    *ret_days = (long)days;
    return true;
}

static const char *or_here(const char *dir) {
    return dir ? dir : ".";
}

static int made(int rc, const char *error) {
    if (rc < 0)
        fprintf(stderr, "cotidal: %s\n", error);
    return rc < 0 ? CLI_LOCAL : CLI_OK;
}

static int init(const struct cli_args *args) {
    const char *out = or_here(args->cert_out);
    char error[TLS_ERROR_BYTES];
    long days;
    if (args->word_count != 1 || args->cert_ca || args->cert_san)
        return usage("cert init takes --out DIR and --days N only");
    if (!take_days(args, CERT_AUTHORITY_DAYS, &days))
        return CLI_USAGE;
    int code = made(cert_make_authority(out, "cotidal authority", days, error), error);
    if (code == CLI_OK)
        printf("%s/ca.pem  the authority's certificate: every node needs it (--peer-ca)\n"
               "%s/ca.key  its key: keep it away from the nodes, whoever has it can make one\n",
               out, out);
    return code;
}

/* Splits in place. */
static bool take_sans(char *list, const char *ret_sans[CERT_SANS_MAX], size_t *ret_count) {
    size_t count = 0;
    for (char *at = list; at;) {
        char *comma = strchr(at, ',');
        if (comma)
            *comma++ = 0;
        if (count == CERT_SANS_MAX || !cert_name_valid(at))
            return false;
        ret_sans[count++] = at;
        at = comma;
    }
    *ret_count = count;
    return true;
}

static int node(const struct cli_args *args) {
    const char *out = or_here(args->cert_out), *name = args->words[1];
    const char *sans[CERT_SANS_MAX];
    size_t san_count = 0;
    char error[TLS_ERROR_BYTES];
    long days;
    if (args->word_count != 2 || !cert_name_valid(name) || strcmp(name, "ca") == 0)
        return usage("cert node wants the host name or the address at which others reach the node "
                     "(without a port)");
    if (!take_days(args, CERT_NODE_DAYS, &days))
        return CLI_USAGE;
    char *list = args->cert_san ? xstrdup(args->cert_san) : NULL;
    int code = CLI_USAGE;
    if (list && !take_sans(list, sans, &san_count))
        code =
            usage("--san is a list of host names and addresses, with commas between, 32 at most");
    else
        code = made(cert_make_node(or_here(args->cert_ca), out, name, sans, san_count, days, error),
                    error);
    free(list);
    if (code == CLI_OK)
        printf("%s/%s.pem  the node's certificate (--peer-cert)\n"
               "%s/%s.key  its key (--peer-key)\n",
               out, name, out, name);
    return code;
}

static void print_time(const char *what, int64_t at_s) {
    time_t t = (time_t)at_s;
    struct tm tm;
    char text[64];
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
    printf("%-12s%s", what, text);
}

static int show(const struct cli_args *args) {
    struct cert_info c;
    char error[TLS_ERROR_BYTES];
    int64_t now_s = (int64_t)time(NULL);
    if (args->word_count != 2)
        return usage("cert show wants a file");
    if (cert_read(args->words[1], &c, error) < 0) {
        fprintf(stderr, "cotidal: %s\n", error);
        return CLI_LOCAL;
    }
    printf("%-12s%s\n", "subject", c.subject);
    printf("%-12s%s\n", "issuer", c.issuer);
    if (c.authority)
        printf("%-12s%s\n", "authority", "yes");
    else
        printf("%-12s%s\n", "names", c.names);
    print_time("not before", c.not_before_s);
    putchar('\n');
    print_time("not after", c.not_after_s);
    if (c.not_after_s <= now_s)
        printf("  expired\n");
    else
        printf("  (%" PRId64 " days left)\n", (c.not_after_s - now_s) / 86400);
    printf("%-12s%s\n%-12s%s\n", "serial", c.serial, "sha256", c.sha256);
    return c.not_after_s <= now_s || c.not_before_s > now_s ? CLI_NO : CLI_OK;
}

int cli_cert(const struct cli_args *args) {
    const char *what = args->words[0];
    if (strcmp(what, "init") == 0)
        return init(args);
    if (strcmp(what, "node") == 0)
        return node(args);
    if (strcmp(what, "show") == 0)
        return show(args);
    return usage("cert init, cert node NAME or cert show FILE; see: cotidal cert --help");
}
