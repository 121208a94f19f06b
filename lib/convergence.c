/* SPDX-License-Identifier: MIT */
/* convergence: whether pre-copy of memory ends, when, and what to do about it. Formulas and reasons stand in the header.
 * No memory, no clock, no QMP. */
#include "migbuf/convergence.h"
#include "memory.h"
#include "number.h"
#include <string.h>

#define SPAN_LEAST_MS 1000    /* QEMU refreshes its rates at a sync only when the last is longer ago (ram.c) */
#define SPANS_DIFFER 1.25     /* less tells nothing about the working set */
#define PERCENT_MOST 99.0     /* QEMU takes no more */
#define BAD_POSTCOPY 2
#define BAD_FORCE 3
#define BAD_ABORT 4

/* Rounds */

/* Bytes sent per byte of a page, over the running round. Pages of zeros are left out: they are new only once. */
static double encoding_since(const struct migbuf_rounds *x, const struct migbuf_ram_report *report)
{
    double normal = (double)(report->normal_pages - x->normal_pages), page = (double)report->page_bytes;
    double coded = (double)(report->xbzrle_pages - x->xbzrle_pages);
    double bytes = (double)(report->xbzrle_bytes - x->xbzrle_bytes);

    if (!report->has_xbzrle || report->normal_pages < x->normal_pages || report->xbzrle_pages < x->xbzrle_pages ||
        report->xbzrle_bytes < x->xbzrle_bytes || coded <= 0 || bytes <= 0 || page <= 0)
        return 1;
    return (bytes + normal * page) / ((coded + normal) * page);
}

static void begin_round(struct migbuf_rounds *x, uint64_t at_ms, const struct migbuf_ram_report *report)
{
    x->at_ms = at_ms;
    x->sent_bytes = report->ram_transferred_bytes;
    x->normal_pages = report->normal_pages;
    x->xbzrle_pages = report->xbzrle_pages;
    x->xbzrle_bytes = report->xbzrle_bytes;
    x->whole = 1;
}

static void end_round(struct migbuf_rounds *x, uint64_t now_ms, const struct migbuf_ram_report *report)
{
    double span = (double)(now_ms - x->at_ms) / 1000;
    uint64_t sent = report->ram_transferred_bytes;

    if (x->count == MIGBUF_ROUNDS)
        memmove(x->round, x->round + 1, sizeof x->round - sizeof *x->round);
    else
        x->count++;
    x->round[x->count - 1] = (struct migbuf_round){
        .span_s = span,
        .dirty_bytes = (double)report->dirty_pages_per_s * (double)report->page_bytes * span,
        .sent_bytes = sent > x->sent_bytes ? (double)(sent - x->sent_bytes) : 0,
        .throttle_percent = (double)x->throttle_percent,
        .encoding = encoding_since(x, report),
    };
    x->finished++;
}

int migbuf_rounds_update(struct migbuf_rounds *rounds, uint64_t now_ms, const struct migbuf_ram_report *report)
{
    int again, ended = 0;

    if (!rounds || !report || rounds->count > MIGBUF_ROUNDS)
        return MIGBUF_E_INVALID;
    if (!report->has_ram || !report->sync_count)
        return 0;
    again = report->sync_count < rounds->sync_count; /* another migration */
    if (!again && now_ms < rounds->now_ms)
        return MIGBUF_E_CLOCK;
    if (again)
        *rounds = (struct migbuf_rounds){ 0 };
    if (!rounds->sync_count) { /* the first begins with the sending; of a later one nobody knows when it began */
        uint64_t sending_ms = report->total_ms > report->setup_ms ? report->total_ms - report->setup_ms : 0;

        begin_round(rounds, now_ms > sending_ms ? now_ms - sending_ms : 0, report);
        rounds->sent_bytes = 0;
        rounds->whole = report->sync_count == 1;
    } else if (report->sync_count > rounds->sync_count &&
               (!rounds->whole || now_ms - rounds->at_ms >= SPAN_LEAST_MS)) {
        ended = rounds->whole != 0;
        if (ended)
            end_round(rounds, now_ms, report);
        begin_round(rounds, now_ms, report);
    }
    rounds->now_ms = now_ms;
    rounds->sync_count = report->sync_count;
    rounds->throttle_percent = report->cpu_throttle_percent > 99 ? 99 : report->cpu_throttle_percent;
    return ended;
}

