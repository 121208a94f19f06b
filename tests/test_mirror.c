/* SPDX-License-Identifier: MIT */
/* How a disk is mirrored, by the examples of mirror.h, and which commands its machine sends. That QEMU takes them is tested on
 * QEMU. */
#include "unit.h"
#include "migbuf/mirror.h"
#include <string.h>

#define U 24e6

static struct migbuf_mirror_load load(double w, double r, double d)
{
    return (struct migbuf_mirror_load){ .link_bytes_per_s = U, .write_bytes_per_s = w, .request_bytes = r, .depth = d };
}

static struct migbuf_mirror_setting setting(int32_t mode, uint64_t granularity, uint64_t buf, uint64_t speed)
{
    return (struct migbuf_mirror_setting){ .mode = mode, .granularity_bytes = granularity, .buf_bytes = buf, .speed_bytes_per_s = speed };
}

/* The policy */

START_TEST(the_mode_follows_guest_and_qemu)
{
    static const struct {
        double w, r, u, round_trip_s;
        int can_change, promised, mode;
        uint64_t granularity, buf, speed;
    } c[] = {
        { 2.4e6, 4096, U, 0, 0, 0, MIGBUF_MIRROR_BACKGROUND, 4096, 0, 0 },
        { 12e6, 65536, U, 0, 0, 0, MIGBUF_MIRROR_BACKGROUND, 65536, 0, 0 },
        { 12e6, 65535, U, 0, 0, 0, MIGBUF_MIRROR_BACKGROUND, 4096, 0, 0 },
        { 30e6, 65536, U, 0, 0, 0, MIGBUF_MIRROR_PACED, 65536, 65536, 2400000 },
        { 24e6, 65536, U, 0, 0, 0, MIGBUF_MIRROR_PACED, 65536, 65536, 2400000 },
        { 30e6, 65536, U, 0, 1, 0, MIGBUF_MIRROR_BACKGROUND, 65536, 0, 0 },
        { 3e6, 512, U, 0, 0, 0, MIGBUF_MIRROR_PACED, 65536, 65536, 2400000 }, /* eight times as much is dirty */
        { 3e6, 512, U, 0, 1, 0, MIGBUF_MIRROR_BACKGROUND, 4096, 0, 0 },
        { 1e6, 4096, U, 0, 1, 1, MIGBUF_MIRROR_PACED, 65536, 65536, 2400000 },
        { 1e6, 4096, 1e9, 0.001, 1, 1, MIGBUF_MIRROR_PACED, 2097152, 2097152, 100000000 },
        { 1e6, 4096, 1e9, 1, 1, 1, MIGBUF_MIRROR_PACED, 16777216, 16777216, 100000000 },
        { 1e6, 0, 0, 0, 0, 0, MIGBUF_MIRROR_BACKGROUND, 4096, 0, 0 }, /* nothing is known */
        { 1e6, 0, 0, 0, 0, 1, MIGBUF_MIRROR_PACED, 65536, 65536, 0 },
        { 0, 0, 1, 0, 0, 1, MIGBUF_MIRROR_PACED, 65536, 65536, 1 }, /* never 0, which is no bound */
    };
    struct migbuf_mirror_setting s = { .mode = 7 };
    struct migbuf_mirror_load bad = load(1, 1, 1);

    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        struct migbuf_mirror_load l = { c[k].u, c[k].w, c[k].r, 4, c[k].round_trip_s };

        ck_assert_int_eq(migbuf_mirror_choose(&l, c[k].can_change, c[k].promised, &s), 0);
        ck_assert_msg(s.mode == c[k].mode && s.granularity_bytes == c[k].granularity && s.buf_bytes == c[k].buf &&
                          s.speed_bytes_per_s == c[k].speed && !s.reserved,
                      "%zu: mode %d, %lu, %lu, %lu", k, s.mode, (unsigned long)s.granularity_bytes, (unsigned long)s.buf_bytes,
                      (unsigned long)s.speed_bytes_per_s);
    }
    s.mode = 7;
    bad.depth = NAN;
    ck_assert_int_eq(migbuf_mirror_choose(&bad, 0, 0, &s), MIGBUF_E_INVALID);
    bad.depth = -1;
    ck_assert_int_eq(migbuf_mirror_choose(&bad, 0, 0, &s), MIGBUF_E_RANGE);
    bad.depth = INFINITY;
    ck_assert_int_eq(migbuf_mirror_choose(&bad, 0, 0, &s), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_mirror_choose(NULL, 0, 0, &s), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_choose(&bad, 0, 0, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(s.mode, 7);
}
END_TEST

START_TEST(the_law_of_one_queue)
{
    struct migbuf_mirror_load l = load(36e6, 65536, 4);
    struct migbuf_mirror_setting s = setting(MIGBUF_MIRROR_PACED, 65536, 65536, 0);
    struct migbuf_mirror_rates r = { 0, 0, 0 };

    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.guest_bytes_per_s, 19.2e6);
    ck_near(r.copy_bytes_per_s, 4.8e6);
    ck_near(r.write_s, 5 * 65536 / U);
    s.buf_bytes = 0; /* QEMU's own */
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.guest_bytes_per_s, U * 262144 / (262144 + 16777216.));
    s.buf_bytes = UINT64_C(1) << 30; /* its 16 operations become that large */
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.guest_bytes_per_s, U * 262144 / (262144 + 1073741824.));
    s.speed_bytes_per_s = 12000000; /* what the pace leaves is the guest's, whatever its turn is */
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.guest_bytes_per_s, 12e6);
    ck_near(r.copy_bytes_per_s, 12e6);
    l.write_bytes_per_s = 2e6;
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.guest_bytes_per_s, 2e6);
    ck_near(r.copy_bytes_per_s, 12e6);
    s = setting(MIGBUF_MIRROR_PACED, 1 << 20, 65536, 0); /* a granule is the least that is in flight */
    l = load(36e6, 65536, 4);
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.guest_bytes_per_s, U * 262144 / (262144 + 1048576.));
    l = (struct migbuf_mirror_load){ 54, 1e18, 1e18, 1e18, 0 }; /* its share is the whole link, and what is rounded is no more */
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_assert(r.guest_bytes_per_s == 54 && r.copy_bytes_per_s == 0);
    l = load(36e6, 65536, 4);
    s = setting(MIGBUF_MIRROR_BACKGROUND, 65536, 0, 0);
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.guest_bytes_per_s, 36e6);
    ck_near(r.copy_bytes_per_s, 0);
    ck_near(r.write_s, 0);
    l = load(1e6, 4096, 4);
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.copy_bytes_per_s, U - 16e6);
    l.request_bytes = 0; /* not known: as small as is usual */
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
    ck_near(r.copy_bytes_per_s, U - 16e6);

    r.write_s = 7;
    l.link_bytes_per_s = 0;
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), MIGBUF_E_STATE);
    l = load(1, 1, 1);
    s.granularity_bytes = 65537;
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), MIGBUF_E_RANGE);
    s = setting(3, 65536, 0, 0);
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), MIGBUF_E_INVALID);
    s = setting(1, 65536, 0, 0);
    s.reserved = 1;
    ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), MIGBUF_E_INVALID);
    ck_near(r.write_s, 7);
}
END_TEST

