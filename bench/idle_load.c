/* Very many connections to one HTTP server on this machine, that do nothing, or next to nothing.
 *
 *   idle_load HOST:PORT CONNECTIONS [mode=MODE] [path=/] [per=18000] [window=256]
 *
 * A process may have so many descriptors only, and an address so many ports: the connections are
 * shared out over child processes of `per` each, and child i connects from 127.1.i.1 to .200.
 *
 *   idle    one request answered, then silence (the default)
 *   silent  connect, say nothing
 *   half    the first half of a head, then silence
 *   drip    the same, and one more header field every second (slow-loris)
 *   unread  ask for `path` again and again, and read nothing
 *
 * Prints "open N seconds S" when all stand (idle: and are answered), then obeys lines of its
 * standard input: "ask" sends one request on every connection, from all children at once, and
 * prints "answered N seconds S closed C"; "count" prints "alive N". At its end, or at "end", it
 * closes everything. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { CHILDREN_MAX = 250, EVENTS = 256, DRIP_MS = 1000, ATTEMPTS = 20 };
/* Of a child: the kernel looks for a free port by trying, which takes long when most are taken. */
enum { ADDRESSES = 200 };
enum mode { IDLE, SILENT, HALF, DRIP, UNREAD };
static const char *const mode_names[] = {"idle", "silent", "half", "drip", "unread"};

static struct sockaddr_in server;
static enum mode mode;
static char request[1024];
static const char half[] = "GET / HTTP/1.1\r\nHost: example.org\r\nX-Half: ";

struct child {
    int number, epoll;
    size_t count, open, alive;
    int *fds; /* -1: closed */
    bool *waits;
    size_t waiting, answered, closed;
    uint64_t drip_ms;
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Blocking, since on loopback it takes no time; a full backlog is tried again. */
static int connect_from(int number, size_t nth) {
    const int on = 1;
    uint32_t address = 0x7f010001u + ((uint32_t)number << 8) + (uint32_t)(nth % ADDRESSES);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    for (int i = 0; i < ATTEMPTS; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            die("socket");
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0)
            die("bind");
        if (connect(fd, (struct sockaddr *)&server, sizeof server) == 0) {
            fcntl(fd, F_SETFL, O_NONBLOCK);
            return fd;
        }
        close(fd);
        usleep(20000);
    }
    die("connect");
    return -1;
}

static void drop(struct child *c, size_t i) {
    close(c->fds[i]);
    c->fds[i] = -1;
    c->alive--;
    c->closed++;
    c->waiting -= c->waits[i];
    c->waits[i] = false;
}

static void say(struct child *c, size_t i, const char *bytes, size_t size) {
    if (c->fds[i] >= 0 && send(c->fds[i], bytes, size, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        drop(c, i);
}

static void ask(struct child *c, size_t i) {
    if (c->fds[i] < 0)
        return;
    c->waits[i] = true;
    c->waiting++;
    say(c, i, request, strlen(request));
}

/* An answer is taken for whole when bytes of it came: they are small. */
static void take(struct child *c, size_t i) {
    static char bytes[65536];
    ssize_t n = recv(c->fds[i], bytes, sizeof bytes, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        drop(c, i);
    } else if (n > 0 && c->waits[i]) {
        c->waits[i] = false;
        c->waiting--;
        c->answered++;
    }
}

/* Handles what comes for so long, at most. */
static void turn(struct child *c, int ms) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(c->epoll, events, EVENTS, ms);
    for (int k = 0; k < n; k++)
        if (c->fds[events[k].data.u64] >= 0 && mode == UNREAD)
            drop(c, events[k].data.u64); /* it asked for the other end's end only */
        else if (c->fds[events[k].data.u64] >= 0)
            take(c, events[k].data.u64);
}

static void open_one(struct child *c) {
    size_t i = c->open++;
    c->fds[i] = connect_from(c->number, i);
    c->alive++;
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = i};
    if (mode == UNREAD)
        e.events = EPOLLRDHUP;
    if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->fds[i], &e) < 0)
        die("epoll_ctl");
    if (mode == IDLE)
        ask(c, i);
    else if (mode == HALF || mode == DRIP)
        say(c, i, half, strlen(half));
    for (int n = 0; mode == UNREAD && n < 8; n++)
        say(c, i, request, strlen(request));
}

static void drip(struct child *c) {
    double now = now_s();
    if (mode != DRIP || (uint64_t)(now * 1000) < c->drip_ms)
        return;
    c->drip_ms = (uint64_t)(now * 1000) + DRIP_MS;
    for (size_t i = 0; i < c->open; i++)
        say(c, i, "x\r\nX-More: ", 11);
}

