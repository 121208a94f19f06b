/* SPDX-License-Identifier: MIT */
/* The handle a host drives, case by case. That it never overflows is a law, tested against an adversary elsewhere. */
#include "unit.h"
#include "migbuf/buffer.h"
#include <stdio.h>
#include <string.h>

#define MB UINT64_C(1000000)
#define GB (1000 * MB)
#define GIB (UINT64_C(1) << 30)
#define ck_near_rel(value, expected, slack) ck_assert_double_eq_tol(value, expected, (slack) * (expected))

static struct migbuf_geometry disk(void)
{
    return (struct migbuf_geometry){ .virtual_bytes = 100 * GIB, .cluster_bytes = 65536, .subcluster_bytes = 65536,
                                     .request_bytes = 65536, .queue_bytes = MIGBUF_NONE, .extra_bytes = MIGBUF_NONE,
                                     .flags = MIGBUF_GEOMETRY_ALIGNED };
}

static struct migbuf_buffer_options exact(void)
{
    struct migbuf_buffer_options o;

    ck_assert_int_eq(migbuf_buffer_options_init(&o, sizeof o), 0);
    o.policy = MIGBUF_POLICY_PAPER;
    o.hysteresis_percent = 0;
    o.late_factor_percent = 100;
    o.lag_ms = 0;
    return o;
}

static struct migbuf_buffer *buffer(uint64_t capacity, const struct migbuf_buffer_options *o)
{
    struct migbuf_buffer *b;

    ck_assert_int_eq(migbuf_buffer_new(capacity, o, NULL, &b), 0);
    return b;
}

static int add(struct migbuf_buffer *b, uint64_t id, const struct migbuf_geometry *g, uint32_t drains,
               struct migbuf_error *e)
{
    struct migbuf_migration m;

    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.id = id;
    m.drains_ahead = drains;
    return migbuf_buffer_add(b, &m, g, 1, e);
}

static void size_is(struct migbuf_buffer *b, uint64_t now_ms, uint64_t id, uint64_t bytes)
{
    struct migbuf_sample s = { .id = id, .file_bytes = bytes };

    ck_assert_int_eq(migbuf_buffer_sample(b, now_ms, &s, 1), 0);
}

/* Saves and loads; the text stays for the caller. */
static struct migbuf_buffer *through_text(struct migbuf_buffer *b, uint64_t now_ms, char **text, size_t *length)
{
    struct migbuf_buffer *again;

    ck_assert_int_eq(migbuf_buffer_save(b, NULL, 0, length), MIGBUF_E_TOO_BIG);
    *text = malloc(*length + 1);
    ck_assert_int_eq(migbuf_buffer_save(b, *text, *length, length), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_buffer_save(b, *text, *length + 1, length), 0);
    ck_assert_int_eq(migbuf_buffer_load(*text, *length, now_ms, NULL, &again), 0);
    return again;
}

static struct migbuf_decision tick1(struct migbuf_buffer *b, uint64_t now_ms)
{
    struct migbuf_decision d;

    ck_assert_int_eq(migbuf_buffer_tick(b, now_ms, &d, 1), 1);
    return d;
}

/* Measures the only migration, and asks. */
static struct migbuf_decision look1(struct migbuf_buffer *b, uint64_t now_ms, uint64_t id, uint64_t file_bytes)
{
    size_is(b, now_ms, id, file_bytes);
    return tick1(b, now_ms);
}

START_TEST(first_a_limit_then_keep)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(10 * GIB, &o);
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_view v = { .size = sizeof v };
    struct migbuf_decision d;

    ck_assert_int_eq(add(b, 7, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_view(b, 7, &v), 0);
    ck_assert(v.in_force_bytes_per_s == MIGBUF_UNLIMITED);
    d = tick1(b, 0);
    ck_assert(d.id == 7 && d.action == MIGBUF_ACTION_LOWER && d.limits.iops_size == 65536);
    ck_assert(d.growth_bytes_per_s == d.limits.iops_wr * 65536 && d.limits.bps_wr == 0);
    d = look1(b, 1000, 7, 0);
    ck_assert(d.action == MIGBUF_ACTION_KEEP && d.growth_bytes_per_s > 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 118 * MB), 0);
    d = look1(b, 2000, 7, 0);
    ck_assert(d.action == MIGBUF_ACTION_LOWER && d.reason == MIGBUF_REASON_SHARE);
    ck_assert(d.limits.iops_wr == 118 * MB / 65536);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 236 * MB), 0);
    d = look1(b, 3000, 7, 0);
    ck_assert(d.action == MIGBUF_ACTION_RAISE && d.limits.iops_wr == 236 * MB / 65536);
    ck_assert_int_eq(migbuf_buffer_phase(b, 7, MIGBUF_PHASE_MIRROR, 0), 0);
    d = look1(b, 4000, 7, 0);
    ck_assert(d.action == MIGBUF_ACTION_LOWER && d.limits.iops_wr == 118 * MB / 65536);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(the_paper_curve_shows_in_the_view)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(100 * MB, &o);
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_view v = { .size = sizeof v };

    g.virtual_bytes = 1 * GIB;
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    tick1(b, 0); /* a file that is there before its first limit was written to without one, and counts so */
    look1(b, 1000, 1, 40 * MB);
    ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
    ck_near(v.curve, 51.3574159e6);
    ck_assert(isinf(v.share));
    ck_near(v.hard_cap, (60e6 - 65536) / 1.1);
    ck_near(v.budget, v.curve);
    ck_assert(v.reason == MIGBUF_REASON_RATE);

    /* Ten times the rate does not fit into 60 MB with one request and all the metadata. */
    o.tau_ms = 100;
    migbuf_buffer_free(b);
    b = buffer(100 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    tick1(b, 0);
    look1(b, 1000, 1, 40 * MB);
    ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
    ck_near(v.curve, 513.48426e6);
    ck_near(v.budget, (60e6 - 65536 - 6 * 65536) / 1.1);
    ck_assert(v.reason == MIGBUF_REASON_SPACE);
    ck_assert_int_eq(migbuf_buffer_view(b, 2, &v), MIGBUF_E_NOTFOUND);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(small_raises_are_not_sent)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b;
    struct migbuf_geometry g = disk();
    struct migbuf_decision d;

    o.hysteresis_percent = 10;
    b = buffer(10 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1000 * 65536), 0);
    ck_assert(tick1(b, 0).limits.iops_wr == 1000);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1099 * 65536), 0);
    ck_assert(tick1(b, 1000).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1100 * 65536), 0);
    d = tick1(b, 2000);
    ck_assert(d.action == MIGBUF_ACTION_RAISE && d.limits.iops_wr == 1100);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1000 * 65536), 0);
    d = tick1(b, 3000); /* a lower goes further, so that the same again, a little less and a little more are kept */
    ck_assert(d.action == MIGBUF_ACTION_LOWER && d.limits.iops_wr == 950);
    ck_assert(tick1(b, 4000).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 955 * 65536), 0);
    ck_assert(tick1(b, 5000).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1044 * 65536), 0);
    ck_assert(tick1(b, 6000).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1045 * 65536), 0);
    ck_assert(tick1(b, 7000).action == MIGBUF_ACTION_RAISE);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(a_full_buffer_pauses_and_room_resumes)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(100 * MB, &o);
    struct migbuf_geometry g = disk();
    struct migbuf_decision d;

    g.virtual_bytes = GIB;
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    tick1(b, 0);
    size_is(b, 1000, 1, 100 * MB - 100000);
    d = tick1(b, 1000);
    ck_assert(d.action == MIGBUF_ACTION_PAUSE && d.growth_bytes_per_s == 0 && d.limits.iops_wr == 0);
    ck_assert(d.reason == MIGBUF_REASON_SPACE);
    ck_assert(look1(b, 2000, 1, 100 * MB - 100000).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_resize(b, 200 * MB, NULL), 0);
    d = look1(b, 2500, 1, 100 * MB - 100000); /* a pause is a drain: not ended after a moment */
    ck_assert(d.action == MIGBUF_ACTION_KEEP && d.reason == MIGBUF_REASON_WAIT);
    d = look1(b, 3000, 1, 100 * MB - 100000);
    ck_assert(d.action == MIGBUF_ACTION_RESUME && d.limits.iops_wr > 0);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(reserves_are_kept_free)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(120 * MB, &o);
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_stats s = { .size = sizeof s };
    struct migbuf_error e;
    struct migbuf_decision d[2];

    g.virtual_bytes = GIB;
    g.queue_bytes = 10 * MB;
    ck_assert_int_eq(add(b, 1, &g, 4, NULL), 0);
    ck_assert_int_eq(add(b, 2, &g, 6, &e), MIGBUF_E_NOSPACE);
    ck_assert(e.need > 70 * MB && e.have < 70 * MB && e.have > 69 * MB); /* one drain more than said: a pause is one */
    ck_assert_int_eq(add(b, 2, &g, 4, &e), 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 2), 2);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.reserve_bytes == 100 * MB && s.grantable_bytes == 20 * MB && s.capacity_bytes == 120 * MB);
    ck_assert((d[0].growth_bytes_per_s + d[1].growth_bytes_per_s) * 11 / 10 < 20 * MB);
    ck_assert_int_eq(migbuf_buffer_resize(b, 99 * MB, &e), MIGBUF_E_IN_USE);
    ck_assert(e.need == 100 * MB && e.have == 99 * MB);
    size_is(b, 1000, 1, 30 * MB); /* a drain poured more than its reserve: nothing can be promised any more */
    size_is(b, 1000, 2, 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 1000, d, 2), 2);
    ck_assert(d[0].action == MIGBUF_ACTION_CANNOT_FIT && d[1].action == MIGBUF_ACTION_CANNOT_FIT);
    ck_assert(d[0].reason == MIGBUF_REASON_RESERVE);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_MIRROR, 1), 0);
    for (uint64_t now = 9000; now <= 10000; now += 1000) { /* the drains that are over count until they are measured */
        size_is(b, now, 1, 30 * MB);
        size_is(b, now, 2, 0);
        ck_assert_int_eq(migbuf_buffer_tick(b, now, d, 2), 2);
        ck_assert(d[0].action == (now == 9000 ? MIGBUF_ACTION_KEEP : MIGBUF_ACTION_RESUME));
    }
    migbuf_buffer_free(b);
}
END_TEST

static double reserve_after(struct migbuf_buffer *b, uint64_t now_ms, uint64_t file_bytes)
{
    struct migbuf_buffer_stats s = { .size = sizeof s };

    look1(b, now_ms, 1, file_bytes);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    return (double)s.reserve_bytes / 4e6;
}

/* In drains of 4 MB. A stop may land late, and what poured before it may be told late: both count until somebody said that the
 * guest stands, and a measurement came after that. */
START_TEST(only_who_is_known_to_stand_has_nothing_to_pour)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_view v = { .size = sizeof v };
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    struct migbuf_buffer *b = buffer(100 * MB, &o), *again;
    const uint64_t full[] = { 0, 91900000, 87900000, 83900000, 79900000 }; /* with so many drains, and no room to run */
    char *text;
    size_t length;

    g.virtual_bytes = GIB;
    g.queue_bytes = 4 * MB;
    ck_assert_int_eq(add(b, 1, &g, 4, NULL), 0);
    ck_assert(reserve_after(b, 0, 0) == 5);
    ck_assert(look1(b, 1000, 1, full[4]).action == MIGBUF_ACTION_PAUSE);
    ck_assert(reserve_after(b, 2000, full[4]) == 4); /* nobody said a word: for all that is known it runs yet */
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 3), 0);
    ck_assert(reserve_after(b, 3000, full[3]) == 3 + 1);
    ck_assert(reserve_after(b, 4000, full[2]) == 3);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 2), 0); /* it may have been over before the stop */
    ck_assert(reserve_after(b, 5000, full[2]) == 2 + 1);
    tick1(b, 6000); /* measured when it was told, and not since */
    ck_assert_int_eq(migbuf_buffer_stats(b, &stats), 0);
    ck_assert_uint_eq(stats.reserve_bytes, 2 * 4 * MB);
    ck_assert(reserve_after(b, 7000, full[2]) == 0);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_MIRROR, 1), 0);
    ck_assert(reserve_after(b, 8000, full[1]) == 0); /* a drain of one that stands */

    again = through_text(b, 8000, &text, &length);
    free(text);
    ck_assert(reserve_after(again, 9000, full[1]) == 0);
    migbuf_buffer_free(again);
    again = through_text(b, 0, &text, &length); /* and on another clock nothing is known */
    free(text);
    ck_assert(reserve_after(again, 1000, full[1]) == 1);
    migbuf_buffer_free(again);

    migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_UNKNOWN);
    ck_assert(reserve_after(b, 10000, full[1]) == 1);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 0), 0);
    ck_assert(reserve_after(b, 11000, full[1]) >= 1);
    ck_assert(reserve_after(b, 12000, full[1]) == 0);
    ck_assert(look1(b, 15000, 1, 0).action == MIGBUF_ACTION_RESUME); /* with room for both drains in its claim */
    ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
    ck_assert(v.claim_bytes >= 8 * MB);
    ck_assert(reserve_after(b, 16000, 0) == 2);
    migbuf_buffer_free(b);
}
END_TEST

