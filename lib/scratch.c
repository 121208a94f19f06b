/* SPDX-License-Identifier: MIT */
/* scratch: the memory of a tick, in one block that grows with the number of migrations, so that a tick itself allocates
 * nothing for them. Only laid out here: what stands in it is said in scratch.h and lives for one tick. */
#include "scratch.h"

size_t migbuf__scratch_bytes(size_t count)
{
    return count * (sizeof(struct migbuf_bins_view) + sizeof(struct migbuf__growing) + 5 * sizeof(double) + 3 * sizeof(size_t) + sizeof(uint32_t) +
                   sizeof(struct migbuf_planner_guest) + sizeof(struct migbuf_planner_plan) +
                   2 * sizeof(struct migbuf_planner_slot) + sizeof(struct migbuf_planner_link)) +
           sizeof(size_t);
}

struct scratch migbuf__scratch_of(const struct migbuf_buffer *b)
{
    struct scratch s;

    s.views = b->scratch;
    s.growing = (struct migbuf__growing *)(s.views + b->allocated);
    s.clamped = (double *)(s.growing + b->allocated);
    s.below_lenders = s.clamped + b->allocated;
    s.amount = s.below_lenders + b->allocated;
    s.weight = s.amount + b->allocated;
    s.floor = s.weight + b->allocated;
    s.first = (size_t *)(s.floor + b->allocated);
    s.order = s.first + b->allocated + 1;
    s.guest = (struct migbuf_planner_guest *)(s.order + 2 * (size_t)b->allocated);
    s.plan = (struct migbuf_planner_plan *)(s.guest + b->allocated);
    s.slot = (struct migbuf_planner_slot *)(s.plan + b->allocated);
    s.link = (struct migbuf_planner_link *)(s.slot + 2 * (size_t)b->allocated);
    s.looks_at = (uint32_t *)(s.link + b->allocated);
    return s;
}
