/* SPDX-License-Identifier: MIT */
/* buffer: the handle: its options, what a host tells it between two ticks, and what it may look at. Decides nothing: a tick
 * is tick.c's. What is told is only kept; where it asks for more room than there is, the answer says so. Knows no QMP. */
#include "buffer.h"
#include "claims.h"
#include "learn.h"
#include "memory.h"
#include "scratch.h"
#include "space.h"
#include <math.h>

#define OPTIONS_FIRST MIGBUF__FIRST(struct migbuf_buffer_options, tau_ms)
#define VIEW_FIRST MIGBUF__FIRST(struct migbuf_buffer_view, planned)
#define STATS_FIRST MIGBUF__FIRST(struct migbuf_buffer_stats, level)

static const struct migbuf_buffer_options default_options = {
    .policy = MIGBUF_POLICY_PLANNER,
    .interval_ms = 1000,
    .late_factor_percent = 200,
    .lag_ms = 100,
    .hysteresis_percent = 10,
    .min_pause_ms = 2000,
    .max_stall_ms = MIGBUF__DEFAULT_STALL_MS,
    .floor_bytes_per_s = 160000,
    .epsilon_bytes = 10000,
    .epsilon_bytes_per_s = 10000,
    .tau_ms = 1000,
};

int migbuf_buffer_options_init(struct migbuf_buffer_options *options, uint64_t size)
{
    return migbuf__struct_init(options, size, &default_options, sizeof *options, OPTIONS_FIRST);
}

int migbuf__buffer_check_options(const struct migbuf_buffer_options *o)
{
    if (o->policy < MIGBUF_POLICY_PAPER || o->policy > MIGBUF_POLICY_PLANNER || o->reserved)
        return MIGBUF_E_INVALID;
    if (o->interval_ms < 10 || o->interval_ms > 60000 || o->late_factor_percent < 100 ||
        o->late_factor_percent > 1000 || o->lag_ms > 60000 || o->hysteresis_percent > 50 || !o->epsilon_bytes ||
        o->epsilon_bytes > MIGBUF_BYTES_MAX || o->epsilon_bytes_per_s > MIGBUF_BYTES_MAX ||
        o->floor_bytes_per_s > MIGBUF_BYTES_MAX || !o->tau_ms || o->tau_ms > MIGBUF_BYTES_MAX)
        return MIGBUF_E_RANGE;
    return 0;
}

MIGBUF__SELDOM int migbuf_buffer_new(uint64_t capacity_bytes, const struct migbuf_buffer_options *options,
                                     const struct migbuf_allocator *allocator, struct migbuf_buffer **out)
{
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_buffer_options o = default_options;
    struct migbuf_buffer *b;
    int rc;

    if (!out)
        return MIGBUF_E_INVALID;
    rc = options ? migbuf__struct_take(&o, sizeof o, options, OPTIONS_FIRST) : 0;
    if (!rc)
        rc = migbuf__buffer_check_options(&o);
    if (rc)
        return rc;
    b = migbuf__resize(&a, NULL, 0, 1, sizeof *b);
    if (!b)
        return MIGBUF_E_NOMEM;
    *b = (struct migbuf_buffer){ .allocator = a, .options = o, .level = INFINITY };
    rc = migbuf_bins_new(capacity_bytes, allocator, &b->bins);
    if (rc) {
        migbuf__free(&a, b, sizeof *b);
        return rc;
    }
    migbuf_throttle_constants_init(&b->constants, sizeof b->constants);
    b->constants.tau_s = (double)o.tau_ms / 1000;
    b->constants.epsilon_bytes = (double)o.epsilon_bytes;
    b->constants.epsilon_bytes_per_s = (double)o.epsilon_bytes_per_s;
    b->late_interval_s = o.interval_ms / 1000.0 * (o.late_factor_percent / 100.0) + o.lag_ms / 1000.0;
    *out = b;
    return 0;
}

void migbuf_buffer_free(struct migbuf_buffer *b)
{
    struct migbuf_allocator a;

    if (!b)
        return;
    a = b->allocator;
    for (uint32_t i = 0; i < b->count; i++)
        migbuf__buffer_drop_disks(b, &b->entries[i]);
    migbuf_bins_free(b->bins);
    migbuf__free(&a, b->entries, b->allocated * sizeof *b->entries);
    migbuf__free(&a, b->links, b->links_allocated * sizeof *b->links);
    migbuf__free(&a, b->scratch, migbuf__scratch_bytes(b->allocated));
    migbuf__free(&a, b->guest, b->edges * sizeof *b->guest);
    migbuf__free(&a, b, sizeof *b);
}

/* Telling */