/* Rows that were measured on QEMU 7.2 (tests/README.md): within 10 %. */
START_TEST(the_law_is_what_was_measured)
{
    static const struct {
        double r, d, w;
        uint64_t buf, speed;
        double guest;
    } row[] = {
        { 65536, 4, 12e6, 0, 0, 0.36e6 },          { 4096, 32, 1e9, 0, 0, 0.18e6 },
        { 4096, 4, 1e9, 65536, 0, 4.45e6 },        { 4096, 32, 1e9, 65536, 0, 16.1e6 },
        { 65536, 1, 1e9, 65536, 0, 12e6 },         { 65536, 4, 1e9, 65536, 0, 18.7e6 },
        { 1048576, 4, 1e9, 65536, 0, 22.9e6 },     { 65536, 4, 12e6, 65536, 0, 12e6 },
        { 65536, 4, 12e6, 65536, 12000000, 12e6 }, { 4096, 4, 12e6, 65536, 12000000, 12e6 },
        { 4096, 4, 2.4e6, 65536, 18000000, 2.4e6 },
    };

    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        struct migbuf_mirror_load l = load(row[k].w, row[k].r, row[k].d);
        struct migbuf_mirror_setting s = setting(MIGBUF_MIRROR_PACED, 65536, row[k].buf, row[k].speed);
        struct migbuf_mirror_rates r;

        ck_assert_int_eq(migbuf_mirror_rates(&l, &s, &r), 0);
        ck_assert_msg(fabs(r.guest_bytes_per_s - row[k].guest) < 0.1 * row[k].guest, "%zu: %g", k, r.guest_bytes_per_s);
    }
}
END_TEST

START_TEST(the_end_is_forecast)
{
    struct migbuf_mirror_load l = load(12e6, 65536, 4);
    struct migbuf_mirror_setting s = setting(MIGBUF_MIRROR_BACKGROUND, 65536, 0, 0);
    double seconds = 7;

    ck_assert_int_eq(migbuf_mirror_finish(&l, &s, 2400000000, &seconds), 0);
    ck_near(seconds, 200);
    l.request_bytes = 4096;
    ck_assert_int_eq(migbuf_mirror_finish(&l, &s, 2400000000, &seconds), 0);
    ck_near(seconds, INFINITY);
    ck_assert_int_eq(migbuf_mirror_finish(&l, &s, 0, &seconds), 0);
    ck_near(seconds, 0);
    s.granularity_bytes = 4096;
    ck_assert_int_eq(migbuf_mirror_finish(&l, &s, 2400000000, &seconds), 0);
    ck_near(seconds, 200);
    s = setting(MIGBUF_MIRROR_PACED, 65536, 65536, 6000000);
    ck_assert_int_eq(migbuf_mirror_finish(&l, &s, 2400000000, &seconds), 0);
    ck_near(seconds, 400);
    l.link_bytes_per_s = 0;
    ck_assert_int_eq(migbuf_mirror_finish(&l, &s, 0, &seconds), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_mirror_finish(&l, &s, 0, NULL), MIGBUF_E_INVALID);
    ck_near(seconds, 400);
}
END_TEST

START_TEST(the_copy_is_paced)
{
    struct migbuf_mirror_load l = load(12e6, 65536, 4);
    uint64_t speed = 2400000;

    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000000000, INFINITY, speed, &speed), 0);
    ck_assert_uint_eq(speed, 3600000);
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000000000, INFINITY, 9000000, &speed), 0);
    ck_assert_uint_eq(speed, 9600000); /* 0.9 U - w */
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000000000, INFINITY, speed, &speed), 0);
    ck_assert_uint_eq(speed, 9600000);
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000000000, 50, speed, &speed), 0);
    ck_assert_uint_eq(speed, 20000000); /* what was promised */
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000000000, 0, speed, &speed), 0);
    ck_assert_uint_eq(speed, 24000000);
    ck_assert_int_eq(migbuf_mirror_pace(&l, UINT64_MAX, 1, speed, &speed), 0);
    ck_assert_uint_eq(speed, 24000000);
    l.write_bytes_per_s = 1e12; /* it always gets on */
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000, INFINITY, speed, &speed), 0);
    ck_assert_uint_eq(speed, 2400000);
    l.link_bytes_per_s = 1;
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000, INFINITY, 0, &speed), 0);
    ck_assert_uint_eq(speed, 1);
    l.link_bytes_per_s = 0;
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000, 1, 5, &speed), 0);
    ck_assert_uint_eq(speed, 0);
    speed = 7;
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000, NAN, 5, &speed), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000, -1, 5, &speed), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_mirror_pace(NULL, 1000, 1, 5, &speed), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_pace(&l, 1000, 1, 5, NULL), MIGBUF_E_INVALID);
    ck_assert_uint_eq(speed, 7);
}
END_TEST

