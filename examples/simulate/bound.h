/* SPDX-License-Identifier: MIT */
/*
 * What no policy could have beaten: an upper bound of the mean part of its writes that a VM gets through.
 *
 * The relaxation: starts and releases are as they were, the whole future is known, only Ω binds. Between two events
 * (a start or an end) VM j adds g(j,m) to its file, at most what its whole demand in that interval would add to an
 * empty overlay. Just before each event the files that are there must fit. A VM that lets its file grow to S of the
 * S_full it would have had gets at most S / S_full of its writes through: growth is concave in what is written, so
 * early writes cost most. That leaves a linear programme; any set of prices for the events' space bounds it from above
 * (weak duality), and a few hundred subgradient steps find good prices.
 */
#ifndef SIMULATE_BOUND_H
#define SIMULATE_BOUND_H
#include <stddef.h>
#include <stdint.h>

struct bound;

struct bound *bound_new(uint32_t vms, double omega);
void bound_free(struct bound *b);

/* The interval that ends now: what each VM's demand in it would add to an empty overlay (0: not there). -1: no memory.
 */
int bound_interval(struct bound *b, const double *most_growth);
/* 0 .. 1; full[j]: growth of VM j by all its demand, 0 where it never wrote or never ran. counted: VMs in the mean. */
double bound_value(struct bound *b, const double *full, uint32_t counted);
#endif
