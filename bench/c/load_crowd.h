/*
 * What it costs a server to open a crowd of connections and to close it, each half for itself: its CPU time from one rest
 * to the next. It rests when it hardly runs for a while, so all that opening or closing makes it do is in the half.
 */
#ifndef BENCH_LOAD_CROWD_H
#define BENCH_LOAD_CROWD_H

#include <stdbool.h>

#include "common.h"
#include "load_options.h"
#include "load_state.h"
#include "load_window.h"

#define REST (20 * NS_PER_S / 1000)
#define REST_CPU (REST / 100) /* for timers of its own; the clock of a process that runs moves at least once in REST */

static struct {
    bool counts;                   /* the first crowd does not */
    uint64_t until;                /* no further crowd after this time */
    uint64_t rest_began, looked, cpu; /* when, and the server's clock at the last look */
    struct reading mark;           /* at the last rest */
    struct reading opening, closing; /* sums over the crowds */
} crowd;

static void begin_rest(uint64_t now)
{
    crowd.rest_began = crowd.looked = now;
    crowd.cpu = clock_ns(server_clock);
}

static bool server_rests(uint64_t now)
{
    if (now - crowd.looked < REST)
        return false;
    uint64_t cpu = clock_ns(server_clock), used = cpu - crowd.cpu;
    if (used < REST_CPU)
        return true;
    if (now - crowd.rest_began > STALL)
        die("the server still works %llu s after the last connection was %s", STALL / NS_PER_S,
            run.phase == OPENED ? "opened" : "closed");
    crowd.looked = now;
    crowd.cpu = cpu;
    return false;
}

/* Adds what was read since the last rest to one half. The time until the server rested does not count. */
static void count_half(struct reading *half, uint64_t done)
{
    struct reading reading = take_reading(done);
    const struct reading *mark = &crowd.mark;
    if (crowd.counts) {
        half->time += crowd.rest_began - mark->time;
        half->done += reading.done - mark->done;
        half->own_cpu += reading.own_cpu - mark->own_cpu;
        half->server_cpu += reading.server_cpu - mark->server_cpu;
        half->server_user += reading.server_user - mark->server_user;
        half->server_system += reading.server_system - mark->server_system;
    }
    crowd.mark = reading;
}

/* Called when a crowd is closed; tells whether it was the last. */
static bool crowds_suffice(uint64_t now)
{
    if (!crowd.counts) {
        crowd.counts = true;
        crowd.until = now + chosen.duration;
        return false;
    }
    return chosen.count ? crowd.opening.done >= chosen.count : now >= crowd.until;
}

static void report_crowd(void)
{
    const struct reading *opening = &crowd.opening, *closing = &crowd.closing;
    struct reading both = {
        .time = opening->time + closing->time,
        .done = opening->done,
        .own_cpu = opening->own_cpu + closing->own_cpu,
        .server_cpu = opening->server_cpu + closing->server_cpu,
        .server_user = opening->server_user + closing->server_user,
        .server_system = opening->server_system + closing->server_system,
    };
    report_window(&(struct reading){0}, &both);
    printf(", \"opening_cpu_us\": %.4f, \"closing_cpu_us\": %.4f",
           (double)opening->server_cpu / 1e3 / (double)opening->done,
           (double)closing->server_cpu / 1e3 / (double)opening->done);
}

#endif