/* One more drain than was said: not before there is room for it, however often it is asked. */
START_TEST(a_drain_waits_for_its_room)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(100 * MB, &o);
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_stats s = { .size = sizeof s };

    g.virtual_bytes = GIB;
    g.queue_bytes = 10 * MB;
    ck_assert_int_eq(add(b, 1, &g, 1, NULL), 0);
    ck_assert(tick1(b, 0).growth_bytes_per_s > 30 * MB); /* all that is free, but for two drains */
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 2), 1);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 2), 1);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.reach_bytes > 100 * MB);
    size_is(b, 1000, 1, 65536);
    ck_assert(tick1(b, 1000).action == MIGBUF_ACTION_LOWER);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 2), 0);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 1), 0); /* it is over */
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 20), 1);
    size_is(b, 2000, 1, 65536);
    ck_assert(tick1(b, 2000).action == MIGBUF_ACTION_CANNOT_FIT);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 20), 1); /* a tick makes no room where there is none */
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 19), 1); /* one less, and still too many */
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 1), 0);
    size_is(b, 9000, 1, 65536);
    ck_assert(tick1(b, 9000).action == MIGBUF_ACTION_RESUME); /* and what had none was not poured */
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert_uint_eq(s.reserve_bytes, 10 * MB);
    migbuf_buffer_free(b);
}
END_TEST

/* The floor is at least what lets the largest request through in time: a guest is paused because there is no room for it,
 * never because its link is slow or its floor low. */
START_TEST(a_stall_is_worse_than_a_pause)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_decision d;

    g.request_bytes = 8 << 20; /* 128 units: below 5 units/s one request would wait longer than 30 s */
    g.virtual_bytes = GIB;
    o.floor_bytes_per_s = 0;
    b = buffer(100 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * 65536), 0);
    ck_assert(tick1(b, 0).limits.iops_wr == 100);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 5 * 65536), 0);
    ck_assert(look1(b, 1000, 1, 0).limits.iops_wr == 5);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 4 * 65536), 0);
    d = look1(b, 2000, 1, 0);
    ck_assert(d.action == MIGBUF_ACTION_KEEP && d.limits.iops_wr == 5 && d.reason == MIGBUF_REASON_FLOOR);
    d = look1(b, 3000, 1, 100 * MB - 8900000); /* one request, its metadata, and less than two units/s */
    ck_assert(d.action == MIGBUF_ACTION_PAUSE && d.reason == MIGBUF_REASON_TURN);
    migbuf_buffer_free(b);

    for (int k = 0; k < 2; k++) { /* 0 is no way to switch that off */
        o.max_stall_ms = k ? UINT32_MAX : 0;
        b = buffer(100 * MB, &o);
        ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 65536), 0);
        ck_assert_uint_eq(tick1(b, 0).limits.iops_wr, k ? 2 : 5); /* with one unit/s it would not be let run again */
        migbuf_buffer_free(b);
    }
}
END_TEST

/* Guests that write all they may, and pour a full queue at each stop. */
struct writer {
    uint64_t file_bytes, wrote_ms, rate_bytes_per_s;
    int runs;
};

static void obey(struct writer *w, const struct migbuf_decision *d, uint64_t now_ms, uint64_t queue_bytes)
{
    if (d->action == MIGBUF_ACTION_PAUSE && w->runs) {
        w->file_bytes += queue_bytes;
        w->wrote_ms = now_ms;
    }
    if (d->action != MIGBUF_ACTION_WAIT)
        w->runs = d->growth_bytes_per_s > 0;
    w->rate_bytes_per_s = d->growth_bytes_per_s;
    w->wrote_ms = w->runs ? now_ms : w->wrote_ms;
}

/* Four disks of 256 MiB over 4 MB/s are away in 268 s. Until then the smallest limits of all, two units/s each, would take
 * 141 MB. There are 32, and a turn takes 390 kB: every 22 s, four guests need 19 MB. They write already, so they are in. */
START_TEST(where_not_all_can_write_they_take_turns)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();

    g.virtual_bytes = 256 << 20;
    g.queue_bytes = 256 << 10;
    for (int policy = MIGBUF_POLICY_PAPER; policy <= MIGBUF_POLICY_PLANNER; policy += 2) {
        struct writer w[4] = { { 0 } };
        struct migbuf_decision d[4];
        struct migbuf_buffer *b;
        int turns = 0;

        o.policy = policy;
        b = buffer(32 * MB, &o);
        for (uint64_t id = 0; id < 4; id++) {
            struct migbuf_migration m;

            ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
            m.id = id;
            m.drains_ahead = 1;
            m.device_write_bytes_per_s = 4 * MB;
            m.file_bytes = w[id].file_bytes = 65536;
            w[id].runs = 1;
            ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), 0);
        }
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 4 * MB), 0);
        for (uint64_t now = 0; now <= 260000; now += 1000) {
            uint64_t all = 0, stood_longest = UINT64_MAX;

            for (int i = 0; i < 4; i++) {
                struct migbuf_sample s = { .id = (uint64_t)i };

                w[i].file_bytes += now ? w[i].rate_bytes_per_s : 0;
                all += w[i].file_bytes;
                s.file_bytes = s.written_bytes = w[i].file_bytes;
                s.writes = s.file_bytes / 65536;
                s.remaining_bytes = (268 - now / 1000) * MB;
                ck_assert_int_eq(migbuf_buffer_sample(b, now, &s, now ? 1 : 0), 0);
            }
            ck_assert_uint_le(all, 32 * MB);
            ck_assert_int_eq(migbuf_buffer_tick(b, now, d, 4), 4);
            for (uint64_t id = 0; id < 4; id++)
                ck_assert_int_eq(migbuf_buffer_outcome(b, id, MIGBUF_OUTCOME_DONE), 0);
            for (int i = 0; i < 4; i++)
                if (d[i].action == MIGBUF_ACTION_KEEP && !w[i].runs && w[i].wrote_ms < stood_longest)
                    stood_longest = w[i].wrote_ms;
            for (int i = 0; i < 4; i++) {
                if (d[i].action == MIGBUF_ACTION_RESUME) {
                    ck_assert(d[i].reason == MIGBUF_REASON_TURN && d[i].growth_bytes_per_s == 2 * 65536);
                    ck_assert_uint_le(w[i].wrote_ms, stood_longest);
                    turns++;
                }
                obey(&w[i], &d[i], now, g.queue_bytes);
                ck_assert_msg(now - w[i].wrote_ms <= 30000, "policy %d: %d stands since %d ms", policy, i, (int)(now - w[i].wrote_ms));
            }
        }
        ck_assert_int_ge(turns, 4 * 8);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* Ten of them over the same link would be away in 671 s, and under its smallest limit each grows by 88 MB until then. Two fit into
 * 180 MB. With a third all would have to take turns; outside it writes to its base as it likes. */
START_TEST(who_would_make_others_stand_is_not_let_in)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();

    g.virtual_bytes = 256 << 20;
    g.queue_bytes = 256 << 10;
    for (int policy = MIGBUF_POLICY_PAPER; policy <= MIGBUF_POLICY_PLANNER; policy += 2) {
        struct migbuf_buffer_stats stats = { .size = sizeof stats };
        struct migbuf_decision d[10];
        struct migbuf_buffer *b;
        int in = 0;

        o.policy = policy;
        b = buffer(180 * MB, &o);
        for (uint64_t id = 0; id < 10; id++)
            ck_assert_int_eq(add(b, id, &g, 1, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 4 * MB), 0);
        ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 10), 10);
        for (int i = 0; i < 10; i++) {
            ck_assert(d[i].action == MIGBUF_ACTION_LOWER || (d[i].action == MIGBUF_ACTION_WAIT && d[i].reason == MIGBUF_REASON_ADMISSION));
            in += d[i].action == MIGBUF_ACTION_LOWER;
        }
        ck_assert_int_eq(in, 2);
        ck_assert_int_eq(migbuf_buffer_stats(b, &stats), 0);
        ck_assert(stats.grantable_bytes > 176 * MB); /* nothing is kept for those that wait for others to leave */
        migbuf_buffer_free(b);

        b = buffer(3 * MB, &o); /* one alone comes in where not even its own turns fit */
        ck_assert_int_eq(add(b, 1, &g, 1, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 100000), 0);
        ck_assert(tick1(b, 0).action == MIGBUF_ACTION_LOWER);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* Over 4 MB/s under their smallest limits they would grow by more than their disks hold. Whole they all fit. */
START_TEST(nobody_waits_for_others_where_whole_disks_fit)
{
    struct migbuf_geometry g = disk();

    g.virtual_bytes = 64 << 20;
    g.cluster_bytes = g.subcluster_bytes = 2 << 20;
    for (int policy = MIGBUF_POLICY_PAPER; policy <= MIGBUF_POLICY_PLANNER; policy += 2) {
        struct migbuf_buffer_options o = exact();
        struct migbuf_decision d[4];
        struct migbuf_buffer *b;

        o.policy = policy;
        b = buffer(400 * MB, &o);
        for (uint64_t id = 0; id < 4; id++)
            ck_assert_int_eq(add(b, id, &g, 1, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 4 * MB), 0);
        for (uint64_t now = 0; now <= 3000; now += 1000)
            ck_assert_int_eq(migbuf_buffer_tick(b, now, d, 4), 4);
        for (int i = 0; i < 4; i++)
            ck_assert_msg(d[i].action != MIGBUF_ACTION_WAIT, "policy %d: %d waits", policy, i);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* Nobody knows then how long what is free must last. All write until not all can; from then on there is room for one after the other, and
 * a turn comes as often as was promised. */
START_TEST(turns_come_as_promised_where_no_link_is_known)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct writer w[3] = { { 0 } };
    struct migbuf_buffer *b;
    int turns = 0;

    o.max_stall_ms = 20000;
    g.queue_bytes = 65536;
    b = buffer(100 * MB, &o);
    for (uint64_t id = 0; id < 3; id++)
        ck_assert_int_eq(add(b, id, &g, 0, NULL), 0);
    for (uint64_t now = 0; now <= 60000; now += 1000) {
        struct migbuf_decision d[3];

        for (uint64_t id = 0; id < 3; id++) {
            w[id].file_bytes = now == 1000 ? 98400000 / 3 : w[id].file_bytes + (now ? w[id].rate_bytes_per_s : 0);
            size_is(b, now, id, w[id].file_bytes);
        }
        ck_assert_int_eq(migbuf_buffer_tick(b, now, d, 3), 3);
        for (int i = 0; i < 3; i++) {
            uint64_t stood_ms = now - w[i].wrote_ms;

            if (d[i].action == MIGBUF_ACTION_RESUME) {
                ck_assert(d[i].reason == MIGBUF_REASON_TURN && stood_ms >= 14400 && stood_ms <= 20000);
                turns++;
            }
            obey(&w[i], &d[i], now, g.queue_bytes);
        }
    }
    ck_assert_int_ge(turns, 3);
    migbuf_buffer_free(b);
}
END_TEST

/* At the floor a guest runs whatever its ratio is: no rounding takes it the unit that it needs. */
START_TEST(rounding_pauses_nobody)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_sample s = { .id = 1 };
    uint32_t seed = 1;
    int paused = 0;

    g.request_bytes = 8 << 20;
    o.floor_bytes_per_s = 0;
    b = buffer(100 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1), 0);
    tick1(b, 0);
    for (uint64_t now = 1000; now <= 2000000; now += 1000) {
        seed = seed * 1664525 + 1013904223;
        s.writes += 2 + (seed >> 16) % 50;
        s.written_bytes = s.writes * 4096;
        s.file_bytes += (seed >> 8) % 3 * 65536;
        migbuf_buffer_sample(b, now, &s, 1);
        paused += tick1(b, now).action == MIGBUF_ACTION_PAUSE;
    }
    ck_assert_int_eq(paused, 0);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(a_pause_lasts_until_its_leak_is_paid)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    uint64_t now = 0;

    g.queue_bytes = 100 * 65536;
    o.floor_bytes_per_s = 0;
    b = buffer(10 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    tick1(b, now);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 0), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 10 * 65536), 0); /* `stop` poured 100 units: 10 s at 10 units/s */
    for (now = 1000; now < 10000; now += 1000)
        ck_assert(look1(b, now, 1, 0).reason == MIGBUF_REASON_WAIT);
    ck_assert(look1(b, now, 1, 0).action == MIGBUF_ACTION_RESUME);
    migbuf_buffer_free(b);
}
END_TEST

/* The same at 2 units/s would take 50 s. What was promised is less: P is 0.8 (30 - T' - 1) s = 22.4 s, and there is room. */
START_TEST(no_leak_is_paid_for_longer_than_was_promised)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    uint64_t now;

    g.queue_bytes = 100 * 65536;
    o.floor_bytes_per_s = 0;
    b = buffer(10 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    tick1(b, 0);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 0), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 2 * 65536), 0);
    for (now = 1000; now < 22400; now += 1000)
        ck_assert(look1(b, now, 1, 0).reason == MIGBUF_REASON_WAIT);
    ck_assert(look1(b, now, 1, 0).action == MIGBUF_ACTION_RESUME);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(a_disk_that_fits_needs_no_throttle)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b = buffer(10 * GIB, &o);
    struct migbuf_buffer_view v = { .size = sizeof v };
    struct migbuf_decision d[2];

    g.virtual_bytes = 6 * GIB;
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 65536), 0);
    d[0] = tick1(b, 0);
    ck_assert(d[0].reason == MIGBUF_REASON_WHOLE && d[0].limits.iops_wr == UINT64_MAX / 65536);
    ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
    ck_assert(v.claim_bytes > 6 * GIB);
    ck_assert_int_eq(add(b, 2, &g, 0, NULL), 0); /* now its bin is 5 GiB */
    size_is(b, 1, 1, 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 1, d, 2), 2);
    ck_assert(d[0].action == MIGBUF_ACTION_LOWER && d[0].reason == MIGBUF_REASON_FLOOR);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(targets_follow_measured_growth)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b = buffer(10 * GIB, &o);
    struct migbuf_sample s = { .id = 1 };
    struct migbuf_buffer_view v = { .size = sizeof v };
    struct migbuf_decision d;

    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 20 * 65536), 0);
    for (uint64_t now = 0; now <= 60000; now += 1000) { /* a guest that appends 4 KiB writes, as many as it may */
        d = tick1(b, now);
        ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
        s.writes += v.in_force_bytes_per_s / 65536;
        s.written_bytes = s.writes * 4096;
        s.file_bytes = s.written_bytes / 65536 * 65536;
        ck_assert_int_eq(migbuf_buffer_sample(b, now + 1000, &s, 1), 0);
    }
    ck_assert(v.ratio > 0.06 && v.ratio < 0.08);
    ck_assert(d.limits.iops_wr > 20 * 12 && d.limits.iops_wr <= 20 * 16);
    tick1(b, 61000);
    s.writes += 300;
    s.written_bytes += 300 * 4096;
    s.file_bytes += 300 * 65536; /* random ones now */
    ck_assert_int_eq(migbuf_buffer_sample(b, 62000, &s, 1), 0);
    d = tick1(b, 62000);
    ck_assert_msg(d.action == MIGBUF_ACTION_LOWER && d.limits.iops_wr <= 21, "%d %llu", d.action,
                  (unsigned long long)d.limits.iops_wr);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(a_refused_command_is_decided_again)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(10 * GIB, &o);
    struct migbuf_geometry g = disk();

    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_REFUSED), MIGBUF_E_STATE);
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_LOWER);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_REFUSED), 0);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_REFUSED), MIGBUF_E_STATE);
    ck_assert(look1(b, 1, 1, 0).action == MIGBUF_ACTION_LOWER);
    ck_assert(look1(b, 2, 1, 0).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_REFUSED), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 2, MIGBUF_OUTCOME_REFUSED), MIGBUF_E_NOTFOUND);
    migbuf_buffer_free(b);
}
END_TEST