/* The model */

static double dirtied(double set, double rate, double seconds)
{
    if (isinf(set) || set <= 0)
        return set > 0 ? rate * seconds : 0;
    return -set * expm1(-rate * seconds / set);
}

static double stationary(double rho)
{
    double low = 1e-12, high = 1;

    if (rho <= 1)
        return 0;
    for (int k = 0; k < 60; k++) {
        double middle = (low + high) / 2;

        *(-expm1(-rho * middle) > middle ? &low : &high) = middle;
    }
    return (low + high) / 2;
}

int migbuf_convergence_stationary(double rho, double *part)
{
    int rc = part ? migbuf__amount(rho) : MIGBUF_E_INVALID;

    if (!rc)
        *part = stationary(rho);
    return rc;
}

static void estimate(double t1, double d1, double t2, double d2, double *set, double *rate)
{
    double q, s, low = 1e-9, high = 700, z;

    if (t1 > t2) {
        double t = t1, d = d1;

        t1 = t2;
        d1 = d2;
        t2 = t;
        d2 = d;
    }
    s = t1 / t2;
    q = d2 > 0 ? d1 / t1 / (d2 / t2) : 1;
    *set = INFINITY;
    *rate = d2 > 0 ? migbuf__most(d1 / t1, d2 / t2) : 0;
    if (d2 <= 0 || s > 0.8 || q <= 1.05)
        return;
    q = migbuf__least(q, 0.98 / s);
    for (int k = 0; k < 80; k++) {
        z = (low + high) / 2;
        *(expm1(-s * z) / (s * expm1(-z)) < q ? &low : &high) = z;
    }
    z = (low + high) / 2;
    *set = d2 / -expm1(-z);
    *rate = z * *set / t2;
}

int migbuf_convergence_estimate(double t1_s, double d1_bytes, double t2_s, double d2_bytes, double *set_bytes,
                                double *rate_bytes_per_s)
{
    int rc = set_bytes && rate_bytes_per_s ? migbuf__positive(t1_s) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__positive(t2_s);
    if (!rc)
        rc = migbuf__finite(d1_bytes);
    if (!rc)
        rc = migbuf__finite(d2_bytes);
    if (!rc)
        estimate(t1_s, d1_bytes, t2_s, d2_bytes, set_bytes, rate_bytes_per_s);
    return rc;
}

/* As long as the guest had the CPU. */
static double run_s(const struct migbuf_round *round)
{
    return migbuf__most(round->span_s * (1 - round->throttle_percent / 100), 0.01);
}

int migbuf_convergence_rounds(const struct migbuf_rounds *rounds, double *set_bytes, double *rate_bytes_per_s)
{
    const struct migbuf_round *newest, *other = NULL;
    double t, differs = 0;

    if (!rounds || !set_bytes || !rate_bytes_per_s || rounds->count > MIGBUF_ROUNDS)
        return MIGBUF_E_INVALID;
    if (!rounds->count)
        return MIGBUF_E_STATE;
    newest = &rounds->round[rounds->count - 1];
    t = run_s(newest);
    for (uint32_t k = 0; k < rounds->count; k++) {
        double ratio = run_s(&rounds->round[k]) / t;

        ratio = migbuf__most(ratio, 1 / ratio);
        if (ratio > differs) {
            differs = ratio;
            other = &rounds->round[k];
        }
    }
    if (!other || differs < SPANS_DIFFER) {
        *set_bytes = INFINITY;
        *rate_bytes_per_s = newest->dirty_bytes / t;
        return 0;
    }
    estimate(run_s(other), other->dirty_bytes, t, newest->dirty_bytes, set_bytes, rate_bytes_per_s);
    return 1;
}