START_TEST(a_guest_is_held_while_it_catches_up)
{
    struct migbuf_mirror_load l = load(12e6, 4096, 4);
    double hold = 7;

    ck_assert_int_eq(migbuf_mirror_hold(&l, 65536, &hold), 0);
    ck_near(hold, 750000);
    ck_assert_int_eq(migbuf_mirror_hold(&l, 4096, &hold), 0);
    ck_near(hold, 12e6);
    l.request_bytes = 65536;
    ck_assert_int_eq(migbuf_mirror_hold(&l, 4096, &hold), 0);
    ck_near(hold, 12e6);
    ck_assert_int_eq(migbuf_mirror_hold(&l, 0, &hold), MIGBUF_E_INVALID);
    l.link_bytes_per_s = 0;
    ck_assert_int_eq(migbuf_mirror_hold(&l, 4096, &hold), MIGBUF_E_STATE);
    ck_near(hold, 12e6);
}
END_TEST

START_TEST(a_copy_that_gains_nothing_is_stuck)
{
    struct migbuf_mirror_progress p = { .begun = 0 }, before;

    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 22000000, 0), 0);
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 22000000, 4999), 0);
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 22000000, 5000), 1);
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 21500000, 6000), 1);
    before = p;
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 20000000, 4999), MIGBUF_E_CLOCK);
    ck_assert_int_eq(migbuf_mirror_progress(&p, NAN, 20000000, 9000), MIGBUF_E_INVALID);
    ck_assert_int_eq(memcmp(&p, &before, sizeof p), 0);
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 20000000, 9000), 0);
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 21000000, 60000), 1); /* it grows, and the look is late */
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 0, 60001), 0);

    p = (struct migbuf_mirror_progress){ .begun = 0 }; /* a terabyte over 24 MB/s falls by less than 5 % in 5 s */
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 1000000000000, 0), 0);
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 1000000000000 - 7000000, 5000), 0);
    ck_assert_int_eq(migbuf_mirror_progress(&p, U, 1000000000000 - 12000000, 10000), 1);
    p = (struct migbuf_mirror_progress){ .begun = 0 }; /* nobody knows how fast it could be */
    ck_assert_int_eq(migbuf_mirror_progress(&p, 0, 1000000, 0), 0);
    ck_assert_int_eq(migbuf_mirror_progress(&p, 0, 999999, 5000), 0);
    ck_assert_int_eq(migbuf_mirror_progress(&p, 0, 999999, 10000), 1);
    ck_assert_int_eq(migbuf_mirror_progress(NULL, 0, 1, 1), MIGBUF_E_INVALID);
}
END_TEST

/* The machine */

static struct migbuf_mirror *mirror;
static struct migbuf_mirror_command command;
static uint64_t now_ms;

static void make(const struct migbuf_mirror_options *o, double w, double r)
{
    struct migbuf_mirror_load l = load(w, r, 4);

    migbuf_mirror_free(mirror);
    now_ms = 1000;
    ck_assert_int_eq(migbuf_mirror_new("job", "disk", "target", o, NULL, &mirror), 0);
    ck_assert_int_eq(migbuf_mirror_tell(mirror, &l), 0);
}

static struct migbuf_mirror_options options(int can_change)
{
    struct migbuf_mirror_options o;

    ck_assert_int_eq(migbuf_mirror_options_init(&o, sizeof o), 0);
    o.can_change = can_change;
    return o;
}

static struct migbuf_mirror_info info(void)
{
    struct migbuf_mirror_info i = { .size = sizeof i };

    ck_assert_int_eq(migbuf_mirror_info(mirror, &i), 0);
    return i;
}

/* The next command must be this one; it gets this outcome. */
static void sends(int32_t kind, const char *name, const char *arguments, int32_t outcome, int rc)
{
    for (int twice = 0; twice < 2; twice++) {
        ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 1);
        ck_assert_int_eq(command.kind, kind);
        ck_assert_str_eq(command.name, name);
        ck_assert_str_eq(command.arguments, arguments);
    }
    ck_assert_int_eq(migbuf_mirror_answered(mirror, outcome), rc);
}

static void sends_nothing(void)
{
    ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 0);
}

/* Half a second later the job is like this. */
static void looks(struct migbuf_mirror_report r)
{
    now_ms += 500;
    ck_assert_int_eq(migbuf_mirror_look(mirror, now_ms), 0);
    ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 1);
    ck_assert_int_eq(command.kind, MIGBUF_MIRROR_GET_JOB);
    ck_assert_str_eq(command.name, "query-block-jobs");
    ck_assert_ptr_null(command.arguments);
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_DONE), MIGBUF_E_STATE); /* what did it say? */
    ck_assert_int_eq(migbuf_mirror_found(mirror, &r), 0);
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_DONE), 0);
}

static struct migbuf_mirror_report job(uint64_t remaining)
{
    return (struct migbuf_mirror_report){ .there = 1, .length_bytes = 1000000000, .offset_bytes = 1000000000 - remaining };
}

static struct migbuf_mirror_report ready_job(int32_t synced)
{
    struct migbuf_mirror_report r = job(0);

    r.ready = 1;
    r.synced = synced;
    return r;
}

#define START_BACKGROUND                                                                                             \
    "{\"job-id\":\"job\",\"device\":\"disk\",\"target\":\"target\",\"sync\":\"full\",\"copy-mode\":\"background\",\"granularity\":" \
    "65536,\"on-source-error\":\"stop\",\"on-target-error\":\"stop\"}"
