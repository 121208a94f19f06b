/* SPDX-License-Identifier: MIT */
/*
 * The golden cases of the policy text (G1..G17, E-G1..E-G3), through the public interface only. Where a case is about
 * the ledger, the second implementation (reference.h) walks beside the library and has to give the same pictures. MB
 * are 1e6 bytes, as in the text; pure functions take MB as they are.
 */
#include <stdio.h>
#include <string.h>

#include "migbuf/bins.h"
#include "migbuf/placement.h"
#include "migbuf/priority.h"
#include "migbuf/throttle.h"
#include "reference.h"
#include "unit.h"

#define MB UINT64_C(1000000)

/* Constants for rates in MB: both epsilons 0.01, tau 1 s. */
static struct migbuf_throttle_constants in_mb(double tau)
{
    struct migbuf_throttle_constants c;

    ck_assert_int_eq(migbuf_throttle_constants_init(&c, sizeof c), 0);
    c.tau_s = tau;
    c.epsilon_bytes = 0.01;
    c.epsilon_bytes_per_s = 0.01;
    return c;
}

static double rate(double capacity, double used, double priority)
{
    struct migbuf_throttle_constants c = in_mb(1);
    double h = -1;

    ck_assert_int_eq(migbuf_throttle_rate(capacity, used, priority, &c, &h), 0);
    return h;
}

static double literal(double bin, double file, double priority, double share)
{
    struct migbuf_throttle_constants c = in_mb(1);
    double h = -1;

    ck_assert_int_eq(migbuf_throttle_literal(bin, file, priority, share, &c, &h), 0);
    return h;
}

/* The fill at which the rate of a bin of 100 MB falls to `wanted`. */
static double fill_for(double wanted, double priority)
{
    double low = 0, high = 100;

    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;

        *(rate(100, middle, priority) > wanted ? &low : &high) = middle;
    }
    return low;
}

/* A ledger of the library and one of the reference, walked together; sizes in MB. */
struct pair {
    struct migbuf_bins *bins;
    struct reference_ledger ledger;
};

static void pair_new(struct pair *p, uint64_t mb)
{
    ck_assert_int_eq(migbuf_bins_new(mb * MB, NULL, &p->bins), 0);
    reference_ledger_init(&p->ledger, mb * MB);
}

static void start(struct pair *p, uint64_t id, uint64_t mb)
{
    ck_assert_int_eq(migbuf_bins_start(p->bins, id, 100, mb * MB), 0);
    reference_ledger_start(&p->ledger, id, 100, mb * MB);
}

static void set(struct pair *p, uint64_t id, uint64_t mb)
{
    ck_assert_int_eq(migbuf_bins_set(p->bins, id, mb * MB), 0);
    reference_ledger_set(&p->ledger, reference_ledger_find(&p->ledger, id), mb * MB);
}

static void end(struct pair *p, uint64_t id)
{
    ck_assert_int_eq(migbuf_bins_end(p->bins, id), 0);
    reference_ledger_end(&p->ledger, reference_ledger_find(&p->ledger, id));
}

static void several(struct pair *p, uint64_t count)
{
    for (uint64_t id = 0; id < count; id++)
        start(p, id, 0);
}

static size_t draw_one(char *text, size_t room, uint32_t position, uint64_t bin, uint64_t id, uint64_t bytes)
{
    size_t used = 0;

    if (position == 1)
        used = (size_t)snprintf(text, room, "}%s%d{", " b", (int)bin);
    return used + (size_t)snprintf(text + used, room - used, "%s%d:%.7g", position == 1 ? "" : " ", (int)id,
                                   (double)bytes / 1e6);
}

/* "b0{0:100 2:5} b1{1:7}": the notation of the text, 7 digits; with "} " before it, which expect() leaves out. */
static void draw_library(const struct migbuf_bins *bins, char *text, size_t room)
{
    struct migbuf_shard s[64];
    int n = migbuf_bins_shards(bins, s, 64);
    size_t used = 0;

    ck_assert(n >= 0 && n <= 64);
    for (int k = 0; k < n; k++)
        used += draw_one(text + used, room - used, s[k].position, s[k].bin, s[k].id, s[k].bytes);
    snprintf(text + used, room - used, "}");
}