/* The guest and its link */

int migbuf_convergence_init(struct migbuf_convergence *c, uint64_t size)
{
    static const struct migbuf_convergence defaults = { .set_bytes = INFINITY, .encoding = 1, .fix_ms = 50 };

    return migbuf__struct_init(c, size, &defaults, sizeof defaults, MIGBUF__FIRST(struct migbuf_convergence, rounds));
}

static int take(struct migbuf_convergence *to, const struct migbuf_convergence *c)
{
    const struct migbuf_convergence unknown = { .set_bytes = INFINITY, .encoding = 1, .fix_ms = 50 };
    int rc = c ? 0 : MIGBUF_E_INVALID;

    *to = unknown;
    if (!rc)
        rc = migbuf__struct_take(to, sizeof *to, c, MIGBUF__FIRST(struct migbuf_convergence, rounds));
    if (rc)
        return rc;
    const struct { double x, least, most; } bound[] = {
        { to->ram_bytes, 0, 1e30 }, { to->left_bytes, 0, 1e30 }, { to->exact_bytes, 0, 1e30 },
        { to->set_bytes, 0, INFINITY }, { to->rate_bytes_per_s, 0, 1e30 }, { to->link_bytes_per_s, 1e-30, 1e30 },
        { to->encoding, 1e-30, 1e30 }, { to->fix_ms, 0, 1e30 }, { to->throttle_percent, 0, PERCENT_MOST },
        { to->asked_percent, 0, PERCENT_MOST }, { to->limit_ms, 0, MIGBUF_RAM_LIMIT_MOST_MS },
        { to->elapsed_s, 0, 1e30 },
    };
    for (size_t k = 0; k < sizeof bound / sizeof *bound && !rc; k++)
        rc = migbuf__number(bound[k].x, bound[k].least, bound[k].most);
    if (to->ram_bytes <= 0)
        to->ram_bytes = to->left_bytes;
    if (to->exact_bytes <= 0)
        to->exact_bytes = to->left_bytes;
    return rc;
}

static double least_ms(const struct migbuf_convergence *c, double throttle_percent)
{
    double rho = c->rate_bytes_per_s * (1 - throttle_percent / 100) * c->encoding / c->link_bytes_per_s;

    if (rho <= 1)
        return c->fix_ms;
    return c->set_bytes * c->encoding * stationary(rho) / c->link_bytes_per_s * 1000 + c->fix_ms;
}

int migbuf_convergence_least(const struct migbuf_convergence *c, double *ms)
{
    struct migbuf_convergence x;
    int rc = ms ? take(&x, c) : MIGBUF_E_INVALID;

    if (!rc)
        *ms = least_ms(&x, x.throttle_percent);
    return rc;
}

/* stop_ms is without fix. */
static uint32_t throttle_for(const struct migbuf_convergence *c, double stop_ms)
{
    double f = 0, rho = 1, touched = c->rate_bytes_per_s * c->encoding, percent;

    if (!isinf(c->set_bytes))
        f = c->set_bytes > 0 ? stop_ms / 1000 * c->link_bytes_per_s / (c->set_bytes * c->encoding) : 1;
    if (f >= 1 || touched <= 0)
        return 0;
    if (f > 0)
        rho = -log1p(-f) / f;
    percent = ceil(100 * (1 - rho * c->link_bytes_per_s / touched) - 1e-9);
    return percent > PERCENT_MOST ? 101 : percent > 0 ? (uint32_t)percent : 0;
}

int migbuf_convergence_throttle(const struct migbuf_convergence *c, double most_ms, uint32_t *percent)
{
    struct migbuf_convergence x;
    int rc = percent ? take(&x, c) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__number(most_ms, 0, MIGBUF_RAM_LIMIT_MOST_MS + x.fix_ms);
    if (!rc)
        *percent = throttle_for(&x, migbuf__most(most_ms - x.fix_ms, 0));
    return rc;
}

