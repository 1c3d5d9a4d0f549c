/* A steady load over both protocols that writes down what it asked and what it was told.
 *
 *   load HISTORY name=value...
 *     http=ADDR:PORT,... redis=ADDR:PORT,...   where the nodes listen, in the same order
 *     connections=50   of each protocol, spread over the nodes
 *     interval=20      milliseconds between the requests of a connection
 *     burst=1          how many operations a connection sends at once
 *     mix=incr|all     increments only, or all of them with appends, registers and reads
 *     prefix=          of every key
 *     seed=1           decides which operations
 *
 * The pace does not follow the answers (open loop), but for one thing: a connection asks nothing
 * while it waits. So a pause is seen as one long answer on each connection. A connection that
 * breaks is made anew after 100 ms, and that is noted.
 *
 * It prints "ready" when every connection has had an answer. At the end of its input it stops
 * asking, waits for what is under way, reads every key once more, and prints a line of JSON: how
 * many operations had which outcome. tests/sim/judge reads the history; its header has the format.
 * Besides the operations there are lines of comment for programs:
 *
 *   # client CLIENT PROTOCOL ADDRESS
 *   # broken CLIENT TIME WHY            the connection ended (TIME as in operations)
 *   # error CLIENT TIME TEXT            an answer that was an error, in its own words
 *   # malformed CLIENT TIME TEXT        an answer that is not the protocol's
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/rand.h"
#include "load.h"

enum {
    CONNECTIONS_MAX = 1024,
    NODES_MAX = 16,
    COUNTERS = 4,
    GROUP = 4, /* connections that share a register, which bounds what the judge must try */
    TEXT_GROUP = 10,
    REGISTER_OPS = 100, /* then the group takes another: the judge's search has an end */
    TEXT_APPENDS = 150,
    RECONNECT_MS = 100,
    GIVE_UP_MS = 40000, /* an answer that is this late never comes */
};

/* One connection. CONNECTING and OPEN have a socket. */
enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_OPEN };
struct conn {
    int number;
    bool http;
    struct sockaddr_in address;
    enum conn_state state;
    int fd;
    bool answered_once;
    uint64_t due_ns; /* DOWN: to connect; OPEN: to ask next */
    struct op ops[BURST_MAX];
    int op_count, op_answered;
    uint64_t appended;
    /* What a compare-and-set can be based on. */
    bool seen;
    bool watching;
    char seen_key[KEY_BYTES];
    char seen_etag[ETAG_BYTES];
    uint64_t seen_value;
    size_t in_size;
    uint8_t in[IN_BYTES];
};
/* A key that a group of connections uses up. */
struct series {
    int used, epoch;
};

static struct {
    int connections, interval_ms, burst;
    bool all;
    const char *prefix;
} config = {.connections = 50, .interval_ms = 20, .burst = 1, .prefix = ""};

static struct conn *conns;
static int conn_count;
static int answered_conns;
static struct series registers[CONNECTIONS_MAX / GROUP + 1],
    texts[CONNECTIONS_MAX / TEXT_GROUP + 1];
static struct rand dice;
static uint64_t next_value;
static FILE *history;
static int poller;
static uint64_t outcomes[3], errors, breaks;

/* After the end of the input: every key that was used is read once. */
static enum { RUNNING, DRAINING, READING, DONE } stage;
static struct {
    enum op_kind kind;
    int series, epoch;
} cursor;
static struct op again[CONNECTIONS_MAX]; /* of these reads, those that had no answer */
static int again_count;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- what is written down ---- */

static void note_text(const char *what, const struct conn *c, const uint8_t *text, size_t size) {
    fprintf(history, "# %s %d %llu ", what, c->number, (unsigned long long)now_ns());
    for (size_t i = 0; i < size && i < 400; i++)
        fputc(text[i] < ' ' || text[i] > '~' ? '?' : text[i], history);
    fprintf(history, "\n");
}

