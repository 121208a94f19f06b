/* SPDX-License-Identifier: MIT */
/* What is promised of pre-copy: the worked examples of the header and the cases computed by another program. MB are 1e6 bytes. */
#include "unit.h"
#include "migbuf/convergence.h"
#include <stdint.h>
#include <string.h>

#define MB 1e6
#define B 117e6

static struct migbuf_convergence guest(double left, double set, double rate)
{
    struct migbuf_convergence c;

    ck_assert_int_eq(migbuf_convergence_init(&c, sizeof c), 0);
    c.left_bytes = left;
    c.set_bytes = set;
    c.rate_bytes_per_s = rate;
    c.link_bytes_per_s = B;
    return c;
}

static struct migbuf_agreement agreed(void)
{
    struct migbuf_agreement a;

    ck_assert_int_eq(migbuf_agreement_init(&a, sizeof a), 0);
    return a;
}

/* The table at the top of the header, read backwards: each round tells what the guest is. */
START_TEST(rounds_tell_what_the_table_says)
{
    const double rounds[3][6] = { { 4000, 2400, 1440, 864, 518.4, 311.04 }, { 4000, 495.885, 224.244, 117.988, 66.009, 38.05 },
                                  { 4000, 500.0, 432.332, 411.276, 403.475, 400.45 } };
    const double set[3] = { INFINITY, 500, 500 }, rate[3] = { 60, 60, 200 };
    double w, r;

    for (int k = 0; k < 3; k++)
        for (int i = 1; i < 3; i++) {
            const double *n = rounds[k];

            ck_assert_int_eq(migbuf_convergence_estimate(n[0] / 100, n[1], n[i] / 100, n[i + 1], &w, &r), 0);
            ck_assert_msg(w == set[k] || fabs(w - set[k]) < 0.01 * set[k], "row %d round %d: W %g", k, i + 1, w);
            ck_assert_msg(fabs(r - rate[k]) < 0.01 * rate[k], "row %d round %d: r %g", k, i + 1, r);
        }
}
END_TEST

START_TEST(what_is_dirty_again_in_every_round)
{
    const double in[8] = { 0.5, 1, 1.1, 1.2, 1.5, 2, 3, 10 };
    const double out[8] = { 0, 0, 0.176134144, 0.313698331, 0.582811644, 0.796812130, 0.940479791, 0.999954579 };
    double f = -1;

    for (int k = 0; k < 8; k++) {
        ck_assert_int_eq(migbuf_convergence_stationary(in[k], &f), 0);
        ck_assert_double_eq_tol(f, out[k], 1e-9);
    }
    ck_assert_int_eq(migbuf_convergence_stationary(INFINITY, &f), 0);
    ck_assert_double_eq_tol(f, 1, 1e-9);
    f = 7;
    ck_assert_int_eq(migbuf_convergence_stationary(-0.1, &f), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_convergence_stationary(NAN, &f), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_convergence_stationary(1, NULL), MIGBUF_E_INVALID);
    ck_assert(f == 7);
}
END_TEST

START_TEST(two_spans_tell_the_working_set)
{
    const double in[5][4] = { { 1, 90e6, 10, 400e6 }, { 2, 100e6, 20, 100e6 }, { 1, 50e6, 10, 500e6 },
                              { 3.2, 33.5e6, 7.6, 33.5e6 }, { 5, 200e6, 40, 600e6 } };
    const double set[5] = { 447313695, 100000000, INFINITY, 33503124, 629579807 };
    const double rate[5] = { 100487247, 195601150, 50000000, 40910080, 48130757 };
    double w, r;

    for (int k = 0; k < 5; k++)
        for (int turned = 0; turned < 2; turned++) {
            const double *x = in[k];

            ck_assert_int_eq(turned ? migbuf_convergence_estimate(x[2], x[3], x[0], x[1], &w, &r)
                                    : migbuf_convergence_estimate(x[0], x[1], x[2], x[3], &w, &r), 0);
            ck_assert(w == set[k] || fabs(w - set[k]) < 1);
            ck_assert_double_eq_tol(r, rate[k], 1);
        }
    ck_assert_int_eq(migbuf_convergence_estimate(1, 5, 10, 0, &w, &r), 0); /* it has stopped writing */
    ck_assert(isinf(w) && r == 0);
    w = r = 7;
    ck_assert_int_eq(migbuf_convergence_estimate(0, 1, 1, 1, &w, &r), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_convergence_estimate(1, 1, -1, 1, &w, &r), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_convergence_estimate(1, -1, 1, 1, &w, &r), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_convergence_estimate(1, 1, 2, INFINITY, &w, &r), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_convergence_estimate(1, NAN, 2, 1, &w, &r), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_convergence_estimate(1, 1, 2, 1, NULL, &r), MIGBUF_E_INVALID);
    ck_assert(w == 7 && r == 7);
}
END_TEST

