/* SPDX-License-Identifier: MIT */
#include "unit.h"
#include "migbuf/growth.h"

static struct migbuf_growth started(void)
{
    struct migbuf_growth g;

    ck_assert_int_eq(migbuf_growth_init(&g), 0);
    ck_near(g.ratio, 1);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000, 500, 5000000, INFINITY), 0);
    ck_near(g.ratio, 1); /* only marks */
    return g;
}

START_TEST(appending_grows_less)
{
    struct migbuf_growth g = started();
    uint64_t file = 1000000, writes = 500, bytes = 5000000;

    file += 655360, writes += 160, bytes += 160 * 4096;
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, file, writes, bytes, 1000), 0);
    ck_near(g.ratio, (16 * exp(-0.1) + 10) / (16 * exp(-0.1) + 160));
    for (int i = 0; i < 30; i++) {
        file += 655360, writes += 160, bytes += 160 * 4096;
        ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, file, writes, bytes, 1000), 0);
    }
    ck_assert(g.ratio > 0.0625 && g.ratio < 0.066);
    file += 160 * 65536, writes += 160, bytes += 160 * 4096; /* now random: at once */
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, file, writes, bytes, 1000), 0);
    ck_near(g.ratio, 1);
}
END_TEST

START_TEST(merged_writes_are_not_counted_one_by_one)
{
    struct migbuf_growth g = started();

    /* 320 writes of 4 KiB, merged by 32, are 10 requests of 2 units: the limit of 20 units/s knows better. */
    for (uint64_t i = 1; i <= 50; i++)
        ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000 + i * 20 * 65536, 500 + i * 320,
                                              5000000 + i * 320 * 4096, 20 * 1.1), 0);
    ck_assert(g.ratio > 0.9 && g.ratio <= 1);
}
END_TEST

START_TEST(nothing_written_tells_nothing)
{
    struct migbuf_growth g = started(), before = g;

    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 1000000, 500, 5000000, INFINITY), 0);
    ck_near(g.ratio, before.ratio);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 900000, 3, 4096, INFINITY), 0); /* counters of another QEMU */
    ck_near(g.ratio, 1);
    ck_assert_int_eq(migbuf_growth_sample(&g, 65536, 1, 100, 1000003, 4096, INFINITY), 0); /* a file that shrank */
    ck_assert(g.ratio >= 0.001 && g.ratio < 0.01);
    before = g;
    ck_assert_int_eq(migbuf_growth_sample(&g, 0, 1, 1, 1, 1, 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_growth_sample(&g, 1, 0, 1, 1, 1, 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_growth_sample(&g, 1, 1, 1, 1, 1, NAN), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_growth_sample(NULL, 1, 1, 1, 1, 1, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_growth_init(NULL), MIGBUF_E_INVALID);
    ck_assert_mem_eq(&g, &before, sizeof g);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { appending_grows_less, merged_writes_are_not_counted_one_by_one,
                                   nothing_written_tells_nothing, NULL };

    return unit_run("growth", tests, 10);
}