static void draw_reference(const struct reference_ledger *l, char *text, size_t room)
{
    size_t used = 0;

    for (int b = 0; b < l->count; b++)
        for (int p = 0; p < l->bin[b].height; p++)
            used += draw_one(text + used, room - used, (uint32_t)p + 1, l->bin[b].id, l->bin[l->bin[b].entry[p].who].id,
                             l->bin[b].entry[p].bytes);
    snprintf(text + used, room - used, "}");
}

static void expect(const struct pair *p, const char *picture)
{
    char drawn[1024];

    draw_reference(&p->ledger, drawn, sizeof drawn);
    ck_assert_str_eq(drawn + 2, picture);
    draw_library(p->bins, drawn, sizeof drawn);
    ck_assert_str_eq(drawn + 2, picture);
}

/* E, f, room in MB, priority and h of one migration; -1 where the text names no number. */
static void expect_view(const struct pair *p, uint64_t id, double e, double f, double room, double priority, double h)
{
    struct migbuf_bins_view v = { .size = sizeof v };
    struct reference_view w;
    double numbers[2][5], expected[5] = { e, f, room, priority, h };

    ck_assert_int_eq(migbuf_bins_view(p->bins, id, &v), 0);
    reference_ledger_view(&p->ledger, reference_ledger_find(&p->ledger, id), &w);
    memcpy(numbers[0], (double[]){ v.capacity_bytes / 1e6, v.used_bytes / 1e6, v.free_bytes / 1e6, v.priority, 0 },
           sizeof numbers[0]);
    memcpy(numbers[1], (double[]){ w.capacity / 1e6, w.used / 1e6, w.room / 1e6, w.priority, 0 }, sizeof numbers[1]);
    numbers[0][4] = rate(numbers[0][0], numbers[0][1], numbers[0][3]);
    numbers[1][4] = reference_rate(numbers[1][0], numbers[1][1], numbers[1][3], 1, 0.01, 0.01);
    for (int who = 0; who < 2; who++)
        for (int k = 0; k < 5; k++)
            if (expected[k] >= 0)
                ck_near(numbers[who][k], expected[k]);
}

START_TEST(g1)
{
    ck_near(rate(100, 0, 1), 100.01);
    ck_near(literal(100, 0, 1, 10), 10);
}
END_TEST

START_TEST(g2)
{
    ck_near(rate(100, 40, 1), 51.3574159);
    ck_near(rate(100, 40, 2), 26.3755712);
    ck_near(rate(100, 40, 2) / rate(100, 40, 1), 0.513568892);
}
END_TEST

/* Where a priority of 2 halves the exponential term: exp(-f / (100.01 - f)) = 1/2. */
START_TEST(g3)
{
    double half = 40.9424829;

    ck_near(fill_for(10, 1), 69.7368325);
    ck_near(fill_for(10, 2), 53.5324766);
    ck_near((rate(100, half, 2) - 0.01) / (rate(100, half, 1) - 0.01), 0.5);
}
END_TEST

START_TEST(g4)
{
    ck_near(rate(100, 80, 1), 1.84522885);
    ck_near(rate(100, 90, 1), 0.0224524386);
    ck_near(rate(100, 95, 1), 0.0100005819);
    ck_near(rate(100, 100, 1), 0.01);
}
END_TEST

START_TEST(g5)
{
    ck_near(literal(100, 100.02, 1, 10), 10);
    ck_near(literal(100, 100, 1, 10), 0.01);
    ck_near(literal(100, 120, 1, 1e9), 40464.1604);
    ck_near(literal(100, 120, 2, 1e9), 16373474.7);
    ck_near(rate(100, 100.02, 1), 0.01);
    ck_near(rate(100, 120, 1), 0.01);
    ck_near(rate(100, 120, 2), 0.01);
}
END_TEST

