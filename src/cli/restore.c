/* cotidal restore: the data folder of a new cluster's first node, made from a backup.
 *
 * It is a cluster of its own: another cluster id, so that nodes of the old one and of this one
 * never take each other for members; no sessions of the old one's gateways; one member. Log index
 * and term go on above the backup's, and by so much that no revision comes again that the old
 * cluster may have given out after the backup: clients keep revisions as ETags. The folder is made
 * beside and gets its name when it is complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "proto/json_out.h"
#include "replica/identity.h"
#include "replica/snapshot_meta.h"
#include "store/check.h"
#include "store/files.h"

enum {
    /* More than the old cluster can have appended since: entries in a millisecond. */
    ENTRIES_PER_MS = 100,
};
static const uint64_t skip_min = 1ull << 24, skip_max = 1ull << 40;

struct restore {
    const char *file, *data;
    char part[4000];
    struct progress progress;
    bool json;
    struct store_check backup;
    struct snapshot_meta meta;
};

static int local_error(const char *path, int error) {
    fprintf(stderr, "cotidal: %s: %s\n", path, strerror(error));
    return CLI_LOCAL;
}

static void on_checked(void *ctx, uint64_t bytes) {
    progress_add(ctx, bytes);
}

static int check_backup(struct restore *r) {
    struct stat st;
    if (stat(r->file, &st) || !S_ISREG(st.st_mode))
        return local_error(r->file, errno ? errno : EINVAL);
    progress_begin(&r->progress, "checking", 2 * (uint64_t)st.st_size, r->json);
    int rc = store_check_snapshot(r->file, NULL, on_checked, &r->progress, &r->backup);
    progress_end(&r->progress);
    if (rc == 0)
        return CLI_OK;
    fprintf(stderr, "cotidal: %s\ncotidal: this backup cannot be used. Nothing was changed\n",
            r->backup.problem);
    return rc == -EBADMSG || rc == -EPROTONOSUPPORT ? CLI_NO : CLI_LOCAL;
}

/* The folder must not be there, or be empty: then it goes, to make room for ours. */
static int make_room(struct restore *r) {
    if (rmdir(r->data) && errno != ENOENT) {
        if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
            fprintf(stderr, "cotidal: %s is not empty. Nothing was changed; name another --data\n",
                    r->data);
        else
            return local_error(r->data, errno);
        return CLI_REFUSED;
    }
    size_t n = strlen(r->data);
    while (n > 1 && r->data[n - 1] == '/')
        n--;
    snprintf(r->part, sizeof r->part, "%.*s.part", (int)n, r->data);
    if (mkdir(r->part, 0700) == 0)
        return CLI_OK;
    if (errno == EEXIST)
        fprintf(stderr,
                "cotidal: %s is left of a restore that was cut short: delete it and begin again\n",
                r->part);
    return errno == EEXIST ? CLI_REFUSED : local_error(r->part, errno);
}

/* How far ahead the old cluster may be. */
static uint64_t index_skip(const struct store *s) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000, time_ms = store_time_ms(s);
    uint64_t skip = now_ms > time_ms ? (now_ms - time_ms) * ENTRIES_PER_MS : 0;
    return skip < skip_min ? skip_min : skip > skip_max ? skip_max : skip;
}

static int open_store(const struct restore *r, const char *dir, struct store **ret_store) {
    char boot_id[64];
    boot_id_read(boot_id);
    struct stat st;
    if (stat(r->file, &st))
        return -errno;
    /* Room for what is rewritten; the node opens it with its own --map-size. */
    uint64_t map = ((uint64_t)st.st_size * 2 + (64 << 20)) & ~(uint64_t)0xfffff;
    struct store_options options = {.dir = dir, .map_bytes = map, .boot_id = boot_id};
    int rc = store_open(&options, ret_store);
    return rc > 0 ? -EBADMSG : rc;
}

