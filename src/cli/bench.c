#include "cli/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/num.h"
#include "cli/cli.h"
#include "net/loop.h"
#include "net/tcp.h"
#include "proto/url.h"

enum {
    CLIENTS_MAX = 1000000,
    THREADS_MAX = 256,
    PIPELINE_MAX = 10000,
    RATE_MAX = 100000000,
    VALUE_BYTES_MAX = 64 << 20,
    SPARE_DESCRIPTORS = 32,
};

static const uint64_t keys_max = UINT64_C(10000000000); /* BENCH_KEY_DIGITS */

static const char *const set_text[] = {
    [BENCH_REDIS] = "SET {key} {value}", [BENCH_HTTP] = "PUT /v1/kv/{key} {value}"};
static const char *const get_text[] = {
    [BENCH_REDIS] = "GET {key}", [BENCH_HTTP] = "GET /v1/kv/{key}"};
/* Keys of their own: what set has written is no number. */
static const char *const incr_text[] = {
    [BENCH_REDIS] = "INCR count:{key}", [BENCH_HTTP] = "POST /v1/incr/count:{key}"};

/* ---- the command line ---- */

static bool complain(const char *what, const char *text) {
    fprintf(stderr, "cotidal: %s: '%s'; see: cotidal bench --help\n", what, text);
    return false;
}

static bool take_count(const char *text, uint64_t least, uint64_t most, const char *option,
                       uint64_t *value) {
    uint64_t number;
    if (!text)
        return true;
    if (!num_parse_u64(slice_str(text), &number) || number < least || number > most) {
        fprintf(stderr, "cotidal: %s is a number from %llu to %llu, not '%s'\n", option,
                (unsigned long long)least, (unsigned long long)most, text);
        return false;
    }
    *value = number;
    return true;
}

static bool take_duration(const char *text, const char *option, uint64_t *value) {
    if (text && (!duration_parse_ms(slice_str(text), value) || *value > 7 * 86400000ull))
        return complain(option, text);
    return true;
}

/* Splits a list at its commas; each part is handed to `fn`, which says whether it is right. */
static bool each_part(const char *list, bool (*fn)(struct bench_plan *plan, const char *part),
                      struct bench_plan *plan) {
    char *copy = xstrdup(list), *rest = copy, *part;
    bool good = true;
    while (good && (part = strsep(&rest, ",")))
        good = fn(plan, part);
    free(copy);
    return good;
}

static bool take_address(struct bench_plan *plan, const char *part) {
    struct address a;
    if (!address_parse(part, &a) || a.port == 0 || !a.host[0])
        return complain("an address is HOST:PORT", part);
    if (plan->address_count == BENCH_ADDRESSES_MAX)
        return complain("too many addresses", part);
    plan->addresses[plan->address_count++] = xstrdup(part);
    return true;
}

static bool take_addresses(struct bench_plan *plan, const char *word) {
    static const struct {
        const char *scheme;
        enum bench_protocol protocol;
    } schemes[] = {{"redis://", BENCH_REDIS}, {"http://", BENCH_HTTP}};
    const char *list = word ? word : "127.0.0.1:6379";
    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        size_t n = strlen(schemes[i].scheme);
        if (strncmp(list, schemes[i].scheme, n) == 0) {
            plan->protocol = schemes[i].protocol;
            list += n;
            break;
        }
    }
    char *copy = xstrdup(list);
    size_t size = strlen(copy);
    if (size > 0 && copy[size - 1] == '/')
        copy[size - 1] = '\0';
    bool good = each_part(copy, take_address, plan);
    free(copy);
    return good;
}

static bool take_pid(struct bench_plan *plan, const char *part) {
    uint64_t pid;
    if (!num_parse_u64(slice_str(part), &pid) || pid == 0 || pid > INT32_MAX)
        return complain("--server-pids are numbers of processes", part);
    if (plan->pid_count == BENCH_PIDS_MAX)
        return complain("too many processes", part);
    plan->pids[plan->pid_count++] = pid;
    return true;
}