START_TEST(the_shortest_stop)
{
    const double in[6][4] = { { 1e9, 80e6, 0, 1 }, { 1e9, 200e6, 0, 1 }, { 64e6, 200e6, 0, 1 }, { 64e6, 200e6, 50, 1 },
                              { INFINITY, 200e6, 0, 1 }, { 1e9, 200e6, 0, 0.2 } };
    const double out[6] = { 50, 5993.384, 430.377, 50, INFINITY, 50 };
    double ms;

    for (int k = 0; k < 6; k++) {
        struct migbuf_convergence c = guest(0, in[k][0], in[k][1]);

        c.throttle_percent = in[k][2];
        c.encoding = in[k][3];
        ck_assert_int_eq(migbuf_convergence_least(&c, &ms), 0);
        ck_assert_msg(ms == out[k] || fabs(ms - out[k]) < 0.001, "case %d: %f", k, ms);
    }
}
END_TEST

START_TEST(the_throttle_that_is_needed)
{
    const double in[6][4] = { { 1e9, 200e6, 1, 500 }, { 1e9, 800e6, 1, 500 }, { 64e6, 200e6, 1, 500 },
                              { INFINITY, 200e6, 1, 500 }, { 1e9, 200e6, 0.5, 500 }, { 1e9, 100e6, 1, 300 } };
    const uint32_t out[6] = { 40, 85, 0, 42, 0, 0 };
    struct migbuf_convergence c = guest(0, INFINITY, 1e12);
    uint32_t percent;

    ck_assert_int_eq(migbuf_convergence_throttle(&c, 500, &percent), 0);
    ck_assert_uint_eq(percent, 101); /* QEMU's 99 % would leave 85 times the link */
    for (int k = 0; k < 6; k++) {
        c = guest(0, in[k][0], in[k][1]);
        c.encoding = in[k][2];
        ck_assert_int_eq(migbuf_convergence_throttle(&c, in[k][3], &percent), 0);
        ck_assert_uint_eq(percent, out[k]);
        if (percent) { /* it is enough, and one less is not */
            double ms;

            c.throttle_percent = percent;
            ck_assert_int_eq(migbuf_convergence_least(&c, &ms), 0);
            ck_assert(ms <= in[k][3]);
            c.throttle_percent = percent - 1;
            ck_assert_int_eq(migbuf_convergence_least(&c, &ms), 0);
            ck_assert(ms > in[k][3]);
        }
    }
    percent = 7;
    ck_assert_int_eq(migbuf_convergence_throttle(&c, -1, &percent), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_convergence_throttle(&c, NAN, &percent), MIGBUF_E_INVALID);
    ck_assert_uint_eq(percent, 7);
    ck_assert_int_eq(migbuf_convergence_throttle(&c, 10, &percent), 0); /* less than fix: as if nothing could be left */
}
END_TEST

START_TEST(when_it_will_be_over)
{
    const double in[5][5] = { { 4e9, INFINITY, 58.5e6, 0, 300 }, { 4e9, 1e9, 80e6, 0, 300 }, { 4e9, 1e9, 200e6, 0, 500 },
                              { 4e9, 1e9, 200e6, 60, 500 }, { 20e6, INFINITY, 0, 0, 300 } };
    const double out[5][2] = { { 68.118, 350 }, { 51.501, 350 }, { INFINITY, INFINITY }, { 50.598, 550 }, { 0.221, 220.940 } };
    double s, ms;

    for (int k = 0; k < 5; k++) {
        struct migbuf_convergence c = guest(in[k][0], in[k][1], in[k][2]);

        c.throttle_percent = in[k][3];
        ck_assert_int_eq(migbuf_convergence_finish(&c, in[k][4], &s, &ms), 0);
        ck_assert_msg(s == out[k][0] || fabs(s - out[k][0]) < 0.001, "case %d: %f s", k, s);
        ck_assert_msg(ms == out[k][1] || fabs(ms - out[k][1]) < 0.001, "case %d: %f ms", k, ms);
    }
}
END_TEST

