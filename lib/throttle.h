/* SPDX-License-Identifier: MIT */
/* throttle, inside: without checks, for who has checked. */
#ifndef MIGBUF_LIB_THROTTLE_H
#define MIGBUF_LIB_THROTTLE_H
#include "migbuf/planner.h"
#include "migbuf/throttle.h"
#include "number.h"

/* migbuf_throttle_rate */
static inline double migbuf__throttle_rate(double capacity_bytes, double used_bytes, double priority,
                                           const struct migbuf_throttle_constants *c)
{
    if (!(capacity_bytes > used_bytes))
        return c->epsilon_bytes_per_s;
    return c->epsilon_bytes_per_s + capacity_bytes / c->tau_s *
           exp(-priority * used_bytes / (capacity_bytes - used_bytes + c->epsilon_bytes));
}

/* migbuf_throttle_hard_cap */
static inline double migbuf__hard_cap(double free_bytes, double amplification, double interval_s, double burst_s,
                                      double request_bytes)
{
    return migbuf__most((free_bytes / amplification - request_bytes) / (interval_s + burst_s), 0);
}

/* migbuf_throttle_shave; scratch[n]. Where floor is not NULL, nobody is left with less than its own, which is no more than its
 * amount; together they are no more than the total. */
double migbuf__shave(const double *amount, const double *weight, const double *floor, size_t n, double total, size_t *scratch);

/* migbuf_throttle_lenders in O(n + edges); scratch[2 n] and slots[n]. */
void migbuf__lenders(const double *x, size_t n, const size_t *first, const size_t *borrower, size_t *scratch,
                     struct migbuf_planner_slot *slots, double *y);
#endif
