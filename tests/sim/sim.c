/* The simulator's heart: the heap of events, the plan of a run, the command line. */
#include "sim.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/plant.h"

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

/* ---- a run ---- */

/* It was a member, and is one no more: taken out while it was away, or by an operator, who now
 * empties its disk. Only a later membership that is committed counts: a leader of the past may
 * never have heard of it. */
static bool was_removed(struct server *s) {
    struct server *leader = server_leader();
    struct membership m;
    if (!leader || s->node_id == 0 || s->removed || s == leader)
        return false;
    uint64_t index = node_membership_index(leader->node);
    if (index == 0)
        return false;
    node_membership(leader->node, &m);
    if (membership_find(&m, s->node_id)) {
        if (index > s->member_index)
            s->member_index = index;
        return false;
    }
    /* Perhaps before it began. (An answer alone says little: who asks before the member is one is
     * told that it is none.) */
    for (unsigned i = 0; i < sim.gone_count; i++)
        if (sim.gone[i] == s->node_id)
            return true;
    return s->member_index != 0 && index > s->member_index;
}

/* Keeps as many servers in the cluster as it is to have voters, and one more where some are lost.
 */
static void grow(void *arg, uint64_t number) {
    int want = sim.o.voters + (sim.o.hot ? 1 : 0), have = 0;
    if (stage_servers != 0)
        want = stage_servers;
    if (want == STAGE_HANDS_OFF) {
        sim_at(sim.now_us + 10000, grow, NULL, 0);
        return;
    }
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        if (was_removed(s)) {
            server_crash(s, true);
            server_wipe(s);
        }
        have += (s->node_id != 0 || s->joining) && !s->removed;
    }
    for (int i = 1; i <= SERVERS_MAX && have < want; i++) {
        struct server *s = &sim.servers[i];
        if (s->node_id == 0 && !s->joining && !s->removed) {
            admin_join(s);
            have++;
        }
    }
    sim_at(sim.now_us + (sim.o.churn || sim.o.hot || sim.o.play ? 10000 : 100000), grow, NULL, 0);
}

static void sim_begin(void) {
    heap_size = 0;
    check_reset();
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        server_init(s, i);
    }
    bool homes = sim_chance(600);
    for (int g = 0; g < GATEWAYS_MAX; g++) {
        struct gateway_sim *gw = &sim.gateways[g];
        *gw = (struct gateway_sim){.index = g, .home = homes ? &sim.servers[1 + g] : NULL};
        list_init(&gw->links);
        /* A gateway in the process of a node may read the node's store by itself. */
        gw->direct = homes && sim_chance(700);
        gateway_start(gw);
    }
    sim.servers[1].node_id = 1;
    sim.servers[1].bootstrap = true;
    sim.servers[1].member_index = 1;
    memset(sim.servers[1].cluster, 7, sizeof sim.servers[1].cluster);
    if (sim.o.hot)
        hot_begin();
    server_start(&sim.servers[1]);
    sim_at(2000, grow, NULL, 0);
    clients_begin();
    watch_begin();
}

/* For --twice: the hash after each event of the first run, to say where the second one goes another
 * way. */
static struct {
    enum { TWICE_OFF, TWICE_RECORD, TWICE_COMPARE, TWICE_DIFFERS } mode;
    uint64_t *hashes;
    size_t count, capacity;
} twice;

static void twice_compare(void) {
    if (twice.mode == TWICE_RECORD) {
        if (twice.count == twice.capacity) {
            twice.capacity = twice.capacity ? 2 * twice.capacity : 4096;
            twice.hashes = xrealloc(twice.hashes, twice.capacity * sizeof twice.hashes[0]);
        }
        twice.hashes[twice.count++] = sim.hash;
    } else if (twice.mode == TWICE_COMPARE &&
               (sim.events > twice.count || twice.hashes[sim.events - 1] != sim.hash)) {
        twice.mode = TWICE_DIFFERS;
        sim_trace("the second run differs from here on");
        printf("seed=%llu: the second run differs from event %llu on, t=%.3f ms\n",
               (unsigned long long)sim.seed, (unsigned long long)sim.events,
               (double)sim.now_us / 1000.0);
    }
}

