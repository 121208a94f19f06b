/* SPDX-License-Identifier: MIT */
/* The worked examples of throttle.h, and what its functions refuse. */
#include "unit.h"
#include "slots.h"
#include "sort.h"
#include "throttle.h"
#include <stdlib.h>

static struct migbuf_throttle_constants mb(void)
{
    struct migbuf_throttle_constants c;

    ck_assert_int_eq(migbuf_throttle_constants_init(&c, sizeof c), 0);
    c.epsilon_bytes = c.epsilon_bytes_per_s = 0.01;
    return c;
}

START_TEST(rate_examples)
{
    struct migbuf_throttle_constants c = mb();
    double h;

    ck_assert_int_eq(migbuf_throttle_rate(100, 40, 1, &c, &h), 0);
    ck_near(h, 51.3574159);
    ck_assert_int_eq(migbuf_throttle_rate(100, 40, 2, &c, &h), 0);
    ck_near(h, 26.3755712);
    ck_assert_int_eq(migbuf_throttle_rate(100, 69.7368325, 1, &c, &h), 0);
    ck_near(h, 10);
    ck_assert_int_eq(migbuf_throttle_rate(100, 100, 1, &c, &h), 0);
    ck_near(h, 0.01);
    ck_assert_int_eq(migbuf_throttle_rate(100, 120, 2, &c, &h), 0);
    ck_near(h, 0.01);
    ck_assert_int_eq(migbuf_throttle_rate(0, 0, 1, &c, &h), 0);
    ck_near(h, 0.01);
    c.tau_s = 60;
    ck_assert_int_eq(migbuf_throttle_rate(100, 40, 1, &c, &h), 0);
    ck_near(h, 0.865790265);
}
END_TEST

START_TEST(rate_falls_with_use_and_priority)
{
    struct migbuf_throttle_constants c = mb();
    double before = INFINITY, h, h2;

    for (double used = 0; used <= 110; used += 0.25) {
        ck_assert_int_eq(migbuf_throttle_rate(100, used, 1, &c, &h), 0);
        ck_assert_int_eq(migbuf_throttle_rate(100, used, 1.5, &c, &h2), 0);
        ck_assert(h <= before && h2 <= h && h2 >= 0.01);
        before = h;
    }
}
END_TEST

START_TEST(literal_has_its_pole)
{
    struct migbuf_throttle_constants c = mb();
    double g;

    ck_assert_int_eq(migbuf_throttle_literal(100, 100.02, 1, 10, &c, &g), 0);
    ck_near(g, 10);
    ck_assert_int_eq(migbuf_throttle_literal(100, 120, 1, 1e9, &c, &g), 0);
    ck_near(g, 40464.1604);
    ck_assert_int_eq(migbuf_throttle_literal(100, 120, 2, 1e9, &c, &g), 0);
    ck_near(g, 16373474.7);
    ck_assert_int_eq(migbuf_throttle_literal(100, 40, 1, INFINITY, &c, &g), 0);
    ck_near(g, 51.3574159);
    ck_assert_int_eq(migbuf_throttle_literal(0, 0.01, 1, 7, &c, &g), 0);
    ck_assert(!isnan(g));
}
END_TEST

START_TEST(hard_cap_and_pending_examples)
{
    double x;

    ck_assert_int_eq(migbuf_throttle_hard_cap(512, 16, 1, 0.1, 0, &x), 0);
    ck_near(x, 29.0909091);
    ck_assert_int_eq(migbuf_throttle_hard_cap(1, 1, 1, 0.1, 2, &x), 0);
    ck_near(x, 0);
    ck_assert_int_eq(migbuf_throttle_pending(20, INFINITY, 16, 0.2, 0.1, 0, &x), 0);
    ck_near(x, 96);
    ck_assert_int_eq(migbuf_throttle_pending(20, 5, 16, 0.2, 0.1, 0, &x), 0);
    ck_near(x, 24);
    ck_assert_int_eq(migbuf_throttle_pending(20, INFINITY, 16, 0, 0.1, 9, &x), 0);
    ck_near(x, 0);
    ck_assert_int_eq(migbuf_throttle_pending(INFINITY, INFINITY, 1, 0.2, 0.1, 0, &x), 0);
    ck_assert(isinf(x));
}
END_TEST

static double shave(const double *a, const double *w, size_t n, double total)
{
    size_t scratch[16];
    double level;

    ck_assert_int_eq(migbuf_throttle_shave(a, w, n, total, scratch, &level), 0);
    return level;
}

