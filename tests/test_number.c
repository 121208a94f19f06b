/* SPDX-License-Identifier: MIT */
/*
 * Numbers at the ends of what a double holds, given to every pure function: a named error, or a result that is a
 * number. The random ones print their seed.
 */
#include "migbuf/migbuf.h"
#include "number.h"
#include "unit.h"
#include <float.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const double odd[] = { 0,    4.9e-324, DBL_MIN, 9e-51,  1e-50, 1e-9,    0.3,     1,        1,  2,      7.5, 1e9,
                              1e18, 9e49,     1e50,    1.1e50, 1e200, 1.7e308, DBL_MAX, INFINITY, -1, -1e300, NAN };
#define ODD (sizeof odd / sizeof *odd)

static uint64_t seed, state;

static uint32_t below(uint32_t n)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 33) % n;
}

/* What was given since begin(): whether something of it was bad, or INFINITY. */
static bool any_bad, any_nan, any_infinite;

static void begin(void)
{
    any_bad = any_nan = any_infinite = false;
}

/* Mostly numbers that are fine, or nothing could be computed of many. */
static double some(void)
{
    double x = odd[below(4) ? 3 + below(12) : below(ODD)];

    any_nan |= isnan(x);
    any_infinite |= isinf(x);
    any_bad |= !(x >= 0 && (x <= MIGBUF__MOST || isinf(x)));
    return x;
}

static double part(void)
{
    double x = below(20) ? below(11) / 10.0 : some();

    return x;
}

/* After a call with such numbers: an error that fits them, or results that are numbers. INFINITY is one where `open`
 * says so. (An assertion that holds costs a system call: none here.) */
static void expect(const char *what, int rc, const double *results, size_t count, bool open)
{
    if (rc < 0) {
        if (rc != MIGBUF_E_RANGE && rc != MIGBUF_E_INVALID)
            ck_abort_msg("%s: %d", what, rc);
        for (size_t k = 0; k < count; k++)
            if (results[k] != -7)
                ck_abort_msg("%s: changed after an error", what);
        return;
    }
    if (any_nan || any_bad)
        ck_abort_msg("%s took a number that is none, or is beyond all", what);
    for (size_t k = 0; k < count; k++)
        if (isnan(results[k]) || (isinf(results[k]) && !open && !any_infinite) || results[k] < 0)
            ck_abort_msg("%s gives %g", what, results[k]);
}

static void begin_random(void)
{
    const char *from = getenv("MIGBUF_TEST_SEED");

    seed = from ? strtoull(from, NULL, 10) : 20261128;
    state = seed | 1;
    printf("# seed %" PRIu64 "\n", seed);
}

START_TEST(the_numbers_that_were_reported)
{
    struct migbuf_throttle_constants c;
    double x = -7;

    ck_assert_int_eq(migbuf_throttle_constants_init(&c, sizeof c), 0);
    ck_assert_int_eq(migbuf_throttle_pending(0, 1, 1, 1.7e308, 1.7e308, 0, &x), MIGBUF_E_RANGE); /* 0 * INFINITY */
    c.tau_s = 1e-300;
    ck_assert_int_eq(migbuf_throttle_rate(1.7e308, 1.6e308, 1e10, &c, &x), MIGBUF_E_RANGE); /* INFINITY * 0 */
    c.tau_s = 1;
    ck_assert_int_eq(migbuf_throttle_rate(1e308, 9e307, 1e10, &c, &x), MIGBUF_E_RANGE);
    c.epsilon_bytes = 1.7e308;
    ck_assert_int_eq(migbuf_throttle_rate(1, 1, 1, &c, &x), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_throttle_hard_cap(1e9, 1e-300, 1, 0, 0, &x), MIGBUF_E_RANGE); /* was INFINITY: no limit */
    ck_assert(x == -7);
    c.epsilon_bytes = 1e50; /* the largest that are taken are computed with */
    c.tau_s = 1e-50;
    ck_assert_int_eq(migbuf_throttle_rate(1e50, 1, 1, &c, &x), 0);
    ck_near(x, 1e100);
}
END_TEST