/* Reads one word from the parent: 'a'sk, 'c'ount, or the end. */
static bool obey(struct child *c, int in, int out, size_t window) {
    char word;
    ssize_t n = recv(in, &word, 1, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0 || word == 'e')
        return false;
    uint64_t reply[2] = {c->alive, c->closed};
    if (word == 'a') {
        c->answered = 0;
        for (size_t i = 0; i < c->open; i++) {
            ask(c, i);
            while (c->waiting > window)
                turn(c, 100);
        }
        for (double end = now_s() + 30; c->waiting > 0 && now_s() < end;)
            turn(c, 100);
        reply[0] = c->answered;
        reply[1] = c->closed;
    }
    if (write(out, reply, sizeof reply) != sizeof reply)
        die("write");
    return true;
}

static void child_main(struct child *c, int fd, size_t window) {
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->fds = calloc(c->count, sizeof *c->fds);
    c->waits = calloc(c->count, sizeof *c->waits);
    while (c->open < c->count) {
        open_one(c);
        turn(c, 0);
        while (c->waiting > window)
            turn(c, 100);
        drip(c);
    }
    for (double end = now_s() + 30; c->waiting > 0 && now_s() < end;)
        turn(c, 100);
    uint64_t reply[2] = {c->alive - c->waiting, c->closed};
    if (write(fd, reply, sizeof reply) != sizeof reply)
        die("write");
    while (obey(c, fd, fd, window)) {
        turn(c, 50);
        drip(c);
    }
    exit(0);
}

static void parse_options(int argc, char **argv, size_t *per, size_t *window) {
    char path[512] = "/";
    for (int i = 3; i < argc; i++) {
        if (strncmp(argv[i], "path=", 5) == 0)
            snprintf(path, sizeof path, "%s", argv[i] + 5);
        else if (strncmp(argv[i], "per=", 4) == 0)
            *per = strtoul(argv[i] + 4, NULL, 10);
        else if (strncmp(argv[i], "window=", 7) == 0)
            *window = strtoul(argv[i] + 7, NULL, 10);
        for (size_t m = 0; m < sizeof mode_names / sizeof mode_names[0]; m++)
            if (strncmp(argv[i], "mode=", 5) == 0 && strcmp(argv[i] + 5, mode_names[m]) == 0)
                mode = (enum mode)m;
    }
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: example.org\r\n\r\n", path);
}

static int talk[CHILDREN_MAX];
static size_t child_count;

/* The sums of what all children reply. */
static void gather(const char *what, double began, const char *tail) {
    uint64_t sum[2] = {0};
    for (size_t i = 0; i < child_count; i++) {
        uint64_t reply[2];
        if (read(talk[i], reply, sizeof reply) != sizeof reply) {
            fprintf(stderr, "idle_load: child %zu is gone\n", i);
            exit(1);
        }
        sum[0] += reply[0];
        sum[1] += reply[1];
    }
    printf("%s %llu seconds %.3f", what, (unsigned long long)sum[0], now_s() - began);
    printf(tail, (unsigned long long)sum[1]);
    fflush(stdout);
}

static void order(char word) {
    for (size_t i = 0; i < child_count; i++)
        if (write(talk[i], &word, 1) != 1)
            die("write");
}

int main(int argc, char **argv) {
    size_t per = 18000, window = 256, total = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    char *colon = argc > 2 ? strrchr(argv[1], ':') : NULL;
    if (!colon || total == 0) {
        fprintf(stderr, "usage: idle_load HOST:PORT CONNECTIONS [mode=...] [path=...] [per=...]\n");
        return 2;
    }
    *colon = 0;
    server = (struct sockaddr_in){.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(colon + 1)),
                                  .sin_addr.s_addr = inet_addr(argv[1])};
    parse_options(argc, argv, &per, &window);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    double began = now_s();
    for (size_t left = total; left > 0 && child_count < CHILDREN_MAX; child_count++) {
        struct child c = {.number = (int)child_count, .count = left < per ? left : per};
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
            die("socketpair");
        left -= c.count;
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            for (size_t i = 0; i < child_count; i++)
                close(talk[i]);
            close(fds[0]);
            child_main(&c, fds[1], window);
        }
        close(fds[1]);
        talk[child_count] = fds[0];
    }
    gather("open", began, " closed %llu\n");
    char line[64];
    while (fgets(line, sizeof line, stdin) && strncmp(line, "end", 3) != 0) {
        began = now_s();
        order(line[0]);
        gather(line[0] == 'a' ? "answered" : "alive", began, " closed %llu\n");
    }
    order('e');
    while (wait(NULL) > 0)
        ;
    return 0;
}
