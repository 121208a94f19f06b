/* SPDX-License-Identifier: MIT */
/* The worked example of state.h, and what it refuses. Real dumps are in test_state_qemu.c. */
#include "migbuf/state.h"
#include "unit.h"

#define MIB (UINT64_C(1) << 20)

static struct migbuf_state state(uint64_t memory)
{
    struct migbuf_state s;

    ck_assert_int_eq(migbuf_state_init(&s, sizeof s), 0);
    ck_assert(s.device_ram_bytes == 32 * MIB && s.cpus == 1 && s.page_bytes == 4096 && !s.memory_bytes);
    s.memory_bytes = memory;
    return s;
}

START_TEST(example)
{
    struct migbuf_state s = state(1024 * MIB);
    uint64_t raw, gzip;

    s.cpus = 4;
    s.device_ram_bytes = 16 * MIB;
    ck_assert_int_eq(migbuf_state_bound(&s, &raw, &gzip), 0);
    ck_assert_uint_eq(raw, UINT64_C(1095274496));
    ck_assert_uint_eq(gzip, UINT64_C(1095608845));
    ck_assert_int_eq(migbuf_state_bound(&s, NULL, NULL), 0);
}
END_TEST

/* More of anything never means less, and the overhead is small from 256 MiB on. */
START_TEST(it_rises_and_is_tight)
{
    uint64_t before = 0, before_gzip = 0;

    for (uint64_t mib = 1; mib <= 1 << 20; mib += mib / 2 + 1) {
        struct migbuf_state s = state(mib * MIB);
        uint64_t raw, gzip, more;

        ck_assert_int_eq(migbuf_state_bound(&s, &raw, &gzip), 0);
        ck_assert(raw > before && gzip > before_gzip && gzip > raw && raw > s.memory_bytes + s.device_ram_bytes);
        if (mib >= 256)
            ck_assert((double)gzip <= 1.03 * (double)(s.memory_bytes + s.device_ram_bytes));
        s.cpus = 2;
        s.resent_bytes = MIB;
        ck_assert_int_eq(migbuf_state_bound(&s, &more, NULL), 0);
        ck_assert(more >= raw + MIB + 65536);
        before = raw, before_gzip = gzip;
    }
}
END_TEST

START_TEST(nonsense_is_refused)
{
    struct migbuf_state s = state(0);
    uint64_t raw = 7;

    ck_assert_int_eq(migbuf_state_bound(&s, &raw, NULL), MIGBUF_E_RANGE);
    s = state((UINT64_C(1) << 50) + 1);
    ck_assert_int_eq(migbuf_state_bound(&s, &raw, NULL), MIGBUF_E_RANGE);
    s = state(MIB);
    s.cpus = 0;
    ck_assert_int_eq(migbuf_state_bound(&s, &raw, NULL), MIGBUF_E_RANGE);
    s = state(MIB);
    s.page_bytes = 5000;
    ck_assert_int_eq(migbuf_state_bound(&s, &raw, NULL), MIGBUF_E_INVALID);
    s = state(MIB);
    s.size = 8;
    ck_assert_int_eq(migbuf_state_bound(&s, &raw, NULL), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_state_bound(NULL, &raw, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_state_init(NULL, sizeof s), MIGBUF_E_INVALID);
    ck_assert_uint_eq(raw, 7);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { example, it_rises_and_is_tight, nonsense_is_refused, NULL };

    return unit_run("state", tests, 10);
}