static bool take_numbers(struct bench_plan *plan, const struct cli_args *args) {
    plan->clients = 50;
    plan->threads = plan->pipeline = 1;
    plan->keys = 10000;
    plan->value_bytes = 100;
    plan->fill = args->bench_fill != NULL;
    bool bounded = plan->fill || args->bench_requests;
    plan->duration_ms = bounded ? 0 : 10000;
    plan->warmup_ms = bounded ? 0 : 500;
    if (!take_count(args->bench_clients, 1, CLIENTS_MAX, "--clients", &plan->clients) ||
        !take_count(args->bench_threads, 1, THREADS_MAX, "--threads", &plan->threads) ||
        !take_count(args->bench_pipeline, 1, PIPELINE_MAX, "--pipeline", &plan->pipeline) ||
        !take_count(args->bench_rate, 1, RATE_MAX, "--rate", &plan->rate) ||
        !take_count(args->bench_keys, 1, keys_max, "--keys", &plan->keys) ||
        !take_count(args->bench_requests, 1, INT64_MAX, "--requests", &plan->requests) ||
        !take_count(args->bench_wait, 1, 1000, "--wait", &plan->wait) ||
        !take_duration(args->bench_duration, "--duration is no time", &plan->duration_ms) ||
        !take_duration(args->bench_warmup, "--warm-up is no time", &plan->warmup_ms) ||
        !take_duration(args->bench_interval, "--interval is no time", &plan->interval_ms))
        return false;
    if (args->bench_size && (!num_parse_bytes(slice_str(args->bench_size), &plan->value_bytes) ||
                             plan->value_bytes > VALUE_BYTES_MAX))
        return complain("--size is a size of up to 64M", args->bench_size);
    if (args->bench_fill && args->bench_requests)
        return complain("--fill ends by itself; leave out --requests", args->bench_requests);
    if (plan->fill)
        plan->requests = plan->keys;
    if (bounded && plan->warmup_ms > 0)
        return complain("with --requests or --fill there is no --warm-up", args->bench_warmup);
    if (!bounded && plan->duration_ms == 0)
        return complain("--duration must not be 0", args->bench_duration);
    if (plan->interval_ms &&
        (plan->duration_ms == 0 || plan->duration_ms / plan->interval_ms >= BENCH_INTERVALS_MAX))
        return complain("--interval needs a --duration of fewer than 100,000 of them",
                        args->bench_interval);
    if (plan->threads > plan->clients)
        plan->threads = plan->clients;
    return !args->bench_pids || each_part(args->bench_pids, take_pid, plan);
}

static bool add_operation(struct bench_plan *plan, const struct bench_request_form *form,
                          const char *name, const char *text, uint64_t weight) {
    struct bench_operation *o = &plan->operations[plan->operation_count++];
    *o = (struct bench_operation){.name = name, .weight = weight, .answers = form->wait ? 2 : 1};
    o->may_be_missing = strcmp(text, get_text[plan->protocol]) == 0;
    const char *wrong = bench_request_make(form, text, &o->request);
    if (!wrong)
        return true;
    fprintf(stderr, "cotidal: this cannot be sent: %s: '%s'\n", wrong, text);
    return false;
}

static bool take_ratio(const char *text, uint64_t *sets, uint64_t *gets) {
    const char *colon = text ? strchr(text, ':') : NULL;
    if (text && (!colon || !num_parse_u64(slice_of(text, (size_t)(colon - text)), sets) ||
                 !num_parse_u64(slice_str(colon + 1), gets) || *sets + *gets == 0 ||
                 *sets > 1000000 || *gets > 1000000))
        return complain("--ratio is SETS:GETS, as in 1:10", text);
    return true;
}

static bool take_command(struct bench_plan *plan, const struct cli_args *args,
                         const struct bench_request_form *form) {
    const char *command = args->bench_command ? args->bench_command : "set";
    struct bench_request_form without_wait = *form;
    without_wait.wait = 0;
    if (strcmp(command, "set") == 0)
        return add_operation(plan, form, "set", set_text[plan->protocol], 1);
    if (strcmp(command, "get") == 0)
        return add_operation(plan, &without_wait, "get", get_text[plan->protocol], 1);
    if (strcmp(command, "incr") == 0)
        return add_operation(plan, form, "incr", incr_text[plan->protocol], 1);
    if (strcmp(command, "mixed") != 0)
        return add_operation(plan, form, command, command, 1);
    uint64_t sets = 1, gets = 10;
    return take_ratio(args->bench_ratio, &sets, &gets) &&
           add_operation(plan, form, "set", set_text[plan->protocol], sets) &&
           add_operation(plan, &without_wait, "get", get_text[plan->protocol], gets);
}