void sim_run_until(uint64_t until_us) {
    while (heap_size > 0 && heap[0].at_us <= until_us) {
        struct event e = pop();
        sim.now_us = e.at_us;
        sim.events++;
        stats.events++;
        sim.hash = (sim.hash ^ e.at_us ^ (uint64_t)e.number) * 0x9E3779B97F4A7C15u;
        twice_compare();
        e.fn(e.arg, e.number);
    }
    sim.now_us = until_us;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int remove_below(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return ftw->level == 0 ? 0 : remove(path);
}

static void sim_end(void) {
    for (size_t i = 0; i < heap_size; i++)
        if (heap[i].owned)
            free(heap[i].arg);
    heap_size = 0;
    sim.quiet = true;
    for (int g = 0; g < GATEWAYS_MAX; g++) {
        gateway_stop(&sim.gateways[g]);
    }
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        if (s->node) {
            struct node *n = s->node;
            s->node = NULL;
            mem_disk_crash(s->disk, MEM_DISK_KILL);
            node_abandon(n);
        }
        store_gate_free(s->gate);
        mem_disk_free(s->disk);
        server_drop_deferred(s);
    }
    for (size_t i = 0; i < heap_size; i++)
        if (heap[i].owned)
            free(heap[i].arg);
    heap_size = 0;
    net_free();
    clients_free();
    nftw(sim.dir, remove_below, 8, FTW_DEPTH | FTW_PHYS);
}

static bool settled(void) {
    return damage_mended() && voters_now() == (uint32_t)sim.o.voters && check_converged();
}

enum { SETTLE_LIMIT_US = 20000000 };

/* Faults end: the cluster must come back, go on, and hold everything that it promised. */
static void settle(void) {
    sim.faults = false;
    fault_heal();
    /* Gently: with logs as short as these, who installs a snapshot under full load finds the log
     * behind it gone, again and again. */
    uint64_t think_us = sim.think_us;
    sim.think_us = 40000;
    sim_trace("faults end");
    for (int i = 1; i <= SERVERS_MAX; i++) {
        struct server *s = &sim.servers[i];
        if (s->disk_faulty)
            server_crash(s, true); /* a disk does not get well by itself */
        if (s->node_id != 0 && !s->node && !s->dead_for_good)
            server_start(s);
    }
    uint64_t end = sim.now_us + SETTLE_LIMIT_US;
    while (voters_now() != (uint32_t)sim.o.voters && sim.now_us < end) {
        /* A new node that gets one snapshot after the other gets a pause in the end. */
        sim.quiet = end - sim.now_us < SETTLE_LIMIT_US / 2;
        sim_run_until(sim.now_us + 50000);
    }
    sim.quiet = false;
    clients_mark();
    sim_run_until(sim.now_us + 300000);
    /* What was sent into the void times out first. */
    for (int i = 0; i < 160 && !clients_progressed(); i++)
        sim_run_until(sim.now_us + 50000);
    if (!clients_progressed())
        sim_violation("clients stand still %s",
                      server_leader() ? "although there is a leader" : "without a leader");
    sim.quiet = true;
    do
        sim_run_until(sim.now_us + 50000);
    while ((clients_busy() || !settled() || !watch_caught_up()) && sim.now_us < end);
    if (!server_leader())
        sim_violation("no leader %d s after the last fault", SETTLE_LIMIT_US / 1000000);
    if (voters_now() != (uint32_t)sim.o.voters)
        sim_violation("%u voters %d s after the last fault, not %d", voters_now(),
                      SETTLE_LIMIT_US / 1000000, sim.o.voters);
    if (!damage_mended())
        sim_violation("a damaged copy was not mended %d s after the last fault",
                      SETTLE_LIMIT_US / 1000000);
    if (!check_converged())
        sim_violation("copies do not converge %d s after the last fault",
                      SETTLE_LIMIT_US / 1000000);
    if (!watch_caught_up())
        sim_violation("a watcher does not catch up within %d s after the last fault",
                      SETTLE_LIMIT_US / 1000000);
    sim.think_us = think_us;
}

/* Faults once more, at the end of which as many voters stay down as the others must bear. */
static void second_act(uint64_t pace_us) {
    sim.quiet = false;
    sim.faults = true;
    sim_trace("second act");
    sim_at(sim.now_us + 1000, fault_step, NULL, pace_us);
    sim_run_until(sim.now_us + 100000 + sim_rand(1000000));
    struct server *exile = NULL;
    if (sim.o.isolate && sim.o.slow_link && sim_chance(400)) {
        exile = server_leader();
        fault_exile();
        sim.held = true;
        sim_run_until(sim.now_us + 200000 + sim_rand(1000000));
        sim.held = false;
    }
    sim.minority_down = true;
    for (int dead = 0; dead < sim.o.voters / 2;) {
        struct server *s = &sim.servers[1 + sim_rand(SERVERS_MAX)];
        if (s->node_id == 0 || s->dead_for_good || s == exile)
            continue;
        server_crash(s, true);
        s->dead_for_good = true;
        sim_trace("s%d stays down", s->index);
        dead++;
    }
}

