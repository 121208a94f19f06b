/* SPDX-License-Identifier: MIT */
/* tick: the steps of one tick, in their order: what may have happened since the last one, the ledger, budgets by the
 * policy, decisions. Each step is another file's; none is taken here. Where a step can fail, nothing has been decided. */
#include "claims.h"
#include "decide.h"
#include "in_force.h"
#include "memory.h"
#include "policy.h"
#include "space.h"
#include "turns.h"
#include <math.h>

/* When the oldest of its measurements was made. Before the first tick nobody knows what time it is; and nothing has been
 * measured after the first tick that it is told to. */
static uint64_t measured_ms(const struct migbuf_buffer *b, struct entry *e, uint64_t now_ms)
{
    uint64_t oldest = now_ms;
    int known = 1;

    for (uint32_t k = 0; k < e->disk_count; k++) {
        uint64_t *at = &e->measured[k].at_ms;

        known &= *at != MIGBUF__NEVER;
        if (*at != MIGBUF__NEVER && (*at > now_ms || (b->ticks <= 1 && !*at)))
            *at = now_ms;
        oldest = *at < oldest ? *at : oldest;
    }
    return known ? oldest : MIGBUF__NEVER;
}

/* What it has grown by since it was measured: as much as all limits allowed that may have been in force since then. */
static void look_back(const struct migbuf_buffer *b, struct entry *e, uint64_t now_ms)
{
    uint64_t since_ms = measured_ms(b, e, now_ms);

    migbuf__in_force_forget(e, since_ms, now_ms);
    e->unseen = migbuf__unseen_of(e, since_ms, now_ms);
}

static int allocate_edges(struct migbuf_buffer *b)
{
    size_t edges = migbuf__bins_edges(b->bins);
    size_t *guest;

    if (edges <= b->edges)
        return 0;
    guest = migbuf__resize(&b->allocator, b->guest, b->edges, edges, sizeof *guest);
    if (!guest)
        return MIGBUF_E_NOMEM;
    b->guest = guest;
    b->edges = edges;
    return 0;
}

/* The level that all fit under; where that is too low for some, they take turns. */
static void fit(struct migbuf_buffer *b, const struct scratch *s)
{
    double kept_bytes, left_bytes;

    migbuf__space_free_for_growth(b, s);
    kept_bytes = migbuf__turns_bound(b, s);
    left_bytes = migbuf__space_claim(b, s);
    b->level = INFINITY;
    b->period_s = 0;
    if (!migbuf__space_holds(b, s, left_bytes, kept_bytes)) {
        kept_bytes = migbuf__turns_plan(b, s);
        migbuf__space_level(b, s, left_bytes, kept_bytes);
    }
    migbuf__turns_give(b, s, kept_bytes);
}

int migbuf_buffer_tick(struct migbuf_buffer *b, uint64_t now_ms, struct migbuf_decision *out, size_t capacity)
{
    struct scratch s;
    uint32_t n;
    int rc, is_short;

    if (!b)
        return MIGBUF_E_INVALID;
    migbuf__buffer_settle(b);
    n = b->count;
    if (n && !out)
        return MIGBUF_E_INVALID;
    if (capacity < n)
        return MIGBUF_E_RANGE;
    if (now_ms < b->now_ms)
        return MIGBUF_E_CLOCK;
    rc = migbuf__bins_grow_all(b->bins, 1);
    if (!rc)
        rc = allocate_edges(b);
    if (rc)
        return rc;

    b->counted = 0;
    if (b->ticks++ && (now_ms - b->now_ms) * 100 > (uint64_t)b->options.interval_ms * b->options.late_factor_percent)
        b->late_ticks++;
    for (uint32_t i = 0; i < n; i++) {
        if (b->options.policy == MIGBUF_POLICY_LITERAL) { /* lets everybody in, and keeps nothing free */
            b->entries[i].joining = b->entries[i].open = 0;
            b->entries[i].pours &= b->entries[i].unknown;
            b->entries[i].olders = b->entries[i].drained = 0;
        } else {
            look_back(b, &b->entries[i], now_ms);
        }
        migbuf__bins_tell(b->bins, i, b->entries[i].file_bytes);
    }
    b->now_ms = now_ms;
    migbuf__space_begin(b);
    b->level = INFINITY;
    if (!n)
        return 0;
    s = migbuf__scratch_of(b);
    for (uint32_t k = 0; k < b->links_count; k++)
        migbuf_link_update(&b->links[k].mean, b->now_ms, (double)b->links[k].bytes_per_s, 0);
    if (b->options.policy == MIGBUF_POLICY_PLANNER) {
        migbuf__planner_budgets(b, &s);
    } else {
        migbuf__bins_views(b->bins, s.views, s.looks_at, s.first, b->guest);
        if (b->options.policy == MIGBUF_POLICY_LITERAL)
            migbuf__literal_budgets(b, &s);
        else
            migbuf__paper_budgets(b, &s);
    }
    is_short = b->options.policy != MIGBUF_POLICY_LITERAL && migbuf__space_is_short(b);
    if (b->options.policy != MIGBUF_POLICY_LITERAL)
        fit(b, &s);
    for (uint32_t i = 0; i < n; i++) {
        if (b->entries[i].turn != TURN_NONE)
            migbuf__turn(b, &s, &b->entries[i], i);
        else if (b->options.policy != MIGBUF_POLICY_LITERAL)
            migbuf__space_clamp(b, &s, i);
        migbuf__decide(b, &b->entries[i], is_short, &out[i]);
        b->entries[i].found_sets = 0;
        b->entries[i].said = 1;
        if (!is_short && !b->entries[i].joining)
            b->entries[i].drains_fit = b->entries[i].drains_ahead;
    }
    return (int)n;
}
