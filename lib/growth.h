/* SPDX-License-Identifier: MIT */
/* growth, inside: a sample without checks, for who has checked. */
#ifndef MIGBUF_LIB_GROWTH_H
#define MIGBUF_LIB_GROWTH_H
#include "migbuf/growth.h"

/* What is left of the sums after such an interval. An exp(), and nearly all guests of a tick have the same interval. */
double migbuf__growth_keep(double interval_s);

/* migbuf_growth_sample; `keep` is that of the interval. */
void migbuf__growth_sample(struct migbuf_growth *g, uint64_t unit_bytes, double interval_s, double keep, uint64_t file_bytes,
                           uint64_t writes, uint64_t written_bytes, double units_per_s, double request_units);
#endif