static void note(const struct conn *c, const struct op *op, const struct answer *a) {
    static const char *const names[] = {
#define X(kind, name, writes) name,
        OPERATIONS(X)
#undef X
    };
    static const char *const outcome_names[] = {"ok", "no", "unknown"};
    bool ok = a->outcome == OUTCOME_OK;
    outcomes[a->outcome]++;
    if (stage == READING && !ok)
        again[again_count++] = *op;
    fprintf(history, "%d %llu %llu %s %s %s", c->number, (unsigned long long)op->start_ns,
            (unsigned long long)now_ns(), outcome_names[a->outcome], names[op->kind], op->key);
    if (op->kind == OP_APPEND)
        fprintf(history, " %s", op->id);
    if (op->kind == OP_CAS)
        fprintf(history, " %llu", (unsigned long long)op->old);
    if (op->kind == OP_CAS || op->kind == OP_WRITE)
        fprintf(history, " %llu", (unsigned long long)op->value);
    if (ok && op->kind == OP_CAS)
        fprintf(history, " %d", a->taken);
    else if (ok && op->kind == OP_TEXT)
        fprintf(history, " %zu %.*s", a->text_size, (int)a->text_size, (const char *)a->text);
    else if (ok && op->kind != OP_WRITE)
        fprintf(history, " %llu", (unsigned long long)a->number);
    fprintf(history, "\n");
    if (a->failed) {
        errors++;
        note_text("error", c, a->text, a->text_size);
    }
}

static bool op_writes(const struct op *op) {
    static const bool writes[] = {
#define X(kind, name, changes) changes,
        OPERATIONS(X)
#undef X
    };
    return writes[op->kind];
}

/* ---- what is asked ---- */

static void key_of(struct op *op, char letter, int series, int epoch) {
    snprintf(op->key, sizeof op->key, "%s%c%d.%d", config.prefix, letter, series, epoch);
}

static void use_register(struct conn *c, struct op *op) {
    struct series *s = &registers[c->number / GROUP];
    if (s->used++ == REGISTER_OPS) {
        s->used = 1;
        s->epoch++;
    }
    key_of(op, 'r', c->number / GROUP, s->epoch);
    bool based = c->seen && strcmp(op->key, c->seen_key) == 0;
    if (op->kind == OP_CAS && !based) {
        op->kind = OP_READ;
        op->watch = !c->http && config.burst == 1;
    }
    if (op->kind == OP_CAS) {
        op->old = c->seen_value;
        memcpy(op->etag, c->seen_etag, sizeof op->etag);
        c->seen = false;
    }
    if (op->kind != OP_READ)
        op->value = ++next_value;
}

static void use_text(struct conn *c, struct op *op) {
    struct series *s = &texts[c->number / TEXT_GROUP];
    if (op->kind == OP_APPEND && s->used++ == TEXT_APPENDS) {
        s->used = 1;
        s->epoch++;
    }
    key_of(op, 't', c->number / TEXT_GROUP, s->epoch);
    if (op->kind == OP_APPEND)
        snprintf(op->id, sizeof op->id, "%d.%llu;", c->number, (unsigned long long)c->appended++);
}

static void choose(struct conn *c, struct op *op) {
    *op = (struct op){.kind = OP_INCR};
    /* What is watched must not wait: a pair of WATCH and EXEC has nothing in between. */
    if (c->watching && c->seen) {
        op->kind = OP_CAS;
        use_register(c, op);
        return;
    }
    uint64_t lot = config.all ? rand_below(&dice, 100) : 0;
    if (lot < 35) {
        key_of(op, 'c', (int)rand_below(&dice, COUNTERS), 0);
    } else if (lot < 45) {
        op->kind = OP_COUNT;
        key_of(op, 'c', (int)rand_below(&dice, COUNTERS), 0);
    } else if (lot < 70) {
        op->kind = lot < 65 ? OP_APPEND : OP_TEXT;
        use_text(c, op);
    } else {
        /* Pipelined commands cannot be based on an answer. */
        op->kind = lot < 78                                     ? OP_READ
                   : lot < 82 || (config.burst > 1 && !c->http) ? OP_WRITE
                                                                : OP_CAS;
        use_register(c, op);
    }
}

