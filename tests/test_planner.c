/* SPDX-License-Identifier: MIT */
/* The worked examples of planner.h, the golden ticks, and laws: the fast chain against slow progressive filling, order
 * of the arrays, lines kept, light writers untouched, admission against a queue played by hand. */
#include "unit.h"
#include "migbuf/admission.h"
#include "migbuf/throttle.h"
#include <string.h>

#define MOST 64

static struct migbuf_planner_slot scratch[3 * MOST];

static uint32_t draw(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)(*seed >> 8) * below) >> 24);
}

static double random_between(uint32_t *seed, double low, double high)
{
    return low * pow(high / low, draw(seed, 1 << 24) / 16777216.0);
}

START_TEST(finish_examples)
{
    const double x[] = { 100, 400, 900 }, w[] = { 1, 2, 1 }, falls[] = { 3, 2 }, y[] = { 100, 400, 900 };
    struct migbuf_planner_link l = { 10, 5 };
    double t[3];

    ck_assert_int_eq(migbuf_planner_finish(x, NULL, 3, &l, t), 0);
    ck_near(t[0], 30);
    ck_near(t[1], 90);
    ck_near(t[2], 190);
    l.flow_bytes_per_s = 100;
    ck_assert_int_eq(migbuf_planner_finish(x, NULL, 3, &l, t), 0);
    ck_near(t[0], 30);
    ck_near(t[1], 90);
    ck_near(t[2], 140);
    /* Weights 1, 2, 1: 2.5, 5, 2.5 of 10. The first is done after 40 s, the second has 200 left at 6.667, then 400
     * at 10. */
    ck_assert_int_eq(migbuf_planner_finish(y, w, 3, &l, t), 0);
    ck_near(t[0], 40);
    ck_near(t[1], 70);
    ck_near(t[2], 140);
    ck_assert_int_eq(migbuf_planner_finish(falls, NULL, 2, &l, t), MIGBUF_E_INVALID);
    l.bytes_per_s = 0;
    ck_assert_int_eq(migbuf_planner_finish(x, NULL, 3, &l, t), MIGBUF_E_RANGE);
}
END_TEST

START_TEST(lines_examples)
{
    const double s[] = { 200, 100, 300 }, t[] = { 10, 50, 200 }, full[] = { 600, 600, 600 }, back[] = { 10, 50, 20 };
    double line[3];

    ck_assert_int_eq(migbuf_planner_caps(1000, s, t, 3, 0, 0, line), 0);
    ck_near(line[0], 40);
    ck_near(line[1], 12);
    ck_near(line[2], 3.5);
    ck_assert_int_eq(migbuf_planner_caps(1000, s, t, 3, 0, 1, line), 0);
    ck_near(line[0], 160.0 / 3);
    ck_near(line[2], 14.0 / 3);
    ck_assert_int_eq(migbuf_planner_caps(1000, full, t, 3, 0, 1, line), 0);
    ck_near(line[0], 0);
    ck_near(line[1], 0);
    ck_near(line[2], 8.0 / 3);
    ck_assert_int_eq(migbuf_planner_caps(1000, s, back, 3, 0, 0, line), MIGBUF_E_INVALID);
}
END_TEST

static void chain_is(const double *h, const double *r, const double *w, const double *expected)
{
    double g[3];

    ck_assert_int_eq(migbuf_planner_chain(h, r, w, 3, scratch, g), 0);
    for (int k = 0; k < 3; k++)
        ck_near(g[k], expected[k]);
}

