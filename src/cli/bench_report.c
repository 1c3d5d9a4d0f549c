#include "cli/bench.h"

#include <stdio.h>

#include "proto/json_out.h"

static const struct {
    const char *name; /* in JSON; in the table without the "p" of a quantile */
    double part;
} quantiles[] = {{"p50", 0.5},     {"p90", 0.9},       {"p99", 0.99},
                 {"p99_9", 0.999}, {"p99_99", 0.9999}, {"max", 1}};

static uint64_t total_answered(const struct bench_plan *plan, const struct bench_counts *counts) {
    uint64_t sum = 0;
    for (size_t i = 0; i < plan->operation_count; i++)
        sum += counts->tally[i].answered;
    return sum;
}

static double per_second(const struct bench_result *result, uint64_t count) {
    return result->seconds > 0 ? (double)count / result->seconds : 0;
}

static double per_100k(double seconds, uint64_t count) {
    return count > 0 ? seconds / (double)count * 100000 : 0;
}

/* ---- text ---- */

static void print_number(uint64_t n) {
    if (n >= 1000) {
        print_number(n / 1000);
        printf(",%03d", (int)(n % 1000));
    } else {
        printf("%d", (int)n);
    }
}

static void print_settings(const struct bench_plan *plan, const struct bench_result *result) {
    print_number(plan->clients);
    printf(" connection%s", plan->clients == 1 ? "" : "s");
    if (plan->threads > 1)
        printf(" on %d threads", (int)plan->threads);
    if (plan->pipeline > 1)
        printf(", %d requests on their way on each", (int)plan->pipeline);
    if (plan->rate > 0) {
        printf(", ");
        print_number(plan->rate);
        printf(" requests a second");
    }
    printf(", values of ");
    print_number(plan->value_bytes);
    printf(" bytes, ");
    print_number(plan->keys);
    printf(" keys\n%s, ", plan->protocol == BENCH_REDIS ? "Redis protocol" : "HTTP/1.1");
    for (size_t i = 0; i < plan->address_count; i++)
        printf("%s%s", i ? "," : "", plan->addresses[i]);
    printf(", %.2f s", result->seconds);
    if (plan->warmup_ms > 0)
        printf(" after %.2f s that are not counted", (double)plan->warmup_ms / 1000);
    printf("\n\n");
}

static void print_table(const struct bench_plan *plan, const struct bench_result *result) {
    printf("%-20s %10s %9s %9s %9s %9s %9s %9s %9s %9s\n", "", "per second", "mean ms", "min",
           "p50", "p90", "p99", "p99.9", "p99.99", "max");
    for (size_t i = 0; i < plan->operation_count; i++) {
        const struct bench_tally *tally = &result->counts.tally[i];
        printf("%-20.20s %10.0f %9.3f %9.3f", plan->operations[i].name,
               per_second(result, tally->answered), histogram_mean(&tally->ns) / 1e6,
               (double)tally->ns.min / 1e6);
        for (size_t q = 0; q < ARRAY_COUNT(quantiles); q++)
            printf(" %9.3f", (double)histogram_quantile(&tally->ns, quantiles[q].part) / 1e6);
        printf("\n");
    }
}

/* A line, when there is something to say. */
static void print_count(uint64_t count, const char *what) {
    if (count > 0) {
        print_number(count);
        printf(" %s\n", what);
    }
}

static void print_remarks(const struct bench_plan *plan, const struct bench_result *result) {
    const struct bench_counts *counts = &result->counts;
    uint64_t errors = 0, misses = 0, unanswered = 0;
    for (size_t i = 0; i < plan->operation_count; i++) {
        errors += counts->tally[i].errors;
        misses += counts->tally[i].misses;
        unanswered += counts->tally[i].unanswered;
    }
    print_count(errors, "requests failed");
    print_count(misses, "keys were missing (--fill --command set writes each one)");
    print_count(unanswered, "requests had no answer by the end; their time so far counts");
    print_count(counts->unsent,
                "requests were due and never sent, for want of answers to those before: the server "
                "cannot keep up, or there are too few connections; their time so far counts");
    print_count(counts->lost_connections, "connections were lost");
    if (counts->error[0])
        printf("The first error: %s\n", counts->error);
    if (result->client_cpu_s > 0.9 * result->seconds * (double)plan->threads)
        printf("This program's own threads were busy all the time: the server could do more, "
               "with more --threads\n");
}

void bench_report_text(const struct bench_plan *plan, const struct bench_result *result) {
    uint64_t answered = total_answered(plan, &result->counts);
    print_settings(plan, result);
    print_table(plan, result);
    printf("\n");
    print_number(answered);
    printf(" requests");
    if (result->counts.pause_ns > 0)
        printf("; %.1f ms is the longest time without a good answer",
               (double)result->counts.pause_ns / 1e6);
    printf("\nCPU seconds for 100,000 requests: ");
    if (plan->pid_count > 0)
        printf("server %.2f, ", per_100k(result->server_cpu_s, answered));
    printf("client %.2f\n", per_100k(result->client_cpu_s, answered));
    print_remarks(plan, result);
}

