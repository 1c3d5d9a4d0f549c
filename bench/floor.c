/* What nothing durable on three nodes of this machine can beat, for one client: three processes
 * that only read, flush and answer. No consensus, no table.
 *
 *   floor FOLDER SECONDS
 *
 *   client --TCP--> leader --TCP--> follower, follower
 *
 * The leader forwards each request of 100 bytes, writes 4 KiB into a file that was filled with
 * zeros and flushes it, as both followers do at the same time, and answers when its own flush and
 * that of one follower are done. Prints one line of JSON. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES = 100, BLOCK_BYTES = 4096, FILE_BLOCKS = 2048, SAMPLES_MAX = 1 << 20 };

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Both ends of one TCP connection over loopback. */
static void tcp_pair(int ret_fds[2]) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ret_fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&a, &size) < 0 ||
        connect(ret_fds[0], (struct sockaddr *)&a, sizeof a) < 0 ||
        (ret_fds[1] = accept(listener, NULL, NULL)) < 0)
        die("tcp");
    close(listener);
    for (int i = 0; i < 2; i++)
        setsockopt(ret_fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* False at the end of the stream. */
static int read_request(int fd, char *request) {
    for (size_t at = 0; at < REQUEST_BYTES;) {
        ssize_t n = read(fd, request + at, REQUEST_BYTES - at);
        if (n <= 0)
            return 0;
        at += (size_t)n;
    }
    return 1;
}

static void send_request(int fd, const char *request) {
    if (write(fd, request, REQUEST_BYTES) != REQUEST_BYTES)
        exit(0); /* the other end has gone: the run is over */
}

static int open_file(const char *folder, int number) {
    char path[4096];
    static char zeros[BLOCK_BYTES];
    snprintf(path, sizeof path, "%s/floor%d", folder, number);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < FILE_BLOCKS; i++)
        if (pwrite(fd, zeros, BLOCK_BYTES, (off_t)i * BLOCK_BYTES) != BLOCK_BYTES)
            die(path);
    if (fsync(fd) < 0)
        die(path);
    unlink(path);
    return fd;
}

static void flush_block(int fd, uint64_t i) {
    static char block[BLOCK_BYTES];
    memset(block, (int)(i & 0xff), sizeof block);
    if (pwrite(fd, block, sizeof block, (off_t)(i % FILE_BLOCKS) * BLOCK_BYTES) != BLOCK_BYTES ||
        fdatasync(fd) < 0)
        die("flush");
}

static void follow(int leader, int file) {
    char request[REQUEST_BYTES];
    for (uint64_t i = 0; read_request(leader, request); i++) {
        flush_block(file, i);
        send_request(leader, request);
    }
    exit(0);
}

static void lead(int client, int followers[2], int file) {
    char request[REQUEST_BYTES], answer[REQUEST_BYTES];
    uint64_t acked[2] = {0, 0};
    for (uint64_t i = 0; read_request(client, request); i++) {
        send_request(followers[0], request);
        send_request(followers[1], request);
        flush_block(file, i);
        while (acked[0] <= i && acked[1] <= i) {
            struct pollfd polls[2] = {{.fd = followers[0], .events = POLLIN},
                                      {.fd = followers[1], .events = POLLIN}};
            if (poll(polls, 2, -1) < 0)
                die("poll");
            for (int f = 0; f < 2; f++)
                if (polls[f].revents && read_request(followers[f], answer))
                    acked[f]++;
        }
        send_request(client, request);
    }
    exit(0);
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: floor FOLDER SECONDS\n");
        return 2;
    }
    int client[2], links[2][2], files[3];
    tcp_pair(client);
    for (int i = 0; i < 2; i++)
        tcp_pair(links[i]);
    for (int i = 0; i < 3; i++)
        files[i] = open_file(argv[1], i);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid > 0)
            continue;
        /* Only the ends of its own stay open, so that each sees the end of the one before. */
        close(client[0]);
        if (i < 2) {
            int own = links[i][1];
            close(client[1]);
            close(links[0][0]);
            close(links[1][0]);
            close(links[1 - i][1]);
            follow(own, files[i]);
        }
        close(links[0][1]);
        close(links[1][1]);
        lead(client[1], (int[2]){links[0][0], links[1][0]}, files[2]);
    }
    close(client[1]);
    for (int i = 0; i < 2; i++) {
        close(links[i][0]);
        close(links[i][1]);
    }
    uint32_t *samples = malloc(SAMPLES_MAX * sizeof *samples);
    size_t count = 0;
    char request[REQUEST_BYTES] = "x";
    uint64_t begin = now_ns(), end = begin + (uint64_t)(atof(argv[2]) * 1e9);
    for (uint64_t t = begin; t < end && count < SAMPLES_MAX;) {
        send_request(client[0], request);
        if (!read_request(client[0], request))
            die("the leader has gone");
        uint64_t done = now_ns();
        samples[count++] = (uint32_t)((done - t) / 1000);
        t = done;
    }
    close(client[0]);
    while (wait(NULL) > 0)
        ;
    qsort(samples, count, sizeof *samples, compare);
    printf("{\"per_second\": %.1f, \"p50_us\": %u, \"p99_us\": %u}\n",
           (double)count / ((double)(now_ns() - begin) / 1e9), samples[count / 2],
           samples[count * 99 / 100]);
    free(samples);
    return 0;
}