START_TEST(chain_examples)
{
    const double r[] = { 40, 12, 3.5 }, tight[] = { 6, 12, 3.5 }, wide[] = { 10, 1e9, 1e9 },
                 open[] = { INFINITY, INFINITY, INFINITY };
    const double w[] = { 2, 4, 1 };

    chain_is((double[]){ 30, 4, 20 }, r, NULL, (double[]){ 30, 4, 3.5 });
    chain_is((double[]){ 50, 4, 20 }, r, NULL, (double[]){ 32.5, 4, 3.5 });
    chain_is((double[]){ 50, 10, 20 }, tight, NULL, (double[]){ 2, 2, 2 });
    chain_is((double[]){ 4, 16, 1 }, wide, w, (double[]){ 3, 6, 1 });
    chain_is((double[]){ 4, 16, 1 }, open, NULL, (double[]){ 4, 16, 1 });
    chain_is((double[]){ 0, 0, 0 }, (double[]){ 0, 0, 0 }, NULL, (double[]){ 0, 0, 0 });
}
END_TEST

/* The definition, taken at its word: all levels rise together; who has its wish, or is behind a line that is full,
 * stops. */
static void progressive(const double *h, const double *r, const double *w, size_t n, double *g)
{
    int stopped[MOST] = { 0 };
    double level = 0;

    for (size_t left = n; left;) {
        double step = INFINITY;

        for (size_t k = 0; k < n; k++) {
            double have = 0, rising = 0;

            for (size_t j = k; j < n; j++) {
                have += stopped[j] ? g[j] : w[j] * level;
                rising += stopped[j] ? 0 : w[j];
            }
            if (rising > 0)
                step = fmin(step, fmax(0, (r[k] - have) / rising));
            if (!stopped[k])
                step = fmin(step, fmax(0, h[k] / w[k] - level));
        }
        level += step;
        for (size_t k = 0; k < n; k++) {
            double have = 0, rising = 0;

            for (size_t j = k; j < n; j++) {
                have += stopped[j] ? g[j] : w[j] * level;
                rising += stopped[j] ? 0 : w[j];
            }
            for (size_t j = k; j < n && rising > 0 && have >= r[k] - 1e-9 * (1 + r[k]); j++)
                if (!stopped[j]) {
                    g[j] = w[j] * level;
                    stopped[j] = 1;
                    left--;
                }
            if (!stopped[k] && w[k] * level >= h[k] * (1 - 1e-12)) {
                g[k] = h[k];
                stopped[k] = 1;
                left--;
            }
        }
    }
}

START_TEST(chain_is_max_min_fair)
{
    uint32_t seed = 42;

    for (int instance = 0; instance < unit_rounds(20000); instance++) {
        size_t n = 1 + draw(&seed, instance % 50 ? 9 : 40);
        double h[MOST], r[MOST], w[MOST], g[MOST], slow[MOST], sum = 0;

        for (size_t k = 0; k < n; k++) {
            h[k] = draw(&seed, 4) ? random_between(&seed, 0.01, 1000) : draw(&seed, 5) * 10.0;
            r[k] = draw(&seed, 5) ? random_between(&seed, 0.01, 3000) : draw(&seed, 4) * 25.0;
            w[k] = instance % 2 ? 1 : 1 + draw(&seed, 3);
        }
        ck_assert_int_eq(migbuf_planner_chain(h, r, instance % 2 ? NULL : w, n, scratch, g), 0);
        progressive(h, r, w, n, slow);
        for (size_t k = n; k-- > 0;) {
            sum += g[k];
            ck_assert_msg(fabs(g[k] - slow[k]) <= 1e-7 * (1 + slow[k]),
                          "instance %d of seed 42: g[%zu] %.12g, slowly %.12g", instance, k, g[k], slow[k]);
            ck_assert(g[k] <= h[k] && sum <= r[k] * (1 + 1e-9) + 1e-9);
        }
    }
}
END_TEST

static struct migbuf_planner_options options(double capacity, double floor)
{
    struct migbuf_planner_options o;

    ck_assert_int_eq(migbuf_planner_options_init(&o, sizeof o), 0);
    o.capacity_bytes = capacity;
    o.floor = floor;
    return o;
}

