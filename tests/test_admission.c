/* SPDX-License-Identifier: MIT */
/* Who starts next, and what will become of one: the header's examples, and that nothing is changed by asking. */
#include "unit.h"
#include "migbuf/outlook.h"
#include <string.h>

#define MB UINT64_C(1000000)
#define GB UINT64_C(1000000000)
#define GIB (UINT64_C(1) << 30)

static struct migbuf_geometry disk_of(uint64_t bytes)
{
    return (struct migbuf_geometry){ .virtual_bytes = bytes, .cluster_bytes = 65536, .subcluster_bytes = 65536,
                                     .block_bytes = 4096, .request_bytes = 65536, .queue_bytes = 1 << 20,
                                     .extra_bytes = MIGBUF_NONE, .flags = MIGBUF_GEOMETRY_ALIGNED };
}

static struct migbuf_migration migration(uint64_t id, uint64_t rate)
{
    struct migbuf_migration m;

    migbuf_migration_init(&m, sizeof m);
    m.id = id;
    m.rate_bytes_per_s = rate;
    return m;
}

static struct migbuf_buffer *buffer_of(uint64_t omega, int32_t policy)
{
    struct migbuf_buffer_options o;
    struct migbuf_buffer *b;

    migbuf_buffer_options_init(&o, sizeof o);
    o.policy = policy;
    ck_assert_int_eq(migbuf_buffer_new(omega, &o, NULL, &b), 0);
    return b;
}

static int add(struct migbuf_buffer *b, uint64_t id, uint64_t disk_bytes, uint64_t rate)
{
    struct migbuf_migration m = migration(id, rate);
    struct migbuf_geometry g = disk_of(disk_bytes);

    return migbuf_buffer_add(b, &m, &g, 1, NULL);
}

static struct migbuf_waiting waiting(const struct migbuf_buffer *b, uint64_t id, uint64_t disk_bytes, uint64_t rate)
{
    struct migbuf_migration m = migration(id, rate);
    struct migbuf_geometry g = disk_of(disk_bytes);
    struct migbuf_waiting w;

    ck_assert_int_eq(migbuf_admission_waiting(b, &m, &g, 1, &w), 0);
    w.arrival = id;
    return w;
}

/* One runs with 10 GB to send over 100 MB/s; its guest writes nothing. */
static struct migbuf_buffer *one_runs(uint64_t omega, int32_t policy)
{
    struct migbuf_buffer *b = buffer_of(omega, policy);

    ck_assert_int_eq(add(b, 1, 10 * GB, 0), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * MB), 0);
    return b;
}

START_TEST(the_header_s_example)
{
    static const int32_t policies[] = { MIGBUF_POLICY_PAPER, MIGBUF_POLICY_PLANNER, MIGBUF_POLICY_LITERAL };

    for (size_t k = 0; k < 3; k++) {
        struct migbuf_buffer *b = one_runs(10 * GIB, policies[k]);
        struct migbuf_waiting w[] = { waiting(b, 2, 5 * GB, 0), waiting(b, 3, 2 * GB, 0) };
        struct migbuf_admission_turn t[2];

        ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, w, 2, t), 0);
        ck_assert_int_eq(t[1].verdict, MIGBUF_VERDICT_LINK_BUSY);
        ck_assert_int_eq(t[0].verdict, MIGBUF_VERDICT_NOT_ITS_TURN);
        ck_near(t[1].earliest_s, 100);
        ck_near(t[0].earliest_s, 120);
        ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_FIFO, w, 2, t), 0);
        ck_near(t[0].earliest_s, 100);
        ck_near(t[1].earliest_s, 150);
        ck_assert_int_eq(migbuf_buffer_remove(b, 1), 0);
        ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, w, 2, t), 1);
        ck_assert_int_eq(t[1].verdict, MIGBUF_VERDICT_START);
        ck_assert(isinf(t[0].earliest_s)); /* who is gone took its link along, and what was known of it */
        migbuf_buffer_free(b);
    }
}
END_TEST