#define START_PACED                                                                                                      \
    "{\"job-id\":\"job\",\"device\":\"disk\",\"target\":\"target\",\"sync\":\"full\",\"copy-mode\":\"write-blocking\",\"granularity\":" \
    "65536,\"buf-size\":65536,\"speed\":2400000,\"on-source-error\":\"stop\",\"on-target-error\":\"stop\"}"
#define CHANGE "{\"id\":\"job\",\"type\":\"mirror\",\"copy-mode\":\"write-blocking\"}"

static void start(const char *arguments)
{
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", arguments, MIGBUF_OUTCOME_DONE, 0);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_DONE);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_COPYING);
}

static void completes(void)
{
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    sends(MIGBUF_MIRROR_COMPLETE, "block-job-cancel", "{\"device\":\"job\"}", MIGBUF_OUTCOME_DONE, 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_ENDING);
    sends_nothing();
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_COMPLETED), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_COMPLETED);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_DONE);
}

START_TEST(states_have_names)
{
    ck_assert_str_eq(migbuf_mirror_state_text(MIGBUF_MIRROR_STATE_IDLE), "idle");
    ck_assert_str_eq(migbuf_mirror_state_text(MIGBUF_MIRROR_STATE_LOST), "lost");
    ck_assert_str_eq(migbuf_mirror_state_text(MIGBUF_MIRROR_STATE_LOST + 1), "unknown");
    ck_assert_str_eq(migbuf_mirror_state_text(-1), "unknown");
}
END_TEST

START_TEST(bad_options_make_no_machine)
{
    struct migbuf_mirror_options o = options(0);
    struct migbuf_mirror *m = NULL;
    char name[258];

    memset(name, 'n', sizeof name);
    name[257] = 0;
    ck_assert_int_eq(migbuf_mirror_new(name, "d", "t", &o, NULL, &m), MIGBUF_E_TOO_BIG);
    name[256] = 0;
    ck_assert_int_eq(migbuf_mirror_new(name, "d", "t", &o, NULL, &m), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_mirror_new("j", "", "t", &o, NULL, &m), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_new("j", "d", NULL, &o, NULL, &m), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_new("j", "d", "t\xff", &o, NULL, &m), MIGBUF_E_INVALID);
    o.setting.mode = 3;
    ck_assert_int_eq(migbuf_mirror_new("j", "d", "t", &o, NULL, &m), MIGBUF_E_INVALID);
    o.setting = setting(0, 65536, 0, 0); /* half a setting is none */
    ck_assert_int_eq(migbuf_mirror_new("j", "d", "t", &o, NULL, &m), MIGBUF_E_INVALID);
    o.setting = setting(1, 256, 0, 0);
    ck_assert_int_eq(migbuf_mirror_new("j", "d", "t", &o, NULL, &m), MIGBUF_E_RANGE);
    o.setting = setting(1, 65536, (UINT64_C(1) << 30) + 1, 0);
    ck_assert_int_eq(migbuf_mirror_new("j", "d", "t", &o, NULL, &m), MIGBUF_E_RANGE);
    o.setting = setting(1, 65536, 0, UINT64_C(1) << 63);
    ck_assert_int_eq(migbuf_mirror_new("j", "d", "t", &o, NULL, &m), MIGBUF_E_RANGE);
    o = options(0);
    o.size = 3;
    ck_assert_int_eq(migbuf_mirror_new("j", "d", "t", &o, NULL, &m), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_mirror_options_init(&o, 3), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_mirror_new("j", "d", "t", NULL, NULL, NULL), MIGBUF_E_INVALID);
    ck_assert_ptr_null(m);
    name[255] = 0;
    ck_assert_int_eq(migbuf_mirror_new(name, name, name, NULL, NULL, &m), 0);
    migbuf_mirror_free(m);
    migbuf_mirror_free(NULL);
}
END_TEST

START_TEST(a_guest_that_fits_is_copied_in_the_background)
{
    struct migbuf_mirror_options o = options(0);

    make(&o, 12e6, 65536);
    sends_nothing();
    start(START_BACKGROUND);
    sends_nothing();
    looks(job(900000000));
    sends_nothing();
    ck_assert_uint_eq(info().remaining_bytes, 900000000);
    ck_near(info().finish_s, 75);
    ck_near(info().hold_bytes_per_s, 0);
    ck_assert_int_eq(info().write_blocking, 0);

    o.top = 1; /* names as they are, in JSON */
    migbuf_mirror_free(mirror);
    ck_assert_int_eq(migbuf_mirror_new("j\"b", "a\\b", "t\n", &o, NULL, &mirror), 0);
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror",
          "{\"job-id\":\"j\\\"b\",\"device\":\"a\\\\b\",\"target\":\"t\\u000a\",\"sync\":\"top\",\"copy-mode\":\"background\","
          "\"granularity\":4096,\"on-source-error\":\"stop\",\"on-target-error\":\"stop\"}",
          MIGBUF_OUTCOME_DONE, 0);
}
END_TEST

START_TEST(near_the_end_it_becomes_write_blocking)
{
    struct migbuf_mirror_options o = options(1);

    make(&o, 12e6, 65536);
    start(START_BACKGROUND);
    looks(ready_job(0));
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_READY);
    sends_nothing(); /* the guest feels nothing: so it stays until the end is near */
    ck_assert_int_eq(migbuf_mirror_settle(mirror), 0);
    ck_assert_int_eq(info().settled, 0);
    sends(MIGBUF_MIRROR_CHANGE, "block-job-change", CHANGE, MIGBUF_OUTCOME_DONE, 0);
    ck_assert_int_eq(info().write_blocking, 1);
    looks(ready_job(0));
    ck_assert_int_eq(info().settled, 0);
    sends_nothing();
    looks(ready_job(1));
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_SYNCED);
    ck_assert_int_eq(info().settled, 1);
    completes();
}
END_TEST

