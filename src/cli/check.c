/* cotidal check: whether the files of a stopped node, or a backup, are what was once written. It
 * reads everything and changes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "proto/json_out.h"
#include "replica/disk_read.h"
#include "replica/identity.h"
#include "replica/log.h"
#include "replica/snapshot_meta.h"
#include "store/check.h"

enum verdict { VERDICT_GOOD, VERDICT_NOTE, VERDICT_DAMAGED };
enum part { PART_IDENTITY, PART_LOG, PART_SNAPSHOT, PART_STORE, PART_BACKUP, PART_COUNT };

static const char *const part_names[PART_COUNT] = {"identity", "log", "snapshot", "store",
                                                   "backup"};
static const char *const verdict_names[] = {"good", "note", "DAMAGED"};

struct finding {
    bool there;
    enum verdict verdict;
    char text[400];
};

struct checkup {
    const char *path;
    bool json;
    struct progress progress;
    struct finding findings[PART_COUNT];
    bool fresh; /* by its identity it has not worked yet: it need not have a log */
    bool log_read, store_read, rebuild; /* rebuild: a start makes the store anew */
    struct log_open_info log;
    struct snapshot_meta meta; /* index 0: none */
    struct store_check store;
};

/* The worse of what was said about a part stays. */
static void say(struct checkup *c, enum part part, enum verdict verdict, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
static void say(struct checkup *c, enum part part, enum verdict verdict, const char *fmt, ...) {
    struct finding *f = &c->findings[part];
    if (f->there && f->verdict > verdict)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    f->there = true;
    f->verdict = verdict;
}

static void on_read(void *ctx, uint64_t bytes) {
    struct checkup *c = ctx;
    progress_add(&c->progress, bytes);
}

static const char *in_folder(const struct checkup *c, const char *name, char out[4096]) {
    snprintf(out, 4096, "%s/%s", c->path, name);
    return out;
}

/* Bytes on the disk: a file with holes has fewer than it seems. */
static uint64_t bytes_of(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void size_text(uint64_t bytes, char out[32]) {
    struct buf b = {0};
    bytes_append(&b, bytes);
    snprintf(out, 32, "%.*s", (int)b.size, (const char *)b.data);
    buf_fini(&b);
}

static void digest_text(struct hash128 digest, char out[40]) {
    snprintf(out, 40, "%016" PRIx64 "%016" PRIx64, digest.high, digest.low);
}

/* ---- the parts ---- */

static void check_identity(struct checkup *c) {
    struct identity id;
    int rc = identity_load(c->path, &id);
    if (rc == -ENOENT)
        say(c, PART_IDENTITY, VERDICT_DAMAGED, "%s is missing", IDENTITY_NAME);
    else if (rc == -EBADMSG)
        say(c, PART_IDENTITY, VERDICT_DAMAGED, "%s, offset 0: its checksum does not fit its text",
            IDENTITY_NAME);
    else if (rc < 0)
        say(c, PART_IDENTITY, VERDICT_DAMAGED, "%s: %s", IDENTITY_NAME, strerror(-rc));
    else
        c->fresh = !id.begun;
    if (rc == 0)
        say(c, PART_IDENTITY, VERDICT_GOOD, "node %" PRIu64 " of cluster %02x%02x%02x%02x",
            id.node_id, id.cluster_id[0], id.cluster_id[1], id.cluster_id[2], id.cluster_id[3]);
}

static void sum_size(void *ctx, const char *name) {
    struct checkup *c = ctx;
    char path[4096], file[300];
    snprintf(file, sizeof file, "log/%.255s", name);
    c->progress.total += bytes_of(in_folder(c, file, path));
}

static void check_log(struct checkup *c, struct disk *disk) {
    char error[256] = "";
    progress_begin(&c->progress, "checking the log", 0, c->json);
    int rc = disk->ops->list(disk, "log", sum_size, c);
    if (rc == 0)
        rc = log_check(disk, &c->log, error);
    else
        snprintf(error, sizeof error, "log: %s", strerror(-rc));
    progress_end(&c->progress);
    if (rc == -ENOENT && c->fresh) {
        say(c, PART_LOG, VERDICT_NOTE, "there is none yet; a start makes it");
        return;
    }
    if (rc < 0) {
        say(c, PART_LOG, VERDICT_DAMAGED, "%s", *error ? error : strerror(-rc));
        return;
    }
    c->log_read = true;
    if (c->log.first_index > c->log.last_index)
        say(c, PART_LOG, VERDICT_GOOD, "no entries behind index %" PRIu64 ", term %" PRIu64,
            c->log.base.index, c->log.vote.term);
    else
        say(c, PART_LOG, c->log.cut_bytes ? VERDICT_NOTE : VERDICT_GOOD,
            "entries %" PRIu64 " to %" PRIu64 ", term %" PRIu64 "%s", c->log.first_index,
            c->log.last_index, c->log.vote.term,
            c->log.cut_bytes ? "; behind them a write that was never acknowledged" : "");
}

static void check_snapshot(struct checkup *c, struct disk *disk) {
    struct buf bytes = {0};
    char path[4096], size[32];
    int rc = disk->ops->load(disk, SNAPSHOT_META_NAME, &bytes);
    if (rc == 0 && !snapshot_meta_decode(buf_slice(&bytes), &c->meta)) {
        c->meta.snapshot.index = 0;
        say(c, PART_SNAPSHOT, VERDICT_DAMAGED, "%s, offset 0: its checksum does not fit its bytes",
            SNAPSHOT_META_NAME);
    } else if (rc == -ENOENT) {
        say(c, PART_SNAPSHOT, VERDICT_GOOD, "none was taken yet");
    } else if (rc < 0) {
        say(c, PART_SNAPSHOT, VERDICT_DAMAGED, "%s: %s", SNAPSHOT_META_NAME, strerror(-rc));
    }
    buf_fini(&bytes);
    if (c->meta.snapshot.index == 0)
        return;
    struct store_check found;
    snapshot_file_path(c->path, c->meta.snapshot.index, path);
    progress_begin(&c->progress, "checking the snapshot", 2 * bytes_of(path), c->json);
    rc = store_check_snapshot(path, &c->meta.info, on_read, c, &found);
    progress_end(&c->progress);
    size_text(c->meta.info.file_bytes, size);
    if (rc == 0)
        say(c, PART_SNAPSHOT, VERDICT_GOOD, "of index %" PRIu64 ", %s", c->meta.snapshot.index,
            size);
    else
        say(c, PART_SNAPSHOT, VERDICT_DAMAGED, "%s", found.problem);
}

static void check_store(struct checkup *c) {
    char dir[4096], data[4096], boot_id[64], digest[40];
    boot_id_read(boot_id);
    in_folder(c, "store", dir);
    progress_begin(&c->progress, "checking the store",
                   bytes_of(in_folder(c, "store/data.mdb", data)), c->json);
    int rc = store_check_folder(dir, boot_id, on_read, c, &c->store);
    progress_end(&c->progress);
    digest_text(c->store.digest, digest);
    if (rc == STORE_CHECK_GOOD) {
        c->store_read = true;
        say(c, PART_STORE, VERDICT_GOOD, "%" PRIu64 " keys at index %" PRIu64 ", digest %.12s",
            c->store.keys, c->store.index, digest);
    } else if (rc == STORE_CHECK_NONE) {
        c->rebuild = true;
        say(c, PART_STORE, VERDICT_NOTE, "there is none; a start makes it");
    } else if (rc == STORE_CHECK_UNTRUSTED) {
        c->rebuild = true;
        say(c, PART_STORE, VERDICT_NOTE,
            "the operating system ended without closing it; a start makes it anew");
    } else {
        c->rebuild = rc == -EBADMSG;
        say(c, PART_STORE, VERDICT_DAMAGED, "%s", c->store.problem);
    }
}

/* Whether the parts go together. */
static void check_fit(struct checkup *c) {
    uint64_t snapshot = c->meta.snapshot.index;
    bool has_entries = c->log.first_index <= c->log.last_index;
    if (c->log_read && has_entries && c->log.first_index > snapshot + 1)
        say(c, PART_LOG, VERDICT_DAMAGED,
            "begins at entry %" PRIu64 ", but the snapshot ends at %" PRIu64, c->log.first_index,
            snapshot);
    if (c->log_read && !has_entries && c->log.base.index > snapshot)
        say(c, PART_LOG, VERDICT_DAMAGED,
            "goes on from index %" PRIu64 ", but the snapshot ends at %" PRIu64, c->log.base.index,
            snapshot);
    if (!c->store_read || !c->log_read)
        return;
    if (c->store.index < snapshot || (has_entries && c->store.index + 1 < c->log.first_index)) {
        c->rebuild = true;
        say(c, PART_STORE, VERDICT_NOTE,
            "at index %" PRIu64 ", behind the snapshot or the log's beginning; a start makes it "
            "anew",
            c->store.index);
    } else if (c->store.index == snapshot && snapshot > 0 &&
               !hash128_equal(c->store.digest, c->meta.info.digest)) {
        say(c, PART_STORE, VERDICT_DAMAGED,
            "its digest is not that of the snapshot of the same index %" PRIu64, snapshot);
    } else if (c->store.index > c->log.last_index && c->store.index > snapshot) {
        say(c, PART_STORE, VERDICT_NOTE,
            "%" PRIu64 " keys at index %" PRIu64
            ", ahead of the log: a leader that was killed may have applied what only the others "
            "had on their disks yet",
            c->store.keys, c->store.index);
    }
}

/* ---- the answer ---- */

static bool is_damaged(const struct checkup *c, enum part part) {
    return c->findings[part].there && c->findings[part].verdict == VERDICT_DAMAGED;
}

static bool any_damage(const struct checkup *c) {
    for (int i = 0; i < PART_COUNT; i++)
        if (is_damaged(c, (enum part)i))
            return true;
    return false;
}

/* What to do about it. */
static const char *advice(const struct checkup *c) {
    if (!any_damage(c))
        return "";
    if (c->findings[PART_BACKUP].there)
        return "This backup cannot be used. Take another: cotidal backup FILE";
    if (is_damaged(c, PART_IDENTITY) || is_damaged(c, PART_LOG) ||
        (is_damaged(c, PART_SNAPSHOT) && (is_damaged(c, PART_STORE) || c->rebuild)))
        return "This node cannot go on with these files. When the others are a majority, let it "
               "join them anew: cotidal rejoin DIR --join HOST:PORT. A node that was alone: "
               "cotidal "
               "restore FILE --data DIR";
    if (is_damaged(c, PART_SNAPSHOT))
        return "The store and the log are whole, and the node can start; it takes a new snapshot "
               "then.";
    if (c->rebuild)
        return "Start the node: it makes its store anew from its snapshot and its log.";
    return "Keep the folder, and let the node join anew: cotidal rejoin DIR --join HOST:PORT";
}

static void print_text(const struct checkup *c) {
    for (int i = 0; i < PART_COUNT; i++) {
        const struct finding *f = &c->findings[i];
        if (f->there)
            printf("%-9s %-8s %s\n", part_names[i], verdict_names[f->verdict], f->text);
    }
    if (any_damage(c))
        printf("\n%s: damaged. %s\n", c->path, advice(c));
    else
        printf("\n%s: everything is as it was written.\n", c->path);
}

static void print_json_report(const struct checkup *c) {
    struct buf json = {0};
    struct json_out j;
    char digest[40];
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "path");
    json_out_str(&j, c->path);
    json_out_key(&j, "good");
    json_out_bool(&j, !any_damage(c));
    json_out_key(&j, "parts");
    json_out_array(&j);
    for (int i = 0; i < PART_COUNT; i++) {
        const struct finding *f = &c->findings[i];
        if (!f->there)
            continue;
        json_out_object(&j);
        json_out_key(&j, "part");
        json_out_str(&j, part_names[i]);
        json_out_key(&j, "state");
        json_out_str(&j, f->verdict == VERDICT_DAMAGED ? "damaged" : verdict_names[f->verdict]);
        json_out_key(&j, "detail");
        json_out_str(&j, f->text);
        json_out_end(&j, '}');
    }
    json_out_end(&j, ']');
    if (c->store_read) {
        digest_text(c->store.digest, digest);
        json_out_key(&j, "index");
        json_out_u64(&j, c->store.index);
        json_out_key(&j, "keys");
        json_out_u64(&j, c->store.keys);
        json_out_key(&j, "digest");
        json_out_str(&j, digest);
    }
    json_out_key(&j, "advice");
    json_out_str(&j, advice(c));
    json_out_end(&j, '}');
    buf_append_char(&json, '\n');
    fwrite(json.data, 1, json.size, stdout);
    buf_fini(&json);
}

/* ---- what is to be checked ---- */

static int check_folder(struct checkup *c) {
    char path[4096];
    if (access(in_folder(c, IDENTITY_NAME, path), F_OK) &&
        access(in_folder(c, "log", path), F_OK) && access(in_folder(c, "store", path), F_OK)) {
        fprintf(stderr, "cotidal: %s is not the data folder of a node (what --data named)\n",
                c->path);
        return CLI_REFUSED;
    }
    int fd = cli_lock_folder(c->path);
    if (fd < 0)
        return -fd;
    struct disk *disk;
    int rc = disk_read_new(c->path, on_read, c, &disk);
    if (rc == 0) {
        check_identity(c);
        check_log(c, disk);
        check_snapshot(c, disk);
        check_store(c);
        check_fit(c);
        disk_read_free(disk);
    } else {
        fprintf(stderr, "cotidal: %s: %s\n", c->path, strerror(-rc));
    }
    close(fd);
    return rc < 0 ? CLI_LOCAL : CLI_OK;
}

static void check_file(struct checkup *c) {
    char digest[40], size[32];
    progress_begin(&c->progress, "checking", 2 * bytes_of(c->path), c->json);
    int rc = store_check_snapshot(c->path, NULL, on_read, c, &c->store);
    progress_end(&c->progress);
    c->store_read = rc == 0;
    digest_text(c->store.digest, digest);
    size_text(c->store.file_bytes, size);
    if (rc == 0)
        say(c, PART_BACKUP, VERDICT_GOOD, "%" PRIu64 " keys at index %" PRIu64 ", %s, digest %.12s",
            c->store.keys, c->store.index, size, digest);
    else
        say(c, PART_BACKUP, VERDICT_DAMAGED, "%s", c->store.problem);
}

int cli_check(const struct cli_args *args) {
    struct checkup c = {.path = args->words[0], .json = args->json != NULL};
    struct stat st;
    int code = CLI_OK;
    if (stat(c.path, &st) < 0) {
        fprintf(stderr, "cotidal: %s: %s\n", c.path, strerror(errno));
        return CLI_LOCAL;
    }
    if (S_ISDIR(st.st_mode))
        code = check_folder(&c);
    else
        check_file(&c);
    if (code != CLI_OK)
        return code;
    if (c.json)
        print_json_report(&c);
    else
        print_text(&c);
    return any_damage(&c) ? CLI_NO : CLI_OK;
}
