/* cotidal deploy: its parts.
 *
 *   deploy_tree.c   the folder: names, sizes, what is left out
 *   deploy_check.c  what is wrong with it: rules that cannot be, links that lead nowhere
 *   deploy.c        blocks: hashing, compressing, finding out what is missing, sending it
 *   deploy_api.c    the requests to the server
 *
 * Single thread. What an error is about has been told to the user when a function returns an exit
 * code other than CLI_OK.
 */
#pragma once
#include "base/sha256.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "proto/site_manifest.h"

/* ---- the folder ---- */

struct deploy_file {
    char *path;  /* in the site: "/a/b.html" */
    char *local; /* on this machine */
    uint64_t size;
    uint64_t modified_s;
};
struct deploy_tree {
    char *root;                /* the folder, without links in its path */
    struct deploy_file *files; /* by path */
    size_t count;
    uint64_t bytes;
    /* Texts of _headers, _redirects and _access at the top. */
    struct buf headers, redirects, access;
    size_t skipped; /* hidden files */
};
/* Walks over the folder. Hidden files and folders are left out, but .well-known at the top; links
 * to folders are not followed, and links to files must stay within it. */
int deploy_tree_read(struct deploy_tree *t, const char *dir);
void deploy_tree_fini(struct deploy_tree *t);
/* NULL: no such file. */
const struct deploy_file *deploy_tree_find(const struct deploy_tree *t, struct slice path);
/* Reads a part of a local file; false: said on standard error (also when it ends before). */
bool deploy_read_file(const char *local, uint64_t offset, size_t size, struct buf *out);

/* ---- checks ---- */

/* Rules that the server would not take: CLI_NO then. `links`: also the links of pages and style
 * sheets; *ret_broken counts them. */
int deploy_check(const struct deploy_tree *t, bool links, size_t *ret_broken);

/* ---- the server ---- */

/* The deploy that a site shows: its manifest, or empty. */
int deploy_get_shown(const struct cli_args *args, const char *site, struct buf *ret_manifest);
/* Marks the hashes (count x SHA256_BYTES) that the server lacks in ret_missing. */
int deploy_ask_missing(const struct cli_args *args, const uint8_t *hashes, size_t count,
                       bool *ret_missing);
/* `frames` as POST /v1/deploys/blocks takes them. */
int deploy_send_blocks(const struct cli_args *args, struct slice frames);
int deploy_stage(const struct cli_args *args, const char *site, uint64_t manifest_bytes,
                 const struct buf *hashes, uint64_t *ret_id);
/* Goes on tying blocks; *ret_pinned of *ret_total are. Hashes that turned out to be missing are
 * appended. */
int deploy_pin(const struct cli_args *args, uint64_t id, uint64_t from, uint64_t *ret_pinned,
               uint64_t *ret_total, struct buf *ret_missing);
int deploy_activate(const struct cli_args *args, uint64_t id, uint64_t *ret_before);
