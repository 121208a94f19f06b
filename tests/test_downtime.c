/* SPDX-License-Identifier: MIT */
/* Other projects' rules, by the tables that a separate program made of their sources. */
#include "unit.h"
#include "migbuf/downtime.h"
#include <stdint.h>
#include <string.h>

static uint32_t nova(uint32_t max, uint32_t steps, uint32_t delay, double gb, double elapsed)
{
    uint32_t ms = 77;

    ck_assert_int_eq(migbuf_downtime_nova(max, steps, delay, gb, elapsed, &ms), 0);
    return ms;
}

START_TEST(nova_raises_in_steps)
{
    static const struct {
        uint32_t max, steps, delay;
        double gb;
        uint32_t every, ms[11];
    } table[] = {
        { 500, 10, 75, 4, 300, { 50, 95, 140, 185, 230, 275, 320, 365, 410, 455, 500 } },
        { 400, 10, 30, 3, 90, { 40, 76, 112, 148, 184, 220, 256, 292, 328, 364, 400 } },
        { 100, 3, 3, 2, 6, { 33, 55, 77, 100 } },
        { 500, 10, 75, 2.5, 187, { 50, 95, 140, 185, 230, 275, 320, 365, 410, 455, 500 } },
        { 1000, 7, 75, 66, 4950, { 142, 265, 387, 510, 632, 755, 877, 1000 } },
    };

    for (size_t k = 0; k < sizeof table / sizeof *table; k++)
        for (uint32_t i = 0; i <= table[k].steps; i++) {
            double at = (double)i * table[k].every;
            uint32_t before = i ? table[k].ms[i - 1] : 0;

            ck_assert_uint_eq(nova(table[k].max, table[k].steps, table[k].delay, table[k].gb, at), before);
            ck_assert_uint_eq(nova(table[k].max, table[k].steps, table[k].delay, table[k].gb, at + 0.5), table[k].ms[i]);
        }
    ck_assert_uint_eq(nova(500, 10, 75, 4, 0), 0);
    ck_assert_uint_eq(nova(500, 10, 75, 4, 300), 50);
    ck_assert_uint_eq(nova(500, 10, 75, 4, 300.5), 95);
    ck_assert_uint_eq(nova(500, 10, 75, 4, 1500.5), 275);
    ck_assert_uint_eq(nova(500, 10, 75, 4, 3000.5), 500);
    ck_assert_uint_eq(nova(500, 10, 75, 4, 1e12), 500);
    ck_assert_uint_eq(nova(500, 10, 0, 4, 0.5), 500); /* no delay: the last at once */
}
END_TEST

