/* SPDX-License-Identifier: MIT */
#include "unit.h"
#include "migbuf/bins.h"
#include "migbuf/placement.h"

START_TEST(shares_are_omega_to_the_byte)
{
    const uint32_t weight[] = { 2, 1, 1 }, most[] = { 1000000, 1, 1000000 }, bad[] = { 1, 0 };
    uint64_t s[3];

    ck_assert_int_eq(migbuf_placement_shares(100, NULL, 3, s), 0);
    ck_assert(s[0] == 34 && s[1] == 33 && s[2] == 33);
    ck_assert_int_eq(migbuf_placement_shares(100, weight, 3, s), 0);
    ck_assert(s[0] == 50 && s[1] == 25 && s[2] == 25);
    ck_assert_int_eq(migbuf_placement_shares(1, NULL, 3, s), 0);
    ck_assert(s[0] == 1 && s[1] == 0 && s[2] == 0);
    ck_assert_int_eq(migbuf_placement_shares(0, NULL, 3, s), 0);
    ck_assert(s[0] + s[1] + s[2] == 0);
    ck_assert_int_eq(migbuf_placement_shares(MIGBUF_BYTES_MAX, most, 3, s), 0);
    ck_assert(s[0] + s[1] + s[2] == MIGBUF_BYTES_MAX);
    ck_assert(s[0] - s[2] <= 1);
    ck_assert_int_eq(migbuf_placement_shares(MIGBUF_BYTES_MAX + 1, NULL, 3, s), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_placement_shares(5, bad, 2, s), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_placement_shares(5, NULL, 0, s), MIGBUF_E_INVALID);
    ck_assert(s[0] + s[1] + s[2] == MIGBUF_BYTES_MAX);
}
END_TEST

START_TEST(pour_fills_the_least_used_first)
{
    const double used[] = { 40, 70, 10, 200 }, share[] = { 100, 100, 100, 100 };
    double placed[4], rest;
    size_t scratch[4];

    ck_assert_int_eq(migbuf_placement_pour(used, share, 4, 90, scratch, placed, &rest), 0);
    ck_near(placed[2], 90);
    ck_near(placed[0] + placed[1] + placed[3] + rest, 0);
    ck_assert_int_eq(migbuf_placement_pour(used, share, 2, 90, scratch, placed, &rest), 0);
    ck_near(placed[0], 60);
    ck_near(placed[1], 30);
    ck_near(rest, 0);
    ck_assert_int_eq(migbuf_placement_pour(used, share, 4, 1000, scratch, placed, &rest), 0);
    ck_near(rest, 820);
    ck_near(placed[3], 0);
    ck_assert_int_eq(migbuf_placement_pour(used, share, 0, 7, scratch, placed, &rest), 0);
    ck_near(rest, 7);
    ck_assert_int_eq(migbuf_placement_pour(used, share, 4, NAN, scratch, placed, &rest), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_placement_pour(used, share, 4, -1, scratch, placed, &rest), MIGBUF_E_RANGE);
    ck_near(rest, 7);
}
END_TEST

START_TEST(the_papers_rules_fail_with_room_enough)
{
    const double room[] = { 60, 30 }, one[] = { 60 }, shard[] = { 80 }, three[] = { 10, 20, 30 }, falling[] = { 3, 1 };

    ck_assert_int_eq(migbuf_placement_literal_halving(room, 2, 90, 40), MIGBUF_E_NOSPACE);
    ck_assert_int_eq(migbuf_placement_literal_halving(one, 1, 30, 40), 0);
    ck_assert_int_eq(migbuf_placement_literal_halving(room, 2, 80, 40), 2); /* 4 parts of 20: 3 + 1 slots */
    ck_assert_int_eq(migbuf_placement_literal_halving(room, 2, 0, 0), 0);
    ck_assert_int_eq(migbuf_placement_literal_halving(room, 2, 1, 41), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_placement_literal_reclaim(shard, 1, 50), MIGBUF_E_NOSPACE);
    ck_assert_int_eq(migbuf_placement_literal_reclaim(three, 3, 35), 2);
    ck_assert_int_eq(migbuf_placement_literal_reclaim(three, 3, 60), 3);
    ck_assert_int_eq(migbuf_placement_literal_reclaim(falling, 2, 60), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_placement_literal_reclaim(three, 0, 60), MIGBUF_E_INVALID);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { shares_are_omega_to_the_byte, pour_fills_the_least_used_first,
                                   the_papers_rules_fail_with_room_enough, NULL };

    return unit_run("placement", tests, 10);
}
