/* cotidal backup: asks a node to take a copy of the state, fetches it in pieces into FILE.part,
 * checks it as `cotidal check` would, and gives it its name. Or, for the day when the others are
 * lost, copies what a stopped node had applied. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/http.h"
#include "cli/progress.h"
#include "proto/json_out.h"
#include "replica/identity.h"
#include "store/check.h"
#include "store/files.h"

enum { POLL_MS = 200 };

struct backup {
    struct cli_args args; /* --from stands in `to` */
    const char *path;
    char part[4096];
    char id[64];
    uint64_t bytes, index;
    char digest[40];
    int fd;
    struct progress progress;
};

static int local_error(const char *path, int error) {
    fprintf(stderr, "cotidal: %s: %s\n", path, strerror(error));
    return CLI_LOCAL;
}

static int not_understood(void) {
    fputs("cotidal: what answers there does not seem to be cotidal\n", stderr);
    return CLI_REFUSED;
}

/* One exchange about the backup; *ret_reply is filled on CLI_OK. */
static int exchange(struct backup *b, const char *method, const char *query, long expected,
                    struct http_reply *ret_reply) {
    struct http_request request = {.method = method, .expected = {expected}};
    buf_append_str(&request.path, "/_/backups");
    if (b->id[0])
        buf_printf(&request.path, "/%s%s", b->id, query);
    int code = http_exchange(&b->args, &request, ret_reply);
    http_request_fini(&request);
    return code;
}

static json_t *take_json(struct http_reply *reply) {
    json_t *json = json_loadb((const char *)reply->body.data, reply->body.size, 0, NULL);
    http_reply_fini(reply);
    return json;
}

static const char *text_of(const json_t *json, const char *key) {
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "";
}

static int begin(struct backup *b) {
    struct http_reply reply = {0};
    int code = exchange(b, "POST", "", 201, &reply);
    if (code != CLI_OK)
        return code;
    json_t *json = take_json(&reply);
    snprintf(b->id, sizeof b->id, "%s", text_of(json, "id"));
    json_decref(json);
    return b->id[0] ? CLI_OK : not_understood();
}

