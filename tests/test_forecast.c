/* SPDX-License-Identifier: MIT */
/* The worked examples of forecast.h, its laws on random guests, and what it refuses. */
#include "unit.h"
#include "migbuf/forecast.h"

static double growth(double v, double rho, double rate, double t)
{
    double bytes = -1;

    ck_assert_int_eq(migbuf_forecast_growth(v, rho, rate, t, &bytes), 0);
    return bytes;
}

static double rate_for(double v, double rho, double budget, double t)
{
    double rate = -1;

    ck_assert_int_eq(migbuf_forecast_rate_for(v, rho, budget, t, &rate), 0);
    return rate;
}

static double random_between(unsigned *seed, double low, double high)
{
    *seed = *seed * 1664525 + 1013904223;
    return low * pow(high / low, (*seed >> 8) / 16777216.0); /* evenly over the orders of magnitude */
}

START_TEST(growth_and_back)
{
    ck_near(growth(1000, 0.5, 40, 100), 864.664717);
    ck_near(growth(INFINITY, 0.5, 40, 100), 2000);
    ck_near(growth(1000, 0, 40, 100), 0);
    ck_near(growth(0, 0.5, 40, 100), 0);
    ck_near(growth(1000, 0.5, INFINITY, 100), 1000);
    ck_near(growth(1000, 0.5, INFINITY, 0), 0);
    ck_near(rate_for(1000, 0.5, 500, 100), 13.8629436);
    ck_near(rate_for(INFINITY, 0.5, 500, 100), 10);
    ck_near(rate_for(1000, 0.5, 1000, 100), INFINITY);
    ck_near(rate_for(1000, 0, 10, 100), INFINITY);
    ck_near(rate_for(0, 0.5, 0, 100), INFINITY);
}
END_TEST

START_TEST(bend_examples)
{
    double z;

    ck_assert_int_eq(migbuf_forecast_bend(0.5, &z), 0);
    ck_near(z, 1.25643121);
    ck_assert_int_eq(migbuf_forecast_bend(0.9, &z), 0);
    ck_near(z, 0.20714650);
    ck_assert_int_eq(migbuf_forecast_bend(1, &z), 0);
    ck_near(z, 0);
    /* Its own inverse, from the straightest curve that is told from a line to what no guest will reach. */
    for (double y = 0.9995; y > 1e-300; y *= y > 0.01 ? 0.999 : 0.5) {
        ck_assert_int_eq(migbuf_forecast_bend(y, &z), 0);
        if (z < 700)
            ck_assert_msg(fabs(z / expm1(z) / y - 1) < 1e-9, "y %g: z %.17g gives %.17g", y, z, z / expm1(z));
        else
            ck_near(log(z) - z, log(y));
    }
    ck_assert_int_eq(migbuf_forecast_bend(4.9e-324, &z), 0);
    ck_near(log(z) - z, log(4.9e-324));
}
END_TEST

START_TEST(remaining_examples)
{
    struct migbuf_forecast f;
    double v;

    ck_assert_int_eq(migbuf_forecast_init(&f, 0), 0);
    ck_assert_int_eq(migbuf_forecast_remaining(&f, 0, INFINITY, &v), 0);
    ck_near(v, INFINITY);
    f.written_bytes = 1000;
    f.growth_ratio = 0.4;
    ck_assert_int_eq(migbuf_forecast_remaining(&f, 800, INFINITY, &v), 0);
    ck_near(v, 318.362038);
    f.growth_ratio = 0.799999;
    ck_assert_int_eq(migbuf_forecast_remaining(&f, 800, INFINITY, &v), 0);
    ck_near(v, INFINITY);
    ck_assert_int_eq(migbuf_forecast_remaining(&f, 800, 500, &v), 0);
    ck_near(v, 500);
    f.growth_ratio = 0;
    ck_assert_int_eq(migbuf_forecast_remaining(&f, 800, INFINITY, &v), 0);
    ck_near(v, 0);
}
END_TEST

START_TEST(update_examples)
{
    const struct migbuf_forecast before = { .rate = 10, .peak = 20, .grown_bytes = 40, .recent_bytes = 64 };
    struct migbuf_forecast f = before;

    ck_assert_int_eq(migbuf_forecast_update(&f, 1, 11, 7, 12), 0);
    ck_near(f.rate, 10.1652855);
    ck_near(f.peak, 20);
    f = before;
    ck_assert_int_eq(migbuf_forecast_update(&f, 1, 11, 7, 13), 0);
    ck_near(f.rate, 10.0165285);
    ck_near(f.peak, 19.6694291);
    ck_near(f.grown_bytes, 46.3388582);
    ck_near(f.recent_bytes, 73.9421730);
    ck_near(f.growth_ratio, 0.626690510);
    f = before;
    ck_assert_int_eq(migbuf_forecast_update(&f, 1, 3, 3, 0), 0); /* paused: nothing but the counter */
    ck_near(f.rate, 10);
    ck_near(f.recent_bytes, 64);
    ck_near(f.written_bytes, 3);
}
END_TEST

