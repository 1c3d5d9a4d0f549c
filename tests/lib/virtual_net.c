/* A network for tests: namespaces joined by a switch that can be told to lose and delay packets.
 *
 *   virtual_net COUNT [SEED]
 *
 * makes COUNT network namespaces (no names, nothing is left when this process ends), each with a
 * loopback and one TUN device, 10.77.0.1/24, 10.77.0.2/24 and so on. This process is what they are
 * plugged into: it reads each packet, looks up what holds for (from, to), and writes it to the
 * other end, later or never. It needs no packet filter, bridge or queueing discipline of the
 * kernel, only /dev/net/tun and CAP_NET_ADMIN with CAP_SYS_ADMIN.
 *
 * The first line of its output is "ready PID FD FD ...", in the order of the addresses: a program
 * enters the first namespace with `nsenter --net=/proc/PID/fd/FD`. Then it takes commands, a line
 * each, and answers each with "ok" when it holds, or with "error ...":
 *
 *   set FROM TO LOSS DELAY JITTER   from the FROM-th (1...) to the TO-th: lose LOSS packets of
 *                                   1,000, hold each back for DELAY and up to JITTER more
 *                                   microseconds. 1,000 cuts that direction.
 *   heal                            everything arrives at once again
 *   stats                           "ok FORWARDED LOST"
 *
 * Packets of one direction are never reordered: TCP would take that for loss, which can be had by
 * asking for it. A packet that is held back when a cut comes arrives all the same. The end of its
 * input ends the process, and with it the network.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/rand.h"

enum {
    ENDS_MAX = 16,
    MTU_BYTES = 1500,
    HELD_MAX = 4096, /* packets held back in one direction; more are lost, as in a real queue */
    FIRST_ADDRESS = 0x0a4d0001, /* 10.77.0.1 */
    PACKETS_A_TURN = 64,
};

struct held {
    struct held *next;
    uint64_t due_us;
    size_t size;
    uint8_t bytes[];
};
/* One direction between two ends. */
struct way {
    uint32_t loss_per_mille, delay_us, jitter_us;
    struct held *first, *last;
    uint32_t held_count;
};

static int ends[ENDS_MAX]; /* the TUN devices */
static int end_count;
static struct way ways[ENDS_MAX][ENDS_MAX];
static struct rand dice;
static uint64_t forwarded, lost;

static void die(const char *what) {
    fprintf(stderr, "virtual_net: %s: %s\n", what, strerror(errno));
    exit(errno == EPERM || errno == EACCES || errno == ENOENT || errno == ENODEV ? 77 : 1);
}

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- namespaces ---- */

static void interface_up(int fd, const char *name, uint32_t address) {
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (address) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
        memcpy(&request.ifr_addr, &in, sizeof in);
        if (ioctl(fd, SIOCSIFADDR, &request) < 0)
            die("setting an address");
        in.sin_addr.s_addr = htonl(0xffffff00);
        memcpy(&request.ifr_netmask, &in, sizeof in);
        if (ioctl(fd, SIOCSIFNETMASK, &request) < 0)
            die("setting a netmask");
        request.ifr_mtu = MTU_BYTES;
        if (ioctl(fd, SIOCSIFMTU, &request) < 0)
            die("setting the MTU");
    }
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        die("bringing an interface up");
}

/* Moves this process into a new namespace, and furnishes it. The device stays with it when the
 * process goes on to the next. Returns what the namespace is entered by. */