START_TEST(throttles)
{
    begin_random();
    for (int n = unit_rounds(200000); n > 0; n--) {
        struct migbuf_throttle_constants c = { .size = sizeof c };
        double x = -7, amount[3], weight[3], y[3] = { -7, -7, -7 }, sum = 0, total;
        size_t scratch[6], first[4] = { 0, 1, 2, 3 }, guest[3] = { 1, 2, 0 };
        int rc;

        begin();
        c.tau_s = some(), c.epsilon_bytes = some(), c.epsilon_bytes_per_s = some();
        expect("rate", migbuf_throttle_rate(some(), some(), 1 + some(), &c, &x), &x, 1, false);
        begin();
        c.tau_s = some(), c.epsilon_bytes = some(), c.epsilon_bytes_per_s = some(), x = -7;
        expect("literal", migbuf_throttle_literal(some(), some(), 1 + some(), some(), &c, &x), &x, 1, false);
        begin();
        x = -7;
        expect("hard_cap", migbuf_throttle_hard_cap(some(), some(), some(), some(), some(), &x), &x, 1, false);
        begin();
        x = -7;
        expect("pending", migbuf_throttle_pending(some(), some(), some(), some(), some(), some(), &x), &x, 1, false);
        begin();
        for (int k = 0; k < 3; k++)
            amount[k] = some(), weight[k] = some();
        x = -7;
        total = odd[below(ODD - 1)];
        rc = migbuf_throttle_shave(amount, weight, 3, total, scratch, &x);
        expect("shave", rc, &x, 1, true);
        for (int k = 0; k < 3 && rc == 0; k++)
            sum += fmin(amount[k], weight[k] * x);
        if (rc == 0 && total > MIGBUF__MOST && total < INFINITY)
            ck_abort_msg("shave took %g", total);
        if (rc == 0 && !(sum <= fmax(total, 0) * (1 + 1e-9) + 1e-300))
            ck_abort_msg("shave: %g of %g at %g", sum, total, x);
        begin();
        for (int k = 0; k < 3; k++)
            amount[k] = some();
        rc = migbuf_throttle_lenders(amount, 3, first, guest, scratch, y);
        expect("hosts", rc, y, 3, true);
    }
}
END_TEST

START_TEST(placements)
{
    begin_random();
    for (int n = unit_rounds(200000); n > 0; n--) {
        double used[3], share[3], placed[3] = { -7, -7, -7 }, rest = -7, amount;
        size_t scratch[3];
        int rc;

        begin();
        for (int k = 0; k < 3; k++)
            used[k] = some(), share[k] = some();
        amount = some();
        rc = migbuf_placement_pour(used, share, 3, amount, scratch, placed, &rest);
        any_infinite = false;
        expect("pour", rc, placed, 3, false);
        expect("pour", rc, &rest, 1, false);
        rc = migbuf_placement_literal_halving(share, 3, amount, 40);
        if (rc > 40 || (rc < 0 && rc != MIGBUF_E_NOSPACE && rc != MIGBUF_E_RANGE && rc != MIGBUF_E_INVALID))
            ck_abort_msg("halving: %d", rc);
        rc = migbuf_placement_literal_reclaim(share, 3, amount);
        if (rc > 3 || (rc < 0 && rc != MIGBUF_E_NOSPACE && rc != MIGBUF_E_RANGE && rc != MIGBUF_E_INVALID))
            ck_abort_msg("reclaim: %d", rc);
    }
}
END_TEST