START_TEST(links_are_apart)
{
    struct migbuf_buffer *b = one_runs(10 * GIB, MIGBUF_POLICY_PLANNER);
    struct migbuf_waiting w[] = { waiting(b, 2, 5 * GB, 0), waiting(b, 3, 2 * GB, 0), waiting(b, 4, 3 * GB, 0) };
    struct migbuf_admission_turn t[3];

    w[0].link = w[2].link = 7;
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, w, 3, t), 1);
    ck_assert_int_eq(t[0].verdict, MIGBUF_VERDICT_LINK_BUSY); /* by the one that starts: its link is not known */
    ck_assert_int_eq(t[1].verdict, MIGBUF_VERDICT_LINK_BUSY);
    ck_assert_int_eq(t[2].verdict, MIGBUF_VERDICT_START);
    ck_assert(isinf(t[0].earliest_s));
    ck_near(t[1].earliest_s, 100);
    migbuf_buffer_free(b);
}
END_TEST

/* The same numbers as migbuf_buffer_add, which would refuse it. */
START_TEST(no_room_is_told_with_when)
{
    struct migbuf_buffer *b = one_runs(8 * MB, MIGBUF_POLICY_PLANNER);
    struct migbuf_geometry g = disk_of(2 * GB);
    struct migbuf_migration m = migration(2, 0);
    struct migbuf_waiting w[3];
    struct migbuf_admission_turn t[3];
    struct migbuf_error e;

    w[0] = waiting(b, 2, 2 * GB, 0);
    w[1] = waiting(b, 3, 3 * GB, 0);
    w[2] = waiting(b, 4, 1 * GB, 0);
    w[0].link = w[1].link = 7;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, &e), MIGBUF_E_NOSPACE);
    ck_assert_uint_eq(e.need, (uint64_t)w[0].need_bytes);
    ck_assert(w[0].reserve_bytes > 0 && w[0].reserve_bytes < w[0].need_bytes);
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, w, 3, t), 0);
    ck_assert_int_eq(t[0].verdict, MIGBUF_VERDICT_NO_ROOM);
    ck_assert_int_eq(t[2].verdict, MIGBUF_VERDICT_LINK_BUSY);
    ck_assert_str_eq(migbuf_verdict_text(t[0].verdict), "the buffer has no room for it now");
    ck_near(t[0].earliest_s, 100);
    ck_near(t[1].earliest_s, INFINITY); /* behind one on a link of which nothing is known */
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(who_has_no_room_is_not_overtaken)
{
    struct migbuf_buffer *b = buffer_of(14 * MB, MIGBUF_POLICY_PLANNER);
    struct migbuf_migration m = migration(1, 0);
    struct migbuf_geometry g = disk_of(10 * GB);
    struct migbuf_waiting w[2];
    struct migbuf_admission_turn t[2];

    m.flow_bytes_per_s = 100 * MB;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 1000 * MB), 0);
    w[0] = waiting(b, 2, 2 * GB, 0);
    w[1] = waiting(b, 3, 3 * GB, 0);
    w[0].flow_bytes_per_s = w[1].flow_bytes_per_s = 100e6;
    w[0].need_bytes = 13e6; /* beside the other there is less, without it enough */
    w[1].need_bytes = 1e6;
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, w, 2, t), 0);
    ck_assert_int_eq(t[0].verdict, MIGBUF_VERDICT_NO_ROOM);
    ck_assert_int_eq(t[1].verdict, MIGBUF_VERDICT_NOT_ITS_TURN);
    ck_near(t[0].earliest_s, 100);
    ck_near(t[1].earliest_s, 100);
    w[0].need_bytes = 15e6;
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, w, 2, t), 0);
    ck_assert(isinf(t[0].earliest_s));
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_FIFO, w + 1, 1, t), 1);
    migbuf_buffer_free(b);
}
END_TEST

/* They count from the head's start: with it the link is full until it is over, 20 s later. */
START_TEST(who_follows_waits_for_room_and_link)
{
    struct migbuf_buffer *b = buffer_of(14 * MB, MIGBUF_POLICY_PLANNER);
    struct migbuf_migration m = migration(1, 0);
    struct migbuf_geometry g = disk_of(10 * GB);
    struct migbuf_waiting w[3];
    struct migbuf_admission_turn t[3];

    m.flow_bytes_per_s = 100 * MB;
    ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 200 * MB), 0);
    for (uint64_t k = 0; k < 3; k++) {
        w[k] = waiting(b, 2 + k, (2 + k) * GB, 0);
        w[k].flow_bytes_per_s = 100e6;
        w[k].need_bytes = k ? 1e6 : 13e6;
    }
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, w, 3, t), 0);
    ck_assert_int_eq(t[0].verdict, MIGBUF_VERDICT_NO_ROOM);
    ck_near(t[0].earliest_s, 100);
    for (int k = 1; k < 3; k++)
        ck_assert_int_eq(t[k].verdict, MIGBUF_VERDICT_NOT_ITS_TURN);
    ck_near(t[1].earliest_s, 120);
    ck_near(t[2].earliest_s, 150);
    migbuf_buffer_free(b);
}
END_TEST

