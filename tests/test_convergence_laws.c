/* SPDX-License-Identifier: MIT */
/* Random migrations of random guests, decided by the library and by a second implementation of the same rules, which is slow
 * and shares no code with it: tangents instead of bisections, searches digit by digit, every percent tried. Both must
 * say the same, and nothing is ever decided that was not agreed. */
#include "unit.h"
#include "migbuf/convergence.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static uint64_t state;

static double draw(double least, double most)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return least + (most - least) * (double)(state >> 11) / 9007199254740992.0;
}

static double draw_log(double least, double most)
{
    return exp(draw(log(least), log(most)));
}

/* ---- the second implementation ---- */

typedef long double real;

/* f = 1 - exp(-rho f): Newton's steps fall from 1 to the root. */
static real slow_stationary(real rho)
{
    real f = 1, before = 2;

    if (rho <= 1)
        return 0;
    while (before - f > 1e-18L) {
        before = f;
        f -= (f - 1 + expl(-rho * f)) / (1 - rho * expl(-rho * f));
    }
    return f;
}

/* How many times as fast the shorter span was dirtied, where z is r t2 / W. */
static real ratio_at(real z, real s)
{
    return (1 - expl(-s * z)) / (s * (1 - expl(-z)));
}

/* The last z, digit by digit, whose ratio is not above q. */
static real z_for(real q, real s)
{
    real z = 0;

    for (real digit = 100; digit > 1e-15L; digit /= 10)
        while (z + digit <= 700 && ratio_at(z + digit, s) <= q)
            z += digit;
    return z;
}

static void slow_estimate(real t1, real d1, real t2, real d2, real *set, real *rate)
{
    real ta = fminl(t1, t2), tb = fmaxl(t1, t2), da = t1 <= t2 ? d1 : d2, db = t1 <= t2 ? d2 : d1, q, z;

    *set = INFINITY;
    *rate = db > 0 ? fmaxl(da / ta, db / tb) : 0;
    if (!(db > 0) || ta / tb > 0.8L)
        return;
    q = (da / ta) / (db / tb);
    if (q <= 1.05L)
        return;
    z = z_for(fminl(q, 0.98L / (ta / tb)), ta / tb);
    *set = db / (1 - expl(-z));
    *rate = z * *set / tb;
}

/* What a guest dirties, by parts of its time. */
static real slow_dirtied(real set, real rate, real seconds)
{
    if (isinf(set))
        return rate * seconds;
    return set <= 0 ? 0 : set * (1 - expl(-rate * seconds / set));
}

static real slow_least(const struct migbuf_convergence *c, real p)
{
    real rho = c->rate_bytes_per_s * (1 - p / 100) * c->encoding / c->link_bytes_per_s;

    return rho <= 1 ? c->fix_ms : c->set_bytes * c->encoding * slow_stationary(rho) / c->link_bytes_per_s * 1000 + c->fix_ms;
}

/* The first of all percents that will do. */
static uint32_t slow_throttle(const struct migbuf_convergence *c, real stop_ms)
{
    real fits = stop_ms / 1000 * c->link_bytes_per_s;

    for (uint32_t p = 0; p <= 99; p++) {
        real rho = c->rate_bytes_per_s * (1 - (real)p / 100) * c->encoding / c->link_bytes_per_s;

        if (rho <= 1 + 1e-9L)
            return p;
        if (!isinf(c->set_bytes) && c->set_bytes * c->encoding * slow_stationary(rho) <= fits * (1 + 1e-9L))
            return p;
    }
    return 101;
}

static real slow_finish(const struct migbuf_convergence *c, real limit_ms, real n, int rounds)
{
    real b = c->link_bytes_per_s, e = c->encoding, theta = limit_ms / 1000 * b, fix = c->fix_ms / 1000;
    real r = c->rate_bytes_per_s * (1 - (real)c->throttle_percent / 100), dt, d, m;

    if (n * e <= theta)
        return n * e / b + fix;
    if (!rounds)
        return INFINITY;
    dt = (n * e - theta) / b;
    d = slow_dirtied(c->set_bytes, r, dt);
    m = theta / e + d - (isinf(c->set_bytes) || c->set_bytes <= 0 ? 0 : theta / e * d / c->set_bytes);
    if (m * e <= 1.02L * theta)
        return dt + theta / b + fix;
    if (m >= 0.999L * n && r * e >= b)
        return INFINITY;
    return dt + slow_finish(c, limit_ms, m, rounds - 1);
}

