/* SPDX-License-Identifier: MIT */
/* What one tick of forecast and planner costs at N migrations, N = 10 ... 100 000, as a multiple of one exp() measured
 * in the same run: times differ between machines, this hardly does. Nothing is allocated: the caller gives all arrays.
 */
#include "migbuf/forecast.h"
#include "migbuf/admission.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MIB 1048576.0

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* One exp() whose argument depends on the one before, as in a sum that needs the result. */
static double cost_of_exp(void)
{
    volatile double seed = 0.5;
    double x = seed, start = seconds(), cost;

    for (int i = 0; i < 20000; i++)
        x = exp(-x);
    cost = (seconds() - start) / 20000;
    seed = x;
    return cost;
}

struct fleet {
    size_t n;
    struct migbuf_forecast *forecast;
    struct migbuf_planner_guest *guest;
    struct migbuf_planner_plan *plan;
    struct migbuf_planner_slot *slot;
};

/* What a host does each second: learn from the samples, then plan. */
static int tick(struct fleet *f, const struct migbuf_planner_options *o, const struct migbuf_planner_link *link,
                uint32_t *seed)
{
    for (size_t k = 0; k < f->n; k++) {
        struct migbuf_planner_guest *g = &f->guest[k];
        struct migbuf_forecast *c = &f->forecast[k];
        double written = (1 + (double)k * 37 / (double)f->n) * MIB * (0.5 + next_random(seed) / 16777216.0);
        double bend = 2e9 / (double)(1 + k % 7), grown = written * bend / (bend + g->file_bytes);

        g->file_bytes += grown;
        g->left_bytes = fmax(1, g->left_bytes - 1e6);
        migbuf_forecast_update(c, 1, written, grown, f->plan[k].rate > 0 ? f->plan[k].rate : INFINITY);
        migbuf_forecast_remaining(c, g->file_bytes, 1e11, &g->remaining);
        g->growth_ratio = c->growth_ratio;
        g->rate = c->rate;
        g->peak = c->peak;
        g->need_bytes = f->plan[k].need_bytes;
        g->place = f->plan[k].place;
    }
    return migbuf_planner_tick(o, link, 1, f->guest, f->n, f->slot, f->plan);
}

/* The best of many short parts, each beside its exp(): another program on the machine slows both down. */
static int measure(size_t n)
{
    struct fleet f = { n, calloc(n, sizeof *f.forecast), calloc(n, sizeof *f.guest), calloc(n, sizeof *f.plan),
                       calloc(n + 1, sizeof *f.slot) };
    struct migbuf_planner_link link = { 1.25e9 * (double)n, 1.25e9 };
    struct migbuf_planner_options o;
    uint32_t seed = 1;
    double best = INFINITY, one_exp = INFINITY;
    int cut = 0, rounds = (int)(1000 / n) + 1;

    if (!f.forecast || !f.guest || !f.plan || !f.slot || migbuf_planner_options_init(&o, sizeof o))
        return 1;
    o.capacity_bytes = 1e9 * (double)n;
    for (size_t k = 0; k < n; k++) {
        migbuf_forecast_init(&f.forecast[k], 1e6);
        f.guest[k] =
            (struct migbuf_planner_guest){ .id = k, .weight = 1, .left_bytes = 1e10 + 1e3 * next_random(&seed) };
    }
    for (int round = 0; round < 60; round++) /* until the forecasts know their guests */
        if (tick(&f, &o, &link, &seed) < 0)
            return 1;
    for (int part = 0; part < (n > 10000 ? 30 : 400); part++) {
        double start = seconds();

        for (int round = 0; round < rounds; round++)
            cut = tick(&f, &o, &link, &seed);
        best = fmin(best, (seconds() - start) / rounds / (double)n);
        one_exp = fmin(one_exp, cost_of_exp());
    }
    printf("%8zu %8d %12.3f %12.1f %12.1f %12.1f %14.2f\n", n, cut, best * 1e6 * (double)n, best * 1e9, one_exp * 1e9,
           best / one_exp, best / one_exp / log2((double)n));
    free(f.forecast);
    free(f.guest);
    free(f.plan);
    free(f.slot);
    return cut < 0;
}

int main(void)
{
    static const size_t sizes[] = { 10, 100, 1000, 10000, 100000 };

    printf("       N      cut  us per tick     ns per N     exp() ns  exp() per N  per N log2 N\n");
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        if (measure(sizes[k]))
            return 1;
    return 0;
}