/* Two run: 1 is over after 100 s, 2 after 200 s; each leaves about 5 MB. What one is promised the next cannot have. */
START_TEST(the_same_room_is_promised_once)
{
    struct migbuf_buffer *b = buffer_of(22 * MB, MIGBUF_POLICY_PLANNER);
    struct migbuf_geometry g[] = { disk_of(10 * GB), disk_of(20 * GB) };
    struct migbuf_waiting w[4];
    struct migbuf_admission_turn t[4];
    double held, free_bytes;

    for (uint64_t k = 0; k < 2; k++) {
        struct migbuf_migration m = migration(1 + k, 0);

        m.link = k;
        ck_assert_int_eq(migbuf_buffer_add(b, &m, &g[k], 1, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, k, 100 * MB), 0);
    }
    for (uint64_t k = 0; k < 4; k++) {
        w[k] = waiting(b, 3 + k, 1 * GB, 0);
        w[k].link = 7 + k;
    }
    held = w[0].need_bytes; /* what each of the two has */
    free_bytes = 22e6 - 2 * held;
    w[0].need_bytes = w[1].need_bytes = free_bytes / 2 + 0.45 * held;
    w[2].need_bytes = 22e6;
    w[3].need_bytes = 0.9 * held;
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_FIFO, w, 4, t), 1);
    ck_assert_int_eq(t[0].verdict, MIGBUF_VERDICT_START);
    ck_assert_int_eq(t[1].verdict, MIGBUF_VERDICT_NO_ROOM);
    ck_assert_int_eq(t[3].verdict, MIGBUF_VERDICT_NO_ROOM);
    ck_near(t[1].earliest_s, 100);
    ck_near(t[2].earliest_s, INFINITY); /* all of Ω, and one starts now */
    ck_near(t[3].earliest_s, 200);      /* alone it would be 100, too */
    migbuf_buffer_free(b);
}
END_TEST

/* When one is over on a link that is not known, nobody knows. */
START_TEST(room_of_an_unknown_link_is_promised_to_nobody)
{
    struct migbuf_buffer *b = buffer_of(8 * MB, MIGBUF_POLICY_PLANNER);
    struct migbuf_waiting w;
    struct migbuf_admission_turn t;

    ck_assert_int_eq(add(b, 1, 10 * GB, 0), 0);
    w = waiting(b, 2, 1 * GB, 0);
    w.link = 7;
    w.need_bytes = 8e6;
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, &w, 1, &t), 0);
    ck_assert_int_eq(t.verdict, MIGBUF_VERDICT_NO_ROOM);
    ck_assert(isinf(t.earliest_s)); /* not 10 GB / 100 kB/s */
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * MB), 0);
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, &w, 1, &t), 0);
    ck_near(t.earliest_s, 100);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(outlook_of_one_that_runs)
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_buffer *b = one_runs(10 * GIB, MIGBUF_POLICY_PLANNER);
    struct migbuf_sample s = { .id = 1, .file_bytes = 50 * MB, .remaining_bytes = 5 * GB };

    ck_assert_int_eq(migbuf_outlook_running(b, 1, &o), 0);
    ck_near(o.finish_s, 100);
    ck_near(o.peak_bytes, 0);
    ck_near(o.delivered, 1);
    ck_near(o.finish_least_s, 84);
    ck_near(o.finish_most_s, 115);
    ck_near(o.peak_least_bytes, 0);
    ck_near(o.peak_most_bytes, 0.02 * 10 * GIB);
    ck_assert_int_eq(migbuf_buffer_sample(b, 0, &s, 1), 0);
    ck_assert_int_eq(migbuf_outlook_running(b, 1, &o), 0);
    ck_near(o.finish_s, 50.5); /* the file has to be sent, too */
    ck_near(o.peak_bytes, 50e6);
    ck_assert_int_eq(add(b, 2, 10 * GB, 5 * MB), 0);
    ck_assert_int_eq(migbuf_outlook_running(b, 1, &o), 0);
    ck_near(o.finish_s, 101); /* half of the link */
    ck_assert_int_eq(migbuf_outlook_running(b, 2, &o), 0);
    ck_assert(o.finish_s > 150 && o.finish_s < 170 && o.peak_bytes > 0.5e9 && o.peak_bytes < 1e9);
    ck_assert_int_eq(o.mirror, 0);
    migbuf_buffer_free(b);
}
END_TEST