static void slow_decide(const struct migbuf_convergence *c, const struct migbuf_agreement *a, struct migbuf_ram_decision *d)
{
    real used = c->ram_bytes > 0 ? c->ram_bytes : c->left_bytes, t = c->elapsed_s;
    real deadline = a->deadline_ms ? (real)a->deadline_ms / 1000 : fmaxl(60, 6 * used / c->link_bytes_per_s);
    real exact = c->exact_bytes > 0 ? c->exact_bytes : c->left_bytes;
    real need = exact * c->encoding / c->link_bytes_per_s + (real)c->fix_ms / 1000;
    int late = t > deadline;
    double raise[2] = { fmax(ceil((double)(1.15L * (slow_least(c, c->throttle_percent) - c->fix_ms))), a->want_ms), a->most_ms };

    memset(d, 0, sizeof *d);
    d->action = MIGBUF_RAM_WAIT;
    d->limit_ms = (uint32_t)c->limit_ms;
    d->throttle_percent = (uint32_t)c->asked_percent;
    d->bad_rounds = c->bad_rounds;
    if (c->rounds == 0 || !(c->new_round || late))
        return;
    if (t + slow_finish(c, c->limit_ms, c->left_bytes, 200) <= deadline) {
        d->action = MIGBUF_RAM_KEEP;
        d->bad_rounds = 0;
        return;
    }
    for (int k = 0; k < 2 && !late; k++)
        if (raise[k] > 1.05 * c->limit_ms && raise[k] <= a->most_ms &&
            t + slow_finish(c, raise[k], c->left_bytes, 200) <= deadline) {
            d->action = MIGBUF_RAM_DOWNTIME;
            d->limit_ms = (uint32_t)raise[k];
            d->bad_rounds = 0;
            return;
        }
    if (!late && a->throttle_most_percent > 0 && !(c->asked_percent > 0) &&
        (!c->known || slow_throttle(c, 0.85L * a->most_ms) + 3 <= a->throttle_most_percent)) {
        d->action = MIGBUF_RAM_THROTTLE;
        d->throttle_percent = a->throttle_most_percent;
        d->limit_ms = a->most_ms;
        d->bad_rounds = 0;
        return;
    }
    if (!late && a->throttle_most_percent > 0 && c->asked_percent > c->throttle_percent)
        return;
    d->bad_rounds = c->bad_rounds + (c->new_round ? 1 : 0);
    if (a->most_ms > d->limit_ms)
        d->limit_ms = a->most_ms;
    if (a->postcopy && (late || d->bad_rounds >= 2))
        d->action = MIGBUF_RAM_POSTCOPY;
    else if (a->force && (d->bad_rounds >= 3 || t + 1.2L * need > deadline)) {
        d->action = MIGBUF_RAM_FORCE;
        d->limit_ms = 2000000;
    } else if (c->rounds >= 2 && (late || (!a->force && d->bad_rounds >= 4)))
        d->action = MIGBUF_RAM_ABORT;
}

/* Every round that there was; the library keeps six. */
struct told {
    double run_s, dirty_bytes;
};

static real slow_ratio(const struct told *x, const struct told *y)
{
    return fmaxl(x->run_s, y->run_s) / fminl(x->run_s, y->run_s);
}

/* How much the newest differs from the one that differs most from it, of the six. */
static real slow_most(const struct told *all, size_t n)
{
    real most = 1;

    for (size_t k = n > 6 ? n - 6 : 0; k < n; k++)
        most = fmaxl(most, slow_ratio(&all[k], &all[n - 1]));
    return most;
}

/* ---- both, on the same migrations ---- */

static uint64_t seed;
static long decisions, at_an_edge;

#define ck_seed(condition, ...) ck_assert_msg(condition, __VA_ARGS__)

static void is_about(const char *what, double ours, real theirs, double tolerance)
{
    if (isinf(ours) && isinf(theirs))
        return;
    ck_seed(fabsl(ours - theirs) <= tolerance * (1 + fabsl(theirs)), "seed %llu: %s is %.17g, not %.17Lg", (unsigned long long)seed,
            what, ours, theirs);
}