START_TEST(forecasts_and_growth)
{
    static const uint64_t counts[] = { 0, 1, 4096, UINT64_C(1) << 40, UINT64_MAX };

    begin_random();
    for (int n = unit_rounds(100000); n > 0; n--) {
        struct migbuf_forecast f;
        struct migbuf_growth g;
        double x = -7;
        int rc;

        begin();
        if (migbuf_forecast_init(&f, some()))
            migbuf_forecast_init(&f, 1);
        for (int k = 0; k < 4; k++) {
            struct migbuf_forecast before = f;

            begin();
            rc = migbuf_forecast_update(&f, some(), some(), some(), some());
            if (rc < 0 && memcmp(&f, &before, sizeof f))
                ck_abort_msg("forecast: changed after an error");
            if (rc == 0)
                expect("forecast", rc,
                       (double[]){ f.rate, f.peak, f.grown_bytes, f.recent_bytes, f.growth_ratio, f.written_bytes }, 6,
                       false);
            begin();
            x = -7;
            expect("remaining", migbuf_forecast_remaining(&f, some(), some(), &x), &x, 1, false);
        }
        begin();
        x = -7;
        expect("growth", migbuf_forecast_growth(some(), part(), some(), some(), &x), &x, 1, false);
        begin();
        x = -7;
        expect("rate_for", migbuf_forecast_rate_for(some(), part(), some(), some(), &x), &x, 1, true);

        migbuf_growth_init(&g);
        for (int k = 0; k < 4; k++) {
            struct migbuf_growth before = g;

            begin();
            rc = migbuf_growth_sample(&g, counts[1 + below(4)], some(), counts[below(5)], counts[below(5)],
                                      counts[below(5)], some(), some());
            if (rc < 0 && memcmp(&g, &before, sizeof g))
                ck_abort_msg("growth_sample: changed after an error");
            if (rc == 0)
                expect("growth_sample", rc, (double[]){ g.ratio, g.units, g.grown }, 3, false);
            if (!(g.ratio >= 0.001 && g.ratio <= 3 && g.units > 0 && g.credit >= 0))
                ck_abort_msg("growth_sample: ratio %g, %g units, credit %g", g.ratio, g.units, g.credit);
        }
    }
}
END_TEST

/* A record of zeros has a ratio of 0, which would be taken for a guest whose file never grows. */
START_TEST(a_growth_that_was_not_begun)
{
    struct migbuf_growth g = { .ratio = 0 }, before = g;

    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 0, 0, 0, 16, 1), MIGBUF_E_INVALID);
    ck_assert_mem_eq(&g, &before, sizeof g);
    g.ratio = 1;
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 0, 0, 0, 16, 1), MIGBUF_E_RANGE);
    g.units = NAN;
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 0, 0, 0, 16, 1), MIGBUF_E_INVALID);
}
END_TEST

#define GUESTS 3