static int make_end(int i) {
    if (unshare(CLONE_NEWNET) < 0)
        die("no permission to make a network namespace");
    ends[i] = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (ends[i] < 0)
        die("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "wire");
    if (ioctl(ends[i], TUNSETIFF, &request) < 0)
        die("making a TUN device");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    interface_up(fd, "lo", 0);
    interface_up(fd, "wire", FIRST_ADDRESS + (uint32_t)i);
    close(fd);
    int namespace = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (namespace < 0)
        die("/proc/thread-self/ns/net");
    return namespace;
}

/* ---- packets ---- */

static void deliver(int to, const uint8_t *packet, size_t size) {
    /* A device whose queue is full loses packets, as wires do. */
    if (write(ends[to], packet, size) == (ssize_t)size)
        forwarded++;
    else
        lost++;
}

static void hold_back(struct way *w, const uint8_t *packet, size_t size) {
    if (w->held_count == HELD_MAX) {
        lost++;
        return;
    }
    struct held *h = xmalloc(sizeof *h + size);
    *h = (struct held){.due_us = now_us() + w->delay_us, .size = size};
    if (w->jitter_us)
        h->due_us += rand_below(&dice, w->jitter_us + 1);
    if (w->last && h->due_us < w->last->due_us)
        h->due_us = w->last->due_us;
    memcpy(h->bytes, packet, size);
    *(w->first ? &w->last->next : &w->first) = h;
    w->last = h;
    w->held_count++;
}

static void route(int from, const uint8_t *packet, size_t size) {
    uint32_t address;
    if (size < 20 || packet[0] >> 4 != 4)
        return; /* IPv6 speaks up by itself (RFC 4861); nobody here listens */
    memcpy(&address, packet + 16, sizeof address);
    uint32_t to = ntohl(address) - FIRST_ADDRESS;
    if (to >= (uint32_t)end_count)
        return;
    struct way *w = &ways[from][to];
    if (w->loss_per_mille && rand_below(&dice, 1000) < w->loss_per_mille)
        lost++;
    else if (w->delay_us || w->jitter_us || w->first)
        hold_back(w, packet, size);
    else
        deliver((int)to, packet, size);
}

static void take_packets(int from) {
    static uint8_t packet[65536];
    for (int i = 0; i < PACKETS_A_TURN; i++) {
        ssize_t n = read(ends[from], packet, sizeof packet);
        if (n <= 0)
            return;
        route(from, packet, (size_t)n);
    }
}

/* Delivers what is due. Returns when the next is, UINT64_MAX: nothing is held back. */
static uint64_t release_held(void) {
    uint64_t next = UINT64_MAX, now = now_us();
    for (int from = 0; from < end_count; from++)
        for (int to = 0; to < end_count; to++) {
            struct way *w = &ways[from][to];
            while (w->first && w->first->due_us <= now) {
                struct held *h = w->first;
                w->first = h->next;
                w->held_count--;
                if (!w->first)
                    w->last = NULL;
                deliver(to, h->bytes, h->size);
                free(h);
            }
            if (w->first && w->first->due_us < next)
                next = w->first->due_us;
        }
    return next;
}

/* ---- commands ---- */

static const char *obey(const char *line) {
    unsigned from, to, loss, delay, jitter;
    static char answer[64];
    if (strcmp(line, "heal") == 0) {
        for (int i = 0; i < end_count; i++)
            for (int k = 0; k < end_count; k++)
                ways[i][k].loss_per_mille = ways[i][k].delay_us = ways[i][k].jitter_us = 0;
        return "ok";
    }
    if (strcmp(line, "stats") == 0) {
        snprintf(answer, sizeof answer, "ok %llu %llu", (unsigned long long)forwarded,
                 (unsigned long long)lost);
        return answer;
    }
    if (sscanf(line, "set %u %u %u %u %u", &from, &to, &loss, &delay, &jitter) != 5)
        return "error not a command";
    if (from < 1 || from > (unsigned)end_count || to < 1 || to > (unsigned)end_count ||
        loss > 1000 || delay > 10000000 || jitter > 10000000)
        return "error out of range";
    struct way *w = &ways[from - 1][to - 1];
    w->loss_per_mille = loss;
    w->delay_us = delay;
    w->jitter_us = jitter;
    return "ok";
}

/* False at the end of the input. */
static bool take_commands(void) {
    static char in[4096];
    static size_t size;
    ssize_t n = read(STDIN_FILENO, in + size, sizeof in - size);
    if (n <= 0)
        return false;
    size += (size_t)n;
    char *end;
    while ((end = memchr(in, '\n', size))) {
        *end = '\0';
        printf("%s\n", obey(in));
        size_t taken = (size_t)(end - in) + 1;
        memmove(in, in + taken, size - taken);
        size -= taken;
    }
    fflush(stdout);
    return size < sizeof in;
}

int main(int argc, char **argv) {
    end_count = argc > 1 ? atoi(argv[1]) : 0;
    if (argc > 3 || end_count < 1 || end_count > ENDS_MAX) {
        fprintf(stderr, "usage: virtual_net COUNT [SEED]    (1 to %d)\n", ENDS_MAX);
        return 2;
    }
    dice.state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct pollfd fds[ENDS_MAX + 1];
    int namespaces[ENDS_MAX];
    for (int i = 0; i < end_count; i++) {
        namespaces[i] = make_end(i);
        fds[i] = (struct pollfd){.fd = ends[i], .events = POLLIN};
    }
    fds[end_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    printf("ready %d", (int)getpid());
    for (int i = 0; i < end_count; i++)
        printf(" %d", namespaces[i]);
    printf("\n");
    fflush(stdout);
    for (;;) {
        uint64_t next = release_held();
        uint64_t now = now_us();
        uint64_t wait_us = next == UINT64_MAX ? UINT64_MAX : next > now ? next - now : 0;
        struct timespec limit = {.tv_sec = (time_t)(wait_us / 1000000),
                                 .tv_nsec = (long)(wait_us % 1000000) * 1000};
        if (ppoll(fds, (nfds_t)end_count + 1, wait_us == UINT64_MAX ? NULL : &limit, NULL) < 0 &&
            errno != EINTR)
            die("poll");
        for (int i = 0; i < end_count; i++)
            if (fds[i].revents)
                take_packets(i);
        if (fds[end_count].revents && !take_commands())
            return 0;
    }
}