static int same(const struct migbuf_ram_decision *x, const struct migbuf_ram_decision *y)
{
    return x->action == y->action && x->limit_ms == y->limit_ms && x->throttle_percent == y->throttle_percent &&
           x->bad_rounds == y->bad_rounds;
}

/* The same, or so near an edge between two rules that 1e-7 of the link's or the guest's rate lies across it. */
static void are_the_same(const struct migbuf_convergence *c, const struct migbuf_agreement *a, const struct migbuf_ram_decision *ours)
{
    struct migbuf_ram_decision theirs;

    decisions++;
    slow_decide(c, a, &theirs);
    if (same(ours, &theirs))
        return;
    at_an_edge++;
    for (int k = 0; k < 6; k++) {
        struct migbuf_convergence near = *c;
        double by = 1 + (k & 1 ? 1e-7 : -1e-7);

        *(k < 2 ? &near.link_bytes_per_s : k < 4 ? &near.rate_bytes_per_s : &near.elapsed_s) *= by;
        slow_decide(&near, a, &theirs);
        if (same(ours, &theirs))
            return;
    }
    slow_decide(c, a, &theirs);
    ck_abort_msg("seed %llu: %s %u ms %u %% bad %u, not %s %u ms %u %% bad %u", (unsigned long long)seed,
                 migbuf_ram_action_text(ours->action), ours->limit_ms, ours->throttle_percent, ours->bad_rounds,
                 migbuf_ram_action_text(theirs.action), theirs.limit_ms, theirs.throttle_percent, theirs.bad_rounds);
}

static void is_within(const struct migbuf_convergence *c, const struct migbuf_agreement *a, const struct migbuf_ram_decision *d)
{
    const char *action = migbuf_ram_action_text(d->action);

    ck_seed(d->action >= MIGBUF_RAM_KEEP && d->action <= MIGBUF_RAM_ABORT, "seed %llu: action %d", (unsigned long long)seed, d->action);
    ck_seed(d->throttle_percent <= a->throttle_most_percent, "seed %llu: %s %u %%", (unsigned long long)seed, action, d->throttle_percent);
    ck_seed(d->limit_ms <= a->most_ms || d->limit_ms <= c->limit_ms || (a->force && d->action == MIGBUF_RAM_FORCE),
            "seed %llu: %s %u ms", (unsigned long long)seed, action, d->limit_ms);
    ck_seed(d->action != MIGBUF_RAM_POSTCOPY || a->postcopy, "seed %llu: post-copy", (unsigned long long)seed);
    ck_seed(d->action != MIGBUF_RAM_FORCE || a->force, "seed %llu: force", (unsigned long long)seed);
    ck_seed(d->action != MIGBUF_RAM_THROTTLE || !(c->asked_percent > 0), "seed %llu: twice a throttle", (unsigned long long)seed);
    ck_seed(d->action != MIGBUF_RAM_ABORT || c->rounds >= 2, "seed %llu: given up in the first round", (unsigned long long)seed);
}

static struct migbuf_agreement any_agreement(void)
{
    struct migbuf_agreement a;

    ck_assert_int_eq(migbuf_agreement_init(&a, sizeof a), 0);
    a.want_ms = (uint32_t)draw_log(1, 500);
    a.most_ms = a.want_ms + (uint32_t)draw_log(1, 5000) - 1;
    a.throttle_most_percent = draw(0, 3) < 1 ? 0 : (uint32_t)draw(1, 100);
    a.postcopy = draw(0, 3) < 1;
    a.force = draw(0, 3) < 1;
    a.deadline_ms = draw(0, 2) < 1 ? 0 : (uint64_t)draw_log(10000, 1000000);
    return a;
}

static int is_near(double x, real y)
{
    return (isinf(x) && isinf(y)) || fabsl(x - y) <= 1e-6L * fabsl(y);
}

/* Two spans dirtied nearly as fast, or nearly as long, and rates in whole pages a second: 273 is 1.05 times 260. */
static int is_on_an_edge(const struct told *x, const struct told *y)
{
    real q = (x->dirty_bytes / x->run_s) / (y->dirty_bytes / y->run_s);

    return fabsl(fmaxl(q, 1 / q) - 1.05L) < 1e-9L || fabsl(slow_ratio(x, y) - 1.25L) < 1e-9L;
}