/* What nobody says is taken for done once it has had the time to land: nothing waits for its outcome any more, and the next
 * process has no doubt about it. */
START_TEST(without_a_word_it_is_done)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b, *again;
    struct migbuf_buffer_stats s = { .size = sizeof s };
    char *text;
    size_t n;

    o.lag_ms = 100;
    b = buffer(10 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * 65536), 0);
    ck_assert(tick1(b, 1000).action == MIGBUF_ACTION_LOWER);
    size_is(b, 1100, 1, MB);
    ck_assert(tick1(b, 1100).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_REFUSED), 1); /* it may write what its device can */
    ck_assert(tick1(b, 1100).action == MIGBUF_ACTION_LOWER);
    for (uint64_t now = 2000; now <= 5000; now += 1000) {
        size_is(b, now, 1, MB);
        ck_assert(tick1(b, now).action == MIGBUF_ACTION_KEEP);
    }
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_REFUSED), MIGBUF_E_STATE);
    again = through_text(b, 5000, &text, &n);
    free(text);
    size_is(again, 6000, 1, MB);
    ck_assert(tick1(again, 6000).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_stats(again, &s), 0);
    ck_assert(s.pending_bytes < 10 * MB);
    migbuf_buffer_free(again);
    migbuf_buffer_free(b);
}
END_TEST

/* A guest that may stand or run, and is to stand, is told so with no limit beside it; and counts as such. */
START_TEST(a_guest_that_may_stand_is_paused_as_any)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_buffer_view v = { .size = sizeof v };
    struct migbuf_decision d;

    g.queue_bytes = 100 * 65536; /* what the last stop poured is paid for in 1 s at 100 units/s, in 50 s at 2 */
    o.lag_ms = 100;
    o.floor_bytes_per_s = 0;
    b = buffer(10 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * 65536), 0);
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_LOWER);
    size_is(b, 5000, 1, MB);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 0), 0);
    ck_assert(tick1(b, 5000).action == MIGBUF_ACTION_RESUME);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_UNKNOWN), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 65536), 0);
    size_is(b, 5100, 1, MB);
    d = tick1(b, 5100);
    ck_assert(d.action == MIGBUF_ACTION_PAUSE && d.reason == MIGBUF_REASON_WAIT);
    ck_assert(d.growth_bytes_per_s == 0 && d.limits.iops_wr == 0);
    ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
    ck_assert(v.paused == 1);
    migbuf_buffer_free(b);
}
END_TEST

/* What is not sampled has grown by all that was let through: also by what the set of the new limit lets pass, twice where
 * there are two disks. */
START_TEST(unseen_files_have_grown_by_the_last_set_too)
{
    struct migbuf_geometry two[2] = { disk(), disk() };
    struct migbuf_migration m;
    struct migbuf_decision d;
    struct migbuf_buffer_stats s = { .size = sizeof s };

    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.drains_ahead = 0;
    for (uint32_t lag_ms = 0; lag_ms <= 100; lag_ms += 100) {
        struct migbuf_buffer_options o = exact();
        struct migbuf_buffer *b;
        double tables = 65536 + 2 * 65536 / 32767.; /* of one unit: its own, and its part of what counts them */

        o.lag_ms = lag_ms;
        b = buffer(10 * GIB, &o);
        two[0].virtual_bytes = two[1].virtual_bytes = UINT64_C(1) << 40; /* so that tables are many */
        ck_assert_int_eq(migbuf_buffer_add(b, &m, two, 2, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 1000 * 65536), 0);
        d = tick1(b, 0);
        ck_assert(d.action == MIGBUF_ACTION_LOWER && d.limits.iops_wr == 1000);
        tick1(b, 1000);
        ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
        ck_near_rel((double)s.unseen_bytes, 1000 * (1 + 0.2) * (65536 + tables) + 2 * (65536 + 5 * 65536), 1e-9);
        for (uint32_t k = 0; k < 2; k++) {
            struct migbuf_sample there = { .disk = k, .file_bytes = MB };

            ck_assert_int_eq(migbuf_buffer_sample(b, 1500, &there, 1), 0);
        }
        tick1(b, 2000); /* kept: no set. But its bucket may have been found empty at 1500 */
        ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
        ck_near_rel((double)s.unseen_bytes, 1000 * 0.5 * (65536 + tables), 1e-9);
        ck_near_rel((double)s.pending_bytes, 1000 * (lag_ms / 1000. + 0.1) * (65536 + tables) + 2 * (65536 + 5 * 65536), 1e-8);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* Without a limit a guest of which no device is known counts with 4 GB/s: less than a high limit lets through, if that was
 * ever meant. Neither is forgotten for the other. */
START_TEST(the_highest_of_all_counts)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b;
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_stats s = { .size = sizeof s };

    g.virtual_bytes = UINT64_C(1) << 50;
    o.lag_ms = 100;
    b = buffer(UINT64_C(1) << 50, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1000000 * UINT64_C(65536)), 0);
    size_is(b, 0, 1, MB);
    ck_assert(tick1(b, 0).limits.iops_wr == 1000000);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_UNKNOWN), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 10 * 65536), 0);
    size_is(b, 100, 1, MB);
    ck_assert(tick1(b, 100).action == MIGBUF_ACTION_LOWER);
    size_is(b, 200, 1, MB);
    ck_assert(tick1(b, 200).action == MIGBUF_ACTION_LOWER);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert((double)s.pending_bytes > 1e6 * 65536 * (0.1 + 0.1 + 2 * 0.1));
    migbuf_buffer_free(b);
}
END_TEST

/* Where there is no lag every decision had its room from its moment on. One that may land later needs a tick's attention,
 * also when it allows more than what it follows. */
START_TEST(without_a_lag_nothing_lands_later_unnoticed)
{
    struct migbuf_geometry g = disk();

    for (uint32_t lag_ms = 0; lag_ms <= 100; lag_ms += 100) {
        struct migbuf_buffer_options o = exact();
        struct migbuf_buffer *b;
        struct migbuf_buffer_stats s = { .size = sizeof s };

        o.lag_ms = lag_ms;
        b = buffer(10 * GIB, &o);
        ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * 65536), 0);
        tick1(b, 0);
        ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
        size_is(b, 1000, 1, MB);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 200 * 65536), 0);
        ck_assert(tick1(b, 1000).action == MIGBUF_ACTION_RAISE);
        ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_UNKNOWN), lag_ms == 0);
        size_is(b, 1000, 1, MB);
        tick1(b, 1000);
        ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
        ck_assert(s.pending_bytes > 200 * 65536 * 3 / 10);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* A limit that is no more wanted may still fill the whole disk, and Ω is smaller: nothing is given away then. */
START_TEST(what_has_no_room_gives_none_away)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_buffer_stats s = { .size = sizeof s };
    struct migbuf_decision d;

    g.virtual_bytes = 100 * MB;
    o.lag_ms = 100;
    b = buffer(100 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    tick1(b, 0);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 1), 0);
    size_is(b, 1000, 1, 20 * MB);
    d = tick1(b, 1000);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.used_bytes + s.pending_bytes > 100 * MB && s.grantable_bytes == 0);
    ck_assert(d.action == MIGBUF_ACTION_PAUSE && d.reason == MIGBUF_REASON_SPACE);
    migbuf_buffer_free(b);
}
END_TEST

/* A sample from the future is from now: also where another disk has not been seen yet, and it is looked at later. */
START_TEST(nothing_is_measured_in_the_future)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(10 * GIB, &o), *again;
    struct migbuf_geometry two[2] = { disk(), disk() };
    struct migbuf_sample s[2] = { { .file_bytes = MB }, { .disk = 1, .file_bytes = MB } };
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    struct migbuf_migration m;
    char *text;
    size_t n;

    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.drains_ahead = 0;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, two, 2, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 10 * MB), 0);
    tick1(b, 2000);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 0, MIGBUF_OUTCOME_DONE), 0);
    again = through_text(b, 0, &text, &n); /* on a clock that began anew nothing has been seen */
    free(text);
    ck_assert_int_eq(migbuf_buffer_sample(again, 9000, &s[1], 1), 0);
    tick1(again, 1000);
    ck_assert_int_eq(migbuf_buffer_sample(again, 4000, &s[0], 1), 0);
    tick1(again, 4000);
    ck_assert_int_eq(migbuf_buffer_stats(again, &stats), 0);
    ck_assert(stats.unseen_bytes >= 30 * MB / 65536 * 65536);
    migbuf_buffer_free(again);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(links_are_shared_by_weight)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(100 * GIB, &o);
    struct migbuf_geometry g = disk();
    struct migbuf_migration m;
    struct migbuf_decision d[3];

    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    for (uint64_t id = 0; id < 3; id++) {
        m.id = id;
        m.link = id == 2;
        m.weight = id == 0 ? 300 : 100;
        ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), 0);
    }
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 400 * 65536), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 1, 50 * 65536), 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 3), 3);
    ck_assert(d[0].limits.iops_wr == 300 && d[1].limits.iops_wr == 100 && d[2].limits.iops_wr == 50);
    ck_assert_int_eq(migbuf_buffer_remove(b, 0), 0);
    ck_assert_int_eq(migbuf_buffer_weight(b, 1, 7), 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 1, d, 3), 2);
    ck_assert(d[0].id == 1 && d[0].limits.iops_wr == 400);
    ck_assert_int_eq(migbuf_buffer_remove(b, 2), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 1, 5), MIGBUF_E_NOTFOUND); /* nobody uses it any more */
    migbuf_buffer_free(b);
}
END_TEST

/* Its place closes later than it leaves: nobody may see that, also who looks at the ledger in between. */
START_TEST(who_left_leaves_no_gap)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(12 * GIB, &o);
    const struct migbuf_bins *bins = migbuf_buffer_bins(b);
    struct migbuf_buffer_view v = { .size = sizeof v };
    struct migbuf_buffer_stats s = { .size = sizeof s };
    struct migbuf_geometry g = disk();
    struct migbuf_decision d[5];
    struct migbuf_bin list[5];

    for (uint64_t id = 10; id <= 50; id += 10)
        ck_assert_int_eq(add(b, id, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_bins_list(bins, list, 5), 5);
    ck_assert_int_eq(migbuf_buffer_remove(b, 20), 0);
    ck_assert_int_eq(migbuf_buffer_remove(b, 20), MIGBUF_E_NOTFOUND);
    ck_assert_uint_eq(migbuf_bins_count(bins), 4);
    ck_assert_int_eq(migbuf_bins_list(bins, list, 5), 4);
    ck_assert(list[0].id == 10 && list[1].id == 30 && list[2].id == 40 && list[3].id == 50);
    ck_assert_uint_eq(list[1].share_bytes, 3 * GIB);
    ck_assert_int_eq(migbuf_buffer_remove(b, 40), 0);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert_uint_eq(s.migrations, 3);
    ck_assert_int_eq(migbuf_buffer_remove(b, 10), 0);
    ck_assert_int_eq(migbuf_buffer_view(b, 40, &v), MIGBUF_E_NOTFOUND);
    size_is(b, 0, 50, GIB);
    ck_assert_int_eq(add(b, 20, &g, 0, NULL), 0); /* it is the last one now */
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 5), 3);
    ck_assert(d[0].id == 30 && d[1].id == 50 && d[2].id == 20);
    ck_assert_int_eq(migbuf_bins_list(bins, list, 5), 3);
    ck_assert(list[1].id == 50 && list[1].used_bytes == GIB && list[1].share_bytes == 4 * GIB);
    for (uint64_t id = 20; id <= 50; id += id == 20 ? 10 : 20)
        ck_assert_int_eq(migbuf_buffer_remove(b, id), 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, NULL, 0), 0);
    ck_assert_int_eq(migbuf_bins_list(bins, NULL, 0), 0);
    migbuf_buffer_free(b);
}
END_TEST