/* The next of the last reads; false when all were taken. */
static bool choose_last(struct op *op) {
    if (again_count > 0) {
        *op = again[--again_count];
        return true;
    }
    *op = (struct op){.kind = cursor.kind};
    if (cursor.kind == OP_COUNT) {
        key_of(op, 'c', cursor.series, 0);
        if (++cursor.series == COUNTERS) {
            cursor.kind = config.all ? OP_TEXT : OP_WRITE;
            cursor.series = 0;
        }
        return true;
    }
    bool is_text = cursor.kind == OP_TEXT;
    if (!is_text && cursor.kind != OP_READ)
        return false;
    int group = is_text ? TEXT_GROUP : GROUP;
    const struct series *s = &(is_text ? texts : registers)[cursor.series];
    key_of(op, is_text ? 't' : 'r', cursor.series, cursor.epoch);
    if (++cursor.epoch > s->epoch) {
        cursor.epoch = 0;
        if (++cursor.series * group >= conn_count) {
            cursor.series = 0;
            cursor.kind = is_text ? OP_READ : OP_WRITE;
        }
    }
    return true;
}

/* ---- connections ---- */

static void conn_down(struct conn *c, const char *why) {
    if (c->state == CONN_OPEN) {
        breaks++;
        fprintf(history, "# broken %d %llu %s\n", c->number, (unsigned long long)now_ns(), why);
    }
    for (; c->op_answered < c->op_count; c->op_answered++) {
        const struct op *op = &c->ops[c->op_answered];
        struct answer a = {.outcome = op_writes(op) ? OUTCOME_UNKNOWN : OUTCOME_NO};
        note(c, op, &a);
    }
    close(c->fd);
    c->state = CONN_DOWN;
    c->op_count = c->op_answered = 0;
    c->in_size = 0;
    c->seen = c->watching = false;
    c->due_ns = now_ns() + RECONNECT_MS * 1000000ull;
}

static void conn_up(struct conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    c->state = CONN_CONNECTING;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0)
        die("epoll");
    if (connect(c->fd, (struct sockaddr *)&c->address, sizeof c->address) < 0 &&
        errno != EINPROGRESS)
        conn_down(c, "connect");
}

static void conn_connected(struct conn *c) {
    int error = 0;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
    if (error) {
        conn_down(c, "connect");
        return;
    }
    c->state = CONN_OPEN;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) < 0)
        die("epoll");
    /* Spread over the interval, so that the load is even. */
    c->due_ns = now_ns() + rand_below(&dice, (uint64_t)config.interval_ms * 1000000);
}

static void ask(struct conn *c, uint64_t now) {
    char out[BURST_MAX * 512];
    size_t size = 0;
    int burst = stage == RUNNING ? config.burst : 1;
    c->op_count = c->op_answered = 0;
    for (int i = 0; i < burst; i++) {
        struct op *op = &c->ops[c->op_count];
        if (stage == RUNNING)
            choose(c, op);
        else if (!choose_last(op))
            break;
        char bytes[OUT_BYTES];
        size_t n = c->http ? http_request(op, bytes) : redis_request(op, bytes);
        CHECK(size + n <= sizeof out);
        memcpy(out + size, bytes, n);
        size += n;
        op->start_ns = now;
        c->op_count++;
    }
    c->due_ns += (uint64_t)config.interval_ms * 1000000;
    if (c->due_ns < now)
        c->due_ns = now;
    /* What is sent fits into an idle socket's buffer. */
    if (size && write(c->fd, out, size) != (ssize_t)size)
        conn_down(c, "write");
}

static void remember(struct conn *c, const struct op *op, const struct answer *a) {
    if (op->kind != OP_READ || a->outcome != OUTCOME_OK)
        return;
    c->seen = true;
    c->watching = op->watch;
    c->seen_value = a->number;
    memcpy(c->seen_key, op->key, sizeof c->seen_key);
    memcpy(c->seen_etag, a->etag, sizeof c->seen_etag);
}