/* G24 and E-G5: one tick of three guests, down to what is sent to QEMU. */
START_TEST(a_golden_tick)
{
    const struct migbuf_planner_guest g[] = {
        { .id = 1,
          .weight = 1,
          .left_bytes = 20000,
          .file_bytes = 1000,
          .rate = 100,
          .peak = 100,
          .growth_ratio = 0.9,
          .remaining = INFINITY },
        { .id = 2,
          .weight = 1,
          .left_bytes = 5000,
          .file_bytes = 200,
          .rate = 2,
          .peak = 2,
          .growth_ratio = 1,
          .remaining = INFINITY },
        { .id = 3,
          .weight = 1,
          .left_bytes = 50000,
          .file_bytes = 3000,
          .rate = 300,
          .peak = 300,
          .growth_ratio = 0.5,
          .remaining = 6000 },
    };
    const double x[] = { 21369.863, 5201.20724, 55454.5455 }, t[] = { 47.9409333, 15.6036217, 116.110298 };
    const double h[] = { 89.84, 1.84, 48.6795074 }, r[] = { 27.3853354, 67.7201977, 22.7533346 };
    const double growth[] = { 13.6926677, 1.84, 13.6926677 }, rate[] = { 15.391853, INFINITY, 32.2528864 };
    const double set[] = { 13.9925936, 683.959328, 29.3208058 };
    const struct migbuf_planner_link link = { 1000, 500 };
    struct migbuf_planner_options o = options(5000, 0.16);
    struct migbuf_planner_plan p[3];
    double claim[3], free_bytes = 5000, level;
    size_t order[3];

    o.newcomers = o.explore = 0;
    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 3, scratch, p), 2);
    for (int k = 0; k < 3; k++) {
        ck_near(p[k].send_bytes, x[k]);
        ck_near(p[k].finish_s, t[k]);
        ck_near(p[k].demand, h[k]);
        ck_near(p[k].cap, r[k]);
        ck_near(p[k].growth, growth[k]);
        ck_near(p[k].rate, rate[k]);
        ck_near(p[k].need_bytes, (h[k] + 0.16) * t[k]);
        claim[k] = fmin(p[k].rate / 1.1, 1000) * 1.1; /* the device, T + b */
        free_bytes -= g[k].file_bytes;
    }
    ck_near(free_bytes, 800);
    ck_assert_int_eq(p[1].place, 0);
    ck_assert_int_eq(p[2].place, 2);
    ck_assert_int_eq(migbuf_throttle_shave(claim, NULL, 3, free_bytes, order, &level), 0);
    ck_near(level, 752.355260);
    for (int k = 0; k < 3; k++)
        ck_near(fmin(claim[k], level) / 1.1, set[k]);
}
END_TEST

START_TEST(the_header_s_example)
{
    const struct migbuf_planner_guest g[] = {
        { .id = 7,
          .weight = 1,
          .left_bytes = 4000,
          .file_bytes = 100,
          .rate = 1,
          .peak = 1,
          .growth_ratio = 1,
          .remaining = INFINITY },
        { .id = 8,
          .weight = 1,
          .left_bytes = 9000,
          .file_bytes = 100,
          .rate = 20,
          .peak = 20,
          .growth_ratio = 1,
          .remaining = INFINITY },
    };
    const struct migbuf_planner_link link = { 100, INFINITY };
    struct migbuf_planner_options o = options(1000, 0);
    struct migbuf_planner_plan p[2];

    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 2, scratch, p), 1);
    ck_near(p[0].send_bytes, 4000 + 100 / 0.98);
    ck_near(p[1].send_bytes, 9000 + 100 / 0.6);
    ck_near(p[0].finish_s, 82.0408163);
    ck_near(p[1].finish_s, 132.687075);
    ck_near(p[0].cap, 800 / 82.0408163 * 1.5);
    ck_near(p[1].cap, 750 / 132.687075 * 1.5);
    ck_near(p[0].rate, INFINITY);
    ck_near(p[1].growth, 8.47859520);
    ck_near(p[1].rate, 8.47859520);
}
END_TEST