/* One link of 100 MB/s, 100 GB to send, 20 MB/s on new ground: the file would need 20 GB, and there are 2. */
START_TEST(a_mirror_for_who_cannot_fit)
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_outlook_mirror m = { .size = sizeof m };
    struct migbuf_buffer *b = one_runs(2 * GB, MIGBUF_POLICY_PLANNER);
    struct migbuf_waiting w = waiting(b, 2, 100 * GB, 20 * MB);

    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 100, &o), 0);
    ck_near(o.start_s, 100);
    ck_assert(o.finish_s > 1100 && o.finish_s < 1130); /* held back: without that 20 GB more to send */
    ck_assert(o.peak_bytes > 1.5e9 && o.peak_most_bytes <= 2e9);
    ck_assert(o.delivered < 0.25);
    ck_near(o.mirror_delivered, 100e6 * 65536 / (65536 + 16777216) / 20e6); /* nothing is known of it */
    ck_assert_int_eq(o.mirror, 0);
    ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 100, &m, &o), 0); /* nor here */
    ck_near(o.mirror_delivered, 100e6 * 65536 / (65536 + 16777216) / 20e6);
    m.buffer_bytes = 65536;
    ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 100, &m, &o), 0);
    ck_near(o.mirror_delivered, 1);
    ck_assert_int_eq(o.mirror, 1);
    m = (struct migbuf_outlook_mirror){ .size = sizeof m, .background = 1 };
    ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 100, &m, &o), 0);
    ck_near(o.mirror_delivered, 1);
    ck_assert_int_eq(o.mirror, 1);
    w = waiting(b, 2, 100 * GB, 1 * MB); /* 1 GB of 2 */
    ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 100, &m, &o), 0);
    ck_near(o.delivered, 1);
    ck_assert_int_eq(o.mirror, 0);
    ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, INFINITY, &m, &o), 0);
    ck_assert(isinf(o.finish_s) && isfinite(o.peak_bytes));
    migbuf_buffer_free(b);
}
END_TEST