static void conn_answered(struct conn *c, struct op *op, struct answer *a) {
    /* A watched key may have changed between WATCH and GET, to what GET saw: that EXEC did nothing
     * says nothing about the value. */
    if (op->kind == OP_CAS && !c->http) {
        c->watching = false;
        if (a->outcome == OUTCOME_OK && !a->taken)
            a->outcome = OUTCOME_NO;
    }
    if (a->failed && !op_writes(op))
        a->outcome = OUTCOME_NO;
    note(c, op, a);
    /* A base for compare-and-set: over Redis only what is watched. */
    if (c->http || op->watch)
        remember(c, op, a);
    answered_conns += !c->answered_once;
    c->answered_once = true;
    c->op_answered++;
}

static void conn_readable(struct conn *c) {
    ssize_t n = read(c->fd, c->in + c->in_size, IN_BYTES - c->in_size);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_down(c, n == 0 ? "closed" : "reset");
        return;
    }
    c->in_size += (size_t)n;
    size_t at = 0;
    while (at < c->in_size) {
        struct answer a;
        if (c->op_answered == c->op_count) {
            conn_down(c, "an answer that was not asked for");
            return;
        }
        struct op *op = &c->ops[c->op_answered];
        size_t taken = c->http ? http_answer(op, c->in + at, c->in_size - at, &a)
                               : redis_answer(op, c->in + at, c->in_size - at, &a);
        if (taken == SIZE_MAX) {
            note_text("malformed", c, c->in + at, c->in_size - at);
            conn_down(c, "malformed");
            return;
        }
        if (taken == 0)
            break;
        if (c->http || op->replies_left == 0)
            conn_answered(c, op, &a);
        at += taken;
    }
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
}

/* ---- the loop ---- */

static bool all_idle(void) {
    for (int i = 0; i < conn_count; i++)
        if (conns[i].op_answered < conns[i].op_count)
            return false;
    return true;
}

/* Does what is due on every connection; returns when the next thing is. */
static uint64_t turn(uint64_t now) {
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < conn_count; i++) {
        struct conn *c = &conns[i];
        bool waits = c->op_answered < c->op_count;
        uint64_t due = c->due_ns;
        if (c->state == CONN_CONNECTING)
            continue;
        if (waits) {
            due = c->ops[c->op_answered].start_ns + GIVE_UP_MS * 1000000ull;
            if (due <= now)
                conn_down(c, "no answer");
        } else if (due <= now && c->state == CONN_DOWN) {
            conn_up(c);
        } else if (due <= now && (stage == RUNNING || stage == READING)) {
            ask(c, now);
        } else if (due <= now) {
            continue;
        }
        due = c->due_ns > now ? c->due_ns : now + 1000000;
        if (due < next)
            next = due;
    }
    if (stage == DRAINING && all_idle()) {
        stage = READING;
        cursor.kind = OP_COUNT;
    } else if (stage == READING && cursor.kind == OP_WRITE && again_count == 0 && all_idle()) {
        stage = DONE;
    }
    return next;
}

static void run(void) {
    bool said_ready = false;
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
        die("the input must be a pipe or a terminal");
    while (stage != DONE) {
        uint64_t now = now_ns();
        uint64_t next = turn(now);
        uint64_t wait_ms = next <= now ? 0 : (next - now) / 1000000 + 1;
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, wait_ms > 10 ? 10 : (int)wait_ms);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            char ignored[64];
            if (!c) {
                if (read(STDIN_FILENO, ignored, sizeof ignored) > 0)
                    continue;
                epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                stage = DRAINING;
            } else if (c->state == CONN_CONNECTING) {
                conn_connected(c);
            } else if (c->state == CONN_OPEN) {
                conn_readable(c);
            }
        }
        if (!said_ready && answered_conns == conn_count) {
            said_ready = true;
            printf("ready\n");
            fflush(stdout);
        }
    }
}

/* ---- beginning ---- */

