/* The simulator's heart: the heap of events, the plan of a run, the command line. */
#include "sim.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

struct sim sim;
struct sim_stats stats;

struct event {
    uint64_t at_us, seq, number;
    event_fn fn;
    void *arg;
    bool owned; /* arg is freed with the heap */
};
static struct event *heap;
static size_t heap_size, heap_capacity;

static bool earlier(const struct event *a, const struct event *b) {
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->seq < b->seq);
}

static void push(uint64_t at_us, event_fn fn, void *arg, uint64_t number, bool owned) {
    if (heap_size == heap_capacity) {
        heap_capacity = heap_capacity ? heap_capacity * 2 : 1024;
        heap = xrealloc(heap, heap_capacity * sizeof heap[0]);
    }
    struct event e = {at_us, ++sim.seq, number, fn, arg, owned};
    size_t i = heap_size++;
    for (; i > 0 && earlier(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

void sim_at(uint64_t at_us, event_fn fn, void *arg, uint64_t number) {
    push(at_us, fn, arg, number, false);
}

void sim_at_owned(uint64_t at_us, event_fn fn, void *arg, uint64_t number) {
    push(at_us, fn, arg, number, true);
}

static struct event pop(void) {
    struct event top = heap[0], e = heap[--heap_size];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < heap_size; i = c) {
        if (c + 1 < heap_size && earlier(&heap[c + 1], &heap[c]))
            c++;
        if (!earlier(&heap[c], &e))
            break;
        heap[i] = heap[c];
    }
    heap[i] = e;
    return top;
}

void sim_trace(const char *fmt, ...) {
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sim.hash = hash64(slice_str(text), sim.hash ^ sim.now_us);
    if (sim.o.verbose)
        printf("%10.3f %s\n", (double)sim.now_us / 1000.0, text);
}

void sim_violation(const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    stats.violations++;
    printf("VIOLATION seed=%llu t=%.3f ms: %s\n  replay: run_sim --seed %llu --verbose\n",
           (unsigned long long)sim.seed, (double)sim.now_us / 1000.0, text,
           (unsigned long long)sim.seed);
    fflush(stdout);
    longjmp(sim.failed, 1);
}

/* ---- faults ---- */

static int any_server(void) {
    return 1 + (int)sim_rand((uint64_t)sim.o.servers);
}

static void heal(void) {
    memset(sim.cut, 0, sizeof sim.cut);
    memset(sim.gateway_cut, 0, sizeof sim.gateway_cut);
}

static void partition(void) {
    stats.partitions++;
    struct server *leader = server_leader();
    int victim = leader && sim_chance(500) ? leader->index : any_server();
    int mode = (int)sim_rand(3);
    for (int i = 1; i <= SERVERS_MAX; i++) {
        if (mode != 1)
            sim.cut[victim][i] = true;
        if (mode != 0)
            sim.cut[i][victim] = true;
        if (sim_chance(300)) {
            net_reset(victim, i);
            net_reset(i, victim);
        }
    }
    if (sim_chance(400))
        sim.gateway_cut[sim_rand(GATEWAYS_MAX)][victim] = true;
    sim_trace("partition of s%d, mode %d", victim, mode);
}

static void fault(void *arg, uint64_t number) {
    if (!sim.faults)
        return;
    uint64_t kind = sim_rand(10);
    struct server *leader = server_leader();
    struct server *s = leader && sim_chance(400) ? leader : &sim.servers[any_server()];
    if (kind <= 2 && sim.o.partition)
        partition();
    else if (kind <= 4)
        heal();
    else if (kind <= 6 && sim.o.crash)
        server_crash(s, sim.o.power && sim_chance(400));
    else if (kind == 7 && sim.o.pause && s->node)
        s->paused_until_us = sim.now_us + sim_rand(1200000);
    else if (kind == 8 && sim.o.io_error && s->node)
        mem_disk_fail_at(s->disk, 1 + sim_rand(5), sim_chance(500) ? -5 : -28);
    sim_at(sim.now_us + 5000 + sim_rand(number), fault, NULL, number);
}

/* ---- a run ---- */

static void grow(void *arg, uint64_t number) {
    for (int i = 2; i <= sim.o.servers; i++) {
        struct server *s = &sim.servers[i];
        if (s->node_id == 0 && !s->dead_for_good)
            admin_join(s);
    }
    sim_at(sim.now_us + 300000, grow, NULL, 0);
}

static uint32_t voters_now(void) {
    struct server *leader = server_leader();
    struct membership m;
    if (!leader)
        return 0;
    node_membership(leader->node, &m);
    return membership_voters(&m);
}

static void sim_begin(void) {
    sim.rand.state = sim.seed * 0x9E3779B97F4A7C15u + 77;
    heap_size = 0;
    check_reset();
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        *s = (struct server){.index = i};
        snprintf(s->address, sizeof s->address, "s%d:1", i);
        snprintf(s->dir, sizeof s->dir, "%s/s%d", sim.dir, i);
        snprintf(s->boot_id, sizeof s->boot_id, "boot-%d", i);
        s->disk = mem_disk_new(rand_u64(&sim.rand));
        s->wall_skew_ms = sim.o.skew ? sim_rand(5000) : 0;
        mkdir(s->dir, 0700);
    }
    static const char *seeds[] = {"s1:1", "s2:1", "s3:1"};
    for (int g = 0; g < GATEWAYS_MAX; g++) {
        struct gateway_sim *gw = &sim.gateways[g];
        *gw = (struct gateway_sim){.index = g, .tick_at_us = UINT64_MAX};
        list_init(&gw->links);
        struct upstream_options options = {.seeds = seeds, .seed_count = sim.o.servers < 3 ? 1 : 3};
        gw->upstream = upstream_new(&options, &gateway_env_ops, gw);
        gateway_after(gw);
    }
    sim.servers[1].node_id = 1;
    sim.servers[1].bootstrap = true;
    memset(sim.servers[1].cluster, 7, sizeof sim.servers[1].cluster);
    server_start(&sim.servers[1]);
    if (sim.o.servers > 1)
        sim_at(2000, grow, NULL, 0);
    clients_begin();
}

static void run_until(uint64_t until_us) {
    while (heap_size > 0 && heap[0].at_us <= until_us) {
        struct event e = pop();
        sim.now_us = e.at_us;
        sim.events++;
        stats.events++;
        e.fn(e.arg, e.number);
    }
    sim.now_us = until_us;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static void remove_tree(void) {
    for (int i = 1; i <= SERVERS_MAX; i++)
        nftw(sim.servers[i].dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void sim_end(void) {
    for (size_t i = 0; i < heap_size; i++)
        if (heap[i].owned)
            free(heap[i].arg);
    heap_size = 0;
    for (int g = 0; g < GATEWAYS_MAX; g++) {
        upstream_free(sim.gateways[g].upstream);
    }
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        if (s->node) {
            struct node *n = s->node;
            s->node = NULL;
            mem_disk_crash(s->disk, MEM_DISK_KILL);
            node_abandon(n);
        }
        mem_disk_free(s->disk);
    }
    net_free();
    clients_free();
    remove_tree();
}

static void settle(void) {
    sim.faults = false;
    heal();
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        mem_disk_fail_at(s->disk, 0, 0);
        s->paused_until_us = 0;
        if (s->node_id != 0 && !s->node && !s->dead_for_good)
            server_start(s);
    }
    sim_trace("faults end");
    for (int i = 0; i < 100; i++) {
        run_until(sim.now_us + 200000);
        if (i > 10 && check_converged() && voters_now() == (uint32_t)sim.o.servers) {
            clients_check_end();
            run_until(sim.now_us + 500000);
            if (!clients_progressed())
                sim_violation("clients stand still");
            return;
        }
        if (server_leader() && i % 10 == 9)
            sim_trace("voters %u leader s%d", voters_now(), server_leader()->index);
    }
    /* Under load the copies are rarely at the same index at the same moment: that alone is no
     * failure. */
    if (!server_leader())
        sim_violation("no leader 20 s after the last fault");
    if (voters_now() != (uint32_t)sim.o.servers)
        sim_violation("%u voters 20 s after the last fault, not %d", voters_now(), sim.o.servers);
    sim_violation("copies do not converge 20 s after the last fault");
}

static uint64_t run_seed(uint64_t seed, const struct sim_options *base) {
    memset(&sim, 0, offsetof(struct sim, dir));
    sim.seed = seed;
    sim.o = *base;
    if (setjmp(sim.failed) == 0) {
        stats.runs++;
        if (sim.o.servers == 0)
            sim.o.servers = (int[]){1, 3, 3, 3, 5}[seed % 5];
        sim_begin();
        static const uint64_t paces[] = {30000, 100000, 300000};
        sim.faults = true;
        run_until(sim_chance(500) ? 100000 : 3000000);
        sim_at(sim.now_us + 1000, fault, NULL, paces[sim_rand(3)]);
        run_until(sim.now_us + sim.o.duration_ms * 1000);
        settle();
    }
    uint64_t hash = sim.hash ^ sim.events;
    sim_end();
    return hash;
}

int main(int argc, char **argv) {
    struct sim_options o = {.duration_ms = 4000,
                            .crash = true,
                            .power = true,
                            .partition = true,
                            .reset = true,
                            .slow_disk = true,
                            .pause = true,
                            .skew = true,
                            .snapshots = true,
                            .servers = 3};
    uint64_t from = 1, to = 20;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0)
            o.verbose = 1;
        else if (strcmp(argv[i], "--log") == 0)
            o.verbose = 2;
        else if (strcmp(argv[i], "--calm") == 0)
            o.crash = o.power = o.partition = o.reset = o.slow_disk = o.pause = false;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            from = to = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            sscanf(argv[++i], "%lu..%lu", &from, &to);
        else if (strcmp(argv[i], "--servers") == 0 && i + 1 < argc)
            o.servers = atoi(argv[++i]);
        else {
            fprintf(
                stderr,
                "usage: run_sim [--seed N | --seeds A..B] [--servers N] [--calm] [--verbose]\n");
            return 2;
        }
    }
    log_set_level(o.verbose == 2 ? LOG_INFO : (enum log_level)(LOG_ERROR + 1));
    snprintf(sim.dir, sizeof sim.dir, "/dev/shm/cotidal-sim-%d", (int)getpid());
    mkdir(sim.dir, 0700);
    for (uint64_t seed = from; seed <= to; seed++)
        run_seed(seed, &o);
    rmdir(sim.dir);
    printf("runs %lu events %lu messages %lu lost %lu crashes %lu power-cuts %lu starts %lu "
           "partitions %lu resets %lu "
           "elections %lu snapshots-or-installs %lu joins %lu writes %lu reads %lu unknown %lu "
           "violations %lu\n",
           stats.runs, stats.events, stats.messages, stats.lost_messages, stats.crashes,
           stats.power_cuts, stats.restarts, stats.partitions, stats.resets, stats.elections,
           stats.snapshots, stats.joins, stats.writes, stats.reads, stats.unknown,
           stats.violations);
    return stats.violations != 0;
}