static double finish(const struct migbuf_convergence *c, double limit_ms, double *downtime_ms)
{
    double link = c->link_bytes_per_s, e = c->encoding, fit = limit_ms / 1000 * link, fix_s = c->fix_ms / 1000;
    double rate = c->rate_bytes_per_s * (1 - c->throttle_percent / 100), left = c->left_bytes, t = 0;

    for (int k = 0; k < 200; k++) {
        double to_send = left * e, dt, again, next;

        if (to_send <= fit) {
            *downtime_ms = to_send / link * 1000 + c->fix_ms;
            return t + to_send / link + fix_s;
        }
        dt = (to_send - fit) / link;
        again = dirtied(c->set_bytes, rate, dt);
        next = fit / e + again;
        if (!isinf(c->set_bytes) && c->set_bytes > 0)
            next -= fit / e * again / c->set_bytes; /* written, but not sent yet anyhow */
        t += dt;
        if (next * e <= 1.02 * fit) {
            *downtime_ms = limit_ms + c->fix_ms;
            return t + fit / link + fix_s;
        }
        if (next >= 0.999 * left && rate * e >= link)
            break;
        left = next;
    }
    *downtime_ms = INFINITY;
    return INFINITY;
}

int migbuf_convergence_finish(const struct migbuf_convergence *c, double limit_ms, double *seconds, double *downtime_ms)
{
    struct migbuf_convergence x;
    int rc = seconds && downtime_ms ? take(&x, c) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__number(limit_ms, 0, MIGBUF_RAM_LIMIT_MOST_MS);
    if (!rc)
        *seconds = finish(&x, limit_ms, downtime_ms);
    return rc;
}

/* What was agreed */

static const struct migbuf_agreement usual = { .want_ms = 100, .most_ms = 500, .throttle_most_percent = 80 };

int migbuf_agreement_init(struct migbuf_agreement *a, uint64_t size)
{
    return migbuf__struct_init(a, size, &usual, sizeof usual, MIGBUF__FIRST(struct migbuf_agreement, reserved));
}

static int take_agreement(struct migbuf_agreement *to, const struct migbuf_agreement *a)
{
    int rc = a ? 0 : MIGBUF_E_INVALID;

    *to = usual;
    if (!rc)
        rc = migbuf__struct_take(to, sizeof *to, a, MIGBUF__FIRST(struct migbuf_agreement, reserved));
    if (rc)
        return rc;
    if (!to->want_ms || to->most_ms > MIGBUF_RAM_LIMIT_MOST_MS || to->throttle_most_percent > PERCENT_MOST)
        return MIGBUF_E_RANGE;
    if (to->want_ms > to->most_ms || to->postcopy > 1 || to->force > 1)
        return MIGBUF_E_INVALID;
    return to->reserved ? MIGBUF_E_STRUCT : 0;
}

int migbuf_agreement_check(const struct migbuf_agreement *a)
{
    struct migbuf_agreement x;

    return take_agreement(&x, a);
}

static double deadline_s(const struct migbuf_convergence *c, const struct migbuf_agreement *a)
{
    if (a->deadline_ms)
        return (double)a->deadline_ms / 1000;
    return migbuf__most(60, 6 * c->ram_bytes / c->link_bytes_per_s);
}

/* Deciding */

static int in_time(const struct migbuf_convergence *c, double limit_ms, double deadline)
{
    double downtime_ms;

    return c->elapsed_s + finish(c, limit_ms, &downtime_ms) <= deadline;
}

/* The lowest limit that is worth setting and keeps the deadline; 0: none does. */
static uint32_t higher_limit(const struct migbuf_convergence *c, const struct migbuf_agreement *a, double deadline)
{
    double try_ms[2] = { ceil(1.15 * (least_ms(c, c->throttle_percent) - c->fix_ms)), a->most_ms };

    try_ms[0] = migbuf__most(try_ms[0], a->want_ms);
    for (int k = 0; k < 2; k++)
        if (1.05 * c->limit_ms < try_ms[k] && try_ms[k] <= a->most_ms && in_time(c, try_ms[k], deadline))
            return (uint32_t)try_ms[k];
    return 0;
}

