/* The measured window of the load generator: clocks read at its two ends, latencies within, and the report of both. */
#ifndef BENCH_LOAD_WINDOW_H
#define BENCH_LOAD_WINDOW_H

#include "common.h"
#include "histogram.h"
#include "load_options.h"

#define WARM_UP_TURNS 2 /* in each of which every outstanding message comes back */
#define LEAST_TURNS 10

/* What is read at the beginning and at the end of the measured window. */
struct reading {
    uint64_t time, done, own_cpu, server_cpu, server_user, server_system;
};

static clockid_t server_clock;
static struct histogram latencies;

static void find_server_clock(void)
{
    int error = clock_getcpuclockid((pid_t)chosen.pid, &server_clock);
    if (error)
        die("the CPU clock of process %d: %s", (int)chosen.pid, strerror(error));
}

/* User and system time come in clock ticks, too coarse for more than the proportion of the two. */
static void read_ticks(struct reading *reading)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)chosen.pid);
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(line, sizeof line, file) == NULL)
        die("cannot read %s", path);
    fclose(file);
    unsigned long long user, system;
    const char *after_name = strrchr(line, ')'); /* the name may hold blanks and parentheses */
    if (after_name == NULL
        || sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
        die("cannot understand %s", path);
    reading->server_user = user;
    reading->server_system = system;
}

/* `done` is the count of things done so far. */
static struct reading take_reading(uint64_t done)
{
    struct reading reading = {.time = now_ns(), .done = done, .own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
    if (chosen.pid) {
        reading.server_cpu = clock_ns(server_clock);
        read_ticks(&reading);
    }
    return reading;
}

/* Prints the window's part of the JSON object. All CPU times are for one thing done. */
static void report_window(const struct reading *begin, const struct reading *end)
{
    double seconds = (double)(end->time - begin->time) / 1e9, done = (double)(end->done - begin->done);
    printf(", \"seconds\": %.6f, \"done\": %.0f, \"per_second\": %.1f", seconds, done, done / seconds);
    printf(", \"load_cpu_us\": %.4f", (double)(end->own_cpu - begin->own_cpu) / 1e3 / done);
    if (chosen.pid) {
        double cpu = (double)(end->server_cpu - begin->server_cpu);
        double user = (double)(end->server_user - begin->server_user);
        double both = user + (double)(end->server_system - begin->server_system);
        double share = both > 0 ? user / both : 0;
        printf(", \"server_cpu_us\": %.4f, \"server_busy\": %.4f, \"server_user_share\": %.3f", cpu / 1e3 / done,
               cpu / 1e9 / seconds, share);
        printf(", \"server_user_us\": %.4f, \"server_system_us\": %.4f", cpu * share / 1e3 / done,
               cpu * (1 - share) / 1e3 / done);
    }
}

static void report_latencies(void)
{
    static const struct {
        const char *name;
        double share;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    printf(", \"latency_us\": {");
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        printf("\"%s\": %.2f, ", quantiles[i].name, histogram_quantile(&latencies, quantiles[i].share) / 1e3);
    printf("\"max\": %.2f}", (double)latencies.max / 1e3);
}

#endif