START_TEST(one_that_is_stuck_becomes_write_blocking)
{
    struct migbuf_mirror_options o = options(1);
    struct migbuf_mirror_report r = ready_job(1);

    make(&o, 36e6, 65536);
    start(START_BACKGROUND);
    looks(job(21000000));
    ck_near(info().finish_s, INFINITY); /* seen at once */
    for (int k = 0; k < 9; k++) {
        looks(job(21000000));
        sends_nothing();
    }
    looks(job(21000000));
    ck_assert_int_eq(info().stuck, 1);
    ck_near(info().hold_bytes_per_s, 0);
    sends(MIGBUF_MIRROR_CHANGE, "block-job-change", CHANGE, MIGBUF_OUTCOME_DONE, 0);
    sends_nothing(); /* what remains is sent within 3 s */
    ck_assert_int_eq(info().write_blocking, 1);

    make(&o, 36e6, 65536); /* with much left the guest's writes go first */
    start(START_BACKGROUND);
    for (int k = 0; k < 11; k++)
        looks(job(900000000));
    sends(MIGBUF_MIRROR_CHANGE, "block-job-change", CHANGE, MIGBUF_OUTCOME_DONE, 0);
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":2400000}", MIGBUF_OUTCOME_DONE, 0);
    r.speed_bytes_per_s = 2400000;
    looks(r);
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":0}", MIGBUF_OUTCOME_DONE, 0);
}
END_TEST

START_TEST(where_qemu_cannot_change_it_the_guest_is_held)
{
    struct migbuf_mirror_options o = options(0);
    struct migbuf_mirror_report r;

    o.setting = setting(MIGBUF_MIRROR_BACKGROUND, 65536, 0, 0);
    make(&o, 2.4e6, 4096);
    start(START_BACKGROUND);
    for (int k = 0; k < 11; k++)
        looks(job(28000000));
    sends_nothing();
    ck_near(info().hold_bytes_per_s, 750000);
    looks(job(20000000));
    ck_near(info().hold_bytes_per_s, 750000); /* or it would only be stuck again */
    looks(ready_job(0));
    ck_near(info().hold_bytes_per_s, 0);
    sends_nothing();

    r = job(30000000); /* it was ready once; then the guest was faster */
    r.ready = 1;
    looks(r);
    ck_near(info().hold_bytes_per_s, 0);
    ck_assert_int_eq(migbuf_mirror_settle(mirror), 0);
    ck_assert_int_eq(info().settled, 0);
    looks(r);
    ck_near(info().hold_bytes_per_s, 750000);
    r.offset_bytes = r.length_bytes - 2400001;
    looks(r);
    ck_assert_int_eq(info().settled, 0);
    r.offset_bytes = r.length_bytes - 2400000; /* a tenth of a second */
    looks(r);
    ck_assert_int_eq(info().settled, 1); /* it gets no further */
    ck_near(info().hold_bytes_per_s, 750000); /* let go it would write what its stop then takes */
    sends_nothing();
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    ck_near(info().hold_bytes_per_s, 750000); /* its guest may still run */
    sends(MIGBUF_MIRROR_COMPLETE, "block-job-cancel", "{\"device\":\"job\"}", MIGBUF_OUTCOME_DONE, 0);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_COMPLETED), 0);
    ck_near(info().hold_bytes_per_s, 0);

    o = options(1); /* the host took it for newer than it is */
    make(&o, 36e6, 65536);
    start(START_BACKGROUND);
    for (int k = 0; k < 11; k++)
        looks(job(21000000));
    sends(MIGBUF_MIRROR_CHANGE, "block-job-change", CHANGE, MIGBUF_OUTCOME_REFUSED, 0);
    sends_nothing();
    ck_assert_int_eq(info().can_change, 0);
    ck_assert_int_eq(info().write_blocking, 0);
    ck_near(info().hold_bytes_per_s, 12e6);

    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_STOPPED), 0); /* it catches up no more: at once, without a look */
    ck_near(info().hold_bytes_per_s, 0);
    o = options(0);
    o.setting = setting(MIGBUF_MIRROR_BACKGROUND, 65536, 0, 0);
    make(&o, 2.4e6, 4096);
    start(START_BACKGROUND);
    for (int k = 0; k < 11; k++)
        looks(job(28000000));
    ck_near(info().hold_bytes_per_s, 750000);
    ck_assert_int_eq(migbuf_mirror_cancel(mirror), 0);
    ck_near(info().hold_bytes_per_s, 0);
}
END_TEST

START_TEST(the_pace_rises_until_the_guest_shows)
{
    struct migbuf_mirror_load l = load(12e6, 65536, 4);
    static const uint64_t speeds[] = { 3600000, 4800000, 6000000, 7200000, 8400000, 9600000 };
    struct migbuf_mirror_options o = options(0);
    struct migbuf_mirror_report r = job(900000000);
    char arguments[64];

    o.deadline_ms = 1001000; /* 1000 s: 0.9 MB/s would do */
    make(&o, 12e6, 65536);
    start(START_PACED);
    ck_assert_int_eq(info().write_blocking, 1);
    r.speed_bytes_per_s = 2400000;
    for (size_t k = 0; k < sizeof speeds / sizeof *speeds; k++) {
        looks(r);
        snprintf(arguments, sizeof arguments, "{\"device\":\"job\",\"speed\":%lu}", (unsigned long)speeds[k]);
        sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", arguments, MIGBUF_OUTCOME_DONE, 0);
        ck_assert_uint_eq(info().speed_bytes_per_s, speeds[k]);
        r.speed_bytes_per_s = speeds[k];
    }
    looks(r);
    sends_nothing(); /* it is that already */
    ck_near(info().finish_s, 900e6 / 9.6e6);
    l.write_bytes_per_s = 12.4e6; /* a twentieth less is not worth a command */
    ck_assert_int_eq(migbuf_mirror_tell(mirror, &l), 0);
    looks(r);
    sends_nothing();
    l.write_bytes_per_s = 12e6;
    ck_assert_int_eq(migbuf_mirror_tell(mirror, &l), 0);
    r.speed_bytes_per_s = 0; /* another hand's */
    looks(r);
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":9600000}", MIGBUF_OUTCOME_DONE, 0);
    now_ms = 1001000 - 50500;
    looks(r); /* what was promised comes first */
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":18000000}", MIGBUF_OUTCOME_DONE, 0);
    r = ready_job(0);
    r.speed_bytes_per_s = 18000000;
    looks(r);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_SYNCED); /* this QEMU tells no more than ready */
    ck_near(info().finish_s, 0);
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":0}", MIGBUF_OUTCOME_DONE, 0);
    completes();
}
END_TEST