/* The node puts its own address there when it starts. */
static void sole_membership(struct membership *m) {
    *m = (struct membership){.count = 1};
    m->members[0] = (struct member){.id = 1, .role = MEMBER_VOTER, .address = "127.0.0.1:1"};
}

static int make_store(struct restore *r) {
    char dir[4096], boot_id[64], snapshots[4096], path[4096];
    struct store *s = NULL;
    struct buf membership = {0};
    struct core_snapshot *snapshot = &r->meta.snapshot;
    boot_id_read(boot_id);
    snprintf(dir, sizeof dir, "%s/store", r->part);
    snprintf(snapshots, sizeof snapshots, "%s/snapshots", r->part);
    int rc = store_snapshot_install(r->file, dir, boot_id);
    if (rc == 0)
        rc = open_store(r, dir, &s);
    if (rc < 0)
        return rc;
    snapshot->index = r->backup.index + index_skip(s);
    snapshot->term = r->backup.term + 1;
    sole_membership(&snapshot->membership);
    membership_encode(&snapshot->membership, &membership);
    rc = store_refound(s, snapshot->index, snapshot->term, buf_slice(&membership));
    buf_fini(&membership);
    snapshot_file_path(r->part, snapshot->index, path);
    if (rc == 0 && mkdir(snapshots, 0700))
        rc = -errno;
    if (rc == 0)
        rc = store_snapshot_write(s, path, &r->meta.info);
    snapshot->membership_index = r->meta.info.membership_index;
    int closed = store_close(s);
    return rc < 0 ? rc : closed;
}

static int make_rest(struct restore *r) {
    struct buf meta = {0};
    struct identity id = {.node_id = 1, .bootstrap = true};
    CHECK(getrandom(id.cluster_id, sizeof id.cluster_id, 0) == sizeof id.cluster_id);
    snapshot_meta_encode(&r->meta, &meta);
    int rc = files_replace(r->part, SNAPSHOT_META_NAME, buf_slice(&meta));
    buf_fini(&meta);
    if (rc == 0)
        rc = identity_save(r->part, &id);
    if (rc == 0 && rename(r->part, r->data))
        rc = -errno;
    return rc < 0 ? rc : files_sync_parent(r->data);
}

static void tell(const struct restore *r) {
    if (r->json) {
        struct buf out = {0};
        struct json_out j;
        json_out_begin(&j, &out);
        json_out_object(&j);
        json_out_key(&j, "data");
        json_out_str(&j, r->data);
        json_out_key(&j, "keys");
        json_out_u64(&j, r->backup.keys);
        json_out_key(&j, "index");
        json_out_u64(&j, r->meta.snapshot.index);
        json_out_end(&j, '}');
        buf_append_char(&out, '\n');
        fwrite(out.data, 1, out.size, stdout);
        buf_fini(&out);
        return;
    }
    printf("%s: %" PRIu64 " keys, as the first node of a new system, from index %" PRIu64
           " on.\nStart it: cotidal serve --data %s\n"
           "Further nodes join it with --join, in empty folders.\n",
           r->data, r->backup.keys, r->meta.snapshot.index, r->data);
}

int cli_restore(const struct cli_args *args) {
    struct restore r = {.file = args->words[0], .data = args->data, .json = args->json != NULL};
    if (!r.data || !*r.data) {
        fputs("cotidal: restore wants to know where: --data DIR\n", stderr);
        return CLI_USAGE;
    }
    int code = check_backup(&r);
    if (code == CLI_OK)
        code = make_room(&r);
    if (code != CLI_OK)
        return code;
    progress_begin(&r.progress, "restoring", 0, r.json);
    int rc = make_store(&r);
    if (rc == 0)
        rc = make_rest(&r);
    progress_end(&r.progress);
    if (rc < 0) {
        fprintf(stderr, "cotidal: %s: %s\ncotidal: delete what is left of it: %s\n", r.data,
                strerror(-rc), r.part);
        return CLI_LOCAL;
    }
    tell(&r);
    return CLI_OK;
}
