#include "replica/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

enum { IDENTITY_BYTES_MAX = 256 };

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

void identity_encode(const struct identity *id, struct buf *out) {
    char cluster[33];
    size_t at = out->size;
    for (int i = 0; i < 16; i++)
        snprintf(cluster + 2 * i, 3, "%02x", id->cluster_id[i]);
    buf_printf(out, "cotidal-node 3\nid %llu\ncluster %s\nbootstrap %d\nbegun %d\nstarts %llu\n",
               (unsigned long long)id->node_id, cluster, id->bootstrap, id->begun,
               (unsigned long long)id->starts);
    buf_printf(out, "checksum %08x\n", crc32c(0, slice_of(out->data + at, out->size - at)));
}

static bool decode_hex(const char *text, uint8_t out[16]) {
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            return false;
        out[i] = (uint8_t)byte;
    }
    return true;
}

bool identity_decode(struct slice text, struct identity *ret) {
    char line[IDENTITY_BYTES_MAX + 1], cluster[33] = "";
    unsigned long long id = 0, starts = 0;
    int bootstrap = 0, begun = 0;
    if (text.size == 0 || text.size > IDENTITY_BYTES_MAX)
        return false;
    memcpy(line, text.data, text.size);
    line[text.size] = 0;
    if (sscanf(line,
               "cotidal-node 3 id %20llu cluster %32[0-9a-f] bootstrap %1d begun %1d starts %20llu",
               &id, cluster, &bootstrap, &begun, &starts) != 5 ||
        strlen(cluster) != 32 || id == 0)
        return false;
    struct identity found = {
        .node_id = id, .bootstrap = bootstrap != 0, .begun = begun != 0, .starts = starts};
    if (!decode_hex(cluster, found.cluster_id))
        return false;
    /* What we would write is all that we accept: that covers the checksum and every blank. */
    struct buf again = {0};
    identity_encode(&found, &again);
    bool same = slice_equal(buf_slice(&again), text);
    buf_fini(&again);
    if (same)
        *ret = found;
    return same;
}

int identity_load(const char *dir, struct identity *ret) {
    char path[4096], text[IDENTITY_BYTES_MAX + 2];
    snprintf(path, sizeof path, "%s/" IDENTITY_NAME, dir);
    int rc = read_text(path, text, sizeof text);
    if (rc < 0)
        return rc;
    return identity_decode(slice_str(text), ret) ? 0 : -EBADMSG;
}

static int write_text(const char *path, struct slice text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    errno = ENOSPC; /* what a short write means */
    int rc = write(fd, text.data, text.size) != (ssize_t)text.size || fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

int identity_save(const char *dir, const struct identity *id) {
    char path[4096], temporary[4200];
    struct buf text = {0};
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return -errno;
    snprintf(path, sizeof path, "%s/" IDENTITY_NAME, dir);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    identity_encode(id, &text);
    int rc = write_text(temporary, buf_slice(&text));
    buf_fini(&text);
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    if (rc < 0)
        return rc;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
