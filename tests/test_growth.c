/* SPDX-License-Identifier: MIT */
#include "unit.h"
#include "migbuf/growth.h"

static struct migbuf_growth started(void)
{
    struct migbuf_growth g;

    ck_assert_int_eq(migbuf_growth_init(&g), 0);
    ck_near(g.ratio, 1);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000, 500, 5000000, INFINITY, 1), 0);
    ck_near(g.ratio, 1); /* only marks */
    return g;
}

START_TEST(appending_grows_less)
{
    struct migbuf_growth g = started();
    uint64_t file = 1000000, writes = 500, bytes = 5000000;

    file += 655360, writes += 160, bytes += 160 * 4096;
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, file, writes, bytes, INFINITY, 1), 0);
    ck_near(g.ratio, (16 * exp(-0.1) + 10) / (16 * exp(-0.1) + 160));
    for (int i = 0; i < 30; i++) {
        file += 655360, writes += 160, bytes += 160 * 4096;
        ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, file, writes, bytes, INFINITY, 1), 0);
    }
    ck_assert(g.ratio > 0.0625 && g.ratio < 0.066);
    file += 160 * 65536, writes += 160, bytes += 160 * 4096; /* now random: at once */
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, file, writes, bytes, INFINITY, 1), 0);
    ck_near(g.ratio, 159.0 / 160);
}
END_TEST

/* 160 units a sample, half a unit of growth: seen as none, one, none, one. */
START_TEST(a_unit_begun_before_does_not_count)
{
    struct migbuf_growth g = started();
    uint64_t file = 1000000, writes = 500;

    for (int i = 0; i < 60; i++) {
        file += i % 2 * 65536, writes += 160;
        ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, file, writes, 5000000, INFINITY, 1), 0);
    }
    ck_assert(g.ratio > 0.003 && g.ratio < 0.0035);
}
END_TEST

START_TEST(merged_writes_are_not_counted_one_by_one)
{
    struct migbuf_growth g = started();

    /* 320 writes of 4 KiB, merged by 32, are 10 requests of 2 units: the limit of 20 units/s knows better. */
    for (uint64_t i = 1; i <= 50; i++)
        ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000 + i * 20 * 65536, 500 + i * 320,
                                              5000000 + i * 320 * 4096, 20, 2), 0);
    ck_assert(g.ratio > 0.9 && g.ratio <= 1);
}
END_TEST

/* 16 units/s, requests of up to 32 units; the guest did 40 units in each second. */
START_TEST(a_request_on_credit_is_one_request)
{
    static const double counted[] = { 40, 25.6, 16, 16 };
    struct migbuf_growth g = started();
    double units = 16, grown = 16;
    uint64_t file = 1000000, bytes = 5000000, writes = 500;

    for (int i = 0; i < 4; i++) {
        file += 16 * 65536, bytes += 40 * 65536, writes += 3;
        ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, file, writes, bytes, 16, 32), 0);
        units = exp(-0.1) * units + counted[i];
        grown = exp(-0.1) * grown + 16;
        ck_near(g.units, units);
        ck_near(g.ratio, fmax(grown / units, 15 / counted[i]));
    }
    ck_near(g.credit, 0);
}
END_TEST

START_TEST(credit_comes_back_with_rest_and_with_a_new_rate)
{
    struct migbuf_growth g = started();
    uint64_t bytes = 5000000 + 100 * 65536;

    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000, 600, bytes, 16, 32), 0);
    ck_near(g.credit, 0);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000, 600, bytes, 16, 32), 0);
    ck_near(g.credit, 16);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 9, 1000000, 600, bytes, 16, 32), 0);
    ck_near(g.credit, 33.6);
    bytes += 100 * 65536;
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000, 700, bytes, 16, 32), 0);
    ck_near(g.credit, 0);
    bytes += 40 * 65536;
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000, 740, bytes, 20, 32), 0); /* 34 on credit, 20 in time */
    ck_near(g.credit, 14);
}
END_TEST

START_TEST(a_paused_guest_is_forgotten)
{
    struct migbuf_growth g = started();

    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000 + 48 * 65536, 516, 5000000, 16, 1), 0);
    ck_near(g.ratio, 47.0 / 16);
    /* what `stop` poured is not counted */
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000 + 99 * 65536, 532, 5000000, 0, 1), 0);
    ck_near(g.units, exp(-0.1) * (16 * exp(-0.1) + 16) + (1 - exp(-0.1)) * 16);
    ck_near(g.grown, exp(-0.1) * (16 * exp(-0.1) + 48) + (1 - exp(-0.1)) * 16);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 30, 1000000 + 99 * 65536, 532, 5000000, 0, 1), 0);
    ck_assert(g.ratio > 1 && g.ratio < 1.1);
}
END_TEST

START_TEST(nothing_written_tells_nothing)
{
    struct migbuf_growth g = started(), before = g;

    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000, 500, 5000000, INFINITY, 1), 0);
    ck_near(g.ratio, before.ratio);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 900000, 3, 4096, INFINITY, 1), 0); /* counters of another QEMU */
    ck_near(g.ratio, 1);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 100, 1000003, 4096, INFINITY, 1), 0); /* a file that shrank */
    ck_assert(g.ratio >= 0.001 && g.ratio < 0.01);
    before = g;
    ck_assert_int_eq(migbuf_growth_sample(&g, 0, 1, 1, 1, 1, 1, 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_growth_sample(&g, 1, 0, 1, 1, 1, 1, 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_growth_sample(&g, 1, 1, 1, 1, 1, NAN, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_growth_sample(&g, 1, 1, 1, 1, 1, 1, NAN), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_growth_sample(&g, 1, 1, 1, 1, 1, 1, INFINITY), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_growth_sample(NULL, 1, 1, 1, 1, 1, 1, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_growth_init(NULL), MIGBUF_E_INVALID);
    ck_assert_mem_eq(&g, &before, sizeof g);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { appending_grows_less, a_unit_begun_before_does_not_count, merged_writes_are_not_counted_one_by_one,
                                   a_request_on_credit_is_one_request, credit_comes_back_with_rest_and_with_a_new_rate,
                                   a_paused_guest_is_forgotten, nothing_written_tells_nothing, NULL };

    return unit_run("growth", tests, 10);
}
