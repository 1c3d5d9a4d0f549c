/* cotidal rejoin: for a node whose files are damaged. It takes the node out of the cluster, if it
 * still is a member, and moves its files to a folder with a date, so that the next start joins as a
 * new node with an id of its own (M2: an id whose log was lost must not come back). Nothing is
 * deleted. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "base/reply.h"
#include "cli/ask_node.h"
#include "cli/cli.h"
#include "gateway/pack.h"
#include "net/tcp.h"
#include "replica/identity.h"
#include "replica/snapshot_meta.h"
#include "store/files.h"

enum {
    STATUS_MS = 3000,
    REMOVE_MS = 12000,
    LOOKS = 4, /* a second apart: a node that has just ended is missed a little later */
};

/* What a node keeps in its data folder. */
static const char *const parts[] = {IDENTITY_NAME,
                                    IDENTITY_NAME ".tmp",
                                    SNAPSHOT_META_NAME,
                                    SNAPSHOT_META_NAME ".new",
                                    "log",
                                    "store",
                                    "snapshots",
                                    "store.incoming",
                                    "store.old"};

struct rejoin {
    const char *dir, *join;
    struct tls_peer *tls; /* NULL: plain */
    bool knows_itself;    /* node.meta is whole */
    struct identity id;
    char cluster[33]; /* of those that we join */
    bool member, alive;
    uint64_t voters;
};

/* ---- who is there ---- */

static void read_member(struct rejoin *r, struct slice *in, uint64_t pairs) {
    struct reply_item key, value;
    uint64_t id = 0;
    bool alive = false, voter = false;
    for (uint64_t i = 0; i < pairs && reply_next(in, &key); i++) {
        struct slice rest = *in;
        if (!reply_next(&rest, &value) || !reply_skip(in))
            return;
        if (slice_equal_str(key.bytes, "id"))
            id = (uint64_t)value.integer;
        else if (slice_equal_str(key.bytes, "alive"))
            alive = value.integer != 0;
        else if (slice_equal_str(key.bytes, "role"))
            voter = slice_equal_str(value.bytes, "voter");
    }
    r->voters += voter;
    if (r->knows_itself && id == r->id.node_id) {
        r->member = true;
        r->alive = alive;
    }
}

static bool read_status(struct rejoin *r, struct slice in) {
    struct reply_item map, key, value;
    if (!reply_next(&in, &map) || map.type != '%')
        return false;
    for (int64_t i = 0; i < map.integer; i++) {
        if (!reply_next(&in, &key))
            return false;
        struct slice rest = in;
        if (!reply_next(&rest, &value) || !reply_skip(&in))
            return false;
        if (slice_equal_str(key.bytes, "cluster") && value.bytes.size == 32)
            memcpy(r->cluster, value.bytes.data, 32);
        if (!slice_equal_str(key.bytes, "members") || value.type != '*')
            continue;
        for (int64_t m = 0; m < value.integer; m++) {
            struct reply_item member;
            if (!reply_next(&rest, &member) || member.type != '%')
                return false;
            read_member(r, &rest, (uint64_t)member.integer);
        }
    }
    return r->cluster[0] != 0;
}

static int ask_status(struct rejoin *r) {
    r->voters = 0;
    r->member = r->alive = false;
    struct pack p = pack_begin("NODE.STATUS");
    struct buf packed = pack_end(&p), reply = {0};
    enum upstream_outcome outcome = ask_node(r->join, r->tls, &packed, STATUS_MS, &reply);
    bool ok = outcome == UPSTREAM_DONE && read_status(r, buf_slice(&reply));
    buf_fini(&reply);
    if (ok)
        return CLI_OK;
    fprintf(stderr,
            "cotidal: no answer from %s (the --peer address of a node that is up). Nothing was "
            "changed\n",
            r->join);
    return CLI_UNREACHABLE;
}

/* ---- what must be so ---- */

static void read_identity(struct rejoin *r) {
    int rc = identity_load(r->dir, &r->id);
    r->knows_itself = rc == 0;
    if (rc == -ENOENT)
        fprintf(stderr, "cotidal: there is no %s: which node this was is not known\n",
                IDENTITY_NAME);
    else if (rc < 0)
        fprintf(stderr, "cotidal: %s is damaged: which node this was is not known\n",
                IDENTITY_NAME);
}

static int check_allowed(const struct rejoin *r) {
    char ours[33];
    for (int i = 0; i < 16; i++)
        snprintf(ours + 2 * i, 3, "%02x", r->id.cluster_id[i]);
    if (r->knows_itself && strcmp(ours, r->cluster) != 0) {
        fprintf(stderr,
                "cotidal: %s holds a node of cluster %.8s, and %s belongs to cluster %.8s. Nothing "
                "was changed\n",
                r->dir, ours, r->join, r->cluster);
        return CLI_REFUSED;
    }
    if (r->member && r->alive) {
        fprintf(stderr,
                "cotidal: node %" PRIu64 " is up, somewhere: stop it first. Nothing was changed\n",
                r->id.node_id);
        return CLI_REFUSED;
    }
    if (r->member && r->voters == 2) {
        fprintf(
            stderr,
            "cotidal: node %" PRIu64 " is one of two voters, and without it the other cannot "
            "decide anything, its removal included. Nothing was changed\n"
            "cotidal: docs/operations.md, \"a majority of the nodes is lost\", has the way on\n",
            r->id.node_id);
        return CLI_REFUSED;
    }
    return CLI_OK;
}