START_TEST(a_host_may_want_no_pace)
{
    struct migbuf_mirror_options o = options(0);

    o.setting = setting(MIGBUF_MIRROR_PACED, 65536, 65536, 0);
    make(&o, 12e6, 65536);
    start("{\"job-id\":\"job\",\"device\":\"disk\",\"target\":\"target\",\"sync\":\"full\",\"copy-mode\":\"write-blocking\","
          "\"granularity\":65536,\"buf-size\":65536,\"on-source-error\":\"stop\",\"on-target-error\":\"stop\"}");
    for (int k = 0; k < 20; k++) {
        looks(job(900000000));
        sends_nothing();
    }
}
END_TEST

START_TEST(it_completes_when_it_is_asked_to)
{
    struct migbuf_mirror_options o = options(0);

    make(&o, 12e6, 65536);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_COMPLETED), 0); /* of another job of this name */
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_IDLE);
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 1);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_READY), 0); /* a small disk: before the answer */
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_READY);
    completes();
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_FAILED), 0); /* it is over */
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_COMPLETED);
    ck_assert_int_eq(migbuf_mirror_cancel(mirror), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_mirror_look(mirror, now_ms), 0);
    sends_nothing();

    make(&o, 12e6, 65536);
    start(START_BACKGROUND);
    looks(ready_job(0));
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 1);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_COMPLETED), 0); /* before the answer */
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_COMPLETED);

    make(&o, 12e6, 65536); /* a write to the target fails meanwhile */
    start(START_BACKGROUND);
    looks(ready_job(0));
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    sends(MIGBUF_MIRROR_COMPLETE, "block-job-cancel", "{\"device\":\"job\"}", MIGBUF_OUTCOME_DONE, 0);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_STOPPED), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_STOPPED);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_FAILED), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_FAILED);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_REFUSED);
}
END_TEST

START_TEST(a_job_that_vanished_is_not_taken_for_complete)
{
    struct migbuf_mirror_report gone = { .there = 0 };
    struct migbuf_mirror_options o = options(0);

    make(&o, 12e6, 65536);
    start(START_BACKGROUND);
    looks(ready_job(0));
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    sends(MIGBUF_MIRROR_COMPLETE, "block-job-cancel", "{\"device\":\"job\"}", MIGBUF_OUTCOME_DONE, 0);
    looks(gone);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_LOST);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_UNKNOWN);
    sends_nothing();

    make(&o, 12e6, 65536);
    start(START_BACKGROUND);
    looks(gone);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_LOST);
}
END_TEST

START_TEST(a_start_that_may_have_been_carried_out_is_asked_for)
{
    struct migbuf_mirror_options o = options(0);
    struct migbuf_mirror_report gone = { .there = 0 };

    make(&o, 12e6, 65536);
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", START_BACKGROUND, MIGBUF_OUTCOME_UNKNOWN, MIGBUF_E_UNKNOWN);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_UNKNOWN);
    ck_assert_int_eq(info().unknown, 1);
    sends_nothing(); /* never twice, unless it is known that it was not carried out */
    looks(job(900000000));
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_COPYING);
    ck_assert_int_eq(info().setting.granularity_bytes, 65536);
    sends_nothing();

    make(&o, 12e6, 65536);
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", START_BACKGROUND, MIGBUF_OUTCOME_UNKNOWN, MIGBUF_E_UNKNOWN);
    looks(gone);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", START_BACKGROUND, MIGBUF_OUTCOME_DONE, 0);

    make(&o, 12e6, 65536); /* the question too */
    start(START_BACKGROUND);
    ck_assert_int_eq(migbuf_mirror_look(mirror, now_ms), 0);
    ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 1);
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_UNKNOWN), MIGBUF_E_UNKNOWN);
    sends_nothing();
    looks(job(1));
    ck_assert_int_eq(info().unknown, 0);
}
END_TEST

START_TEST(what_qemu_refuses)
{
    struct migbuf_mirror_options o = options(0);

    make(&o, 12e6, 65536);
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", START_BACKGROUND, MIGBUF_OUTCOME_REFUSED, MIGBUF_E_PEER);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_FAILED);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_REFUSED);
    sends_nothing();

    make(&o, 12e6, 65536);
    start(START_BACKGROUND);
    looks(ready_job(0));
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    sends(MIGBUF_MIRROR_COMPLETE, "block-job-cancel", "{\"device\":\"job\"}", MIGBUF_OUTCOME_REFUSED, MIGBUF_E_PEER);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_READY);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_REFUSED);
    sends_nothing();
    looks(ready_job(0));
    completes();
}
END_TEST