static void bad_convergence(void (*break_it)(struct migbuf_convergence *, double), double x, int expected)
{
    struct migbuf_convergence c = guest(4e9, 1e9, 80e6);
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_decision d = { .action = 77 };
    struct migbuf_ram_forecast f = { .size = sizeof f, .verdict = 77 };
    double s = 77, ms = 77;
    uint32_t percent = 77;

    break_it(&c, x);
    ck_assert_int_eq(migbuf_convergence_least(&c, &ms), expected);
    ck_assert_int_eq(migbuf_convergence_throttle(&c, 500, &percent), expected);
    ck_assert_int_eq(migbuf_convergence_finish(&c, 500, &s, &ms), expected);
    ck_assert_int_eq(migbuf_convergence_decide(&c, &a, &d), expected);
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), expected);
    ck_assert(s == 77 && ms == 77 && percent == 77 && d.action == 77 && f.verdict == 77);
}

#define BREAKS(field)                                                                                                   \
    static void break_##field(struct migbuf_convergence *c, double x)                                                   \
    {                                                                                                                   \
        c->field = x;                                                                                                   \
    }
BREAKS(ram_bytes)
BREAKS(left_bytes)
BREAKS(exact_bytes)
BREAKS(set_bytes)
BREAKS(rate_bytes_per_s)
BREAKS(link_bytes_per_s)
BREAKS(encoding)
BREAKS(fix_ms)
BREAKS(throttle_percent)
BREAKS(asked_percent)
BREAKS(limit_ms)
BREAKS(elapsed_s)

