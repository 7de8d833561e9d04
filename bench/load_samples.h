/* What the client measured: a growing list of nanoseconds, told as percentiles in microseconds. */
#ifndef BENCH_LOAD_SAMPLES_H
#define BENCH_LOAD_SAMPLES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct samples {
    uint64_t *at;
    size_t len, cap;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void add_sample(struct samples *s, uint64_t value)
{
    if (s->len == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 65536;
        s->at = realloc(s->at, s->cap * sizeof *s->at);
        if (s->at == NULL)
            abort();
    }
    s->at[s->len++] = value;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_samples(const char *name, struct samples *s)
{
    if (s->len == 0)
        return;
    qsort(s->at, s->len, sizeof *s->at, by_value);
    printf(",\"%s_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f}", name, (double)s->at[s->len / 2] / 1e3,
           (double)s->at[s->len * 9 / 10] / 1e3, (double)s->at[s->len * 99 / 100] / 1e3,
           (double)s->at[s->len * 999 / 1000] / 1e3);
}

#endif
