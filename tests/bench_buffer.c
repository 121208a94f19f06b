/* SPDX-License-Identifier: MIT */
/* What one call of `buffer` costs at N migrations, N = 10 ... 100 000, and what one tick allocates once it is steady.
 * Times of one run count only beside each other: so the machine's own exp() runs beside them, and a cost is also told as
 * so many of it. With arguments: only these N; `paper` or `planner` before them: only that policy. */
#include "migbuf/buffer.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GIB (UINT64_C(1) << 30)
#define BATCHES 9 /* the quickest counts: whatever else runs on the machine only makes one slower */

static uint64_t allocations, bytes_held;

static void *counting(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    (void)context;
    bytes_held += new_bytes - old_bytes;
    if (!new_bytes) {
        free(pointer);
        return NULL;
    }
    allocations++;
    return realloc(pointer, new_bytes);
}

/* Of this thread: what else runs on the machine costs it none. */
static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double look_s; /* what a look at that clock costs */

static double seconds_since(double start)
{
    return seconds() - start - look_s;
}

static void measure_look(void)
{
    double least = INFINITY;

    for (int i = 0; i < 10000; i++)
        least = fmin(least, seconds_since(seconds()));
    look_s = least;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Seconds of one exp(), now: a machine does not keep one speed. */
static double measure_exp(void)
{
    double start = seconds(), all = 0;

    for (int i = 0; i < 200000; i++)
        all += exp(-(double)i * 5e-5);
    return seconds_since(start) / 200000 + (all > 0 ? 0 : 1); /* so that it is computed */
}

/* A host with n migrations; one in 16 is a hog whose file is many bins large, so that there are shards. */
static void sample_all(struct migbuf_sample *s, size_t n, uint64_t share, int round, uint32_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t most = i % 16 ? share / 2 : share * 4;

        s[i].file_bytes = most / 2 + next_random(seed) % 4096 + (uint64_t)round * 64;
        s[i].written_bytes = s[i].file_bytes + (uint64_t)round * 65536; /* some of it are rewrites */
        s[i].writes = s[i].written_bytes / 4096;
    }
}

static const struct migbuf_geometry disk = { .virtual_bytes = 100 * GIB, .cluster_bytes = 65536, .subcluster_bytes = 65536,
                                             .block_bytes = 4096, .request_bytes = 65536, .queue_bytes = 1 << 20,
                                             .extra_bytes = MIGBUF_NONE };

struct cost {
    double add, add_full, sample, tick, remove; /* s, of one migration; add_full: while files are there */
    double tick_exps;                           /* how many exp() a tick costs */
    double exp;                                 /* s of one */
    double bytes;                               /* of memory */
    unsigned long long allocations;             /* in the ticks that were measured */
    int shards;
};