START_TEST(what_makes_no_sense_changes_nothing)
{
    void (*const all[])(struct migbuf_convergence *, double) = {
        break_ram_bytes, break_left_bytes, break_exact_bytes, break_set_bytes, break_rate_bytes_per_s, break_link_bytes_per_s,
        break_encoding, break_fix_ms, break_throttle_percent, break_asked_percent, break_limit_ms, break_elapsed_s };
    struct migbuf_convergence c = guest(4e9, 1e9, 80e6);
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_decision d = { .action = 77 };

    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        bad_convergence(all[k], NAN, MIGBUF_E_INVALID);
        bad_convergence(all[k], -1, MIGBUF_E_RANGE);
        if (all[k] != break_set_bytes)
            bad_convergence(all[k], INFINITY, MIGBUF_E_RANGE);
    }
    bad_convergence(break_link_bytes_per_s, 0, MIGBUF_E_RANGE);
    bad_convergence(break_encoding, 0, MIGBUF_E_RANGE);
    bad_convergence(break_throttle_percent, 100, MIGBUF_E_RANGE);
    bad_convergence(break_limit_ms, 2000001, MIGBUF_E_RANGE);

    ck_assert_int_eq(migbuf_convergence_decide(NULL, &a, &d), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_convergence_decide(&c, NULL, &d), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_convergence_decide(&c, &a, NULL), MIGBUF_E_INVALID);
    c.size = 8;
    ck_assert_int_eq(migbuf_convergence_decide(&c, &a, &d), MIGBUF_E_STRUCT);
    ck_assert_int_eq(d.action, 77);
    ck_assert_int_eq(migbuf_convergence_init(&c, 8), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_convergence_init(NULL, sizeof c), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(an_agreement_is_checked)
{
    struct migbuf_agreement a = agreed();

    ck_assert(a.want_ms == 100 && a.most_ms == 500 && a.throttle_most_percent == 80 && !a.postcopy && !a.force && !a.deadline_ms);
    ck_assert_int_eq(migbuf_agreement_check(&a), 0);
    ck_assert_int_eq(migbuf_agreement_check(NULL), MIGBUF_E_INVALID);
    a.want_ms = 0;
    ck_assert_int_eq(migbuf_agreement_check(&a), MIGBUF_E_RANGE);
    a.want_ms = 501;
    ck_assert_int_eq(migbuf_agreement_check(&a), MIGBUF_E_INVALID);
    a.most_ms = 2000001;
    ck_assert_int_eq(migbuf_agreement_check(&a), MIGBUF_E_RANGE);
    a = agreed();
    a.throttle_most_percent = 100;
    ck_assert_int_eq(migbuf_agreement_check(&a), MIGBUF_E_RANGE);
    a = agreed();
    a.postcopy = 2;
    ck_assert_int_eq(migbuf_agreement_check(&a), MIGBUF_E_INVALID);
    a = agreed();
    a.force = UINT32_MAX;
    ck_assert_int_eq(migbuf_agreement_check(&a), MIGBUF_E_INVALID);
    a = agreed();
    a.reserved = 1;
    ck_assert_int_eq(migbuf_agreement_check(&a), MIGBUF_E_STRUCT);
}
END_TEST

/* t, deadline s, W, r, N, throttle in force, asked, limit, known, bad before; post-copy, force -> action, value, bad */
struct decision_case {
    double t, deadline, set, rate, left, throttle, asked, limit;
    uint32_t known, bad, postcopy, force;
    int32_t action;
    uint32_t value, bad_after;
};

START_TEST(decisions_of_the_golden_table)
{
    static const struct decision_case cases[] = {
        { 36, 216, INFINITY, 20 * MB, 700 * MB, 0, 0, 100, 1, 0, 0, 0, MIGBUF_RAM_KEEP, 0, 0 },
        { 36, 216, 30 * MB, 200 * MB, 30 * MB, 0, 0, 100, 1, 0, 0, 0, MIGBUF_RAM_DOWNTIME, 206, 0 },
        { 36, 216, 400 * MB, 300 * MB, 380 * MB, 0, 0, 100, 1, 0, 0, 0, MIGBUF_RAM_THROTTLE, 80, 0 },
        { 46, 216, 400 * MB, 300 * MB, 380 * MB, 0, 80, 100, 1, 0, 0, 0, MIGBUF_RAM_WAIT, 0, 0 },
        { 60, 216, 400 * MB, 300 * MB, 380 * MB, 80, 80, 500, 1, 0, 0, 0, MIGBUF_RAM_KEEP, 0, 0 },
        { 60, 216, 4000 * MB, 2000 * MB, 3900 * MB, 0, 0, 100, 1, 0, 1, 0, MIGBUF_RAM_WAIT, 0, 1 },
        { 95, 216, 4000 * MB, 2000 * MB, 3900 * MB, 0, 0, 100, 1, 1, 1, 0, MIGBUF_RAM_POSTCOPY, 0, 2 },
        { 130, 260, 4000 * MB, 2000 * MB, 3900 * MB, 0, 0, 100, 1, 2, 0, 1, MIGBUF_RAM_FORCE, 2000000, 3 },
        { 180, 216, 4000 * MB, 2000 * MB, 3900 * MB, 0, 0, 100, 1, 0, 0, 1, MIGBUF_RAM_FORCE, 2000000, 1 },
        { 160, 216, 4000 * MB, 2000 * MB, 3900 * MB, 0, 0, 100, 1, 3, 0, 0, MIGBUF_RAM_ABORT, 0, 4 },
        { 217, 216, 400 * MB, 300 * MB, 380 * MB, 80, 80, 500, 1, 0, 0, 0, MIGBUF_RAM_ABORT, 0, 1 },
        { 36, 216, INFINITY, 200 * MB, 4000 * MB, 0, 0, 100, 0, 0, 0, 0, MIGBUF_RAM_THROTTLE, 80, 0 },
    };

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const struct decision_case *x = &cases[k];
        struct migbuf_convergence c = guest(x->left, x->set, x->rate);
        struct migbuf_agreement a = agreed();
        struct migbuf_ram_decision d;
        uint32_t value;

        c.elapsed_s = x->t;
        c.throttle_percent = x->throttle;
        c.asked_percent = x->asked;
        c.limit_ms = x->limit;
        c.known = x->known;
        c.bad_rounds = x->bad;
        c.new_round = 1;
        c.rounds = 3;
        a.deadline_ms = (uint64_t)(x->deadline * 1000);
        a.postcopy = x->postcopy;
        a.force = x->force;
        ck_assert_int_eq(migbuf_convergence_decide(&c, &a, &d), 0);
        ck_assert_msg(d.action == x->action, "case %zu: %s, for %s", k, migbuf_ram_action_text(d.action),
                      migbuf_ram_reason_text(d.reason));
        ck_assert_uint_eq(d.bad_rounds, x->bad_after);
        value = d.action == MIGBUF_RAM_THROTTLE                                      ? d.throttle_percent
                : d.action == MIGBUF_RAM_DOWNTIME || d.action == MIGBUF_RAM_FORCE ? d.limit_ms
                                                                                  : 0;
        ck_assert_uint_eq(value, x->value);
        if (d.action == MIGBUF_RAM_THROTTLE)
            ck_assert_uint_eq(d.limit_ms, 500);
    }
}
END_TEST

/* A guest of 4 GB that dirties 2 GB/s. */
static struct migbuf_convergence hog(double t, uint32_t rounds)
{
    struct migbuf_convergence c = guest(3900 * MB, 4000 * MB, 2000 * MB);

    c.elapsed_s = t;
    c.known = c.new_round = 1;
    c.rounds = rounds;
    c.limit_ms = 100;
    return c;
}

static struct migbuf_ram_decision decided(const struct migbuf_convergence *c, const struct migbuf_agreement *a)
{
    struct migbuf_ram_decision d;

    ck_assert_int_eq(migbuf_convergence_decide(c, a, &d), 0);
    return d;
}