/* While a minority is dead the operator removes one that lives. What is left would have no
 * majority, so it must not happen (M4), once the leader can know who is dead. */
static void blunder(void) {
    sim_run_until(sim.now_us + 2000000);
    struct server *living[SERVERS_MAX];
    size_t count = 0;
    for (int i = 1; i <= SERVERS_MAX; i++)
        if (sim.servers[i].node)
            living[count++] = &sim.servers[i];
    const struct server *s = living[sim_rand(count)];
    sim_trace("the operator removes s%d, which lives", s->index);
    sim.quiet = false;
    admin_remove(s->node_id);
    sim_run_until(sim.now_us + 1000000);
}

/* The seed chooses what can happen in its run. */
static void choose(const struct sim_options *base) {
    sim.o = *base;
    static const int voters[] = {3, 3, 3, 1, 5};
    if (sim.o.voters == 0)
        sim.o.voters = voters[sim_rand(5)];
    sim.o.early = sim_chance(500);
    sim.o.sluggish = sim.o.slow_disk && sim_chance(250);
    sim.damage_rand.state = sim.seed ^ 0xDA3A6E;
    sim.o.damage = sim.o.damage && rand_below(&sim.damage_rand, 5) == 0;
    if (sim.o.disorder)
        sim.o.disorder = sim_chance(300);
    if (sim.o.replace)
        sim.o.replace = sim_chance(400);
    if (sim.o.churn)
        sim.o.churn = sim.o.voters >= 3 && !sim.o.replace && sim_chance(400);
    if (sim.o.snapshots)
        sim.o.snapshots = sim_chance(700);
    if (sim.o.drift)
        sim.o.drift = sim_chance(400);
    if (sim.o.move)
        sim.o.move = sim_chance(400);
    if (sim.o.hot)
        sim.o.hot = sim.o.voters >= 3 && sim_chance(350);
    if (sim.o.hot) {
        if (base->voters == 0)
            sim.o.voters = sim_chance(300) ? 3 : 5;
        sim.o.churn = sim.o.replace = false;
    }
    if (sim.o.gateways)
        sim.o.gateways = sim_chance(400);
    if (sim.o.leap)
        sim.o.leap = sim_chance(200);
    if (sim.o.aim)
        sim.o.aim = sim_chance(sim.o.disorder ? 800 : 400);
    static const uint64_t thinks[] = {3000, 12000, 40000}, durations[] = {600, 1500, 3000};
    if (sim.o.hot && sim.o.duration_ms == 0)
        sim.o.duration_ms = 3000;
    sim.think_us = thinks[sim_rand(3)];
    if (sim.o.hot && sim_chance(500))
        sim.think_us = 300000; /* quiet: leaders begin with nothing left to commit */
    static const uint64_t snapshots[] = {1500, 5000, 24000};
    sim.snapshot_bytes = snapshots[sim_rand(3)];
    sim.trailing_bytes = sim_chance(700) ? 1 : 20000;
    sim.append_bytes = sim_chance(300) ? 600 : 0;
    sim.entries_inflight =
        sim_chance(sim.o.disorder ? 700 : 300) ? 6 : 0; /* few: whoever is behind gets a snapshot */
    fault_choose();
    sim.laggard_bytes = sim_chance(700) ? 1 : 0;
    if (sim.o.duration_ms == 0)
        sim.o.duration_ms = durations[sim_rand(3)];
    stage_choose(base);
    damage_choose(base);
}