/* A link of 24 MB/s as it was measured (tests/README.md, "A guest under a mirror"), and one of 100. */
START_TEST(a_mirror_as_it_is_set)
{
    static const struct {
        double rate, plain, buffer, granule, speed, request, depth;
        int background;
        double flow, gets; /* bytes/s; gets: at most what it writes */
    } c[] = {
        { 960e6, 60e6, 0, 0, 0, 0, 4, 0, 24e6, 24e6 * 16384 / (16384 + 16777216) },
        { 960e6, 60e6, 65536, 0, 0, 0, 4, 0, 24e6, 4.8e6 },
        { 960e6, 60e6, 65536, 4096, 0, 0, 32, 0, 24e6, 16e6 },
        { 960e6, 60e6, 4096, 0, 0, 0, 4, 0, 24e6, 4.8e6 }, /* never less than a granule */
        { 60e6, 60e6, 1e12, 0, 0, 0, 4, 0, 24e6, 24e6 * 262144 / (262144 + 1e12) }, /* its operations become that large */
        { 60e6, 60e6, 65536, 0, 0, 1048576, 4, 0, 24e6, 24e6 * 4194304 / (4194304 + 65536) },
        { 960e6, 60e6, 65536, 0, 12e6, 0, 4, 0, 24e6, 12e6 }, /* paced: the rest is the guest's */
        { 960e6, 60e6, 65536, 0, 48e6, 0, 4, 0, 24e6, 4.8e6 },
        { 20e6, 20e6, 0, 0, 0, 0, 1, 1, 24e6, 20e6 },
        { 38.4e6, 2.4e6, 0, 4096, 0, 0, 1, 1, 24e6, 2.4e6 },
        /* 38.4 MB/s dirty: 100 GB at all it wants, then 100 GB of the link's time at 12 of 38.4 */
        { 38.4e6, 2.4e6, 0, 65536, 0, 0, 1, 1, 24e6, 2.4e6 * (100 + 100 * 12 / 38.4) / 200 },
    };
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_buffer *b = one_runs(2 * GB, MIGBUF_POLICY_PLANNER);

    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        struct migbuf_outlook_mirror m = { .size = sizeof m, .buffer_bytes = c[k].buffer, .granularity_bytes = c[k].granule,
                                           .speed_bytes_per_s = c[k].speed, .request_bytes = c[k].request,
                                           .depth = c[k].depth, .background = c[k].background };
        struct migbuf_waiting w = waiting(b, 2, 100 * GB, 1 * MB);

        w.rate = c[k].rate, w.write_bytes_per_s = c[k].plain, w.flow_bytes_per_s = c[k].flow;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 100, &m, &o), 0);
        ck_near(o.mirror_delivered, c[k].gets / c[k].plain);
    }
    {
        struct migbuf_outlook_mirror m = { .size = sizeof m, .granularity_bytes = 65536, .background = 1 };
        struct migbuf_waiting w = waiting(b, 2, 100 * GB, 1 * MB);

        w.rate = 160e6, w.write_bytes_per_s = 10e6;
        w.weight = 300; /* of 400, while the other runs: 75 MB/s of 160 that get dirty */
        w.whole_bytes = 50e9;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), 0);
        ck_near(o.mirror_delivered, (100 + 25 * 75 / 160.0) / 150);
        m.depth = -1;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), MIGBUF_E_RANGE);
        m.depth = NAN;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), MIGBUF_E_INVALID);
        m.depth = 1, m.background = 2;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), MIGBUF_E_INVALID);
        m.background = 1, m.reserved = 1;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), MIGBUF_E_INVALID);
        m.reserved = 0, m.background = 1, w.link = 7; /* nobody uses it */
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), 0);
        ck_assert(isinf(o.finish_s));
        m.link_bytes_per_s = 200e6;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), 0);
        ck_near(o.mirror_delivered, 1);
        ck_assert(o.delivered < 0.1 && o.mirror == 1 && o.finish_s > 500 && o.finish_s < 520);
        w.flow_bytes_per_s = 100e6;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), 0);
        ck_assert(o.finish_s > 1000 && o.finish_s < 1130);
        ck_near(o.mirror_delivered, (100 + 25 * 100 / 160.0) / 150);
        w.flow_bytes_per_s = INFINITY;
        w.link = 0; /* and this one the buffer knows */
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), 0);
        m.size = 8;
        ck_assert_int_eq(migbuf_outlook_mirrored(b, &w, 0, &m, &o), MIGBUF_E_STRUCT);
        ck_near(o.mirror_delivered, (100 + 25 * 75 / 160.0) / 150); /* untouched */
    }
    migbuf_buffer_free(b);
}
END_TEST

/* What the migration is counts as in the buffer: its weight, and the files it brings. */
START_TEST(outlook_of_one_with_weight_and_files)
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_buffer *b = one_runs(10 * GIB, MIGBUF_POLICY_PLANNER);
    struct migbuf_migration m = migration(2, 0);
    struct migbuf_geometry g = disk_of(10 * GB);
    struct migbuf_waiting w;

    m.weight = 300;
    ck_assert_int_eq(migbuf_admission_waiting(b, &m, &g, 1, &w), 0);
    ck_assert_uint_eq(w.weight, 300);
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 0, &o), 0);
    ck_near(o.finish_s, 400.0 / 3); /* three quarters of the link */
    m.file_bytes = 1 * GB;
    ck_assert_int_eq(migbuf_admission_waiting(b, &m, &g, 1, &w), 0);
    ck_near(w.file_bytes, 1e9);
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 100, &o), 0);
    ck_near(o.finish_s, 210);
    ck_near(o.peak_bytes, 1e9);
    ck_near(o.peak_least_bytes, 1e9);
    w.rate = 80e6; /* whatever it writes */
    w.whole_bytes = 2e9;
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 100, &o), 0);
    ck_assert(o.peak_bytes > 1.99e9 && o.peak_bytes <= 2e9);
    ck_near(o.peak_most_bytes, 2e9);
    w.weight = 0;
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 100, &o), MIGBUF_E_RANGE);
    w.weight = 1, w.reserved = 1;
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 100, &o), MIGBUF_E_INVALID);
    migbuf_buffer_free(b);
}
END_TEST

