/* SPDX-License-Identifier: MIT */
/* policy_paper: budgets by the paper: its curve over the bins, a share of the link, nobody above its lenders. And the paper
 * as printed (literal), for comparison. That all budgets fit is space.c's. Changes nothing but the budgets of this tick and
 * the steps they come from. */
#include "policy.h"
#include "claims.h"
#include "learn.h"
#include "space.h"
#include "throttle.h"
#include <math.h>

/* h, c, the hard cap and x. */
static void clamp_by_itself(const struct migbuf_buffer *b, struct entry *e, const struct migbuf_bins_view *v)
{
    double worst;

    e->share = migbuf__link_share(b, e);
    if (e->phase == MIGBUF_PHASE_MIRROR && e->share < INFINITY)
        e->share = 0.5 * migbuf__least(e->flow, e->share);
    e->curve = migbuf__throttle_rate(v->capacity_bytes, v->used_bytes, v->priority, &b->constants);
    /* What is let through may grow the file by A / ratio of what is expected. */
    worst = e->amplification / migbuf__ratio_of(e);
    e->hard_cap = migbuf__hard_cap(v->free_bytes, worst, b->late_interval_s, e->set_s, e->request / worst);
    e->clamped = e->curve;
    e->reason = MIGBUF_REASON_RATE;
    if (e->share < e->clamped) {
        e->clamped = e->share;
        e->reason = MIGBUF_REASON_SHARE;
    }
    if (e->hard_cap < e->clamped) {
        e->clamped = e->hard_cap;
        e->reason = MIGBUF_REASON_ROOM;
    }
}

static void clamp_by_lenders(const struct migbuf_buffer *b, struct entry *e, double below_lenders,
                           const struct migbuf_bins_view *v)
{
    double floor = migbuf__floor_of(b, e, migbuf__ratio_of(e));

    e->below_lenders = e->budget = below_lenders;
    if (below_lenders < e->clamped)
        e->reason = MIGBUF_REASON_LENDER;
    if (e->budget < floor) {
        e->budget = floor;
        e->reason = MIGBUF_REASON_FLOOR;
    }
    if (e->phase == MIGBUF_PHASE_BASE && v->shards == 1 && !v->prospective && migbuf__missing(e) <= v->free_bytes) {
        e->budget = INFINITY;
        e->reason = MIGBUF_REASON_WHOLE;
    }
}

void migbuf__paper_budgets(struct migbuf_buffer *b, const struct scratch *s)
{
    for (uint32_t i = 0; i < b->count; i++) {
        migbuf__learn_ratio(b, &b->entries[i]);
        clamp_by_itself(b, &b->entries[i], &s->views[i]);
        s->clamped[i] = b->entries[i].clamped;
    }
    migbuf__lenders(s->clamped, b->count, s->first, b->guest, s->order, s->slot, s->below_lenders);
    for (uint32_t i = 0; i < b->count; i++) {
        clamp_by_lenders(b, &b->entries[i], s->below_lenders[i], &s->views[i]);
        migbuf__space_count(b, s, i);
    }
}

void migbuf__literal_budgets(struct migbuf_buffer *b, const struct scratch *s)
{
    for (uint32_t i = 0; i < b->count; i++) {
        struct entry *e = &b->entries[i];

        e->reserve = migbuf__reserve_of(e, migbuf__most_of(e));
        e->share = migbuf__link_share(b, e);
        migbuf_throttle_literal((double)migbuf__bins_share(b->bins, i), (double)s->views[i].bytes, s->views[i].priority,
                                INFINITY, &b->constants, &e->curve);
        e->hard_cap = INFINITY;
        e->clamped = e->below_lenders = e->budget = fmin(e->curve, e->share);
        e->reason = e->curve <= e->share ? MIGBUF_REASON_RATE : MIGBUF_REASON_SHARE;
    }
}