START_TEST(plans)
{
    begin_random();
    for (int n = unit_rounds(100000); n > 0; n--) {
        struct migbuf_planner_options o = { .size = sizeof o };
        struct migbuf_planner_link link[2];
        struct migbuf_planner_guest guest[GUESTS];
        struct migbuf_admission_flow running[GUESTS], waiting[GUESTS];
        struct migbuf_planner_plan plan[GUESTS];
        struct migbuf_admission_turn turn[GUESTS];
        struct migbuf_planner_slot scratch[2 * GUESTS + 4];
        double a[GUESTS], b[GUESTS], c[GUESTS], result[GUESTS] = { -7, -7, -7 };
        int rc;

        begin();
        o.capacity_bytes = some(), o.interval_s = some(), o.floor = some(), o.newcomers = part(), o.explore = part();
        o.floors = some();
        for (size_t k = 0; k < 2; k++)
            link[k] = (struct migbuf_planner_link){ .bytes_per_s = some(), .flow_bytes_per_s = some() };
        for (uint32_t k = 0; k < GUESTS; k++)
            guest[k] = (struct migbuf_planner_guest){ .id = k,
                                                      .link = k % 2,
                                                      .place = below(4),
                                                      .draining = below(2),
                                                      .weight = some(),
                                                      .file_bytes = some(),
                                                      .left_bytes = some(),
                                                      .need_bytes = some(),
                                                      .remaining = some(),
                                                      .growth_ratio = part(),
                                                      .rate = some(),
                                                      .peak = some() };
        rc = migbuf_planner_tick(&o, link, 2, guest, GUESTS, scratch, plan);
        for (size_t k = 0; k < GUESTS; k++)
            expect("tick", rc,
                   rc < 0 ? NULL
                          : (double[]){ plan[k].send_bytes, plan[k].finish_s, plan[k].need_bytes, plan[k].demand,
                                        plan[k].cap, plan[k].growth },
                   rc < 0 ? 0 : 6, false);
        for (size_t k = 0; k < GUESTS && rc >= 0; k++)
            expect("tick", rc, &plan[k].rate, 1, true);

        begin();
        for (uint32_t k = 0; k < 2; k++)
            link[k] = (struct migbuf_planner_link){ .bytes_per_s = some(), .flow_bytes_per_s = some() };
        for (uint32_t k = 0; k < GUESTS; k++) {
            running[k] = (struct migbuf_admission_flow){
                .id = k, .link = k % 2, .flow_bytes_per_s = some(), .seconds = some(), .disk_bytes = some()
            };
            waiting[k] = (struct migbuf_admission_flow){
                .id = k, .link = k % 2, .flow_bytes_per_s = some(), .disk_bytes = some()
            };
        }
        rc = migbuf_admission_queue(MIGBUF_ADMISSION_SHORTEST, link, 2, running, GUESTS, waiting, GUESTS, scratch, turn);
        for (size_t k = 0; k < GUESTS; k++)
            expect("admit", rc,
                   rc < 0 ? NULL
                          : (double[]){ turn[k].earliest_s, turn[k].wanted_bytes_per_s, turn[k].link_bytes_per_s },
                   rc < 0 ? 0 : 3, false);

        begin();
        for (size_t k = 0; k < GUESTS; k++)
            a[k] = some(), b[k] = some(), c[k] = some();
        rc = migbuf_planner_chain(a, b, c, GUESTS, scratch, result);
        expect("chain", rc, result, GUESTS, false);
        for (size_t k = 0; k < GUESTS && rc == 0; k++) { /* no line is crossed */
            double sum = 0, largest = 0;

            for (size_t j = k; j < GUESTS; j++)
                sum += result[j], largest = fmax(largest, fmin(a[j], b[j]));
            if (!(sum <= b[k] * (1 + 1e-9) + 1e-12 * largest + 1e-300))
                ck_abort_msg("chain: %g over the line of %g", sum, b[k]);
        }
        begin();
        for (size_t k = 0; k < GUESTS; k++)
            a[k] = some(), b[k] = some(), result[k] = -7;
        link[0] = (struct migbuf_planner_link){ .bytes_per_s = some(), .flow_bytes_per_s = some() };
        rc = migbuf_planner_finish(a, b, GUESTS, &link[0], result);
        any_infinite = false;
        expect("finish", rc, result, GUESTS, false);
        begin();
        for (size_t k = 0; k < GUESTS; k++)
            a[k] = some(), b[k] = some(), result[k] = -7;
        rc = migbuf_planner_caps(some(), a, b, GUESTS, some(), some(), result);
        expect("lines", rc, result, GUESTS, false);
    }
}
END_TEST

START_TEST(links)
{
    begin_random();
    for (int n = unit_rounds(100000); n > 0; n--) {
        struct migbuf_link l;
        uint64_t now = 0;

        begin();
        if (migbuf_link_init(&l, some()))
            migbuf_link_init(&l, 0);
        for (int k = 0; k < 4; k++) {
            struct migbuf_link before = l;
            int rc;

            begin();
            now += below(2) ? below(100000) : (uint64_t)below(1000) << 50;
            rc = migbuf_link_update(&l, now, some(), below(2) ? MIGBUF_LINK_AT_LEAST : 0);
            if (rc < 0 && memcmp(&l, &before, sizeof l))
                ck_abort_msg("link: changed after an error");
            if (rc >= 0)
                expect("link", rc, (double[]){ migbuf_link_now(&l), migbuf_link_mean(&l), l.best }, 3, false);
        }
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { the_numbers_that_were_reported, throttles, placements, forecasts_and_growth,
                                   a_growth_that_was_not_begun,    plans,     links,      NULL };

    return unit_run("number", tests, 300);
}