/* What is free for the next one is not reckoned anew for each: but whatever changes it counts. */
START_TEST(what_is_free_for_the_next_is_never_old)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_error first, e;
    struct migbuf_limits none = { 0 };
    struct migbuf_buffer *b;
    struct migbuf_decision d[3];

    o.lag_ms = 100;
    b = buffer(100 * GIB, &o);
    g.queue_bytes = GIB;
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    g.queue_bytes = 100 * GIB;
    ck_assert_int_eq(add(b, 2, &g, 4, &first), MIGBUF_E_NOSPACE);
    ck_assert_int_eq(add(b, 2, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_eq(e.have, first.have);
    size_is(b, 0, 1, 100 * MB);
    ck_assert_int_eq(add(b, 2, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_lt(e.have, first.have);
    first = e;
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 3), 1);
    ck_assert_int_eq(add(b, 2, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_ne(e.have, first.have); /* what is on its way */
    first = e;
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_UNKNOWN), 0);
    ck_assert_int_eq(add(b, 2, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_lt(e.have, first.have);
    first = e;
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_BASE, 2), 1);
    ck_assert_int_eq(add(b, 2, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_eq(e.have, first.have - 2 * GIB);
    first = e;
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, &none, 1), 0);
    ck_assert_int_eq(add(b, 2, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_ne(e.have, first.have);
    first = e;
    ck_assert_int_ge(migbuf_buffer_resize(b, 50 * GIB, NULL), 0);
    ck_assert_int_eq(add(b, 2, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_eq(e.have, first.have - 50 * GIB);
    ck_assert_int_eq(migbuf_buffer_remove(b, 1), 0);
    ck_assert_int_eq(add(b, 2, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_eq(e.have, 50 * GIB);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(the_literal_policy_falls_into_the_pole)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_decision d;

    o.policy = MIGBUF_POLICY_LITERAL;
    b = buffer(100 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 1000, NULL), 0); /* it admits everybody */
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 10 * MB), 0);
    size_is(b, 0, 1, 100 * MB);
    d = tick1(b, 0);
    ck_assert(d.limits.bps_wr == 10000 && d.limits.iops_wr == 0);
    size_is(b, 1000, 1, 100 * MB + 20000);
    d = tick1(b, 1000);
    ck_assert(d.action == MIGBUF_ACTION_RAISE && d.limits.bps_wr == 10 * MB);
    migbuf_buffer_free(b);

    g.request_bytes = GIB; /* that one waits long at such a rate is nothing it knows of */
    b = buffer(100 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 1000, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 2000), 0);
    ck_assert_int_eq(tick1(b, 0).limits.bps_wr, 2000);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 400), 0);
    ck_assert_int_eq(tick1(b, 1000).limits.bps_wr, 400);
    migbuf_buffer_free(b);
}
END_TEST

/* It promises nothing, and remembers no more than the others of what was in force: after a million decisions its text would
 * not have loaded. */
START_TEST(the_literal_policy_forgets_what_is_over)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    char *text;
    size_t n;

    o.policy = MIGBUF_POLICY_LITERAL;
    o.lag_ms = 100;
    b = buffer(100 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    for (uint64_t k = 0; k < 20; k++) {
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 1 + k % 2 * MB), 0);
        ck_assert(tick1(b, k * 1000).action != MIGBUF_ACTION_KEEP);
    }
    migbuf_buffer_free(through_text(b, 0, &text, &n));
    ck_assert_ptr_null(strstr(strstr(text, "\nfrom ") + 1, "\nfrom ")); /* the last one, and no more */
    free(text);
    migbuf_buffer_free(b);
}
END_TEST

/* The planner */

static struct migbuf_buffer_options plan(void)
{
    struct migbuf_buffer_options o = exact();

    o.policy = MIGBUF_POLICY_PLANNER;
    o.floor_bytes_per_s = 0;
    return o;
}

static void join(struct migbuf_buffer *b, uint64_t id, const struct migbuf_geometry *g, uint64_t file_bytes, uint64_t rate)
{
    struct migbuf_migration m;

    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.id = id;
    m.drains_ahead = 0;
    m.file_bytes = file_bytes;
    m.rate_bytes_per_s = rate;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, g, 1, NULL), 0);
}

static void tell(struct migbuf_buffer *b, uint64_t now_ms, uint64_t id, uint64_t file_bytes, uint64_t written_bytes,
                 uint64_t remaining_bytes)
{
    struct migbuf_sample s = { .id = id, .file_bytes = file_bytes, .written_bytes = written_bytes,
                               .remaining_bytes = remaining_bytes };

    ck_assert_int_eq(migbuf_buffer_sample(b, now_ms, &s, 1), 0);
}

static struct migbuf_buffer_view look(struct migbuf_buffer *b, uint64_t id)
{
    struct migbuf_buffer_view v = { .size = sizeof v };

    ck_assert_int_eq(migbuf_buffer_view(b, id, &v), 0);
    return v;
}

/* planner.h's two VMs, told to a buffer as a host would, all a thousand times as large: beside that the tables of a disk
 * so large that its end is no matter are small. Of a guest nobody has seen anything yet: where no throttle is planned it
 * begins with a sixteenth of what is free. */
START_TEST(the_planner_s_example)
{
    struct migbuf_buffer_options o = plan();
    struct migbuf_buffer *b = buffer(1000 * GB, &o);
    struct migbuf_geometry g = disk();
    struct migbuf_decision d[2];
    struct migbuf_buffer_view v;

    g.virtual_bytes = UINT64_C(1) << 55;
    join(b, 7, &g, 100 * GB, 1 * GB);
    join(b, 8, &g, 100 * GB, 20 * GB);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * GB), 0);
    tell(b, 0, 7, 100 * GB, 0, 4000 * GB);
    tell(b, 0, 8, 100 * GB, 0, 9000 * GB);
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 2), 2);
    v = look(b, 7);
    ck_near_rel(v.finish_s, 82.0408163, 1e-6);
    ck_near_rel(v.cap, 14.6268657e9, 1e-6);
    ck_near_rel(v.demand, 1e9, 1e-5);
    ck_assert(isinf(v.clamped));
    ck_assert_int_eq(d[0].reason, MIGBUF_REASON_FIRST);
    ck_assert_uint_eq(d[0].limits.iops_wr, (uint64_t)(800e9 / 16 / 1.1 / 65536));
    v = look(b, 8);
    ck_near_rel(v.finish_s, 132.687075, 1e-6);
    ck_near_rel(v.demand, 20e9, 1e-4);
    ck_near_rel(v.planned, 8.47859520e9, 1e-6);
    ck_assert_int_eq(d[1].reason, MIGBUF_REASON_PLAN);
    ck_near_rel((double)d[1].limits.iops_wr, 8.47859520e9 / 65536, 1e-4);
    ck_assert_uint_eq(d[1].growth_bytes_per_s, d[1].limits.iops_wr * 65536);
    ck_assert_str_eq(migbuf_reason_text(MIGBUF_REASON_PLAN), "its part of the plan");
    migbuf_buffer_free(b);
}
END_TEST

/* Counters are since the VM started: what it wrote before its first sample says nothing about its rate. But what its files
 * hold then has been written to them. */
/* A tick whose counters nobody could read, and which a file grew in, is no tick in which nothing was written: what was
 * written meanwhile is learnt with the next. */
START_TEST(counters_that_are_missing_once_teach_nothing)
{
    for (int planner = 0; planner < 2; planner++)
        for (int missing = 0; missing < 3; missing++) {
            struct migbuf_buffer_options o = planner ? plan() : exact();
            struct migbuf_geometry g = disk();
            struct migbuf_buffer *b = buffer(10 * GIB, &o);
            struct migbuf_sample s = { .id = 1 }, told;
            struct migbuf_buffer_view v = { .size = sizeof v };
            double ratio = 0, wish = 0;

            join(b, 1, &g, 0, 0);
            ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * MB), 0);
            for (uint64_t now = 0; now <= 410000; now += 1000) { /* 20 writes a second, of which a quarter is new */
                told = s;
                if (now == 400000 && missing)
                    told.writes = told.written_bytes = 0;
                if (now == 400000 && missing == 2)
                    told.writes = s.writes;
                ck_assert_int_eq(migbuf_buffer_sample(b, now, &told, 1), 0);
                tick1(b, now);
                ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
                if (now == 399000) {
                    ratio = v.ratio;
                    wish = v.demand;
                }
                if (now >= 400000 && now <= 402000) {
                    ck_near_rel(v.ratio, ratio, 0.02);
                    ck_assert_double_le(fabs(v.demand - wish), wish / 50); /* 0 by the paper's policy */
                }
                s.writes += 20;
                s.written_bytes += UINT64_C(20) * 65536;
                s.file_bytes += 5 * 65536;
            }
            migbuf_buffer_free(b);
        }
}
END_TEST

START_TEST(a_first_sample_is_no_rate)
{
    struct migbuf_buffer_options o = plan();
    struct migbuf_buffer *b = buffer(1000 * MB, &o);
    struct migbuf_geometry g = disk(), two[2] = { disk(), disk() };
    struct migbuf_migration m;
    struct migbuf_sample s = { .id = 2, .disk = 1, .written_bytes = 9000 * MB };
    struct migbuf_decision d[2];

    join(b, 1, &g, 0, 0);
    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.id = 2;
    m.drains_ahead = 0;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, two, 2, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * MB), 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 2), 2);
    ck_assert(look(b, 1).demand <= 0);
    tell(b, 1000, 1, 65536, 5000 * MB, 90 * GIB);
    tell(b, 1000, 2, 65536, 5000 * MB, 90 * GIB);
    ck_assert_int_eq(migbuf_buffer_tick(b, 1000, d, 2), 2);
    ck_near_rel(look(b, 1).demand, 65536, 1e-3); /* its first second is all that is known of it */
    ck_assert(look(b, 2).demand <= 0); /* its second disk has not been seen */
    tell(b, 2000, 1, 5 * MB, 5005 * MB, 90 * GIB); /* 5 MB/s, a sixtieth of it believed after another second */
    ck_assert_int_eq(migbuf_buffer_sample(b, 2000, &s, 1), 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 2000, d, 2), 2);
    ck_near_rel(look(b, 1).demand, 65536 + (5e6 - 2 * 65536) * (1 - exp(-1. / 60)), 0.01);
    ck_near_rel(look(b, 2).demand, 65536 / 2., 1e-3);
    tell(b, 2010, 1, 5 * MB, 5010 * MB, 90 * GIB);
    ck_assert_int_eq(migbuf_buffer_tick(b, 2010, d, 2), 2); /* 10 ms show no rate */
    ck_near_rel(look(b, 1).demand, 65536 + (5e6 - 2 * 65536) * (1 - exp(-1. / 60)), 0.02);
    ck_near_rel(look(b, 1).ratio, 1, 0.02);
    ck_assert_int_eq(migbuf_buffer_tick(b, 3000, d, 2), 2); /* the second 5 MB grew nothing */
    ck_near_rel(look(b, 1).ratio, 0.93, 0.01);
    migbuf_buffer_free(b);
}
END_TEST

/* A plan that moves by less than the band leaves the limit alone: each set empties QEMU's bucket. */
START_TEST(a_plan_within_the_band_sends_nothing)
{
    struct migbuf_buffer_options o = plan();
    struct migbuf_buffer *b;
    struct migbuf_geometry g = disk();

    o.hysteresis_percent = 10;
    b = buffer(1000 * GB, &o);
    g.virtual_bytes = UINT64_C(1) << 55;
    join(b, 1, &g, 300 * GB, 20 * GB);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * GB), 0);
    tell(b, 0, 1, 300 * GB, 0, 9000 * GB);
    for (int k = 0; k < 50; k++) /* what it will write has to be sent, too: the plan settles */
        tick1(b, 0);
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_KEEP);
    tell(b, 0, 1, 300 * GB, 0, 9500 * GB); /* a little lower */
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_KEEP);
    tell(b, 0, 1, 300 * GB, 0, 8500 * GB); /* a little higher */
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_KEEP);
    tell(b, 0, 1, 300 * GB, 0, 20000 * GB);
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_LOWER);
    tell(b, 0, 1, 300 * GB, 0, 5000 * GB);
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_RAISE);
    migbuf_buffer_free(b);
}
END_TEST

/* While the overlay is sent a guest dirties at most 0.9 of the link's share; the whole of it is to send until told. */
START_TEST(a_plan_lets_the_mirror_catch_up)
{
    struct migbuf_buffer_options o = plan();
    struct migbuf_buffer *b = buffer(100 * GIB, &o);
    struct migbuf_geometry g = disk();

    join(b, 1, &g, 0, 500 * MB);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * MB), 0);
    tell(b, 0, 1, 2000 * MB, 0, 0);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_MIRROR, 0), 0);
    ck_assert_int_eq(tick1(b, 0).reason, MIGBUF_REASON_SHARE);
    ck_near_rel(look(b, 1).budget, 90e6, 1e-9);
    ck_near_rel(look(b, 1).finish_s, 40, 1e-9); /* 2000 MB at 100 MB/s, twice because of what it dirties */
    tell(b, 1000, 1, 2000 * MB, 0, 50 * MB);
    tick1(b, 1000);
    ck_near_rel(look(b, 1).finish_s, 1, 1e-9);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_MIRROR, 0), 0); /* said again: what was sampled stands */
    tick1(b, 1000);
    ck_near_rel(look(b, 1).finish_s, 1, 1e-9);
    migbuf_buffer_free(b);
}
END_TEST

/* Where bytes and requests are limited side by side, each gets what is planned, and the claim counts both. */
START_TEST(a_plan_without_iops_size)
{
    struct migbuf_buffer_options o = plan();
    struct migbuf_geometry g = disk();
    struct migbuf_decision d[2];

    g.virtual_bytes = UINT64_C(1) << 55;
    for (int k = 0; k < 2; k++) {
        struct migbuf_buffer *b = buffer(1000 * MB, &o);

        g.flags = MIGBUF_GEOMETRY_ALIGNED | (k ? MIGBUF_GEOMETRY_NO_IOPS_SIZE : 0);
        join(b, 1, &g, 300 * MB, 50 * MB);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * MB), 0);
        tell(b, 0, 1, 300 * MB, 0, 9000 * MB);
        d[k] = tick1(b, 0);
        migbuf_buffer_free(b);
    }
    ck_assert(d[0].limits.iops_wr == d[1].limits.iops_wr && d[1].limits.bps_wr == 65536 * d[0].limits.iops_wr);
    ck_assert(d[1].growth_bytes_per_s == 2 * d[0].growth_bytes_per_s);
}
END_TEST