int migbuf_buffer_link(struct migbuf_buffer *b, uint64_t link, uint64_t bytes_per_s)
{
    struct link *l;

    if (!b)
        return MIGBUF_E_INVALID;
    if (!bytes_per_s || bytes_per_s > UINT64_C(1) << 53)
        return MIGBUF_E_RANGE;
    l = migbuf__buffer_link(b, link);
    if (!l)
        return MIGBUF_E_NOTFOUND;
    l->bytes_per_s = bytes_per_s;
    return 0;
}

int migbuf_buffer_phase(struct migbuf_buffer *b, uint64_t id, int32_t phase, uint32_t drains_ahead)
{
    struct entry *e;
    uint32_t i, had;

    if (!b || (phase != MIGBUF_PHASE_BASE && phase != MIGBUF_PHASE_MIRROR))
        return MIGBUF_E_INVALID;
    i = migbuf__buffer_find_to_change(b, id);
    if (i == MIGBUF__NONE)
        return MIGBUF_E_NOTFOUND;
    e = &b->entries[i];
    if (phase != e->phase) /* until the next sample tells: all of it */
        for (uint32_t k = 0; k < e->disk_count; k++)
            e->measured[k].remaining_bytes =
                phase == MIGBUF_PHASE_MIRROR ? e->measured[k].file_bytes : e->geometry[k].virtual_bytes;
    had = e->drains_ahead < e->drains_fit ? e->drains_ahead : e->drains_fit; /* none of the others may have begun */
    if (drains_ahead < had && !e->now.none && !migbuf__stands(e))
        e->drained = had - drains_ahead < UINT32_MAX - e->drained ? e->drained + had - drains_ahead : UINT32_MAX;
    e->phase = phase;
    e->drains_ahead = drains_ahead;
    if (drains_ahead > e->drains_fit && b->options.policy != MIGBUF_POLICY_LITERAL &&
        !migbuf__space_fits(b, (double)migbuf__bins_capacity(b->bins)))
        return 1;
    e->drains_fit = drains_ahead;
    return 0;
}

int migbuf_buffer_weight(struct migbuf_buffer *b, uint64_t id, uint32_t weight)
{
    struct link *l;
    uint32_t i;
    int rc;

    if (!b)
        return MIGBUF_E_INVALID;
    i = migbuf__buffer_find(b, id);
    if (i == MIGBUF__NONE)
        return MIGBUF_E_NOTFOUND;
    rc = migbuf__bins_weight(b->bins, i, weight);
    if (rc)
        return rc;
    l = &b->links[b->entries[i].link_at];
    l->weights = l->weights - b->entries[i].weight + weight;
    b->entries[i].weight = weight;
    return 0;
}

/* A counter that was known and is 0 is not known this time. The last one stays, and nothing is learnt until the next. */
static void count_writes(struct entry *e, struct measured *m, const struct migbuf_sample *s)
{
    uint64_t disk = UINT64_C(1) << s->disk;

    if ((m->writes && !s->writes) || (m->written_bytes && !s->written_bytes)) {
        e->observed.told &= ~disk;
        return;
    }
    e->writes += s->writes - m->writes;
    e->written_bytes += s->written_bytes - m->written_bytes;
    m->writes = s->writes;
    m->written_bytes = s->written_bytes;
    e->observed.told |= disk;
}

/* Samples mostly come in order of start: who follows is looked at before it is searched for. */
static uint32_t find_next(const struct migbuf_buffer *b, uint64_t id, uint32_t last)
{
    for (uint32_t i = last; i < b->count && i - last < 2; i++)
        if (b->entries[i].id == id)
            return i;
    return migbuf__bins_find(b->bins, id);
}

int migbuf_buffer_sample(struct migbuf_buffer *b, uint64_t now_ms, const struct migbuf_sample *samples, size_t count)
{
    uint32_t i = 0;

    if (!b || (count && !samples))
        return MIGBUF_E_INVALID;
    if (now_ms == MIGBUF__NEVER)
        return MIGBUF_E_RANGE;
    migbuf__buffer_settle(b);
    b->counted = 0;
    for (size_t k = 0; k < count; k++) {
        i = find_next(b, samples[k].id, i);
        if (i == MIGBUF__NONE || samples[k].disk >= b->entries[i].disk_count)
            return MIGBUF_E_NOTFOUND;
        if (samples[k].reserved)
            return MIGBUF_E_INVALID;
        if (samples[k].file_bytes > MIGBUF_BYTES_MAX / MIGBUF__MAX_DISKS)
            return MIGBUF_E_RANGE;
    }
    i = 0;
    for (size_t k = 0; k < count; k++) {
        const struct migbuf_sample *s = &samples[k];
        struct entry *e;
        struct measured *m;

        i = find_next(b, s->id, i);
        e = &b->entries[i];
        m = &e->measured[s->disk];
        m->at_ms = now_ms;
        e->file_bytes = e->file_bytes - m->file_bytes + s->file_bytes;
        m->file_bytes = s->file_bytes;
        if (s->remaining_bytes)
            m->remaining_bytes = s->remaining_bytes == MIGBUF_NONE ? 0 : s->remaining_bytes;
        count_writes(e, m, s);
        if (s->file_bytes) /* it is there, whatever the host was told to wait for */
            e->joining = e->now.none = e->before.none = 0;
    }
    return 0;
}

