/* A closed-loop load client for etcd's v3 API: gRPC over HTTP/2 without TLS, as etcd's own clients
 * speak it. N connections, each with one request on its way, over epoll on one thread. `cotidal
 * bench` drives all other systems; it does not speak gRPC.
 *
 *   etcd_load etcd set|get|get-stale ADDRESS[,ADDRESS...] CLIENTS SECONDS [bytes=100] [keys=10000]
 *        [fill=1]
 *
 * get-stale is a serializable Range. The connections are spread over the addresses. Keys are chosen
 * at random out of `keys`; fill=1 writes each of them once instead and ends. The first 300 ms are
 * not counted. Prints one line of JSON. It understands only as much of the protocol as it needs to
 * tell an answer from an error. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS_MAX = 4096, BUFFER_BYTES = 65536, SAMPLES_MAX = 8 << 20, WARM_UP_US = 300000 };

struct conn {
    int fd;
    uint64_t sent_us;
    int answers_left; /* of the request on its way */
    size_t in_size;
    uint8_t in[BUFFER_BYTES];
    /* HTTP/2 */
    uint32_t stream;
    bool data_seen;
    uint32_t received; /* bytes of DATA since the last WINDOW_UPDATE */
};

static struct {
    const char *operation;
    bool is_set;
    size_t value_bytes;
    uint64_t keys;
    bool fill;
} config = {.value_bytes = 100, .keys = 10000};

static uint64_t ops, errors, next_fill;
static uint32_t *samples;
static char value[BUFFER_BYTES / 4];
static uint64_t random_state = 88172645463325252ull;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* xorshift64 (Marsaglia 2003). */
static uint64_t random_u64(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void write_all(struct conn *c, const void *data, size_t size) {
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t n = write(c->fd, at, size);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue; /* a request fits into a socket's buffer: EAGAIN cannot last */
        if (n <= 0)
            die("write");
        at += n;
        size -= (size_t)n;
    }
}

/* ---- etcd: gRPC over HTTP/2 (RFC 9113), headers as literals that are never indexed (RFC 7541)
 * ---- */

enum {
    H2_DATA = 0,
    H2_HEADERS = 1,
    H2_RESET = 3,
    H2_SETTINGS = 4,
    H2_PING = 6,
    H2_GOAWAY = 7,
    H2_WINDOW_UPDATE = 8
};
enum { H2_END_STREAM = 1, H2_ACK = 1, H2_END_HEADERS = 4, H2_FRAME_HEADER_BYTES = 9 };

static size_t h2_frame(uint8_t *out, size_t size, uint8_t type, uint8_t flags, uint32_t stream) {
    const uint8_t header[H2_FRAME_HEADER_BYTES] = {(uint8_t)(size >> 16),
                                                   (uint8_t)(size >> 8),
                                                   (uint8_t)size,
                                                   type,
                                                   flags,
                                                   (uint8_t)(stream >> 24),
                                                   (uint8_t)(stream >> 16),
                                                   (uint8_t)(stream >> 8),
                                                   (uint8_t)stream};
    memcpy(out, header, sizeof header);
    return sizeof header;
}

static size_t hpack_literal(uint8_t *out, const char *name, const char *text) {
    size_t n = 0;
    out[n++] = 0x10; /* never indexed, new name; lengths below 127 take one byte */
    out[n++] = (uint8_t)strlen(name);
    n += (size_t)sprintf((char *)out + n, "%s", name);
    out[n++] = (uint8_t)strlen(text);
    n += (size_t)sprintf((char *)out + n, "%s", text);
    return n;
}