START_TEST(nothing_is_decided_before_a_round_has_ended)
{
    struct migbuf_convergence c = hog(36, 0);
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_decision d = decided(&c, &a);

    ck_assert(d.action == MIGBUF_RAM_WAIT && d.reason == MIGBUF_RAM_REASON_UNKNOWN && d.bad_rounds == 0 && d.limit_ms == 100);
    c.rounds = 3;
    c.new_round = 0; /* decided for this round already */
    d = decided(&c, &a);
    ck_assert(d.action == MIGBUF_RAM_WAIT && d.bad_rounds == 0);
}
END_TEST

START_TEST(a_saw_tooth_is_no_stall)
{
    struct migbuf_convergence c = hog(1000, 1);
    struct migbuf_agreement a = agreed();

    c.bad_rounds = 9;
    ck_assert_int_eq(decided(&c, &a).action, MIGBUF_RAM_WAIT); /* late, but one round tells nothing of the next */
    ck_assert_int_eq(decided(&c, &a).reason, MIGBUF_RAM_REASON_LATE);
    c.rounds = 2;
    ck_assert_int_eq(decided(&c, &a).action, MIGBUF_RAM_ABORT);
}
END_TEST

START_TEST(late_ticks_between_rounds_count_no_rounds)
{
    struct migbuf_convergence c = hog(1000, 3);
    struct migbuf_agreement a = agreed();

    a.postcopy = 1;
    c.new_round = 0;
    c.bad_rounds = 1;
    ck_assert_int_eq(decided(&c, &a).action, MIGBUF_RAM_POSTCOPY);
    ck_assert_uint_eq(decided(&c, &a).bad_rounds, 1);
}
END_TEST

START_TEST(a_bad_round_raises_the_limit_as_far_as_agreed)
{
    struct migbuf_convergence c = hog(36, 3);
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_decision d;

    a.throttle_most_percent = 0;
    d = decided(&c, &a);
    ck_assert(d.action == MIGBUF_RAM_WAIT && d.reason == MIGBUF_RAM_REASON_SATURATED && d.bad_rounds == 1);
    ck_assert_uint_eq(d.limit_ms, 500);
}
END_TEST

START_TEST(the_usual_deadline_follows_memory_and_link)
{
    struct migbuf_convergence c = guest(4e9, INFINITY, 58.5e6);
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_forecast f = { .size = sizeof f };

    c.limit_ms = 300;
    c.ram_bytes = 4e9;
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_assert_double_eq_tol(f.deadline_s, 205.128, 0.001);
    c.ram_bytes = 1e9;
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_near(f.deadline_s, 60);
    c.ram_bytes = 0; /* not known: what is left */
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_assert_double_eq_tol(f.deadline_s, 205.128, 0.001);
    a.deadline_ms = 1500;
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_near(f.deadline_s, 1.5);
}
END_TEST

START_TEST(a_forecast_has_bars_and_a_verdict)
{
    struct migbuf_convergence c = guest(4e9, INFINITY, 58.5e6);
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_forecast f = { .size = sizeof f };

    c.limit_ms = 300;
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_assert_double_eq_tol(f.end_s, 68.118, 0.001);
    ck_assert_double_eq_tol(f.end_least_s, 61.306, 0.001);
    ck_assert_double_eq_tol(f.end_most_s, 88.553, 0.001);
    ck_assert_double_eq_tol(f.downtime_ms, 350, 0.001);
    ck_assert_double_eq_tol(f.downtime_most_ms, 550, 0.001);
    ck_assert_double_eq_tol(f.lost_s, 0.35, 0.001);
    ck_assert_double_eq_tol(f.sent_bytes, 68.118 * B, 0.001 * B);
    ck_assert_int_eq(f.verdict, MIGBUF_RAM_YES);

    c = hog(36, 3);
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_assert(isinf(f.end_s) && f.verdict == MIGBUF_RAM_NO);
    c.throttle_percent = 5e-324; /* the least there is: of a time without end it loses as much */
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_assert(isinf(f.lost_s));
    c.throttle_percent = 0;
    c.known = 0; /* one span: nobody can say no */
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_assert_int_eq(f.verdict, MIGBUF_RAM_UNKNOWN);
    c = guest(380 * MB, 400 * MB, 300 * MB); /* a throttle of 80 % would do */
    c.known = 1;
    c.limit_ms = 100;
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_assert_int_eq(f.verdict, MIGBUF_RAM_UNKNOWN);
    c = hog(36, 3);
    a.force = 1;
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), 0);
    ck_assert_double_eq_tol(f.downtime_most_ms, 3900 / 117. * 1000 + 50, 0.01);
    f.size = 8;
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, &f), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_convergence_forecast(&c, &a, NULL), MIGBUF_E_INVALID);
}
END_TEST