static int throttle_helps(const struct migbuf_convergence *c, const struct migbuf_agreement *a)
{
    return !c->known || throttle_for(c, 0.85 * a->most_ms) + 3 <= a->throttle_most_percent;
}

/* Rules 6 to 9: it does not converge by what is in force, and nothing that slows or stops the guest a little will do. */
static int32_t last_means(const struct migbuf_convergence *c, const struct migbuf_agreement *a, uint32_t bad,
                          double deadline)
{
    double stop_s = c->encoding * c->exact_bytes / c->link_bytes_per_s + c->fix_ms / 1000;
    int late = c->elapsed_s > deadline;

    if (a->postcopy && (bad >= BAD_POSTCOPY || late))
        return MIGBUF_RAM_POSTCOPY;
    if (a->force && (bad >= BAD_FORCE || c->elapsed_s + 1.2 * stop_s > deadline))
        return MIGBUF_RAM_FORCE;
    if ((late || (bad >= BAD_ABORT && !a->force)) && c->rounds >= 2)
        return MIGBUF_RAM_ABORT;
    return MIGBUF_RAM_WAIT;
}

static void decide(const struct migbuf_convergence *c, const struct migbuf_agreement *a, struct migbuf_ram_decision *d)
{
    double deadline = deadline_s(c, a);
    int late = c->elapsed_s > deadline;
    uint32_t limit;

    *d = (struct migbuf_ram_decision){ .action = MIGBUF_RAM_WAIT,
                                       .reason = late ? MIGBUF_RAM_REASON_LATE : MIGBUF_RAM_REASON_UNKNOWN,
                                       .limit_ms = (uint32_t)c->limit_ms,
                                       .throttle_percent = (uint32_t)c->asked_percent,
                                       .bad_rounds = c->bad_rounds };
    if (!c->rounds || (!c->new_round && !late))
        return;
    if (in_time(c, c->limit_ms, deadline)) {
        d->action = MIGBUF_RAM_KEEP;
        d->reason = MIGBUF_RAM_REASON_IN_TIME;
        d->bad_rounds = 0;
        return;
    }
    limit = late ? 0 : higher_limit(c, a, deadline);
    if (limit) {
        d->action = MIGBUF_RAM_DOWNTIME;
        d->reason = MIGBUF_RAM_REASON_LIMIT;
        d->limit_ms = limit;
        d->bad_rounds = 0;
        return;
    }
    if (!late && a->throttle_most_percent && c->asked_percent <= 0 && throttle_helps(c, a)) {
        d->action = MIGBUF_RAM_THROTTLE;
        d->reason = MIGBUF_RAM_REASON_THROTTLE;
        d->throttle_percent = a->throttle_most_percent;
        d->limit_ms = a->most_ms;
        d->bad_rounds = 0;
        return;
    }
    if (a->throttle_most_percent && c->throttle_percent < c->asked_percent && !late) {
        d->reason = MIGBUF_RAM_REASON_THROTTLE;
        return;
    }
    d->bad_rounds += c->new_round != 0;
    d->limit_ms = d->limit_ms > a->most_ms ? d->limit_ms : a->most_ms;
    d->reason = late ? MIGBUF_RAM_REASON_LATE : MIGBUF_RAM_REASON_SATURATED;
    d->action = last_means(c, a, d->bad_rounds, deadline);
    if (d->action == MIGBUF_RAM_FORCE)
        d->limit_ms = MIGBUF_RAM_LIMIT_MOST_MS;
}

int migbuf_convergence_decide(const struct migbuf_convergence *c, const struct migbuf_agreement *a,
                              struct migbuf_ram_decision *d)
{
    struct migbuf_convergence x;
    struct migbuf_agreement y;
    int rc = d ? take(&x, c) : MIGBUF_E_INVALID;