/* Who stays leaves room for who comes: the more, the more places are free by the time it goes. */
START_TEST(room_for_newcomers)
{
    struct migbuf_planner_guest g[2] = { { .id = 1, .weight = 1, .left_bytes = 10000, .file_bytes = 300, .rate = 50,
                                           .growth_ratio = 1, .remaining = INFINITY } };
    const struct { struct migbuf_planner_link link; double omega; } example[] = {
        { { 100, INFINITY }, 1000 },     /* one fills the link */
        { { 100, 50 }, 850 },            /* two would: one place of two is free, 0.3 of it left */
        { { 100, 10 }, 730 },            /* nine of ten */
        { { 100, 200 }, 1000 },          /* never less than one */
    };
    struct migbuf_planner_options o = options(1000, 0);
    struct migbuf_planner_plan p[2];

    o.explore = 0;
    for (size_t k = 0; k < sizeof example / sizeof *example; k++) {
        ck_assert_int_eq(migbuf_planner_tick(&o, &example[k].link, 1, g, 1, scratch, p), 1);
        ck_near(p[0].cap, (example[k].omega - 300) / p[0].finish_s * 2);
    }
    g[1] = g[0];
    g[1].id = 2;
    g[1].left_bytes = 1000;
    ck_assert_int_gt(migbuf_planner_tick(&o, &example[1].link, 1, g, 2, scratch, p), 0);
    ck_near(p[1].cap, (1000 - 600) / p[1].finish_s * 1.5); /* the first to go: nobody has left */
    ck_near(p[0].cap, (850 - 300) / p[0].finish_s * 1.5);
    o.newcomers = 1.5;
    ck_assert_int_eq(migbuf_planner_tick(&o, &example[0].link, 1, g, 1, scratch, p), MIGBUF_E_RANGE);
}
END_TEST

/* As many floors as are asked for lie free for each, until it is over; at most a sixteenth of the volume. */
START_TEST(floors_are_kept_free)
{
    struct migbuf_planner_guest g[2] = { { .id = 1, .weight = 1, .left_bytes = 10000, .file_bytes = 300, .rate = 50,
                                           .growth_ratio = 1, .remaining = INFINITY } };
    const struct migbuf_planner_link link = { 100, INFINITY };
    struct migbuf_planner_options o = options(1000, 1);
    struct migbuf_planner_plan p[2];

    g[1] = g[0];
    g[1].id = 2;
    g[1].left_bytes = 500;
    for (o.floors = 1; o.floors <= 3; o.floors += 2) {
        ck_assert_int_gt(migbuf_planner_tick(&o, &link, 1, g, 2, scratch, p), 0);
        ck_near(p[1].cap, ((1000 - 600 - fmin(2 * (o.floors - 1) * p[1].finish_s, 62.5)) / p[1].finish_s - 2) * 1.5);
        ck_near(p[0].cap, ((850 - 300 - fmin((o.floors - 1) * p[0].finish_s, 62.5)) / p[0].finish_s - 1) * 1.5);
        ck_near(p[0].demand, p[0].need_bytes / p[0].finish_s - 1); /* the floor itself is one */
    }
    o.floors = 0.5;
    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 2, scratch, p), MIGBUF_E_RANGE);
    o.floors = NAN;
    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 2, scratch, p), MIGBUF_E_INVALID);
}
END_TEST