START_TEST(what_is_refused_changes_nothing)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(10 * GIB, &o), *none = NULL;
    struct migbuf_geometry g = disk(), bad = disk();
    struct migbuf_migration m;
    struct migbuf_decision d;
    struct migbuf_error e = { 0 };
    struct migbuf_sample s[2] = { { .id = 1, .file_bytes = 5 }, { .id = 9, .file_bytes = 5 } };
    struct { struct migbuf_buffer_options o; uint64_t future; } newer = { .o = o };

    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(add(b, 1, &g, 0, &e), MIGBUF_E_EXISTS);
    ck_assert(e.code == MIGBUF_E_EXISTS && e.text);
    bad.cluster_bytes = 3;
    ck_assert_int_eq(add(b, 2, &bad, 0, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.id = 3;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 0, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 65, NULL), MIGBUF_E_RANGE);
    m.weight = 0;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), MIGBUF_E_RANGE);
    m.size = 8;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), MIGBUF_E_STRUCT);

    ck_assert_int_eq(migbuf_buffer_sample(b, 1000, s, 2), MIGBUF_E_NOTFOUND);
    s[1] = (struct migbuf_sample){ .id = 1, .disk = 1 };
    ck_assert_int_eq(migbuf_buffer_sample(b, 1000, s, 2), MIGBUF_E_NOTFOUND);
    s[1] = (struct migbuf_sample){ .id = 1, .file_bytes = UINT64_MAX };
    ck_assert_int_eq(migbuf_buffer_sample(b, 1000, s, 2), MIGBUF_E_RANGE);
    tick1(b, 1000);
    ck_assert(migbuf_bins_used(migbuf_buffer_bins(b)) == 0);
    ck_assert_int_eq(migbuf_buffer_tick(b, 999, &d, 1), MIGBUF_E_CLOCK);
    ck_assert_int_eq(migbuf_buffer_tick(b, 2000, &d, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_buffer_tick(b, 2000, NULL, 1), MIGBUF_E_INVALID);
    ck_assert(look1(b, 1001, 1, 0).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_link(b, 5, 1), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, 5, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_buffer_phase(b, 2, MIGBUF_PHASE_BASE, 0), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_buffer_weight(b, 1, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_buffer_remove(b, 2), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_buffer_resize(b, UINT64_MAX, NULL), MIGBUF_E_RANGE);

    o.interval_ms = 5;
    ck_assert_int_eq(migbuf_buffer_new(1, &o, NULL, &none), MIGBUF_E_RANGE);
    newer.o.size = sizeof newer;
    ck_assert_int_eq(migbuf_buffer_new(1, &newer.o, NULL, &none), 0);
    migbuf_buffer_free(none);
    newer.future = 1;
    none = NULL;
    ck_assert_int_eq(migbuf_buffer_new(1, &newer.o, NULL, &none), MIGBUF_E_STRUCT);
    ck_assert_ptr_null(none);
    migbuf_buffer_free(b);
    migbuf_buffer_free(NULL);
}
END_TEST

START_TEST(late_ticks_are_counted)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b;
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_stats s = { .size = sizeof s };

    o.late_factor_percent = 200;
    b = buffer(10 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    tick1(b, 5000);
    tick1(b, 7000);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.late_ticks == 0 && s.ticks == 2);
    tick1(b, 9001);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.late_ticks == 1);
    migbuf_buffer_free(b);
}
END_TEST

static void wrote(struct migbuf_buffer *b, uint64_t now_ms, uint64_t file_bytes, uint64_t written_bytes)
{
    struct migbuf_sample s = { .id = 1, .file_bytes = file_bytes, .writes = 1000, .written_bytes = written_bytes };

    ck_assert_int_eq(migbuf_buffer_sample(b, now_ms, &s, 1), 0);
}

/* 2 units/s. A GiB that grows the file is waited for; a zeroed one is not, but is told of once, until it was done. */
START_TEST(zeroing_is_let_off)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_decision d;

    o.floor_bytes_per_s = 0;
    b = buffer(50 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_MIRROR, 0), 0); /* the ratio counts as 1 */
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 4 * 65536), 0);
    wrote(b, 1000, 0, 65536);
    ck_assert_int_eq(tick1(b, 1000).limits.iops_wr, 2);
    wrote(b, 2000, GIB, GIB + 65536);
    ck_assert_int_eq(tick1(b, 2000).action, MIGBUF_ACTION_KEEP);
    wrote(b, 3000, GIB, GIB + 65536 + 62 * 65536);
    ck_assert_int_eq(tick1(b, 3000).action, MIGBUF_ACTION_KEEP); /* 60 units are 30 s, which is not more than 30 s */
    wrote(b, 4000, GIB, GIB + 65536 + 65 * 65536);
    d = tick1(b, 4000);
    ck_assert_int_eq(d.action, MIGBUF_ACTION_REARM);
    ck_assert_int_eq(d.limits.iops_wr, 2);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_REFUSED), 0); /* was not sent: still owed */
    ck_assert_int_eq(tick1(b, 4100).action, MIGBUF_ACTION_REARM);
    wrote(b, 5000, GIB, GIB + 65536 + 65 * 65536);
    ck_assert_int_eq(tick1(b, 5000).action, MIGBUF_ACTION_KEEP); /* nothing owed any more */
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_REFUSED), MIGBUF_E_STATE);
    migbuf_buffer_free(b);
}
END_TEST

static struct migbuf_buffer_options of_policy(int policy)
{
    struct migbuf_buffer_options o;

    ck_assert_int_eq(migbuf_buffer_options_init(&o, sizeof o), 0);
    o.policy = policy;
    return o;
}

/* The id-th of twelve, at this round; some of them have a second disk. */
static void tell_round(struct migbuf_buffer *b, uint64_t round, uint64_t id, uint32_t seed)
{
    struct migbuf_sample second = { .id = id * UINT64_C(0x9e3779b97f4a7c15), .disk = 1, .file_bytes = seed >> 12 };

    tell(b, round * 1000, second.id, (uint64_t)(seed >> 8) * 30, round * id * 4 * MB, (100 - round) * 100 * MB);
    if (id % 4 == 0 && (id || round <= 50))
        ck_assert_int_eq(migbuf_buffer_sample(b, round * 1000, &second, 1), 0);
}

static void go_on_in_a_new_process(int policy)
{
    struct migbuf_buffer_options o = of_policy(policy);
    struct migbuf_buffer *b = buffer(10 * GIB, &o), *again;
    struct migbuf_geometry g = disk(), two[2] = { disk(), disk() };
    struct migbuf_decision d[12], d2[12];
    struct migbuf_shard s[200], s2[200];
    struct migbuf_migration m;
    uint32_t seed = 1;
    char *text, *text2;
    size_t n, n2;

    two[1].cluster_bytes = 16384;
    two[1].subcluster_bytes = 512;
    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    for (uint64_t id = 0; id < 12; id++) {
        m.id = id * UINT64_C(0x9e3779b97f4a7c15);
        m.link = id % 3;
        m.weight = (uint32_t)(1 + id);
        m.flow_bytes_per_s = id % 2 ? 50 * MB : 0;
        ck_assert_int_eq(migbuf_buffer_add(b, &m, id % 4 ? &g : two, id % 4 ? 1 : 2, NULL), 0);
    }
    ck_assert_int_eq(migbuf_buffer_link(b, 1, 77 * MB), 0);
    for (uint64_t round = 0; round < 40; round++) {
        for (uint64_t id = 0; id < 12; id++) {
            seed = seed * 1664525 + 1013904223;
            tell_round(b, round, id, seed);
        }
        if (round == 30) /* its mean over the last minute is another one than this */
            ck_assert_int_eq(migbuf_buffer_link(b, 1, 200 * MB), 0);
        ck_assert_int_eq(migbuf_buffer_tick(b, round * 1000, d, 12), 12);
    }
    for (uint64_t id = 0; id < 12; id++) /* else nobody knows what was carried out, and the next process asks for it again */
        ck_assert_int_eq(migbuf_buffer_outcome(b, id * UINT64_C(0x9e3779b97f4a7c15), MIGBUF_OUTCOME_DONE), 0);
    again = through_text(b, 39000, &text, &n);
    ck_assert_int_eq(migbuf_bins_shards(migbuf_buffer_bins(b), s, 200), migbuf_bins_shards(migbuf_buffer_bins(again), s2, 200));
    ck_assert_mem_eq(s, s2, (size_t)migbuf_bins_shards(migbuf_buffer_bins(b), NULL, 0) * sizeof *s);
    for (uint64_t round = 42; round < 60; round++) {
        for (uint64_t id = 0; id < 12; id++) {
            seed = seed * 1664525 + 1013904223;
            for (int k = 0; k < 2 && (id != 7 || round > 46); k++) /* of one nothing new is known for a while */
                tell_round(k ? b : again, round, id, seed);
        }
        ck_assert_int_eq(migbuf_buffer_tick(b, round * 1000, d, 12), 12);
        ck_assert_int_eq(migbuf_buffer_tick(again, round * 1000, d2, 12), 12);
        ck_assert_mem_eq(d, d2, sizeof d);
        if (round == 50)
            ck_assert_int_eq(migbuf_buffer_remove(b, 0) | migbuf_buffer_remove(again, 0) | add(b, 0, &g, 0, NULL) |
                                 add(again, 0, &g, 0, NULL), 0);
    }
    migbuf_buffer_free(b);
    b = through_text(again, 60000, &text2, &n2);
    migbuf_buffer_free(again);
    migbuf_buffer_free(b);
    free(text);
    free(text2);
}

START_TEST(a_new_process_decides_the_same)
{
    go_on_in_a_new_process(MIGBUF_POLICY_PAPER);
    go_on_in_a_new_process(MIGBUF_POLICY_PLANNER);
}
END_TEST

/* What the last tick let guests write may still be written: the next process does not think that there is room for more. */
START_TEST(a_new_process_knows_what_may_be_written)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(100 * MB, &o), *again;
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_stats s[2] = { { .size = sizeof *s }, { .size = sizeof *s } };
    char *text;
    size_t n;

    g.virtual_bytes = GIB;
    g.queue_bytes = MB;
    ck_assert_int_eq(add(b, 1, &g, 1, NULL), 0);
    tick1(b, 0);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
    size_is(b, 1000, 1, 65536);
    tick1(b, 1000);
    again = through_text(b, 1000, &text, &n);
    free(text);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s[0]) | migbuf_buffer_stats(again, &s[1]), 0);
    ck_assert(s[0].reach_bytes > 80 * MB && s[1].reach_bytes == s[0].reach_bytes);
    ck_assert_int_eq(migbuf_buffer_phase(again, 1, MIGBUF_PHASE_BASE, 50), 1);
    ck_assert_int_eq(migbuf_buffer_phase(again, 1, MIGBUF_PHASE_BASE, 1), 0);
    ck_assert_int_eq(migbuf_buffer_resize(again, 10 * MB, NULL), 1);
    migbuf_buffer_free(again);

    tick1(b, 1500); /* nobody has measured */
    again = through_text(b, 1500, &text, &n);
    free(text);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s[0]) | migbuf_buffer_stats(again, &s[1]), 0);
    ck_assert(s[0].unseen_bytes > 0 && s[1].reach_bytes == s[0].reach_bytes);
    migbuf_buffer_free(again);
    again = through_text(b, 1499, &text, &n);
    free(text);
    ck_assert_int_eq(migbuf_buffer_stats(again, &s[1]), 0);
    ck_assert(s[1].reach_bytes > GIB); /* nor does anybody know how long ago that was */
    migbuf_buffer_free(again);
    migbuf_buffer_free(b);
}
END_TEST

/* As many disks as there may be, none of which is ever whole: what may have been written is a large number. */
START_TEST(the_largest_that_may_have_been_written_loads)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(UINT64_C(1) << 62, &o), *again;
    struct migbuf_geometry g[64];
    struct migbuf_migration m;
    char *text;
    size_t n;

    for (int k = 0; k < 64; k++) {
        g[k] = disk();
        g[k].flags |= MIGBUF_GEOMETRY_NO_WHOLE;
    }
    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.drains_ahead = 0;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, g, 64, NULL), 0);
    tick1(b, 1000);
    again = through_text(b, 500, &text, &n);
    free(text);
    migbuf_buffer_free(through_text(again, 500, &text, &n));
    free(text);
    migbuf_buffer_free(again);
    migbuf_buffer_free(b);
}
END_TEST

/* How long nobody was there, nobody knows when the clock began anew. Who may have written, may have written all. */
START_TEST(a_clock_that_began_anew_shows_no_time)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_stats s = { .size = sizeof s };

    g.virtual_bytes = GIB;
    for (int stands = 0; stands < 3; stands++) {
        struct migbuf_buffer *b = buffer(100 * MB, &o), *again;
        struct migbuf_decision d;
        char *text;
        size_t n;

        ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
        tick1(b, 1000);
        size_is(b, 2000, 1, stands ? 100 * MB - 65536 : 65536);
        d = tick1(b, 2000);
        ck_assert(d.action == (stands ? MIGBUF_ACTION_PAUSE : MIGBUF_ACTION_LOWER));
        if (stands == 2) { /* else it is not known whether the pause was carried out */
            ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
            ck_assert(look1(b, 3000, 1, 100 * MB - 65536).action == MIGBUF_ACTION_KEEP);
        }
        again = through_text(b, 5, &text, &n);
        free(text);
        ck_assert_int_eq(migbuf_buffer_tick(again, 6, &d, 1), 1);
        ck_assert_int_eq(migbuf_buffer_stats(again, &s), 0);
        ck_assert(stands == 2 ? s.unseen_bytes == 0 : s.used_bytes + s.unseen_bytes > GIB);
        migbuf_buffer_free(again);
        migbuf_buffer_free(b);
    }
}
END_TEST