START_TEST(a_cancel_ends_it_from_anywhere)
{
    struct migbuf_mirror_options o = options(0);
    struct migbuf_mirror_report gone = { .there = 0 };

    make(&o, 12e6, 65536);
    ck_assert_int_eq(migbuf_mirror_cancel(mirror), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_CANCELLED);
    sends_nothing();

    make(&o, 12e6, 65536); /* its start may come to pass yet */
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", START_BACKGROUND, MIGBUF_OUTCOME_UNKNOWN, MIGBUF_E_UNKNOWN);
    ck_assert_int_eq(migbuf_mirror_cancel(mirror), 0);
    sends_nothing();
    looks(job(5));
    sends(MIGBUF_MIRROR_CANCEL, "block-job-cancel", "{\"device\":\"job\",\"force\":true}", MIGBUF_OUTCOME_DONE, 0);
    looks(gone);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_CANCELLED);

    for (int32_t event = MIGBUF_MIRROR_EVENT_STOPPED; event <= MIGBUF_MIRROR_EVENT_FAILED; event++) {
        make(&o, 12e6, 65536);
        start(START_BACKGROUND);
        looks(ready_job(0));
        ck_assert_int_eq(migbuf_mirror_cancel(mirror), 0);
        sends(MIGBUF_MIRROR_CANCEL, "block-job-cancel", "{\"device\":\"job\",\"force\":true}", MIGBUF_OUTCOME_DONE, 0);
        ck_assert_int_eq(migbuf_mirror_event(mirror, event), 0);
        if (event == MIGBUF_MIRROR_EVENT_STOPPED) {
            ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_ENDING);
            continue;
        }
        ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_CANCELLED); /* whatever it came to: it is not wanted */
    }
}
END_TEST

START_TEST(a_restarted_host_takes_it_up)
{
    struct migbuf_mirror_options o = options(1);
    struct migbuf_mirror_report r = job(900000000);

    make(&o, 12e6, 65536);
    r.speed_bytes_per_s = 2400000; /* it was write-blocking, and paced */
    looks(r);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_COPYING);
    ck_assert_int_eq(info().setting.mode, MIGBUF_MIRROR_BACKGROUND);
    ck_assert_int_eq(migbuf_mirror_start(mirror), MIGBUF_E_STATE);
    sends_nothing();
    looks(r);
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":3600000}", MIGBUF_OUTCOME_DONE, 0);
    r = ready_job(1); /* so it is write-blocking */
    r.speed_bytes_per_s = 3600000;
    looks(r);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_SYNCED);
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":0}", MIGBUF_OUTCOME_DONE, 0);
    completes();

    o.setting = setting(MIGBUF_MIRROR_PACED, 65536, 65536, 2400000); /* an end was promised */
    o.deadline_ms = 102000;
    make(&o, 12e6, 65536);
    r = job(900000000);
    r.speed_bytes_per_s = 2400000;
    looks(r);
    sends_nothing();
    looks(r); /* 900 MB in 100 s */
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":9000000}", MIGBUF_OUTCOME_DONE, 0);

    o = options(1); /* the host's own bound stays */
    o.setting = setting(MIGBUF_MIRROR_BACKGROUND, 65536, 0, 5000000);
    make(&o, 12e6, 65536);
    r = job(900000000);
    r.speed_bytes_per_s = 5000000;
    looks(r);
    looks(r);
    sends_nothing();
    o = options(1);

    make(&o, 12e6, 65536); /* there is none */
    looks((struct migbuf_mirror_report){ .there = 0 });
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_IDLE);
    start(START_BACKGROUND);
}
END_TEST

/* A job that may run is told to end, whatever was on its way when the host gave up. */
START_TEST(who_gives_up_ends_what_may_run)
{
    const struct migbuf_mirror_report none = { .there = 0 };
    struct migbuf_mirror_options o = options(1);

    make(&o, 12e6, 65536); /* looked, and not yet answered */
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", START_BACKGROUND, MIGBUF_OUTCOME_UNKNOWN, MIGBUF_E_UNKNOWN);
    ck_assert_int_eq(migbuf_mirror_look(mirror, now_ms), 0);
    ck_assert_int_eq(migbuf_mirror_cancel(mirror), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_ENDING);
    looks(job(900000000));
    sends(MIGBUF_MIRROR_CANCEL, "block-job-cancel", "{\"device\":\"job\",\"force\":true}", MIGBUF_OUTCOME_DONE, 0);

    make(&o, 12e6, 65536); /* it never was there */
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", START_BACKGROUND, MIGBUF_OUTCOME_UNKNOWN, MIGBUF_E_UNKNOWN);
    looks(none);
    ck_assert_int_eq(migbuf_mirror_cancel(mirror), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_CANCELLED);

    make(&o, 12e6, 65536); /* while it is being completed */
    start(START_BACKGROUND);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_READY), 0);
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 1);
    ck_assert_int_eq(migbuf_mirror_cancel(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_DONE), 0);
    sends(MIGBUF_MIRROR_CANCEL, "block-job-cancel", "{\"device\":\"job\",\"force\":true}", MIGBUF_OUTCOME_DONE, 0);

    make(&o, 12e6, 65536); /* while it is being started, which QEMU refuses: that is what was wanted */
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 1);
    ck_assert_int_eq(migbuf_mirror_cancel(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_REFUSED), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_CANCELLED);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_DONE);
}
END_TEST

START_TEST(an_event_tells_what_an_answer_left_open)
{
    const struct migbuf_mirror_report none = { .there = 0 };
    struct migbuf_mirror_options o = options(1);

    make(&o, 12e6, 65536); /* it has failed: it is not started once more */
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    sends(MIGBUF_MIRROR_START, "blockdev-mirror", START_BACKGROUND, MIGBUF_OUTCOME_UNKNOWN, MIGBUF_E_UNKNOWN);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_FAILED), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_FAILED);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_REFUSED);
    sends_nothing();

    make(&o, 12e6, 65536); /* nobody answered, but it is complete */
    start(START_BACKGROUND);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_READY), 0);
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    sends(MIGBUF_MIRROR_COMPLETE, "block-job-cancel", "{\"device\":\"job\"}", MIGBUF_OUTCOME_UNKNOWN, MIGBUF_E_UNKNOWN);
    ck_assert_int_eq(info().unknown, 1);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_COMPLETED), 0);
    ck_assert_int_eq(info().unknown, 0);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_DONE);

    make(&o, 12e6, 65536); /* the reply was read before the event that came first */
    start(START_BACKGROUND);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_READY), 0);
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    sends(MIGBUF_MIRROR_COMPLETE, "block-job-cancel", "{\"device\":\"job\"}", MIGBUF_OUTCOME_DONE, 0);
    looks(none);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_LOST);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_COMPLETED), 0);
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_COMPLETED);

    make(&o, 12e6, 65536); /* a look does not make a refusal undone */
    start(START_BACKGROUND);
    looks(ready_job(0));
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    sends(MIGBUF_MIRROR_COMPLETE, "block-job-cancel", "{\"device\":\"job\"}", MIGBUF_OUTCOME_REFUSED, MIGBUF_E_PEER);
    looks(ready_job(0));
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), MIGBUF_OUTCOME_REFUSED);
    ck_assert_int_eq(migbuf_mirror_complete(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_outcome(mirror), 0);
}
END_TEST