static int parse_addresses(char *list, struct sockaddr_in ret[NODES_MAX]) {
    int count = 0;
    char *rest = NULL;
    for (char *a = strtok_r(list, ",", &rest); a && count < NODES_MAX;
         a = strtok_r(NULL, ",", &rest)) {
        char *colon = strrchr(a, ':');
        errno = EINVAL;
        if (!colon)
            die(a);
        *colon = '\0';
        ret[count] = (struct sockaddr_in){.sin_family = AF_INET,
                                          .sin_port = htons((uint16_t)atoi(colon + 1))};
        if (inet_pton(AF_INET, a, &ret[count].sin_addr) != 1)
            die(a);
        count++;
    }
    return count;
}

static void make_conns(const struct sockaddr_in *http, int http_count,
                       const struct sockaddr_in *redis, int redis_count) {
    conn_count = config.connections * ((http_count > 0) + (redis_count > 0));
    conns = xcalloc((size_t)conn_count, sizeof *conns);
    for (int i = 0; i < conn_count; i++) {
        struct conn *c = &conns[i];
        bool both = http_count > 0 && redis_count > 0;
        int nth = both ? i / 2 : i;
        c->number = i;
        c->http = both ? i % 2 == 0 : http_count > 0;
        c->address = c->http ? http[nth % http_count] : redis[nth % redis_count];
        c->fd = -1;
        fprintf(history, "# client %d %s %s:%d\n", i, c->http ? "http" : "redis",
                inet_ntoa(c->address.sin_addr), ntohs(c->address.sin_port));
    }
}

static void parse_setting(char *word, struct sockaddr_in *http, int *http_count,
                          struct sockaddr_in *redis, int *redis_count) {
    char *value = strchr(word, '=');
    errno = EINVAL;
    if (!value)
        die(word);
    *value++ = '\0';
    if (strcmp(word, "http") == 0)
        *http_count = parse_addresses(value, http);
    else if (strcmp(word, "redis") == 0)
        *redis_count = parse_addresses(value, redis);
    else if (strcmp(word, "connections") == 0)
        config.connections = atoi(value);
    else if (strcmp(word, "interval") == 0)
        config.interval_ms = atoi(value);
    else if (strcmp(word, "burst") == 0)
        config.burst = atoi(value);
    else if (strcmp(word, "mix") == 0)
        config.all = strcmp(value, "all") == 0;
    else if (strcmp(word, "prefix") == 0 && strlen(value) < KEY_BYTES / 2)
        config.prefix = value;
    else if (strcmp(word, "seed") == 0)
        dice.state = strtoull(value, NULL, 10);
    else
        die(word);
}

int main(int argc, char **argv) {
    struct sockaddr_in http[NODES_MAX], redis[NODES_MAX];
    int http_count = 0, redis_count = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: load HISTORY http=ADDR:PORT,... redis=ADDR:PORT,... [name=value...]"
                        "\n");
        return 2;
    }
    dice.state = 1;
    for (int i = 2; i < argc; i++)
        parse_setting(argv[i], http, &http_count, redis, &redis_count);
    errno = EINVAL;
    if (config.connections < 1 || config.connections > CONNECTIONS_MAX / 2 ||
        config.interval_ms < 1 || config.burst < 1 || config.burst > BURST_MAX ||
        http_count + redis_count == 0)
        die("out of range");
    signal(SIGPIPE, SIG_IGN);
    history = fopen(argv[1], "we");
    if (!history)
        die(argv[1]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    make_conns(http, http_count, redis, redis_count);
    run();
    if (fclose(history) != 0)
        die(argv[1]);
    printf("{\"ok\": %llu, \"no\": %llu, \"unknown\": %llu, \"errors\": %llu, \"broken\": %llu}\n",
           (unsigned long long)outcomes[OUTCOME_OK], (unsigned long long)outcomes[OUTCOME_NO],
           (unsigned long long)outcomes[OUTCOME_UNKNOWN], (unsigned long long)errors,
           (unsigned long long)breaks);
    free(conns);
    return 0;
}
