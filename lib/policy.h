/* SPDX-License-Identifier: MIT */
/* policy: where budgets come from. Each policy sets the budget of every migration for this tick, and the reason. What holds
 * whatever the policy is not here: I1 is space.c's, when to stop and to change decide.c's. */
#ifndef MIGBUF_LIB_POLICY_H
#define MIGBUF_LIB_POLICY_H
#include "claims.h"
#include "scratch.h"
#include <math.h>

void migbuf__literal_budgets(struct migbuf_buffer *b, const struct scratch *s); /* s: its views are filled */
void migbuf__paper_budgets(struct migbuf_buffer *b, const struct scratch *s);   /* the same */
void migbuf__planner_budgets(struct migbuf_buffer *b, const struct scratch *s);

/* All that run, as the planner wants them: `links` and `guests` hold as many as the buffer has. */
void migbuf__planner_describe(const struct migbuf_buffer *b, struct migbuf_planner_options *o,
                              struct migbuf_planner_link *links, struct migbuf_planner_guest *guests);

/* The agreed minimum, and never less than what the guest needs to run at all. */
static inline double migbuf__floor_of(const struct migbuf_buffer *b, const struct entry *e, double ratio)
{
    return migbuf__most((double)b->options.floor_bytes_per_s, (double)(migbuf__lowest_units(e) * e->step) * ratio);
}

static inline double migbuf__link_share(const struct migbuf_buffer *b, const struct entry *e)
{
    const struct link *l = &b->links[e->link_at];

    return l->bytes_per_s ? (double)l->bytes_per_s * e->weight / (double)l->weights : INFINITY;
}
#endif