START_TEST(g6)
{
    struct migbuf_throttle_constants c = in_mb(60);
    double h;

    ck_assert_int_eq(migbuf_throttle_rate(100, 40, 1, &c, &h), 0);
    ck_near(h, 0.865790265);
}
END_TEST

/* Half of 10 GiB; and the first once more in bytes, with the defaults. */
START_TEST(g7)
{
    struct migbuf_throttle_constants c;
    double h;

    ck_near(rate(5368.70912, 3700, 1), 584.695021);
    ck_near(rate(5368.70912, 4000, 1), 288.858523);
    ck_assert_int_eq(migbuf_throttle_constants_init(&c, sizeof c), 0);
    ck_assert_int_eq(migbuf_throttle_rate(5368.70912e6, 3700e6, 1, &c, &h), 0);
    ck_near(h, 584695021.0);
}
END_TEST

/* The paper's figure. Bins are filled and emptied for a while to lead every shard to where the figure has it. */
static void paper_figure(struct pair *p)
{
    pair_new(p, 400);
    several(p, 4);
    set(p, 0, 100);
    set(p, 2, 100);
    set(p, 3, 90);
    set(p, 2, 122);
    set(p, 0, 128);
    set(p, 1, 50);
    set(p, 3, 10);
    set(p, 0, 150);
    set(p, 2, 139);
    set(p, 1, 45);
}

START_TEST(g8)
{
    /* hosts of 0: 1, 3; of 2: 1, 3; so the guests of 1 and of 3 are 0 and 2 */
    size_t first[] = { 0, 0, 2, 2, 4 }, guest[] = { 0, 2, 0, 2 }, scratch[8];
    double x[] = { 1.1792686, 0.0100005819, 1.1792686, 38.2764765 }, y[4];
    uint32_t positions[] = { 1, 2, 3 };
    double mean;
    struct pair p;

    paper_figure(&p);
    expect(&p, "b0{0:100} b1{1:45 2:22 0:28} b2{2:100} b3{3:10 0:22 2:17}");
    expect_view(&p, 0, 200, 144, 18.6666667, 2, 1.1792686);
    expect_view(&p, 2, 200, 144, 18.6666667, 2, 1.1792686);
    expect_view(&p, 1, 100, 95, 1.66666667, 1, 0.0100005819);
    expect_view(&p, 3, 100, 49, 17, 1, 38.2764765);
    ck_assert_int_eq(migbuf_priority_mean(positions, 3, &mean), 0);
    ck_near(mean, 2);
    ck_assert_int_eq(migbuf_throttle_lenders(x, 4, first, guest, scratch, y), 0);
    for (int i = 0; i < 3; i++)
        ck_near(y[i], 0.0100005819);
    ck_near(y[3], 38.2764765);
    migbuf_bins_free(p.bins);
}
END_TEST

START_TEST(g9)
{
    struct pair p;

    pair_new(&p, 300);
    start(&p, 0, 130);
    start(&p, 1, 40);
    expect_view(&p, 0, 150, 130, -1, 1, 0.23624963);
    start(&p, 2, 0);
    expect(&p, "b0{0:100} b1{1:40} b2{2:0 0:30}");
    expect_view(&p, 0, 100, 30, 35, 1.5, 52.5936306);
    expect_view(&p, 2, 100, 30, 35, 1, 65.1578937);
    ck_near(literal(100, 130, 1.5, 10), 10);
    migbuf_bins_free(p.bins);
}
END_TEST

START_TEST(g10)
{
    double rooms[] = { 60, 30 };
    struct pair p;

    pair_new(&p, 300);
    several(&p, 3);
    set(&p, 1, 40);
    set(&p, 2, 70);
    set(&p, 0, 190);
    expect(&p, "b0{0:100} b1{1:40 0:60} b2{2:70 0:30}");
    expect_view(&p, 0, 0, 0, 0, 1.66666667, 0.01);
    ck_assert_int_eq(migbuf_placement_literal_halving(rooms, 2, 90, 40), MIGBUF_E_NOSPACE);
    migbuf_bins_free(p.bins);
}
END_TEST