/* W and r come from the newest round and the one that differs most, or from one that differs as much. */
static void check_rounds(const struct told *all, size_t n, int known, const struct migbuf_convergence *c)
{
    real most = slow_most(all, n), set, rate;
    const struct told *newest = &all[n - 1];

    if (fabsl(most - 1.25L) < 1e-9L)
        return;
    ck_seed(known == (most > 1.25L), "seed %llu: known %d", (unsigned long long)seed, known);
    for (size_t k = n > 6 ? n - 6 : 0; k < n && known; k++) {
        if (slow_ratio(&all[k], newest) < most * (1 - 1e-12L))
            continue;
        if (is_on_an_edge(&all[k], newest))
            return;
        slow_estimate(all[k].run_s, all[k].dirty_bytes, newest->run_s, newest->dirty_bytes, &set, &rate);
        if (is_near(c->set_bytes, set) && is_near(c->rate_bytes_per_s, rate))
            return;
    }
    if (known)
        ck_abort_msg("seed %llu: W %.17g, r %.17g; not %.17Lg, %.17Lg", (unsigned long long)seed, c->set_bytes, c->rate_bytes_per_s, set, rate);
    ck_seed(isinf(c->set_bytes) && is_near(c->rate_bytes_per_s, newest->dirty_bytes / newest->run_s), "seed %llu: one span", (unsigned long long)seed);
}

/* A guest, and the end of its rounds one after the other. */
static void one_migration(int *ended_as)
{
    double used = draw_log(1e8, 1e11), set = used * draw(0.001, 0.9), rate = draw_log(1e6, 3e9), link = draw_log(2e7, 2e9), left = used;
    struct migbuf_agreement a = any_agreement();
    struct migbuf_rounds rounds = { .count = 0 };
    struct migbuf_ram_report report = { .has_ram = 1, .sync_count = 1, .page_bytes = 4096 };
    struct migbuf_convergence c;
    struct migbuf_ram_decision d = { .limit_ms = a.want_ms };
    struct told told[64];
    double now_s = 0, in_force = 0;
    size_t n = 0;
    int kept = 0;

    ck_assert_int_eq(migbuf_rounds_update(&rounds, 0, &report), 0);
    for (int k = 0; k < 60 && kept < 4 && left * 1000 / link > d.limit_ms; k++) {
        double span = fmax(left / link, 1.001), dirty;
        int known;

        span = round(span * 1000) / 1000;
        report.cpu_throttle_percent = (uint64_t)in_force;
        if (migbuf_rounds_update(&rounds, (uint64_t)(now_s * 1000 + 0.5), &report) < 0)
            ck_abort_msg("seed %llu", (unsigned long long)seed);
        now_s += span;
        dirty = set * (1 - exp(-rate * (1 - in_force / 100) * span / set));
        report.dirty_pages_per_s = (uint64_t)(dirty / 4096 / span);
        report.ram_transferred_bytes += (uint64_t)left;
        report.sync_count++;
        ck_assert_int_eq(migbuf_rounds_update(&rounds, (uint64_t)(now_s * 1000 + 0.5), &report), 1);
        told[n++] = (struct told){ span * (1 - in_force / 100), (double)report.dirty_pages_per_s * 4096 * span };
        left = fmax(dirty, 1);
        ck_assert_int_eq(migbuf_convergence_init(&c, sizeof c), 0);
        known = migbuf_convergence_rounds(&rounds, &c.set_bytes, &c.rate_bytes_per_s);
        check_rounds(told, n, known, &c);
        c.known = (uint32_t)known;
        c.ram_bytes = used;
        c.left_bytes = left;
        c.exact_bytes = draw(0, 2) < 1 ? 0 : left * draw(1, 1.2);
        c.link_bytes_per_s = link;
        c.encoding = draw(0, 4) < 1 ? draw(0.05, 1) : 1;
        c.fix_ms = draw(0, 100);
        c.throttle_percent = in_force;
        c.asked_percent = d.throttle_percent;
        c.limit_ms = d.limit_ms;
        c.elapsed_s = now_s;
        c.bad_rounds = d.bad_rounds;
        c.new_round = draw(0, 10) >= 1;
        c.rounds = (uint32_t)n;
        ck_assert_int_eq(migbuf_convergence_decide(&c, &a, &d), 0);
        are_the_same(&c, &a, &d);
        is_within(&c, &a, &d);
        ended_as[d.action]++;
        kept = d.action == MIGBUF_RAM_KEEP ? kept + 1 : 0;
        if (d.action >= MIGBUF_RAM_POSTCOPY)
            return;
        if (draw(0, 2) < 1) /* QEMU throttles at every second sync */
            in_force = d.throttle_percent;
    }
}