static int measure(size_t n, int32_t policy, struct cost *c)
{
    struct migbuf_allocator a = { .resize = counting };
    struct migbuf_buffer_options o;
    struct migbuf_sample *s = calloc(n, sizeof *s);
    struct migbuf_decision *d = calloc(n + 1, sizeof *d);
    struct migbuf_migration m;
    struct migbuf_buffer *b;
    uint32_t seed = 1;
    uint64_t before;
    double start, exps = 0, ticks = 0;
    int round = 0, rounds = n < 50000 ? (int)(50000 / n) : 2;

    migbuf_migration_init(&m, sizeof m);
    migbuf_buffer_options_init(&o, sizeof o);
    o.policy = policy;
    if (!s || !d || migbuf_buffer_new(n * GIB, &o, &a, &b))
        return 1;
    start = seconds();
    for (size_t i = 0; i < n; i++) {
        m.id = s[i].id = i * 7919;
        if (migbuf_buffer_add(b, &m, &disk, 1, NULL))
            return 1;
    }
    c->add = seconds_since(start) / (double)n;

    c->sample = c->tick = c->exp = INFINITY;
    for (int batch = -1; batch < BATCHES; batch++) { /* the first one until it is steady */
        double sampled = 0, ticked = 0;

        before = batch <= 0 ? allocations : before;
        for (int k = 0; k < (batch < 0 ? 3 : rounds); k++, round++) {
            sample_all(s, n, GIB, round, &seed);
            start = seconds();
            if (migbuf_buffer_sample(b, (uint64_t)round * 1000, s, n))
                return 1;
            sampled += seconds_since(start);
            start = seconds();
            if (migbuf_buffer_tick(b, (uint64_t)round * 1000, d, n) != (int)n)
                return 1;
            ticked += seconds_since(start);
        }
        if (batch >= 0) {
            double one = measure_exp();

            exps += one;
            ticks += ticked / rounds / (double)n;
            c->exp = fmin(c->exp, one);
            c->sample = fmin(c->sample, sampled / rounds / (double)n);
            c->tick = fmin(c->tick, ticked / rounds / (double)n);
        }
    }
    c->tick_exps = ticks / exps;
    c->allocations = allocations - before;
    c->bytes = (double)bytes_held / (double)n;
    c->shards = migbuf_bins_shards(migbuf_buffer_bins(b), NULL, 0);

    start = seconds();
    m.id = n * 7919;
    if (migbuf_buffer_add(b, &m, &disk, 1, NULL))
        return 1;
    c->add_full = seconds_since(start);
    for (size_t i = 0; i < n; i++) /* before they leave, all files are empty: no shards that come home one after the other */
        s[i].file_bytes = s[i].writes = s[i].written_bytes = 0;
    if (migbuf_buffer_sample(b, (uint64_t)round * 1000, s, n) || migbuf_buffer_tick(b, (uint64_t)round * 1000, d, n + 1) < 0)
        return 1;
    start = seconds();
    for (size_t i = 0; i < n; i++)
        if (migbuf_buffer_remove(b, s[(i * 7919 + 1) % n].id)) /* 7919 is a prime that divides no n: each once */
            return 1;
    c->remove = seconds_since(start) / (double)n;
    migbuf_buffer_free(b);
    free(s);
    free(d);
    return c->allocations != 0 || bytes_held != 0;
}

int main(int argc, char **argv)
{
    size_t sizes[8] = { 10, 100, 1000, 10000, 100000 }, count = 5;
    int32_t least = MIGBUF_POLICY_PAPER, most = MIGBUF_POLICY_PLANNER;

    if (argc > 1 && (!strcmp(argv[1], "paper") || !strcmp(argv[1], "planner"))) {
        least = most = strcmp(argv[1], "paper") ? MIGBUF_POLICY_PLANNER : MIGBUF_POLICY_PAPER;
        argv++;
        argc--;
    }
    for (count = argc > 1 ? 0 : count; argc > 1 && count < 8 && (int)count + 1 < argc; count++)
        sizes[count] = strtoul(argv[count + 1], NULL, 10);
    measure_look();
    printf("ns of one migration, the least; tick/exp is a mean; exponent: of tick/exp, from the N before\n"
           "policy        N    shards     add  sample    tick   exp  tick/exp  exponent  remove  add beside files  bytes  allocs\n");
    for (int32_t policy = least; policy <= most; policy += 2) {
        double first = 0, last = 0;

        for (size_t k = 0; k < count; k++) {
            struct cost c;
            double exponent;

            if (!sizes[k] || measure(sizes[k], policy, &c)) {
                printf("a steady tick allocated, something leaked, or a call failed\n");
                return 1;
            }
            exponent = k ? 1 + log(c.tick_exps / last) / log((double)sizes[k] / (double)sizes[k - 1]) : 1;
            first = k ? first : c.tick_exps;
            last = c.tick_exps;
            printf("%-7s %7zu %9d %7.0f %7.1f %7.1f %5.1f %9.1f %9.2f %7.0f %17.0f %6.0f %7llu\n",
                   policy == MIGBUF_POLICY_PAPER ? "paper" : "planner", sizes[k], c.shards, c.add * 1e9, c.sample * 1e9,
                   c.tick * 1e9, c.exp * 1e9, c.tick_exps, exponent, c.remove * 1e9, c.add_full * 1e9, c.bytes, c.allocations);
            fflush(stdout);
        }
        if (count > 1)
            printf("%-7s exponent from %zu to %zu: %.3f\n", policy == MIGBUF_POLICY_PAPER ? "paper" : "planner", sizes[0],
                   sizes[count - 1], 1 + log(last / first) / log((double)sizes[count - 1] / (double)sizes[0]));
    }
    return 0;
}