START_TEST(what_remains_decides_not_that_it_was_ready)
{
    struct migbuf_mirror_options o = options(1);
    struct migbuf_mirror_report r;

    make(&o, 36e6, 65536); /* the guest is faster than the link */
    start(START_BACKGROUND);
    r = ready_job(0);
    for (int k = 0; k < 12; k++) {
        r.length_bytes += 6000000;
        looks(r);
    }
    sends_nothing(); /* less than three seconds of the link remain */
    for (int k = 0; k < 12; k++) {
        r.length_bytes += 6000000;
        looks(r);
    }
    ck_assert_int_eq(info().stuck, 1);
    ck_assert(isinf(info().finish_s));
    sends(MIGBUF_MIRROR_CHANGE, "block-job-change", CHANGE, MIGBUF_OUTCOME_DONE, 0);
    sends(MIGBUF_MIRROR_SET_SPEED, "block-job-set-speed", "{\"device\":\"job\",\"speed\":2400000}", MIGBUF_OUTCOME_DONE, 0);

    make(&o, 12e6, 65536); /* QEMU has not counted yet what it will copy */
    start(START_BACKGROUND);
    looks((struct migbuf_mirror_report){ .there = 1 });
    for (int k = 0; k < 12; k++)
        looks(job(900000000 - (uint64_t)k * 10000000));
    ck_assert_int_eq(info().stuck, 0);
    sends_nothing();

    make(&o, 12e6, 65536); /* nobody knows the link: nothing is bounded */
    ck_assert_int_eq(migbuf_mirror_tell(mirror, &(struct migbuf_mirror_load){ .write_bytes_per_s = 0 }), 0);
    o.setting = setting(MIGBUF_MIRROR_BACKGROUND, 65536, 0, 0);
    ck_assert_int_eq(migbuf_mirror_start(mirror), 0);
    ck_assert_int_eq(migbuf_mirror_next(mirror, &command), 1);
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_DONE), 0);
    for (int k = 0; k < 12; k++)
        looks(job(1000000));
    sends(MIGBUF_MIRROR_CHANGE, "block-job-change", CHANGE, MIGBUF_OUTCOME_DONE, 0);
    sends_nothing();
}
END_TEST

START_TEST(calls_out_of_place_change_nothing)
{
    struct migbuf_mirror_options o = options(0);
    struct migbuf_mirror_load l = load(1, 1, 1);
    struct migbuf_mirror_report r = job(1);
    struct migbuf_mirror_info i = { .size = 3 };

    make(&o, 12e6, 65536);
    ck_assert_int_eq(migbuf_mirror_found(mirror, &r), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_mirror_answered(mirror, MIGBUF_OUTCOME_DONE), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_mirror_answered(mirror, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_complete(mirror), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_mirror_event(mirror, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_event(mirror, MIGBUF_MIRROR_EVENT_FAILED + 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_info(mirror, &i), MIGBUF_E_STRUCT);
    l.write_bytes_per_s = NAN;
    ck_assert_int_eq(migbuf_mirror_tell(mirror, &l), MIGBUF_E_INVALID);
    start(START_BACKGROUND);
    ck_assert_int_eq(migbuf_mirror_start(mirror), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_mirror_complete(mirror), MIGBUF_E_STATE);
    looks(job(7));
    ck_assert_int_eq(migbuf_mirror_look(mirror, now_ms - 1), MIGBUF_E_CLOCK);
    sends_nothing();
    ck_assert_int_eq(info().state, MIGBUF_MIRROR_STATE_COPYING);
    ck_assert_uint_eq(info().remaining_bytes, 7);

    ck_assert_int_eq(migbuf_mirror_tell(NULL, &l), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_start(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_look(NULL, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_event(NULL, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_settle(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_complete(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_cancel(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_next(NULL, &command), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_next(mirror, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_found(mirror, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_answered(NULL, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_outcome(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_mirror_info(NULL, &i), MIGBUF_E_INVALID);
    migbuf_mirror_free(mirror);
    mirror = NULL;
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_mode_follows_guest_and_qemu,
        the_law_of_one_queue,
        the_law_is_what_was_measured,
        the_end_is_forecast,
        the_copy_is_paced,
        a_guest_is_held_while_it_catches_up,
        a_copy_that_gains_nothing_is_stuck,
        states_have_names,
        bad_options_make_no_machine,
        a_guest_that_fits_is_copied_in_the_background,
        near_the_end_it_becomes_write_blocking,
        one_that_is_stuck_becomes_write_blocking,
        where_qemu_cannot_change_it_the_guest_is_held,
        the_pace_rises_until_the_guest_shows,
        a_host_may_want_no_pace,
        it_completes_when_it_is_asked_to,
        a_job_that_vanished_is_not_taken_for_complete,
        a_start_that_may_have_been_carried_out_is_asked_for,
        what_qemu_refuses,
        a_cancel_ends_it_from_anywhere,
        a_restarted_host_takes_it_up,
    who_gives_up_ends_what_may_run,
    an_event_tells_what_an_answer_left_open,
    what_remains_decides_not_that_it_was_ready,
        calls_out_of_place_change_nothing,
        NULL,
    };

    return unit_run("mirror", tests, 120);
}