START_TEST(g11)
{
    struct pair p;

    pair_new(&p, 400);
    several(&p, 2);
    set(&p, 1, 100);
    set(&p, 0, 250);
    expect(&p, "b0{0:200} b1{1:100 0:50}");
    start(&p, 2, 0);
    expect(&p, "b0{0:133.3333} b1{1:100 0:33.33333} b2{2:0 0:83.33333}");
    expect_view(&p, 0, 133.333333, 83.3333333, 25, 1.66666667, 8.30480923);
    migbuf_bins_free(p.bins);
}
END_TEST

START_TEST(g12)
{
    double shard[] = { 80 };
    struct pair p;

    pair_new(&p, 300);
    several(&p, 3);
    set(&p, 1, 10);
    set(&p, 2, 20);
    set(&p, 0, 180);
    expect(&p, "b0{0:100} b1{1:10 0:80} b2{2:20}");
    end(&p, 2);
    expect(&p, "b0{0:150} b1{1:10 0:30}");
    expect_view(&p, 0, 150, 40, 55, 1.5, 86.9510524);
    ck_assert_int_eq(migbuf_placement_literal_reclaim(shard, 1, 50), MIGBUF_E_NOSPACE);
    migbuf_bins_free(p.bins);
}
END_TEST

START_TEST(g13)
{
    struct migbuf_bins_view v = { .size = sizeof v };
    struct reference_view w;
    struct pair p;

    pair_new(&p, 300);
    several(&p, 3);
    set(&p, 1, 40);
    set(&p, 2, 10);
    set(&p, 0, 150);
    expect(&p, "b0{0:100} b1{1:40} b2{2:10 0:50}");
    end(&p, 2);
    expect(&p, "b0{0:150} b1{1:40}");
    expect_view(&p, 0, 150, 40, 55, 1.5, 86.9510524);
    ck_assert_int_eq(migbuf_bins_view(p.bins, 0, &v), 0);
    ck_assert_uint_eq(v.shards, 1);
    ck_assert_uint_eq(v.prospective, 1);
    reference_ledger_view(&p.ledger, 0, &w);
    ck_assert_int_eq(w.host_count, 1);
    ck_assert_int_eq(w.host[0], 1);
    migbuf_bins_free(p.bins);
}
END_TEST

START_TEST(g14)
{
    size_t first[] = { 0, 2, 3, 3 }, guest[] = { 1, 2, 0 }, scratch[6];
    double x[] = { 5, 3, 9 }, y[3];

    ck_assert_int_eq(migbuf_throttle_lenders(x, 3, first, guest, scratch, y), 0);
    for (int i = 0; i < 3; i++)
        ck_near(y[i], 3);
}
END_TEST

START_TEST(g15)
{
    double cap;

    ck_assert_int_eq(migbuf_throttle_hard_cap(512, 16, 1, 0.1, 0, &cap), 0);
    ck_near(cap, 29.0909091);
    ck_assert_int_eq(migbuf_throttle_hard_cap(512, 16, 1, 0.1, 1.048576, &cap), 0);
    ck_near(cap, 28.1376582);
    ck_assert_int_eq(migbuf_throttle_hard_cap(30.26, 1, 5, 0.1, 0, &cap), 0);
    ck_near(cap, 5.93333333);
    ck_assert_int_eq(migbuf_throttle_hard_cap(512, 1, 1, 0.1, 0, &cap), 0);
    ck_near(cap, 465.454545);
}
END_TEST

START_TEST(g16)
{
    double bytes;

    ck_assert_int_eq(migbuf_throttle_pending(20, INFINITY, 16, 0.2, 0.1, 0, &bytes), 0);
    ck_near(bytes, 96);
    ck_assert_int_eq(migbuf_throttle_pending(20, INFINITY, 16, 0, 0.1, 0, &bytes), 0);
    ck_near(bytes, 0);
    ck_assert_int_eq(migbuf_throttle_pending(20, INFINITY, 1, 0.2, 0.1, 1.048576, &bytes), 0);
    ck_near(bytes, 7.048576);
}
END_TEST