/* Rounds */

static struct migbuf_ram_report seen(uint64_t sync, uint64_t dirty_pages_per_s, uint64_t sent)
{
    return (struct migbuf_ram_report){ .phase = MIGBUF_RAM_PHASE_ACTIVE, .has_ram = 1, .page_bytes = 4096, .sync_count = sync,
                                       .dirty_pages_per_s = dirty_pages_per_s, .ram_transferred_bytes = sent };
}

static int update(struct migbuf_rounds *x, uint64_t now_ms, uint64_t sync, uint64_t rate, uint64_t sent)
{
    struct migbuf_ram_report r = seen(sync, rate, sent);

    return migbuf_rounds_update(x, now_ms, &r);
}

START_TEST(rounds_are_counted_from_syncs)
{
    struct migbuf_rounds x = { .count = 0 };

    ck_assert_int_eq(update(&x, 0, 1, 0, 100), 0);
    ck_assert_int_eq(update(&x, 2500, 1, 0, 5000), 0);
    ck_assert_int_eq(update(&x, 5000, 2, 2000, 10100), 1);
    ck_assert_int_eq(update(&x, 8850, 3, 4081, 30100), 1);
    ck_assert_uint_eq(x.count, 2);
    ck_assert_uint_eq(x.finished, 2);
    ck_near(x.round[0].span_s, 5);
    ck_near(x.round[0].dirty_bytes, 2000 * 4096. * 5);
    ck_near(x.round[0].sent_bytes, 10100);
    ck_assert_double_eq_tol(x.round[1].span_s, 3.85, 1e-12);
    ck_assert_double_eq_tol(x.round[1].dirty_bytes, 64355737.6, 0.01);
    ck_near(x.round[1].sent_bytes, 20000);
    ck_near(x.round[1].encoding, 1);
    for (uint64_t k = 0; k < 10; k++)
        ck_assert_int_eq(update(&x, 10000 + 2000 * k, 4 + k, 10 * k, 40000), 1);
    ck_assert_uint_eq(x.count, MIGBUF_ROUNDS);
    ck_assert_uint_eq(x.finished, 12);
    ck_assert_double_eq_tol(x.round[0].dirty_bytes, 40 * 4096. * 2, 1e-6); /* the sixth from the end */
}
END_TEST

/* The first answer comes some time after the first sync. */
START_TEST(the_first_round_begins_with_the_sending)
{
    struct migbuf_rounds x = { .count = 0 };
    struct migbuf_ram_report r = seen(1, 0, 500);

    r.total_ms = 305;
    r.setup_ms = 5;
    ck_assert_int_eq(migbuf_rounds_update(&x, 10300, &r), 0);
    r.sync_count = 2;
    ck_assert_int_eq(migbuf_rounds_update(&x, 15000, &r), 1);
    ck_near(x.round[0].span_s, 5);
}
END_TEST

START_TEST(a_sync_within_a_second_is_merged_into_the_next)
{
    struct migbuf_rounds x = { .count = 0 };

    update(&x, 0, 1, 0, 0);
    ck_assert_int_eq(update(&x, 5000, 2, 1000, 1000), 1);
    ck_assert_int_eq(update(&x, 5400, 3, 1000, 2000), 0); /* QEMU still says the rate of before */
    ck_assert_int_eq(update(&x, 5900, 4, 1000, 3000), 0);
    ck_assert_int_eq(update(&x, 6500, 5, 700, 4000), 1);
    ck_near(x.round[1].span_s, 1.5);
    ck_assert_double_eq_tol(x.round[1].dirty_bytes, 700 * 4096. * 1.5, 1e-6);
    ck_near(x.round[1].sent_bytes, 3000);
}
END_TEST

START_TEST(a_round_whose_beginning_was_not_seen_tells_nothing)
{
    struct migbuf_rounds x = { .count = 0 };

    ck_assert_int_eq(update(&x, 100000, 7, 1000, 0), 0);
    ck_assert_int_eq(update(&x, 103000, 8, 1000, 0), 0);
    ck_assert_int_eq(update(&x, 106000, 9, 1000, 0), 1);
    ck_near(x.round[0].span_s, 3);
    ck_assert_int_eq(update(&x, 1000, 1, 0, 0), 0); /* the count falls: another migration */
    ck_assert(x.count == 0 && x.finished == 0);
    ck_assert_int_eq(update(&x, 6000, 2, 1, 0), 1);
}
END_TEST