START_TEST(nova_refuses_what_makes_no_sense)
{
    uint32_t ms = 77;
    uint64_t s = 77;

    ck_assert_int_eq(migbuf_downtime_nova(500, 0, 75, 4, 1, &ms), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_nova(500, 10, 75, -1, 1, &ms), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_nova(500, 10, 75, 4, -1, &ms), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_nova(500, 10, 75, NAN, 1, &ms), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_downtime_nova(500, 10, 75, 4, INFINITY, &ms), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_nova(500, 10, 75, 4, 1, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_downtime_nova_timeout(800, -1, &s), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_nova_timeout(800, 1e300, &s), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_nova_timeout(800, 1, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_downtime_nova_action(1, NAN, 0, 0, 0), MIGBUF_E_INVALID);
    ck_assert(ms == 77 && s == 77);
}
END_TEST

START_TEST(nova_gives_up_after_so_long)
{
    const uint64_t one_and_twenty[2] = { UINT64_C(1) << 30, UINT64_C(20) << 30 }, hundred[1] = { UINT64_C(100) << 30 };
    static const struct {
        uint64_t mib;
        int disks;
        double gb;
        uint64_t timeout;
        double elapsed;
        int force, postcopy, phase, action;
    } table[] = {
        { 512, 0, 2, 1600, 1600, 0, 0, MIGBUF_RAM_PHASE_ACTIVE, 0 },
        { 4096, 0, 4, 3200, 3201, 0, 0, MIGBUF_RAM_PHASE_ACTIVE, MIGBUF_RAM_ABORT },
        { 4096, 2, 26, 20800, 20801, 1, 1, MIGBUF_RAM_PHASE_ACTIVE, MIGBUF_RAM_POSTCOPY },
        { 2560, 0, 2.5, 2000, 2001, 1, 0, MIGBUF_RAM_PHASE_ACTIVE, MIGBUF_RAM_STOP },
        { 65536, 1, 164, 131200, 131201, 1, 1, MIGBUF_RAM_PHASE_POSTCOPY, 0 },
    };
    double gb;
    uint64_t timeout;

    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        ck_assert_int_eq(migbuf_downtime_nova_gb(table[k].mib, table[k].disks == 2 ? one_and_twenty : hundred,
                                                 (size_t)table[k].disks, &gb), 0);
        ck_near(gb, table[k].gb);
        ck_assert_int_eq(migbuf_downtime_nova_timeout(800, gb, &timeout), 0);
        ck_assert_uint_eq(timeout, table[k].timeout);
        ck_assert_int_eq(migbuf_downtime_nova_action(timeout, table[k].elapsed, table[k].force, table[k].postcopy, table[k].phase),
                         table[k].action);
    }
    ck_assert_int_eq(migbuf_downtime_nova_action(0, 1e9, 1, 1, MIGBUF_RAM_PHASE_ACTIVE), 0); /* never */
    ck_assert_int_eq(migbuf_downtime_nova_gb(512, NULL, 1, &gb), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_downtime_nova_gb(512, NULL, 0, NULL), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(cloudstack_sets_once_pauses_and_aborts)
{
    static const struct {
        uint64_t t;
        int running;
        struct migbuf_downtime_cloudstack c;
        int set, action;
    } table[] = {
        { 900, 1, { 250, 0, 0, 0 }, 0, 0 },
        { 1000, 1, { 250, 0, 0, 0 }, 0, MIGBUF_RAM_DOWNTIME },
        { 1000, 1, { 250, 0, 0, 0 }, 1, 0 },
        { 120100, 1, { 250, 120000, 3600, 0 }, 1, MIGBUF_RAM_STOP },
        { 120000, 1, { 250, 120000, 3600, 0 }, 1, 0 },
        { 120100, 0, { 250, 120000, 3600, 0 }, 1, 0 },
        { 3600100, 1, { 0, 0, 3600, 0 }, 0, MIGBUF_RAM_ABORT },
        { 3600100, 0, { 0, 120000, 3600, 0 }, 0, 0 },
    };

    for (size_t k = 0; k < sizeof table / sizeof *table; k++)
        ck_assert_int_eq(migbuf_downtime_cloudstack(&table[k].c, table[k].t, table[k].running, table[k].set), table[k].action);
    ck_assert_int_eq(migbuf_downtime_cloudstack(NULL, 0, 1, 0), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(kubevirt_has_a_time_and_steps)
{
    const uint64_t gib = UINT64_C(1) << 30;
    const uint64_t bytes[5] = { 1000000000, gib, 4 * gib, 16 * gib, 108 * gib }, expected[5] = { 150, 300, 750, 2700, 17400 };
    const uint32_t steps[9] = { 150, 257, 364, 471, 578, 685, 792, 899, 900 };
    uint64_t s;
    uint32_t ms = 0;

    for (int k = 0; k < 5; k++) {
        ck_assert_int_eq(migbuf_downtime_kubevirt_time(150, bytes[k], &s), 0);
        ck_assert_uint_eq(s, expected[k]);
    }
    ck_assert_int_eq(migbuf_downtime_kubevirt_time(150, UINT64_MAX, &s), 0);
    ck_assert_uint_eq(s, UINT64_C(2767011611100));
    ck_assert_int_eq(migbuf_downtime_kubevirt_time(UINT32_MAX, UINT64_MAX, &s), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_kubevirt_time(150, 1, NULL), MIGBUF_E_INVALID);
    for (int k = 0; k < 9; k++) {
        ms = migbuf_downtime_kubevirt_next(ms);
        ck_assert_uint_eq(ms, steps[k]);
    }
    ck_assert_uint_eq(migbuf_downtime_kubevirt_next(900), 900);
    ck_assert_uint_eq(migbuf_downtime_kubevirt_next(UINT32_MAX), 900);
}
END_TEST

START_TEST(kubevirt_sees_a_stall)
{
    static const struct {
        int n;
        uint64_t s[5], bytes[5];
        int stalled[5];
    } table[] = {
        { 5, { 0, 20, 41, 62, 84 }, { 1000, 800, 700, 690, 695 }, { 0, 0, 0, 0, 1 } },
        { 4, { 0, 30, 60, 90 }, { 1000, 500, 250, 120 }, { 0 } },
        { 3, { 0, 39, 40 }, { 100, 100, 100 }, { 0, 0, 1 } },
        { 3, { 0, 41, 82 }, { 100, 97, 94 }, { 0, 1, 1 } },
        { 3, { 0, 41, 82 }, { 100, 95, 91 }, { 0, 0, 1 } },
    };

    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        struct migbuf_downtime_stall s = { .count = 0 };

        for (int i = 0; i < table[k].n; i++)
            ck_assert_msg(migbuf_downtime_kubevirt(&s, table[k].s[i] * 1000, table[k].bytes[i]) == table[k].stalled[i],
                          "row %zu, at %d s", k, (int)table[k].s[i]);
    }
}
END_TEST

START_TEST(kubevirt_with_more_rounds_than_are_kept)
{
    struct migbuf_downtime_stall s = { .count = 0 }, before;

    for (uint64_t k = 0; k < 100; k++)
        ck_assert_int_eq(migbuf_downtime_kubevirt(&s, k * 100, 1000000 - 50000 * k / 5), 0);
    ck_assert_uint_eq(s.count, MIGBUF_DOWNTIME_CANDIDATES);
    ck_assert_int_eq(migbuf_downtime_kubevirt(&s, 10000, s.outside_bytes), 1);
    before = s;
    ck_assert_int_eq(migbuf_downtime_kubevirt(&s, 9899, 1), MIGBUF_E_CLOCK);
    s.count = 65;
    ck_assert_int_eq(migbuf_downtime_kubevirt(&s, 10000, 1), MIGBUF_E_INVALID);
    s.count = before.count;
    ck_assert_mem_eq(&s, &before, sizeof s);
    ck_assert_int_eq(migbuf_downtime_kubevirt(NULL, 10000, 1), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(kubevirt_acts_on_a_stall)
{
    ck_assert_int_eq(migbuf_downtime_kubevirt_action(100000000, 117e6, 0, 1), MIGBUF_RAM_DOWNTIME);
    ck_assert_int_eq(migbuf_downtime_kubevirt_action(200000000, 117e6, 0, 1), MIGBUF_RAM_ABORT);
    ck_assert_int_eq(migbuf_downtime_kubevirt_action(200000000, 117e6, 1, 1), MIGBUF_RAM_POSTCOPY);
    ck_assert_int_eq(migbuf_downtime_kubevirt_action(200000000, 117e6, 1, 0), MIGBUF_RAM_FORCE);
    ck_assert_int_eq(migbuf_downtime_kubevirt_action(1, 0, 1, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_kubevirt_action(1, NAN, 1, 0), MIGBUF_E_INVALID);
}
END_TEST

static uint32_t doubled(uint32_t start, const uint64_t *remaining, int n, int times)
{
    struct migbuf_downtime_doubling s = { .limit_ms = start };
    uint32_t ms = 0;

    for (int k = 0; k < n * times; k++)
        ck_assert_int_eq(migbuf_downtime_proxmox(&s, remaining[k % n], &ms), 0);
    return ms;
}

START_TEST(proxmox_doubles)
{
    const uint64_t saw[13] = { 9, 5, 7, 4, 6, 3, 6, 2, 6, 1, 6, 1, 6 }, nothing[1] = { 0 }, down[7] = { 9, 8, 7, 6, 5, 4, 3 },
                   two[2] = { 1, 2 };

    ck_assert_uint_eq(doubled(0, saw, 13, 1), 200);
    ck_assert_uint_eq(doubled(0, saw, 12, 1), 100);
    ck_assert_uint_eq(doubled(0, nothing, 1, 5), 100);
    ck_assert_uint_eq(doubled(0, nothing, 1, 6), 200);
    ck_assert_uint_eq(doubled(0, down, 7, 1), 100);
    ck_assert_uint_eq(doubled(0, two, 2, 12), 400);
    ck_assert_uint_eq(doubled(1999999, nothing, 1, 6), 2000000);
    ck_assert_uint_eq(doubled(0, nothing, 1, 600), 2000000);
    ck_assert_int_eq(migbuf_downtime_proxmox(NULL, 1, NULL), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(xen_stops_and_copies)
{
    ck_assert(!migbuf_downtime_xen(4, 50) && migbuf_downtime_xen(4, 49) && migbuf_downtime_xen(5, 1000));
    ck_assert(!migbuf_downtime_xen_3(28, 5000, 6000, 100000, 50000, 1));
    ck_assert(migbuf_downtime_xen_3(29, 5000, 6000, 100000, 50000, 0));
    ck_assert(migbuf_downtime_xen_3(3, 49, 6000, 100000, 50000, 0));
    ck_assert(!migbuf_downtime_xen_3(3, 50, 6000, 150000, 50000, 0) && migbuf_downtime_xen_3(3, 50, 6000, 150001, 50000, 0));
    ck_assert(migbuf_downtime_xen_3(3, 6001, 6000, 100000, 50000, 1) && !migbuf_downtime_xen_3(3, 6001, 6000, 100000, 50000, 0));
    ck_assert(!migbuf_downtime_xen_3(3, 6001, 6000, UINT64_MAX, UINT64_MAX / 2, 0));
}
END_TEST

START_TEST(clark_raises_the_rate)
{
    const double in[5] = { 0, 10, 120, 449, 460 }, out[5] = { 100, 100, 170, 499, 500 };
    double rate = 7;

    ck_assert_int_eq(migbuf_downtime_clark(1, 500, 100, &rate), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_downtime_clark(-1, 100, 500, &rate), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_clark(NAN, 100, 500, &rate), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_downtime_clark(1, 100, 500, NULL), MIGBUF_E_INVALID);
    ck_near(rate, 7);
    for (int k = 0; k < 5; k++) {
        ck_assert_int_eq(migbuf_downtime_clark(in[k], 100, 500, &rate), k == 4);
        ck_near(rate, out[k]);
    }
}
END_TEST

START_TEST(qemu_switches_over_below_a_threshold)
{
    static const struct {
        double rate;
        uint32_t limit;
        uint64_t avail, threshold;
    } table[] = {
        { 134217728, 300, 0, 40265318 },  { 16777216, 300, 0, 5033164 }, { 16777216, 8000, 0, 134217728 },
        { 16777216, 300, 1250000000, 375000000 }, { 0, 300, 0, 0 },
    };
    uint64_t bytes = 7;

    ck_assert_int_eq(migbuf_downtime_qemu(-1, 300, 0, &bytes), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_qemu(1e300, 2000000, 0, &bytes), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_qemu(NAN, 300, 0, &bytes), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_downtime_qemu(1, 300, 0, NULL), MIGBUF_E_INVALID);
    ck_assert_uint_eq(bytes, 7);
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        ck_assert_int_eq(migbuf_downtime_qemu(table[k].rate, table[k].limit, table[k].avail, &bytes), 0);
        ck_assert_uint_eq(bytes, table[k].threshold);
    }
}
END_TEST

START_TEST(qemu_throttles_every_second_time)
{
    static const struct {
        struct migbuf_downtime_trigger s;
        int n;
        uint64_t dirty[4];
        int throttle[4];
    } table[] = {
        { { 50, 20, 10, 99, 0, 0 }, 4, { 60, 60, 60, 60 }, { 0, 20, 20, 30 } },
        { { 50, 20, 10, 99, 0, 0 }, 4, { 50, 50, 50, 50 }, { 0, 0, 0, 0 } },
        { { 50, 20, 10, 99, 0, 0 }, 4, { 60, 10, 60, 60 }, { 0, 0, 20, 20 } },
        { { 20, 50, 10, 99, 0, 0 }, 4, { 21, 21, 21, 21 }, { 0, 50, 50, 60 } },
    };
    struct migbuf_downtime_trigger s;

    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        s = table[k].s;
        for (int i = 0; i < table[k].n; i++)
            ck_assert_int_eq(migbuf_downtime_trigger(&s, table[k].dirty[i], 100), table[k].throttle[i]);
    }
    s = table[0].s;
    for (int i = 1; i <= 20; i++) {
        int p = migbuf_downtime_trigger(&s, 60, 100);

        ck_assert(i != 16 || p == 90);
        ck_assert(i < 18 || p == 99);
    }
    s.counted = 0;
    ck_assert_int_eq(migbuf_downtime_trigger(&s, UINT64_MAX / 2 - 1, UINT64_MAX), 99); /* no overflow: not above the half */
    ck_assert_uint_eq(s.counted, 0);
    s.threshold = 0;
    ck_assert_int_eq(migbuf_downtime_trigger(&s, 60, 100), MIGBUF_E_RANGE);
    s = table[0].s;
    s.most = 19;
    ck_assert_int_eq(migbuf_downtime_trigger(&s, 60, 100), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_trigger(NULL, 60, 100), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(qemu_throttles_slowly_at_the_end)
{
    ck_assert_int_eq(migbuf_downtime_tailslow(20, 100, 50, 10), 10);
    ck_assert_int_eq(migbuf_downtime_tailslow(90, 100, 95, 10), 1);
    ck_assert_int_eq(migbuf_downtime_tailslow(50, 100, 99, 10), 1);
    ck_assert_int_eq(migbuf_downtime_tailslow(50, 100, 300, 10), 0);
    ck_assert_int_eq(migbuf_downtime_tailslow(100, 100, 99, 10), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_tailslow(50, 0, 99, 10), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_downtime_tailslow(50, 1, 99, 100), MIGBUF_E_RANGE);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        nova_raises_in_steps, nova_refuses_what_makes_no_sense, nova_gives_up_after_so_long, cloudstack_sets_once_pauses_and_aborts,
        kubevirt_has_a_time_and_steps, kubevirt_sees_a_stall, kubevirt_with_more_rounds_than_are_kept, kubevirt_acts_on_a_stall,
        proxmox_doubles, xen_stops_and_copies, clark_raises_the_rate, qemu_switches_over_below_a_threshold,
        qemu_throttles_every_second_time, qemu_throttles_slowly_at_the_end, NULL };

    return unit_run("downtime", tests, 0);
}