/* Letters and digits without a pattern that a server could compress; the same in every run. */
static void make_value(struct buf *value, uint64_t bytes) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    uint64_t state = 1;
    for (uint64_t i = 0; i < bytes; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        buf_append_char(value, letters[(state >> 33) % (sizeof letters - 1)]);
    }
}

static bool plan_make(struct bench_plan *plan, const struct cli_args *args) {
    struct buf value = {0};
    if (!take_addresses(plan, args->word_count > 0 ? args->words[0] : NULL) ||
        !take_numbers(plan, args))
        return false;
    if (plan->protocol == BENCH_HTTP && plan->wait > 0)
        return complain("--wait is for the Redis protocol", args->bench_wait);
    if (plan->protocol == BENCH_REDIS && args->bench_header)
        return complain("--header is for HTTP", args->bench_header);
    make_value(&value, plan->value_bytes);
    const struct bench_request_form form = {.protocol = plan->protocol,
                                            .host = plan->addresses[0],
                                            .header = args->bench_header,
                                            .value = buf_slice(&value),
                                            .wait = plan->wait};
    bool good = take_command(plan, args, &form);
    buf_fini(&value);
    return good;
}

static void plan_fini(struct bench_plan *plan) {
    for (size_t i = 0; i < plan->operation_count; i++)
        bench_request_fini(&plan->operations[i].request);
    for (size_t i = 0; i < plan->address_count; i++)
        free(plan->addresses[i]);
}

/* ---- the run ---- */

/* As many descriptors as the system lets us have; a thousand connections are over the usual limit.
 */
static bool raise_limit(uint64_t clients) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return true;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max == RLIM_INFINITY || clients + SPARE_DESCRIPTORS <= limit.rlim_max)
        return true;
    fprintf(stderr,
            "cotidal: %llu connections need more open files than this process may have (%llu); "
            "raise the limit (ulimit -n), or share the work among several processes\n",
            (unsigned long long)clients, (unsigned long long)limit.rlim_max);
    return false;
}

static double clock_seconds(clockid_t clock) {
    struct timespec t;
    return clock_gettime(clock, &t) == 0 ? (double)t.tv_sec + (double)t.tv_nsec / 1e9 : 0;
}

static double server_seconds(const struct bench_plan *plan) {
    double sum = 0;
    clockid_t clock;
    for (size_t i = 0; i < plan->pid_count; i++)
        if (clock_getcpuclockid((pid_t)plan->pids[i], &clock) == 0)
            sum += clock_seconds(clock);
    return sum;
}