static int confirm(const struct rejoin *r, const struct cli_args *args) {
    fprintf(stderr, "This will\n");
    if (r->member)
        fprintf(stderr, "  1. take node %" PRIu64 " out of cluster %.8s\n", r->id.node_id,
                r->cluster);
    else
        fprintf(stderr, "  1. leave cluster %.8s as it is: %s\n", r->cluster,
                r->knows_itself ? "this node is no member any more"
                                : "look for a dead node in cotidal status, and take it out with "
                                  "cotidal member remove ID");
    fprintf(stderr, "  2. move the files of %s to a folder beside them; nothing is deleted\n",
            r->dir);
    if (args->yes)
        return CLI_OK;
    if (!isatty(STDIN_FILENO)) {
        fputs("cotidal: say --yes when this is what you want. Nothing was changed\n", stderr);
        return CLI_USAGE;
    }
    fputs("Go on? [y/N] ", stderr);
    char answer[16] = "";
    if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return CLI_OK;
    fputs("Nothing was changed\n", stderr);
    return CLI_REFUSED;
}

/* ---- doing it ---- */

static int take_out(const struct rejoin *r) {
    struct pack p = pack_begin("NODE.REMOVE");
    pack_u64(&p, r->id.node_id);
    struct buf packed = pack_end(&p), reply = {0};
    enum upstream_outcome outcome = ask_node(r->join, r->tls, &packed, REMOVE_MS, &reply);
    int code = CLI_OK;
    if (outcome != UPSTREAM_DONE || reply_is_error(buf_slice(&reply))) {
        struct slice in = buf_slice(&reply);
        struct reply_item item = {0};
        bool known = reply_next(&in, &item);
        code = outcome == UPSTREAM_UNKNOWN ? CLI_UNKNOWN : CLI_REFUSED;
        fprintf(stderr, "cotidal: node %" PRIu64 " could not be taken out: %.*s%s\n", r->id.node_id,
                known ? (int)item.bytes.size : 0, (const char *)item.bytes.data,
                code == CLI_UNKNOWN ? ". Try again: what was done already does no harm" : "");
    }
    buf_fini(&reply);
    return code;
}

static int local_error(const char *path, int error) {
    fprintf(stderr, "cotidal: %s: %s\n", path, strerror(error));
    return CLI_LOCAL;
}

/* The identity goes first: without it the rest is not a node that could start. */
static int set_aside(const struct rejoin *r, char ret_folder[64]) {
    char path[4096], to[4096];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(ret_folder, 64, "old-%Y%m%d-%H%M%S", &tm);
    snprintf(to, sizeof to, "%s/%s", r->dir, ret_folder);
    if (mkdir(to, 0700))
        return local_error(to, errno);
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        snprintf(path, sizeof path, "%s/%s", r->dir, parts[i]);
        snprintf(to, sizeof to, "%s/%s/%s", r->dir, ret_folder, parts[i]);
        if (rename(path, to) && errno != ENOENT)
            return local_error(path, errno);
    }
    int rc = files_sync_folder(r->dir);
    return rc < 0 ? local_error(r->dir, -rc) : CLI_OK;
}

static bool take_certificate(struct rejoin *r, const struct cli_args *args) {
    char error[TLS_ERROR_BYTES];
    const struct tls_peer_options options = {
        .cert_file = args->peer_cert, .key_file = args->peer_key, .ca_file = args->peer_ca};
    if (!options.cert_file && !options.key_file && !options.ca_file)
        return true;
    if (!options.cert_file || !options.key_file || !options.ca_file)
        fputs("cotidal: --peer-cert, --peer-key and --peer-ca go together\n", stderr);
    else if (tls_peer_new(&options, &r->tls, error) == 0)
        return true;
    else
        fprintf(stderr, "cotidal: %s\n", error);
    return false;
}

int cli_rejoin(const struct cli_args *args) {
    struct rejoin r = {.dir = args->words[0], .join = args->join};
    struct address address;
    char folder[64];
    if (!r.join || !address_parse(r.join, &address) || address.port == 0) {
        fputs("cotidal: rejoin wants to know whom: --join HOST:PORT, the --peer address of a node "
              "that is up\n",
              stderr);
        return CLI_USAGE;
    }
    if (!take_certificate(&r, args))
        return CLI_USAGE;
    int fd = cli_lock_folder(r.dir);
    if (fd < 0) {
        tls_peer_free(r.tls);
        return -fd;
    }
    read_identity(&r);
    int code = ask_status(&r);
    for (int i = 1; code == CLI_OK && r.alive && i < LOOKS; i++) {
        sleep(1);
        code = ask_status(&r);
    }
    if (code == CLI_OK)
        code = check_allowed(&r);
    if (code == CLI_OK)
        code = confirm(&r, args);
    if (code == CLI_OK && r.member) {
        code = take_out(&r);
        if (code == CLI_OK)
            printf("node %" PRIu64 " is no member any more\n", r.id.node_id);
    }
    if (code == CLI_OK)
        code = set_aside(&r, folder);
    close(fd);
    tls_peer_free(r.tls);
    if (code == CLI_OK)
        printf("its files are in %s/%s; delete them when you need them no more\n"
               "now start the node as always, with --join %s: it joins as a new one and gets all "
               "data\n",
               r.dir, folder, r.join);
    return code;
}