/* ---- JSON ---- */

static void add_u64(struct json_out *j, const char *key, uint64_t value) {
    json_out_key(j, key);
    json_out_u64(j, value);
}

static void add_double(struct json_out *j, const char *key, double value) {
    json_out_key(j, key);
    json_out_double(j, value);
}

static void add_operation(struct json_out *j, const struct bench_plan *plan,
                          const struct bench_result *result, size_t i) {
    const struct bench_tally *tally = &result->counts.tally[i];
    json_out_object(j);
    json_out_key(j, "name");
    json_out_str(j, plan->operations[i].name);
    add_u64(j, "requests", tally->answered);
    add_double(j, "per_second", per_second(result, tally->answered));
    add_u64(j, "errors", tally->errors);
    add_u64(j, "misses", tally->misses);
    add_u64(j, "unanswered", tally->unanswered);
    json_out_key(j, "us");
    json_out_object(j);
    add_u64(j, "count", tally->ns.count);
    add_double(j, "mean", histogram_mean(&tally->ns) / 1e3);
    add_double(j, "min", (double)tally->ns.min / 1e3);
    for (size_t q = 0; q < ARRAY_COUNT(quantiles); q++)
        add_double(j, quantiles[q].name,
                   (double)histogram_quantile(&tally->ns, quantiles[q].part) / 1e3);
    json_out_end(j, '}');
    json_out_end(j, '}');
}

static void add_plan(struct json_out *j, const struct bench_plan *plan) {
    json_out_key(j, "protocol");
    json_out_str(j, plan->protocol == BENCH_REDIS ? "redis" : "http");
    json_out_key(j, "addresses");
    json_out_array(j);
    for (size_t i = 0; i < plan->address_count; i++)
        json_out_str(j, plan->addresses[i]);
    json_out_end(j, ']');
    add_u64(j, "clients", plan->clients);
    add_u64(j, "threads", plan->threads);
    add_u64(j, "pipeline", plan->pipeline);
    add_u64(j, "rate", plan->rate);
    add_u64(j, "size", plan->value_bytes);
    add_u64(j, "keys", plan->keys);
    add_u64(j, "wait", plan->wait);
}

static void add_intervals(struct json_out *j, const struct bench_plan *plan,
                          const struct bench_counts *counts) {
    if (counts->interval_count == 0)
        return;
    add_u64(j, "interval_ms", plan->interval_ms);
    json_out_key(j, "intervals");
    json_out_array(j);
    for (size_t i = 0; i < counts->interval_count; i++) {
        json_out_object(j);
        add_u64(j, "requests", counts->intervals[i].answered);
        add_u64(j, "errors", counts->intervals[i].errors);
        add_double(j, "max_us", (double)counts->intervals[i].max_ns / 1e3);
        json_out_end(j, '}');
    }
    json_out_end(j, ']');
}

void bench_report_json(const struct bench_plan *plan, const struct bench_result *result) {
    const struct bench_counts *counts = &result->counts;
    uint64_t answered = total_answered(plan, counts);
    struct buf text = {0};
    struct json_out j;
    json_out_begin(&j, &text);
    json_out_object(&j);
    add_plan(&j, plan);
    add_double(&j, "seconds", result->seconds);
    add_u64(&j, "requests", answered);
    add_double(&j, "per_second", per_second(result, answered));
    json_out_key(&j, "operations");
    json_out_array(&j);
    for (size_t i = 0; i < plan->operation_count; i++)
        add_operation(&j, plan, result, i);
    json_out_end(&j, ']');
    add_u64(&j, "unsent", counts->unsent);
    add_u64(&j, "lost_connections", counts->lost_connections);
    json_out_key(&j, "error");
    if (counts->error[0])
        json_out_str(&j, counts->error);
    else
        json_out_null(&j);
    json_out_key(&j, "longest_pause_ms");
    if (plan->threads == 1)
        json_out_double(&j, (double)counts->pause_ns / 1e6);
    else
        json_out_null(&j);
    add_double(&j, "client_cpu_seconds", result->client_cpu_s);
    add_double(&j, "server_cpu_seconds", result->server_cpu_s);
    add_double(&j, "server_cpu_seconds_per_100k", per_100k(result->server_cpu_s, answered));
    add_intervals(&j, plan, counts);
    json_out_end(&j, '}');
    buf_append_char(&text, '\n');
    fwrite(text.data, 1, text.size, stdout);
    buf_fini(&text);
}