static size_t protobuf_bytes(uint8_t *out, uint8_t field, const char *data, size_t size) {
    size_t n = 0;
    out[n++] = (uint8_t)(field << 3 | 2);
    for (size_t left = size;; left >>= 7) {
        out[n++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
        if (left <= 0x7f)
            break;
    }
    memcpy(out + n, data, size);
    return n + size;
}

static void etcd_begin(struct conn *c) {
    uint8_t out[64];
    memcpy(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    size_t n = 24 + h2_frame(out + 24, 0, H2_SETTINGS, 0, 0);
    write_all(c, out, n);
    c->stream = (uint32_t)-1;
}

static size_t etcd_request(struct conn *c, const char *key, uint8_t *out) {
    c->answers_left = 1;
    c->data_seen = false;
    c->stream += 2;
    uint8_t *at = out + H2_FRAME_HEADER_BYTES;
    size_t n = 0;
    at[n++] = 0x83; /* :method POST */
    at[n++] = 0x86; /* :scheme http */
    n += hpack_literal(at + n, ":path",
                       config.is_set ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range");
    n += hpack_literal(at + n, ":authority", "bench");
    n += hpack_literal(at + n, "content-type", "application/grpc");
    n += hpack_literal(at + n, "te", "trailers");
    h2_frame(out, n, H2_HEADERS, H2_END_HEADERS, c->stream);
    uint8_t *frame = at + n;
    uint8_t *message = frame + H2_FRAME_HEADER_BYTES + 5;
    size_t m = protobuf_bytes(message, 1, key, strlen(key));
    if (config.is_set) {
        m += protobuf_bytes(message + m, 2, value, config.value_bytes);
    } else if (strcmp(config.operation, "get-stale") == 0) {
        message[m++] = 7 << 3; /* serializable = true */
        message[m++] = 1;
    }
    h2_frame(frame, m + 5, H2_DATA, H2_END_STREAM, c->stream);
    const uint8_t prefix[5] = {0, 0, 0, (uint8_t)(m >> 8), (uint8_t)m};
    memcpy(message - 5, prefix, sizeof prefix);
    return (size_t)(message + m - out);
}

/* Takes frames until one ends our stream. A unary call that failed ends without DATA. */
static size_t etcd_answer(struct conn *c, bool *ret_ok) {
    size_t at = 0;
    while (c->in_size - at >= H2_FRAME_HEADER_BYTES) {
        const uint8_t *f = c->in + at;
        size_t size = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];
        if (c->in_size - at < H2_FRAME_HEADER_BYTES + size)
            break;
        at += H2_FRAME_HEADER_BYTES + size;
        uint8_t out[64];
        if (f[3] == H2_SETTINGS && !(f[4] & H2_ACK)) {
            write_all(c, out, h2_frame(out, 0, H2_SETTINGS, H2_ACK, 0));
        } else if (f[3] == H2_PING && !(f[4] & H2_ACK)) {
            size_t n = h2_frame(out, 8, H2_PING, H2_ACK, 0);
            memcpy(out + n, f + H2_FRAME_HEADER_BYTES, 8);
            write_all(c, out, n + 8);
        } else if (f[3] == H2_DATA) {
            c->data_seen = true;
            c->received += (uint32_t)size;
            if (c->received > 16384) {
                size_t n = h2_frame(out, 4, H2_WINDOW_UPDATE, 0, 0);
                uint32_t increment = htonl(c->received);
                memcpy(out + n, &increment, 4);
                write_all(c, out, n + 4);
                c->received = 0;
            }
        } else if (f[3] == H2_GOAWAY || f[3] == H2_RESET) {
            *ret_ok = false;
            return at;
        }
        if ((f[3] == H2_HEADERS || f[3] == H2_DATA) && (f[4] & H2_END_STREAM)) {
            *ret_ok = c->data_seen;
            return at;
        }
    }
    /* Frames about the connection alone are taken; what is left is the beginning of another. */
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
    return 0;
}

/* ---- the loop ---- */

static const struct protocol {
    const char *name;
    void (*begin)(struct conn *c);
    size_t (*request)(struct conn *c, const char *key, uint8_t *out);
    size_t (*answer)(struct conn *c, bool *ret_ok);
} protocols[] = {
    {"etcd", etcd_begin, etcd_request, etcd_answer},
};
static const struct protocol *protocol;

static void send_next(struct conn *c) {
    static uint8_t out[BUFFER_BYTES];
    char key[32];
    if (config.fill && next_fill >= config.keys)
        return;
    uint64_t number = config.fill ? next_fill++ : random_u64() % config.keys;
    snprintf(key, sizeof key, "bench:%010llu", (unsigned long long)number);
    size_t size = protocol->request(c, key, out);
    c->sent_us = now_us();
    write_all(c, out, size);
}

static void on_readable(struct conn *c, uint64_t begin_us) {
    ssize_t n = read(c->fd, c->in + c->in_size, BUFFER_BYTES - c->in_size);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        die(n == 0 ? "the server closed a connection" : "read");
    c->in_size += (size_t)n;
    for (;;) {
        bool ok = false;
        size_t taken = protocol->answer(c, &ok);
        if (taken == 0)
            return;
        memmove(c->in, c->in + taken, c->in_size - taken);
        c->in_size -= taken;
        errors += !ok;
        if (--c->answers_left > 0)
            continue;
        uint64_t t = now_us();
        if (config.fill || t >= begin_us) {
            if (ops < SAMPLES_MAX)
                samples[ops] = (uint32_t)(t - c->sent_us);
            ops++;
        }
        send_next(c);
    }
}

static int connect_to(const char *address) {
    char host[64];
    const char *colon = strrchr(address, ':');
    if (!colon || (size_t)(colon - address) >= sizeof host)
        die(address);
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    inet_pton(AF_INET, host, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        die(address);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}

static int compare_samples(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_result(double seconds) {
    size_t n = ops < SAMPLES_MAX ? ops : SAMPLES_MAX;
    qsort(samples, n, sizeof *samples, compare_samples);
    printf(
        "{\"ops\": %llu, \"seconds\": %.3f, \"per_second\": %.1f, \"p50_us\": %u, \"p99_us\": %u, "
        "\"errors\": %llu}\n",
        (unsigned long long)ops, seconds, (double)ops / seconds, n ? samples[n / 2] : 0,
        n ? samples[n * 99 / 100] : 0, (unsigned long long)errors);
}

static void parse_setting(const char *word) {
    if (sscanf(word, "bytes=%zu", &config.value_bytes) == 1)
        return;
    unsigned long long number;
    if (sscanf(word, "keys=%llu", &number) == 1)
        config.keys = number;
    else if (sscanf(word, "fill=%llu", &number) == 1)
        config.fill = number != 0;
    else
        die(word);
}

static void run(struct conn *conns, int clients, double seconds) {
    int poll = epoll_create1(0);
    uint64_t start_us = now_us();
    uint64_t begin_us = start_us + WARM_UP_US;
    uint64_t end_us = begin_us + (uint64_t)(seconds * 1e6);
    for (int i = 0; i < clients; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &conns[i]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, conns[i].fd, &event) < 0)
            die("epoll");
        if (protocol->begin)
            protocol->begin(&conns[i]);
        send_next(&conns[i]);
    }
    while (config.fill ? ops < config.keys : now_us() < end_us) {
        struct epoll_event events[256];
        int n = epoll_wait(poll, events, 256, 1000);
        for (int i = 0; i < n; i++)
            on_readable(events[i].data.ptr, begin_us);
    }
    uint64_t counted_from = config.fill ? start_us : begin_us;
    print_result((double)(now_us() - counted_from) / 1e6);
    close(poll);
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "usage: load etcd set|get|get-stale ADDRESS,... CLIENTS SECONDS "
                        "[bytes=N] [keys=N] [fill=1]\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
        if (strcmp(protocols[i].name, argv[1]) == 0)
            protocol = &protocols[i];
    config.operation = argv[2];
    config.is_set = strcmp(argv[2], "set") == 0;
    char *addresses[16];
    int address_count = 0;
    for (char *a = strtok(argv[3], ","); a && address_count < 16; a = strtok(NULL, ","))
        addresses[address_count++] = a;
    int clients = atoi(argv[4]);
    for (int i = 6; i < argc; i++)
        parse_setting(argv[i]);
    if (!protocol || clients < 1 || clients > CLIENTS_MAX || config.value_bytes > sizeof value)
        die("out of range");
    memset(value, 'x', sizeof value);
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    struct conn *conns = calloc((size_t)clients, sizeof *conns);
    if (!samples || !conns)
        die("memory");
    for (int i = 0; i < clients; i++)
        conns[i].fd = connect_to(addresses[i % address_count]);
    run(conns, clients, atof(argv[5]));
    for (int i = 0; i < clients; i++)
        close(conns[i].fd);
    free(conns);
    free(samples);
    return errors > 0;
}