/* A quarter of an equal part without throttle, for who does not share its flow. */
START_TEST(a_beginner_explores)
{
    struct migbuf_planner_guest g[3] = { { .id = 1, .weight = 1, .left_bytes = 10000, .file_bytes = 124, .rate = 50,
                                           .growth_ratio = 1, .remaining = INFINITY } };
    const struct migbuf_planner_link link = { 100, 50 }, slow = { 69, 50 };
    struct migbuf_planner_options o = options(1000, 0);
    struct migbuf_planner_plan p[3];

    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 1, scratch, p), 1);
    ck_assert(isinf(p[0].rate) && p[0].cut);
    g[0].file_bytes = 125;
    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 1, scratch, p), 1);
    ck_assert(p[0].rate < 50);
    g[0].file_bytes = 124;
    o.explore = 0.2;
    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 1, scratch, p), 1);
    ck_assert(p[0].rate < 50);
    o.explore = 0.25;
    g[1] = g[2] = g[0];
    g[1].id = 2;
    g[2].id = 3;
    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 2, scratch, p), 2);
    ck_assert(isinf(p[0].rate) && isinf(p[1].rate));
    ck_assert_int_eq(migbuf_planner_tick(&o, &slow, 1, g, 2, scratch, p), 2); /* 34.5 of 50: shared */
    ck_assert(p[0].rate < 50 && p[1].rate < 50);
    g[0].file_bytes = g[1].file_bytes = g[2].file_bytes = 0;
    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 3, scratch, p), 3);
    ck_assert(p[0].rate < 50);
    g[0].draining = 1;
    ck_assert_int_ge(migbuf_planner_tick(&o, &link, 1, g, 1, scratch, p), 0);
    ck_assert(p[0].rate <= 45);
}
END_TEST

START_TEST(draining_and_weights)
{
    struct migbuf_planner_guest g[] = {
        { .id = 1,
          .weight = 1,
          .draining = 1,
          .left_bytes = 100,
          .file_bytes = 500,
          .rate = 25,
          .peak = 25,
          .growth_ratio = 1,
          .remaining = INFINITY },
        { .id = 2,
          .weight = 3,
          .left_bytes = 900,
          .file_bytes = 0,
          .rate = 1,
          .peak = 1,
          .growth_ratio = 1,
          .remaining = INFINITY },
    };
    const struct migbuf_planner_link link = { 200, INFINITY };
    struct migbuf_planner_options o = options(1e6, 0);
    struct migbuf_planner_plan p[2];

    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 2, scratch, p), 0);
    ck_near(p[0].send_bytes, 200); /* half of its 50 MB/s is dirtied again */
    ck_near(p[0].finish_s, 4);
    ck_near(p[0].rate, 45);
    ck_near(p[1].rate, INFINITY);
    o.capacity_bytes = 501;
    ck_assert_int_gt(migbuf_planner_tick(&o, &link, 1, g, 2, scratch, p), 0);
    ck_near(fmax(p[0].rate, 25), 25);
    g[0].weight = 0;
    ck_assert_int_eq(migbuf_planner_tick(&o, &link, 1, g, 2, scratch, p), MIGBUF_E_RANGE);
}
END_TEST

static void random_guest(uint32_t *seed, struct migbuf_planner_guest *g, uint64_t id, uint32_t links)
{
    *g = (struct migbuf_planner_guest){
        .id = id,
        .link = draw(seed, links),
        .draining = draw(seed, 4) == 0,
        .weight = 1 + draw(seed, 3),
        .file_bytes = random_between(seed, 1e3, 1e9),
        .left_bytes = random_between(seed, 1e3, 1e11),
        .need_bytes = random_between(seed, 1, 1e9),
        .remaining = draw(seed, 3) ? random_between(seed, 1, 1e11) : INFINITY,
        .growth_ratio = draw(seed, 100) / 99.0,
        .rate = draw(seed, 5) ? random_between(seed, 1e3, 1e9) : 0,
    };
    g->peak = g->rate * (1 + draw(seed, 30));
}