START_TEST(a_throttle_belongs_to_the_round_after_the_sync_that_sets_it)
{
    struct migbuf_rounds x = { .count = 0 };
    struct migbuf_ram_report r = seen(1, 0, 0);

    ck_assert_int_eq(migbuf_rounds_update(&x, 0, &r), 0);
    r = seen(2, 1000, 0);
    r.cpu_throttle_percent = 80; /* QEMU sets it with the sync */
    ck_assert_int_eq(migbuf_rounds_update(&x, 5000, &r), 1);
    ck_near(x.round[0].throttle_percent, 0);
    r.sync_count = 3;
    ck_assert_int_eq(migbuf_rounds_update(&x, 8000, &r), 1);
    ck_near(x.round[1].throttle_percent, 80);
}
END_TEST

START_TEST(xbzrle_is_measured_by_what_it_sent)
{
    struct migbuf_rounds x = { .count = 0 };
    struct migbuf_ram_report r = seen(1, 0, 0);

    r.has_xbzrle = 1;
    ck_assert_int_eq(migbuf_rounds_update(&x, 0, &r), 0);
    r.sync_count = 2;
    r.normal_pages = 8192;
    ck_assert_int_eq(migbuf_rounds_update(&x, 5000, &r), 1);
    ck_near(x.round[0].encoding, 1); /* the cache is filled only now */
    r.sync_count = 3;
    r.normal_pages += 1000;
    r.xbzrle_pages = 3000;
    r.xbzrle_bytes = 3000 * 1024;
    ck_assert_int_eq(migbuf_rounds_update(&x, 8000, &r), 1);
    ck_assert_double_eq_tol(x.round[1].encoding, (3000 * 1024 + 1000 * 4096.) / (4000 * 4096.), 1e-12);
}
END_TEST