START_TEST(a_damaged_text_is_refused)
{
    struct migbuf_buffer_options o = of_policy(MIGBUF_POLICY_PLANNER);
    struct migbuf_buffer *b = buffer(10 * GIB, &o), *out;
    struct migbuf_geometry g = disk();
    char *text;
    size_t n;

    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(add(b, 2, &g, 0, NULL), 0);
    size_is(b, 5, 1, 8 * GIB);
    migbuf_buffer_tick(b, 5, (struct migbuf_decision[2]){ 0 }, 2);
    migbuf_buffer_free(through_text(b, 0, &text, &n));
    out = NULL;
    for (size_t cut = 0; cut < n; cut++)
        ck_assert_int_eq(migbuf_buffer_load(text, cut, 0, NULL, &out), MIGBUF_E_PROTOCOL);
    for (size_t at = 0; at < n; at++) {
        text[at] ^= 1;
        ck_assert_int_eq(migbuf_buffer_load(text, n, 0, NULL, &out), MIGBUF_E_PROTOCOL);
        text[at] ^= 1;
    }
    ck_assert_int_eq(migbuf_buffer_load(NULL, n, 0, NULL, &out), MIGBUF_E_INVALID);
    ck_assert_ptr_null(out);
    free(text);
    migbuf_buffer_free(b);
}
END_TEST

/* A text whose checksum is right and whose content is nonsense must not harm either. */
START_TEST(a_forged_text_does_no_harm)
{
    struct migbuf_buffer_options o = of_policy(MIGBUF_POLICY_PLANNER);
    struct migbuf_buffer *b = buffer(10 * GIB, &o), *out;
    struct migbuf_geometry g = disk();
    char *text, *forged;
    size_t n;
    int taken = 0;

    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(add(b, 2, &g, 0, NULL), 0);
    size_is(b, 5, 1, 8 * GIB);
    migbuf_buffer_tick(b, 5, (struct migbuf_decision[2]){ 0 }, 2);
    migbuf_buffer_free(through_text(b, 0, &text, &n));
    forged = malloc(n + 1);
    for (size_t at = 0; at < n - 21; at++)
        for (char c = '0'; c <= '9'; c += 3) {
            uint64_t sum = UINT64_C(14695981039346656037);

            memcpy(forged, text, n + 1);
            forged[at] = c;
            for (size_t i = 0; i < n - 21; i++)
                sum = (sum ^ (unsigned char)forged[i]) * UINT64_C(1099511628211);
            snprintf(forged + n - 17, 18, "%016llx\n", (unsigned long long)sum);
            if (migbuf_buffer_load(forged, n, 0, NULL, &out) == 0) {
                struct migbuf_decision d[2];

                taken++;
                migbuf_buffer_tick(out, 9, d, 2);
                migbuf_buffer_remove(out, 1);
                migbuf_buffer_tick(out, 10, d, 2);
                migbuf_buffer_free(out);
            }
        }
    ck_assert_int_gt(taken, 0); /* some digits may be any digit */
    free(forged);
    free(text);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(what_is_found_is_where_it_starts)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_buffer *b = buffer(10 * GIB, &o);
    struct migbuf_geometry g = disk();
    struct migbuf_limits l = { .iops_wr = 100, .iops_size = 65536 };
    struct migbuf_buffer_view v = { .size = sizeof v };

    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * 65536), 0);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, &l, 1), 0);
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_KEEP);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 1), 0); /* somebody took it away */
    ck_assert(tick1(b, 1000).action == MIGBUF_ACTION_LOWER);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, &l, 0), 0);
    ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
    ck_assert(v.paused == 1);
    ck_assert(look1(b, 9000, 1, 0).action == MIGBUF_ACTION_RESUME);
    ck_assert_int_eq(migbuf_buffer_resync(b, 2, &l, 0), MIGBUF_E_NOTFOUND);
    migbuf_buffer_free(b);
}
END_TEST

/* The same just after a raise: whether it had landed was told, was not told, or is not known. A sample came in between. */
START_TEST(what_a_raise_let_grow_counts_whatever_was_said_of_it)
{
    struct migbuf_limits less = { .iops_wr = 1, .iops_size = 65536 };
    struct migbuf_geometry g = disk();

    g.queue_bytes = 4 * MB;
    for (int32_t outcome = 0; outcome <= MIGBUF_OUTCOME_UNKNOWN; outcome++)
        for (int stopped = 0; stopped < 2; stopped++) {
            struct migbuf_buffer_options o = exact();
            struct migbuf_buffer_stats now = { .size = sizeof now };
            struct migbuf_buffer_view before = { .size = sizeof before }, v = before;
            struct migbuf_buffer *b;

            if (outcome == MIGBUF_OUTCOME_REFUSED)
                continue;
            o.lag_ms = 100;
            b = buffer(10 * GIB, &o);
            ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
            ck_assert_int_eq(migbuf_buffer_link(b, 0, 1 * MB), 0);
            for (uint64_t ms = 0; ms < 3000; ms += 1000)
                look1(b, ms, 1, 0);
            ck_assert_int_eq(migbuf_buffer_link(b, 0, 118 * MB), 0);
            ck_assert_int_eq(look1(b, 3000, 1, 0).action, MIGBUF_ACTION_RAISE);
            ck_assert_int_eq(migbuf_buffer_view(b, 1, &before), 0);
            ck_assert_int_ge(migbuf_buffer_outcome(b, 1, outcome), 0);
            size_is(b, 3500, 1, 0);
            ck_assert_int_eq(migbuf_buffer_resync(b, 1, &less, !stopped), 0);
            tick1(b, 4000);
            ck_assert_int_eq(migbuf_buffer_stats(b, &now), 0);
            ck_assert_uint_ge(now.unseen_bytes, 59 * MB);
            ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
            ck_assert_uint_ge(v.reserve_bytes, before.reserve_bytes);
            migbuf_buffer_free(b);
        }
}
END_TEST

/* Found in the middle of its migration, under limits. Nobody has decided that it has none, so none is not counted. */
START_TEST(what_nobody_has_said_is_not_what_was_in_force)
{
    struct migbuf_limits l = { .iops_wr = 10, .iops_size = 65536 };
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_decision d[2];
    struct migbuf_buffer_stats now = { .size = sizeof now };

    o.lag_ms = 100;
    b = buffer(1 * GIB, &o);
    for (uint64_t id = 0; id < 2; id++) {
        struct migbuf_migration m;

        ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
        m.id = id;
        m.file_bytes = 65536;
        ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_resync(b, id, &l, 1), 0);
        size_is(b, 0, id, 65536);
    }
    ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 2), 2);
    ck_assert(d[0].action != MIGBUF_ACTION_PAUSE && d[1].action != MIGBUF_ACTION_PAUSE);
    ck_assert_int_eq(migbuf_buffer_stats(b, &now), 0);
    ck_assert_uint_le(now.pending_bytes, 10 * MB);
    migbuf_buffer_free(b);
}
END_TEST

/* The smallest limit of one is 16 times that of the other. Both fit, so neither stands, however little is left beside them. */
START_TEST(no_level_is_below_a_smallest_limit_that_fits)
{
    struct migbuf_geometry small = disk(), large = disk();
    int tried = 0, at_its_least = 0;

    large.cluster_bytes = large.subcluster_bytes = 1 << 20;
    for (uint64_t capacity = 1 << 20; capacity < 64 << 20; capacity += 1 << 18) {
        struct migbuf_buffer_options o = exact();
        struct migbuf_buffer *b = buffer(capacity, &o);

        if (!add(b, 1, &small, 0, NULL) && !add(b, 2, &large, 0, NULL)) {
            tried++;
            for (uint64_t ms = 0; ms < 5000; ms += 1000) {
                struct migbuf_decision d[2];

                size_is(b, ms, 1, 0);
                size_is(b, ms, 2, 0);
                ck_assert_int_eq(migbuf_buffer_tick(b, ms, d, 2), 2);
                for (int i = 0; i < 2; i++)
                    ck_assert_msg(d[i].limits.iops_wr >= 2, "%d of %d at %d MiB: action %d, reason %d", i, (int)ms,
                                  (int)(capacity >> 20), d[i].action, d[i].reason);
                at_its_least += d[1].limits.iops_wr == 2 && d[0].limits.iops_wr > 2;
            }
        }
        migbuf_buffer_free(b);
    }
    ck_assert_int_gt(tried, 100);
    ck_assert_int_gt(at_its_least, 0);
}
END_TEST

/* Another hand set less, or stopped the guest. What our limit let grow before that is not measured yet, nor what the stop
 * poured. */
START_TEST(what_another_hand_ended_still_counts)
{
    struct migbuf_limits less = { .iops_wr = 1, .iops_size = 65536 };
    struct migbuf_geometry g = disk();

    g.queue_bytes = 4 * MB;
    for (int stopped = 0; stopped < 2; stopped++) {
        struct migbuf_buffer_options o = exact();
        struct migbuf_buffer *b = buffer(10 * GIB, &o);
        struct migbuf_buffer_stats now = { .size = sizeof now };
        struct migbuf_buffer_view before = { .size = sizeof before }, v = before;
        double by_our_limit;

        ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 118 * MB), 0);
        for (uint64_t ms = 0; ms < 4000; ms += 1000)
            look1(b, ms, 1, 0);
        ck_assert_int_eq(migbuf_buffer_view(b, 1, &before), 0);
        by_our_limit = (double)before.in_force_bytes_per_s;
        ck_assert(by_our_limit > 10 * MB);
        ck_assert_int_eq(migbuf_buffer_resync(b, 1, &less, !stopped), 0);
        tick1(b, 4000); /* nobody has measured since the first look before */
        ck_assert_int_eq(migbuf_buffer_stats(b, &now), 0);
        ck_assert((double)now.unseen_bytes >= by_our_limit);
        ck_assert_int_eq(migbuf_buffer_view(b, 1, &v), 0);
        ck_assert_uint_ge(v.reserve_bytes, before.reserve_bytes);
        look1(b, 5000, 1, 0);
        look1(b, 6000, 1, 0); /* measured after the look: it is known now */
        ck_assert_int_eq(migbuf_buffer_stats(b, &now), 0);
        ck_assert((double)now.unseen_bytes < by_our_limit);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* A stop that timed out is neither done nor refused: the guest may stand, so it is asked to run once it may. */
START_TEST(a_stop_that_nobody_answered_is_no_end)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_buffer_stats s = { .size = sizeof s };
    struct migbuf_decision d;
    uint64_t before;

    g.virtual_bytes = GIB;
    g.queue_bytes = MB;
    o.lag_ms = 100;
    b = buffer(100 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    before = tick1(b, 0).limits.iops_wr;
    ck_assert(look1(b, 1000, 1, 100 * MB - 1100000).action == MIGBUF_ACTION_PAUSE);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_UNKNOWN), 1); /* it may write as before */
    d = look1(b, 1050, 1, 100 * MB - 1100000);
    ck_assert(d.action == MIGBUF_ACTION_PAUSE || d.action == MIGBUF_ACTION_CANNOT_FIT); /* asked for until it is known */
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert((double)s.pending_bytes >= fmin((double)before * 65536 * 0.2, (double)GIB));
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_UNKNOWN), 1);
    ck_assert_int_eq(migbuf_buffer_resize(b, 100 * GIB, NULL), 0);
    d = look1(b, 4000, 1, 100 * MB - 1100000);
    ck_assert(d.action == MIGBUF_ACTION_RESUME && d.limits.iops_wr > 0);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_UNKNOWN), 0);
    ck_assert(look1(b, 5000, 1, 100 * MB).action == MIGBUF_ACTION_RESUME); /* that, too */
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
    d = look1(b, 6000, 1, 100 * MB);
    ck_assert(d.action == MIGBUF_ACTION_KEEP || d.action == MIGBUF_ACTION_RAISE || d.action == MIGBUF_ACTION_LOWER);
    migbuf_buffer_free(b);
}
END_TEST