void migbuf__buffer_update_ledger(struct migbuf_buffer *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        migbuf__bins_tell(b->bins, i, b->entries[i].file_bytes);
}

MIGBUF__SELDOM int migbuf_buffer_resize(struct migbuf_buffer *b, uint64_t capacity_bytes, struct migbuf_error *error)
{
    double need = 0;
    int rc, smaller;

    if (!b)
        return migbuf__fail(error, MIGBUF_E_INVALID, "no buffer");
    migbuf__buffer_settle(b);
    b->counted = 0;
    for (uint32_t i = 0; i < b->count; i++)
        need += migbuf__most_of(&b->entries[i]) + migbuf__reserve_of(&b->entries[i], migbuf__most_of(&b->entries[i]));
    if (need > (double)capacity_bytes)
        return migbuf__fail_numbers(error, MIGBUF_E_IN_USE, "files and reserves for drains need more than that",
                                    (uint64_t)need, capacity_bytes);
    rc = capacity_bytes > MIGBUF_BYTES_MAX ? MIGBUF_E_RANGE : migbuf__bins_grow_all(b->bins, 2);
    if (rc)
        return migbuf__fail(error, rc, migbuf_strerror(rc));
    migbuf__buffer_update_ledger(b); /* sizes sampled since the last tick count: the ledger may still hold larger ones */
    smaller = capacity_bytes < migbuf__bins_capacity(b->bins);
    migbuf__bins_resize(b->bins, capacity_bytes);
    return smaller && b->options.policy != MIGBUF_POLICY_LITERAL && !migbuf__space_fits(b, (double)capacity_bytes);
}

/* Looking */

int migbuf_buffer_view(const struct migbuf_buffer *b, uint64_t id, struct migbuf_buffer_view *view)
{
    struct migbuf_buffer_view v = { 0 };
    const struct entry *e;
    uint32_t i;

    if (!b || !view)
        return MIGBUF_E_INVALID;
    i = migbuf__buffer_find(b, id);
    if (i == MIGBUF__NONE)
        return MIGBUF_E_NOTFOUND;
    e = &b->entries[i];
    v.curve = e->curve;
    v.share = e->share;
    v.hard_cap = e->hard_cap;
    v.clamped = e->clamped;
    v.below_lenders = e->below_lenders;
    v.budget = e->budget;
    v.in_force_bytes_per_s =
        e->now.limited ? e->now.units * (b->options.policy == MIGBUF_POLICY_LITERAL ? 1 : e->step) : MIGBUF_UNLIMITED;
    v.reserve_bytes = (uint64_t)e->reserve;
    v.claim_bytes = (uint64_t)e->claim;
    v.ratio = b->options.policy == MIGBUF_POLICY_PLANNER ? e->observed.forecast.growth_ratio : migbuf__ratio_of(e);
    v.finish_s = e->plan.finish_s;
    v.demand = e->plan.demand;
    v.cap = e->plan.cap;
    v.planned = e->plan.growth;
    v.link = e->link;
    v.phase = e->phase;
    v.paused = e->now.paused;
    v.reason = e->reason;
    return migbuf__struct_give(view, &v, sizeof v, VIEW_FIRST);
}

int migbuf_buffer_stats(const struct migbuf_buffer *b, struct migbuf_buffer_stats *stats)
{
    struct migbuf_buffer_stats s;

    if (!b || !stats)
        return MIGBUF_E_INVALID;
    migbuf__buffer_settle(b);
    s = (struct migbuf_buffer_stats){
        .capacity_bytes = migbuf__bins_capacity(b->bins),
        .used_bytes = migbuf_bins_used(b->bins),
        .reserve_bytes = (uint64_t)b->reserve,
        .pending_bytes = (uint64_t)b->pending,
        .grantable_bytes = (uint64_t)fmax(0, b->grantable),
        .reach_bytes = (uint64_t)fmin(migbuf__space_reach(b), 0x1p63),
        .unseen_bytes = (uint64_t)b->unseen,
        .excess_bytes = migbuf_bins_excess(b->bins),
        .migrations = b->count,
        .ticks = b->ticks,
        .late_ticks = b->late_ticks,
        .level = b->level,
    };
    return migbuf__struct_give(stats, &s, sizeof s, STATS_FIRST);
}

const struct migbuf_bins *migbuf_buffer_bins(const struct migbuf_buffer *b)
{
    return b ? b->bins : NULL;
}