START_TEST(rounds_tell_the_guest)
{
    struct migbuf_rounds x = { .count = 0 };
    struct migbuf_ram_report r;
    double w = 7, rate = 7;

    ck_assert_int_eq(migbuf_convergence_rounds(&x, &w, &rate), MIGBUF_E_STATE);
    ck_assert(w == 7 && rate == 7);
    update(&x, 0, 1, 0, 0);
    r = seen(2, 0, 0); /* 400e6 in 10 s, and 90e6 in 1 s, of pages of 1 byte */
    r.page_bytes = 1;
    r.dirty_pages_per_s = 40000000;
    ck_assert_int_eq(migbuf_rounds_update(&x, 10000, &r), 1);
    ck_assert_int_eq(migbuf_convergence_rounds(&x, &w, &rate), 0); /* one span */
    ck_assert(isinf(w));
    ck_assert_double_eq_tol(rate, 40e6, 1e-3);
    r.sync_count = 3;
    r.dirty_pages_per_s = 90000000;
    ck_assert_int_eq(migbuf_rounds_update(&x, 11000, &r), 1);
    ck_assert_int_eq(migbuf_convergence_rounds(&x, &w, &rate), 1);
    ck_assert_double_eq_tol(w, 447313695, 1);
    ck_assert_double_eq_tol(rate, 100487247, 1);
    x.count = 7;
    ck_assert_int_eq(migbuf_convergence_rounds(&x, &w, &rate), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(time_does_not_go_back_within_a_migration)
{
    struct migbuf_rounds x = { .count = 0 }, before;
    struct migbuf_ram_report r = seen(2, 1000, 0);

    update(&x, 1000, 1, 0, 0);
    before = x;
    ck_assert_int_eq(migbuf_rounds_update(&x, 999, &r), MIGBUF_E_CLOCK);
    ck_assert_int_eq(migbuf_rounds_update(&x, 5000, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_rounds_update(NULL, 5000, &r), MIGBUF_E_INVALID);
    ck_assert_mem_eq(&x, &before, sizeof x);
    r.has_ram = 0; /* "setup": nothing in it */
    ck_assert_int_eq(migbuf_rounds_update(&x, 5000, &r), 0);
    ck_assert_mem_eq(&x, &before, sizeof x);
}
END_TEST

/* Order */

START_TEST(what_frees_most_is_first)
{
    static const struct migbuf_ram_turn turns[4] = { { 1, 2e9, 40, 1, 0 }, { 2, 1e9, 10, 1, 0 }, { 3, 4e9, 20, 1, 0 },
                                                     { 4, 0.2e9, 5, 1, 0 } };
    struct migbuf_ram_turn x[4];
    uint32_t order[4] = { 9, 9, 9, 9 };
    const uint32_t expected[4] = { 2, 1, 0, 3 };
    double t = 0, sum = 0;

    ck_assert_int_eq(migbuf_convergence_order(turns, 4, order), 4);
    ck_assert_mem_eq(order, expected, sizeof order);
    for (int k = 0; k < 4; k++) {
        t += turns[order[k]].seconds;
        sum += turns[order[k]].held_bytes * t;
    }
    ck_assert_double_eq_tol(sum, 265e9, 1);
    memcpy(x, turns, sizeof x);
    x[2].ready = 0; /* its mirror is not ready: it cannot start */
    ck_assert_int_eq(migbuf_convergence_order(x, 4, order), 3);
    ck_assert(order[0] == 1 && order[3] == 2);
    x[1].seconds = 0;
    order[0] = 9;
    ck_assert_int_eq(migbuf_convergence_order(x, 4, order), MIGBUF_E_RANGE);
    ck_assert_uint_eq(order[0], 9);
    ck_assert_int_eq(migbuf_convergence_order(NULL, 1, order), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_convergence_order(NULL, 0, NULL), 0);
    for (int k = 0; k < 4; k++)
        x[k] = (struct migbuf_ram_turn){ .id = (uint64_t)(9 - k), .held_bytes = 5, .seconds = 1, .ready = 1 };
    ck_assert_int_eq(migbuf_convergence_order(x, 4, order), 4);
    for (uint32_t k = 0; k < 4; k++)
        ck_assert_uint_eq(order[k], 3 - k); /* ties by id */
}
END_TEST

START_TEST(the_order_is_sorted)
{
    enum { N = 257 };
    struct migbuf_ram_turn x[N];
    uint32_t order[N], seed = 1;

    for (int round = 0; round < 200; round++) {
        int n = round + 1, seen_at[N] = { 0 };

        for (int k = 0; k < n; k++) {
            seed = seed * 1664525 + 1013904223;
            x[k] = (struct migbuf_ram_turn){ .id = (uint64_t)k, .held_bytes = seed >> 28, .seconds = 1 + (seed >> 20) % 3,
                                             .ready = (seed >> 10) % 4 != 0 };
        }
        ck_assert_int_ge(migbuf_convergence_order(x, (size_t)n, order), 0);
        for (int k = 0; k < n; k++)
            seen_at[order[k]]++;
        for (int k = 0; k < n; k++)
            ck_assert_int_eq(seen_at[k], 1);
        for (int k = 1; k < n; k++) {
            const struct migbuf_ram_turn *p = &x[order[k - 1]], *q = &x[order[k]];

            ck_assert(p->ready >= q->ready);
            if (p->ready == q->ready)
                ck_assert(p->held_bytes / p->seconds > q->held_bytes / q->seconds ||
                          (p->held_bytes / p->seconds >= q->held_bytes / q->seconds && p->id < q->id));
        }
    }
}
END_TEST

START_TEST(actions_and_reasons_have_names)
{
    ck_assert_str_eq(migbuf_ram_action_text(MIGBUF_RAM_KEEP), "keep");
    ck_assert_str_eq(migbuf_ram_action_text(MIGBUF_RAM_STOP), "stop");
    ck_assert_str_eq(migbuf_ram_action_text(0), "unknown");
    ck_assert_str_eq(migbuf_ram_action_text(-1), "unknown");
    ck_assert_str_eq(migbuf_ram_action_text(9), "unknown");
    ck_assert_str_eq(migbuf_ram_reason_text(MIGBUF_RAM_REASON_IN_TIME), "in time");
    ck_assert_str_eq(migbuf_ram_reason_text(MIGBUF_RAM_REASON_LATE), "the deadline has passed");
    ck_assert_str_eq(migbuf_ram_reason_text(7), "unknown");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        rounds_tell_what_the_table_says, what_is_dirty_again_in_every_round, two_spans_tell_the_working_set, the_shortest_stop,
        the_throttle_that_is_needed, when_it_will_be_over, what_makes_no_sense_changes_nothing, an_agreement_is_checked,
        decisions_of_the_golden_table, nothing_is_decided_before_a_round_has_ended, a_saw_tooth_is_no_stall,
        late_ticks_between_rounds_count_no_rounds, a_bad_round_raises_the_limit_as_far_as_agreed,
        the_usual_deadline_follows_memory_and_link, a_forecast_has_bars_and_a_verdict, rounds_are_counted_from_syncs, the_first_round_begins_with_the_sending,
        a_sync_within_a_second_is_merged_into_the_next, a_round_whose_beginning_was_not_seen_tells_nothing,
        a_throttle_belongs_to_the_round_after_the_sync_that_sets_it, xbzrle_is_measured_by_what_it_sent, rounds_tell_the_guest,
        time_does_not_go_back_within_a_migration, what_frees_most_is_first, the_order_is_sorted, actions_and_reasons_have_names,
        NULL };

    return unit_run("convergence", tests, 0);
}
