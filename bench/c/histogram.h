/*
 * A histogram of durations in nanoseconds with log-linear buckets: 64 for every doubling, so a percentile is exact to
 * 1.6 %, adding costs a few instructions, and no duration is out of range.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define SUB_BUCKET_BITS 6
#define SUB_BUCKETS (1 << SUB_BUCKET_BITS)
#define BUCKETS ((64 - SUB_BUCKET_BITS + 1) * SUB_BUCKETS)

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total;
    uint64_t max;
};

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    int shift = value < SUB_BUCKETS ? 0 : 63 - SUB_BUCKET_BITS - __builtin_clzll(value);
    uint64_t bucket = ((uint64_t)shift << SUB_BUCKET_BITS) + (value >> shift);
    histogram->counts[bucket]++;
    histogram->total++;
    if (value > histogram->max)
        histogram->max = value;
}

/* The middle of a bucket. From SUB_BUCKETS on, a bucket's number holds its shift plus one above SUB_BUCKET_BITS. */
static inline double bucket_value(uint64_t bucket)
{
    if (bucket < 2 * SUB_BUCKETS)
        return (double)bucket;
    uint64_t shift = (bucket >> SUB_BUCKET_BITS) - 1;
    uint64_t low = (bucket % SUB_BUCKETS + SUB_BUCKETS) << shift;
    return (double)low + (double)(1ull << shift) / 2;
}

/* The duration that the given share of all stays below; 0 when there is none. */
static inline double histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t rank = (uint64_t)(share * (double)histogram->total), seen = 0;
    for (uint64_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen > rank) {
            double value = bucket_value(bucket);
            return value < (double)histogram->max ? value : (double)histogram->max;
        }
    }
    return (double)histogram->max;
}

#endif