static uint64_t run_seed(uint64_t seed, const struct sim_options *base) {
    memset(&sim, 0, offsetof(struct sim, dir));
    sim.seed = seed;
    sim.rand.state = seed * 0x9E3779B97F4A7C15u + 77;
    choose(base);
    static const uint64_t paces[] = {10000, 40000, 150000, 400000};
    if (setjmp(sim.failed) == 0) {
        stats.runs++;
        sim_trace("voters %d, disorder %d, sluggish %d, snapshots %d, trailing %llu, replace %d, "
                  "early %d, hot %d, play %d",
                  sim.o.voters, sim.o.disorder, sim.o.sluggish, sim.o.snapshots,
                  (unsigned long long)sim.trailing_bytes, sim.o.replace, sim.o.early, sim.o.hot,
                  (int)sim.o.play);
        sim_begin();
        sim.faults = sim.o.early;
        if (sim.o.early)
            sim_run_until(5000 + sim_rand(200000));
        else
            while (voters_now() != (uint32_t)sim.o.voters && sim.now_us < SETTLE_LIMIT_US)
                sim_run_until(sim.now_us + 50000);
        if (sim.o.play)
            stage_play();
        sim.faults = true;
        sim_at(sim.now_us + 1000, fault_step, NULL, sim.o.hot ? 500000 : paces[sim_rand(4)]);
        damage_begin();
        sim_run_until(sim.now_us + sim.o.duration_ms * 1000);
        settle();
        if (sim.o.voters >= 3 && !sim.o.replace && !sim.o.churn && !sim.o.hot && !sim.o.play &&
            sim_chance(400)) {
            second_act(paces[sim_rand(2)]);
            settle();
            if (sim_chance(300)) {
                blunder();
                settle();
            }
        }
        clients_check_end();
        watch_check_end();
    }
    uint64_t hash = sim.hash;
    sim_end();
    return hash;
}

/* ---- command line ---- */

static void print_stats(void) {
    printf("runs %lu, events %lu, messages %lu (%lu lost), crashes %lu (%lu of them power cuts), "
           "starts %lu, "
           "partitions %lu, connections reset %lu, pauses %lu, nodes stopped by their disk %lu, "
           "elections %lu, "
           "snapshots %lu, installs %lu (%lu resumed, %lu other sources, %lu pieces again), "
           "damages %lu, entries misapplied %lu (repairs %lu, scrubs %lu, digests compared %lu), "
           "joins "
           "%lu, removals %lu, deaths %lu, disks lost %lu, "
           "writes %lu, reads %lu (%lu of them direct), stale reads %lu, gateways lost %lu, leaps "
           "of time %lu, "
           "unknown %lu, not applied %lu, replayed %lu, changes watched %lu, watchers reset %lu, "
           "undecided %lu, violations %lu\n",
           stats.runs, stats.events, stats.messages, stats.lost_messages, stats.crashes,
           stats.power_cuts, stats.restarts, stats.partitions, stats.resets, stats.pauses,
           stats.io_errors, stats.elections, stats.background, stats.installs, stats.resumed,
           stats.source_changes, stats.asked_again, stats.damages, stats.misapplied, stats.repairs,
           stats.scrubs, stats.checks, stats.joins, stats.removals, stats.deaths, stats.wipes,
           stats.writes, stats.reads, stats.direct, stats.stale_reads, stats.gateway_deaths,
           stats.leaps, stats.unknown, stats.not_applied, stats.replayed, stats.watched,
           stats.watch_resets, stats.undecided, stats.violations);
}

/* A CHECK that fails inside the code under test, or the library falling over what it must not be
 * given, is a violation like any other, but leaves nothing to go on with. */