START_TEST(shave_examples)
{
    const double a[] = { 1, 2, 3, 10 }, five[] = { 5, 5 }, mixed[] = { 10, 3, 7, 0 }, w[] = { 2, 1, 4, 1 };
    double level, sum = 0;

    ck_near(shave(a, NULL, 4, 9), 3);
    ck_near(shave(a, NULL, 4, 8), 2.5);
    ck_assert(isinf(shave(five, NULL, 2, 20)));
    ck_near(shave(five, NULL, 2, 0), 0);
    ck_near(shave(five, NULL, 2, -3), 0);
    ck_assert(isinf(shave(NULL, NULL, 0, 5)));
    level = shave(mixed, w, 4, 12);
    for (int i = 0; i < 4; i++)
        sum += fmin(mixed[i], w[i] * level);
    ck_near(sum, 12);
}
END_TEST

START_TEST(hosts_examples)
{
    /* 0 lies on 1, 1 and 2 lie on 0: guests of 0 are 1 and 2, of 1 is 0. */
    const size_t first[] = { 0, 2, 3, 3 }, guest[] = { 1, 2, 0 }, wild[] = { 1, 3, 0 }, falls[] = { 0, 2, 1, 3 };
    const double x[] = { 5, 3, 9 };
    double y[3] = { -7, -7, -7 };
    size_t scratch[6];

    ck_assert_int_eq(migbuf_throttle_lenders(x, 3, first, wild, scratch, y), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_throttle_lenders(x, 3, falls, guest, scratch, y), MIGBUF_E_INVALID);
    ck_near(y[0], -7);
    ck_assert_int_eq(migbuf_throttle_lenders(x, 3, first, guest, scratch, y), 0);
    for (int i = 0; i < 3; i++)
        ck_near(y[i], 3);
}
END_TEST

