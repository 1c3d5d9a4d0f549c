#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/deploy.h"
#include "proto/site_access.h"
#include "proto/site_headers.h"
#include "proto/site_path.h"
#include "proto/site_redirects.h"

enum { DEPTH_MAX = 64, FILES_MAX = 1000000 };

static int local_error(const char *path, int error) {
    fprintf(stderr, "cotidal: %s: %s\n", path, strerror(error));
    return CLI_LOCAL;
}

static char *join(const char *folder, const char *name) {
    struct buf b = {0};
    buf_printf(&b, "%s/%s", folder, name);
    buf_append_char(&b, 0);
    return (char *)b.data;
}

/* _headers, _redirects or _access: text, not a file of the site. */
static int read_rules(const char *local, size_t bytes_max, struct buf *out) {
    struct stat st;
    if (stat(local, &st))
        return local_error(local, errno);
    if ((uint64_t)st.st_size > bytes_max) {
        fprintf(stderr, "cotidal: %s has more than %zu bytes\n", local, bytes_max);
        return CLI_NO;
    }
    return deploy_read_file(local, 0, (size_t)st.st_size, out) ? CLI_OK : CLI_LOCAL;
}

static int add_file(struct deploy_tree *t, char *path, char *local, const struct stat *st) {
    const char *why;
    if (!site_path_is_servable(slice_str(path), &why)) {
        fprintf(stderr, "cotidal: %s %s: no address leads to it; rename it, or leave it out\n",
                local, why);
        free(path);
        free(local);
        return CLI_NO;
    }
    if (t->count == FILES_MAX) {
        fprintf(stderr, "cotidal: a site has at most %d files\n", FILES_MAX);
        return CLI_NO;
    }
    if ((t->count & (t->count - 1)) == 0)
        t->files = xrealloc(t->files, (t->count ? 2 * t->count : 1) * sizeof t->files[0]);
    t->files[t->count++] = (struct deploy_file){.path = path,
                                                .local = local,
                                                .size = (uint64_t)st->st_size,
                                                .modified_s = (uint64_t)st->st_mtime};
    t->bytes += (uint64_t)st->st_size;
    return CLI_OK;
}

/* What a link leads to is published only when it is in the folder, too: nobody looks at where the
 * links of a folder that was fetched from somewhere lead. */
static int check_link(const struct deploy_tree *t, const char *local) {
    char *to = realpath(local, NULL);
    size_t n = strlen(t->root);
    bool inside = to && strncmp(to, t->root, n) == 0 && (to[n] == '/' || n == 1);
    if (to && !inside)
        fprintf(stderr,
                "cotidal: %s leads out of the folder, to %s: put a copy in its place, or leave it "
                "out (cp -rL copies a folder without links)\n",
                local, to);
    int code = !to ? local_error(local, errno) : inside ? CLI_OK : CLI_NO;
    free(to);
    return code;
}

static int walk(struct deploy_tree *t, const char *folder, const char *prefix, int depth);

static int visit(struct deploy_tree *t, const char *folder, const char *prefix, const char *name,
                 int depth) {
    char *local = join(folder, name), *path = join(prefix, name);
    struct stat link, st;
    int code = CLI_OK;
    bool top = *prefix == 0;
    bool hidden = name[0] == '.' && !(top && strcmp(name, ".well-known") == 0);
    if (hidden) {
        t->skipped++;
    } else if (lstat(local, &link) || stat(local, &st)) {
        code = local_error(local, errno);
    } else if (S_ISREG(st.st_mode) && S_ISLNK(link.st_mode) &&
               (code = check_link(t, local)) != CLI_OK) {
        /* told */
    } else if (top && strcmp(name, "_headers") == 0) {
        code = read_rules(local, SITE_HEADERS_BYTES_MAX, &t->headers);
    } else if (top && strcmp(name, "_redirects") == 0) {
        code = read_rules(local, SITE_REDIRECTS_BYTES_MAX, &t->redirects);
    } else if (top && strcmp(name, "_access") == 0) {
        code = read_rules(local, SITE_ACCESS_BYTES_MAX, &t->access);
    } else if (S_ISREG(st.st_mode)) {
        return add_file(t, path, local, &st);
    } else if (S_ISDIR(st.st_mode) && !S_ISLNK(link.st_mode)) {
        code = walk(t, local, path, depth + 1);
    } else {
        fprintf(stderr, "cotidal: %s is left out: it is no file\n", local);
    }
    free(local);
    free(path);
    return code;
}

static int walk(struct deploy_tree *t, const char *folder, const char *prefix, int depth) {
    if (depth > DEPTH_MAX) {
        fprintf(stderr, "cotidal: %s: more than %d folders in each other\n", folder, DEPTH_MAX);
        return CLI_NO;
    }
    DIR *d = opendir(folder);
    if (!d)
        return local_error(folder, errno);
    int code = CLI_OK;
    struct dirent *e;
    while (code == CLI_OK && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            code = visit(t, folder, prefix, e->d_name, depth);
    closedir(d);
    return code;
}

static int compare_files(const void *a, const void *b) {
    return strcmp(((const struct deploy_file *)a)->path, ((const struct deploy_file *)b)->path);
}

int deploy_tree_read(struct deploy_tree *t, const char *dir) {
    t->root = realpath(dir, NULL);
    if (!t->root)
        return local_error(dir, errno);
    int code = walk(t, dir, "", 0);
    if (code == CLI_OK && t->count == 0) {
        fprintf(stderr, "cotidal: %s has no files\n", dir);
        code = CLI_NO;
    }
    if (t->count > 0)
        qsort(t->files, t->count, sizeof t->files[0], compare_files);
    return code;
}

void deploy_tree_fini(struct deploy_tree *t) {
    for (size_t i = 0; i < t->count; i++) {
        free(t->files[i].path);
        free(t->files[i].local);
    }
    free(t->files);
    free(t->root);
    buf_fini(&t->headers);
    buf_fini(&t->redirects);
    buf_fini(&t->access);
}

const struct deploy_file *deploy_tree_find(const struct deploy_tree *t, struct slice path) {
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = slice_compare(path, slice_str(t->files[middle].path));
        if (c == 0)
            return &t->files[middle];
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

bool deploy_read_file(const char *local, uint64_t offset, size_t size, struct buf *out) {
    buf_reset(out);
    int fd = open(local, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && out->size < size) {
        size_t left = size - out->size;
        ssize_t n = pread(fd, buf_reserve(out, left), left, (off_t)(offset + out->size));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fprintf(stderr, "cotidal: %s: %s\n", local,
                    n < 0 ? strerror(errno) : "it became shorter while it was read");
            close(fd);
            return false;
        }
        buf_commit(out, (size_t)n);
    }
    if (fd < 0)
        fprintf(stderr, "cotidal: %s: %s\n", local, strerror(errno));
    else
        close(fd);
    return fd >= 0;
}