static void expect_level(const double *amount, size_t n, double total, double expected)
{
    double weight[4] = { 1, 1, 1, 1 }, level = -1;
    size_t scratch[4];

    ck_assert_int_eq(migbuf_throttle_shave(amount, NULL, n, total, scratch, &level), 0);
    ck_near(level, expected);
    ck_near(reference_shave(amount, weight, (int)n, total), expected);
}

START_TEST(g17)
{
    double a[] = { 1, 2, 3, 10 }, b[] = { 5, 5 }, c[] = { 1, 1 };

    expect_level(a, 4, 9, 3);
    expect_level(a, 4, 8, 2.5);
    expect_level(b, 2, 20, INFINITY);
    expect_level(c, 2, 0, 0);
}
END_TEST

/* A set empties the bucket, so that a tick of T seconds passes T + b: the value for QEMU whose mean over T is 20. */
START_TEST(g23)
{
    double value;

    ck_assert_int_eq(migbuf_throttle_hard_cap(20 * 1, 1, 1, 0.1, 0, &value), 0);
    ck_near(value, 18.1818182);
    ck_assert_int_eq(migbuf_throttle_hard_cap(20 * 0.1, 1, 0.1, 0.1, 0, &value), 0);
    ck_near(value, 10);
}
END_TEST

START_TEST(e_g1)
{
    struct pair p;

    pair_new(&p, 300);
    several(&p, 3);
    set(&p, 0, 130);
    set(&p, 1, 90);
    expect(&p, "b0{0:100} b1{1:70 0:30} b2{2:0 1:20}");
    set(&p, 0, 110);
    expect(&p, "b0{0:100} b1{1:90 0:10} b2{2:0}");
    set(&p, 2, 100);
    expect(&p, "b0{0:100} b1{1:90 0:10} b2{2:100}");
    migbuf_bins_free(p.bins);
}
END_TEST

START_TEST(e_g2)
{
    struct pair p;

    pair_new(&p, 300);
    several(&p, 2);
    set(&p, 0, 150);
    set(&p, 1, 30);
    set(&p, 0, 250);
    start(&p, 2, 0);
    expect(&p, "b0{0:100} b1{1:30 0:70} b2{2:0 0:80}");
    start(&p, 3, 0);
    expect(&p, "b0{0:75} b1{1:30 0:45} b2{2:0 0:75} b3{3:0 0:55}");
    end(&p, 1);
    expect(&p, "b0{0:100} b2{2:0 0:75} b3{3:0 0:75}");
    migbuf_bins_free(p.bins);
}
END_TEST

START_TEST(e_g3)
{
    struct pair p;

    pair_new(&p, 400);
    several(&p, 4);
    set(&p, 0, 100);
    set(&p, 2, 50);
    set(&p, 3, 50);
    set(&p, 0, 130);
    set(&p, 1, 70);
    set(&p, 2, 40);
    set(&p, 0, 140);
    set(&p, 1, 30);
    set(&p, 3, 0);
    expect(&p, "b0{0:100} b1{1:30 0:30} b2{2:40 0:10} b3{3:0}");
    set(&p, 0, 170);
    expect(&p, "b0{0:100} b1{1:30 0:30} b2{2:40 0:40} b3{3:0}");
    set(&p, 0, 195);
    expect(&p, "b0{0:100} b1{1:30 0:55} b2{2:40 0:40} b3{3:0}");
    migbuf_bins_free(p.bins);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { g1,  g2,  g3,  g4,  g5,  g6,  g7,   g8,   g9,   g10, g11,
                                   g12, g13, g14, g15, g16, g17, g23, e_g1, e_g2, e_g3, NULL };

    return unit_run("golden", tests, 60);
}