/* A second tick within the lag: the limit that was decided away may not have left QEMU yet. */
START_TEST(what_is_on_its_way_is_not_there)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_stats s = { .size = sizeof s };
    struct migbuf_decision d[2];
    struct migbuf_buffer *b;

    o.lag_ms = 100;
    for (int policy = MIGBUF_POLICY_PAPER; policy <= MIGBUF_POLICY_PLANNER; policy += 2) {
        const struct migbuf_limits found = { .iops_wr = 1000, .iops_size = 65536 };
        double high = 1000 * 65536, sum, claims = 0;

        o.policy = policy;
        b = buffer(1000 * MB, &o);
        for (uint64_t id = 1; id <= 2; id++)
            ck_assert_int_eq(add(b, id, &g, 0, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 2 * MB), 0);
        ck_assert_int_eq(migbuf_buffer_tick(b, 0, d, 2), 2);
        for (uint64_t id = 1; id <= 2; id++)
            ck_assert_int_eq(migbuf_buffer_resync(b, id, &found, 1), 0);
        size_is(b, 2000, 1, 480 * MB);
        size_is(b, 2000, 2, 20 * MB);
        ck_assert_int_eq(migbuf_buffer_tick(b, 2000, d, 2), 2);
        ck_assert(d[0].action == MIGBUF_ACTION_LOWER && (double)d[0].limits.iops_wr * 65536 < 0.5 * high);
        for (uint64_t id = 1; id <= 2; id++)
            size_is(b, 2001, id, id == 1 ? 480 * MB : 20 * MB);
        ck_assert_int_eq(migbuf_buffer_tick(b, 2001, d, 2), 2);
        ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
        ck_assert((double)s.pending_bytes > 2 * high * 0.2); /* their rate, for the lag and for what their buckets hold */
        for (uint64_t id = 1; id <= 2; id++)
            claims += (double)look(b, id).claim_bytes;
        sum = (double)s.used_bytes + (double)s.reserve_bytes + (double)s.pending_bytes + (double)s.unseen_bytes + claims;
        ck_assert(sum <= 1000e6 + 10);
        for (uint64_t id = 1; id <= 2; id++)
            size_is(b, 2200, id, id == 1 ? 480 * MB : 20 * MB);
        ck_assert_int_eq(migbuf_buffer_tick(b, 2200, d, 2), 2); /* measured after it had landed: it is forgotten */
        ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
        ck_assert((double)s.pending_bytes < high * 0.2);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* What a file holds when its counters are first told was written to it: a plan does not take such a guest for idle. */
START_TEST(growth_so_far_was_written)
{
    struct migbuf_buffer_options o = plan();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b = buffer(64 * MB, &o);
    struct migbuf_migration m;
    uint64_t highest = 0, first, file = 0;

    g.virtual_bytes = 10 * GIB;
    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.id = 1;
    m.drains_ahead = 0;
    m.rate_bytes_per_s = 8 * MB;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 10 * MB), 0);
    first = tick1(b, 0).limits.iops_wr;
    for (uint64_t now = 1000; now <= 10000; now += 1000) { /* it writes all that it may, always new clusters */
        struct migbuf_buffer_view v = look(b, 1);
        struct migbuf_decision d;

        file += v.in_force_bytes_per_s;
        tell(b, now, 1, file, 700 * MB + file, 9000 * MB);
        d = tick1(b, now);
        highest = d.limits.iops_wr > highest ? d.limits.iops_wr : highest;
    }
    ck_assert_msg(highest <= first, "%llu, then %llu", (unsigned long long)first, (unsigned long long)highest);
    ck_assert(file < 32 * MB); /* half of Ω, and 9 GB are still to be sent */
    migbuf_buffer_free(b);
}
END_TEST

/* Nothing is known of a guest: it does not get half of Ω in its first second, and the reason says why. */
START_TEST(the_first_seconds_are_cautious)
{
    struct migbuf_buffer_options o = plan();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_decision d;
    uint64_t file = 0;

    o.floor_bytes_per_s = 160000;
    b = buffer(64 * MB, &o);
    g.virtual_bytes = 10 * GIB;
    join(b, 1, &g, 0, 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 10 * MB), 0);
    d = tick1(b, 0);
    ck_assert_int_eq(d.reason, MIGBUF_REASON_FIRST);
    ck_assert_str_eq(migbuf_reason_text(d.reason), "little is known of it yet");
    ck_assert(d.limits.iops_wr * 65536 <= 64 * MB / 16 && d.limits.iops_wr >= 2);
    for (uint64_t now = 1000; now <= 14000; now += 1000) {
        file += look(b, 1).in_force_bytes_per_s;
        tell(b, now, 1, file, 700 * MB + file, 9000 * MB);
        d = tick1(b, now);
        ck_assert_msg(d.growth_bytes_per_s > 0, "it stands after %d s", (int)now / 1000);
        ck_assert_int_eq(d.reason, file < 16 * MB ? MIGBUF_REASON_FIRST : MIGBUF_REASON_PLAN);
    }
    ck_assert(file < 20 * MB);
    migbuf_buffer_free(b);
}
END_TEST

/* The shortest program: all that it does not say counts at its worst, and the refusal says what costs so much. */
START_TEST(nobody_comes_in_without_a_reserve)
{
    struct migbuf_geometry g = { .virtual_bytes = 100 * GIB, .cluster_bytes = 65536, .subcluster_bytes = 65536 };
    struct migbuf_error e = { 0 };
    struct migbuf_buffer *b;
    uint64_t worst;

    ck_assert_int_eq(migbuf_limits_drain(&g, 256, 1310720, &worst), 0);
    ck_assert_int_eq(migbuf_buffer_new(GIB, NULL, NULL, &b), 0);
    ck_assert_int_eq(add(b, 1, &g, 4, &e), MIGBUF_E_NOSPACE);
    ck_assert(e.need > 5 * worst && e.have == GIB && e.caution == 5 * worst);
    ck_assert_ptr_nonnull(strstr(e.text, "queue_bytes"));
    ck_assert_int_eq(migbuf_limits_drain(&g, 32, 65536, &g.queue_bytes), 0);
    g.request_bytes = 32 * 65536;
    ck_assert_int_eq(add(b, 1, &g, 4, &e), 0);
    ck_assert(tick1(b, 0).action == MIGBUF_ACTION_LOWER);
    ck_assert_uint_eq(look(b, 1).reserve_bytes, 5 * g.queue_bytes);
    ck_assert_int_eq(add(b, 2, &g, 1000, &e), MIGBUF_E_NOSPACE);
    ck_assert(e.caution == 0 && !strstr(e.text, "queue_bytes")); /* that is known: it is the others that need so much */
    migbuf_buffer_free(b);

    g.queue_bytes = MIGBUF_NONE; /* said, and believed */
    ck_assert_int_eq(migbuf_buffer_new(GIB, NULL, NULL, &b), 0);
    ck_assert_int_eq(add(b, 1, &g, 4, &e), 0);
    tick1(b, 0);
    ck_assert_uint_eq(look(b, 1).reserve_bytes, 0);
    migbuf_buffer_free(b);
}
END_TEST

/* A process was away for a minute: what grew in that time did so in a minute, not in a second. */
START_TEST(time_passes_without_a_process)
{
    struct migbuf_geometry g = disk();

    for (int policy = MIGBUF_POLICY_PAPER; policy <= MIGBUF_POLICY_PLANNER; policy += 2) {
        struct migbuf_buffer_options o = exact();
        struct migbuf_buffer *b, *again;
        uint64_t now, n = 0;
        char *text;
        size_t length;

        o.policy = policy;
        o.lag_ms = 100;
        b = buffer(40 * GIB, &o);
        g.virtual_bytes = UINT64_C(1) << 40;
        ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 10 * MB), 0);
        for (now = 0; now <= 20000; now += 1000, n++) { /* half of its writes are rewrites */
            tell(b, now, 1, n * 100 * 65536, n * 200 * 65536, 90 * GIB);
            tick1(b, now);
        }
        ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
        again = through_text(b, now + 60000, &text, &length);
        free(text);
        for (now += 60000, n += 60; now <= 140000; now += 1000, n++) {
            struct migbuf_decision d[2];

            for (int k = 0; k < 2; k++) {
                tell(k ? again : b, now, 1, n * 100 * 65536, n * 200 * 65536, 90 * GIB);
                d[k] = tick1(k ? again : b, now);
            }
            ck_assert_mem_eq(&d[0], &d[1], sizeof d[0]);
            ck_near_rel(look(b, 1).ratio, 0.5, 0.2);
            ck_assert(look(again, 1).ratio <= look(b, 1).ratio && look(again, 1).ratio >= look(b, 1).ratio);
        }
        migbuf_buffer_free(again);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* Somebody took our limit away: until the next one has landed the guest writes what its device can. */
START_TEST(without_a_limit_the_device_counts)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer_stats s = { .size = sizeof s };
    struct migbuf_buffer *b;
    struct migbuf_migration m;
    double sum;

    g.virtual_bytes = UINT64_C(1) << 40;
    g.queue_bytes = MB;
    o.lag_ms = 1000;
    b = buffer(1000 * MB, &o);
    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.id = 1;
    m.drains_ahead = 0;
    m.device_write_bytes_per_s = 100 * MB;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), 0);
    tick1(b, 0);
    look1(b, 1000, 1, 500 * MB);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 1), 0);
    ck_assert(look(b, 1).in_force_bytes_per_s == MIGBUF_UNLIMITED);
    ck_assert(look1(b, 3000, 1, 500 * MB).action == MIGBUF_ACTION_LOWER);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    /* one second, a tenth for a bucket as it may be found, and one for what may be set again by the other hand */
    ck_near_rel((double)s.pending_bytes, 100e6 * 1.2 * (2 + 2 / 32767.) + 2 * (65536 + 5 * 65536), 1e-6);
    sum = (double)s.used_bytes + (double)s.reserve_bytes + (double)s.pending_bytes + (double)look(b, 1).claim_bytes;
    ck_assert(sum <= 1000e6 + 1);
    migbuf_buffer_free(b);

    b = buffer(1000 * MB, &o); /* of a device nobody knows: more than is left */
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    tick1(b, 0);
    look1(b, 1000, 1, 500 * MB);
    ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 1), 0);
    ck_assert(look1(b, 2000, 1, 500 * MB).action == MIGBUF_ACTION_PAUSE);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.pending_bytes > 4000 * MB);
    migbuf_buffer_free(b);
}
END_TEST

/* A lower limit goes a little further down, but never to where the largest request waits longer than max_stall. */
START_TEST(no_lower_limit_makes_a_request_wait_too_long)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_decision d;

    g.request_bytes = 64 << 20; /* 1024 units, 10 s: 103 units/s */
    o.hysteresis_percent = 50;
    o.max_stall_ms = 10000;
    b = buffer(20 * GIB, &o);
    ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 200 * 65536), 0);
    tick1(b, 0);
    for (uint64_t u = 195; u >= 90; u -= 5) {
        ck_assert_int_eq(migbuf_buffer_link(b, 0, u * 65536), 0);
        d = look1(b, (200 - u) * 1000, 1, 0);
        ck_assert_msg(d.limits.iops_wr >= 103, "%d units/s for a link of %d", (int)d.limits.iops_wr, (int)u);
    }
    ck_assert_uint_eq(d.limits.iops_wr, 103);
    migbuf_buffer_free(b);
}
END_TEST

/* Numbers that a saved text cannot hold are refused at the door, and those at their bounds load. */
START_TEST(what_is_taken_can_be_saved)
{
    struct migbuf_buffer *b = buffer(UINT64_C(1) << 61, NULL);
    struct migbuf_geometry g = disk();
    struct migbuf_limits l = { .iops_wr = UINT64_C(1000000000000001), .iops_size = 65536 };
    struct migbuf_migration m;
    struct migbuf_error e;
    char *text;
    size_t n;

    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.file_bytes = (UINT64_C(1) << 56) + 1;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, &e), MIGBUF_E_RANGE);
    m.file_bytes--;
    g.virtual_bytes = UINT64_C(1) << 57;
    m.flow_bytes_per_s = m.device_write_bytes_per_s = UINT64_MAX; /* no link, no device: as much as there is */
    m.rate_bytes_per_s = UINT64_MAX;
    m.link = UINT64_MAX;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, &e), 0);
    ck_assert_int_eq(migbuf_buffer_resync(b, 0, &l, 1), MIGBUF_E_RANGE);
    l.iops_wr = UINT64_MAX;
    ck_assert_int_eq(migbuf_buffer_resync(b, 0, &l, 1), MIGBUF_E_RANGE);
    ck_assert(look(b, 0).in_force_bytes_per_s == MIGBUF_UNLIMITED);
    l.iops_wr = UINT64_C(1000000000000000);
    ck_assert_int_eq(migbuf_buffer_resync(b, 0, &l, 1), 0);
    tick1(b, UINT64_MAX / 2);
    migbuf_buffer_free(through_text(b, UINT64_MAX / 2, &text, &n));
    ck_assert_ptr_nonnull(strstr(text, "migration 1 18446744073709551615 0 0 "));
    free(text);
    for (uint64_t near = UINT64_MAX - 2048; near > UINT64_MAX - 2049 || near < 3; near += 1024) { /* what is 2^64 as a double */
        m.id = near;
        m.file_bytes = 0;
        m.flow_bytes_per_s = m.device_write_bytes_per_s = near;
        ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, &e), 0);
        if (near > UINT64_MAX - 1024)
            break;
    }
    migbuf_buffer_free(through_text(b, UINT64_MAX / 2, &text, &n));
    free(text);
    migbuf_buffer_free(b);
}
END_TEST