/* Asks until the node has written its copy. */
static int wait_ready(struct backup *b) {
    for (;;) {
        struct http_reply reply = {0};
        int code = exchange(b, "GET", "", 200, &reply);
        if (code != CLI_OK)
            return code;
        json_t *json = take_json(&reply);
        const char *state = text_of(json, "state");
        bool ready = strcmp(state, "ready") == 0, failed = strcmp(state, "failed") == 0;
        if (ready) {
            b->bytes = (uint64_t)json_integer_value(json_object_get(json, "bytes"));
            b->index = (uint64_t)json_integer_value(json_object_get(json, "index"));
            snprintf(b->digest, sizeof b->digest, "%s", text_of(json, "digest"));
        } else if (failed) {
            fprintf(stderr, "cotidal: the node could not write its copy: %s\n",
                    text_of(json, "reason"));
        } else if (!*state) {
            code = not_understood();
        }
        json_decref(json);
        if (code != CLI_OK || failed)
            return failed ? CLI_REFUSED : code;
        if (ready)
            return CLI_OK;
        progress_add(&b->progress, 0);
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
}

static int fetch(struct backup *b) {
    uint64_t at = 0;
    while (at < b->bytes) {
        char query[40];
        struct http_reply reply = {0};
        snprintf(query, sizeof query, "?offset=%" PRIu64, at);
        int code = exchange(b, "GET", query, 200, &reply);
        if (code != CLI_OK)
            return code;
        struct slice piece = buf_slice(&reply.body);
        int rc = 0;
        if (piece.size == 0 || piece.size > b->bytes - at)
            code = not_understood();
        else if ((rc = files_write_all(b->fd, piece)) < 0)
            code = local_error(b->part, -rc);
        at += piece.size;
        progress_add(&b->progress, piece.size);
        http_reply_fini(&reply);
        if (code != CLI_OK)
            return code;
    }
    return fsync(b->fd) ? local_error(b->part, errno) : CLI_OK;
}

static void on_checked(void *ctx, uint64_t bytes) {
    progress_add(ctx, bytes);
}

static int check(struct backup *b, struct store_check *ret) {
    char digest[40];
    int rc = store_check_snapshot(b->part, NULL, on_checked, &b->progress, ret);
    snprintf(digest, sizeof digest, "%016" PRIx64 "%016" PRIx64, ret->digest.high, ret->digest.low);
    if (rc == 0 && (ret->index != b->index || strcmp(digest, b->digest) != 0)) {
        rc = -EBADMSG;
        snprintf(ret->problem, sizeof ret->problem, "it is not what the node has announced");
    }
    if (rc == 0)
        return CLI_OK;
    fprintf(stderr, "cotidal: what arrived is damaged (%s); nothing is kept of it\n", ret->problem);
    return CLI_NO;
}

static int give_name(struct backup *b) {
    if (rename(b->part, b->path))
        return local_error(b->path, errno);
    int rc = files_sync_parent(b->path);
    return rc < 0 ? local_error(b->path, -rc) : CLI_OK;
}

static void tell(const struct backup *b, const struct store_check *c) {
    struct buf out = {0};
    if (b->args.json) {
        struct json_out j;
        json_out_begin(&j, &out);
        json_out_object(&j);
        json_out_key(&j, "file");
        json_out_str(&j, b->path);
        json_out_key(&j, "bytes");
        json_out_u64(&j, b->bytes);
        json_out_key(&j, "keys");
        json_out_u64(&j, c->keys);
        json_out_key(&j, "index");
        json_out_u64(&j, c->index);
        json_out_key(&j, "digest");
        json_out_str(&j, b->digest);
        json_out_end(&j, '}');
        buf_append_char(&out, '\n');
    } else {
        buf_printf(&out, "%s: %" PRIu64 " keys at index %" PRIu64 ", ", b->path, c->keys, c->index);
        bytes_append(&out, b->bytes);
        buf_printf(&out, ", checked\n");
    }
    fwrite(out.data, 1, out.size, stdout);
    buf_fini(&out);
}

static int take(struct backup *b, struct store_check *ret) {
    progress_begin(&b->progress, "a node copies", 0, b->args.json != NULL);
    int code = wait_ready(b);
    progress_end(&b->progress);
    if (code != CLI_OK)
        return code;
    progress_begin(&b->progress, "fetching", b->bytes, b->args.json != NULL);
    code = fetch(b);
    progress_end(&b->progress);
    if (code != CLI_OK)
        return code;
    progress_begin(&b->progress, "checking", 2 * b->bytes, b->args.json != NULL);
    code = check(b, ret);
    progress_end(&b->progress);
    return code;
}

/* ---- from the folder of a stopped node ---- */

static int check_folder(struct backup *b, const char *store, struct store_check *ret) {
    char boot_id[64];
    boot_id_read(boot_id);
    progress_begin(&b->progress, "checking", 0, b->args.json != NULL);
    int rc = store_check_folder(store, boot_id, on_checked, &b->progress, ret);
    progress_end(&b->progress);
    if (rc == STORE_CHECK_GOOD)
        return CLI_OK;
    if (rc == STORE_CHECK_NONE)
        fprintf(stderr, "cotidal: there is no store in %s\n", store);
    else if (rc == STORE_CHECK_UNTRUSTED)
        fprintf(stderr,
                "cotidal: %s was not closed when the operating system ended: take the newest file "
                "of the folder snapshots beside it, which is a backup as it is\n",
                store);
    else
        fprintf(stderr, "cotidal: %s\n", ret->problem);
    return CLI_NO;
}

static int copy_folder(struct backup *b, const char *dir, struct store_check *ret) {
    char store[4096];
    struct store_snapshot info;
    snprintf(store, sizeof store, "%s/store", dir);
    int code = check_folder(b, store, ret);
    if (code != CLI_OK)
        return code;
    int rc = store_snapshot_write_closed(store, b->path, &info);
    if (rc < 0)
        return local_error(b->path, -rc);
    b->bytes = info.file_bytes;
    snprintf(b->digest, sizeof b->digest, "%016" PRIx64 "%016" PRIx64, info.digest.high,
             info.digest.low);
    return CLI_OK;
}

static int backup_folder(struct backup *b, const char *dir) {
    struct store_check found;
    int fd = cli_lock_folder(dir);
    if (fd < 0)
        return -fd;
    int code = copy_folder(b, dir, &found);
    close(fd);
    if (code == CLI_OK)
        tell(b, &found);
    return code;
}

static bool is_folder(const char *name) {
    struct stat st;
    return name && stat(name, &st) == 0 && S_ISDIR(st.st_mode);
}

int cli_backup(const struct cli_args *args) {
    struct backup b = {.args = *args, .path = args->words[0]};
    struct store_check found;
    if (args->from)
        b.args.to = args->from;
    snprintf(b.part, sizeof b.part, "%s.part", b.path);
    if (access(b.path, F_OK) == 0) {
        fprintf(stderr, "cotidal: %s is there already, and is left alone\n", b.path);
        return CLI_REFUSED;
    }
    if (is_folder(args->from))
        return backup_folder(&b, args->from);
    b.fd = open(b.part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (b.fd < 0)
        return local_error(b.part, errno);
    int code = begin(&b);
    if (code == CLI_OK) {
        code = take(&b, &found);
        struct http_reply reply = {0};
        /* The node forgets it by itself, too. */
        if (code != CLI_UNREACHABLE && exchange(&b, "DELETE", "", 204, &reply) == CLI_OK)
            http_reply_fini(&reply);
    }
    if (close(b.fd) && code == CLI_OK)
        code = local_error(b.part, errno);
    if (code == CLI_OK)
        code = give_name(&b);
    if (code != CLI_OK)
        unlink(b.part);
    else
        tell(&b, &found);
    return code;
}
