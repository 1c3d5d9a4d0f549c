/* What nothing durable on three nodes of this machine can beat: three processes that only read,
 * flush and answer. No consensus, no table, no parser.
 *
 *   floor FOLDER
 *
 *   clients --TCP--> leader --TCP--> follower, follower
 *
 * The leader prints its port. What has come from all clients it sends to both followers as one
 * batch, writes it into a file that was filled with zeros, and flushes; so do both followers at the
 * same time. When its own flush and that of one follower are done each client gets "+OK". It takes
 * what one read returns for one request, so clients must not pipeline. SIGTERM ends it. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BLOCK_BYTES = 4096,
    FILE_BYTES = 8 * 1024 * 1024,
    BATCH_BYTES = 1024 * 1024,
    REQUEST_BYTES = 16 * 1024,
    EVENTS = 2048,
    FOLLOWERS = 2,
};

struct block {
    uint32_t size; /* of bytes */
    uint8_t bytes[BATCH_BYTES];
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int tcp_listen(struct sockaddr_in *ret_address) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &size) < 0)
        die("listen");
    *ret_address = a;
    return fd;
}

static void no_delay(int fd) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* Both ends of one TCP connection over loopback. */
static void tcp_pair(int ret_fds[2]) {
    struct sockaddr_in a;
    int listener = tcp_listen(&a);
    ret_fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (ret_fds[0] < 0 || connect(ret_fds[0], (struct sockaddr *)&a, sizeof a) < 0 ||
        (ret_fds[1] = accept(listener, NULL, NULL)) < 0)
        die("tcp");
    close(listener);
    no_delay(ret_fds[0]);
    no_delay(ret_fds[1]);
}

/* False at the end of the stream. */
static int read_all(int fd, void *out, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        ssize_t n = read(fd, (uint8_t *)out + at, bytes - at);
        if (n <= 0)
            return 0;
        at += (size_t)n;
    }
    return 1;
}

static void write_all(int fd, const void *in, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        ssize_t n = write(fd, (const uint8_t *)in + at, bytes - at);
        if (n <= 0)
            exit(0); /* the other end has gone: the run is over */
        at += (size_t)n;
    }
}

static int open_file(const char *folder, int number) {
    char path[4096];
    static char zeros[BLOCK_BYTES];
    snprintf(path, sizeof path, "%s/floor%d", folder, number);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (int at = 0; at < FILE_BYTES; at += BLOCK_BYTES)
        if (pwrite(fd, zeros, BLOCK_BYTES, at) != BLOCK_BYTES)
            die(path);
    if (fsync(fd) < 0)
        die(path);
    unlink(path);
    return fd;
}

static void flush_block(int fd, const struct block *b) {
    static uint64_t at;
    if (at + b->size > FILE_BYTES)
        at = 0;
    if (pwrite(fd, b->bytes, b->size, (off_t)at) != (ssize_t)b->size || fdatasync(fd) < 0)
        die("flush");
    at += b->size;
}

static struct block block;

static void follow(int leader, int file) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read_all(leader, &block.size, sizeof block.size) &&
           read_all(leader, block.bytes, block.size)) {
        flush_block(file, &block);
        write_all(leader, &block.size, sizeof block.size);
    }
    exit(0);
}

struct leader {
    int epoll;
    int listener;
    int followers[FOLLOWERS];
    int file;
    uint64_t sent, acked[FOLLOWERS]; /* batches */
    int count;                       /* clients in the batch */
    int clients[EVENTS];
};

static void watch(struct leader *l, int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e) < 0)
        die("epoll_ctl");
}

static void take_request(struct leader *l, int fd) {
    ssize_t n = read(fd, block.bytes + block.size, REQUEST_BYTES);
    if (n <= 0) {
        close(fd);
        return;
    }
    block.size += (uint32_t)n;
    l->clients[l->count++] = fd;
}

static void await_majority(struct leader *l) {
    while (l->acked[0] < l->sent && l->acked[1] < l->sent) {
        struct pollfd polls[FOLLOWERS];
        for (int f = 0; f < FOLLOWERS; f++)
            polls[f] = (struct pollfd){.fd = l->followers[f], .events = POLLIN};
        if (poll(polls, FOLLOWERS, -1) < 0)
            die("poll");
        for (int f = 0; f < FOLLOWERS; f++) {
            uint32_t ack;
            if (!polls[f].revents)
                continue;
            if (!read_all(l->followers[f], &ack, sizeof ack))
                exit(0);
            l->acked[f]++;
        }
    }
}

static void commit(struct leader *l) {
    for (int f = 0; f < FOLLOWERS; f++)
        write_all(l->followers[f], &block, sizeof block.size + block.size);
    l->sent++;
    flush_block(l->file, &block);
    await_majority(l);
    for (int i = 0; i < l->count; i++)
        write_all(l->clients[i], "+OK\r\n", 5);
    l->count = 0;
    block.size = 0;
}

static void lead(struct leader *l) {
    static struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(l->epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == l->listener) {
                fd = accept(l->listener, NULL, NULL);
                no_delay(fd);
                watch(l, fd);
                continue;
            }
            if (block.size + REQUEST_BYTES > BATCH_BYTES)
                commit(l);
            take_request(l, fd);
        }
        if (l->count > 0)
            commit(l);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: floor FOLDER\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct leader l = {.epoll = epoll_create1(0), .file = open_file(argv[1], 0)};
    for (int i = 0; i < FOLLOWERS; i++) {
        int pair[2], file = open_file(argv[1], i + 1);
        tcp_pair(pair);
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            close(pair[0]);
            follow(pair[1], file);
        }
        close(pair[1]);
        close(file);
        l.followers[i] = pair[0];
    }
    struct sockaddr_in a;
    l.listener = tcp_listen(&a);
    watch(&l, l.listener);
    printf("%u\n", ntohs(a.sin_port));
    fflush(stdout);
    lead(&l);
}
