/* How long a change takes to reach everybody who watches its key: opens watchers of one key, stores
 * it some times, and measures from before each PUT to the moment at which each watcher has the
 * event.
 *
 *   watch_load ADDRESS PORT WATCHERS CHANGES
 *
 *   gcc -O2 -o watch_load bench/watch_load.c
 *
 * One process, one epoll loop, so that what it needs itself is in the times as well. Prints one
 * line of JSON: milliseconds over all watchers and changes. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 1024, PAUSE_MS = 300 };

static struct sockaddr_in server = {.sin_family = AF_INET};
static int loop;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int open_connection(void) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void say(int fd, const char *text) {
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        die("write");
}

/* Reads what is there; whether an event of that name is in it (events are small: one piece). */
static bool has_event(int fd, const char *name) {
    char text[16384];
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    if (n == 0)
        die("a watcher was disconnected");
    if (n < 0) {
        if (errno == EAGAIN)
            return false;
        die("recv");
    }
    text[n] = 0;
    return strstr(text, name) != NULL;
}

/* Waits until so many watchers have such an event; the times since begin_ms are appended. It looks
 * once a millisecond: a client that wakes up for each of them would take the time that the server
 * needs on the same machine. */
static size_t gather(size_t watchers, const char *name, double begin_ms, double *times) {
    struct epoll_event ready[EVENTS_MAX];
    size_t count = 0;
    while (count < watchers) {
        int n = epoll_wait(loop, ready, EVENTS_MAX, 0);
        if (n < 0 || now_ms() - begin_ms > 30000)
            die("not all watchers were told");
        if (n == 0)
            usleep(1000);
        for (int i = 0; i < n; i++)
            if (has_event(ready[i].data.fd, name))
                times[count++] = now_ms() - begin_ms;
    }
    return count;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 5 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) {
        fprintf(stderr, "usage: watch_load ADDRESS PORT WATCHERS CHANGES\n");
        return 2;
    }
    server.sin_port = htons((uint16_t)atoi(argv[2]));
    size_t watchers = (size_t)atol(argv[3]), changes = (size_t)atol(argv[4]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    double *times = calloc(watchers * (changes + 1), sizeof *times);
    loop = epoll_create1(0);
    for (size_t i = 0; i < watchers; i++) {
        int fd = open_connection();
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        say(fd, "GET /v1/watch?key=bench HTTP/1.1\r\nHost: bench\r\n\r\n");
        if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e))
            die("epoll_ctl");
    }
    gather(watchers, "event: progress", now_ms(), times);
    int writer = open_connection();
    size_t count = 0;
    for (size_t i = 0; i < changes; i++) {
        char answer[4096], request[256];
        usleep(PAUSE_MS * 1000);
        snprintf(request, sizeof request,
                 "PUT /v1/kv/bench HTTP/1.1\r\nHost: bench\r\nContent-Length: 10\r\n\r\n%010zu", i);
        double begin = now_ms();
        say(writer, request);
        count += gather(watchers, "event: put", begin, times + count);
        if (recv(writer, answer, sizeof answer, 0) <= 0)
            die("the answer to PUT");
    }
    qsort(times, count, sizeof *times, compare);
    printf("{\"watchers\": %zu, \"changes\": %zu, \"p50_ms\": %.1f, \"p99_ms\": %.1f, \"max_ms\": "
           "%.1f}\n",
           watchers, changes, times[count / 2], times[count * 99 / 100], times[count - 1]);
    free(times);
    return 0;
}