    if (!rc)
        rc = take_agreement(&y, a);
    if (!rc)
        decide(&x, &y, d);
    return rc;
}

const char *migbuf_ram_action_text(int32_t action)
{
    static const char *const text[] = { "unknown", "keep", "raise the downtime", "throttle", "wait", "post-copy", "force",
                                        "abort", "stop" };

    return text[action > 0 && action <= MIGBUF_RAM_STOP ? action : 0];
}

const char *migbuf_ram_reason_text(int32_t reason)
{
    static const char *const text[] = { "unknown", "in time", "a longer stop will do", "a slower guest will do",
                                        "too few rounds yet", "it does not converge", "the deadline has passed" };

    return text[reason > 0 && reason <= MIGBUF_RAM_REASON_LATE ? reason : 0];
}

/* Telling */

int migbuf_convergence_forecast(const struct migbuf_convergence *c, const struct migbuf_agreement *a,
                                struct migbuf_ram_forecast *f)
{
    struct migbuf_ram_forecast o = { .verdict = MIGBUF_RAM_UNKNOWN };
    struct migbuf_convergence x;
    struct migbuf_agreement y;
    double to_go;
    int rc = f ? take(&x, c) : MIGBUF_E_INVALID;

    if (!rc)
        rc = take_agreement(&y, a);
    if (rc)
        return rc;
    to_go = finish(&x, x.limit_ms, &o.downtime_ms);
    o.deadline_s = deadline_s(&x, &y);
    o.end_s = x.elapsed_s + to_go;
    o.end_least_s = x.elapsed_s + 0.9 * to_go;
    o.end_most_s = x.elapsed_s + 1.3 * to_go;
    o.downtime_most_ms = y.most_ms + x.fix_ms;
    if (y.force)
        o.downtime_most_ms =
            migbuf__most(o.downtime_most_ms, x.encoding * x.exact_bytes / x.link_bytes_per_s * 1000 + x.fix_ms);
    o.sent_bytes = x.link_bytes_per_s * to_go;
    o.lost_s = x.throttle_percent > 0 ? x.throttle_percent * to_go / 100 + o.downtime_ms / 1000 : o.downtime_ms / 1000;
    if (o.end_s <= o.deadline_s)
        o.verdict = MIGBUF_RAM_YES;
    else if (x.known && least_ms(&x, migbuf__most(x.throttle_percent, y.throttle_most_percent)) - x.fix_ms >
                            1.05 * y.most_ms)
        o.verdict = MIGBUF_RAM_NO;
    return migbuf__struct_give(f, &o, sizeof o, MIGBUF__FIRST(struct migbuf_ram_forecast, lost_s));
}

/* x goes before y. */
static int goes_before(const struct migbuf_ram_turn *x, const struct migbuf_ram_turn *y)
{
    double a = x->held_bytes / x->seconds, b = y->held_bytes / y->seconds;

    if (!x->ready != !y->ready)
        return x->ready != 0;
    return a > b || (!(a < b) && x->id < y->id);
}

int migbuf_convergence_order(const struct migbuf_ram_turn *turns, size_t n, uint32_t *order)
{
    int ready = 0;

    if ((n && (!turns || !order)) || n > INT32_MAX)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < n; i++) {
        int rc = migbuf__finite(turns[i].held_bytes);

        if (!rc)
            rc = migbuf__positive(turns[i].seconds);
        if (rc)
            return rc;
        ready += turns[i].ready != 0;
    }
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (size_t gap = n / 2; gap; gap /= 2) /* Shell's sort: no memory, and short */
        for (size_t i = gap; i < n; i++) {
            uint32_t moved = order[i];
            size_t k = i;

            for (; k >= gap && goes_before(&turns[moved], &turns[order[k - gap]]); k -= gap)
                order[k] = order[k - gap];
            order[k] = moved;
        }
    return ready;
}
