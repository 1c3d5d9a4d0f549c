/* A node's data folder, used by somebody who is not the node. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli/cli.h"

int cli_lock_folder(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "cotidal: %s: %s\n", dir, strerror(errno));
        return -CLI_LOCAL;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (errno == EWOULDBLOCK)
        fprintf(stderr,
                "cotidal: %s is in use: stop the node that runs on it first. Nothing was changed\n",
                dir);
    else
        fprintf(stderr, "cotidal: %s: %s\n", dir, strerror(errno));
    int code = errno == EWOULDBLOCK ? CLI_REFUSED : CLI_LOCAL;
    close(fd);
    return -code;
}
