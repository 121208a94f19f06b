/* SPDX-License-Identifier: MIT */
/* scratch: the memory of a tick. Nothing in it outlives the tick. */
#ifndef MIGBUF_LIB_SCRATCH_H
#define MIGBUF_LIB_SCRATCH_H
#include "claims.h"

/* What the last clamp needs of one migration. */
struct migbuf__growing {
    struct claim claim;
    double ratio, most, least;               /* of its limit: bytes/s of growth for one of units; the most and the least */
    double left_bytes, least_bytes;          /* what it may still claim, and must be able to */
    double fixed;                            /* of its claim at the level that was tried last */
    uint8_t joining;
};

/* Growth in bytes/s under the smallest limit. */
static inline double migbuf__least_growth(const struct migbuf__growing *g)
{
    return g->least * g->ratio;
}

/* One of each per migration where nothing else is said. */
struct scratch {
    struct migbuf_bins_view *views;
    double *clamped, *below_lenders; /* paper: what its lenders have to stay above, and what they leave */
    double *amount, *weight, *floor; /* what migbuf__shave takes */
    size_t *first, *order;           /* edges of the lenders: one more than there are migrations; twice as many */
    struct migbuf_planner_guest *guest;
    struct migbuf_planner_plan *plan;
    struct migbuf_planner_slot *slot; /* one per migration and one per link, of which there are no more */
    struct migbuf_planner_link *link;
    struct migbuf__growing *growing;
    uint32_t *looks_at;
};

size_t migbuf__scratch_bytes(size_t count);
struct scratch migbuf__scratch_of(const struct migbuf_buffer *b);
#endif