/* A guest that writes at random into a working set of 1000: the forecast finds what is left of it. */
START_TEST(a_working_set_is_found)
{
    struct migbuf_forecast f;
    double file = 0, left;

    ck_assert_int_eq(migbuf_forecast_init(&f, 0), 0);
    f.grown_bytes = f.recent_bytes = 0.064;
    for (int t = 0; t < 1200; t++) {
        double more = growth(1000 - file, 1 - file / 1000, 2, 1);

        ck_assert_int_eq(migbuf_forecast_update(&f, 1, 2, more, INFINITY), 0);
        file += more;
        ck_assert_int_eq(migbuf_forecast_remaining(&f, file, INFINITY, &left), 0);
        if (t >= 300) /* it sees the last minute, when more was new than now: too much, never too little */
            ck_assert_msg(left >= 1000 - file && left < 2 * (1000 - file), "at %d s: %g, not %g", t, left, 1000 - file);
    }
    ck_near(f.rate, 2 * (1 - exp(-20)));
}
END_TEST

START_TEST(idle_for_a_day_keeps_the_ratio)
{
    struct migbuf_forecast f;

    ck_assert_int_eq(migbuf_forecast_init(&f, 5), 0);
    for (int t = 0; t < 100; t++)
        ck_assert_int_eq(migbuf_forecast_update(&f, 1, 1e6, 2.5e5, INFINITY), 0);
    for (int t = 0; t < 86400; t++)
        ck_assert_int_eq(migbuf_forecast_update(&f, 1, 0, 0, INFINITY), 0);
    ck_assert(f.growth_ratio > 0.2 && f.growth_ratio < 1);
    ck_assert(f.rate >= 0 && f.rate < 1e-6);
}
END_TEST

/* On random guests: growth is bounded by V and by the straight line, rises with every argument, and rate_for undoes it.
 */
START_TEST(laws)
{
    unsigned seed = 20260101;

    for (int i = 0; i < unit_rounds(20000); i++) {
        double v = random_between(&seed, 1e3, 1e12), rho = random_between(&seed, 1e-6, 1);
        double rate = random_between(&seed, 1, 1e9), t = random_between(&seed, 0.1, 1e5), g = growth(v, rho, rate, t);

        ck_assert(g >= 0 && g <= v && g <= rho * rate * t);
        ck_assert(growth(1.1 * v, rho, rate, t) >= g * (1 - 1e-14) && growth(INFINITY, rho, rate, t) >= g);
        ck_assert(growth(v, rho * 0.9, rate, t) <= g && growth(v, rho, rate * 0.9, t) <= g);
        ck_assert(growth(v, rho, rate, t * 0.9) <= g);
        if (rho * rate * t < 5 * v) /* beyond, the answer lies in the last digits of 1 - g / v */
            ck_near(rate_for(v, rho, g, t), rate);
        ck_assert(rate_for(v, rho, 0.9 * g, t) <= rate_for(v, rho, g, t));
    }
}
END_TEST

START_TEST(updates_stay_in_range)
{
    struct migbuf_forecast f;
    unsigned seed = 7;

    ck_assert_int_eq(migbuf_forecast_init(&f, 1e6), 0);
    for (int i = 0; i < unit_rounds(20000); i++) {
        double dt = random_between(&seed, 1e-3, 1e3), written = random_between(&seed, 1e-3, 1e10);
        double grown = random_between(&seed, 1e-3, 1e10), limit = random_between(&seed, 1, 1e9), left;

        ck_assert_int_eq(
            migbuf_forecast_update(&f, dt, i % 3 ? written : 0, i % 5 ? grown : 0, i % 7 ? limit : INFINITY), 0);
        ck_assert(f.rate >= 0 && f.rate < INFINITY && f.peak >= 0 && f.growth_ratio >= 0 && f.growth_ratio <= 1);
        ck_assert_int_eq(migbuf_forecast_remaining(&f, grown, written, &left), 0);
        ck_assert(left >= 0 && left <= written);
    }
}
END_TEST

START_TEST(nonsense_is_refused_and_nothing_written)
{
    struct migbuf_forecast f, before;
    double x = 42;

    ck_assert_int_eq(migbuf_forecast_init(NULL, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_forecast_init(&f, NAN), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_forecast_init(&f, 3), 0);
    before = f;
    ck_assert_int_eq(migbuf_forecast_update(NULL, 1, 1, 1, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_forecast_update(&f, 0, 1, 1, 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_update(&f, NAN, 1, 1, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_forecast_update(&f, 1, -1, 1, 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_update(&f, 1, 1, INFINITY, 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_update(&f, 1, 1, 1, -1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_update(&f, 1e-300, 1e300, 1, 1), MIGBUF_E_RANGE);
    ck_assert_mem_eq(&f, &before, sizeof f);
    ck_assert_int_eq(migbuf_forecast_remaining(&f, -1, 1, &x), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_remaining(&f, 1, 1, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_forecast_growth(1, 1.5, 1, 1, &x), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_growth(1, 1, 1, INFINITY, &x), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_rate_for(1, 1, 1, 0, &x), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_rate_for(NAN, 1, 1, 1, &x), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_forecast_bend(0, &x), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_forecast_bend(1.01, &x), MIGBUF_E_RANGE);
    ck_near(x, 42);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { growth_and_back,
                                   bend_examples,
                                   remaining_examples,
                                   update_examples,
                                   a_working_set_is_found,
                                   idle_for_a_day_keeps_the_ratio,
                                   laws,
                                   updates_stay_in_range,
                                   nonsense_is_refused_and_nothing_written,
                                   NULL };

    return unit_run("forecast", tests, 20);
}
