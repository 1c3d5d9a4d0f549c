#include "store/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/check_impl.h"
#include "store/files.h"

/* The end of a path says most. */
static const char *tail(const char *path) {
    enum { SHOWN = 120 };
    size_t n = strlen(path);
    return n > SHOWN ? path + n - SHOWN : path;
}

static int explain(struct store_check *c, int rc, const char *path, const char *what) {
    snprintf(c->problem, sizeof c->problem, "%s: %.100s", tail(path), what);
    return rc;
}

static int explain_at(struct store_check *c, const char *path, uint64_t offset, const char *what) {
    snprintf(c->problem, sizeof c->problem, "%s, offset %" PRIu64 ": %.90s", tail(path), offset,
             what);
    return -EBADMSG;
}

/* ---- what an environment holds ---- */

static void take_state(struct store_check *c, const struct state *s) {
    c->index = s->applied_index;
    c->term = s->applied_term;
    c->keys = state_key_count(s);
    c->data_bytes = s->data_bytes;
    c->sessions = s->session_count;
    c->digest = state_digest(s);
}

static int check_records(struct env *env, const char *path, struct store_check *c) {
    struct store store = {.hashes = keyspace_hashes_default};
    struct store_view view = {.store = &store, .active = true};
    struct hash128 digest;
    struct slice membership;
    uint64_t offset = 0;
    int rc = env_read_open(env, &view.txn);
    if (rc)
        return explain(c, rc, path, strerror(-rc));
    keyspace_init(&view.ks, &view.txn, &view.state, &store.hashes, false);
    rc = state_load(&view.txn, &view.state);
    if (rc == -EPROTONOSUPPORT) {
        rc = explain(c, rc, path, "written by another version of cotidal");
    } else if (rc) {
        rc = explain(c, rc < 0 ? rc : -EBADMSG, path, "the record of the state is damaged");
    } else {
        take_state(c, &view.state);
        rc = store_verify_at(&view, &digest, &offset);
        if (rc == -EBADMSG && offset)
            rc = explain_at(c, path, offset, "a record that is damaged, or does not fit others");
        else if (rc == -EBADMSG)
            rc = explain(c, rc, path, "the records do not add up to the sums of the state");
        else if (rc)
            rc = explain(c, rc, path, strerror(-rc));
    }
    if (rc == 0 && state_load_membership(&view.txn, &c->membership_index, &membership) < 0)
        rc = explain(c, -EBADMSG, path, "the record of the membership is damaged");
    env_read_close(&view.txn);
    keyspace_fini(&view.ks);
    return rc;
}

int store_check_environment(const char *path, pages_read_fn on_read, void *ctx,
                            struct store_check *c) {
    struct pages_report pages;
    struct stat st;
    struct env env;
    int rc = pages_check(path, on_read, ctx, &pages);
    if (rc == -EBADMSG)
        return explain_at(c, path, pages.offset, pages.problem);
    if (rc == 0 && stat(path, &st))
        rc = -errno;
    if (rc)
        return explain(c, rc, path, strerror(-rc));
    c->file_bytes = (uint64_t)st.st_blocks * 512;
    rc = env_open_file(&env, path, (uint64_t)st.st_size);
    if (rc)
        return explain(c, rc, path, rc == -EBADMSG ? "tables are missing" : strerror(-rc));
    rc = check_records(&env, path, c);
    env_close(&env);
    return rc;
}

/* ---- the store's folder ---- */

int store_check_folder(const char *dir, const char *boot_id, pages_read_fn on_read, void *ctx,
                       struct store_check *ret) {
    struct mark mark;
    *ret = (struct store_check){0};
    if (!files_exists(dir, STORE_DATA_NAME))
        return STORE_CHECK_NONE;
    int rc = mark_read(dir, boot_id, &mark);
    if (rc)
        return explain(ret, rc, dir, strerror(-rc));
    if (!mark.present || (!mark.same_boot && !mark.clean))
        return STORE_CHECK_UNTRUSTED;
    char *path = files_path(dir, STORE_DATA_NAME);
    rc = store_check_environment(path, on_read, ctx, ret);
    free(path);
    return rc;
}

/* ---- snapshot files ---- */

int store_check_snapshot(const char *path, const struct store_snapshot *info, pages_read_fn on_read,
                         void *ctx, struct store_check *ret) {
    struct store_snapshot found;
    *ret = (struct store_check){0};
    int rc = store_snapshot_verify(path, info, &found);
    if (rc == -EBADMSG)
        return explain(ret, rc, path, "its checksums do not fit its bytes");
    if (rc == -EPROTONOSUPPORT)
        return explain(ret, rc, path, "written by another version of cotidal");
    if (rc)
        return explain(ret, rc, path, strerror(-rc));
    if (on_read)
        on_read(ctx, found.file_bytes);
    rc = store_check_environment(path, on_read, ctx, ret);
    ret->file_bytes = found.file_bytes;
    return rc;
}