/* The start is a forecast, too, and may come earlier or later: the bars are around all of it. */
START_TEST(bars_are_around_the_whole)
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_buffer *b = one_runs(10 * GIB, MIGBUF_POLICY_PLANNER);
    struct migbuf_waiting w = waiting(b, 2, 10 * GB, 0);

    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 1000, &o), 0);
    ck_near(o.finish_s, 1100);
    ck_near(o.finish_least_s, 934);
    ck_near(o.finish_most_s, 1215);
    w.link = 7; /* nobody knows it */
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 1000, &o), 0);
    ck_assert(isinf(o.finish_s) && isinf(o.finish_most_s));
    ck_near(o.finish_least_s, 849);
    migbuf_buffer_free(b);
}
END_TEST

/* When the first is over its reserve is not free as long as the second's does not fit either: 8 GB - 5 GB, not 5. */
START_TEST(reserves_of_those_who_remain)
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_buffer *b = buffer_of(8 * GB, MIGBUF_POLICY_LITERAL);
    struct migbuf_waiting w;

    for (uint64_t k = 0; k < 2; k++) {
        struct migbuf_geometry g = disk_of((1 + k) * 10 * GB);
        struct migbuf_migration m = migration(1 + k, 0);

        g.queue_bytes = 1 * GB;
        m.link = k;
        ck_assert_int_eq(migbuf_buffer_add(b, &m, &g, 1, NULL), 0);
        ck_assert_int_eq(migbuf_buffer_link(b, k, 100 * MB), 0);
    }
    w = waiting(b, 3, 100 * GB, 80 * MB);
    w.reserve_bytes = 0;
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 100, &o), 0);
    ck_assert_msg(o.peak_bytes > 2.5e9 && o.peak_bytes < 3.8e9, "peak %.9g", o.peak_bytes);
    migbuf_buffer_free(b);
}
END_TEST

/* After 160 of 239 s 4.7 GB of its disk's 10 are in the file: 5.3 can follow, and half as fast, for the other half
 * would be rewrites. With another 10 to follow the one that starts then would be over after 878 s. */
START_TEST(files_do_not_outgrow_their_disks)
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_buffer *b = buffer_of(200 * GB, MIGBUF_POLICY_PLANNER);
    struct migbuf_waiting w;

    ck_assert_int_eq(add(b, 1, 10 * GB, 50 * MB), 0);
    ck_assert_int_eq(migbuf_buffer_link(b, 0, 100 * MB), 0);
    ck_assert_int_eq(migbuf_outlook_running(b, 1, &o), 0);
    ck_assert_msg(o.finish_s > 239 && o.finish_s < 240, "finish %.9g", o.finish_s);
    w = waiting(b, 2, 40 * GB, 0);
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 160, &o), 0);
    ck_assert_msg(o.finish_s > 775 && o.finish_s < 785, "finish %.9g", o.finish_s);
    migbuf_buffer_free(b);
}
END_TEST

/* Nothing that is taken becomes a number that is none. */
START_TEST(extremes)
{
    static const double some[] = { 0, 4.9e-324, 1, 1e18, 4e18, 5e18, 1e305, 1.7e308, INFINITY };
    const size_t n = sizeof some / sizeof *some;
    struct migbuf_buffer *b = one_runs(10 * GIB, MIGBUF_POLICY_PLANNER);
    unsigned rounds = 20000, taken = 0;
    uint64_t random = 1;

    for (unsigned k = 0; k < rounds; k++) {
        struct migbuf_outlook o = { .size = sizeof o };
        struct migbuf_waiting w = waiting(b, 2, 100 * GB, 20 * MB);
        double *field[] = { &w.flow_bytes_per_s, &w.disk_bytes, &w.file_bytes, &w.whole_bytes,      &w.need_bytes,
                            &w.reserve_bytes,    &w.unit_bytes, &w.rate,       &w.write_bytes_per_s };
        struct migbuf_admission_turn t;
        double start_s = 0;

        for (size_t f = 0; f < sizeof field / sizeof *field + 1; f++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            if (random >> 62) /* three of four stay */
                continue;
            *(f < sizeof field / sizeof *field ? field[f] : &start_s) = some[(random >> 40) % n];
        }
        if (migbuf_outlook_waiting(b, &w, start_s, &o) == 0) {
            const double told[] = { o.start_s,    o.finish_s,         o.finish_least_s,  o.finish_most_s,
                                    o.peak_bytes, o.peak_least_bytes, o.peak_most_bytes, o.delivered,
                                    o.mirror_delivered };

            taken++;
            for (size_t i = 0; i < sizeof told / sizeof *told; i++)
                ck_assert_msg(told[i] >= 0, "number %zu is %g", i, told[i]);
            ck_assert(o.delivered <= 1 && o.mirror_delivered <= 1 && o.finish_least_s <= o.finish_most_s);
        }
        if (migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, &w, 1, &t) >= 0)
            ck_assert(t.earliest_s >= 0);
    }
    ck_assert_uint_gt(taken, rounds / 20);
    migbuf_buffer_free(b);
}
END_TEST