static void on_crash(int signum) {
    stats.violations++;
    printf("VIOLATION seed=%llu t=%.3f ms: %s\n", (unsigned long long)sim.seed,
           (double)sim.now_us / 1000.0,
           signum == SIGABRT ? "a check failed" : "it reaches for memory that is not there");
    nftw(sim.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    print_stats();
    fflush(stdout);
    _exit(1);
}

static void usage(void) {
    fputs(
        "usage: run_sim [--seed N | --seeds A..B | --fresh COUNT] [--voters N] [--without "
        "FAULT]... [--duration "
        "MS] [--until-violation]\n"
        "               [--plant BUG] [--twice] [--verbose | --log | --requests]\n"
        "faults: crash power partition reset slow-disk pause skew snapshots io-error replace churn "
        "disorder damage\n"
        "        drift slow-link isolate hot aim handover gateways leap move\n",
        stderr);
    exit(2);
}

static bool *fault_named(struct sim_options *o, const char *name) {
    const struct {
        const char *name;
        bool *flag;
    } faults[] = {{"crash", &o->crash},
                  {"power", &o->power},
                  {"partition", &o->partition},
                  {"reset", &o->reset},
                  {"slow-disk", &o->slow_disk},
                  {"pause", &o->pause},
                  {"skew", &o->skew},
                  {"snapshots", &o->snapshots},
                  {"io-error", &o->io_error},
                  {"replace", &o->replace},
                  {"disorder", &o->disorder},
                  {"damage", &o->damage},
                  {"churn", &o->churn},
                  {"drift", &o->drift},
                  {"slow-link", &o->slow_link},
                  {"isolate", &o->isolate},
                  {"hot", &o->hot},
                  {"aim", &o->aim},
                  {"handover", &o->handover},
                  {"gateways", &o->gateways},
                  {"leap", &o->leap},
                  {"move", &o->move}};
    for (size_t i = 0; i < ARRAY_COUNT(faults); i++)
        if (strcmp(faults[i].name, name) == 0)
            return faults[i].flag;
    usage();
    return NULL;
}

static bool plant(const char *name) {
#ifdef COTIDAL_PLANT
    planted = plant_parse(name);
    if (planted != PLANT_COUNT)
        return true;
    fprintf(stderr, "run_sim: no such bug: %s\n", name);
    return false;
#else
    fprintf(stderr, "run_sim: built without planted bugs (-Dplant=true), so no %s\n", name);
    return false;
#endif
}

int main(int argc, char **argv) {
    struct sim_options o = {.crash = true,
                            .power = true,
                            .partition = true,
                            .reset = true,
                            .slow_disk = true,
                            .pause = true,
                            .skew = true,
                            .snapshots = true,
                            .io_error = true,
                            .replace = true,
                            .damage = true,
                            .disorder = true,
                            .churn = true,
                            .drift = true,
                            .slow_link = true,
                            .isolate = true,
                            .hot = true,
                            .aim = true,
                            .handover = true,
                            .gateways = true,
                            .leap = true,
                            .move = true};
    uint64_t from = 1, to = 100;
    bool until_violation = false, both = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0)
            o.verbose = 1;
        else if (strcmp(argv[i], "--log") == 0)
            o.verbose = 2;
        else if (strcmp(argv[i], "--requests") == 0)
            o.verbose = 3;
        else if (strcmp(argv[i], "--until-violation") == 0)
            until_violation = true;
        else if (strcmp(argv[i], "--list-plants") == 0) {
            for (int p = PLANT_NONE + 1; p < PLANT_COUNT; p++)
                puts(plant_name((enum plant)p));
            return 0;
        } else if (strcmp(argv[i], "--twice") == 0)
            both = true;
        else if (!value)
            usage();
        else if (strcmp(argv[i], "--seed") == 0 && ++i)
            from = to = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--seeds") == 0 && ++i &&
                 sscanf(value, "%lu..%lu", &from, &to) == 2)
            continue;
        else if (strcmp(argv[i], "--fresh") == 0 && ++i) {
            from = (uint64_t)time(NULL) * 1000;
            to = from + strtoull(value, NULL, 10) - 1;
        } else if (strcmp(argv[i], "--voters") == 0 && ++i)
            o.voters = atoi(value);
        else if (strcmp(argv[i], "--duration") == 0 && ++i)
            o.duration_ms = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--without") == 0 && ++i)
            *fault_named(&o, value) = false;
        else if (strcmp(argv[i], "--plant") == 0 && ++i) {
            if (!plant(value))
                return 2;
        } else
            usage();
    }
    log_set_level(o.verbose >= 2 ? LOG_INFO : (enum log_level)(LOG_ERROR + 1));
    const char *fast = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(sim.dir, sizeof sim.dir, "%s/cotidal-sim-XXXXXX", fast);
    if (!mkdtemp(sim.dir)) {
        perror(sim.dir);
        return 2;
    }
    signal(SIGABRT, on_crash);
#ifndef __SANITIZE_ADDRESS__ /* which tells more */
    signal(SIGSEGV, on_crash);
#endif
    for (uint64_t seed = from; seed <= to && !(until_violation && stats.violations); seed++) {
        twice.count = 0;
        twice.mode = both ? TWICE_RECORD : TWICE_OFF;
        uint64_t hash = run_seed(seed, &o);
        twice.mode = both ? TWICE_COMPARE : TWICE_OFF;
        if (both && run_seed(seed, &o) != hash) {
            printf("VIOLATION seed=%lu: two runs differ\n", seed);
            stats.violations++;
        }
    }
    nftw(sim.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    print_stats();
    return stats.violations != 0;
}