/* Its whole disk fits only where all that the file holds fits: a LUKS header, bitmaps, or what nobody knows of. */
START_TEST(a_whole_disk_is_more_than_its_data)
{
    struct migbuf_geometry g = disk();
    uint64_t whole;

    g.virtual_bytes = GIB;
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &whole), 0);
    for (int k = 0; k < 4; k++) {
        struct migbuf_buffer_options o = exact();
        struct migbuf_buffer *b = buffer(whole + MB, &o);

        g.extra_bytes = k == 0 ? MIGBUF_NONE : k == 1 ? 2 << 20 : 0;
        g.flags = MIGBUF_GEOMETRY_ALIGNED | (k == 3 ? MIGBUF_GEOMETRY_NO_WHOLE : 0);
        ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
        ck_assert_int_eq(tick1(b, 0).reason == MIGBUF_REASON_WHOLE, k == 0);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* A change is told to each of a VM's disks, and each time the bucket is emptied and the largest request may pass. */
START_TEST(each_disk_is_told_of_a_limit)
{
    struct migbuf_geometry g[3] = { disk(), disk(), disk() };
    struct migbuf_migration m;

    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    m.drains_ahead = 0;
    for (uint32_t n = 1; n <= 3; n++) {
        struct migbuf_buffer_options o = exact();
        struct migbuf_buffer *b = buffer(100 * GIB, &o);
        double data, of_requests = n * 5. * 65536, tables = 65536 + 2 * 65536 / 32767.;

        for (uint32_t k = 0; k < n; k++)
            g[k].virtual_bytes = UINT64_C(1) << 40;
        g[0].request_bytes = 1 << 20;
        ck_assert_int_eq(migbuf_buffer_add(b, &m, g, n, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 1000 * 65536), 0);
        ck_assert(tick1(b, 0).limits.iops_wr == 1000);
        data = 1000 * (1 + 0.1 * n) * 65536;
        ck_near_rel((double)look(b, 0).claim_bytes, data + data / 65536 * tables + n * 1048576. + of_requests, 1e-6);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* What may still be written under limits that were just decided away is not free for somebody new. */
START_TEST(who_comes_finds_what_is_on_its_way)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_buffer_stats s = { .size = sizeof s };
    struct migbuf_decision d[2];
    struct migbuf_error e;
    uint64_t alone;

    g.virtual_bytes = UINT64_C(1) << 40;
    g.queue_bytes = 10 * MB;
    o.lag_ms = 1000;
    b = buffer(300 * MB, &o);
    ck_assert_int_eq(add(b, 2, &g, 1000, &e), MIGBUF_E_NOSPACE);
    alone = e.have;
    ck_assert_uint_eq(alone, 300 * MB);
    ck_assert_int_eq(add(b, 1, &g, 1, NULL), 0);
    tick1(b, 0);
    ck_assert_int_eq(add(b, 2, &g, 1000, &e), MIGBUF_E_NOSPACE);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    look1(b, 1000, 1, 60 * MB);
    ck_assert_int_eq(add(b, 2, &g, 1000, &e), MIGBUF_E_NOSPACE);
    /* not only files, reserve and smallest limit: a second of what it may write, at least */
    ck_assert((double)e.have < 300e6 - 60e6 - 20e6 - (double)look(b, 1).in_force_bytes_per_s * 1.1);
    if (add(b, 2, &g, (uint32_t)(e.have / (10 * MB)) - 2, &e) == 0) { /* whoever is admitted nevertheless fits */
        size_is(b, 2000, 1, 60 * MB);
        ck_assert_int_eq(migbuf_buffer_tick(b, 2000, d, 2), 2);
        ck_assert(d[0].action != MIGBUF_ACTION_CANNOT_FIT && d[1].action != MIGBUF_ACTION_CANNOT_FIT);
    }
    migbuf_buffer_free(b);
}
END_TEST

/* Who is new waits until the others have been cut so far that there is room; then it is told its limit. */
START_TEST(who_is_new_waits_for_its_room)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_decision d[2];
    struct migbuf_buffer_stats s = { .size = sizeof s };
    uint32_t drains;

    g.virtual_bytes = GIB;
    g.queue_bytes = 5 * MB;
    o.lag_ms = 100;
    b = buffer(100 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 1, NULL), 0);
    tick1(b, 0);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
    look1(b, 1000, 1, 30 * MB);
    for (drains = 20; add(b, 2, &g, drains, NULL); drains--) /* as many as just fit */
        ck_assert_uint_gt(drains, 0);
    size_is(b, 1100, 1, 36 * MB); /* and then the other one has written */
    ck_assert_int_eq(migbuf_buffer_tick(b, 1100, d, 2), 2);
    ck_assert(d[0].action == MIGBUF_ACTION_LOWER && d[1].action == MIGBUF_ACTION_WAIT);
    ck_assert(d[1].reason == MIGBUF_REASON_ADMISSION && d[1].growth_bytes_per_s == 0 && d[1].limits.iops_wr == 0);
    ck_assert_str_eq(migbuf_action_text(d[1].action), "wait");
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert_uint_eq(s.reserve_bytes, 10 * MB); /* nobody drains what is not there */
    ck_assert_int_eq(migbuf_buffer_resync(b, 2, NULL, 1), 0); /* nor is there anything to limit */
    size_is(b, 1300, 1, 20 * MB); /* its guest discards */
    ck_assert_int_eq(migbuf_buffer_tick(b, 1300, d, 2), 2);
    ck_assert(d[1].action == MIGBUF_ACTION_LOWER && d[1].limits.iops_wr >= 2);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert_uint_eq(s.reserve_bytes, 10 * MB + (drains + 1) * 5 * MB);
    migbuf_buffer_free(b);
}
END_TEST

/* A tick, and at once a new process: it decides as the old one, also what it learnt a moment ago. */
START_TEST(a_process_that_dies_after_a_tick)
{
    struct migbuf_geometry g = disk();

    for (int policy = MIGBUF_POLICY_PAPER; policy <= MIGBUF_POLICY_PLANNER; policy += 2)
        for (uint64_t away = 0; away <= 60; away += 20) {
            struct migbuf_buffer_options o = exact();
            struct migbuf_buffer *b, *again;
            uint32_t seed = 7;
            uint64_t file[3] = { 0 }, now;
            char *text;
            size_t n;

            o.policy = policy;
            o.lag_ms = 100;
            b = buffer(4 * GIB, &o);
            for (uint64_t id = 0; id < 3; id++)
                ck_assert_int_eq(add(b, id, &g, 2, NULL), 0);
            ck_assert_int_eq(migbuf_buffer_link(b, 0, 50 * MB), 0);
            again = NULL;
            for (now = 0; now < 40000; now += 1000) {
                struct migbuf_decision d[2][3];

                for (uint64_t id = 0; id < 3; id++) {
                    seed = seed * 1664525 + 1013904223;
                    file[id] += (seed >> 12) * (id + 1);
                    tell(b, now, id, file[id], 2 * file[id], 90 * GIB);
                    if (again)
                        tell(again, now, id, file[id], 2 * file[id], 90 * GIB);
                }
                ck_assert_int_eq(migbuf_buffer_tick(b, now, d[0], 3), 3);
                if (again) {
                    ck_assert_int_eq(migbuf_buffer_tick(again, now, d[1], 3), 3);
                    ck_assert_mem_eq(d[0], d[1], sizeof d[0]);
                }
                for (uint64_t id = 0; id < 3; id++)
                    ck_assert(!migbuf_buffer_outcome(b, id, MIGBUF_OUTCOME_DONE) &&
                              (!again || !migbuf_buffer_outcome(again, id, MIGBUF_OUTCOME_DONE)));
                if (now == 20000) {
                    again = through_text(b, now + away, &text, &n);
                    free(text);
                }
            }
            migbuf_buffer_free(again);
            migbuf_buffer_free(b);
        }
}
END_TEST

/* Two units/s, in clusters of any size: with one a paused guest would never be let run again. */
START_TEST(the_floor_lets_everybody_run)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_decision d;

    g.cluster_bytes = g.subcluster_bytes = g.request_bytes = 131072; /* the floor of 160'000 is one and a bit */
    for (int policy = MIGBUF_POLICY_PAPER; policy <= MIGBUF_POLICY_PLANNER; policy += 2) {
        o.policy = policy;
        b = buffer(50 * GIB, &o);
        ck_assert_int_eq(add(b, 1, &g, 0, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, 0, 1), 0);
        ck_assert_int_eq(migbuf_buffer_phase(b, 1, MIGBUF_PHASE_MIRROR, 0), 0);
        d = tick1(b, 0);
        ck_assert(d.action == MIGBUF_ACTION_LOWER && d.limits.iops_wr >= 2);
        ck_assert_int_eq(migbuf_buffer_resync(b, 1, NULL, 0), 0); /* somebody stopped it */
        for (uint64_t now = 1000; now <= 3000; now += 1000)
            d = look1(b, now, 1, MB);
        ck_assert_int_eq(d.action, MIGBUF_ACTION_KEEP); /* let run at 2 s, and kept since */
        ck_assert(d.limits.iops_wr >= 2 && !look(b, 1).paused);
        migbuf_buffer_free(b);
    }
}
END_TEST

/* A smaller Ω: limits in force may still fill the larger one. It is made smaller when what may be written fits. */
START_TEST(a_smaller_volume_is_waited_for)
{
    struct migbuf_buffer_options o = exact();
    struct migbuf_geometry g = disk();
    struct migbuf_buffer *b;
    struct migbuf_buffer_stats s = { .size = sizeof s };
    struct migbuf_error e;

    g.virtual_bytes = 10 * GIB;
    g.queue_bytes = MB;
    o.lag_ms = 100;
    b = buffer(1000 * MB, &o);
    ck_assert_int_eq(add(b, 1, &g, 1, NULL), 0);
    tick1(b, 0);
    ck_assert(look1(b, 1000, 1, 100 * MB).action == MIGBUF_ACTION_LOWER);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.reach_bytes > 1000 * MB); /* it may be refused, and nobody has made room for that */
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.reach_bytes > 300 * MB && s.reach_bytes <= 1000 * MB);
    ck_assert_int_eq(migbuf_buffer_resize(b, 101 * MB, &e), MIGBUF_E_IN_USE);
    ck_assert(e.need == 102 * MB && e.have == 101 * MB);
    ck_assert_int_eq(migbuf_buffer_resize(b, 300 * MB, NULL), 1);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.capacity_bytes == 300 * MB && s.reach_bytes > 300 * MB);
    ck_assert(look1(b, 1500, 1, 110 * MB).action == MIGBUF_ACTION_LOWER);
    ck_assert_int_eq(migbuf_buffer_outcome(b, 1, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(migbuf_buffer_stats(b, &s), 0);
    ck_assert(s.reach_bytes <= 300 * MB);
    ck_assert_int_eq(migbuf_buffer_resize(b, 2000 * MB, NULL), 0); /* a larger one is there at once */
    ck_assert_int_eq(migbuf_buffer_resize(b, 1000 * MB, NULL), 0); /* and of this nothing had been given away yet */
    migbuf_buffer_free(b);
}
END_TEST

/* Nobody looks at the ledger between the tick that tells it sizes and the one who leaves. */
START_TEST(who_leaves_takes_what_was_told_along)
{
    const struct migbuf_geometry g = disk();
    struct migbuf_buffer *b = buffer(100 * GIB, NULL);
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    struct migbuf_decision d[2];
    struct migbuf_shard shard;

    ck_assert_int_eq(add(b, 1, &g, 1, NULL), 0);
    ck_assert_int_eq(add(b, 2, &g, 1, NULL), 0);
    size_is(b, 1000, 1, GIB);
    size_is(b, 1000, 2, 3 * GIB);
    ck_assert_int_eq(migbuf_buffer_tick(b, 1000, d, 2), 2);
    ck_assert_int_eq(migbuf_buffer_remove(b, 2), 0);
    ck_assert_int_eq(migbuf_buffer_stats(b, &stats), 0);
    ck_assert_uint_eq(stats.used_bytes, GIB);
    ck_assert_int_eq(migbuf_bins_shards(migbuf_buffer_bins(b), &shard, 1), 1);
    ck_assert_uint_eq(shard.bytes, GIB);
    migbuf_buffer_free(b);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { first_a_limit_then_keep,      the_paper_curve_shows_in_the_view,
                                   small_raises_are_not_sent,    a_full_buffer_pauses_and_room_resumes,
                                   reserves_are_kept_free, only_who_is_known_to_stand_has_nothing_to_pour, a_drain_waits_for_its_room,
                                   a_stall_is_worse_than_a_pause,
                                   where_not_all_can_write_they_take_turns, who_would_make_others_stand_is_not_let_in,
                                   nobody_waits_for_others_where_whole_disks_fit, turns_come_as_promised_where_no_link_is_known,
                                   rounding_pauses_nobody, a_pause_lasts_until_its_leak_is_paid,
                                   no_leak_is_paid_for_longer_than_was_promised, a_disk_that_fits_needs_no_throttle,
                                   targets_follow_measured_growth, a_refused_command_is_decided_again, without_a_word_it_is_done, a_guest_that_may_stand_is_paused_as_any,
                                   unseen_files_have_grown_by_the_last_set_too, the_highest_of_all_counts,
                                   without_a_lag_nothing_lands_later_unnoticed, what_has_no_room_gives_none_away,
                                   nothing_is_measured_in_the_future,
                                   links_are_shared_by_weight, who_left_leaves_no_gap, what_is_free_for_the_next_is_never_old,
                                   the_literal_policy_falls_into_the_pole, the_literal_policy_forgets_what_is_over,
                                   the_planner_s_example, counters_that_are_missing_once_teach_nothing, a_first_sample_is_no_rate,
                                   a_plan_within_the_band_sends_nothing, a_plan_lets_the_mirror_catch_up,
                                   a_plan_without_iops_size,
                                   what_is_refused_changes_nothing, late_ticks_are_counted,
                                   zeroing_is_let_off, a_new_process_decides_the_same, a_new_process_knows_what_may_be_written,
                                   the_largest_that_may_have_been_written_loads, a_clock_that_began_anew_shows_no_time, a_damaged_text_is_refused,
                                   a_forged_text_does_no_harm, what_is_found_is_where_it_starts,
                                   what_another_hand_ended_still_counts,
                                   what_a_raise_let_grow_counts_whatever_was_said_of_it,
                                   what_nobody_has_said_is_not_what_was_in_force,
                                   no_level_is_below_a_smallest_limit_that_fits,
                                   a_stop_that_nobody_answered_is_no_end, what_is_on_its_way_is_not_there,
                                   growth_so_far_was_written, the_first_seconds_are_cautious,
                                   nobody_comes_in_without_a_reserve, time_passes_without_a_process,
                                   without_a_limit_the_device_counts, no_lower_limit_makes_a_request_wait_too_long,
                                   what_is_taken_can_be_saved, a_whole_disk_is_more_than_its_data,
                                   each_disk_is_told_of_a_limit, who_comes_finds_what_is_on_its_way,
                                   who_is_new_waits_for_its_room, a_process_that_dies_after_a_tick,
                                   the_floor_lets_everybody_run, a_smaller_volume_is_waited_for,
                                   who_leaves_takes_what_was_told_along, NULL };

    return unit_run("buffer", tests, 10);
}