START_TEST(asking_changes_nothing)
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_buffer *b = one_runs(10 * GIB, MIGBUF_POLICY_PLANNER);
    struct migbuf_waiting w = waiting(b, 2, 100 * GB, 20 * MB);
    struct migbuf_admission_turn t = { .id = 42 };
    struct migbuf_migration m = migration(2, 0);
    struct migbuf_geometry g = disk_of(10 * GB);
    struct migbuf_decision d;
    char before[4096], after[4096];
    size_t length;

    ck_assert_int_eq(migbuf_buffer_tick(b, 1000, &d, 1), 1);
    ck_assert_int_eq(migbuf_buffer_save(b, before, sizeof before, &length), 0);
    ck_assert_int_eq(migbuf_admission_turns(b, MIGBUF_ADMISSION_FIFO, &w, 1, &t), 0);
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 1, &o), 0);
    ck_assert_int_eq(migbuf_outlook_running(b, 1, &o), 0);
    t.id = 42, o.finish_s = 42;
    ck_assert_int_eq(migbuf_admission_turns(b, 3, &w, 1, &t), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_admission_turns(NULL, 1, &w, 1, &t), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_admission_turns(b, 1, NULL, 1, &t), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_admission_turns(b, 1, NULL, 0, NULL), 0);
    ck_assert_int_eq(migbuf_admission_turns(b, 1, &w, (UINT64_C(1) << 30) + 1, &t), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_outlook_running(b, 9, &o), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, -1, &o), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, NAN, &o), MIGBUF_E_INVALID);
    w.rate = NAN;
    ck_assert_int_eq(migbuf_admission_turns(b, 1, &w, 1, &t), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 1, &o), MIGBUF_E_INVALID);
    w.rate = -1;
    ck_assert_int_eq(migbuf_admission_turns(b, 1, &w, 1, &t), MIGBUF_E_RANGE);
    w.rate = 1, w.unit_bytes = 0;
    ck_assert_int_eq(migbuf_admission_turns(b, 1, &w, 1, &t), MIGBUF_E_RANGE);
    w.unit_bytes = 5e18; /* above 2^62 */
    ck_assert_int_eq(migbuf_outlook_waiting(b, &w, 1, &o), MIGBUF_E_RANGE);
    o.size = 8;
    ck_assert_int_eq(migbuf_outlook_running(b, 1, &o), MIGBUF_E_STRUCT);
    g.cluster_bytes = 3;
    w.id = 42;
    ck_assert_int_lt(migbuf_admission_waiting(b, &m, &g, 1, &w), 0);
    m.weight = 0;
    ck_assert_int_eq(migbuf_admission_waiting(b, &m, &g, 1, &w), MIGBUF_E_RANGE);
    ck_assert_uint_eq(t.id, 42);
    ck_assert_uint_eq(w.id, 42);
    ck_near(o.finish_s, 42);
    ck_assert_int_eq(migbuf_buffer_save(b, after, sizeof after, &length), 0);
    ck_assert_str_eq(before, after);
    migbuf_buffer_free(b);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { the_header_s_example,
                                   links_are_apart,
                                   no_room_is_told_with_when,
                                   who_has_no_room_is_not_overtaken,
                                   who_follows_waits_for_room_and_link,
                                   the_same_room_is_promised_once,
                                   room_of_an_unknown_link_is_promised_to_nobody,
                                   outlook_of_one_that_runs,
                                   a_mirror_for_who_cannot_fit,
                                   a_mirror_as_it_is_set,
                                   outlook_of_one_with_weight_and_files,
                                   bars_are_around_the_whole,
                                   reserves_of_those_who_remain,
                                   files_do_not_outgrow_their_disks,
                                   extremes,
                                   asking_changes_nothing,
                                   NULL };

    return unit_run("admission", tests, 60);
}