static void one_formula(void)
{
    struct migbuf_convergence c;
    double f, rho = draw(0, 5) < 1 ? 1 + draw_log(1e-3, 1) : draw_log(0.1, 100), ours, stop, most, set, rate, t1, d1;
    uint32_t percent, theirs;
    int rc;

    ck_assert_int_eq(migbuf_convergence_stationary(rho, &f), 0);
    is_about("f", f, slow_stationary(rho), 1e-9);
    t1 = draw_log(0.1, 1000);
    d1 = draw_log(1e3, 1e10);
    rc = (int)draw(0, 2);
    {
        double t2 = rc ? t1 * draw(0.01, 100) : draw_log(0.1, 1000), d2 = draw_log(1e3, 1e10);
        real w, r;

        ck_assert_int_eq(migbuf_convergence_estimate(t1, d1, t2, d2, &set, &rate), 0);
        slow_estimate(t1, d1, t2, d2, &w, &r);
        is_about("W", set, w, 1e-6);
        is_about("r", rate, r, 1e-6);
    }
    ck_assert_int_eq(migbuf_convergence_init(&c, sizeof c), 0);
    c.left_bytes = draw_log(1e6, 1e11);
    c.set_bytes = draw(0, 4) < 1 ? INFINITY : draw_log(1e5, 1e11);
    c.rate_bytes_per_s = draw_log(1e4, 1e10);
    c.link_bytes_per_s = draw_log(1e6, 1e10);
    c.encoding = draw(0, 2) < 1 ? 1 : draw(0.01, 1);
    c.fix_ms = draw(0, 100);
    c.throttle_percent = draw(0, 99);
    ck_assert_int_eq(migbuf_convergence_least(&c, &ours), 0);
    is_about("least", ours, slow_least(&c, c.throttle_percent), 1e-6);
    most = draw_log(1, 20000);
    ck_assert_int_eq(migbuf_convergence_throttle(&c, most, &percent), 0);
    theirs = slow_throttle(&c, fmaxl(most - c.fix_ms, 0));
    ck_seed(percent == theirs, "seed %llu: %u %%, not %u %%", (unsigned long long)seed, percent, theirs);
    ck_assert_int_eq(migbuf_convergence_finish(&c, most, &ours, &stop), 0);
    is_about("finish", ours, slow_finish(&c, most, c.left_bytes, 199), 1e-6);
}

START_TEST(formulas_are_those_of_a_second_implementation)
{
    int times = unit_rounds(20000);

    for (seed = 1; seed <= (uint64_t)times; seed++) {
        state = seed * 104729;
        one_formula();
    }
}
END_TEST

START_TEST(decisions_are_those_of_a_second_implementation_and_within_the_agreement)
{
    int ended_as[9] = { 0 }, times = unit_rounds(100000);

    for (seed = 1; seed <= (uint64_t)times; seed++) {
        state = seed * 7919;
        one_migration(ended_as);
    }
    printf("# %ld decisions, %ld of them at an edge\n", decisions, at_an_edge);
    ck_assert_int_gt(decisions, times);
    ck_assert_int_lt(at_an_edge, decisions / 1000 + 1);
    for (int k = MIGBUF_RAM_KEEP; k <= MIGBUF_RAM_ABORT; k++) {
        printf("# %s %d\n", migbuf_ram_action_text(k), ended_as[k]);
        ck_assert_int_gt(ended_as[k], 0);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { formulas_are_those_of_a_second_implementation,
                                   decisions_are_those_of_a_second_implementation_and_within_the_agreement, NULL };

    return unit_run("convergence_laws", tests, 600);
}