/* The same guests in another order, same links in another order: the same plan for each, to the last bit. */
START_TEST(order_does_not_matter)
{
    uint32_t seed = 3;

    for (int instance = 0; instance < unit_rounds(2000); instance++) {
        size_t n = 1 + draw(&seed, MOST - 1), links = 1 + draw(&seed, 3);
        struct migbuf_planner_guest g[MOST], h[MOST];
        struct migbuf_planner_plan p[MOST], q[MOST];
        const struct migbuf_planner_link l[] = { { 1e8, 5e7 }, { 1e9, INFINITY }, { 1e7, 1e6 } };
        struct migbuf_planner_options o = options(random_between(&seed, 1e8, 1e11), 160000);
        size_t at[MOST];

        for (size_t k = 0; k < n; k++) {
            random_guest(&seed, &g[k], 1000 - k, (uint32_t)links);
            g[k].weight = 1;                /* sums of weights in another order are only equal when they are exact */
            if (k && draw(&seed, 4) == 0) { /* twins: only the id tells them apart */
                g[k] = g[k - 1];
                g[k].id = 1000 - k;
            }
            at[k] = k;
        }
        for (size_t k = n; k > 1; k--) {
            size_t other = draw(&seed, (uint32_t)k), t = at[k - 1];

            at[k - 1] = at[other];
            at[other] = t;
        }
        for (size_t k = 0; k < n; k++)
            h[k] = g[at[k]];
        memset(p, 0, sizeof p);
        memset(q, 0, sizeof q);
        ck_assert_int_ge(migbuf_planner_tick(&o, l, links, g, n, scratch, p), 0);
        ck_assert_int_ge(migbuf_planner_tick(&o, l, links, h, n, scratch, q), 0);
        for (size_t k = 0; k < n; k++)
            ck_assert_mem_eq(&p[at[k]], &q[k], sizeof *q);
    }
}
END_TEST

/* Nobody gets more than its wish; who stays longer than k keeps, together, the line of k; rates are never below the
 * floor; releases come in the order of the places. */
START_TEST(a_tick_keeps_its_lines)
{
    uint32_t seed = 11;

    for (int instance = 0; instance < unit_rounds(3000); instance++) {
        size_t n = 1 + draw(&seed, MOST - 1);
        struct migbuf_planner_guest g[MOST];
        struct migbuf_planner_plan p[MOST];
        const struct migbuf_planner_link l[] = { { 1e8, 5e7 }, { 1e9, INFINITY } };
        struct migbuf_planner_options o = options(random_between(&seed, 1e6, 1e11), instance % 3 ? 160000 : 0);
        size_t by_place[MOST];
        double sum = 0;

        for (size_t k = 0; k < n; k++)
            random_guest(&seed, &g[k], k, 2);
        ck_assert_int_ge(migbuf_planner_tick(&o, l, 2, g, n, scratch, p), 0);
        for (size_t k = 0; k < n; k++)
            by_place[p[k].place] = k;
        for (size_t k = n; k-- > 0;) {
            const struct migbuf_planner_plan *q = &p[by_place[k]];

            sum += q->growth;
            ck_assert(q->growth >= 0 && q->growth <= q->demand && q->rate >= o.floor && q->finish_s >= 1);
            ck_assert_msg(sum <= q->cap * (1 + 1e-9) + 1e-6, "seed 11, instance %d: %g above %g", instance, sum,
                          q->cap);
            ck_assert(k == 0 || p[by_place[k - 1]].finish_s <= q->finish_s);
            ck_assert(q->cut || g[by_place[k]].draining || isinf(q->rate));
        }
    }
}
END_TEST

static int32_t verdict(const double *running, size_t n, double flow, double u)
{
    struct migbuf_planner_link l = { u, INFINITY };
    struct migbuf_admission_flow r[4] = { { 0 } }, w = { .id = 9, .flow_bytes_per_s = flow, .disk_bytes = 1 };
    struct migbuf_admission_turn turn;

    for (size_t k = 0; k < n; k++)
        r[k] = (struct migbuf_admission_flow){ .id = k, .flow_bytes_per_s = running[k], .seconds = 10 };
    ck_assert_int_ge(migbuf_admission_queue(MIGBUF_ADMISSION_SHORTEST, &l, 1, r, n, &w, 1, scratch, &turn), 0);
    ck_assert_int_eq((int)turn.id, 9);
    ck_assert((turn.earliest_s <= 0) == (turn.verdict == MIGBUF_VERDICT_START));
    return turn.verdict;
}

