#include "server/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_text(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, out, size - 1);
    int rc = n < 0 ? -errno : 0;
    close(fd);
    out[n > 0 ? n : 0] = 0;
    return rc;
}

int identity_load(const char *dir, struct identity *ret) {
    char path[4096], text[256], cluster[33];
    unsigned long long id;
    int bootstrap, used = 0;
    snprintf(path, sizeof path, "%s/node.meta", dir);
    int rc = read_text(path, text, sizeof text);
    if (rc < 0)
        return rc;
    if (sscanf(text, "cotidal-node 1\nid %llu\ncluster %32[0-9a-f]\nbootstrap %d\n%n", &id, cluster,
               &bootstrap, &used) != 3 ||
        used == 0 || text[used] != 0 || strlen(cluster) != 32 || id == 0)
        return -EBADMSG;
    struct identity found = {.node_id = id, .bootstrap = bootstrap != 0};
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        if (sscanf(cluster + 2 * i, "%2x", &byte) != 1)
            return -EBADMSG;
        found.cluster_id[i] = (uint8_t)byte;
    }
    *ret = found;
    return 0;
}

int identity_save(const char *dir, const struct identity *id) {
    char path[4096], temporary[4200], text[256], cluster[33];
    for (int i = 0; i < 16; i++)
        snprintf(cluster + 2 * i, 3, "%02x", id->cluster_id[i]);
    int size = snprintf(text, sizeof text, "cotidal-node 1\nid %llu\ncluster %s\nbootstrap %d\n",
                        (unsigned long long)id->node_id, cluster, id->bootstrap);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return -errno;
    snprintf(path, sizeof path, "%s/node.meta", dir);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = write(fd, text, (size_t)size) != size || fsync(fd) < 0 ? -(errno ? errno : EIO) : 0;
    close(fd);
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    if (rc < 0)
        return rc;
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

void boot_id_read(char out[64]) {
    uint64_t random[2];
    if (read_text("/proc/sys/kernel/random/boot_id", out, 64) < 0 || out[0] == 0) {
        /* Never the same: after anything but a clean stop the store is then rebuilt. */
        CHECK(getrandom(random, sizeof random, 0) == sizeof random);
        snprintf(out, 64, "unknown-%016llx%016llx", (unsigned long long)random[0],
                 (unsigned long long)random[1]);
    }
    out[strcspn(out, "\n")] = 0;
}
