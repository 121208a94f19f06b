/* SPDX-License-Identifier: MIT */
/* policy_planner: budgets by the plan: growth against the time when each file will be deleted. Describes what runs to the
 * planner, and takes its rates as budgets. That all budgets fit is space.c's: what is promised does not hang on a forecast.
 *
 * The planner's rates are of unit bytes written; a budget of one unit lets `step` through. */
#include "policy.h"
#include "claims.h"
#include "forecast.h"
#include "learn.h"
#include "planner.h"
#include "space.h"
#include <math.h>

#define FIRST_PART 16      /* of what is free: most that a guest of which nothing is known gets until it is known */
#define FLOORS 3           /* links stay behind their plan, and nobody is to stand for that */
#define UNKNOWN_LINK 125e6 /* bytes/s: whoever cannot say better is planned as 1 Gbit/s */

/* U to plan with: its mean, before the first tick what was told, before that what most links are. */
static double planned_speed(const struct link *l)
{
    if (l->mean.mean > 0)
        return migbuf_link_mean(&l->mean);
    return l->bytes_per_s ? migbuf__most((double)l->bytes_per_s, MIGBUF_LINK_LEAST) : UNKNOWN_LINK;
}

static void describe_links(const struct migbuf_buffer *b, struct migbuf_planner_options *o,
                           struct migbuf_planner_link *links)
{
    migbuf_planner_options_init(o, sizeof *o);
    o->capacity_bytes = (double)migbuf__bins_capacity(b->bins);
    o->interval_s = b->options.interval_ms / 1000.0;
    o->floor = (double)b->options.floor_bytes_per_s;
    o->floors = FLOORS;
    for (uint32_t k = 0; k < b->links_count; k++)
        links[k] = (struct migbuf_planner_link){ .bytes_per_s = planned_speed(&b->links[k]) };
}

/* One that runs: itself, its flow on its link, and what is kept free for it. */
static void describe_guest(const struct entry *e, struct migbuf_planner_options *o, struct migbuf_planner_link *links,
                           struct migbuf_planner_guest *g)
{
    const struct migbuf_forecast *f = &e->observed.forecast;
    struct migbuf_planner_link *l = &links[e->link_at];

    g->id = e->id;
    g->link = e->link_at;
    g->draining = e->phase == MIGBUF_PHASE_MIRROR;
    g->place = e->plan.place;
    g->reserved = 0;
    g->weight = e->weight;
    g->file_bytes = migbuf__most_of(e);
    g->need_bytes = e->plan.need_bytes;
    g->growth_ratio = f->growth_ratio;
    g->rate = f->rate;
    g->peak = f->peak;
    g->left_bytes = 0;
    for (uint32_t k = 0; k < e->disk_count; k++)
        g->left_bytes += (double)e->measured[k].remaining_bytes;
    /* How much of what was written was a rewrite shows what was measured, not what may have been written since. */
    g->remaining = migbuf__remaining(f, (double)e->file_bytes, migbuf__missing(e));
    l->flow_bytes_per_s = migbuf__most(l->flow_bytes_per_s, e->flow);
    o->capacity_bytes = migbuf__most(o->capacity_bytes - migbuf__drains_within(e, migbuf__missing(e)), 0);
}

void migbuf__planner_describe(const struct migbuf_buffer *b, struct migbuf_planner_options *o,
                              struct migbuf_planner_link *links, struct migbuf_planner_guest *guests)
{
    describe_links(b, o, links);
    for (uint32_t i = 0; i < b->count; i++)
        describe_guest(&b->entries[i], o, links, &guests[i]);
}

/* A rate near to the limit in force leaves it in force: each set empties QEMU's bucket, and a plan corrects itself. No
 * throttle: what would fill all that is free is as good, and its claim has no need of metadata that cannot come. Of whom
 * nothing has been seen yet, or who has less than its demand and is let explore, a sixteenth must do: what it takes cannot be
 * taken back. */
static void clamp_by_plan(const struct migbuf_buffer *b, struct entry *e, double free_bytes, double band)
{
    double in_force = (double)(e->now.units * e->step), window_s = e->amplification * (b->late_interval_s + e->set_s);
    double free_rate = free_bytes / window_s, first = free_rate / FIRST_PART;
    double floor = migbuf__floor_of(b, e, 1);

    e->share = migbuf__link_share(b, e);
    e->curve = e->hard_cap = INFINITY;
    e->clamped = e->below_lenders = e->budget = e->plan.rate * (double)(e->step / e->unit);
    e->reason = isinf(e->plan.rate) ? MIGBUF_REASON_FREE : e->plan.cut ? MIGBUF_REASON_PLAN : MIGBUF_REASON_SHARE;
    if (e->budget < floor)
        e->budget = floor;
    if (fabs(e->budget - in_force) <= band * in_force)
        e->budget = in_force;
    if ((!e->observed.known || (e->plan.cut && isinf(e->plan.rate))) && e->budget > first) {
        e->budget = migbuf__most(first, floor);
        e->reason = MIGBUF_REASON_FIRST;
    }
    e->budget = migbuf__least(e->budget, migbuf__most(free_rate, (double)(migbuf__lowest_units(e) * e->step)));
}

void migbuf__planner_budgets(struct migbuf_buffer *b, const struct scratch *s)
{
    struct migbuf_planner_options o;
    double free_bytes = migbuf__most((double)migbuf__bins_capacity(b->bins) - (double)migbuf_bins_used(b->bins), 0);

    describe_links(b, &o, s->link);
    for (uint32_t i = 0; i < b->count; i++) {
        migbuf__learn_forecast(b, &b->entries[i]);
        describe_guest(&b->entries[i], &o, s->link, &s->guest[i]);
    }
    migbuf__planner_plan(&o, s->link, b->links_count, s->guest, b->count, s->slot, s->plan);
    for (uint32_t i = 0; i < b->count; i++) {
        b->entries[i].plan = s->plan[i];
        clamp_by_plan(b, &b->entries[i], free_bytes, b->options.hysteresis_percent / 100.0);
        migbuf__space_count(b, s, i);
    }
}