static void sleep_until(uint64_t ns) {
    const struct timespec at = {.tv_sec = (time_t)(ns / 1000000000),
                                .tv_nsec = (long)(ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

static void add_counts(struct bench_counts *to, const struct bench_counts *from, size_t threads) {
    for (size_t i = 0; i < BENCH_OPERATIONS_MAX; i++) {
        to->tally[i].answered += from->tally[i].answered;
        to->tally[i].errors += from->tally[i].errors;
        to->tally[i].misses += from->tally[i].misses;
        to->tally[i].unanswered += from->tally[i].unanswered;
        histogram_merge(&to->tally[i].ns, &from->tally[i].ns);
    }
    to->unsent += from->unsent;
    to->lost_connections += from->lost_connections;
    /* Each thread knows its own pauses; the longest of all connections is not in them. */
    to->pause_ns = threads == 1 ? from->pause_ns : 0;
    if (from->last_ns > to->last_ns)
        to->last_ns = from->last_ns;
    if (!to->error[0])
        memcpy(to->error, from->error, sizeof to->error);
    if (!to->intervals && from->interval_count > 0)
        to->intervals = xcalloc(from->interval_count, sizeof to->intervals[0]);
    to->interval_count = from->interval_count;
    for (size_t i = 0; i < from->interval_count; i++) {
        to->intervals[i].answered += from->intervals[i].answered;
        to->intervals[i].errors += from->intervals[i].errors;
        if (from->intervals[i].max_ns > to->intervals[i].max_ns)
            to->intervals[i].max_ns = from->intervals[i].max_ns;
    }
}

struct crew {
    struct bench_worker *workers;
    pthread_t *threads;
    pthread_barrier_t barrier;
    bool give_up;
};

static void crew_start(struct crew *crew, const struct bench_plan *plan) {
    crew->workers = xcalloc(plan->threads, sizeof crew->workers[0]);
    crew->threads = xcalloc(plan->threads, sizeof crew->threads[0]);
    CHECK(pthread_barrier_init(&crew->barrier, NULL, (unsigned)plan->threads + 1) == 0);
    for (uint64_t i = 0; i < plan->threads; i++) {
        crew->workers[i] = (struct bench_worker){
            .plan = plan, .index = i, .barrier = &crew->barrier, .give_up = &crew->give_up};
        /* Fails only for want of memory or of a limit on threads: as with memory, an end. */
        CHECK(pthread_create(&crew->threads[i], NULL, bench_worker_run, &crew->workers[i]) == 0);
    }
}

/* Says why when a thread could not connect; the exit code to end with. */
static int crew_problem(const struct crew *crew, const struct bench_plan *plan) {
    for (uint64_t i = 0; i < plan->threads; i++) {
        const struct bench_worker *w = &crew->workers[i];
        if (w->outcome == BENCH_DONE)
            continue;
        fprintf(stderr, "cotidal: could not begin: %s. Nothing was sent.\n", w->problem);
        return w->outcome == BENCH_NOT_CONNECTED ? CLI_UNREACHABLE : CLI_LOCAL;
    }
    return CLI_OK;
}

/* Runs the plan. Its times are set between the two passes of the barrier, when nobody reads them.
 */
static int bench_run(struct bench_plan *plan, struct bench_result *result) {
    struct crew crew = {0};
    crew_start(&crew, plan);
    pthread_barrier_wait(&crew.barrier);
    int code = crew_problem(&crew, plan);
    crew.give_up = code != CLI_OK;
    plan->start_ns = loop_now_ns();
    plan->begin_ns = plan->start_ns + plan->warmup_ms * 1000000;
    plan->end_ns = plan->duration_ms ? plan->begin_ns + plan->duration_ms * 1000000 : UINT64_MAX;
    pthread_barrier_wait(&crew.barrier);
    double client_cpu = 0, server_cpu = 0;
    if (code == CLI_OK) {
        sleep_until(plan->begin_ns);
        client_cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
        server_cpu = server_seconds(plan);
        if (plan->requests == 0)
            sleep_until(plan->end_ns);
    }
    if (plan->requests > 0)
        for (uint64_t i = 0; i < plan->threads; i++)
            pthread_join(crew.threads[i], NULL);
    result->client_cpu_s = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - client_cpu;
    result->server_cpu_s = server_seconds(plan) - server_cpu;
    for (uint64_t i = 0; i < plan->threads; i++) {
        if (plan->requests == 0)
            pthread_join(crew.threads[i], NULL);
        add_counts(&result->counts, &crew.workers[i].counts, plan->threads);
        free(crew.workers[i].counts.intervals);
    }
    uint64_t last_ns = plan->requests ? result->counts.last_ns : plan->end_ns;
    result->seconds = last_ns > plan->begin_ns ? (double)(last_ns - plan->begin_ns) / 1e9 : 0;
    pthread_barrier_destroy(&crew.barrier);
    free(crew.threads);
    free(crew.workers);
    return code;
}

/* Nothing was answered: nobody there. Something failed: not what was asked for. */
static int verdict(const struct bench_plan *plan, const struct bench_counts *counts) {
    uint64_t answered = 0, bad = counts->unsent;
    for (size_t i = 0; i < plan->operation_count; i++) {
        answered += counts->tally[i].answered - counts->tally[i].errors;
        bad += counts->tally[i].errors + counts->tally[i].unanswered;
    }
    return bad == 0 && answered > 0 ? CLI_OK : CLI_NO;
}

int cli_bench(const struct cli_args *args) {
    struct bench_plan plan = {0};
    struct bench_result *result = xcalloc(1, sizeof *result);
    int code = CLI_USAGE;
    if (plan_make(&plan, args))
        code = raise_limit(plan.clients) ? bench_run(&plan, result) : CLI_LOCAL;
    if (code == CLI_OK) {
        if (args->json)
            bench_report_json(&plan, result);
        else
            bench_report_text(&plan, result);
        code = verdict(&plan, &result->counts);
    }
    free(result->counts.intervals);
    free(result);
    plan_fini(&plan);
    return code;
}
