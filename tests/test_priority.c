/* SPDX-License-Identifier: MIT */
#include "unit.h"
#include "migbuf/priority.h"

START_TEST(mean_of_the_figure)
{
    const uint32_t p0[] = { 1, 3, 2 }, home[] = { 1 };
    double mean;

    ck_assert_int_eq(migbuf_priority_mean(p0, 3, &mean), 0);
    ck_near(mean, 2);
    ck_assert_int_eq(migbuf_priority_mean(home, 1, &mean), 0);
    ck_near(mean, 1);
}
END_TEST

START_TEST(nonsense_is_refused)
{
    const uint32_t zero[] = { 1, 0 };
    double mean = 5;

    ck_assert_int_eq(migbuf_priority_mean(zero, 2, &mean), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_priority_mean(zero, 0, &mean), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_priority_mean(NULL, 1, &mean), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_priority_mean(zero, 1, NULL), MIGBUF_E_INVALID);
    ck_near(mean, 5);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { mean_of_the_figure, nonsense_is_refused, NULL };

    return unit_run("priority", tests, 10);
}