START_TEST(admission_examples)
{
    ck_assert_int_eq(verdict((double[]){ 500 }, 1, 500, 1000), MIGBUF_VERDICT_START);
    ck_assert_int_eq(verdict((double[]){ 500, 500 }, 2, 500, 1000), MIGBUF_VERDICT_LINK_BUSY);
    ck_assert_int_eq(verdict((double[]){ 900 }, 1, 900, 1000), MIGBUF_VERDICT_LINK_BUSY);
    ck_assert_int_eq(verdict(NULL, 0, 5000, 1000), MIGBUF_VERDICT_START);
    ck_assert_int_eq(verdict((double[]){ 400, 400 }, 2, 400, 1000), MIGBUF_VERDICT_START);
    ck_assert_str_eq(migbuf_verdict_text(MIGBUF_VERDICT_LINK_BUSY), "its link is busy");
    ck_assert_str_eq(migbuf_verdict_text(77), "unknown");
}
END_TEST

/* Three wait, two flows of 500 fill a link of 1000; one ends in 30 s, the other in 100 s. */
START_TEST(admission_tells_when)
{
    const struct migbuf_planner_link l[] = { { 1000, 500 }, { 100, INFINITY } };
    const struct migbuf_admission_flow running[] = { { .id = 1, .flow_bytes_per_s = 500, .seconds = 30 },
                                                   { .id = 2, .flow_bytes_per_s = 500, .seconds = 100 } };
    const struct migbuf_admission_flow waiting[] = {
        { .id = 10, .flow_bytes_per_s = 500, .disk_bytes = 50000, .arrival = 1 },
        { .id = 11, .flow_bytes_per_s = 500, .disk_bytes = 5000, .arrival = 2 },
        { .id = 12, .flow_bytes_per_s = 500, .disk_bytes = 20000, .arrival = 3 },
        { .id = 13, .link = 1, .flow_bytes_per_s = INFINITY, .disk_bytes = 20000, .arrival = 4 },
    };
    struct migbuf_admission_turn t[4];

    ck_assert_int_eq(migbuf_admission_queue(MIGBUF_ADMISSION_SHORTEST, l, 2, running, 2, waiting, 4, scratch, t), 1);
    ck_assert_int_eq(t[0].verdict, MIGBUF_VERDICT_NOT_ITS_TURN);
    ck_assert_int_eq(t[1].verdict, MIGBUF_VERDICT_LINK_BUSY);
    ck_assert_int_eq(t[3].verdict, MIGBUF_VERDICT_START);
    ck_assert_uint_eq(t[0].place, 2);
    ck_near(t[1].earliest_s, 30); /* 5000 at 500: until 40 */
    ck_near(t[2].earliest_s, 40); /* 20000: until 80 */
    ck_near(t[0].earliest_s, 80);
    ck_near(t[1].wanted_bytes_per_s, 1250);
    ck_near(t[1].link_bytes_per_s, 1050);
    ck_assert_int_eq(migbuf_admission_queue(MIGBUF_ADMISSION_FIFO, l, 2, running, 2, waiting, 4, scratch, t), 1);
    ck_near(t[0].earliest_s, 30);  /* 50000: until 130 */
    ck_near(t[1].earliest_s, 100); /* until 110 */
    ck_near(t[2].earliest_s, 110);
    ck_assert_int_eq(migbuf_admission_queue(3, l, 2, running, 2, waiting, 4, scratch, t), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(admission_starts_what_fits)
{
    const struct migbuf_planner_link l = { 1000, INFINITY };
    struct migbuf_admission_flow w[16] = { { 0 } };
    struct migbuf_admission_turn t[16], u[16];

    for (size_t k = 0; k < 16; k++)
        w[k] = (struct migbuf_admission_flow){
            .id = k, .flow_bytes_per_s = 300, .disk_bytes = 100.0 + (double)(k * 7 % 16), .arrival = k
        };
    /* 300, 600, 900 run and half of the fourth finds room: 900 + 150 <= 1050. */
    ck_assert_int_eq(migbuf_admission_queue(MIGBUF_ADMISSION_SHORTEST, &l, 1, NULL, 0, w, 16, scratch, t), 4);
    for (size_t k = 0; k < 16; k++)
        ck_assert_int_eq(t[k].verdict == MIGBUF_VERDICT_START, t[k].place < 4);
    for (size_t k = 0; k < 8; k++) {
        struct migbuf_admission_flow x = w[k];

        w[k] = w[15 - k];
        w[15 - k] = x;
    }
    ck_assert_int_eq(migbuf_admission_queue(MIGBUF_ADMISSION_SHORTEST, &l, 1, NULL, 0, w, 16, scratch, u), 4);
    for (size_t k = 0; k < 16; k++) {
        ck_assert_uint_eq(u[15 - k].id, t[k].id);
        ck_assert_int_eq(u[15 - k].verdict, t[k].verdict);
        ck_near(u[15 - k].earliest_s, t[k].earliest_s);
    }
}
END_TEST

START_TEST(nonsense_is_refused_and_nothing_written)
{
    struct migbuf_planner_guest g = { .id = 1, .weight = 1, .growth_ratio = 1, .remaining = INFINITY };
    struct migbuf_planner_link l = { 100, INFINITY };
    struct migbuf_admission_flow w = { .flow_bytes_per_s = 1 };
    struct migbuf_planner_options o = options(1000, 1);
    struct migbuf_planner_plan p = { .rate = 42 };
    struct migbuf_admission_turn t = { .id = 42 };
    const double bad[] = { 1, NAN };
    double x[2] = { 42, 42 };

    ck_assert_int_eq(migbuf_planner_options_init(NULL, 8), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_planner_options_init(&o, 8), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_planner_tick(&o, &l, 1, NULL, 0, NULL, NULL), 0);
    ck_assert_int_eq(migbuf_planner_tick(NULL, &l, 1, &g, 1, scratch, &p), MIGBUF_E_INVALID);
    g.link = 1;
    ck_assert_int_eq(migbuf_planner_tick(&o, &l, 1, &g, 1, scratch, &p), MIGBUF_E_RANGE);
    g.link = 0;
    g.rate = NAN;
    ck_assert_int_eq(migbuf_planner_tick(&o, &l, 1, &g, 1, scratch, &p), MIGBUF_E_INVALID);
    g.rate = 1;
    l.bytes_per_s = INFINITY;
    ck_assert_int_eq(migbuf_planner_tick(&o, &l, 1, &g, 1, scratch, &p), MIGBUF_E_RANGE);
    l.bytes_per_s = 100;
    o.size = 16;
    ck_assert_int_eq(migbuf_planner_tick(&o, &l, 1, &g, 1, scratch, &p), MIGBUF_E_STRUCT);
    ck_near(p.rate, 42);
    ck_assert_int_eq(migbuf_planner_chain(bad, bad, NULL, 2, scratch, x), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_planner_caps(NAN, bad, bad, 2, 0, 0, x), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_planner_finish(bad, NULL, 2, &l, x), MIGBUF_E_INVALID);
    w.reserved = 1;
    ck_assert_int_eq(migbuf_admission_queue(MIGBUF_ADMISSION_FIFO, &l, 1, NULL, 0, &w, 1, scratch, &t), MIGBUF_E_INVALID);
    w = (struct migbuf_admission_flow){ .link = 5, .flow_bytes_per_s = 1 };
    ck_assert_int_eq(migbuf_admission_queue(MIGBUF_ADMISSION_FIFO, &l, 1, NULL, 0, &w, 1, scratch, &t), MIGBUF_E_RANGE);
    ck_assert_uint_eq(t.id, 42);
    ck_near(x[0], 42);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { finish_examples,
                                   lines_examples,
                                   chain_examples,
                                   chain_is_max_min_fair,
                                   a_golden_tick,
                                   the_header_s_example,
                                   room_for_newcomers, floors_are_kept_free, a_beginner_explores, draining_and_weights,
                                   order_does_not_matter,
                                   a_tick_keeps_its_lines,
                                   admission_examples,
                                   admission_tells_when,
                                   admission_starts_what_fits,
                                   nonsense_is_refused_and_nothing_written,
                                   NULL };

    return unit_run("planner", tests, 60);
}