START_TEST(nonsense_is_refused_and_nothing_written)
{
    struct migbuf_throttle_constants c = mb();
    const double bad[] = { 1, NAN };
    double h = 42;
    size_t scratch[4];

    ck_assert_int_eq(migbuf_throttle_rate(NAN, 1, 1, &c, &h), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_throttle_rate(-1, 1, 1, &c, &h), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_throttle_rate(INFINITY, 1, 1, &c, &h), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_throttle_rate(1, 1, 0.5, &c, &h), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_throttle_rate(1, 1, 1, NULL, &h), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_throttle_rate(1, 1, 1, &c, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_throttle_literal(1, 1, 1, -1, &c, &h), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_throttle_hard_cap(1, 0, 1, 0.1, 0, &h), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_throttle_hard_cap(1, 1, 0, 0.1, 0, &h), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_throttle_pending(NAN, 1, 1, 1, 1, 1, &h), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_throttle_shave(bad, NULL, 2, 1, scratch, &h), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_throttle_shave(bad, NULL, 1, NAN, scratch, &h), MIGBUF_E_INVALID);
    ck_near(h, 42);
    c.size = 8;
    ck_assert_int_eq(migbuf_throttle_rate(1, 1, 1, &c, &h), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_throttle_constants_init(&c, 12), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_throttle_constants_init(NULL, 12), MIGBUF_E_INVALID);
}
END_TEST

static int lower_index(const void *items, uint64_t i, uint64_t j)
{
    (void)items;
    return i < j;
}

/* What those who are satisfied want and what the level gives the others is what there is: an independent reckoning, by
 * halving. */
static double level_by_halving(const double *amount, const double *weight, size_t n, double total)
{
    double low = 0, high = 1e13;

    for (int k = 0; k < 200; k++) {
        double middle = (low + high) / 2, sum = 0;

        for (size_t i = 0; i < n; i++)
            sum += fmin(amount[i], weight[i] * middle);
        if (sum > total)
            high = middle;
        else
            low = middle;
    }
    return low;
}

/* All that is there is dealt out, everybody has its floor, and whoever has more than that has what the level gives. */
START_TEST(nobody_is_shaved_below_its_floor)
{
    enum { MOST = 60 };
    static const double two[] = { 10, 10 }, even[] = { 1, 1 }, one_lifted[] = { 0, 7 };
    double amount[MOST], weight[MOST], floor[MOST], nothing[MOST] = { 0 };
    size_t order[MOST];

    ck_near(migbuf__shave(two, even, one_lifted, 2, 9, order), 2);  /* 2 and 7 */
    ck_near(migbuf__shave(two, even, one_lifted, 2, 18, order), 9); /* 9 and 9 */
    srand(2);
    for (int round = 0; round < 20000; round++) {
        size_t n = 1 + (size_t)rand() % MOST;
        double total, dealt = 0, floors = 0, sum = 0, level;

        for (size_t i = 0; i < n; i++) {
            weight[i] = rand() % 2 ? 1 : 1 + rand() % 1000 / 7.0;
            amount[i] = rand() % 1000 * weight[i];
            floor[i] = rand() % 2 ? 0 : amount[i] * (rand() % 5) / 4;
            floors += floor[i];
            sum += amount[i];
        }
        total = floors + (sum - floors) * (rand() % 101) / 100;
        level = migbuf__shave(amount, weight, floor, n, total, order);
        for (size_t i = 0; i < n; i++)
            dealt += fmin(amount[i], fmax(floor[i], weight[i] * level));
        ck_assert_msg(fabs(dealt - total) <= 1e-9 * sum, "%d: %.17g of %.17g at %.17g", round, dealt, total, level);
        ck_assert(migbuf__shave(amount, weight, nothing, n, total, order) == migbuf__shave(amount, weight, NULL, n, total, order));
    }
}
END_TEST

/* Two ways to sort give the same order: with few and many, ties, 0 and INFINITY. */
START_TEST(digits_sort_as_comparisons_do)
{
    enum { MOST = 3000 };
    static double amount[MOST], weight[MOST], plain[MOST], bound[MOST];
    static size_t order[2 * MOST], first[MOST + 1], borrower[2 * MOST];
    static struct migbuf_planner_slot slots[MOST];

    srand(1);
    for (int round = 0; round < 300; round++) {
        size_t n = 1 + (size_t)rand() % (round % 10 ? 100 : MOST), edges = 0;
        double level, sum = 0, total;

        for (size_t i = 0; i < n; i++) {
            amount[i] = rand() % 4 ? rand() * 1e3 / (1 + rand() % 1000) : 1e6 * (rand() % 3) * (1 + rand() % 99 * 0x1p-52);
            weight[i] = rand() % 2 ? 1 : 1 + rand() % 1000 / 7.0;
            sum += amount[i];
        }
        total = sum * (rand() % 100) / 90;
        ck_assert_int_eq(migbuf_throttle_shave(amount, weight, n, total, order, &level), 0);
        ck_assert(migbuf__shave(amount, weight, NULL, n, total, order) == level);
        if (level < INFINITY)
            ck_assert_double_le(fabs(level - level_by_halving(amount, weight, n, total)), 1e-9 * level);

        for (size_t i = 0; i < n; i++) {
            amount[i] = rand() % 20 ? amount[i] : rand() % 2 ? INFINITY : -0.0;
            first[i] = edges;
            for (int k = rand() % 3; k > 0; k--)
                borrower[edges++] = (size_t)rand() % n;
        }
        first[n] = edges;
        ck_assert_int_eq(migbuf_throttle_lenders(amount, n, first, borrower, order, plain), 0);
        migbuf__lenders(amount, n, first, borrower, order, slots, bound);
        for (size_t i = 0; i < n; i++)
            ck_assert(bound[i] == plain[i]);

        migbuf__sort(amount, NULL, order, n);
        for (size_t i = 0; i < n; i++) {
            slots[i].number[SLOT_KEY] = amount[i];
            slots[i].index[SLOT_ITEM] = i;
        }
        migbuf__slots_sort(slots, n, NULL, NULL);
        for (size_t k = 0; k < n; k++)
            ck_assert_uint_eq(slots[k].index[SLOT_ITEM], order[k]);
        for (size_t i = 0; i < n; i++) /* from behind: who decides where keys are the same is asked */
            slots[i].index[SLOT_ITEM] = n - 1 - slots[i].index[SLOT_ITEM];
        for (size_t i = 0; i < n; i++)
            slots[i].number[SLOT_KEY] = amount[slots[i].index[SLOT_ITEM]];
        migbuf__slots_sort(slots, n, lower_index, NULL);
        for (size_t k = 0; k < n; k++)
            ck_assert_uint_eq(slots[k].index[SLOT_ITEM], order[k]);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { rate_examples,     rate_falls_with_use_and_priority,        literal_has_its_pole,
                                   hard_cap_and_pending_examples, shave_examples, hosts_examples,
                                   nonsense_is_refused_and_nothing_written, digits_sort_as_comparisons_do, nobody_is_shaved_below_its_floor, NULL };

    return unit_run("throttle", tests, 10);
}
